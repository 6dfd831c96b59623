"""Trace files written while frames are recorded: every frame once, also beside failures."""

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from profiling import MIC, MS, Log, wait_for

import latprof
from latprof import ProfilerError, TraceError
from latprof.io.reader import Reader
from latprof.pipeline import AUDIO
from latprof.recorder.profiler import Profiler
from latprof.recorder.recording import FILE_ERRORS, NOT_WRITTEN
from latprof.ring.layout import row_dtype

WIDTH = row_dtype(AUDIO).itemsize


def record(profiler: Profiler, first: int, count: int, period: int = 20 * MS) -> None:
    """Record frames `first`, `first` + 1, ...; each `period` after the one before."""
    marks = len(profiler.pipeline.marks)
    for n in range(first, first + count):
        start = 1_000_000 + n * period
        profiler.record(n, range(start, start + marks * 1_000, 1_000), 960, "input")


def ids_in(folder: Path) -> list[int]:
    return [n for path in sorted(folder.glob("*.parquet")) for n in ids_of(path)]


def ids_of(path: Path) -> list[int]:
    with Reader(path) as reader:
        return reader.read().frame_id.tolist()


def meta_of(path: Path) -> dict:
    with Reader(path) as reader:
        return reader.meta


# -- one file -------------------------------------------------------------------------------------


def test_a_file_has_every_frame_when_recording_stops(tmp_path: Path) -> None:
    path = tmp_path / "mic.parquet"
    with Profiler(MIC, capacity=64, overflow="block", path=path) as profiler:
        record(profiler, 0, 5_000)
        profiler.frame(5_000).drop("late")
        profiler.frame(-1).finish()
        assert not path.exists()  # it appears when it is complete
    assert ids_of(path) == list(range(5_001))
    meta = meta_of(path)
    assert (meta["part"], meta["lost"]) == (1, 0)
    profile = latprof.analyze(path, by="source")
    live = profiler.report().profile
    a, b = profile.accounts, live.accounts
    for name in ("started", "finished", "dropped", "rejected", "folded", "lost", "torn"):
        assert getattr(a, name) == getattr(b, name), name
    assert profile.groups["input"].frames == 5_000
    for span in ("decode", "end_to_end"):
        assert profile[span].total == live[span].total
        assert profile[span].histogram == live[span].histogram


def test_each_start_begins_another_file(tmp_path: Path) -> None:
    profiler = Profiler(MIC, path=tmp_path / "mic.parquet")
    for first in (0, 100, 200):
        with profiler:
            record(profiler, first, 100)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["mic-00002.parquet", "mic-00003.parquet", "mic.parquet"]
    assert sorted(ids_in(tmp_path)) == list(range(300))
    assert latprof.analyze(tmp_path).accounts.finished == 300
    assert len({meta_of(p)["recording"] for p in tmp_path.iterdir()}) == 1


def test_files_in_a_folder_have_names_of_their_own(tmp_path: Path) -> None:
    for _ in range(2):  # no file is overwritten
        with Profiler(MIC, path=tmp_path) as profiler:
            record(profiler, 0, 10)
    files = list(tmp_path.iterdir())
    assert len(files) == 2
    assert all(p.name.startswith("mic-20") and p.suffix == ".parquet" for p in files)


def test_a_recording_without_frames_makes_a_file(tmp_path: Path) -> None:
    with Profiler(MIC, sampling_rate=0.0, path=tmp_path / "a.parquet") as profiler:
        profiler.frame(1).finish()
    assert latprof.analyze(tmp_path).accounts.sampled_out == 1


