"""Answers by hand, and against plain loops over exact order statistics."""

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import AUDIO, BARE, CHAIN, DUE, GAPS, SMALL, columns, examples, seeded, simple

from latprof.errors import ProfileError
from latprof.frames import Labels
from latprof.profile.load import merge
from latprof.profile.profile import Profile

MS = 10**6
SECOND = 10**9


def profiled(pipeline, *parts, **options):
    profile = Profile(pipeline, **options)
    for part in parts:
        profile.add(part)
    return profile


def chain_of(*stages):
    """Return frames with the given times of decode, resample and play."""
    return simple(CHAIN, [(0, 0, a, a + b, a + b + c) for a, b, c in stages])


# -- exemplars ----------------------------------------------------------------------------------


def range_of(value):
    """Return which of 32 ranges an octave."""
    fine = oracle.bin_number(value)
    return 0 if fine == 0 else 1 + (fine - 1) // 32


def assert_exemplars(profile, frames, pipeline):
    """Compare with the smallest id of each range that a frame is in."""
    truth = {}
    for row in oracle.finished(oracle.frames(frames)):
        value = oracle.latency(row, pipeline.span("end_to_end"))
        if value is not None and value >= 0:
            where = range_of(value)
            truth[where] = min(truth.get(where, (2**64, 0)), (row["id"], value))
    found = profile.exemplars()
    assert [frame for _, _, frame in found] == [truth[where][0] for where in sorted(truth)]
    for (low, high, _), where in zip(found, sorted(truth), strict=True):
        assert low <= truth[where][1] <= high
        assert range_of(low) == range_of(high) == where


@given(st.sampled_from(SMALL).flatmap(lambda p: st.tuples(st.just(p), columns(p))))
@settings(max_examples=examples(60))
def test_an_exemplar_is_a_frame_of_that_range(trace):
    pipeline, frames = trace
    assert_exemplars(profiled(pipeline, frames), frames, pipeline)


@pytest.mark.usefixtures("run_lengths")
def test_exemplars_of_a_long_trace_in_any_cut():
    frames = seeded(AUDIO, 2_000, 6)
    rng = np.random.default_rng(1)
    parts = [frames.take(rows) for rows in np.array_split(rng.permutation(2_000), 7)]
    assert_exemplars(profiled(AUDIO, frames), frames, AUDIO)
    assert_exemplars(merge([profiled(AUDIO, part) for part in parts]), frames, AUDIO)


