"""Marks in order, and the spans between them, as a pipeline declares them."""

from dataclasses import dataclass, field

import numpy as np

from latprof.errors import PipelineError
from latprof.text import check_distinct, check_identifier, check_name, quoted

__all__ = ["Span", "checked_marks", "checked_spans"]

_KINDS = ("stage", "side", "total")

_MOST_ROOM = 1 << 24


@dataclass(frozen=True, slots=True)
class Span:
    """A named interval between two marks.

    Parameters
    ----------
    name
        An identifier, unique among the pipeline's spans.
    begin, end
        Names of marks of the pipeline; `begin` comes first.
    kind
        ``"stage"`` (disjoint, in order) or ``"side"`` (may overlap stages); ``"total"`` is the
        pipeline's own.
    station
        The thread or process that serves the stage, one frame at a time. Stages with the same
        name share a station. None means a hand-off (queue, transport).
    room
        How many frames the queue of a hand-off has room for, 0 if it is unbounded, or None if that
        is not known; analyses then look for it in the marks.
    """

    name: str
    begin: str
    end: str
    kind: str = field(default="stage", kw_only=True)
    station: str | None = field(default=None, kw_only=True)
    room: int | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if not isinstance(self.kind, str) or self.kind not in _KINDS:
            raise PipelineError(
                f"the kind of span {quoted(self.name)} must be one of {', '.join(_KINDS)}, got "
                f"{quoted(self.kind)}"
            )
        if self.kind != "total":
            check_name(self.name, "span")
        for mark in (self.begin, self.end):
            if not isinstance(mark, str):
                raise PipelineError(
                    f"span {self.name!r} must begin and end at a mark, got {quoted(mark)}"
                )
        if self.station is not None:
            check_identifier(self.station, f"station of span {self.name!r}")
        if self.room is not None:
            integer = isinstance(self.room, int | np.integer) and not isinstance(self.room, bool)
            if not integer or not 0 <= self.room <= _MOST_ROOM:
                raise PipelineError(
                    f"the room of queue {self.name!r} must be an integer from 0 (unbounded) to "
                    f"{_MOST_ROOM:,}, or None if it is not known, got {quoted(self.room)}"
                )
            object.__setattr__(self, "room", int(self.room))


def checked_marks(pipeline: str, marks: tuple[str, ...] | list[str]) -> tuple[str, ...]:
    """Check the marks of the pipeline of this name, and return them as a tuple.

    Raises
    ------
    PipelineError
        A mark is not a name or occurs twice, or the first are not `start` or `due`, `start`, or
        the last is not `end`.
    """
    where = f"marks of pipeline {pipeline!r}"
    if not isinstance(marks, tuple | list):
        raise PipelineError(f"{where} must be a tuple of names, got {quoted(marks)}")
    names = [check_name(mark, "mark") for mark in marks]
    for name in names:
        if names.count(name) > 1:
            raise PipelineError(f"{where} must be unique, got {name!r} twice")
    if len(names) < 2 or names[-1] != "end" or "start" not in names[:2]:
        raise PipelineError(
            f"{where} must begin with 'start' (or 'due', 'start') and close with 'end', got "
            f"{quoted(names)}"
        )
    if names[0] not in ("start", "due"):
        raise PipelineError(f"{where} must have only 'due' before 'start', got {names[0]!r}")
    if "due" in names[1:]:
        raise PipelineError(f"{where} must have 'due' before 'start', got it after; move it")
    return tuple(names)


def checked_spans(
    pipeline: str, marks: tuple[str, ...], spans: tuple[Span, ...] | list[Span]
) -> tuple[Span, ...]:
    """Check the spans of the pipeline of this name, and return them as a tuple.

    Raises
    ------
    PipelineError
        A span is not between two of the marks in their order, a name occurs twice, or stages
        overlap.
    """
    where = f"spans of pipeline {pipeline!r}"
    if not isinstance(spans, tuple | list):
        raise PipelineError(f"{where} must be a tuple of Span, got {quoted(spans)}")
    position = {mark: i for i, mark in enumerate(marks)}
    names: set[str] = set()
    reached, last = position["start"], "start"
    for span in spans:
        if not isinstance(span, Span):
            raise PipelineError(f"{where} must be Span(name, begin, end), got {quoted(span)}")
        what = f"{span.kind} {span.name!r} of pipeline {pipeline!r}"
        if span.kind == "total":
            raise PipelineError(f"{what} must not be declared; the pipeline adds the totals")
        if span.name in names:
            raise PipelineError(f"{where} must have unique names, got {span.name!r} twice")
        names.add(span.name)
        for mark in (span.begin, span.end):
            if mark not in position:
                raise PipelineError(
                    f"{what} must begin and end at one of {', '.join(marks)}, got {quoted(mark)}"
                )
        if position[span.begin] >= position[span.end]:
            raise PipelineError(
                f"{what} must begin before it ends, got {span.begin!r} to {span.end!r}; swap them"
            )
        if span.kind == "stage":
            if position[span.begin] < reached:
                raise PipelineError(
                    f"{what} must not begin before {last!r}, the end of the stage before it or "
                    f"the start, got {span.begin!r}; use kind='side' for spans that overlap"
                )
            reached, last = position[span.end], span.end
    check_distinct([*marks, *(span.name for span in spans)], "names of marks and spans")
    return tuple(spans)
