"""Change points of simulated series of runs: false points, and runs until a change is found.

    python -m tests.benchmarks.trend [--series 100]
    python -m tests.benchmarks.trend --judge OTHER/bin/python    # with ruptures or apache-otava

The series are logarithms of a statistic over 60 runs that vary by 3 %. The first shape does not
change. At run 30 the variation of the second triples, the third rises by 10 %, and the fourth
begins to rise by 1 % a run. Each series is judged as a whole, and once more after each
run, as it would be in practice, until the change is found.

Judges are other packages. Their requirements differ, so they run in an environment of their own:
`--judge` names its interpreter, and `trend_judges.py` is the program that it runs.
"""

import argparse
import json
import subprocess
from pathlib import Path

import numpy as np

from latprof.comparing.trend import change_points

RUNS, CHANGE = 60, 30
VARIATION = 0.03
NEAR = 3  # runs that a right point may be beside the change

T = np.arange(RUNS)
SHAPES = {  # by name: mean, and standard deviation, of each run
    "none": (np.zeros(RUNS), np.full(RUNS, VARIATION)),
    "variance": (np.zeros(RUNS), np.where(T < CHANGE, VARIATION, 3 * VARIATION)),
    "step": (np.where(T < CHANGE, 0, np.log(1.1)), np.full(RUNS, VARIATION)),
    "ramp": (np.log(1.01) * np.maximum(T - CHANGE + 1, 0), np.full(RUNS, VARIATION)),
}


def latprof_points(series):
    """Return the change points that latprof finds in each series."""
    return [[index for index, _ in change_points(np.array(values))] for values in series]


def judge_points(interpreter, series):
    """Return the change points that a judge finds in each series, by the judge's name."""
    program = Path(__file__).with_name("trend_judges.py")
    given = json.dumps([list(values) for values in series])
    command = [interpreter, str(program)]
    found = subprocess.run(command, input=given, capture_output=True, text=True, check=True)
    return json.loads(found.stdout)


def until_found(values, first):
    """Return the beginnings of a series that end at each run from the change on."""
    return [values[:n] for n in range(first + 1, RUNS + 1)]


def described(name, shape, whole, growing):
    """Return a line on points in whole series, and in their growing beginnings."""
    changes = shape in ("step", "ramp")
    # a ramp has no single place of change: from its first run on, a point is right
    last = {"step": CHANGE + NEAR, "ramp": RUNS}.get(shape, 0)
    wrong = [p for points in whole for p in points if not (CHANGE - NEAR <= p <= last)]
    line = f"{shape:9} {name:22} {100 * len(wrong) / len(whole) / RUNS:10.2f}"
    line += f" {sum(bool(points) for points in whole) / len(whole):9.0%}"
    if not changes:
        return line
    delays = []
    for looks in growing:
        right = [
            k + 1
            for k, points in enumerate(looks)
            if any(CHANGE - NEAR <= p <= last for p in points)
        ]
        delays.append(right[0] if right else np.inf)
    found = np.isfinite(delays)
    middle = np.median(delays)
    return f"{line} {found.mean():9.0%} {middle:12.0f}"


def main():
    """Simulate, look for changes, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--series", type=int, default=100, help="of each shape")
    parser.add_argument("--looked-at", type=int, default=25, help="series that are judged growing")
    parser.add_argument("--judge", action="append", default=[], metavar="PYTHON")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    random = np.random.default_rng(options.seed)
    print(f"{options.series} series of {RUNS} runs each; runs vary by {VARIATION:.0%}")
    print("shape     method                 false/100  series with  found in  runs until")
    print("                                      runs      a point   growing   found (median)")
    for shape, (mean, spread) in SHAPES.items():
        series = [random.normal(mean, spread) for _ in range(options.series)]
        grown = [until_found(each, CHANGE) for each in series[: options.looked_at]]
        if shape in ("none", "variance"):
            grown = []
        every = series + [part for parts in grown for part in parts]
        answers = {"latprof": latprof_points(every)}
        for interpreter in options.judge:
            answers |= judge_points(interpreter, every)
        for name, points in answers.items():
            looks = iter(points[len(series) :])
            growing = [[next(looks) for _ in parts] for parts in grown]
            print(described(name, shape, points[: len(series)], growing))


if __name__ == "__main__":
    main()
