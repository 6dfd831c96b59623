import itertools
from pathlib import Path

import instants
import numpy as np
import pytest
import queueing
from hypothesis import given, settings
from hypothesis import strategies as st
from lines import line, overlaps, served
from queueing import Station
from strategies import examples

from latprof import AUDIO, Pipeline, Span, Trace, analyze, what_if
from latprof.cli.main import main
from latprof.errors import PipelineError, TraceError
from latprof.queueing.blame import blame, waited_for
from latprof.queueing.causes import causes
from latprof.report.report import Report

DATA = Path(__file__).parents[1] / "data"


def test_shares_by_hand():
    # frame 1 comes at 10, and enters at 40: 20 of get, 10 of put; frame 2 5 of get and 10 of put
    table = blame(line([(0, 0, 30, 40, 40), (10, 40, 55, 70, 71), (50, 70, 71, 72, 80)]))
    assert list(table.index) == ["queue", "gone"]
    assert list(table.columns) == ["get", "put", "self_time"]
    assert table.loc["queue"].tolist() == pytest.approx([25 / 50, 25 / 50, 0])
    assert table.loc["gone"].tolist() == [0, 0, 1]
    total = blame(line([(0, 0, 30, 40, 40), (10, 40, 55, 70, 71)]), value="total")
    assert total.loc["queue"].tolist() == [20, 10, 0]
    mean = blame(line([(0, 0, 30, 40, 40), (10, 40, 55, 70, 71)]), value="mean")
    assert mean.loc["queue"].tolist() == [10, 5, 0]
    p99 = blame(line([(0, 0, 30, 40, 40), (10, 40, 55, 70, 71)]), value="p99")
    assert p99.loc["queue"].tolist() == [20, 10, 0]


times = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=25
)


@settings(max_examples=examples(80), deadline=None)
@given(times, st.randoms(use_true_random=False))
def test_blame_is_what_a_loop_over_pairs_finds(draws, random):
    arrivals = np.cumsum([gap for gap, _, _ in draws]).tolist()
    rows = served(arrivals, [g for _, g, _ in draws], [p for _, _, p in draws])
    expected = overlaps(rows)
    random.shuffle(rows)
    table = blame(line(rows, source=["ab"[i % 2] for i in range(len(rows))]), value="total")
    assert table.loc["queue"].to_dict() == expected
    shares = blame(line(rows))
    assert np.allclose(shares.sum(axis=1), 1)


def test_blame_equals_an_analysis_of_each_instant():
    for seed, troubles in itertools.product(range(200), (False, True)):
        pipeline, rows, outcomes = instants.drawn(seed, 1 + seed % 40, troubles=troubles)
        order = np.random.default_rng(seed).permutation(len(rows))
        table = blame(instants.trace_of(pipeline, rows, outcomes, order), value="total")
        for handoff, sums in instants.blocking_time(pipeline, rows, outcomes).items():
            expected = dict.fromkeys(table.columns, np.nan if sums is None else 0.0) | (sums or {})
            found = table.loc[handoff].to_dict()
            assert found == pytest.approx(expected, nan_ok=True), (seed, handoff)


def test_marks_outside_of_a_visit_are_cut_to_the_visit():
    # `b` of the first frame is after its departure, when the second frame is served
    rows = [(0, 0, 25, 20, 20), (5, 20, 30, 40, 40), (6, 40, 41, 42, 42)]
    table = blame(line(rows), value="total")
    assert table.loc["queue"].to_dict() == {"get": 15 + 14 + 10, "put": 10, "self_time": 0}


def test_frames_without_a_departure_waited_too():
    # the second frame lacks `c`: it waited 20 for the first one, and was in get until 25
    rows = [(0, 0, 10, 20, 20), (0, 20, 25, None, 30), (22, 30, 31, 32, 32)]
    table = blame(line(rows), value="total")
    assert table.loc["queue"].to_dict() == {"get": 10 + 3, "put": 10, "self_time": 5}
    with pytest.raises(
        TraceError, match=r"1 of 3 frames at station 'worker' contradict .* or lack"
    ):
        what_if(line(rows), {"get": 0.9})


