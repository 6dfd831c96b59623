"""Sends frames through the stations once more, with something changed.

At a first in, first out station frame n departs at D[n] = max(A[n] + h, D[n-1] + g) + S[n]: it
arrives at A[n], is there after its transport delay h, is taken over g after the frame before has
departed (the hand-over), and is served for S[n]. Taking time out of a station therefore takes away
the queue in front of it as well. For all n at once: with C the running sum of g + S, D - C is the
running maximum of A + h + S - C.

Long recordings are replayed in windows of frames, one after the other; `Carry` keeps the departures
of earlier windows that a window needs.

If all queues have room for all frames, stations are replayed one after the other. With limited room
a station also waits for the next one: see `latprof.queueing.line`.
"""

import heapq
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from latprof.arrays import Ints, Mask
from latprof.errors import TraceError
from latprof.frames import MISSING
from latprof.pipeline import Pipeline
from latprof.queueing.delays import Delays
from latprof.queueing.model import QueueModel
from latprof.queueing.stations import Service, latest_departures, positions
from latprof.text import escape, quoted
from latprof.units import STAMP_LIMIT, parse_duration

__all__ = [
    "Carry",
    "Change",
    "Departed",
    "Replayed",
    "Scale",
    "breaks_of",
    "change_of",
    "check_order",
    "contradiction",
    "drop_limits",
    "one_server",
    "replay",
    "several_servers",
    "subtracted",
]

_MOST_BREAKS = 0.01  # share of the frames at a station that may contradict first in, first out
_MOST_FACTOR = 1e6

Scale = float | int | str
"""A factor, or a fixed change with its sign: ``"-2ms"``."""

Change = Callable[[Ints], Ints]
"""A function that returns changed durations (n,) for durations (n,), ns."""


# -- changes ------------------------------------------------------------------------------------


def change_of(pipeline: Pipeline, name: str, value: object) -> Change:
    """Return the function that changes the times of a stage.

    Raises
    ------
    TraceError
        The pipeline has no such stage, or the value is not a change.
    """
    names = [stage.name for stage in pipeline.stages]
    if name not in names:
        raise TraceError(
            f"changes must name stages of pipeline {pipeline.name!r} ({', '.join(names)}), "
            f"got {quoted(name)}"
        )
    if isinstance(value, str):
        if not re.match(r"\s*[+-]", value):
            raise TraceError(
                f"the change of {name} must be a factor, or a duration with its sign (for example "
                f"'-2ms'), got {quoted(value)}"
            )
        fixed = parse_duration(value, name=f"the change of {name}", signed=True, error=TraceError)
        return lambda lengths: np.maximum(lengths + fixed, 0)
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not number or not 0 <= value < _MOST_FACTOR:  # type: ignore[operator]
        raise TraceError(
            f"the change of {name} must be a factor from 0 to 1,000,000 (for example 0.9), or a "
            f"duration with its sign ('-2ms'), got {quoted(value)}"
        )
    factor = float(value)  # type: ignore[arg-type]
    if factor == 1:
        return lambda lengths: lengths

    def scaled(lengths: Ints) -> Ints:
        """Return durations times the factor."""
        result = np.rint(lengths * factor)
        if len(result) and result.max() >= STAMP_LIMIT:
            raise TraceError(
                f"{name} x {factor:g} must be below 2**62 ns (146 years); use a smaller factor"
            )
        return np.asarray(result, np.int64)

    return scaled


def drop_limits(model: QueueModel, drop: Mapping[str, str | int]) -> dict[str, int]:
    """Return how long frames wait at most, in ns, by hand-off.

    Raises
    ------
    TraceError
        No station is behind a hand-off of that name, or the value is not a duration.
    """
    names = [service.handoff for service in model.stations.services if service.handoff]
    limits = {}
    for name, value in drop.items():
        if name not in names:
            raise TraceError(
                "drop must name hand-offs in front of a station "
                f"({', '.join(names) or 'the pipeline has none'}), got {quoted(name)}"
            )
        limits[name] = parse_duration(value, name=f"drop at {name}", error=TraceError)
    return limits


def subtracted(model: QueueModel, changes: Mapping[str, Change]) -> Ints:
    """Return how much less time the changed stages of each frame take (n,), ns, without queues."""
    less = np.zeros(len(model.columns), np.int64)
    for stage in model.stations.pipeline.stages:
        if stage.name in changes:
            rows, lengths = model.lengths(stage)
            less[rows] += lengths - changes[stage.name](lengths)
    return less


