import csv

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from traces import MIC, any_columns, check_complete, contents, mic, rich

import latprof
from latprof import AUDIO, Pipeline
from latprof.errors import LatprofError, PipelineError, TraceError
from latprof.frames import MISSING, NO_SIZE, Labels
from latprof.trace import Trace, read

LINK = Pipeline("link", ("start", "end"))


def link(start, **optional):
    """Return frames of the shortest pipeline that start so and end nowhere."""
    return Trace(LINK, frame_id=np.arange(len(start)), marks={"start": start}, **optional)


# -- what is accepted -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "start",
    [
        [0, None, -3],
        np.array([0, MISSING, -3]),
        np.array([0, MISSING, -3], ">i8"),
        np.array([0, 9, MISSING, 9, -3])[::2],
        np.array([0, "NaT", -3], "M8[ns]"),
        np.ma.array([0, 7, -3], mask=[False, True, False]),
        pd.Series([0, None, -3], dtype="Int64"),
        pd.Series([0, None, -3], dtype="int64[pyarrow]"),
        pd.Series(pd.to_datetime([0, None, -3])),
        pd.Series(pd.to_datetime([0, None, -3], utc=True)),
        pd.to_datetime([0, None, -3]),
        [pd.Timestamp(0), None, pd.Timestamp(-3)],
        [pd.Timestamp(0, tz="UTC"), pd.NaT, pd.Timestamp(-3, tz="Asia/Kolkata")],
        [np.datetime64(0, "ns"), None, np.datetime64(-3, "ns")],
    ],
    ids=lambda given: f"{type(given).__name__}-{getattr(given, 'dtype', '')}",
)
def test_marks_of_any_type_are_exact_to_the_nanosecond(start):
    trace = link(start)
    assert trace.marks["start"].tolist() == [0, MISSING, -3]
    assert trace.marks["start"].dtype == np.int64
    assert trace.marks["end"].tolist() == [MISSING] * 3


@pytest.mark.parametrize(
    ("unit", "ns"),
    [
        ("Y", 31_536_000 * 10**9),  # 1971
        ("M", 31 * 86_400 * 10**9),  # February
        ("W", 7 * 86_400 * 10**9),
        ("D", 86_400 * 10**9),
        ("h", 3600 * 10**9),
        ("m", 60 * 10**9),
        ("s", 10**9),
        ("ms", 10**6),
        ("us", 1000),
        ("10us", 10_000),
        ("ns", 1),
    ],
)
def test_datetimes_of_any_unit(unit, ns):
    start = np.array([1, "NaT", 0], f"M8[{unit}]")
    assert link(start).marks["start"].tolist() == [ns, MISSING, 0]


def test_datetimes_finer_than_a_nanosecond():
    assert link(np.array([2000, "NaT"], "M8[ps]")).marks["start"].tolist() == [2, MISSING]
    with pytest.raises(TraceError, match=r"mark 'start' must be whole nanoseconds, got .*; round"):
        link(np.array([2001], "M8[ps]"))


def refused(reason, call):
    """Assert that `call` raises a TraceError of one short printable line that matches `reason`."""
    with pytest.raises(TraceError, match=reason) as caught:
        call()
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400
    assert caught.value.__cause__ is None


def test_marks_that_are_refused():
    stamp = "mark 'start' must be"
    for start, reason in [
        ([0.5], f"{stamp} int64 ns or datetime64, got float64; floats do not hold"),
        (np.array([1.0]), f"{stamp} int64 ns or datetime64, got float64; floats do not hold"),
        ([True], f"{stamp} int64 ns or datetime64, got bool"),
        (["2024-01-01"], f"{stamp} numbers or times, got string"),
        ([1, "a"], f"{stamp} values of one type"),
        ([[1]], f"{stamp} (values of one type|numbers or times, got list)"),
        (np.zeros((1, 1), int), rf"{stamp} a 1-D array, got shape \(1, 1\)"),
        ("now", f"{stamp} a sequence with a value per row, got 'now'"),
        (7, f"{stamp} a sequence with a value per row, got 7"),
        ([2**62], rf"{stamp} between .* \(the years 1824 to 2116\), got 4611686018427387904"),
        ([-(2**62)], f"{stamp} between .*, got -4611686018427387904"),
        ([MISSING + 1], f"{stamp} between .*, got -9223372036854775807"),
        (np.array([2**63], np.uint64), f"{stamp} between .*, got 9223372036854775808"),
        ([2**64], "mark 'start' must fit 64 bits, got 18446744073709551616"),
        (np.array([10**12], "M8[s]"), f"{stamp} between .*, got 33658-09-27"),
        (np.array([3000], "M8[Y]"), f"{stamp} between .*, got 4970"),
        (np.array(["NaT"], "M8"), f"{stamp} a datetime64 with a unit"),
        ([1, 2], r"mark 'start' must have as many rows as frame_id \(1\), got 2"),
    ]:
        refused(reason, lambda start=start: Trace(LINK, frame_id=[0], marks={"start": start}))


