import json
import pickle
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from hypothesis import given
from strategies import pipelines

from latprof.errors import PipelineError
from latprof.pipeline import AUDIO, RESERVED, Pipeline, Span, check_name

MARKS = ("start", "a", "b", "end")
DUE = Pipeline(
    "late",
    ("due", "start", "a", "end"),
    (Span("work", "a", "end", station="server"), Span("lag", "due", "a", kind="side")),
    period="20ms",
)


def spans(*spans, marks=MARKS):
    return lambda: Pipeline("p", marks, spans)


# -- what a pipeline is -------------------------------------------------------------------------


def test_audio_is_the_path_of_the_seed():
    assert AUDIO.name == "audio"
    assert AUDIO.marks == (
        *("start", "webrtc", "validation", "serialization"),
        *("ipc", "cgo", "alsa", "end"),
    )
    assert [(s.name, s.begin, s.end, s.station) for s in AUDIO.stages] == [
        ("transit", "start", "webrtc", None),
        ("webrtc", "webrtc", "ipc", "relay"),
        ("ipc", "ipc", "cgo", None),
        ("cgo", "cgo", "alsa", "server"),
        ("alsa", "alsa", "end", "server"),
    ]
    assert [(s.name, s.begin, s.end) for s in AUDIO.sides] == [
        ("validation", "validation", "ipc"),
        ("serialization", "serialization", "cgo"),
    ]
    assert [s.name for s in AUDIO.all_spans] == [
        *("transit", "webrtc", "ipc", "cgo", "alsa"),
        *("validation", "serialization", "end_to_end"),
    ]


@pytest.mark.parametrize("name", ["due", "start", "end"])
def test_chain_has_no_stage_named_as_a_mark_that_is_always_there(name):
    with pytest.raises(
        PipelineError, match=f"'x': stage '{name}' is reserved, as it is .*: choose"
    ):
        Pipeline.chain("x", "work", name)


def test_chain_begins_each_stage_at_the_mark_of_its_name():
    mic = Pipeline.chain("mic", "decode", "resample", "play")
    assert mic.marks == ("start", "decode", "resample", "play", "end")
    assert [(s.name, s.begin, s.end) for s in mic.stages] == [
        ("decode", "decode", "resample"),
        ("resample", "resample", "play"),
        ("play", "play", "end"),
    ]
    assert mic.sides == ()
    assert Pipeline.chain("empty").marks == ("start", "end")


def test_chain_with_stations():
    docs = Pipeline.chain("docs", "queued", "parse", stations={"parse": "worker"})
    assert docs.stages == (
        Span("queued", "queued", "parse"),
        Span("parse", "parse", "end", station="worker"),
    )
    with pytest.raises(PipelineError, match=r"'parser' that pipeline 'docs' .*use one of queued"):
        Pipeline.chain("docs", "queued", "parse", stations={"parser": "worker"})


def test_difference_is_of_what_stamps_mean():
    docs = Pipeline.chain("docs", "queued", "parse")
    served = Pipeline.chain("docs", "queued", "parse", stations={"parse": "worker"}, period="1s")
    assert docs != served
    assert docs.difference(served) is None
    assert docs.difference(Pipeline.chain("notes", "queued", "parse")) == "names"
    assert docs.difference(Pipeline.chain("docs", "queued", "read")) == "marks"
    assert docs.difference(Pipeline("docs", docs.marks, docs.stages[1:])) == "spans"


def test_totals():
    assert AUDIO.span("end_to_end") == Span("end_to_end", "start", "end", kind="total")
    assert [s.name for s in DUE.totals] == ["end_to_end", "response"]
    assert (DUE.span("response").begin, DUE.span("response").end) == ("due", "end")
    with pytest.raises(PipelineError, match=r"'audio' has no span 'response': use one of transit,"):
        AUDIO.span("response")


def test_row_is_112_bytes_for_8_marks():
    dtype = AUDIO.row_dtype
    assert dtype.itemsize == 112
    assert dtype.names == (
        *("begin", "frame_id", *AUDIO.marks),
        *("rss", "size", "source", "outcome", "cpu", "weight", "seq"),
    )
    kinds = [dtype[name].str for name in ("begin", "frame_id", "start", "end", "rss", "size")]
    assert kinds == ["<u8", "<u8", "<i8", "<i8", "<u8", "<u4"]
    kinds = [dtype[name].str for name in ("source", "outcome", "cpu", "weight", "seq")]
    assert kinds == ["<u2", "<u2", "<f4", "<u4", "<u8"]
    assert dtype.fields["seq"][1] == 104


@given(pipelines())
def test_rows_are_aligned(pipeline):
    for name in pipeline.row_dtype.names:
        kind, offset = pipeline.row_dtype.fields[name][:2]
        assert offset % kind.itemsize == 0
    assert pipeline.row_dtype.itemsize % 8 == 0


