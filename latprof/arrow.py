"""Columns <-> Arrow: one set of rules for files, DataFrames and lists.

Loads pyarrow; `latprof` itself does not import this module when it is imported.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from latprof import intake
from latprof.columns import MISSING, NO_SIZE, Columns, Labels
from latprof.errors import PipelineError, TraceError
from latprof.pipeline import Pipeline, check_name
from latprof.units import escape

__all__ = [
    "STAMP",
    "Plan",
    "UnkeptType",
    "from_sequence",
    "numbers",
    "plan",
    "record_batch",
    "tag",
    "to_columns",
    "to_labels",
]

STAMP = pa.timestamp("ns")
"""Without a zone, UTC: some readers keep only microseconds of a column with one."""

NAMES = pa.dictionary(pa.int32(), pa.string())

# columns that to_pandas adds and other tools leave behind: derived, so not worth a word
_DERIVED = re.compile(r".*_latency|__index_level_\d+__")


class UnkeptType(TraceError):
    """A column of a type that a trace does not keep."""


# -- Columns to Arrow -----------------------------------------------------------------------------


def record_batch(columns: Columns) -> pa.RecordBatch:
    """Return the columns of a trace file, in its order; copies nothing that is not missing."""
    arrays: dict[str, pa.Array] = {"frame_id": pa.array(columns.frame_id)}
    for mark, ns in columns.marks.items():
        gaps = None if mark in columns.complete else ns == MISSING
        arrays[mark] = pa.array(ns, mask=gaps if gaps is not None and gaps.any() else None).view(
            STAMP
        )
    if columns.size is not None:
        gaps = columns.size == NO_SIZE
        arrays["size"] = pa.array(columns.size, mask=gaps if gaps.any() else None)
    for name in ("source", "outcome"):
        labels = getattr(columns, name)
        if labels is not None:
            arrays[name] = from_labels(labels)
    if columns.cpu is not None:
        arrays["cpu"] = pa.array(columns.cpu, from_pandas=True)  # NaN is null
    for name in ("rss", "weight"):
        if getattr(columns, name) is not None:
            arrays[name] = pa.array(getattr(columns, name))
    for name, tag in columns.tags.items():
        arrays[name] = from_labels(tag) if isinstance(tag, Labels) else pa.array(tag)
    return pa.RecordBatch.from_pydict(arrays)


def from_labels(labels: Labels) -> pa.DictionaryArray:
    """Return dictionary strings; of a long table of names only those that are used."""
    codes, names = labels.codes, labels.names
    if len(names) > 64:
        used = np.unique(codes[codes >= 0])
        if len(used) < len(names):
            moved = np.full(len(names) + 1, -1, np.int32)  # the last entry is what -1 finds
            moved[used] = np.arange(len(used), dtype=np.int32)
            codes, names = moved[codes], tuple(names[i] for i in used.tolist())
    gaps = codes < 0
    indices = pa.array(codes, mask=gaps if gaps.any() else None)
    return pa.DictionaryArray.from_arrays(indices, pa.array(names, pa.string()))


# -- Arrow to numpy -------------------------------------------------------------------------------


def _one_chunk(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    if not isinstance(column, pa.ChunkedArray):
        return column
    if column.num_chunks == 1:
        return column.chunk(0)
    if pa.types.is_dictionary(column.type):
        column = column.unify_dictionaries()
    return column.combine_chunks()


def numbers(
    column: pa.Array | pa.ChunkedArray, what: str
) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_] | None]:
    """Return values and a mask of missing ones (None: none is), a view where nothing is missing.

    Timestamps come as datetime64 of their unit in UTC, whatever their zone.

    Raises
    ------
    UnkeptType
        Neither numbers nor bools nor times.
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = _one_chunk(column).dictionary_decode()
        kind = column.type
    array = _one_chunk(column)
    if pa.types.is_null(kind):
        return np.zeros(len(array), np.int8), np.ones(len(array), bool)
    unit = None
    if pa.types.is_timestamp(kind) or pa.types.is_duration(kind):
        unit = f"{'M' if pa.types.is_timestamp(kind) else 'm'}8[{kind.unit}]"
        array = array.view(pa.int64())
    elif pa.types.is_date(kind):
        unit = "M8[D]"
        array = pc.cast(array, pa.date32()).view(pa.int32()).cast(pa.int64())
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        raise UnkeptType(f"{what} is {_type_name(kind)}: give numbers")
    missing = None
    if array.null_count:
        missing = array.is_null().to_numpy(zero_copy_only=False)
        if unit is not None:
            array = array.fill_null(MISSING)
        else:
            array = array.fill_null(False if pa.types.is_boolean(kind) else 0)
    values = array.to_numpy(zero_copy_only=False)
    return values if unit is None else values.view(unit), missing


