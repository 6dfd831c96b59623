"""Finds the rows of several recordings that are the same frame: those of one id and source.

Ids may start again: RTP counts to 65,535 and then from 0, and a restarted program may count from 0
too. Then rows are the same frame only in the same lap of the ids. A lap begins where, in order of
time, the level of the ids (their median over nine rows, so that single late frames do not matter)
falls by at least half of what it had climbed. A frame that comes late, after the fall, belongs to
the lap that its id is nearer to. The laps of two recordings are matched so that the most frames
match; of choices that match about as many, the one with the frames nearest in time is taken.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from latprof.arrays import Ids, Ints
from latprof.errors import TraceError
from latprof.frames import MISSING, Columns, Labels
from latprof.pipeline import Pipeline

__all__ = ["Process", "first_stamps", "laps", "match_frames"]

AROUND = 4
"""Rows on either side over which the level is taken."""

LEAST_FALL = 16
"""Smallest fall of the level, in ids, that begins a lap; a smaller one is disorder."""

STRAGGLERS = 64
"""Rows on either side of a fall that may belong to the other lap."""

MOST_SHIFTS = 8
"""How many ways to match the laps of two recordings are tried: those nearest in time."""


@dataclass(slots=True, eq=False)
class Process:
    """The recording of one process.

    Attributes
    ----------
    owns
        The marks that the process stamps, in the order of the pipeline.
    rows
        The row of `columns` for each row of the joined trace, -1 if there is none.
    """

    name: str
    columns: Columns
    meta: dict[str, Any]
    owns: tuple[str, ...]
    rows: Ints = field(default_factory=lambda: np.empty(0, np.int64))


def match_frames(processes: Sequence[Process], pipeline: Pipeline) -> int:
    """Set the `rows` of all recordings, and return how many different frames there are.

    The rows (frames + repeated rows,) of a recording are: the first row in time of each frame, -1
    if it does not have the frame; then the further rows of its frames, which belong to no row of
    the other recordings.

    Raises
    ------
    TraceError
        One recording has no sources, and another has an id under two sources.

    Examples
    --------
    >>> link = Pipeline("link", ("start", "end"))
    >>> ids = [np.array([1, 2, 2], np.uint64), np.array([2, 3], np.uint64)]
    >>> stamps = [{"start": np.array([5, 6, 7])}, {"start": np.array([8, 9])}]
    >>> columns = [Columns(i, t | {"end": t["start"]}) for i, t in zip(ids, stamps)]
    >>> processes = [Process("a", each, {}, ("start",)) for each in columns]
    >>> match_frames(processes, link), [process.rows.tolist() for process in processes]
    (3, [[0, 1, -1, 2], [-1, 0, 1, -1]])
    """
    numbers, frames = _frame_numbers(processes, pipeline)
    repeated = []
    for process, number in zip(processes, numbers, strict=True):
        process.rows = np.full(frames, -1)
        again = np.empty(0, np.int64)
        if len(number) and np.bincount(number).max() > 1:
            order = np.lexsort((first_stamps(process.columns, pipeline), number))
            same = np.concatenate([[False], number[order][1:] == number[order][:-1]])
            process.rows[number[order[~same]]] = order[~same]
            again = np.sort(order[same])
        else:
            process.rows[number] = np.arange(len(number))
        repeated.append(again)
    for i, process in enumerate(processes):
        others = [np.full(len(again), -1) for again in repeated]
        process.rows = np.concatenate([process.rows, *others[:i], repeated[i], *others[i + 1 :]])
    return frames


def first_stamps(columns: Columns, pipeline: Pipeline) -> Ints:
    """Return the first stamp of each row (n,) in the order of the pipeline, ns.

    It is the largest int64 for a row without stamps.
    """
    first = np.full(len(columns), MISSING)
    for mark in pipeline.marks:
        gaps = first == MISSING
        if not gaps.any():
            break
        first[gaps] = columns.marks[mark][gaps]
    first[first == MISSING] = np.iinfo(np.int64).max
    return first


def _frame_numbers(processes: Sequence[Process], pipeline: Pipeline) -> tuple[list[Ints], int]:
    """Return the number of the frame of each row, by recording, and how many frames there are."""
    lengths = [len(each.columns) for each in processes]
    ends = np.cumsum(lengths)[:-1]
    ids = np.concatenate([each.columns.frame_id for each in processes])
    distinct, numbers = np.unique(ids, return_inverse=True)
    frames = len(distinct)
    sources = _source_codes(processes)
    if sources.max(initial=0) > 0:
        numbers, frames = _pairs(numbers, sources)
    if any(np.bincount(each).max(initial=0) > 1 for each in np.split(numbers, ends)):
        times = np.concatenate([first_stamps(each.columns, pipeline) for each in processes])
        found = laps(ids, times, numbers, np.repeat(np.arange(len(lengths)), lengths), sources)
        if found.any():
            numbers, frames = _pairs(numbers, found)
    return np.split(numbers, ends), frames


def _pairs(first: Ints, second: Ints) -> tuple[Ints, int]:
    """Return (n,) pairs of numbers as one number each, without gaps, and how many there are."""
    distinct, number = np.unique(first * (int(second.max()) + 1) + second, return_inverse=True)
    return number, len(distinct)


def _source_codes(processes: Sequence[Process]) -> Ints:
    """Return a code of the source of each row; all codes are 0 if the id alone counts."""
    silent = [each.name for each in processes if _has_no_source(each.columns)]
    if not silent:
        columns = [each.columns for each in processes]
        tables = [each.source or Labels.constant(None, len(each)) for each in columns]
        return Labels.concat(tables).codes.astype(np.int64) + 1  # 0: this frame has none
    for process in processes:
        if process.columns.source is None:
            continue
        order = np.argsort(process.columns.frame_id, kind="stable")
        ids, codes = process.columns.frame_id[order], process.columns.source.codes[order]
        clash = np.flatnonzero((ids[1:] == ids[:-1]) & (codes[1:] != codes[:-1]))
        if len(clash):
            raise TraceError(
                f"frame {ids[clash[0]]} must have one source as {silent[0]} has no sources, got "
                f"two in {process.name}; record source= in both"
            )
    return np.zeros(sum(len(process.columns) for process in processes), np.int64)


def _has_no_source(columns: Columns) -> bool:
    """Return whether a recording has frames, all of them without a source."""
    return len(columns) > 0 and (columns.source is None or bool(np.all(columns.source.codes < 0)))


# -- ids that start again -----------------------------------------------------------------------


def laps(ids: Ids, times: Ints, numbers: Ints, recordings: Ints, sources: Ints) -> Ints:
    """Return the lap (n,) of each row; all laps are 0 if no ids start again.

    Parameters
    ----------
    ids, times
        (n,) frame ids and stamps.
    numbers
        (n,) the same number for the same id and source.
    recordings, sources
        (n,) which recording a row is of, and the code of its source.

    Examples
    --------
    >>> ids = np.concatenate((np.arange(60) % 30, np.arange(40, 60) % 30)).astype(np.uint64)
    >>> times, numbers = np.concatenate((np.arange(60), np.arange(47, 67))), ids.astype(int)
    >>> recordings, sources = np.repeat([0, 1], [60, 20]), np.zeros(80, int)
    >>> found = laps(ids, times, numbers, recordings, sources)
    >>> found.tolist() == [0] * 30 + [1] * 30 + [1] * 20
    True
    """
    found = np.zeros(len(ids), np.int64)
    keys = recordings * (int(numbers.max()) + 1) + numbers
    for code in np.unique(sources[np.bincount(keys)[keys] > 1]):
        rows = [
            np.flatnonzero((sources == code) & (recordings == i))
            for i in range(int(recordings[-1]) + 1)
        ]
        rows = [each[np.argsort(times[each], kind="stable")] for each in rows]
        own = [_laps_in_order(ids[each]) for each in rows]
        base = max(range(len(own)), key=lambda i: int(own[i].max(initial=-1)))
        if not own[base].max(initial=0):
            continue
        known = [(numbers[row], lap, times[row]) for row, lap in zip(rows, own, strict=True)]
        for i, row in enumerate(rows):
            shift = _shift(known[i], known[base]) if i != base and len(row) else 0
            found[row] = own[i] + shift
    return found - int(found.min(initial=0))


def _laps_in_order(ids: Ids) -> Ints:
    """Return the lap of (n,) ids in order of time."""
    lap = np.zeros(len(ids), np.int64)
    if len(ids) <= LEAST_FALL or int(ids.max()) - int(ids.min()) < LEAST_FALL:
        return lap
    # relative to the smallest id, and limited so that the difference of two fits into 63 bits
    near = np.minimum(ids - ids.min(), np.uint64(2**62)).astype(np.int64)
    level = _level(near)
    falls = _falls(level)
    lengths = np.diff([0, *falls, len(ids)]).tolist()
    for fall in falls:
        lap[fall:] += 1
    for k, fall in enumerate(falls):
        # the first and the last lap may be incomplete: the others show how long a lap is
        complete = [lengths[i] for i in (k, k + 1) if 0 < i < len(falls)] or [max(lengths)]
        reach = min(STRAGGLERS, min(complete) // 4)
        low, high = max(0, fall - reach), min(len(ids), fall + reach)
        middle = (int(level[max(0, fall - AROUND - 1)]) + int(level[fall])) // 2
        lap[fall:high][near[fall:high] > middle] = k
        lap[low:fall][near[low:fall] < middle] = k + 1
    # the last lap, and seen from the other end the first one, may be too short to show in the level
    lap[len(lap) - _tail(near, lap) :] += 1
    head = _tail(near.max() - near[::-1], -lap[::-1])
    lap[head:] += bool(head)
    return lap


def _tail(near: Ints, lap: Ints) -> int:
    """Return how many of the last rows begin another lap, 0 if none do.

    Their ids are far below those before, and the lap before has each of them already. A single
    such row may just as well have come late, or twice.
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
        chunk = padded[begin : begin + (1 << 16) + width - 1]
        windows = np.lib.stride_tricks.sliding_window_view(chunk, width)
        levels[begin : begin + (1 << 16)] = np.partition(windows, AROUND, axis=1)[:, AROUND]
    return levels


