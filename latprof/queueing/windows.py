"""Makes models of recordings of any size, window by window.

A window of frames is modelled together with the frames before it that were still in the pipeline
when its first frame started, as its frames may have waited for these. The last rows of a window are
held back until later rows are known, which may have entered a station before them.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from latprof.arrays import Ints, Mask
from latprof.errors import TraceError
from latprof.frames import MISSING, Columns
from latprof.io.dataset import Dataset, DatasetLike
from latprof.io.member import lowest_start
from latprof.marks import Span
from latprof.pipeline import Pipeline
from latprof.queueing.model import QueueModel, queue_model
from latprof.queueing.options import MOST_STAGES, Options, server_counts
from latprof.queueing.rooms import Queue
from latprof.queueing.stations import MOST_CONFLICTS, Visits, stations_of
from latprof.sequence.segments import EDGE_ROWS
from latprof.text import counted

__all__ = [
    "HELD_BACK_ROWS",
    "MOST_CONTEXT_ROWS",
    "WINDOW_ROWS",
    "FrameWindows",
    "Recordings",
    "incomplete",
]

ResultT = TypeVar("ResultT")

WINDOW_ROWS = 131_072
"""Rows that are modelled together with their context, those held back included."""

HELD_BACK_ROWS = 4_096
"""Rows at the end of a window that wait for the next one; rows may be that far out of order."""

MOST_CONTEXT_ROWS = 1_048_576
"""Largest number of rows kept before a window: waiting for still earlier ones is not seen."""


@dataclass
class _ServerCount:
    """The number of servers of a station, as the visits of all windows so far show it.

    The rule is that of `latprof.queueing.stations.visits_to`. `fixed` is the number if it is known
    beforehand, otherwise None. `used` are the numbers with which models were made.
    """

    fixed: int | None
    visits: int = 0
    overlapping: int = 0
    most: int = 0
    used: set[int] = field(default_factory=set)

    @property
    def servers(self) -> int:
        if self.fixed is not None:
            return self.fixed
        return 1 if self.overlapping <= MOST_CONFLICTS * self.visits else self.most

    def settled(self, mine: Visits, new: Mask) -> Visits:
        """Add the visits of new frames; return all visits, with the number of servers so far."""
        added = new[mine.frame]
        self.visits += int(np.count_nonzero(added))
        self.overlapping += int(np.count_nonzero(mine.overlaps & added))
        self.most = max(self.most, mine.most_at_once)
        if len(mine):
            self.used.add(self.servers)
        return mine.with_servers(self.servers)


class FrameWindows:
    """Makes models of the frames of a recording, in order of time, that count each frame once.

    The frames of a model are those of a window, and earlier ones that only keep others waiting.
    Memory holds a window, and the frames that were in the pipeline at once. Windows have the same
    rows whatever batches the frames come in, and if rows are up to `HELD_BACK_ROWS` out of order.

    Parameters
    ----------
    pipeline, hand_over, depth
        See `latprof.queueing.model.queue_model`.
    servers, queues
        The number of servers by station and the queue by hand-off, if they are known; others are
        found from the frames so far.

    Attributes
    ----------
    queues
        The queues with limited room that were seen so far, by hand-off.
    rows, late
        Number of rows so far, and of those that came after a window with later starts was modelled.

    Notes
    -----
    With known servers the time that frames waited for others is that of all frames modelled
    together, to the nanosecond. What is inferred is inferred for each window by itself: blocking,
    hand-overs, and delays of queued frames.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        hand_over: int | None = None,
        depth: int = MOST_STAGES,
        servers: Mapping[str, int] | None = None,
        queues: Mapping[str, Queue] | None = None,
    ) -> None:
        self.queues = dict(queues or {})
        self._late_queues = False
        self.pipeline, self.hand_over, self.depth = pipeline, hand_over, depth
        self.rows = self.late = 0
        stations = stations_of(pipeline)
        self._marks = stations.marks
        known = servers or {}
        self._servers = {name: _ServerCount(known.get(name)) for name in stations.names}
        self.clear()

    def clear(self) -> None:
        """Forget the frames that are not counted yet, and those before them."""
        self._pending: list[Columns] = []  # rows that no window has counted yet
        self._count = 0
        self._context: Columns | None = None  # counted frames that others may have waited for
        self._counted_to = MISSING  # the latest start of a counted frame
        self._delays: dict[str, Ints] | None = None  # by station, of the window before

    @property
    def servers(self) -> dict[str, int]:
        """The number of servers by station, as all frames so far show."""
        return {name: count.servers for name, count in self._servers.items()}

    @property
    def changed(self) -> bool:
        """Whether some window was modelled with servers or rooms that later frames contradict."""
        changed = (count.used - {count.servers} for count in self._servers.values())
        return self._late_queues or any(changed)

    def add(self, columns: Columns, counted: Mask | None = None) -> Iterator[QueueModel]:
        """Add n frames; those that are not `counted` only keep others waiting."""
        mask = np.ones(len(columns), bool) if counted is None else counted
        columns = columns.only((*self._marks, "outcome"))
        # a column more, so that it is cut, sorted and joined with the others
        columns = replace(columns, tags={"counted": mask})
        for start in range(0, len(columns), WINDOW_ROWS):
            part = columns.take(slice(start, start + WINDOW_ROWS))
            starts = part.marks["start"]
            if self._counted_to > MISSING:
                known = starts if "start" in part.complete else starts[starts != MISSING]
                self.late += int(np.count_nonzero(known < self._counted_to))
            self.rows += len(part)
            self._count += len(part)
            self._pending.append(part)
            # rows that come up to HELD_BACK_ROWS later may belong before the end of the window
            while self._count >= self._target + HELD_BACK_ROWS:
                yield self._next(self._target, HELD_BACK_ROWS)

    def close(self) -> Iterator[QueueModel]:
        """Yield the models of the last rows."""
        while self._count > self._target:
            yield self._next(self._target, HELD_BACK_ROWS)
        if self._count:
            yield self._next(self._count, 0)
        self.clear()

    def continued_by(self, columns: Columns) -> bool:
        """Return whether frames follow the recording, up to rows that are a little out of order."""
        first = lowest_start(columns)
        known = [lowest_start(x) for x in self._pending[:1]]
        if first < max([self._counted_to, *known]):
            return False
        later = sum(np.count_nonzero(x.marks["start"] > first) for x in self._pending)
        return bool(later <= HELD_BACK_ROWS)

    @property
    def _target(self) -> int:
        """Rows of the next window: at least the context, which is modelled again in each one."""
        context = 0 if self._context is None else len(self._context)
        return max(WINDOW_ROWS, context + HELD_BACK_ROWS, 2 * HELD_BACK_ROWS)

    def _next(self, rows: int, held_back: int) -> QueueModel:
        """Return the model of the next rows, of which the last ones are held back."""
        parts = self._in_order(rows)
        context = 0 if self._context is None else len(self._context)
        if self._context is not None:
            parts.insert(0, self._context)
        whole = _joined(parts)
        cut = context + rows - held_back
        new = np.zeros(len(whole), bool)
        new[context:cut] = True
        found = queue_model(
            self.pipeline,
            whole,
            hand_over=self.hand_over,
            depth=self.depth,
            counted=new & np.asarray(whole.tags["counted"]),
            new=new,
            earlier=self._delays,
            certain=self._certain(len(whole), last=not held_back),
            settle=lambda visits: self._servers[visits.station].settled(visits, new),
            queues=self.queues,
        )
        self._keep_queues(found)
        self._delays = {name: delays.known for name, delays in found.delays.items()}
        self._count -= rows - held_back
        if held_back:
            # a copy, which does not keep the window in memory
            rest = whole.take(np.arange(cut, len(whole)))
            self._pending.insert(0, rest)
            latest = int(whole.marks["start"][context:cut].max(initial=MISSING))
            self._counted_to = max(self._counted_to, latest)
            self._context = self._still_present(whole.take(slice(0, cut)), rest)
        return found

    def _keep_queues(self, model: QueueModel) -> None:
        """Keep the rooms that a window shows for the next ones."""
        for handoff, queue in model.queues.items():
            if handoff not in self.queues and queue.room:
                self.queues[handoff] = queue
                self._late_queues |= self._counted_to > MISSING

    def _certain(self, rows: int, *, last: bool) -> Mask | None:
        """Return the rows of a window from which delays are estimated; None means all.

        Near the ends of a recording, frames may be missing that are in another recording. A short
        recording is used as a whole: see `latprof.sequence.segments.Edges`.
        """
        first = self._delays is None
        if not (first or last) or (first and last and rows <= 2 * EDGE_ROWS):
            return None
        certain = np.ones(rows, bool)
        if first:
            certain[:EDGE_ROWS] = False
        if last:
            certain[-EDGE_ROWS:] = False
        return certain

    def _in_order(self, rows: int) -> list[Columns]:
        """Take the next rows in order of start."""
        starts = [part.marks["start"] for part in self._pending]
        ordered = all((x[1:] >= x[:-1]).all() for x in starts)
        if not ordered or any(x[-1] > later[0] for x, later in itertools.pairwise(starts)):
            columns = _joined(self._take(min(rows + HELD_BACK_ROWS, self._count)))
            order = np.argsort(columns.marks["start"], kind="stable")
            self._pending.insert(0, columns.take(order))
        return self._take(rows)

    def _take(self, rows: int) -> list[Columns]:
        """Take the next rows in the order in which they came."""
        parts: list[Columns] = []
        while rows:
            part = self._pending.pop(0)
            if len(part) > rows:
                self._pending.insert(0, part.take(slice(rows, None)))
                part = part.take(slice(rows))
            parts.append(part)
            rows -= len(part)
        return parts

    def _still_present(self, past: Columns, rest: Columns) -> Columns:
        """Return the last of the past frames, and those still present when the rest started."""
        keep = np.zeros(len(past), bool)
        keep[-HELD_BACK_ROWS:] = True
        first = lowest_start(rest)
        for mark in self._marks:
            keep |= past.marks[mark] >= first
        keep[: max(len(past) - MOST_CONTEXT_ROWS, 0)] = False
        return past.take(keep)


