"""What a joined frame is made of: of every column the first recording that has a value."""

from typing import Any

import numpy as np
import numpy.typing as npt

from latprof.arrays import Mask
from latprof.frames import (
    CAME_TWICE,
    FINISHED,
    LOST_IN_TRANSIT,
    NO_SIZE,
    Columns,
    Labels,
    as_text,
    common_dtype,
)
from latprof.joining.recordings import Part

__all__ = ["outcomes", "take_the_rest"]


def outcomes(
    parts: list[Part], first: Part, last: Part, frames: int
) -> tuple[Labels, dict[str, int]]:
    """Return the outcome of every row, and how many frames matched and did not.

    Parameters
    ----------
    parts
        The recordings along the pipeline, `rows` aligned.
    first, last
        The owners of ``start`` and ``end``.
    frames
        How many of the rows are frames; the others came twice.
    """
    own = [FINISHED, LOST_IN_TRANSIT, CAME_TWICE]
    columns = [part.columns.outcome or Labels.constant(None, len(part.columns)) for part in parts]
    table = Labels.concat([Labels.encode(own), *columns])
    finished, lost, twice = range(len(own))  # their codes: they come first in the table
    codes = np.full(len(last.rows), -1, np.int32)
    ends = np.cumsum([len(own), *map(len, columns)])[:-1]
    by_part = list(zip(parts, np.split(table.codes, ends)[1:], strict=True))
    # the one furthest down the pipeline has the last word, the owner of `end` before all
    for part, outcome in sorted(by_part, key=lambda pair: pair[0] is last):
        there = part.rows >= 0
        codes[there] = outcome[part.rows[there]]
    codes[codes < 0] = finished
    in_first, in_last = first.rows[:frames] >= 0, last.rows[:frames] >= 0
    in_all = np.logical_and.reduce([part.rows[:frames] >= 0 for part in parts])
    in_transit = ~in_last & (codes[:frames] == finished)
    codes[:frames][in_transit] = lost
    codes[frames:][codes[frames:] == finished] = twice
    counts = {
        "matched": in_all,
        "skipped": in_first & in_last & ~in_all,
        "lost_in_transit": in_transit,
        "dropped": ~in_last & ~in_transit,
        "without_origin": in_last & ~in_first,
    }
    named = {name: int(np.count_nonzero(mask)) for name, mask in counts.items()}
    return Labels(codes, table.names), named | {"came_twice": len(codes) - frames}


def take_the_rest(result: Columns, parts: list[Part]) -> None:
    """Put source, size, CPU, memory, weight and tags into `result`."""
    columns = [part.columns for part in parts]
    result.source = _first_labels(parts, [c.source for c in columns])
    for name, absent in (("size", NO_SIZE), ("cpu", np.nan), ("rss", 0), ("weight", None)):
        arrays = [getattr(c, name) for c in columns]
        values, gaps = _first_values(parts, arrays, absent)
        if values is not None:
            values[gaps] = 1 if absent is None else absent
            setattr(result, name, values)
    for name in dict.fromkeys(name for c in columns for name in c.tags):
        result.tags[name] = _tag(parts, [c.tags.get(name) for c in columns])


def _first_values(
    parts: list[Part], columns: list[npt.NDArray[Any] | None], absent: object
) -> tuple[Any, Mask]:
    """Return each frame's value in the first part that has one, and where none has."""
    gaps = np.ones(len(parts[0].rows), bool)
    present = [column for column in columns if column is not None]
    if not present:
        return None, gaps
    values = np.zeros(len(gaps), np.result_type(*present))
    for part, column in zip(parts, columns, strict=True):
        if column is None:
            continue
        there = np.flatnonzero(gaps & (part.rows >= 0))
        taken = column[part.rows[there]]
        if column.dtype.kind in "fmM":
            known = taken == taken  # NaN and NaT are not
        else:
            known = np.full(len(taken), True) if absent is None else taken != absent
        values[there[known]] = taken[known]
        gaps[there[known]] = False
    return values, gaps


def _first_labels(parts: list[Part], columns: list[Labels | None]) -> Labels | None:
    present = [column for column in columns if column is not None]
    if not present:
        return None
    table = Labels.concat(present)
    codes = iter(np.split(table.codes, np.cumsum([len(column) for column in present])[:-1]))
    result = np.full(len(parts[0].rows), -1, np.int32)
    for part, column in zip(parts, columns, strict=True):
        if column is not None:
            there = (result < 0) & (part.rows >= 0)
            result[there] = next(codes)[part.rows[there]]
    return Labels(result, table.names)


def _tag(
    parts: list[Part], columns: list[npt.NDArray[Any] | Labels | None]
) -> npt.NDArray[Any] | Labels:
    arrays = [column for column in columns if isinstance(column, np.ndarray)]
    text = any(isinstance(column, Labels) for column in columns)
    if not text and common_dtype(arrays, gaps=False) is not None:
        values, gaps = _first_values(parts, columns, None)  # type: ignore[arg-type]
        dtype = common_dtype(arrays, gaps=bool(gaps.any()))
        if dtype is not None:
            values = values.astype(dtype)
            if gaps.any():
                values[gaps] = np.array("NaT" if dtype.kind in "Mm" else np.nan, dtype)
            return values  # type: ignore[no-any-return]
    # text in one of them, or nothing else that keeps all values
    labels = _first_labels(parts, [None if c is None else as_text(c) for c in columns])
    assert labels is not None
    return labels
