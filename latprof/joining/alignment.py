"""Stamps of several recordings on one clock.

Recordings of one boot share the monotonic clock: their stamps are compared as they are, to the
nanosecond. Others are on clocks of their own, and are put on the first one's by what passed
between them: see `latprof.joining.clocks`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from latprof.arrays import Ints
from latprof.frames import MISSING
from latprof.joining.clocks import Bounds, Clock, one_way, two_ways
from latprof.joining.recordings import Part
from latprof.pipeline import Pipeline

__all__ = ["FEWEST_ONE_WAY", "OneClock", "impossible", "put_on_one_clock"]

FEWEST_ONE_WAY = 16
"""Frames in one direction that an envelope is made of; fewer leave the wall clocks as they are."""

AS_GIVEN, SAME_BOOT, TWO_WAYS = "as given", "same boot", "two ways"
ONE_WAY, WALL = "one way, a bound", "wall clock"


@dataclass(frozen=True, slots=True)
class OneClock:
    """How stamps were put on one clock: what holds for all, and what was done to whom."""

    clock: str
    clocks: list[dict[str, Any]]


def put_on_one_clock(parts: Sequence[Part], pipeline: Pipeline, frames: int) -> OneClock:
    """Put the stamps of all parts on the clock of the first one.

    Parameters
    ----------
    parts
        Along the pipeline, `rows` aligned; their columns and segments are replaced.
    frames
        How many of the rows are frames.
    """
    boots = [part.meta.get("boot_id") for part in parts]
    offsets = [part.meta.get("clock_offset_ns") for part in parts]
    if all(boot is None for boot in boots) and all(offset is None for offset in offsets):
        return OneClock(AS_GIVEN, [])
    # stamps are monotonic + own offset; the offset was read at another moment in each process,
    # and the wall clock may have been adjusted in between
    clocks: dict[Any, list[Part]] = {}
    for part, boot in zip(parts, boots, strict=True):
        clocks.setdefault(id(part) if boot is None else boot, []).append(part)
    known = True
    for same in clocks.values():
        theirs = [o for part in same if (o := part.meta.get("clock_offset_ns")) is not None]
        if len(theirs) < len(same):
            known = False
            continue
        for part, offset in zip(same, theirs, strict=True):
            _correct(part, Clock(0, offset - theirs[0], 0.0, None, None, None))
    if len(clocks) == 1:
        return OneClock(SAME_BOOT if known else WALL, [])
    return _hosts(list(clocks.values()), pipeline, frames)


def _hosts(hosts: list[list[Part]], pipeline: Pipeline, frames: int) -> OneClock:
    """Put one host after the other on the first one's clock, the best known first."""
    done, waiting = list(hosts[0]), hosts[1:]
    methods, told, uncertain = set(), [], 0
    while waiting:
        bounds = [_between(done, host, pipeline, frames) for host in waiting]
        # both directions before one, and many frames before few
        best = max(
            range(len(waiting)),
            key=lambda i: (min(map(len, bounds[i])) > 0, len(bounds[i][0]) + len(bounds[i][1])),
        )
        host, (above, below) = waiting.pop(best), bounds[best]
        clock: Clock | None = None
        method = WALL
        if len(above) and len(below):
            clock, method = two_ways(above, below), TWO_WAYS
        elif len(above) + len(below) >= FEWEST_ONE_WAY:
            clock, method = one_way(above if len(above) else below, above=bool(len(above))), ONE_WAY
        methods.add(method)
        entry: dict[str, Any] = {"parts": [part.name for part in host], "method": method}
        entry["frames"] = [len(above), len(below)]
        if clock is not None:
            for part in host:
                _correct(part, clock)
            entry |= _described(clock, uncertain)
            uncertain = max(uncertain, entry["bound_ns"] or 0)
        told.append(entry)
        done += host
    worst = next(method for method in (WALL, ONE_WAY, TWO_WAYS) if method in methods)
    return OneClock(worst, told)


