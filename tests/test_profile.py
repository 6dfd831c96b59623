import math
import warnings
from fractions import Fraction
from pathlib import Path

import numpy as np
import oracle
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import BARE, CHAIN, DUE, GAPS, SMALL, columns, examples, seeded, simple

from latprof.errors import LatprofError, ProfileError
from latprof.fold.intervals import frames_needed
from latprof.frames import Columns, Labels
from latprof.marks import Span
from latprof.pipeline import AUDIO, Pipeline
from latprof.profile.load import merge
from latprof.profile.profile import Profile

# the columns of table(), in order
TABLE = ["count", "missing", "negative", "mean", "std", "min", "p50", "p90", "p99", "p99_9"]
TABLE += ["max", "peak_frame", "share", "resolves"]


def profiled(pipeline, *parts, **options):
    profile = Profile(pipeline, **options)
    for part in parts:
        profile.add(part)
    return profile


def stages_only(profile):
    return {stage.name for stage in profile.pipeline.stages}


# -- numbers, against the oracle ----------------------------------------------------------------


@given(st.sampled_from(SMALL).flatmap(lambda p: st.tuples(st.just(p), columns(p))))
@settings(max_examples=examples(60))
def test_numbers_of_a_span_equal_those_of_the_oracle(trace):
    pipeline, frames = trace
    profile = profiled(pipeline, frames)
    truth = oracle.fold(frames, pipeline)
    assert profile.frames == truth["finished"]
    whole = truth["shares"]["end_to_end"]
    for name in profile.spans:
        span, known = profile[name], truth["spans"][name]
        assert (span.name, span.count, span.missing, span.negative, span.total) == (
            *(name, known["count"], known["missing"], known["negative"], known["total"]),
        )
        assert (span.min, span.max, span.peak_frame) == (
            *(known["min"], known["max"], known["peak_frame"]),
        )
        values = known["values"]
        assert span.mean == (float(oracle.mean(values)) if values else None)
        assert (span.std is None) == (len(values) < 2)
        part = truth["shares"].get(name)
        assert span.share == (None if part is None or whole == 0 else part / whole)
    assert profile.time_range_ns == (
        None
        if truth["first_ns"] is None or truth["last_ns"] is None
        else truth["last_ns"] - truth["first_ns"]
    )
    assert profile.ranges == oracle.ranges(truth["spans"]["end_to_end"]["values"])


@pytest.mark.parametrize("pipeline", SMALL, ids=lambda p: p.name)
def test_shares_of_stages_and_other_add_up(pipeline):
    profile = profiled(pipeline, seeded(pipeline, 500, 3))
    assert 0 < profile.sums.attributed < profile.frames
    parts = [*stages_only(profile), "other"]
    assert sum(profile.sums.shares[name] for name in parts) == profile.sums.shares["end_to_end"]
    assert sum(profile[name].share for name in parts) == pytest.approx(1)
    assert profile["end_to_end"].share == 1
    for side in pipeline.sides:
        assert profile[side.name].share is None


def test_spans_come_as_stages_sides_other_totals():
    assert Profile(DUE).spans == ("wait", "work", "all", "lag", "other", "end_to_end", "response")
    kinds = [Profile(DUE)[name].kind for name in Profile(DUE).spans]
    assert kinds == ["stage", "stage", "side", "side", "other", "total", "total"]


def test_response_counts_from_due():
    profile = profiled(DUE, simple(DUE, [(0, 30, 40, 50, 60, 100), (None, 30, 40, 50, 60, 100)]))
    assert (profile["response"].count, profile["response"].missing) == (1, 1)
    assert profile["response"].mean == 100
    assert profile["end_to_end"].mean == 70


def test_an_unknown_span_is_refused_with_the_known_ones():
    with pytest.raises(ProfileError, match=r"'mic' must be one of decode, .* got 'nope'"):
        Profile(CHAIN)["nope"]


def test_variance_shares_add_up_to_1():
    frames = seeded(AUDIO, 400, 9)
    profile = profiled(AUDIO, frames)
    kept = oracle.fold(frames, AUDIO)["kept"]
    totals = [row["end_to_end"] for row in kept]
    shares = profile.variance_shares
    assert sum(shares.values()) == pytest.approx(1)
    for name, share in shares.items():
        exact = oracle.comoment([row[name] for row in kept], totals)
        assert share == pytest.approx(float(exact / oracle.comoment(totals, totals)), abs=1e-9)