def test_ids_that_are_refused():
    for ids, reason in [
        ([-1], "frame_id must be from 0 to 18446744073709551615, got -1"),
        ([0, 2**64], "frame_id must fit 64 bits, got 18446744073709551616 among .* from 0 to"),
        ([-1, 2**63], "frame_id must fit 64 bits, got 9223372036854775808 among .* from -1 to"),
        ([2**64], "frame_id must fit 64 bits, got 18446744073709551616"),
        ([10**5000], "frame_id must fit 64 bits, got <int>"),
        ([1.0], "frame_id must be integers, got float64"),
        ([None], "frame_id must not be missing, got 1 of 1 rows without an id"),
        (["a"], "frame_id must be numbers or times, got string"),
        ([True], "frame_id must be integers, got bool"),
        ([[1]], "frame_id"),
        (None, "frame_id must be a sequence with a value per row, got None"),
    ]:
        refused(reason, lambda ids=ids: Trace(LINK, frame_id=ids, marks={}))


def test_ids_up_to_the_largest():
    for ids in ([0, 2**64 - 1], np.array([0, 2**64 - 1], np.uint64)):
        assert Trace(LINK, frame_id=ids, marks={}).frame_id.tolist() == [0, 2**64 - 1]
    assert Trace(LINK, frame_id=np.array([3, 4], np.int8), marks={}).frame_id.dtype == np.uint64


@pytest.mark.parametrize(
    "size",
    [
        [960, None, 0],
        [960.0, np.nan, 0.0],
        np.array([960, NO_SIZE, 0]),
        np.ma.array([960, 1, 0], mask=[False, True, False]),
        pd.Series([960, None, 0], dtype="Int32"),
    ],
)
def test_sizes(size):
    assert link([1, 2, 3], size=size).size.tolist() == [960, NO_SIZE, 0]


def test_one_value_for_all_frames():
    trace = link([1, 2], size=960, source="input", outcome="late")
    assert trace.size.tolist() == [960, 960]
    assert trace.source.counts() == {"input": 2}
    assert trace.outcome.counts() == {"late": 2}


def test_sizes_that_are_refused():
    for size, reason in [
        ([-1, 0], "size must be from 0 to 4294967295, got -1"),
        ([2**32, 0], "size must be from 0 to 4294967295, got 4294967296"),
        ([0.5, 0], "size must be integers, got float64; latprof does not round"),
        (["a", "b"], "size must be numbers or times, got string"),
        ("a", "size must be numbers or times, got string"),
        (-1, "size must be from 0 to 4294967295, got -1"),
        ([1], r"size must have as many rows as frame_id \(2\), got 1"),
    ]:
        refused(reason, lambda size=size: link([1, 2], size=size))


@pytest.mark.parametrize(
    "names",
    [
        ["b", None, "a"],
        ("b", None, "a"),
        np.array(["b", None, "a"], object),
        pd.Series(["b", None, "a"]),
        pd.Series(["b", None, "a"], dtype="category"),
        pd.Categorical(["b", None, "a"]),
        Labels.encode(["b", None, "a"]),
    ],
)
def test_names(names):
    trace = link([1, 2, 3], source=names, tags={"room": names})
    assert trace.source.to_numpy().tolist() == ["b", None, "a"]
    assert trace.tags["room"].to_numpy().tolist() == ["b", None, "a"]


