"""The frames sent through the stations once more, with something changed.

A first in, first out station obeys D[n] = max(A[n] + h, D[n-1] + g) + S[n]: frame n is there after
its delay h, and the server takes it over g after it has served the frame before. Taking time out of
a station so takes away the queue behind it as well. For all n at once: with C the running sum of
g + S, D - C is the running maximum of A + h + S - C.
"""

import heapq
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from latprof.arrays import Ints, Mask
from latprof.errors import TraceError
from latprof.frames import MISSING, STAMP_LIMIT
from latprof.queueing.delays import Delays
from latprof.queueing.model import Picture
from latprof.queueing.stations import Block
from latprof.queueing.visits import Visits, latest_before

__all__ = ["MOST_BREAKS", "Change", "Replayed", "breaks_of", "one_server", "replay", "several"]

MOST_BREAKS = 0.01
"""Share of frames that may contradict first in, first out."""

Change = Callable[[Ints], Ints]
"""Durations (n,) ns -> what they become."""


@dataclass(frozen=True, slots=True, eq=False)
class Replayed:
    """How much later each frame (n,) ended than it did, ns, and where it was dropped (-1: not)."""

    shift: Ints
    dropped_at: npt.NDArray[np.int16]


def one_server(ready: Ints, hand_over: Ints, service: Ints) -> Ints:
    """Return departures (n,) from one server; arguments in order of entry.

    Examples
    --------
    >>> zero = np.zeros(3, np.int64)
    >>> one_server(np.array([0, 10, 50]), zero, np.array([30, 30, 30])).tolist()
    [30, 60, 90]
    """
    # in place: of ten million frames each array has 80 MB
    spent = hand_over + service
    np.cumsum(spent, out=spent)
    out: Ints = ready + service
    out -= spent
    np.maximum.accumulate(out, out=out)
    out += spent
    return out


def several(
    ready: Ints,
    hand_over: Ints,
    service: Ints,
    servers: int,
    arrive: Ints | None = None,
    limit: int | None = None,
) -> tuple[Ints, Mask]:
    """Return departures (n,) from several servers, and which frames were not served.

    With `limit`, frames that would begin later than that after `arrive` (n,) are dropped: they
    leave when the limit is over.

    Notes
    -----
    Where frames overtake each other, or one that is dropped makes room, there is no closed form:
    the frames are taken one by one, 0.5 us each.
    """
    there = np.maximum.accumulate(ready)
    lasting = service > 0
    if limit is None and (lasting.all() or not (hand_over > 0).any()):
        # where no more are there at once than servers, nobody waits
        alone = there + service
        # (a frame that is served in no time keeps nobody waiting, if no hand-over does)
        left_by = there - np.maximum(hand_over, 0)
        left = np.searchsorted(np.sort(alone[lasting]), left_by, side="right")
        if (np.cumsum(lasting) - lasting - left < servers).all():
            return alone, np.zeros(len(there), bool)
    free = [MISSING] * servers
    out, gone = np.empty(len(ready), np.int64), np.zeros(len(ready), bool)
    latest = [np.iinfo(np.int64).max] * len(ready)
    if limit is not None:
        latest = ((ready if arrive is None else arrive) + limit).tolist()
    rows = zip(there.tolist(), hand_over.tolist(), service.tolist(), latest, strict=True)
    for n, (at, over, time, last) in enumerate(rows):
        begin = max(at, free[0] + over)
        if begin > last:
            out[n], gone[n] = last, True
            continue
        heapq.heapreplace(free, begin + time)
        out[n] = begin + time
    return out, gone


def replay(
    whole: Picture,
    changes: Mapping[str, Change],
    *,
    servers: Mapping[str, int] | None = None,
    limits: Mapping[str, int] | None = None,
    delays: Mapping[str, Delays] | None = None,
) -> Replayed:
    """Send the frames through the pipeline again.

    Parameters
    ----------
    whole
        The frames as recorded.
    changes
        By stage what its time becomes: of a hand-off in front of a station its delay.
    servers
        By station, how many frames it serves at once.
    limits
        By hand-off: frames that wait longer, ns, are dropped there.
    delays
        Another reading of the gaps than the picture's, by station.

    Raises
    ------
    TraceError
        A station that frames come to twice.
    """
    where, columns = whole.places, whole.columns
    shift = np.zeros(len(columns), np.int64)
    dropped = np.full(len(columns), -1, np.int16)
    at = 0
    for place, stage in enumerate(where.pipeline.stages):
        if stage.station is None:
            in_front = any(block.handoff == stage.name for block in where.blocks)
            if stage.name in changes and not in_front:
                rows, lengths = _all_lengths(whole, stage.begin, stage.end)
                shift[rows] += changes[stage.name](lengths) - lengths
                _check_reach(stage.name, shift, shift[:0], shift[:0])
            continue
        if at == len(where.blocks) or where.blocks[at].stages[0] != stage:
            continue
        block, at = where.blocks[at], at + 1
        if len(where.of(block.station)) > 1:
            raise TraceError(
                f"station {block.station!r} serves stages that do not follow each other: frames "
                "come to it more than once, and a replay of it is not available"
            )
        mine = whole.visits[block.station]
        apart = (delays or whole.delays)[block.station]
        served = dropped[mine.frame] < 0
        limit = (limits or {}).get(block.handoff or "")
        count = (servers or {}).get(block.station, mine.servers)
        _through(whole, block, mine, apart, served, changes, count, limit, place, shift, dropped)
    return Replayed(shift, dropped)


