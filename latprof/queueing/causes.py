"""Causes: which stage is behind the time, its own and what others waited for it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from latprof.errors import TraceError
from latprof.pipeline import Pipeline
from latprof.queueing.blame import hand_over_ns
from latprof.queueing.blocking import DEPTH, Path, check_depth
from latprof.queueing.evidence import Facts
from latprof.queueing.model import Picture
from latprof.queueing.recordings import Recordings, source_of
from latprof.queueing.replay import Change, one_server, replay
from latprof.queueing.waits import waits_of
from latprof.table import Cell, Column, Section, Table, html, text
from latprof.units import format_ns

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["LEAST_GAIN", "Causes", "causes", "causes_of", "sentence_of", "sums_of", "with_facts"]

NO_STATION = "no stage has a station: who waits for whom is not known"

_MOST_CHAINS = 10
_TIMES = ("own", "blamed")

LEAST_GAIN = 0.1
"""Part of the end_to_end sum that steadying a stage must give to make it the cause."""


@dataclass(frozen=True)
class Causes:
    """Sums over frames, by stage, ns, and what they say.

    Attributes
    ----------
    own
        Time of the stage without what it waited for others.
    blamed
        Time that frames waited for it elsewhere.
    gain
        How much less the end_to_end sum would be with the stage held to its own median; None
        where no replay is available, see `notes`.
    total
        Time of the stage as recorded.
    waits
        By hand-off and path, what its frames waited for: see `latprof.queueing.blocking`.
    counts
        By stage, the frames that have it.
    end_to_end, frames
        The sum, and over how many frames.
    notes
        What was inferred, and what is not known.
    """

    own: dict[str, float]
    blamed: dict[str, float]
    gain: dict[str, float] | None
    total: dict[str, int]
    waits: dict[str, dict[Path, float]]
    counts: dict[str, int]
    end_to_end: int
    frames: int
    notes: tuple[str, ...] = ()

    def __add__(self, other: "Causes") -> "Causes":
        gain = None if self.gain is None or other.gain is None else _sum(self.gain, other.gain)
        waits = {name: dict(parts) for name, parts in self.waits.items()}
        for name, parts in other.waits.items():
            waits[name] = _sum(waits.get(name, {}), parts)
        return Causes(
            _sum(self.own, other.own),
            _sum(self.blamed, other.blamed),
            gain,
            _sum(self.total, other.total),
            waits,
            _sum(self.counts, other.counts),
            self.end_to_end + other.end_to_end,
            self.frames + other.frames,
            tuple(dict.fromkeys((*self.notes, *other.notes))),
        )

    def __sub__(self, other: "Causes") -> "Causes":
        return self + other._times(-1)

    def _times(self, factor: int) -> "Causes":
        def times(values: Mapping[Any, Any]) -> dict[Any, Any]:
            return {key: factor * value for key, value in values.items()}

        return Causes(
            times(self.own),
            times(self.blamed),
            None if self.gain is None else times(self.gain),
            times(self.total),
            {name: times(parts) for name, parts in self.waits.items()},
            times(self.counts),
            factor * self.end_to_end,
            factor * self.frames,
            self.notes,
        )

    @property
    def cause(self) -> str | None:
        """The stage that is to blame; None where no frame has a stage.

        The one that gives most when held to its own median, if that is 10 % of the end_to_end
        sum; else the one with the largest own and blamed time. (After a stall the queue moves on
        in a burst and stands in front of an innocent stage: the first rule sees through that.)
        """
        if self.gain and self.end_to_end > 0:
            best = max(self.gain, key=self.gain.__getitem__)
            if self.gain[best] >= LEAST_GAIN * self.end_to_end:
                return best
        both = {n: self.own[n] + self.blamed[n] for n in self.own if self.counts[n]}
        return max(both, key=both.__getitem__, default=None)

    @property
    def slowest(self) -> str | None:
        """The stage with the highest mean: what a profile calls the bottleneck."""
        means = {name: self.total[name] / n for name, n in self.counts.items() if n}
        return max(means, key=means.__getitem__, default=None)

    @property
    def sentence(self) -> str:
        """What a person should know, in one sentence."""
        return sentence_of(self)

    @property
    def table(self) -> "pd.DataFrame":
        """By stage: own, blamed (mean ns a frame), gain (share of the end_to_end sum), gain_ns."""
        import pandas as pd

        rows = self.rows()
        index = pd.Index([row.pop("stage") for row in rows], name="stage", dtype=object)
        return pd.DataFrame(rows, index=index, dtype="float64")

    def __str__(self) -> str:
        return text(self.sections())

    def _repr_html_(self) -> str:
        return html(self.sections())

    def sections(self) -> list[Section]:
        """Return what is shown of it: the sentence, the chains, a table of the stages."""
        chains = tuple(
            f"{' waits for '.join(path)}: {format_ns(ns / max(self.frames, 1))} a frame"
            for path, ns in self.chains[:_MOST_CHAINS]
        )
        found = self.rows()
        longest = max((row[name] or 0 for row in found for name in ("own", "blamed")), default=0)
        rows = [
            (
                row["stage"],
                *(Cell(row[name], bar=(row[name] or 0) / (longest or 1)) for name in _TIMES),
                Cell(row["gain"], bar=row["gain"]),
            )
            for row in found
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
            Section(self.sentence, chains),
            Section("Stages", lines, Table(columns, rows), "causes"),
        ]

    def rows(self) -> list[dict[str, Any]]:
        """Return the table as plain values: a dict a stage, None where not known."""
        n, whole = self.frames, self.end_to_end
        return [
            {
                "stage": name,
                "own": self.own[name] / n if n else None,
                "blamed": self.blamed[name] / n if n else None,
                "gain": None if self.gain is None or not whole else self.gain[name] / whole,
                "gain_ns": None if self.gain is None or not n else self.gain[name] / n,
            }
            for name in self.own
        ]

    @property
    def chains(self) -> list[tuple[Path, float]]:
        """Who waited for whom, over at least two stages, and how long (ns), the longest first."""
        found = [
            ((handoff, *path), ns)
            for handoff, parts in self.waits.items()
            for path, ns in parts.items()
            if len(path) > 1 and ns > 0
        ]
        return sorted(found, key=lambda chain: -chain[1])

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as values that JSON has."""
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
                for handoff, parts in self.waits.items()
                for path, ns in parts.items()
            ],
            "notes": list(self.notes),
        }


