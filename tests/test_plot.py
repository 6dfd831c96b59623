import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from strategies import BARE, CHAIN, DUE, seeded, simple

import latprof
from latprof import Trace, plot
from latprof.errors import ProfileError, TraceError
from latprof.pipeline import AUDIO
from latprof.profile.profile import Profile

mpl.use("Agg")
from matplotlib import pyplot as plt


@pytest.fixture(autouse=True)
def no_figure_is_left_open():
    plt.close("all")
    yield
    left = plt.get_fignums()
    plt.close("all")
    assert left == []


@pytest.fixture
def ax():
    return Figure(layout="constrained").add_subplot()


def profiled(pipeline, frames):
    profile = Profile(pipeline)
    profile.add(frames)
    return profile


def lasting(*latencies):
    return profiled(BARE, simple(BARE, [(0, t) for t in latencies]))


def stairs(ax):
    return [patch.get_data() for patch in ax.patches]


def texts(ax):
    return [text.get_text() for text in ax.texts]


def drawn(ax):
    """Draw the whole picture, so that a warning of matplotlib is an error."""
    ax.figure.draw_without_rendering()
    return ax


SETS = {
    "audio": lambda: profiled(AUDIO, seeded(AUDIO, 500, 1)),
    "microseconds": lambda: profiled(AUDIO, seeded(AUDIO, 500, 1, scale=500)),
    "zeros": lambda: lasting(0, 0, 0),
    "zero and more": lambda: lasting(0, 5, 5, 10**9),
    "one frame": lambda: lasting(7),
    "equal": lambda: lasting(*[123_456_789] * 50),
    "far apart": lambda: lasting(1, 2**62 - 1),
}


def zeros(profile, name):
    """Return how many values are 0: they are written beside the histogram."""
    return profile[name].histogram.at_most(0)[1]


@pytest.mark.parametrize("what", SETS)
def test_a_histogram_contains_all_frames_of_a_span(what):
    profile = SETS[what]()
    for bins in (1, 7, 120):
        ax = Figure(layout="constrained").add_subplot()
        plot.histogram(profile, "end_to_end", ax=ax, bins=bins)
        for values, edges, _ in stairs(drawn(ax)):
            assert values.sum() == profile["end_to_end"].count - zeros(profile, "end_to_end")
            assert len(values) == bins
            assert (np.diff(edges) > 0).all()
            assert edges[0] <= (profile["end_to_end"].min or 5)
            assert edges[-1] >= profile["end_to_end"].max
        assert len(ax.patches) == 2  # an area and its outline
        assert ax.get_xscale() == "log"


def test_frames_are_counted_in_the_bin_of_their_latency(ax):
    plot.histogram(lasting(100, 100, 100, 900), "end_to_end", ax=ax, bins=40)
    values, edges, _ = stairs(ax)[0]
    for latency, count in ((100, 3), (900, 1)):
        place = np.searchsorted(edges, latency, side="right") - 1
        assert values[place] == count


def test_title_and_axis_labels_of_a_histogram(ax):
    plot.histogram(lasting(5, 6), "end_to_end", ax=ax)
    assert ax.get_title() == "bare: 2 frames, end_to_end"
    assert ax.get_xlabel() == "latency"
    assert ax.get_ylabel() == "frames per bin"


def test_percentiles_are_marked_at_their_values(ax):
    profile = lasting(*range(1, 101))
    plot.histogram(profile, "end_to_end", ax=ax, percentiles=(50, 99))
    assert sorted(line.get_xdata()[0] for line in ax.lines) == [50, 99]
    assert texts(ax) == ["p50 50 ns", "p99 99 ns"]


def test_thresholds_are_drawn_as_lines(ax):
    profile = profiled(AUDIO, seeded(AUDIO, 50, 1))
    plot.histogram(profile, "end_to_end", ax=ax, percentiles=(), thresholds=("50ms", 10**8))
    assert [line.get_xdata()[0] for line in ax.lines] == [50_000_000, 100_000_000]
    assert texts(ax) == ["50 ms", "100 ms"]
    low, high = drawn(ax).get_xlim()
    assert low < 50_000_000 < 100_000_000 < high


def test_several_spans_have_a_lane_each(ax):
    profile = profiled(AUDIO, seeded(AUDIO, 500, 1))
    plot.histogram(profile, ax=ax)
    names = [*(stage.name for stage in AUDIO.stages), "end_to_end"]
    labels = [label.get_text().split("\n")[0] for label in drawn(ax).get_yticklabels()]
    assert labels == names[::-1]
    lanes = stairs(ax)[1::2]
    assert len(lanes) == len(names)
    for name, (heights, _, base) in zip(names, lanes, strict=True):
        lane = np.asarray(base).flat[0]
        counts = heights - lane
        assert counts.max() == pytest.approx(0.6)
        # heights are proportional to counts, which are integers
        whole = counts / counts.sum() * (profile[name].count - zeros(profile, name))
        assert whole == pytest.approx(np.round(whole), abs=1e-6)
        assert lane == len(names) - 1 - names.index(name)


