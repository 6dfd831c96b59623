"""Keeps the sums of each of many groups in little memory.

`Sums` have an array element for each bin up to the largest value, and the frames of a small group
fill few bins. Packed sums hold the filled bins only, in the narrowest types of integers: some 70 kB
for a thousand frames instead of some 4 MB. They never change: adding frames makes new packed sums,
so that copies of a profile can share the old ones.
"""

from copy import copy
from dataclasses import fields, replace
from functools import lru_cache
from typing import Any, Self, cast

import numpy as np
import numpy.typing as npt

from latprof.arrays import Exact, Ints
from latprof.fold.fold import Fold
from latprof.fold.sums import SpanSums, Sums, Tails
from latprof.fold.windows import TimeWindows
from latprof.fold.worst import NO_FRAME_ID, Worst
from latprof.frames import MISSING, Columns
from latprof.histogram import Histogram
from latprof.units import STAMP_LIMIT

__all__ = ["PackedSums"]

_LONGEST_STEP = 255  # places from one held element to the next: a step takes one byte


class PackedSums:
    """All of the sums of some frames, exactly, in a form that does not change.

    Attributes
    ----------
    finished, dropped
        The number of frames that finished, and that were dropped.

    Examples
    --------
    >>> from latprof import Pipeline
    >>> from latprof.frames import Columns
    >>> mic = Pipeline.chain("mic", "decode")
    >>> ids, start = np.arange(2, dtype=np.uint64), np.array([0, 20_000])
    >>> marks = {"start": start, "decode": start, "end": start + 1000}
    >>> packed = PackedSums(Sums(mic)).plus(Columns(ids, marks), Fold(mic))
    >>> packed.finished, packed.read().spans["decode"].total
    (2, 2000)
    """

    __slots__ = ("_batches", "_exemplars", "_sums", "_timeline", "_worst", "dropped", "finished")

    def __init__(self, sums: Sums) -> None:
        self.finished = sums.finished
        self.dropped = sums.dropped.total()
        spans = {name: _filled_span(span) for name, span in sums.spans.items()}
        tails = _FilledTails.of(sums.tails)
        self._batches = _PackedWindows(sums.batches)
        self._timeline = None if sums.timeline is None else _PackedWindows(sums.timeline)
        self._worst = _PackedWorst(sums.worst)
        self._exemplars = _Filled.of(sums.exemplars, NO_FRAME_ID)
        # parts that were packed above are left out
        self._sums = copy(sums)
        self._sums.spans, self._sums.tails = spans, cast(Tails, tails)
        dropped_times = sums.dropped_times.items()
        self._sums.dropped_times = {name: _filled_span(span) for name, span in dropped_times}
        self._sums.batches = self._sums.timeline = None  # type: ignore[assignment]
        self._sums.worst = self._sums.exemplars = None  # type: ignore[assignment]

    def plus(self, columns: Columns, fold: Fold) -> "PackedSums":
        """Return the packed sums of these frames and those of `columns`."""
        sums = self._copy()
        # histograms and tails of the copy can only be added to
        sums.spans = {name: _filled_span(span) for name, span in self._sums.spans.items()}
        sums.tails = copy(self._sums.tails)
        fold.add(sums, columns)
        fold.flush()
        return PackedSums(sums)

    def unpacked(self) -> Sums:
        """Return sums that may be changed."""
        sums = self._copy()
        sums.spans = {name: _dense_span(span) for name, span in self._sums.spans.items()}
        sums.tails = cast(_FilledTails, self._sums.tails).dense()
        return sums

    def add_to(self, sums: Sums) -> None:
        """Add these sums to others, which may be large."""
        part = self._copy()
        part.spans = {
            name: replace(span, histogram=Histogram()) for name, span in self._sums.spans.items()
        }
        part.tails = Tails()
        sums.merge(part)
        for name, span in self._sums.spans.items():
            cast(_FilledHistogram, span.histogram).add_to(sums.spans[name].histogram)
        cast(_FilledTails, self._sums.tails).add_to(sums.tails)

    def read(self) -> Sums:
        """Return sums that must not be changed; the last two that were read stay in memory."""
        return _read(self)

    def _copy(self) -> Sums:
        """Return sums in which all but spans and tails may be changed."""
        sums = copy(self._sums)
        for each in fields(sums):
            value = getattr(sums, each.name)
            if isinstance(value, dict | list):
                setattr(sums, each.name, value.copy())
        sums.grids = {mark: copy(grid) for mark, grid in sums.grids.items()}
        sums.dropped_times = {name: _dense_span(span) for name, span in sums.dropped_times.items()}
        sums.batches = self._batches.unpacked()
        sums.timeline = None if self._timeline is None else self._timeline.unpacked()
        sums.worst = self._worst.unpacked()
        sums.exemplars = self._exemplars.dense()
        return sums


@lru_cache(maxsize=2)
def _read(packed: PackedSums) -> Sums:
    return packed.unpacked()


