"""What people and files give as columns, checked and brought into the form of `Columns`.

Plain numpy in, plain numpy out; `missing` is a mask of absent values, or None. Whatever cannot be
kept exactly is refused: no function here rounds, wraps or cuts.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from latprof.arrays import Ints, Mask
from latprof.errors import TraceError
from latprof.frames import MISSING, NO_SIZE, STAMP_LIMIT

__all__ = ["counts", "frame_ids", "integers", "memory", "percents", "sizes", "stamps", "weights"]


_UNIT_NS = {"h": 3_600_000_000_000, "m": 60_000_000_000, "s": 1_000_000_000}
_UNIT_NS |= {
    "W": 604_800_000_000_000,
    "D": 86_400_000_000_000,
    "ms": 1_000_000,
    "us": 1_000,
    "ns": 1,
}
_FINER = {"ps": 1_000, "fs": 1_000_000, "as": 1_000_000_000}


def integers(
    values: npt.NDArray[Any],
    missing: Mask | None,
    what: str,
    dtype: type[np.integer[Any]],
    *,
    absent: int | None,
    low: int = 0,
    high: int | None = None,
) -> npt.NDArray[Any]:
    """Return integers as `dtype`, with `absent` where they are missing.

    Raises
    ------
    TraceError
        No integers, one outside `low` to `high` (default: what `dtype` holds), or a missing one
        though `absent` is None.
    """
    if values.ndim != 1:
        raise TraceError(f"{what} has {values.ndim} dimensions: give a 1-D array")
    if missing is not None and not missing.any():
        missing = None
    if values.dtype.kind not in "iu":
        if missing is not None and missing.all():
            values = np.zeros(len(values), dtype)
        else:
            raise TraceError(
                f"{what} is {values.dtype}: give integers, latprof does not guess or round"
            )
    if missing is not None and absent is None:
        raise TraceError(
            f"{what} is missing in {np.count_nonzero(missing)} of {len(values)} rows: "
            "leave these rows out"
        )
    if high is None:
        high = int(np.iinfo(dtype).max)
    present = values if missing is None else values[~missing]
    if len(present):
        for extreme in (int(present.min()), int(present.max())):
            if not low <= extreme <= high:
                raise TraceError(
                    f"{what} {extreme} cannot be kept: give integers from {low} to {high}"
                )
    if missing is None:
        return values.astype(dtype, copy=False)
    result = values.astype(dtype)
    result[missing] = absent
    return result


def frame_ids(values: npt.NDArray[Any], missing: Mask | None = None) -> npt.NDArray[np.uint64]:
    """Return frame ids: integers from 0 to 2**64 - 1, none missing."""
    if values.dtype == np.uint64 and values.ndim == 1 and missing is None:
        return values
    return integers(values, missing, "frame_id", np.uint64, absent=None)


def counts(
    values: npt.NDArray[Any],
    missing: Mask | None,
    what: str,
    dtype: type[np.integer[Any]],
    *,
    absent: int,
    low: int = 0,
) -> npt.NDArray[Any]:
    """Return integers as `integers` does; whole floating-point numbers and NaN are taken, too.

    A table with gaps often has nothing else: pandas reads a column of integers so.
    """
    if values.dtype.kind == "f" and values.ndim == 1:
        gaps = np.isnan(values)
        whole = np.where(gaps, 0, values)
        if np.all((whole == np.floor(whole)) & (np.abs(whole) < 2.0**53)):
            missing = gaps if missing is None else gaps | missing
            values = whole.astype(np.int64)
    return integers(values, missing, what, dtype, absent=absent, low=low)


def sizes(values: npt.NDArray[Any], missing: Mask | None = None) -> npt.NDArray[np.uint32]:
    """Return sizes in bytes; 2**32 - 1 stands for a size that is not known."""
    return counts(values, missing, "size", np.uint32, absent=NO_SIZE)


def memory(values: npt.NDArray[Any], missing: Mask | None = None) -> npt.NDArray[np.uint64]:
    """Return bytes of memory; 0 stands for not known."""
    return counts(values, missing, "rss", np.uint64, absent=0)


def weights(values: npt.NDArray[Any], missing: Mask | None = None) -> npt.NDArray[np.uint32]:
    """Return how many frames each row stands for: 1 or more, 1 where not known."""
    return counts(values, missing, "weight", np.uint32, absent=1, low=1)


def percents(values: npt.NDArray[Any], missing: Mask | None = None) -> npt.NDArray[np.float32]:
    """Return CPU percentages as float32, NaN where missing."""
    if values.ndim != 1:
        raise TraceError(f"cpu has {values.ndim} dimensions: give a 1-D array")
    if values.dtype.kind not in "iuf":
        raise TraceError(f"cpu is {values.dtype}: give numbers")
    if missing is None:
        return values.astype(np.float32, copy=False)
    result = values.astype(np.float32)
    result[missing] = np.nan
    return result


def stamps(values: npt.NDArray[Any], missing: Mask | None, what: str) -> tuple[Ints, bool]:
    """Return marks as int64 ns, `MISSING` where there is none, and whether all are there.

    Raises
    ------
    TraceError
        Neither integers nor datetime64; a stamp that is no whole number of ns or of 2**62 or
        more.
    """
    if values.ndim != 1:
        raise TraceError(f"{what} has {values.ndim} dimensions: give a 1-D array")
    kind = values.dtype.kind
    if kind == "M":
        ns = _from_datetime64(values, what)
    elif kind in "iu":
        if values.dtype == np.uint64 and len(values) and int(values.max()) >= STAMP_LIMIT:
            raise _out_of_range(int(values.max()), what)
        ns = values.astype(np.int64, copy=False)
    elif missing is not None and missing.all():
        ns = np.full(len(values), MISSING)
    elif kind == "f":
        raise TraceError(
            f"{what} is {values.dtype}: a float cannot hold today's time to the nanosecond, "
            "give int64 ns or datetime64"
        )
    else:
        raise TraceError(f"{what} is {values.dtype}: give int64 ns or datetime64")
    if missing is not None and missing.any():
        ns = np.where(missing, MISSING, ns)
    # one pass in the usual case: no bit from 2**62 up means that all are in range, and there
    if not len(ns) or 0 <= int(np.bitwise_or.reduce(ns)) < STAMP_LIMIT:
        return ns, True
    largest, smallest = int(ns.max()), int(ns.min())
    if largest >= STAMP_LIMIT:
        raise _out_of_range(largest, what)
    if smallest <= -STAMP_LIMIT:
        wrong = ns[(ns <= -STAMP_LIMIT) & (ns != MISSING)]
        if len(wrong):
            raise _out_of_range(int(wrong[0]), what)
    return ns, smallest != MISSING


def _out_of_range(stamp: int, what: str) -> TraceError:
    return TraceError(
        f"{what} {stamp} cannot be kept: stamps are nanoseconds between -2**62 and 2**62 "
        "(the years 1824 to 2116)"
    )


def _from_datetime64(values: npt.NDArray[Any], what: str) -> Ints:
    unit, step = np.datetime_data(values.dtype)
    if unit in ("Y", "M"):
        # exact as days; the calendar's own limits come far after ours
        months = values.astype("M8[M]").view(np.int64)
        if len(months) and np.any((np.abs(months) > 12 * 200) & (months != MISSING)):
            raise TraceError(f"{what} is not between the years 1824 and 2116: give nearer times")
        values, unit, step = values.astype("M8[D]"), "D", 1
    counts = np.ascontiguousarray(values).view(np.int64)
    if unit == "ns" and step == 1:
        return counts
    gaps = counts == MISSING
    if unit in _FINER:
        ns, rest = np.divmod(counts * step, _FINER[unit]) if step == 1 else (counts, counts)
        if step != 1 or np.any(rest[~gaps]):
            raise TraceError(f"{what} is finer than a nanosecond: round it to ns")
        return np.where(gaps, MISSING, ns)
    if unit not in _UNIT_NS:
        raise TraceError(f"{what} is datetime64 without a unit: give datetime64[ns]")
    factor = _UNIT_NS[unit] * step
    limit = STAMP_LIMIT // factor
    if np.any((np.abs(counts) > limit) & ~gaps):
        raise TraceError(f"{what} is not between the years 1824 and 2116: give nearer times")
    return np.where(gaps, MISSING, counts * factor)
