"""Queues with limited room: what the marks show, and the replay, by hand and simulated."""

import numpy as np
import pytest
import queueing
from programs import program

import latprof
from latprof import Pipeline, Trace, causes, what_if
from latprof.errors import PipelineError, TraceError
from latprof.queueing.model import queue_model

PAIR = Pipeline.chain("pair", "load", "queue", "work", stations={"load": "a", "work": "b"})


def pair(rows, pipeline=PAIR):
    """Return a trace of rows (start, sent, taken, end): the source loads, then puts."""
    start, sent, taken, end = np.array(rows, np.int64).T
    marks = {"start": start, "load": start, "queue": sent, "work": taken, "end": end}
    return Trace(pipeline, frame_id=np.arange(len(rows)), marks=marks)


# loading takes 2, work 10, the queue has room for one frame: frame 3 starts when the take of frame
# 1 has let the put of frame 2 return, at 12, and each later one 10 after it
BY_HAND = [(0, 2, 2, 12), (2, 4, 12, 22), (4, 6, 22, 32), (12, 14, 32, 42), (22, 24, 42, 52)]
LATER = [(10 * k - 18, 10 * k - 16, 10 * k + 2, 10 * k + 12) for k in range(5, 150)]


def test_a_given_room_holds_the_source():
    trace = pair(BY_HAND + LATER)
    same = what_if(trace, queues={"queue": 1})
    assert same.replayed_ns.tolist() == same.measured_ns.tolist() == [12, 20, 28, *[30] * 147]
    # work of 5: takes at 2, 7, 12, 17, ...; the put of frame 2 returns at 7, of frame 3 at 12, ...
    quicker = what_if(trace, {"work": 0.5}, queues={"queue": 1})
    assert quicker.source.kind == "closed"
    # frames 1 and 2 found room, and started at once
    assert quicker.source.evidence.startswith("0 of 2 frames started later than the put before")
    assert quicker.replayed_ns.tolist() == [7, 10, 13, *[15] * 147]
    # of few frames it is not known that the source is closed: they start when they did
    few = what_if(pair(BY_HAND), {"work": 0.5}, queues={"queue": 1})
    # ends at 7, 12, 17, 22, 29
    assert few.replayed_ns.tolist() == sorted([7, 12 - 2, 17 - 4, 22 - 12, 29 - 22])


def test_frames_in_front_of_a_held_station_wait_for_the_station_that_holds_it():
    three = Pipeline.chain(
        "three", "q1", "one", "q2", "two", stations={"one": "a", "two": "b"}, queues={"q2": 1}
    )
    # one takes 2, two takes 10; all arrive at 0. The put of frame 2 returns at 12, with the take of
    # frame 1, so that frame 3 enters one at 12 and not at 6
    taken = [0, 2, 4, 12, 22]
    marks = {
        "start": np.zeros(5, np.int64),
        "q1": np.zeros(5, np.int64),
        "one": np.array(taken),
        "q2": np.array(taken) + 2,
        "two": np.array([2, 12, 22, 32, 42]),
        "end": np.array([12, 22, 32, 42, 52]),
    }
    found = causes(Trace(three, frame_id=np.arange(5), marks=marks))
    # frame 3 waits 6 for one and 6 for two, frame 4 waits 8 for one and 14 for two
    assert found.waits["q1"]["one",] == 2 + 4 + 6 + 8
    assert found.waits["q1"]["q2", "two"] == 6 + 14
    assert found.cause == "two"


def test_an_open_source_of_frames_long_on_their_way_is_not_taken_for_a_paused_one():
    # a frame is often still on its way when the next one starts, never when the one after that does
    for seed in (14, 18):
        rng = np.random.default_rng(seed)
        starts = np.cumsum(10_000_000 + rng.exponential(10_000_000, 2_000).astype(np.int64))
        service = (rng.gamma(16, 1 / 16, 2_000) * 7_000_000).astype(np.int64)
        station = queueing.Station("s0", service, np.full(2_000, 18_000_000))
        found = what_if(queueing.trace_of(starts, [station]), {"s0": 1.05})
        assert found.source.kind == "open"
        assert found.queues["to_s0"].room is None


