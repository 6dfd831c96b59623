"""Checks columns of users and files, and brings them into the types of `Columns`.

No function here rounds, wraps or cuts: a value that cannot be kept exactly is refused.
"""

import contextlib
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from latprof.arrays import Mask
from latprof.errors import PipelineError, TraceError
from latprof.frames import MISSING, NO_SIZE, Columns, Labels, check_stamps
from latprof.pipeline import Pipeline
from latprof.text import check_name, quoted, shown_path

__all__ = [
    "check_known",
    "check_tag_name",
    "columns_of",
    "columns_of_arguments",
    "columns_of_table",
]


def check_known(
    names: Iterable[str], known: Sequence[str], path: str | os.PathLike[str]
) -> tuple[str, ...]:
    """Return the names of columns that are to be read from a file.

    Raises
    ------
    TraceError
        One of them is not among the `known` ones.
    """
    wanted = tuple(names)
    for name in wanted:
        if name not in known:
            raise TraceError(
                f"{shown_path(path)}: a column must be one of {', '.join(known)}, got "
                f"{quoted(name)}"
            )
    return wanted


# by column: its type, what a missing value becomes, and the lowest value
_INTEGERS: dict[str, tuple[type[np.integer[Any]], int, int]] = {
    "frame_id": (np.uint64, 0, 0),
    "size": (np.uint32, NO_SIZE, 0),
    "rss": (np.uint64, 0, 0),
    "weight": (np.uint32, 1, 1),
}

# -- arrays: `missing` is a mask of missing values, or None ---------------------------------------


def _frame_ids(values: npt.NDArray[Any], missing: Mask | None) -> npt.NDArray[Any]:
    if missing is not None and missing.any():
        raise TraceError(
            f"frame_id must not be missing, got {np.count_nonzero(missing)} of {len(values)} rows "
            "without an id; leave out these rows"
        )
    return _integers("frame_id", values, None)


def _numbers(name: str, values: npt.NDArray[Any], missing: Mask | None) -> npt.NDArray[Any]:
    """Return the column size, cpu, rss or weight.

    Floating-point numbers without a fraction, and NaN, are accepted as integers: pandas stores
    integers with gaps in this way.
    """
    if missing is not None and missing.all():
        values = np.zeros(len(values), np.int8)
    if name == "cpu":
        if values.dtype.kind not in "iuf":
            raise TraceError(f"cpu must be numbers, got {values.dtype}")
        percents = values.astype(np.float32, copy=missing is not None)
        if missing is not None:
            percents[missing] = np.nan
        return percents
    if values.dtype.kind == "f":
        gaps = np.isnan(values)
        integral = np.where(gaps, 0, values)
        if np.all((integral == np.floor(integral)) & (np.abs(integral) < 2.0**53)):
            missing = gaps if missing is None else gaps | missing
            values = integral.astype(np.int64)
    return _integers(name, values, missing)


def _integers(name: str, values: npt.NDArray[Any], missing: Mask | None) -> npt.NDArray[Any]:
    dtype, absent, low = _INTEGERS[name]
    if values.dtype.kind not in "iu":
        raise TraceError(f"{name} must be integers, got {values.dtype}; latprof does not round")
    present = values if missing is None else values[~missing]
    if values.dtype != dtype or low:
        high = int(np.iinfo(dtype).max)
        for extreme in (int(present.min()), int(present.max())) if len(present) else ():
            if not low <= extreme <= high:
                raise TraceError(f"{name} must be from {low} to {high}, got {extreme}")
    if missing is None:
        return values.astype(dtype, copy=False)
    result = values.astype(dtype)
    result[missing] = absent
    return result


# -- columns of any kind --------------------------------------------------------------------------


def columns_of(
    frame_id: Any, marks: Mapping[str, Any], optional: Mapping[str, Any], tags: Mapping[str, Any]
) -> Columns:
    """Return columns, by name, as `Columns`; a mark given as None is missing in all frames.

    Raises
    ------
    TraceError
        Values of a wrong type, or that cannot be kept exactly.
    """
    columns = Columns(_frame_ids(*_array(frame_id, "frame_id")), {})
    complete = []
    for mark, values in marks.items():
        if values is None:
            columns.marks[mark] = np.full(len(columns), MISSING)
            continue
        what = f"mark {mark!r}"
        columns.marks[mark], is_complete = check_stamps(*_array(values, what), what)
        if is_complete:
            complete.append(mark)
    columns.complete = frozenset(complete)
    for name, values in optional.items():
        if name in ("source", "outcome"):
            column: Any = _labels(values, name, len(columns))
        else:
            if name == "size" and (np.isscalar(values) or getattr(values, "ndim", 1) == 0):
                values = np.full(len(columns), values)
            column = _numbers(name, *_array(values, name))
        setattr(columns, name, column)
    columns.tags = {name: _tag(values, name) for name, values in tags.items()}
    return columns


def columns_of_table(table: Any, names: Iterable[str], plan: Any, pipeline: Pipeline) -> Columns:
    """Return those columns of a table that are in `names`; marks that it lacks are missing.

    Parameters
    ----------
    names
        Marks of the pipeline, columns of `Columns.OPTIONAL` and tags of the plan.

    Raises
    ------
    TraceError
        A column of a wrong type, or with values that cannot be kept.
    """
    wanted = frozenset(names)
    column = {name: table.column(name) for name in plan.names if name in {"frame_id", *wanted}}
    return columns_of(
        column["frame_id"],
        {mark: column.get(mark) for mark in pipeline.marks if mark in wanted},
        {name: column[name] for name in plan.optional if name in wanted},
        {name: column[name] for name in plan.tags if name in wanted},
    )


