"""Models of frames: visits to stations, delays, blocking, and the stages that frames waited for.

A `QueueModel` is made once for a window of frames, in this order::

    frames -> stations_of, visits_to    when each frame was in which station
           -> delays_of                 which part of the time in front of it was transport
           -> blocking_of               busy time to wait for (`busy`), and full queues (`blocked`)

Blame, causes, replays and utilization read the model.
"""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from latprof.arrays import Ints, Mask
from latprof.frames import MISSING, Columns
from latprof.marks import Span
from latprof.pipeline import Pipeline
from latprof.queueing.blocking import (
    Amounts,
    Blocked,
    BusyTime,
    Held,
    Intervals,
    Path,
    blocking_of,
    held_by,
)
from latprof.queueing.delays import Delays, delays_of
from latprof.queueing.line import Line
from latprof.queueing.options import MOST_STAGES
from latprof.queueing.rooms import NEVER, Queue
from latprof.queueing.stations import (
    Stations,
    Visits,
    is_unbounded,
    positions,
    stations_of,
    visits_to,
)
from latprof.text import quoted

__all__ = ["QueueModel", "Wait", "queue_model"]

_MOST_ODD = 0.01  # share of the frames of a line that may lack a visit


@dataclass(frozen=True, slots=True, eq=False)
class Wait:
    """The time of n frames in one hand-off, and the waiting in it.

    `total` (n,) is the whole time in ns, and `by_path` (n,) the waiting in ns by path: see
    `latprof.queueing.blocking`. `unseen_ns` is how long all queued frames together waited before
    the first visit of the recording, for frames that are not in it.
    """

    handoff: str
    total: Amounts
    by_path: dict[Path, Amounts]
    unseen_ns: int = 0

    def by_stage(self) -> dict[str, Amounts]:
        """Return the waiting (n,) in ns by the stage that caused it."""
        found: dict[str, Amounts] = {}
        for path, amounts in self.by_path.items():
            known = found.get(path[-1])
            found[path[-1]] = amounts if known is None else known + amounts
        return found

    def self_time(self) -> Amounts:
        """Return the time (n,) in ns that was not waiting."""
        rest = self.total
        for amounts in self.by_path.values():
            rest = rest - amounts
        return rest