def test_frozen_hashable_and_replaceable():
    with pytest.raises(FrozenInstanceError):
        AUDIO.name = "video"
    with pytest.raises(FrozenInstanceError):
        AUDIO.stages[0].name = "video"
    assert len({AUDIO, Pipeline.from_json(AUDIO.to_json()), DUE}) == 2
    assert replace(AUDIO, period="20ms").period == 20_000_000
    assert replace(AUDIO, period="20ms") != AUDIO
    assert pickle.loads(pickle.dumps(AUDIO)) == AUDIO


@pytest.mark.parametrize(("period", "ns"), [("20ms", 20_000_000), (5, 5), (np.int64(5), 5)])
def test_period(period, ns):
    assert Pipeline("p", MARKS, period=period).period == ns


def test_owned_marks_come_in_the_pipelines_order():
    assert AUDIO.check_owned(None) == AUDIO.marks
    assert AUDIO.check_owned(["end", "cgo", "alsa"]) == ("cgo", "alsa", "end")


@pytest.mark.parametrize(
    ("owns", "said"),
    [
        (("nope",), r"owns must contain marks of pipeline 'audio', got 'nope'; use start, webrtc,"),
        ((), r"owns must be a tuple of at least one mark, got \(\)"),
        ([], r"owns must be a tuple of at least one mark, got \[\]"),
        ("start", r"owns must be a tuple of at least one mark, got 'start'"),
        ("", r"owns must be a tuple of at least one mark, got ''"),
    ],
)
def test_bad_owned_marks(owns, said):
    with pytest.raises(PipelineError, match=said):
        AUDIO.check_owned(owns)


# -- what it refuses: the value, the rule, the remedy -------------------------------------------

