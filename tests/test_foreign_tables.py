"""Tables of timestamps that other programs have written: CSV, JSON, Parquet, Arrow, DataFrames."""

import gzip
import json
import os
import random
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import feather
from strategies import examples

import latprof
from latprof import ForeignFile, Pipeline, Report, Trace, TraceError, read
from latprof.cli.main import main
from latprof.frames import MISSING
from latprof.io.formats import delimited
from latprof.top.feeds import feed_of

EPOCH = 1_700_000_000_000_000_000  # ns
MARKS = ["got", "begun", "sent"]


def write(where: Path, text: str | bytes) -> Path:
    where.write_bytes(text.encode() if isinstance(text, str) else text)
    return where


def marks_of(trace: Trace) -> list[list[int]]:
    return [ns.tolist() for ns in trace.marks.values()]


def test_columns_in_order_are_marks_and_a_stage_is_named_after_its_end(tmp_path):
    where = write(
        tmp_path / "requests.csv",
        "request,received_at,dequeued_at,sent_at,status,bytes,shard\n"
        "7,1700000000.000000001,1700000000.25,1700000001,200,960,a\n"
        "9,1700000002.000000001,1700000002.5,1700000003,503,,b\n",
    )
    given = {"id": "request", "outcome": "status", "size": "bytes"}
    trace = read(where, marks=["received_at", "dequeued_at", "sent_at"], **given)
    assert trace.pipeline.marks == ("start", "dequeued_at", "end")
    assert [stage.name for stage in trace.pipeline.stages] == ["to_dequeued", "to_sent"]
    assert trace.frame_id.tolist() == [7, 9]
    assert trace.span("to_dequeued").tolist() == [249_999_999, 499_999_999]
    assert trace.outcome.to_numpy().tolist() == ["finished", "503"]
    assert trace.size.tolist() == [960, 2**32 - 1]
    assert trace.tags["shard"].to_numpy().tolist() == ["a", "b"]
    assert "times are taken as s since 1970, from their size" in str(Report(trace))


def test_stages_are_named_and_may_leave_gaps(tmp_path):
    where = write(tmp_path / "a.csv", "a_ns,b_ns,c_ns\n0,10,30\n5,6,9\n")
    stages = {"work": "b_ns:c_ns"}
    trace = read(where, marks=["a_ns", "b_ns", "c_ns"], stages=stages)
    assert trace.span("work").tolist() == [20, 3]
    assert trace.span("other").tolist() == [10, 1]
    assert trace.frame_id.tolist() == [0, 1]


def test_a_dialect_with_comments_gaps_and_a_row_that_is_cut_short(tmp_path):
    rows = [f"{i};{i}.000000001;{i}.{i:09d};{i + 1}.123456789" for i in range(1_000)]
    rows[10] = "10;10.000000001;NA;11.123456789"
    rows[500] = "500;500.0000"
    text = "\ufeff# rate 0,5\nid;t0;t1;t2\n" + "\r\n".join(rows) + "\r\n"
    trace = read(write(tmp_path / "a.csv", text), marks=["t0", "t1", "t2"], id="id")
    assert len(trace) == 999
    assert 500 not in trace.frame_id
    kept = [i for i in range(1_000) if i != 500]
    assert trace.marks["start"].tolist() == [i * 10**9 + 1 for i in kept]
    assert trace.marks["t1"].tolist() == [i * 10**9 + i if i != 10 else MISSING for i in kept]
    assert trace.marks["end"].tolist() == [(i + 1) * 10**9 + 123456789 for i in kept]
    notes = trace.meta["accounts"]["notes"]
    assert notes == {"rows that cannot be read": 1}
    assert any("line 503: '500;500.0000'" in said for said in trace.meta["reading"])
    assert any("taken as s, from their 9 decimals" in said for said in trace.meta["reading"])


def test_times_with_zones_count_from_utc_and_one_without_a_zone_is_refused(tmp_path):
    zoned = "a,b\n2024-10-27T02:59:59.9+02:00,2024-10-27T02:00:00.1+01:00\n"
    trace = read(write(tmp_path / "zoned.csv", zoned), marks=["a", "b"])
    assert trace.span("end_to_end").tolist() == [200_000_000]
    naive = "a,b\n2024-10-27T02:59:59.9,2024-10-27T02:00:00.1\n"
    trace = read(write(tmp_path / "naive.csv", naive), marks=["a", "b"])
    assert trace.span("end_to_end").tolist() == [-3_599_800_000_000]
    assert "times without a zone are taken as UTC" in trace.meta["reading"]
    mixed = "a,b\n2024-10-27T02:59:59.9+02:00,2024-10-27T02:00:00.1\n"
    with pytest.raises(TraceError, match="must all have a zone or all have none"):
        read(write(tmp_path / "mixed.csv", mixed), marks=["a", "b"])


def test_local_times_are_converted_with_the_zone_that_is_given(tmp_path):
    where = write(tmp_path / "a.csv", "a,b\n2024-07-01 12:00:00,2024-07-01 12:00:01.5\n")
    trace = read(where, marks=["a", "b"], tz="Europe/Vienna")
    expected = pd.Timestamp("2024-07-01 12:00", tz="Europe/Vienna").value
    assert trace.marks["start"].tolist() == [expected]
    hidden = write(tmp_path / "b.csv", "a,b\n2024-10-27 02:30:00,2024-10-27 02:31:00\n")
    with pytest.raises(TraceError, match="02:30:00, when the clock was changed"):
        read(hidden, marks=["a", "b"], tz="Europe/Vienna")


