"""The cost of profiling a frame in this process."""

import logging
import math
import statistics
import time
from dataclasses import dataclass

from latprof.pipeline import Pipeline
from latprof.recorder.alerts import Alerts
from latprof.recorder.implementation import IMPL, make_core
from latprof.ring.ring import Ring
from latprof.units import format_ns, format_quantity

__all__ = ["Overhead", "measure_cost_ns"]

_SILENT = logging.Logger("latprof.recorder.overhead", logging.CRITICAL + 1)

COST_FRAMES = 64  # frames in a round of the cost measurement
COST_ROUNDS = 15


@dataclass(frozen=True, slots=True)
class Overhead:
    """The cost of profiling a frame in this process.

    Parameters
    ----------
    ns_per_frame
        The time from the call of `Profiler.frame` to the end of `finish` for a frame with all
        its marks: the median of several rounds.
    share
        The part of the mean end_to_end of the recorded frames, or None if no frame was recorded
        or this process does not own both ``start`` and ``end``.
    core
        The stamping core that runs: "c" or "python".

    Examples
    --------
    >>> print(Overhead(410.0, 0.00013, core="c"))
    profiling a frame takes 410 ns here with the C core, 0.013 % of its mean latency
    >>> print(Overhead(1_300.0, 1.32, core="python"))
    profiling a frame takes 1.30 us here with the Python core, 132 % of its mean latency
    """

    ns_per_frame: float
    share: float | None
    core: str = IMPL

    def __str__(self) -> str:
        part = ""
        if self.share is not None and math.isfinite(self.share):
            part = f", {format_quantity(self.share * 100, 2)} % of its mean latency"
        core = "C" if self.core == "c" else "Python"
        cost = format_ns(self.ns_per_frame)
        return f"profiling a frame takes {cost} here with the {core} core{part}"


def measure_cost_ns(pipeline: Pipeline, owns: tuple[str, ...], alerts: Alerts) -> float:
    """Return what stamping a frame costs in ns, measured on a ring of its own.

    The thresholds are those of `alerts`. The clock is `time.perf_counter_ns`, as extra reads of
    the profiler's clock could disturb it.
    """
    quiet = Alerts(_SILENT, alerts.warning, alerts.critical)
    core, _ = make_core(Ring(pipeline, COST_FRAMES), time.perf_counter_ns, owns, quiet)
    core.start()
    between = [mark for mark in owns if mark not in ("start", "end")]

    def run() -> float:
        """Return the time of a frame in ns."""
        frames = range(COST_FRAMES)
        begin = time.perf_counter_ns()
        for frame_id in frames:
            frame = core.frame(frame_id, 960)
            for mark in between:
                frame.mark(mark)
            frame.finish()
        return (time.perf_counter_ns() - begin) / COST_FRAMES

    run()  # a first run lets CPython specialize the code
    return statistics.median(run() for _ in range(COST_ROUNDS))
