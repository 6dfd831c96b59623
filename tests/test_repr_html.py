"""HTML of pipelines, traces, profiles, reports, causes and what-ifs in a notebook."""

import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from strategies import AUDIO, CHAIN, DUE, seeded, simple
from traces import rich

import latprof
from latprof import Pipeline, Span, Trace
from latprof.profile.profile import Profile
from latprof.queueing.forecast import WhatIf
from latprof.queueing.rooms import Source
from latprof.report.report import Report

HOSTILE = "<script>alert(1)</script>&\"'\x1b[31m$x$"


def profiled(pipeline, frames, **options):
    profile = Profile(pipeline, **options)
    profile.add(frames)
    profile.balance()
    return profile


def hostile_trace():
    frames = simple(CHAIN, [(0, 1, 2, 3, 4_000_000)] * 3)
    marks = {mark: stamps.tolist() for mark, stamps in frames.marks.items()}
    return Trace(
        CHAIN,
        frame_id=[0, 1, 2],
        marks=marks,
        source=HOSTILE,
        outcome=["finished", HOSTILE, "finished"],
        tags={"room": [HOSTILE] * 3},
    )


SHOWN = {
    "pipeline": lambda: AUDIO,
    "pipeline with due": lambda: DUE,
    "trace": lambda: rich(),
    "trace of nothing": lambda: Trace(CHAIN, frame_id=[], marks={"start": []}),
    "hostile trace": hostile_trace,
    "profile": lambda: profiled(AUDIO, seeded(AUDIO, 300, 1)),
    "profile by source": lambda: profiled(AUDIO, seeded(AUDIO, 300, 1), by="source"),
    "hostile profile": lambda: latprof.analyze(hostile_trace(), by="room"),
    "empty profile": lambda: Profile(AUDIO),
    "one frame": lambda: profiled(CHAIN, simple(CHAIN, [(0, 1, 2, 3, 4)])),
    "all missing": lambda: profiled(CHAIN, simple(CHAIN, [(0, None, None, None, None)])),
    "report": lambda: Report(profiled(AUDIO, seeded(AUDIO, 300, 1), every="1s"), worst=5),
    "hostile report": lambda: Report(
        latprof.analyze(hostile_trace(), by="source"), worst=3, origin=HOSTILE
    ),
    "empty report": lambda: Report(Profile(AUDIO)),
}


class Text(HTMLParser):
    """The text of a page as a reader sees it."""

    def __init__(self, page):
        super().__init__()
        self.found, self.tags = [], set()
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)

    def handle_data(self, data):
        self.found.append(data)


def test_html_is_well_formed_without_script_or_fixed_text_colours():
    tags = {"div", "p", "strong", "br", "span", "small"}
    tags |= {"table", "caption", "thead", "tbody", "tr", "th", "td"}
    for name, make in SHOWN.items():
        page = make()._repr_html_()
        ElementTree.fromstring(page.replace("<br>", "<br/>"))
        assert Text(page).tags <= tags, name
        assert not re.search(r"[\s;\"](color|background-color):(#|black|white)", page), name
        assert "\x1b" not in page, name
        # wide tables scroll within the cell of the notebook
        assert page.startswith('<div class="latprof" style="overflow-x:auto">'), name


def test_markup_in_names_is_escaped():
    for what in ("hostile trace", "hostile profile", "hostile report"):
        page = SHOWN[what]()._repr_html_()
        assert "<script" not in page
        assert "<script>" in "".join(Text(page).found)


def rows_of(page):
    root = ElementTree.fromstring(page.replace("<br>", "<br/>"))
    return [
        [["".join(cell.itertext()) for cell in row] for row in table.iter("tr")]
        for table in root.iter("table")
    ]


def test_a_pipeline_shows_marks_and_stations():
    (table,) = rows_of(AUDIO._repr_html_())
    assert table[0] == ["span", "kind", "marks", "station"]
    assert ["ipc", "stage", "ipc → cgo", "hand-off"] in table
    assert ["alsa", "stage", "alsa → end", "server"] in table
    assert ["validation", "side", "validation → ipc", ""] in table
    text = "".join(Text(Pipeline.chain("mic", "a", period="20ms")._repr_html_()).found)
    assert text.startswith("pipeline mic, a frame every 20.0 msstart → a → end")


def test_a_trace_shows_its_first_frames():
    start = np.arange(9) * 1000
    trace = Trace(
        Pipeline.chain("mic", "play"),
        frame_id=range(9),
        marks={"start": start, "play": start + 5, "end": [None, *(start[1:] + 70)]},
        source=["in", "out", "in"] * 3,
    )
    (table,) = rows_of(trace._repr_html_())
    assert table[0] == ["frame_id", "source", "play", "other", "end_to_end"]
    assert table[1] == ["0", "in", "-", "-", "-"]
    assert table[2] == ["1", "out", "65 ns", "5 ns", "70 ns"]
    assert len(table) == 1 + 5
    text = "".join(Text(trace._repr_html_()).found)
    assert "source: in 6, out 3" in text
    assert "and 4 more frames" in text


