"""Replays the frames of a recording at another load."""

import re
from dataclasses import dataclass

import numpy as np

from latprof.arrays import Ints
from latprof.errors import TraceError
from latprof.frames import MISSING
from latprof.queueing.arrivals import FEWEST_STARTS, MOST_STARTS, arrivals_of
from latprof.queueing.model import QueueModel
from latprof.queueing.replay import check_order, one_server, several_servers
from latprof.text import counted, quoted
from latprof.units import format_ns

__all__ = ["LEAST_LOAD", "MOST_LOAD", "LoadedFrames", "parse_load", "places_in_flight"]

LEAST_LOAD = 0.01
MOST_LOAD = 16.0

_FEWEST_STARTS = 100  # needed to recognize a closed loop
_LEAST_IN_FLIGHT = 3  # frames of a closed loop
_MOST_STARTS = 0.8  # share of the starts that find about the same number of frames in flight
_SOON = 0.2  # of the usual time between entries
_STEADY = 0.5  # of the spread of the time between starts
_BEYOND = 1.02  # of the highest load seen, before a warning is given


def parse_load(value: object) -> float:
    """Return a load as a multiple of the recorded one: ``1.2``, ``"120%"``.

    Raises
    ------
    TraceError
        It is not a load, or not from 0.01 to 16.
    """
    load: object = value
    if isinstance(value, str):
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(%?)\s*", value)
        load = float(found[1]) / (100 if found[2] else 1) if found else None
    number = isinstance(load, int | float | np.number) and not isinstance(load, bool)
    if not number or not LEAST_LOAD <= load <= MOST_LOAD:  # type: ignore[operator]
        raise TraceError(
            "load must be a multiple of the recorded load from 0.01 to 16 (for example 1.2 or "
            f"'120%'), got {quoted(value)}"
        )
    return float(load)  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class _Visit:
    """The times of frames (n,) at a station, in ns.

    `before` is the time from leaving the station before (or from the start) to arrival.
    """

    before: Ints
    delay: Ints
    hand_over: Ints
    service: Ints
    servers: int


class LoadedFrames:
    """The frames of a recording that have all their marks, and their replay at another load.

    Attributes
    ----------
    arrivals
        The starts of the frames, or when they were due if queues have limited room.
    measured_ns
        (n,) end to end as recorded, in order of `arrivals`.
    busy
        By station the share of the time in which its servers were busy; above 1 if frames came
        faster than it served them.
    """

    def __init__(self, model: QueueModel, what: str, *, most: int | None = None) -> None:
        """Take the frames of a model, or the first `most` of them; `what` is a name for errors."""
        self._check(model, what)
        line = model.line
        self._line = None
        if line is not None and line.is_bounded:
            whole = line.with_common_room()
            self._line = whole if most is None else whole.first(most)
            complete, rows, due = len(whole), self._line.rows, self._line.due
        else:
            rows = _complete(model)
            complete, rows = len(rows), rows[:most]
            due = model.columns.marks["start"][rows]
        self.left_out = len(model.columns) - complete
        self._later = complete - len(rows)
        if len(rows) < FEWEST_STARTS:
            raise TraceError(
                f"{what} must have at least {FEWEST_STARTS} finished frames with all their marks, "
                f"got {len(rows)}; record for longer"
            )
        marks = model.columns.marks
        self.measured_ns = marks["end"][rows] - marks["start"][rows]
        self._visits, self.busy = [], {}
        since, span = marks["start"][rows], max(int(due[-1] - due[0]), 1)
        for service in model.stations.services:
            mine, delays = model.visits[service.station], model.delays[service.station]
            place = np.full(len(model.columns), -1)
            place[mine.frame] = np.arange(len(mine))
            at = place[rows]
            length = (mine.end - mine.begin)[at]
            usual = int(np.median(delays.hand_over[delays.queued])) if delays.queued.any() else 0
            over = np.where(delays.queued, delays.hand_over, usual)[at]
            self._visits.append(
                _Visit(delays.arrive[at] - since, delays.delay[at], over, length, mine.servers)
            )
            self.busy[service.station] = float(length.sum() / mine.servers / span)
            since = mine.end[at]
        self._after = marks["end"][rows] - since
        busiest = max(self._visits, key=lambda x: x.service.sum() / x.servers, default=None)
        self.arrivals = arrivals_of(due, None if busiest is None else busiest.service)

    def _check(self, model: QueueModel, what: str) -> None:
        """Refuse recordings that cannot be replayed at another load."""
        check_order(model)
        for name in model.stations.names:
            if len(model.stations.services_of(name)) > 1:
                raise TraceError(
                    f"{what} must have stations that frames come to once, got {name!r}, to which "
                    "they come more than once; name one station for each time (stations=)"
                )
        if model.unordered_batches:
            raise TraceError(model.unordered_batches)
        line = model.line
        if line is not None and line.has_batches:
            raise TraceError(
                f"{what} must have stations that serve frames one by one, got batches: "
                "which frames are served together at another load is not known"
            )
        if line is not None and line.source.kind in ("closed", "paused"):
            raise TraceError(
                f"{what} must have an open source, got a {line.source.kind} one, which starts a "
                "frame when there is room for it, so that the load is what the pipeline serves; "
                "record with frames that come on their own"
            )
        places = places_in_flight(model)
        if places is not None:
            raise TraceError(
                f"{what} must have an open source, got a closed one: frames start as others leave, "
                f"with {places} in flight, so that the load is what the pipeline serves; record "
                "with frames that come on their own"
            )

    def latencies(self, load: float, draw: int = 0, *, resampled: bool = False) -> Ints:
        """Return end to end (k,) in ns of the frames at a load; see `Arrivals.at_load`.

        Frames count from when they were due, if a full queue kept their source from starting them.
        """
        rows, starts = self.arrivals.at_load(load, draw, resampled=resampled)
        if self._line is not None:
            line = self._line.resampled(rows, starts)
            _, leave = line.replay(1, line.work, line.travel, line.transport)
            late: Ints = leave[0] - starts
            return late
        now = starts
        for visit in self._visits:
            ready = now + (visit.before + visit.delay)[rows]
            order = np.argsort(ready, kind="stable")
            mine = rows[order]
            arguments = ready[order], visit.hand_over[mine], visit.service[mine]
            left = np.empty_like(now)
            if visit.servers == 1:
                left[order] = one_server(*arguments)
            else:
                left[order] = several_servers(*arguments, visit.servers)[0]
            now = left
        found: Ints = now + self._after[rows] - starts
        return found

    def overload(self, load: float) -> str:
        """Return a sentence if a station cannot serve all frames at a load, or an empty text.

        Then its queue grows without an end, and so does end to end: in each second by the time that
        the station falls behind in it.
        """
        station = max(self.busy, key=self.busy.__getitem__, default=None)
        busy = self.busy[station] * load if station is not None else 0.0
        if station is None or busy <= 1:
            return ""
        lasts = (self.arrivals.starts[-1] - self.arrivals.starts[0]) / load
        return (
            f"{station} would have to be {busy:.0%} busy: end to end grows by "
            f"{format_ns((busy - 1) * 1e9)} with each second; these are the first "
            f"{format_ns(lasts)}"
        )

    def warning(self, load: float) -> str:
        """Return why a result at a load should not be trusted, or an empty text."""
        most = self.arrivals.most_seen
        if load <= max(most, 1.0) * _BEYOND:
            return ""
        return (
            f"the busiest sixteenth of the recording had {most:.2f} times its mean load: at "
            f"{load:.2f} times, stages may take longer than they did"
        )

    def assumptions(self) -> tuple[str, ...]:
        """Return sentences on what the replay assumes."""
        arrivals = self.arrivals
        if arrivals.period_ns is None:
            how = (
                "more load adds frames of blocks nearby, less load leaves frames out at random: "
                f"{arrivals.blocks} blocks of {format_ns(arrivals.length_ns)}"
            )
        else:
            how = f"frames start every {format_ns(arrivals.period_ns)}: the period is divided"
        lines = [how, "a frame takes as long in each stage as it did, whatever the load is"]
        if self._line is not None:
            lines.append("a frame that its source starts late counts from when it was due")
        if self.left_out:
            lines.append(f"{counted(self.left_out, 'frame')} without all marks are left out")
        if self._later:
            lines.append(
                f"replayed are the first {len(arrivals.starts):,} of "
                f"{len(arrivals.starts) + self._later:,} frames"
            )
        elif arrivals.blocks > arrivals.slots:
            lines.append(
                f"of {len(arrivals.starts):,} frames about {MOST_STARTS:,} are replayed: "
                f"{arrivals.slots} blocks at equal distances"
            )
        return tuple(lines)


