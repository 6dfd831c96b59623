"""The fold: columns of frames in, mergeable sums out, in chunks that stay in the cache.

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

import numpy as np
import numpy.typing as npt

from latprof.columns import MISSING, NO_SIZE, STAMP_LIMIT, Columns
from latprof.errors import TraceError
from latprof.histogram import Histogram, bin_of
from latprof.pipeline import Pipeline

__all__ = ["CHUNK", "PEOPLE_EDGES_NS", "SpanSums", "Sums"]

CHUNK = 65_536
"""Rows folded at a time: 8 marks of them and the work arrays fit a second-level cache."""

PEOPLE_EDGES_NS = tuple(ms * 1_000_000 for ms in (1, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_000))
"""Upper edges of the ranges that people read; what is above the last is "more"."""

# Above this ratio of mean^2 to variance a plain sum of squares loses digits that matter: the
# chunk is centred first. 1e4 * 2.2e-16 * (rounding of a sum of 65,536) stays below 1e-10.
_PLAIN_SQUARES = 1e4

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(slots=True)
class SpanSums:
    """What is known of one span over the finished frames that have it; times in ns.

    `total` is exact, whatever its size. `m2` is the sum of squared distances from the mean,
    merged as in Chan, Golub and LeVeque (1983), "Algorithms for computing the sample variance".
    """

    missing: int = 0
    negative: int = 0
    total: int = 0
    m2: float = 0.0
    peak_frame: int | None = None
    histogram: Histogram = field(default_factory=Histogram)

    @property
    def count(self) -> int:
        """How many values there are."""
        return self.histogram.count

    def add(
        self,
        values: Ints,
        floats: Floats,
        bins: Ints,
        frame_ids: npt.NDArray[np.uint64],
        weights: Floats | None,
    ) -> Ints | None:
        """Add n values >= 0, given as integers, as floats, and as their bins.

        Returns the counts by bin of just these values; None of none.
        """
        if len(values) == 0:
            return None
        low, high = int(values.min()), int(values.max())
        self._add_peak(values, high, frame_ids)
        before = self.count
        found = self.histogram.add_bins(bins, low, high, weights)
        n = self.count - before
        total = _exact_sum(values, high, weights)
        self.m2 += _squares(floats, weights, n, total / n) + _between(before, self.total, n, total)
        self.total += total
        return found

    def _add_peak(self, values: Ints, high: int, frame_ids: npt.NDArray[np.uint64]) -> None:
        peak = self.histogram.max
        if peak is None or high >= peak:
            # of frames with the same peak the smallest id counts, whatever order they come in
            frame = int(frame_ids[values == high].min())
            if high == peak and self.peak_frame is not None:
                frame = min(frame, self.peak_frame)
            self.peak_frame = frame

    def merge(self, other: "SpanSums") -> None:
        """Add the sums of other frames."""
        mine, theirs = self.histogram.max, other.histogram.max
        if other.peak_frame is not None and theirs is not None:
            if self.peak_frame is None or mine is None or theirs > mine:
                self.peak_frame = other.peak_frame
            elif theirs == mine:
                self.peak_frame = min(self.peak_frame, other.peak_frame)
        if self.count and other.count:
            self.m2 += _between(self.count, self.total, other.count, other.total)
        self.m2 += other.m2
        self.missing += other.missing
        self.negative += other.negative
        self.total += other.total
        self.histogram.merge(other.histogram)


class Sums:
    """All that is folded of the frames of one pipeline, mergeable.

    Attributes
    ----------
    spans
        `SpanSums` by name: stages, sides, ``other`` (over the attribution set), totals.
    attributed
        How many frames the attribution set has; `shares` holds exact sums over it (ns), by stage
        and ``other`` and ``end_to_end``.
    gaps
        Exact sums over the attribution set (ns) of the time between each pair of marks that
        frames pass outside of all stages: the parts of ``other`` that no missing mark makes.
    excluded
        Finished frames left out of the attribution set, by reason.
    finished, dropped
        How many frames finished; how many were dropped, by (reason, last mark reached).
    at_most
        For each of `edges_ns`: how many end_to_end values are at or below it, exactly.
    first_ns, last_ns
        First start and last end (UTC) of the finished frames; None without any.
    size_bytes, sized
        Sum of the known sizes of finished frames, and how many have one.
    """

    def __init__(self, pipeline: Pipeline, edges_ns: Sequence[int] = PEOPLE_EDGES_NS) -> None:
        self.pipeline = pipeline
        self.edges_ns = tuple(sorted(set(edges_ns)))
        names = [span.name for span in pipeline.all_spans]
        names.insert(len(pipeline.stages) + len(pipeline.sides), "other")
        self.spans = {name: SpanSums() for name in names}
        self.attributed = 0
        self.shares = {name: 0 for name in (*(s.name for s in pipeline.stages), "other")}
        self.shares["end_to_end"] = 0
        self.gaps = dict.fromkeys(_gaps(pipeline), 0)
        self.excluded: Counter[str] = Counter()
        self.finished = 0
        self.dropped: Counter[tuple[str, str]] = Counter()
        self.at_most = [0] * len(self.edges_ns)
        self.first_ns: int | None = None
        self.last_ns: int | None = None
        self.size_bytes = 0
        self.sized = 0

    # -- folding --------------------------------------------------------------------------------

    def add(self, columns: Columns) -> None:
        """Fold n frames in; `columns` has every mark of the pipeline.

        Raises
        ------
        TraceError
            A stamp of 2**62 and more.
        """
        for begin in range(0, len(columns), CHUNK):
            chunk = columns.take(slice(begin, begin + CHUNK))
            done = chunk.finished()
            if done is not None:
                self._add_dropped(chunk.take(~done))
                chunk = chunk.take(done)
            if len(chunk):
                self._add_finished(chunk)

    def _add_dropped(self, chunk: Columns) -> None:
        outcome = chunk.outcome
        if outcome is None or len(chunk) == 0:
            return
        # `drop` stamps end as well: the last mark before it says how far the frame came
        reached = np.zeros(len(chunk), np.int64)
        marks = self.pipeline.marks[:-1]
        for i, mark in enumerate(marks):
            reached[chunk.marks[mark] != MISSING] = i
        counts = np.bincount(outcome.codes * len(marks) + reached, chunk.weight)
        for place in np.flatnonzero(counts).tolist():
            code, mark_index = divmod(place, len(marks))
            self.dropped[outcome.names[code], marks[mark_index]] += int(counts[place])

    def _add_finished(self, chunk: Columns) -> None:
        weights = None
        if chunk.weight is not None and (chunk.weight != 1).any():
            weights = chunk.weight.astype(np.float64)
        n = len(chunk) if weights is None else int(weights.sum())
        self.finished += n
        self._add_range(chunk)
        self._add_sizes(chunk, weights)
        complete = {mark: int(c.min()) != MISSING for mark, c in chunk.marks.items()}
        values: dict[str, Ints] = {}
        valid: dict[str, Mask | None] = {}  # None: every frame has the span, none is negative
        for span in self.pipeline.all_spans:
            begin, end = chunk.marks[span.begin], chunk.marks[span.end]
            latency = end - begin
            mask: Mask | None = None
            if not (complete[span.begin] and complete[span.end]):
                mask = (begin != MISSING) & (end != MISSING)
                present = _count(mask, weights, n)
                self.spans[span.name].missing += n - present
                latency[~mask] = 0
            low, high = int(latency.min()), int(latency.max())
            if low < 0:
                negative = latency < 0
                self.spans[span.name].negative += _count(negative, weights, n)
                mask = ~negative if mask is None else mask & ~negative
            if max(-low, high) >= STAMP_LIMIT:
                raise TraceError(
                    f"span {span.name!r} of a frame lasts {STAMP_LIMIT} ns or more: its stamps "
                    "are not times of one clock, correct or leave them out"
                )
            values[span.name], valid[span.name] = latency, mask
        for span in self.pipeline.all_spans:
            self._add_span(span.name, values[span.name], valid[span.name], chunk, weights)
        self._attribute(values, valid, chunk, weights, n)

    def _add_span(
        self, name: str, latency: Ints, mask: Mask | None, chunk: Columns, weights: Floats | None
    ) -> None:
        ids = chunk.frame_id
        if mask is not None:
            latency, ids = latency[mask], ids[mask]
            weights = None if weights is None else weights[mask]
        floats = latency.astype(np.float64)
        bins = bin_of(floats)
        found = self.spans[name].add(latency, floats, bins, ids, weights)
        if name == "end_to_end" and found is not None:
            self._add_edges(latency, found, weights)

    def _add_edges(self, latency: Ints, found: Ints, weights: Floats | None) -> None:
        """Count the values at or below each edge: only bins that an edge cuts are looked into."""
        cuts = bin_of(np.array(self.edges_ns, np.float64))
        upto = np.concatenate(([0], np.cumsum(found)))
        for i, (edge, cut) in enumerate(zip(self.edges_ns, cuts.tolist(), strict=True)):
            if cut >= len(found):
                self.at_most[i] += int(upto[-1])
            elif found[cut] == 0:
                self.at_most[i] += int(upto[cut])
            else:
                self.at_most[i] += _count(latency <= edge, weights, len(latency))

    def _attribute(
        self,
        values: dict[str, Ints],
        valid: dict[str, Mask | None],
        chunk: Columns,
        weights: Floats | None,
        n: int,
    ) -> None:
        stages = [span.name for span in self.pipeline.stages]
        end_to_end = values["end_to_end"]
        other = end_to_end.copy()
        for name in stages:
            other -= values[name]  # missing stages are 0 here
        keep: Mask | None = None
        if any(mask is not None for mask in valid.values()) or int(other.min()) < 0:
            keep = self._attribution_mask(values, valid, other, weights, n)
            ids, other, end_to_end = chunk.frame_id[keep], other[keep], end_to_end[keep]
            weights = None if weights is None else weights[keep]
        else:
            ids = chunk.frame_id
        if len(other) == 0:
            return
        before = self.spans["other"].count
        floats = other.astype(np.float64)
        self.spans["other"].add(other, floats, bin_of(floats), ids, weights)
        self.attributed += self.spans["other"].count - before
        for name in stages:
            latency = values[name] if keep is None else values[name][keep]
            self.shares[name] += _exact_sum(latency, int(latency.max()), weights)
        self.shares["other"] = self.spans["other"].total
        self.shares["end_to_end"] += _exact_sum(end_to_end, int(end_to_end.max()), weights)
        for begin, end in self.gaps:
            self._add_gap(begin, end, chunk if keep is None else chunk.take(keep), weights)

    def _add_gap(self, begin: str, end: str, chunk: Columns, weights: Floats | None) -> None:
        early, late = chunk.marks[begin], chunk.marks[end]
        gap = np.where((early == MISSING) | (late == MISSING) | (late < early), 0, late - early)
        self.gaps[begin, end] += _exact_sum(gap, int(gap.max()), weights)

    def _attribution_mask(
        self,
        values: dict[str, Ints],
        valid: dict[str, Mask | None],
        other: Ints,
        weights: Floats | None,
        n: int,
    ) -> Mask:
        """Return the attribution set; what it leaves out is counted by the first reason."""
        keep = np.ones(len(other), bool)

        def leave_out(reason: str, which: Mask) -> None:
            count = _count(which & keep, weights, n)
            if count:
                self.excluded[reason] += count
                keep[which] = False

        total = valid["end_to_end"]
        if total is not None:
            negative = values["end_to_end"] < 0
            leave_out("end_to_end negative", negative)
            leave_out("end_to_end missing", ~total & ~negative)
        for span in self.pipeline.stages:
            leave_out(f"{span.name} negative", values[span.name] < 0)
        leave_out("stages longer than end_to_end", other < 0)
        return keep

    def _add_range(self, chunk: Columns) -> None:
        for mark, pick in (("start", min), ("end", max)):
            column = chunk.marks[mark]
            present = column if int(column.min()) != MISSING else column[column != MISSING]
            if len(present) == 0:
                continue
            if mark == "start":
                low = int(present.min())
                self.first_ns = low if self.first_ns is None else pick(self.first_ns, low)
            else:
                high = int(present.max())
                self.last_ns = high if self.last_ns is None else pick(self.last_ns, high)

    def _add_sizes(self, chunk: Columns, weights: Floats | None) -> None:
        if chunk.size is None:
            return
        known = chunk.size != NO_SIZE
        sizes = chunk.size[known].astype(np.int64)
        if weights is None:
            self.size_bytes += int(sizes.sum())
            self.sized += len(sizes)
        else:
            heavy = weights[known].astype(np.int64)
            self.size_bytes += int((sizes * heavy).sum())
            self.sized += int(heavy.sum())

    # -- merging --------------------------------------------------------------------------------

    def merge(self, other: "Sums") -> None:
        """Add the sums of other frames of the same pipeline and edges."""
        for name, span in other.spans.items():
            self.spans[name].merge(span)
        for name, total in other.shares.items():
            self.shares[name] += total
        for gap, total in other.gaps.items():
            self.gaps[gap] += total
        self.attributed += other.attributed
        self.excluded += other.excluded
        self.finished += other.finished
        self.dropped += other.dropped
        self.at_most = [a + b for a, b in zip(self.at_most, other.at_most, strict=True)]
        self.size_bytes += other.size_bytes
        self.sized += other.sized
        starts = [t for t in (self.first_ns, other.first_ns) if t is not None]
        ends = [t for t in (self.last_ns, other.last_ns) if t is not None]
        self.first_ns = min(starts, default=None)
        self.last_ns = max(ends, default=None)

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


def _count(mask: Mask, weights: Floats | None, n: int) -> int:
    """Return how many frames (of n in all) the mask holds."""
    if weights is None:
        return int(np.count_nonzero(mask))
    return int(weights[mask].sum())


def _exact_sum(values: Ints, high: int, weights: Floats | None) -> int:
    """Return the sum of n values from 0 to `high`, exactly."""
    if weights is None:
        if high < 2**63 // CHUNK:
            return int(values.sum())
        # in two halves of 31 and 32 bits, each of which sums within 64
        return (int((values >> 32).sum()) << 32) + int((values & 0xFFFF_FFFF).sum())
    whole = weights.astype(np.int64)
    if high * int(whole.max()) < 2**63 // CHUNK:
        return int((values * whole).sum())
    return sum(v * w for v, w in zip(values.tolist(), whole.tolist(), strict=True))


def _squares(floats: Floats, weights: Floats | None, n: int, mean: float) -> float:
    """Return the sum of squared distances from the mean of the n values themselves."""
    if weights is None:
        squares = float(np.einsum("i,i->", floats, floats))
        about = squares - n * mean * mean
        if n * mean * mean < _PLAIN_SQUARES * about:
            return about
    centred = floats - mean
    if weights is None:
        return float(np.einsum("i,i->", centred, centred))
    return float(np.einsum("i,i,i->", weights, centred, centred))


def _between(n_a: int, total_a: int, n_b: int, total_b: int) -> float:
    """Return what two parts' distance adds to their squares: exact integers, rounded once."""
    if n_a == 0 or n_b == 0:
        return 0.0
    distance = total_b * n_a - total_a * n_b
    return distance * distance / (n_a * n_b * (n_a + n_b))
