"""Stamps of several recordings on one clock, from the times of frames that travel between them.

Recordings of one boot share the monotonic clock: their stamps are compared as they are, to the
nanosecond. Other recordings have clocks of their own, which are put on the clock of the first
recording.

A frame that left at p by the first clock and arrived at q by the second took ``q - theta(q) - p``,
where theta is how far the second clock is ahead. No frame travels in less than no time, so
``theta(q) <= q - p``. Frames that travel back bound theta from below in the same way. The clocks
are assumed to drift at a constant rate of at most `FASTEST_DRIFT`: theta is a line below all upper
bounds and above all lower bounds, and the set of all such lines shows how well theta is known. Only
the points of two convex hulls matter (Zhang, Liu, Xia, "Clock synchronization algorithms for
network measurements", INFOCOM 2002). Frames in one direction alone bound theta on one side only.
Then theta is taken for one edge of the lower envelope of the delays: the edge at the mean of their
times (Moon, Skelly, Towsley, "Estimation and removal of clock skew from network delay
measurements", INFOCOM 1999).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from latprof.arrays import Floats, Ints
from latprof.frames import MISSING
from latprof.hosts import AS_GIVEN, METHODS, ONE_WAY, SAME_BOOT, TWO_WAYS, WALL
from latprof.joining.matching import Process
from latprof.pipeline import Pipeline

__all__ = [
    "FASTEST_DRIFT",
    "FASTEST_ENVELOPE",
    "FEWEST_ONE_WAY",
    "Alignment",
    "Clock",
    "Points",
    "align_clocks",
    "clock_errors",
    "one_way",
    "two_ways",
]

FASTEST_DRIFT = 1e-3
"""The most that one clock may gain on another: crystals are good to 1e-4, NTP slews by 5e-4."""

FASTEST_ENVELOPE = 5e-4
"""The largest drift inferred from one direction; delays that grow faster are a queue."""

FEWEST_FOR_DRIFT = 16
"""Frames needed in each direction to infer a drift; with fewer, the drift is taken for 0."""

STRETCHES = 8
"""Equal stretches of time, all of which must show a drift that is inferred from one direction."""

BINS = 1_024
"""Time bins of a hull, which is made of the tightest bound in each of them."""


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """Bounds of how far a clock is ahead: `values` (n,) at `times` (n,) of that clock, in ns."""

    times: Ints
    values: Ints

    def __len__(self) -> int:
        return len(self.times)

    @classmethod
    def concat(cls, parts: Sequence[Self]) -> Self:
        """Return the points of all parts."""
        times, values = zip(*((part.times, part.values) for part in parts), strict=True)
        return cls(np.concatenate(times), np.concatenate(values))


@dataclass(frozen=True, slots=True)
class Clock:
    """How far a clock is ahead of the reference: ``offset + drift * (t - at)`` at its own time t.

    Parameters
    ----------
    at
        The time of this clock for which `offset`, `low` and `high` are given, ns.
    offset
        How far the clock is ahead at that time, ns.
    drift
        ns per ns; 0 unless the points rule out a drift of 0.
    low, high
        Limits of the true offset at that time, ns; None if that side has no limit.
    bound
        How far the line may be from the truth between the first and the last point, ns; None if
        frames travel in one direction only.
    slowest, fastest
        Limits of the true drift, ns per ns; None if they are unknown.
    contradiction
        How far the points are from allowing any line, ns: the clocks do not drift at a constant
        rate, or stamps are wrong. The bound allows for it.
    """

    at: int
    offset: int
    drift: float = 0.0
    low: int | None = None
    high: int | None = None
    bound: int | None = None
    slowest: float | None = None
    fastest: float | None = None
    contradiction: int = 0

    def ahead(self, times: Ints) -> Ints:
        """Return how far the clock is ahead at (n,) times of its own."""
        gained: Ints = np.rint(self.drift * (times - self.at)).astype(np.int64)
        return gained + self.offset


def two_ways(upper: Points, lower: Points) -> Clock:
    """Return the middle of all lines below the upper bounds and above the lower bounds.

    Examples
    --------
    >>> times = np.arange(0, 10**9, 10**7)
    >>> ahead = 7_000 + times // 10_000                   # 100 parts per million
    >>> clock = two_ways(Points(times, ahead + 400), Points(times, ahead - 600))
    >>> clock.offset, round(clock.drift * 1e6, 1), clock.bound   # the true offset there: 56,500
    (56400, 100.0, 502)
    """
    first = int(min(upper.times.min(), lower.times.min()))
    last = int(max(upper.times.max(), lower.times.max()))
    at, base = first + (last - first) // 2, int(upper.values.min())
    half = max(1.0, (last - first) / 2)
    roof = _hull((upper.times - at) / half, (upper.values - base).astype(float))
    floor = _hull((lower.times - at) / half, -(lower.values - base).astype(float))
    floor = (floor[0], -floor[1])
    slopes, slack = _slopes(roof, floor, FASTEST_DRIFT * half)
    # the highest and the lowest value of any line at the ends and in the middle
    ends = np.array([-1.0, 0.0, 1.0])
    highest = (_ceiling(roof, slopes)[:, None] + slopes[:, None] * ends).max(axis=0) + slack
    lowest = (_floor(floor, slopes)[:, None] + slopes[:, None] * ends).min(axis=0) - slack
    middle = (highest + lowest) / 2
    offset, drift = (middle[2] + middle[0]) / 2, (middle[2] - middle[0]) / 2
    few = min(len(upper), len(lower)) < FEWEST_FOR_DRIFT
    if few or slopes[0] <= 0 <= slopes[-1]:
        none = np.zeros(1)
        offset, drift = (_ceiling(roof, none)[0] + _floor(floor, none)[0]) / 2, 0.0
        # a drift of 0 may be impossible, but few points do not show it
        offset = float(np.clip(offset, lowest[1], highest[1]))
    line = offset + drift * ends
    bound = max((highest - line).max(), (line - lowest).max()) + slack
    return Clock(
        at=at,
        offset=base + round(offset),
        drift=float(drift / half),
        low=base + int(np.floor(lowest[1] - slack)) - 1,
        high=base + int(np.ceil(highest[1] + slack)) + 1,
        bound=int(np.ceil(bound)) + 2,
        slowest=float(slopes[0] / half),
        fastest=float(slopes[-1] / half),
        contradiction=int(np.ceil(2 * slack)),
    )


def one_way(points: Points, *, above: bool) -> Clock:
    """Return the clock from upper bounds of how far it is ahead, or lower ones if not `above`.

    The fastest frames are assumed to have taken no time, so that the offset is a bound. A drift
    cannot be distinguished from a queue that grows slowly. It is taken for a drift only if the
    fastest frames of every stretch of time show it.
    """
    sign = 1 if above else -1
    values = sign * points.values
    first, base = int(points.times.min()), int(values.min())
    span = max(1.0, float(points.times.max() - first))
    x, y = _hull((points.times - first) / span, (values - base).astype(float))
    mean = float(np.mean((points.times - first) / span))
    edge = int(np.clip(np.searchsorted(x, mean), 1, max(1, len(x) - 1)))
    drift, at, offset = 0.0, float(x[np.argmin(y)]), float(y.min())
    if len(x) > 1 and _always_changes(points, sign):
        slope = float((y[edge] - y[edge - 1]) / (x[edge] - x[edge - 1]))
        if abs(slope) <= FASTEST_ENVELOPE * span:
            drift, at = slope / span, mean
            offset = float(y[edge - 1] + slope * (mean - x[edge - 1]))
    limit = sign * (base + int(np.ceil(offset)) + 1)
    clock = Clock(
        at=first + round(at * span),
        offset=sign * (base + int(np.floor(offset)) - 1),
        drift=sign * drift,
        low=None if above else limit,
        high=limit if above else None,
    )
    # the hull was made of some points only; the line must not be above any of the others either
    over = int((sign * (clock.ahead(points.times) - points.values)).max())
    return clock if over <= 0 else replace(clock, offset=clock.offset - sign * over)


def _always_changes(points: Points, sign: int) -> bool:
    """Return whether the tightest bound rises from each stretch of time to the next, or falls."""
    first, last = int(points.times.min()), int(points.times.max())
    if last == first or len(points) < FEWEST_FOR_DRIFT:
        return False
    stretch = ((points.times - first) * (STRETCHES / (last - first))).astype(np.int64)
    least = np.full(STRETCHES, np.iinfo(np.int64).max)
    np.minimum.at(least, np.minimum(stretch, STRETCHES - 1), sign * points.values)
    least = least[least != np.iinfo(np.int64).max]
    rises = np.diff(least) > 0
    return len(least) > STRETCHES // 2 and bool(rises.all() or (np.diff(least) < 0).all())


# -- lines and hulls ------------------------------------------------------------------------------


def _hull(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Return x and y of the lower convex hull of the lowest point of every time bin."""
    low, width = float(x.min()), float(np.ptp(x)) or 1.0
    stretch = np.minimum(((x - low) * (BINS / width)).astype(np.int64), BINS - 1)
    order = np.lexsort((y, stretch))
    order = order[np.diff(stretch[order], prepend=-1) > 0]
    kept: list[tuple[float, float]] = []
    for px, py in zip(x[order].tolist(), y[order].tolist(), strict=True):
        while len(kept) > 1 and _turns_down(kept[-2], kept[-1], (px, py)):
            kept.pop()
        kept.append((px, py))
    hull = np.array(kept)
    return hull[:, 0], hull[:, 1]


