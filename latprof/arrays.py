"""Types for annotations: numpy arrays, and numbers and arrays with limits; exact sums of integers.

The limits say what a saved profile may hold; `latprof.profile.codec` checks them when it reads a
file.
"""

import mmap
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt

from latprof.units import STAMP_LIMIT

__all__ = [
    "Bounds",
    "Count",
    "Counts",
    "Duration",
    "Exact",
    "Floats",
    "FrameId",
    "Ids",
    "Ints",
    "Latency",
    "Length",
    "Mask",
    "Stamp",
    "exact_sum",
    "sparse_zeros",
    "widen",
]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Ids = npt.NDArray[np.uint64]

Exact = npt.NDArray[np.int64] | npt.NDArray[np.object_]
"""An array of integer sums: int64 while they fit, Python integers beyond."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """The smallest and the largest value of a number, or of the elements of an array.

    The sum of the elements must be below `total`; None means any sum.
    """

    low: float | int
    high: float | int
    total: int | None = None


@dataclass(frozen=True, slots=True)
class Length:
    """The largest number of elements of an array."""

    most: int


Count = Annotated[int, Bounds(0, 2**128)]
"""A number of frames or a sum of times, exact: 2**63 frames of 2**62 ns stay below the limit."""

Stamp = Annotated[int, Bounds(1 - STAMP_LIMIT, STAMP_LIMIT - 1)]
Latency = Annotated[int, Bounds(0, 2 * STAMP_LIMIT - 2)]
Duration = Annotated[int, Bounds(1, STAMP_LIMIT - 1)]
FrameId = Annotated[int, Bounds(0, 2**64 - 1)]

Counts = Annotated[Ints, Bounds(0, 2**63 - 1, total=2**63)]


def exact_sum(values: Ints, high: int, weights: Ints | None = None) -> int:
    """Return the exact sum of values (n,) from 0 to `high`, each counted `weights` (n,) times.

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


def sparse_zeros(length: int) -> Ints:
    """Return `length` zeros; only pages that are written to take memory.

    `numpy.zeros` gives the same from the system, but takes used memory after larger arrays have
    been freed, and then writes all zeros: the tables of a fold have 220 MB for eight stages, of
    which a small recording uses little.

    Examples
    --------
    >>> zeros = sparse_zeros(1 << 20)
    >>> zeros[7] += 1
    >>> int(zeros.sum()), zeros.dtype
    (1, dtype('int64'))
    """
    if not hasattr(mmap, "MAP_PRIVATE"):  # not on Windows
        return np.zeros(length, np.int64)
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS  # not shared with the child of a fork
    return np.frombuffer(mmap.mmap(-1, max(length, 1) * 8, flags), np.int64, length)


def widen(sums: Exact, bound: int) -> Exact:
    """Return the sums as an array that can hold values up to `bound`.

    Examples
    --------
    >>> widen(np.zeros(1, np.int64), 2**63 - 1).dtype, widen(np.zeros(1, np.int64), 2**63).dtype
    (dtype('int64'), dtype('O'))
    """
    return sums if bound < 2**63 else sums.astype(object)
