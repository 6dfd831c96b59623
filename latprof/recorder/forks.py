"""Forks and the end of the process: profilers that run are stopped.

The child of a fork has a copy of the ring and none of the threads. It must not write to files that
it shares with its parent, and in it locks that other threads held are never released.
"""

import atexit
import os
import sys
import threading
import weakref
from typing import Protocol

__all__ = ["RUNNING", "Stoppable", "stop_at_end_of_worker"]


class Stoppable(Protocol):
    """The attributes of a profiler that this module uses."""

    @property
    def fold_lock(self) -> "threading.RLock":
        """Held while a profile is half folded."""

    def stop(self) -> None:
        """Stop, and complete all files."""

    def stop_in_child(self) -> None:
        """Stop in the child of a fork."""


RUNNING: "weakref.WeakSet[Stoppable]" = weakref.WeakSet()
"""The profilers that run."""

_held: "dict[int, list[threading.RLock]]" = {}
"""Locks held during a fork, by thread: several threads may fork at once."""

_finalized: list[int] = []
"""The process that stops all profilers when it ends, if multiprocessing is in use."""


def _before_fork() -> None:
    # with the locks of all folds held, the child gets no profile that is half folded
    mine = _held[threading.get_ident()] = []
    for profiler in list(RUNNING):
        lock = profiler.fold_lock
        lock.acquire()
        mine.append(lock)


def _after_fork() -> None:
    for lock in _held.pop(threading.get_ident(), ()):
        lock.release()


def _stop_in_child() -> None:
    for profiler in list(RUNNING):
        profiler.stop_in_child()
    RUNNING.clear()
    _held.clear()


def _stop_at_exit() -> None:
    for profiler in list(RUNNING):
        profiler.stop()


def stop_at_end_of_worker() -> None:
    """Stop all profilers when this process ends, if it is a worker of multiprocessing.

    Such a process skips `atexit`.
    """
    util = sys.modules.get("multiprocessing.util")
    if util is not None and _finalized[-1:] != [os.getpid()]:
        _finalized[:] = [os.getpid()]
        util.Finalize(None, _stop_at_exit, exitpriority=100)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork, after_in_child=_stop_in_child
    )
atexit.register(_stop_at_exit)
