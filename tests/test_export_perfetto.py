"""Perfetto's traces, read back by Perfetto's own protos, and the frames in flight."""

import json
import sys
from collections import Counter, defaultdict
from fractions import Fraction

import numpy as np
import pytest
from needs import require

from latprof import Pipeline, Span, Trace
from latprof.cli.main import main
from latprof.errors import ProfileError, TraceError
from latprof.export import chrome, perfetto
from latprof.export.slices import frames_in_flight
from latprof.frames import MISSING, Columns

protos = require("perfetto.protos.perfetto.trace.perfetto_trace_pb2")

AT = 1_700_000_000_000_000_000
WEB = Pipeline(
    "web",
    ("start", "taken", "sent", "end"),
    (
        Span("queue", "start", "taken"),
        Span("serve", "taken", "sent", station="crew"),
        Span("reply", "sent", "end", station="crew"),
    ),
)


def crowd(seed=1, frames=60, at=AT):
    """Return frames that overlap everywhere; some lack a mark, take no time, or go back in time."""
    rng = np.random.default_rng(seed)
    start = at + rng.integers(0, 2_000, frames)
    lengths = rng.integers(-20, 200, (3, frames)) * rng.integers(0, 2, (3, frames))
    marks = dict(zip(WEB.marks, np.vstack([start, start + lengths.cumsum(0)]), strict=True))
    for mark in ("taken", "sent", "end"):
        marks[mark] = np.where(rng.random(frames) < 0.1, MISSING, marks[mark])
    source = np.where(rng.random(frames) < 0.5, 'a"\n<b>', "ü\udcff")
    return Trace(
        WEB, frame_id=2**64 - 1 - np.arange(frames, dtype=np.uint64), marks=marks, source=source
    )


def opened(path):
    """Return the slices (track, name, begin, end, event) and counts of a file.

    As Perfetto reads them: in order of time and, at one time, of the file. The end of a slice
    closes the newest one that is open on its track.
    """
    packets = protos.Trace.FromString(path.read_bytes()).packet
    tracks = {
        p.track_descriptor.uuid: p.track_descriptor
        for p in packets
        if p.HasField("track_descriptor")
    }
    waiting, slices, counts = defaultdict(list), [], []
    events = [packet for packet in packets if packet.HasField("track_event")]
    for packet in sorted(events, key=lambda packet: packet.timestamp):
        event, at = packet.track_event, packet.timestamp
        track = tracks[event.track_uuid]
        assert tracks[track.parent_uuid].name == "web"
        if event.type == event.TYPE_COUNTER:
            assert track.HasField("counter")
            counts.append((track.name, at, event.counter_value))
        elif event.type == event.TYPE_SLICE_BEGIN:
            assert not waiting[event.track_uuid], "slices of one lane overlap"
            waiting[event.track_uuid].append((at, event))
        else:
            begin, first = waiting[event.track_uuid].pop()
            slices.append((track.name, first.name, begin, at, first))
    assert not any(waiting.values())
    return slices, counts


def frame_of(event):
    return next(a.string_value for a in event.debug_annotations if a.name == "frame")


def test_every_slice_is_read_back_to_the_nanosecond(tmp_path):
    for seed in range(5):
        trace, path = crowd(seed), tmp_path / "t.pftrace"
        drawn = perfetto.save(trace, path, worst=1_000)
        slices, _ = opened(path)
        marks = {mark: ns.tolist() for mark, ns in trace.marks.items()}
        expected, whole = Counter(), 0
        for i, frame in enumerate(trace.frame_id.tolist()):
            if marks["end"][i] == MISSING or marks["end"][i] < marks["start"][i]:
                continue
            whole += 1
            spans = [
                ("frames", f"frame {frame}", "start", "end"),
                ("queue", "queue", "start", "taken"),
                ("crew", "serve", "taken", "sent"),
                ("crew", "reply", "sent", "end"),
            ]
            for track, name, a, b in spans:
                begin, end = marks[a][i], marks[b][i]
                if MISSING not in (begin, end) and begin <= end:
                    expected[track, name, begin, end, str(frame)] += 1
        found = Counter((*rest, frame_of(event)) for *rest, event in slices)
        assert found == expected
        assert len(drawn.frames) == whole > 20
        sources = {
            a.string_value
            for *_, event in slices
            for a in event.debug_annotations
            if a.name == "source"
        }
        assert sources == {'a"\n<b>', "ü\\udcff"}


def test_a_flow_follows_each_frame_through_its_stages(tmp_path):
    path = tmp_path / "t.perfetto-trace"
    perfetto.save(crowd(), path, worst=1_000)
    flows, stages = defaultdict(list), defaultdict(list)
    for _, name, begin, _, event in opened(path)[0]:
        if not name.startswith("frame "):
            stages[frame_of(event)].append(name)
        for flow in (*event.flow_ids, *event.terminating_flow_ids):
            flows[flow].append((begin, WEB.span_names.index(name), frame_of(event), event))
    assert len(flows) > 20
    for steps in flows.values():
        steps.sort(key=lambda step: step[:2])
        frames = {frame for _, _, frame, _ in steps}
        assert len(frames) == 1
        assert len(steps) == len(stages[frames.pop()]) > 1
        assert [bool(event.terminating_flow_ids) for *_, event in steps] == [
            *[False] * (len(steps) - 1),
            True,
        ]
    assert {len(names) for frame, names in stages.items()} >= {2, 3}


