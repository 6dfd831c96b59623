"""The hot path of one profiler: its copies of the stamping functions, counters, and cost."""

import itertools
import logging
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import FunctionType, ModuleType
from typing import Any

from latprof.frames import NO_SIZE
from latprof.pipeline import Pipeline
from latprof.recorder import stamping
from latprof.recorder.alerts import Alerts, Tally
from latprof.recorder.backpressure import FreeSlots
from latprof.recorder.frame import Frame, track_class
from latprof.recorder.stamping import MARKS_AT, LiveFrame
from latprof.ring.ring import Ring, cpu_word
from latprof.thresholds import END_TO_END
from latprof.units import format_ns, format_quantity

__all__ = ["HotPath", "Overhead", "measure_cost_ns"]

_SILENT = logging.Logger("latprof.recorder.overhead", logging.CRITICAL + 1)

COST_FRAMES = 64  # frames in a round of the cost measurement
COST_ROUNDS = 15


class HotPath:
    """The functions that stamp into one ring, and their counters.

    Parameters
    ----------
    ring
        Where frames are committed.
    clock
        Returns ns.
    owned
        The marks that this process stamps.
    alerts
        Thresholds and notes.
    sampled_below
        A run of ids is sampled if its hash is below this limit; 2**64 samples all.
    free_slots
        The slots that may be written, or None if older rows are overwritten.

    Attributes
    ----------
    frame, record
        Begin a frame and record a finished one: plain functions that ignore their first argument,
        the profiler. `Profiler` puts them in place of its methods.
    started, skipped
        Counters; `latprof.ring.ring.count_of` reads them.
    rejected
        Frames that were rejected before they got a commit number, by reason.
    void
        Frames that were rejected after they got a commit number, by reason.
    voids
        Those numbers, until the fold has passed them.
    dropped
        Dropped frames by reason.
    rss, cpu
        The last sample of memory and CPU, which new rows are given.
    live, index, clock, alerts, owned, free_slots
        The class of the frames, the positions of owned marks in a row, and the arguments.
    """

    frame: Callable[..., Frame]
    record: Callable[..., None]

    def __init__(
        self,
        ring: Ring,
        clock: Callable[[], int],
        owned: tuple[str, ...],
        alerts: Alerts,
        sampled_below: int,
        free_slots: FreeSlots | None = None,
    ) -> None:
        marks = ring.pipeline.marks
        position = {mark: MARKS_AT + i for i, mark in enumerate(marks)}
        self.index = {mark: position[mark] for mark in owned}
        self.clock, self.alerts, self.owned = clock, alerts, set(owned)
        self.free_slots = free_slots
        self.started, self.skipped = itertools.count(), itertools.count()
        self.rejected, self.void, self.dropped = Tally(), Tally(), Tally()
        self.voids: set[int] = set()

        self._rss_at = rss_at = MARKS_AT + len(marks)
        size_at, labels_at, self._cpu_at, seq_at = range(rss_at + 1, rss_at + 5)
        self._blank: list[Any] = [ring.buffer, 0, 0, 0, *[False] * len(marks), 0, NO_SIZE, 0, 0, 0]
        watched = [
            (span.name, position[span.begin], position[span.end], alerts.lowest[span.name])
            for span in ring.pipeline.all_spans
            if span.name in alerts.lowest and span.begin in self.index and span.end in self.index
        ]
        limits = {name: at_most for name, *_, at_most in watched}

        self._names = _copied(stamping)
        self._names |= {
            "ring": ring,
            "clock": clock,
            "alerts": alerts,
            "free_slots": free_slots,
            "owned": owned,
            "marks": marks,
            "mark_count": len(marks),
            "foreign": tuple(i for i, mark in enumerate(marks) if mark not in self.index) or None,
            "index": self.index,
            "owns_start": "start" in self.index,
            "owns_end": "end" in self.index,
            "start_at": position["start"],
            "end_at": position["end"],
            "size_at": size_at,
            "labels_at": labels_at,
            "seq_at": seq_at,
            "watched": watched,
            "stages_watched": any(name != END_TO_END for name in limits),
            "limit": limits.get(END_TO_END),
            "copy_blank": self._blank.copy,
            "spent": [True] * len(self._blank),
            "count_started": self.started.__next__,
            "count_skipped": self.skipped.__next__,
            "draw": ring.numbers.next,
            "pack": ring.pack,
            "buffer": ring.buffer,
            "capacity": ring.capacity,
            "width": ring.width,
            "source_codes": ring.sources.codes,
            "samples": sampled_below < 2**64,
            "sampled_below": sampled_below,
            "runs": {},
            "latest": {},
            "rejected": self.rejected,
            "voided": self.void,
            "voids": self.voids,
            "dropped": self.dropped,
        }
        self.sample(0, float("nan"))
        self.switch(False)
        self.live: type[LiveFrame] = self._names["LiveFrame"]
        track_class(self.live)
        self.frame = self._names["sampled_frame" if self._names["samples"] else "frame"]
        self.record = self._names["record"]

    def switch(self, on: bool) -> None:
        """Start or stop recording."""
        names = self._names
        names["is_open"] = on
        short = on and names["owns_end"] and self.free_slots is None and not names["stages_watched"]
        names["detour"] = not short

    def sample(self, rss: int, cpu: float) -> None:
        """Set the memory in bytes and the CPU in percent of a core that new rows are given."""
        self.rss, self.cpu = rss, cpu
        word = cpu_word(cpu)
        self._blank[self._rss_at], self._blank[self._cpu_at] = rss, word
        self._names["rss"], self._names["cpu_word"] = rss, word


