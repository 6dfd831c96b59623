"""The same trace analyzed by independent programs.

Programs differ in percentile rules: Polars' "equiprobable", DuckDB's quantile_disc and numpy's
inverted_cdf use the rule of latprof (the smallest value with at least q % of values up to it).
"""

import statistics

import numpy as np
import pyarrow as pa
import pytest
from needs import require
from strategies import BARE, CHAIN, DUE, GAPS, seeded

from latprof.frames import FINISHED, MISSING, Columns
from latprof.pipeline import AUDIO
from latprof.profile.profile import Profile

QS = (0, 1, 10, 50, 90, 99, 99.9, 100)
BOUND = 0.0005

# q % of these numbers of frames is never an integer, for which the judges' ranks are off by one
TRACES = {
    "audio": (AUDIO, {"n": 3_000}),
    "chain, clean": (CHAIN, {"n": 2_999, "missing": 0, "negative": 0, "dropped": 0}),
    "due, half missing": (DUE, {"n": 2_000, "missing": 0.5}),
    "gaps, microseconds": (GAPS, {"n": 2_000, "scale": 300}),
    "hours": (AUDIO, {"n": 1_000, "scale": 1e13}),
    "ties and zeros": (CHAIN, {"n": 2_000, "scale": 2}),
    "few frames": (CHAIN, {"n": 3, "missing": 0, "negative": 0, "dropped": 0}),
}


@pytest.fixture(params=TRACES)
def trace(request):
    pipeline, options = TRACES[request.param]
    return pipeline, seeded(pipeline, seed=31, **options)


def profiled(pipeline, frames):
    profile = Profile(pipeline, by="source")
    profile.add(frames)
    return profile


def table_of(frames):
    """Return the trace as an Arrow table."""
    columns = {"frame_id": pa.array(frames.frame_id)}
    for mark, stamps in frames.marks.items():
        columns[mark] = pa.array(stamps, pa.timestamp("ns"), mask=stamps == MISSING)
    for name in ("source", "outcome"):
        columns[name] = pa.array(getattr(frames, name).to_numpy().tolist())
    return pa.table(columns)


def assert_agree(span, known, quantiles):
    """Compare a span with the values of a judge: exactly, percentiles to the stated bound."""
    assert (span.count, span.missing, span.negative) == (
        *(known["count"], known["missing"], known["negative"]),
    )
    assert (span.total, span.min, span.max) == (known["sum"], known["min"], known["max"])
    assert len(quantiles) == len(QS)
    for q, exact in zip(QS, quantiles, strict=True):
        got = span.percentile(q).value
        assert abs(got - exact) <= BOUND * exact
        if exact < 1_024:
            assert got == exact


# -- DuckDB -------------------------------------------------------------------------------------


def test_spans_agree_with_duckdb(trace):
    duckdb = require("duckdb")
    pipeline, frames = trace
    profile = profiled(pipeline, frames)
    with duckdb.connect() as connection:
        connection.register("trace", table_of(frames))
        for span in pipeline.all_spans:
            # subtracting TIMESTAMP_NS gives microseconds, and end is a word of SQL
            latency = f'epoch_ns("{span.end}") - epoch_ns("{span.begin}")'
            connection.execute(
                f"create or replace temp table latencies as select {latency} as t, source "
                f"from trace where outcome = '{FINISHED}'"
            )
            row = connection.execute(
                "select count(*) filter (t >= 0), count(*) filter (t is null), "
                "count(*) filter (t < 0), sum(t::hugeint) filter (t >= 0), "
                "min(t) filter (t >= 0), max(t) filter (t >= 0), "
                "stddev_samp(t) filter (t >= 0), avg(t) filter (t >= 0) from latencies"
            ).fetchone()
            names = ("count", "missing", "negative", "sum", "min", "max")
            known = dict(zip(names, row, strict=False))
            quantiles = connection.execute(
                f"select quantile_disc(t, [{', '.join(str(q / 100) for q in QS)}]) "
                "from latencies where t >= 0"
            ).fetchone()[0]
            assert_agree(profile[span.name], known, quantiles)
            assert profile[span.name].std == pytest.approx(row[6], rel=1e-9)
            assert profile[span.name].mean == pytest.approx(row[7], rel=1e-12)


