"""Frames in flight in a ring file: a process may die after any store, and a reader may look.

The frames are written one store at a time, in the order in which a recorder stores them.
"""

import random
import re
import subprocess
import sys
import time

import numpy as np
import pytest
from flights import Writer
from hypothesis import given, settings
from hypothesis import strategies as st
from rings import claim
from rings import write as write_row
from strategies import examples

import latprof
from latprof import Pipeline, Span
from latprof.cli.main import main
from latprof.recovery import last_moments
from latprof.ring.reader import RingReader
from latprof.ring.ring import Ring

MIC = Pipeline.chain("mic", "decode", "play")
METADATA = {"clock_offset_ns": 10**18, "pid": 1}
OFFSET = 10**18


def stamps_of(n):
    """Return the stamps of frame n; some frames leave out a mark."""
    stamps = {"start": 100 * n, "decode": 100 * n + 10, "play": 100 * n + 30, "end": 100 * n + 70}
    if n % 3 == 0:
        del stamps["decode"]
    return stamps


def new_ring(path, capacity=8, slots=8, **settings):
    ring = Ring(MIC, capacity, path=path, metadata=METADATA, slots=slots, **settings)
    ring.note(True, 5, OFFSET + 5)
    return ring


def shown(trace):
    """Return the stamps by frame id of rows and of frames in flight."""
    rows = {
        frame_id: {
            mark: int(ns[i]) - OFFSET for mark, ns in trace.marks.items() if ns[i] != -(2**63)
        }
        for i, frame_id in enumerate(trace.frame_id.tolist())
    }
    assert len(rows) == len(trace)
    flights = {
        frame.frame_id: {mark: ns - OFFSET for mark, ns in frame.marks.items()}
        for frame in trace.in_flight
    }
    assert len(flights) == len(trace.in_flight)
    return rows, flights


def test_a_process_may_die_after_each_store_of_a_frame(tmp_path):
    # one frame before, and one that is recorded while the process is killed
    steps = []
    for stores in range(100):
        ring = new_ring(tmp_path / "mic.ring", keep_previous=1)
        writer = Writer(ring)
        for _ in writer.frame(1, stamps_of(1), source=ring.sources.code("input")):
            pass
        frame = writer.frame(2, stamps_of(2), source=ring.sources.code("output"), thread=77)
        step = [next(frame, "over") for _ in range(stores)][-1:]
        ring.release()  # the process is dead
        trace = latprof.recover(tmp_path / "mic.ring")
        rows, flights = shown(trace)
        assert rows.pop(1) == stamps_of(1)
        accounts = trace.meta.get("accounts", {})
        assert accounts.get("torn", 0) == trace.meta["lost"] == 0
        if step == ["over"]:
            break
        steps += step
        committed = "row seq" in steps
        assert rows == ({2: stamps_of(2)} if committed else {})
        in_flight = "begun" in steps and not committed
        assert flights == ({2: writer.begun[2]} if in_flight else {})
        assert accounts.get("in_flight", 0) == in_flight
        for found in trace.in_flight:
            assert (found.source, found.thread, found.size) == ("output", 77, None)
            assert found.age_ns == max(writer.begun[2].values()) - 200
    assert steps[-1] == "freed"
    assert {"held", "drawn", "row begin", "row seq"} < set(steps)


