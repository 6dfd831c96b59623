"""The settings of a profiler, checked: what cannot be is refused, never replaced in silence."""

import time
from collections.abc import Callable
from datetime import timedelta

from latprof.columns import STAMP_LIMIT
from latprof.errors import ProfilerError
from latprof.units import escape, parse_duration

__all__ = ["Duration", "checked_anchor", "checked_duration", "checked_rate", "checked_thresholds"]

Duration = str | int | timedelta


def checked_rate(rate: float) -> float:
    """Return a sampling rate."""
    if isinstance(rate, bool) or not isinstance(rate, int | float):
        raise ProfilerError(f"sampling_rate {rate!r} is no number: give 0 to 1")
    if not 0 <= rate <= 1:
        raise ProfilerError(f"sampling_rate {rate!r} is out of range: give 0 to 1")
    return float(rate)


def checked_duration(value: Duration | None, name: str) -> int | None:
    """Return a duration in ns; None stays None."""
    if value is None:
        return None
    try:
        return parse_duration(value, name=name)
    except ValueError as error:
        raise ProfilerError(str(error)) from None


def checked_thresholds(
    warning: Duration | None, critical: Duration | None
) -> tuple[int | None, int | None]:
    """Return both thresholds in ns."""
    low, high = checked_duration(warning, "warning"), checked_duration(critical, "critical")
    if low is not None and high is not None and high < low:
        raise ProfilerError(
            f"critical {critical!r} is below warning {warning!r}: give a critical threshold of at "
            "least the warning's"
        )
    return low, high


def checked_anchor(clock: Callable[[], int]) -> tuple[int, int]:
    """Return a stamp of the clock and the wall clock's time for it, both ns."""
    before = time.time_ns()
    try:
        now = clock()
    except Exception as error:
        raise ProfilerError(
            f"the clock cannot be read ({escape(str(error))}): give a function without arguments, "
            "time.perf_counter_ns say"
        ) from None
    if type(now) is not int or not 0 < now < STAMP_LIMIT:
        raise ProfilerError(
            f"the clock returned {now!r}: give one that returns integer ns above 0 and below "
            "2**62, time.perf_counter_ns say"
        )
    return now, (before + time.time_ns()) // 2
