"""The highest load that keeps a limit, against simulating the program at that load.

    python -m tests.benchmarks.headroom [--seeds 50] [--frames 10000] [--jobs 2]

A program of 1 to 4 stations is recorded with its busiest station 40 to 70 % busy. A load is chosen
at which p99 is at least a third higher, and the program simulated at that load with ten times as
many frames, and other draws. Its p99 is the limit that `headroom` gets. The table shows by how much
the load that it returns differs from the chosen one, how often the chosen one is in the interval,
and beside it the error if latency did not depend on the load up to the capacity of the busiest
station.
"""

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from latprof import headroom
from tests.benchmarks.generated import machine, table

sys.path.insert(0, str(Path(__file__).parents[1]))
from queueing import Source, Station, simulate, trace_of_run

KINDS = ("periodic", "random", "bursts")
UNIT = 10_000_000  # ns between frames, on average


@dataclass
class Case:
    """A program that is recorded at load 1, and simulated at others with other draws."""

    kind: str
    seed: int

    def __post_init__(self):
        rng = np.random.default_rng([KINDS.index(self.kind), self.seed])
        self.means = rng.uniform(0.1, 0.6, int(rng.integers(1, 5))) * UNIT
        self.busiest = rng.uniform(0.4, 0.7)
        self.means *= self.busiest * UNIT / self.means.max()
        self.shapes = rng.uniform(1, 20, len(self.means))
        self.load = rng.uniform(1.1, 0.92 / self.busiest)
        self.burst = int(rng.integers(2, 6))

    def program(self, load, frames, draws):
        """Return the source and the stations at a load."""
        rng = np.random.default_rng([KINDS.index(self.kind), self.seed, draws])
        gap = UNIT / load
        if self.kind == "periodic":
            due = np.arange(frames) * gap
        elif self.kind == "random":
            due = np.cumsum(rng.exponential(gap, frames))
        else:  # bursts of a random number of frames, which follow each other at once
            sizes = rng.geometric(1 / self.burst, frames)
            starts = np.cumsum(rng.exponential(gap * self.burst, frames))
            due = np.repeat(starts, sizes)[:frames]
            place = np.arange(frames) - np.repeat(np.cumsum(sizes) - sizes, sizes)[:frames]
            due = np.sort(due + place * 0.02 * UNIT)
        stations = [
            Station(f"s{k}", (mean / shape * rng.gamma(shape, 1, frames)).astype(np.int64))
            for k, (mean, shape) in enumerate(zip(self.means, self.shapes, strict=True))
        ]
        return Source(due=due.astype(np.int64)), stations


def score(kind: str, seed: int, frames: int):
    """Return the relative error, whether the interval has the load, and the error of capacity."""
    case = Case(kind, seed)
    recorded = case.program(1.0, frames, 0)
    run = simulate(*recorded)
    while True:
        ends = simulate(*case.program(case.load, 10 * frames, 1)).end_to_end
        limit = int(np.percentile(ends, 99))
        if limit > np.percentile(run.end_to_end, 99) * 4 / 3:
            break
        case.load = (case.load + 1 / case.busiest) / 2
    found = headroom(trace_of_run(run, *recorded), f"p99<{limit}ns")
    error = found.load / case.load - 1
    return error, found.low <= case.load <= found.high, abs(1 / case.busiest / case.load - 1)


def main(arguments: list[str] | None = None) -> int:
    """Simulate, ask, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--frames", type=int, default=10_000)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--jobs", type=int, default=2, help="number of processes")
    options = parser.parse_args(arguments)
    rows = []
    with ProcessPoolExecutor(options.jobs) as pool:
        for kind in options.kinds:
            seeds, frames = range(options.seeds), [options.frames] * options.seeds
            found = np.array(list(pool.map(score, [kind] * len(seeds), seeds, frames)))
            error, inside, capacity = found.T
            rows.append(
                [
                    kind,
                    *(f"{x:.1%}" for x in np.percentile(np.abs(error), [50, 95])),
                    f"{np.median(error):+.1%}",
                    f"{inside.mean():.0%}",
                    f"{np.median(capacity):.1%}",
                ]
            )
    print(machine("numpy"))
    print(f"{options.seeds} programs a kind, {options.frames:,} frames")
    header = ["arrivals", "error, median", "95th", "bias", "in the interval", "capacity, error"]
    print(table(header, rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