def _turns_down(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    return (b[0] - a[0]) * (c[1] - a[1]) <= (b[1] - a[1]) * (c[0] - a[0])


def _ceiling(upper: tuple[Floats, Floats], slopes: Floats) -> Floats:
    """Return, for each slope, the highest value at x = 0 of a line below all points."""
    return np.asarray((upper[1] - slopes[:, None] * upper[0]).min(axis=1))


def _floor(lower: tuple[Floats, Floats], slopes: Floats) -> Floats:
    """Return, for each slope, the lowest value at x = 0 of a line above all points."""
    return np.asarray((lower[1] - slopes[:, None] * lower[0]).max(axis=1))


def _slopes(
    upper: tuple[Floats, Floats], lower: tuple[Floats, Floats], steepest: float
) -> tuple[Floats, float]:
    """Return the slopes of all extreme lines, and how far points must be moved to allow a line.

    Between the slopes of two edges, ceiling and floor are linear in the slope: extremes are at
    slopes of edges, at the steepest slopes, and where ceiling and floor meet.
    """
    edges: list[Any] = [np.array([-steepest, steepest])]
    for x, y in (upper, lower):
        edges.append(np.diff(y) / np.diff(x))
    slopes = np.unique(np.clip(np.concatenate(edges), -steepest, steepest))
    height = _ceiling(upper, slopes) - _floor(lower, slopes)
    slack = max(0.0, -float(height.max()) / 2)
    height = height + 2 * slack
    meets = np.flatnonzero((height[1:] > 0) != (height[:-1] > 0))
    share = height[meets] / (height[meets] - height[meets + 1])
    crossings = slopes[meets] + share * (slopes[meets + 1] - slopes[meets])
    best = slopes[[int(np.argmax(height))]]
    return np.unique(np.concatenate([slopes[height >= 0], crossings, best])), slack


FEWEST_ONE_WAY = 16
"""Frames needed to correct a clock from one direction; with fewer, wall clocks stay as they are."""


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
        In the order of their first marks, with `rows`; their columns and segments are replaced.
    frames
        How many different frames there are: the first rows of `rows`; repeated ones follow.
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
    """Put one host after the other on the first one's clock, the one with the most frames next."""
    done, waiting = list(hosts[0]), hosts[1:]
    entries: list[dict[str, Any]] = []
    uncertain = 0  # the largest bound of the clocks that others are measured by
    while waiting:
        bounds = [_bounds_between(done, host, pipeline, frames) for host in waiting]
        # a host with frames in both directions comes first, then the one with more frames
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
        entry: dict[str, Any] = {
            "parts": [process.name for process in host],
            "method": method,
            "frames": [len(above), len(below)],
            "spans": _spans_of(host, pipeline),
        }
        if host[0].meta.get("host"):
            entry["host"] = host[0].meta["host"]
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
                "drift_low_ppb": _ppb(clock.slowest, np.floor),
                "drift_high_ppb": _ppb(clock.fastest, np.ceil),
                "contradiction_ns": clock.contradiction,
            }
            uncertain = max(uncertain, entry["bound_ns"] or 0)
        entries.append(entry)
        done += host
    worst = min((entry["method"] for entry in entries), key=METHODS.index)
    return Alignment(worst, entries)


def _ppb(rate: float | None, rounded: Callable[[float], float]) -> int | None:
    return None if rate is None else int(rounded(rate * 1e9))


def _spans_of(host: list[Process], pipeline: Pipeline) -> list[str]:
    """Return the spans that an error of the host's clock makes longer or shorter."""
    own = {mark for process in host for mark in process.owns}
    longer = {
        span.name: (span.end in own) - (span.begin in own)
        for span in (*pipeline.spans, *pipeline.totals)
    }
    longer["other"] = longer["end_to_end"] - sum(longer[span.name] for span in pipeline.stages)
    return [name for name, count in longer.items() if count]


def _correct(process: Process, clock: Clock) -> None:
    """Subtract from the stamps of a recording how far its clock is ahead."""
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
    and in ``between`` by the mark at which they arrive; ``worst_ns`` is the largest time by which
    one of them is early, 0 if there are none.
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

    Each item is the mark at which they arrive, the group that owns it, and of the n frames: rows,
    stamps of the last mark before, and stamps of the mark, (n,) each.
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