def test_variance_share_is_negative_for_a_stage_that_is_fast_when_frames_are_slow():
    # decode, resample, play: 10 0 0, 5 0 15, 0 0 30 -> end to end 10, 20, 30
    rows = [(0, 0, 10, 10, 10), (0, 0, 5, 5, 20), (0, 0, 0, 0, 30)]
    shares = profiled(CHAIN, simple(CHAIN, rows)).variance_shares
    assert shares == pytest.approx({"decode": -0.5, "resample": 0, "play": 1.5, "other": 0})
    assert profiled(CHAIN, simple(CHAIN, rows[:1])).variance_shares == {}
    assert Profile(CHAIN).variance_shares == {}


# -- slow frames --------------------------------------------------------------------------------


def chain_of(*stages):
    """Return frames with the given times of decode, resample and play."""
    rows = [(0, 0, a, a + b, a + b + c) for a, b, c in stages]
    return simple(CHAIN, rows)


def test_tail_compares_slow_frames_with_middle_ones():
    # play lasts 1 .. 200 ns and resample 500 in the two slowest frames: all bins hold one value
    frames = chain_of(*((3, 500 if i > 198 else 2, i) for i in range(1, 201)))
    table = profiled(CHAIN, frames).tail(99)
    assert table.index.name == "span"
    assert table.index.tolist() == ["decode", "resample", "play", "other"]
    assert table["slow_frames"].tolist() == [2] * 4  # of 200, rank 198 is p99
    assert table["slow_mean"].tolist() == [3, 500, 199.5, 0]
    assert table["slow_share"].tolist() == pytest.approx([6 / 1405, 1000 / 1405, 399 / 1405, 0])
    assert table["middle_frames"].tolist() == [40] * 4  # above rank 80, up to rank 120
    assert table["middle_mean"].tolist() == pytest.approx([3, 2, 100.5, 0])
    assert profiled(CHAIN, frames).bottleneck("tail") == "resample"
    assert profiled(CHAIN, frames).bottleneck("mean") == "play"


def test_a_bin_that_the_limit_cuts_is_apportioned():
    # 100 equal frames: the slowest 1 % is one of them, with a hundredth of the time
    table = profiled(CHAIN, chain_of(*[(10, 20, 70)] * 100)).tail(99)
    assert table["slow_frames"].tolist() == [1] * 4
    assert table["slow_mean"].tolist() == pytest.approx([10, 20, 70, 0])


def test_tail_of_no_frames_and_of_one_frame():
    for profile in (Profile(CHAIN), profiled(CHAIN, chain_of((1, 2, 3)))):
        for q in (0, 50, 99, 100):
            table = profile.tail(q)
            assert (table["slow_frames"] == (1 if q == 0 and profile.frames else 0)).all()
    with pytest.raises(ProfileError, match="must be a number from 0 to 100, got 101"):
        Profile(CHAIN).tail(101)


# -- bottleneck ---------------------------------------------------------------------------------


def test_bottleneck_is_the_stage_with_the_highest_mean():
    profile = profiled(CHAIN, chain_of((1, 9, 5), (1, 9, 5), (90, 1, 60)))
    assert profile.bottleneck() == profile.bottleneck("mean") == "decode"  # 92 / 3
    assert profile.bottleneck("p99") == "decode"
    with pytest.raises(ProfileError, match=r"why must be one of mean, p99, .* got 'speed'"):
        profile.bottleneck("speed")


def test_mean_and_p99_may_disagree():
    stages = [(10, 0, 1)] * 95 + [(10, 0, 100)] * 5
    profile = profiled(CHAIN, chain_of(*stages))
    assert profile.bottleneck("mean") == "decode"
    assert profile.bottleneck("p99") == profile.bottleneck("variance") == "play"


def test_of_equal_stages_the_first_is_the_bottleneck():
    assert profiled(CHAIN, chain_of((5, 5, 5))).bottleneck() == "decode"
    assert profiled(CHAIN, chain_of((0, 0, 0))).bottleneck() == "decode"


