"""The length of a span in every frame."""

import numpy as np

from latprof.arrays import Ints, Mask
from latprof.frames import MISSING, Columns
from latprof.pipeline import Pipeline

__all__ = ["OTHER", "latencies", "names"]

OTHER = "other"
"""Name of the time of a frame that no stage claims."""


def names(pipeline: Pipeline) -> tuple[str, ...]:
    """Return the names that `latencies` accepts: stages, sides, other, totals."""
    spans = (*pipeline.stages, *pipeline.sides)
    return (*(s.name for s in spans), OTHER, *(s.name for s in pipeline.totals))


def latencies(pipeline: Pipeline, columns: Columns, name: str) -> Ints:
    """Return the length of a span in ns, (n,); `MISSING` if the frame lacks one of its marks.

    ``other`` is ``end_to_end`` minus the stages of the same frame; a missing stage counts as 0,
    so that its time is part of ``other``.

    Raises
    ------
    PipelineError
        The pipeline has no such span.

    Examples
    --------
    >>> pipeline = Pipeline.chain("mic", "decode", "play")
    >>> at = {"start": [0, 0], "decode": [2, 2], "play": [5, MISSING], "end": [9, 9]}
    >>> marks = {mark: np.array(ns) for mark, ns in at.items()}
    >>> columns = Columns(np.arange(2, dtype=np.uint64), marks)
    >>> latencies(pipeline, columns, "play").tolist() == [4, MISSING]
    True
    >>> latencies(pipeline, columns, "other").tolist()
    [2, 9]
    """
    if isinstance(name, str) and name == OTHER:
        return _other(pipeline, columns)
    span = pipeline.span(name)
    begin, end = columns.marks[span.begin], columns.marks[span.end]
    lengths = end - begin  # does not overflow: stamps are below 2**62; gaps are set below
    gaps = _gaps(columns, span.begin, span.end)
    if gaps is not None:
        lengths[gaps] = MISSING
    return lengths


def _gaps(columns: Columns, *marks: str) -> Mask | None:
    found = None
    for mark in marks:
        if mark not in columns.complete:
            gaps = np.equal(columns.marks[mark], MISSING)
            found = gaps if found is None else found | gaps
    return found


def _other(pipeline: Pipeline, columns: Columns) -> Ints:
    rest = latencies(pipeline, columns, "end_to_end")
    gaps = _gaps(columns, "start", "end")
    for stage in pipeline.stages:
        lengths = latencies(pipeline, columns, stage.name)
        missing = _gaps(columns, stage.begin, stage.end)
        if missing is not None:
            lengths[missing] = 0
        rest -= lengths
    if gaps is not None:
        rest[gaps] = MISSING
    return rest