def test_a_date_of_a_spreadsheet_is_refused_with_an_example(tmp_path):
    where = write(tmp_path / "a.csv", "a,b\n03/04/2024 10:00,03/04/2024 10:01\n")
    with pytest.raises(TraceError, match=r"ISO 8601 text such as 2024-03-05T10.*day.*month"):
        read(where, marks=["a", "b"])


@pytest.mark.parametrize(
    ("header", "values", "expected"),
    [
        ("a,b", "1700000000,1700000001", 10**9),
        ("a,b", "1700000000000,1700000000001", 10**6),
        ("a,b", "1700000000000000,1700000000000001", 10**3),
        ("a,b", "1700000000000000000,1700000000000000001", 1),
        ("a_ms,b_ms", "5,6.5", 1_500_000),
        ("t (us),u (us)", "5,6.25", 1_250),
        ("startTimeUnixNano,endTimeUnixNano", "5,6", 1),
    ],
)
def test_the_unit_is_found_from_the_size_or_the_names(tmp_path, header, values, expected):
    where = write(tmp_path / "a.csv", f"{header}\n{values}\n")
    trace = read(where, marks=header.split(","))
    assert trace.span("end_to_end").tolist() == [expected]
    assert ["are taken as" in said for said in trace.meta["reading"]] == [True, False]


def test_a_unit_that_cannot_be_found_is_asked_for(tmp_path):
    where = write(tmp_path / "a.csv", "a,b\n5,6\n")
    with pytest.raises(TraceError, match=r"numbers such as '5' in 'a'; give unit= \(--unit"):
        read(where, marks=["a", "b"])
    assert read(where, marks=["a", "b"], unit="us").span("end_to_end").tolist() == [1_000]


def test_columns_may_have_different_units(tmp_path):
    text = "got,begun_ms,sent\n1700000000.5,1700000000750,1700000001000000\n"
    trace = read(write(tmp_path / "a.csv", text), marks=["got", "begun_ms", "sent"])
    assert trace.span("to_begun_ms").tolist() == trace.span("to_sent").tolist() == [250_000_000]
    assert "got as s, begun_ms as ms, sent as us, from their size" in str(Report(trace))
    lengths = write(tmp_path / "b.csv", "queue_ms,work_us\n1.5,250\n")
    trace = read(lengths, durations=["queue_ms", "work_us"])
    assert trace.span("end_to_end").tolist() == [1_750_000]
    # the name of a column contradicts its size
    odd = write(tmp_path / "c.csv", "got_us,sent\n1700000000,1700000001000\n")
    with pytest.raises(TraceError, match="the unit of times must be known"):
        read(odd, marks=["got_us", "sent"])


def test_zero_is_missing_only_if_it_is_said(tmp_path):
    where = write(tmp_path / "a.csv", "a_ns,b_ns,c_ns\n1,0,5\n")
    marks = ["a_ns", "b_ns", "c_ns"]
    assert read(where, marks=marks).marks["b_ns"].tolist() == [0]
    assert read(where, marks=marks, zero_is_missing=True).marks["b_ns"].tolist() == [MISSING]


def test_rows_that_cannot_be_read_are_counted_shown_and_refused_if_they_are_many(tmp_path):
    lines = ["a_ns,b_ns", *(f"{i},{i + 5}" for i in range(2_000))]
    for line, text in ((3, "x,5"), (4, "7,2024-01-01"), (1_500, "1,2,3"), (1_600, "1,1e99")):
        lines[line] = text
    where = write(tmp_path / "a.csv", "\n".join(lines))
    trace = read(where, marks=["a_ns", "b_ns"])
    assert len(trace) == 1_996
    assert trace.meta["accounts"]["notes"] == {"rows that cannot be read": 4}
    for i in range(100, 120):
        lines[i] = "no,no"
    where = write(tmp_path / "a.csv", "\n".join(lines))
    with pytest.raises(TraceError, match=r"24 rows of 2,000 cannot be read \(line 4: .*max-bad 24"):
        read(where, marks=["a_ns", "b_ns"])
    assert len(read(where, marks=["a_ns", "b_ns"], max_bad="2%")) == 1_976


def test_a_report_counts_unreadable_rows_of_every_batch_and_refuses_many(tmp_path, capsys):
    lines = ["a_ns,b_ns", *(f"{i},{i + 5}" for i in range(300))]
    lines[299] = "298,no"
    where = write(tmp_path / "a.csv", "\n".join(lines))
    profile = latprof.analyze(ForeignFile(where, marks=["a_ns", "b_ns"]))
    assert profile.frames == 299
    assert profile.accounts.notes == {"rows that cannot be read": 1}
    assert main(["report", str(where), "--marks", "a_ns,b_ns"]) == 0
    assert "rows that cannot be read: line 300: b_ns is 'no'" in capsys.readouterr().out
    lines[280:] = ["x,5"] * 21
    where = write(tmp_path / "a.csv", "\n".join(lines))
    with pytest.raises(TraceError, match="21 rows of 300 cannot be read"):
        latprof.analyze(ForeignFile(where, marks=["a_ns", "b_ns"]))


