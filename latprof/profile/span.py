"""One span of a profile: its numbers, percentiles and cumulative curves."""

import math
import warnings
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from numbers import Real
from typing import Any, Self

import numpy as np

from latprof.arrays import Floats, Ints
from latprof.errors import ProfileError
from latprof.fold.grids import resolution_of
from latprof.fold.intervals import Percentile, percentile
from latprof.fold.sums import SpanSums
from latprof.histogram import Histogram, bin_edges, rank_of
from latprof.profile.build import Bins
from latprof.text import counted, quoted
from latprof.units import format_ns

__all__ = [
    "TABLE_PERCENTILES",
    "Curve",
    "Ecdf",
    "SpanProfile",
    "check_integer",
    "check_percentile",
    "check_percentiles",
    "ecdf",
    "percentile_curve",
    "percentile_key",
    "within_bins",
]

TABLE_PERCENTILES = (50, 90, 99, 99.9)
"""The percentiles that report, notebook and page show (`latprof.profile.tables` ranks them)."""

FEWEST_ON_GRID = 30  # values; with fewer of them, multiples of a step may be a coincidence
STEPS_IN_PERCENTILE = 20  # times of fewer steps are doubtful: rounding moves them by up to 5 %

POINTS = 1_000
"""Most steps of height, and most of width, that an `Ecdf` keeps apart."""


@dataclass(frozen=True, slots=True)
class Ecdf:
    """The share (k,) of values at or below `value_ns` (k,), ascending; the last share is 1."""

    value_ns: Ints
    share: Floats


@dataclass(frozen=True, slots=True)
class Curve:
    """Percentiles `q` (k,) ascending, their values, and their 95 % intervals; times in ns.

    `low` and `high` (k,) are NaN if there are not enough frames for an interval.
    """

    q: Floats
    value_ns: Ints
    low: Floats
    high: Floats


