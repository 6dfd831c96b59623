"""The recordings of several processes -> one trace.

Each process stamps the marks that it owns; a frame is known by its id and source. Nothing is
dropped: a frame that one recording lacks keeps what the others know, and is counted.

================== ============================================================================
``meta["join"]``   frames
================== ============================================================================
``matched``        known to every recording
``skipped``        known to the first and the last, not to one between
``lost_in_transit``  not known to the recording that owns ``end``; outcome "lost in transit"
``dropped``        not known there either, but dropped on the way: they keep that outcome
``without_origin``  known to the recording that owns ``end``, not to the one that owns ``start``
``came_twice``     further rows of a frame in one recording; outcome "came twice", unless they
                   were dropped. The first in time is the one that is joined
================== ============================================================================

They add up to the rows of the result. ``parts`` tells what each recording was, ``clock`` how
their stamps were put on one clock: "same boot" (monotonic stamps compared as they are, to the
nanosecond), "wall clock" (recorded on different boots, or on one of which nothing is known) or
"as given" (no recording says anything about its clock).
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from latprof.columns import (
    CAME_TWICE,
    FINISHED,
    LOST_IN_TRANSIT,
    MISSING,
    NO_SIZE,
    Columns,
    Labels,
    as_text,
    common_dtype,
)
from latprof.errors import TraceError
from latprof.matching import align, first_stamps
from latprof.pipeline import Pipeline
from latprof.trace import Trace, read
from latprof.units import escape

__all__ = ["join"]

Positions = npt.NDArray[np.int64]


@dataclass(slots=True, eq=False)
class _Part:
    """One recording: `rows` says where in it each row of the result is, -1 nowhere."""

    name: str
    columns: Columns
    meta: dict[str, Any]
    owns: tuple[str, ...]
    rows: Positions


def join(recordings: Iterable[Trace | str | os.PathLike[str]]) -> Trace:
    """Return one trace of what several processes have recorded of the same frames.

    Frames are the same when id and source are the same. Where one of the recordings has no
    sources, the id alone counts, if no recording has one id under two sources.

    Parameters
    ----------
    recordings
        Traces, or paths of trace files, in any order. Each owns the marks that its metadata
        names, or, where it names none, those that it has stamped.

    Returns
    -------
    Trace
        By `start` (a frame without: by its first mark). Each mark is its owner's, the outcome
        that of the owner of ``end``; size, CPU, memory and tags come from the first recording
        along the pipeline that has them. ``meta["join"]`` tells what matched and what did not.

    Raises
    ------
    TraceError
        Nothing to join, different pipelines, a mark with two owners, different sampling rates,
        or sources that are needed and not there.

    Examples
    --------
    >>> pipeline = Pipeline("link", ("start", "arrived", "end"))
    >>> sent = Trace(pipeline, frame_id=[1, 2], marks={"start": [100, 200]})
    >>> played = Trace(pipeline, frame_id=[1], marks={"arrived": [150], "end": [170]})
    >>> whole = join([sent, played])
    >>> whole.outcome.to_numpy().tolist(), whole.meta["join"]["lost_in_transit"]
    (['finished', 'lost in transit'], 1)
    """
    if isinstance(recordings, Trace | str | os.PathLike):
        raise TraceError("join takes a list of traces and paths: write join([a, b])")
    parts, pipeline = _loaded(recordings)
    owner = _owners(parts, pipeline)
    parts.sort(
        key=lambda part: pipeline.marks.index(part.owns[0]) if part.owns else len(pipeline.marks)
    )
    rate = _sampling_rate(parts)
    clock = _one_clock(parts)
    rows, frames = align([part.columns for part in parts], [p.name for p in parts], pipeline)
    for part, positions in zip(parts, rows, strict=True):
        part.rows = positions
    total = len(rows[0])
    first = owner.get("start") or owner.get("due") or parts[0]
    last = owner.get("end") or [part for part in parts if part.owns][-1]

    result = Columns(np.empty(total, np.uint64), {})
    for part in parts:
        there = part.rows >= 0
        result.frame_id[there] = part.columns.frame_id[part.rows[there]]
    for mark in pipeline.marks:
        result.marks[mark] = np.full(total, MISSING)
        if mark in owner:
            there = owner[mark].rows >= 0
            stamps = owner[mark].columns.marks[mark][owner[mark].rows[there]]
            result.marks[mark][there] = stamps
    result.outcome, counts = _outcomes(parts, first, last, frames)
    _take_the_rest(result, parts)

    meta = _joined_meta(parts, [m for m in pipeline.marks if m in owner], rate, clock, counts)
    earliest = np.where(
        result.marks["start"] == MISSING, first_stamps(result, pipeline), result.marks["start"]
    )
    order = np.argsort(earliest, kind="stable")
    return Trace.of(pipeline, result.take(order), meta)


# -- what is joined -------------------------------------------------------------------------------


def _loaded(recordings: Iterable[Trace | str | os.PathLike[str]]) -> tuple[list[_Part], Pipeline]:
    parts: list[_Part] = []
    pipeline: Pipeline | None = None
    for number, recording in enumerate(recordings):
        if isinstance(recording, Trace):
            trace, name = recording, f"recording {number + 1}"
        elif isinstance(recording, str | os.PathLike):
            trace, name = read(recording), escape(os.fspath(recording))
        else:
            raise TraceError(
                f"recording {number + 1} is {type(recording).__name__}: give a Trace or a path"
            )
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
        rows = np.empty(0, np.int64)
        parts.append(_Part(name, trace.columns, trace.meta, owned, rows))
    if pipeline is None:
        raise TraceError("there is nothing to join: give at least one trace or path")
    return parts, pipeline


def _owners(parts: list[_Part], pipeline: Pipeline) -> dict[str, _Part]:
    owner: dict[str, _Part] = {}
    for part in parts:
        for mark in part.owns:
            other = owner.setdefault(mark, part)
            if other is not part:
                raise TraceError(
                    f"mark {mark!r} has two owners, {other.name} and {part.name}: record with "
                    "owns=(...) so that each mark is stamped by one process"
                )
    if not owner:
        raise TraceError(
            f"no recording has a mark of pipeline {pipeline.name!r}: there is nothing to join"
        )
    return owner


def _sampling_rate(parts: list[_Part]) -> float | None:
    rates = {part.meta.get("sampling_rate") or 1.0: part.name for part in parts}
    if len(rates) > 1:
        (rate, name), (other_rate, other) = list(rates.items())[:2]
        raise TraceError(
            f"{name} was recorded at sampling rate {rate}, {other} at {other_rate}: frames that "
            "one did not take would look lost, record all at one rate"
        )
    known = [part.meta["sampling_rate"] for part in parts if part.meta.get("sampling_rate")]
    return known[0] if known else None


def _one_clock(parts: list[_Part]) -> str:
    """Put stamps of one boot on the first recording's clock; return what holds for all."""
    boots = [part.meta.get("boot_id") for part in parts]
    offsets = [part.meta.get("clock_offset_ns") for part in parts]
    if all(boot is None for boot in boots) and all(offset is None for offset in offsets):
        return "as given"
    known = [offset for offset in offsets if offset is not None]
    if None in boots or len(known) < len(parts) or len(set(boots)) > 1:
        return "wall clock"
    # stamps are monotonic + own offset; the offset was read at another moment in each process,
    # and the wall clock may have been adjusted in between
    for part, offset in zip(parts, known, strict=True):
        shift = known[0] - offset
        if shift:
            marks = {
                mark: np.where(ns == MISSING, MISSING, ns + shift)
                for mark, ns in part.columns.marks.items()
                if mark in part.owns
            }
            part.columns = part.columns.take(slice(None))  # a view that may be changed
            part.columns.marks |= marks
    return "same boot"


