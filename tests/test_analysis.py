"""Analysis of traces and files, in any cut, form and order."""

import gzip
import json
import math
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import oracle
import pandas as pd
import pyarrow.parquet as pq
import pytest
from needs import require
from strategies import AUDIO, BARE, CHAIN, seeded, simple

import latprof
from latprof.analysis import analyze
from latprof.errors import LatprofError, ProfileError, TraceError
from latprof.fold import fold
from latprof.frames import Labels
from latprof.io import reader
from latprof.io import writer as write_module
from latprof.io.find import find_files
from latprof.pipeline import Pipeline
from latprof.profile.load import load_profile, merge
from latprof.report.report import Report
from latprof.trace import Trace

SECOND = 10**9


def content(profile, folder):
    """Return all that a profile would be saved as."""
    profile.save(folder / "content")
    return json.loads(gzip.decompress((folder / "content").read_bytes()))


def assert_same(a, b, where=""):
    """Compare saved contents: moments to 1e-9, other values to the bit."""
    if isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_same(a[key], b[key], f"{where}.{key}")
    elif where.endswith((".m2", "covariances")) or ".covariances." in where:
        assert a == pytest.approx(b, rel=1e-9), where
    elif not where.endswith(("recorders.written", ".files")):  # which host wrote, and when
        assert a == b, where


def chain_trace(n=400, seed=3, **options):
    return Trace.of(CHAIN, seeded(CHAIN, n, seed, **options))


@pytest.fixture
def trace():
    return chain_trace()


@pytest.fixture
def path(tmp_path, trace):
    trace.save(tmp_path / "mic.parquet")
    return tmp_path / "mic.parquet"


# -- what may be given --------------------------------------------------------------------------


@pytest.mark.parametrize("ask", [analyze, latprof.blame, latprof.causes, latprof.utilization])
def test_a_table_or_a_number_is_refused_with_what_to_do(ask, trace):
    table = trace.to_pandas()
    for given in (table, [trace, table]):
        with pytest.raises(TraceError, match=r"DataFrame\W+latprof.Trace.from_pandas\(table, "):
            ask(given)
    with pytest.raises(TraceError, match=r"a Trace or a path, (not|got) int"):
        ask(7)
    again = Trace.from_pandas(table, trace.pipeline)
    assert analyze(again).rows() == analyze(trace).rows()


@pytest.mark.parametrize("by", ["nope", "size", "weight", "start", "frame_id"])
def test_an_unknown_group_column_is_refused_with_the_known_ones(path, trace, by):
    tags = ", ".join(trace.columns.tags)
    assert tags
    for given in (path, trace):
        with pytest.raises(
            ProfileError, match=f"by must be one of source, outcome, {tags}, got '{by}'"
        ):
            analyze(given, by=by)


def test_a_trace_a_path_many_a_folder_and_a_glob(tmp_path, trace):
    folder = tmp_path / "traces"
    (folder / "deep").mkdir(parents=True)
    parts = [folder / "a.parquet", folder / "b.parquet", folder / "deep" / "c.parquet"]
    for i, where in enumerate(parts):
        Trace.of(CHAIN, trace.columns.take(slice(i, None, 3))).save(where)
    (folder / "notes.txt").write_text("no trace")
    whole = content(analyze(trace), tmp_path)
    third = Trace.of(CHAIN, trace.columns.take(slice(2, None, 3)))
    for given in (
        folder,
        str(folder),
        parts,
        parts[::-1],
        map(str, parts),
        (where for where in parts),
        folder / "**" / "*.parquet",
        str(folder / "**" / "*.parquet"),
        [folder / "?.parquet", folder / "deep"],
        [parts[1], third, str(folder / "a*")],
    ):
        assert_same(content(analyze(given), tmp_path), whole)


