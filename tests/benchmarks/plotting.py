"""How long pictures of large profiles take: a profile of 100 million frames, a day by windows.

Run as ``python -m tests.benchmarks.plotting``. A picture is drawn and written as PNG of 9 x 5
inches, in a process that has loaded matplotlib.
"""

import io
import time

import numpy as np

from latprof import AUDIO, plot
from latprof.frames import Columns
from latprof.profile.profile import Profile

__all__ = ["main"]

ROWS = 1_000_000
ROUNDS = 5
DAY_NS = 86_400 * 10**9


def frames(rows: int, weight: int, apart_ns: int) -> Columns:
    """Return audio frames of lognormal stages, each standing for `weight` frames."""
    rng = np.random.default_rng(1)
    start = 1_700_000_000 * 10**9 + np.arange(rows) * apart_ns
    marks, at = {}, start
    for i, mark in enumerate(AUDIO.marks):
        marks[mark] = at
        at = at + rng.lognormal(11 + i % 4, 1.0, rows).astype(np.int64)
    return Columns(np.arange(rows, dtype=np.uint64), marks, weight=np.full(rows, weight, np.uint32))


def seconds(draw: str, profile: Profile) -> float:
    """Return the median time of drawing and writing a picture."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    taken = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        figure = Figure(figsize=(9, 5), layout="constrained")
        FigureCanvasAgg(figure)
        getattr(plot, draw)(profile, ax=figure.add_subplot())
        figure.savefig(io.BytesIO(), dpi=150)
        taken.append(time.perf_counter() - begin)
    return sorted(taken)[ROUNDS // 2]


def main() -> None:
    """Print a table."""
    whole = Profile(AUDIO)
    whole.add(frames(ROWS, 100, 20_000_000))
    day = Profile(AUDIO, every="1s", deadline="50ms")
    day.add(frames(ROWS, 1, DAY_NS // ROWS))
    print(f"| picture | of | s, median of {ROUNDS} |\n| --- | --- | ---: |")
    for draw in ("histogram", "percentiles", "ecdf", "stages", "waterfall"):
        print(f"| {draw} | {whole.frames:,} frames | {seconds(draw, whole):.2f} |")
    for draw in ("timeline", "heatmap"):
        print(f"| {draw} | a day, {day.frames:,} frames | {seconds(draw, day):.2f} |")


if __name__ == "__main__":
    main()