def test_spans_without_frames_have_no_lane(ax):
    frames = simple(CHAIN, [(0, None, 5, 9, 20)] * 3)
    plot.histogram(profiled(CHAIN, frames), ax=ax)
    labels = [label.get_text().split("\n")[0] for label in drawn(ax).get_yticklabels()]
    assert labels == ["end_to_end", "play", "resample"]


def test_a_single_span_with_frames_keeps_its_colour(ax):
    profile = profiled(CHAIN, simple(CHAIN, [(0, None, None, 9, 20)] * 3))
    plot.histogram(profile, ["decode", "play"], ax=ax)
    color = mpl.colors.to_rgb(plot.colors(CHAIN)["play"])
    assert mpl.colors.to_rgb(ax.patches[1].get_edgecolor()) == color
    assert ax.get_title().endswith("play")


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        (lambda: Profile(CHAIN), "no frame of mic has decode or resample or play or end_to_end"),
        (
            lambda: profiled(CHAIN, simple(CHAIN, [(None,) * 5] * 3)),
            "no frame of mic has decode or resample or play or end_to_end",
        ),
        (lambda: profiled(CHAIN, simple(CHAIN, [(5, 4, 3, 2, 1)])), "no frame of mic has decode"),
    ],
    ids=["empty", "missing", "negative"],
)
def test_a_picture_without_values_gives_the_reason(ax, profile, message):
    plot.histogram(profile(), ax=ax, thresholds=("50ms",))
    assert texts(drawn(ax))[0].startswith(message)
    assert len(ax.patches) == 0
    assert len(ax.get_yticks()) == len(ax.get_xticks()) == 0


def test_other_and_response_can_be_drawn(ax):
    profile = profiled(DUE, seeded(DUE, 100, 1))
    plot.histogram(profile, ["other", "response"], ax=ax)
    assert len(drawn(ax).patches) == 4


def test_a_picture_of_a_path_is_that_of_its_profile(tmp_path):
    rows = [(0, 5), (10, 16), (20, 31)]
    trace = Trace.of(BARE, simple(BARE, rows))
    trace.save(tmp_path / "bare.parquet")
    latprof.analyze(trace).save(tmp_path / "bare.latprof")
    expected = plot.histogram(trace, "end_to_end", ax=Figure().add_subplot())
    for path in (tmp_path / "bare.parquet", str(tmp_path / "bare.latprof")):
        found = plot.histogram(path, "end_to_end", ax=Figure().add_subplot())
        assert found.get_title() == expected.get_title()
        for mine, theirs in zip(stairs(found), stairs(expected), strict=True):
            assert mine.values.tolist() == theirs.values.tolist()
    with pytest.raises(TraceError, match=r"no\.parquet: file not found"):
        plot.histogram(tmp_path / "no.parquet")


def test_invalid_arguments_are_errors_and_leave_no_figure():
    for options, message in (
        ({"spans": "nope"}, "span.* 'nope'"),
        ({"spans": ["end_to_end", "nope"]}, "span.* 'nope'"),
        ({"spans": []}, "spans must name at least one span, got none; use "),
        ({"bins": 0}, "bins must be a positive integer or a sequence of edges, got 0"),
        ({"bins": -5}, "bins must be a positive integer or a sequence of edges, got -5"),
        ({"thresholds": ["soon"]}, "threshold must be a duration"),
        ({"thresholds": ["-5ms"]}, "threshold must be 0 or more, got '-5ms'"),
        ({"percentiles": [101]}, "percentile must be a number from 0 to 100, got 101"),
    ):
        with pytest.raises(ProfileError, match=message):
            plot.histogram(lasting(5, 6), **{"spans": "end_to_end"} | options)


def test_the_caller_closes_a_new_figure():
    axes = plot.histogram(lasting(5, 6))
    assert plt.get_fignums() == [axes.figure.number]
    plt.close(axes.figure)


def test_colors_are_the_same_in_every_picture():
    colors = plot.colors(AUDIO)
    assert set(colors) >= set(Profile(AUDIO).spans)
    stages = [colors[stage.name] for stage in AUDIO.stages]
    assert len(set(stages)) == len(stages)
    assert all(mpl.colors.is_color_like(color) for color in colors.values())
