"""The command: what it prints, what it writes, and one line for every mistake."""

import contextlib
import csv
import errno
import json
import os
import pty
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import latprof
from latprof import AUDIO, Pipeline, ProfileError, Trace
from latprof.analysis import analyze
from latprof.cli.main import main
from latprof.profile.profile import Profile

MIC = Pipeline.chain("mic", "decode", "play")
SLOW = str(Path(__file__).parents[1] / "data" / "mic-slow-card.parquet")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    start = np.arange(40) * 20_000_000
    marks = {"start": start, "decode": start, "play": start + 700, "end": start + 1_000_000}
    sources = ["in\x1b[31m"] * 20 + ["out"] * 20
    where = tmp_path / "mic.parquet"
    Trace(MIC, frame_id=range(40), marks=marks, size=960, source=sources).save(where)
    return where


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def test_report_names_the_bottleneck_and_the_accounts(path, capsys):
    assert run("report", path) == 0
    text = capsys.readouterr().out
    assert text.startswith("mic: the bottleneck is play, 999 us mean, 100% of end to end\n")
    assert "missing: none; negative: none" in text
    assert "lost 0" in text


def test_report_by_source_escapes_names(path, capsys):
    assert run("report", path, "--by", "source") == 0
    text = capsys.readouterr().out
    assert "in\\x1b[31m" in text
    assert "\x1b" not in text


def test_report_json_and_markdown(path, capsys):
    assert run("report", path, "--format", "json") == 0
    content = json.loads(capsys.readouterr().out)
    assert content["frames"] == 40
    assert content["bottleneck"] == "play"
    assert run("report", path, "--format", "markdown") == 0
    assert "| play | 99.9% | 999 us |" in capsys.readouterr().out


def test_report_of_a_folder_or_a_glob_covers_all_files(path, capsys):
    (path.parent / "b.parquet").write_bytes(path.read_bytes())
    for what in (path.parent, path.parent / "*.parquet"):
        assert run("report", what, "--format", "json") == 0
        assert json.loads(capsys.readouterr().out)["frames"] == 80


def test_report_on_a_terminal_has_colours_unless_NO_COLOR_is_set(path):
    def on_terminal(**environment: str) -> str:
        ours, theirs = pty.openpty()
        call = [sys.executable, "-m", "latprof.cli.main", "report", str(path)]
        plain = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR")}
        plain |= {"TERM": "xterm-256color", "COLUMNS": "120", **environment}
        process = subprocess.Popen(call, stdout=theirs, env=plain)
        os.close(theirs)
        seen = b""
        try:
            while data := os.read(ours, 65536):
                seen += data
        except OSError:
            pass  # how Linux says that the other end is closed
        os.close(ours)
        assert process.wait() == 0
        return seen.decode()

    assert "\x1b[" in on_terminal()
    plain = on_terminal(NO_COLOR="1")
    assert "\x1b[3" not in plain
    assert "the bottleneck is play" in plain


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_plot_writes_a_picture(path, tmp_path, ending):
    out = tmp_path / f"mic.{ending}"
    assert run("plot", path, "--kind", "histogram", "-o", out) == 0
    head = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[ending]
    assert out.read_bytes().startswith(head)


