"""The recordings that an analysis reads: traces in memory, files, folders, globs, or several.

A `Dataset` resolves and checks what a public function was given, and streams its frames in
batches. A file is open only while it is read, and pyarrow is loaded only if there is a file.
"""

import glob
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from latprof.arrays import Ints
from latprof.errors import TraceError
from latprof.frames import MISSING, Columns
from latprof.io.atomic import file_errors
from latprof.io.formats.columns import ColumnMap
from latprof.io.formats.foreign import ForeignFile, beside, read_pipeline_file
from latprof.io.formats.known import recognized
from latprof.pipeline import Pipeline, check_pipeline
from latprof.text import shown_path
from latprof.units import STAMP_LIMIT

if TYPE_CHECKING:
    from latprof.io.formats.rows import TableReader
    from latprof.io.reader import Decode, Reader

__all__ = [
    "Dataset",
    "DatasetLike",
    "Member",
    "RecordingLike",
    "TraceLike",
    "find_files",
    "lowest_start",
    "stream_of",
]

_BATCH_ROWS = 1 << 16  # rows of a batch that is cut from a trace in memory


class TraceLike(Protocol):
    """A trace in memory: `latprof.Trace`, which this module must not import."""

    pipeline: Pipeline
    columns: Columns
    meta: dict[str, Any]


RecordingLike = TraceLike | ForeignFile | str | os.PathLike[str]
Decoded = Callable[[], Columns] | None  # what makes a batch; None at the end of a recording

DatasetLike = RecordingLike | Iterable[RecordingLike]
"""What the functions that analyze frames accept."""


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """One trace or one file of a dataset.

    Attributes
    ----------
    name
        The path, or "recording 2" for the second argument, as messages show it.
    pipeline, meta, rows
        As the trace or the file gives them.
    tags
        Names of the columns that are tags.
    path
        Of the file, or None for a trace in memory.
    columns
        The frames, of a trace in memory and of a file that must be read as a whole.
    table
        Reads the frames of a table that another tool has written. Its rows are an estimate.
    row_groups
        How many row groups a Parquet file has.
    groups
        Those that are read; None is all.
    """

    name: str
    pipeline: Pipeline
    meta: dict[str, Any]
    rows: int
    tags: tuple[str, ...]
    path: Path | None
    columns: Columns | None
    table: "TableReader | None" = None
    row_groups: int = 0
    groups: range | None = None

    def read(self, names: Iterable[str] | None = None) -> Columns:
        """Return all frames: the marks, optional columns and tags in `names`, or all."""
        if self.columns is not None:
            return self.columns if names is None else self.columns.only(names)
        if self.table is not None:
            return self.table.read(names)
        with self._reader() as reader:
            return reader.read(names)

    def batches(self, names: Iterable[str] | None = None) -> Iterator[Columns]:
        """Yield the frames in batches; those of a trace in memory are one batch."""
        return (make() for make in self.decoded(names))

    def decoded(
        self, names: Iterable[str] | None = None, *, threads: bool = True
    ) -> Iterator[Callable[[], Columns]]:
        """Yield what makes each batch, once its bytes are decoded: see `Reader.decoded`."""
        if self.columns is not None:
            yield partial(self.read, names)
            return
        if self.table is not None:
            yield from self.table.decoded(names)
            return
        with self._reader(threads=threads) as reader:
            yield from reader.decoded(names)

    def tasks(self, names: Iterable[str] | None = None) -> "Iterator[tuple[Decode | None, int]]":
        """Yield tasks that decode a batch each, and how many may wait for their use at once.

        None comes at the end. No task may wait then: a file is closed when the next one is asked
        for, and a task that begins after that would wait forever.
        """
        if self.columns is not None:
            yield partial(partial, self.read, names), 1
            yield None, 1
            return
        if self.table is not None:
            for make in self.table.decoded(names):
                yield partial(_same, make), 1
            yield None, 1
            return
        with self._reader(threads=False) as reader:
            waiting = reader.prepare(names)
            yield from ((task, waiting) for task in reader.tasks(names, large=True))
            yield None, 0

    def lowest_start(self, *, first_batch: bool = False) -> int:
        """Return the first start in ns UTC, or `STAMP_LIMIT` if no frame has one.

        With `first_batch` only the first batch of a file is read.
        """
        lowest = STAMP_LIMIT
        for columns in self.batches(["start"]):
            lowest = min(lowest, lowest_start(columns))
            if first_batch:
                break
        return lowest

    def _reader(self, *, threads: bool = True) -> "Reader":
        from latprof.io.reader import Reader

        assert self.path is not None
        return Reader(self.path, self.pipeline, threads=threads, groups=self.groups)


