"""Spans of traces as frames: OTLP, Jaeger, Zipkin and Chrome trace events."""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import examples
from viztracer.report_builder import ReportBuilder

import latprof
from latprof import ForeignFile, TraceError, read
from latprof.cli.main import main
from latprof.frames import MISSING

FILES = Path(__file__).parent / "files"
MS = 1_000_000
AT = 1_700_000_000_000_000_000

# name, parent, begin and end in ms; d finished before a, which b waited for
TREE = [
    ("root", "", 0, 100),
    ("a", "root", 0, 30),
    ("d", "root", 10, 25),
    ("b", "root", 30, 90),
    ("c", "b", 50, 70),
]


def save(where: Path, content: object) -> Path:
    where.write_text(content if isinstance(content, str) else json.dumps(content))
    return where


def otlp(spans) -> dict:
    """Return spans of (name, parent, begin ms, end ms), each with its name as its id."""
    found = [
        {
            "traceId": "t1",
            "spanId": name,
            "parentSpanId": parent,
            "name": name.split("#")[0],
            "startTimeUnixNano": str(AT + begin * MS),
            "endTimeUnixNano": str(AT + end * MS),
        }
        for name, parent, begin, end in spans
    ]
    return {"resourceSpans": [{"scopeSpans": [{"spans": found}]}]}


def stages(trace) -> dict[str, list[float | None]]:
    """Return each stage's time in ms by name."""
    names = [stage.name for stage in trace.pipeline.stages] + ["other", "end_to_end"]
    found = {name: trace.span(name).tolist() for name in names}
    return {n: [None if ns == MISSING else ns / MS for ns in each] for n, each in found.items()}


def notes(trace) -> dict[str, int]:
    return trace.meta["accounts"]["notes"]


def test_the_critical_path_goes_back_from_the_last_finishing_child(tmp_path):
    trace = read(save(tmp_path / "t.json", otlp(TREE)))
    expected = {"a": [30], "b": [40], "c": [20], "other": [10], "end_to_end": [100]}
    assert stages(trace) == expected
    assert trace.tags["trace_id"].to_numpy().tolist() == ["t1"]
    shuffled = [TREE[i] for i in (4, 2, 0, 3, 1)]
    assert stages(read(save(tmp_path / "u.json", otlp(shuffled)))) == expected


def test_chosen_spans_take_the_time_of_what_is_below_them(tmp_path):
    where = save(tmp_path / "t.json", otlp(TREE))
    found = stages(read(where, spans=["b"]))
    assert found == {"b": [60], "other": [40], "end_to_end": [100]}
    found = stages(latprof.read(ForeignFile(where, spans=["c", "d"])))
    assert found == {"c": [20], "d": [None], "other": [80], "end_to_end": [100]}
    with pytest.raises(TraceError, match=r"operations of the file \(a, b, c, d, root\), got 'x'"):
        read(where, spans=["x"])


def test_a_file_of_opentelemetry_s_own_exporter(capsys):
    trace = read(FILES / "otlp.jsonl")
    assert stages(trace) == {
        "a": [30] * 3,
        "b": [40] * 3,
        "c": [20] * 3,
        "other": [10] * 3,
        "end_to_end": [100] * 3,
    }
    assert trace.source.to_numpy().tolist() == ["shop"] * 3
    assert notes(trace) == {}
    assert main(["report", str(FILES / "otlp.jsonl"), "--spans", "b"]) == 0
    assert capsys.readouterr().out.startswith("trace: the bottleneck is b, 60.0 ms mean")


def test_what_is_odd_is_counted_and_never_invented(tmp_path):
    spans = [
        *TREE,
        ("late", "root", 90, 120),
        ("lost", "nowhere", 5, 6),
        ("back", "root", 9, 8),
        ("point", "root", 7, 7),
        ("a", "root", 1, 2),
    ]
    trace = read(save(tmp_path / "t.json", otlp(spans)))
    assert stages(trace)["late"] == [10]
    assert stages(trace)["end_to_end"] == [100]
    said = "spans go on for up to 20.0 ms after their root, which ends the frame"
    assert said in trace.meta["reading"]
    assert notes(trace) == {
        "spans that are partly or fully outside of their parent": 1,
        "spans with a parent that is missing": 1,
        "spans that are not below the root of their trace": 1,
        "spans that end before they begin": 1,
        "spans of length 0": 1,
        "spans with an id that another span has": 1,
    }


