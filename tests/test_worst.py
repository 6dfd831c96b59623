"""The slowest frames: always the same ones, whatever the order, the cut and the ties."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import BARE, CHAIN, seeded, simple

from latprof.fold.worst import MOST_WORST, Worst
from latprof.frames import MISSING, Columns, Labels
from latprof.profile.profile import Profile, merge


def profiled(pipeline, *parts):
    profile = Profile(pipeline)
    for part in parts:
        profile.add(part)
    return profile


def shown(profile):
    return [(f.frame_id, f.end_to_end_ns, f.source, f.marks) for f in profile.sums.worst.frames]


def expected(frames):
    """Sort all frames: slowest first, then the smallest id, then the source's name."""
    rows = []
    names = frames.source.to_numpy().tolist() if frames.source else [None] * len(frames)
    for i in range(len(frames)):
        stamps = {mark: int(column[i]) for mark, column in frames.marks.items()}
        stamps = {mark: t for mark, t in stamps.items() if t != MISSING}
        if {"start", "end"} <= set(stamps) and stamps["end"] >= stamps["start"]:
            took = stamps["end"] - stamps["start"]
            rows.append((-took, int(frames.frame_id[i]), names[i] or "", names[i], stamps))
    rows.sort(key=lambda row: (*row[:3], sorted(row[4].items())))
    return [(i, -took, name, stamps) for took, i, _, name, stamps in rows[:MOST_WORST]]


def ties(n, latencies, ids, sources, seed):
    """Return n frames whose latencies, ids and sources are drawn from a few."""
    rng = np.random.default_rng(seed)
    start = rng.integers(0, 3, n) * 10
    marks = {"start": start, "end": start + rng.integers(0, latencies, n)}
    names = [None if i == 0 else "abcdefg"[i] for i in rng.integers(0, sources, n).tolist()]
    return Columns(rng.integers(0, ids, n).astype(np.uint64), marks, source=Labels.encode(names))


@pytest.mark.parametrize("latencies", [1, 2, 50])
@pytest.mark.parametrize("ids", [1, 40, 10**6])
@pytest.mark.parametrize("n", [5, 99, 100, 101, 700])
def test_ties_in_any_order_and_cut(n, ids, latencies):
    frames = ties(n, latencies, ids, 4, seed=n)
    truth = expected(frames)
    assert shown(profiled(BARE, frames)) == truth
    rng = np.random.default_rng(1)
    for cuts in (2, 7):
        parts = [frames.take(rows) for rows in np.array_split(rng.permutation(n), cuts)]
        assert shown(profiled(BARE, *parts)) == truth
        assert shown(merge([profiled(BARE, part) for part in parts])) == truth


def test_one_latency_and_three_sources_of_the_same_ids():
    # 100 is no multiple of 3: the last one kept is a matter of the source alone
    ids = np.repeat(np.arange(60, dtype=np.uint64), 3)
    start = np.zeros(180, np.int64)
    for names in ("cab", "bca", "abc"):
        source = Labels.encode(list(names) * 60)
        frames = Columns(ids, {"start": start, "end": start + 9}, source=source)
        last = profiled(BARE, frames).sums.worst.frames[-1]
        assert (last.frame_id, last.source) == (33, "a")


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=8))
@settings(max_examples=40)
def test_fewer_than_are_kept(rows):
    frames = simple(BARE, [(0, took) for took, _ in rows])
    frames.frame_id[:] = [i for _, i in rows]
    assert shown(profiled(BARE, frames)) == expected(frames)


def test_frames_in_trouble_are_not_the_worst():
    rows = [(0, 5), (None, 100), (0, None), (9, 0), (0, 0)]
    outcome = Labels.encode([None] * 5)
    assert [f[0] for f in shown(profiled(BARE, simple(BARE, rows, outcome=outcome)))] == [0, 4]
    outcome = Labels.encode(["late", None, None, None, None])
    assert [f[0] for f in shown(profiled(BARE, simple(BARE, rows, outcome=outcome)))] == [4]


def test_a_long_trace():
    frames = seeded(CHAIN, 2_000, 4, dropped=0)
    assert shown(profiled(CHAIN, frames)) == expected(frames)


def test_more_than_one_chunk_of_ties():
    n = 70_000
    ids = np.arange(n, dtype=np.uint64)[::-1].copy()
    start = np.zeros(n, np.int64)
    frames = Columns(ids, {"start": start, "end": start + 5})
    assert [f[0] for f in shown(profiled(BARE, frames))] == list(range(100))


def test_the_table_has_the_whole_breakdown():
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


def test_the_limit_is_that_of_the_last_one_kept():
    assert Worst().limit_ns <= 0
    profile = profiled(BARE, simple(BARE, [(0, i) for i in range(150)]))
    assert profile.sums.worst.limit_ns == 50
