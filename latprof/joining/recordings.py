"""What is to be joined: traces and files, those of one recording put together first.

A profiler that rotates its file, or whose ring was recovered, leaves several traces of one
recording: they carry its id (``recording``), the files of a stream numbers, too (``part``).
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from latprof.arrays import Ints
from latprof.errors import TraceError
from latprof.frames import MISSING, Columns, Labels
from latprof.pipeline import Pipeline
from latprof.text import escape
from latprof.trace import Trace, each_recording, read

__all__ = ["Part", "load"]


def _nowhere() -> Ints:
    return np.empty(0, np.int64)


@dataclass(slots=True, eq=False)
class Part:
    """One recording: `rows` says where in it each row of the result is, -1 nowhere."""

    name: str
    columns: Columns
    meta: dict[str, Any]
    owns: tuple[str, ...]
    rows: Ints = field(default_factory=_nowhere)


def load(recordings: Iterable[Trace | str | os.PathLike[str]]) -> tuple[list[Part], Pipeline]:
    """Return the recordings, and the pipeline that they are all of.

    Raises
    ------
    TraceError
        None at all, something that is no trace, or different pipelines.
    """
    parts: list[Part] = []
    pipeline: Pipeline | None = None
    for number, recording in enumerate(each_recording(recordings)):
        if isinstance(recording, Trace):
            trace, name = recording, f"recording {number + 1}"
        else:
            trace, name = read(recording), escape(os.fspath(recording))
        if pipeline is not None and trace.pipeline != pipeline:
            raise TraceError(
                f"{parts[0].name} is of pipeline {pipeline.name!r} ({', '.join(pipeline.marks)}), "
                f"{name} of {trace.pipeline.name!r} ({', '.join(trace.pipeline.marks)}): join "
                "recordings of one pipeline"
            )
        pipeline = trace.pipeline
        owns = trace.meta.get("owns")
        if owns is None:
            owns = [m for m in pipeline.marks if np.any(trace.marks[m] != MISSING)]
        owned = tuple(mark for mark in pipeline.marks if mark in owns)
        parts.append(Part(name, trace.columns, trace.meta, owned))
    if pipeline is None:
        raise TraceError("there is nothing to join: give at least one trace or path")
    return _whole(parts), pipeline


def _whole(parts: list[Part]) -> list[Part]:
    """Return the parts, those of one recording as one."""
    by_recording: dict[Any, list[Part]] = {}
    for part in parts:
        recording = part.meta.get("recording")
        key = id(part) if recording is None else (str(recording), part.owns)
        by_recording.setdefault(key, []).append(part)
    return [same[0] if len(same) == 1 else _one(same) for same in by_recording.values()]


def _one(same: list[Part]) -> Part:
    numbers = [part.meta.get("part") for part in same]
    if None in numbers or len(set(numbers)) < len(numbers):
        same, lost = _without_repeats(same), max(part.meta.get("lost") or 0 for part in same)
    else:
        same = sorted(same, key=lambda part: int(part.meta["part"]))
        lost = sum(part.meta.get("lost") or 0 for part in same)
    newest = same[-1].meta
    meta = {key: value for key, value in newest.items() if key not in ("accounts", "recovery")}
    meta["lost"] = lost
    segments = [part.meta.get("segments") for part in same]
    if all(segments):
        meta["segments"] = sorted([a, b] for part in segments for a, b in part or ())
    name = f"{same[0].name} and {len(same) - 1} more of its recording"
    columns = Columns.concat([part.columns for part in same])
    return Part(name, columns, meta, same[0].owns)


def _without_repeats(same: list[Part]) -> list[Part]:
    """Return the parts of one recording, each without the rows that one before it has.

    Two traces of one profiler, and what is recovered of its ring, hold the same frames.
    """
    columns = Columns.concat([part.columns for part in same])
    source = columns.source or Labels.constant(None, len(columns))
    origin = np.repeat(np.arange(len(same)), [len(part.columns) for part in same])
    keys: list[npt.NDArray[Any]] = [columns.frame_id, source.codes, *columns.marks.values()]
    order = np.lexsort([origin, *keys])
    alike = np.ones(max(0, len(order) - 1), bool)
    for key in keys:
        alike &= key[order[1:]] == key[order[:-1]]
    group = np.concatenate([[0], np.cumsum(~alike)]) if len(order) else order
    first = origin[order][np.searchsorted(group, group)]  # the part that has such a row first
    kept = np.zeros(len(columns), bool)
    kept[order] = origin[order] == first
    whole = []
    for number, part in enumerate(same):
        rows = part.columns.take(kept[origin == number])
        whole.append(Part(part.name, rows, part.meta, part.owns))
    return whole
