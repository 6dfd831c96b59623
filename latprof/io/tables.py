"""Columns as tables of other tools: DataFrame and CSV.

A CSV file is often opened by a spreadsheet, and names in a trace are not ours: a name that a
spreadsheet would run as a formula is written with an apostrophe before it.
"""

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from latprof import spans
from latprof.frames import MISSING, NO_SIZE, Columns, Labels
from latprof.io.atomic import WholeFile
from latprof.io.failures import named
from latprof.pipeline import Pipeline

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

__all__ = ["from_pandas", "to_pandas", "write_csv"]

# what begins a formula, also written full width, or is skipped before one
_FORMULA = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")

_CSV_ROWS = 1 << 16


def to_pandas(pipeline: Pipeline, columns: Columns) -> "pd.DataFrame":
    """Return a row a frame; see `latprof.Trace.to_pandas`."""
    import pandas as pd

    data: dict[str, Any] = {"frame_id": columns.frame_id}
    for mark, ns in columns.marks.items():
        data[mark] = ns.view("M8[ns]")  # MISSING is NaT
    if columns.size is not None:
        data["size"] = pd.arrays.IntegerArray(columns.size, columns.size == NO_SIZE)
    for name in Columns.OPTIONAL[1:]:
        column = getattr(columns, name)
        if column is not None:
            data[name] = _categorical(column) if isinstance(column, Labels) else column
    for name, tag in columns.tags.items():
        data[name] = _categorical(tag) if isinstance(tag, Labels) else tag
    for name in spans.names(pipeline):
        data[f"{name}_latency"] = spans.latencies(pipeline, columns, name).view("m8[ns]")
    return pd.DataFrame(data, copy=False)


def _categorical(labels: Labels) -> "pd.Categorical":
    import pandas as pd

    return pd.Categorical.from_codes(
        labels.codes,
        categories=pd.Index(labels.names, dtype=object),
    )


def from_pandas(table: "pd.DataFrame", pipeline: Pipeline) -> tuple[Columns, dict[str, Any]]:
    """Return the columns of a DataFrame and what to say about it; see `Trace.from_pandas`."""
    import pyarrow as pa

    from latprof.io.schema import plan, to_columns

    if "frame_id" not in table.columns and table.index.name == "frame_id":
        table = table.reset_index()
    arrays, names = [], []
    for position, name in enumerate(table.columns):
        names.append(str(name))
        try:
            arrays.append(pa.array(table.iloc[:, position], from_pandas=True))
        except (pa.ArrowException, ValueError, TypeError, OverflowError):
            # mixed objects: no type that is kept, so listed as dropped or refused by its name
            arrays.append(pa.nulls(len(table), pa.binary()))
    whole = pa.table(arrays, names=names)
    found = plan(whole.schema, pipeline)
    meta = {"dropped_columns": found.dropped} if found.dropped else {}
    return to_columns(whole, found.names, found, pipeline), meta


def write_csv(path: str | os.PathLike[str], pipeline: Pipeline, columns: Columns) -> None:
    """Write a line a frame; see `latprof.Trace.to_csv`."""
    import pyarrow.csv as pacsv

    with named(os.fspath(path), "cannot be written"), WholeFile(path) as new:
        writer = None
        for start in range(0, max(len(columns), 1), _CSV_ROWS):
            batch = _csv_batch(pipeline, columns.take(slice(start, start + _CSV_ROWS)))
            writer = writer or pacsv.CSVWriter(new.file, batch.schema)
            writer.write_batch(batch)
        if writer is not None:
            writer.close()


def _csv_batch(pipeline: Pipeline, columns: Columns) -> "pa.RecordBatch":
    import pyarrow as pa

    data: dict[str, Any] = {"frame_id": pa.array(columns.frame_id)}
    for mark, ns in columns.marks.items():
        data[mark] = _with_gaps(ns, MISSING)
    if columns.size is not None:
        data["size"] = _with_gaps(columns.size, NO_SIZE)
    for name in Columns.OPTIONAL[1:]:
        column = getattr(columns, name)
        if column is not None:
            data[name] = _csv_column(column)
    data |= {name: _csv_column(tag) for name, tag in columns.tags.items()}
    for name in spans.names(pipeline):
        data[f"{name}_latency"] = _with_gaps(spans.latencies(pipeline, columns, name), MISSING)
    return pa.RecordBatch.from_pydict(data)


def _with_gaps(values: npt.NDArray[Any], absent: int) -> "pa.Array":
    import pyarrow as pa

    return pa.array(values, mask=values == absent)


def _csv_column(column: npt.NDArray[Any] | Labels) -> "pa.Array":
    import pyarrow as pa

    from latprof.io.arrow import strings

    if isinstance(column, Labels):
        names = [f"'{name}" if name.startswith(_FORMULA) else name for name in column.names]
        return strings([*names, None]).take(
            pa.array(np.where(column.codes < 0, len(names), column.codes))
        )
    if column.dtype.kind in "Mm":
        return _with_gaps(column.view(np.int64), MISSING)
    return pa.array(column, from_pandas=column.dtype.kind == "f")
