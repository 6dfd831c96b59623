"""Histograms that other tools have saved: how many values are in each range of times."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from latprof.errors import TraceError
from latprof.units import STAMP_LIMIT

__all__ = ["EDGES", "Binned", "BinnedFile"]

EDGES = re.compile(
    rb"\s*(?:le|upper|upper_edge|edge|bucket)(?:_?(s|ms|us|ns))?\s*[,;\t]\s*(?:count|frames|n)\s*\r?\n"
)
"""The first line of a table of upper edges, with their unit, and counts."""


@dataclass(slots=True)
class Binned:
    """The values of one histogram.

    Attributes
    ----------
    upper
        The largest time of each bin in ns, ascending.
    lower
        The smallest time of each bin, or an empty list if a bin begins where the one before ends.
    counts
        How many values each bin has.
    above
        How many values are above the last bin: in an open bucket.
    total
        The sum of the values in ns, or None if the file does not have it.
    smallest, largest
        The extreme values in ns as the file gives them, or None.
    """

    upper: list[int] = field(default_factory=list)
    lower: list[int] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    above: int = 0
    total: int | None = None
    smallest: int | None = None
    largest: int | None = None

    @classmethod
    def up_to(cls, edges: Iterable[tuple[float, int]]) -> "Binned":
        """Return the histogram for pairs of an edge in ns and the number of values up to it.

        The last edge may be infinite. Equal edges are one edge.

        Raises
        ------
        TraceError
            Edges or counts do not grow, or are too large.
        """
        part, before = cls(), 0
        for edge, upto in edges:
            upper = edge if math.isinf(edge) else round(edge)
            if upto < before or (part.upper and upper < part.upper[-1]):
                raise TraceError(
                    "counts of buckets must grow with their edges; take an intact copy"
                )
            if upto >= 2**63 or not (edge == math.inf or 0 <= edge < STAMP_LIMIT):
                raise TraceError(
                    "edges must be from 0 to 2**62 ns, and counts below 2**63, got "
                    f"{edge:g} ns and {upto}; check the unit (--unit)"
                )
            if edge == math.inf:
                part.above = upto - before
            elif part.upper and upper == part.upper[-1]:
                part.counts[-1] += upto - before
            else:
                part.upper.append(int(upper))
                part.counts.append(upto - before)
            before = upto
        return part

    @property
    def values(self) -> int:
        """How many values there are."""
        return sum(self.counts) + self.above

    def check_extremes(self) -> bool:
        """Return whether the extreme values fit the bins; forget them if they do not."""
        filled = [place for place, count in enumerate(self.counts) if count]
        lower = self.lower or [0, *self.upper[:-1]]
        fits = True
        if self.smallest is not None and filled and self.smallest > self.upper[filled[0]]:
            self.smallest, fits = None, False
        least = self.upper[-1] if self.above and self.upper else 0
        if filled:
            least = max(least, lower[filled[-1]])
        if self.largest is not None and self.largest < least:
            self.largest, fits = None, False
        return fits


@dataclass(slots=True)
class BinnedFile:
    """The histograms of a file.

    Attributes
    ----------
    name
        Of the tool or the kind of histogram, for the headline.
    by
        What distinguishes the histograms, or None if there is one.
    parts
        By name of the group.
    reading, notes
        What was assumed, and what was odd, counted.
    """

    name: str
    by: str | None = None
    parts: dict[str, Binned] = field(default_factory=dict)
    reading: list[str] = field(default_factory=list)
    notes: dict[str, int] = field(default_factory=dict)
