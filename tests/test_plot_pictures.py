"""What each picture draws: its artists are compared with numbers by hand or from the profile."""

import io

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from figures import figure_of
from matplotlib.colors import to_hex
from strategies import BARE, CHAIN, seeded, simple

import latprof
from latprof import AUDIO, Pipeline, Trace, plot
from latprof.accounts import Accounts
from latprof.errors import LatprofError, ProfileError
from latprof.frames import FINISHED, Labels
from latprof.plot.axes import THRESHOLD, span_styles
from latprof.profile.profile import Profile

MS, SECOND = 10**6, 10**9


@pytest.fixture
def ax():
    return figure_of().add_subplot()


def profiled(pipeline, frames, **options):
    profile = Profile(pipeline, **options)
    profile.add(frames)
    profile.balance()
    return profile


def lasting(*latencies, **options):
    return profiled(BARE, simple(BARE, [(0, t) for t in latencies]), **options)


def at(*pairs, **options):
    """Return frames that start at the given seconds and last the given ns."""
    rows = [(int(s * SECOND), int(s * SECOND) + ns) for s, ns in pairs]
    return profiled(BARE, simple(BARE, rows), **options)


def texts(ax):
    return [text.get_text() for text in ax.texts]


def legend_of(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def by_color(lines):
    found = {}
    for line in lines:
        found.setdefault(to_hex(line.get_color()).upper(), []).append(line)
    return found


# -- histogram ----------------------------------------------------------------------------------


def test_given_edges_are_kept_and_frames_outside_are_counted(ax):
    profile = lasting(1, 3 * MS, 5 * MS, 7 * MS, 50 * MS, 60 * MS)
    plot.histogram(profile, "end_to_end", ax=ax, bins=["2ms", "4ms", "8ms", "9ms"])
    values, edges, _ = ax.patches[0].get_data()
    assert edges.tolist() == [2e6, 4e6, 8e6, 9e6]
    assert values.tolist() == [1, 2, 0]
    assert {"1 frame < 2.00 ms", "2 frames > 9.00 ms"} <= set(texts(ax))


def test_default_bins_contain_all_frames(ax):
    plot.histogram(lasting(1, 2**61), "end_to_end", ax=ax)
    assert not any("frames" in text for text in texts(ax))


def test_invalid_edges_are_errors():
    for bins in (["1ms"], ["2ms", "1ms"], ["1ms", "1ms"], ["soon", "2ms"], [], 2.5, "1ms"):
        with pytest.raises(ProfileError, match=r"bins must be|edge of a bin must be"):
            plot.histogram(lasting(5), bins=bins)


def test_results_are_drawn_over_each_other_in_colours_of_their_own(ax):
    results = {"before": lasting(100, 100, 900), "after $x_": lasting(50)}
    plot.histogram(results, "end_to_end", ax=ax)
    outlines = [p for p in ax.patches if not p.get_fill()]
    assert [p.get_data().values.sum() for p in outlines] == [3, 1]
    assert len({to_hex(p.get_edgecolor()) for p in outlines}) == 2
    assert len({str(p.get_linestyle()) for p in outlines}) == 2
    assert legend_of(ax) == ["before (3 frames)", r"after \$x_ (1 frame)"]
    assert outlines[0].get_data().edges.tolist() == outlines[1].get_data().edges.tolist()


def test_spans_can_be_overlaid(ax):
    profile = profiled(CHAIN, simple(CHAIN, [(0, 5, 20, 90, 400)] * 3))
    plot.histogram(profile, ["decode", "play"], ax=ax, overlaid=True)
    assert legend_of(ax) == ["decode", "play"]
    assert ax.get_ylabel() == "frames per bin"


def test_groups_of_a_profile_are_results(ax):
    profile = profiled(AUDIO, seeded(AUDIO, 300, 1), by="source")
    plot.histogram(profile.groups, "ipc", ax=ax)
    assert [text.split(" (")[0] for text in legend_of(ax)] == list(profile.groups)


def test_a_trace_is_a_result(ax):
    trace = Trace(BARE, frame_id=[1, 2], marks={"start": [0, 0], "end": [100, 200]})
    plot.histogram(trace, "end_to_end", ax=ax)
    assert ax.patches[0].get_data().values.sum() == 2


def test_a_report_is_a_result(ax):
    profile = lasting(100, 200)
    plot.histogram(latprof.Report(profile), "end_to_end", ax=ax)
    assert ax.patches[0].get_data().values.sum() == 2


# -- percentiles --------------------------------------------------------------------------------


def test_percentile_curve_has_the_percentiles_of_the_frames(ax):
    profile = lasting(*range(1, 1001))
    plot.percentiles(profile, ax=ax)
    rest, shown = ax.lines[0].get_data()
    for left, value in zip(rest[:-1], shown[:-1], strict=True):
        assert value == pytest.approx(np.ceil(round((1 - left) * 1000, 6)) or 1, abs=1)
    assert shown[-1] == 1000
    assert ax.get_xscale() == ax.get_yscale() == "log"
    low, high = ax.get_xlim()
    assert low == 1
    assert high < 1 / 1000
    labels = [label.get_text() for label in ax.get_xticklabels()]
    assert labels[:4] == ["0%", "50%", "90%", "99%"]


def test_the_interval_is_drawn_as_a_band(ax):
    profile = profiled(CHAIN, seeded(CHAIN, 3_000, 2))
    plot.percentiles(profile, ax=ax)
    (band,) = ax.collections
    reach = band.get_paths()[0].get_extents()
    p90 = profile["end_to_end"].percentile(90)
    place = band.get_paths()[0].vertices
    near = place[np.isclose(place[:, 0], 0.1)]
    assert near[:, 1].min() == pytest.approx(p90.low)
    assert near[:, 1].max() == pytest.approx(p90.high)
    # the thin line goes on to the last frame, the band does not
    assert reach.x0 > 1 / 3_000
    assert ax.lines[0].get_xdata().min() < 1 / 3_000


def test_without_the_interval_there_is_no_band(ax):
    plot.percentiles(profiled(CHAIN, seeded(CHAIN, 3_000, 2)), ax=ax, interval=False)
    assert len(ax.collections) == 0


def test_a_few_frames_have_no_band(ax):
    plot.percentiles(lasting(5, 6, 7), ax=ax)
    assert len(ax.collections) == 0


# -- ecdf ---------------------------------------------------------------------------------------


def test_ecdf_steps_from_0_to_1(ax):
    plot.ecdf(lasting(30, 10, 20, 20), "end_to_end", ax=ax)
    x, y = ax.lines[0].get_data()
    assert x.tolist() == [10, 10, 20, 30]
    assert y.tolist() == [0, 0.25, 0.75, 1]
    assert ax.lines[0].get_drawstyle() == "steps-post"


def test_ecdf_lines_have_the_colours_of_spans_and_different_markers(ax):
    profile = profiled(AUDIO, seeded(AUDIO, 300, 1))
    plot.ecdf(profile, ax=ax)
    colors = plot.colors(AUDIO)
    names = [*(stage.name for stage in AUDIO.stages), "end_to_end"]
    assert [to_hex(line.get_color()).upper() for line in ax.lines] == [colors[n] for n in names]
    assert len({line.get_marker() for line in ax.lines}) == len(names)
    assert legend_of(ax) == names


# -- timeline -----------------------------------------------------------------------------------


def test_timeline_draws_the_percentiles_of_each_window(ax):
    profile = at((0, 10), (0.1, 10), (0.2, 90), (1, 30), every="1s")
    plot.timeline(profile, ax=ax)
    lines = {line.get_label(): line.get_ydata() for line in ax.lines}
    assert lines["p50"].tolist() == [10, 30, 30]
    assert lines["p99"].tolist() == [90, 30, 30]
    assert lines["max"].tolist() == [90, 30]
    assert ax.get_xlim() == (0, 2)
    assert ax.get_yscale() == "log"


def test_windows_above_the_threshold_are_marked(ax):
    profile = at((0, 10), (1, 50), (2, 51), every="1s")
    plot.timeline(profile, ax=ax, threshold=50)
    marked = [line for line in ax.lines if line.get_label().startswith("above")]
    assert marked[0].get_ydata().tolist() == [51]
    assert marked[0].get_label() == "above 50 ns in 1 of 3 windows"


def test_the_deadline_of_the_profile_is_the_default_threshold(ax):
    profile = at((0, 10), (1, 70), every="1s", deadline=40)
    plot.timeline(profile, ax=ax)
    assert any(line.get_label().startswith("above 40 ns in 1") for line in ax.lines)


def test_gaps_and_lost_stretches_are_shaded_and_lines_are_cut_there(ax):
    profile = at((0, 10), (1, 10), (8, 10), (9, 10), every="1s")
    profile.segments = {(0, 2 * SECOND), (5 * SECOND, 10 * SECOND)}
    profile.undeclared = False
    profile.accounts = Accounts(lost=5)
    plot.timeline(profile, ax=ax)
    shades = {p.get_label(): (p.get_x(), p.get_width(), p.get_hatch()) for p in ax.patches}
    assert shades["not recorded"][:2] == (2, 3)
    assert shades["lost"][:2] == (5, 3)
    assert shades["lost"][2] != shades["not recorded"][2]
    p50 = next(line for line in ax.lines if line.get_label() == "p50").get_ydata()
    assert np.isnan(p50[2:8]).all()
    assert not np.isnan(p50[:2]).any()
    assert {"lost", "not recorded"} <= set(legend_of(ax))


@pytest.mark.parametrize("picture", ["timeline", "heatmap"])
def test_frames_lost_before_the_first_frame_are_shown(ax, picture):
    """A ring that was overwritten keeps the end of what was recorded."""
    profile = at((20, 10), (21, 10), every="1s")
    profile.segments, profile.undeclared = {(0, 22 * SECOND)}, False
    profile.accounts = Accounts(lost=1_000)
    DRAWN[picture](profile, ax=ax)
    (shade,) = [patch for patch in ax.patches if patch.get_label() == "lost"]
    assert (shade.get_x(), shade.get_width()) == (0, 20)
    assert ax.get_xlim() == (0, 22)
    if picture == "timeline":
        assert ax.lines[0].get_xdata().tolist() == [20, 21, 22]


def test_every_is_the_width_of_the_windows_of_a_trace(ax):
    start = np.arange(10) * SECOND
    trace = Trace(BARE, frame_id=np.arange(10), marks={"start": start, "end": start + 7})
    plot.timeline(trace, ax=ax, every="2s")
    assert len(ax.lines[0].get_xdata()) == 5 + 1
    with pytest.raises(ProfileError, match="every= must be None for a profile"):
        plot.timeline(at((0, 1)), ax=ax, every="2s")


def test_a_profile_without_windows_has_its_time_batches(ax):
    profile = profiled(BARE, simple(BARE, [(i * SECOND, i * SECOND + 5) for i in range(200)]))
    plot.timeline(profile, ax=ax)
    assert 33 <= len(ax.lines[0].get_xdata()) - 1 <= 64


# -- heatmap ------------------------------------------------------------------------------------


def test_heatmap_counts_all_frames_and_leaves_other_cells_empty(ax):
    profile = at((0, 10), (0.5, 10), (1, 1000), every="1s")
    plot.heatmap(profile, ax=ax)
    (mesh,) = ax.collections
    counts = mesh.get_array()
    assert counts.sum() == 3
    assert counts.max() == 2
    assert np.ma.getmaskarray(counts).sum() == counts.size - 2
    assert type(mesh.norm).__name__ == "LogNorm"


# -- stages -------------------------------------------------------------------------------------


def test_shares_of_stages_add_up_to_1_with_other(ax):
    # decode 10, resample 20, play 60, other 10; one frame of 1,000, all of it play
    rows = [(0, 10, 20, 40, 100)] * 99 + [(0, 0, 0, 0, 1000)]
    plot.stages(profiled(CHAIN, simple(CHAIN, rows)), ax=ax)
    bars = {c.get_label(): [box.get_width() for box in c] for c in ax.containers}
    assert list(bars) == ["decode", "resample", "play", "other"]
    whole = 99 * 100 + 1000
    assert [bars[name][0] for name in bars] == pytest.approx(
        [990 / whole, 1980 / whole, (99 * 60 + 1000) / whole, 990 / whole]
    )
    assert [bars[name][1] for name in bars] == pytest.approx([0.1, 0.2, 0.6, 0.1])
    assert [bars[name][2] for name in bars] == [0, 0, 1, 0]
    assert np.sum(list(bars.values()), axis=0) == pytest.approx([1, 1, 1])
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels == [
        "all\n100 frames, 109 ns each",
        "middle fifth\n20 frames, 100 ns each",
        "slowest 1 %\n1 frame, 1.00 us each",
    ]


def test_stages_have_their_colours_and_other_is_hatched(ax):
    plot.stages(profiled(AUDIO, seeded(AUDIO, 300, 1)), ax=ax)
    colors = plot.colors(AUDIO)
    for bars in ax.containers:
        box = bars[0]
        assert to_hex(box.get_facecolor()).upper() == colors[bars.get_label()].upper()
        assert (box.get_hatch() or "") == span_styles(AUDIO)[bars.get_label()].hatch
    assert ax.containers[-1][0].get_hatch()


def test_stages_of_several_results(ax):
    plot.stages({"a": lasting(*range(10)), "b": lasting(*range(20))}, ax=ax, slow=90)
    labels = [label.get_text().split("\n")[0] for label in ax.get_yticklabels()]
    assert labels == [
        f"{name}, {what}" for name in "ab" for what in ("all", "middle fifth", "slowest 10 %")
    ]


# -- waterfall ----------------------------------------------------------------------------------


def bars_of(ax):
    return {
        bars.get_label().split(" (")[0]: [
            (round(box.get_y() + box.get_height() / 2), box.get_x(), box.get_width())
            for box in bars
        ]
        for bars in ax.containers
    }


def test_the_slowest_frames_run_from_mark_to_mark(ax):
    rows = [(0, 10, 30, 60, 100), (0, 50, 60, 70, 500), (0, 0, 0, 0, 1)]
    plot.waterfall(profiled(CHAIN, simple(CHAIN, rows)), ax=ax, n=2)
    assert bars_of(ax) == {
        "decode": [(0, 50, 10), (1, 10, 20)],
        "resample": [(0, 60, 10), (1, 30, 30)],
        "play": [(0, 70, 430), (1, 60, 40)],
        "other": [(0, 0, 50), (1, 0, 10)],
    }
    assert ax.get_xlabel() == "time since start (ns)"
    assert [label.get_text() for label in ax.get_yticklabels()] == ["1", "0"]
    assert texts(ax) == ["500 ns", "100 ns"]


def test_a_missing_mark_leaves_the_time_to_other(ax):
    plot.waterfall(profiled(CHAIN, simple(CHAIN, [(0, 0, None, 60, 100)])), ax=ax)
    assert bars_of(ax) == {"play": [(0, 60, 40)], "other": [(0, 0, 60)]}


def test_a_clock_that_goes_back_draws_nothing_outside_of_the_frame(ax):
    plot.waterfall(profiled(CHAIN, simple(CHAIN, [(100, 20, 300, 50, 200)])), ax=ax)
    for bars in bars_of(ax).values():
        for _, begin, width in bars:
            assert begin >= 0
            assert width > 0
            assert begin + width <= 100


def test_waiting_is_hatched_and_the_legend_names_its_main_cause(ax):
    profile = profiled(AUDIO, seeded(AUDIO, 200, 1, missing=0, negative=0))
    shares = pd.DataFrame(
        {"cgo": [0.1, np.nan], "alsa": [0.8, np.nan], "self_time": [0.1, np.nan]},
        index=["ipc", "transit"],
    )
    plot.waterfall(profile, ax=ax, blame=shares)
    hatches = {bars.get_label(): bars[0].get_hatch() for bars in ax.containers}
    assert hatches["ipc (80% waiting for alsa)"]
    assert hatches["transit (waiting)"]
    assert not hatches["alsa"]
    ax.clear()
    plot.waterfall(profile, ax=ax, blame=shares.assign(self_time=[0.95, 1.0]))
    assert "ipc (95% self time)" in {bars.get_label() for bars in ax.containers}


def test_a_pipeline_without_stations_shows_no_waiting(ax):
    plot.waterfall(profiled(CHAIN, simple(CHAIN, [(0, 10, 30, 60, 100)])), ax=ax)
    assert legend_of(ax) == ["decode", "resample", "play", "other"]
    assert not ax.containers[0][0].get_hatch()


def test_the_waterfall_has_1_to_100_frames(ax):
    profile = lasting(*range(1, 300))
    plot.waterfall(profile, ax=ax, n=100)
    assert len(ax.containers[0]) == 100
    for n in (0, -1, 101):
        with pytest.raises(ProfileError, match=f"n must be an integer from 1 to 100, got {n}"):
            plot.waterfall(profile, n=n)


# -- blame and what-if --------------------------------------------------------------------------


def test_blame_draws_the_numbers_of_its_table(ax):
    shares = pd.DataFrame(
        {"alsa": [0.9, np.nan], "self_time": [0.1, 1.0]}, index=["ipc", "transit"]
    )
    plot.blame(shares, ax=ax)
    assert texts(ax) == ["90%", "10%", "100%"]
    assert np.ma.getmaskarray(ax.collections[0].get_array()).tolist() == [[0, 0], [1, 0]]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["alsa", "self"]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["ipc", "transit"]
    assert ax.get_ylim() == (2, 0)  # the first one on top


def test_blame_in_ns(ax):
    plot.blame(
        pd.DataFrame({"alsa": [2.5e6], "self_time": [0.0]}, index=["ipc"]), ax=ax, value="p99"
    )
    assert texts(ax) == ["2.50 ms", "0 ns"]


@pytest.mark.parametrize(("value", "shown"), [("share", "90%"), ("total", "18 ns")])
def test_blame_of_a_trace(ax, value, shown):
    start = np.array([0, 10])
    at = dict.fromkeys(("start", "webrtc", "validation", "serialization", "ipc"), start)
    # the second one waits from 10 to 30; until 28 the first is in alsa
    at |= {"cgo": np.array([0, 30]), "alsa": np.array([5, 35]), "end": np.array([28, 40])}
    plot.blame(Trace(AUDIO, frame_id=[0, 1], marks=at), ax=ax, value=value)
    assert shown in texts(ax)


def test_without_waiting_the_matrix_gives_the_reason(ax):
    for table in (pd.DataFrame(), pd.DataFrame({"self_time": [np.nan]}, index=["ipc"])):
        ax.clear()
        plot.blame(table, ax=ax)
        assert texts(ax)[0].startswith("no waiting")


def test_blame_and_what_if_refuse_other_tables():
    with pytest.raises(ProfileError, match=r"must be a trace or a table from .*, got int"):
        plot.blame(5)
    with pytest.raises(ProfileError, match=r"value must be one of share, .*, got 'max'"):
        plot.blame(pd.DataFrame(), value="max")
    with pytest.raises(ProfileError, match=r"must be of .*what_if, or its table, got"):
        plot.what_if(pd.DataFrame({"a": [1]}))


def test_what_if_draws_a_line_for_each_column(ax):
    table = pd.DataFrame(
        {"measured": [10.0, 30.0], "replayed": [5.0, 8.0], "subtraction": [9.0, 29.0]},
        index=[50, 99],
    )
    plot.what_if(table, ax=ax)
    assert [line.get_ydata().tolist() for line in ax.lines] == [[10, 30], [5, 8], [9, 29]]
    assert ax.lines[0].get_xdata() == pytest.approx([0.5, 0.01])
    assert legend_of(ax) == ["measured", "replayed", "by subtraction, queues unchanged"]


class Changed:
    """Like the result of latprof.what_if: sorted latencies, and a table of them."""

    def __init__(self, measured, replayed, other=None):
        self.measured_ns, self.replayed_ns = np.sort(measured), np.sort(replayed)
        self.subtraction_ns = self.measured_ns
        self.other_ns = self.replayed_ns if other is None else np.sort(other)
        self.changes = {"alsa": "x 0.9"}
        self.table = pd.DataFrame({"measured": [1.0], "replayed": [1.0]}, index=[50.0])


def test_what_if_of_many_frames_draws_few_points(ax):
    rng = np.random.default_rng(2)
    before = rng.integers(1, 10**9, 1_000_000)
    plot.what_if(Changed(before, before // 2, before // 3), ax=ax)
    for line in ax.lines:
        assert len(line.get_xdata()) < 200
    rest, values = ax.lines[0].get_data()
    truth = np.quantile(np.sort(before), 1 - rest[:-1], method="inverted_cdf")
    assert values[:-1] == pytest.approx(truth)
    assert values[-1] == before.max()
    assert ax.get_title() == "what if alsa x 0.9"
    assert len(ax.collections) == 1  # the band between both readings
    assert "between both readings" in legend_of(ax)


def test_what_if_of_a_change_that_drops_frames(ax):
    plot.what_if(Changed(np.arange(1, 101), np.arange(1, 51)), ax=ax)
    assert ax.lines[1].get_ydata()[-1] == 50
    assert len(ax.collections) == 0


def test_what_if_without_frames_gives_the_reason(ax):
    plot.what_if(Changed(np.zeros(0, int), np.zeros(0, int)), ax=ax)
    assert texts(ax)[0].startswith("nothing to replay")


# -- profiles of few or unusual frames ----------------------------------------------------------

RESULTS = {
    "empty": (Profile(CHAIN), "no frame has finished"),
    "dropped": (
        profiled(
            CHAIN,
            simple(CHAIN, [(0, 1, 2, 3, 4)] * 3, outcome=Labels.encode(["late"] * 3)),
        ),
        "all 3 frames were dropped",
    ),
    "missing": (profiled(CHAIN, simple(CHAIN, [(0, None, None, None, None)] * 3)), "missing in 3"),
    "negative": (profiled(CHAIN, simple(CHAIN, [(9, 8, 7, 6, 5)])), "negative in 1 of 1"),
}
DRAWN = {
    "histogram": plot.histogram,
    "percentiles": plot.percentiles,
    "ecdf": plot.ecdf,
    "timeline": plot.timeline,
    "heatmap": plot.heatmap,
    "stages": plot.stages,
    "waterfall": plot.waterfall,
}


@pytest.mark.parametrize("picture", DRAWN)
def test_a_picture_without_values_gives_the_reason(picture):
    for profile, reason in RESULTS.values():
        ax = figure_of().add_subplot()
        assert DRAWN[picture](profile, ax=ax) is ax
        (sentence,) = texts(ax)
        assert sentence.startswith("no frame of mic has ")
        assert reason in sentence
        assert len(ax.lines) == len(ax.patches) == len(ax.collections) == 0
        assert len(ax.get_xticks()) == len(ax.get_yticks()) == 0
    ax.figure.canvas.draw()


@pytest.mark.parametrize("picture", DRAWN)
def test_one_frame_and_equal_frames_are_drawn(picture):
    for latency in (0, 1, 20 * MS, 2**61):
        for rows in (1, 2):
            ax = figure_of().add_subplot()
            frames = simple(CHAIN, [(0, 0, 0, latency // 2, latency)] * rows)
            DRAWN[picture](profiled(CHAIN, frames), ax=ax)
            # stages of frames that take no time have no share
            assert ax.lines or ax.patches or ax.collections or latency == 0
        ax.figure.canvas.draw()


@pytest.mark.parametrize("picture", DRAWN)
def test_dropped_frames_are_not_drawn(ax, picture):
    outcome = Labels.encode([FINISHED, "late"])
    frames = simple(CHAIN, [(0, 10, 20, 30, 40), (0, 10, 20, 30, 10**9)], outcome=outcome)
    DRAWN[picture](profiled(CHAIN, frames), ax=ax)
    ax.figure.canvas.draw()
    assert ax.dataLim.y1 < 10**8
    assert ax.dataLim.x1 < 10**8


@pytest.mark.parametrize("picture", DRAWN)
def test_frames_with_missing_and_negative_spans_are_drawn(ax, picture):
    DRAWN[picture](profiled(AUDIO, seeded(AUDIO, 400, 3, missing=0.2, negative=0.2)), ax=ax)
    ax.figure.canvas.draw()


@pytest.mark.parametrize("picture", DRAWN)
def test_names_with_markup_formulas_and_escapes_are_plain_text(ax, picture):
    name = "<script>$x^2$\x1b[31m</script>"
    results = {
        name: profiled(CHAIN, seeded(CHAIN, 50, 1)),
        "_b": profiled(CHAIN, seeded(CHAIN, 50, 2)),
    }
    if picture in ("heatmap", "waterfall"):
        results = results[name]
    DRAWN[picture](results, ax=ax)
    out = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none"}):
        ax.figure.savefig(out, format="svg")
    assert "<script>" not in out.getvalue()
    assert "\x1b" not in out.getvalue()
    if picture in ("histogram", "percentiles", "ecdf", "timeline"):
        assert any("_b" in text for text in legend_of(ax))


# -- arguments ----------------------------------------------------------------------------------


def test_pictures_refuse_what_is_not_a_result():
    for given, message in (
        ([], "at least one profile or trace"),
        ({}, "at least one profile or trace"),
        (7, "result must be a profile, a trace or a path, got 7"),
        ([Profile(CHAIN), Profile(AUDIO)], "the same spans, got pipelines 'mic' and 'audio'"),
    ):
        for draw in DRAWN.values():
            with pytest.raises(ProfileError, match=message):
                draw(given)


def test_some_pictures_draw_one_result_only():
    for picture in ("heatmap", "waterfall"):
        with pytest.raises(ProfileError, match=f"{picture} must be given one result, got 2"):
            DRAWN[picture]([Profile(CHAIN), Profile(CHAIN)])


def test_an_unknown_span_is_an_error():
    for picture in ("percentiles", "ecdf", "timeline", "heatmap", "histogram"):
        with pytest.raises(LatprofError, match=r"span.*'nope'"):
            DRAWN[picture](lasting(5), "nope")


@pytest.mark.parametrize("picture", ["percentiles", "ecdf", "histogram"])
def test_thresholds_are_lines_in_their_colour(ax, picture):
    DRAWN[picture](lasting(5, 6), "end_to_end", ax=ax, thresholds=["50ms"])
    assert by_color(ax.lines)[THRESHOLD.upper()]
    assert "50 ms" in texts(ax)


def test_a_new_figure_is_higher_for_many_lanes():
    import matplotlib.pyplot as plt

    wide = Pipeline.chain("wide", *(f"s{i}" for i in range(12)))
    few = plot.histogram(lasting(5)).figure.get_figheight()
    many = plot.histogram(profiled(wide, seeded(wide, 50, 1))).figure.get_figheight()
    plt.close("all")
    assert many > few


# -- many frames --------------------------------------------------------------------------------


def artists(ax):
    return sum(len(getattr(ax, kind)) for kind in ("lines", "patches", "collections", "texts"))


def points(ax):
    return sum(len(line.get_xdata()) for line in ax.lines)


@pytest.fixture(scope="module")
def million():
    frames = seeded(CHAIN, 1_000_000, 1, missing=0, negative=0, dropped=0)
    return latprof.analyze(Trace.of(CHAIN, frames), every="1s")


@pytest.mark.parametrize("picture", DRAWN)
def test_a_million_frames_are_drawn_with_few_artists(ax, picture, million):
    DRAWN[picture](million, ax=ax)
    assert artists(ax) < 150
    assert points(ax) < 15_000