def causes(
    trace: Recordings,
    *,
    hand_over: str | int | None = None,
    depth: int = DEPTH,
    stations: Mapping[str, str | None] | None = None,
    pipeline: Pipeline | None = None,
) -> Causes:
    """Return which stage is behind the time of a pipeline.

    Parameters
    ----------
    trace, hand_over, depth, stations, pipeline
        As `latprof.blame` takes them.

    Raises
    ------
    TraceError
        Sampled or lossy recordings, or a depth below 1.

    Notes
    -----
    Recordings of more than `latprof.queueing.windows.WINDOW` frames are read a window at a time.
    Whom frames waited for is carried from one to the next; gains are those of each window, replayed
    from the queue that was there at its beginning, with its own medians.

    Examples
    --------
    >>> from latprof import Span, Trace
    >>> line = Pipeline("line", ("start", "in", "end"), (Span("queue", "start", "in"),
    ...     Span("work", "in", "end", station="worker")))
    >>> at = {"start": np.arange(9) * 10, "in": np.arange(9) * 20, "end": np.arange(9) * 20 + 20}
    >>> found = causes(Trace(line, frame_id=np.arange(9), marks=at))
    >>> found.cause
    'work'
    >>> found.sentence
    'queue looks slowest (40 ns mean); 100 % of it is waiting for work: the cause is work'
    """
    from latprof.queueing.windowed import Parts  # it stands on this module

    depth = check_depth(depth)
    source = source_of(trace, "causes", pipeline=pipeline, stations=stations)
    parts = Parts(source.pipeline)
    for walk, batches in source.walks(hand_over=hand_over_ns(hand_over), depth=depth):
        parts = Parts(source.pipeline, walk)
        for columns in batches:
            parts.add(columns)
    return parts.causes()


