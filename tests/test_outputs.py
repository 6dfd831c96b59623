"""Thresholds of spans, and what is done when a critical one is passed."""

import os
from pathlib import Path

import numpy as np
import pytest
from profiling import MIC, MS, Log, wait_for, young_clock

import latprof
from latprof import PipelineError, ProfilerError
from latprof.pipeline import AUDIO
from latprof.recorder.alerts import Violation
from latprof.recorder.profiler import Profiler


def stamps(decode: int, play: int, start: int = MS) -> list[int]:
    """A frame of mic: decode begins at once, play after it, end after play."""
    return [start, start, start + decode, start + decode + play]


# -- thresholds of spans --------------------------------------------------------------------------


def by_marks(profiler: Profiler, n: int, row: list[int]) -> None:
    frame = profiler.frame(n, source="input", start=row[0])
    frame.mark("decode", at=row[1])
    frame.mark("play", at=row[2])
    frame.finish(at=row[3])


def by_record(profiler: Profiler, n: int, row: list[int]) -> None:
    profiler.record(n, row, source="input")


def by_many(profiler: Profiler, n: int, row: list[int]) -> None:
    profiler.record_many([n], [row], source="input")


@pytest.mark.parametrize("way", [by_marks, by_record, by_many])
def test_spans_above_their_thresholds_are_counted_and_logged(way) -> None:
    log, seen = Log(), []
    warning = {"play": "20ms", "end_to_end": "50ms"}
    critical = {"play": 30 * MS, "decode": "5ms"}
    with Profiler(
        MIC,
        warning=warning,
        critical=critical,
        on_critical=seen.append,
        logger=log.logger,
        clock=young_clock,
    ) as profiler:
        way(profiler, 1, stamps(MS, 20 * MS))  # at the thresholds, not above
        way(profiler, 2, stamps(MS, 20 * MS + 1))
        way(profiler, 3, stamps(5 * MS + 1, 46 * MS))  # all three
        way(profiler, 4, [MS, 0, 40 * MS, 0])  # no span has both marks
        way(profiler, 5, [0, MS, 7 * MS, 8 * MS])
    assert seen == [
        Violation("decode", 3, "input", 5 * MS + 1, 5 * MS),
        Violation("play", 3, "input", 46 * MS, 30 * MS),
        Violation("decode", 5, "input", 6 * MS, 5 * MS),
    ]
    assert profiler.accounts.notes == {"warnings": 2, "criticals": 3}
    assert sum(line.startswith("ERROR critical threshold") for line in log.lines) == 3
    assert "frame 2 of input took in play 20.0 ms" in log.lines[0]


def test_stamps_of_the_clock_are_compared_with_thresholds() -> None:
    now = [1_000]
    seen: list[Violation] = []
    with Profiler(
        MIC, critical={"play": 100}, on_critical=seen.append, clock=lambda: now[0]
    ) as profiler:
        for took in (100, 101):
            with profiler.frame(took) as frame:
                frame.mark("decode")
                now[0] += 500
                frame.mark("play")
                now[0] += took
        frame = profiler.frame(3)
        frame.mark("play")
        now[0] += 300
        frame.drop("late")
    assert [(v.frame_id, v.latency_ns) for v in seen] == [(101, 101), (3, 300)]


def test_a_process_has_thresholds_of_its_own_spans() -> None:
    owns = ("cgo", "alsa", "end")
    seen: list[Violation] = []
    with Profiler(AUDIO, owns=owns, critical={"alsa": "20ms"}, on_critical=seen.append) as profiler:
        profiler.record(7, [0, 0, 0, 0, 0, MS, 2 * MS, 23 * MS])
    assert [v.span for v in seen] == ["alsa"]
    with pytest.raises(ProfilerError, match="mark 'ipc' is not owned by this process"):
        Profiler(AUDIO, owns=owns, warning={"ipc": "1ms"})


def test_a_mistyped_mark_raises_with_thresholds_as_well() -> None:
    with Profiler(MIC, warning={"play": 5}, overflow="block") as profiler:
        frame = profiler.frame(1)
        with pytest.raises(PipelineError, match="got 'paly'"):
            frame.mark("paly")
        frame.finish()


# -- a function -----------------------------------------------------------------------------------


def test_a_function_that_raises_is_logged_once() -> None:
    log = Log()

    def broken(violation: Violation) -> None:
        raise ValueError(f"no\n{violation.frame_id}")

    with Profiler(MIC, critical=5, on_critical=broken, logger=log.logger) as profiler:
        for n in range(30):
            profiler.frame(n, start=1).finish(at=100)
        profiler.record(30, stamps(10, 10))
        profiler.record_many(np.arange(20), [stamps(10, 10)] * 20)
    notes = profiler.accounts.notes
    assert (notes["criticals"], notes["errors of on_critical"]) == (51, 51)
    assert sum("errors of on_critical" in line for line in log.lines) == 1
    assert profiler.accounts.finished == 51


# -- freeze ---------------------------------------------------------------------------------------