def _described(clock: Clock, uncertain: int) -> dict[str, Any]:
    """Return a clock as values that JSON has; `uncertain`: the bound of those it is measured by."""
    low = None if clock.low is None else clock.low - uncertain
    high = None if clock.high is None else clock.high + uncertain
    return {
        "offset_ns": clock.offset,
        "at_ns": clock.at,
        "drift_ppb": round(clock.drift * 1e9),
        "bound_ns": None if clock.bound is None else clock.bound + uncertain,
        "low_ns": low,
        "high_ns": high,
        "contradiction_ns": clock.contradiction,
    }


def _correct(part: Part, clock: Clock) -> None:
    """Take out of a part's stamps what its clock is ahead."""
    if not clock.offset and not clock.drift:
        return
    marks = {
        mark: np.where(ns == MISSING, MISSING, ns - clock.ahead(ns))
        for mark, ns in part.columns.marks.items()
        if mark in part.owns
    }
    part.columns = part.columns.take(slice(None))  # a view that may be changed
    part.columns.marks |= marks
    segments = part.meta.get("segments")
    if segments:
        corrected = np.array(segments, np.int64)
        corrected -= clock.ahead(corrected)
        part.meta = part.meta | {"segments": corrected.tolist()}


# -- what passes from one recording to another ----------------------------------------------------


def _between(
    done: list[Part], host: list[Part], pipeline: Pipeline, frames: int
) -> tuple[Bounds, Bounds]:
    """Return what a host's clock is not ahead by more than, and not by less than."""
    groups = [*((part, 0) for part in done), *((part, 1) for part in host)]
    above, below = [], []
    for _, group, stamps, before_group, before in _crossings(groups, pipeline, frames):
        came = before_group == 0
        if group == 1:
            above.append((stamps[came], stamps[came] - before[came]))
        else:
            back = before_group == 1
            below.append((before[back], before[back] - stamps[back]))
    return _bounds(above), _bounds(below)


def _bounds(points: list[tuple[Ints, Ints]]) -> Bounds:
    if not points:
        return Bounds(np.empty(0, np.int64), np.empty(0, np.int64))
    times, values = zip(*points, strict=True)
    return Bounds(np.concatenate(times), np.concatenate(values))


def impossible(parts: Sequence[Part], pipeline: Pipeline, frames: int) -> dict[str, Any]:
    """Return how many frames came to one recording before they left another.

    Order that cannot be is an error of the clocks. ``frames`` are counted, by ``between`` which
    marks; ``worst_ns`` is the most that one of them is early.
    """
    wrong = np.zeros(frames, bool)
    worst, between = 0, {}
    groups = [(part, number) for number, part in enumerate(parts)]
    for mark, group, stamps, before_group, before in _crossings(groups, pipeline, frames):
        # rows that have no stamp, or none before it, are told by their group
        early = (before_group >= 0) & (before_group != group) & (stamps < before)
        count = int(np.count_nonzero(early))
        if count:
            wrong |= early
            worst = max(worst, int((before - stamps)[early].max()))
            between[mark] = count
    return {"frames": int(np.count_nonzero(wrong)), "worst_ns": worst, "between": between}


def _crossings(
    groups: Sequence[tuple[Part, int]], pipeline: Pipeline, frames: int
) -> Iterator[tuple[str, int, Ints, Ints, Ints]]:
    """Yield mark by mark: its group, its stamps, and the group and stamp of the mark before.

    All arrays are (frames,); where the frame lacks the mark, or has none before it, the group
    before is -1.
    """
    before = np.full(frames, MISSING)
    before_group = np.full(frames, -1)
    for mark in pipeline.marks:
        owner = next(((part, group) for part, group in groups if mark in part.owns), None)
        if owner is None:
            continue
        part, group = owner
        rows = part.rows[:frames]
        stamps = np.full(frames, MISSING)
        stamps[rows >= 0] = part.columns.marks[mark][rows[rows >= 0]]
        there = stamps != MISSING
        yield mark, group, stamps, np.where(there, before_group, -1), before.copy()
        before[there] = stamps[there]
        before_group[there] = group
