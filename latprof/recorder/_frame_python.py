"""A frame in flight in the stamping core in plain Python, and its slot in a mapped file."""

import operator
import struct
import threading
from collections.abc import Callable
from contextvars import Token
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from latprof.recorder._core_python import Core

__all__ = [
    "BEGIN",
    "ENDED",
    "FIRST_MARK",
    "FRAME_ID",
    "INVALID",
    "NO_FRAME",
    "OFFSET",
    "Frame",
    "ProtectedFrame",
    "Slots",
    "integer",
    "valid",
]

INVALID = 2**64  # replaces a stamp that cannot be stored; packing it fails
ENDED: dict[str, int] = {}  # the `places` of a frame that is finished or dropped: none can be set

# where the list of a row has these fields
OFFSET, BEGIN, FRAME_ID, FIRST_MARK = 1, 2, 3, 4


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

    __slots__ = (
        "clock",
        "core",
        "places",
        "row",
        "slot",
        "token",
    )

    core: "Core"
    clock: Callable[[], int]
    places: dict[str, int]  # where the marks that can be set are in the row
    row: list[Any]  # of arguments of `pack_into`; id, size and stamps may be invalid
    slot: int | None  # index of the first word of the in-flight slot; None without a slot
    token: "Token[Frame | None] | bool | None"  # None before the block, False after it

    @property
    def finished(self) -> bool:
        """Whether the frame was finished or dropped."""
        return self.places is ENDED

    @property
    def outer(self) -> "Frame | None":
        """The frame that was current when the ``with`` block of this one began, or None."""
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
            return
        row = self.row
        if row[place]:
            self.core.incidents.problem("mark set twice", name)
        elif at is None:
            clock = self.clock
            row[place] = clock()
        else:
            row[place] = valid(at, self.core.stamp_limit)

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
            core.set_tag(self.row, index, value)

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
        core, row = self.core, self.row
        if at is not None and not self.finished:
            self.mark("end", at)
        places, self.places = self.places, ENDED
        if places is ENDED:
            core.incidents.problem("finish after finish", None)
            return
        end_at = core.end_at
        try:
            if at is None and end_at is not None and not row[end_at]:
                row[end_at] = INVALID  # if the clock raises, the frame is rejected
                clock = self.clock
                row[end_at] = clock()
        finally:  # or the frame would stay in flight for ever
            if core.open:
                core.write(row, self.slot)
            else:
                core.incidents.late()
            if self.slot is not None:
                core.slots.free(self)

    def drop(self, reason: str, at: int | None = None) -> None:
        """Commit a frame that was given up; it is counted by reason and left out of statistics.

        Parameters
        ----------
        reason
            Why the frame was dropped.
        at
            As in `finish`.
        """
        core = self.core
        if self.finished:
            core.incidents.problem("drop after finish", None)
            return
        if at is not None and core.end_at is None:
            raise core.incidents.unknown_mark("end")
        if core.open:
            self.row[core.outcome_at] = core.incidents.outcome(reason)
        self.finish(at)

    def stamp(self, mark: int, once: bool) -> None:
        """Stamp mark number `mark`, if it is not set or not `once`; see `Profiler.stage`."""
        place = FIRST_MARK + mark
        if not self.finished and not (once and self.row[place]):
            self.row[place] = self.clock()

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        core, row = self.core, self.row
        stamps = [-1 if stamp == INVALID else stamp for stamp in core.stamps_of(row)]
        return core.incidents.described(
            row[FRAME_ID],
            row[core.source_at],
            self.finished,
            struct.pack(f"{len(stamps)}q", *stamps),
        )

    def __enter__(self) -> "Frame":
        current = self.core.current
        if self.token is None and current is not None:
            self.token = current.set(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        token, self.token = self.token, False
        if token:
            try:  # noqa: SIM105  # contextlib.suppress takes as long as half a frame
                self.core.current.reset(token)  # type: ignore[union-attr, arg-type]
            except ValueError:  # the block is left in another context than it was entered in
                pass
        if self.places is ENDED:
            return
        if kind is None:
            self.finish()
        else:
            self.drop(kind.__name__)


class ProtectedFrame(Frame):
    """A frame with an in-flight slot; each stamp and tag is copied into it at once."""

    __slots__ = ()

    def mark(self, name: str, at: int | None = None) -> None:
        Frame.mark(self, name, at)  # quicker than super()
        if name in self.places:
            self.core.slots.copy_stamp(self, self.places[name])

    def tag(self, name: str, value: object) -> None:
        super().tag(name, value)
        self.core.slots.copy_tag(self, self.core.tag_index(name))

    def stamp(self, mark: int, once: bool) -> None:
        super().stamp(mark, once)
        self.core.slots.copy_stamp(self, FIRST_MARK + mark)

    def __del__(self) -> None:  # the program has no reference left with which to finish it
        self.core.slots.free(self)


class _NoFrame(Frame):
    """The frame that is returned if nothing is recorded; all calls do nothing, as in `Frame`."""

    __slots__ = ()

    def __init__(self) -> None:
        self.core, self.places, self.token = None, ENDED, False  # type: ignore[assignment]

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


class Slots:
    """The in-flight slots of a mapped file; a slot with a ``begin`` above 0 has a frame in flight.

    Nothing is written while the core is not open: after a stop, and in the child of a fork.
    """

    def __init__(self, buffer: Any, fields: struct.Struct, marks: int) -> None:
        self._buffer, self._fields = buffer, fields
        # views of words of 8 bytes, and of half words for the codes of tags
        self._words = memoryview(buffer).cast("B").cast("Q")
        self._halves = memoryview(buffer).cast("B").cast("I")
        self._tag_half = 2 * (5 + marks)
        self._width = fields.size // 8
        self._free = list(range(0, len(self._words) - self._width + 1, self._width))[::-1]

    def clear(self) -> None:
        """Write ``begin`` = 0 to all free slots: some were freed after a stop, without a write."""
        for slot in self._free:
            self._words[slot] = 0

    def take(self, frame: Frame, number: int) -> None:
        """Give a frame a free slot, if there is one, with its row; `number` makes it valid."""
        core, row = frame.core, frame.row.copy()
        try:
            slot = self._free.pop()
        except IndexError:
            core.unprotected += 1
            return
        row[0], row[OFFSET] = self._buffer, 8 * slot
        row[core.rss_at], row[core.cpu_at] = threading.get_native_id(), core.cpu
        try:
            self._fields.pack_into(*row)
        except Exception:  # the frame will be rejected
            self._free.append(slot)
            return
        frame.slot = slot
        self._words[slot] = number

    def commit(self, slot: int, number: int) -> None:
        """Store in a slot the sequence number of its frame's row, before the row is written."""
        self._words[slot + self._width - 1] = number

    def copy_stamp(self, frame: Frame, place: int) -> None:
        """Copy a stamp into the slot of a frame, unless it is invalid."""
        stamp = frame.row[place]
        if frame.slot is not None and frame.core.open and stamp != INVALID:
            self._words[frame.slot + place - BEGIN] = stamp

    def copy_tag(self, frame: Frame, index: int) -> None:
        """Copy the code of a tag into the slot of a frame."""
        if frame.slot is not None and frame.core.open:
            code = frame.row[frame.core.tags_at + index]
            self._halves[2 * frame.slot + self._tag_half + index] = code

    def free(self, frame: Frame) -> None:
        """Free the slot of a frame."""
        slot, frame.slot = frame.slot, None
        if slot is not None:
            if frame.core.open:
                self._words[slot] = 0
            self._free.append(slot)


def integer(value: Any) -> Any:
    """Return a value as an int, or unchanged if it is not an integer."""
    try:
        return operator.index(value)
    except Exception:
        return value


def valid(value: Any, limit: int) -> int:
    """Return a value as an int, or `INVALID` if it is not an integer from 0 to `limit` - 1."""
    number = integer(value)
    return number if type(number) is int and 0 <= number < limit else INVALID
