"""Sends frames through a line of stations once more: all at once, one by one, or in batches.

The recursion is that of `latprof.queueing.line`::

    begin[k, m] = max(end[k-1, m] + arrives, end[k, m-1] + goes_on, begin[k+1, m-1-room] + let_go)

All frames of a chunk are replayed at once, in all scenarios: the take that lets a put return is at
least `room` + 1 frames before, so that a chunk can have that many frames. A pool of servers changes
the order of frames, which is why its frames are replayed one by one.
"""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from latprof.arrays import Ints
from latprof.queueing.rooms import NEVER

__all__ = ["Course", "Times", "in_batches", "in_chunks", "one_by_one"]

_BLOCK_FRAMES = 8_192  # frames that are prepared at once


@dataclass(frozen=True, slots=True, eq=False)
class Times:
    """Durations (n,) in ns: the usual ones, and changed ones by number of the scenario."""

    usual: Ints
    changed: Mapping[int, Ints] = field(default_factory=dict)

    def of(self, scenario: int) -> Ints:
        """Return the durations in one scenario."""
        return self.changed.get(scenario, self.usual)

    def part(self, count: int, low: int, high: int) -> Ints:
        """Return the durations from `low` to `high`: (1, m) if no scenario differs, else (S, m)."""
        usual = self.usual[None, low:high]
        if not self.changed:
            return usual
        found = np.repeat(usual, count, axis=0)
        for scenario, times in self.changed.items():
            found[scenario] = times[low:high]
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Course:
    """The times that n frames need on their way through a line, in S scenarios; in ns.

    Attributes
    ----------
    count
        The number of scenarios S.
    due
        (n,) when frames are due at the source.
    rooms, servers
        By node the room of the queue behind it, 0 if it is unbounded, and how many frames it serves
        at once.
    goes_on, let_go
        By node and place, how long the node takes to go on after the frame before it, and after the
        take that lets its put return.
    work, travel, transport
        By node: see the attributes of `latprof.queueing.line.Line`.
    lasts
        By node the row (n,) of the last frame of each frame's batch, None if there are no batches.
    """

    count: int
    due: Ints
    rooms: Sequence[int]
    servers: Sequence[int]
    goes_on: Sequence[Ints]
    let_go: Sequence[Ints]
    work: Sequence[Times]
    travel: Sequence[Times]
    transport: Sequence[Times]
    lasts: Sequence[Ints | None]


def in_chunks(course: Course) -> tuple[list[Ints], Ints]:
    """Return the result of `Line.replay` for nodes with one server that keep the order of frames.

    `begin - run` is the running maximum of `low - run`, where `low` is what arrivals and takes
    allow, and `run` the time that the server needs for the frames before.
    """
    count, work, travel, transport = course.count, course.work, course.travel, course.transport
    n, nodes, rooms = len(course.due), len(work), course.rooms
    step = min([room + 1 for room in rooms if room], default=_BLOCK_FRAMES)
    kept = max(rooms) + 2  # begins before a block that its frames depend on
    begins, leave = (
        [np.empty((count, n), np.int64) for _ in range(nodes)],
        np.empty((count, n), int),
    )
    out = [np.full((count, kept + _BLOCK_FRAMES), NEVER, np.int64) for _ in range(nodes)]
    last_work = [np.zeros((1, 1), np.int64) for _ in range(nodes)]
    for lo in range(0, n, _BLOCK_FRAMES):
        hi = min(lo + _BLOCK_FRAMES, n)
        size = hi - lo
        arrive, run, woken, latest = [], [], [], []
        works = [each.part(count, lo, hi) for each in work]
        for k in range(nodes):
            on_the_way = transport[k].part(count, lo, hi)
            if k:
                arrive.append(works[k - 1] + travel[k - 1].part(count, lo, hi) + on_the_way)
            else:
                arrive.append(np.broadcast_to(course.due[lo:hi] + on_the_way, (count, size)))
            spent = np.empty((count, size), np.int64)
            spent[:, :1], spent[:, 1:] = last_work[k], works[k][:, :-1]
            spent += course.goes_on[k][lo:hi]
            run.append(np.cumsum(spent, axis=1, out=spent))
            woken.append(course.let_go[k][lo:hi])
            latest.append(out[k][:, kept - 1].copy())
            last_work[k] = works[k][:, -1:]
        for a in range(0, size, step):
            z = min(a + step, size)
            for k in range(nodes):
                if k:
                    low = arrive[k][:, a:z] + out[k - 1][:, kept + a : kept + z]
                else:
                    low = arrive[0][:, a:z].copy()
                room = rooms[k]
                if room:
                    takes = out[k + 1][:, kept + a - 1 - room : kept + z - 1 - room]
                    np.maximum(low, takes + woken[k][a:z], out=low)
                low -= run[k][:, a:z]
                np.maximum(low[:, 0], latest[k], out=low[:, 0])
                np.maximum.accumulate(low, axis=1, out=low)
                latest[k] = low[:, -1]
                np.add(low, run[k][:, a:z], out=out[k][:, kept + a : kept + z])
        for k in range(nodes):
            begins[k][:, lo:hi] = out[k][:, kept : kept + size]
            out[k][:, :kept] = out[k][:, size : size + kept].copy()
        after = works[-1] + travel[-1].part(count, lo, hi)
        np.add(begins[-1][:, lo:hi], after, out=leave[:, lo:hi])
    return begins, leave


