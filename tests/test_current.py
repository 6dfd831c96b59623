"""The current frame of tasks and threads, and functions as its stages."""

import asyncio
import inspect
import itertools
import subprocess
import sys
import threading

import pytest

import latprof
from latprof import AUDIO, Pipeline, PipelineError, Profiler, ProfilerError, Span, current_frame
from latprof.frames import MISSING

MIC = Pipeline.chain("mic", "decode", "play")
GAP = Pipeline(
    "gap",
    ("start", "a", "b", "c", "end"),
    (Span("work", "a", "b"), Span("late", "c", "end"), Span("first", "start", "b", kind="side")),
)


@pytest.fixture
def profiler():
    ticks = itertools.count(10, 10)
    with Profiler(MIC, clock=ticks.__next__) as running:
        yield running


def stamps(profiler, row=-1):
    """Return the stamps of a frame by mark in tens of ns since its start, or None if missing."""
    marks = profiler.trace().marks
    start = int(marks["start"][row])
    return {
        mark: None if ns[row] == MISSING else (int(ns[row]) - start) // 10
        for mark, ns in marks.items()
    }


def test_a_frame_is_current_within_its_block(profiler):
    assert not current_frame()
    with profiler.frame(1) as outer:
        assert current_frame() is outer
        with profiler.frame(2) as inner:
            assert current_frame() is inner
        assert current_frame() is outer
        with pytest.raises(KeyError), profiler.frame(3):
            raise KeyError
        assert current_frame() is outer
        alone = profiler.frame(4)  # not entered
        assert current_frame() is outer
        alone.finish()
        with profiler.frame(5) as early:
            early.finish()
            assert current_frame() is outer
    assert not current_frame()
    current_frame().mark("decode")  # does nothing
    current_frame().finish()
    assert profiler.accounts.notes == {}


def test_each_task_has_its_own_frame(profiler):
    @profiler.stage("decode")
    async def decode(i, turns):
        for _ in range(turns):
            await asyncio.sleep(0)
        assert current_frame() is frames[i]
        return i

    frames = {}

    async def handle(i):
        with profiler.frame(i) as frames[i]:
            assert await asyncio.create_task(decode(i, 1 + i % 7)) == i
            await asyncio.sleep(0)
            assert current_frame() is frames[i]
            play()

    @profiler.stage("play")
    def play():
        pass

    async def main():
        await asyncio.gather(*(handle(i) for i in range(50)))
        assert not current_frame()

    asyncio.run(main())
    trace = profiler.trace()
    assert sorted(trace.frame_id.tolist()) == list(range(50))
    for row in range(50):
        found = stamps(profiler, row) if row < 3 else None
        if found:
            assert 0 < found["decode"] < found["play"] < found["end"]
    assert (trace.marks["decode"] < trace.marks["play"]).all()
    assert profiler.accounts.notes == {}


def test_a_new_thread_has_no_current_frame(profiler):
    found = []
    with profiler.frame(1):
        thread = threading.Thread(target=lambda: found.append(bool(current_frame())))
        thread.start()
        thread.join()

        async def main():
            return await asyncio.to_thread(current_frame)  # this copies the context

        assert asyncio.run(main()) is current_frame()
    assert found == [False]


def test_the_begin_of_a_stage_is_stamped_once(profiler):
    @profiler.stage("decode")
    def decode(packet, *, times=1):
        """Decode."""
        return packet * times

    assert decode("a", times=2) == "aa"  # no frame
    with profiler.frame(1):
        assert decode("b") == "b"
        assert decode("c") == "c"  # the first call counts
    # start 0, decode 1, end 2: nothing else was stamped or noted
    assert stamps(profiler) == {"start": 0, "decode": 1, "play": None, "end": 2}
    assert profiler.accounts.notes == {"calls of a stage without a current frame": 1}
    assert (decode.__name__, decode.__doc__) == ("decode", "Decode.")
    assert str(inspect.signature(decode)) == "(packet, *, times=1)"


def test_a_decorated_coroutine_function_is_a_coroutine_function(profiler):
    @profiler.stage("decode")
    async def decode():
        return 7

    assert inspect.iscoroutinefunction(decode)
    assert asyncio.run(decode()) == 7

    async def main():
        with profiler.frame(1):
            return await decode()

    assert asyncio.run(main()) == 7
    assert stamps(profiler)["decode"] == 1


def test_methods_may_be_stages(profiler):
    class Player:
        @profiler.stage("play")
        def play(self):
            return self

        @staticmethod
        @profiler.stage("decode")
        def decode():
            return 1

    player = Player()
    with profiler.frame(1):
        assert player.decode() == 1
        assert player.play() is player
    assert stamps(profiler) == {"start": 0, "decode": 1, "play": 2, "end": 3}


