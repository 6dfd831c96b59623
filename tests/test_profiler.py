"""The profiler: what it records, refuses and counts, and that the accounts add up."""

import itertools
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from profiling import MIC, MS, Clock, Log, balanced, run_threads, wait_for, young_clock
from rings import claim, write

import latprof.recorder.forks
from latprof.accounts import Accounts
from latprof.errors import LatprofError, PipelineError, ProfilerError
from latprof.frames import MISSING, Labels
from latprof.marks import Span
from latprof.pipeline import AUDIO, Pipeline
from latprof.recorder.implementation import NO_FRAME
from latprof.recorder.incidents import LATE, REASONS
from latprof.recorder.overhead import Overhead
from latprof.recorder.profiler import Profiler
from latprof.recorder.sampling import fnv1a, run_hash, threshold
from latprof.report.report import Report
from latprof.thresholds import Thresholds

BAD_FRAME_ID, BAD_SIZE, BAD_STAMP = REASONS


@pytest.fixture(autouse=True)
def _no_profiler_is_left_running() -> Iterator[None]:
    yield
    left = [profiler for profiler in latprof.recorder.forks.RUNNING if profiler.running]
    for profiler in left:
        profiler.stop()
    assert not left
    assert not [thread for thread in threading.enumerate() if thread.name == "latprof"]


def stamps_of(profiler: Profiler) -> list[list[int | None]]:
    """Return the stamps of the trace on the profiler's clock, one list for each frame."""
    trace = profiler.trace()
    table = np.array([trace.marks[mark] for mark in profiler.pipeline.marks]).T
    offset = profiler.clock_offset_ns
    return [[None if t == MISSING else t - offset for t in row] for row in table.tolist()]


# -- a frame --------------------------------------------------------------------------------------


def test_a_frame_is_stamped_by_the_clock() -> None:
    clock = Clock()
    with Profiler(MIC, clock=clock) as profiler:
        clock.now = 2_000_000
        frame = profiler.frame(7, size=960, source="input")
        assert frame
        clock.after(100)
        frame.mark("decode")
        clock.after(250)
        frame.mark("play")
        clock.after(50)
        frame.finish()
    assert stamps_of(profiler) == [[2_000_000, 2_000_100, 2_000_350, 2_000_400]]
    trace = profiler.trace()
    assert trace.frame_id.tolist() == [7]
    assert trace.size is not None
    assert trace.size.tolist() == [960]
    assert trace.source is not None
    assert trace.source.to_numpy().tolist() == ["input"]
    profile = profiler.report().profile
    assert (profile["decode"].total, profile["play"].total) == (250, 50)
    assert (profile["other"].total, profile["end_to_end"].total) == (100, 400)
    assert balanced(profiler) == Accounts(started=1, finished=1, folded=1)


def test_the_end_of_a_block_finishes_or_drops_the_frame() -> None:
    clock = Clock()
    with Profiler(MIC, clock=clock) as profiler:
        with profiler.frame(1):
            clock.after(10)
        with pytest.raises(ZeroDivisionError), profiler.frame(2):
            1 / 0  # noqa: B018
        with profiler.frame(3) as frame:
            frame.drop("late")  # inside the block: the end of the block does nothing
        with profiler.frame(4) as frame:
            frame.finish()
        with pytest.raises(KeyboardInterrupt), profiler.frame(5):
            raise KeyboardInterrupt
    a = balanced(profiler)
    assert (a.finished, a.folded) == (2, 5)
    assert a.dropped == {"ZeroDivisionError": 1, "late": 1, "KeyboardInterrupt": 1}
    assert a.notes == {}
    outcome = profiler.trace().outcome
    assert outcome is not None
    assert outcome.to_numpy().tolist() == [
        "finished",
        "ZeroDivisionError",
        "late",
        "finished",
        "KeyboardInterrupt",
    ]


def test_drop_stamps_end() -> None:
    clock = Clock(500)
    with Profiler(MIC, clock=clock) as profiler:
        frame = profiler.frame(1)
        clock.after(20)
        frame.drop("late")
        profiler.frame(2).drop("late", at=900)
    assert stamps_of(profiler) == [[500, None, None, 520], [520, None, None, 900]]
    assert profiler.report().profile.frames == 0


def test_a_dropped_frame_never_reads_as_finished() -> None:
    reasons: list[Any] = ["finished", "", 404, None, ValueError("x")]
    with Profiler(MIC) as profiler:
        for n, reason in enumerate(reasons):
            profiler.frame(n).drop(reason)
    a = balanced(profiler)
    assert a.finished == 0
    assert a.dropped == {"dropped: finished": 1, "dropped: ": 1, "404": 1, "None": 1, "x": 1}
    assert profiler.report().profile.frames == 0


def test_stamps_may_be_taken_elsewhere() -> None:
    clock = Clock(5_000)
    with Profiler(MIC, clock=clock) as profiler:
        frame = profiler.frame(9, start=1_000)
        frame.mark("decode", at=np.int64(1_500))
        frame.mark("play", at=0)  # missing: it may still be marked
        frame.mark("play")
        frame.finish(at=9_000)
        frame = profiler.frame(10, start=0)  # missing
        frame.finish()
    assert stamps_of(profiler) == [[1_000, 1_500, 5_000, 9_000], [None, None, None, 5_000]]
    assert balanced(profiler).notes == {}


def test_start_and_end_may_be_marked() -> None:
    clock = Clock(5_000)
    with Profiler(MIC, clock=clock) as profiler:
        frame = profiler.frame(1)
        clock.after(10)
        frame.mark("end")  # finish keeps it
        clock.after(10)
        frame.mark("start")  # too late: frame() has stamped it
        frame.finish()
        frame = profiler.frame(2)
        frame.mark("end", at=7_000)
        frame.finish(at=8_000)
    assert stamps_of(profiler) == [[5_000, None, None, 5_010], [5_020, None, None, 7_000]]
    assert balanced(profiler).notes == {"mark set twice": 2}


def test_response_is_measured_from_due() -> None:
    due = Pipeline("due", ("due", "start", "end"))
    with Profiler(due, clock=Clock(5_000)) as profiler:
        frame = profiler.frame(1)
        frame.mark("due", at=4_000)
        frame.finish()
    assert stamps_of(profiler) == [[4_000, 5_000, 5_000]]
    assert profiler.report().profile["response"].total == 1_000


# -- misuse ---------------------------------------------------------------------------------------