def test_groups_shares_and_ranges_agree_with_duckdb():
    duckdb = require("duckdb")
    frames = seeded(CHAIN, 3_000, 5)
    profile = profiled(CHAIN, frames)
    whole = 'epoch_ns("end") - epoch_ns(start)'
    stages = [f'coalesce(epoch_ns("{s.end}") - epoch_ns("{s.begin}"), 0)' for s in CHAIN.stages]
    with duckdb.connect() as connection:
        connection.register("trace", table_of(frames))
        connection.execute(
            f"create temp table t as select *, {whole} as whole, "
            f"{', '.join(f'{text} as stage_{i}' for i, text in enumerate(stages))} "
            f"from trace where outcome = '{FINISHED}'"
        )
        groups = connection.execute("select source, count(*) from t group by source").fetchall()
        assert {name: group.frames for name, group in profile.groups.items()} == dict(groups)
        kept = "whole >= 0 and least(stage_0, stage_1, stage_2) >= 0 "
        kept += "and stage_0 + stage_1 + stage_2 <= whole"
        row = connection.execute(
            "select count(*), sum(stage_0), sum(stage_1), sum(stage_2), sum(whole) "
            f"from t where {kept}"
        ).fetchone()
        assert profile.sums.attributed == row[0]
        shares = [profile.sums.shares[s.name] for s in CHAIN.stages]
        assert [*shares, profile.sums.shares["end_to_end"]] == [int(x) for x in row[1:]]
        for low, high, n in profile.ranges:
            upto = "" if high is None else f"and whole <= {high}"
            above = f"whole >= {low}" if low == 0 else f"whole > {low}"
            counted = connection.execute(f"select count(*) from t where {above} {upto}").fetchone()
            assert counted == (n,)


# -- Polars -------------------------------------------------------------------------------------


def test_spans_agree_with_polars(trace):
    pl = require("polars")
    pipeline, frames = trace
    profile = profiled(pipeline, frames)
    done = pl.from_arrow(table_of(frames)).filter(pl.col("outcome") == FINISHED)
    for span in pipeline.all_spans:
        t = done.select(
            t=pl.col(span.end).cast(pl.Int64) - pl.col(span.begin).cast(pl.Int64)
        ).to_series()
        good = t.filter(t >= 0)
        known = {
            "count": len(good),
            "missing": t.null_count(),
            "negative": int((t < 0).sum()),
            "sum": sum(good.to_list()),
            "min": good.min(),
            "max": good.max(),
        }
        quantiles = [good.quantile(q / 100, interpolation="equiprobable") for q in QS]
        assert_agree(profile[span.name], known, quantiles)
        assert profile[span.name].std == pytest.approx(good.std(), rel=1e-9)


# -- numpy and HdrHistogram ---------------------------------------------------------------------


def test_spans_agree_with_numpy(trace):
    pipeline, frames = trace
    profile = profiled(pipeline, frames)
    done = frames.take(frames.outcome.equals(FINISHED))
    for span in pipeline.all_spans:
        begin, end = done.marks[span.begin], done.marks[span.end]
        known = (begin != MISSING) & (end != MISSING)
        t = end[known] - begin[known]
        good = t[t >= 0]
        truth = {
            "count": len(good),
            "missing": int((~known).sum()),
            "negative": int((t < 0).sum()),
            "sum": int(good.astype(object).sum()),
            "min": int(good.min()),
            "max": int(good.max()),
        }
        quantiles = np.percentile(good, QS, method="inverted_cdf").tolist()
        assert_agree(profile[span.name], truth, quantiles)


@pytest.mark.parametrize(
    ("middle", "step"), [(10**9, 10**3), (3_600 * 10**9, 10**4)], ids=["1s+-1us", "1h+-10us"]
)
def test_std_of_values_far_from_0_agrees_with_duckdb_statistics_and_numpy(middle, step):
    duckdb = require("duckdb")
    values = middle + np.random.default_rng(9).integers(-step, step + 1, 70_000)
    start = 1_700_000_000 * 10**9 + np.arange(len(values)) * 20_000_000
    frames = Columns(
        np.arange(len(values), dtype=np.uint64), {"start": start, "end": start + values}
    )
    profile = Profile(BARE)
    profile.add(frames)
    with duckdb.connect() as connection:
        connection.register("t", pa.table({"v": values - middle}))  # near 0 any formula will do
        judged = connection.execute("select stddev_samp(v) from t").fetchone()[0]
    for judge in (judged, statistics.stdev(values.tolist()), (values - middle).std(ddof=1)):
        assert profile["end_to_end"].std == pytest.approx(judge, rel=1e-9)


@pytest.mark.parametrize("scale", [2, 300, 1e6, 1e9])
def test_percentiles_agree_with_hdrhistogram(scale):
    histogram = require("hdrh.histogram")
    frames = seeded(CHAIN, 2_000, 41, missing=0, negative=0, dropped=0, scale=scale)
    profile = profiled(CHAIN, frames)
    for stage in CHAIN.stages:
        judge = histogram.HdrHistogram(1, 3_600 * 10**9 * 24, 3)
        for value in (frames.marks[stage.end] - frames.marks[stage.begin]).tolist():
            judge.record_value(value)
        for q in QS[1:]:
            got, other = profile[stage.name].percentile(q).value, judge.get_value_at_percentile(q)
            # 3 digits: its value is the highest of a bucket of one part in 1,000
            assert abs(got - other) <= (BOUND + 0.001) * max(got, other)