def to_labels(column: pa.Array | pa.ChunkedArray, what: str) -> Labels:
    """Return names from strings or dictionary strings of any kind; whole numbers as text.

    Raises
    ------
    UnkeptType
        Neither text nor integers.
    TraceError
        Text that is no UTF-8.
    """
    kind = column.type
    values = kind.value_type if pa.types.is_dictionary(kind) else kind
    if pa.types.is_null(values):
        return Labels.constant(None, len(column))
    if pa.types.is_integer(values):
        if pa.types.is_dictionary(kind):
            column = _one_chunk(column).dictionary_decode()
        column = column.cast(pa.string())
    elif not _is_text(values):
        raise UnkeptType(f"{what} is {_type_name(kind)}: give text")
    array = _one_chunk(column)
    if not pa.types.is_dictionary(array.type):
        array = pc.dictionary_encode(array)
    try:
        names = array.dictionary.to_pylist()
    except UnicodeDecodeError as error:
        raise TraceError(f"{what} has text that is no UTF-8 ({error.reason}): rewrite it") from None
    indices = array.indices
    if indices.null_count:
        indices = indices.cast(pa.int64()).fill_null(-1)
    codes = indices.cast(pa.int32()).to_numpy()
    if len(codes) and not (codes.min() >= -1 and codes.max() < len(names)):
        raise TraceError(f"{what} has a dictionary that lacks entries: take an undamaged copy")
    if None in names or len(set(names)) < len(names):
        # a dictionary may name one value twice, or have a null among its values
        known: dict[str, int] = {}
        moved = [-1 if n is None else known.setdefault(n, len(known)) for n in names]
        codes, names = np.array([*moved, -1], np.int32)[codes], list(known)
    return Labels(codes, tuple(names))


