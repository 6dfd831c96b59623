"""The sums that causes are computed from: waits, gains, evidence of stations and queues."""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from latprof.arrays import Count
from latprof.frames import Columns
from latprof.pipeline import Pipeline
from latprof.queueing.blocking import Path
from latprof.queueing.gains import Gains, GainsSoFar
from latprof.queueing.model import QueueModel, queue_model
from latprof.queueing.replay import breaks_of, contradiction, one_server
from latprof.queueing.rooms import Queue, Source
from latprof.queueing.stations import MOST_TOGETHER, frames_at_once, is_unbounded, stations_of
from latprof.units import format_ns

__all__ = [
    "MOST_NOTES",
    "NO_STATION",
    "BlockedTime",
    "CauseSums",
    "StationEvidence",
]

NO_STATION = "no stage has a station: which stages frames wait for is not known"

MOST_NOTES = 20
"""Notes that are kept at most."""


@dataclass
class BlockedTime:
    """Visits to a station that the next station blocked, and for how long."""

    visits: Count = 0
    ns: Count = 0

    def __add__(self, other: "BlockedTime") -> "BlockedTime":
        return BlockedTime(self.visits + other.visits, self.ns + other.ns)


@dataclass
class StationEvidence:
    """Counts and times of the visits to one station, kept as evidence for its causes.

    Attributes
    ----------
    frames, unknown, breaks
        Number of frames, of those without a known entry or departure, and of those that contradict
        first in, first out.
    servers, full
        How many frames were served at once, and how many frames took the last free server.
    queued
        Frames that waited for a departure.
    given
        Whether the number of servers was given, not found.
    together
        Frames that entered and left together with another one.
    batches, filling_ns
        Batches that a replay can send through, and how long their frames waited until they were
        full.
    service_ns
        Time of all visits.
    blocked
        Visits by (blocking station, stage that was held up).
    """

    frames: Count = 0
    unknown: Count = 0
    breaks: Count = 0
    servers: Count = 1
    full: Count = 0
    queued: Count = 0
    given: bool = False
    together: Count = 0
    batches: Count = 0
    filling_ns: Count = 0
    service_ns: Count = 0
    blocked: dict[tuple[str, str], BlockedTime] = field(default_factory=dict)

    @property
    def in_batches(self) -> bool:
        """Whether the station serves several frames together."""
        return self.together > MOST_TOGETHER * max(self.frames, 1)

    @property
    def is_unbounded(self) -> bool:
        """Whether frames overlap without a bound that is seen.

        See `latprof.queueing.stations.is_unbounded`.
        """
        seen = is_unbounded(self.servers, self.full, self.queued, self.frames)
        return seen and not self.given

    def __add__(self, other: "StationEvidence") -> "StationEvidence":
        return StationEvidence(
            self.frames + other.frames,
            self.unknown + other.unknown,
            self.breaks + other.breaks,
            max(self.servers, other.servers),
            # how often all servers were busy is not known of the part with fewer servers
            sum(x.full for x in (self, other) if x.servers == max(self.servers, other.servers)),
            self.queued + other.queued,
            self.given or other.given,
            self.together + other.together,
            self.batches + other.batches,
            self.filling_ns + other.filling_ns,
            self.service_ns + other.service_ns,
            _by_key(operator.add, self.blocked, other.blocked, BlockedTime()),
        )


