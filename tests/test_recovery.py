"""A process that records is killed at any moment, and every frame it had finished is recovered.

One process imports latprof and forks the processes that record. Each is killed at a moment of its
own, and shows through a mapping of its own how far it had come: the number in it is written when
`finish` has returned. Expected values are computed from the frame's number alone.
"""

import itertools
import random
import struct
import subprocess
import sys

import pytest

import latprof

MARKS = latprof.AUDIO.marks
FORK_SERVER = r"""
import mmap, os, sys, threading, time
from latprof import AUDIO, Profiler

class Killer:
    "An integer that kills when it is looked at: while a frame begins, as its size."
    def __index__(self):
        os.kill(os.getpid(), 9)
        time.sleep(10)

def life(path, progress, capacity, threads, most, killed_at):
    # one store each: struct would first write zeros
    done = memoryview(mmap.mmap(os.open(progress, os.O_RDWR), 8 * threads)).cast("Q")
    profiler = Profiler(AUDIO, capacity=capacity, ring=path)
    inner = AUDIO.marks[1:-1]

    def record(thread):
        for n in range(1, most + 1):
            at = 1_000 * n
            size = Killer() if n == killed_at else n % 1_000
            if n % 3 == 0:
                stamps = [at + k for k in range(len(AUDIO.marks))]
                profiler.record(thread << 32 | n, stamps, size, f"source {n % 5}")
            else:
                frame = profiler.frame(thread << 32 | n, size, f"source {n % 5}", start=at)
                for k, mark in enumerate(inner, 1):
                    frame.mark(mark, at=at + k)
                if n % 4:
                    frame.finish(at=at + len(AUDIO.marks) - 1)
                else:
                    frame.drop(f"reason {n % 7}", at=at + len(AUDIO.marks) - 1)
            done[thread] = n

    profiler.start()
    for i in range(1, threads):
        threading.Thread(target=record, args=(i,)).start()
    record(0)
    time.sleep(60)      # until it is killed

for line in sys.stdin:
    path, progress, pause, *numbers = line.split()
    pid = os.fork()
    if pid == 0:
        sys.setswitchinterval(1e-5)
        life(path, progress, *map(int, numbers))
    if numbers[-1] == "0":
        while True:      # until it records
            with open(progress, "rb") as file:
                if any(file.read()):
                    break
            time.sleep(0.0005)
        time.sleep(float(pause))
        os.kill(pid, 9)
    status = os.waitpid(pid, 0)[1]
    print(os.WTERMSIG(status), flush=True)
"""


@pytest.fixture(scope="module")
def fork_server():
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", FORK_SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield process
    process.stdin.close()
    assert process.wait(timeout=30) == 0
    process.stdout.close()


@pytest.fixture
def folders(tmp_path):
    """Return an iterator over new folders."""

    def numbered():
        for number in itertools.count():
            folder = tmp_path / str(number)
            folder.mkdir()
            yield folder

    return numbered()


def killed(fork_server, folder, *, capacity, threads, most, killed_at=0, pause=0.0):
    """Let a process record and be killed; return its trace, and the frames that it had finished.

    Each of its threads records `most` frames and then waits. The process is killed at the begin
    of frame `killed_at`, or, if that is 0, `pause` seconds after its first frame.
    """
    ring, progress = folder / "mic.ring", folder / "progress"
    progress.write_bytes(bytes(8 * threads))
    numbers = f"{capacity} {threads} {most} {killed_at}"
    fork_server.stdin.write(f"{ring} {progress} {pause} {numbers}\n")
    fork_server.stdin.flush()
    assert fork_server.stdout.readline() == "9\n"
    return latprof.recover(ring), struct.unpack(f"{threads}Q", progress.read_bytes())