def test_paths_are_sorted_and_existing_names_are_not_globs(tmp_path):
    for name in ("b.parquet", "a.parquet", "[x].parquet"):
        (tmp_path / name).touch()
    assert [p.name for p in find_files(tmp_path)] == ["[x].parquet", "a.parquet", "b.parquet"]
    assert find_files(tmp_path / "[x].parquet") == [tmp_path / "[x].parquet"]
    assert find_files(tmp_path / "[ab].parquet") == [
        *(tmp_path / "a.parquet", tmp_path / "b.parquet"),
    ]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "no recordings were given; pass at least one trace or file"),
        ("no/such.parquet", "^no/such.parquet: file not found"),
        ("no/*.parquet", "file not found; pass a trace, a path, a folder or a glob"),
        (Path("no\x1b[31m"), r"no\\x1b\[31m"),
    ],
)
def test_missing_recordings_are_refused(given, said):
    with pytest.raises(TraceError, match=said):
        analyze(given)


def test_a_folder_without_traces(tmp_path):
    with pytest.raises(TraceError, match=r"^\S+: the folder contains no \*\.parquet file"):
        analyze(tmp_path)


def test_files_of_different_pipelines_are_refused_by_name(tmp_path, path):
    other = Trace.of(BARE, simple(BARE, [(0, 5)]))
    other.save(tmp_path / "bare.parquet")
    with pytest.raises(TraceError) as caught:
        analyze([path, tmp_path / "bare.parquet"])
    for said in ("mic.parquet", "bare.parquet", "'mic'", "'bare'"):
        assert said in str(caught.value)
    with pytest.raises(TraceError, match=r"recording 2 is of 'bare' and .*mic.parquet of 'mic'"):
        analyze([path, other])
    # of one name, with other stages
    namesake = Pipeline("mic", ("start", "decode", "end"))
    Trace.of(namesake, simple(namesake, [(0, 1, 5)])).save(tmp_path / "z.parquet")
    with pytest.raises(TraceError, match="their marks, spans, stations or periods differ"):
        analyze([path, tmp_path / "z.parquet"])


def test_a_trace_of_no_frames(tmp_path):
    empty = Trace.of(CHAIN, seeded(CHAIN, 1, 1).take(slice(0, 0)))
    empty.save(tmp_path / "empty.parquet")
    for given in (empty, tmp_path / "empty.parquet"):
        profile = analyze(given, every="1s", skip="1s", by="source")
        assert profile.frames == 0
        assert profile.files == 1
        assert len(profile.timeline()) == 0


# -- as other tools have rewritten it -----------------------------------------------------------


def arrow_ways(path, folder):
    table = pq.read_table(path).replace_schema_metadata(None)
    for i, options in enumerate(
        [
            {"row_group_size": 7},
            {"compression": "zstd", "use_dictionary": False},
            {"compression": "snappy", "use_dictionary": True},
            {"compression": "none", "data_page_version": "2.0", "version": "2.6"},
            {"use_dictionary": False, "column_encoding": "PLAIN"},
        ]
    ):
        pq.write_table(table, folder / f"arrow{i}.parquet", **options)
        yield folder / f"arrow{i}.parquet"
    back = table.select(table.column_names[::-1])
    back = back.append_column("extra", [[f"x{i}" for i in range(len(table))]])
    back = back.append_column("nested", [[[i] for i in range(len(table))]])
    pq.write_table(back, folder / "back.parquet", row_group_size=100)
    yield folder / "back.parquet"


def pandas_ways(path, folder):
    table = pd.read_parquet(path)
    table.to_parquet(folder / "pandas.parquet", index=False)
    yield folder / "pandas.parquet"
    for mark in CHAIN.marks:
        table[mark] = table[mark].dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo")
    table["source"] = table["source"].astype(str)
    table["end_to_end_latency"] = table["end"] - table["start"]
    table.to_parquet(folder / "zoned.parquet", compression="gzip", row_group_size=33)
    yield folder / "zoned.parquet"


def duckdb_ways(path, folder):
    duckdb = require("duckdb")
    for i, options in enumerate(
        ["compression zstd, row_group_size 50", "parquet_version v2", "compression uncompressed"]
    ):
        with duckdb.connect() as connection:
            where = folder / f"duckdb{i}.parquet"
            connection.sql(
                f"copy (select 'x' as extra, * from '{path}') to '{where}' "
                f"(format parquet, {options})"
            )
        yield where


