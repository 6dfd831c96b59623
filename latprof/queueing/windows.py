"""Recordings that do not fit into memory, looked at window by window.

A window of frames is looked at together with those before it that were still there when its first
frame started, so that whoever kept a frame waiting is known. The last rows of a window are kept
back until later ones are known that may have entered a station before them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from latprof.arrays import Ints, Mask
from latprof.frames import MISSING, Columns
from latprof.pipeline import Pipeline
from latprof.queueing.blocking import DEPTH
from latprof.queueing.model import Picture, picture
from latprof.queueing.stations import places
from latprof.queueing.visits import MOST_ODD, Visits

__all__ = ["HELD", "WINDOW", "Crowd", "Walk", "needed"]

WINDOW = 65_536
"""Frames that are looked at together: their arrays fit a third-level cache, several at a time."""

HELD = 4_096
"""Frames kept back at the end of a window: later rows may have entered a station before them."""

MOST_KEPT = 16 * WINDOW
"""Frames of the past that are kept at most: a queue that is longer is seen so far only."""


@dataclass
class Crowd:
    """How many frames a station was seen to serve at once; so many servers it has.

    The rule is that of `latprof.queueing.visits.visits`, for all windows so far; `fixed` is
    what is known beforehand.
    """

    visits: int = 0
    overlapping: int = 0
    most: int = 0
    fixed: int | None = None

    @property
    def servers(self) -> int:
        """The number of servers."""
        if self.fixed is not None:
            return self.fixed
        return 1 if self.overlapping <= MOST_ODD * self.visits else self.most

    def settled(self, mine: Visits, fresh: Mask) -> Visits:
        """Add the visits of a window, of frames that are `fresh`; return them as is decided."""
        new = fresh[mine.frame]
        self.visits += int(np.count_nonzero(new))
        if mine.overlaps.any():
            self.overlapping += int(np.count_nonzero(mine.overlaps & new))
        self.most = max(self.most, mine.most_at_once)
        return mine.served_by(self.servers)


class Walk:
    """The frames of recordings in order of time -> pictures that count each frame once.

    Each picture has frames of the past, which only keep others waiting, and the frames that are
    counted. Memory is a window, and the frames that were in flight at once.

    Parameters
    ----------
    pipeline, hand_over, depth
        As `latprof.queueing.model.picture` takes them.
    servers
        How many servers stations have, where it is known; else what was seen so far decides.

    Attributes
    ----------
    rows, late
        Rows so far, and those that came after a row which started later was counted: more than
        `HELD` places out of order.
    changed
        Whether some window was looked at with another number of servers than is known now.

    Notes
    -----
    With the servers known the time that frames waited for others is that of all frames looked at
    together, to the nanosecond, for rows at most `HELD` places from the order of entry. What is
    inferred is inferred in each window by itself: blocking, hand-overs and delays of queued frames.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        hand_over: int | None = None,
        depth: int = DEPTH,
        servers: Mapping[str, int] | None = None,
    ) -> None:
        self.pipeline, self.hand_over, self.depth = pipeline, hand_over, depth
        self.rows = self.late = 0
        self.begun = self._closed = False
        where = places(pipeline)
        self._marks = where.marks_read
        self._crowds = {
            name: Crowd(fixed=None if servers is None else servers[name]) for name in where.stations
        }
        self._used: dict[str, set[int]] = {name: set() for name in where.stations}
        self._waiting: list[tuple[Columns, Mask | None]] = []  # frames that are not counted yet
        self._count = 0
        self._context: Columns | None = None  # counted frames that others may have waited for
        self._counted_to = MISSING
        self._delays: dict[str, Ints] = {}  # by station

    @property
    def servers(self) -> dict[str, int]:
        """By station, what all of the frames so far say."""
        return {name: crowd.servers for name, crowd in self._crowds.items()}

    @property
    def changed(self) -> bool:
        """Whether a window was looked at with other numbers of servers."""
        return any(used - {self._crowds[name].servers} for name, used in self._used.items())

    def add(self, columns: Columns, counted: Mask | None = None) -> Iterator[Picture]:
        """Add n frames; those not `counted` only keep others waiting."""
        if self._closed and len(columns):
            # what another recording has shown of servers is not known of this one alone
            self._crowds = {name: Crowd(fixed=each.fixed) for name, each in self._crowds.items()}
            self._closed = False
        for start in range(0, len(columns), WINDOW):
            # a trace in memory comes as a whole: its windows are those of a file
            cut = slice(start, start + WINDOW)
            part = needed(columns, self._marks, cut)
            starts = part.marks["start"]
            if self._counted_to > MISSING:
                there = starts if "start" in part.complete else starts[starts != MISSING]
                self.late += int(np.count_nonzero(there < self._counted_to))
            self.rows += len(part)
            self._count += len(part)
            self._waiting.append((part, None if counted is None else counted[cut]))
            # no sooner than the past is long: it would be looked at again and again
            past = 0 if self._context is None else len(self._context)
            if self._count > max(WINDOW, past, HELD):
                yield self._look(HELD)

    def close(self) -> Iterator[Picture]:
        """End a recording: the next one does not go on with it."""
        if self._count:
            yield self._look(0)
        self._closed = True
        self._context, self._counted_to, self.begun = None, MISSING, False

    def drop(self) -> None:
        """Forget the frames that are not counted yet."""
        self._waiting, self._count = [], 0
        self._context, self._counted_to, self.begun = None, MISSING, False

    def goes_on(self, columns: Columns) -> bool:
        """Return whether frames come after all of the recording that is being read."""
        known = self._waiting[-1][0] if self._waiting else self._context
        if known is None:
            return True
        starts, last = columns.marks["start"], known.marks["start"]
        there, before = starts[starts != MISSING], last[last != MISSING]
        return not len(there) or not len(before) or int(there.min()) >= int(before.max())

    def _look(self, held: int) -> Picture:
        past = 0 if self._context is None else len(self._context)
        parts = [] if self._context is None else [self._context]
        parts += [part for part, _ in self._waiting]
        whole = Columns.concat(parts) if len(parts) > 1 else parts[0]
        cut = len(whole) - held
        fresh = np.zeros(len(whole), bool)
        fresh[past:cut] = True
        counted = fresh
        if any(mask is not None for _, mask in self._waiting):
            wanted = np.ones(len(whole), bool)
            stop = past
            for part, mask in self._waiting:
                start, stop = stop, stop + len(part)
                if mask is not None:
                    wanted[start:stop] = mask
            counted = fresh & wanted
            rest_wanted: Mask | None = wanted[cut:]
        else:
            rest_wanted = None
        seen = picture(
            self.pipeline,
            whole,
            hand_over=self.hand_over,
            depth=self.depth,
            counted=counted,
            fresh=fresh,
            earlier=self._delays if self.begun else None,
            settle=lambda mine: self._crowds[mine.station].settled(mine, fresh),
        )
        for name, mine in seen.visits.items():
            if len(mine):
                self._used[name].add(mine.servers)
        self._delays = {name: apart.known for name, apart in seen.delays.items()}
        self.begun = True
        if held:
            # a copy: it does not keep the window in memory
            rest = whole.take(np.arange(cut, len(whole)))
            self._waiting, self._count = [(rest, rest_wanted)], held
            starts = whole.marks["start"]
            self._counted_to = max(self._counted_to, int(starts[past:cut].max(initial=MISSING)))
            self._context = self._still_there(whole.take(slice(0, cut)), rest)
        else:
            self._waiting, self._count = [], 0
        return seen

    def _still_there(self, past: Columns, rest: Columns) -> Columns:
        """Return the frames of the past that were there when the others started, and some more."""
        starts = rest.marks["start"]
        there = starts[starts != MISSING]
        keep = np.zeros(len(past), bool)
        keep[-HELD:] = True
        if len(there):
            first = int(there.min())
            for mark in self._marks:
                keep |= past.marks[mark] >= first
        keep[: max(len(past) - MOST_KEPT, 0)] = False
        return past.take(keep)


def needed(columns: Columns, marks: tuple[str, ...], cut: slice = slice(None)) -> Columns:
    """Return rows of columns: what attribution needs of them."""
    return Columns(
        columns.frame_id[cut],
        {mark: columns.marks[mark][cut] for mark in marks},
        outcome=None if columns.outcome is None else columns.outcome[cut],
        complete=columns.complete,
    )