def test_a_trace_without_its_root_and_one_that_goes_in_a_circle(tmp_path):
    trace = read(save(tmp_path / "t.json", otlp([("x", "gone", 0, 5), ("y", "x", 1, 2)])))
    assert stages(trace) == {"y": [1], "other": [4], "end_to_end": [5]}
    assert notes(trace)["traces without their root: the longest span takes its place"] == 1
    circle = [("x", "y", 0, 5), ("y", "x", 1, 2)]
    trace = read(save(tmp_path / "u.json", otlp(circle)))
    assert len(trace) == 0
    assert notes(trace) == {"traces in which each span is below another": 1}


def path_of(spans, name, until) -> dict[str, int]:
    """Return ms by operation on the critical path of a span up to a time: plain recursion."""
    begin = {n: b for n, _, b, _ in spans}
    end = {n: e for n, _, _, e in spans}
    below = [n for n, parent, b, e in spans if parent == name and e > b]
    found: dict[str, int] = {}
    while True:
        ready = [n for n in below if end[n] <= until and begin[n] < until]
        if not ready:
            found[name] = found.get(name, 0) + until - begin[name]
            return found
        last = max(ready, key=lambda n: (end[n], begin[n], n))
        below.remove(last)
        found[name] = found.get(name, 0) + until - end[last]
        for operation, ms in path_of(spans, last, end[last]).items():
            found[operation] = found.get(operation, 0) + ms
        until = begin[last]


@st.composite
def trees(draw):
    spans = [("s0", "", 0, 40)]
    for number in range(1, draw(st.integers(1, 9))):
        parent = draw(st.sampled_from(spans))
        begin = draw(st.integers(parent[2], parent[3]))
        end = draw(st.integers(begin, parent[3]))
        spans.append((f"s{number}", parent[0], begin, end))
    return spans


@settings(max_examples=examples(80), deadline=None)
@given(spans=trees())
def test_any_tree_has_the_path_of_plain_recursion_and_adds_up(tmp_path_factory, spans):
    expected = path_of(spans, "s0", 40)
    other = expected.pop("s0", 0)
    trace = read(save(tmp_path_factory.mktemp("tree") / "t.json", otlp(spans)))
    found = stages(trace)
    assert found.pop("other") == [other]
    assert found.pop("end_to_end") == [40]
    assert {name: ms for name, (ms,) in found.items()} == {n: t for n, t in expected.items() if t}


def test_zipkin_halves_of_a_span_and_clocks_that_differ(tmp_path):
    def span(own, parent, kind, begin, length, service, **more):
        return {
            "traceId": "1",
            "id": own,
            "parentId": parent,
            "kind": kind,
            "name": "get",
            "timestamp": AT // 1_000 + begin,
            "duration": length,
            "localEndpoint": {"serviceName": service},
            **more,
        }

    spans = [
        span("a", None, "SERVER", 0, 1_000, "front"),
        span("b", "a", "CLIENT", 100, 800, "front"),
        span("b", "a", "SERVER", 200, 600, "back", shared=True),
        span("c", "b", "CLIENT", -5_000, 300, "back"),
    ]
    trace = read(save(tmp_path / "t.json", spans))
    assert stages(trace) == {
        "front_get": [0.2],
        "back_get": [0.6],
        "other": [0.2],
        "end_to_end": [1.0],
    }
    assert notes(trace)["spans that are partly or fully outside of their parent"] == 1
    assert "times of the source are in steps of 1.00 us" in trace.meta["reading"]


