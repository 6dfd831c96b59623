"""Traces and files -> the frames that attribution looks at, or the reason why it cannot."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from latprof.arrays import Ints
from latprof.errors import TraceError
from latprof.frames import MISSING, STAMP_LIMIT, Columns
from latprof.io.dataset import DatasetLike, TraceLike, traces_and_files
from latprof.pipeline import Pipeline
from latprof.queueing.stations import places, with_stations
from latprof.queueing.streams import Stream, in_time
from latprof.queueing.visits import MOST_ODD
from latprof.queueing.windows import HELD, WINDOW, Walk
from latprof.text import counted

if TYPE_CHECKING:
    from latprof.io.reader import Reader

__all__ = ["Recordings", "Source", "frames_of", "source_of", "unavailable"]

Recordings = DatasetLike


def unavailable(meta: Mapping[str, Any], columns: Columns | None = None) -> str:
    """Return why who waited for whom cannot be told of a recording; empty: it can."""
    rate = float(meta.get("sampling_rate") or 1.0)
    if rate < 1:
        return f"sampling rate {rate:g}"
    lost = meta.get("lost") or 0
    for part in (meta.get("join") or {}).get("parts") or [meta]:
        lost = max(lost, part.get("lost") or 0)
        rate = float(part.get("sampling_rate") or 1.0)
        if rate < 1:
            return f"sampling rate {rate:g}"
        torn = (part.get("accounts") or {}).get("torn") or 0
        if torn:
            return f"{counted(torn, 'frame')} torn here"
    if lost:
        return f"{counted(lost, 'frame')} lost here"
    if columns is not None and columns.weight is not None and (columns.weight != 1).any():
        return "rows stand for several frames"
    return ""


@dataclass(frozen=True, slots=True)
class Source:
    """Recordings of one pipeline, to be read once or more; `rows` is how many frames they have."""

    pipeline: Pipeline
    rows: int
    what: str
    parts: tuple["_Recording", ...]

    def batches(self, *, whole: bool = False) -> Iterator[Columns]:
        """Yield the frames in order of time; with `whole` each recording is sorted first.

        Raises
        ------
        TraceError
            Rows that stand for several frames.
        """
        several = len(self.parts) > 1
        streams = [part.stream(self.what, whole=whole, several=several) for part in self.parts]
        yield from in_time(streams)

    def walks(
        self, *, hand_over: int | None, depth: int
    ) -> Iterator[tuple[Walk, Iterator[Columns]]]:
        """Yield a walk and what it goes through, until one has been right from its start.

        Nearly always that is the first. A second one is needed where later frames show that a
        station has another number of servers than was thought, or where more than 1 % of the rows
        are further out of order than a walk allows for: then recordings are in memory as a whole.
        """
        whole, servers = False, None
        while True:
            walk = Walk(self.pipeline, hand_over=hand_over, depth=depth, servers=servers)
            yield walk, self.batches(whole=whole)
            if not whole and walk.late > MOST_ODD * walk.rows:
                whole = True
            elif servers is None and walk.changed:
                servers = walk.servers
            else:
                return

    def frames(self) -> Columns:
        """Return all frames at once, in the order of the recordings."""
        read = [part.read(self.what) for part in self.parts]
        return read[0] if len(read) == 1 else Columns.concat(read)


@dataclass(frozen=True, slots=True)
class _Recording:
    """A trace in memory or a file."""

    pipeline: Pipeline
    trace: TraceLike | None
    path: Path | None

    def reader(self) -> "Reader":
        from latprof.io.reader import Reader  # it loads pyarrow

        assert self.path is not None
        return Reader(self.path, self.pipeline)

    def read(self, what: str) -> Columns:
        """Return the frames: the marks that attribution needs."""
        if self.trace is not None:
            return _needed(self.pipeline, self.trace.columns)
        with self.reader() as reader:
            columns = reader.read(self._wanted())
        _refuse(unavailable({}, columns), what)
        return _needed(self.pipeline, columns)

    def stream(self, what: str, *, whole: bool, several: bool) -> Stream:
        """Return batches of the frames; when the first one starts where there are `several`."""
        if self.trace is not None or whole:
            columns = self.read(what)
            return Stream(_first(columns) if several else 0, lambda: _cut(columns))
        first = 0
        if several:
            with self.reader() as reader:
                for batch in reader.batches(["start"]):
                    first = _first(batch)
                    break
        return Stream(first, lambda: self._from_file(what))

    def _from_file(self, what: str) -> Iterator[Columns]:
        with self.reader() as reader:
            for columns in reader.batches(self._wanted()):
                _refuse(unavailable({}, columns), what)
                yield _needed(self.pipeline, columns)

    def _wanted(self) -> list[str]:
        return ["frame_id", *places(self.pipeline).marks_read, "outcome", "weight"]


def source_of(
    recordings: Recordings,
    what: str,
    *,
    pipeline: Pipeline | None = None,
    stations: Mapping[str, str | None] | None = None,
) -> Source:
    """Return recordings, checked as far as that can be without reading their frames.

    Raises
    ------
    TraceError
        No recording there, traces of different pipelines, or sampled or lossy ones.
    """
    parts: list[_Recording] = []
    kind: Pipeline | None = None
    rows = 0
    for part, meta, count in _each(recordings, pipeline):
        if kind is not None and part.pipeline != kind:
            raise TraceError(
                f"recordings of pipelines {kind.name!r} and {part.pipeline.name!r}, whose marks, "
                f"spans, stations or periods differ: ask for {what} of each alone"
            )
        kind = part.pipeline
        _refuse(unavailable(meta, None if part.trace is None else part.trace.columns), what)
        parts.append(part)
        rows += count
    if kind is None:
        raise TraceError(f"no recordings for {what}: give at least one trace or file")
    if stations:
        kind = with_stations(kind, stations)
    return Source(kind, rows, what, tuple(parts))


def frames_of(
    recordings: Recordings,
    what: str,
    *,
    pipeline: Pipeline | None = None,
    stations: Mapping[str, str | None] | None = None,
) -> tuple[Pipeline, Columns]:
    """Return the pipeline and all frames of recordings: the marks that attribution needs.

    Raises
    ------
    TraceError
        No recording there, traces of different pipelines, or sampled or lossy ones.
    """
    source = source_of(recordings, what, pipeline=pipeline, stations=stations)
    return source.pipeline, source.frames()


def _refuse(why: str, what: str) -> None:
    if why:
        raise TraceError(
            f"{what} is not available: {why}; it needs every frame: record without sampling "
            "and with room for all"
        )


def _each(
    recordings: Recordings, pipeline: Pipeline | None
) -> Iterable[tuple[_Recording, dict[str, Any], int]]:
    for given in traces_and_files(recordings):
        if isinstance(given, Path):
            from latprof.io.reader import Reader  # it loads pyarrow

            with Reader(given, pipeline) as reader:
                yield _Recording(reader.pipeline, None, given), reader.meta, reader.rows
        else:
            part = _Recording(given.pipeline, given, None)
            yield part, given.meta, len(given.columns)


def _first(columns: Columns) -> int:
    starts = columns.marks["start"]
    return int(starts[starts != MISSING].min(initial=STAMP_LIMIT))


def _cut(columns: Columns) -> Iterator[Columns]:
    """Yield the frames of a trace in windows: as they are, or in order of start."""
    order = _order(columns.marks["start"])
    for start in range(0, len(columns), WINDOW):
        cut = slice(start, start + WINDOW)
        yield columns.take(cut if order is None else order[cut])


def _order(starts: Ints) -> Ints | None:
    """Return the order of start; None where no row is further out of it than a walk allows for."""
    size = HELD // 2
    if len(starts) <= HELD:
        return None
    cuts = np.arange(0, len(starts), size)
    latest = np.maximum.accumulate(np.maximum.reduceat(starts, cuts))
    first = np.minimum.reduceat(np.where(starts == MISSING, STAMP_LIMIT, starts), cuts)
    return np.argsort(starts, kind="stable") if (first[2:] < latest[:-2]).any() else None


def _needed(pipeline: Pipeline, columns: Columns) -> Columns:
    return Columns(
        columns.frame_id,
        {mark: columns.marks[mark] for mark in places(pipeline).marks_read},
        outcome=columns.outcome,
        complete=columns.complete,
    )
