"""The mergeable sums that a profile is made of.

Every sum is kept so that folding parts and merging them, in any order, gives what folding the
whole gives: counts, integer sums and bins to the bit, moments to rounding.

Three sets of frames matter. Statistics of a span are over the *finished* frames that have it.
Shares, `other` and all that compares stages are over the *attribution set*: finished frames
with end_to_end >= 0, no negative stage and other >= 0, in which a missing stage counts 0, so
that stages + other = end_to_end to the nanosecond. Dropped frames are counted by their reason.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import index

import numpy as np

from latprof.arrays import Ints
from latprof.fold.exemplars import NO_FRAME_ID
from latprof.fold.moments import between
from latprof.fold.windows import COARSE_BINS, Windows
from latprof.fold.worst import Worst
from latprof.histogram import Histogram
from latprof.pipeline import Pipeline

__all__ = ["PEOPLE_EDGES_NS", "SpanSums", "Sums", "Tails"]

PEOPLE_EDGES_NS = tuple(ms * 1_000_000 for ms in (1, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_000))
"""Upper edges of the ranges that people read; what is above the last is "more"."""

BATCHES = 64
"""Most time batches that a percentile's interval is estimated from; there are 33 or more of a
time range that fills them."""

MOST_WINDOWS = 512
"""Most windows of a timeline; they double in width as time grows."""

_NARROWEST_NS = 1 << 20


@dataclass(slots=True)
class SpanSums:
    """What is known of one span over the finished frames that have it; times in ns.

    `total` is exact, whatever its size; `m2` is the sum of squared distances from the mean.
    """

    count: int = 0
    missing: int = 0
    negative: int = 0
    total: int = 0
    m2: float = 0.0
    peak: int | None = None
    peak_frame: int | None = None
    histogram: Histogram = field(default_factory=Histogram)

    def add_moments(self, n: int, total: int, m2: float) -> None:
        """Add the count, the exact sum and the centred squares of other values."""
        self.m2 += m2 + between(self.count, self.total, self.total, n, total, total)
        self.count += n
        self.total += total

    def add_peak(self, value: int, frame: int) -> None:
        """Offer a peak; of frames with the same one the smallest id counts, in any order."""
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
        self.histogram.merge(other.histogram)


class Tails:
    """Exact sums of each stage (ns) and counts of frames by the bin of their end_to_end.

    Bins are the histogram's own: with coarser ones "the slowest 1 %" of a steady path would hold
    most of the frames. All over the attribution set.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.counts = np.zeros(0, np.int64)
        self.sums: dict[str, Ints] = {name: np.zeros(0, np.int64) for name in names}

    def add(self, first: int, counts: Ints, sums: dict[str, Ints]) -> None:
        """Add to bins `first` and on."""
        end = first + len(counts)
        if end > len(self.counts):
            self.counts = _grown(self.counts, end)
            self.sums = {name: _grown(column, end) for name, column in self.sums.items()}
        self.counts[first:end] += counts
        for name, column in sums.items():
            self.sums[name][first:end] += column

    def merge(self, other: "Tails") -> None:
        """Add the sums of other frames."""
        self.add(0, other.counts, other.sums)


def _grown(array: Ints, length: int) -> Ints:
    grown = np.zeros(length, np.int64)
    grown[: len(array)] = array
    return grown


