"""The recording methods of a profiler, also of subclasses; what keeps a profiler alive."""

import copy
import gc
import inspect
import os
import pickle
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from profiling import MIC, young_clock

import latprof
from latprof import Frame, PipelineError, Profiler, ProfilerError
from latprof.pipeline import Pipeline

NET = Pipeline.chain("net", "read", "parse", "reply", "close")


def test_profilers_do_not_share_state() -> None:
    with Profiler(MIC, capacity=4, clock=young_clock) as mic, Profiler(NET, critical="1ns") as net:
        for n in range(10):
            one, two = mic.frame(n, source="a"), net.frame(n, 7)
            two.mark("read")
            one.mark("decode")
            with pytest.raises(
                PipelineError, match="mark must be a mark of pipeline 'mic', got 'read'"
            ):
                one.mark("read")
            two.mark("reply", at=5)
            two.finish()
            mic.record(100 + n, (1, 2, 3, 4))
            one.finish()
    assert mic.trace().frame_id.tolist() == [108, 8, 109, 9]
    assert net.trace().frame_id.tolist() == list(range(10))
    assert net.trace().marks["reply"].tolist() == [5 + net.clock_offset_ns] * 10
    assert mic.accounts.notes == {"unknown mark": 10}
    assert net.accounts.notes["criticals"] == 10


def test_functions_looked_up_before_the_start_record() -> None:
    profiler = Profiler(MIC)
    frame, record = profiler.frame, profiler.record
    assert not frame(1)
    record(2, (1, 2, 3, 4))
    with profiler:
        frame(3).finish()
        record(4, (1, 2, 3, 4))
    record(5, (1, 2, 3, 4))
    assert profiler.trace().frame_id.tolist() == [3, 4]


@pytest.mark.parametrize("rate", [1.0, 0.999_999])
def test_a_subclass_may_override_methods(rate: float) -> None:
    class Numbered(Profiler):
        """Numbers its frames."""

        count = 0

        def frame(self, *args: Any, **known: Any) -> Any:
            self.count += 1
            return super().frame(self.count, *args, **known)

        def record(self, frame_id: int, *args: Any, **known: Any) -> None:
            super().record(frame_id + 1_000, *args, **known)

    with Numbered(MIC, sampling_rate=rate) as profiler:
        profiler.frame(size=9).finish()
        profiler.frame(source="b", start=1).finish()
        profiler.record(1, (1, 2, 3, 4), source="c")
    assert isinstance(profiler, Numbered)
    trace = profiler.trace()
    assert trace.frame_id.tolist() == [1, 2, 1_001]
    assert trace.source.to_numpy().tolist() == [None, "b", "c"]
    kind = type(profiler)
    assert (kind.__doc__, kind.__module__) == ("Numbers its frames.", __name__)


def test_calling_init_again_resets_the_profiler() -> None:
    profiler = Profiler(MIC)
    with profiler:
        profiler.frame(1).finish()
    profiler.__init__(MIC, sampling_rate=0.999_999)  # type: ignore[misc]
    with profiler:
        profiler.frame(2).finish()
        profiler.record(3, (1, 2, 3, 4))
    assert profiler.trace().frame_id.tolist() == [2, 3]