def test_jaeger_with_a_service_of_each_process(tmp_path):
    spans = [
        {
            "traceID": "1",
            "spanID": name,
            "operationName": name,
            "references": [{"refType": "CHILD_OF", "traceID": "1", "spanID": parent}]
            * bool(parent),
            "startTime": AT // 1_000 + begin * 1_000,
            "duration": (end - begin) * 1_000,
            "processID": "p1",
            "tags": [{"key": "error", "type": "bool", "value": name == "root"}],
        }
        for name, parent, begin, end in TREE
    ]
    content = {
        "data": [{"traceID": "1", "spans": spans, "processes": {"p1": {"serviceName": "s"}}}]
    }
    trace = read(save(tmp_path / "t.json", content))
    assert stages(trace)["b"] == [40]
    assert trace.tags["status"].to_numpy().tolist() == ["error"]
    assert trace.source.to_numpy().tolist() == ["s"]


def test_chrome_times_are_exact_and_slices_nest(tmp_path):
    text = (
        '[{"ph":"X","pid":1,"tid":2,"ts":1712195495519689.047,"dur":10.5,"name":"frame"},\n'
        '{"ph":"X","pid":1,"tid":2,"ts":1712195495519690.047,"dur":4,"name":"work"},\n'
        '{"ph":"B","pid":1,"tid":3,"ts":5.5,"name":"other"},'
        '{"ph":"E","pid":1,"tid":3,"ts":7},{"ph":"E","pid":1,"tid":3,"ts":8},'
        '{"ph":"X","pid":1,"tid":3,"ts":9,"name":"no end"},'
        '{"ph":"b","cat":"io","id":"0x1","pid":1,"ts":20,"name":"read"},'
        '{"ph":"e","cat":"io","id":"0x1","pid":1,"ts":26.25,"name":"read"},'
        '{"ph":"i","pid":1,"tid":2,"ts":3,"name":"instant"},'
    )
    trace = read(save(tmp_path / "t.json", text))
    assert trace.marks["start"].tolist() == [5_500, 20_000, 1_712_195_495_519_689_047]
    assert trace.span("end_to_end").tolist() == [1_500, 6_250, 10_500]
    assert trace.span("work").tolist() == [MISSING, MISSING, 4_000]
    assert trace.tags["operation"].to_numpy().tolist() == ["other", "read", "frame"]
    assert notes(trace) == {
        "events that end without a begin": 1,
        "events without a duration": 1,
        "the file ends before its closing bracket": 1,
    }


def test_chrome_times_may_begin_at_0_and_events_may_be_in_any_order(tmp_path):
    def event(phase, at, name="", **more):
        return {"ph": phase, "pid": 1, "tid": 2, "ts": at, "name": name, **more}

    slices = [event("X", 20, "work", dur=30), event("X", 0, "frame", dur=100)]
    halves = [event("E", 50), event("E", 100), event("B", 0, "frame"), event("B", 20, "work")]
    alike = [event("B", 0, "frame"), event("B", 0, "work"), event("E", 30), event("E", 30)]
    for events, work, whole in ((slices, 30, 100), (halves, 30, 100), (alike, 30, 30)):
        trace = read(save(tmp_path / "t.json", json.dumps(events)))
        assert trace.marks["start"].tolist() == [0]
        assert [stage.name for stage in trace.pipeline.stages] == ["work"]
        assert trace.span("work").tolist() == [work * 1_000]
        assert trace.span("end_to_end").tolist() == [whole * 1_000]
        assert trace.tags["operation"].to_numpy().tolist() == ["frame"]
        assert notes(trace) == {}


@pytest.mark.parametrize("begin", ["[", '{"displayTimeUnit": "ns", "traceEvents": ['])
def test_chrome_events_that_are_cut_anywhere_are_read_up_to_there(tmp_path, begin):
    event = json.dumps({"ph": "X", "pid": 1, "tid": 2, "ts": 7, "dur": 5, "name": "x"})
    text = f"{begin}{event},{event.replace('7', '70')}]"
    for end in range(len(begin) + len(event), len(text) - 1):
        trace = read(save(tmp_path / "t.json", text[:end]))
        assert trace.span("end_to_end").tolist() in ([5_000], [5_000] * 2), text[:end]
        assert notes(trace)["the file ends before its closing bracket"] == 1


def test_a_base_time_is_added(tmp_path):
    event = {"ph": "X", "pid": 1, "tid": 2, "ts": 7, "dur": 5, "name": "x"}
    where = save(tmp_path / "t.json", {"traceEvents": [event], "baseTimeNanoseconds": AT})
    assert read(where).marks["start"].tolist() == [AT + 7_000]


