import functools
import math
from fractions import Fraction

import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import (
    BARE,
    CHAIN,
    DUE,
    GAPS,
    HIGHEST,
    LOWEST,
    SMALL,
    columns,
    examples,
    seeded,
    simple,
)

from latprof.fold import fold, windows
from latprof.fold.fold import Fold
from latprof.fold.sums import RANGE_EDGES_NS, Sums
from latprof.frames import MISSING, NO_SIZE, Columns, Labels
from latprof.pipeline import AUDIO

QS = (0, 1, 50, 90, 99, 99.9, 100)
EXACT = ("finished", "attributed", "shares", "gaps", "size_bytes", "sized", "first_ns", "last_ns")
SPAN_EXACT = ("count", "missing", "negative", "total", "min", "max", "peak_frame")

traces = st.sampled_from(SMALL).flatmap(lambda p: st.tuples(st.just(p), columns(p)))


run_lengths = st.sampled_from([1, windows.LONG_RUN])  # from which on runs are counted as a whole


@functools.cache
def work_arrays(pipeline, _chunk_size):
    return Fold(pipeline)  # reused for many traces, as in a long analysis


def folded(pipeline, *parts, edges_ns=RANGE_EDGES_NS, long_run=windows.LONG_RUN):
    sums = Sums(pipeline, edges_ns)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windows, "LONG_RUN", long_run)
        for part in parts:
            work_arrays(pipeline, fold.CHUNK).add(sums, part)
    return sums


def exact_values(sums):
    """Return what must equal the oracle's to the bit."""
    values = {name: getattr(sums, name) for name in EXACT}
    for name in ("dropped", "excluded", "shares", "gaps"):
        values[name] = dict(getattr(sums, name))
    values["at_most"] = list(sums.at_most)
    values["spans"] = {
        name: {
            "count": span.count,
            "missing": span.missing,
            "negative": span.negative,
            "total": span.total,
            "min": span.histogram.min,
            "max": span.peak,
            "peak_frame": span.peak_frame,
        }
        for name, span in sums.spans.items()
    }
    return values


def expected_values(truth):
    values = {name: truth[name] for name in (*EXACT, "at_most")}
    values |= {name: dict(truth[name]) for name in ("dropped", "excluded")}
    values["spans"] = {
        name: {key: span[key] for key in SPAN_EXACT} for name, span in truth["spans"].items()
    }
    return values


def std_of(span):
    return math.sqrt(max(span.m2, 0) / (span.count - 1)) if span.count > 1 else 0


def assert_equals_the_oracle(sums, pipeline, frames, edges_ns=RANGE_EDGES_NS):
    truth = oracle.fold(frames, pipeline, edges_ns)
    assert exact_values(sums) == expected_values(truth)
    for name, span in sums.spans.items():
        known = truth["spans"][name]
        # 1e-9 of the spread; a mean that is far larger is rounded to its last float64 digit
        rounding = 1e-15 * (known["max"] or 0)
        assert std_of(span) == pytest.approx(known["std"] or 0, rel=1e-9, abs=rounding)
        assert span.histogram.count == known["count"]
        assert span.histogram.max == known["max"]
        for q in QS if known["values"] else ():
            exact = oracle.percentile(known["values"], q)
            assert abs(span.histogram.value_at(q) - exact) <= Fraction(5, 10_000) * exact
    kept = truth["kept"]
    for name, covariance in sums.covariances.items():
        x, y = [row[name] for row in kept], [row["end_to_end"] for row in kept]
        exact = oracle.comoment(x, y)
        size = math.sqrt(oracle.comoment(x, x) * oracle.comoment(y, y))
        size += 1e-6 * max([0, *x]) * max([0, *y])  # what rounding to float64 can leave
        assert covariance == pytest.approx(float(exact), rel=0, abs=1e-9 * size)


# -- against the oracle -------------------------------------------------------------------------


@given(traces, run_lengths)
def test_any_trace_folds_to_the_values_of_the_oracle(trace, long_run):
    pipeline, frames = trace
    assert_equals_the_oracle(folded(pipeline, frames, long_run=long_run), pipeline, frames)


LONG_TRACES = {
    "clean": {"missing": 0, "negative": 0, "dropped": 0},
    "usual": {},
    "missing": {"missing": 0.4},
    "negative": {"negative": 0.9},
}


