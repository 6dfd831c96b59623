import itertools
import json
import pickle
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from hypothesis import given
from strategies import pipelines

from latprof.errors import PipelineError
from latprof.marks import Span
from latprof.pipeline import AUDIO, Pipeline
from latprof.recorder.profiler import Profiler
from latprof.text import RESERVED, check_name

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


def test_chain_refuses_stages_named_start_end_or_due():
    for name in ("due", "start", "end"):
        with pytest.raises(PipelineError, match=f"must not have the name of .*, got '{name}'"):
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
    with pytest.raises(PipelineError, match=r"of pipeline 'docs' \(queued, parse\), got 'parser'"):
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
    with pytest.raises(PipelineError, match=r"must be one of transit, .*, got 'response'"):
        AUDIO.span("response")


def test_frozen_hashable_and_replaceable():
    with pytest.raises(FrozenInstanceError):
        AUDIO.name = "video"
    with pytest.raises(FrozenInstanceError):
        AUDIO.stages[0].name = "video"
    assert len({AUDIO, Pipeline.from_json(AUDIO.to_json()), DUE}) == 2
    assert replace(AUDIO, period="20ms").period == 20_000_000
    assert replace(AUDIO, period="20ms") != AUDIO
    assert pickle.loads(pickle.dumps(AUDIO)) == AUDIO


def test_period():
    for period, ns in (("20ms", 20_000_000), (5, 5), (np.int64(5), 5)):
        assert Pipeline("p", MARKS, period=period).period == ns


def test_owned_marks_come_in_the_pipelines_order():
    assert AUDIO.check_owned(None) == AUDIO.marks
    assert AUDIO.check_owned(["end", "cgo", "alsa"]) == ("cgo", "alsa", "end")


def test_owned_marks_that_are_refused():
    for owns in (("nope",), (), [], "start", "", 5, [["start"]], np.array(["start"])):
        with pytest.raises(
            PipelineError,
            match=r"owns must (be a tuple of|contain) .*got ",
        ):
            AUDIO.check_owned(owns)


# -- what it refuses: the value, the rule, the remedy -------------------------------------------

