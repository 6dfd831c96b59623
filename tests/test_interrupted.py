"""Signal handlers at any instruction of the recorder: no deadlock, and all counts stay exact.

The garbage collector interrupts the recorder in the same way if it closes generators inside the
block of a frame.
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
from profiling import MIC, balanced

import latprof.accounts
from latprof import Profiler
from latprof.recorder import _core_python, implementation
from latprof.recorder.alerts import Tally
from latprof.recorder.implementation import Frame


@pytest.fixture(autouse=True)
def python_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """No signal handler runs inside a call of the core in C, unless it calls Python."""
    monkeypatch.setattr(implementation, "Core", _core_python.Core)


PACKAGE = str(Path(latprof.__file__).parent)


SIGNALS_AFTER = {"CALL", "CALL_FUNCTION_EX", "CALL_KW", "RESUME", "JUMP_BACKWARD"}
"""Instructions after which CPython handles signals and switches threads."""


def interrupted(action: Callable[[], object], step: int, handler: Callable[[], object]) -> bool:
    """Call `handler` before instruction `step` of `action`; return False if there are fewer.

    Only instructions count at which CPython may call a signal handler.
    """
    steps, reached = itertools.count(), False
    before: dict[FrameType, str] = {}

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal reached
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        frame.f_trace_opcodes = True
        if event != "opcode":
            return trace
        last = before.get(frame, "RESUME")
        before[frame] = dis.opname[frame.f_code.co_code[frame.f_lasti]]
        if last not in SIGNALS_AFTER:
            return trace
        if next(steps) == step:
            reached = True
            sys.settrace(None)
            handler()
        return None if reached else trace

    sys._getframe().f_trace_opcodes = True  # CPython 3.12 looks for it when tracing begins
    sys.settrace(trace)
    try:
        action()
    finally:
        sys.settrace(None)
    return reached


def at_every_step(
    action: Callable[[int], object],
    handler: Callable[[int], object],
    stride: int = 1,
) -> int:
    """Interrupt `action` at every `stride`-th instruction; return the number of interruptions."""
    done: list[int] = []

    def run() -> None:
        for step in itertools.count(0, stride):
            n = len(done)
            reached = interrupted(lambda n=n: action(n), step, lambda n=n: handler(n))
            if not reached:
                break
            done.append(step)

    thread = threading.Thread(target=run, daemon=True)  # a deadlock ends with the process
    thread.start()
    before = -1
    while thread.is_alive() and before < len(done):  # all steps together may take minutes
        before = len(done)
        thread.join(60)
    assert not thread.is_alive(), f"deadlock if it is interrupted at step {len(done) * stride}"
    return len(done)


def test_tallies_count_additions_of_a_handler() -> None:
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
    assert times > 10
    expected = {"late": 2, "new": 7, "other": 1}
    assert [tally.read() for tally in tallies[:times]] == [expected] * times


@pytest.mark.parametrize("stride", [3, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("same", [True, False])
def test_names_get_one_code_each(tmp_path: Path, same: bool, stride: int) -> None:
    path = tmp_path / "mic.ring"
    names = itertools.count()
    expected: dict[int, tuple[str, str]] = {}

    def drop(prefix: str, n: int) -> None:
        frame_id = next(names)
        name = f"{'same' if same else prefix} {n}"
        expected[frame_id] = name, f"late {name}"
        profiler.frame(frame_id, source=name).drop(f"late {name}")

    with Profiler(MIC, ring=path) as profiler:
        times = at_every_step(lambda n: drop("a", n), lambda n: drop("b", n), stride)
    assert times > 30
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
    assert groups <= {source for source, _ in expected.values()} | {"(others)"}


def test_names_beyond_the_table_share_one_name(tmp_path: Path) -> None:
    """Each long name takes about a thousand of the 2,097,152 bytes for names in the file."""
    before = 2_055
    with Profiler(MIC, ring=tmp_path / "mic.ring") as profiler:
        for n in range(before):
            profiler.frame(n, source=f"{n} " * 500).finish()
        times = at_every_step(
            lambda n: profiler.frame(before + n, source=f"{before + n} " * 500).finish(),
            lambda n: profiler.frame(10**6 + n, source=f"b{n} " * 300).finish(),
        )
    assert times > 30
    trace = latprof.recover(tmp_path / "mic.ring")
    assert trace.recovery is not None
    assert (trace.recovery.whole, trace.recovery.refused) == (before + 2 * times + 1, 0)
    assert trace.source is not None
    for frame_id, source in zip(trace.frame_id.tolist(), trace.source.to_numpy(), strict=True):
        begin = f"{frame_id} " if frame_id < 10**6 else f"b{frame_id - 10**6} "
        assert source == "(others)" or source.startswith(begin)
    a = balanced(profiler)
    assert a.notes["names beyond the table"] == (trace.source.to_numpy() == "(others)").sum() > 0


def test_violations_of_a_handler_are_counted() -> None:
    log = logging.Logger("interrupted")
    log.addHandler(logging.NullHandler())
    with Profiler(MIC, critical=1, logger=log) as profiler:
        times = at_every_step(
            lambda n: profiler.frame(n, start=1).finish(at=100),
            lambda n: profiler.frame(10**6 + n, start=1).finish(at=100),
        )
    assert times > 30
    a = balanced(profiler)
    assert a.notes["criticals"] == a.finished == 2 * times + 1


@pytest.mark.parametrize("stride", [131, pytest.param(17, marks=pytest.mark.slow)])
def test_a_report_may_be_made_inside_a_report(stride: int) -> None:
    """As a handler of SIGUSR1 might do."""
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

    profiler._core.start()  # without a thread: reports fold everything
    times = at_every_step(report, handler, stride=stride)
    assert times > 10
    profiler.report()
    a = balanced(profiler)
    assert a.started == 3 * (7 * times + 5)
    assert (a.in_flight, a.not_folded) == (0, 0)
    assert profiler.report().profile.frames == a.folded


@pytest.mark.parametrize("first", [True, False])
def test_a_handler_may_use_the_process_wide_profiler(
    monkeypatch: pytest.MonkeyPatch, first: bool
) -> None:
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

    assert at_every_step(use, handler, stride=101 if first else 1) > 5


@pytest.mark.parametrize("stride", [499, pytest.param(97, marks=pytest.mark.slow)])
def test_a_handler_may_stop_the_profiler_inside_a_report(tmp_path: Path, stride: int) -> None:
    """As a handler of SIGTERM might do."""
    profilers: list[Profiler] = []

    def report(n: int) -> None:
        profiler = Profiler(MIC, path=tmp_path / f"{n}.parquet")
        profiler._cost_ns = 1.0  # the measurement takes a millisecond and is tested elsewhere
        profilers.append(profiler)
        profiler.start()
        profiler.record(n, (1, 2, 3, 4))
        profiler.report()
        profiler.stop()

    def handler(n: int) -> None:
        if len(profilers) > n and profilers[n].running:
            profilers[n].stop()
            assert not profilers[n].running

    times = at_every_step(report, handler, stride=stride)
    assert times > 5
    for n, profiler in enumerate(profilers):
        a = balanced(profiler)
        assert a.folded == a.started
        # a frame that is stamped during the stop comes after the file was closed
        late = a.notes.get("frames not written to the trace file", 0)
        assert len(latprof.read(tmp_path / f"{n}.parquet")) == a.folded - late


@pytest.mark.parametrize("how", ["finish", "finish at", "drop", "with"])
def test_a_frame_that_is_finished_twice_is_recorded_once(how: str) -> None:
    """The handler of a time-out drops or finishes a frame while it is being finished."""
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
        times = at_every_step(end, handler)
    assert times > 5
    a = balanced(profiler)
    assert (a.started, a.in_flight, a.folded) == (times + 1, 0, times + 1)
    assert profiler.trace().frame_id.tolist() == list(range(times + 1))