def test_an_unknown_mark_raises_and_the_frame_goes_on() -> None:
    names: list[Any] = ["ipcc", "", "MARK", None, 3, ["decode"], "\x1b[31m", "x" * 70_000]
    with Profiler(MIC) as profiler:
        for name in names:
            frame = profiler.frame(1)
            with pytest.raises(PipelineError, match="use start, decode, play, end") as info:
                frame.mark(name)
            assert "\x1b" not in str(info.value)
            assert len(str(info.value)) < 200
            frame.finish()
    a = balanced(profiler)
    assert (a.finished, a.notes) == (len(names), {"unknown mark": len(names)})


def test_a_mark_set_twice_keeps_its_first_stamp() -> None:
    clock, log = Clock(), Log()
    with Profiler(MIC, clock=clock, logger=log.logger) as profiler:
        frame = profiler.frame(1)
        frame.mark("decode")
        clock.after(5)
        frame.mark("decode")
        frame.mark("decode", at=77)
        frame.finish()
    assert stamps_of(profiler)[0][1] == 1_000_000
    assert balanced(profiler).notes == {"mark set twice": 2}
    assert len(log.lines) == 1
    assert "mark set twice" in log.lines[0]


def test_calls_after_finish_are_only_counted() -> None:
    clock, log = Clock(), Log()
    with Profiler(MIC, clock=clock, logger=log.logger) as profiler:
        frame = profiler.frame(1)
        frame.finish()
        for _ in range(2):
            frame.mark("decode")
            frame.mark("play", at=5)
            frame.finish()
            frame.finish(at=9)
            frame.drop("late")
        with pytest.raises(PipelineError):
            frame.mark("typo")
    a = balanced(profiler)
    assert (a.started, a.finished, a.dropped) == (1, 1, {})
    assert a.notes == {
        "mark after finish": 4,
        "finish after finish": 4,
        "drop after finish": 2,
        "unknown mark": 1,
    }
    assert len(log.lines) == 3
    assert stamps_of(profiler) == [[1_000_000, None, None, 1_000_000]]


def test_a_frame_that_finishes_after_stop_is_rejected() -> None:
    profiler = Profiler(MIC)
    with profiler:
        frames = [profiler.frame(n) for n in range(3)]
    assert balanced(profiler).in_flight == 3
    frames[0].finish()
    frames[1].mark("decode")
    frames[1].drop("late")
    a = balanced(profiler)
    assert (a.in_flight, a.rejected) == (1, {LATE: 2})
    assert len(profiler.trace()) == 0
    with profiler:
        frames[2].finish()  # it runs again
        frames[0].finish()
    a = balanced(profiler)
    assert (a.in_flight, a.finished, a.rejected) == (0, 1, {LATE: 2})
    assert a.notes == {"finish after finish": 1}


def test_values_that_cannot_be_stored_are_rejected_without_an_error() -> None:
    refused: list[tuple[dict[str, Any], str]] = [
        ({"frame_id": -1}, BAD_FRAME_ID),
        ({"frame_id": 2**64}, BAD_FRAME_ID),
        ({"frame_id": 1.5}, BAD_FRAME_ID),
        ({"frame_id": "7"}, BAD_FRAME_ID),
        ({"frame_id": None}, BAD_FRAME_ID),
        ({"size": -1}, BAD_SIZE),
        ({"size": 2**32}, BAD_SIZE),
        ({"size": 2.0}, BAD_SIZE),
        ({"start": -1}, BAD_STAMP),
        ({"start": 2**62}, BAD_STAMP),
        ({"start": 2**64}, BAD_STAMP),
        ({"start": 1.5}, BAD_STAMP),
        ({"start": float("nan")}, BAD_STAMP),
        ({"at": -1}, BAD_STAMP),
        ({"at": 2**63}, BAD_STAMP),
        ({"at": "now"}, BAD_STAMP),
    ]
    for arguments, reason in refused:
        given: dict[str, Any] = {"frame_id": 1, "size": None, "start": None, "at": None} | arguments
        with Profiler(MIC, capacity=4, warning="1ns") as profiler:
            frame = profiler.frame(given["frame_id"], given["size"], start=given["start"])
            frame.mark("decode", at=given["at"])
            frame.finish()
            frame = profiler.frame(given["frame_id"], given["size"], start=given["start"])
            frame.mark("decode", at=given["at"])
            frame.drop("late")
            stamps = [given["start"] or 5, given["at"] or 6, 7, 8]
            profiler.record(given["frame_id"], stamps, given["size"])
            profiler.frame(2).finish()
        a = balanced(profiler)
        assert a.rejected == {reason: 3}
        assert (a.started, a.finished, a.folded, a.lost, a.torn) == (4, 1, 1, 0, 0)
        assert a.dropped in ({}, {"late": 1})
        assert profiler.trace().frame_id.tolist() == [2]


def test_the_first_rejected_frame_of_a_reason_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    class Odd:
        def __str__(self) -> str:
            raise RuntimeError("no name")

    odd: Any = Odd()
    with Profiler(MIC, clock=young_clock) as profiler:
        for frame_id in ("abc\x1b[31m", "def", odd, -1):
            profiler.frame(frame_id).finish()  # type: ignore[arg-type]
        profiler.frame(7, size=-1).finish()
        profiler.frame(8, size=-1).drop("late")
        profiler.record(9, [1, 2, 3, 2**62])
        profiler.record_many([1, -2], [[1, 2, 3, 4], [1, 2, 3, 4]])
        profiler.frame(10).finish()
    assert [record.getMessage() for record in caplog.records] == [
        f"frame rejected: {BAD_FRAME_ID}: frame 'abc\\x1b[31m' (further ones are only counted)",
        f"frame rejected: {BAD_SIZE}: frame 7 (further ones are only counted)",
        f"frame rejected: {BAD_STAMP}: frame 9 (further ones are only counted)",
    ]
    assert {record.levelname for record in caplog.records} == {"WARNING"}
    a = balanced(profiler)
    assert a.rejected == {BAD_FRAME_ID: 5, BAD_SIZE: 2, BAD_STAMP: 1}
    assert a.notes == {}


def test_rejected_frames_take_part_in_a_full_ring() -> None:
    with Profiler(MIC, capacity=1) as profiler:
        for n in range(50):
            profiler.frame(n if n % 3 else -1).finish()
    a = balanced(profiler)
    assert a.rejected == {BAD_FRAME_ID: 17}
    assert a.finished == 33
    assert (a.in_flight, a.not_folded) == (0, 0)