def test_columns_that_are_refused():
    for optional, reason in [
        ({"source": [1.5, 2.5]}, "source must be text, got double"),
        ({"source": ["a"]}, "source must have as many rows as frame_id"),
        ({"source": Labels(np.array([0, 1], np.int32), ("a",))}, "codes of source must be .* from"),
        ({"source": ["a", 1]}, "source must be values of one type"),
        ({"outcome": 7}, "outcome must be a sequence with a value per row, got 7"),
        ({"cpu": ["a", "b"]}, "cpu must be numbers or times, got string"),
        ({"rss": [-1, 0]}, "rss must be from 0 to 18446744073709551615, got -1"),
        ({"weight": [0, 1]}, "weight must be from 1 to 4294967295, got 0"),
        ({"tags": {"room": [1]}}, "tag 'room' must have as many rows as frame_id"),
        ({"tags": {"room": [[1], [2]]}}, r"tag 'room' must be numbers or times, got list<"),
        ({"tags": {"room": [object(), 1]}}, "tag 'room' must be values of one type"),
        ({"tags": {"two words": [1, 2]}}, "tag must be an identifier .*, got 'two words'"),
        ({"tags": {"seq": [1, 2]}}, "tag must not be a reserved name .*, got 'seq'"),
        ({"tags": {"work_latency": [1, 2]}}, "tag must not be a reserved name .*'work_latency'"),
        ({"tags": {"end": [1, 2]}}, "tag 'end' must not be a mark of the pipeline"),
        ({"tags": {"End": [1, 2]}}, "tag 'End' must differ from 'end' by more than case"),
        ({"tags": {"Size": [1, 2]}}, "tag must not be a reserved name .*'Size'"),
        ({"tags": {"a": [1, 2], "A": [1, 2]}}, "tag 'a' must differ from 'A' by more than case"),
        ({"tags": {1: [1, 2]}}, "tag must be an identifier .*, got 1"),
        ({"tags": [1, 2]}, r"tags must be a dict of arrays, got \[1, 2\]"),
        ({"meta": {"lost": -1}}, "metadata 'lost' must be an integer of 0 or more, got -1"),
        ({"meta": {"x": {1, 2}}}, "meta must contain JSON values only"),
        ({"meta": [1]}, r"meta must be a dict, got \[1\]"),
    ]:
        refused(reason, lambda optional=optional: link([1, 2], **optional))


def test_lone_surrogates_are_accepted_and_saved_escaped(tmp_path):
    # as os.fsdecode makes of a file name that is not UTF-8
    name = "a\udc80"
    series = pd.Series([name, name], dtype=object)
    for names in ([name, name], (name, name), np.array([name, name]), series):
        trace = link([1, 2], source=names, outcome=name, tags={"room": names})
        trace.save(tmp_path / "t.parquet")
        found = read(tmp_path / "t.parquet")
        for labels in (found.source, found.outcome, found.tags["room"]):
            assert labels.counts() == {r"a\udc80": 2}


def test_wrong_marks_and_pipelines_are_refused():
    for reason, options in [
        (
            r"marks must be those of pipeline 'link' \(start, end\), got 'ned'",
            {"marks": {"ned": [1]}},
        ),
        (r"marks must be a dict of arrays, got \[1\]", {"marks": [1]}),
    ]:
        refused(reason, lambda options=options: Trace(LINK, frame_id=[1], **options))
    refused(
        r"pipeline must be a Pipeline \(for example latprof.AUDIO\), got 'link'",
        lambda: Trace("link", frame_id=[1], marks={}),
    )


def test_complete_marks_are_known():
    assert mic(3).columns.complete == set(MIC.marks)
    assert link([1, MISSING]).columns.complete == set()
    check_complete(rich().columns)


def test_of_keeps_the_columns_without_a_copy():
    columns = mic(3).columns
    assert Trace.of(MIC, columns).columns is columns
    assert Trace.of(MIC, columns).meta == {}


def test_repr():
    assert repr(mic(3)) == "<Trace of mic: 3 frames in 40.0 ms>"
    assert repr(mic(1, source="a\x1b")) == r"<Trace of mic: 1 frame in 0 ns, sources a\x1b>"
    assert repr(link([])) == "<Trace of link: 0 frames>"
    many = mic(5, source=list("abcde"))
    assert repr(many) == "<Trace of mic: 5 frames in 80.0 ms, sources a, b, c, ...>"


def test_print_shows_the_first_frames_as_a_table():
    start = np.arange(7) * 10
    marks = {"start": start, "end": start + 5}
    trace = Trace(LINK, frame_id=np.arange(7), marks=marks)
    lines = str(trace).splitlines()
    assert lines[0] == "Trace of link: 7 frames in 60 ns"
    assert lines[2].split() == ["frame_id", "other", "end_to_end"]
    assert lines[3].split() == ["0", "5", "ns", "5", "ns"]
    assert len(lines) == 9
    assert lines[-1] == "and 2 more frames"


# -- spans ----------------------------------------------------------------------------------------