def test_sides_and_other_never_win():
    pipeline = Pipeline(
        "p", ("start", "a", "end"), (Span("s", "start", "end", kind="side"), Span("x", "a", "end"))
    )
    profile = profiled(pipeline, simple(pipeline, [(0, 99, 100)]))
    assert profile.bottleneck() == "x"
    assert Profile(BARE).bottleneck() is None
    for why in ("mean", "p99", "tail", "variance"):
        assert Profile(CHAIN).bottleneck(why) is None
        assert profiled(BARE, simple(BARE, [(0, 5)])).bottleneck(why) is None


def test_mean_is_over_the_frames_that_have_the_stage():
    # decode lasts 50 in the one frame that has it; the seed divided by all frames
    rows = [(0, 0, 50, 50, 80), (0, None, 50, 50, 80), (0, None, 50, 50, 80)]
    profile = profiled(CHAIN, simple(CHAIN, rows))
    assert profile["decode"].mean == 50
    assert profile.bottleneck() == "decode"


def test_unclaimed_time_is_reported_with_the_marks_that_it_is_between():
    profile = profiled(CHAIN, simple(CHAIN, [(0, 700, 800, 900, 1_000)] * 3))
    assert profile.unclaimed == (
        "700 ns of each frame (70%) is claimed by no stage: "
        "most of it is between the marks start and decode"
    )
    profile = profiled(CHAIN, simple(CHAIN, [(0, None, None, 900, 1_000)] * 3))
    assert profile.unclaimed.endswith("marks are missing, and so the time of decode, resample")
    assert profiled(CHAIN, chain_of((1, 2, 3))).unclaimed is None
    assert Profile(CHAIN).unclaimed is None
    assert "between the marks start and end" in profiled(BARE, simple(BARE, [(0, 5)])).unclaimed


# -- percentiles and their intervals ------------------------------------------------------------


@pytest.mark.parametrize("q", [50, 90, 99, 99.9])
def test_frames_needed_is_where_the_largest_suffices(q):
    n = frames_needed(q)
    p = Fraction(str(q)) / 100
    assert p**n <= Fraction(1, 40) < p ** (n - 1)


def test_too_few_frames_give_a_value_and_the_reason_for_no_interval():
    profile = profiled(CHAIN, chain_of(*((1, 2, i) for i in range(500))))
    known = profile["play"].percentile(99.9)
    assert (known.value, known.low, known.high) == (499, None, None)
    assert known.note == "too few frames for p99.9: 500, at least 3,688 needed"
    assert known.error_bound <= 0.0005
    assert Profile(CHAIN)["play"].percentile(50).value is None
    assert Profile(CHAIN)["play"].percentile(50).note == "no frame has this span"
    assert Profile(CHAIN)["play"].resolves is None
    with pytest.raises(ProfileError, match="must be a number from 0 to 100, got 101"):
        profile["play"].percentile(101)


def test_an_interval_contains_the_value():
    frames = seeded(CHAIN, 6_000, 21, missing=0, negative=0, dropped=0)
    profile = profiled(CHAIN, frames)
    for q in (50, 90, 99, 99.9):
        for independent in (False, True):
            known = profile["play"].percentile(q, independent=independent)
            assert known.low <= known.value <= known.high
    assert profile["play"].resolves == 99.9
    assert profile["play"].percentile(0).value == profile["play"].min
    assert profile["play"].percentile(100).value == profile["play"].max


# -- the table ----------------------------------------------------------------------------------


def test_table_has_the_columns_of_the_contract():
    table = profiled(AUDIO, seeded(AUDIO, 300, 1)).table()
    assert table.columns.tolist() == TABLE
    assert table.index.name == "span"
    assert table.index.tolist() == [
        *("transit", "webrtc", "ipc", "cgo", "alsa"),
        *("validation", "serialization", "other", "end_to_end"),
    ]
    kinds = {name: str(kind) for name, kind in table.dtypes.items()}
    assert {kinds.pop(name) for name in ("count", "missing", "negative")} == {"int64"}
    assert kinds.pop("peak_frame") == "UInt64"
    assert {kind.lower() for kind in kinds.values()} == {"float64"}
    assert table[["mean", "p50", "p90", "p99", "p99_9", "max"]].notna().all(axis=None)


