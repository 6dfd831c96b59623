"""What a person gives to `Trace`, checked and brought into the form of `Columns`."""

import contextlib
import datetime as dt
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from latprof.arrays import Ints, Mask
from latprof.errors import PipelineError, TraceError
from latprof.frames import MISSING, STAMP_LIMIT, Columns, Labels
from latprof.io import coerce
from latprof.names import check_name
from latprof.pipeline import Pipeline
from latprof.text import escape

__all__ = ["Moment", "columns", "moment"]

Moment = int | str | dt.datetime | np.datetime64


def columns(
    pipeline: Pipeline,
    *,
    frame_id: Any,
    marks: Mapping[str, Any],
    size: Any,
    source: Any,
    outcome: Any,
    cpu: Any,
    rss: Any,
    weight: Any,
    tags: Mapping[str, Any] | None,
) -> Columns:
    """Return the columns of what `Trace` was given; see there.

    Raises
    ------
    TraceError
        Something that a trace cannot be.
    """
    for name, value in (("marks", marks), ("tags", tags or {})):
        if not isinstance(value, Mapping):
            raise TraceError(f"{name} is {type(value).__name__}: give a dict of arrays")
    ids = coerce.frame_ids(*_array(frame_id, "frame_id"))
    stamps, complete = _checked_marks(pipeline, marks, len(ids))
    result = Columns(ids, stamps, complete=complete)
    result.size = _size(size, len(ids))
    result.source = _names(source, "source", len(ids))
    result.outcome = _names(outcome, "outcome", len(ids))
    if cpu is not None:
        result.cpu = coerce.percents(*_array(cpu, "cpu"))
    if rss is not None:
        result.rss = coerce.memory(*_array(rss, "rss"))
    if weight is not None:
        result.weight = coerce.weights(*_array(weight, "weight"))
    for name, value in (tags or {}).items():
        result.tags[_tag_name(name, pipeline, tags or {})] = _tag(value, name)
    _check_lengths(result)
    return result


_ISO = re.compile(
    r"(\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d)?)?)(?:\.(\d{1,9}))?(Z|[+-]\d\d:?\d\d)?"
)


