"""The fold: columns of frames in, mergeable sums out, in chunks that stay in the cache.

A chunk in which no mark of a stage is missing and the marks are in order goes straight: no mask,
no copy, each span worked on while it is in the cache. The others are right, not quick.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import numpy as np

from latprof.arrays import Ints
from latprof.errors import TraceError
from latprof.fold.counting import CHUNK, TOTAL, Bins, Latencies
from latprof.fold.irregular import add_measured, fold_odd, measure
from latprof.fold.moments import exact_sum
from latprof.fold.stretches import Placed
from latprof.fold.sums import Sums
from latprof.fold.tally import add_dropped, add_sizes, add_times
from latprof.frames import MISSING, STAMP_LIMIT, Columns
from latprof.pipeline import Pipeline

__all__ = ["CHUNK", "Fold"]

Parts = dict[tuple[str, str], Latencies]


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
        self._sums: Sums | None = None  # those that the bins have counts for
        self._together = False
        self._latency = np.empty(CHUNK, np.int64)
        self._other = np.empty(CHUNK, np.int64)
        # the stages, and the gaps between them: what lies between one border and the next
        marks = {"start", "end"}.union(*((stage.begin, stage.end) for stage in pipeline.stages))
        self._borders = [mark for mark in pipeline.marks if mark in marks]
        self._parts = {pair: np.empty(CHUNK, np.int64) for pair in pairwise(self._borders)}
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
        if self._sums is not sums:
            self._flush()
            self._sums = sums
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
            if not self._together:
                self._flush()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Within, `add` leaves counts where they gather: the sums have them when it ends."""
        self._together = True
        try:
            yield
        finally:
            self._together = False
            self._flush()

    def _flush(self) -> None:
        if self._sums is not None:
            self._bins.flush(self._sums)
            self._sums = None

    def _add_finished(self, sums: Sums, chunk: Columns) -> None:
        weights = None
        if chunk.weight is not None and (chunk.weight != 1).any():
            weights = chunk.weight.astype(np.int64)
        complete = {
            mark: mark in chunk.complete or int(column.min()) != MISSING
            for mark, column in chunk.marks.items()
        }
        parts = self._in_order(chunk, complete)
        if parts is not None:
            measured = {
                span.name: measure(chunk, span, complete, weights, out[: len(chunk)])
                for span, out in self._beside
            }
        else:
            spans = self.pipeline.all_spans
            measured = {span.name: measure(chunk, span, complete, weights) for span in spans}
        total = None if parts is None else self._end_to_end(chunk)
        farthest = {name: span.farthest for name, span in measured.items()}
        _check_lengths(farthest if total is None else farthest | {TOTAL: total.high})
        sums.finished += len(chunk) if weights is None else int(weights.sum())
        placed = add_times(sums, chunk, complete)
        add_sizes(sums, chunk, weights)
        if parts is None or total is None:
            fold_odd(self._bins, sums, self.pipeline, chunk, measured, weights, placed)
            return
        for name, span in measured.items():
            add_measured(self._bins, sums, name, span, chunk, weights, placed)
        self._fold_straight(sums, chunk, total, parts, weights, placed)

    def _in_order(self, chunk: Columns, complete: dict[str, bool]) -> Parts | None:
        """Return the stages and gaps of a chunk in which none is missing or negative."""
        if not all(complete[mark] for mark in self._borders):
            return None
        parts = {}
        for (begin, end), room in self._parts.items():
            latency = np.subtract(chunk.marks[end], chunk.marks[begin], out=room[: len(chunk)])
            parts[begin, end] = part = Latencies(latency)
            if part.low < 0:
                return None
        return parts

    def _end_to_end(self, chunk: Columns) -> Latencies:
        """Return the end_to_end of a chunk in order, where no stage is longer."""
        marks = chunk.marks
        latency = np.subtract(marks["end"], marks["start"], out=self._latency[: len(chunk)])
        total = Latencies(latency)
        if total.low < 0:  # stamps in order whose difference is negative are 2**63 apart, or more
            total.high = STAMP_LIMIT
        return total

    def _fold_straight(
        self,
        sums: Sums,
        chunk: Columns,
        whole: Latencies,
        parts: Parts,
        weights: Ints | None,
        placed: Placed,
    ) -> None:
        """Fold a chunk that is its own attribution set."""
        bins = self._bins
        total = bins.count(sums, TOTAL, whole, chunk, weights, placed)
        shares, covariances = {TOTAL: total.total}, {}
        for stage in self.pipeline.stages:
            latencies = parts[stage.begin, stage.end]
            part = bins.count(sums, stage.name, latencies, chunk, weights, placed, total)
            shares[stage.name], covariances[stage.name] = part.total, part.comoment
        if sums.gaps:
            other = self._other[: len(chunk)]
            other[:] = 0
            for gap in sums.gaps:
                np.add(other, parts[gap].ns, out=other)
                sums.gaps[gap] += exact_sum(parts[gap].ns, parts[gap].high, weights)
            part = bins.count(sums, "other", Latencies(other), chunk, weights, placed, total)
            shares["other"], covariances["other"] = part.total, part.comoment
        else:
            # stages that meet from start to end leave nothing
            bins.count_zeros(sums, "other", chunk, weights, placed)
            shares["other"], covariances["other"] = 0, 0.0
        sums.add_attributed(total.n, shares, covariances)


def _check_lengths(farthest: dict[str, int]) -> None:
    for name, length in farthest.items():
        if length >= STAMP_LIMIT:
            raise TraceError(
                f"span {name!r} of a frame lasts {STAMP_LIMIT} ns or more: its stamps "
                "are not times of one clock, correct them or leave the frame out"
            )