@dataclass
class CauseSums:
    """Sums over frames, in ns, by stage.

    Attributes
    ----------
    total, counts
        Time of the stage, and how many frames have it.
    waits
        By hand-off and path, how long its frames waited: see `latprof.queueing.blocking`.
    gains
        The gains of quicker stages, or None if no replay is available.
    queues
        The queues by hand-off, as far as they are known.
    source
        The kind of source that frames come from.
    end_to_end, frames
        The sum of end_to_end, and over how many frames.
    stations
        The evidence of each station, with each frame once.
    unseen
        By hand-off, how long queued frames waited for frames from before the recording.
    notes
        Why gains or waits are unknown.
    """

    total: dict[str, Count]
    counts: dict[str, Count]
    waits: dict[str, dict[Path, float]]
    gains: Gains | None
    queues: dict[str, Queue]
    source: Source
    end_to_end: Count
    frames: Count
    stations: dict[str, StationEvidence]
    unseen: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, model: QueueModel, gains: GainsSoFar | None = None) -> "CauseSums":
        """Return the sums of a window; `gains` are those of the windows before it.

        Without `gains` no replay is made.
        """
        stages = model.stations.pipeline.stages
        lengths = {stage.name: model.lengths(stage)[1] for stage in stages}
        found = model.waits(queued=True)
        waits = {
            wait.handoff: {path: float(ns.sum()) for path, ns in wait.by_path.items()}
            for wait in found
        }
        _count_queue_of_blocked(model, waits)
        _count_blocked(model, waits)
        notes = () if model.stations.names else (NO_STATION,)
        found_gains, why = (Gains(), "") if gains is None else gains.of(model)
        notes = (*notes, why) if why else notes
        _, end_to_end = model.end_to_end
        return cls(
            {name: int(ns.sum()) for name, ns in lengths.items()},
            {name: len(ns) for name, ns in lengths.items()},
            waits,
            found_gains,
            model.queues,
            Source() if model.line is None else model.line.source,
            int(end_to_end.sum()),
            len(end_to_end),
            _evidence(model),
            {wait.handoff: wait.unseen_ns for wait in found},
            notes,
        )

    @classmethod
    def empty(cls, pipeline: Pipeline) -> "CauseSums":
        """Return the sums of no frames."""
        none = np.zeros(0, np.int64)
        marks = dict.fromkeys(stations_of(pipeline).marks, none)
        return cls.of(queue_model(pipeline, Columns(none.view(np.uint64), marks)))

    def __add__(self, other: "CauseSums") -> "CauseSums":
        return self._with(operator.add, other)

    def __sub__(self, other: "CauseSums") -> "CauseSums":
        """Return the sums without those of frames that are counted once more elsewhere."""
        return self._with(operator.sub, other)

    def _with(self, put: Callable[[Any, Any], Any], other: "CauseSums") -> "CauseSums":
        """Return the sums of both, put together by an operator."""
        gains = None
        if self.gains is not None and other.gains is not None:
            # sums that are subtracted have no gains: their frames were not replayed
            gains = self.gains + other.gains
        return CauseSums(
            _by_key(put, self.total, other.total),
            _by_key(put, self.counts, other.counts),
            _by_key(partial(_by_key, put), self.waits, other.waits, {}),
            gains,
            _by_key(_surer, self.queues, other.queues, Queue(None)),
            other.source if other.frames > self.frames else self.source,
            put(self.end_to_end, other.end_to_end),
            put(self.frames, other.frames),
            # sums that are subtracted have no evidence: their frames are not new
            _by_key(operator.add, self.stations, other.stations, StationEvidence()),
            _by_key(put, self.unseen, other.unseen),
            tuple(dict.fromkeys((*self.notes, *other.notes)))[:MOST_NOTES],
        )

    def waited_for(self, handoff: str) -> dict[Path, float]:
        """Return by path how long (ns) the frames of a hand-off waited.

        The wait for frames from before the recording is divided among the paths as the rest is.
        """
        seen = self.waits.get(handoff, {})
        known, unseen = sum(seen.values()), self.unseen.get(handoff, 0)
        more = 1 + unseen / known if known > 0 else 1.0
        return {path: ns * more for path, ns in seen.items()}

    def out_of_order(self) -> str:
        """Return why no replay of the stations is available, or an empty text."""
        if any(queue.room for queue in self.queues.values()):
            return ""  # the replay keeps the order of frames
        reasons = (contradiction(name, x.breaks, x.frames) for name, x in self.stations.items())
        return next(filter(None, reasons), "")

    def assumptions(self) -> list[str]:
        """Return sentences on what a replay assumes, with the evidence."""
        if self.gains is None or not self.gains.frames:
            return []
        lines = [f"{name}: {queue.text}" for name, queue in self.queues.items()]
        if any(queue.room for queue in self.queues.values()):
            lines.append(f"source: {self.source.text}")
        else:
            lines = [f"{line}; taken as unbounded" for line in lines]
            lines.append("source: frames start when they did")
        for name, seen in self.stations.items():
            frames = frames_at_once(seen.servers, unbounded=seen.is_unbounded)
            frames = "one batch" if seen.batches else frames
            lines.append(
                f"{name} serves {frames} at once, first in, first out: {seen.breaks:,} of "
                f"{seen.frames:,} contradict it"
            )
        if self.gains.frames < self.frames:
            lines.append(f"gains are of the first {self.gains.frames:,} of {self.frames:,} frames")
        return lines

    def station_notes(self) -> list[str]:
        """Return sentences on what was inferred of the stations."""
        lines = []
        for name, seen in self.stations.items():
            for (by, stage), blocked in seen.blocked.items():
                part = blocked.ns / max(seen.service_ns, 1)
                lines.append(
                    f"station {name} was held up by a full queue in front of {by} (inferred from "
                    f"{blocked.visits:,} visits; {part:.0%} of the time of its visits, at {stage})"
                )
        for name, seen in self.stations.items():
            if seen.batches:
                mean = format_ns(seen.filling_ns / max(seen.frames, 1))
                lines.append(
                    f"station {name} serves batches of {seen.frames / seen.batches:.3g} frames on "
                    f"average: a frame waits {mean} until its batch is full"
                )
            elif seen.in_batches:
                lines.append(
                    f"frames enter and leave station {name} together ({seen.together:,} of "
                    f"{seen.frames:,}): batches of several servers, or in another order than "
                    "frames start, are not part of the replay, in which they are single frames"
                )
            elif seen.is_unbounded:
                lines.append(
                    f"up to {seen.servers} frames overlapped in {name}, that many in "
                    f"{seen.full:,} of {seen.frames:,} cases, and {seen.queued:,} waited for "
                    "another one to leave: concurrency without a bound, as in an event loop, and "
                    "not a station"
                )
            elif seen.servers > 1:
                lines.append(f"station {name} serves up to {seen.servers} frames at once")
            if seen.unknown:
                lines.append(f"{seen.unknown:,} frames were in station {name} at unknown times")
        return [*lines, *filter(None, [self.out_of_order()])]


