"""The stations of a pipeline, and the visits of frames to them."""

from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt

from latprof.arrays import Ints, Mask
from latprof.frames import MISSING, Columns
from latprof.marks import Span
from latprof.pipeline import Pipeline
from latprof.queueing.rooms import delayed

__all__ = [
    "MOST_CONFLICTS",
    "MOST_TOGETHER",
    "Service",
    "Stations",
    "Visits",
    "frames_at_once",
    "is_unbounded",
    "latest_departures",
    "ordered",
    "positions",
    "stations_of",
    "visits_to",
]

MOST_CONFLICTS = 0.01
"""Share of the visits that may begin while all servers are busy before a server is added."""

MOST_TOGETHER = 0.2
"""Share of the visits that may begin and end with the one before; above it, they are in batches."""

_MOST_NEAR = 0.4  # the same share, if begins and ends are only near each other
_MOST_FULL = 0.3  # share of the visits that may make a station as full as ever without a bound
_NEAR = 0.01  # of the length of a visit: times closer together are near each other

_Interval = tuple[Ints, Ints]
Array = TypeVar("Array", bound=npt.NDArray[Any])


@dataclass(frozen=True, slots=True)
class Service:
    """Consecutive stages of a pipeline that one station serves.

    Attributes
    ----------
    station, stages
        The station and these stages.
    arrive
        The mark at which a frame may begin to wait for the station.
    handoff
        The stage between `arrive` and `begin`, or None if there is none.
    """

    station: str
    stages: tuple[Span, ...]
    arrive: str
    handoff: str | None

    @property
    def begin(self) -> str:
        """The mark at which a frame enters the station."""
        return self.stages[0].begin

    @property
    def end(self) -> str:
        """The mark at which a frame leaves the station."""
        return self.stages[-1].end


@dataclass(frozen=True, slots=True)
class Stations:
    """The stations of a pipeline: a `Service` for each time that frames come to one, in order."""

    pipeline: Pipeline
    services: tuple[Service, ...]

    @property
    def handoffs(self) -> tuple[str, ...]:
        """Stages without a station."""
        return tuple(s.name for s in self.pipeline.stages if s.station is None)

    @property
    def served(self) -> tuple[str, ...]:
        """Stages with a station."""
        return tuple(s.name for s in self.pipeline.stages if s.station is not None)

    @property
    def names(self) -> tuple[str, ...]:
        """The stations in order of their first stage."""
        return tuple(dict.fromkeys(service.station for service in self.services))

    @property
    def marks(self) -> tuple[str, ...]:
        """The marks that are read: all but `due`. Those of sides show where a frame was dropped."""
        return tuple(mark for mark in self.pipeline.marks if mark != "due")

    def services_of(self, station: str) -> list[int]:
        """Return the positions in `services` of those of a station."""
        return [i for i, service in enumerate(self.services) if service.station == station]

    def next_service(self, i: int) -> Service | None:
        """Return the service after service `i`, or None.

        It must be of another station, with at most one hand-off between them.
        """
        if i + 1 == len(self.services):
            return None
        this, following = self.services[i : i + 2]
        adjacent = following.arrive == this.end and following.station != this.station
        return following if adjacent else None


def stations_of(pipeline: Pipeline) -> Stations:
    """Return the stations of a pipeline.

    Examples
    --------
    >>> from latprof.pipeline import AUDIO
    >>> [(x.handoff, x.station, [s.name for s in x.stages]) for x in stations_of(AUDIO).services]
    [('transit', 'relay', ['webrtc']), ('ipc', 'server', ['cgo', 'alsa'])]
    """
    services: list[Service] = []
    before: Span | None = None
    for stage in pipeline.stages:
        if stage.station is not None:
            if before is None:
                services.append(Service(stage.station, (stage,), "start", None))
            elif before.station == stage.station:
                services[-1] = replace(services[-1], stages=(*services[-1].stages, stage))
            elif before.station is None and before.end == stage.begin:
                services.append(Service(stage.station, (stage,), before.begin, before.name))
            else:
                services.append(Service(stage.station, (stage,), before.end, None))
        before = stage
    return Stations(pipeline, tuple(services))


