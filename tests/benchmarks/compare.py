"""How often a comparison is wrong and how often it finds a change: simulated queues at load 0.8.

Each cell compares runs of a queue; latencies vary from run to run by a given part. Without a
change, ``worse`` and ``better`` are false. Beside latprof's verdict: Welch's t test and
Mann-Whitney's test on the frames, a fixed band of 20 %, and the runs' own intervals.

    python -m tests.benchmarks.compare --comparisons 1000 [--tests] [--jobs 2]

A run effect or a change multiplies all latencies of a run, and so its statistics: each run is
simulated and analyzed once, and its statistics are scaled for each cell.
"""

import argparse
import math
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from latprof import Pipeline, Span, Trace, analyze
from latprof.comparing.budgets import parse_budgets
from latprof.comparing.compare import compare_runs
from latprof.comparing.differences import BETTER, SAME, UNCLEAR, WORSE
from latprof.comparing.runs import HIGHER_IS_BETTER, Estimate, Run
from latprof.comparing.student import sequential_level

QUEUE = Pipeline(
    "queue",
    ("start", "sent", "end"),
    (Span("wait", "start", "sent"), Span("serve", "sent", "end", station="server")),
)
PERIOD_NS = 1_000_000
PAIRS = (2, 4, 6, 10)
VARIATION = (0.0, 0.02, 0.05, 0.15)
BUDGET = "end_to_end.p99<+5%"


CHANGES = (1.0, 1.1)
TESTS = ("Welch", "Mann-Whitney", "band")
NAMES = ("worse", "better", "same", "any other", *TESTS, "inside")
P99 = ("end_to_end", "p99")


def simulate(random, frames):
    """Return a queue at load 0.8: its latencies (frames,) in ns, and its run."""
    service = random.gamma(8, 0.8 * PERIOD_NS / 8, frames)
    arrival = np.arange(frames) * float(PERIOD_NS)
    done = np.cumsum(service)
    leave = done + np.maximum.accumulate(arrival - (done - service))
    start = arrival.astype(np.int64) + 1_700_000_000_000_000_000
    sent, end = (start + (each - arrival).astype(np.int64) for each in (leave - service, leave))
    trace = Trace(
        QUEUE, frame_id=np.arange(frames), marks={"start": start, "sent": sent, "end": end}
    )
    run = Run("run", analyze(trace), None)
    for key in run.keys((50, 90, 99)):
        run.statistic(key)
    return end - start, run


def scaled(run, scale):
    """Return the run as if all of its latencies were multiplied."""
    known = {}
    for key in run.keys((50, 90, 99)):
        found = run.statistic(key)
        if found is not None and key[1] not in HIGHER_IS_BETTER:
            found = Estimate(found.value * scale, found.log_error)
        known[key] = found
    return Run(run.name, run.profile, None, known)


def on_frames(base, head):
    """Return what tests on frames say: whether they find a difference."""
    from scipy.stats import mannwhitneyu, ttest_ind

    base, head = np.concatenate(base), np.concatenate(head)
    band = abs(np.percentile(head, 99) / np.percentile(base, 99) - 1) > 0.2
    welch = ttest_ind(base, head, equal_var=False).pvalue < 0.05
    return {"Welch": welch, "Mann-Whitney": mannwhitneyu(base, head).pvalue < 0.05, "band": band}


def apart(base, head):
    """Return whether the runs' own intervals of p99 say that two runs differ."""
    first, second = (run.statistic(P99) for run in (base, head))
    if first.log_error is None or second.log_error is None:
        return False
    distance = abs(math.log(first.value / second.value))
    return distance > 1.96 * (first.log_error + second.log_error)


@dataclass
class Cell:
    """What was found at a change and a variation, by number of pairs."""

    counts: dict = field(default_factory=lambda: {n: dict.fromkeys(NAMES, 0) for n in PAIRS})
    needed: dict = field(default_factory=lambda: {n: [] for n in PAIRS})
    sequential: int = 0

    def add(self, other):
        """Add the counts of other comparisons."""
        for n in PAIRS:
            for name in NAMES:
                self.counts[n][name] += other.counts[n][name]
            self.needed[n] += other.needed[n]
        self.sequential += other.sequential


