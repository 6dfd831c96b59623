"""Faults around a recorder: interrupted calls, forks, overload, programs that use it wrongly."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path
from types import FrameType

import numpy as np
import pytest
from profiling import MIC, MS, Log, balanced, wait_for

import latprof
from latprof import Pipeline, Profiler

WEB = Pipeline.chain("web", "db", "render", ends=True)


def stamps(n: int, start: int = 1_000) -> np.ndarray:
    return start + np.arange(n)[:, None] * 1_000 + np.arange(4) * 100


def run(program: str, *arguments: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a program in a process of its own; a program that hangs fails."""
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=check,
    )


# -- interrupted calls ----------------------------------------------------------------------------

INTERRUPTED = """
import signal, sys
import numpy as np
from latprof import Pipeline, Profiler

class Interrupt(BaseException):
    pass

def interrupt(*_):
    raise Interrupt

def interrupted(call, seconds):
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, seconds)
            call()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except Interrupt:
        return True
    return False

signal.signal(signal.SIGALRM, interrupt)
stamps = 1_000 + np.arange(40_000)[:, None] * 1_000 + np.arange(4) * 100
MIC = Pipeline.chain("mic", "decode", "play")
"""


@pytest.mark.parametrize("again", ["profiler.stop()", ""])
def test_a_stop_that_is_interrupted_is_finished_by_the_next_one_or_at_exit(tmp_path, again):
    path = tmp_path / "mic.parquet"
    program = f"""
profiler = Profiler(MIC, path=sys.argv[1], capacity=65_536)
profiler.start()
profiler.record_many(np.arange(40_000), stamps)
times = sum(interrupted(profiler.stop, 0.000_2) for _ in range(3))
print(times, profiler.running)
{again}
"""
    done = run(INTERRUPTED + program, path)
    times, running = done.stdout.split()
    assert int(times) >= 1, "the stop was too quick to be interrupted"
    assert running == "False"
    trace = latprof.read(path)
    assert len(trace) == 40_000
    assert trace.meta["accounts"]["finished"] == trace.meta["accounts"]["folded"] == 40_000


def test_a_report_that_is_interrupted_loses_and_invents_no_row(tmp_path):
    program = """
profiler = Profiler(MIC, path=sys.argv[1], capacity=65_536)
with profiler:
    times = 0
    for i in range(12):
        profiler.record_many(np.arange(40_000), stamps)
        times += interrupted(profiler.report, 0.000_3 * (i + 1))
        times += interrupted(profiler.trace, 0.000_2)
accounts, profile = profiler.accounts, profiler.report().profile
print(times, accounts.folded, accounts.lost, accounts.torn, profile.frames, profile["play"].count)
"""
    done = run(INTERRUPTED + program, tmp_path / "mic.parquet")
    times, *counts = map(int, done.stdout.split())
    assert times >= 3
    assert counts == [480_000, 0, 0, 480_000, 480_000]
    assert len(latprof.read(tmp_path / "mic.parquet")) == 480_000


def test_a_signal_handler_may_report_and_stop_at_any_time():
    profiler, found = Profiler(MIC), []

    def report(number: int, frame: FrameType | None) -> None:
        found.append(profiler.report().profile.frames)

    def stop(number: int, frame: FrameType | None) -> None:
        profiler.stop()

    before = signal.signal(signal.SIGALRM, report), signal.signal(signal.SIGUSR1, stop)
    try:
        with profiler:
            for i in range(300):
                profiler.record(i, (1, 2, 3, 4))
                if i % 20 == 0:
                    signal.setitimer(signal.ITIMER_REAL, 0.000_2 * (1 + i / 20))
                    profiler.report()
                    profiler.trace()
            wait_for(lambda: found)
            os.kill(os.getpid(), signal.SIGUSR1)
            assert not profiler.running
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before[0])
        signal.signal(signal.SIGUSR1, before[1])
    assert balanced(profiler).folded == 300


def test_reports_and_measurements_of_the_cost_run_side_by_side():
    errors: list[BaseException] = []

    def repeat(call) -> None:
        try:
            for _ in range(15):
                call()
        except BaseException as error:
            errors.append(error)

    with Profiler(MIC) as profiler:
        profiler.record(1, (1, 2, 3, 4))
        calls = profiler.report, profiler.overhead, profiler.report
        threads = [threading.Thread(target=repeat, args=(call,)) for call in calls]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert errors == []


def test_a_report_on_many_sources_holds_up_the_fold_for_less_than_50_ms():
    profiler = Profiler(MIC, capacity=65_536)
    names = [f"s{i % 990}" for i in range(20_000)]
    with profiler:
        profiler.record_many(np.arange(20_000), stamps(20_000), source=names)
    profiler.report()
    # what is done while no frame can be folded; CPU time, as other programs run as well
    begin = time.thread_time()
    copy = profiler._fold.copy()
    assert time.thread_time() - begin < 0.05
    assert copy.frames == 20_000
    assert len(copy.groups) == 990


# -- imports, forks, memory -----------------------------------------------------------------------