def polars_ways(path, folder):
    polars = require("polars")
    table = polars.read_parquet(path)
    for i, options in enumerate([{"compression": "lz4"}, {"row_group_size": 19}]):
        table.write_parquet(folder / f"polars{i}.parquet", **options)
        yield folder / f"polars{i}.parquet"
    reordered = table.select(sorted(table.columns, reverse=True))
    reordered.with_columns(polars.lit(5).alias("extra")).write_parquet(folder / "polars.parquet")
    yield folder / "polars.parquet"


@pytest.mark.parametrize("ways", [arrow_ways, pandas_ways, duckdb_ways, polars_ways])
def test_files_rewritten_by_other_tools_give_the_same_profile(tmp_path, path, ways):
    folder = tmp_path / "again"
    folder.mkdir()
    whole = content(analyze(path, by="room", every="1s"), tmp_path)
    for where in ways(path, folder):
        if ways is pandas_ways:  # pandas keeps what the table says of itself
            assert_same(content(analyze(where, by="room", every="1s"), tmp_path), whole)
        else:
            with pytest.raises(TraceError, match="give pipeline="):
                analyze(where)
        again = analyze(where, by="room", every="1s", pipeline=CHAIN)
        assert_same(content(again, tmp_path), whole)
    # the folder has the same frames once per file
    files = list(folder.iterdir())
    assert analyze(folder, pipeline=CHAIN).frames == len(files) * analyze(path).frames


def test_stamps_of_microseconds(tmp_path):
    rows = [(i * 20_000_000, i * 20_000_000 + 5_000 + 1_000 * i) for i in range(50)]
    Trace.of(BARE, simple(BARE, rows)).save(tmp_path / "t.parquet")
    table = pd.read_parquet(tmp_path / "t.parquet")
    for unit in ("us", "ns"):
        for mark in BARE.marks:
            table[mark] = table[mark].astype(f"datetime64[{unit}]")
        table.to_parquet(tmp_path / "u.parquet", coerce_timestamps=unit if unit == "us" else None)
        profile = analyze(tmp_path / "u.parquet", pipeline=BARE)
        assert profile["end_to_end"].total == sum(end - start for start, end in rows)
        assert profile["end_to_end"].max == 54_000


def test_weights_in_a_file_are_used(tmp_path):
    frames = seeded(CHAIN, 200, 5, weights=True)
    Trace.of(CHAIN, frames).save(tmp_path / "w.parquet")
    profile = analyze(tmp_path / "w.parquet")
    assert profile.frames == oracle.fold(frames, CHAIN)["finished"]
    assert profile["play"].total == oracle.fold(frames, CHAIN)["spans"]["play"]["total"]


def test_weighted_numbers_of_frames_are_reported_as_estimates(tmp_path):
    weight = np.array([1, 3, 1, 32], np.uint32)
    trace = Trace.of(BARE, simple(BARE, [(i, i + 5) for i in range(4)], weight=weight))
    profile = analyze(trace)
    profile.save(tmp_path / "p.latprof")
    for each in (profile, load_profile(tmp_path / "p.latprof"), profile.merge(analyze(trace))):
        rows = 2 if each.frames == 37 else 4
        text = str(Report(each))
        assert f"about {each.frames} frames in" in text
        assert f"{rows} rows of the recording have a weight above 1" in text
    assert "about" not in str(Report(analyze(trace.select(until=1))))


# -- cut in files -------------------------------------------------------------------------------


