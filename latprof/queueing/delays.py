"""Splits the time between arrival and entry into transport delay and queueing.

A frame that enters a station within `limit_ns` after the departure that it may have waited for was
queued. How much of its time in front of the station was transport delay is then unknown, except
that the delay was over by that departure. The time of all other frames is delay::

    server    |-- earlier frame --|    |-- this frame --
              ^ arrive            ^ freed_at
                                          ^ begin
    queued    |-- delay --| waits |<-->|  hand-over: at most `limit_ns`
    bound     |-- delay is at most -|
"""

from dataclasses import dataclass, replace

import numpy as np

from latprof.arrays import Ints, Mask
from latprof.frames import MISSING
from latprof.queueing.stations import MOST_CONFLICTS, Visits, latest_departures, ordered

__all__ = ["LEAST_HAND_OVER_NS", "Delays", "delays_of"]

LEAST_HAND_OVER_NS = 1_000
"""Frames that enter this soon after a departure were queued, if nothing else is known."""

_MOST_SAMPLED = 100_000  # delays that the distribution is estimated from
_MOST_KEPT = 10_000  # delays kept for the next window
_FEWEST = 10  # frames that were surely queued, to estimate the hand-over from
_MOST_SPREAD = 3  # 90th over 10th percentile of hand-overs that are taken for equal
_GOLDEN = 0.6180339887498949  # multiples of it, modulo 1, are evenly spread


@dataclass(frozen=True, slots=True, eq=False)
class Delays:
    """The parts of the time in front of a station, (n,) in order of entry, ns.

    Attributes
    ----------
    delay
        Transport delay; 0 if the arrival is unknown.
    hand_over
        From the departure of another frame to the entry, for queued frames; negative for those
        that entered while all servers were busy.
    queued
        Which frames waited.
    freed_at
        The departure that each frame may have waited for, `MISSING` if there is none.
    arrive
        When the frames arrived, or their entry if that is unknown.
    limit_ns
        How soon after a departure a queued frame enters.
    usual_ns
        The median delay of the frames that were not queued, or None if all were.
    known
        (k,) the last delays of frames that were not queued, for the next window.
    starts_late
        Whether earlier frames that are not in the recording may have kept the first ones waiting.
    """

    delay: Ints
    hand_over: Ints
    queued: Mask
    freed_at: Ints
    arrive: Ints
    limit_ns: int
    usual_ns: int | None
    known: Ints
    starts_late: bool

    @property
    def found_busy(self) -> Mask:
        """Which frames arrived before the departure that they may have waited for."""
        return (self.arrive < self.freed_at) & (self.freed_at > MISSING)

    @property
    def is_ambiguous(self) -> bool:
        """Whether some frames that found the station busy do not count as queued."""
        return bool((self.found_busy != self.queued).any())

    def with_all_queued(self, begin: Ints) -> "Delays":
        """Return the split in which every frame that found the station busy counts as queued."""
        queued, delay = self.found_busy, self.delay.copy()
        added = queued & ~self.queued
        most = np.maximum(np.minimum(self.freed_at, begin) - self.arrive, 0)
        delay[added] = np.minimum(most[added], self.usual_ns or 0)
        hand_over = np.where(queued, begin - self.freed_at, self.hand_over)
        return replace(self, delay=delay, hand_over=hand_over, queued=queued)


