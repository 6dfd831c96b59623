"""Durations and times: what people write ("50ms") to integer nanoseconds, and back.

Inside latprof every time is an integer number of nanoseconds; only this module converts. Floats
are refused as durations: 0.05 may mean seconds or milliseconds.
"""

import contextlib
import datetime as dt
import math
import re
from fractions import Fraction

import numpy as np

from latprof.errors import TraceError
from latprof.text import quoted

__all__ = [
    "STAMP_LIMIT",
    "Time",
    "format_bytes",
    "format_change",
    "format_exact",
    "format_ns",
    "format_quantity",
    "format_utc",
    "parse_duration",
    "parse_time",
]

Time = int | str | dt.datetime | np.datetime64
"""A point in time: ns UTC, ISO 8601 text, or a datetime of Python, numpy or pandas."""

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
_ISO = re.compile(
    r"(\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d)?)?)(?:\.(\d{1,9}))?(Z|[+-]\d\d:?\d\d)?"
)
STAMP_LIMIT = 2**62  # ns
"""Durations and times of this size and more are refused, so that differences fit 64 bits."""

# unit, its size in ns, the value from which the next unit is used
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
    value: str | int | dt.timedelta,
    *,
    name: str = "duration",
    signed: bool = False,
    error: type[Exception] = ValueError,
) -> int:
    """Return a duration as integer nanoseconds.

    Parameters
    ----------
    value
        ``"50ms"``, ``"1.5 s"``, ``"20us"``; an integer number of nanoseconds; a timedelta.
    name
        The argument that the error names.
    signed
        Whether a negative duration is allowed.
    error
        Type of the error.

    Raises
    ------
    ValueError
        `value` is not a duration, has a fraction of a nanosecond, is negative although not
        `signed`, or is 2**62 ns (146 years) or more. `error` may be another type.

    Examples
    --------
    >>> parse_duration("50ms"), parse_duration("1.5 us"), parse_duration(7)
    (50000000, 1500, 7)
    """
    ns: int | None = None
    rule = 'a duration such as "50ms" (units: ns, us, ms, s, min, h, d)'
    if isinstance(value, str):
        match = _DURATION.fullmatch(value)
        if match is not None:
            exact = Fraction(match[1]) * _NS[match[2]]
            ns = exact.numerator
            if exact.denominator != 1:
                raise error(f"{name} must be whole nanoseconds, got {quoted(value)}; round it")
    elif isinstance(value, dt.timedelta):
        ns = ((value.days * 86400 + value.seconds) * 1_000_000 + value.microseconds) * 1_000
        ns += getattr(value, "nanoseconds", 0)  # a timedelta of pandas has them
    elif hasattr(value, "__index__") and not isinstance(value, bool):
        with contextlib.suppress(TypeError):  # an array of several values
            ns = value.__index__()
    if ns is None:
        integer = "" if isinstance(value, str) else " or integer nanoseconds"
        raise error(f"{name} must be {rule}{integer}, got {quoted(value)}")
    if ns < 0 and not signed:
        raise error(f"{name} must be 0 or more, got {quoted(value)}")
    if abs(ns) >= STAMP_LIMIT:
        raise error(f"{name} must be less than 2**62 ns (146 years), got {quoted(value)}")
    return ns


def parse_time(value: Time, *, name: str = "time") -> int:
    """Return a point in time as integer nanoseconds UTC; a time without a zone is UTC.

    Raises
    ------
    TraceError
        Not a time, or one before the year 1824 or after 2116.

    Examples
    --------
    >>> parse_time("2023-11-14T22:13:20.5Z"), parse_time(np.datetime64(7, "ms"))
    (1700000000500000000, 7000000)
    """
    ns: int | None = None
    if hasattr(value, "to_datetime64"):  # a Timestamp of pandas is a datetime with nanoseconds
        value = value.to_datetime64()
    if isinstance(value, str):
        match = _ISO.fullmatch(value.strip())
        if match is not None:
            with contextlib.suppress(ValueError):  # for example the 31st of February
                whole = dt.datetime.fromisoformat(match[1] + (match[3] or ""))
                ns = _utc_ns(whole) + int((match[2] or "0").ljust(9, "0"))
    elif isinstance(value, np.datetime64):
        exact = value.astype("M8[ns]")
        if exact.astype(value.dtype) == value:  # neither cut nor wrapped around
            ns = int(exact.astype(np.int64))
    elif isinstance(value, dt.datetime):
        ns = _utc_ns(value)
    elif isinstance(value, int | np.integer) and not isinstance(value, bool):
        ns = int(value)
    if ns is None or abs(ns) >= STAMP_LIMIT:
        raise TraceError(
            f"{name} must be a time between the years 1824 and 2116 (integer ns UTC, a datetime, "
            f"or ISO 8601 text), got {quoted(value)}"
        )
    return ns


def _utc_ns(moment: dt.datetime) -> int:
    zoned = moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment
    microseconds = (zoned - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(microseconds=1)
    return microseconds * 1_000


def format_ns(ns: float | None) -> str:
    """Return a time as text: three significant digits and a unit.

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


def format_exact(ns: int) -> str:
    """Return a time as text without rounding it, as deadlines and thresholds are written.

    Examples
    --------
    >>> [format_exact(t) for t in (50_000_000, 17_050_000, 1_500_000_000, 120_000_000_000, 7)]
    ['50 ms', '17.05 ms', '1.5 s', '2 min', '7 ns']
    >>> format_exact(3_599_800_000_000), format_exact(-5_000), format_exact(0)
    ('3,599.8 s', '-5 us', '0 ns')
    """
    sign, size = "-" if ns < 0 else "", abs(ns)
    for unit, scale in (("d", 86_400 * 10**9), ("h", 3_600 * 10**9), ("min", 60 * 10**9)):
        if size > scale and size % scale == 0:
            return f"{sign}{size // scale:,} {unit}"
    unit, digits = next(
        ((unit, digits) for unit, digits in (("s", 9), ("ms", 6), ("us", 3)) if size >= 10**digits),
        ("ns", 0),
    )
    whole, rest = divmod(size, 10**digits)
    decimals = f"{rest:0{digits}d}".rstrip("0") if rest else ""
    return f"{sign}{whole:,}{'.' if decimals else ''}{decimals} {unit}"


def format_change(ratio: float | None) -> str:
    """Return a ratio as a change in percent, "-" if it is not known.

    Examples
    --------
    >>> format_change(1.12), format_change(0.5), format_change(None)
    ('+12 %', '-50 %', '-')
    """
    return "-" if ratio is None else f"{(ratio - 1) * 100:+.0f} %"


def format_quantity(value: float, digits: int = 3) -> str:
    """Return a number as text with `digits` significant digits or thousands separators.

    Examples
    --------
    >>> [format_quantity(x) for x in (0.0, 0.0314159, 49.987, 1234567.8)]
    ['0', '0.0314', '50.0', '1,234,568']
    >>> [format_quantity(x, 2) for x in (0.000031, 9.96, 132)]
    ['0.000031', '10', '132']
    """
    if value == 0:
        return "0"
    # rounded first: 999.96 becomes 1000, which has one digit more
    size = math.floor(math.log10(abs(float(f"{value:.{digits}g}"))))
    return f"{value:,.{max(digits - 1 - size, 0)}f}"


def format_bytes(count: float) -> str:
    """Return a number of bytes as text with a decimal unit.

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
    """Return UTC nanoseconds since 1970 as ISO 8601 text, to the microsecond.

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
