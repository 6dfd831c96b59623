"""What a change would give: a replay of the recording, beside what plain subtraction says."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from latprof.arrays import Ints
from latprof.errors import TraceError
from latprof.histogram import Histogram, rank_of
from latprof.io.dataset import DatasetLike
from latprof.pipeline import Pipeline
from latprof.queueing.gains import (
    MOST_REPLAYED,
    NEAR,
    Gains,
    GainsSoFar,
    line_times,
    replays_as_line,
)
from latprof.queueing.line import Line
from latprof.queueing.load import LoadedFrames, parse_load, places_in_flight
from latprof.queueing.model import QueueModel
from latprof.queueing.options import MOST_STAGES, Options, server_counts
from latprof.queueing.replay import (
    Change,
    Replayed,
    Scale,
    breaks_of,
    change_of,
    contradiction,
    drop_limits,
    replay,
    subtracted,
)
from latprof.queueing.rooms import Queue, Source
from latprof.queueing.sending import Times
from latprof.queueing.utilization import saturated_processor
from latprof.queueing.windows import Recordings
from latprof.table import Cell, Column, Section, Shown, Table
from latprof.text import counted, quoted
from latprof.units import format_ns

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "PERCENTILES",
    "WhatIf",
    "sensitivity",
    "sensitivity_rows",
    "what_if",
]

_GAINS = ("mean", "mean_share", "p99", "p99_share")

PERCENTILES = (50.0, 90.0, 99.0, 99.9)

_EXAMPLES = {"changes": '{"alsa": 0.9}', "servers": '{"server": 2}', "drop": '{"ipc": "40ms"}'}

_LOAD_DRAWS = 5  # random draws of frames at another load, and as many resampled recordings
_FEWEST_ABOVE = 10  # frames above a percentile, for it to be beyond doubt


@dataclass(frozen=True, eq=False, repr=False)
class WhatIf(Shown):
    """End_to_end as measured, as replayed with the changes, and by plain subtraction.

    `what_if` returns it. ``print(result)`` shows all of it.

    Attributes
    ----------
    table
        A DataFrame by percentile (100 is the maximum), in ns: ``measured``, ``replayed``,
        ``subtraction``, and ``low`` and ``high``, between which all readings of the recording are.
    mean
        Mean of ``measured``, ``replayed`` and ``subtraction`` in ns, ``low`` and ``high``.
    measured_ns, replayed_ns, subtraction_ns
        Sorted arrays, of the finished frames; in the second without those that the changes drop.
    readings_ns
        The replay in other readings of the recording, sorted: of gaps between a departure and the
        next entry, of rooms that are not known, of frames that were due at unknown times, and of a
        change that is 2 % smaller or larger. `assumptions` say which.
    low_ns, high_ns, other_ns
        Sorted: the lowest and the highest of all replays, and the one that differs most.
    waits
        By hand-off, the mean time in it in ns: as recorded, and as replayed.
    filling
        By hand-off in front of a station that serves batches, the part of this time in which a
        batch was not full, in the same form.
    changes
        What was changed, as text.
    counts
        ``frames``; ``dropped`` by the changes; ``breaks`` of first in, first out; ``left_out`` of
        the replay, because a mark is missing or out of order.
    hand_over_ns
        By station: frames that enter this soon after a departure were queued.
    queues, source
        What is known of the queues, by hand-off, and where frames come from.
    assumptions
        What the replay assumes, with its evidence.
    warning
        Why the replay is not a forecast but the most that can be gained; empty if it is one.
    """

    measured_ns: Ints
    replayed_ns: Ints
    subtraction_ns: Ints
    readings_ns: tuple[Ints, ...]
    waits: dict[str, tuple[float, float]]
    changes: dict[str, str]
    counts: dict[str, int]
    hand_over_ns: dict[str, int]
    queues: dict[str, Queue]
    source: Source
    assumptions: tuple[str, ...]
    warning: str = ""
    filling: dict[str, tuple[float, float]] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<WhatIf of {counted(self.counts['frames'], 'frame')}: {self._changes}>"

    @property
    def _changes(self) -> str:
        changes = (f"{name} {change}" for name, change in self.changes.items())
        return ", ".join(changes) or "nothing changes"

    @property
    def table(self) -> "pd.DataFrame":
        """By percentile (50 to 99.9, 100), in ns: measured, replayed, subtraction, low and high.

        ``measured`` is the recording; ``replayed`` the recording with the changes, queues included;
        ``subtraction`` the recording with the change subtracted from each frame, as if there were
        no queues. ``low`` and ``high`` are the lowest and the highest of all readings of the
        recording (see `readings_ns`). If `warning` is not empty, the range also includes
        ``measured``.
        """
        import pandas as pd

        rows = self.rows()
        for row in rows:
            row.pop("doubtful")
        index = pd.Index([row.pop("percentile") for row in rows], name="percentile", dtype=float)
        frame = pd.DataFrame(rows, index=index)
        return frame.astype(dict.fromkeys(frame.columns[frame.isna().any()], "float64"))

    @property
    def low_ns(self) -> Ints:
        """The lowest of all replays, sorted."""
        low: Ints = np.min(self._replays, axis=0)
        return low

    @property
    def high_ns(self) -> Ints:
        """The highest of all replays, sorted."""
        high: Ints = np.max(self._replays, axis=0)
        return high

    @property
    def other_ns(self) -> Ints:
        """The replay that differs most from `replayed_ns`, sorted."""
        mean = self.replayed_ns.mean() if len(self.replayed_ns) else 0.0
        return max(self._replays, key=lambda x: abs(x.mean() - mean) if len(x) else 0.0)

    @property
    def _replays(self) -> list[Ints]:
        same = len(self.replayed_ns)
        found = [self.replayed_ns, *(x for x in self.readings_ns if len(x) == same)]
        with_measured = self.warning and len(self.measured_ns) == same
        return [*found, self.measured_ns] if with_measured else found

    @property
    def mean(self) -> dict[str, float | None]:
        """Mean of measured, replayed and subtraction, low and high in ns, None without frames."""
        parts = {
            "measured": self.measured_ns,
            "replayed": self.replayed_ns,
            "subtraction": self.subtraction_ns,
        }
        means = {name: float(x.mean()) if len(x) else None for name, x in parts.items()}
        replays = [float(x.mean()) for x in self._replays if len(x)]
        return means | {"low": min(replays, default=None), "high": max(replays, default=None)}

    def rows(self) -> list[dict[str, Any]]:
        """Return the table as plain values: a dict for each percentile, None without frames.

        A percentile is ``doubtful`` if fewer than 10 frames are above it. Percentile 100 is the
        maximum.
        """
        table = []
        replays = self._replays
        for q in (*PERCENTILES, 100.0):
            known = [x for x in (_percentile(each, q) for each in replays) if x is not None]
            above = len(self.measured_ns) * (100 - q) / 100
            table.append(
                {
                    "percentile": q,
                    "measured": _percentile(self.measured_ns, q),
                    "replayed": _percentile(self.replayed_ns, q),
                    "subtraction": _percentile(self.subtraction_ns, q),
                    "low": min(known, default=None),
                    "high": max(known, default=None),
                    "doubtful": q < 100 and above < _FEWEST_ABOVE,
                }
            )
        return table

    def sections(self) -> list[Section]:
        """Return what is shown: the changes, a table of end_to_end, the assumptions."""
        counts = self.counts
        lines = [
            f"{counted(counts['frames'], 'frame')}, {counts['dropped']:,} dropped by the change; "
            f"{counts['breaks']:,} contradict first in, first out"
        ]
        if counts["left_out"]:
            lines.append(f"{counts['left_out']:,} left out: a mark is missing or out of order")
        known: list[dict[str, Any]] = [{"name": "mean", **self.mean, "doubtful": False}]
        names_of = {row["percentile"]: f"p{row['percentile']:g}" for row in self.rows()} | {
            100: "max"
        }
        known += [{"name": names_of[row["percentile"]], **row} for row in self.rows()]
        rows = [
            [
                row["name"],
                Cell(row["measured"], doubtful=row["doubtful"]),
                *(
                    _changed(row[name], row["measured"], doubtful=row["doubtful"])
                    for name in ("replayed", "subtraction")
                ),
                row["low"],
                row["high"],
            ]
            for row in known
        ]
        if any(row["doubtful"] for row in known):
            lines.append(f"? fewer than {_FEWEST_ABOVE} frames are above this percentile")
        names = ("measured", "replayed", "by subtraction", "low", "high")
        columns = Column("end to end", "name"), *(Column(name, "time") for name in names)
        times = self.waits | {
            f"{name}, until a batch is full": both for name, both in self.filling.items()
        }
        waits = [(name, before, _changed(after, before)) for name, (before, after) in times.items()]
        waiting = (
            Column("mean time in", "span"),
            Column("measured", "time"),
            Column("replayed", "time"),
        )
        return [
            Section(f"What if {self._changes}", tuple(filter(None, (*lines, self.warning)))),
            Section("", (), Table(columns, rows), "what_if"),
            *([Section("", (), Table(waiting, waits), "waits")] if waits else []),
            Section("Assumptions", self.assumptions),
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return all of it but the arrays as values that JSON can hold."""
        return {
            "format": 1,
            "changes": self.changes,
            "counts": self.counts,
            "hand_over_ns": self.hand_over_ns,
            "mean": self.mean,
            "percentiles": self.rows(),
            "waits": {name: list(both) for name, both in self.waits.items()},
            "filling": {name: list(both) for name, both in self.filling.items()},
            "queues": {name: asdict(queue) for name, queue in self.queues.items()},
            "source": asdict(self.source),
            "assumptions": list(self.assumptions),
            "warning": self.warning or None,
        }


