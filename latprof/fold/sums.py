"""The mergeable sums that a profile consists of.

Folding parts and merging their sums, in any order, gives the sums of the whole: counts, integer
sums and bins are equal to the bit, moments up to rounding.

There are three sets of frames. Statistics of a span are over the *finished* frames that have it.
Shares, `other` and everything that compares stages are over the *attribution set*: finished
frames with end_to_end >= 0, no negative stage and other >= 0. In it a missing stage counts as 0,
so stages + other = end_to_end to the nanosecond. Dropped frames are counted by their reason.
"""

import math
from collections import Counter
from dataclasses import dataclass, field
from operator import index
from typing import Annotated

import numpy as np

from latprof.arrays import (
    Bounds,
    Count,
    Counts,
    Duration,
    Exact,
    Floats,
    FrameId,
    Ids,
    Ints,
    Latency,
    Stamp,
    widen,
)
from latprof.fold.grids import Grid, Step, step_of
from latprof.fold.windows import TimeWindows
from latprof.fold.worst import NO_FRAME_ID, Worst
from latprof.histogram import COARSE_BINS, Histogram
from latprof.pipeline import Pipeline
from latprof.units import STAMP_LIMIT

__all__ = [
    "MOST_TIMED_REASONS",
    "NO_MARK",
    "RANGE_EDGES_NS",
    "SpanSums",
    "Sums",
    "Tails",
    "between",
    "comoment",
    "dot",
    "is_spread",
]

RANGE_EDGES_NS = tuple(ms * 1_000_000 for ms in (1, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_000))
"""Upper edges of the ranges of end_to_end in a report; the last range has no upper edge."""

BATCHES = 64
"""Largest number of time batches for the intervals of percentiles. A time range of at least 33 of
the narrowest batches has 33 or more."""

MOST_WINDOWS = 512
"""Largest number of windows of a timeline; their width doubles as the time range grows."""

NO_MARK = "(none)"
"""The last mark of a dropped frame that reached none."""

# Above this ratio of mean^2 to variance a plain sum of squares loses digits that matter, and the
# values are centred first: 1e4 * 2.2e-16 * (rounding of a sum of some 10,000) stays below 1e-10.
_LARGEST_PLAIN_RATIO = 1e4

# OpenBLAS uses several threads for vectors of more than 10,000 values; they would compete if
# several profiles are made at once. For up to this many values `np.dot` stays in one thread, and is
# four times as fast as einsum.
_ONE_THREAD = 8_192

_NARROWEST_BATCH_NS = 1 << 5

MOST_TIMED_REASONS = 32
"""Reasons for which the times of dropped frames are kept: the first ones in alphabetical order."""


@dataclass(slots=True)
class SpanSums:
    """Sums of one span over the finished frames that have it; times in ns.

    `missing` and `negative` count the other finished frames: those that lack a mark of the span,
    and those in which it ends before it begins; `most_negative` is the lowest such time, or 0.
    `total` is exact, whatever its size; `m2` is the sum of squared distances from the mean. `peak`
    and its frame are None without values. All values are multiples of `step` ns.
    """

    count: Count = 0
    missing: Count = 0
    negative: Count = 0
    most_negative: Annotated[int, Bounds(2 - 2 * STAMP_LIMIT, 0)] = 0
    step: Step = 0
    total: Count = 0
    m2: float = 0.0
    peak: Latency | None = None
    peak_frame: FrameId | None = None
    histogram: Histogram = field(default_factory=Histogram)

    def add_moments(self, n: int, total: int, m2: float) -> None:
        """Add the count, the exact sum and the sum of centred squares of other values."""
        self.m2 += m2 + between(self.count, self.total, self.total, n, total, total)
        self.count += n
        self.total += total

    def add_peak(self, value: int, frame: int) -> None:
        """Keep the larger peak; of frames with equal peaks, the smallest id."""
        if self.peak is None or self.peak_frame is None or value > self.peak:
            self.peak, self.peak_frame = value, frame
        elif value == self.peak:
            self.peak_frame = min(self.peak_frame, frame)

    def merge(self, other: "SpanSums") -> None:
        """Add the sums of other frames."""
        if other.peak is not None and other.peak_frame is not None:
            self.add_peak(other.peak, other.peak_frame)
        self.add_moments(other.count, other.total, other.m2)
        self.missing += other.missing
        self.negative += other.negative
        self.most_negative = min(self.most_negative, other.most_negative)
        self.step = step_of(self.step, np.array([other.step]))
        self.histogram.merge(other.histogram)


