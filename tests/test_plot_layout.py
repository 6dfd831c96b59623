"""In every picture, small and large, light and dark, no text is clipped or overlaps another."""

from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from figures import clipped, figure_of, overlapping, shown_texts
from matplotlib import style
from matplotlib.colors import to_rgb

import latprof
from latprof import AUDIO, Pipeline, Trace, plot
from latprof.profile.profile import Profile
from latprof.queueing.headroom import Headroom, parse_limit

DATA = Path(__file__).parents[1] / "data"
MS = 10**6


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
    names = [*(f"stage_{i}" for i in range(columns)), "self_time"]
    return pd.DataFrame(shares, index=[f"queue_{i}" for i in range(rows)], columns=names)


HOSTILE = (
    "$x_1$",
    "<script>",
    "_hidden",
    "a\x1b[31m",
    "%s{0}\\frac",
    "x" * 80,
    "\u05e9\u05dc",
    "b",
)
LONG = [f"a_stage_with_a_very_long_name_{letter * 30}" for letter in "abcdefg"]


STATISTICS = {"mean": 8e6, "p50": 6e6, "p90": 2e7, "p99": 3e7, "limited": 3e7, "low": 2e7}
STATISTICS["high"] = 5e7


@cache
def groups():
    """Return eight results with names that could be read as markup, formulas or formats."""
    return {name: latprof.analyze(synthetic(2, 100), every="1s") for name in HOSTILE}


@cache
def long_names():
    return latprof.analyze(chain_of(LONG, 500, name=f"pipeline_{'y' * 50}"), every="1s")


def chain_of(stages, frames, *, name="mic", longest=MS):
    """Return a chain of stages. Their times grow from 1 ns to `longest`."""
    pipeline = Pipeline.chain(name, *stages)
    at = 1_700_000_000 * 10**9 + np.arange(frames) * 20_000_000
    marks = {"start": at}
    for mark in pipeline.marks[1:]:
        at = at + np.geomspace(1, longest, frames).astype(np.int64)
        marks[mark] = at
    return Trace(pipeline, frame_id=np.arange(frames), marks=marks)


def if_table():
    index = pd.Index([50, 90, 99, 99.9], name="percentile")
    columns = {
        "measured": [126e6, 246e6, 273e6, 276e6],
        "replayed": [20e6, 24e6, 40e6, 50e6],
        "subtraction": [124e6, 244e6, 271e6, 275e6],
    }
    return pd.DataFrame(columns, index=index)


@cache
def rising():
    """Return the headroom of an imaginary station that is saturated at 150 % of the load."""
    loads = [0.2, 0.6, 1.0, 1.2, 1.3, 1.4]
    curve = [
        {"load": load, **{name: at / (1.5 - load) for name, at in STATISTICS.items()}}
        for load in loads
    ]
    limit = parse_limit("p99<1s")
    return Headroom(
        limit, 1.2, 1.15, 1.23, "s", {"s": 0.8}, False, 60 * MS, 50.0, 1.1, 100, tuple(curve), ()
    )


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
    "load": lambda ax: plot.load_curve(rising(), ax=ax),
    "what if": lambda ax: plot.what_if(if_table(), ax=ax),
    "40 frames": lambda ax: plot.waterfall(result("slow-card"), ax=ax, n=40),
    "nothing": lambda ax: plot.histogram(Profile(AUDIO), ax=ax),
    "groups in lanes": lambda ax: plot.histogram(groups(), ax=ax),
    "groups in lanes of their own": lambda ax: plot.histogram(
        groups(), "end_to_end", ax=ax, thresholds=["2ms", "5ms"]
    ),
    "groups overlaid": lambda ax: plot.histogram(groups(), "end_to_end", ax=ax, overlaid=True),
    "groups by percentile": lambda ax: plot.percentiles(groups(), ax=ax),
    "groups as ecdf": lambda ax: plot.ecdf(groups(), ax=ax, thresholds=["2ms"]),
    "groups over time": lambda ax: plot.timeline(groups(), ax=ax, threshold="2ms"),
    "stages of groups": lambda ax: plot.stages(groups(), ax=ax),
    "long names": lambda ax: plot.histogram(long_names(), ax=ax),
    "long names, percentiles": lambda ax: plot.percentiles(long_names(), None, ax=ax),
    "long names over time": lambda ax: plot.timeline(long_names(), ax=ax),
    "long names, heat": lambda ax: plot.heatmap(long_names(), ax=ax),
    "long names, stages": lambda ax: plot.stages(long_names(), ax=ax),
    "long names, waterfall": lambda ax: plot.waterfall(long_names(), ax=ax),
}
CASES = {
    f"{name} of {what}": lambda ax, draw=draw, what=what: draw(ax, result(what))
    for name, draw in PICTURES.items()
    for what in ("healthy", "slow-card", "6", "14")
} | OTHERS


def check_texts(figure):
    shown = shown_texts(figure)
    assert clipped(figure, shown) == []
    assert overlapping(shown) == []
    assert min(text.get_fontsize() for text, _ in shown) >= 5


SMALL = [
    pytest.param(case, marks=pytest.mark.slow) if case.endswith((" of healthy", " of 6")) else case
    for case in CASES
]


