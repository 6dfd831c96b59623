import json
import math

import numpy as np
import pytest
from queueing import Source, Station, simulate, trace_of, trace_of_run

import latprof
from latprof import Pipeline, Span, Trace, headroom, what_if
from latprof.cli.main import main
from latprof.errors import ProfileError, TraceError
from latprof.queueing.arrivals import arrivals_of
from latprof.queueing.headroom import parse_limit
from latprof.queueing.load import LoadedFrames, parse_load
from latprof.queueing.model import queue_model

MS = 1_000_000

LINE = Pipeline(
    "line",
    ("start", "in", "end"),
    (Span("queue", "start", "in"), Span("work", "in", "end", station="worker")),
)


def constant(count=1_000, period=20 * MS, service=10 * MS):
    """Return frames that start periodically and never wait."""
    start = np.arange(count) * period
    marks = {"start": start, "in": start, "end": start + service}
    return Trace(LINE, frame_id=np.arange(count), marks=marks)


def random_arrivals(seed, load, frames=20_000, mean=6 * MS):
    """Return a source with exponential gaps of 10 ms / load, and one station."""
    rng = np.random.default_rng(seed)
    due = np.cumsum(rng.exponential(10 * MS / load, frames)).astype(np.int64)
    return Source(due=due), [Station("s0", rng.exponential(mean, frames).astype(np.int64))]


def test_periodic_frames_by_hand():
    # each is served for 10 ms and none waits until one comes every 10 ms: twice the load
    result = headroom(constant(), "p99<15ms")
    assert result.load == pytest.approx(2.0, rel=0.002)
    assert result.saturated
    assert result.station == "worker"
    assert result.busy["worker"] == pytest.approx(1.0, rel=0.002)
    assert {row["p99"] for row in result.curve if row["load"] < 1.9} == {10 * MS}
    assert "until 2.00 times the recorded load" in result.sentence
    assert "worker gives out first: it is 100% busy then" in result.sentence


def test_a_limit_that_frames_pass_alone_has_no_headroom():
    result = headroom(constant(), "p99<9ms")
    assert (result.load, result.low, result.high, result.station) == (0, 0, 0, None)
    assert "is above 9 ms at any load" in result.sentence
    assert headroom(constant(), "p99<=10ms").load > 1.9
    assert headroom(constant(), "p99<10ms").load == 0


def test_exponential_service_against_the_published_formula():
    # of M/M/1 the p99 of the time in the system is ln(100) * service / (1 - busy)
    source, stations = random_arrivals(1, 0.8, frames=12_000)
    trace = trace_of(source.due, stations)
    at_busy_75_percent = math.log(100) * 6 * MS / (1 - 0.75)
    result = headroom(trace, f"p99<{round(at_busy_75_percent)}ns")
    assert result.low > 1.4
    assert result.low <= 0.75 / 0.6 / 0.8 <= result.high


@pytest.mark.slow
def test_the_load_is_within_3_percent_of_the_simulated_one():
    errors = []
    for seed in range(8):
        load = 1.5
        limit = int(
            np.percentile(simulate(*random_arrivals(seed + 100, load, 100_000)).end_to_end, 99)
        )
        recorded = random_arrivals(seed, 1.0)
        result = headroom(trace_of_run(simulate(*recorded), *recorded), f"p99<{limit}ns")
        errors.append(abs(result.load / load - 1))
    assert np.median(errors) < 0.03


def test_the_recorded_load_gives_every_latency_back():
    for name in ("mic-slow-card", "mic-healthy"):
        trace = latprof.read(f"data/{name}.parquet")
        frames = LoadedFrames(queue_model(trace.pipeline, trace.columns), "x")
        assert (frames.latencies(1.0) == frames.measured_ns).all()
    recorded = random_arrivals(3, 1.2, 2_000)
    trace = trace_of_run(simulate(*recorded), *recorded)
    frames = LoadedFrames(queue_model(trace.pipeline, trace.columns), "x")
    assert (frames.latencies(1.0, 7) == frames.measured_ns).all()


def test_a_higher_load_adds_frames_and_keeps_those_of_a_lower_one():
    rng = np.random.default_rng(4)
    arrivals = arrivals_of(np.cumsum(rng.exponential(1e6, 3_000)).astype(np.int64))
    for resampled in (False, True):
        before = set()
        for load in (0.1, 0.7, 1.0, 1.1, 1.9, 2.4, 5.0):
            rows, starts = arrivals.at_load(load, 2, resampled=resampled)
            assert (np.diff(starts) >= 0).all()
            assert len(rows) == pytest.approx(load * 3_000, rel=0.1)
            now = set(zip(rows.tolist(), starts.tolist(), strict=True))
            assert len(now) == len(rows), "no frame is there twice at the same time"
            assert before <= now
            before = now


