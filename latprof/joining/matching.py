"""Which rows of several recordings are the same frame: those of one id and source.

Where ids start again, it is those of the same lap, too.
"""

from collections.abc import Sequence

import numpy as np

from latprof.arrays import Ints
from latprof.errors import TraceError
from latprof.frames import MISSING, Columns, Labels
from latprof.joining.restarts import laps
from latprof.pipeline import Pipeline

__all__ = ["align", "first_stamps"]


def align(
    parts: Sequence[Columns], names: Sequence[str], pipeline: Pipeline
) -> tuple[list[Ints], int]:
    """Return for every part where in it each frame is, and how many frames there are.

    Parameters
    ----------
    parts
        The recordings.
    names
        What they are called in an error.
    pipeline
        Of all of them; its first mark that a row has tells which of two rows came first.

    Returns
    -------
    rows
        For every part positions (frames + second rows,): of the first row of each frame, -1
        where the part does not know it; then of the rows of frames that it already had.
    frames
        How many different frames there are.

    Raises
    ------
    TraceError
        One part does not say of which source its frames are, and another has an id twice.

    Examples
    --------
    >>> ids = [np.array([1, 2, 2], np.uint64), np.array([2, 3], np.uint64)]
    >>> stamps = [{"start": np.array([5, 6, 7])}, {"start": np.array([8, 9])}]
    >>> parts = [Columns(i, t | {"end": t["start"]}) for i, t in zip(ids, stamps)]
    >>> align(parts, ["a", "b"], Pipeline("link", ("start", "end")))
    ([array([ 0,  1, -1,  2]), array([-1,  0,  1, -1])], 3)
    """
    numbers, frames = _frame_numbers(parts, names, pipeline)
    firsts, seconds = [], []
    for part, number in zip(parts, numbers, strict=True):
        position = np.full(frames, -1)
        second = np.empty(0, np.int64)
        if len(number) and np.bincount(number).max() > 1:
            order = np.lexsort((first_stamps(part, pipeline), number))
            again = np.concatenate([[False], number[order][1:] == number[order][:-1]])
            position[number[order[~again]]] = order[~again]
            second = np.sort(order[again])
        else:
            position[number] = np.arange(len(number))
        firsts.append(position)
        seconds.append(second)
    rows = []
    for i, first in enumerate(firsts):
        others = [np.full(len(second), -1) for second in seconds]
        rows.append(np.concatenate([first, *others[:i], seconds[i], *others[i + 1 :]]))
    return rows, frames


def _frame_numbers(
    parts: Sequence[Columns], names: Sequence[str], pipeline: Pipeline
) -> tuple[list[Ints], int]:
    """Return for every row of every part the number of its frame, and how many frames there are."""
    ids = np.concatenate([part.frame_id for part in parts])
    distinct, number = np.unique(ids, return_inverse=True)
    frames = len(distinct)
    sources = _source_codes(parts, names)
    if sources is not None and sources.max(initial=0) > 0:
        number, frames = _pairs(number, sources)
    ends = np.cumsum([len(part) for part in parts])[:-1]
    numbers = np.split(number, ends)
    if any(len(part) and np.bincount(part).max() > 1 for part in numbers):
        codes = np.zeros(len(ids), np.int64) if sources is None else sources
        times = [first_stamps(part, pipeline) for part in parts]
        lap = laps([part.frame_id for part in parts], np.split(codes, ends), times, numbers)
        if lap is not None:
            number, frames = _pairs(number, np.concatenate(lap))
            numbers = np.split(number, ends)
    return numbers, frames


def _pairs(first: Ints, second: Ints) -> tuple[Ints, int]:
    """Return (n,) pairs of numbers as one number each, without gaps, and how many there are."""
    distinct, number = np.unique(first * (int(second.max()) + 1) + second, return_inverse=True)
    return number, len(distinct)


def _source_codes(parts: Sequence[Columns], names: Sequence[str]) -> Ints | None:
    """Return a code of the source of every row of every part; None: the id alone counts."""
    silent = [name for part, name in zip(parts, names, strict=True) if _is_silent(part)]
    if not silent:
        tables = [part.source or Labels.constant(None, len(part)) for part in parts]
        return Labels.concat(tables).codes.astype(np.int64) + 1  # 0: this frame has none
    for part, name in zip(parts, names, strict=True):
        if part.source is None:
            continue
        order = np.argsort(part.frame_id, kind="stable")
        ids, codes = part.frame_id[order], part.source.codes[order]
        clash = np.flatnonzero((ids[1:] == ids[:-1]) & (codes[1:] != codes[:-1]))
        if len(clash):
            raise TraceError(
                f"{name} has frame {ids[clash[0]]} of two sources and {silent[0]} does not say "
                "which it has: record source= in both"
            )
    return None


def _is_silent(part: Columns) -> bool:
    """Return whether a recording has frames and says of none where it comes from."""
    return len(part) > 0 and (part.source is None or bool(np.all(part.source.codes < 0)))


def first_stamps(columns: Columns, pipeline: Pipeline) -> Ints:
    """Return each row's first stamp in the pipeline's order; the largest int64 without any."""
    first = np.full(len(columns), MISSING)
    for mark in pipeline.marks:
        gaps = first == MISSING
        if not gaps.any():
            break
        first[gaps] = columns.marks[mark][gaps]
    first[first == MISSING] = np.iinfo(np.int64).max
    return first
