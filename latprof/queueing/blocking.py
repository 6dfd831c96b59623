"""Finds how long stations were busy, and when a full queue kept a station from going on.

Each stage of a station has a cumulative function of time. The time that earlier frames spent in
the stage while a frame waited is the difference of two values of it.

If the queue behind a station is full, the frame stays, and the server cannot take the next one. The
room of the queue shows when that was (see `latprof.queueing.rooms`): without a known room, nothing
is held. If marks are set after the put, this time is part of the last stage of the station. Frames
that wait for a blocked frame also wait for the stage that blocks it, and so on: this is a path,
which is followed station by station. In the picture frame 2 waits for stage a, and then for b by
the path (a, b), because the queue between the two stations has room for no frame::

    stage a   |--- 1 ---|.. 1 is blocked ..|--- 2 ---|
    stage b   |------------- 0 ------------|--- 1 ---|
    hand-off  |-- 2 waits for a, (a, b) ---|
    until(t)  cumulative time of a stage: the wait from s to t is until(t) - until(s)
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from latprof.arrays import Floats, Ints
from latprof.frames import MISSING
from latprof.queueing.line import Line
from latprof.queueing.options import MOST_STAGES
from latprof.queueing.rooms import delayed
from latprof.queueing.stations import Stations, Visits, latest_departures

__all__ = [
    "Amounts",
    "Blocked",
    "BusyTime",
    "Held",
    "Intervals",
    "Path",
    "blocking_of",
    "busy_times",
    "held_by",
]

Amounts = Ints | Floats

Path = tuple[str, ...]
"""The stage of the frame that is waited for, then the stage that this frame waits for, and so on;
the last stage is the one that causes the wait."""


class Intervals:
    """The cumulative time (ns) of intervals that are disjoint and in order, one for each visit.

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
        # sums[i] is the time of the first i visits
        self.sums = np.concatenate([np.zeros(1, lengths.dtype), np.cumsum(lengths)])

    def locate(self, times: Ints) -> Ints:
        """Return the last visit (n,) that had begun at each of `times` (n,), -1 if none had."""
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
        """Return the time up to each of `times`."""
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
        """Return the time up to each of `times`."""
        return self.one.until(times) + self.other.until(times)


BusyTime = Intervals | _SharedTime | _AddedTimes


def busy_times(visits: Visits) -> Mapping[str, BusyTime]:
    """Return the cumulative time of each stage of a station."""
    if visits.servers > 1:
        return _shared_times(visits)
    if visits.batch is None and not visits.conflicts.any():
        return {
            name: Intervals(visits.begin, low, high) for name, (low, high) in visits.stages.items()
        }
    # a few visits overlap with earlier ones, as do those of a batch except the first: of these only
    # the time after the earlier ones counts
    floor = np.maximum(visits.begin, latest_departures(visits.end))
    return {
        name: Intervals(floor, np.maximum(low, floor), np.maximum(high, floor))
        for name, (low, high) in visits.stages.items()
    }


def _shared_times(visits: Visits) -> dict[str, BusyTime]:
    """Return the cumulative time of each stage of a station with several servers."""
    every = [visits.begin, visits.end, *(x for pair in visits.stages.values() for x in pair)]
    edges = np.unique(np.concatenate(every))

    def present(begin: Ints, end: Ints) -> Ints:
        """Return how many intervals contain each edge."""
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


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """The (n,) intervals, by visit to a station, in which its thread waited to put the frame.

    The next frame was there from `low` on and began at `high`; both are equal if it did not wait.
    `freed_at` is for each visit the take that let the put before it return, `MISSING` if that put
    was not held. With `in_stage` the interval is inside the last stage of the visit itself.
    """

    low: Ints
    high: Ints
    freed_at: Ints
    in_stage: bool


def held_by(line: Line, visits: Mapping[str, Visits]) -> dict[str, Held]:
    """Return by station when its puts waited for room in the queue behind it."""
    found = {}
    for k, name in enumerate(line.names[:-1]):
        room = line.rooms[k]
        if name is None or not room or line.servers[k] > 1 or line.batches[k] is not None:
            continue
        mine, (rows, arrive, begin, end) = visits[name], line.entries(k)
        takes = delayed(line.entries(k + 1)[2], 1 + room)
        low = np.maximum(delayed(end, 1), arrive)
        places = np.flatnonzero(takes > low)
        at = np.zeros(int(mine.frame.max(initial=0)) + 1, np.int64)
        at[mine.frame] = np.arange(len(mine))
        before, own = at[rows[places - 1]], at[rows[places]]
        lows, highs, freed_at = mine.end.copy(), mine.end.copy(), np.full(len(mine), MISSING)
        in_stage = bool(line.held_ns) and line.held_ns[k] is not None
        if in_stage:
            lows[at[line.rows]] = line.end[k]
        else:
            lows[before], highs[before] = low[places], begin[places]
            freed_at[own] = np.minimum(takes, begin)[places]
        found[name] = Held(np.minimum(lows, highs), highs, freed_at, in_stage)
    return found


def blocking_of(
    stations: Stations,
    visits: Mapping[str, Visits],
    held: Mapping[str, Held],
    depth: int = MOST_STAGES,
) -> tuple[dict[str, dict[Path, BusyTime]], dict[str, list[Blocked]]]:
    """Return by station its busy time by path, and the intervals in which it was blocked.

    The busy time of a path is a cumulative time; paths have at most `depth` stages. The last stage
    of a path is the one that all others wait for.
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
        several = max(counts[:3]) > 1 or (counts[3] > 1 and station not in held)
        if by not in busy or several:  # inferred only between stations in a row
            continue
        last = stations.services[services[0]].stages[-1].name
        if station in held:
            mine_held = held[station]
            stage = last if mine_held.in_stage else following.handoff or last
            blocked = Blocked(stage, by, mine_held.low, mine_held.high)
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
                time = Intervals(floor, low, high, inner)
                known = paths.get(longer)
                paths[longer] = time if known is None else _AddedTimes(known, time)
    return busy, found
