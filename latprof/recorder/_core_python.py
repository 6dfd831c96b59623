"""The stamping core in plain Python: the specification of `_core.c`, and its replacement.

A frame in flight has a list with the fields of its row in the ring: ``begin, frame_id, marks ...,
rss, size, source, outcome, cpu, weight, tags ..., seq``. A mark sets one item of the list.
Finishing a frame draws the next sequence number and packs the list into the slot of that number:
``begin`` first, ``seq`` last, so that a reader recognizes a row that is written in part. A value
that cannot be packed makes the row a tombstone.

If the ring is a mapped file, a frame also takes one of its in-flight slots, which holds the same
fields from the start of the frame until its row is written. The process may be killed at any
instruction: then the slots show which frames were in flight, and which marks they had.

Both cores call the methods of `Incidents` for all that is rare: new names, wrong calls, frames that
are rejected or slow.

Threads. CPython's interpreter lock protects all state, as in the core in C. It switches threads
and calls signal handlers only at a call or at the end of a loop's body, so that the code between
reading a counter and writing it has neither.
"""

import math
import operator
import struct
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextvars import ContextVar, Token
from typing import Any

import numpy as np
import numpy.typing as npt

from latprof.frames import NO_SIZE
from latprof.recorder.incidents import BAD_ID, BAD_SIZE, BAD_STAMP, Incidents
from latprof.recorder.sampling import RUN_BITS, fnv1a, run_hash
from latprof.ring.ring import row_struct, store_rows

__all__ = ["NO_FRAME", "Core", "Frame"]

KNOWN_SOURCES = 4_096  # sources with a sampling decision that is kept

_BLOCK_ROWS = 4_096
"""Rows that `record_many` draws numbers for at once. The background folds as many in a step: it may
fold later rows before earlier ones if they all are being written."""

_INVALID = 2**64  # in place of a stamp that cannot be stored; packing it fails
_ENDED: dict[str, int] = {}  # the marks that can be set in a frame that is finished or dropped


