"""Analysis: traces and files in, a profile out, a row group at a time."""

from collections.abc import Callable, Iterable

from latprof.arrays import Mask
from latprof.errors import ProfileError
from latprof.fold.sums import RANGE_EDGES_NS
from latprof.frames import Columns
from latprof.io.dataset import Dataset, DatasetLike
from latprof.pipeline import Pipeline
from latprof.profile.build import check_by, duration
from latprof.profile.profile import Profile
from latprof.profile.span import check_integer
from latprof.queueing.accumulator import CausesAccumulator
from latprof.sequence.order import Intended
from latprof.text import quoted
from latprof.units import STAMP_LIMIT, Time, parse_time

__all__ = ["MOST_FOR_CAUSES", "analyze"]

MOST_FOR_CAUSES = 5_000_000
"""Most frames of which causes are computed by default in a report."""


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
        ``"source"``, ``"outcome"`` or a tag: also make a profile of each of its values.
    pipeline
        The pipeline of files that do not contain one.
    edges_ns
        Upper edges of ranges of end_to_end that are counted exactly.
    every
        Width of the windows of time of `Profile.timeline`, for example ``"1s"``.
    deadline
        Count the frames that take longer, for example ``"20ms"``; by default the pipeline's
        period.
    skip
        Leave out the frames that start within this time of the first start, for example ``"5s"``.
    since, until
        Leave out frames that start before `since`, or at `until` or later, as in `Trace.select`.
        The notes of the accounts contain the number of frames left out.
    intended
        Compute when frames should have started, from the pipeline's period; ``response`` is
        measured from there, beside end_to_end (see `latprof.sequence.order.Intended`).
    order
        Also compute what depends on the order of frames: lost and late ids, jitter, period,
        frames in flight, consecutive missed deadlines.
    causes
        Also compute which frames waited for which: `Profile.causes`, ``bottleneck("cause")``.
        With None, do so if the pipeline has stations and there are at most 5 million frames.
    id_bits
        Number of bits after which ids start again at 0: 16 for RTP, 64 if they never do.
    progress
        Called with (rows folded, rows in total) after each batch.

    Returns
    -------
    Profile
        Sums, histograms and accounts of all frames; it can be merged with others.

    Raises
    ------
    TraceError
        A file does not exist or is not a trace, or traces are of different pipelines.
    ProfileError
        The column `by` does not exist or has too many values, or another argument is invalid.

    Examples
    --------
    >>> import numpy as np
    >>> from latprof import Pipeline, Trace, analyze
    >>> mic = Pipeline.chain("mic", "decode", "play")
    >>> start = np.arange(3) * 20_000_000
    >>> marks = {"start": start, "decode": start, "play": start + 700, "end": start + 1000}
    >>> profile = analyze(Trace(mic, frame_id=[0, 1, 2], marks=marks))
    >>> profile.frames, profile["play"].mean, profile.bottleneck()
    (3, 300.0, 'decode')
    """
    for name, flag in (("intended", intended), ("order", order), ("causes", causes)):
        if not isinstance(flag, bool) and not (flag is None and name == "causes"):
            raise ProfileError(f"{name} must be True or False, got {quoted(flag)}")
    check_integer("id_bits", id_bits, 8, 64)
    if progress is not None and not callable(progress):
        raise ProfileError(f"progress must be a function of two integers, got {quoted(progress)}")
    dataset = Dataset(recordings, pipeline=pipeline)
    if by is not None:
        for recording in dataset.members:
            check_by(by, recording.tags, recording.name if recording.path else "")
    if dataset.untimed:
        for name, given in (("every", every), ("skip", skip), ("since", since), ("until", until)):
            if given is not None:
                dataset.check_timed(name)
        if intended or causes:
            dataset.check_timed("causes" if causes else "intended")
        order, causes = False, False
    kind = dataset.pipeline
    starts = Intended(kind) if intended else None
    kind = kind if starts is None else starts.pipeline
    if deadline is None:
        deadline = kind.period
    profile = Profile(
        kind,
        by=by,
        edges_ns=edges_ns,
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
    time_range = _TimeRange(since, until)
    warm_up = duration(skip, "skip")
    if warm_up is not None:
        time_range.skip(warm_up, dataset.first_start())

    wanted = ["frame_id", *dataset.pipeline.marks, "size", "source", "outcome", "weight"]
    wanted += [by] if by is not None and by not in wanted else []
    with profile.adding():
        for recording, batches in dataset.stream(wanted, progress=progress):
            meta = recording.meta
            for columns in batches:
                columns = columns if starts is None else starts.add(columns)
                if profile.cause_sums is not None:
                    # frames in the range may wait for frames outside of it
                    profile.cause_sums.add(columns, meta, time_range.inside(columns))
                profile.add(time_range.within(columns), float(meta.get("sampling_rate") or 1))
            if profile.cause_sums is not None:
                profile.cause_sums.end()
            profile.note(meta)
    profile.segments = time_range.clipped(profile.segments)
    if dataset.repeated:
        # this may be intended, but their frames count more than once
        profile.accounts.notes["files given more than once"] = dataset.repeated
    if time_range.left_out:
        profile.accounts.notes["outside the time range"] = time_range.left_out
        profile.forget_recorded()
    profile.balance()
    return profile


class _TimeRange:
    """Selects frames that start at `first` or later and before `last` (UTC ns)."""

    def __init__(self, since: Time | None, until: Time | None) -> None:
        self.first = -STAMP_LIMIT if since is None else parse_time(since, name="since")
        self.last = STAMP_LIMIT if until is None else parse_time(until, name="until")
        self.left_out = 0

    @property
    def is_all(self) -> bool:
        return self.first <= -STAMP_LIMIT and self.last >= STAMP_LIMIT

    def skip(self, warm_up: int, start: int | None) -> None:
        """Begin `warm_up` ns after the first start of all frames, `start`."""
        if start is not None:
            self.first = max(self.first, start + warm_up)

    def inside(self, columns: Columns) -> Mask | None:
        """Return the mask of frames that start in the range, or None if all times are in it."""
        if self.is_all:
            return None
        starts = columns.marks["start"]
        return (starts >= self.first) & (starts < self.last)

    def within(self, columns: Columns) -> Columns:
        """Return the frames that start in the range, and count the others."""
        inside = self.inside(columns)
        if inside is None:
            return columns
        outside = ~inside if columns.weight is None else columns.weight[~inside]
        self.left_out += int(outside.sum())
        return columns.take(inside)

    def clipped(self, segments: set[tuple[int, int]]) -> set[tuple[int, int]]:
        """Return the parts of recording times (begin, end) that are in the range."""
        if self.is_all:
            return segments
        cut = {(max(begin, self.first), min(end, self.last)) for begin, end in segments}
        return {(begin, end) for begin, end in cut if begin < end}