def _joined(parts: list[Columns]) -> Columns:
    return parts[0] if len(parts) == 1 else Columns.concat(parts)


# -- recordings ---------------------------------------------------------------------------------


def incomplete(meta: Mapping[str, Any], columns: Columns | None = None) -> str:
    """Return why frames are missing, so that waiting is unknown, or an empty text."""
    lost = meta.get("lost") or 0
    parts = (meta.get("join") or {}).get("parts") or []
    for part in (meta, *parts):
        rate = float(part.get("sampling_rate") or 1.0)
        if rate < 1:
            return f"sampling rate {rate:g}"
        lost = max(lost, part.get("lost") or 0)
    for part in parts or [meta]:
        torn = (part.get("accounts") or {}).get("torn") or 0
        if torn:
            return f"{counted(torn, 'frame')} torn here"
    if lost:
        return f"{counted(lost, 'frame')} lost here"
    if columns is not None and columns.weight is not None and (columns.weight != 1).any():
        return "rows represent several frames"
    return ""


def _unused(name: str, names: tuple[str, ...]) -> str:
    while name in names:
        name += "_"
    return name


def _started_when_due(pipeline: Pipeline, released: str) -> Pipeline:
    """Return a pipeline that starts when frames are due; `released` is the mark of their start."""
    names = {"start": released}
    spans = [
        replace(span, begin=names.get(span.begin, span.begin), end=names.get(span.end, span.end))
        for span in pipeline.spans
    ]
    first = Span(_unused("late", pipeline.span_names), "start", released)
    marks = ("start", released, *(mark for mark in pipeline.marks if mark not in ("due", "start")))
    return Pipeline(pipeline.name, marks, [first, *spans], period=pipeline.period)


