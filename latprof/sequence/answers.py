"""What `order.Order` tells, as plain values; None where it cannot be known, and a note why.

Times are in ns.
"""

from dataclasses import dataclass

__all__ = ["ArrivalFacts", "DeadlineFacts", "FlightFacts", "JitterFacts", "PeriodFacts"]


@dataclass(frozen=True, slots=True)
class ArrivalFacts:
    """Ids of the frames that reached a mark, in order of its stamps; of equal ones, of ids.

    `gaps` counts the places where ids are skipped, `reordered` the frames whose id is below the
    largest one before them. `lost` ids lie between the smallest and the largest and never came;
    `longest_loss` is the longest run of them. `duplicates` came before, wherever.
    """

    mark: str
    frames: int
    gaps: int | None = None
    reordered: int | None = None
    lost: int | None = None
    longest_loss: int | None = None
    duplicates: int | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class JitterFacts:
    """Inter-arrival jitter of RFC 3550 in order of arrival at a mark, ns.

    Over finished frames with a latency of 0 or more from start to the mark: `last` and `peak` of
    the filtered jitter, `mean` of the differences between successive latencies.
    """

    mark: str
    last: float | None = None
    peak: float | None = None
    mean: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class PeriodFacts:
    """Time from start to start of successive frames, ns."""

    count: int
    mean: float | None = None
    std: float | None = None
    min: int | None = None
    max: int | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class FlightFacts:
    """Frames in flight: started and not ended; a frame that ends makes room for one that starts.

    `mean` is by Little's law: the sum of end_to_end / active time. Dropped frames are in flight
    until they are dropped.
    """

    mean: float | None = None
    peak: int | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class DeadlineFacts:
    """Frames that took longer than the deadline (ns), or were dropped.

    `ratio` is of `frames`: those finished with a latency of 0 or more, and those dropped.
    `longest_run` counts misses in a row, in order of start; `first_missed` and `last_missed` are
    ids.
    """

    deadline_ns: int
    span: str
    frames: int | None = None
    misses: int | None = None
    ratio: float | None = None
    longest_run: int | None = None
    first_missed: int | None = None
    last_missed: int | None = None
    note: str = ""
