"""Gains: by how much quicker stages shorten end to end in a replay, and raise frames per second.

The gain of a stage is the time that a tenth less of it takes off the sum of end to end. The gains
of 8 and 12 % less show how near a tie is. The gain of a stage that never takes longer than its own
median shows whether it is slow or erratic.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from latprof.arrays import Count, Ints
from latprof.errors import TraceError
from latprof.frames import MISSING
from latprof.histogram import Histogram
from latprof.queueing.line import MOST_POOL_FRAMES, Line
from latprof.queueing.model import QueueModel
from latprof.queueing.replay import Carry, Change, breaks_of, change_of, contradiction, replay
from latprof.queueing.sending import Times

__all__ = [
    "LESS",
    "MOST_REPLAYED",
    "NEAR",
    "Gains",
    "GainsSoFar",
    "held_to_median",
    "line_times",
    "replays_as_line",
]

LESS = 0.1
"""Part of a stage's time that is taken away for its gain."""

NEAR = 0.02
"""How far to both sides of `LESS` the range of a gain reaches."""

MOST_REPLAYED = 1 << 20
"""Largest number of frames that are replayed through queues with limited room."""


@dataclass
class Gains:
    """Sums over the frames that were replayed, by stage, in ns.

    Attributes
    ----------
    frames, end_to_end, span_ns
        How many frames were replayed, the sum of their end to end, and the time from the first to
        the last departure.
    gain
        By how much a tenth less of the stage shortens the sum of end to end.
    spans
        The time from the first to the last departure with a tenth less of the stage.
    sampled
        The same as `gain`, only over the frames for which the next three are known: those of the
        first window, or all frames if stations are replayed together as a line.
    low, high
        The lower and the higher of the gains of 8 and 12 % less, over these frames.
    held
        The gain of the stage held to its median, over these frames.
    readings
        The same as `gain` in other readings of an irregular source, by name of the reading.
    """

    frames: Count = 0
    end_to_end: Count = 0
    span_ns: Count = 0
    gain: dict[str, float] = field(default_factory=dict)
    spans: dict[str, float] = field(default_factory=dict)
    sampled: dict[str, float] = field(default_factory=dict)
    low: dict[str, float] = field(default_factory=dict)
    high: dict[str, float] = field(default_factory=dict)
    held: dict[str, float] = field(default_factory=dict)
    readings: dict[str, dict[str, float]] = field(default_factory=dict)

    def __add__(self, other: "Gains") -> "Gains":
        readings = {
            name: _added(self.readings.get(name, self.gain), other.readings.get(name, other.gain))
            for name in {**self.readings, **other.readings}
        }
        found = Gains(
            self.frames + other.frames,
            self.end_to_end + other.end_to_end,
            self.span_ns + other.span_ns,
            readings=readings,
        )
        for name in ("gain", "spans", "sampled", "low", "high", "held"):
            setattr(found, name, _added(getattr(self, name), getattr(other, name)))
        return found

    def at(self, name: str, stage: str) -> float:
        """Return `low`, `high` or `held` of a stage, scaled from `sampled` frames to all."""
        values: dict[str, float] = getattr(self, name)
        part, sampled = values.get(stage, 0.0), self.sampled.get(stage, 0.0)
        whole = self.gain.get(stage, 0.0)
        return part if part == 0 or sampled == 0 else part * whole / sampled

    def throughput(self, stage: str) -> float:
        """Return by which part more frames leave each second with a tenth less of a stage."""
        after = self.spans.get(stage, 0.0)
        return self.span_ns / after - 1 if after > 0 else 0.0


def _added(left: Mapping[str, float], right: Mapping[str, float]) -> dict[str, float]:
    """Return the values of two dicts added up."""
    return {name: left.get(name, 0.0) + right.get(name, 0.0) for name in {**left, **right}}


def replays_as_line(line: Line | None) -> bool:
    """Return whether a replay needs all stations at once: rooms, a source they hold, batches."""
    if line is None:
        return False
    closed = line.source.kind in ("closed", "paused") and line.names[0] is not None
    return line.is_bounded or closed or line.has_batches


