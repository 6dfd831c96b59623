import itertools
import random
from pathlib import Path

import instants
import numpy as np
import pytest
from changed import compared
from culprits import KINDS, pipeline
from hypothesis import example, given, settings
from hypothesis import strategies as st
from lines import LINE, line, served
from strategies import examples

from latprof import AUDIO, Pipeline, Span, Trace, read, sensitivity, what_if
from latprof.errors import TraceError
from latprof.queueing.load import places_in_flight
from latprof.queueing.model import queue_model
from latprof.queueing.replay import one_server, several_servers

DATA = Path(__file__).parents[1] / "data"
ROWS = served(range(0, 400, 10), [7] * 40, [9] * 40)


def one_by_one(ready, over, service, servers):
    """Return departures, as an obvious loop."""
    free, out, latest = [-(10**15)] * servers, [], -(10**15)
    for at, g, s in zip(ready, over, service, strict=True):
        latest = max(latest, at)
        k = free.index(min(free))
        free[k] = max(latest, free[k] + g) + s
        out.append(free[k])
    return out


whole = st.lists(
    st.tuples(st.integers(0, 30), st.integers(0, 5), st.integers(0, 40)), min_size=1, max_size=40
)


@settings(max_examples=examples(80), deadline=None)
@given(whole, st.integers(1, 4))
@example([(0, 0, 1), (0, 0, 0)], 1)
@example([(0, 0, 3), (1, 0, 0), (0, 0, 2)], 2)
@example([(0, 0, 0), (0, 1, 0)], 1)
def test_servers_are_what_a_loop_gives(draws, servers):
    ready = np.cumsum([x for x, _, _ in draws])
    over, service = (np.array([x[i] for x in draws]) for i in (1, 2))
    expected = one_by_one(ready.tolist(), over.tolist(), service.tolist(), servers)
    assert several_servers(ready, over, service, servers)[0].tolist() == expected
    if servers == 1:
        assert one_server(ready, over, service).tolist() == expected


@pytest.mark.parametrize("name", ["mic-slow-card", "mic-healthy"])
def test_factor_1_gives_every_end_back(name):
    path = DATA / f"{name}.parquet"
    for changes in ({}, {"alsa": 1.0, "ipc": 1, "webrtc": "+0ns"}):
        result = what_if(path, changes)
        assert (result.replayed_ns == result.measured_ns).all()
        assert (result.other_ns == result.measured_ns).all()
    frames = len(result.measured_ns)
    assert result.counts == {"frames": frames, "dropped": 0, "breaks": 0, "left_out": 0}


def test_factor_1_gives_every_end_back_in_odd_recordings():
    rng = np.random.default_rng(5)
    rows = served(np.arange(500) * 15, rng.integers(0, 12, 500), rng.integers(0, 12, 500))
    rows[250] = (rows[250][0], rows[250][1] - 3, *rows[250][2:])  # enters a busy station
    rows[100] = (rows[100][0], rows[100][1], None, None, rows[100][3])  # is dropped in get
    rows[300] = (rows[300][0], None, None, None, rows[300][0] + 1)  # is dropped in the queue
    outcome = [None] * 500
    outcome[100] = outcome[300] = "late"
    result = what_if(line(rows, outcome=outcome), {"get": 1.0})
    assert (result.replayed_ns == result.measured_ns).all()
    assert result.counts == {"frames": 498, "dropped": 0, "breaks": 1, "left_out": 0}


def test_factor_1_gives_every_end_back_of_simulated_pipelines():
    for kind, seed in itertools.product(KINDS, range(5)):
        trace, culprit, _ = pipeline(kind, seed)
        result = what_if(trace, {culprit: 1.0})
        assert (result.replayed_ns == result.measured_ns).all()


def test_factor_1_gives_every_end_back_of_drawn_frames():
    replayed = 0
    for seed in range(200):
        pipeline, rows, outcomes = instants.drawn(seed, (5, 30, 150)[seed % 3])
        try:
            result = what_if(instants.trace_of(pipeline, rows, outcomes))
        except TraceError:
            continue
        assert (result.replayed_ns == result.measured_ns).all(), seed
        assert (result.other_ns == result.measured_ns).all(), seed
        replayed += 1
    assert replayed > 100


