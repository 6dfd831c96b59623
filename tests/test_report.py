import json
import re
from pathlib import Path

import numpy as np
import oracle
import pandas as pd
import pytest
from strategies import BARE, CHAIN, DUE, GAPS, SMALL, seeded, simple

import latprof
from latprof import LatprofError, Profiler, Trace, read
from latprof.cli.main import main
from latprof.frames import Labels
from latprof.marks import Span
from latprof.pipeline import AUDIO, Pipeline
from latprof.profile.profile import Profile
from latprof.report.report import Report
from latprof.report.sections import range_name

HOSTILE = ["\x1b[31mred\x1b[0m", "<script>alert(1)</script>", "x" * 200, "a\nb\rc\td", "\u202eevil"]
HOSTILE += [
    "**bold** _it_ `code` | cell # [a](b)",
    "[red]markup[/red]",
    "\\",
    "&amp;",
    "\ud800",
    "",
]
LONG = Pipeline.chain("p" * 64, *(c * 64 for c in "abcdefg"))


def reported(pipeline, *parts, by=None, origin=""):
    profile = Profile(pipeline, by=by)
    for part in parts:
        profile.add(part)
    profile.note({})
    profile.balance()
    return Report(profile, origin=origin)


def hostile_report():
    n = len(HOSTILE) * 3
    frames = seeded(LONG, n, 1)
    frames.source = Labels.encode(HOSTILE * 3)
    frames.outcome = Labels.encode(
        ["finished", "finished", "a\x1b[31m\nreason " * 20] * len(HOSTILE)
    )
    report = reported(LONG, frames, by="source", origin="/tmp/\x1b[31m " + "long/" * 60)
    report.profile.accounts.rejected = {"\x1b[31m" + "why " * 60: 5}
    report.profile.accounts.notes = {"<b>": 10**15}
    return report


def weighted(rows, weight):
    return simple(BARE, rows, weight=np.full(len(rows), weight, np.uint32))


REPORTS = {
    "empty": lambda: reported(CHAIN),
    "empty by": lambda: reported(CHAIN, by="source"),
    "one frame": lambda: reported(CHAIN, simple(CHAIN, [(0, 10, 30, 60, 100)])),
    "one frame by": lambda: reported(CHAIN, simple(CHAIN, [(0, 10, 30, 60, 100)]), by="source"),
    "all missing": lambda: reported(CHAIN, simple(CHAIN, [(None,) * 5] * 3)),
    "no stage": lambda: reported(CHAIN, simple(CHAIN, [(0, None, None, None, 100)] * 3)),
    "all negative": lambda: reported(CHAIN, simple(CHAIN, [(9, 8, 7, 6, 5)] * 3)),
    "all zero": lambda: reported(CHAIN, simple(CHAIN, [(5, 5, 5, 5, 5)] * 3)),
    "all dropped": lambda: reported(
        CHAIN, simple(CHAIN, [(0, 1, 2, 3, 4)] * 3, outcome=Labels.constant("late", 3))
    ),
    "no stages": lambda: reported(BARE, simple(BARE, [(0, 7)])),
    "due": lambda: reported(DUE, seeded(DUE, 300, 1)),
    "gaps": lambda: reported(GAPS, seeded(GAPS, 300, 1)),
    "audio": lambda: reported(AUDIO, seeded(AUDIO, 5_000, 1), by="source", origin="mic.parquet"),
    "troubles": lambda: reported(AUDIO, seeded(AUDIO, 500, 1, missing=0.3, negative=0.5)),
    "minutes": lambda: reported(AUDIO, seeded(AUDIO, 300, 1, scale=1e12), by="room"),
    "days": lambda: reported(AUDIO, seeded(AUDIO, 300, 1, scale=2e16)),
    "wide": lambda: reported(LONG, seeded(LONG, 300, 1, scale=7e11)),
    "heavy": lambda: reported(BARE, weighted([(0, 10**6), (0, 10**7)], 2**32 - 1)),
    "hostile": hostile_report,
}


@pytest.fixture(scope="module")
def reports():
    return {name: make() for name, make in REPORTS.items()}


# -- any report ---------------------------------------------------------------------------------


def test_text_fits_100_columns_of_printable_characters(reports):
    for name, report in reports.items():
        for line in str(report).split("\n"):
            assert len(line) <= 100, (name, line)
            assert line.isprintable(), (name, line)
            assert line == line.rstrip(), (name, line)


