"""Counting latencies by bin, a chunk at a time: the arrays that a fold works in.

Counts are scattered with `np.add.at` into arrays that have a place for every float64 (most of it
is never touched, so never in memory): the place of a value is its bits, shifted; no search, no
result to allocate. They are moved into the sums at the end, over the reach of the values alone.
"""

import numpy as np
import numpy.typing as npt

from latprof.columns import MISSING, Columns
from latprof.histogram import FIRST_PLACE, PLACES, SHIFT, bin_of
from latprof.moments import comoment, exact_sum, is_spread
from latprof.pipeline import Pipeline
from latprof.sums import Sums
from latprof.tally import add_edges, frames_in
from latprof.windows import COARSE, Placement, coarse_bin

__all__ = ["BLOCK", "CHUNK", "TOTAL", "Bins", "Counted"]

CHUNK = 65_536
"""Rows folded at a time: a second-level cache holds what is worked on."""

BLOCK = 16_384
"""Rows of a chunk that are scattered at a time."""

TOTAL = "end_to_end"

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

# coarse bin of a place: 0 for the value 0, from 1 on for the value 1 and more
_COARSE_OF_ZERO = ((FIRST_PLACE + 1) >> COARSE) - 1


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
        self.counts = {name: np.zeros(PLACES, np.int64) for name in names}
        # end_to_end of the attribution set
        self.attributed = np.zeros(PLACES, np.int64)
        self.tails = {name: np.zeros(PLACES, np.int64) for name in self.parts}
        self.ones = np.ones(size, np.int64)
        self._total = np.empty(size), np.empty(size, np.int64)
        self._floats = np.empty(BLOCK)
        self._places = np.empty(BLOCK, np.int64)
        self._coarse = np.empty(BLOCK, np.int64)
        self._work = np.empty(size, np.int64)
        self._extremes: dict[str, tuple[int, int]] = {}

    def count(
        self,
        sums: Sums,
        name: str,
        latency: Ints,
        chunk: Columns,
        weights: Ints | None,
        placed: list[Placement],
        total: Counted | None = None,
    ) -> Counted:
        """Count n > 0 latencies of 0 and more, of the frames of `chunk`.

        With `total`, what end_to_end has given for the same frames, the latencies are also added
        to the tails, and their co-moment is worked out. What is returned for end_to_end holds
        until its next call.
        """
        k = len(latency)
        low, high = int(latency.min()), int(latency.max())
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
            sums.worst.add(chunk, latency, MISSING)
        ones = self.ones[:k] if weights is None else weights
        n = k if weights is None else int(weights.sum())
        counted = Counted(*self._total, n, exact_sum(latency, high, weights))
        own, cross = self._scatter(sums, name, latency, (low, high), chunk, ones, placed, total)
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
        sums: Sums,
        name: str,
        latency: Ints,
        extremes: tuple[int, int],
        chunk: Columns,
        ones: Ints,
        placed: list[Placement],
        total: Counted | None,
    ) -> tuple[float, float]:
        """Count latencies block by block: what is worked on stays in the first caches.

        Returns the sum of their squares, and of their products with end_to_end.
        """
        counts, is_total = self.counts[name], name == TOTAL
        bounds = coarse_bin(extremes[0]), coarse_bin(extremes[1])
        own = cross = 0.0
        for begin in range(0, len(latency), BLOCK):
            block = slice(begin, begin + BLOCK)
            values, weights = latency[block], ones[block]
            m = len(values)
            if is_total:
                floats, places = self._total[0][block][:m], self._total[1][block][:m]
            else:
                floats, places = self._floats[:m], self._places[:m]
            np.copyto(floats, values)
            np.right_shift(floats.view(np.int64), SHIFT, out=places)
            np.add.at(counts, places, weights)
            own += float(np.einsum("i,i->", floats, floats))
            if total is not None:
                cross += float(np.einsum("i,i->", floats, total.floats[block][:m]))
                heavy = values if ones is self.ones or ones.base is self.ones else values * weights
                np.add.at(self.tails[name], total.places[block][:m], heavy)
            if not placed and not is_total:
                continue
            coarse = self._coarse[:m]
            if extremes[0] == 0:
                np.maximum(places, FIRST_PLACE, out=coarse)
                np.right_shift(coarse, COARSE, out=coarse)
            else:
                np.right_shift(places, COARSE, out=coarse)
            np.subtract(coarse, _COARSE_OF_ZERO, out=coarse)
            for placement in placed:
                placement.part(block).add(name, coarse, values, weights, self._work[:m], bounds)
            if is_total:
                np.minimum.at(sums.exemplars, coarse, chunk.frame_id[block])
        return own, cross

    def count_zeros(
        self,
        sums: Sums,
        name: str,
        chunk: Columns,
        weights: Ints | None,
        placed: list[Placement],
    ) -> None:
        """Count a latency of 0 for each frame of `chunk`."""
        k = len(chunk)
        ones = self.ones[:k] if weights is None else weights
        n = k if weights is None else int(weights.sum())
        self.stretch(name, 0, 0)
        self.counts[name][0] += n
        span = sums.spans[name]
        if not span.peak:
            span.add_peak(0, int(chunk.frame_id.min()))
        span.add_moments(n, 0, 0.0)
        zeros = np.zeros(k, np.int64)  # the coarse bin of 0 is 0, too
        for placement in placed:
            placement.add(name, zeros, zeros, ones, self._work[:k])

    def stretch(self, name: str, low: int, high: int) -> None:
        """Note which values are counted."""
        known = self._extremes.get(name, (low, high))
        self._extremes[name] = (min(low, known[0]), max(high, known[1]))

    def flush(self, sums: Sums) -> None:
        """Move what was counted into the sums, and leave the arrays at 0."""
        for name, (low, high) in self._extremes.items():
            first, last = bin_of(np.array([low, high], np.float64)).tolist()
            reach = slice(FIRST_PLACE + first, FIRST_PLACE + 1 + last)
            found = _drain(self.counts[name], reach, first)
            sums.spans[name].histogram.add_counts(first, found, low, high)
            if name == TOTAL:
                attributed = _drain(self.attributed, reach, first)
                tails = {part: _drain(self.tails[part], reach, first) for part in self.parts}
                sums.tails.add(first, attributed, tails)
        self._extremes.clear()


def _drain(array: Ints, reach: slice, first: int) -> Ints:
    """Return what stands in the reach of places, from bin `first` on, and set it to 0."""
    if first == 0:
        # 0.0 has place 0, far from 1.0: next to it from here on
        array[FIRST_PLACE], array[0] = array[0], 0
    found = array[reach].copy()
    array[reach] = 0
    return found
