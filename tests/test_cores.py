"""The core in C and its twin in Python: the same calls under the same clock give the same bytes."""

import contextlib
import gc
import itertools
import logging
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from needs import require
from profiling import MIC
from strategies import examples

from latprof.errors import LatprofError
from latprof.recorder import _core_python, implementation
from latprof.recorder.alerts import Alerts
from latprof.recorder.implementation import CURRENT, make_core
from latprof.recorder.profiler import Profiler
from latprof.ring.layout import row_dtype
from latprof.ring.ring import Ring

TAGS = "endpoint", "status", "host"
LIMIT = 2**62 - 10**15  # stamps must be below: the wall clock is 10**15 ns ahead
SLOTS = 3


def module(name: str) -> ModuleType:
    return require("latprof.recorder._core") if name == "c" else _core_python


@contextlib.contextmanager
def core_of(name: str) -> Iterator[None]:
    """Let `make_core` use one of the implementations."""
    before = implementation.Core
    implementation.Core = module(name).Core  # type: ignore[misc]
    try:
        yield
    finally:
        implementation.Core = before  # type: ignore[misc]


class Index:
    """An integer of another type."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __index__(self) -> int:
        return self.value


class Refuses:
    def __index__(self) -> int:
        raise ValueError

    def __str__(self) -> str:
        raise ValueError


class Machine:
    """One core with a ring and slots in memory, and all that calls have shown so far."""

    def __init__(self, name: str, **how: Any) -> None:
        self.seen: list[Any] = []
        self.now: Any = 100
        log = logging.Logger("cores")
        log.addHandler(logging.NullHandler())
        thresholds = {"end_to_end": 50, "decode": 20}
        owned = how.pop("owned", MIC.marks)
        has_slots, is_started = how.pop("has_slots", True), how.pop("is_started", True)
        if set(MIC.marks) - set(owned):
            thresholds = {}
        self.alerts = Alerts(log, thresholds, {}, now=lambda: 0)
        self.ring = Ring(MIC, how.pop("capacity", 5), tags=TAGS)
        if has_slots:
            self.ring.slots = bytearray(SLOTS * self.ring.width)
        with core_of(name):
            self.core, self.incidents = make_core(
                self.ring, self.clock, owned, self.alerts, offset_ns=10**15, **how
            )
        if is_started:
            self.core.start()
        self.core.rss, self.core.cpu = 77, 12.5
        self.frames: list[Any] = []

    def clock(self) -> Any:
        if self.now is None:
            raise ArithmeticError("no clock")
        if isinstance(self.now, int):
            self.now += 7
        return self.now

    def call(self, step: tuple[Any, ...]) -> None:
        name, *rest = step
        try:
            self.seen.append(self.do(name, *rest))
        except (LatprofError, TypeError, ArithmeticError) as error:
            self.seen.append((type(error).__name__, str(error) * isinstance(error, LatprofError)))

    def do(self, name: str, *rest: Any) -> Any:
        if name == "clock":
            self.now = rest[0]
        elif name == "frame":
            positional, named = rest
            frame = self.core.frame(*positional, **named)
            self.frames.append(frame)
            return bool(frame)
        elif name == "record":
            return self.core.record(rest[0], rest[1], **rest[2])
        elif name in ("start", "stop"):
            getattr(self.core, name)()
        elif name == "limit":
            self.core.limit = self.core.drawn + rest[0]
        elif name == "forget":
            del self.frames[rest[0] % (len(self.frames) or 1) :]
        elif name == "rows":
            rows = np.zeros(rest[0], self.ring.dtype)
            rows["frame_id"], rows["weight"] = np.arange(rest[0]), 1
            return self.core.write_rows(rows)
        elif self.frames:
            frame = self.frames[rest[0] % len(self.frames)]
            if name == "repr":
                return repr(frame)
            if name == "with":
                with contextlib.suppress(KeyError), frame as same:
                    inside = CURRENT.get() is frame
                    if rest[1]:
                        raise KeyError
                    return same is frame, inside, CURRENT.get() is frame
                return frame.finished, CURRENT.get() is None
            return getattr(frame, name)(*rest[1], **rest[2])
        return None

    def state(self) -> dict[str, Any]:
        """Return everything that the two cores must agree on."""
        core = self.core
        slots = np.frombuffer(self.ring.slots or b"", self.ring.dtype).copy()
        slots = slots[slots["begin"] != 0]
        assert (slots["rss"] > 0).all()
        return {
            "rows": bytes(self.ring.buffer),
            "slots": slots.tobytes(),
            "counts": (core.started, core.skipped, core.drawn, core.refused, core.unprotected),
            "ends": (core.tombstones, dict(core.dropped), self.incidents.rejections.read()),
            "notes": self.alerts.notes.read(),
            "names": (self.ring.sources.table, self.ring.outcomes.table),
            "tags": [table.table for table in self.ring.tags],
            "finished": [frame.finished for frame in self.frames],
            "current": CURRENT.get(),
            "seen": self.seen,
        }


odd = st.sampled_from([None, -1, 0, 1, 63, 64, 2**31, 2**32 - 1, 2**32, 2**63, 2**64 - 1, 2**64])
odd |= st.sampled_from([10**30, True, 1.5, float("nan"), "7", "", [1], (), np.uint64(9)])
odd |= st.sampled_from([np.int32(-3), Index(8), Index(-8), Refuses()])
stamp = st.one_of(st.integers(1, 500), st.sampled_from([0, LIMIT - 1, LIMIT, 2**62]), odd)
name = st.sampled_from([*MIC.marks, "decode", "nope", "de" + "code", 5, [1], (), None])
text = st.sampled_from([None, "a", "b", "", "\udcff", "finished", 5, [2], (), (1, 2), 200])
text |= st.sampled_from([10**5_000, Refuses()])
tag = st.sampled_from([*TAGS, "nope", 7])
tags = st.one_of(st.none(), st.dictionaries(tag, text, max_size=3), st.just([("endpoint", "x")]))
which = st.integers(0, 9)
keywords = st.fixed_dictionaries(
    {}, optional={"size": odd, "source": text, "tags": tags, "nope": st.just(1)}
)
at = st.one_of(st.just(()), stamp.map(lambda value: (value,)))
step = st.one_of(
    st.tuples(
        st.just("frame"),
        st.one_of(st.tuples(st.integers(0, 300)), st.tuples(odd), st.tuples(odd, odd)),
        st.tuples(keywords, stamp, st.booleans()).map(
            lambda given: given[0] | ({"start": given[1]} if given[2] else {})
        ),
    ),
    st.tuples(st.just("mark"), which, st.tuples(name), st.just({})),
    st.tuples(st.just("mark"), which, st.tuples(name, stamp), st.just({})),
    st.tuples(st.just("tag"), which, st.tuples(tag, text), st.just({})),
    st.tuples(st.just("finish"), which, at, st.just({})),
    st.tuples(st.just("finish"), which, st.just(()), st.just({})),
    st.tuples(st.just("drop"), which, st.tuples(text), st.just({})),
    st.tuples(st.just("drop"), which, st.tuples(text), stamp.map(lambda value: {"at": value})),
    st.tuples(st.just("stamp"), which, st.tuples(st.just(1), st.booleans()), st.just({})),
    st.tuples(st.just("with"), which, st.booleans()),
    st.tuples(st.just("repr"), which),
    st.tuples(
        st.just("record"),
        st.one_of(st.integers(0, 300), odd),
        st.one_of(st.lists(stamp, min_size=4, max_size=4), st.lists(stamp, max_size=5), odd),
        keywords,
    ),
    st.tuples(
        st.just("record"),
        st.integers(0, 300),
        st.lists(st.integers(0, 900), min_size=4, max_size=4).map(lambda stamps: np.array(stamps)),
        st.just({}),
    ),
    st.tuples(st.sampled_from(["start", "stop", "start"])),
    st.tuples(st.just("limit"), st.integers(0, 4)),
    st.tuples(st.just("forget"), which),
    st.tuples(st.just("rows"), st.integers(0, 9)),
    st.tuples(st.just("clock"), st.sampled_from([None, "noon", 1.5, -5, 0, LIMIT, 500, 1_000])),
)
how = st.fixed_dictionaries(
    {
        "owned": st.sampled_from([MIC.marks, MIC.marks, ("start", "play"), ("decode", "end")]),
        "sampled_below": st.sampled_from([2**64, 2**64, 2**63, 0]),
        "capacity": st.integers(1, 6),
        "has_slots": st.booleans(),
        "track_current": st.booleans(),
    }
)


@pytest.fixture(scope="module")
def c_core() -> None:
    """Skip the test where the C core is not built."""
    require("latprof.recorder._core")


@pytest.mark.usefixtures("c_core")
@settings(max_examples=examples(300), deadline=None)
@given(how, st.lists(step, max_size=40))
@example({}, [("frame", (1,), {}), ("mark", 0, ("decode",), {}), ("finish", 0, (), {})])
@example({}, [("frame", (Index(-8),), {}), ("repr", 0)])
@example({}, [("clock", None), ("frame", (0,), {"start": 1}), ("drop", 0, ("late",), {})])
@example({}, [("record", 0, [1, 1, np.uint64(9), ()], {})])
@example({}, [("record", 0, [1, np.uint64(9), 1, 1], {})])
@example({"owned": ("decode", "end")}, [("record", 0, ["", 1, 1, 1], {})])
@example({"owned": ("decode", "end")}, [("record", 0, [0.0, 0, 1, 1], {})])
@example({}, [("frame", (0,), {}), ("clock", None), ("finish", 0, (), {}), ("repr", 0)])
def test_both_cores_do_the_same(how: dict[str, Any], steps: list[tuple[Any, ...]]) -> None:
    cores = [Machine(name, **how) for name in ("c", "python")]
    for step in steps:
        for machine in cores:
            machine.call(step)
    one, two = (machine.state() for machine in cores)
    for what in one:
        assert one[what] == two[what], what


@pytest.mark.parametrize("name", ["c", "python"])
def test_a_row_has_the_bytes_of_its_fields(name: str) -> None:
    machine = Machine(name, has_slots=False)
    machine.core.record(7, (1, 0, 3, 4), 960, "in", tags={"status": 200})
    (row,) = np.frombuffer(machine.ring.buffer, row_dtype(MIC, TAGS))[:1]
    assert (row["begin"], row["frame_id"], row["seq"]) == (1, 7, 1)
    assert [int(row[mark]) for mark in MIC.marks] == [1, 0, 3, 4]
    assert (row["size"], row["source"], row["outcome"], row["rss"]) == (960, 1, 0, 77)
    assert (row["cpu"], row["weight"]) == (12.5, 1)
    assert [int(row[f"tag {k}"]) for k in range(3)] == [0, 1, 0]
    assert machine.ring.tags[1].table == [None, "200"]


@pytest.mark.parametrize("name", ["c", "python"])
def test_the_repr_of_a_frame_shows_its_marks(name: str) -> None:
    core = Machine(name).core
    frame = core.frame(7, source="in", start=1_000)
    frame.mark("decode", at=3_501_000)
    assert repr(frame) == "<frame 7 of in, in flight: start +0 ns, decode +3.50 ms>"
    frame.finish(at=0)
    assert repr(frame) == "<frame 7 of in, finished: start +0 ns, decode +3.50 ms>"
    assert repr(core.frame("seven", start=0)) == "<frame 'seven', in flight: no marks>"
    core.stop()
    assert repr(core.frame(8)) == "<no frame>"


@pytest.mark.parametrize("name", ["c", "python"])
def test_calls_before_the_first_start_are_counted(name: str) -> None:
    machine = Machine(name, is_started=False)
    core, notes = machine.core, machine.alerts.notes
    assert not core.begun
    assert not core.frame(1)
    assert core.record(2, (1, 2, 3, 4)) is None
    assert notes.read() == {"calls of a profiler that was never started": 2}
    core.start()
    assert core.frame(3)
    core.stop()
    assert core.begun
    assert not core.frame(4)
    core.record(5, (1, 2, 3, 4))
    assert notes.read() == {"calls of a profiler that was never started": 2}
    assert core.started == 1


@pytest.mark.parametrize("name", ["c", "python"])
def test_a_clock_that_raises_leaves_no_frame_in_flight(name: str) -> None:
    machine = Machine(name)
    core = machine.core
    frame = core.frame(1)
    machine.now = None
    with pytest.raises(ArithmeticError):
        frame.mark("decode")
    with pytest.raises(ArithmeticError), frame:
        pass
    with pytest.raises(ArithmeticError):
        core.frame(2)
    assert core.started == core.drawn == core.tombstones == 1
    assert not np.frombuffer(machine.ring.slots, machine.ring.dtype)["begin"].any()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["c", "python"])
def test_a_million_frames_leave_no_reference_and_no_byte(name: str) -> None:
    machine = Machine(name, capacity=64)
    core, tags = machine.core, {"endpoint": "/cart"}
    numbers = itertools.count()

    def some(count: int) -> None:
        for n in itertools.islice(numbers, count):
            with core.frame(n, size=9, source="in", tags=tags) as frame:
                frame.mark("decode")
                frame.tag("status", n % 7)
            core.frame(n).drop("late")
            core.record(n, (1, 2, 3, 4), source="in")
            core.frame(n)  # given up
            if not n % 100:
                core.frame("x").finish()
                with contextlib.suppress(LatprofError):
                    core.frame(n).mark("nope")

    some(2_000)
    watched = core, machine.incidents, tags, MIC.marks, CURRENT, None, "late", "in"
    gc.collect()
    tracemalloc.start()
    some(1_000)
    before = [sys.getrefcount(value) for value in watched]
    size = tracemalloc.get_traced_memory()[0]
    some(250_000 if name == "c" else 25_000)
    gc.collect()
    after = [sys.getrefcount(value) for value in watched]
    grown = tracemalloc.get_traced_memory()[0] - size
    tracemalloc.stop()
    assert all(abs(a - b) < 20 for a, b in zip(after, before, strict=True)), (before, after)
    assert grown < 20_000  # larger integers in the counters, and the tables of hash maps


def test_a_missing_extension_is_an_error_if_it_is_asked_for() -> None:
    code = """