def test_table_equals_the_oracle():
    frames = seeded(AUDIO, 300, 1, weights=True)
    table = profiled(AUDIO, frames).table()
    truth = oracle.fold(frames, AUDIO)
    for name, row in table.iterrows():
        known = truth["spans"][name]
        for key in ("count", "missing", "negative", "min", "max", "peak_frame"):
            assert row[key] == known[key]
        assert row["mean"] == float(oracle.mean(known["values"]))
        assert row["std"] == pytest.approx(known["std"], rel=1e-9)
        for key, q in (("p50", 50), ("p90", 90), ("p99", 99), ("p99_9", 99.9)):
            assert row[key] == pytest.approx(oracle.percentile(known["values"], q), rel=5e-4)


def test_table_of_no_frames_and_of_one():
    table = Profile(CHAIN).table()
    assert table.columns.tolist() == TABLE
    assert table[["count", "missing", "negative"]].eq(0).all(axis=None)
    rest = table.drop(columns=["count", "missing", "negative"])
    assert rest.isna().all(axis=None)
    assert rest.dtypes.equals(profiled(CHAIN, seeded(CHAIN, 9, 1)).table()[rest.columns].dtypes)
    table = profiled(CHAIN, chain_of((1, 2, 3))).table()
    assert table.loc["play", ["min", "p50", "p99_9", "max", "mean"]].tolist() == [3] * 5
    assert math.isnan(table.loc["play", "std"])
    assert table.loc["play", "peak_frame"] == 0


def test_peak_frame_of_64_bits_survives_the_table():
    frames = simple(BARE, [(0, 5)])
    frames.frame_id[:] = 2**64 - 1
    assert int(profiled(BARE, frames).table().loc["end_to_end", "peak_frame"]) == 2**64 - 1


def test_table_by_groups():
    frames = seeded(CHAIN, 200, 6)
    profile = profiled(CHAIN, frames, by="source")
    table = profile.table(groups=True)
    assert table.index.names == ["source", "span"]
    assert table.columns.tolist() == TABLE
    for source in ("input", "output"):
        alone = profiled(CHAIN, frames.take(frames.source.equals(source))).table()
        pd.testing.assert_frame_equal(table.loc[source], alone)
    empty = profiled(CHAIN, by="source").table(groups=True)
    assert len(empty) == 0
    assert empty.columns.tolist() == TABLE


# -- groups -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("by", "names"),
    [
        ("source", {"input", "output"}),
        ("outcome", {"finished", "late", "full"}),
        ("room", {"0", "1", "2"}),
    ],
)
def test_groups_are_profiles_and_add_up_to_the_whole(by, names):
    frames = seeded(AUDIO, 400, 8, weights=True)
    profile = profiled(AUDIO, frames, by=by)
    assert set(profile.groups) == names
    for plain, row in zip(profiled(AUDIO, frames).rows(), profile.rows(), strict=True):
        assert row.pop("std") == pytest.approx(plain.pop("std"), rel=1e-12)
        assert row == plain
    whole = merge(list(profile.groups.values()))
    for name in profile.spans:
        assert whole[name].histogram == profile[name].histogram
        assert whole[name].total == profile[name].total
        assert whole[name].std == pytest.approx(profile[name].std, rel=1e-9)
    assert whole.sums.dropped == profile.sums.dropped
    truth = oracle.frames(frames)
    for name, group in profile.groups.items():
        rows = [row for row in truth if name in (row["source"], row["outcome"])]
        rows = rows or [row for row in truth if str(row["tags"].get(by)) == name]
        assert group.frames == len(oracle.finished(rows))


def test_frames_without_a_value_are_a_group():
    source = Labels.encode(["a", None, "a"])
    profile = profiled(BARE, simple(BARE, [(0, 1)] * 3, source=source), by="source")
    assert {name: group.frames for name, group in profile.groups.items()} == {"a": 2, "(none)": 1}
    profile = profiled(BARE, simple(BARE, [(0, 1)] * 3), by="source")
    assert {name: group.frames for name, group in profile.groups.items()} == {"(none)": 3}


def test_grouping_by_an_unknown_column_is_refused():
    with pytest.raises(ProfileError, match=r"by must be one of source, .*room.*, got 'nope'"):
        profiled(CHAIN, seeded(CHAIN, 9, 1), by="nope")


def test_grouping_by_a_column_of_too_many_values_is_refused():
    frames = simple(BARE, [(0, 1)] * 1_001, tags={"call": np.arange(1_001)})
    with pytest.raises(ProfileError, match=r"by='call' must have at most 1,000 values; group by"):
        profiled(BARE, frames, by="call")
    assert len(profiled(BARE, frames.take(slice(1_000)), by="call").groups) == 1_000