# -- what is taken from whom ----------------------------------------------------------------------


def _outcomes(
    parts: list[_Part], first: _Part, last: _Part, frames: int
) -> tuple[Labels, dict[str, int]]:
    own = [FINISHED, LOST_IN_TRANSIT, CAME_TWICE]
    columns = [part.columns.outcome or Labels.constant(None, len(part.columns)) for part in parts]
    table = Labels.concat([Labels.encode(own), *columns])
    finished, lost, twice = range(len(own))  # their codes: they come first in the table
    codes = np.full(len(last.rows), -1, np.int32)
    ends = np.cumsum([len(own), *map(len, columns)])[:-1]
    by_part = list(zip(parts, np.split(table.codes, ends)[1:], strict=True))
    # the one furthest down the pipeline has the last word, the owner of `end` before all
    for part, outcome in sorted(by_part, key=lambda pair: pair[0] is last):
        there = part.rows >= 0
        codes[there] = outcome[part.rows[there]]
    codes[codes < 0] = finished
    in_first, in_last = first.rows[:frames] >= 0, last.rows[:frames] >= 0
    in_all = np.logical_and.reduce([part.rows[:frames] >= 0 for part in parts])
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
    return Labels(codes, table.names), named | {"came_twice": len(codes) - frames}


def _take_the_rest(result: Columns, parts: list[_Part]) -> None:
    columns = [part.columns for part in parts]
    result.source = _first_labels(parts, [c.source for c in columns])
    for name, absent in (("size", NO_SIZE), ("cpu", np.nan), ("rss", 0), ("weight", None)):
        arrays = [getattr(c, name) for c in columns]
        values, gaps = _first_values(parts, arrays, absent)
        if values is not None:
            values[gaps] = 1 if absent is None else absent
            setattr(result, name, values)
    for name in dict.fromkeys(name for c in columns for name in c.tags):
        result.tags[name] = _tag(parts, [c.tags.get(name) for c in columns])


