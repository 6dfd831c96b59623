"""A log-linear histogram of times: 1,024 bins an octave, so every percentile is within 0.05 %.

The bin of a value is the top of its float64: exponent and first 10 bits of the mantissa. Every
integer below 2,048 ns has its own bin, including 0. Counts are exact and all histograms have the
same bins, so histograms merge by addition, in any order.

The percentile `q` of n values is the smallest value such that at least q % of the values are at
or below it (rank ``ceil(q / 100 * n)``): numpy's ``inverted_cdf``, DuckDB's ``quantile_disc``.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from latprof.arrays import Count, Counts, Floats, Ints, Latency
from latprof.errors import ProfileError
from latprof.text import quoted

__all__ = [
    "COARSE",
    "COARSE_BINS",
    "ERROR_BOUND",
    "FIRST_PLACE",
    "PLACES",
    "SHIFT",
    "Histogram",
    "bin_edges",
    "bin_of",
    "coarse_bin",
    "coarse_edges",
    "rank_of",
]

COARSE = 5
"""A coarse bin joins 2**5 bins of the histogram: 32 coarse bins an octave."""

COARSE_BINS = (63 << (10 - COARSE)) + 2
"""Number of coarse bins: 63 octaves, one for 0, and one for values that round up to 2**63."""

ERROR_BOUND = 0.0005
"""Largest relative error of a percentile read from the histogram."""

_BITS = 10

SHIFT = 52 - _BITS
"""Bits by which the bits of a float64 are shifted right to get the place of its bin."""

FIRST_PLACE = (1023 << _BITS) - 1
"""Place of bin 0, chosen so that 0 has bin 0 and 1 has bin 1."""

PLACES = FIRST_PLACE + (63 << _BITS) + 2
"""Number of places of all values below 2**63, also of those that round up to 2**63."""

_LARGEST = 2**63 - 2  # ns: the distance of the two stamps that are farthest apart


def bin_of(values: Floats) -> Ints:
    """Return the bins (n,) of values (n,): whole numbers of 0 or more (ns) as float64.

    Examples
    --------
    >>> bin_of(np.array([0.0, 1.0, 2.0, 3.0, 2048.0, 2049.0]))
    array([    0,     1,  1025,  1537, 11265, 11265])
    """
    # 0.0 alone has bits below those of 1.0, as all values are integers
    bins: Ints = np.maximum((values.view(np.int64) >> SHIFT) - FIRST_PLACE, 0)
    return bins


def bin_edges(bins: Ints | int) -> tuple[Ints, Ints]:
    """Return the smallest and the largest integer (ns) in each bin.

    For bins that contain no integer (most of those below 512 ns), low > high.
    """
    index = np.asarray(bins, np.int64)
    return _smallest(index), _smallest(index + 1) - 1


def _smallest(index: Ints) -> Ints:
    bits = (index + FIRST_PLACE) << SHIFT
    edge, below = bits.view(np.float64), (bits - 1).view(np.float64)
    # from 2**53 on, int64 -> float64 rounds, ties to even, which the edge is: integers from
    # halfway between the float below the edge and the edge fall into the bin
    half = np.minimum((edge - below) / 2, 1023).astype(np.int64)
    rounded = np.minimum(below, 2.0**63 - 1024).astype(np.int64) + half  # at most 2**63 - 1
    low = np.where(edge <= 2.0**53, np.ceil(np.minimum(edge, 2.0**53)).astype(np.int64), rounded)
    return np.where(index == 0, 0, low)


def rank_of(q: float, count: int) -> int:
    """Return ``ceil(q / 100 * count)``, at least 1, without float error.

    `q` counts as the decimal number that it is printed as.

    Raises
    ------
    ProfileError
        `q` is not a number from 0 to 100.

    Examples
    --------
    >>> rank_of(99.9, 1000), rank_of(50, 7), rank_of(0, 7)
    (999, 4, 1)
    """
    share = None
    if not isinstance(q, str):
        share = _share_of(repr(float(q)) if isinstance(q, float) else str(q))
    if share is None or not 0 <= share <= 1:
        raise ProfileError(
            f"percentile must be a number from 0 to 100, got {quoted(q)}; for example 99.9"
        )
    return max(1, -(-share.numerator * count // share.denominator))


@lru_cache
def _share_of(percentile: str) -> Fraction | None:
    """Return a percentile divided by 100, or None if it is not a decimal number."""
    try:
        return Fraction(Decimal(percentile)) / 100
    except (ValueError, ArithmeticError):
        return None


@dataclass(frozen=True, slots=True)
class _Traits:
    circular: bool = False
    discrete: bool = False


class _Axis:
    """Bins `first` to `last` - 1, each starting where the one before ends, to be drawn."""

    traits = _Traits()
    name = "latency"
    label = "latency / ns"

    def __init__(self, first: int, last: int) -> None:
        places = (np.arange(first, last + 1) + FIRST_PLACE) << SHIFT
        self.edges = np.where(np.arange(first, last + 1) == 0, 0.0, places.view(np.float64))

    def __len__(self) -> int:
        return len(self.edges) - 1

    def __getitem__(self, index: int) -> tuple[float, float]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"bin must be below {len(self)}, got {index}")
        place = index % len(self)
        return float(self.edges[place]), float(self.edges[place + 1])

    def __iter__(self) -> Iterator[tuple[float, float]]:
        return (self[i] for i in range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Axis) and np.array_equal(self.edges, other.edges)

    __hash__ = None  # type: ignore[assignment]  # an array is not hashable


@dataclass(slots=True, eq=False, repr=False)
class Histogram:
    """Counts of times in log-linear bins, with exact count, min and max.

    Examples
    --------
    >>> import numpy as np
    >>> from latprof import Histogram
    >>> h = Histogram()
    >>> h.add(np.array([3, 5, 5, 1_000_000]))
    >>> h.count, h.min, h.max, h.value_at(50)
    (4, 3, 1000000, 5)
    """

    bins: Counts = field(default_factory=lambda: np.zeros(0, np.int64))
    count: Count = 0
    min: Latency | None = None
    max: Latency | None = None

    def __repr__(self) -> str:
        return f"<Histogram of {self.count:,} values, {self.min} to {self.max} ns>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Histogram):
            return NotImplemented
        return (self.count, self.min, self.max) == (other.count, other.min, other.max) and (
            np.array_equal(np.trim_zeros(self.bins, "b"), np.trim_zeros(other.bins, "b"))
        )

    __hash__ = None  # type: ignore[assignment]  # it is mutable

    # -- filling --------------------------------------------------------------------------------

    def add(self, values: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> None:
        """Count values (n,), integers from 0 to 2**63 - 2 (ns), each once or `weights` (n,) times.

        Raises
        ------
        ProfileError
            A value is not an integer, is negative, or is too large; or weights are not n integers
            of 1 or more.
        """
        array = np.asarray(values)
        if array.size == 0:
            return
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise ProfileError(
                "values must be a 1-D array of integer nanoseconds, got type "
                f"{array.dtype} and shape {array.shape}"
            )
        low, high = int(array.min()), int(array.max())
        if low < 0 or high > _LARGEST:
            raise ProfileError(
                "values must be from 0 to 2**63 - 2 ns, got "
                f"{low if low < 0 else high}; leave such values out and count them separately"
            )
        counts = np.ones(len(array), np.int64) if weights is None else np.asarray(weights)
        if counts.shape != array.shape or counts.dtype.kind not in "iu" or counts.min() < 1:
            raise ProfileError(
                f"weights must be {len(array)} integers of 1 or more, got type {counts.dtype} and "
                f"shape {counts.shape}"
            )
        bins = bin_of(array.astype(np.float64))
        found = np.zeros(int(bins.max()) + 1, np.int64)
        np.add.at(found, bins, counts.astype(np.int64))
        self.add_counts(0, found, low, high)

    def add_counts(self, first: int, found: Ints, low: int, high: int) -> None:
        """Add counts (k,) of bins from `first` on; `low` and `high` are the extreme values, ns."""
        missing = first + len(found) - len(self.bins)
        if missing > 0:
            self.bins = np.pad(self.bins, (0, missing))
        self.count += int(found.sum())
        self.bins[first : first + len(found)] += found  # the last use: `found` may be these bins
        self.min = low if self.min is None else min(self.min, low)
        self.max = high if self.max is None else max(self.max, high)

    def merge(self, other: "Histogram") -> None:
        """Add the counts of another histogram."""
        if other.min is not None and other.max is not None:
            self.add_counts(0, other.bins, other.min, other.max)

    def copy(self) -> "Histogram":
        """Return an independent histogram with the same counts."""
        same = Histogram()
        same.merge(self)
        return same

    # -- reading --------------------------------------------------------------------------------

    def bounds_at(self, rank: int) -> tuple[int, int]:
        """Return the smallest and largest value (ns) that the value of that rank can have.

        Raises
        ------
        ProfileError
            The rank is not from 1 to `count`.
        """
        if self.min is None or self.max is None or not 1 <= rank <= self.count:
            raise ProfileError(
                f"rank must be from 1 to the number of values ({self.count}), got {quoted(rank)}"
            )
        if rank == 1:
            return self.min, self.min
        if rank == self.count:
            return self.max, self.max
        place = int(np.searchsorted(np.cumsum(self.bins), rank))
        low, high = bin_edges(place)
        return max(int(low), self.min), min(int(high), self.max)

    def value_at(self, q: float) -> int | None:
        """Return the percentile `q` (0 to 100) in ns, within 0.05 %, or None without values.

        `percentile` is another name for this method.
        """
        rank = rank_of(q, self.count)
        if self.count == 0:
            return None
        low, high = self.bounds_at(rank)
        return (low + high) // 2

    percentile = value_at

    def percentiles(self, qs: Sequence[float]) -> list[int | None]:
        """Return `value_at` for each of several percentiles."""
        return [self.value_at(q) for q in qs]

    def at_most(self, value: int) -> tuple[int, int]:
        """Return bounds of the number of values at or below `value` (ns).

        They differ by the number of values in its bin.
        """
        if self.min is None or self.max is None or value < self.min:
            return 0, 0
        if value >= self.max:
            return self.count, self.count
        filled = np.flatnonzero(self.bins)
        low, high = bin_edges(filled)
        counts = self.bins[filled]
        return int(counts[high <= value].sum()), int(counts[low <= value].sum())

    def rank(self, value: int) -> tuple[float, float]:
        """Return bounds of the share of values at or below `value` (ns): see `at_most`.

        Raises
        ------
        ProfileError
            There are no values.
        """
        if self.count == 0:
            raise ProfileError("the histogram must contain values, got none; add some first")
        low, high = self.at_most(value)
        return low / self.count, high / self.count

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        """Yield smallest value, largest value (ns) and count of each filled bin, in order."""
        filled = np.flatnonzero(self.bins)
        low, high = bin_edges(filled)
        yield from zip(low.tolist(), high.tolist(), self.bins[filled].tolist(), strict=True)

    # -- the protocol of Python's histogram libraries (UHI, "PlottableHistogram") ----------------

    @property
    def kind(self) -> str:
        """The kind of histogram: counts."""
        return "COUNT"

    @property
    def axes(self) -> "tuple[_Axis]":
        """The axis: the edges (ns) of the bins from the smallest to the largest value."""
        return (_Axis(*self._reach()),)

    def values(self) -> Floats:
        """Return the counts of the axis's bins."""
        first, last = self._reach()
        return self.bins[first:last].astype(np.float64)

    def variances(self) -> Floats:
        """Return the variances of the counts, which are the counts (Poisson)."""
        return self.values()

    def counts(self) -> Floats:
        """Return the counts of the axis's bins."""
        return self.values()

    def _reach(self) -> tuple[int, int]:
        filled = np.flatnonzero(self.bins)
        return (int(filled[0]), int(filled[-1]) + 1) if len(filled) else (0, 0)


# -- coarse bins ----------------------------------------------------------------------------------


def coarse_edges() -> tuple[Ints, Ints]:
    """Return the smallest and the largest integer (ns) of each coarse bin.

    Examples
    --------
    >>> low, high = coarse_edges()
    >>> low[:3].tolist(), high[0].item()
    ([0, 1, 2], 0)
    """
    coarse = np.arange(COARSE_BINS)
    first = np.where(coarse == 0, 0, ((coarse - 1) << COARSE) + 1)
    low = bin_edges(first)[0]
    return low, np.append(low[1:] - 1, 2**63 - 2)


def coarse_bin(value: int) -> int:
    """Return the coarse bin of an integer of 0 or more.

    Examples
    --------
    >>> [coarse_bin(value) for value in (0, 1, 2, 3, 1024, 1056)]
    [0, 1, 33, 49, 321, 322]
    """
    if value == 0:
        return 0
    mantissa, exponent = math.frexp(value)  # 0.5 <= mantissa < 1
    steps = 1 << (10 - COARSE)
    return (exponent - 1) * steps + int((mantissa * 2 - 1) * steps) + 1
