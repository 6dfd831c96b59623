"""Stations in a row, joined by queues of limited room: their frames sent through once more.

Node 0 is the source, which begins a frame at its `start`. In order of entry (place m, one server)
frame m begins at node k when it has arrived, when the frame before has left, and when the put of
the frame before has returned. That put waits for the take that makes room in queue k::

    begin[k, m] = max(end[k-1, m] + arrives, end[k, m-1] + goes_on, begin[k+1, m-1-room] + let_go)

The gap behind the term that came last is the recorded one. The other two are the usual ones of
their kind, or shorter if they would not have been in time: so an unchanged replay gives every
recorded time back.

All frames of a chunk are replayed at once, in all scenarios: what lets a put return is at least
`room` + 1 frames before, so that a chunk has that many frames. A pool of servers changes the order
of frames, which is why its frames are replayed one by one.
"""

import heapq
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from latprof.arrays import Ints, Mask
from latprof.frames import MISSING, Columns
from latprof.queueing.rooms import (
    NEVER,
    Node,
    Queue,
    Source,
    delayed,
    queue_after_puts,
    queue_between,
    source_of,
)
from latprof.queueing.stations import Stations, Visits

__all__ = ["MOST_POOL_FRAMES", "Line", "Times", "line_of"]

MOST_POOL_FRAMES = 10_000
"""Frames of a line with a pool that causes are replayed for; they are replayed one by one."""

_BLOCK_FRAMES = 8_192  # frames that are prepared at once
_MOST_ODD = 0.01  # share of the frames that may lack a visit


