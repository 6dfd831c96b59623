"""What stamping costs in the profiled program, as ratios to bare clock reads.

    python -m tests.benchmarks.stamping [--frames 200000] [--repetitions 9]

A frame has the eight marks of the audio pipeline. The floor is eight reads of
`time.perf_counter_ns`; every way of recording reads the clock as often. Each repetition runs the
floor and all ways one after the other, so that a slow moment of the machine meets them all; the
ratio is of the fastest repetitions, and the median of the ratios of each repetition stands beside
it. The table is Markdown.
"""

import argparse
import gc
import platform
import statistics
import sys
import threading
import time
from collections.abc import Callable
from types import FunctionType

import numpy as np

from latprof import AUDIO, Profiler

CLOCK = time.perf_counter_ns
RING = 65_536


def bare_reads(frames: int) -> None:
    read = CLOCK
    for _ in range(frames):
        read()
        read()
        read()
        read()
        read()
        read()
        read()
        read()


def per_mark(profiler: Profiler) -> FunctionType:
    def run(frames: int) -> None:
        for frame_id in range(frames):
            frame = profiler.frame(frame_id, 960, "input")
            frame.mark("webrtc")
            frame.mark("validation")
            frame.mark("serialization")
            frame.mark("ipc")
            frame.mark("cgo")
            frame.mark("alsa")
            frame.finish()

    return run


def in_block(profiler: Profiler) -> FunctionType:
    def run(frames: int) -> None:
        for frame_id in range(frames):
            with profiler.frame(frame_id, 960, "input") as frame:
                frame.mark("webrtc")
                frame.mark("validation")
                frame.mark("serialization")
                frame.mark("ipc")
                frame.mark("cgo")
                frame.mark("alsa")

    return run


def one_call(profiler: Profiler) -> FunctionType:
    def run(frames: int) -> None:
        read = CLOCK
        record = profiler.record
        for frame_id in range(frames):
            stamps = (read(), read(), read(), read(), read(), read(), read(), read())
            record(frame_id, stamps, 960, "input")

    return run


def many(profiler: Profiler) -> FunctionType:
    block = 4_096
    stamps = np.cumsum(np.full((block, 8), 1_000), axis=1) + CLOCK()

    def run(frames: int) -> None:
        for first in range(0, frames, block):
            count = min(block, frames - first)
            profiler.record_many(np.arange(first, first + count), stamps[:count], 960, "input")

    return run


class Case:
    """A way of recording, and the profiler that it records with."""

    def __init__(
        self,
        name: str,
        way: Callable[[Profiler], FunctionType],
        *,
        goal: float | None = None,
        rate: float = 1.0,
        running: bool = True,
        background: bool = False,
        thresholds: bool = False,
    ) -> None:
        self.name = name
        self.goal = goal
        limits = {"warning": "1h", "critical": "2h"} if thresholds else {}
        self.profiler = Profiler(AUDIO, capacity=RING, sampling_rate=rate, **limits)
        self.run = way(self.profiler)
        # code of its own, as a program has: CPython specializes code for the types it meets
        self.run.__code__ = self.run.__code__.replace()
        self.running = running
        self.background = background

    def time(self, frames: int) -> float:
        """Return ns a frame."""
        if self.running:
            self.profiler.start()
            if not self.background:
                self.profiler._background.end()
        try:
            before = CLOCK()
            self.run(frames)
            return (CLOCK() - before) / frames
        finally:
            self.profiler.stop()


def cases() -> list[Case]:
    return [
        Case("`frame`, 6 x `mark`, `finish`", per_mark, goal=3.6),
        Case("the same with thresholds", per_mark, thresholds=True),
        Case("the same as `with`", in_block),
        Case("`record`", one_call, goal=2.5),
        Case("`record_many`, 4,096 frames a call", many),
        Case("not sampled", per_mark, goal=0.9, rate=0.0),
        Case("stopped", per_mark, goal=0.6, running=False),
        Case("`frame` ..., background thread on", per_mark, background=True, thresholds=True),
        Case("`record`, background thread on", one_call, background=True, thresholds=True),
    ]


def measure(frames: int, repetitions: int) -> list[tuple[Case, float, float, float]]:
    """Return, for each case, ns a frame, ratio of the fastest, median ratio."""
    all_cases = cases()
    floors: list[float] = []
    times: dict[str, list[float]] = {case.name: [] for case in all_cases}
    for _ in range(repetitions):
        before = CLOCK()
        bare_reads(frames)
        floors.append((CLOCK() - before) / frames)
        for case in all_cases:
            gc.collect()
            times[case.name].append(case.time(frames))
    rows = []
    for case in all_cases:
        ns = times[case.name]
        ratios = [mine / floor for mine, floor in zip(ns, floors, strict=True)]
        rows.append((case, min(ns), min(ns) / min(floors), statistics.median(ratios)))
    print(
        f"CPython {platform.python_version()}, {platform.machine()}: "
        f"8 bare clock reads take {min(floors):.0f} ns; {frames:,} frames x {repetitions}"
    )
    return rows


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=200_000)
    parser.add_argument("--repetitions", type=int, default=9)
    options = parser.parse_args(arguments)
    rows = measure(options.frames, options.repetitions)
    print()
    print("| a frame of 8 stamps | ns | x 8 clock reads | median | to reach |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for case, ns, ratio, median in rows:
        goal = "" if case.goal is None else f"{case.goal:.1f}"
        print(f"| {case.name} | {ns:,.0f} | {ratio:.2f} | {median:.2f} | {goal} |")
    assert threading.active_count() == 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
