"""Ids that start again: in which lap of its ids a frame is.

RTP counts to 65,535 and then from 0, as does a program that was restarted. In the order of time
the level of the ids (their median over nine rows, so that single late frames do not count) falls
by more than half of what it had climbed. A frame that comes late, past the fall, is of the lap
that its id is nearer to. The laps of several recordings are laid side by side so that the most
frames match, and of what matches about as well so that they are nearest in time.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from latprof.arrays import Ints

__all__ = ["laps"]


AROUND = 4
"""Rows on either side over which the level is taken."""

LEAST_FALL = 16
"""A level that falls by less is disorder."""

STRAGGLERS = 64
"""Rows on either side of a fall that may be of the other lap."""

MOST_SHIFTS = 8
"""Ways to lay laps side by side that are tried: those nearest in time."""


def laps(
    ids: Sequence[npt.NDArray[np.uint64]],
    sources: Sequence[Ints],
    times: Sequence[Ints],
    numbers: Sequence[Ints],
) -> list[Ints] | None:
    """Return the lap of every row of every recording; None: no ids start again.

    Parameters
    ----------
    ids, sources, times
        (n,) of each recording: frame ids, codes of sources, a stamp.
    numbers
        (n,) the same number for the same id and source, in all recordings.

    Examples
    --------
    >>> ids = np.arange(60, dtype=np.uint64) % 30
    >>> none, sent, came = np.zeros(60, int), np.arange(60), np.arange(60) + 7
    >>> number = ids.astype(int)
    >>> a, b = laps([ids, ids[40:]], [none, none[40:]], [sent, came[40:]], [number, number[40:]])
    >>> a.tolist() == [0] * 30 + [1] * 30, b.tolist() == [1] * 20
    (True, True)
    """
    suspects: set[int] = set()
    for number, source in zip(numbers, sources, strict=True):
        if len(number):
            again = np.bincount(number)[number] > 1
            suspects |= set(np.unique(source[again]).tolist())
    found = [np.zeros(len(part), np.int64) for part in ids]
    for source_code in sorted(suspects):
        rows = [np.flatnonzero(source == source_code) for source in sources]
        rows = [
            row[np.argsort(time[row], kind="stable")] for row, time in zip(rows, times, strict=True)
        ]
        own = [_in_order(part[row]) for part, row in zip(ids, rows, strict=True)]
        base = max(range(len(own)), key=lambda i: int(own[i].max(initial=-1)))
        if not own[base].max(initial=0):
            continue
        for i, row in enumerate(rows):
            shift = 0
            if i != base and len(row):
                ours = numbers[i][row], own[i], times[i][row]
                theirs = numbers[base][rows[base]], own[base], times[base][rows[base]]
                shift = _shift(ours, theirs)
            found[i][row] = own[i] + shift
    lowest = min((int(part.min(initial=0)) for part in found), default=0)
    return [part - lowest for part in found] if any(part.any() for part in found) else None


def _in_order(ids: npt.NDArray[np.uint64]) -> Ints:
    """Return the lap of (n,) ids in order of time."""
    lap = np.zeros(len(ids), np.int64)
    if len(ids) <= LEAST_FALL or int(ids.max()) - int(ids.min()) < LEAST_FALL:
        return lap
    # relative to the least: half of the span fits, and 63 bits do for what is told apart
    near = np.minimum(ids - ids.min(), np.uint64(2**62)).astype(np.int64)
    level = _level(near)
    falls = _falls(level)
    lengths = np.diff([0, *falls, len(ids)]).tolist()
    for fall in falls:
        lap[fall:] += 1
    for k, fall in enumerate(falls):
        # the first lap and the last may be parts of one: how long one is the others tell
        whole = [lengths[i] for i in (k, k + 1) if 0 < i < len(falls)] or [max(lengths)]
        near_by = min(STRAGGLERS, min(whole) // 4)
        low, high = max(0, fall - near_by), min(len(ids), fall + near_by)
        middle = (int(level[max(0, fall - AROUND - 1)]) + int(level[fall])) // 2
        lap[fall:high][near[fall:high] > middle] = k
        lap[low:fall][near[low:fall] < middle] = k + 1
    # too few rows for a level: of a last lap, and, as seen from the other end, of a first one
    lap[len(lap) - _tail(near, lap) :] += 1
    head = _tail(near.max() - near[::-1], -lap[::-1])
    lap[head:] += bool(head)
    return lap


def _tail(near: Ints, lap: Ints) -> int:
    """Return how many of the last rows begin a lap: ids far below, that this lap had already.

    One row alone may as well have come late, or twice.
    """
    span = max(LEAST_FALL, int(near.max()) // 2)
    fell = int(near[-2 * AROUND - 1]) - near[-AROUND:] >= span
    rows = AROUND if fell.all() else int(np.argmin(fell[::-1]))
    if rows < 2:
        return 0
    earlier = near[:-rows][lap[:-rows] == lap[-1]]
    return rows if np.isin(near[-rows:], earlier).all() else 0


def _level(ids: Ints) -> Ints:
    padded = np.pad(ids, AROUND, mode="reflect")
    levels = np.empty_like(ids)
    width = 2 * AROUND + 1
    for begin in range(0, len(ids), 1 << 16):  # the windows are copied: a few MB at a time
        part = padded[begin : begin + (1 << 16) + width - 1]
        windows = np.lib.stride_tricks.sliding_window_view(part, width)
        levels[begin : begin + (1 << 16)] = np.partition(windows, AROUND, axis=1)[:, AROUND]
    return levels


def _falls(level: Ints) -> list[int]:
    """Return where the level falls by more than half of what it had climbed."""
    falls: list[int] = []
    start = 0
    while start < len(level):
        size = 1 << 12
        while True:  # as far as the next fall, looked for in pieces that grow
            part = level[start : start + size]
            most = np.maximum.accumulate(part)
            fell = most - part >= np.maximum(LEAST_FALL, (most - part[0] + 1) // 2)
            if fell.any() or start + size >= len(level):
                break
            size *= 4
        if not fell.any():
            break
        start += int(np.argmax(fell))
        falls.append(start)
    return falls


def _shift(ours: tuple[Ints, ...], theirs: tuple[Ints, ...]) -> int:
    """Return how many laps later ours are in the other's counting."""
    (number, lap, time), (base_number, base_lap, base_time) = ours, theirs
    most, base_most = int(lap.max()), int(base_lap.max())
    begins = np.array([time[lap == k][:1].sum() for k in range(most + 1)])
    base_begins = np.array([base_time[base_lap == k][:1].sum() for k in range(base_most + 1)])
    apart = {}
    for shift in range(-most, base_most + 1):
        k = np.arange(max(0, -shift), min(most, base_most - shift) + 1)
        apart[shift] = float(np.median(np.abs(begins[k] - base_begins[k + shift])))
    tried = sorted(apart, key=lambda shift: apart[shift])[:MOST_SHIFTS]
    scale = 1 + max(int(number.max()), int(base_number.max()))
    base_keys = base_lap * scale + base_number
    results: dict[int, tuple[int, float]] = {}
    for shift in tried:
        keys = (lap + shift) * scale + number
        _, at, base_at = np.intersect1d(keys, base_keys, return_indices=True)
        delays: Any = np.abs(time[at] - base_time[base_at])
        results[shift] = (len(at), float(np.median(delays)) if len(at) else np.inf)
    enough = 0.9 * max(count for count, _ in results.values())
    good = [shift for shift, (count, _) in results.items() if count >= enough]
    return min(good, key=lambda shift: results[shift][1])
