"""Comparisons of runs: numbers against scipy and hand calculation, verdicts, budgets, words."""

import json
import math

import numpy as np
import pytest
from scipy import stats

import latprof
from latprof import Pipeline, ProfileError, Span, Trace, analyze, compare
from latprof.cli.main import main
from latprof.comparing.budgets import EXCEEDED, MET, OPEN, judge_runs, parse_budget
from latprof.comparing.changes import mix_of
from latprof.comparing.planning import pairs_needed, plan, power_of
from latprof.comparing.runs import Run, load_runs
from latprof.comparing.services import shapley
from latprof.comparing.student import (
    holm,
    sequential_level,
    sign_flip_p,
    t_p_value,
    t_quantile,
)
from latprof.comparing.trend import change_points, trend

WEB = Pipeline(
    "web",
    ("start", "sent", "end"),
    (Span("queue", "start", "sent"), Span("serve", "sent", "end", station="server")),
)
DAY_NS = 86_400 * 10**9


def constant(latency_ns, *, frames=64, begin=0, gap_ns=10**6, queue_ns=None, source=None):
    """Return a run of frames that all take the same time, a quarter of it in the queue."""
    start = begin + np.arange(frames) * gap_ns
    sent = start + (latency_ns // 4 if queue_ns is None else queue_ns)
    marks = {"start": start, "sent": sent, "end": start + latency_ns}
    return Trace(WEB, frame_id=np.arange(frames), marks=marks, source=source)


def noisy(seed, scale=1.0, frames=4_000):
    """Return a run of a queue with one server at load 0.5."""
    random = np.random.default_rng(seed)
    service = random.gamma(9, 50_000 * scale, frames)
    arrival = np.arange(frames) * 1e6
    done = np.cumsum(service)
    leave = done + np.maximum.accumulate(arrival - (done - service))
    marks = {"start": arrival, "sent": leave - service, "end": leave}
    marks = {name: at.astype(np.int64) for name, at in marks.items()}
    return Trace(WEB, frame_id=np.arange(frames), marks=marks)


# -- distributions and tests ---------------------------------------------------------------------


def test_t_distribution_equals_scipy():
    t = np.array([0.0, 0.3, 1.0, 2.2, 5.0, 40.0])
    for df in (1, 2, 3, 4, 7, 30, 199):
        expected = 2 * stats.t.sf(t, df)
        np.testing.assert_allclose(t_p_value(t, df), expected, atol=1e-12)
        for level in (0.2, 0.05, 0.001):
            assert t_quantile(level, df) == pytest.approx(stats.t.isf(level / 2, df), rel=1e-9)


def test_sign_flip_test_equals_scipy():
    for n in (3, 6, 11):
        differences = np.random.default_rng(n).normal(0.7, 1, n)
        judge = stats.permutation_test(
            (differences,), np.mean, permutation_type="samples", n_resamples=np.inf
        )
        assert sign_flip_p(differences) == pytest.approx(judge.pvalue)


def test_holm_adjusts_as_in_a_worked_example():
    # levels 0.05/4, 0.05/3, 0.05/2, 0.05: times 4, 3, 2, 1, never falling
    adjusted = holm(np.array([0.01, 0.02, 0.03, 0.04]))
    assert adjusted == pytest.approx([0.04, 0.06, 0.06, 0.06])


def test_power_equals_the_noncentral_t_distribution():
    for effect, pairs in ((0.5, 34), (0.45, 52), (1.2, 8), (3.0, 3)):
        limit = stats.t.isf(0.025, pairs - 1)
        expected = stats.nct.sf(limit, pairs - 1, effect * math.sqrt(pairs))
        assert power_of(effect, pairs, 0.05) == pytest.approx(expected, abs=1e-5)
    # two sides of 15 % variation and a change of 10 %: 52 pairs by the normal distribution
    normal = (1.96 + 1.2816) ** 2 * 2 * 0.15**2 / math.log(1.1) ** 2
    assert abs(pairs_needed(math.log(1.1) / math.hypot(0.15, 0.15), 0.05) - normal) <= 3


def test_looking_after_each_pair_keeps_the_level():
    level = sequential_level(0.05, 2, 10)
    draws = np.random.default_rng(7).standard_normal((20_000, 10))
    found = np.zeros(len(draws), bool)
    for n in range(2, 11):
        found |= stats.ttest_1samp(draws[:, :n], 0, axis=1).pvalue <= level
    # 0.05, and four standard errors of 20,000 draws
    assert 0.044 < found.mean() < 0.0562
    alone = np.zeros(len(draws), bool)
    for n in range(2, 11):
        alone |= stats.ttest_1samp(draws[:, :n], 0, axis=1).pvalue <= 0.05
    assert alone.mean() > 0.15  # what the rule prevents


# -- intervals and verdicts ------------------------------------------------------------------------


def test_paired_interval_is_that_of_the_log_ratios():
    base = [100_000, 200_000, 400_000]
    head = [110_000, 230_000, 424_000]
    found = compare(list(map(constant, base)), list(map(constant, head)), budgets=["mean<+5%"])
    row = found["end_to_end", "mean"]
    ratios = np.log(np.array(head) / base)
    low, high = stats.ttest_1samp(ratios, 0).confidence_interval(0.95)
    assert row.ratio == pytest.approx(math.exp(ratios.mean()))
    assert (row.low, row.high) == (pytest.approx(math.exp(low)), pytest.approx(math.exp(high)))
    assert row.p_value == pytest.approx(stats.ttest_1samp(ratios, 0).pvalue)
    assert row.base == pytest.approx(200_000)
    assert row.difference == pytest.approx(row.head - row.base)


def test_unpaired_interval_is_welchs_with_whole_degrees_of_freedom():
    base, head = [100_000, 104_000, 99_000, 101_000], [120_000, 131_000, 118_000]
    found = compare(
        list(map(constant, base)), list(map(constant, head)), paired=False, budgets=["mean<+5%"]
    )
    row = found["end_to_end", "mean"]
    logs = [np.log(side) for side in (base, head)]
    parts = [side.var(ddof=1) / len(side) for side in logs]
    df = sum(parts) ** 2 / sum(p**2 / (len(s) - 1) for p, s in zip(parts, logs, strict=True))
    assert df == pytest.approx(stats.ttest_ind(*logs, equal_var=False).df)
    reach = stats.t.isf(0.025, math.floor(df)) * math.sqrt(sum(parts))
    center = logs[1].mean() - logs[0].mean()
    assert (math.log(row.low), math.log(row.high)) == pytest.approx(
        (center - reach, center + reach)
    )
    assert row.verdict == "worse"


def test_interval_is_never_narrower_than_the_runs_allow():
    # equal runs differ by nothing, but each knows its own p99 only roughly
    runs = [noisy(1)] * 4
    row = compare(runs, runs)["end_to_end", "p99"]
    own = analyze(noisy(1))["end_to_end"].percentile(99)
    error = (math.log(own.high) - math.log(own.low)) / (2 * 1.959964)
    reach = stats.t.isf(0.025, 3) * math.sqrt(8 * error**2) / 4
    assert math.log(row.high) == pytest.approx(reach, rel=1e-6)
    assert row.ratio == 1


def test_each_verdict():
    base = [constant(ns) for ns in (100_000, 101_000, 99_000, 100_500, 99_500, 100_200)]

    def verdict(factor, wobble=0.001):
        head = [
            constant(int(ns * (factor + wobble * (-1) ** i)))
            for i, ns in enumerate((100_000, 101_000, 99_000, 100_500, 99_500, 100_200))
        ]
        return compare(base, head, budgets=["mean<+5%"]).verdict

    assert verdict(1.10) == "worse"
    assert verdict(0.90) == "better"
    assert verdict(1.02) == "same"  # within the margin of 5 %
    assert verdict(1.03, 0.06) == "unclear"


def test_more_throughput_is_better_and_conditions_come_first():
    base = [constant(10_000, gap_ns=10**6 + i) for i in range(4)]
    head = [constant(10_000, gap_ns=8 * 10**5 + i) for i in range(4)]
    found = compare(base, head, budgets=["throughput>-5%"])
    assert found["end_to_end", "throughput"].verdict == "better"
    assert str(found).startswith("Conditions differ: the load differs: 1,016 and 1,270 frames/s")
    assert found.budgets[0].state == MET


def test_another_machine_version_or_stamping_core_is_a_difference_of_conditions():
    before = dict(host="kvm-1", python="3.11.7", latprof="0.1.0", core="c")
    for key, other, words in (
        ("host", "kvm-2", "the machines differ: kvm-1 and kvm-2"),
        ("python", "3.12.1", "the versions of Python differ: 3.11.7 and 3.12.1"),
        ("latprof", "0.2.0", "the versions of latprof differ: 0.1.0 and 0.2.0"),
        ("core", "python", "the stamping cores differ: c and python"),
    ):
        base, head = (constant(10_000) for _ in range(2))
        base.meta.update(before)
        head.meta.update(before | {key: other})
        assert str(compare(base, head)).startswith(f"Conditions differ: {words}")


def test_one_run_a_side_has_no_verdict_and_says_why():
    found = compare(noisy(1), noisy(2, 1.5))
    row = found["end_to_end", "mean"]
    assert {each.verdict for each in found.rows if each.base} == {"unclear"}
    assert row.low < row.ratio < row.high  # from inside the runs
    assert row.pairs_missing is None
    assert "one run a side cannot tell the code from the machine" in found.sentence
    assert "95 % intervals from the variation within each run" in str(found).replace("\n  ", " ")
    assert found.budgets[0].state == OPEN


def test_unclear_rows_say_how_many_pairs_find_twice_the_margin():
    ratios = np.array([0.9, 1.1, 1.02, 0.98, 1.15, 0.88])
    base = [constant(100_000)] * 6
    head = [constant(round(100_000 * ratio)) for ratio in ratios]
    row = compare(base, head, budgets=["mean<+5%"])["end_to_end", "mean"]
    spread = np.log(np.round(100_000 * ratios) / 100_000).std(ddof=1)
    total = next(
        n
        for n in range(2, 200)
        if stats.nct.sf(stats.t.isf(0.025, n - 1), n - 1, math.log(1.1) / spread * math.sqrt(n))
        >= 0.9
    )
    assert (row.verdict, row.pairs_missing, row.detects) == ("unclear", total - 6, 0.1)


def test_rows_without_a_budget_are_corrected_for_their_number():
    base = [constant(100_000)] * 5
    head = [constant(ns) for ns in (107_000, 111_000, 104_000, 113_000, 106_000)]
    by_itself = compare(base, head, budgets=["mean<+5%"])
    together = compare(base, head, budgets=["throughput>-5%"])
    row, corrected = by_itself["end_to_end", "mean"], together["end_to_end", "mean"]
    assert row.verdict == "worse"
    assert corrected.p_value > row.p_value
    assert (corrected.low, corrected.high) == (row.low, row.high)


def test_zero_latencies_are_compared_by_difference():
    base, head = [constant(1_000, queue_ns=0)] * 3, [constant(1_000, queue_ns=0)] * 3
    row = compare(base, head)["queue", "mean"]
    assert (row.ratio, row.difference, row.verdict) == (None, 0, "same")


def test_table_has_a_row_for_each_span_and_statistic():
    found = compare([noisy(1), noisy(2)], [noisy(3), noisy(4)], percentiles=[50, 99.9])
    table = found.table()
    assert table.index.names == ["span", "statistic"]
    assert list(table.columns) == [
        *("base", "head", "difference", "ratio", "low", "high", "verdict", "pairs_missing")
    ]
    assert {("serve", "p99.9"), ("end_to_end", "throughput"), ("queue", "mean")} <= {*table.index}
    assert table.loc[("serve", "p50"), "ratio"] == found["serve", "p50"].ratio


def test_profiles_and_files_give_the_same_comparison_as_traces(tmp_path):
    base, head = [noisy(1), noisy(2)], [noisy(3, 1.2), noisy(4, 1.2)]
    expected = compare(base, head).table()
    profiles = [[analyze(run) for run in side] for side in (base, head)]
    names = []
    for i, run in enumerate((*base, *head)):
        run.save(tmp_path / f"{i}.parquet")
        analyze(run).save(tmp_path / f"{i}.latprof")
        names.append((tmp_path / f"{i}.parquet", tmp_path / f"{i}.latprof"))
    for other in (
        compare(*profiles),
        compare([names[0][0], names[1][1]], [names[2][1], names[3][0]]),
    ):
        assert other.table().equals(expected)


def test_pipelines_that_differ_are_compared_by_name():
    other = Pipeline("api", ("start", "sent", "end"), (Span("queue", "start", "sent"),))
    first = noisy(1)
    second = Trace(other, frame_id=np.arange(len(first)), marks=first.columns.marks)
    found = compare([first, first], [second, second])
    assert "the pipelines differ (api, web)" in str(found).splitlines()[0]
    assert {row.span for row in found.rows} == {"queue", "other", "end_to_end"}
    with pytest.raises(ProfileError, match="contributions must be of runs of one pipeline"):
        found.contributions()


def test_wrong_arguments_are_refused_in_one_line():
    run = constant(1_000)
    for call, message in (
        (lambda: compare([], [run]), "base must have at least one run"),
        (lambda: compare(7, run), "a run must be a Trace, a Profile or a path, got 7"),
        (lambda: compare([run], [run, run]), "base and head must have the same number of runs"),
        (lambda: compare(run, run, margin=5), "margin must be a number between 0 and 1, got 5"),
        (lambda: compare(run, run, budgets="p99<1ms"), "budgets must be a list"),
        (lambda: compare(run, run, budgets=["play.p99<1ms"]), "must name a span"),
        (lambda: compare(run, run, percentiles=[101]), "percentile must be a number from 0"),
        (lambda: compare(run, run)["play"], "must be a row of the comparison"),
        (lambda: compare(Trace(WEB, frame_id=[], marks={}), run), "must have finished frames"),
    ):
        with pytest.raises(latprof.LatprofError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)


# -- budgets ---------------------------------------------------------------------------------------


def test_budgets_are_met_exceeded_or_open():
    relative, fixed = parse_budget("p99<+5%"), parse_budget("serve.p50<20ms")
    assert [relative.judge(*pair) for pair in ((1.0, 1.04), (1.06, 1.2), (1.0, 1.1))] == [
        MET,
        EXCEEDED,
        OPEN,
    ]
    assert [fixed.judge(*pair) for pair in ((1e7, 1.9e7), (2.1e7, 3e7))] == [MET, EXCEEDED]
    rate = parse_budget("throughput>100")
    assert [rate.judge(*pair) for pair in ((110, 120), (80, 90), (90, 110))] == [
        MET,
        EXCEEDED,
        OPEN,
    ]


def test_words_that_are_no_budget_are_refused():
    for text in (
        *("p99", "p999<5ms", "x.max<5", "mean<5%", "throughput<5", "p50<5", "p50<-100%", "", 7),
        *("p99<", "<5ms", "misses>1%", "p99=5ms"),
    ):
        with pytest.raises(ProfileError):
            parse_budget(text)


def test_a_fixed_budget_is_judged_on_head_alone():
    runs = load_runs([constant(ns) for ns in (100_000, 101_000, 102_000)], "run")
    assert judge_runs(runs, parse_budget("p99<120us")).state == MET
    assert judge_runs(runs, parse_budget("p99<90us")).state == EXCEEDED
    assert judge_runs(runs, parse_budget("p99<102us")).state == OPEN
    assert judge_runs(runs[:1], parse_budget("p99<120us")).state == OPEN
    with pytest.raises(ProfileError, match="must have a fixed limit"):
        judge_runs(runs, parse_budget("p99<+5%"))


# -- what changed ----------------------------------------------------------------------------------


def test_contributions_add_up_to_the_difference():
    base = [constant(100_000, queue_ns=20_000), constant(104_000, queue_ns=24_000)]
    head = [constant(130_000, queue_ns=45_000), constant(126_000, queue_ns=41_000)]
    found = compare(base, head, budgets=["mean<+5%"])
    assert found.contributions() == {"queue": 21_000, "serve": 5_000, "other": 0}
    assert found.contributions("p99") == {"queue": 21_000, "serve": 5_000, "other": 0}
    with pytest.raises(ProfileError, match="statistic must be 'mean' or a percentile"):
        found.contributions("max")


def test_sentence_names_the_stage_that_takes_most():
    base = [constant(100_000 + i, queue_ns=20_000) for i in range(6)]
    head = [constant(120_000 + i, queue_ns=38_000) for i in range(6)]
    sentence = compare(base, head, budgets=["mean<+5%"]).sentence
    assert sentence == (
        "mean is 20.0 us worse (+20 %, 95 % interval 20 to 20 %, 6 pairs); "
        "queue takes 18.0 us of it"
    )


def test_mix_of_sources_is_told_apart_from_slower_frames():
    def run(fast, slow, slow_ns):
        names = ["a"] * fast + ["b"] * slow
        start = np.arange(fast + slow) * 10**6
        took = np.array([1_000] * fast + [slow_ns] * slow)
        marks = {"start": start, "sent": start, "end": start + took}
        trace = Trace(WEB, frame_id=np.arange(fast + slow), marks=marks, source=names)
        return Run("run", analyze(trace, by="source"))

    # base: 1/4 of the frames take 5 us, mean 2 us; head: 1/2 of them take 6 us, mean 3.5 us
    found = mix_of([run(30, 10, 5_000)], [run(20, 20, 6_000)])
    assert found.within == {"a": 0, "b": 500}
    assert (found.mix, found.difference) == (1_000, 1_500)
    assert "1.00 us is from another mix of source, 500 ns from its latencies" in found.sentence


def two_stations(seed, first=1.0, second=1.0, frames=6_000):
    """Return a run of two stations in a row, at loads of 0.7 and 0.6, with queues in front."""
    random = np.random.default_rng(seed)
    begins, leaves, arrive = [], [], np.arange(frames) * 1e6
    for mean in (0.7e6 * first, 0.6e6 * second):
        service = random.gamma(4, mean / 4, frames)
        done = np.cumsum(service)
        leave = done + np.maximum.accumulate(arrive - (done - service))
        begins.append(leave - service)
        leaves.append(leave)
        arrive = leave
    at = (np.arange(frames) * 1e6, begins[0], leaves[0], begins[1], leaves[1])
    pipeline = Pipeline(
        "two",
        ("start", "a", "b", "c", "end"),
        (
            Span("to_first", "start", "a"),
            Span("first", "a", "b", station="one"),
            Span("to_second", "b", "c"),
            Span("second", "c", "end", station="two"),
        ),
    )
    marks = {name: np.rint(x).astype(np.int64) for name, x in zip(pipeline.marks, at, strict=True)}
    return Trace(pipeline, frame_id=np.arange(frames), marks=marks)


def test_services_that_changed_are_found_with_the_waiting_that_they_cause():
    base = [two_stations(seed) for seed in range(3)]
    for slower in ("first", "second"):
        head = [two_stations(seed + 10, **{slower: 1.2}) for seed in range(3)]
        found = compare(base, head).service_changes()
        # most of it is waiting in the queue: the mean of the stage itself grows by far less
        assert found.parts[slower] > 0.9 * found.difference
        assert found.parts[slower] < 1.1 * found.difference
        parts = sum(found.parts.values()) + found.rest
        assert parts == pytest.approx(found.difference)
        assert f"; {slower} adds " in found.sentence
    with pytest.raises(ProfileError, match="must be a trace"):
        compare(analyze(base[0]), analyze(base[1])).service_changes()


def test_shapley_values_of_many_players_are_estimated_with_an_error():
    # players add up to 10, and the first two add 3 more together
    worth = {player: float(player + 1) for player in range(10)}

    def value(sets):
        return np.array([sum(worth[p] for p in s) + 3.0 * ({0, 1} <= s) for s in sets])

    parts, error, whole, pairs = shapley(range(10), value)
    assert whole == 58
    assert sum(parts.values()) == pytest.approx(58)
    for player in range(10):
        expected = worth[player] + 1.5 * (player < 2)
        assert abs(parts[player] - expected) <= 4 * error[player] + 1e-9
    assert {pair for pair, ns in pairs.items() if abs(ns) > 1e-9} == {(0, 1)}


# -- plans and trends ------------------------------------------------------------------------------


def test_plan_uses_the_variation_from_run_to_run():
    runs = [constant(ns) for ns in (100_000, 110_000, 95_000, 105_000)]
    found = plan(runs, detect=0.05, statistic=("end_to_end", "mean"))
    between = np.log([100_000, 110_000, 95_000, 105_000]).std(ddof=1)
    # frames of one run are all equal: nothing varies within a run
    assert found.between == pytest.approx(between)
    row = next(row for row in found.rows if row.length == 1)
    assert row.spread == pytest.approx(between * math.sqrt(2))
    effect = math.log(1.05) / row.spread
    reached = [
        stats.nct.sf(stats.t.isf(0.025, n - 1), n - 1, effect * math.sqrt(n))
        for n in (row.pairs - 1, row.pairs)
    ]
    assert reached[0] < 0.8 <= reached[1]


def test_plan_from_one_run_says_what_it_does_not_know():
    found = plan(noisy(1), detect=0.1)
    assert found.between is None
    assert "the variation from run to run is unknown from one run" in str(found)
    assert found.sentence.startswith("at least ")


def test_plan_of_runs_too_short_for_their_own_variation_says_nothing_of_other_lengths():
    found = plan([constant(100_000 + 900 * i, frames=20) for i in range(6)])
    assert found.within is None
    assert [row.length for row in found.rows] == [1.0]
    alone = plan(constant(100_000, frames=20))
    assert [row.pairs for row in alone.rows] == [None]
    assert alone.sentence.startswith("how many pairs are needed is unknown")


def test_statistics_are_given_as_text_or_as_a_pair():
    runs = [noisy(i) for i in range(3)]
    by_text, by_pair = plan(runs, statistic="serve.mean"), plan(runs, statistic=("serve", "mean"))
    assert by_text.to_dict() == by_pair.to_dict()
    for wrong in ("serve", "serve.max", ("serve",), 7):
        with pytest.raises(ProfileError, match=r"statistic must be SPAN\.STATISTIC"):
            plan(runs, statistic=wrong)
    with pytest.raises(ProfileError, match=r"all runs have, got 'decod.p99'.*its spans are queue"):
        trend(runs, statistic="decod.p99")


def naive_energy(values, split):
    """Return the energy distance of both parts, by loops over pairs."""
    first, second = values[:split], values[split:]

    def within(part):
        pairs = [abs(a - b) for i, a in enumerate(part) for b in part[i + 1 :]]
        return sum(pairs) / len(pairs)

    across = [abs(a - b) for a in first for b in second]
    m, n = len(first), len(second)
    energy = 2 * sum(across) / len(across) - within(first) - within(second)
    return energy * m * n / (m + n)


def test_change_point_is_the_split_of_the_largest_energy():
    for seed in range(20):
        random = np.random.default_rng(seed)
        at = int(random.integers(4, 16))
        values = random.normal(0, 1, 20) + np.where(np.arange(20) < at, 0, 5)
        best = max(range(2, 19), key=lambda split: naive_energy(values.tolist(), split))
        assert [index for index, _ in change_points(values, significance=0.004)] == [best]
        assert best == at


def test_a_series_without_a_change_has_none_and_the_result_repeats():
    found = 0
    for seed in range(60):
        values = np.random.default_rng(seed).normal(0, 1, 25)
        points = change_points(values)
        assert points == change_points(values)
        found += len(points)
    assert found <= 4  # 1 % of 60 series, and chance


def test_trend_orders_runs_by_time_and_names_the_run_that_changed():
    before = [100_000, 101_000, 99_000, 100_500, 99_800, 100_700]
    latencies = [*before, 120_000, 121_000, 119_500, 120_300, 118_900, 120_800]
    runs = [constant(ns, begin=i * DAY_NS) for i, ns in enumerate(latencies)]
    profiles = [analyze(run) for run in runs]
    found = trend(list(reversed(profiles)), statistic=("end_to_end", "mean"))
    assert [point.value for point in found.points] == latencies
    (change,) = found.changes
    assert (change.index, change.run) == (6, "run 6")  # the sixth of those given, in reverse
    logs = np.log(latencies)
    assert change.ratio == pytest.approx(math.exp(logs[6:].mean() - logs[:6].mean()))
    judge = stats.ttest_ind(logs[6:], logs[:6]).confidence_interval(0.95)
    assert (math.log(change.low), math.log(change.high)) == pytest.approx(tuple(judge))
    lines = found.to_csv().splitlines()
    assert lines[0] == "time,name,end_to_end_mean"
    assert lines[2] == "86400,run 11,101000.0"


def test_a_change_of_the_variation_alone_is_named_as_such():
    scales = [1 + sign * spread for spread in (0.001, 0.2) for sign in (1, -1) * 10]
    runs = [constant(round(100_000 * k), begin=i * DAY_NS) for i, k in enumerate(scales)]
    found = trend(runs, statistic="mean")
    (change,) = found.changes
    assert (change.index, change.low < 1 < change.high) == (20, True)
    assert found.sentence == "end_to_end.mean varies differently from run 21 on, its mean hardly"


def test_few_runs_are_said_to_be_too_few():
    # half of 8 runs are below all others in 2 of 70 orders, of 10 in 2 of 252
    runs = [constant(ns, begin=i * DAY_NS) for i, ns in enumerate([100_000] * 4 + [200_000] * 5)]
    found = trend(runs, statistic="mean")
    assert found.changes == ()
    assert found.sentence == "finding a change of end_to_end.mean needs 10 runs, got 9"


def test_trend_orders_runs_by_the_number_that_the_program_gave(tmp_path):
    paths = []
    for number in (12, 3, 100):
        path = tmp_path / f"{number}.parquet"
        meta = {"run": number, "commit": f"c{number}"}
        profiler = latprof.Profiler(WEB, path=path, meta=meta)
        with profiler, profiler.frame(number) as frame:
            frame.mark("sent")
        assert profiler.report().profile.labels == {"run": str(number), "commit": f"c{number}"}
        analyze(path).save(path.with_suffix(".latprof"))
        paths.append(path.with_suffix(".latprof"))
    found = trend(paths)
    assert [point.labels["run"] for point in found.points] == ["3", "12", "100"]
    assert found.to_csv().splitlines()[0] == "time,name,commit,run,end_to_end_p99"
    both = latprof.merge([latprof.load_profile(path) for path in paths])
    assert both.labels == {}


def test_meta_of_a_run_is_checked():
    for meta in (7, {"a": [1]}, {1: "a"}, {"a": float("nan")}, {str(i): i for i in range(33)}):
        with pytest.raises(latprof.ProfilerError, match="meta must"):
            latprof.Profiler(WEB, meta=meta)


# -- the command -----------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path):
    """Return files of three base runs and of three runs that are slower."""
    sides = {}
    for side, scale in (("base", 1.0), ("head", 1.3)):
        for i in range(3):
            run = constant(int((100_000 + 500 * i) * scale), begin=i * DAY_NS)
            run.save(tmp_path / f"{side}-{i}.parquet")
        sides[side] = f"{tmp_path}/{side}-*.parquet"
    return sides


def test_command_and_function_agree(files, capsys, tmp_path):
    page = tmp_path / "page.html"
    given = ["compare", files["base"], "--to", files["head"], "--budget", "mean<+5%"]
    assert main([*given, "--format", "json", "--html", str(page)]) == 0
    content = json.loads(capsys.readouterr().out)
    paths = [[tmp_path / f"{side}-{i}.parquet" for i in range(3)] for side in ("base", "head")]
    found = compare(*paths, budgets=["mean<+5%"])
    assert content == json.loads(json.dumps(found.to_dict()))
    assert (content["verdict"], content["sentence"]) == ("worse", found.sentence)
    assert found.sentence.split(" (")[0] in page.read_text()
    assert main(given) == 0
    assert capsys.readouterr().out.strip() == str(found).strip()
    assert main([*given, "--why", "--format", "markdown"]) == 0
    assert "of base; the rest is arrivals" in capsys.readouterr().out


def test_percentiles_of_few_frames_are_doubtful():
    few = compare([constant(1_000_000), constant(1_000_500)], [constant(1_000_100)] * 2)
    sentence = "too few frames in base 1 for an interval of end_to_end.p99"
    assert sentence in " ".join(str(few).split())
    many = compare(*([noisy(seed, frames=20_000)] * 2 for seed in (1, 2)))
    assert "too few frames" not in str(many)


def test_a_profile_of_several_runs_is_said_to_be_one_run(files, capsys, tmp_path):
    folder, saved = tmp_path / "runs", tmp_path / "runs.latprof"
    folder.mkdir()
    for i in range(3):
        with latprof.Profiler(WEB, path=folder / f"{i}.parquet") as profiler:
            profiler.record_many([1, 2], [[1, 2, 3], [4, 5, 7]])
    latprof.analyze(folder).save(saved)
    sentence = f"{saved} is taken as one run and has 3 recordings; if each is a run"
    head = str(tmp_path / "head-0.parquet")
    for given in (["compare", str(saved), "--to", head], ["plan", str(saved)]):
        assert main(given) == 0
        assert sentence in " ".join(capsys.readouterr().out.split())
    assert "taken as one run" in " ".join(str(trend(saved)).split())
    # the folder has a run for each recording
    assert main(["compare", str(folder), "--unpaired", "--to", head]) == 0
    assert "taken as one run" not in capsys.readouterr().out


def test_gate_on_files_ends_with_the_status_of_its_budgets(files, capsys):
    given = ["gate", "--base-runs", files["base"], "--head-runs", files["head"]]
    given += ["--unpaired", "--budget"]
    assert main([*given, "p99<+50%"]) == 0
    assert main([*given, "p99<+5%"]) == 1
    assert main([*given, "p99<+30.3%"]) == 3
    assert "open: p99<+30.3%" in capsys.readouterr().out
    assert main([*given, "p99<+30.3%", "--open", "pass"]) == 0
    assert "warning: passed, but open" in capsys.readouterr().err
    assert main(given[:-1]) == 2
    assert "a gate must have at least one budget" in capsys.readouterr().err
    assert main(["gate", "--base", "true", "--budget", "p99<5ms"]) == 2


def test_plan_and_trend_print_what_the_functions_return(files, capsys, tmp_path):
    picture = tmp_path / "trend.png"
    assert main(["trend", files["base"], files["head"], "-o", str(picture)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "finding a change of end_to_end.p99 needs 10 runs, got 6" in capsys.readouterr().out
    assert main(["plan", files["base"], "--detect", "2%", "--format", "json"]) == 0
    content = json.loads(capsys.readouterr().out)
    paths = [tmp_path / f"base-{i}.parquet" for i in range(3)]
    assert content == json.loads(json.dumps(plan(paths, detect=0.02).to_dict()))
    assert main(["plan", files["base"], "--detect", "2"]) == 2
    assert "--detect must be a percentage" in capsys.readouterr().err
