"""Durations: what people write ("50ms") to integer nanoseconds, and back.

Inside latprof every time is an integer number of nanoseconds; this module is the only
place that converts. Floats are refused on the way in: 0.05 may be seconds or milliseconds.
"""

import datetime as dt
import math
import re
from fractions import Fraction

from latprof.text import quoted

__all__ = [
    "format_bytes",
    "format_ns",
    "format_quantity",
    "format_utc",
    "parse_duration",
]

_NS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,  # micro sign
    "μs": 1_000,  # Greek mu: both are typed
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "min": 60_000_000_000,
    "h": 3_600_000_000_000,
    "d": 86_400_000_000_000,
}
_DURATION = re.compile(r"\s*([+-]?\d+(?:\.\d+)?)\s*(ns|us|µs|μs|ms|s|min|h|d)\s*")

# what people read: unit, its size in ns, the value from which the next one is used
_STEPS = (
    ("ns", 1.0, 1e3),
    ("us", 1e3, 1e6),
    ("ms", 1e6, 1e9),
    ("s", 1e9, 120e9),
    ("min", 60e9, 7200e9),
    ("h", 3600e9, 172800e9),
    ("d", 86400e9, math.inf),
)


def parse_duration(
    value: str | int | dt.timedelta, *, name: str = "duration", signed: bool = False
) -> int:
    """Return a duration as integer nanoseconds.

    Parameters
    ----------
    value
        ``"50ms"``, ``"1.5 s"``, ``"20us"``; an integer number of nanoseconds; a timedelta.
    name
        What the duration is for, to be named in the error.
    signed
        Whether a negative duration is allowed.

    Raises
    ------
    ValueError
        No duration, a fraction of a nanosecond, negative though not `signed`, or 2**62 ns
        (146 years) and more.

    Examples
    --------
    >>> parse_duration("50ms"), parse_duration("1.5 us"), parse_duration(7)
    (50000000, 1500, 7)
    """
    remedy = 'write it as "50ms" (units: ns, us, ms, s, min, h, d)'
    if not isinstance(value, str):
        remedy += " or as integer nanoseconds"
    if isinstance(value, str):
        match = _DURATION.fullmatch(value)
        if match is None:
            raise ValueError(f"{name} {quoted(value)} is no duration: {remedy}")
        exact = Fraction(match[1]) * _NS[match[2]]
        if exact.denominator != 1:
            raise ValueError(f"{name} {value!r} is a fraction of a nanosecond: {remedy}")
        ns = exact.numerator
    elif isinstance(value, dt.timedelta):
        ns = ((value.days * 86400 + value.seconds) * 1_000_000 + value.microseconds) * 1_000
        ns += getattr(value, "nanoseconds", 0)  # pandas' timedelta has them
    elif isinstance(value, bool) or not hasattr(value, "__index__"):
        raise ValueError(f"{name} {value!r} is no duration: {remedy}")
    else:
        ns = value.__index__()
    if ns < 0 and not signed:
        raise ValueError(f"{name} {value!r} is negative: give a duration of 0 or more")
    if abs(ns) >= 2**62:
        raise ValueError(f"{name} {value!r} is 2**62 ns or more: give less than 146 years")
    return ns


def format_ns(ns: float | None) -> str:
    """Write a time as people read it: three significant digits and a unit.

    Examples
    --------
    >>> [format_ns(t) for t in (0, 857, 8_600_000, 999_960, -1500)]
    ['0 ns', '857 ns', '8.60 ms', '1.00 ms', '-1.50 us']
    >>> format_ns(None)
    '-'
    """
    if ns is None or math.isnan(ns):
        return "-"
    size = abs(ns)
    for unit, scale, limit in _STEPS:  # noqa: B007  (used after the loop)
        # 999.96 us rounds to 1000 us: it is written in the next unit
        if float(f"{size / scale:.3g}") * scale < limit:
            break
    scaled = ns / scale
    if unit == "ns" and float(scaled).is_integer():
        return f"{int(scaled)} ns"
    digits = 3 - len(str(int(abs(float(f"{scaled:.3g}"))))) if abs(scaled) >= 1 else 2
    return f"{scaled:.{max(digits, 0)}f} {unit}"


def format_quantity(value: float, digits: int = 3) -> str:
    """Write a plain number with so many significant digits or thousands separators.

    Examples
    --------
    >>> [format_quantity(x) for x in (0.0, 0.0314159, 49.987, 1234567.8)]
    ['0', '0.0314', '50.0', '1,234,568']
    >>> [format_quantity(x, 2) for x in (0.000031, 9.96, 132)]
    ['0.000031', '10', '132']
    """
    if value == 0:
        return "0"
    # 999.96 rounds to 1000: how large the number is, is known after rounding
    size = math.floor(math.log10(abs(float(f"{value:.{digits}g}"))))
    return f"{value:,.{max(digits - 1 - size, 0)}f}"


def format_bytes(count: float) -> str:
    """Write a number of bytes with a decimal unit.

    Examples
    --------
    >>> [format_bytes(n) for n in (960, 48_200, 3e9)]
    ['960 B', '48.2 kB', '3.00 GB']
    """
    if abs(count) < 1000:
        return f"{count:.0f} B"
    for unit in ("kB", "MB", "GB", "TB"):  # pragma: no branch
        count /= 1000
        if abs(count) < 999.5 or unit == "TB":
            break
    return f"{format_quantity(count)} {unit}"


def format_utc(ns: int) -> str:
    """Write UTC nanoseconds since 1970 as ISO 8601, to the microsecond.

    Examples
    --------
    >>> format_utc(1_700_000_000_123_456_789)
    '2023-11-14T22:13:20.123456Z'
    """
    seconds, rest = divmod(ns, 1_000_000_000)
    try:
        moment = dt.datetime(1970, 1, 1) + dt.timedelta(seconds=seconds)
    except OverflowError:  # outside the years 1 to 9999
        return f"{ns} ns"
    return f"{moment.isoformat()}.{rest // 1000:06d}Z"
