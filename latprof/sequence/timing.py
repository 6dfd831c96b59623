"""Times between starts, frames in flight, missed deadlines and jitter of frames in order.

`TimingRun` and `Jitter` are fed chunk by chunk, vectorized; their size does not grow with the
number of frames.
"""

import math
from dataclasses import dataclass, field
from typing import Annotated, Self

import numpy as np

from latprof.arrays import Counts, Ints, Length, Mask, Stamp, exact_sum
from latprof.fold.sums import between
from latprof.frames import MISSING
from latprof.histogram import COARSE, COARSE_BINS, bin_of, coarse_edges, rank_of
from latprof.sequence.ids import NOT_AVAILABLE, SIGN_BIT, Number
from latprof.sequence.segments import Rows

__all__ = [
    "IN_TIME",
    "MISSED",
    "DeadlineResult",
    "InFlightResult",
    "Jitter",
    "JitterResult",
    "PeriodResult",
    "Streak",
    "TimingRun",
]

MOST_IN_FLIGHT = 16_384
"""If more frames are in flight at once, their peak is unknown."""

UNCOUNTED, IN_TIME, MISSED = 0, 1, 2
"""States of a frame regarding its deadline."""

TOO_MANY_IN_FLIGHT = f"more than {MOST_IN_FLIGHT:,} frames in flight"


def _no_numbers() -> Ints:
    return np.empty(0, np.int64)


# -- results: fields are None if they are not available, and `note` says why -----------------------


@dataclass(frozen=True, slots=True)
class JitterResult:
    """RFC 3550 inter-arrival jitter in ns, in order of end.

    Only frames with an end_to_end of 0 or more count.

    `last` and `peak` are of the filtered jitter, `mean` is of the differences between successive
    latencies.
    """

    mark: str = "end"
    last: float | None = None
    peak: float | None = None
    mean: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class PeriodResult:
    """Times between the starts of successive frames, ns, `count` of them.

    Percentiles are within 1.6 %.
    """

    count: int
    mean: float | None = None
    std: float | None = None
    min: int | None = None
    p50: int | None = None
    p90: int | None = None
    p99: int | None = None
    max: int | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class InFlightResult:
    """Frames in flight: started and not ended. At its end a frame is not in flight any more.

    `mean` is by Little's law: the sum of end_to_end / active time. Dropped frames are in flight
    until they are dropped.
    """

    mean: float | None = None
    peak: int | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class DeadlineResult:
    """Frames that took longer than the deadline (ns), or were dropped.

    `ratio` is the share of `frames`: those finished with a latency of 0 or more, and those dropped.
    `longest_run` counts misses in a row, in order of start; `first_missed` and `last_missed` are
    ids.
    """

    deadline_ns: int
    span: str
    frames: int | None = None
    misses: int | None = None
    ratio: float | None = None
    longest_run: int | None = None
    first_missed: int | None = None
    last_missed: int | None = None
    note: str = ""


