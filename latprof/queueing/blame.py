"""Blame: which frames kept a frame waiting, and in which stage."""

import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from latprof.errors import TraceError
from latprof.pipeline import Pipeline
from latprof.queueing.blocking import DEPTH, check_depth
from latprof.queueing.model import picture
from latprof.queueing.recordings import Recordings, frames_of, source_of
from latprof.queueing.shares import Shares, check_columns
from latprof.queueing.stations import places
from latprof.queueing.visits import latest_before
from latprof.queueing.waits import waits_of
from latprof.units import parse_duration

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Waited", "blame", "hand_over_ns", "waited_for"]

_VALUES = ("share", "mean", "total", "p99")


@dataclass(frozen=True, slots=True)
class Waited:
    """What one frame waited for at one time: `stage` of an earlier frame, ns UTC.

    `row` and `other_row` are places in the trace.
    """

    row: int
    frame_id: int
    handoff: str
    stage: str
    other_row: int
    other_id: int
    begin_ns: int
    end_ns: int


def waited_for(
    trace: Recordings,
    rows: Iterable[int],
    *,
    stations: Mapping[str, str | None] | None = None,
    pipeline: Pipeline | None = None,
) -> list[Waited]:
    """Return for chosen frames which intervals of which earlier frames they waited for.

    Parameters
    ----------
    trace, stations, pipeline
        As `blame` takes them.
    rows
        Which frames: their rows in the trace.

    Returns
    -------
    list of Waited
        By frame as given, then in order of time: for a waterfall that shows who waits for whom.

    Raises
    ------
    TraceError
        Sampled or lossy recordings, or a row that the trace does not have.
    """
    kind, columns = frames_of(trace, "waited_for", pipeline=pipeline, stations=stations)
    try:
        chosen = [operator.index(row) for row in rows]
    except TypeError:
        raise TraceError(f"rows={rows!r}: give the numbers of rows, [0, 5] say") from None
    for row in chosen:
        if not 0 <= row < len(columns):
            raise TraceError(f"row {row}: the trace has {len(columns):,} rows, from 0")
    whole = picture(kind, columns)
    found: dict[int, list[Waited]] = {row: [] for row in chosen}
    for i, block in enumerate(whole.places.blocks):
        if block.handoff is None:
            continue
        _, mine, apart = whole.of_block(i)
        latest = latest_before(mine.end)
        for visit in np.flatnonzero((mine.block == i) & np.isin(mine.frame, chosen)).tolist():
            low, high = int(apart.arrive[visit]), int(mine.begin[visit])
            # of those before it, the first that had not left when it arrived
            first = int(np.searchsorted(latest[: visit + 1], low, side="right")) - 1
            row = int(mine.frame[visit])
            for earlier in range(max(first, 0), visit):
                for stage, (begins, ends) in mine.stages.items():
                    begin, end = max(int(begins[earlier]), low), min(int(ends[earlier]), high)
                    if begin < end:
                        other = int(mine.frame[earlier])
                        ids = int(columns.frame_id[row]), int(columns.frame_id[other])
                        found[row].append(
                            Waited(row, ids[0], block.handoff, stage, other, ids[1], begin, end)
                        )
    return [each for row in dict.fromkeys(chosen) for each in found[row]]


def hand_over_ns(value: str | int | None) -> int | None:
    """Return a hand-over in ns; None stays None.

    Raises
    ------
    TraceError
        No duration.
    """
    if value is None:
        return None
    try:
        return parse_duration(value, name="hand_over")
    except ValueError as error:
        raise TraceError(str(error)) from None


def blame(
    trace: Recordings,
    *,
    value: str = "share",
    queued: bool = False,
    hand_over: str | int | None = None,
    depth: int = DEPTH,
    stations: Mapping[str, str | None] | None = None,
    pipeline: Pipeline | None = None,
) -> "pd.DataFrame":
    """Return for each hand-off which stage its frames waited for.

    A frame waits in a hand-off because the station behind it serves frames that entered it
    earlier. Counted is the time in the hand-off that overlaps with their time in that station.

    Parameters
    ----------
    trace
        A trace, a path, a folder, a glob, or several of them. All their frames are looked at
        together, in order of entry into each station, over all sources, dropped ones included.
        They are read a window at a time: see `latprof.queueing.windows` for what that takes.
    value
        ``"share"`` of the hand-off's total time: rows add up to 1. ``"mean"`` (over the
        finished frames that have the hand-off), ``"total"`` or ``"p99"``: ns. For p99 the
        highest of a hundred values are kept: 0.08 bytes a frame and cell of the table.
    queued
        Leave out overlap with frames' transport: count only frames that entered right after a
        departure, and of their time only what came after the delay that frames have that found
        the station free (see `latprof.queueing.delays`). So `causes` counts.
    hand_over
        With `queued`: how soon after a departure, ``"1us"``; None: found from the frames.
    depth
        How many stages a chain may have: where the frame in front was held up by a full queue
        further on (see `latprof.queueing.blocking`), the time counts for who held it up.
    stations
        Other stations than the pipeline's, by stage: ``{"decode": "cpu"}``.
    pipeline
        What the marks mean, for files that do not say so themselves.

    Returns
    -------
    DataFrame
        Index: the hand-offs (stages without a station). Columns: every stage of a station, and
        ``"own"``. A hand-off of no frames has NaN.

    Raises
    ------
    TraceError
        Sampled or lossy recordings, an unknown `value`, or a stage that is called ``"own"``.

    Examples
    --------
    >>> import numpy as np
    >>> from latprof import AUDIO, Trace
    >>> start = np.array([0, 10])
    >>> at = {mark: start for mark in ("start", "webrtc", "validation", "serialization", "ipc")}
    >>> at |= {"cgo": np.array([0, 30]), "alsa": np.array([5, 35]), "end": np.array([28, 40])}
    >>> blame(Trace(AUDIO, frame_id=[0, 1], marks=at), value="total").loc["ipc"].to_dict()
    {'webrtc': 0.0, 'cgo': 0.0, 'alsa': 18.0, 'own': 2.0}
    """
    if value not in _VALUES:
        raise TraceError(f"value={value!r} is unknown: use one of {', '.join(_VALUES)}")
    depth = check_depth(depth)
    source = source_of(trace, "blame", pipeline=pipeline, stations=stations)
    check_columns(source.pipeline)
    asked = source.rows if value == "p99" else None
    shares = Shares(places(source.pipeline), asked)
    for walk, batches in source.walks(hand_over=hand_over_ns(hand_over), depth=depth):
        shares = Shares(places(source.pipeline), asked)
        for columns in batches:
            for seen in walk.add(columns):
                shares.add(waits_of(seen, queued=queued))
        for seen in walk.close():
            shares.add(waits_of(seen, queued=queued))
    return shares.table(value)
