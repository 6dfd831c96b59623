"""Cumulative curves of a span: what share took at most how long, and each percentile's interval.

Both are answers of a histogram with a bounded number of points, however many frames there are.
"""

from dataclasses import dataclass

import numpy as np

from latprof.arrays import Floats, Ints
from latprof.fold.intervals import percentile
from latprof.histogram import Histogram, bin_edges

__all__ = ["Curve", "Ecdf", "ecdf", "percentile_curve"]

POINTS = 1_000
"""Most steps of height, and of width, that an `Ecdf` keeps apart."""


@dataclass(frozen=True, slots=True)
class Ecdf:
    """The share (k,) of values at or below `value_ns` (k,), ascending; the last share is 1."""

    value_ns: Ints
    share: Floats


@dataclass(frozen=True, slots=True)
class Curve:
    """Percentiles `q` (k,) ascending, their values, and their 95 % intervals; all in ns.

    `low` and `high` (k,) are NaN where the frames do not suffice for an interval.
    """

    q: Floats
    value_ns: Ints
    low: Floats
    high: Floats


def ecdf(histogram: Histogram) -> Ecdf:
    """Return the cumulative distribution of a histogram's values.

    A step stands at the largest value of its bin, so that the share at each `value_ns` is exact.
    Steps nearer to the next one than 1/1,000 of the height and of the width, which is taken on a
    logarithmic axis, are left out.

    Examples
    --------
    >>> histogram = Histogram()
    >>> histogram.add(np.array([3, 5, 5, 9]))
    >>> curve = ecdf(histogram)
    >>> curve.value_ns.tolist(), curve.share.tolist()
    ([3, 5, 9], [0.25, 0.75, 1.0])
    """
    filled = np.flatnonzero(histogram.bins)
    if histogram.max is None or not len(filled):
        return Ecdf(np.zeros(0, np.int64), np.zeros(0))
    values = np.minimum(bin_edges(filled)[1], histogram.max)
    upto = np.cumsum(histogram.bins[filled])
    share = upto / upto[-1]
    if len(values) > POINTS:
        width = np.log(np.maximum(values, 1))
        reach = max(width[-1] - width[0], 1e-9)
        cell = np.floor(share * POINTS) + np.floor((width - width[0]) / reach * POINTS)
        kept = np.append(np.diff(cell) > 0, True)
        values, share = values[kept], share[kept]
    return Ecdf(values, share)


def percentile_curve(histogram: Histogram, batches: Ints, *, per_decade: int = 12) -> Curve:
    """Return the percentiles from 0 up to the last that one frame makes, and then 100.

    Parameters
    ----------
    histogram
        Of all values.
    batches
        Counts (time batches, coarse bins) of the same values.
    per_decade
        How many percentiles each tenth of what is left has: between 90 and 99, 99 and 99.9.

    Examples
    --------
    >>> histogram = Histogram()
    >>> histogram.add(np.arange(1, 101))
    >>> curve = percentile_curve(histogram, np.zeros((0, 1), np.int64), per_decade=2)
    >>> curve.q.round(2).tolist(), curve.value_ns.tolist()
    ([0.0, 68.38, 90.0, 96.84, 99.0, 100.0], [1, 69, 90, 97, 99, 100])
    """
    n = histogram.count
    if n == 0:
        return Curve(np.zeros(0), np.zeros(0, np.int64), np.zeros(0), np.zeros(0))
    steps = int(np.floor(np.log10(n) * per_decade + 1e-9))
    qs = [round(100 - 100 * 10 ** (-k / per_decade), 12) for k in range(steps + 1)]
    known = [percentile(histogram, batches, q) for q in (*qs, 100.0)]
    return Curve(
        np.array([p.q for p in known]),
        np.array([p.value for p in known], np.int64),
        np.array([np.nan if p.low is None else p.low for p in known]),
        np.array([np.nan if p.high is None else p.high for p in known]),
    )
