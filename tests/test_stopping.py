"""Starting and stopping beside threads that record or fork, and without a thread."""

import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from profiling import MIC, wait_for, young_clock
from rings import claim, write

import latprof
from latprof import Profiler
from latprof.errors import ProfilerError
from latprof.recorder import forks as module


def test_writers_that_wait_for_a_slot_at_the_stop_get_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a busy machine may not run a writer for longer than the usual limit
    monkeypatch.setattr("latprof.recorder.live_fold.DRAIN_S", 5.0)
    profiler = Profiler(MIC, capacity=2, overflow="block", path=tmp_path / "mic.parquet")
    profiler._fold.step = lambda limit=0: None  # type: ignore[method-assign]  # no slot is freed for now
    profiler.start()
    stamps = 1, 2, 3, 4
    threads = [threading.Thread(target=profiler.record, args=(n, stamps)) for n in range(9)]
    for thread in threads:
        thread.start()
    wait_for(lambda: profiler._incidents.waiting == 7)
    profiler.stop()
    a = profiler.accounts
    assert (a.started, a.finished, a.folded, a.not_folded, a.lost) == (9, 9, 9, 0, 0)
    assert sorted(latprof.read(tmp_path / "mic.parquet").frame_id.tolist()) == list(range(9))
    for thread in threads:
        thread.join()


def test_a_frame_that_comes_after_the_file_was_closed_is_counted(tmp_path: Path) -> None:
    profiler = Profiler(MIC, path=tmp_path / "mic.parquet", clock=young_clock)
    with profiler:
        profiler.record(1, (1, 2, 3, 4))
    # a thread was suspended in `record` during the stop
    profiler._core.started += 1
    write(profiler._ring, claim(profiler._ring), 2, (1, 2, 3, 4))
    report = profiler.report()
    assert report.profile.frames == 2
    assert profiler.accounts.notes == {"frames not written to the trace file": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["mic.parquet"]
    with profiler:
        profiler.record(3, (1, 2, 3, 4))
    second = latprof.read(tmp_path / "mic-00002.parquet")
    assert second.frame_id.tolist() == [3]
    assert second.meta["lost"] == 1
    assert len(list(tmp_path.iterdir())) == 2


class Broken(Exception):
    pass


@pytest.mark.parametrize("value", [Broken, "noon", None, 1.5, -5, 2**70])
@pytest.mark.parametrize("in_file", [False, True])
def test_a_clock_that_fails_does_not_prevent_the_stop(
    value: Any, in_file: bool, tmp_path: Path
) -> None:
    broken = False

    def clock() -> Any:
        if not broken:
            return time.perf_counter_ns()
        if value is Broken:
            raise Broken
        return value

    ring = tmp_path / "mic.ring" if in_file else None
    profiler = Profiler(MIC, clock=clock, path=tmp_path / "mic.parquet", ring=ring)
    before = time.time_ns()
    with profiler:
        profiler.frame(1).finish()
        broken = True
        assert len(profiler.trace()) == 1
        assert profiler.report().profile.frames == 1
    after = time.time_ns()
    assert not profiler.running
    ((begin, end),) = latprof.read(tmp_path / "mic.parquet").meta["segments"]
    assert before - 10**7 <= begin <= end <= after + 10**7
    if ring is not None:
        assert latprof.recover(ring).frame_id.tolist() == [1]


def test_without_a_thread_nothing_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    profiler = Profiler(MIC)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(ProfilerError, match="can't start new thread"):
            profiler.start()
    assert not profiler.running
    assert not profiler.frame(1)
    with profiler:
        profiler.frame(2).finish()
    a = profiler.accounts
    assert (a.started, a.folded) == (1, 1)


def test_a_rejected_row_is_not_counted_as_lost() -> None:
    with Profiler(MIC) as profiler:
        profiler.record(1, (1, 2, 3, 2**62))
        profiler.record(2, (1, 2, 3, 4))
        assert profiler.trace().meta["lost"] == 0


def test_a_finished_frame_may_be_entered() -> None:
    with Profiler(MIC) as profiler:
        frames = profiler.frame(1), profiler.frame(2)
        for frame in frames:
            frame.finish()
        with frames[0]:
            assert not latprof.current_frame()
        assert not latprof.current_frame()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_two_threads_fork_at_once() -> None:
    """The second thread gets the lock of the fold while the first one still releases it."""

    class Hasty:
        """A profiler; another thread acquires its lock as soon as it is released."""

        def __init__(self) -> None:
            self.owner: list[int] = []
            self.free = threading.Event()

        @property
        def fold_lock(self) -> Any:
            return self

        def acquire(self) -> None:
            self.owner.append(threading.get_ident())

        def release(self) -> None:
            assert self.owner.pop(0) == threading.get_ident(), "released the lock of another thread"
            if not self.free.is_set():
                self.free.set()
                other.start()
                wait_for(lambda: self.owner)

    go = threading.Event()
    profiler: Any = Hasty()

    def fork() -> None:
        module._before_fork()
        go.wait(10)
        module._after_fork()

    other = threading.Thread(target=fork)
    module.RUNNING.add(profiler)
    try:
        module._before_fork()
        module._after_fork()
        go.set()
        other.join()
    finally:
        module.RUNNING.discard(profiler)
    assert profiler.owner == []
    assert module._held == {}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("where", ["start", "stop"])
def test_a_fork_while_another_thread_starts_or_stops(where: str) -> None:
    profiler = Profiler(MIC)
    child: list[bool] = []

    def fork_now(*_: object) -> None:
        module._before_fork()
        module._after_fork()
        child.append(profiler in module.RUNNING)

    if where == "start":
        profiler._recording.begin = lambda: fork_now()  # type: ignore[method-assign]
        profiler.start()
        profiler._recording.since = 0
        profiler.stop()
    else:
        profiler._outputs.tick = lambda *, final=False: fork_now()  # type: ignore[method-assign]
        profiler.start()
        profiler.stop()
    assert child[-1] is True
    assert profiler not in module.RUNNING


def test_a_start_while_another_thread_stops_begins_another_file(tmp_path: Path) -> None:
    profiler = Profiler(MIC, path=tmp_path / "mic.parquet", clock=young_clock)
    profiler.start()
    profiler.record(1, (1, 2, 3, 4))
    catch_up = profiler._fold.catch_up
    other = threading.Thread(target=profiler.start)

    def start_again(*, final: bool = False) -> None:
        profiler._fold.catch_up = catch_up  # type: ignore[method-assign]
        other.start()
        catch_up(final=final)

    profiler._fold.catch_up = start_again  # type: ignore[method-assign]
    profiler.stop()
    other.join()
    assert profiler.running
    profiler.record(2, (1, 2, 3, 4))
    profiler.stop()
    found = [latprof.read(path).frame_id.tolist() for path in sorted(tmp_path.iterdir())]
    assert sorted(found) == [[1], [2]]
    assert profiler.accounts.notes == {}
