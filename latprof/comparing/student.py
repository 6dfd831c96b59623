"""Student's t distribution and tests on differences of runs; numpy only.

Degrees of freedom are integers here, so the distribution has a closed form (Abramowitz and Stegun
1964, 26.7.3 and 26.7.4) and needs no further package.
"""

import itertools
import math
from functools import lru_cache

import numpy as np

from latprof.arrays import Floats
from latprof.errors import ProfileError
from latprof.text import quoted

__all__ = [
    "MOST_FLIPPED_EXACTLY",
    "check_share",
    "holm",
    "sequential_level",
    "sign_flip_p",
    "sign_patterns",
    "smallest_sign_flip_p",
    "t_p_value",
    "t_quantile",
]

MOST_FLIPPED_EXACTLY = 12
"""Up to this many differences all sign patterns are tried; of more, `FLIPS` random patterns."""

FLIPS = 8_191
_PATHS = 40_000  # simulated sequences of pairs, for a standard error of the level below 0.0012
_SEED = 20_261_128


def check_share(name: str, value: object) -> None:
    """Raise an error unless a value is a number above 0 and below 1.

    Raises
    ------
    ProfileError
        It is not; the message begins with `name`.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
        raise ProfileError(f"{name} must be a number between 0 and 1, got {quoted(value)}")


def t_p_value(t: Floats | float, df: int) -> Floats:
    """Return the two-sided p value of t statistics with `df` degrees of freedom.

    Examples
    --------
    >>> t_p_value(np.array([0.0, 2.570582, 4.032143]), 5).round(4).tolist()
    [1.0, 0.05, 0.01]
    """
    theta = np.arctan(np.abs(np.asarray(t, np.float64)) / math.sqrt(df))
    sin, square = np.sin(theta), np.cos(theta) ** 2
    term = total = np.cos(theta) if df % 2 else np.ones_like(theta)
    for k in range(3 if df % 2 else 2, df, 2):
        term = term * square * (k - 1) / k
        total = total + term
    if df == 1:
        inside = 2 / np.pi * theta
    elif df % 2:
        inside = 2 / np.pi * (theta + sin * total)
    else:
        inside = sin * total
    return np.clip(1 - inside, 0.0, 1.0)


@lru_cache(maxsize=1_024)
def t_quantile(level: float, df: int) -> float:
    """Return the t statistic beyond which a two-sided test at `level` rejects.

    Examples
    --------
    >>> round(t_quantile(0.05, 1), 3), round(t_quantile(0.05, 9), 4), round(t_quantile(0.01, 30), 3)
    (12.706, 2.2622, 2.75)
    """
    low, high = 0.0, 1.0
    while t_p_value(high, df) > level:
        low, high = high, high * 2
    for _ in range(100):
        middle = (low + high) / 2
        if t_p_value(middle, df) > level:
            low = middle
        else:
            high = middle
    return high


def smallest_sign_flip_p(n: int) -> float:
    """Return the smallest p value that a sign-flip test of n differences can have."""
    return 2.0 / 2**n if n <= MOST_FLIPPED_EXACTLY else 1 / (FLIPS + 1)


def sign_flip_p(differences: Floats) -> float:
    """Return the two-sided p value of the sign-flip test of n differences against 0.

    If the difference of a pair is symmetric around 0, all patterns of signs are equally likely
    (Fisher 1935). The test compares the mean with those of all patterns, or of a seeded random
    sample of them from 13 differences on.

    Examples
    --------
    >>> sign_flip_p(np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])), sign_flip_p(np.array([1.0, -1.0]))
    (0.03125, 1.0)
    """
    n = len(differences)
    observed = abs(float(differences.sum())) * (1 - 1e-12)
    if n <= MOST_FLIPPED_EXACTLY:
        sums = np.abs(sign_patterns(n) @ differences)
        return float((sums >= observed).mean())
    signs = np.random.default_rng(_SEED).choice((-1.0, 1.0), (FLIPS, n))
    return float(((np.abs(signs @ differences) >= observed).sum() + 1) / (FLIPS + 1))


@lru_cache(maxsize=16)
def sign_patterns(n: int) -> Floats:
    """Return all patterns of n signs with the first one positive, (2**(n - 1), n)."""
    rest = list(itertools.product((1.0, -1.0), repeat=max(n - 1, 0)))
    patterns = np.array(rest, np.float64).reshape(len(rest), max(n - 1, 0))
    return np.hstack([np.ones((len(rest), 1)), patterns])


def holm(p_values: Floats) -> Floats:
    """Return p values adjusted for testing (n,) hypotheses (Holm 1979).

    Examples
    --------
    >>> holm(np.array([0.01, 0.04, 0.03])).tolist()
    [0.03, 0.06, 0.06]
    """
    n = len(p_values)
    order = np.argsort(p_values, kind="stable")
    adjusted = np.maximum.accumulate(p_values[order] * np.arange(n, 0, -1))
    result = np.empty(n)
    result[order] = np.minimum(adjusted, 1.0)
    return result


@lru_cache(maxsize=64)
def sequential_level(level: float, first: int, most: int) -> float:
    """Return the level of each look, for looks after each pair from `first` to `most`.

    With tests at the returned level, the probability that any of the looks rejects a true
    hypothesis is `level`: a constant nominal level (Pocock 1977), applied to t statistics (Jennison
    and Turnbull 2000, section 4.4). It is found by simulating t statistics of normal differences,
    which do not depend on their variance; the seed is fixed.

    Examples
    --------
    >>> sequential_level(0.05, 6, 6), 0.005 < sequential_level(0.05, 2, 10) < 0.03
    (0.05, True)
    """
    if first >= most:
        return level
    pairs = np.random.default_rng(_SEED).standard_normal((_PATHS, most))
    smallest = np.ones(_PATHS)
    total, squares = np.cumsum(pairs, axis=1), np.cumsum(pairs**2, axis=1)
    for n in range(max(first, 2), most + 1):
        mean = total[:, n - 1] / n
        spread = np.sqrt((squares[:, n - 1] - n * mean**2) / (n - 1))
        smallest = np.minimum(smallest, t_p_value(mean / spread * math.sqrt(n), n - 1))
    return float(np.quantile(smallest, level))
