"""Whether frames start as others leave: a source that waits for room is no source of its own pace.

In front of a full queue a producer begins its next frame when a place becomes free. A replay lets
frames start when they did; there they would start earlier, and the queue would stay full. Seen in
the recording: as many frames as ever are in flight whenever one starts, and each start comes right
after an entry into a station, whether entries are far apart or close.
"""

import numpy as np

from latprof.arrays import Ints
from latprof.frames import MISSING
from latprof.queueing.model import Picture

__all__ = ["room_for"]

FEWEST = 100
"""Starts from which on this can be told."""

_LEAST_IN_FLIGHT = 3
_MOST_STARTS = 0.8  # so many of the starts find about the same number in flight
_SOON = 0.2  # of the usual time between entries
_STEADY = 0.5  # of how much the time between starts varies


def room_for(whole: Picture) -> int | None:
    """Return how many frames there seems to be room for; None: they start at their own pace.

    Examples
    --------
    >>> from latprof import Pipeline, Trace
    >>> from latprof.queueing.model import picture
    >>> line = Pipeline.chain("line", "queue", "work", stations={"work": "worker"})
    >>> left = np.cumsum(np.random.default_rng(1).integers(50, 150, 500))
    >>> start = np.concatenate((np.zeros(5, np.int64), left[:-5] + 1))  # as the fifth before leaves
    >>> at = {"start": start, "queue": start, "work": np.append(0, left[:-1]), "end": left}
    >>> trace = Trace(line, frame_id=np.arange(500), marks=at)
    >>> room_for(picture(line, trace.columns))
    5
    """
    starts, ends = (whole.columns.marks[mark] for mark in ("start", "end"))
    there = (starts != MISSING) & (ends != MISSING)
    starts, ends = np.sort(starts[there]), np.sort(ends[there])
    if len(starts) < FEWEST:
        return None
    flying = np.arange(1, len(starts) + 1) - np.searchsorted(ends, starts, side="right")
    usual = int(np.median(flying))
    if usual < _LEAST_IN_FLIGHT or np.mean(np.abs(flying - usual) <= 1) < _MOST_STARTS:
        return None
    between = _spread(np.diff(starts))
    for visits in whole.visits.values():
        entries = np.sort(visits.begin)
        last = np.searchsorted(entries, starts, side="right") - 1
        after = starts[last >= 0] - entries[last[last >= 0]]
        if len(after) < FEWEST:
            continue
        soon = np.median(after) <= _SOON * np.median(np.diff(entries))
        if soon and _spread(after) < _STEADY * between:
            return usual
    return None


def _spread(values: Ints) -> float:
    """Return the distance of the quartiles."""
    low, high = np.quantile(values, (0.25, 0.75))
    return float(high - low)
