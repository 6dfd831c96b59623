"""Analysis: traces and files in, a profile out, a row group at a time."""

import glob
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Union

import numpy as np

from latprof.arrays import Mask
from latprof.errors import TraceError
from latprof.fold.sums import PEOPLE_EDGES_NS
from latprof.fold.tally import frames_in
from latprof.frames import MISSING, STAMP_LIMIT, Columns
from latprof.io.arguments import Moment, moment
from latprof.io.reader import Reader
from latprof.pipeline import Pipeline
from latprof.profile.build import check_by
from latprof.profile.profile import Profile, duration
from latprof.sequence.intended import Intended
from latprof.text import escape
from latprof.trace import Trace, check_alike, each_recording

__all__ = ["MOST_FOR_CAUSES", "analyze", "lowest_start", "trace_paths"]

MOST_FOR_CAUSES = 5_000_000
"""Up to so many frames causes are looked for without being asked for."""

Recording = Union[Trace, str, "os.PathLike[str]"]
Batch = tuple[dict[str, Any], Callable[[], Columns] | None]
"""What a recording says of itself, and what makes a row group of it (None: it ends)."""

_LARGE = 1 << 24  # bytes


def analyze(
    recordings: Recording | Iterable[Recording],
    *,
    by: str | None = None,
    pipeline: Pipeline | None = None,
    edges_ns: Iterable[int] = PEOPLE_EDGES_NS,
    every: str | int | None = None,
    deadline: str | int | None = None,
    skip: str | int | None = None,
    since: Moment | None = None,
    until: Moment | None = None,
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
        then measured from there, beside end_to_end (see `latprof.sequence.intended`).
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
    >>> mic = Pipeline.chain("mic", "decode", "play")
    >>> start = np.arange(3) * 20_000_000
    >>> marks = {"start": start, "decode": start, "play": start + 700, "end": start + 1000}
    >>> profile = analyze(Trace(mic, frame_id=[0, 1, 2], marks=marks))
    >>> profile.frames, profile["play"].mean, profile.bottleneck()
    (3, 300.0, 'decode')
    """
    parts: list[Trace | Path] = []
    for recording in each_recording(recordings):
        parts += [recording] if isinstance(recording, Trace) else trace_paths(recording)
    if not parts:
        raise TraceError("no recordings to analyze: give at least one trace or file")
    kind, rows = _inspect(parts, pipeline)
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
        causes = has_stations and rows <= MOST_FOR_CAUSES
    if causes:
        from latprof.queueing.windowed import Parts

        profile.parts = Parts(kind)
        parts = _in_time(parts, pipeline)
    span = _TimeRange(since, until)
    warm_up = duration(skip, "skip")
    if warm_up is not None:
        span.skip(warm_up, _first_start(parts, pipeline))

    done = 0
    _keep_memory()
    with profile.adding():
        for meta, make in _ahead(_batches(parts, pipeline, by)):
            if make is None:
                if profile.parts is not None:
                    profile.parts.end()
                profile.note(meta)
                continue
            columns = make()
            done += len(columns)
            columns = columns if should is None else should.add(columns)
            if profile.parts is not None:
                # frames outside of the range keep those in it waiting
                profile.parts.add(columns, meta, span.inside(columns))
            profile.add(span.within(columns), _rate(meta))
            if progress is not None:
                progress(done, rows)
    profile.segments = span.clipped(profile.segments)
    paths = [part.resolve() for part in parts if isinstance(part, Path)]
    if len(paths) > len(set(paths)):
        # maybe meant, but their frames count as often
        profile.accounts.notes["files given more than once"] = len(paths) - len(set(paths))
    if span.left_out:
        profile.accounts.notes["outside the time range"] = span.left_out
    profile.balance()
    return profile


class _TimeRange:
    """Frames that start from `first` until before `last` (UTC ns); counts those outside."""

    def __init__(self, since: Moment | None, until: Moment | None) -> None:
        self.first = -STAMP_LIMIT if since is None else moment(since, "since")
        self.last = STAMP_LIMIT if until is None else moment(until, "until")
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
        self.left_out += frames_in(~inside, columns.weight)
        return columns.take(inside)

    def clipped(self, segments: set[tuple[int, int]]) -> set[tuple[int, int]]:
        """Return what was recorded in the range: frames per second are those of that time."""
        if self.is_all:
            return segments
        cut = {(max(begin, self.first), min(end, self.last)) for begin, end in segments}
        return {(begin, end) for begin, end in cut if begin < end}


def _rate(meta: dict[str, Any]) -> float:
    return float(meta.get("sampling_rate") or 1.0)


def _first_start(parts: Sequence[Trace | Path], pipeline: Pipeline | None) -> int | None:
    """Return the first start of all, from a pass over that column alone."""
    lowest = STAMP_LIMIT
    for part in parts:
        if isinstance(part, Trace):
            lowest = min(lowest, lowest_start(part.columns))
            continue
        with Reader(part, pipeline) as reader:
            for columns in reader.batches(["start"]):
                lowest = min(lowest, lowest_start(columns))
    return None if lowest == STAMP_LIMIT else lowest


def _in_time(parts: list[Trace | Path], pipeline: Pipeline | None) -> list[Trace | Path]:
    """Return the recordings by the start of their first frames: who waited goes on with the next.

    A folder's files come in order of their names, in which 10 is before 2.
    """
    if len(parts) < 2:
        return parts

    def first(part: Trace | Path) -> int:
        if isinstance(part, Trace):
            return lowest_start(part.columns)
        with Reader(part, pipeline) as reader:
            for columns in reader.batches(["start"]):
                return lowest_start(columns)
        return STAMP_LIMIT

    return sorted(parts, key=first)


def lowest_start(columns: Columns) -> int:
    """Return the first start, UTC ns; without any what no stamp reaches."""
    starts = columns.marks["start"]
    return int(starts[starts != MISSING].min(initial=STAMP_LIMIT))


def _inspect(parts: Sequence[Trace | Path], pipeline: Pipeline | None) -> tuple[Pipeline, int]:
    """Return the pipeline that all parts are of, and how many rows they have."""
    kind, first, rows = None, "", 0
    for part in parts:
        if isinstance(part, Trace):
            own, count, name = part.pipeline, len(part), "the trace given"
        else:
            with Reader(part, pipeline) as reader:
                own, count, name = reader.pipeline, reader.rows, escape(str(part))
        if kind is None:
            kind, first = own, name
        else:
            check_alike((first, kind), (name, own), "analyze them apart")
        rows += count
    assert kind is not None
    return kind, rows


def trace_paths(where: str | os.PathLike[str]) -> list[Path]:
    """Return the files that a path, a folder or a glob means, sorted.

    Raises
    ------
    TraceError
        There is none.
    """
    path = Path(where)
    if path.is_dir():
        found = sorted(p for p in path.rglob("*.parquet") if p.is_file())
        if not found:
            raise TraceError(f"{escape(str(path))}: the folder has no *.parquet file in it")
        return found
    if path.exists():
        return [path]
    text = os.fspath(where)
    found = sorted(Path(p) for p in glob.glob(text, recursive=True)) if glob.has_magic(text) else []
    if not found:
        raise TraceError(f"{escape(text)}: no such file: give a trace, a folder or a glob")
    return found


def _batches(
    parts: Sequence[Trace | Path], pipeline: Pipeline | None, by: str | None
) -> Iterator[Batch]:
    for part in parts:
        if isinstance(part, Trace):
            yield part.meta, partial(getattr, part, "columns")
            yield part.meta, None
            continue
        # decoded by one thread beside the fold: more of them would get in its way
        with Reader(part, pipeline, threads=False) as reader:
            wanted = ["frame_id", *reader.pipeline.marks, "size", "source", "outcome", "weight"]
            if by is not None:
                check_by(by, reader.tags, str(part))
                wanted += [by] if by not in wanted else []
            for make in reader.decoded(wanted):
                yield reader.meta, make
            yield reader.meta, None


def _ahead(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Yield what `batches` does, the next one being decoded while this one is worked on.

    All but the decoding is for the thread that asks: two that both work in many short calls of
    numpy hand the interpreter to each other at each of them, which costs more than it saves.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="latprof-decode") as pool:
        coming = pool.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = pool.submit(next, batches, None)
            yield batch


def _keep_memory() -> None:
    """Have the C library keep the memory of work arrays, instead of the system clear it anew.

    glibc gives blocks from 128 kB on back to the system when they are freed, until it has seen a
    larger one go: mallopt(3), M_MMAP_THRESHOLD. An array that is never touched will do.
    """
    np.empty(_LARGE, np.uint8)
