import csv
import datetime as dt

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from traces import MIC, any_columns, check_complete, contents, mic, rich

import latprof
from latprof import AUDIO, Pipeline, spans
from latprof.errors import PipelineError, TraceError
from latprof.frames import MISSING, NO_SIZE, Labels
from latprof.trace import Trace, read

LINK = Pipeline("link", ("start", "end"))


def link(start, **optional):
    """Return frames of the shortest pipeline that start so and end nowhere."""
    return Trace(LINK, frame_id=np.arange(len(start)), marks={"start": start}, **optional)


# -- what it takes --------------------------------------------------------------------------------


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
def test_marks_are_taken_to_the_nanosecond(start):
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
    with pytest.raises(TraceError, match="mark 'start' is finer than a nanosecond: round it"):
        link(np.array([2001], "M8[ps]"))


@pytest.mark.parametrize(
    ("start", "reason"),
    [
        ([0.5], "is float64: a float cannot hold today's time to the nanosecond"),
        (np.array([1.0]), "is float64: a float cannot hold"),
        ([True], "is bool: give int64 ns or datetime64"),
        (["2024-01-01"], "is string: give numbers"),
        ([1, "a"], "cannot be taken"),
        ([[1]], "cannot be taken|is list"),
        (np.zeros((1, 1), int), r"has shape \(1, 1\): give a 1-D array"),
        ("now", "is str: give a sequence"),
        (7, "is int: give a sequence"),
        ([2**62], "4611686018427387904 cannot be kept: stamps are nanoseconds between"),
        ([-(2**62)], "-4611686018427387904 cannot be kept"),
        ([MISSING + 1], "-9223372036854775807 cannot be kept"),
        (np.array([2**63], np.uint64), "9223372036854775808 cannot be kept"),
        ([2**64], "18446744073709551616 cannot be kept"),
        (np.array([10**12], "M8[s]"), "is not between the years 1824 and 2116"),
        (np.array([3000], "M8[Y]"), "is not between the years"),
        (np.array(["NaT"], "M8"), "is datetime64 without a unit"),
        ([1, 2], r"has 2 rows and frame_id has 1: give arrays of one length"),
    ],
)
def test_marks_that_cannot_be_kept(start, reason):
    with pytest.raises(TraceError, match=reason):
        Trace(LINK, frame_id=[0], marks={"start": start})


@pytest.mark.parametrize(
    ("ids", "reason"),
    [
        ([-1], "frame_id -1 cannot be kept: give integers from 0 to 18446744073709551615"),
        ([0, 2**64], "frame_id 18446744073709551616 cannot be kept: no 64 bits hold 0 to"),
        ([-1, 2**63], "frame_id 9223372036854775808 cannot be kept: no 64 bits hold -1 to"),
        ([2**64], "frame_id 18446744073709551616 cannot be kept"),
        ([1.0], "frame_id is float64: give integers"),
        ([None], "frame_id is missing in 1 of 1 rows"),
        (["a"], "frame_id is string"),
        ([True], "frame_id is bool"),
        ([[1]], "frame_id"),
        (None, "frame_id is NoneType: give a sequence"),
    ],
)
def test_ids_that_cannot_be_kept(ids, reason):
    with pytest.raises(TraceError, match=reason):
        Trace(LINK, frame_id=ids, marks={})


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


@pytest.mark.parametrize(
    ("size", "reason"),
    [
        ([-1, 0], "size -1 cannot be kept"),
        ([2**32, 0], "size 4294967296 cannot be kept"),
        ([0.5, 0], "size is float64: give integers"),
        (["a", "b"], "size is string: give numbers"),
        ("a", "size is string: give numbers"),
        (-1, "size -1 cannot be kept"),
        ([1], "size has 1 rows and frame_id has 2"),
    ],
)
def test_sizes_that_cannot_be_kept(size, reason):
    with pytest.raises(TraceError, match=reason):
        link([1, 2], size=size)


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


