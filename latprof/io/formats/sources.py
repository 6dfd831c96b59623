"""Where the rows of tables come from: CSV, JSON, JSON lines, Parquet, Arrow and Feather files."""

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import ipc

from latprof.arrays import Ints
from latprof.errors import TraceError
from latprof.io import arrow
from latprof.io.ahead import read_ahead
from latprof.io.formats import delimited
from latprof.io.formats.columns import ColumnMap
from latprof.io.formats.files import BOM, HEAD, LONGEST_LINE, head_of, opened
from latprof.io.formats.json_values import JsonValues, json_lines_of
from latprof.io.paths import is_url, size_of
from latprof.io.remote import open_url
from latprof.text import clip, quoted

__all__ = [
    "ArrowSource",
    "Batch",
    "CsvSource",
    "JsonSource",
    "Source",
    "source_of",
]

_JSON_ROWS = 1 << 14  # rows of a batch of JSON
_SHOWN = 5  # repeated names that a report lists
_SAMPLE_ROWS = 1_000  # rows from which types and units are guessed


Kinds = Mapping[str, pa.DataType]
"""Columns to read, and their types for files in text; other files keep their own types."""


@dataclass(slots=True)
class Batch:
    """Rows of a table.

    Attributes
    ----------
    table
        Columns under the names of the file.
    rows
        How many rows of the file the batch covers, those that could not be read included.
    numbers
        For each row of `table` its position among these rows, from 0.
    skipped
        Position and text of each row that could not be read.
    where
        Returns the place of a position in the file, such as "line 12", for a message.
    """

    table: pa.Table
    rows: int
    numbers: Ints
    skipped: list[tuple[int, str]]
    where: Callable[[int], str]


class Source(Protocol):
    """Rows of one kind of file."""

    names: tuple[str, ...]
    rows: int  # an estimate if rows are text; 0 for a stream, which does not say
    said: Sequence[str]  # sentences for the report on what is odd about the columns

    def sample(self) -> pa.Table:
        """Return the first rows."""

    def batches(self, kinds: Kinds) -> Iterator[Callable[[], Batch]]:
        """Yield functions, one for each batch, that return it with columns of these kinds.

        If a value does not fit its type, the batch is text.
        """


class CsvSource:
    """Rows of a CSV file, in blocks of some megabytes."""

    def __init__(self, path: str, missing: Sequence[str]) -> None:
        self._path = path
        head = head_of(path)
        if len(head) >= HEAD and head.count(b"\n") < 2:  # a value is very long
            head = head_of(path, LONGEST_LINE)
        self.dialect = delimited.sniff(head, missing)
        self.names = self.dialect.names
        self.said: Sequence[str] = [
            f"several columns are named {clip(name, 40)}: the first of them is taken"
            for name in self.dialect.repeated[:_SHOWN]
        ]
        end = head.rfind(b"\n") + 1
        # a small file may lack the last line end; a part of a row must not be sampled
        data = head[self.dialect.first_row :]
        if len(head) >= HEAD and end > self.dialect.first_row:
            data = head[self.dialect.first_row : end]
        first = delimited.Block(data, len(data), self.dialect.first_line, data.count(b"\n"))
        self._first = delimited.parse_as_text(first, self.dialect, self.names)
        size = max(size_of(path) - self.dialect.first_row, len(data))
        # exact if the sample is the whole file
        self.rows = self._first.rows * size // max(len(data), 1)

    def sample(self) -> pa.Table:
        """Return the first rows as text."""
        return self._first.table.slice(0, _SAMPLE_ROWS)

    def batches(self, kinds: Kinds) -> Iterator[Callable[[], Batch]]:
        """Yield functions that parse a block each; a thread reads the next block meanwhile."""
        with opened(self._path) as stream:
            for block in read_ahead(delimited.blocks(stream, self.dialect)):
                yield partial(self._batch, block, kinds)

    def _batch(self, block: delimited.Block, kinds: Kinds) -> Batch:
        try:
            parsed = delimited.parse(block, self.dialect, kinds)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            parsed = delimited.parse_as_text(block, self.dialect, kinds)
        return Batch(
            parsed.table,
            parsed.rows,
            parsed.numbers(),
            parsed.skipped,
            lambda row: f"line {parsed.line_of(row):,}",
        )


