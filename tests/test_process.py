"""The process-wide profiler: the defaults of the seed, other settings, and one instance."""

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from latprof.errors import ProfilerError
from latprof.pipeline import AUDIO, Pipeline
from latprof.recorder.implementation import Frame
from latprof.recorder.process import disable, enable, get_profiler, profile_frame
from latprof.recorder.profiler import Profiler

MS = 1_000_000


@pytest.fixture
def _no_shared(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("latprof.recorder.process._shared", None)
    yield
    disable()


@pytest.mark.usefixtures("_no_shared")
def test_the_defaults_are_those_of_the_seed() -> None:
    disable()  # there is none yet
    profiler = get_profiler()
    assert profiler.pipeline == AUDIO
    assert (profiler.warning, profiler.critical) == (50 * MS, 100 * MS)
    assert (profiler.report_interval, profiler.sampling_rate) == (30_000 * MS, 1.0)
    assert not profiler.running
    assert enable() is profiler
    assert enable() is profiler  # it runs already
    assert profiler.running
    disable()
    disable()
    assert not profiler.running


@pytest.mark.usefixtures("_no_shared")
def test_enable_takes_a_pipeline_and_settings() -> None:
    mic = Pipeline.chain("mic", "decode")
    profiler = enable(mic, capacity=64, critical={"decode": "5ms"}, report_interval=None)
    assert profiler.running
    assert get_profiler() is profiler
    assert (profiler.pipeline, profiler.capacity, profiler.report_interval) == (mic, 64, None)
    assert (profiler.warning, profiler.critical) == (50 * MS, {"decode": 5 * MS})
    with profile_frame(1) as frame:
        frame.mark("decode")
    # neither arguments nor the same ones: it goes on
    assert enable() is profiler
    assert enable(mic, report_interval=None, critical={"decode": "5ms"}, capacity=64) is profiler
    assert profiler.report().profile.frames == 1


@pytest.mark.usefixtures("_no_shared")
def test_other_settings_are_refused_while_it_runs_and_taken_when_it_is_stopped() -> None:
    mic = Pipeline.chain("mic", "decode")
    first = enable()
    for arguments, named in [
        ({"pipeline": mic}, "pipeline"),
        ({"capacity": 64}, "capacity"),
        ({"pipeline": mic, "warning": None}, "pipeline, warning"),
    ]:
        with pytest.raises(ProfilerError, match=rf"another {named}; call disable\(\) first"):
            enable(**arguments)
    assert enable(AUDIO) is first
    assert enable(warning="50ms") is first  # as it is
    disable()
    assert enable() is first
    disable()
    second = enable(mic)
    assert second is not first
    assert get_profiler() is second
    disable()
    with pytest.raises(ProfilerError, match=r"pipeline must be a Pipeline \(for example"):
        enable("mic")  # type: ignore[arg-type]
    with pytest.raises(ProfilerError, match="must be those of Profiler, got 'capacitiy'; use cap"):
        enable(capacitiy=5)
    assert get_profiler() is second


@pytest.mark.usefixtures("_no_shared")
def test_settings_that_mean_the_same_are_equal(tmp_path: Path) -> None:
    spellings: list[dict[str, Any]] = [
        {
            "warning": "50ms",
            "critical": {"end_to_end": "100ms", "alsa": "20ms"},
            "report_interval": "1min",
            "keep": "30ms",
            "path": str(tmp_path),
            "rotate": "1MB",
            "owns": list(AUDIO.marks),
            "ring": str(tmp_path / "a.ring"),
            "sampling_rate": 1,
        },
        {
            "warning": {"end_to_end": 50 * MS},
            "critical": {"alsa": 20 * MS, "end_to_end": timedelta(milliseconds=100)},
            "report_interval": 60_000 * MS,
            "keep": "30000us",
            "path": tmp_path,
            "rotate": "1000kB",
            "owns": None,
            "ring": tmp_path / "a.ring",
            "sampling_rate": 1.0,
        },
    ]
    first = enable(AUDIO, **spellings[0])
    assert enable(AUDIO, **spellings[1]) is first
    assert enable(**spellings[1]) is first
    for name, other in [("warning", "49ms"), ("rotate", "1MiB"), ("keep", "slow"), ("ring", None)]:
        with pytest.raises(ProfilerError, match=rf"got another {name}; call disable\(\) first"):
            enable(**(spellings[1] | {name: other}))
    with pytest.raises(ProfilerError, match="warning must be a duration"):
        enable(warning="soon")


@pytest.mark.usefixtures("_no_shared")
def test_threads_that_ask_at_once_get_the_same_profiler() -> None:
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
def test_profile_frame_returns_a_frame_or_calls_a_function() -> None:
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