def test_rooms_and_sources_are_found_and_the_replay_is_exact():
    for kind in ("closed", "paused", "periodic", "pool", "batch", "after put"):
        for seed in range(3):
            this = program(kind, seed, frames=600)
            line = queue_model(this.trace.pipeline, this.trace.columns).line
            begins, leave = line.replay(1, line.work, line.travel, line.transport)
            assert (leave[0] == line.leave).all()
            for begin, again in zip(line.begin, begins, strict=True):
                assert (again[0] == begin).all()
            found = causes(this.trace)
            for handoff, queue in found.queues.items():
                assert queue.room in (None, this.rooms[handoff]), (kind, seed, handoff)
            assert found.source.kind in (kind, "open", "closed", "paused", "periodic")
            if this.is_clear:
                assert found.cause == this.best
            best = what_if(this.trace, {this.best: 0.9})
            truth = this.quicker[this.best].mean()
            assert best.mean["low"] * 0.98 <= truth <= best.mean["high"] * 1.02


def test_unbounded_queues_get_no_room():
    for seed in range(5):
        this = program("unbounded", seed, frames=600)
        assert not any(queue.room for queue in causes(this.trace).queues.values())
    for name in ("mic-slow-card", "mic-healthy"):
        found = causes(f"{latprof.__path__[0]}/../data/{name}.parquet")
        assert not any(queue.room for queue in found.queues.values())
        assert found.source.kind == "open"


def test_causes_sensitivity_and_what_if_agree():
    this = program("closed", 2, frames=600)
    found, table = causes(this.trace), latprof.sensitivity(this.trace)
    for stage in this.stages:
        gain = found.gain[stage] / found.frames
        forecast = what_if(this.trace, {stage: 0.9}).mean
        assert gain == pytest.approx(forecast["measured"] - forecast["replayed"], abs=1)
        assert table.loc[stage, "mean"] == pytest.approx(gain)


def test_rooms_of_a_pipeline_are_kept():
    given = PAIR.with_queues({"queue": 3})
    assert given.queues == {"queue": 3}
    assert Pipeline.from_json(given.to_json()) == given
    assert given.with_queues({"queue": None}) == PAIR
    assert causes(pair(BY_HAND, given)).queues["queue"].text == "room 3 (given)"
    for wrong in (-1, 1.5, True, "8"):
        with pytest.raises(PipelineError, match="the room of queue 'queue' must be an integer"):
            PAIR.with_queues({"queue": wrong})
    with pytest.raises(PipelineError, match="queues must name hand-offs of pipeline 'pair'"):
        what_if(pair(BY_HAND), queues={"work": 1})
    with pytest.raises(TraceError, match="drop must be left out for queues with limited room"):
        what_if(pair(BY_HAND), drop={"queue": "1ms"}, queues={"queue": 1})


BATCHED = Pipeline.chain("batched", "queue", "work", stations={"work": "b"})


def batched(starts, begins, ends):
    """Return a trace of frames that are served in batches."""
    marks = {"start": starts, "queue": starts, "work": begins, "end": ends}
    return Trace(BATCHED, frame_id=np.arange(len(starts)), marks=marks)


def test_batches_are_replayed_as_one_service():
    # a frame every 10, batches of two, each takes 30: the server never catches up
    starts = np.arange(8) * 10
    begins = np.repeat([10, 40, 70, 100], 2)
    trace = batched(starts, begins, begins + 30)
    assert (what_if(trace).replayed_ns == np.sort(begins + 30 - starts)).all()
    # half of it: a batch begins when its second frame comes, at 10, 30, 50 and 70
    quick = what_if(trace, {"work": 0.5})
    assert sorted(quick.replayed_ns.tolist()) == [15, 15, 15, 15, 25, 25, 25, 25]
    # the first frame of a batch waits for its second one, as soon as the server is free
    assert quick.filling == {"queue": ((10 + 0 + 0 + 0) / 8, 4 * 5 / 8 + 5 / 8)}
    assert "b serves one batch at once, of 2 frames on average" in str(quick)
    found = causes(trace)
    assert found.cause == "work"
    # waiting for the server: until the batch in front has left
    assert found.waits["queue"]["work",] == sum(np.maximum(begins - np.maximum(starts, 10), 0))
    assert latprof.utilization(trace)["b"].busy == 1.0
    with pytest.raises(TraceError, match="which frames are served together at another load"):
        what_if(trace, load=1.1)
    with pytest.raises(TraceError, match="servers must be left out if a station serves batches"):
        what_if(trace, servers={"b": 2})