@pytest.mark.parametrize("case", SMALL)
def test_no_text_of_a_small_light_picture_is_clipped_or_overlaps(case):
    figure = figure_of(600, 380)
    CASES[case](figure.add_subplot())
    check_texts(figure)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_no_text_of_a_large_dark_picture_is_clipped_overlaps_or_is_dark(case):
    with style.context("dark_background"):
        figure = figure_of(1200, 640)
        CASES[case](figure.add_subplot())
        check_texts(figure)
        corner = np.asarray(figure.canvas.buffer_rgba())[2, 2, :3] / 255
        assert corner == pytest.approx(to_rgb("black"), abs=0.01)
        for ax in figure.axes:
            for text in (ax.title, ax.xaxis.label, *ax.get_xticklabels(), *ax.get_yticklabels()):
                assert sum(to_rgb(text.get_color())) > 1.5


def test_the_test_helpers_find_overlaps_and_clipping():
    figure = figure_of()
    ax = figure.add_subplot()
    ax.text(0.5, 0.5, "one")
    ax.text(0.5, 0.5, "another")
    assert overlapping(shown_texts(figure)) == [("one", "another")]
    figure.text(0.99, 0.5, "this leaves the figure")
    assert clipped(figure, shown_texts(figure)) == ["this leaves the figure"]


# -- cases that were wrong once -----------------------------------------------------------------


@pytest.mark.parametrize("picture", [plot.histogram, plot.ecdf, plot.timeline, plot.stages])
def test_data_has_at_least_40_percent_of_a_picture_of_many_results(picture):
    figure = figure_of()
    ax = figure.add_subplot()
    picture(groups(), ax=ax)
    figure.canvas.draw()
    assert ax.get_window_extent().height > 0.4 * figure.bbox.height


def test_long_names_that_differ_at_their_end_stay_different():
    figure = figure_of()
    ax = plot.percentiles(long_names(), None, ax=figure.add_subplot())
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert len(set(labels)) == len(LONG) + 1


def test_a_shortened_name_is_never_a_formula():
    figure = figure_of(420, 260)
    names = [f"{'$' * i}x_1{'$' * (30 - i)}{i}" for i in range(8)]
    ax = plot.timeline({name: result("6") for name in names}, ax=figure.add_subplot())
    figure.canvas.draw()
    labels = [text.get_text() for text in ax.get_legend().get_texts()][2:]
    assert len(labels) == 8
    assert all(text.count("$") == text.count(r"\$") > 0 for text in labels)


def test_the_reason_for_an_empty_picture_stays_within_its_frame():
    figure = figure_of()
    ax = plot.ecdf(Profile(Pipeline.chain("mic", *LONG[:3])), ax=figure.add_subplot())
    figure.canvas.draw()
    frame, reason = ax.get_window_extent(), ax.texts[0].get_window_extent()
    assert frame.x0 < reason.x0
    assert reason.x1 < frame.x1
    assert frame.width > 0.95 * figure.bbox.width


def test_long_times_are_written_in_minutes_and_hours():
    slow = latprof.analyze(chain_of(["decode", "play"], 900, longest=4 * 3600 * 10**9))
    figure = figure_of()
    ax = plot.histogram(slow, ax=figure.add_subplot())
    figure.canvas.draw()
    labels = [text.get_text() for text in ax.get_xticklabels()]
    assert {"100 ms", "10 min"} <= set(labels)
    assert not any(text.endswith(("00 s", "0 h")) for text in labels)
    ax.clear()
    assert plot.waterfall(slow, ax=ax).get_xlabel() == "time since start (h)"


def test_numbers_of_frames_are_integers():
    figure = figure_of()
    ax = plot.histogram(latprof.analyze(chain_of("a", 1)), "end_to_end", ax=figure.add_subplot())
    figure.canvas.draw()
    ticks = [text.get_text() for text in ax.get_yticklabels()]
    assert ticks == [str(int(text)) for text in ticks]


@pytest.mark.parametrize("paper", ["default", "dark_background"])
def test_a_single_frame_is_visible_in_a_heatmap_whose_counts_are_integers(paper):
    with style.context(paper):
        figure = figure_of()
        ax = plot.heatmap(result("healthy"), ax=figure.add_subplot())
        figure.canvas.draw()
        (mesh,) = ax.collections
        bar = figure.axes[1]
        back, one = to_rgb(ax.get_facecolor()), to_rgb(mesh.to_rgba(1))
    assert contrast(back, one) > 1.8
    ticks = [text.get_text() for _, text in ticks_of(bar)]
    assert ticks[:3] == ["1", "2", "5"]
    assert all(text.isdigit() for text in ticks)


def ticks_of(ax):
    low, high = ax.get_ylim()
    pairs = [
        (tick.get_loc(), tick.label2)
        for tick in [*ax.yaxis.get_major_ticks(), *ax.yaxis.get_minor_ticks()]
    ]
    return [(at, text) for at, text in pairs if low <= at <= high and text.get_text()]


def contrast(one, two):
    """Return how far two colours differ, as WCAG 2 has it: from 1 to 21."""
    light = []
    for color in (one, two):
        parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in color]
        light.append(0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2] + 0.05)
    return max(light) / min(light)


def test_many_results_of_one_span_have_a_lane_each():
    figure = figure_of()
    ax = plot.histogram(groups(), "end_to_end", ax=figure.add_subplot())
    assert len(ax.get_yticklabels()) == 8
    assert ax.get_legend() is None
    ax.clear()
    plot.histogram(groups(), "end_to_end", ax=ax, overlaid=True)
    assert ax.get_ylabel() == "frames per bin"


def test_results_of_one_span_have_different_markers():
    figure = figure_of()
    for picture in (plot.percentiles, plot.ecdf):
        ax = picture(groups(), "end_to_end", ax=figure.add_subplot())
        marks = {line.get_marker() for line in ax.get_legend().get_lines()}
        assert len(marks) == 8
        figure.clear()
