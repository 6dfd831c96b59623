"""Infers the room of each queue, and the kind of source, from the marks of a recording.

A thread that puts a frame into a full queue waits until a frame is taken out. The mark of the
hand-off is set before the put, so that this wait is part of the hand-off, and the thread begins its
next frame late. In order of entry, with a room of 2 and one server, frame 5 may begin when the put
of frame 4 has returned, and that put waits for the take of frame 2::

    begins at the station     3      4           5
    puts                        (3)    (4 waits) |
    takes from the queue      0      1           2

Each frame that begins late therefore votes for a room: the place of the put before it minus the
place of the take nearest to its begin (here 4 - 2). Votes by chance are spread over many rooms.
"""

from dataclasses import dataclass

import numpy as np

from latprof.arrays import Floats, Ints, Mask
from latprof.text import counted
from latprof.units import format_ns

__all__ = [
    "FEWEST_FRAMES",
    "NEVER",
    "Node",
    "Queue",
    "Source",
    "delayed",
    "pace_of",
    "queue_after_puts",
    "queue_between",
    "source_of",
]

FEWEST_FRAMES = 100
"""Frames needed to infer rooms and sources."""

NEVER = -(1 << 61)
"""A time (ns) before all stamps, for an event that keeps no frame waiting."""

_TOLERANCES = (0.001, 0.003, 0.01, 0.03, 0.1)  # of the pace, between a take and the begin after it
_LEAST_TOLERANCE_NS = 500
_LEAST_SCORE = 5  # standard deviations by which votes exceed chance
_FEWEST_VOTES = 3
_MOST_TRIED = 16_384  # frames that show whether puts were held inside a stage
_MOST_FITTED = 1_024  # frames that a period is fitted to
_OVERLOADED = 0.8  # a source is overloaded if more than this share follows its last frame in time
_MANY_HELD = 0.2  # share of the frames; if more are held, the slope need not be clear
_FEWEST_HELD = 16  # held frames that a clear slope needs
_BURST = 16  # frames that may start at once because a batch was taken
_MOST_BEYOND = 0.01  # share of the frames that may go in although the queue is full


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """A station, or the source, as n frames passed it; each array is sorted by itself.

    `arrive` is when frames could begin, `begin` and `end` when their service began and ended.
    `first` says with which frames a service begins, if the station serves batches.
    """

    arrive: Ints
    begin: Ints
    end: Ints
    servers: int = 1
    first: Mask | None = None

    def before(self) -> Ints:
        """Return when a server was done with an earlier frame (n,), `NEVER` inside a batch."""
        ends = delayed(self.end, self.servers)
        return ends if self.first is None else np.where(self.first, ends, NEVER)


@dataclass(frozen=True, slots=True)
class Queue:
    """The queue in a hand-off, as far as it is known.

    Attributes
    ----------
    room
        How many frames the queue has room for, 0 if it is known to be unbounded. None means that
        the room is not known, because the queue was never seen full.
    most
        The largest number of frames that were in the queue.
    held
        How many puts returned right after a take made room.
    share
        The share of these puts in those that found the queue full.
    given
        Whether the room was given, not inferred.
    """

    room: int | None
    most: int = 0
    held: int = 0
    share: float = 0.0
    given: bool = False

    @property
    def text(self) -> str:
        """The room and its evidence."""
        if self.given:
            return f"room {self.room} (given)" if self.room else "unbounded (given)"
        if self.room is None:
            return f"room not known: it held {counted(self.most, 'frame')} at most"
        if not self.held:
            return f"room {self.room} (likely): it never held more, and puts wait for takes"
        return (
            f"room {self.room}: {counted(self.held, 'put')} returned right after the take of the "
            f"frame {self.room} before, {self.share:.0%} of those that found it full; at most "
            f"{self.most} were in it"
        )


@dataclass(frozen=True, slots=True)
class Source:
    """Where frames come from.

    Attributes
    ----------
    kind
        ``"open"``: frames start when they did. ``"closed"``: the next frame starts as soon as the
        one before is in the queue; ``"paused"``: the same, with pauses. ``"periodic"``: frames are
        due at a fixed period. ``"irregular"``: frames are due at times that are not known while
        the source is held.
    period_ns
        The period, 0 if the source is not periodic.
    evidence
        The counts that show the kind, as text.
    """

    kind: str = "open"
    period_ns: float = 0.0
    evidence: str = ""

    @property
    def text(self) -> str:
        """The kind and its evidence."""
        meaning = {
            "open": "frames start when they did",
            "closed": "closed, the next frame starts when the one before is in the queue",
            "paused": "closed with pauses, which stay with their frames",
            "periodic": f"periodic, a frame every {format_ns(self.period_ns)}",
            "irregular": "irregular, when held frames were due is not known",
        }[self.kind]
        return f"{meaning}: {self.evidence}" if self.evidence else meaning


