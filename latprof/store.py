"""Trace files: written in row groups, read in row groups, refused in one line.

Format 1 is a Parquet file that other tools open as it is: `frame_id`, the marks as timestamps in
ns, UTC, null where missing, `size`, `source`, `outcome`, `cpu`, `rss`, `weight` and tags. What the
file says about itself is JSON under the metadata key ``latprof``; see `latprof.metadata`.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from latprof import arrow, metadata, seal
from latprof.columns import Columns
from latprof.errors import LatprofError, TraceError
from latprof.files import WholeFile
from latprof.pipeline import Pipeline
from latprof.plan import plan, to_columns
from latprof.units import escape

__all__ = ["ROW_GROUP", "Reader", "Writer", "write"]

ROW_GROUP = 1 << 18
"""Rows of a row group: as quick to write and read as 1 << 20, at 20 MB instead of 75 MB."""

StrPath = str | os.PathLike[str]


class Writer:
    """A trace file being written; it has its name only once it is closed, whole.

    Parameters
    ----------
    path
        Of the file; an old one is replaced when this one is closed.
    pipeline
        Of the frames.
    meta
        What the file says about itself. It may be changed until the file is closed: how many
        frames were lost is known only then.
    row_group
        Frames a row group. Fewer are buffered until there are as many.

    Raises
    ------
    TraceError
        The file cannot be written, `meta` cannot be kept, or a column appears only after the
        first row group was written.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> path = tempfile.mkdtemp() + "/mic.parquet"
    >>> ids, ns = np.arange(3, dtype=np.uint64), np.arange(3) * 20_000_000
    >>> mic = Pipeline("mic", ("start", "end"))
    >>> with Writer(path, mic, {"lost": 0}) as writer:
    ...     writer.write(Columns(ids, {"start": ns, "end": ns + 7}))
    >>> with Reader(path) as reader:
    ...     reader.rows, reader.meta, reader.read().marks["end"]
    (3, {'lost': 0}, array([       7, 20000007, 40000007]))
    """

    def __init__(
        self,
        path: StrPath,
        pipeline: Pipeline,
        meta: dict[str, Any] | None = None,
        *,
        row_group: int = ROW_GROUP,
    ) -> None:
        self.path = os.fspath(path)
        self.pipeline = pipeline
        self.meta = dict(meta or {})
        self.rows = 0
        self._row_group = row_group
        self._waiting: list[Columns] = []
        self._waiting_rows = 0
        self._parquet: pq.ParquetWriter | None = None
        with self._named():
            metadata.encode(pipeline, self.meta)  # refused now rather than after hours
            self._file = WholeFile(path)

    def write(self, columns: Columns) -> None:
        """Add frames. Their arrays are kept until the row group is full: leave them as they are."""
        self.rows += len(columns)
        with self._named():
            start = 0
            while self._waiting_rows + len(columns) - start >= self._row_group:
                stop = start + self._row_group - self._waiting_rows
                self._waiting.append(columns.take(slice(start, stop)))
                self._flush()
                start = stop
            # of an empty file, too, it is known which columns it has
            if start < len(columns) or not (self._waiting or self._parquet):
                self._waiting.append(columns.take(slice(start, None)))
                self._waiting_rows += len(columns) - start

    def _flush(self) -> None:
        part = self._waiting[0] if len(self._waiting) == 1 else Columns.concat(self._waiting)
        self._waiting, self._waiting_rows = [], 0
        missing = [mark for mark in self.pipeline.marks if mark not in part.marks]
        if missing:
            raise TraceError(f"mark {missing[0]!r} is absent from what is written: give all marks")
        part.marks = {mark: part.marks[mark] for mark in self.pipeline.marks}
        batch = arrow.record_batch(part)
        if self._parquet is None:
            self._parquet = self._opened(batch.schema, part)
        self._parquet.write_batch(_fitted(batch, self._parquet.schema), self._row_group)

    def _opened(self, schema: pa.Schema, part: Columns) -> pq.ParquetWriter:
        # differences of ids, stamps and sizes take few bits; all else has few different values
        delta = ["frame_id", *self.pipeline.marks, *(["size"] if part.size is not None else [])]
        return pq.ParquetWriter(
            self._file.file,
            schema,
            compression="none",
            use_dictionary=[name for name in schema.names if name not in delta],
            column_encoding=dict.fromkeys(delta, "DELTA_BINARY_PACKED"),
            write_page_checksum=True,
        )

    def close(self) -> None:
        """Write what is left and put the file in its place."""
        try:
            with self._named():
                if self._waiting or self._parquet is None:
                    if not self._waiting:
                        self._waiting = [_empty(self.pipeline)]
                    self._flush()
                assert self._parquet is not None
                text = metadata.encode(self.pipeline, self.meta)
                self._parquet.add_key_value_metadata({metadata.KEY: text})
                self._parquet.close()
                if self._file.file.readable():
                    seal.fill(self._file.file)
                self._file.commit()
        except BaseException:
            self.discard()
            raise

    @property
    def size(self) -> int:
        """How many bytes are written by now; row groups that are not full are not among them."""
        return self._file.file.tell()

    def forsake(self) -> None:
        """Let go of the file without a trace, in the child of a fork: it is the parent's."""
        self._waiting = []
        if self._parquet is not None:
            self._parquet.is_open = False
        self._file.forsake()

    def discard(self) -> None:
        """Give the file up; an old one stays."""
        self._waiting = []
        if self._parquet is not None:
            self._parquet.is_open = False  # or it writes a footer when it is collected
        self._file.discard()

    def _named(self) -> contextlib.AbstractContextManager[None]:
        return _named(self.path, "cannot be written")

    def __enter__(self) -> "Writer":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()


