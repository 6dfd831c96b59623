"""Recordings with doubtful numbers: every output reports why."""

import html
import json

import numpy as np

import latprof
from latprof import Pipeline, Report, Trace
from latprof.cli.main import main
from latprof.frames import MISSING
from latprof.units import format_utc

MIC = Pipeline.chain("mic", "decode", "play")
NOW = 1_700_000_000_123_456_789
MS = 1_000_000


def mic(start, *lengths, pipeline=MIC, **options):
    """Return a trace of frames with stages of these lengths, ns."""
    stamps = np.cumsum([start, start * 0, *(np.broadcast_to(x, len(start)) for x in lengths)], 0)
    marks = dict(zip(pipeline.marks, stamps, strict=True))
    return Trace(pipeline, frame_id=np.arange(len(start)), marks=marks, **options)


def steady(frames, begin=NOW, period=20 * MS):
    """Return starts that are nearly periodic, with the nanoseconds of a clock."""
    shift = np.random.default_rng(7).integers(-period // 9, period // 9, frames)
    return begin + np.arange(frames) * period + shift


def doubts(profile):
    return {doubt.key: doubt.sentence for doubt in profile.doubts}


def check_shown(profile, sentence):
    """Assert that text, notebook, Markdown, JSON and page all show a sentence."""
    report = Report(profile)
    assert sentence in " ".join(str(report).split())
    assert sentence in " ".join(str(profile).split())
    for shown in (report.to_html(), report._repr_html_(), profile._repr_html_()):
        assert sentence in " ".join(html.unescape(shown).split())
    assert sentence in report.to_markdown().replace("\\", "")
    content = json.loads(report.to_json())
    assert sentence in [doubt["sentence"] for doubt in content["doubts"]]


def test_a_good_recording_has_no_doubts():
    profile = latprof.analyze(mic(steady(500), 2 * MS, 5 * MS + 1), order=True)
    assert profile.doubts == []
    assert "doubtful" not in str(Report(profile))


def test_frames_that_all_end_before_they_begin_are_the_headline():
    # from 02:59:59.9 to 02:00:00.1 of two time zones, without the zones
    trace = mic(np.array([NOW]), 0, -3_599_800 * MS)
    profile = latprof.analyze(trace)
    sentence = "all frames end before they begin, by up to 3,599.8 s: clocks or time zones?"
    assert Report(profile).headline() == f"mic: {sentence}"
    assert doubts(profile) == {
        "negative": sentence,
        "left out": "shares are over 0 frames of 1, means over all that have the span; left out "
        "of shares: end_to_end negative 1",
    }
    check_shown(profile, sentence)
    assert str(Report(profile)).count("time zones?") == 1
    assert profile["end_to_end"].most_negative == -3_599_800 * MS


def test_negative_times_are_shown_with_how_negative_they_are():
    trace = mic(steady(3), 0, np.array([10 * MS, 20 * MS, -5_000]))
    profile = latprof.analyze(trace)
    total = profile["end_to_end"]
    assert (total.negative, total.most_negative, total.min) == (1, -5_000, 10 * MS)
    assert (total.percentile(50).value, total.percentile(99).value) == (10 * MS, 20 * MS)
    check_shown(
        profile, "1 of 3 frames end before they begin, by up to 5 us: clocks or time zones?"
    )
    assert "negative: play 1 (by up to 5 us), end_to_end 1 (by up to 5 us)" in str(profile)
    [row] = [row for row in profile.rows() if row["span"] == "play"]
    assert (row["negative"], row["most_negative"]) == (1, -5_000)


def test_how_negative_merges_and_is_saved(tmp_path):
    early, late = (latprof.analyze(mic(steady(2), 0, np.array([MS, -ns]))) for ns in (7_000, 9_000))
    merged = latprof.merge([early, late])
    merged.save(tmp_path / "a.latprof")
    for profile in (merged, latprof.load_profile(tmp_path / "a.latprof")):
        assert profile["play"].most_negative == -9_000
        assert profile["decode"].most_negative == 0


def test_a_missing_mark_is_not_taken_for_a_negative_time():
    trace = mic(steady(3), MS, MS)
    trace.marks["end"][1:] = MISSING
    profile = latprof.analyze(Trace(MIC, frame_id=trace.frame_id, marks=trace.marks))
    assert profile["play"].most_negative == 0
    assert "negative: none" in str(profile)


def test_milliseconds_given_as_nanoseconds_are_doubted():
    # 1,700,000,000,000 ms since 1970, and latencies of 7 ms
    start = 1_700_000_000_000 + np.arange(1_000) * 20
    profile = latprof.analyze(mic(start, 2, 5))
    sentence = doubts(profile)["unit"]
    assert sentence == (
        "frames start in 1970 (1970-01-01T00:28:20.000000Z), 50,032,521 frames/s, no frame takes "
        "longer than 7 ns: are stamps in ms or us given as ns?"
    )
    check_shown(profile, sentence)


def test_each_sign_of_a_wrong_unit_is_doubted_alone():
    early = latprof.analyze(mic(steady(500, begin=3_600 * 10**9), MS, MS))
    assert doubts(early)["unit"].startswith("frames start in 1970 (1970-01-01T01:00:00.")
    fast = latprof.analyze(mic(NOW + np.arange(500_000) * 90, 0, 2_000))
    assert doubts(fast)["unit"] == "11,110,640 frames/s: are stamps in ms or us given as ns?"
    short = latprof.analyze(mic(steady(500), 400, 500))
    assert doubts(short)["unit"].startswith("no frame takes longer than 900 ns: ")


def test_a_profiler_of_latprof_has_no_doubt_about_its_unit():
    trace = mic(steady(500), 400, 500, meta={"stamp_ns": 40})
    assert latprof.analyze(trace).doubts == []


def test_the_headline_says_which_frames_it_is_about():
    # 60 of 100 frames have a negative stage: shares are over 40 frames, means over all
    play = np.where(np.arange(100) < 60, -MS, 2 * MS)
    trace = mic(steady(100), 10 * MS, play)
    profile = latprof.analyze(trace)
    assert Report(profile).headline() == (
        "mic: the bottleneck is decode, 10.0 ms mean, 83% of end to end in 40 of 100 frames"
    )
    check_shown(
        profile,
        "shares are over 40 frames of 100, means over all that have the span; left out of "
        "shares: play negative 60",
    )


def test_the_headline_says_how_few_frames_have_the_bottleneck():
    # decode takes 10 ms in 10 of 100 frames; the others skip it and take 2 ms in all
    skips = np.arange(100) >= 10
    trace = mic(steady(100), np.where(skips, 0, 10 * MS), np.where(skips, 2 * MS, MS))
    trace.marks["decode"][skips] = MISSING
    profile = latprof.analyze(Trace(MIC, frame_id=trace.frame_id, marks=trace.marks))
    # 100 ms of 10 * 11 + 90 * 2 = 290 ms
    assert Report(profile).headline() == (
        "mic: the bottleneck is decode, 10.0 ms mean in 10 of 100 frames, 34% of end to end"
    )


def test_files_that_were_given_twice_are_doubted(tmp_path, capsys):
    mic(steady(50), MS, MS).save(tmp_path / "a.parquet")
    profile = latprof.analyze([tmp_path / "a.parquet", tmp_path / "a.parquet"])
    check_shown(profile, "files given more than once: 1; their frames count again")
    assert main(["report", str(tmp_path / "a.parquet"), str(tmp_path / "a.parquet")]) == 0
    assert "doubtful: files given more than once: 1; " in capsys.readouterr().out


# -- windows and runs ---------------------------------------------------------------------------


def test_no_percentile_of_a_window_is_outside_of_its_smallest_and_largest_value():
    # in one coarse bin, in windows of their own: 1.00 s and 1.01 s; and one frame of 682 us
    for every in (None, "10s"):
        start = NOW // 10**10 * 10**10 + np.repeat([0, 10**10], 100) + np.tile(np.arange(100), 2)
        length = np.repeat([10**9, 1_010_000_000], 100)
        profile = latprof.analyze(mic(start, 0, length), every=every)
        found = profile.windows(qs=(0, 50, 99, 100))
        for q in (0, 50, 99, 100):
            values = found.percentiles[q][found.counts > 0].tolist()
            expected = [10**9, 1_010_000_000]
            if every is None:  # batches have no extremes of their own: within 0.05 %
                assert np.allclose(values, expected, rtol=0.0005)
            else:
                assert values == expected
    one = latprof.analyze(mic(np.array([NOW]), 0, 682_000), every="1s")
    for profile in (one, latprof.analyze(mic(np.array([NOW]), 0, 682_000))):
        found = profile.windows(qs=(50, 99))
        shown = [*found.percentiles[50], *found.percentiles[99], *found.max_ns]
        assert {ns for ns in shown if ns} == {682_000}
    [row] = [row for row in Report(one).to_dict()["windows"] if row["span"] == "end_to_end"]
    assert (row["p50"], row["p99"], row["max"]) == (682_000,) * 3
    same = latprof.analyze(mic(steady(100), 0, 10**9), every="1min")
    assert "1.00 s  1.00 s  1.00 s  1.00 s" in str(Report(same)).split("by windows")[1]
    assert "998 ms" not in str(Report(same))


def test_extremes_of_windows_merge_and_are_saved(tmp_path):
    lengths = np.random.default_rng(1).integers(10**6, 10**9, 600)
    start = steady(600)
    whole = latprof.analyze(mic(start, 0, lengths), every="1s")
    parts = [latprof.analyze(mic(start[i::3], 0, lengths[i::3]), every="1s") for i in (2, 0, 1)]
    latprof.merge(parts).save(tmp_path / "a.latprof")
    window = start // 10**9
    for profile in (whole, latprof.load_profile(tmp_path / "a.latprof")):
        timeline = profile.sums.timeline
        expected = [int(lengths[window == w].min()) for w in np.unique(window)]
        assert timeline.lows("end_to_end").tolist() == expected
        _, first, last = profile.sums.batches.ranges()
        width = profile.sums.batches.width_ns
        assert first.tolist() == [
            start[start // width == w].min() for w in np.unique(start // width)
        ]
        assert last.tolist() == [
            start[start // width == w].max() for w in np.unique(start // width)
        ]


def test_runs_that_are_days_apart_are_the_first_doubt():
    days = 3 * 86_400 * 10**9
    start = np.concatenate([steady(200), steady(200, begin=NOW + days)])
    profile = latprof.analyze(mic(start, MS, MS))
    sentence = doubts(profile)["paused"]
    # two runs of 199 * 20 ms, more or less
    assert sentence.startswith("frames come in 2 runs of 7.9")
    assert "with 3.00 d between them, and rates are over the whole time" in sentence
    last, first = start[199] + 1_000, start[200]
    assert f"--to {format_utc(int(last))} and --from {format_utc(int(first))}" in sentence
    check_shown(profile, sentence)
    assert str(Report(profile)).splitlines()[1].startswith("doubtful: frames come in 2 runs")
    # the command splits them there
    assert latprof.analyze(mic(start, MS, MS), until=format_utc(int(last))).frames == 200
    assert latprof.analyze(mic(start, MS, MS), since=format_utc(int(first))).frames == 200
    parts = [latprof.analyze(mic(part, MS, MS)) for part in np.split(start, [50, 250])]
    assert latprof.merge(parts[::-1]).doubts == profile.doubts


def test_frames_that_come_rarely_do_not_pause():
    for start in (NOW + np.arange(9) * 3_600 * 10**9, NOW + np.arange(500) * 3_600 * 10**9):
        assert "paused" not in doubts(latprof.analyze(mic(start, MS, MS)))
    bursts = NOW + np.repeat(np.arange(1_000) * 500 * MS, 12)
    assert "paused" not in doubts(latprof.analyze(mic(bursts, MS, 0)))


def test_recordings_of_the_same_time_are_doubted():
    meta = [
        {"segments": [[NOW, NOW + 10**10]]},
        {"segments": [[NOW + 8 * 10**9, NOW + 2 * 10**10]]},
    ]
    traces = [mic(steady(100, begin=each["segments"][0][0]), MS, MS, meta=each) for each in meta]
    profile = latprof.merge([latprof.analyze(trace) for trace in traces])
    check_shown(profile, "recordings overlap for 2.00 s: rates are of all of them together")


def test_times_of_dropped_frames_are_kept_by_reason(tmp_path):
    outcome = ["finished", "late", "late", "closed"] * 3
    lengths = np.array([1, 20, 40, 7] * 3) * MS
    trace = mic(steady(12), 0, lengths, outcome=outcome)
    trace.marks["end"][11] = MISSING
    trace = Trace(MIC, frame_id=trace.frame_id, marks=trace.marks, outcome=outcome)
    parts = [latprof.analyze(trace.select(np.arange(12) % 2 == i)) for i in (1, 0)]
    latprof.merge(parts).save(tmp_path / "a.latprof")
    for profile in (latprof.analyze(trace), latprof.load_profile(tmp_path / "a.latprof")):
        late, closed = (profile.sums.dropped_times[name] for name in ("late", "closed"))
        assert (late.count, late.total, late.histogram.min, late.peak) == (
            6,
            180 * MS,
            20 * MS,
            40 * MS,
        )
        assert (closed.count, closed.missing, closed.total) == (2, 1, 14 * MS)
