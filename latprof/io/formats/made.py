"""What readers of logs of frames and requests share: text columns, frames of lengths."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from latprof.arrays import Ints
from latprof.errors import TraceError
from latprof.frames import MISSING, Columns, Labels
from latprof.io import arrow
from latprof.io.formats.columns import MISSING_TEXTS, NUMBERED
from latprof.io.formats.sources import CsvSource
from latprof.io.formats.stages import marks_of_stages, stages_pipeline
from latprof.io.formats.times import TimeForm, to_ns
from latprof.io.paths import StrPath
from latprof.pipeline import Pipeline
from latprof.text import counted

__all__ = [
    "UNREADABLE_VALUES",
    "Frames",
    "frames_of_lengths",
    "names_of",
    "text_columns",
    "times_of",
]

UNREADABLE_VALUES = "values that cannot be read"
"""The note on how many there are; `UNREADABLE` is that on rows."""

Frames = tuple[Pipeline, Columns, dict[str, Any]]

_MOST_ROWS = 50_000_000


def text_columns(path: StrPath) -> tuple[dict[str, pa.Array], int]:
    """Return all columns of a CSV file as text, by name in small letters, and unreadable rows.

    Raises
    ------
    TraceError
        The file is not a table, or has too many rows for the memory.
    """
    source = CsvSource(os.fspath(path), MISSING_TEXTS)
    tables, skipped, rows = [], 0, 0
    for make in source.batches(list(source.names), {}):
        batch = make()
        tables.append(batch.table)
        skipped += len(batch.skipped)
        rows += batch.table.num_rows
        if rows > _MOST_ROWS:
            raise TraceError(f"the table must have at most {_MOST_ROWS:,} rows; cut the file")
    if not rows:
        raise TraceError("the table must have rows, got none")
    whole = pa.concat_tables(tables)
    found: dict[str, pa.Array] = {}
    for name in source.names:
        column = whole.column(name).combine_chunks()
        found.setdefault(name.strip().lower(), column)
    return found, skipped


def times_of(column: pa.Array | None, unit: str, rows: int) -> tuple[Ints, int]:
    """Return numbers of a unit in ns, `MISSING` if there are none, and how many are unreadable."""
    if column is None:
        return np.full(rows, MISSING), 0
    ns, wrong = to_ns(column, TimeForm("decimal", unit, 18))
    if wrong is None:
        return ns, 0
    return np.where(wrong, MISSING, ns), int(wrong.sum())


def names_of(column: pa.Array | None, rows: int) -> Labels:
    """Return a column of text as names."""
    return Labels.constant(None, rows) if column is None else arrow.to_labels(column, "names")


def frames_of_lengths(
    name: str,
    start: Ints | None,
    stages: Mapping[str, Ints],
    end: Ints,
    *,
    said: Sequence[str] = (),
    notes: Mapping[str, int] | None = None,
    tags: Mapping[str, Any] | None = None,
    **optional: Any,
) -> Frames:
    """Return frames with stages that follow each other.

    Parameters
    ----------
    name
        Of the pipeline.
    start
        (n,) ns, or None if only lengths are known.
    stages
        (n,) ns by stage; `MISSING` if a frame does not have the stage.
    end
        (n,) ns from the start; `MISSING` if a frame has no end.
    said, notes
        Sentences on what was assumed; what was odd, counted.
    tags, optional
        Further columns.
    """
    pipeline = stages_pipeline(name, list(stages))
    begin = np.zeros(len(end), np.int64) if start is None else start
    known = (begin != MISSING) & (end != MISSING)
    stop = np.where(known, begin + np.where(known, end, 0), MISSING)
    lengths = [np.where(begin != MISSING, each, MISSING) for each in stages.values()]
    marks = marks_of_stages(pipeline, begin, lengths, stop)
    columns = Columns(
        np.arange(len(end), dtype=np.uint64),
        {mark: marks[mark] for mark in pipeline.marks},
        tags=dict(tags or {}),
        **optional,
    )
    meta: dict[str, Any] = {
        "reading": [f"{counted(len(end), 'frame')} of {name}", *said],
        "accounts": {"notes": {what: n for what, n in (notes or {}).items() if n}},
    }
    if start is None:
        meta["untimed"] = True
    else:
        meta["reading"].append(NUMBERED)
    return pipeline, columns, meta
