"""Answers from sums: slow frames, missed deadlines, and windows of time.

If a profile was folded without windows, its 33 to 64 time batches, which every profile keeps for
intervals, take their place. They have no exact peaks.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from latprof.accounts import union
from latprof.arrays import Floats, Ints
from latprof.fold.sums import Sums, Tails
from latprof.fold.worst import MOST_WORST, WorstFrame
from latprof.histogram import COARSE, COARSE_BINS, Histogram, bin_edges, coarse_edges, rank_of
from latprof.profile.span import check_integer
from latprof.units import format_ns

__all__ = [
    "COARSE_ERROR",
    "TIMELINE_PERCENTILES",
    "Deadline",
    "Heat",
    "Pause",
    "Slice",
    "Stretch",
    "WindowNumbers",
    "deadline",
    "exemplars",
    "heat_of",
    "middle_of",
    "pause_of",
    "ranges",
    "slice_of",
    "stages_of",
    "stretches",
    "timeline_rows",
    "unclaimed",
    "variance_shares",
    "window_numbers",
    "worst_frames",
]

COARSE_ERROR = 0.016
"""Largest relative error of a percentile of a window, which has 32 bins an octave."""

TIMELINE_PERCENTILES = (50, 90, 99)

SILENCE = 8
"""A stretch without frames is longer than this many mean distances between frames."""

LONG_PAUSE = 100  # pauses are longer than this many times all other time
MOST_PAUSES = 10  # with more of them, none counts as a pause
FEWEST_BETWEEN = 3  # mean number of frames between two pauses

_MIDDLE = (40, 60)  # the middle frames are between these percentiles of end_to_end


# -- slow frames --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Slice:
    """The frames between two percentiles of end_to_end: their number, and their time by stage."""

    frames: int
    sums: dict[str, float]

    def share(self, name: str) -> float | None:
        """Return the stage's part of the time of these frames, or None if they take no time."""
        total = sum(self.sums.values())
        return self.sums[name] / total if total else None

    def mean(self, name: str) -> float | None:
        """Return the stage's mean in these frames, ns, or None if there are none."""
        return self.sums[name] / self.frames if self.frames else None


def slice_of(tails: Tails, low: float, high: float) -> Slice:
    """Return the frames above percentile `low`, up to and including `high`; both 0 to 100.

    If a bin is partly inside, the same part of its frames and of its time is counted.
    """
    n = int(tails.counts.sum())
    first = 0 if low == 0 else rank_of(low, n)
    last = rank_of(high, n)
    if n == 0:
        return Slice(0, dict.fromkeys(tails.sums, 0.0))
    filled = np.flatnonzero(tails.counts)
    counts = tails.counts[filled]
    upto = np.cumsum(counts)
    inside = np.minimum(upto, last) - np.maximum(upto - counts, first)
    part = np.clip(inside, 0, None) / counts
    sums = {
        name: float(column[filled].astype(np.float64) @ part) for name, column in tails.sums.items()
    }
    return Slice(max(last - first, 0), sums)


def middle_of(sums: Sums) -> Slice:
    """Return the middle frames: from the 40th to the 60th percentile of end_to_end."""
    return slice_of(sums.tails, *_MIDDLE)


def stages_of(sums: Sums, frame: WorstFrame) -> dict[str, int]:
    """Return the time of each stage that a slow frame has, and of ``other``, ns."""
    spans = {}
    for stage in sums.pipeline.stages:
        if stage.begin in frame.marks and stage.end in frame.marks:
            spans[stage.name] = frame.marks[stage.end] - frame.marks[stage.begin]
    return {**spans, "other": frame.end_to_end_ns - sum(spans.values())}


def worst_frames(sums: Sums, n: int) -> list[WorstFrame]:
    """Return the n slowest frames, the slowest first.

    Raises
    ------
    ProfileError
        `n` is not an integer from 0 to `MOST_WORST`.
    """
    return sums.worst.frames[: check_integer("n", n, 0, MOST_WORST)]


