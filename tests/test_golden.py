"""Files that were written once by each format can be read; they are never rewritten."""

import math
from pathlib import Path

import pytest

import latprof
from latprof import Pipeline, Span

DATA = Path(__file__).parents[1] / "data"
MISSING = -(2**63)


def test_trace_of_format_1():
    trace = latprof.read(DATA / "golden" / "trace-v1.parquet")
    assert trace.pipeline == Pipeline(
        "mic",
        ("due", "start", "decode", "play", "end"),
        (
            Span("wait", "start", "decode"),
            Span("decode", "decode", "play", station="server"),
            Span("play", "play", "end", station="server"),
            Span("buffer", "decode", "end", kind="side"),
        ),
        period="20ms",
    )
    assert trace.frame_id.tolist() == [0, 1, 2, 2**64 - 1, 4]
    assert {mark: column.tolist() for mark, column in trace.marks.items()} == {
        "due": [0, 20_000_000, 40_000_000, 60_000_000, 80_000_000],
        "start": [0, 20_000_001, 1_700_000_000_123_456_789, -5, MISSING],
        "decode": [1_000, 20_000_500, 1_700_000_000_123_456_790, MISSING, 80_000_000],
        "play": [2_000, 20_000_400, 1_700_000_000_123_500_000, 10, 80_000_001],
        "end": [3_000, 20_001_000, 1_700_000_000_123_600_000, 20, 80_000_002],
    }
    assert trace.size.tolist() == [960, 0, 2**32 - 1, 2**32 - 2, 17]
    assert trace.source.to_numpy().tolist() == [
        "input",
        "output",
        None,
        "söurce <b>\x1b[31m",
        "input",
    ]
    outcome = trace.outcome.to_numpy().tolist()
    assert [name or "finished" for name in outcome] == [
        "finished",
        "finished",
        "late",
        "finished",
        "ValueError",
    ]
    assert math.isnan(trace.cpu[1])
    assert trace.cpu[[0, 2, 3, 4]].tolist() == [12.5, 0.0, 100.0, 50.0]
    assert trace.rss.tolist() == [1_000_000, 0, 2**40, 1, 2]
    assert trace.weight.tolist() == [1, 2, 3, 1, 1]
    assert trace.tags["room"].to_numpy().tolist() == ["a", None, "b", "a", "a"]
    assert trace.tags["n"].tolist() == [1, -2, 3, -4, 2**62]
    assert trace.meta["lost"] == 7
    assert trace.meta["sampling_rate"] == 0.5
    assert trace.meta["run"] == {"note": "the golden trace of format 1"}


def test_the_recordings_are_what_their_readme_says():
    healthy = latprof.read(DATA / "mic-healthy.parquet")
    slow = latprof.read(DATA / "mic-slow-card.parquet")
    assert (len(healthy), len(slow)) == (1_500, 3_000)
    assert healthy.meta["run"]["slow_card_ppm"] is None
    assert slow.meta["run"]["slow_card_ppm"] == 5000
    for trace in (healthy, slow):
        assert trace.meta["join"]["matched"] == len(trace)
        profile = latprof.analyze(trace)
        assert profile.sums.attributed == len(trace)
        shares = profile.sums.shares
        assert sum(n for name, n in shares.items() if name != "end_to_end") == shares["end_to_end"]
    # the backlog grows for more than half of the frames: 5 ms in each second
    ipc = slow.span("ipc")
    full = next(i for i, wait in enumerate(ipc) if wait > 2_000_000 and (ipc[i:] > 1_000_000).all())
    assert full < len(slow) / 2
    growth = (ipc[-1] - ipc[full]) / (slow.marks["start"][-1] - slow.marks["start"][full])
    assert 0.00475 < growth < 0.00525