@dataclass(frozen=True, slots=True, repr=False)
class SpanProfile:
    """One span of a profile; times in ns, None if there are no values.

    Attributes
    ----------
    name, kind
        Name of the span; ``"stage"``, ``"side"``, ``"other"`` or ``"total"``.
    count, missing, negative
        How many finished frames have the span, lack one of its marks, or have its end before its
        begin.
    most_negative
        The most negative of the negative lengths, or 0 if there are none.
    step
        The largest step of which all values are multiples, ns; 1 if it is below 1 us, 0 if no
        value is above 0.
    total, mean, std
        The exact sum, the mean, and the standard deviation (n - 1; None for fewer than 2 values).
    min, max, peak_frame
        The smallest and the largest value, and the id of the frame with the largest one.
    share
        The span's part of the sum of end_to_end, over the attribution set; None for sides and for
        response.
    histogram
        Counts of the values.
    batches
        Counts (time batches, coarse bins) of the values, for the intervals of percentiles.
    bins
        Bins of the histogram of another tool; None if the values are known.
    """

    name: str
    kind: str
    count: int
    missing: int
    negative: int
    most_negative: int
    step: int
    total: int
    mean: float | None
    std: float | None
    min: int | None
    max: int | None
    peak_frame: int | None
    share: float | None
    histogram: Histogram
    batches: Ints
    bins: Bins | None = None

    @classmethod
    def of(cls, name: str, kind: str, sums: SpanSums, share: float | None, batches: Ints) -> Self:
        """Return the span of these sums."""
        n, total, histogram = sums.count, sums.total, sums.histogram
        return cls(
            name,
            kind,
            n,
            sums.missing,
            sums.negative,
            sums.most_negative,
            sums.step,
            total,
            total / n if n else None,
            math.sqrt(max(sums.m2, 0.0) / (n - 1)) if n > 1 else None,
            histogram.min,
            sums.peak,
            sums.peak_frame,
            share,
            histogram,
            batches,
        )

    def __repr__(self) -> str:
        return f"<SpanProfile of {self.name}: {counted(self.count, 'frame')}>"

    def __str__(self) -> str:
        head = f"{self.name} ({self.kind}): {counted(self.count, 'frame')}"
        head += f", {self.missing:,} missing, {self.negative:,} negative"
        if self.mean is None:
            return head
        std = "" if self.std is None else f", standard deviation {format_ns(self.std)}"
        share = "" if self.share is None else f", {self.share:.1%} of end_to_end"
        peak = f"max {format_ns(self.max)} (frame {self.peak_frame})"
        lines = [head, f"mean {format_ns(self.mean)}{std}{share}"]
        lines += [str(self.percentile(q)) for q in TABLE_PERCENTILES]
        return "\n".join([*lines, f"min {format_ns(self.min)}, {peak}"])

    @property
    def resolution(self) -> int | None:
        """The step to which the values seem to be rounded, ns, or None if they do not."""
        if self.count < FEWEST_ON_GRID or self.min == self.max:
            return None
        return resolution_of(self.step)

    def too_coarse(self, ns: float | None) -> bool:
        """Return whether a time is shorter than 20 steps of the values' resolution."""
        step = self.resolution
        return step is not None and ns is not None and ns < STEPS_IN_PERCENTILE * step

    @property
    def resolves(self) -> float | None:
        """The highest percentile of the table with enough frames for an interval, or None."""
        enough = [q for q in TABLE_PERCENTILES if self.percentile(q).low is not None]
        return max(enough, default=None)

    def percentile(self, q: float, *, independent: bool = False) -> Percentile:
        """Return a percentile with its 95 % interval, or the reason why it has none.

        Parameters
        ----------
        q
            From 0 to 100.
        independent
            Return the interval for independent frames. Frames that queue are not independent,
            and the interval is too narrow for them.

        Raises
        ------
        ProfileError
            `q` is not a number from 0 to 100.

        Warns
        -----
        UserWarning
            `q` is between 0 and 1, which may be meant as a fraction.
        """
        q = check_percentile(q)
        found = percentile(self.histogram, self.batches, q, independent=independent)
        return found if self.bins is None else _in_bin(found, self.histogram, self.bins)

    def row(self) -> dict[str, Any]:
        """Return the row of `Profile.rows`: plain values, times in ns, None if unknown."""
        known = [self.percentile(q) for q in TABLE_PERCENTILES]
        first = ("kind", "count", "missing", "negative", "most_negative", "mean", "std", "min")
        row: dict[str, Any] = {"span": self.name} | {name: getattr(self, name) for name in first}
        row["most_negative"] = self.most_negative or None
        row |= {percentile_key(p.q): p.value for p in known}
        row |= {name: getattr(self, name) for name in ("max", "peak_frame", "share")}
        row["resolution"] = self.resolution
        row["resolves"] = max((p.q for p in known if p.low is not None), default=None)
        row["intervals"] = [
            {
                "q": p.q,
                "low": p.low,
                "high": p.high,
                "note": p.note,
                "effective_frames": p.effective,
            }
            for p in known
        ]
        return row

    def ecdf(self) -> Ecdf:
        """Return the cumulative distribution: the share of values at or below each value (ns)."""
        return ecdf(self.histogram)

    def curve(self, *, per_decade: int = 12) -> Curve:
        """Return percentiles from 0 to 100 with their intervals, the denser the nearer to 100.

        Parameters
        ----------
        per_decade
            Number of percentiles from 0 to 90, from 90 to 99, from 99 to 99.9, and so on.

        Raises
        ------
        ProfileError
            `per_decade` is not an integer from 1 to 1,000.
        """
        per_decade = check_integer("per_decade", per_decade, 1, 1_000)
        return percentile_curve(self.histogram, self.batches, per_decade=per_decade)


def within_bins(span: SpanProfile, bins: Bins) -> SpanProfile:
    """Return a span with the numbers that bins give; others, such as its std, are None."""
    mean, total = None, span.total
    if bins.total_ns is not None and span.count:
        total, mean = bins.total_ns, bins.total_ns / span.count
    first = bins.min_ns
    if first is None and span.min is not None and bins.upper_ns:
        place = min(bisect_left(bins.upper_ns, span.min), len(bins.upper_ns) - 1)
        first = bins.lower_ns[place]
    last = bins.max_ns
    if last is None and not bins.above:
        last = span.max
    known: dict[str, Any] = {"mean": mean, "total": total, "std": None, "min": first, "max": last}
    return replace(span, **known, peak_frame=None, bins=bins)


