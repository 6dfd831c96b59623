"""What lies between arrival and entry: delay, which passes while others are served, or queueing.

A frame that enters within `hand_over` of the departure that it could have waited for was queued.
What of its time in front of the station was delay (transport) is then not known; only that it was
over by that departure. All others were not queued: their whole time is delay.
"""

from dataclasses import dataclass, replace

import numpy as np

from latprof.arrays import Ints, Mask
from latprof.frames import MISSING
from latprof.queueing.visits import MOST_ODD, Visits, in_order, latest_before

__all__ = ["LEAST_HAND_OVER", "Delays", "decompose"]

LEAST_HAND_OVER = 1_000
"""ns. Frames that enter this soon after a departure were queued, if nothing else is known."""

_MOST_KNOWN = 100_000
_MOST_KEPT = 10_000
_FEW = 10
_ALIKE = 3
_GOLDEN = 0.6180339887498949


@dataclass(frozen=True, slots=True, eq=False)
class Delays:
    """The parts of the time in front of a station, (n,) in order of entry, ns.

    Attributes
    ----------
    delay
        h: transport. Where the arrival is not known 0.
    hand_over
        g: from the departure of another frame to the entry, of queued frames; negative for
        those that came while all servers were busy.
    queued
        Which frames waited.
    free
        The departure that each could have waited for; `MISSING` if there is none.
    arrive
        When the frames arrived; their entry where that is not known.
    limit_ns
        How soon after a departure a frame must enter to have been queued.
    usual_ns
        The median delay of the frames that were not queued; None if all were.
    known
        (k,) the last of these delays.
    """

    delay: Ints
    hand_over: Ints
    queued: Mask
    free: Ints
    arrive: Ints
    limit_ns: int
    usual_ns: int | None
    known: Ints

    @property
    def has_other_reading(self) -> bool:
        """Whether `other_reading` has other frames that were queued."""
        return bool((((self.arrive < self.free) & (self.free > MISSING)) != self.queued).any())

    def other_reading(self, begin: Ints) -> "Delays":
        """Return the reading in which whoever arrived at a busy station was queued for it."""
        queued = (self.arrive < self.free) & (self.free > MISSING)
        fresh = queued & ~self.queued
        delay = self.delay.copy()
        usual = self.usual_ns or 0
        most = np.maximum(np.minimum(self.free, begin) - self.arrive, 0)
        delay[fresh] = np.minimum(most[fresh], usual)
        over = np.where(queued, begin - self.free, self.hand_over)
        return replace(self, delay=delay, hand_over=over, queued=queued)


def decompose(visits: Visits, hand_over: int | None = None, earlier: Ints | None = None) -> Delays:
    """Return the parts of the time in front of a station.

    Parameters
    ----------
    visits
        Of the station.
    hand_over
        ns after a departure within which the next frame was queued; None: found from frames
        that surely were queued, as they arrived longer before the departure than delays are: four
        times what 99 in 100 of them need, at most 20 times what half of them do and a quarter
        of the usual service, or twice what 90 in 100 need where that is like what 10 in 100 do;
        at least 1 us.
    earlier
        Delays (k,) of frames before these that were not queued; given, the first visit's is not
        counted: who was there before it is not known. Nor is it if it is longer than all others.

    Notes
    -----
    The delay of a queued frame is drawn from the delays of frames that were not queued, among
    those that would have been over in time. That queued frames' delays are only known to be below
    a bound is allowed for: their distribution is the product-limit estimate for values censored
    from the left (Kaplan and Meier, 1958, with time reversed).
    """
    begin = visits.begin
    free = latest_before(visits.end) if visits.servers == 1 else _free(visits)
    arrive = np.where(visits.arrive == MISSING, begin, visits.arrive)
    arrive = np.minimum(arrive, begin)
    waited = begin - arrive
    behind = (arrive < free) & (free > MISSING)
    after = np.where(behind, begin - free, np.iinfo(np.int64).max)
    bound = np.where(behind, np.minimum(free, begin) - arrive, 0)
    fresh = np.ones(len(begin), bool)
    past = np.zeros(0, np.int64)
    if earlier is not None:
        fresh[:1], past = False, earlier
    certain = np.concatenate([past, waited[~behind & fresh]])
    if earlier is None and len(certain) > _FEW and certain[0] > certain[1:].max():
        # the first of a recording that begins in the midst of a queue: its wait is no delay
        fresh[0], certain = False, certain[1:]
    if hand_over is None:
        hand_over = _limit(visits, waited, certain, behind, after, bound)
    queued = after <= hand_over
    if len(certain):
        # a few may be slower, if a delay of their whole time is further still from all known
        farther = waited / max(int(certain.max()), 1)
        slower = behind & ~queued & (after / max(hand_over, 1) < farther)
        if np.count_nonzero(slower) <= MOST_ODD * np.count_nonzero(queued):
            queued |= slower
    known = np.concatenate([past, waited[~queued & fresh]])
    delay = waited.copy()
    delay[queued] = _drawn(known, bound[queued])
    over = np.where(queued, begin - free, 0)
    if visits.odd.any():  # they entered before there was room: kept as it was
        over = np.where(visits.odd & (free > MISSING), begin - free, over)
    usual = int(np.median(known)) if len(known) else None
    return Delays(delay, over, queued, free, arrive, hand_over, usual, known[-_MOST_KEPT:])


