"""The simulator itself: cases by hand, and what holds for every program."""

import numpy as np
import pytest
from programs import KINDS, program
from queueing import Source, Station, simulate, trace_of_run


def station(name, service, n, **settings):
    return Station(name, np.broadcast_to(np.asarray(service, np.int64), n).copy(), **settings)


def test_a_queue_without_limit_by_hand():
    run = simulate(Source(due=np.array([0, 1, 2, 20])), [station("a", 5, 4)])
    assert run.start.tolist() == [0, 1, 2, 20]
    assert run.begin["a"].tolist() == [0, 5, 10, 20]
    assert run.end_to_end.tolist() == [5, 9, 13, 5]


def test_a_closed_source_in_front_of_one_place_by_hand():
    # the put of frame 2 waits from 6 until frame 1 is taken at 7, that of frame 3 from 9 to 12
    run = simulate(Source(service=2), [station("a", 5, 5, room=1)])
    assert run.start.tolist() == [0, 2, 4, 7, 12]
    assert run.sent.tolist() == [2, 4, 6, 9, 14]
    assert run.put.tolist() == [2, 4, 7, 12, 17]
    assert run.done["a"].tolist() == [7, 12, 17, 22, 27]


def test_a_source_that_pauses_by_hand():
    run = simulate(Source(pause=np.array([3, 0, 9, 1])), [station("a", 5, 4, room=1)])
    # frame 2 is put at 12, since frame 1 was taken at 8; frame 3 starts 1 later
    assert run.start.tolist() == [3, 3, 12, 13]
    assert run.begin["a"].tolist() == [3, 8, 13, 18]


def test_an_open_source_that_is_held_starts_late_by_hand():
    run = simulate(Source(due=np.arange(5) * 2), [station("a", 5, 5, room=1)])
    # frames are taken at 0, 5, 10, ...: the put of frame 2 (due at 4) returns at 5
    assert run.start.tolist() == [0, 2, 4, 6, 10]
    assert run.put.tolist() == [0, 2, 5, 10, 15]


def test_a_full_queue_holds_the_thread_before_it_by_hand():
    first, second = station("a", 1, 4), station("b", 10, 4, room=1)
    run = simulate(Source(due=np.zeros(4, np.int64)), [first, second])
    assert run.done["a"].tolist() == [1, 2, 3, 12]
    assert run.left["a"].tolist() == [1, 2, 11, 21]
    assert run.begin["a"].tolist() == [0, 1, 2, 11]
    assert run.begin["b"].tolist() == [1, 11, 21, 31]
    source = Source(due=np.zeros(4, np.int64))
    before = trace_of_run(run, source, [first, second])
    after = trace_of_run(run, source, [first, second], marked="after put")
    assert before.marks["out_a"].tolist() == [1, 2, 3, 12]
    assert after.marks["out_a"].tolist() == [1, 2, 11, 21]
    assert before.marks["end"].tolist() == after.marks["end"].tolist() == [11, 21, 31, 41]
    assert before.pipeline.marks == ("start", "in_a", "out_a", "in_b", "end")


def test_two_threads_of_a_pool_by_hand():
    run = simulate(Source(due=np.arange(4)), [station("a", [9, 2, 4, 1], 4, servers=2)])
    # frame 1 is done at 3, frame 2 from 3 to 7, frame 3 from 7 to 8; frame 0 until 9
    assert run.begin["a"].tolist() == [0, 1, 3, 7]
    assert run.done["a"].tolist() == [9, 3, 7, 8]


def test_an_event_loop_never_lets_a_frame_wait():
    source, loop = Source(due=np.arange(50)), station("a", 1_000, 50, servers=None)
    run = simulate(source, [loop])
    assert set(run.end_to_end.tolist()) == {1_000}
    assert trace_of_run(run, source, [loop]).pipeline.stages[1].station is None


def test_batches_by_hand():
    source, batches = Source(due=np.arange(7) * 10), station("a", 5, 7, batch=3, each=2)
    run = simulate(source, [batches])
    # the last batch is served with one frame, because no other will come
    assert run.begin["a"].tolist() == [20, 20, 20, 50, 50, 50, 60]
    assert run.done["a"].tolist() == [29, 29, 29, 59, 59, 59, 65]
    assert run.taken["a"].tolist() == [0, 10, 20, 30, 40, 50, 60]