def test_export_to_parquet_and_csv(path, tmp_path, capsys):
    assert run("export", path, "-o", tmp_path / "copy.parquet") == 0
    assert capsys.readouterr().out == f"{tmp_path / 'copy.parquet'}: 40 frames\n"
    copy = latprof.read(tmp_path / "copy.parquet")
    assert copy.marks["end"].tolist() == latprof.read(path).marks["end"].tolist()
    assert run("export", path, "-o", tmp_path / "mic.csv") == 0
    with (tmp_path / "mic.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 40
    assert (rows[1]["frame_id"], rows[1]["play"]) == ("1", "20000700")
    assert rows[1]["end_to_end_latency"] == "1000000"


@pytest.fixture
def rotated(tmp_path: Path) -> Path:
    """A folder of the rotated files of one profiler; the last one counts a dropped frame."""
    folder = tmp_path / "rotated"
    folder.mkdir()
    stamps = np.arange(1, 301)[:, np.newaxis] * 20_000_000 + [0, 10, 700, 900]
    with latprof.Profiler(MIC, path=folder / "mic.parquet", rotate="1s") as profiler:
        for begin in range(0, 300, 100):
            profiler.record_many(range(begin, begin + 100), stamps[begin : begin + 100], 960, "in")
            profiler.report()
        profiler.frame("no id").finish()
        profiler.frame(300).drop("late")
    assert len(list(folder.iterdir())) >= 3
    return folder


@pytest.mark.parametrize("given", [["{}"], ["{}/*.parquet"], ["{}", "{}/*-00001.parquet"]])
def test_export_of_a_folder_is_all_its_files_as_one(rotated, tmp_path, capsys, given):
    whole = tmp_path / "whole.parquet"
    assert run("export", *(where.format(rotated) for where in given), "-o", whole) == 0
    files = len(list(rotated.iterdir()))
    assert capsys.readouterr().out == f"{whole}: 301 frames of {files} files\n"
    trace = latprof.read(whole)
    assert trace.frame_id.tolist() == list(range(301))
    assert trace.outcome.to_numpy().tolist() == ["finished"] * 300 + ["late"]
    parts, same = analyze(rotated), analyze(whole)
    assert same.rows() == parts.rows()
    assert same.accounts == parts.accounts
    assert same.active_ns == parts.active_ns
    assert same.accounts.rejected == {"frame id must be an integer from 0 to 2**64 - 1": 1}
    # the clock is that of all: stamps can be put back on it
    first = latprof.read(min(rotated.iterdir()))
    assert trace.meta["clock_offset_ns"] == first.meta["clock_offset_ns"]
    assert run("export", rotated, "-o", tmp_path / "whole.csv") == 0
    with (tmp_path / "whole.csv").open() as file:
        assert [int(row["frame_id"]) for row in csv.DictReader(file)] == list(range(301))


def test_export_orders_files_by_time_and_combines_their_metadata(tmp_path, capsys):
    def save(name, at, **meta):
        marks = {mark: [at + i] for i, mark in enumerate(MIC.marks)}
        trace = Trace(MIC, frame_id=[at], marks=marks, tags={"room": [at / 2]}, meta=meta)
        trace.save(tmp_path / f"{name}.parquet")

    save("a", 900, owns=["start", "decode"], lost=2, host="one", pid=1)
    save("b", 500, owns=["start", "end"], lost=3, host="one", pid=2)
    assert run("export", tmp_path, "-o", tmp_path / "all.parquet") == 0
    trace = latprof.read(tmp_path / "all.parquet")
    assert trace.frame_id.tolist() == [500, 900]
    assert trace.columns.tags["room"].tolist() == [250.0, 450.0]
    assert trace.meta["lost"] == 5
    assert trace.meta["owns"] == ["start", "decode", "end"]
    assert trace.meta["host"] == "one"
    assert "pid" not in trace.meta
    capsys.readouterr()
    save("c", 100, sampling_rate=0.5)
    assert run("export", tmp_path, "-o", tmp_path / "all.csv") == 2
    assert "c.parquet was recorded at 0.5 and" in one_line(capsys)
    other = Pipeline("bare", ("start", "end"))
    Trace(other, frame_id=[1], marks={}).save(tmp_path / "c.parquet")
    assert run("export", tmp_path, "-o", tmp_path / "all.csv") == 2
    assert "c.parquet is of 'bare' and" in one_line(capsys)
    (tmp_path / "c.parquet").unlink()
    assert run("export", tmp_path, "-o", tmp_path / "all.parquet") == 2
    assert "all.parquet must not be one of the 3 files to be read" in one_line(capsys)


def test_a_table_of_another_tool_needs_the_pipeline(path, tmp_path, capsys):
    bare = tmp_path / "bare.parquet"
    pq.write_table(pq.read_table(path).replace_schema_metadata(None), bare)
    assert run("report", bare) == 2
    assert "--pipeline" in capsys.readouterr().err
    (tmp_path / "mic.json").write_text(MIC.to_json())
    assert run("report", bare, "--pipeline", tmp_path / "mic.json") == 0
    assert "the bottleneck is play" in capsys.readouterr().out


def test_merge_of_parts_equals_the_profile_of_all_frames(path, tmp_path, capsys):
    trace = latprof.read(path)
    parts = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    for i, part in enumerate(parts):
        trace.select(trace.frame_id % 2 == i).save(part)
    saved, both = tmp_path / "a.latprof", tmp_path / "both"
    assert run("merge", parts[0], "-o", saved) == 0
    assert run("merge", saved, parts[1], "-o", both) == 0
    said = f"{saved}: 20 frames of 1 part\n{both}: 40 frames of 2 parts\n"
    assert capsys.readouterr() == (said, "")
    whole = analyze(path)
    merged = latprof.load_profile(both)
    assert merged.frames == 40
    assert merged.rows() == whole.rows()
    assert run("report", both) == 0
    assert capsys.readouterr().out.startswith("mic: the bottleneck is play, 999 us mean")
    # the order of the parts, and one that is written over, make no difference
    assert run("merge", parts[1], saved, "-o", saved) == 0
    assert latprof.load_profile(saved).rows() == whole.rows()
    assert run("merge", tmp_path / "?.parquet", "-o", both) == 0
    assert latprof.load_profile(both).frames == 40


def test_merge_analyzes_traces_as_the_saved_profiles_were(path, tmp_path, capsys):
    known, path = latprof.read(path), tmp_path / "periodic.parquet"
    pipeline = Pipeline.chain(
        "mic", "decode", "play", period="20ms", stations={"decode": "a", "play": "b"}
    )
    trace = Trace(pipeline, frame_id=range(40), marks=known.marks, source=known.source.to_numpy())
    trace.save(path)
    halves = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    times = trace.marks["start"]
    for half, part in zip(halves, (times < times[20], times >= times[20]), strict=True):
        trace.select(part).save(half)
    saved, both = tmp_path / "a.latprof", tmp_path / "both"
    for asked in (
        {"order": True, "causes": True},
        {"order": True, "id_bits": 16, "deadline": "1ms"},
        {"by": "source", "every": "10ms", "edges_ns": (500_000,)},
        {"intended": True, "order": True},
    ):
        analyze(halves[0], **asked).save(saved)
        for parts in ((saved, halves[1]), (halves[1], saved)):
            assert run("merge", *parts, "-o", both) == 0
            merged, whole = latprof.load_profile(both), analyze(path, **asked)
            assert merged.settings == whole.settings
            assert merged.rows() == whole.rows()
            assert merged.deadline == whole.deadline
            assert list(merged.groups) == list(whole.groups)
            if "order" in asked:
                mine, theirs = merged.order.results(), whole.order.results()
                assert {name: each.arrivals for name, each in mine.items()} == {
                    name: each.arrivals for name, each in theirs.items()
                }
                assert [each.deadline for each in mine.values()] == [
                    each.deadline for each in theirs.values()
                ]
            if "causes" in asked:
                assert merged.bottleneck("cause") == whole.bottleneck("cause")
    assert capsys.readouterr().err == ""


def test_merge_names_the_part_that_does_not_fit(path, tmp_path, capsys):
    trace = latprof.read(path)
    for name, asked in (("a", {}), ("b", {}), ("c", {"order": True})):
        analyze(trace, **asked).save(tmp_path / f"{name}.latprof")
    given = [tmp_path / f"{name}.latprof" for name in "abc"]
    assert run("merge", *given, "-o", tmp_path / "x") == 2
    said = capsys.readouterr().err
    assert said.startswith(f"latprof: {tmp_path}/c.latprof: profiles must both have an order")
    assert said.endswith("as analyze(trace, **profile.settings) does\n")
    parts = [latprof.load_profile(each) for each in given]
    with pytest.raises(ProfileError, match="profile 3: profiles must both have an order"):
        latprof.merge(parts)
    with pytest.raises(ProfileError, match=r"analyze\(trace, \*\*profile.settings\)"):
        latprof.merge([parts[0], trace])
    assert latprof.merge([parts[2], analyze(trace, **parts[2].settings)]).frames == 80


def test_merge_reports_profiles_of_the_same_frames(path, tmp_path, capsys):
    saved, copy, both = (tmp_path / f"{name}.latprof" for name in "abc")
    analyze(path).save(saved)
    copy.write_bytes(saved.read_bytes())
    assert run("merge", saved, copy, path, "-o", both) == 0
    assert capsys.readouterr().out == (
        f"{both}: 120 frames of 3 parts; 2 parts given more than once, which count again\n"
    )
    assert run("report", both) == 0
    assert "profiles of the same frames merged: 2; their frames count again" in (
        capsys.readouterr().out
    )


def test_merge_of_files_of_other_tools_needs_the_pipeline(path, tmp_path, capsys):
    bare = tmp_path / "bare.parquet"
    pq.write_table(pq.read_table(path).replace_schema_metadata(None), bare)
    (tmp_path / "mic.json").write_text(MIC.to_json())
    assert run("merge", bare, "-o", tmp_path / "c") == 2
    assert "--pipeline" in capsys.readouterr().err
    assert not (tmp_path / "c").exists()
    assert run("merge", bare, "--pipeline", tmp_path / "mic.json", "-o", tmp_path / "c") == 0
    assert latprof.load_profile(tmp_path / "c").frames == 40


@pytest.fixture
def uneven(tmp_path: Path) -> Path:
    """Return frames at 0 s, 1 s, ... 9 s that last 1 ms, 2 ms, ... 10 ms."""
    start = np.arange(10) * 1_000_000_000
    end = start + (np.arange(10) + 1) * 1_000_000
    marks = {"start": start, "decode": start, "play": start + 1_000, "end": end}
    where = tmp_path / "uneven.parquet"
    Trace(MIC, frame_id=np.arange(10) + 70, marks=marks, source="in").save(where)
    return where


def test_the_slowest_frames_are_listed_with_their_longest_spans(uneven, capsys):
    assert run("report", uneven, "--worst", 2) == 0
    text = capsys.readouterr().out
    lines = text.partition("Slowest frames")[2].splitlines()
    shown = [line for line in lines if line.lstrip().startswith("7")]
    assert len(shown) == 2
    assert shown[0].split()[:2] == ["79", "in"]
    assert "1970-01-01T00:00:09" in shown[0]
    assert "10.0 ms" in shown[0]
    assert "play 10.0 ms, decode 1.00 us" in shown[0]
    assert shown[1].split()[0] == "78"
    assert run("report", uneven, "--worst", 100, "--format", "json") == 0
    worst = json.loads(capsys.readouterr().out)["worst"]
    assert [frame["frame_id"] for frame in worst] == [*range(79, 69, -1)]
    assert run("report", uneven) == 0
    assert "Slowest frames" not in capsys.readouterr().out
    # a saved profile has them, too
    assert run("merge", uneven, "-o", uneven.parent / "p") == 0
    assert run("report", uneven.parent / "p", "--worst", 1) == 0
    assert "play 10.0 ms" in capsys.readouterr().out


def test_report_by_windows_of_time(uneven, capsys):
    assert run("report", uneven, "--every", "5s") == 0
    text = capsys.readouterr().out.partition("End to end, by windows of 5 s")[2]
    rows = [line.split() for line in text.splitlines() if line.startswith("1970")]
    assert [row[:2] for row in rows] == [
        ["1970-01-01T00:00:00.000000Z", "5"],
        ["1970-01-01T00:00:05.000000Z", "5"],
    ]
    assert rows[0][2:4] == ["3.00", "ms"]  # the mean of 1 to 5 ms
    assert rows[1][-2:] == ["10.0", "ms"]
    assert run("report", uneven, "--every", "5s", "--format", "json") == 0
    windows = json.loads(capsys.readouterr().out)["windows"]
    ends = [row for row in windows if row["span"] == "end_to_end"]
    assert [(row["window_ns"], row["count"], row["max"]) for row in ends] == [
        (0, 5, 5_000_000),
        (5_000_000_000, 5, 10_000_000),
    ]


def test_frames_beyond_a_deadline_are_counted(uneven, capsys):
    assert run("report", uneven, "--deadline", "8ms") == 0
    text = capsys.readouterr().out
    assert "deadline 8 ms: 2 of 10 frames missed it (2 late, 0 dropped)" in text
    assert "play 2" in text
    assert run("report", uneven, "--deadline", "8ms", "--format", "json") == 0
    missed = json.loads(capsys.readouterr().out)["deadline"]
    assert (missed["deadline_ns"], missed["late"], missed["misses"]) == (8_000_000, 2, 2)
    assert run("report", uneven) == 0
    assert "missed it" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "ids"),
    [
        (["--skip", "3s"], range(73, 80)),
        (["--from", "1970-01-01T00:00:08Z"], [78, 79]),
        (["--to", "1970-01-01T00:00:02"], [70, 71]),
        (["--from", "1970-01-01T00:00:02", "--to", "1970-01-01T00:00:04.000000001"], [72, 73, 74]),
        (["--skip", "1h"], []),
    ],
)
def test_only_frames_of_a_time_range_are_reported(uneven, capsys, arguments, ids):
    assert run("report", uneven, "--format", "json", "--worst", 100, *arguments) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["frames"] == len(ids)
    assert sorted(frame["frame_id"] for frame in content["worst"]) == list(ids)
    assert content["accounts"]["notes"] == {"outside the time range": 10 - len(ids)}
    assert run("report", uneven, *arguments) == 0
    assert f"counted: outside the time range: {10 - len(ids)}" in capsys.readouterr().out


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "Traceback" not in captured.err
    return captured.err


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> dict[str, Path]:
    """Files of all kinds, good and bad, by name."""
    folder = tmp_path_factory.mktemp("inputs")
    names = ("folder", "empty.bin", "path.parquet", "bare.parquet", "mic.ring")
    saved = ("saved", "cut", "other", "grouped")
    files = {name.partition(".")[0]: folder / name for name in names}
    files |= {name: folder / f"{name}.latprof" for name in saved}
    files["folder"].mkdir()
    files["empty"].touch()
    start = np.arange(40) * 20_000_000
    marks = {"start": start, "decode": start, "play": start + 700, "end": start + 1_000_000}
    trace = Trace(MIC, frame_id=range(40), marks=marks, source="in")
    trace.save(files["path"])
    table = pq.read_table(files["path"]).replace_schema_metadata(None)
    pq.write_table(table, files["bare"])
    with latprof.Profiler(MIC, capacity=5, ring=files["mic"]):
        pass
    analyze(trace).save(files["saved"])
    analyze(trace, by="source").save(files["grouped"])
    Profile(Pipeline("bare", ("start", "end"))).save(files["other"])
    files["cut"].write_bytes(files["saved"].read_bytes()[:-9])
    return files


