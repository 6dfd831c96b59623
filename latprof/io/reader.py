"""Reading trace files, row group by row group; what cannot be read is refused in one line."""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from latprof.errors import LatprofError, TraceError
from latprof.frames import Columns
from latprof.io import arrow, checksum, metadata
from latprof.io.failures import first_line, named
from latprof.io.schema import plan, to_columns
from latprof.io.writer import ROW_GROUP
from latprof.pipeline import Pipeline
from latprof.text import escape

__all__ = ["Reader"]

StrPath = str | os.PathLike[str]


class Reader:
    """A trace file, row group by row group.

    Parameters
    ----------
    path
        Of the file.
    pipeline
        What its columns mean, for a table that another tool has written or rewritten. Not
        needed for a file that latprof has written, unless for other stations or another period.
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
                    "'latprof' when they rewrite a file): give pipeline=, or --pipeline on the "
                    "command line"
                )
            self.pipeline = pipeline
            self.meta: dict[str, Any] = {}
        else:
            self.pipeline, self.meta = metadata.decode(raw)
            if pipeline is not None:
                differs = pipeline.difference(self.pipeline)
                if differs is not None:
                    raise TraceError(
                        f"is of pipeline {self.pipeline.name!r} with marks "
                        f"{', '.join(self.pipeline.marks)}, not of the pipeline "
                        f"{pipeline.name!r} that was given, as their {differs} differ: "
                        "leave out pipeline= (--pipeline)"
                    )
                self.pipeline = pipeline  # its stations may be others
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

    @property
    def tags(self) -> tuple[str, ...]:
        """The names of the columns that are tags."""
        return self._plan.tags

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
        return self._made(self._group(index, wanted), wanted)

    def batches(self, columns: Iterable[str] | None = None) -> Iterator[Columns]:
        """Return the frames in batches of some `ROW_GROUP` rows, one in memory at a time.

        However large the row groups of other tools are, memory stays the same.
        """
        return (make() for make in self.decoded(columns))

    def decoded(self, columns: Iterable[str] | None = None) -> Iterator[Callable[[], Columns]]:
        """Do the same, but leave the rest of the work to whoever calls what this yields.

        Decoding needs the interpreter for one call a batch, all else for many: a thread that
        decodes ahead and does no more keeps out of the way of the others.
        """
        wanted = self._wanted(columns)
        rows = 0
        for table in self._small_groups(wanted) if self._is_finely_cut else self._stream(wanted):
            rows += table.num_rows
            yield partial(self._made, table, wanted)
        # not asked of the row groups beforehand: a damaged footer makes pyarrow end the whole
        # process where it hands out their metadata, but only raise where it reads them
        if rows != self.rows:
            with self._named():
                raise TraceError(
                    f"says that it has {self.rows} rows and has {rows}: take an undamaged copy"
                )

    def _made(self, table: pa.Table, wanted: tuple[str, ...]) -> Columns:
        with self._named():
            return to_columns(table, wanted, self._plan, self.pipeline)

    @property
    def _is_finely_cut(self) -> bool:
        return self.rows <= 2 * ROW_GROUP * self.num_batches

    def _small_groups(self, wanted: tuple[str, ...]) -> Iterator[pa.Table]:
        # a row group at once takes two thirds of the time of a stream of batches
        return (self._group(index, wanted) for index in range(self.num_batches))

    def _group(self, index: int, wanted: tuple[str, ...]) -> pa.Table:
        with self._named():
            return self._parquet.read_row_group(
                index, columns=self._there(wanted), use_threads=self._threads
            )

    def _stream(self, wanted: tuple[str, ...]) -> Iterator[pa.Table]:
        with self._named():
            stream = self._parquet.iter_batches(
                ROW_GROUP, columns=self._there(wanted), use_threads=self._threads
            )
        while True:
            with self._named():
                batch = next(stream, None)
                if batch is None:
                    return
                table = pa.Table.from_batches([batch])
            yield table

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
            with named(self.path, "cannot be read"):
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
                f"{escape(self.path)} is damaged or no trace ({first_line(error)}): "
                "take an undamaged copy"
            ) from None

    def close(self) -> None:
        """Close the file; arrays that were read stay."""
        self._file.close()

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *exc_info: object) -> None:
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
        if head == b"LATP":
            raise TraceError(
                f"is a ring file: latprof recover {escape(path)} -o FILE saves its frames"
            )
        if head != b"PAR1":
            raise TraceError("is no Parquet file: name a trace that latprof or another tool saved")
        file.seek(-min(8, file.seek(0, os.SEEK_END)), os.SEEK_END)
        if file.read()[-4:] != b"PAR1" or file.tell() < 12:
            raise TraceError("is cut short (the end of the file is missing): copy it again, whole")
        checksum.check(file)
    return pa.OSFile(path, "rb")
