"""The writer of a ring file: allocation, the lock, older files at its path, names, and forks."""

import errno
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

import latprof
from latprof import AUDIO, Pipeline, Profiler, ProfilerError
from latprof.ring.file import PREVIOUS
from latprof.ring.layout import SLOTS, row_dtype
from latprof.ring.names import OTHER_NAME
from latprof.ring.reader import RingReader
from latprof.ring.ring import Ring

MIC = Pipeline.chain("mic", "decode")


def record(profiler, ids):
    for i in ids:
        frame = profiler.frame(i, size=i, source="input", start=100 * i)
        frame.mark("decode", at=100 * i + 30)
        frame.finish(at=100 * i + 70)


def ids(path):
    return latprof.recover(path).frame_id.tolist()


def run(code, *arguments):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_recovered_trace_equals_the_trace_of_the_profiler(tmp_path):
    path = tmp_path / "mic.ring"
    with Profiler(MIC, capacity=5, ring=path) as profiler:
        record(profiler, range(1, 8))
        with pytest.raises(KeyError), profiler.frame(8):
            raise KeyError
        alive = latprof.recover(path)
    for trace in (alive, latprof.recover(path)):
        expected = profiler.trace()
        assert trace.pipeline == MIC
        assert trace.frame_id.tolist() == [4, 5, 6, 7, 8]
        for mark in MIC.marks:
            assert trace.marks[mark].tolist() == expected.marks[mark].tolist()
        assert trace.size.tolist() == expected.size.tolist()
        assert trace.source.to_numpy().tolist() == ["input"] * 4 + [None]
        assert trace.outcome.to_numpy().tolist() == ["finished"] * 4 + ["KeyError"]
        recovery = trace.recovery
        assert (recovery.whole, recovery.torn, recovery.never_written) == (5, 0, 0)
        assert trace.meta["lost"] == 3
        for key in ("owns", "clock_offset_ns", "boot_id", "pid", "host", "sampling_rate"):
            assert trace.meta[key] == expected.meta[key]
    assert latprof.recover(path).meta["segments"] == expected.meta["segments"]
    assert latprof.recover(path).meta["anchors"] == expected.meta["anchors"]


def test_a_recovered_trace_can_be_saved_and_analyzed(tmp_path):
    with Profiler(MIC, capacity=5, ring=tmp_path / "mic.ring") as profiler:
        record(profiler, range(1, 4))
    trace = latprof.recover(tmp_path / "mic.ring")
    trace.save(tmp_path / "crash.parquet")
    again = latprof.read(tmp_path / "crash.parquet")
    assert again.recovery == trace.recovery
    assert latprof.analyze(again)["end_to_end"].mean == 70
    assert str(trace.recovery) == "3 rows whole, 0 torn, 2 never written"


def test_a_ring_without_frames_gives_an_empty_trace(tmp_path):
    profiler = Profiler(MIC, capacity=5, ring=str(tmp_path / "mic.ring"))
    trace = latprof.recover(tmp_path / "mic.ring")
    assert len(trace) == 0
    assert (trace.recovery.whole, trace.recovery.never_written) == (0, 5)
    assert "segments" not in trace.meta
    del profiler


def test_the_file_is_private_and_fully_allocated(tmp_path):
    path = tmp_path / "mic.ring"
    old = os.umask(0)
    try:
        Profiler(MIC, ring=path)
    finally:
        os.umask(old)
    found = path.stat()
    assert found.st_mode & 0o777 == 0o600
    assert found.st_size > (65_536 + SLOTS) * row_dtype(MIC).itemsize
    assert found.st_blocks * 512 >= found.st_size  # allocated, not sparse


# -- a disk that is full --------------------------------------------------------------------------


def test_a_full_disk_is_an_error_of_the_constructor(tmp_path):
    # a small file system if this process may mount one, otherwise a limit of the file size:
    # posix_fallocate refuses both, with different errors
    code = """
import os, resource, subprocess, sys
from latprof import AUDIO, Profiler, ProfilerError
folder = sys.argv[1]
mounted = not subprocess.run(
    ["mount", "-t", "tmpfs", "-o", "size=4M", "latprof-test", folder], capture_output=True
).returncode
try:
    if not mounted:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**22, 2**22))
    reason = "No space left on device" if mounted else "File too large"
    path = os.path.join(folder, "mic.ring")
    try:
        Profiler(AUDIO, ring=path)
    except ProfilerError as error:
        assert f"MB: {reason}; choose another folder or a smaller" in str(error), error
    else:
        raise SystemExit("no error")
    assert os.listdir(folder) == []
    small = Profiler(AUDIO, ring=path, capacity=1_000)
    if mounted:      # fill the disk: the ring has all the space it needs
        rest = os.open(os.path.join(folder, "rest"), os.O_WRONLY | os.O_CREAT)
        try:
            while True:
                os.write(rest, bytes(4_096))
        except OSError as error:
            assert error.errno == 28
        os.close(rest)
    with small:
        for i in range(3_000):
            small.frame(i).finish()
    assert len(small.trace()) == 1_000
    del small
finally:
    if mounted:
        subprocess.run(["umount", "-l", folder], check=True)
print("mounted" if mounted else "limited")
"""
    assert run(code, tmp_path).strip() in ("mounted", "limited")


