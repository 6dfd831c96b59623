"""Jitter, time between starts, frames in flight and missed deadlines of frames in order.

`Jitter` and `Pace` are each a `segments.Run`: vectorized, and not growing with the rows.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from latprof.arrays import Ints, Mask
from latprof.fold.moments import between, exact_sum
from latprof.frames import MISSING
from latprof.sequence.segments import Rows, pack, unpack

__all__ = ["MISSED", "MOST_IN_FLIGHT", "Jitter", "Pace", "Streak"]

MISSED = 2
"""State of a frame that missed its deadline; 1: it was in time, 0: it does not count."""

MOST_IN_FLIGHT = 16_384
"""With more frames in flight at once, their peak is not known."""


_ROW = 1_024
_DECAY = 15 / 16
# a filter J += (x - J) / 16 is a sum of x / 16 / decay**i, times decay**i: all of it is positive,
# so that nothing is lost, and decay**-1024 is only 5e28
_UP = _DECAY ** -np.arange(_ROW) / 16
_DOWN = _DECAY ** np.arange(_ROW)


class Jitter:
    """RFC 3550's inter-arrival jitter; rows are (arrivals, ids, latencies from 0 on), ns.

    Section 6.4.1: D is the difference of the latencies of a frame and of the one that arrived
    before it, and J += (abs(D) - J) / 16.
    """

    def __init__(self) -> None:
        self.last: int | None = None
        self.value = 0.0
        self.entry = 0.0
        self.count = 0
        self.total = 0
        self.peak = 0.0

    def feed(self, rows: Rows) -> None:
        """Add rows that come after all others."""
        latencies = rows[2]
        if not len(latencies):
            return
        if self.last is None:
            differences = np.diff(latencies)
        else:
            differences = np.diff(latencies, prepend=np.int64(self.last))
        self.last = int(latencies[-1])
        n = len(differences)
        if not n:
            return
        np.abs(differences, out=differences)
        self.count += n
        self.total += exact_sum(differences, int(differences.max()))
        weighted = np.empty(-(-n // _ROW) * _ROW)
        weighted[:n], weighted[n:] = differences, 0
        table = weighted.reshape(-1, _ROW)
        table *= _UP
        value = self.value
        values = []
        for end in (table.sum(axis=1) * _DOWN[-1]).tolist():
            values.append(_DECAY * value)
            value = end + _DOWN[-1] * _DECAY * value
        table[:, 0] += values
        np.cumsum(table, axis=1, out=table)
        table *= _DOWN
        # after the last row 0 is padded, with which the jitter falls: the peak stays
        self.value = float(weighted[n - 1])
        self.peak = max(self.peak, float(weighted.max()))

    def fresh(self) -> "Jitter":
        """Return a run that depends on the same past and has counted nothing."""
        same = Jitter()
        same.last, same.value, same.entry = self.last, self.value, self.value
        return same

    def follow(self, body: "Jitter") -> None:
        """Add what a fresh run has counted of the rows that come now.

        The filter has forgotten all but 1e-14 of what came before the rows that are the same.
        """
        apart = self.value - body.entry
        self.last = body.last
        self.value = body.value + (apart * _DECAY**body.count if apart else 0.0)
        self.count += body.count
        self.total += body.total
        self.peak = max(self.peak, body.peak)

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as values that JSON has."""
        names = ("last", "value", "entry", "count", "total", "peak")
        return {name: getattr(self, name) for name in names}

    def read(self, saved: Any) -> None:
        """Take what `to_dict` has written."""
        self.last, self.count, self.total = (int(saved[k]) for k in ("last", "count", "total"))
        self.value, self.entry, self.peak = (float(saved[k]) for k in ("value", "entry", "peak"))