def _changed(ns: float | None, measured: float | None, *, doubtful: bool = False) -> Cell:
    """Return a time with its part of the measured one as a bar, and the change in percent."""
    if ns is None or not measured:
        return Cell(ns)
    return Cell(ns, doubtful=doubtful, bar=ns / measured, note=f"{ns / measured - 1:+.0%}")


def _percentile(ordered: Ints, q: float) -> int | None:
    return int(ordered[rank_of(q, len(ordered)) - 1]) if len(ordered) else None


def what_if(
    trace: DatasetLike,
    changes: Mapping[str, Scale] | None = None,
    *,
    servers: Mapping[str, int] | None = None,
    drop: Mapping[str, str | int] | None = None,
    load: float | str | None = None,
    hand_over: str | int | None = None,
    queues: Mapping[str, int | None] | None = None,
    stations: Mapping[str, str | None] | None = None,
    pipeline: Pipeline | None = None,
) -> WhatIf:
    """Return what end_to_end would have been with something changed.

    The frames are sent through the stations once more, in the recorded order, so that what a
    quicker stage takes from the queue in front of it counts as well.

    Parameters
    ----------
    trace
        A trace, a path, a folder, a glob, or several of them. All their frames are taken together,
        of all sources, dropped ones included. All frames are in memory at once, some 250
        bytes each, because they are replayed together.
    changes
        By stage a factor, ``0.9``, or a fixed change with its sign, ``"-2ms"``. No time becomes
        negative. For a hand-off in front of a station its delay is changed, not its queue.
    servers
        By station how many frames it serves at once here, ``{"server": 2}``.
    drop
        By hand-off in front of a station how long frames wait at most, ``{"ipc": "40ms"}``: those
        that would wait longer are dropped there, and the station does not serve them.
    load
        Another load, as a multiple of the recorded one: ``1.2`` or ``"120%"``. Frames are left out
        or added in whole bursts, of blocks of the recording; periodic starts come at a shorter
        period. It cannot be combined with other changes.
    hand_over, queues, stations, pipeline
        What is known of the queues: see `latprof.queueing.options.Options`.

    Returns
    -------
    WhatIf
        ``table`` is a DataFrame by percentile of end_to_end, in ns: ``measured`` is the recording,
        ``replayed`` the recording with the changes, queues included, ``subtraction`` what
        subtracting the change from each frame says, ``low`` and ``high`` the range of the replay.
        `latprof.WhatIf` describes all fields.

    Raises
    ------
    TraceError
        No stage, station or hand-off of that name, or not a change; sampled or lossy recordings;
        more than 1 % of the frames contradict first in, first out; a station that frames come to
        more than once.
    PipelineError
        A name in `stations` that is not a stage, or a `pipeline` with other marks or spans.

    Examples
    --------
    >>> import numpy as np
    >>> from latprof import Pipeline, Span, Trace, what_if
    >>> line = Pipeline("line", ("start", "in", "end"), (Span("queue", "start", "in"),
    ...     Span("work", "in", "end", station="worker")))
    >>> at = {"start": np.arange(4) * 10, "in": np.arange(4) * 20, "end": np.arange(4) * 20 + 20}
    >>> result = what_if(Trace(line, frame_id=np.arange(4), marks=at), {"work": 0.5})
    >>> result.measured_ns.tolist(), result.replayed_ns.tolist(), result.subtraction_ns.tolist()
    ([20, 30, 40, 50], [10, 10, 10, 10], [10, 20, 30, 40])
    """
    for name, given in (("changes", changes), ("servers", servers), ("drop", drop)):
        if given is not None and not isinstance(given, Mapping):
            raise TraceError(
                f"{name} must be a dict (for example {_EXAMPLES[name]}), got {quoted(given)}"
            )
    options = Options(hand_over=hand_over, queues=queues, stations=stations, pipeline=pipeline)
    recordings = Recordings(trace, "what_if", options)
    given_changes = changes or {}
    scales = {
        name: change_of(recordings.pipeline, name, value) for name, value in given_changes.items()
    }
    model, processor = recordings.model(), saturated_processor(*recordings.processor())
    if load is not None:
        if changes or servers or drop:
            raise TraceError("load must be given without other changes; leave one of them out")
        return _doubted(_at_load(model, parse_load(load)), processor)
    counts, limits = server_counts(model.visits, servers or {}), drop_limits(model, drop or {})
    shown = [
        (name, value.strip() if isinstance(value, str) else f"x {value:g}")
        for name, value in given_changes.items()
    ]
    shown += [(name, f"{n} server{'s' if n != 1 else ''}") for name, n in counts.items()]
    shown += [(name, f"dropped after {format_ns(ns)}") for name, ns in limits.items()]
    # a station may have the name of its stage
    texts = {name: ", ".join(change for same, change in shown if same == name) for name, _ in shown}
    if replays_as_line(model.line):
        if limits:
            raise TraceError(
                "drop must be left out for queues with limited room, got "
                f"{quoted(dict(drop or {}))}; give queues={{...: 0}} for unbounded ones"
            )
        return _doubted(_of_line(model, given_changes, counts, texts), processor)
    if model.unordered_batches:
        raise TraceError(model.unordered_batches)
    breaks = _check_order(model)
    first = replay(model, scales, servers=counts, limits=limits)
    rows, lengths = model.end_to_end
    replayed, dropped = _after(lengths, first, rows)
    waits = first.waits
    del first  # only one reading of many frames in memory
    others: tuple[Ints, ...] = ()
    if any(delays.is_ambiguous for delays in model.delays.values()):
        readings = {
            name: delays.with_all_queued(model.visits[name].begin)
            for name, delays in model.delays.items()
        }
        second = replay(model, scales, servers=counts, limits=limits, delays=readings)
        others = (_after(lengths, second, rows)[0],)
        del second, readings
    result = WhatIf(
        np.sort(lengths),
        replayed,
        np.sort(np.maximum(lengths - subtracted(model, scales)[rows], 0)),
        others,
        waits,
        texts,
        {"frames": len(rows), "dropped": dropped, "breaks": breaks, "left_out": 0},
        {name: delays.limit_ns for name, delays in model.delays.items()},
        model.queues,
        Source(),
        _assumptions(model, counts),
        _warning(model),
    )
    return _doubted(result, processor)