@dataclass(frozen=True, slots=True, eq=False)
class Visits:
    """The n visits to a station in order of entry, of all sources, dropped frames included.

    Attributes
    ----------
    frame, service
        (n,) row of the frame, and position of the service in `Stations.services`.
    arrive, begin, end
        (n,) ns: when the frame may have begun to wait (`MISSING` if unknown), when it entered, and
        when it left.
    stages
        By stage two (n,) arrays: begin and end inside the visit. Both are `begin` if the visit
        does not have the stage.
    servers
        How many frames the station serves at once.
    most_at_once
        The largest number of frames that were in the station at once.
    overlaps
        (n,) visits that began before all earlier ones had ended.
    conflicts
        (n,) visits that began while all servers were busy, which contradicts the model.
    no_end
        (n,) visits that ended at an unknown time: a mark is missing or negative. Their `end` is
        the last mark of the frame inside the station.
    unknown
        (k,) rows of other frames, which entered at an unknown time.
    batch
        (n,) the number of the batch that each visit belongs to, ascending: frames that enter and
        leave together are one service. None if frames are served one by one.
    """

    station: str
    frame: Ints
    service: Ints
    arrive: Ints
    begin: Ints
    end: Ints
    stages: dict[str, _Interval]
    servers: int
    most_at_once: int
    overlaps: Mask
    conflicts: Mask
    no_end: Mask
    unknown: Ints
    batch: Ints | None = None

    def __len__(self) -> int:
        return len(self.begin)

    @property
    def together(self) -> Mask:
        """(n,) visits of some length that began and ended with the one before."""
        return _together(self.begin, self.end)

    @property
    def first(self) -> Mask:
        """(n,) visits with which a service begins: of a batch the first, otherwise all."""
        first = np.ones(len(self), bool)
        if self.batch is not None:
            first[1:] = self.batch[1:] != self.batch[:-1]
        return first

    def departures_before(self) -> Ints:
        """Return the latest end of all earlier visits or batches (n,); `MISSING` for the first."""
        return _departures_before(self.end, self.batch)

    @property
    def last_free(self) -> Mask:
        """(n,) visits after which none of several servers was free; False for one server."""
        if self.servers == 1:
            return np.zeros(len(self), bool)
        return _present(self.begin, self.end) + 1 >= self.servers

    def as_pool(self) -> "Visits":
        """Return visits in batches as those to a pool, or the same if a frame waited for a batch.

        Frames that several servers serve for equally long enter and leave together, as batches do;
        but none waits for another one to come while a server is free.
        """
        if self.batch is None:
            return self
        overlaps, most = _overlaps(self.begin, self.end)
        free = delayed(np.sort(self.end), most)
        waited = self.begin - np.maximum(free, self.arrive) > _NEAR * (self.end - self.begin)
        if np.count_nonzero(waited) > MOST_CONFLICTS * len(self):
            return self
        found = replace(self, batch=None, most_at_once=most, overlaps=overlaps, conflicts=overlaps)
        return found.with_servers(most)

    def with_servers(self, servers: int) -> "Visits":
        """Return the same visits to a station with another number of servers."""
        if servers == self.servers:
            return self
        conflicts = self.overlaps
        if servers > 1 and conflicts.any():
            conflicts = conflicts & (_present(self.begin, self.end) >= servers)
        return replace(self, servers=servers, conflicts=conflicts)


def visits_to(stations: Stations, station: str, columns: Columns) -> Visits:
    """Return the visits to a station.

    A dropped frame was in the stage of its last mark until it was dropped (`end`).

    Parameters
    ----------
    stations, station
        The stations of a pipeline, and the name of one of them.
    columns
        Frames in any order.

    Examples
    --------
    >>> from latprof.pipeline import AUDIO
    >>> at = {mark: np.array([5, 0]) + i for i, mark in enumerate(AUDIO.marks)}
    >>> columns = Columns(np.arange(2, dtype=np.uint64), at)
    >>> server = visits_to(stations_of(AUDIO), "server", columns)
    >>> server.frame.tolist(), server.begin.tolist(), server.end.tolist(), server.servers
    ([1, 0], [5, 10], [7, 12], 1)
    """
    finished = columns.finished()
    parts = [
        _visits_to_service(stations, i, columns, finished) for i in stations.services_of(station)
    ]
    visits = {name: _joined([part[name] for part, _, _ in parts]) for name in parts[0][0]}
    stages: dict[str, _Interval] = {}
    for name in (name for _, inside, _ in parts for name in inside):
        # a visit to another service does not have the stage
        known = [inside.get(name, (part["begin"],) * 2) for part, inside, _ in parts]
        stages[name] = _joined([low for low, _ in known]), _joined([high for _, high in known])
    begin, end = visits["begin"], visits["end"]
    if len(begin) > 1 and not (begin[1:] > begin[:-1]).all():
        # of two frames that entered at one time, one that left at once was first: they did not
        # overlap
        order = np.lexsort((end, visits["arrive"], end > begin, begin))
        visits = {name: column[order] for name, column in visits.items()}
        stages = {name: (low[order], high[order]) for name, (low, high) in stages.items()}
        begin, end = visits["begin"], visits["end"]
    batch, most = _batches(begin, end), min(len(begin), 1)
    overlaps = begin < _departures_before(end, batch)
    if batch is not None and np.count_nonzero(overlaps) > MOST_CONFLICTS * len(begin):
        batch = None  # these are visits to several servers
    if batch is None:
        overlaps, most = _overlaps(begin, end)
    found = Visits(
        station,
        **visits,
        stages=stages,
        servers=1,
        most_at_once=most,
        overlaps=overlaps,
        conflicts=overlaps,
        unknown=np.concatenate([unknown for _, _, unknown in parts]),
        batch=batch,
    )
    one_server = np.count_nonzero(overlaps) <= MOST_CONFLICTS * len(begin)
    return found if one_server else found.with_servers(most)