# -- one writer -----------------------------------------------------------------------------------


def test_two_profilers_do_not_share_a_ring(tmp_path):
    path = tmp_path / "mic.ring"
    first = Profiler(MIC, ring=path)
    reason = f"is in use by process {os.getpid()}; choose another name, such as"
    with pytest.raises(ProfilerError, match=reason):
        Profiler(MIC, ring=path)
    with first:
        record(first, [1])
        with pytest.raises(ProfilerError, match=reason):
            Profiler(MIC, ring=path)
        code = """
import sys
from latprof import AUDIO, Profiler, ProfilerError
try:
    Profiler(AUDIO, ring=sys.argv[1])
except ProfilerError as error:
    print(error)
"""
        assert reason in run(code, path)
    assert ids(path) == [1]


def test_the_ring_of_a_stopped_profiler_is_renamed(tmp_path):
    path = tmp_path / "mic.ring"
    first = Profiler(MIC, ring=path)
    with first:
        record(first, [1])
    with first:  # goes on
        record(first, [2])
    with Profiler(AUDIO, ring=path) as second:
        second.frame(7).finish()
        assert ids(str(path) + PREVIOUS) == [1, 2]
        with pytest.raises(ProfilerError, match="is now used by another profiler"):
            first.start()
        assert not first.running
        assert first.trace().frame_id.tolist() == [1, 2]
    assert ids(path) == [7]
    # a ring without frames is not kept
    Profiler(MIC, ring=path)
    assert ids(str(path) + PREVIOUS) == [7]
    Profiler(MIC, ring=path)
    assert ids(str(path) + PREVIOUS) == [7]
    assert ids(str(path) + PREVIOUS + ".2") == [1, 2]
    assert len(os.listdir(tmp_path)) == 3


def test_older_rings_are_kept_up_to_the_limit(tmp_path):
    path = tmp_path / "mic.ring"
    previous = [f"{path}{PREVIOUS}", *(f"{path}{PREVIOUS}.{k}" for k in range(2, 7))]
    for run in range(1, 9):
        with Profiler(MIC, ring=path, keep_previous=3) as profiler:
            record(profiler, [run])
        # the newest is always .previous
        kept = [run - k for k in range(1, 4) if run > k]
        assert [ids(name) for name in previous[: len(kept)]] == [[n] for n in kept]
        assert len(os.listdir(tmp_path)) == 1 + len(kept)
    # a name that is free is used before an older ring is replaced
    os.unlink(previous[0])
    with Profiler(MIC, ring=path) as profiler:
        record(profiler, [9])
    assert [ids(name) for name in previous[:3]] == [[8], [6], [5]]
    for run in range(10, 15):
        with Profiler(MIC, ring=path) as profiler:
            record(profiler, [run])
    assert [ids(name) for name in previous[:5]] == [[n] for n in range(13, 8, -1)]
    assert len(os.listdir(tmp_path)) == 6
    for wrong in (0, -1, True, "5", 1.0, 1_001):
        with pytest.raises(ProfilerError, match="keep_previous must be an integer between 1 and"):
            Profiler(MIC, ring=tmp_path / "other.ring", keep_previous=wrong)
    assert len(os.listdir(tmp_path)) == 6


def test_a_ring_with_frames_in_flight_alone_is_kept(tmp_path):
    path = tmp_path / "mic.ring"
    ring = Ring(MIC, 4, path=path)
    np.frombuffer(ring.slots, ring.dtype, ring.slot_count)["begin"][700] = 1
    ring.release()
    second = Ring(MIC, 4, path=path)
    assert sorted(os.listdir(tmp_path)) == ["mic.ring", "mic.ring.previous"]
    second.release()
    Ring(MIC, 4, path=path)
    assert sorted(os.listdir(tmp_path)) == ["mic.ring", "mic.ring.previous"]


