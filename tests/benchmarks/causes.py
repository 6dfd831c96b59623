"""Speed and memory of blame, causes and what_if.

    python -m tests.benchmarks.causes [--frames 1000000 10000000] [--runs 3]
    python -m tests.benchmarks.causes --culprits [--seeds 200]

The frames are of `AUDIO` and queue in front of the server, which has a load of 0.8. Each
measurement runs in a process of its own. The table shows the peak memory of the process, and beside
it the peak of a process that only makes the trace; files are read without a trace in memory.
``--culprits`` prints how often the injected cause of simulated pipelines is named.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from latprof import AUDIO, Trace
from tests.benchmarks.generated import child, machine, own_peak_kb, table

IN_MEMORY = ("trace", "blame", "causes", "what_if", "analyze", "analyze, causes")
OF_A_FILE = ("blame of the file", "causes of the file")
PERIOD_NS = 20_000_000


def queueing(count: int) -> Trace:
    """Return frames that queue in front of the audio server."""
    rng = np.random.default_rng(1)
    marks = {"start": np.arange(count, dtype=np.int64) * PERIOD_NS}
    for mark, median in zip(AUDIO.marks[1:5], (1_000, 20_000, 1_500, 3_000), strict=True):
        before = list(marks.values())[-1]
        marks[mark] = before + rng.lognormal(np.log(median), 0.5, count).astype(np.int64)
    cgo = rng.lognormal(np.log(300_000), 0.5, count).astype(np.int64)
    alsa = rng.gamma(4, 0.2 * PERIOD_NS, count).astype(np.int64)
    served = np.cumsum(cgo + alsa)
    ends = served + np.maximum.accumulate(marks["ipc"] + 60_000 - (served - cgo - alsa))
    marks |= {"cgo": ends - alsa - cgo, "alsa": ends - alsa, "end": ends}
    return Trace(AUDIO, frame_id=np.arange(count), marks=marks)


def measure(what: str, count: int, path: str) -> None:
    """Measure one call in this process; print seconds and memory as JSON."""
    import pandas  # noqa: F401  (its import is not what is timed)
    import pyarrow.parquet  # noqa: F401

    import latprof

    if what == "write":
        queueing(count).save(path)
        print(json.dumps({"peak_kb": own_peak_kb()}))
        return
    trace = queueing(count) if what in IN_MEMORY else path
    questions = {
        "trace": lambda: None,
        "blame": lambda: latprof.blame(trace),
        "causes": lambda: latprof.causes(trace),
        "what_if": lambda: latprof.what_if(trace, {"alsa": 0.9}),
        "analyze": lambda: latprof.analyze(trace),
        "analyze, causes": lambda: latprof.analyze(trace, causes=True).causes,
        "blame of the file": lambda: latprof.blame(trace),
        "causes of the file": lambda: latprof.causes(trace),
    }
    questions[what]  # a wrong name fails before anything is measured
    begin = time.perf_counter()
    questions[what]()
    print(json.dumps({"seconds": time.perf_counter() - begin, "peak_kb": own_peak_kb()}))


def culprits(seeds: int) -> None:
    """Print how often each ranking names the injected cause."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from culprits import KINDS, rankings

    rows = []
    for kind in KINDS:
        named, mean, stations = rankings(kind, range(seeds))
        rows.append([kind, *(f"{right / seeds:.1%}" for right in (named, mean, stations))])
    print(table([f"{seeds} pipelines each", "causes", "by mean", "by mean of stations"], rows))


def _of(count: int, runs: int, path: str) -> list[list[str]]:
    """Measure each call with `count` frames; return the rows of the table."""
    rows, alone = [], "-"
    for what in ("write", *IN_MEMORY, *OF_A_FILE):
        call = ["--measure", what, "--frames", str(count), "--path", path]
        if what == "write":
            child("tests.benchmarks.causes", call)
            continue
        found = [child("tests.benchmarks.causes", call) for _ in range(runs)]
        peak = f"{max(outcome.peak_mb for outcome in found):,.0f}"
        if what == "trace":
            alone = peak
            continue
        seconds = statistics.median(outcome.result["seconds"] for outcome in found)
        beside = alone if what in IN_MEMORY else "-"
        rows.append(
            [what, f"{count:,}", f"{seconds:.2f}", f"{count / seconds / 1e6:.2f}", peak, beside]
        )
    return rows


def main(arguments: list[str] | None = None) -> int:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--culprits", action="store_true")
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--measure", choices=("write", *IN_MEMORY, *OF_A_FILE))
    parser.add_argument("--path", default="", help="the file of --measure")
    options = parser.parse_args(arguments)
    if options.measure:
        measure(options.measure, options.frames[0], options.path)
        return 0
    if options.culprits:
        culprits(options.seeds)
        return 0
    rows = []
    for count in options.frames:
        with tempfile.TemporaryDirectory() as folder:
            rows += _of(count, options.runs, str(Path(folder) / "frames.parquet"))
    print(machine("numpy"))
    header = ["", "frames", "seconds", "M frames/s", "peak MB", "the trace alone"]
    print(table(header, rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
