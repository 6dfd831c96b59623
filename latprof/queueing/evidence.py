"""What is said beside the sums of windows: how many servers, who held whom up, whether in order."""

from dataclasses import dataclass, field

import numpy as np

from latprof.queueing.model import Picture
from latprof.queueing.replay import MOST_BREAKS, breaks_of

__all__ = ["Facts", "contradiction"]


@dataclass(slots=True)
class _Station:
    frames: int = 0
    unknown: int = 0
    breaks: int = 0
    servers: int = 1
    service_ns: int = 0


@dataclass(slots=True)
class _Held:
    visits: int = 0
    ns: int = 0


@dataclass(slots=True)
class Facts:
    """Counts over windows, each frame once, by station; and by who held it up, at which stage."""

    stations: dict[str, _Station] = field(default_factory=dict)
    held: dict[tuple[str, str, str], _Held] = field(default_factory=dict)

    def add(self, whole: Picture) -> None:
        """Add the frames of a window."""
        breaks = breaks_of(whole)
        for name, mine in whole.visits.items():
            new = whole.is_fresh(mine.frame)
            known = self.stations.setdefault(name, _Station())
            entered = int(np.count_nonzero(whole.is_fresh(mine.unknown)))
            known.frames += int(np.count_nonzero(new)) + entered
            known.unknown += int(np.count_nonzero(mine.unended & new)) + entered
            known.breaks += breaks[name]
            known.servers = max(known.servers, mine.servers)
            known.service_ns += int((mine.end - mine.begin)[new].sum())
            for blocked in whole.blocked[name]:
                lengths = blocked.lengths[new]
                held = self.held.setdefault((name, blocked.by, blocked.stage), _Held())
                held.visits += int(np.count_nonzero(lengths))
                held.ns += int(lengths.sum())

    @property
    def out_of_order(self) -> str:
        """Why no replay is available; empty: it is."""
        for name, known in self.stations.items():
            why = contradiction(name, known.breaks, known.frames)
            if why:
                return why
        return ""

    def notes(self) -> list[str]:
        """Return a line on each."""
        lines = []
        for (name, by, stage), held in self.held.items():
            part = held.ns / max(self.stations[name].service_ns, 1)
            lines.append(
                f"station {name} was held up by a full queue in front of {by} (inferred from "
                f"{held.visits:,} visits; {part:.0%} of the time of its visits, at {stage})"
            )
        for name, known in self.stations.items():
            if known.servers > 1:
                lines.append(f"station {name} serves up to {known.servers} frames at once")
            if known.unknown:
                lines.append(f"{known.unknown:,} frames were in station {name} at unknown times")
        if self.out_of_order:
            lines.append(self.out_of_order)
        return lines


def contradiction(station: str, breaks: int, frames: int) -> str:
    """Return why a station's frames cannot be replayed; empty: they can."""
    if breaks <= MOST_BREAKS * max(frames, 1):
        return ""
    return (
        f"a replay is not available: {breaks:,} of {frames:,} frames at station {station!r} "
        "contradict first in, first out, or lack a mark there: at most 1 % may"
    )
