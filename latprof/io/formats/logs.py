"""Logs of frames and requests: their text columns, and frames made from lengths of stages."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from latprof.arrays import Ints
from latprof.errors import TraceError
from latprof.frames import MISSING, Columns, Labels
from latprof.io import arrow
from latprof.io.formats.columns import MISSING_TEXTS, NUMBERED, UNREADABLE
from latprof.io.formats.sources import CsvSource
from latprof.io.formats.stages import Frames, marks_of_stages, stages_pipeline
from latprof.io.formats.times import TimeForm, to_ns
from latprof.io.paths import StrPath
from latprof.text import counted

__all__ = ["UNREADABLE_VALUES", "Frames", "Log", "frames_of_lengths", "times_of"]

UNREADABLE_VALUES = "values that cannot be read"
"""The name of their number among the notes of the accounts; for rows it is `UNREADABLE`."""

_MOST_ROWS = 50_000_000  # of a table that is held in memory


class Log:
    """Text columns of a log, with counts of rows and values that cannot be read.

    Parameters
    ----------
    columns
        (n,) each, by name in small letters.
    unreadable
        Number of rows that were left out, as they cannot be read.

    Attributes
    ----------
    rows
        Number of rows, n.
    notes
        Numbers of unreadable rows and values, by name.
    """

    def __init__(self, columns: Mapping[str, pa.Array], unreadable: int = 0) -> None:
        self.columns = columns
        self.rows = len(next(iter(columns.values())))
        self.notes = Counter({UNREADABLE_VALUES: 0, UNREADABLE: unreadable})

    @classmethod
    def of_csv(cls, path: StrPath) -> "Log":
        """Return all columns of a CSV file.

        Raises
        ------
        TraceError
            The file is not a table, or has too many rows for the memory.
        """
        source = CsvSource(os.fspath(path), MISSING_TEXTS)
        tables, skipped, rows = [], 0, 0
        for make in source.batches(dict.fromkeys(source.names, pa.string())):
            batch = make()
            tables.append(batch.table)
            skipped += len(batch.skipped)
            rows += batch.table.num_rows
            if rows > _MOST_ROWS:
                raise TraceError(f"the table must have at most {_MOST_ROWS:,} rows; cut the file")
        if not rows:
            raise TraceError("the table must have rows, got none; record again")
        whole = pa.concat_tables(tables)
        found: dict[str, pa.Array] = {}
        for name in source.names:
            found.setdefault(name.strip().lower(), whole.column(name).combine_chunks())
        return cls(found, skipped)

    def times(self, unit: str, *names: str) -> Ints:
        """Return the first existing one of these columns in ns (n,), all `MISSING` without one."""
        column = next((self.columns[name] for name in names if name in self.columns), None)
        return np.full(self.rows, MISSING) if column is None else times_of(column, unit, self.notes)

    def names(self, column: str) -> Labels:
        """Return a column as names (n,); if it does not exist, all are missing."""
        if column not in self.columns:
            return Labels.constant(None, self.rows)
        return arrow.to_labels(self.columns[column], "names")


def times_of(column: pa.Array, unit: str, notes: Counter[str]) -> Ints:
    """Return numbers of `unit` in ns; unreadable ones are `MISSING` and are counted in `notes`."""
    ns, wrong = to_ns(column, TimeForm("decimal", unit, 18))
    if wrong is None:
        return ns
    notes[UNREADABLE_VALUES] += int(wrong.sum())
    return np.where(wrong, MISSING, ns)


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
    columns = Columns(
        np.arange(len(end), dtype=np.uint64),
        marks_of_stages(pipeline, begin, list(stages.values()), stop),
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
