"""How busy stations are, and whether their queues grow without bound or only in bursts."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from latprof.arrays import Floats, Ints
from latprof.frames import MISSING
from latprof.pipeline import Pipeline
from latprof.queueing.blame import hand_over_ns
from latprof.queueing.delays import Delays
from latprof.queueing.model import Picture, picture
from latprof.queueing.recordings import Recordings, frames_of
from latprof.queueing.visits import Visits
from latprof.text import escape
from latprof.units import format_ns, format_utc

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Growth", "Load", "Utilization", "utilization", "utilization_of"]

_WINDOWS = 100
_BATCHES = 16
_T_14 = 2.145  # Student's t, 97.5 %, 14 degrees of freedom: 15 differences of batches
_FEWEST = 64  # frames after the onset
_LASTING = 0.05  # part of the recording


@dataclass(frozen=True, slots=True)
class Growth:
    """A queue that grows until the recording ends.

    `onset_ns` is since when; `rate` how much longer frames wait with each second, ns a second,
    with a 95 % interval from `low` to `high`.
    """

    onset_ns: int
    rate: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Load:
    """What is known of one station.

    Attributes
    ----------
    busy
        Share of the time from first entry to last departure in which it served; of several
        servers the mean.
    longest_busy_ns, longest_busy_begin_ns
        The longest time without an idle server to speak of (longer than a hand-over), and when it
        began.
    in_front_mean, in_front_most
        Frames that had arrived in front of it and not entered, transport included.
    growth
        None: the queue empties again, whatever bursts there are.
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

    @property
    def sentence(self) -> str:
        """One sentence on the station."""
        if self.busy is None:
            return f"{self.station}: no frame was served"
        text = (
            f"{self.station}: busy {self.busy:.0%}, for {format_ns(self.longest_busy_ns)} in a row"
        )
        if self.growth is None:
            return f"{text}; its queue empties again"
        rate = self.growth
        return (
            f"{text}; saturated since {format_utc(rate.onset_ns)}: frames wait "
            f"{rate.rate / 1e6:.3g} ms longer each second "
            f"({rate.low / 1e6:.3g} to {rate.high / 1e6:.3g})"
        )


@dataclass(frozen=True, eq=False)
class Utilization:
    """The load of each station, by name, and busy shares by window of time for pictures.

    `window_ns` (m + 1,) are the windows' edges, `busy` by station the share of each (m,).
    """

    loads: dict[str, Load]
    window_ns: Ints
    busy: dict[str, Floats]

    def __repr__(self) -> str:
        busy = (
            f"{escape(name)} {'not used' if load.busy is None else f'{load.busy:.0%} busy'}"
            f"{'' if load.growth is None else ', saturated'}"
            for name, load in self.loads.items()
        )
        return f"<Utilization: {'; '.join(busy) or 'no stations'}>"

    def __getitem__(self, station: str) -> Load:
        return self.loads[station]

    @property
    def table(self) -> "pd.DataFrame":
        """By station: the fields of `Load`, those of `Growth` flat; times in ns."""
        import pandas as pd

        rows = self.rows()
        index = pd.Index([row.pop("station") for row in rows], name="station", dtype=object)
        stamps = ("longest_busy_begin_ns", "onset_ns")  # too long for floats
        columns = {
            name: pd.array([row[name] for row in rows], dtype="Int64" if name in stamps else None)
            for name in (rows[0] if rows else ())
        }
        return pd.DataFrame(columns, index=index)

    def rows(self) -> list[dict[str, Any]]:
        """Return the table as plain values: a dict a station, None where not known."""
        table = []
        for load in self.loads.values():
            row = asdict(load)
            growth = row.pop("growth")
            row["saturated"] = growth is not None
            row["onset_ns"] = growth and growth["onset_ns"]
            for name in ("rate", "low", "high"):
                row[f"growth_{name}" if name != "rate" else "growth"] = growth and growth[name]
            table.append(row)
        return table

    @property
    def sentences(self) -> list[str]:
        """A sentence a station."""
        return [load.sentence for load in self.loads.values()]


def utilization(
    trace: Recordings,
    *,
    hand_over: str | int | None = None,
    stations: Mapping[str, str | None] | None = None,
    pipeline: Pipeline | None = None,
) -> Utilization:
    """Return how busy each station was, and whether it could keep up.

    Saturated is a station whose queue has not emptied since some time until the recording ends,
    and in which frames wait longer and longer since: in both halves of that time. A burst or a
    stall makes a queue, too, but it shrinks again.

    Parameters
    ----------
    trace, hand_over, stations, pipeline
        As `latprof.blame` takes them.

    Raises
    ------
    TraceError
        Sampled or lossy recordings.
    """
    kind, columns = frames_of(trace, "utilization", pipeline=pipeline, stations=stations)
    return utilization_of(picture(kind, columns, hand_over=hand_over_ns(hand_over)))