@pytest.mark.parametrize("name", ["profile-v1", "profile-v1-columns"])
def test_profile_of_format_1(name):
    profile = latprof.load_profile(DATA / "golden" / f"{name}.latprof")
    # of the trace of format 1, computed by hand: three finished rows represent 1, 2 and 1 frames
    assert profile.frames == 4
    found = {
        row["span"]: (row["count"], row["missing"], row["negative"], row["min"], row["max"])
        for row in profile.rows()
    }
    assert found == {
        "wait": (3, 1, 0, 499, 1000),
        "decode": (1, 1, 2, 1000, 1000),
        "play": (4, 0, 0, 10, 1000),
        "buffer": (3, 1, 0, 500, 2000),
        "other": (2, 0, 0, 0, 15),
        "end_to_end": (4, 0, 0, 25, 3000),
        "response": (3, 0, 1, 1000, 3000),
    }
    assert profile["end_to_end"].total == 3000 + 2 * 999 + 25
    assert profile["other"].peak_frame == 2**64 - 1
    assert profile.accounts.dropped == {"late": 3, "ValueError": 1}
    assert (profile.deadline.late, profile.deadline.dropped) == (1, 4)
    assert {name: group.frames for name, group in profile.groups.items()} == {
        "input": 1,
        "output": 2,
        "(none)": 0,
        "söurce <b>\x1b[31m": 1,
    }
    assert profile.accounts.lost == 7
    assert profile.segments == {(0, 100_000_000)}
    assert [
        (frame.frame_id, frame.source, frame.end_to_end_ns, list(frame.marks))
        for frame in profile.sums.worst.frames
    ] == [
        (0, "input", 3_000, list(profile.pipeline.marks)),
        (1, "output", 999, list(profile.pipeline.marks)),
        (2**64 - 1, "söurce <b>\x1b[31m", 25, ["due", "start", "play", "end"]),
    ]
    assert profile.sums.worst.frames[2].marks == {
        "due": 60_000_000,
        "start": -5,
        "play": 10,
        "end": 20,
    }
    # starts in hours since 1970; the frame that starts at -5 ns is in the hour before
    hours = [0, 0, 1_700_000_000 // 3_600, -1]
    counts = profile.timeline()["count"].xs("end_to_end", level="span")
    assert {int(begin.value) // (3_600 * 10**9): n for begin, n in counts.items()} == {
        hour: n for hour, n in zip(hours[1:], (3, 0, 1), strict=True) if n
    }


def test_profile_of_format_1_with_causes_and_order():
    profile = latprof.load_profile(DATA / "golden" / "profile-v1-causes.latprof")
    # three frames at one worker: (start, in, got, put, end) are (0, 0, 30, 40, 40),
    # (10, 40, 55, 70, 71) and (50, 70, 71, 72, 80); their ids are 1, 2 and 4
    assert (profile.frames, profile["end_to_end"].total, profile.deadline.late) == (3, 131, 1)
    assert profile.bottleneck(why="cause") == "get"
    rows = {row.pop("stage"): row for row in profile.causes.rows()}
    # a tenth less of get (27, 14 and 1) ends them at 37, 67 and 76, of put at 39, 69 and 78
    assert rows["get"]["gain_ns"] == 11 / 3
    assert rows["put"]["gain_ns"] == 5 / 3
    order = profile.order.results()[""]
    assert (order.arrivals.gaps, order.arrivals.lost) == (1, 1)
    # latencies by end are 40, 61, 30: they differ by 21 and 31
    assert order.jitter.mean == 26
    assert order.jitter.last == 21 / 16 + (31 - 21 / 16) / 16
    assert (order.period.min, order.period.max, order.in_flight.peak) == (10, 40, 2)
    assert (order.deadline.misses, order.deadline.last_missed) == (1, 2)
    assert profile.recorders.to_dict() == {
        "files": [["kvm-1", "3.11.7", "0.1.0", "", 1, *["2026-11-24T10:00:00.000000Z"] * 2]],
        "others": 0,
    }


def test_ring_of_format_2():
    trace = latprof.recover(DATA / "golden" / "ring-v2.ring")
    assert trace.pipeline == latprof.read(DATA / "golden" / "trace-v1.parquet").pipeline
    # six slots; eight frames came, 7 was rejected, and number 9 was begun: 3 is overwritten
    assert trace.frame_id.tolist() == [4, 2**64 - 5, 6, 8]
    offset = 1_700_000_000_000_000_000
    numbers = [4, 5, 6, 8]
    assert {mark: column.tolist() for mark, column in trace.marks.items()} == {
        "due": [MISSING] * 4,
        "start": [offset + 1_000 * n for n in numbers],
        "decode": [MISSING if n == 6 else offset + 1_000 * n + 10 for n in numbers],
        "play": [offset + 1_000 * n + 20 for n in numbers],
        "end": [offset + 1_000 * n + 30 for n in numbers],
    }
    assert trace.size.tolist() == [100 * n for n in numbers]
    strange = "söurce <b>\x1b[31m"
    assert trace.source.to_numpy().tolist() == [None, strange, "input", None]
    assert trace.outcome.to_numpy().tolist() == ["finished"] * 3 + ["late"]
    assert trace.tags["endpoint"].to_numpy().tolist() == ["/cart", "/cart", "", None]
    assert trace.tags["status"].to_numpy().tolist() == ["200", "500", None, None]
    assert trace.rss.tolist() == [n << 20 for n in numbers]
    assert trace.cpu.tolist() == [12.5 * n for n in numbers]
    assert trace.meta["owns"] == ["start", "decode", "play", "end"]
    assert (trace.meta["host"], trace.meta["pid"], trace.meta["boot_id"]) == ("höst", 4711, "b")
    assert trace.meta["anchors"] == [[900, offset + 900], [1_000, offset + 1_000]]
    # the last sign of life is at 9,200
    assert trace.meta["segments"] == [[offset + 1_000, offset + 9_200]]
    recovery = trace.recovery
    assert (recovery.whole, recovery.torn, recovery.rejected, recovery.refused) == (4, 1, 1, 0)
    # the row of 9 was being written, which the slot of the frame says, so that it is in flight;
    # 1, 2 and 3 were overwritten, by 7, 8 and 9
    assert trace.meta["lost"] == 3
    assert trace.meta["accounts"] == {
        "in_flight": 2,
        "rejected": {"size must be an integer from 0 to 2**32 - 1": 1},
    }
    first, second = trace.in_flight
    assert (first.frame_id, first.source, first.size, first.tags) == (
        *(10, "input", 960),
        {"endpoint": "/cart"},
    )
    assert first.marks == {"start": offset + 8_100, "decode": offset + 8_400}
    assert (first.stage, first.age_ns, first.stage_ns, first.thread) == ("decode", 1_100, 800, 77)
    assert (second.frame_id, second.source, second.size, second.tags) == (9, strange, None, {})
    assert second.marks["end"] == offset + 8_500
    assert (second.stage, second.where, second.stage_ns) == (None, "after end", 700)