def test_dropped_frames_keep_others_waiting_and_are_not_counted():
    # the first is dropped in put at 90, the third while it queues
    rows = [(0, 0, 30, None, 90), (10, 90, 91, 92, 93), (15, None, None, None, 50)]
    table = blame(line(rows, outcome=["late", None, "late"]), value="total")
    assert table.loc["queue"].to_dict() == {"get": 20, "put": 60, "self_time": 0}
    assert blame(line(rows, outcome="late")).isna().all(axis=None)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([], [np.nan] * 3),
        ([(0, 5, 6, 7, 8)], [0, 0, 1]),
        ([(0, 0, 0, 0, 0)] * 3, [0, 0, 1]),
        ([(None,) * 5] * 2, [np.nan] * 3),
        ([(9, 5, 6, 7, 8), (0, 7, 8, 9, 9)], [1 / 7, 1 / 7, 5 / 7]),  # negative: not counted
        ([(0, None, 6, 7, 8), (0, 7, 8, 9, 9)], [0, 0, 1]),  # entry unknown
    ],
)
def test_traces_with_few_or_odd_frames(rows, expected):
    assert blame(line(rows)).loc["queue"].tolist() == pytest.approx(expected, nan_ok=True)


def test_a_few_visits_to_a_busy_station_are_cut_to_the_time_that_is_left():
    rows = served(range(0, 4000, 10), [4] * 400, [9] * 400)
    rows[7] = (rows[7][0], rows[7][1] - 5, *rows[7][2:])
    table = blame(line(rows), value="total")
    assert (table.loc["queue"] >= 0).all()
    total = sum(begin - start for start, begin, *_ in rows)
    assert table.loc["queue"].sum() == total


def test_frames_in_several_servers_count_for_equal_parts():
    # two servers: the third frame waits from 4 to 20 for both, for 10 ns of it for one put
    rows = [(0, 0, 10, 20, 20), (1, 1, 30, 40, 40), (4, 20, 30, 50, 50), (5, 40, 41, 42, 43)]
    table = blame(line(rows), value="total")
    # frame 2: [4, 10) get + get, [10, 20) put + get; frame 3: [5, 10), [10, 20) as before, then
    # [20, 30) get + get, [30, 40) put + put
    assert table.loc["queue"].to_dict() == {
        "get": 6 + 5 + 5 + 5 + 10,
        "put": 5 + 5 + 10,
        "self_time": 0,
    }


def test_transport_is_left_out_of_queued_blame():
    n = 300
    starts = np.arange(n) * 20_000
    service = np.full(n, 12_000)
    service[::50] = 70_000
    station = Station("s0", service, np.full(n, 50_000))
    trace = queueing.trace_of(starts, [station])
    waited = (trace.marks["in_s0"] - starts - 50_000).sum()
    found = blame(trace, value="total", queued=True).loc["to_s0"]
    assert found["s0"] == pytest.approx(waited, rel=0.01)
    assert blame(trace, value="total").loc["to_s0", "s0"] > 2 * waited


def test_waiting_behind_a_full_queue_counts_for_the_station_that_blocks():
    n, period = 600, 20_000_000
    service = np.full(n, 5_000_000)
    slow = np.full(n, 8_000_000)
    slow[20::60] = 15 * period
    first = Station("s0", service, np.full(n, 1_000_000))
    second = Station("s1", slow, np.full(n, 1_000), room=2)
    trace = queueing.trace_of(np.arange(n) * period, [first, second])
    table = blame(trace)
    assert table.loc["to_s0", "s1"] > 0.7
    assert blame(trace, depth=1).loc["to_s0", "s0"] > 0.7


def test_so_does_waiting_for_a_server_that_idles_behind_a_full_queue():
    # the stage ends before its frame is put into the full queue
    n, period = 600, 20_000_000
    slow = np.full(n, 8_000_000)
    slow[20::60] = 15 * period
    first = Station("s0", np.full(n, 5_000_000), np.full(n, 1_000_000))
    second = Station("s1", slow, np.full(n, 1_000), room=2)
    trace = queueing.trace_of(np.arange(n) * period, [first, second])
    trace.marks["out_s0"][:] = trace.marks["in_s0"] + 5_000_000
    assert blame(trace).loc["to_s0", "s1"] > 0.7


def test_waited_for_returns_the_intervals_and_the_frames_in_front():
    trace = line([(0, 0, 30, 40, 40), (10, 40, 55, 70, 71), (50, 70, 71, 72, 80)])
    found = [(w.row, w.stage, w.other_row, w.begin_ns, w.end_ns) for w in waited_for(trace, [2, 1])]
    assert found == [
        (2, "get", 1, 50, 55),
        (2, "put", 1, 55, 70),
        (1, "get", 0, 10, 30),
        (1, "put", 0, 30, 40),
    ]
    table = blame(trace, value="total").loc["queue"]
    assert sum(w.end_ns - w.begin_ns for w in waited_for(trace, range(3))) == table.sum()
    with pytest.raises(TraceError, match="rows must be from 0 to 2, got 3"):
        waited_for(trace, [3])
    with pytest.raises(TraceError, match="rows must be empty for a trace without frames, got 0"):
        waited_for(line([]), [0])


