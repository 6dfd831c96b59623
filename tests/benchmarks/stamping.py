"""The cost of stamping as a multiple of bare clock reads, on both cores and beside other tools.

    python -m tests.benchmarks.stamping [--frames 50000] [--processes 9] [--pythons PYTHON ...]

A frame has the eight marks of the audio pipeline. The baseline is eight reads of
`time.perf_counter_ns`; every case reads the clock as often. Each process runs the baseline and all
cases one after the other, several times, and gives the ratio of the fastest runs. The table has the
medians of the ratios over the processes, as the cost of a clock read differs between processes.
With `--pythons` the benchmark runs in each of these interpreters, in a new virtual environment.
The other tools are in the extra ``peers``; tools that are not installed are listed as such. The
tables are Markdown.
"""

import argparse
import gc
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import latprof
from latprof import AUDIO, Profiler
from tests.benchmarks.peers import PEERS, absent

CLOCK = time.perf_counter_ns
RING = 65_536
RUNS = 5  # runs of each case in a process

Run = Callable[[int], None]


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


def per_mark(profiler: Profiler) -> Run:
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


def in_block(profiler: Profiler) -> Run:
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


def one_call(profiler: Profiler) -> Run:
    def run(frames: int) -> None:
        read = CLOCK
        record = profiler.record
        for frame_id in range(frames):
            stamps = (read(), read(), read(), read(), read(), read(), read(), read())
            record(frame_id, stamps, 960, "input")

    return run


def many(profiler: Profiler) -> Run:
    block = 4_096
    stamps = np.cumsum(np.full((block, 8), 1_000), axis=1) + CLOCK()

    def run(frames: int) -> None:
        for first in range(0, frames, block):
            count = min(block, frames - first)
            profiler.record_many(np.arange(first, first + count), stamps[:count], 960, "input")

    return run


def tagged(profiler: Profiler) -> Run:
    def run(frames: int) -> None:
        for frame_id in range(frames):
            frame = profiler.frame(frame_id, 960, "input", tags={"endpoint": "/cart"})
            frame.mark("webrtc")
            frame.mark("validation")
            frame.mark("serialization")
            frame.mark("ipc")
            frame.mark("cgo")
            frame.mark("alsa")
            frame.tag("status", 200)
            frame.finish()

    return run


# name, way, settings, goal of the core in C and of that in Python
CASES: list[tuple[str, Callable[[Profiler], Run], dict[str, Any], float | None, float | None]] = [
    ("`frame`, 6 x `mark`, `finish`", per_mark, {}, 1.4, 5.0),
    ("the same as `with`", in_block, {}, 1.6, 6.0),
    ("the same as `with`, `track_current=False`", in_block, {"track_current": False}, None, None),
    ("with thresholds", per_mark, {"warning": "1h", "critical": "2h"}, None, None),
    ("with `ring=`, frames in flight in its file", per_mark, {"ring": "mic.ring"}, 1.6, None),
    ("with two tags", tagged, {"tags": ("endpoint", "status")}, 2.0, None),
    ("`record`", one_call, {}, 2.0, 3.2),
    ("`record_many`, 4,096 frames per call", many, {}, None, None),
    ("not sampled", per_mark, {"sampling_rate": 1e-12}, 0.6, 1.2),
    ("stopped", per_mark, {"stopped": True}, 0.45, 1.2),
]


def measure(frames: int) -> dict[str, Any]:
    """Return ns of the baseline, and the ratio of each case to it, in this process."""
    folder = tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
    runs: dict[str, tuple[Profiler | None, Run, int]] = {}
    for name, way, given, *_ in CASES:
        settings = {key: value for key, value in given.items() if key != "stopped"}
        if "ring" in settings:
            settings["ring"] = os.path.join(folder, settings["ring"])
        profiler = Profiler(AUDIO, capacity=RING, **settings)
        if "stopped" in given:  # not one that was never started, which counts the calls
            profiler.start()
            profiler.stop()
        runs[name] = (None if "stopped" in given else profiler), way(profiler), frames
    for name, make, at_most in PEERS:
        if (run := make()) is not None:
            runs[name] = None, run, min(frames, at_most)
    times: dict[str, list[float]] = {name: [] for name in ("", *runs)}
    for _ in range(RUNS):
        for name, (profiler, run, count) in [("", (None, bare_reads, frames)), *runs.items()]:
            gc.collect()
            if profiler is not None:
                profiler.start()
            before = CLOCK()
            run(count)
            times[name].append((CLOCK() - before) / count)
            if profiler is not None:
                profiler.stop()
    shutil.rmtree(folder)
    baseline = min(times.pop(""))
    return {"baseline": baseline, "ratios": {n: min(ns) / baseline for n, ns in times.items()}}


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


