"""Finds how much more load a pipeline takes before end to end exceeds a limit."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from latprof.arrays import Ints
from latprof.errors import TraceError
from latprof.histogram import rank_of
from latprof.io.dataset import DatasetLike
from latprof.pipeline import Pipeline
from latprof.queueing.load import LEAST_LOAD, MOST_LOAD, LoadedFrames
from latprof.queueing.options import MOST_STAGES, Options
from latprof.queueing.windows import Recordings
from latprof.table import Cell, Column, Section, Shown, Table, data_frame
from latprof.text import escape, quoted
from latprof.units import format_exact, format_ns, parse_duration

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Headroom", "Limit", "headroom", "parse_limit"]

_DRAWS = 4  # random draws for one load; their results are averaged
_MANY_DRAWS = 12  # the same, if blocks are short and recordings are resampled
_RESAMPLED = 30  # resampled recordings, for the interval
_INTERVAL = (2.5, 97.5)  # percentiles of the loads of the resampled recordings
_PRECISION = 0.002  # of the highest load, as a part of it
_CURVE = 12  # loads of the curve
_CURVE_DRAWS = 5  # resampled recordings, for the range of the curve

_LIMIT = re.compile(r"\s*(mean|p(\d{1,2}(?:\.\d+)?))\s*(<=|<)\s*(.+)")


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit of the mean or a percentile of end to end.

    `percentile` is None for the mean. The limit is kept by values below `ns`, and by `ns` itself if
    `inclusive`.
    """

    percentile: float | None
    ns: int
    inclusive: bool

    @property
    def name(self) -> str:
        """``"mean"`` or, for example, ``"p99"``."""
        return "mean" if self.percentile is None else f"p{self.percentile:g}"

    def __str__(self) -> str:
        return f"{self.name} {'<=' if self.inclusive else '<'} {format_ns(self.ns)}"

    def keeps(self, value: float) -> bool:
        """Return whether a value in ns keeps the limit."""
        return value <= self.ns if self.inclusive else value < self.ns

    def of(self, latencies: Ints) -> float:
        """Return the mean or the percentile of latencies (n,) in ns; n is at least 1."""
        return _statistic(latencies, self.percentile)


def parse_limit(value: object) -> Limit:
    """Return a limit from text.

    Raises
    ------
    TraceError
        It is not a limit.

    Examples
    --------
    >>> parse_limit("p99<50ms")
    Limit(percentile=99.0, ns=50000000, inclusive=False)
    """
    found = _LIMIT.fullmatch(value) if isinstance(value, str) else None
    if found is None or (found[2] is not None and not float(found[2]) > 0):
        raise TraceError(
            "limit must be of the mean or a percentile of end_to_end (for example 'p99<50ms' or "
            f"'mean<=2ms'), got {quoted(value)}"
        )
    ns = parse_duration(found[4], name="limit", error=TraceError)
    return Limit(None if found[2] is None else float(found[2]), ns, found[3] == "<=")