@dataclass(eq=False)
class QueueModel:
    """Frames of a pipeline in any order, and what their marks show of its stations.

    Attributes
    ----------
    depth
        The largest number of stages of a path.
    counted
        Which frames results are about: finished ones. All others only keep these waiting.
    new
        Which frames are in no other window, dropped ones included.
    line
        The frames as a line of stations, or None if stations are not in a row.
    held
        By station, when its puts waited for room.
    """

    stations: Stations
    columns: Columns
    depth: int
    counted: Mask
    visits: dict[str, Visits]
    delays: dict[str, Delays]
    new: Mask
    line: Line | None
    held: dict[str, Held]

    @property
    def queues(self) -> dict[str, Queue]:
        """The queues by hand-off, as far as they are known; empty if stations are not in a row."""
        if self.line is None:
            return {}
        found = zip(self.line.handoffs[1:], self.line.queues, strict=True)
        return {handoff: queue for handoff, queue in found if handoff is not None}

    def is_unbounded(self, station: str) -> bool:
        """Return whether frames overlap in a station without a bound that is seen."""
        mine = self.visits[station]
        full, queued = (
            int(np.count_nonzero(x)) for x in (mine.last_free, self.delays[station].queued)
        )
        return is_unbounded(mine.servers, full, queued, len(mine))

    @property
    def unordered_batches(self) -> str:
        """Why a replay cannot send the batches of a station through, or an empty text."""
        for name, mine in self.visits.items():
            in_line = self.line is not None and self.line.has_batches
            if mine.batch is not None and not in_line:
                return (
                    f"a replay is not available: station {quoted(name)} serves batches in another "
                    "order than frames start"
                )
        return ""

    @cached_property
    def _blocking(self) -> tuple[dict[str, dict[Path, BusyTime]], dict[str, list[Blocked]]]:
        return blocking_of(self.stations, self.visits, self.held, self.depth)

    @property
    def busy(self) -> dict[str, dict[Path, BusyTime]]:
        """By station and path: the cumulative time for which arriving frames wait."""
        return self._blocking[0]

    @property
    def blocked(self) -> dict[str, list[Blocked]]:
        """By station: when the next station blocked it."""
        return self._blocking[1]

    def lengths(self, stage: Span) -> tuple[Ints, Ints]:
        """Return the rows (k,) of counted frames that have a stage, and how long it took, in ns."""
        begin, end = self.columns.marks[stage.begin], self.columns.marks[stage.end]
        known = self.counted & (begin != MISSING) & (end != MISSING) & (end >= begin)
        rows = np.flatnonzero(known)
        return rows, (end - begin)[rows]

    @cached_property
    def end_to_end(self) -> tuple[Ints, Ints]:
        """The rows (k,) of counted frames with an end_to_end of 0 or more, and it in ns (k,)."""
        return self.lengths(self.stations.pipeline.totals[0])

    def waits(self, *, queued: bool) -> list[Wait]:
        """Return the waits in each hand-off, in order of the pipeline.

        With `queued` only the time after a frame's transport delay counts.
        """
        services = {x.handoff: i for i, x in enumerate(self.stations.services)}
        found = []
        for stage in self.stations.pipeline.stages:
            if stage.station is not None:
                continue
            if stage.name not in services:
                found.append(Wait(stage.name, self.lengths(stage)[1], {}))
                continue
            i = services[stage.name]
            mine = self.visits[self.stations.services[i].station]
            visit, low = self._waiting(i, queued=queued)
            total = (mine.begin - mine.arrive)[visit]
            unseen = 0
            if queued and len(low) and self.delays[mine.station].starts_late:
                first = np.minimum(mine.begin[0], mine.begin[visit])
                unseen = int(np.maximum(first - low, 0).sum())
            found.append(Wait(stage.name, total, self._waited(mine, visit, low), unseen))
        return found

    def _waiting(self, i: int, *, queued: bool) -> tuple[Ints | slice, Ints]:
        """Return which visits of counted frames to service `i` may have waited, and from when."""
        station = self.stations.services[i].station
        mine, delays = self.visits[station], self.delays[station]
        known = self.counted[mine.frame] & (mine.arrive != MISSING) & (mine.arrive <= mine.begin)
        known &= mine.service == i
        low = mine.arrive
        if queued:
            low = np.where(delays.queued, delays.arrive + delays.delay, mine.begin)
            for blocked in self.blocked[station]:
                if blocked.stage not in mine.stages:
                    # the next frame came to a server that was idle because a full queue blocked it
                    held = np.append(False, blocked.lengths[:-1] > 0)
                    usual = delays.arrive + np.minimum(delays.delay, delays.usual_ns or 0)
                    low = np.where(held, np.minimum(low, usual), low)
        visit = positions(known)
        return visit, low[visit]

    def _waited(self, mine: Visits, visit: Ints | slice, low: Ints) -> dict[Path, Amounts]:
        """Return how much of the wait of chosen visits (n,), from `low` on, was for each path."""
        high = mine.begin[visit]
        found: dict[Path, Amounts] = {}
        # cache: consecutive paths with the same `entries` array share one search
        located: tuple[Ints, Ints] | None = None
        for path, busy in self.busy[mine.station].items():
            if not isinstance(busy, Intervals):
                found[path] = busy.until(high) - busy.until(low)
                continue
            at_entry = busy.entries is mine.begin
            if located is None or located[0] is not busy.entries:
                at_low = _located_before(busy, visit, low) if at_entry else busy.locate(low)
                located = busy.entries, at_low
            # up to its own entry: the visits before it
            at_high = busy.sums[visit] if at_entry else busy.until(high)
            found[path] = at_high - busy.until(low, located[1])
        return found


def queue_model(
    pipeline: Pipeline,
    columns: Columns,
    *,
    hand_over: int | None = None,
    depth: int = MOST_STAGES,
    counted: Mask | None = None,
    new: Mask | None = None,
    earlier: Mapping[str, Ints] | None = None,
    certain: Mask | None = None,
    like: QueueModel | None = None,
    settle: Callable[[Visits], Visits] | None = None,
    queues: Mapping[str, Queue] | None = None,
) -> QueueModel:
    """Return the model of some frames.

    Parameters
    ----------
    pipeline, columns
        The frames.
    hand_over
        See `delays_of`, in ns.
    depth
        The largest number of stages of a path.
    counted, new
        (n,) which frames results are about, and which are in no other window; None means all.
    earlier
        Known delays by station, if the frames are not the first: see `delays_of`.
    certain
        (n,) frames that delays are estimated from; None means all.
    like
        A model of these and other frames. Its servers and estimates are used.
    settle
        Returns visits to a station with the number of servers that it has.
    queues
        Queues of which the room was inferred already, by hand-off.
    """
    stations = stations_of(pipeline)
    finished = columns.finished()
    mine = np.ones(len(columns), bool) if finished is None else finished
    mine = mine if counted is None else mine & counted
    visits = _visits(stations, columns)
    if settle is not None:
        visits = {name: settle(found) for name, found in visits.items()}
    line = _line_of(stations, visits, columns)
    if line is not None:
        given = {name: Queue(room, given=True) for name, room in stations.pipeline.queues.items()}
        earlier_queues = like.queues if like is not None else queues
        line = line.with_queues({**(earlier_queues or {}), **given})
    held = {} if line is None else held_by(line, visits)
    delays = {}
    for name, found in visits.items():
        limit, past = hand_over, None if earlier is None else earlier[name]
        known = None if certain is None else certain[found.frame]
        if like is not None:
            found = visits[name] = found.with_servers(like.visits[name].servers)
            limit, past = like.delays[name].limit_ns, like.delays[name].known
            known = np.zeros(len(found), bool)
        freed_at = held[name].freed_at if name in held else None
        delays[name] = delays_of(found, limit, past, known, freed_at)
    new = np.ones(len(columns), bool) if new is None else new
    return QueueModel(stations, columns, depth, mine, visits, delays, new, line, held)


