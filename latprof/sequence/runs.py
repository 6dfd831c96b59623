"""What is computed over frames in order, each a `segments.Run`: fed chunk by chunk, vectorized.

`StartRun` takes frames in order of start: ids that are skipped, late or repeated, times between
starts, frames in flight, runs of missed deadlines. `Jitter` takes them in order of end. None of
them grows with the number of frames.
"""

from dataclasses import dataclass, field
from typing import Self

import numpy as np

from latprof.arrays import Ints, Mask
from latprof.fold.moments import between, exact_sum
from latprof.frames import MISSING
from latprof.sequence.segments import Rows

__all__ = [
    "IN_TIME",
    "MISSED",
    "MOST_IN_FLIGHT",
    "SIGN_BIT",
    "IdRun",
    "IdSet",
    "Jitter",
    "StartRun",
    "Streak",
    "TimingRun",
    "distinct",
]

SIGN_BIT = np.int64(-(2**63))
"""Ids have it inverted in rows: then they have the same order as signed integers."""

EDGE_IDS = 1_024
"""Ids kept at each end of a set, because ids that come later may be among them."""

MOST_IN_FLIGHT = 16_384
"""If more frames are in flight at once, their peak is unknown."""

UNCOUNTED, IN_TIME, MISSED = 0, 1, 2
"""States of a frame regarding its deadline."""

RESTARTED = "an id came after many larger ones, as if they had started again"
TOO_MANY_IN_FLIGHT = f"more than {MOST_IN_FLIGHT:,} frames in flight"


def _no_numbers() -> Ints:
    return np.empty(0, np.int64)


# -- ids ----------------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class IdSet:
    """Distinct numbers, of which only the smallest and the largest are kept.

    Two sets can be joined if every number that may be in both is kept by both.

    Attributes
    ----------
    count
        How many numbers.
    low, high
        The smallest and the largest; without `high` all of them are in `low`.
    gap
        The longest run of absent numbers between `low` and `high`.

    Examples
    --------
    >>> seen = IdSet.of(np.array([3, 4, 8]))
    >>> seen.add(IdSet.of(np.array([5, 8, 9])))
    True
    >>> seen.count, seen.lost, seen.longest_gap
    (5, 2, 2)
    """

    count: int = 0
    low: Ints = field(default_factory=_no_numbers)
    high: Ints = field(default_factory=_no_numbers)
    gap: int = 0

    def __post_init__(self) -> None:
        kept = len(self.low) + len(self.high)
        if self.count < kept or (self.count > kept and not len(self.high)):
            raise ValueError("numbers do not match their count")
        if (self.low[1:] <= self.low[:-1]).any() or (self.high[1:] <= self.high[:-1]).any():
            raise ValueError("numbers must ascend")

    @classmethod
    def of(cls, numbers: Ints) -> Self:
        """Return the set of sorted distinct numbers (n,)."""
        if len(numbers) <= 2 * EDGE_IDS:
            return cls(len(numbers), numbers.copy())
        low, high = numbers[:EDGE_IDS].copy(), numbers[-EDGE_IDS:].copy()
        return cls(len(numbers), low, high, _longest_gap(numbers[EDGE_IDS - 1 : 1 - EDGE_IDS]))

    @property
    def lowest(self) -> int:
        """The smallest number of a set that is not empty."""
        return int(self.low[0])

    @property
    def highest(self) -> int:
        """The largest number of a set that is not empty."""
        return int(self.upper[-1])

    @property
    def upper(self) -> Ints:
        """The largest numbers that are kept without a gap between them and the largest one."""
        return self.high if len(self.high) else self.low

    @property
    def lost(self) -> int:
        """How many numbers between the smallest and the largest are absent."""
        return self.highest - self.lowest + 1 - self.count if self.count else 0

    @property
    def longest_gap(self) -> int:
        """The longest run of absent numbers."""
        return max(self.gap, _longest_gap(self.low), _longest_gap(self.high))

    def shifted(self, by: int) -> "IdSet":
        """Return the set with `by` added to each number."""
        return IdSet(self.count, self.low + by, self.high + by, self.gap)

    def add(self, other: "IdSet") -> bool:
        """Add another set; return False, and change nothing, if that is impossible."""
        joined: IdSet | None = other
        if self.count:
            joined = self._joined(other) if other.count else self
        if joined is None:
            return False
        self.count, self.low, self.high, self.gap = (
            joined.count,
            joined.low,
            joined.high,
            joined.gap,
        )
        return True

    def _joined(self, other: "IdSet") -> "IdSet | None":
        left, right = (self, other) if self.lowest <= other.lowest else (other, self)
        both = np.concatenate((left.upper, right.low))
        middle = both
        if left.highest >= right.lowest:
            beyond = len(left.high) and right.lowest < left.high[0]
            if beyond or (len(right.high) and left.highest > right.low[-1]):
                return None
            middle = distinct(both)
        count = left.count + right.count - (len(both) - len(middle))
        if not (len(left.high) or len(right.high)):
            return IdSet.of(middle)
        start = 0 if len(left.high) else EDGE_IDS
        stop = len(middle) if len(right.high) else len(middle) - EDGE_IDS
        return IdSet(
            count,
            left.low if len(left.high) else middle[:EDGE_IDS].copy(),
            right.high if len(right.high) else middle[-EDGE_IDS:].copy(),
            max(left.gap, right.gap, _longest_gap(middle[max(start - 1, 0) : stop + 1])),
        )


