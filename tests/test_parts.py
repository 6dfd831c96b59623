"""Folding in parts by the workers of an executor, against one process."""

import os
import random
import signal
import time
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import latprof
from latprof import Pipeline, Span, Trace, parts
from latprof.errors import ProfileError, TraceError
from latprof.parts import Workers
from latprof.report.report import Report

WEB = Pipeline(
    "web",
    ("start", "sent", "end"),
    (Span("queue", "start", "sent"), Span("serve", "sent", "end", station="server")),
    period=1_000_000,
)
SETTINGS = {"order": True, "causes": True, "every": "100ms", "deadline": "3ms"}


class AtOnce(Executor):
    """Calls in this thread, the latest call first: results arrive in another order."""

    def __init__(self, fail=()):
        self.calls, self._fail = 0, list(fail)

    def submit(self, function, *arguments):
        self.calls += 1
        future = Future()
        try:
            if self._fail and self._fail.pop(0):
                raise ValueError("this worker\nfails")
            future.set_result(function(*arguments))
        except Exception as error:
            future.set_exception(error)
        return future


def trace(frames, seed=1, begin=0):
    """Return frames of a queue with one server at load 0.8, from two sources; some are lost."""
    rng = np.random.default_rng(seed)
    service = rng.gamma(4, 200_000, frames)
    arrival = np.arange(frames) * 1e6
    done = np.cumsum(service)
    leave = done + np.maximum.accumulate(arrival - (done - service))
    start = begin + arrival.astype(np.int64)
    marks = {"start": start, "sent": begin + (leave - service).astype(np.int64)}
    marks["end"] = begin + leave.astype(np.int64)
    ids = np.arange(frames) + rng.integers(0, 2, frames).cumsum()
    source = np.where(np.arange(frames) % 3, "in", "out")
    return Trace(WEB, frame_id=ids, marks=marks, source=source)


def saved(folder, lengths, row_group):
    """Save a recording as several files; return their paths."""
    import pyarrow.parquet as pq

    whole, paths, begin = trace(sum(lengths)), [], 0
    for i, length in enumerate(lengths):
        rows = np.arange(begin, begin + length)
        part = Trace(
            WEB,
            frame_id=whole.frame_id[rows],
            marks={mark: stamps[rows] for mark, stamps in whole.marks.items()},
            source=np.asarray(whole.to_pandas()["source"])[rows],
        )
        path = folder / f"{i:02}.parquet"
        part.save(path)
        table = pq.read_table(path)
        pq.write_table(table, path, row_group_size=row_group)
        paths.append(path)
        begin += length
    return paths


def check_equal(mine, whole):
    """Check that two profiles give the same JSON, moments and gains within rounding."""
    check_values(Report(mine).to_dict(), Report(whole).to_dict(), "")


def check_values(mine, whole, where):
    if where in (".causes.queues", ".causes.source", ".causes.remarks", ".causes.assumptions"):
        return  # evidence from each part alone
    if isinstance(whole, dict):
        assert mine.keys() == whole.keys(), where
        for name in whole:
            check_values(mine[name], whole[name], f"{where}.{name}")
    elif isinstance(whole, list):
        assert len(mine) == len(whole), where
        for i, (left, right) in enumerate(zip(mine, whole, strict=True)):
            check_values(left, right, f"{where}[{i}]")
    elif isinstance(whole, float):
        # gains of causes are replayed part by part: what queues at a cut is not known to both
        replayed = any(word in where for word in ("gain", "held", "throughput"))
        near = {"abs": 20_000 if where.endswith("_ns") else 0.005} if replayed else {"rel": 1e-9}
        assert mine == pytest.approx(whole, **near), where
    else:
        assert mine == whole, where


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(parts, "PART_ROWS", 400)


@settings(max_examples=15, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 1_500), min_size=1, max_size=4),
    row_group=st.integers(50, 800),
    part_rows=st.integers(100, 3_000),
)
def test_parts_in_any_order_give_the_profile_of_one_process(
    tmp_path_factory, lengths, row_group, part_rows
):
    paths = saved(tmp_path_factory.mktemp("parts"), lengths, row_group)
    whole = latprof.analyze(paths, by="source", **SETTINGS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "PART_ROWS", part_rows)
        mine = latprof.analyze(paths[::-1], by="source", executor=AtOnce(), **SETTINGS)
    check_equal(mine, whole)


class Counting(Workers):
    """Workers that fold in this process, and count the parts."""

    def __init__(self, count):
        self.count, self.rows = count, []

    def submit(self, function, *arguments):
        plan, part = arguments
        self.rows.append(sum(map(parts._rows, part)))
        future = Future()
        future.set_result(function(plan, part))
        return future


def test_workers_get_eight_parts_each_and_small_files_are_put_together(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "PART_ROWS", 20)
    paths = saved(tmp_path, [100] * 12 + [1_200], 50)
    whole = latprof.analyze(paths)
    # an eighth of the 2,400 rows is three small files; half of that is nearer to two than to one
    for count, expected in ((1, [300] * 8), (2, [200] * 6 + [150] * 8)):
        workers = Counting(count)
        check_equal(latprof.analyze(paths, executor=workers), whole)
        assert sorted(workers.rows, reverse=True) == expected