def _first_values(
    parts: list[_Part], columns: list[npt.NDArray[Any] | None], absent: object
) -> tuple[Any, npt.NDArray[np.bool_]]:
    """Return each frame's value in the first part that has one, and where none has."""
    gaps = np.ones(len(parts[0].rows), bool)
    present = [column for column in columns if column is not None]
    if not present:
        return None, gaps
    values = np.zeros(len(gaps), np.result_type(*present))
    for part, column in zip(parts, columns, strict=True):
        if column is None:
            continue
        there = np.flatnonzero(gaps & (part.rows >= 0))
        taken = column[part.rows[there]]
        if column.dtype.kind in "fmM":
            known = taken == taken  # NaN and NaT are not
        else:
            known = np.full(len(taken), True) if absent is None else taken != absent
        values[there[known]] = taken[known]
        gaps[there[known]] = False
    return values, gaps


def _first_labels(parts: list[_Part], columns: list[Labels | None]) -> Labels | None:
    present = [column for column in columns if column is not None]
    if not present:
        return None
    table = Labels.concat(present)
    codes = iter(np.split(table.codes, np.cumsum([len(column) for column in present])[:-1]))
    result = np.full(len(parts[0].rows), -1, np.int32)
    for part, column in zip(parts, columns, strict=True):
        if column is not None:
            there = (result < 0) & (part.rows >= 0)
            result[there] = next(codes)[part.rows[there]]
    return Labels(result, table.names)


def _tag(
    parts: list[_Part], columns: list[npt.NDArray[Any] | Labels | None]
) -> npt.NDArray[Any] | Labels:
    arrays = [column for column in columns if isinstance(column, np.ndarray)]
    text = any(isinstance(column, Labels) for column in columns)
    if not text and common_dtype(arrays, gaps=False) is not None:
        values, gaps = _first_values(parts, columns, None)  # type: ignore[arg-type]
        dtype = common_dtype(arrays, gaps=bool(gaps.any()))
        if dtype is not None:
            values = values.astype(dtype)
            if gaps.any():
                values[gaps] = np.array("NaT" if dtype.kind in "Mm" else np.nan, dtype)
            return values  # type: ignore[no-any-return]
    # text in one of them, or nothing else that keeps all values
    labels = _first_labels(parts, [None if c is None else as_text(c) for c in columns])
    assert labels is not None
    return labels


def _joined_meta(
    parts: list[_Part], owned: list[str], rate: float | None, clock: str, counts: dict[str, int]
) -> dict[str, Any]:
    first = parts[0].meta
    # what all say alike (host, boot, python ...) still holds; a process of its own it is not
    meta = {
        key: value
        for key, value in first.items()
        if key not in ("pid", "accounts") and all(p.meta.get(key) == value for p in parts)
    }
    meta["owns"] = owned
    if clock == "same boot":
        meta["clock_offset_ns"] = first["clock_offset_ns"]
    if rate is not None:
        meta["sampling_rate"] = rate
    run = {k: v for p in reversed(parts) for k, v in (p.meta.get("run") or {}).items()}
    if run:
        meta["run"] = run
    segments = [part.meta.get("segments") for part in parts]
    if all(segments):
        # some process was recording
        meta["segments"] = sorted({(a, b) for part in segments for a, b in part or ()})
    meta["lost"] = sum(part.meta.get("lost") or 0 for part in parts)
    known = ("pid", "host", "lost", "accounts", "stamp_ns")
    described = [
        {"name": part.name, "rows": len(part.columns), "owns": list(part.owns)}
        | {key: part.meta[key] for key in known if part.meta.get(key) is not None}
        for part in parts
    ]
    meta["join"] = {"parts": described, **counts, "clock": clock}
    return meta
