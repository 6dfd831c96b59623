"""Counts latencies by bin, and owns the work arrays of a fold.

Counts are added with `np.add.at` to arrays with an element for every bin of values from 0 to 2**63.
Most of the elements are never touched and take no memory. The index of a value, its *place*, is the
upper bits of its float64. Computing it needs neither a search nor a temporary array. A
*run* is consecutive frames in one window of time; its counts are collected in separate arrays.
These are added to the window before a run in another window is counted. At the end all counts are
moved to the sums, over the range of the values only.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from latprof.arrays import Exact, Floats, Ints, Mask, exact_sum, sparse_zeros
from latprof.fold.grids import step_of
from latprof.fold.sums import Sums, comoment, dot, is_spread
from latprof.fold.windows import DEEPEST, ChunkWindows, Run, TimeWindows
from latprof.fold.worst import offer_exemplars
from latprof.frames import Columns
from latprof.histogram import COARSE, FIRST_PLACE, PLACES, SHIFT, bin_of, coarse_bin
from latprof.pipeline import Pipeline

__all__ = ["LARGE_NS", "TOTAL", "Bins", "Chunk", "Latencies", "Moments", "places_of"]

TOTAL = "end_to_end"

LARGE_NS = 2**62
"""Limit, in ns, of what a chunk may add to an int64 array. At most as much was added before, so the
sum stays below 2**63; larger sums are added as Python integers."""

# offset that gives value 1 the coarse bin 1
_COARSE_OF_ZERO = ((FIRST_PLACE + 1) >> COARSE) - 1

# where the fine bins of each coarse bin begin, for `np.add.reduceat`
_COARSE_BEGINS = np.arange(0, PLACES, 1 << COARSE)


class Latencies:
    """Latencies (n,) in ns, n > 0, with the smallest and the largest of them."""

    def __init__(self, ns: Ints) -> None:
        self.ns = ns
        self.low = int(ns.min())
        self.high = int(ns.max())


class Chunk:
    """Finished frames that are folded together.

    Attributes
    ----------
    columns
        The rows, at most as many as the work arrays hold.
    weights
        (n,) the number of frames that each row represents, or None if it is 1 for all rows.
    row_weights
        (n,) the same numbers as an array in either case.
    frames
        The number of frames that all rows represent.
    windows
        The windows of time of the rows.
    """

    def __init__(
        self, columns: Columns, weights: Ints | None, row_weights: Ints, windows: ChunkWindows
    ) -> None:
        self.columns = columns
        self.weights = weights
        self.row_weights = row_weights[: len(columns)] if weights is None else weights
        self.frames = len(columns) if weights is None else int(weights.sum())
        self.windows = windows

    def take(self, mask: Mask) -> "Chunk":
        """Return the chunk of some of the rows."""
        weights = None if self.weights is None else self.weights[mask]
        return Chunk(self.columns.take(mask), weights, self.row_weights, self.windows.take(mask))

    def count(self, mask: Mask) -> int:
        """Return the number of frames in a mask of the rows."""
        return int(np.count_nonzero(mask) if self.weights is None else self.weights[mask].sum())


@dataclass(slots=True)
class Moments:
    """Sums over the n frames of one span in a chunk.

    `total` is the sum in ns, `m2` the sum of squared distances from the mean, and `comoment` the
    co-moment with end_to_end. `floats` and `places` are of end_to_end in the same chunk.
    """

    floats: Floats
    places: Ints
    n: int
    total: int
    m2: float = 0.0
    comoment: float = 0.0


class Bins:
    """Counts of each span by place, and sums of each stage by place of end_to_end.

    Parameters
    ----------
    pipeline
        Pipeline of the frames that are counted.
    size
        Largest number of rows of a chunk.
    between
        Called after each span: see `latprof.fold.fold.Fold`.
    """

    def __init__(self, pipeline: Pipeline, size: int, between: Callable[[], object]) -> None:
        self._between = between
        self.parts = (*(stage.name for stage in pipeline.stages), "other")
        names = (*(span.name for span in pipeline.all_spans), "other")
        places = PLACES + (1 << COARSE)  # coarse bins are moved as a whole
        self.counts = {name: sparse_zeros(places) for name in names}
        self.unattributed = sparse_zeros(places)  # frames outside the attribution set
        self.tails = {name: sparse_zeros(places) for name in self.parts}
        self.tails_bound = 0  # no sum in `tails` exceeds it
        self.ones = np.ones(size, np.int64)
        # counts of runs in one window, that window, and the extremes of the chunks of these runs
        self._run_counts = {name: sparse_zeros(places) for name in names}
        self._run_window: dict[str, tuple[tuple[TimeWindows, int], ...]] = {}
        self._run_extremes: dict[str, tuple[int, int]] = {}
        self._extremes: dict[str, tuple[int, int]] = {}
        self._total = np.empty(size), np.empty(size, np.int64)
        self._floats = np.empty(size)
        self._places = np.empty(size, np.int64)
        self._coarse = np.empty(size, np.int64)
        self._work = np.empty(size, np.int64)

    def count(
        self,
        sums: Sums,
        name: str,
        latencies: Latencies,
        chunk: Chunk,
        total: Moments | None = None,
    ) -> Moments:
        """Count the latencies (>= 0) of one span in all rows of a chunk.

        With `total`, the moments of end_to_end of the same rows, the latencies are also added to
        the tails, and their co-moment with end_to_end is computed. The moments of end_to_end are
        valid until they are computed again.
        """
        latency, low, high = latencies.ns, latencies.low, latencies.high
        k, n, weights = len(latency), chunk.frames, chunk.weights
        self._extend(name, low, high)
        span = sums.spans[name]
        span.step = step_of(span.step, latency)
        if span.peak is None or high >= span.peak:
            span.add_peak(high, int(chunk.columns.frame_id[latency == high].min()))
        if sums.deadline_ns is not None and name == sums.deadline_span and high > sums.deadline_ns:
            sums.late += chunk.count(latency > sums.deadline_ns)
        if name == TOTAL:
            for i, edge in enumerate(sums.edges_ns):
                if edge >= low:  # edges outside of the chunk's range take no pass over it
                    sums.at_most[i] += n if edge >= high else chunk.count(latency <= edge)
            sums.worst.add(chunk.columns, latency, high)
            offer_exemplars(sums.exemplars, latency, low, high, chunk.columns.frame_id)
        moments = Moments(*self._total, n, exact_sum(latency, high, weights))
        squares, products = self._scatter(sums, name, latencies, chunk, total)
        mean = moments.total / n
        moments.m2 = squares - n * mean * mean
        spread = weights is None and is_spread(n, mean, moments.m2)
        if not spread:
            floats = latency.astype(np.float64)
            moments.m2 = comoment(floats, floats, weights, n, mean, mean)
        if total is not None and moments.total:
            mean_total = total.total / n
            moments.comoment = products - n * mean * mean_total
            if not (spread and is_spread(n, mean_total, total.m2)):
                floats = latency.astype(np.float64)
                moments.comoment = comoment(floats, total.floats[:k], weights, n, mean, mean_total)
        span.add_moments(n, moments.total, moments.m2)
        self._between()
        return moments

    def _scatter(
        self, sums: Sums, name: str, latencies: Latencies, chunk: Chunk, total: Moments | None
    ) -> tuple[float, float]:
        """Count latencies; return the sums of their squares and of their products with `total`."""
        latency, extremes = latencies.ns, (latencies.low, latencies.high)
        k = len(latency)
        floats, places = self._total if name == TOTAL else (self._floats, self._places)
        floats, places = floats[:k], places[:k]
        np.copyto(floats, latency)
        np.right_shift(floats.view(np.int64), SHIFT, out=places)
        for run in chunk.windows.runs:
            rows = run.rows
            np.add.at(self._counts_for(name, run, extremes), places[rows], chunk.row_weights[rows])
            if run.where is None:
                self._count_by_window(name, run, places[rows], latencies, chunk)
            else:
                weights = None if chunk.weights is None else chunk.weights[rows]
                for windows, begin_ns in run.where:
                    if name in windows.sums:
                        time = exact_sum(latency[rows], latencies.high, weights)
                        row, some = np.array([windows.row(begin_ns)]), latency[rows]
                        depth, peak = DEEPEST - some.min(keepdims=True), some.max(keepdims=True)
                        windows.add_moments(name, row, [time], (depth, peak), time)
        if total is None:
            return dot(floats, floats), 0.0
        self.add_tails(sums, name, total.places[:k], latency, chunk, total.total)
        return dot(floats, floats), dot(floats, total.floats[:k])

    def add_tails(
        self, sums: Sums, name: str, places: Ints, latency: Ints, chunk: Chunk, bound: int
    ) -> None:
        """Add a stage's time (n,) to the tails.

        `places` (n,) are those of the frames' end_to_end, and `bound` is its sum in ns.
        """
        if bound < LARGE_NS:
            times = latency if chunk.weights is None else latency * chunk.weights
            np.add.at(self.tails[name], places, times)
        else:
            large: Exact = latency.astype(object) * chunk.row_weights
            sums.tails.add_each(name, np.maximum(places - FIRST_PLACE, 0), large)

    def add_to_tails_bound(self, total: int) -> None:
        """Add the sum of end_to_end (ns) of a chunk, which comes before its times are added."""
        if total < LARGE_NS:
            self.tails_bound += total

    def _counts_for(self, name: str, run: Run, extremes: tuple[int, int]) -> Ints:
        """Return the array that a run is counted in; counts for another window are moved first."""
        if run.where is None:
            return self.counts[name]
        if self._run_window.get(name, run.where) != run.where:
            self._flush_run(name)
        known = self._run_extremes.get(name, extremes)
        self._run_extremes[name] = min(extremes[0], known[0]), max(extremes[1], known[1])
        self._run_window[name] = run.where
        return self._run_counts[name]

    def _count_by_window(
        self, name: str, run: Run, places: Ints, latencies: Latencies, chunk: Chunk
    ) -> None:
        """Count each latency of a run in the window of its frame."""
        coarse, work = self._coarse[: len(places)], self._work[: len(places)]
        if latencies.low == 0:
            np.maximum(places, FIRST_PLACE, out=coarse)
            np.right_shift(coarse, COARSE, out=coarse)
        else:
            np.right_shift(places, COARSE, out=coarse)
        np.subtract(coarse, _COARSE_OF_ZERO, out=coarse)
        rows = run.rows
        extremes, bound = (latencies.low, latencies.high), latencies.high * chunk.frames
        for index in run.indexes:
            index.add(
                name, coarse, latencies.ns[rows], chunk.row_weights[rows], work, extremes, bound
            )

    def _flush_run(self, name: str) -> None:
        """Add the counts of runs in one window to the window, and to the counts of all windows."""
        where = self._run_window.pop(name)
        low, high = map(coarse_bin, self._run_extremes.pop(name))
        run_counts, counts = self._run_counts[name], self.counts[name]
        if low == 0:
            for windows, begin_ns in where:
                windows.add_run(name, begin_ns, 0, run_counts[:1])
            counts[0] += run_counts[0]
            run_counts[0] = 0
            low = 1
        if high == 0:
            return
        bins = slice(FIRST_PLACE + _first_fine(low), FIRST_PLACE + _first_fine(high + 1))
        found = run_counts[bins]
        coarse = np.add.reduceat(found, _COARSE_BEGINS[: high + 1 - low])
        for windows, begin_ns in where:
            windows.add_run(name, begin_ns, low, coarse)
        counts[bins] += found
        found[:] = 0

    def count_zeros(self, sums: Sums, name: str, chunk: Chunk) -> None:
        """Count a latency of 0 for each frame of a chunk."""
        self._extend(name, 0, 0)
        span = sums.spans[name]
        if not span.peak and span.peak_frame != 0:  # no id is smaller than 0
            span.add_peak(0, int(chunk.columns.frame_id.min()))
        span.add_moments(chunk.frames, 0, 0.0)
        for run in chunk.windows.runs:
            row_weights = chunk.row_weights[run.rows]
            count = len(row_weights) if chunk.weights is None else row_weights.sum()
            self._counts_for(name, run, (0, 0))[0] += count
            zeros, work = self._coarse[: len(row_weights)], self._work[: len(row_weights)]
            if run.where is None:
                zeros.fill(0)  # the coarse bin of 0 is 0 as well
            for index in run.indexes:
                index.add(name, zeros, zeros, row_weights, work, (0, 0), 0)

    def _extend(self, name: str, low: int, high: int) -> None:
        """Extend the range of the values that were counted."""
        known = self._extremes.get(name, (low, high))
        self._extremes[name] = min(low, known[0]), max(high, known[1])

    def flush(self, sums: Sums) -> None:
        """Move all counts to the sums, and reset the arrays to 0."""
        for name in list(self._run_window):
            self._flush_run(name)
        for name, (low, high) in self._extremes.items():
            first, last = bin_of(np.array([low, high], np.float64)).tolist()
            bins = slice(FIRST_PLACE + first, FIRST_PLACE + 1 + last)
            found = _drain(self.counts[name], bins, first)
            sums.spans[name].histogram.add_counts(first, found, low, high)
            if name == TOTAL:
                attributed = found - _drain(self.unattributed, bins, first)
                tails: dict[str, Exact] = {
                    part: _drain(self.tails[part], bins, first) for part in self.parts
                }
                sums.tails.add(first, attributed, tails)
            self._between()
        self._extremes.clear()
        self.tails_bound = 0


def places_of(latency: Ints) -> Ints:
    """Return the places (n,) of latencies (n,) in the arrays of `Bins`."""
    return latency.astype(np.float64).view(np.int64) >> SHIFT


def _first_fine(coarse: int) -> int:
    """Return the first bin of the histogram that a coarse bin (1 or more) joins."""
    return ((coarse - 1) << COARSE) + 1


def _drain(array: Ints, bins: slice, first: int) -> Ints:
    """Return the values at a range of places, from bin `first` on, and set them to 0."""
    if first == 0:
        # 0.0 has place 0, far from 1.0: move it next to 1.0
        array[FIRST_PLACE], array[0] = array[0], 0
    found = array[bins].copy()
    array[bins] = 0
    return found