class Sums:
    """All that is folded of the frames of one pipeline, mergeable.

    Attributes
    ----------
    spans
        `SpanSums` by name: stages, sides, ``other`` (over the attribution set), totals.
    attributed
        How many frames the attribution set has; `shares` holds exact sums over it (ns), by stage
        and ``other`` and ``end_to_end``; `covariances` the co-moments with end_to_end; `tails`
        the sums by bin of end_to_end.
    gaps
        Exact sums over the attribution set (ns) of the time between each pair of marks that
        frames pass outside of all stages: the parts of ``other`` that no missing mark makes.
    excluded
        Finished frames left out of the attribution set, by reason.
    late
        How many finished frames took longer than `deadline_ns`, from due where the pipeline has
        it, else from start.
    finished, dropped
        How many frames finished; how many were dropped, by (reason, last mark reached).
    at_most
        For each of `edges_ns`: how many end_to_end values are at or below it, exactly.
    batches
        Counts by time batch and coarse bin, for the percentiles' intervals.
    timeline
        The same with sums and peaks, in windows of the width that was asked for; None: none was.
    worst
        The slowest frames.
    exemplars
        The smallest frame id of each coarse bin of end_to_end, where one is: see `filled`.
    first_ns, last_ns
        First start and last end (UTC) of the finished frames; None without any.
    size_bytes, sized
        Sum of the known sizes of finished frames, and how many have one.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        edges_ns: Sequence[int] = PEOPLE_EDGES_NS,
        every_ns: int | None = None,
        deadline_ns: int | None = None,
    ) -> None:
        self.pipeline = pipeline
        self.deadline_ns = deadline_ns
        self.late = 0
        self.edges_ns = tuple(sorted({index(edge) for edge in edges_ns}))
        names = [span.name for span in pipeline.all_spans]
        names.insert(len(pipeline.stages) + len(pipeline.sides), "other")
        parts = (*(stage.name for stage in pipeline.stages), "other")
        self.spans = {name: SpanSums() for name in names}
        self.attributed = 0
        self.shares = dict.fromkeys((*parts, "end_to_end"), 0)
        self.covariances = dict.fromkeys(parts, 0.0)
        self.tails = Tails(parts)
        self.gaps = dict.fromkeys(_gaps(pipeline), 0)
        self.excluded: Counter[str] = Counter()
        self.finished = 0
        self.dropped: Counter[tuple[str, str]] = Counter()
        self.at_most = [0] * len(self.edges_ns)
        self.batches = Windows(tuple(names), _NARROWEST_NS, BATCHES)
        self.every_ns = every_ns
        self.timeline: Windows | None = None
        if every_ns is not None:
            self.timeline = Windows(tuple(names), every_ns, MOST_WINDOWS, moments=True)
        self.worst = Worst()
        self.exemplars = np.full(COARSE_BINS, NO_FRAME_ID, np.uint64)
        self.first_ns: int | None = None
        self.last_ns: int | None = None
        self.size_bytes = 0
        self.sized = 0

    def add_attributed(self, n: int, shares: dict[str, int], covariances: dict[str, float]) -> None:
        """Add the exact sums and centred co-moments of n more frames of the attribution set."""
        whole, added = self.shares["end_to_end"], shares["end_to_end"]
        for name, comoment in covariances.items():
            apart = between(self.attributed, self.shares[name], whole, n, shares[name], added)
            self.covariances[name] += comoment + apart
        for name, total in shares.items():
            self.shares[name] += total
        self.attributed += n

    def add_range(self, first_ns: int | None, last_ns: int | None) -> None:
        """Widen the time range."""
        if first_ns is not None:
            self.first_ns = first_ns if self.first_ns is None else min(self.first_ns, first_ns)
        if last_ns is not None:
            self.last_ns = last_ns if self.last_ns is None else max(self.last_ns, last_ns)

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
        self.at_most = [a + b for a, b in zip(self.at_most, other.at_most, strict=True)]
        self.batches.merge(other.batches)
        if self.timeline is not None and other.timeline is not None:
            self.timeline.merge(other.timeline)
        self.worst.merge(other.worst)
        np.minimum(self.exemplars, other.exemplars, out=self.exemplars)
        self.add_range(other.first_ns, other.last_ns)
        self.size_bytes += other.size_bytes
        self.sized += other.sized

    @property
    def filled(self) -> Ints:
        """Which coarse bins an end_to_end is in."""
        return np.flatnonzero(self.batches.counts("end_to_end").any(axis=0))

    @property
    def most_windows(self) -> int:
        """How many windows of time there may come to be, of all spans."""
        timeline = 0 if self.timeline is None else MOST_WINDOWS
        return (BATCHES + timeline) * len(self.spans)

    @property
    def promised(self) -> str:
        """The span that the deadline is for."""
        return self.pipeline.totals[-1].name

    def alike(self) -> "Sums":
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