MISTAKES = {
    "report no/such.parquet": "no/such.parquet",
    "report {folder}": "no *.parquet",
    "report {empty}": "empty.bin",
    "report {path} --by nothing": "by must be one of source, outcome, got",
    "report {path} --by size": "by must be one of source, outcome, got",
    "report {mic}": "the file is a ring; latprof recover {mic} -o FILE saves its frames",
    "report {path} --pipeline none.json": "--pipeline must be 'audio' or a file of Pip",
    "report {path} --pipeline {cut}": "must be JSON text in UTF-8; write it with Pipeline",
    "report {path} --every often": "every must be a duration",
    "report {path} --every 1": "(units: ns, us, ms, s, min, h, d), got '1'",
    "report {path} --every 0s": "every must be above 0",
    "report {path} --deadline=-5ms": "deadline must be 0 or more, got '-5ms'",
    "report {path} --deadline 5": "deadline must be a duration",
    "report {path} --skip soon": "skip must be a duration",
    "report {path} --from noon": "--from must be a time between",
    "report {path} --to 12:00": "--to must be a time between",
    "report {path} --warning 2ms --critical 1ms": "warning (2 ms) must not exceed critical (1 ms)",
    "report {bare}": "give pipeline=, or --pipeline on the command line",
    "report {path} --pipeline audio": "leave out pipeline= (--pipeline)",
    "report {saved} --by source": "--by needs the traces, but {saved} is a saved profile",
    "report {saved} --from 2020-01-01": "--from needs the traces, but {saved} is",
    "report {saved} --deadline 5ms": "--deadline needs the traces, but {saved} is",
    "report {saved} --id-bits 16": "--id-bits needs the traces, but {saved} is",
    "report {saved} {path}": "{saved} is a saved profile and must be given alone",
    "report {cut}": "cut.latprof: not a saved profile, or a corrupt one",
    "report {path} --html {path}": "{path} exists and does not end in .html",
    "report {path} --html {folder}/no/x.html": "no/x.html",
    "plot {path} -o x.gif": "output must end in .png, .svg, .pdf, got x.gif",
    "plot {path} -o x.png --span nix": "nix",
    "plot {path} -o x.png --threshold fast": "fast",
    "plot {path} -o {folder}/no/x.png": "no/x.png",
    "export {path} -o x.xlsx": ".csv, .json, .pftrace, .perfetto-trace, got x.xlsx",
    "export {mic} -o x.csv": "the file is a ring; latprof recover {mic} -o FILE",
    "recover {path} -o x.parquet": "path.parquet",
    "recover no/such -o x.parquet": "no/such",
    "recover {folder} -o x.parquet": "{folder}",
    "recover {path} -o x.xlsx": "output must end in .parquet, .csv, got x.xlsx",
    "demo --out {folder}/nowhere": "nowhere",
    "merge {saved} no/such -o x": "no/such",
    "merge {saved} {cut} -o x": "cut.latprof: not a saved profile",
    "merge {saved} {empty} -o x": "empty.bin",
    "merge {saved} {folder} -o x": "no *.parquet",
    "merge {saved} {other} -o x": "equal pipelines to merge, got 'mic' and 'bare'",
    "merge {saved} {grouped} -o x": "the same by to merge, got None and 'source'",
    "merge {saved} -o {folder}/no/x": "no",
    "merge {saved} -o {folder}": "folder",
    "what-if {path} --faster play=10": "must be a part (10%) or a duration (2ms), got '10'",
    "what-if {path} --slower play=sec": "must be a part (10%) or a duration (2ms), got 'sec'",
    "what-if {path} --slower play=10%ms": "must be a part (10%) or a duration (2ms), got '10%ms'",
    f"causes {SLOW} --station alsa": "got 'alsa'; for example --station alsa=cpu",
    f"causes {SLOW} --station x\x1b=a": "\\x1b",
    f"causes {SLOW} --hand-over soon": "hand_over must be a duration",
    f"what-if {SLOW} --faster alsa": "got 'alsa'; for example --faster alsa=10%",
    f"what-if {SLOW} --faster alsa=120%": "--faster alsa must be at most 100%, got '120%'",
    f"what-if {SLOW} --faster alsa=-1%": "must be a part (10%) or a duration (2ms), got '-1%'",
    f"what-if {SLOW} --faster alsa=1% --slower alsa=1%": "--slower must not change 'alsa' again",
    f"what-if {SLOW} --servers server=many": "--servers server must be a number, got 'many'",
    f"what-if {SLOW} --servers card=2": "relay, server",
    f"what-if {SLOW} --drop alsa=2ms": "alsa",
}


