"""A real frame for each bar of a histogram: the smallest id of each coarse bin."""

import numpy as np
import numpy.typing as npt

from latprof.arrays import Ints
from latprof.fold.windows import COARSE, coarse_bin
from latprof.histogram import bin_edges, bin_of

__all__ = ["NO_FRAME_ID", "offer"]

NO_FRAME_ID = 2**64 - 1
"""Stands where no frame is: no id is larger, but one may be this."""

Ids = npt.NDArray[np.uint64]


def offer(exemplars: Ids, latency: Ints, low: int, high: int, frame_id: Ids) -> None:
    """Keep the smallest of the ids (n,) in each coarse bin of latencies (n,) ns of 0 and more.

    `low` and `high` are the smallest and the largest of the latencies. Ids mostly grow, so most
    bins have a smaller one already: frames between such bins are not looked at one by one.

    Examples
    --------
    >>> kept = np.full(100, NO_FRAME_ID, np.uint64)
    >>> offer(kept, np.array([2, 1, 2]), 1, 2, np.array([9, 8, 7], np.uint64))
    >>> kept[coarse_bin(1)], kept[coarse_bin(2)]
    (np.uint64(8), np.uint64(7))
    """
    first, last = coarse_bin(low), coarse_bin(high)
    needing = np.flatnonzero(exemplars[first : last + 1] > frame_id.min())
    if not len(needing):
        return
    # the widest run of bins that need nothing, between the bins first - 1 and last + 1
    around = np.concatenate(([-1], needing, [last + 1 - first])) + first
    widest = int(np.diff(around).argmax())
    begin, end = int(around[widest]) + 1, int(around[widest + 1])
    if end > begin:
        from_ns, to_ns = _smallest(begin), _smallest(end)
        some = np.flatnonzero((latency < from_ns) | (latency >= to_ns))
        latency, frame_id = latency[some], frame_id[some]
    fine = bin_of(latency.astype(np.float64))
    np.minimum.at(exemplars, ((fine - 1) >> COARSE) + 1, frame_id)


def _smallest(coarse: int) -> int:
    """Return the smallest integer of a coarse bin, or of those above it where it holds none."""
    fine = 0 if coarse == 0 else ((coarse - 1) << COARSE) + 1
    return int(bin_edges(fine)[0])
