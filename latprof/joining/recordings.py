"""What is to be joined: traces and files, those of one recording put together first.

A profiler that rotates its file, or whose ring was recovered, leaves several traces of one
recording: they carry its id (``recording``), the files of a stream numbers, too (``part``).
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from latprof.arrays import Ints
from latprof.frames import MISSING, Columns, Labels
from latprof.io.dataset import Dataset, DatasetLike
from latprof.pipeline import Pipeline

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


def load(recordings: DatasetLike) -> tuple[list[Part], Pipeline]:
    """Return the recordings, and the pipeline that they are all of.

    Raises
    ------
    TraceError
        None at all, something that is no trace, or different pipelines.
    """
    dataset = Dataset(recordings)
    pipeline = dataset.pipeline
    parts = []
    for recording in dataset.recordings:
        columns, owns = recording.read(), recording.meta.get("owns")
        if owns is None:
            owns = [mark for mark in pipeline.marks if np.any(columns.marks[mark] != MISSING)]
        owned = tuple(mark for mark in pipeline.marks if mark in owns)
        parts.append(Part(recording.name, columns, recording.meta, owned))
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