def freezing(folder: Path, log: Log, capacity: int = 100, **more) -> Profiler:
    return Profiler(
        MIC,
        capacity=capacity,
        critical="10ms",
        on_critical="freeze",
        freeze_to=folder,
        logger=log.logger,
        **more,
    )


def wait_for_files(folder: Path, count: int) -> list[Path]:
    wait_for(lambda: len(list(folder.glob("*.parquet"))) >= count)
    return sorted(folder.glob("*.parquet"))


def test_frames_before_and_after_a_critical_one_are_saved(tmp_path: Path) -> None:
    log = Log()
    folder = tmp_path / "frozen"
    with freezing(folder, log) as profiler:
        for n in range(300):
            took = 11 * MS if n in (200, 210) else MS
            profiler.record(n, stamps(took, 10, start=(n + 1) * 20 * MS), source="input")
            if n == 250:
                wait_for_files(folder, 1)
    files = list(folder.iterdir())
    assert len(files) == 1  # frame 210 is in the same file
    trace = latprof.read(files[0])
    ids = trace.frame_id.tolist()
    assert ids == list(range(ids[0], 251))
    assert len(ids) == 100
    why = trace.meta["freeze"]
    assert (why["span"], why["frame_id"], why["source"]) == ("end_to_end", 200, "input")
    assert (why["latency_ns"], why["limit_ns"]) == (11 * MS + 10, 10 * MS)
    assert why["further_violations"] == 1
    assert "frame 200 of input" in why["reason"]
    assert profiler.accounts.notes["traces frozen"] == 1
    assert latprof.analyze(files[0]).frames == 100


def test_a_violation_at_the_end_is_saved_when_recording_stops(tmp_path: Path) -> None:
    with freezing(tmp_path, Log(), keep="slow") as profiler:
        for n in range(10):
            profiler.record(n, stamps(MS, 10))
        profiler.record(10, stamps(20 * MS, 10))
    (file,) = tmp_path.iterdir()
    assert latprof.read(file).frame_id.tolist() == list(range(11))


def test_many_violations_make_one_file(tmp_path: Path) -> None:
    profiler = freezing(tmp_path, Log())
    for n in range(5):
        with profiler:
            profiler.record(n, stamps(20 * MS, 10))
            profiler.record(n, stamps(20 * MS, 10))
    assert len(list(tmp_path.iterdir())) == 1
    notes = profiler.accounts.notes
    assert (notes["criticals"], notes["criticals not frozen"]) == (10, 8)


def test_the_oldest_saved_traces_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("latprof.recorder.outputs.FREEZE_PAUSE_S", 0.0)
    other = [tmp_path / "mic.parquet", tmp_path / "mic-critical-notes.parquet"]
    for path in other:
        path.write_text("mine")
    profiler = freezing(tmp_path, Log())
    seen: list[str] = []
    for n in range(11):
        with profiler:
            profiler.record(n, stamps(20 * MS, 10))
        seen += [p.name for p in tmp_path.iterdir() if p.name not in seen and p not in other]
    left = sorted(p.name for p in tmp_path.iterdir() if p not in other)
    assert left == seen[-8:]
    assert len(seen) == 11
    assert all(path.read_text() == "mine" for path in other)


def test_errors_of_saving_are_logged_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("latprof.recorder.outputs.FREEZE_PAUSE_S", 0.0)
    log = Log()
    (tmp_path / "file").write_text("")
    profiler = freezing(tmp_path / "file" / "folder", log)
    for n in range(3):
        with profiler:
            profiler.record(n, stamps(20 * MS, 10))
    assert profiler.accounts.notes["errors of freezing"] == 3
    assert sum("errors of freezing" in line for line in log.lines) == 1
    assert profiler.accounts.finished == 3
    assert os.listdir(tmp_path) == ["file"]


def test_the_file_of_an_earlier_run_is_kept_under_another_name(tmp_path):
    path = tmp_path / "mic.parquet"
    for run in range(3):
        with Profiler(MIC, path=path) as profiler:
            profiler.frame(run).finish()
    assert latprof.read(path).frame_id.tolist() == [2]
    assert latprof.read(tmp_path / "mic.parquet.previous").frame_id.tolist() == [1]
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "mic.parquet",
        "mic.parquet.previous",
    ]


def test_the_process_id_may_be_part_of_the_names_of_files_and_ring(tmp_path):
    settings = {"path": f"{tmp_path}/{{pid}}/", "ring": tmp_path / "mic-{pid}.ring"}
    with Profiler(MIC, **settings) as profiler:
        profiler.frame(7).finish()
        with pytest.raises(ProfilerError, match=rf"in use by process {os.getpid()}; .*\{{pid\}}"):
            Profiler(MIC, ring=settings["ring"])
    (file,) = (tmp_path / str(os.getpid())).iterdir()
    assert latprof.read(file).frame_id.tolist() == [7]
    assert (tmp_path / f"mic-{os.getpid()}.ring").exists()
    with Profiler(MIC, path=str(tmp_path / "{pid}.parquet")) as profiler:
        profiler.frame(8).finish()
    assert latprof.read(tmp_path / f"{os.getpid()}.parquet").frame_id.tolist() == [8]
