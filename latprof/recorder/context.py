"""Which frame a task or thread is in, followed from the moment that somebody asks.

A frame is entered and left with its ``with`` block; a context variable holds the innermost one,
and those around it. To set it costs a ``with`` a sixth of a microsecond, so that nothing is set
until `keep_account` is called: it puts other methods into the classes of frames.
"""

import weakref
from contextvars import ContextVar
from types import TracebackType

from latprof.recorder.frame import ENTERED, Frame

__all__ = ["CURRENT", "Inner", "is_entered", "keep_account", "let_follow"]

Inner = tuple[Frame, "Inner | None"]
"""A frame, and the one whose block its block is in."""

CURRENT: ContextVar[Inner | None] = ContextVar("latprof.current_frame", default=None)
"""The frame that this context is in; it may be finished by now."""

_get, _set = CURRENT.get, CURRENT.set
_classes: "weakref.WeakSet[type[Frame]]" = weakref.WeakSet()
_keeps_account = False


def let_follow(kind: type[Frame]) -> None:
    """Have the frames of a class followed, when account is kept."""
    _classes.add(kind)
    if _keeps_account:
        _follow(kind)


def keep_account() -> None:
    """Follow frames from now on."""
    global _keeps_account
    if not _keeps_account:
        _keeps_account = True
        for kind in list(_classes):
            _follow(kind)


def is_entered(value: object) -> bool:
    """Return whether this is a frame that was entered, and is neither left nor finished."""
    if not isinstance(value, Frame) or type(value) not in _classes:
        return False
    row = getattr(value, "_row", None)  # another thread may be making it
    return row is not None and bool(row[1] == ENTERED) and not row[2]


def _follow(kind: type[Frame]) -> None:
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
        while inner is not None and inner[0] is not self:  # left in another order, or elsewhere
            inner = inner[1]
        if inner is not None:
            _set(inner[1])
        leave(self, error_type, error, traceback)

    kind.__enter__, kind.__exit__ = enter, leave_current  # type: ignore[method-assign, assignment]