def check(trace, capacity, finished):
    """Compare the recovered frames with those that were finished."""
    ids = trace.frame_id.tolist()
    threads = [i >> 32 for i in ids]
    numbers = [i & (2**32 - 1) for i in ids]
    assert trace.source is not None
    sources, outcomes = trace.source.to_numpy().tolist(), trace.outcome.to_numpy().tolist()
    stamps = {mark: trace.marks[mark] - trace.meta["clock_offset_ns"] for mark in MARKS}
    for k, mark in enumerate(MARKS):
        assert stamps[mark].tolist() == [1_000 * n + k for n in numbers]
    assert trace.size.tolist() == [n % 1_000 for n in numbers]
    assert sources == [f"source {n % 5}" for n in numbers]
    assert outcomes == ["finished" if n % 3 == 0 or n % 4 else f"reason {n % 7}" for n in numbers]
    for thread, last in enumerate(finished):
        mine = [n for n, t in zip(numbers, threads, strict=True) if t == thread]
        # in order, no gap, at most one more than it knew of
        if mine:
            assert mine == list(range(mine[0], mine[-1] + 1))
            assert last <= mine[-1] <= last + 1
        else:
            assert last == 0
    # at most one frame of each thread is in flight, with the stamps it had, and none is there twice
    flying = {frame.frame_id >> 32: frame for frame in trace.in_flight}
    assert len(flying) == len(trace.in_flight) <= len(finished)
    assert not set(ids) & {frame.frame_id for frame in trace.in_flight}
    for thread, frame in flying.items():
        n = frame.frame_id & (2**32 - 1)
        assert n in (finished[thread], finished[thread] + 1)
        offset = trace.meta["clock_offset_ns"]
        stamped = [(mark, ns - offset) for mark, ns in frame.marks.items()]
        every = [(mark, 1_000 * n + k) for k, mark in enumerate(MARKS)]
        assert stamped == every[: len(stamped)]
        assert (frame.size, frame.source) == (n % 1_000, f"source {n % 5}")
    assert trace.meta.get("accounts", {}).get("in_flight", 0) == len(flying)
    recovery = trace.recovery
    assert (recovery.whole, recovery.refused, recovery.cut_off) == (len(trace), 0, 0)
    assert recovery.whole + recovery.torn + recovery.never_written == capacity
    assert recovery.torn <= len(finished)
    # the row of a claimed number may be torn, or was not begun
    assert len(trace) >= min(sum(finished), capacity - len(finished))


# 25 and 17 random moments, and 8 while a known frame begins


def test_a_process_killed_at_a_random_moment(fork_server, folders):
    for seed in range(25):
        pause = random.Random(seed).uniform(0, 0.02)
        how = {"capacity": 65_536, "threads": 2, "most": 30_000, "pause": pause}
        trace, finished = killed(fork_server, next(folders), **how)
        check(trace, 65_536, finished)
        # the ring is in its first lap: it holds all frames that either thread finished
        assert len(trace) >= sum(finished)


def test_a_process_killed_after_the_first_lap_of_the_ring(fork_server, folders):
    # one thread: of two, one that is interrupted may overwrite a row of the next lap
    for seed in range(17):
        chance = random.Random(seed)
        capacity, pause = chance.randrange(10, 400), chance.uniform(0.002, 0.02)
        how = {"capacity": capacity, "threads": 1, "most": 10**9, "pause": pause}
        trace, finished = killed(fork_server, next(folders), **how)
        check(trace, capacity, finished)


def test_a_frame_that_is_killed_while_it_begins_is_not_recorded(fork_server, folders):
    for killed_at in (1, 2, 3, 4, 399, 400, 401, 5_000):
        how = {"capacity": 400, "threads": 1, "most": 10**9, "killed_at": killed_at}
        trace, finished = killed(fork_server, next(folders), **how)
        assert finished == (killed_at - 1,)
        assert trace.recovery.torn == 0
        assert len(trace) == min(killed_at - 1, 400)
        assert trace.meta["lost"] == max(0, killed_at - 1 - 400)
        check(trace, 400, finished)


def test_a_frame_that_is_killed_while_it_begins_beside_another_thread(fork_server, folders):
    how = {"capacity": 4_000, "threads": 2, "most": 1_500, "killed_at": 777}
    trace, finished = killed(fork_server, next(folders), **how)
    assert 776 in finished
    check(trace, 4_000, finished)


def test_a_process_killed_after_each_mark_leaves_the_stamps_that_the_frame_had(tmp_path):
    code = """
import os, sys
from latprof import AUDIO, Profiler
for count in range(len(AUDIO.marks) - 1):
    pid = os.fork()
    if pid == 0:
        profiler = Profiler(AUDIO, ring=f"{sys.argv[1]}/{count}", tags=("room",))
        profiler.start()
        for n in range(5):
            profiler.frame(n).finish()
        tags = {"room": "hall"}
        with profiler.frame(7, size=960, source="input", tags=tags, start=1_000) as frame:
            for k in range(count):
                frame.mark(AUDIO.marks[1 + k], at=1_001 + k)
            os.kill(os.getpid(), 9)
    assert os.waitpid(pid, 0)[1] == 9
"""
    subprocess.run([sys.executable, "-c", code, tmp_path], check=True)
    stages = ["transit", "webrtc", "webrtc", "webrtc", "ipc", "cgo", "alsa"]
    for count, stage in enumerate(stages):
        trace = latprof.recover(tmp_path / str(count))
        assert trace.frame_id.tolist() == [0, 1, 2, 3, 4]
        (frame,) = trace.in_flight
        offset = trace.meta["clock_offset_ns"]
        stamps = {mark: ns - offset for mark, ns in frame.marks.items()}
        assert stamps == {mark: 1_000 + k for k, mark in enumerate(MARKS[: count + 1])}
        assert (frame.frame_id, frame.size, frame.source) == (7, 960, "input")
        assert (frame.tags, frame.stage) == ({"room": "hall"}, stage)
        assert frame.thread == trace.meta["pid"]  # the main thread
        assert trace.meta["accounts"] == {"in_flight": 1}
