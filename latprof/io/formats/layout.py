"""Times in rows that are all laid out alike, read without the parser of CSV.

Programs mostly write times with the same number of digits. Then each delimiter and each decimal
point of a block is at the same place of its row, a column is a slice of the bytes, and decimals
without their point are integers of a smaller unit.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import types

from latprof.io.formats.columns import UNITS
from latprof.units import STAMP_LIMIT

__all__ = ["columns_laid_out_alike"]

Bytes = npt.NDArray[np.uint8]

_UNITS = {9: "ns", 6: "us", 3: "ms"}  # of integers with this many decimals of a second
_SECONDS = 9  # decimals of a second down to 1 ns, which a decimal type of seconds has


def columns_laid_out_alike(
    rows: Bytes,
    separators: tuple[str, str],
    names: Sequence[str],
    kinds: Mapping[str, pa.DataType],
    missing: Sequence[str],
) -> pa.Table | None:
    """Return columns of numbers and times; decimals become times of a unit without decimals.

    Parameters
    ----------
    rows
        (n, length): the bytes of each row, with its line end. No value is quoted.
    separators
        The delimiter and the decimal point.
    names
        Of all columns.
    kinds
        The columns to read, and their types: ``int64``, ``timestamp``, or ``decimal128`` of a scale
        that reaches down to 1 ns.
    missing
        Texts that mean that a value is missing.

    Returns
    -------
    pyarrow.Table or None
        None if a row is laid out in another way than the first one, or a value is of another
        kind.
    """
    delimiter, point = map(ord, separators)
    first = rows[0]
    ends = np.flatnonzero((first == delimiter) | (first == ord("\n")))
    if len(ends) != len(names) or any((rows[:, end] != first[end]).any() for end in ends):
        return None
    if len(kinds) < len(names) and np.count_nonzero(rows == delimiter) != len(rows) * (
        len(names) - 1
    ):
        return None  # a value that is not read has a delimiter
    found = {}
    for begin, end, name in zip([0, *(ends[:-1] + 1)], ends, names, strict=True):
        if name not in kinds:
            continue
        cells = rows[:, begin:end]
        if end == ends[-1] and cells.shape[1] and first[end - 1] == ord("\r"):
            if (cells[:, -1] != ord("\r")).any():
                return None
            cells = cells[:, :-1]
        if any(len(text) == cells.shape[1] for text in missing):
            return None
        column = _column(cells, kinds[name], point)
        if column is None:
            return None
        found[name] = column
    return pa.table([found[name] for name in kinds], names=list(kinds))


def _column(cells: Bytes, kind: pa.DataType, point: int) -> pa.Array | None:
    """Return the values of cells (n, width), or None if they are not all of the kind."""
    unit = None
    if types.is_decimal(kind):
        places = np.flatnonzero(cells[0] == point)
        if len(places) != 1 or (cells[:, places[0]] != point).any():
            return None
        place = int(places[0])
        unit = _UNITS.get(_SECONDS - kind.scale + cells.shape[1] - place - 1)
        if unit is None or kind.scale > _SECONDS:  # there are decimals below 1 ns
            return None
        if (cells[:, 1:2] | 0x20 == ord("x")).any():  # an integer may be hexadecimal
            return None
        cells = np.concatenate((cells[:, :place], cells[:, place + 1 :]), axis=1)
    elif not (types.is_integer(kind) or types.is_timestamp(kind)):
        return None
    count, width = cells.shape
    if not width:
        return None
    text = pa.StringArray.from_buffers(
        count,
        pa.py_buffer(np.arange(0, (count + 1) * width, width, dtype=np.int32)),
        pa.py_buffer(np.ascontiguousarray(cells)),
    )
    try:
        if unit is None:
            return text.cast(kind)
        whole = text.cast(pa.int64())
    except pa.ArrowInvalid:
        return None
    values = np.frombuffer(whole.buffers()[1], np.int64, count)
    most = STAMP_LIMIT // UNITS[unit]
    if int(values.max()) >= most or int(values.min()) <= -most:
        return None
    return whole.view(pa.timestamp(unit, "UTC"))