def test_nothing_is_imported_after_the_start(tmp_path):
    program = """
import sys, time
from latprof import Pipeline, Profiler
profiler = Profiler(
    Pipeline.chain("mic", "decode", "play"), path=f"{sys.argv[1]}/files/", rotate="100ms",
    ring=f"{sys.argv[1]}/mic.ring", warning="1ms", critical="2ms", on_critical="freeze",
    freeze_to=f"{sys.argv[1]}/freezes", keep="slow", report_interval="100ms",
)
profiler.start()
known = set(sys.modules)
for i in range(30):
    with profiler.frame(i, source="a") as frame:
        frame.mark("decode")
        time.sleep(0.01)
time.sleep(1.2)
found = set(sys.modules) - known
profiler.stop()
print(sorted(found | (set(sys.modules) - known)))
"""
    done = run(program, tmp_path)
    assert done.stdout.strip() == "[]"
    assert list((tmp_path / "freezes").iterdir())
    assert list((tmp_path / "files").iterdir())


def test_a_child_that_forks_while_traces_are_saved_can_import(tmp_path):
    program = """
import os, sys, time
from latprof import Pipeline, Profiler
profiler = Profiler(Pipeline.chain("mic", "decode"), critical="1ns", on_critical="freeze",
                    freeze_to=sys.argv[1], path=f"{sys.argv[1]}/mic.parquet")
with profiler:
    for i in range(4):
        profiler.frame(i).finish()
        pid = os.fork()
        if pid == 0:
            import pandas, pyarrow.compute, latprof.report.report
            print(str(profiler.report())[:3], flush=True)
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        time.sleep(0.3)
"""
    assert run(program, tmp_path).stdout.split() == ["mic"] * 4


def test_the_last_reference_frees_thread_ring_and_files(tmp_path):
    def threads() -> int:
        return sum(thread.name == "latprof" for thread in threading.enumerate())

    before = threads(), len(os.listdir("/proc/self/fd"))
    gc.collect()
    gc.disable()
    try:
        for i in range(3):
            profiler = Profiler(
                MIC,
                path=tmp_path / f"{i}.parquet",
                ring=tmp_path / f"{i}.ring",
                critical="1s",
                on_critical="freeze",
                report_interval="1h",
                keep="slow",
            )
            profiler.start()
            profiler.record(i, (1, 2, 3, 4))
            profiler.report()
            gone = weakref.ref(profiler)
            del profiler
            wait_for(lambda gone=gone: gone() is None)  # the background may be in its last call
        wait_for(lambda: (threads(), len(os.listdir("/proc/self/fd"))) == before)
    finally:
        gc.enable()
    assert [latprof.read(tmp_path / f"{i}.parquet").frame_id.tolist() for i in range(3)] == [
        [0],
        [1],
        [2],
    ]


# -- overload, and rows that cannot be stored -----------------------------------------------------


def test_frames_that_cannot_be_stored_are_rejected_under_overload_too():
    profiler = Profiler(MIC, capacity=4, overflow="drop")
    profiler._fold.step = lambda limit=0: None  # no space is made
    with profiler:
        for i in range(10):
            profiler.record(i, (1, 2, 3, 4))
            profiler.record(-1, (1, 2, 3, 4))
    a = balanced(profiler)
    assert (a.started, a.finished, sum(a.rejected.values())) == (20, 10, 10)
    assert a.folded + a.lost == 10


def test_one_stamp_that_cannot_be_written_to_a_file_costs_one_frame(tmp_path):
    path = tmp_path / "mic.parquet"
    with Profiler(MIC, path=path, clock=time.time_ns) as profiler:
        now = time.time_ns()
        profiler.record_many(np.arange(5_000), stamps(5_000, now))
        for ns in (2_800_000_000 * 10**9, 2**62 + 1):
            profiler.record(7, (now, now, now, ns))
        profiler.record_many(np.arange(5_000, 10_000), stamps(5_000, now))
    assert latprof.read(path).frame_id.tolist() == [*range(5_000), 7, *range(5_000, 10_000)]
    assert sum(balanced(profiler).rejected.values()) == 1
    with Profiler(MIC, path=tmp_path / "perf.parquet") as profiler:
        profiler.record(1, (1, 2, 3, 2_900_000_000 * 10**9))  # beyond 2**62 with the clock's offset
        profiler.record(2, (1, 2, 3, 4))
    assert latprof.read(tmp_path / "perf.parquet").frame_id.tolist() == [2]
    assert sum(balanced(profiler).rejected.values()) == 1


