"""Options on the queues of a recording, the same for all questions."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from latprof.errors import TraceError
from latprof.pipeline import Pipeline
from latprof.text import quoted
from latprof.units import parse_duration

__all__ = ["MOST_STAGES", "Options", "server_counts"]

MOST_STAGES = 8
"""Default of the largest number of stages of a path."""


_MOST_SERVERS = 10_000


@dataclass(frozen=True, slots=True)
class Options:
    """What a caller knows of the queues of a recording.

    Parameters
    ----------
    hand_over
        How soon after a departure queued frames enter a station, ``"1us"`` or in ns. None estimates
        it from the frames.
    depth
        The largest number of stages of a path: of stages that waited for each other because a
        queue was full.
    servers
        How many frames a station served at once, ``{"server": 4}``. Others are found in the marks.
    queues
        How many frames the queue of a hand-off has room for, ``{"ipc": 8}``, 0 if it is unbounded.
        Others are those of the pipeline, or are found in the marks.
    stations
        Stations by stage, instead of those of the pipeline: ``{"decode": "cpu"}``. None as a
        station makes the stage a hand-off.
    pipeline
        The pipeline, for files that do not contain it.
    """

    hand_over: str | int | None = None
    depth: int = MOST_STAGES
    servers: Mapping[str, int] | None = None
    queues: Mapping[str, int | None] | None = None
    stations: Mapping[str, str | None] | None = None
    pipeline: Pipeline | None = None

    def __post_init__(self) -> None:
        depth = self.depth
        if isinstance(depth, bool) or not isinstance(depth, int | np.integer) or depth < 1:
            raise TraceError(
                f"depth must be an integer of 1 or more, got {quoted(depth)}; "
                f"leave it out to follow up to {MOST_STAGES} stages"
            )

    @property
    def hand_over_ns(self) -> int | None:
        """The hand-over in ns, or None if none was given.

        Raises
        ------
        TraceError
            `hand_over` is not a duration.
        """
        if self.hand_over is None:
            return None
        return parse_duration(self.hand_over, name="hand_over", error=TraceError)


def server_counts(stations: Iterable[str], servers: object) -> dict[str, int]:
    """Return how many frames stations serve at once, checked.

    Raises
    ------
    TraceError
        Not a dict, the pipeline has no such station, or the number is out of range.
    """
    if not isinstance(servers, Mapping):
        raise TraceError(
            f"servers must be a dict (for example {{'server': 2}}), got {quoted(servers)}"
        )
    known = list(stations)
    names = ", ".join(known) or "it has none"
    for name, count in servers.items():
        if name not in known:
            raise TraceError(
                f"servers must name stations of the pipeline ({names}), got {quoted(name)}"
            )
        integer = isinstance(count, int | np.integer) and not isinstance(count, bool)
        if not integer or not 1 <= count <= _MOST_SERVERS:
            raise TraceError(
                f"servers of {name} must be an integer from 1 to 10,000, got {quoted(count)}"
            )
    return {name: int(count) for name, count in servers.items()}
