"""Intended starts: when the frames of a periodic pipeline should have started."""

from dataclasses import replace

import numpy as np

from latprof.errors import TraceError
from latprof.frames import MISSING, Columns
from latprof.pipeline import Pipeline
from latprof.sequence.order import rows_by_source
from latprof.text import quoted
from latprof.units import STAMP_LIMIT

__all__ = ["Intended"]


class Intended:
    """Adds ``due`` to batches of frames: when a frame of a periodic pipeline should have started.

    A program that waits for a slow frame starts the next ones late, and their latency from start
    does not show that they are late (coordinated omission). If frames come at a fixed period, frame
    `id` should have started at the first start + (id - first id) * period, counted from the first
    batch of each source. That is its ``due``, and ``response`` is end - due. Both latencies are
    reported; neither replaces the other.

    Parameters
    ----------
    pipeline
        It must have a period, and no mark ``due``.

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
                f"pipeline {quoted(pipeline.name)} must have a period for intended starts; declare "
                'it, for example period="20ms"'
            )
        if "due" in pipeline.marks:
            raise TraceError(
                f"pipeline {quoted(pipeline.name)} must not have a mark 'due' for intended starts, "
                "as that mark already says when a frame should have started; leave out intended="
            )
        self._period = pipeline.period
        self.pipeline = Pipeline(
            pipeline.name, ("due", *pipeline.marks), pipeline.spans, period=pipeline.period
        )
        self._first: dict[str | None, tuple[int, int]] = {}  # id and start, by source

    def add(self, columns: Columns) -> Columns:
        """Return the frames with their ``due``, `MISSING` without a first frame or out of range.

        The first frame of a source has the smallest id of those with a start, in the first batch
        with such frames.
        """
        due = np.full(len(columns), MISSING)
        starts = columns.marks["start"]
        for name, rows in rows_by_source(columns):
            ids = columns.frame_id[rows]
            known = starts[rows] != MISSING
            if name not in self._first and known.any():
                first = np.argmin(ids[known])
                self._first[name] = int(ids[known][first]), int(starts[rows][known][first])
            if name in self._first:
                first_id, begin = self._first[name]
                # the wrap-around is intended: uint64 differences viewed as int64 give the signed
                # distance
                steps = (ids - np.uint64(first_id)).view(np.int64)
                reach = (STAMP_LIMIT - abs(begin)) // self._period
                times = begin + np.clip(steps, -reach, reach) * self._period
                due[rows] = np.where(np.abs(steps) >= reach, MISSING, times)
        return replace(columns, marks={"due": due, **columns.marks})
