"""Frames that a profile keeps: the slowest ones, and the smallest id of each range of latency."""

import time
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import BARE, CHAIN, examples, seeded, simple

from latprof.fold.worst import MOST_WORST, NO_FRAME_ID, Worst, offer_exemplars
from latprof.frames import MISSING, Columns, Labels
from latprof.histogram import COARSE_BINS, coarse_bin
from latprof.profile.load import merge
from latprof.profile.profile import Profile


def profiled(pipeline, *parts):
    profile = Profile(pipeline)
    for part in parts:
        profile.add(part)
    return profile


def shown(profile):
    return [(f.frame_id, f.end_to_end_ns, f.source, f.marks) for f in profile.sums.worst.frames]


def expected(frames):
    """Sort all frames: slowest first, then by id, by source, and by each mark."""
    rows = []
    names = frames.source.to_numpy().tolist() if frames.source else [None] * len(frames)
    for i in range(len(frames)):
        stamps = {mark: int(column[i]) for mark, column in frames.marks.items()}
        stamps = {mark: t for mark, t in stamps.items() if t != MISSING}
        if {"start", "end"} <= set(stamps) and stamps["end"] >= stamps["start"]:
            took = stamps["end"] - stamps["start"]
            rows.append((-took, int(frames.frame_id[i]), names[i], stamps))
    # of frames that are alike in all this, one without a source or without a mark comes first
    rows.sort(
        key=lambda row: (
            *row[:2],
            *(row[2] is not None, row[2] or ""),
            [row[3].get(mark, MISSING) for mark in frames.marks],
        )
    )
    return [(i, -took, name, stamps) for took, i, name, stamps in rows[:MOST_WORST]]


def ties(n, latencies, ids, sources, seed):
    """Return n frames. Their latencies, ids and sources are drawn from a few."""
    rng = np.random.default_rng(seed)
    start = rng.integers(0, 3, n) * 10
    marks = {"start": start, "end": start + rng.integers(0, latencies, n)}
    names = [None if i == 0 else "abcdefg"[i] for i in rng.integers(0, sources, n).tolist()]
    return Columns(rng.integers(0, ids, n).astype(np.uint64), marks, source=Labels.encode(names))


@pytest.mark.parametrize("n", [5, 99, 100, 101, 700])
def test_ties_are_resolved_alike_in_any_order_and_cut(n):
    for ids, latencies in product((1, 40, 10**6), (1, 2, 50)):
        frames = ties(n, latencies, ids, 4, seed=n)
        truth = expected(frames)
        assert shown(profiled(BARE, frames)) == truth
        rng = np.random.default_rng(1)
        for cuts in (2, 5):
            parts = [frames.take(rows) for rows in np.array_split(rng.permutation(n), cuts)]
            assert shown(profiled(BARE, *parts)) == truth
            assert shown(merge([profiled(BARE, part) for part in parts])) == truth


def test_of_frames_with_one_id_the_first_source_is_kept():
    # 100 is not a multiple of 3: of the last id only one frame is kept, chosen by its source
    ids = np.repeat(np.arange(60, dtype=np.uint64), 3)
    start = np.zeros(180, np.int64)
    for names in ("cab", "bca", "abc"):
        source = Labels.encode(list(names) * 60)
        frames = Columns(ids, {"start": start, "end": start + 9}, source=source)
        last = profiled(BARE, frames).sums.worst.frames[-1]
        assert (last.frame_id, last.source) == (33, "a")


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=8))
@settings(max_examples=examples(40))
def test_fewer_frames_than_are_kept(rows):
    frames = simple(BARE, [(0, took) for took, _ in rows])
    frames.frame_id[:] = [i for _, i in rows]
    assert shown(profiled(BARE, frames)) == expected(frames)


def test_dropped_frames_and_frames_without_a_latency_are_not_among_the_slowest():
    rows = [(0, 5), (None, 100), (0, None), (9, 0), (0, 0)]
    outcome = Labels.encode([None] * 5)
    assert [f[0] for f in shown(profiled(BARE, simple(BARE, rows, outcome=outcome)))] == [0, 4]
    outcome = Labels.encode(["late", None, None, None, None])
    assert [f[0] for f in shown(profiled(BARE, simple(BARE, rows, outcome=outcome)))] == [4]


def test_the_slowest_frames_of_a_long_trace():
    frames = seeded(CHAIN, 2_000, 4, dropped=0)
    assert shown(profiled(CHAIN, frames)) == expected(frames)


def test_ties_in_more_than_one_chunk():
    n = 70_000
    ids = np.arange(n, dtype=np.uint64)[::-1].copy()
    start = np.zeros(n, np.int64)
    frames = Columns(ids, {"start": start, "end": start + 5})
    assert [f[0] for f in shown(profiled(BARE, frames))] == list(range(100))


