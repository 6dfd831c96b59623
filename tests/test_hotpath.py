"""The functions of the hot path: each profiler has its own copies in place of its methods."""

import copy
import gc
import inspect
import pickle
import weakref
from typing import Any

import numpy as np
import pytest
from profiling import MIC

from latprof import PipelineError, Profiler, ProfilerError
from latprof.pipeline import Pipeline
from latprof.recorder import stamping

NET = Pipeline.chain("net", "read", "parse", "reply", "close")


def test_all_declared_names_have_a_value_in_each_profiler() -> None:
    hot = Profiler(MIC)._hot
    assert stamping.__annotations__.keys() <= hot._names.keys()
    # no value of one profiler is left in the module, where another would find it
    assert not stamping.__annotations__.keys() & vars(stamping).keys()
    other = Profiler(MIC)._hot
    mine, theirs = ((h.frame, h.record, h.live.mark, h.live.finish) for h in (hot, other))
    for one, two in zip(mine, theirs, strict=True):
        assert one.__globals__ is hot._names
        assert one.__code__ == two.__code__
        assert one.__code__ is not two.__code__


def test_profilers_do_not_share_state() -> None:
    with Profiler(MIC, capacity=4) as mic, Profiler(NET, critical="1ns") as net:
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
    assert net.accounts.notes == {"criticals": 10}


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


def test_replaced_methods_have_their_documentation_and_arguments() -> None:
    profiler = Profiler(MIC)
    assert (type(profiler).__name__, type(profiler).__module__) == (
        "Profiler",
        "latprof.recorder.profiler",
    )
    for name in ("frame", "record"):
        quick, documented = getattr(profiler, name), getattr(Profiler, name)
        assert quick.__doc__ == documented.__doc__
        named = [*inspect.signature(documented).parameters][1:]
        assert [*inspect.signature(quick).parameters] == named
    assert [*inspect.signature(Profiler).parameters][:2] == ["pipeline", "capacity"]
    assert "stamp taken elsewhere" in str(profiler._hot.live.mark.__doc__)


def test_a_profiler_without_references_is_freed() -> None:
    with Profiler(MIC) as profiler:
        profiler.frame(1).finish()
    kind = weakref.ref(type(profiler))
    live = weakref.ref(profiler._hot.live)
    del profiler
    gc.collect()
    assert kind() is None
    assert live() is None


def test_an_instance_of_the_class_of_another_profiler_records_on_its_own() -> None:
    """As in programs that call `type(self)(...)`."""
    first = Profiler(MIC)
    second = type(first)(NET)
    third = type(second)(MIC, sampling_rate=0.999_999)
    with first, second, third:
        first.record(1, (1, 2, 3, 4))
        second.frame(2).finish()
        second.record(3, (1, 2, 3, 4, 5, 6))
        third.frame(4).finish()
    for profiler, ids in ((first, [1]), (second, [2, 3]), (third, [4])):
        assert profiler.trace().frame_id.tolist() == ids


def test_a_singleton_that_is_initialized_again_records() -> None:
    class Only(Profiler):
        one: Any = None

        def __new__(cls, *args: Any, **settings: Any) -> "Only":
            cls.one = cls.one or super().__new__(cls, *args, **settings)
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


def test_no_class_is_derived_from_a_subclass() -> None:
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
    assert [*inspect.signature(two.record).parameters] == ["frame_id", "stamps", "size", "source"]


def test_the_signature_of_a_class_is_that_of_its_init() -> None:
    class Own(Profiler):
        def __init__(self, pipeline: Pipeline, *, title: str) -> None:
            super().__init__(pipeline)

    for kind in (Profiler, type(Profiler(MIC)), Own):
        signature, known = inspect.signature(kind), inspect.signature(kind.__init__)
        assert [*signature.parameters] == [*known.parameters][1:]
    assert [*inspect.signature(Own).parameters] == ["pipeline", "title"]
    assert "capacity" in inspect.signature(Profiler).parameters