@pytest.mark.slow
def test_windows_of_many_groups_are_bounded():
    # end_to_end and other: 2 x (64 + 512) windows, of which 2**20 are 910 times as many
    frames = simple(BARE, [(0, 1)] * 911, tags={"call": np.arange(911)})
    with pytest.raises(
        ProfileError,
        match=r"at most 910 values, the most for 2 spans and windows \(every=\); group by",
    ):
        profiled(BARE, frames, by="call", every="1s")
    assert len(profiled(BARE, frames.take(slice(910)), by="call", every="1s").groups) == 910
    assert len(profiled(BARE, frames, by="call").groups) == 911


# -- throughput ------------------------------------------------------------------------------------


def at(*starts):
    return simple(BARE, [(start, start + 10**6) for start in starts])


def test_throughput_is_over_the_time_range_without_recorded_segments():
    profile = profiled(BARE, at(0, 999_000_000))
    assert profile.time_range_ns == profile.active_ns == 10**9
    assert profile.throughput == 2


def test_throughput_is_over_the_recorded_segments():
    segments = [[0, 10**9], [5 * 10**8, 2 * 10**9], [10 * 10**9, 11 * 10**9], [0, 10**8]]
    profile = profiled(BARE, at(0, 10**9, 105 * 10**8))
    profile.note({"segments": segments})
    assert profile.active_ns == oracle.active_ns(segments) == 3 * 10**9
    assert profile.throughput == 1
    profile.note({})  # a recording that does not say when it was recording
    assert profile.active_ns == profile.time_range_ns


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)).map(sorted), min_size=1))
def test_active_time_is_the_union_of_segments(segments):
    profile = Profile(BARE)
    profile.note({"segments": segments})
    assert profile.active_ns == oracle.active_ns(segments)


def test_throughput_is_scaled_by_the_sampling_rate():
    profile = Profile(BARE)
    profile.add(at(0, 999_000_000), 0.25)
    assert profile.throughput == 8
    assert profile.sampled
    profile.add(at(5), 1.0)
    assert profile.throughput == 9
    assert not profiled(BARE, at(0)).sampled


@pytest.mark.parametrize(
    "rows", [[], [(None, 5)], [(5, None)], [(5, 5)], [(9, 5)]], ids=["0", "s", "e", "=", "-"]
)
def test_no_throughput_without_time(rows):
    profile = profiled(BARE, simple(BARE, rows))
    assert profile.throughput is None


# -- accounts -----------------------------------------------------------------------------------


def test_accounts_add_up():
    outcome = Labels.encode(["finished", "late", "late", "full", None])
    profile = profiled(BARE, simple(BARE, [(0, 1)] * 5, outcome=outcome))
    recorded = {"in_flight": 3, "rejected": {"bad stamp": 2}, "sampled_out": 7, "torn": 1}
    profile.note({"lost": 4, "accounts": recorded | {"notes": {"mark set twice": 6}}})
    profile.balance()
    a = profile.accounts
    assert (a.in_flight, a.rejected, a.sampled_out, a.lost, a.torn) == (
        3,
        {"bad stamp": 2},
        7,
        4,
        1,
    )
    assert a.dropped == {"late": 2, "full": 1}
    assert a.folded == 5
    assert a.notes == {"mark set twice": 6}
    assert a.finished + 3 == a.folded + a.not_folded + a.lost + a.torn
    assert a.started == a.in_flight + a.finished + 3 + 2
    both = (profile + profile).accounts
    assert both.started == 2 * a.started
    assert both.dropped == {"late": 4, "full": 2}


def test_groups_have_accounts_of_their_own_frames():
    profile = profiled(AUDIO, seeded(AUDIO, 300, 2), by="source")
    profile.balance()
    for group in profile.groups.values():
        assert group.accounts.finished == group.frames > 0
        assert group.accounts.started == group.accounts.folded
    for name in ("started", "folded", "finished"):
        parts = [getattr(group.accounts, name) for group in profile.groups.values()]
        assert sum(parts) == getattr(profile.accounts, name)


