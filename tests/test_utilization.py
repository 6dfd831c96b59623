import os
from pathlib import Path

import numpy as np
import pytest
import queueing
from lines import line, served
from queueing import Station

import latprof
from latprof import Pipeline, Span, Trace, utilization
from latprof.cli.main import main
from latprof.errors import TraceError
from latprof.frames import MISSING
from latprof.queueing.suggestions import suggest_stations
from latprof.queueing.utilization import saturated_processor

DATA = Path(__file__).parents[1] / "data"
MS = 1_000_000


def test_by_hand():
    load = utilization(line([(0, 0, 30, 40, 40), (10, 40, 55, 70, 71), (90, 90, 99, 100, 100)]))
    worker = load["worker"]
    assert (worker.servers, worker.visits, worker.busy) == (1, 3, 0.8)
    assert (worker.longest_busy_ns, worker.longest_busy_begin_ns) == (70, 0)
    assert worker.in_front_most == 1
    assert worker.in_front_mean == 30 / 100
    assert worker.growth is None
    rows = [
        (t[0] * MS, *(x * MS for x in t[1:]))
        for t in ((0, 0, 30, 40, 40), (10, 40, 55, 70, 71), (90, 90, 99, 100, 100))
    ]
    assert utilization(line(rows))["worker"].longest_busy_ns == 70 * MS
    shares = utilization(line(rows)).busy["worker"]
    assert len(shares) == 100
    assert shares.tolist() == [1.0] * 70 + [0.0] * 20 + [1.0] * 10
    assert repr(load) == "<Utilization: worker 80% busy>"
    assert repr(utilization(line([]))) == "<Utilization: worker not used>"


def test_no_frames():
    load = utilization(line([]))
    assert load["worker"].busy is None
    assert load.table.loc["worker", "visits"] == 0
    assert load.sentences == ["worker: no frame was served"]


def test_the_queue_of_the_slow_card_grows_at_the_injected_rate():
    found = utilization(DATA / "mic-slow-card.parquet")
    growth = found["server"].growth
    injected = latprof.read(DATA / "mic-slow-card.parquet").meta["run"]["slow_card_ppm"]
    assert growth.rate == pytest.approx(injected * 1_000, rel=0.05)
    assert growth.low <= injected * 1_000 <= growth.high
    assert found["relay"].growth is None
    assert found.table["onset_ns"].dtype == "Int64"
    assert all(
        load.growth is None for load in utilization(DATA / "mic-healthy.parquet").loads.values()
    )


@pytest.mark.parametrize("seed", range(10))
def test_growth_is_distinguished_from_bursts(seed):
    rng = np.random.default_rng(seed)
    n, period = 2_000, 20 * MS
    starts = np.arange(n) * period
    service = (0.8 * period * rng.gamma(50, 1 / 50, n)).astype(np.int64)
    service[::300] += 20 * period  # stalls, one of them late
    service[-100] += 30 * period
    transport = np.full(n, 45 * MS)
    bursts = queueing.trace_of(starts, [Station("s0", service, transport)])
    assert utilization(bursts)["station_s0"].growth is None
    onset = int(rng.integers(500, 1_000))
    slow = service.copy()
    slow[::300] -= 20 * period
    slow[-100] -= 30 * period
    slow[onset:] = (1.05 * period * rng.gamma(400, 1 / 400, n - onset)).astype(np.int64)
    growth = utilization(queueing.trace_of(starts, [Station("s0", slow, transport)]))[
        "station_s0"
    ].growth
    assert growth.rate == pytest.approx(0.05e9, rel=0.1)
    assert abs(growth.onset_ns - starts[onset]) < 30 * period


def test_frames_wait_for_their_first_station_from_when_they_were_due(tmp_path):
    # 1,000 frames are due each second, 500 are served: one due at t starts at 2 t
    kind = Pipeline("p", ("due", "start", "end"), (Span("work", "start", "end", station="server"),))
    k = np.arange(50_000)
    marks = {"due": k * MS, "start": k * 2 * MS, "end": (k + 1) * 2 * MS}
    marks["due"][7] = MISSING  # it waits from its start
    path = tmp_path / "late.parquet"
    Trace(kind, frame_id=k, marks=marks).save(path)
    load = utilization(path)["server"]
    assert load.busy == 1.0
    assert load.in_front_most == pytest.approx(25_000, abs=2)
    assert load.growth is not None
    assert load.growth.rate == pytest.approx(1e9, rel=1e-3)
    assert "saturated since" in load.sentence
    # with half of the load the queue stays empty, and a pipeline without the mark shows none
    marks["due"] = marks["start"] - 5
    assert utilization(Trace(kind, frame_id=k, marks=marks))["server"].growth is None
    bare = Pipeline("p", ("start", "end"), kind.spans)
    del marks["due"]
    assert utilization(Trace(bare, frame_id=k, marks=marks))["server"].in_front_most == 0