BAD = {
    "name no identifier": (
        lambda: Pipeline("my pipe", MARKS),
        "'my pipe'",
        "an identifier",
    ),
    "name no text": (lambda: Pipeline(5, MARKS), "got 5", "an identifier"),
    "name empty": (lambda: Pipeline("", MARKS), "got ''", "an identifier"),
    "name hostile": (lambda: Pipeline("a\x1b[31m", MARKS), "[31m", "an identifier"),
    "mark no identifier": (
        lambda: Pipeline("p", ("start", "1a", "end")),
        "'1a'",
        "an identifier",
    ),
    "mark no text": (
        lambda: Pipeline("p", ("start", None, "end")),
        "None",
        "an identifier",
    ),
    "mark a list": (
        lambda: Pipeline("p", ("start", ["a"], "end")),
        "['a']",
        "an identifier",
    ),
    "mark long": (
        lambda: Pipeline("p", ("start", "x" * 65, "end")),
        "got 65",
        "at most 64",
    ),
    "mark twice": (lambda: Pipeline("p", ("start", "a", "a", "end")), "'a'", "twice"),
    "mark start twice": (lambda: Pipeline("p", ("start", "start", "end")), "'start'", "twice"),
    "mark by case": (
        lambda: Pipeline("p", ("start", "Play", "play", "end")),
        "'Play' and 'play'",
        "rename one",
    ),
    "mark end by case": (lambda: Pipeline("p", ("start", "End", "end")), "'End'", "rename one"),
    "marks a string": (lambda: Pipeline("p", "start"), "'start'", "must be a tuple of names"),
    "marks a dict": (lambda: Pipeline("p", {"start": 1}), "start", "must be a tuple of names"),
    "marks none": (lambda: Pipeline("p", None), "None", "must be a tuple of names"),
    "marks empty": (lambda: Pipeline("p", ()), "[]", "begin with 'start'"),
    "marks start only": (lambda: Pipeline("p", ("start",)), "['start']", "close with 'end'"),
    "marks no start": (lambda: Pipeline("p", ("a", "b", "end")), "'a'", "begin with 'start'"),
    "marks no end": (lambda: Pipeline("p", ("start", "a")), "'a'", "close with 'end'"),
    "marks end first": (lambda: Pipeline("p", ("end", "start")), "'start'", "close with 'end'"),
    "marks before start": (
        lambda: Pipeline("p", ("a", "start", "end")),
        "'a'",
        "only 'due' before",
    ),
    "due after start": (lambda: Pipeline("p", ("start", "due", "end")), "'due'", "got it after"),
    "spans a string": (lambda: Pipeline("p", MARKS, "a"), "'a'", "must be a tuple of Span"),
    "spans none": (lambda: Pipeline("p", MARKS, None), "None", "must be a tuple of Span"),
    "span a tuple": (spans(("x", "a", "b")), "('x', 'a', 'b')", "must be Span(name, begin, end)"),
    "span no identifier": (lambda: Span("x y", "a", "b"), "'x y'", "an identifier"),
    "span no text": (lambda: Span(None, "a", "b"), "None", "an identifier"),
    "span twice": (spans(Span("x", "a", "b"), Span("x", "b", "end")), "'x'", "twice"),
    "span twice, side": (
        spans(Span("x", "a", "b"), Span("x", "a", "end", kind="side")),
        "'x'",
        "twice",
    ),
    "span by case": (
        spans(Span("x", "a", "b"), Span("X", "b", "end")),
        "'x' and 'X'",
        "rename one",
    ),
    "span like a mark by case": (spans(Span("A", "a", "b")), "'a' and 'A'", "rename one"),
    "span unknown begin": (spans(Span("x", "nope", "b")), "'nope'", "at one of start, a, b, end"),
    "span unknown end": (spans(Span("x", "a", "nope")), "'nope'", "at one of start, a, b, end"),
    "span mark no text": (lambda: Span("x", None, "b"), "None", "must begin and end at a mark"),
    "span mark a list": (lambda: Span("x", ["a"], "b"), "['a']", "must begin and end at a mark"),
    "span end no text": (lambda: Span("x", "a", 5), "5", "must begin and end at a mark"),
    "span backwards": (spans(Span("x", "b", "a")), "'b'", "swap them"),
    "span empty": (spans(Span("x", "a", "a")), "'a'", "swap them"),
    "span kind": (lambda: Span("x", "a", "b", kind="main"), "'main'", "must be one of stage, side"),
    "span kind no text": (lambda: Span("x", "a", "b", kind=["side"]), "['side']", "must be one of"),
    "span total": (spans(Span("x", "a", "b", kind="total")), "'x'", "the pipeline adds the totals"),
    "station": (
        lambda: Span("x", "a", "b", station="two words"),
        "'two words'",
        "an identifier",
    ),
    "station empty": (
        lambda: Span("x", "a", "b", station=""),
        "station of span 'x'",
        "an identifier",
    ),
    "stages out of order": (
        spans(Span("y", "b", "end"), Span("x", "a", "b")),
        "stage 'x'",
        "kind='side'",
    ),
    "stages overlap": (
        spans(Span("x", "start", "b"), Span("y", "a", "end")),
        "stage 'y'",
        "kind='side'",
    ),
    "stages the same": (
        spans(Span("x", "a", "b"), Span("y", "a", "b")),
        "stage 'y'",
        "kind='side'",
    ),
    "stage before start": (
        spans(Span("x", "due", "a"), marks=("due", "start", "a", "end")),
        "'due'",
        "kind='side'",
    ),
    "period no duration": (
        lambda: Pipeline("p", MARKS, period="20"),
        "'20'",
        "a duration",
    ),
    "period a float": (
        lambda: Pipeline("p", MARKS, period=0.02),
        "0.02",
        "a duration",
    ),
    "period a bool": (
        lambda: Pipeline("p", MARKS, period=True),
        "True",
        "a duration",
    ),
    "period negative": (lambda: Pipeline("p", MARKS, period=-1), "-1", "0 or more"),
    "period 0": (lambda: Pipeline("p", MARKS, period="0ms"), "got 0", "leave it out"),
    "period long": (lambda: Pipeline("p", MARKS, period=2**62), str(2**62), "146 years"),
}


