"""Columns of a trace <-> Arrow tables: one set of rules for files, DataFrames and lists.

Loads pyarrow; `latprof` itself does not import this module when it is imported.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import types

from latprof.arrays import Mask
from latprof.errors import PipelineError, TraceError
from latprof.frames import ABSENT, MISSING, Columns, Labels, as_text, check_stamps, common_dtype
from latprof.io.atomic import first_line
from latprof.pipeline import Pipeline
from latprof.text import check_name, clip, quoted, storable

__all__ = [
    "STAMP",
    "Plan",
    "check_zones",
    "from_sequence",
    "is_text",
    "numbers",
    "one_array",
    "plain_array",
    "plan",
    "record_batch",
    "strings",
    "table_of",
    "tag",
    "to_labels",
]

STAMP = pa.timestamp("ns")
"""Without a zone, UTC: some readers keep only microseconds of a column with a zone."""

_MOST_NAMES = 12  # column names that a message lists

# columns that to_pandas adds and other tools leave behind: they are computed again when needed
_DERIVED = re.compile(r".*_latency|__index_level_\d+__")

# -- Columns to Arrow -----------------------------------------------------------------------------


def record_batch(columns: Columns) -> pa.RecordBatch:
    """Return frames as the columns of a trace file; only columns with gaps are copied."""
    arrays: dict[str, pa.Array] = {"frame_id": pa.array(columns.frame_id)}
    for mark, ns in columns.marks.items():
        gaps = None if mark in columns.complete else ns == MISSING
        arrays[mark] = _with_gaps(ns, gaps).view(STAMP)
    for name, column in (columns.optional | columns.tags).items():
        if isinstance(column, Labels):
            arrays[name] = _dictionary(column)
        elif name in ("size", "rss"):
            arrays[name] = _with_gaps(column, column == ABSENT[name])
        else:
            arrays[name] = pa.array(column, from_pandas=name == "cpu")  # NaN is null
    return pa.RecordBatch.from_pydict(arrays)


def _with_gaps(values: npt.NDArray[Any], gaps: Mask | None) -> pa.Array:
    return pa.array(values, mask=gaps if gaps is not None and gaps.any() else None)


def _dictionary(labels: Labels) -> pa.DictionaryArray:
    """Return dictionary strings; of more than 64 names only those that are used."""
    codes, names = labels.codes, labels.names
    if len(names) > 64:
        used = np.unique(codes[codes >= 0])
        if len(used) < len(names):
            moved = np.full(len(names) + 1, -1, np.int32)  # code -1 finds the last entry
            moved[used] = np.arange(len(used), dtype=np.int32)
            codes, names = moved[codes], tuple(names[i] for i in used.tolist())
    return pa.DictionaryArray.from_arrays(_with_gaps(codes, codes < 0), strings(names))


def strings(names: Sequence[Any]) -> pa.Array:
    """Return names as Arrow strings; lone surrogates, which UTF-8 does not have, are escaped."""
    try:
        return pa.array(names, pa.string(), from_pandas=True)
    except UnicodeEncodeError:  # for example of a file name that is not UTF-8
        escaped = [storable(name) if isinstance(name, str) else name for name in names]
        return pa.array(escaped, pa.string(), from_pandas=True)


# -- Arrow to numpy -------------------------------------------------------------------------------


def numbers(column: pa.Array | pa.ChunkedArray, what: str) -> tuple[npt.NDArray[Any], Mask | None]:
    """Return values (n,) and a mask (n,) of missing ones, which is None if none is missing.

    Values without gaps are a view. Timestamps are datetime64 of their unit in UTC, whatever
    their zone.

    Raises
    ------
    TraceError
        Neither numbers nor bools nor times.
    """
    array = plain_array(column)
    kind = array.type
    if types.is_null(kind):
        return np.zeros(len(array), np.int8), np.ones(len(array), bool)
    unit = None
    if types.is_timestamp(kind) or types.is_duration(kind):
        unit = f"{'M' if types.is_timestamp(kind) else 'm'}8[{kind.unit}]"
        array = array.view(pa.int64())
    elif types.is_date(kind):
        unit = "M8[D]"
        array = array.cast(pa.date32()).view(pa.int32()).cast(pa.int64())
    elif not (types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)):
        remedy = ""
        if is_text(kind):
            remedy = "; convert times with pd.to_datetime(column), numbers with pd.to_numeric"
        raise TraceError(f"{what} must be numbers or times, got {clip(str(kind), 40)}{remedy}")
    values, missing = _plain(array), _gaps(array)
    if missing is not None:
        values = np.where(missing, values.dtype.type(0 if unit is None else MISSING), values)
    return values if unit is None else values.view(unit), missing


def is_text(kind: pa.DataType) -> bool:
    """Return whether a column has text, also as a dictionary."""
    kind = _value_type(kind)
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _value_type(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if types.is_dictionary(kind) else kind


def one_array(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Return a column in one piece, without a copy if it is one already."""
    if not isinstance(column, pa.ChunkedArray):
        return column
    if column.num_chunks == 1:
        return column.chunk(0)
    if types.is_dictionary(column.type):
        column = column.unify_dictionaries()
    return column.combine_chunks()