class GainsSoFar:
    """Replays the windows of a recording one after the other.

    Parameters
    ----------
    less
        Part of a stage's time that is taken away.
    spread
        Whether `ends` keeps histograms of end to end: by changed stage, and under None as recorded.
    """

    def __init__(self, less: float = LESS, *, spread: bool = False) -> None:
        self._less = less
        self._carries: dict[str, Carry] = {}  # by stage
        self._replayed = self._windows = 0
        self.ends: dict[str | None, Histogram] | None = {} if spread else None

    def of(self, model: QueueModel) -> tuple[Gains | None, str]:
        """Return the gains of the new frames of a window, or None and why they are not known."""
        self._windows += 1
        line = model.line
        if model.unordered_batches:
            return None, model.unordered_batches
        try:
            if line is not None and replays_as_line(line):
                return self._bounded(model, line), ""
            for name, count in breaks_of(model).items():
                mine = model.visits[name]
                frames = int(np.count_nonzero(model.new[mine.frame])) + len(mine.unknown)
                why = contradiction(name, count, frames)
                if why and frames > 1_000:
                    return None, why
            return self._unbounded(model), ""
        except TraceError as error:
            return None, str(error)

    def _scenarios(self, model: QueueModel, name: str) -> list[Change | None]:
        """Return the changes of a stage: for its gain, and if sampled for low, high and held."""
        pipeline = model.stations.pipeline
        changes: list[Change | None] = [change_of(pipeline, name, 1 - self._less)]
        if self._windows == 1 or replays_as_line(model.line):
            near = [min(max(self._less + d, 0.0), 1.0) for d in (-NEAR, NEAR)]
            changes += [change_of(pipeline, name, 1 - less) for less in near]
            changes.append(held_to_median(model, name))
        return changes

    def _unbounded(self, model: QueueModel) -> Gains:
        """Return gains if queues have room for all frames: station by station."""
        rows, lengths = model.end_to_end
        mine = model.new[rows]
        rows, lengths = rows[mine], lengths[mine]
        leave = model.columns.marks["end"][rows]
        found = Gains(len(rows), int(lengths.sum()), _span(leave))
        self._keep(None, lengths)
        for stage in model.stations.pipeline.stages:
            gains = []
            for i, change in enumerate(self._scenarios(model, stage.name)):
                if change is None:
                    gains.append(0.0)
                    continue
                carry = self._carries.setdefault(stage.name, {}) if i == 0 else {}
                shift = replay(model, {stage.name: change}, carry=carry).shift[rows]
                gains.append(float(-int(shift.sum())))  # not -0.0
                if i == 0:
                    found.spans[stage.name] = float(_span(leave + shift))
                    self._keep(stage.name, lengths + shift)
            _put(found, stage.name, gains)
        return found

    def _bounded(self, model: QueueModel, line: Line) -> Gains:
        """Return gains of a line of stations: of all stages and changes at once."""
        line = line.of_rows(model.new & model.counted)
        if max(line.servers) > 1 or line.has_batches:
            line = line.first(max(MOST_POOL_FRAMES - self._replayed, 0))
        if not len(line) or self._replayed >= MOST_REPLAYED:
            return Gains()
        self._replayed += len(line)
        line = line.with_common_room()
        names = [stage.name for stage in model.stations.pipeline.stages]
        wanted: list[tuple[str, Change]] = []
        places: dict[str, list[int | None]] = {}
        for name in names:
            places[name] = []
            for change in self._scenarios(model, name):
                places[name].append(None if change is None else len(wanted))
                if change is not None:
                    wanted.append((name, change))
        times = line_times(model, line, [{name: change} for name, change in wanted])
        begins, leave = line.replay(max(len(wanted), 1), *times)
        before = line.leave - line.begin[0]
        after = leave - begins[0]
        found = Gains(len(line), int(before.sum()), _span(line.leave))
        self._keep(None, before)
        for name in names:
            gains = [
                0.0 if s is None else float(int((before - after[s]).sum())) for s in places[name]
            ]
            first = places[name][0]
            if first is not None:
                found.spans[name] = float(_span(leave[first]))
                self._keep(name, after[first])
            _put(found, name, gains)
        gained = {name: s for name in names if (s := places[name][0]) is not None}
        for reading, other in line.sources():
            times = line_times(model, other, [dict([wanted[s]]) for s in gained.values()])
            begins, leave = other.replay(max(len(gained), 1), *times)
            after = leave - begins[0]
            found.readings[reading] = dict.fromkeys(names, 0.0) | {
                name: float(int((before - after[i]).sum())) for i, name in enumerate(gained)
            }
        return found

    def _keep(self, stage: str | None, lengths: Ints) -> None:
        if self.ends is not None:
            self.ends.setdefault(stage, Histogram()).add(np.maximum(lengths, 0))


