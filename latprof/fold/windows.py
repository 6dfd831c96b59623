"""Counts by window of time and by coarse bin of latency: how a latency changes over time.

Windows lie on a grid (multiples of the width, from 1970), and widths double as time grows, so
that parts merge into what the whole would have given, whatever the cut and the order.
"""

import math
from functools import cached_property

import numpy as np

from latprof.arrays import Ints, Mask

__all__ = ["COARSE", "COARSE_BINS", "Placement", "Windows", "coarse_bin"]

COARSE = 5
"""Coarse bins join 2**5 of the histogram's: 32 an octave."""

COARSE_BINS = (62 << (10 - COARSE)) + 2
"""Number of coarse bins: 62 octaves, one of 0, and one that rounding up to 2**62 reaches."""

_OCTAVE = 1 << (10 - COARSE)


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
        # (most, some of the coarse bins) each: those that were met, from `_begin` on
        self._room = {name: np.zeros((most, 0), np.int64) for name in names}
        self._begin = dict.fromkeys(names, 0)
        self._rows = np.empty(0, np.int64)
        self.sums = {name: np.zeros(most, np.int64) for name in names if moments}
        self.peaks = {name: np.zeros(most, np.int64) for name in names if moments}

    def counts(self, name: str) -> Ints:
        """Return the counts (windows, coarse bins) of one latency: a copy."""
        whole = np.zeros((self.length, COARSE_BINS), np.int64)
        begin, room = self._begin[name], self._room[name]
        whole[:, begin : begin + room.shape[1]] = room[: self.length]
        return whole

    def add_counts(self, name: str, rows: Ints, bins: Ints, counts: Ints) -> None:
        """Add counts (n,) of one latency in windows `rows` and coarse bins `bins`."""
        if len(bins):
            room = self._reached(name, int(bins.min()), int(bins.max()))
            np.add.at(room, (rows, bins - self._begin[name]), counts)

    def _reached(self, name: str, low: int, high: int) -> Ints:
        """Return the room of one latency, wide enough for coarse bins from `low` to `high`."""
        room, begin = self._room[name], self._begin[name]
        end = begin + room.shape[1]
        if room.shape[1] and begin <= low and high < end:
            return room
        if not room.shape[1]:
            begin = end = low
        # an octave more on each side, so that it does not grow with each new extreme
        wider = max(min(low, begin) - _OCTAVE, 0), min(max(high + 1, end) + _OCTAVE, COARSE_BINS)
        grown = np.zeros((self.most, wider[1] - wider[0]), np.int64)
        grown[:, begin - wider[0] : begin - wider[0] + room.shape[1]] = room
        self._room[name], self._begin[name] = grown, wider[0]
        return grown

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
        while self.length and self.width_ns < width:
            self._double()
        self.width_ns = width

    def _double(self) -> None:
        odd = self.first & 1  # the first window is the second half of a new one
        self.width_ns *= 2
        self.first //= 2
        length = (self.length + odd + 1) // 2
        peaks = {id(peak) for peak in self.peaks.values()}
        for room in self._all_rooms():
            join = np.maximum if id(room) in peaks else np.add
            joined = np.zeros((length, *room.shape[1:]), np.int64)
            first, second = room[odd : self.length : 2], room[1 - odd : self.length : 2]
            joined[odd : odd + len(first)] = first
            into = joined[: len(second)]
            join(into, second, out=into)
            room[: self.length] = 0
            room[:length] = joined
        self.length = length

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
            rows, bins = np.nonzero(other._room[name][: other.length])
            counts = other._room[name][rows, bins]
            self.add_counts(name, places[rows], bins + other._begin[name], counts)
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
            return Placement(self, first - self.first)
        if len(times) > len(self._rows):
            self._rows = np.empty(len(times), np.int64)
        rows = self._rows[: len(times)]
        if self.width_ns & (self.width_ns - 1):
            np.floor_divide(times, self.width_ns, out=rows)
        else:
            np.right_shift(times, self.width_ns.bit_length() - 1, out=rows)
        return Placement(self, np.subtract(rows, self.first, out=rows))

    def add_run(self, name: str, begin_ns: int, first: int, counts: Ints) -> None:
        """Add counts of one latency, by coarse bin from `first` on, to the window at `begin_ns`."""
        room = self._reached(name, first, first + len(counts) - 1)
        place = first - self._begin[name]
        room[self._row(begin_ns), place : place + len(counts)] += counts

    def add_moments(self, name: str, begin_ns: int, total: Ints, peak: int) -> None:
        """Add the sum (a scalar, ns) and the peak of latencies to the window at `begin_ns`."""
        row = self._row(begin_ns)
        # a slice: sums of centuries wrap around, as they do elsewhere, without a warning
        self.sums[name][row : row + 1] += total
        self.peaks[name][row] = max(int(self.peaks[name][row]), peak)

    def _row(self, begin_ns: int) -> int:
        return begin_ns // self.width_ns - self.first

    @property
    def begins_ns(self) -> Ints:
        """The begin of each window, UTC ns."""
        return np.arange(self.first, self.first + self.length) * self.width_ns