class Frame:
    """A frame in flight: what `Profiler.frame` returns.

    Used as a context manager, the frame finishes at the end of the block; if the block raises, it
    is dropped with the name of the exception. It may be passed between threads. Its truth value is
    False if it is not recorded.

    Attributes
    ----------
    core
        The core that records the frame, or None.
    """

    __slots__ = ("core", "places", "row", "slot", "token")

    core: "Core"
    places: dict[str, int]  # where the row has the marks that can be set
    row: list[Any]
    token: "Token[Frame | None] | bool | None"  # None before the block, False after it
    slot: int | None  # index of the first word of its in-flight slot; only of protected frames

    @property
    def finished(self) -> bool:
        """Whether the frame was finished or dropped."""
        return self.places is _ENDED

    @property
    def outer(self) -> "Frame | None":
        """The frame around it that was current when its ``with`` block began, or None."""
        before = getattr(self.token, "old_value", None)
        return before if isinstance(before, Frame) else None

    def mark(self, name: str, at: int | None = None) -> None:
        """Stamp a mark with the current time, or with a stamp taken elsewhere.

        Parameters
        ----------
        name
            A mark that this process owns.
        at
            The stamp in ns on the profiler's clock, or None to read the clock. 0 means missing
            and leaves the mark unset.

        Raises
        ------
        PipelineError
            The pipeline has no such mark, or another process owns it.

        Notes
        -----
        A mark that is set twice keeps its first stamp. Marks after finish are ignored. Both are
        counted in the notes of the accounts and logged the first time.
        """
        try:
            place = self.places[name]
        except (KeyError, TypeError):
            self.core.wrong_mark(name)
        else:
            row, core = self.row, self.core
            if row[place]:
                core.incidents.problem("mark set twice", name)
            elif at is None:
                clock = core.clock
                row[place] = clock()
            else:
                row[place] = _valid(at, core.stamp_limit)

    def tag(self, name: str, value: object) -> None:
        """Set a tag of the frame, for example its endpoint or status; the last value counts.

        Parameters
        ----------
        name
            One of the profiler's `tags`.
        value
            Text; anything else is turned into text. None removes the value.

        Raises
        ------
        ProfilerError
            The profiler has no such tag.

        Notes
        -----
        Tags after finish are ignored and counted in the notes of the accounts.
        """
        core = self.core
        index = core.tag_index(name)
        if self.finished:
            core.incidents.problem("tag after finish", name)
        else:
            self.row[core.tags_at + index] = core.tag_code(index, value)

    def finish(self, at: int | None = None) -> None:
        """Stamp ``end`` if this process owns it and it is not set, and commit the frame.

        Parameters
        ----------
        at
            The stamp of ``end`` in ns on the profiler's clock, or None to read the clock.

        Raises
        ------
        PipelineError
            `at` is given and another process owns ``end``.

        Notes
        -----
        After `Profiler.stop` the frame is not recorded and counts as rejected. Finishing twice is
        counted in the notes of the accounts.
        """
        self.core.end(self, at, "finish")

    def drop(self, reason: str, at: int | None = None) -> None:
        """Commit a frame that was given up; it is counted by reason and left out of statistics.

        Parameters
        ----------
        reason
            Why the frame was dropped.
        at
            As in `finish`.
        """
        self.core.end(self, at, "drop", reason)

    def stamp(self, mark: int, once: bool) -> None:
        """Stamp mark number `mark`, if it is not set or not `once`; see `Profiler.stage`."""
        if not self.finished and not (once and self.row[2 + mark]):
            self.row[2 + mark] = self.core.clock()

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return self.core.described(self)

    def __enter__(self) -> "Frame":
        if self.token is None and self.core.current is not None:
            self.token = self.core.current.set(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        token, self.token = self.token, False
        if token:
            try:  # noqa: SIM105  # contextlib.suppress takes as long as half a frame
                self.core.current.reset(token)  # type: ignore[union-attr, arg-type]
            except ValueError:  # the block is left in another context than it was entered in
                pass
        if self.places is _ENDED:
            return
        if kind is None:
            self.finish()
        else:
            self.drop(kind.__name__)


class _ProtectedFrame(Frame):
    """A frame with an in-flight slot; each stamp and tag is copied into it at once."""

    __slots__ = ()

    def mark(self, name: str, at: int | None = None) -> None:
        Frame.mark(self, name, at)  # quicker than super()
        if name in self.places:
            self.copy(self.places[name])

    def tag(self, name: str, value: object) -> None:
        super().tag(name, value)
        core = self.core
        if self.slot is not None and core.open:
            index = core.tag_index(name)
            code = self.row[core.tags_at + index]
            core.slot_halves[2 * self.slot + core.tag_half + index] = code

    def stamp(self, mark: int, once: bool) -> None:
        super().stamp(mark, once)
        self.copy(2 + mark)

    def copy(self, place: int) -> None:
        """Copy a stamp into the slot, unless it is invalid."""
        stamp = self.row[place]
        if self.slot is not None and self.core.open and stamp != _INVALID:
            self.core.slot_words[self.slot + place] = stamp

    def __del__(self) -> None:  # no one can finish the frame any more
        self.core.free_slot(self)


class _NoFrame(Frame):
    """The frame that is returned if nothing is recorded; all calls do nothing, as in `Frame`."""

    __slots__ = ()

    def __init__(self) -> None:
        self.core, self.places, self.token = None, _ENDED, False  # type: ignore[assignment]

    def mark(self, name: str, at: int | None = None) -> None: ...
    def tag(self, name: str, value: object) -> None: ...
    def finish(self, at: int | None = None) -> None: ...
    def drop(self, reason: str, at: int | None = None) -> None: ...
    def stamp(self, mark: int, once: bool) -> None: ...
    def __exit__(self, *exc_info: object) -> None: ...
    def __enter__(self) -> Frame:
        return self

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "<no frame>"


NO_FRAME = _NoFrame()
"""The shared frame of a stopped profiler, and of frames that are not sampled."""


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
        Returns ns, and its number for ``clock_gettime``, or -1 if it must be called and checked.
    stamp_limit
        Stamps must be below.
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
        What is called in rare cases.
    codes
        The codes of the names that are known: of the sources, and of each tag.

    Attributes
    ----------
    open, begun
        Whether frames are recorded, and whether they ever were.
    limit
        The largest sequence number that may be drawn: the fold of the rows raises it.
    started, skipped
        Frames that were begun, and frames that were not sampled. Also `record_many` adds to them.
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
    """

    # slots, as attributes in a dict of this size take longer
    # fmt: off
    __slots__ = (
        "_capacity", "_end_at", "_foreign", "_free_slots", "_latest", "_limits", "_marks",
        "_no_marks", "_no_tags", "_outcome_at", "_pack", "_rows", "_rss_at", "_sampled_below",
        "_samples", "_size_at", "_slots", "_source_at", "_source_codes", "_start_at",
        "_tag_codes", "_tag_index", "_width", "_words", "begun", "clock", "cpu", "current",
        "drawn", "dropped", "incidents", "limit", "open", "places", "refused", "rss", "skipped",
        "slot_halves", "slot_words", "stamp_limit", "started", "tag_half", "tags_at",
        "tombstones", "unprotected", "waits",
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
        self.clock = clock if clock_id >= 0 else lambda: _valid(clock(), stamp_limit)

        self._marks, self._no_marks, self._no_tags = marks, [0] * len(marks), [0] * len(tags)
        place = {mark: 2 + i for i, mark in enumerate(marks)}
        self.places = {mark: place[mark] for mark in owned}
        # 0 if another process owns the mark
        self._start_at = self.places.get(marks[start_at], 0)
        self._end_at = self.places.get(marks[end_at], 0)
        self._foreign = [place[mark] for mark in marks if mark not in owned]
        self._limits = [(2 + begin, 2 + end, ns) for begin, end, ns in limits]
        self._rss_at = 2 + len(marks)
        self._size_at, self._source_at, self._outcome_at = range(self._rss_at + 1, self._rss_at + 4)
        self.tags_at, self.tag_half = self._rss_at + 6, 2 * (5 + len(marks))
        self._tag_index = {tag: i for i, tag in enumerate(tags)}
        self._source_codes, *self._tag_codes = codes
        self._samples, self._sampled_below = sampled_below < 2**64, sampled_below
        self._latest: dict[Any, tuple[int, bool]] = {}

        fields = row_struct(len(marks), len(tags))
        self._pack, self._width, self._words = fields.pack_into, fields.size, fields.size // 8
        self._rows, self._capacity, self._slots = rows, capacity, slots
        self._free_slots: list[int] = []
        if slots is not None:
            # as words of 8 bytes, and as halves of them for the tags
            self.slot_words = memoryview(slots).cast("B").cast("Q")
            self.slot_halves = memoryview(slots).cast("B").cast("I")
            self._free_slots += range(0, len(self.slot_words) - self._words + 1, self._words)
            self._free_slots.reverse()

    def _draw(self, count: int) -> int:
        """Draw `count` sequence numbers; return the first, or 0 if they exceed the limit."""
        if count > self.limit - self.drawn:
            return 0
        self.drawn += count
        return self.drawn - count + 1

    def write_rows(self, rows: npt.NDArray[np.void]) -> int:
        """Write rows without numbers, as many as the limit and a block allow; return how many."""
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
        for slot in self._free_slots:  # some were freed after a stop, when nothing is written
            self.slot_words[slot] = 0
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
        if not self.open or (self._samples and not self._is_sampled(frame_id, source)):
            if not self.begun:
                self.incidents.unstarted()
            return NO_FRAME
        if start is not None and not self._start_at:
            raise self.incidents.unknown_mark("start")
        row = self._new_row(frame_id, self._no_marks, size, source, tags)
        if start is not None:
            row[self._start_at] = _valid(start, self.stamp_limit)
        elif self._start_at:
            clock = self.clock
            row[self._start_at] = clock()
        frame = Frame() if self._slots is None else _ProtectedFrame()
        frame.core = self  # a method __init__ would take as long as two marks
        frame.row = row
        frame.places = self.places
        frame.token = frame.slot = None
        self.started = number = self.started + 1
        if self._slots is not None:
            self._take_slot(frame, number)
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
        if type(stamps) is not tuple:
            stamps = self.incidents.as_tuple(stamps)
        if len(stamps) != len(self._marks):
            raise self.incidents.wrong_length(stamps)
        if not self.open or (self._samples and not self._is_sampled(frame_id, source)):
            if not self.begun:
                self.incidents.unstarted()
            return
        try:
            fit = max(stamps) < self.stamp_limit
        except TypeError:
            fit = False
        if not fit:
            stamps = [_valid(stamp, self.stamp_limit) for stamp in stamps]
        row = self._new_row(frame_id, stamps, size, source, tags)
        for place in self._foreign:
            if stamps[place - 2]:
                raise self.incidents.unknown_mark(self._marks[place - 2])
        self.started += 1
        self._write(row)

    def end(self, frame: Frame, at: int | None, call: str, reason: object = None) -> None:
        """Finish a frame, or drop it with a reason."""
        row = frame.row
        if frame.places is _ENDED:
            self.incidents.problem(f"{call} after finish", None)
            return
        if at is not None:
            frame.mark("end", at)
        elif self._end_at and not row[self._end_at]:
            clock = self.clock
            try:
                row[self._end_at] = clock()
            except BaseException:  # the frame would stay in flight for ever
                row[self._end_at] = _INVALID
                self.end(frame, None, "finish")
                raise
        is_open = self.open
        if is_open and call == "drop":
            row[self._outcome_at] = self.incidents.outcome(reason)
        places, frame.places = frame.places, _ENDED
        if places is _ENDED:  # by another thread or a signal handler meanwhile
            self.incidents.problem(f"{call} after finish", None)
        elif not is_open:
            self.incidents.late()
        else:
            self._write(row, frame.slot)
            if frame.slot is not None:
                self.free_slot(frame)

    # -- rows -----------------------------------------------------------------------------------

    def _new_row(
        self, frame_id: Any, stamps: Sequence[int], size: Any, source: Any, tags: Any
    ) -> list[Any]:
        try:
            code = self._source_codes[source]
        except (KeyError, TypeError):
            code = self.incidents.source(source)
        size = NO_SIZE if size is None else size
        row = [0, frame_id, *stamps, self.rss, size, code, 0, self.cpu, 1, *self._no_tags, 0]
        if type(frame_id) is not int or type(size) is not int:  # no other code may run in `_write`
            row[1], row[self._size_at] = _integer(frame_id), _integer(size)
        if tags is not None:
            if not isinstance(tags, dict):
                raise self.incidents.wrong_tags(tags)
            for name, value in tags.items():
                index = self.tag_index(name)
                row[self.tags_at + index] = self.tag_code(index, value)
        return row

    def _write(self, row: list[Any], slot: int | None = None) -> None:
        """Write a row into the place of the next number, which may have to wait for space."""
        if self.drawn < self.limit:
            self.drawn = number = self.drawn + 1
        elif (reason := self._invalid(row)) is not None:
            self.incidents.rejected(reason, row[1])
            return
        else:
            number = self._wait_for_number()
        if number:
            if slot is not None:
                self.slot_words[slot + self._words - 1] = number
            row[0] = row[-1] = number
            try:
                self._pack(self._rows, (number - 1) % self._capacity * self._width, *row)
            except Exception:
                self._write_tombstone(row)
                return
        if row[self._outcome_at]:
            self.dropped[row[self._outcome_at]] += 1
        if number and self._limits:
            self._check_limits(row)

    def _wait_for_number(self) -> int:
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
        outcome = self.incidents.rejected(reason, row[1])
        row[2 : self._rss_at] = self._no_marks
        row[self._size_at], row[self._outcome_at], row[self._outcome_at + 2] = NO_SIZE, outcome, 0
        row[self.tags_at : -1] = self._no_tags
        number, given, *rest = row
        frame_id = 0 if reason == BAD_ID else given
        place = (number - 1) % self._capacity * self._width
        self._pack(self._rows, place, number, frame_id, *rest)

    def _invalid(self, row: list[Any]) -> int | None:
        """Return why a row cannot be stored, or None."""
        if _valid(row[1], 2**64) == _INVALID:
            return BAD_ID
        if _valid(row[self._size_at], NO_SIZE + 1) == _INVALID:
            return BAD_SIZE
        stamps = row[2 : self._rss_at]
        fit = all(_valid(stamp, self.stamp_limit) != _INVALID for stamp in stamps)
        return None if fit else BAD_STAMP

    def _check_limits(self, row: list[Any]) -> None:
        for span, (begin, end, ns) in enumerate(self._limits):
            if row[begin] and row[end] and row[end] - row[begin] > ns:
                latency = int(row[end] - row[begin])
                self.incidents.slow(row[1], row[self._source_at], latency, span)

    # -- slots of frames in flight --------------------------------------------------------------

    def _take_slot(self, frame: Frame, number: int) -> None:
        """Give a frame a slot with a copy of its row, if there is a free one."""
        try:
            slot = self._free_slots.pop()
        except IndexError:
            self.unprotected += 1
            return
        fields = frame.row.copy()
        fields[self._rss_at] = threading.get_native_id()
        try:
            self._pack(self._slots, 8 * slot, *fields)
        except Exception:  # the frame will be rejected
            self._free_slots.append(slot)
            return
        frame.slot = slot
        self.slot_words[slot] = number  # last of all, as it makes the slot valid

    def free_slot(self, frame: Frame) -> None:
        """Free the slot of a frame."""
        slot, frame.slot = frame.slot, None
        if slot is not None:
            if self.open:
                self.slot_words[slot] = 0
            self._free_slots.append(slot)

    # -- names and sampling ---------------------------------------------------------------------

    def described(self, frame: Frame) -> str:
        """Return the repr of a frame."""
        row = frame.row
        stamps = [-1 if stamp == _INVALID else stamp for stamp in row[2 : self._rss_at]]
        return self.incidents.described(
            row[1], row[self._source_at], frame.finished, struct.pack(f"{len(stamps)}q", *stamps)
        )

    def wrong_mark(self, name: str) -> None:
        """Count a mark after the end of its frame, or raise the error of an unknown mark."""
        if not isinstance(name, str) or name not in self.places:
            raise self.incidents.unknown_mark(name)
        self.incidents.problem("mark after finish", name)

    def tag_index(self, name: str) -> int:
        """Return the number of a tag."""
        try:
            return self._tag_index[name]
        except (KeyError, TypeError):
            raise self.incidents.unknown_tag(name) from None

    def tag_code(self, index: int, value: object) -> int:
        """Return the code of a value of a tag."""
        try:
            return self._tag_codes[index][value]  # type: ignore[index]
        except (KeyError, TypeError):
            return self.incidents.tag(index, value)

    def _is_sampled(self, frame_id: int, source: str | None) -> bool:
        """Return whether the frame is in a run of ids that is sampled; count it if it is not."""
        try:
            run, sampled = self._latest[source]
            if run != frame_id >> RUN_BITS:
                sampled = self._decide(frame_id, source)
        except (KeyError, TypeError):
            sampled = self._decide(frame_id, source)
        if not sampled:
            self.skipped += 1
        return sampled

    def _decide(self, frame_id: int, source: object) -> bool:
        number = _valid(frame_id, 2**64)
        if number == _INVALID:
            return True  # the frame is rejected later
        name = None if source is None else self.incidents.encoded(source)
        run = number >> RUN_BITS
        sampled = run_hash(run, fnv1a(name)) < self._sampled_below
        if len(self._latest) >= KNOWN_SOURCES:
            self._latest.clear()
        if source is None or type(source) is str:
            self._latest[source] = run, sampled
        return sampled


def _integer(value: Any) -> Any:
    """Return a value as an int, or unchanged if it is not an integer."""
    try:
        return operator.index(value)
    except Exception:
        return value


def _valid(value: Any, limit: int) -> int:
    """Return a value as an int, or `_INVALID` if it is not an integer from 0 to `limit` - 1."""
    number = _integer(value)
    return number if type(number) is int and 0 <= number < limit else _INVALID