def unclaimed(sums: Sums) -> str | None:
    """Return a sentence on the time of `other`, or None if it is not larger than every stage."""
    shares, stages = sums.shares, [stage.name for stage in sums.pipeline.stages]
    if shares["other"] <= max((shares[name] for name in stages), default=0):
        return None
    mean = shares["other"] / sums.attributed
    part = shares["other"] / shares["end_to_end"]
    sentence = f"{format_ns(mean)} of each frame ({part:.0%}) is claimed by no stage"
    begin, end = max(sums.gaps, key=sums.gaps.__getitem__, default=("", ""))
    if begin and sums.gaps[begin, end] > shares["other"] - sum(sums.gaps.values()):
        return f"{sentence}: most of it is between the marks {begin} and {end}"
    lacking = [name for name in stages if sums.spans[name].missing]
    return f"{sentence}: marks are missing, and so the time of {', '.join(lacking)}"


def variance_shares(sums: Sums) -> dict[str, float]:
    """Return parts of the variance of end_to_end by stage and ``other``; {} if it does not vary."""
    variance = sum(sums.covariances.values())
    if not variance > 0:
        return {}
    return {name: value / variance for name, value in sums.covariances.items()}


# -- ranges of end to end -----------------------------------------------------------------------


def ranges(sums: Sums) -> list[tuple[int, int | None, int]]:
    """Return exact counts of end_to_end: (above ns, up to and including ns or None, frames)."""
    edges = (0, *sums.edges_ns, None)
    upto = (0, *sums.at_most, sums.spans["end_to_end"].count)
    pairs = zip(edges, edges[1:], upto, upto[1:], strict=False)
    return [(low or 0, high, after - before) for low, high, before, after in pairs]


def exemplars(sums: Sums) -> list[tuple[int, int, int]]:
    """Return (smallest value, largest value, id of a frame) of each filled coarse bin, ns."""
    columns = (*coarse_edges(), sums.exemplars)
    return list(zip(*(column[sums.filled].tolist() for column in columns), strict=True))


# -- deadline -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Deadline:
    """How many frames missed a deadline.

    A dropped frame is a miss. `frames` counts dropped frames and finished frames with a known time,
    `unknown` finished frames without one. `by_stage` counts the late frames by the stage
    that exceeded its usual time most. The usual time is the mean in the middle frames (40th to 60th
    percentile), or, if some of those are late, in the frames in time. Frames in one bin of
    end_to_end are counted together.
    """

    deadline_ns: int
    frames: int
    late: int
    dropped: int
    by_stage: dict[str, int]
    unknown: int = 0

    @property
    def misses(self) -> int:
        """Number of late and dropped frames."""
        return self.late + self.dropped

    @property
    def ratio(self) -> float | None:
        """Misses divided by `frames`, or None if there are none."""
        return self.misses / self.frames if self.frames else None


def deadline(sums: Sums) -> Deadline | None:
    """Return the misses of the declared deadline, or None if none was declared."""
    if sums.deadline_ns is None:
        return None
    dropped = sum(sums.dropped_by_reason.values())
    by_stage: dict[str, int] = {}
    tails = sums.tails
    filled = np.flatnonzero(tails.counts)
    late = filled[bin_edges(filled)[1] > sums.deadline_ns]
    if sums.deadline_span == "end_to_end" and len(late) and tails.sums:
        names = list(tails.sums)
        counts = tails.counts[late]
        usual = np.array([_usual(sums).mean(name) or 0.0 for name in names])
        took = np.array([tails.sums[name][late] for name in names], np.float64)
        excess = took / counts - usual[:, None]
        if bin_edges(late)[0][0] <= sums.deadline_ns:
            # the deadline is inside the first bin: of its frames only those above the deadline
            # count, and their exact number is known
            beyond = sums.spans[sums.deadline_span].histogram.bins[late[0] + 1 :]
            counts[0] = min(int(counts[0]), sums.late - int(beyond.sum()))
        found = np.bincount(np.argmax(excess, axis=0), counts, minlength=len(names))
        by_stage = {name: int(n) for name, n in zip(names, found, strict=True) if n}
    known = sums.spans[sums.deadline_span].count
    return Deadline(
        sums.deadline_ns, known + dropped, sums.late, dropped, by_stage, sums.finished - known
    )


