"""Stations that a pipeline does not declare, as suggestions: never used without being asked for."""

from dataclasses import dataclass

import numpy as np

from latprof.frames import MISSING, Columns
from latprof.pipeline import Pipeline, Span
from latprof.queueing.recordings import Recordings, frames_of
from latprof.queueing.visits import latest_before

__all__ = ["Suggestion", "suggest_stations", "suggestions_of"]

_ENOUGH = 10
_ODD = 0.001


@dataclass(frozen=True, slots=True)
class Suggestion:
    """Stages that look as if one station served them, and why.

    Attributes
    ----------
    stages
        In a row.
    frames, overlaps
        How many frames were in them, and how many entered before the one before had left.
    back_to_back
        How many entered right after it had left: within a tenth of the usual time.
    busy
        Share of the time in which a frame was in them.
    stations
        What ``stations=`` of `latprof.blame` takes, to try it.
    """

    stages: tuple[str, ...]
    frames: int
    overlaps: int
    back_to_back: int
    busy: float
    stations: dict[str, str | None]

    @property
    def sentence(self) -> str:
        """The suggestion and its evidence."""
        names = " and ".join(self.stages)
        return (
            f"{names} may be served by one station: of {self.frames:,} frames {self.overlaps:,} "
            f"were in {'it' if len(self.stages) == 1 else 'them'} together with another, "
            f"{self.back_to_back:,} entered right after another had left, busy {self.busy:.0%}"
        )


def suggest_stations(
    trace: Recordings, *, pipeline: Pipeline | None = None
) -> tuple[Suggestion, ...]:
    """Return which stages without a station look as if one served them.

    Their intervals do not overlap across frames (one frame in a thousand may be odd), though ten
    frames and more came one right after the other: where that never happens, nothing is known.

    Parameters
    ----------
    trace, pipeline
        As `latprof.blame` takes them.

    Raises
    ------
    TraceError
        Sampled or lossy recordings.
    """
    return suggestions_of(*frames_of(trace, "suggest_stations", pipeline=pipeline))


def suggestions_of(kind: Pipeline, columns: Columns) -> tuple[Suggestion, ...]:
    """Return the suggestions for frames."""
    found: list[Suggestion] = []
    stages = kind.stages
    taken = {stage.station for stage in stages}
    i = 0
    while i < len(stages):
        best: tuple[int, tuple[int, int, int, float]] | None = None
        j = i
        while j < len(stages) and stages[j].station is None:
            evidence = _evidence(columns, stages[i], stages[j])
            if evidence[1] > _ODD * evidence[0] or evidence[0] < 2:
                break
            if evidence[2] >= _ENOUGH:
                best = j + 1, evidence
            j += 1
        if best is None:
            i += 1
            continue
        names = tuple(stage.name for stage in stages[i : best[0]])
        station = _new_name(f"{names[0]}_station", taken)
        found.append(Suggestion(names, *best[1], dict.fromkeys(names, station)))
        i = best[0]
    return tuple(found)


def _new_name(name: str, taken: set[str | None]) -> str:
    name = name[:60]
    while name in taken:
        name = f"{name[:60]}_"
    taken.add(name)
    return name


def _evidence(columns: Columns, first: Span, last: Span) -> tuple[int, int, int, float]:
    begin, end = columns.marks[first.begin], columns.marks[last.end]
    there = (begin != MISSING) & (end != MISSING) & (end >= begin)
    begin, end = begin[there], end[there]
    if not len(begin):
        return 0, 0, 0, 0.0
    order = np.lexsort((end, begin))
    begin, end = begin[order], end[order]
    free = latest_before(end)
    overlaps = int(np.count_nonzero((begin < free)[1:]))
    usual = int(np.median(end - begin))
    gaps = begin[1:] - free[1:]
    close = int(np.count_nonzero((gaps >= 0) & (gaps <= max(usual // 10, 1))))
    time = int(end.max() - begin[0])
    return len(begin), overlaps, close, float((end - begin).sum()) / time if time else 1.0