@pytest.mark.parametrize("is_async", [False, True])
def test_the_end_of_a_stage_is_stamped_unless_another_span_begins_there(is_async):
    ticks = itertools.count(10, 10)
    with Profiler(GAP, clock=ticks.__next__) as profiler:

        def fail(error=None):
            if error:
                raise error

        async def fail_later(error=None):
            fail(error)

        work, late, first = (
            profiler.stage(name)(fail_later if is_async else fail)
            for name in ("work", "late", "first")
        )

        def call(function, *arguments):
            result = function(*arguments)
            if is_async:
                with pytest.raises(StopIteration):
                    result.send(None)

        with profiler.frame(1):
            call(first)  # start is stamped; its end is b
            call(work)  # a, then b again: the last call counts
            call(late)  # c; finish stamps end
        assert stamps(profiler) == {"start": 0, "a": 2, "b": 3, "c": 4, "end": 5}
        with pytest.raises(KeyError), profiler.frame(2):
            call(work, KeyError())
        assert stamps(profiler) == {"start": 0, "a": 1, "b": 2, "c": None, "end": 3}
        assert profiler.accounts.dropped == {"KeyError": 1}


def test_frames_of_another_profiler_are_not_stamped(profiler):
    with Profiler(Pipeline.chain("second", "decode")) as other:

        @other.stage("decode")
        def decode():
            pass

        with profiler.frame(1):
            decode()  # the current frame belongs to the other profiler
            with other.frame(2), profiler.frame(3):
                decode()  # stamps the frame around it
    assert stamps(profiler, 0)["decode"] is None
    assert stamps(profiler, 1)["decode"] is None
    assert (other.trace().marks["decode"] != MISSING).tolist() == [True]


def test_stages_run_without_a_recorded_frame():
    profiler = Profiler(MIC)
    decode = profiler.stage("decode")(lambda: 5)
    with profiler.frame(1):  # stopped
        assert not current_frame()
        assert decode() == 5
    with profiler:
        frame = profiler.frame(2)
        with frame:
            profiler.stop()
            assert decode() == 5
            assert current_frame() is frame
        assert decode() == 5
    assert len(profiler.trace()) == 0


def test_a_finished_frame_is_not_stamped(profiler):
    decode = profiler.stage("decode")(lambda: 5)
    with profiler.frame(1) as frame:
        frame.finish()
        assert decode() == 5
    assert stamps(profiler)["decode"] is None
    assert profiler.accounts.notes == {}


def test_names_and_functions_that_cannot_be_stages_are_refused(profiler):
    with pytest.raises(
        PipelineError, match=r"stage must name .* 'mic', got 'decod'; use decode, [a-z, ]*play$"
    ):
        profiler.stage("decod")
    with pytest.raises(PipelineError, match=r"stage must name a stage or side .* got 'end_to_end'"):
        profiler.stage("end_to_end")
    server = Profiler(AUDIO, owns=("cgo", "alsa", "end"))
    with pytest.raises(PipelineError, match=r"mark 'webrtc' .* is not owned by this process"):
        server.stage("webrtc")
    server.stage("cgo")

    def reads():
        yield 1

    async def reads_later():
        yield 1

    for function in (reads, reads_later):
        with pytest.raises(ProfilerError, match="got the generator"):
            profiler.stage("decode")(function)


# -- the first call -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["as frame", ""])
def test_the_first_call_inside_a_block_returns_its_frame(name):
    code = f"""
import asyncio, gc
import latprof
from latprof import AUDIO, Profiler
def ask():
    return latprof.current_frame()
with Profiler(AUDIO) as profiler:
    unused = profiler.frame(7)
    async def main():
        with profiler.frame(1) {name}:
            found = ask()
            assert found, "none"
            found.mark("cgo")
            assert ask() is found
        assert not ask()
        with profiler.frame(2) as frame:
            assert ask() is frame
    asyncio.run(main())
    assert not ask()
    assert profiler.trace().marks["cgo"][0] > 0
print("fine")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "fine\n"), done.stderr


def test_the_first_call_outside_of_blocks_returns_no_frame():
    code = """
import latprof
from latprof import AUDIO, Profiler
with Profiler(AUDIO) as profiler:
    frame = profiler.frame(1)
    with profiler.frame(2) as done:
        pass
    assert not latprof.current_frame()
    with frame:
        assert latprof.current_frame() is frame
print("fine")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "fine\n"), done.stderr


def test_the_name_is_public():
    assert latprof.current_frame is current_frame
