"""Record at full speed for minutes: ``python -m tests.soak [--minutes 10] [--threads 4]``.

With trace files, thresholds, tags, tail sampling and a ring file. Memory, open files and threads
must not grow after the first fifth of the time, and in the end the accounts must be exact.
"""

import argparse
import logging
import os
import sys
import tempfile
import threading
import time

import psutil

import latprof
from latprof import AUDIO, Profiler


def record(profiler: Profiler, over: threading.Event, thread: int, done: list[int]) -> None:
    n = 0
    while not over.is_set():
        for _ in range(1_000):
            n += 1
            source = f"source {n % 50}"
            tags = {"endpoint": f"/{n % 100}"}
            with profiler.frame(thread << 40 | n, n % 1_500, source, tags=tags) as frame:
                frame.mark("webrtc")
                frame.mark("ipc")
                frame.mark("cgo")
                frame.mark("alsa")
                frame.tag("status", n % 5)
                if n % 500 == 0:
                    frame.drop("late")
    done[thread] = n


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--threads", type=int, default=4)
    options = parser.parse_args()
    logging.getLogger("latprof").setLevel(logging.ERROR + 1)
    process = psutil.Process()
    seconds = options.minutes * 60
    samples: list[tuple[float, int, int, int]] = []
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        profiler = Profiler(
            AUDIO,
            ring=f"{folder}/mic.ring",
            path=f"{folder}/mic.parquet",
            warning="1ms",
            critical="100ms",
            keep="slow",
            overflow="block",
            tags=("endpoint", "status"),
        )
        done, over = [0] * options.threads, threading.Event()
        with profiler:
            threads = [
                threading.Thread(target=record, args=(profiler, over, k, done))
                for k in range(options.threads)
            ]
            for thread in threads:
                thread.start()
            begun = time.monotonic()
            while (now := time.monotonic() - begun) < seconds:
                time.sleep(min(5.0, seconds / 50))
                rss = process.memory_info().rss >> 20
                samples.append((now, rss, process.num_fds(), process.num_threads()))
                profiler.report()
            over.set()
            for thread in threads:
                thread.join()
        accounts = profiler.accounts
        size = os.path.getsize(f"{folder}/mic.parquet") >> 20
    print(f"{latprof.__impl__} core, {options.threads} threads, {seconds:.0f} s, file {size} MB")
    for now, rss, files, alive in samples[:: max(1, len(samples) // 10)]:
        print(f"{now:6.0f} s  {rss:5} MB  {files:3} files  {alive:3} threads")
    print(accounts)
    dropped, rejected = sum(accounts.dropped.values()), sum(accounts.rejected.values())
    exact = (
        accounts.started == sum(done) == accounts.finished + dropped
        and accounts.in_flight == rejected == accounts.not_folded == accounts.torn == 0
        and accounts.finished + dropped == accounts.folded + accounts.lost
        and dropped == sum(n // 500 for n in done)
    )
    settled = samples[len(samples) // 5 :]
    grown = [max(column) - column[0] for column in zip(*settled, strict=True)][1:]
    # trace files hold row groups of 65,536 rows in memory until they are written
    flat = grown[0] <= 64 and grown[1] <= 1 and grown[2] <= 1
    print(f"accounts {'exact' if exact else 'WRONG'}; growth {grown} MB, files, threads")
    return 0 if exact and flat else 1


if __name__ == "__main__":
    sys.exit(main())