def test_the_table_of_slowest_frames_has_all_stages_and_other():
    # start decode resample play end; other is what comes before decode, and a missing stage
    rows = [(0, 5, 15, 45, 100), (0, 5, None, 45, 90), (0, 0, 0, 0, 2**60 + 1)]
    source = Labels.encode(["in", None, "out"])
    frames = simple(CHAIN, rows, source=source)
    frames.frame_id[:] = [7, 2**64 - 1, 3]
    table = profiled(CHAIN, frames).worst(3)
    assert table.index.name == "frame_id"
    assert table.index.tolist() == [3, 7, 2**64 - 1]
    assert table["source"].tolist()[:2] == ["out", "in"]
    assert table["source"].isna().tolist() == [False, False, True]
    assert table["start"].dtype == "datetime64[ns]"
    assert table["end_to_end"].tolist() == [2**60 + 1, 100, 90]
    assert table["play"].tolist() == [2**60 + 1, 55, 45]
    assert table["decode"].isna().tolist() == [False, False, True]
    assert table["decode"].tolist()[:2] == [0, 10]
    assert table["other"].tolist() == [0, 5, 45]
    assert profiled(CHAIN, frames).worst(1).index.tolist() == [3]
    kinds = table.dtypes.astype(str).to_dict()
    assert {kinds[name] for name in ("end_to_end", "decode", "play", "other")} == {"Int64"}
    empty = Profile(CHAIN).worst()
    assert len(empty) == 0
    assert empty.drop(columns="source").dtypes.equals(table.drop(columns="source").dtypes)
    assert empty.index.dtype == table.index.dtype == "uint64"


def test_integers_stay_exact_where_others_are_missing():
    rows = [(0, 0, 2**53 + 1, 2**53 + 1, 2**53 + 1), (0, None, 5, 5, 5)]
    table = profiled(CHAIN, simple(CHAIN, rows)).worst(2)
    assert int(table["decode"].iloc[0]) == 2**53 + 1


def test_frames_faster_than_the_last_one_kept_need_not_be_added():
    assert Worst(BARE.marks).limit_ns <= 0
    profile = profiled(BARE, simple(BARE, [(0, i) for i in range(150)]))
    assert profile.sums.worst.limit_ns == 50


def marks_that_tie(n, seed):
    """Return n frames with one id, two sources, one latency and different other marks."""
    rng = np.random.default_rng(seed)
    columns = [np.zeros(n, np.int64), *rng.integers(3, 6, (3, n)), np.full(n, 9)]
    columns[2] = np.where(rng.random(n) < 0.3, MISSING, columns[2])
    marks = dict(zip(CHAIN.marks, columns, strict=True))
    source = Labels.encode([None if i == 0 else "ab"[i - 1] for i in rng.integers(0, 3, n)])
    return Columns(np.full(n, 7, np.uint64), marks, source=source)


def test_frames_of_equal_latency_and_id_are_ordered_by_source_and_marks():
    for n in (99, 100, 101, 1_000):
        frames = marks_that_tie(n, seed=n)
        truth = expected(frames)
        rng = np.random.default_rng(2)
        parts = [frames.take(rows) for rows in np.array_split(rng.permutation(n), 5)]
        assert shown(profiled(CHAIN, frames)) == truth
        assert shown(profiled(CHAIN, *parts)) == truth
        assert shown(merge([profiled(CHAIN, part) for part in parts])) == truth


def test_equal_frames_are_folded_about_as_fast_as_others():
    n = 300_000
    start = np.arange(n) * 1_000
    others = Columns(np.arange(n, dtype=np.uint64), {"start": start, "end": start + start % 7_919})
    equal = Columns(np.zeros(n, np.uint64), {"start": start * 0, "end": start * 0})
    Profile(BARE).add(others.take(slice(100_000)))  # load what is loaded on first use

    def seconds(frames):
        before = time.process_time()
        assert profiled(BARE, frames).frames == n
        return time.process_time() - before

    # it took 90 times as long when each of the equal frames was compared in Python
    assert min(seconds(equal) for _ in range(3)) < 5 * min(seconds(others) for _ in range(3))


# -- exemplars ----------------------------------------------------------------------------------


@given(
    st.lists(
        st.lists(
            st.tuples(
                st.integers(0, 80) | st.integers(0, 2**63 - 2),
                st.integers(0, 50) | st.just(NO_FRAME_ID),
            ),
            min_size=1,
            max_size=20,
        ),
        max_size=6,
    )
)
def test_the_exemplar_of_a_range_is_the_frame_with_the_smallest_id(chunks):
    kept = np.full(COARSE_BINS, NO_FRAME_ID, np.uint64)
    smallest: dict[int, int] = {}
    for chunk in chunks:
        latency = np.array([value for value, _ in chunk], np.int64)
        ids = np.array([frame for _, frame in chunk], np.uint64)
        offer_exemplars(kept, latency, int(latency.min()), int(latency.max()), ids)
        for value, frame in chunk:
            place = coarse_bin(value)
            smallest[place] = min(frame, smallest.get(place, NO_FRAME_ID))
    assert {i: int(kept[i]) for i in smallest} == smallest
    assert int((kept != NO_FRAME_ID).sum()) == sum(v != NO_FRAME_ID for v in smallest.values())