def test_a_mistake_is_one_line_and_exit_status_2(inputs, capsys):
    for call, part in MISTAKES.items():
        arguments = [argument.format(**inputs) for argument in call.split(" ")]
        assert run(*arguments) == 2, call
        assert part.format(**inputs) in one_line(capsys), call
    assert not Path("x").exists()


def test_long_arguments_are_shortened_in_error_messages(inputs, capsys):
    long = "a" * 70_000
    for call in (
        ["report", long],
        ["report", inputs["path"], "--by", long],
        ["report", inputs["path"], "--from", long],
        ["report", inputs["path"], "--pipeline", long],
        ["report", inputs["path"], "--warning", long],
        ["report", inputs["path"], f"--{long}"],
        ["plot", inputs["path"], "-o", long],
        ["plot", inputs["path"], "-o", "x.png", "--span", long],
        ["plot", inputs["path"], "-o", "x.png", "--style", long],
        ["merge", inputs["saved"], "-o", f"{long}/x"],
        ["recover", long, "-o", "x.csv"],
        ["what-if", SLOW, "--faster", f"{long}=1%"],
        ["causes", SLOW, "--station", f"{long}=a"],
        [long],
    ):
        with contextlib.suppress(SystemExit):
            run(*call)
        assert len(one_line(capsys)) < 2_500, call[:2]