def test_spans_by_hand():
    # mic: decode - start is other; stages decode (to play), play (to end)
    marks = {
        "start": [0, 0, MISSING, 0, 9],
        "decode": [1, MISSING, 1, 1, 1],
        "play": [5, 5, 5, MISSING, 5],
        "end": [9, 9, 9, 9, 0],
    }
    trace = mic(5, marks={mark: np.array(ns) for mark, ns in marks.items()})
    assert trace.span("decode").tolist() == [4, MISSING, 4, MISSING, 4]
    assert trace.span("play").tolist() == [4, 4, 4, MISSING, -5]
    assert trace.span("end_to_end").tolist() == [9, 9, MISSING, 9, -9]
    # 9-4-4; decode missing: 9-4; no end_to_end; both missing: 9; -9-4+5
    assert trace.span("other").tolist() == [1, 5, MISSING, 9, -8]
    with pytest.raises(PipelineError, match=r"must be one of decode, play, end_to_end, got 'nope'"):
        trace.span("nope")


@settings(deadline=None)
@given(any_columns(AUDIO))
def test_spans_are_those_of_a_loop(columns):
    trace = Trace.of(AUDIO, columns)
    for name in AUDIO.span_names:
        found = trace.span(name).tolist()
        for i, ns in enumerate(found):
            at = {mark: int(column[i]) for mark, column in columns.marks.items()}
            assert ns == loop_span(at, name)


def loop_span(at, name):
    def length(begin, end):
        return None if MISSING in (at[begin], at[end]) else at[end] - at[begin]

    if name != "other":
        span = AUDIO.span(name)
        found = length(span.begin, span.end)
    else:
        found = length("start", "end")
        if found is not None:
            found -= sum(length(stage.begin, stage.end) or 0 for stage in AUDIO.stages)
            # as 64 bits give it: only stamps further apart than 2**63 ns would differ
            found = (found + 2**63) % 2**64 - 2**63
    return MISSING if found is None else found


# -- selection ------------------------------------------------------------------------------------


def test_select_by_mask_source_and_outcome():
    trace = mic(6, source=list("ababab"), outcome=["late", None, "finished", "late", None, None])
    assert trace.select([True, False, False, True, False, False]).frame_id.tolist() == [0, 3]
    assert trace.select(trace.frame_id > 3).frame_id.tolist() == [4, 5]
    assert trace.select(source="a").frame_id.tolist() == [0, 2, 4]
    assert trace.select(source="c").frame_id.tolist() == []
    assert trace.select(outcome="late").frame_id.tolist() == [0, 3]
    assert trace.select(outcome="finished").frame_id.tolist() == [1, 2, 4, 5]
    assert trace.select(source="b", outcome="late").frame_id.tolist() == [3]
    assert len(mic(3).select(outcome="finished")) == 3
    assert len(mic(3).select(outcome="late")) == 0
    assert len(mic(3).select(source="a")) == 0
    assert len(mic(3).select()) == 3


def test_select_refuses_a_wrong_mask():
    for mask in ([1, 0, 1], [True], [[True] * 3], True, np.array([0, 1, 2])):
        refused(r"mask must be bools of shape \(3,\), got", lambda mask=mask: mic(3).select(mask))


SECOND = 1_700_000_000_000_000_000  # 2023-11-14T22:13:20Z


def test_select_by_time_is_half_open():
    trace = link([SECOND, SECOND + 1_499, SECOND + 1_500, SECOND + 1_501, MISSING])
    for moment in (
        SECOND + 1_500,
        np.datetime64(SECOND + 1_500, "ns"),
        "2023-11-14T22:13:20.0000015",
    ):
        assert trace.select(since=moment).frame_id.tolist() == [2, 3]
        assert trace.select(until=moment).frame_id.tolist() == [0, 1]
        assert trace.select(since=moment, until=moment).frame_id.tolist() == []


def test_select_by_day():
    assert link([0, 86_400 * 10**9]).select(since="1970-01-02").frame_id.tolist() == [1]
    assert link([-1, 0]).select(since="1969-12-31T23:59:59.999999999Z").frame_id.tolist() == [0, 1]


def test_select_refuses_what_is_not_a_time():
    for moment in ("noon", 1.5, True, 2**62, b"2023-01-01", "\x1b"):
        refused("since must be a time .*, got", lambda moment=moment: mic(3).select(since=moment))


def test_select_keeps_meta_of_its_own():
    trace = mic(3, meta={"lost": 1})
    part = trace.select(since=0)
    part.meta["lost"] = 2
    assert trace.meta == {"lost": 1}


