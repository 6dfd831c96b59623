"""What a caller says about the queues of a recording: the same options for all questions."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from latprof.errors import TraceError
from latprof.pipeline import Pipeline
from latprof.text import quoted
from latprof.units import parse_duration

__all__ = ["MOST_STAGES", "Options"]

MOST_STAGES = 8
"""Default for the number of stages of a path."""


@dataclass(frozen=True, slots=True)
class Options:
    """What is known of the queues of a recording.

    Parameters
    ----------
    hand_over
        How soon after a departure queued frames enter a station, ``"1us"``. None estimates it from
        the frames.
    depth
        The largest number of stages of a path: of stages that waited for each other because a
        queue was full.
    queues
        How many frames a queue has room for, by hand-off, 0 if it is unbounded. Others are those of
        the pipeline, or are found in the marks.
    stations
        Stations by stage, instead of those of the pipeline: ``{"decode": "cpu"}``. None as a
        station makes the stage a hand-off.
    pipeline
        What the marks mean, for files that do not contain it.
    """

    hand_over: str | int | None = None
    depth: int = MOST_STAGES
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
            It is not a duration.
        """
        if self.hand_over is None:
            return None
        return parse_duration(self.hand_over, name="hand_over", error=TraceError)
