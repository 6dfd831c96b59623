"""Folds columns of frames into mergeable sums, in chunks that fit into the cache.

In a *regular* chunk no mark at which a stage begins or ends is missing, and these marks are in
order. It is folded without masks and copies, each span while it is in the cache. In other chunks
masks say which frames have a span.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise

import numpy as np

from latprof.arrays import Ints, Mask, exact_sum
from latprof.fold.counting import LARGE_NS, TOTAL, Bins, Chunk, Latencies, places_of
from latprof.fold.grids import step_of
from latprof.fold.sums import NO_MARK, SpanSums, Sums, comoment
from latprof.fold.windows import ChunkWindows
from latprof.frames import MISSING, NO_SIZE, Columns, Labels
from latprof.marks import Span
from latprof.pipeline import Pipeline

__all__ = ["CHUNK", "Fold"]

CHUNK = 65_536
"""Rows folded at a time: their work arrays fit into a second-level cache."""


Intervals = dict[tuple[str, str], Latencies]
"""Latencies of stages and gaps, by the marks at which they begin and end."""


class Fold:
    """The work arrays for folding frames of one pipeline, into any sums.

    Parameters
    ----------
    pipeline
        Pipeline of the frames.
    between
        Called after each part of the work on a chunk, so that a program that is being recorded can
        run.

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

    def __init__(self, pipeline: Pipeline, between: Callable[[], object] = lambda: None) -> None:
        self.pipeline, self._between = pipeline, between
        self._bins = Bins(pipeline, CHUNK, between)
        self._sums: Sums | None = None  # the sums that the counts in `_bins` belong to
        self._deferred = False
        self._latency = np.empty(CHUNK, np.int64)
        self._other = np.empty(CHUNK, np.int64)
        # borders: start, end, and the marks at which stages begin or end; between two neighbours is
        # a stage or a gap
        marks = {"start", "end"}.union(*((stage.begin, stage.end) for stage in pipeline.stages))
        self._borders = [mark for mark in pipeline.marks if mark in marks]
        self._intervals = {pair: np.empty(CHUNK, np.int64) for pair in pairwise(self._borders)}
        spans = (*pipeline.sides, *pipeline.totals[1:])  # totals[0] is end_to_end
        self._other_spans = [(span, np.empty(CHUNK, np.int64)) for span in spans]

    def add(self, sums: Sums, columns: Columns) -> None:
        """Fold n frames into `sums`; `columns` has every mark of the pipeline."""
        if self._sums is not sums:
            self.flush()
            self._sums = sums
        try:
            for begin in range(0, len(columns), CHUNK):
                chunk = columns.take(slice(begin, begin + CHUNK))
                done = chunk.finished()
                finished = chunk if done is None else chunk.take(done)
                if len(finished):
                    self._add_finished(sums, finished)
                if done is not None:
                    _add_dropped(sums, chunk.take(~done))
                if self._bins.tails_bound >= LARGE_NS:
                    self._bins.flush(sums)
        finally:
            if not self._deferred:
                self.flush()

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Within this context, `add` is faster: counts reach the sums when it ends."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False
            self.flush()

    def flush(self) -> None:
        """Move all counts to the sums that they belong to."""
        if self._sums is not None:
            self._bins.flush(self._sums)
            self._sums = None

    def _add_finished(self, sums: Sums, columns: Columns) -> None:
        """Fold finished frames, as a regular chunk if they are one."""
        weights = None
        if columns.weight is not None and (columns.weight != 1).any():
            weights = columns.weight.astype(np.int64)
        complete = {
            mark: mark in columns.complete or int(column.min()) != MISSING
            for mark, column in columns.marks.items()
        }
        self._between()
        windows = _add_times(sums, columns, complete)
        self._between()
        _add_grids(sums, columns, complete)
        self._between()
        chunk = Chunk(columns, weights, self._bins.ones, windows)
        sums.finished += chunk.frames
        _add_sizes(sums, chunk)
        intervals = self._in_order(columns, complete)
        self._between()
        if intervals is None:
            self._fold_irregular(sums, chunk, complete)
            return
        for span, out in self._other_spans:
            measured = _Measured(chunk, span, complete, out[: len(columns)])
            measured.add_to(self._bins, sums, chunk)
        self._fold_regular(sums, chunk, intervals)

    def _in_order(self, columns: Columns, complete: dict[str, bool]) -> Intervals | None:
        """Return the intervals of a regular chunk, or None if the chunk is not regular."""
        if not all(complete[mark] for mark in self._borders):
            return None
        intervals: Intervals = {}
        marks = columns.marks
        for (begin, end), out in self._intervals.items():
            latency = np.subtract(marks[end], marks[begin], out=out[: len(columns)])
            intervals[begin, end] = Latencies(latency)
            if intervals[begin, end].low < 0:
                return None
        return intervals

    def _fold_regular(self, sums: Sums, chunk: Chunk, intervals: Intervals) -> None:
        """Fold a regular chunk: all its frames are in the attribution set."""
        bins, marks, k = self._bins, chunk.columns.marks, len(chunk.columns)
        latency = np.subtract(marks["end"], marks["start"], out=self._latency[:k])
        total = bins.count(sums, TOTAL, Latencies(latency), chunk)
        bins.add_to_tails_bound(total.total)
        shares, covariances = {TOTAL: total.total}, {}
        for stage in self.pipeline.stages:
            latencies = intervals[stage.begin, stage.end]
            moments = bins.count(sums, stage.name, latencies, chunk, total)
            shares[stage.name], covariances[stage.name] = moments.total, moments.comoment
        if sums.gaps:
            other = self._other[:k]
            other[:] = 0
            for gap in sums.gaps:
                latencies = intervals[gap]
                np.add(other, latencies.ns, out=other)
                sums.gaps[gap] += exact_sum(latencies.ns, latencies.high, chunk.weights)
            moments = bins.count(sums, "other", Latencies(other), chunk, total)
            shares["other"], covariances["other"] = moments.total, moments.comoment
        else:
            # stages that meet from start to end leave no other time
            bins.count_zeros(sums, "other", chunk)
            shares["other"], covariances["other"] = 0, 0.0
        sums.add_attributed(total.n, shares, covariances)

    def _fold_irregular(self, sums: Sums, chunk: Chunk, complete: dict[str, bool]) -> None:
        """Fold a chunk in which marks are missing or spans are negative."""
        bins, spans = self._bins, self.pipeline.all_spans
        measured = {span.name: _Measured(chunk, span, complete) for span in spans}
        for span in measured.values():
            span.add_to(bins, sums, chunk)
        other = self._other_time(measured)
        attributed = self._attribution_set(sums, chunk, measured, other)
        end_to_end = measured[TOTAL]
        rest = ~attributed if end_to_end.mask is None else end_to_end.mask & ~attributed
        np.add.at(bins.unattributed, places_of(end_to_end.latency[rest]), chunk.row_weights[rest])
        total = end_to_end.latency[attributed]
        if len(total) == 0:
            return
        chunk = chunk.take(attributed)
        n, high, weights = chunk.frames, int(total.max()), chunk.weights
        places, floats = places_of(total), total.astype(np.float64)
        shares, covariances = {TOTAL: exact_sum(total, high, weights)}, {}
        bins.add_to_tails_bound(shares[TOTAL])
        for name in bins.parts:
            latency = (other if name == "other" else measured[name].latency)[attributed]
            shares[name] = exact_sum(latency, high, weights)
            means = shares[name] / n, shares[TOTAL] / n
            covariances[name] = comoment(latency.astype(np.float64), floats, weights, n, *means)
            bins.add_tails(sums, name, places, latency, chunk, shares[TOTAL])
        sums.add_attributed(n, shares, covariances)
        for begin, end in sums.gaps:
            early, late = chunk.columns.marks[begin], chunk.columns.marks[end]
            unknown = (early == MISSING) | (late == MISSING) | (late < early)
            gap = np.where(unknown, 0, late - early)
            sums.gaps[begin, end] += exact_sum(gap, int(gap.max()), weights)
        bins.count(sums, "other", Latencies(other[attributed]), chunk)

    def _other_time(self, measured: dict[str, "_Measured"]) -> Ints:
        """Return end_to_end minus the stages (n,) in ns, negative if the stages are longer."""
        other = measured[TOTAL].latency.copy()
        for stage in self.pipeline.stages:
            np.subtract(other, measured[stage.name].latency, out=other)
            np.maximum(other, -1, out=other)  # several long stages must not wrap around
        return other

    def _attribution_set(
        self, sums: Sums, chunk: Chunk, measured: dict[str, "_Measured"], other: Ints
    ) -> Mask:
        """Return the mask of the attribution set; count the other frames by their first reason."""
        keep = np.ones(len(other), bool)

        def exclude(reason: str, which: Mask) -> None:
            """Take frames out of the set, and count those that were in it."""
            count = chunk.count(which & keep)
            if count:
                sums.excluded[reason] += count
                keep[which] = False

        total = measured[TOTAL]
        if total.mask is not None:
            negative = total.latency < 0
            exclude("end_to_end negative", negative)
            exclude("end_to_end missing", ~total.mask & ~negative)
        for stage in self.pipeline.stages:
            if measured[stage.name].mask is not None:
                exclude(f"{stage.name} negative", measured[stage.name].latency < 0)
        exclude("stages longer than end_to_end", other < 0)
        return keep


