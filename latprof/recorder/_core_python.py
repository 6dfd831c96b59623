"""The stamping core in plain Python: the specification of `_core.c`, and its replacement.

A frame in flight is a list with the fields of its row in the ring: ``begin, frame_id, marks ...,
rss, size, source, outcome, cpu, weight, tags ..., seq``. A mark sets one item of the list.
Finishing a frame draws the next sequence number and packs the list into the slot of that number:
``begin`` first, ``seq`` last, so that a reader recognizes a row that is written in part.

If the ring is a mapped file, a frame also takes one of its in-flight slots, which holds the same
fields from the start of the frame until its row is written. The process may be killed at any
instruction: then the slots show which frames were in flight, and which marks they had.

Both cores call the methods of `Incidents` for all that is rare: new names, wrong calls, frames that
are rejected or slow. One reentrant lock protects the counters.
"""

import contextlib
import math
import operator
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
from latprof.ring.ring import row_struct

__all__ = ["NO_FRAME", "Core", "Frame"]

KNOWN_SOURCES = 4_096  # sources with a sampling decision that is kept

_FINISH = object()  # in place of the reason for a drop


class Frame:
    """A frame in flight: what `Profiler.frame` returns.

    Used as a context manager, the frame finishes at the end of the block; if the block raises, it
    is dropped with the name of the exception. It may be passed between threads. Its truth value is
    False if it is not recorded.

    Attributes
    ----------
    finished
        Whether the frame was finished or dropped.
    outer
        The frame around it that was current when its ``with`` block began, or None.
    core
        The core that records the frame, or None.
    """

    __slots__ = ("bad_stamp", "core", "entered", "finished", "outer", "row", "slot", "token")

    core: "Core"
    row: list[Any]
    outer: "Frame | None"
    token: "Token[Frame | None] | None"
    slot: int | None  # index of the first word of the frame's slot
    finished: bool
    entered: bool
    bad_stamp: bool

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
        core = self.core
        try:
            at_index = core.index[name]
        except (KeyError, TypeError):
            raise core.incidents.unknown_mark(name) from None
        if self.finished:
            core.incidents.problem("mark after finish", name)
        elif self.row[at_index]:
            core.incidents.problem("mark set twice", name)
        else:
            self._set(at_index, core.clock() if at is None else _valid(at, core.stamp_limit))

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
            return
        code = core.tag_code(index, value)
        self.row[core.tags_at + index] = code
        if self.slot is not None and core.open:
            core.slot_halves[2 * self.slot + core.tag_half + index] = code

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
        self.core.end(self, at, _FINISH)

    def drop(self, reason: str, at: int | None = None) -> None:
        """Commit a frame that was given up; it is counted by reason and left out of statistics.

        Parameters
        ----------
        reason
            Why the frame was dropped.
        at
            As in `finish`.
        """
        self.core.end(self, at, reason)

    def stamp_first(self, mark: int) -> None:
        """Stamp mark number `mark` with the current time if it is not set; see `Profiler.stage`."""
        if not self.finished and not self.row[2 + mark]:
            self._set(2 + mark, self.core.clock())

    def stamp_last(self, mark: int) -> None:
        """Stamp mark number `mark` with the current time, even if it is set."""
        if not self.finished:
            self._set(2 + mark, self.core.clock())

    def _set(self, at_index: int, stamp: int | None) -> None:
        """Set a field to a stamp; None means an invalid stamp, which rejects the frame."""
        if stamp is None:
            self.bad_stamp = True
            return
        self.row[at_index] = stamp
        if self.slot is not None and self.core.open:
            self.core.slot_words[self.slot + at_index] = stamp

    def __bool__(self) -> bool:
        return True

    def __enter__(self) -> "Frame":
        current = self.core.current
        if current is not None and not self.entered:
            self.entered = True
            self.outer = current.get()
            self.token = current.set(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        current = self.core.current
        if current is not None and self.token is not None:
            # ValueError: the block is left in another context than it was entered in
            with contextlib.suppress(ValueError):
                current.reset(self.token)
            self.token = self.outer = None
        if self.finished:
            return
        if kind is None:
            self.finish()
        else:
            self.drop(kind.__name__)


class _ProtectedFrame(Frame):
    """A frame with a slot, which is free again when no one can finish the frame any more."""

    __slots__ = ()

    def __del__(self) -> None:
        if self.slot is not None:
            self.core.free_slot(self)


class _NoFrame(Frame):
    """The frame that is returned if nothing is recorded; all calls do nothing, as in `Frame`."""

    __slots__ = ()

    def mark(self, name: str, at: int | None = None) -> None: ...
    def tag(self, name: str, value: object) -> None: ...
    def finish(self, at: int | None = None) -> None: ...
    def drop(self, reason: str, at: int | None = None) -> None: ...
    def stamp_first(self, mark: int) -> None: ...
    def stamp_last(self, mark: int) -> None: ...
    def __exit__(self, *exc_info: object) -> None: ...
    def __enter__(self) -> Frame:
        return self

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "<no frame>"


NO_FRAME = _NoFrame()
"""The shared frame of a stopped profiler, and of frames that are not sampled."""
NO_FRAME.core = None  # type: ignore[assignment]
NO_FRAME.outer, NO_FRAME.finished = None, True


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
    source_codes, tag_codes
        The codes of the names that are known: a dict, and a dict for each tag.

    Attributes
    ----------
    open, begun
        Whether frames are recorded, and whether they ever were.
    limit
        The largest sequence number that may be drawn: the fold of the rows raises it.
    started, skipped
        Frames that were begun, and frames that were not sampled.
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

    def __init__(
        self,
        rows: Any,
        slots: Any,
        *,
        capacity: int,
        marks: tuple[str, ...],
        owned: tuple[str, ...],
        tags: tuple[str, ...],
        clock: Callable[[], int],
        clock_id: int,
        stamp_limit: int,
        sampled_below: int,
        limits: Sequence[tuple[int, int, int]],
        waits: bool,
        current: ContextVar[Frame | None] | None,
        incidents: Incidents,
        source_codes: dict[str | None, int],
        tag_codes: Sequence[dict[str | None, int]],
    ) -> None:
        self.open = self.begun = False
        self.limit = 2**63 - 1
        self.started = self.skipped = self.drawn = self.refused = 0
        self.unprotected = self.tombstones = 0
        # no call between reading and writing a count, as a signal handler might count there
        self.dropped: defaultdict[int, int] = defaultdict(int)
        self.rss, self.cpu = 0, math.nan
        self.incidents, self.current, self.stamp_limit = incidents, current, stamp_limit
        self._lock = threading.RLock()
        self.clock: Callable[[], int | None] = clock
        if clock_id < 0:
            self.clock = lambda: _valid(clock(), stamp_limit)

        self._marks, self._no_marks = marks, [0] * len(marks)
        place = {mark: 2 + i for i, mark in enumerate(marks)}
        self.index = {mark: place[mark] for mark in owned}
        self._start_at, self._end_at = place["start"], place["end"]
        self._owns_start, self._owns_end = "start" in owned, "end" in owned
        self._foreign = [place[mark] for mark in marks if mark not in owned]
        self._limits = [(2 + begin, 2 + end, ns) for begin, end, ns in limits]
        self._rss_at = 2 + len(marks)
        self._size_at, self._source_at, self._outcome_at = range(self._rss_at + 1, self._rss_at + 4)
        self.tags_at, self.tag_half = self._rss_at + 6, 2 * (5 + len(marks))
        self._tag_index, self._no_tags = {tag: i for i, tag in enumerate(tags)}, [0] * len(tags)
        self._source_codes, self._tag_codes = source_codes, tag_codes
        self._samples, self._sampled_below = sampled_below < 2**64, sampled_below
        self._latest: dict[Any, tuple[int, bool]] = {}
        self.waits = waits

        fields = row_struct(len(marks), len(tags))
        self._pack, self._width, words = fields.pack_into, fields.size, fields.size // 8
        self._rows, self._capacity = rows, capacity
        self._slots, self._seq_word = slots, words - 1
        self._free_slots: list[int] = []
        if slots is not None:
            # as words of 8 bytes, and as halves of them for the tags
            self.slot_words = memoryview(slots).cast("B").cast("Q")
            self.slot_halves = memoryview(slots).cast("B").cast("I")
            self._free_slots += range(0, len(self.slot_words) - words + 1, words)
            self._free_slots.reverse()

    def draw(self, count: int = 1) -> int:
        """Draw `count` sequence numbers; return the first, or 0 if they exceed the limit."""
        with self._lock:
            if count > self.limit - self.drawn:
                return 0
            self.drawn += count
            return self.drawn - count + 1

    def write_rows(self, rows: npt.NDArray[np.void]) -> int:
        """Write rows without numbers, as many as the limit allows; return how many."""
        with self._lock:
            count = min(len(rows), max(0, self.limit - self.drawn))
            numbers = np.arange(self.drawn + 1, self.drawn + 1 + count)
            self.drawn += count
        slots = (numbers - 1) % self._capacity
        block = rows[:count].copy()
        block["begin"], block["seq"] = numbers, 0
        array = np.frombuffer(self._rows, rows.dtype)
        # the rows are not committed from the first of these three until the last
        array["seq"][slots] = 0
        array[slots] = block
        array["seq"][slots] = numbers
        return count

    def count(self, started: int, skipped: int, refused: int) -> None:
        """Count frames that are recorded in another way."""
        with self._lock:
            self.started += started
            self.skipped += skipped
            self.refused += refused

    def start(self) -> None:
        """Begin to record."""
        for slot in self._free_slots:  # some were freed after a stop, when nothing is written
            self.slot_words[slot] = 0
        self.open = self.begun = True

    def stop(self) -> None:
        """Record and write nothing from now on."""
        self.open = False

    def forked(self) -> None:
        """Stop for good in the child of a fork, where the thread that held the lock is gone."""
        self.open = False
        self._lock = threading.RLock()

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
        if start is not None and not self._owns_start:
            raise self.incidents.unknown_mark("start")
        row = self._new_row(frame_id, self._no_marks, size, source, tags)
        frame = Frame() if self._slots is None else _ProtectedFrame()
        frame.core, frame.row = self, row
        frame.outer = frame.token = frame.slot = None
        frame.finished = frame.entered = frame.bad_stamp = False
        if self._slots is not None:
            self._take_slot(frame)
        if start is not None:
            frame._set(self._start_at, _valid(start, self.stamp_limit))
        elif self._owns_start:
            frame._set(self._start_at, self.clock())
        with self._lock:
            self.started += 1
            if frame.slot is not None:  # last of all, as it makes the slot valid
                self.slot_words[frame.slot] = self.started
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
        try:
            fits = len(stamps) == len(self._marks)
        except TypeError:
            fits = False
        if not fits:
            raise self.incidents.wrong_length(stamps)
        if not self.open or (self._samples and not self._is_sampled(frame_id, source)):
            if not self.begun:
                self.incidents.unstarted()
            return
        if type(stamps) is not tuple:
            stamps = self.incidents.as_tuple(stamps)
            if len(stamps) != len(self._marks):
                raise self.incidents.wrong_length(stamps)
        row = self._new_row(frame_id, stamps, size, source, tags)
        for at in self._foreign:
            if stamps[at - 2]:
                raise self.incidents.unknown_mark(self._marks[at - 2])
        try:
            bad_stamp = max(stamps) >= self.stamp_limit
        except TypeError:  # integers of other types, or something else
            row[2 : self._rss_at] = stamps = [_integer(stamp) for stamp in stamps]
            bad_stamp = not all(_fits(stamp, self.stamp_limit) for stamp in stamps)
        with self._lock:
            self.started += 1
            number = 0
            if self.drawn < self.limit:
                self.drawn = number = self.drawn + 1
        self._write(row, number, bad_stamp)

    def end(self, frame: Frame, at: int | None, reason: object) -> None:
        """Finish a frame, or drop it with a reason."""
        call = "finish" if reason is _FINISH else "drop"
        if frame.finished:
            self.incidents.problem(f"{call} after finish", None)
            return
        if at is not None:
            frame.mark("end", at)
        elif self._owns_end and not frame.row[self._end_at]:
            try:
                frame._set(self._end_at, self.clock())
            except BaseException:  # the frame would stay in flight for ever
                frame.bad_stamp = True
                self._commit(frame, call, _FINISH)
                raise
        self._commit(frame, call, reason)

    # -- rows -----------------------------------------------------------------------------------

    def _new_row(
        self, frame_id: Any, stamps: Sequence[int], size: Any, source: Any, tags: Any
    ) -> list[Any]:
        try:
            source_code = self._source_codes[source]
        except (KeyError, TypeError):
            source_code = self.incidents.source(source)
        size = NO_SIZE if size is None else size
        row = [0, frame_id, *stamps, self.rss, size, source_code, 0, self.cpu, 1, *self._no_tags, 0]
        if type(frame_id) is not int or type(size) is not int:
            row[1], row[self._size_at] = _integer(frame_id), _integer(size)
        if tags is not None:
            if not isinstance(tags, dict):
                raise self.incidents.wrong_tags(tags)
            for name, value in tags.items():
                index = self.tag_index(name)
                row[self.tags_at + index] = self.tag_code(index, value)
        return row

    def _commit(self, frame: Frame, call: str, reason: object) -> None:
        """Write the row of a frame, once."""
        is_open, row = self.open, frame.row
        if is_open and reason is not _FINISH:
            row[self._outcome_at] = self.incidents.outcome(reason)
        with self._lock:
            finished, frame.finished = frame.finished, True
            number = 0
            if is_open and not finished and self.drawn < self.limit:
                self.drawn = number = self.drawn + 1
        if finished:  # by another thread or a signal handler meanwhile
            self.incidents.problem(f"{call} after finish", None)
            return
        if is_open:
            self._write(row, number, frame.bad_stamp, frame.slot)
        else:
            self.incidents.late()
        if frame.slot is not None:
            self.free_slot(frame)

    def _write(self, row: list[Any], number: int, bad_stamp: bool, slot: int | None = None) -> None:
        """Write a row into the slot of its number; without a number, wait for space."""
        if not number:
            reason = self._invalid(row, bad_stamp)
            if reason is not None:
                self.incidents.rejected(reason, row[1])
                return
            number = self._wait_for_number()
        if number:
            if slot is not None:
                self.slot_words[slot + self._seq_word] = number
            row[0] = row[-1] = number
            at = (number - 1) % self._capacity * self._width
            try:
                if bad_stamp:
                    raise ValueError
                self._pack(self._rows, at, *row)
            except Exception:
                self._write_tombstone(row, at, bad_stamp)
                return
        if row[self._outcome_at]:
            self._count_dropped(row[self._outcome_at])
        if self._limits and number:
            self._check_limits(row)

    def _wait_for_number(self) -> int:
        number = 0
        while not number and self.waits and self.incidents.wait(self):
            number = self.draw()
        if not number:
            self.count(0, 0, 1)
        return number

    def _write_tombstone(self, row: list[Any], at: int, bad_stamp: bool) -> None:
        """Write the row of a rejected frame: weight 0, and the reason as its outcome."""
        with self._lock:  # before the rejection is counted, so that no frame is missing in between
            self.tombstones += 1
        reason = self._invalid(row, bad_stamp)
        assert reason is not None
        outcome = self.incidents.rejected(reason, row[1])
        known = [
            row[0],
            0 if reason == BAD_ID else row[1],
            *self._no_marks,
            row[self._rss_at],
        ]
        labels = [NO_SIZE, row[self._source_at], outcome, row[self._outcome_at + 1], 0]
        self._pack(self._rows, at, *known, *labels, *self._no_tags, row[0])

    def _invalid(self, row: list[Any], bad_stamp: bool) -> int | None:
        """Return why a row cannot be stored, or None."""
        if not _fits(row[1], 2**64):
            return BAD_ID
        if not _fits(row[self._size_at], NO_SIZE + 1):
            return BAD_SIZE
        fit = all(_fits(stamp, self.stamp_limit) for stamp in row[2 : self._rss_at])
        return None if fit and not bad_stamp else BAD_STAMP

    def _count_dropped(self, outcome: int) -> None:
        with self._lock:
            self.dropped[outcome] += 1

    def _check_limits(self, row: list[Any]) -> None:
        for span, (begin, end, ns) in enumerate(self._limits):
            if row[begin] and row[end] and row[end] - row[begin] > ns:
                latency = row[end] - row[begin]
                self.incidents.slow(row[1], row[self._source_at], int(latency), span)

    # -- slots of frames in flight --------------------------------------------------------------

    def _take_slot(self, frame: Frame) -> None:
        """Give a frame a slot with a copy of its row, not valid yet, if there is a free one."""
        try:
            slot = self._free_slots.pop()
        except IndexError:
            with self._lock:
                self.unprotected += 1
            return
        fields = frame.row.copy()
        fields[self._rss_at] = threading.get_native_id()
        try:
            self._pack(self._slots, 8 * slot, *fields)
            frame.slot = slot
        except Exception:  # the frame will be rejected
            self._free_slots.append(slot)

    def free_slot(self, frame: Frame) -> None:
        """Free the slot of a frame."""
        slot, frame.slot = frame.slot, None
        if slot is not None:
            if self.open:
                self.slot_words[slot] = 0
            self._free_slots.append(slot)

    # -- names and sampling ---------------------------------------------------------------------

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
            self.count(0, 1, 0)
        return sampled

    def _decide(self, frame_id: int, source: object) -> bool:
        number = _integer(frame_id)
        if not _fits(number, 2**64):
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


def _valid(stamp: Any, limit: int) -> int | None:
    """Return a stamp as an int, or None if it is not an integer from 0 to `limit` - 1."""
    number = _integer(stamp)
    return number if type(number) is int and 0 <= number < limit else None


def _fits(value: Any, limit: int) -> bool:
    return _valid(value, limit) is not None
