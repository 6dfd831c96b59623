"""The stamping core in plain Python: the specification of `_core.c`, and its replacement.

A row of the ring has the fields ``begin, frame_id, marks, rss, size, source, outcome, cpu, weight,
tags, seq``. A frame in flight holds its row as the list of arguments with which `Struct.pack_into`
writes it: the buffer of the ring, the offset in it, and the fields. (Making the list at the end
instead would take as long as two marks.) Finishing a frame draws the next sequence number and packs
the row into the slot of that number: ``begin`` first, ``seq`` last, so that a reader recognizes a
row that is written in part. If a value cannot be packed, the row becomes a tombstone: see
`Core._write_tombstone`.

If the ring is a mapped file, a frame also takes one of its in-flight slots, which holds the same
fields from the start of the frame until its row is written. The process may be killed at any
instruction: then the slots show which frames were in flight, and which marks they had.

Both cores call the methods of `Incidents` in rare cases: new names, wrong calls, frames that are
rejected or slow.

Threads: CPython's interpreter lock protects all state, as in the core in C. CPython switches
threads and calls signal handlers only at a call or at the end of a loop's body. Between reading a
counter and writing it there is neither.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any

import numpy as np
import numpy.typing as npt

from latprof.frames import NO_SIZE
from latprof.recorder._frame_python import (
    BEGIN,
    FIRST_MARK,
    FRAME_ID,
    INVALID,
    NO_FRAME,
    OFFSET,
    Frame,
    ProtectedFrame,
    Slots,
    integer,
    valid,
)
from latprof.recorder.incidents import BAD_ID, BAD_SIZE, BAD_STAMP, Incidents
from latprof.recorder.sampling import HeadSampler
from latprof.ring.ring import row_struct, store_rows

__all__ = ["NO_FRAME", "Core", "Frame"]

_BLOCK_ROWS = 4_096
"""Rows for which `record_many` draws numbers at once: fewer than the background folds in a step.
While a larger block is being written, later rows could be folded before earlier ones."""


class Core:
    """Stamps frames and writes their rows into a ring.

    Parameters
    ----------
    rows, slots
        Writable buffers: the rows of the ring, and those of the in-flight slots or None.
    capacity
        Rows of the ring.
    marks, owned, tags
        The names of all marks, of those that this process stamps, and of the tags.
    start_at, end_at
        Numbers of the marks ``start`` and ``end``.
    clock, clock_id
        A function that returns ns, and the id of that clock for ``clock_gettime``; -1 if it has no
        id: its values are then checked.
    stamp_limit
        Stamps must be below this number of ns.
    sampled_below
        A run of ids is sampled if its hash is below this limit; 2**64 samples all.
    limits
        Thresholds: tuples (number of the mark at which a span begins, number of the mark at which
        it ends, ns).
    waits
        Whether a writer without space in the ring waits; otherwise its frame is lost.
    current
        The variable that holds the current frame, or None if it is not tracked.
    incidents
        Methods that are called in rare cases.
    codes
        Dicts of codes by known name: one for the sources, and one for the values of each tag.

    Attributes
    ----------
    open, begun
        Whether frames are recorded, and whether they ever were.
    limit
        The largest sequence number that may be drawn; the fold raises it.
    started, skipped
        Frames that were begun, and frames that were not sampled; `record_many` adds to both.
    drawn
        The newest sequence number.
    refused
        Finished frames that found no space in the ring.
    unprotected
        Frames that found no free in-flight slot.
    tombstones
        Sequence numbers of rejected frames.
    dropped
        Dropped frames by the code of their outcome.
    rss, cpu
        The last sample of memory and CPU, which new rows are given.
    marks, places, tags
        The names of all marks, where those that this process stamps are in the list of a row, and
        the numbers of the tags.
    end_at, rss_at, source_at, outcome_at, cpu_at, tags_at
        Where these fields are in the list of a row; `end_at` is None if another process owns
        ``end``.
    """

    # __slots__, as reading attributes from a dict of this size takes longer
    # fmt: off
    __slots__ = (
        "_capacity", "_foreign", "_limits", "_new_row", "_no_tags", "_pack", "_rows", "_sampler",
        "_size_at", "_source_codes", "_start_at", "_tag_codes", "_width", "begun", "clock", "cpu",
        "cpu_at", "current", "drawn", "dropped", "end_at", "incidents", "limit", "marks", "open",
        "outcome_at", "places", "refused", "rss", "rss_at", "skipped", "slots", "source_at",
        "stamp_limit", "started", "tags", "tags_at", "tombstones", "unprotected", "waits",
    )
    # fmt: on

    def __init__(
        self,
        rows: Any,
        slots: Any,
        *,
        capacity: int,
        marks: tuple[str, ...],
        owned: tuple[str, ...],
        start_at: int,
        end_at: int,
        tags: tuple[str, ...],
        clock: Callable[[], int],
        clock_id: int,
        stamp_limit: int,
        sampled_below: int,
        limits: Sequence[tuple[int, int, int]],
        waits: bool,
        current: ContextVar[Frame | None] | None,
        incidents: Incidents,
        codes: Sequence[dict[str | None, int]],
    ) -> None:
        self.open = self.begun = False
        self.limit = 2**63 - 1
        self.started = self.skipped = self.drawn = self.refused = 0
        self.unprotected = self.tombstones = 0
        self.dropped: defaultdict[int, int] = defaultdict(int)
        self.rss, self.cpu = 0, math.nan
        self.incidents, self.current, self.stamp_limit = incidents, current, stamp_limit
        self.waits = waits
        self.clock = clock if clock_id >= 0 else lambda: valid(clock(), stamp_limit)

        fields, rest_at = row_struct(len(marks), len(tags)), FIRST_MARK + len(marks)
        self._pack, self._width = fields.pack_into, fields.size
        self._rows, self._capacity = rows, capacity
        self.slots: Any = None if slots is None else Slots(slots, fields, len(marks))
        self.rss_at, self._size_at, self.source_at, self.outcome_at, self.cpu_at = range(
            rest_at, rest_at + 5
        )
        self.tags_at = rest_at + 6
        rest = 0, NO_SIZE, 0, 0, math.nan, 1  # from `rss` to `weight`
        self._no_tags = [0] * len(tags)
        self._new_row = [rows, 0, 0, 0, *[0] * len(marks), *rest, *self._no_tags, 0]

        places = {mark: FIRST_MARK + i for i, mark in enumerate(marks)}
        self.marks, self.places = marks, {mark: places[mark] for mark in marks if mark in owned}
        self._foreign = [(mark, place) for mark, place in places.items() if mark not in owned]
        # None if another process owns the mark
        self._start_at = self.places.get(marks[start_at])
        self.end_at = self.places.get(marks[end_at])
        self._limits = [(FIRST_MARK + begin, FIRST_MARK + end, ns) for begin, end, ns in limits]
        self.tags = {tag: i for i, tag in enumerate(tags)}
        self._source_codes, *self._tag_codes = codes
        self._sampler = HeadSampler(sampled_below) if sampled_below < 2**64 else None

    def _draw(self, count: int) -> int:
        """Draw `count` sequence numbers; return the first, or 0 if they exceed the limit."""
        if count > self.limit - self.drawn:
            return 0
        self.drawn += count
        return self.drawn - count + 1

    def write_rows(self, rows: npt.NDArray[np.void]) -> int:
        """Write rows under new numbers, as many as the limit and a block allow; return how many."""
        first = count = 0
        while not first:  # again if another thread draws in between
            count = min(len(rows), self.limit - self.drawn, _BLOCK_ROWS)
            if count <= 0:
                return 0
            first = self._draw(count)
        array = np.frombuffer(self._rows, rows.dtype, self._capacity)
        store_rows(array, rows[:count], first)
        return count

    def start(self) -> None:
        """Begin to record."""
        if self.slots is not None:
            self.slots.clear()
        self.open = self.begun = True

    def stop(self) -> None:
        """Record and write nothing from now on."""
        self.open = False

    # -- frames ---------------------------------------------------------------------------------

    def frame(
        self,
        frame_id: int,
        size: int | None = None,
        source: str | None = None,
        *,
        start: int | None = None,
        tags: dict[str, object] | None = None,
    ) -> Frame:
        """Begin a frame: `Profiler.frame`."""
        sampler = self._sampler
        if not self.open or (sampler is not None and not sampler.is_sampled(frame_id, source)):
            self._count_skipped()
            return NO_FRAME
        start_at = self._start_at
        if start is not None and start_at is None:
            raise self.incidents.unknown_mark("start")
        try:
            code = self._source_codes[source]
        except (KeyError, TypeError):
            code = self.incidents.source(source)
        row = self._new_row.copy()
        # as int: no code of other types may run in `write`
        row[FRAME_ID] = frame_id if type(frame_id) is int else integer(frame_id)
        row[self.source_at] = code
        if size is not None:
            row[self._size_at] = size if type(size) is int else integer(size)
        if tags is not None:
            self._set_tags(row, tags)
        if start_at is not None:
            clock = self.clock
            row[start_at] = clock() if start is None else valid(start, self.stamp_limit)
        frame = Frame() if self.slots is None else ProtectedFrame()
        # set here, as a call of __init__ would take as long as two marks
        frame.core, frame.clock, frame.places, frame.row = self, self.clock, self.places, row
        frame.token = frame.slot = None
        self.started = number = self.started + 1
        if self.slots is not None:
            self.slots.take(frame, number)
        return frame

    def record(
        self,
        frame_id: int,
        stamps: Sequence[int],
        size: int | None = None,
        source: str | None = None,
        *,
        tags: dict[str, object] | None = None,
    ) -> None:
        """Record a frame from its stamps: `Profiler.record`."""
        # the checks of `frame` stand here once more, as a call for both would cost each frame
        if type(stamps) is not tuple:
            stamps = self.incidents.as_tuple(stamps)
        if len(stamps) != len(self.marks):
            raise self.incidents.wrong_length(stamps)
        sampler = self._sampler
        if not self.open or (sampler is not None and not sampler.is_sampled(frame_id, source)):
            self._count_skipped()
            return
        try:
            code = self._source_codes[source]
        except (KeyError, TypeError):
            code = self.incidents.source(source)
        if size is None:
            size = NO_SIZE
        if type(frame_id) is not int or type(size) is not int:  # as in `frame`
            frame_id, size = integer(frame_id), integer(size)
        try:
            # the sum is an int only if all stamps are; a negative one cannot be packed
            total = sum(stamps)
            fit = type(total) is int and (
                total < self.stamp_limit or max(stamps) < self.stamp_limit
            )
        except Exception:  # from the addition of other types
            fit = False
        if not fit:
            stamps = [valid(stamp, self.stamp_limit) for stamp in stamps]
        row = [self._rows, 0, 0, frame_id, *stamps, 0, size, code, 0, 0.0, 1, *self._no_tags, 0]
        if tags is not None:
            self._set_tags(row, tags)
        for mark, place in self._foreign:
            if row[place]:
                raise self.incidents.unknown_mark(mark)
        self.started += 1
        self.write(row)

    # -- rows -----------------------------------------------------------------------------------

    def stamps_of(self, row: list[Any]) -> list[Any]:
        """Return the stamps of all marks; 0 is missing."""
        return row[FIRST_MARK : self.rss_at]

    def write(self, row: list[Any], slot: int | None = None) -> None:
        """Write a row under the next number; if the ring has no space, wait if that is allowed."""
        if self.drawn < self.limit:
            self.drawn = number = self.drawn + 1
        elif (reason := self._invalid(row)) is not None:
            self.incidents.rejected(reason, row[FRAME_ID])
            return
        else:
            number = self._wait_for_number()
        if number:
            if slot is not None:
                self.slots.commit(slot, number)
            row[OFFSET] = (number - 1) % self._capacity * self._width
            row[BEGIN] = row[-1] = number
            row[self.rss_at], row[self.cpu_at] = self.rss, self.cpu
            try:
                self._pack(*row)
            except Exception:
                self._write_tombstone(row)
                return
        outcome = row[self.outcome_at]
        if outcome:
            self.dropped[outcome] += 1
        if number and self._limits:
            self._check_limits(row)

    def _wait_for_number(self) -> int:
        """Return a number once the ring has space; without space, count the frame and return 0."""
        number = 0
        while not number and self.waits and self.incidents.wait(self):
            number = self._draw(1)
        if not number:
            self.refused += 1
        return number

    def _write_tombstone(self, row: list[Any]) -> None:
        """Write the row of a rejected frame: weight 0, and the reason as its outcome."""
        self.tombstones += 1  # before the rejection is counted: no frame is missing in between
        reason = self._invalid(row)
        assert reason is not None
        outcome = self.incidents.rejected(reason, row[FRAME_ID])
        tombstone = self._new_row.copy()
        tombstone[OFFSET], tombstone[BEGIN], tombstone[-1] = row[OFFSET], row[BEGIN], row[-1]
        tombstone[FRAME_ID] = 0 if reason == BAD_ID else row[FRAME_ID]
        tombstone[self.rss_at], tombstone[self.cpu_at] = row[self.rss_at], row[self.cpu_at]
        tombstone[self.source_at], tombstone[self.outcome_at] = row[self.source_at], outcome
        tombstone[self.cpu_at + 1] = 0  # the weight
        self._pack(*tombstone)

    def _invalid(self, row: list[Any]) -> int | None:
        """Return why a row cannot be stored, or None."""
        if valid(row[FRAME_ID], 2**64) == INVALID:
            return BAD_ID
        if valid(row[self._size_at], NO_SIZE + 1) == INVALID:
            return BAD_SIZE
        fit = all(valid(stamp, self.stamp_limit) != INVALID for stamp in self.stamps_of(row))
        return None if fit else BAD_STAMP

    def _check_limits(self, row: list[Any]) -> None:
        """Report the spans of a row that exceed a threshold."""
        for span, (begin, end, ns) in enumerate(self._limits):
            if row[begin] and row[end] and row[end] - row[begin] > ns:
                latency = int(row[end] - row[begin])
                self.incidents.slow(row[FRAME_ID], row[self.source_at], latency, span)

    def _count_skipped(self) -> None:
        """Count a frame that is not sampled, or a call of a profiler that was never started."""
        if self.open:
            self.skipped += 1
        elif not self.begun:
            self.incidents.unstarted()

    # -- names ---------------------------------------------------------------------

    def wrong_mark(self, name: str) -> None:
        """Count a mark after the end of its frame, or raise the error of an unknown mark."""
        if not isinstance(name, str) or name not in self.places:
            raise self.incidents.unknown_mark(name)
        self.incidents.problem("mark after finish", name)

    def tag_index(self, name: str) -> int:
        """Return the number of a tag."""
        try:
            return self.tags[name]
        except (KeyError, TypeError):
            raise self.incidents.unknown_tag(name) from None

    def set_tag(self, row: list[Any], index: int, value: object) -> None:
        """Set the value of one tag in a row."""
        try:
            code = self._tag_codes[index][value]  # type: ignore[index]
        except (KeyError, TypeError):
            code = self.incidents.tag(index, value)
        row[self.tags_at + index] = code

    def _set_tags(self, row: list[Any], tags: Any) -> None:
        """Set the tags that a new frame is given."""
        if not isinstance(tags, dict):
            raise self.incidents.wrong_tags(tags)
        for name, value in tags.items():
            self.set_tag(row, self.tag_index(name), value)