class _Measured:
    """The latencies of one span in a chunk of any frames.

    `latency` (n,) in ns is 0 if a mark is missing. `mask` (n,) says which rows have a latency of 0
    or more; it is None if all have. `missing` and `negative` are numbers of frames, `lowest` is the
    smallest latency.
    """

    def __init__(
        self, chunk: Chunk, span: Span, complete: dict[str, bool], out: Ints | None = None
    ) -> None:
        begin, end = chunk.columns.marks[span.begin], chunk.columns.marks[span.end]
        self.name = span.name
        self.latency = np.subtract(end, begin, out=out)
        self.mask: Mask | None = None
        self.missing = self.negative = 0
        self.lowest = int(self.latency.min())
        if not (complete[span.begin] and complete[span.end]):
            absent = (begin == MISSING) | (end == MISSING)
            self.missing = chunk.count(absent)
            self.latency[absent] = 0
            self.mask = ~absent
            self.lowest = int(self.latency.min())
        if self.lowest < 0:
            backwards = self.latency < 0
            self.negative = chunk.count(backwards)
            self.mask = ~backwards if self.mask is None else self.mask & ~backwards

    def add_to(self, bins: Bins, sums: Sums, chunk: Chunk) -> None:
        """Count the latencies of 0 and more, and all other frames as missing or negative."""
        span = sums.spans[self.name]
        span.missing += self.missing
        span.negative += self.negative
        span.most_negative = min(span.most_negative, self.lowest)
        latency = self.latency
        if self.mask is not None:
            latency, chunk = latency[self.mask], chunk.take(self.mask)
        if len(latency):
            bins.count(sums, self.name, Latencies(latency), chunk)