def _free(visits: Visits) -> Ints:
    """Return the latest departure from a full station before each entry; `MISSING`: none."""
    ends = in_order(visits.end)
    last = np.searchsorted(ends, visits.begin, side="right") - 1
    left_at = ends[np.maximum(last, 0)]
    # several may have left at once: all of them were inside until then
    inside = np.searchsorted(visits.begin, left_at, side="left")
    inside -= np.searchsorted(ends, left_at, side="left")
    return np.where((last >= 0) & (inside >= visits.servers), left_at, MISSING)


def _limit(
    visits: Visits, waited: Ints, certain: Ints, behind: Mask, after: Ints, bound: Ints
) -> int:
    if not behind.any():
        return LEAST_HAND_OVER
    longest = int(np.quantile(certain, 0.99) if len(certain) else waited.min())
    sure = behind & (bound > longest)
    if np.count_nonzero(sure) < _FEW:
        return LEAST_HAND_OVER
    usual_service = int(np.median(visits.end - visits.begin))
    # the slow ones count as well, but not those that were long on their way
    gaps = np.maximum(after[sure], 0)
    quick, middle, most, slow = np.quantile(gaps, (0.1, 0.5, 0.9, 0.99))
    # frames on their way come after gaps of all lengths, a server takes much the same time for all
    alike = most <= _ALIKE * quick
    if middle > usual_service / 20 and not alike:
        return LEAST_HAND_OVER
    found = int(min(4 * slow, 20 * middle))
    longest = max(usual_service // 4, int(2 * most) if alike else 0)
    return max(LEAST_HAND_OVER, min(found, longest))


def _drawn(known: Ints, bounds: Ints) -> Ints:
    """Return delays of queued frames, each at most its bound (n,)."""
    if not len(bounds):
        return bounds
    if not len(known):
        return np.zeros_like(bounds)
    step = max(1, (len(known) + len(bounds)) // _MOST_KNOWN)
    # not each so-many-th frame: frames may have a rhythm of their own
    few = (np.arange(0, len(known), step) * _GOLDEN % 1.0 * len(known)).astype(np.int64)
    some = (np.arange(0, len(bounds), step) * _GOLDEN % 1.0 * len(bounds)).astype(np.int64)
    sample, censored = (known, bounds) if step == 1 else (known[few], bounds[some])
    censored = np.sort(censored)
    values, counts = np.unique(sample, return_counts=True)
    at_risk = np.cumsum(counts) + np.searchsorted(censored, values, side="right")
    # how probable delays up to each value are: what is above has passed, one value at a time
    passed = 1.0 - counts / at_risk
    upto = np.ones(len(values))
    upto[:-1] = np.cumprod(passed[::-1])[::-1][1:]
    reach = np.searchsorted(values, bounds, side="right") - 1
    share = np.where(reach >= 0, upto[np.maximum(reach, 0)], 0.0)
    # evenly spread, and the same in each run
    spread = np.arange(1, len(bounds) + 1) * _GOLDEN % 1.0
    target = share * spread
    chosen = np.searchsorted(upto, target, side="left")
    drawn: Ints = np.minimum(values[np.minimum(chosen, len(values) - 1)], bounds)
    # what is less probable than the smallest delay that was seen is below it, at an unknown place
    drawn[target <= upto[0] * passed[0]] = 0
    return drawn