# -- merging ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("cuts", "by"), [(2, "source"), (7, None), (15, "source")])
def test_parts_in_any_order_merge_to_the_whole(cuts, by):
    frames = seeded(AUDIO, 600, 12, weights=True)
    whole = profiled(AUDIO, frames, by=by)
    rng = np.random.default_rng(cuts)
    parts = [
        profiled(AUDIO, frames.take(rows), by=by)
        for rows in np.array_split(rng.permutation(600), cuts)
    ]
    before = parts[0].rows()
    for merged in (merge(parts), merge(parts[::-1]), sum(parts[1:], start=parts[0])):
        assert same_rows(merged, whole)
        assert merged.sums.dropped == whole.sums.dropped
        assert merged.throughput == pytest.approx(whole.throughput)
        assert merged.ranges == whole.ranges
        assert merged.rates == whole.rates
        assert set(merged.groups) == set(whole.groups)
        for name, group in merged.groups.items():
            assert same_rows(group, whole.groups[name])
    assert parts[0].rows() == before  # the parts are as they were


def same_rows(a, b):
    """Return whether all that is exact is equal, and the rest to 1e-9."""
    for mine, theirs in zip(a.rows(), b.rows(), strict=True):
        for row in (mine, theirs):
            row["std"] = pytest.approx(row["std"], rel=1e-9) if row is theirs else row["std"]
            row.pop("intervals", None)
        if mine != theirs:
            return False
    return True


def test_a_copy_is_independent():
    frames = seeded(CHAIN, 50, 1)
    profile = profiled(CHAIN, frames, by="source")
    same = profile.copy()
    same.add(frames)
    assert same.frames == 2 * profile.frames == 2 * profiled(CHAIN, frames).frames
    assert same.groups["input"].frames == 2 * profile.groups["input"].frames


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (lambda: Profile(BARE), "equal pipelines to merge, got 'mic' and 'bare'"),
        (lambda: Profile(CHAIN, by="source"), "the same by to merge, got None and 'source'"),
        (lambda: Profile(CHAIN, edges_ns=(5,)), "the same edges_ns to merge"),
    ],
)
def test_profiles_of_other_settings_do_not_merge(other, said):
    with pytest.raises(ProfileError, match=said):
        Profile(CHAIN) + other()
    with pytest.raises(ProfileError, match=said):
        merge([Profile(CHAIN), other()])


def test_merge_of_no_profiles_is_refused_and_of_one_is_equal():
    with pytest.raises(ProfileError, match="profiles must contain at least one profile, got none"):
        merge([])
    one = profiled(GAPS, seeded(GAPS, 20, 1))
    assert merge([one]).rows() == one.rows()
    with pytest.raises(
        ProfileError, match="must contain only profiles, got DataFrame; analyze makes"
    ):
        merge([pd.DataFrame()])
    with pytest.raises(ProfileError, match="list of profiles, got Profile; write merge"):
        merge(one)


def test_edges_are_sorted_and_made_distinct():
    profile = profiled(BARE, simple(BARE, [(0, 0), (0, 5), (0, 6), (0, 99)]), edges_ns=(50, 5, 5))
    assert profile.ranges == [(0, 5, 2), (5, 50, 1), (50, None, 1)]


def test_the_longest_frame_is_folded_into_its_group():
    short = simple(BARE, [(0, 5)], source=Labels.encode(["a"]))
    long = simple(BARE, [(1 - 2**62, 2**62 - 1)], source=Labels.encode(["a"]))
    profile = profiled(BARE, short, long, short, by="source")
    assert profile.groups["a"].frames == profile.frames == 3
    assert profile["end_to_end"].total == 2**63 - 2 + 10
    assert profile["end_to_end"].max == 2**63 - 2


def test_repr_is_short():
    profile = profiled(BARE, at(0, 1))
    assert repr(profile) == "<Profile of bare: 2 frames>"
    assert repr(profile["end_to_end"]) == "<SpanProfile of end_to_end: 2 frames>"


def test_str_of_a_span_is_what_a_person_wants_to_know():
    rows = [(0, 0, 1_000, 1_000 + i, 2_000 + i) for i in range(100)]
    profile = profiled(CHAIN, simple(CHAIN, [*rows, (0, None, 5, 5, 5)]))
    assert str(profile["decode"]).splitlines() == [
        "decode (stage): 100 frames, 1 missing, 0 negative",
        "mean 1.00 us, standard deviation 0 ns, 48.8% of end_to_end",
        f"{profile['decode'].percentile(50)}",
        f"{profile['decode'].percentile(90)}",
        f"{profile['decode'].percentile(99)}",
        f"{profile['decode'].percentile(99.9)}",
        "min 1.00 us, max 1.00 us (frame 0)",
    ]
    assert str(Profile(CHAIN)["play"]) == "play (stage): 0 frames, 0 missing, 0 negative"