def _add_times(sums: Sums, columns: Columns, complete: dict[str, bool]) -> ChunkWindows:
    """Extend the time range; return the windows of the frames, or none if no frame has a time.

    The time of a frame is its start, or its end, or the first of its marks.
    """
    times, ends = columns.marks["start"], columns.marks["end"]
    if not complete["start"]:
        known = times[times != MISSING]
        sums.add_range(int(known.min()) if len(known) else None, None)
        for mark in ("end", *sums.pipeline.marks):
            times = np.where(times == MISSING, columns.marks[mark], times)
    if not complete["end"]:
        ends = ends[ends != MISSING]
    sums.add_range(None, int(ends.max()) if len(ends) else None)
    low, high = int(times.min()), int(times.max())
    if complete["start"]:
        sums.add_range(low, None)
    if high == MISSING:
        return ChunkWindows([], len(columns))
    if low == MISSING:
        # frames without any mark have no latency to be counted
        times = np.where(times == MISSING, high, times)
        low = int(times.min())
    windows = [sums.batches] if sums.timeline is None else [sums.batches, sums.timeline]
    return ChunkWindows([some.locate(times, low, high) for some in windows], len(columns))


def _add_grids(sums: Sums, columns: Columns, complete: dict[str, bool]) -> None:
    """Add the stamps of each mark to its grid, unless that is known to be fine."""
    for mark, grid in sums.grids.items():
        if grid.step != 1:
            stamps = columns.marks[mark]
            grid.add(stamps if complete[mark] else stamps[stamps != MISSING])


