"""A line: stations in a row, joined by queues of limited room, and the replay of its frames.

Node 0 is the source, which begins a frame at its `start`. In order of entry (place m, one server)
frame m begins at node k when it has arrived, when the frame before has left, and when the put of
the frame before has returned. That put waits for the take that makes room in queue k::

    begin[k, m] = max(end[k-1, m] + arrives, end[k, m-1] + goes_on, begin[k+1, m-1-room] + let_go)

`arrives`, `goes_on` and `let_go` are gaps in ns. The gap after the latest of the three times is the
recorded one. Each of the other two is the usual gap of its kind, or shorter if the frame would then
begin later than recorded: so an unchanged replay gives back every recorded time.

A station that serves batches takes frames from the queue until its batch is full. The begins of
these frames are their takes. The last take of a batch is the begin of its service; the others are
not in the marks, and are assumed to be as early as possible.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from latprof.arrays import Ints, Mask
from latprof.queueing.rooms import (
    NEVER,
    Node,
    Queue,
    Source,
    delayed,
    pace_of,
    queue_after_puts,
    queue_between,
    source_of,
)
from latprof.queueing.sending import Course, Times, in_batches, in_chunks, one_by_one

__all__ = ["MOST_POOL_FRAMES", "Line"]

MOST_POOL_FRAMES = 10_000
"""Largest number of frames that causes replay in a line with a pool (a node with several servers)
or with batches, which takes long for each frame."""

_AT_ONCE = 0.02  # of the pace: takes of one batch that are closer together count as one time


@dataclass(eq=False)
class Line:
    """n frames that passed all nodes, in order of their start; arrays (n,) in ns.

    A node is the source or a station.

    Attributes
    ----------
    rows
        The rows of the frames in the model.
    names, handoffs
        By node its station (None if the source has none), and the hand-off in front of it, or None.
    arrive, begin, end
        By node, when each frame could begin (`NEVER` at the source), when it began, and when its
        service ended.
    leave
        When each frame left the pipeline.
    servers, queues
        By node how many frames it serves at once, and the queue behind it.
    source, due
        Where frames come from, and when they were due, in order of their starts.
    left_out
        Frames that lack a visit or a mark.
    held_ns
        By node, how long its last stage was held by a full queue; not part of the work. Only if
        marks are set when a put has returned; otherwise None.
    batches
        By node the number of the batch of each frame (n,), ascending, None if it serves frames one
        by one.
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
    batches: list[Ints | None] = field(default_factory=list)

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

    @property
    def has_batches(self) -> bool:
        """Whether some node serves batches."""
        return any(batch is not None for batch in self.batches)

    @cached_property
    def _lasts(self) -> list[Ints | None]:
        """By node the row of the last frame of the batch of each frame."""
        return [
            None if batch is None else np.searchsorted(batch, batch, side="right") - 1
            for batch in self.batches
        ]

    def served(self, k: int, begin: Ints | None = None) -> Ints:
        """Return when the service of each frame began (n,): of a batch when its last was taken.

        `begin` (n,) are the begins at node `k`, by default the recorded ones.
        """
        begin, last = self.begin[k] if begin is None else begin, self._lasts[k]
        return begin if last is None else begin[last]

    def batch_size(self, k: int) -> float:
        """Return the mean size of the batches of a node, 1 if there are none."""
        batch = self.batches[k]
        return 1.0 if batch is None else len(batch) / max(len(np.unique(batch)), 1)

    @cached_property
    def _firsts(self) -> list[Mask | None]:
        """By node which frames are the first of a batch, None if it serves frames one by one."""
        return [
            None if last is None else np.append(True, last[:-1] == np.arange(len(last) - 1))
            for last in self._lasts
        ]

    @cached_property
    def _nodes(self) -> list[Node]:
        if self.in_order:
            columns = self.arrive, self.begin, self.end, self.servers, self._firsts
            return [Node(*part) for part in zip(*columns, strict=True)]
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
        """Return the line with its queues and source, as the marks show them.

        Rooms of `known` queues, by hand-off, are taken over.
        """
        if self.has_batches:
            return self._with_batches(known)
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

    def _with_batches(self, known: Mapping[str, Queue]) -> "Line":
        """Return the result of `with_queues` for a line with batches, with the takes of all frames.

        Nodes are handled from the last to the first. The put of the last frame of a batch shows the
        room behind the node. When that put has returned, the next batch can be begun.
        """
        begins, queues = list(self.begin), list[Queue]()
        for k in reversed(range(len(begins))):
            if k + 1 < len(begins):
                seen, found = (
                    self._queue_behind(k, begins[k + 1]),
                    known.get(self.handoffs[k + 1] or ""),
                )
                queues.insert(0, replace(found, most=seen.most) if found else seen)
            if not k or self._lasts[k] is None:
                continue
            # if batches fill slowly, a full queue behind is not seen, but puts in front wait
            choices = queues[:1]
            if choices and choices[0].room is None and choices[0].most:
                choices.append(replace(choices[0], room=choices[0].most))
            takes = [self._takes(k, begins[k + 1], each.room) for each in choices]
            takes = takes or [self._takes(k, None, None)]
            held = [self._queue_behind(k - 1, each).held for each in takes]
            best = int(np.argmax(held))
            begins[k], queues[:1] = takes[best], choices[best : best + 1]
        return replace(self, begin=begins).with_sources(queues)

    def _queue_behind(self, k: int, takes: Ints) -> Queue:
        """Return the queue behind a node as the marks show it; `takes` (n,) are from that queue."""
        node, last = self._nodes[k], self._lasts[k]
        events = node if last is None else replace(node, arrive=node.arrive[last])
        return queue_between(events, _of_bursts(takes, self._firsts[k + 1]))

    def _takes(self, k: int, following: Ints | None, room: int | None) -> Ints:
        """Return when a station took the frames of its batches (n,), at the earliest.

        `following` (n,) are the takes at the next node, from a queue with `room`; None if unknown.
        """
        node, last, first = self._nodes[k], self._lasts[k], self._firsts[k]
        assert last is not None
        assert first is not None
        free = node.before()
        if room and following is not None:
            free = np.maximum(free, np.where(first, delayed(following, 1 + room), NEVER))
        early = np.maximum.accumulate(np.maximum(node.arrive, free))
        is_last = last == np.arange(len(last))
        return np.where(is_last, node.begin, np.minimum(early, node.begin))

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
            in_bursts=nodes[1].first is not None,
        )
        return replace(self, queues=queues, source=source, due=due)

    def readings(self) -> "list[Line]":
        """Return the likely line, then others with other rooms and due times that are not known."""
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
            batches=[None if x is None else x[at] for x in self.batches],
        )

    def resampled(self, rows: Ints, due: Ints) -> "Line":
        """Return a line of frames `rows` (k,), which may repeat, due at other times (k,), in order.

        Frames keep their service times and gaps. In a pool they come in order of `due`.
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
        """By node three gaps (n,) in ns, by place: from each term of the recursion to the begin."""
        found = []
        for k, node in enumerate(self._nodes):
            room, before = self.rooms[k], node.before()
            takes = np.full(len(self), NEVER, np.int64)
            if room:
                takes = delayed(self._nodes[k + 1].begin, node.servers + room)
            if node.first is not None:  # inside a batch, after the take before
                before = np.where(node.first, before, delayed(node.begin, 1))
                takes = np.where(node.first, takes, NEVER)
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

    @cached_property
    def work(self) -> "list[Times]":
        """By node, how long it served each frame."""
        return [Times(end - self.served(k)) for k, end in enumerate(self.end)]

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
        """Send the frames through the line once more, in several scenarios at once.

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
        course = Course(
            count,
            self.due,
            self.rooms,
            servers or self.servers,
            [after_end for _, after_end, _ in self._gaps],
            [after_take for _, _, after_take in self._gaps],
            work,
            travel,
            transport,
            self._lasts,
        )
        if self.has_batches:
            return in_batches(course)
        if self.in_order and max(course.servers) == 1:
            return in_chunks(course)
        return one_by_one(course, self.begin, self.end, self.leave)


def _of_bursts(takes: Ints, first: Mask | None) -> Ints:
    """Return takes (n,) in which those of a batch that follow each other at once are at one time.

    A put that waited for room returned with the first of them.
    """
    if first is None or not len(takes):
        return takes
    alone = first.copy()
    alone[1:] |= np.diff(takes) > _AT_ONCE * pace_of(takes)
    starts: Ints = takes[np.maximum.accumulate(np.where(alone, np.arange(len(takes)), 0))]
    return starts