def test_a_wrong_call_is_one_line_and_exit_status_2(capsys):
    calls = ["", "report", "nonsense", "report --formt x", "merge", "merge a", "merge -o c"]
    calls += [f"report a --worst {text}" for text in ("-1", "101", "many", "1.5")]
    for call in (*(call.split() for call in calls), ["report", "a", "--worst", ""]):
        with pytest.raises(SystemExit) as stop:
            run(*call)
        assert stop.value.code == 2
        assert "--help" in one_line(capsys)


def test_a_mistyped_name_gets_a_suggestion(capsys):
    calls = {
        "repotr x": "; did you mean report?; see latprof --help",
        "whatif x": "; did you mean what-if?; see",
        "plot x -o x.png --kind timelines": "; did you mean timeline?; see",
        "zzz": "'completion'); see latprof --help",
        "report x --worts 3": "--worts 3; did you mean --worst?; see latprof report",
        "--nope report x": "report: unrecognized arguments: --nope; see latprof report",
        "plot x -o y.png --a\x1b": "arguments: --a\\x1b; see latprof plot",
    }
    for call, meant in calls.items():
        with pytest.raises(SystemExit):
            run(*call.split())
        assert meant in one_line(capsys)


def test_recover_saves_the_frames_of_a_ring(tmp_path, capsys):
    ring, saved = tmp_path / "mic.ring", tmp_path / "crash.parquet"
    with latprof.Profiler(MIC, capacity=5, ring=ring) as profiler:
        for i in range(3):
            profiler.frame(i).finish()
        assert run("recover", ring, "-o", saved) == 0
        assert capsys.readouterr().out == f"{ring}: 3 rows whole, 0 torn, 2 never written\n"
        assert latprof.read(saved).frame_id.tolist() == [0, 1, 2]
        for i in range(3, 9):
            profiler.frame(i).finish()
    assert run("recover", ring, "-o", tmp_path / "crash.csv") == 0
    assert capsys.readouterr().out == (
        f"{ring}: 5 rows whole, 0 torn, 0 never written; "
        "4 frames overwritten, or claimed and never begun\n"
    )
    with open(tmp_path / "crash.csv", encoding="utf-8") as file:
        assert [row["frame_id"] for row in csv.DictReader(file)] == ["4", "5", "6", "7", "8"]
    assert run("report", saved) == 0


