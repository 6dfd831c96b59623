"""Reports, pages and pictures of hardly any frames, or of frames that were all dropped."""

import json
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest

import latprof
from latprof import Pipeline, ProfileError, Report, Trace

MS = 10**6
MIC = Pipeline.chain("mic", "decode", "play", stations={"play": "card"}, period="20ms")
OF_PROFILES = ("ecdf", "heatmap", "histogram", "percentiles", "stages", "timeline", "waterfall")


def trace(frames, dropped=False):
    start = 1_700_000_000_000_000_000 + np.arange(frames) * 20 * MS
    marks = {"start": start, "decode": start + MS}
    if not dropped:
        marks |= {"play": start + 2 * MS, "end": start + 4 * MS + np.arange(frames) * MS}
    outcome = ["late"] * frames if dropped else None
    return Trace(MIC, frame_id=range(frames), marks=marks, outcome=outcome)


def test_every_output_of_hardly_any_frames_works():
    for frames, dropped in ((0, False), (1, False), (2, False), (10, False), (8, True)):
        each = trace(frames, dropped)
        report = Report(each, worst=5)
        text = str(report)
        assert ("no frame has finished" in text) == (frames == 0 or dropped)
        if frames and not dropped:  # every question mark is explained
            assert ("?" in text) == ("? not enough frames for a reliable estimate: " in text)
        for output in (report.to_html(), report.to_markdown(), report._repr_html_()):
            assert not re.search(r"\b(nan|inf|None)\b", output)
        for name in OF_PROFILES:
            getattr(latprof.plot, name)(latprof.analyze(each, every="10ms"))
            plt.close("all")


def test_a_value_that_does_not_exist_is_null():
    values = ("mean", "std", "min", "p50", "p90", "p99", "p99_9", "max", "share", "most_negative")
    for each in (trace(0), trace(8, dropped=True)):
        content = json.loads(Report(each).to_json())
        for row in content["spans"]:
            assert {name: row[name] for name in values} == dict.fromkeys(values)
        for name in ("throughput", "active_ns", "bottleneck", "mean_size_bytes"):
            assert content[name] is None
    (row,) = [row for row in Report(trace(1)).to_dict()["spans"] if row["span"] == "play"]
    assert (row["std"], row["most_negative"], row["p50"]) == (None, None, 2 * MS)


def test_deadlines_of_frames_that_were_all_dropped_are_missed():
    report = Report(trace(8, dropped=True))
    assert report.to_dict()["deadline"]["misses"] == 8
    for text in (str(report), report.to_html()):
        assert "deadline 20 ms: 8 of 8 frames missed it (0 late, 8 dropped)" in text


def test_pictures_of_results_name_what_they_need():
    for name, function in (("compare", "compare"), ("trend", "trend"), ("what_if", "what_if")):
        for wrong in (trace(2), latprof.analyze(trace(2)), None):
            with pytest.raises(ProfileError, match=f"result must be of latprof.{function}"):
                getattr(latprof.plot, name)(wrong)
