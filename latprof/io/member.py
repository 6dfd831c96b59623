"""One trace or file of a dataset: what it is, and tasks that decode its batches."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from latprof.errors import TraceError
from latprof.frames import MISSING, Columns
from latprof.io.atomic import file_errors
from latprof.io.formats.columns import ColumnMap
from latprof.io.formats.foreign import ForeignFile, beside, read_pipeline_file
from latprof.io.formats.known import recognized
from latprof.io.paths import identity, is_file, is_url, open_binary
from latprof.pipeline import Pipeline
from latprof.text import counted, shown_path
from latprof.units import STAMP_LIMIT

if TYPE_CHECKING:
    from latprof.io.formats.rows import TableReader
    from latprof.io.reader import Reader

__all__ = [
    "Member",
    "Task",
    "TraceLike",
    "Within",
    "cut_out",
    "foreign",
    "in_memory",
    "inspected",
    "lowest_start",
    "runs_of",
]

Task = Callable[[], Callable[[], Columns] | None]
"""Decodes a batch, and returns a function that makes its columns; None ends a recording."""

_KEPT = 1 << 18  # bytes; smaller footers are sent to workers, larger ones fetched by each


class TraceLike(Protocol):
    """A trace in memory: `latprof.Trace`, which this module must not import."""

    pipeline: Pipeline
    columns: Columns
    meta: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Within:
    """The rows of one recording in a file with several.

    Attributes
    ----------
    first, stop
        The first row, and the one after the last.
    row_group
        Rows of each row group of the file but the last.
    start
        First start in the first batch of the recording when it was a file of its own, ns UTC.
    """

    first: int
    stop: int
    row_group: int
    start: int

    @property
    def first_group(self) -> int:
        """The row group with the first row."""
        return self.first // self.row_group

    def groups_to(self, last: "Within") -> range:
        """Return the row groups from the first row here to the last row of a later recording."""
        return range(self.first_group, max(-(-last.stop // self.row_group), self.first_group + 1))


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
        Of the file (a URL is text), or None for a trace in memory.
    columns
        The frames of a trace in memory, or of a file that had to be read as a whole; else None.
    table
        Reader of a table that another tool has written, or None. `rows` is then an estimate.
    row_groups
        How many row groups a Parquet file has; 0 for other files.
    groups
        Row groups to read, or None for all.
    footer
        Footer of a Parquet file behind a URL, if it is small, so that it is fetched once.
    within
        The rows of this recording, or None if the file has no others.
    """

    name: str
    pipeline: Pipeline
    meta: dict[str, Any]
    rows: int
    tags: tuple[str, ...]
    path: Path | str | None
    columns: Columns | None
    table: "TableReader | None" = None
    row_groups: int = 0
    groups: range | None = None
    footer: Any = None
    within: Within | None = None

    @property
    def key(self) -> str:
        """Text that is equal for the same recording of the same file."""
        file = identity(self.path or "")
        return file if self.within is None else f"{file}, {self.name}"

    def read(self, names: Iterable[str] | None = None) -> Columns:
        """Return all frames: the marks, optional columns and tags in `names`, or all."""
        if self.columns is not None:
            return self.columns if names is None else self.columns.only(names)
        if self.table is not None:
            return self.table.read(names)
        with self._reader() as reader:
            if self.within is None:
                return reader.read(names)
            ((_, (columns,)),) = cut_out([self], reader.batches(names))
            return columns

    def batches(self, names: Iterable[str] | None = None) -> Iterator[Columns]:
        """Yield the frames in batches; those of a trace in memory are one batch."""
        if self.columns is not None or self.within is not None:
            yield self.read(names)
        elif self.table is not None:
            yield from self.table.batches(names)
        else:
            with self._reader() as reader:
                yield from reader.batches(names)

    def tasks(
        self, names: Iterable[str] | None = None, last: "Member | None" = None
    ) -> Iterator[tuple[Task, int]]:
        """Yield a task for each batch, and how many results may wait for their use at once.

        With `last`, a later recording of the same file, the batches go on to the end of `last`.

        The last task returns None. All tasks before it must have ended when the next item is asked
        for: the file is closed then, and a task that begins later would wait forever.
        """
        if self.columns is not None or self.table is not None:
            for columns in self.batches(names):
                yield partial(partial, _same, columns), 1
            yield _no_more, 0
            return
        with self._reader(threads=False, last=last) as reader:
            waiting = reader.prepare(names)
            yield from ((task, waiting) for task in reader.tasks(names, large=True))
            yield _no_more, 0

    def lowest_start(self, *, first_batch: bool = False) -> int:
        """Return the first start in ns UTC, or `STAMP_LIMIT` if no frame has one.

        With `first_batch` only the first batch of a file is read.
        """
        if first_batch and self.within is not None:
            return self.within.start
        lowest = STAMP_LIMIT
        for columns in self.batches(["start"]):
            lowest = min(lowest, lowest_start(columns))
            if first_batch:
                break
        return lowest

    def _reader(self, *, threads: bool = True, last: "Member | None" = None) -> "Reader":
        from latprof.io.reader import Reader

        assert self.path is not None
        groups = self.groups
        if self.within is not None:
            groups = self.within.groups_to((last and last.within) or self.within)
        return Reader(self.path, self.pipeline, threads=threads, groups=groups, footer=self.footer)


