"""Every picture, small and large, light and dark: nothing clipped, nothing on each other."""

from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from looking import clipped, figure_of, overlapping, shown_texts
from matplotlib import style
from matplotlib.colors import to_rgb

import latprof
from latprof import AUDIO, Pipeline, Trace, plot
from latprof.profile import Profile

DATA = Path(__file__).parents[1] / "data"
SIZES = {"600 px": (600, 380), "large": (1200, 640)}
STYLES = {"light": "default", "dark": "dark_background"}


def synthetic(stages, frames=2_000):
    """Return a chain of stages that take from 20 us to 5 ms each."""
    rng = np.random.default_rng(stages)
    pipeline = Pipeline.chain("synthetic", *(f"stage_{chr(97 + i)}" for i in range(stages)))
    at = 1_700_000_000 * 10**9 + np.arange(frames) * 20_000_000
    marks = {"start": at}
    for i, mark in enumerate(pipeline.marks[1:]):
        at = at + rng.lognormal(11 + i * 7 % 5 / 1.5, 0.4, frames).astype(np.int64)
        marks[mark] = at
    source = ["input", "output"] * (frames // 2)
    return Trace(pipeline, frame_id=np.arange(frames), marks=marks, source=source)


@cache
def result(name):
    if name in ("healthy", "slow-card"):
        return latprof.analyze(DATA / f"mic-{name}.parquet", every="1s", deadline="100ms")
    return latprof.analyze(synthetic(int(name)), every="1s", deadline="10ms")


def blame_of(rows, columns):
    shares = np.random.default_rng(7).dirichlet(np.ones(columns + 1), rows)
    names = [*(f"stage_{i}" for i in range(columns)), "own"]
    return pd.DataFrame(shares, index=[f"queue_{i}" for i in range(rows)], columns=names)


def if_table():
    index = pd.Index([50, 90, 99, 99.9], name="percentile")
    columns = {
        "measured": [126e6, 246e6, 273e6, 276e6],
        "replayed": [20e6, 24e6, 40e6, 50e6],
        "subtraction": [124e6, 244e6, 271e6, 275e6],
    }
    return pd.DataFrame(columns, index=index)


def both():
    return {"healthy": result("healthy"), "slow card": result("slow-card")}


PICTURES = {
    "lanes": lambda ax, r: plot.histogram(r, ax=ax),
    "bars": lambda ax, r: plot.histogram(r, "end_to_end", ax=ax),
    "overlaid": lambda ax, r: plot.histogram(r, ax=ax, overlaid=True),
    "percentiles": lambda ax, r: plot.percentiles(r, ax=ax),
    "all percentiles": lambda ax, r: plot.percentiles(r, None, ax=ax, thresholds=["50ms"]),
    "ecdf": lambda ax, r: plot.ecdf(r, ax=ax, thresholds=["50ms"]),
    "timeline": lambda ax, r: plot.timeline(r, ax=ax),
    "heatmap": lambda ax, r: plot.heatmap(r, ax=ax, threshold="5ms"),
    "stages": lambda ax, r: plot.stages(r, ax=ax),
    "waterfall": lambda ax, r: plot.waterfall(r, ax=ax),
}
OTHERS = {
    "two in lanes": lambda ax: plot.histogram(both(), ax=ax),
    "two percentiles": lambda ax: plot.percentiles(both(), ax=ax),
    "two ecdf": lambda ax: plot.ecdf(both(), ax=ax),
    "two timelines": lambda ax: plot.timeline(both(), ax=ax),
    "two stages": lambda ax: plot.stages(both(), ax=ax),
    "blame": lambda ax: plot.blame(blame_of(2, 3), ax=ax),
    "large blame": lambda ax: plot.blame(blame_of(6, 8), ax=ax),
    "blame in ns": lambda ax: plot.blame(blame_of(4, 5) * 1e8, ax=ax, value="mean"),
    "what if": lambda ax: plot.what_if(if_table(), ax=ax),
    "40 frames": lambda ax: plot.waterfall(result("slow-card"), ax=ax, n=40),
    "nothing": lambda ax: plot.histogram(Profile(AUDIO), ax=ax),
}
CASES = {
    f"{name} of {what}": lambda ax, draw=draw, what=what: draw(ax, result(what))
    for name, draw in PICTURES.items()
    for what in ("healthy", "slow-card", "6", "14")
} | OTHERS


@pytest.mark.parametrize(("size", "look"), [("600 px", "light"), ("large", "dark")])
@pytest.mark.parametrize("case", CASES)
def test_all_text_is_seen_and_can_be_read(case, size, look):
    with style.context(STYLES[look]):
        figure = figure_of(*SIZES[size])
        CASES[case](figure.add_subplot())
        assert clipped(figure) == []
        assert overlapping(figure) == []
        sizes = [text.get_fontsize() for text, _ in shown_texts(figure)]
        assert min(sizes) >= 5


@pytest.mark.parametrize("case", CASES)
def test_pictures_take_the_colours_of_the_style(case):
    """On dark paper nothing that is drawn for text is dark."""
    with style.context("dark_background"):
        figure = figure_of()
        CASES[case](figure.add_subplot())
        figure.canvas.draw()
        corner = np.asarray(figure.canvas.buffer_rgba())[2, 2, :3] / 255
        assert corner == pytest.approx(to_rgb("black"), abs=0.01)
        for ax in figure.axes:
            for text in (ax.title, ax.xaxis.label, *ax.get_xticklabels(), *ax.get_yticklabels()):
                assert sum(to_rgb(text.get_color())) > 1.5


def test_overlaps_and_clipping_would_be_found():
    figure = figure_of()
    ax = figure.add_subplot()
    ax.text(0.5, 0.5, "one")
    ax.text(0.5, 0.5, "another")
    assert overlapping(figure) == [("one", "another")]
    figure.text(0.99, 0.5, "this leaves the figure")
    assert clipped(figure) == ["this leaves the figure"]