@dataclass(slots=True, eq=False)
class Tails:
    """Exact sums of each stage (ns) and counts of frames, by the bin of their end_to_end.

    The bins are those of the histogram: with coarser bins, "the slowest 1 %" of a steady pipeline
    would contain most of its frames. The frames are those of the attribution set.
    """

    # Counts come first: in a file they mostly repeat the bins of end_to_end, the last of the spans,
    # which compression finds as long as they are near.
    counts: Counts = field(default_factory=lambda: np.zeros(0, np.int64))
    sums: dict[str, Annotated[Exact, Bounds(0, 2**128)]] = field(default_factory=dict)

    def add(self, first: int, counts: Ints, sums: dict[str, Exact]) -> None:
        """Add counts and sums of bins from `first` on."""
        end = first + len(counts)
        self._reserve(end)
        self.counts[first:end] += counts
        for name, added in sums.items():
            mine = self.sums[name]
            bound = 2**63 if added.dtype == object else int(mine.max(initial=0))
            self.sums[name] = mine = widen(mine, bound + int(added.max(initial=0)))
            mine[first:end] += added

    def add_each(self, name: str, bins: Ints, times: Exact) -> None:
        """Add the times (n,) of a stage at bins (n,) of end_to_end; slow, for sums of any size."""
        self._reserve(int(bins.max()) + 1)
        self.sums[name] = widen(self.sums[name], 2**63)
        np.add.at(self.sums[name], bins, times)

    def merge(self, other: "Tails") -> None:
        """Add the sums of other frames."""
        self.add(0, other.counts, other.sums)

    def _reserve(self, length: int) -> None:
        missing = length - len(self.counts)
        if missing > 0:
            self.counts = np.pad(self.counts, (0, missing))
            self.sums = {
                name: np.concatenate((sums, np.zeros(missing, sums.dtype)))
                for name, sums in self.sums.items()
            }


