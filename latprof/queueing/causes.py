"""Causes: which stage is behind the time, by its self time and by what waited for it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from latprof.io.dataset import DatasetLike
from latprof.pipeline import Pipeline
from latprof.queueing.accumulator import CausesAccumulator
from latprof.queueing.blocking import MOST_STAGES, Path
from latprof.queueing.cause_sums import NO_STATION, CauseSums
from latprof.queueing.windows import Recordings
from latprof.table import Cell, Column, Section, Table, html, text
from latprof.text import counted
from latprof.units import format_ns

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["LEAST_GAIN", "Causes", "causes", "causes_of"]

LEAST_GAIN = 0.1
"""Share of the sum of end_to_end that a stage must give, held to its median, to be the cause."""

_MOST_PATHS = 10
_TIMES = ("self_time", "blocking_time")


@dataclass(frozen=True, repr=False)
class Causes:
    """Sums over frames by stage, in ns, and which stage they name as the cause.

    `causes` returns it. ``print(result)`` shows all of it.

    Attributes
    ----------
    cause
        The stage that is the cause, or None if no frame has a stage.
    sentence
        Which stage looks slow, and which one is the cause.
    slowest
        The stage with the highest mean, which a profile calls the bottleneck.
    table
        A DataFrame by stage: ``self_time``, ``blocking_time`` and ``gain_ns`` in ns for each frame,
        and ``gain`` as a share of end_to_end.
    chains
        Hand-offs with the path that they waited for, and for how long (ns), longest first.
    self_time
        Time of the stage without what it waited for other stages.
    blocking_time
        Time that frames waited elsewhere because of the stage.
    gain
        By how much the sum of end_to_end would be less with the stage held to its own median, or
        None if no replay is available: see `notes`.
    total
        Time of the stage as recorded.
    waits
        By hand-off and path, what its frames waited for. A path is the stage that the frame in
        front was in, the stage that this one waited for, and so on.
    counts
        How many frames have the stage.
    end_to_end, frames
        The sum of end_to_end, and over how many frames.
    notes
        What was inferred, and what is unknown.
    """

    self_time: dict[str, float]
    blocking_time: dict[str, float]
    gain: dict[str, float] | None
    total: dict[str, int]
    waits: dict[str, dict[Path, float]]
    counts: dict[str, int]
    end_to_end: int
    frames: int
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        cause = f"cause {self.cause}" if self.cause else "no cause"
        return f"<Causes of {counted(self.frames, 'frame')}: {cause}>"

    def __str__(self) -> str:
        return text(self.sections())

    def _repr_html_(self) -> str:
        return html(self.sections())

    @property
    def cause(self) -> str | None:
        """The stage that is the cause, or None if no frame has a stage.

        The stage that gives most when held to its own median, if that is at least 10 % of the sum
        of end_to_end; otherwise the stage with the largest self and blocking time. (After a stall
        a queue moves on in a burst and waits in front of a stage that is not to blame. The first
        rule is not misled by that.)
        """
        if self.gain and self.end_to_end > 0:
            best = max(self.gain, key=self.gain.__getitem__)
            if self.gain[best] >= LEAST_GAIN * self.end_to_end:
                return best
        both = {n: self.self_time[n] + self.blocking_time[n] for n in self.total if self.counts[n]}
        return max(both, key=both.__getitem__, default=None)

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
        frames = max(self.frames, 1)
        blocking = self.blocking_time[cause] / frames
        if cause == slowest:
            elsewhere = f", and frames wait {format_ns(blocking)} for it elsewhere"
            behind = elsewhere if blocking >= 1 else ""
            return f"{cause} is slowest ({mean} mean){behind}: it is the cause"
        waited = sum(ns for path, ns in self.waits.get(slowest, {}).items() if path[-1] == cause)
        share = waited / self.total[slowest] if self.total[slowest] else 0.0
        gain = self.gain[cause] / self.end_to_end if self.gain and self.end_to_end else 0.0
        if share >= 0.005:
            why = f"; {_percent(share)} of it is waiting for {cause}"
        elif gain >= LEAST_GAIN:
            why = f", but with {cause} held to its median, end to end would take "
            why += f"{_percent(gain)} less"
        else:
            time = format_ns(self.self_time[cause] / frames)
            why = f", but {cause} takes {time} and is waited for {format_ns(blocking)}"
        return f"{slowest} looks slowest ({mean} mean){why}: the cause is {cause}"

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
        """By stage: self_time, blocking_time (mean ns a frame), gain (share) and gain_ns.

        ``self_time`` is the stage's time without its waiting for others, ``blocking_time`` what
        frames waited elsewhere because of it. ``gain`` is the share of end_to_end that is saved if
        the stage never takes longer than its median, and ``gain_ns`` the same in ns a frame.
        """
        import pandas as pd

        rows = self.rows()
        index = pd.Index([row.pop("stage") for row in rows], name="stage", dtype=object)
        return pd.DataFrame(rows, index=index, dtype="float64")

    def rows(self) -> list[dict[str, Any]]:
        """Return the table as plain values: a dict per stage; unknown values are None."""
        n, whole = self.frames, self.end_to_end
        return [
            {
                "stage": name,
                "self_time": self.self_time[name] / n if n else None,
                "blocking_time": self.blocking_time[name] / n if n else None,
                "gain": None if self.gain is None or not whole else self.gain[name] / whole,
                "gain_ns": None if self.gain is None or not n else self.gain[name] / n,
            }
            for name in self.total
        ]

    def sections(self) -> list[Section]:
        """Return what is shown: the sentence and paths, a table of the stages, and notes."""
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
                Cell(row["gain"], bar=row["gain"]),
            )
            for row in known
        ]
        columns = (
            Column("stage", "span"),
            Column("self time", "time"),
            Column("blocking time", "time"),
            Column("gain", "share"),
        )
        lines = (
            "Means over all frames. self time: the stage's time minus its waiting for other "
            "stages. blocking time: what frames waited elsewhere because of the stage. gain: what "
            "end to end loses if the stage never takes longer than its median.",
            *(f"note: {note}" for note in self.notes),
        )
        return [
            Section(self.sentence, paths),
            Section("Stages", lines, Table(columns, rows), "causes"),
        ]

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
    stations: Mapping[str, str | None] | None = None,
    pipeline: Pipeline | None = None,
) -> Causes:
    """Return which stage is behind the time of a pipeline.

    Parameters
    ----------
    trace
        A trace, a path, a folder, a glob, or several of them. All their frames are taken together,
        of all sources, dropped ones included.
    hand_over
        How soon after a departure queued frames enter a station, ``"1us"``. None estimates it from
        the frames.
    depth
        The largest number of stages of a path: of stages that waited for each other because a
        queue was full.
    stations
        Stations by stage, instead of those of the pipeline: ``{"decode": "cpu"}``. None as a
        station makes the stage a hand-off.
    pipeline
        What the marks mean, for files that do not contain it.

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
    More than `latprof.queueing.windows.WINDOW_ROWS` frames are read a window at a time. What frames
    waited for is known across windows. Gains are those of each window, replayed from the queue that
    was there at its beginning, with its own medians.

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
    recordings = Recordings(
        trace, "causes", hand_over=hand_over, depth=depth, stations=stations, pipeline=pipeline
    )
    empty = CauseSums.empty(recordings.pipeline)
    sums = recordings.in_windows(lambda models: sum(map(CauseSums.of, models), empty))
    return _causes(sums, tuple(sorted({*sums.notes, *sums.station_notes()})))


def causes_of(accumulator: CausesAccumulator) -> Causes:
    """Return the causes that recordings added up to.

    Raises
    ------
    ProfileError
        Some frames are missing.
    """
    return _causes(*accumulator.result())


def _causes(sums: CauseSums, notes: tuple[str, ...]) -> Causes:
    self_time = {name: float(ns) for name, ns in sums.total.items()}
    blocking_time = dict.fromkeys(sums.total, 0.0)
    waits = {name: sums.waited_for(name) for name in sums.waits}
    for name, paths in waits.items():
        for path, ns in paths.items():
            self_time[name] -= ns
            blocking_time[path[-1]] += ns
        self_time[name] = max(self_time[name], 0.0)
    return Causes(
        self_time,
        blocking_time,
        None if sums.out_of_order() else sums.gain,
        sums.total,
        waits,
        sums.counts,
        sums.end_to_end,
        sums.frames,
        notes,
    )


def _percent(share: float) -> str:
    return f"{share:.0%}".replace("%", " %")
