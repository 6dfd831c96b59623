"""The cost of stamping as a multiple of bare clock reads, beside that of other tools.

    python -m tests.benchmarks.stamping [--frames 200000] [--repetitions 9] [--pythons PYTHON ...]

A frame has the eight marks of the audio pipeline. The baseline is eight reads of
`time.perf_counter_ns`; every case reads the clock as often. Each repetition runs the baseline and
all cases one after the other, so that a slow moment of the machine affects all of them. The table
has the ratio of the fastest repetitions and the median of the ratios of all repetitions. With
`--pythons` the benchmark runs in each of these interpreters, in a new virtual environment. The
other tools are in the extra ``peers``; tools that are not installed are listed as such. The tables
are Markdown.
"""

import argparse
import gc
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FunctionType

import numpy as np

from latprof import AUDIO, Profiler
from tests.benchmarks.peers import PEERS, absent

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


class Empty:
    """Accepts the calls of a frame and does nothing: a lower bound for any recorder."""

    __slots__ = ()

    def frame(self, frame_id, size=None, source=None):
        return self

    def mark(self, name):
        pass

    def finish(self):
        pass


class Case:
    """A way of recording, with its profiler."""

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
        # a copy of the code, as CPython specializes code for the types that it meets
        self.run.__code__ = self.run.__code__.replace()
        self.running = running
        self.background = background

    def time(self, frames: int) -> float:
        """Return ns per frame."""
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
        Case("`record_many`, 4,096 frames per call", many),
        Case("not sampled", per_mark, goal=0.9, rate=0.0),
        Case("stopped", per_mark, goal=0.6, running=False),
        Case("`frame` ..., background thread on", per_mark, background=True, thresholds=True),
        Case("`record`, background thread on", one_call, background=True, thresholds=True),
    ]


class Peer:
    """A way of recording the same frame with another tool."""

    goal = None

    def __init__(self, name: str, run: Callable[[int], None], frames: int) -> None:
        self.name = name
        self.run = run
        self.frames = frames

    def time(self, frames: int) -> float:
        frames = min(frames, self.frames)
        before = CLOCK()
        self.run(frames)
        return (CLOCK() - before) / frames


def measure(frames: int, repetitions: int) -> list[tuple[Case | Peer, float, float, float]]:
    """Return ns per frame, the ratio of the fastest repetitions and the median ratio, by case."""
    empty = per_mark(Empty())
    empty.__code__ = empty.__code__.replace()
    all_cases: list[Case | Peer] = [
        *cases(),
        Peer("the same calls of empty methods", empty, frames),
    ]
    for name, make, at_most in PEERS:
        run = make()
        if run is not None:
            all_cases.append(Peer(name, run, at_most))
    baselines: list[float] = []
    times: dict[str, list[float]] = {case.name: [] for case in all_cases}
    for _ in range(repetitions):
        before = CLOCK()
        bare_reads(frames)
        baselines.append((CLOCK() - before) / frames)
        for case in all_cases:
            gc.collect()
            times[case.name].append(case.time(frames))
    rows = []
    for case in all_cases:
        ns = times[case.name]
        ratios = [mine / baseline for mine, baseline in zip(ns, baselines, strict=True)]
        rows.append((case, min(ns), min(ns) / min(baselines), statistics.median(ratios)))
    print(
        f"CPython {platform.python_version()}, {platform.machine()}: "
        f"8 bare clock reads take {min(baselines):.0f} ns; {frames:,} frames x {repetitions}"
    )
    return rows


def frame_costs(frames: int) -> tuple[float, float, float]:
    """Return p50, p99.9 and the largest cost of a frame in ns, with the background thread."""
    costs = np.zeros(frames, np.int64)
    clock = CLOCK
    with Profiler(AUDIO, capacity=RING, warning="1h", critical="2h") as profiler:
        for frame_id in range(frames):
            before = clock()
            frame = profiler.frame(frame_id, 960, "input")
            frame.mark("webrtc")
            frame.mark("validation")
            frame.mark("serialization")
            frame.mark("ipc")
            frame.mark("cgo")
            frame.mark("alsa")
            frame.finish()
            costs[frame_id] = clock() - before
    p50, p99_9 = np.percentile(costs, [50, 99.9], method="inverted_cdf")
    return float(p50), float(p99_9), float(costs.max())


