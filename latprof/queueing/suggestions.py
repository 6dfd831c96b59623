"""Suggests stations for stages without one that look as if a station served them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from latprof.frames import MISSING
from latprof.io.dataset import DatasetLike
from latprof.marks import Span
from latprof.pipeline import Pipeline
from latprof.queueing.model import QueueModel
from latprof.queueing.options import Options
from latprof.queueing.stations import latest_departures
from latprof.queueing.windows import Recordings

__all__ = ["Suggestion", "suggest_stations"]

_FEWEST_CLOSE = 10  # entries right after a departure that a suggestion needs
_MOST_OVERLAPS = 0.001  # share of the frames that may overlap, for a suggestion


@dataclass(frozen=True, slots=True)
class Suggestion:
    """Consecutive stages that look as if one station served them, and why.

    Attributes
    ----------
    stages
        Their names.
    frames
        How many frames passed these stages.
    overlaps
        How many entered before their predecessor had left.
    back_to_back
        How many entered within a tenth of the usual time after their predecessor left.
    busy
        Share of the time in which a frame was in them.
    stations
        What ``stations=`` of `latprof.blame` accepts, to try it.
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


@dataclass(slots=True)
class _Occupancy:
    """How frames followed each other in consecutive stages, added up window by window."""

    first: Span
    last: Span
    frames: int = 0
    overlaps: int = 0
    close: int = 0
    time: int = 0
    begin: int = np.iinfo(np.int64).max
    end: int = np.iinfo(np.int64).min

    def add(self, model: QueueModel) -> None:
        """Add the new frames of a window."""
        begin, end = (model.columns.marks[x] for x in (self.first.begin, self.last.end))
        rows = np.flatnonzero((begin != MISSING) & (end != MISSING) & (end >= begin))
        rows = rows[np.lexsort((end[rows], begin[rows]))]
        begin, end, new = begin[rows], end[rows], model.new[rows]
        if not new.any():
            return
        lengths, free = end - begin, latest_departures(end)
        usual = int(np.median(lengths))
        gaps = begin[1:] - free[1:]
        self.frames += int(np.count_nonzero(new))
        self.overlaps += int(np.count_nonzero((gaps < 0) & new[1:]))
        self.close += int(np.count_nonzero((gaps >= 0) & (gaps <= max(usual // 10, 1)) & new[1:]))
        self.time += int(lengths[new].sum())
        self.begin, self.end = min(self.begin, int(begin[0])), max(self.end, int(end.max()))

    @property
    def is_exclusive(self) -> bool:
        return self.frames >= 2 and self.overlaps <= _MOST_OVERLAPS * self.frames

    def suggestion(self, stages: tuple[Span, ...], taken: set[str | None]) -> Suggestion:
        """Return the suggestion to serve stages by one station, under a name that is not taken."""
        names = tuple(stage.name for stage in stages)
        station = f"{names[0]}_station"[:60]
        while station in taken:
            station = f"{station[:60]}_"
        taken.add(station)
        span = self.end - self.begin
        busy = self.time / span if span else 1.0
        counts = self.frames, self.overlaps, self.close
        return Suggestion(names, *counts, busy, dict.fromkeys(names, station))


def suggest_stations(
    trace: DatasetLike,
    *,
    queues: Mapping[str, int | None] | None = None,
    stations: Mapping[str, str | None] | None = None,
    pipeline: Pipeline | None = None,
) -> tuple[Suggestion, ...]:
    """Return which stages without a station look as if one served them.

    In such stages frames do not overlap (one in a thousand may), although ten or more entered right
    after another had left: without such entries, one frame at a time may be chance.

    Parameters
    ----------
    trace, queues, stations, pipeline
        See `latprof.blame`.

    Raises
    ------
    TraceError
        Sampled or lossy recordings.
    """
    options = Options(queues=queues, stations=stations, pipeline=pipeline)
    recordings = Recordings(trace, "suggest_stations", options)
    stages = recordings.pipeline.stages
    # consecutive stages without a station, by the first and the last one
    pairs = [
        (i, j)
        for i in range(len(stages))
        for j in range(i, len(stages))
        if all(stage.station is None for stage in stages[i : j + 1])
    ]
    if not pairs:
        return ()

    def occupancies(models: Iterable[QueueModel]) -> dict[tuple[int, int], _Occupancy]:
        """Return how frames followed each other, by first and last stage."""
        runs = {(i, j): _Occupancy(stages[i], stages[j]) for i, j in pairs}
        for model in models:
            for run in runs.values():
                run.add(model)
        return runs

    runs = recordings.in_windows(occupancies)
    found: list[Suggestion] = []
    taken = {stage.station for stage in stages}
    i = 0
    while i < len(stages):
        j, best = i, None
        while (i, j) in runs and runs[i, j].is_exclusive:
            best = j if runs[i, j].close >= _FEWEST_CLOSE else best
            j += 1
        if best is not None:
            found.append(runs[i, best].suggestion(stages[i : best + 1], taken))
        i = i + 1 if best is None else best + 1
    return tuple(found)
