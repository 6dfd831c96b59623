"""Eight threads and a ring far too small: every frame is accounted for, the totals are right."""

import sys
import threading
from pathlib import Path

import pytest

from latprof.io.reader import Reader
from latprof.pipeline import Pipeline
from latprof.recorder.profiler import Profiler

MIC = Pipeline.chain("mic", "decode", "play")
THREADS = 8


def stamps_of(n: int) -> tuple[int, int, int, int]:
    """Return the stamps of frame n: spans that differ from frame to frame."""
    start = 1_000 + n * 1_000
    return start, start + n % 7, start + n % 7 + n % 11, start + n % 7 + n % 11 + n % 13


@pytest.mark.parametrize(
    ("overflow", "frames", "interval"),
    [
        ("overwrite", 40_000, None),
        ("block", 15_000, None),
        ("overwrite", 40_000, 1e-6),
        pytest.param("overwrite", 200_000, None, marks=pytest.mark.slow),
        pytest.param("block", 50_000, None, marks=pytest.mark.slow),
    ],
)
def test_eight_threads(tmp_path: Path, overflow: str, frames: int, interval: float | None) -> None:
    before = sys.getswitchinterval()
    sys.setswitchinterval(before if interval is None else interval)
    try:
        with Profiler(MIC, capacity=2_048, overflow=overflow, path=tmp_path) as profiler:

            def run(first: int) -> None:
                for n in range(first, first + frames):
                    profiler.record(n, stamps_of(n), 960, "input")

            threads = [threading.Thread(target=run, args=(k * frames,)) for k in range(THREADS)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    finally:
        sys.setswitchinterval(before)
    report = profiler.report().profile
    a = report.accounts
    assert (a.started, a.finished, a.in_flight) == (THREADS * frames, THREADS * frames, 0)
    assert (a.dropped, a.rejected, a.not_folded) == ({}, {}, 0)
    assert a.folded + a.lost + a.torn == THREADS * frames
    if overflow == "block":
        assert (a.lost, a.torn) == (0, 0)
    # the file shows which frames were folded: each once, whole, and in none but its own row
    (path,) = tmp_path.iterdir()
    decode = play = other = whole = 0
    with Reader(path) as reader:
        columns = reader.read()
    ids = columns.frame_id.tolist()
    assert len(ids) == len(set(ids)) == a.folded == report.frames
    offset = profiler.clock_offset_ns
    table = zip(ids, *(columns.marks[mark].tolist() for mark in MIC.marks), strict=True)
    for n, *row in table:
        expected = stamps_of(n)
        assert tuple(stamp - offset for stamp in row) == expected
        start, begin, middle, end = expected
        decode += middle - begin
        play += end - middle
        other += begin - start
        whole += end - start
    totals = {name: report[name].total for name in ("decode", "play", "other", "end_to_end")}
    assert totals == {"decode": decode, "play": play, "other": other, "end_to_end": whole}