def delayed(times: Ints, by: int) -> Ints:
    """Return the time `by` places earlier (n,), `NEVER` before the first.

    Examples
    --------
    >>> delayed(np.array([5, 7, 9]), 1)[1:].tolist()
    [5, 7]
    """
    by = min(by, len(times))
    return np.concatenate((np.full(by, NEVER, np.int64), times[: len(times) - by]))


def pace_of(takes: Ints) -> float:
    """Return the usual time between takes (n,) in ns: the mean if most come at one time."""
    return float(np.median(np.diff(takes))) or max((takes[-1] - takes[0]) / len(takes), 1.0)


def queue_between(node: Node, takes: Ints) -> Queue:
    """Return the queue behind a node as the marks show it; `takes` (n,) are in order, ns.

    Notes
    -----
    1. A frame is late if it begins later than its arrival and the end of the frame before allow,
       by more than the usual gap.
    2. Each late frame votes for the room that follows from the take nearest to its begin. (Threads
       are woken in any order: the mark of the take may be a little later than that of the begin.)
    3. The tolerance is the one at which the winner exceeds what chance gives most clearly.
    4. A room is refused if more than 1 % of the frames went in beyond it.
    """
    ready = np.maximum(node.before(), node.arrive)
    return _elected(node.begin, ready, node.servers, takes, node.first)


def queue_after_puts(begin: Ints, end: Ints, takes: Ints) -> tuple[Queue, Ints]:
    """Return the queue behind a stage with an `end` mark that is set when the put has returned.

    A held put is then part of the stage, and the ends vote for the room. Also returned is how long
    each put was held (n,), in ns: by how much its stage took longer than usual.
    """
    held_ns = np.zeros(len(end), np.int64)
    for count in (_MOST_TRIED, len(end)):  # all frames are tried only if the first show a queue
        queue = _elected(end[:count], begin[:count], 0, takes[:count])
        if not queue.room:
            return queue, held_ns
    let_go = delayed(takes, queue.room or 0)
    pace = pace_of(takes)
    lengths = end - begin
    held = (let_go > begin) & (np.abs(end - let_go) <= max(0.03 * pace, _LEAST_TOLERANCE_NS))
    # if held puts do not vary, they may be those of two clocks with one period
    free = lengths[~held]
    fewest = min(len(free), int(np.count_nonzero(held)))
    if fewest < _FEWEST_VOTES or float(np.std(lengths[held])) < 0.02 * pace:
        return Queue(None, queue.most), held_ns
    held_ns[held] = np.maximum(lengths[held] - int(np.median(free)), 0)
    return queue, held_ns


def _elected(
    begin: Ints, ready: Ints, servers: int, takes: Ints, first: Mask | None = None
) -> Queue:
    """Return the queue that late events vote for: event m is of the put of frame m - servers.

    Of a station that serves batches only the events with which a service begins count.
    """
    n = len(begin)
    place = np.arange(n)
    known = place >= servers if first is None else (place >= servers) & first
    late = begin - ready
    inside = place - servers + 1 - np.searchsorted(takes, begin, side="right")
    most = max(int(inside[known].max(initial=0)), 0)
    if n < FEWEST_FRAMES:
        return Queue(None, most)
    pace = pace_of(takes)
    free = late[known & (inside * 2 <= most) & (late >= 0)]
    usual = min(5 * float(np.quantile(free, 0.1)), 0.1 * pace) if len(free) > 20 else 0.0
    held = np.flatnonzero(known & (late > max(usual, 0.02 * pace, 1_000)))
    if len(held) < _FEWEST_VOTES:
        return Queue(None, most)
    let_go = begin[held]
    after = np.clip(np.searchsorted(takes, let_go), 1, n - 1)
    nearer = let_go - takes[after - 1] <= takes[after] - let_go
    take = np.where(nearer, after - 1, after)
    take = np.searchsorted(takes, takes[take])  # of takes at one time the first let the put return
    room = held - servers - take
    held, take, room = (each[room >= 1] for each in (held, take, room))
    off = np.abs(begin[held] - takes[take])
    best, found, votes = 0.0, 0, 0
    for part in _TOLERANCES:
        near = off <= max(part * pace, _LEAST_TOLERANCE_NS)
        counts = np.bincount(room[near], minlength=1)
        top = int(counts.argmax())
        same = int(np.count_nonzero(room == top))
        chance = max(2 * max(part, _LEAST_TOLERANCE_NS / pace) * same, 0.1)
        score = (int(counts[top]) - chance) / chance**0.5
        if counts[top] >= _FEWEST_VOTES and score > best:
            best, found, votes = score, top, int(counts[top])
    if best < _LEAST_SCORE:
        return Queue(None, most)
    full = int(np.count_nonzero(inside[held] >= found))
    slack = min(0.1 * pace, 1e6)
    beyond = known & (delayed(takes, servers + found) > begin + slack)
    if np.count_nonzero(beyond) > _MOST_BEYOND * n + 1:
        return Queue(None, most)
    return Queue(found, most, votes, min(votes / max(full, 1), 1.0))


