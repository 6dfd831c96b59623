"""How busy stations are, and whether queues grow without bound."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from latprof.arrays import Floats, Ints, Mask
from latprof.frames import MISSING
from latprof.io.dataset import DatasetLike
from latprof.pipeline import Pipeline
from latprof.queueing.model import QueueModel
from latprof.queueing.options import MOST_STAGES, Options
from latprof.queueing.stations import is_unbounded, stations_of
from latprof.queueing.windows import Recordings
from latprof.table import Section, Shown, data_frame
from latprof.text import escape
from latprof.units import format_ns, format_utc

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Growth",
    "Load",
    "Utilization",
    "saturated_processor",
    "utilization",
]

_WINDOWS = 100  # of time, for plots
_BATCHES = 16  # of frames in order of arrival, for the growth of a queue
_T_14 = 2.145  # Student's t, 97.5 %, 14 degrees of freedom: 15 differences of batches
_FEWEST_WAITS = 64  # frames since the onset of growth
_LEAST_LASTING = 0.05  # share of the recording since the onset
_SATURATED = 0.9  # of the cores
_MOST_WAITS = 1 << 20  # waits since the onset that are kept; of more, every second one is


@dataclass(frozen=True, slots=True)
class Growth:
    """A queue that grows until the recording ends.

    `onset_ns` is when it began to grow (UTC). `rate` is by how much longer frames wait with each
    second, in ns, and `low` and `high` are its 95 % interval.
    """

    onset_ns: int
    rate: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Load:
    """How busy one station was, and how its queue developed.

    Attributes
    ----------
    busy
        Share of the time from the first entry to the last departure in which the station served;
        of several servers the mean. None without visits or without a bound.
    longest_busy_ns, longest_busy_begin_ns
        The longest time in which no server was idle for longer than a hand-over, and when it began.
    in_front_mean, in_front_most
        Frames that had arrived in front of the station and not entered, transport included.
    growth
        How the queue grows until the end, or None if it empties again.
    is_unbounded
        True if frames overlap without a bound that is seen, as in an event loop: then `servers` is
        the largest number of frames at once, and `busy` is not known.
    """

    station: str
    servers: int
    visits: int
    busy: float | None
    longest_busy_ns: int
    longest_busy_begin_ns: int | None
    in_front_mean: float | None
    in_front_most: int
    growth: Growth | None
    is_unbounded: bool = False

    @property
    def shown(self) -> str:
        """How busy it was, in two words."""
        if self.is_unbounded:
            return "without bound"
        return "not used" if self.busy is None else f"{self.busy:.0%} busy"

    @property
    def sentence(self) -> str:
        """One sentence on the station."""
        if self.is_unbounded:
            return (
                f"{self.station}: up to {self.servers} frames overlapped, without waiting for each "
                "other: concurrency without a bound, as in an event loop"
            )
        if self.busy is None:
            return f"{self.station}: no frame was served"
        line = (
            f"{self.station}: busy {self.busy:.0%}, for {format_ns(self.longest_busy_ns)} in a row"
        )
        if self.growth is None and not self.in_front_most:
            return f"{line}; no frame is seen to wait in front of it"
        if self.growth is None:
            return f"{line}; its queue empties again"
        rate = self.growth
        return (
            f"{line}; saturated since {format_utc(rate.onset_ns)}: frames wait "
            f"{format_ns(rate.rate)} longer each second "
            f"({format_ns(rate.low)} to {format_ns(rate.high)})"
        )


@dataclass(frozen=True, eq=False, repr=False)
class Utilization(Shown):
    """The load of each station, by name, and busy shares by window of time for plots.

    `window_ns` (m + 1,) are the edges of the windows, `busy` by station the share of each (m,).
    """

    loads: dict[str, Load]
    window_ns: Ints
    busy: dict[str, Floats]

    def __repr__(self) -> str:
        busy = (
            f"{escape(name)} {load.shown}{'' if load.growth is None else ', saturated'}"
            for name, load in self.loads.items()
        )
        return f"<Utilization: {'; '.join(busy) or 'no stations'}>"

    def __getitem__(self, station: str) -> Load:
        return self.loads[station]

    @property
    def table(self) -> "pd.DataFrame":
        """By station: the fields of `Load`, with those of `Growth` beside them; times in ns."""
        rows = self.rows()
        types: dict[str, str | None] = {}
        for name in rows[0] if rows else ():
            # other values show what they are; stamps are too long for floats
            types[name] = "Int64" if name in ("longest_busy_begin_ns", "onset_ns") else None
        return data_frame(rows, "station", types | {"station": "object"})

    def rows(self) -> list[dict[str, Any]]:
        """Return the table as plain values: a dict per station; unknown values are None."""
        table = []
        for load in self.loads.values():
            row = asdict(load)
            growth = row.pop("growth") or {}
            row |= {"saturated": bool(growth), "onset_ns": growth.get("onset_ns")}
            row |= {"growth": growth.get("rate")}
            row |= {f"growth_{name}": growth.get(name) for name in ("low", "high")}
            table.append(row)
        return table

    @property
    def sentences(self) -> list[str]:
        """One sentence for each station."""
        return [load.sentence for load in self.loads.values()]

    def sections(self) -> list[Section]:
        """Return what is shown: a sentence for each station."""
        return [Section("Stations", tuple(self.sentences))]


def utilization(
    trace: DatasetLike,
    *,
    hand_over: str | int | None = None,
    servers: Mapping[str, int] | None = None,
    queues: Mapping[str, int | None] | None = None,
    stations: Mapping[str, str | None] | None = None,
    pipeline: Pipeline | None = None,
) -> Utilization:
    """Return how busy each station was, and whether it could keep up.

    A station is saturated if, from some moment until the end of the recording, its queue is never
    empty, and if frames waited longer and longer in both halves of that time. A burst or a stall
    makes a queue as well, but that queue shrinks again. Frames that say when they were ``due`` wait
    from then on for the station that they start in.

    Parameters
    ----------
    trace
        A trace, a path, a folder, a glob, or several of them. All their frames are taken together,
        of all sources, dropped ones included.
    hand_over, servers, queues, stations, pipeline
        What is known of the queues: see `latprof.queueing.options.Options`.

    Returns
    -------
    Utilization
        ``result["worker"]`` is the `Load` of a station: its busy share, the longest time without a
        pause, the frames in front of it, the growth of its queue. ``table`` is a DataFrame of
        these, and ``sentences`` says them.

    Raises
    ------
    TraceError
        Sampled or lossy recordings.
    """
    options = Options(hand_over, MOST_STAGES, servers, queues, stations, pipeline)
    recordings = Recordings(trace, "utilization", options, from_due=True)
    names, given = stations_of(recordings.pipeline).names, recordings.servers

    def loads_of(
        models: Iterable[QueueModel],
    ) -> tuple[dict[str, _StationLoad], list[QueueModel]]:
        """Return the load of each station, and the only window if there is one."""
        loads, kept = {name: _StationLoad(name, name in given) for name in names}, []
        for count, model in enumerate(models):
            kept = [] if count else [model]
            for load in loads.values():
                load.add(model)
        return loads, kept

    loads, kept = recordings.in_windows(loads_of)
    used = [load for load in loads.values() if load.visits]
    if not used:
        return Utilization(
            {name: load.result() for name, load in loads.items()}, np.zeros(0, np.int64), {}
        )
    first, last = min(load.first for load in used), max(load.last for load in used)
    edges = first + max(-(-(last - first) // _WINDOWS), 1) * np.arange(_WINDOWS + 1)

    def busy_until(models: Iterable[QueueModel]) -> dict[str, Ints]:
        """Return the busy time of each station up to each edge."""
        times = {name: np.zeros(len(edges), np.int64) for name in names}
        for model in models:
            for name in names:
                times[name] += _busy_until(model, name, edges)
        return times

    # recordings of more than one window are read once more, now that the edges are known
    times = busy_until(kept) if kept else recordings.in_windows(busy_until)
    widths = np.diff(edges)
    busy = {name: np.diff(x) / (widths * loads[name].servers) for name, x in times.items()}
    return Utilization({name: load.result() for name, load in loads.items()}, edges, busy)


def _busy_until(model: QueueModel, name: str, times: Ints) -> Ints:
    """Return how long (ns) a station served new visits up to each of `times`.

    That is the sum of the times since all begins, minus the sum of those since all ends.
    """
    mine, result = model.visits[name], np.zeros(len(times), np.int64)
    new = model.new[mine.frame] & mine.first
    for stamps, sign in ((mine.begin[new], 1), (np.sort(mine.end[new]), -1)):
        if len(stamps):
            base = int(stamps[0])
            sums = np.concatenate([[0], np.cumsum(stamps - base)])
            count = np.searchsorted(stamps, times, side="right")
            result += sign * (count * (times - base) - sums[count])
    return result


class _StationLoad:
    """The load of a station, added up window by window."""

    def __init__(self, station: str, given: bool) -> None:
        self.station, self.given = station, given  # whether its number of servers was given
        self.servers, self.visits, self.service, self.waited = 1, 0, 0, 0
        self.full = self.queued = 0
        self.first = self.first_arrival = np.iinfo(np.int64).max
        self.last = np.iinfo(np.int64).min
        self.longest, self.longest_begin = -1, 0
        self.busy_since: int | None = None
        self.in_front = 0
        # since the queue was empty for the last time: arrivals and waits of every n-th frame
        self.since_empty = np.zeros((2, 0), np.int64)
        self.every = 1
        self.onset: int | None = None

    def add(self, model: QueueModel) -> None:
        """Add the new visits of a window."""
        mine, delays = model.visits[self.station], model.delays[self.station]
        self.servers = mine.servers
        new = np.flatnonzero(model.new[mine.frame])
        if not len(new):
            return
        begin, end, arrive = (x[new] for x in (mine.begin, mine.end, delays.arrive))
        queued, first = delays.queued[new], mine.first[new]
        self._add_busy(begin[first], end[first], queued[first])
        self.visits += len(new)
        self.full += int(np.count_nonzero(mine.last_free[new]))
        self.queued += int(np.count_nonzero(queued))
        self.service += int((end - begin)[first].sum())
        self.waited += int((begin - arrive).sum())
        self.first = min(self.first, int(begin[0]))
        self.first_arrival = min(self.first_arrival, int(arrive.min()))
        if (begin > arrive).any():
            # just before an entry the frame itself is still in front
            arrived = np.searchsorted(np.sort(delays.arrive), begin, side="right")
            self.in_front = max(self.in_front, int((arrived - new).max()))
        waits, start = begin - arrive, 0
        if delays.usual_ns is not None:
            # a frame that waited no longer than its transport takes: the queue was empty
            empty = ~queued & (waits <= 2 * delays.usual_ns + delays.limit_ns)
            found = np.flatnonzero(empty & (mine.arrive[new] != MISSING))
            if len(found):
                start, self.every, self.onset = int(found[-1]) + 1, 1, None
                self.since_empty = self.since_empty[:, :0]
        if self.onset is None and start < len(new):
            self.onset = int(begin[start])
        added = np.stack([arrive, waits])[:, start :: self.every]
        self.since_empty = np.hstack([self.since_empty, added])
        while self.since_empty.shape[1] > _MOST_WAITS:
            self.since_empty, self.every = self.since_empty[:, ::2], 2 * self.every

    def _add_busy(self, begin: Ints, end: Ints, queued: Mask) -> None:
        """Extend the longest time in which the station was busy: it ends before idle servers."""
        starts = np.flatnonzero(~queued)
        since = int(begin[0]) if self.busy_since is None else self.busy_since
        if self.busy_since is None:
            starts = np.union1d(starts, [0])
        latest = np.maximum(np.maximum.accumulate(end), self.last)
        stops = np.append(starts, len(begin)) - 1
        begins = np.append(since, begin[starts])
        before = max(self.last, since)
        lengths = np.where(stops >= 0, latest[stops], before) - begins
        longest = int(np.argmax(lengths))
        if lengths[longest] > self.longest:
            self.longest, self.longest_begin = int(lengths[longest]), int(begins[longest])
        self.busy_since, self.last = int(begins[-1]), int(latest[-1])

    def result(self) -> Load:
        """Return the load of all windows so far."""
        if not self.visits:
            return Load(self.station, self.servers, 0, None, 0, None, None, 0, None)
        time = self.last - self.first
        seen = is_unbounded(self.servers, self.full, self.queued, self.visits)
        unbounded = seen and not self.given
        busy = self.service / (time * self.servers) if time > 0 else 1.0
        return Load(
            self.station,
            self.servers,
            self.visits,
            None if unbounded else busy,
            self.longest,
            self.longest_begin,
            self.waited / max(self.last - self.first_arrival, 1),
            self.in_front,
            self._growth(),
            unbounded,
        )

    def _growth(self) -> Growth | None:
        """Return how the queue has grown since it was empty, or None if it does not grow."""
        arrivals, waits = self.since_empty
        if self.onset is None or len(waits) * self.every < _FEWEST_WAITS:
            return None
        if self.last - self.onset < _LEAST_LASTING * (self.last - self.first):
            return None
        order = np.argsort(arrivals, kind="stable")
        seconds = (arrivals[order] - arrivals[order[0]]) / 1e9
        x, y = (
            np.array([batch.mean() for batch in np.array_split(values, _BATCHES)])
            for values in (seconds, waits[order].astype(np.float64))
        )
        if not (np.diff(x) > 0).all():
            return None
        half = _BATCHES // 2
        halves = np.polyfit(x[:half], y[:half], 1)[0], np.polyfit(x[half:], y[half:], 1)[0]
        rate = float(np.polyfit(x, y, 1)[0])
        steps = np.diff(y) / np.diff(x)
        spread = _T_14 * float(steps.std(ddof=1)) / math.sqrt(len(steps))
        if min(halves) <= 0 or rate - spread <= 0:
            return None
        return Growth(self.onset, rate, rate - spread, rate + spread)


def saturated_processor(cpu: npt.NDArray[np.float32] | None, cores: int | None) -> str:
    """Return why the processor makes a replay wrong, or an empty text if it does not.

    Parameters
    ----------
    cpu
        (n,) percent of a core that the process used when each frame was recorded, NaN if unknown.
    cores
        Number of cores that the process may use. Nothing is said if it is unknown.

    Examples
    --------
    >>> saturated_processor(np.array([195, 190], np.float32), 2)[:55]
    'the process used 1.93 of 2 cores: its stages slow each '
    >>> saturated_processor(np.array([95, np.nan], np.float32), 2)
    ''
    """
    known = np.zeros(0) if cpu is None else cpu[np.isfinite(cpu)]
    if not cores or not len(known):
        return ""
    used = float(known.mean(dtype=np.float64)) / 100
    if used < _SATURATED * cores:
        return ""
    return (
        f"the process used {used:.2f} of {cores} core{'s' * (cores > 1)}: its stages slow each "
        "other down, so that a change of one changes the times of the others, and the replay is "
        "not a forecast"
    )
