"""Who was in a station, and when: frames as visits in order of entry, and how many at once."""

from dataclasses import dataclass, replace

import numpy as np

from latprof.arrays import Ints, Mask
from latprof.frames import MISSING, Columns
from latprof.queueing.stations import Block, Places

__all__ = ["MOST_ODD", "Visits", "in_order", "latest_before", "visits"]

MOST_ODD = 0.01
"""Frames in a hundred that may enter a busy station before it is taken for several servers."""

_Part = tuple[Ints, int, Ints, Ints, Ints, Mask, dict[str, tuple[Ints, Ints]]]


@dataclass(frozen=True, slots=True, eq=False)
class Visits:
    """The n visits to a station in order of entry, over all sources, dropped frames included.

    Attributes
    ----------
    frame, block
        (n,) the row of the frame, and the block of the pipeline.
    arrive, begin, end
        (n,) ns: since when the frame may have waited (`MISSING` where not known), when it
        entered, when it left.
    stages
        By stage two (n,) arrays, begin and end inside of the visit; both `begin` where the visit
        has no such stage.
    servers
        How many frames the station serves at once.
    most_at_once
        How many it was seen to serve.
    overlaps
        (n,) frames that entered before all earlier ones had left.
    odd
        (n,) frames that entered while all servers were busy: they contradict the model.
    unended
        (n,) frames that left at an unknown time, a mark is missing or negative: `end` is when they
        were last seen inside.
    unknown
        (k,) rows of other frames, which entered at an unknown time.
    """

    station: str
    frame: Ints
    block: Ints
    arrive: Ints
    begin: Ints
    end: Ints
    stages: dict[str, tuple[Ints, Ints]]
    servers: int
    most_at_once: int
    overlaps: Mask
    odd: Mask
    unended: Mask
    unknown: Ints

    def __len__(self) -> int:
        return len(self.begin)

    def served_by(self, servers: int) -> "Visits":
        """Return the same visits with another number of servers."""
        if servers == self.servers:
            return self
        return replace(self, servers=servers, odd=self._odd(servers))

    def _odd(self, servers: int) -> Mask:
        if servers == 1 or not self.overlaps.any():
            return self.overlaps
        return self.overlaps & (_others(self.begin, self.end) >= servers)


def visits(places: Places, station: str, columns: Columns) -> Visits:
    """Return the visits to a station.

    A dropped frame was in the stage of its last mark until it was dropped (`end`).

    Parameters
    ----------
    places, station
        The pipeline, and one of its stations.
    columns
        Frames in any order.

    Examples
    --------
    >>> from latprof.pipeline import AUDIO
    >>> from latprof.queueing.stations import places
    >>> at = {mark: np.array([5, 0]) + i for i, mark in enumerate(AUDIO.marks)}
    >>> server = visits(places(AUDIO), "server", Columns(np.arange(2, dtype=np.uint64), at))
    >>> server.frame.tolist(), server.begin.tolist(), server.end.tolist(), server.servers
    ([1, 0], [5, 10], [7, 12], 1)
    """
    done = columns.finished()
    parts: list[_Part] = []
    unknown = []
    for i in places.of(station):
        block = places.blocks[i]
        begins, ends, stages = _stamps(places, block, columns, done)
        entered = begins != MISSING
        there = entered & (ends != MISSING) & (ends >= begins)
        came_out = ends != MISSING
        if done is not None and block.end == "end":
            came_out &= done  # a drop stamps `end` wherever it is
        unknown.append(np.flatnonzero(~entered & came_out))
        ends, stages = _until_seen(places, block, columns, begins, ends, stages, ~there)
        rows = slice(None) if entered.all() else np.flatnonzero(entered)
        numbers = np.arange(len(columns), dtype=np.int64)[rows]
        arrive = columns.marks[block.arrive][rows]
        cut = {name: (low[rows], high[rows]) for name, (low, high) in stages.items()}
        parts.append((numbers, i, arrive, begins[rows], ends[rows], ~there[rows], cut))
    frame, block_of, arrive, begin, end, unended = _together(parts)
    names = [stage.name for i in places.of(station) for stage in places.blocks[i].stages]
    inside = {name: _stage(name, parts) for name in names}
    if len(begin) > 1 and not (begin[1:] > begin[:-1]).all():
        # of two that entered at one time who left at once was first: they were not there together
        order = np.lexsort((end, arrive, end > begin, begin))
        frame, block_of, arrive = frame[order], block_of[order], arrive[order]
        begin, end, unended = begin[order], end[order], unended[order]
        inside = {name: (low[order], high[order]) for name, (low, high) in inside.items()}
    overlaps, most = _at_once(begin, end)
    times = frame, block_of, arrive, begin, end
    rows = np.concatenate(unknown)
    found = Visits(station, *times, inside, 1, most, overlaps, overlaps, unended, rows)
    alone = np.count_nonzero(overlaps) <= MOST_ODD * len(begin)
    return found if alone else found.served_by(most)


