"""Writes frames as CSV, and the meaning of the columns as JSON into a file beside it.

CSV files are often opened by spreadsheets, and the names in a trace come from elsewhere: a name
that a spreadsheet would run as a formula is written after an apostrophe.
"""

import json
import os
from typing import Any

import pyarrow as pa
from pyarrow import csv

from latprof.frames import MISSING, Columns, latencies
from latprof.io import arrow
from latprof.io.atomic import write_file
from latprof.io.formats.columns import ColumnMap
from latprof.io.formats.foreign import beside
from latprof.io.paths import StrPath, is_url, local_path
from latprof.pipeline import Pipeline

__all__ = ["with_apostrophe", "without_apostrophe", "write_csv"]

_CSV_ROWS = 1 << 16  # rows of a batch

# characters that begin a formula, also in full width, or that spreadsheets skip before one
_FORMULA = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")


def write_csv(path: StrPath, pipeline: Pipeline, columns: Columns, meta: dict[str, Any]) -> None:
    """Write a line per frame, and beside the file the JSON file that describes its columns.

    See `latprof.Trace.to_csv`.
    """
    _write_lines(path, pipeline, columns)
    if not (is_url(path) or os.path.isfile(local_path(path))):  # a pipe or a device
        return
    named: dict[str, Any] = {
        name: name for name in ("source", "size", "outcome") if getattr(columns, name) is not None
    }
    described = ColumnMap(
        marks={mark: mark for mark in pipeline.marks},
        id="frame_id",
        unit="ns",
        missing=("",),
        apostrophes=True,
        **named,
    )
    content = {**pipeline.to_dict(), "columns": described.to_dict(), "meta": meta}
    with write_file(beside(path)) as file:
        file.write(json.dumps(content, indent=2, allow_nan=False).encode())


def _write_lines(path: StrPath, pipeline: Pipeline, columns: Columns) -> None:
    with write_file(path) as file:
        writer = None
        for start in range(0, max(len(columns), 1), _CSV_ROWS):
            part = columns.take(slice(start, start + _CSV_ROWS))
            batch = arrow.record_batch(part)
            data = {name: _csv_column(batch.column(name)) for name in batch.schema.names}
            for name in pipeline.span_names:
                ns = latencies(pipeline, part, name)
                data[f"{name}_latency"] = pa.array(ns, mask=ns == MISSING)
            batch = pa.RecordBatch.from_pydict(data)
            writer = writer or csv.CSVWriter(file, batch.schema)
            writer.write_batch(batch)
        if writer is not None:
            writer.close()


def _csv_column(column: pa.Array) -> pa.Array:
    """Return times as integers, names as text that is not a formula, and NaN as null."""
    kind = column.type
    if pa.types.is_timestamp(kind) or pa.types.is_duration(kind):
        return column.view(pa.int64())
    if pa.types.is_floating(kind):
        import pyarrow.compute as pc  # slow to import, and needed for floats only

        return pc.if_else(pc.is_nan(column), None, column)
    if not pa.types.is_dictionary(kind):
        return column
    names = [with_apostrophe(name) for name in column.dictionary.to_pylist()]
    return arrow.strings(names).take(column.indices)


def with_apostrophe(name: str) -> str:
    """Return a name that is not a formula, from which `without_apostrophe` makes `name` again.

    Examples
    --------
    >>> with_apostrophe("=1+1"), with_apostrophe("'=1"), with_apostrophe("it's")
    ("'=1+1", "''=1", "it's")
    """
    return f"'{name}" if name.lstrip("'").startswith(_FORMULA) else name


def without_apostrophe(name: str) -> str:
    """Return the name from which `with_apostrophe` has made this one.

    Examples
    --------
    >>> without_apostrophe("'=1+1"), without_apostrophe("it's"), without_apostrophe("'em")
    ('=1+1', "it's", "'em")
    """
    quoted = name.startswith("'") and name.lstrip("'").startswith(_FORMULA)
    return name[1:] if quoted else name