@dataclass(slots=True, eq=False)
class Sums:
    """All sums over the frames of one pipeline; they can be merged.

    Attributes
    ----------
    spans
        `SpanSums` by name: stages, sides, ``other`` (over the attribution set), totals.
    attributed, shares, covariances, tails
        Of the attribution set: the number of frames; their exact sums (ns) by stage, ``other`` and
        ``end_to_end``; the co-moments of stages and ``other`` with end_to_end; `Tails`.
    gaps
        Exact sums (ns) over the attribution set of the time between the marks of each gap, in which
        no stage runs: the part of ``other`` that is not due to missing marks.
    excluded
        Finished frames outside the attribution set, by reason.
    late
        Number of finished frames that took longer than `deadline_ns`, from ``due`` if the
        pipeline has that mark, otherwise from ``start``.
    finished, dropped
        Number of finished frames; number of dropped frames by (reason, last mark reached).
    at_most
        For each of `edges_ns`, the exact number of end_to_end values at or below it.
    batches
        Counts by time batch and coarse bin, for the intervals of percentiles.
    timeline
        Counts, sums and peaks in windows of the width that was asked for, or None.
    worst
        The slowest frames.
    exemplars
        The smallest frame id in each coarse bin of end_to_end, `NO_FRAME_ID` in an empty bin.
    grids
        The `Grid` of the stamps of each mark, of finished frames only.
    dropped_times
        Time from start to end of dropped frames, by reason; of at most `MOST_TIMED_REASONS`.
    first_ns, last_ns
        First start and last end (UTC ns) of the finished frames, or None if there are none.
    size_bytes, sized
        Sum of the known sizes of finished frames, and the number of frames with a known size.
    """

    pipeline: Pipeline
    edges_ns: tuple[Latency, ...] = RANGE_EDGES_NS
    every_ns: Duration | None = None
    deadline_ns: Latency | None = None
    spans: dict[str, SpanSums] = field(default_factory=dict)
    attributed: Count = 0
    shares: dict[str, Count] = field(default_factory=dict)
    covariances: dict[str, float] = field(default_factory=dict)
    tails: Tails = field(default_factory=Tails)
    gaps: dict[tuple[str, str], Count] = field(default_factory=dict)
    excluded: Counter[str] = field(default_factory=Counter)
    late: Count = 0
    finished: Count = 0
    dropped: Counter[tuple[str, str]] = field(default_factory=Counter)
    dropped_times: dict[str, SpanSums] = field(default_factory=dict)
    grids: dict[str, Grid] = field(default_factory=dict)
    at_most: list[Count] = field(default_factory=list)
    batches: TimeWindows = field(
        default_factory=lambda: TimeWindows((), _NARROWEST_BATCH_NS, BATCHES)
    )
    timeline: TimeWindows | None = None
    worst: Worst = field(default_factory=lambda: Worst(()))
    exemplars: Ids = field(default_factory=lambda: np.full(COARSE_BINS, NO_FRAME_ID, np.uint64))
    first_ns: Stamp | None = None
    last_ns: Stamp | None = None
    size_bytes: Count = 0
    sized: Count = 0

    def __post_init__(self) -> None:
        """Begin with sums of no frames, unless some are given."""
        self.edges_ns = tuple(sorted({index(edge) for edge in self.edges_ns}))
        if self.spans:
            return
        pipeline = self.pipeline
        names = [span.name for span in pipeline.all_spans]
        names.insert(len(pipeline.stages) + len(pipeline.sides), "other")
        parts = (*(stage.name for stage in pipeline.stages), "other")
        self.spans = {name: SpanSums() for name in names}
        self.shares = dict.fromkeys((*parts, "end_to_end"), 0)
        self.covariances = dict.fromkeys(parts, 0.0)
        self.tails = Tails(sums={name: np.zeros(0, np.int64) for name in parts})
        self.gaps = dict.fromkeys(_gaps(pipeline), 0)
        self.at_most = [0] * len(self.edges_ns)
        self.grids = {mark: Grid() for mark in pipeline.marks}
        self.worst = Worst(pipeline.marks)
        self.batches = TimeWindows(tuple(names), _NARROWEST_BATCH_NS, BATCHES)
        if self.every_ns is not None:
            self.timeline = TimeWindows(tuple(names), self.every_ns, MOST_WINDOWS, moments=True)

    def add_attributed(self, n: int, shares: dict[str, int], covariances: dict[str, float]) -> None:
        """Add the exact sums and centred co-moments of n more frames of the attribution set."""
        total, added = self.shares["end_to_end"], shares["end_to_end"]
        for name, comoment in covariances.items():
            distance = between(self.attributed, self.shares[name], total, n, shares[name], added)
            self.covariances[name] += comoment + distance
        for name, share in shares.items():
            self.shares[name] += share
        self.attributed += n

    def add_range(self, first_ns: int | None, last_ns: int | None) -> None:
        """Extend the time range."""
        first, last = (self.first_ns, first_ns), (self.last_ns, last_ns)
        self.first_ns = min((ns for ns in first if ns is not None), default=None)
        self.last_ns = max((ns for ns in last if ns is not None), default=None)

    def merge(self, other: "Sums") -> None:
        """Add the sums of other frames of the same pipeline and edges."""
        for name, span in other.spans.items():
            self.spans[name].merge(span)
        self.add_attributed(other.attributed, other.shares, other.covariances)
        self.tails.merge(other.tails)
        for gap, total in other.gaps.items():
            self.gaps[gap] += total
        self.excluded += other.excluded
        self.late += other.late
        self.finished += other.finished
        self.dropped += other.dropped
        for reason, times in other.dropped_times.items():
            self.dropped_times.setdefault(reason, SpanSums()).merge(times)
        self.keep_reasons()
        for mark, grid in other.grids.items():
            self.grids[mark].merge(grid)
        self.at_most = [a + b for a, b in zip(self.at_most, other.at_most, strict=True)]
        self.batches.merge(other.batches)
        if self.timeline is not None and other.timeline is not None:
            self.timeline.merge(other.timeline)
        self.worst.merge(other.worst)
        np.minimum(self.exemplars, other.exemplars, out=self.exemplars)
        self.add_range(other.first_ns, other.last_ns)
        self.size_bytes += other.size_bytes
        self.sized += other.sized

    def keep_reasons(self) -> None:
        """Forget the times of reasons beyond `MOST_TIMED_REASONS`."""
        # a reason among the first of the whole is among the first of each part: the times that
        # are kept are complete
        for reason in sorted(self.dropped_times)[MOST_TIMED_REASONS:]:
            del self.dropped_times[reason]

    @property
    def filled(self) -> Ints:
        """The coarse bins that contain an end_to_end."""
        return np.flatnonzero(self.batches.counts("end_to_end").any(axis=0))

    @property
    def most_windows(self) -> int:
        """The largest number of windows of time, of all spans together."""
        timeline = 0 if self.timeline is None else MOST_WINDOWS
        return (BATCHES + timeline) * len(self.spans)

    @property
    def deadline_span(self) -> str:
        """The span that the deadline applies to."""
        return self.pipeline.totals[-1].name

    def empty_like(self) -> "Sums":
        """Return sums of no frames that these can be merged with."""
        return Sums(self.pipeline, self.edges_ns, self.every_ns, self.deadline_ns)

    @property
    def dropped_by_reason(self) -> dict[str, int]:
        """Dropped frames by reason."""
        reasons: Counter[str] = Counter()
        for (reason, _), count in self.dropped.items():
            reasons[reason] += count
        return dict(reasons)


