"""The fold: columns of frames in, mergeable sums out, in chunks that stay in the cache.

A chunk in which no mark of a stage is missing and the marks are in order goes straight: no mask,
no copy, each span worked on while it is in the cache. The others are right, not quick.
"""

from itertools import pairwise

import numpy as np
import numpy.typing as npt

from latprof.bins import CHUNK, TOTAL, Bins
from latprof.columns import MISSING, STAMP_LIMIT, Columns
from latprof.errors import TraceError
from latprof.moments import exact_sum
from latprof.oddfold import Measured, add_measured, fold_odd, measure
from latprof.pipeline import Pipeline
from latprof.placed import Placed
from latprof.sums import Sums
from latprof.tally import add_dropped, add_sizes, add_times

__all__ = ["CHUNK", "Fold"]

Ints = npt.NDArray[np.int64]


class Fold:
    """The work arrays of folding frames of one pipeline, into whichever sums.

    Examples
    --------
    >>> mic = Pipeline.chain("mic", "decode", "play")
    >>> ids, start = np.arange(2, dtype=np.uint64), np.array([0, 20_000])
    >>> marks = {"start": start, "decode": start, "play": start + 700, "end": start + 1000}
    >>> sums = Sums(mic)
    >>> Fold(mic).add(sums, Columns(ids, marks))
    >>> sums.spans["play"].total, sums.shares["decode"] / sums.shares["end_to_end"]
    (600, 0.7)
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self._bins = Bins(pipeline, CHUNK)
        self._latency = np.empty(CHUNK, np.int64)
        self._other = np.empty(CHUNK, np.int64)
        self._backwards = np.empty(CHUNK, bool)
        # marks between which stages and other lie: in order, none of them is negative
        marks = {"start", "end"}.union(*((stage.begin, stage.end) for stage in pipeline.stages))
        self._borders = [mark for mark in pipeline.marks if mark in marks]
        stages = {stage.name for stage in pipeline.stages}
        self._beside = [
            (span, np.empty(CHUNK, np.int64))
            for span in pipeline.all_spans
            if span.name not in stages | {TOTAL}
        ]

    def add(self, sums: Sums, columns: Columns) -> None:
        """Fold n frames into `sums`; `columns` has every mark of the pipeline.

        Raises
        ------
        TraceError
            A span of 2**62 ns and more; of its chunk nothing is folded.
        """
        try:
            for begin in range(0, len(columns), CHUNK):
                chunk = columns.take(slice(begin, begin + CHUNK))
                done = chunk.finished()
                finished = chunk if done is None else chunk.take(done)
                if len(finished):
                    self._add_finished(sums, finished)
                if done is not None:
                    add_dropped(sums, chunk.take(~done))
        finally:
            self._bins.flush(sums)

    def _add_finished(self, sums: Sums, chunk: Columns) -> None:
        weights = None
        if chunk.weight is not None and (chunk.weight != 1).any():
            weights = chunk.weight.astype(np.int64)
        complete = {
            mark: mark in chunk.complete or int(column.min()) != MISSING
            for mark, column in chunk.marks.items()
        }
        straight = self._is_straight(chunk, complete)
        if straight:
            measured = {
                span.name: measure(chunk, span, complete, weights, out[: len(chunk)])
                for span, out in self._beside
            }
        else:
            spans = self.pipeline.all_spans
            measured = {span.name: measure(chunk, span, complete, weights) for span in spans}
        self._check_lengths(chunk, measured, straight)
        sums.finished += len(chunk) if weights is None else int(weights.sum())
        placed = add_times(sums, chunk, complete)
        add_sizes(sums, chunk, weights)
        if straight:
            for name, span in measured.items():
                add_measured(self._bins, sums, name, span, chunk, weights, placed)
            self._fold_straight(sums, chunk, weights, placed)
        else:
            fold_odd(self._bins, sums, self.pipeline, chunk, measured, weights, placed)

    def _is_straight(self, chunk: Columns, complete: dict[str, bool]) -> bool:
        if not all(complete[mark] for mark in self._borders):
            return False
        backwards = self._backwards[: len(chunk)]
        for early, late in pairwise(self._borders):
            if np.less(chunk.marks[late], chunk.marks[early], out=backwards).any():
                return False
        return True

    def _check_lengths(self, chunk: Columns, measured: dict[str, Measured], straight: bool) -> None:
        farthest = {name: span.farthest for name, span in measured.items()}
        if straight:  # where no stage is longer than end_to_end
            marks = chunk.marks
            latency = np.subtract(marks["end"], marks["start"], out=self._latency[: len(chunk)])
            # stamps in order whose difference is negative are 2**63 apart, or more
            farthest[TOTAL] = int(latency.max()) if int(latency.min()) >= 0 else STAMP_LIMIT
        for name, length in farthest.items():
            if length >= STAMP_LIMIT:
                raise TraceError(
                    f"span {name!r} of a frame lasts {STAMP_LIMIT} ns or more: its stamps "
                    "are not times of one clock, correct them or leave the frame out"
                )

    def _fold_straight(
        self, sums: Sums, chunk: Columns, weights: Ints | None, placed: Placed
    ) -> None:
        """Fold a chunk that is its own attribution set; `_latency` holds its end_to_end."""
        bins, marks, k = self._bins, chunk.marks, len(chunk)
        latency = self._latency[:k]
        total = bins.count(sums, TOTAL, latency, chunk, weights, placed)
        shares, covariances = {TOTAL: total.total}, {}
        other = self._other[:k]
        if sums.gaps:
            np.copyto(other, latency)
        for stage in self.pipeline.stages:
            np.subtract(marks[stage.end], marks[stage.begin], out=latency)
            if sums.gaps:
                np.subtract(other, latency, out=other)
            part = bins.count(sums, stage.name, latency, chunk, weights, placed, total)
            shares[stage.name], covariances[stage.name] = part.total, part.comoment
        if sums.gaps:
            part = bins.count(sums, "other", other, chunk, weights, placed, total)
            shares["other"], covariances["other"] = part.total, part.comoment
        else:
            # stages that meet from start to end leave nothing
            bins.count_zeros(sums, "other", chunk, weights, placed)
            shares["other"], covariances["other"] = 0, 0.0
        sums.add_attributed(total.n, shares, covariances)
        for begin, end in sums.gaps:
            gap = marks[end] - marks[begin]
            sums.gaps[begin, end] += exact_sum(gap, int(gap.max()), weights)