def test_a_clock_that_fails_later_rejects_only_its_frame() -> None:
    clock = Clock()
    with Profiler(MIC, clock=clock) as profiler:
        frame = profiler.frame(1)
        good, clock.now = clock.now, "noon"  # type: ignore[assignment]
        frame.finish()
        clock.now = good
        profiler.frame(2).finish()
    a = balanced(profiler)
    assert a.rejected == {BAD_STAMP: 1}
    assert (a.finished, a.folded) == (1, 1)


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError


def test_a_source_of_any_type_is_stored_as_text() -> None:
    sources: list[Any] = [None, "", "a" * 1_000, 5, ["x"], "\udcff", Unprintable()]
    stored = [None, "", "a" * 1_000, "5", "['x']", "\\udcff", "<Unprintable>"]
    with Profiler(MIC) as profiler:
        for n, source in enumerate(sources):
            profiler.frame(n, source=source).finish()
            profiler.record(n, [1, 2, 3, 4], source=source)
    column = profiler.trace().source
    assert column is not None
    assert column.to_numpy().tolist() == [name for name in stored for _ in range(2)]
    assert balanced(profiler).finished == 2 * len(sources)


def test_drops_are_counted_with_a_reason_that_is_the_name_of_the_others() -> None:
    with Profiler(MIC) as profiler:
        profiler.frame(0).drop("(others)")
        for n in range(1, 2_201):
            profiler.frame(n).drop(f"{n} " * 500)
    a = balanced(profiler)
    assert (a.finished, sum(a.dropped.values())) == (0, 2_201)
    assert a.dropped["(others)"] == 1 + a.notes["names beyond the table"] > 1


def test_more_sources_than_codes_share_one_name() -> None:
    with Profiler(MIC, capacity=66_000) as profiler:
        names = [str(n) for n in range(65_500)]
        profiler.record_many(np.arange(65_500), np.tile([1, 2, 3, 4], (65_500, 1)), source=names)
        for n in range(65_500, 65_600):
            profiler.frame(n, source=str(n)).finish()
        for n in range(3):
            profiler.frame(n, source=str(n)).finish()
    a = balanced(profiler)
    assert (a.finished, a.folded) == (65_603, 65_603)
    assert a.notes["names beyond the table"] == 65_600 - 65_534
    source = profiler.trace().source
    assert source is not None
    counts = source.counts()
    assert counts["(others)"] == 66
    assert counts["2"] == 2
    groups = profiler.report().profile.groups
    assert len(groups) == 1_001  # with "(others)"
    assert sum(group.frames for group in groups.values()) == 65_603


# -- record ---------------------------------------------------------------------------------------


def test_record_takes_all_stamps_in_one_call() -> None:
    with Profiler(MIC) as profiler:
        profiler.record(7, (100, 110, 130, 160), 960, "input")
        profiler.record(8, [200, 0, 230, 260])
        profiler.record(9, np.array([300, 310, 330, 360]))
    assert stamps_of(profiler) == [
        [100, 110, 130, 160],
        [200, None, 230, 260],
        [300, 310, 330, 360],
    ]
    profile = profiler.report().profile
    assert profile["decode"].total == 20 + 20  # from decode to play, if both are set
    assert profile["decode"].missing == 1
    balanced(profiler)


@pytest.mark.parametrize("kind", [np.uint64, np.int32, np.int64, np.uint8, object])
def test_stamps_of_an_array_are_compared_with_thresholds(kind: Any) -> None:
    with Profiler(MIC, critical="100ns", clock=young_clock) as profiler:
        profiler.record(1, np.array([5, 6, 7, 0], kind))  # no end, no latency
        profiler.record(2, np.array([5, 6, 7, 105], kind))
        profiler.record(3, np.array([5, 6, 7, 106], kind))
    assert balanced(profiler).notes == {"criticals": 1, "thresholds below 1 us": 1}
    assert profiler.trace().frame_id.tolist() == [1, 2, 3]


def test_too_few_or_too_many_stamps_raise() -> None:
    with Profiler(MIC) as profiler:
        for stamps in ([], [1, 2, 3], [1, 2, 3, 4, 5]):
            with pytest.raises(PipelineError, match="the 4 marks of pipeline 'mic'"):
                profiler.record(1, stamps)
            with pytest.raises(PipelineError, match="the 4 marks of pipeline 'mic'"):
                profiler.record_many([1], [stamps or [1]])
    assert balanced(profiler).started == 0


def test_record_many_takes_arrays() -> None:
    stamps = np.array([[100, 110, 130, 160], [200, 0, 230, 260], [300, 310, 330, 360]])
    with Profiler(MIC, capacity=2, clock=young_clock) as profiler:
        profiler.record_many(np.array([7, 8, 2**64 - 1], np.uint64), stamps, 960, "input")
        profiler.record_many([1, 2], stamps[:2], [10, 20], ["output", None])
        profiler.record_many([3, 4], stamps[1:], None, Labels.encode([None, "input"]))
        profiler.record_many([], np.empty((0, 4), int))
        profiler.record_many([], [])
    trace = profiler.trace()
    assert trace.frame_id.tolist() == [3, 4]
    assert stamps_of(profiler) == [[200, None, 230, 260], [300, 310, 330, 360]]
    profile = profiler.report().profile
    assert profile["end_to_end"].total == 7 * 60
    assert {name: group.frames for name, group in profile.groups.items()} == {
        "input": 4,
        "output": 1,
        "(none)": 2,
    }
    assert balanced(profiler) == Accounts(started=7, finished=7, folded=7)


def test_record_many_equals_record() -> None:
    rng = np.random.default_rng(3)
    ids = rng.integers(0, 2**63, 500, dtype=np.uint64)
    stamps = rng.integers(0, 2**61, (500, 4))
    sizes = rng.integers(0, 2_000, 500)
    sources = [("input", "output", None)[i] for i in rng.integers(0, 3, 500)]
    one, many = (Profiler(MIC, sampling_rate=0.5, capacity=500) for _ in range(2))
    with one, many:
        for row in zip(ids.tolist(), stamps.tolist(), sizes.tolist(), sources, strict=True):
            one.record(*row)
        many.record_many(ids, stamps, sizes, sources)
    assert balanced(one) == balanced(many)
    assert stamps_of(one) == stamps_of(many)
    a, b = one.trace(), many.trace()
    assert a.frame_id.tolist() == b.frame_id.tolist()
    assert a.size is not None
    assert b.size is not None
    assert a.size.tolist() == b.size.tolist()
    assert a.source is not None
    assert b.source is not None
    assert a.source.to_numpy().tolist() == b.source.to_numpy().tolist()
    assert 100 < len(a) < 400