class Recordings:
    """Recordings without missing frames, and the models of their frames.

    Parameters
    ----------
    trace, options
        The recordings, and what is known of their queues.
    what
        The name of the result, for errors.
    from_due
        Whether frames count as started when they were ``due``: they then wait for their first
        station in a hand-off that is added to the pipeline.

    Attributes
    ----------
    pipeline
        The pipeline of all recordings, with the added hand-off.
    rows
        Number of rows of all recordings.
    servers
        How many frames stations serve at once, if that was given.

    Raises
    ------
    TraceError
        No recording, recordings of different pipelines, a wrong hand-over, or sampled or lossy
        recordings. The last error is also raised while frames are read, if a row represents several
        frames.
    """

    def __init__(
        self,
        trace: DatasetLike,
        what: str,
        options: Options,
        *,
        from_due: bool = False,
    ) -> None:
        self._what, self._depth, self._hand_over = what, options.depth, options.hand_over_ns
        self._dataset = Dataset(
            trace, pipeline=options.pipeline, stations=options.stations, queues=options.queues
        )
        self._dataset.check_timed("causes")
        for member in self._dataset.members:
            self._check(member.meta, member.columns)
        self.pipeline, self.rows = self._dataset.pipeline, self._dataset.rows
        stations = stations_of(self.pipeline)
        self.servers = server_counts(stations.names, options.servers or {})
        self._names = ("frame_id", *stations.marks, "outcome", "weight")
        self._released: str | None = None
        starts = [service for service in stations.services if service.begin == "start"]
        if from_due and starts and "due" in self.pipeline.marks:
            self._names = ("due", *self._names)
            self._released = _unused("released", self.pipeline.marks)
            self.pipeline = _started_when_due(self.pipeline, self._released)

    def model(self) -> QueueModel:
        """Return one model of all frames."""
        columns = self._dataset.read(self._names)
        self._check({}, columns)
        return queue_model(
            self.pipeline,
            columns.only(self._names[:-1]),
            hand_over=self._hand_over,
            settle=lambda mine: mine.with_servers(self.servers.get(mine.station, mine.servers)),
        )

    def processor(self) -> tuple[npt.NDArray[np.float32] | None, int | None]:
        """Return the processor use of all frames (n,), % of a core, and the smallest core count.

        The use is None if it was not recorded; both are None if a recording names no cores.
        """
        cores = [member.meta.get("cores") or 0 for member in self._dataset.members]
        if not all(cores):
            return None, None
        return self._dataset.read(("frame_id", *self._names[1:2], "cpu")).cpu, min(cores)

    def in_windows(self, add_up: Callable[[Iterator[QueueModel]], ResultT]) -> ResultT:
        """Return the result of `add_up` for the models of all windows.

        Nearly always `add_up` is called once. It is called again if later frames show that a
        station has another number of servers or that a queue has limited room, or if more than 1 %
        of the rows are further out of order than windows allow for: then each file is loaded and
        sorted as a whole.
        """
        sort_files, servers, queues = False, self.servers, None
        while True:
            windows = FrameWindows(
                self.pipeline,
                hand_over=self._hand_over,
                depth=self._depth,
                servers=servers,
                queues=queues,
            )
            result = add_up(self._models(windows, sort_files=sort_files))
            if not sort_files and windows.late > MOST_CONFLICTS * windows.rows:
                sort_files = True
            elif queues is None and windows.changed:
                servers, queues = windows.servers, windows.queues
            else:
                return result

    def _models(self, windows: FrameWindows, *, sort_files: bool) -> Iterator[QueueModel]:
        merged = self._dataset.merged(self._names, slack=HELD_BACK_ROWS, sort_files=sort_files)
        for columns in merged:
            self._check({}, columns)
            yield from windows.add(self._with_due(columns))
        yield from windows.close()

    def _with_due(self, columns: Columns) -> Columns:
        if self._released is None:
            return columns
        marks = dict(columns.marks)
        due, start = marks.pop("due"), marks.pop("start")
        known = (due != MISSING) & (due < start)
        marks = {"start": np.where(known, due, start), self._released: start, **marks}
        complete = columns.complete - {"due"}
        return replace(columns, marks=marks, complete=complete)

    def _check(self, meta: Mapping[str, Any], columns: Columns | None) -> None:
        reason = incomplete(meta, columns)
        if reason:
            raise TraceError(
                f"{self._what} is not available: {reason}; record without sampling and with enough "
                "capacity for all frames"
            )