# -- in and out -----------------------------------------------------------------------------------


def test_save_adds_host_time_and_versions(tmp_path):
    trace = mic(3, meta={"host": "device"})
    trace.save(tmp_path / "t.parquet")
    meta = read(tmp_path / "t.parquet").meta
    assert meta.keys() == {"host", "created", "python", "latprof"}
    assert meta["host"] == "device"
    assert trace.meta == {"host": "device"}


def test_read_accepts_text_and_paths(tmp_path):
    mic(3).save(str(tmp_path / "t.parquet"))
    assert contents(read(str(tmp_path / "t.parquet"))) == contents(mic(3))


def test_to_pandas():
    table = rich(10).to_pandas()
    optional = ["size", "source", "outcome", "cpu", "rss", "weight"]
    tags = ["room", "level", "number", "quiet", "heard"]
    latencies = [f"{name}_latency" for name in ("decode", "play", "other", "end_to_end")]
    assert table.columns.tolist() == ["frame_id", *MIC.marks, *optional, *tags, *latencies]
    assert table["start"].dtype == "datetime64[ns]"
    assert table["decode"].isna().tolist() == [i % 7 == 0 for i in range(10)]
    assert str(table["size"].dtype) == "UInt32"
    assert table["size"].isna().tolist() == [i % 5 == 0 for i in range(10)]
    assert str(table["source"].dtype) == "category"
    assert table["play_latency"].dtype == "timedelta64[ns]"
    assert table["play_latency"][1] == pd.Timedelta(896)
    assert pd.isna(table["end_to_end_latency"][0])


def test_pandas_round_trip():
    trace = rich(50)
    again = Trace.from_pandas(trace.to_pandas(), MIC)
    assert contents(again) == contents(trace)
    assert again.meta == {}


@settings(deadline=None)
@given(any_columns())
def test_pandas_round_trip_of_anything(columns):
    table = Trace.of(MIC, columns).to_pandas()
    again = contents(Trace.from_pandas(table, MIC))
    wanted = contents(columns)
    if columns.cpu is not None and not len(columns):
        wanted["cpu"] = again["cpu"]
    assert again == wanted


def test_from_pandas_accepts_ids_in_the_index_and_times_of_any_unit():
    table = pd.DataFrame(
        {"end": [5, 6], "start": pd.to_datetime([1, None], unit="s"), "odd": [{}, []]},
        index=pd.Index([7, 8], name="frame_id"),
    )
    trace = Trace.from_pandas(table, LINK)
    assert trace.frame_id.tolist() == [7, 8]
    assert trace.marks["start"].tolist() == [10**9, MISSING]
    assert trace.marks["end"].tolist() == [5, 6]
    assert list(trace.meta["dropped_columns"]) == ["odd"]


def test_a_mark_without_a_column_is_missing_in_all_frames(tmp_path):
    table = pd.DataFrame({"frame_id": [7, 8], "start": [1, 2], "end": [5, 6]})
    trace = Trace.from_pandas(table, MIC)
    assert trace.marks["play"].tolist() == [MISSING, MISSING]
    assert latprof.analyze(trace)["end_to_end"].mean == 4.0
    assert latprof.analyze(trace)["play"].missing == 2
    trace.save(tmp_path / "t.parquet")
    assert latprof.read(tmp_path / "t.parquet").marks["play"].tolist() == [MISSING, MISSING]


def test_save_refuses_a_name_of_a_csv_file(tmp_path):
    trace = Trace.from_pandas(pd.DataFrame({"frame_id": [7], "start": [1], "end": [5]}), LINK)
    refused(
        r"path must not end in .csv, got .*t.csv; use to_csv",
        lambda: trace.save(tmp_path / "t.csv"),
    )
    assert list(tmp_path.iterdir()) == []


def test_swapped_arguments_of_from_pandas_are_named_by_their_types():
    table = pd.DataFrame({"frame_id": [7], "start": [1], "end": [5]})
    with pytest.raises(LatprofError, match=r"got DataFrame; the DataFrame comes first$"):
        Trace.from_pandas(LINK, table)


