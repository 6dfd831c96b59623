"""Blame: which frames kept a frame waiting, and in which stage."""

import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from latprof.attribution.blocking import DEPTH, Path
from latprof.attribution.busy import Amounts
from latprof.attribution.picture import Picture, picture
from latprof.attribution.recordings import Recordings, frames_of
from latprof.attribution.visits import latest_before
from latprof.errors import TraceError
from latprof.histogram import rank_of
from latprof.pipeline import Pipeline
from latprof.units import parse_duration

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["OWN", "Wait", "Waited", "blame", "hand_over_ns", "table_of", "waited_for", "waits_of"]

OWN = "own"
"""The column of what a hand-off takes by itself."""

_VALUES = ("share", "mean", "total", "p99")

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Wait:
    """The time of n frames in one hand-off, and who they waited for.

    `rows` (n,) are the frames' rows, `total` (n,) ns the whole time, `by_path` (n,) ns by chain:
    the stage that the frame in front was in, then what that one waited for; the last is to blame.
    """

    handoff: str
    rows: Ints
    total: Amounts
    by_path: dict[Path, Amounts]

    def by_stage(self) -> dict[str, Amounts]:
        """Return (n,) ns by stage to blame."""
        found: dict[str, Amounts] = {}
        for path, amounts in self.by_path.items():
            known = found.get(path[-1])
            found[path[-1]] = amounts if known is None else known + amounts
        return found

    def own(self) -> Amounts:
        """Return (n,) ns: what is nobody else's fault."""
        rest = self.total
        for amounts in self.by_path.values():
            rest = rest - amounts
        return rest


def waits_of(whole: Picture, *, queued: bool) -> list[Wait]:
    """Return the waits in each hand-off, in order of the pipeline.

    Parameters
    ----------
    whole
        The frames.
    queued
        Count only what a frame waited after its transport: see `latprof.attribution.delays`.
    """
    where = whole.places
    served = {block.handoff: i for i, block in enumerate(where.blocks) if block.handoff}
    found = []
    for stage in where.pipeline.stages:
        if stage.station is not None:
            continue
        rows, total = whole.lengths(stage)
        i = served.get(stage.name)
        if i is None:
            found.append(Wait(stage.name, rows, total, {}))
            continue
        waiting, low, high = whole.waits(i, queued=queued)
        parts = whole.blamed(where.blocks[i], low, high)
        if len(waiting) == len(rows) and len(rows) == len(whole.columns):
            total = total[waiting] if not np.array_equal(rows, waiting) else total
            found.append(Wait(stage.name, waiting, total, parts))
            continue
        # some entered the station at no known time: their time in the hand-off is known
        place = np.full(len(whole.columns), -1, np.int64)
        place[rows] = np.arange(len(rows))
        at = place[waiting]
        spread: dict[Path, Amounts] = {}
        for path, amounts in parts.items():
            filled: Amounts = np.zeros(len(rows), amounts.dtype)  # type: ignore[assignment]
            filled[at[at >= 0]] = amounts[at >= 0]
            spread[path] = filled
        found.append(Wait(stage.name, rows, total, spread))
    return found


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
    chosen = [operator.index(row) for row in rows]
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
    value
        ``"share"`` of the hand-off's total time: rows add up to 1. ``"mean"`` (over the
        finished frames that have the hand-off), ``"total"`` or ``"p99"``: ns.
    queued
        Leave out overlap with frames' transport: count only frames that entered right after a
        departure, and of their time only what came after the delay that frames have that found
        the station free (see `latprof.attribution.delays`). So `causes` counts.
    hand_over
        With `queued`: how soon after a departure, ``"1us"``; None: found from the frames.
    depth
        How many stages a chain may have: where the frame in front was held up by a full queue
        further on (see `latprof.attribution.blocking`), the time counts for who held it up.
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
        Sampled or lossy recordings, or an unknown `value`.

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
    if depth < 1:
        raise TraceError(f"depth={depth!r}: give 1 or more")
    kind, columns = frames_of(trace, "blame", pipeline=pipeline, stations=stations)
    whole = picture(kind, columns, hand_over=hand_over_ns(hand_over), depth=depth)
    return table_of(whole, waits_of(whole, queued=queued), value)


def table_of(whole: Picture, waits: list[Wait], value: str) -> "pd.DataFrame":
    """Return waits as a DataFrame."""
    import pandas as pd

    names = [*whole.places.served, *whole.places.handoffs]
    rows: dict[str, dict[str, float]] = {}
    used = set(whole.places.served)
    for wait in waits:
        parts = {**wait.by_stage(), OWN: wait.own()}
        used |= {name for name in parts if name != OWN and np.any(parts[name])}
        n = len(wait.rows)
        sums = {name: float(amounts.sum()) for name, amounts in parts.items()}
        whole_ns = float(wait.total.sum())
        row = rows[wait.handoff] = {}
        for name, amounts in parts.items():
            if not n:
                row[name] = float("nan")
            elif value == "total":
                row[name] = sums[name]
            elif value == "mean":
                row[name] = sums[name] / n
            elif value == "p99":
                row[name] = float(np.partition(amounts, rank_of(99, n) - 1)[rank_of(99, n) - 1])
            else:
                row[name] = sums[name] / whole_ns if whole_ns else float(name == OWN)
    columns = [name for name in names if name in used] + [OWN]
    index = pd.Index(list(rows), name="handoff", dtype=object)
    cells = [
        [row.get(name, 0.0 if row[OWN] == row[OWN] else np.nan) for name in columns]
        for row in rows.values()
    ]
    return pd.DataFrame(cells, index=index, columns=columns, dtype="float64")