def test_the_ring_of_a_dead_process_is_renamed(tmp_path):
    path = tmp_path / "mic.ring"
    code = """
import os, sys
from latprof import AUDIO, Profiler
profiler = Profiler(AUDIO, ring=sys.argv[1])
profiler.start()
profiler.frame(5).finish()
print("done", flush=True)
os.kill(os.getpid(), 9)
"""
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (-9, "done\n")
    Profiler(AUDIO, ring=path)
    assert ids(str(path) + PREVIOUS) == [5]


def test_rings_of_other_formats_are_renamed_and_not_removed(tmp_path):
    for name, content in [("old", b"LATPRING\2"), ("new", b"LATPROFR\3")]:
        path = tmp_path / f"{name}.ring"
        path.write_bytes(content + bytes(200))
        Profiler(MIC, ring=path)
        assert Path(str(path) + PREVIOUS).read_bytes() == content + bytes(200)
        assert ids(path) == []


def test_a_profiler_whose_ring_was_removed_does_not_start_again(tmp_path):
    profiler = Profiler(MIC, ring=tmp_path / "mic.ring")
    with profiler:
        os.unlink(tmp_path / "mic.ring")
        record(profiler, [1])
    with pytest.raises(ProfilerError, match=r"was removed or .*; create a new Profiler"):
        profiler.start()


@pytest.mark.parametrize("content", [b"frames,\n1\n", b"x", b"\0" * 4_095 + b"x"])
def test_a_file_that_is_not_a_ring_is_not_replaced(tmp_path, content):
    (tmp_path / "notes").write_bytes(content)
    with pytest.raises(
        ProfilerError, match="already exists and is not a ring; choose another name"
    ):
        Profiler(MIC, ring=tmp_path / "notes")
    assert (tmp_path / "notes").read_bytes() == content


@pytest.mark.parametrize("content", [b"", bytes(100_000)])
def test_an_unfinished_ring_file_is_replaced(tmp_path, content):
    (tmp_path / "mic.ring").write_bytes(content)
    with Profiler(MIC, ring=tmp_path / "mic.ring") as profiler:
        record(profiler, [1])
    assert os.listdir(tmp_path) == ["mic.ring"]
    assert ids(tmp_path / "mic.ring") == [1]


