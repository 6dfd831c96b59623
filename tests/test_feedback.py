"""A source that waits for room is told from one of its own pace: by a plain loop over a queue."""

import random
from pathlib import Path

import numpy as np
import pytest
from culprits import KINDS, pipeline

from latprof import AUDIO, Pipeline, Trace, read, what_if
from latprof.queueing.model import queue_model
from latprof.queueing.what_if import places_in_flight

DATA = Path(__file__).parents[1] / "data"
DOCS = Pipeline.chain("docs", "load", "waiting", "parse", stations={"load": "reader", "parse": "p"})


def closed(frames, places, parse, seed=1, load=100):
    """Return a trace of a reader in front of a queue of so many places, and what it took."""
    rng = random.Random(seed)
    rows, entries, free, now = [], [], 0, 0
    for i in range(frames):
        start = now
        waiting = start + load
        # put() returns when the frame so many places before was taken out
        now = max(waiting, entries[i - places] if i >= places else 0) + 10
        entries.append(max(now, free))
        free = entries[-1] + round(parse * rng.uniform(0.5, 1.5))
        rows.append((start, start, waiting, entries[-1], free))
    return trace(DOCS, rows)


def trace(pipeline, rows):
    columns = dict(zip(pipeline.marks, np.array(rows, np.int64).T, strict=True))
    return Trace(pipeline, frame_id=np.arange(len(rows)), marks=columns)


def found(recording):
    return places_in_flight(queue_model(recording.pipeline, recording.columns))


@pytest.mark.parametrize("places", [4, 20])
def test_a_full_queue_is_no_forecast(places):
    recording = closed(1_000, places, 50_000)
    # those in the queue, the one that is parsed, the one that waits for a place
    assert abs(found(recording) - (places + 2)) <= 1
    result = what_if(recording, {"parse": 0.9})
    assert "their source waits for room" in result.warning
    really = closed(1_000, places, 45_000)
    measured = np.sort(really.columns.marks["end"] - really.columns.marks["start"])
    for row, q in zip(result.rows(), (500, 900, 990, 999), strict=True):
        assert row["high"] == row["measured"]
        assert row["low"] <= measured[q - 1] <= row["high"]
    assert result.to_dict()["warning"] == result.warning


def test_what_starts_at_its_own_pace():
    for name in ("mic-healthy", "mic-slow-card"):
        assert found(read(DATA / f"{name}.parquet")) is None
    # three periods on the way, all the same: as many in flight whenever one starts
    steady = [(i * 20, i * 20, i * 20 + 60, i * 20 + 65) for i in range(1_000)]
    line = Pipeline.chain("line", "network", "play", stations={"play": "card"})
    assert found(trace(line, steady)) is None
    rng = random.Random(2)
    late = [(s, n, p + (d := rng.randrange(9)), e + d) for s, n, p, e in steady]
    assert found(trace(line, late)) is None
    assert found(trace(line, steady[:50])) is None
    assert found(Trace(AUDIO, frame_id=[], marks={})) is None


@pytest.mark.parametrize("kind", KINDS)
def test_simulated_sources_have_their_own_pace(kind):
    for seed in range(5):
        assert found(pipeline(kind, seed)[0]) is None