# -- frames in order of start ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Streak:
    """Missed deadlines in a row among `count` frames.

    The run that begins with the first frame, the one that ends with the last, and the longest.

    Examples
    --------
    >>> Streak.of(np.array([True, False, True, True])) + Streak.of(np.array([True, False]))
    Streak(count=6, misses_at_first=1, misses_at_last=0, longest=3)
    """

    count: int = 0
    misses_at_first: int = 0
    misses_at_last: int = 0
    longest: int = 0

    @classmethod
    def of(cls, missed: Mask) -> Self:
        """Return the runs of True in (n,) frames in order."""
        n = len(missed)
        met = np.flatnonzero(~missed)
        if not len(met):
            return cls(n, n, n, n)
        first, last = int(met[0]), n - 1 - int(met[-1])
        return cls(n, first, last, max(first, last, int(np.diff(met).max(initial=1)) - 1))

    def __add__(self, later: Self) -> Self:
        return type(self)(
            count=self.count + later.count,
            misses_at_first=self.misses_at_first
            + (later.misses_at_first if self.misses_at_first == self.count else 0),
            misses_at_last=later.misses_at_last
            + (self.misses_at_last if later.misses_at_last == later.count else 0),
            longest=max(self.longest, later.longest, self.misses_at_last + later.misses_at_first),
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
    distances
        Counts of the times between starts by coarse bin, up to the last one that is not 0.
    flown, flight
        Number of frames with a start and an end, and the sum of their end_to_end.
    open
        Ends after the last start, sorted: those of the frames in flight.
    rises
        When 1, 2, ... frames were first in flight.
    entry
        `open` when this run began as `fresh`.
    """

    first: Stamp | None = None
    last: Stamp | None = None
    last_end: Stamp | None = None
    count: int = 0
    total: int = 0
    m2: float = 0.0
    shortest: int | None = None
    longest: int | None = None
    distances: Annotated[Counts, Length(COARSE_BINS)] = field(default_factory=_no_numbers)
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
            self._count_distances(np.array([distance]))
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
        self._count_distances(distances)

    def _count_distances(self, distances: Ints) -> None:
        fine = bin_of(distances.astype(np.float64))
        self._add_counts(np.bincount(np.where(fine == 0, 0, ((fine - 1) >> COARSE) + 1)))

    def _add_counts(self, counts: Ints) -> None:
        more = len(counts) - len(self.distances)
        if more > 0:
            self.distances = np.pad(self.distances, (0, more))
        self.distances[: len(counts)] += counts

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
        # more than `peak` are in flight at a start if the end `peak` places before it is later
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
        """Record new peaks; `flying` (n,) frames were in flight at `starts` (n,)."""
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
        """Return a run that starts where this one stands, with all counters at 0."""
        return type(self)(last=self.last, open=self.open, entry=self.open)

    def follow(self, body: Self) -> None:
        """Add the counts of a run that began as `fresh` and was fed the rows that come next."""
        assert body.shortest is not None
        assert body.longest is not None
        self._add_distances(body.count, body.total, body.m2, body.shortest, body.longest)
        self._add_counts(body.distances)
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
        # match equal ends one to one: the k-th equal value in `entry` removes the k-th in `open`
        nth = np.arange(len(body.entry)) - np.searchsorted(body.entry, body.entry)
        unknown = np.ones(len(self.open), bool)
        unknown[np.searchsorted(self.open, body.entry) + nth] = False
        more = self.open[unknown]
        assert self.last is not None
        # between two rises of the body fewer are in flight: a new peak can only be at a rise
        flying = np.arange(1, len(body.rises) + 1) + len(more)
        self._rise(body.rises, flying - np.searchsorted(more, body.rises, side="right"))
        self._keep_open(np.sort(np.concatenate((body.open, more[more > self.last]))))

    def period(self, note: str) -> PeriodResult:
        """Return the times between starts; all are None below two frames, `std` below three."""
        if note or not self.count:
            return PeriodResult(self.count, note=note)
        std = math.sqrt(max(self.m2, 0.0) / (self.count - 1)) if self.count > 1 else None
        low, high = (edges[: len(self.distances)] for edges in coarse_edges())
        middles = np.clip(low // 2 + high // 2, self.shortest, self.longest)
        ranks = [rank_of(q, self.count) for q in (50, 90, 99)]
        p50, p90, p99 = middles[np.searchsorted(np.cumsum(self.distances), ranks)].tolist()
        mean = self.total / self.count
        return PeriodResult(self.count, mean, std, self.shortest, p50, p90, p99, self.longest)

    def in_flight(self, note: str, active_ns: int | None) -> InFlightResult:
        """Return the frames in flight.

        The mean is over `active_ns`, or if it is None, from the first start to the last end.
        """
        if note or not self.flown:
            return InFlightResult(note=note)
        if active_ns is None and self.first is not None and self.last_end is not None:
            active_ns = self.last_end - self.first
        mean = self.flight / active_ns if active_ns and active_ns > 0 else None
        if self.reason:
            return InFlightResult(mean, note=NOT_AVAILABLE + self.reason)
        return InFlightResult(mean, len(self.rises))

    def deadline(self, note: str, deadline_ns: int | None, span: str) -> DeadlineResult | None:
        """Return the missed deadlines, or None without a deadline."""
        if deadline_ns is None:
            return None
        if note:
            return DeadlineResult(deadline_ns, span, note=note)
        frames, misses = self.streak.count, self.misses
        first, last = self.first_missed, self.last_missed
        return DeadlineResult(
            deadline_ns,
            span,
            frames,
            misses,
            misses / frames if frames else None,
            longest_run=self.streak.longest,
            first_missed=None if first is None else first - int(SIGN_BIT),
            last_missed=None if last is None else last - int(SIGN_BIT),
        )


# -- jitter -------------------------------------------------------------------------------------


BLOCK = 1_024  # differences that are filtered together
DECAY = 15 / 16
# the filter J += (x - J) / 16 is a sum of x / 16 / decay**i, times decay**i: all terms are
# positive, so that no digits cancel, and decay**-1024 is only 5e28
UP = DECAY ** -np.arange(BLOCK) / 16
DOWN = DECAY ** np.arange(BLOCK)


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
        Number and sum of the absolute differences, ns.
    """

    last: Number | None = None
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
        weighted = np.empty(-(-n // BLOCK) * BLOCK)
        weighted[:n], weighted[n:] = differences, 0
        table = weighted.reshape(-1, BLOCK)
        table *= UP
        value = self.value
        values = []
        for end in (table.sum(axis=1) * DOWN[-1]).tolist():
            values.append(DECAY * value)
            value = end + DOWN[-1] * DECAY * value
        table[:, 0] += values
        np.cumsum(table, axis=1, out=table)
        table *= DOWN
        # the zeros after the last row only let the jitter fall: they do not change the peak
        self.value = float(weighted[n - 1])
        self.peak = max(self.peak, float(weighted.max()))

    def fresh(self) -> Self:
        """Return a run that starts where this one stands, with all counters at 0."""
        return type(self)(self.last, self.value, self.value)

    def follow(self, body: Self) -> None:
        """Add the counts of a run that began as `fresh` and was fed the rows that come next.

        `SETTLED_ROWS` rows later the filter depends on its earlier value by less than 1e-14.
        """
        apart = self.value - body.entry
        self.last = body.last
        self.value = body.value + (apart * DECAY**body.count if apart else 0.0)
        self.count += body.count
        self.total += body.total
        self.peak = max(self.peak, body.peak)

    def result(self, note: str) -> JitterResult:
        """Return the jitter; it is None below two frames, or if `note` says why it is unknown."""
        if note or not self.count:
            return JitterResult(note=note)
        return JitterResult(last=self.value, peak=self.peak, mean=self.total / self.count)