@pytest.mark.parametrize(
    ("optional", "reason"),
    [
        ({"source": [1.5, 2.5]}, "source is double: give text"),
        ({"source": ["a"]}, "source has 1 rows"),
        ({"source": Labels(np.array([0, 1], np.int32), ("a",))}, "source has codes outside its"),
        ({"source": ["a", 1]}, "source cannot be taken"),
        ({"source": "a\udc80"}, None),
        ({"outcome": 7}, "outcome is int: give a sequence"),
        ({"cpu": ["a", "b"]}, "cpu is string: give numbers"),
        ({"rss": [-1, 0]}, "rss -1 cannot be kept"),
        ({"weight": [0, 1]}, "weight 0 cannot be kept: give integers from 1"),
        ({"tags": {"room": [1]}}, "tag 'room' has 1 rows"),
        ({"tags": {"room": [[1], [2]]}}, r"tag 'room' is list<"),
        ({"tags": {"room": [object(), 1]}}, "tag 'room' cannot be taken"),
        ({"tags": {"two words": [1, 2]}}, "tag 'two words' is no identifier"),
        ({"tags": {"seq": [1, 2]}}, "tag 'seq' is reserved"),
        ({"tags": {"work_latency": [1, 2]}}, "tag 'work_latency' is reserved"),
        ({"tags": {"end": [1, 2]}}, "tag 'end' is a mark of the pipeline"),
        ({"tags": {"End": [1, 2]}}, "tag 'End' and 'end' differ by case alone"),
        ({"tags": {"Size": [1, 2]}}, "tag 'Size' is reserved"),
        ({"tags": {"a": [1, 2], "A": [1, 2]}}, "tag 'a' and 'A' differ by case alone"),
        ({"tags": {1: [1, 2]}}, "tag 1 is no identifier"),
        ({"tags": [1, 2]}, "tags is list: give a dict"),
        ({"meta": {"lost": -1}}, "metadata lost is -1"),
        ({"meta": {"x": {1, 2}}}, "meta cannot be written as JSON"),
    ],
)
def test_columns_that_cannot_be_kept(tmp_path, optional, reason):
    if reason is None:  # odd but harmless: it is written escaped
        link([1, 2], **optional).save(tmp_path / "t.parquet")
        assert read(tmp_path / "t.parquet").source.names == (r"a\udc80",)
        return
    with pytest.raises(TraceError, match=reason):
        link([1, 2], **optional)


def test_marks_that_the_pipeline_does_not_have():
    with pytest.raises(TraceError, match=r"'ned' is no mark of pipeline 'link': use start, end"):
        Trace(LINK, frame_id=[1], marks={"ned": [1]})
    with pytest.raises(TraceError, match="marks is list: give a dict of arrays"):
        Trace(LINK, frame_id=[1], marks=[1])
    with pytest.raises(TraceError, match="pipeline is str: give a Pipeline"):
        Trace("link", frame_id=[1], marks={})


def test_complete_marks_are_known():
    assert mic(3).columns.complete == set(MIC.marks)
    assert link([1, MISSING]).columns.complete == set()
    check_complete(rich().columns)


def test_of_takes_columns_as_they_are():
    columns = mic(3).columns
    assert Trace.of(MIC, columns).columns is columns
    assert Trace.of(MIC, columns).meta == {}


def test_repr():
    assert repr(mic(3)) == "<Trace of 'mic': 3 frames in 40.0 ms>"
    assert repr(mic(1, source="a\x1b")) == r"<Trace of 'mic': 1 frame in 0 ns, sources a\x1b>"
    assert repr(link([])) == "<Trace of 'link': 0 frames>"
    many = mic(5, source=list("abcde"))
    assert repr(many) == "<Trace of 'mic': 5 frames in 80.0 ms, sources a, b, c, ...>"


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
    with pytest.raises(PipelineError, match="pipeline 'mic' has no span 'nope'"):
        trace.span("nope")


@settings(deadline=None)
@given(any_columns(AUDIO))
def test_spans_are_those_of_a_loop(columns):
    trace = Trace.of(AUDIO, columns)
    for name in spans.names(AUDIO):
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


@pytest.mark.parametrize("mask", [[1, 0, 1], [True], [[True] * 3], True, np.array([0, 1, 2])])
def test_select_refuses_a_wrong_mask(mask):
    with pytest.raises(TraceError, match=r"give bools of shape \(3,\)"):
        mic(3).select(mask)


SECOND = 1_700_000_000_000_000_000  # 2023-11-14T22:13:20Z


@pytest.mark.parametrize(
    "moment",
    [
        SECOND + 1_500,
        np.int64(SECOND + 1_500),
        np.datetime64(SECOND + 1_500, "ns"),
        pd.Timestamp(SECOND + 1_500),
        pd.Timestamp(SECOND + 1_500, tz="UTC").tz_convert("Asia/Kolkata"),
        "2023-11-14T22:13:20.0000015Z",
        "2023-11-14 22:13:20.000001500",
        "2023-11-15T03:43:20.0000015+05:30",
    ],
)
def test_select_by_time_is_half_open(moment):
    trace = link([SECOND, SECOND + 1_499, SECOND + 1_500, SECOND + 1_501, MISSING])
    assert trace.select(since=moment).frame_id.tolist() == [2, 3]
    assert trace.select(until=moment).frame_id.tolist() == [0, 1]
    assert trace.select(since=moment, until=moment).frame_id.tolist() == []


@pytest.mark.parametrize(
    "moment",
    [
        dt.datetime(2023, 11, 14, 22, 13, 20),
        dt.datetime(2023, 11, 14, 22, 13, 20, tzinfo=dt.UTC),
        dt.datetime(2023, 11, 15, 0, 13, 20, tzinfo=dt.timezone(dt.timedelta(hours=2))),
        np.datetime64("2023-11-14T22:13:20", "s"),
        "2023-11-14T22:13:20",
    ],
)
def test_select_by_times_of_seconds(moment):
    assert link([SECOND - 1, SECOND]).select(since=moment).frame_id.tolist() == [1]