def test_record_many_of_more_frames_than_the_ring_holds_loses_none() -> None:
    frames = 30_000
    stamps = np.arange(1, frames + 1)[:, None] * 1_000 + np.array([0, 10, 20, 30])
    with Profiler(MIC, capacity=64) as profiler:
        profiler.record_many(np.arange(frames), stamps)
    a = balanced(profiler)
    assert (a.folded, a.lost, a.torn) == (frames, 0, 0)
    assert profiler.report().profile["end_to_end"].total == 30 * frames
    assert profiler.trace().frame_id.tolist() == list(range(frames - 64, frames))
    assert profiler.trace().meta["lost"] == frames - 64


def test_record_many_takes_any_source_as_record_does() -> None:
    with Profiler(MIC) as profiler:
        profiler.record_many([1, 2], [(1, 2, 3, 4)] * 2, source=5)  # type: ignore[arg-type]
        profiler.record(3, (1, 2, 3, 4), source=5)  # type: ignore[arg-type]
    assert profiler.trace().source.to_numpy().tolist() == ["5"] * 3  # type: ignore[union-attr]


def test_record_many_rejects_row_by_row() -> None:
    good = [1, 2, 3, 4]
    stamps = [good, [1, -2, 3, 4], [1, 2**62, 3, 4], good, good]
    with Profiler(MIC) as profiler:
        profiler.record_many([1, 2, 3, -4, 5], stamps, [9, 9, 9, 9, 2**32])
    a = balanced(profiler)
    assert a.rejected == {BAD_STAMP: 2, BAD_FRAME_ID: 1, BAD_SIZE: 1}
    assert (a.started, a.finished) == (5, 1)
    assert profiler.trace().frame_id.tolist() == [1]


def test_record_many_refuses_arrays_that_do_not_fit() -> None:
    good = [[1, 2, 3, 4]]
    refused: list[tuple[tuple[Any, ...], str]] = [
        (([1.5], good), "frame_ids must be an array of integers, got float64"),
        (([1], [[1.0, 2, 3, 4]]), "stamps must be an array of integers, got float64"),
        (([1], [1, 2, 3, 4]), "stamps must have 2 dimension(s), got 1"),
        (([[1]], good), "frame_ids must have 1 dimension(s), got 2"),
        (([1, 2], good), "stamps must have as many entries as frame_ids (2), got 1"),
        (([1], good, [1, 2]), "size must have as many entries as frame_ids (1), got 2"),
        (([1], good, [[1], [2]]), "size must have 1 dimension(s), got 2"),
        (([1], good, "big"), "size must be an array of integers, got <U3"),
        (([1], good, None, ["a", "b"]), "source must have as many entries as frame_ids (1), got 2"),
        (([1, 2], [[1, 2, 3, 4], [1]]), "stamps must be an array of integers, got rows of diff"),
    ]
    with Profiler(MIC) as profiler:
        for arguments, message in refused:
            with pytest.raises(ProfilerError, match=re.escape(message)):
                profiler.record_many(*arguments)
    assert balanced(profiler).started == 0


