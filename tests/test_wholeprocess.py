"""The process-wide profiler follows the seed, with one instance however it is asked for."""

import threading
from collections.abc import Iterator

import pytest

from latprof.pipeline import AUDIO
from latprof.recorder.frame import Frame
from latprof.recorder.process import disable, enable, get_profiler, profile_frame
from latprof.recorder.profiler import Profiler

MS = 1_000_000


@pytest.fixture
def _no_shared(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("latprof.recorder.process._shared", None)
    yield
    disable()


@pytest.mark.usefixtures("_no_shared")
def test_the_shared_profiler_is_as_the_seed_has_it() -> None:
    disable()  # never made: fine
    profiler = get_profiler()
    assert profiler.pipeline == AUDIO
    assert (profiler.warning, profiler.critical) == (50 * MS, 100 * MS)
    assert (profiler.report_interval, profiler.sampling_rate) == (30_000 * MS, 1.0)
    assert not profiler.running
    assert enable() is profiler
    assert enable() is profiler  # runs already: goes on
    assert profiler.running
    disable()
    disable()
    assert not profiler.running


@pytest.mark.usefixtures("_no_shared")
def test_there_is_one_from_however_many_threads() -> None:
    found: list[Profiler] = []
    barrier = threading.Barrier(16)

    def look() -> None:
        barrier.wait()
        found.append(get_profiler())

    threads = [threading.Thread(target=look) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, found))) == 1


@pytest.mark.usefixtures("_no_shared")
def test_profile_frame_both_ways() -> None:
    assert profile_frame(1, 9, "input", lambda frame: bool(frame)) is False  # not enabled
    profiler = enable()
    with profile_frame(2, 960, "input") as frame:
        frame.mark("ipc")

    def work(frame: Frame) -> str:
        frame.mark("cgo")
        return "done"

    assert profile_frame(3, 960, "input", work) == "done"
    with pytest.raises(ZeroDivisionError):
        profile_frame(4, 960, "input", lambda frame: 1 // 0)
    disable()
    a = profiler.accounts
    assert (a.finished, a.dropped) == (2, {"ZeroDivisionError": 1})
    assert profiler.trace().frame_id.tolist() == [2, 3, 4]