def _add_sizes(sums: Sums, chunk: Chunk) -> None:
    """Add the known sizes."""
    sizes, row_weights = chunk.columns.size, chunk.row_weights
    if sizes is None:
        return
    if int(sizes.max()) == NO_SIZE:
        known = sizes != NO_SIZE
        sizes, row_weights = sizes[known], row_weights[known]
    times = sizes if chunk.weights is None else sizes * row_weights
    sums.size_bytes += int(times.sum(dtype=np.int64))
    sums.sized += int(row_weights.sum())


def _add_dropped(sums: Sums, columns: Columns) -> None:
    """Count dropped frames by reason and by the last mark that they reached."""
    outcome = columns.outcome
    if outcome is None or len(columns) == 0:
        return
    # `drop` stamps end as well: the last mark before it says how far the frame got
    reached = np.zeros(len(columns), np.int64)
    marks = (NO_MARK, *sums.pipeline.marks[:-1])
    for i, mark in enumerate(marks[1:], 1):
        reached[columns.marks[mark] != MISSING] = i
    counts = np.bincount(outcome.codes * len(marks) + reached, columns.weight)
    for place in np.flatnonzero(counts).tolist():
        code, mark_index = divmod(place, len(marks))
        sums.dropped[outcome.names[code], marks[mark_index]] += int(counts[place])
    _add_dropped_times(sums, columns, outcome)


def _add_dropped_times(sums: Sums, columns: Columns, outcome: Labels) -> None:
    """Count the time from start to end of dropped frames, by reason."""
    start, end = columns.marks["start"], columns.marks["end"]
    stamped = (start != MISSING) & (end != MISSING)
    weights = np.ones(len(columns), np.int64)
    if columns.weight is not None:
        weights = columns.weight.astype(np.int64)
    for code in np.flatnonzero(np.bincount(outcome.codes)).tolist():
        rows = np.flatnonzero(outcome.codes == code)
        times = sums.dropped_times.setdefault(outcome.names[code], SpanSums())
        known = rows[stamped[rows]]
        times.missing += int(weights[rows].sum() - weights[known].sum())
        lengths = end[known] - start[known]
        if len(known) and int(lengths.min()) < 0:
            times.most_negative = min(times.most_negative, int(lengths.min()))
            times.negative += int(weights[known[lengths < 0]].sum())
            known, lengths = known[lengths >= 0], lengths[lengths >= 0]
        if not len(known):
            continue
        n, high = int(weights[known].sum()), int(lengths.max())
        total, floats = exact_sum(lengths, high, weights[known]), lengths.astype(np.float64)
        squares = comoment(floats, floats, weights[known], n, total / n, total / n)
        times.add_peak(high, int(columns.frame_id[known][lengths == high].min()))
        times.add_moments(n, total, squares)
        times.histogram.add(lengths, weights[known])
        times.step = step_of(times.step, lengths)
    sums.keep_reasons()