def test_a_full_disk_is_named_with_its_remedy(path, tmp_path, capsys):
    for name, call in {
        "full.png": ["plot", path, "-o"],
        "full.html": ["report", path, "--html"],
        "full": ["merge", path, "-o"],
        "full.csv": ["export", path, "-o"],
        "full.parquet": ["export", path, "-o"],
    }.items():
        (tmp_path / name).symlink_to("/dev/full")
        assert run(*call, tmp_path / name) == 2, name
        message = one_line(capsys)
        assert name in message
        assert "No space left on device" in message
        assert "choose another disk" in message
        assert "permissions" not in message


def test_a_picture_that_cannot_be_written_leaves_the_old_one(path, tmp_path, monkeypatch, capsys):
    def fail(self, file, **options):
        file.write(b"half of")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    old = tmp_path / "old.png"
    assert run("plot", path, "-o", old) == 0
    before = old.read_bytes()
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", fail)
    assert run("plot", path, "-o", old) == 2
    assert "old.png" in one_line(capsys)
    assert old.read_bytes() == before
    assert [file.name for file in tmp_path.glob("old*")] == ["old.png"]


def test_an_output_that_cannot_be_written_is_one_line():
    for call, unbuffered in (
        (["--version"], ""),
        (["report", "--help"], "1"),
        (["report", SLOW], ""),
    ):
        with open("/dev/full", "wb") as full:
            done = subprocess.run(
                [sys.executable, "-m", "latprof", *call],
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
                env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            )
        assert done.returncode == 2
        reason = "output: No space left on device; free disk space or choose another disk"
        assert done.stderr == f"latprof: {reason}\n"


