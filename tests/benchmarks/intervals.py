"""How often the reported 95 % interval contains the true p99 of a queue.

    python -m tests.benchmarks.intervals [--seeds 200] [--frames 100000]

Frames arrive at random (Poisson) at a server with exponential service (M/M/1). The time in such a
system is exponential with rate mu - lambda, so that its p99 is ln(100) / (mu - lambda) exactly.
Load 0 means independent draws of the same distribution: for them the coverage of the plain
interval is compared with the binomial probability of its ranks.
"""

import argparse
import math

import numpy as np

from latprof.fold.intervals import _exceedances
from latprof.frames import Columns
from latprof.pipeline import Pipeline
from latprof.profile.profile import Profile

QUEUE = Pipeline("queue", ("start", "end"))
SERVICE_NS = 1_000_000
EXPECTED = {0.5: 0.93, 0.8: 0.88, 0.9: 0.82}


def sojourns(load: float, frames: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return arrivals and times in the system (ns): D[n] = max(A[n], D[n-1]) + S[n], unrolled."""
    if load == 0:
        arrivals = np.arange(frames) * SERVICE_NS * 2.0
        return arrivals, rng.exponential(SERVICE_NS, frames)
    warm = 20_000
    arrivals = np.cumsum(rng.exponential(SERVICE_NS / load, frames + warm))
    service = rng.exponential(SERVICE_NS, frames + warm)
    served = np.cumsum(service)
    departures = served + np.maximum.accumulate(arrivals - (served - service))
    return arrivals[warm:], (departures - arrivals)[warm:]


def binomial_coverage(frames: int, q: float) -> float:
    """Return the probability that the plain interval's ranks enclose the percentile."""
    fewer, more = _exceedances(frames, q, 1.0, 1.959963984540054)
    p = q / 100
    logs = [
        math.lgamma(frames + 1) - math.lgamma(k + 1) - math.lgamma(frames - k + 1)
        + k * math.log(p) + (frames - k) * math.log1p(-p)
        for k in range(frames - more, frames - fewer)
    ]  # fmt: skip
    return math.fsum(map(math.exp, logs))


def coverage(load: float, frames: int, seeds: int) -> tuple[float, float]:
    """Return how often the reported and the plain interval of p99 hold the true value."""
    truth = math.log(100) * SERVICE_NS / (1 - load)
    held = plain = 0
    for seed in range(seeds):
        arrivals, times = sojourns(load, frames, np.random.default_rng(seed))
        start = np.rint(arrivals).astype(np.int64)
        marks = {"start": start, "end": start + np.rint(times).astype(np.int64)}
        profile = Profile(QUEUE)
        profile.add(Columns(np.arange(frames, dtype=np.uint64), marks))
        span = profile["end_to_end"]
        reported, independent = span.percentile(99), span.percentile(99, independent=True)
        held += reported.low is not None and reported.low <= truth <= reported.high
        plain += independent.low is not None and independent.low <= truth <= independent.high
    return held / seeds, plain / seeds


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--frames", type=int, default=100_000)
    options = parser.parse_args()
    print("| load | reported interval holds | asked for | plain interval holds |")
    print("| ---: | ---: | ---: | ---: |")
    for load in (0.0, 0.5, 0.8, 0.9):
        held, plain = coverage(load, options.frames, options.seeds)
        asked = f"{EXPECTED[load]:.0%}" if load else "-"
        exact = f" (binomial {binomial_coverage(options.frames, 99):.1%})" if load == 0 else ""
        print(f"| {load} | {held:.1%} | {asked} | {plain:.1%}{exact} |", flush=True)


if __name__ == "__main__":
    main()
