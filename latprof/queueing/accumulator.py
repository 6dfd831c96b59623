"""Sums behind causes: of the frames of a model, and of recordings that are merged in any order.

The first frames of a recording may have waited for the last frames of the one before. Both ends
are therefore kept: see `latprof.sequence.segments.Edges`. Short recordings are kept as a whole, and
counted once their neighbours are known. Where two recordings meet, the rows on both sides are
modelled together. Their sums replace the sums of the same rows without the other recording.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Self

import numpy as np

from latprof.arrays import Count, Ints, Length, Mask
from latprof.errors import ProfileError, TraceError
from latprof.frames import FINISHED, MISSING, Columns, Labels
from latprof.pipeline import Pipeline
from latprof.queueing.blocking import Path
from latprof.queueing.model import QueueModel, queue_model
from latprof.queueing.replay import MOST_BREAKS, Change, breaks_of, one_server, replay
from latprof.queueing.stations import MOST_CONFLICTS, stations_of
from latprof.queueing.windows import Windows, incomplete
from latprof.sequence.segments import EDGE_ROWS, Edges, Rows, concatenated, join_closest
from latprof.units import STAMP_LIMIT

__all__ = [
    "NO_STATION",
    "BlockedTime",
    "CauseSums",
    "CausesAccumulator",
    "StationEvidence",
    "contradiction",
]

NO_STATION = "no stage has a station: which stages frames wait for is not known"

_MOST_NOTES = 20
_MOST_OVERLAP = 0.5  # share of the last rows of a recording that may start after the next one


# -- of the frames of a model -------------------------------------------------------------------


@dataclass
class BlockedTime:
    """Visits to a station that the next station blocked, and for how long."""

    visits: Count = 0
    ns: Count = 0


@dataclass
class StationEvidence:
    """What was seen at a station.

    Attributes
    ----------
    frames, unknown, breaks
        Frames in all, those whose entry or departure is unknown, and those that contradict first
        in, first out.
    servers
        How many frames were served at once.
    service_ns
        Time of all visits.
    blocked
        By the station that blocked it, and the stage in which it did.
    """

    frames: Count = 0
    unknown: Count = 0
    breaks: Count = 0
    servers: Count = 1
    service_ns: Count = 0
    blocked: dict[tuple[str, str], BlockedTime] = field(default_factory=dict)

    def __add__(self, other: "StationEvidence") -> "StationEvidence":
        blocked = dict(self.blocked)
        for key, more in other.blocked.items():
            known = blocked.get(key, BlockedTime())
            blocked[key] = BlockedTime(known.visits + more.visits, known.ns + more.ns)
        return StationEvidence(
            self.frames + other.frames,
            self.unknown + other.unknown,
            self.breaks + other.breaks,
            max(self.servers, other.servers),
            self.service_ns + other.service_ns,
            blocked,
        )


@dataclass
class CauseSums:
    """Sums over frames, in ns, by stage.

    Attributes
    ----------
    total, counts
        Time of the stage, and how many frames have it.
    waits
        By hand-off and path, what its frames waited for: see `latprof.queueing.blocking`.
    gain
        By how much the sum of end_to_end would be less with the stage held to its own median, or
        None if no replay is available.
    end_to_end, frames
        The sum of end_to_end, and over how many frames.
    stations
        By station, what was seen there, of each frame once.
    notes
        Why gains or waits are unknown.
    """

    total: dict[str, Count]
    counts: dict[str, Count]
    waits: dict[str, dict[Path, float]]
    gain: dict[str, float] | None
    end_to_end: Count
    frames: Count
    stations: dict[str, StationEvidence]
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, model: QueueModel) -> "CauseSums":
        """Return the sums of a window."""
        stages = model.stations.pipeline.stages
        lengths = {stage.name: model.lengths(stage)[1] for stage in stages}
        waits = {
            wait.handoff: {path: float(ns.sum()) for path, ns in wait.by_path.items()}
            for wait in model.waits(queued=True)
        }
        _count_queue_of_blocked(model, waits)
        _count_blocked(model, waits)
        notes = () if model.stations.names else (NO_STATION,)
        gain: dict[str, float] | None = None
        try:
            gain = _gains(model)
        except TraceError as error:
            notes = (*notes, str(error))
        _, end_to_end = model.end_to_end
        return cls(
            {name: int(ns.sum()) for name, ns in lengths.items()},
            {name: len(ns) for name, ns in lengths.items()},
            waits,
            gain,
            int(end_to_end.sum()),
            len(end_to_end),
            _evidence(model),
            notes,
        )

    @classmethod
    def empty(cls, pipeline: Pipeline) -> "CauseSums":
        """Return the sums of no frames."""
        none = np.zeros(0, np.int64)
        marks = dict.fromkeys(stations_of(pipeline).marks, none)
        return cls.of(queue_model(pipeline, Columns(none.view(np.uint64), marks)))

    def __add__(self, other: "CauseSums") -> "CauseSums":
        return self._plus(other, 1)

    def __sub__(self, other: "CauseSums") -> "CauseSums":
        return self._plus(other, -1)

    def _plus(self, other: "CauseSums", sign: int) -> "CauseSums":
        def added(left: Mapping[Any, Any], right: Mapping[Any, Any]) -> dict[Any, Any]:
            return {key: left.get(key, 0) + sign * right.get(key, 0) for key in {**left, **right}}

        gain = None if self.gain is None or other.gain is None else added(self.gain, other.gain)
        empty = StationEvidence()
        return CauseSums(
            added(self.total, other.total),
            added(self.counts, other.counts),
            {
                name: added(self.waits.get(name, {}), other.waits.get(name, {}))
                for name in {**self.waits, **other.waits}
            },
            gain,
            self.end_to_end + sign * other.end_to_end,
            self.frames + sign * other.frames,
            {
                name: self.stations.get(name, empty) + other.stations.get(name, empty)
                for name in {**self.stations, **other.stations}
            },
            tuple(dict.fromkeys((*self.notes, *other.notes)))[:_MOST_NOTES],
        )

    def out_of_order(self) -> str:
        """Return why no replay of the stations is available, or an empty text."""
        reasons = (contradiction(name, x.breaks, x.frames) for name, x in self.stations.items())
        return next(filter(None, reasons), "")

    def station_notes(self) -> list[str]:
        """Return what was inferred of the stations."""
        lines = []
        for name, seen in self.stations.items():
            for (by, stage), blocked in seen.blocked.items():
                part = blocked.ns / max(seen.service_ns, 1)
                lines.append(
                    f"station {name} was held up by a full queue in front of {by} (inferred from "
                    f"{blocked.visits:,} visits; {part:.0%} of the time of its visits, at {stage})"
                )
        for name, seen in self.stations.items():
            if seen.servers > 1:
                lines.append(f"station {name} serves up to {seen.servers} frames at once")
            if seen.unknown:
                lines.append(f"{seen.unknown:,} frames were in station {name} at unknown times")
        return [*lines, *filter(None, [self.out_of_order()])]


def contradiction(station: str, breaks: int, frames: int) -> str:
    """Return why a station cannot be replayed, or an empty text if it can."""
    if breaks <= MOST_BREAKS * max(frames, 1):
        return ""
    return (
        f"a replay is not available: {breaks:,} of {frames:,} frames at station {station!r} "
        "contradict first in, first out, or lack a mark there: at most 1 % may"
    )


def _evidence(model: QueueModel) -> dict[str, StationEvidence]:
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
            int((visits.end - visits.begin)[new].sum()),
            blocked,
        )
    return found


def _count_queue_of_blocked(model: QueueModel, waits: dict[str, dict[Path, float]]) -> None:
    """Count the queue in front of a blocked station for the station that blocked it.

    While a frame of the queue is served nothing is blocked. But without the blocked time before,
    the queue would be shorter by what a replay of the station without that time takes away.
    """
    for service in model.stations.services:
        mine, delays = model.visits[service.station], model.delays[service.station]
        names = {stage.name for stage in service.stages}
        held = [x for x in model.blocked[service.station] if x.stage in names]
        alone = len(model.stations.services_of(service.station)) == 1
        if not held or service.handoff is None or not alone:
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
    """Add what stages themselves waited because the next station blocked them."""
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


def _gains(model: QueueModel) -> dict[str, float]:
    """Return by stage what holding it to its own median takes off the sum of end_to_end."""
    rows, _ = model.end_to_end
    gains = {}
    for stage in model.stations.pipeline.stages:
        change = _held_to_median(model, stage.name)
        gains[stage.name] = 0.0
        if change is not None:
            shift = replay(model, {stage.name: change}).shift
            gains[stage.name] = float(-int(shift[rows].sum()))  # not -0.0
    return gains


def _held_to_median(model: QueueModel, name: str) -> Change | None:
    """Return the change that holds a stage to its median: of a hand-off its delay, if known."""
    for service in model.stations.services:
        if service.handoff == name:
            usual = model.delays[service.station].usual_ns
            return None if usual is None else _at_most(usual)
        if any(stage.name == name for stage in service.stages):
            low, high = model.visits[service.station].stages[name]
            lengths = high - low
            for blocked in model.blocked[service.station]:
                if blocked.stage == name:
                    # time that it was blocked is not its own
                    waited = blocked.lengths
                    usual = int(np.median(lengths - waited)) if len(lengths) else 0
                    return lambda x: np.where(x - waited > usual, usual + waited, x)
            break
    else:
        _, lengths = model.lengths(model.stations.pipeline.span(name))
    return _at_most(int(np.median(lengths))) if len(lengths) else None


def _at_most(usual: int) -> Change:
    return lambda lengths: np.minimum(lengths, usual)


# -- of recordings ------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class _Part(Edges):
    """A recording, or several that were joined: its first and last rows.

    Columns of the rows are the marks, with the start first, whether the frame was finished, and
    whether it is counted.

    Attributes
    ----------
    early
        Frames in the head that may have waited for frames before the part.
    unseen
        Other frames that may have waited for frames that are not known.
    """

    head: tuple[Annotated[Ints, Length(EDGE_ROWS)], ...] = ()
    tail: tuple[Annotated[Ints, Length(EDGE_ROWS)], ...] = ()
    early: Count = 0
    unseen: Count = 0


@dataclass(eq=False)
class CausesAccumulator:
    """Causes summed over windows and recordings, which merge in any order.

    Batches of one recording come in order of time; recordings that follow each other are taken as
    one. When the sums are read, recordings are put in order of time, and frames at their ends are
    modelled together with those of their neighbours. That gives the waits of all frames modelled
    together: exactly for up to ``2 * EDGE_ROWS`` frames. Of more frames, the delays of queued ones
    are drawn from those known in each window, and queues longer than the rows kept are seen in
    part: how many frames that may concern is counted, and a note says so. Gains are those of each
    window, replayed with its own medians.

    Attributes
    ----------
    reason
        Why causes are not available; empty if they are.
    sums
        Of all frames but those of complete parts.
    parts
        The recordings, with their first and last rows.
    recordings, overlapping
        How many recordings there are, and how many overlap with another one in time.
    rows, late
        Rows, and those that came after a window that had later ones.
    """

    pipeline: Pipeline
    sums: CauseSums
    reason: str = ""
    parts: list[_Part] = field(default_factory=list)
    recordings: Count = 0
    overlapping: Count = 0
    rows: Count = 0
    late: Count = 0

    def __post_init__(self) -> None:
        names = {stage.name for stage in self.pipeline.stages}
        sums, columns = self.sums, len(stations_of(self.pipeline).marks) + 2
        if list(sums.total) != list(sums.counts) or set(sums.total) != names:
            raise ValueError("sums of other stages")
        if (sums.gain is not None and set(sums.gain) != names) or set(sums.waits) - names:
            raise ValueError("gains or waits of other stages")
        if any(not path or set(path) - names for paths in sums.waits.values() for path in paths):
            raise ValueError("waits for other stages")
        if len(self.parts) > 0 and any(len(part.head) != columns for part in self.parts):
            raise ValueError("rows of other marks")
        for part in self.parts:
            for stamps in (*part.head[:-2], *part.tail[:-2]):
                outside = (stamps <= -STAMP_LIMIT) | (stamps >= STAMP_LIMIT)
                if (outside & (stamps != MISSING)).any():
                    raise ValueError("stamps of 2**62 ns or more")
        self._windows = Windows(self.pipeline)
        self._edges = _Part()  # of the recording that is being read
        self._counted = self._ended = False

    @classmethod
    def of(cls, pipeline: Pipeline) -> "CausesAccumulator":
        """Return the sums of no recordings."""
        return cls(pipeline, CauseSums.empty(pipeline))

    def lose(self, reason: str) -> None:
        """Record why some frames are missing: causes are not available any more."""
        self.reason = self.reason or reason
        self._windows.clear()
        self.parts, self._edges = [], _Part()

    def add(
        self, columns: Columns, meta: Mapping[str, Any] | None = None, counted: Mask | None = None
    ) -> None:
        """Add n frames; those that are not `counted` only keep others waiting."""
        reason = self.reason or incomplete(meta or {}, columns)
        if reason:
            self.lose(reason)
            return
        if not len(columns):
            return
        if self._ended and not self._windows.continued_by(columns):
            self.settle()
        self._ended = False
        self._edges.extend(_rows_of(columns, stations_of(self.pipeline).marks, counted))
        for model in self._windows.add(columns, counted):
            self._count(model)

    def end(self) -> None:
        """End a recording; the next one may continue it."""
        self._ended = True

    def settle(self) -> Self:
        """End a recording, which the next one does not continue; return the same object."""
        self._ended = False
        part = self._edges
        if not part.count:
            return self
        if part.complete:
            self._windows.clear()
        for model in self._windows.close():
            self._count(model)
        self._edges, self._counted = _Part(), False
        self.parts.append(part)
        self.recordings += 1
        self.rows, self.late = self.rows + self._windows.rows, self.late + self._windows.late
        self._windows = Windows(self.pipeline)
        self._join_closest()
        return self

    def merge(self, other: "CausesAccumulator") -> None:
        """Add the sums of other recordings."""
        self.settle()
        other.settle()
        self.sums = self.sums + other.sums
        self.parts += [replace(part) for part in other.parts]
        self.recordings += other.recordings
        self.overlapping += other.overlapping
        self.rows, self.late = self.rows + other.rows, self.late + other.late
        # the same reason, in whatever order the parts are merged
        self.reason = min(filter(None, (self.reason, other.reason)), default="")
        self._join_closest()

    def result(self) -> tuple[CauseSums, tuple[str, ...]]:
        """Return the sums of all frames, and what is to be said of them.

        Raises
        ------
        ProfileError
            Some frames are missing.
        """
        self.settle()
        if self.reason:
            raise ProfileError(f"causes are not available: {self.reason}")
        sums, overlapping = self.sums, self.overlapping
        whole: _Part | None = None
        for part in sorted(self.parts, key=_order):
            if whole is None:
                whole = part
                continue
            whole, change, overlap = _joined(self.pipeline, whole, part)
            sums, overlapping = sums + change, overlapping + overlap
        if whole is not None and whole.complete:
            sums = sums + _sums_of(self.pipeline, whole)
        notes = sorted({*sums.notes, *sums.station_notes()})[:_MOST_NOTES]
        if self.late > MOST_CONFLICTS * self.rows:
            notes.append(
                f"{self.late:,} frames came after thousands that started later: which frames they "
                "kept waiting is not known; sort the recording by start"
            )
        if overlapping:
            notes.append(
                f"{overlapping + 1} recordings overlap in time: waiting for frames of another "
                "recording is not known"
            )
        elif self.recordings > 1 and whole is not None and whole.unseen:
            notes.append(
                f"{whole.unseen:,} frames near the beginning of one of {self.recordings} "
                "recordings may have waited for frames of another"
            )
        return sums, tuple(notes)

    def _count(self, model: QueueModel) -> None:
        if not self._counted:
            self._edges.early, self._edges.unseen = _early(model)
        self._counted = True
        self.sums = self.sums + CauseSums.of(model)

    def _join_closest(self) -> None:
        """Join the recordings that are closest in time for good if there are many."""

        def join(left: _Part, right: _Part) -> _Part:
            part, change, overlap = _joined(self.pipeline, left, right)
            self.sums, self.overlapping = self.sums + change, self.overlapping + overlap
            return part

        self.parts.sort(key=_order)
        join_closest(self.parts, join)


def _order(part: _Part) -> tuple[int, int, int]:
    return part.first, part.last, part.count


def _joined(pipeline: Pipeline, left: _Part, right: _Part) -> tuple[_Part, CauseSums, bool]:
    """Return two recordings as one, of which `left` begins first.

    Returns
    -------
    _Part
        Both recordings.
    CauseSums
        What is to be added to the sums of all frames.
    bool
        Whether the recordings overlap in time by more than the rows that are kept.
    """
    edges = left.followed_by(right)
    part = _Part(edges.count, edges.head, edges.tail, left.early, left.unseen + right.unseen)
    change = CauseSums.empty(pipeline)
    if part.complete:
        return part, change, False  # counted when it is known what comes before and after
    if left.complete:
        overlap = not right.complete and left.last > int(right.head[0].max())
    else:
        overlap = float(np.mean(left.last_rows[0] > right.first)) > _MOST_OVERLAP
    last = max(int(column.max()) for column in left.last_rows[:-2])
    if overlap or right.first > last:  # or no frame of the left one is present any more
        for each in (left, right):
            change = change + _sums_of(pipeline, each) if each.complete else change
        part.unseen += right.early if overlap else 0
        if overlap and left.last > right.last:
            part.tail = left.tail
        return part, change, overlap
    before = left.ends if left.complete else left.last_rows
    after = right.ends if right.complete else right.head
    # rows of the left recording near the cut may belong after rows of the right one
    late = before[-1].astype(bool) & (left.complete | (before[0] >= right.first))
    both = concatenated(before, after)
    counted = np.concatenate([late, after[-1].astype(bool)])
    new = np.repeat([left.complete, right.complete], [len(before[0]), len(after[0])])
    # at the far ends of the rows, frames before or after them may be missing
    certain = np.ones(len(new), bool)
    if not left.complete:
        certain[: EDGE_ROWS // 2] = False
    if not right.complete:
        certain[-(EDGE_ROWS // 2) :] = False
    model = _model(pipeline, both, counted, new=new, certain=certain, first=left.complete)
    change = change + CauseSums.of(model)
    early, unseen = _early(model)
    part.unseen += unseen
    if left.complete:
        part.early = early
    else:
        part.unseen += early
        change = change - _counted_before(pipeline, before, late, model)
    if not right.complete:
        change = change - _counted_before(pipeline, after, after[-1].astype(bool), model)
    return part, change, False


def _sums_of(pipeline: Pipeline, part: _Part) -> CauseSums:
    """Return the sums of a complete part by itself."""
    rows = part.ends
    return CauseSums.of(_model(pipeline, rows, rows[-1].astype(bool)))


def _counted_before(pipeline: Pipeline, rows: Rows, counted: Mask, both: QueueModel) -> CauseSums:
    """Return the sums of rows at the end of a recording as they were without the other one."""
    new = np.zeros(len(counted), bool)
    return CauseSums.of(_model(pipeline, rows, counted, new=new, like=both))


def _model(
    pipeline: Pipeline,
    rows: Rows,
    counted: Mask,
    *,
    new: Mask | None = None,
    certain: Mask | None = None,
    first: bool = True,
    like: QueueModel | None = None,
) -> QueueModel:
    """Return the model of kept rows; unless they are the `first`, frames before are unknown."""
    stations = stations_of(pipeline)
    finished = rows[-2].astype(bool)
    outcome = Labels((~finished).astype(np.int32), (FINISHED, "dropped"))
    columns = Columns(
        np.zeros(len(finished), np.uint64),
        dict(zip(stations.marks, rows, strict=False)),
        outcome=None if finished.all() else outcome,
    )
    earlier = None if first else dict.fromkeys(stations.names, np.zeros(0, np.int64))
    return queue_model(
        pipeline,
        columns,
        counted=counted,
        new=new,
        earlier=earlier,
        certain=certain,
        like=like,
    )


def _rows_of(columns: Columns, marks: tuple[str, ...], counted: Mask | None) -> Rows:
    every = np.ones(len(columns), bool)
    masks = (every if mask is None else mask for mask in (columns.finished(), counted))
    return (*(columns.marks[mark] for mark in marks), *(mask.astype(np.int64) for mask in masks))


def _early(model: QueueModel) -> tuple[int, int]:
    """Return how many counted frames may have waited for earlier ones: of the head, and others."""
    found = [np.zeros(0, np.int64)]
    for name, visits in model.visits.items():
        if len(visits):
            early = (visits.arrive < visits.begin[0]) & (visits.arrive != MISSING)
            # frames before the first one that was seen to enter may have been in front
            early &= (visits.begin > visits.begin[0]) & model.counted[visits.frame]
            found.append(visits.frame[early & model.delays[name].queued])
    rows = np.concatenate(found)
    in_head = int(np.count_nonzero(rows < EDGE_ROWS))
    return in_head, len(rows) - in_head