@pytest.mark.parametrize("name", LONG_TRACES)
def test_a_long_trace_folds_to_the_values_of_the_oracle(name):
    for pipeline in SMALL:
        for weights in (False, True):
            frames = seeded(pipeline, 400, 7, weights=weights, **LONG_TRACES[name])
            for long_run in (1, windows.LONG_RUN):
                sums = folded(pipeline, frames, long_run=long_run)
                assert_equals_the_oracle(sums, pipeline, frames)


def test_the_size_of_chunks_does_not_change_the_result(monkeypatch):
    for chunk in (1, 2, 7, 64):
        monkeypatch.setattr(fold, "CHUNK", chunk)
        for pipeline in (AUDIO, DUE, GAPS):
            frames = seeded(pipeline, 130, 11, weights=True)
            assert_equals_the_oracle(folded(pipeline, frames), pipeline, frames)


@given(traces)
@settings(max_examples=examples(50))
def test_any_trace_in_chunks_of_three_rows(trace):
    pipeline, frames = trace
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fold, "CHUNK", 3)
        assert_equals_the_oracle(folded(pipeline, frames), pipeline, frames)


def test_a_trace_of_more_than_one_full_chunk():
    frames = seeded(CHAIN, fold.CHUNK + 3, 3, missing=0, negative=0, dropped=0)
    sums = folded(CHAIN, frames)
    for stage in CHAIN.stages:
        values = (frames.marks[stage.end] - frames.marks[stage.begin]).tolist()
        span = sums.spans[stage.name]
        assert (span.count, span.total, span.peak) == (len(values), sum(values), max(values))


@given(st.data())
@settings(max_examples=examples(60))
def test_frames_up_to_any_edge_are_counted_exactly(data):
    pipeline, frames = data.draw(traces)
    edges = data.draw(st.lists(st.integers(0, 50) | st.integers(0, 2**63), min_size=1, max_size=5))
    edges += [max(t, 0) for t in frames.marks["end"].tolist()[:2]]
    edges = sorted(set(edges))
    assert_equals_the_oracle(folded(pipeline, frames, edges_ns=edges), pipeline, frames, edges)


# -- std if a plain sum of squares is inexact ---------------------------------------------------


@pytest.mark.parametrize(
    ("middle", "step"),
    [(10**9, 10**3), (3_600 * 10**9, 10**4), (0, 10), (2**52, 3)],
    ids=["1s+-1us", "1h+-10us", "0+-10ns", "52d+-3ns"],
)
@pytest.mark.parametrize("weights", [False, True], ids=["single", "weighted"])
def test_std_is_exact_to_nine_digits(middle, step, weights):
    rng = np.random.default_rng(5)
    values = middle + rng.integers(-step, step + 1, 3_000)
    values = np.abs(values)
    start = np.arange(3_000) * 20_000_000
    weight = rng.integers(1, 9, 3_000).astype(np.uint32) if weights else None
    marks = {"start": start, "end": start + values}
    frames = Columns(np.arange(3_000, dtype=np.uint64), marks, weight=weight)
    repeated = np.repeat(values, 1 if weight is None else weight).tolist()
    parts = [frames.take(slice(i, i + 700)) for i in range(0, 3_000, 700)]
    for sums in (folded(BARE, frames), folded(BARE, *parts), folded(BARE, *parts[::-1])):
        assert std_of(sums.spans["end_to_end"]) == pytest.approx(oracle.std(repeated), rel=1e-9)


def test_std_of_equal_values_is_0():
    frames = simple(BARE, [(0, 10**15 + 1)] * 1_001)
    assert std_of(folded(BARE, frames).spans["end_to_end"]) == 0


# -- by hand ------------------------------------------------------------------------------------


def test_a_span_with_a_missing_mark_is_counted_but_has_no_value():
    # start decode resample play end: frame 1 lacks resample
    sums = folded(CHAIN, simple(CHAIN, [(0, 10, 30, 60, 100), (0, 10, None, 60, 100)]))
    decode, resample = sums.spans["decode"], sums.spans["resample"]
    assert (decode.count, decode.missing, decode.negative, decode.total) == (1, 1, 0, 20)
    assert (resample.count, resample.missing, resample.total) == (1, 1, 30)
    # the time of both stages is other's in frame 1: 10 + (10 + 50)
    assert sums.shares == {
        "decode": 20,
        "resample": 30,
        "play": 80,
        "other": 70,
        "end_to_end": 200,
    }
    assert sums.gaps == {("start", "decode"): 20}