def one_by_one(
    course: Course, begin: Sequence[Ints], end: Sequence[Ints], leave: Ints
) -> tuple[list[Ints], Ints]:
    """Return the result of `Line.replay` for nodes with several servers.

    `begin`, `end` and `leave` are the recorded times, which show the order of frames. In step t a
    node takes the frame of place t minus its lag, so that this frame has left the previous node.
    A heap holds the frames in service.
    """
    n, nodes, rooms, servers = len(course.due), len(begin), course.rooms, course.servers
    orders = [np.argsort(x, kind="stable") for x in (*begin, leave)]
    places = [np.argsort(order) for order in orders]
    # threads are woken in any order: this is the order in which frames that came are taken
    comes = [orders[0]]
    for k in range(1, nodes):
        came = np.lexsort((places[k], end[k - 1]))
        come = np.argsort(came)[orders[k]]
        known = not rooms[k - 1] or (come - np.arange(n)).max() < rooms[k - 1]
        comes.append(come if known else np.arange(n))
    early = [int((x - np.arange(n)).max(initial=0)) for x in comes]
    lags = (np.concatenate(([0], np.cumsum(servers[:-1]))) + np.cumsum(early)).tolist()
    goes_on, woken = ([x.tolist() for x in each] for each in (course.goes_on, course.let_go))
    # of frames that are done at one time, the one that comes first in the recording leaves first
    following, nexts = [x.tolist() for x in places[1:]], [x.tolist() for x in comes]
    due = course.due.tolist()

    def scenario(s: int) -> list[list[int]]:
        """Return by node when frames begin, in one scenario."""
        parts = course.work, course.travel, course.transport
        works, travels, arrives = ([x.of(s).tolist() for x in each] for each in parts)
        inside: list[list[tuple[int, int, int]]] = [[] for _ in range(nodes)]
        begun: list[list[int]] = [[] for _ in range(nodes)]
        coming: list[list[tuple[int, int]]] = [[] for _ in range(nodes + 1)]
        coming[0] = [(due, i) for i, due in enumerate(due)]
        begins = [[0] * n for _ in range(nodes)]
        for t in range(n + lags[-1] + servers[-1]):
            for k in range(nodes):
                m = t - lags[k]
                if not 0 <= m < n + servers[k]:
                    continue
                before = m - servers[k]
                done = take = NEVER
                if before >= 0:
                    done, _, i = heapq.heappop(inside[k])
                    coming[k + 1].append((done + travels[k][i], i))
                if m >= n:
                    continue
                if rooms[k] and before >= rooms[k]:
                    take = begun[k + 1][before - rooms[k]]
                at, i = coming[k][nexts[k][m]]
                at = max(at + arrives[k][m], done + goes_on[k][m], take + woken[k][m])
                begun[k].append(at)
                begins[k][i] = at
                heapq.heappush(inside[k], (at + works[k][i], following[k][i], i))
        return begins

    scenarios = [scenario(s) for s in range(course.count)]
    begins = [np.array(each, np.int64) for each in zip(*scenarios, strict=True)]
    return begins, _left(course, begins[-1])