def test_values_of_another_form_far_down_are_found(tmp_path):
    rows = 300_000
    data = "\n".join(f"{i},{i + 9}" for i in range(rows))
    where = write(tmp_path / "a.csv", f"a_ns,b_ns\n{data}\n12,oops\n{rows},{rows + 9}\n")
    trace = read(where, marks=["a_ns", "b_ns"])
    assert len(trace) == rows + 1
    assert trace.frame_id[-1] == rows + 1
    assert f"line {rows + 2:,}: b_ns is 'oops'" in " ".join(trace.meta["reading"])


def test_ids_that_are_text_become_a_tag_and_rows_are_numbered(tmp_path):
    where = write(tmp_path / "a.csv", "request,a_ns,b_ns\nx-1,1,2\nx-2,3,5\n")
    trace = read(where, marks=["a_ns", "b_ns"], id="request")
    assert trace.frame_id.tolist() == [0, 1]
    assert trace.tags["request"].to_numpy().tolist() == ["x-1", "x-2"]


def test_quoted_values_may_have_delimiters_and_line_ends(tmp_path):
    text = 'name,a_ns,b_ns\n"x, ""y""\nz",1,2\nplain,3,oops\n"last",5,9\n'
    trace = read(write(tmp_path / "a.csv", text), marks=["a_ns", "b_ns"])
    assert trace.tags["name"].to_numpy().tolist() == ['x, "y"\nz', "last"]
    assert "line 4: b_ns is 'oops'" in " ".join(trace.meta["reading"])


def test_a_file_without_names_and_one_with_decimal_commas(tmp_path):
    where = write(tmp_path / "a.csv", "1700000000000,1700000000005\n1700000000010,1700000000011\n")
    trace = read(where, marks=["column_1", "column_2"])
    assert trace.span("end_to_end").tolist() == [5_000_000, 1_000_000]
    where = write(tmp_path / "b.csv", "a_s;b_s\n1,5;2,123456789\n")
    assert read(where, marks=["a_s", "b_s"]).span("end_to_end").tolist() == [623_456_789]


@pytest.mark.parametrize(
    "ending", ["csv", "csv.gz", "csv.zst", "jsonl", "json", "parquet", "arrow"]
)
def test_every_kind_of_file_gives_the_same_frames(tmp_path, ending):
    table = pd.DataFrame(
        {
            "id": [5, 6, 7],
            "got": EPOCH + np.array([1, 2, 3]),
            "begun": EPOCH + np.array([11, 12, 13]),
            "sent": EPOCH + np.array([101, 202, 303]),
            "who": ["a", None, "b"],
        }
    )
    where = tmp_path / f"requests.{ending}"
    if ending == "csv.zst":
        text = table.to_csv(index=False).encode()
        where.write_bytes(pa.Codec("zstd").compress(text, asbytes=True))
    elif "csv" in ending:
        table.to_csv(where, index=False)
    elif ending == "jsonl":
        table.to_json(where, orient="records", lines=True)
    elif ending == "json":
        table.to_json(where, orient="records")
    elif ending == "parquet":
        table.to_parquet(where)
    else:
        feather.write_feather(table, where)
    trace = read(where, marks=MARKS, id="id")
    assert trace.frame_id.tolist() == [5, 6, 7]
    assert marks_of(trace) == [table[mark].tolist() for mark in MARKS]
    assert trace.tags["who"].to_numpy().tolist() == ["a", None, "b"]
    assert marks_of(Trace.from_pandas(table, marks=MARKS, id="id")) == marks_of(trace)


def test_json_numbers_with_decimals_keep_every_digit_and_broken_lines_are_counted(tmp_path):
    lines = [
        '{"t": {"got": 1700000000.123456789, "sent": 1700000001.000000001}, "n": 1}',
        '{"t": {"got": 1700000002.5, "sent": null}, "n": 2}',
        "",
        '{"t": {"got": 17000',
        "[1, 2]",
    ]
    trace = read(write(tmp_path / "a.jsonl", "\n".join(lines)), marks=["t.got", "t.sent"])
    assert trace.marks["start"].tolist() == [1_700_000_000_123_456_789, 1_700_000_002_500_000_000]
    assert trace.marks["end"].tolist() == [1_700_000_001_000_000_001, MISSING]
    assert trace.meta["accounts"]["notes"] == {"rows that cannot be read": 2}
    assert "line 4: '{\"t\": {\"got\": 17000'; line 5: '[1, 2]'" in " ".join(trace.meta["reading"])


NS = st.one_of(st.none(), st.integers(0, 2**62 - 1))