def test_a_negative_span_is_counted_but_has_no_value():
    sums = folded(CHAIN, simple(CHAIN, [(0, 10, 30, 60, 100), (0, 30, 10, 60, 100)]))
    decode = sums.spans["decode"]
    assert (decode.count, decode.missing, decode.negative, decode.total) == (1, 0, 1, 20)
    assert decode.histogram.max == 20
    assert sums.excluded == {"decode negative": 1}
    assert sums.attributed == 1


def test_a_frame_outside_the_attribution_set_is_counted_by_its_first_reason():
    for row, reason in (
        ((10, 0, 0, 0, 5), "end_to_end negative"),
        ((10, 5, 0, 0, 5), "end_to_end negative"),  # a stage is negative, too
        ((None, 0, 0, 0, 5), "end_to_end missing"),
        ((0, 0, 0, 0, None), "end_to_end missing"),
        ((None, None, None, None, None), "end_to_end missing"),
        ((0, 9, 5, 1, 10), "decode negative"),  # resample is negative, too
        ((0, 5, 9, 1, 10), "resample negative"),
        ((0, 5, 6, 20, 10), "play negative"),
        ((10, 0, 5, 8, 12), "stages longer than end_to_end"),
    ):
        sums = folded(CHAIN, simple(CHAIN, [row]))
        assert sums.excluded == {reason: 1}
        assert sums.attributed == 0
        assert set(sums.shares.values()) == {0}
        assert sums.spans["other"].count == 0
        assert sums.finished == 1


def test_a_negative_side_excludes_nothing():
    row = dict.fromkeys(AUDIO.marks, 0) | {"validation": 7, "end": 9}
    sums = folded(AUDIO, simple(AUDIO, [tuple(row.values())]))
    assert sums.spans["validation"].negative == 1
    assert sums.excluded == {}
    assert sums.attributed == 1


def test_stages_much_longer_than_end_to_end_do_not_wrap_around():
    # three stages of the largest length that there is: their sum does not fit into 64 bits
    row = (0, LOWEST, HIGHEST, LOWEST, HIGHEST, LOWEST, HIGHEST, 0)
    sums = folded(GAPS, simple(GAPS, [row]))
    assert sums.excluded == {"stages longer than end_to_end": 1}
    assert sums.spans["x"].total == HIGHEST - LOWEST


def test_zero_is_a_time_and_a_latency():
    sums = folded(BARE, simple(BARE, [(0, 0), (0, 5), (-5, 0)]))
    span = sums.spans["end_to_end"]
    assert (span.count, span.total, span.histogram.min, span.missing) == (3, 10, 0, 0)
    assert list(span.histogram) == [(0, 0, 1), (5, 5, 2)]


LONGEST = HIGHEST - LOWEST  # 2**63 - 2 ns: from the first to the last stamp that there may be


def test_sums_are_exact_beyond_64_bits():
    n = 40
    sums = folded(BARE, simple(BARE, [(LOWEST, HIGHEST)] * n))
    assert sums.spans["end_to_end"].total == n * LONGEST
    assert sum(sums.tails.sums["other"].tolist()) == n * LONGEST


def test_sums_of_heavy_rows_are_exact_beyond_64_bits():
    weight = np.array([2**32 - 1] * 3, np.uint32)
    for rows in ([(LOWEST, HIGHEST)] * 3, [(LOWEST, HIGHEST)] * 2 + [(None, 0)]):
        sums = folded(BARE, simple(BARE, rows, weight=weight))
        n = (2**32 - 1) * sum(start is not None for start, _ in rows)
        span = sums.spans["end_to_end"]
        assert sums.finished == 3 * (2**32 - 1)
        assert (span.count, span.total, span.m2) == (n, n * LONGEST, 0)
        assert sum(sums.tails.sums["other"].tolist()) == n * LONGEST


