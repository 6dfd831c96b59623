"""Analysis: traces and files in, a profile out, a row group at a time."""

from collections.abc import Callable, Iterable
from typing import Any

from latprof.arrays import Mask
from latprof.fold.sums import RANGE_EDGES_NS
from latprof.frames import STAMP_LIMIT, Columns
from latprof.io.dataset import Dataset, DatasetLike
from latprof.pipeline import Pipeline
from latprof.profile.build import check_by, duration
from latprof.profile.profile import Profile
from latprof.queueing.accumulator import CausesAccumulator
from latprof.sequence.intended_starts import Intended
from latprof.units import Time, parse_time

__all__ = ["MOST_FOR_CAUSES", "analyze"]

MOST_FOR_CAUSES = 5_000_000
"""Up to so many frames causes are looked for without being asked for."""


def analyze(
    recordings: DatasetLike,
    *,
    by: str | None = None,
    pipeline: Pipeline | None = None,
    edges_ns: Iterable[int] = RANGE_EDGES_NS,
    every: str | int | None = None,
    deadline: str | int | None = None,
    skip: str | int | None = None,
    since: Time | None = None,
    until: Time | None = None,
    intended: bool = False,
    order: bool = False,
    causes: bool | None = False,
    id_bits: int = 64,
    progress: Callable[[int, int], None] | None = None,
) -> Profile:
    """Fold traces and return their profile.

    Parameters
    ----------
    recordings
        A trace, a path, a folder (all ``*.parquet`` in it and below), a glob, or several of them.
    by
        ``"source"``, ``"outcome"`` or a tag: a profile for each of its values as well.
    pipeline
        What the marks mean, for files that do not say so themselves.
    edges_ns
        Upper edges of ranges of end_to_end to be counted exactly.
    every
        Width of the windows of time that `Profile.timeline` tells of, ``"1s"``.
    deadline
        Frames that take longer, ``"20ms"``, are counted; by default the pipeline's period.
    skip
        Leave out the frames that start in the first ``"5s"``, say, after the first start of all.
    since, until
        Leave out frames that start before `since`, or at `until` and later: as `Trace.select`
        takes them. How many were left out stands in the accounts' notes.
    intended
        Work out when frames should have started, from the pipeline's period: ``response`` is
        then measured from there, beside end_to_end (see `latprof.sequence.intended_starts`).
    order
        Also look at what depends on the order of frames: lost and late ids, jitter, period,
        frames in flight, runs of missed deadlines.
    causes
        Also look at who waited for whom: `Profile.causes`, ``bottleneck("cause")``. None: where
        the pipeline has stations, and there are at most 5 million frames.
    id_bits
        How many bits of an id count before it starts again: 16 for RTP's; 64: it never does.
    progress
        Called with (rows folded, rows in all) after each row group.

    Raises
    ------
    TraceError
        No file there, a file that is no trace, or traces of different pipelines.
    ProfileError
        No column `by`, or too many values in it; an edge or a time that is no duration.

    Examples
    --------
    >>> import numpy as np
    >>> from latprof import Trace
    >>> mic = Pipeline.chain("mic", "decode", "play")
    >>> start = np.arange(3) * 20_000_000
    >>> marks = {"start": start, "decode": start, "play": start + 700, "end": start + 1000}
    >>> profile = analyze(Trace(mic, frame_id=[0, 1, 2], marks=marks))
    >>> profile.frames, profile["play"].mean, profile.bottleneck()
    (3, 300.0, 'decode')
    """
    dataset = Dataset(recordings, pipeline=pipeline)
    if by is not None:
        for recording in dataset.recordings:
            check_by(by, recording.tags, recording.name if recording.path else "")
    kind = dataset.pipeline
    should = Intended(kind) if intended else None
    kind = kind if should is None else should.pipeline
    if deadline is None:
        deadline = kind.period
    profile = Profile(
        kind,
        by=by,
        edges_ns=tuple(edges_ns),
        every=every,
        deadline=deadline,
        order=order,
        id_bits=id_bits,
    )
    if causes is None:
        has_stations = any(stage.station is not None for stage in kind.stages)
        causes = has_stations and dataset.rows <= MOST_FOR_CAUSES
    if causes:
        profile.cause_sums = CausesAccumulator.of(kind)
        dataset.sort()  # frames may wait for frames of the recording before
    span = _TimeRange(since, until)
    warm_up = duration(skip, "skip")
    if warm_up is not None:
        span.skip(warm_up, dataset.first_start())

    wanted = ["frame_id", *dataset.pipeline.marks, "size", "source", "outcome", "weight"]
    wanted += [by] if by is not None and by not in wanted else []
    with profile.adding():
        for recording, batches in dataset.stream(wanted, progress=progress):
            meta = recording.meta
            for columns in batches:
                columns = columns if should is None else should.add(columns)
                if profile.cause_sums is not None:
                    # frames outside of the range keep those in it waiting
                    profile.cause_sums.add(columns, meta, span.inside(columns))
                profile.add(span.within(columns), _rate(meta))
            if profile.cause_sums is not None:
                profile.cause_sums.end()
            profile.note(meta)
    profile.segments = span.clipped(profile.segments)
    if dataset.repeated:
        # maybe intended, but their frames count more than once
        profile.accounts.notes["files given more than once"] = dataset.repeated
    if span.left_out:
        profile.accounts.notes["outside the time range"] = span.left_out
    profile.balance()
    return profile


class _TimeRange:
    """Frames that start from `first` until before `last` (UTC ns); counts those outside."""

    def __init__(self, since: Time | None, until: Time | None) -> None:
        self.first = -STAMP_LIMIT if since is None else parse_time(since, name="since")
        self.last = STAMP_LIMIT if until is None else parse_time(until, name="until")
        self.left_out = 0

    @property
    def is_all(self) -> bool:
        return self.first <= -STAMP_LIMIT and self.last >= STAMP_LIMIT

    def skip(self, warm_up: int, start: int | None) -> None:
        """Begin so many ns after the first start of all."""
        if start is not None:
            self.first = max(self.first, start + warm_up)

    def inside(self, columns: Columns) -> Mask | None:
        """Return which frames start in the range; None: all."""
        if self.is_all:
            return None
        starts = columns.marks["start"]
        return (starts >= self.first) & (starts < self.last)

    def within(self, columns: Columns) -> Columns:
        """Return the frames that start in the range."""
        inside = self.inside(columns)
        if inside is None:
            return columns
        outside = ~inside if columns.weight is None else columns.weight[~inside]
        self.left_out += int(outside.sum())
        return columns.take(inside)

    def clipped(self, segments: set[tuple[int, int]]) -> set[tuple[int, int]]:
        """Return what was recorded in the range: frames per second are those of that time."""
        if self.is_all:
            return segments
        cut = {(max(begin, self.first), min(end, self.last)) for begin, end in segments}
        return {(begin, end) for begin, end in cut if begin < end}


def _rate(meta: dict[str, Any]) -> float:
    return float(meta.get("sampling_rate") or 1.0)
