"""Writes trace files, row group by row group; a file is complete or not there at all."""

import base64
import contextlib
import os
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from latprof.errors import TraceError
from latprof.frames import Columns
from latprof.io import arrow, metadata
from latprof.io.atomic import file_errors, new_file
from latprof.io.paths import StrPath
from latprof.pipeline import Pipeline

__all__ = ["ROW_GROUP", "Writer"]

ROW_GROUP = 1 << 18
"""Rows of a row group: as fast to write and read as 1 << 20, with 20 MB of memory, not 75."""


class Writer:
    """A trace file that is being written; it gets its name when it is closed.

    Parameters
    ----------
    path
        Of the file; an old one is replaced when this one is closed.
    pipeline
        Of the frames.
    meta
        Metadata of the file: see `latprof.io.metadata`. It may be changed until the file is
        closed: how many frames were lost is known only then.
    row_group
        Frames in a row group; fewer are buffered.

    Raises
    ------
    TraceError
        The file cannot be written, `meta` is invalid, or a column appears only after the first
        row group was written.

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
        with self._errors():
            metadata.encode(pipeline, self.meta)  # errors now rather than after hours
            self._file = new_file(path)

    def write(self, columns: Columns) -> None:
        """Add frames; their arrays must not change until the row group is written."""
        self.rows += len(columns)
        with self._errors():
            start = 0
            while self._waiting_rows + len(columns) - start >= self._row_group:
                stop = start + self._row_group - self._waiting_rows
                self._waiting.append(columns.take(slice(start, stop)))
                self._flush()
                start = stop
            # the first batch is kept even if it is empty: the file has its columns
            if start < len(columns) or not (self._waiting or self._parquet):
                self._waiting.append(columns.take(slice(start, None)))
                self._waiting_rows += len(columns) - start

    def _flush(self) -> None:
        part = self._waiting[0] if len(self._waiting) == 1 else Columns.concat(self._waiting)
        self._waiting, self._waiting_rows = [], 0
        missing = [mark for mark in self.pipeline.marks if mark not in part.marks]
        if missing:
            raise TraceError(
                f"frames must have all marks of the pipeline, got no {missing[0]!r}; add it, with "
                "missing values if there are no times"
            )
        part.marks = {mark: part.marks[mark] for mark in self.pipeline.marks}
        batch = arrow.record_batch(part)
        if self._parquet is None:
            self._parquet = self._opened(batch.schema, part)
        self._parquet.write_batch(_fitted(batch, self._parquet.schema), self._row_group)

    def _opened(self, schema: pa.Schema, part: Columns) -> pq.ParquetWriter:
        # differences of ids, stamps and sizes take few bits; other columns have few values
        delta = ["frame_id", *self.pipeline.marks, *(["size"] if part.size is not None else [])]
        return pq.ParquetWriter(
            self._file.file,
            schema,
            compression="none",
            use_dictionary=[name for name in schema.names if name not in delta],
            column_encoding=dict.fromkeys(delta, "DELTA_BINARY_PACKED"),
            write_page_checksum=True,
            store_schema=False,  # it is stored at the end, with the metadata
        )

    def close(self) -> None:
        """Write the remaining frames and give the file its name."""
        try:
            with self._errors():
                if self._waiting or self._parquet is None:
                    if not self._waiting:
                        empty = np.empty(0, np.int64)
                        marks = dict.fromkeys(self.pipeline.marks, empty)
                        self._waiting = [Columns(empty.view(np.uint64), marks)]
                    self._flush()
                assert self._parquet is not None
                text = metadata.encode(self.pipeline, self.meta, self.rows)
                found = metadata.entries(text)
                schema = self._parquet.schema.with_metadata(found).serialize().to_pybytes()
                found[b"ARROW:schema"] = base64.b64encode(schema)
                self._parquet.add_key_value_metadata(found)
                self._parquet.close()
                if self._file.file.readable():
                    metadata.add_checksum(self._file.file)
                self._file.commit()
        except BaseException:
            self.discard()
            raise

    @property
    def size(self) -> int:
        """Bytes written so far, without the row group that is being filled."""
        return self._file.file.tell()

    def detach(self) -> None:
        """Close the file in the child of a fork, without a change to it."""
        self._abandon()
        self._file.detach()

    def discard(self) -> None:
        """Remove what was written; an old file stays."""
        self._abandon()
        self._file.discard()

    def _abandon(self) -> None:
        self._waiting = []
        if self._parquet is not None:
            self._parquet.is_open = False  # or it writes a footer when it is collected

    def _errors(self) -> contextlib.AbstractContextManager[None]:
        return file_errors(self.path, "cannot be written")

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()


def _fitted(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return the batch with the columns of the schema; columns that it lacks are null."""
    if batch.schema.equals(schema):
        return batch
    late = [name for name in batch.schema.names if name not in schema.names]
    if late:
        raise TraceError(
            f"columns must be the same in all row groups, got {late[0]!r} after the first; give it "
            "from the first frames on"
        )
    arrays = []
    for field in schema:
        if field.name in batch.schema.names:
            arrays.append(batch.column(field.name))
        else:
            arrays.append(pa.nulls(batch.num_rows, field.type))
        kind = arrays[-1].type
        if kind != field.type:
            raise TraceError(
                f"column {field.name!r} must stay {field.type}, got {kind} after the first row "
                "group; convert the values"
            )
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