def causes_of(whole: Picture) -> Causes:
    """Return the causes of frames."""
    facts = Facts()
    facts.add(whole)
    return with_facts(sums_of(whole), facts)


def with_facts(found: Causes, facts: Facts) -> Causes:
    """Return causes with what is to be said of all windows; no gains where that forbids them."""
    gain = None if facts.out_of_order else found.gain
    return replace(found, gain=gain, notes=tuple(dict.fromkeys((*found.notes, *facts.notes()))))


def sums_of(whole: Picture) -> Causes:
    """Return the sums of the frames of a window."""
    stages = whole.places.pipeline.stages
    total, counts = {}, {}
    own: dict[str, float] = {}
    blamed = dict.fromkeys((stage.name for stage in stages), 0.0)
    for stage in stages:
        rows, lengths = whole.lengths(stage)
        total[stage.name], counts[stage.name] = int(lengths.sum()), len(rows)
        own[stage.name] = float(total[stage.name])
    waits: dict[str, dict[Path, float]] = {}
    for wait in waits_of(whole, queued=True):
        waits[wait.handoff] = {path: float(x.sum()) for path, x in wait.by_path.items()}
    _queue_of_blocked(whole, waits)
    _blocked(whole, waits)
    notes = []
    for name, parts in waits.items():
        for path, ns in parts.items():
            own[name] -= ns
            blamed[path[-1]] += ns
    if not whole.places.stations:
        notes.append(NO_STATION)
    gain: dict[str, float] | None = None
    try:
        gain = _gains(whole)
    except TraceError as error:
        notes.append(str(error))
    rows, lengths = whole.end_to_end
    return Causes(
        own, blamed, gain, total, waits, counts, int(lengths.sum()), len(rows), tuple(notes)
    )


def _sum(left: Mapping[Any, Any], right: Mapping[Any, Any]) -> dict[Any, Any]:
    return {key: left.get(key, 0) + right.get(key, 0) for key in {**left, **right}}


def _queue_of_blocked(whole: Picture, waits: dict[str, dict[Path, float]]) -> None:
    """Count the queue in front of a blocked station for who blocked it.

    While a frame of the queue is served nobody blocks; but without the time that was blocked before
    the queue would be shorter by what a replay of the station without that time takes away.
    """
    for block in whole.places.blocks:
        mine, apart = whole.visits[block.station], whole.delays[block.station]
        names = {stage.name for stage in block.stages}
        held = [b for b in whole.blocked[block.station] if b.stage in names]
        if not held or block.handoff is None or len(whole.places.of(block.station)) > 1:
            continue
        parts = waits[block.handoff]
        before = mine.end - mine.begin
        after = before - held[0].lengths
        ready = apart.arrive + apart.delay
        sooner = one_server(ready, apart.hand_over, after) - after
        counted = whole.counted[mine.frame] & apart.queued
        gone = float(np.maximum(mine.begin - np.maximum(sooner, ready), 0)[counted].sum())
        chained = {path: ns for path, ns in parts.items() if path[-1] not in names}
        known, own = sum(chained.values()), sum(parts.values()) - sum(chained.values())
        more = min(max(gone - known, 0.0), own)
        if known <= 0 or own <= 0 or more <= 0:
            continue
        for path in parts:
            if path in chained:
                parts[path] *= 1 + more / known
            else:
                parts[path] *= 1 - more / own


