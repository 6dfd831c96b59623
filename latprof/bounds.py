"""Limits of saved fields, as annotations: what a number may be, and how long an array may be.

They say what a saved profile may hold; `latprof.profile.codec` checks them when it reads a file.
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import numpy.typing as npt

from latprof.arrays import Ints
from latprof.frames import STAMP_LIMIT

__all__ = ["Bounds", "Count", "Counts", "Duration", "FrameId", "Ids", "Latency", "Length", "Stamp"]


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
Ids = npt.NDArray[np.uint64]