def test_wrong_declarations_are_refused():
    for declare, value, rule in BAD.values():
        with pytest.raises(PipelineError) as caught:
            declare()
        message = str(caught.value)
        assert value in message
        assert rule in message
        assert message.isprintable()  # one line, too


RESERVED_BY_DESIGN = ["frame_id", "size", "source", "outcome", "cpu", "rss", "weight", "begin"]
RESERVED_BY_DESIGN += ["seq", "other", "end_to_end", "response"]


def test_reserved_names_are_refused_in_any_case():
    for name in [*RESERVED_BY_DESIGN, "ipc_latency", "_latency"]:
        for changed in (name, name.upper(), name.title()):
            for declare in (
                lambda name=changed: Pipeline("p", ("start", name, "end")),
                lambda name=changed: Span(name, "start", "end"),
                lambda name=changed: check_name(name, "tag"),
            ):
                with pytest.raises(PipelineError, match=f"reserved name .*got '{changed}'"):
                    declare()


def test_pipelines_and_stations_may_have_reserved_names():
    for name in [*RESERVED_BY_DESIGN, "ipc_latency"]:
        pipeline = Pipeline(name, ("start", "end"), (Span("work", "start", "end", station=name),))
        assert Pipeline.from_json(pipeline.to_json()) == pipeline
        assert pipeline.name == pipeline.stages[0].station == name


def test_reserved_names_are_those_of_the_design():
    assert sorted(RESERVED_BY_DESIGN) == sorted(RESERVED)


def test_good_names():
    for name in ("a", "_", "größe", "x" * 64, "latency", "latency_a", "class"):
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


def test_json_has_marks_and_period():
    for pipeline in (AUDIO, DUE):
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


def test_json_of_the_wrong_shape_is_refused():
    for content, rule in [
        ([], r"a pipeline must be a JSON object, got \[\]"),
        (None, "a pipeline must be a JSON object"),
        ("audio", "a pipeline must be a JSON object"),
        ({}, "a pipeline must have the key 'name'"),
        ({"name": "p"}, "a pipeline must have the key 'marks'"),
        ({**GOOD, "name": 5}, "'name' of a pipeline must be str, got 5"),
        ({**GOOD, "name": None}, "'name' of a pipeline must be str, got None"),
        ({**GOOD, "marks": "start"}, "'marks' of a pipeline must be list, got 'start'"),
        ({**GOOD, "marks": {"start": 0}}, "'marks' of a pipeline must be list"),
        ({**GOOD, "marks": ["start", 5, "end"]}, "mark must be an identifier .*, got 5"),
        ({**GOOD, "marks": ["start", ["a"], "end"]}, r"mark must be an identifier .*\['a'\]"),
        ({**GOOD, "spans": None}, "'spans' of a pipeline must be list"),
        ({**GOOD, "spans": [5]}, "a span must be a JSON object, got 5"),
        ({**GOOD, "spans": [None]}, "a span must be a JSON object, got None"),
        ({**GOOD, "spans": [{}]}, "a span must have the key 'name'"),
        ({**GOOD, "spans": [{"name": "x"}]}, "a span must have the key 'begin', got .*'x'"),
        ({**GOOD, "spans": [{**SPAN, "begin": ["start"]}]}, "'begin' of a span must be str"),
        ({**GOOD, "spans": [{**SPAN, "kind": "main"}]}, "must be one of .*, got 'main'"),
        ({**GOOD, "spans": [{**SPAN, "kind": None}]}, "'kind' of a span must be str"),
        ({**GOOD, "spans": [{**SPAN, "kind": "total"}]}, "must not be declared"),
        ({**GOOD, "spans": [{**SPAN, "station": 5}]}, "'station' of a span must be str"),
        ({**GOOD, "spans": [{**SPAN, "color": 1}]}, "span must be name, begin, .*, got 'color'"),
        ({**GOOD, "period": "20ms"}, "must be name, marks, spans, period_ns, got 'period'"),
        ({**GOOD, "period_ns": "20ms"}, "'period_ns' of a pipeline must be int"),
        ({**GOOD, "period_ns": 2e7}, "'period_ns' of a pipeline must be int"),
        ({**GOOD, "period_ns": True}, "'period_ns' of a pipeline must be int"),
        ({**GOOD, "period_ns": 0}, "period must be more than 0"),
        ({**GOOD, "\x1b[31m": 1}, r"got '\\x1b\[31m'"),
        ({**GOOD, "x" * 70_000: 1}, r"got 'xxx"),
    ]:
        for load in (Pipeline.from_dict, lambda content: Pipeline.from_json(json.dumps(content))):
            with pytest.raises(PipelineError, match=rule) as caught:
                load(content)
            assert str(caught.value).isprintable()
            assert len(str(caught.value)) < 300


