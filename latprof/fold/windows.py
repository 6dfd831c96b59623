"""Counts by window of time and by coarse bin of latency: how a latency changes over time.

Windows start at multiples of their width, counted from 1970, and the width doubles as the time
range grows, so that the merged windows of parts equal the windows of the whole.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated

import numpy as np

from latprof.arrays import Bounds, Count, Counts, Duration, Exact, Ints, Length, Mask, widen
from latprof.histogram import COARSE, COARSE_BINS, coarse_bin
from latprof.units import STAMP_LIMIT

__all__ = [
    "DEEPEST",
    "ChunkWindows",
    "Run",
    "TimeWindows",
    "WindowIndex",
]

LONG_RUN = 4_096
"""Frames that a run in one window needs to be counted as a whole: adding its counts to the window
takes about as long as sorting this many frames into windows one by one."""

DEEPEST = 2 * STAMP_LIMIT - 1
"""The depth of the value 0, in ns: see `TimeWindows`."""

_OCTAVE = 1 << (10 - COARSE)  # coarse bins of an octave


_MOST_WINDOWS = 1_024  # limit of `most` in a saved profile


@dataclass(eq=False)
class TimeWindows:
    """Counts (windows, coarse bins) of one or several latencies, in at most `most` windows.

    Parameters
    ----------
    names
        Names of the latencies.
    base_ns
        Smallest width; `width_ns` doubles from it until the time range fits into `most` windows.
    most
        Largest number of windows.
    moments
        Whether to keep sums and extremes by window as well.
    width_ns
        The present width of the windows.
    first, length
        Start of the first window, in widths since 1970, and the number of windows.
    tables, first_bin
        Counts (most, coarse bins seen so far) of each latency, and the first of these bins.
    sums, peaks, depths
        Sums, peaks and depths (most,) of each latency by window, if there are `moments`. A depth is
        `DEEPEST` minus the smallest value, and 0 without values, so that it is joined as a peak is.
    earliest, latest
        (most,) `STAMP_LIMIT` minus the first time in each window, and `STAMP_LIMIT` plus the last
        one; 0 without times. `ranges` gives the times.
    """

    names: tuple[str, ...]
    base_ns: Duration
    most: Annotated[int, Bounds(1, _MOST_WINDOWS)]
    moments: bool = field(default=False, kw_only=True)
    width_ns: Duration = 0
    first: int = 0
    length: Count = 0
    tables: dict[str, Annotated[Counts, Length(_MOST_WINDOWS * COARSE_BINS)]] = field(
        default_factory=dict
    )
    first_bin: dict[str, Count] = field(default_factory=dict)
    sums: dict[str, Annotated[Exact, Bounds(0, 2**128)]] = field(default_factory=dict)
    peaks: dict[str, Annotated[Ints, Bounds(0, 2 * STAMP_LIMIT - 2)]] = field(default_factory=dict)
    depths: dict[str, Annotated[Ints, Bounds(0, DEEPEST)]] = field(default_factory=dict)
    earliest: Annotated[Ints, Bounds(0, DEEPEST)] = field(
        default_factory=lambda: np.zeros(0, np.int64)
    )
    latest: Annotated[Ints, Bounds(0, DEEPEST)] = field(
        default_factory=lambda: np.zeros(0, np.int64)
    )
    _rows: Ints = field(default_factory=lambda: np.empty(0, np.int64), init=False)

    def __post_init__(self) -> None:
        """Begin with windows of no frames, unless some are given.

        Raises
        ------
        ValueError
            Windows that were given do not fit each other.
        """
        if self.width_ns:
            self._check()
            return
        self.width_ns = self.base_ns
        self.tables = {name: np.zeros((self.most, 0), np.int64) for name in self.names}
        self.first_bin = dict.fromkeys(self.names, 0)
        names = self.names if self.moments else ()
        self.sums = {name: np.zeros(self.most, np.int64) for name in names}
        self.peaks = {name: np.zeros(self.most, np.int64) for name in names}
        self.depths = {name: np.zeros(self.most, np.int64) for name in names}
        self.earliest, self.latest = np.zeros((2, self.most), np.int64)

    def _check(self) -> None:
        """Refuse windows that do not fit each other, with a ValueError."""
        doublings, rest = divmod(self.width_ns, self.base_ns)
        if rest or doublings.bit_count() != 1:
            raise ValueError(
                f"width_ns must be base_ns ({self.base_ns}) times a power of two, got "
                f"{self.width_ns}"
            )
        begin, end = (
            (self.first + 1) * self.width_ns,
            (self.first + self.length - 1) * self.width_ns,
        )
        if self.length > self.most or begin <= -STAMP_LIMIT or end >= STAMP_LIMIT:
            raise ValueError(
                f"first and length must be those of at most {self.most} windows between -2**62 and "
                f"2**62 ns, got {self.first} and {self.length}"
            )
        moments = self.names if self.moments else ()
        parts = (self.tables, self.first_bin, self.sums, self.peaks, self.depths)
        if [tuple(part) for part in parts] != [self.names] * 2 + [moments] * 3:
            raise ValueError(
                "tables and first_bin, with moments also sums, peaks and depths, must have the "
                "names of the spans"
            )
        for name, counts in self.tables.items():
            if counts.ndim != 2 or self.first_bin[name] + counts.shape[1] > COARSE_BINS:
                raise ValueError(
                    f"tables must have two axes, and bins up to {COARSE_BINS:,}, got shape "
                    f"{counts.shape} from bin {self.first_bin[name]}"
                )
        for array in self._arrays():
            if len(array) != self.most or array[self.length :].any():
                raise ValueError(
                    f"arrays of windows must have {self.most} rows, 0 from row {self.length} on, "
                    f"got {len(array)} rows, {np.count_nonzero(array[self.length :])} values there"
                )
        known, first, last = self.ranges()
        places = np.floor_divide((first, last), self.width_ns)
        if (self.latest[: self.length][~known] != 0).any() or (
            places != self.first + np.flatnonzero(known)
        ).any():
            raise ValueError("first and last times must be in their windows")

    def ranges(self) -> tuple[Mask, Ints, Ints]:
        """Return which windows have times, and the first and the last time of each of them."""
        known = self.earliest[: self.length] > 0
        first = STAMP_LIMIT - self.earliest[: self.length][known]
        return known, first, self.latest[: self.length][known] - STAMP_LIMIT

    def lows(self, name: str) -> Ints:
        """Return the smallest value of each window, 0 without values, if there are `moments`."""
        depths = self.depths[name][: self.length]
        return np.where(depths > 0, DEEPEST - depths, 0)

    def counts(self, name: str) -> Ints:
        """Return a copy of the counts (windows, coarse bins) of one latency."""
        counts = np.zeros((self.length, COARSE_BINS), np.int64)
        begin, table = self.first_bin[name], self.tables[name]
        counts[:, begin : begin + table.shape[1]] = table[: self.length]
        return counts

    def _table_for(self, name: str, low: int, high: int) -> Ints:
        """Return the table of one latency, wide enough for coarse bins from `low` to `high`."""
        table, begin = self.tables[name], self.first_bin[name]
        end = begin + table.shape[1]
        if table.shape[1] and begin <= low and high < end:
            return table
        if not table.shape[1]:
            begin = end = low
        # whole octaves: it seldom grows, and tables of equal counts have equal shapes
        first = min(low, begin) // _OCTAVE * _OCTAVE
        stop = min(-(-max(high + 1, end) // _OCTAVE) * _OCTAVE, COARSE_BINS)
        grown = np.zeros((self.most, stop - first), np.int64)
        grown[:, begin - first : begin - first + table.shape[1]] = table
        self.tables[name], self.first_bin[name] = grown, first
        return grown

    def cover(self, first_ns: int, last_ns: int) -> None:
        """Extend the windows to stamps from `first_ns` to `last_ns`, doubling the width if needed.

        Windows of 10 ns, at most 4 of them, extended to 55 ns:

            0    10   20   30             width 10, first 0, length 4
            0         20        40        width 20, first 0, length 3
        """
        if self.length:
            first_ns = min(first_ns, self.first * self.width_ns)
            last_ns = max(last_ns, (self.first + self.length) * self.width_ns - 1)
        width = self.width_ns
        while last_ns // width - first_ns // width >= self.most:
            width *= 2
        if width > self.width_ns:
            self._widen(width)
        first = first_ns // width
        if self.length and first < self.first:
            for array in self._arrays():
                moved = array[: self.length].copy()
                array[: self.length] = 0
                array[self.first - first : self.first - first + self.length] = moved
        self.first, self.length = first, last_ns // width - first + 1

    def _widen(self, width: int) -> None:
        """Join windows to windows of a multiple of their width."""
        if not self.length:
            self.width_ns = width
            return
        places = self.begins_ns // width
        begins = _run_begins(places)
        joined_most = min(width // self.width_ns, self.length)
        self.width_ns = width
        for name, sums in self.sums.items():
            self.sums[name] = widen(sums, joined_most * int(sums.max()))
        added = {id(array) for part in (self.tables, self.sums) for array in part.values()}
        for array in self._arrays():
            join = np.add if id(array) in added else np.maximum
            joined = join.reduceat(array[: self.length], begins, axis=0)
            array[: self.length] = 0
            array[: len(begins)] = joined
        self.first, self.length = int(places[0]), len(begins)

    def _arrays(self) -> list[Exact]:
        parts = (self.tables, self.sums, self.peaks, self.depths)
        return [*(array for part in parts for array in part.values()), self.earliest, self.latest]

    def merge(self, other: "TimeWindows") -> None:
        """Add the counts of other frames, in windows of the same base width."""
        if not other.length:
            return
        if other.width_ns > self.width_ns:
            self._widen(other.width_ns)
        begin = other.first * other.width_ns
        self.cover(begin, begin + other.length * other.width_ns - 1)
        rows = other.begins_ns // self.width_ns - self.first
        begins = _run_begins(rows)
        for name, counts in other.tables.items():
            if counts.shape[1]:
                joined = np.add.reduceat(counts[: other.length], begins, axis=0)
                self._add_table(name, slice(rows[0], rows[-1] + 1), other.first_bin[name], joined)
        for name in self.sums:
            sums = other.sums[name][: other.length]
            extremes = other.depths[name][: other.length], other.peaks[name][: other.length]
            self.add_moments(name, rows, sums, extremes, sum(sums.tolist()))
        np.maximum.at(self.earliest, rows, other.earliest[: other.length])
        np.maximum.at(self.latest, rows, other.latest[: other.length])

    def locate(self, times: Ints, low: int, high: int) -> "WindowIndex":
        """Extend the windows to `times` (n,), and return the window of each.

        `low` and `high` are the first and the last of the times.

        The result is valid until the next call.
        """
        self.cover(low, high)
        first = low // self.width_ns
        if high // self.width_ns == first:
            row = first - self.first
            self.earliest[row] = max(self.earliest[row], STAMP_LIMIT - low)
            self.latest[row] = max(self.latest[row], STAMP_LIMIT + high)
            return WindowIndex(self, row)
        if len(times) > len(self._rows):
            self._rows = np.empty(len(times), np.int64)
        rows = self._rows[: len(times)]
        if self.width_ns & (self.width_ns - 1):
            np.floor_divide(times, self.width_ns, out=rows)
        else:
            np.right_shift(times, self.width_ns.bit_length() - 1, out=rows)
        index = WindowIndex(self, np.subtract(rows, self.first, out=rows))
        begins = index.run_begins
        where = rows[begins]
        np.maximum.at(self.earliest, where, STAMP_LIMIT - np.minimum.reduceat(times, begins))
        np.maximum.at(self.latest, where, STAMP_LIMIT + np.maximum.reduceat(times, begins))
        return index

    def add_run(self, name: str, begin_ns: int, first: int, counts: Ints) -> None:
        """Add counts of coarse bins from `first` on to the window that begins at `begin_ns`."""
        row = self.row(begin_ns)
        self._add_table(name, slice(row, row + 1), first, counts[np.newaxis])

    def _add_table(self, name: str, rows: slice, first: int, counts: Ints) -> None:
        """Add counts (windows, coarse bins) to some rows of a table, from bin `first` on."""
        width = counts.shape[1]
        table = self._table_for(name, first, first + width - 1)
        place = first - self.first_bin[name]
        table[rows, place : place + width] += counts

    def add_moments(
        self,
        name: str,
        rows: Ints,
        sums: Exact | list[int],
        extremes: tuple[Ints, Ints],
        bound: int,
    ) -> None:
        """Add sums, depths and peaks (n,) to windows `rows` (n,).

        The sums add up to at most `bound`.
        """
        exact = widen(self.sums[name], bound + int(self.sums[name].max()))
        np.add.at(exact, rows, np.asarray(sums, exact.dtype))
        self.sums[name] = exact
        for array, values in zip((self.depths[name], self.peaks[name]), extremes, strict=True):
            np.maximum.at(array, rows, values)

    def row(self, begin_ns: int) -> int:
        """Return the row of the window that begins at `begin_ns`."""
        return begin_ns // self.width_ns - self.first

    @property
    def begins_ns(self) -> Ints:
        """The begin of each window, UTC ns."""
        return np.arange(self.first, self.first + self.length) * self.width_ns


class WindowIndex:
    """The window of each frame of a chunk: an array of rows, or one row that all frames share."""

    def __init__(self, windows: TimeWindows, rows: Ints | int) -> None:
        self.windows = windows
        self.rows = rows

    def take(self, index: Mask | slice) -> "WindowIndex":
        """Return the index of some of the frames."""
        return self if isinstance(self.rows, int) else WindowIndex(self.windows, self.rows[index])

    def begin_ns(self, i: int) -> int:
        """Return the begin of the window of frame `i`, UTC ns."""
        row = self.rows if isinstance(self.rows, int) else int(self.rows[i])
        return (self.windows.first + row) * self.windows.width_ns

    @cached_property
    def run_begins(self) -> Ints:
        """Where each run of consecutive frames in one window begins."""
        rows = self.rows
        if isinstance(rows, int):
            return np.zeros(1, np.int64)
        return _run_begins(rows)

    def add(
        self,
        name: str,
        coarse: Ints,
        latency: Ints,
        weights: Ints,
        work: Ints,
        extremes: tuple[int, int],
        bound: int,
    ) -> None:
        """Count n > 0 latencies (ns), each in the window of its frame.

        Parameters
        ----------
        name
            Name of the latency.
        coarse, latency, weights
            (n,) coarse bins, latencies in ns, and the number of frames that each row represents.
        work
            (n,) work space, which is overwritten.
        extremes
            Bounds of the latencies, ns.
        bound
            Bound of the sum of latencies times weights.
        """
        windows, rows = self.windows, self.rows
        table = windows._table_for(name, coarse_bin(extremes[0]), coarse_bin(extremes[1]))
        begin = windows.first_bin[name]
        if isinstance(rows, int):
            np.subtract(coarse, begin, out=work)
            np.add.at(table[rows], work, weights)
        else:
            np.multiply(rows, table.shape[1], out=work)
            np.add(work, coarse, out=work)
            np.subtract(work, begin, out=work)
            np.add.at(table.reshape(-1), work, weights)
        if name not in windows.sums:
            return
        # frames are roughly in the order of time, so runs are few compared to the frames
        where = np.array([rows]) if isinstance(rows, int) else rows[self.run_begins]
        if bound < 2**63:
            totals: Exact = np.add.reduceat(
                np.multiply(latency, weights, out=work), self.run_begins
            )
        else:
            totals = np.add.reduceat(latency.astype(object) * weights, self.run_begins)
        depths = DEEPEST - np.minimum.reduceat(latency, self.run_begins)
        peaks = np.maximum.reduceat(latency, self.run_begins)
        windows.add_moments(name, where, totals, (depths, peaks), bound)


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive rows of a chunk.

    If all of them are in one window, `where` has a pair for each of the `TimeWindows`: that object,
    and the begin of the window in UTC ns. Otherwise `where` is None, and `indexes` have the window
    of each frame.
    """

    rows: slice
    where: tuple[tuple[TimeWindows, int], ...] | None
    indexes: tuple[WindowIndex, ...] = ()


