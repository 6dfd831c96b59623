"""Frames of which the lengths of stages are known: their pipelines and marks.

Each stage has marks of its own, so that each may be missing.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from latprof.arrays import Ints
from latprof.errors import TraceError
from latprof.frames import MISSING, Columns
from latprof.marks import Span
from latprof.pipeline import Pipeline
from latprof.text import RESERVED
from latprof.units import STAMP_LIMIT

__all__ = [
    "Frames",
    "identifier",
    "lengths_to_marks",
    "marks_of_stages",
    "stages_pipeline",
    "unique_names",
]

Frames = tuple[Pipeline, Columns, dict[str, Any]]
"""The content of a file: pipeline, frames and metadata."""

_LONGEST = 64  # characters of a name


def identifier(name: str, other: str = "column") -> str:
    """Return a name that a mark, a span or a tag may have, as near to `name` as possible.

    Examples
    --------
    >>> identifier("GPU time (ms)"), identifier("2nd"), identifier("size"), identifier("!")
    ('GPU_time_ms', '_2nd', 'size_', 'column')
    """
    text = re.sub(r"\W+", "_", name[:200]).strip("_")[:_LONGEST] or other
    if not text.isidentifier():
        text = f"_{text}"[:_LONGEST]
    if not text.isidentifier():
        text = other
    if text.casefold() in RESERVED or text.casefold().endswith("_latency"):
        text = f"{text[: _LONGEST - 1]}_"
    return text


def unique_names(names: Iterable[str], taken: Iterable[str]) -> list[str]:
    """Return an identifier for each name, all different from each other and from `taken`.

    Examples
    --------
    >>> unique_names(["end", "a b", "A_B"], ["end"])
    ['end_2', 'a_b', 'A_B_2']
    """
    known = {name.casefold() for name in taken}
    found = []
    for name in names:
        text, number = identifier(name), 1
        while text.casefold() in known:
            number += 1
            text = f"{identifier(name)[: _LONGEST - 8]}_{number}"
        known.add(text.casefold())
        found.append(text)
    return found


def stages_pipeline(name: str, stages: Sequence[str], *, from_start: bool = False) -> Pipeline:
    """Return a pipeline of these stages; with `from_start` the first begins at ``start``."""
    marks, spans = ["start"], []
    for number, stage in enumerate(stages):
        begin, end = f"{stage[: _LONGEST - 6]}_begin", f"{stage[: _LONGEST - 6]}_done"
        if from_start and number == 0:
            begin = "start"
        marks += [end] if begin == "start" else [begin, end]
        spans.append(Span(stage, begin, end))
    return Pipeline(identifier(name), (*marks, "end"), spans)


def marks_of_stages(
    pipeline: Pipeline, start: Ints, lengths: Sequence[Ints], end: Ints
) -> dict[str, Ints]:
    """Return marks of stages laid end to end from `start` (n,), for lengths (n,) in ns.

    A stage of length `MISSING` has no marks, nor has one of a frame without a start.
    """
    now, marks = start, {}
    for stage, length in zip(pipeline.stages, lengths, strict=True):
        known = (start != MISSING) & (length != MISSING)
        marks[stage.begin] = np.where(known, now, MISSING)
        now = now + np.where(known, length, 0)
        marks[stage.end] = np.where(known, now, MISSING)
    marks |= {"start": start, "end": end}  # the first stage may begin at the start
    return {mark: marks[mark] for mark in pipeline.marks}


def lengths_to_marks(
    pipeline: Pipeline, lengths: Sequence[Ints], start: Ints | None = None
) -> dict[str, Ints]:
    """Return marks of frames with stages of given lengths (n,) in ns.

    Frames begin at `start` (n,), or at 0. A stage without a length has no marks, and a frame that
    lacks a stage has no end.

    Raises
    ------
    TraceError
        A frame ends at 2**62 ns or later.
    """
    begin = np.zeros(len(lengths[0]) if lengths else 0, np.int64) if start is None else start
    whole = begin != MISSING
    for length in lengths:
        whole &= length != MISSING
    known = [np.where(each == MISSING, 0, each) for each in (begin, *lengths)]
    if len(begin) and np.sum(np.abs(known), axis=0, dtype=np.float64).max() >= STAMP_LIMIT:
        raise TraceError(
            "frames must end before 2**62 ns (146 years), got later ends; check the unit (unit=, "
            "--unit)"
        )
    end = np.where(whole, np.sum(known, axis=0, dtype=np.int64), MISSING)
    return marks_of_stages(pipeline, begin, lengths, end)