@settings(max_examples=examples(60), deadline=None)
@given(rows=st.lists(st.tuples(NS, NS), min_size=1, max_size=20), form=st.integers(0, 3))
def test_no_nanosecond_is_lost_in_any_text(tmp_path_factory, rows, form):
    rows.append((EPOCH, EPOCH + 1))  # at least one row has both
    folder = tmp_path_factory.mktemp("exact")

    def text(ns: int | None) -> str:
        if ns is None:
            return ""
        if form == 0:
            return str(ns)
        if form == 1:
            return f"{ns // 10**9}.{ns % 10**9:09d}"
        if form == 2:
            return f"{ns // 10**6}.{ns % 10**6:06d}"
        return f"{pd.Timestamp(ns).isoformat()}Z"

    unit = {0: "ns", 1: "s", 2: "ms", 3: None}[form]
    lines = "".join(f"{text(a)},{text(b)},x\n" for a, b in rows)
    trace = read(write(folder / "a.csv", f"a,b,c\n{lines}"), marks=["a", "b"], unit=unit)
    expected = [[MISSING if row[i] is None else row[i] for row in rows] for i in (0, 1)]
    assert marks_of(trace) == expected
    objects = [{"a": text(a) or None, "b": text(b) or None} for a, b in rows]
    where = write(folder / "a.json", json.dumps(objects))
    assert marks_of(read(where, marks=["a", "b"], unit=unit)) == expected