def lowest_start(columns: Columns) -> int:
    """Return the first start in ns UTC, or `STAMP_LIMIT` if no frame has one."""
    starts = columns.marks["start"]
    return int(starts[starts != MISSING].min(initial=STAMP_LIMIT))


def _same(columns: Columns) -> Columns:
    return columns


def _no_more() -> None:
    """Return None, as the task at the end of a recording."""


# -- files with several recordings ----------------------------------------------------------------


def runs_of(members: Sequence[Member]) -> Iterator[list[Member]]:
    """Yield lists of members: recordings that follow each other in one file, or one member.

    The file of such a list is then read once.
    """
    run: list[Member] = []
    for member in members:
        before = run[-1].within if run else None
        follows = (
            before is not None
            and member.within is not None
            and member.path == run[-1].path
            and member.within.first >= before.stop
        )
        if run and not follows:
            yield run
            run = []
        run.append(member)
    if run:
        yield run


def cut_out(
    run: Sequence[Member], batches: Iterator[Columns]
) -> Iterator[tuple[Member, Iterator[Columns]]]:
    """Yield the recordings of a file with their frames, which are cut out of its batches.

    Raises
    ------
    TraceError
        The file has fewer rows than it should.
    """
    assert run[0].within is not None
    held: list[Columns] = []
    begin = end = run[0].within.first_group * run[0].within.row_group  # rows that are held
    for member in run:
        within = member.within
        assert within is not None
        while not held or end < within.stop:
            batch = next(batches, None)
            if batch is None:
                raise TraceError(
                    f"{member.name}: the recording must have {counted(member.rows, 'row')}, got "
                    "fewer before the end of the file; take an intact copy"
                )
            held.append(batch)
            end += len(batch)
        while len(held) > 1 and begin + len(held[0]) <= within.first:
            begin += len(held.pop(0))
        pieces, first = [], begin
        for batch in held:
            rows = slice(max(within.first - first, 0), max(within.stop - first, 0))
            pieces.append(batch.take(rows))
            first += len(batch)
        yield member, iter([Columns.concat(pieces) if len(pieces) > 1 else pieces[0]])
    for _ in batches:  # batches that were decoded ahead, up to the end of the run
        pass


# -- traces and files -----------------------------------------------------------------------------


def in_memory(trace: TraceLike, pipeline: Pipeline | None) -> Member:
    """Return a trace in memory, without a name."""
    kind, columns = trace.pipeline.overridden(pipeline), trace.columns
    return Member("", kind, trace.meta, len(columns), tuple(columns.tags), None, columns)


def inspected(path: Path | str, pipeline: Pipeline | None) -> Member:
    """Return a trace file, or a file of another tool, as a member; a URL is text.

    The frames of Parquet files and tables are not read; those of other formats are.
    """
    from latprof.io.reader import Reader

    remote = is_url(path)
    with file_errors(path, "cannot be read"):
        # the first bytes behind a URL take a request, which the ending .parquet saves
        says_parquet = remote and shown_path(path).lower().endswith(".parquet")
        is_foreign = not says_parquet and _is_foreign(path)
    described = beside(path)
    if is_foreign and is_file(described):
        own, columns, meta = read_pipeline_file(described)
        return _table(path, columns or ColumnMap(pipeline=own), pipeline, meta)
    if is_foreign:
        return _of_format(path, ColumnMap(), (), pipeline)

    with Reader(path, pipeline) as reader:
        small = reader.footer.serialized_size < _KEPT
        return Member(
            shown_path(path),
            reader.pipeline,
            reader.meta,
            reader.rows,
            reader.tags,
            path,
            None,
            row_groups=reader.num_batches,
            footer=reader.footer if remote and small else None,
        )


def _is_foreign(path: Path | str) -> bool:
    """Return whether a file is neither Parquet nor a ring nor empty."""
    if isinstance(path, Path) and not path.is_file():
        return False
    with open_binary(path) as file:
        return file.read(4) not in (b"PAR1", b"PARE", b"LATP", b"")


def foreign(path: Path | str, given: ForeignFile, pipeline: Pipeline | None) -> Member:
    """Return a file that is described by what is given for it, or a trace file."""
    if given.only_pipeline:
        return inspected(path, pipeline or given.columns.pipeline)
    return _of_format(path, given.columns, given.spans, pipeline)


def _of_format(
    path: Path | str, columns: ColumnMap, spans: Sequence[str], pipeline: Pipeline | None
) -> Member:
    """Return a file of a known format, or else a table; what is given for a table makes it one."""
    is_table = columns.marks or columns.durations or columns.pipeline
    found = None if is_table else recognized(path)
    if found is not None:
        kind, frames, meta = found.frames(path, spans)
        tags = tuple(frames.tags)
        own = kind.overridden(pipeline)
        return Member(shown_path(path), own, meta, len(frames), tags, path, frames)
    if columns.pipeline is None and pipeline is not None and not columns.durations:
        columns = columns.updated(pipeline=pipeline)
    return _table(path, columns, pipeline, {})


def _table(
    path: Path | str, columns: ColumnMap, pipeline: Pipeline | None, meta: dict[str, Any]
) -> Member:
    from latprof.io.formats.rows import TableReader

    reader = TableReader(path, columns, meta=meta)
    kind = reader.pipeline.overridden(pipeline)
    return Member(shown_path(path), kind, meta, reader.rows, reader.tags, path, None, reader)
