"""Ground truth: programs of threads and bounded queues, simulated by a plain event loop.

Nothing here is shared with the product. Each thread of a program is a generator that reads like the
thread itself: it gets a frame from a queue, serves it and puts it into the next queue. A heap holds
what happens next. One frame moves at a time, and no formula is used.

Stations hold the random draws, so a program with a change is the same program with the same draws:
``simulate(source, stations, {"s1": 0.9})``.
"""

import heapq
from collections import deque
from dataclasses import dataclass, field

import numpy as np

from latprof import Pipeline, Span, Trace


@dataclass
class Source:
    """Where frames come from. All times are in ns, (n,) arrays or one number for all frames.

    An open source (with `due`) starts frame i when it is due, or later if the put of the frame
    before has not returned. A closed source (without `due`) starts a frame as soon as the put of
    the frame before has returned and its `pause` has passed. `service` is how long the source works
    on a frame; a source without `service` puts a frame as soon as it starts.
    """

    due: np.ndarray | None = None
    pause: np.ndarray | int = 0
    service: np.ndarray | int | None = None
    name = "load"


@dataclass
class Station:
    """One or more threads that serve frames from a queue, and the queue in front of them.

    Attributes
    ----------
    service
        How long a frame is served (ns). A batch takes the service of its first frame, and `each`
        for each further frame.
    transport
        How long a frame is on its way into the queue (ns).
    servers
        Number of threads. None is a thread for each frame, as in an event loop.
    room
        A put waits while the queue holds this number of frames. None if it is unbounded.
    limit
        A frame that has waited longer (ns) is dropped when it is taken from the queue.
    batch, patience
        Frames that a thread collects before it serves them together. It begins with fewer after
        the last frame, or when `patience` (ns) has passed since it took the first frame.
    wake, turn, resume
        Overheads (ns, by frame): between a put and the take of a thread that waited for it, between
        a thread's last put and its take from a queue that is not empty, and between a take and the
        return of a put that waited for room.
    """

    name: str
    service: np.ndarray
    transport: np.ndarray | int = 0
    servers: int | None = 1
    room: int | None = None
    limit: int | None = None
    batch: int = 1
    patience: int | None = None
    each: int = 0
    wake: np.ndarray | int = 0
    turn: np.ndarray | int = 0
    resume: np.ndarray | int = 0

    @property
    def handoff(self):
        return f"to_{self.name}"


@dataclass
class Run:
    """When everything happened, by frame: (n,) ns for the source, dicts by name for the stations.

    `sent` and `done` are before the put into the next queue, `put` and `left` when it has returned.
    `taken` is when a frame was taken from the queue, `begin` when its service began: later if its
    batch was not full. `dropped` has the station of each dropped frame.
    """

    start: np.ndarray
    sent: np.ndarray
    put: np.ndarray
    taken: dict = field(default_factory=dict)
    begin: dict = field(default_factory=dict)
    done: dict = field(default_factory=dict)
    left: dict = field(default_factory=dict)
    dropped: dict = field(default_factory=dict)

    @property
    def end(self):
        return list(self.done.values())[-1]

    @property
    def end_to_end(self):
        """(n,) ns of the frames that were not dropped."""
        kept = np.array([frame not in self.dropped for frame in range(len(self.start))], bool)
        return (self.end - self.start)[kept]


class _Queue:
    def __init__(self, station, frames):
        def by_frame(times):
            return np.broadcast_to(np.asarray(times, np.int64), frames).tolist()

        self.room = station.room
        self.transport, self.wake = by_frame(station.transport), by_frame(station.wake)
        self.turn, self.resume = by_frame(station.turn), by_frame(station.resume)
        self.held = 0  # frames that take up room: all that were put and not taken
        self.ready = deque()  # frames that no thread has been given
        self.getters = deque()  # threads that wait for a frame
        self.putters = deque()  # threads that wait for room, with their frames
        self.coming = frames  # frames that have yet to be taken


class _Loop:
    """Threads as generators. They yield ("wait", time), ("put", queue, frame) or ("get", queue,
    deadline); a get returns a frame, or None at the deadline or after the last frame.
    """

    def __init__(self):
        self.now = 0
        self._events = []
        self._count = 0

    def at(self, time, call, *arguments):
        self._count += 1
        heapq.heappush(self._events, (time, self._count, call, arguments))

    def run(self):
        while self._events:
            self.now, _, call, arguments = heapq.heappop(self._events)
            call(*arguments)

    def go_on(self, thread, value=None):
        """Run a thread until it has to wait."""
        while True:
            try:
                what, *rest = thread.send(value)
            except StopIteration:
                return
            value = None
            if what == "wait":
                self.at(max(rest[0], self.now), self.go_on, thread)
                return
            if what == "get":
                self._get(thread, *rest)
                return
            queue, frame = rest
            if queue.room is not None and queue.held >= queue.room:
                queue.putters.append((thread, frame))
                return
            queue.held += 1
            self._place(queue, frame)

    def _place(self, queue, frame):
        self.at(self.now + queue.transport[frame], self._ready, queue, frame)

    def _ready(self, queue, frame):
        if queue.getters:
            thread = queue.getters.popleft()
            self.at(self.now + queue.wake[frame], self._take, queue, frame, thread)
        else:
            queue.ready.append(frame)

    def _get(self, thread, queue, deadline):
        if queue.ready:
            frame = queue.ready.popleft()
            self.at(self.now + queue.turn[frame], self._take, queue, frame, thread)
        elif not queue.coming or (deadline is not None and deadline <= self.now):
            self.at(self.now, self.go_on, thread)
        else:
            queue.getters.append(thread)
            if deadline is not None:
                self.at(deadline, self._give_up, queue, thread)

    def _give_up(self, queue, thread):
        if thread in queue.getters:
            queue.getters.remove(thread)
            self.go_on(thread)

    def _take(self, queue, frame, thread):
        queue.held -= 1
        if queue.putters:
            putter, its_frame = queue.putters.popleft()
            queue.held += 1
            self.at(self.now + queue.resume[its_frame], self._put_late, queue, putter, its_frame)
        self.fewer(queue)
        self.go_on(thread, frame)

    def _put_late(self, queue, thread, frame):
        self._place(queue, frame)
        self.go_on(thread)

    def fewer(self, queue):
        """Expect one frame fewer; after the last frame no thread waits."""
        queue.coming -= 1
        if not queue.coming:
            while queue.getters:
                self.at(self.now, self.go_on, queue.getters.popleft())