def _put(found: Gains, name: str, gains: Sequence[float]) -> None:
    found.gain[name] = gains[0]
    if len(gains) > 1:
        found.sampled[name] = gains[0]
        found.low[name], found.high[name] = min(gains[1:3]), max(gains[1:3])
        found.held[name] = gains[3]


def _span(leave: Ints) -> int:
    return int(leave.max() - leave.min()) if len(leave) else 0


def held_to_median(model: QueueModel, name: str) -> Change | None:
    """Return the change that limits the times of a stage to their median, or None if unknown.

    For a hand-off in front of a station these times are its transport delays.
    """
    for service in model.stations.services:
        if service.handoff == name:
            usual = model.delays[service.station].usual_ns
            return None if usual is None else _at_most(usual)
        if any(stage.name == name for stage in service.stages):
            low, high = model.visits[service.station].stages[name]
            lengths = high - low
            for blocked in model.blocked[service.station]:
                if blocked.stage == name:  # time that it was blocked is not its own
                    lengths = lengths - blocked.lengths
            break
    else:
        _, lengths = model.lengths(model.stations.pipeline.span(name))
    return _at_most(int(np.median(lengths))) if len(lengths) else None


def _at_most(usual: int) -> Change:
    return lambda lengths: np.minimum(lengths, usual)


def line_times(
    model: QueueModel, line: Line, scenarios: Sequence[Mapping[str, Change]]
) -> tuple[list[Times], list[Times], list[Times]]:
    """Return work, travel and transport of a line, by node, as changed in each scenario."""
    stations, marks = model.stations, model.columns.marks
    order = stations.pipeline.marks.index
    first = len(line.names) - len(stations.services)  # 1 if the source is a node of its own
    work = [Times(each.usual, {}) for each in line.work]
    travel = [Times(each.usual, {}) for each in line.travel]
    transport = [Times(each.usual, {}) for each in line.transport]
    nodes = {service.handoff: k for k, service in enumerate(stations.services, first)}
    for stage in stations.pipeline.stages:
        changed = {s: each[stage.name] for s, each in enumerate(scenarios) if stage.name in each}
        if not changed:
            continue
        if stage.station is None and stage.name in nodes:
            k = nodes[stage.name]
            _change(transport[k], changed, np.maximum(transport[k].usual, 0))
            continue
        low, high = marks[stage.begin][line.rows], marks[stage.end][line.rows]
        known = (low != MISSING) & (high != MISSING) & (high >= low)
        lengths = np.where(known, high - low, 0)
        if stage.station is not None:
            k = first + [service.station for service in stations.services].index(stage.station)
            held_ns = line.held_ns[k] if line.held_ns else None
            if held_ns is not None and stage == stations.services[k - first].stages[-1]:
                lengths = lengths - held_ns
            _change(work[k], changed, lengths)
            continue
        before = [
            k
            for k, service in enumerate(stations.services, first)
            if order(service.end) <= order(stage.begin)
        ]
        if before or first:
            _change(travel[before[-1]] if before else work[0], changed, lengths)
    return work, travel, transport


def _change(times: Times, changed: Mapping[int, Change], lengths: Ints) -> None:
    assert isinstance(times.changed, dict)
    for s, change in changed.items():
        known = times.changed.get(s, times.usual)
        times.changed[s] = known + (change(lengths) - lengths)
