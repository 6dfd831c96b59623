"""Blocking after service: a full queue keeps the frame before it in its stage, or its server idle.

It looks like time of the stage upstream. It is inferred where the station downstream was busy
throughout, and where the end of it mostly falls on a departure there, which makes room. What waits
for such a frame then waits for what that frame waits for: a chain, followed station by station.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from latprof.arrays import Ints, Mask
from latprof.errors import TraceError
from latprof.queueing.busy import Busy, Sum, Timeline, busy_of
from latprof.queueing.delays import Delays
from latprof.queueing.stations import Places
from latprof.queueing.visits import Visits, in_order

__all__ = ["DEPTH", "Blocked", "Path", "chains", "check_depth"]

DEPTH = 8
"""Stages that a chain of waiting goes through at most."""

_BUSY = 0.9
_MOSTLY = 0.5
_FEW = 3

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Blocked:
    """The (n,) intervals, by visit to a station, in which it was blocked by the next station.

    `stage` is where that time stands in the recording, a stage of the station or the hand-off
    behind it; `usual_ns` what the stage takes otherwise.
    """

    stage: str
    by: str
    low: Ints
    high: Ints
    usual_ns: int

    @property
    def lengths(self) -> Ints:
        """(n,) ns."""
        return self.high - self.low


def check_depth(depth: object) -> int:
    """Return how many stages a chain may have.

    Raises
    ------
    TraceError
        No whole number of 1 or more.
    """
    if isinstance(depth, bool) or not isinstance(depth, int | np.integer) or depth < 1:
        raise TraceError(f"depth={depth!r}: give 1 or more, a whole number of stages")
    return int(depth)


def chains(
    places: Places,
    visits: Mapping[str, Visits],
    delays: Mapping[str, Delays],
    depth: int = DEPTH,
) -> tuple[dict[str, dict[Path, Busy]], dict[str, list[Blocked]]]:
    """Return by station what its frames keep others waiting with, and where it was blocked.

    Each is a cumulative function of time by path: the stage that a frame is in, then the one that
    this frame waits for, and so on; the last is the cause. A path has at most `depth` stages.
    """
    reach: dict[str, dict[Path, Busy]] = {}
    found: dict[str, list[Blocked]] = {}
    for station in reversed(places.stations):
        mine, own = visits[station], busy_of(visits[station])
        functions: dict[Path, Busy] = {(stage,): busy for stage, busy in own.items()}
        found[station] = []
        mine_at = places.of(station)
        later = places.next_station(mine_at[-1])
        there = None if later is None else places.blocks[later]
        if (
            there is not None
            and len(mine_at) == 1
            and there.station in reach
            and len(places.of(there.station)) == 1
            and mine.servers == visits[there.station].servers == 1
        ):
            last = places.blocks[mine_at[0]].stages[-1].name
            slack = max(delays[there.station].limit_ns, delays[station].limit_ns)
            for blocked in (
                _inside(mine, visits[there.station], last, slack),
                _behind(mine, visits[there.station], delays[station], there.handoff, slack),
            ):
                if blocked is None:
                    continue
                found[station].append(blocked)
                # of visits that overlap with earlier ones the rest (see `busy_of`)
                whole = own[last]
                assert isinstance(whole, Timeline)  # of one server
                floor = whole.entries
                low, high = np.maximum(blocked.low, floor), np.maximum(blocked.high, floor)
                if blocked.stage == last:
                    functions[last,] = Timeline(floor, whole.low, np.maximum(low, whole.low))
                for path, inner in reach[there.station].items():
                    chain = (blocked.stage, *path)[:depth]
                    held = Timeline(floor, low, high, inner)
                    known = functions.get(chain)
                    functions[chain] = held if known is None else Sum(known, held)
        reach[station] = functions
    return reach, found


def _inside(mine: Visits, there: Visits, stage: str, slack: int) -> Blocked | None:
    """Return what the stage's own write waited."""
    low, high = mine.stages[stage]
    lengths = high - low
    if not len(lengths) or not len(there):
        return None
    at_departure = _at_departure(there, high, slack)
    free = lengths[~at_departure & (lengths > 0)]
    usual = int(np.median(free)) if len(free) else int(lengths.min())
    excess = np.maximum(lengths - usual, 0)
    candidates = excess > slack
    if np.count_nonzero(candidates & at_departure) < _FEW:
        return None
    candidates &= _busy_throughout(there, high - excess, high, candidates)
    return _if_mostly(candidates, at_departure, high - excess, high, stage, there.station, usual)


def _behind(
    mine: Visits, there: Visits, delays: Delays, handoff: str | None, slack: int
) -> Blocked | None:
    """Return how long the server idled after a visit, though the next frame was there."""
    if handoff is None or len(mine) < 2 or not len(there):
        return None
    high = np.append(np.maximum(mine.begin[1:], mine.end[:-1]), mine.end[-1])
    # from when the next frame was there
    low = np.minimum(np.maximum(mine.end, np.append(delays.arrive[1:], mine.end[-1])), high)
    waiting = np.append(delays.arrive[1:] < high[:-1], False)
    # the frame itself is still in the hand-off: not in the next station before the gap is over
    entered = np.full(int(max(mine.frame.max(), there.frame.max())) + 1, np.iinfo(np.int64).max)
    entered[there.frame] = there.begin
    waiting &= entered[mine.frame] >= high - slack
    candidates = waiting & (high - low > slack)
    if np.count_nonzero(candidates) < _FEW:
        return None
    at_departure = _at_departure(there, high, slack)
    candidates &= _busy_throughout(there, low, high, candidates)
    return _if_mostly(candidates, at_departure, low, high, handoff, there.station, 0)


def _at_departure(there: Visits, times: Ints, slack: int) -> Mask:
    ends = in_order(there.end)
    last = np.searchsorted(ends, times + slack, side="right") - 1
    return (last >= 0) & (times - ends[np.maximum(last, 0)] <= slack)


def _busy_throughout(there: Visits, low: Ints, high: Ints, asked: Mask) -> Mask:
    """Return in which of the intervals `asked` for a station was busy."""
    low, high = low[asked], high[asked]
    busy = Timeline(there.begin, there.begin, there.end)
    result = np.zeros(len(asked), bool)
    result[asked] = busy.upto(high) - busy.upto(low) >= _BUSY * (high - low)
    return result


def _if_mostly(
    candidates: Mask,
    at_departure: Mask,
    low: Ints,
    high: Ints,
    stage: str,
    by: str,
    usual: int,
) -> Blocked | None:
    blocked = candidates & at_departure
    lengths = high - low
    found, all_of_it = int(lengths[blocked].sum()), int(lengths[candidates].sum())
    if np.count_nonzero(blocked) < _FEW or found < _MOSTLY * all_of_it:
        return None
    return Blocked(stage, by, np.where(blocked, low, high), high, usual)
