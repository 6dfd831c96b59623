"""One trace or file of a dataset: what it is, and tasks that decode its batches."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from latprof.frames import MISSING, Columns
from latprof.io.atomic import file_errors
from latprof.io.formats.columns import ColumnMap
from latprof.io.formats.foreign import ForeignFile, beside, read_pipeline_file
from latprof.io.formats.known import recognized
from latprof.io.paths import identity, is_file, is_url, open_binary
from latprof.pipeline import Pipeline
from latprof.text import shown_path
from latprof.units import STAMP_LIMIT

if TYPE_CHECKING:
    from latprof.io.formats.rows import TableReader
    from latprof.io.reader import Reader

__all__ = ["Member", "Task", "TraceLike", "Within", "foreign", "inspected", "lowest_start"]

Task = Callable[[], Callable[[], Columns] | None]
"""Decodes a batch, and returns what makes its columns, or None at the end of a recording."""

_KEPT = 1 << 18  # bytes of a footer that is sent to workers, rather than fetched by each


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
        First start in the first batch of the recording when it was a file, ns UTC.
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
        """Return the row groups with the rows up to those of a later recording."""
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
        The frames, of a trace in memory and of a file that must be read as a whole.
    table
        Reads the frames of a table that another tool has written. Its rows are an estimate.
    row_groups
        How many row groups a Parquet file has.
    groups
        Those that are read; None is all.
    footer
        That of a Parquet file behind a URL, if it is small, so that it is fetched once.
    within
        Which rows of the file it has, if the file has several recordings.
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
        if self.within is not None:
            return self._cut_out(names)
        with self._reader() as reader:
            return reader.read(names)

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
        """Yield tasks that decode a batch each, and how many may wait for their use at once.

        With a `last` recording of the same file the batches are those of all row groups up to it.

        A task that returns None comes at the end. No task may wait then: a file is closed when the
        next one is asked for, and a task that begins after that would wait forever.
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

    def _cut_out(self, names: Iterable[str] | None) -> Columns:
        """Return the rows of this recording."""
        assert self.within is not None
        with self._reader() as reader:
            parts = list(reader.batches(names))
        begin = self.within.first_group * self.within.row_group
        whole = Columns.concat(parts) if len(parts) > 1 else parts[0]
        return whole.take(slice(self.within.first - begin, self.within.stop - begin))

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


# -- files -----------------------------------------------------------------------------------------


def inspected(path: Path | str, pipeline: Pipeline | None) -> Member:
    """Return a trace file, or a file of another tool, without its frames; a URL is text."""
    from latprof.io.reader import Reader

    remote = is_url(path)
    is_foreign = False
    with file_errors(path, "cannot be read"):
        # of a name that says it, no request must be made
        if not remote or not _shown_name(path).endswith(".parquet"):
            is_foreign = _is_foreign(path)
    described = beside(path)
    if is_foreign and is_file(described):
        own, columns, meta = read_pipeline_file(described)
        return _table(path, columns or ColumnMap(pipeline=own), pipeline, meta)
    if is_foreign:
        return foreign(path, ForeignFile(path), pipeline)

    with Reader(path, pipeline) as reader:
        name, kind = shown_path(path), reader.pipeline
        groups = reader.num_batches
        return Member(
            name,
            kind,
            reader.meta,
            reader.rows,
            reader.tags,
            path,
            None,
            row_groups=groups,
            footer=reader.footer if remote and reader.footer.serialized_size < _KEPT else None,
        )


def _shown_name(path: Path | str) -> str:
    return shown_path(path).lower()


def _is_foreign(path: Path | str) -> bool:
    """Return whether a file is neither Parquet nor a ring nor empty."""
    if isinstance(path, Path) and not path.is_file():
        return False
    with open_binary(path) as file:
        return file.read(4) not in (b"PAR1", b"PARE", b"LATP", b"")


def foreign(path: Path | str, given: ForeignFile, pipeline: Pipeline | None) -> Member:
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
    path: Path | str, columns: ColumnMap, pipeline: Pipeline | None, meta: dict[str, Any]
) -> Member:
    from latprof.io.formats.rows import TableReader

    reader = TableReader(path, columns, meta=meta)
    kind = reader.pipeline.overridden(pipeline)
    return Member(shown_path(path), kind, meta, reader.rows, reader.tags, path, None, reader)
