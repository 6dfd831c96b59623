"""Stamps of several recordings on one clock.

Recordings of one boot share the monotonic clock: their stamps are compared as they are, to the
nanosecond. Other recordings have clocks of their own, which are put on the clock of the first
recording by what passed between them: see `latprof.joining.clocks`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from latprof.arrays import Ints
from latprof.frames import MISSING
from latprof.joining.clocks import Clock, Points, one_way, two_ways
from latprof.joining.recordings import Process
from latprof.pipeline import Pipeline

__all__ = ["FEWEST_ONE_WAY", "Alignment", "align_clocks", "clock_errors"]

FEWEST_ONE_WAY = 16
"""Fewer frames in one direction alone leave the wall clocks as they are."""

AS_GIVEN, SAME_BOOT, TWO_WAYS = "as given", "same boot", "two ways"
ONE_WAY, WALL = "one way, a bound", "wall clock"


@dataclass(frozen=True, slots=True)
class Alignment:
    """How stamps were put on one clock: the method that holds for all, and each host's clock."""

    clock: str
    clocks: list[dict[str, Any]]


def align_clocks(processes: Sequence[Process], pipeline: Pipeline, frames: int) -> Alignment:
    """Put the stamps of all recordings on the clock of the first one, in place.

    Parameters
    ----------
    processes
        Along the pipeline, with `rows`; their columns and segments are replaced.
    frames
        How many of the rows are frames.
    """
    boots = [process.meta.get("boot_id") for process in processes]
    offsets = [process.meta.get("clock_offset_ns") for process in processes]
    if all(boot is None for boot in boots) and all(offset is None for offset in offsets):
        return Alignment(AS_GIVEN, [])
    # stamps are monotonic + own offset; the offset was read at another moment in each process,
    # and the wall clock may have been adjusted in between
    hosts: dict[Any, list[Process]] = {}
    for process, boot in zip(processes, boots, strict=True):
        hosts.setdefault(id(process) if boot is None else boot, []).append(process)
    known = True
    for host in hosts.values():
        if any(process.meta.get("clock_offset_ns") is None for process in host):
            known = False
            continue
        first = host[0].meta["clock_offset_ns"]
        for process in host:
            _correct(process, Clock(at=0, offset=process.meta["clock_offset_ns"] - first))
    if len(hosts) == 1:
        return Alignment(SAME_BOOT if known else WALL, [])
    return _align_hosts(list(hosts.values()), pipeline, frames)


def _align_hosts(hosts: list[list[Process]], pipeline: Pipeline, frames: int) -> Alignment:
    """Put one host after the other on the first one's clock, the best known first."""
    done, waiting = list(hosts[0]), hosts[1:]
    entries: list[dict[str, Any]] = []
    uncertain = 0  # the largest bound of the clocks that others are measured by
    while waiting:
        bounds = [_bounds_between(done, host, pipeline, frames) for host in waiting]
        # both directions before one, and many frames before few
        best = max(
            range(len(waiting)),
            key=lambda i: (min(map(len, bounds[i])) > 0, len(bounds[i][0]) + len(bounds[i][1])),
        )
        host, (above, below) = waiting.pop(best), bounds[best]
        clock, method = None, WALL
        if len(above) and len(below):
            clock, method = two_ways(above, below), TWO_WAYS
        elif len(above) + len(below) >= FEWEST_ONE_WAY:
            clock, method = one_way(above if len(above) else below, above=bool(len(above))), ONE_WAY
        entry: dict[str, Any] = {"parts": [process.name for process in host], "method": method}
        entry["frames"] = [len(above), len(below)]
        if clock is not None:
            for process in host:
                _correct(process, clock)
            entry |= {
                "offset_ns": clock.offset,
                "at_ns": clock.at,
                "drift_ppb": round(clock.drift * 1e9),
                "bound_ns": None if clock.bound is None else clock.bound + uncertain,
                "low_ns": None if clock.low is None else clock.low - uncertain,
                "high_ns": None if clock.high is None else clock.high + uncertain,
                "contradiction_ns": clock.contradiction,
            }
            uncertain = max(uncertain, entry["bound_ns"] or 0)
        entries.append(entry)
        done += host
    worst = min((entry["method"] for entry in entries), key=(WALL, ONE_WAY, TWO_WAYS).index)
    return Alignment(worst, entries)


def _correct(process: Process, clock: Clock) -> None:
    """Subtract from the stamps of a recording what its clock is ahead."""
    if not clock.offset and not clock.drift:
        return
    marks = {
        mark: np.where(ns == MISSING, MISSING, ns - clock.ahead(ns))
        for mark, ns in process.columns.marks.items()
        if mark in process.owns
    }
    process.columns = process.columns.take(slice(None))  # a view that may be changed
    process.columns.marks |= marks
    segments = process.meta.get("segments")
    if segments:
        corrected = np.array(segments, np.int64)
        corrected -= clock.ahead(corrected)
        process.meta = process.meta | {"segments": corrected.tolist()}


# -- frames that pass from one recording to another -----------------------------------------------


def _bounds_between(
    done: list[Process], host: list[Process], pipeline: Pipeline, frames: int
) -> tuple[Points, Points]:
    """Return upper and lower bounds of how far a host's clock is ahead."""
    groups = [*((process, 0) for process in done), *((process, 1) for process in host)]
    empty = Points(np.empty(0, np.int64), np.empty(0, np.int64))
    above, below = [empty], [empty]
    for _, group, _, left, came in _crossings(groups, pipeline, frames):
        if group == 1:
            above.append(Points(came, came - left))
        else:
            below.append(Points(left, left - came))
    return Points.concat(above), Points.concat(below)


def clock_errors(processes: Sequence[Process], pipeline: Pipeline, frames: int) -> dict[str, Any]:
    """Return how many frames arrived in one recording before they left another.

    Such an order is impossible and shows an error of the clocks. ``frames`` are counted, in total
    and in ``between`` by the mark at which they arrive; ``worst_ns`` is the most that one of them
    is early.
    """
    wrong = np.zeros(frames, bool)
    worst, between = 0, {}
    groups = [(process, number) for number, process in enumerate(processes)]
    for mark, _, rows, left, came in _crossings(groups, pipeline, frames):
        early = came < left
        if early.any():
            wrong[rows[early]] = True
            worst = max(worst, int((left - came).max()))
            between[mark] = int(np.count_nonzero(early))
    return {"frames": int(np.count_nonzero(wrong)), "worst_ns": worst, "between": between}


def _crossings(
    groups: Sequence[tuple[Process, int]], pipeline: Pipeline, frames: int
) -> Iterator[tuple[str, int, Ints, Ints, Ints]]:
    """Yield the frames that arrive in a group of processes from another one, mark by mark.

    These are the mark at which they arrive, its group, and (n,) rows, stamps of the last mark
    before, and stamps of the mark.
    """
    before = np.full(frames, MISSING)
    before_group = np.full(frames, -1)
    for mark in pipeline.marks:
        for process, group in groups:
            if mark in process.owns:
                rows = np.flatnonzero(process.rows[:frames] >= 0)
                stamps = process.columns.marks[mark][process.rows[rows]]
                if (stamps == MISSING).any():
                    rows, stamps = rows[stamps != MISSING], stamps[stamps != MISSING]
                crosses = (before_group[rows] >= 0) & (before_group[rows] != group)
                yield mark, group, rows[crosses], before[rows[crosses]], stamps[crosses]
                before[rows], before_group[rows] = stamps, group