def test_names_that_the_output_cannot_encode_are_escaped(tmp_path):
    marks = {"start": [0], "decode": [1], "play": [2], "end": [3]}
    Trace(MIC, frame_id=[0], marks=marks, source="Küche").save(tmp_path / "mic.parquet")
    call = [sys.executable, "-m", "latprof", "report", tmp_path / "mic.parquet", "--by", "source"]
    environ = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(call, capture_output=True, text=True, check=True, env=environ)
    assert "K\\xfcche" in done.stdout


def test_a_lack_of_memory_or_files_is_one_line(path, monkeypatch, capsys):
    for error, said in (
        (MemoryError(), "not enough memory"),
        (OSError(errno.EMFILE, "Too many open files"), "raise the limit (ulimit -n)"),
        (PermissionError(errno.EACCES, "Permission denied", "x\x1b"), "x\\x1b: Permission denied"),
    ):

        def fail(*_, error=error, **__):
            raise error

        monkeypatch.setattr("latprof.cli.common.analyze", fail)
        assert run("report", path) == 2
        assert said in one_line(capsys)


def test_the_version_is_printed(capsys):
    with pytest.raises(SystemExit) as stop:
        run("--version")
    assert stop.value.code == 0
    core = {"c": "C", "python": "Python"}[latprof.__impl__]
    assert capsys.readouterr() == (f"latprof {version('latprof')} ({core} core)\n", "")


def test_the_package_runs_as_the_command():
    call = [sys.executable, "-m", "latprof", "merge"]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("latprof merge: the following arguments are required: part")


def test_help_of_each_command_ends_with_an_example(capsys):
    with pytest.raises(SystemExit):
        run("--help")
    commands = re.findall(r"^    ([a-z-]+)(?: |$)", capsys.readouterr().out, re.MULTILINE)
    assert commands == [
        *("demo", "report", "causes", "what-if", "compare", "gate", "plan", "trend", "plot"),
        *("export", "recover", "compact", "merge", "formats", "top", "completion"),
    ]
    for command in commands:
        with pytest.raises(SystemExit) as stop:
            run(command, "--help")
        assert stop.value.code == 0
        # on a line of its own, to be copied
        last = capsys.readouterr().out.rstrip().splitlines()[-1]
        assert f"{last} ".startswith(f"Example: latprof {command} ")


def test_control_characters_of_a_call_are_escaped(path, capsys):
    for call in (
        ["report", "no\x1b[31m.parquet"],
        ["report", path, "--by", "no\x1b[31m"],
        ["report", path, "--format", "no\x1b[31m"],
        ["report", path, "--\x1b[31m"],
        ["\x1b[31m"],
    ):
        with contextlib.suppress(SystemExit):
            run(*call)
        assert "\x1b" not in one_line(capsys)


