"""Causes: which stage is behind the time, by its self time and by what waited for it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from latprof.io.dataset import DatasetLike
from latprof.pipeline import Pipeline
from latprof.queueing.accumulator import CausesAccumulator
from latprof.queueing.blocking import Path
from latprof.queueing.cause_sums import NO_STATION, CauseSums
from latprof.queueing.gains import Gains, GainsSoFar
from latprof.queueing.model import QueueModel
from latprof.queueing.options import MOST_STAGES, Options
from latprof.queueing.rooms import Queue, Source
from latprof.queueing.windows import Recordings
from latprof.table import Cell, Column, Section, Shown, Table, data_frame
from latprof.text import counted
from latprof.units import format_ns

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Causes", "causes", "causes_of"]

_MOST_PATHS = 10
_TIMES = ("self_time", "blocking_time")
_SMALL = 0.02  # share of end to end; of a tie, smaller gains are not listed one by one


@dataclass(frozen=True, repr=False)
class Causes(Shown):
    """Sums over frames by stage, in ns, and which stage they name as the cause.

    `causes` returns it. ``print(result)`` shows all of it; `cause` and `sentence` are the answer,
    `table` has the numbers by stage.

    Attributes
    ----------
    self_time
        Time of the stage without its waiting for other stages.
    blocking_time
        Time that frames waited elsewhere because of the stage.
    total
        Time of the stage as recorded.
    waits
        By hand-off and path, how long (ns) its frames waited. A path is the stage that the frame in
        front was in, the stage that this one waited for, and so on.
    counts
        How many frames have the stage.
    end_to_end, frames
        The sum of end_to_end, and over how many frames.
    gains
        The gains of quicker stages, over the frames that were replayed; None without a replay.
    queues
        The queues by hand-off, as far as they are known.
    source
        The kind of source that frames come from.
    out_of_order
        How many times a frame contradicts first in, first out, or lacks a mark, at any station.
    assumptions
        What the replay assumes, with its evidence.
    notes
        Sentences on what was inferred, and on what is unknown.
    overlapping
        Stages with frames that overlap without a bound, as in an event loop, and the largest number
        of frames at once. Their stations are not taken as such: nothing waits for them.
    """

    self_time: dict[str, float]
    blocking_time: dict[str, float]
    total: dict[str, int]
    waits: dict[str, dict[Path, float]]
    counts: dict[str, int]
    end_to_end: int
    frames: int
    gains: Gains | None
    queues: dict[str, Queue]
    source: Source
    handoffs: tuple[str, ...] = ()
    out_of_order: int = 0
    assumptions: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    overlapping: dict[str, int] = field(default_factory=dict)

    def __repr__(self) -> str:
        cause = f"cause {self.cause}" if self.cause else "no cause"
        return f"<Causes of {counted(self.frames, 'frame')}: {cause}>"

    @property
    def gain(self) -> dict[str, float] | None:
        """By how much (ns) the sum of end_to_end would be less with the stage a tenth quicker.

        It is negative if end_to_end would be more, and None if no replay is available: see `notes`.
        """
        return self._of_all(lambda gains, name: gains.gain.get(name, 0.0))

    @property
    def gain_low(self) -> dict[str, float] | None:
        """The lower of the gains with the stage 8 and 12 % quicker."""
        return self._of_all(lambda gains, name: gains.at("low", name))

    @property
    def gain_high(self) -> dict[str, float] | None:
        """The higher of the gains with the stage 8 and 12 % quicker."""
        return self._of_all(lambda gains, name: gains.at("high", name))

    @property
    def held(self) -> dict[str, float] | None:
        """The gain with the stage held to its own median."""
        return self._of_all(lambda gains, name: gains.at("held", name))

    @property
    def throughput(self) -> dict[str, float] | None:
        """By which part more frames would leave each second with the stage a tenth quicker."""
        known = self.gains
        return None if known is None else {name: known.throughput(name) for name in self.total}

    def _of_all(self, value: Callable[[Gains, str], float]) -> dict[str, float] | None:
        """Return values by stage, scaled from the frames that were replayed to all frames."""
        if self.gains is None:
            return None
        scale = self.frames / self.gains.frames if self.gains.frames else 1.0
        return {name: value(self.gains, name) * scale for name in self.total}

    @property
    def cause(self) -> str | None:
        """The stage that is the cause, or None if no frame has a stage.

        It is the stage with the largest gain: a tenth less of it takes most off end_to_end. If no
        stage has a gain above 0, or no replay is available, it is the stage with the largest sum of
        self and blocking time.
        """
        gain = self.gain or {}
        best = max(gain, key=gain.__getitem__, default=None)
        if best is not None and gain[best] > 0:
            return best
        both = {n: self.self_time[n] + self.blocking_time[n] for n in self.total if self.counts[n]}
        return max(both, key=both.__getitem__, default=None)

    @property
    def ties(self) -> tuple[str, ...]:
        """Stages with a range that overlaps with that of the cause, and `alternatives`."""
        cause, gain, low, high = self.cause, self.gain, self.gain_low, self.gain_high
        if cause is None or not gain or not low or not high or gain[cause] <= 0:
            return ()
        near = {n for n in gain if n != cause and gain[n] > 0 and high[n] > low[cause]}
        return tuple(n for n in gain if n in near or n in self.alternatives)

    @property
    def alternatives(self) -> tuple[str, ...]:
        """Stages that are the cause instead in another reading of an irregular source.

        The marks do not decide. Empty if the answer is definite.
        """
        readings = {} if self.gains is None else self.gains.readings
        best = {max(gain, key=gain.__getitem__) for gain in readings.values() if gain}
        return tuple(name for name in self.total if name in best and name != self.cause)

    @property
    def named(self) -> tuple[str, ...]:
        """The cause and its `alternatives`; empty if no frame has a stage."""
        return () if self.cause is None else (self.cause, *self.alternatives)

    @property
    def slowest(self) -> str | None:
        """The stage with the highest mean, which a profile calls the bottleneck."""
        means = {name: self.total[name] / n for name, n in self.counts.items() if n}
        return max(means, key=means.__getitem__, default=None)

    @property
    def sentence(self) -> str:
        """Which stage looks slow, and which one is the cause."""
        cause, slowest = self.cause, self.slowest
        if cause is None or slowest is None:
            return "no frame has a whole stage: nothing is slow"
        mean = format_ns(self.total[slowest] / self.counts[slowest])
        if NO_STATION in self.notes:
            return (
                f"{slowest} is slowest ({mean} mean); whether it is the cause is unknown, because "
                "no stage has a station: declare what serves a stage (station=, --station "
                "STAGE=NAME)"
            )
        if self.alternatives:
            return (
                f"{' or '.join(self.named)} is the cause: that depends on when "
                "frames were due while their source was held, which the marks do not show; "
                f"{slowest} is slowest ({mean} mean)"
            )
        if cause in self.overlapping:
            mean = format_ns(self.total[cause] / max(self.counts[cause], 1))
            return (
                f"{cause} takes longest ({mean} mean), with up to {self.overlapping[cause]} frames "
                "at once: they overlap, and wait for no station; it is self time, or waiting "
                "outside the program"
            )
        frames = max(self.frames, 1)
        blocking = self.blocking_time[cause] / frames
        if cause == slowest:
            elsewhere = f", and frames wait {format_ns(blocking)} for it elsewhere"
            behind = elsewhere if blocking >= 1 else ""
            return f"{cause} is slowest ({mean} mean){behind}: it is the cause"
        waited = sum(ns for path, ns in self.waits.get(slowest, {}).items() if path[-1] == cause)
        share = waited / self.total[slowest] if self.total[slowest] else 0.0
        if share >= 0.005:
            why = f"; {_percent(share)} of it is waiting for {cause}"
        elif self._share(self.gain, cause) >= 0.005:
            why = f", but a tenth less of {cause} takes {_percent(self._share(self.gain, cause))}"
            why += " off end to end"
        else:
            time = format_ns(self.self_time[cause] / frames)
            why = f", but {cause} takes {time} and is waited for {format_ns(blocking)}"
        return f"{slowest} looks slowest ({mean} mean){why}: the cause is {cause}"

    @property
    def remarks(self) -> list[str]:
        """Sentences on ties, transport, erratic stages, and stages that harm if made quicker."""
        cause, gain, held, lines = self.cause, self.gain, self.held, []
        if cause is None or not gain or not held or NO_STATION in self.notes:
            return []
        if self.alternatives and self.gains:
            for reading, gains in self.gains.readings.items():
                whole = max(self.gains.end_to_end, 1)
                each = ", ".join(
                    f"of {name} {_percent(gains[name] / whole, 1)}" for name in self.named
                )
                lines.append(f"if {reading}, a tenth less takes off end to end: {each}")
        elif self.ties:
            names = " and ".join((cause, *self.ties))
            shares = [self._share(gain, name) for name in (cause, *self.ties)]
            each = ", ".join(_percent(share, 1) for share in shares)
            if max(shares) < _SMALL:
                each = f"either alone gives less than {_percent(_SMALL)}"
            lines.append(f"{names} are near a tie: {each}")
        if cause in self.handoffs:
            lines.append(
                f"{cause} is transport, or time that no station explains: if something serves "
                "frames there, declare it (station=, --station STAGE=NAME)"
            )
        elif gain[cause] > 0:
            erratic = held[cause] > gain[cause]
            lines.append(
                f"{cause} is {'erratic' if erratic else 'slow'}: never longer than its median, it "
                f"would take {_percent(self._share(held, cause), 1)} off end to end, and a tenth "
                f"less of it {_percent(self._share(gain, cause), 1)}"
            )
        lines += [
            f"a tenth less of {name} adds {_percent(-self._share(gain, name), 1)}: it only fills "
            "the queue behind it"
            for name in gain
            if self._share(gain, name) <= -0.001
        ]
        return lines

    def _share(self, values: dict[str, float] | None, name: str) -> float:
        return values[name] / self.end_to_end if values and self.end_to_end else 0.0

    @property
    def chains(self) -> list[tuple[Path, float]]:
        """Hand-offs with the path that they waited for, and for how long (ns), longest first."""
        found = [
            ((handoff, *path), ns)
            for handoff, paths in self.waits.items()
            for path, ns in paths.items()
            if len(path) > 1 and ns > 0
        ]
        return sorted(found, key=lambda chain: -chain[1])

    @property
    def table(self) -> "pd.DataFrame":
        """By stage: self_time, blocking_time (mean ns a frame), gains (shares) and throughput.

        ``self_time`` is the stage's time without its waiting for others, ``blocking_time`` what
        frames waited elsewhere because of it. ``gain`` is the share of end_to_end that is saved if
        the stage takes a tenth less (``gain_low`` to ``gain_high``: 8 and 12 % less), ``held`` if
        it never takes longer than its median, and ``gain_ns`` is ``gain`` in ns a frame.
        ``throughput`` is by which part more frames leave each second.
        """
        return data_frame(self.rows(), "stage")

    def rows(self) -> list[dict[str, Any]]:
        """Return the table as plain values: a dict per stage; unknown values are None."""
        n, whole, gain = self.frames, self.end_to_end, self.gain
        shares = {"gain": gain, "gain_low": self.gain_low, "gain_high": self.gain_high}
        shares["held"] = self.held
        return [
            {
                "stage": name,
                "self_time": self.self_time[name] / n if n else None,
                "blocking_time": self.blocking_time[name] / n if n else None,
                **{
                    key: None if values is None or not whole else values[name] / whole
                    for key, values in shares.items()
                },
                "gain_ns": None if gain is None or not n else gain[name] / n,
                "throughput": None if not self.throughput else self.throughput[name],
            }
            for name in self.total
        ]

    def sections(self) -> list[Section]:
        """Return what is shown: the sentence and paths, a table of the stages, and notes."""
        if self.cause is None:
            return [Section(self.sentence, tuple(f"note: {note}" for note in self.notes))]
        paths = tuple(
            f"{' waits for '.join(path)}: {format_ns(ns / max(self.frames, 1))} a frame"
            for path, ns in self.chains[:_MOST_PATHS]
        )
        known = self.rows()
        longest = max((row[name] or 0 for row in known for name in _TIMES), default=0)
        rows = [
            (
                row["stage"],
                *(Cell(row[name], bar=(row[name] or 0) / (longest or 1)) for name in _TIMES),
                Cell(row["gain"], bar=max(row["gain"] or 0.0, 0.0)),
                Cell(row["throughput"] and round(row["throughput"], 3) + 0.0),
            )
            for row in known
        ]
        columns = (
            Column("stage", "span"),
            Column("self time", "time"),
            Column("blocking time", "time"),
            Column("gain", "share"),
            Column("throughput", "share"),
        )
        lines = (
            "Means over all frames. self time: the stage's time minus its waiting for other "
            "stages. blocking time: what frames waited elsewhere because of the stage. gain: what "
            "end to end loses if the stage takes a tenth less, queues included. throughput: how "
            "many more frames leave each second then.",
            *(f"note: {note}" for note in self.notes),
        )
        found = [
            Section(self.sentence, (*self.remarks, *paths)),
            Section("Stages", lines, Table(columns, rows), "causes"),
        ]
        if self.assumptions:
            found.append(Section("Assumptions of the replay", self.assumptions, key="assumptions"))
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as values that JSON can hold."""
        return {
            "format": 1,
            "cause": self.cause,
            "slowest": self.slowest,
            "sentence": self.sentence,
            "frames": self.frames,
            "end_to_end_ns": self.end_to_end,
            "stages": self.rows(),
            "ties": list(self.ties),
            "alternatives": list(self.alternatives),
            "remarks": self.remarks,
            "queues": {name: asdict(queue) for name, queue in self.queues.items()},
            "source": asdict(self.source),
            "overlapping": self.overlapping,
            "out_of_order": self.out_of_order,
            "assumptions": list(self.assumptions),
            "waits": [
                {"handoff": handoff, "path": list(path), "ns": ns}
                for handoff, paths in self.waits.items()
                for path, ns in paths.items()
            ],
            "notes": list(self.notes),
        }


