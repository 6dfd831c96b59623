"""Everything that attribution knows of frames: stations, visits, delays, chains; made once."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from latprof.arrays import Ints, Mask
from latprof.frames import MISSING, Columns
from latprof.pipeline import Pipeline, Span
from latprof.queueing.blocking import DEPTH, Blocked, Path, chains
from latprof.queueing.busy import Amounts, Busy, Timeline
from latprof.queueing.delays import Delays, decompose
from latprof.queueing.stations import Block, Places, places
from latprof.queueing.visits import Visits, visits

__all__ = ["Picture", "picture"]


@dataclass(eq=False)
class Picture:
    """Frames of a pipeline, in any order, and what is known of its stations.

    `counted` is which frames are told of: finished ones. The others only keep them waiting.
    `fresh` is which are of this window and of no other, dropped ones included; None: all.
    """

    places: Places
    columns: Columns
    hand_over: int | None
    depth: int
    counted: Mask
    visits: dict[str, Visits]
    delays: dict[str, Delays]
    fresh: Mask | None = None

    def is_fresh(self, rows: Ints) -> Mask:
        """Return which of the frames in some rows are of no other window."""
        return np.ones(len(rows), bool) if self.fresh is None else self.fresh[rows]

    @cached_property
    def _chains(self) -> tuple[dict[str, dict[Path, Busy]], dict[str, list[Blocked]]]:
        return chains(self.places, self.visits, self.delays, self.depth)

    @property
    def reach(self) -> dict[str, dict[Path, Busy]]:
        """By station and path: what its frames keep others waiting with."""
        return self._chains[0]

    @property
    def blocked(self) -> dict[str, list[Blocked]]:
        """By station: where the next one held it up."""
        return self._chains[1]

    def of_block(self, i: int) -> tuple[Mask | slice, Visits, Delays]:
        """Return which visits to its station are to a block; the station's visits and delays."""
        block = self.places.blocks[i]
        mine = self.visits[block.station]
        alone = len(self.places.of(block.station)) == 1
        return slice(None) if alone else mine.block == i, mine, self.delays[block.station]

    def waits(self, i: int, *, queued: bool) -> tuple[Ints | slice, Ints, Ints]:
        """Return of each counted frame that came to block `i`: visit, wait's begin, its end.

        Parameters
        ----------
        i
            A block.
        queued
            Only from when the frame can have been there, and only of frames that were queued;
            else the whole time in front of the station.
        """
        chosen, mine, delays = self.of_block(i)
        known = self.counted[mine.frame] & (mine.arrive != MISSING) & (mine.arrive <= mine.begin)
        if not isinstance(chosen, slice):
            known &= chosen
        low, high = mine.arrive, mine.begin
        if queued:
            low = np.where(delays.queued, delays.arrive + delays.delay, high)
            for blocked in self.blocked[self.places.blocks[i].station]:
                if blocked.stage not in mine.stages:
                    # the next frame came to an idle server that a full queue held up
                    held = np.append(False, blocked.lengths[:-1] > 0)
                    usual = delays.arrive + np.minimum(delays.delay, delays.usual_ns or 0)
                    low = np.where(held, np.minimum(low, usual), low)
        visit = _places(known)
        return visit, low[visit], high[visit]

    def blamed(self, block: Block, visit: Ints | slice, low: Ints) -> dict[Path, Amounts]:
        """Return how much of the wait of each visit (n,) from `low` on was for what, ns."""
        mine = self.visits[block.station]
        high = mine.begin[visit]
        found: dict[Path, Amounts] = {}
        known: tuple[Ints, Ints] | None = None
        for path, busy in self.reach[block.station].items():
            if not isinstance(busy, Timeline):
                found[path] = busy.upto(high) - busy.upto(low)
            elif busy.entries is mine.begin:
                # up to its own entry: all of the visits before
                if known is None or known[0] is not busy.entries:  # one search for all of them
                    known = busy.entries, _before(busy, visit, low)
                found[path] = busy.sums[visit] - busy.upto(low, known[1])
            else:
                if known is None or known[0] is not busy.entries:
                    known = busy.entries, busy.locate(low)
                found[path] = busy.upto(high) - busy.upto(low, known[1])
        return found

    def lengths(self, stage: Span) -> tuple[Ints, Ints]:
        """Return the rows of counted frames that have a stage, and how long it took."""
        begin, end = self.columns.marks[stage.begin], self.columns.marks[stage.end]
        there = self.counted & (begin != MISSING) & (end != MISSING) & (end >= begin)
        rows = np.flatnonzero(there)
        return rows, (end - begin)[rows]

    @cached_property
    def end_to_end(self) -> tuple[Ints, Ints]:
        """The rows of counted frames that have start and end in order, and their end_to_end."""
        return self.lengths(self.places.pipeline.totals[0])


def picture(
    pipeline: Pipeline,
    columns: Columns,
    *,
    hand_over: int | None = None,
    depth: int = DEPTH,
    counted: Mask | None = None,
    fresh: Mask | None = None,
    earlier: Mapping[str, Ints] | None = None,
    settle: Callable[[Visits], Visits] | None = None,
) -> Picture:
    """Return what attribution knows of frames.

    With `counted` and `fresh` (n,) only of some; `earlier` is what is known of delays by station
    where the frames are not the first: see `decompose`; `settle` decides how many servers a station
    has.
    """
    where = places(pipeline)
    done = columns.finished()
    mine = np.ones(len(columns), bool) if done is None else done
    if counted is not None:
        mine = mine & counted
    seen = {name: visits(where, name, columns) for name in where.stations}
    if settle is not None:
        seen = {name: settle(there) for name, there in seen.items()}
    past = earlier or {}
    apart = {name: decompose(there, hand_over, past.get(name)) for name, there in seen.items()}
    return Picture(where, columns, hand_over, depth, mine, seen, apart, fresh)


def _places(known: Mask) -> Ints | slice:
    """Return where a mask is true: a slice if they are in a row."""
    count, first = int(np.count_nonzero(known)), int(np.argmax(known)) if len(known) else 0
    if known[first : first + count].all():
        return slice(first, first + count)
    return np.flatnonzero(known)


def _before(busy: Timeline, visit: Ints | slice, low: Ints) -> Ints:
    """Return the last visit that had begun at each time, no later than the visit's own entry."""
    if isinstance(visit, slice):
        visit = np.arange(visit.start, visit.stop)
    # most came while the one before them was served, or later
    before = visit - 1
    further = np.flatnonzero(busy.entries[np.maximum(before, 0)] > low)
    before[further] = busy.locate(low[further])
    return before
