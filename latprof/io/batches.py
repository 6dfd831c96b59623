"""Frames of several recordings in order of time."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from latprof.arrays import Ints
from latprof.frames import MISSING, Columns
from latprof.units import STAMP_LIMIT

__all__ = ["cut", "in_order"]

_BATCH_ROWS = 1 << 16  # rows of a batch that is cut from a trace in memory


def cut(columns: Columns, slack: int | None) -> Iterator[Columns]:
    """Yield frames in batches, sorted by start if a row is more than `slack` rows out of order."""
    order = None if slack is None else _order(columns.marks["start"], slack)
    for start in range(0, len(columns), _BATCH_ROWS):
        cut = slice(start, start + _BATCH_ROWS)
        yield columns.take(cut if order is None else order[cut])


def _order(starts: Ints, slack: int) -> Ints | None:
    """Return the order of start, or None if no row is more than `slack` rows out of order."""
    if len(starts) <= slack:
        return None
    cuts = np.arange(0, len(starts), max(slack // 2, 1))
    latest = np.maximum.accumulate(np.maximum.reduceat(starts, cuts))
    first = np.minimum.reduceat(np.where(starts == MISSING, STAMP_LIMIT, starts), cuts)
    return np.argsort(starts, kind="stable") if (first[2:] < latest[:-2]).any() else None


@dataclass(slots=True)
class _Open:
    """A recording that is being read: the rows of its batch that are not yielded yet.

    `last` is the latest start in the batch, ns UTC.
    """

    batches: Iterator[Columns]
    rows: Columns
    last: int

    def advance(self) -> bool:
        """Take the next batch that has rows; return whether there is one."""
        for rows in self.batches:
            if len(rows):
                self.rows, self.last = rows, int(rows.marks["start"].max())
                return True
        return False


def in_order(starts: Iterable[int], recordings: Iterable[Iterator[Columns]]) -> Iterator[Columns]:
    """Yield the rows of recordings in order of time.

    `starts` has the first start of each (ns UTC), `recordings` its batches. Rows of a recording
    that does not overlap others keep their order.
    """
    waiting = sorted(zip(starts, recordings, strict=True), key=lambda each: each[0])
    reading: list[_Open] = []
    while waiting or reading:
        # open every recording that begins before the earliest end of a batch: rows up to that end
        # may be yielded only after all recordings with such rows are open
        while waiting and (not reading or waiting[0][0] <= min(each.last for each in reading)):
            opened = _Open(waiting.pop(0)[1], Columns(np.zeros(0, np.uint64), {}), MISSING)
            reading += [opened] if opened.advance() else []
        if not reading:
            return
        if len(reading) == 1:
            yield reading[0].rows
            reading = [each for each in reading if each.advance()]
            continue
        limit = min(each.last for each in reading)
        taken = []
        for each in reading:
            now = each.rows.marks["start"] <= limit
            if now.any():
                taken.append(each.rows.take(now))
            each.rows = each.rows.take(~now)
        mixed = Columns.concat(taken)
        yield mixed.take(np.argsort(mixed.marks["start"], kind="stable"))
        reading = [each for each in reading if len(each.rows) or each.advance()]
