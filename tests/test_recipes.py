"""The recipes of the README, and those for executors, workers and pre-forking servers."""

import asyncio
import contextvars
import multiprocessing
import os
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from needs import require
from profiling import Log

import latprof
from latprof import Pipeline, Profiler, read

TEXT = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
WEB = Pipeline.chain("web", "db", "render", ends=True)


def recipes():
    """Return the names that the README's block on production defines."""
    blocks = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    code = next(block for block in blocks if "class LatencyMiddleware" in block)
    names = {"__name__": "readme"}
    exec(compile(code, "README.md", "exec"), names)
    return SimpleNamespace(**names)


async def application(scope, receive, send):
    await asyncio.sleep(0.002)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


async def receive():
    return {"type": "http.request", "body": b"", "more_body": False}


def test_the_middleware_records_a_frame_for_each_request():
    recipe, sent = recipes(), []

    async def send(message):
        sent.append(message["type"])

    with Profiler(recipe.web) as profiler:
        wrapped = recipe.LatencyMiddleware(application, profiler)
        for _ in range(3):
            asyncio.run(wrapped({"type": "http", "method": "GET"}, receive, send))
        asyncio.run(wrapped({"type": "lifespan"}, receive, send))
    trace = profiler.trace()
    assert sent == ["http.response.start", "http.response.body"] * 4
    assert trace.frame_id.tolist() == [0, 1, 2]
    assert set(trace.source.to_numpy()) == {"GET"}
    assert trace.to_pandas()["handle_latency"].min().value >= 2_000_000


def test_the_middleware_works_in_starlette_with_functions_in_its_thread_pool():
    applications = require("starlette.applications")
    responses, routing = require("starlette.responses"), require("starlette.routing")
    recipe, sent = recipes(), []
    with Profiler(recipe.web) as profiler:

        def hello(request):  # not async: Starlette calls it in a thread, with the context
            assert latprof.current_frame()
            time.sleep(0.002)
            return responses.PlainTextResponse("hello")

        app = applications.Starlette(routes=[routing.Route("/", hello)])
        app.add_middleware(recipe.LatencyMiddleware, profiler=profiler)

        async def send(message):
            sent.append(message)

        async def call(path):
            scope = {"type": "http", "method": "GET", "path": path, "headers": []}
            await app(scope | {"query_string": b"", "root_path": ""}, receive, send)

        for path in ("/", "/missing"):
            asyncio.run(call(path))
    assert [m["status"] for m in sent if m["type"] == "http.response.start"] == [200, 404]
    frames = profiler.trace().to_pandas()
    assert frames["frame_id"].tolist() == [0, 1]
    assert frames["handle_latency"].iloc[0].value >= 2_000_000
    assert frames["send_latency"].notna().all()


# -- executors ------------------------------------------------------------------------------------


def test_work_in_an_executor_is_part_of_the_frame_if_it_runs_in_a_copy_of_the_context():
    with Profiler(WEB) as profiler, ThreadPoolExecutor(2) as pool:

        @profiler.stage("db")
        def query(n):
            time.sleep(0.002)
            return n, threading.current_thread() is threading.main_thread()

        @profiler.stage("render")
        def render(n):
            return f"row {n}"

        async def handle(i):
            with profiler.frame(i):
                loop, context = asyncio.get_running_loop(), contextvars.copy_context()
                n, in_main = await loop.run_in_executor(pool, context.run, query, i)
                assert not in_main
                return render(n)

        async def serve():
            return await asyncio.gather(*map(handle, range(5)))

        assert asyncio.run(serve()) == [f"row {i}" for i in range(5)]
    frames = profiler.trace().to_pandas()
    assert sorted(frames["frame_id"]) == list(range(5))
    assert frames["db_latency"].min().value >= 2_000_000
    assert frames["render_latency"].notna().all()
    assert "calls of a stage without a current frame" not in profiler.accounts.notes


