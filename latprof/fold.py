"""The fold: columns of frames in, mergeable sums out, in chunks that stay in the cache.

A chunk in which every mark is there and nothing is negative takes the straight way, without a
mask or a copy; the others are right, not quick. Counts by bin are scattered with `np.add.at` into
arrays that have a place for every float64 (most of it is never touched, so never in memory):
the place of a value is its bits, shifted; no subtraction, no search, no result to allocate.
"""

import numpy as np
import numpy.typing as npt

from latprof.columns import MISSING, STAMP_LIMIT, Columns
from latprof.errors import TraceError
from latprof.histogram import FIRST_PLACE, PLACES, SHIFT, bin_of
from latprof.moments import comoment, exact_sum, is_spread, squares
from latprof.pipeline import Pipeline, Span
from latprof.sums import Sums
from latprof.tally import add_dropped, add_edges, add_sizes, add_times, frames_in
from latprof.windows import COARSE, Placement

__all__ = ["CHUNK", "Fold"]

CHUNK = 65_536
"""Rows folded at a time: a second-level cache holds what is worked on."""

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

_TOTAL = "end_to_end"
# coarse bin of a place: 0 for the value 0, from 1 on for the value 1 and more
_COARSE_OF_ZERO = ((FIRST_PLACE + 1) >> COARSE) - 1


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
        names = [*(span.name for span in pipeline.all_spans), "other"]
        self._parts = [*(stage.name for stage in pipeline.stages), "other"]
        self._latency = {name: np.empty(CHUNK, np.int64) for name in names}
        self._floats = {name: np.empty(CHUNK) for name in names}
        self._places = np.empty(CHUNK, np.int64)
        self._total_places = np.empty(CHUNK, np.int64)
        self._coarse = np.empty(CHUNK, np.int64)
        self._work = np.empty(CHUNK, np.int64)
        self._ones = np.ones(CHUNK, np.int64)
        # end_to_end is counted apart for chunks that are the attribution set as they are
        self._counts = {
            name: np.zeros(PLACES, np.int64) for name in (*names, "straight", "attributed")
        }
        self._tails = {name: np.zeros(PLACES, np.int64) for name in self._parts}
        self._extremes: dict[str, tuple[int, int]] = {}
        self._troubles: dict[str, tuple[int, int]] = {}  # of the chunk: missing, negative
        self._farthest: dict[str, int] = {}  # of the chunk: the size of each span's longest
        self._moments: dict[str, tuple[int, int, float]] = {}  # of the chunk: n, total, m2

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
            self._flush(sums)

    # -- a chunk --------------------------------------------------------------------------------

    def _add_finished(self, sums: Sums, chunk: Columns) -> None:
        weights = None
        if chunk.weight is not None and (chunk.weight != 1).any():
            weights = chunk.weight.astype(np.int64)
        complete = {
            mark: mark in chunk.complete or int(column.min()) != MISSING
            for mark, column in chunk.marks.items()
        }
        valid = {
            span.name: self._measure(chunk, span, complete, weights)
            for span in self.pipeline.all_spans
        }
        for name, (missing, negative) in self._troubles.items():
            sums.spans[name].missing += missing
            sums.spans[name].negative += negative
        sums.finished += len(chunk) if weights is None else int(weights.sum())
        placed = add_times(sums, chunk, complete)
        add_sizes(sums, chunk, weights)
        straight = self._is_straight(valid, len(chunk))
        for name, mask in valid.items():
            self._add_span(sums, name, mask, chunk, weights, placed, straight)
        if straight:
            self._attribute_all(sums, chunk, weights, placed)
        else:
            self._attribute_some(sums, chunk, weights, placed, valid)

    def _measure(
        self, chunk: Columns, span: Span, complete: dict[str, bool], weights: Ints | None
    ) -> Mask | None:
        """Work out a span's latencies; return where they are one (None: everywhere).

        A latency that is missing is left as 0, a negative one as it is.
        """
        begin, end = chunk.marks[span.begin], chunk.marks[span.end]
        latency = np.subtract(end, begin, out=self._latency[span.name][: len(chunk)])
        mask: Mask | None = None
        missing = negative = 0
        if not (complete[span.begin] and complete[span.end]):
            absent = (begin == MISSING) | (end == MISSING)
            missing = frames_in(absent, weights)
            latency[absent] = 0
            mask = ~absent
        low, high = int(latency.min()), int(latency.max())
        if max(-low, high) >= STAMP_LIMIT:
            raise TraceError(
                f"span {span.name!r} of a frame lasts {STAMP_LIMIT} ns or more: its stamps "
                "are not times of one clock, correct them or leave the frame out"
            )
        self._farthest[span.name] = max(-low, high)
        if low < 0:
            backwards = latency < 0
            negative = frames_in(backwards, weights)
            mask = ~backwards if mask is None else mask & ~backwards
        self._troubles[span.name] = missing, negative
        return mask

    def _is_straight(self, valid: dict[str, Mask | None], n: int) -> bool:
        """Work out `other`; return whether the attribution set is the whole chunk."""
        other = self._latency["other"][:n]
        np.copyto(other, self._latency[_TOTAL][:n])
        farthest = sum(self._farthest[name] for name in (*self._parts[:-1], _TOTAL))
        for stage in self.pipeline.stages:
            np.subtract(other, self._latency[stage.name][:n], out=other)
            if farthest >= 2**63:  # what is below 0 stays there, it does not wrap around
                np.maximum(other, -1, out=other)
        masks = (valid[name] for name in (*self._parts[:-1], _TOTAL))
        return all(mask is None for mask in masks) and int(other.min()) >= 0

    def _add_span(
        self,
        sums: Sums,
        name: str,
        mask: Mask | None,
        chunk: Columns,
        weights: Ints | None,
        placed: list[Placement],
        straight: bool,
    ) -> None:
        """Add the latencies of a span where the mask allows it."""
        latency, ids = self._latency[name][: len(chunk)], chunk.frame_id
        if mask is not None:
            latency, ids = latency[mask], ids[mask]
            weights = None if weights is None else weights[mask]
            placed = [placement.where(mask) for placement in placed]
        k = len(latency)
        if k == 0:
            return
        span = sums.spans[name]
        low, high = int(latency.min()), int(latency.max())
        self._stretch(name, low, high)
        if span.peak is None or high >= span.peak:
            span.add_peak(high, int(ids[latency == high].min()))
        floats = self._floats[name][:k]
        np.copyto(floats, latency)
        target, out = name, self._places
        if sums.deadline_ns is not None and name == sums.promised and high > sums.deadline_ns:
            sums.late += frames_in(latency > sums.deadline_ns, weights)
        if name == _TOTAL:
            add_edges(sums, latency, low, high, weights)
            sums.worst.add(chunk if mask is None else chunk.take(mask), latency, MISSING)
            target, out = ("straight" if straight else name), self._total_places
        places = np.right_shift(floats.view(np.int64), SHIFT, out=out[:k])
        ones = self._ones[:k] if weights is None else weights
        np.add.at(self._counts[target], places, ones)
        self._add_windows(sums, name, places, low, latency, ids, ones, placed)
        n = k if weights is None else int(weights.sum())
        total = exact_sum(latency, high, weights)
        m2 = squares(floats, weights, n, total / n)
        span.add_moments(n, total, m2)
        self._moments[name] = (n, total, m2)

    def _add_windows(
        self,
        sums: Sums,
        name: str,
        places: Ints,
        low: int,
        latency: Ints,
        ids: npt.NDArray[np.uint64],
        ones: Ints,
        placed: list[Placement],
    ) -> None:
        if low == 0:
            places = np.maximum(places, FIRST_PLACE)
        coarse = np.right_shift(places, COARSE, out=self._coarse[: len(places)])
        np.subtract(coarse, _COARSE_OF_ZERO, out=coarse)
        for placement in placed:
            placement.add(name, coarse, latency, ones, self._work[: len(coarse)])
        if name == _TOTAL:
            np.minimum.at(sums.exemplars, coarse, ids)

    def _attribute_all(
        self, sums: Sums, chunk: Columns, weights: Ints | None, placed: list[Placement]
    ) -> None:
        if sums.gaps:
            self._add_span(sums, "other", None, chunk, weights, placed, True)
        else:
            self._add_no_other(sums, chunk, weights, placed)
        n, whole, m2 = self._moments[_TOTAL]
        places = self._total_places[: len(chunk)]
        floats = self._floats[_TOTAL][: len(chunk)]
        spread = is_spread(n, whole / n, m2)
        shares, covariances = {_TOTAL: whole}, {}
        for name in self._parts:
            _, shares[name], part_m2 = self._moments[name]
            if not shares[name]:  # all of it is 0
                covariances[name] = 0.0
                continue
            mean = shares[name] / n
            covariances[name] = comoment(
                self._floats[name][: len(chunk)],
                floats,
                weights,
                n,
                mean,
                whole / n,
                spread=spread and is_spread(n, mean, part_m2),
            )
            latency = self._latency[name][: len(chunk)]
            heavy = latency if weights is None else latency * weights
            np.add.at(self._tails[name], places, heavy)
        sums.add_attributed(n, shares, covariances)
        for begin, end in sums.gaps:
            gap = chunk.marks[end] - chunk.marks[begin]
            # other is at least 0, but one of several gaps may be negative
            _add_gap(sums, begin, end, np.maximum(gap, 0, out=gap), weights)

    def _add_no_other(
        self, sums: Sums, chunk: Columns, weights: Ints | None, placed: list[Placement]
    ) -> None:
        """Add zeros: stages that meet from start to end leave nothing to `other`."""
        n = self._moments[_TOTAL][0]
        self._stretch("other", 0, 0)
        self._counts["other"][0] += n
        self._moments["other"] = (n, 0, 0.0)
        span = sums.spans["other"]
        if not span.peak:
            span.add_peak(0, int(chunk.frame_id.min()))
        span.add_moments(n, 0, 0.0)
        zeros = self._latency["other"][: len(chunk)]  # the coarse bin of 0 is 0, too
        ones = self._ones[: len(chunk)] if weights is None else weights
        for placement in placed:
            placement.add("other", zeros, zeros, ones, self._work[: len(chunk)])

    def _attribute_some(
        self,
        sums: Sums,
        chunk: Columns,
        weights: Ints | None,
        placed: list[Placement],
        valid: dict[str, Mask | None],
    ) -> None:
        keep = self._attribution_set(sums, valid, weights, len(chunk))
        self._add_span(sums, "other", keep, chunk, weights, placed, False)
        weights = None if weights is None else weights[keep]
        total = self._latency[_TOTAL][: len(chunk)][keep]
        if len(total) == 0:
            return
        n = len(total) if weights is None else int(weights.sum())
        high = int(total.max())
        floats = total.astype(np.float64)
        places = floats.view(np.int64) >> SHIFT
        np.add.at(
            self._counts["attributed"],
            places,
            self._ones[: len(total)] if weights is None else weights,
        )
        shares, covariances = {_TOTAL: exact_sum(total, high, weights)}, {}
        for name in self._parts:
            latency = self._latency[name][: len(chunk)][keep]
            shares[name] = exact_sum(latency, high, weights)
            covariances[name] = comoment(
                latency.astype(np.float64),
                floats,
                weights,
                n,
                shares[name] / n,
                shares[_TOTAL] / n,
                spread=False,
            )
            np.add.at(self._tails[name], places, latency if weights is None else latency * weights)
        sums.add_attributed(n, shares, covariances)
        for begin, end in sums.gaps:
            early, late = chunk.marks[begin][keep], chunk.marks[end][keep]
            unknown = (early == MISSING) | (late == MISSING) | (late < early)
            _add_gap(sums, begin, end, np.where(unknown, 0, late - early), weights)

    def _attribution_set(
        self, sums: Sums, valid: dict[str, Mask | None], weights: Ints | None, n: int
    ) -> Mask:
        """Return the attribution set; what it leaves out is counted by the first reason."""
        keep = np.ones(n, bool)

        def leave_out(reason: str, which: Mask) -> None:
            count = frames_in(which & keep, weights)
            if count:
                sums.excluded[reason] += count
                keep[which] = False

        known = valid[_TOTAL]
        if known is not None:
            negative = self._latency[_TOTAL][:n] < 0
            leave_out("end_to_end negative", negative)
            leave_out("end_to_end missing", ~known & ~negative)
        for stage in self.pipeline.stages:
            if valid[stage.name] is not None:
                leave_out(f"{stage.name} negative", self._latency[stage.name][:n] < 0)
        leave_out("stages longer than end_to_end", self._latency["other"][:n] < 0)
        return keep

    # -- from the work arrays into the sums -----------------------------------------------------

    def _stretch(self, name: str, low: int, high: int) -> None:
        known = self._extremes.get(name, (low, high))
        self._extremes[name] = (min(low, known[0]), max(high, known[1]))

    def _flush(self, sums: Sums) -> None:
        """Move what was counted into the sums, and leave the work arrays at 0."""
        for name, (low, high) in self._extremes.items():
            first = int(bin_of(np.array([low], np.float64))[0])
            reach = slice(FIRST_PLACE + first, FIRST_PLACE + 1 + _bin(high))
            found = _drain(self._counts[name], reach, first)
            if name == _TOTAL:
                straight = _drain(self._counts["straight"], reach, first)
                attributed = _drain(self._counts["attributed"], reach, first) + straight
                found = found + straight
                parts = {part: _drain(self._tails[part], reach, first) for part in self._parts}
                sums.tails.add(first, attributed, parts)
            sums.spans[name].histogram.add_counts(first, found, low, high)
        self._extremes.clear()


def _bin(value: int) -> int:
    return int(bin_of(np.array([value], np.float64))[0])


def _drain(array: Ints, reach: slice, first: int) -> Ints:
    """Return what stands in the reach of places, from bin `first` on, and set it to 0."""
    if first == 0:
        # 0.0 has place 0, far from 1.0: next to it from here on
        array[FIRST_PLACE], array[0] = array[0], 0
    found = array[reach].copy()
    array[reach] = 0
    return found


def _add_gap(sums: Sums, begin: str, end: str, gap: Ints, weights: Ints | None) -> None:
    sums.gaps[begin, end] += exact_sum(gap, int(gap.max()), weights)