@dataclass(frozen=True, slots=True)
class Streak:
    """Runs of missed deadlines among n frames in a row: at their begin, at their end, the longest.

    Examples
    --------
    >>> Streak.of(np.array([True, False, True, True])) + Streak.of(np.array([True, False]))
    Streak(count=6, prefix=1, suffix=0, best=3)
    """

    count: int = 0
    prefix: int = 0
    suffix: int = 0
    best: int = 0

    @classmethod
    def of(cls, missed: Mask) -> "Streak":
        """Return the runs of True."""
        n = len(missed)
        met = np.flatnonzero(~missed)
        if not len(met):
            return cls(n, n, n, n)
        best = max(int(met[0]), n - 1 - int(met[-1]), int(np.diff(met).max(initial=1)) - 1)
        return cls(n, int(met[0]), n - 1 - int(met[-1]), best)

    def __add__(self, later: "Streak") -> "Streak":
        return Streak(
            self.count + later.count,
            self.prefix + (later.prefix if self.prefix == self.count else 0),
            later.suffix + (self.suffix if later.suffix == later.count else 0),
            max(self.best, later.best, self.suffix + later.prefix),
        )


@dataclass(slots=True, eq=False)
class Pace:
    """Time between starts, frames in flight, deadlines; rows are (starts, ids, ends, states).

    An end is `MISSING` where the frame has none or one before its start.
    """

    first: int | None = None
    last: int | None = None
    last_end: int | None = None
    count: int = 0  # distances between starts
    total: int = 0
    m2: float = 0.0
    shortest: int | None = None
    longest: int | None = None
    flown: int = 0  # frames that have been in flight, and how long in all
    flight: int = 0
    # ends after the last start, sorted; when 1, 2, ... frames were first in flight; before a body
    open: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    rises: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    entry: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    streak: Streak = Streak()
    misses: int = 0
    first_missed: int | None = None
    last_missed: int | None = None
    reason: str = ""

    def feed(self, rows: Rows) -> None:
        """Add rows that come after all others."""
        starts, ids, ends, states = rows
        if not len(starts):
            return
        if self.last is not None:
            distance = int(starts[0]) - self.last
            self._add_distances(1, distance, 0.0, distance, distance)
        elif self.first is None:
            self.first = int(starts[0])
        self.last = int(starts[-1])
        if len(starts) > 1:
            self._feed_distances(np.diff(starts))
        if int(ends.min()) == MISSING:
            flying = ends != MISSING
            self._feed_flight(starts[flying], ends[flying])
        else:
            self._feed_flight(starts, ends)
        if states.any():
            self._feed_states(ids, states)

    def _feed_distances(self, distances: Ints) -> None:
        n, low, high = len(distances), int(distances.min()), int(distances.max())
        total = exact_sum(distances, high)
        middle = total // n
        floats = (distances - middle).astype(np.float64)
        rest = total - middle * n  # the mean is no integer: what is left over
        m2 = float(np.einsum("i,i->", floats, floats)) - rest * rest / n
        self._add_distances(n, total, m2, low, high)

    def _add_distances(self, n: int, total: int, m2: float, low: int, high: int) -> None:
        self.m2 += m2 + between(self.count, self.total, self.total, n, total, total)
        self.count += n
        self.total += total
        self.shortest = low if self.shortest is None else min(self.shortest, low)
        self.longest = high if self.longest is None else max(self.longest, high)

    def _feed_flight(self, starts: Ints, ends: Ints) -> None:
        if not len(starts):
            return
        latencies = ends - starts
        self.flown += len(starts)
        self.flight += exact_sum(latencies, int(latencies.max()))
        if not (ends[1:] >= ends[:-1]).all():
            ends = np.sort(ends)
        self._stretch(int(ends[-1]))
        waiting = len(self.open)
        if waiting:
            ends = np.concatenate((self.open, ends))
            if self.open[-1] > ends[waiting]:
                ends.sort()
        # more than `peak` are in flight at a start if the end that far back is later
        peak = len(self.rises)
        early, skipped = max(waiting - peak, 0), max(peak - waiting, 0)
        later = starts[skipped:]
        if (ends[early : early + len(later)] > later).any():
            self._rise(starts, waiting + np.arange(1, len(starts) + 1), ends)
        over = int(np.searchsorted(ends, starts[-1], side="right"))
        self.open = ends[over:].copy()
        if len(self.open) > MOST_IN_FLIGHT:
            self._lose_flight(f"more than {MOST_IN_FLIGHT:,} frames in flight")

    def _stretch(self, end: int) -> None:
        self.last_end = end if self.last_end is None else max(self.last_end, end)

    def _rise(self, starts: Ints, begun: Ints, ends: Ints) -> None:
        flying = np.maximum.accumulate(begun - np.searchsorted(ends, starts, side="right"))
        peak = min(int(flying[-1]), MOST_IN_FLIGHT)
        new = np.arange(len(self.rises) + 1, peak + 1)
        self.rises = np.concatenate((self.rises, starts[np.searchsorted(flying, new)]))

    def _lose_flight(self, reason: str) -> None:
        self.reason = self.reason or reason
        self.open = np.empty(0, np.int64)

    def _feed_states(self, ids: Ints, states: npt.NDArray[Any]) -> None:
        counted = states[states > 0] == MISSED
        self.streak += Streak.of(counted)
        missed = np.flatnonzero(states == MISSED)
        if len(missed):
            self.misses += len(missed)
            self.last_missed = int(ids[missed[-1]])
            if self.first_missed is None:
                self.first_missed = int(ids[missed[0]])

    def fresh(self) -> "Pace":
        """Return a run that depends on the same past and has counted nothing."""
        return Pace(last=self.last, open=self.open, entry=self.open)

    def follow(self, body: "Pace") -> None:
        """Add what a fresh run has counted of the rows that come now."""
        assert body.shortest is not None
        assert body.longest is not None
        self._add_distances(body.count, body.total, body.m2, body.shortest, body.longest)
        self.last = body.last
        self.flown += body.flown
        self.flight += body.flight
        if body.last_end is not None:
            self._stretch(body.last_end)
        self.reason = self.reason or body.reason
        self._follow_flight(body)
        self.streak += body.streak
        self.misses += body.misses
        self.first_missed = body.first_missed if self.first_missed is None else self.first_missed
        self.last_missed = self.last_missed if body.last_missed is None else body.last_missed

    def _follow_flight(self, body: "Pace") -> None:
        """Join the peaks: frames that the body did not know of are in flight during it as well."""
        if self.reason:
            return
        # of equal ends as many are known as the body has of them
        nth = np.arange(len(body.entry)) - np.searchsorted(body.entry, body.entry)
        unknown = np.ones(len(self.open), bool)
        unknown[np.searchsorted(self.open, body.entry) + nth] = False
        more = self.open[unknown]
        known = np.arange(1, len(body.rises) + 1)
        # between two of the body's rises only fewer are in flight: its rises tell of all peaks
        flying = known + len(more) - np.searchsorted(more, body.rises, side="right")
        flying = np.maximum.accumulate(flying)
        peak = min(int(flying.max(initial=0)), MOST_IN_FLIGHT)
        new = np.arange(len(self.rises) + 1, peak + 1)
        self.rises = np.concatenate((self.rises, body.rises[np.searchsorted(flying, new)]))
        assert self.last is not None
        self.open = np.sort(np.concatenate((body.open, more[more > self.last])))
        if len(self.open) > MOST_IN_FLIGHT:
            self._lose_flight(f"more than {MOST_IN_FLIGHT:,} frames in flight")

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as values that JSON has."""
        saved = {name: getattr(self, name) for name in (*_NUMBERS, *_OPTIONAL, "m2", "reason")}
        saved |= {name: pack(getattr(self, name)) for name in _ARRAYS}
        streak = self.streak
        saved["streak"] = [streak.count, streak.prefix, streak.suffix, streak.best]
        return saved

    def read(self, saved: Any) -> None:
        """Take what `to_dict` has written."""
        for name in _NUMBERS:
            setattr(self, name, int(saved[name]))
        for name in _OPTIONAL:
            setattr(self, name, None if saved[name] is None else int(saved[name]))
        for name in _ARRAYS:
            setattr(self, name, unpack(saved[name], MOST_IN_FLIGHT))
        self.m2, self.reason = float(saved["m2"]), str(saved["reason"])
        self.streak = Streak(*(int(n) for n in saved["streak"]))


_NUMBERS = ("count", "total", "flown", "flight", "misses")
_OPTIONAL = ("first", "last", "last_end", "shortest", "longest", "first_missed", "last_missed")
_ARRAYS = ("open", "rises", "entry")
