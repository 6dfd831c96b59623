"""Finds values that are further from the others than chance explains: a robust centre and spread.

Each of m values, say the logarithm of a percentile on one host, is the sum of a common centre, the
usual difference of a host from others, and the error of the host's own frames:

    value = center + normal(0, spread) + normal(0, error)

This is the random-effects model of DerSimonian and Laird (1986). Here the centre and the spread
are estimated so that hosts that do not follow the model have little influence: by Huber's proposal
2 (Huber 1964; Huber and Ronchetti, "Robust Statistics", 2009, section 6.4), in which distances
beyond `_CUT` standard deviations count as `_CUT`. If a tenth of the values are far above the
others, the spread is a quarter too large; if a fifth are, it is twice as large, and only values
that are very far away are found. Chance means the distribution of most of the values, not the one
that the errors alone would give (Efron 2004, "Large-scale simultaneous hypothesis testing: the
choice of a null hypothesis").
"""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np

from latprof.arrays import Floats
from latprof.comparing.student import t_p_value, t_quantile

__all__ = ["FEWEST_VALUES", "Population", "benjamini_hochberg"]

FEWEST_VALUES = 8
"""Values needed to estimate the spread between them."""

_CUT = 1.5
_DENSITY = math.exp(-(_CUT**2) / 2) / math.sqrt(2 * math.pi)
_BEYOND = math.erfc(_CUT / math.sqrt(2))  # part of a normal distribution
_MEAN_SQUARE = 1 - _BEYOND - 2 * _CUT * _DENSITY + _CUT**2 * _BEYOND
"""Mean of the squares of standard normal values, with those beyond the cut at the cut."""

_EFFICIENCY = 0.725
"""A spread of m values is as exact as a standard deviation of this part of them (Huber 1964)."""

_MOST_DF = 500  # beyond, the normal distribution is hardly different
_ROUNDS = 200
_LEAST = 1e-300  # in place of 0 in a denominator


@dataclass(frozen=True, slots=True)
class Population:
    """The centre and the spread of most of (m,) values.

    Attributes
    ----------
    center
        Their robust mean.
    spread
        Their standard deviation without that of their own errors; 0 if the errors explain it all.
    df
        Degrees of freedom of the t distribution of distances.
    """

    center: float
    spread: float
    df: int

    @classmethod
    def of(cls, values: Floats, errors: Floats) -> Self:
        """Return the population of at least two (m,) values with their standard errors (m,).

        Examples
        --------
        >>> values = np.array([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 1_000.0])
        >>> found = Population.of(values, np.full(8, 0.1))
        >>> round(found.center, 1), 2 < found.spread < 5
        (3.7, True)
        """
        m = len(values)
        share = (m - 1) / m * _MEAN_SQUARE
        center = float(np.median(values))
        scale = float(np.abs(values - center).mean() + errors.mean())
        variance = scale**2
        for _ in range(_ROUNDS):
            variances = np.maximum(variance + errors**2, _LEAST)
            distances = np.abs(values - center) / np.sqrt(variances)
            weights = np.minimum(1.0, _CUT / np.maximum(distances, _LEAST)) / variances
            step = float((weights @ (values - center)) / weights.sum())
            # the squares, cut off, must have the mean that those of normal values have
            mean_square = float((np.minimum(distances, _CUT) ** 2).mean())
            wider = (mean_square / share - 1) / float((1 / variances).mean())
            before, variance = variance, max(variance + wider, 0.0)
            center += step
            if abs(step) + abs(math.sqrt(variance) - math.sqrt(before)) <= 1e-9 * scale:
                break
        return cls(center, math.sqrt(variance), min(max(int(_EFFICIENCY * (m - 1)), 1), _MOST_DF))

    def distances(self, values: Floats, errors: Floats) -> Floats:
        """Return how many standard deviations (m,) values are above the centre."""
        return (values - self.center) / np.sqrt(np.maximum(self.spread**2 + errors**2, _LEAST))

    def p_values(self, values: Floats, errors: Floats) -> Floats:
        """Return the two-sided p value of each distance, (m,)."""
        return t_p_value(self.distances(values, errors), self.df)

    def found_from(self, error: float, level: float) -> float:
        """Return the distance from the centre at which a value with this error has p = `level`."""
        return t_quantile(level, self.df) * math.hypot(self.spread, error)


def benjamini_hochberg(p_values: Floats) -> Floats:
    """Return (m,) p values adjusted for the false discovery rate (Benjamini and Hochberg 1995).

    If hypotheses with an adjusted p value of at most q are rejected, a part of at most q of the
    rejected ones is expected to be true. That is proved for p values that are independent or
    positively dependent (Benjamini and Yekutieli 2001), as they nearly are with a common estimate
    of centre and spread.

    Examples
    --------
    >>> benjamini_hochberg(np.array([0.01, 0.04, 0.03, 0.5])).round(4).tolist()
    [0.04, 0.0533, 0.0533, 0.5]
    """
    m = len(p_values)
    order = np.argsort(p_values, kind="stable")[::-1]
    adjusted = np.minimum.accumulate(p_values[order] * m / np.arange(m, 0, -1))
    result = np.empty(m)
    result[order] = np.minimum(adjusted, 1.0)
    return result
