"""Checks that the sums of a profile are consistent with each other.

Folding and merging always give consistent sums; a file may contain any numbers.
"""

import math
from collections.abc import Iterator

import numpy as np

from latprof.fold.sums import MOST_TIMED_REASONS, NO_MARK, SpanSums, Sums
from latprof.fold.windows import TimeWindows
from latprof.fold.worst import MOST_WORST, NO_FRAME_ID
from latprof.histogram import COARSE_BINS, FIRST_PLACE, PLACES, bin_edges, bin_of
from latprof.units import STAMP_LIMIT

__all__ = ["inconsistency"]

_LARGEST_SIZE = 2**32 - 2  # bytes of a frame
_ROUNDING = 1e-9  # of the largest value: by how much moments may be off


def inconsistency(sums: Sums) -> str | None:
    """Return which rule the sums break first, or None if they are consistent.

    Examples
    --------
    >>> from latprof.pipeline import AUDIO
    >>> sums = Sums(AUDIO)
    >>> inconsistency(sums)
    >>> sums.finished = 1
    >>> inconsistency(sums)
    'transit: frames with and without the span must add up to all frames'
    """
    return next(_broken_rules(sums), None)


def _broken_rules(sums: Sums) -> Iterator[str]:
    """Yield the rules that sums break."""
    yield from _rules_of_settings(sums)
    for name, span in sums.spans.items():
        frames = sums.attributed if name == "other" else sums.finished
        if span.count + span.missing + span.negative != frames:
            yield f"{name}: frames with and without the span must add up to all frames"
        yield from (f"{name}: {rule}" for rule in _rules_of_span(span))
        for windows in (sums.batches, sums.timeline):
            if windows is not None:
                yield from (f"{name}: {rule}" for rule in _rules_of_windows(windows, name, span))
    yield from _rules_of_attribution(sums)
    yield from _rules_of_limits(sums)
    yield from _rules_of_frames(sums)
    yield from _rules_of_dropped(sums)


def _rules_of_settings(sums: Sums) -> Iterator[str]:
    """Yield the broken rules on names, shapes and settings."""
    empty = sums.empty_like()
    for what in ("spans", "shares", "covariances", "gaps", "grids"):
        if list(getattr(sums, what)) != list(getattr(empty, what)):
            yield f"{what} must be those of the pipeline"
    lengths = {len(column) for column in sums.tails.sums.values()}
    if list(sums.tails.sums) != list(empty.tails.sums) or lengths != {len(sums.tails.counts)}:
        yield "tails must have the names of the stages, and each as many bins as their counts"
    if len(sums.tails.counts) > PLACES - FIRST_PLACE or len(sums.exemplars) != COARSE_BINS:
        yield f"tails must have at most {PLACES - FIRST_PLACE} bins, and exemplars {COARSE_BINS}"
    if sums.worst.marks != empty.worst.marks:
        yield "marks of the worst frames must be those of the pipeline"
    for windows, right in ((sums.batches, empty.batches), (sums.timeline, empty.timeline)):
        if _settings(windows) != _settings(right):
            yield "names, smallest width and most windows must be those of the settings"
    if not {mark for _, mark in sums.dropped} <= {NO_MARK, *sums.pipeline.marks[:-1]}:
        yield "dropped frames must have reached marks of the pipeline"


def _settings(windows: TimeWindows | None) -> object:
    if windows is None:
        return None
    return windows.names, windows.base_ns, windows.most, windows.moments


def _rules_of_span(span: SpanSums) -> Iterator[str]:
    """Yield the broken rules on count, extremes, sum and variance of a span."""
    known = span.histogram
    if bool(span.negative) != bool(span.most_negative):
        yield "the most negative value must be below 0 if there are negative ones"
    peak = span.peak, span.peak_frame is None
    if known.count != int(known.bins.sum()):
        yield "the count must be that of the bins"
    if known.count != span.count or (known.max, known.max is None) != peak:
        yield "count, bins and peak must agree"
    elif known.min is None or known.max is None or not known.count:
        if span.count or span.total or span.m2 or known.min is not None:
            yield "values must have a smallest and a largest one"
    elif not 0 <= known.min <= known.max < 2 * STAMP_LIMIT - 1:
        yield "smallest and largest value must be distances of stamps, in order"
    else:
        ends = bin_of(np.array([known.min, known.max], np.float64)).tolist()
        filled = np.flatnonzero(known.bins)
        if ends != [int(filled[0]), int(filled[-1])]:
            yield "smallest and largest value must be in the outer bins"
        low, high = bin_edges(filled)
        counts = known.bins[filled]
        if known.max * known.count >= 2**63:  # sums do not fit 64 bits
            counts = counts.astype(object)
        least = (np.maximum(low, known.min) * counts).sum()
        if not least <= span.total <= (np.minimum(high, known.max) * counts).sum():
            yield "the sum must be possible for values in these bins"
        slack = span.count * (_ROUNDING * known.max) ** 2
        if not -slack <= span.m2 <= span.count * (known.max - known.min) ** 2 + slack:
            yield "the variance must be possible for values in this range"


