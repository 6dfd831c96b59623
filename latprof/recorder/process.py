"""The process-wide profiler, for programs that have one audio path and no place to keep it."""

import os
import threading
from collections.abc import Callable
from typing import Any, TypeVar, overload

from latprof.pipeline import AUDIO
from latprof.recorder.frame import Frame
from latprof.recorder.profiler import Profiler

__all__ = ["disable", "enable", "get_profiler", "profile_frame"]

_R = TypeVar("_R")

_shared: Profiler | None = None
_shared_lock = threading.RLock()  # a signal handler may come here from within


def _forget() -> None:
    """Forget the parent's, in the child of a fork."""
    global _shared, _shared_lock
    _shared, _shared_lock = None, threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def get_profiler() -> Profiler:
    """Return the process-wide profiler, made when it is first asked for.

    It takes every frame of `AUDIO`, warns from 50 ms, is critical from 100 ms and logs a report
    every 30 s. The child of a fork gets one of its own.
    """
    global _shared
    if _shared is not None:
        return _shared
    with _shared_lock:
        if _shared is None:
            made = Profiler(AUDIO, warning="50ms", critical="100ms", report_interval="30s")
            _shared = made if _shared is None else _shared
        return _shared


def enable() -> Profiler:
    """Start the process-wide profiler and return it; one that runs goes on."""
    profiler = get_profiler()
    with _shared_lock:
        if not profiler.running:
            profiler.start()
    return profiler


def disable() -> None:
    """Stop the process-wide profiler; one that is stopped, or was never made, stays so."""
    if _shared is not None:
        _shared.stop()


@overload
def profile_frame(
    frame_id: int, size: int | None = None, source: str | None = None, function: None = None
) -> Frame: ...


@overload
def profile_frame(
    frame_id: int, size: int | None, source: str | None, function: Callable[[Frame], _R]
) -> _R: ...


def profile_frame(
    frame_id: int,
    size: int | None = None,
    source: str | None = None,
    function: Callable[[Frame], Any] | None = None,
) -> Any:
    """Profile one frame with the process-wide profiler.

    Parameters
    ----------
    frame_id, size, source
        As in `Profiler.frame`.
    function
        Called with the frame, which is finished when it returns and dropped when it raises.

    Returns
    -------
    object
        What `function` returns; without one the frame, for ``with profile_frame(7) as frame:``.
    """
    frame = get_profiler().frame(frame_id, size, source)
    if function is None:
        return frame
    with frame:
        return function(frame)
