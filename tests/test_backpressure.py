"""Rings without overwriting: if no slot is free, frames are dropped or their writers wait."""

import contextlib
import ctypes
import sys
import threading
import time
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from profiling import MIC, MS, Log, run_threads
from rings import claim

from latprof.io.reader import Reader
from latprof.recorder.profiler import Profiler


def ids_in(folder: Path) -> list[int]:
    found: list[int] = []
    for path in sorted(folder.glob("*.parquet")):
        with Reader(path) as reader:
            found += reader.read().frame_id.tolist()
    return found


@pytest.mark.parametrize("overflow", ["overwrite", "drop", "block"])
def test_interrupted_writers_neither_block_others_nor_duplicate_frames(
    overflow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exceptions are raised in threads that record, at any instruction."""
    frames, threads = 20_000, 3
    interval = sys.getswitchinterval()
    monkeypatch.setattr("latprof.recorder.incidents.WAIT_LIMIT_S", 0.5)
    # an exception between two suppressions ends its thread
    monkeypatch.setattr(threading, "excepthook", lambda arguments: None)
    # one in a finalizer cannot be raised and would be printed
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: None)
    returned: list[int] = []
    sys.setswitchinterval(1e-5)
    with Profiler(MIC, capacity=128, overflow=overflow) as profiler:

        def run(first: int) -> None:
            n = 0
            while n < frames:
                with contextlib.suppress(KeyboardInterrupt):
                    for i in range(n, frames):
                        n = i + 1
                        frame = profiler.frame(first + i)
                        frame.mark("decode")
                        frame.finish()
                        returned.append(first + i)

        workers = [threading.Thread(target=run, args=(k * frames,)) for k in range(threads)]
        for worker in workers:
            worker.start()
        raised = 0
        while any(worker.is_alive() for worker in workers):
            for worker in workers:
                if worker.ident is not None and worker.is_alive() and raised < 300:
                    raised += 1
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(
                        ctypes.c_ulong(worker.ident), ctypes.py_object(KeyboardInterrupt)
                    )
            time.sleep(0.000_2)
    sys.setswitchinterval(interval)
    assert raised > 0
    a = profiler.accounts
    assert a.finished == a.folded + a.lost + a.torn
    assert a.started == a.in_flight + a.finished + sum(a.rejected.values())
    # an interrupted frame is in flight forever, torn or complete; no frame is recorded twice
    assert len(returned) <= a.finished <= threads * frames
    assert a.torn <= raised
    assert profiler.report().profile.frames == a.folded


@pytest.mark.parametrize("overflow", ["overwrite", "drop", "block"])
def test_a_writer_that_is_interrupted_while_it_rejects_a_frame_is_counted_once(
    overflow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Profiler(MIC, capacity=8, overflow=overflow) as profiler:
        profiler.record(1, (1, 2, 3, 4))
        with monkeypatch.context() as patch:
            interrupt = Mock(side_effect=KeyboardInterrupt)
            patch.setattr("latprof.recorder.incidents.Incidents.rejected", interrupt)
            with pytest.raises(KeyboardInterrupt):
                profiler.record(2, (1, 2, 3, 2**63))
        interrupt.assert_called_once()
        profiler.record(3, (1, 2, 3, 4))
    a = profiler.accounts
    assert (a.started, a.in_flight, a.finished, a.folded) == (3, 1, 2, 2)
    assert (a.lost, a.torn, a.not_folded) == (0, 0, 0)


@pytest.mark.parametrize("overflow", ["drop", "block"])
def test_the_accounts_of_threads_add_up_to_the_frame(overflow: str, tmp_path: Path) -> None:
    threads, frames = 8, 3_000
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with Profiler(MIC, capacity=100, overflow=overflow, path=tmp_path) as profiler:

            def run(first: int) -> None:
                for n in range(first, first + frames):
                    frame = profiler.frame(n, start=n * MS + 1)
                    frame.mark("decode", at=n * MS + 11)
                    frame.mark("play", at=n * MS + 111)
                    frame.finish(at=n * MS + 1_111)

            run_threads(threading.Thread(target=run, args=(k * frames,)) for k in range(threads))
    finally:
        sys.setswitchinterval(interval)
    a = profiler.accounts
    profile = profiler.report().profile
    assert (a.started, a.finished, a.in_flight, a.torn) == (24_000, 24_000, 0, 0)
    assert a.folded + a.lost == 24_000
    if overflow == "block":
        assert a.lost == 0
    ids = ids_in(tmp_path)
    assert len(ids) == len(set(ids)) == a.folded == profile.frames
    assert profile["decode"].total == 100 * a.folded
    assert profile["play"].total == 1_000 * a.folded
    assert profile["end_to_end"].total == 1_110 * a.folded
    assert profile["end_to_end"].histogram.values().sum() == a.folded


def test_drop_keeps_the_oldest_frames() -> None:
    profiler = Profiler(MIC, capacity=8, overflow="drop")
    with profiler:
        assert profiler._background is not None
        profiler._background.end()  # as if the background were far behind
        for n in range(20):
            profiler.frame(n).finish()
        profiler.frame(20).drop("late")
        assert profiler.trace().frame_id.tolist() == list(range(8))
        a = profiler.accounts
        assert (a.finished, a.dropped, a.not_folded, a.lost) == (20, {"late": 1}, 8, 13)
        assert profiler.trace().meta["lost"] == 13
    profiler.report()  # folds what the thread, which had ended before, could not
    a = profiler.accounts
    assert (a.finished, a.dropped, a.folded, a.lost) == (20, {"late": 1}, 8, 13)


def test_block_waits_for_a_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("latprof.recorder.incidents.WAIT_LIMIT_S", 0.05)
    profiler = Profiler(MIC, capacity=8, overflow="block")
    with profiler:
        assert profiler._background is not None
        profiler._background.end()
        for n in range(1_000):  # waits once, not a thousand times
            profiler.frame(n).finish()
        assert profiler.accounts.lost == 992
        profiler.report()  # this folds: slots are free again
        profiler.frame(1_000).finish()
        assert profiler.accounts.lost == 992
    assert profiler.trace().frame_id.tolist()[-1] == 1_000


def test_record_many_waits_for_free_slots() -> None:
    stamps = np.tile([1, 2, 3, 4], (1_000, 1))
    for overflow in ("drop", "block"):
        with Profiler(MIC, capacity=7, overflow=overflow) as profiler:
            profiler.record_many(np.arange(1_000), stamps)
        a = profiler.accounts
        assert (a.finished, a.folded, a.lost) == (1_000, 1_000, 0)


def test_a_missing_row_blocks_writers_for_a_second_at_most() -> None:
    with Profiler(MIC, capacity=16, overflow="block") as profiler:
        profiler._core.started += 1
        claim(profiler._ring)  # a thread ends here
        before = time.monotonic()
        for n in range(100):
            profiler.frame(n).finish()
        assert time.monotonic() - before < 4
    a = profiler.accounts
    assert (a.finished, a.folded, a.lost, a.torn) == (101, 100, 0, 1)


def test_frames_that_are_overwritten_before_they_are_folded_are_counted_and_logged() -> None:
    log = Log()
    profiler = Profiler(MIC, capacity=16, logger=log.logger)
    profiler._core.start()  # without a thread
    for n in range(50):
        profiler.record(n, (1, 2, 3, 4))
    accounts = profiler.accounts
    assert (accounts.started, accounts.folded, accounts.not_folded) == (50, 0, 50)
    assert profiler.report().profile.frames == 16
    for n in range(50, 100):
        profiler.record(n, (1, 2, 3, 4))
    profiler.report()
    accounts = profiler.accounts
    assert (accounts.folded, accounts.lost, accounts.not_folded) == (32, 68, 0)
    assert [line.split(":")[0] for line in log.lines] == ["WARNING frames lost"]


def test_a_step_of_the_fold_lets_other_threads_run(monkeypatch: pytest.MonkeyPatch) -> None:
    rests: list[float] = []
    monkeypatch.setattr("latprof.recorder.live_fold.LONGEST_HOLD_NS", -1)
    monkeypatch.setattr("latprof.recorder.background.time.sleep", rests.append)
    profiler = Profiler(MIC)
    profiler._core.start()  # without a thread
    stamps = np.full((40_000, 4), time.perf_counter_ns())
    profiler._recording.begin()
    profiler.record_many(np.arange(100), stamps[:100])
    profiler._fold.step()
    assert len(rests) >= 2 * len(MIC.all_spans)
    rests.clear()
    profiler.record_many(np.arange(40_000), stamps)
    profiler._fold.step()  # without rests, as many rows wait
    profiler._fold.catch_up()  # a caller waits
    assert rests == []
    assert profiler.report().profile.frames == 40_100