def delays_of(
    visits: Visits,
    hand_over: int | None = None,
    earlier: Ints | None = None,
    certain: Mask | None = None,
    let_go_at: Ints | None = None,
) -> Delays:
    """Return the parts of the time in front of a station.

    Parameters
    ----------
    visits
        The visits to the station.
    hand_over
        Frames that enter within this many ns after a departure were queued. None estimates it.
    earlier
        (k,) delays of frames before these that were not queued. If given, the time of the first
        visits does not count as delay, as earlier frames may have kept them waiting; nor does it
        if it is more than twice as long as all other delays.
    certain
        (n,) which visits have known predecessors, so that estimates are made from them. None means
        all.
    let_go_at
        (n,) when a full queue behind the station last let it go on before each visit, `MISSING` if
        the queue did not hold it.

    Notes
    -----
    1. Find the departure that each frame may have waited for. A frame that arrived after it was not
       queued, and its whole time in front of the station is transport delay.
    2. Estimate the longest hand-over, if `hand_over` is None, from frames that were surely queued:
       they arrived longer before the departure than transport takes. The estimate is 4 times the
       99th percentile of their hand-overs, at most 20 times the median and at most a quarter of
       the usual service. If the 90th percentile is like the 10th, it may be twice the 90th. It is
       at least 1 us.
    3. Count each frame as queued that entered within that time after the departure.
    4. Draw the delay of each queued frame from the delays of frames that were not queued, of which
       only those count that would have been over in time. Delays of queued frames are known to be
       below a bound. The distribution allows for that: it is the product-limit estimate for
       left-censored values (Kaplan and Meier, 1958, with time reversed).
    """
    begin = visits.begin
    if visits.batch is not None:
        return _of_batches(visits)
    freed_at = (
        latest_departures(visits.end)
        if visits.servers == 1
        else _departures_from_full_station(visits)
    )
    if let_go_at is not None:
        freed_at = np.maximum(freed_at, let_go_at)
    arrive = np.where(visits.arrive == MISSING, begin, visits.arrive)
    arrive = np.minimum(arrive, begin)
    waited = begin - arrive
    behind = (arrive < freed_at) & (freed_at > MISSING)
    gap_after_departure = np.where(behind, begin - freed_at, np.iinfo(np.int64).max)
    bound = np.where(behind, np.minimum(freed_at, begin) - arrive, 0)
    counted = np.ones(len(begin), bool) if certain is None else certain.copy()
    past = np.zeros(0, np.int64) if earlier is None else earlier
    others = waited[1:][~behind[1:] & counted[1:]]
    starts_late = len(begin) > 1 and bool(waited[0] > 2 * others.max(initial=0))
    starts_late |= earlier is not None
    if starts_late:
        # frames before these may have kept the first ones waiting: that time is not delay
        counted[: visits.servers] = False
        arrive[: visits.servers] = begin[: visits.servers]
        waited[: visits.servers] = 0
    unqueued = np.concatenate([past, waited[~behind & counted]])
    if hand_over is None:
        sure = behind & counted
        hand_over = _estimated_limit(visits, waited, unqueued, sure, gap_after_departure, bound)
    queued = gap_after_departure <= hand_over
    if len(unqueued):
        # a few hand-overs may be slower, if the whole time would be still more unusual as a delay
        farther = waited / max(int(unqueued.max()), 1)
        slower = behind & ~queued & (gap_after_departure / max(hand_over, 1) < farther)
        if np.count_nonzero(slower) <= MOST_CONFLICTS * np.count_nonzero(queued):
            queued |= slower
    known = np.concatenate([past, waited[~queued & counted]])
    delay = waited.copy()
    delay[queued] = _drawn(known, bound[queued])
    hand_overs = np.where(queued, begin - freed_at, 0)
    if visits.conflicts.any():  # they entered before there was room, and do so again in a replay
        hand_overs = np.where(visits.conflicts & (freed_at > MISSING), begin - freed_at, hand_overs)
    usual = int(np.median(known)) if len(known) else None
    kept = known[-_MOST_KEPT:]
    return Delays(delay, hand_overs, queued, freed_at, arrive, hand_over, usual, kept, starts_late)


