"""The report on terminals of any width, with and without colour."""

import io
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from rich.console import Console
from test_report import HOSTILE, REPORTS

from latprof import Pipeline, Trace
from latprof.report.report import Report
from latprof.report.terminal import bar, print_report
from latprof.thresholds import Thresholds

MS = 1_000_000


def shown(report, width=100, color=None, **environ):
    out = io.StringIO()
    console = Console(
        file=out,
        width=width,
        highlight=False,
        force_terminal=True,
        color_system=color,
        _environ=environ,
    )
    print_report(report, console)
    return out.getvalue()


def test_nothing_is_cut_and_nothing_is_wider_than_the_terminal():
    for name, make in REPORTS.items():
        report = make()
        for width in (80, 100, 140):
            text = shown(report, width)
            assert "…" not in text, name
            for line in text.split("\n"):
                assert len(line.rstrip()) <= width, (name, line)
                assert line.isprintable(), name
            assert report.headline() in " ".join(text.split()), name


def test_a_narrow_terminal_shows_which_columns_are_left_out():
    report = REPORTS["audio"]()
    assert "widen the terminal" not in shown(report, 140)
    text = shown(report, 80)
    (line,) = re.findall(r"too narrow for (.*): widen the terminal", text)
    header = next(line.split() for line in text.split("\n") if line.startswith("span"))
    left = line.split(", ")
    assert set(left) == {"std", "min"}
    assert [head for head in header if head in left] == []
    assert {"share", "mean", "p50", "p90", "p99", "p99.9", "max"} < set(header)


@pytest.mark.parametrize("width", [80, 100, 140])
def test_shares_have_bars(width):
    lines = shown(REPORTS["audio"](), width).split("\n")
    table = lines[next(i for i, line in enumerate(lines) if line.startswith("span")) :]
    bars = {line.split()[0]: line.count("█") for line in table[1:10]}
    assert bars["end_to_end"] == 8
    report = REPORTS["audio"]()
    share = report.profile["webrtc"].share
    assert abs(bars["webrtc"] - share * 8) < 1


def test_bars_are_drawn_in_eighths_of_a_character():
    assert bar(1 / 16, 2) == "▏"
    assert bar(0.5, 3) == "█▌"
    assert bar(2, 2) == "██"
    assert bar(-1, 2) == ""


def test_times_above_thresholds_are_coloured_and_others_are_not():
    report = Report(REPORTS["heavy"]().profile, thresholds=Thresholds(2 * MS, 9 * MS))
    text = shown(report, color="standard")
    assert re.search(r"\x1b\[1;31m *10\.0 ms", text)  # p99 and max, critical
    assert re.search(r"\x1b\[33m *5\.50 ms", text)  # the mean, warning
    assert not re.search(r"\x1b\[(?:33|1;31)m *1\.00 ms", text)
    assert "yellow: above 2 ms" in text
    assert "red: above 9 ms" in text


def test_the_bars_of_ranges_above_a_threshold_are_coloured():
    report = Report(REPORTS["heavy"]().profile, thresholds=Thresholds(2 * MS, 5 * MS))
    lines = shown(report, color="standard").split("\n")
    (low,) = [line for line in lines if "up to 1 ms" in line]
    (high,) = [line for line in lines if re.search("5 to 10 ms", line)]
    assert "\x1b[36m█" in low
    assert "\x1b[1;31m█" in high


@pytest.mark.parametrize("environ", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_colours_are_off_if_the_environment_asks_for_none(environ):
    report = Report(REPORTS["heavy"]().profile, thresholds=Thresholds(2 * MS, 9 * MS))
    out = io.StringIO()
    print_report(report, Console(file=out, force_terminal=True, width=100, _environ=environ))
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", out.getvalue())
    assert "yellow:" not in out.getvalue()
    assert "above 2 ms (warning)" in out.getvalue()


def test_control_characters_in_names_are_escaped():
    text = shown(REPORTS["hostile"](), 140, color="truecolor")
    ours = re.compile(r"\x1b\[[0-9;]*m")
    plain = ours.sub("", text)
    assert plain.replace("\n", "").isprintable()
    assert r"\x1b[31mred\x1b[0m" in plain.replace("\n", "")
    assert "[red]markup[/red]" in plain  # no markup of rich
    for name in HOSTILE:
        assert "\u202e" not in name or name not in text


@pytest.mark.parametrize("width", [20, 40, 60])
def test_a_tiny_terminal_still_shows_the_headline(width):
    assert "the bottleneck is" in " ".join(shown(REPORTS["audio"](), width).split())


def test_an_output_that_is_not_utf_8_gets_replacements(tmp_path):
    pipeline = Pipeline.chain("pfad", "größe", "再生")
    start = np.arange(9) * 10 * MS
    marks = {mark: start + k * MS for k, mark in enumerate(pipeline.marks)}
    path = tmp_path / "söurce.parquet"
    sources = ["söurce 東京"] * 9
    Trace(pipeline, frame_id=range(9), marks=marks, source=sources).save(path)
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, "ascii", errors="backslashreplace")
    print_report(Report(path), Console(file=file, force_terminal=True, width=100))
    file.flush()
    shown = raw.getvalue().decode("ascii")
    assert "#" in shown  # bars of ASCII characters
    assert "\\u2588" not in shown
    environ = os.environ | {"PYTHONIOENCODING": "ascii", "LANG": "C"}
    for command in (["report", "--by", "source"], ["causes"]):
        done = subprocess.run(
            [sys.executable, "-m", "latprof", *command, path],
            env=environ,
            capture_output=True,
            check=True,
        )
        assert b"gr\\xf6\\xdfe" in done.stdout
        assert done.stderr == b""
