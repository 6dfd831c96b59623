"""Counts by window of time and by coarse bin of latency: how a latency changes over time.

Windows lie on a grid (multiples of the width, from 1970), and widths double as time grows, so
that parts merge into what the whole would have given, whatever the cut and the order.
"""

import numpy as np
import numpy.typing as npt

__all__ = ["COARSE", "COARSE_BINS", "Placement", "Windows"]

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
    moments
        Keep sums and peaks by window as well.
    """

    def __init__(
        self, names: tuple[str, ...], width_ns: int, most: int, *, moments: bool = False
    ) -> None:
        self.names = names
        self.base_ns = width_ns
        self.width_ns = width_ns
        self.most = most
        self.first = 0  # number of the first window on the grid
        self.length = 0
        # there is room for `most` rows from the start: what is not touched takes no memory
        self._room = {name: np.zeros((most, COARSE_BINS), np.int64) for name in names}
        self._rows = self._begins = np.empty(0, np.int64)
        self.sums = {name: np.zeros(most, np.int64) for name in names if moments}
        self.peaks = {name: np.zeros(most, np.int64) for name in names if moments}

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
            for room in self._all_rooms():
                moved = room[: self.length].copy()
                room[: self.length] = 0
                room[self.first - first : self.first - first + self.length] = moved
        self.first, self.length = first, last_ns // width - first + 1

    def _widen(self, width: int) -> None:
        factor = width // self.width_ns
        self.width_ns = width
        if factor == 1 or not self.length:
            return
        numbers = np.arange(self.first, self.first + self.length) // factor
        starts = np.flatnonzero(np.diff(numbers, prepend=numbers[0] - 1))
        for room in self._all_rooms():
            join = np.maximum if any(room is peak for peak in self.peaks.values()) else np.add
            joined = join.reduceat(room[: self.length], starts)
            room[: self.length] = 0
            room[: len(starts)] = joined
        self.first, self.length = int(numbers[0]), len(starts)

    def _all_rooms(self) -> list[Ints]:
        return [*self._room.values(), *self.sums.values(), *self.peaks.values()]

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
            # only what is filled: to add zeros would take memory for them
            rows, bins = np.nonzero(other.counts(name))
            np.add.at(self._room[name], (places[rows], bins), other.counts(name)[rows, bins])
        for name, sums in self.sums.items():
            np.add.at(sums, places, other.sums[name][: other.length])
            np.maximum.at(self.peaks[name], places, other.peaks[name][: other.length])

    def place(self, times: Ints, low: int, high: int) -> "Placement":
        """Make room for frames at `times` (n,), and say in which window each of them is.

        `low` and `high` are the smallest and largest of the times. The placement holds until the
        next call.
        """
        self.cover(low, high)
        first = low // self.width_ns
        if high // self.width_ns == first:
            row = first - self.first
            return Placement(self, row, row * COARSE_BINS)
        if len(times) > len(self._rows):
            self._rows = np.empty(len(times), np.int64)
            self._begins = np.empty(len(times), np.int64)
        rows = self._rows[: len(times)]
        if self.width_ns & (self.width_ns - 1):
            np.floor_divide(times, self.width_ns, out=rows)
        else:
            np.right_shift(times, self.width_ns.bit_length() - 1, out=rows)
        np.subtract(rows, self.first, out=rows)
        begins = np.multiply(rows, COARSE_BINS, out=self._begins[: len(times)])
        return Placement(self, rows, begins)

    @property
    def begins_ns(self) -> Ints:
        """The begin of each window, UTC ns."""
        return np.arange(self.first, self.first + self.length) * self.width_ns


class Placement:
    """Where the frames of a chunk are counted: the window's row of each, or one row of all."""

    def __init__(self, windows: Windows, rows: Ints | int, begins: Ints | int) -> None:
        self.windows = windows
        self.rows = rows
        self._begins = begins  # where the rows begin in the flat counts

    def where(self, mask: npt.NDArray[np.bool_]) -> "Placement":
        """Return the placement of some of the frames."""
        if isinstance(self.rows, int) or isinstance(self._begins, int):
            return self
        return Placement(self.windows, self.rows[mask], self._begins[mask])

    def add(self, name: str, coarse: Ints, latency: Ints, weights: Ints, work: Ints) -> None:
        """Count latencies (n,) in ns, whose coarse bins are known; `work` (n,) is overwritten."""
        windows = self.windows
        counts = windows.counts(name)
        if isinstance(self.rows, int):
            np.add.at(counts[self.rows], coarse, weights)
        else:
            np.add(coarse, self._begins, out=work)
            np.add.at(counts.reshape(-1), work, weights)
        if name not in windows.sums:
            return
        if isinstance(self.rows, int):
            windows.sums[name][self.rows : self.rows + 1] += (latency * weights).sum()
            peak = max(int(windows.peaks[name][self.rows]), int(latency.max()))
            windows.peaks[name][self.rows] = peak
        else:
            np.multiply(latency, weights, out=work)
            np.add.at(windows.sums[name], self.rows, work)
            np.maximum.at(windows.peaks[name], self.rows, latency)
