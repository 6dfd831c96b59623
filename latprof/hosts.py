"""How far the clocks of hosts were apart, as `latprof.join` has estimated from crossing spans."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from latprof.text import clip
from latprof.units import format_exact, format_ns

__all__ = [
    "AS_GIVEN",
    "METHODS",
    "MOST_HOSTS",
    "ONE_WAY",
    "SAME_BOOT",
    "TWO_WAYS",
    "WALL",
    "HostClock",
    "add_clock",
    "as_dicts",
    "clock_lines",
    "clocks_of",
]

AS_GIVEN, SAME_BOOT, TWO_WAYS = "as given", "same boot", "two ways"
ONE_WAY, WALL = "one way, a bound", "wall clock"
METHODS = (WALL, ONE_WAY, TWO_WAYS)
"""How clocks of several hosts are compared, the least certain first."""

MOST_HOSTS = 100
"""Most hosts of which a profile describes the clock, the first in alphabetical order."""

_LONGEST = 80  # characters of a name
_LIMITS = ("low_ns", "high_ns", "bound_ns", "drift_low_ppb", "drift_high_ppb")


@dataclass(frozen=True, slots=True)
class HostClock:
    """How far the clock of a host was ahead of the clock of the first host along the pipeline.

    If several joined traces have the host, the limits hold for all of them.

    Parameters
    ----------
    method
        One of `METHODS`, the least certain one.
    spans
        The spans that either begin or end on this host.
    offset_ns, drift_ppb
        The lowest and the highest estimate over the traces; empty if there is none. 1 ppb is 1 ns
        a second.
    low_ns, high_ns
        Limits of the true offset; None if a limit is unknown.
    bound_ns
        How far a corrected stamp may be from the truth; None if that is unknown.
    drift_low_ppb, drift_high_ppb
        Limits of the true drift; None if they are unknown.
    contradiction_ns
        By how much frames contradict a clock of constant rate; 0 if they allow one.
    """

    method: str
    spans: tuple[str, ...]
    offset_ns: tuple[int, ...] = ()
    drift_ppb: tuple[int, ...] = ()
    low_ns: int | None = None
    high_ns: int | None = None
    bound_ns: int | None = None
    drift_low_ppb: int | None = None
    drift_high_ppb: int | None = None
    contradiction_ns: int = 0

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> "HostClock":
        """Return the clock that an entry of ``meta["join"]["clocks"]`` describes."""
        method = entry.get("method")
        estimates = [entry.get("offset_ns"), entry.get("drift_ppb")]
        offset, drift = (() if ns is None else (ns, ns) for ns in estimates)
        limits: dict[str, Any] = {name: entry.get(name) for name in _LIMITS}
        return cls(
            method if method in METHODS else WALL,
            tuple(clip(name, _LONGEST) for name in entry.get("spans") or ()),
            offset_ns=offset,
            drift_ppb=drift,
            contradiction_ns=entry.get("contradiction_ns") or 0,
            **limits,
        )

    def __add__(self, other: "HostClock") -> "HostClock":
        """Return the clock with the limits that hold for both."""
        widest: dict[str, Any] = {}
        for name in _LIMITS:
            mine, theirs = getattr(self, name), getattr(other, name)
            either = min if "low" in name else max
            widest[name] = None if mine is None or theirs is None else either(mine, theirs)
        return HostClock(
            min(self.method, other.method, key=METHODS.index),
            tuple(sorted({*self.spans, *other.spans})),
            offset_ns=_range(self.offset_ns + other.offset_ns),
            drift_ppb=_range(self.drift_ppb + other.drift_ppb),
            contradiction_ns=max(self.contradiction_ns, other.contradiction_ns),
            **widest,
        )

    @property
    def doubt(self) -> str:
        """Why times between hosts may be wrong by an unknown amount, or ""."""
        if self.method == WALL:
            return "is compared with the first host's as it is, and may be off by any amount"
        if self.contradiction_ns:
            return (
                f"does not run at a constant rate, or stamps are wrong: frames contradict each "
                f"other by {format_ns(self.contradiction_ns)}"
            )
        return ""

    def sentence(self) -> str:
        """Return the offset and the drift, each with its limits."""
        if not self.offset_ns:
            return self.doubt
        step = self.bound_ns or abs(self.offset_ns[0]) / 1_000
        low, high = (
            None if ns is None else _rounded(ns, step) for ns in (self.low_ns, self.high_ns)
        )
        offset = _between(*(_rounded(ns, step) for ns in self.offset_ns))
        if low is not None and high is not None:
            limits = f"the truth is between {low} and {high}, and stamps are within "
            limits += format_ns(self.bound_ns)
        else:
            side = f"at least {low}" if high is None else f"at most {high}"
            limits = f"the truth is {side}: only times beyond those of the fastest frames are known"
        return f"was {offset} ahead ({limits}); {self._drift()}"

    def _drift(self) -> str:
        drift = _between(*(f"{ppb / 1_000:,.3g} us" for ppb in self.drift_ppb))
        said = f"it gained {drift} a second" if any(self.drift_ppb) else "no drift was found"
        if self.drift_low_ppb is None or self.drift_high_ppb is None:
            return f"{said} (its limits are not known)"
        low, high = (f"{ppb / 1_000:,.3g}" for ppb in (self.drift_low_ppb, self.drift_high_ppb))
        return f"{said} (the truth is between {low} and {high} us a second)"


def _range(values: tuple[int, ...]) -> tuple[int, ...]:
    return (min(values), max(values)) if values else ()


def _between(least: str, most: str) -> str:
    return least if least == most else f"{least} to {most}"


def _rounded(ns: int, step: float) -> str:
    """Return a time as text, rounded to a power of ten near a hundredth of `step` (ns).

    Examples
    --------
    >>> _rounded(36_997_999_999, 2_002_004)
    '36.998 s'
    """
    digits = max(len(str(int(step))) - 3, 0)
    return format_exact(round(ns, -digits))


def add_clock(clocks: dict[str, HostClock], host: str, clock: HostClock) -> None:
    """Add the clock of a host to those that are known."""
    name = host[:_LONGEST]
    clocks[name] = clocks[name] + clock if name in clocks else clock
    for beyond in sorted(clocks)[MOST_HOSTS:]:
        del clocks[beyond]


def clocks_of(entries: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, HostClock]]:
    """Yield host and clock of the entries of ``meta["join"]["clocks"]``."""
    for entry in entries:
        parts = entry.get("parts") or ("another host",)
        yield str(entry.get("host") or parts[0]), HostClock.of(entry)


def clock_lines(clocks: Mapping[str, HostClock]) -> list[str]:
    """Return a sentence on each host and on the spans for which its clock matters."""
    return [
        (f"{', '.join(clock.spans)} between hosts: " if clock.spans else "")
        + f"the clock of {clip(host)} {clock.sentence()}"
        for host, clock in sorted(clocks.items())
    ]


def as_dicts(clocks: Mapping[str, HostClock]) -> list[dict[str, Any]]:
    """Return the clocks as JSON values."""
    return [{"host": host} | asdict(clock) for host, clock in sorted(clocks.items())]