def test_a_stopped_profiler_learns_no_names(tmp_path: Path) -> None:
    """Neither the table of names nor the file of a ring changes while nothing is recorded."""
    stamps = [(1, 2, 3, 4)] * 2
    ring = tmp_path / "mic.ring"
    profiler = Profiler(MIC, ring=ring)
    with profiler:
        profiler.record_many([1, 2], stamps, source=["a", "b"])
    before = ring.read_bytes()
    profiler.record_many([3, 4], stamps, source=["c", "d"])
    profiler.record_many([5, 6], stamps, source="e")
    profiler.record(7, stamps[0], source="f")
    profiler.frame(8, source="g").finish()
    assert profiler._ring.sources.table == [None, "a", "b"]
    assert ring.read_bytes() == before
    with profiler:
        profiler.record_many([3, 4], stamps, source=["c", "d"])
    assert profiler.trace().source.to_numpy().tolist() == ["a", "b", "c", "d"]  # type: ignore[union-attr]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_the_child_of_a_fork_learns_no_names(tmp_path: Path) -> None:
    ring = tmp_path / "mic.ring"
    code = f"""
import logging, os, warnings
warnings.simplefilter("ignore", DeprecationWarning)
logging.disable()
from latprof import Pipeline, Profiler
with Profiler(Pipeline.chain("mic", "decode", "play"), ring={str(ring)!r}) as profiler:
    profiler.record_many([1], [(1, 2, 3, 4)], source="parent")
    with open({str(ring)!r}, "rb") as file:
        before = file.read()
    pid = os.fork()
    if pid == 0:
        profiler.record_many([2], [(1, 2, 3, 4)], source="child")
        with open({str(ring)!r}, "rb") as file:
            os._exit(0 if file.read() == before and b"child" not in before else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert "child" not in profiler._ring.sources.table
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# -- one process of several -----------------------------------------------------------------------


def test_a_process_stamps_what_it_owns() -> None:
    clock = Clock(100)
    first = Profiler(MIC, owns=("decode", "start"), clock=clock)
    last = Profiler(MIC, owns=("play", "end"), clock=clock)
    assert first.owns == ("start", "decode")
    with first, last:
        a, b = first.frame(1), last.frame(1)
        clock.after(10)
        a.mark("decode")
        b.mark("play")
        clock.after(10)
        a.finish()
        b.finish()
        first.record(2, (1, 2, 0, 0))
        first.record_many([3], [[1, 2, 0, 0]])
    assert stamps_of(first)[0] == [100, 110, None, None]
    assert stamps_of(last)[0] == [None, None, 110, 120]
    assert first.trace().meta["owns"] == ["start", "decode"]
    balanced(first)
    balanced(last)


def test_marks_of_other_processes_are_refused() -> None:
    with Profiler(MIC, owns=("decode", "play")) as profiler:
        with pytest.raises(PipelineError, match=r"mark 'start' .* not owned by this process"):
            profiler.frame(1, start=5)
        frame = profiler.frame(1)
        for wrong in (
            lambda: frame.mark("end"),
            lambda: frame.mark("start", at=5),
            lambda: frame.finish(at=9),
            lambda: frame.drop("late", at=9),
            lambda: profiler.record(2, (0, 1, 2, 3)),
            lambda: profiler.record_many([2], [[0, 1, 2, 3]]),
        ):
            with pytest.raises(PipelineError, match="not owned by this process"):
                wrong()
        frame.drop("late")
    a = balanced(profiler)
    assert (a.started, a.dropped) == (1, {"late": 1})
    assert a.notes["mark not owned"] >= 6


# -- sampling -------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["input", None])
def test_sampling_records_whole_runs_of_ids(source: str | None) -> None:
    with Profiler(MIC, sampling_rate=0.3) as profiler:
        for n in range(64 * 100):
            frame = profiler.frame(n, source=source)
            frame.mark("decode")
            frame.finish()
    taken = [r for r in range(100) if run_hash(r, fnv1a(source)) < threshold(0.3)]
    expected = [n for r in taken for n in range(64 * r, 64 * r + 64)]
    assert profiler.trace().frame_id.tolist() == expected
    a = balanced(profiler)
    assert (a.started, a.sampled_out) == (len(expected), 6_400 - len(expected))
    assert profiler.trace().meta["sampling_rate"] == 0.3
    assert profiler.report().profile.sampled


def test_invalid_frames_are_rejected_even_if_none_is_sampled() -> None:
    with Profiler(MIC, sampling_rate=0) as profiler:
        assert profiler.frame(1) is NO_FRAME
        profiler.record(1, (1, 2, 3, 4))
        profiler.record_many([1, -1], [[1, 2, 3, 4]] * 2)
        profiler.frame(-1).finish()
        profiler.record(-1, (1, 2, 3, 4))
    a = balanced(profiler)
    assert (a.started, a.sampled_out, a.rejected) == (3, 3, {BAD_FRAME_ID: 3})
    profiler.trace()


# -- thresholds -----------------------------------------------------------------------------------


def test_frames_above_thresholds_are_counted_and_logged() -> None:
    clock, log = Clock(), Log()
    with Profiler(MIC, warning="50ms", critical="100ms", clock=clock, logger=log.logger) as p:
        for latency in (50 * MS, 50 * MS + 1, 100 * MS + 1):
            frame = p.frame(latency, source="input\n")
            clock.after(latency)
            frame.finish()
        p.record(1, (5, 0, 0, 5 + 60 * MS))
        p.record(2, (0, 0, 0, 5 + 60 * MS))  # no start, no latency
        p.frame(3, start=0).finish()
        p.frame(4, start=clock.now - 200 * MS).drop("late")
        stamps = [[10, 0, 0, 10 + 60 * MS], [0, 0, 0, 90 * MS], [10, 0, 0, 10 + 160 * MS]]
        p.record_many([5, 6, 7], stamps, None, "output")
    assert balanced(p).notes == {"warnings": 3, "criticals": 3}
    assert log.lines[0].startswith("WARNING warning threshold 50 ms exceeded: frame 50000001 of")
    assert "input\\n" in log.lines[0]
    assert log.lines[1].startswith("ERROR critical threshold 100 ms exceeded")
    assert len(log.lines) == 6


def test_many_slow_frames_do_not_flood_the_log() -> None:
    log = Log()
    stamps = np.tile([10, 0, 0, 10 + 60 * MS], (5_000, 1))
    with Profiler(MIC, warning="50ms", logger=log.logger) as profiler:
        profiler.record_many(np.arange(5_000), stamps)
        for n in range(5_000):
            profiler.record(n, (10, 0, 0, 10 + 60 * MS))
    notes = balanced(profiler).notes
    assert notes["warnings"] == 10_000
    logged = [line for line in log.lines if "exceeded" in line]
    assert notes["log records suppressed"] == 10_000 - len(logged)
    reported = [
        int(line.split()[1].replace(",", "")) for line in log.lines if "more frames" in line
    ]
    assert sum(reported) == notes["log records suppressed"]
    assert len(log.lines) < 200


def test_thresholds_need_both_ends_of_a_span() -> None:
    with Profiler(MIC, owns=("decode", "end"), warning=1_000) as profiler:
        profiler.frame(1).finish()
    assert balanced(profiler).notes == {}


# -- settings -------------------------------------------------------------------------------------


def test_invalid_settings_are_refused() -> None:
    rate = "sampling_rate must be a number between 0 and 1, got "
    clock = "clock must be a function without arguments that returns integer ns from 1 to 2**62 - 1"
    refused: list[tuple[dict[str, Any], str]] = [
        ({"capacity": 0}, "capacity must be an integer"),
        ({"capacity": 2.5}, "capacity must be an integer"),
        ({"sampling_rate": 1.1}, rate + "1.1"),
        ({"sampling_rate": -0.1}, rate + "-0.1"),
        ({"sampling_rate": float("nan")}, rate + "nan"),
        ({"sampling_rate": "x"}, rate + "'x'"),
        ({"sampling_rate": True}, rate + "True"),
        ({"warning": "fast"}, "warning must be a duration"),
        ({"critical": -5}, "critical must be 0 or more, got -5"),
        ({"critical": 0.1}, "critical must be a duration"),
        ({"warning": "100ms", "critical": "50ms"}, "(100 ms) must not exceed critical (50 ms)"),
        ({"report_interval": 0}, "report_interval must be above 0, got 0"),
        ({"report_interval": "x"}, "report_interval"),
        ({"clock": time.time}, clock + ", got 1"),
        ({"clock": lambda: 0}, clock + ", got 0"),
        ({"clock": lambda: -5}, clock + ", got -5"),
        ({"clock": lambda: 2**62}, clock + ", got 4611686018427387904"),
        ({"clock": lambda: True}, clock + ", got True"),
        ({"clock": lambda now: now}, clock + ", got TypeError: "),
        ({"clock": 5}, clock + ", got TypeError: "),
        ({"logger": "latprof"}, "logger must be a logging.Logger, got 'latprof'"),
        ({"overflow": "grow"}, "overflow must be one of overwrite, drop, block, got 'grow'"),
        ({"overflow": None}, "overflow must be one of overwrite, drop, block, got None"),
        ({"path": 5}, "path must be a non-empty path without null bytes, got 5"),
        ({"path": ""}, "path must be a non-empty path without null bytes, got ''"),
        ({"path": "a\0b"}, "path must be a non-empty path without null bytes, got 'a"),
        ({"path": "/no/such/a.parquet"}, "existing folder, got /no/such/a.parquet; create the"),
        ({"ring": "/no/such/a.ring"}, "No such file or directory; create the folder '/no/such'"),
        ({"rotate": "1h"}, "rotate must come with a path, got '1h'"),
        (
            {"path": "a.parquet", "rotate": "often"},
            "rotate, unless a size like 64MB, must be a dur",
        ),
        (
            {"path": "a.parquet", "rotate": "1kB"},
            "rotate must be 64KiB (65,536 bytes) or more, got '1kB'",
        ),
        ({"path": "a.parquet", "rotate": 0}, "rotate must be 1ms or more, got 0"),
        ({"warning": {"alsa": "1ms"}}, "warning must name spans of pipeline 'mic', got 'alsa'"),
        ({"warning": {5: "1ms"}}, "warning must name spans of pipeline 'mic', got 5"),
        ({"warning": {"play": None}}, "warning of 'play'"),
        ({"critical": {"play": "soon"}}, "critical of 'play' must be a duration"),
        ({"on_critical": "freeze"}, "on_critical must come with a critical threshold"),
        ({"critical": 5, "on_critical": "melt"}, 'on_critical must be "freeze" or a function'),
        ({"critical": 5, "on_critical": 5}, "got 5"),
        ({"freeze_to": None}, "freeze_to must be a non-empty path without null bytes, got None"),
        ({"keep": "fast"}, 'keep, unless "slow", must be a duration'),
        ({"keep": -1}, "keep"),
        ({"keep": "x" * 70_000}, "keep"),
    ]
    for setting, message in refused:
        with pytest.raises(ProfilerError, match=re.escape(message)) as info:
            Profiler(MIC, **setting)
        assert "\n" not in str(info.value)
        assert len(str(info.value)) < 300


def test_calls_with_wrong_types_raise_a_latprof_error_or_are_counted() -> None:
    """Every public call, with arguments of every odd kind: one line, or a rejected frame."""
    odd: list[Any] = [
        None, True, -1, 2**70, 0.5, float("nan"), "x", "", b"x", "\udcff", [], [1], [[1]], {}, {1},
        {"a": 1}, (), object(), int, len, np.array([1.5]), np.array(["a"]), np.array(None), 1j,
        range(4), iter([1]), Labels.encode(["a"]), MIC, slice(3), "x\n\x1b[31m" * 9_000,
    ]  # fmt: skip
    calls, messages, escaped = 0, [], []
    with Profiler(MIC, warning="1ns", logger=Log().logger) as profiler:

        def attempts(value: Any) -> list[Callable[[], Any]]:
            frame = profiler.frame
            settings = ("capacity", "sampling_rate", "warning", "critical", "owns", "clock")
            settings += ("report_interval", "overflow", "rotate", "on_critical", "freeze_to")
            settings += ("keep", "logger")
            return [
                lambda: Profiler(value),
                *(lambda name=name: Profiler(MIC, **{name: value}) for name in settings),
                lambda: Profiler(MIC, critical={"decode": value}),
                lambda: frame(value).finish(),
                lambda: frame(1, value).finish(),
                lambda: frame(1, source=value).finish(),
                lambda: frame(1, start=value).finish(),
                lambda: frame(1).mark(value),
                lambda: frame(1).mark("decode", at=value),
                lambda: frame(1).finish(at=value),
                lambda: frame(1).drop(value),
                lambda: profiler.record(value, (1, 2, 3, 4)),
                lambda: profiler.record(1, value),
                lambda: profiler.record(1, (1, value, 3, 4)),
                lambda: profiler.record(1, (1, 2, 3, 4), value, value),
                lambda: profiler.record_many(value, value),
                lambda: profiler.record_many([1], value),
                lambda: profiler.record_many(value, [(1, 2, 3, 4)]),
                lambda: profiler.record_many([1], [(1, 2, 3, 4)], value),
                lambda: profiler.record_many([1], [(1, 2, 3, 4)], None, value),
                lambda: profiler.record_many([1], [(1, 2, 3, 4)], None, [value]),
                lambda: profiler.stage(value),
                lambda: profiler.stage("decode")(value),
            ]

        for value in odd:
            for number, attempt in enumerate(attempts(value)):
                calls += 1
                try:
                    attempt()
                except LatprofError as error:
                    messages.append(str(error))
                except Exception as error:
                    escaped.append((number, str(value)[:20], type(error).__name__, str(error)[:60]))
    assert escaped == []
    assert [m for m in messages if not m.isprintable() or len(m) > 400] == []
    assert calls > 900
    a = balanced(profiler)
    assert a.notes.get("errors in the background", 0) == 0
    assert profiler.report().profile.frames > 0


def test_bad_pipeline_and_marks() -> None:
    with pytest.raises(
        ProfilerError,
        match=r"pipeline must be a Pipeline \(for example latprof.AUDIO\), got 'audio'",
    ):
        Profiler("audio")  # type: ignore[arg-type]
    with pytest.raises(PipelineError, match="owns must contain marks of pipeline 'mic', got 'ipc'"):
        Profiler(MIC, owns=("ipc",))


# -- running --------------------------------------------------------------------------------------


def test_a_stopped_profiler_returns_a_frame_that_does_nothing() -> None:
    profiler = Profiler(MIC)
    assert not profiler.running
    with profiler.frame(1) as frame:
        assert frame is NO_FRAME
        assert not frame
        frame.mark("typo")
        frame.mark("decode", at=5)
        frame.drop("late")
        frame.finish(at=9)
    profiler.record(1, (1, 2, 3, 4))
    profiler.record_many([1], [[1, 2, 3, 4]])
    notes = {"calls of a profiler that was never started": 3}
    assert balanced(profiler) == Accounts(notes=notes)
    with pytest.raises(ZeroDivisionError), profiler.frame(1):
        1 / 0  # noqa: B018


def test_start_twice_is_an_error_and_stop_twice_is_not() -> None:
    profiler = Profiler(MIC)
    profiler.stop()
    with profiler:
        assert profiler.running
        assert profiler.enabled
        with pytest.raises(ProfilerError, match="runs already; stop it"):
            profiler.start()
    profiler.stop()
    assert not profiler.running


def test_restart_keeps_totals_and_segments() -> None:
    clock = Clock(1_000)
    profiler = Profiler(MIC, clock=clock)
    offset = profiler.clock_offset_ns
    for begin, end in ((1_000, 2_000), (5_000, 7_000)):
        clock.now = begin
        with profiler:
            for n in range(3):
                profiler.frame(n).finish()
            clock.now = end
    assert balanced(profiler).finished == 6
    profile = profiler.report().profile
    assert profile.frames == 6
    assert profile.segments == {
        (offset + 1_000, offset + 2_000),
        (offset + 5_000, offset + 7_000),
    }
    assert profile.active_ns == 3_000
    clock.now = 9_000
    profiler.start()
    clock.now = 9_500
    assert (offset + 9_000, offset + 9_500) in profiler.report().profile.segments
    profiler.stop()
    assert [pair[0] for pair in profiler.trace().meta["anchors"]] == [
        1_000, 1_000, 2_000, 5_000, 7_000, 9_000, 9_500,
    ]  # fmt: skip


def test_a_report_while_running_has_all_frames_so_far() -> None:
    with Profiler(MIC, capacity=8) as profiler:
        for n in range(20):
            profiler.frame(n).finish()
            if n % 5 == 4:
                assert profiler.report().profile.frames == n + 1
        copy = profiler.report()
        profiler.frame(99).finish()
        assert copy.profile.frames == 20
    assert str(profiler.report()).splitlines()
    assert profiler.report().profile.accounts.folded == 21


def test_the_log_gets_the_report_again_after_a_restart() -> None:
    log = Log()
    profiler = Profiler(MIC, report_interval="20ms", logger=log.logger)
    for _ in range(2):
        log.lines.clear()
        with profiler:
            profiler.frame(1).finish()
            wait_for(lambda: len(log.lines) >= 2)
    assert all(line.startswith("INFO mic: ") for line in log.lines)


def test_no_report_is_logged_without_frames() -> None:
    log = Log()
    with Profiler(MIC, report_interval="1ms", logger=log.logger):
        time.sleep(0.05)
    assert log.lines == []


def test_the_background_folds_before_the_ring_comes_round() -> None:
    with Profiler(MIC, capacity=64) as profiler:
        for n in range(20):
            for i in range(20):
                profiler.frame(20 * n + i).finish()
            wait_for(lambda: profiler._fold.backlog < 40)
    a = balanced(profiler)
    assert (a.folded, a.lost) == (400, 0)


def test_frames_carry_cpu_and_memory() -> None:
    with Profiler(MIC) as profiler:
        wait_for(lambda: profiler._core.rss > 0)
        profiler.frame(1).finish()
        profiler.record(2, (1, 2, 3, 4))
        profiler.record_many([3], [[1, 2, 3, 4]])
    rss = profiler.trace().rss
    assert rss is not None
    assert (rss > 1_000_000).all()


def test_an_error_in_the_background_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log()

    def broken(*_: object) -> None:
        raise OSError("no\nroom")

    profiler = Profiler(MIC, report_interval="1ms", logger=log.logger)
    monkeypatch.setattr(Profiler, "_log_report", broken)
    with profiler:
        wait_for(lambda: profiler.accounts.notes.get("errors in the background", 0) >= 3)
        profiler.frame(1).finish()
    assert len(log.lines) == 1
    assert "OSError: no\\nroom" in log.lines[0]
    assert balanced(profiler).finished == 1


# -- numbers that are claimed and not written ------------------------------------------------------


def test_a_stalled_writer_is_awaited_and_then_counted_as_torn() -> None:
    with Profiler(MIC, capacity=8) as profiler:
        profiler.frame(1).finish()
        profiler._core.started += 1
        number = claim(profiler._ring)  # as a thread does that is then interrupted
        profiler.frame(3).finish()
        profiler.report()
        a = balanced(profiler)
        assert (a.folded, a.not_folded, a.torn) == (2, 1, 0)
        write(profiler._ring, number, 2, (1, 2, 3, 4))
        profiler.report()
        assert balanced(profiler).folded == 3
        profiler._core.started += 1
        claim(profiler._ring)
    a = balanced(profiler)
    assert (a.folded, a.not_folded, a.torn) == (3, 0, 1)


def test_a_number_without_a_row_is_torn_after_a_second_or_a_lap() -> None:
    now = [0]
    profiler = Profiler(MIC, capacity=4)
    profiler._fold._now = lambda: now[0]
    with profiler:
        profiler._core.started += 1
        claim(profiler._ring)
        profiler.report()
        now[0] = 10**9 + 1
        profiler.report()
        assert (balanced(profiler).torn, balanced(profiler).not_folded) == (1, 0)
        profiler._core.started += 1
        claim(profiler._ring)
        profiler.report()
        for n in range(4):
            profiler.frame(n).finish()
            profiler.report()
        a = balanced(profiler)
    assert (a.torn + a.lost, a.folded) == (2, 4)


def test_overwritten_frames_are_in_the_totals_and_not_in_the_trace() -> None:
    with Profiler(MIC, capacity=1) as profiler:
        profiler.frame(1).finish()
        profiler.report()
        profiler.frame(2).finish()
        profiler.frame(-3).finish()
    trace = profiler.trace()
    assert trace.frame_id.tolist() in ([2], [])  # the rejected one has taken the slot
    assert trace.meta["lost"] == 2 - len(trace)
    assert profiler.report().profile.frames + balanced(profiler).lost == 2


def test_trace_metadata_is_json_and_saves(tmp_path: Any) -> None:
    profiler = Profiler(AUDIO, sampling_rate=1, owns=AUDIO.marks[:5])
    with profiler:
        profiler.frame(1, size=9, source="input").finish()
        profiler.frame(2).drop("late")
    meta = profiler.trace().meta
    assert json.loads(json.dumps(meta)) == meta
    assert meta["pid"] == os.getpid()
    assert meta["clock_offset_ns"] == profiler.clock_offset_ns
    assert abs(meta["clock_offset_ns"] + time.perf_counter_ns() - time.time_ns()) < 10**9
    profiler.trace().save(tmp_path / "audio.parquet")


# -- many threads, many processes -----------------------------------------------------------------


@pytest.mark.parametrize("capacity", [1, 64, 100_000])
def test_the_accounts_of_many_threads_add_up(capacity: int) -> None:
    threads, frames = 8, 10_000 if capacity > 1 else 3_000
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with Profiler(MIC, capacity=capacity) as profiler:

            def record(thread: int) -> None:
                for n in range(frames):
                    frame = profiler.frame(thread * frames + n, source=f"thread {thread}")
                    frame.mark("decode")
                    if n % 10 == 3:
                        frame.drop("late")
                    elif n % 10 == 7:
                        profiler.frame(-1).finish()
                        frame.finish(at=n - 9)  # negative for the first of them
                    elif n % 10 == 9:
                        profiler.record(n, (1, 2, 3, 4))
                        frame.finish()
                    else:
                        frame.finish()

            run_threads(threading.Thread(target=record, args=(i,)) for i in range(threads))
    finally:
        sys.setswitchinterval(interval)
    a = balanced(profiler)
    tenth = threads * frames // 10
    assert a.started == 12 * tenth
    assert a.rejected == {BAD_FRAME_ID: tenth, BAD_STAMP: threads}
    assert a.dropped == {"late": tenth}
    assert a.finished == 10 * tenth - threads
    assert (a.in_flight, a.not_folded) == (0, 0)
    profile = profiler.report().profile
    assert sum(p.frames for p in profile.groups.values()) == profile.frames
    assert a.folded == profile.frames + sum(profile.sums.dropped_by_reason.values())
    if capacity == 100_000:
        assert (a.lost, a.torn) == (0, 0)
    ids = profiler.trace().frame_id
    assert len(ids) <= capacity


def test_a_forked_child_does_not_record() -> None:
    code = """