def test_tails_are_exact_beyond_64_bits_in_many_chunks(monkeypatch):
    # each chunk alone fits: 3 frames of 2**60 ns; all of them have 64 bits and more
    monkeypatch.setattr(fold, "CHUNK", 3)
    frames = simple(BARE, [(0, 2**60)] * 30)
    work, sums = Fold(BARE), Sums(BARE)
    with work.deferred():
        work.add(sums, frames)
        work.add(sums, frames)
    assert sum(sums.tails.sums["other"].tolist()) == 60 * 2**60
    twice = Sums(BARE)
    twice.merge(sums)
    twice.merge(sums)
    assert sum(twice.tails.sums["other"].tolist()) == 120 * 2**60


def test_the_longest_frame_is_counted_beside_others():
    rows = [(LOWEST, 0, 1, 2, HIGHEST), (0, 10, 30, 60, 100)]
    frames = simple(CHAIN, rows)
    sums = folded(CHAIN, frames)
    assert_equals_the_oracle(sums, CHAIN, frames)
    span = sums.spans["end_to_end"]
    assert (span.count, span.peak, span.total) == (2, LONGEST, LONGEST + 100)
    assert span.histogram.value_at(50) == 100
    assert span.histogram.value_at(100) == LONGEST
    assert sums.shares["other"] == (2**62 - 1) + 10
    assert [frame.end_to_end_ns for frame in sums.worst.frames] == [LONGEST, 100]


def test_of_equal_peaks_the_smallest_id_counts():
    frames = simple(BARE, [(0, 5), (0, 9), (0, 9), (0, 1)])
    frames.frame_id[:] = [3, 2**64 - 1, 2**63, 0]
    span = folded(BARE, frames).spans["end_to_end"]
    assert (span.peak, span.peak_frame) == (9, 2**63)


def test_drops_are_counted_by_reason_and_last_mark():
    rows = [(0, 1, 2, 3, 9), (0, 1, None, None, 9), (0, None, 2, None, 9), (0, 1, 2, 3, 9)]
    outcome = Labels.encode(["late", "late", "full", None])
    sums = folded(CHAIN, simple(CHAIN, rows, outcome=outcome))
    assert sums.dropped == {("late", "play"): 1, ("late", "decode"): 1, ("full", "resample"): 1}
    assert sums.dropped_by_reason == {"late": 2, "full": 1}
    assert sums.finished == 1
    assert sums.spans["end_to_end"].count == 1


def test_sizes_of_0_are_counted_and_unknown_sizes_are_not():
    size = np.array([0, NO_SIZE, 960], np.uint32)
    sums = folded(BARE, simple(BARE, [(0, 1)] * 3, size=size))
    assert (sums.size_bytes, sums.sized) == (960, 2)


def test_spans_without_values_have_no_peak_and_no_percentiles():
    for frames in (simple(CHAIN, []), simple(CHAIN, [(None,) * 5] * 2)):
        sums = folded(CHAIN, frames)
        assert sums.first_ns is None
        assert sums.last_ns is None
        for span in sums.spans.values():
            assert (span.count, span.peak, span.peak_frame) == (0, None, None)
            assert span.histogram.value_at(50) is None


def test_marks_declared_complete_do_not_change_the_result():
    frames = seeded(AUDIO, 300, 2, missing=0)
    plain = exact_values(folded(AUDIO, frames))
    frames.complete = frozenset(AUDIO.marks)
    assert exact_values(folded(AUDIO, frames)) == plain


def test_folding_does_not_change_the_columns():
    frames = seeded(AUDIO, 200, 4, weights=True)
    before = frames.take(slice(None)).apply(lambda column: column[np.arange(len(column))])
    folded(AUDIO, frames)
    for mark, stamps in before.marks.items():
        assert np.array_equal(frames.marks[mark], stamps)
    assert np.array_equal(frames.size, before.size)


# -- tails --------------------------------------------------------------------------------------