def causes(
    trace: DatasetLike,
    *,
    hand_over: str | int | None = None,
    depth: int = MOST_STAGES,
    servers: Mapping[str, int] | None = None,
    queues: Mapping[str, int | None] | None = None,
    stations: Mapping[str, str | None] | None = None,
    pipeline: Pipeline | None = None,
) -> Causes:
    """Return which stage is behind the time of a pipeline.

    Parameters
    ----------
    trace
        A trace, a path, a folder, a glob, or several of them. All their frames are taken together,
        of all sources, dropped ones included.
    hand_over, depth, servers, queues, stations, pipeline
        What is known of the queues: see `latprof.queueing.options.Options`.

    Returns
    -------
    Causes
        ``cause`` is the stage to blame, ``sentence`` says why, and ``table`` is a DataFrame with
        self time, blocking time and gain of each stage. `latprof.Causes` describes all fields.

    Raises
    ------
    TraceError
        Sampled or lossy recordings, or an invalid `hand_over`, `depth` or `stations`.
    PipelineError
        A name in `stations` that is not a stage, or a `pipeline` with other marks or spans.

    Notes
    -----
    More than `latprof.queueing.windows.WINDOW_ROWS` frames are read a window at a time. Waiting for
    frames of earlier windows is seen. Gains are added up over windows: each is replayed from the
    queue at its beginning, with its own medians.

    Examples
    --------
    >>> import numpy as np
    >>> from latprof import Pipeline, Span, Trace, causes
    >>> line = Pipeline("line", ("start", "in", "end"), (Span("queue", "start", "in"),
    ...     Span("work", "in", "end", station="worker")))
    >>> at = {"start": np.arange(9) * 10, "in": np.arange(9) * 20, "end": np.arange(9) * 20 + 20}
    >>> found = causes(Trace(line, frame_id=np.arange(9), marks=at))
    >>> found.cause
    'work'
    >>> found.sentence
    'queue looks slowest (40 ns mean); 100 % of it is waiting for work: the cause is work'
    """
    options = Options(hand_over, depth, servers, queues, stations, pipeline)
    recordings = Recordings(trace, "causes", options)
    empty = CauseSums.empty(recordings.pipeline)

    def add_up(models: Iterator[QueueModel]) -> CauseSums:
        """Return the sums of all windows."""
        gains = GainsSoFar()
        return sum((CauseSums.of(model, gains) for model in models), empty)

    sums = recordings.in_windows(add_up)
    for name in recordings.servers:
        sums.stations[name].given = True
    notes = tuple(sorted({*sums.notes, *sums.station_notes()}))
    return _causes(recordings.pipeline, sums, notes)


