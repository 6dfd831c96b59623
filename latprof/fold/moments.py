"""Sums, squares and co-moments of a chunk of times, and how those of two parts merge.

Integer sums are exact. Second moments are those of centred values, merged by the formula of Chan,
Golub and LeVeque (1983), "Algorithms for computing the sample variance": the distance between two
parts' means is computed in exact integers and rounded once.
"""

import math

import numpy as np

from latprof.arrays import Floats, Ints

__all__ = ["between", "comoment", "dot", "exact_sum", "is_spread"]


# Above this ratio of mean^2 to variance a plain sum of squares loses digits that matter, and the
# values are centred first: 1e4 * 2.2e-16 * (rounding of a sum of some 10,000) stays below 1e-10.
_PLAIN = 1e4

# OpenBLAS multiplies longer vectors (above 10,000) in threads, which would get in each other's way
# where several profiles are made at once; up to here `dot` is four times as quick as einsum.
_ONE_THREAD = 8_192


def exact_sum(values: Ints, high: int, weights: Ints | None = None) -> int:
    """Return the sum of n values from 0 to `high`, each `weights` times, exactly.

    Examples
    --------
    >>> exact_sum(np.full(8, 2**61), 2**61) == 2**64
    True
    """
    heaviest = 1 if weights is None else int(weights.max(initial=1))
    if high * heaviest * max(len(values), 1) < 2**63:
        return int(values.sum() if weights is None else (values * weights).sum())
    # exact_sum of halves that are small enough; numbers beyond them are for Python
    if len(values) == 1:
        return int(values[0]) * heaviest
    half = len(values) // 2
    left, right = (None, None) if weights is None else (weights[:half], weights[half:])
    return exact_sum(values[:half], high, left) + exact_sum(values[half:], high, right)


def is_spread(n: int, mean: float, m2: float) -> bool:
    """Return whether plain products of such values keep the digits that matter."""
    return n * mean * mean < _PLAIN * m2


def dot(x: Floats, y: Floats) -> float:
    """Return the sum of the products of two arrays (n,), in this thread alone."""
    whole = len(x) - len(x) % _ONE_THREAD
    rest = float(np.dot(x[whole:], y[whole:]))
    if not whole:
        return rest
    # one call for all pieces: a product of matrices (1, k) and (k, 1) each
    rows, columns = x[:whole].reshape(-1, 1, _ONE_THREAD), y[:whole].reshape(-1, _ONE_THREAD, 1)
    return math.fsum([rest, *np.matmul(rows, columns).ravel().tolist()])


def comoment(
    x: Floats,
    y: Floats,
    weights: Ints | None,
    n: int,
    mean_x: float,
    mean_y: float,
    *,
    spread: bool,
) -> float:
    """Return the sum of products of distances from the means; plainly if both are `spread`."""
    if spread and weights is None:
        return float(np.einsum("i,i->", x, y)) - n * mean_x * mean_y
    dx = x - mean_x
    dy = dx if x is y else y - mean_y
    heavy = dx if weights is None else dx * weights
    # the means are rounded: what the distances from them add up to is taken off again
    apart = float(heavy.sum()) * float((dy if weights is None else dy * weights).sum()) / n
    return float(np.einsum("i,i->", heavy, dy)) - apart


def between(n_a: int, x_a: int, y_a: int, n_b: int, x_b: int, y_b: int) -> float:
    """Return what the distance of two parts' means adds to their co-moment.

    `n` counts the values of a part, `x` and `y` are their exact sums.

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
