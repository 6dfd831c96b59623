"""A log-linear histogram of times: 1,024 bins an octave, so that any percentile is within 0.05 %.

The bin of a value is the top of its float64: exponent and first 10 bits of the mantissa. Every
integer below 2,048 ns has a bin of its own, and so has 0. Counts are exact, bins are the same
for everyone, so histograms merge by addition, in any order.

The percentile `q` of n values is the smallest value such that at least q % of the values are at
or below it (rank ``ceil(q / 100 * n)``): numpy's ``inverted_cdf``, DuckDB's ``quantile_disc``.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from latprof.arrays import Floats, Ints
from latprof.errors import ProfileError

__all__ = [
    "BIN_RULE",
    "ERROR_BOUND",
    "FIRST_PLACE",
    "PLACES",
    "SHIFT",
    "Histogram",
    "bin_edges",
    "bin_of",
    "rank_of",
]

BIN_RULE = "float64-top-10"
"""Name of the bin rule; histograms of another rule do not merge."""

ERROR_BOUND = 0.0005
"""Largest relative error of a percentile read from the histogram."""

_BITS = 10
_SHIFT = 52 - _BITS

SHIFT = _SHIFT
"""How far a float64's bits are shifted for its place among all bins of all floats."""

FIRST_PLACE = (1023 << _BITS) - 1
"""Place of bin 0: so that 0 has bin 0 and 1 has bin 1."""

PLACES = FIRST_PLACE + (62 << _BITS) + 2
"""Number of places that values below 2**62 can have, rounding included."""

_LIMIT = 2**62


def bin_of(values: Floats, out: Ints | None = None) -> Ints:
    """Return the bins (n,) of float values of 0 and more.

    Examples
    --------
    >>> bin_of(np.array([0.0, 1.0, 2.0, 3.0, 2048.0, 2049.0]))
    array([    0,     1,  1025,  1537, 11265, 11265])
    """
    bins = np.right_shift(values.view(np.int64), _SHIFT, out=out)
    np.subtract(bins, FIRST_PLACE, out=bins)
    # 0.0 is the only value whose bits lie below those of 1.0
    return np.maximum(bins, 0, out=bins)


def bin_edges(bins: Ints | int) -> tuple[Ints, Ints]:
    """Return the smallest and the largest integer (ns) that fall into each bin.

    Bins that hold no integer (below 512 ns most do not) come out with low > high.
    """
    index = np.asarray(bins, np.int64)
    return _smallest(index), _smallest(index + 1) - 1


def _smallest(index: Ints) -> Ints:
    bits = (index + FIRST_PLACE) << _SHIFT
    edge, below = bits.view(np.float64), (bits - 1).view(np.float64)
    # from 2**53 on, int64 -> float64 rounds, a tie to the even one, which the edge is: integers
    # from halfway between the float below the edge and the edge fall into the bin
    low = np.ceil(edge).astype(np.int64) - ((edge - below) / 2).astype(np.int64)
    return np.where(index == 0, 0, low)


