"""Folding a chunk in which marks are missing or spans are negative: right, not quick."""

import numpy as np

from latprof.arrays import Ints, Mask
from latprof.fold.counting import TOTAL, Bins, Latencies
from latprof.fold.moments import comoment, exact_sum
from latprof.fold.stretches import Placed
from latprof.fold.sums import Sums
from latprof.fold.tally import frames_in
from latprof.frames import MISSING, Columns
from latprof.histogram import SHIFT
from latprof.pipeline import Pipeline, Span

__all__ = ["Measured", "add_measured", "fold_odd", "measure"]


class Measured:
    """A chunk's latencies of one span, and where they are one (None: everywhere).

    A latency that is missing stands as 0, a negative one as it is.
    """

    __slots__ = ("farthest", "latency", "mask", "missing", "negative")

    def __init__(
        self, latency: Ints, mask: Mask | None, missing: int, negative: int, farthest: int
    ) -> None:
        self.latency = latency
        self.mask = mask
        self.missing = missing
        self.negative = negative
        self.farthest = farthest


def measure(
    chunk: Columns,
    span: Span,
    complete: dict[str, bool],
    weights: Ints | None,
    out: Ints | None = None,
) -> Measured:
    """Work out a span's latencies, into `out` if it is given."""
    begin, end = chunk.marks[span.begin], chunk.marks[span.end]
    latency = np.subtract(end, begin, out=out)
    mask: Mask | None = None
    missing = negative = 0
    if not (complete[span.begin] and complete[span.end]):
        absent = (begin == MISSING) | (end == MISSING)
        missing = frames_in(absent, weights)
        latency[absent] = 0
        mask = ~absent
    low, high = int(latency.min()), int(latency.max())
    if low < 0:
        backwards = latency < 0
        negative = frames_in(backwards, weights)
        mask = ~backwards if mask is None else mask & ~backwards
    return Measured(latency, mask, missing, negative, max(-low, high))


def add_measured(
    bins: Bins,
    sums: Sums,
    name: str,
    measured: Measured,
    chunk: Columns,
    weights: Ints | None,
    placed: Placed,
) -> None:
    """Count the latencies of a span where there is one."""
    sums.spans[name].missing += measured.missing
    sums.spans[name].negative += measured.negative
    latency, mask = measured.latency, measured.mask
    if mask is not None:
        latency, chunk = latency[mask], chunk.take(mask)
        weights = None if weights is None else weights[mask]
        placed = placed.where(mask)
    if len(latency):
        bins.count(sums, name, Latencies(latency), chunk, weights, placed)


def fold_odd(
    bins: Bins,
    sums: Sums,
    pipeline: Pipeline,
    chunk: Columns,
    measured: dict[str, Measured],
    weights: Ints | None,
    placed: Placed,
) -> None:
    """Fold a chunk of finished frames whose spans are all measured."""
    for name, span in measured.items():
        add_measured(bins, sums, name, span, chunk, weights, placed)
    other = _other(pipeline, measured)
    keep = _attribution_set(sums, pipeline, measured, other, weights)
    whole = measured[TOTAL]
    unkept = ~keep if whole.mask is None else whole.mask & ~keep
    ones = bins.ones[: len(chunk)] if weights is None else weights
    np.add.at(bins.left_out, _places(whole.latency[unkept]), ones[unkept])
    total = whole.latency[keep]
    if len(total) == 0:
        return
    kept = chunk.take(keep)
    weights = None if weights is None else weights[keep]
    ones = bins.ones[: len(total)] if weights is None else weights
    n, high = int(ones.sum()), int(total.max())
    places = _places(total)
    shares, covariances = {TOTAL: exact_sum(total, high, weights)}, {}
    for name in bins.parts:
        latency = (other if name == "other" else measured[name].latency)[keep]
        shares[name] = exact_sum(latency, high, weights)
        covariances[name] = comoment(
            latency.astype(np.float64),
            total.astype(np.float64),
            weights,
            n,
            shares[name] / n,
            shares[TOTAL] / n,
            spread=False,
        )
        np.add.at(bins.tails[name], places, latency * ones)
    sums.add_attributed(n, shares, covariances)
    for begin, end in sums.gaps:
        early, late = kept.marks[begin], kept.marks[end]
        unknown = (early == MISSING) | (late == MISSING) | (late < early)
        gap = np.where(unknown, 0, late - early)
        sums.gaps[begin, end] += exact_sum(gap, int(gap.max()), weights)
    bins.count(sums, "other", Latencies(other[keep]), kept, weights, placed.where(keep))


def _places(latency: Ints) -> Ints:
    return latency.astype(np.float64).view(np.int64) >> SHIFT


def _other(pipeline: Pipeline, measured: dict[str, Measured]) -> Ints:
    """Return end_to_end minus the stages; below 0 where they are longer, however much."""
    other = measured[TOTAL].latency.copy()
    names = [stage.name for stage in pipeline.stages]
    farthest = sum(measured[name].farthest for name in (*names, TOTAL))
    for name in names:
        np.subtract(other, measured[name].latency, out=other)
        if farthest >= 2**63:  # what is below 0 stays there, it does not wrap around
            np.maximum(other, -1, out=other)
    return other


def _attribution_set(
    sums: Sums,
    pipeline: Pipeline,
    measured: dict[str, Measured],
    other: Ints,
    weights: Ints | None,
) -> Mask:
    """Return the attribution set; what it leaves out is counted by the first reason."""
    keep = np.ones(len(other), bool)

    def leave_out(reason: str, which: Mask) -> None:
        count = frames_in(which & keep, weights)
        if count:
            sums.excluded[reason] += count
            keep[which] = False

    total = measured[TOTAL]
    if total.mask is not None:
        negative = total.latency < 0
        leave_out("end_to_end negative", negative)
        leave_out("end_to_end missing", ~total.mask & ~negative)
    for stage in pipeline.stages:
        if measured[stage.name].mask is not None:
            leave_out(f"{stage.name} negative", measured[stage.name].latency < 0)
    leave_out("stages longer than end_to_end", other < 0)
    return keep
