"""Confidence intervals of percentiles of frames that depend on each other.

Frames that queue behind each other are slow together, so a sample of them contains less
information than its size suggests: the usual interval for independent values is much too narrow.
Here the exceedances of the percentile are counted in time batches. If their variance is D times
that of independent frames, n frames are worth n / D independent ones (batch means, as in
simulation output analysis: Law, "Simulation Modeling and Analysis", chapter 9, applied to
exceedances).
"""

import math
from dataclasses import dataclass

from latprof.arrays import Ints
from latprof.histogram import ERROR_BOUND, Histogram, coarse_bin, rank_of
from latprof.text import counted
from latprof.units import format_ns

__all__ = ["Z_95", "Percentile", "frames_needed", "percentile", "t_quantile"]

FEWEST_BATCHES = 32  # time batches with frames that an interval needs

Z_95 = 1.959963984540054
"""The 97.5 % quantile of the normal distribution: 95 % are within that many deviations."""


@dataclass(frozen=True, slots=True)
class Percentile:
    """A percentile with its confidence interval.

    Attributes
    ----------
    q
        The percentile that was asked for, 0 to 100.
    value
        In ns, within the part `error_bound` of the exact order statistic; None without values.
    low, high
        A 95 % confidence interval (ns), or None if there are too few frames; `note` says why.
    effective
        The effective sample size: how many independent frames give the same information. None if
        there are too few frames to know.
    is_lower_bound
        True if only a lower bound is known: the percentile is in the open bucket of a histogram.
    """

    q: float
    value: int | None
    low: int | None = None
    high: int | None = None
    error_bound: float = ERROR_BOUND
    note: str = ""
    effective: float | None = None
    is_lower_bound: bool = False

    @property
    def interval(self) -> str:
        """The confidence interval as it is shown; empty if there is none."""
        return "" if self.low is None else f"{format_ns(self.low)} to {format_ns(self.high)}"

    def __str__(self) -> str:
        text = f"p{self.q:g} {format_ns(self.value)}"
        if self.interval:
            return f"{text} ({self.interval} with 95 % confidence)"
        return f"{text} (no interval: {self.note})"


def percentile(
    histogram: Histogram, batches: Ints, q: float, *, independent: bool = False
) -> Percentile:
    """Return the percentile `q` (0 to 100) with its 95 % interval.

    Parameters
    ----------
    histogram
        The histogram of all values.
    batches
        Counts (time batches, coarse bins) of the same values.
    independent
        Assume that frames are independent; the interval is much too narrow for frames that queue.

    Raises
    ------
    ProfileError
        `q` is not a number from 0 to 100.
    """
    value = histogram.value_at(q)
    n = histogram.count
    if value is None:
        return Percentile(q, None, note="no frame has this span")
    if q in (0, 100):
        return Percentile(q, value, value, value, note="exact", effective=float(n))
    if n < frames_needed(q):
        return Percentile(q, value, note=_too_few(q, n, frames_needed(q)))
    inflation, spread = 1.0, Z_95
    if not independent:
        filled = batches[batches.any(axis=1)]
        if len(filled) < FEWEST_BATCHES:
            found = counted(len(filled), "time batch", "time batches")
            note = f"{found}, at least {FEWEST_BATCHES} needed; record longer"
            return Percentile(q, value, note=note)
        inflation = _inflation(filled, value, n - rank_of(q, n))
        spread = t_quantile(len(filled) - 1)
    effective = n / inflation
    fewer, more = _exceedances(n, q, inflation, spread)
    # counted from the nearer end: slow frames above a high percentile, fast ones below a low one
    low_rank, high_rank = (n - more, n - fewer) if q >= 50 else (fewer, more)
    if fewer < 1 or more > n:
        needed = max(math.ceil(frames_needed(q) * inflation), n + 1)
        note = _too_few(q, n, needed)
        if inflation > 1:
            note += (
                f", because frames depend on each other (effective sample size {effective:,.0f})"
            )
        return Percentile(q, value, note=note, effective=effective)
    low, _ = histogram.bounds_at(max(low_rank, 1))
    _, high = histogram.bounds_at(min(high_rank, n))
    return Percentile(q, value, low, high, effective=effective)


def _exceedances(n: int, q: float, inflation: float, spread: float) -> tuple[int, int]:
    """Return how few and how many of n frames can be expected beyond the true percentile.

    The mean of this number is known; its variance is `inflation` times the binomial one. It is
    skewed if exceedances come in groups, so it is assumed to be gamma distributed, with the
    quantiles of Wilson and Hilferty (1931). With many groups that is the usual normal interval.
    """
    p = min(q, 100 - q) / 100
    mean, variance = n * p, n * p * (1 - p) * inflation
    if variance == 0:  # q is too close to 0 or 100 for float64
        return 0, n + 1
    shape = mean * mean / variance
    root = 1 / (3 * math.sqrt(shape))
    fewer = mean * max(0.0, 1 - root * root - spread * root) ** 3
    more = mean * (1 - root * root + spread * root) ** 3
    return math.floor(fewer), math.ceil(more)


def _too_few(q: float, n: int, needed: int) -> str:
    return f"too few frames for p{q:.12g}: {n:,}, at least {needed:,} needed"


def _inflation(batches: Ints, value: int, exceeding: int) -> float:
    """Return D: the variance of the exceedances of batches over that of independent frames.

    `exceeding` frames have ranks beyond the percentile. Frames in the coarse bin of the
    percentile count as exceeding with equal weight in each batch.
    """
    totals, coarse = batches.sum(axis=1), coarse_bin(value)
    over = batches[:, coarse + 1 :].sum(axis=1)
    cut = batches[:, coarse]
    part = (exceeding - over.sum()) / max(int(cut.sum()), 1)
    exceedances = over + cut * min(max(part, 0.0), 1.0)
    rate = exceedances.sum() / totals.sum()
    expected = totals.sum() * rate * (1 - rate)
    if expected <= 0:
        return 1.0
    w = len(totals)
    observed = float(((exceedances - totals * rate) ** 2).sum()) * w / (w - 1)
    return max(1.0, float(observed / expected))


def t_quantile(df: int) -> float:
    """Return the 97.5 % quantile of Student's t, within 1e-4 from 31 degrees of freedom on.

    The expansion of Abramowitz and Stegun (1964), 26.7.5.

    Examples
    --------
    >>> round(t_quantile(31), 4), round(t_quantile(63), 4)
    (2.0395, 1.9983)
    """
    z = Z_95
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return z + math.fsum(term / df ** (i + 1) for i, term in enumerate(terms))


def frames_needed(q: float) -> int:
    """Return how many independent frames a 95 % interval of percentile `q` (0 to 100) needs.

    With fewer frames, all of them are below the percentile in more than 2.5 % of cases.

    Examples
    --------
    >>> frames_needed(99.9), frames_needed(99), frames_needed(50)
    (3688, 368, 6)
    """
    inner = min(max(q, 100 - q), 99.9999999) / 100
    return math.ceil(math.log(0.025) / math.log(inner))
