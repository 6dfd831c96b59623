"""A frame in flight, as the profiled program sees it, and the frame that each context is in.

The ``with`` block of a frame may set a context variable that holds the innermost frame and those
around it. Setting it costs a sixth of a microsecond for each block, so that it is off until
`start_tracking` replaces the methods of the frame classes.
"""

import gc
import sys
import weakref
from contextvars import ContextVar
from types import FrameType, TracebackType
from typing import Any, cast

__all__ = [
    "CURRENT",
    "ENTERED",
    "NO_FRAME",
    "Frame",
    "is_entered",
    "start_tracking",
    "track_class",
]

ENTERED = -1
"""Offset in the row of a frame after its block was entered, until the frame is committed."""


class Frame:
    """A frame in flight: what `Profiler.frame` returns.

    Used as a context manager, the frame finishes at the end of the block; if the block raises, it
    is dropped with the name of the exception. It may be passed between threads. Its truth value is
    False if it is not recorded.
    """

    __slots__ = ("_row",)
    _row: list[Any]

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

    def drop(self, reason: str, at: int | None = None) -> None:
        """Commit a frame that was given up; it is counted by reason and left out of statistics.

        Parameters
        ----------
        reason
            Why the frame was dropped.
        at
            As in `finish`.
        """

    def __bool__(self) -> bool:
        return True

    def __enter__(self) -> "Frame":
        self._row[1] = ENTERED
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.finish()
        else:
            self.drop(kind.__name__)


class _NoFrame(Frame):
    """The frame that is returned if nothing is recorded; all calls do nothing, as in `Frame`."""

    __slots__ = ()

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "<no frame>"

    def __enter__(self) -> "Frame":
        return self

    def __exit__(self, *exc_info: object) -> None:
        pass


NO_FRAME = _NoFrame()
"""The shared frame of a stopped profiler, and of frames that are not sampled."""


# -- the current frame ----------------------------------------------------------------------------

_Stack = tuple[Frame, "_Stack | None"]

CURRENT: ContextVar[_Stack | None] = ContextVar("latprof.current_frame", default=None)
"""The innermost frame of this context and the stack of those around it; some may be finished."""

_get, _set = CURRENT.get, CURRENT.set
_classes: "weakref.WeakSet[type[Frame]]" = weakref.WeakSet()
_tracking = False


def track_class(kind: type[Frame]) -> None:
    """Register a class of frames; they set `CURRENT` once tracking has started."""
    _classes.add(kind)
    if _tracking:
        _track(kind)


def start_tracking() -> None:
    """Let the blocks of all frames set `CURRENT` from now on."""
    global _tracking
    if _tracking:
        return
    _tracking = True
    for kind in list(_classes):
        _track(kind)
    found = _entered_before()
    if found is not None:
        _set((found, None))


def is_entered(value: object) -> bool:
    """Return whether a value is an unfinished frame, and its block was entered and not left."""
    if not isinstance(value, Frame) or type(value) not in _classes:
        return False
    row = getattr(value, "_row", None)  # another thread may be making the frame
    return row is not None and bool(row[1] == ENTERED) and not row[2]


def _track(kind: type[Frame]) -> None:
    leave = kind.__exit__

    def enter(self: Frame) -> Frame:
        _set((self, _get()))
        return self

    def leave_current(
        self: Frame,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        inner = _get()
        while inner is not None and inner[0] is not self:  # left in another order or context
            inner = inner[1]
        if inner is not None:
            _set(inner[1])
        leave(self, error_type, error, traceback)

    kind.__enter__, kind.__exit__ = enter, leave_current  # type: ignore[method-assign, assignment]


def _entered_before() -> Frame | None:
    """Return the frame that the caller entered before tracking started and has not left.

    A frame that has a name is found among the local variables of the callers; otherwise it is
    the only entered frame that exists, or None if there are several.
    """
    caller: FrameType | None = sys._getframe(1)
    while caller is not None:
        for value in reversed(list(caller.f_locals.values())):
            if is_entered(value):
                return cast(Frame, value)
        caller = caller.f_back
    entered = [value for value in gc.get_objects() if is_entered(value)]
    return entered[0] if len(entered) == 1 else None
