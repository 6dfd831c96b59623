"""Whether plans keep what they promise: the power of comparisons with as many pairs as planned.

A plan is made from some runs of a simulated queue at load 0.8. Other runs of the same queue, as
long as a row of the plan says, are compared in as many pairs as it says, with head slower by the
change to be found. The share of comparisons that say ``worse`` is the power that was achieved;
promised is what the plan's own spread gives for that (whole) number of pairs.

    python -m tests.benchmarks.plan [--plans 40] [--comparisons 25]

Runs of each length are simulated once and drawn again for each plan and comparison; what varies
from run to run is drawn anew.
"""

import argparse

import numpy as np

from latprof.comparing.budgets import parse_budgets
from latprof.comparing.compare import compare_runs
from latprof.comparing.differences import WORSE
from latprof.comparing.planning import plan_runs, verdict_power
from tests.benchmarks.compare import BUDGET, P99, scaled, simulate

LENGTHS = (0.5, 1.0, 2.0)
CELLS = ((0.0, 0.05), (0.02, 0.05), (0.02, 0.1), (0.05, 0.1))  # variation of runs, change
POWER, CONFIDENCE = 0.8, 0.95


def drawn(random, pool, n, variation, change=1.0):
    """Return n runs of a pool, each with an effect of its own."""
    scales = np.exp(random.normal(0, variation, n)) * change
    chosen = random.integers(0, len(pool), n)
    return [scaled(pool[i], scale) for i, scale in zip(chosen, scales, strict=True)]


def achieved(random, pool, pairs, variation, detect, comparisons):
    """Return the share of comparisons, of `pairs` pairs each, that find the change."""
    budgets, found = parse_budgets([BUDGET]), 0
    for _ in range(comparisons):
        base = drawn(random, pool, pairs, variation)
        head = drawn(random, pool, pairs, variation, 1 + detect)
        found += compare_runs(base, head, budgets=budgets, percentiles=(99,)).verdict == WORSE
    return found / comparisons


def main():
    """Plan, compare other runs, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plans", type=int, default=40)
    parser.add_argument("--comparisons", type=int, default=25, help="of each plan and length")
    parser.add_argument("--runs", type=int, default=20, help="that a plan is made from")
    parser.add_argument("--frames", type=int, default=20_000, help="of a run of length 1")
    parser.add_argument("--pool", type=int, default=120, help="runs that are simulated by length")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    random = np.random.default_rng(options.seed)
    pools = {
        length: [simulate(random, int(options.frames * length))[1] for _ in range(options.pool)]
        for length in LENGTHS
    }
    print(f"{options.plans} plans from {options.runs} runs of {options.frames:,} frames")
    print(
        f"at least {POWER:.0%} wanted; {options.comparisons} comparisons for each plan and length"
    )
    print("varies change length  pairs (median, range)  promised  achieved  standard error")
    for variation, detect in CELLS:
        plans = [
            plan_runs(
                drawn(random, pools[1.0], options.runs, variation), detect, P99, POWER, CONFIDENCE
            )
            for _ in range(options.plans)
        ]
        for length in LENGTHS:
            rows = [next(row for row in each.rows if row.length == length) for each in plans]
            pairs = [row.pairs for row in rows]
            powers = [
                verdict_power(np.log1p(detect) / row.spread, row.pairs, 1 - CONFIDENCE)
                for row in rows
            ]
            shares = np.array(
                [
                    achieved(random, pools[length], n, variation, detect, options.comparisons)
                    for n in pairs
                ]
            )
            error = shares.std(ddof=1) / np.sqrt(len(shares))
            low, middle, high = np.percentile(pairs, (0, 50, 100))
            print(f"{variation:6.0%} {detect:6.0%} {length:6g}", end=" ")
            print(
                f"{f'{middle:.0f} ({low:.0f} to {high:.0f})':>22} {np.mean(powers):9.1%}", end=" "
            )
            print(f"{shares.mean():9.1%} {error:15.1%}")


if __name__ == "__main__":
    main()