def _through(
    whole: Picture,
    block: Block,
    mine: Visits,
    apart: Delays,
    served: Mask,
    changes: Mapping[str, Change],
    servers: int,
    limit: int | None,
    place: int,
    shift: Ints,
    dropped: npt.NDArray[np.int16],
) -> None:
    """Send the frames through one station; changes `shift` and `dropped`."""
    rows, delay, over = mine.frame, apart.delay, apart.hand_over
    service = mine.end - mine.begin
    changed = service.copy()
    for stage in block.stages:
        if stage.name in changes:
            low, high = mine.stages[stage.name]
            changed += changes[stage.name](high - low) - (high - low)
    changed -= _unblocked(whole, block, changes)
    np.maximum(changed, 0, out=changed)
    if block.handoff is not None and block.handoff in changes:
        delay = changes[block.handoff](delay)
    moved = shift[rows]
    ends, gone = mine.end, np.zeros(len(rows), bool)
    passing = _passing(mine)
    if passing is not None:
        # no server was free for them, and none has waited for them: they do as they did
        later = moved + (delay - apart.delay) + (changed - (mine.end - mine.begin))
        if limit is not None:
            late = passing & served & (delay > limit)
            later[late] = (apart.arrive + moved + limit - ends)[late]
            dropped[rows[late]] = place
        shift[rows[passing & served]] = later[passing & served]
        served = served & ~passing
    if not served.all():
        rows, delay, over, changed = rows[served], delay[served], over[served], changed[served]
        moved, ends = moved[served], ends[served]
    arrive = apart.arrive if served.all() else apart.arrive[served]
    before = apart.delay if served.all() else apart.delay[served]
    if not len(rows):
        return
    # who is there first goes first; as long as nothing has moved that is the recorded order
    there = arrive + before
    np.maximum.accumulate(there, out=there)
    there += delay
    there -= before
    there += moved
    arrive = arrive + moved
    del moved, before
    if (there[1:] < there[:-1]).any():
        order = np.argsort(there, kind="stable")
        rows, arrive, delay, over = rows[order], arrive[order], delay[order], over[order]
        changed, ends = changed[order], ends[order]
    del there
    ready = arrive + delay
    _check_reach(block.station, ready, over, changed)
    if servers == 1 and limit is None:
        out = one_server(ready, over, changed)
    else:
        out, gone = several(ready, over, changed, servers, arrive, limit)
    shift[rows] = out - ends
    if limit is not None and gone.any():
        dropped[rows[gone]] = place


def _passing(mine: Visits) -> Mask | None:
    """Return which visits were over before those that kept all servers busy; None: none."""
    if not mine.odd.any():
        return None
    return mine.odd & (mine.end <= latest_before(mine.end))


def _check_reach(name: str, ready: Ints, hand_over: Ints, service: Ints) -> None:
    """Refuse what would leave too late for a stamp: integers would come round.

    Raises
    ------
    TraceError
        Times of 2**62 ns or more.
    """
    if not len(ready):
        return
    spent = service.sum(dtype=np.float64) + np.abs(hand_over.sum(dtype=np.float64))
    if max(abs(float(ready.max())), abs(float(ready.min()))) + spent >= STAMP_LIMIT:
        raise TraceError(
            f"at {name!r} frames would be there 2**62 ns after 1970 (the year 2116) or later: "
            "that is no stamp: change less"
        )


def _unblocked(whole: Picture, block: Block, changes: Mapping[str, Change]) -> Ints | int:
    """Return what of a station's time goes because the station that held it up is quicker."""
    less: Ints | int = 0
    names = {stage.name for stage in block.stages}
    for blocked in whole.blocked[block.station]:
        if blocked.stage not in names:
            continue
        there = whole.visits[blocked.by]
        before, after = np.zeros(len(there), np.int64), np.zeros(len(there), np.int64)
        for name, (low, high) in there.stages.items():
            length = high - low
            before += length
            after += changes[name](length) if name in changes else length
        if np.array_equal(before, after):
            continue
        # the visit there that made room, and how much sooner it would have
        visit = np.searchsorted(there.end, blocked.high + 1, side="right") - 1
        share = np.clip(1 - after / np.maximum(before, 1), 0, 1)[np.maximum(visit, 0)]
        less = less + (blocked.lengths * share).astype(np.int64)
    return less


def breaks_of(whole: Picture) -> dict[str, int]:
    """Return by station how many frames contradict first in, first out.

    Those that entered while all servers were busy, those that were passed in the queue by one that
    arrived later, by more than delays differ, and those that lack a mark there. Only those of the
    picture's own window.
    """
    found = {}
    for name, mine in whole.visits.items():
        apart = whole.delays[name]
        known = (apart.arrive - mine.begin)[~apart.queued]
        longest = int(-known.min()) if len(known) else 0
        latest = np.maximum.accumulate(apart.arrive)
        passed = apart.queued & (apart.arrive + max(longest, apart.limit_ns) < latest)
        breaks = (passed | mine.odd | mine.unended) & whole.is_fresh(mine.frame)
        unknown = whole.is_fresh(mine.unknown)
        found[name] = int(np.count_nonzero(breaks)) + int(np.count_nonzero(unknown))
    return found


def _all_lengths(whole: Picture, begin: str, end: str) -> tuple[Ints, Ints]:
    low, high = whole.columns.marks[begin], whole.columns.marks[end]
    rows = np.flatnonzero((low != MISSING) & (high != MISSING) & (high >= low))
    return rows, (high - low)[rows]