def test_threads_processes_and_time_ranges_give_the_same(tmp_path, small_parts):
    paths = saved(tmp_path, [1_000, 700], 100)
    with ThreadPoolExecutor(2) as threads, Workers(2) as workers:
        for arguments in (SETTINGS, {"skip": "100ms"}, {"until": "1970-01-01T00:00:01Z"}):
            whole = latprof.analyze(paths, **arguments)
            for executor in (threads, workers):
                check_equal(latprof.analyze(paths, executor=executor, **arguments), whole)


def test_traces_in_memory_are_folded_beside_the_parts(tmp_path, small_parts):
    paths = saved(tmp_path, [900], 100)
    here, executor = trace(300, seed=2, begin=2_000_000_000), AtOnce()
    seen = []
    mine = latprof.analyze(
        [here, *paths], executor=executor, progress=lambda *done: seen.append(done), **SETTINGS
    )
    check_equal(mine, latprof.analyze([here, *paths], **SETTINGS))
    assert executor.calls == 2
    assert len(seen) == 2
    assert seen[-1] == (1_200, 1_200)


def test_a_part_that_fails_once_is_tried_again_and_counted_once(tmp_path, small_parts):
    paths = saved(tmp_path, [1_200], 100)
    executor = AtOnce(fail=[True, False, True])
    check_equal(latprof.analyze(paths, executor=executor), latprof.analyze(paths))
    assert executor.calls == 3 + 2


def test_a_part_that_fails_twice_is_named_and_the_rest_only_reported_on_demand(
    tmp_path, small_parts
):
    paths = saved(tmp_path, [1_200], 100)
    failing = [False, True, False, True]
    with pytest.raises(TraceError, match=r"row groups 4 to 7 of .*00\.parquet: ValueError: this"):
        latprof.analyze(paths, executor=AtOnce(fail=failing))
    rest = latprof.analyze(paths, executor=AtOnce(fail=failing), partial=True)
    assert rest.frames == 800
    assert (
        "400 rows missing, which could not be read: row groups 4 to 7 of" in Report(rest).headline()
    )
    assert " ".join(str(Report(rest)).split()).startswith(Report(rest).headline())


def test_a_damaged_file_is_named(tmp_path, small_parts):
    paths = saved(tmp_path, [600, 600], 100)
    content = bytearray(paths[1].read_bytes())
    content[400:900] = bytes(500)
    paths[1].write_bytes(content)
    with ThreadPoolExecutor(2) as threads, pytest.raises(TraceError, match=r"01\.parquet") as error:
        latprof.analyze(paths, executor=threads)
    assert "partial=True (--partial)" in str(error.value)
    with ThreadPoolExecutor(2) as threads:
        assert 600 <= latprof.analyze(paths, executor=threads, partial=True).frames < 1_200


def test_wrong_arguments_are_refused():
    for arguments, words in (
        ({"executor": 3}, "executor must have a method submit"),
        ({"executor": AtOnce(), "intended": True}, "intended must be computed in one process"),
        ({"partial": 1}, "partial must be True or False"),
    ):
        with pytest.raises(ProfileError, match=words):
            latprof.analyze(trace(10), **arguments)
    with pytest.raises(ProfileError, match="workers must be an integer from 1 on, got 0"):
        Workers(0)


def test_an_executor_that_is_shut_down_is_an_error_of_one_line(tmp_path):
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    with pytest.raises(
        TraceError, match="after shutdown; the executor takes no calls: give one that is open"
    ):
        latprof.analyze(saved(tmp_path, [100], 100), executor=pool)


def kill_one(path):
    """Kill the process that calls this, once."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


def test_workers_that_die_are_started_again(tmp_path, small_parts):
    paths = saved(tmp_path, [1_200], 100)
    token = tmp_path / "token"
    token.touch()
    with Workers(2) as workers:
        workers.submit(kill_one, token)
        check_equal(latprof.analyze(paths, executor=workers), latprof.analyze(paths))
    assert not token.exists()
    with ProcessPoolExecutor(1) as pool:
        token.touch()
        pool.submit(kill_one, token)
        with pytest.raises(TraceError, match=r"00\.parquet: BrokenProcessPool"):
            latprof.analyze(paths, executor=pool)


@pytest.mark.parametrize("raised", [ValueError("bad value(s) in fds_to_keep"), OSError(9, "bad")])
def test_a_pool_that_breaks_while_it_starts_a_worker_is_started_again(raised):
    class Breaking(ThreadPoolExecutor):
        def submit(self, *_):
            self.calls = getattr(self, "calls", 0) + 1
            raise raised if self.calls == 1 else BrokenProcessPool("a worker died")

    with Workers(1) as workers:
        started = workers._pool
        workers._pool = Breaking(1)
        assert workers.submit(abs, -3).result() == 3
    started.shutdown()


@pytest.mark.slow
def test_kills_at_random_moments_lose_nothing_and_count_nothing_twice(tmp_path, small_parts):
    paths = saved(tmp_path, [6_000, 5_000], 100)
    whole, random_moment = latprof.analyze(paths, **SETTINGS), random.Random(1)
    for _ in range(10):
        with Workers(2) as workers:
            first = workers.submit(os.getpid).result()
            killer = ThreadPoolExecutor(1)
            moment = random_moment.uniform(0, 0.6)
            killer.submit(lambda: (time.sleep(moment), os.kill(first, signal.SIGKILL)))  # noqa: B023
            check_equal(latprof.analyze(paths, executor=workers, **SETTINGS), whole)
            killer.shutdown()