def test_marks_of_a_batch_may_be_set_one_after_the_other():
    rng = np.random.default_rng(0)
    starts = np.cumsum(rng.integers(5_000_000, 15_000_000, 400))
    last = starts[3::4]
    begins = [int(last[0])]
    for ready in last[1:].tolist():
        begins.append(max(ready, begins[-1] + 38_100_000))
    together = np.repeat(begins, 4)
    apart = np.tile(np.arange(4) * 20_000, 100)  # it takes 20 us to mark a frame
    whole = batched(starts, together, together + 38_000_000)
    near = batched(starts, together + apart, together + 38_000_000 + apart)
    for trace in (whole, near):
        found = what_if(trace, {"work": 0.8})
        assert found.waits["queue"][0] == pytest.approx(
            what_if(whole).waits["queue"][0], abs=30_000
        )
        assert found.mean["replayed"] == pytest.approx(
            what_if(whole, {"work": 0.8}).mean["replayed"], abs=60_000
        )


def test_batches_in_another_order_than_frames_start_have_no_replay():
    this = program("batch", 2, frames=600)
    marks = {name: times.copy() for name, times in this.trace.marks.items()}
    # a frame of each tenth batch changes places with one of the next batch
    for name in list(marks)[1:]:
        for i in range(300, 600, 24):
            marks[name][[i, i + 8]] = marks[name][[i + 8, i]]
    odd = Trace(this.trace.pipeline, frame_id=np.arange(600), marks=marks)
    with pytest.raises(TraceError, match="serves batches in another order than frames start"):
        what_if(odd, {this.stages[-1]: 0.9})
    assert any("batches in another order" in note for note in causes(odd).notes)


def test_servers_of_equal_times_that_stay_in_step_are_replayed_as_a_pool():
    # four threads take 8 ms each, so that their frames enter and leave together; two threads behind
    # them change the order of frames
    n, rng = 400, np.random.default_rng(0)
    source = queueing.Source()
    stations = [
        queueing.Station("even", np.full(n, 8_000_000), servers=4, room=2),
        queueing.Station("odd", rng.integers(1_000_000, 7_500_000, n), servers=2),
    ]
    run = queueing.simulate(source, stations)
    trace = queueing.trace_of_run(run, source, stations)
    for stage in ("even", "odd"):
        true = queueing.simulate(source, stations, {stage: 0.9}).end_to_end
        found = what_if(trace, {stage: 0.9})
        assert (found.replayed_ns == np.sort(true)).all()
    assert causes(trace).cause == "odd"


def test_a_source_that_pauses_is_found_if_its_queue_is_rarely_full():
    # it pauses for 4.3 ms after each put; every tenth service is long, and then the queue is full
    n, rng = 800, np.random.default_rng(1)
    source = queueing.Source(pause=np.full(n, 4_300_000))
    service = np.where(rng.random(n) < 0.1, 14_000_000, rng.integers(2_000_000, 3_500_000, n))
    stations = [queueing.Station("work", service, room=2)]
    run = queueing.simulate(source, stations)
    trace = queueing.trace_of_run(run, source, stations)
    held = np.diff(run.start) > 4_300_000
    assert 0.02 < held.mean() < 0.1
    true = queueing.simulate(source, stations, {"work": 0.9}).end_to_end
    found = what_if(trace, {"work": 0.9})
    assert found.source.kind == "paused"
    assert (found.replayed_ns == np.sort(true)).all()


def test_a_source_that_pauses_is_not_periodic_before_its_queue_is_full():
    # the queue fills with a frame each 4 ms, and from then on each start is 4 ms after a take
    n, rng = 600, np.random.default_rng(2)
    source = queueing.Source(pause=np.full(n, 4_000_000))
    stations = [queueing.Station("work", rng.integers(4_000_000, 5_000_000, n), room=8)]
    run = queueing.simulate(source, stations)
    trace = queueing.trace_of_run(run, source, stations)
    true = queueing.simulate(source, stations, {"work": 0.95}).end_to_end
    found = what_if(trace, {"work": 0.95})
    assert found.source.kind == "paused"
    assert found.replayed_ns.mean() == pytest.approx(true.mean(), rel=0.005)


