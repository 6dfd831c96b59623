"""The recordings to join: traces and files, with those of one process put together first.

A profiler that rotates its file leaves several traces of one recording, and so does one with a ring
that was recovered. They share an id (``recording``); the files of a stream are numbered as well
(``part``).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from latprof.arrays import Ints, Mask
from latprof.frames import MISSING, Columns, Labels
from latprof.io.dataset import Dataset, DatasetLike
from latprof.pipeline import Pipeline

__all__ = ["Process", "load", "segments_of"]


@dataclass(slots=True, eq=False)
class Process:
    """What one process has recorded.

    Attributes
    ----------
    owns
        The marks that it stamps, in the order of the pipeline.
    rows
        Its row for each row of the joined trace, -1 if it has none.
    """

    name: str
    columns: Columns
    meta: dict[str, Any]
    owns: tuple[str, ...]
    rows: Ints = field(default_factory=lambda: np.empty(0, np.int64))


def load(recordings: DatasetLike) -> tuple[list[Process], Pipeline]:
    """Return what each process has recorded, and the pipeline.

    Raises
    ------
    TraceError
        No recording, an argument that is neither a trace nor a path, or different pipelines.
    """
    dataset = Dataset(recordings)
    pipeline = dataset.pipeline
    by_process: dict[Any, list[Process]] = {}
    for each in dataset.members:
        columns, owns = each.read(), each.meta.get("owns")
        if owns is None:
            owns = [mark for mark in pipeline.marks if np.any(columns.marks[mark] != MISSING)]
        owned = tuple(mark for mark in pipeline.marks if mark in owns)
        process = Process(each.name, columns, each.meta, owned)
        number = each.meta.get("recording")
        key = id(process) if number is None else (str(number), owned)
        by_process.setdefault(key, []).append(process)
    processes = list(by_process.values())
    return [same[0] if len(same) == 1 else _combined(same) for same in processes], pipeline


def segments_of(processes: Sequence[Process]) -> list[Any]:
    """Return the times in which any of the processes was recording; [] if one does not say."""
    segments = [process.meta.get("segments") for process in processes]
    if not all(segments):
        return []
    return [list(times) for times in sorted({(a, b) for each in segments for a, b in each or ()})]


def _combined(same: list[Process]) -> Process:
    """Return the traces of one process as one."""
    numbers = {each.meta.get("part") for each in same}
    numbered = None not in numbers and len(numbers) == len(same)
    if numbered:
        same = sorted(same, key=lambda each: int(each.meta["part"]))
    columns = Columns.concat([each.columns for each in same])
    lost = [each.meta.get("lost") or 0 for each in same]
    if not numbered:
        columns = columns.take(_not_repeated(columns, [len(each.columns) for each in same]))
    meta = same[-1].meta
    meta = {key: value for key, value in meta.items() if key not in ("accounts", "recovery")}
    meta["lost"] = sum(lost) if numbered else max(lost)
    if segments := segments_of(same):
        meta["segments"] = segments
    name = f"{same[0].name} and {len(same) - 1} more of its recording"
    return Process(name, columns, meta, same[0].owns)


def _not_repeated(columns: Columns, lengths: list[int]) -> Mask:
    """Return which rows (n,) of several traces, one after the other, no earlier trace has.

    Two traces of one profiler, and what is recovered of its ring, hold the same frames.
    """
    source = columns.source or Labels.constant(None, len(columns))
    origin = np.repeat(np.arange(len(lengths)), lengths)
    keys: list[npt.NDArray[Any]] = [columns.frame_id, source.codes, *columns.marks.values()]
    order = np.lexsort([origin, *keys])
    equal = np.ones(max(0, len(order) - 1), bool)
    for key in keys:
        equal &= key[order[1:]] == key[order[:-1]]
    group = np.concatenate([[0], np.cumsum(~equal)]) if len(order) else order
    first = origin[order][np.searchsorted(group, group)]  # the first trace that has such a row
    kept = np.zeros(len(columns), bool)
    kept[order] = origin[order] == first
    return kept