def _in_bin(found: Percentile, histogram: Histogram, bins: Bins) -> Percentile:
    """Return a percentile with the edges of its bin in place of an interval.

    The value is the upper edge, but never above the largest value.
    """
    if found.value is None:
        return found
    rank = rank_of(found.q, histogram.count)
    if rank > histogram.count - bins.above:
        edge = bins.upper_ns[-1] if bins.upper_ns else 0
        if bins.max_ns is None:
            note = f"above {format_ns(edge)}: in the open bucket"
            return Percentile(found.q, edge, note=note, is_lower_bound=True)
        note = f"between {format_ns(edge)} and {format_ns(bins.max_ns)}, in the open bucket"
        return Percentile(found.q, bins.max_ns, edge, bins.max_ns, note=note)
    low, _ = histogram.bounds_at(rank)
    place = bisect_left(bins.upper_ns, low)
    place = min(place, len(bins.upper_ns) - 1)
    below, upper = bins.lower_ns[place], bins.upper_ns[place]
    if bins.max_ns is not None:
        below, upper = min(below, bins.max_ns), min(upper, bins.max_ns)
    note = f"between {format_ns(below)} and {format_ns(upper)}, the edges of its bin"
    if below == upper:
        note = "the only value of its bin"
    return Percentile(found.q, upper, below, upper, note=note)


def ecdf(histogram: Histogram) -> Ecdf:
    """Return the cumulative distribution of the values of a histogram.

    A step is at the largest value of its bin, so the share at each `value_ns` is exact. A step is
    left out if the next one is nearer than 1/1,000 of the height and of the (logarithmic) width.

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
    """Return the percentiles from 0 to the highest one that is not the last frame, and 100.

    Parameters
    ----------
    histogram
        Of all values.
    batches
        Counts (time batches, coarse bins) of the same values.
    per_decade
        Number of percentiles from 0 to 90, from 90 to 99, from 99 to 99.9, and so on.

    Examples
    --------
    >>> histogram = Histogram()
    >>> histogram.add(np.arange(1, 101))
    >>> curve = percentile_curve(histogram, np.zeros((0, 1), np.int64), per_decade=2)
    >>> curve.q.round(2).tolist(), curve.value_ns.tolist()
    ([0.0, 50.0, 68.38, 90.0, 96.84, 99.0, 100.0], [1, 50, 69, 90, 97, 99, 100])
    """
    n = histogram.count
    if n == 0:
        return Curve(np.zeros(0), np.zeros(0, np.int64), np.zeros(0), np.zeros(0))
    steps = int(np.floor(np.log10(n) * per_decade + 1e-9))
    qs = [round(100 - 100 * 10 ** (-k / per_decade), 12) for k in range(steps + 1)]
    if n > 1:
        qs = sorted({*qs, 50.0})  # pictures have a tick there
    known = [percentile(histogram, batches, q) for q in (*qs, 100.0)]
    return Curve(
        np.array([p.q for p in known]),
        np.array([p.value for p in known], np.int64),
        np.array([np.nan if p.low is None else p.low for p in known]),
        np.array([np.nan if p.high is None else p.high for p in known]),
    )


def percentile_key(q: float) -> str:
    """Return the name of a percentile in a table.

    Examples
    --------
    >>> percentile_key(99.9)
    'p99_9'
    """
    return f"p{q:g}".replace(".", "_")


def check_percentile(q: Any, *, stacklevel: int = 3) -> float:
    """Return a percentile that a user gave; warn if it looks like a fraction.

    Raises
    ------
    ProfileError
        `q` is not a number from 0 to 100.
    """
    if isinstance(q, bool) or not isinstance(q, Real) or not 0 <= float(q) <= 100:
        raise ProfileError(f"percentile must be a number from 0 to 100, got {quoted(q)}")
    if 0 < float(q) < 1:
        warnings.warn(
            f"percentiles go from 0 to 100: {q} is below the first percentile; did you mean "
            f"{100 * float(q):g}?",
            stacklevel=stacklevel,
        )
    return q  # type: ignore[return-value]  # a float, or another number that behaves like one


def check_percentiles(qs: Any, name: str = "qs") -> list[float]:
    """Return a list of percentiles that a user gave.

    Raises
    ------
    ProfileError
        `qs` is not a list of numbers from 0 to 100.
    """
    if isinstance(qs, str) or not isinstance(qs, Sequence | np.ndarray):
        raise ProfileError(f"{name} must be a list of percentiles, got {quoted(qs)}")
    return list(map(partial(check_percentile, stacklevel=4), qs))


def check_integer(name: str, value: Any, low: int, high: int) -> int:
    """Return an integer argument.

    Raises
    ------
    ProfileError
        The value is not an integer from `low` to `high`.
    """
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or not low <= value <= high:
        raise ProfileError(
            f"{name} must be an integer from {low:,} to {high:,}, got {quoted(value)}"
        )
    return int(value)