def _rules_of_dropped(sums: Sums) -> Iterator[str]:
    """Yield the broken rules on dropped frames."""
    dropped = sums.dropped_by_reason
    known = sorted(dropped)[:MOST_TIMED_REASONS]
    if sorted(sums.dropped_times) != known:
        yield "times of dropped frames must be those of their reasons"
    for reason, times in sums.dropped_times.items():
        if times.count + times.missing + times.negative != dropped.get(reason, 0):
            yield "times of dropped frames must add up to the dropped frames"
        yield from (f"dropped frames: {rule}" for rule in _rules_of_span(times))


def _rules_of_windows(windows: TimeWindows, name: str, span: SpanSums) -> Iterator[str]:
    """Yield the broken rules on a span by window of time."""
    counts = windows.counts(name).sum(axis=1)
    if (counts > 0)[~windows.ranges()[0]].any():
        yield "windows with values must have times"
    if int(counts.sum()) != span.count:
        yield "windows must contain all values"
    if name in windows.sums:
        peaks = windows.peaks[name][: windows.length]
        if (span.peak or 0) != int(peaks.max(initial=0)) or (peaks[counts == 0] != 0).any():
            yield "the largest peak of the windows must be the peak"
        lows, depths = windows.lows(name), windows.depths[name][: windows.length]
        if (counts == 0)[depths > 0].any() or (counts > 0)[depths == 0].any():
            yield "windows with values must have a smallest one"
        elif (lows > peaks).any() or span.histogram.min != min(
            lows[counts > 0].tolist(), default=None
        ):
            yield "the smallest value of the windows must be the smallest value"
        if sum(windows.sums[name][: windows.length].tolist()) != span.total:
            yield "the sums of the windows must add up to the sum"


def _rules_of_attribution(sums: Sums) -> Iterator[str]:
    """Yield the broken rules on shares and tails."""
    shares, tails = sums.shares, sums.tails
    if sums.attributed + sum(sums.excluded.values()) != sums.finished:
        yield "attributed and excluded frames must add up to all frames"
    if sum(shares.values()) != 2 * shares["end_to_end"]:
        yield "shares of stages and other must add up to end_to_end"
    if int(tails.counts.sum()) != sums.attributed:
        yield "frames by bin of end_to_end must add up to the attributed frames"
    for name, column in tails.sums.items():
        if sum(column.tolist()) != shares[name] or (column[tails.counts == 0] != 0).any():
            yield f"{name}: sums by bin of end_to_end must add up to its share"
    if shares["other"] != sums.spans["other"].total:
        yield "other: share and sum must be equal"


def _rules_of_limits(sums: Sums) -> Iterator[str]:
    """Yield the broken rules on counts up to edges, and on the deadline."""
    if len(sums.at_most) != len(sums.edges_ns):
        yield "each edge must have a count"
    else:
        known = sums.spans["end_to_end"].histogram
        for edge, n in zip(sums.edges_ns, sums.at_most, strict=True):
            low, high = known.at_most(edge)
            if not low <= n <= high:
                yield f"the count of frames up to {edge} ns must agree with the bins"
        if sums.at_most != sorted(sums.at_most):
            yield "counts of frames up to an edge must grow with the edge"
    histogram = sums.spans[sums.deadline_span].histogram
    if sums.deadline_ns is None:
        if sums.late:
            yield "late frames must have a deadline"
    else:
        low, high = histogram.at_most(sums.deadline_ns)
        if not low <= histogram.count - sums.late <= high:
            yield "the count of late frames must agree with the bins"


def _rules_of_frames(sums: Sums) -> Iterator[str]:
    """Yield the broken rules on single frames, times and sizes."""
    total = sums.spans["end_to_end"]
    frames = sums.worst.frames
    if len(frames) > min(MOST_WORST, total.count) or bool(frames) != bool(total.count):
        yield f"there must be 1 to {MOST_WORST} worst frames if there are frames"
    if frames and frames[0].end_to_end_ns != total.peak:
        yield "the worst frame must have the peak"
    for frame in frames:
        took = frame.marks.get("end", 0) - frame.marks.get("start", 0)
        if took != frame.end_to_end_ns or not {"start", "end"} <= set(frame.marks):
            yield "the marks of a worst frame must give its end_to_end"
    exemplars = np.flatnonzero(sums.exemplars != NO_FRAME_ID)
    if not np.isin(exemplars, sums.filled).all():
        yield "the range of an exemplar must contain frames"
    if total.count:
        begin, end = sums.first_ns, sums.last_ns
        if begin is None or end is None or end - begin < (total.peak or 0):
            yield "the time range must not be shorter than a frame"
    if sums.sized > sums.finished or sums.size_bytes > sums.sized * _LARGEST_SIZE:
        yield "sizes must be possible for this number of frames"
    if not all(map(math.isfinite, sums.covariances.values())):
        yield "covariances must be finite numbers"
