"""Sampling: whole runs of ids by a stated hash, and slow frames with a weighted rest."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from profiling import MIC, young_clock

import latprof
from latprof.frames import MISSING, Columns, Labels
from latprof.recorder.profiler import Profiler
from latprof.recorder.sampling import (
    KEEP_EVERY,
    RUN_BITS,
    WARM_UP_FRAMES,
    TailSampler,
    fnv1a,
    run_hash,
    run_hashes,
    threshold,
)
from latprof.ring.layout import row_dtype

ROW = row_dtype(MIC)


def test_hashes_have_their_published_values() -> None:
    # FNV-1a as published by its authors
    assert fnv1a("") == fnv1a(None) == 0xCBF29CE484222325
    assert fnv1a("foobar") == 0x85944171F73967E8
    # the first value of splitmix64 with seed 0
    assert run_hash(0, 0) == 0xE220A8397B1DCDAF
    # recordings of other versions depend on it
    assert run_hash(1, fnv1a("input")) == run_hash(1 ^ fnv1a("input"), 0)


@given(
    st.lists(st.integers(0, 2**58 - 1), min_size=1),
    st.none() | st.text("ab \0é€😀"),
)
def test_the_vectorized_hash_equals_the_scalar_one(runs: list[int], source: str | None) -> None:
    vectorized = run_hashes(np.array(runs, np.uint64), np.uint64(fnv1a(source)))
    assert vectorized.tolist() == [run_hash(run, fnv1a(source)) for run in runs]


@pytest.mark.parametrize("rate", [0.0, 0.01, 0.1, 0.5, 0.99, 1.0])
def test_the_share_of_sampled_runs_is_the_rate(rate: float) -> None:
    runs = np.arange(100_000, dtype=np.uint64)
    hashes = run_hashes(runs, np.uint64(fnv1a("input")))
    share = sum(h < threshold(rate) for h in hashes.tolist()) / len(runs)
    # five standard deviations of a binomial of 100,000
    assert abs(share - rate) <= 5 * (rate * (1 - rate) / len(runs)) ** 0.5


def test_another_process_samples_the_same_runs() -> None:
    code = (
        "from latprof.recorder.sampling import *; "
        "print([r for r in range(200) if run_hash(r, fnv1a('input')) < threshold(0.1)])"
    )
    other = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    here = [r for r in range(200) if run_hash(r, fnv1a("input")) < threshold(0.1)]
    assert other.strip() == str(here)
    assert 5 < len(here) < 40


def test_a_run_is_64_ids() -> None:
    assert 63 >> RUN_BITS == 0
    assert 64 >> RUN_BITS == 1


# -- tail sampling --------------------------------------------------------------------------------


def columns_of(latencies: np.ndarray, outcome: list[str] | None = None) -> Columns:
    n = len(latencies)
    start = np.arange(n, dtype=np.int64) * 1_000_000
    marks = {"start": start, "decode": start, "play": start + 1, "end": start + latencies}
    labels = None if outcome is None else Labels.encode(outcome)
    return Columns(np.arange(n, dtype=np.uint64), marks, outcome=labels)


def select_in_pieces(
    sampler: TailSampler, latencies: np.ndarray, piece: int
) -> tuple[list[int], list[int]]:
    index: list[int] = []
    weights: list[int] = []
    for first in range(0, len(latencies), piece):
        i, w = sampler.select(columns_of(latencies[first : first + piece]))
        index += (i + first).tolist()
        weights += w.tolist()
    return index, weights


@pytest.mark.parametrize("piece", [1, 7, 31, 32, 33, 1_000])
def test_one_frame_of_each_run_is_kept_with_its_weight(piece: int) -> None:
    latencies = np.full(3_200, 50)
    latencies[5::100] = 101  # slow: 32 of them
    latencies[6::100] = 100  # at the limit, not above
    sampler = TailSampler(ROW, 10, 100, np.random.default_rng(1))
    index, weights = select_in_pieces(sampler, latencies, piece)
    slow = [i for i in range(3_200) if latencies[i] > 100]
    assert [i for i, w in zip(index, weights, strict=True) if w == 1] == slow
    others = [i for i in range(3_200) if latencies[i] <= 100]  # 3168 = 99 runs of 32
    kept = [others.index(i) for i, w in zip(index, weights, strict=True) if w == KEEP_EVERY]
    assert [k // KEEP_EVERY for k in kept] == list(range(99))  # one in each run, in order
    assert len({k % KEEP_EVERY for k in kept}) > 20  # at any place in the run
    assert sum(weights) == 3_200


def test_weighted_counts_and_sums_are_unbiased() -> None:
    rng = np.random.default_rng(5)
    latencies = rng.lognormal(10, 1, 5_000).astype(np.int64)
    latencies[3_000:] *= 2  # the limit has to move
    counts, sums, tails = [], [], []
    for seed in range(200):
        sampler = TailSampler(ROW, 10, None, np.random.default_rng(seed))
        index, weights = select_in_pieces(sampler, latencies, 500)
        w = np.array(weights)
        kept = latencies[index]
        counts.append(w.sum())
        sums.append((kept * w).sum())
        tails.append(w[kept > 100_000].sum())
    truth = (5_000, latencies.sum(), (latencies > 100_000).sum())
    for found, true in zip((counts, sums, tails), truth, strict=True):
        error = np.std(found) / np.sqrt(len(found))
        assert abs(np.mean(found) - true) < 4 * error + 1e-9 * true
        assert np.std(found) < 0.2 * true


def test_only_the_first_frames_of_a_large_batch_are_all_kept() -> None:
    start = 10**9 + np.arange(20_000) * 1_000_000
    stamps = np.stack([start, start, start + 1, start + 50], axis=1)
    stamps[10_000:10_100, 3] += 1_000
    with Profiler(MIC, capacity=32_768, keep="slow") as profiler:
        profiler.record_many(np.arange(20_000), stamps)
    trace = profiler.trace()
    assert trace.frame_id[:WARM_UP_FRAMES].tolist() == list(range(WARM_UP_FRAMES))
    assert np.isin(np.arange(10_000, 10_100), trace.frame_id).all()
    # one in 32 of the others
    assert len(trace) <= WARM_UP_FRAMES + 100 + (20_000 - WARM_UP_FRAMES - 100) // KEEP_EVERY + 1
    assert abs(int(trace.weight.sum()) - 20_000) <= KEEP_EVERY


def test_the_first_frames_are_kept_and_then_the_slowest_percent() -> None:
    rng = np.random.default_rng(2)
    latencies = rng.permutation(np.arange(1, 40_001))
    sampler = TailSampler(ROW, 10, None, np.random.default_rng(3))
    index, weights = select_in_pieces(sampler, latencies, 256)
    assert index[:WARM_UP_FRAMES] == list(range(WARM_UP_FRAMES))
    assert set(weights[:WARM_UP_FRAMES]) == {1}
    late = [i for i, w in zip(index, weights, strict=True) if w == 1 and i >= 20_000]
    assert 100 < len(late) < 400  # about 1 % of 20,000
    # the limit is the p99 of the frames so far
    assert sampler.limit_ns is not None
    assert 39_000 < sampler.limit_ns < 40_001


def test_dropped_frames_and_frames_without_a_latency_are_kept_or_sampled() -> None:
    columns = columns_of(np.full(64, 10), ["late", *["finished"] * 62, "late"])
    columns.marks["end"][10] = MISSING
    sampler = TailSampler(ROW, 10, 100, np.random.default_rng(1))
    index, weights = sampler.select(columns)
    assert index[0] == 0
    assert index[-1] == 63
    assert weights.tolist() in ([1, 32, 1], [1, 32, 32, 1])
    empty = columns.take(slice(0, 0))
    assert [len(part) for part in sampler.select(empty)] == [0, 0]


def test_the_newest_kept_rows_are_held() -> None:
    rows = np.zeros(10, ROW)
    rows["frame_id"] = np.arange(10)
    sampler = TailSampler(ROW, 4, 5)
    columns = columns_of(np.full(10, 100))
    for first in (0, 3, 6, 9):
        sampler.keep(rows[first : first + 3], columns.take(slice(first, first + 3)))
    assert sampler.rows["frame_id"].tolist() == [6, 7, 8, 9]
    assert sampler.forgotten == 6
    sampler.keep(rows, columns)
    assert sampler.rows["frame_id"].tolist() == [6, 7, 8, 9]
    assert sampler.forgotten == 16


@pytest.mark.parametrize("overflow", ["overwrite", "block"])
def test_the_profiler_keeps_slow_frames_and_counts_all(tmp_path: Path, overflow: str) -> None:
    rng = np.random.default_rng(8)
    took = np.where(rng.random(50_000) < 0.01, 5_000_000, 1_000_000)
    start = np.arange(1, 50_001, dtype=np.int64) * 10_000_000
    stamps = np.column_stack([start, start, start + 1_000, start + took])
    path = tmp_path / "mic.parquet"
    with Profiler(MIC, capacity=20_000, keep="2ms", overflow=overflow, path=path) as profiler:
        profiler.record_many(np.arange(50_000), stamps, 960, "input")
    whole = profiler.report().profile
    assert whole.frames == 50_000  # all frames are counted
    assert whole["end_to_end"].total == int(took.sum())
    slow = np.flatnonzero(took > 2_000_000)
    trace = profiler.trace()
    for kept in (trace, latprof.read(path)):
        assert kept.weight is not None
        # late rows come later
        assert sorted(kept.frame_id[kept.weight == 1].tolist()) == slow.tolist()
        assert abs(int(kept.weight.sum()) - 50_000) < KEEP_EVERY
        profile = latprof.analyze(kept)
        assert abs(profile.frames - 50_000) < KEEP_EVERY
        assert profile["end_to_end"].percentile(50).value == pytest.approx(1_000_000, rel=1e-3)
        assert profile["end_to_end"].percentile(99.9).value == pytest.approx(5_000_000, rel=1e-3)
    assert len(trace) < 0.05 * 50_000


def test_percentiles_of_kept_frames_are_close_to_those_of_all() -> None:
    rng = np.random.default_rng(8)
    took = rng.exponential(1_000_000, 30_000).astype(np.int64) + 2_000
    start = np.arange(1, 30_001, dtype=np.int64) * 10_000_000
    with Profiler(MIC, keep="slow") as profiler:
        for first in range(0, 30_000, 1_000):
            part = slice(first, first + 1_000)
            stamps = np.column_stack([start, start, start + 1_000, start + took])[part]
            profiler.record_many(np.arange(first, first + 1_000), stamps)
            profiler.report()
    trace = profiler.trace()
    whole, kept = profiler.report().profile, latprof.analyze(trace)
    assert len(trace) < 4_000
    assert abs(kept.frames - 30_000) < 0.02 * 30_000
    assert kept["end_to_end"].mean == pytest.approx(whole["end_to_end"].mean, rel=0.2)
    for q in (99, 99.9):  # frames above are all kept
        exact = np.quantile(took, q / 100, method="inverted_cdf")
        assert kept["end_to_end"].percentile(q).value == pytest.approx(exact, rel=0.1)
    # five standard deviations of a binomial: one in 32 frames near the median is kept
    below = (took <= kept["end_to_end"].percentile(50).value).mean()
    assert abs(below - 0.5) < 5 * 0.5 / (30_000 / KEEP_EVERY) ** 0.5


def test_frames_that_are_folded_one_by_one_keep_their_stamps() -> None:
    with Profiler(MIC, keep="1ns") as profiler:
        for n in range(3):
            profiler.record(n, (100, 200, 300, 400 + n))
            profiler.report()
        ends = profiler.trace().marks["end"] - profiler.clock_offset_ns
    assert ends.tolist() == [400, 401, 402]


def test_analyze_takes_the_exact_accounts_of_a_recorder_that_keeps_some_frames(tmp_path):
    path = tmp_path / "kept.parquet"
    with Profiler(MIC, keep="1ms", path=path) as profiler:
        for i in range(1_000):
            slow = 2_000_000 if i % 10 == 0 else 1_000
            profiler.record(i, [1_000 + i, 2_000 + i, 3_000 + i, 1_000 + i + slow])
        for i in range(7):
            profiler.frame(i).drop("late")
    live = profiler.accounts
    assert (live.started, live.finished, live.dropped) == (1_007, 1_000, {"late": 7})
    found = latprof.analyze(path)
    assert found.frames % 32 == 100 % 32  # an estimate: the slow frames and 32 for each other one
    assert (found.accounts.started, found.accounts.finished) == (1_007, 1_000)
    assert (found.accounts.folded, found.accounts.dropped) == (1_007, {"late": 7})
    merged = latprof.merge([found, latprof.analyze(path)])
    assert merged.accounts.finished == 2_000
    # the accounts are of all frames, so they do not describe a selection of them
    some = latprof.analyze(latprof.read(path).select(outcome="finished"))
    assert some.accounts.finished == some.frames
    assert latprof.analyze(path, skip="1ns").accounts.finished != 1_000


def test_tags_of_kept_frames_are_kept() -> None:
    with Profiler(MIC, keep="50ms", tags=("endpoint", "status"), clock=young_clock) as profiler:
        for n in range(64):
            profiler.record(n, (1, 2, 3, 10**8 * (n % 2) + 4), tags={"endpoint": f"/{n}"})
    trace = profiler.trace()
    slow = trace.frame_id % 2 == 1
    assert slow.sum() == 32
    assert trace.tags["endpoint"].to_numpy().tolist() == [f"/{n}" for n in trace.frame_id.tolist()]
    assert profiler.accounts.notes == {}