def test_a_profile_shows_its_spans_with_bars():
    frames = simple(CHAIN, [(0, 0, 0, 25, 100)] * 4)
    page = profiled(CHAIN, frames)._repr_html_()
    (table,) = rows_of(page)
    rows = {row[0]: row[1:] for row in table}
    times = ["mean", "std", "min", "p50", "p90", "p99", "p99.9", "max"]
    assert rows["span"] == ["share", *times]
    doubtful = ["75 ns?"] * 4  # four frames are too few for any percentile
    assert rows["play"] == ["75.0%", "75 ns", "0 ns", "75 ns", *doubtful, "75 ns"]
    assert rows["resample"][0] == "25.0%"
    assert "mic: the bottleneck is play, 75 ns mean, 75% of end to end" in page
    bars = re.findall(r"linear-gradient\(90deg,(#\w{6})59 ([\d.]+)%", page)
    assert (latprof.plot.colors(CHAIN)["play"], "75.0") in bars
    assert all(0 <= float(part) <= 100 for _, part in bars)


def test_missing_and_negative_are_counted():
    frames = simple(CHAIN, [(0, None, 5, 9, 20), (0, 5, 9, 12, 11)])
    profile = profiled(CHAIN, frames)
    text = "".join(Text(profile._repr_html_()).found)
    assert "missing: decode 1; negative: play 1" in text
    assert "missing: decode 1; negative: play 1" in str(profile)


def test_a_profile_shows_its_groups():
    profile = profiled(AUDIO, seeded(AUDIO, 300, 1), by="source")
    _, groups = rows_of(profile._repr_html_())
    assert groups[0][0] == "source"
    assert {row[0]: row[1] for row in groups[1:]} == {
        name: f"{group.frames:,}" for name, group in profile.groups.items()
    }


def test_groups_beyond_twenty_are_counted():
    profile = profiled(CHAIN, seeded(CHAIN, 400, 1), by="room")
    for i in range(40):
        profile.groups[f"room {i}"] = profile.groups["1"]
    page = profile._repr_html_()
    assert len(rows_of(page)[1]) == 1 + 20
    assert "and 23 more" in page


def test_a_report_has_all_its_sections():
    report = Report(profiled(AUDIO, seeded(AUDIO, 300, 1), every="1s"), worst=5)
    text = "".join(Text(report._repr_html_()).found)
    for section in report.sections():
        assert section.title in text
        for line in section.lines:
            assert line in text
    tables = rows_of(report._repr_html_())
    assert [len(table) - 1 for table in tables] == [
        len(section.table.rows) for section in report.sections() if section.table
    ]


def test_a_what_if_shows_how_much_it_gives():
    times = {"measured_ns": 100e6, "replayed_ns": 40e6, "subtraction_ns": 90e6}
    found = WhatIf(
        **{name: np.full(1_000, ns, np.int64) for name, ns in times.items()},
        readings_ns=(np.full(1_000, 50e6, np.int64),),
        waits={},
        changes={"alsa": "x 0.9"},
        counts={"frames": 1_000, "dropped": 0, "breaks": 2, "left_out": 0},
        hand_over_ns={},
        queues={},
        source=Source(),
        assumptions=("a < b",),
    )
    page = found._repr_html_()
    (rows,) = rows_of(page)
    assert rows[0] == ["end to end", "measured", "replayed", "by subtraction", "low", "high"]
    assert rows[1] == ["mean", "100 ms", "40.0 ms-60%", "90.0 ms-10%", "40.0 ms", "50.0 ms"]
    assert rows[2] == ["p50", "100 ms", "40.0 ms-60%", "90.0 ms-10%", "40.0 ms", "50.0 ms"]
    assert "What if alsa x 0.9" in page
    assert "a &lt; b" in page
    assert "p99.9" in str(found)
    assert "40.0 ms (-60%)" in str(found)
    assert "1,000 frames, 0 dropped by the change; 2 contradict first in, first out" in str(found)


def test_a_what_if_has_a_row_for_each_percentile():
    trace = latprof.read(Path(__file__).parents[1] / "data" / "mic-slow-card.parquet")
    page = latprof.what_if(trace, {"alsa": 0.9})._repr_html_()
    rows, waits = rows_of(page)
    assert [row[0] for row in rows[1:]] == ["mean", "p50", "p90", "p99", "p99.9", "max"]
    assert [row[0] for row in waits[1:]] == ["transit", "ipc"]


def test_causes_show_the_sentence_and_a_table_of_stages():
    # nine frames, 10 ns apart, each served for 20 ns: the n-th waits 10 n, 40 on average
    line = Pipeline(
        "line",
        ("start", "in", "end"),
        (Span("queue", "start", "in"), Span("work", "in", "end", station="worker")),
    )
    n = np.arange(9)
    marks = {"start": n * 10, "in": n * 20, "end": n * 20 + 20}
    page = latprof.causes(Trace(line, frame_id=n, marks=marks))._repr_html_()
    assert "the cause is work" in page
    for text in ("queue", "0 ns", "work", "20 ns", "40 ns", "self time", "blocking time", "gain"):
        assert text in page
    assert "<script" not in page


def test_causes_without_frames_say_so():
    marks = dict.fromkeys(AUDIO.marks, np.zeros(0, np.int64))
    page = latprof.causes(Trace(AUDIO, frame_id=np.zeros(0, np.uint64), marks=marks))._repr_html_()
    assert "nothing is slow" in page
    assert "<table" not in page
