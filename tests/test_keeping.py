"""Kept frames: all slow ones, and a sample that stands for the others."""

from pathlib import Path

import numpy as np
import pytest

import latprof
from latprof.frames import MISSING, Columns, Labels
from latprof.pipeline import Pipeline
from latprof.recorder.profiler import Profiler
from latprof.recorder.sampling import KEEP_EVERY, WARM_UP_FRAMES, TailSampler

MIC = Pipeline.chain("mic", "decode", "play")


def made(latencies: np.ndarray, outcome: list[str] | None = None) -> Columns:
    n = len(latencies)
    start = np.arange(n, dtype=np.int64) * 1_000_000
    marks = {"start": start, "decode": start, "play": start + 1, "end": start + latencies}
    labels = None if outcome is None else Labels.encode(outcome)
    return Columns(np.arange(n, dtype=np.uint64), marks, outcome=labels)


def picked(keeper: TailSampler, latencies: np.ndarray, piece: int) -> tuple[list[int], list[int]]:
    index: list[int] = []
    weights: list[int] = []
    for first in range(0, len(latencies), piece):
        i, w = keeper.select(made(latencies[first : first + piece]))
        index += (i + first).tolist()
        weights += w.tolist()
    return index, weights


@pytest.mark.parametrize("piece", [1, 7, 31, 32, 33, 1_000])
def test_one_of_each_run_stands_for_it(piece: int) -> None:
    latencies = np.full(3_200, 50)
    latencies[5::100] = 101  # slow: 32 of them
    latencies[6::100] = 100  # at the limit, not above
    keeper = TailSampler(MIC, 10, 100, np.random.default_rng(1))
    index, weights = picked(keeper, latencies, piece)
    slow = [i for i in range(3_200) if latencies[i] > 100]
    assert [i for i, w in zip(index, weights, strict=True) if w == 1] == slow
    others = [i for i in range(3_200) if latencies[i] <= 100]  # 3168 = 99 runs of 32
    kept = [others.index(i) for i, w in zip(index, weights, strict=True) if w == KEEP_EVERY]
    assert [k // KEEP_EVERY for k in kept] == list(range(99))  # one of each run, in order
    assert len({k % KEEP_EVERY for k in kept}) > 20  # wherever in it
    assert sum(weights) == 3_200


def test_counts_and_sums_are_right_on_average() -> None:
    rng = np.random.default_rng(5)
    latencies = rng.lognormal(10, 1, 5_000).astype(np.int64)
    latencies[3_000:] *= 2  # the limit has to move
    counts, sums, tails = [], [], []
    for seed in range(400):
        keeper = TailSampler(MIC, 10, None, np.random.default_rng(seed))
        index, weights = picked(keeper, latencies, 500)
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


def test_of_many_frames_at_once_too_only_the_first_are_all_kept() -> None:
    start = 10**9 + np.arange(20_000) * 1_000_000
    stamps = np.stack([start, start, start + 1, start + 50], axis=1)
    stamps[10_000:10_100, 3] += 1_000
    with Profiler(MIC, capacity=32_768, keep="slow") as profiler:
        profiler.record_many(np.arange(20_000), stamps)
    trace = profiler.trace()
    assert trace.frame_id[:WARM_UP_FRAMES].tolist() == list(range(WARM_UP_FRAMES))
    assert np.isin(np.arange(10_000, 10_100), trace.frame_id).all()
    # of the others one of each run of 32
    assert len(trace) <= WARM_UP_FRAMES + 100 + (20_000 - WARM_UP_FRAMES - 100) // KEEP_EVERY + 1
    assert abs(int(trace.weight.sum()) - 20_000) <= KEEP_EVERY


def test_the_first_frames_are_all_kept_then_the_slow_percent() -> None:
    rng = np.random.default_rng(2)
    latencies = rng.permutation(np.arange(1, 40_001))
    keeper = TailSampler(MIC, 10, None, np.random.default_rng(3))
    index, weights = picked(keeper, latencies, 256)
    assert index[:WARM_UP_FRAMES] == list(range(WARM_UP_FRAMES))
    assert set(weights[:WARM_UP_FRAMES]) == {1}
    late = [i for i, w in zip(index, weights, strict=True) if w == 1 and i >= 20_000]
    assert 100 < len(late) < 400  # some 1 % of 20,000
    # the limit is p99 of what came so far
    assert keeper.limit_ns is not None
    assert 39_000 < keeper.limit_ns < 40_001


def test_dropped_frames_and_frames_without_a_latency() -> None:
    columns = made(np.full(64, 10), ["late", *["finished"] * 62, "late"])
    columns.marks["end"][10] = MISSING
    keeper = TailSampler(MIC, 10, 100, np.random.default_rng(1))
    index, weights = keeper.select(columns)
    assert index[0] == 0
    assert index[-1] == 63
    assert weights.tolist() in ([1, 32, 1], [1, 32, 32, 1])
    empty = columns.take(slice(0, 0))
    assert [len(part) for part in keeper.select(empty)] == [0, 0]


def test_kept_rows_go_round() -> None:
    rows = np.zeros(10, MIC.row_dtype)
    rows["frame_id"] = np.arange(10)
    keeper = TailSampler(MIC, 4, 5)
    columns = made(np.full(10, 100))
    for first in (0, 3, 6, 9):
        keeper.keep(rows[first : first + 3], columns.take(slice(first, first + 3)))
    assert keeper.rows["frame_id"].tolist() == [6, 7, 8, 9]
    assert keeper.forgotten == 6
    keeper.keep(rows, columns)
    assert keeper.rows["frame_id"].tolist() == [6, 7, 8, 9]
    assert keeper.forgotten == 16


@pytest.mark.parametrize("overflow", ["overwrite", "block"])
def test_the_profiler_keeps_the_slow_and_counts_all(tmp_path: Path, overflow: str) -> None:
    rng = np.random.default_rng(8)
    took = np.where(rng.random(50_000) < 0.01, 5_000_000, 1_000_000)
    start = np.arange(1, 50_001, dtype=np.int64) * 10_000_000
    stamps = np.column_stack([start, start, start + 1_000, start + took])
    path = tmp_path / "mic.parquet"
    with Profiler(MIC, capacity=20_000, keep="2ms", overflow=overflow, path=path) as profiler:
        profiler.record_many(np.arange(50_000), stamps, 960, "input")
    whole = profiler.report().profile
    assert whole.frames == 50_000  # all count
    assert whole["end_to_end"].total == int(took.sum())
    slow = np.flatnonzero(took > 2_000_000)
    trace = profiler.trace()
    for kept in (trace, latprof.read(path)):
        assert kept.weight is not None
        # a row that came late stands later
        assert sorted(kept.frame_id[kept.weight == 1].tolist()) == slow.tolist()
        assert abs(int(kept.weight.sum()) - 50_000) < KEEP_EVERY
        profile = latprof.analyze(kept)
        assert abs(profile.frames - 50_000) < KEEP_EVERY
        assert profile["end_to_end"].percentile(50).value == pytest.approx(1_000_000, rel=1e-3)
        assert profile["end_to_end"].percentile(99.9).value == pytest.approx(5_000_000, rel=1e-3)
    assert len(trace) < 0.05 * 50_000


def test_running_p99_in_the_profiler() -> None:
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
    assert kept["end_to_end"].mean == pytest.approx(whole["end_to_end"].mean, rel=0.1)
    for q in (50, 99, 99.9):
        exact = np.quantile(took, q / 100, method="inverted_cdf")
        assert kept["end_to_end"].percentile(q).value == pytest.approx(exact, rel=0.1)


def test_frames_that_are_folded_one_by_one_keep_their_stamps() -> None:
    with Profiler(MIC, keep="1ns") as profiler:
        for n in range(3):
            profiler.record(n, (100, 200, 300, 400 + n))
            profiler.report()
        ends = profiler.trace().marks["end"] - profiler.clock_offset_ns
    assert ends.tolist() == [400, 401, 402]