def wake_up_delays(profiled: bool, seconds: float = 5.0, rate: int = 20_000) -> tuple[float, float]:
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


def disturbance(frames: int) -> dict[str, float]:
    """Return how the background thread delays frames and other threads, in us."""
    p50, p99_9, most = frame_costs(frames)
    (_, without), (_, beside) = wake_up_delays(False), wake_up_delays(True)
    return {
        "a frame, with a clock read before and after: p50": p50 / 1e3,
        "p99.9 (goal 50)": p99_9 / 1e3,
        "the slowest": most / 1e3,
        "a thread that sleeps 1 ms, without a profiler: p99 of its delay": without / 1e3,
        "beside 20,000 profiled frames/s: p99 (goal: twice that)": beside / 1e3,
    }


def in_processes(core: str, frames: int, processes: int) -> list[dict[str, Any]]:
    """Return the results of new processes on one core, or nothing if it is not built."""
    found = []
    for _ in range(processes):
        command = [sys.executable, "-m", "tests.benchmarks.stamping", "--frames", str(frames)]
        done = subprocess.run(
            [*command, "--processes", "0"],
            env=os.environ | {"LATPROF_IMPL": core},
            stdout=subprocess.PIPE,
            text=True,
        )
        if done.returncode:
            return []
        found.append(json.loads(done.stdout))
    return found


def medians(results: list[dict[str, Any]], key: str) -> dict[str, float]:
    return {name: statistics.median(r[key][name] for r in results) for name in results[0][key]}


def run_in(python: str, arguments: list[str]) -> int:
    """Run this benchmark in another interpreter, in a new environment with numpy and the peers."""
    root = Path(__file__).parents[2]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([python, "-m", "venv", folder], check=True)
        inside = f"{folder}/bin/python"
        install = [inside, "-m", "pip", "install", "-q"]
        subprocess.run([*install, "numpy", "psutil"], check=True)
        subprocess.run([*install, "--no-deps", str(root)], check=True)  # builds the core in C
        for peer in PACKAGES:  # one by one: some have no wheel for some interpreters
            subprocess.run([*install, "--only-binary", ":all:", peer], stderr=subprocess.DEVNULL)
        shutil.copytree(root / "tests", f"{folder}/run/tests")
        command = [inside, "-m", "tests.benchmarks.stamping", *arguments]
        return subprocess.run(command, cwd=f"{folder}/run").returncode


PACKAGES = ("opentelemetry-sdk", "viztracer", "hdrhistogram", "prometheus_client")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=50_000)
    parser.add_argument("--processes", type=int, default=9, help="0 measures in this process")
    parser.add_argument("--pythons", nargs="+", metavar="PYTHON", default=[])
    options = parser.parse_args(arguments)
    if options.pythons:
        same = ["--frames", str(options.frames), "--processes", str(options.processes)]
        return max(run_in(python, same) for python in options.pythons)
    if not options.processes:
        print(json.dumps(measure(options.frames) | {"disturbance": disturbance(options.frames)}))
        return 0
    results = {c: in_processes(c, options.frames, options.processes) for c in ("c", "python")}
    results = {core: found for core, found in results.items() if found}
    ratios = {core: medians(found, "ratios") for core, found in results.items()}
    baseline = statistics.median(r["baseline"] for found in results.values() for r in found)
    print(
        f"CPython {platform.python_version()}, {platform.machine()}, latprof "
        f"{latprof.__version__}: 8 bare clock reads take {baseline:.0f} ns; "
        f"{options.frames:,} frames, medians of {options.processes} processes\n"
    )
    print("| a frame of 8 stamps, x 8 clock reads | C | goal | Python | goal |")
    print("| --- | ---: | ---: | ---: | ---: |")
    goals = {name: goals for name, _, _, *goals in CASES}
    for name in next(iter(ratios.values())):
        cells = []
        for core, goal in zip(("c", "python"), goals.get(name, (None, None)), strict=True):
            cells.append(f"{ratios[core][name]:.2f}" if core in ratios else "not built")
            cells.append("" if goal is None else f"{goal:g}")
        print(f"| {name} | {' | '.join(cells)} |")
    for name in absent():
        print(f"| {name} | not installed | | | |")
    print("\n| with the background thread, us | C | Python |\n| --- | ---: | ---: |")
    delays = {core: medians(found, "disturbance") for core, found in results.items()}
    for name in next(iter(delays.values())):
        cells = [f"{delays[core][name]:.1f}" if core in delays else "" for core in ("c", "python")]
        print(f"| {name} | {' | '.join(cells)} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