def source_of(
    node: Node, queue: Queue, takes: Ints, *, works: bool, in_bursts: bool = False
) -> tuple[Source, Ints, Queue]:
    """Return the source, when its frames were due (n,), and the queue behind it.

    A source that works on its frames may be closed although no put waits for room. A closed source
    is always due (`NEVER`). After a put that was not held a closed source goes on
    at once, an open one waits until its next frame is due. With `in_bursts` many takes come at
    once, and so do the frames that they let go.
    """
    begin, n = node.begin, len(node.begin)
    ended = delayed(node.end, 1)
    paused = False
    if n < FEWEST_FRAMES:
        return Source(), begin.copy(), queue
    if not queue.given and (queue.room is None or queue.share < 0.5):
        # a pause hides the take that let a put return: see how full the queue is
        room = queue.room or queue.most
        take = delayed(takes, 1 + room)
        full = np.mean(np.arange(n) - np.searchsorted(takes, begin, side="right") == room)
        if room and full >= 0.02:
            after = bool(np.mean((begin > np.maximum(ended, take))[1:]) > 0.99)
            paused = after and _follows_takes(begin, ended, take)
            if paused:
                queue = Queue(room, queue.most, queue.held, queue.share)
    if queue.room and not queue.given and _is_on_time(begin):
        queue = Queue(None, queue.most)  # takes on the same clock as the source
    if not (queue.room or works):
        return Source(), begin.copy(), queue
    take = delayed(takes, 1 + queue.room) if queue.room else np.full(n, NEVER)
    before = np.maximum(np.append(begin[0], ended[1:]), take)
    gap, free = begin - before, ended > take
    far = _BURST if in_bursts else 1
    step = float(np.median(begin[far:] - begin[:-far])) / far
    usual = float(np.quantile(gap[~free], 0.25)) if np.count_nonzero(~free) > 20 else 0.0
    idle = free & (gap > max(0.05 * step, min(10 * usual, 0.3 * step), 1_000))
    free[0], idle[0] = False, True
    waits, freed = int(np.count_nonzero(idle)), int(np.count_nonzero(free))
    seen = f"{waits - 1:,} of {freed:,} frames started later than the put before let them"
    at = np.flatnonzero(idle)
    line = _line(begin, at) if waits >= 4 else None
    if paused and line is not None and _waits_after_takes(begin - begin[0] - line, gap, free):
        line = None
    if line is not None and (waits >= 0.2 * freed or waits > 20):
        due = np.minimum(np.rint(line).astype(np.int64) + begin[0], begin)
        period = float(line[1] - line[0])
        return Source("periodic", period, seen), np.where(idle, begin, due), queue
    never = np.full(n, NEVER, np.int64)
    if paused:
        return Source("paused", 0.0, "it goes on some time after takes"), never, queue
    if waits < max(4, 0.2 * freed):
        return Source("closed", 0.0, seen), never, queue
    if queue.room and n - freed > 0.002 * n + 1:
        source = Source("irregular", 0.0, f"{seen}; {n - freed:,} were held")
        return source, _likely_due(begin, gap, at), queue
    return Source("open", 0.0, seen), begin.copy(), queue


