"""Profilers that run: what becomes of them when the process forks, and when it ends.

The child of a fork has a copy of the ring and none of the threads. It must not record into what
it shares with its parent, and nobody is left in it to free the locks that threads held.
"""

import atexit
import os
import threading
import weakref
from typing import Protocol

__all__ = ["Running", "running"]


class Running(Protocol):
    """What is asked of a profiler here."""

    @property
    def _fold_lock(self) -> "threading.RLock":
        """Held while frames are folded."""

    def stop(self) -> None:
        """Stop recording."""

    def _forked(self) -> None:
        """Stop, in the child of a fork."""


running: "weakref.WeakSet[Running]" = weakref.WeakSet()
"""The profilers that run."""

_held: "dict[int, list[threading.RLock]]" = {}
"""By thread: several may fork at once."""


def _before_fork() -> None:
    # the child gets no profile that is half folded
    mine = _held[threading.get_ident()] = []
    for profiler in list(running):
        lock = profiler._fold_lock
        lock.acquire()
        mine.append(lock)


def _after_fork() -> None:
    for lock in _held.pop(threading.get_ident(), ()):
        lock.release()


def _stop_in_child() -> None:
    for profiler in list(running):
        profiler._forked()
    running.clear()
    _held.clear()


def _stop_at_exit() -> None:
    for profiler in list(running):
        profiler.stop()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork, after_in_child=_stop_in_child
    )
atexit.register(_stop_at_exit)