@dataclass(slots=True, eq=False)
class IdRun:
    """Gaps in ids, ids that come late, and the set of all ids.

    Attributes
    ----------
    bits
        If below 64, ids count modulo 2**bits and are unwrapped: each is taken for the number
        nearest to the one before it.
    last, last_number
        The last id as it came, and unwrapped.
    top
        The largest number.
    entry_number, entry_top
        `last_number` and `top` when this run began as `fresh`.
    gaps
        Places where numbers are skipped.
    reordered
        Numbers below the largest one before them.
    """

    bits: int = 64
    last: int | None = None
    last_number: int = 0
    top: int = 0
    entry_number: int = 0
    entry_top: int = 0
    count: int = 0
    gaps: int = 0
    reordered: int = 0
    seen: IdSet = field(default_factory=IdSet)
    reason: str = ""

    def feed(self, ids: Ints) -> None:
        """Add (n,) ids with their sign bit inverted, n > 0."""
        if self.bits < 64:
            ids = ids & ((1 << self.bits) - 1)
        numbers = ids if self.bits == 64 else self._unwrapped(ids)
        first = int(numbers[0])
        if self.last is None:
            self.top = first
        started, self.last, self.last_number = self.last is not None, int(ids[-1]), int(numbers[-1])
        self.count += len(ids)
        if (first > self.top or not started) and (numbers[1:] > numbers[:-1]).all():
            if self.last_number - first >= len(numbers):
                self.gaps += int(np.count_nonzero(_distances(numbers) > 1))
            self.gaps += first > self.top + 1
            self.top = self.last_number
        else:
            before = np.maximum.accumulate(np.concatenate((np.array([self.top]), numbers)))
            self.top = int(before[-1])
            before = before[:-1]
            self.reordered += int(np.count_nonzero(numbers < before))
            ahead = (numbers - before).view(np.uint64) > 1
            self.gaps += int(np.count_nonzero(ahead & (numbers > before)))
            numbers = distinct(numbers)
        if not self.seen.add(IdSet.of(numbers)):
            self.reason = RESTARTED

    def _unwrapped(self, ids: Ints) -> Ints:
        raw, number = (int(ids[0]),) * 2 if self.last is None else (self.last, self.last_number)
        half = 1 << (self.bits - 1)
        steps = np.diff(ids, prepend=np.int64(raw))
        steps = ((steps + half) & (2 * half - 1)) - half
        return np.cumsum(steps) + number

    def fresh(self) -> Self:
        """Return a run that depends on the same past and has counted nothing."""
        number, top = self.last_number, self.top
        return type(self)(self.bits, self.last, number, top, entry_number=number, entry_top=top)

    def follow(self, body: Self) -> None:
        """Add what a run that began as `fresh` has counted of the ids that come next."""
        shift = self.last_number - body.entry_number
        self.reason = self.reason or body.reason
        if self.top != body.entry_top + shift or not self.seen.add(body.seen.shifted(shift)):
            self.reason = RESTARTED
        self.last, self.last_number = body.last, body.last_number + shift
        self.top = body.top + shift
        self.count += body.count
        self.gaps += body.gaps
        self.reordered += body.reordered


