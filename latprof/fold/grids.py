"""Finds the step that all times are multiples of: the resolution of their clock or file.

A clock that counts whole milliseconds, or a file that keeps whole seconds, gives stamps that are
multiples of its step. Differences of such stamps say nothing about shorter times.
"""

from dataclasses import dataclass
from math import gcd
from typing import Annotated

import numpy as np

from latprof.arrays import Bounds, Ints
from latprof.units import STAMP_LIMIT

__all__ = ["FINE_NS", "Grid", "Step", "resolution_of", "step_of"]

FINE_NS = 1_000
"""Steps below this many ns are not distinguished: they are kept as 1 ns."""

_FIRST = 64  # values that are looked at first: they show most fine steps
_BLOCK = 1 << 14  # values that are divided at once: larger work arrays leave the cache

# in ns: decimal resolutions of files; ticks of Windows, of Linux and of its file systems
_DECIMAL = (*(10**k for k in range(3, 10)), 60 * 10**9)
_RESOLUTIONS = (*_DECIMAL, 15_625_000, 15_600_000, 4_000_000)

Step = Annotated[int, Bounds(0, 2 * STAMP_LIMIT)]
"""A step in ns: 1 if it is finer than `FINE_NS`, 0 if there are no two different values."""


def step_of(step: int, values: Ints, phase: int = 0) -> int:
    """Return the largest step of which `step` and all values (n,) minus `phase` are multiples.

    It is 1 if it is finer than `FINE_NS`.

    Examples
    --------
    >>> step_of(0, np.array([6_000, 9_000])), step_of(3_000, np.array([5_000])), step_of(0, [7])
    (3000, 1000, 1)
    """
    blocks = [(begin, begin + _BLOCK) for begin in range(0, len(values), _BLOCK)]
    for begin, end in [(0, _FIRST), *blocks]:
        if step == 1:
            return 1
        part = values[begin:end] - phase if phase else values[begin:end]
        # a multiple of the step leaves it as it is; divisions by one number are quick
        if not step or (part // step * step != part).any():
            step = gcd(step, int(np.gcd.reduce(part)))
            step = 1 if 0 < step < FINE_NS else step
    return step


def resolution_of(step: int) -> int | None:
    """Return a step if clocks or files have such a resolution, otherwise None.

    Examples
    --------
    >>> resolution_of(15_625_000), resolution_of(10**9), resolution_of(500_000_000)
    (15625000, 1000000000, None)
    """
    return step if step in _RESOLUTIONS else None


@dataclass(slots=True)
class Grid:
    """All stamps that were added are `phase` plus multiples of `step` ns.

    Examples
    --------
    >>> grid = Grid()
    >>> grid.add(np.array([5_000, 8_000, 14_000]))
    >>> grid
    Grid(step=3000, phase=2000)
    """

    step: Step = 0
    phase: Annotated[int, Bounds(1 - STAMP_LIMIT, STAMP_LIMIT - 1)] | None = None

    @property
    def resolution(self) -> int | None:
        """The step in ns if clocks or files have such a resolution, otherwise None."""
        known = resolution_of(self.step)
        # rounded times have phase 0; with another phase the step is a period of the program
        return None if known in _DECIMAL and self.phase else known

    def add(self, stamps: Ints) -> None:
        """Add stamps (n,) in ns, none of which is missing."""
        if self.step == 1 or not len(stamps):
            return
        if self.phase is None:
            self.phase = int(stamps[0])
        self._set(step_of(self.step, stamps, self.phase))

    def merge(self, other: "Grid") -> None:
        """Add the stamps of another grid."""
        if other.phase is None or self.step == 1:
            return
        if self.phase is None:
            self.step, self.phase = other.step, other.phase
            return
        step = gcd(self.step, other.step, other.phase - self.phase)
        self._set(1 if 0 < step < FINE_NS or other.step == 1 else step)

    def _set(self, step: int) -> None:
        self.step = step
        if step and self.phase is not None:
            self.phase = 0 if step == 1 else self.phase % step
