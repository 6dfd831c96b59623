"""The command: what it prints, what it writes, and one line for every mistake."""

import csv
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import latprof
from latprof import AUDIO, Pipeline, Trace
from latprof.cli import main

MIC = Pipeline.chain("mic", "decode", "play")


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


def test_report_of_a_folder_and_a_glob_is_that_of_all_files(path, capsys):
    (path.parent / "b.parquet").write_bytes(path.read_bytes())
    for what in (path.parent, path.parent / "*.parquet"):
        assert run("report", what, "--format", "json") == 0
        assert json.loads(capsys.readouterr().out)["frames"] == 80


def test_report_on_a_terminal_has_colours_unless_told_otherwise(path):
    def on_terminal(**environment: str) -> str:
        ours, theirs = pty.openpty()
        call = [sys.executable, "-m", "latprof.cli", "report", str(path)]
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


def test_export_to_parquet_and_csv(path, tmp_path):
    assert run("export", path, "-o", tmp_path / "copy.parquet") == 0
    copy = latprof.read(tmp_path / "copy.parquet")
    assert copy.marks["end"].tolist() == latprof.read(path).marks["end"].tolist()
    assert run("export", path, "-o", tmp_path / "mic.csv") == 0
    with (tmp_path / "mic.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 40
    assert (rows[1]["frame_id"], rows[1]["play"]) == ("1", "20000700")
    assert rows[1]["end_to_end_latency"] == "1000000"


def test_a_table_of_somebody_else_needs_the_pipeline(path, tmp_path, capsys):
    import pyarrow.parquet as pq

    bare = tmp_path / "bare.parquet"
    pq.write_table(pq.read_table(path).replace_schema_metadata(None), bare)
    assert run("report", bare) == 2
    assert "--pipeline" in capsys.readouterr().err
    (tmp_path / "mic.json").write_text(MIC.to_json())
    assert run("report", bare, "--pipeline", tmp_path / "mic.json") == 0
    assert "the bottleneck is play" in capsys.readouterr().out


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "Traceback" not in captured.err
    return captured.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["report", "no/such.parquet"], "no/such.parquet"),
        (["report", "{dir}"], "no *.parquet"),
        (["report", "{empty}"], "empty.bin"),
        (["report", "{path}", "--by", "nothing"], "nothing"),
        (["report", "{path}", "--pipeline", "none.json"], "none.json"),
        (["plot", "{path}", "-o", "x.gif"], ".png"),
        (["plot", "{path}", "-o", "x.png", "--span", "nix"], "nix"),
        (["plot", "{path}", "-o", "x.png", "--threshold", "fast"], "fast"),
        (["plot", "{path}", "-o", "{dir}/no/x.png"], "x.png"),
        (["export", "{path}", "-o", "x.xlsx"], ".csv"),
        (["demo", "--out", "{dir}/nowhere"], "nowhere"),
    ],
)
def test_a_mistake_is_one_line_and_exit_status_2(path, tmp_path, capsys, arguments, said):
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "empty.bin").touch()
    names = {"path": path, "dir": folder, "empty": tmp_path / "empty.bin"}
    assert run(*(argument.format(**names) for argument in arguments)) == 2
    assert said in one_line(capsys)


@pytest.mark.parametrize("arguments", [[], ["report"], ["nonsense"], ["report", "--formt", "x"]])
def test_a_wrong_call_is_one_line_and_exit_status_2(capsys, arguments):
    with pytest.raises(SystemExit) as stop:
        run(*arguments)
    assert stop.value.code == 2
    assert "--help" in one_line(capsys)


def test_help_shows_an_example_for_each_command(capsys):
    for command in ("demo", "report", "plot", "export"):
        with pytest.raises(SystemExit) as stop:
            run(command, "--help")
        assert stop.value.code == 0
        assert f"Example: latprof {command}" in capsys.readouterr().out


def test_a_reader_that_has_seen_enough_is_no_error(path):
    call = f"{sys.executable} -m latprof.cli report {path} | head -1"
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
