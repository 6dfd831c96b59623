"""The gate on real programs: unchanged code, and a stage made a tenth slower, side by side.

    python -m tests.benchmarks.gates [--programs compute audio] [--pairs 6] [--max-pairs 12]

``compute`` hashes in three stages of one thread; its head makes the stage ``transform`` a tenth
slower. ``audio`` is the demo; its head has a decoder that takes a tenth longer, which takes some 60
pairs to see, as its runs vary by 15 %. Each is gated on a machine with nothing else to do, and
beside a neighbour that computes half of the time on one core. Unchanged code must never be worse;
the slower stage must be, and what changed must name it. It is meant for a quiet machine.
"""

import argparse
import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np

from latprof import Pipeline, Profiler
from latprof.comparing.gate import gate_commands
from latprof.demo.processes import run
from tests.benchmarks.generated import machine, table

STAGES = {"parse": 1.0, "transform": 2.0, "render": 1.5}  # ms
BUDGETS = {
    "compute": ("end_to_end.p50<+3%", "transform.p50<+5%"),
    "audio": ("cgo.p50<+5%", "end_to_end.p50<+25%"),
}
SLOWER = {"compute": "transform", "audio": "cgo"}  # the stage that the head makes slower
BLOCK = bytes(1 << 22)


def compute(factor: float, frames: int) -> None:
    """Record frames that are hashed in three stages, for `factor` times as long in `transform`."""
    rng = np.random.default_rng(1)
    speed = 400_000  # bytes hashed for each ms of STAGES, on every machine the same work
    work = {
        name: (ms * speed * np.exp(rng.normal(0, 0.2, frames))).astype(int)
        for name, ms in STAGES.items()
    }
    work["transform"] = (work["transform"] * factor).astype(int)
    profiler = Profiler(Pipeline.chain("compute", *STAGES, stations=dict.fromkeys(STAGES, "main")))
    with profiler:
        for i in range(frames):
            with profiler.frame(i) as frame:
                for name, amounts in work.items():
                    frame.mark(name)
                    hashlib.sha256(memoryview(BLOCK)[: amounts[i]])
    profiler.trace().save(os.environ["LATPROF_RECORDING"])


def audio(factor: float, seconds: float) -> None:
    """Record the demo in real time, with a slow decoder if `factor` is above 1."""
    modules = {"server": "tests.benchmarks.slow_server"} if factor > 1 else None
    run(seconds=seconds, modules=modules).save(os.environ["LATPROF_RECORDING"])


def neighbour() -> None:
    """Compute half of the time until the process is ended."""
    while True:
        until = time.perf_counter() + 0.02
        while time.perf_counter() < until:
            hashlib.sha256(memoryview(BLOCK)[: 1 << 16])
        time.sleep(0.02)


@contextlib.contextmanager
def beside(wanted: bool):
    """Run the neighbour beside the block, if it is wanted."""
    if not wanted:
        yield
        return
    child = subprocess.Popen([sys.executable, "-m", "tests.benchmarks.gates", "--run", "neighbour"])
    try:
        yield
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()


def gated(program: str, factor: float, noisy: bool, options) -> list[str]:
    """Gate a program against itself, or against its slower form; return a row of the table."""
    self = f"{sys.executable} -m tests.benchmarks.gates --run {program} --frames {options.frames}"
    self += f" --seconds {options.seconds}"
    with tempfile.TemporaryDirectory() as folder, beside(noisy):
        found = gate_commands(
            self,
            f"{self} --factor {factor}",
            BUDGETS[program],
            pairs=options.pairs,
            max_pairs=options.max_pairs,
            keep=folder,
        )
    budgets = [f"{each.budget.text} {each.state}" for each in found.comparison.budgets]
    late = found.lateness_ns["p99"] / 1e6
    parts = found.comparison.contributions("mean")
    most = max(parts, key=lambda name: abs(parts[name]))
    return [
        program,
        "A/A" if factor == 1 else f"{SLOWER[program]} x {factor:g}",
        "busy half of the time" if noisy else "none",
        f"{len(found.comparison.head)}",
        found.comparison.verdict,
        found.state,
        "; ".join(budgets),
        f"{late:.1f} ms",
        f"{most} {parts[most] / 1e3:+,.0f} of {sum(parts.values()) / 1e3:+,.0f} us",
        found.comparison.sentence,
    ]


HEADER = [
    "program",
    "head",
    "neighbour",
    "pairs",
    "verdict",
    "gate",
    "budgets",
    "sleeps late by (p99)",
    "what changed the mean",
    "sentence",
]


def main(arguments: list[str] | None = None) -> int:
    """Gate the programs, or run one of them for the gate."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--programs", nargs="*", default=list(BUDGETS), choices=list(BUDGETS))
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--max-pairs", type=int, default=12)
    parser.add_argument("--frames", type=int, default=800, help="of a run of compute")
    parser.add_argument("--seconds", type=float, default=4, help="of a run of audio")
    parser.add_argument("--factor", type=float, default=1.0, help=argparse.SUPPRESS)
    parser.add_argument("--run", choices=[*BUDGETS, "neighbour"], help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.run == "neighbour":
        neighbour()
    elif options.run == "audio":
        audio(options.factor, options.seconds)
    elif options.run == "compute":
        compute(options.factor, options.frames)
    else:
        print(machine("numpy"))
        rows = [
            gated(program, factor, noisy, options)
            for program in options.programs
            for noisy in (False, True)
            for factor in (1.0, 1.1)
        ]
        print(table(HEADER, rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
