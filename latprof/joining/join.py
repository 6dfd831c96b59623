"""Joins the recordings of several processes into one trace.

Each process stamps the marks that it owns; a frame is identified by its id and source. Nothing is
dropped: a frame that one recording lacks keeps the stamps of the others, and is counted.

================== ============================================================================
``meta["join"]``   frames
================== ============================================================================
``matched``        in every recording
``skipped``        in the first and the last recording, but not in one between
``lost_in_transit``  not in the recording that owns ``end``; outcome "lost in transit"
``dropped``        not in the recording that owns ``end``: dropped before; they keep that outcome
``without_origin``  in the recording that owns ``end``, but not in the one that owns ``start``
``came_twice``     further rows of a frame in one recording; outcome "came twice", unless they
                   were dropped. The first in time is the one that is joined
================== ============================================================================

They add up to the rows of the result. The traces of one process, for example rotated files, are put
together first. Ids may start again (RTP): see `latprof.joining.matching`. ``parts`` describes each
recording, ``clock`` how their stamps were put on one clock:

====================  =========================================================================
``clock``             stamps
====================  =========================================================================
``same boot``         monotonic, compared as they are, to the nanosecond
``two ways``          of several hosts: offset and drift between their clocks follow from frames
                      that travel both ways, within ``bound_ns``
``one way, a bound``  of several hosts, and all frames travel one way: the fastest frames are
                      assumed to have taken no time, so that only delays beyond theirs are known
``wall clock``        as the wall clocks gave them: too few frames passed between the hosts, or
                      a recording does not describe its clock
``as given``          no recording describes its clock
====================  =========================================================================

``clocks`` describes each host but the first: how far its clock was ahead (``offset_ns`` at its own
time ``at_ns``, between ``low_ns`` and ``high_ns``), its drift (``drift_ppb``, 0 unless frames rule
out 0, between ``drift_low_ppb`` and ``drift_high_ppb``), the numbers of ``frames`` to the host and
back from which both follow, and the ``spans`` that an error of the clock would change.
``clock_errors`` counts the frames that arrived in one recording before they left another, which is
impossible and shows an error of the clocks.
"""

import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from latprof.arrays import Mask
from latprof.errors import TraceError
from latprof.frames import (
    ABSENT,
    CAME_TWICE,
    FINISHED,
    LOST_IN_TRANSIT,
    MISSING,
    Columns,
    Labels,
    as_text,
    common_dtype,
)
from latprof.io.dataset import Dataset, DatasetLike, RecordingLike
from latprof.joining.clocks import Alignment, align_clocks, clock_errors
from latprof.joining.matching import Process, first_stamps, match_frames
from latprof.pipeline import Pipeline
from latprof.trace import Trace

__all__ = ["join"]

NOT_SHARED = ("pid", "accounts", "recording", "part", "recovery")
"""Metadata of one process, which does not hold for the joined trace."""

OUTCOMES = (FINISHED, LOST_IN_TRANSIT, CAME_TWICE)


def join(recordings: Iterable[RecordingLike]) -> Trace:
    """Join recordings of the same frames by several processes into one trace.

    Rows with the same id and source are one frame. If one of the recordings has no sources, the
    id alone counts, provided that no recording has one id under two sources.

    Parameters
    ----------
    recordings
        Traces, or paths of trace files, in any order. Each owns the marks that its metadata
        names, or those that it has stamped if it names none. The files of one recording count as
        one.

    Returns
    -------
    Trace
        In order of `start`, or of its first mark for a frame without start. Each mark is that of
        its owner. The outcome is that of the last recording along the pipeline that has the frame,
        or "lost in transit" if it finished there without reaching the owner of ``end``; size, CPU,
        memory and tags come from the first recording along the pipeline that has a value.
        ``meta["join"]`` counts the frames that matched and those that did not.

    Raises
    ------
    TraceError
        Nothing to join, different pipelines, a mark with two owners or no mark at all, different
        sampling rates, or a recording without sources while another has an id under two of them.

    Examples
    --------
    >>> from latprof import Pipeline, Trace, join
    >>> pipeline = Pipeline("link", ("start", "arrived", "end"))
    >>> sent = Trace(pipeline, frame_id=[1, 2], marks={"start": [100, 200]})
    >>> played = Trace(pipeline, frame_id=[1], marks={"arrived": [150], "end": [170]})
    >>> joined = join([sent, played])
    >>> joined.outcome.to_numpy().tolist(), joined.meta["join"]["lost_in_transit"]
    (['finished', 'lost in transit'], 1)
    """
    if isinstance(recordings, Trace | str | os.PathLike):
        raise TraceError(
            f"recordings must be a list of traces and paths, got {type(recordings).__name__}; "
            "write join([a, b])"
        )
    processes, pipeline = _load(recordings)
    owners = _owners(processes, pipeline)
    processes.sort(
        key=lambda each: pipeline.marks.index(each.owns[0]) if each.owns else len(pipeline.marks)
    )
    rate = _sampling_rate(processes)
    frames = match_frames(processes, pipeline)
    alignment = align_clocks(processes, pipeline, frames)
    first = owners.get("start") or owners.get("due") or processes[0]
    last = owners.get("end") or [each for each in processes if each.owns][-1]

    ids, _ = _first_values(processes, [each.columns.frame_id for each in processes], None)
    result = Columns(ids, {})
    for mark in pipeline.marks:
        result.marks[mark] = np.full(len(result), MISSING)
        if mark in owners:
            rows = owners[mark].rows
            result.marks[mark][rows >= 0] = owners[mark].columns.marks[mark][rows[rows >= 0]]
    result.outcome, counts = _outcomes(processes, first, last, frames)
    _add_optional_columns(result, processes)

    meta = _joined_meta(
        processes, [m for m in pipeline.marks if m in owners], rate, alignment, counts
    )
    meta["join"]["clock_errors"] = clock_errors(processes, pipeline, frames)
    starts = result.marks["start"]
    earliest = np.where(starts == MISSING, first_stamps(result, pipeline), starts)
    return Trace.of(pipeline, result.take(np.argsort(earliest, kind="stable")), meta)


