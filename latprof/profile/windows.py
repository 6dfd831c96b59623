"""What the windows of a profile tell: numbers by window, counts by time and latency, gaps.

Where no windows were asked for, the 33 to 64 time batches that every profile keeps for its
intervals take their place; they have no exact peaks.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from latprof.arrays import Floats, Ints
from latprof.fold.sums import Sums
from latprof.fold.windows import COARSE, COARSE_BINS
from latprof.histogram import bin_edges, rank_of

__all__ = [
    "Heat",
    "Stretch",
    "WindowNumbers",
    "coarse_edges",
    "heat_of",
    "stretches",
    "window_numbers",
]


@dataclass(frozen=True, slots=True)
class WindowNumbers:
    """A span by window of time: (w,) each, in order of time, times in ns.

    `percentiles` by q, within 1.6 %, and `max_ns` are 0 where `counts` is. `exact_max` says
    whether the maxima are exact, or within 1.6 % as well.
    """

    begins_ns: Ints
    width_ns: int
    counts: Ints
    percentiles: dict[float, Ints]
    max_ns: Ints
    exact_max: bool


@dataclass(frozen=True, slots=True)
class Heat:
    """Counts (w, k) of frames by window of time and range of latency.

    `times_ns` (w + 1,) are the edges of the windows, `latencies_ns` (k + 1,) those of the ranges.
    """

    times_ns: Ints
    latencies_ns: Floats
    counts: Ints


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of time, UTC ns, without frames: ``"not recorded"``, ``"lost"``, ``"no frames"``.

    It is taken for lost where frames were recorded that are not there: it is not known which.
    """

    begin_ns: int
    end_ns: int
    what: str


def coarse_edges() -> tuple[Ints, Ints]:
    """Return the smallest and largest integer (ns) of each coarse bin.

    Examples
    --------
    >>> low, high = coarse_edges()
    >>> low[:3].tolist(), high[0].item()
    ([0, 1, 2], 0)
    """
    coarse = np.arange(COARSE_BINS)
    first = np.where(coarse == 0, 0, ((coarse - 1) << COARSE) + 1)
    low = bin_edges(first)[0]
    return low, np.append(low[1:], 2**62) - 1


def window_numbers(sums: Sums, name: str, qs: Sequence[float] = (50, 99)) -> WindowNumbers:
    """Return count, percentiles and maximum of a span by window of time."""
    windows = sums.batches if sums.timeline is None else sums.timeline
    counts = windows.counts(name)
    totals = counts.sum(axis=1)
    filled = np.flatnonzero(counts.any(axis=0))
    low, high = (edges[filled] for edges in coarse_edges())
    upto = np.cumsum(counts[:, filled], axis=1)
    some = np.flatnonzero(totals)
    middles = low // 2 + high // 2 + (low % 2 + high % 2) // 2  # of the last bin the sum overflows
    peaks = np.zeros(len(totals), np.int64)
    if windows.peaks:
        peaks = windows.peaks[name][: len(totals)].copy()
    elif len(some):
        last = len(filled) - 1 - np.argmax(counts[some][:, filled[::-1]] > 0, axis=1)
        peaks[some] = np.minimum(middles[last], sums.spans[name].peak or 0)
    percentiles = {}
    for q in qs:
        ranks = np.array([rank_of(q, n) for n in totals[some].tolist()], np.int64)
        places = (upto[some] < ranks[:, None]).sum(axis=1)
        values = np.zeros(len(totals), np.int64)
        values[some] = np.minimum(middles[places], peaks[some])
        percentiles[q] = values
    return WindowNumbers(
        windows.begins_ns, windows.width_ns, totals, percentiles, peaks, bool(windows.peaks)
    )


def heat_of(sums: Sums, name: str, *, most: int = 100) -> Heat:
    """Return the counts of a span by window and latency, in at most `most` ranges of latency."""
    windows = sums.batches if sums.timeline is None else sums.timeline
    counts = windows.counts(name)
    filled = np.flatnonzero(counts.any(axis=0))
    times = np.append(windows.begins_ns, (windows.first + windows.length) * windows.width_ns)
    if not len(filled):
        return Heat(times, np.zeros(0), np.zeros((len(counts), 0), np.int64))
    first, last = int(filled[0]), int(filled[-1])
    join = 1
    while last // join - first // join >= most:
        join *= 2
    begin = first // join * join
    starts = np.arange(begin, last + 1, join)
    joined = np.add.reduceat(counts[:, begin : last + 1], starts - begin, axis=1)
    edges = coarse_edges()[0].astype(np.float64)
    ends = np.append(edges, 1.03 * 2.0**62)[np.minimum(starts + join, COARSE_BINS)]
    return Heat(times, np.append(edges[starts], ends[-1]), joined)


def stretches(
    sums: Sums, segments: Iterable[tuple[int, int]] | None, *, lost: int = 0
) -> list[Stretch]:
    """Return the stretches of time without finished frames, in order.

    Parameters
    ----------
    sums
        Windows or time batches say when frames were; shorter stretches are not seen.
    segments
        When was recorded, UTC ns; None: not known, then the time range counts as recorded.
    lost
        How many recorded frames are not there.
    """
    numbers = window_numbers(sums, "end_to_end", ())
    if sums.first_ns is None or sums.last_ns is None:
        return []
    begins, ends = numbers.begins_ns, numbers.begins_ns + numbers.width_ns
    recorded = _union(segments) if segments is not None else [(sums.first_ns, sums.last_ns)]
    found = [Stretch(end, begin, "not recorded") for (_, end), (begin, _) in pairwise(recorded)]
    empty = numbers.counts == 0
    turns = np.flatnonzero(np.diff(empty.astype(np.int8), prepend=0, append=0)).tolist()
    silent = [(int(begins[i]), int(ends[j - 1])) for i, j in zip(turns[::2], turns[1::2])]  # noqa: B905
    if len(begins):
        silent.append((recorded[0][0], int(begins[0])))
        silent.append((int(ends[-1]), recorded[-1][1]))
    what = "lost" if lost else "no frames"
    for begin, end in silent:
        for low, high in recorded:
            if min(end, high) - max(begin, low) >= numbers.width_ns:
                found.append(Stretch(max(begin, low), min(end, high), what))
    return sorted(found, key=lambda stretch: stretch.begin_ns)


def _union(segments: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the stretches that segments cover together, in order."""
    union: list[tuple[int, int]] = []
    for begin, end in sorted(segments):
        if union and begin <= union[-1][1]:
            union[-1] = (union[-1][0], max(union[-1][1], end))
        else:
            union.append((begin, end))
    return union