@pytest.mark.parametrize(("cuts", "by"), [(2, None), (7, "source"), (40, None)])
def test_a_trace_cut_in_files_in_any_order_folds_to_the_whole(tmp_path, cuts, by):
    n = 800
    frames = seeded(AUDIO, n, 13, weights=True)
    options = {"by": by, "every": "300ms", "deadline": "4ms"}
    whole = analyze(Trace.of(AUDIO, frames), **options)
    rng = np.random.default_rng(cuts)
    folder = tmp_path / "parts"
    folder.mkdir()
    places = np.sort(rng.choice(np.arange(1, n), cuts - 1, replace=False))
    paths = []
    for i, rows in enumerate(np.split(np.arange(n), places)):
        paths.append(folder / f"{i}.parquet")
        Trace.of(AUDIO, frames.take(rows)).save(paths[i])
    expected = content(whole, tmp_path)
    assert_same(content(analyze(folder, **options), tmp_path), expected)
    shuffled = [paths[i] for i in rng.permutation(cuts)]
    assert_same(content(analyze(shuffled, **options), tmp_path), expected)
    profiles = [analyze(where, **options) for where in shuffled[:5]]
    rest = analyze(shuffled[5:], **options) if cuts > 5 else None
    merged = merge([*profiles, *([] if rest is None else [rest])])
    assert_same(content(merged, tmp_path), expected)
    truth = oracle.fold(frames, AUDIO)
    assert whole.frames == truth["finished"]
    assert whole["alsa"].total == truth["spans"]["alsa"]["total"]


def test_the_size_of_row_groups_does_not_change_the_result(tmp_path, monkeypatch, path):
    whole = content(analyze(path, by="room"), tmp_path)
    for size in (1, 3, 64):
        monkeypatch.setattr(reader, "ROW_GROUP", size)
        assert_same(content(analyze(path, by="room"), tmp_path), whole)


# -- ranges of time -----------------------------------------------------------------------------


def every_second(n=10, **optional):
    """Return frames at 0 s, 1 s, ..., each 1 ms long."""
    rows = [(i * SECOND, i * SECOND + 10**6) for i in range(n)]
    return Trace.of(BARE, simple(BARE, rows, **optional))


@pytest.mark.parametrize(
    ("options", "first", "count"),
    [
        ({"skip": "3s"}, 3, 7),
        ({"skip": 3 * SECOND + 1}, 4, 6),
        ({"since": 2 * SECOND}, 2, 8),
        ({"since": "1970-01-01T00:00:02Z"}, 2, 8),
        ({"until": 4 * SECOND}, 0, 4),
        ({"since": 2 * SECOND, "until": 4 * SECOND}, 2, 2),
        ({"since": 5 * SECOND, "skip": "2s"}, 5, 5),
        ({"since": 1 * SECOND, "skip": "2s"}, 2, 8),
        ({"since": 0, "until": 10 * SECOND}, 0, 10),
    ],
)
@pytest.mark.parametrize("saved", [False, True])
def test_frames_of_a_range(tmp_path, options, first, count, saved):
    trace = every_second()
    if saved:
        trace.save(tmp_path / "t.parquet")
    profile = analyze(tmp_path / "t.parquet" if saved else trace, **options)
    assert profile.frames == count
    assert profile.sums.first_ns == first * SECOND
    assert profile.time_range_ns == (count - 1) * SECOND + 10**6
    assert profile.throughput == pytest.approx(count / ((count - 1) + 0.001))
    left_out = {"outside the time range": 10 - count} if count < 10 else {}
    assert profile.accounts.notes == left_out
    assert profile.accounts.folded == count


def test_a_range_without_frames():
    for options in ({"skip": "1h"}, {"since": 99 * SECOND}, {"until": 0}):
        profile = analyze(every_second(), **options)
        assert profile.frames == 0
        assert profile.accounts.notes == {"outside the time range": 10}


def test_a_warm_up_counts_from_the_first_start_of_all(tmp_path):
    for name, begin in (("a", 5), ("b", 2)):
        part = every_second().columns.take(slice(begin, begin + 3))
        Trace.of(BARE, part).save(tmp_path / f"{name}.parquet")
    # starts 2 3 4 and 5 6 7: the first 2 s are those before 4
    assert analyze(tmp_path, skip="2s").frames == 4


