"""When frames should have started: intended starts from a pipeline's period.

A program that waits for a slow frame starts the next ones late, and their latency from start does
not show that they are late (coordinated omission). Where frames come at a fixed period, frame
`id` should have started at the first start + (id - first id) * period: that is its ``due``, and
``response`` is end - due. Both latencies are shown; neither takes the place of the other.
"""

from dataclasses import replace

import numpy as np

from latprof.arrays import Ints, Mask
from latprof.errors import TraceError
from latprof.frames import MISSING, STAMP_LIMIT, Columns
from latprof.pipeline import Pipeline

__all__ = ["Intended"]


class Intended:
    """Adds ``due`` to batches of frames; the first batch of each source says when it began.

    Parameters
    ----------
    pipeline
        With a period, and without a mark ``due`` of its own.

    Raises
    ------
    TraceError
        The pipeline has no period, or has ``due`` already.

    Examples
    --------
    >>> mic = Pipeline("mic", ("start", "end"), period=20)
    >>> intended = Intended(mic)
    >>> ids, start = np.array([7, 8, 10], np.uint64), np.array([100, 125, 160])
    >>> intended.add(Columns(ids, {"start": start, "end": start + 5})).marks["due"]
    array([100, 120, 160])
    >>> [total.name for total in intended.pipeline.totals]
    ['end_to_end', 'response']
    """

    def __init__(self, pipeline: Pipeline) -> None:
        if pipeline.period is None:
            raise TraceError(
                f"pipeline {pipeline.name!r} has no period: intended starts need one, declare it"
            )
        if "due" in pipeline.marks:
            raise TraceError(
                f"pipeline {pipeline.name!r} has a mark 'due': its frames say themselves when "
                "they should have started"
            )
        self._period = pipeline.period
        self.pipeline = Pipeline(
            pipeline.name, ("due", *pipeline.marks), pipeline.spans, period=pipeline.period
        )
        self._first: dict[str | None, tuple[int, int]] = {}  # id and start, by source

    def add(self, columns: Columns) -> Columns:
        """Return the frames with their ``due``; missing where nothing says when it would be.

        Of a source's first batch the frame with the smallest id that has a start is the first.
        """
        due = np.full(len(columns), MISSING)
        if columns.source is None:
            self._fill(due, None, np.ones(len(columns), bool), columns)
        else:
            for name in (None, *columns.source.names):
                rows = columns.source.equals(name)
                if rows.any():
                    self._fill(due, name, rows, columns)
        return replace(columns, marks={"due": due, **columns.marks})

    def _fill(
        self,
        due: Ints,
        name: str | None,
        rows: Mask,
        columns: Columns,
    ) -> None:
        starts = columns.marks["start"]
        if name not in self._first:
            known = np.flatnonzero(rows & (starts != MISSING))
            if len(known) == 0:
                return
            first = known[np.argmin(columns.frame_id[known])]
            self._first[name] = int(columns.frame_id[first]), int(starts[first])
        first_id, begin = self._first[name]
        # ids are unsigned: differences wrap around to what they are, as signed numbers
        steps = (columns.frame_id[rows] - np.uint64(first_id)).view(np.int64)
        reach = (STAMP_LIMIT - abs(begin)) // self._period
        times = begin + np.clip(steps, -reach, reach) * self._period
        due[rows] = np.where(np.abs(steps) >= reach, MISSING, times)