def test_from_pandas_refuses_a_table_that_is_not_a_trace():
    for table, reason in [
        ({"start": [1]}, "the table must have a column 'frame_id', got 'start'; .*len.table"),
        ({"frame_id": [1]}, r"the table must have a mark of pipeline 'link' \(start, end\)"),
        ({"frame_id": [1.5], "end": [1]}, "frame_id must be integers, got double|float64"),
        ({"frame_id": [1], "end": [1.5]}, "mark 'end' must be int64 ns .*floats .*unit=.s"),
        ({"frame_id": [1], "end": ["1"]}, "mark 'end' must be numbers or times.*pd.to_datetime"),
        ({"frame_id": [1], "end": [{}]}, "mark 'end' must be numbers or times"),
        ({"frame_id": [1], "end": [1], "End": [1]}, "must differ by more than case"),
    ]:
        refused(reason, lambda table=table: Trace.from_pandas(pd.DataFrame(table), LINK))


def test_the_remedies_for_a_table_that_is_not_a_trace_make_it_one():
    seconds = pd.DataFrame({"start": [1.0], "end": ["1970-01-01T00:00:03"]})
    seconds["frame_id"] = range(len(seconds))
    seconds["start"] = pd.to_datetime(seconds["start"], unit="s")
    seconds["end"] = pd.to_datetime(seconds["end"])
    trace = Trace.from_pandas(seconds, LINK)
    assert trace.frame_id.tolist() == [0]
    assert trace.span("end_to_end").tolist() == [2 * 10**9]


def test_to_csv(tmp_path):
    path = tmp_path / "t.csv"
    names = ["=1+1", 'a,"b"\n']
    trace = Trace(
        MIC,
        frame_id=[1, 2**64 - 1],
        marks={"start": [0, -5], "play": [7, MISSING], "end": [9, 2**62 - 1]},
        size=[960, None],
        source=names,
        tags={"room": ["-", None], "level": [0.5, np.nan], "at": np.array([3, "NaT"], "M8[ns]")},
    )
    trace.to_csv(path)
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        *("frame_id", "start", "decode", "play", "end", "size", "source", "room", "level", "at"),
        *("decode_latency", "play_latency", "other_latency", "end_to_end_latency"),
    ]
    assert list(rows[0].values()) == [
        *("1", "0", "", "7", "9", "960", "'=1+1", "'-", "0.5", "3"),
        *("", "2", "7", "9"),
    ]
    assert list(rows[1].values()) == [
        *("18446744073709551615", "-5", "", "", "4611686018427387903", "", names[1], "", "", ""),
        *("", "", "4611686018427387908", "4611686018427387908"),
    ]


def test_to_csv_writes_no_formula(tmp_path):
    for name in ("=1", "+1", "-1", "@a", "\t=1", "\r=1", "\n=1", "\uff1d1"):
        mic(1, source=name).to_csv(tmp_path / "t.csv")
        with open(tmp_path / "t.csv", newline="") as file:
            assert next(csv.DictReader(file))["source"] == f"'{name}"


def test_to_csv_of_no_frames_and_of_many(tmp_path, monkeypatch):
    link([]).to_csv(tmp_path / "t.csv")
    assert (
        tmp_path / "t.csv"
    ).read_text() == '"frame_id","start","end","other_latency","end_to_end_latency"\n'
    rich(20).to_csv(tmp_path / "whole.csv")
    monkeypatch.setattr("latprof.io.csv_writer._CSV_ROWS", 7)
    rich(20).to_csv(tmp_path / "parts.csv")
    assert (tmp_path / "parts.csv").read_text() == (tmp_path / "whole.csv").read_text()
    table = pd.read_csv(tmp_path / "parts.csv", dtype={"decode": "Int64", "end": "Int64"})
    again = Trace.from_pandas(table[["frame_id", *MIC.marks]], MIC)
    assert {m: ns.tolist() for m, ns in again.marks.items()} == {
        m: ns.tolist() for m, ns in rich(20).marks.items()
    }


def test_to_csv_names_the_file_that_cannot_be_written(tmp_path):
    refused(
        r"t.csv: cannot be written: No such file or directory; check the path",
        lambda: mic(1).to_csv(tmp_path / "missing" / "t.csv"),
    )


def test_a_dataframe_is_refused_with_what_makes_a_trace_of_it():
    table = Trace(MIC, frame_id=[1], marks={"start": [1], "end": [2]}).to_pandas()
    for call in (
        lambda: latprof.read(table),
        lambda: latprof.join(table),
        lambda: latprof.join([table]),
    ):
        refused(r"latprof\.Trace\.from_pandas\(table, pipeline\) makes a trace of", call)


def test_read_takes_one_path():
    for path in (mic(1), ["a.parquet"], 7, None, b"a.parquet"):
        refused("path must be the path of one file, got .*analyze", lambda path=path: read(path))
