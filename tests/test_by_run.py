"""Folders and globs of recordings as runs: files of one recording stay together, others do not."""

from pathlib import Path

import numpy as np
import pytest
from stores import memory, put

import latprof
from latprof import Pipeline, ProfileError, Trace, compare, trend
from latprof.cli.main import main
from latprof.comparing.by_run import parts_by_run
from latprof.comparing.runs import load_runs
from latprof.io.compact import compact

WEB = Pipeline.chain("web", "handle", "send", stations={"send": "worker"})
SECOND = 1_000_000_000


def save(path, begin_s, *, recording=None, part=1, slower=1.0, frames=400, times=True):
    """Save frames of four tenths of a second from `begin_s` on; return the path."""
    start = begin_s * SECOND + np.arange(frames) * 1_000_000
    took = np.random.default_rng(begin_s).integers(90_000, 110_000, frames) * slower
    send = start + took.astype(np.int64)
    meta = {} if recording is None else {"recording": recording, "part": part}
    if times:
        meta["segments"] = [[int(start[0]), int(start[-1]) + 10**6]]
    marks = {"start": start, "handle": start, "send": send, "end": send + 1_000}
    path.parent.mkdir(parents=True, exist_ok=True)
    Trace(WEB, frame_id=np.arange(frames), marks=marks, meta=meta).save(path)
    return path


def names_of(where):
    return [run.name for run in load_runs(where, "base")]


def test_recordings_of_a_folder_that_follow_each_other_are_runs_in_order_of_time(tmp_path):
    folder = tmp_path / "runs"
    late, early = (
        save(folder / "a.parquet", 20, recording="x"),
        save(folder / "b" / "1.parquet", 10, recording="y"),
    )
    assert names_of(folder) == [str(early), str(late)]
    assert [run.profile.frames for run in load_runs(folder, "base")] == [400, 400]
    assert names_of([folder, late]) == [str(early), str(late), str(late)]


def test_files_of_one_recording_are_one_run(tmp_path):
    for i in range(3):
        save(tmp_path / "runs" / f"web-{i}.parquet", 10 + i, recording="x", part=i + 1)
    save(tmp_path / "runs" / "other.parquet", 30, recording="y")
    rotated, other = load_runs(tmp_path / "runs", "base")
    assert rotated.name == f"{tmp_path}/runs/web-0.parquet and 2 more files"
    assert (rotated.profile.frames, other.profile.frames) == (1_200, 400)
    whole = latprof.analyze([tmp_path / "runs" / f"web-{i}.parquet" for i in range(3)])
    assert rotated.profile.rows() == whole.rows()
    # a pattern means the same in the command, if the shell leaves it alone
    assert [run.profile.frames for run in load_runs(f"{tmp_path}/runs/*.parquet", "base")] == [
        400,
        1_200,
    ]
    # files that are named one by one are runs, with a doubt
    sides = [tmp_path / "runs" / "web-0.parquet", tmp_path / "runs" / "web-1.parquet"]
    assert "are of one recording" in " ".join(str(compare(sides, sides)).split())


def test_recordings_at_the_same_time_are_processes_of_one_run(tmp_path):
    for run in range(2):
        for process in range(3):
            begin = 10 * run
            path = tmp_path / "runs" / f"{process}" / f"{run}.parquet"
            save(path, begin, recording=f"{run} {process}")
    assert [run.profile.frames for run in load_runs(tmp_path / "runs", "base")] == [1_200, 1_200]
    # of a pattern each file is a run
    assert len(load_runs(f"{tmp_path}/runs/*/*.parquet", "base")) == 6


@pytest.mark.parametrize("known", [{"recording": "z", "times": False}, {}])
def test_files_that_do_not_say_their_recording_are_one_run_with_a_note(
    tmp_path, monkeypatch, capsys, known
):
    monkeypatch.chdir(tmp_path)  # long paths are broken
    folder, head = Path("runs"), save(Path("head.parquet"), 90, recording="h")
    save(folder / "a.parquet", 10, recording="x")
    unknown = save(folder / "b.parquet", 20, **known)
    assert names_of(folder) == [str(folder)]
    said = (
        f"{folder} is taken as one run of 2 files, as {unknown} does not name its recording; if "
        "each file is a run, give the files one by one"
    )
    for call in (["compare", folder, "--to", head], ["plan", folder], ["trend", folder]):
        assert main([str(each) for each in call]) == 0
        assert said in " ".join(capsys.readouterr().out.split())
    # alone it is one run without a doubt
    (folder / "a.parquet").unlink()
    assert [run.note for run in load_runs(folder, "base")] == [""]