def _doubted(result: WhatIf, reason: str) -> WhatIf:
    """Return the result with one more warning, if there is a reason."""
    return replace(result, warning=". ".join(filter(None, (reason, result.warning))))


def _of_line(
    model: QueueModel,
    given: Mapping[str, Scale],
    counts: Mapping[str, int],
    texts: dict[str, str],
) -> WhatIf:
    """Replay a line of stations with limited room, in all readings of the recording."""
    whole = model.line
    assert whole is not None
    line = whole.of_rows(model.counted).first(MOST_REPLAYED)
    pipeline = model.stations.pipeline

    def scales(more: float) -> dict[str, Change]:
        factors = {
            name: value if isinstance(value, str) else max(value + more * (value != 1), 0.0)
            for name, value in given.items()
        }
        return {name: change_of(pipeline, name, value) for name, value in factors.items()}

    servers = [counts.get(name or "", c) for name, c in zip(line.names, line.servers, strict=True)]
    if line.has_batches and servers != line.servers:
        raise TraceError("servers must be left out if a station serves batches")
    near = [scales(0.0), scales(-NEAR), scales(NEAR)]
    replays: list[Ints] = []
    waits: dict[str, tuple[float, float]] = {}
    filling: dict[str, tuple[float, float]] = {}
    for i, reading in enumerate(line.readings()):
        scenarios = near if i == 0 and max(servers) == 1 else near[:1]
        times = line_times(model, reading, scenarios)
        begins, leave = reading.replay(len(scenarios), *times, servers)
        if i == 0:
            waits, filling = _waits_of(line, begins, times)
        replays += list(np.sort(leave - begins[0], axis=1))
    lengths = line.leave - line.begin[0]
    less = subtracted(model, near[0])[line.rows]
    left_out = int(np.count_nonzero(model.counted)) - len(line)
    lines = [f"{name}: {queue.text}" for name, queue in model.queues.items()]
    common = line.with_common_room()
    for handoff, before, after in zip(line.handoffs[1:], line.queues, common.queues, strict=True):
        if before.room is None and after.room:
            lines.append(f"{handoff}: taken as room {after.room}, which other queues have")
        elif before.room is None and handoff is not None:
            lines.append(f"{handoff}: taken as unbounded; the range includes room {before.most}")
    lines.append(f"source: {line.source.text}")
    if line.source.kind == "irregular":
        lines.append(
            "the range is between frames that were due when they started and a source that always "
            "has another frame"
        )
    for k, (name, count, was) in enumerate(zip(line.names, servers, line.servers, strict=True)):
        if line.batches[k] is not None:
            lines.append(
                f"{name} serves one batch at once, of {line.batch_size(k):.3g} frames on average: "
                "the same frames as in the recording"
            )
        elif name is not None:
            here = f", {count} here" if count != was else ""
            frames = "one frame" if was == 1 else f"{was} frames"
            frames = "any number of frames" if model.has_no_bound(name) else frames
            lines.append(f"{name} serves {frames} at once{here}, first in, first out")
    if len(near) > 1 and any(not isinstance(value, str) for value in given.values()):
        lines.append("the range includes factors that are 0.02 smaller and larger")
    if len(whole) > len(line) and left_out > whole.left_out:
        lines.append(f"replayed are the first {len(line):,} of {len(whole):,} frames")
    unknown = not any(queue.room for queue in common.queues)
    warning = ""
    if unknown and line.source.kind in ("closed", "paused"):
        warning = "the room of no queue is known: give queues= (--queue HANDOFF=8); this is not a "
        warning += "forecast"
    return WhatIf(
        np.sort(lengths),
        replays[0],
        np.sort(np.maximum(lengths - less, 0)),
        tuple(replays[1:]),
        waits,
        texts,
        {"frames": len(line), "dropped": 0, "breaks": 0, "left_out": left_out},
        {},
        model.queues,
        line.source,
        tuple(lines),
        warning,
        filling,
    )