def test_the_counter_is_the_number_of_frames_in_flight(tmp_path):
    trace, path = crowd(frames=200), tmp_path / "t.pftrace"
    perfetto.save(trace, path, worst=3)
    slices, counts = opened(path)
    assert len([name for _, name, *_ in slices if name.startswith("frame ")]) == 3
    start, end = trace.marks["start"], trace.marks["end"]
    both = (end != MISSING) & (end >= start)
    start, end = start[both], end[both]
    assert {name for name, _, _ in counts} == {"frames in flight"}
    seen = dict((at, count) for _, at, count in counts)
    now = 0
    for at in range(int(start.min()), int(end.max()) + 1):
        now = seen.get(at, now)
        assert now == ((start <= at) & (at < end)).sum()
    assert now == 0
    chrome.save(trace, tmp_path / "t.json", worst=3)
    events = json.loads((tmp_path / "t.json").read_text(), parse_float=Fraction)["traceEvents"]
    assert [
        (e["name"], e["ts"] * 1_000, e["args"]["frames"]) for e in events if e["ph"] == "C"
    ] == [(name, at, count) for name, at, count in counts]


def test_many_changes_are_counted_by_their_peak_in_windows():
    # from 0 to 10, 0 to 95 and 70 to 100; windows from 0, 26, 52 and 78 on
    marks = {"start": np.array([0, 0, 70]), "end": np.array([10, 95, 100])}
    few = frames_in_flight(Columns(np.arange(3, dtype=np.uint64), marks), 4)
    assert few.name == "frames in flight, most in each 26 ns"
    assert (few.at_ns.tolist(), few.counts.tolist()) == ([0, 26, 52, 100], [2, 1, 2, 0])
    columns = crowd(frames=300).columns
    start, end = columns.marks["start"], columns.marks["end"]
    both = (end != MISSING) & (end >= start)
    every = np.arange(start[both].min(), end[both].max() + 1)
    flying = (start[both] <= every[:, None]) & (every[:, None] < end[both])
    few = frames_in_flight(columns, 300)
    width = -(-len(every) // 300)
    assert few.name == f"frames in flight, most in each {width} ns"
    peaks = flying.sum(1)[: len(every) - 1]
    windows = [int(peaks[i : i + width].max()) for i in range(0, len(peaks), width)]
    seen = dict(zip(few.at_ns.tolist(), few.counts.tolist(), strict=True))
    now = 0
    for i, peak in enumerate(windows):
        now = seen.pop(int(every[0]) + i * width, now)
        assert now == peak
    assert seen == {int(every[-1]): 0}


def test_the_command_writes_what_the_function_writes(tmp_path, capsys):
    path = tmp_path / "t.parquet"
    crowd().save(path)
    for ending in perfetto.ENDINGS:
        output = tmp_path / f"by_command{ending}"
        assert main(["export", str(path), "-o", str(output), "--worst", "4"]) == 0
        assert capsys.readouterr().out == f"{output}: the 4 slowest frames of 60\n"
        perfetto.save(crowd(), tmp_path / "by_function.pftrace", worst=4)
        assert output.read_bytes() == (tmp_path / "by_function.pftrace").read_bytes()


def test_frames_in_flight_of_a_sample_are_not_counted(tmp_path, capsys):
    sampled = Trace(
        WEB, frame_id=[1], marks={"start": [AT], "end": [AT + 5]}, meta={"sampling_rate": 0.5}
    )
    kept = Trace(WEB, frame_id=[1], marks={"start": [AT], "end": [AT + 5]}, weight=[32])
    for trace, why in ((sampled, "frames are sampled"), (kept, "some frames represent several")):
        for save, name in ((perfetto.save, "t.pftrace"), (chrome.save, "t.json")):
            drawn = save(trace, tmp_path / name)
            assert (drawn.in_flight, drawn.note) == (None, why)
    assert opened(tmp_path / "t.pftrace")[1] == []
    sampled.save(tmp_path / "t.parquet")
    assert main(["export", str(tmp_path / "t.parquet"), "-o", str(tmp_path / "t.json")]) == 0
    assert capsys.readouterr().out.endswith(
        "the 1 slowest frame of 1; frames in flight are not counted, as frames are sampled\n"
    )


def test_wrong_arguments_are_refused_in_one_line(tmp_path, monkeypatch):
    empty = Trace(WEB, frame_id=[1], marks={"start": [AT]})
    for arguments, error, words in (
        ((empty, tmp_path / "t.pftrace"), TraceError, "frames must have a start and a later end"),
        ((crowd(at=-(10**6)), tmp_path / "t.pftrace"), TraceError, "must be from 1970 or later"),
        ((crowd(), tmp_path / "no" / "t.pftrace"), TraceError, "cannot be written"),
    ):
        with pytest.raises(error, match=words) as raised:
            perfetto.save(*arguments)
        assert "\n" not in str(raised.value)
    with pytest.raises(ProfileError, match="worst must be an integer from 1"):
        perfetto.save(crowd(), tmp_path / "t.pftrace", worst=0)
    monkeypatch.setitem(sys.modules, "perfetto", None)
    monkeypatch.setitem(sys.modules, "perfetto.protos.perfetto.trace", None)
    with pytest.raises(TraceError, match=r"pip install -U 'latprof\[perfetto\]'"):
        perfetto.save(crowd(), tmp_path / "t.pftrace")