def _owners(processes: list[Process], pipeline: Pipeline) -> dict[str, Process]:
    owners: dict[str, Process] = {}
    for process in processes:
        for mark in process.owns:
            other = owners.setdefault(mark, process)
            if other is not process:
                raise TraceError(
                    f"mark {mark!r} must have one owner, got {other.name} and {process.name}; "
                    "record with owns=(...) so that one process stamps each mark"
                )
    if not owners:
        raise TraceError(
            f"recordings must have a mark of pipeline {pipeline.name!r}, got none; record at "
            "least one mark in one of them"
        )
    return owners


def _sampling_rate(processes: list[Process]) -> float | None:
    rates = {each.meta.get("sampling_rate") or 1.0: each.name for each in processes}
    if len(rates) > 1:
        (rate, name), (other_rate, other) = list(rates.items())[:2]
        raise TraceError(
            f"recordings must have the same sampling rate, got {rate} in {name} and {other_rate} "
            f"in {other}, or frames that one did not sample would appear to be lost; record all "
            "of them with one sampling rate"
        )
    return next(iter(rates)) if any(each.meta.get("sampling_rate") for each in processes) else None


def _joined_meta(
    processes: list[Process],
    owned: list[str],
    rate: float | None,
    alignment: Alignment,
    counts: dict[str, int],
) -> dict[str, Any]:
    first = processes[0].meta
    # entries that are the same in all recordings (host, boot, python ...) hold for the joined trace
    meta = {
        key: value
        for key, value in first.items()
        if key not in NOT_SHARED and all(each.meta.get(key) == value for each in processes)
    }
    meta["owns"] = owned
    if alignment.clock == "same boot":
        meta["clock_offset_ns"] = first["clock_offset_ns"]
    if rate is not None:
        meta["sampling_rate"] = rate
    run = {k: v for each in reversed(processes) for k, v in (each.meta.get("run") or {}).items()}
    if run:
        meta["run"] = run
    if segments := _segments_of(processes):
        meta["segments"] = segments
    meta["lost"] = sum(each.meta.get("lost") or 0 for each in processes)
    known = ("pid", "host", "lost", "accounts", "stamp_ns")
    described = [
        {"name": each.name, "rows": len(each.columns), "owns": list(each.owns)}
        | {key: each.meta[key] for key in known if each.meta.get(key) is not None}
        for each in processes
    ]
    meta["join"] = {"parts": described, **counts, "clock": alignment.clock}
    if alignment.clocks:
        meta["join"]["clocks"] = alignment.clocks
    return meta


# -- recordings: traces and files of one process are put together first -------------------------


def _load(recordings: DatasetLike) -> tuple[list[Process], Pipeline]:
    """Return the recording of each process, and the pipeline.

    A profiler that rotates its file leaves several traces of one recording, and so does one with a
    ring that was recovered. They share an id (``recording``) and are put together; the files of a
    stream are numbered as well (``part``).

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


def _segments_of(processes: Sequence[Process]) -> list[Any]:
    """Return the times in which any of the processes was recording; [] if one does not have any."""
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
    if segments := _segments_of(same):
        meta["segments"] = segments
    name = f"{same[0].name} and {len(same) - 1} more of its recording"
    return Process(name, columns, meta, same[0].owns)


def _not_repeated(columns: Columns, lengths: list[int]) -> Mask:
    """Return which rows (n,) of concatenated traces are in no earlier one of them.

    Two traces of one profiler, or a trace and its recovered ring, may have frames in common.
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


# -- columns of joined frames -------------------------------------------------------------------