def test_str_of_a_profile_names_the_bottleneck_and_has_a_row_for_each_span():
    text = str(profiled(CHAIN, chain_of((5, 90, 5))))
    assert "the bottleneck is resample" in text
    for name in Profile(CHAIN).spans:
        assert any(line.startswith(name) for line in text.splitlines())


def test_table_in_another_unit():
    profile = profiled(AUDIO, seeded(AUDIO, 300, 1), by="source")
    for table, scaled in [
        (profile.table(), profile.table(unit="ms")),
        (profile.table(groups=True), profile.table(groups=True, unit="ms")),
    ]:
        times = ["mean", "std", "min", "p50", "p90", "p99", "p99_9", "max"]
        rest = [name for name in TABLE if name not in times]
        pd.testing.assert_frame_equal(scaled[times], table[times] / 1e6)
        pd.testing.assert_frame_equal(scaled[rest], table[rest])


def test_a_percentile_that_looks_like_a_fraction_warns_once_for_each_line():
    profile = profiled(CHAIN, chain_of((1, 2, 3)))
    asks = (lambda: profile["play"].percentile(0.99), lambda: profile.tail(0.99))
    asks += (lambda: profile.slices(0.5),)
    for ask in asks:
        with pytest.warns(UserWarning, match="below the first percentile; did you mean ") as w:
            ask()
        assert [Path(one.filename).name for one in w] == ["test_profile.py"]
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("default")
        for _ in range(3):
            profile["play"].percentile(0.5)
        for q in (0, 1, 50, 100):
            profile["play"].percentile(q)
    assert len(found) == 1


ODD = [None, 7, -1, 1.5, math.nan, 2**70, "99", "", b"x", "nope\x1b", [], ["a"], {}, object(), True]


def test_odd_arguments_raise_an_error_of_one_line():
    profile = profiled(CHAIN, chain_of((1, 2, 3)), every="1s")
    calls = {
        "percentile": profile["play"].percentile,
        "curve": lambda x: profile["play"].curve(per_decade=x),
        "[]": profile.__getitem__,
        "bottleneck": profile.bottleneck,
        "tail": profile.tail,
        "slices": profile.slices,
        "worst": profile.worst,
        "windows span": profile.windows,
        "windows qs": lambda x: profile.windows("play", x),
        "windows q": lambda x: profile.windows("play", [x]),
        "heat span": profile.heat,
        "heat most": lambda x: profile.heat("play", most=x),
        "table unit": lambda x: profile.table(unit=x),
        "merge": profile.merge,
        "+": lambda x: profile + x,
        "merge list": merge,
        "merge item": lambda x: merge([x]),
        "pipeline": Profile,
        "by": lambda x: profiled(CHAIN, chain_of((1, 2, 3)), by=x),
        "edges_ns": lambda x: Profile(CHAIN, edges_ns=x),
        "every": lambda x: Profile(CHAIN, every=x),
        "deadline": lambda x: Profile(CHAIN, deadline=x),
    }
    messages = []
    for call in calls.values():
        for odd in ODD:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    call(odd)
                except LatprofError as error:
                    messages.append(str(error))
    assert len(messages) > 200
    assert all(text.isprintable() and len(text) < 400 for text in messages)


def test_adding_no_rows_changes_nothing():
    empty = Columns(np.zeros(0, np.uint64), {"start": np.zeros(0, int), "end": np.zeros(0, int)})
    profile = profiled(BARE, empty, by="nope")
    assert profile.frames == 0
    assert profile.rates.total() == 0


@pytest.mark.parametrize(
    ("edge", "why"),
    [
        (-1, "edge must be 0 or more, got -1"),
        (1.5, r"edge must be a duration"),
        ("soon", "edge must be a duration"),
        (2**62, r"edge must be less than 2\*\*62 ns .*, got 4611686018427387904"),
    ],
)
def test_an_edge_that_is_not_a_duration_is_refused(edge, why):
    with pytest.raises(ProfileError, match=why):
        Profile(CHAIN, edges_ns=(5, edge))
