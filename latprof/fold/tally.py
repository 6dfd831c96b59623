"""What the frames of a chunk add to the sums once each, apart from the latencies of their spans."""

from typing import Any

import numpy as np
import numpy.typing as npt

from latprof.arrays import Ints, Mask
from latprof.fold.stretches import Placed
from latprof.fold.sums import Sums
from latprof.frames import MISSING, NO_SIZE, Columns

__all__ = ["NO_MARK", "add_dropped", "add_edges", "add_sizes", "add_times", "frames_in"]

NO_MARK = "(none)"
"""Stands for the last mark of a dropped frame that reached none."""


def frames_in(mask: Mask, weights: npt.NDArray[np.integer[Any]] | None) -> int:
    """Return how many frames the mask holds."""
    return int(np.count_nonzero(mask) if weights is None else weights[mask].sum())


def add_edges(sums: Sums, latency: Ints, low: int, high: int, weights: Ints | None) -> None:
    """Count the frames at or below each edge; edges beyond the chunk cost nothing."""
    n = len(latency) if weights is None else int(weights.sum())
    for i, edge in enumerate(sums.edges_ns):
        if edge >= high:
            sums.at_most[i] += n
        elif edge >= low:
            sums.at_most[i] += frames_in(latency <= edge, weights)


def add_times(sums: Sums, chunk: Columns, complete: dict[str, bool]) -> Placed:
    """Widen the time range; return where each frame is in the windows, in none without any time.

    A frame's time is its start, or its end, or the first of its marks.
    """
    times, ends = chunk.marks["start"], chunk.marks["end"]
    if not complete["start"]:
        known = times[times != MISSING]
        sums.add_range(int(known.min()) if len(known) else None, None)
        for mark in ("end", *sums.pipeline.marks):
            times = np.where(times == MISSING, chunk.marks[mark], times)
    if not complete["end"]:
        ends = ends[ends != MISSING]
    sums.add_range(None, int(ends.max()) if len(ends) else None)
    low, high = int(times.min()), int(times.max())
    if complete["start"]:
        sums.add_range(low, None)
    if high == MISSING:
        return Placed([], len(chunk))
    if low == MISSING:
        # frames without any mark have nothing to be counted either
        times = np.where(times == MISSING, high, times)
        low = int(times.min())
    windows = [sums.batches] if sums.timeline is None else [sums.batches, sums.timeline]
    return Placed([some.place(times, low, high) for some in windows], len(chunk))


def add_sizes(sums: Sums, chunk: Columns, weights: Ints | None) -> None:
    """Add the sizes that are known."""
    if chunk.size is None:
        return
    sizes = chunk.size
    if int(sizes.max()) == NO_SIZE:
        known = sizes != NO_SIZE
        sizes = sizes[known]
        weights = None if weights is None else weights[known]
    if weights is None:
        sums.size_bytes += int(sizes.sum(dtype=np.int64))
        sums.sized += len(sizes)
    else:
        sums.size_bytes += int((sizes * weights).sum())
        sums.sized += int(weights.sum())


def add_dropped(sums: Sums, chunk: Columns) -> None:
    """Count dropped frames by reason and by the last mark that they reached."""
    outcome = chunk.outcome
    if outcome is None or len(chunk) == 0:
        return
    # `drop` stamps end as well: the last mark before it says how far the frame came
    reached = np.zeros(len(chunk), np.int64)
    marks = (NO_MARK, *sums.pipeline.marks[:-1])
    for i, mark in enumerate(marks[1:], 1):
        reached[chunk.marks[mark] != MISSING] = i
    counts = np.bincount(outcome.codes * len(marks) + reached, chunk.weight)
    for place in np.flatnonzero(counts).tolist():
        code, mark_index = divmod(place, len(marks))
        sums.dropped[outcome.names[code], marks[mark_index]] += int(counts[place])