def test_a_batch_begins_without_the_missing_frames_when_its_patience_ends_by_hand():
    source = Source(due=np.array([0, 10, 40, 41, 42]))
    run = simulate(source, [station("a", 5, 5, batch=3, patience=15)])
    assert run.begin["a"].tolist() == [15, 15, 42, 42, 42]
    at_once = simulate(source, [station("a", 35, 5, batch=3, patience=0)])
    # frame 0 alone until 35, frame 1 alone until 70, then all that are there
    assert at_once.begin["a"].tolist() == [0, 35, 70, 70, 70]


def test_overheads_of_threads_by_hand():
    source = Source(service=2)
    run = simulate(source, [station("a", 10, 4, room=1, wake=3, turn=4, resume=1)])
    # frame 0 is put at 2 and taken at 5; the put of frame 1 returns at 5 + 1; it is
    # taken at 15 + 4, frame 2 at 29 + 4
    assert run.put.tolist() == [2, 6, 20, 34]
    assert run.begin["a"].tolist() == [5, 19, 33, 47]


def test_frames_on_their_way_may_overtake_each_other_by_hand():
    run = simulate(Source(due=np.array([0, 1])), [station("a", 5, 2, transport=np.array([9, 1]))])
    assert run.begin["a"].tolist() == [9, 2]


def test_frames_that_waited_too_long_are_dropped_by_hand():
    stations = [station("a", 5, 4, limit=6), station("b", 1, 4, batch=2)]
    run = simulate(Source(due=np.arange(4)), stations)
    assert run.dropped == {2: "a", 3: "a"}
    assert run.end_to_end.tolist() == [11, 10]


def test_a_stage_is_scaled_and_the_draws_stay():
    source, stations = Source(service=2), [station("a", [5, 7, 9], 3, room=1)]
    assert simulate(source, stations, {"a": 0.5}).done["a"].tolist() == [4, 8, 12]
    assert simulate(source, stations, {"load": 3}).sent.tolist() == [6, 12, 18]
    assert simulate(source, stations).done["a"].tolist() == [7, 14, 23]
    with pytest.raises(AssertionError):
        simulate(source, stations, {"b": 2})


def test_threads_and_queues_of_random_programs_behave():
    for kind in KINDS:
        for seed in range(3):
            check(program(kind, seed, frames=300))


def check(this):
    """Check what holds for threads that get, serve and put, whatever the times are."""
    run, n = this.run, len(this.run.start)
    arrived, put = run.sent, run.put
    assert (run.start[1:] >= run.put[:-1]).all(), "the source starts before its put has returned"
    if this.source.due is not None:
        assert (run.start >= this.source.due).all()
    for k, s in enumerate(this.stations):
        taken, begin, done = run.taken[s.name], run.begin[s.name], run.done[s.name]
        left = run.left[s.name]
        assert (arrived <= put).all()
        assert (put <= taken).all()
        assert (taken <= begin).all()
        if s.servers == 1 or not isinstance(s.wake, np.ndarray):  # two threads may wake up at once
            assert (np.argsort(taken, kind="stable") == np.argsort(put, kind="stable")).all()
        if s.batch == 1:
            assert (done - begin == s.service).all()
            assert (taken == begin).all()
        else:
            sizes = np.unique(begin, return_counts=True)[1]
            assert (sizes[:-1] == s.batch).all()
            assert sizes[-1] <= s.batch
        assert s.room is None or this.most_held(s) <= s.room
        # frames in service never exceed the threads
        busy = np.arange(1, n + 1) - np.searchsorted(np.sort(left), np.sort(begin), side="right")
        assert busy.max() <= s.servers * s.batch
        # a frame that waited in the queue was taken right after a thread had become free
        if not isinstance(s.wake, np.ndarray) and s.batch == 1:
            waited = taken > put
            assert np.isin(taken[waited], left).all(), (this.kind, this.seed, s.name)
        # a put that waited returned right after a take
        if not isinstance(s.resume, np.ndarray):
            assert np.isin(put[put > arrived], taken).all() or (
                k and this.stations[k - 1].batch > 1
            )
        arrived, put = done, left


def test_the_truth_of_a_program_is_that_of_the_same_draws():
    for kind in ("closed", "periodic"):
        this = program(kind, 1, frames=200)
        assert (this.again({}) == this.measured).all()
        assert this.gains[this.best] == max(this.gains.values()) > 0
        assert set(this.gains) == set(this.stages)
        slowest = this.again({name: 1.5 for name in this.stages})
        assert slowest.mean() > this.measured.mean()