# -- one station --------------------------------------------------------------------------------


def one_server(ready: Ints, hand_over: Ints, service: Ints) -> Ints:
    """Return departures (n,) from one server; arguments (n,) are in order of entry, ns.

    Examples
    --------
    >>> zero = np.zeros(3, np.int64)
    >>> one_server(np.array([0, 10, 50]), zero, np.array([30, 30, 30])).tolist()
    [30, 60, 90]
    """
    # in place: arrays of ten million frames have 80 MB each
    spent = hand_over + service
    np.cumsum(spent, out=spent)
    out: Ints = ready + service
    out -= spent
    np.maximum.accumulate(out, out=out)
    out += spent
    return out


def several_servers(
    ready: Ints,
    hand_over: Ints,
    service: Ints,
    servers: int,
    arrive: Ints | None = None,
    limit: int | None = None,
    busy_until: list[int] | None = None,
) -> tuple[Ints, Mask]:
    """Return departures (n,) from several servers, and which frames were not served.

    Frames that would begin more than `limit` ns after `arrive` (n,) (by default `ready`) are
    dropped, and leave when the limit is over. `busy_until` are departures of earlier frames.

    Notes
    -----
    If no frame has to wait, all times are known at once. Otherwise the frames are served one by
    one, in 0.5 us each.
    """
    present = np.maximum.accumulate(ready)
    takes_time = service > 0
    # sorted, and so a heap; `MISSING` is the lowest time, for servers that served no frame yet
    free = sorted([MISSING] * servers + (busy_until or []))[-servers:]
    idle = len(present) == 0 or free[-1] <= present[0] - hand_over.max(initial=0)
    if idle and limit is None and (takes_time.all() or not (hand_over > 0).any()):
        # if no more frames are present at once than there are servers, none waits
        alone = present + service
        # (a frame that is served in no time keeps no other waiting, unless a hand-over does)
        must_have_left_by = present - np.maximum(hand_over, 0)
        left = np.searchsorted(np.sort(alone[takes_time]), must_have_left_by, side="right")
        if (np.cumsum(takes_time) - takes_time - left < servers).all():
            return alone, np.zeros(len(present), bool)
    out, gone = np.empty(len(ready), np.int64), np.zeros(len(ready), bool)
    latest = [np.iinfo(np.int64).max] * len(ready)
    if limit is not None:
        latest = ((ready if arrive is None else arrive) + limit).tolist()
    rows = zip(present.tolist(), hand_over.tolist(), service.tolist(), latest, strict=True)
    for n, (at, over, time, last) in enumerate(rows):
        begin = max(at, free[0] + over)
        if begin > last:
            out[n], gone[n] = last, True
            continue
        heapq.heapreplace(free, begin + time)
        out[n] = begin + time
    return out, gone


