"""Whether sums agree with each other: what one number says, the others must not deny.

Folding and merging cannot give sums that disagree; a file can.
"""

import math
from collections.abc import Iterator

import numpy as np

from latprof.fold.exemplars import NO_FRAME_ID
from latprof.fold.sums import SpanSums, Sums
from latprof.fold.windows import Windows
from latprof.fold.worst import MOST_WORST
from latprof.frames import STAMP_LIMIT
from latprof.histogram import Histogram, bin_edges, bin_of

__all__ = ["disagreement"]

_LARGEST_SIZE = 2**32 - 2
_ROUNDING = 1e-9


def disagreement(sums: Sums) -> str | None:
    """Return what of the sums cannot be, None if all of it can.

    Examples
    --------
    >>> from latprof.pipeline import AUDIO
    >>> sums = Sums(AUDIO)
    >>> disagreement(sums)
    >>> sums.finished = 1
    >>> disagreement(sums)
    'transit: the frames that have it and those that have not are not all'
    """
    return next(_disagreements(sums), None)


def _disagreements(sums: Sums) -> Iterator[str]:
    for name, span in sums.spans.items():
        whole = sums.attributed if name == "other" else sums.finished
        if span.count + span.missing + span.negative != whole:
            yield f"{name}: the frames that have it and those that have not are not all"
        yield from (f"{name}: {text}" for text in _of_span(span))
        for windows in (sums.batches, sums.timeline):
            if windows is not None:
                yield from (f"{name}: {text}" for text in _of_windows(windows, name, span))
    yield from _of_attribution(sums)
    yield from _of_limits(sums)
    yield from _of_frames(sums)


def _of_span(span: SpanSums) -> Iterator[str]:
    known = span.histogram
    if known.count != span.count or (known.max, known.max is None) != (
        span.peak,
        span.peak_frame is None,
    ):
        yield "counts, bins and peak differ"
    elif known.min is None or known.max is None:
        if span.count or span.total or span.m2:
            yield "values, but neither smallest nor largest"
    elif not 0 <= known.min <= known.max < STAMP_LIMIT:
        yield "smallest and largest value cannot be"
    else:
        ends = bin_of(np.array([known.min, known.max], np.float64)).tolist()
        filled = np.flatnonzero(known.bins)
        if ends != [int(filled[0]), int(filled[-1])]:
            yield "smallest and largest value are not in the outer bins"
        bounds = [(max(low, known.min) * n, min(high, known.max) * n) for low, high, n in known]
        if not sum(low for low, _ in bounds) <= span.total <= sum(high for _, high in bounds):
            yield "the sum is not that of values in these bins"
        slack = span.count * (_ROUNDING * known.max) ** 2
        if not -slack <= span.m2 <= span.count * (known.max - known.min) ** 2 + slack:
            yield "the variance is not that of values in this range"


def _of_windows(windows: Windows, name: str, span: SpanSums) -> Iterator[str]:
    if int(windows.counts(name).sum()) != span.count:
        yield "windows do not hold all values"
    if name in windows.sums:
        counts = windows.counts(name).sum(axis=1)
        peaks = windows.peaks[name][: windows.length]
        if (span.peak or 0) != int(peaks.max(initial=0)) or (peaks[counts == 0] != 0).any():
            yield "peaks of windows are not its peak"
        if not _is_sum(windows.sums[name][: windows.length], span.total):
            yield "sums of windows are not its sum"


def _is_sum(parts: np.ndarray[tuple[int, ...], np.dtype[np.int64]], total: int) -> bool:
    """Return whether 64-bit sums add up to the total, as far as 64 bits tell."""
    return (int(parts.astype(object).sum()) - total) % 2**64 == 0


def _of_attribution(sums: Sums) -> Iterator[str]:
    shares, tails = sums.shares, sums.tails
    if sums.attributed + sum(sums.excluded.values()) != sums.finished:
        yield "frames attributed and left out are not all"
    if sum(shares.values()) != 2 * shares["end_to_end"]:
        yield "shares of stages and other are not end_to_end's"
    if int(tails.counts.sum()) != sums.attributed:
        yield "frames by bin of end_to_end are not those attributed"
    for name, column in tails.sums.items():
        if not _is_sum(column, shares[name]) or (column[tails.counts == 0] != 0).any():
            yield f"{name}: sums by bin of end_to_end are not its sum"
    if shares["other"] != sums.spans["other"].total:
        yield "other: its share is not its sum"


def _of_limits(sums: Sums) -> Iterator[str]:
    if len(sums.at_most) != len(sums.edges_ns):
        yield "edges and counts at them are not as many"
    else:
        known = sums.spans["end_to_end"].histogram
        for edge, n in zip(sums.edges_ns, sums.at_most, strict=True):
            low, high = _at_most(known, edge)
            if not low <= n <= high:
                yield f"the frames up to {edge} ns are not those in the bins"
        if sums.at_most != sorted(sums.at_most):
            yield "more frames are up to an edge than up to the next"
    promised = sums.spans[sums.promised].histogram
    if sums.deadline_ns is None:
        if sums.late:
            yield "late frames without a deadline"
    else:
        low, high = _at_most(promised, sums.deadline_ns)
        if not low <= promised.count - sums.late <= high:
            yield "late frames are not those in the bins"


def _at_most(histogram: Histogram, edge: int) -> tuple[int, int]:
    """Return how many values at least, and at most, are at or below the edge."""
    if histogram.min is None or histogram.max is None or edge < histogram.min:
        return 0, 0
    if edge >= histogram.max:
        return histogram.count, histogram.count
    filled = np.flatnonzero(histogram.bins)
    low, high = bin_edges(filled)
    counts = histogram.bins[filled]
    return int(counts[high <= edge].sum()), int(counts[low <= edge].sum())


def _of_frames(sums: Sums) -> Iterator[str]:
    total = sums.spans["end_to_end"]
    frames = sums.worst.frames
    if len(frames) > min(MOST_WORST, total.count) or bool(frames) != bool(total.count):
        yield "worst frames are too many or too few"
    if frames and frames[0].end_to_end_ns != total.peak:
        yield "the worst frame does not have the peak"
    for frame in frames:
        took = frame.marks.get("end", 0) - frame.marks.get("start", 0)
        if took != frame.end_to_end_ns or not {"start", "end"} <= set(frame.marks):
            yield "a worst frame's marks are not its end_to_end"
    given = np.flatnonzero(sums.exemplars != NO_FRAME_ID)
    if not np.isin(given, sums.filled).all():
        yield "a frame for a range that is empty"
    if total.count:
        begin, end = sums.first_ns, sums.last_ns
        if begin is None or end is None or end - begin < (total.peak or 0):
            yield "the time range is shorter than a frame"
    if sums.sized > sums.finished or sums.size_bytes > sums.sized * _LARGEST_SIZE:
        yield "sizes are too many or too large"
    if not all(map(math.isfinite, sums.covariances.values())):
        yield "a covariance is no number"
