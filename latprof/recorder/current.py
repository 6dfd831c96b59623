"""The frame that the calling task or thread is in, and functions as stages of it.

A frame is current within its ``with`` block, and in coroutines that are awaited and tasks that are
started there (`contextvars`); a new thread has no current frame.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

from latprof.errors import PipelineError, ProfilerError
from latprof.recorder.implementation import CURRENT, NO_FRAME, Frame
from latprof.recorder.shared import Shared
from latprof.text import quoted

__all__ = ["current_frame", "stage_of"]

_P = ParamSpec("_P")
_R = TypeVar("_R")


def current_frame() -> Frame:
    """Return the frame of the innermost ``with`` block around the caller that is not finished.

    Returns
    -------
    Frame
        A frame of any profiler that tracks it (setting `track_current`). If there is none, a shared
        frame that does nothing; its truth value is False.

    Examples
    --------
    >>> from latprof import Pipeline, Profiler, current_frame
    >>> def decode():
    ...     current_frame().mark("decode")
    >>> with Profiler(Pipeline.chain("mic", "decode")) as profiler:
    ...     with profiler.frame(7) as frame:
    ...         decode()
    ...         current_frame() is frame
    ...     decode()                                   # does nothing
    ...     bool(current_frame())
    True
    False
    """
    frame = CURRENT.get()
    while frame is not None and frame.finished:  # it may be finished before its block is over
        frame = frame.outer
    return NO_FRAME if frame is None else frame


def stage_of(shared: Shared, name: str) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Return the decorator of `Profiler.stage`."""
    core, incidents, pipeline = shared.core, shared.incidents, shared.settings.pipeline
    owned, samples = shared.settings.owned, shared.settings.sampling_rate < 1
    spans = {span.name: span for span in pipeline.all_spans}
    span = spans.get(name) if isinstance(name, str) else None
    if span is None or span.kind == "total":
        named = [each.name for each in pipeline.spans if each.kind != "total"]
        raise PipelineError(
            f"stage must name a stage or side of pipeline {pipeline.name!r}, got {quoted(name)}; "
            f"use {', '.join(named) or 'another pipeline, this one has no spans'}"
        )
    place = {mark: i for i, mark in enumerate(pipeline.marks) if mark in owned}
    begins = {other.begin for other in pipeline.spans}
    begin_at = place.get(span.begin)
    end_at = None if span.end in begins or span.end == "end" else place.get(span.end)
    if begin_at is None and end_at is None:
        raise PipelineError(
            f"mark {span.begin!r} of pipeline {pipeline.name!r} is not owned by this process; "
            "declare the stage in the process that owns it, or add the mark to owns"
        )
    if span.begin == "start":  # stamped by frame()
        begin_at = None

    def begin() -> Frame | None:
        """Stamp the begin of the stage if it is not set; return the frame."""
        frame = CURRENT.get()
        while frame is not None and frame.core is not core:  # a frame of another profiler
            frame = frame.outer
        if frame is None:
            if core.open and not samples:  # otherwise the frame may not be sampled
                incidents.without_frame(name)
        elif begin_at is not None:
            frame.stamp(begin_at, True)
        return frame

    def end(frame: Frame | None) -> None:
        """Stamp the end of the stage; the last call counts."""
        if frame is not None and end_at is not None:
            frame.stamp(end_at, False)

    def decorate(function: Callable[_P, _R]) -> Callable[_P, _R]:
        """Return the function as a stage."""
        if not callable(function):
            raise ProfilerError(
                f"stage {name!r} must decorate a function, got {quoted(function)}; write "
                "@profiler.stage(...) above it"
            )
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise ProfilerError(
                f"stage {name!r} must decorate a function that returns when the stage is over, "
                f"got the generator {function.__qualname__}; use current_frame().mark() in it"
            )
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def awaited(*args: _P.args, **kwargs: _P.kwargs) -> Any:
                frame = begin()
                try:
                    return await function(*args, **kwargs)
                finally:
                    end(frame)

            return cast(Callable[_P, _R], awaited)

        @functools.wraps(function)
        def called(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            frame = begin()
            try:
                return function(*args, **kwargs)
            finally:
                end(frame)

        return called

    return decorate