def compared(random, runs, change, variation, *, tests):
    """Return the cell of one comparison of runs (latencies and Run), of which the half is head."""
    cell, budgets = Cell(), parse_budgets([BUDGET])
    scales = np.exp(random.normal(0, variation, len(runs)))
    scales[PAIRS[-1] :] *= change
    every = [scaled(run, scale) for (_, run), scale in zip(runs, scales, strict=True)]
    latencies = [ns * scale for (ns, _), scale in zip(runs, scales, strict=True)]
    base, head = every[: PAIRS[-1]], every[PAIRS[-1] :]
    for n in PAIRS:
        found = compare_runs(base[:n], head[:n], budgets=budgets)
        row, counted = found["end_to_end", "p99"], cell.counts[n]
        for name, verdict in (("worse", WORSE), ("better", BETTER), ("same", SAME)):
            counted[name] += row.verdict == verdict
        others = [r.verdict for r in found.rows if r.key != found.headline]
        counted["any other"] += WORSE in others or BETTER in others
        if row.verdict == UNCLEAR and row.pairs_missing:
            cell.needed[n].append(n + row.pairs_missing)
        if tests:
            said = on_frames(latencies[:n], latencies[PAIRS[-1] : PAIRS[-1] + n])
            for name, differs in said.items():
                counted[name] += bool(differs)
        counted["inside"] += bool(apart(base[0], head[0]))
    level = sequential_level(0.05, 2, PAIRS[-1])
    for n in range(2, PAIRS[-1] + 1):
        found = compare_runs(base[:n], head[:n], budgets=budgets, budget_level=level)
        if found.verdict in (WORSE, BETTER):
            cell.sequential += 1
            break
    return cell


def comparison(options, cells, number):
    """Return the cells of comparison `number`: of the same simulated runs."""
    random = np.random.default_rng([options.seed, number])
    runs = [simulate(random, options.frames) for _ in range(2 * PAIRS[-1])]
    return [compared(random, runs, *cell, tests=options.tests) for cell in cells]


def main():
    """Simulate, compare, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--comparisons", type=int, default=1_000)
    parser.add_argument("--frames", type=int, default=40_000, help="of a run")
    parser.add_argument("--tests", action="store_true", help="also the tests on frames (slow)")
    parser.add_argument("--variation", type=float, action="append", help="default: 0 .02 .05 .15")
    parser.add_argument("--change", type=float, action="append", help="default: 1 and 1.1")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2, help="number of processes")
    options = parser.parse_args()
    cells = {
        (change, variation): Cell()
        for change in options.change or CHANGES
        for variation in options.variation or VARIATION
    }
    with ProcessPoolExecutor(options.jobs) as pool:
        one = partial(comparison, options, list(cells))
        for found in pool.map(one, range(options.comparisons), chunksize=5):
            for cell, more in zip(cells.values(), found, strict=True):
                cell.add(more)
    print(
        f"{options.comparisons} comparisons a cell, runs of {options.frames:,} frames; parts in %"
    )
    names = [name for name in NAMES if options.tests or name not in TESTS]
    print(f"{'change':>6} {'varies':>6} {'pairs':>5} " + " ".join(f"{n:>12}" for n in names))
    for (change, variation), cell in cells.items():
        for n in PAIRS:
            parts = " ".join(f"{cell.counts[n][k] / options.comparisons:12.1%}" for k in names)
            print(f"{change:6.2f} {variation:6.0%} {n:5} {parts}", end="")
            print(f"  needed {np.median(cell.needed[n]):.0f}" if cell.needed[n] else "")
        part = cell.sequential / options.comparisons
        print(f"{'':14} a look after each pair from 2 to {PAIRS[-1]}: {part:.1%} decided")


if __name__ == "__main__":
    main()