BAD = {
    "name no identifier": (lambda: Pipeline("my pipe", MARKS), "'my pipe'", "use letters"),
    "name no text": (lambda: Pipeline(5, MARKS), "pipeline 5", "use letters"),
    "name empty": (lambda: Pipeline("", MARKS), "pipeline ''", "use letters"),
    "name hostile": (lambda: Pipeline("a\x1b[31m", MARKS), "[31m", "use letters"),
    "mark no identifier": (lambda: Pipeline("p", ("start", "1a", "end")), "'1a'", "use letters"),
    "mark no text": (lambda: Pipeline("p", ("start", None, "end")), "None", "use letters"),
    "mark a list": (lambda: Pipeline("p", ("start", ["a"], "end")), "['a']", "use letters"),
    "mark long": (lambda: Pipeline("p", ("start", "x" * 65, "end")), "65 characters", "at most 64"),
    "mark twice": (lambda: Pipeline("p", ("start", "a", "a", "end")), "'a'", "unique"),
    "mark start twice": (lambda: Pipeline("p", ("start", "start", "end")), "'start'", "unique"),
    "mark by case": (
        lambda: Pipeline("p", ("start", "Play", "play", "end")),
        "'Play' and 'play'",
        "rename one",
    ),
    "mark end by case": (lambda: Pipeline("p", ("start", "End", "end")), "'End'", "rename one"),
    "marks a string": (lambda: Pipeline("p", "start"), "'start'", "give a tuple"),
    "marks a dict": (lambda: Pipeline("p", {"start": 1}), "start", "give a tuple"),
    "marks none": (lambda: Pipeline("p", None), "None", "give a tuple"),
    "marks empty": (lambda: Pipeline("p", ()), "[]", "begin with 'start'"),
    "marks start only": (lambda: Pipeline("p", ("start",)), "['start']", "close with 'end'"),
    "marks no start": (lambda: Pipeline("p", ("a", "b", "end")), "'a'", "begin with 'start'"),
    "marks no end": (lambda: Pipeline("p", ("start", "a")), "'a'", "close with 'end'"),
    "marks end first": (lambda: Pipeline("p", ("end", "start")), "'start'", "close with 'end'"),
    "marks before start": (lambda: Pipeline("p", ("a", "start", "end")), "'a'", "only 'due' may"),
    "due after start": (lambda: Pipeline("p", ("start", "due", "end")), "'due'", "put it first"),
    "spans a string": (lambda: Pipeline("p", MARKS, "a"), "'a'", "give a tuple of Span"),
    "spans none": (lambda: Pipeline("p", MARKS, None), "None", "give a tuple of Span"),
    "span a tuple": (spans(("x", "a", "b")), "('x', 'a', 'b')", "write Span(name, begin, end)"),
    "span no identifier": (lambda: Span("x y", "a", "b"), "'x y'", "use letters"),
    "span no text": (lambda: Span(None, "a", "b"), "None", "use letters"),
    "span twice": (spans(Span("x", "a", "b"), Span("x", "b", "end")), "'x'", "unique"),
    "span twice, side": (
        spans(Span("x", "a", "b"), Span("x", "a", "end", kind="side")),
        "'x'",
        "unique",
    ),
    "span by case": (
        spans(Span("x", "a", "b"), Span("X", "b", "end")),
        "'x' and 'X'",
        "rename one",
    ),
    "span like a mark by case": (spans(Span("A", "a", "b")), "'a' and 'A'", "rename one"),
    "span unknown begin": (spans(Span("x", "nope", "b")), "'nope'", "use one of start, a, b, end"),
    "span unknown end": (spans(Span("x", "a", "nope")), "'nope'", "use one of start, a, b, end"),
    "span mark no text": (lambda: Span("x", None, "b"), "None", "name a mark"),
    "span mark a list": (lambda: Span("x", ["a"], "b"), "['a']", "name a mark"),
    "span end no text": (lambda: Span("x", "a", 5), "5", "name a mark"),
    "span backwards": (spans(Span("x", "b", "a")), "'b'", "swap them"),
    "span empty": (spans(Span("x", "a", "a")), "'a'", "swap them"),
    "span kind": (lambda: Span("x", "a", "b", kind="main"), "'main'", "use one of stage, side"),
    "span kind no text": (lambda: Span("x", "a", "b", kind=["side"]), "['side']", "use one of"),
    "span total": (spans(Span("x", "a", "b", kind="total")), "'x'", "leave it out"),
    "station": (lambda: Span("x", "a", "b", station="two words"), "'two words'", "use letters"),
    "station empty": (lambda: Span("x", "a", "b", station=""), "station of span 'x'", "letters"),
    "stages out of order": (
        spans(Span("y", "b", "end"), Span("x", "a", "b")),
        "'x' begins at 'a'",
        "kind='side'",
    ),
    "stages overlap": (
        spans(Span("x", "start", "b"), Span("y", "a", "end")),
        "'y' begins at 'a'",
        "kind='side'",
    ),
    "stages the same": (
        spans(Span("x", "a", "b"), Span("y", "a", "b")),
        "'y' begins at 'a'",
        "kind='side'",
    ),
    "stage before start": (
        spans(Span("x", "due", "a"), marks=("due", "start", "a", "end")),
        "'x' begins at 'due'",
        "kind='side'",
    ),
    "period no duration": (lambda: Pipeline("p", MARKS, period="20"), "'20'", "write it as"),
    "period a float": (lambda: Pipeline("p", MARKS, period=0.02), "0.02", "write it as"),
    "period a bool": (lambda: Pipeline("p", MARKS, period=True), "True", "write it as"),
    "period negative": (lambda: Pipeline("p", MARKS, period=-1), "-1", "0 or more"),
    "period 0": (lambda: Pipeline("p", MARKS, period="0ms"), "is 0", "leave it out"),
    "period long": (lambda: Pipeline("p", MARKS, period=2**62), str(2**62), "146 years"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_declaration(what):
    declare, value, remedy = BAD[what]
    with pytest.raises(PipelineError) as caught:
        declare()
    message = str(caught.value)
    assert value in message
    assert remedy in message
    assert message.isprintable()  # one line, too


RESERVED_BY_DESIGN = ["frame_id", "size", "source", "outcome", "cpu", "rss", "weight", "begin"]
RESERVED_BY_DESIGN += ["seq", "other", "end_to_end", "response"]


@pytest.mark.parametrize("name", [*RESERVED_BY_DESIGN, "ipc_latency", "_latency"])
@pytest.mark.parametrize("change", [str, str.upper, str.title])
def test_reserved_names(name, change):
    name = change(name)
    for declare in (
        lambda: Pipeline("p", ("start", name, "end")),
        lambda: Span(name, "start", "end"),
        lambda: check_name(name, "tag"),
    ):
        with pytest.raises(PipelineError, match=rf"'{name}' is reserved: choose another"):
            declare()


@pytest.mark.parametrize("name", [*RESERVED_BY_DESIGN, "ipc_latency"])
def test_pipelines_and_stations_are_no_columns(name):
    pipeline = Pipeline(name, ("start", "end"), (Span("work", "start", "end", station=name),))
    assert Pipeline.from_json(pipeline.to_json()) == pipeline
    assert pipeline.name == pipeline.stages[0].station == name


def test_reserved_names_are_those_of_the_design():
    assert sorted(RESERVED_BY_DESIGN) == sorted(RESERVED)


@pytest.mark.parametrize("name", ["a", "_", "größe", "x" * 64, "latency", "latency_a", "class"])
def test_good_names(name):
    assert check_name(name, "mark") == name
    assert Pipeline("p", ("start", name, "end")).marks[1] == name


def test_stages_may_touch_and_sides_may_overlap():
    pipeline = Pipeline(
        "p",
        ["start", "a", "b", "end"],
        [
            Span("x", "start", "a"),
            Span("s", "a", "end", kind="side"),
            Span("y", "b", "end"),
            Span("t", "a", "b", kind="side"),
        ],
    )
    assert [s.name for s in pipeline.stages] == ["x", "y"]
    assert [s.name for s in pipeline.all_spans] == ["x", "y", "s", "t", "end_to_end"]
    assert pipeline.marks == MARKS


# -- as text ------------------------------------------------------------------------------------


@given(pipelines())
def test_repr_and_json_give_it_back(pipeline):
    assert eval(repr(pipeline)) == pipeline
    back = Pipeline.from_json(pipeline.to_json())
    assert back == pipeline
    assert hash(back) == hash(pipeline)
    assert Pipeline.from_dict(pipeline.to_dict()).all_spans == pipeline.all_spans


@pytest.mark.parametrize("pipeline", [AUDIO, DUE])
def test_json_is_what_a_person_would_write(pipeline):
    content = json.loads(pipeline.to_json())
    assert content["marks"] == list(pipeline.marks)
    assert content.get("period_ns") == pipeline.period
    assert Pipeline.from_dict(content) == pipeline


def test_json_by_hand():
    text = """{"name": "p", "marks": ["start", "a", "end"],
               "spans": [{"name": "x", "begin": "a", "end": "end"}]}"""
    assert Pipeline.from_json(text) == Pipeline(
        "p", ("start", "a", "end"), (Span("x", "a", "end"),)
    )
    assert Pipeline.from_json('{"name": "p", "marks": ["start", "end"]}').spans == ()


GOOD = {"name": "p", "marks": ["start", "end"]}
SPAN = {"name": "x", "begin": "start", "end": "end"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([], "no JSON object"),
        (None, "no JSON object"),
        ("audio", "no JSON object"),
        ({}, "key 'name' is missing"),
        ({"name": "p"}, "key 'marks' is missing"),
        ({**GOOD, "name": 5}, "'name' is int in the pipeline's JSON, not str"),
        ({**GOOD, "name": None}, "'name' is NoneType"),
        ({**GOOD, "marks": "start"}, "'marks' is str .* not list"),
        ({**GOOD, "marks": {"start": 0}}, "'marks' is dict .* not list"),
        ({**GOOD, "marks": ["start", 5, "end"]}, "mark 5 is no identifier"),
        ({**GOOD, "marks": ["start", ["a"], "end"]}, r"mark \['a'\] is no identifier"),
        ({**GOOD, "spans": None}, "'spans' is NoneType .* not list"),
        ({**GOOD, "spans": [5]}, "span 5 is no JSON object"),
        ({**GOOD, "spans": [None]}, "span None is no JSON object"),
        ({**GOOD, "spans": [{}]}, "key 'name' is missing"),
        ({**GOOD, "spans": [{"name": "x"}]}, "span 'x': key 'begin' is missing"),
        ({**GOOD, "spans": [{**SPAN, "begin": ["start"]}]}, "'begin' is list .* not str"),
        ({**GOOD, "spans": [{**SPAN, "kind": "main"}]}, "kind 'main'"),
        ({**GOOD, "spans": [{**SPAN, "kind": None}]}, "'kind' is NoneType"),
        ({**GOOD, "spans": [{**SPAN, "kind": "total"}]}, "leave it out"),
        ({**GOOD, "spans": [{**SPAN, "station": 5}]}, "'station' is int"),
        (
            {**GOOD, "spans": [{**SPAN, "color": "red"}]},
            "key 'color' is unknown .* use name, begin",
        ),
        (
            {**GOOD, "period": "20ms"},
            "key 'period' is unknown .* use name, marks, spans, period_ns",
        ),
        ({**GOOD, "period_ns": "20ms"}, "'period_ns' is str .* not int"),
        ({**GOOD, "period_ns": 2e7}, "'period_ns' is float .* not int"),
        ({**GOOD, "period_ns": True}, "'period_ns' is bool .* not int"),
        ({**GOOD, "period_ns": 0}, "is 0: leave it out"),
        ({**GOOD, "\x1b[31m": 1}, r"key '\\+x1b\[31m' is unknown"),
    ],
)
def test_json_of_the_wrong_shape(content, said):
    for load in (Pipeline.from_dict, lambda content: Pipeline.from_json(json.dumps(content))):
        with pytest.raises(PipelineError, match=said) as caught:
            load(content)
        assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "nope",
        "{'name': 'p'}",
        "[" * 100_000,
        '{"period_ns": ' + "1" * 5_000 + "}",
        "\ufeff{}",
    ],
    ids=["empty", "cut", "word", "quotes", "deep", "digits", "bom"],
)
def test_text_that_is_no_json(text):
    with pytest.raises(PipelineError, match="the pipeline is no JSON: ") as caught:
        Pipeline.from_json(text)
    assert str(caught.value).isprintable()