def moment(value: Moment, name: str) -> int:
    """Return a point in time as ns UTC."""
    if hasattr(value, "to_datetime64"):  # a pandas Timestamp is a datetime, but to the ns
        value = value.to_datetime64()
    if isinstance(value, str):
        match = _ISO.fullmatch(value.strip())
        if match is not None:
            try:
                whole = moment(dt.datetime.fromisoformat(match[1] + (match[3] or "")), name)
            except ValueError:
                pass
            else:
                return whole + int((match[2] or "0").ljust(9, "0"))
    elif isinstance(value, np.datetime64):
        if not np.isnat(value):
            return int(coerce.stamps(np.array([value]), None, name)[0][0])
    elif isinstance(value, dt.datetime):
        zoned = value.replace(tzinfo=dt.UTC) if value.tzinfo is None else value
        return (
            (zoned - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(microseconds=1) * 1_000
        )
    elif isinstance(value, bool):
        pass  # an int to Python
    elif isinstance(value, int | np.integer) and abs(int(value)) < STAMP_LIMIT:
        return int(value)
    raise TraceError(
        f"{name} {_shown(value)} is no time: give integer ns UTC, a datetime or ISO 8601 text"
    )


def _array(values: Any, what: str) -> tuple[npt.NDArray[Any], Mask | None]:
    """Return any sequence as numpy values and a mask of missing ones."""
    if isinstance(values, list | tuple) and values and not isinstance(values[0], str):
        with_numpy = _plain_numbers(values, what)
        values = values if with_numpy is None else with_numpy
    if isinstance(values, np.ndarray) and not isinstance(values, np.ma.MaskedArray):
        if values.ndim != 1:
            raise TraceError(f"{what} has shape {values.shape}: give a 1-D array")
        if values.dtype.kind in "iufbMm":
            return values.astype(values.dtype.newbyteorder("="), copy=False), None
    from latprof.io import arrow

    return arrow.numbers(arrow.from_sequence(values, what), what)


def _plain_numbers(values: list[Any] | tuple[Any, ...], what: str) -> npt.NDArray[Any] | None:
    """Return integers as they are; None for anything else."""
    if all(type(value) is int for value in values):
        for dtype in (np.int64, np.uint64):  # left to itself, numpy takes a float for [0, 2**63]
            with contextlib.suppress(OverflowError):
                return np.array(values, dtype)
        low, high = min(values), max(values)
        raise TraceError(
            f"{what} {high if high >= 2**63 else low} cannot be kept: no 64 bits hold "
            f"{low} to {high}, give other integers"
        )
    return None


def _checked_marks(
    pipeline: Pipeline, marks: Mapping[str, Any], length: int
) -> tuple[dict[str, Ints], frozenset[str]]:
    for mark in marks:
        if mark not in pipeline.marks:
            raise TraceError(
                f"{_shown(mark)} is no mark of pipeline {pipeline.name!r}: "
                f"use {', '.join(pipeline.marks)}"
            )
    stamps, complete = {}, []
    for mark in pipeline.marks:
        if marks.get(mark) is None:
            stamps[mark] = np.full(length, MISSING)
            continue
        what = f"mark {mark!r}"
        stamps[mark], whole = coerce.stamps(*_array(marks[mark], what), what)
        if whole:
            complete.append(mark)
    return stamps, frozenset(complete)


def _size(size: Any, length: int) -> npt.NDArray[np.uint32] | None:
    if size is None:
        return None
    if np.ndim(size) == 0:
        size = np.full(length, size)
    return coerce.sizes(*_array(size, "size"))


def _names(names: Any, what: str, length: int) -> Labels | None:
    if names is None:
        return None
    if isinstance(names, str):
        return Labels.constant(names, length)
    if isinstance(names, Labels):
        if names.codes.ndim != 1 or (
            len(names) and not -1 <= names.codes.min() <= names.codes.max() < len(names.names)
        ):
            raise TraceError(f"{what} has codes outside its names: give codes from -1 up")
        return names
    from latprof.io import arrow

    return arrow.to_labels(arrow.from_sequence(names, what), what)


def _tag(values: Any, name: str) -> npt.NDArray[Any] | Labels:
    if isinstance(values, Labels):
        return _names(values, f"tag {name!r}", len(values)) or values
    from latprof.io import arrow

    return arrow.tag(arrow.from_sequence(values, f"tag {name!r}"), name)


def _tag_name(name: object, pipeline: Pipeline, tags: Mapping[str, Any]) -> str:
    try:
        checked = check_name(name, "tag")
    except PipelineError as error:
        raise TraceError(str(error)) from None
    if checked in pipeline.marks:
        raise TraceError(f"tag {checked!r} is a mark of the pipeline: rename the tag")
    for other in (*pipeline.marks, *tags):
        if other != checked and str(other).casefold() == checked.casefold():
            raise TraceError(
                f"tag {checked!r} and {_shown(other)} differ by case alone: rename the tag, "
                "some tools that read the trace ignore case"
            )
    return checked


def _shown(name: object) -> str:
    return repr(escape(name)) if isinstance(name, str) else repr(name)


def _check_lengths(columns: Columns) -> None:
    named: Iterable[tuple[str, Any]] = (
        *((f"mark {mark!r}", ns) for mark, ns in columns.marks.items()),
        *((name, getattr(columns, name)) for name in Columns.OPTIONAL),
        *((f"tag {name!r}", tag) for name, tag in columns.tags.items()),
    )
    for what, column in named:
        if column is not None and len(column) != len(columns):
            raise TraceError(
                f"{what} has {len(column)} rows and frame_id has {len(columns)}: "
                "give arrays of one length"
            )