def test_select_by_day():
    assert link([0, 86_400 * 10**9]).select(since="1970-01-02").frame_id.tolist() == [1]
    assert link([-1, 0]).select(since="1969-12-31T23:59:59.999999999Z").frame_id.tolist() == [0, 1]


@pytest.mark.parametrize(
    "moment", ["noon", "2023-13-01", 1.5, True, 2**62, np.datetime64("NaT"), b"2023-01-01", "\x1b"]
)
def test_select_refuses_what_is_no_time(moment):
    with pytest.raises(TraceError, match=r"since .* is no time: give integer ns UTC") as caught:
        mic(3).select(since=moment)
    assert str(caught.value).isprintable()


def test_select_keeps_meta_of_its_own():
    trace = mic(3, meta={"lost": 1})
    part = trace.select(since=0)
    part.meta["lost"] = 2
    assert trace.meta == {"lost": 1}


# -- in and out -----------------------------------------------------------------------------------


def test_save_says_where_it_is_from(tmp_path):
    trace = mic(3, meta={"host": "device"})
    trace.save(tmp_path / "t.parquet")
    meta = read(tmp_path / "t.parquet").meta
    assert meta.keys() == {"host", "created", "python", "latprof"}
    assert meta["host"] == "device"
    assert trace.meta == {"host": "device"}


def test_read_takes_text_and_paths(tmp_path):
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


def test_from_pandas_takes_ids_from_the_index_and_times_as_they_come():
    table = pd.DataFrame(
        {"end": [5, 6], "start": pd.to_datetime([1, None], unit="s"), "odd": [{}, []]},
        index=pd.Index([7, 8], name="frame_id"),
    )
    trace = Trace.from_pandas(table, LINK)
    assert trace.frame_id.tolist() == [7, 8]
    assert trace.marks["start"].tolist() == [10**9, MISSING]
    assert trace.marks["end"].tolist() == [5, 6]
    assert list(trace.meta["dropped_columns"]) == ["odd"]


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ({"start": [1]}, "has no column 'frame_id'"),
        ({"frame_id": [1]}, "has none of the marks start, end"),
        ({"frame_id": [1.5], "end": [1]}, "frame_id is float64"),
        ({"frame_id": [1], "end": [1.5]}, "mark 'end' is float64: a float cannot hold"),
        ({"frame_id": [1], "end": ["1"]}, "mark 'end' is "),
        ({"frame_id": [1], "end": [{}]}, "mark 'end' is "),
        ({"frame_id": [1], "end": [1], "End": [1]}, "differs from 'end' by case alone"),
    ],
)
def test_from_pandas_refuses(table, reason):
    with pytest.raises(TraceError, match=reason):
        Trace.from_pandas(pd.DataFrame(table), LINK)


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


@pytest.mark.parametrize("name", ["=1", "+1", "-1", "@a", "\t=1", "\r=1", "\n=1", "\uff1d1"])
def test_to_csv_writes_no_formula(tmp_path, name):
    mic(1, source=name).to_csv(tmp_path / "t.csv")
    with open(tmp_path / "t.csv", newline="") as file:
        assert next(csv.DictReader(file))["source"] == f"'{name}"


def test_to_csv_of_no_frames_and_of_many(tmp_path, monkeypatch):
    from latprof.io import tables

    link([]).to_csv(tmp_path / "t.csv")
    assert (
        tmp_path / "t.csv"
    ).read_text() == '"frame_id","start","end","other_latency","end_to_end_latency"\n'
    rich(20).to_csv(tmp_path / "whole.csv")
    monkeypatch.setattr(tables, "_CSV_ROWS", 7)
    rich(20).to_csv(tmp_path / "parts.csv")
    assert (tmp_path / "parts.csv").read_text() == (tmp_path / "whole.csv").read_text()
    table = pd.read_csv(tmp_path / "parts.csv", dtype={"decode": "Int64", "end": "Int64"})
    again = Trace.from_pandas(table[["frame_id", *MIC.marks]], MIC)
    assert {m: ns.tolist() for m, ns in again.marks.items()} == {
        m: ns.tolist() for m, ns in rich(20).marks.items()
    }


def test_to_csv_that_cannot_be_written(tmp_path):
    with pytest.raises(
        TraceError, match=r"t.csv cannot be written: No such file or directory: check"
    ):
        mic(1).to_csv(tmp_path / "missing" / "t.csv")


@pytest.mark.parametrize("take", [latprof.read, latprof.join])
def test_a_dataframe_is_made_a_trace_first(take):
    table = Trace(MIC, frame_id=[1], marks={"start": [1], "end": [2]}).to_pandas()
    for one in (table, [table]) if take is not latprof.read else (table,):
        with pytest.raises(TraceError, match=r"not DataFrame: latprof\.Trace\.from_pandas"):
            take(one)


@pytest.mark.parametrize("given", [mic(1), ["a.parquet"], 7, None])
def test_read_takes_one_path(given):
    with pytest.raises(TraceError, match=r"read takes the path of one file, not \w+: analyze"):
        read(given)
