"""Exact sums and centred second moments of latencies, and how those of two sets merge.

Integer sums are exact, whatever their size. Second moments are those of centred values, merged by
the formula of Chan, Golub and LeVeque (1983), "Algorithms for computing the sample variance": the
distance between the means of two sets is computed in exact integers and rounded once.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from latprof.arrays import Floats, Ints

__all__ = ["Exact", "between", "comoment", "dot", "exact_sum", "is_spread", "widen"]

Exact = npt.NDArray[np.int64] | npt.NDArray[np.object_]
"""An array of integer sums: int64 while they fit, Python integers beyond."""

# Above this ratio of mean^2 to variance a plain sum of squares loses digits that matter, and the
# values are centred first: 1e4 * 2.2e-16 * (rounding of a sum of some 10,000) stays below 1e-10.
_LARGEST_PLAIN_RATIO = 1e4

# OpenBLAS uses several threads for vectors of more than 10,000 values, which would compete if
# several profiles are made at once; up to this length `dot` is four times as fast as einsum.
_ONE_THREAD = 8_192


def exact_sum(values: Ints, high: int, weights: Ints | None = None) -> int:
    """Return the exact sum of n values from 0 to `high`, each counted `weights` times.

    Examples
    --------
    >>> exact_sum(np.full(8, 2**61), 2**61) == 2**64
    True
    """
    heaviest = 1 if weights is None else int(weights.max(initial=1))
    exact: npt.NDArray[Any] = values
    if high * heaviest * max(len(values), 1) >= 2**63:
        exact = values.astype(object)
    return int(exact.sum() if weights is None else (exact * weights).sum())


def widen(sums: Exact, bound: int) -> Exact:
    """Return the sums as an array that can hold values up to `bound`.

    Examples
    --------
    >>> widen(np.zeros(1, np.int64), 2**63 - 1).dtype, widen(np.zeros(1, np.int64), 2**63).dtype
    (dtype('int64'), dtype('O'))
    """
    return sums if bound < 2**63 else sums.astype(object)


def is_spread(n: int, mean: float, m2: float) -> bool:
    """Return whether plain products of these values keep the digits that matter."""
    return n * mean * mean < _LARGEST_PLAIN_RATIO * m2


def dot(x: Floats, y: Floats) -> float:
    """Return the sum of the products of two arrays (n,), computed in the calling thread."""
    whole = len(x) - len(x) % _ONE_THREAD
    rest = float(np.dot(x[whole:], y[whole:]))
    if not whole:
        return rest
    # one call for all blocks: products of matrices (1, k) and (k, 1)
    rows, columns = x[:whole].reshape(-1, 1, _ONE_THREAD), y[:whole].reshape(-1, _ONE_THREAD, 1)
    return math.fsum([rest, *np.matmul(rows, columns).ravel().tolist()])


def comoment(
    x: Floats, y: Floats, weights: Ints | None, n: int, mean_x: float, mean_y: float
) -> float:
    """Return the sum of the products of distances from the means of n frames."""
    dx = x - mean_x
    dy = dx if x is y else y - mean_y
    weighted = dx if weights is None else dx * weights
    # the means are rounded, so the distances do not add up to 0: subtract what they add up to
    excess = float(weighted.sum()) * float((dy if weights is None else dy * weights).sum()) / n
    return float(np.einsum("i,i->", weighted, dy)) - excess


def between(n_a: int, x_a: int, y_a: int, n_b: int, x_b: int, y_b: int) -> float:
    """Return what the distance between the means of two sets adds to their co-moment.

    `n` is the number of values of a set; `x` and `y` are its exact sums.

    Examples
    --------
    >>> between(1, 3, 3, 1, 5, 5)  # 3 and 5: squared distances from 4 are 1 and 1
    2.0
    """
    if n_a == 0 or n_b == 0:
        return 0.0
    distance_x = x_b * n_a - x_a * n_b
    distance_y = y_b * n_a - y_a * n_b
    return distance_x * distance_y / (n_a * n_b * (n_a + n_b))