def plain_array(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Return a column in one piece, and not as a dictionary."""
    array = one_array(column)
    return array.dictionary_decode() if types.is_dictionary(array.type) else array


def _plain(array: pa.Array) -> npt.NDArray[Any]:
    """Return numbers or bools; a missing one has an arbitrary value.

    They are read from the buffers: `to_numpy` of pyarrow would load pandas, and pyarrow.compute
    takes long to load.
    """
    if types.is_boolean(array.type):
        return _bits(array.buffers()[1], array)
    kind = np.dtype(array.type.to_pandas_dtype())
    if not len(array):
        return np.empty(0, kind)
    return np.frombuffer(array.buffers()[1], kind, len(array), array.offset * kind.itemsize)


def _gaps(array: pa.Array) -> Mask | None:
    """Return the mask of missing values, or None if none is missing."""
    return ~_bits(array.buffers()[0], array) if array.null_count else None


def _bits(buffer: pa.Buffer, array: pa.Array) -> Mask:
    """Return the bits of an array's values or validity as bools."""
    if not len(array):
        return np.empty(0, bool)
    first, rest = divmod(array.offset, 8)
    packed = np.frombuffer(buffer, np.uint8, (rest + len(array) + 7) // 8, first)
    return np.unpackbits(packed, count=rest + len(array), bitorder="little")[rest:].view(bool)


def to_labels(column: pa.Array | pa.ChunkedArray, what: str) -> Labels:
    """Return names from strings or dictionary strings of any kind; integers become text.

    Raises
    ------
    TraceError
        Neither text nor integers, or text that is not UTF-8.
    """
    kind = column.type
    if types.is_null(_value_type(kind)):
        return Labels.constant(None, len(column))
    if types.is_integer(_value_type(kind)):
        column = plain_array(column).cast(pa.string())
    elif not is_text(kind):
        raise TraceError(f"{what} must be text, got {clip(str(kind), 40)}")
    array = one_array(column)
    if not types.is_dictionary(array.type):
        array = array.dictionary_encode()
    try:
        names = array.dictionary.to_pylist()
    except UnicodeDecodeError as error:
        raise TraceError(f"{what} must be UTF-8 text, got {error.reason}; rewrite it") from None
    codes, missing = _plain(array.indices), _gaps(array.indices)
    if len(codes) and int(codes.max()) >= 2**31:
        codes = np.where(codes >= 2**31, -2, codes.astype(np.int64))
    codes = codes.astype(np.int32, copy=False)
    if missing is not None:
        codes = np.where(missing, np.int32(-1), codes)
    if len(codes) and not (codes.min() >= -1 and codes.max() < len(names)):
        raise TraceError(f"the dictionary of {what} lacks entries; take an intact copy")
    if None in names or len(set(names)) < len(names):
        # a dictionary may contain a value twice, or a null
        known: dict[str, int] = {}
        moved = [-1 if n is None else known.setdefault(n, len(known)) for n in names]
        codes, names = np.array([*moved, -1], np.int32)[codes], list(known)
    return Labels(codes, tuple(names))


def tag(column: pa.Array | pa.ChunkedArray, name: str) -> npt.NDArray[Any] | Labels:
    """Return a tag: text as `Labels`, numbers, bools and times as they are.

    numpy has no missing integers or bools: with gaps, integers become float64 if that is exact,
    otherwise text; bools become text.

    Raises
    ------
    TraceError
        Values that are nested, binary, decimal or times of day.
    """
    what = f"tag {name!r}"
    if is_text(column.type) or types.is_null(_value_type(column.type)):
        return to_labels(column, what)
    array, missing = numbers(column, what)
    if array.dtype.kind in "Mm":  # a duration is checked as a time is
        unit = array.dtype.str.replace("m8", "M8")
        return check_stamps(array.view(unit), None, what)[0].view(f"{array.dtype.kind}8[ns]")
    if missing is None:
        return array
    dtype = common_dtype([array], gaps=True)
    if dtype is None:
        text = as_text(array)
        return Labels(np.where(missing, np.int32(-1), text.codes), text.names)
    array = array.astype(dtype)
    array[missing] = np.nan
    return array


def from_sequence(values: Any, what: str) -> pa.Array | pa.ChunkedArray:
    """Return a list, array, masked array or column of a DataFrame as Arrow; None and NaN are null.

    Raises
    ------
    TraceError
        Values of mixed types, or not a sequence.
    """
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values
    if isinstance(values, str | bytes) or not hasattr(values, "__len__"):
        raise TraceError(f"{what} must be a sequence with a value per row, got {quoted(values)}")
    try:
        if isinstance(values, np.ndarray):
            if values.ndim != 1:
                raise TraceError(f"{what} must be a 1-D array, got shape {values.shape}")
            values = values.astype(values.dtype.newbyteorder("="), copy=False)
            if values.dtype.kind == "M":
                return pa.array(check_stamps(values, None, what)[0].view("M8[ns]"))
        if hasattr(values, "to_arrow"):  # a Series of Polars
            return values.to_arrow()
        try:
            array = pa.array(values, from_pandas=True)
        except OverflowError:  # integers from 2**63 on
            array = pa.array(values, pa.uint64(), from_pandas=True)
        if types.is_timestamp(array.type) and len(_zones(values)) > 1:
            raise TraceError(
                f"{what} must have times that all have a zone, or that all have none, got both; "
                "add the zone with tz_localize"
            )
        if types.is_timestamp(array.type) and array.type.unit == "us":
            # inferred from datetimes; pandas Timestamps among them may have nanoseconds
            array = pa.array(values, pa.timestamp("ns", array.type.tz), from_pandas=True)
        return array
    except (TraceError, MemoryError):
        raise
    except UnicodeError:
        return strings(list(values))
    except Exception as error:  # an object of another library may raise any error
        raise TraceError(
            f"{what} must be values of one type, got others ({first_line(error)[:120]}); convert "
            "them"
        ) from None


def _zones(values: Any) -> set[bool]:
    """Return {True} if datetimes among the values have a zone, {False} if not, or both or none."""
    kind = getattr(getattr(values, "dtype", None), "kind", "O")
    if not isinstance(values, Iterable) or kind != "O":
        return set()
    times = (value for value in values if hasattr(value, "tzinfo"))
    return {value.tzinfo is not None for value in times if value == value}


def check_zones(marks: Mapping[str, Any]) -> None:
    """Check that marks are times of which all have a zone, or none.

    Parameters
    ----------
    marks
        Arrow types, or values, by mark; those that are not times are ignored.

    Raises
    ------
    TraceError
        One mark has a zone and another one has not: they may differ by hours.
    """
    zones: dict[bool, str] = {}
    for mark, values in marks.items():
        kind = getattr(values, "type", values)
        if isinstance(kind, pa.DataType):
            found = {kind.tz is not None} if types.is_timestamp(kind) else set()
        else:
            dtype = getattr(values, "dtype", None)
            aware = getattr(dtype, "tz", None) is not None
            is_time = aware or getattr(dtype, "kind", "") == "M"
            found = {aware} if is_time else _zones(values)
        if len(found) == 1:  # a mark that mixes them is refused by itself
            zones.setdefault(found.pop(), mark)
    if len(zones) > 1:
        raise TraceError(
            f"marks must all have a time zone, or all none, got one in {zones[True]!r} and none in "
            f"{zones[False]!r}; add it with tz_localize"
        )


# -- tables ---------------------------------------------------------------------------------------


def table_of(columns: Any) -> pa.Table:
    """Return a DataFrame, or a dict of sequences, as a table.

    A column of a DataFrame with mixed objects becomes nulls of a binary type, which no trace keeps.

    Raises
    ------
    TraceError
        Sequences of different lengths, or of values of mixed types.
    """
    if not hasattr(columns, "iloc"):
        arrays = {str(name): from_sequence(values, name) for name, values in columns.items()}
        rows = {name: len(array) for name, array in arrays.items()}
        if len(set(rows.values())) > 1:
            shown = ", ".join(f"{quoted(name)} {n}" for name, n in rows.items())
            raise TraceError(f"all columns must have the same number of values, got {shown}")
        return pa.table(arrays)
    found = []
    names = [str(name) for name in columns.columns]
    for position, name in enumerate(names):
        column = columns.iloc[:, position]
        try:
            array = pa.array(column, from_pandas=True)
        except (pa.ArrowException, ValueError, TypeError, OverflowError):
            # of a type that a trace does not keep: `plan` drops the column, or refuses a mark
            array = pa.nulls(len(columns), pa.binary())
        if types.is_timestamp(array.type) and column.dtype.kind == "O":
            array = from_sequence(column, name)  # with nanoseconds, and zones compared
        found.append(array)
    return pa.table(found, names=names)


@dataclass(frozen=True, slots=True)
class Plan:
    """How a trace uses the columns of a table.

    `marks`, `optional` and `tags` are columns to be read; `text` are columns of plain strings,
    which are read faster as dictionaries; `dropped` gives the reason for each column that a trace
    does not keep.
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
    """Return how a trace of `pipeline` uses the columns of a table.

    Tags that cannot be kept (nested or binary columns, names that are not identifiers or are
    reserved) are listed as dropped; `<span>_latency` columns are derived, so left out.

    Raises
    ------
    TraceError
        No frame_id, no mark at all, a name that occurs twice, or one that differs from a mark or
        another column by case alone.
    """
    names = list(schema.names)
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise TraceError(f"column names must be unique, got {quoted(twice)} twice; rename one")
    shown = [quoted(name) for name in names[:_MOST_NAMES]]
    listed = ", ".join([*shown, "..."] if len(names) > _MOST_NAMES else shown) or "no columns"
    if "frame_id" not in names:
        raise TraceError(
            f"the table must have a column 'frame_id', got {listed}; rename the column that "
            'has the ids of the frames, or add one: table["frame_id"] = range(len(table))'
        )
    marks = tuple(mark for mark in pipeline.marks if mark in names)
    if not marks:
        raise TraceError(
            f"the table must have a mark of pipeline {pipeline.name!r} "
            f"({', '.join(pipeline.marks)}), got {listed}; rename its columns or use another "
            "pipeline"
        )
    check_zones({mark: schema.field(mark).type for mark in marks})
    known = {name.casefold(): name for name in ("frame_id", *pipeline.marks, *Columns.OPTIONAL)}
    tags, text, dropped = [], [], {}
    for name in names:
        own = known.setdefault(name.casefold(), name)
        if own != name:
            raise TraceError(
                f"column names must differ by more than case, got {quoted(own)} and "
                f"{quoted(name)}; rename one"
            )
        kind = schema.field(name).type
        if is_text(kind) and not types.is_dictionary(kind):
            text.append(name)
        if name in ("frame_id", *marks, *Columns.OPTIONAL) or _DERIVED.fullmatch(name):
            continue
        try:
            check_name(name, "column")
            tag(pa.nulls(0, kind), name)
        except (PipelineError, TraceError, pa.ArrowException) as error:
            dropped[clip(name)] = str(error)
        else:
            tags.append(name)
    optional = tuple(name for name in Columns.OPTIONAL if name in names)
    return Plan(marks, optional, tuple(tags), tuple(text), dropped)