def causes_of(accumulator: CausesAccumulator) -> Causes:
    """Return the causes in all recordings that were added to an accumulator.

    Raises
    ------
    ProfileError
        Some frames are missing.
    """
    return _causes(accumulator.pipeline, *accumulator.result())


def _causes(pipeline: Pipeline, sums: CauseSums, notes: tuple[str, ...]) -> Causes:
    """Return the causes that sums show."""
    seen = sums.stations
    overlapping = {
        stage.name: seen[stage.station].servers
        for stage in pipeline.stages
        if stage.station is not None and seen[stage.station].is_unbounded
    }
    self_time = {name: float(ns) for name, ns in sums.total.items()}
    blocking_time = dict.fromkeys(sums.total, 0.0)
    waits = {
        name: {p: ns for p, ns in sums.waited_for(name).items() if not overlapping.keys() & set(p)}
        for name in sums.waits
    }
    for name, paths in waits.items():
        for path, ns in paths.items():
            self_time[name] -= ns
            blocking_time[path[-1]] += ns
        self_time[name] = max(self_time[name], 0.0)
    return Causes(
        self_time,
        blocking_time,
        sums.total,
        waits,
        sums.counts,
        sums.end_to_end,
        sums.frames,
        None if sums.out_of_order() else sums.gains,
        sums.queues,
        sums.source,
        tuple(sums.waits),
        sum(seen.breaks for seen in sums.stations.values()),
        tuple(sums.assumptions()),
        notes,
        overlapping,
    )


def _percent(share: float, digits: int = 0) -> str:
    return f"{share:.{digits}%}".replace("%", " %")