def test_a_file_of_viztracer():
    trace = read(FILES / "viztracer.json")
    events = json.loads((FILES / "viztracer.json").read_text(), parse_float=Fraction)["traceEvents"]
    slices = [event for event in events if event["ph"] == "X"]
    top = [
        event
        for event in slices
        if not any(
            o["tid"] == event["tid"]
            and o["ts"] <= event["ts"]
            and o is not event
            and o["ts"] + o["dur"] >= event["ts"] + event["dur"]
            for o in slices
        )
    ]
    assert sorted(trace.marks["start"].tolist()) == sorted(round(e["ts"] * 1_000) for e in top)
    ends = [round((e["ts"] + e["dur"]) * 1_000) for e in top]
    assert sorted(trace.marks["end"].tolist()) == sorted(ends)
    slept = sum(
        round((e["ts"] + e["dur"]) * 1_000) - round(e["ts"] * 1_000)
        for e in slices
        if e["name"].startswith("play")
    )
    play = next(s.name for s in trace.pipeline.stages if s.name.startswith("play"))
    known = trace.span(play)
    assert int(known[known != MISSING].sum()) == slept
    total = sum(
        np.where(trace.span(s.name) == MISSING, 0, trace.span(s.name))
        for s in trace.pipeline.stages
    )
    assert (total + trace.span("other") == trace.span("end_to_end")).all()


def test_damaged_and_hostile_files_are_refused_in_one_line(tmp_path):
    good = json.dumps(otlp(TREE))
    for name, content in {
        "cut": good[:-40],
        "deep": '{"resourceSpans": [' + '{"a":[' * 100_000,
        "long": '{"resourceSpans": ["' + "x" * (1 << 26),
        "no spans": '{"resourceSpans": []}',
        "garbage": '{"resourceSpans": [{"scopeSpans": }]}',
        "types": '{"resourceSpans": [{"scopeSpans": [{"spans": [7, {"spanId": [1]}]}]}]}',
    }.items():
        with pytest.raises(TraceError) as raised:
            read(save(tmp_path / name, content))
        assert str(raised.value).startswith(str(tmp_path / name)), name
        assert "\n" not in str(raised.value)


def test_frames_are_exported_as_chrome_trace_events(tmp_path, capsys):
    pipeline = latprof.Pipeline.chain("mic", "queue", "play", stations={"play": "card"})
    start = AT + np.arange(40) * 20 * MS + 1
    marks = {"start": start, "queue": start, "play": start + 1_001, "end": start + 2_000}
    marks["end"][7] += 5 * MS
    latprof.Trace(pipeline, frame_id=range(40), marks=marks, source="in").save(
        tmp_path / "t.parquet"
    )
    where = tmp_path / "t.json"
    assert main(["export", str(tmp_path / "t.parquet"), "-o", str(where), "--worst", "3"]) == 0
    assert "the 3 slowest frames of 40" in capsys.readouterr().out
    events = json.loads(where.read_text(), parse_float=Fraction)["traceEvents"]
    slices = [event for event in events if event["ph"] == "X"]
    assert [event["name"] for event in slices] == ["play"] * 3
    slow = next(event for event in slices if event["args"]["frame"] == "7")
    assert slow["ts"] * 1_000 == marks["play"][7]
    assert slow["dur"] * 1_000 == 999 + 5 * MS
    names = {e["tid"]: e["args"]["name"] for e in events if e["name"] == "thread_name"}
    assert names[slow["tid"]] == "card"
    waits = [e for e in events if e["name"] == "queue"]
    assert [event["ph"] for event in waits] == ["b", "e"] * 3
    back = read(where)
    assert sorted(set(back.tags["operation"].to_numpy()))[-2:] == ["play", "queue"]
    combined = tmp_path / "combined.json"
    with combined.open("w") as file:
        ReportBuilder([str(where), str(FILES / "viztracer.json")], verbose=0).save(file)
    opened = json.loads(combined.read_text())["traceEvents"]
    own = json.loads((FILES / "viztracer.json").read_text())["traceEvents"]
    assert len(opened) == len(events) + len(own)
