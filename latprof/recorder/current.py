"""The frame that this task or thread is in: `current_frame`, and functions that are stages of it.

A frame is current within its ``with`` block, there and in what is awaited or started as a task
there (`contextvars`); a thread begins without. Account is kept from the import of this module on.
"""

import functools
import gc
import inspect
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, ParamSpec, TypeVar, cast

from latprof.errors import PipelineError, ProfilerError
from latprof.pipeline import Pipeline
from latprof.recorder.context import CURRENT, is_entered, keep_account
from latprof.recorder.frame import NO_FRAME, Frame
from latprof.recorder.hotpath import HotPath
from latprof.text import escape

__all__ = ["current_frame", "stage_of"]

_P = ParamSpec("_P")
_R = TypeVar("_R")

_get = CURRENT.get


def current_frame() -> Frame:
    """Return the frame whose ``with`` block this is in: the innermost that is not finished.

    Returns
    -------
    Frame
        Of whatever profiler; one that does nothing, and is false, where there is none.

    Examples
    --------
    >>> from latprof.recorder.profiler import Profiler
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
    inner = _get()
    while inner is not None:
        frame, inner = inner
        if not frame._row[2]:  # its number: it may be finished before its block is over
            return frame
    return NO_FRAME


def stage_of(
    hot: HotPath, pipeline: Pipeline, name: str
) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Return the decorator `Profiler.stage` of a stage or side of the pipeline."""
    if name not in {span.name for span in pipeline.all_spans}:
        there = ", ".join(span.name for span in pipeline.spans) or "none: it has no spans"
        shown = escape(name) if isinstance(name, str) else name
        raise PipelineError(f"pipeline {pipeline.name!r} has no span {shown!r}: use one of {there}")
    span = pipeline.span(name)
    if span.kind == "total":
        what = f"pipeline {pipeline.name!r}: {name!r} is a total"
        raise PipelineError(f"{what}: name one of its stages or sides")
    begins = {other.begin for other in pipeline.spans}
    begin_at = hot.index.get(span.begin)
    end_at = None if span.end in begins or span.end == "end" else hot.index.get(span.end)
    if begin_at is None and end_at is None:
        raise PipelineError(
            f"mark {span.begin!r} of pipeline {pipeline.name!r} is another process's: own it "
            "(owns=), or leave the stage to that process"
        )
    if span.begin == "start":  # stamped by frame()
        begin_at = None
    live, clock = hot.live, hot.clock

    def begin() -> list[Any] | None:
        """Stamp where the stage begins, the first time; return the frame's row."""
        inner = _get()
        while inner is not None:
            frame, inner = inner
            if frame.__class__ is live:  # else of another profiler, perhaps within one of ours
                row = frame._row
                if begin_at is not None and not row[begin_at]:
                    row[begin_at] = clock()
                return row
        return None

    def end(row: list[Any] | None) -> None:
        """Stamp where the stage ends: the last time counts."""
        if end_at is not None and row is not None and not row[2]:
            row[end_at] = clock()

    def decorate(function: Callable[_P, _R]) -> Callable[_P, _R]:
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise ProfilerError(
                f"stage {name!r}: {function.__qualname__} is a generator, it runs while it is "
                "read: mark the frame in it, with current_frame()"
            )
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def awaited(*args: _P.args, **kwargs: _P.kwargs) -> Any:
                if _get() is None:
                    return await function(*args, **kwargs)
                row = begin()
                try:
                    return await function(*args, **kwargs)
                finally:
                    end(row)

            return cast(Callable[_P, _R], awaited)

        @functools.wraps(function)
        def called(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            if _get() is None:
                return function(*args, **kwargs)
            row = begin()
            try:
                return function(*args, **kwargs)
            finally:
                end(row)

        return called

    return decorate


def _entered_before() -> Frame | None:
    """Return the frame that this is in, entered when nobody kept account yet.

    That happens once: who asks first asks from within a block. Who has a name for its frame is
    found among the callers; else it is the only frame there is, or none.
    """
    caller: FrameType | None = sys._getframe(1)
    while caller is not None:
        for value in reversed(list(caller.f_locals.values())):
            if is_entered(value):
                return cast(Frame, value)
        caller = caller.f_back
    entered = [value for value in gc.get_objects() if is_entered(value)]
    return entered[0] if len(entered) == 1 else None


keep_account()
if (_found := _entered_before()) is not None:
    CURRENT.set((_found, None))
