"""Writing trace files: row group by row group, whole or not at all."""

import contextlib
import os
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from latprof.errors import TraceError
from latprof.frames import Columns
from latprof.io import arrow, checksum, metadata
from latprof.io.atomic import WholeFile
from latprof.io.failures import named
from latprof.pipeline import Pipeline

__all__ = ["ROW_GROUP", "Writer", "write"]

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
    >>> from latprof.io.reader import Reader
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
                    checksum.fill(self._file.file)
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
        return named(self.path, "cannot be written")

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
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
