"""What people call slow: times above a warning or a critical threshold stand out in reports."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from latprof.errors import ProfileError
from latprof.profile.profile import Profile
from latprof.text import counted
from latprof.units import format_ns, parse_duration

__all__ = ["LEVELS", "Limits", "limits_of"]

LEVELS = ("warning", "critical")


@dataclass(frozen=True, slots=True)
class Limits:
    """Two thresholds of end_to_end, ns; None: there is none.

    Parameters
    ----------
    spans
        Thresholds of single spans, by name.

    Examples
    --------
    >>> limits = Limits(warning_ns=50_000_000, critical_ns=100_000_000)
    >>> [limits.level(ns) for ns in (50_000_000, 50_000_001, 100_000_001, None)]
    ['', 'warning', 'critical', '']
    """

    warning_ns: int | None = None
    critical_ns: int | None = None
    spans: Mapping[str, "Limits"] = field(default_factory=dict)

    def of(self, name: str) -> "Limits":
        """Return the thresholds of a span: its own, or those of end_to_end, of which it is part."""
        return self.spans.get(name, self)

    def level(self, ns: float | None) -> str:
        """Return "critical" or "warning" for a time above that threshold, else ""."""
        if ns is None:
            return ""
        if self.critical_ns is not None and ns > self.critical_ns:
            return "critical"
        return "warning" if self.warning_ns is not None and ns > self.warning_ns else ""

    def lines(self, profile: Profile) -> list[str]:
        """Say how many frames of a profile are above each threshold."""
        told = []
        for level in LEVELS:
            limit = getattr(self, f"{level}_ns")
            above = None if limit is None else _above(profile, limit)
            if above is not None:
                told.append(f"above {format_ns(limit)} ({level}): {above}")
        return ["; ".join(told)] if told else []


def limits_of(warning: str | int | None, critical: str | int | None) -> Limits:
    """Return the thresholds that are named, ``"50ms"`` or ns.

    Raises
    ------
    ProfileError
        One is no duration, or the warning is above the critical threshold.
    """
    try:
        low, high = (
            None if value is None else parse_duration(value, name=name)
            for name, value in zip(LEVELS, (warning, critical), strict=True)
        )
    except ValueError as error:
        raise ProfileError(str(error)) from None
    if low is not None and high is not None and low > high:
        raise ProfileError(
            f"warning {format_ns(low)} is above critical {format_ns(high)}: exchange them"
        )
    return Limits(low, high)


def _above(profile: Profile, limit_ns: int) -> str | None:
    """Say how many frames took longer: exact at the edges that were declared, else bounded."""
    total = profile["end_to_end"]
    if not total.count:
        return None
    edges = profile.sums.edges_ns
    if limit_ns in edges:
        least = most = total.count - profile.sums.at_most[edges.index(limit_ns)]
    else:
        fewest, greatest = total.histogram.rank(limit_ns)
        least, most = (total.count - round(part * total.count) for part in (greatest, fewest))
    frames = f"{least:,}" if least == most else f"{least:,} to {most:,}"
    share = f"{(least + most) / 2 / total.count:.1%}"
    return f"{frames} of {counted(total.count, 'frame')} ({share})"