def _evidence(model: QueueModel) -> dict[str, StationEvidence]:
    """Return what the new frames of a window show of each station."""
    breaks, found = breaks_of(model), {}
    for name, visits in model.visits.items():
        new = model.new[visits.frame]
        entered = int(np.count_nonzero(model.new[visits.unknown]))
        blocked: dict[tuple[str, str], BlockedTime] = {}
        for each in model.blocked[name]:
            lengths = each.lengths[new]
            time = BlockedTime(int(np.count_nonzero(lengths)), int(lengths.sum()))
            blocked[each.by, each.stage] = time
        found[name] = StationEvidence(
            int(np.count_nonzero(new)) + entered,
            int(np.count_nonzero(visits.no_end & new)) + entered,
            breaks[name],
            max(visits.servers, 1),
            int(np.count_nonzero(visits.last_free & new)),
            int(np.count_nonzero(model.delays[name].queued & new)),
            False,
            int(np.count_nonzero(visits.together & new)),
            *_filling(model, name),
            int((visits.end - visits.begin)[new].sum()),
            blocked,
        )
    return found


def _filling(model: QueueModel, name: str) -> tuple[int, int]:
    """Return the number of batches of a station, and how long new frames waited in them, in ns."""
    line = model.line
    if line is None or not line.has_batches:
        return 0, 0
    k, new = line.names.index(name), model.new[line.rows]
    batch = line.batches[k]
    if batch is None:
        return 0, 0
    return len(np.unique(batch[new])), int((line.served(k) - line.begin[k])[new].sum())


def _count_queue_of_blocked(model: QueueModel, waits: dict[str, dict[Path, float]]) -> None:
    """Count the queue in front of a blocked station for the station that blocked it.

    While a frame of the queue is served, nothing is blocked. But the queue would be shorter without
    the blocked time before: the difference, from a replay of the station without that time, is
    moved from the station's own stages to the one that blocked it.
    """
    for service in model.stations.services:
        mine, delays = model.visits[service.station], model.delays[service.station]
        names = {stage.name for stage in service.stages}
        held = [x for x in model.blocked[service.station] if x.stage in names]
        alone = len(model.stations.services_of(service.station)) == 1
        if not held or service.handoff is None or not alone or mine.batch is not None:
            continue
        parts = waits[service.handoff]
        after = mine.end - mine.begin - held[0].lengths
        ready = delays.arrive + delays.delay
        sooner = one_server(ready, delays.hand_over, after) - after
        counted = model.counted[mine.frame] & delays.queued
        gone = float(np.maximum(mine.begin - np.maximum(sooner, ready), 0)[counted].sum())
        chained = {path: ns for path, ns in parts.items() if path[-1] not in names}
        known = sum(chained.values())
        own = sum(parts.values()) - known
        more = min(max(gone - known, 0.0), own)
        if known > 0 and own > 0 and more > 0:
            for path in parts:
                parts[path] *= 1 + more / known if path in chained else 1 - more / own


def _count_blocked(model: QueueModel, waits: dict[str, dict[Path, float]]) -> None:
    """Add the time inside stages in which the next station blocked them, as waits of the stages."""
    for station, found in model.blocked.items():
        mine = model.visits[station]
        for blocked in found:
            if blocked.stage not in mine.stages:  # the time of a hand-off is counted already
                continue
            counted = model.counted[mine.frame]
            parts = waits.setdefault(blocked.stage, {})
            for path, busy in model.busy[blocked.by].items():
                ns = (busy.until(blocked.high) - busy.until(blocked.low))[counted].sum()
                parts[path] = parts.get(path, 0.0) + float(ns)


def _surer(one: Queue, other: Queue) -> Queue:
    """Return a queue as two parts of a recording show it: with the room that has more evidence."""
    surer = max(one, other, key=lambda queue: (queue.given, bool(queue.room), queue.held))
    held = one.held + other.held if one.room == other.room else surer.held
    return replace(surer, most=max(one.most, other.most), held=held)


def _by_key(
    put: Callable[[Any, Any], Any],
    left: Mapping[Any, Any],
    right: Mapping[Any, Any],
    empty: object = 0,
) -> dict[Any, Any]:
    """Return the values of two dicts put together; a missing value is `empty`."""
    return {key: put(left.get(key, empty), right.get(key, empty)) for key in {**left, **right}}