def test_stations_are_suggested_never_used():
    trace = latprof.read(DATA / "mic-slow-card.parquet")
    spans = [Span(s.name, s.begin, s.end, kind=s.kind) for s in trace.pipeline.spans]
    bare = Trace.of(Pipeline("bare", trace.pipeline.marks, spans), trace.columns, {})
    (found,) = suggest_stations(bare)
    assert found.stages == ("cgo", "alsa")
    assert found.overlaps == 0
    assert found.back_to_back > 2_000
    assert "cgo and alsa may be served by one station: of 3,000 frames 0 were" in found.sentence
    assert latprof.causes(bare).cause == "ipc"
    assert latprof.causes(bare, stations=found.stations).cause == "alsa"
    assert suggest_stations(trace) == ()
    assert suggest_stations(line([])) == ()


def test_no_station_is_suggested_for_stages_that_overlap():
    rows = served(range(0, 4_000, 10), [4] * 400, [9] * 400)
    chain = Pipeline(
        "x",
        ("start", "a", "c", "end"),
        (Span("queue", "start", "a"), Span("work", "a", "c"), Span("rest", "c", "end")),
    )
    table = np.array(rows)
    trace = Trace(
        chain,
        frame_id=np.arange(400),
        marks={m: table[:, i] for m, i in (("start", 0), ("a", 1), ("c", 3), ("end", 4))},
    )
    assert [each.stages for each in suggest_stations(trace)] == [("work",)]


def test_a_process_that_uses_all_cores_is_reported():
    used = np.array([np.nan, 180, 200, 190], np.float32)
    assert "used 1.90 of 2 cores" in saturated_processor(used, 2)
    assert "used 1.90 of 1 core:" in saturated_processor(used, 1)
    for cpu, cores in ((used, 4), (used, None), (used, 0), (used[:1], 2), (None, 2)):
        assert saturated_processor(cpu, cores) == ""


def test_a_recording_has_the_number_of_cores():
    with latprof.Profiler(latprof.AUDIO) as profiler:
        pass
    assert 1 <= profiler.trace().meta["cores"] <= os.cpu_count()


def test_given_servers_are_used_by_all_questions(capsys, tmp_path):
    rng = np.random.default_rng(2)
    starts = np.cumsum(rng.integers(5, 15, 1_000))
    pipeline = Pipeline.chain("pool", "queue", "work", stations={"work": "crew"})
    begin = starts + 1
    marks = {"start": starts, "queue": starts, "work": begin, "end": begin + 12}
    trace = Trace(pipeline, frame_id=np.arange(1_000), marks=marks)
    seen = latprof.utilization(trace)["crew"].servers
    given = {"crew": 2 * seen}
    assert latprof.utilization(trace, servers=given)["crew"].servers == 2 * seen
    # nothing waits for it: without a given number no bound is known
    assert latprof.utilization(trace)["crew"].is_unbounded
    busy = 12 * 1_000 / (begin[-1] + 12 - begin[0])
    assert latprof.utilization(trace, servers=given)["crew"].busy == busy / (2 * seen)
    assert list(latprof.causes(trace).overlapping) == ["work"]
    assert latprof.causes(trace, servers=given).overlapping == {}
    assert latprof.causes(trace, servers=given).out_of_order == 0
    assert latprof.causes(trace, servers={"crew": 1}).out_of_order > 100
    assert latprof.sensitivity(trace, servers=given).loc["work", "mean"] == pytest.approx(
        1, abs=0.3
    )
    assert latprof.blame(trace, servers=given, value="total").loc["queue", "work"] == 0
    for ask in (latprof.causes, latprof.utilization, latprof.sensitivity, latprof.blame):
        with pytest.raises(TraceError, match="servers must name stations of the pipeline"):
            ask(trace, servers={"work": 2})
        with pytest.raises(TraceError, match="servers of crew must be an integer from 1"):
            ask(trace, servers={"crew": 0})
    trace.save(tmp_path / "pool.parquet")
    assert main(["causes", str(tmp_path / "pool.parquet"), "--servers", "crew=7"]) == 0
    assert "crew serves 7 frames at once" in capsys.readouterr().out