@pytest.mark.parametrize("take", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_profiler_cannot_be_copied(take: Any) -> None:
    with pytest.raises(ProfilerError, match="cannot be copied or pickled; make a new one"):
        take(Profiler(MIC))


def test_a_singleton_that_is_initialized_again_records() -> None:
    class Only(Profiler):
        one: Any = None

        def __new__(cls, *args: Any, **settings: Any) -> "Only":
            cls.one = cls.one or super().__new__(cls)
            return cls.one

    plain = Profiler(NET)
    plain.__init__(MIC, capacity=4)  # type: ignore[misc]
    Only(NET)
    for profiler in (plain, Only(MIC, capacity=4)):
        with profiler:
            profiler.frame(1).finish()
            profiler.record(2, (1, 2, 3, 4))
        assert profiler.trace().frame_id.tolist() == [1, 2]


class Index:
    """An integer that cannot be subtracted."""

    def __index__(self) -> int:
        return 5


@pytest.mark.parametrize("start", [np.int32(5), np.uint8(5), Index()])
def test_any_integer_may_be_a_start_that_is_compared_with_a_threshold(start: Any) -> None:
    profiler = Profiler(MIC, clock=lambda: 10**15, critical="1s")
    with profiler:
        profiler.frame(1, start=start).finish()
        frame = profiler.frame(2, start=0)
        frame.mark("start", at=start)
        frame.finish()
    assert (profiler.trace().marks["start"] - profiler.clock_offset_ns).tolist() == [5, 5]
    assert profiler.accounts.notes == {"criticals": 2}


def test_subclasses_may_have_metaclasses_and_constructors_of_their_own() -> None:
    class Meta(type):
        def __new__(cls, *args: Any, tag: str, **known: Any) -> Any:
            return super().__new__(cls, *args, **known)

        def __init__(cls, *args: Any, **known: Any) -> None:
            super().__init__(*args)

    class Named:
        def __new__(cls, *args: Any, **settings: Any) -> Any:
            made = super().__new__(cls)
            made.args = args
            return made

    titles = []

    class Counted(Profiler, Named, metaclass=Meta, tag="a"):
        made = 0

        def __init_subclass__(cls, *, title: str) -> None:
            titles.append(title)

        def __init__(self, *args: Any, **settings: Any) -> None:
            super().__init__(*args, **settings)
            type(self).made += 1

    class Titled(Counted, title="t", tag="b"):
        pass

    one, two = Titled(MIC), Titled(MIC)
    with one, two:
        one.frame(1).finish()
        two.frame(2, start=5).finish()
        two.record(3, (1, 2, 3, 4))
    assert one.trace().frame_id.tolist() == [1]
    assert two.trace().frame_id.tolist() == [2, 3]
    assert (Titled.made, titles, one.args) == (2, ["t"], (MIC,))


def test_the_signature_of_a_class_is_that_of_its_init() -> None:
    class Own(Profiler):
        def __init__(self, pipeline: Pipeline, *, title: str) -> None:
            super().__init__(pipeline)

    for kind in (Profiler, Own):
        signature, known = inspect.signature(kind), inspect.signature(kind.__init__)
        assert [*signature.parameters] == [*known.parameters][1:]
    assert [*inspect.signature(Own).parameters] == ["pipeline", "title"]
    assert "capacity" in inspect.signature(Profiler).parameters


def test_recording_functions_have_documentation_and_named_arguments() -> None:
    profiler = Profiler(MIC)
    for name in ("frame", "record"):
        named = [*inspect.signature(getattr(profiler, name)).parameters]
        assert named[0] == "frame_id"
        documentation = str(inspect.getdoc(getattr(Profiler, name)))
        for argument in named:
            assert argument in documentation
        assert ", ".join(named[:1]) in documentation.splitlines()[2]
    assert "stamp taken elsewhere" in str(inspect.getdoc(Frame.mark))


@pytest.mark.parametrize("running", [False, True])
def test_the_last_reference_frees_ring_file_and_thread(tmp_path: Path, running: bool) -> None:
    gc.disable()  # without the collector: there are no reference cycles
    try:
        files, threads = os.listdir("/proc/self/fd"), threading.active_count()
        for n in range(5):
            profiler = Profiler(MIC, ring=tmp_path / f"{n}.ring", path=tmp_path / f"{n}.parquet")
            profiler.start()
            profiler.frame(1).finish()
            profiler.report()
            if not running:
                profiler.stop()
            parts = [weakref.ref(part) for part in (profiler, profiler._ring, profiler._fold)]
            del profiler
            # the background thread may be about to leave its last call
            deadline = time.monotonic() + 10
            while any(part() is not None for part in parts) and time.monotonic() < deadline:
                time.sleep(0.005)
            assert [part() for part in parts] == [None] * 3
            assert len(latprof.read(tmp_path / f"{n}.parquet")) == 1
        assert len(os.listdir("/proc/self/fd")) <= len(files)
        assert threading.active_count() == threads
    finally:
        gc.enable()