@dataclass(frozen=True, eq=False, repr=False)
class Headroom(Shown):
    """The highest load at which end to end keeps a limit, as `headroom` returns it.

    ``print(result)`` shows all of it. Loads are multiples of the recorded load.

    Attributes
    ----------
    limit
        The limit that must be kept.
    load, low, high
        The highest load that keeps the limit, and its 95 % interval over resampled blocks of the
        recording. 0 if the limit is exceeded at any load.
    station
        The station that gives out first: the busiest one at that load. None if there is none.
    busy
        By station the share of the time in which its servers would be busy at `load`.
    saturated
        True if the limit is kept until a station is saturated: `load` is the load it can serve.
    measured_ns
        The limited value as it was recorded.
    per_second
        Frames a second that were recorded.
    most_seen
        The highest load of a sixteenth of the recording.
    frames
        Number of frames that were replayed.
    curve
        By load, in ns: ``mean``, ``p50``, ``p90``, ``p99``, ``limited`` (the value that the limit
        is of), and ``low`` and ``high``, its range over resampled blocks.
    assumptions
        What the replay assumes.
    warning
        Why the result should not be trusted, or an empty text.
    """

    limit: Limit
    load: float
    low: float
    high: float
    station: str | None
    busy: dict[str, float]
    saturated: bool
    measured_ns: float
    per_second: float
    most_seen: float
    frames: int
    curve: tuple[dict[str, float], ...]
    assumptions: tuple[str, ...]
    warning: str = ""

    def __repr__(self) -> str:
        return f"<Headroom: {self.limit} up to {self.load:.2f} x the recorded load>"

    @property
    def sentence(self) -> str:
        """The result in one sentence."""
        name, limit = self.limit.name, format_exact(self.limit.ns)
        if not self.load:
            return (
                f"{name} of end to end is above {limit} at any load: frames that do not wait take "
                "longer"
            )
        rate = f"{self.load * self.per_second:,.1f} frames/s"
        where = (
            f"{_multiple(self.load)} times the recorded load ({rate}; 95 % interval "
            f"{_multiple(self.low)} to {_multiple(self.high)})"
        )
        if self.load == MOST_LOAD:
            return f"{name} of end to end stays below {limit} up to {where}, the highest load tried"
        until = "until" if self.saturated else "up to"
        stays = "stays" if self.load >= 1 else "would stay"
        result = f"{name} of end to end {stays} below {limit} {until} {where}"
        if self.station is None:
            return result
        busy = min(self.busy[self.station], 1.0)
        return f"{result}; {escape(self.station)} gives out first: it is {busy:.0%} busy then"

    @property
    def table(self) -> "pd.DataFrame":
        """`curve` as a DataFrame by load."""
        return data_frame(self.curve, "load", {"load": "float64"})

    def sections(self) -> list[Section]:
        """Return what is shown: the result, latency by load, the stations, the assumptions."""
        names = ("mean", "p50", "p99", "low", "high")
        columns = (Column("load", "share"), *(Column(self._column(name), "time") for name in names))
        rows = [[row["load"], *(row[name] for name in names)] for row in self.curve]
        stations: list[list[Cell | str | float]] = [
            [name, busy, busy / self.load if self.load else busy]
            for name, busy in self.busy.items()
        ]
        busy_columns = (
            Column("station", "name"),
            Column("busy at that load", "share"),
            Column("as recorded", "share"),
        )
        return [
            Section(f"Headroom: {self.limit}", tuple(filter(None, (self.sentence, self.warning)))),
            Section("", (), Table(columns, rows), "headroom"),
            Section("", (), Table(busy_columns, stations)),
            Section("Assumptions", self.assumptions),
        ]

    def _column(self, name: str) -> str:
        return f"{self.limit.name}, {name}" if name in ("low", "high") else name

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as values that JSON can hold."""
        return {
            "format": 1,
            "limit": {"value": self.limit.name, "ns": self.limit.ns, "text": str(self.limit)},
            "load": self.load,
            "low": self.low,
            "high": self.high,
            "station": self.station,
            "busy": self.busy,
            "saturated": self.saturated,
            "measured_ns": self.measured_ns,
            "per_second": self.per_second,
            "most_seen": self.most_seen,
            "frames": self.frames,
            "curve": list(self.curve),
            "sentence": self.sentence,
            "assumptions": list(self.assumptions),
            "warning": self.warning or None,
        }


def headroom(
    trace: DatasetLike,
    limit: str,
    *,
    hand_over: str | int | None = None,
    servers: Mapping[str, int] | None = None,
    queues: Mapping[str, int | None] | None = None,
    stations: Mapping[str, str | None] | None = None,
    pipeline: Pipeline | None = None,
) -> Headroom:
    """Return the highest load at which end to end keeps a limit.

    The recording is replayed, queues included, with frames left out or added: bursts stay, and
    periodic starts come at a shorter period.

    Parameters
    ----------
    trace
        A trace, a path, a folder, a glob, or several of them. All their frames are taken together.
    limit
        A limit of the mean or a percentile of end_to_end: ``"p99<50ms"``, ``"mean<=2ms"``.
    hand_over, servers, queues, stations, pipeline
        What is known of the queues: see `latprof.queueing.options.Options`.

    Returns
    -------
    Headroom
        ``load`` is the highest load as a multiple of the recorded one, ``low`` and ``high`` its
        95 % interval over resampled blocks of the recording, ``station`` the one that gives out
        first.

    Raises
    ------
    TraceError
        Not a limit; fewer than 100 frames; a closed source, which starts frames as others leave;
        sampled or lossy recordings; more than 1 % of the frames contradict first in, first out; a
        station that frames come to more than once.
    PipelineError
        A name in `stations` that is not a stage, or a `pipeline` with other marks or spans.

    Examples
    --------
    >>> import numpy as np
    >>> from latprof import Pipeline, Span, Trace, headroom
    >>> line = Pipeline("line", ("start", "in", "end"), (Span("queue", "start", "in"),
    ...     Span("work", "in", "end", station="worker")))
    >>> n = np.arange(1_000)  # a frame each 20 ms, which is served in 10 ms
    >>> at = {"start": n * 20_000_000, "in": n * 20_000_000, "end": n * 20_000_000 + 10_000_000}
    >>> result = headroom(Trace(line, frame_id=n, marks=at), "p99<15ms")
    >>> round(result.load, 2), result.station, result.saturated
    (2.0, 'worker', True)
    """
    given = parse_limit(limit)
    options = Options(hand_over, MOST_STAGES, servers, queues, stations, pipeline)
    recordings = Recordings(trace, "headroom", options)
    return _Search(LoadedFrames(recordings.model(), "headroom"), given).result()


class _Search:
    """The loads at which a limit is kept, and the latencies at a load."""

    def __init__(self, frames: LoadedFrames, limit: Limit) -> None:
        self.frames, self.limit = frames, limit
        busiest = max(frames.busy.values(), default=0.0)
        self.most = min(1 / busiest, MOST_LOAD) if busiest else MOST_LOAD
        """The load that the busiest station can serve."""
        self.draws = range(_MANY_DRAWS if frames.arrivals.are_short else _DRAWS)

    def ends(self, load: float, draws: range, *, resampled: bool) -> Ints:
        """Return the latencies at a load of the frames of some draws together."""
        ends = [self.frames.latencies(load, draw, resampled=resampled) for draw in draws]
        return np.concatenate(ends)

    def highest(self, draws: range, *, resampled: bool = False, near: float | None = None) -> float:
        """Return the highest load that keeps the limit, at most `most`; 0 if none does.

        With `near`, the search begins around that load.
        """
        low, high = min(1.0, self.most / 2), self.most
        if near is not None:
            low, high = near * 0.95, min(near * 1.05, self.most)

        def keeps(load: float) -> bool:
            return self.limit.keeps(self.limit.of(self.ends(load, draws, resampled=resampled)))

        while keeps(high):
            if high == self.most:
                return high
            low, high = high, min(high * 1.1, self.most)
        while not keeps(low):
            low, high = low * (0.5 if near is None else 0.9), low
            if low < LEAST_LOAD:
                return 0.0
        while high - low > _PRECISION * low:
            middle = (low + high) / 2
            low, high = (middle, high) if keeps(middle) else (low, middle)
        return low

    def result(self) -> Headroom:
        """Search for the highest load, and return the result."""
        frames, limit = self.frames, self.limit
        load = self.highest(self.draws, resampled=frames.arrivals.are_short)
        low = high = 0.0
        if load:
            others = [
                self.highest(range(draw, draw + 1), resampled=True, near=load)
                for draw in range(_MANY_DRAWS, _MANY_DRAWS + _RESAMPLED)
            ]
            # each of these is one draw, shorter than all draws of `load` together: their spread is
            # used, scaled so that their median is `load`
            low, high = np.percentile(others, _INTERVAL) * (load / (np.median(others) or load))
        busy = {name: share * (load or 1.0) for name, share in frames.busy.items()}
        station = max(busy, key=busy.__getitem__) if busy and load else None
        return Headroom(
            limit,
            load,
            float(min(low, load)),
            float(max(high, load)),
            station,
            busy,
            load == self.most,
            limit.of(frames.measured_ns),
            frames.arrivals.per_second,
            frames.arrivals.most_seen,
            len(frames.measured_ns),
            self.curve(load),
            frames.assumptions(),
            frames.warning(load),
        )

    def curve(self, load: float) -> tuple[dict[str, float], ...]:
        """Return latencies by load, from a fifth of the recorded load to more than `load`."""
        most = min(max(load, 1.0) * 1.2, self.most)
        loads = np.linspace(min(0.2, most / 4), most, _CURVE).tolist()
        loads = sorted({*loads, 1.0, *([load] if load else [])})
        rows = []
        for at in loads:
            ends = self.frames.measured_ns
            if at != 1.0:
                ends = self.ends(at, self.draws, resampled=self.frames.arrivals.are_short)
            row = {"load": at, "mean": float(ends.mean())}
            for name, q in (("p50", 50.0), ("p90", 90.0), ("p99", 99.0)):
                row[name] = _statistic(ends, q)
            row["limited"] = self.limit.of(ends)
            drawn = [
                self.limit.of(self.ends(at, range(draw, draw + 1), resampled=True))
                for draw in range(_CURVE_DRAWS)
            ]
            row["low"], row["high"] = min(*drawn, row["limited"]), max(*drawn, row["limited"])
            rows.append(row)
        return tuple(rows)


def _multiple(load: float) -> str:
    """Return a load with three digits near 1, where they count, and two elsewhere."""
    return f"{load:.3f}" if 0.95 < load < 1.05 else f"{load:.2f}"


def _statistic(latencies: Ints, percentile: float | None) -> float:
    """Return the mean or a percentile of latencies (n,) in any order."""
    if percentile is None:
        return float(latencies.mean())
    rank = rank_of(percentile, len(latencies)) - 1
    return float(np.partition(latencies, rank)[rank])