import importlib.abc, sys
class Hidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "latprof.recorder._core":
            raise ImportError("no such file")
sys.meta_path.insert(0, Hidden())
import latprof
try:
    print(latprof.__impl__)
except ImportError as error:
    print(error)
"""
    for wanted, said in (("auto", "python\n"), ("python", "python\n"), ("c", "no such file; in")):
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            env={**__import__("os").environ, "LATPROF_IMPL": wanted},
        )
        assert said in done.stdout, done
    assert "LATPROF_IMPL=python" in done.stdout


def test_the_core_in_python_stores_earlier_rows_of_a_batch_before_it_draws_later_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # otherwise the background, which looks at all drawn numbers, may fold later rows first
    monkeypatch.setattr(implementation, "Core", _core_python.Core)
    store, seen = _core_python.store_rows, []

    def stored(array: Any, rows: Any, first: int) -> None:
        seen.append((first, first + len(rows) - 1, profiler._core.drawn))
        store(array, rows, first)

    monkeypatch.setattr(_core_python, "store_rows", stored)
    with Profiler(MIC, capacity=1 << 16) as profiler:
        stamps = np.full((20_000, 4), profiler._core.clock())
        profiler.record_many(np.arange(20_000), stamps)
    assert [last == drawn for _, last, drawn in seen] == [True] * len(seen)
    assert [first for first, _, _ in seen] == [1, *(last + 1 for _, last, _ in seen[:-1])]
    assert len(seen) > 1
    assert profiler.accounts.folded == 20_000
