"""How long stages were busy up to any time: what a wait is compared with.

Each stage of a station is a cumulative function of time; the time that earlier frames spent in it
while a frame waited is a difference of two values of it.
"""

from collections.abc import Mapping

import numpy as np

from latprof.arrays import Floats, Ints
from latprof.queueing.visits import Visits, latest_before

__all__ = ["Amounts", "Busy", "Shared", "Sum", "Timeline", "busy_of"]

Amounts = Ints | Floats


class Timeline:
    """Intervals of one server, by visit: disjoint and in order, some of no length.

    Parameters
    ----------
    entries
        (n,) when the visits began, in order.
    low, high
        (n,) ns: the interval that belongs to each visit; it ends before the next visit begins.
    inner
        Counts instead of the intervals' own time that of another function inside of them.
    """

    def __init__(self, entries: Ints, low: Ints, high: Ints, inner: "Busy | None" = None) -> None:
        # the time of each visit, and of the visits before it
        self.entries, self.low, self.high, self.inner = entries, low, high, inner
        self._at_low: Amounts = low if inner is None else inner.upto(low)
        lengths = (high if inner is None else inner.upto(high)) - self._at_low
        self.sums = np.concatenate([np.zeros(1, lengths.dtype), np.cumsum(lengths)])

    def locate(self, times: Ints) -> Ints:
        """Return which visit was the last to have begun at each time, -1: none."""
        return np.searchsorted(self.entries, times, side="right") - 1

    def upto(self, times: Ints, visit: Ints | None = None) -> Amounts:
        """Return how much there was up to each time; `visit` is `locate(times)`."""
        visit = self.locate(times) if visit is None else visit
        if not len(self.entries):
            return np.zeros(len(times), np.int64)
        known = np.maximum(visit, 0)
        low = self.low[known]
        inside = np.minimum(np.maximum(times, low), self.high[known])
        if self.inner is None:
            result = self.sums[known] + (inside - low)
        else:
            result = self.sums[known] + (self.inner.upto(inside) - self._at_low[known])
        # only the first times can be before all visits
        result[visit < 0] = 0
        return result


class Shared:
    """The time of one stage of a station of several servers, while all of them were busy.

    What a frame waits for then is whichever server is free first: each frame that is served
    counts for an equal part.

    Parameters
    ----------
    edges
        (m,) times at which a frame enters or leaves, in order.
    rates
        (m,) how much of the waiting is for this stage, 0 to 1, from each edge to the next.
    """

    def __init__(self, edges: Ints, rates: Floats) -> None:
        self.edges, self.rates = edges, rates
        self.sums = np.concatenate([[0.0], np.cumsum(np.diff(edges) * rates[:-1])])

    def upto(self, times: Ints, visit: Ints | None = None) -> Amounts:
        """Return how much there was up to each time."""
        place = np.searchsorted(self.edges, times, side="right") - 1
        known = np.maximum(place, 0)
        if not len(self.edges):
            return np.zeros(len(times))
        part = (times - self.edges[known]) * self.rates[known]
        return np.where(place < 0, 0.0, self.sums[known] + part)


class Sum:
    """Several functions in one."""

    def __init__(self, *parts: "Busy") -> None:
        self.parts = parts

    def upto(self, times: Ints, visit: Ints | None = None) -> Amounts:
        """Return how much there was up to each time."""
        total = self.parts[0].upto(times)
        for part in self.parts[1:]:
            total = total + part.upto(times)
        return total


Busy = Timeline | Shared | Sum


def busy_of(visits: Visits) -> Mapping[str, Busy]:
    """Return how busy each stage of a station was, up to any time.

    Examples
    --------
    >>> begin, end = np.array([0, 10]), np.array([4, 15])
    >>> Timeline(begin, begin, end).upto(np.array([-1, 3, 7, 12, 99])).tolist()
    [0, 3, 4, 6, 9]
    """
    if visits.servers == 1:
        if not visits.odd.any():
            return {
                name: Timeline(visits.begin, low, high)
                for name, (low, high) in visits.stages.items()
            }
        # the few that contradict are cut to what the others leave
        floor = np.maximum(visits.begin, latest_before(visits.end))
        return {
            name: Timeline(floor, np.maximum(low, floor), np.maximum(high, floor))
            for name, (low, high) in visits.stages.items()
        }
    return _shared(visits)


def _shared(visits: Visits) -> dict[str, Busy]:
    every = [visits.begin, visits.end, *(x for pair in visits.stages.values() for x in pair)]
    edges = np.unique(np.concatenate(every))
    inside = _begun(visits.begin, edges) - _begun(visits.end, edges)
    full = inside >= visits.servers
    result: dict[str, Busy] = {}
    for name, (low, high) in visits.stages.items():
        at = _begun(low, edges) - _begun(high, edges)
        result[name] = Shared(edges, np.where(full, at / np.maximum(inside, 1), 0.0))
    return result


def _begun(stamps: Ints, times: Ints) -> Ints:
    return np.searchsorted(np.sort(stamps), times, side="right")