def test_json_has_every_field_of_the_seeds_report(reports):
    for report in reports.values():
        content = json.loads(report.to_json())
        profile = report.profile
        assert content["frames"] == profile.frames  # TotalMeasurements
        assert content["time_range_ns"] == profile.time_range_ns  # TimeRange
        assert content["bottleneck"] == profile.bottleneck()  # BottleneckComponent
        assert content["throughput"] == profile.throughput  # Throughput
        spans = {row["span"]: row for row in content["spans"]}
        for name in [span.name for span in profile.pipeline.all_spans]:
            assert spans[name]["mean"] == profile[name].mean  # Avg...Latency
            assert spans[name]["max"] == profile[name].max  # Max...Latency
        counted = sum(row["frames"] for row in content["ranges"])  # LatencyDistribution
        assert counted == profile["end_to_end"].count
        assert content["ranges"][0]["above_ns"] == 0
        assert content["ranges"][-1]["to_ns"] is None
        assert Pipeline.from_dict(content["pipeline"]) == profile.pipeline


def test_rows_of_markdown_tables_have_equal_cells_whatever_names_contain(reports):
    for name, report in reports.items():
        text = report.to_markdown()
        assert text.endswith("\n")
        tables = [block for block in text.split("\n\n") if block.startswith("|")]
        for table in tables:
            cells = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
            assert len(cells) == 1, name
        assert all(c.isprintable() or c == "\n" for c in text), name
        assert "<script" not in text


def test_headline_is_one_line(reports):
    for report in reports.values():
        assert report.headline().isprintable()
        assert report.headline().startswith(f"{report.profile.pipeline.name}: ")
        assert repr(report).startswith("<Report of <Profile of ")


# -- what it is of ------------------------------------------------------------------------------


def test_a_report_takes_a_profile_a_trace_a_path_or_a_profiler(tmp_path):
    with Profiler(CHAIN) as profiler:
        for i in range(3):
            profiler.record(i, range(1_000, 6_000, 1_000))
        running = Report(profiler)
    trace = profiler.trace()
    trace.save(tmp_path / "mic.parquet")
    latprof.analyze(trace).save(tmp_path / "mic.latprof")
    paths = tmp_path / "mic.parquet", tmp_path / "mic.latprof", str(tmp_path / "*.parquet")
    reports = [Report(source) for source in (latprof.analyze(trace), trace, *paths)]
    for report in (running, *reports):
        assert report.headline() == "mic: the bottleneck is decode, 1.00 us mean, 25% of end to end"
        assert report.profile.frames == 3
    assert running.overhead == profiler.report().overhead != ""
    assert [report.origin for report in reports] == ["", "", *map(str, paths)]
    assert Report(paths[0], origin="my laptop").origin == "my laptop"
    unstarted = Report(Profiler(CHAIN))
    assert "never started" in str(unstarted)


def test_frames_without_a_source_are_named_so_in_the_order_of_frames():
    trace = Trace.of(CHAIN, simple(CHAIN, [(0, 1, 2, 3, 4), (10, 11, 12, 13, 14)]))
    assert "\nno source: no frame lost, late or duplicated" in str(Report(trace))


def test_a_report_of_anything_else_says_in_one_line_what_to_do():
    refused = {
        "a DataFrame": pd.DataFrame({"start": [1]}),
        "latprof.analyze": 7,
    }
    for remedy, source in {**refused, "got 'NoneType'": None, "got 'dict'": {}}.items():
        with pytest.raises(LatprofError, match="source must be a Profile, a Profiler") as error:
            Report(source)
        assert remedy in str(error.value)
        assert "\n" not in str(error.value)
    with pytest.raises(LatprofError, match=r"no/such\.parquet"):
        Report("no/such.parquet")
    with pytest.raises(LatprofError, match="101"):
        Report(Profile(CHAIN), worst=101)


# -- what it says -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("empty", "mic: no frame has finished"),
        ("all dropped", "mic: no frame has finished: 3 frames dropped (late)"),
        ("all missing", "mic: no frame has both start and end"),
        ("all negative", "mic: all frames end before they begin, by up to 4 ns: clocks or "),
        ("one frame", "mic: the bottleneck is play, 40 ns mean, 40% of end to end"),
        ("no stage", "mic: 100 ns of each frame (100%) is claimed by no stage: "),
    ],
)
def test_headline(what, said):
    assert REPORTS[what]().headline().startswith(said)


def test_headline_names_unclaimed_time_if_it_exceeds_every_stage():
    frames = simple(CHAIN, [(0, 700, 800, 900, 1_000)] * 3)
    assert str(reported(CHAIN, frames)).splitlines()[0] == (
        "mic: 700 ns of each frame (70%) is claimed by no stage: "
        "most of it is between the marks start and"
    )
    pipeline = Pipeline("p", ("start", "a", "end"), (Span("x", "a", "end"),))
    assert str(reported(pipeline, simple(pipeline, [(0, 7, 10)]))).splitlines()[0] == (
        "p: 7 ns of each frame (70%) is claimed by no stage: "
        "most of it is between the marks start and a"
    )