def is_unbounded(servers: int, full: int, queued: int, frames: int) -> bool:
    """Return whether the frames that a station serves at once have no bound that is seen.

    A bound is seen if more than 1 % of the frames made the station as full as it ever was, and if
    also more than 1 % waited, or more than 30 % made it as full. Two frames at once are taken for
    two servers.

    Parameters
    ----------
    servers
        The largest number of frames that were in the station at once.
    full
        How many frames made it as full as that.
    queued
        How many frames waited for another one to leave.
    frames
        The number of all frames.
    """
    few = MOST_CONFLICTS * frames
    alone = queued <= few and full <= _MOST_FULL * frames
    return servers > 2 and (alone or full <= few)


def frames_at_once(servers: int, *, unbounded: bool) -> str:
    """Return how many frames a station serves at once, in words."""
    if unbounded:
        return "any number of frames"
    return "one frame" if servers == 1 else f"{servers} frames"


def ordered(times: Ints) -> Ints:
    """Return times (n,) sorted; nearly all of them already are."""
    return times if (times[1:] >= times[:-1]).all() else np.sort(times)


def positions(mask: Mask) -> Ints | slice:
    """Return where a mask is true: a slice if these positions are consecutive."""
    count, first = int(np.count_nonzero(mask)), int(np.argmax(mask)) if len(mask) else 0
    if mask[first : first + count].all():
        return slice(first, first + count)
    return np.flatnonzero(mask)


def latest_departures(ends: Ints) -> Ints:
    """Return the latest end of all earlier visits (n,); `MISSING` for the first visit."""
    latest = np.empty(len(ends), np.int64)
    latest[:1] = MISSING
    np.maximum.accumulate(ends[:-1], out=latest[1:])
    return latest


def _together(begin: Ints, end: Ints, near: float = 0.0) -> Mask:
    """Return which visits of some length (n,) began and ended about when the one before did."""
    same, most = np.zeros(len(begin), bool), (end - begin)[1:] * near
    same[1:] = (np.abs(np.diff(begin)) <= most) & (np.abs(np.diff(end)) <= most)
    return same & (end > begin)


def _overlaps(begin: Ints, end: Ints) -> tuple[Mask, int]:
    """Return which visits (n,) began before all earlier ones ended, and how many were at once."""
    overlaps, most = begin < latest_departures(end), min(len(begin), 1)
    if overlaps.any():
        # a visit of no length takes no server
        present = _present(begin, end)[end > begin] + 1
        most = max(int(present.max(initial=1)), 1)
    return overlaps, most


def _batches(begin: Ints, end: Ints) -> Ints | None:
    """Return the number of the batch of each visit (n,), or None if there are no batches.

    Marks of the frames of a batch may be set one after the other, a little apart.
    """
    for near, most in ((0.0, MOST_TOGETHER), (_NEAR, _MOST_NEAR)):
        same = _together(begin, end, near)
        if np.count_nonzero(same) > most * len(begin):
            return np.cumsum(~same)
    return None


def _departures_before(ends: Ints, batch: Ints | None) -> Ints:
    """Return the latest end of all earlier visits (n,), or of earlier batches if there are any."""
    latest = latest_departures(ends)
    return latest if batch is None else latest[np.searchsorted(batch, batch)]