def test_saved_profiles_of_a_folder_are_runs_as_their_traces_are(tmp_path):
    traces, profiles = tmp_path / "traces", tmp_path / "profiles"
    profiles.mkdir()
    for i, (begin, recording) in enumerate([(10, "x"), (11, "x"), (30, "y"), (30, "z")]):
        path = save(traces / f"{i}.parquet", begin, recording=recording, part=i + 1)
        latprof.analyze(path).save(profiles / f"{i}.latprof")
    for folder in (traces, profiles):
        assert [run.profile.frames for run in load_runs(folder, "base")] == [800, 800]
    found = [[run.profile.rows() for run in load_runs(each, "base")] for each in (traces, profiles)]
    assert found[0] == found[1]
    mixed = f"{tmp_path}/*/[23].*"
    assert len(load_runs(mixed, "base")) == 2  # the trace and the profile are of one recording


def test_comparing_folders_is_comparing_their_files(tmp_path, capsys):
    sides = []
    for name, slower in (("old", 1.0), ("new", 1.3)):
        sides.append([])
        for i in range(6):
            begin = 100 * i + (10 if name == "old" else 20)
            path = tmp_path / name / f"{i}.parquet"
            sides[-1].append(save(path, begin, recording=f"{name} {i}", slower=slower))
    found = compare(tmp_path / "old", tmp_path / "new")
    assert found.table().equals(compare(*sides).table())
    assert found.verdict == "worse"
    assert main(["compare", f"{tmp_path}/old", "--to", f"{tmp_path}/new"]) == 0
    assert "6 pairs" in capsys.readouterr().out
    given = ["gate", "--base-runs", f"{tmp_path}/old", "--head-runs", f"{tmp_path}/new"]
    assert main([*given, "--budget", "p99<+5%"]) == 1
    # the causes of a change are found in the files of each run
    assert found.service_changes().to_dict() == compare(*sides).service_changes().to_dict()
    (tmp_path / "new" / "5.parquet").unlink()
    capsys.readouterr()
    assert main(["compare", f"{tmp_path}/old", "--to", f"{tmp_path}/new"]) == 2
    assert "runs to be paired, got 6 and 5" in capsys.readouterr().err
    assert len(trend(tmp_path / "new").points) == 5


def test_a_compacted_folder_and_one_behind_a_url_have_the_same_runs(tmp_path):
    for i in range(3):
        save(tmp_path / "runs" / f"{i}.parquet", 10 * i + 10, recording=f"{i}")
    compact(tmp_path / "runs", tmp_path / "compacted")
    url = memory("runs")
    put(tmp_path / "runs", url)
    before = [run.profile.rows() for run in load_runs(tmp_path / "runs", "base")]
    for where in (tmp_path / "compacted", next((tmp_path / "compacted").glob("*.parquet")), url):
        runs = load_runs(where, "base")
        assert [run.profile.rows() for run in runs] == before
        assert len({run.name for run in runs}) == 3


def test_a_recorder_that_rotates_its_files_makes_one_run(tmp_path):
    times = np.random.default_rng(0).integers(0, 10**6, (200_000, len(WEB.marks))).cumsum(axis=1)
    for run in range(2):
        path = f"{tmp_path}/runs/{run}/"
        with latprof.Profiler(WEB, path=path, rotate="1MB", overflow="block") as profiler:
            profiler.record_many(range(len(times)), times)
    assert len(list((tmp_path / "runs").rglob("*.parquet"))) > 2
    runs = load_runs(tmp_path / "runs", "base")
    assert [run.profile.frames for run in runs] == [len(times)] * 2


def test_folders_without_recordings_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises((ProfileError, latprof.TraceError), match=r"no \*\.parquet"):
        load_runs(tmp_path / "empty", "base")
    with pytest.raises(latprof.TraceError, match="file not found"):
        parts_by_run(f"{tmp_path}/no/*.parquet")