def distinct(numbers: Ints) -> Ints:
    """Return the numbers (n,) sorted, each once; quick for numbers that are nearly in order.

    Examples
    --------
    >>> distinct(np.array([3, 5, 4, 3]))
    array([3, 4, 5])
    """
    numbers = np.sort(numbers, kind="stable")
    first = np.ones(len(numbers), bool)
    np.not_equal(numbers[1:], numbers[:-1], out=first[1:])
    return numbers[first]


def _longest_gap(numbers: Ints) -> int:
    """Return the longest run of numbers absent between neighbours."""
    return int(_distances(numbers).max()) - 1 if len(numbers) > 1 else 0


def _distances(numbers: Ints) -> "np.ndarray[tuple[int], np.dtype[np.uint64]]":
    # two numbers may be up to 2**64 - 1 apart: unsigned, their distance is right
    return (numbers[1:] - numbers[:-1]).view(np.uint64)


# -- times between starts, frames in flight, deadlines --------------------------------------------


@dataclass(frozen=True, slots=True)
class Streak:
    """Runs of missed deadlines among n frames: at the first frame, at the last, the longest.

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
    def of(cls, missed: Mask) -> Self:
        """Return the runs of True."""
        n = len(missed)
        met = np.flatnonzero(~missed)
        if not len(met):
            return cls(n, n, n, n)
        first, last = int(met[0]), n - 1 - int(met[-1])
        return cls(n, first, last, max(first, last, int(np.diff(met).max(initial=1)) - 1))

    def __add__(self, later: Self) -> Self:
        return type(self)(
            count=self.count + later.count,
            prefix=self.prefix + (later.prefix if self.prefix == self.count else 0),
            suffix=later.suffix + (self.suffix if later.suffix == later.count else 0),
            best=max(self.best, later.best, self.suffix + later.prefix),
        )


@dataclass(slots=True, eq=False)
class TimingRun:
    """Times between starts, frames in flight, runs of missed deadlines; all times in ns.

    Attributes
    ----------
    first, last, last_end
        The first and the last start, the latest end.
    count, total, m2, shortest, longest
        Times between starts: number, sum, squared distances from the mean, least and most.
    flown, flight
        Frames that have been in flight, and the sum of their times.
    open
        Ends after the last start, sorted.
    rises
        When 1, 2, ... frames were first in flight.
    entry
        `open` when this run began as `fresh`.
    """

    first: int | None = None
    last: int | None = None
    last_end: int | None = None
    count: int = 0
    total: int = 0
    m2: float = 0.0
    shortest: int | None = None
    longest: int | None = None
    flown: int = 0
    flight: int = 0
    open: Ints = field(default_factory=_no_numbers)
    rises: Ints = field(default_factory=_no_numbers)
    entry: Ints = field(default_factory=_no_numbers)
    streak: Streak = Streak()
    misses: int = 0
    first_missed: int | None = None
    last_missed: int | None = None
    reason: str = ""

    def feed(self, rows: Rows) -> None:
        """Add n > 0 rows of (starts, ids, ends, states) that come after all others.

        An end is `MISSING` if the frame has none, or one before its start.
        """
        starts, ids, ends, states = rows
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
            starts, ends = starts[flying], ends[flying]
        if len(starts):
            self._feed_flight(starts, ends)
        if states.any():
            self._feed_states(ids, states)

    def _feed_distances(self, distances: Ints) -> None:
        n, low, high = len(distances), int(distances.min()), int(distances.max())
        total = exact_sum(distances, high)
        middle = total // n
        floats = (distances - middle).astype(np.float64)
        rest = total - middle * n  # the mean is not an integer: what is left over
        m2 = float(np.einsum("i,i->", floats, floats)) - rest * rest / n
        self._add_distances(n, total, m2, low, high)

    def _add_distances(self, n: int, total: int, m2: float, low: int, high: int) -> None:
        self.m2 += m2 + between(self.count, self.total, self.total, n, total, total)
        self.count += n
        self.total += total
        self.shortest = low if self.shortest is None else min(self.shortest, low)
        self.longest = high if self.longest is None else max(self.longest, high)

    def _feed_flight(self, starts: Ints, ends: Ints) -> None:
        latencies = ends - starts
        self.flown += len(starts)
        self.flight += exact_sum(latencies, int(latencies.max()))
        if not (ends[1:] >= ends[:-1]).all():
            ends = np.sort(ends)
        self._extend_to(int(ends[-1]))
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
            begun = waiting + np.arange(1, len(starts) + 1)
            self._rise(starts, begun - np.searchsorted(ends, starts, side="right"))
        over = int(np.searchsorted(ends, starts[-1], side="right"))
        self._keep_open(ends[over:].copy())

    def _extend_to(self, end: int) -> None:
        self.last_end = end if self.last_end is None else max(self.last_end, end)

    def _rise(self, starts: Ints, flying: Ints) -> None:
        """Note new peaks; at `starts` (n,) so many frames were `flying`."""
        flying = np.maximum.accumulate(flying)
        peak = min(int(flying.max(initial=0)), MOST_IN_FLIGHT)
        new = np.arange(len(self.rises) + 1, peak + 1)
        self.rises = np.concatenate((self.rises, starts[np.searchsorted(flying, new)]))

    def _keep_open(self, ends: Ints) -> None:
        self.open = ends
        if len(ends) > MOST_IN_FLIGHT:
            self.reason = self.reason or TOO_MANY_IN_FLIGHT
            self.open = _no_numbers()

    def _feed_states(self, ids: Ints, states: Ints) -> None:
        self.streak += Streak.of(states[states != UNCOUNTED] == MISSED)
        missed = np.flatnonzero(states == MISSED)
        if len(missed):
            self.misses += len(missed)
            self.last_missed = int(ids[missed[-1]])
            if self.first_missed is None:
                self.first_missed = int(ids[missed[0]])

    def fresh(self) -> Self:
        """Return a run that depends on the same past and has counted nothing."""
        return type(self)(last=self.last, open=self.open, entry=self.open)

    def follow(self, body: Self) -> None:
        """Add what a run that began as `fresh` has counted of the rows that come next."""
        assert body.shortest is not None
        assert body.longest is not None
        self._add_distances(body.count, body.total, body.m2, body.shortest, body.longest)
        self.last = body.last
        self.flown += body.flown
        self.flight += body.flight
        if body.last_end is not None:
            self._extend_to(body.last_end)
        self.reason = self.reason or body.reason
        if not self.reason:
            self._follow_flight(body)
        self.streak += body.streak
        self.misses += body.misses
        self.first_missed = body.first_missed if self.first_missed is None else self.first_missed
        self.last_missed = self.last_missed if body.last_missed is None else body.last_missed

    def _follow_flight(self, body: Self) -> None:
        """Join the peaks: frames unknown to the body were in flight during it as well."""
        # of equal ends as many are known as the body has of them
        nth = np.arange(len(body.entry)) - np.searchsorted(body.entry, body.entry)
        unknown = np.ones(len(self.open), bool)
        unknown[np.searchsorted(self.open, body.entry) + nth] = False
        more = self.open[unknown]
        assert self.last is not None
        # between two rises of the body fewer are in flight: a new peak can only be at a rise
        flying = np.arange(1, len(body.rises) + 1) + len(more)
        self._rise(body.rises, flying - np.searchsorted(more, body.rises, side="right"))
        self._keep_open(np.sort(np.concatenate((body.open, more[more > self.last]))))


@dataclass(slots=True, eq=False)
class StartRun:
    """What depends on the order of starts; rows are (starts, ids, ends, states), see `TimingRun`.

    Ids have their sign bit inverted.
    """

    ids: IdRun = field(default_factory=IdRun)
    timing: TimingRun = field(default_factory=TimingRun)

    def feed(self, rows: Rows) -> None:
        """Add rows that come after all others."""
        if len(rows[0]):
            self.ids.feed(rows[1])
            self.timing.feed(rows)

    def fresh(self) -> Self:
        """Return a run that depends on the same past and has counted nothing."""
        return type(self)(self.ids.fresh(), self.timing.fresh())

    def follow(self, body: Self) -> None:
        """Add what a run that began as `fresh` has counted of the rows that come next."""
        self.ids.follow(body.ids)
        self.timing.follow(body.timing)


# -- jitter -------------------------------------------------------------------------------------


ROW = 1_024
DECAY = 15 / 16
# a filter J += (x - J) / 16 is a sum of x / 16 / decay**i, times decay**i: all of it is positive,
# so that nothing is lost, and decay**-1024 is only 5e28
UP = DECAY ** -np.arange(ROW) / 16
DOWN = DECAY ** np.arange(ROW)


@dataclass(slots=True, eq=False)
class Jitter:
    """RFC 3550's inter-arrival jitter; rows are (ends, ids, latencies of 0 or more), ns.

    Section 6.4.1: D is the difference of the latencies of a frame and of the one that arrived
    before it, and J += (abs(D) - J) / 16.

    Attributes
    ----------
    last
        The last latency.
    value, peak
        The jitter, and the largest so far.
    entry
        `value` when this run began as `fresh`.
    count, total
        Number and sum of the differences.
    """

    last: int | None = None
    value: float = 0.0
    entry: float = 0.0
    count: int = 0
    total: int = 0
    peak: float = 0.0

    def feed(self, rows: Rows) -> None:
        """Add rows that come after all others."""
        latencies = rows[2]
        if not len(latencies):
            return
        first = latencies[0] if self.last is None else self.last
        differences = np.diff(latencies, prepend=np.int64(first))[self.last is None :]
        self.last = int(latencies[-1])
        n = len(differences)
        if not n:
            return
        np.abs(differences, out=differences)
        self.count += n
        self.total += exact_sum(differences, int(differences.max()))
        weighted = np.empty(-(-n // ROW) * ROW)
        weighted[:n], weighted[n:] = differences, 0
        table = weighted.reshape(-1, ROW)
        table *= UP
        value = self.value
        values = []
        for end in (table.sum(axis=1) * DOWN[-1]).tolist():
            values.append(DECAY * value)
            value = end + DOWN[-1] * DECAY * value
        table[:, 0] += values
        np.cumsum(table, axis=1, out=table)
        table *= DOWN
        # after the last row there are zeros, with which the jitter falls: the peak stays
        self.value = float(weighted[n - 1])
        self.peak = max(self.peak, float(weighted.max()))

    def fresh(self) -> Self:
        """Return a run that depends on the same past and has counted nothing."""
        return type(self)(self.last, self.value, self.value)

    def follow(self, body: Self) -> None:
        """Add what a run that began as `fresh` has counted of the rows that come next.

        After the rows that are the same, the filter depends on earlier ones by less than 1e-14.
        """
        apart = self.value - body.entry
        self.last = body.last
        self.value = body.value + (apart * DECAY**body.count if apart else 0.0)
        self.count += body.count
        self.total += body.total
        self.peak = max(self.peak, body.peak)