def columns_of_arguments(
    pipeline: Pipeline,
    frame_id: Any,
    marks: Mapping[str, Any],
    optional: Mapping[str, Any],
    tags: Mapping[str, Any],
) -> Columns:
    """Return the columns for the arguments of `Trace`; see there.

    Raises
    ------
    TraceError
        An argument of a wrong type, or values that cannot be kept exactly.
    """
    for what, value in (("marks", marks), ("tags", tags)):
        if not isinstance(value, Mapping):
            raise TraceError(f"{what} must be a dict of arrays, got {quoted(value)}")
    for mark in marks:
        if mark not in pipeline.marks:
            raise TraceError(
                f"marks must be those of pipeline {pipeline.name!r} "
                f"({', '.join(pipeline.marks)}), got {quoted(mark)}"
            )
    for name in tags:
        check_tag_name(name, pipeline, tags)
    if not all(_has_no_zone(values) for values in marks.values()):
        _arrow().check_zones(marks)
    all_marks = {mark: marks.get(mark) for mark in pipeline.marks}
    given = {name: values for name, values in optional.items() if values is not None}
    columns = columns_of(frame_id, all_marks, given, tags)
    _check_lengths(columns)
    return columns


def _has_no_zone(values: Any) -> bool:
    """Return whether no value can have a time zone; pyarrow is not needed for the answer."""
    if isinstance(values, np.ndarray):
        return bool(values.dtype.kind != "O")
    return values is None or _is_integers(values)


def _is_integers(values: Any) -> bool:
    """Return whether values are a list or tuple of integers that is not empty."""
    if not isinstance(values, list | tuple):
        return False
    return len(values) > 0 and all(type(each) is int for each in values)


def _array(values: Any, what: str) -> tuple[npt.NDArray[Any], Mask | None]:
    """Return any sequence as numpy values and a mask of missing ones."""
    if _is_integers(values):
        values = _integer_array(values, what)
    plain = isinstance(values, np.ndarray) and not isinstance(values, np.ma.MaskedArray)
    if plain and values.ndim == 1 and values.dtype.kind in "iufbMm":
        return values.astype(values.dtype.newbyteorder("="), copy=False), None
    found: tuple[npt.NDArray[Any], Mask | None]
    found = _arrow().numbers(_arrow().from_sequence(values, what), what)
    return found


def _integer_array(values: list[int] | tuple[int, ...], what: str) -> npt.NDArray[Any]:
    for dtype in (np.int64, np.uint64):  # by itself numpy makes floats of [0, 2**63]
        with contextlib.suppress(OverflowError):
            return np.array(values, dtype)
    low, high = min(values), max(values)
    raise TraceError(
        f"{what} must fit 64 bits, got {quoted(high if high >= 2**63 else low)} among integers "
        f"from {quoted(low)} to {quoted(high)}"
    )


def _labels(names: Any, what: str, length: int) -> Labels:
    if isinstance(names, str):
        return Labels.constant(names, length)
    if isinstance(names, Labels):
        codes = names.codes
        if codes.ndim != 1 or (
            len(codes) and not -1 <= codes.min() <= codes.max() < len(names.names)
        ):
            found = f"{codes.min()} to {codes.max()}" if codes.ndim == 1 else f"shape {codes.shape}"
            raise TraceError(
                f"the codes of {what} must be one array of integers from -1 (none) to "
                f"{len(names.names) - 1}, got {found}"
            )
        return names
    if isinstance(names, list | tuple) and all(isinstance(n, str | None) for n in names):
        return Labels.encode(names)
    labels: Labels = _arrow().to_labels(_arrow().from_sequence(names, what), what)
    return labels


def _tag(values: Any, name: str) -> npt.NDArray[Any] | Labels:
    if isinstance(values, Labels):
        return _labels(values, f"tag {name!r}", len(values))
    tag: npt.NDArray[Any] | Labels
    tag = _arrow().tag(_arrow().from_sequence(values, f"tag {name!r}"), name)
    return tag


def check_tag_name(name: object, pipeline: Pipeline, tags: Iterable[object]) -> None:
    """Refuse a name that a tag of the pipeline must not have, or that resembles another tag's.

    Raises
    ------
    TraceError
        The name is invalid.
    """
    try:
        checked = check_name(name, "tag")
    except PipelineError as error:
        raise TraceError(str(error)) from None
    if checked in pipeline.marks:
        raise TraceError(f"tag {checked!r} must not be a mark of the pipeline; rename the tag")
    for other in (*pipeline.marks, *tags):
        if other != checked and str(other).casefold() == checked.casefold():
            raise TraceError(
                f"tag {checked!r} must differ from {quoted(other)} by more than case; rename it, "
                "some tools that read traces ignore case"
            )


def _check_lengths(columns: Columns) -> None:
    named: Iterable[tuple[str, Any]] = (
        *((f"mark {mark!r}", ns) for mark, ns in columns.marks.items()),
        *columns.optional.items(),
        *((f"tag {name!r}", tag) for name, tag in columns.tags.items()),
    )
    for what, column in named:
        if len(column) != len(columns):
            raise TraceError(
                f"{what} must have as many rows as frame_id ({len(columns)}), got {len(column)}"
            )


def _arrow() -> Any:
    """Return the module for columns of Arrow, which loads pyarrow."""
    from latprof.io import arrow

    return arrow