def test_frames_without_a_start_are_in_no_range():
    trace = Trace.of(BARE, simple(BARE, [(None, 5), (3, 5), (0, 5)]))
    assert analyze(trace).frames == 3
    assert analyze(trace, since=-SECOND).frames == 2
    assert analyze(trace, until=SECOND).frames == 2
    assert analyze(trace, skip=1).frames == 1
    nothing = Trace.of(BARE, simple(BARE, [(None, 5)]))
    assert analyze(nothing, skip=1).frames == 1  # `skip` needs a first start, and none is known


def test_frames_left_out_are_counted_with_their_weight():
    weight = np.array([3] * 10, np.uint32)
    outcome = Labels.encode(["late"] * 5 + [None] * 5)
    trace = every_second(weight=weight, outcome=outcome)
    profile = analyze(trace, skip="2s")
    assert profile.accounts.notes == {"outside the time range": 6}
    assert profile.frames == 15
    assert profile.sums.dropped_by_reason == {"late": 9}


def test_throughput_is_over_the_recorded_part_of_the_range():
    trace = every_second()
    trace.meta["segments"] = [[0, 4 * SECOND], [5 * SECOND, 10 * SECOND]]
    assert analyze(trace).throughput == pytest.approx(10 / 9)
    assert analyze(trace, since=2 * SECOND).active_ns == 7 * SECOND
    profile = analyze(trace, since=2 * SECOND, until=7 * SECOND)
    assert profile.active_ns == 4 * SECOND
    assert profile.throughput == pytest.approx(5 / 4)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"skip": "soon"}, "skip must be a duration"),
        ({"skip": 0}, "skip must be above 0, got 0"),
        ({"since": "yesterday"}, "since must be a time between the years 1824 and 2116"),
        ({"until": 2**62}, "until must be a time between the years 1824 and 2116"),
        ({"every": "x"}, "every must be a duration"),
        ({"deadline": -1}, "deadline must be 0 or more, got -1"),
        ({"by": "nope"}, "nope"),
    ],
)
def test_an_invalid_setting_is_refused_by_name(trace, options, said):
    with pytest.raises((ProfileError, TraceError), match=said):
        analyze(trace, **options)


def test_arguments_of_a_wrong_type_are_refused_in_one_line_that_names_them(trace):
    texts, numbers = ("x", b"x"), (-1.5, float("nan"), 2**70, 3j)
    collections = ([7, None], ["a", "b"], {"a": 1}, {1}, (1, "x"), np.array([1.5, 2]))
    moments = ("every", "deadline", "skip", "since", "until")
    flags = ("intended", "order", "causes")
    for name in ("by", "pipeline", "edges_ns", "id_bits", "progress", *moments, *flags):
        for value in (*texts, *numbers, *collections, object()):
            if name == "edges_ns" and isinstance(value, bytes | set):
                continue  # these are integers
            with pytest.raises(LatprofError) as caught:
                analyze(trace, **{name: value})
            said = str(caught.value)
            assert name.removesuffix("s_ns") in said
            assert "\n" not in said
            assert len(said) < 300
    for value in (None, 7, b"x", [], [7], {"a": 1}, object(), [None], np.array([1])):
        with pytest.raises(LatprofError) as caught:
            analyze(value)
        assert "\n" not in str(caught.value)


def test_a_group_column_missing_in_a_file_is_refused_with_its_path(path):
    with pytest.raises((ProfileError, TraceError), match=r"mic\.parquet.*room, got .nope"):
        analyze(path, by="nope")


# -- deadline -----------------------------------------------------------------------------------


def test_the_deadline_is_the_pipelines_period_by_default():
    rows = [(0, 0, 1, 2, 20_000_000), (0, 0, 1, 2, 20_000_001), (0, 0, 1, 2, 3)]
    trace = Trace.of(CHAIN, simple(CHAIN, rows))
    missed = analyze(trace).deadline
    assert (missed.deadline_ns, missed.late) == (20_000_000, 1)
    assert analyze(trace, deadline="30ms").deadline.late == 0
    assert analyze(trace, deadline=2).deadline.late == 3
    assert analyze(Trace.of(BARE, simple(BARE, [(0, 5)]))).deadline is None