# -- arrays ---------------------------------------------------------------------------------------


class _Filled:
    """The columns (..., k) of an array (..., length) that differ from `fill`.

    Their places are held as the first one and the steps between them. Where a step does not fit a
    byte, columns that are equal to `fill` are held as well.
    """

    __slots__ = ("_kind", "_lead", "_steps", "_values", "fill", "first", "length")

    def __init__(self, at: Ints, values: npt.NDArray[Any], length: int, fill: int = 0) -> None:
        self.length, self.fill = length, fill
        self.first = int(at[0]) if len(at) else 0
        steps = np.diff(at)
        long = np.flatnonzero(steps > _LONGEST_STEP)
        if len(long):
            more = np.concatenate(
                [np.arange(at[i] + _LONGEST_STEP, at[i + 1], _LONGEST_STEP) for i in long.tolist()]
            )
            places = np.searchsorted(at, more)
            steps = np.diff(np.insert(at, places, more))
            values = np.insert(values, places, values.dtype.type(fill), axis=-1)
        # as bytes, since a small array takes more for its header than for its elements
        narrow = _narrow(values)
        self._steps, self._kind = steps.astype(np.uint8).tobytes(), narrow.dtype
        self._lead = narrow.shape[:-1]
        self._values = narrow if narrow.dtype == object else narrow.tobytes()

    @classmethod
    def of(cls, array: npt.NDArray[Any], fill: int = 0) -> Self:
        """Return the filled elements of an array, which is flattened."""
        flat = array.reshape(-1)
        at = np.flatnonzero(flat != fill)
        return cls(at, flat[at], len(flat), fill)

    @property
    def values(self) -> npt.NDArray[Any]:
        """The columns (..., k)."""
        if isinstance(self._values, bytes):
            return np.frombuffer(self._values, self._kind).reshape(*self._lead, -1)
        return self._values

    @property
    def at(self) -> Ints:
        """The places (k,) of the columns."""
        at = np.empty(self.values.shape[-1], np.int64)
        if len(at):
            at[0] = self.first
            np.cumsum(np.frombuffer(self._steps, np.uint8), dtype=np.int64, out=at[1:])
            at[1:] += self.first
        return at

    def plus(self, at: Ints, values: npt.NDArray[Any]) -> "_Filled":
        """Return these columns with others (..., k) added to them, at ascending places (k,)."""
        known, mine = self.at, self.values
        kind: Any = np.int64
        bound = int(mine.max(initial=0)) + int(values.max(initial=0))
        if bound >= 2**63 or mine.dtype == object or values.dtype == object:
            kind = object
        mine, added = mine.astype(kind), values.astype(kind)
        places = np.searchsorted(known, at)
        new = np.append(known, -1)[places] != at
        mine[..., places[~new]] += added[..., ~new]
        if new.any():
            mine = np.insert(mine, places[new], added[..., new], axis=-1)
            known = np.insert(known, places[new], at[new])
        length = max(self.length, int(at[-1]) + 1) if len(at) else self.length
        return _Filled(known, mine, length)

    def dense(self) -> npt.NDArray[Any]:
        """Return the array (..., length): int64, or Python integers if they are large."""
        return self._array(self.at, self.length)

    def filled(self) -> npt.NDArray[Any]:
        """Return the part of the array from `first` to the last column that is held."""
        at = self.at - self.first
        return self._array(at, int(at[-1]) + 1 if len(at) else 0)

    def _array(self, at: Ints, length: int) -> npt.NDArray[Any]:
        kind: Any = object if self._kind.hasobject else np.int64
        if self.fill:
            kind = np.uint64
        array = np.full((*self._lead, length), self.fill, kind)
        array[..., at] = self.values
        return array


