"""Where the frames of a chunk lie in the windows: long stretches of one window, or a mixture.

Frames come about in the order of time, so that most of a chunk lies in one window or in few. What
is counted of such a stretch need not be sorted into windows one by one: it is counted once, and
what has come together goes to the stretch's window as a whole.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from latprof.arrays import Mask
from latprof.fold.windows import Placement, Windows

__all__ = ["LONG", "Placed", "Stretch"]

LONG = 4_096
"""Frames from which on a stretch of one window is counted as a whole: moving its counts costs
about as much as sorting so many frames into windows."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """The frames `begin` to `end` of a chunk.

    `where` holds, for each of the windows they are counted in, its begin in UTC ns, if all of
    these frames lie in it; None where they lie in several, or are too few: `placements` says then
    where each of them lies.
    """

    begin: int
    end: int
    where: tuple[tuple[Windows, int], ...] | None
    placements: tuple[Placement, ...] = ()


class Placed:
    """Where the n frames of a chunk lie, in each of some windows.

    Examples
    --------
    >>> windows = Windows(("a",), 1_000_000, 8)
    >>> times = np.arange(20_000) * 100
    >>> placed = Placed([windows.place(times, 0, 1_999_900)], len(times))
    >>> [(stretch.begin, stretch.end, stretch.where is None) for stretch in placed.stretches]
    [(0, 10000, False), (10000, 20000, False)]
    """

    def __init__(self, placements: Sequence[Placement], n: int) -> None:
        self.placements = placements
        self.n = n

    def where(self, mask: Mask) -> "Placed":
        """Return the placement of some of the frames."""
        placements = [placement.where(mask) for placement in self.placements]
        return Placed(placements, int(np.count_nonzero(mask)))

    @cached_property
    def stretches(self) -> list[Stretch]:
        """All frames, in order."""
        changes = [np.array([0, self.n])]
        for placement in self.placements:
            if not isinstance(placement.rows, int):
                changes.append(placement.runs[1:])
        # an edge that stands twice makes a stretch of no frames; np.unique would load numpy.ma
        edges = np.sort(np.concatenate(changes)) if len(changes) > 1 else changes[0]
        stretches, done = [], 0
        for i in np.flatnonzero(np.diff(edges) >= LONG).tolist():
            begin, end = int(edges[i]), int(edges[i + 1])
            if begin > done:
                stretches.append(self._mixed(done, begin))
            where = tuple(
                (placement.windows, placement.begin_ns(begin)) for placement in self.placements
            )
            stretches.append(Stretch(begin, end, where))
            done = end
        if done < self.n:
            stretches.append(self._mixed(done, self.n))
        return stretches

    def _mixed(self, begin: int, end: int) -> Stretch:
        block = slice(begin, end)
        return Stretch(begin, end, None, tuple(each.part(block) for each in self.placements))