def _gaps(pipeline: Pipeline) -> list[tuple[str, str]]:
    """Return the pairs of marks between which no stage runs, from start to end."""
    gaps, reached = [], "start"
    for stage in pipeline.stages:
        if stage.begin != reached:
            gaps.append((reached, stage.begin))
        reached = stage.end
    return [*gaps, (reached, "end")] if reached != "end" else gaps


# -- centred second moments -----------------------------------------------------------------------
# They are merged by the formula of Chan, Golub and LeVeque (1983), "Algorithms for computing the
# sample variance": the distance between the means of two sets is computed in exact integers and
# rounded once.


def is_spread(n: int, mean: float, m2: float) -> bool:
    """Return whether plain sums of products of n values keep the digits that matter.

    `mean` and `m2` are the mean of the values and their sum of squared distances from it.
    """
    return n * mean * mean < _LARGEST_PLAIN_RATIO * m2


def dot(x: Floats, y: Floats) -> float:
    """Return the sum of the products of two arrays (n,), computed in the calling thread."""
    whole = len(x) - len(x) % _ONE_THREAD
    rest = float(np.dot(x[whole:], y[whole:]))
    if not whole:
        return rest
    # one call for all blocks: products of matrices (1, k) and (k, 1)
    rows, columns = x[:whole].reshape(-1, 1, _ONE_THREAD), y[:whole].reshape(-1, _ONE_THREAD, 1)
    return math.fsum([rest, *np.matmul(rows, columns).ravel().tolist()])


def comoment(
    x: Floats, y: Floats, weights: Ints | None, n: int, mean_x: float, mean_y: float
) -> float:
    """Return the sum of the products of the distances of x and y (k,) from their means.

    `n` is the sum of the weights, or k without weights.
    """
    dx = x - mean_x
    dy = dx if x is y else y - mean_y
    weighted = dx if weights is None else dx * weights
    # the means are rounded, so the distances do not add up to 0: subtract what they add up to
    excess = float(weighted.sum()) * float((dy if weights is None else dy * weights).sum()) / n
    return float(np.einsum("i,i->", weighted, dy)) - excess


def between(n_a: int, x_a: int, y_a: int, n_b: int, x_b: int, y_b: int) -> float:
    """Return what the distance between the means of two sets adds to their co-moment.

    `n` is the number of values of a set; `x` and `y` are its exact sums.

    Examples
    --------
    >>> between(1, 3, 3, 1, 5, 5)  # 3 and 5: squared distances from 4 are 1 and 1
    2.0
    """
    if n_a == 0 or n_b == 0:
        return 0.0
    distance_x = x_b * n_a - x_a * n_b
    distance_y = y_b * n_a - y_a * n_b
    return distance_x * distance_y / (n_a * n_b * (n_a + n_b))
