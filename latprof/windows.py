"""Counts by window of time and by coarse bin of latency: how a latency changes over time.

Windows lie on a grid (multiples of the width, from 1970), and widths double as time grows, so
that parts merge into what the whole would have given, whatever the cut and the order.
"""

import numpy as np
import numpy.typing as npt

__all__ = ["COARSE", "COARSE_BINS", "Windows"]

COARSE = 5
"""Coarse bins join 2**5 of the histogram's: 32 an octave."""

COARSE_BINS = (62 << (10 - COARSE)) + 2
"""Number of coarse bins: 62 octaves, one of 0, and one that rounding up to 2**62 reaches."""

Ints = npt.NDArray[np.int64]


class Windows:
    """Counts (windows, coarse bins) of one or several latencies, at most `most` windows.

    Parameters
    ----------
    names
        Of the latencies.
    width_ns
        Smallest width; it doubles until the time range fits.
    most
        Largest number of windows.
    """

    def __init__(self, names: tuple[str, ...], width_ns: int, most: int) -> None:
        self.names = names
        self.width_ns = width_ns
        self.most = most
        self.first = 0  # number of the first window on the grid
        self.length = 0
        # there is room for `most` rows from the start: what is not touched takes no memory
        self._room = {name: np.zeros((most, COARSE_BINS), np.int64) for name in names}

    def counts(self, name: str) -> Ints:
        """Return the counts (windows, coarse bins) of one latency: a view."""
        return self._room[name][: self.length]

    def cover(self, first_ns: int, last_ns: int) -> None:
        """Make room for stamps from `first_ns` to `last_ns`, doubling the width as needed."""
        if self.length:
            first_ns = min(first_ns, self.first * self.width_ns)
            last_ns = max(last_ns, (self.first + self.length) * self.width_ns - 1)
        width = self.width_ns
        while last_ns // width - first_ns // width >= self.most:
            width *= 2
        self._widen(width)
        first = first_ns // width
        if self.length and first < self.first:
            for room in self._room.values():
                counts = room[: self.length].copy()
                room[: self.length] = 0
                room[self.first - first : self.first - first + self.length] = counts
        self.first, self.length = first, last_ns // width - first + 1

    def _widen(self, width: int) -> None:
        factor = width // self.width_ns
        self.width_ns = width
        if factor == 1 or not self.length:
            return
        numbers = np.arange(self.first, self.first + self.length) // factor
        starts = np.flatnonzero(np.diff(numbers, prepend=numbers[0] - 1))
        for room in self._room.values():
            counts = np.add.reduceat(room[: self.length], starts)
            room[: self.length] = 0
            room[: len(starts)] = counts
        self.first, self.length = int(numbers[0]), len(starts)

    def merge(self, other: "Windows") -> None:
        """Add the counts of other frames, in windows of the same grid."""
        if not other.length:
            return
        self._widen(max(self.width_ns, other.width_ns))
        begin = other.first * other.width_ns
        self.cover(begin, begin + other.length * other.width_ns - 1)
        places = (np.arange(other.first, other.first + other.length) * other.width_ns) // (
            self.width_ns
        ) - self.first
        for name in self.names:
            np.add.at(self._room[name], places, other.counts(name))

    def rows_of(self, stamps: Ints, low: int, high: int) -> Ints | int:
        """Return the row of each stamp (n,) in the counts, or one number if it is the same.

        `low` and `high` are the smallest and largest of them; `cover` has made room.
        """
        one = low // self.width_ns
        if high // self.width_ns == one:
            return one - self.first
        if self.width_ns & (self.width_ns - 1):
            rows = stamps // self.width_ns
        else:
            rows = stamps >> (self.width_ns.bit_length() - 1)
        return np.subtract(rows, self.first, out=rows)

    @property
    def begins_ns(self) -> Ints:
        """The begin of each window, UTC ns."""
        return np.arange(self.first, self.first + self.length) * self.width_ns