@dataclass(eq=False)
class Line:
    """n frames that passed all nodes, in order of their start; arrays (n,) in ns.

    Attributes
    ----------
    rows
        Their rows in the frames of the model.
    names, handoffs
        By node its station (None if the source has none), and the hand-off in front of it.
    arrive, begin, end
        By node, when a frame could begin (at the source `NEVER`: before it began), began, was done.
    leave
        When it left the pipeline.
    servers, queues
        By node how many frames it serves at once, and the queue behind it.
    source, due
        Where frames come from, and when they were due, in order of their starts.
    left_out
        Frames that lack a visit or a mark.
    held_ns
        By node, how long its last stage was held by a full queue; not part of the work. Only if
        marks are set when a put has returned; otherwise None.
    """

    rows: Ints
    names: list[str | None]
    handoffs: list[str | None]
    arrive: list[Ints]
    begin: list[Ints]
    end: list[Ints]
    leave: Ints
    servers: list[int]
    queues: list[Queue] = field(default_factory=list)
    source: Source = field(default_factory=Source)
    due: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    left_out: int = 0
    held_ns: list[Ints | None] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def is_bounded(self) -> bool:
        """Whether some queue has limited room."""
        return self.is_held(self.queues)

    @cached_property
    def in_order(self) -> bool:
        """Whether every node served one frame at a time, in order of their starts."""
        return max(self.servers) == 1 and all((x[1:] >= x[:-1]).all() for x in self.begin)

    @cached_property
    def _nodes(self) -> list[Node]:
        if self.in_order:
            parts = zip(self.arrive, self.begin, self.end, self.servers, strict=True)
            return [Node(*part) for part in parts]
        orders = [np.argsort(x, kind="stable") for x in self.begin]
        arrive = [x[order] for x, order in zip(self.arrive, orders, strict=True)]
        begin = [x[order] for x, order in zip(self.begin, orders, strict=True)]
        parts = zip(arrive, begin, map(np.sort, self.end), self.servers, strict=True)
        return [Node(*part) for part in parts]

    def entries(self, k: int) -> tuple[Ints, Ints, Ints, Ints]:
        """Return rows, arrival, begin and end at a node, in order of begin."""
        columns = self.rows, self.arrive[k], self.begin[k], self.end[k]
        if self.in_order:
            return columns
        order = np.argsort(self.begin[k], kind="stable")
        rows, arrive, begin, end = (x[order] for x in columns)
        return rows, arrive, begin, end

    def with_queues(self, known: Mapping[str, Queue]) -> "Line":
        """Return the line with its queues and its source as the marks show them, if not known."""
        nodes, queues = self._nodes, []
        held: list[Ints | None] = [None] * len(nodes)
        for k, handoff in enumerate(self.handoffs[1:]):
            found, takes = known.get(handoff or ""), nodes[k + 1].begin
            seen = found
            if found is None or found.given or self.servers[k] == 1:
                seen = queue_between(nodes[k], takes)
            assert seen is not None
            if self.servers[k] == 1 and not seen.room and self.names[k] is not None:
                order = np.argsort(self.begin[k], kind="stable")
                after, held_ns = queue_after_puts(self.begin[k][order], self.end[k][order], takes)
                if after.room:
                    by_row = np.empty_like(held_ns)
                    by_row[order] = held_ns
                    seen, held[k] = after, by_row
            queues.append(replace(found, most=seen.most) if found else seen)
        if any(each is not None for each in held):
            return self._marked_before_puts(held).with_sources(queues)
        return self.with_sources(queues)

    def _marked_before_puts(self, held: "list[Ints | None]") -> "Line":
        """Return the line as if its marks had been set before the puts."""
        end, arrive = list(self.end), list(self.arrive)
        for k, held_ns in enumerate(held):
            if held_ns is not None:
                end[k], arrive[k + 1] = end[k] - held_ns, arrive[k + 1] - held_ns
        return replace(self, end=end, arrive=arrive, held_ns=held)

    def with_sources(self, queues: list[Queue]) -> "Line":
        """Return the line with its queues, and its source as the marks show it."""
        nodes = self._nodes
        if self.servers[0] > 1:  # several sources at once: none of them waits for the others
            return replace(self, queues=queues)
        source, due, queues[0] = source_of(
            nodes[0],
            queues[0],
            nodes[1].begin,
            works=self.names[0] is not None or self.is_held(queues),
        )
        return replace(self, queues=queues, source=source, due=due)

    def readings(self) -> "list[Line]":
        """Return the line as it is most likely, and in other readings of what is not known."""
        likely = self.with_common_room()
        found = [likely]
        if any(queue.room is None for queue in self.queues) and self._may_be_held:
            rooms = [max(q.most, 1) if q.room is None else q.room for q in self.queues]
            found += [self.with_rooms(rooms), self]
        return found + [line for _, line in likely.sources()]

    def sources(self) -> "list[tuple[str, Line]]":
        """Return the line in other readings of an irregular source, with their names."""
        if self.source.kind != "irregular":
            return []
        never = np.full(len(self), NEVER, np.int64)
        return [
            ("held frames were due when they started", replace(self, due=self.begin[0])),
            ("the source always had another frame", replace(self, due=never)),
        ]

    @staticmethod
    def is_held(queues: Sequence[Queue]) -> bool:
        """Return whether some queue has limited room."""
        return any(queue.room for queue in queues)

    @property
    def _may_be_held(self) -> bool:
        return self.is_bounded or self.source.kind in ("closed", "paused")

    def with_rooms(self, rooms: Sequence[int | None]) -> "Line":
        """Return the line with other rooms of its queues."""
        queues = [replace(q, room=room) for q, room in zip(self.queues, rooms, strict=True)]
        return replace(self, queues=queues)

    def first(self, count: int) -> "Line":
        """Return the line of the first frames."""
        return self._only(slice(count)) if count < len(self) else self

    def of_rows(self, chosen: Mask) -> "Line":
        """Return the line of the chosen rows of the model."""
        mine = chosen[self.rows]
        return self if mine.all() else self._only(np.flatnonzero(mine))

    def _only(self, at: slice | Ints) -> "Line":
        cut = [[x[at] for x in each] for each in (self.arrive, self.begin, self.end)]
        return replace(
            self,
            rows=self.rows[at],
            arrive=cut[0],
            begin=cut[1],
            end=cut[2],
            leave=self.leave[at],
            due=self.due[at],
            held_ns=[None if x is None else x[at] for x in self.held_ns],
        )

    def resampled(self, rows: Ints, due: Ints) -> "Line":
        """Return a line of frames `rows` (k,), which may repeat, due at other times (k,), in order.

        Frames keep their work, and how late they went on. In a pool they come in order of `due`.
        """
        by_frame = self._gaps
        if not self.in_order:
            places = [np.argsort(np.argsort(x, kind="stable")) for x in self.begin]
            by_frame = [
                [gap[place] for gap in gaps] for gaps, place in zip(self._gaps, places, strict=True)
            ]
        taken = replace(self._only(rows), due=due)
        taken.work, taken.travel  # noqa: B018  (from times that are not in order any more)
        taken._gaps = [[gap[rows] for gap in gaps] for gaps in by_frame]
        taken.in_order = max(self.servers) == 1
        order = np.arange(len(rows))
        taken.begin = taken.end = [order] * len(self.begin)
        taken.leave = order
        return taken

    def with_common_room(self) -> "Line":
        """Return the line in which queues of unknown room have the room that most others have."""
        known = [q.room for q in self.queues if q.room]
        common = max(set(known), key=lambda room: (known.count(room), room), default=None)
        rooms = [
            common if q.room is None and common and common >= q.most else q.room
            for q in self.queues
        ]
        return self.with_rooms(rooms)

    @property
    def rooms(self) -> list[int]:
        """By node the room of the queue behind it, 0 if it is unbounded or there is none."""
        return [*(queue.room or 0 for queue in self.queues), 0]

    @cached_property
    def _gaps(self) -> list[list[Ints]]:
        """By node and place, how long after each of the three terms the frame begins."""
        found = []
        for k, node in enumerate(self._nodes):
            room, before = self.rooms[k], delayed(node.end, node.servers)
            takes = np.full(len(self), NEVER, np.int64)
            if room:
                takes = delayed(self._nodes[k + 1].begin, node.servers + room)
            times = [node.arrive if k else self.due.copy(), before, takes]
            if k == 0:
                times[0][0] = node.begin[0]
            bound = np.max(times, axis=0)
            last, gaps = np.argmax(times, axis=0), []
            for i, time in enumerate(times):
                own, mine = node.begin - time, last == i
                usual = int(np.median(own[mine])) if mine.any() else 0
                if k == 0 and i:  # a pause of the source stays with its frame
                    mine = last > 0
                gap = np.where(mine, node.begin - bound, np.minimum(usual, own))
                gap[time <= NEVER // 2] = 0
                gaps.append(gap)
            found.append(gaps)
        found[0][0][0] = self._nodes[0].begin[0] - self.due[0]
        return found

    def goes_on(self, k: int) -> Ints:
        """By place, how long after the end of the frame before the node goes on."""
        return self._gaps[k][1]

    def let_go(self, k: int) -> Ints:
        """By place, how long after the take that lets its put return the node goes on."""
        return self._gaps[k][2]

    @cached_property
    def work(self) -> "list[Times]":
        """By node, how long it served each frame."""
        return [Times(end - begin) for begin, end in zip(self.begin, self.end, strict=True)]

    @cached_property
    def travel(self) -> "list[Times]":
        """By node, the time from its end to the next queue, or until frames leave the pipeline."""
        after = [*self.arrive[1:], self.leave]
        return [Times(high - low) for low, high in zip(self.end, after, strict=True)]

    @property
    def transport(self) -> "list[Times]":
        """By node and place, the time that a frame is on its way from the queue to the node."""
        return [Times(gaps[0]) for gaps in self._gaps]

    def replay(
        self,
        count: int,
        work: "Sequence[Times]",
        travel: "Sequence[Times]",
        transport: "Sequence[Times]",
        servers: Sequence[int] | None = None,
    ) -> tuple[list[Ints], Ints]:
        """Send the frames through once more, in some scenarios at once.

        Parameters
        ----------
        count
            Number of scenarios S.
        work, travel, transport
            By node; see the attributes of the same names.
        servers
            By node, how many frames it serves at once.

        Returns
        -------
        list of ndarray, ndarray
            By node (S, n) when frames begin, and when they leave the pipeline; by row of the line.
        """
        servers = servers or self.servers
        if self.in_order and max(servers) == 1:
            return _in_chunks(self, count, work, travel, transport)
        begins: list[list[Ints]] = []
        leave = []
        for s in range(count):
            first, second, third = ([x.of(s) for x in each] for each in (work, travel, transport))
            begins.append(_one_by_one(self, first, second, third, servers))
            leave.append(begins[-1][-1] + work[-1].of(s) + travel[-1].of(s))
        return [np.stack(each) for each in zip(*begins, strict=True)], np.stack(leave)


@dataclass(frozen=True, slots=True, eq=False)
class Times:
    """Durations (n,) in ns, and what they are in some of several scenarios instead."""

    usual: Ints
    changed: Mapping[int, Ints] = field(default_factory=dict)

    def of(self, scenario: int) -> Ints:
        """Return the durations in one scenario."""
        return self.changed.get(scenario, self.usual)

    def part(self, count: int, low: int, high: int) -> Ints:
        """Return some of the durations, (1, m) or (S, m)."""
        usual = self.usual[None, low:high]
        if not self.changed:
            return usual
        found = np.repeat(usual, count, axis=0)
        for scenario, times in self.changed.items():
            found[scenario] = times[low:high]
        return found


def line_of(stations: Stations, visits: Mapping[str, Visits], columns: Columns) -> Line | None:
    """Return the frames as a line, or None if they are not one.

    They are not if a station is visited more than once, or if more than 1 % of the frames lack a
    visit or have marks that are out of order.
    """
    services = stations.services
    if not services or len(services) != len(stations.names):
        return None
    marks = columns.marks
    names: list[str | None] = [service.station for service in services]
    handoffs: list[str | None] = [service.handoff for service in services]
    arrive = [marks[service.arrive] for service in services]
    begin = [marks[service.begin] for service in services]
    end = [marks[service.end] for service in services]
    if services[0].handoff is None and _starts_at_once(marks["start"], begin[0], end[0]):
        begin[0] = marks["start"]
    elif services[0].begin != "start":
        names, handoffs = [None, *names], [None, *handoffs]
        begin, end = [marks["start"], *begin], [arrive[0], *end]
        arrive = [marks["start"], *arrive]
    arrive[0] = np.full(len(columns), NEVER, np.int64)
    if len(names) < 2:
        return None
    good = np.ones(len(columns), bool)
    finished = columns.finished()
    if finished is not None:
        good &= finished
    previous = marks["start"]
    good &= previous != MISSING
    in_order = (x for node in zip(arrive, begin, end, strict=True) for x in node)
    for times in itertools.islice(in_order, 1, None):
        good &= times >= previous
        previous = times
    good &= marks["end"] >= previous
    left_out = len(good) - int(np.count_nonzero(good))
    if left_out > _MOST_ODD * len(good):
        return None
    rows = np.flatnonzero(good)
    start = marks["start"][rows]
    if (start[1:] < start[:-1]).any():
        rows = rows[np.argsort(start, kind="stable")]
    whole = len(rows) == len(columns) and (rows[1:] > rows[:-1]).all()
    at: slice | Ints = slice(None) if whole else rows
    counts = [1 if name is None else visits[name].servers for name in names]
    arrive, begin, end = ([x[at] for x in each] for each in (arrive, begin, end))
    line = Line(rows, names, handoffs, arrive, begin, end, marks["end"][at], counts)
    return replace(line, left_out=left_out, due=begin[0])


def _starts_at_once(start: Ints, begin: Ints, end: Ints) -> bool:
    """Return whether frames enter the first station as soon as they start."""
    known = (start != MISSING) & (begin != MISSING) & (end != MISSING)
    before, inside = (begin - start)[known], (end - begin)[known]
    return bool((before >= 0).all() and before.sum() <= 0.01 * inside.sum())


def _in_chunks(
    line: Line,
    count: int,
    work: Sequence[Times],
    travel: Sequence[Times],
    transport: Sequence[Times],
) -> tuple[list[Ints], Ints]:
    """Return what `Line.replay` does: one server each, frames in order.

    `begin - run` is the running maximum of `low - run`, where `low` is what arrivals and takes
    allow, and `run` the time that the server needs for the frames before.
    """
    n, nodes, rooms = len(line), len(work), line.rooms
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
                arrive.append(np.broadcast_to(line.due[lo:hi] + on_the_way, (count, size)))
            spent = np.empty((count, size), np.int64)
            spent[:, :1], spent[:, 1:] = last_work[k], works[k][:, :-1]
            spent += line.goes_on(k)[lo:hi]
            run.append(np.cumsum(spent, axis=1, out=spent))
            woken.append(line.let_go(k)[lo:hi])
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


def _one_by_one(
    line: Line,
    work: Sequence[Ints],
    travel: Sequence[Ints],
    transport: Sequence[Ints],
    servers: Sequence[int],
) -> list[Ints]:
    """Return by node when frames begin (n,), in one scenario: pools.

    The frame of place m enters a node after `lag` steps, so that the frames before it have left the
    node before. A heap holds the frames in service.
    """
    n, nodes, rooms = len(line), len(work), line.rooms
    orders = [np.argsort(x, kind="stable") for x in (*line.begin, line.leave)]
    places = [np.argsort(order) for order in orders]
    # threads are woken in any order: which of the frames that came one after the other is next
    comes = [orders[0]]
    for k in range(1, nodes):
        came = np.lexsort((places[k], line.end[k - 1]))
        come = np.argsort(came)[orders[k]]
        known = not rooms[k - 1] or (come - np.arange(n)).max() < rooms[k - 1]
        comes.append(come if known else np.arange(n))
    early = [int((x - np.arange(n)).max(initial=0)) for x in comes]
    lags = (np.concatenate(([0], np.cumsum(servers[:-1]))) + np.cumsum(early)).tolist()
    works, travels, arrives = ([x.tolist() for x in each] for each in (work, travel, transport))
    goes_on, woken = (
        [get(k).tolist() for k in range(nodes)] for get in (line.goes_on, line.let_go)
    )
    # of frames that are done at one time, the one that is next in the recording leaves first
    following, nexts = [x.tolist() for x in places[1:]], [x.tolist() for x in comes]
    inside: list[list[tuple[int, int, int]]] = [[] for _ in range(nodes)]
    begun: list[list[int]] = [[] for _ in range(nodes)]
    coming: list[list[tuple[int, int]]] = [[] for _ in range(nodes + 1)]
    coming[0] = [(due, i) for i, due in enumerate(line.due.tolist())]
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
    return [np.array(each, np.int64) for each in begins]