def test_ranges_meet_and_are_32_an_octave():
    values = [*range(2_000), 2**62 - 1]
    found = profiled(BARE, simple(BARE, [(-(value // 2), value - value // 2) for value in values]))
    ranges = [(low, high) for low, high, _ in found.exemplars()]
    assert ranges[0] == (0, 0)
    for (_, high), (low, _) in pairwise(ranges[:-1]):
        assert low == high + 1
    assert len([1 for low, _ in ranges if 1024 <= low < 2048 - 1]) <= 32
    # as float64 it is rounded to 2**62: its range is the first of the octave above
    assert ranges[-1][0] <= 2**62 - 1 < ranges[-1][1] < 2**62 + 2**57


def test_the_largest_id_is_an_id():
    frames = simple(BARE, [(0, 5), (0, 70)])
    frames.frame_id[:] = [2**64 - 1, 0]
    assert profiled(BARE, frames).exemplars() == [(5, 5, 2**64 - 1), (70, 71, 0)]
    assert Profile(BARE).exemplars() == []


# -- timeline -----------------------------------------------------------------------------------


def windows_of(frames, pipeline, width):
    """Return by (begin of window, span) its values."""
    found = {}
    for row in oracle.finished(oracle.frames(frames)):
        marks = row["marks"]
        stamped = [t for t in (marks["start"], marks["end"], *marks.values()) if t is not None]
        values = {span.name: oracle.latency(row, span) for span in pipeline.all_spans}
        if oracle.reason_left_out(row, pipeline) is None:
            values["other"] = oracle.other(row, pipeline)
        for name, value in values.items():
            if value is not None and value >= 0:
                found.setdefault((stamped[0] // width * width, name), []).append(value)
    return found


def assert_timeline(table, truth):
    assert table.index.names == ["window", "span"]
    assert table.columns.tolist() == ["count", "mean", "p50", "p90", "p99", "max"]
    begins = table.index.get_level_values(0)
    assert begins.dtype == "datetime64[ns]"
    assert begins.is_monotonic_increasing
    keys = zip(
        begins.to_numpy().view(np.int64).tolist(), table.index.get_level_values(1), strict=True
    )
    rows = dict(zip(keys, table.to_dict("records"), strict=True))
    assert rows.keys() == truth.keys()
    for key, values in truth.items():
        row = rows[key]
        assert (row["count"], row["max"]) == (len(values), max(values))
        assert row["mean"] == pytest.approx(float(oracle.mean(values)), rel=1e-12)
        for q in (50, 90, 99):
            exact = oracle.percentile(values, q)
            assert abs(row[f"p{q}"] - exact) <= 0.016 * exact
            assert row[f"p{q}"] <= row["max"]


@pytest.mark.usefixtures("run_lengths")
@pytest.mark.parametrize("pipeline", SMALL, ids=lambda p: p.name)
@pytest.mark.parametrize("weights", [False, True], ids=["single", "weighted"])
def test_timeline_is_a_plain_loop(pipeline, weights):
    frames = seeded(pipeline, 600, 15, weights=weights)
    profile = profiled(pipeline, frames, every="700ms")
    assert_timeline(profile.timeline(), windows_of(frames, pipeline, 700 * MS))
    parts = [profiled(pipeline, frames.take(slice(i, None, 3)), every="700ms") for i in range(3)]
    assert_timeline(merge(parts).timeline(), windows_of(frames, pipeline, 700 * MS))


@pytest.mark.usefixtures("run_lengths")
@given(columns(CHAIN), st.sampled_from([1, 3, 10**9]))
@settings(max_examples=examples(20))
def test_timeline_of_any_trace(frames, every):
    rows = oracle.finished(oracle.frames(frames))
    stamped = [
        next(t for t in (m["start"], m["end"], *m.values()) if t is not None)
        for m in (row["marks"] for row in rows)
        if any(t is not None for t in m.values())
    ]
    width = every
    while stamped and max(stamped) // width - min(stamped) // width >= 512:
        width *= 2
    truth = windows_of(frames, CHAIN, width)
    assert_timeline(profiled(CHAIN, frames, every=every).timeline(), truth)


@pytest.mark.usefixtures("run_lengths")
def test_windows_double_as_time_grows():
    rows = [(i * SECOND, i * SECOND + 100) for i in range(1_100)]
    profile = profiled(BARE, simple(BARE, rows), every="1s")
    counts = profile.timeline()["count"].xs("end_to_end", level="span")
    assert counts.tolist() == [4] * 275
    assert (counts.index[1] - counts.index[0]).total_seconds() == 4


@pytest.mark.usefixtures("run_lengths")
def test_timeline_by_groups():
    source = Labels.encode(["a", "b"] * 4)
    rows = [(i * SECOND, i * SECOND + 5 + i) for i in range(8)]
    profile = profiled(BARE, simple(BARE, rows, source=source), by="source", every="2s")
    assert profile.timeline()["count"].xs("end_to_end", level="span").tolist() == [2] * 4
    part = profile.groups["b"].timeline()["max"].xs("end_to_end", level="span")
    assert part.tolist() == [6, 8, 10, 12]


def test_a_timeline_needs_windows():
    with pytest.raises(ProfileError, match="a timeline needs windows"):
        Profile(BARE).timeline()
    empty = Profile(BARE, every="1s").timeline()
    assert len(empty) == 0
    assert empty.columns.tolist() == ["count", "mean", "p50", "p90", "p99", "max"]


@pytest.mark.parametrize("value", [0, "0s", -1, "fast", 1.5, True, 2**62])
@pytest.mark.parametrize("name", ["every", "deadline"])
def test_settings_that_are_no_durations(name, value):
    with pytest.raises(ProfileError, match=name):
        Profile(BARE, **{name: value})


# -- deadline -----------------------------------------------------------------------------------


def test_deadline_by_hand():
    # 10 usual frames of 1 + 2 + 3; then two that play makes late and one that decode does
    stages = [(1, 2, 3)] * 10 + [(1, 2, 30), (2, 2, 40), (50, 2, 30)]
    frames = chain_of(*stages, (1, 2, 3), (1, 2, 100))
    frames.outcome = Labels.encode([None] * 13 + ["late", "full"])
    missed = profiled(CHAIN, frames, deadline=20).deadline
    assert (missed.deadline_ns, missed.frames, missed.late, missed.dropped) == (20, 15, 3, 2)
    assert missed.misses == 5
    assert missed.ratio == pytest.approx(5 / 15)
    assert missed.by_stage == {"decode": 1, "play": 2}


def test_a_frame_that_is_on_time_to_the_nanosecond_is_not_late():
    # 20 ms and 20 ms + 1 ns lie in one bin
    frames = chain_of(*[(1, 2, 3)] * 30, *[(1, 2, 20 * MS - 3)] * 6, (1, 2, 20 * MS - 2))
    missed = profiled(CHAIN, frames, deadline="20ms").deadline
    assert missed.late == 1
    assert missed.by_stage == {"play": 1}
    missed = profiled(CHAIN, frames.take(slice(36)), deadline="20ms").deadline
    assert missed.late == 0
    assert missed.by_stage == {}
    assert missed.ratio == 0


def test_late_in_other():
    rows = [(0, 0, 1, 2, 3)] * 5 + [(0, 90, 91, 92, 93)]
    missed = profiled(CHAIN, simple(CHAIN, rows), deadline=50).deadline
    assert missed.by_stage == {"other": 1}


def test_a_deadline_counts_from_due_where_there_is_one():
    # due start a b c end
    rows = [(0, 90, 91, 92, 93, 100), (None, 0, 1, 2, 3, 100), (95, 96, 97, 98, 99, 100)]
    missed = profiled(DUE, simple(DUE, rows), deadline=50).deadline
    # the second frame has no due: whether it was late is not known
    assert (missed.late, missed.frames, missed.unknown) == (1, 2, 1)


def test_weights_are_frames():
    frames = chain_of((1, 2, 3), (1, 2, 30))
    frames.weight = np.array([5, 4], np.uint32)
    missed = profiled(CHAIN, frames, deadline=20).deadline
    assert (missed.frames, missed.late, missed.by_stage) == (9, 4, {"play": 4})


def test_no_deadline_and_no_frames():
    assert Profile(CHAIN).deadline is None
    missed = Profile(CHAIN, deadline=5).deadline
    assert (missed.frames, missed.misses, missed.ratio, missed.by_stage) == (0, 0, None, {})


@pytest.mark.parametrize("pipeline", [AUDIO, CHAIN, DUE, GAPS], ids=lambda p: p.name)
@pytest.mark.parametrize("q", [1, 50, 95])
def test_late_frames_are_counted_exactly(pipeline, q):
    frames = seeded(pipeline, 500, 23, weights=True)
    promised = pipeline.totals[-1]
    rows = oracle.frames(frames)
    values = [oracle.latency(row, promised) for row in oracle.finished(rows)]
    values = [value for value in values if value is not None and value >= 0]
    deadline = oracle.percentile(values, q)
    missed = profiled(pipeline, frames, deadline=deadline).deadline
    assert missed.late == sum(value > deadline for value in values)
    assert missed.frames + missed.unknown == len(rows)
    assert missed.dropped == len(rows) - len(oracle.finished(rows))
    if promised.name == "end_to_end":
        kept = oracle.fold(frames, pipeline)["kept"]
        late = sum(row["end_to_end"] > deadline for row in kept)
        # frames that are late and not attributed may share the bin that the deadline cuts
        assert late <= sum(missed.by_stage.values()) <= missed.late


def test_late_frames_are_counted_by_stage_as_if_one_by_one():
    frames = seeded(CHAIN, 800, 29, missing=0, negative=0, dropped=0)
    kept = sorted(oracle.fold(frames, CHAIN)["kept"], key=lambda row: row["end_to_end"])
    middle = kept[320:480]
    names = [stage.name for stage in CHAIN.stages] + ["other"]
    usual = {name: float(oracle.mean([row[name] for row in middle])) for name in names}
    deadline = kept[700]["end_to_end"]
    blamed = dict.fromkeys(names, 0)
    for row in kept[701:]:
        blamed[max(names, key=lambda name: row[name] - usual[name])] += 1
    found = profiled(CHAIN, frames, deadline=deadline).deadline
    assert sum(found.by_stage.values()) == found.late == 99
    # frames that share a bin are blamed together: bins of 0.1 % hold one or two of these
    for name in names:
        assert abs(found.by_stage.get(name, 0) - blamed[name]) <= 5


# -- tails --------------------------------------------------------------------------------------


def tail_truth(kept, q, high=100):
    """Return for the ranks above q, up to and with high, each stage's sum: ties share theirs.

    Frames of one bin are alike: of a bin that a rank cuts, the same part of each is taken.
    """
    n = len(kept)
    first = 0 if q == 0 else math.ceil(Fraction(str(q)) / 100 * n)
    last = math.ceil(Fraction(str(high)) / 100 * n)
    bins = {}
    for row in kept:
        bins.setdefault(oracle.bin_number(row["end_to_end"]), []).append(row)
    sums, reached = {}, 0
    for number in sorted(bins):
        rows = bins[number]
        inside = min(reached + len(rows), last) - max(reached, first)
        part = Fraction(max(inside, 0), len(rows))
        for name in rows[0]:
            sums[name] = sums.get(name, 0) + part * sum(row[name] for row in rows)
        reached += len(rows)
    return max(last - first, 0), sums


@pytest.mark.parametrize("scale", [2, 50, 1e6], ids=["ties", "few ties", "no ties"])
@pytest.mark.parametrize("pipeline", [AUDIO, CHAIN, GAPS], ids=lambda p: p.name)
def test_tail_is_that_of_exact_ranks(pipeline, scale):
    frames = seeded(pipeline, 700, 37, scale=scale, weights=True)
    kept = oracle.fold(frames, pipeline)["kept"]
    profile = profiled(pipeline, frames)
    middle = tail_truth(kept, 40, 60)
    for q in (0, 50, 90, 99, 99.9, 100):
        table = profile.tail(q)
        assert_tail(table, "slow", *tail_truth(kept, q))
        assert_tail(table, "middle", *middle)


def assert_tail(table, what, count, sums):
    whole = sums["end_to_end"]
    assert table[f"{what}_frames"].tolist() == [count] * len(table)
    assert [*table.index, "end_to_end"] == list(sums)
    for name in table.index:
        mean, share = table.loc[name, [f"{what}_mean", f"{what}_share"]]
        total = sums[name]
        assert (mean == pytest.approx(float(total / count))) if count else math.isnan(mean)
        assert (share == pytest.approx(float(total / whole))) if whole else math.isnan(share)


def test_tail_of_values_below_a_microsecond_is_exact():
    # every value has its own bin: the frames are those of the sorted list
    frames = chain_of(*((i % 7, 3, i) for i in range(500)))
    kept = sorted(oracle.fold(frames, CHAIN)["kept"], key=lambda row: row["end_to_end"])
    table = profiled(CHAIN, frames).tail(95)
    truth = {row["end_to_end"] for row in kept[475:]}
    slow = [row for row in kept if row["end_to_end"] in truth]
    assert table["slow_frames"].tolist() == [25] * 4
    if len(slow) == 25:  # no tie at the limit
        for name in ("decode", "resample", "play"):
            exact = sum(row[name] for row in slow) / 25
            assert table.loc[name, "slow_mean"] == pytest.approx(exact)
