"""Change points by other packages: series as JSON on stdin, points by judge as JSON on stdout.

It is run by the interpreter of an environment with ruptures or apache-otava, and so imports nothing
of latprof.
"""

import importlib.util
import json
import math
import sys


def ruptures_points(series):
    """Return changes of the mean by PELT, with the penalty of the Bayesian criterion."""
    import numpy as np
    import ruptures

    found = []
    for values in series:
        signal = np.array(values)
        # the spread of differences of neighbours is hardly changed by a step
        spread = np.median(np.abs(np.diff(signal))) / 0.6745 / math.sqrt(2)
        penalty = 2 * spread**2 * math.log(len(signal))
        model = ruptures.Pelt(model="l2", min_size=2, jump=1).fit(signal)
        found.append([int(p) for p in model.predict(pen=penalty)[:-1]])
    return found


def otava_points(series):
    """Return change points by Apache Otava with its own settings."""
    from otava.analysis import compute_change_points

    found = []
    for values in series:
        points = compute_change_points(values, window_len=30, max_pvalue=0.001, min_magnitude=0.0)
        points = points[0] if isinstance(points, tuple) else points
        found.append([int(point.index) for point in points])
    return found


JUDGES = {"ruptures": ("PELT (ruptures)", ruptures_points), "otava": ("Otava", otava_points)}


def main():
    """Judge with what is installed."""
    series = json.load(sys.stdin)
    answers = {
        name: judge(series)
        for module, (name, judge) in JUDGES.items()
        if importlib.util.find_spec(module) is not None
    }
    if not answers:
        sys.exit("neither ruptures nor apache-otava is installed")
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