def test_bursts_stay():
    # ten frames at once, each second
    starts = np.repeat(np.arange(400) * 1_000 * MS, 10) + np.tile(np.arange(10) * MS, 400)
    rng = np.random.default_rng(5)
    starts = starts + np.repeat(rng.integers(0, 300 * MS, 400), 10)
    arrivals = arrivals_of(np.sort(starts))
    assert arrivals.period_ns is None
    _, found = arrivals.at_load(0.5, 1)
    begins = np.flatnonzero(np.diff(found, prepend=-(10**12)) > 100 * MS)
    sizes = np.diff(np.append(begins, len(found)))
    assert (sizes == 10).mean() > 0.9  # but for those that the end of a block cuts
    assert len(sizes) == pytest.approx(200, abs=50)


def test_busy_stretches_stay():
    rng = np.random.default_rng(6)
    busy = np.where(np.arange(4_000) % 2_000 < 1_000, 1e6, 3e6)
    arrivals = arrivals_of(np.cumsum(rng.exponential(busy)).astype(np.int64))
    assert arrivals.most_seen == pytest.approx(2.0, rel=0.15)
    _, starts = arrivals.at_load(1.5, 1)
    again = arrivals_of(starts)
    assert again.most_seen == pytest.approx(arrivals.most_seen, rel=0.15)


def test_a_load_that_was_never_seen_gives_a_warning():
    source, stations = random_arrivals(1, 1.0, 3_000, mean=4 * MS)
    trace = trace_of(source.due, stations)
    result = headroom(trace, "mean<20ms")
    assert result.load > 1.5
    assert "the busiest sixteenth of the recording had 1." in result.warning
    assert result.warning in " ".join(str(result).split())
    mean = trace.span("end_to_end").mean()
    assert headroom(trace, f"mean<={round(mean * 0.9)}ns").warning == ""


def test_a_closed_source_is_refused():
    rng = np.random.default_rng(2)
    n = 600
    source = Source(service=1 * MS)
    stations = [Station("s0", (rng.gamma(20, 0.25, n) * MS).astype(np.int64), room=4)]
    trace = trace_of_run(simulate(source, stations), source, stations)
    with pytest.raises(TraceError, match="headroom must have an open source, got a closed one"):
        headroom(trace, "p99<50ms")


def test_few_frames_are_refused():
    with pytest.raises(TraceError, match="100 finished frames with all their marks, got 99"):
        headroom(constant(99), "p99<50ms")


def test_wrong_limits_and_loads_are_refused():
    for limit in ("p99", "50ms", "p99<", "p99<fast", "p0<1ms", "p100<1ms", "max<1s", 5, None):
        with pytest.raises(TraceError, match=r"limit must be|limit .*'fast'"):
            headroom(constant(), limit)
    assert str(parse_limit(" mean <= 2ms ")) == "mean <= 2.00 ms"
    assert parse_limit("p99.9<1s").percentile == 99.9
    assert [parse_load(x) for x in (1.2, "120%", "1.2", 2)] == [1.2, 1.2, 1.2, 2]
    for load in (0, -1, 17, "fast", "-5%", True, None, float("nan")):
        with pytest.raises(TraceError, match="load must be a multiple of the recorded load"):
            parse_load(load)


def test_the_result_is_shown_and_saved():
    result = headroom(constant(), "p99<15ms")
    content = json.loads(json.dumps(result.to_dict()))
    assert content["load"] == result.load
    assert content["sentence"] == result.sentence
    assert result.table.loc[1.0, "limited"] == result.measured_ns == 10 * MS
    assert "Headroom: p99 < 15.0 ms" in str(result)
    assert "<table" in result._repr_html_()


