"""Counting latencies by bin, a chunk at a time: the arrays that a fold works in.

Counts are scattered with `np.add.at` into arrays that have a place for every float64 (most of it
is never touched, so never in memory): the place of a value is its bits, shifted; no search, no
result to allocate. They are moved into the sums at the end, over the reach of the values alone.
"""

import numpy as np
import numpy.typing as npt

from latprof.columns import MISSING, Columns
from latprof.histogram import FIRST_PLACE, PLACES, SHIFT, bin_of
from latprof.moments import exact_sum, squares
from latprof.pipeline import Pipeline
from latprof.sums import Sums
from latprof.tally import add_edges, frames_in
from latprof.windows import COARSE, Placement, coarse_bin

__all__ = ["CHUNK", "TOTAL", "Bins", "Counted"]

CHUNK = 65_536
"""Rows folded at a time: a second-level cache holds what is worked on."""

TOTAL = "end_to_end"

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Ids = npt.NDArray[np.uint64]

# coarse bin of a place: 0 for the value 0, from 1 on for the value 1 and more
_COARSE_OF_ZERO = ((FIRST_PLACE + 1) >> COARSE) - 1


class Counted:
    """A chunk's latencies of one span as floats and as places, and what they add up to."""

    __slots__ = ("floats", "m2", "n", "places", "total")

    def __init__(self, floats: Floats, places: Ints, n: int, total: int, m2: float) -> None:
        self.floats = floats
        self.places = places
        self.n = n
        self.total = total
        self.m2 = m2


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
        # end_to_end has arrays of its own: the stages are compared with it
        self._floats = np.empty(size), np.empty(size)
        self._places = np.empty(size, np.int64), np.empty(size, np.int64)
        self._coarse = np.empty(size, np.int64)
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
    ) -> Counted:
        """Count n > 0 latencies of 0 and more, of the frames of `chunk`.

        What is returned holds until the next call; that of end_to_end until its next one.
        """
        k = len(latency)
        low, high = int(latency.min()), int(latency.max())
        known = self._extremes.get(name)
        if known is None or low < known[0] or high > known[1]:
            self.stretch(name, low, high)
        span = sums.spans[name]
        if span.peak is None or high >= span.peak:
            span.add_peak(high, int(chunk.frame_id[latency == high].min()))
        own = name == TOTAL
        floats, places = self._floats[own][:k], self._places[own][:k]
        np.copyto(floats, latency)
        np.right_shift(floats.view(np.int64), SHIFT, out=places)
        ones = self.ones[:k] if weights is None else weights
        np.add.at(self.counts[name], places, ones)
        if placed or own:
            coarse = self._coarse[:k]
            if low == 0:
                np.maximum(places, FIRST_PLACE, out=coarse)
                np.right_shift(coarse, COARSE, out=coarse)
            else:
                np.right_shift(places, COARSE, out=coarse)
            np.subtract(coarse, _COARSE_OF_ZERO, out=coarse)
            bounds = coarse_bin(low), coarse_bin(high)
            for placement in placed:
                placement.add(name, coarse, latency, ones, self._work[:k], bounds)
        if sums.deadline_ns is not None and name == sums.promised and high > sums.deadline_ns:
            sums.late += frames_in(latency > sums.deadline_ns, weights)
        if own:
            add_edges(sums, latency, low, high, weights)
            sums.worst.add(chunk, latency, MISSING)
            np.minimum.at(sums.exemplars, coarse, chunk.frame_id)
        n = k if weights is None else int(weights.sum())
        total = exact_sum(latency, high, weights)
        m2 = squares(floats, weights, n, total / n)
        span.add_moments(n, total, m2)
        return Counted(floats, places, n, total, m2)

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
        zeros = self._coarse[:k]  # the coarse bin of 0 is 0, too
        zeros[:] = 0
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
