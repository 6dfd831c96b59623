"""Counting latencies by bin, a chunk at a time: the arrays that a fold works in.

Counts are scattered with `np.add.at` into arrays that have a place for every float64 (most of it
is never touched, so never in memory): the place of a value is its bits, shifted; no search, no
result to allocate. Those of a stretch of frames in one window are *gathering*: they are settled,
added to the window as a whole, before those of another window are counted. All of them are moved
into the sums at the end, over the reach of the values alone.
"""

import numpy as np

from latprof.arrays import Floats, Ints
from latprof.fold.exemplars import offer
from latprof.fold.moments import comoment, dot, exact_sum, is_spread
from latprof.fold.stretches import Placed, Stretch
from latprof.fold.sums import Sums
from latprof.fold.tally import add_edges, frames_in
from latprof.fold.windows import COARSE, Windows, coarse_bin
from latprof.frames import MISSING, Columns
from latprof.histogram import FIRST_PLACE, PLACES, SHIFT, bin_of
from latprof.pipeline import Pipeline

__all__ = ["CHUNK", "TOTAL", "Bins", "Counted", "Latencies"]

CHUNK = 65_536
"""Rows folded at a time: a second-level cache holds what is worked on."""

TOTAL = "end_to_end"


# coarse bin of a place: 0 for the value 0, from 1 on for the value 1 and more
_COARSE_OF_ZERO = ((FIRST_PLACE + 1) >> COARSE) - 1


# where the fine bins of each coarse bin begin, for `np.add.reduceat`
_COARSE_BEGINS = np.arange(0, PLACES, 1 << COARSE)


class Latencies:
    """Latencies (n,) in ns, n > 0, with the smallest and the largest of them."""

    __slots__ = ("high", "low", "ns")

    def __init__(self, ns: Ints) -> None:
        self.ns = ns
        self.low = int(ns.min())
        self.high = int(ns.max())


class Counted:
    """What n latencies of one span in a chunk add up to.

    Those of end_to_end are kept, as floats and as places, for the stages to be compared with.
    """

    __slots__ = ("comoment", "floats", "m2", "n", "places", "total")

    def __init__(self, floats: Floats, places: Ints, n: int, total: int) -> None:
        self.floats = floats
        self.places = places
        self.n = n
        self.total = total
        self.m2 = 0.0
        self.comoment = 0.0  # with end_to_end