def test_a_ring_that_is_written_to_has_no_torn_rows(tmp_path):
    path, over = tmp_path / "mic.ring", threading.Event()
    with Profiler(MIC, capacity=1_000, ring=path) as profiler:

        def record() -> None:
            while not over.is_set():
                profiler.record(1, (1, 2, 3, 4))

        threads = [threading.Thread(target=record) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            wait_for(lambda: profiler.accounts.started > 2_000)
            for _ in range(10):
                found = latprof.recover(path)
                slots = found.recovery
                assert (slots.torn, slots.refused, slots.never_written) == (0, 0, 0)
                assert slots.whole + slots.being_written == 1_000
        finally:
            over.set()
            for thread in threads:
                thread.join()


# -- programs that use a profiler wrongly ---------------------------------------------------------


def doubts(profiler: Profiler) -> str:
    return " ".join(" ".join(profiler.report().doubts).split())


def warned(log: Log, words: str) -> int:
    return sum(words in line for line in log.lines if line.startswith("WARNING"))


def test_thresholds_below_a_microsecond_are_doubted():
    log = Log()
    profiler = Profiler(
        MIC, warning=50, critical={"end_to_end": 999, "play": "1us"}, logger=log.logger
    )
    assert (
        warned(log, "thresholds below 1 us: end_to_end: 50 ns; 50 means 50 ns, write '50ms'") == 1
    )
    assert warned(log, "thresholds below 1 us") == 1
    assert profiler.accounts.notes["thresholds below 1 us"] == 2
    assert "thresholds below 1 us: 2; 50 means 50 ns, write '50ms'" in doubts(profiler)
    log.lines.clear()
    assert "thresholds below" not in doubts(Profiler(MIC, warning=1_000, logger=log.logger))
    assert log.lines == []


def test_stamps_far_from_the_clock_are_doubted():
    log = Log()
    with Profiler(MIC, clock=time.time_ns, logger=log.logger) as profiler:
        now_ms = time.time_ns() // MS  # ms given as ns
        for i in range(3):
            profiler.record(i, (now_ms, now_ms + 1, now_ms + 2, now_ms + 3))
        now = time.time_ns()
        profiler.record(9, (now, now + 1, now + 2, now + 3))
        assert profiler.report().profile.frames == 4
    assert profiler.accounts.notes == {"frames more than a day from the clock": 3}
    assert "frames with stamps more than a day from the profiler's clock: 3;" in doubts(profiler)
    assert warned(log, "frames more than a day from the clock: a frame of 1970-01-01T00:29") == 1


def test_marks_that_most_frames_stamp_out_of_order_are_in_the_headline():
    log = Log()
    with Profiler(MIC, logger=log.logger) as profiler:
        now = time.perf_counter_ns()
        for i in range(150):
            profiler.record(i, (now, now + 20, now + 10, now + 30))  # play before decode
        for i in range(50):
            profiler.record(i, (now, now + 10, 0, now + 30))
        profiler.report()
    headline = "mic: frames with marks out of the pipeline's order: 150; stamp marks in that order"
    assert profiler.report().headline().startswith(headline)
    assert str(profiler.report()).startswith(headline[:60])
    assert warned(log, "frames with marks out of order: ") == 1
    assert warned(log, "stamp marks in the order start, decode, play, end") == 1


def test_a_few_frames_with_marks_out_of_order_are_not_a_mistake_of_the_program():
    with Profiler(MIC) as profiler:
        now = time.perf_counter_ns()
        for i in range(20):
            late = 20 if i < 10 else 5
            profiler.record(i, (now, now + late, now + 10, now + 30))
    assert profiler.accounts.notes == {}
    assert "bottleneck" in profiler.report().headline()


def test_frames_that_never_finish_are_doubted():
    log = Log()
    with Profiler(MIC, logger=log.logger) as profiler:
        frames = [profiler.frame(i) for i in range(5)]
        assert "5 of 5 frames are in flight: is finish() called?" in doubts(profiler)
        assert log.lines == []  # they may finish
    assert warned(log, "frames that do not finish: 5 of 5 frames are in flight at the stop") == 1
    assert len(frames) == 5
    profiler.stop()
    assert warned(log, "frames that do not finish") == 1


def test_calls_of_a_profiler_that_was_never_started_are_counted():
    log = Log()
    profiler = Profiler(MIC, logger=log.logger)
    for i in range(3):
        assert not profiler.frame(i)
        profiler.record(i, (1, 2, 3, 4))
    profiler.record_many([7], [(1, 2, 3, 4)])
    name = "calls of a profiler that was never started"
    assert profiler.accounts.notes == {name: 7}
    assert warned(log, name) == len(log.lines) == 1
    assert "which recorded nothing: 7; call start() in each process" in doubts(profiler)
    with profiler:
        profiler.record(1, (1, 2, 3, 4))
    profiler.frame(2)  # after a stop: this is how a program switches recording off
    assert profiler.accounts.notes == {name: 7}
    assert len(log.lines) == 1


def test_worker_processes_without_a_profiler_of_their_own_say_so(tmp_path: Path):
    module = tmp_path / "served.py"
    module.write_text(
        """
import multiprocessing
from latprof import Pipeline, Profiler

profiler = Profiler(Pipeline.chain("web", "db"))

def work(n):
    with profiler.frame(n):
        pass
    return profiler.report().headline()

if __name__ == "__main__":
    with profiler, multiprocessing.get_context("spawn").Pool(1) as pool:
        print(*pool.map(work, [1]), sep="\\n")
"""
    )
    done = subprocess.run(
        [sys.executable, str(module)], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout == (
        "web: the profiler was never started; use it in `with`, or call start()\n"
    )
    assert "calls of a profiler that was never started: nothing is recorded" in done.stderr