def test_work_in_an_executor_without_the_context_is_counted_and_the_remedy_is_given():
    log = Log()
    with Profiler(WEB, logger=log.logger) as profiler, ThreadPoolExecutor(1) as pool:

        @profiler.stage("db")
        def query():
            return 7

        @profiler.stage("render")
        async def render():
            return 8

        for i in range(3):
            with profiler.frame(i):
                assert pool.submit(query).result() == 7
                assert pool.submit(lambda: asyncio.run(render())).result() == 8
    query()  # the profiler is stopped: there are no frames that the call could belong to
    assert profiler.accounts.notes["calls of a stage without a current frame"] == 6
    assert profiler.trace().to_pandas()["db_latency"].isna().all()
    logged = [text for text in log.lines if "without a current frame" in text]
    assert len(logged) == 1
    assert "contextvars.copy_context().run" in logged[0]
    doubt = "calls of a stage without a current frame, which are not stamped: 6;"
    assert doubt in " ".join(str(profiler.report()).split())


def test_stages_of_frames_that_are_not_sampled_are_not_missed():
    with Profiler(WEB, sampling_rate=0) as profiler:

        @profiler.stage("db")
        def query():
            return 7

        with profiler.frame(1):
            query()
    assert profiler.accounts.notes == {}


# -- processes ------------------------------------------------------------------------------------

_worker: dict[str, Profiler] = {}


def begin_worker(folder):
    """Make a profiler for this worker: the initializer of a pool."""
    _worker["profiler"] = Profiler(WEB, path=f"{folder}/{{pid}}/")
    _worker["profiler"].start()


def work(n):
    with _worker["profiler"].frame(n) as frame:
        frame.mark("db")
        frame.mark("db_end")
    return os.getpid()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_each_worker_of_a_pool_writes_files_of_its_own(tmp_path, method):
    context = multiprocessing.get_context(method)
    pool = context.Pool(2, begin_worker, (str(tmp_path),))
    pids = set(pool.map(work, range(40), chunksize=1))
    pool.close()  # leaving `with Pool()` would kill the workers, and their open files with them
    pool.join()
    profile = latprof.analyze(tmp_path / "*" / "*.parquet")
    assert profile.frames == profile.accounts.started == 40
    assert pids <= {int(folder.name) for folder in tmp_path.iterdir()}


def test_each_worker_of_a_server_records_into_files_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    worker = SimpleNamespace(pid=os.getpid())
    recipes().post_fork(None, worker)
    ring = Path(f"/dev/shm/web-{os.getpid()}.ring")
    try:
        assert worker.profiler.running
        assert ring.exists()
        with worker.profiler.frame(1) as frame:
            frame.mark("handle")
        worker.profiler.stop()
        files = list((tmp_path / "traces").rglob("*.parquet"))
        assert [read(file).frame_id.tolist() for file in files] == [[1]]
    finally:
        worker.profiler.stop()
        ring.unlink(missing_ok=True)


def serve_as_worker(recipe, number):
    """Serve frames in a child that a server has forked, as gunicorn does."""
    worker = SimpleNamespace(pid=os.getpid())
    recipe.post_fork(None, worker)
    for i in range(10):
        with worker.profiler.frame(100 * number + i) as frame:
            frame.mark("handle")
            frame.mark("send")
    worker.profiler.stop()


def test_the_workers_of_a_server_that_forks_record_side_by_side(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe, pids = recipes(), []
    with Profiler(recipe.web, path=tmp_path / "server.parquet") as mine:  # of the parent
        mine.frame(1).finish()
        for number in (1, 2):
            pid = os.fork()
            if pid == 0:
                status = 1
                try:
                    serve_as_worker(recipe, number)
                    status = 0
                finally:
                    os._exit(status)
            pids.append(pid)
        statuses = [os.waitpid(pid, 0)[1] for pid in pids]
        mine.frame(2).finish()
    rings = [Path(f"/dev/shm/web-{pid}.ring") for pid in pids]
    try:
        assert statuses == [0, 0]
        for number, pid, ring in zip((1, 2), pids, rings, strict=True):
            ids = [100 * number + i for i in range(10)]
            (file,) = (tmp_path / "traces" / str(pid)).iterdir()
            assert read(file).frame_id.tolist() == ids
            assert latprof.recover(ring).frame_id.tolist() == ids
        assert read(tmp_path / "server.parquet").frame_id.tolist() == [1, 2]
    finally:
        for ring in rings:
            ring.unlink(missing_ok=True)