def test_the_command_says_what_the_function_says(tmp_path, capsys):
    path = tmp_path / "line.parquet"
    constant().save(path)
    assert main(["what-if", str(path), "--until", "p99<15ms", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == headroom(path, "p99<15ms").to_dict()
    assert main(["what-if", str(path), "--load", "120%", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == what_if(path, load=1.2).to_dict()
    assert main(["what-if", str(path), "--until", "p99<15ms", "--faster", "work=10%"]) == 2
    assert "--until must be given without changes" in capsys.readouterr().err


def test_the_curve_shows_the_recorded_point_and_the_limit():
    source, stations = random_arrivals(1, 1.0, 2_000)
    result = headroom(trace_of(source.due, stations), "p99<100ms")
    ax = latprof.plot.load_curve(result)
    lines = {line.get_label(): line for line in ax.lines}
    assert lines["recorded"].get_xydata().tolist() == [[1, result.measured_ns]]
    loads, values = lines["p99"].get_xdata(), lines["p99"].get_ydata()
    assert np.interp(1.0, loads, values) == result.measured_ns
    assert np.interp(result.load, loads, values) == pytest.approx(100 * MS, rel=0.05)
    with pytest.raises(ProfileError, match=r"result must be of latprof\.headroom, got int"):
        latprof.plot.load_curve(5)


def bounded(load, frames, seed):
    """Return a periodic source and three stations behind queues with room for 3 frames."""
    rng = np.random.default_rng(seed)
    due = (np.arange(frames) * 10 * MS / load).astype(np.int64)
    stations = [
        Station(f"s{k}", (mean * MS * rng.gamma(2, 0.5, frames)).astype(np.int64), room=3)
        for k, mean in enumerate((3, 8, 4))
    ]
    return Source(due=due), stations


def test_another_load_against_simulating_it():
    for recorded, changed in (
        (random_arrivals(1, 1.0, 6_000), random_arrivals(2, 1.15)),
        (bounded(1.0, 6_000, 1), bounded(1.15, 20_000, 2)),
    ):
        result = what_if(trace_of_run(simulate(*recorded), *recorded), load="115%")
        assert result.changes == {"load": "x 1.15"}
        assert len(result.replayed_ns) == len(result.measured_ns) == 6_000
        true = float((simulate(*changed).end - changed[0].due).mean())
        assert result.mean["replayed"] == pytest.approx(true, rel=0.1)
        assert result.mean["low"] < result.mean["replayed"] < result.mean["high"]


def test_a_load_that_a_station_cannot_serve_is_said_with_its_growth():
    """Frames come every 50 us and are served for 60 us, so that frame k leaves 10 us x k late."""
    k = np.arange(100_000)
    at = {"start": k * 50_000, "in": k * 60_000, "end": (k + 1) * 60_000}
    recorded = Trace(LINE, frame_id=k, marks=at)
    for load, busy, growth in ((1.2, "144%", "440 ms"), (1, "120%", "200 ms"), (0.9, "108%", "80")):
        result = what_if(recorded, load=load)
        expected = 60_000 + np.arange(30_000) * (60_000 - round(50_000 / load))
        np.testing.assert_allclose(result.replayed_ns, expected, atol=30_000)
        np.testing.assert_array_equal(result.measured_ns, 60_000 + np.arange(30_000) * 10_000)
        grows = f"worker would have to be {busy} busy: end to end grows by {growth}"
        assert grows in result.warning
        assert "replayed are the first 30,000 of 100,000 frames" in result.assumptions
    assert what_if(recorded, load=0.8).warning == ""


def test_the_recorded_load_as_a_change_changes_nothing():
    recorded = bounded(1.0, 2_000, 1)
    trace = trace_of_run(simulate(*recorded), *recorded)
    for each in (constant(), trace):
        result = what_if(each, load=1)
        assert (result.replayed_ns == result.measured_ns).all()
        assert result.readings_ns == ()
    with pytest.raises(TraceError, match="load must be given without other changes"):
        what_if(constant(), {"work": 0.5}, load=1.2)


def test_headroom_of_queues_with_limited_room():
    recorded = bounded(1.0, 2_500, 1)
    trace = trace_of_run(simulate(*recorded), *recorded)
    changed = bounded(1.15, 25_000, 2)
    limit = int(np.percentile(simulate(*changed).end - changed[0].due, 99))
    result = headroom(trace, f"p99<{limit}ns")
    assert result.low <= 1.15 <= result.high
    assert result.station == "station_s1"


def test_a_process_that_uses_all_cores_gives_no_forecast():
    busy = Trace(
        LINE,
        frame_id=np.arange(1_000),
        marks=dict(constant().marks),
        cpu=np.full(1_000, 195.0),
        meta={"cores": 2},
    )
    assert "the process used 1.95 of 2 cores" in what_if(busy, {"work": 0.9}).warning
    assert "the process used 1.95 of 2 cores" in what_if(busy, load=0.9).warning
    assert what_if(constant(), {"work": 0.9}).warning == ""
