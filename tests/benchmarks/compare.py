"""How often a comparison is wrong and how often it finds a change: simulated queues at load 0.8.

Each cell compares runs of a queue; latencies vary from run to run by a given part. Without a
change, ``worse`` and ``better`` are false. Beside latprof's verdict: Welch's t test and
Mann-Whitney's test on the frames, a fixed band of 20 %, and the runs' own intervals.

    python -m tests.benchmarks.compare --comparisons 1000
"""

import argparse
import math

import numpy as np

from latprof import Pipeline, Span, Trace, analyze
from latprof.comparing.budgets import parse_budgets
from latprof.comparing.compare import BETTER, SAME, UNCLEAR, WORSE, compare_runs
from latprof.comparing.runs import Run
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


def run(random, frames, variation, change=1.0, name="run"):
    """Return a run: a queue at load 0.8, all of its latencies scaled by the run and the change."""
    scale = change * math.exp(random.normal(0, variation))
    service = random.gamma(8, 0.8 * PERIOD_NS / 8, frames)
    arrival = np.arange(frames) * float(PERIOD_NS)
    done = np.cumsum(service)
    leave = done + np.maximum.accumulate(arrival - (done - service))
    start = arrival.astype(np.int64) + 1_700_000_000_000_000_000
    sent = start + ((leave - service - arrival) * scale).astype(np.int64)
    end = start + ((leave - arrival) * scale).astype(np.int64)
    marks = {"start": start, "sent": sent, "end": end}
    trace = Trace(QUEUE, frame_id=np.arange(frames), marks=marks)
    return Run(name, analyze(trace), None), end - start


def on_frames(base, head):
    """Return what tests on frames say: whether they find a difference."""
    from scipy.stats import mannwhitneyu, ttest_ind

    base, head = np.concatenate(base), np.concatenate(head)
    band = abs(np.percentile(head, 99) / np.percentile(base, 99) - 1) > 0.2
    welch = ttest_ind(base, head, equal_var=False).pvalue < 0.05
    return {"Welch": welch, "Mann-Whitney": mannwhitneyu(base, head).pvalue < 0.05, "band": band}


def inside(base, head):
    """Return whether the runs' own intervals of p99 say that two runs differ."""
    first, second = (side.profile["end_to_end"].percentile(99) for side in (base, head))
    return first.low is not None and (first.high < second.low or second.high < first.low)


def cell(random, options, variation, change):
    """Return counts by number of pairs, of comparisons of runs that differ by `change`."""
    counts = {n: dict.fromkeys(NAMES, 0) for n in PAIRS}
    missing = {n: [] for n in PAIRS}
    sequential = 0
    level = sequential_level(0.05, 2, PAIRS[-1])
    budgets = parse_budgets([BUDGET])
    for _ in range(options.comparisons):
        base = [run(random, options.frames, variation) for _ in range(PAIRS[-1])]
        head = [run(random, options.frames, variation, change) for _ in range(PAIRS[-1])]
        for n in PAIRS:
            found = compare_runs(
                [each for each, _ in base[:n]], [each for each, _ in head[:n]], budgets=budgets
            )
            row = found["end_to_end", "p99"]
            counted = counts[n]
            counted["worse"] += row.verdict == WORSE
            counted["better"] += row.verdict == BETTER
            counted["same"] += row.verdict == SAME
            others = [r.verdict for r in found.rows if r.key != found.headline]
            counted["any other"] += WORSE in others or BETTER in others
            if row.verdict == UNCLEAR and row.pairs_missing:
                missing[n].append(n + row.pairs_missing)
            if options.tests:
                tests = on_frames([x for _, x in base[:n]], [x for _, x in head[:n]])
                for name, differs in tests.items():
                    counted[name] += bool(differs)
            counted["inside"] += bool(inside(base[0][0], head[0][0]))
        for n in range(2, PAIRS[-1] + 1):
            found = compare_runs(
                [each for each, _ in base[:n]],
                [each for each, _ in head[:n]],
                budgets=budgets,
                budget_level=level,
            )
            if found.verdict in (WORSE, BETTER):
                sequential += 1
                break
    return counts, missing, sequential


NAMES = ("worse", "better", "same", "any other", "Welch", "Mann-Whitney", "band", "inside")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--comparisons", type=int, default=1_000)
    parser.add_argument("--frames", type=int, default=40_000, help="of a run")
    parser.add_argument("--tests", action="store_true", help="also the tests on frames (slow)")
    parser.add_argument("--variation", type=float, action="append", help="default: 0 .02 .05 .15")
    parser.add_argument("--change", type=float, action="append", help="default: 1 and 1.1")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    random = np.random.default_rng(options.seed)
    print(
        f"{options.comparisons} comparisons a cell, runs of {options.frames:,} frames; parts in %"
    )
    print(f"{'change':>6} {'varies':>6} {'pairs':>5} " + " ".join(f"{n:>12}" for n in NAMES))
    for change in options.change or (1.0, 1.1):
        for variation in options.variation or VARIATION:
            counts, missing, sequential = cell(random, options, variation, change)
            for n in PAIRS:
                parts = " ".join(f"{counts[n][k] / options.comparisons:12.1%}" for k in NAMES)
                print(f"{change:6.2f} {variation:6.0%} {n:5} {parts}", end="")
                print(f"  needed {np.median(missing[n]):.0f}" if missing[n] else "")
            part = sequential / options.comparisons
            print(f"{'':14} a look after each pair from 2 to {PAIRS[-1]}: {part:.1%} decided")


if __name__ == "__main__":
    main()