def test_new_sources_and_reasons_may_come_in_later_batches(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    with Profiler(MIC, path=path) as profiler:
        for n in range(200):
            frame = profiler.frame(n, source=f"source \n{n}" if n > 100 else None)
            frame.drop(f"reason {n}") if n % 2 else frame.finish()
            if n % 50 == 0:
                profiler.report()  # this folds: the file gets another batch
    trace = latprof.read(path)
    assert trace.source is not None
    assert trace.outcome is not None
    assert trace.source.to_numpy().tolist()[99:103] == [None, None, "source \n101", "source \n102"]
    assert trace.outcome.to_numpy().tolist()[198:] == ["finished", "reason 199"]


# -- rotation -------------------------------------------------------------------------------------


def test_an_hour_of_frames_under_a_small_ring(tmp_path: Path) -> None:
    # an hour of 50 frames a second, recorded as fast as possible, with a ring of 1 MB
    frames = 50 * 3_600
    with Profiler(
        AUDIO, capacity=1_000_000 // WIDTH, overflow="block", path=tmp_path, rotate="10min"
    ) as profiler:
        record(profiler, 0, frames)
    files = sorted(tmp_path.glob("*.parquet"))
    assert 5 <= len(files) <= 8
    assert ids_in(tmp_path) == list(range(frames))
    a = latprof.analyze(tmp_path).accounts
    assert (a.started, a.finished, a.folded, a.lost) == (frames, frames, frames, 0)
    assert a == profiler.report().profile.accounts


def test_rotation_by_size(tmp_path: Path) -> None:
    with Profiler(AUDIO, capacity=9_000, overflow="block", path=tmp_path, rotate="1MB") as profiler:
        rng = np.random.default_rng(4)
        stamps = np.cumsum(rng.integers(1, 2**20, (150_000, 8)), axis=1)
        for first in range(0, 150_000, 5_000):
            profiler.record_many(np.arange(first, first + 5_000), stamps[first : first + 5_000])
    sizes = [path.stat().st_size for path in sorted(tmp_path.iterdir())]
    assert len(sizes) >= 3
    assert all(1_000_000 <= size < 1_500_000 for size in sizes[:-1])
    assert sorted(ids_in(tmp_path)) == list(range(150_000))  # late rows come later


def test_the_files_add_up_to_the_recording(tmp_path: Path) -> None:
    with Profiler(
        MIC, capacity=64, overflow="drop", path=tmp_path, rotate="1ms", warning=1, owns=None
    ) as profiler:
        for n in range(20):
            for i in range(300):
                profiler.frame(n * 300 + i).finish()
            profiler.frame(-1).finish()
            profiler.frame(9_000 + n).drop("late")
            profiler.report()
            time.sleep(0.002)
        in_flight = profiler.frame(8_000)
    a, b = latprof.analyze(tmp_path), profiler.report().profile
    del in_flight
    assert a.files > 3
    for name in ("started", "in_flight", "rejected", "folded", "lost", "torn"):
        assert getattr(a.accounts, name) == getattr(b.accounts, name), name
    # it is not known which of the lost frames were dropped
    whole = [p.accounts.finished + sum(p.accounts.dropped.values()) for p in (a, b)]
    assert whole == [6_040 - sum(b.accounts.rejected.values())] * 2
    assert a.accounts.in_flight == 1
    assert a.segments
    assert a.active_ns == b.active_ns
    parts = [meta_of(path)["part"] for path in sorted(tmp_path.iterdir())]
    assert parts == list(range(1, len(parts) + 1))


def test_a_file_is_complete_as_soon_as_it_exists(tmp_path: Path) -> None:
    seen: dict[str, int] = {}
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            for path in tmp_path.glob("*.parquet"):
                if path.name not in seen:
                    seen[path.name] = len(latprof.read(path))
            time.sleep(0.001)

    looking = threading.Thread(target=look)
    with Profiler(MIC, capacity=512, overflow="block", path=tmp_path, rotate="1s") as profiler:
        looking.start()
        record(profiler, 0, 3_000)
        profiler.report()
    done.set()
    looking.join()
    assert sum(len(ids_of(path)) for path in tmp_path.iterdir()) == 3_000
    assert all(len(ids_of(tmp_path / name)) == rows for name, rows in seen.items())


def test_a_file_whose_time_is_over_is_closed_without_frames(tmp_path: Path) -> None:
    with Profiler(MIC, path=tmp_path, rotate="10ms") as profiler:
        profiler.frame(1).finish()
        profiler.report()
        wait_for(lambda: list(tmp_path.glob("*.parquet")))
        assert ids_in(tmp_path) == [1]
    assert latprof.analyze(tmp_path).frames == 1


def test_single_frames_are_written_when_the_time_of_a_file_is_over(tmp_path: Path) -> None:
    with Profiler(MIC, path=tmp_path, rotate="20ms") as profiler:
        for number in (1, 2):
            profiler.frame(number, size=9, source="input").finish()
            wait_for(lambda n=number: ids_in(tmp_path)[-1:] == [n])
            assert ids_in(tmp_path) == list(range(1, number + 1))


def test_a_path_that_ends_in_a_slash_is_made_as_a_folder(tmp_path: Path) -> None:
    with Profiler(MIC, path=f"{tmp_path}/new/traces/") as profiler:
        profiler.frame(1).finish()
    assert ids_in(tmp_path / "new" / "traces") == [1]
    (tmp_path / "file").touch()
    with pytest.raises(ProfilerError, match=r"path must not end in / if it is a file, got .*file/"):
        Profiler(MIC, path=f"{tmp_path}/file/")
    with pytest.raises(ProfilerError, match=r"path must be in an existing folder"):
        Profiler(MIC, path=tmp_path / "nowhere" / "a.parquet")


def test_a_last_file_without_frames_has_the_same_columns(tmp_path: Path) -> None:
    with Profiler(MIC, path=tmp_path, rotate="20ms") as profiler:
        profiler.frame(1, size=9, source="input").finish()
        wait_for(lambda: list(tmp_path.glob("*.parquet")))
    first, last = sorted(tmp_path.iterdir())
    assert pq.read_metadata(last).num_rows == 0
    assert pq.read_schema(last).names == pq.read_schema(first).names


# -- failures -------------------------------------------------------------------------------------


@contextlib.contextmanager
def full_disk(folder: Path) -> Iterator[None]:
    """Mount a small file system if that is allowed, otherwise limit the size of files."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        mounted = False
    if mounted:
        try:
            yield
        finally:
            subprocess.run(["umount", "-l", str(folder)], check=True)
        return
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


def check_that_recording_went_on(profiler: Profiler, log: Log, frames: int) -> None:
    """Check that totals have every frame, and that the loss is counted and logged once."""
    profile = profiler.report().profile
    assert profile.frames == frames
    assert profile.accounts.finished == frames
    assert profile.accounts.lost == 0
    assert profile.accounts.notes[NOT_WRITTEN] > 0
    assert profile.accounts.notes[FILE_ERRORS] > 0
    assert len([line for line in log.lines if FILE_ERRORS in line]) == 1, log.lines


@pytest.mark.parametrize("overflow", ["overwrite", "block"])
def test_recording_goes_on_if_the_disk_is_full(tmp_path: Path, overflow: str) -> None:
    log = Log()
    with full_disk(tmp_path / "small"):
        profiler = Profiler(
            AUDIO,
            capacity=100_000,
            overflow=overflow,
            path=tmp_path / "small" / "a.parquet",
            logger=log.logger,
        )
        rng = np.random.default_rng(4)
        stamps = np.cumsum(rng.integers(1, 2**40, (150_000, 8)), axis=1)
        with profiler:
            for first in range(0, 150_000, 50_000):
                ids = rng.integers(0, 2**63, 50_000)
                profiler.record_many(ids, stamps[first : first + 50_000])
        check_that_recording_went_on(profiler, log, 150_000)
        assert "No space left" in log.lines[0] or "too large" in log.lines[0]
        assert not list((tmp_path / "small").iterdir())  # no file that looks complete


def test_recording_goes_on_if_the_folder_is_removed(tmp_path: Path) -> None:
    folder, log = tmp_path / "out", Log()
    folder.mkdir()
    with Profiler(MIC, path=folder / "a.parquet", rotate="1ms", logger=log.logger) as profiler:
        for n in range(10):
            record(profiler, n * 100, 100)
            profiler.report()
            if n == 3:
                shutil.rmtree(folder)
            time.sleep(0.002)
    check_that_recording_went_on(profiler, log, 1_000)
    assert not folder.exists()


def test_frames_that_are_not_written_are_counted_without_weights(tmp_path: Path) -> None:
    """Weights are meaningful only in a sum over all kept frames."""
    folder = tmp_path / "traces"
    folder.mkdir()
    profiler = Profiler(MIC, path=folder / "mic.parquet", keep="slow", logger=Log().logger)
    folder.rmdir()
    with profiler:
        for n in range(5_001):
            profiler.record(n, (1, 2, 3, 4))
            if n == 2_000:
                profiler.report()  # all frames up to here are kept, then one in 32
    assert profiler.accounts.notes["frames not written to the trace file"] == 5_001


def test_writing_resumes_when_the_folder_exists_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("latprof.recorder.recording.RETRY_S", 0.0)
    folder, log = tmp_path / "out", Log()
    folder.mkdir()
    with Profiler(MIC, path=folder, rotate="1ms", logger=log.logger) as profiler:
        for n in range(12):
            if n == 4:
                shutil.rmtree(folder)
            if n == 8:
                folder.mkdir()
            record(profiler, n * 100, 100)
            profiler.report()
            time.sleep(0.002)
    check_that_recording_went_on(profiler, log, 1_200)
    # the next file reports the frames that were not written
    unwritten = profiler.accounts.notes[NOT_WRITTEN]
    files = latprof.analyze(folder)
    assert files.accounts.lost == unwritten
    assert files.frames >= 300


def test_recording_goes_on_if_the_folder_is_read_only(tmp_path: Path) -> None:
    # root may write to every folder except /proc
    folder = tmp_path / "read-only"
    folder.mkdir(mode=0o500)
    if os.geteuid() == 0:
        folder = Path("/proc")
    log = Log()
    with Profiler(MIC, path=folder / "a.parquet", logger=log.logger) as profiler:
        record(profiler, 0, 500)
    check_that_recording_went_on(profiler, log, 500)


def test_a_clock_that_jumps_back_loses_no_frame(tmp_path: Path) -> None:
    now = [10**15]

    def clock() -> int:
        now[0] += 1_000
        return now[0]

    with Profiler(MIC, clock=clock, path=tmp_path, rotate="1s") as profiler:
        for n in range(100):
            if n == 50:
                now[0] -= 10**12
            with profiler.frame(n) as frame:
                frame.mark("decode")
                if n == 70:
                    now[0] -= 10**9
                frame.mark("play")
            profiler.report()
    a = profiler.accounts
    assert (a.finished, a.folded, a.lost) == (100, 100, 0)
    assert profiler.report().profile["decode"].negative == 1
    assert ids_in(tmp_path) == list(range(100))
    assert all(begin <= end for begin, end in profiler.trace().meta["segments"])
    assert latprof.analyze(tmp_path).frames == 100


def test_rotation_takes_sizes_with_units(tmp_path: Path) -> None:
    for text, size in (("64MB", 64_000_000), ("64MiB", 2**26), ("1.5 GB", 1_500_000_000)):
        files = Profiler(MIC, path=tmp_path / "a", rotate=text)._outputs._files
        assert files is not None
        assert (files._rotation.bytes, files._rotation.ns) == (size, None)


# -- fork -----------------------------------------------------------------------------------------


def test_a_forked_child_leaves_the_file_alone(tmp_path: Path) -> None:
    code = f"""
import os, warnings, gc
warnings.simplefilter("ignore", DeprecationWarning)
import logging
from latprof import AUDIO, Profiler
logging.disable()
with Profiler(AUDIO, overflow="block", path={str(tmp_path / "a.parquet")!r}) as profiler:
    for n in range(70_000):
        profiler.record(n, range(1_000, 9_000, 1_000), 960, "input")
    profiler.report()
    pid = os.fork()
    if pid == 0:
        profiler.frame(1).finish()
        profiler.report()
        profiler.stop()
        del profiler
        gc.collect()
        raise SystemExit(0)
    assert os.waitpid(pid, 0)[1] == 0
    for n in range(70_000, 140_000):
        profiler.record(n, range(1_000, 9_000, 1_000), 960, "input")
        if n % 10_000 == 0:
            profiler.report()
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert [path.name for path in tmp_path.iterdir()] == ["a.parquet"]
    assert ids_of(tmp_path / "a.parquet") == list(range(140_000))


def test_metadata_of_a_part_is_checked(tmp_path: Path) -> None:
    trace = Profiler(MIC).trace()
    assert json.dumps(trace.meta)
    for key, value in (("part", -1), ("recording", 5)):
        trace.meta[key] = value
        with pytest.raises(TraceError, match=key):
            trace.save(tmp_path / "a.parquet")
        del trace.meta[key]


def test_a_program_that_never_stops_its_profiler_leaves_its_file(tmp_path):
    code = """
        import sys
        from latprof import Pipeline, Profiler
        profiler = Profiler(Pipeline.chain("web", "handle"), path=sys.argv[1])
        profiler.start()
        for i in range(50):
            with profiler.frame(i) as frame:
                frame.mark("handle")
    """
    call = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "web.parquet")]
    done = subprocess.run(call, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert latprof.read(tmp_path / "web.parquet").frame_id.tolist() == list(range(50))