class ChunkWindows:
    """The windows of the n frames of a chunk, in each of several `TimeWindows`.

    Frames are roughly in the order of time, so most of a chunk is in one window or in few. A long
    run of frames in one window is counted once and its counts are added to the window as a whole.

    Examples
    --------
    >>> windows = TimeWindows(("a",), 1_000_000, 8)
    >>> times = np.arange(20_000) * 100
    >>> chunk = ChunkWindows([windows.locate(times, 0, 1_999_900)], len(times))
    >>> [(run.rows.start, run.rows.stop, run.where is None) for run in chunk.runs]
    [(0, 10000, False), (10000, 20000, False)]
    """

    def __init__(self, indexes: Sequence[WindowIndex], n: int) -> None:
        self.indexes = indexes
        self.n = n

    def take(self, mask: Mask) -> "ChunkWindows":
        """Return the windows of some of the frames."""
        return ChunkWindows(
            [index.take(mask) for index in self.indexes], int(np.count_nonzero(mask))
        )

    @cached_property
    def runs(self) -> list[Run]:
        """All frames, in order."""
        changes = [np.array([0, self.n])]
        for index in self.indexes:
            if not isinstance(index.rows, int):
                changes.append(index.run_begins[1:])
        # equal edges make a run of no frames; `np.unique` would remove them, but loads numpy.ma
        edges = np.sort(np.concatenate(changes)) if len(changes) > 1 else changes[0]
        runs, done = [], 0
        for i in np.flatnonzero(np.diff(edges) >= LONG_RUN).tolist():
            begin, end = int(edges[i]), int(edges[i + 1])
            if begin > done:
                runs.append(self._mixed(done, begin))
            where = tuple((index.windows, index.begin_ns(begin)) for index in self.indexes)
            runs.append(Run(slice(begin, end), where))
            done = end
        if done < self.n:
            runs.append(self._mixed(done, self.n))
        return runs

    def _mixed(self, begin: int, end: int) -> Run:
        rows = slice(begin, end)
        return Run(rows, None, tuple(index.take(rows) for index in self.indexes))


def _run_begins(values: Ints) -> Ints:
    """Return where each run of equal values begins in an array (n,), n > 0."""
    return np.concatenate((np.zeros(1, np.int64), np.flatnonzero(values[1:] != values[:-1]) + 1))