@settings(max_examples=examples(100), deadline=None)
@given(
    seed=st.integers(0, 2**32),
    capacity=st.sampled_from([1, 2, 3, 8, 40]),
    threads=st.integers(1, 5),
    stores=st.integers(0, 400),
)
def test_threads_that_die_at_once_lose_and_invent_nothing(
    tmp_path_factory, seed, capacity, threads, stores
):
    path = tmp_path_factory.mktemp("rings") / "mic.ring"
    ring, chance = new_ring(path, capacity, slots=threads), random.Random(seed)
    writer = Writer(ring)
    ids = iter(range(1, 1_000))
    running = []
    late, done = False, ""
    for _ in range(stores):
        if len(running) < threads and (not running or chance.random() < 0.3):
            n = next(ids)
            running.append(writer.frame(n, stamps_of(n)))
        # no other thread runs between drawing a number and the end of its row
        if done not in ("drawn", "held") and (not done.startswith("row ") or done == "row seq"):
            k = chance.randrange(len(running))
        done = next(running[k], "")
        if not done:
            del running[k]
        # a writer that is a lap late overwrites a newer row
        numbers = [n for f, n in writer.number.items() if f not in writer.freed]
        late |= any(n <= ring.numbers.drawn - capacity for n in numbers)
    ring.release()
    trace = latprof.recover(path)
    rows, flights = shown(trace)
    # nothing is invented: all stamps are those that were stored
    assert all(stamps == stamps_of(n) for n, stamps in rows.items())
    assert all(stamps == writer.begun[n] for n, stamps in flights.items())
    # nothing is there twice, and each frame is in one place
    assert not rows.keys() & flights.keys()
    assert flights.keys().isdisjoint(writer.freed)
    assert rows.keys() | flights.keys() <= writer.begun.keys()
    assert trace.meta.get("accounts", {}).get("in_flight", 0) == len(flights)
    assert trace.meta.get("accounts", {}).get("torn", 0) == 0
    # a ring of few rows may not show the newest number
    if not late and capacity > threads:
        held = {number for frame, number in writer.number.items() if frame not in writer.freed}
        unknown = ring.numbers.drawn - max([*held, *writer.number.values(), 0])
        assert unknown <= threads  # drawn, and not yet stored anywhere
        assert len(rows) + len(flights) + trace.meta["lost"] == len(writer.begun)


def test_a_living_process_is_read_in_the_middle_of_frames(tmp_path):
    path = tmp_path / "mic.ring"
    ring = new_ring(path)
    writer = Writer(ring)
    frame = writer.frame(1, stamps_of(1))
    with RingReader(path) as reader:
        newest, unfinished = 0, None
        seen = []
        for _ in frame:
            scan = reader.scan(after=newest, unfinished=unfinished)
            newest, unfinished = scan.newest, scan.unfinished
            seen += scan.rows["frame_id"].tolist()
            assert scan.lost == scan.torn == 0
            in_flight = scan.flights["frame_id"].tolist()
            assert in_flight == [1] * (1 in writer.begun and not seen)
            assert scan.in_flight == len(in_flight)
        assert seen == [1]


