"""Reads trace files, row group by row group; errors are one line that names the file."""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from queue import SimpleQueue
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from latprof.errors import TraceError
from latprof.frames import Columns
from latprof.io import metadata
from latprof.io.ahead import DECODERS, REMOTE_DECODERS, read_ahead
from latprof.io.arrow import STAMP, plan
from latprof.io.atomic import reading
from latprof.io.checks import check_known, columns_of_table
from latprof.io.paths import StrPath, is_url, local_path
from latprof.io.remote import RemoteFile, open_url
from latprof.io.writer import ROW_GROUP
from latprof.pipeline import Pipeline
from latprof.text import clip, shown_path

__all__ = ["Decode", "Reader"]


_MOST_DECODED = 100 << 20  # bytes; larger row groups are read as a stream
_LARGE = 32 << 20  # bytes; of larger row groups only one is decoded at a time

# Row groups of fewer rows than this on average are read as a stream: reading one alone costs as
# much as decoding a few thousand rows.
_FEW_ROWS = 1 << 12


Decode = Callable[[], Callable[[], Columns]]
"""A task: it decodes the bytes of a batch, and returns a function that makes its `Columns`."""


class Reader:
    """A trace file that is read row group by row group.

    Parameters
    ----------
    path
        Path or URL of the file.
    pipeline
        What the columns mean, for a table that another tool has written or rewritten. For a file
        that latprof has written it is needed only to change stations or the period.
    threads
        Whether Arrow may decode columns in its own threads.
    groups
        Row groups to read, or None for all. `rows` counts the whole file in either case, and is
        compared with the rows that were read only if `groups` is None.
    footer
        Attribute `footer` of an earlier reader of the same URL, so that it is not fetched again.

    Attributes
    ----------
    pipeline, meta, rows, num_batches, tags, footer
        The contents of the file: `num_batches` counts row groups, `tags` are names of columns,
        `footer` is the Parquet footer. ``meta["dropped_columns"]`` gives the reason for each
        column that cannot be kept.

    Raises
    ------
    TraceError
        The file is missing, not Parquet, corrupt, of a newer format or of another pipeline; here
        or when rows are read.
    MemoryError
        There is not enough memory to read it.
    """

    def __init__(
        self,
        path: StrPath,
        pipeline: Pipeline | None = None,
        *,
        threads: bool = True,
        groups: range | None = None,
        footer: Any = None,
    ) -> None:
        self.path = os.fspath(local_path(path))
        self._groups = groups
        self._threads = threads
        self._others: list[pa.NativeFile] = []
        with self._errors():
            self._remote = open_url(self.path) if is_url(self.path) else None
            self._is_sealed = True  # no other tool has rewritten the file
            if footer is None:
                self._is_sealed = _checked(self.path, self._remote)
            self._file = self._opened_again()
            try:
                self._begin(pipeline, footer)
            except BaseException:
                self._file.close()
                raise

    def _begin(self, pipeline: Pipeline | None, footer: Any) -> None:
        parquet = self._decoder(self._file, footer)
        raw = metadata.find(parquet.metadata.metadata)
        self.meta: dict[str, Any] = {}
        if raw is None and pipeline is None:
            raise TraceError(
                "the file must say which pipeline it is of, and its metadata has no key 'latprof' "
                "(other tools drop it when they rewrite a file); give pipeline=, or --pipeline on "
                "the command line"
            )
        if raw is not None:
            own, self.meta = metadata.decode(raw, parquet.metadata.num_rows)
            if metadata.MEMBERS in self.meta and not self._is_sealed:
                metadata.drop_counts(self.meta, metadata.REWRITTEN)
            pipeline = own.overridden(pipeline)
        assert pipeline is not None
        self.pipeline = pipeline
        schema = parquet.schema_arrow
        self._plan = plan(schema, self.pipeline)
        if self._plan.dropped:
            self.meta["dropped_columns"] = self._plan.dropped
        if raw is not None:
            self._check_own_marks(schema)
        self.footer: Any = parquet.metadata
        # plain strings are decoded faster as dictionaries
        text = self._plan.text
        self._parquet = self._decoder(self._file, self.footer, text) if text else parquet
        # a task takes one and puts it back: threads must not share a ParquetFile
        self._idle: SimpleQueue[pq.ParquetFile] = SimpleQueue()
        self._decoders = 1
        self._idle.put(self._parquet)
        self.rows: int = parquet.metadata.num_rows
        self.num_batches: int = parquet.num_row_groups
        self.tags = self._plan.tags

    def _decoder(
        self, file: pa.NativeFile, footer: Any, text: Sequence[str] = ()
    ) -> pq.ParquetFile:
        return pq.ParquetFile(
            file,
            metadata=footer,
            read_dictionary=list(text),
            pre_buffer=self._remote is not None,  # one request for columns that are close
            page_checksum_verification=True,
        )

    def prepare(self, columns: Iterable[str] | None = None) -> int:
        """Open the file for tasks in several threads; return how many results may wait for use.

        Large row groups are decoded one at a time, in pyarrow's threads, as several at once would
        take much memory.
        """
        if self._group_bytes(self._wanted(columns)) > _LARGE:
            self._threads = True
            return 1
        with self._errors():
            while self._decoders < min(self._most_decoders, self.num_batches):
                self._others.append(self._opened_again())
                self._idle.put(self._decoder(self._others[-1], self.footer, self._plan.text))
                self._decoders += 1
        return self._most_decoders

    def _opened_again(self) -> pa.NativeFile:
        if self._remote is None:
            return pa.OSFile(self.path, "rb")
        return pa.PythonFile(self._remote.again(), mode="r")

    @property
    def _most_decoders(self) -> int:
        return DECODERS if self._remote is None else REMOTE_DECODERS

    def _check_own_marks(self, schema: pa.Schema) -> None:
        for mark in self.meta.get("owns") or self.pipeline.marks:
            if mark not in self._plan.marks:
                raise TraceError(
                    f"the file must have the mark {mark!r} of its metadata as a column, got none; "
                    "take an intact copy"
                )
        for mark in self._plan.marks:
            kind = schema.field(mark).type
            # another tool may have rewritten the file in another unit
            if not pa.types.is_timestamp(kind):
                raise TraceError(
                    f"column {mark!r} must be {STAMP} in a file of format {metadata.FORMAT}, got "
                    f"{clip(str(kind), 40)}; take an intact copy, or drop the metadata key "
                    "'latprof' and give pipeline="
                )

    def batch(self, index: int, columns: Iterable[str] | None = None) -> Columns:
        """Return the frames of one row group.

        Parameters
        ----------
        index
            From 0 to `num_batches` - 1.
        columns
            Which marks, optional columns and tags to read, or None for all. ``frame_id`` is always
            read. A mark that the file does not have is missing, an optional column None.

        Raises
        ------
        TraceError
            The row group cannot be read, or has values that cannot be kept.
        """
        wanted = self._wanted(columns)
        return self._made(self._decoded_group(index, wanted), wanted)

    def batches(self, columns: Iterable[str] | None = None) -> Iterator[Columns]:
        """Yield the frames in batches of about `ROW_GROUP` rows, one batch in memory at a time.

        Row groups that other tools have written may be much larger or smaller.
        """
        return (decode()() for decode in self.tasks(columns))

    def tasks(
        self, columns: Iterable[str] | None = None, *, large: bool = False
    ) -> Iterator[Decode]:
        """Yield tasks, one for each batch: see `Decode`.

        Tasks may run in several threads at once, and hardly slow other threads down: a task holds
        the interpreter lock for one call only, but a function that it returns for many. These
        functions must be called in the order of the tasks. With `large`, batches may have up to 8
        times `ROW_GROUP` rows, which is quicker.
        """
        wanted, rows = self._wanted(columns), 0

        def made(table: pa.Table, last: bool) -> Columns:
            """Return the columns of a batch; check the number of all rows after the last one."""
            nonlocal rows
            rows += table.num_rows
            if last:
                self._check_rows(rows)
            return self._made(table, wanted)

        def decoded(index: int, last: bool) -> Callable[[], Columns]:
            """Decode a row group."""
            return partial(made, self._decoded_group(index, wanted), last)

        if self._by_group(wanted, large):
            groups = range(self.num_batches) if self._groups is None else self._groups
            yield from (partial(decoded, index, index == groups[-1]) for index in groups)
            return
        tables = read_ahead(self._stream(wanted))
        table = next(tables, None)
        if table is None:
            self._check_rows(rows)
        while table is not None:
            after = next(tables, None)
            yield partial(partial, made, table, after is None)
            table = after

    def _check_rows(self, rows: int) -> None:
        # not from the metadata of the row groups: if the footer is corrupt, pyarrow ends the
        # process when asked for that metadata, but raises an error when it reads the rows
        if rows != self.rows and self._groups is None:
            with self._errors():
                raise TraceError(
                    f"the file must have the {self.rows} rows of its footer, got {rows}; take an "
                    "intact copy"
                )

    def _made(self, table: pa.Table, wanted: tuple[str, ...]) -> Columns:
        with self._errors():
            return columns_of_table(table, wanted, self._plan, self.pipeline)

    def _by_group(self, wanted: tuple[str, ...], large: bool) -> bool:
        """Return whether row groups are decoded whole, which takes half the time of a stream."""
        few = _FEW_ROWS * self.num_batches
        if not few < self.rows <= (8 if large else 2) * ROW_GROUP * self.num_batches:
            return False
        return self._group_bytes(wanted) <= _MOST_DECODED

    def _group_bytes(self, wanted: tuple[str, ...]) -> int:
        return 8 * len(self._stored(wanted)) * self.rows // max(self.num_batches, 1)

    def _streamed(self) -> Iterator[list[int] | None]:
        """Yield the row groups of each stream, or None for all.

        pyarrow fetches all row groups of a stream from a URL before it decodes the first, and
        keeps their bytes: a stream from a URL is therefore short.
        """
        if self._remote is None:
            yield None if self._groups is None else list(self._groups)
            return
        groups = range(self.num_batches) if self._groups is None else self._groups
        step = max(ROW_GROUP * self.num_batches // max(self.rows, 1), 1)
        for first in range(0, len(groups), step):
            yield list(groups[first : first + step])

    def _stream(self, wanted: tuple[str, ...]) -> Iterator[pa.Table]:
        waiting: list[pa.RecordBatch] = []  # pyarrow ends a batch where a dictionary ends
        rows = 0
        stream: Iterator[pa.RecordBatch] = chain.from_iterable(
            self._parquet.iter_batches(
                ROW_GROUP,
                columns=self._stored(wanted),
                use_threads=self._threads,
                row_groups=groups,
            )
            for groups in self._streamed()
        )
        while True:
            with self._errors():
                batch = next(stream, None)
            if waiting and (batch is None or rows + batch.num_rows > ROW_GROUP):
                yield pa.Table.from_batches(waiting)
                waiting, rows = [], 0
            if batch is None:
                return
            waiting.append(batch)
            rows += batch.num_rows
            if rows == ROW_GROUP:  # yield before the next batch takes memory as well
                yield pa.Table.from_batches(waiting)
                waiting, rows = [], 0

    def _decoded_group(self, index: int, wanted: tuple[str, ...]) -> pa.Table:
        parquet = self._idle.get()  # no other thread uses it meanwhile
        try:
            with self._errors():
                return parquet.read_row_group(
                    index, columns=self._stored(wanted), use_threads=self._threads
                )
        finally:
            self._idle.put(parquet)

    def read(self, columns: Iterable[str] | None = None) -> Columns:
        """Return all frames at once."""
        wanted = self._wanted(columns)
        # ids and stamps, nearly all of the data, are copied to their place batch by batch
        try:
            ids = np.empty(self.rows, np.uint64)
            marks = {m: np.empty(self.rows, np.int64) for m in self.pipeline.marks if m in wanted}
        except (MemoryError, ValueError):
            for _ in self.batches(()):  # raises a TraceError if the footer is wrong about the rows
                pass
            raise
        parts, stop = [], 0
        for part in self.batches(wanted):
            start, stop = stop, stop + len(part)
            if stop <= self.rows:  # otherwise `batches` raises at its end
                ids[start:stop] = part.frame_id
                for mark, stamps in marks.items():
                    stamps[start:stop] = part.marks.pop(mark)
            part.frame_id = ids[start:stop]
            parts.append(part)
        if not parts:
            with self._errors():
                empty = self._parquet.schema_arrow.empty_table()
                return columns_of_table(empty, wanted, self._plan, self.pipeline)
        whole = Columns.concat(parts) if len(parts) > 1 else parts[0]
        whole.frame_id, whole.marks = ids, marks
        return whole

    def _stored(self, wanted: tuple[str, ...]) -> list[str]:
        return [name for name in self._plan.names if name in wanted or name == "frame_id"]

    def _wanted(self, columns: Iterable[str] | None) -> tuple[str, ...]:
        known = ("frame_id", *self.pipeline.marks, *Columns.OPTIONAL, *self._plan.tags)
        if columns is None:
            return known
        return check_known(columns, known, self.path)

    def _errors(self) -> contextlib.AbstractContextManager[None]:
        return reading(self.path, "corrupt or not a trace")

    def close(self) -> None:
        """Wait until no task decodes, and close the file; arrays that were read stay valid."""
        for _ in range(self._decoders):
            self._idle.get()
        self._decoders = 0
        for file in (self._file, *self._others):
            file.close()

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def _checked(path: str, remote: RemoteFile | None) -> bool:
    """Refuse a file that is not Parquet; return whether it is as latprof has written it."""
    if remote is not None:
        # the end is read in any case; the first bytes, a further request, only for a message
        if _end_of(remote) != b"PAR1" or remote.size < 12:
            remote.seek(0)
            _check_content(remote, path)
        return metadata.verify_checksum(remote)
    if os.path.isdir(path):
        raise TraceError("the path must be of a file, got a folder; name a file in it")
    with open(path, "rb") as file:
        _check_content(file, path)
        return metadata.verify_checksum(file)


def _end_of(file: BinaryIO | RemoteFile) -> bytes:
    file.seek(-min(8, file.seek(0, os.SEEK_END)), os.SEEK_END)
    return (file.read() or b"")[-4:]


def _check_content(file: BinaryIO | RemoteFile, path: str) -> None:
    """Refuse a file that is not Parquet, or not complete."""
    head = file.read(4)
    if not head:
        raise TraceError("the file is empty (0 bytes); record again, or name another file")
    if head == b"PARE":
        raise TraceError("the file is encrypted Parquet; decrypt it first")
    if head == b"LATP":
        raise TraceError(
            f"the file is a ring; latprof recover {shown_path(path)} -o FILE saves its frames"
        )
    if head != b"PAR1":
        raise TraceError(
            "the file must be Parquet, as latprof saves traces; for a table of timestamps: "
            "latprof.Trace.from_pandas(pandas.read_csv(...), pipeline).save(...)"
        )
    if _end_of(file) != b"PAR1" or file.tell() < 12:
        raise TraceError("the end of the file is missing; copy it again")
