"""Adds up the sums from which `causes` is computed. Recordings may be merged in any order.

The first frames of a recording may have waited for the last frames of the one before. Both ends
are therefore kept: see `latprof.sequence.segments.Edges`. Short recordings are kept as a whole, and
counted once their neighbours are known. Where two recordings meet, the rows on both sides are
modelled together. Their sums replace the sums of the same rows without the other recording::

    left recording                      right recording
    | head |  counted  | last rows |    | head |  counted  | tail |
                       '-- one model of both --'
    sums: + rows of this model, - the last rows alone, - the head alone
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Self

import numpy as np

from latprof.arrays import Count, Ints, Length, Mask
from latprof.errors import ProfileError
from latprof.frames import FINISHED, MISSING, Columns, Labels
from latprof.pipeline import Pipeline
from latprof.queueing.cause_sums import MOST_NOTES, CauseSums
from latprof.queueing.gains import Gains, GainsSoFar
from latprof.queueing.model import QueueModel, queue_model
from latprof.queueing.stations import MOST_CONFLICTS, stations_of
from latprof.queueing.windows import FrameWindows, incomplete
from latprof.sequence.segments import EDGE_ROWS, Edges, Rows, concatenated, join_closest
from latprof.units import STAMP_LIMIT

__all__ = ["CausesAccumulator"]

_MOST_OVERLAP = 0.5  # share of the last rows of a recording that may start after the next one


@dataclass(slots=True, eq=False)
class _Part(Edges):
    """A recording, or several that were joined: its first and last rows.

    Columns of the rows are the marks, with the start first, and two of 0 or 1: whether the frame
    finished, and whether it is counted.

    Attributes
    ----------
    early
        How many frames in the head may have waited for frames before the part.
    unseen
        How many other frames may have waited for frames that are not known.
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
        The sums of all frames except those of complete parts (short recordings, kept as a whole).
    parts
        The recordings, with their first and last rows.
    recordings, overlapping
        How many recordings there are, and how many overlap with another one in time.
    rows, late
        Number of rows, and of those that came after a window with later starts was modelled.
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
            raise ValueError("total and counts must have the stages of the pipeline")
        gains = Gains() if sums.gains is None else sums.gains
        if set(gains.gain) - names or set(sums.waits) - names or set(sums.queues) - names:
            raise ValueError("gains, waits and queues must be of stages of the pipeline")
        if any(not path or set(path) - names for paths in sums.waits.values() for path in paths):
            raise ValueError("paths of waits must be of stages of the pipeline")
        if len(self.parts) > 0 and any(len(part.head) != columns for part in self.parts):
            raise ValueError("rows of parts must have the marks of the pipeline")
        for part in self.parts:
            for stamps in (*part.head[:-2], *part.tail[:-2]):
                outside = (stamps <= -STAMP_LIMIT) | (stamps >= STAMP_LIMIT)
                if (outside & (stamps != MISSING)).any():
                    raise ValueError("stamps of parts must be between -2**62 and 2**62 ns")
        self._windows = FrameWindows(self.pipeline)
        self._edges, self._gains = _Part(), GainsSoFar()  # of the recording that is being read
        self._counted = self._ended = False

    @classmethod
    def of(cls, pipeline: Pipeline) -> "CausesAccumulator":
        """Return the sums of no recordings."""
        return cls(pipeline, CauseSums.empty(pipeline))

    def lose(self, reason: str) -> None:
        """Keep the reason why frames are missing; causes are not available any more."""
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
        self._windows, self._gains = FrameWindows(self.pipeline), GainsSoFar()
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
        """Return the sums of all frames, and notes on what they do not show.

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
        notes = sorted({*sums.notes, *sums.station_notes()})[:MOST_NOTES]
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
        self.sums = self.sums + CauseSums.of(model, self._gains)

    def _join_closest(self) -> None:
        """Join the recordings that are closest in time for good if there are many."""

        def join(left: _Part, right: _Part) -> _Part:
            """Return two recordings as one; their change of the sums is kept."""
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
        Sums to be added to those of all frames.
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
    columns, names = _columns_of(pipeline, both), stations_of(pipeline).names
    # the frames before these are missing, and so are their delays
    earlier = None if left.complete else dict.fromkeys(names, np.zeros(0, np.int64))
    model = queue_model(
        pipeline, columns, counted=counted, new=new, earlier=earlier, certain=certain
    )
    change = change + CauseSums.of(model, GainsSoFar())
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
    columns, counted = _columns_of(pipeline, part.ends), part.ends[-1].astype(bool)
    return CauseSums.of(queue_model(pipeline, columns, counted=counted), GainsSoFar())


def _counted_before(pipeline: Pipeline, rows: Rows, counted: Mask, both: QueueModel) -> CauseSums:
    """Return the sums of rows at one end of a recording, modelled without the other recording.

    They are computed with the servers and estimates of `both`, the model of both recordings.
    """
    columns, new = _columns_of(pipeline, rows), np.zeros(len(counted), bool)
    return CauseSums.of(queue_model(pipeline, columns, counted=counted, new=new, like=both))


def _columns_of(pipeline: Pipeline, rows: Rows) -> Columns:
    """Return kept rows as columns."""
    finished = rows[-2].astype(bool)
    outcome = Labels((~finished).astype(np.int32), (FINISHED, "dropped"))
    return Columns(
        np.zeros(len(finished), np.uint64),
        dict(zip(stations_of(pipeline).marks, rows, strict=False)),
        outcome=None if finished.all() else outcome,
    )


def _rows_of(columns: Columns, marks: tuple[str, ...], counted: Mask | None) -> Rows:
    every = np.ones(len(columns), bool)
    masks = (every if mask is None else mask for mask in (columns.finished(), counted))
    return (*(columns.marks[mark] for mark in marks), *(mask.astype(np.int64) for mask in masks))


def _early(model: QueueModel) -> tuple[int, int]:
    """Return how many counted frames may have waited for unseen ones: in the head, and others."""
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