def test_frames_of_no_time_in_a_busy_station_take_no_server():
    # of two servers both are busy from 1 to 20; the third frame passes, the fourth one waits
    rows = [(0, 0, 20, 20, 20), (1, 1, 30, 30, 30), (5, 5, 5, 5, 5), (6, 20, 40, 40, 40)]
    rows += [(t, t, t + 1, t + 1, t + 1) for t in range(100, 3_000, 10)]
    result = what_if(line(rows))
    assert (result.replayed_ns == result.measured_ns).all()
    assert result.counts["breaks"] == 1
    quicker = what_if(line(rows), {"get": "-10ns"})
    assert quicker.replayed_ns[-3:].tolist() == [10, 14, 19]


def test_a_departure_of_several_at_once_leaves_room():
    # two servers, which are free at the same instants
    rows = [(10 * (i // 2), 30 * (i // 2), *[30 * (i // 2) + 30] * 3) for i in range(40)]
    result = what_if(line(rows), {"get": 1 / 3})
    assert set(result.replayed_ns.tolist()) == {10}


def test_a_change_by_hand():
    # each takes 16 ns, one comes every 10 ns: with 6 ns less no frame waits
    result = what_if(line(ROWS), {"put": "-6ns"})
    assert set(result.replayed_ns.tolist()) == {13}
    assert result.subtraction_ns.tolist() == [13 + 6 * i for i in range(40)]
    table = result.table
    assert list(table.columns) == ["measured", "replayed", "subtraction", "low", "high"]
    assert list(table.index) == [50, 90, 99, 99.9, 100]
    assert table.loc[50].tolist() == [19 + 19 * 6, 13, 13 + 19 * 6, 13, 13]
    assert result.changes == {"put": "-6ns"}
    assert set(what_if(line(ROWS), servers={"worker": 2}).replayed_ns.tolist()) == {19}


@pytest.mark.parametrize("rows", [[], [(0, 5, 6, 7, 8)]])
def test_without_frames_the_replayed_times_are_missing(rows):
    result = what_if(line(rows), drop={"queue": 1})
    assert result.table["replayed"].isna().all()
    assert all(dtype.kind in "if" for dtype in result.table.dtypes)
    assert [row["replayed"] for row in result.rows()] == [None] * 5
    nothing = "no frame can be replayed"
    assert (nothing if not rows else "-</td>") in result._repr_html_()


def test_a_stamp_that_is_too_early_takes_no_frame_before_its_start():
    rows = [(t, t, t + 10, t + 20, t + 20) for t in range(100, 20_000, 100)]
    rows[50] = (rows[50][0], rows[50][0], rows[50][0] + 60, rows[50][0] + 70, rows[50][0] + 20)
    result = what_if(line(rows), {"get": 0, "put": 0})
    assert result.replayed_ns[0] == 0


def test_all_changes_of_one_name_are_listed():
    result = what_if(line(ROWS), {"get": 0.5, "queue": "-1ns"}, drop={"queue": "2us"})
    assert result.changes == {"get": "x 0.5", "queue": "-1ns, dropped after 2.00 us"}
    named = what_if(line(ROWS), {"get": 2}, servers={"get": 2}, stations={"get": "get"})
    assert named.changes == {"get": "x 2, 2 servers"}


def test_frames_that_wait_too_long_are_dropped():
    result = what_if(line(ROWS), drop={"queue": 12})
    waits, free, kept = [], 0, 0
    for start, *_ in ROWS:
        begin = max(start, free)
        if begin - start > 12:
            continue
        free, kept = begin + 16, kept + 1
        waits.append(begin - start + 19)
    assert sorted(waits) == result.replayed_ns.tolist()
    assert result.counts["dropped"] == 40 - kept > 0


def test_a_dropped_frame_has_waited_until_its_limit():
    """Frames come every 5 ms and are served for 10: they wait 0, 5, 10, 15, and then 20 ms."""
    ms = 1_000_000
    result = what_if(
        line(served(range(0, 45 * ms, 5 * ms), [10 * ms] * 9, [0] * 9)), drop={"queue": "20ms"}
    )
    assert result.counts["dropped"] == 2  # frames 5 and 7
    recorded, replayed = result.waits["queue"]
    assert recorded == pytest.approx(5 * ms * 4)
    assert replayed == pytest.approx((0 + 5 + 10 + 15 + 5 * 20) / 9 * ms)


def test_a_quicker_network_comes_sooner():
    rows = [(0, 5, 6, 7, 8), (100, 205, 206, 207, 208), (110, 215, 216, 217, 300)]
    result = what_if(line(rows), {"queue": 0.2, "gone": "-1s"})
    assert result.replayed_ns.tolist() == [1 + 2, 21 + 2, 21 + 2]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "most"), [("quicker", 0.01), ("slower", 0.01), ("several", 0.03), ("servers", 0.03)]
)
def test_against_the_changed_pipeline_itself(kind, most):
    """Check that a replay is near the truth, and no worse than subtraction (within a third)."""
    for seed in range(20):
        for q, (truth, replayed, subtraction, *_) in compared(seed, kind).items():
            error, plain = abs(replayed / truth - 1), abs(subtraction / truth - 1)
            assert error <= most, (kind, seed, q)
            assert error <= plain + most / 3, (kind, seed, q)


def test_dropping_against_the_changed_pipeline_itself():
    for seed in range(8):
        for q, (truth, replayed, *_) in compared(seed, "drop").items():
            assert abs(replayed / truth - 1) <= 0.01, (seed, q)


def test_sensitivity_by_hand():
    table = sensitivity(line(ROWS))
    assert list(table.index) == ["get", "put", "queue", "gone"]
    # a tenth of 9, or of 7, is 1 (rounded): the n-th frame ends n sooner
    assert table.loc["put", "mean"] == np.arange(1, 41).mean()
    assert table.loc["put", "p99"] == 40
    assert table.loc["queue"].tolist() == [0, 0, 0, 0]
    assert not len(what_if(line([]), {"gone": 2, "get": "+1h"}).replayed_ns)
    assert sensitivity(line([])).isna().all(axis=None)
    assert sensitivity(DATA / "mic-slow-card.parquet").index[0] == "alsa"


def test_wrong_arguments_are_refused():
    stages = r"stages of pipeline 'line' \(queue, get, put, gone\), got 'nope'"
    for call, why in (
        ({"changes": {"nope": 0.9}}, f"changes must name {stages}"),
        ({"changes": {"get": "2ms"}}, "change of get must be a factor, or .* got '2ms'"),
        ({"changes": {"get": "-soon"}}, "'-soon'"),
        ({"changes": {"get": -0.5}}, "must be a factor from 0 to 1,000,000 .* got -0.5"),
        ({"changes": {"get": float("nan")}}, "got nan"),
        ({"changes": {"get": True}}, "got True"),
        ({"changes": {"get": "+1000000h"}}, "'worker' must be below 2.*use smaller changes"),
        ({"changes": {"gone": "+1000000h", "get": "+1000000h"}}, "use smaller changes"),
        ({"servers": {"worker": 2}, "changes": {"get": "+1200000h"}}, "use smaller changes"),
        ({"changes": ["get"]}, r"changes must be a dict .* got \['get'\]"),
        ({"servers": 2}, "servers must be a dict .* got 2"),
        ({"drop": "queue"}, "drop must be a dict .* got 'queue'"),
        ({"servers": {"nope": 2}}, r"stations of the pipeline \(worker\), got 'nope'"),
        ({"servers": {"worker": 0}}, "servers of worker must be an integer from 1 .* got 0"),
        ({"drop": {"gone": "1ms"}}, r"hand-offs in front of a station \(queue\), got 'gone'"),
        ({"drop": {"queue": "x"}}, "drop at queue .*'x'"),
    ):
        with pytest.raises(TraceError, match=why):
            what_if(line(ROWS), **call)
    for less in (-0.1, 1.1, float("nan"), "x", None):
        with pytest.raises(TraceError, match="less must be a number from 0 to 1, got"):
            sensitivity(line(ROWS), less=less)


def test_frames_that_contradict_first_in_first_out_are_refused():
    rows = [[x * 10**6 for x in row] for row in served(range(0, 4000, 10), [4] * 400, [9] * 400)]
    rows[50:90] = [[a[0], *b[1:]] for a, b in zip(rows[50:90], rows[50:90][::-1], strict=True)]
    with pytest.raises(TraceError, match="of 400 frames at station 'worker' contradict first in"):
        what_if(line(rows), {"get": 0.9})


def test_a_station_that_frames_visit_twice_is_refused():
    twice = Pipeline(
        "twice",
        ("start", "a", "b", "end"),
        (
            Span("x", "start", "a", station="core"),
            Span("away", "a", "b"),
            Span("y", "b", "end", station="core"),
        ),
    )
    at = {mark: np.arange(3) * 100 + i for i, mark in enumerate(twice.marks)}
    with pytest.raises(TraceError, match="come to it more than once"):
        what_if(Trace(twice, frame_id=np.arange(3), marks=at), {"x": 0.5})


def test_a_replay_of_no_frames():
    result = what_if(line([]), {"get": 0.5})
    assert set(result.mean.values()) == {None}
    assert result.table.isna().all(axis=None)
    assert str(result).strip() == "What if get x 0.5: no frame can be replayed"
    assert LINE.stages[0].name == "queue"


# -- closed loops -----------------------------------------------------------------------------

DOCS = Pipeline.chain("docs", "load", "waiting", "parse", stations={"load": "reader", "parse": "p"})


def closed(frames, room, parse, seed=1, load=100):
    """Return a trace of a reader in front of a queue of `room` places, and what it took."""
    rng = random.Random(seed)
    rows, entries, free, now = [], [], 0, 0
    for i in range(frames):
        start = now
        waiting = start + load
        # put() returns when the frame of `room` places before was taken out
        now = max(waiting, entries[i - room] if i >= room else 0) + 10
        entries.append(max(now, free))
        free = entries[-1] + round(parse * rng.uniform(0.5, 1.5))
        rows.append((start, start, waiting, entries[-1], free))
    return recording(DOCS, rows)


def recording(pipeline, rows):
    columns = dict(zip(pipeline.marks, np.array(rows, np.int64).T, strict=True))
    return Trace(pipeline, frame_id=np.arange(len(rows)), marks=columns)


def places(trace):
    return places_in_flight(queue_model(trace.pipeline, trace.columns))


def test_a_replay_of_a_closed_loop_is_a_forecast():
    for room in (4, 20):
        trace = closed(1_000, room, 50_000)
        # the frames in the queue, the one in parse, and the one that waits for a place
        assert abs(places(trace) - (room + 2)) <= 1
        result = what_if(trace, {"parse": 0.9})
        assert not result.warning
        assert result.source.kind == "closed"
        assert result.queues["waiting"].room == room
        changed = closed(1_000, room, 45_000)
        measured = np.sort(changed.columns.marks["end"] - changed.columns.marks["start"])
        for row, q in zip(result.rows(), (500, 900, 990, 999), strict=False):
            assert row["replayed"] == pytest.approx(measured[q - 1], rel=0.01)


def test_open_loops_are_not_taken_for_closed_ones():
    for name in ("mic-healthy", "mic-slow-card"):
        assert places(read(DATA / f"{name}.parquet")) is None
    # three periods on the way, all the same: as many in flight whenever one starts
    steady = [(i * 20, i * 20, i * 20 + 60, i * 20 + 65) for i in range(1_000)]
    queue = Pipeline.chain("line", "network", "play", stations={"play": "card"})
    assert places(recording(queue, steady)) is None
    rng = random.Random(2)
    late = [(s, n, p + (d := rng.randrange(9)), e + d) for s, n, p, e in steady]
    assert places(recording(queue, late)) is None
    assert places(recording(queue, steady[:50])) is None
    assert places(Trace(AUDIO, frame_id=[], marks={})) is None


def test_simulated_sources_are_open_loops():
    for kind in KINDS:
        for seed in range(5):
            assert places(pipeline(kind, seed)[0]) is None, (kind, seed)
