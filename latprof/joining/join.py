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

They add up to the rows of the result. Recordings of one process, rotated files say, are put
together first. Ids may start again (RTP): see `latprof.joining.restarts`. ``parts`` tells what each
recording was, ``clock`` how their stamps were put on one clock:

====================  =========================================================================
``clock``             stamps
====================  =========================================================================
``same boot``         monotonic, compared as they are, to the nanosecond
``two ways``          of several hosts: offset and drift between their clocks follow from frames
                      that travel both ways, within ``bound_ns``
``one way, a bound``  of several hosts, and all frames travel one way: the quickest are taken to
                      have taken no time, so that what is slower is known, and not how long at all
``wall clock``        as the wall clocks gave them: too little passed between the hosts, or of
                      one of them nothing is known
``as given``          no recording says anything about its clock
====================  =========================================================================

``clocks`` tells for each host but the first what its clock was ahead: ``offset_ns`` at its own
time ``at_ns`` (between ``low_ns`` and ``high_ns``), ``drift_ppb``, from how many ``frames`` there
and back. ``clock_errors`` counts the frames that came to one recording before they left another,
which cannot be.
"""

import os
from collections.abc import Iterable
from typing import Any

import numpy as np

from latprof.errors import TraceError
from latprof.frames import MISSING, Columns
from latprof.joining.alignment import OneClock, impossible, put_on_one_clock
from latprof.joining.matching import align, first_stamps
from latprof.joining.merging import outcomes, take_the_rest
from latprof.joining.recordings import Part, load
from latprof.pipeline import Pipeline
from latprof.trace import Trace

__all__ = ["join"]


def join(recordings: Iterable[Trace | str | os.PathLike[str]]) -> Trace:
    """Return one trace of what several processes have recorded of the same frames.

    Frames are the same when id and source are the same. Where one of the recordings has no
    sources, the id alone counts, if no recording has one id under two sources.

    Parameters
    ----------
    recordings
        Traces, or paths of trace files, in any order. Each owns the marks that its metadata
        names, or, where it names none, those that it has stamped. The files of one recording
        count as one.

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
    parts, pipeline = load(recordings)
    owner = _owners(parts, pipeline)
    parts.sort(
        key=lambda part: pipeline.marks.index(part.owns[0]) if part.owns else len(pipeline.marks)
    )
    rate = _sampling_rate(parts)
    rows, frames = align([part.columns for part in parts], [p.name for p in parts], pipeline)
    for part, positions in zip(parts, rows, strict=True):
        part.rows = positions
    clock = put_on_one_clock(parts, pipeline, frames)
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
    result.outcome, counts = outcomes(parts, first, last, frames)
    take_the_rest(result, parts)

    meta = _joined_meta(parts, [m for m in pipeline.marks if m in owner], rate, clock, counts)
    meta["join"]["clock_errors"] = impossible(parts, pipeline, frames)
    earliest = np.where(
        result.marks["start"] == MISSING, first_stamps(result, pipeline), result.marks["start"]
    )
    order = np.argsort(earliest, kind="stable")
    return Trace.of(pipeline, result.take(order), meta)


def _owners(parts: list[Part], pipeline: Pipeline) -> dict[str, Part]:
    owner: dict[str, Part] = {}
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


def _sampling_rate(parts: list[Part]) -> float | None:
    rates = {part.meta.get("sampling_rate") or 1.0: part.name for part in parts}
    if len(rates) > 1:
        (rate, name), (other_rate, other) = list(rates.items())[:2]
        raise TraceError(
            f"{name} was recorded at sampling rate {rate}, {other} at {other_rate}: frames that "
            "one did not take would look lost, record all at one rate"
        )
    known = [part.meta["sampling_rate"] for part in parts if part.meta.get("sampling_rate")]
    return known[0] if known else None


_OWN = ("pid", "accounts", "recording", "part", "recovery")
"""What is true of one recording and not of the whole."""


def _joined_meta(
    parts: list[Part], owned: list[str], rate: float | None, clock: OneClock, counts: dict[str, int]
) -> dict[str, Any]:
    first = parts[0].meta
    # what all say alike (host, boot, python ...) still holds; a process of its own it is not
    meta = {
        key: value
        for key, value in first.items()
        if key not in _OWN and all(p.meta.get(key) == value for p in parts)
    }
    meta["owns"] = owned
    if clock.clock == "same boot":
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
    meta["join"] = {"parts": described, **counts, "clock": clock.clock}
    if clock.clocks:
        meta["join"]["clocks"] = clock.clocks
    return meta