def test_invalid_paths_are_refused(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(tmp_path / "pipe")
    for path, reason in [
        (tmp_path, os.strerror(errno.EISDIR)),
        (tmp_path / "no" / "mic.ring", "No such file"),
        (tmp_path / "link", os.strerror(errno.ELOOP)),
        (tmp_path / "pipe", "is not a ring"),
        ("/dev/null", "is not a ring"),
        (7, "must be a path, got 7"),
        (["mic.ring"], "must be a path, got"),
        (tmp_path / "a\0b", "must be a path, got"),
        (tmp_path / ("x" * 300), "name too long"),
    ]:
        with pytest.raises(ProfilerError, match=reason):
            Profiler(MIC, ring=path)
    with pytest.raises(
        ProfilerError, match=r"capacity must be an integer between 1 and 2,147,483,648, got 0"
    ):
        Profiler(MIC, ring=tmp_path / "mic.ring", capacity=0)
    assert sorted(os.listdir(tmp_path)) == ["link", "pipe"]


# -- names ----------------------------------------------------------------------------------------


def test_names_are_stored_in_the_file(tmp_path):
    ring = Ring(MIC, 4, path=tmp_path / "mic.ring")
    hostile = ["söurce <b>\x1b[31m", "", "a\0b", "\ud800", "x" * 1_000]
    codes = [ring.sources.code(name) for name in hostile]
    late = ring.outcomes.code("late")
    with RingReader(tmp_path / "mic.ring") as reader:
        reader.scan()
        found = reader.sources.labels(np.array(codes, np.uint16)).to_numpy().tolist()
        assert found == ["söurce <b>\x1b[31m", "", "a\0b", "\\ud800", "x" * 1_000]
        assert reader.outcomes.labels(np.array([late, 0], np.uint16)).to_numpy().tolist() == [
            "late",
            "finished",
        ]


def test_names_after_the_table_is_full_share_one_name(tmp_path):
    long = "x" * 900
    with Profiler(MIC, capacity=3_000, ring=tmp_path / "mic.ring") as profiler:
        for n in range(2_500):
            profiler.frame(n, source=f"{long}{n}", start=1).finish(at=2)
        with pytest.raises(KeyError), profiler.frame(2_500):
            raise KeyError
    names = latprof.recover(tmp_path / "mic.ring").source.to_numpy().tolist()
    kept = names.index(OTHER_NAME)
    # 12 bytes, 900 characters and the number, up to the next multiple of 8
    assert kept == pytest.approx(2**21 / 916, rel=0.01)
    assert names == [f"{long}{n}" for n in range(kept)] + [OTHER_NAME] * (2_500 - kept) + [None]
    assert profiler.accounts.notes["names beyond the table"] == 2_500 - kept
    trace = latprof.recover(tmp_path / "mic.ring")
    assert trace.outcome.to_numpy().tolist()[-1] == "KeyError"
    assert trace.source.counts() == profiler.trace().source.counts()


def test_names_that_are_too_long_are_cut_in_memory_and_in_the_file(tmp_path):
    with Profiler(MIC, ring=tmp_path / "mic.ring") as profiler:
        for end in "ab":
            profiler.frame(1, source="é" * 600 + end).finish()
    names = latprof.recover(tmp_path / "mic.ring").source.names
    assert len(set(names)) == 2
    assert all(name.startswith("é" * 490) and len(name.encode()) <= 1_000 for name in names)
    assert names == profiler.trace().source.names
    assert profiler.accounts.notes["names that were cut"] == 2


# -- forks ----------------------------------------------------------------------------------------


def test_a_forked_child_writes_nothing_into_the_parents_ring(tmp_path):
    code = """
import os, sys, logging, warnings
warnings.simplefilter("ignore", DeprecationWarning)      # fork beside threads, from 3.12 on
from latprof import AUDIO, Profiler, ProfilerError
import latprof
import numpy as np
from latprof.ring.layout import parse_header
logging.disable()
path = sys.argv[1]
def content():      # without the time at which the parent was last alive
    with open(path, "rb") as file:
        raw = bytearray(file.read())
    at = parse_header(bytes(raw[:2**20]), "").beat_at
    raw[at : at + 8] = bytes(8)
    return raw
with Profiler(AUDIO, ring=path, capacity=100) as profiler:
    profiler.frame(1, source="mine").finish()
    frame, other = profiler.frame(2), profiler.frame(3)
    ring = profiler._ring
    before = content()
    pid = os.fork()
    if pid == 0:
        frame.mark("ipc")
        frame.finish()
        other.drop("a reason")
        profiler.record(3, [1] * 8, source="a child's")
        profiler.record_many([4], np.ones((1, 8), int), source=["another"])
        profiler.frame(5, source="a third").drop("why")
        # beyond the checks of the recorder
        ring.sources.code("a fourth")
        ring.file.store_name(1, 77, "a fifth")
        ring.note(True, 1, 1)
        ring.beat(1)
        assert content() == before
        for attempt in (profiler.start, lambda: Profiler(AUDIO, ring=path)):
            try:
                attempt()
            except ProfilerError as error:
                assert str(os.getppid()) in str(error), error
            else:
                os._exit(1)
        with Profiler(AUDIO, ring=path + ".child") as own:
            own.frame(8).finish()
        assert latprof.recover(path + ".child").frame_id.tolist() == [8]
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert content() == before
    assert [f.frame_id for f in latprof.recover(path).in_flight] == [2, 3]
    frame.finish()
    profiler.frame(9, source="mine").finish()
trace = latprof.recover(path)
assert trace.frame_id.tolist() == [1, 2, 9], trace.frame_id
assert [f.frame_id for f in trace.in_flight] == [3]
assert trace.source.names == ("mine",), trace.source.names
print("fine")
"""
    assert run(code, tmp_path / "mic.ring") == "fine\n"


def test_a_forked_child_does_not_keep_the_lock_of_a_dead_parent(tmp_path):
    code = """
import os, sys, time
from latprof import AUDIO, Profiler
profiler = Profiler(AUDIO, ring=sys.argv[1])
profiler.start()
profiler.frame(1).finish()
read, write = os.pipe()
pid = os.fork()
if pid == 0:
    os.close(1), os.close(2)
    os.write(write, b"x")
    time.sleep(60)
print(pid, flush=True)
os.read(read, 1)
os.kill(os.getpid(), 9)
"""
    path = tmp_path / "mic.ring"
    done = subprocess.run([sys.executable, "-c", code, path], stdout=subprocess.PIPE, text=True)
    try:
        assert done.returncode == -9
        Profiler(AUDIO, ring=path)
        assert ids(str(path) + PREVIOUS) == [1]
    finally:
        os.kill(int(done.stdout), 9)


def test_the_file_is_closed_with_the_profiler():
    with tempfile.TemporaryDirectory() as folder:
        before = set(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else set()
        for _ in range(3):
            Profiler(MIC, capacity=10, ring=Path(folder) / "mic.ring")
        if before:
            assert len(os.listdir("/proc/self/fd")) <= len(before)