def _blocked(whole: Picture, waits: dict[str, dict[Path, float]]) -> None:
    """Add what stages themselves waited, held up by the next station."""
    for station, found in whole.blocked.items():
        for blocked in found:
            mine = whole.visits[station]
            if blocked.stage not in mine.stages:  # a hand-off's time is told of already
                continue
            counted = whole.counted[mine.frame]
            parts = waits.setdefault(blocked.stage, {})
            for path, busy in whole.reach[blocked.by].items():
                ns = (busy.upto(blocked.high) - busy.upto(blocked.low))[counted].sum()
                parts[path] = parts.get(path, 0.0) + float(ns)


def _gains(whole: Picture) -> dict[str, float]:
    """Return for each stage what holding it to its own median takes off the end_to_end sum."""
    rows, _ = whole.end_to_end
    gains = {}
    for stage in whole.places.pipeline.stages:
        hold = _held(whole, stage.name)
        gains[stage.name] = 0.0
        if hold is not None:
            shift = replay(whole, {stage.name: hold}).shift
            gains[stage.name] = float(-int(shift[rows].sum()))  # not -0.0
    return gains


def _held(whole: Picture, name: str) -> Change | None:
    """Return what holds a stage to its median: of a hand-off its delay, where it is known."""
    for block in whole.places.blocks:
        if block.handoff == name:
            usual = whole.delays[block.station].usual_ns
            return None if usual is None else _at_most(usual)
        if any(stage.name == name for stage in block.stages):
            low, high = whole.visits[block.station].stages[name]
            lengths = high - low
            for blocked in whole.blocked[block.station]:
                if blocked.stage == name:
                    # what others held it up is not its own
                    waited = blocked.lengths
                    usual = int(np.median(lengths - waited)) if len(lengths) else 0
                    return lambda x: np.where(x - waited > usual, usual + waited, x)
            return _at_most(int(np.median(lengths))) if len(lengths) else None
    _, lengths = whole.lengths(whole.places.pipeline.span(name))
    return _at_most(int(np.median(lengths))) if len(lengths) else None


def _at_most(usual: int) -> Change:
    return lambda lengths: np.minimum(lengths, usual)


def sentence_of(found: Causes) -> str:
    """Return one sentence: what looks slow, and what it waits for."""
    cause, slowest = found.cause, found.slowest
    if cause is None or slowest is None:
        return "no frame has a whole stage: nothing is slow"
    mean = format_ns(found.total[slowest] / found.counts[slowest])
    if NO_STATION in found.notes:
        return (
            f"{slowest} is slowest ({mean} mean); whether it is the cause is not known, as no "
            "stage has a station: say what serves a stage (station=, --station STAGE=NAME)"
        )
    if cause == slowest:
        waited = found.blamed[cause] / found.frames if found.frames else 0
        behind = f", and frames wait {format_ns(waited)} for it elsewhere" if waited >= 1 else ""
        return f"{cause} is slowest ({mean} mean){behind}: it is the cause"
    parts: dict[str, float] = {}
    for path, ns in found.waits.get(slowest, {}).items():
        parts[path[-1]] = parts.get(path[-1], 0.0) + ns
    share = parts.get(cause, 0.0) / found.total[slowest] if found.total[slowest] else 0.0
    if share >= 0.005:
        part = f"{share:.0%}".replace("%", " %")
        return (
            f"{slowest} looks slowest ({mean} mean); {part} of it is waiting for {cause}: "
            f"the cause is {cause}"
        )
    n = max(found.frames, 1)
    own, blamed = format_ns(found.own[cause] / n), format_ns(found.blamed[cause] / n)
    text = f"{slowest} looks slowest ({mean} mean), but "
    gain = found.gain[cause] / found.end_to_end if found.gain and found.end_to_end else 0.0
    if gain >= LEAST_GAIN:
        text += f"with {cause} held to its median, end to end would take {gain:.0%} less: "
        return text.replace("%", " %") + f"the cause is {cause}"
    return f"{text}{cause} takes {own} and is waited for {blamed}: the cause is {cause}"
