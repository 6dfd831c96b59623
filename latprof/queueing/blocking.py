"""How long stations were busy, and when a full queue kept a station from going on.

Each stage of a station has a cumulative function of time. The time that earlier frames spent in
the stage while a frame waited is the difference of two values of it.

Blocking after service looks like time of the stage upstream: a frame cannot leave because the queue
behind it is full, or the server cannot take the next frame. It is inferred if the station
downstream was busy throughout, and if most of these intervals end at a departure there, which makes
room. Frames that wait for a blocked frame then wait for what that frame waits for: a path, which is
followed station by station. In the picture frame 2 waits for stage a, and then for b by the path
(a, b), because the queue between the two stations has room for no frame::

    stage a   |--- 1 ---|.. 1 is blocked ..|--- 2 ---|
    stage b   |------------- 0 ------------|--- 1 ---|
    hand-off  |-- 2 waits for a, (a, b) ---|
    until(t)  cumulative time of a stage: the wait from s to t is until(t) - until(s)
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from latprof.arrays import Floats, Ints, Mask
from latprof.errors import TraceError
from latprof.queueing.delays import Delays
from latprof.queueing.stations import Stations, Visits, latest_departures, ordered
from latprof.text import quoted

__all__ = [
    "MOST_STAGES",
    "Amounts",
    "Blocked",
    "BusyTime",
    "Intervals",
    "Path",
    "blocking_of",
    "busy_times",
    "check_depth",
]

MOST_STAGES = 8
"""Default for the number of stages of a path."""

_LEAST_BUSY = 0.9  # share of an interval that the next station must be busy to have blocked
_LEAST_EXPLAINED = 0.5  # share of the candidates' time that must end at a departure
_FEWEST = 3  # intervals

Amounts = Ints | Floats

Path = tuple[str, ...]
"""The stage that the frame in front is in, the stage that this frame waits for, and so on."""


class Intervals:
    """The cumulative time of intervals that are disjoint and in order, one for each visit.

    Parameters
    ----------
    entries
        (n,) when the visits began, in order.
    low, high
        (n,) ns: the interval of each visit; it ends before the next visit begins.
    inner
        Another cumulative time, of which only the part inside the intervals counts.

    Examples
    --------
    >>> begin, end = np.array([0, 10]), np.array([4, 15])
    >>> Intervals(begin, begin, end).until(np.array([-1, 3, 7, 12, 99])).tolist()
    [0, 3, 4, 6, 9]
    """

    def __init__(
        self, entries: Ints, low: Ints, high: Ints, inner: "BusyTime | None" = None
    ) -> None:
        self.entries, self.low, self.high, self.inner = entries, low, high, inner
        self._at_low: Amounts = low if inner is None else inner.until(low)
        lengths = (high if inner is None else inner.until(high)) - self._at_low
        # of the visits before each one, and of all
        self.sums = np.concatenate([np.zeros(1, lengths.dtype), np.cumsum(lengths)])

    def locate(self, times: Ints) -> Ints:
        """Return the last visit that had begun at each time, -1 if none had."""
        return np.searchsorted(self.entries, times, side="right") - 1

    def until(self, times: Ints, visit: Ints | None = None) -> Amounts:
        """Return the time up to each of `times`; `visit` is ``locate(times)`` if that is known."""
        visit = self.locate(times) if visit is None else visit
        if not len(self.entries):
            return np.zeros(len(times), np.int64)
        known = np.maximum(visit, 0)
        low = self.low[known]
        inside = np.minimum(np.maximum(times, low), self.high[known])
        if self.inner is None:
            result = self.sums[known] + (inside - low)
        else:
            result = self.sums[known] + (self.inner.until(inside) - self._at_low[known])
        result[visit < 0] = 0
        return result


class _SharedTime:
    """The cumulative time of one stage of a station with several servers, all of them busy.

    A frame then waits for whichever server is free first, so that each frame in service counts
    for an equal part.

    Parameters
    ----------
    edges
        (m,) times at which a frame enters or leaves, in order.
    rates
        (m,) the stage's part of the waiting, 0 to 1, from each edge to the next.
    """

    def __init__(self, edges: Ints, rates: Floats) -> None:
        self.edges, self.rates = edges, rates
        self.sums = np.concatenate([[0.0], np.cumsum(np.diff(edges) * rates[:-1])])

    def until(self, times: Ints) -> Amounts:
        if not len(self.edges):
            return np.zeros(len(times))
        edge = np.searchsorted(self.edges, times, side="right") - 1
        known = np.maximum(edge, 0)
        part = (times - self.edges[known]) * self.rates[known]
        return np.where(edge < 0, 0.0, self.sums[known] + part)


class _AddedTimes:
    """The sum of two cumulative times."""

    def __init__(self, one: "BusyTime", other: "BusyTime") -> None:
        self.one, self.other = one, other

    def until(self, times: Ints) -> Amounts:
        return self.one.until(times) + self.other.until(times)


BusyTime = Intervals | _SharedTime | _AddedTimes


def busy_times(visits: Visits) -> Mapping[str, BusyTime]:
    """Return the cumulative time of each stage of a station."""
    if visits.servers > 1:
        return _shared_times(visits)
    if not visits.conflicts.any():
        return {
            name: Intervals(visits.begin, low, high) for name, (low, high) in visits.stages.items()
        }
    # the few visits that overlap are cut to the time that earlier ones leave
    floor = np.maximum(visits.begin, latest_departures(visits.end))
    return {
        name: Intervals(floor, np.maximum(low, floor), np.maximum(high, floor))
        for name, (low, high) in visits.stages.items()
    }


def _shared_times(visits: Visits) -> dict[str, BusyTime]:
    every = [visits.begin, visits.end, *(x for pair in visits.stages.values() for x in pair)]
    edges = np.unique(np.concatenate(every))

    def present(begin: Ints, end: Ints) -> Ints:
        begun, ended = (np.searchsorted(np.sort(x), edges, side="right") for x in (begin, end))
        return begun - ended

    inside = present(visits.begin, visits.end)
    full, divisor = inside >= visits.servers, np.maximum(inside, 1)
    return {
        name: _SharedTime(edges, np.where(full, present(low, high) / divisor, 0.0))
        for name, (low, high) in visits.stages.items()
    }


@dataclass(frozen=True, slots=True, eq=False)
class Blocked:
    """The (n,) intervals, by visit to a station, in which the next station blocked it.

    `stage` is where the recording has that time: a stage of the station or the hand-off behind
    it.
    """

    stage: str
    by: str
    low: Ints
    high: Ints

    @property
    def lengths(self) -> Ints:
        """(n,) ns."""
        return self.high - self.low


def check_depth(depth: object) -> int:
    """Return the largest number of stages of a path.

    Raises
    ------
    TraceError
        It is not an integer of 1 or more.
    """
    if isinstance(depth, bool) or not isinstance(depth, int | np.integer) or depth < 1:
        raise TraceError(
            f"depth must be an integer of 1 or more, got {quoted(depth)}; "
            f"leave it out to follow up to {MOST_STAGES} stages"
        )
    return int(depth)


def blocking_of(
    stations: Stations,
    visits: Mapping[str, Visits],
    delays: Mapping[str, Delays],
    depth: int = MOST_STAGES,
) -> tuple[dict[str, dict[Path, BusyTime]], dict[str, list[Blocked]]]:
    """Return by station what frames wait for while it is busy, and when it was blocked.

    The first is a cumulative time for each path of at most `depth` stages. The last stage of a path
    is the one that all others wait for.
    """
    busy: dict[str, dict[Path, BusyTime]] = {}
    found: dict[str, list[Blocked]] = {}
    for station in reversed(stations.names):
        mine, own = visits[station], busy_times(visits[station])
        paths: dict[Path, BusyTime] = {(stage,): time for stage, time in own.items()}
        busy[station], found[station] = paths, []
        services = stations.services_of(station)
        following = stations.next_service(services[-1])
        if following is None:
            continue
        by = following.station
        counts = len(services), len(stations.services_of(by)), mine.servers, visits[by].servers
        if by not in busy or max(counts) > 1:  # inferred only between stations in a row
            continue
        last = stations.services[services[0]].stages[-1].name
        slack = max(delays[by].limit_ns, delays[station].limit_ns)
        for blocked in (
            _blocked_stage(mine, visits[by], last, slack),
            _blocked_server(mine, visits[by], delays[station], following.handoff, slack),
        ):
            if blocked is None:
                continue
            found[station].append(blocked)
            # visits that overlap with earlier ones are cut: see `busy_times`
            whole = own[last]
            assert isinstance(whole, Intervals)  # as of all stations with one server
            floor = whole.entries
            low, high = np.maximum(blocked.low, floor), np.maximum(blocked.high, floor)
            if blocked.stage == last:
                paths[last,] = Intervals(floor, whole.low, np.maximum(low, whole.low))
            for path, inner in busy[by].items():
                longer = (blocked.stage, *path)[:depth]
                held = Intervals(floor, low, high, inner)
                known = paths.get(longer)
                paths[longer] = held if known is None else _AddedTimes(known, held)
    return busy, found


def _blocked_stage(mine: Visits, downstream: Visits, stage: str, slack: int) -> Blocked | None:
    """Return how long frames stayed in the last stage because the queue behind it was full."""
    low, high = mine.stages[stage]
    lengths = high - low
    if not len(lengths) or not len(downstream):
        return None
    at_departure = _at_departure(downstream, high, slack)
    unblocked = lengths[~at_departure & (lengths > 0)]
    usual = int(np.median(unblocked)) if len(unblocked) else int(lengths.min())
    excess = np.maximum(lengths - usual, 0)
    candidates = excess > slack
    if np.count_nonzero(candidates & at_departure) < _FEWEST:
        return None
    candidates &= _busy_throughout(downstream, high - excess, high, candidates)
    interval = high - excess, high
    return _if_explained(candidates, at_departure, interval, stage, downstream.station)


def _blocked_server(
    mine: Visits, downstream: Visits, delays: Delays, handoff: str | None, slack: int
) -> Blocked | None:
    """Return how long the server was idle after each visit although the next frame was there."""
    if handoff is None or len(mine) < 2 or not len(downstream):
        return None
    high = np.append(np.maximum(mine.begin[1:], mine.end[:-1]), mine.end[-1])
    # from the arrival of the next frame on
    low = np.minimum(np.maximum(mine.end, np.append(delays.arrive[1:], mine.end[-1])), high)
    waiting = np.append(delays.arrive[1:] < high[:-1], False)
    # the frame itself must still be in the hand-off at the end of the gap
    entered = np.full(int(max(mine.frame.max(), downstream.frame.max())) + 1, np.iinfo("i8").max)
    entered[downstream.frame] = downstream.begin
    waiting &= entered[mine.frame] >= high - slack
    candidates = waiting & (high - low > slack)
    if np.count_nonzero(candidates) < _FEWEST:
        return None
    at_departure = _at_departure(downstream, high, slack)
    candidates &= _busy_throughout(downstream, low, high, candidates)
    return _if_explained(candidates, at_departure, (low, high), handoff, downstream.station)


def _at_departure(downstream: Visits, times: Ints, slack: int) -> Mask:
    """Return which times are within `slack` after a departure."""
    ends = ordered(downstream.end)
    last = np.searchsorted(ends, times + slack, side="right") - 1
    return (last >= 0) & (times - ends[np.maximum(last, 0)] <= slack)


def _busy_throughout(downstream: Visits, low: Ints, high: Ints, chosen: Mask) -> Mask:
    """Return the chosen intervals in which a station was busy nearly all of the time."""
    low, high = low[chosen], high[chosen]
    busy = Intervals(downstream.begin, downstream.begin, downstream.end)
    result = np.zeros(len(chosen), bool)
    result[chosen] = busy.until(high) - busy.until(low) >= _LEAST_BUSY * (high - low)
    return result


def _if_explained(
    candidates: Mask,
    at_departure: Mask,
    interval: tuple[Ints, Ints],
    stage: str,
    by: str,
) -> Blocked | None:
    """Return the candidates that end at a departure, if they are most of the candidates."""
    low, high = interval
    blocked, lengths = candidates & at_departure, high - low
    explained, total = int(lengths[blocked].sum()), int(lengths[candidates].sum())
    if np.count_nonzero(blocked) < _FEWEST or explained < _LEAST_EXPLAINED * total:
        return None
    return Blocked(stage, by, np.where(blocked, low, high), high)