def test_text_that_is_not_json_is_refused():
    digits = '{"period_ns": ' + "1" * 5_000 + "}"
    for text in ("", "{", "nope", "{'name': 'p'}", "[" * 100_000, digits, "\ufeff{}", 5, None):
        with pytest.raises(PipelineError, match="text of a pipeline must be JSON, got ") as caught:
            Pipeline.from_json(text)
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 250


def test_print_shows_the_spans_as_a_table():
    text = str(Pipeline.chain("mic", "queue", "play", period="20ms", stations={"play": "card"}))
    assert [line.split() for line in text.splitlines()] == [
        ["pipeline", "mic,", "a", "frame", "every", "20.0", "ms"],
        ["start", "→", "queue", "→", "play", "→", "end"],
        [],
        ["span", "kind", "marks", "station"],
        ["queue", "stage", "queue", "→", "play", "hand-off"],
        ["play", "stage", "play", "→", "end", "card"],
        ["end_to_end", "total", "start", "→", "end"],
    ]


def test_a_chain_with_end_marks_keeps_the_stage_before_one_that_did_not_run():
    web = Pipeline.chain("web", "db", "cache", "render", ends=True, stations={"db": "pool"})
    assert web.marks == (
        "start",
        "db",
        "db_end",
        "cache",
        "cache_end",
        "render",
        "render_end",
        "end",
    )
    assert [(stage.name, stage.begin, stage.end) for stage in web.stages] == [
        ("db", "db", "db_end"),
        ("cache", "cache", "cache_end"),
        ("render", "render", "render_end"),
    ]
    assert web.span("db").station == "pool"
    assert eval(repr(web)) == web == Pipeline.from_json(web.to_json())
    profiler = Profiler(web, clock=itertools.count(10, 10).__next__)
    with profiler, profiler.frame(1) as frame:
        for mark in ("db", "db_end", "render", "render_end"):  # no cache
            frame.mark(mark)
    profile = profiler.report().profile
    assert {span: profile[span].total for span in ("db", "cache", "render", "other")} == {
        "db": 10,
        "cache": 0,
        "render": 10,
        "other": 30,
    }
    assert profile["cache"].missing == 1
    assert profile["end_to_end"].total == 50
    # without end marks, the stage before is lost as well
    plain = Pipeline.chain("web", "db", "cache", "render")
    profiler = Profiler(plain, clock=itertools.count(10, 10).__next__)
    with profiler, profiler.frame(1) as frame:
        frame.mark("db")
        frame.mark("render")
    assert profiler.report().profile["db"].missing == 1


def test_end_marks_are_asked_for_with_true_or_false():
    with pytest.raises(PipelineError, match="ends must be True or False, got 1"):
        Pipeline.chain("web", "db", ends=1)
    with pytest.raises(PipelineError, match="unique"):
        Pipeline.chain("web", "db", "db_end", ends=True)