class Placement:
    """Where the frames of a chunk are counted: the window's row of each, or one row of all."""

    def __init__(self, windows: Windows, rows: Ints | int) -> None:
        self.windows = windows
        self.rows = rows

    def where(self, mask: Mask) -> "Placement":
        """Return the placement of some of the frames."""
        return self if isinstance(self.rows, int) else Placement(self.windows, self.rows[mask])

    def begin_ns(self, i: int) -> int:
        """Return the begin of the window that frame `i` lies in, UTC ns."""
        row = self.rows if isinstance(self.rows, int) else int(self.rows[i])
        return (self.windows.first + row) * self.windows.width_ns

    def part(self, block: slice) -> "Placement":
        """Return the placement of consecutive frames."""
        return self if isinstance(self.rows, int) else Placement(self.windows, self.rows[block])

    @cached_property
    def runs(self) -> Ints:
        """Where each run of frames in one window begins."""
        rows = self.rows
        if isinstance(rows, int):
            return np.zeros(1, np.int64)
        return np.concatenate((np.zeros(1, np.int64), np.flatnonzero(rows[1:] != rows[:-1]) + 1))

    def add(
        self,
        name: str,
        coarse: Ints,
        latency: Ints,
        weights: Ints,
        work: Ints,
        reach: tuple[int, int] | None = None,
    ) -> None:
        """Count n > 0 latencies in ns, whose coarse bins are known; `work` (n,) is overwritten.

        `reach` are the smallest and the largest of the coarse bins, where the caller knows them.
        """
        windows, rows = self.windows, self.rows
        low, high = reach or (int(coarse.min()), int(coarse.max()))
        room = windows._reached(name, low, high)
        begin = windows._begin[name]
        if isinstance(rows, int):
            np.subtract(coarse, begin, out=work)
            np.add.at(room[rows], work, weights)
        else:
            np.multiply(rows, room.shape[1], out=work)
            np.add(work, coarse, out=work)
            np.subtract(work, begin, out=work)
            np.add.at(room.reshape(-1), work, weights)
        if name not in windows.sums:
            return
        # frames come about in the order of time: runs are few beside the frames
        where = np.array([rows]) if isinstance(rows, int) else rows[self.runs]
        np.multiply(latency, weights, out=work)
        np.add.at(windows.sums[name], where, np.add.reduceat(work, self.runs))
        np.maximum.at(windows.peaks[name], where, np.maximum.reduceat(latency, self.runs))


def coarse_bin(value: int) -> int:
    """Return the coarse bin of an integer of 0 and more.

    Examples
    --------
    >>> [coarse_bin(value) for value in (0, 1, 2, 3, 1024, 1056)]
    [0, 1, 33, 49, 321, 322]
    """
    if value == 0:
        return 0
    mantissa, exponent = math.frexp(value)  # 0.5 <= mantissa < 1
    steps = 1 << (10 - COARSE)
    return (exponent - 1) * steps + int((mantissa * 2 - 1) * steps) + 1
