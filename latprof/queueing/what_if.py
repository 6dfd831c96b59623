"""What a change would give: a replay of the recording, beside what plain subtraction says."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from latprof.arrays import Ints
from latprof.errors import TraceError
from latprof.histogram import rank_of
from latprof.pipeline import Pipeline
from latprof.queueing.blame import hand_over_ns
from latprof.queueing.changes import Scale, change_of, limits_of, servers_of, subtracted, written
from latprof.queueing.evidence import contradiction
from latprof.queueing.feedback import room_for
from latprof.queueing.model import Picture, picture
from latprof.queueing.recordings import Recordings, frames_of
from latprof.queueing.replay import Replayed, breaks_of, replay
from latprof.table import Cell, Column, Section, Table, html, text
from latprof.text import counted
from latprof.units import format_ns

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["PERCENTILES", "WhatIf", "check_order", "sensitivity", "what_if"]

PERCENTILES = (50.0, 90.0, 99.0, 99.9)

_SUCH = {"changes": '{"alsa": 0.9}', "servers": '{"server": 2}', "drop": '{"ipc": "40ms"}'}


@dataclass(frozen=True, eq=False)
class WhatIf:
    """End_to_end as measured, as replayed with the changes, and by plain subtraction.

    Attributes
    ----------
    measured_ns, replayed_ns, subtraction_ns
        Sorted arrays: of the finished frames, without those that the changes drop in the second.
    other_ns
        Sorted: the replay in the other reading of the gap between a departure and the next entry
        (see `assumptions`); equal to `replayed_ns` where the readings do not differ.
    changes
        What was changed, as text.
    counts
        ``frames``, ``dropped`` by the changes, ``breaks`` of first in, first out.
    hand_over_ns
        By station: frames that enter this soon after a departure were queued.
    assumptions
        What the replay takes for granted.
    warning
        Why the replay is no forecast, but the most that can be gained; empty: it is one.
    """

    measured_ns: Ints
    replayed_ns: Ints
    subtraction_ns: Ints
    other_ns: Ints
    changes: dict[str, str]
    counts: dict[str, int]
    hand_over_ns: dict[str, int]
    assumptions: tuple[str, ...]
    warning: str = ""

    def __str__(self) -> str:
        return text(self.sections())

    def _repr_html_(self) -> str:
        return html(self.sections())

    def sections(self) -> list[Section]:
        """Return what is shown of it: the changes, a table of end_to_end, the assumptions."""
        counts = self.counts
        replayed = (
            f"{counted(counts['frames'], 'frame')}, {counts['dropped']:,} dropped by the change; "
            f"{counts['breaks']:,} contradict first in, first out"
        )
        lines = (replayed, self.warning) if self.warning else (replayed,)
        known: list[dict[str, Any]] = [{"name": "mean", **self.mean, "low": None, "high": None}]
        known += [{"name": f"p{row['percentile']:g}", **row} for row in self.rows()]
        rows = [
            [
                row["name"],
                row["measured"],
                *(_changed(row[name], row["measured"]) for name in ("replayed", "subtraction")),
                row["low"],
                row["high"],
            ]
            for row in known
        ]
        names = ("measured", "replayed", "by subtraction", "low", "high")
        columns = Column("end to end", "name"), *(Column(name, "time") for name in names)
        changes = ", ".join(f"{name} {change}" for name, change in self.changes.items())
        return [
            Section(f"What if {changes}", lines, Table(columns, rows), "what_if"),
            Section("Assumptions", self.assumptions),
        ]

    @property
    def table(self) -> "pd.DataFrame":
        """By percentile (50 to 99.9), ns: measured, replayed, subtraction, low and high of both."""
        import pandas as pd

        rows = self.rows()
        index = pd.Index([row.pop("percentile") for row in rows], name="percentile", dtype=float)
        frame = pd.DataFrame(rows, index=index)
        return frame.astype(dict.fromkeys(frame.columns[frame.isna().any()], "float64"))

    @property
    def mean(self) -> dict[str, float | None]:
        """Mean of measured, replayed and subtraction, ns; None of no frames."""
        parts = {
            "measured": self.measured_ns,
            "replayed": self.replayed_ns,
            "subtraction": self.subtraction_ns,
        }
        return {name: float(x.mean()) if len(x) else None for name, x in parts.items()}

    def rows(self) -> list[dict[str, Any]]:
        """Return the table as plain values: a dict a percentile; None of no frames."""
        table = []
        for q in PERCENTILES:
            mine, other = _at(self.replayed_ns, q), _at(self.other_ns, q)
            measured = _at(self.measured_ns, q)
            among = (mine, other, measured) if self.warning else (mine, other)
            both = [value for value in among if value is not None]
            table.append(
                {
                    "percentile": q,
                    "measured": measured,
                    "replayed": mine,
                    "subtraction": _at(self.subtraction_ns, q),
                    "low": min(both, default=None),
                    "high": max(both, default=None),
                }
            )
        return table

    def to_dict(self) -> dict[str, Any]:
        """Return all of it but the arrays as values that JSON has."""
        return {
            "format": 1,
            "changes": self.changes,
            "counts": self.counts,
            "hand_over_ns": self.hand_over_ns,
            "mean": self.mean,
            "percentiles": self.rows(),
            "assumptions": list(self.assumptions),
            "warning": self.warning or None,
        }


def _changed(ns: float | None, measured: float | None) -> Cell:
    """Return a time with its part of the measured one as a bar, and the change in percent."""
    if ns is None or not measured:
        return Cell(ns)
    return Cell(ns, bar=ns / measured, note=f"{ns / measured - 1:+.0%}")


def what_if(
    trace: Recordings,
    changes: Mapping[str, Scale] | None = None,
    *,
    servers: Mapping[str, int] | None = None,
    drop: Mapping[str, str | int] | None = None,
    hand_over: str | int | None = None,
    stations: Mapping[str, str | None] | None = None,
    pipeline: Pipeline | None = None,
) -> WhatIf:
    """Return what end_to_end would have been with something changed.

    The frames are sent once more through the stations, in the recorded order: what a quicker stage
    takes from the queue in front of it counts as well.

    Parameters
    ----------
    trace
        As `latprof.blame` takes it. All frames are in memory at once, some 250 bytes each: all of
        them are replayed together.
    changes
        By stage a factor, ``0.9``, or a fixed change with its sign, ``"-2ms"``. No time becomes
        negative. Of a hand-off in front of a station its delay is changed, not its queue.
    servers
        By station how many frames it serves at once, ``{"server": 2}``.
    drop
        By hand-off in front of a station how long frames wait at most, ``{"ipc": "40ms"}``: those
        that would wait longer are dropped there, and the station does not serve them.
    hand_over
        A frame that enters a station this soon after another's departure was queued; None: found
        from the frames, at least 1 us. The result says which it is.
    stations, pipeline
        As `latprof.blame` takes them.

    Raises
    ------
    TraceError
        No stage, station or hand-off of that name, or no such change; sampled or lossy
        recordings; more than 1 % of the frames contradict first in, first out; a station that
        frames come to twice.

    Examples
    --------
    >>> from latprof import Span, Trace
    >>> line = Pipeline("line", ("start", "in", "end"), (Span("queue", "start", "in"),
    ...     Span("work", "in", "end", station="worker")))
    >>> at = {"start": np.arange(4) * 10, "in": np.arange(4) * 20, "end": np.arange(4) * 20 + 20}
    >>> result = what_if(Trace(line, frame_id=np.arange(4), marks=at), {"work": 0.5})
    >>> result.measured_ns.tolist(), result.replayed_ns.tolist(), result.subtraction_ns.tolist()
    ([20, 30, 40, 50], [10, 10, 10, 10], [10, 20, 30, 40])
    """
    for name, given in (("changes", changes), ("servers", servers), ("drop", drop)):
        if given is not None and not isinstance(given, Mapping):
            raise TraceError(f"{name}={given!r}: give a dict by name, {_SUCH[name]} say")
    kind, columns = frames_of(trace, "what_if", pipeline=pipeline, stations=stations)
    changed = changes or {}
    scales = {name: change_of(kind, name, value) for name, value in changed.items()}
    whole = picture(kind, columns, hand_over=hand_over_ns(hand_over))
    counts = servers_of(whole, servers or {})
    limits = limits_of(whole, drop or {})
    breaks = check_order(whole)
    first = replay(whole, scales, servers=counts, limits=limits)
    rows, lengths = whole.end_to_end
    replayed, dropped = _after(lengths, first, rows)
    del first  # of many frames one reading after the other
    other = replayed
    if any(apart.has_other_reading for apart in whole.delays.values()):
        others = {
            name: apart.other_reading(whole.visits[name].begin)
            for name, apart in whole.delays.items()
        }
        second = replay(whole, scales, servers=counts, limits=limits, delays=others)
        other, _ = _after(lengths, second, rows)
        del second, others
    told = [(name, written(value)) for name, value in changed.items()]
    told += [(name, f"{n} server{'s' if n != 1 else ''}") for name, n in counts.items()]
    told += [(name, f"dropped after {format_ns(ns)}") for name, ns in limits.items()]
    # a station may have the name of its stage
    text = {name: ", ".join(what for other, what in told if other == name) for name, _ in told}
    return WhatIf(
        np.sort(lengths),
        replayed,
        np.sort(np.maximum(lengths - subtracted(whole, scales)[rows], 0)),
        other,
        text,
        {"frames": len(rows), "dropped": dropped, "breaks": breaks},
        {name: apart.limit_ns for name, apart in whole.delays.items()},
        _assumptions(whole, counts),
        _warning(whole),
    )


def sensitivity(
    trace: Recordings,
    *,
    less: float = 0.1,
    hand_over: str | int | None = None,
    stations: Mapping[str, str | None] | None = None,
    pipeline: Pipeline | None = None,
) -> "pd.DataFrame":
    """Return what a tenth less of each stage would give, the most at mean first.

    Parameters
    ----------
    trace
        As `latprof.blame` takes it.
    less
        How much less: from 0 to 1.
    hand_over, stations, pipeline
        As `what_if` takes them.

    Returns
    -------
    DataFrame
        By stage: how much less end_to_end would be at ``mean`` and ``p99``, ns, and as
        ``mean_share`` and ``p99_share`` of what was measured.

    Raises
    ------
    TraceError
        As `what_if`.
    """
    import pandas as pd

    if not isinstance(less, int | float | np.number) or not 0 <= less <= 1:
        raise TraceError(f"less={less!r}: give a part from 0 to 1, 0.1 say")
    kind, columns = frames_of(trace, "sensitivity", pipeline=pipeline, stations=stations)
    whole = picture(kind, columns, hand_over=hand_over_ns(hand_over))
    check_order(whole)
    rows, lengths = whole.end_to_end
    table = {}
    for stage in kind.stages:
        scale = change_of(kind, stage.name, 1 - less)
        after = lengths + replay(whole, {stage.name: scale}).shift[rows]
        if not len(rows):
            table[stage.name] = dict.fromkeys(("mean", "mean_share", "p99", "p99_share"), np.nan)
            continue
        mean, p99 = float(lengths.mean() - after.mean()), _p99(lengths) - _p99(after)
        table[stage.name] = {
            "mean": mean,
            "mean_share": mean / lengths.mean() if lengths.any() else 0.0,
            "p99": float(p99),
            "p99_share": p99 / _p99(lengths) if _p99(lengths) else 0.0,
        }
    names = ["mean", "mean_share", "p99", "p99_share"]
    frame = pd.DataFrame.from_dict(table, orient="index", columns=names).astype("float64")
    frame.index.name = "stage"
    return frame.sort_values(["mean", "p99"], ascending=False, kind="stable")


def check_order(whole: Picture) -> int:
    """Return how many frames contradict first in, first out.

    Raises
    ------
    TraceError
        More than 1 % do, in some station.
    """
    breaks = breaks_of(whole)
    for name, count in breaks.items():
        mine = whole.visits[name]
        why = contradiction(name, count, len(mine) + len(mine.unknown))
        if why:
            raise TraceError(why)
    return sum(breaks.values())


def _after(lengths: Ints, replayed: Replayed, rows: Ints) -> tuple[Ints, int]:
    """Return sorted end_to_end of the frames that are not dropped, and how many are."""
    after = replayed.shift[rows]
    after += lengths
    np.maximum(after, 0, out=after)  # a stamp that was too early takes nobody before his start
    kept = replayed.dropped_at[rows] < 0
    gone = len(rows) - int(np.count_nonzero(kept))
    after = after[kept] if gone else after
    after.sort()
    return after, gone


def _assumptions(whole: Picture, servers: Mapping[str, int]) -> tuple[str, ...]:
    lines = [
        "frames start when they did; who is at a station first is served first",
        "a station takes the next frame as soon as it is free; its times do not depend on its load",
        "queues have room for all",
    ]
    for name, apart in whole.delays.items():
        queued = int(np.count_nonzero(apart.queued))
        usual = "not known" if apart.usual_ns is None else format_ns(apart.usual_ns)
        serves = f"it serves {whole.visits[name].servers} at once"
        if name in servers:
            serves = f"{serves} in the recording, {servers[name]} here"
        lines.append(
            f"{name}: a frame that enters within {format_ns(apart.limit_ns)} of a departure counts "
            f"as queued: {queued:,} of {len(apart.queued):,}; delay in front of it {usual}; "
            f"{serves}"
        )
    for name, found in whole.blocked.items():
        lines += [
            f"{name}: its stage {b.stage} was held up by {b.by} (inferred); that time shrinks as "
            f"the time of {b.by} does"
            for b in found
        ]
    return tuple(lines)


def _warning(whole: Picture) -> str:
    room = room_for(whole)
    if room is None:
        return ""
    return (
        f"frames start as others leave, with {room} in flight: their source waits for room, and "
        "would start others instead. What is replayed is the most that can be gained, no forecast"
    )


def _at(values: Ints, q: float) -> int | None:
    return int(values[rank_of(q, len(values)) - 1]) if len(values) else None


def _p99(values: Ints) -> int:
    rank = rank_of(99, len(values)) - 1
    return int(np.partition(values, rank)[rank])
