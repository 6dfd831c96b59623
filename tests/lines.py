"""Traces of stations that are given row by row, or drawn by an obvious loop."""

import numpy as np

from latprof import AUDIO, Pipeline, Span, Trace
from latprof.frames import MISSING, Labels

LINE = Pipeline(
    "line",
    ("start", "a", "b", "c", "end"),
    (
        Span("queue", "start", "a"),
        Span("get", "a", "b", station="worker"),
        Span("put", "b", "c", station="worker"),
        Span("gone", "c", "end"),
    ),
)


def line(rows, **optional):
    """Return a trace of rows of stamps; None is missing."""
    table = np.array([[MISSING if x is None else x for x in row] for row in rows], np.int64)
    table = table.reshape(-1, len(LINE.marks))
    marks = {mark: table[:, i] for i, mark in enumerate(LINE.marks)}
    return Trace(LINE, frame_id=np.arange(len(table)), marks=marks, **optional)


def served(arrivals, gets, puts):
    """Return rows of frames that one worker serves as they come."""
    rows, free = [], 0
    for at, get, put in zip(arrivals, gets, puts, strict=True):
        begin = max(at, free)
        free = begin + get + put
        rows.append((at, begin, begin + get, free, free + 3))
    return rows


def overlaps(rows, counted=None):
    """Return the total of each stage, as an obvious loop over pairs of frames."""
    found = {"get": 0, "put": 0, "self_time": 0}
    for i, (start, begin, *_) in enumerate(rows):
        if counted is not None and not counted[i]:
            continue
        rest = begin - start
        for j, (_, enter, middle, leave, _) in enumerate(rows):
            if j == i or enter > begin:
                continue
            for name, low, high in (("get", enter, middle), ("put", middle, leave)):
                part = max(0, min(high, begin) - max(low, start))
                found[name] += part
                rest -= part
        found["self_time"] += rest
    return found


def audio(n, seed=1, *, load=0.8, dropped=0.0, sources=("a", "b"), transport=60_000, stall=0):
    """Return frames that queue for the server: for thousands of frames behind a stall."""
    rng = np.random.default_rng(seed)
    period = 20_000_000
    marks = {"start": np.sort(rng.integers(0, n * period, n))}
    for mark, median in zip(AUDIO.marks[1:5], (1_000, 20_000, 1_500, 3_000), strict=True):
        before = list(marks.values())[-1]
        marks[mark] = before + rng.lognormal(np.log(median), 0.5, n).astype(np.int64)
    cgo = rng.lognormal(np.log(300_000), 0.5, n).astype(np.int64)
    alsa = rng.gamma(4, load * period / 4, n).astype(np.int64)
    alsa[n // 10] += stall * period
    order = np.argsort(marks["ipc"] + transport, kind="stable")
    ready = (marks["ipc"] + transport)[order]
    ends = np.zeros(n, np.int64)
    free = 0
    for i, row in enumerate(order):
        free = max(free, int(ready[i])) + int(cgo[row] + alsa[row])
        ends[row] = free
    marks |= {"cgo": ends - alsa - cgo, "alsa": ends - alsa, "end": ends}
    gone = rng.random(n) < dropped
    marks["alsa"][gone] = MISSING  # dropped in cgo, at the end of their visit
    outcome = np.where(gone, "late", "finished")
    codes = rng.integers(0, len(sources), n).astype(np.int32)
    return Trace(
        AUDIO,
        frame_id=np.arange(n),
        marks=marks,
        source=Labels(codes, tuple(sources)),
        outcome=Labels.encode(outcome.tolist()) if dropped else None,
    )


def shuffled(trace, reach, seed=2):
    """Return the rows, each up to `reach` places from where it was."""
    rng = np.random.default_rng(seed)
    return rows_of(trace, np.argsort(np.arange(len(trace)) + rng.integers(0, reach, len(trace))))


def rows_of(trace, rows):
    columns = trace.columns.take(rows)
    return Trace(
        trace.pipeline,
        frame_id=columns.frame_id,
        marks=columns.marks,
        source=columns.source,
        outcome=columns.outcome,
    )