class JsonSource:
    """Rows of JSON: an object for each, in lines or in an array; all values become text."""

    def __init__(self, path: str, missing: Sequence[str]) -> None:
        self._path = path
        self._missing = frozenset(missing)
        head = head_of(path)
        self._lines = head.removeprefix(BOM).lstrip().startswith(b"{")
        first = next(self._rows(_SAMPLE_ROWS), None)
        found: dict[str, None] = {}
        for row in () if first is None else first[1]:
            found.update(dict.fromkeys(row))
        if not found:
            raise TraceError(
                "the file must have a JSON object for each frame, got none; write one in each "
                "line, or all in an array"
            )
        self.names = tuple(found)
        self.said: Sequence[str] = ()
        self._sample = self._table(first[1] if first else [], self.names)
        lines = max(head.count(b"\n"), 1) if self._lines else max(head.count(b"{"), 1)
        self.rows = max(size_of(path) * lines // max(len(head), 1), 1)

    def sample(self) -> pa.Table:
        """Return the first rows as text."""
        return self._sample

    def batches(self, kinds: Kinds) -> Iterator[Callable[[], Batch]]:
        """Yield functions, one for each batch, that return it; all columns are text."""
        word = "line" if self._lines else "row"
        for places, rows, skipped in self._rows(_JSON_ROWS):
            total = len(places)
            numbers = np.delete(np.arange(total), [number for number, _ in skipped])
            table = self._table(rows, kinds)
            where = partial(_placed, word, places)
            yield partial(Batch, table, total, numbers, skipped, where)

    def _rows(
        self, most: int
    ) -> Iterator[tuple[list[int], list[dict[str, Any]], list[tuple[int, str]]]]:
        """Yield the numbers of lines or elements, the objects, and the rows that are not objects.

        Of the latter the position among the `most` rows of a batch, and the text.
        """
        values = json_lines_of(self._path) if self._lines else _json_elements(self._path)
        while True:
            places: list[int] = []
            rows: list[dict[str, Any]] = []
            skipped: list[tuple[int, str]] = []
            for number, (place, value) in enumerate(islice(values, most)):
                places.append(place)
                if isinstance(value, dict):
                    rows.append(_flat(value))
                else:
                    skipped.append((number, clip(str(value), 80)))
            if not places:
                return
            yield places, rows, skipped

    def _table(self, rows: list[dict[str, Any]], columns: Iterable[str]) -> pa.Table:
        arrays = []
        for name in columns:
            texts = [_text_of(row.get(name)) for row in rows]
            arrays.append(
                arrow.strings([None if t is None or t in self._missing else t for t in texts])
            )
        return pa.table(arrays, names=list(columns))


def _numbered(word: str, first: int, row: int) -> str:
    return f"{word} {first + row:,}"


def _placed(word: str, places: Sequence[int], row: int) -> str:
    return f"{word} {places[row]:,}"


def _json_elements(path: str) -> Iterator[tuple[int, Any]]:
    values, number = JsonValues(path, may_be_cut=True), 0
    for number, (_, value) in enumerate(values, 1):
        yield number, value
    if values.cut:
        yield number + 1, "the file ends within a row"


def _flat(row: dict[str, Any], depth: int = 3) -> dict[str, Any]:
    """Return an object with the keys of objects in it as "a.b"."""
    if not depth or not any(isinstance(value, dict) for value in row.values()):
        return row
    flat: dict[str, Any] = {}
    for key, value in row.items():
        if isinstance(value, dict):
            flat.update({f"{key}.{k}": v for k, v in _flat(value, depth - 1).items()})
        else:
            flat[key] = value
    return flat


def _text_of(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else json.dumps(value)[:1_000]


class ArrowSource:
    """Rows of Parquet, Arrow and Feather files, and of tables in memory."""

    def __init__(self, path: str, table: pa.Table | None = None) -> None:
        self._path, self._table = path, table
        if table is not None:
            self.rows, schema = table.num_rows, table.schema
        else:
            with self._opened() as (rows, schema, _):
                self.rows = rows
        self.names = tuple(schema.names)
        self.said: Sequence[str] = ()
        repeated = next((name for name, n in Counter(self.names).items() if n > 1), None)
        if repeated is not None:
            raise TraceError(
                f"columns must have different names, got {quoted(repeated)} more than once; rename "
                "the others"
            )

    @contextlib.contextmanager
    def _opened(self) -> Iterator[tuple[int, pa.Schema, Any]]:
        with _native(self._path) as file:
            start = file.read(6)
            file.seek(0)
            if start.startswith(b"PAR1"):
                parquet = pq.ParquetFile(file, pre_buffer=is_url(self._path))
                rows = parquet.metadata.num_rows
                yield rows, parquet.schema_arrow, partial(_parquet_batches, parquet)
            elif start == b"ARROW1":
                with ipc.open_file(file) as whole:
                    rows = sum(whole.get_batch(i).num_rows for i in range(whole.num_record_batches))
                    each = (whole.get_batch(i) for i in range(whole.num_record_batches))
                    yield rows, whole.schema, lambda columns: each
            else:
                with ipc.open_stream(file) as stream:
                    yield 0, stream.schema, lambda columns: iter(stream)

    def sample(self) -> pa.Table:
        """Return the first rows."""
        if self._table is not None:
            return self._table.slice(0, _SAMPLE_ROWS)
        with self._opened() as (_, schema, read):
            first = next(read(list(self.names)), None)
            if first is None:
                return schema.empty_table()
            return pa.Table.from_batches([first]).slice(0, _SAMPLE_ROWS)

    def batches(self, kinds: Kinds) -> Iterator[Callable[[], Batch]]:
        """Yield functions, one for each batch, that return it; columns keep the file's types."""
        if self._table is not None:
            yield from self._each(iter(self._table.select(list(kinds)).to_batches()), kinds)
            return
        with self._opened() as (_, _, read):
            yield from self._each(read(list(kinds)), kinds)

    def _each(
        self, found: Iterator[pa.RecordBatch], columns: Iterable[str]
    ) -> Iterator[Callable[[], Batch]]:
        first = 0
        for batch in found:
            rows, where = batch.num_rows, partial(_numbered, "row", first)
            table = pa.Table.from_batches([batch]).select(list(columns))
            yield partial(Batch, table, rows, np.arange(rows), [], where)
            first += rows


def _native(path: str) -> pa.NativeFile:
    return pa.PythonFile(open_url(path), mode="r") if is_url(path) else pa.OSFile(path, "rb")


def _parquet_batches(parquet: pq.ParquetFile, columns: list[str]) -> Iterator[pa.RecordBatch]:
    found: Iterator[pa.RecordBatch] = parquet.iter_batches(1 << 17, columns=columns)
    return found


def source_of(path: str, columns: ColumnMap, table: pa.Table | None = None) -> Source:
    """Return the source of the rows of `table`, if given, or of a file, by its first bytes."""
    if table is not None:
        return ArrowSource(path, table)
    head = head_of(path, 64)
    if head.startswith((b"PAR1", b"ARROW1", b"\xff\xff\xff\xff")):
        return ArrowSource(path)
    if head.removeprefix(BOM).lstrip()[:1] in (b"{", b"["):
        return JsonSource(path, columns.missing)
    return CsvSource(path, columns.missing)