def _follows_takes(begin: Ints, ended: Ints, take: Ints) -> bool:
    """Return whether frames begin later if the take before them is later.

    An open source may begin after the takes as well, but does not depend on them: the
    slope of its steps over the times of the takes is 0. With pauses after the takes it is 1. If
    few frames were held, the slope must be clear.
    """
    held = (take > ended) & (ended > NEVER)  # and so the take is known
    count = int(np.count_nonzero(held))
    if count < _FEWEST_VOTES:
        return False
    hold = (take - ended)[held].astype(np.float64)
    step = (begin - ended)[held].astype(np.float64)
    hold -= hold.mean()
    step -= step.mean()
    spread = float(hold @ hold)
    slope = float(hold @ step) / spread if spread else 0.0
    if count > _MANY_HELD * len(begin):
        return slope > 0.5
    error = float(np.sum((step - slope * hold) ** 2)) / max(count - 2, 1)
    clear = slope * spread**0.5 > _LEAST_SCORE * error**0.5
    return count >= _FEWEST_HELD and 0.5 < slope < 1.5 and clear


def _waits_after_takes(late: Floats, gap: Ints, free: Mask) -> bool:
    """Return whether held frames that are behind a fixed period begin some time after the take.

    A periodic source that is behind goes on at once; one that is closed pauses first.
    """
    period = float(np.median(gap[free])) if free.any() else 0.0
    behind = ~free & (late > 0.1 * period)
    behind[0] = False
    return bool(behind.any() and np.median(gap[behind]) > 0.5 * period)


def _is_on_time(begin: Ints) -> bool:
    """Return whether nearly all frames begin at a fixed period."""
    line = _line(begin, np.arange(len(begin)))
    if line is None:
        return False
    off = np.abs(begin - begin[0] - line)
    return bool(np.mean(off <= 0.1 * (line[1] - line[0])) >= 0.98)


def _line(begin: Ints, at: Ints) -> Floats | None:
    """Return when frames are due (n,), in ns after the first begin, or None without a period.

    The frames at `at`, which began in time, must be on a line, and hardly any frame before it. The
    line is fitted from the first frames outwards: far out the first estimate of its slope is too
    coarse.
    """
    y = (begin - begin[0]).astype(np.float64)
    steps = np.diff(y[at])[np.diff(at) == 1]
    slope = float(np.median(steps)) if len(steps) > 2 else 0.0
    offset = 0.0
    for wide in (0.3, 0.1, 0.05, 0.05, 0.05):
        offset, reach = float(y[at[0]] - slope * at[0]), 4
        while reach < len(at):
            reach *= 2
            near = at[:reach]
            use = near[np.abs(y[near] - slope * near - offset) <= wide * slope]
            use = use[:: max(len(use) // _MOST_FITTED, 1)]
            if len(use) > 3:
                slope, offset = map(float, np.polyfit(use, y[use], 1))
    line = np.asarray(slope * np.arange(len(begin)) + offset, np.float64)
    if slope <= 0 or np.mean(np.abs(y - line)[at] <= 0.1 * slope) < 0.7:
        return None
    return line if np.mean(y < line - 0.1 * slope) < 0.01 else None


def _likely_due(begin: Ints, gap: Ints, at: Ints) -> Ints:
    """Return when frames of an irregular source were due (n,), of held ones as a random walk.

    Between two frames at `at`, which began in time, a held frame was due before it began: by as
    much as a random walk with the spread of the gaps is away from a straight line. If nearly all
    frames come after the last one in time, the source has more frames than the stations can serve.
    The few in time do not show how many more, so all others were due since the last one in time.
    """
    n, place = len(begin), np.arange(len(begin))
    last = at[np.searchsorted(at, place, side="right") - 1]
    following = np.append(at, n)[np.searchsorted(at, place, side="left")]
    rate = (begin[at[-1]] - begin[0]) / max(int(at[-1]), 1)
    spread = 1.6 * np.hypot(gap[at[1:]].std(), np.diff(begin).std())
    walk = spread * np.sqrt((place - last) * (following - place) / np.maximum(following - last, 1))
    due = np.where(place > at[-1], begin[at[-1]] + rate * (place - at[-1]), begin - walk)
    clipped = np.maximum.accumulate(np.clip(due, begin[last], begin).astype(np.int64))
    if n - at[-1] > _OVERLOADED * n:
        clipped[at[-1] + 1 :] = begin[at[-1]]
    return clipped
