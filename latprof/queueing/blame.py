"""Blame: for which stages frames waited in each hand-off."""

import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from latprof.errors import TraceError
from latprof.histogram import rank_of
from latprof.io.dataset import DatasetLike
from latprof.pipeline import Pipeline
from latprof.queueing.blocking import Amounts
from latprof.queueing.model import QueueModel
from latprof.queueing.options import MOST_STAGES, Options
from latprof.queueing.stations import Stations, latest_departures, stations_of
from latprof.queueing.windows import Recordings
from latprof.table import data_frame
from latprof.text import quoted

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["SELF_TIME", "Highest", "Waited", "blame", "blame_rows", "waited_for"]

SELF_TIME = "self_time"
"""The column of the time that was not waiting."""

_VALUES = ("share", "mean", "total", "p99")


@dataclass(frozen=True, slots=True)
class Waited:
    """An interval (ns UTC) in which a frame waited for a `stage` of an earlier frame.

    `row` and `other_row` are the rows of the two frames in the trace.
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
    trace: DatasetLike,
    rows: Iterable[int],
    *,
    queues: Mapping[str, int | None] | None = None,
    stations: Mapping[str, str | None] | None = None,
    pipeline: Pipeline | None = None,
) -> list[Waited]:
    """Return the intervals in which chosen frames waited, each with the earlier frame waited for.

    Parameters
    ----------
    trace, queues, stations, pipeline
        See `blame`.
    rows
        The rows of the frames in the trace.

    Returns
    -------
    list of Waited
        By frame as given, then in order of time: for a waterfall that shows what waits for what.

    Raises
    ------
    TraceError
        Sampled or lossy recordings, or a row that the trace does not have.
    """
    options = Options(queues=queues, stations=stations, pipeline=pipeline)
    model = Recordings(trace, "waited_for", options).model()
    columns = model.columns
    try:
        chosen = [operator.index(row) for row in rows]
    except TypeError:
        raise TraceError(
            f"rows must be row numbers (for example [0, 5]), got {quoted(rows)}"
        ) from None
    for row in chosen:
        if not len(columns):
            raise TraceError(
                f"rows must be empty for a trace without frames, got {row:,}; choose none"
            )
        if not 0 <= row < len(columns):
            raise TraceError(f"rows must be from 0 to {len(columns) - 1:,}, got {row:,}")
    found: dict[int, list[Waited]] = {row: [] for row in chosen}
    for i, service in enumerate(model.stations.services):
        if service.handoff is None:
            continue
        mine, delays = model.visits[service.station], model.delays[service.station]
        latest = latest_departures(mine.end)
        for visit in np.flatnonzero((mine.service == i) & np.isin(mine.frame, chosen)).tolist():
            low, high = int(delays.arrive[visit]), int(mine.begin[visit])
            # the first of the earlier visits that had not ended when the frame arrived
            first = int(np.searchsorted(latest[: visit + 1], low, side="right")) - 1
            row = int(mine.frame[visit])
            for earlier in range(max(first, 0), visit):
                for stage, (begins, ends) in mine.stages.items():
                    begin, end = max(int(begins[earlier]), low), min(int(ends[earlier]), high)
                    if begin < end:
                        other = int(mine.frame[earlier])
                        ids = int(columns.frame_id[row]), int(columns.frame_id[other])
                        found[row].append(
                            Waited(row, ids[0], service.handoff, stage, other, ids[1], begin, end)
                        )
    return [each for row in dict.fromkeys(chosen) for each in found[row]]


def blame(
    trace: DatasetLike,
    *,
    value: str = "share",
    queued: bool = False,
    hand_over: str | int | None = None,
    depth: int = MOST_STAGES,
    servers: Mapping[str, int] | None = None,
    queues: Mapping[str, int | None] | None = None,
    stations: Mapping[str, str | None] | None = None,
    pipeline: Pipeline | None = None,
) -> "pd.DataFrame":
    """Return for each hand-off which stages its frames waited for.

    A frame waits in a hand-off because the station behind it serves frames that entered earlier.
    The time in the hand-off that overlaps with their time in that station counts.

    Parameters
    ----------
    trace
        A trace, a path, a folder, a glob, or several of them. All their frames are taken together,
        in order of entry into each station, of all sources, dropped ones included. They are read
        a window at a time: see `latprof.queueing.windows`.
    value
        ``"share"`` of the hand-off's total time, so that rows add up to 1; ``"mean"`` (over the
        finished frames that have the hand-off), ``"total"`` or ``"p99"`` in ns. For p99 the
        highest hundredth of the values is kept: 0.08 bytes for each frame and cell of the table.
    queued
        Leave out overlap with the frames' transport: count only frames that entered right after a
        departure, and of their time only the part after their transport delay, which is estimated
        from frames that found the station free (see `latprof.queueing.delays`). `latprof.causes`
        counts in this way.
    hand_over, depth, servers, queues, stations, pipeline
        What is known of the queues: see `latprof.queueing.options.Options`.

    Returns
    -------
    DataFrame
        Index: the hand-offs (stages without a station). Columns: every stage of a station, and
        ``"self_time"``, which is not waiting. The row of a hand-off without frames is NaN.

    Raises
    ------
    TraceError
        Sampled or lossy recordings, an unknown `value`, or a stage named ``"self_time"``.
    PipelineError
        A name in `stations` that is not a stage, or a `pipeline` with other marks or spans.

    Examples
    --------
    >>> import numpy as np
    >>> from latprof import AUDIO, Trace, blame
    >>> start = np.array([0, 10])
    >>> at = {mark: start for mark in ("start", "webrtc", "validation", "serialization", "ipc")}
    >>> at |= {"cgo": np.array([0, 30]), "alsa": np.array([5, 35]), "end": np.array([28, 40])}
    >>> blame(Trace(AUDIO, frame_id=[0, 1], marks=at), value="total").loc["ipc"].to_dict()
    {'webrtc': 0.0, 'cgo': 0.0, 'alsa': 18.0, 'self_time': 2.0}
    """
    options = Options(hand_over, depth, servers, queues, stations, pipeline)
    rows = blame_rows(trace, options, value=value, queued=queued)
    return data_frame(rows, "handoff")


def blame_rows(
    trace: DatasetLike, options: Options, *, value: str = "share", queued: bool = False
) -> list[dict[str, float | str | None]]:
    """Return the table of `blame` as plain values.

    One dict per hand-off; a value that is unknown is None.

    Raises
    ------
    TraceError
        See `blame`.
    """
    if not isinstance(value, str) or value not in _VALUES:
        raise TraceError(f"value must be one of {', '.join(_VALUES)}, got {quoted(value)}")
    recordings = Recordings(trace, "blame", options)
    kind = recordings.pipeline
    if any(stage.name == SELF_TIME for stage in kind.stages):
        raise TraceError(
            f"stages must not be named {SELF_TIME!r}, which is the column of the time of hand-offs "
            f"that is not waiting; rename the stage of pipeline {kind.name!r}"
        )

    def table(models: Iterable[QueueModel]) -> list[dict[str, float | str | None]]:
        """Add up the waits of all windows."""
        sums = _BlameSums(stations_of(kind), recordings.rows if value == "p99" else None)
        for model in models:
            sums.add(model, queued=queued)
        return sums.table(value)

    return recordings.in_windows(table)


class Highest:
    """The highest of many values, enough of them that the 99th percentile is among them.

    Parameters
    ----------
    most
        The largest number of values there can be; one in a hundred of them is kept.
    """

    def __init__(self, most: int) -> None:
        self._most_kept = most - rank_of(99, most) + 1 if most else 0
        self.kept: Amounts = np.zeros(0, np.int64)

    def add(self, values: Amounts) -> None:
        """Add values (n,)."""
        if len(self.kept) == self._most_kept and self._most_kept:
            values = values[values > self.kept.min()]
        both = np.concatenate([self.kept, values])
        extra = len(both) - self._most_kept
        self.kept = np.partition(both, extra)[extra:] if extra > 0 else both

    def p99(self, count: int) -> float:
        """Return the 99th percentile of `count` values; those that were not added are 0."""
        from_top = count - rank_of(99, count) + 1
        if from_top > len(self.kept):
            return 0.0
        place = len(self.kept) - from_top
        return float(np.partition(self.kept, place)[place])


@dataclass(slots=True)
class _BlameRow:
    """The waits in one hand-off."""

    frames: int = 0
    total: float = 0.0
    by_stage: dict[str, float] = field(default_factory=dict)
    highest: dict[str, Highest] = field(default_factory=dict)

    def value(self, name: str, value: str) -> float | None:
        """Return a value of `blame` for a stage or the self time, None if it is unknown."""
        if not self.frames:
            return None
        if value == "p99":
            return self.highest[name].p99(self.frames) if name in self.highest else 0.0
        waiting = sum(self.by_stage.values())
        ns = self.total - waiting if name == SELF_TIME else self.by_stage.get(name, 0)
        if value == "total":
            return float(ns)
        if value == "mean":
            return ns / self.frames
        return ns / self.total if self.total else float(name == SELF_TIME)


class _BlameSums:
    """Waits by hand-off and by the stage that caused them, summed over windows.

    Parameters
    ----------
    stations
        The stations of the pipeline.
    most
        The largest number of frames, if the table is to have ``"p99"``.
    """

    def __init__(self, stations: Stations, most: int | None) -> None:
        self._stations, self._most = stations, most
        self._rows = {name: _BlameRow() for name in stations.handoffs}

    def add(self, model: QueueModel, *, queued: bool) -> None:
        """Add the waits of a window."""
        for wait in model.waits(queued=queued):
            row = self._rows[wait.handoff]
            row.frames += len(wait.total)
            row.total += int(wait.total.sum())
            by_stage = wait.by_stage()
            for name, amounts in by_stage.items():
                row.by_stage[name] = row.by_stage.get(name, 0) + amounts.sum().item()
            if self._most is not None:
                for name, amounts in {**by_stage, SELF_TIME: wait.self_time()}.items():
                    row.highest.setdefault(name, Highest(self._most)).add(amounts)

    def table(self, value: str) -> list[dict[str, float | str | None]]:
        """Add up the waits of all windows."""
        used = {name for row in self._rows.values() for name, ns in row.by_stage.items() if ns}
        names = [*self._stations.served, *(x for x in self._stations.handoffs if x in used)]
        return [
            {"handoff": handoff, **{name: row.value(name, value) for name in (*names, SELF_TIME)}}
            for handoff, row in self._rows.items()
        ]
