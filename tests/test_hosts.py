"""The bounds of clocks are shown beside the spans that cross hosts, in every output."""

import itertools
import json
import re

import numpy as np
import pytest

import latprof
from latprof import Pipeline, Report, Span, Trace, TraceError

MS, S = 10**6, 10**9
BEGIN = 1_700_000_000 * S
TRIP = Pipeline(
    "trip",
    ("start", "arrived", "sent", "end"),
    (
        Span("there", "start", "arrived"),
        Span("work", "arrived", "sent", station="server"),
        Span("back", "sent", "end"),
    ),
)


def joined(there, back, frames=1_000, ahead=37 * S):
    """Return frames that travel to a host with a clock that is ahead, work 10 ms, and return."""
    start = BEGIN + np.arange(frames) * 20 * MS
    arrived = start + there + ahead
    end = start + there + 10 * MS + back
    meta = {"boot_id": "a", "clock_offset_ns": 0, "host": "alpha", "owns": ["start", "end"]}
    first = Trace(TRIP, frame_id=range(frames), marks={"start": start, "end": end}, meta=meta)
    meta = {"boot_id": "b", "clock_offset_ns": 0, "host": "beta", "owns": ["arrived", "sent"]}
    marks = {"arrived": arrived, "sent": arrived + 10 * MS}
    return latprof.join([first, Trace(TRIP, frame_id=range(frames), marks=marks, meta=meta)])


def test_offset_and_bound_by_hand():
    # legs of 2 and 2 ms, then of 1 and 3: the fastest that light could be is 0 ms
    for there, back, offset, low, high in (
        (2 * MS, 2 * MS, 37 * S, 36_998 * MS, 37_002 * MS),
        (1 * MS, 3 * MS, 36_999 * MS, 36_997 * MS, 37_001 * MS),
    ):
        for frames in (2, 100, 1_000):
            trace = joined(there, back, frames)
            (clock,) = Report(trace).to_dict()["clocks"]
            assert (clock["host"], clock["method"]) == ("beta", "two ways")
            assert clock["offset_ns"] == pytest.approx((offset, offset), abs=2)
            assert clock["low_ns"] == pytest.approx(low, abs=2)
            assert clock["high_ns"] == pytest.approx(high, abs=2)
            assert 2 * MS <= clock["bound_ns"] < 2.02 * MS
            assert clock["drift_ppb"] == (0, 0)
            assert clock["drift_low_ppb"] < 0 < clock["drift_high_ppb"]
            # spans within a host are as the host measured them
            assert set(trace.span("work").tolist()) == {10 * MS}
            assert set(trace.span("end_to_end").tolist()) == {there + back + 10 * MS}


def test_every_output_has_the_bounds_beside_the_spans(tmp_path):
    path = tmp_path / "joined.parquet"
    joined(1 * MS, 3 * MS).save(path)
    report = Report(path)
    saved = tmp_path / "joined.latprof"
    report.profile.save(saved)
    for each in (report, Report(saved)):
        for text in (str(each), each.to_html(), each.to_markdown(), each._repr_html_()):
            plain = re.sub(r"\s+", " ", text)
            for part in (
                "there, back between hosts: the clock of beta was 36.999 s ahead",
                "between 36.997 s and 37.001 s",
                "stamps are within 2.00 ms",
                "no drift was found (the truth is between -200 and 200 us a second)",
            ):
                assert part in plain.replace("\\", "").replace("&#39;", "'")
        assert json.loads(each.to_json())["clocks"][0]["spans"] == ["there", "back"]


def test_clocks_that_are_compared_as_they_are_are_a_doubt():
    start = BEGIN + np.arange(10) * 20 * MS
    pipeline = Pipeline("link", ("start", "arrived", "end"), (Span("wire", "start", "arrived"),))
    meta = {"boot_id": "a", "clock_offset_ns": 0, "host": "alpha", "owns": ["start"]}
    first = Trace(pipeline, frame_id=range(10), marks={"start": start}, meta=meta)
    meta = {"boot_id": "b", "clock_offset_ns": 0, "host": "beta", "owns": ["arrived", "end"]}
    marks = {"arrived": start + MS, "end": start + 2 * MS}
    trace = latprof.join([first, Trace(pipeline, frame_id=range(10), marks=marks, meta=meta)])
    profile = latprof.analyze(trace)
    (sentence,) = [doubt.sentence for doubt in profile.doubts if doubt.key == "clocks"]
    # what is left of end_to_end is within beta
    assert sentence == (
        "wire, end_to_end: the clock of beta is compared with the first host's as it is, and may "
        "be off by any amount"
    )
    assert sentence in " ".join(str(Report(trace)).split())


def test_clocks_of_several_joined_traces_merge_in_any_order():
    parts = [
        latprof.analyze(joined(there * MS, back * MS, ahead=ahead * MS))
        for there, back, ahead in ((2, 2, 37_000), (1, 3, 37_000), (4, 1, 38_000))
    ]
    for order in itertools.permutations(parts):
        merged = latprof.merge(order)
        (clock,) = Report(merged).to_dict()["clocks"]
        assert clock["offset_ns"] == pytest.approx((36_999 * MS, 38_001.5 * MS), abs=2)
        assert clock["low_ns"] == pytest.approx(36_997 * MS, abs=2)
        assert clock["high_ns"] == pytest.approx(38_004 * MS, abs=2)
    assert "36.999 s to 38.0015 s ahead" in " ".join(str(Report(merged)).split())


def test_a_file_with_wrong_clocks_is_refused():
    for entry in ("x", {"offset_ns": "1 s"}, {"spans": [1]}, {"bound_ns": 2**63}):
        with pytest.raises(TraceError, match="metadata 'join' must be"):
            Trace(TRIP, frame_id=[1], marks={"start": [1]}, meta={"join": {"clocks": [entry]}})
