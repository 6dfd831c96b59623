"""Warning and critical thresholds: times above them are counted, logged and shown as slow."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from latprof.errors import LatprofError, ProfileError
from latprof.text import quoted
from latprof.units import format_exact, parse_duration

__all__ = ["END_TO_END", "LEVELS", "Duration", "Thresholds", "parse_thresholds"]

END_TO_END = "end_to_end"
LEVELS = ("warning", "critical")

Duration = str | int | timedelta


@dataclass(frozen=True, slots=True)
class Thresholds:
    """A warning and a critical threshold of end_to_end, and of single spans.

    Parameters
    ----------
    warning_ns, critical_ns
        Thresholds of end_to_end in ns, or None if there is none.
    spans
        Thresholds of single spans, by name.

    Examples
    --------
    >>> thresholds = Thresholds(warning_ns=50_000_000, critical_ns=100_000_000)
    >>> [thresholds.level(ns) for ns in (50_000_000, 50_000_001, 100_000_001, None)]
    ['', 'warning', 'critical', '']
    """

    warning_ns: int | None = None
    critical_ns: int | None = None
    spans: Mapping[str, "Thresholds"] = field(default_factory=dict)

    @classmethod
    def from_spans(cls, warning: Mapping[str, int], critical: Mapping[str, int]) -> "Thresholds":
        """Return thresholds from two mappings of span names to ns; `by_span` is the inverse."""
        pairs = {
            span: (warning.get(span), critical.get(span)) for span in sorted({*warning, *critical})
        }
        total = pairs.pop(END_TO_END, (None, None))
        return cls(*total, {span: cls(*pair) for span, pair in pairs.items()})

    def by_span(self, level: str) -> dict[str, int]:
        """Return the thresholds of one of the `LEVELS` in ns, by span; end_to_end comes first."""
        every = {END_TO_END: self, **self.spans}
        found = {span: getattr(each, f"{level}_ns") for span, each in every.items()}
        return {span: ns for span, ns in found.items() if ns is not None}

    @property
    def limits(self) -> dict[str, int]:
        """The thresholds of end_to_end in ns, by level; a level without a threshold is left out."""
        known = {"warning": self.warning_ns, "critical": self.critical_ns}
        return {level: ns for level, ns in known.items() if ns is not None}

    def of(self, name: str) -> "Thresholds":
        """Return the thresholds of a span, or those of end_to_end if it has none of its own."""
        return self.spans.get(name, self)

    def level(self, ns: float | None) -> str:
        """Return "critical" or "warning" if the time is above that threshold, otherwise ""."""
        if ns is None:
            return ""
        if self.critical_ns is not None and ns > self.critical_ns:
            return "critical"
        return "warning" if self.warning_ns is not None and ns > self.warning_ns else ""


def parse_thresholds(
    warning: Duration | Mapping[str, Duration] | None,
    critical: Duration | Mapping[str, Duration] | None,
    *,
    error: type[LatprofError] = ProfileError,
) -> Thresholds:
    """Return the thresholds that a user has given.

    Parameters
    ----------
    warning, critical
        A threshold of end_to_end, ``"50ms"``, ns or a timedelta; or a mapping from the names of
        spans to such thresholds; or None.
    error
        Type of the error.

    Raises
    ------
    LatprofError
        A value is not a duration, or a warning threshold is above the critical one.

    Examples
    --------
    >>> parse_thresholds("50ms", {"alsa": "20ms"}).by_span("critical")
    {'alsa': 20000000}
    """
    low, high = (
        _parsed(given, level, error)
        for level, given in zip(LEVELS, (warning, critical), strict=True)
    )
    for span in sorted(low.keys() & high.keys()):
        if low[span] > high[span]:
            of = "" if span == END_TO_END else f" of {quoted(span)}"
            raise error(
                f"warning{of} ({format_exact(low[span])}) must not exceed critical{of} "
                f"({format_exact(high[span])}); swap them or raise critical"
            )
    return Thresholds.from_spans(low, high)


def _parsed(
    given: Duration | Mapping[str, Duration] | None, level: str, error: type[LatprofError]
) -> dict[str, int]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        return {END_TO_END: parse_duration(given, name=level, error=error)}
    return {
        span: parse_duration(value, name=f"{level} of {quoted(span)}", error=error)
        for span, value in given.items()
    }
