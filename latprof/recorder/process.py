"""The process-wide profiler, for programs that record one pipeline."""

import os
import threading
from collections.abc import Callable
from dataclasses import fields
from typing import Any, TypeVar, overload

from latprof.errors import ProfilerError
from latprof.pipeline import AUDIO, Pipeline
from latprof.recorder.implementation import Frame
from latprof.recorder.profiler import Profiler
from latprof.recorder.settings import check_settings
from latprof.text import quoted

__all__ = ["disable", "enable", "get_profiler", "profile_frame"]

_R = TypeVar("_R")

_DEFAULTS: dict[str, Any] = {
    **(Profiler.__init__.__kwdefaults__ or {}),
    **{"warning": "50ms", "critical": "100ms", "report_interval": "30s"},
}

_shared: Profiler | None = None
_lock = threading.RLock()  # a signal handler may interrupt the thread that holds it


def _forget() -> None:
    """Forget the profiler of the parent, in the child of a fork."""
    global _shared, _lock
    _shared, _lock = None, threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def get_profiler() -> Profiler:
    """Return the process-wide profiler; the first call makes it.

    Returns
    -------
    Profiler
        A profiler of `AUDIO` that records every frame, with a warning threshold of 50 ms, a
        critical one of 100 ms and a report in the log every 30 s. It records once it is started,
        by `enable` for example, which also makes one with other settings. The child of a fork
        gets its own.
    """
    return _shared or _made({"pipeline": AUDIO, **_DEFAULTS})


def enable(pipeline: Pipeline | None = None, **settings: Any) -> Profiler:
    """Start the process-wide profiler and return it; if it runs already, it goes on.

    Parameters
    ----------
    pipeline
        The pipeline of its frames; None means `AUDIO`. Without a pipeline and settings, a
        profiler that exists is used as it is.
    settings
        Settings of `Profiler`. The defaults are those of `Profiler`, except for
        ``warning="50ms"``, ``critical="100ms"`` and ``report_interval="30s"``. A stopped profiler
        with other settings is replaced. Settings are compared by their meaning, so that ``"50ms"``
        equals ``50_000_000``.

    Raises
    ------
    ProfilerError
        The process-wide profiler runs with other settings, a setting is invalid, or `Profiler` has
        no setting of that name.
    PipelineError
        `owns` contains a name that is not a mark of the pipeline.

    Examples
    --------
    >>> from latprof import AUDIO, Pipeline, disable, enable, get_profiler, profile_frame
    >>> profiler = enable(Pipeline.chain("mic", "decode"), critical=None, capacity=1_024)
    >>> with profile_frame(7) as frame:
    ...     frame.mark("decode")
    >>> disable()
    >>> get_profiler().report().profile.frames
    1
    >>> enable(AUDIO) is profiler                      # the stopped one is replaced
    False
    >>> disable()
    """
    for name in settings:
        if name not in _DEFAULTS:
            raise ProfilerError(
                f"settings must be those of Profiler, got {quoted(name)}; use "
                f"{', '.join(_DEFAULTS)}"
            )
    with _lock:
        wanted = {"pipeline": AUDIO if pipeline is None else pipeline, **_DEFAULTS, **settings}
        differing: list[str] = []
        if _shared is not None and (pipeline is not None or settings):
            checked = check_settings(**wanted)
            differing = [
                field.name
                for field in fields(checked)
                if getattr(checked, field.name) != getattr(_shared._settings, field.name)
            ]
            if differing and _shared.running:
                raise ProfilerError(
                    "enable must have the settings of the process-wide profiler while it runs, got "
                    f"another {', '.join(differing)}; call disable() first"
                )
        profiler = _made(wanted, replace=bool(differing))
        if not profiler.running:
            profiler.start()
    return profiler


def _made(settings: dict[str, Any], *, replace: bool = False) -> Profiler:
    """Make the process-wide profiler, unless there is one and it is not to be replaced."""
    global _shared
    with _lock:
        if _shared is None or replace:
            made = Profiler(**settings)
            # a signal handler may have made one meanwhile
            if _shared is None or replace:
                _shared = made
        return _shared


def disable() -> None:
    """Stop the process-wide profiler, if it exists and runs."""
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
        Called with the frame. The frame is finished when the function returns, and dropped if the
        function raises.

    Returns
    -------
    object
        The result of `function`. Without a function, the frame: a `Frame` for
        ``with profile_frame(7) as frame:``.
    """
    frame = get_profiler().frame(frame_id, size, source)
    if function is None:
        return frame
    with frame:
        return function(frame)