@settings(max_examples=examples(30), deadline=None)
@given(
    rows=st.lists(
        st.tuples(
            st.integers(0, 2**64 - 1),
            st.integers(-(2**62) + 1, 2**62 - 1),
            NS,
            st.one_of(st.none(), st.text(max_size=6)),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_an_exported_csv_reads_back_equal(tmp_path_factory, rows):
    where = tmp_path_factory.mktemp("export") / "t.csv"
    pipeline = Pipeline.chain("mic", "play")
    ids, starts, plays, names = zip(*rows, strict=True)
    marks = {"start": starts, "play": plays, "end": starts}
    names = [None if n is None else n.encode("utf-8", "replace").decode() for n in names]
    names = [None if n is None else n.replace("\x00", "").replace("\r", "") for n in names]
    trace = Trace(pipeline, frame_id=list(ids), marks=marks, source=names, meta={"lost": 3})
    trace.to_csv(where)
    back = read(where)
    assert back.pipeline == pipeline
    assert back.frame_id.tolist() == list(ids)
    assert marks_of(back) == marks_of(trace)
    assert back.source.to_numpy().tolist() == trace.source.to_numpy().tolist()
    assert back.meta["lost"] == 3


def test_fractions_of_a_nanosecond_are_rounded_to_the_nearest(tmp_path):
    values = ["0.60639850000000", "1.5538106615389125", "2.0000000004999", "3.12345678955555555555"]
    lines = "".join(f"0,{value}\n" for value in values)
    trace = read(write(tmp_path / "a.csv", f"a,b\n{lines}"), marks=["a", "b"], unit="s")
    assert trace.marks["end"].tolist() == [round(Fraction(value) * 10**9) for value in values]


def test_the_pipeline_file_names_the_columns(tmp_path, capsys):
    pipeline = Pipeline.chain("web", "work", stations={"work": "worker"})
    columns = {"marks": {"start": "a", "work": "b", "end": "c"}, "id": "n", "unit": "us"}
    described = write(tmp_path / "web.json", json.dumps({**pipeline.to_dict(), "columns": columns}))
    where = write(tmp_path / "t.csv", "n,a,b,c\n1,0,10,30\n2,30,35,40\n")
    assert main(["report", str(where), "--pipeline", str(described)]) == 0
    assert capsys.readouterr().out.startswith("web: the bottleneck is work, 12.5 us mean")
    columns["colour"] = "x"
    described.write_text(json.dumps({"columns": columns}))
    assert main(["report", str(where), "--pipeline", str(described)]) == 2
    assert "keys of 'columns' must be" in capsys.readouterr().err


def test_all_commands_take_a_table(tmp_path, capsys):
    text = "a_ms,b_ms,c_ms\n" + "".join(f"{i * 10},{i * 11},{i * 11 + 11}\n" for i in range(200))
    where = str(write(tmp_path / "t.csv", text))
    table = ["--marks", "a_ms,b_ms,c_ms", "--stages", "queue=a_ms:b_ms,work=b_ms:c_ms"]
    served = [*table, "--station", "work=worker"]
    assert main(["report", where, *table]) == 0
    assert main(["causes", where, *served]) == 0
    assert "work" in capsys.readouterr().out
    assert main(["what-if", where, *served, "--faster", "work=10%"]) == 0
    for name in ("t.png",):
        assert main(["plot", where, *table, "-o", str(tmp_path / name)]) == 0
    for name in ("t.parquet", "u.csv"):
        assert main(["export", where, *table, "-o", str(tmp_path / name)]) == 0
        assert len(read(tmp_path / name)) == 200
    assert main(["merge", where, *table, "-o", str(tmp_path / "t.latprof")]) == 0
    profile = latprof.load_profile(tmp_path / "t.latprof")
    assert profile.frames == 200
    assert "times are taken as ms, from the names of the columns" in profile.reading


def test_commands_on_several_runs_take_tables(tmp_path, capsys):
    rng = np.random.default_rng(3)
    sides: dict[str, list[str]] = {"old": [], "new": []}
    for number in range(6):
        for side, runs in sides.items():
            got = np.arange(300) * 20_000
            sent = got + (rng.uniform(5_000, 9_000, 300) * (1.5 if side == "new" else 1)).astype(
                int
            )
            rows = zip(range(300), got, sent, strict=True)
            text = "req,got,sent\n" + "".join(f"{i},{a},{b}\n" for i, a, b in rows)
            runs.append(str(write(tmp_path / f"{side}-{number}.csv", text)))
    old, new = sides["old"], sides["new"]
    table = ["--marks", "got,sent", "--unit", "us", "--id", "req"]
    assert main(["compare", *old, "--to", *new, *table, "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "worse"
    budget = ["--budget", "end_to_end.p99<+5%", *table]
    assert main(["gate", "--base-runs", *old, "--head-runs", *new, *budget]) == 1
    assert main(["gate", "--base-runs", *old, "--head-runs", *old, *budget]) == 0
    commands = [f"cp {runs[0]} $LATPROF_RECORDING" for runs in (old, new)]
    given = ["--pairs", "2", "--check-pairs", "0", "--warm-up", "0", "--max-lateness", "10s"]
    assert main(["gate", "--base", commands[0], "--head", commands[1], *given, *budget]) != 2
    capsys.readouterr()
    assert main(["plan", *old, *table]) == 0
    assert main(["trend", *old, *new, *table]) == 0
    text = capsys.readouterr().out
    assert "pairs of runs as long as these find a change" in text
    assert main(["what-if", old[0], *table, "--station", "to_sent=w", "--until", "p99<50ms"]) == 0
    assert "p99 of end to end stays below" in capsys.readouterr().out
    assert main(["top", str(tmp_path), "--once", *table]) == 0
    assert "3,600" in capsys.readouterr().out


def test_top_reads_new_rows_of_a_table_that_grows(tmp_path):
    where = write(tmp_path / "a.csv", "got_ms,sent_ms\n0,5\n10,16\n")
    given = ForeignFile(tmp_path, marks=["got_ms", "sent_ms"])
    feed = feed_of(str(tmp_path), columns=given)
    assert [len(columns) for columns in feed.read().batches] == [2]
    write(where, "got_ms,sent_ms\n0,5\n10,16\n20,27\n")
    (columns,) = feed.read().batches
    assert columns.marks["start"].tolist() == [20_000_000]
    with pytest.raises(TraceError, match="must be a folder of tables"):
        feed_of(str(where), columns=given)


def test_order_of_ids_is_withheld_for_rows_without_ids_and_samples_are_said(tmp_path, capsys):
    text = "k,a_ms,b_ms\n" + "".join(f"{2 * i},{i * 10},{i * 11 + 1}\n" for i in range(50))
    where = str(write(tmp_path / "t.csv", text))
    table = ["report", where, "--marks", "a_ms,b_ms"]
    assert main(table) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "no source: ids not available: the file has none; a frame each 10.0 ms" in said
    assert main([*table, "--id", "k", "--samples"]) == 0
    said = capsys.readouterr().out
    assert "no source: 49 frames lost" in said
    assert "rows are samples, not frames: rate and order are those of the samples" in said
    assert main([*table, "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["order"][""]["arrivals"]["lost"] is None


def test_a_table_without_marks_is_refused_with_the_command_to_try(tmp_path, capsys):
    text = "id,sent_at,got_at,n\n1,1700000000.5,1700000000,7\n2,1700000001.5,1700000001,8\n"
    where = write(tmp_path / "t.csv", text)
    assert main(["report", str(where)]) == 2
    message = capsys.readouterr().err
    assert "(in order of time) --marks got_at,sent_at (marks=[...] in Python)" in message
    assert "the columns id, sent_at, got_at, n" in message
    assert main(["report", str(where), "--marks", "got_at,send"]) == 2
    assert "must have the column 'send', got 'id', 'sent_at'" in capsys.readouterr().err


def test_durations_give_no_number_that_needs_times(tmp_path, capsys):
    where = write(tmp_path / "t.csv", "queue_ms,work_ms\n1.5,4\n2,5\n,6\n")
    arguments = ["report", str(where), "--durations", "queue_ms,work_ms"]
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert "work_ms, 5.00 ms mean" in text
    assert "3 frames, of which durations are known, but no times: rate, order, windows" in text
    assert "frames/s" not in text
    assert "since" not in text
    assert main([*arguments, "--every", "1s"]) == 2
    assert "every must be computed from frames with times" in capsys.readouterr().err
    assert main(["causes", *arguments[1:]]) == 2
    capsys.readouterr()
    assert main([*arguments, "--format", "json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["frames"] == 3
    assert content["throughput"] is content["order"] is content["first_start_ns"] is None
    trace = Trace.from_durations({"queue": [1.5, 2, None], "work": [4, 5, 6]}, unit="ms")
    assert trace.span("end_to_end").tolist() == [5_500_000, 7_000_000, MISSING]
    assert trace.span("work").tolist() == [4_000_000, 5_000_000, 6_000_000]
    profile = latprof.analyze(trace)
    assert profile.throughput is None
    assert profile.active_ns is None
    with pytest.raises(TraceError, match="causes must be computed from frames with times"):
        latprof.causes(trace)


def test_pipes_and_endless_files_are_refused_soon(tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe")
    assert main(["report", str(tmp_path / "pipe"), "--marks", "a,b"]) == 2
    assert "got a pipe or a device; save its data" in capsys.readouterr().err
    for name, head, reason in (
        (
            "a.json",
            b'[{"ph":"X","ts":1,"dur":2},',
            "the text must be JSON, which it is not after 1",
        ),
        ("b.json", b'{"resourceSpans":[{"a":"', "one value of the file has more than"),
        ("c.json", b'{"a_ns":1,"b_ns":2}\n{"a_ns":"', "a line must have at most"),
        ("d.json", b'[{"a_ns":1,"b_ns":2},{"a_ns":"', "one value of the file has more than"),
    ):
        with write(tmp_path / name, head).open("r+b") as file:
            file.truncate(10 << 30)  # sparse
        marks = ["--marks", "a_ns,b_ns"] if b"a_ns" in head else []
        assert main(["report", str(tmp_path / name), *marks]) == 2
        assert reason in capsys.readouterr().err
    with gzip.open(tmp_path / "bomb.csv.gz", "wb", 1) as zipped:
        zipped.write(b"a_ns,b_ns\n" + b"0" * (1 << 26))
    assert main(["report", str(tmp_path / "bomb.csv.gz"), "--marks", "a_ns,b_ns"]) == 2
    assert "a row must have at most 16,777,216 bytes" in capsys.readouterr().err


def test_files_that_are_no_tables_are_refused_in_one_line(tmp_path):
    for name, content in {
        "utf16.csv": "a,b\n1,2\n".encode("utf-16"),
        "binary": bytes(range(256)) * 8,
        "empty.csv": b"",
        "spaces": b"\n\n\n",
        "cut.csv.gz": gzip.compress(b"a,b\n" * 1000)[:40],
        "deep.json": b"[" * 100_000,
        "open.json": b'{"a": "' + b"x" * 1000,
        "cut.arrow": b"ARROW1\x00\x00abc",
        "line.csv": b"a,b\n" + b"1" * (1 << 25),
    }.items():
        with pytest.raises(TraceError) as raised:
            read(write(tmp_path / name, content), marks=["a", "b"], unit="s")
        assert str(raised.value).startswith(str(tmp_path / name)), name
        assert "\n" not in str(raised.value)


def test_arguments_are_checked():
    for arguments, message in (
        ({"marks": "a,b"}, "marks must be a list of names"),
        ({"marks": ["a"]}, "at least 2 columns"),
        ({"unit": "min"}, "unit must be one of s, ms, us, ns"),
        ({"tz": "Vienna/Europe"}, "tz must be a time zone"),
        ({"max_bad": "lots"}, "max_bad must be a number of rows"),
        ({"marks": ["a", "b"], "durations": ["c"]}, "must not both be given"),
        ({"marks": ["a", "b"], "stages": {"x": "b:a"}}, "must begin before it ends"),
        ({"spans": "db"}, "spans must be a list"),
    ):
        with pytest.raises(latprof.LatprofError, match=message):
            ForeignFile("t.csv", **arguments).columns.resolved()


def test_a_table_in_a_dataframe_with_floats_and_categories():
    table = pd.DataFrame(
        {"a": [0.5, 1.5, np.nan], "b": [1.25, 2.25, 3.0], "k": pd.Categorical(["x", "y", "x"])}
    )
    trace = Trace.from_pandas(table, marks=["a", "b"], unit="ms")
    assert trace.marks["start"].tolist() == [500_000, 1_500_000, MISSING]
    assert trace.tags["k"].to_numpy().tolist() == ["x", "y", "x"]
    dates = pd.DataFrame({"a": pd.to_datetime(["2024-01-01"]), "b": ["2024-01-01T00:00:01"]})
    assert Trace.from_pandas(dates, marks=["a", "b"]).span("end_to_end").tolist() == [10**9]


def test_floats_in_a_dataframe_are_as_exact_as_they_can_be():
    # pandas keeps integers with a gap as floats; times a million their digits would not fit
    ms = [1_700_000_000_123.0, 1_700_000_000_133.0, np.nan]
    table = pd.DataFrame({"a": ms, "b": [1_700_000_000_124.5, -0.25, 1_700_000_000_125.0]})
    trace = Trace.from_pandas(table, marks=["a", "b"], unit="ms")
    assert marks_of(trace) == [
        [1_700_000_000_123_000_000, 1_700_000_000_133_000_000, MISSING],
        [1_700_000_000_124_500_000, -250_000, 1_700_000_000_125_000_000],
    ]
    half = pd.DataFrame({"a": np.array([0.5, 1000], np.float16), "b": np.float32([1.5, 2e6])})
    assert marks_of(Trace.from_pandas(half, marks=["a", "b"], unit="s")) == [
        [500_000_000, 1000 * 10**9],
        [1_500_000_000, 2_000_000 * 10**9],
    ]


def test_timestamps_that_are_objects_keep_nanoseconds_and_zones():
    at = [pd.Timestamp(EPOCH + 123_456_789, tz="UTC"), pd.Timestamp(EPOCH + 1, tz="Asia/Tokyo")]
    times = pd.Series([*at, None], dtype=object)
    trace = Trace.from_pandas(pd.DataFrame({"a": times, "b": times}), marks=["a", "b"])
    assert marks_of(trace) == [[EPOCH + 123_456_789, EPOCH + 1, MISSING]] * 2
    mixed = pd.Series([at[0], pd.Timestamp(EPOCH)], dtype=object)
    with pytest.raises(TraceError, match="all have a zone, or that all have none, got both"):
        Trace.from_pandas(pd.DataFrame({"a": mixed, "b": mixed}), marks=["a", "b"])


def test_ids_that_are_whole_numbers_of_any_type_are_ids():
    table = pd.DataFrame({"a": [EPOCH] * 2, "b": [EPOCH + 5] * 2})
    for ids in ([3.0, 4.0], [Decimal(3), Decimal(4)], ["3", "4.0"]):
        trace = Trace.from_pandas(table.assign(id=ids), marks=["a", "b"], id="id")
        assert trace.frame_id.tolist() == [3, 4]
    # floats from 2**53 on may have been rounded
    for ids in ([0.5, 1.5], [2.0**53, 2.0**53 + 2]):
        trace = Trace.from_pandas(table.assign(id=ids), marks=["a", "b"], id="id")
        assert trace.tags["id"].tolist() == ids


def test_words_and_codes_of_success_are_finished_frames():
    given = ["200", "200 OK", "pass", "PASSED", "301 Moved", "404 Not Found", "500", "2000"]
    table = pd.DataFrame({"a": [EPOCH] * 8, "b": [EPOCH + 5] * 8, "status": given})
    trace = Trace.from_pandas(table, marks=["a", "b"], outcome="status")
    assert trace.outcome.to_numpy().tolist() == ["finished"] * 5 + given[5:]


def test_a_start_and_durations_give_frames_with_times(tmp_path, capsys):
    text = "at,queue_ms,work_ms\n2024-01-01T00:00:00Z,1.5,4\n2024-01-01T00:00:01Z,,5\n,1,2\n"
    where = write(tmp_path / "t.csv", text)
    trace = read(where, marks=["at"], durations=["queue_ms", "work_ms"])
    begin = pd.Timestamp("2024-01-01").value
    assert trace.marks["start"].tolist() == [begin, begin + 10**9, MISSING]
    assert trace.span("end_to_end").tolist() == [5_500_000, MISSING, MISSING]
    assert trace.span("queue_ms").tolist() == [1_500_000, MISSING, MISSING]
    assert trace.span("work_ms").tolist() == [4_000_000, 5_000_000, MISSING]
    assert main(["report", str(where), "--marks", "at", "--durations", "queue_ms,work_ms"]) == 0
    assert "since 2024-01-01T00:00:00" in capsys.readouterr().out
    assert main(["report", str(where)]) == 2
    assert "--marks at --durations queue_ms,work_ms" in capsys.readouterr().err
    numbers = write(tmp_path / "u.csv", "start_time,took\n1700000000.25,1.5\n1700000001,2\n")
    trace = read(numbers, marks=["start_time"], durations=["took"], unit="ms")
    assert trace.marks["end"].tolist() == [1_700_000_000_251_500_000, 1_700_000_001_002_000_000]
    with pytest.raises(TraceError, match=r"must end before 2\*\*62 ns"):
        read(write(tmp_path / "v.csv", "a,b\n4e9,4e9\n"), durations=["a", "b"], unit="s")


ODD_CELLS = [
    "",
    "NA",
    "5",
    "1.5",
    "x",
    "1700000000.12345678 ",
    "17000000000123456789",
    "0x1.234567890",
]


@settings(max_examples=examples(60), deadline=None)
@given(
    values=st.lists(st.integers(10**18, 2**62 - 1), min_size=2, max_size=12),
    digits=st.sampled_from([9, 6, 3, 4]),
    odd=st.sampled_from([None, *ODD_CELLS]),
    ending=st.sampled_from(["\n", "\r\n"]),
)
def test_rows_that_are_laid_out_alike_are_read_as_exactly_as_others(
    tmp_path_factory, values, digits, odd, ending
):
    values = [ns - ns % 10 ** (9 - digits) for ns in values]
    cells = [f"{ns // 10**9};{ns // 10**9}.{ns % 10**9:09d}"[: 22 + digits] for ns in values]
    if odd is not None:
        cells.append(f"1700000000;{odd}")
    where = tmp_path_factory.mktemp("alike") / "a.csv"
    write(where, ending.join(["a;b", *cells, ""]))
    trace = read(where, marks=["a", "b"], unit="s")
    known = {"": MISSING, "NA": MISSING, "5": 5 * 10**9, "1.5": 15 * 10**8}
    known["1700000000.12345678 "] = 1_700_000_000_123_456_780
    expected = [*values, *([known[odd]] if odd in known else [])]
    assert trace.marks["end"].tolist() == expected
    assert trace.marks["start"].tolist()[: len(values)] == [ns - ns % 10**9 for ns in values]


def test_odd_dialects_are_read_or_refused_and_no_row_is_lost(tmp_path):
    rows = [(1_700_000_000 + i, 1_700_000_000 + i + 0.5) for i in range(30)]
    plain = "".join(f"{a},{b}\n" for a, b in rows)
    for name, text in {
        "rows end with a delimiter": "a,b\n" + plain.replace("\n", ",\n"),
        "the names end with a delimiter": "a,b,\n" + plain,
        "both end with a delimiter": "a,b,\n" + plain.replace("\n", ",\n"),
        "a name has two lines": '"n\nm",a,b\n' + "".join(f"x,{a},{b}\n" for a, b in rows),
        "quotes within values": "a,b,c\n" + "".join(f'{a},{b},5" pipe\n' for a, b in rows),
        "a long value": f"n,a,b\n{'x' * 300_000},{rows[0][0]},{rows[0][1]}\n"
        + "".join(f"x,{a},{b}\n" for a, b in rows[1:]),
        "dates with decimal commas": "a;b\n"
        + "".join(f"2024-01-01 10:00:{i:02},0;2024-01-01 10:00:{i:02},500\n" for i in range(30)),
        "dates that end with UTC": "a,b\n"
        + "".join(
            f"2024-01-01 10:00:{i:02} UTC,2024-01-01 10:00:{i:02}.5 UTC\n" for i in range(30)
        ),
        "a mark that comes late": "a,b\n"
        + "".join(f"{1_700_000_000 + i}.0,\n" for i in range(2_000))
        + plain,
    }.items():
        trace = read(write(tmp_path / "a.csv", text), marks=["a", "b"])
        known = trace.span("end_to_end")
        assert known[known != MISSING].tolist() == [500_000_000] * 30, name
    for text, reason in (
        ("a,b,c\n" + plain.replace("\n", ",x\n").replace("04.5,x", '04.5,"x'), "one in line 6"),
        (("a,b\n" + plain).replace("\n", "\r"), "got carriage returns alone"),
    ):
        with pytest.raises(TraceError, match=reason):
            read(write(tmp_path / "a.csv", text), marks=["a", "b"])
    where = write(tmp_path / "a.csv", "a,b,a\n" + plain.replace("\n", ",7\n"))
    said = read(where, marks=["a", "b"]).meta["reading"]
    assert "several columns are named a: the first of them is taken" in said


def test_columns_of_the_same_name_in_parquet_are_refused(tmp_path):
    table = pa.table([pa.array([1]), pa.array([2]), pa.array([3])], names=["a", "b", "a"])
    pa.parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(TraceError, match="must have different names, got 'a' more than once"):
        read(tmp_path / "a.parquet", marks=["a", "b"], unit="s")


def test_rows_that_are_laid_out_alike_skip_the_parser_of_csv(tmp_path, monkeypatch):
    parsed = []

    def recorded(data, dialect, kinds, skip):
        parsed.append(kinds)
        return real(data, dialect, kinds, skip)

    real = delimited._read
    monkeypatch.setattr(delimited, "_read", recorded)
    for text in (
        "id,a,b\n7,1700000000000000001,1700000000000000002\n8,1700000000000000003,1700000000000000005\n",
        "a;b\n1700000000.000000001;1700000000.000000002\n1700000001.5000000;1700000001.6000000\n",
        "a,b\n2024-01-01T00:00:00.5Z,2024-01-01T00:00:01.5Z\n",
    ):
        parsed.clear()
        trace = read(write(tmp_path / "a.csv", text), marks=["a", "b"], tags=[])
        assert int(trace.span("end_to_end").min()) > 0
        expected = 2 if "1.6000000" in text else 1  # the last row is shorter than the first
        assert len(parsed) == expected, text  # the first rows are always parsed, as text


def test_the_short_way_and_the_parser_of_csv_agree_on_odd_files(tmp_path, monkeypatch):
    def written(kind: int, ns: int) -> str:
        if kind == 0:
            return str(ns)
        if kind < 3:
            return f"{ns // 10**9}.{ns % 10**9:09d}"[: 20 if kind == 1 else 17]
        return f"{np.datetime64(ns, 'ns')}Z" if kind == 3 else str(np.datetime64(ns, "ns"))[:23]

    short_way, taken = delimited._of_rows_alike, []

    def either(*given):
        found = short_way(*given)
        taken.append(found is not None)
        return found

    where = tmp_path / "a.csv"
    for seed in range(80):
        draw = random.Random(seed)
        kind, delimiter = draw.randrange(5), draw.choice(",;\t")
        rows = [
            [written(kind, EPOCH + draw.randrange(10**12)) for _ in range(2)] + [f"t{number:02}"]
            for number in range(draw.randrange(1, 12))
        ]
        if draw.random() < 0.6:
            row, place = draw.choice(rows), draw.randrange(3)
            text = row[place]
            odd = [
                "",
                "NA",
                "x" * len(text),
                f"{text[:-1]} ",
                text[:-1] + delimiter,
                f".{text[1:]}",
            ]
            odd += [
                f"{text[:2]}\n{text[3:]}",
                f"{text[:-1]}.",
                "1700000000000000.001",
                '"5"',
                "0x10",
            ]
            row[place] = draw.choice(odd)
        lines = [delimiter.join(row) for row in (["a", "b", "tag"], *rows)]
        ending = draw.choice(["\n", "\r\n"])
        write(where, ending.join(lines) + draw.choice(["", ending, ending, ending]))
        found = []
        for way in (either, lambda *given: None):
            monkeypatch.setattr(delimited, "_of_rows_alike", way)
            unit = {0: "ns", 1: "s", 2: "s"}.get(kind)
            try:
                trace = read(where, marks=["a", "b"], tags=[], unit=unit, max_bad=100)
                found.append((trace.frame_id.tolist(), marks_of(trace), trace.meta))
            except TraceError as error:
                found.append(str(error))
        assert found[0] == found[1], seed
    assert sum(taken) > 20
