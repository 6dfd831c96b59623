"""Types for annotations: numpy arrays, and numbers and arrays with limits.

The limits say what a saved profile may hold; `latprof.profile.codec` checks them when it reads a
file.
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import numpy.typing as npt

from latprof.units import STAMP_LIMIT

__all__ = [
    "Bounds",
    "Count",
    "Counts",
    "Duration",
    "Floats",
    "FrameId",
    "Ids",
    "Ints",
    "Latency",
    "Length",
    "Mask",
    "Stamp",
]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Ids = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Bounds:
    """The smallest and the largest value of a number, or of the elements of an array.

    `total` is a value that the sum of the elements must stay below.
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