def _complete(model: QueueModel) -> Ints:
    """Return the rows of finished frames that visit every station, in order of their start."""
    rows = model.end_to_end[0]
    for visits in model.visits.values():
        rows = np.intersect1d(rows, visits.frame, assume_unique=True)
    ordered: Ints = rows[np.argsort(model.columns.marks["start"][rows], kind="stable")]
    return ordered


def places_in_flight(model: QueueModel) -> int | None:
    """Return how many frames a closed loop has room for, or None if frames start on their own.

    In front of a full queue, a producer starts its next frame when a place becomes free. A replay
    lets frames start when they did; in a closed loop they would start earlier, and the queue would
    stay full. A closed loop is recognized by this: the same number of frames is in flight at each
    start, and starts follow entries into a station at once, whether entries are close or far apart.

    Examples
    --------
    >>> from latprof import Pipeline, Trace
    >>> line = Pipeline.chain("line", "queue", "work", stations={"work": "worker"})
    >>> left = np.cumsum(np.random.default_rng(1).integers(50, 150, 500))
    >>> start = np.concatenate((np.zeros(5, np.int64), left[:-5] + 1))  # when the fifth before left
    >>> at = {"start": start, "queue": start, "work": np.append(0, left[:-1]), "end": left}
    >>> trace = Trace(line, frame_id=np.arange(500), marks=at)
    >>> from latprof.queueing.model import queue_model
    >>> places_in_flight(queue_model(line, trace.columns))
    5
    """
    starts, ends = (model.columns.marks[mark] for mark in ("start", "end"))
    complete = (starts != MISSING) & (ends != MISSING)
    starts, ends = np.sort(starts[complete]), np.sort(ends[complete])
    if len(starts) < _FEWEST_STARTS:
        return None
    in_flight = np.arange(1, len(starts) + 1) - np.searchsorted(ends, starts, side="right")
    usual = int(np.median(in_flight))
    if usual < _LEAST_IN_FLIGHT or np.mean(np.abs(in_flight - usual) <= 1) < _MOST_STARTS:
        return None
    between = _quartile_distance(np.diff(starts))
    for visits in model.visits.values():
        entries = np.sort(visits.begin)
        last = np.searchsorted(entries, starts, side="right") - 1
        after = starts[last >= 0] - entries[last[last >= 0]]
        if len(after) < _FEWEST_STARTS:
            continue
        soon = np.median(after) <= _SOON * np.median(np.diff(entries))
        if soon and _quartile_distance(after) < _STEADY * between:
            return usual
    return None


def _quartile_distance(values: Ints) -> float:
    low, high = np.quantile(values, (0.25, 0.75))
    return float(high - low)
