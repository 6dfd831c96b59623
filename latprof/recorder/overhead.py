"""What profiling costs where it runs: measured, not quoted."""

import logging
import math
import statistics
import time
from dataclasses import dataclass

from latprof.pipeline import Pipeline
from latprof.recorder.alerts import Alerts
from latprof.recorder.hotpath import HotPath
from latprof.ring.ring import Ring
from latprof.units import format_ns, format_quantity

__all__ = ["Overhead", "measured_ns"]

_SILENT = logging.Logger("latprof.recorder.overhead", logging.CRITICAL + 1)

FRAMES = 64
ROUNDS = 15


@dataclass(frozen=True, slots=True)
class Overhead:
    """What profiling costs.

    Parameters
    ----------
    ns_per_frame
        Of a frame with all its marks, from `Profiler.frame` to the end of `finish`: the median
        of rounds in this process.
    share
        Of the mean end_to_end of the recorded frames; None where there is none, or a process
        that sees no whole frame.

    Examples
    --------
    >>> print(Overhead(1_300.0, 0.00013))
    profiling a frame takes 1.30 us here, 0.013 % of its mean latency
    >>> print(Overhead(1_300.0, 1.32))
    profiling a frame takes 1.30 us here, 132 % of its mean latency
    """

    ns_per_frame: float
    share: float | None

    def __str__(self) -> str:
        part = ""
        if self.share is not None and math.isfinite(self.share):
            part = f", {format_quantity(self.share * 100, 2)} % of its mean latency"
        return f"profiling a frame takes {format_ns(self.ns_per_frame)} here{part}"


def measured_ns(pipeline: Pipeline, owns: tuple[str, ...], alerts: Alerts) -> float:
    """Return what a frame costs, ns: stamped into a ring of its own, that nobody reads.

    With the thresholds of `alerts`. The clock is `time.perf_counter_ns`, whatever the profiler's
    is: to read that one more often than frames do could disturb it.
    """
    quiet = Alerts(_SILENT, alerts.thresholds)
    hot = HotPath(Ring(pipeline, FRAMES), time.perf_counter_ns, owns, quiet, 2**64)
    hot.switch(True)
    caller = type("Caller", (), {"frame": hot.frame})()  # called as in a program
    between = [mark for mark in owns if mark not in ("start", "end")]

    def run() -> float:
        frames = range(FRAMES)
        begin = time.perf_counter_ns()
        for frame_id in frames:
            frame = caller.frame(frame_id, 960)
            for mark in between:
                frame.mark(mark)
            frame.finish()
        return (time.perf_counter_ns() - begin) / FRAMES

    run()  # CPython specializes what runs
    return statistics.median(run() for _ in range(ROUNDS))
