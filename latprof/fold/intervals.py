"""How far a percentile can be trusted when frames depend on each other.

Frames that queue behind each other are slow together, so that a sample of them says less than its
size: the usual interval for independent values is far too narrow. Here the exceedances of the
percentile are counted in time batches; where their variance is D times what independent frames
would show, the frames are worth n / D independent ones (batch means, as in simulation output
analysis: Law, "Simulation Modeling and Analysis", chapter 9, applied to exceedances).
"""

import math
from dataclasses import dataclass

import numpy as np

from latprof.arrays import Ints
from latprof.fold.windows import COARSE
from latprof.histogram import ERROR_BOUND, Histogram, bin_of, rank_of
from latprof.text import counted
from latprof.units import format_ns

__all__ = ["Percentile", "frames_needed", "percentile", "t_quantile"]

FEWEST_BATCHES = 32
_Z = 1.959963984540054  # of 97.5 %


@dataclass(frozen=True, slots=True)
class Percentile:
    """A percentile and how far it can be trusted.

    `value` (ns) is within `error_bound` (relative) of the exact order statistic; None where there
    are no values. `low` and `high` are a 95 % confidence interval (ns); None where the frames do
    not suffice: `note` says why. `effective` is the number of independent frames that these are
    worth.
    """

    q: float
    value: int | None
    low: int | None = None
    high: int | None = None
    error_bound: float = ERROR_BOUND
    note: str = ""
    effective: float | None = None

    def __str__(self) -> str:
        text = f"p{self.q:g} {format_ns(self.value)}"
        if self.low is not None:
            return f"{text} ({format_ns(self.low)} to {format_ns(self.high)} with 95 % confidence)"
        return f"{text} (no interval: {self.note})"


def percentile(
    histogram: Histogram, batches: Ints, q: float, *, independent: bool = False
) -> Percentile:
    """Return the percentile `q` (0 to 100) with its 95 % interval.

    Parameters
    ----------
    histogram
        Of all values.
    batches
        Counts (time batches, coarse bins) of the same values.
    independent
        Take the frames for independent: the interval if frames were independent, much too narrow
        for those that queue.

    Raises
    ------
    ProfileError
        `q` is no number from 0 to 100.
    """
    value = histogram.value_at(q)
    n = histogram.count
    if value is None:
        return Percentile(q, None, note="no frame has this span")
    if rank_of(q, n) in (1, n) and q in (0, 100):
        return Percentile(q, value, value, value, note="exact", effective=float(n))
    if n < frames_needed(q):
        return Percentile(q, value, note=_too_few(q, n, frames_needed(q)))
    inflation, spread = 1.0, _Z
    if not independent:
        totals = batches.sum(axis=1)
        meaning = totals > 0
        count = int(np.count_nonzero(meaning))
        if count < FEWEST_BATCHES:
            there = counted(count, "time batch", "time batches")
            note = f"no interval: {there} with frames, {FEWEST_BATCHES} needed"
            return Percentile(q, value, note=note)
        inflation = _inflation(batches[meaning], totals[meaning], value, n - rank_of(q, n))
        spread = t_quantile(count - 1)
    effective = n / inflation
    fewer, more = _exceedances(n, q, inflation, spread)
    # counted from the nearer end: slow frames above an upper percentile, quick ones below a lower
    low_rank, high_rank = (n - more, n - fewer) if q >= 50 else (fewer, more)
    if fewer < 1 or more > n:
        rare = min(q, 100 - q) / 100
        needed = math.ceil(frames_needed(q) * max(inflation, 1.0)) if rare else n + 1
        note = _too_few(q, n, max(needed, n + 1))
        if inflation > 1:
            note += f", as they depend on each other: these are worth {effective:,.0f}"
        return Percentile(q, value, note=note, effective=effective)
    low, _ = histogram.bounds_at(max(low_rank, 1))
    _, high = histogram.bounds_at(min(high_rank, n))
    return Percentile(q, value, low, high, effective=effective)


def _exceedances(n: int, q: float, inflation: float, spread: float) -> tuple[int, int]:
    """Return the fewest and most of n frames to be expected beyond the true percentile.

    Their mean is known; with variance `inflation` times the binomial one they come in clumps, so
    that their number is skewed: it is taken for gamma distributed, whose quantiles are those of
    Wilson and Hilferty (1931). With many clumps that is the usual normal interval.
    """
    p = min(q, 100 - q) / 100
    mean, variance = n * p, n * p * (1 - p) * inflation
    if mean == 0:
        return 0, n + 1
    shape = mean * mean / variance
    root = 1 / (3 * math.sqrt(shape))
    fewer = mean * max(0.0, 1 - root * root - spread * root) ** 3
    more = mean * (1 - root * root + spread * root) ** 3
    return math.floor(fewer), math.ceil(more)


def _too_few(q: float, n: int, needed: int) -> str:
    return f"too few frames for p{q:.12g}: {n:,}, at least {needed:,} needed"


def _inflation(batches: Ints, totals: Ints, value: int, exceeding: int) -> float:
    """Return D: how much more the exceedances of batches vary than those of independent frames.

    `exceeding` is how many frames have ranks beyond the percentile's: of many that are as slow
    as it, in one coarse bin, each counts in part.
    """
    fine = int(bin_of(np.array([value], np.float64))[0])
    coarse = ((fine - 1) >> COARSE) + 1
    over = batches[:, coarse + 1 :].sum(axis=1)
    cut = batches[:, coarse]
    # of the coarse bin that the percentile lies in, each batch is taken to exceed alike
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
    z = _Z
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return z + math.fsum(term / df ** (i + 1) for i, term in enumerate(terms))


def frames_needed(q: float) -> int:
    """Return how many independent frames a 95 % interval of percentile `q` (0 to 100) needs.

    With fewer, even the largest of them lies below the percentile in more than 2.5 % of cases.

    Examples
    --------
    >>> frames_needed(99.9), frames_needed(99), frames_needed(50)
    (3688, 368, 6)
    """
    inner = min(max(q, 100 - q), 99.9999999) / 100
    return math.ceil(math.log(0.025) / math.log(inner))