def _falls(level: Ints) -> list[int]:
    """Return where the level falls by at least half of what it had climbed."""
    falls: list[int] = []
    start = 0
    while start < len(level):
        size = 1 << 12
        while True:  # up to the next fall, in pieces that grow
            piece = level[start : start + size]
            most = np.maximum.accumulate(piece)
            fell = most - piece >= np.maximum(LEAST_FALL, (most - piece[0] + 1) // 2)
            if fell.any() or start + size >= len(level):
                break
            size *= 4
        if not fell.any():
            break
        start += int(np.argmax(fell))
        falls.append(start)
    return falls


def _shift(own: tuple[Ints, Ints, Ints], base: tuple[Ints, Ints, Ints]) -> int:
    """Return the lap of the base recording that is lap 0 of this one.

    Each recording is given as frame numbers, laps and times, (n,) each and in order of time.
    """
    (number, lap, time), (base_number, base_lap, base_time) = own, base
    most, base_most = int(lap.max()), int(base_lap.max())
    begins = np.array([time[lap == k][:1].sum() for k in range(most + 1)])
    base_begins = np.array([base_time[base_lap == k][:1].sum() for k in range(base_most + 1)])
    apart = {}
    for shift in range(-most, base_most + 1):
        k = np.arange(max(0, -shift), min(most, base_most - shift) + 1)
        apart[shift] = float(np.median(np.abs(begins[k] - base_begins[k + shift])))
    scale = 1 + max(int(number.max()), int(base_number.max()))
    base_keys = base_lap * scale + base_number
    results: dict[int, tuple[int, float]] = {}
    for shift in sorted(apart, key=lambda shift: apart[shift])[:MOST_SHIFTS]:
        keys = (lap + shift) * scale + number
        _, at, base_at = np.intersect1d(keys, base_keys, return_indices=True)
        delays: Any = np.abs(time[at] - base_time[base_at])
        results[shift] = (len(at), float(np.median(delays)) if len(at) else np.inf)
    enough = 0.9 * max(count for count, _ in results.values())
    good = [shift for shift, (count, _) in results.items() if count >= enough]
    return min(good, key=lambda shift: results[shift][1])
