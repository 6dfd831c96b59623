"""The recipes of the README do what they promise."""

import asyncio
import os
import re
from pathlib import Path
from types import SimpleNamespace

from latprof import Profiler, read

TEXT = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


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


def test_each_worker_of_a_server_records_into_files_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    worker = SimpleNamespace(pid=f"test-{os.getpid()}")
    recipes().post_fork(None, worker)
    ring = Path(f"/dev/shm/web-{worker.pid}.ring")
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