def _is_text(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _type_name(kind: pa.DataType) -> str:
    name = escape(str(kind))
    return name if len(name) <= 40 else name[:37] + "..."


def tag(column: pa.Array | pa.ChunkedArray, name: str) -> npt.NDArray[Any] | Labels:
    """Return a tag: text as `Labels`, numbers, bools and times as they are.

    numpy has no missing integers or bools: with gaps, integers become float64 where that is
    exact, else text; bools become text.

    Raises
    ------
    UnkeptType
        Nested, binary, decimal, times of day: not kept.
    """
    what = f"tag {name!r}"
    kind = column.type
    values = kind.value_type if pa.types.is_dictionary(kind) else kind
    if _is_text(values) or pa.types.is_null(values):
        return to_labels(column, what)
    array, missing = numbers(column, what)
    if array.dtype.kind in "Mm":
        return _nanoseconds(array, what)
    if missing is None:
        return array
    if array.dtype.kind == "f":
        array = array.astype(array.dtype)
        array[missing] = np.nan
        return array
    if array.dtype.kind in "iu" and not np.any(
        np.where(missing, 0, array).astype(np.float64).astype(array.dtype) != array
    ):
        as_float = array.astype(np.float64)
        as_float[missing] = np.nan
        return as_float
    return to_labels(_one_chunk(column).cast(pa.string()), what)


def _nanoseconds(times: npt.NDArray[Any], what: str) -> npt.NDArray[Any]:
    if times.dtype.kind == "m":  # a duration keeps its meaning under the rules of a stamp
        unit = times.dtype.str.replace("m8", "M8")
        return intake.stamps(times.view(unit), None, what).view("m8[ns]")
    return intake.stamps(times, None, what).view("M8[ns]")


# -- a table's plan -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Plan:
    """Which column of a table becomes what.

    `marks` are those that the table has; `text` are columns of plain strings, which are best
    read as dictionaries; `dropped` are the columns that a trace cannot keep, with the reason.
    """

    marks: tuple[str, ...]
    optional: tuple[str, ...]
    tags: tuple[str, ...]
    text: tuple[str, ...] = ()
    dropped: dict[str, str] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """All columns that are read."""
        return ("frame_id", *self.marks, *self.optional, *self.tags)


def plan(schema: pa.Schema, pipeline: Pipeline) -> Plan:
    """Return what the columns of a table are for `pipeline`.

    Tags that cannot be kept (nested or binary columns, names that are no identifiers or
    reserved) are left out and listed; `<span>_latency` columns are derived, so left out.

    Raises
    ------
    TraceError
        No frame_id, no mark at all, a name that stands twice, a name that differs from a mark
        or a column by case alone.
    """
    names = list(schema.names)
    for name in set(names):
        if names.count(name) > 1:
            raise TraceError(f"column {_name(name)} stands there twice: rename one")
    if "frame_id" not in names:
        raise TraceError(
            f"has no column 'frame_id' (there are {_listed(names)}): rename the one that has "
            "the frames' ids"
        )
    marks = tuple(mark for mark in pipeline.marks if mark in names)
    if not marks:
        raise TraceError(
            f"has none of the marks {', '.join(pipeline.marks)} of pipeline {pipeline.name!r} "
            f"(there are {_listed(names)}): rename its columns or give another pipeline"
        )
    known = {name.casefold(): name for name in ("frame_id", *pipeline.marks, *Columns.OPTIONAL)}
    tags, text, dropped = [], [], {}
    for name in names:
        own = known.setdefault(name.casefold(), name)
        if own != name:
            raise TraceError(
                f"column {_name(name)} differs from {_name(own)} by case alone: rename one"
            )
        kind = schema.field(name).type
        if _is_text(kind):
            text.append(name)
        if name in marks or name in Columns.OPTIONAL or name == "frame_id":
            continue
        if _DERIVED.fullmatch(name):
            continue
        try:
            check_name(name, "column")
            if not _is_kept(kind):
                raise UnkeptType(f"column {name!r} is {_type_name(kind)}")
        except (PipelineError, UnkeptType) as error:
            dropped[escape(name)] = str(error)
        else:
            tags.append(name)
    optional = tuple(name for name in Columns.OPTIONAL if name in names)
    return Plan(marks, optional, tuple(tags), tuple(text), dropped)


def _is_kept(kind: pa.DataType) -> bool:
    types = pa.types
    if types.is_dictionary(kind):
        kind = kind.value_type
    return any(
        holds(kind)
        for holds in (
            *(_is_text, types.is_null, types.is_integer, types.is_floating, types.is_boolean),
            *(types.is_timestamp, types.is_date, types.is_duration),
        )
    )


def _name(name: str) -> str:
    return repr(escape(name) if len(name) <= 64 else escape(name[:61]) + "...")


def _listed(names: list[str]) -> str:
    shown = [_name(name) for name in names[:12]]
    return ", ".join([*shown, "..."] if len(names) > 12 else shown) or "no columns"


# -- a table's rows -------------------------------------------------------------------------------


def to_columns(
    table: pa.Table | pa.RecordBatch,
    names: Iterable[str],
    plan: Plan,
    pipeline: Pipeline,
) -> Columns:
    """Return the columns of a table that `names` asks for; marks that it lacks are missing.

    Parameters
    ----------
    names
        What to take of the pipeline's marks, `Columns.OPTIONAL` and the plan's tags.

    Raises
    ------
    TraceError
        A column of a wrong type, or with values that cannot be kept.
    """
    wanted = frozenset(names)
    columns = Columns(intake.frame_ids(*numbers(table.column("frame_id"), "frame_id")), {})
    complete = []
    for mark in pipeline.marks:
        if mark not in wanted:
            continue
        if mark not in plan.marks:
            columns.marks[mark] = np.full(table.num_rows, MISSING)
            continue
        column = table.column(mark)
        columns.marks[mark] = _stamps(column, mark)
        if not column.null_count and column.type == STAMP:
            complete.append(mark)
    columns.complete = frozenset(complete)
    for name in plan.optional:
        if name in wanted:
            setattr(columns, name, _optional(table.column(name), name))
    columns.tags = {name: tag(table.column(name), name) for name in plan.tags if name in wanted}
    return columns


def _stamps(column: pa.ChunkedArray, mark: str) -> npt.NDArray[np.int64]:
    try:
        values, missing = numbers(column, f"mark {mark!r}")
    except UnkeptType as error:
        raise TraceError(f"{str(error).removesuffix(': give numbers')}: give ns or times") from None
    return intake.stamps(values, missing, f"mark {mark!r}")


def _optional(column: pa.ChunkedArray, name: str) -> npt.NDArray[Any] | Labels:
    if name in ("source", "outcome"):
        return to_labels(column, name)
    values, missing = numbers(column, name)
    if name == "size":
        return intake.sizes(values, missing)
    if name == "cpu":
        return intake.percents(values, missing)
    if name == "rss":
        return intake.integers(values, missing, name, np.uint64, absent=0)
    return intake.integers(values, missing, name, np.uint32, absent=1, low=1)


def from_sequence(values: Any, what: str) -> pa.Array | pa.ChunkedArray:
    """Return lists, pandas columns, masked arrays as Arrow; None and NaN are missing.

    Raises
    ------
    TraceError
        Values of mixed types, or no sequence.
    """
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values
    if isinstance(values, np.ndarray):
        if values.ndim != 1:
            raise TraceError(f"{what} has shape {values.shape}: give a 1-D array")
        values = values.astype(values.dtype.newbyteorder("="), copy=False)
        if values.dtype.kind == "M":
            return pa.array(intake.stamps(values, None, what).view("M8[ns]"))
    if isinstance(values, str | bytes) or not hasattr(values, "__len__"):
        raise TraceError(f"{what} is {type(values).__name__}: give a sequence with a value a row")
    try:
        array = pa.array(values, from_pandas=True)
        if pa.types.is_timestamp(array.type) and array.type.unit == "us":
            # inferred from datetimes; pandas Timestamps among them may have nanoseconds
            array = pa.array(values, pa.timestamp("ns", array.type.tz), from_pandas=True)
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        reason = escape(str(error).partition("\n")[0])[:120]
        raise TraceError(f"{what} cannot be taken ({reason}): give values of one type") from None
    return array