def _visits(stations: Stations, columns: Columns) -> dict[str, Visits]:
    """Return the visits by station; batches that are not sent in order may be those of a pool."""
    visits = {name: visits_to(stations, name, columns) for name in stations.names}
    if any(mine.batch is not None for mine in visits.values()):
        line = _line_of(stations, visits, columns)
        if line is None or not line.has_batches:
            return {name: mine.as_pool() for name, mine in visits.items()}
    return visits


def _located_before(busy: Intervals, visit: Ints | slice, low: Ints) -> Ints:
    """Return the last visit that had begun at times `low` (n,), which are before visits (n,)."""
    if isinstance(visit, slice):
        visit = np.arange(visit.start, visit.stop)
    # most frames arrive while the one before them is served, or later
    before = visit - 1
    further = np.flatnonzero(busy.entries[np.maximum(before, 0)] > low)
    before[further] = busy.locate(low[further])
    return before


# -- frames in a line of stations ------------------------------------------------------------------


def _line_of(stations: Stations, visits: Mapping[str, Visits], columns: Columns) -> Line | None:
    """Return the frames as a line, or None if they are not one.

    They are not if a station is visited more than once, or if more than 1 % of the frames lack a
    visit or have marks that are out of order.
    """
    services = stations.services
    if not services or len(services) != len(stations.names):
        return None
    marks = columns.marks
    names: list[str | None] = [service.station for service in services]
    handoffs: list[str | None] = [service.handoff for service in services]
    arrive = [marks[service.arrive] for service in services]
    begin = [marks[service.begin] for service in services]
    end = [marks[service.end] for service in services]
    if services[0].handoff is None and _starts_at_once(marks["start"], begin[0], end[0]):
        begin[0] = marks["start"]
    elif services[0].begin != "start":
        names, handoffs = [None, *names], [None, *handoffs]
        begin, end = [marks["start"], *begin], [arrive[0], *end]
        arrive = [marks["start"], *arrive]
    arrive[0] = np.full(len(columns), NEVER, np.int64)
    if len(names) < 2:
        return None
    good = np.ones(len(columns), bool)
    finished = columns.finished()
    if finished is not None:
        good &= finished
    previous = marks["start"]
    good &= previous != MISSING
    in_order = (x for node in zip(arrive, begin, end, strict=True) for x in node)
    for times in itertools.islice(in_order, 1, None):
        good &= times >= previous
        previous = times
    good &= marks["end"] >= previous
    left_out = len(good) - int(np.count_nonzero(good))
    if left_out > _MOST_ODD * len(good):
        return None
    rows = np.flatnonzero(good)
    start = marks["start"][rows]
    if (start[1:] < start[:-1]).any():
        rows = rows[np.argsort(start, kind="stable")]
    whole = len(rows) == len(columns) and (rows[1:] > rows[:-1]).all()
    at: slice | Ints = slice(None) if whole else rows
    counts = [1 if name is None else visits[name].servers for name in names]
    arrive, begin, end = ([x[at] for x in each] for each in (arrive, begin, end))
    line = Line(rows, names, handoffs, arrive, begin, end, marks["end"][at], counts)
    line = replace(line, left_out=left_out, due=begin[0], batches=[None] * len(names))
    return _in_batches(line, visits)


def _in_batches(line: Line, visits: Mapping[str, Visits]) -> Line | None:
    """Return the line with the batches of its stations, or None if they cannot be replayed."""
    batches: list[Ints | None] = [None] * len(line.names)
    begin = list(line.begin)
    for k, name in enumerate(line.names):
        mine = None if name is None else visits[name]
        if mine is None or mine.batch is None:
            continue
        by_frame = np.zeros(int(mine.frame.max(initial=0)) + 1, np.int64)
        by_frame[mine.frame] = mine.batch
        batch = batches[k] = by_frame[line.rows]
        if (batch[1:] < batch[:-1]).any():
            return None
        # its frames were all taken when the mark of the first one was set
        begin[k] = begin[k][np.searchsorted(batch, batch)]
    found = replace(line, begin=begin, batches=batches)
    return found if not found.has_batches or found.in_order else None


def _starts_at_once(start: Ints, begin: Ints, end: Ints) -> bool:
    """Return whether frames enter the first station as soon as they start."""
    known = (start != MISSING) & (begin != MISSING) & (end != MISSING)
    before, inside = (begin - start)[known], (end - begin)[known]
    return bool((before >= 0).all() and before.sum() <= 0.01 * inside.sum())