# -- groups -------------------------------------------------------------------------------------


def grouped(tags, by="tag", parts=3, **optional):
    """Return how many frames each group has, of a trace in several batches."""
    rows = [(i * 100, i * 100 + 7) for i in range(len(tags))]
    columns = simple(BARE, rows, tags={"tag": tags}, **optional)
    size = math.ceil(len(tags) / parts)
    pieces = [columns.take(slice(i, i + size)) for i in range(0, len(tags), size)]
    profile = analyze([Trace.of(BARE, piece) for piece in pieces], by=by)
    assert sum(group.frames for group in profile.groups.values()) == profile.frames
    return {name: group.frames for name, group in profile.groups.items()}


@pytest.mark.parametrize(
    ("tags", "groups"),
    [
        (np.array([1, 2, 1, 1, -5, 2]), {"1": 3, "2": 2, "-5": 1}),
        (np.array([1.0, 2.5, np.nan, 1.0]), {"1": 2, "2.5": 1, "(none)": 1}),
        (np.array([np.nan, np.nan]), {"(none)": 2}),
        (np.array([0.0, -0.0]), {"0": 2}),
        (np.array([True, False, True]), {"true": 2, "false": 1}),
        (np.array([2**63 + 1, 5], np.uint64), {"9223372036854775809": 1, "5": 1}),
        (
            np.array([0, 1, 0], "M8[s]").astype("M8[ns]"),
            {"1970-01-01T00:00:00.000000000": 2, "1970-01-01T00:00:01.000000000": 1},
        ),
        (np.array(["NaT", 0], "M8[ns]"), {"(none)": 1, "1970-01-01T00:00:00.000000000": 1}),
        (Labels.encode(["x", None, "x", "ä"]), {"x": 2, "(none)": 1, "ä": 1}),
    ],
    ids=["int", "float", "nan", "zero", "bool", "u64", "times", "nat", "text"],
)
@pytest.mark.parametrize("parts", [1, 2])
def test_groups_by_tags_of_any_kind(tags, groups, parts):
    found = grouped(tags, parts=parts)
    if "-0" in found:  # two batches: each has its own zero
        found["0"] = found.get("0", 0) + found.pop("-0")
    assert found == groups


def test_groups_have_one_name_if_values_are_missing_in_some_batches(tmp_path, monkeypatch):
    # integers come as floats, bools as text where some are missing
    monkeypatch.setattr(reader, "ROW_GROUP", 4)
    columns = {
        "frame_id": np.arange(8),
        "start": np.arange(8) * 1000,
        "end": np.arange(8) * 1000 + 5,
        "number": pd.array([1, 2, 1, 2, None, 1, 2, 1], dtype="Int64"),
        "flag": pd.array([True, False, True, True, None, True, None, False], dtype="boolean"),
    }
    pd.DataFrame(columns).to_parquet(tmp_path / "t.parquet", row_group_size=4)
    profile = analyze(tmp_path / "t.parquet", by="number", pipeline=BARE)
    assert {k: g.frames for k, g in profile.groups.items()} == {"1": 4, "2": 3, "(none)": 1}
    profile = analyze(tmp_path / "t.parquet", by="flag", pipeline=BARE)
    assert {k: g.frames for k, g in profile.groups.items()} == {"true": 4, "false": 2, "(none)": 2}


def test_groups_by_outcome_count_missing_outcomes_as_finished():
    columns = simple(BARE, [(0, 5)] * 4, outcome=Labels.encode(["late", None, "finished", "late"]))
    bare = simple(BARE, [(0, 5)] * 3)
    profile = analyze([Trace.of(BARE, bare), Trace.of(BARE, columns)], by="outcome")
    assert {name: group.frames for name, group in profile.groups.items()} == {
        "finished": 5,
        "late": 0,
    }
    assert profile.groups["late"].sums.dropped_by_reason == {"late": 2}