import os, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)      # fork beside threads, from 3.12 on
import logging
from latprof import AUDIO, Profiler, ProfilerError, get_profiler, enable
logging.disable()
shared = enable()
with Profiler(AUDIO) as profiler:
    profiler.frame(1).finish()
    frame = profiler.frame(2)
    pid = os.fork()
    if pid == 0:
        frame.finish()
        assert not profiler.running and not profiler.frame(3)
        a = profiler.accounts
        assert a.rejected == {"finished after stop": 1}, a
        assert a.notes == {"stopped by a fork": 1}, a
        assert profiler.report().profile.frames == 1
        assert len(profiler.trace()) == 1
        try:
            profiler.start()
        except ProfilerError as error:
            assert "new Profiler" in str(error)
        else:
            os._exit(1)
        own = Profiler(AUDIO)
        with own:
            own.frame(4).finish()
        assert own.report().profile.frames == 1
        assert get_profiler() is not shared and not get_profiler().running
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    frame.finish()
    profiler.frame(5).finish()
a = profiler.accounts
assert (a.finished, a.rejected, a.notes) == (3, {}, {}), a
assert shared.running
print("fine")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "fine\n"), done.stderr


def test_importing_and_recording_loads_nothing_heavy() -> None:
    code = """
import sys
from latprof import AUDIO, Profiler
profiler = Profiler(AUDIO)
heavy = {"pandas", "pyarrow", "matplotlib", "rich", "psutil", "importlib.metadata"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
with profiler:
    profiler.frame(1).finish()
str(profiler.report())
assert not (heavy - {"psutil"}) & set(sys.modules), heavy & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_sums_of_spans_agree_with_a_calculation_by_hand() -> None:
    # two frames of a pipeline with a side span, stamps chosen; sums by hand
    pipeline = Pipeline(
        "p",
        ("start", "a", "b", "end"),
        (Span("s", "a", "end"), Span("side", "b", "end", kind="side")),
    )
    ticks = itertools.count(10, 10).__next__  # 10: made, 20: started
    with Profiler(pipeline, clock=ticks) as profiler:
        for n in (1, 2):
            with profiler.frame(n) as frame:  # 30 40 50 60, 70 80 90 100
                frame.mark("a")
                frame.mark("b")
    profile = profiler.report().profile
    assert [profile[name].total for name in ("s", "side", "other", "end_to_end")] == [
        40,
        20,
        20,
        60,
    ]


# -- overhead -------------------------------------------------------------------------------------


def test_overhead_is_measured_in_this_process() -> None:
    clock = Clock()
    profiler = Profiler(MIC, clock=clock, warning={"play": 1_000}, owns=None)
    nothing = profiler.overhead()
    assert nothing.share is None
    assert 100 < nothing.ns_per_frame < 1_000_000
    with profiler:
        frame = profiler.frame(1)
        clock.after(1_000_000_000)
        frame.finish()
    cost = profiler.overhead()
    assert cost.share == pytest.approx(cost.ns_per_frame / 1_000_000_000)
    assert balanced(profiler).started == 1  # the measurement records no frame
    assert balanced(profiler).notes == {}
    line = next(line for line in str(profiler.report()).splitlines() if "profiling" in line)
    assert line.startswith("profiling a frame takes ")
    assert line.endswith(" % of its mean latency")


def test_the_share_of_the_overhead_has_no_exponent() -> None:
    shares = {1.32: "132 %", 0.996: "100 %", 123.4: "12,340 %", 3.1e-7: "0.000031 %", 0: "0 %"}
    for share, said in shares.items():
        assert str(Overhead(1_300.0, share)).endswith(f" core, {said} of its mean latency")


def test_the_report_says_that_the_profiler_was_never_started() -> None:
    profiler = Profiler(MIC)
    profiler.frame(1).finish()
    said = "mic: the profiler was never started; use it in `with`, or call start()"
    report = profiler.report()
    assert str(report).splitlines()[0] == said
    assert json.loads(report.to_json())["headline"] == said
    assert said.replace("`", "") in re.sub(r"<.*?>|`", "", report.to_html())
    with profiler:
        assert str(profiler.report()).startswith("mic: no frame has finished\n")
    assert str(profiler.report()).startswith("mic: no frame has finished\n")


def test_one_frame_is_reported_in_the_singular() -> None:
    with Profiler(MIC) as profiler:
        profiler.record(1, [1_000, 2_000, 3_000, 4_000])
    assert repr(profiler) == "<Profiler of mic: stopped, 1 frame>"
    report = profiler.report()
    assert repr(report.profile) == "<Profile of mic: 1 frame>"
    assert "1 frame in 3.00 us" in str(report)
    assert not re.search(r"\b1 frames(?!/s)", str(report))  # a rate may be 1 frames/s
    limits = Thresholds(critical_ns=1)
    assert "1 of 1 frame (100" in str(Report(report.profile, thresholds=limits))


def test_overhead_of_a_process_that_owns_some_marks() -> None:
    profiler = Profiler(AUDIO, owns=("cgo", "alsa", "end"))
    with profiler:
        profiler.frame(1).finish()
    assert profiler.overhead().share is None