def wake_up_delays(profiled: bool, seconds: float = 2.0, rate: int = 20_000) -> tuple[float, float]:
    """Return p50 and p99 of the delay in ns with which a thread wakes from a sleep of 1 ms.

    Another thread has `rate` frames per second in bursts of 20, profiled or with bare clock reads.
    """
    over = threading.Event()
    profiler = Profiler(AUDIO, capacity=RING)

    def work() -> None:
        run = per_mark(profiler) if profiled else bare_reads
        begin, done = time.monotonic(), 0
        while not over.is_set():
            while done < (time.monotonic() - begin) * rate:
                run(20)
                done += 20
            time.sleep(0.000_2)

    if profiled:
        profiler.start()
    thread = threading.Thread(target=work)
    thread.start()
    late = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        before = CLOCK()
        time.sleep(0.001)
        late.append(CLOCK() - before - 1_000_000)
    over.set()
    thread.join()
    profiler.stop()
    p50, p99 = np.percentile(late, [50, 99], method="inverted_cdf")
    return float(p50), float(p99)


def print_disturbance(frames: int, rounds: int = 3) -> None:
    """Print how the background thread delays frames and other threads: medians of rounds."""
    costs = np.median([frame_costs(frames) for _ in range(rounds)], axis=0)
    late = {
        on: np.median([wake_up_delays(on) for _ in range(rounds)], axis=0) for on in (False, True)
    }
    print("\n| with the background thread | us | goal |")
    print("| --- | ---: | ---: |")
    print(f"| a frame, clock read before and after: p50 | {costs[0] / 1e3:.1f} | |")
    print(f"| p99.9 | {costs[1] / 1e3:.1f} | 100 |")
    print(f"| the slowest of {frames:,} | {costs[2] / 1e3:,.0f} | |")
    for on, what in ((False, "without a profiler"), (True, "profiled, 20,000 frames/s")):
        print(f"| delay after a sleep of 1 ms, {what}: p50 | {late[on][0] / 1e3:.0f} | |")
        print(f"| p99 | {late[on][1] / 1e3:.0f} | |")


def run_in(python: str, arguments: list[str]) -> int:
    """Run this benchmark in another interpreter, in a new environment with numpy and the peers."""
    root = Path(__file__).parents[2]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([python, "-m", "venv", folder], check=True)
        inside = f"{folder}/bin/python"
        install = [inside, "-m", "pip", "install", "-q"]
        subprocess.run([*install, "numpy", "psutil"], check=True)
        for peer in PACKAGES:  # one by one: some have no wheel for some interpreters
            subprocess.run([*install, "--only-binary", ":all:", peer], stderr=subprocess.DEVNULL)
        environment = os.environ | {"PYTHONPATH": str(root)}
        command = [inside, "-m", "tests.benchmarks.stamping", *arguments]
        return subprocess.run(command, cwd=root, env=environment).returncode


PACKAGES = ("opentelemetry-sdk", "viztracer", "hdrhistogram", "prometheus_client")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=200_000)
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--pythons", nargs="+", metavar="PYTHON", default=[])
    options = parser.parse_args(arguments)
    if options.pythons:
        same = ["--frames", str(options.frames), "--repetitions", str(options.repetitions)]
        return max(run_in(python, same) for python in options.pythons)
    rows = measure(options.frames, options.repetitions)
    print()
    print("| a frame of 8 stamps | ns | x 8 clock reads | median | goal |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for case, ns, ratio, median in rows:
        goal = "" if case.goal is None else f"{case.goal:.1f}"
        print(f"| {case.name} | {ns:,.0f} | {ratio:.2f} | {median:.2f} | {goal} |")
    for name in absent():
        print(f"| {name} | not installed | | | |")
    print_disturbance(options.frames)
    return 0


if __name__ == "__main__":
    sys.exit(main())
