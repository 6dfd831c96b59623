"""Histograms that other tools have saved: how many values are in each range of times."""

from dataclasses import dataclass, field

__all__ = ["Binned", "BinnedFile"]


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
        Of what they are, for the headline.
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