def write(
    path: StrPath, pipeline: Pipeline, columns: Columns, meta: dict[str, Any] | None = None
) -> None:
    """Write a trace file: whole, or not at all."""
    with Writer(path, pipeline, meta) as writer:
        writer.write(columns)


def _empty(pipeline: Pipeline) -> Columns:
    return Columns(np.empty(0, np.uint64), {m: np.empty(0, np.int64) for m in pipeline.marks})


def _fitted(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return the batch with the columns of the first one."""
    if batch.schema.equals(schema):
        return batch
    late = [name for name in batch.schema.names if name not in schema.names]
    if late:
        raise TraceError(
            f"column {late[0]!r} appears after the first row group was written: "
            "give it from the first frames on"
        )
    arrays = []
    for field in schema:
        if field.name not in batch.schema.names:
            arrays.append(pa.nulls(batch.num_rows, field.type))
            continue
        column = batch.column(field.name)
        if column.type != field.type:
            raise TraceError(
                f"column {field.name!r} is {column.type} after it was {field.type}: keep one type"
            )
        arrays.append(column)
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


@contextlib.contextmanager
def _named(path: str, what: str) -> Iterator[None]:
    """Let no error out that does not name the file in one line."""
    shown = escape(path)
    try:
        yield
    except LatprofError as error:
        text = str(error)
        if not text.startswith(shown):
            verb = text.partition(" ")[0] in ("is", "has", "lacks", "says", "does")
            text = f"{shown} {text}" if verb else f"{shown}: {text}"
        raise TraceError(text) from None
    except OSError as error:
        reason = error.strerror or _first_line(error)
        raise TraceError(f"{shown} {what}: {escape(reason)}") from None


def _first_line(error: BaseException) -> str:
    text = escape(str(error).partition("\n")[0].strip())
    return (text if len(text) <= 160 else text[:157] + "...") or type(error).__name__


class Reader:
    """A trace file, row group by row group.

    Parameters
    ----------
    path
        Of the file.
    pipeline
        What its columns mean, for a table that another tool has written or rewritten. Not
        needed for a file that latprof has written.
    threads
        Whether Arrow may decode columns in its threads.

    Attributes
    ----------
    pipeline, meta, rows, num_batches
        What the file is about; columns that cannot be kept are listed, with the reason, as
        ``meta["dropped_columns"]``.

    Raises
    ------
    TraceError
        No file, no Parquet, cut short, of a newer format, of another pipeline, with columns of
        a wrong type or metadata that cannot be true. Here, or when the rows are read.
    """

    def __init__(
        self, path: StrPath, pipeline: Pipeline | None = None, *, threads: bool = True
    ) -> None:
        self.path = os.fspath(path)
        self._threads = threads
        with self._named():
            self._file = _opened(self.path)
            try:
                self._begin(pipeline)
            except BaseException:
                self._file.close()
                raise

    def _begin(self, pipeline: Pipeline | None) -> None:
        parquet = pq.ParquetFile(self._file)
        raw = (parquet.metadata.metadata or {}).get(metadata.KEY)
        if raw is None:
            if pipeline is None:
                raise TraceError(
                    "does not say which pipeline it is of (other tools drop the metadata key "
                    "'latprof' when they rewrite a file): give pipeline=, or --pipeline"
                )
            self.pipeline = pipeline
            self.meta: dict[str, Any] = {}
        else:
            self.pipeline, self.meta = metadata.decode(raw)
            if pipeline is not None and pipeline != self.pipeline:
                raise TraceError(
                    f"is of pipeline {self.pipeline.name!r} with marks "
                    f"{', '.join(self.pipeline.marks)}, not of the pipeline= "
                    f"{pipeline.name!r} that was given: leave pipeline= out"
                )
        schema = parquet.schema_arrow
        self._plan = plan(schema, self.pipeline)
        if self._plan.dropped:
            self.meta["dropped_columns"] = self._plan.dropped
        if raw is not None:
            self._check_own_marks(schema)
        self._parquet = pq.ParquetFile(
            self._file,
            metadata=parquet.metadata,
            read_dictionary=list(self._plan.text),
            page_checksum_verification=True,
        )
        self.rows: int = parquet.metadata.num_rows
        self.num_batches: int = parquet.num_row_groups

    def _check_own_marks(self, schema: pa.Schema) -> None:
        for mark in self.meta.get("owns") or self.pipeline.marks:
            if mark not in self._plan.marks:
                raise TraceError(
                    f"lacks the column {mark!r} that its metadata says it has: "
                    "take an undamaged copy"
                )
        for mark in self._plan.marks:
            kind = schema.field(mark).type
            if kind != arrow.STAMP:
                raise TraceError(
                    f"has column {mark!r} as {escape(str(kind))}, format 1 has {arrow.STAMP}: "
                    "take an undamaged copy, or drop the key 'latprof' and give pipeline="
                )

    def batch(self, index: int, columns: Iterable[str] | None = None) -> Columns:
        """Return the frames of one row group.

        Parameters
        ----------
        index
            From 0 to `num_batches` - 1.
        columns
            Which marks, optional columns and tags to read; None is all. ``frame_id`` is always
            there. A mark that the file does not have is missing, an optional column None.

        Raises
        ------
        TraceError
            The row group cannot be read, or has values that cannot be kept.
        """
        wanted = self._wanted(columns)
        with self._named():
            table = self._parquet.read_row_group(
                index, columns=self._there(wanted), use_threads=self._threads
            )
            return to_columns(table, wanted, self._plan, self.pipeline)

    def batches(self, columns: Iterable[str] | None = None) -> Iterator[Columns]:
        """Return the frames in batches of some `ROW_GROUP` rows, one in memory at a time.

        However large the row groups of other tools are, memory stays the same.
        """
        wanted = self._wanted(columns)
        rows = 0
        for part in self._small_groups(wanted) if self._is_finely_cut else self._stream(wanted):
            rows += len(part)
            yield part
        # not asked of the row groups beforehand: a damaged footer makes pyarrow end the whole
        # process where it hands out their metadata, but only raise where it reads them
        if rows != self.rows:
            with self._named():
                raise TraceError(
                    f"says that it has {self.rows} rows and has {rows}: take an undamaged copy"
                )

    @property
    def _is_finely_cut(self) -> bool:
        return self.rows <= 2 * ROW_GROUP * self.num_batches

    def _small_groups(self, wanted: tuple[str, ...]) -> Iterator[Columns]:
        # a row group at once takes two thirds of the time of a stream of batches
        return (self.batch(index, wanted) for index in range(self.num_batches))

    def _stream(self, wanted: tuple[str, ...]) -> Iterator[Columns]:
        with self._named():
            stream = self._parquet.iter_batches(
                ROW_GROUP, columns=self._there(wanted), use_threads=self._threads
            )
        while True:
            with self._named():
                batch = next(stream, None)
                if batch is None:
                    return
                part = to_columns(pa.Table.from_batches([batch]), wanted, self._plan, self.pipeline)
            yield part

    def read(self, columns: Iterable[str] | None = None) -> Columns:
        """Return all frames at once."""
        wanted = self._wanted(columns)
        # ids and stamps, nearly all there is, go where they stay: never in memory twice
        with self._named():
            ids = np.empty(self.rows, np.uint64)
            marks = {m: np.empty(self.rows, np.int64) for m in self.pipeline.marks if m in wanted}
        parts, stop = [], 0
        for part in self.batches(wanted):
            start, stop = stop, stop + len(part)
            if stop <= self.rows:  # else `batches` raises at its end
                ids[start:stop] = part.frame_id
                for mark, stamps in marks.items():
                    stamps[start:stop] = part.marks.pop(mark)
            part.frame_id = ids[start:stop]
            parts.append(part)
        if not parts:
            with self._named():
                empty = self._parquet.schema_arrow.empty_table()
                return to_columns(empty, wanted, self._plan, self.pipeline)
        whole = Columns.concat(parts) if len(parts) > 1 else parts[0]
        whole.frame_id, whole.marks = ids, marks
        return whole

    def _there(self, wanted: tuple[str, ...]) -> list[str]:
        return [name for name in self._plan.names if name in wanted or name == "frame_id"]

    def _wanted(self, columns: Iterable[str] | None) -> tuple[str, ...]:
        known = ("frame_id", *self.pipeline.marks, *Columns.OPTIONAL, *self._plan.tags)
        if columns is None:
            return known
        wanted = tuple(columns)
        for name in wanted:
            if name not in known:
                raise TraceError(
                    f"{escape(self.path)}: there is no column {escape(str(name))!r}: "
                    f"use one of {', '.join(known)}"
                )
        return wanted

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        try:
            with _named(self.path, "cannot be read"):
                try:
                    yield
                except OSError as error:
                    if error.errno is None:  # pyarrow's own, about what the file holds
                        raise ValueError(str(error)) from None
                    raise
        except LatprofError:
            raise
        except Exception as error:
            # whatever a damaged file makes pyarrow raise (there is no list of it): the person
            # with the file needs its name and what to do, not where pyarrow gave up
            raise TraceError(
                f"{escape(self.path)} is damaged or no trace ({_first_line(error)}): "
                "take an undamaged copy"
            ) from None

    def close(self) -> None:
        """Close the file; arrays that were read stay."""
        self._file.close()

    def __enter__(self) -> "Reader":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _opened(path: str) -> pa.NativeFile:
    if os.path.isdir(path):
        raise TraceError("is a folder: name a file in it")
    with open(path, "rb") as file:
        head = file.read(4)
        if not head:
            raise TraceError("is empty (0 bytes): record again, or name another file")
        if head == b"PARE":
            raise TraceError("is encrypted Parquet: decrypt it first")
        if head != b"PAR1":
            raise TraceError("is no Parquet file: name a trace that latprof or another tool saved")
        file.seek(-min(8, file.seek(0, os.SEEK_END)), os.SEEK_END)
        if file.read()[-4:] != b"PAR1" or file.tell() < 12:
            raise TraceError("is cut short (the end of the file is missing): copy it again, whole")
        seal.check(file)
    return pa.OSFile(path, "rb")
