"""Pictures of recordings with few, very long, very short or no times: nothing is hidden."""

import numpy as np
from matplotlib.figure import Figure
from test_doubts import MS, NOW, steady

from latprof import Pipeline, Trace, plot

ONE = Pipeline("one", ("start", "end"))


def trace(start, length):
    return Trace(ONE, frame_id=np.arange(len(start)), marks={"start": start, "end": start + length})


def axes():
    return Figure(figsize=(8, 4)).add_subplot()


def test_the_percentile_curve_is_right_at_its_ticks():
    # half of the frames take 1 ms, the others grow to 5 s
    length = np.concatenate(
        [np.full(5_001, MS), np.linspace(2, 5_000, 4_999).astype(np.int64) * MS]
    )
    ax = plot.percentiles(trace(steady(10_000), length), ax=axes())
    rest, value = ax.lines[0].get_data()
    expected = {0.5: MS, 0.1: np.sort(length)[8_999], 0.01: np.sort(length)[9_899]}
    for tick, ns in expected.items():
        assert tick in ax.get_xticks()
        assert abs(np.interp(-np.log(tick), -np.log(rest), value) - ns) <= 0.0006 * ns


def test_one_very_long_frame_hides_no_other():
    # 1,000 frames of 1 ms; the last one takes 10,000 s
    length = np.append(np.full(1_000, MS), 10_000 * 10**9)
    recording = trace(steady(1_001), length)
    time = plot.timeline(recording, ax=axes())
    assert not time.patches  # no time without frames
    assert time.get_xlim()[1] < 30  # seconds: frames start within 20 s
    counts = plot.histogram(recording, "end_to_end", ax=axes())
    assert counts.get_yscale() == "log"
    assert counts.get_ylim()[0] < 1
    bars = plot.waterfall(recording, ax=axes())
    assert bars.get_xlim()[1] < 2  # ms
    assert "2.78 h →" in [text.get_text() for text in bars.texts]


def test_zeros_are_labelled_as_zeros():
    length = np.concatenate([np.zeros(15, np.int64), np.arange(1, 877) * 10_000])
    recording = trace(steady(891), length)
    ax = plot.histogram(recording, "end_to_end", ax=axes())
    assert "15 frames of 0 ns" in [text.get_text() for text in ax.texts]
    drawn = sum(float(patch.get_data().values.sum()) for patch in ax.patches[:1])
    assert drawn + 15 == 891
    assert ax.get_xlim()[0] > 1_000  # no empty decades down to 1 ns
    for draw in (plot.percentiles, plot.timeline):
        axis = draw(recording, ax=axes()).yaxis
        assert axis.get_major_formatter()(1, 0) == "0 ns"


def test_short_recordings_have_windows_and_a_label_that_is_right():
    short = trace(1_000_000_000_000_000_000 + np.arange(50) * 100, np.arange(70, 120))
    ax = plot.timeline(short, ax=axes())
    assert "since 2001-09-09 01:46:40.000000000 UTC (us), in windows of 128 ns" in ax.get_xlabel()
    assert len(ax.lines[0].get_xdata()) > 33
    ticks = [tick for tick in ax.get_xticks() if 0 <= tick <= ax.get_xlim()[1]]
    assert len(set(ticks)) == len(ticks) > 2
    # frames of every ms from 123.456 ms on: the begin of the axis is what its label says
    later = trace(NOW + np.arange(200) * MS, 300_000)
    ax = plot.timeline(later, ax=axes())
    origin = int(
        np.datetime64(ax.get_xlabel().split("since ")[1].split(" UTC")[0], "ns").astype(int)
    )
    windows_ns = ax.lines[0].get_xdata() * 1e6 + origin
    assert windows_ns[0] <= NOW < windows_ns[1]


def test_times_between_regular_frames_are_not_hatched():
    ax = plot.timeline(trace(NOW + np.arange(10) * MS, 300_000), ax=axes())
    assert not ax.patches


def test_lanes_show_single_frames_and_zeros_where_they_belong():
    pipeline = Pipeline.chain("mic", "decode", "play")
    start = steady(900)
    decode, play = start + MS, start + 3 * MS
    play[7] += 800 * MS  # one frame of 900 is slow in decode
    end = play + np.where(np.arange(900) < 15, 0, 2 * MS)  # and 15 take no time in play
    marks = dict(zip(pipeline.marks, (start, decode, play, end), strict=True))
    ax = plot.histogram(Trace(pipeline, frame_id=np.arange(900), marks=marks), ax=axes())
    names = [text.get_text().split("\n")[0] for text in ax.get_yticklabels()]
    lanes = dict(zip(names, ax.get_yticks(), strict=True))
    (zeros,) = [text for text in ax.texts if text.get_text() == "15 frames of 0 ns"]
    assert abs(zeros.xy[1] - lanes["play"]) < 0.3
    outline = next(p for p in ax.patches if p.get_data().baseline == 2 and p.get_linewidth() > 0)
    heights, edges, _ = outline.get_data()
    (slow,) = heights[(edges[:-1] > 500 * MS) & (heights > 2)]
    assert slow - 2 > 0.015  # of a lane: most of a pixel of a small picture


def test_the_label_of_time_fits_a_small_picture():
    recording = trace(steady(100), np.full(100, MS))
    for width, lines in ((8, 1), (3.4, 2)):
        for draw in (plot.timeline, plot.heatmap):
            ax = draw(recording, ax=Figure(figsize=(width, 3)).add_subplot())
            assert len(ax.get_xlabel().split("\n")) == lines