# -- all stations -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Replayed:
    """How much later each frame (n,) ended, in ns, and in which stage it was dropped, or -1.

    `waits` are the mean times in hand-offs, by name: as recorded, and as replayed.
    """

    shift: Ints
    dropped_at: npt.NDArray[np.int16]
    waits: dict[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(slots=True)
class Departed:
    """The latest departures from a station so far: as recorded, and as replayed, in ns."""

    recorded: list[int] = field(default_factory=list)
    replayed: list[int] = field(default_factory=list)

    def add(self, model: QueueModel, station: str, result: Replayed) -> None:
        """Add the new frames of a window: the latest departure from each server is kept."""
        mine = model.visits[station]
        new = positions(model.new[mine.frame])
        ends = mine.end[new]
        moved = ends + result.shift[mine.frame[new]]
        for times, added in ((self.recorded, ends), (self.replayed, moved)):
            if mine.servers == 1 and len(added):
                times[:] = [max([*times, int(added.max())])]
                continue
            count = min(mine.servers, len(added))
            last = np.partition(added, len(added) - count)[len(added) - count :] if count else added
            times[:] = sorted([*times, *last.tolist()])[-mine.servers :]


Carry = dict[str, Departed]
"""The latest departures in the windows that were replayed so far, by station."""


def replay(
    model: QueueModel,
    changes: Mapping[str, Change],
    *,
    servers: Mapping[str, int] | None = None,
    limits: Mapping[str, int] | None = None,
    delays: Mapping[str, Delays] | None = None,
    carry: Carry | None = None,
) -> Replayed:
    """Send the frames through the pipeline again.

    Parameters
    ----------
    model
        The frames as recorded.
    changes
        By stage, the function that changes its times; for a hand-off in front of a station it
        changes the transport delays.
    servers
        By station, how many frames it serves at once.
    limits
        By hand-off: frames that wait longer than this many ns are dropped there.
    delays
        Other estimates of the delays by station, in place of those of the model.
    carry
        The departures in earlier windows with the same changes; those of new frames are added.

    Raises
    ------
    TraceError
        A station that frames come to more than once.
    """
    stations = model.stations
    result = Replayed(
        np.zeros(len(model.columns), np.int64), np.full(len(model.columns), -1, np.int16)
    )
    handoffs = {service.handoff for service in stations.services}
    services = {service.stages[0].name: service for service in stations.services}
    for position, stage in enumerate(stations.pipeline.stages):
        if stage.station is None and stage.name in changes and stage.name not in handoffs:
            low, high = model.columns.marks[stage.begin], model.columns.marks[stage.end]
            rows = np.flatnonzero((low != MISSING) & (high != MISSING) & (high >= low))
            lengths = (high - low)[rows]
            result.shift[rows] += changes[stage.name](lengths) - lengths
            none = np.zeros(0, np.int64)  # of hand-overs and services
            _check_range(stage.name, result.shift, none, none)
        if stage.name not in services:
            continue
        service = services[stage.name]
        if len(stations.services_of(service.station)) > 1:
            raise TraceError(
                f"station {service.station!r} must serve stages that follow each other to be "
                "replayed, got frames that come to it more than once; name one station for each "
                "time (stations=)"
            )
        reading = (delays or model.delays)[service.station]
        carried = None if carry is None else carry.setdefault(service.station, Departed())
        names = {service.handoff, *(stage.name for stage in service.stages)}
        same = not (names & set(changes) or servers or limits or result.shift.any())
        if same and carried is not None and carried.recorded == carried.replayed:
            carried.add(model, service.station, result)
            continue
        limit = (limits or {}).get(service.handoff or "")
        count = (servers or {}).get(service.station, model.visits[service.station].servers)
        _send_through(model, service, reading, changes, count, limit, position, result, carried)
        if carried is not None:
            carried.add(model, service.station, result)
    return result


def _send_through(
    model: QueueModel,
    service: Service,
    delays: Delays,
    changes: Mapping[str, Change],
    servers: int,
    limit: int | None,
    position: int,
    result: Replayed,
    carried: "Departed | None" = None,
) -> None:
    """Send the frames through one station, at a position of the pipeline; changes `result`.

    ::

        arrays of visits, in recorded order of entry   mine, delays, lengths
          not dropped, without conflicts, new          to_serve
          in order of presence                         order
        shift of the frames, by row                    shift[rows] = out - ends
    """
    mine, shift, dropped = model.visits[service.station], result.shift, result.dropped_at
    rows, ends, arrive, recorded_delay = mine.frame, mine.end, delays.arrive, delays.delay
    lengths = _changed_lengths(model, service, changes)
    change = changes.get(service.handoff or "")
    delay = recorded_delay if change is None else change(recorded_delay)
    moved, over, to_serve = shift[rows], delays.hand_over, dropped[rows] < 0
    passing = mine.conflicts
    if passing.any():
        passing = passing & (ends <= latest_departures(ends))
        # these entered while all servers were busy: they keep no other waiting, and only move
        later = moved + (delay - recorded_delay) + (lengths - (ends - mine.begin))
        if limit is not None:
            late = passing & to_serve & (delay > limit)
            later[late] = (arrive + moved + limit - ends)[late]
            dropped[rows[late]] = position
        shift[rows[passing & to_serve]] = later[passing & to_serve]
        to_serve &= ~passing
    if carried is not None:
        to_serve &= model.new[rows]
    chosen = positions(to_serve)
    if not isinstance(chosen, slice) or chosen != slice(0, len(rows)):
        rows, ends, arrive, recorded_delay, lengths, delay, moved, over = (
            column[chosen]
            for column in (rows, ends, arrive, recorded_delay, lengths, delay, moved, over)
        )
    if not len(rows):
        return
    # the first to be there is served first; as long as nothing has moved, in the recorded order
    present = arrive + recorded_delay
    np.maximum.accumulate(present, out=present)
    present += delay
    present -= recorded_delay
    present += moved
    arrive = arrive + moved
    free: list[int] = []
    if carried is not None and carried.replayed:
        # the first frame that entered after the last departure of the window before may have to
        # wait for that departure
        first = int(np.searchsorted(mine.begin[chosen], carried.recorded[-1]))
        free = carried.replayed[-servers:]
        if servers == 1 and first < len(present):
            late = free[-1] + over[first] - (arrive[first] + delay[first])
            if late > 0:
                delay = delay.copy()
                delay[first] += late
                # later frames stay behind this one
                np.maximum(present[first:], arrive[first] + delay[first], out=present[first:])
    del moved, recorded_delay
    if (present[1:] < present[:-1]).any():
        order = np.argsort(present, kind="stable")
        rows, ends, arrive, lengths, delay, over = (
            column[order] for column in (rows, ends, arrive, lengths, delay, over)
        )
    del present
    ready = arrive + delay
    _check_range(service.station, ready, over, lengths)
    if servers == 1 and limit is None:
        out = one_server(ready, over, lengths)
    else:
        out, gone = several_servers(ready, over, lengths, servers, arrive, limit, free)
        dropped[rows[gone]] = position
        lengths = np.where(gone, 0, lengths)  # a dropped frame only waited
    if service.handoff is not None:
        after = float((out - lengths - arrive).mean())
        result.waits[service.handoff] = float((mine.begin - delays.arrive).mean()), after
    shift[rows] = out - ends


def _changed_lengths(model: QueueModel, service: Service, changes: Mapping[str, Change]) -> Ints:
    """Return the lengths (n,) of the visits to a station with the changes, in ns."""
    mine = model.visits[service.station]
    lengths = mine.end - mine.begin
    for stage in service.stages:
        if stage.name in changes:
            low, high = mine.stages[stage.name]
            lengths += changes[stage.name](high - low) - (high - low)
    np.maximum(lengths, 0, out=lengths)
    return lengths


def _check_range(name: str, ready: Ints, hand_over: Ints, service: Ints) -> None:
    """Raise an error if times are too late for a stamp, where integers would wrap.

    Raises
    ------
    TraceError
        Times of 2**62 ns or more.
    """
    if not len(ready):
        return
    spent = service.sum(dtype=np.float64) + np.abs(hand_over.sum(dtype=np.float64))
    if max(abs(float(ready.max())), abs(float(ready.min()))) + spent >= STAMP_LIMIT:
        raise TraceError(
            f"times at {escape(name)!r} must be below 2**62 ns (the year 2116); use smaller changes"
        )


def breaks_of(model: QueueModel) -> dict[str, int]:
    """Return by station how many new frames contradict first in, first out.

    These are frames that entered while all servers were busy, those that were overtaken in the
    queue by one that arrived so much later that no delay explains it, and those that lack a mark.
    """
    found = {}
    for name, mine in model.visits.items():
        delays = model.delays[name]
        known = (mine.begin - delays.arrive)[~delays.queued]
        longest = max(int(known.max()) if len(known) else 0, delays.limit_ns)
        arrived = np.maximum.accumulate(np.minimum(mine.arrive, mine.begin))
        overtaken = delays.queued & (delays.arrive + longest < arrived)
        breaks = (overtaken | mine.conflicts | mine.no_end) & model.new[mine.frame]
        unknown = np.count_nonzero(model.new[mine.unknown])
        found[name] = int(np.count_nonzero(breaks)) + int(unknown)
    return found


def check_order(model: QueueModel) -> int:
    """Return how many frames contradict first in, first out.

    Raises
    ------
    TraceError
        More than 1 % do at some station.
    """
    breaks = breaks_of(model)
    for name, count in breaks.items():
        mine = model.visits[name]
        why = contradiction(name, count, len(mine) + len(mine.unknown))
        if why:
            raise TraceError(why)
    return sum(breaks.values())


def contradiction(station: str, breaks: int, frames: int) -> str:
    """Return why a station cannot be replayed, or an empty text if it can."""
    if breaks <= _MOST_BREAKS * max(frames, 1):
        return ""
    return (
        f"a replay is not available: {breaks:,} of {frames:,} frames at station {station!r} "
        "contradict first in, first out, or lack a mark there: at most 1 % may"
    )