def _visits_to_service(
    stations: Stations, i: int, columns: Columns, finished: Mask | None
) -> tuple[dict[str, Any], dict[str, _Interval], Ints]:
    """Return the visits to one service in order of rows, their stages, and `Visits.unknown`."""
    service = stations.services[i]
    begins, ends, stages = _intervals(stations, service, columns, finished)
    entered = begins != MISSING
    complete = entered & (ends != MISSING) & (ends >= begins)
    left = ends != MISSING
    if finished is not None and service.end == "end":
        left &= finished  # a drop stamps `end` in whatever stage the frame is
    if not complete.all():
        ends, stages = _until_last_mark(stations, service, columns, ~complete, begins, ends, stages)
    rows = slice(None) if entered.all() else np.flatnonzero(entered)
    numbers = np.arange(len(columns), dtype=np.int64)[rows]
    visits = {
        "frame": numbers,
        "service": np.broadcast_to(np.int64(i), len(numbers)),  # no array: all are the same number
        "arrive": columns.marks[service.arrive][rows],
        "begin": begins[rows],
        "end": ends[rows],
        "no_end": ~complete[rows],
    }
    stages = {name: (low[rows], high[rows]) for name, (low, high) in stages.items()}
    return visits, stages, np.flatnonzero(~entered & left)


def _intervals(
    stations: Stations, service: Service, columns: Columns, finished: Mask | None
) -> tuple[Ints, Ints, dict[str, _Interval]]:
    """Return when each frame was in a service, and in its stages."""
    marks, order = columns.marks, stations.pipeline.marks
    begins, ends = marks[service.begin], marks[service.end]
    stages = {s.name: (marks[s.begin], marks[s.end]) for s in service.stages}
    if finished is not None:
        inside = order[order.index(service.begin) : order.index(service.end)]
        dropped = ~finished & np.any([marks[mark] != MISSING for mark in inside], axis=0)
        dropped &= _lacks(columns, order[order.index(service.end) : -1])
        ends = np.where(dropped, marks["end"], ends)
        for stage in service.stages:
            last = dropped & _lacks(columns, order[order.index(stage.end) : -1])
            stages[stage.name] = marks[stage.begin], np.where(last, marks["end"], marks[stage.end])
    for name, (low, high) in stages.items():
        if low is begins and high is ends:
            continue
        absent = (low == MISSING) | (high == MISSING) | (high < low)
        if absent.any():
            low, high = np.where(absent, begins, low), np.where(absent, begins, high)
        if ((low < begins) | (high > ends)).any():  # marks that are not in order
            low, high = np.clip(low, begins, ends), np.clip(high, begins, ends)
        stages[name] = low, high
    return begins, ends, stages


def _lacks(columns: Columns, marks: tuple[str, ...]) -> Mask:
    """Return which frames have none of some marks."""
    result: Mask = np.all([columns.marks[mark] == MISSING for mark in marks], axis=0)
    return result


def _until_last_mark(
    stations: Stations,
    service: Service,
    columns: Columns,
    chosen: Mask,
    begins: Ints,
    ends: Ints,
    stages: dict[str, _Interval],
) -> tuple[Ints, dict[str, _Interval]]:
    """Return ends and stages in which chosen frames end at their last mark inside the service."""
    marks, order = columns.marks, stations.pipeline.marks
    last = begins
    for mark in order[order.index(service.begin) + 1 : order.index(service.end)]:
        last = np.maximum(last, marks[mark])
    ends = np.where(chosen, last, ends)
    found = {}
    for stage in service.stages:
        begin, end = marks[stage.begin], marks[stage.end]
        low, high = stages[stage.name]
        known = chosen & (begin != MISSING) & (end != MISSING) & (begin <= end)
        low, high = np.where(known, begin, low), np.where(known, end, high)
        low, high = np.clip(low, begins, ends), np.clip(high, begins, ends)
        found[stage.name] = low, np.where(chosen & ~known, low, high)
    return ends, found


def _joined(arrays: list[Array]) -> Array:
    return arrays[0] if len(arrays) == 1 else cast(Array, np.concatenate(arrays))


def _present(begin: Ints, end: Ints) -> Ints:
    """Return how many of the earlier visits (n,) have not ended when each one begins."""
    left: Ints = np.searchsorted(ordered(end), begin, side="right")
    present = np.arange(len(begin)) - left
    instant = end == begin
    if instant.any():
        # the search counts a visit of no length as ended, and so later ones at the same time
        times = begin[instant]
        present[instant] += np.searchsorted(times, times, side="right") - np.arange(len(times))
    return present