def rank_of(q: float, count: int) -> int:
    """Return ``ceil(q / 100 * count)``, at least 1, without float error.

    `q` is taken as the decimal number that it prints as.

    Raises
    ------
    ProfileError
        `q` is no number from 0 to 100.

    Examples
    --------
    >>> rank_of(99.9, 1000), rank_of(50, 7), rank_of(0, 7)
    (999, 4, 1)
    """
    try:
        exact = Fraction(Decimal(repr(float(q)) if isinstance(q, float) else str(q)))
    except (ValueError, ArithmeticError, OverflowError):
        exact = Fraction(-1)
    if not 0 <= exact <= 100:
        raise ProfileError(f"percentile {q!r} is no number from 0 to 100: ask for 99.9, say")
    return max(1, -(-exact.numerator * count // (exact.denominator * 100)))


@dataclass(frozen=True, slots=True)
class _Traits:
    circular: bool = False
    discrete: bool = False


class _Axis:
    """Bins `first` to `last` - 1: edges that meet, so that libraries can draw them."""

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
            raise IndexError(f"bin {index} of {len(self)}: ask for one of them")
        place = index % len(self)
        return float(self.edges[place]), float(self.edges[place + 1])

    def __iter__(self) -> Iterator[tuple[float, float]]:
        return (self[i] for i in range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Axis) and np.array_equal(self.edges, other.edges)

    __hash__ = None  # type: ignore[assignment]  # it holds an array


class Histogram:
    """Counts of times in log-linear bins, with exact count, min and max.

    Examples
    --------
    >>> h = Histogram()
    >>> h.add(np.array([3, 5, 5, 1_000_000]))
    >>> h.count, h.min, h.max, h.value_at(50)
    (4, 3, 1000000, 5)
    """

    __slots__ = ("bins", "count", "max", "min")

    def __init__(self) -> None:
        self.bins: Ints = np.zeros(0, np.int64)
        self.count = 0
        self.min: int | None = None
        self.max: int | None = None

    def __repr__(self) -> str:
        return f"<Histogram of {self.count:,} values, {self.min} to {self.max} ns>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Histogram):
            return NotImplemented
        return (self.count, self.min, self.max) == (other.count, other.min, other.max) and (
            np.array_equal(np.trim_zeros(self.bins, "b"), np.trim_zeros(other.bins, "b"))
        )

    __hash__ = None  # type: ignore[assignment]  # it changes

    # -- filling --------------------------------------------------------------------------------

    def add(self, values: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> None:
        """Count values (n,), integer ns from 0 to 2**62 - 1, each once or `weights` (n,) times.

        Raises
        ------
        ProfileError
            A value that is no integer, negative, or 2**62 and more; weights that are not as many
            integers of 1 and more.
        """
        array = np.asarray(values)
        if array.size == 0:
            return
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise ProfileError(
                f"values of type {array.dtype} and shape {array.shape}: give a 1-D array of "
                "integer nanoseconds"
            )
        low, high = int(array.min()), int(array.max())
        if low < 0 or high >= _LIMIT:
            raise ProfileError(
                f"value {low if low < 0 else high} ns: a histogram counts times from 0 to "
                "2**62 - 1 ns, leave others out and count them"
            )
        counts = np.ones(len(array), np.int64) if weights is None else np.asarray(weights)
        if counts.shape != array.shape or counts.dtype.kind not in "iu" or counts.min() < 1:
            raise ProfileError(
                f"weights of type {counts.dtype} and shape {counts.shape} for {len(array)} values: "
                "give an integer of 1 or more for each"
            )
        bins = bin_of(array.astype(np.float64))
        found = np.zeros(int(bins.max()) + 1, np.int64)
        np.add.at(found, bins, counts.astype(np.int64))
        self.add_counts(0, found, low, high)

    def add_counts(self, first: int, found: Ints, low: int, high: int) -> None:
        """Add counts of bins `first` and on; `low` and `high` are their extreme values."""
        self._reserve(first + len(found))
        self.bins[first : first + len(found)] += found
        self.count += int(found.sum())
        self.min = low if self.min is None else min(self.min, low)
        self.max = high if self.max is None else max(self.max, high)

    def merge(self, other: "Histogram") -> None:
        """Add the counts of another histogram."""
        self._reserve(len(other.bins))
        self.bins[: len(other.bins)] += other.bins
        self.count += other.count
        if other.min is not None and other.max is not None:
            self.min = other.min if self.min is None else min(self.min, other.min)
            self.max = other.max if self.max is None else max(self.max, other.max)

    def copy(self) -> "Histogram":
        """Return a histogram of its own with the same counts."""
        same = Histogram()
        same.merge(self)
        return same

    def _reserve(self, length: int) -> None:
        if length > len(self.bins):
            grown = np.zeros(length, np.int64)
            grown[: len(self.bins)] = self.bins
            self.bins = grown

    # -- reading --------------------------------------------------------------------------------

    def bounds_at(self, rank: int) -> tuple[int, int]:
        """Return the smallest and largest value (ns) that the value of that rank can have.

        Raises
        ------
        ProfileError
            The rank is not from 1 to `count`.
        """
        if self.min is None or self.max is None or not 1 <= rank <= self.count:
            raise ProfileError(f"rank {rank} of {self.count} values: ask for one from 1 to count")
        if rank == 1:
            return self.min, self.min
        if rank == self.count:
            return self.max, self.max
        place = int(np.searchsorted(np.cumsum(self.bins), rank))
        low, high = bin_edges(place)
        return max(int(low), self.min), min(int(high), self.max)

    def value_at(self, q: float) -> int | None:
        """Return the percentile `q` (0 to 100) in ns, within 0.05 %; None of no values.

        Also called `percentile`.
        """
        rank = rank_of(q, self.count)
        if self.count == 0:
            return None
        low, high = self.bounds_at(rank)
        return (low + high) // 2

    percentile = value_at

    def percentiles(self, qs: Sequence[float]) -> list[int | None]:
        """Return several percentiles, as `value_at` gives them."""
        return [self.value_at(q) for q in qs]

    def rank(self, value: int) -> tuple[float, float]:
        """Return bounds of the share of values at or below `value` (ns): they differ by its bin.

        Raises
        ------
        ProfileError
            There are no values.
        """
        if self.min is None or self.max is None:
            raise ProfileError("rank in a histogram of no values: add some first")
        if value < self.min:
            return 0.0, 0.0
        if value >= self.max:
            return 1.0, 1.0
        place = int(bin_of(np.array([value], np.float64))[0])
        below = int(self.bins[:place].sum())
        upto = below + int(self.bins[place]) if place < len(self.bins) else below
        low, high = bin_edges(place)
        if value >= int(high):
            return upto / self.count, upto / self.count
        # a bin whose smallest value is above: nothing of it counts
        return below / self.count, (below if value < int(low) else upto) / self.count

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        """Yield smallest value, largest value (ns) and count of each filled bin, in order."""
        filled = np.flatnonzero(self.bins)
        low, high = bin_edges(filled)
        yield from zip(low.tolist(), high.tolist(), self.bins[filled].tolist(), strict=True)

    # -- the protocol of Python's histogram libraries (UHI, "PlottableHistogram") ----------------

    @property
    def kind(self) -> str:
        """What the values are: counts."""
        return "COUNT"

    @property
    def axes(self) -> "tuple[_Axis]":
        """The axis: the bins from the smallest to the largest value, by their edges in ns."""
        return (_Axis(*self._reach()),)

    def values(self) -> Floats:
        """Return the counts of the axis's bins."""
        first, last = self._reach()
        return self.bins[first:last].astype(np.float64)

    def variances(self) -> Floats:
        """Return the variances of the counts: those of Poisson, the counts themselves."""
        return self.values()

    def counts(self) -> Floats:
        """Return the counts of the axis's bins."""
        return self.values()

    def _reach(self) -> tuple[int, int]:
        filled = np.flatnonzero(self.bins)
        return (int(filled[0]), int(filled[-1]) + 1) if len(filled) else (0, 0)

    # -- saved form -----------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Return the filled bins as values that JSON has."""
        filled = np.flatnonzero(self.bins)
        return {
            "rule": BIN_RULE,
            "min": self.min,
            "max": self.max,
            "bins": filled.tolist(),
            "counts": self.bins[filled].tolist(),
        }

    @classmethod
    def from_dict(cls, content: object) -> "Histogram":
        """Return the histogram that `to_dict` has written.

        Raises
        ------
        ProfileError
            Another bin rule, or bins and counts that do not fit.
        """
        saved: dict[str, Any] = content if isinstance(content, dict) else {}
        if saved.get("rule") != BIN_RULE:
            raise ProfileError(
                f"histogram has bin rule {saved.get('rule')!r}, not {BIN_RULE!r}: "
                "fold its trace again"
            )
        bins: Any = saved.get("bins")
        counts: Any = saved.get("counts")
        low: Any = saved.get("min")
        high: Any = saved.get("max")
        same = cls()
        if bins == [] and counts == [] and low is None and high is None:
            return same
        if not _fit(bins, counts, low, high):
            raise ProfileError("histogram's bins and counts do not fit: the file is damaged")
        found = np.zeros(bins[-1] + 1, np.int64)
        found[bins] = counts
        same.add_counts(0, found, low, high)
        return same


def _fit(bins: Any, counts: Any, low: Any, high: Any) -> bool:
    """Return whether values from `low` to `high` can have these counts in these bins."""
    if not (isinstance(bins, list) and isinstance(counts, list) and len(bins) == len(counts) > 0):
        return False
    if any(type(n) is not int or n < 0 for n in (*bins, *counts, low, high)):
        return False
    if min(counts) < 1 or sum(counts) >= 2**63 or any(a >= b for a, b in pairwise(bins)):
        return False
    if low > high or high >= _LIMIT or (low < high and sum(counts) == 1):
        return False
    return bool(bin_of(np.array([low, high], np.float64)).tolist() == [bins[0], bins[-1]])