class Bins:
    """Counts by place of each span, and sums of each stage by place of end_to_end.

    Parameters
    ----------
    pipeline
        Of the frames that are counted.
    size
        Most rows of a chunk.
    """

    def __init__(self, pipeline: Pipeline, size: int) -> None:
        self.parts = (*(stage.name for stage in pipeline.stages), "other")
        names = (*(span.name for span in pipeline.all_spans), "other")
        room = PLACES + (1 << COARSE)  # coarse bins are moved whole
        self.counts = {name: np.zeros(room, np.int64) for name in names}
        self._gathering = {name: np.zeros(room, np.int64) for name in names}
        # for which windows, and the extremes of the chunks that they came from
        self._where: dict[str, tuple[tuple[Windows, int], ...]] = {}
        self._reach: dict[str, tuple[int, int]] = {}
        # end_to_end of the frames that are not in the attribution set
        self.left_out = np.zeros(room, np.int64)
        self.tails = {name: np.zeros(room, np.int64) for name in self.parts}
        self.ones = np.ones(size, np.int64)
        self._total = np.empty(size), np.empty(size, np.int64)
        self._floats = np.empty(size)
        self._places = np.empty(size, np.int64)
        self._coarse = np.empty(size, np.int64)
        self._work = np.empty(size, np.int64)
        self._extremes: dict[str, tuple[int, int]] = {}

    def count(
        self,
        sums: Sums,
        name: str,
        latencies: Latencies,
        chunk: Columns,
        weights: Ints | None,
        placed: Placed,
        total: Counted | None = None,
    ) -> Counted:
        """Count latencies of 0 and more, of the frames of `chunk`.

        With `total`, what end_to_end has given for the same frames, the latencies are also added
        to the tails, and their co-moment is worked out. What is returned for end_to_end holds
        until its next call.
        """
        latency, low, high = latencies.ns, latencies.low, latencies.high
        k = len(latency)
        known = self._extremes.get(name)
        if known is None or low < known[0] or high > known[1]:
            self.stretch(name, low, high)
        span = sums.spans[name]
        if span.peak is None or high >= span.peak:
            span.add_peak(high, int(chunk.frame_id[latency == high].min()))
        if sums.deadline_ns is not None and name == sums.promised and high > sums.deadline_ns:
            sums.late += frames_in(latency > sums.deadline_ns, weights)
        if name == TOTAL:
            add_edges(sums, latency, low, high, weights)
            sums.worst.add(chunk, latency, high, MISSING)
            offer(sums.exemplars, latency, low, high, chunk.frame_id)
        ones = self.ones[:k] if weights is None else weights
        n = k if weights is None else int(weights.sum())
        counted = Counted(*self._total, n, exact_sum(latency, high, weights))
        own, cross = self._scatter(name, latency, (low, high), ones, placed, total)
        mean = counted.total / n
        counted.m2 = own - n * mean * mean
        spread = weights is None and is_spread(n, mean, counted.m2)
        if not spread:
            floats = latency.astype(np.float64)
            counted.m2 = comoment(floats, floats, weights, n, mean, mean, spread=False)
        if total is not None and counted.total:
            whole = total.total / n
            counted.comoment = cross - n * mean * whole
            if not (spread and is_spread(n, whole, total.m2)):
                floats = latency.astype(np.float64)
                counted.comoment = comoment(
                    floats, total.floats[:k], weights, n, mean, whole, spread=False
                )
        span.add_moments(n, counted.total, counted.m2)
        return counted

    def _scatter(
        self,
        name: str,
        latency: Ints,
        extremes: tuple[int, int],
        ones: Ints,
        placed: Placed,
        total: Counted | None,
    ) -> tuple[float, float]:
        """Count latencies; return the sum of their squares, and of their products with total's."""
        k = len(latency)
        weighted = ones is not self.ones and ones.base is not self.ones
        floats, places = self._total if name == TOTAL else (self._floats, self._places)
        floats, places = floats[:k], places[:k]
        np.copyto(floats, latency)
        np.right_shift(floats.view(np.int64), SHIFT, out=places)
        for stretch in placed.stretches:
            block = slice(stretch.begin, stretch.end)
            values, weights = latency[block], ones[block]
            np.add.at(self._counts_of(name, stretch, extremes), places[block], weights)
            if stretch.where is None:
                self._sort_in(name, stretch, places[block], values, weights, extremes)
            else:
                _add_moments(name, values, weights if weighted else None, stretch)
        if total is None:
            return dot(floats, floats), 0.0
        heavy = latency * ones if weighted else latency
        np.add.at(self.tails[name], total.places[:k], heavy)
        return dot(floats, floats), dot(floats, total.floats[:k])

    def _counts_of(self, name: str, stretch: Stretch, extremes: tuple[int, int]) -> Ints:
        """Return what a stretch is counted in; what gathers for another window is settled."""
        if stretch.where is None:
            return self.counts[name]
        if self._where.get(name, stretch.where) != stretch.where:
            self._settle(name)
        known = self._reach.get(name, extremes)
        self._reach[name] = min(extremes[0], known[0]), max(extremes[1], known[1])
        self._where[name] = stretch.where
        return self._gathering[name]

    def _sort_in(
        self,
        name: str,
        stretch: Stretch,
        places: Ints,
        values: Ints,
        weights: Ints,
        extremes: tuple[int, int],
    ) -> None:
        """Count each latency of a stretch in the window that its frame lies in."""
        coarse, work = self._coarse[: len(values)], self._work[: len(values)]
        if extremes[0] == 0:
            np.maximum(places, FIRST_PLACE, out=coarse)
            np.right_shift(coarse, COARSE, out=coarse)
        else:
            np.right_shift(places, COARSE, out=coarse)
        np.subtract(coarse, _COARSE_OF_ZERO, out=coarse)
        bounds = coarse_bin(extremes[0]), coarse_bin(extremes[1])
        for placement in stretch.placements:
            placement.add(name, coarse, values, weights, work, bounds)

    def _settle(self, name: str) -> None:
        """Move what has gathered for one window to it, and to the counts."""
        where = self._where.pop(name)
        low, high = map(coarse_bin, self._reach.pop(name))
        gathering, counts = self._gathering[name], self.counts[name]
        if low == 0:
            for windows, begin_ns in where:
                windows.add_run(name, begin_ns, 0, gathering[:1])
            counts[0] += gathering[0]
            gathering[0] = 0
            low = 1
        if high == 0:
            return
        reach = slice(FIRST_PLACE + _fine(low), FIRST_PLACE + _fine(high + 1))
        found = gathering[reach]
        coarse = np.add.reduceat(found, _COARSE_BEGINS[: high + 1 - low])
        for windows, begin_ns in where:
            windows.add_run(name, begin_ns, low, coarse)
        counts[reach] += found
        found[:] = 0

    def count_zeros(
        self,
        sums: Sums,
        name: str,
        chunk: Columns,
        weights: Ints | None,
        placed: Placed,
    ) -> None:
        """Count a latency of 0 for each frame of `chunk`."""
        k = len(chunk)
        ones = self.ones[:k] if weights is None else weights
        n = k if weights is None else int(weights.sum())
        self.stretch(name, 0, 0)
        span = sums.spans[name]
        if not span.peak and span.peak_frame != 0:  # no id is smaller
            span.add_peak(0, int(chunk.frame_id.min()))
        span.add_moments(n, 0, 0.0)
        for stretch in placed.stretches:
            block = slice(stretch.begin, stretch.end)
            count = stretch.end - stretch.begin if weights is None else weights[block].sum()
            self._counts_of(name, stretch, (0, 0))[0] += count
            if stretch.where is None:
                zeros = self._coarse[: stretch.end - stretch.begin]
                zeros.fill(0)  # its coarse bin is 0, too
                for placement in stretch.placements:
                    work = self._work[: len(zeros)]
                    placement.add(name, zeros, zeros, ones[block], work, (0, 0))

    def stretch(self, name: str, low: int, high: int) -> None:
        """Note which values are counted."""
        known = self._extremes.get(name, (low, high))
        self._extremes[name] = (min(low, known[0]), max(high, known[1]))

    def flush(self, sums: Sums) -> None:
        """Move what was counted into the sums, and leave the arrays at 0."""
        for name in list(self._where):
            self._settle(name)
        for name, (low, high) in self._extremes.items():
            first, last = bin_of(np.array([low, high], np.float64)).tolist()
            reach = slice(FIRST_PLACE + first, FIRST_PLACE + 1 + last)
            found = _drain(self.counts[name], reach, first)
            sums.spans[name].histogram.add_counts(first, found, low, high)
            if name == TOTAL:
                attributed = found - _drain(self.left_out, reach, first)
                tails = {part: _drain(self.tails[part], reach, first) for part in self.parts}
                sums.tails.add(first, attributed, tails)
        self._extremes.clear()


def _fine(coarse: int) -> int:
    """Return the first of the histogram's bins in a coarse bin above 0."""
    return ((coarse - 1) << COARSE) + 1


def _add_moments(name: str, latency: Ints, weights: Ints | None, stretch: Stretch) -> None:
    """Add sum and peak of a stretch to the windows that keep them."""
    for windows, begin_ns in stretch.where or ():
        if name in windows.sums:
            total = (latency if weights is None else latency * weights).sum()
            windows.add_moments(name, begin_ns, total, int(latency.max()))


def _drain(array: Ints, reach: slice, first: int) -> Ints:
    """Return what stands in the reach of places, from bin `first` on, and set it to 0."""
    if first == 0:
        # 0.0 has place 0, far from 1.0: next to it from here on
        array[FIRST_PLACE], array[0] = array[0], 0
    found = array[reach].copy()
    array[reach] = 0
    return found
