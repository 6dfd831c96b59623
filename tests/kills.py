"""Kill processes that record, at random instants: ``python -m tests.kills [--kills 1000]``.

Each process records with one or eight threads on the core in C or in Python, and is killed while
its threads begin, mark, tag, finish, drop and record frames. It shows through a mapping how far
each call had come. Then every frame that was finished must be in the recovered ring, every frame in
flight must be listed with the stamps and tags that it had, and nothing else may be there. All
values are computed from the number of the frame alone.
"""

import argparse
import os
import random
import signal
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import latprof

MARKS = latprof.AUDIO.marks
INNER = len(MARKS) - 2
# each thread shows 8 words: the frame that was begun, its marks and tag, and what was finished
CAPACITY = 131_072

CHILD = r"""
import mmap, os, sys, threading, time
from latprof import AUDIO, Profiler
import latprof
path, progress, threads, most = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
words = memoryview(mmap.mmap(os.open(progress, os.O_RDWR), 64 * threads)).cast("Q")
sys.setswitchinterval(1e-5)
profiler = Profiler(AUDIO, capacity=131_072, ring=path, tags=("shop", "status"))
inner = AUDIO.marks[1:-1]

def work(thread):
    at = 8 * thread
    for n in range(1, most):
        time0, name = 1_000 * n, thread << 32 | n
        if n % 3 == 0:
            profiler.record(name, [time0 + k for k in range(len(AUDIO.marks))], n % 1_000,
                            f"source {n % 5}", tags={"shop": f"shop {n % 4}"})
        else:
            frame = profiler.frame(name, n % 1_000, f"source {n % 5}", start=time0,
                                   tags={"shop": f"shop {n % 4}"})
            words[at + 1] = words[at + 2] = 0
            words[at] = n
            for k, mark in enumerate(inner, 1):
                frame.mark(mark, at=time0 + k)
                words[at + 1] = k
            frame.tag("status", n % 9)
            words[at + 2] = 1
            last = time0 + len(AUDIO.marks) - 1
            frame.finish(at=last) if n % 4 else frame.drop(f"reason {n % 7}", at=last)
        words[at + 3] = n

profiler.start()
print(latprof.__impl__, flush=True)
for thread in range(1, threads):
    threading.Thread(target=work, args=(thread,)).start()
work(0)
time.sleep(60)
"""


def check(path: Path, progress: bytes, threads: int) -> tuple[int, int]:
    """Compare what is recovered with what the process had done; return rows and flights."""
    trace = latprof.recover(path)
    offset = trace.meta["clock_offset_ns"]
    words = [struct.unpack_from("8Q", progress, 64 * thread) for thread in range(threads)]
    sources, outcomes = trace.source.to_numpy().tolist(), trace.outcome.to_numpy().tolist()
    tags = {name: trace.tags[name].to_numpy().tolist() for name in ("shop", "status")}
    stamps = [(trace.marks[mark] - offset).tolist() for mark in MARKS]
    found: dict[int, list[int]] = {thread: [] for thread in range(threads)}
    for row, frame_id in enumerate(trace.frame_id.tolist()):
        thread, n = frame_id >> 32, frame_id & (2**32 - 1)
        found[thread].append(n)
        is_record = n % 3 == 0
        assert [column[row] for column in stamps] == [1_000 * n + k for k in range(len(MARKS))]
        assert int(trace.size[row]) == n % 1_000
        assert sources[row] == f"source {n % 5}"
        assert tags["shop"][row] == f"shop {n % 4}"
        assert tags["status"][row] == (None if is_record else str(n % 9))
        expected = "finished" if is_record or n % 4 else f"reason {n % 7}"
        assert outcomes[row] == expected, (n, outcomes[row])
    in_flight = {frame.frame_id >> 32: frame for frame in trace.in_flight}
    assert len(in_flight) == len(trace.in_flight) <= threads
    for thread, (begun, marked, tagged, finished, *_) in enumerate(words):
        numbers = sorted(found[thread])
        assert numbers == list(range(1, len(numbers) + 1)), "a finished frame is missing"
        assert finished <= len(numbers) <= finished + 1, (finished, len(numbers))
        frame = in_flight.get(thread)
        if frame is None:  # none was begun, or it was finished meanwhile
            assert begun <= len(numbers), (begun, len(numbers))
            continue
        n = frame.frame_id & (2**32 - 1)
        assert n == len(numbers) + 1, "a frame is in flight and finished, or another one is"
        assert begun in (n, n - 1, n - 2)
        names = [mark for mark in MARKS if mark in frame.marks]
        assert names == list(MARKS[: len(names)])
        for k, mark in enumerate(names):
            assert frame.marks[mark] - offset == 1_000 * n + k
        least = marked if begun == n else 0
        assert 1 + least <= len(names) <= len(MARKS)
        assert begun < n or len(names) <= 2 + marked or marked == INNER
        assert frame.tags.get("shop") == f"shop {n % 4}"
        assert frame.tags.get("status") in (
            (str(n % 9),) if begun == n and tagged else (None, str(n % 9))
        )
        assert (frame.source, frame.size) == (f"source {n % 5}", n % 1_000)
    recovery = trace.recovery
    assert (recovery.refused, recovery.cut_off) == (0, 0)
    assert recovery.torn <= threads
    return len(trace), len(in_flight)


def kill_one(core: str, threads: int, chance: random.Random, folder: Path) -> tuple[int, int]:
    path, progress = folder / "mic.ring", folder / "progress"
    progress.write_bytes(bytes(64 * threads))
    most = CAPACITY // threads // 2
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, path, progress, str(threads), str(most)],
        env=os.environ | {"LATPROF_IMPL": core},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == f"{core}\n"
        time.sleep(chance.uniform(0, 0.02))
        process.send_signal(signal.SIGKILL)
    result = check(path, progress.read_bytes(), threads)
    path.unlink()
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    print(f"seed {options.seed}")
    chance = random.Random(options.seed)
    totals: dict[tuple[str, int], list[int]] = {}
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    for n in range(options.kills):
        kind = ("c", "python")[n % 2], (1, 8)[n // 2 % 2]
        with tempfile.TemporaryDirectory(dir=memory) as folder:
            rows, flights = kill_one(*kind, chance, Path(folder))
        total = totals.setdefault(kind, [0, 0, 0])
        totals[kind] = [total[0] + 1, total[1] + rows, total[2] + flights]
    for (core, threads), (kills, rows, flights) in totals.items():
        print(
            f"{core}, {threads} threads: {kills} kills, {rows:,} finished frames and {flights} in "
            "flight recovered, none missing, none invented"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
