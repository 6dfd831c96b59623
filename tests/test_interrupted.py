"""What a signal handler may do, wherever in the recorder it comes: it never waits for its own
thread, and nothing is counted twice or not at all.

The garbage collector comes in the same way: it closes generators that are in a frame's block.
"""

import dis
import itertools
import logging
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import latprof.accounts
from latprof import Pipeline, Profiler
from latprof.recorder.alerts import Tally
from latprof.recorder.frame import Frame

MIC = Pipeline.chain("mic", "decode", "play")
PACKAGE = str(Path(latprof.__file__).parent)


SIGNALS_AFTER = {"CALL", "CALL_FUNCTION_EX", "CALL_KW", "RESUME", "JUMP_BACKWARD"}
"""The instructions after which CPython looks for signals, and for other threads that wait."""


def interrupted(
    action: Callable[[], object], step: int, handler: Callable[[], object], real: bool
) -> bool:
    """Call `handler` before that instruction of `action`; return whether there are as many.

    `real`: only where a signal's handler may be called, else anywhere, as the collector may be.
    """
    steps, came = itertools.count(), False
    before: dict[FrameType, str] = {}

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal came
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        frame.f_trace_opcodes = True
        if event != "opcode":
            return trace
        last = before.get(frame, "RESUME")
        before[frame] = dis.opname[frame.f_code.co_code[frame.f_lasti]]
        if real and last not in SIGNALS_AFTER:
            return trace
        if next(steps) == step:
            came = True
            sys.settrace(None)
            handler()
        return None if came else trace

    sys.settrace(trace)
    try:
        action()
    finally:
        sys.settrace(None)
    return came


def at_every_step(
    action: Callable[[int], object],
    handler: Callable[[int], object],
    stride: int = 1,
    real: bool = False,
) -> int:
    """Interrupt `action` at one instruction after the other; return how often that was."""
    done: list[int] = []

    def run() -> None:
        for step in itertools.count(0, stride):
            n = len(done)
            came = interrupted(lambda n=n: action(n), step, lambda n=n: handler(n), real)
            if not came:
                break
            done.append(step)

    thread = threading.Thread(target=run, daemon=True)  # one that waits for itself stays
    thread.start()
    thread.join(60)
    assert not thread.is_alive(), f"hangs when it is interrupted at step {len(done) * stride}"
    return len(done)


def balanced(profiler: Profiler) -> latprof.accounts.Accounts:
    a = profiler.accounts
    committed = a.finished + sum(a.dropped.values())
    assert a.started == a.in_flight + committed + sum(a.rejected.values())
    assert committed == a.folded + a.not_folded + a.lost + a.torn
    assert min(a.in_flight, a.finished, a.folded, a.not_folded, a.lost, a.torn) >= 0
    return a


def test_counts() -> None:
    tallies = [Tally() for _ in range(1_000)]

    def count(n: int) -> None:
        tally = tallies[n]
        tally.add("late", 2)
        tally.add("new", 3)
        tally.add("late", -1)
        assert tally.total >= 4

    def handler(n: int) -> None:
        tallies[n].add("late")
        tallies[n].add("new", 4)
        tallies[n].add("other")
        tallies[n].read()

    times = at_every_step(count, handler)
    assert times > 50
    expected = {"late": 2, "new": 7, "other": 1}
    assert [tally.read() for tally in tallies[:times]] == [expected] * times


@pytest.mark.parametrize("same", [True, False])
def test_names_and_drops(tmp_path: Path, same: bool) -> None:
    path = tmp_path / "mic.ring"
    names = itertools.count()
    expected: dict[int, tuple[str, str]] = {}

    def drop(prefix: str, n: int) -> None:
        frame_id = next(names)
        name = f"{'same' if same else prefix} {n}"
        expected[frame_id] = name, f"late {name}"
        profiler.frame(frame_id, source=name).drop(f"late {name}")

    with Profiler(MIC, ring=path) as profiler:
        times = at_every_step(lambda n: drop("a", n), lambda n: drop("b", n))
    assert times > 100
    a = balanced(profiler)
    assert sum(a.dropped.values()) == a.started == 2 * times + 1
    assert a.notes == {}
    for trace in (profiler.trace(), latprof.recover(path)):
        assert trace.source is not None
        assert trace.outcome is not None
        found = zip(
            trace.source.to_numpy().tolist(), trace.outcome.to_numpy().tolist(), strict=True
        )
        assert dict(zip(trace.frame_id.tolist(), found, strict=True)) == expected
    groups = set(profiler.report().profile.groups)
    assert groups <= {source for source, _ in expected.values()} | {"(other)"}