def test_a_small_ring_at_full_speed_is_never_torn_and_shows_no_frame_twice(tmp_path):
    code = """
import sys, threading, time
from latprof import AUDIO, Profiler
profiler = Profiler(AUDIO, capacity=500, ring=sys.argv[1])
profiler.start()
sys.setswitchinterval(1e-4)
def work(thread):
    n = 0
    while True:
        n += 1
        frame = profiler.frame(thread << 32 | n)
        for mark in AUDIO.marks[1:-1]:
            frame.mark(mark)
        frame.finish()
for thread in range(4):
    threading.Thread(target=work, args=(thread,), daemon=True).start()
print("ready", flush=True)
sys.stdin.read()
"""
    path = tmp_path / "audio.ring"
    call = [sys.executable, "-c", code, path]
    with subprocess.Popen(call, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        try:
            assert writer.stdout.readline() == b"ready\n"
            traces = [latprof.recover(path) for _ in range(8)]
        finally:
            writer.kill()
    traces.append(latprof.recover(path))
    for trace in traces:
        ids = trace.frame_id.tolist()
        in_flight = [frame.frame_id for frame in trace.in_flight]
        assert len({*ids, *in_flight}) == len(ids) + len(in_flight)
        assert trace.recovery.torn == 0
        # a frame in flight is newer than all finished frames of its thread
        newest = {n >> 32: n for n in sorted(ids)}
        assert all(n > newest.get(n >> 32, 0) for n in in_flight)
    # each thread was working on at most one frame, and none of its frames is missing
    assert len(in_flight) == len({n >> 32 for n in in_flight})
    for thread in range(4):
        mine = sorted(n for n in ids + in_flight if n >> 32 == thread)
        first = min(mine, default=0)
        assert mine == list(range(first, first + len(mine)))


def test_the_number_of_a_stalled_frame_is_requested_until_its_row_comes(tmp_path):
    path = tmp_path / "mic.ring"
    ring = new_ring(path, capacity=500)
    writer = Writer(ring)
    stalled = writer.frame(1, stamps_of(1))
    while next(stalled) != "held":
        pass
    with RingReader(path) as reader:
        for n in range(2, 300):  # more than may be in the middle of a write at once
            for _ in writer.frame(n, stamps_of(n)):
                pass
        first = reader.scan()
        second = reader.scan(after=first.newest, unfinished=first.unfinished)
        for scan in (first, second):
            assert (scan.lost, scan.in_flight, scan.unfinished.tolist()) == (0, 1, [1])
            assert scan.flights["frame_id"].tolist() == [1]
        for _ in stalled:
            pass
        third = reader.scan(after=second.newest, unfinished=second.unfinished)
        assert third.rows["frame_id"].tolist() == [1]
        assert (third.in_flight, third.lost) == (0, 0)


def test_frames_without_a_slot_are_torn_as_before(tmp_path):
    ring = new_ring(tmp_path / "mic.ring")
    for n in (1, 2):
        write_row(ring, claim(ring), n, (1, 2, 3, 4))
    ring.array["seq"][0] = 0
    ring.release()
    trace = latprof.recover(tmp_path / "mic.ring")
    assert trace.meta["accounts"] == {"torn": 1}
    assert trace.in_flight == ()


def test_rejected_frames_are_counted_by_reason(tmp_path):
    ring = new_ring(tmp_path / "mic.ring")
    reasons = ["rejected: a", "rejected: a", "rejected: b", "late"]
    for n, reason in enumerate(reasons):
        number = claim(ring)
        code = ring.outcomes.code(reason)
        write_row(ring, number, n, (0, 0, 0, 0), outcome=code, weight=0)
    ring.note(False, 9, OFFSET + 9)
    with RingReader(tmp_path / "mic.ring") as reader:
        scan = reader.scan()
        assert scan.rejected == {"a": 2, "b": 1}
        # weight 0 is valid for a rejected frame only
        assert (len(scan.rows), scan.refused, scan.lost) == (0, 1, 1)
    trace = latprof.recover(tmp_path / "mic.ring")
    assert trace.meta["accounts"] == {"rejected": {"a": 2, "b": 1}}
    assert str(trace.recovery) == "0 rows whole, 0 torn, 4 never written, 3 rejected, 1 refused"
    assert latprof.analyze(trace).accounts.rejected == {"a": 2, "b": 1}


def test_the_stage_is_the_last_one_that_has_begun_and_not_ended(tmp_path):
    # stages overlap no stage; the side and the total are no stages; b may be left out
    pipeline = Pipeline(
        name="web",
        marks=("start", "a", "b", "b_end", "c", "end"),
        spans=(
            Span("read", "start", "a"),
            Span("query", "b", "b_end"),
            Span("send", "c", "end"),
            Span("all", "a", "c", kind="side"),
        ),
    )
    ring = Ring(pipeline, 4, path=tmp_path / "web.ring", metadata=METADATA)
    ring.note(True, 1, OFFSET + 1)
    writer = Writer(ring)
    cases = [
        (("start",), "read"),
        (("start", "a"), "after a"),
        (("start", "a", "b"), "query"),
        (("start", "b"), "query"),  # a was left out
        (("start", "a", "b", "b_end"), "after b_end"),
        (("start", "a", "c"), "send"),
        (("a",), "after a"),
        (("start", "a", "b", "b_end", "c", "end"), "after end"),
    ]
    for n, (marks, _) in enumerate(cases):
        frame = writer.frame(n, {mark: 10 + k for k, mark in enumerate(marks)})
        while next(frame) != "begun":
            pass
        for _ in marks[1:]:
            next(frame)
    ring.release()
    found = {
        frame.frame_id: frame.where for frame in latprof.recover(tmp_path / "web.ring").in_flight
    }
    assert found == {n: where for n, (_, where) in enumerate(cases)}


def test_ages_end_with_the_last_sign_of_life(tmp_path):
    ring = new_ring(tmp_path / "mic.ring")
    writer = Writer(ring)
    frame = writer.frame(1, stamps_of(1), tags=())
    while next(frame) != "marked":
        pass
    ring.release()
    (found,) = latprof.recover(tmp_path / "mic.ring").in_flight
    assert (found.age_ns, found.stage_ns, found.until_ns) == (10, 0, OFFSET + 110)
    ring.beat(5_000)  # the process went on for a while
    (found,) = latprof.recover(tmp_path / "mic.ring").in_flight
    assert (found.age_ns, found.stage_ns) == (4_900, 4_890)
    assert latprof.recover(tmp_path / "mic.ring").meta["segments"] == [[OFFSET + 5, OFFSET + 5_000]]
    ring.note(False, 7_000, OFFSET + 7_000)  # it was stopped while the frame was in flight
    (found,) = latprof.recover(tmp_path / "mic.ring").in_flight
    assert found.age_ns == 6_900


def test_stamps_too_late_for_the_clock_offset_refuse_one_row(tmp_path):
    ring = new_ring(tmp_path / "mic.ring")
    late = 2**62 - OFFSET
    for n, at in enumerate((late - 1, late, 2**62 - 1), 1):
        write_row(ring, claim(ring), n, (1, 2, 3, at))
    slots = np.frombuffer(ring.slots, ring.dtype, 8)
    slots["start"][:2] = late - 1, late
    slots["begin"][:2] = 1, 2
    ring.note(False, 9, OFFSET + 9)
    trace = latprof.recover(tmp_path / "mic.ring")
    trace.save(tmp_path / "x.parquet")
    assert latprof.read(tmp_path / "x.parquet").frame_id.tolist() == [1]
    assert (trace.recovery.refused, len(trace.in_flight)) == (2, 1)


def test_a_running_profiler_stores_signs_of_life(tmp_path):
    with latprof.Profiler(MIC, ring=tmp_path / "mic.ring") as profiler:
        signs = []
        deadline = time.monotonic() + 20
        while len(set(signs)) < 3 and time.monotonic() < deadline:
            with RingReader(tmp_path / "mic.ring") as reader:
                signs.append(reader.last_sign_ns(()))
            time.sleep(0.05)
        assert signs == sorted(signs)
        assert len(set(signs)) >= 3
        now = time.time_ns() - profiler.clock_offset_ns
        assert abs(now - signs[-1]) < 5_000_000_000


def test_invalid_slots_are_counted_and_not_shown(tmp_path):
    ring = Ring(
        MIC,
        4,
        path=tmp_path / "mic.ring",
        metadata=METADATA | {"owns": ["decode", "play"]},
        tags=("room",),
        slots=8,
    )
    slots = np.frombuffer(ring.slots, ring.dtype, 8)
    slots["begin"] = range(1, 9)
    slots["decode"] = 5
    for place, (field, value) in enumerate(
        [("start", 5), ("decode", -1), ("play", 2**62), ("source", 1), ("tag 0", 9)]
    ):
        slots[field][place] = value
    slots["seq"][5] = 2**64 - 1  # a number that no ring has
    slots["begin"][6] = 0
    ring.release()
    trace = latprof.recover(tmp_path / "mic.ring")
    assert len(trace.in_flight) == 2
    assert trace.meta["accounts"]["notes"] == {"invalid slots of frames in flight": 5}


def test_frames_in_flight_are_saved_with_the_trace(tmp_path):
    ring = new_ring(tmp_path / "mic.ring", tags=("endpoint",))
    writer = Writer(ring)
    frame = writer.frame(7, stamps_of(7), size=9, tags=(ring.tags[0].code("/cart"),))
    while next(frame) != "begun":
        pass
    ring.release()
    trace = latprof.recover(tmp_path / "mic.ring")
    trace.save(tmp_path / "crash.parquet")
    again = latprof.read(tmp_path / "crash.parquet")
    assert again.in_flight == trace.in_flight
    (found,) = again.in_flight
    assert (found.frame_id, found.size, found.tags) == (7, 9, {"endpoint": "/cart"})
    assert latprof.analyze(again).accounts.in_flight == 1
    for wrong in ([1], [{}], [found.to_dict() | {"thread": "x"}], [found.to_dict() | {"more": 1}]):
        with pytest.raises(latprof.TraceError, match="'in_flight' must be a list of frames"):
            latprof.Trace(
                MIC, frame_id=[], marks={m: [] for m in MIC.marks}, meta={"in_flight": wrong}
            )


# -- the end of a recording ---------------------------------------------------------------------


def test_recover_without_output_shows_how_a_recording_ended(tmp_path, capsys):
    path = tmp_path / "mic.ring"
    limits = {"warning": {"end_to_end": 60}, "critical": {"decode": 35}}
    metadata = METADATA | {"thresholds": limits, "host": "box"}
    ring = Ring(MIC, 40, path=path, metadata=metadata, slots=8, tags=("endpoint",))
    ring.note(True, 5, OFFSET + 5)
    writer = Writer(ring)
    cart = ring.tags[0].code("/ca\x1brt")
    for n in range(1, 31):
        stamps = stamps_of(n)
        if n in (3, 17, 20):
            stamps["decode"], stamps["play"] = 100 * n + 10, 100 * n + 10 + n * 2
        else:
            stamps["end"] = 100 * n + 50  # below all thresholds
        for _ in writer.frame(n, stamps, source=ring.sources.code("input"), tags=(cart,)):
            pass
    hung = writer.frame(31, stamps_of(32), size=960, thread=77, tags=(cart,))
    while next(hung) != "marked":
        pass
    assert main(["recover", str(path)]) == 0
    assert "process 1 on box is recording" in capsys.readouterr().out
    ring.release()
    ring.beat(9_000_000_000)
    assert main(["recover", str(path)]) == 0
    text = capsys.readouterr().out
    assert "\x1b" not in text
    flat = " ".join(text.split())
    assert "mic: process 1 on box ended without stopping; its last sign of life was at" in flat
    assert "30 rows whole, 0 torn, 10 never written" in text
    lines = [re.split(r" {2,}", line) for line in text.split("\n")]
    at = lines.index(["In flight: 1 frame"])
    assert lines[at + 1] == [
        *("frame_id", "in flight", "stage", "in stage", "source", "endpoint", "size", "thread")
    ]
    assert lines[at + 2] == ["31", "9.00 s", "decode", "9.00 s", "-", "/ca\\x1brt", "960", "77"]
    at = lines.index(["Last 10 frames of 30"])
    assert [line[1].split()[0] for line in lines[at + 2 : at + 12]] == [
        str(n) for n in range(21, 31)
    ]
    at = lines.index(["Last 4 violations"])
    assert [line[1:] for line in lines[at + 2 : at + 6]] == [
        ["3", "input", "end_to_end", "70 ns", "warning above 60 ns"],
        ["17", "input", "end_to_end", "70 ns", "warning above 60 ns"],
        ["20", "input", "end_to_end", "70 ns", "warning above 60 ns"],
        ["20", "input", "decode", "40 ns", "critical above 35 ns"],
    ]
    ring.note(False, 9_500_000_000, OFFSET + 9_500_000_000)
    sections = {section.key: section for section in last_moments(path)}
    assert "process 1 on box stopped recording at 2001-09-09" in sections["state"].title
    assert sections["in_flight"].table.rows[0][:2] == ("31", 9_500_000_000 - 3_200)


def test_a_recording_without_frames_has_last_moments(tmp_path):
    ring = Ring(MIC, 4, path=tmp_path / "mic.ring", metadata=METADATA, slots=1)
    titles = [section.title for section in last_moments(tmp_path / "mic.ring")]
    assert titles == [
        "mic: process 1 has not started to record",
        "In flight: 0 frames",
        "Last frames: none",
        "Last violations: the profiler had no thresholds",
    ]
    ring.note(True, 5, OFFSET + 5)
    frame = Writer(ring).frame(1, stamps_of(1))
    while next(frame) != "begun":
        pass
    section = last_moments(tmp_path / "mic.ring")[1]
    assert section.title == "In flight: 1 frame"
    assert section.lines == ("all 1 slots are in use: other frames in flight are not known",)


def test_recover_does_not_replace_a_file(tmp_path, capsys):
    ring, output = tmp_path / "mic.ring", tmp_path / "crash.parquet"
    with latprof.Profiler(MIC, ring=ring) as profiler:
        profiler.frame(1).finish()
    assert main(["recover", str(ring), "-o", str(output)]) == 0
    before = output.read_bytes()
    capsys.readouterr()
    assert main(["recover", str(ring), "-o", str(output)]) == 2
    assert "output must be a new file, got" in capsys.readouterr().err
    assert output.read_bytes() == before