def test_groups_by_source_agree_with_the_oracle(path, trace):
    profile = analyze(path, by="source")
    rows = oracle.finished(oracle.frames(trace.columns))
    for name, group in profile.groups.items():
        own = [oracle.latency(row, CHAIN.span("play")) for row in rows if row["source"] == name]
        own = [value for value in own if value is not None and value >= 0]
        assert (group["play"].count, group["play"].total) == (len(own), sum(own))


def test_more_than_1000_groups_are_refused(tmp_path):
    rows = [(0, 5)] * 1_001
    trace = Trace.of(BARE, simple(BARE, rows, tags={"call": np.arange(1_001)}))
    trace.save(tmp_path / "t.parquet")
    before = threading.active_count()
    with pytest.raises(ProfileError, match=r"by='call' must have at most 1,000 values"):
        analyze(tmp_path / "t.parquet", by="call")
    assert threading.active_count() == before
    assert len(analyze(Trace.of(BARE, trace.columns.take(slice(1_000))), by="call").groups) == 1_000


# -- frames that last long ------------------------------------------------------------------------

DAY = 86_400 * SECOND


def test_frames_of_years_have_an_exact_mean_and_total_when_saved_and_merged(tmp_path):
    n, took = 74_501, 846 * DAY
    start = np.arange(n) * 20_000_000
    marks = {"start": start, "decode": start, "resample": start + took // 2}
    marks |= {"play": start + took, "end": start + took}
    trace = Trace(CHAIN, frame_id=np.arange(n), marks=marks)
    profile = analyze(trace, every="1s", by="source")
    profile.save(tmp_path / "p.latprof")
    loaded = load_profile(tmp_path / "p.latprof")
    for each, times in ((profile, 1), (loaded, 1), (loaded.merge(profile), 2)):
        assert n * took > 2**63
        assert each["end_to_end"].total == times * n * took
        assert each["end_to_end"].mean == took
        assert each["end_to_end"].std == 0
        assert each["decode"].total + each["resample"].total == times * n * took
        assert each.sums.shares["end_to_end"] == times * n * took
        assert sum(each.sums.tails.sums["resample"].tolist()) == times * n * (took - took // 2)
        assert sum(each.sums.timeline.sums["end_to_end"].tolist()) == times * n * took
        means = each.timeline().xs("end_to_end", level="span")["mean"]
        assert set(means) == {took}
        slow = each.tail(99).loc["resample", "slow_mean"]
        assert slow == pytest.approx(took // 2, rel=1e-12)


def test_a_frame_of_three_centuries_does_not_hide_the_others(tmp_path):
    rows = [(0, 5), (1 - 2**62, 2**62 - 1), (10, 17)]
    Trace.of(BARE, simple(BARE, rows)).save(tmp_path / "t.parquet")
    profile = analyze(tmp_path / "t.parquet")
    assert profile.frames == 3
    assert profile["end_to_end"].total == 5 + (2**63 - 2) + 7
    assert profile["end_to_end"].percentile(50).value == 7
    assert profile["end_to_end"].max == 2**63 - 2
    assert "3 frames" in str(Report(profile))


# -- progress, threads, damage ------------------------------------------------------------------


def test_progress_ends_with_all_rows(tmp_path, monkeypatch, trace, path):
    monkeypatch.setattr(reader, "ROW_GROUP", 90)
    seen = []
    analyze([path, trace, path], skip="1s", progress=lambda done, rows: seen.append((done, rows)))
    assert seen[-1] == (1_200, 1_200)
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert {rows for _, rows in seen} == {1_200}
    assert len(seen) == 5 + 1 + 5


def own_threads():
    return [thread for thread in threading.enumerate() if "latprof" in thread.name]


def test_no_thread_is_left_behind(path):
    analyze(path)
    assert own_threads() == []


def test_without_a_thread_for_decoding_the_result_is_the_same(path, monkeypatch, tmp_path):
    expected = content(analyze(path), tmp_path)

    def fail(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fail)
    assert_same(content(analyze(path), tmp_path), expected)


def test_lack_of_memory_is_reported_as_such(path, monkeypatch):
    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(fold.Fold, "add", fail)
    with pytest.raises(MemoryError):
        analyze(path)
    assert own_threads() == []


def test_a_trace_in_memory_is_analyzed_without_pyarrow_and_pandas():
    code = """
import sys
import numpy as np
import latprof
mic = latprof.Pipeline("mic", ("start", "end"))
trace = latprof.Trace(mic, frame_id=[0, 1], marks={"start": [0, 10], "end": [5, 25]})
assert latprof.analyze(trace, by="source", every="1s", order=True).frames == 2
assert latprof.analyze(trace, causes=True).frames == 2
print({"pyarrow", "pandas"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_a_progress_that_fails_ends_the_analysis(path, monkeypatch):
    monkeypatch.setattr(reader, "ROW_GROUP", 50)

    def fail(done, rows):
        raise RuntimeError(f"stopped at {done}")

    with pytest.raises(RuntimeError, match="stopped at 50"):
        analyze(path, progress=fail)
    assert own_threads() == []


def test_damage_found_while_decoding_names_the_file(tmp_path):
    where = tmp_path / "t.parquet"
    frames = seeded(CHAIN, 5_000, 2)
    with write_module.Writer(where, CHAIN, row_group=1_000) as writer:
        writer.write(frames)
    whole = where.read_bytes()
    assert analyze(where).accounts.folded == 5_000
    # in the midst of the last row group
    group = pq.ParquetFile(where).metadata.row_group(4)
    place = group.column(2).data_page_offset + group.column(2).total_compressed_size // 2
    damaged = bytearray(whole)
    damaged[place] ^= 0xFF
    where.write_bytes(damaged)
    with pytest.raises(TraceError, match=r"t\.parquet: the file is corrupt .*intact copy"):
        analyze(where)
    assert own_threads() == []


def test_a_stamp_refused_while_decoding_names_the_file_and_the_mark(tmp_path, monkeypatch):
    monkeypatch.setattr(reader, "ROW_GROUP", 10)
    table = pd.DataFrame(
        {"frame_id": range(30), "start": [0] * 30, "end": [5] * 25 + [2**62] + [5] * 4}
    )
    table.to_parquet(tmp_path / "t.parquet", row_group_size=10)
    with pytest.raises(TraceError, match=r"t\.parquet.*'end'"):
        analyze(tmp_path / "t.parquet", pipeline=BARE)
    assert own_threads() == []


def test_a_thread_decodes_the_next_row_group(tmp_path, monkeypatch):
    decoded = []  # the thread of each batch
    changed = threading.Condition()

    def note():
        with changed:
            decoded.append(threading.current_thread().name)
            changed.notify_all()

    class Watched(pq.ParquetFile):
        def read_row_group(self, *arguments, **options):
            table = super().read_row_group(*arguments, **options)
            note()
            return table

        def iter_batches(self, *arguments, **options):
            for batch in super().iter_batches(*arguments, **options):
                note()
                yield batch

    def wait_for_the_next(done, rows):
        folded = done * 4 // rows
        with changed:
            assert changed.wait_for(lambda: len(decoded) > min(folded, 3), timeout=30)

    monkeypatch.setattr(pq, "ParquetFile", Watched)
    for rows in (100, 5_000):  # of a row group: few are read as a stream, many as a whole
        monkeypatch.setattr(reader, "ROW_GROUP", rows)
        with write_module.Writer(tmp_path / "t.parquet", CHAIN, row_group=rows) as writer:
            writer.write(seeded(CHAIN, 4 * rows, 3))
        decoded.clear()
        profile = analyze(tmp_path / "t.parquet", progress=wait_for_the_next)
        assert profile.accounts.folded == 4 * rows
        assert len(decoded) == 4
        assert {name.startswith("latprof-decode") for name in decoded} == {True}