def test_names_beyond_the_table(tmp_path: Path) -> None:
    """A long name takes a thousand bytes of the file's 262,144, whoever brings it."""
    with Profiler(MIC, ring=tmp_path / "mic.ring") as profiler:
        times = at_every_step(
            lambda n: profiler.frame(n, source=f"{n} " * 500).finish(),
            lambda n: profiler.frame(10**6 + n, source=f"b{n} " * 300).finish(),
        )
    assert times > 100
    trace = latprof.recover(tmp_path / "mic.ring")
    assert trace.recovery is not None
    assert (trace.recovery.whole, trace.recovery.refused) == (2 * times + 1, 0)
    assert trace.source is not None
    for frame_id, source in zip(trace.frame_id.tolist(), trace.source.to_numpy(), strict=True):
        begin = f"{frame_id} " if frame_id < 10**6 else f"b{frame_id - 10**6} "
        assert source == "(other)" or source.startswith(begin)
    a = balanced(profiler)
    assert a.notes["names beyond the table"] == (trace.source.to_numpy() == "(other)").sum() > 0


def test_thresholds() -> None:
    log = logging.Logger("interrupted")
    log.addHandler(logging.NullHandler())
    with Profiler(MIC, critical=1, logger=log) as profiler:
        times = at_every_step(
            lambda n: profiler.frame(n, start=1).finish(at=100),
            lambda n: profiler.frame(10**6 + n, start=1).finish(at=100),
        )
    assert times > 100
    a = balanced(profiler)
    assert a.notes["criticals"] == a.finished == 2 * times + 1


def test_reports_and_bad_stamps() -> None:
    """A report on demand, by SIGUSR1 say, that comes while one is made."""
    profiler = Profiler(MIC, capacity=64)
    ids = itertools.count()

    def frames(count: int) -> None:
        for _ in range(count):
            profiler.record(next(ids), (1, 2, 3, 4))
            profiler.record(next(ids), (1, 2, 3, 2**62))
            profiler.record(-1, (1, 2, 3, 4))

    def handler(n: int) -> None:
        frames(2)
        profiler.report()
        profiler.trace()
        profiler._fold.step()
        balanced(profiler)

    def report(n: int) -> None:
        frames(5)
        profiler._fold.catch_up()
        balanced(profiler)

    profiler._hot.switch(True)  # no thread: here everything is folded by who asks
    times = at_every_step(report, handler, stride=17)
    assert times > 100
    profiler.report()
    a = balanced(profiler)
    assert a.started == 3 * (7 * times + 5)
    assert (a.in_flight, a.not_folded) == (0, 0)
    assert profiler.report().profile.frames == a.folded


@pytest.mark.parametrize("first", [True, False])
def test_the_process_wide_profiler(monkeypatch: pytest.MonkeyPatch, first: bool) -> None:
    monkeypatch.setattr("latprof.recorder.process._shared", None)
    made: set[Profiler] = set()

    def use(n: int) -> None:
        if first:
            monkeypatch.setattr("latprof.recorder.process._shared", None)
        made.add(latprof.get_profiler())
        with latprof.profile_frame(n):
            pass

    def handler(n: int) -> None:
        with latprof.profile_frame(n):
            pass

    assert at_every_step(use, handler, stride=301 if first else 1) > 5


def test_a_stop_in_the_middle_of_a_report(tmp_path: Path) -> None:
    """As a handler of SIGTERM stops."""
    profilers: list[Profiler] = []

    def report(n: int) -> None:
        profiler = Profiler(MIC, path=tmp_path / f"{n}.parquet")
        profiler._cost_ns = 1.0  # is measured for a millisecond: what it does is in other tests
        profilers.append(profiler)
        profiler.start()
        profiler.record(n, (1, 2, 3, 4))
        profiler.report()
        profiler.stop()

    def handler(n: int) -> None:
        if len(profilers) > n and profilers[n].running:
            profilers[n].stop()
            assert not profilers[n].running

    times = at_every_step(report, handler, stride=1_499)
    assert times > 10
    for thread in threading.enumerate():
        if thread.name == "latprof-stop":
            thread.join(10)
    for n, profiler in enumerate(profilers):
        a = balanced(profiler)
        assert a.folded == a.started
        # one that was stamped in the middle of it comes after the file was closed
        late = a.notes.get("frames not written to the trace file", 0)
        assert len(latprof.read(tmp_path / f"{n}.parquet")) == a.folded - late


@pytest.mark.parametrize("how", ["finish", "finish at", "drop", "with"])
def test_a_frame_that_two_finish_is_there_once(how: str) -> None:
    """A timeout's handler gives a frame up while it is being finished, or finishes it, too."""
    log = logging.Logger("interrupted")
    log.addHandler(logging.NullHandler())
    frames: list[Frame] = []

    def end(n: int) -> None:
        frame = profiler.frame(n)
        frames.append(frame)
        if how == "with":
            with frame:
                pass
        elif how == "drop":
            frame.drop("late")
        else:
            frame.finish(*([2**61] if how == "finish at" else []))

    def handler(n: int) -> None:
        if len(frames) > n:
            if n % 2:
                frames[n].drop("timeout")
            else:
                frames[n].finish()

    with Profiler(MIC, logger=log) as profiler:
        times = at_every_step(end, handler, real=True)
    assert times > 5
    a = balanced(profiler)
    assert (a.started, a.in_flight, a.folded) == (times + 1, 0, times + 1)
    assert profiler.trace().frame_id.tolist() == list(range(times + 1))