def _outcomes(
    processes: list[Process], first: Process, last: Process, frames: int
) -> tuple[Labels, dict[str, int]]:
    """Return the outcome of every row, and how many frames matched and did not.

    Parameters
    ----------
    processes
        In the order of their first marks, with `rows`.
    first, last
        The owners of ``start`` and ``end``.
    frames
        How many of the rows are frames; the others came twice.
    """
    # the recording furthest down the pipeline decides, the owner of `end` before all others
    deciding = sorted(reversed(processes), key=lambda each: each is not last)
    names, columns = _shared_codes(deciding, [each.columns.outcome for each in deciding], OUTCOMES)
    finished, lost, twice = range(len(OUTCOMES))
    known = [np.maximum(column, finished) for column in columns]  # no outcome means finished
    codes, _ = _first_values(deciding, known, None)
    in_first, in_last = first.rows[:frames] >= 0, last.rows[:frames] >= 0
    in_all = np.logical_and.reduce([each.rows[:frames] >= 0 for each in processes])
    in_transit = ~in_last & (codes[:frames] == finished)
    codes[:frames][in_transit] = lost
    codes[frames:][codes[frames:] == finished] = twice
    counts = {
        "matched": in_all,
        "skipped": in_first & in_last & ~in_all,
        "lost_in_transit": in_transit,
        "dropped": ~in_last & ~in_transit,
        "without_origin": in_last & ~in_first,
    }
    named = {name: int(np.count_nonzero(mask)) for name, mask in counts.items()}
    return Labels(codes, names), named | {"came_twice": len(codes) - frames}


def _add_optional_columns(result: Columns, processes: list[Process]) -> None:
    """Add source, size, CPU, memory, weight and tags: of the first recording that has a value."""
    columns = [each.columns for each in processes]
    if any(each.source is not None for each in columns):
        result.source = _first_labels(processes, [each.source for each in columns])
    for name, absent in ABSENT.items():
        arrays = [getattr(each, name) for each in columns]
        if any(array is not None for array in arrays):
            # a weight of 1 is a value
            values, gaps = _first_values(processes, arrays, None if name == "weight" else absent)
            values[gaps] = absent
            setattr(result, name, values)
    for name in dict.fromkeys(name for each in columns for name in each.tags):
        result.tags[name] = _first_tags(processes, [each.tags.get(name) for each in columns])


def _first_values(
    processes: list[Process], columns: Sequence[npt.NDArray[Any] | None], absent: object
) -> tuple[npt.NDArray[Any], Mask]:
    """Return the value of the first recording that has one, and the rows without any.

    NaN, NaT and `absent` are not values; at least one of the columns is not None.
    """
    gaps = np.ones(len(processes[0].rows), bool)
    values = np.zeros(len(gaps), np.result_type(*(each for each in columns if each is not None)))
    for process, column in zip(processes, columns, strict=True):
        if column is not None:
            rows = np.flatnonzero(gaps & (process.rows >= 0))
            found = column[process.rows[rows]]
            if absent is not None or column.dtype.kind in "fmM":
                known = found == found  # NaN and NaT are not equal to themselves
                if absent is not None:
                    known &= found != absent
                rows, found = rows[known], found[known]
            values[rows] = found
            gaps[rows] = False
    return values, gaps


def _shared_codes(
    processes: list[Process], columns: Sequence[Labels | None], names: Sequence[str] = ()
) -> tuple[tuple[str, ...], list[npt.NDArray[np.int32]]]:
    """Return one table of names, which begins with `names`, and the codes of each recording."""
    filled = [
        Labels.constant(None, len(process.columns)) if labels is None else labels
        for process, labels in zip(processes, columns, strict=True)
    ]
    table = Labels.concat([Labels.encode(names), *filled])
    ends = np.cumsum([len(names), *map(len, filled)])[:-1]
    return table.names, np.split(table.codes, ends)[1:]


def _first_labels(processes: list[Process], columns: Sequence[Labels | None]) -> Labels:
    names, codes = _shared_codes(processes, columns)
    values, gaps = _first_values(processes, codes, -1)
    values[gaps] = -1
    return Labels(values, names)


def _first_tags(
    processes: list[Process], columns: list[npt.NDArray[Any] | Labels | None]
) -> npt.NDArray[Any] | Labels:
    arrays = [None if isinstance(column, Labels) else column for column in columns]
    known = [array for array in arrays if array is not None]
    text = any(isinstance(column, Labels) for column in columns)
    if not text and common_dtype(known, gaps=False) is not None:
        values, gaps = _first_values(processes, arrays, None)
        dtype = common_dtype(known, gaps=bool(gaps.any()))
        if dtype is not None:
            values = values.astype(dtype)
            if gaps.any():
                values[gaps] = np.array("NaT" if dtype.kind in "Mm" else np.nan, dtype)
            return values
    # one of them is text, or no number type holds all values
    return _first_labels(processes, [None if each is None else as_text(each) for each in columns])
