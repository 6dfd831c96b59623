"""Columns of a trace <-> Arrow arrays: one set of rules for files, DataFrames and lists.

Loads pyarrow; `latprof` itself does not import this module when it is imported.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from latprof.arrays import Mask
from latprof.errors import TraceError
from latprof.frames import MISSING, NO_SIZE, Columns, Labels, as_text, common_dtype
from latprof.io import coerce
from latprof.text import escape

__all__ = [
    "STAMP",
    "UnkeptType",
    "from_labels",
    "from_sequence",
    "is_text",
    "numbers",
    "record_batch",
    "strings",
    "tag",
    "to_labels",
    "type_name",
]

STAMP = pa.timestamp("ns")
"""Without a zone, UTC: some readers keep only microseconds of a column with one."""


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
    if columns.rss is not None:
        gaps = columns.rss == 0
        arrays["rss"] = pa.array(columns.rss, mask=gaps if gaps.any() else None)
    if columns.weight is not None:
        arrays["weight"] = pa.array(columns.weight)
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
    return pa.DictionaryArray.from_arrays(indices, strings(names))


def strings(names: Sequence[str | None]) -> pa.Array:
    """Return names as Arrow strings; half of a surrogate pair is written as its escape."""
    try:
        return pa.array(names, pa.string())
    except UnicodeEncodeError:  # from a file name that is no UTF-8, for instance
        whole = [n and n.encode("utf-8", "backslashreplace").decode() for n in names]
        return pa.array(whole, pa.string())


# -- Arrow to numpy -------------------------------------------------------------------------------


def _one_chunk(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    if not isinstance(column, pa.ChunkedArray):
        return column
    if column.num_chunks == 1:
        return column.chunk(0)
    if pa.types.is_dictionary(column.type):
        column = column.unify_dictionaries()
    return column.combine_chunks()


def numbers(column: pa.Array | pa.ChunkedArray, what: str) -> tuple[npt.NDArray[Any], Mask | None]:
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
        raise UnkeptType(f"{what} is {type_name(kind)}: give numbers")
    missing = None
    if array.null_count:
        missing = _plain(array.is_null())
        if unit is not None:
            array = array.fill_null(MISSING)
        else:
            array = array.fill_null(False if pa.types.is_boolean(kind) else 0)
    values = _plain(array)
    return values if unit is None else values.view(unit), missing


def _plain(array: pa.Array) -> npt.NDArray[Any]:
    """Return numbers or bools of which none is missing; pyarrow's `to_numpy` loads pandas."""
    if pa.types.is_boolean(array.type):
        return _plain(array.cast(pa.uint8())).view(bool)
    kind = np.dtype(array.type.to_pandas_dtype())
    if not len(array):
        return np.empty(0, kind)
    return np.frombuffer(array.buffers()[1], kind, len(array), array.offset * kind.itemsize)


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
    elif not is_text(values):
        raise UnkeptType(f"{what} is {type_name(kind)}: give text")
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
    codes = _plain(indices.cast(pa.int32()))
    if len(codes) and not (codes.min() >= -1 and codes.max() < len(names)):
        raise TraceError(f"{what} has a dictionary that lacks entries: take an undamaged copy")
    if None in names or len(set(names)) < len(names):
        # a dictionary may name one value twice, or have a null among its values
        known: dict[str, int] = {}
        moved = [-1 if n is None else known.setdefault(n, len(known)) for n in names]
        codes, names = np.array([*moved, -1], np.int32)[codes], list(known)
    return Labels(codes, tuple(names))


def is_text(kind: pa.DataType) -> bool:
    """Return whether these are plain strings, of whatever layout."""
    types = pa.types
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def type_name(kind: pa.DataType) -> str:
    """Return a type as an error shows it."""
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
    if is_text(values) or pa.types.is_null(values):
        return to_labels(column, what)
    array, missing = numbers(column, what)
    if array.dtype.kind in "Mm":
        return _nanoseconds(array, what)
    if missing is None:
        return array
    dtype = common_dtype([array], gaps=True)
    if dtype is None:
        text = as_text(array)
        return Labels(np.where(missing, np.int32(-1), text.codes), text.names)
    array = array.astype(dtype)
    array[missing] = np.nan
    return array


def _nanoseconds(times: npt.NDArray[Any], what: str) -> npt.NDArray[Any]:
    if times.dtype.kind == "m":  # a duration keeps its meaning under the rules of a stamp
        unit = times.dtype.str.replace("m8", "M8")
        return coerce.stamps(times.view(unit), None, what)[0].view("m8[ns]")
    return coerce.stamps(times, None, what)[0].view("M8[ns]")


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
            return pa.array(coerce.stamps(values, None, what)[0].view("M8[ns]"))
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