def test_text_shows_counts_and_accounts():
    frames = seeded(AUDIO, 400, 3)
    text = str(reported(AUDIO, frames, by="source", origin="mic.parquet"))
    truth = oracle.fold(frames, AUDIO)
    assert "read from mic.parquet" in text
    assert f"{truth['finished']:,} frames in " in text
    assert f"cgo {truth['spans']['cgo']['missing']}" in text
    dropped = sum(truth["dropped"].values())
    assert f"started 400 = in flight 0 + finished {truth['finished']} + dropped {dropped}" in text
    for (reason, mark), n in truth["dropped"].items():
        assert f"dropped: {reason}, last mark {mark}: {n}\n" in f"{text}\n"
    for name in ("input", "output", *(span.name for span in AUDIO.spans), "other", "end_to_end"):
        assert re.search(rf"^{name} ", text, re.M)


@pytest.mark.parametrize("pipeline", SMALL, ids=lambda p: p.name)
def test_json_has_the_numbers_of_the_oracle(pipeline):
    frames = seeded(pipeline, 300, 5, weights=True)
    content = json.loads(reported(pipeline, frames).to_json())
    truth = oracle.fold(frames, pipeline)
    assert content["frames"] == truth["finished"]
    assert content["time_range_ns"] == truth["last_ns"] - truth["first_ns"]
    expected = truth["finished"] / (content["time_range_ns"] / 1e9)
    assert content["throughput"] == pytest.approx(expected)
    for row in content["spans"]:
        known = truth["spans"][row["span"]]
        assert {key: row[key] for key in ("count", "missing", "negative", "max", "min")} == {
            key: known[key] for key in ("count", "missing", "negative", "max", "min")
        }
        assert row["mean"] == float(oracle.mean(known["values"]))
    ranges = [(row["above_ns"], row["to_ns"], row["frames"]) for row in content["ranges"]]
    assert ranges == oracle.ranges(truth["spans"]["end_to_end"]["values"])
    assert content["attribution"]["sums_ns"] == truth["shares"]
    assert content["attribution"]["excluded"] == dict(truth["excluded"])
    dropped = {(row["reason"], row["last_mark"]): row["frames"] for row in content["dropped"]}
    assert dropped == dict(truth["dropped"])


def test_json_of_groups_is_a_report_each():
    content = json.loads(REPORTS["audio"]().to_json())
    assert content["by"] == "source"
    assert set(content["groups"]) == {"input", "output"}
    assert sum(group["frames"] for group in content["groups"].values()) == content["frames"]
    for group in content["groups"].values():
        assert {row["span"] for row in group["spans"]} == {row["span"] for row in content["spans"]}


def test_hostile_names_are_escaped():
    report = REPORTS["hostile"]()
    text, markdown = str(report), report.to_markdown()
    assert r"\x1b[31mred\x1b[0m" in text.replace("\n", "")
    assert "&lt;script&gt;" in markdown or "&lt;script>" in markdown
    assert r"\*\*bold\*\*" in markdown
    assert set(json.loads(report.to_json())["groups"]) == {*HOSTILE}  # data, so as they are


def test_text_counts_the_groups_it_leaves_out():
    frames = simple(BARE, [(0, 1)] * 25, tags={"call": np.arange(25)})
    text = str(reported(BARE, frames, by="call"))
    assert "and 5 more" in text
    assert len(json.loads(reported(BARE, frames, by="call").to_json())["groups"]) == 25


def test_bars_in_text_have_the_length_of_the_share():
    frames = simple(BARE, [(0, 10**5)] * 3 + [(0, 3 * 10**6)])
    lines = str(reported(BARE, frames)).splitlines()
    bars = {line.split("  ")[0]: line.count("#") for line in lines if "#" in line}
    assert bars == {"up to 1 ms": 22, "1 to 5 ms": 8}  # of 30: 22.5 and 7.5, to even


@pytest.mark.parametrize(
    ("low", "high", "name"),
    [
        (0, 10**6, "up to 1 ms"),
        (10**6, 5 * 10**6, "1 to 5 ms"),
        (5 * 10**8, 10**9, "500 ms to 1 s"),
        (10**9, 2 * 10**9, "1 to 2 s"),
        (2 * 10**9, None, "more than 2 s"),
        (0, 1_500, "up to 1,500 ns"),
        (1_500, 2_000, "1,500 ns to 2 us"),
        (0, None, "more than 0 s"),
    ],
)
def test_range_name(low, high, name):
    assert range_name(low, high) == name


def test_a_report_of_a_trace_or_a_path_says_what_the_command_says(capsys):
    path = Path(__file__).parents[1] / "data" / "mic-slow-card.parquet"
    assert main(["report", str(path), "--format", "json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert "its cause is alsa" in printed["headline"]
    for source in (path, read(path)):
        assert json.loads(Report(source).to_json()) == printed