def test_frames_of_several_files_wait_for_each_other(tmp_path):
    rows = served(range(0, 4000, 10), [4] * 400, [9] * 400)
    for i in range(3):
        line(rows[i::3]).save(tmp_path / f"{i}.parquet")
    whole = blame(line(rows), value="total")
    assert whole.equals(blame(tmp_path, value="total"))
    paths = sorted(tmp_path.glob("*.parquet"))
    assert whole.equals(blame([paths[2], line(rows[0::3]), str(paths[1])], value="total"))


def test_stations_can_be_given():
    chain = Pipeline.chain("mic", "queue", "play")
    marks = {"start": [0, 0], "queue": [0, 1], "play": [0, 9], "end": [9, 12]}
    trace = Trace(chain, frame_id=[0, 1], marks={m: np.array(x) for m, x in marks.items()})
    assert blame(trace).loc["queue"].to_dict() == {"self_time": 1}
    found = blame(trace, stations={"play": "card"}, value="total")
    assert found.loc["queue"].to_dict() == {"play": 8, "self_time": 0}
    with pytest.raises(
        PipelineError, match="must name stages of pipeline 'mic' \\(queue, play\\), got 'work'"
    ):
        blame(trace, stations={"work": "x"})


@pytest.mark.parametrize(
    ("optional", "why"),
    [
        ({"meta": {"sampling_rate": 0.1}}, "not available: sampling rate 0.1"),
        ({"meta": {"lost": 1204}}, "not available: 1,204 frames lost here"),
        ({"weight": [2]}, "not available: rows represent several frames"),
    ],
)
def test_blame_is_not_available_if_frames_are_missing(optional, why):
    with pytest.raises(TraceError, match=why):
        blame(line([(0, 1, 2, 3, 4)], **optional))


def test_wrong_arguments_are_refused():
    with pytest.raises(TraceError, match="value must be one of share, mean, total, p99, got 'max'"):
        blame(line([]), value="max")
    with pytest.raises(TraceError, match="depth must be an integer of 1 or more, got 0"):
        blame(line([]), depth=0)
    for depth in (0, 2.5, "x", True, None):
        with pytest.raises(TraceError, match="depth must be an integer of 1 or more"):
            causes(line([]), depth=depth)
    with pytest.raises(TraceError, match=r"rows must be row numbers .*got \['x'\]"):
        waited_for(line([(0, 1, 2, 3, 4)]), ["x"])
    with pytest.raises(
        PipelineError, match=r"stations must be a dict of stations by stage .*got \['get'\]"
    ):
        blame(line([]), stations=["get"])
    with pytest.raises(TraceError, match="hand_over must be a duration"):
        blame(line([]), hand_over="soon")
    with pytest.raises(TraceError, match="no recordings were given"):
        blame([])


def test_blame_refuses_a_stage_named_self_time(tmp_path, capsys):
    spans = (Span("queue", "start", "a"), Span("self_time", "a", "end", station="worker"))
    marks = {"start": np.array([0, 10]), "a": np.array([0, 30]), "end": np.array([30, 60])}
    trace = Trace(Pipeline("p", ("start", "a", "end"), spans), frame_id=[0, 1], marks=marks)
    with pytest.raises(TraceError, match=r"'self_time'.*rename the stage of pipeline 'p'"):
        blame(trace)
    trace.save(tmp_path / "p.parquet")
    assert main(["causes", str(tmp_path / "p.parquet")]) == 2
    assert "rename the stage" in capsys.readouterr().err
    # results without such a column are available
    assert causes(trace).blocking_time["self_time"] == 20
    page = Report(analyze(trace, causes=True)).to_html()
    assert "What the slowest frames waited for" in page


def test_the_recordings():
    from latprof import read

    slow = read(DATA / "mic-slow-card.parquet")
    late = slow.select(since=int(slow.marks["start"][0]) + 10_000_000_000)
    assert list(blame(late).index) == ["transit", "ipc"]
    assert list(blame(late).columns) == ["webrtc", "cgo", "alsa", "self_time"]
    assert blame(late).loc["ipc", "alsa"] > 0.95
    for queued in (False, True):
        assert blame(slow, queued=queued).loc["ipc", "alsa"] > 0.95
        healthy = blame(DATA / "mic-healthy.parquet", queued=queued)
        assert (healthy.drop(columns="self_time") < 0.05).all(axis=None)
    assert slow.pipeline == AUDIO
