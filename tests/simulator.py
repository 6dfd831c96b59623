"""Ground truth: tandem first in, first out stations as a plain event loop.

Nothing here is shared with the product: a heap of events, a list for each queue, one frame moved at
a time.
"""

import heapq
from collections import deque
from dataclasses import dataclass

import numpy as np

from latprof import AUDIO, Pipeline, Span, Trace
from latprof.frames import MISSING, Labels


@dataclass
class Station:
    """A station of the simulation.

    `service` and `transport` are how long it serves each frame, and how long each frame is on its
    way to it (ns). It serves `servers` frames at once. With `room`, at most that many frames wait
    for it: a frame that finds the queue full keeps the server of the station before it (blocking
    after service). With `limit`, frames that wait longer (ns) are dropped.
    """

    name: str
    service: np.ndarray
    transport: np.ndarray
    servers: int = 1
    room: int | None = None
    limit: int | None = None


def simulate(starts, stations):
    """Return begin and end by station, (n,) each, and the station index by dropped frame.

    `end` is when the frame has left the station.
    """
    n = len(starts)
    begin = {s.name: np.zeros(n, np.int64) for s in stations}
    end = {s.name: np.zeros(n, np.int64) for s in stations}
    dropped = {}
    queues = [deque() for _ in stations]  # frames that wait in front of the station
    coming = [0] * len(stations)  # number of frames on their way to the station
    idle = [s.servers for s in stations]
    blocked = [deque() for _ in stations]  # served frames without room in front of the next one
    events = []
    count = 0

    def at(time, what, k, frame):
        nonlocal count
        count += 1
        heapq.heappush(events, (time, count, what, k, frame))

    def send(time, k, frame):
        if k < len(stations):
            coming[k] += 1
            at(time + int(stations[k].transport[frame]), "arrives", k, frame)

    def has_room(k):
        if k == len(stations) or stations[k].room is None:
            return True
        # frames that an idle server takes do not need room in the queue
        return coming[k] + len(queues[k]) < stations[k].room + idle[k]

    def leave(time, k, frame):
        end[stations[k].name][frame] = time
        idle[k] += 1
        send(time, k + 1, frame)
        serve(time, k)

    def serve(time, k):
        while queues[k] and idle[k]:
            frame, since = queues[k].popleft()
            station = stations[k]
            if station.limit is not None and time - since > station.limit:
                dropped[frame] = k
                continue
            idle[k] -= 1
            begin[station.name][frame] = time
            at(time + int(station.service[frame]), "served", k, frame)
        while k > 0 and blocked[k - 1] and has_room(k):
            leave(time, k - 1, blocked[k - 1].popleft())

    for frame, start in enumerate(starts):
        at(int(start), "starts", 0, frame)
    while events:
        time, _, what, k, frame = heapq.heappop(events)
        if what == "starts":
            send(time, 0, frame)
        elif what == "arrives":
            coming[k] -= 1
            since = time - int(stations[k].transport[frame])
            queues[k].append((frame, since))
            serve(time, k)
        elif has_room(k + 1):
            leave(time, k, frame)
        else:
            blocked[k].append(frame)
    return begin, end, dropped


def pipeline_of(stations, name="sim"):
    """Return the pipeline: for each station x a hand-off `to_x` and a stage `x`."""
    marks, spans, before = ["start"], [], "start"
    for i, s in enumerate(stations):
        enter = f"in_{s.name}"
        leave = "end" if i == len(stations) - 1 else f"out_{s.name}"
        spans += [Span(f"to_{s.name}", before, enter)]
        spans += [Span(s.name, enter, leave, station=f"station_{s.name}")]
        marks += [enter, leave]
        before = leave
    return Pipeline(name, tuple(marks), tuple(spans))


def trace_of(starts, stations, **optional):
    """Simulate, and return the trace of it."""
    begin, end, dropped = simulate(starts, stations)
    marks = {"start": np.asarray(starts, np.int64)}
    for i, s in enumerate(stations):
        marks[f"in_{s.name}"] = begin[s.name]
        marks["end" if i == len(stations) - 1 else f"out_{s.name}"] = end[s.name]
    assert not dropped, "a trace of dropped frames is not needed so far"
    return Trace(pipeline_of(stations), frame_id=np.arange(len(starts)), marks=marks, **optional)


# -- traces --------------------------------------------------------------------------------------

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