def utilization_of(whole: Picture) -> Utilization:
    """Return the load of the stations."""
    seen = [mine for mine in whole.visits.values() if len(mine)]
    edges = np.zeros(0, np.int64)
    if seen:
        first = min(int(mine.begin[0]) for mine in seen)
        last = max(int(mine.end.max()) for mine in seen)
        width = max(-(-(last - first) // _WINDOWS), 1)
        edges = first + width * np.arange(_WINDOWS + 1)
    loads, shares = {}, {}
    for name, mine in whole.visits.items():
        loads[name] = _load(name, mine, whole.delays[name])
        if len(edges):
            upto = _busy_upto(mine, edges)
            shares[name] = np.diff(upto) / (np.diff(edges) * mine.servers)
    return Utilization(loads, edges, shares)


def _busy_upto(mine: Visits, times: Ints) -> Ints:
    """Return the time of all visits up to each time, from counts of begun and of ended ones."""
    result = np.zeros(len(times), np.int64)
    for stamps, sign in ((mine.begin, 1), (np.sort(mine.end), -1)):
        if not len(stamps):
            continue
        base = int(stamps[0])
        sums = np.concatenate([[0], np.cumsum(stamps - base)])
        count = np.searchsorted(stamps, times, side="right")
        result += sign * (count * (times - base) - sums[count])
    return result


def _load(name: str, mine: Visits, apart: Delays) -> Load:
    n = len(mine)
    if not n:
        return Load(name, mine.servers, 0, None, 0, None, None, 0, None)
    first, last = int(mine.begin[0]), int(mine.end.max())
    service = int((mine.end - mine.begin).sum())
    busy = service / ((last - first) * mine.servers) if last > first else 1.0
    starts = np.flatnonzero(~apart.queued)
    starts = np.union1d(starts, [0])
    stops = np.append(starts[1:], n) - 1
    ends = np.maximum.accumulate(mine.end)[stops]
    lengths = ends - mine.begin[starts]
    longest = int(np.argmax(lengths))
    arrived = np.sort(apart.arrive)
    waiting = np.searchsorted(arrived, mine.begin, side="right") - np.arange(n)
    time = max(last - int(arrived[0]), 1)
    return Load(
        name,
        mine.servers,
        n,
        busy,
        int(lengths[longest]),
        int(mine.begin[starts[longest]]),
        float((mine.begin - apart.arrive).sum()) / time,
        # just before an entry the frame itself is still in front
        int(waiting.max()) if (mine.begin > apart.arrive).any() else 0,
        _growth(mine, apart, first, last),
    )


def _growth(mine: Visits, apart: Delays, first: int, last: int) -> Growth | None:
    waited = (mine.begin - apart.arrive).astype(np.float64)
    if apart.usual_ns is None:
        onset = 0
    else:
        # a frame that waited no longer than its transport takes: the queue was empty
        empty = ~apart.queued & (waited <= 2 * apart.usual_ns + apart.limit_ns)
        found = np.flatnonzero(empty & (mine.arrive != MISSING))
        onset = int(found[-1]) + 1 if len(found) else 0
    if len(mine) - onset < _FEWEST or last - int(mine.begin[onset]) < _LASTING * (last - first):
        return None
    at = apart.arrive[onset:]
    order = np.argsort(at, kind="stable")
    seconds = (at[order] - at[order[0]]) / 1e9
    waited = waited[onset:][order]
    cuts = np.array_split(np.arange(len(seconds)), _BATCHES)
    x = np.array([seconds[cut].mean() for cut in cuts])
    y = np.array([waited[cut].mean() for cut in cuts])
    if not (np.diff(x) > 0).all():
        return None
    halves = np.polyfit(x[:8], y[:8], 1)[0], np.polyfit(x[8:], y[8:], 1)[0]
    rate = float(np.polyfit(x, y, 1)[0])
    steps = np.diff(y) / np.diff(x)
    spread = _T_14 * float(steps.std(ddof=1)) / np.sqrt(len(steps))
    if min(halves) <= 0 or rate - spread <= 0:
        return None
    return Growth(int(mine.begin[onset]), rate, rate - spread, rate + spread)