def in_batches(course: Course) -> tuple[list[Ints], Ints]:
    """Return the result of `Line.replay` for nodes that serve batches: one server, frames in order.

    The service of a batch begins when its last frame is taken from the queue, and its frames leave
    together. The next batch is collected after the put of the last frame has returned::

        takes          0 1 2        3 4      5
        service              |--0 1 2--|       |--3 4 5--|

    In each round a node goes as far as the arrivals and the takes that are known so far allow.
    """
    count, n, rooms, nodes = course.count, len(course.due), course.rooms, len(course.work)
    begins = [np.empty((count, n), np.int64) for _ in range(nodes)]
    ends = [np.empty((count, n), np.int64) for _ in range(nodes)]
    works = [each.part(count, 0, n) for each in course.work]
    arrive = [each.part(count, 0, n) for each in course.transport]
    runs: list[Ints] = []
    firsts: list[Ints] = []
    lasts: list[Ints] = []
    for k in range(nodes):
        known = course.lasts[k]
        last = np.arange(n) if known is None else known
        first = np.concatenate(([0], np.unique(last) + 1))  # row of each batch's first frame, and n
        spent = np.zeros((count, n), np.int64)
        spent[:, first[1:-1]] = works[k][:, first[1:-1] - 1]
        runs.append(np.cumsum(spent + course.goes_on[k], axis=1))
        firsts.append(first)
        lasts.append(last)
    # by node how many frames have been taken, and how many are done
    taken, done = [0] * nodes, [n, *([0] * nodes)]
    while done[nodes] < n:
        for k in range(nodes):
            high, firsts_of = done[k], firsts[k]
            if rooms[k]:
                # a service begins when the put of the frame before it has returned
                most = min(taken[k + 1] + rooms[k], n - 1)
                high = min(high, int(firsts_of[np.searchsorted(firsts_of, most, side="right")]))
            low = taken[k]
            if high <= low:
                continue
            came = course.due[None, low:high] if k == 0 else ends[k - 1][:, low:high]
            if k:
                came = came + course.travel[k - 1].part(count, low, high)
            ready = came + arrive[k][:, low:high]
            if rooms[k]:
                begun = firsts_of[slice(*np.searchsorted(firsts_of, (low, high)))]
                begun = begun[begun > rooms[k]]
                takes = begins[k + 1][:, begun - 1 - rooms[k]] + course.let_go[k][begun]
                ready = np.broadcast_to(ready, (count, high - low)).copy()
                ready[:, begun - low] = np.maximum(ready[:, begun - low], takes)
            ready = ready - runs[k][:, low:high]
            if low:
                before = begins[k][:, low - 1] - runs[k][:, low - 1]
                ready[:, 0] = np.maximum(ready[:, 0], before)
            begins[k][:, low:high] = np.maximum.accumulate(ready, axis=1) + runs[k][:, low:high]
            taken[k] = high
            whole = int(firsts_of[np.searchsorted(firsts_of, high, side="right") - 1])
            now = slice(done[k + 1], whole)
            ends[k][:, now] = begins[k][:, lasts[k][now]] + works[k][:, now]
            done[k + 1] = whole
    return begins, ends[-1] + course.travel[-1].part(count, 0, n)


def _left(course: Course, begins: Ints) -> Ints:
    """Return when frames leave the pipeline (S, n), from their begins at the last node (S, n)."""
    n = len(course.due)
    after = (each[-1].part(course.count, 0, n) for each in (course.work, course.travel))
    return begins + sum(after)