def in_order(times: Ints) -> Ints:
    """Return times (n,) sorted: most are so already."""
    return times if (times[1:] >= times[:-1]).all() else np.sort(times)


def latest_before(ends: Ints) -> Ints:
    """Return the latest departure of all earlier visits (n,); the lowest time for the first."""
    before = np.empty(len(ends), np.int64)
    before[:1] = MISSING
    np.maximum.accumulate(ends[:-1], out=before[1:])
    return before


def _stamps(
    places: Places, block: Block, columns: Columns, done: Mask | None
) -> tuple[Ints, Ints, dict[str, tuple[Ints, Ints]]]:
    """Return when each frame was in a block, and in its stages."""
    marks = columns.marks
    order = places.pipeline.marks
    begins, ends = marks[block.begin], marks[block.end]
    dropped = np.zeros(len(columns), bool)
    stages = {s.name: (marks[s.begin], marks[s.end]) for s in block.stages}
    if done is not None:
        inside = order[order.index(block.begin) : order.index(block.end)]
        after = order[order.index(block.end) : -1]
        dropped = ~done & np.any([marks[mark] != MISSING for mark in inside], axis=0)
        for mark in after:
            dropped &= marks[mark] == MISSING
        ends = np.where(dropped, marks["end"], ends)
        for stage in block.stages:
            last = dropped.copy()
            for mark in order[order.index(stage.end) : -1]:
                last &= marks[mark] == MISSING
            high = np.where(last, marks["end"], marks[stage.end])
            stages[stage.name] = (marks[stage.begin], high)
    for name, (low, high) in stages.items():
        if low is begins and high is ends:
            continue
        gone = (low == MISSING) | (high == MISSING) | (high < low)
        if gone.any():
            low, high = np.where(gone, begins, low), np.where(gone, begins, high)
        if ((low < begins) | (high > ends)).any():  # a mark in between is not in between
            low, high = np.clip(low, begins, ends), np.clip(high, begins, ends)
        stages[name] = low, high
    return begins, ends, stages


def _until_seen(
    places: Places,
    block: Block,
    columns: Columns,
    begins: Ints,
    ends: Ints,
    stages: dict[str, tuple[Ints, Ints]],
    asked: Mask,
) -> tuple[Ints, dict[str, tuple[Ints, Ints]]]:
    """Return ends and stages in which the frames `asked` for end at their last mark inside."""
    if not asked.any():
        return ends, stages
    order = places.pipeline.marks
    last = begins
    for mark in order[order.index(block.begin) + 1 : order.index(block.end)]:
        last = np.maximum(last, columns.marks[mark])
    ends = np.where(asked, last, ends)
    marks = {s.name: (columns.marks[s.begin], columns.marks[s.end]) for s in block.stages}
    cut = {}
    for name, (low, high) in stages.items():
        begin, end = marks[name]
        known = asked & (begin != MISSING) & (end != MISSING) & (begin <= end)
        low, high = np.where(known, begin, low), np.where(known, end, high)
        low, high = np.clip(low, begins, ends), np.clip(high, begins, ends)
        cut[name] = low, np.where(asked & ~known, low, high)
    return ends, cut


def _together(parts: list[_Part]) -> tuple[Ints, Ints, Ints, Ints, Ints, Mask]:
    # of one block no array is made: all of it is the same number
    blocks = [np.broadcast_to(np.int64(part[1]), len(part[0])) for part in parts]
    if len(parts) == 1:
        part = parts[0]
        return part[0], blocks[0], part[2], part[3], part[4], part[5]
    return (
        np.concatenate([part[0] for part in parts]),
        np.concatenate(blocks),
        np.concatenate([part[2] for part in parts]),
        np.concatenate([part[3] for part in parts]),
        np.concatenate([part[4] for part in parts]),
        np.concatenate([part[5] for part in parts]),
    )


def _stage(name: str, parts: list[_Part]) -> tuple[Ints, Ints]:
    found = [part[6].get(name, (part[3], part[3])) for part in parts]
    if len(found) == 1:
        return found[0]
    return np.concatenate([low for low, _ in found]), np.concatenate([high for _, high in found])


def _at_once(begin: Ints, end: Ints) -> tuple[Mask, int]:
    """Return which visits overlap with an earlier one, and how many frames there were at once."""
    overlaps = begin < latest_before(end)
    if not overlaps.any():
        return overlaps, min(len(begin), 1)
    # a visit of no length is not there
    at_once = _others(begin, end)[end > begin] + 1
    return overlaps, max(int(at_once.max(initial=1)), 1)


def _others(begin: Ints, end: Ints) -> Ints:
    """Return how many of the visits before each (n,) have not left when it begins."""
    left: Ints = np.searchsorted(in_order(end), begin, side="right")
    others = np.arange(len(begin)) - left
    at_once = end == begin
    if at_once.any():
        # counted as gone were the frame itself, and those like it that come after it
        times = begin[at_once]
        others[at_once] += np.searchsorted(times, times, side="right") - np.arange(len(times))
    return others