def _usual(sums: Sums) -> Slice:
    """Return the middle frames, or the frames in time if some of the middle ones are late."""
    tails = sums.tails
    filled = np.flatnonzero(tails.counts)
    in_time = filled[bin_edges(filled)[1] <= (sums.deadline_ns or 0)]
    frames = int(tails.counts[in_time].sum())
    if frames >= rank_of(_MIDDLE[1], int(tails.counts.sum())):
        return middle_of(sums)
    times = {name: float(sum(column[in_time].tolist())) for name, column in tails.sums.items()}
    return Slice(frames, times)


# -- windows of time ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WindowNumbers:
    """A span by window of time: arrays (w,) in order of time, times in ns.

    `percentiles` by q (within 1.6 %) and `max_ns` are 0 in windows without values. `exact_max`
    is whether the maxima are exact; otherwise they are within 1.6 %.
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
    """A stretch of time (UTC ns) without frames: ``"not recorded"``, ``"lost"``, ``"no frames"``.

    If some recorded frames are lost, every recorded stretch without frames is reported as lost.
    """

    begin_ns: int
    end_ns: int
    what: str


def window_numbers(sums: Sums, name: str, qs: Sequence[float] = (50, 99)) -> WindowNumbers:
    """Return count, percentiles and maximum of a span by window of time."""
    windows = sums.batches if sums.timeline is None else sums.timeline
    counts = windows.counts(name)
    totals = counts.sum(axis=1)
    filled = np.flatnonzero(counts.any(axis=0))
    low, high = (edges[filled] for edges in coarse_edges())
    upto = np.cumsum(counts[:, filled], axis=1)
    some = np.flatnonzero(totals)
    low, high = _narrowed(sums.spans[name].histogram, filled, low, high)
    middles = low // 2 + high // 2 + (low % 2 + high % 2) // 2  # low + high may overflow
    lows, peaks = np.zeros((2, len(totals)), np.int64)
    if windows.peaks:
        lows, peaks = windows.lows(name), windows.peaks[name][: len(totals)].copy()
    elif len(some):
        last = len(filled) - 1 - np.argmax(counts[some][:, filled[::-1]] > 0, axis=1)
        peaks[some] = middles[last]
    percentiles = {}
    for q in qs:
        ranks = np.array([rank_of(q, n) for n in totals[some].tolist()], np.int64)
        places = (upto[some] < ranks[:, None]).sum(axis=1)
        values = np.zeros(len(totals), np.int64)
        values[some] = np.clip(middles[places], lows[some], peaks[some])
        percentiles[q] = values
    return WindowNumbers(
        windows.begins_ns, windows.width_ns, totals, percentiles, peaks, bool(windows.peaks)
    )


def _narrowed(histogram: Histogram, filled: Ints, low: Ints, high: Ints) -> tuple[Ints, Ints]:
    """Return the least and the greatest value that coarse bins (n,) can contain.

    The fine bins of all frames show which part of a coarse bin has values at all.
    """
    if histogram.min is None or histogram.max is None:
        return low, high
    fine = np.flatnonzero(histogram.bins)
    coarse = np.where(fine == 0, 0, ((fine - 1) >> COARSE) + 1)
    at = np.minimum(np.searchsorted(coarse, filled), len(coarse) - 1)
    last = np.maximum(np.searchsorted(coarse, filled, side="right") - 1, 0)
    both = coarse[at] == filled  # in a corrupt profile the histogram may lack a bin of a window
    least, greatest = bin_edges(fine[at])[0], bin_edges(fine[last])[1]
    return (
        np.where(both, np.maximum(np.maximum(low, least), histogram.min), low),
        np.where(both, np.minimum(np.minimum(high, greatest), histogram.max), high),
    )


def timeline_rows(sums: Sums) -> list[dict[str, Any]]:
    """Return the numbers of each window and span with frames, in order of time."""
    windows = sums.timeline
    if windows is None:
        return []
    numbers = {name: window_numbers(sums, name, TIMELINE_PERCENTILES) for name in windows.names}
    rows = []
    for i, begin in enumerate(windows.begins_ns.tolist()):
        for name, known in numbers.items():
            n, peak = int(known.counts[i]), int(known.max_ns[i])
            if n == 0:
                continue
            row: dict[str, Any] = {"window_ns": begin, "span": name, "count": n}
            row["mean"] = int(windows.sums[name][i]) / n
            row |= {f"p{q:g}": int(values[i]) for q, values in known.percentiles.items()}
            row["max"] = peak
            rows.append(row)
    return rows


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
    ends = np.append(edges, 1.03 * 2.0**63)[np.minimum(starts + join, COARSE_BINS)]
    return Heat(times, np.append(edges[starts], ends[-1]), joined)


def stretches(
    sums: Sums, segments: Iterable[tuple[int, int]] | None, *, lost: int = 0
) -> list[Stretch]:
    """Return the stretches of time without finished frames, in order.

    Parameters
    ----------
    sums
        Their windows or time batches say when there were frames: shorter stretches are not found.
        In time batches, unless frames are lost, stretches shorter than `SILENCE` mean distances
        between frames are not reported.
    segments
        When frames were recorded, UTC ns; None if that is unknown: the whole time range is then
        taken as recorded.
    lost
        Number of recorded frames that are lost.
    """
    numbers = window_numbers(sums, "end_to_end", ())
    if sums.first_ns is None or sums.last_ns is None:
        return []
    begins, ends = numbers.begins_ns, numbers.begins_ns + numbers.width_ns
    # without segments: frames begin in windows, and the last one may end much later
    end_ns = min(sums.last_ns, int(ends[-1])) if len(ends) else sums.last_ns
    recorded = union(segments) if segments is not None else [(sums.first_ns, end_ns)]
    found = [Stretch(end, begin, "not recorded") for (_, end), (begin, _) in pairwise(recorded)]
    empty = numbers.counts == 0
    turns = np.flatnonzero(np.diff(empty.astype(np.int8), prepend=0, append=0)).tolist()
    silent = [(int(begins[i]), int(ends[j - 1])) for i, j in zip(turns[::2], turns[1::2])]  # noqa: B905
    if len(begins):
        silent.append((recorded[0][0], int(begins[0])))
        silent.append((int(ends[-1]), recorded[-1][1]))
    what = "lost" if lost else "no frames"
    usual = sum(end - begin for begin, end in recorded) // max(int(numbers.counts.sum()), 1)
    # lost frames leave a gap of any length, and windows that were asked for are taken as they are
    exact = lost or sums.every_ns is not None
    shortest = numbers.width_ns if exact else max(numbers.width_ns, SILENCE * usual)
    for begin, end in silent:
        for low, high in recorded:
            if min(end, high) - max(begin, low) >= shortest:
                found.append(Stretch(max(begin, low), min(end, high), what))
    return sorted(found, key=lambda stretch: stretch.begin_ns)


@dataclass(frozen=True, slots=True)
class Pause:
    """Pauses between frames that are far longer than all times with frames.

    `active_ns` is the time with frames, `paused_ns` the sum of `pauses`, (from, to) in UTC ns.
    """

    active_ns: int
    paused_ns: int
    pauses: list[tuple[int, int]]


def pause_of(sums: Sums) -> Pause | None:
    """Return the pauses that are over `LONG_PAUSE` times as long as all other times, or None.

    There are at most `MOST_PAUSES`, with several frames between two of them: frames that come
    rarely do not pause.
    """
    _, first, last = sums.batches.ranges()
    if len(first) < 2:
        return None
    gaps = first[1:] - last[:-1]
    long = np.flatnonzero(gaps * 2 >= gaps.max())
    paused = int(gaps[long].sum())
    active = int(last[-1] - first[0]) - paused
    frames = sums.finished // (len(long) + 1)
    if len(long) > MOST_PAUSES or frames < FEWEST_BETWEEN or paused <= LONG_PAUSE * active:
        return None
    return Pause(active, paused, [(int(last[i]), int(first[i + 1])) for i in long.tolist()])