def test_event_loops_are_named():
    # each of 2,000 requests is awaited for 30 to 90 of its own, whatever the others do
    loop = Pipeline.chain("loop", "await", stations={"await": "service"})
    rng = np.random.default_rng(0)
    start = np.cumsum(rng.exponential(10, 2_000)).astype(np.int64)
    end = start + rng.integers(30, 90, 2_000)
    trace = Trace(
        loop, frame_id=np.arange(2_000), marks={"start": start, "await": start, "end": end}
    )
    found = causes(trace)
    (note,) = found.notes
    assert "concurrency without a bound, as in an event loop, and not a station" in note
    assert found.blocking_time["await"] == 0
    assert list(found.overlapping) == ["await"]
    assert found.overlapping["await"] == latprof.utilization(trace)["service"].servers > 5
    assert "they overlap, and wait for no station" in found.sentence
    assert "service" not in found.sentence
    assert "overlapped, without waiting for each other" in str(latprof.utilization(trace))
    # four threads of a pool, with a queue in front, overlap as well, but frames wait for them
    pool = program("pool", 4, frames=600)
    assert causes(pool.trace).overlapping == {}


def test_rooms_behind_one_server_are_found_beside_stations_with_several():
    # marks are set when puts have returned; three servers in front change the order of frames
    for room in (None, 2):
        rng = np.random.default_rng(5)
        n = 2_000
        starts = np.cumsum(rng.integers(500_000, 1_500_000, n))
        stations = [
            queueing.Station("pool", rng.integers(100_000, 2_500_000, n), np.full(n, 1_000), 3),
            queueing.Station("one", rng.integers(200_000, 400_000, n), np.full(n, 1_000)),
            queueing.Station("last", rng.integers(100_000, 1_850_000, n), np.full(n, 1_000)),
        ]
        stations[2].room = room
        trace = queueing.trace_of(starts, stations)
        model = queue_model(trace.pipeline, trace.columns)
        assert not np.all(np.diff(trace.columns.marks["in_one"]) >= 0)
        assert model.queues["to_last"].room == room
        assert [bool(model.blocked[f"station_{name}"]) for name in ("pool", "one", "last")] == [
            False,
            room is not None,
            False,
        ]


def test_a_source_that_soon_has_more_frames_than_are_served_is_taken_as_always_due():
    overloaded = program("irregular", 12)  # no frame is in time after the first 38 of 1,500
    found = causes(overloaded.trace)
    mean = overloaded.measured.mean()
    shown = {name: found.table.loc[name, "gain"] for name in overloaded.stages}
    for name, gain in overloaded.gains.items():
        assert shown[name] == pytest.approx(gain / mean, abs=0.005)
    assert found.cause == overloaded.best == "s2"


def test_an_irregular_source_that_does_not_decide_names_both_stages():
    this = program("irregular", 88)
    found = causes(this.trace)
    assert this.is_clear
    assert this.best in found.named
    assert set(found.named) == {found.cause, *found.alternatives} <= {found.cause, *found.ties}
    assert found.sentence.startswith(f"{found.cause} or {found.alternatives[0]} is the cause")
    # of both readings one names this stage and one the other
    readings = found.gains.readings.values()
    assert {max(gain, key=gain.get) for gain in readings} >= set(found.alternatives)
    assert sum(remark.startswith("if ") for remark in found.remarks) == len(readings) == 2
    # the stage that is named in one reading would make it worse in the other
    named = [[gain[name] for gain in readings] for name in found.named]
    assert any(min(gains) < 0 < max(gains) for gains in named)
    # two recordings together: the one with a source that is known counts in both readings
    whole = found.gains + causes(program("closed", 0, frames=300).trace).gains
    assert all(
        gain[name] == found.gains.readings[reading][name] + (whole.gain[name] - found.gain[name])
        for reading, gain in whole.readings.items()
        for name in found.gain
    )