def _narrow(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return integers of 0 and more in the narrowest type that holds them."""
    if values.dtype == object:
        return values
    return values.astype(np.min_scalar_type(int(values.max(initial=0))))


class _FilledHistogram:
    """The filled bins of a histogram, to which a fold can add counts."""

    def __init__(self, histogram: "Histogram | _FilledHistogram") -> None:
        bins: Ints | _Filled = histogram.bins
        self.bins: _Filled = bins if isinstance(bins, _Filled) else _Filled.of(bins)
        self.count: int = histogram.count
        self.min: int | None = histogram.min
        self.max: int | None = histogram.max

    def add_counts(self, first: int, found: Ints, low: int, high: int) -> None:
        """Add counts of bins from `first` on; `low` and `high` are the extreme values in them."""
        filled = np.flatnonzero(found)
        self.bins = self.bins.plus(filled + first, found[filled])
        self.count += int(found.sum())
        self.min = low if self.min is None else min(self.min, low)
        self.max = high if self.max is None else max(self.max, high)

    def add_to(self, histogram: Histogram) -> None:
        """Add the counts to those of a histogram."""
        if self.min is not None and self.max is not None:
            histogram.add_counts(self.bins.first, self.bins.filled(), self.min, self.max)

    def dense(self) -> Histogram:
        """Return the histogram."""
        return Histogram(self.bins.dense(), self.count, self.min, self.max)


def _filled_span(span: SpanSums) -> SpanSums:
    """Return the sums of a span with a histogram of filled bins, which takes counts only."""
    return replace(span, histogram=cast(Histogram, _FilledHistogram(span.histogram)))


def _dense_span(span: SpanSums) -> SpanSums:
    """Return the sums of a span with a whole histogram."""
    return replace(span, histogram=cast(_FilledHistogram, span.histogram).dense())


class _FilledTails:
    """The filled bins of tails, to which a fold can add.

    Row 0 has the counts of frames, the other rows the sums (ns) of each of `names`.
    """

    def __init__(self, names: tuple[str, ...], filled: _Filled) -> None:
        self.names = names
        self._filled = filled

    @classmethod
    def of(cls, tails: "Tails | _FilledTails") -> Self:
        """Return the filled bins of tails."""
        if isinstance(tails, _FilledTails):
            return cls(tails.names, tails._filled)
        at = np.flatnonzero(tails.counts)
        rows = np.stack([tails.counts[at], *(column[at] for column in tails.sums.values())])
        return cls(tuple(tails.sums), _Filled(at, rows, len(tails.counts)))

    def add(self, first: int, counts: Ints, sums: dict[str, Exact]) -> None:
        """Add counts and sums of bins from `first` on."""
        at = np.flatnonzero(counts)
        rows = np.stack([counts[at], *(sums[name][at] for name in self.names)])
        self._filled = self._filled.plus(at + first, rows)

    def add_each(self, name: str, bins: Ints, times: Exact) -> None:
        """Add the times (n,) of a part in frames of bins (n,); slow, for sums of any size."""
        at, places = np.unique(bins, return_inverse=True)
        rows = np.zeros((len(self.names) + 1, len(at)), object)
        np.add.at(rows[self.names.index(name) + 1], places, times)
        self._filled = self._filled.plus(at, rows)

    def add_to(self, tails: Tails) -> None:
        """Add the counts and sums to those of tails."""
        counts, sums = self._columns(self._filled.filled())
        tails.add(self._filled.first, counts, sums)

    def dense(self) -> Tails:
        """Return the tails."""
        counts, sums = self._columns(self._filled.dense())
        return Tails(counts, sums)

    def _columns(self, rows: Exact) -> tuple[Ints, dict[str, Exact]]:
        """Return the counts, and the sums of each part, as int64 if they fit."""
        counts, *columns = rows
        sums = {
            name: column.astype(np.int64) if int(column.max(initial=0)) < 2**63 else column
            for name, column in zip(self.names, columns, strict=True)
        }
        return counts.astype(np.int64), sums


class _PackedWindows:
    """Windows of time with the filled elements of their arrays."""

    __slots__ = ("_windows",)

    def __init__(self, windows: TimeWindows) -> None:
        self._windows = copy(windows)
        for each in fields(windows):
            setattr(self._windows, each.name, _packed(getattr(windows, each.name)))
        self._windows._rows = np.empty(0, np.int64)  # work space

    def unpacked(self) -> TimeWindows:
        """Return windows that may be changed."""
        windows = copy(self._windows)
        for each in fields(windows):
            setattr(windows, each.name, _unpacked(getattr(windows, each.name)))
        return windows


def _packed(value: Any) -> Any:
    """Return a value with its arrays, or those in a dict, packed: a shape and the elements."""
    if isinstance(value, dict):
        return {name: _packed(inner) for name, inner in value.items()}
    return (value.shape, _Filled.of(value)) if isinstance(value, np.ndarray) else value


def _unpacked(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _unpacked(inner) for name, inner in value.items()}
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], _Filled):
        shape, filled = value
        return filled.dense().reshape(shape)
    return value


class _PackedWorst:
    """The slowest frames with narrow integers: times from the first mark of each frame, plus 1."""

    __slots__ = ("_begins", "_offsets", "_worst")

    def __init__(self, worst: Worst) -> None:
        self._worst = packed = worst.packed()
        known = packed.stamps != MISSING
        self._begins = packed.stamps.min(axis=0, where=known, initial=STAMP_LIMIT)
        self._offsets = _narrow(np.where(known, packed.stamps - self._begins + 1, 0))
        packed.stamps = self._offsets[:, :0]
        packed.frame_id, packed.end_to_end_ns = map(
            _narrow, (packed.frame_id, packed.end_to_end_ns)
        )

    def unpacked(self) -> Worst:
        """Return the frames, to which others may be added."""
        stamps = np.where(
            self._offsets > 0, self._begins + self._offsets.astype(np.int64) - 1, MISSING
        )
        return replace(self._worst, stamps=stamps).unpacked()
