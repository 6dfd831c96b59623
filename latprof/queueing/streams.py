"""Batches of several recordings in order of time, each recording open only while it is read."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from latprof.frames import MISSING, Columns

__all__ = ["Stream", "in_time"]


@dataclass(frozen=True, slots=True)
class Stream:
    """A recording: when about its first frame starts, and what yields its batches."""

    first: int
    batches: Callable[[], Iterator[Columns]]


@dataclass(slots=True)
class _Open:
    batches: Iterator[Columns]
    rows: Columns
    last: int

    def more(self) -> bool:
        """Take the next batch that has rows; False: there is none."""
        for rows in self.batches:
            if len(rows):
                self.rows, self.last = rows, int(rows.marks["start"].max())
                return True
        return False


def in_time(streams: Sequence[Stream]) -> Iterator[Columns]:
    """Yield the rows of all recordings.

    Recordings one after the other keep their order of rows. Of those that overlap in time the rows
    come in order of start, and a batch of each is in memory.
    """
    waiting = sorted(streams, key=lambda stream: stream.first)
    there: list[_Open] = []
    while waiting or there:
        # all rows up to `limit` are known once every recording that has some is open
        while waiting and (not there or waiting[0].first <= min(each.last for each in there)):
            stream = _Open(waiting.pop(0).batches(), Columns(np.zeros(0, np.uint64), {}), MISSING)
            there += [stream] if stream.more() else []
        if not there:
            return
        if len(there) == 1:
            yield there[0].rows
            there = [each for each in there if each.more()]
            continue
        limit = min(each.last for each in there)
        taken = []
        for each in there:
            now = each.rows.marks["start"] <= limit
            if now.any():
                taken.append(each.rows.take(now))
            each.rows = each.rows.take(~now)
        mixed = Columns.concat(taken)
        yield mixed.take(np.argsort(mixed.marks["start"], kind="stable"))
        there = [each for each in there if len(each.rows) or each.more()]
