"""The numbers of the live view are compared with plain loops over frames."""

import math
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import CHAIN, seeded, simple

from latprof.frames import MISSING, Labels, latencies
from latprof.thresholds import Thresholds
from latprof.top.live import Live, Numbers

S = 1_000_000_000


def rank(values, q):
    return sorted(values)[max(math.ceil(q / 100 * len(values)) - 1, 0)]


@given(
    seed=st.integers(0, 2**32 - 1),
    frames=st.integers(0, 60),
    cut=st.integers(1, 60),
    width=st.sampled_from([1_000, 10_000, 10**9]),
)
def test_numbers_are_of_the_recent_windows(seed, frames, cut, width):
    columns = seeded(CHAIN, frames, seed, scale=3_000)
    live = Live(CHAIN, Thresholds(), width_ns=width, recent=3, kept=8)
    for at in range(0, frames, cut):
        live.add(columns.take(slice(at, at + cut)))
    done = columns.finished()
    done = np.ones(frames, bool) if done is None else done
    weights = np.ones(frames, int) if columns.weight is None else columns.weight
    assert live.finished == sum(weights[done].tolist())
    assert live.dropped == sum(weights[~done].tolist())
    ends = [int(end) for end, ok in zip(columns.marks["end"], done, strict=True) if ok]
    known = [end // width for end in ends if end != MISSING]
    if not known:
        assert live.newest is None
        return
    assert live.newest == max(known)
    for name in ("decode", "other", "end_to_end"):
        lengths = latencies(CHAIN, columns, name)
        recent = [
            int(ns)
            for ns, end, ok in zip(lengths, columns.marks["end"], done, strict=True)
            if ok and ns >= 0 and end != MISSING and end // width > max(known) - 3
        ]
        if cut < frames:
            continue  # late frames of closed windows are left out, see below
        found = live.numbers(name)
        assert found.count == len(recent)
        if recent:
            assert found.max == max(recent)
            assert found.p50 == pytest.approx(rank(recent, 50), rel=5e-4)
            assert found.p99 == pytest.approx(rank(recent, 99), rel=5e-4)


def steady(seconds, rate, ns, first=0):
    n = seconds * rate
    start = first * S + np.arange(n) * (S // rate)
    return [(int(at), int(at), int(at), int(at), int(at) + ns) for at in start]


def test_rate_and_history_of_a_steady_recorder():
    live = Live(CHAIN, Thresholds())
    for second in range(70):
        live.add(simple(CHAIN, steady(1, 100, 2_000 + second, first=second)))
    assert live.rate == pytest.approx(100, rel=0.01)
    history = live.history("end_to_end")
    assert len(history) == 60
    assert history == pytest.approx([2_000 + second for second in range(10, 70)], rel=5e-4)
    found = live.numbers("end_to_end")
    assert (found.count, found.max) == (1_000, 2_069)
    assert live.finished == 7_000


def test_seconds_without_frames_are_gaps_in_the_history():
    live = Live(CHAIN, Thresholds())
    live.add(simple(CHAIN, steady(2, 10, 100)))
    live.add(simple(CHAIN, steady(1, 10, 100, first=5)))
    assert [ns is None for ns in live.history("end_to_end")[-6:]] == [
        *(False, False, True, True, True, False)
    ]
    live.add(simple(CHAIN, steady(1, 10, 100, first=1_000_000)))
    assert live.history("end_to_end").count(None) == 59
    assert live.numbers("end_to_end").count == 10


def test_late_frames_of_closed_windows_are_counted():
    live = Live(CHAIN, Thresholds(), recent=2, kept=5)
    for second in range(4):
        live.add(simple(CHAIN, steady(1, 10, 100, first=second)))
    before = live.history("end_to_end")
    live.add(simple(CHAIN, [(0, 0, 0, 0, 900)]))
    assert live.history("end_to_end") == before
    assert live.finished == 41


def test_frames_above_thresholds_are_counted_and_the_last_ones_kept():
    limits = Thresholds(100, 1_000)
    live = Live(CHAIN, limits, last=3)
    rows = [(0, 0, 10, 20, ns) for ns in (50, 100, 101, 1_000, 1_001, 5_000)]
    live.add(simple(CHAIN, rows, source=Labels.constant("in", 6)))
    assert dict(live.above) == {"critical": 2, "warning": 2}
    assert [v.frame_id for v in live.slow_frames] == [3, 4, 5]
    last = live.slow_frames[-1]
    assert (last.level, last.end_to_end_ns, last.source) == ("critical", 5_000, "in")
    assert last.spans[0] == (CHAIN.stages[-1].name, 4_980)


def test_weights_are_numbers_of_frames():
    live = Live(CHAIN, Thresholds(critical_ns=10))
    frames = simple(CHAIN, [(0, 0, 0, 0, 20), (0, 0, 0, 0, 5)], weight=np.array([7, 3], np.uint32))
    live.add(frames)
    assert live.finished == 10
    assert live.above["critical"] == 7
    assert live.numbers("end_to_end").count == 10


def test_numbers_without_frames_are_none():
    live = Live(CHAIN, Thresholds())
    live.add(simple(CHAIN, []))
    live.add(simple(CHAIN, [(None,) * 5]))
    assert live.rate is None
    assert live.numbers("end_to_end") == Numbers(0, None, None, None)
    assert live.history("end_to_end") == [None] * 60


def test_memory_does_not_grow_with_time():
    live = Live(CHAIN, Thresholds(), recent=2, kept=4)
    sizes = defaultdict(set)
    for second in range(30):
        live.add(simple(CHAIN, steady(1, 2, 100, first=second)))
        if second > 5:
            for name in ("_counts", "_histograms", "_p99"):
                sizes[name].add(len(getattr(live, name)))
    assert sizes == {"_counts": {4}, "_histograms": {2}, "_p99": {2}}