def _waits_of(
    line: Line, begins: list[Ints], times: tuple[list[Times], list[Times], list[Times]]
) -> tuple[dict[str, tuple[float, float]], dict[str, tuple[float, float]]]:
    """Return the mean time in each hand-off, and until batches are full.

    Each is as recorded, and as replayed in the first scenario.
    """
    waits, filling = {}, {}
    work, travel, _ = times

    def mean(later: Ints, sooner: Ints) -> float:
        """Return the mean of a difference, 0 without frames."""
        return float((later - sooner).mean()) if len(line) else 0.0

    for k, handoff in enumerate(line.handoffs):
        if handoff is None or not k:
            continue
        served, taken = line.served(k, begins[k][0]), begins[k][0]
        sent = line.served(k - 1, begins[k - 1][0]) + work[k - 1].of(0) + travel[k - 1].of(0)
        waits[handoff] = mean(line.served(k), line.arrive[k]), mean(served, sent)
        if line.batches[k] is not None:
            filling[handoff] = mean(line.served(k), line.begin[k]), mean(served, taken)
    return waits, filling


def _at_load(model: QueueModel, load: float) -> WhatIf:
    """Return the answer for another load: the mean of random draws, and resampled recordings."""
    frames = LoadedFrames(model, "what_if with load=")
    measured = np.sort(frames.measured_ns)
    n = len(measured)

    def quantiles(draw: int, resampled: bool) -> Ints:
        """Return n latencies, as another load has another number of frames."""
        found = np.sort(frames.latencies(load, draw, resampled=resampled))
        return found[-(-np.arange(1, n + 1) * len(found) // n) - 1]

    drawn = [quantiles(draw, False) for draw in range(_LOAD_DRAWS)]
    others = drawn + [quantiles(draw, True) for draw in range(_LOAD_DRAWS)]
    return WhatIf(
        measured,
        np.rint(np.mean(drawn, axis=0)).astype(np.int64),
        measured,
        tuple(others) if load != 1 else (),
        {},
        {"load": f"x {load:g}"},
        {"frames": len(measured), "dropped": 0, "breaks": sum(breaks_of(model).values())}
        | {"left_out": frames.left_out},
        {name: delays.limit_ns for name, delays in model.delays.items()},
        model.queues,
        Source() if model.line is None else model.line.source,
        frames.assumptions(),
        frames.warning(load),
    )


def sensitivity(
    trace: DatasetLike,
    *,
    less: float = 0.1,
    hand_over: str | int | None = None,
    servers: Mapping[str, int] | None = None,
    queues: Mapping[str, int | None] | None = None,
    stations: Mapping[str, str | None] | None = None,
    pipeline: Pipeline | None = None,
) -> "pd.DataFrame":
    """Return what a tenth less of each stage would give, the largest gain of the mean first.

    Parameters
    ----------
    trace
        A trace, a path, a folder, a glob, or several of them. All their frames are taken together,
        of all sources, dropped ones included.
    less
        How much less, from 0 to 1.
    hand_over, servers, queues, stations, pipeline
        What is known of the queues: see `latprof.queueing.options.Options`.

    Returns
    -------
    DataFrame
        By stage: by how much end_to_end would be less at ``mean`` and ``p99``, in ns, and as
        ``mean_share`` and ``p99_share`` of what was measured.

    Raises
    ------
    TraceError
        `less` is not a number from 0 to 1; sampled or lossy recordings; more than 1 % of the
        frames contradict first in, first out; a station that frames come to more than once.
    PipelineError
        A name in `stations` that is not a stage, or a `pipeline` with other marks or spans.

    Examples
    --------
    >>> import numpy as np
    >>> from latprof import Pipeline, Span, Trace, sensitivity
    >>> line = Pipeline("line", ("start", "in", "end"), (Span("queue", "start", "in"),
    ...     Span("work", "in", "end", station="worker")))
    >>> at = {"start": np.arange(4) * 10, "in": np.arange(4) * 20, "end": np.arange(4) * 20 + 20}
    >>> sensitivity(Trace(line, frame_id=np.arange(4), marks=at), less=0.5)["mean"].to_dict()
    {'work': 25.0, 'queue': 0.0}
    """
    import pandas as pd

    options = Options(hand_over, MOST_STAGES, servers, queues, stations, pipeline)
    rows = sensitivity_rows(trace, options, less=less)
    index = pd.Index([row.pop("stage") for row in rows], name="stage", dtype=object)
    return pd.DataFrame(rows, index=index, columns=list(_GAINS), dtype="float64")


def sensitivity_rows(
    trace: DatasetLike, options: Options, *, less: float = 0.1
) -> list[dict[str, Any]]:
    """Return the table of `sensitivity` as plain values: a dict for each stage.

    Raises
    ------
    TraceError
        See `what_if`.
    """
    number = isinstance(less, int | float | np.number) and not isinstance(less, bool)
    if not number or not 0 <= less <= 1:
        raise TraceError(f"less must be a number from 0 to 1, got {quoted(less)}")
    recordings = Recordings(trace, "sensitivity", options)

    def replayed(models: Iterator[QueueModel]) -> tuple[Gains | None, str, GainsSoFar]:
        so_far, gains, why = GainsSoFar(less, spread=True), Gains(), ""
        for model in models:
            found, reason = so_far.of(model)
            if found is None:
                return None, reason, so_far
            gains = gains + found
        return gains, why, so_far

    gains, why, so_far = recordings.in_windows(replayed)
    if gains is None:
        raise TraceError(why)
    ends = so_far.ends or {}
    before = ends.get(None, Histogram())
    table: list[dict[str, Any]] = []
    for stage in recordings.pipeline.stages:
        row: dict[str, Any] = {"stage": stage.name, **dict.fromkeys(_GAINS)}
        if gains.frames:
            whole, after = gains.end_to_end / gains.frames, ends.get(stage.name, before)
            mean = gains.gain.get(stage.name, 0.0) / gains.frames
            p99, then = before.value_at(99) or 0, after.value_at(99) or 0
            row |= {"mean": mean, "p99": float(p99 - then)}
            row["mean_share"] = mean / whole if whole else 0.0
            row["p99_share"] = (p99 - then) / p99 if p99 else 0.0
        table.append(row)
    return sorted(table, key=lambda row: (-(row["mean"] or 0), -(row["p99"] or 0)))


def _check_order(model: QueueModel) -> int:
    """Return how many frames contradict first in, first out.

    Raises
    ------
    TraceError
        More than 1 % do at some station.
    """
    breaks = breaks_of(model)
    for name, count in breaks.items():
        mine = model.visits[name]
        why = contradiction(name, count, len(mine) + len(mine.unknown))
        if why:
            raise TraceError(why)
    return sum(breaks.values())


def _after(lengths: Ints, replayed: Replayed, rows: Ints) -> tuple[Ints, int]:
    """Return sorted end_to_end of the frames that are not dropped, and how many are."""
    after = replayed.shift[rows]
    after += lengths
    np.maximum(after, 0, out=after)  # marks that were too early may put an end before its start
    kept = replayed.dropped_at[rows] < 0
    dropped = len(rows) - int(np.count_nonzero(kept))
    after = after[kept] if dropped else after
    after.sort()
    return after, dropped


def _assumptions(model: QueueModel, servers: Mapping[str, int]) -> tuple[str, ...]:
    lines = [
        "frames start when they did; the first to arrive at a station is served first",
        "a station takes the next frame as soon as it is free; its times do not depend on its load",
        "queues have room for all frames",
    ]
    for name, delays in model.delays.items():
        queued = int(np.count_nonzero(delays.queued))
        usual = "unknown" if delays.usual_ns is None else format_ns(delays.usual_ns)
        serves = f"it serves {model.visits[name].servers} at once"
        if model.has_no_bound(name):
            serves = f"up to {model.visits[name].servers} frames overlap, without a bound"
        if name in servers:
            serves = f"{serves} in the recording, {servers[name]} here"
        lines.append(
            f"{name}: a frame that enters within {format_ns(delays.limit_ns)} of a departure "
            f"counts as queued: {queued:,} of {len(delays.queued):,}; delay in front of it "
            f"{usual}; {serves}"
        )
    for name, found in model.blocked.items():
        lines += [
            f"{name}: its stage {b.stage} was held up by {b.by} (inferred); that time shrinks as "
            f"the time of {b.by} does"
            for b in found
        ]
    return tuple(lines)


def _warning(model: QueueModel) -> str:
    places = places_in_flight(model)
    if places is None:
        return ""
    return (
        f"frames start as others leave, with {places} in flight: their source waits for room, and "
        "would start others instead. The replay shows the most that can be gained, not a forecast"
    )