@dataclass(frozen=True, slots=True)
class Overhead:
    """What profiling a frame costs in this process.

    Parameters
    ----------
    ns_per_frame
        The time from the call of `Profiler.frame` to the end of `finish` for a frame with all
        its marks: the median of several rounds.
    share
        The part of the mean end_to_end of the recorded frames, or None if no frame was recorded
        or this process does not own both ``start`` and ``end``.

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


def measure_cost_ns(pipeline: Pipeline, owns: tuple[str, ...], alerts: Alerts) -> float:
    """Return what stamping a frame costs in ns, measured on a ring of its own.

    The thresholds are those of `alerts`. The clock is `time.perf_counter_ns`, as extra reads of
    the profiler's clock could disturb it.
    """
    quiet = Alerts(_SILENT, alerts.warning, alerts.critical)
    hot = HotPath(Ring(pipeline, COST_FRAMES), time.perf_counter_ns, owns, quiet, 2**64)
    hot.switch(True)
    caller = type("Caller", (), {"frame": hot.frame})()  # called as a method, as in a program
    between = [mark for mark in owns if mark not in ("start", "end")]

    def run() -> float:
        frames = range(COST_FRAMES)
        begin = time.perf_counter_ns()
        for frame_id in frames:
            frame = caller.frame(frame_id, 960)
            for mark in between:
                frame.mark(mark)
            frame.finish()
        return (time.perf_counter_ns() - begin) / COST_FRAMES

    run()  # a first run lets CPython specialize the code
    return statistics.median(run() for _ in range(COST_ROUNDS))


def _copied(module: ModuleType) -> dict[str, Any]:
    """Return the names of a module, with copies of its functions that have these as globals.

    The code objects are copied as well: CPython specializes code for the types that it meets, and
    each profiler has its own classes.
    """
    names = dict(vars(module))

    def of_function(given: FunctionType) -> FunctionType:
        """Return a copy of a function, with `names` as its globals."""
        new = FunctionType(given.__code__.replace(), names, given.__name__, given.__defaults__)
        new.__kwdefaults__, new.__annotations__ = given.__kwdefaults__, given.__annotations__
        new.__doc__ = given.__doc__
        return new

    for name, value in vars(module).items():
        if getattr(value, "__module__", None) != module.__name__:
            continue
        if isinstance(value, FunctionType):
            names[name] = of_function(value)
        elif isinstance(value, type):
            content = {
                key: of_function(inner) if isinstance(inner, FunctionType) else inner
                for key, inner in vars(value).items()
            }
            names[name] = type(name, value.__bases__, content)
    return names