@pytest.mark.parametrize("pipeline", [AUDIO, DUE, GAPS, BARE], ids=lambda p: p.name)
@pytest.mark.parametrize("options", [{"missing": 0, "negative": 0}, {}], ids=["clean", "some"])
def test_tails_hold_each_stage_by_the_bin_of_end_to_end(pipeline, options):
    frames = seeded(pipeline, 500, 17, weights=True, **options)
    counts, times = {}, {}
    for row in oracle.fold(frames, pipeline)["kept"]:
        place = oracle.bin_number(row.pop("end_to_end"))
        counts[place] = counts.get(place, 0) + 1
        for name, value in row.items():
            times[name, place] = times.get((name, place), 0) + value
    tails = folded(pipeline, frames).tails
    assert {i: n for i, n in enumerate(tails.counts.tolist()) if n} == counts
    found = {(name, i): t for name, column in tails.sums.items() for i, t in enumerate(column) if t}
    assert found == {key: t for key, t in times.items() if t}


# -- weights ------------------------------------------------------------------------------------


@given(st.data())
@settings(max_examples=examples(60))
def test_a_row_with_a_weight_counts_as_repeated_rows(data):
    pipeline = data.draw(st.sampled_from(SMALL))
    frames = data.draw(columns(pipeline))
    weight = np.array([data.draw(st.integers(1, 5)) for _ in range(len(frames))], np.uint32)
    frames.weight = None
    repeated = frames.take(np.repeat(np.arange(len(frames)), weight))
    frames.weight = weight
    assert_same(folded(pipeline, frames), folded(pipeline, repeated))


# -- laws of merging ----------------------------------------------------------------------------


def assert_same(sums, whole):
    """Assert equality: counts, sums, bins to the bit, moments to 1e-9."""
    assert exact_values(sums) == exact_values(whole)
    for name, span in sums.spans.items():
        same = whole.spans[name]
        assert span.histogram == same.histogram
        rounding = 1e-15 * (same.peak or 0)
        assert std_of(span) == pytest.approx(std_of(same), rel=1e-9, abs=rounding)
    for name, covariance in sums.covariances.items():
        size = math.sqrt(max(whole.spans["end_to_end"].m2, 1) * max(whole.spans[name].m2, 1))
        size += 1e-6 * (whole.spans["end_to_end"].peak or 0) * (whole.spans[name].peak or 0)
        assert covariance == pytest.approx(whole.covariances[name], rel=2e-9, abs=1e-9 * size)
    for mine, other in (
        (sums.tails.counts, whole.tails.counts),
        *((column, whole.tails.sums[name]) for name, column in sums.tails.sums.items()),
    ):
        assert np.trim_zeros(mine, "b").tolist() == np.trim_zeros(other, "b").tolist()
    assert sums.batches.width_ns == whole.batches.width_ns
    assert sums.batches.begins_ns.tolist() == whole.batches.begins_ns.tolist()
    for name in sums.spans:
        assert np.array_equal(sums.batches.counts(name), whole.batches.counts(name))


@given(st.data())
@settings(max_examples=examples(60))
def test_any_cut_in_any_order_merges_to_the_whole(data):
    pipeline, frames = data.draw(traces)
    places = [data.draw(st.integers(0, 3)) for _ in range(len(frames))]
    long_run = data.draw(run_lengths)
    rows = [np.array(places, int) == i for i in range(4)]
    parts = [folded(pipeline, frames.take(mask), long_run=long_run) for mask in rows]
    whole = folded(pipeline, frames, long_run=long_run)
    for order in (parts, parts[::-1], data.draw(st.permutations(parts))):
        merged = Sums(pipeline)
        for part in order:
            merged.merge(part)
        assert_same(merged, whole)
    left, right = Sums(pipeline), Sums(pipeline)
    for target, pair in ((left, parts[:2]), (right, parts[2:])):
        for part in pair:
            target.merge(part)
    left.merge(right)
    assert_same(left, whole)


def test_parts_of_a_long_trace_merge_to_the_whole():
    frames = seeded(AUDIO, 3_000, 13, weights=True)
    whole = folded(AUDIO, frames)
    for parts in (2, 7, 100):
        rng = np.random.default_rng(parts)
        merged = Sums(AUDIO)
        for rows in np.array_split(rng.permutation(3_000), parts):
            merged.merge(folded(AUDIO, frames.take(rows)))
        assert_same(merged, whole)


def test_the_missing_mark_is_the_integer_of_nat():
    assert np.array([MISSING]).view("M8[ns]")[0].astype(str) == "NaT"