def _of_batches(visits: Visits) -> Delays:
    """Return the parts of the time in front of a station that serves batches.

    A frame that arrived before the batch in front of its own had left was queued. The delay is
    known of the last frame of each batch that found the server idle: the others waited for it.
    """
    begin, freed_at = visits.begin, visits.departures_before()
    arrive = np.minimum(np.where(visits.arrive == MISSING, begin, visits.arrive), begin)
    queued = (arrive < freed_at) & (freed_at > MISSING)
    known = (begin - arrive)[np.append(visits.first[1:], True) & ~queued]
    usual = int(np.median(known)) if len(known) else None
    most = np.minimum(np.where(queued, freed_at, begin), begin) - arrive
    return Delays(
        delay=np.minimum(most, usual or 0),
        hand_over=np.where(queued, begin - freed_at, 0),
        queued=queued,
        freed_at=freed_at,
        arrive=arrive,
        limit_ns=LEAST_HAND_OVER_NS,
        usual_ns=usual,
        known=known[-_MOST_KEPT:],
        starts_late=False,
    )


def _departures_from_full_station(visits: Visits) -> Ints:
    """Return the latest departure from a full station before each entry, or `MISSING`."""
    ends = ordered(visits.end)
    last = np.searchsorted(ends, visits.begin, side="right") - 1
    left_at = ends[np.maximum(last, 0)]
    # several frames may have left at once: all of them were inside until then
    inside = np.searchsorted(visits.begin, left_at, side="left")
    inside -= np.searchsorted(ends, left_at, side="left")
    return np.where((last >= 0) & (inside >= visits.servers), left_at, MISSING)


def _estimated_limit(
    visits: Visits,
    waited: Ints,
    unqueued: Ints,
    behind: Mask,
    gap_after_departure: Ints,
    bound: Ints,
) -> int:
    """Return how soon (ns) after a departure queued frames enter, at the latest."""
    if not behind.any():
        return LEAST_HAND_OVER_NS
    longest = int(np.quantile(unqueued, 0.99) if len(unqueued) else waited.min())
    sure = behind & (bound > longest)
    if np.count_nonzero(sure) < _FEWEST:
        return LEAST_HAND_OVER_NS
    usual_service = int(np.median(visits.end - visits.begin))
    # slow hand-overs count as well, but not frames that were still in transport
    gaps = np.maximum(gap_after_departure[sure], 0)
    quick, middle, most, slow = np.quantile(gaps, (0.1, 0.5, 0.9, 0.99))
    # frames in transport enter after gaps of all lengths; hand-overs take about the same time
    alike = most <= _MOST_SPREAD * quick
    if middle > usual_service / 20 and not alike:
        return LEAST_HAND_OVER_NS
    found = int(min(4 * slow, 20 * middle))
    longest = max(usual_service // 4, int(2 * most) if alike else 0)
    return max(LEAST_HAND_OVER_NS, min(found, longest))


def _drawn(known: Ints, bounds: Ints) -> Ints:
    """Return delays of queued frames, each at most its bound (n,)."""
    if not len(bounds):
        return bounds
    if not len(known):
        return np.zeros_like(bounds)
    step = max(1, (len(known) + len(bounds)) // _MOST_SAMPLED)
    sample, censored = known, bounds
    if step > 1:
        # not every step-th frame: frames may have a rhythm
        sample, censored = (
            x[(np.arange(0, len(x), step) * _GOLDEN % 1.0 * len(x)).astype(np.int64)]
            for x in (known, bounds)
        )
    censored = np.sort(censored)
    values, counts = np.unique(sample, return_counts=True)
    at_risk = np.cumsum(counts) + np.searchsorted(censored, values, side="right")
    # the probability of delays up to each value is that of having passed all larger values
    passed = 1.0 - counts / at_risk
    up_to = np.ones(len(values))
    up_to[:-1] = np.cumprod(passed[::-1])[::-1][1:]
    reach = np.searchsorted(values, bounds, side="right") - 1
    share = np.where(reach >= 0, up_to[np.maximum(reach, 0)], 0.0)
    # evenly spread, and the same in each run
    spread = np.arange(1, len(bounds) + 1) * _GOLDEN % 1.0
    target = share * spread
    chosen = np.searchsorted(up_to, target, side="left")
    drawn: Ints = np.minimum(values[np.minimum(chosen, len(values) - 1)], bounds)
    # a target below the probability of the smallest known delay means a delay below that one, of
    # unknown length
    drawn[target <= up_to[0] * passed[0]] = 0
    return drawn
