"""One span of a profile, and the comparison of stages in slow frames."""

import math
from dataclasses import dataclass

import numpy as np

from latprof.arrays import Ints
from latprof.fold.intervals import Percentile, percentile
from latprof.fold.sums import SpanSums, Tails
from latprof.histogram import Histogram, rank_of
from latprof.profile.curves import Curve, Ecdf, ecdf, percentile_curve

__all__ = ["TABLE_PERCENTILES", "Slice", "SpanProfile", "slice_of"]

TABLE_PERCENTILES = (50, 90, 99, 99.9)


@dataclass(frozen=True, slots=True)
class SpanProfile:
    """One span of a profile; times in ns, None where there are no values.

    `share` is the span's part of the end_to_end sum, over the attribution set (stages, other and
    end_to_end only). `batches` are its counts (time batches, coarse bins).
    """

    name: str
    kind: str
    sums: SpanSums
    share: float | None
    batches: Ints

    @property
    def count(self) -> int:
        """How many finished frames have the span."""
        return self.sums.count

    @property
    def missing(self) -> int:
        """How many finished frames lack one of its marks."""
        return self.sums.missing

    @property
    def negative(self) -> int:
        """How many finished frames have its end before its begin."""
        return self.sums.negative

    @property
    def total(self) -> int:
        """The exact sum, ns."""
        return self.sums.total

    @property
    def mean(self) -> float | None:
        """The mean, ns."""
        return self.total / self.count if self.count else None

    @property
    def std(self) -> float | None:
        """The standard deviation (n - 1), ns; None of fewer than two values."""
        return math.sqrt(max(self.sums.m2, 0.0) / (self.count - 1)) if self.count > 1 else None

    @property
    def min(self) -> int | None:
        """The smallest value, ns."""
        return self.sums.histogram.min

    @property
    def max(self) -> int | None:
        """The largest value (the peak), ns."""
        return self.sums.peak

    @property
    def peak_frame(self) -> int | None:
        """The id of the frame that set the peak."""
        return self.sums.peak_frame

    @property
    def histogram(self) -> Histogram:
        """The histogram of its values."""
        return self.sums.histogram

    @property
    def resolves(self) -> float | None:
        """The highest of the table's percentiles that the frames suffice for."""
        enough = [q for q in TABLE_PERCENTILES if self.percentile(q).low is not None]
        return max(enough, default=None)

    def percentile(self, q: float, *, independent: bool = False) -> Percentile:
        """Return the percentile `q` (0 to 100) with its interval, or why there is none.

        With `independent`, the interval is the one if frames were independent: frames that queue
        are not, and it is too narrow for them.
        """
        return percentile(self.histogram, self.batches, q, independent=independent)

    def ecdf(self) -> Ecdf:
        """Return the cumulative distribution: the share of values at or below each value (ns)."""
        return ecdf(self.histogram)

    def curve(self, *, per_decade: int = 12) -> Curve:
        """Return the percentiles from 0 to 100 with their intervals, ever denser towards 100."""
        return percentile_curve(self.histogram, self.batches, per_decade=per_decade)


@dataclass(frozen=True, slots=True)
class Slice:
    """The frames of some ranks of end_to_end: how many, and each stage's time in them (ns)."""

    frames: int
    sums: dict[str, float]

    def share(self, name: str) -> float | None:
        """Return the stage's part of the time of these frames."""
        whole = sum(self.sums.values())
        return self.sums[name] / whole if whole else None

    def mean(self, name: str) -> float | None:
        """Return the stage's mean in these frames, ns."""
        return self.sums[name] / self.frames if self.frames else None


def slice_of(tails: Tails, low: float, high: float) -> Slice:
    """Return the frames above percentile `low`, up to and with `high`; both 0 to 100.

    A bin that a limit cuts gives as much of its time as it gives of its frames.
    """
    n = int(tails.counts.sum())
    first = 0 if low == 0 else rank_of(low, n)
    last = rank_of(high, n)
    if n == 0:
        return Slice(0, dict.fromkeys(tails.sums, 0.0))
    filled = np.flatnonzero(tails.counts)
    counts = tails.counts[filled]
    upto = np.cumsum(counts)
    inside = np.minimum(upto, last) - np.maximum(upto - counts, first)
    part = np.clip(inside, 0, None) / counts
    sums = {name: float(column[filled] @ part) for name, column in tails.sums.items()}
    return Slice(max(last - first, 0), sums)