def test_a_closed_pipe_is_not_an_error(path):
    call = f"{sys.executable} -m latprof report {path} | head -1"
    done = subprocess.run(call, shell=True, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("mic: the bottleneck")
    assert done.stderr == ""


def test_audio_is_known_by_name(tmp_path, capsys):
    stamps = {mark: np.arange(3) * 1000 + i for i, mark in enumerate(AUDIO.marks)}
    trace = Trace(AUDIO, frame_id=[1, 2, 3], marks=stamps)
    import pyarrow.parquet as pq

    trace.save(tmp_path / "a.parquet")
    table = pq.read_table(tmp_path / "a.parquet").replace_schema_metadata(None)
    pq.write_table(table, tmp_path / "b.parquet")
    assert run("report", tmp_path / "b.parquet", "--pipeline", "audio") == 0
    assert capsys.readouterr().out.startswith("audio: ")


def test_merge_does_not_overwrite_a_trace(path, tmp_path, capsys):
    (tmp_path / "copy-of-a-trace").write_bytes(path.read_bytes())
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    for name in ("mic.parquet", "new.parquet", "copy-of-a-trace"):
        assert run("merge", path, "-o", tmp_path / name) == 2
        assert name in one_line(capsys)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_files_given_twice_are_counted(path, capsys):
    assert run("report", path, path) == 0
    assert "counted: files given more than once: 1" in capsys.readouterr().out


def test_report_says_when_no_frame_is_in_the_time_range(path, capsys):
    assert run("report", path, "--skip", "100s") == 0
    assert capsys.readouterr().out.startswith("mic: no frame is in the time range, 40 are outside")


def test_long_work_shows_a_bar_only_on_a_terminal(path, monkeypatch, capsys):
    import latprof.cli.common as inputs

    monkeypatch.setattr(inputs, "LONG_WORK", 1)
    shown = []
    monkeypatch.setattr(
        inputs, "_bar", lambda: contextlib.nullcontext(lambda *at: shown.append(at))
    )
    assert run("report", path) == 0
    assert shown == []
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert run("report", path) == 0
    assert shown == [(40, 40)]
    capsys.readouterr()


def test_the_bar_is_drawn(monkeypatch, capfd):
    import latprof.cli.common as inputs

    monkeypatch.setenv("FORCE_COLOR", "1")
    with inputs._bar() as shown:
        shown(5, 10)
    assert "reading" in capfd.readouterr().err


# -- causes and what-if ---------------------------------------------------------------------------

SENTENCE = "ipc looks slowest (109 ms mean); 99 % of it is waiting for alsa: the cause is alsa"


def test_causes_and_what_if_of_an_empty_trace_have_no_table(tmp_path, capsys):
    pipeline = Pipeline.chain("mic", "decode", "play")
    path = str(tmp_path / "empty.parquet")
    Trace(pipeline, frame_id=[], marks={}).save(path)
    assert main(["causes", path]) == 0
    first, note = capsys.readouterr().out.splitlines()
    assert first == "no frame has a whole stage: nothing is slow"
    assert note.startswith("note: no stage has a station")
    assert main(["what-if", path, "--faster", "play=10%"]) == 0
    assert capsys.readouterr().out.strip().endswith("no frame can be replayed")


def test_causes_as_text_and_json(capsys):
    assert main(["causes", SLOW]) == 0
    text = capsys.readouterr().out
    assert text.splitlines()[0] == SENTENCE
    assert "5.00 ms longer each second" in text
    assert max(map(len, text.splitlines())) <= 100
    assert main(["causes", SLOW, "--format", "json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert (content["cause"], content["sentence"]) == ("alsa", SENTENCE)
    assert content["blame"]["ipc"]["alsa"] > 0.95
    assert [row["station"] for row in content["stations"]] == ["relay", "server"]


def test_report_names_the_cause_if_it_is_not_the_slowest_stage(capsys):
    assert main(["report", SLOW]) == 0
    assert SENTENCE in capsys.readouterr().out
    assert main(["report", SLOW, "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["causes"]["cause"] == "alsa"
    assert main(["report", SLOW.replace("slow-card", "healthy")]) == 0
    assert "the cause is" not in capsys.readouterr().out


def test_what_if_as_text_and_json(capsys):
    call = ["what-if", SLOW, "--faster", "alsa=10%", "--servers", "server=2", "--drop", "ipc=1s"]
    assert main(call) == 0
    text = capsys.readouterr().out
    assert text.startswith("What if alsa x 0.9, server 2 servers, ipc dropped after 1.00 s\n")
    assert "\n3,000 frames, 0 dropped by the change; 0 contradict first in, first out\n" in text
    assert max(map(len, text.splitlines())) <= 100
    assert main([*call, "--format", "json"]) == 0
    content = json.loads(capsys.readouterr().out)
    p99 = content["percentiles"][2]
    assert p99["replayed"] < p99["subtraction"] < p99["measured"]
    assert main(["what-if", SLOW, "--servers", "server=2"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "server: a frame that enters within 1.10 ms of a departure counts as queued: 2," in text
    assert text.endswith("it serves 1 at once in the recording, 2 here")
    assert "it serves 1 at once server:" in text
    assert main(["what-if", SLOW, "--slower", "alsa=2ms", "--faster", "cgo=20us"]) == 0
    assert capsys.readouterr().out.startswith("What if cgo -20us, alsa +2ms")
    assert main(["what-if", SLOW, "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["sensitivity"][0]["stage"] == "alsa"
    assert main(["what-if", SLOW]) == 0
    assert "How much less end to end takes if a stage takes 10 % less" in capsys.readouterr().out


def test_causes_of_a_sampled_trace_are_not_available(tmp_path, capsys):
    trace = latprof.read(SLOW)
    trace.meta["sampling_rate"] = 0.1
    trace.save(tmp_path / "some.parquet")
    for command in ("causes", "what-if"):
        assert main([command, str(tmp_path / "some.parquet")]) == 2
        assert "not available: sampling rate 0.1" in capsys.readouterr().err
    assert main(["report", str(tmp_path / "some.parquet")]) == 0
    assert "causes are not available: sampling rate 0.1" in capsys.readouterr().out