def simulate(source, stations, scale=None):
    """Return the `Run` of a program; `scale` has a factor for the service of stages, by name."""
    scale = scale or {}
    assert set(scale) <= {source.name, *(s.name for s in stations)}
    n = len(stations[0].service)
    loop = _Loop()
    queues = [_Queue(station, n) for station in stations]
    start, sent, put = [0] * n, [0] * n, [0] * n
    taken, begin, done, left = ({s.name: [0] * n for s in stations} for _ in range(4))
    dropped = {}

    def served(name, service):
        times = np.rint(np.asarray(service, np.int64) * scale.get(name, 1.0)).astype(np.int64)
        return np.broadcast_to(times, n).tolist()

    def load():
        times = served(source.name, 0 if source.service is None else source.service)
        pauses = np.broadcast_to(source.pause, n).tolist()
        due = None if source.due is None else np.asarray(source.due).tolist()
        for frame in range(n):
            yield "wait", loop.now + pauses[frame] if due is None else due[frame]
            start[frame] = loop.now
            yield "wait", loop.now + times[frame]
            sent[frame] = loop.now
            yield "put", queues[0], frame
            put[frame] = loop.now

    def thread(k):
        station, name, times = stations[k], stations[k].name, service[k]
        since = done[stations[k - 1].name] if k else sent
        while True:
            frames, deadline = [], None
            while len(frames) < station.batch:
                frame = yield "get", queues[k], deadline
                if frame is None:
                    break
                taken[name][frame] = loop.now
                if station.limit is not None and loop.now - since[frame] > station.limit:
                    dropped[frame] = name
                    for later in queues[k + 1 :]:
                        loop.fewer(later)
                    continue
                frames.append(frame)
                if station.patience is not None and len(frames) == 1:
                    deadline = loop.now + station.patience
            if not frames:
                return
            for frame in frames:
                begin[name][frame] = loop.now
            yield "wait", loop.now + times[frames[0]] + station.each * (len(frames) - 1)
            for frame in frames:
                done[name][frame] = loop.now
            for frame in frames:
                if k + 1 < len(stations):
                    yield "put", queues[k + 1], frame
                left[name][frame] = loop.now

    service = [served(station.name, station.service) for station in stations]
    for k, station in enumerate(stations):
        for _ in range(n if station.servers is None else station.servers):
            loop.at(0, loop.go_on, thread(k))
    loop.at(0, loop.go_on, load())
    loop.run()

    def arrays(by_name):
        return {name: np.array(times, np.int64) for name, times in by_name.items()}

    of_source = [np.array(times, np.int64) for times in (start, sent, put)]
    return Run(*of_source, *map(arrays, (taken, begin, done, left)), dropped)


# -- traces --------------------------------------------------------------------------------------


def pipeline_of(source, stations, name="sim"):
    """Return the pipeline: a stage of a source that works, then a hand-off and a stage each."""
    marks, spans = ["start"], []
    if source.service is not None:
        marks.append("sent")
        spans.append(Span(source.name, "start", "sent", station="source"))
    for i, s in enumerate(stations):
        leave = "end" if i == len(stations) - 1 else f"out_{s.name}"
        spans += [Span(s.handoff, marks[-1], f"in_{s.name}")]
        # stages of an event loop have no station
        station = None if s.servers is None else f"station_{s.name}"
        spans += [Span(s.name, f"in_{s.name}", leave, station=station)]
        marks += [f"in_{s.name}", leave]
    return Pipeline(name, tuple(marks), tuple(spans))


def trace_of_run(run, source, stations, *, marked="before put", **optional):
    """Return the trace of a run. Hand-offs begin before the put, or when it has returned."""
    assert not run.dropped, "a trace of dropped frames is not needed so far"
    before = marked == "before put"
    marks = {"start": run.start}
    if source.service is not None:
        marks["sent"] = run.sent if before else run.put
    for i, s in enumerate(stations):
        marks[f"in_{s.name}"] = run.begin[s.name]
        leave = "end" if i == len(stations) - 1 else f"out_{s.name}"
        marks[leave] = (run.done if before else run.left)[s.name]
    ids = np.arange(len(run.start))
    return Trace(pipeline_of(source, stations), frame_id=ids, marks=marks, **optional)


def trace_of(starts, stations, **optional):
    """Simulate frames that start when they are due, marked after the put; return the trace."""
    source = Source(due=starts)
    run = simulate(source, stations)
    return trace_of_run(run, source, stations, marked="after put", **optional)