class Dataset:
    """Traces and files of one pipeline, checked without reading their frames.

    Parameters
    ----------
    recordings
        A trace, a path, a folder (all ``*.parquet`` files in it and below), a glob, or several.
    pipeline
        What the marks mean, for files that do not contain it; for others, stations and the
        period may differ.
    stations
        Stations by stage, instead of those of the pipeline: see `Pipeline.with_stations`.
    queues
        Rooms of queues by hand-off, instead of those of the pipeline.
    unique
        Read a file that is given more than once only once.

    Attributes
    ----------
    pipeline
        Of all members.
    members
        The traces and files in the order given; the files of a folder or a glob by name.
    rows
        Number of rows of all members together.
    repeated
        How many files were given more than once.

    Raises
    ------
    TraceError
        No recording, a missing or corrupt file, recordings of different pipelines, or an
        argument that is neither a trace nor a path.
    PipelineError
        A stage in `stations` that the pipeline does not have, or a `pipeline` with other marks or
        spans than that of a trace.

    Examples
    --------
    >>> from latprof import Trace
    >>> mic = Pipeline("mic", ("start", "end"))
    >>> first = Trace(mic, frame_id=[0, 1], marks={"start": [0, 10], "end": [5, 15]})
    >>> second = Trace(mic, frame_id=[2], marks={"start": [7], "end": [9]})
    >>> dataset = Dataset([first, second])
    >>> dataset.rows, dataset.first_start()
    (3, 0)
    >>> [columns.frame_id.tolist() for columns in dataset.merged(["start"])]
    [[0, 2], [1]]
    """

    def __init__(
        self,
        recordings: DatasetLike,
        *,
        pipeline: Pipeline | None = None,
        stations: Mapping[str, str | None] | None = None,
        queues: Mapping[str, int | None] | None = None,
        unique: bool = False,
    ) -> None:
        if pipeline is not None:
            check_pipeline(pipeline, TraceError)
        self.members: list[Member] = []
        self.repeated = 0
        seen: set[Path] = set()
        for trace in _traces_and_files(recordings):
            if isinstance(trace, Path | ForeignFile):
                known = len(seen)
                seen.add(Path(trace.path if isinstance(trace, ForeignFile) else trace).resolve())
                self.repeated += len(seen) == known
                if unique and len(seen) == known:
                    continue
            self._add(trace, pipeline)
        if not self.members:
            raise TraceError("no recordings were given; pass at least one trace or file")
        self.pipeline = self.members[0].pipeline
        if stations is not None:
            self.pipeline = self.pipeline.with_stations(stations)
        if queues is not None:
            self.pipeline = self.pipeline.with_queues(queues)
        self.rows = sum(member.rows for member in self.members)

    def _add(self, trace: TraceLike | ForeignFile | Path, pipeline: Pipeline | None) -> None:
        if isinstance(trace, Path):
            recording = _inspected(trace, pipeline)
        elif isinstance(trace, ForeignFile):
            path, own = Path(trace.path), pipeline or trace.columns.pipeline
            recording = (
                _inspected(path, own) if trace.only_pipeline else _foreign(path, trace, pipeline)
            )
        else:
            kind, columns = trace.pipeline.overridden(pipeline), trace.columns
            name = f"recording {len(self.members) + 1}"
            rows, tags = len(columns), tuple(columns.tags)
            recording = Member(name, kind, trace.meta, rows, tags, None, columns)
        first = self.members[0] if self.members else recording
        if recording.pipeline != first.pipeline:
            raise TraceError(
                f"recordings must be of one pipeline: {recording.name} is of "
                f"{recording.pipeline.name!r} and {first.name} of {first.pipeline.name!r}, and "
                "their marks, spans, stations or periods differ; use them separately"
            )
        self.members.append(recording)

    @property
    def untimed(self) -> bool:
        """Whether frames have durations, but no times."""
        return any(member.meta.get("untimed") for member in self.members)

    def check_timed(self, what: str) -> None:
        """Refuse frames without times, for `what`.

        Raises
        ------
        TraceError
            Of some frames only durations are known.
        """
        if self.untimed:
            raise TraceError(
                f"{what} must be computed from frames with times, got durations without times; "
                "give the columns of the times (marks=, --marks)"
            )

    @property
    def paths(self) -> list[Path]:
        """The files, without the traces in memory."""
        return [each.path for each in self.members if each.path is not None]

    def first_start(self) -> int | None:
        """Return the first start of all frames in ns UTC, or None if no frame has one.

        Of files, the column `start` is read once.
        """
        lowest = min(member.lowest_start() for member in self.members)
        return None if lowest == STAMP_LIMIT else lowest

    def sort(self) -> None:
        """Sort the members by the first start in their first batch.

        The files of a folder are in order of name, in which "10" comes before "2".
        """
        if len(self.members) > 1:
            self.members.sort(key=lambda each: each.lowest_start(first_batch=True))

    def read(self, names: Iterable[str] | None = None) -> Columns:
        """Return all frames at once, one member after the other."""
        columns = [member.read(names) for member in self.members]
        return columns[0] if len(columns) == 1 else Columns.concat(columns)

    def stream(
        self,
        names: Iterable[str] | None = None,
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> Iterator[tuple[Member, Iterator[Columns]]]:
        """Yield each member and its batches: see `stream_of`."""
        return stream_of(self.members, names, progress=progress)

    def merged(
        self,
        names: Iterable[str] | None = None,
        *,
        slack: int | None = None,
        sort_files: bool = False,
    ) -> Iterator[Columns]:
        """Yield batches of all frames in order of time.

        Members that follow each other keep their order of rows. If members overlap in time, their
        rows are merged in order of start, and one batch of each is in memory.

        Parameters
        ----------
        names
            Marks, optional columns and tags to read, ``start`` among them; None reads all.
        slack
            Sort a member that is in memory by start if one of its rows is more than this many rows
            out of order; None never sorts.
        sort_files
            Load each file completely, so that `slack` applies to it as well.
        """
        wanted = None if names is None else tuple(names)

        def batches(member: Member) -> Iterator[Columns]:
            if member.columns is None and not sort_files:
                yield from member.batches(wanted)
            else:
                yield from _cut(member.read(wanted), slack)

        starts = [0]
        if len(self.members) > 1:
            starts = [member.lowest_start(first_batch=not sort_files) for member in self.members]
        yield from _merged(starts, map(batches, self.members))


def stream_of(
    members: Sequence[Member],
    names: Iterable[str] | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[Member, Iterator[Columns]]]:
    """Yield each member and its batches, which must be used up before the next member.

    Threads decode the next batches of a file while the caller works on the last one; the caller's
    thread does the rest. (Two threads that both make many short calls of numpy would hand the
    interpreter to each other at each call, which costs more than it saves.)

    Parameters
    ----------
    members
        Traces and files.
    names
        Marks, optional columns and tags to read; None reads all.
    progress
        Called with (rows read, rows in all) after the caller has worked on a batch.
    """
    wanted = None if names is None else tuple(names)
    rows = sum(member.rows for member in members)

    def tasks() -> "Iterator[tuple[Decode | None, int]]":
        for member in members:
            yield from member.tasks(wanted)

    has_files = any(member.path is not None for member in members)
    coming = _read_ahead(tasks()) if has_files else _done(tasks())
    done = 0

    def batches() -> Iterator[Columns]:
        nonlocal done
        while (make := next(coming)) is not None:
            columns = make()
            del make  # the decoded table, of which nothing may be needed any more
            done += len(columns)
            yield columns
            if progress is not None:
                progress(done, rows)

    for member in members:
        yield member, batches()


def lowest_start(columns: Columns) -> int:
    """Return the first start in ns UTC, or `STAMP_LIMIT` if no frame has one."""
    starts = columns.marks["start"]
    return int(starts[starts != MISSING].min(initial=STAMP_LIMIT))


def find_files(where: str | os.PathLike[str], *, every: bool = False) -> list[Path]:
    """Return the files that a path, a folder or a glob means, sorted by name.

    Parameters
    ----------
    where
        A path, a folder (all ``*.parquet`` files in it and below), or a glob.
    every
        Of a folder, return all files other than hidden ones and those named ``*.pipeline.json``.

    Raises
    ------
    TraceError
        There is none.
    """
    path, text = Path(where), os.fspath(where)
    with file_errors(where, "cannot be opened"):
        if path.is_dir():
            pattern = "*" if every else "*.parquet"
            found = sorted(
                each
                for each in path.rglob(pattern)
                if each.is_file() and not (every and _is_beside(each))
            )
            if not found:
                raise TraceError(f"the folder contains no {pattern} file; pass another one")
            return found
        if path.is_file():
            return [path]
        if path.exists():  # it can be read only once, and opening it may wait forever
            raise TraceError(
                "the path must be of a file, got a pipe or a device; save its data to a file first"
            )
        found = []
        if glob.has_magic(text):
            # glob takes a folder that it cannot open for an empty one: fail here instead if the
            # process may not open another file
            os.close(os.open(os.devnull, os.O_RDONLY))
            found = [Path(each) for each in glob.glob(text, recursive=True)]
        if not found:
            raise TraceError("file not found; pass a trace, a path, a folder or a glob")
        return sorted(found)


def _traces_and_files(recordings: DatasetLike) -> Iterator[TraceLike | ForeignFile | Path]:
    """Yield each trace in memory, and each file that a path, a folder or a glob means.

    Raises
    ------
    TraceError
        A path without files, or something that is neither a trace nor a path.
    """
    given: Any = recordings
    # iterating over a DataFrame would yield the names of its columns
    one = isinstance(given, str | os.PathLike | ForeignFile) or _is_trace(given) or _is_table(given)
    try:
        several = iter([given] if one or not isinstance(given, Iterable) else given)
    except TypeError:  # an array without dimensions
        several = iter([given])
    for recording in several:
        if _is_trace(recording):
            yield recording
        elif isinstance(recording, str | os.PathLike):
            yield from find_files(recording)
        elif isinstance(recording, ForeignFile):
            for path in find_files(recording.path, every=True):
                yield ForeignFile.of(path, recording.columns, recording.spans)
        else:
            remedy = (
                "latprof.Trace.from_pandas(table, pipeline) makes a trace of it"
                if _is_table(recording)
                else "pass one of these, or a list of them"
            )
            raise TraceError(
                f"a recording must be a Trace or a path, got {type(recording).__name__}; {remedy}"
            )


def _is_trace(value: object) -> bool:
    return isinstance(getattr(value, "columns", None), Columns) and isinstance(
        getattr(value, "pipeline", None), Pipeline
    )


def _is_table(value: object) -> bool:
    return type(value).__name__ == "DataFrame"


def _is_beside(path: Path) -> bool:
    return path.name.startswith(".") or path.name.endswith(".pipeline.json")


def _foreign(path: Path, given: ForeignFile, pipeline: Pipeline | None) -> Member:
    """Return a table of another tool, with the columns that were given for it."""
    columns = given.columns
    found = None if given.is_table else recognized(path)
    if found is not None:
        kind, frames, meta = found.frames(path, given.spans)
        kind = kind.overridden(pipeline)
        return Member(shown_path(path), kind, meta, len(frames), tuple(frames.tags), path, frames)
    if columns.pipeline is None and pipeline is not None and not columns.durations:
        columns = columns.updated(pipeline=pipeline)
    return _table(path, columns, pipeline, {})


def _table(
    path: Path, columns: ColumnMap, pipeline: Pipeline | None, meta: dict[str, Any]
) -> Member:
    from latprof.io.formats.rows import TableReader

    reader = TableReader(path, columns, meta=meta)
    kind = reader.pipeline.overridden(pipeline)
    return Member(shown_path(path), kind, meta, reader.rows, reader.tags, path, None, reader)


def _inspected(path: Path, pipeline: Pipeline | None) -> Member:
    from latprof.io.reader import Reader

    is_foreign = False
    with file_errors(path, "cannot be read"):
        if path.is_file():
            with path.open("rb") as file:
                is_foreign = file.read(4) not in (b"PAR1", b"PARE", b"LATP", b"")
    described = beside(path)
    if is_foreign and described.is_file():
        own, columns, meta = read_pipeline_file(described)
        return _table(path, columns or ColumnMap(pipeline=own), pipeline, meta)
    if is_foreign:
        return _foreign(path, ForeignFile(path), pipeline)

    with Reader(path, pipeline) as reader:
        name, kind = shown_path(path), reader.pipeline
        groups = reader.num_batches
        return Member(
            name, kind, reader.meta, reader.rows, reader.tags, path, None, row_groups=groups
        )


def _done(tasks: "Iterator[tuple[Decode | None, int]]") -> Iterator[Decoded]:
    return (_run(task) for task, _ in tasks)


def _read_ahead(tasks: "Iterator[tuple[Decode | None, int]]") -> Iterator[Decoded]:
    """Yield the results of tasks in their order, the next ones being decoded in threads."""
    from latprof.io.reader import DECODERS

    with ThreadPoolExecutor(DECODERS, thread_name_prefix="latprof-decode") as pool:
        coming: deque[Future[Decoded]] = deque()
        try:
            for task, waiting in tasks:
                try:
                    coming.append(pool.submit(_run, task))
                except RuntimeError:  # the system has no thread left
                    while coming:
                        yield coming.popleft().result()
                    yield _run(task)
                    yield from _done(tasks)
                    return
                while len(coming) > waiting:
                    yield coming.popleft().result()
            while coming:
                yield coming.popleft().result()
        finally:
            for future in coming:
                future.cancel()


def _same(make: Callable[[], Columns]) -> Callable[[], Columns]:
    return make


def _run(task: "Decode | None") -> Decoded:
    return None if task is None else task()


# -- order of time --------------------------------------------------------------------------------


def _cut(columns: Columns, slack: int | None) -> Iterator[Columns]:
    order = None if slack is None else _order(columns.marks["start"], slack)
    for start in range(0, len(columns), _BATCH_ROWS):
        cut = slice(start, start + _BATCH_ROWS)
        yield columns.take(cut if order is None else order[cut])


def _order(starts: Ints, slack: int) -> Ints | None:
    """Return the order of start, or None if no row is more than `slack` rows out of order."""
    if len(starts) <= slack:
        return None
    cuts = np.arange(0, len(starts), max(slack // 2, 1))
    latest = np.maximum.accumulate(np.maximum.reduceat(starts, cuts))
    first = np.minimum.reduceat(np.where(starts == MISSING, STAMP_LIMIT, starts), cuts)
    return np.argsort(starts, kind="stable") if (first[2:] < latest[:-2]).any() else None


@dataclass(slots=True)
class _Open:
    """A recording that is being read, with those rows of a batch that are not yielded yet."""

    batches: Iterator[Columns]
    rows: Columns
    last: int

    def advance(self) -> bool:
        """Take the next batch that has rows; return whether there is one."""
        for rows in self.batches:
            if len(rows):
                self.rows, self.last = rows, int(rows.marks["start"].max())
                return True
        return False


def _merged(starts: Iterable[int], recordings: Iterable[Iterator[Columns]]) -> Iterator[Columns]:
    """Yield the rows of recordings, given by their first start and their batches."""
    waiting = sorted(zip(starts, recordings, strict=True), key=lambda each: each[0])
    reading: list[_Open] = []
    while waiting or reading:
        # rows up to a time are complete once every recording with rows until then is open
        while waiting and (not reading or waiting[0][0] <= min(each.last for each in reading)):
            opened = _Open(waiting.pop(0)[1], Columns(np.zeros(0, np.uint64), {}), MISSING)
            reading += [opened] if opened.advance() else []
        if not reading:
            return
        if len(reading) == 1:
            yield reading[0].rows
            reading = [each for each in reading if each.advance()]
            continue
        limit = min(each.last for each in reading)
        taken = []
        for each in reading:
            now = each.rows.marks["start"] <= limit
            if now.any():
                taken.append(each.rows.take(now))
            each.rows = each.rows.take(~now)
        mixed = Columns.concat(taken)
        yield mixed.take(np.argsort(mixed.marks["start"], kind="stable"))
        reading = [each for each in reading if len(each.rows) or each.advance()]
