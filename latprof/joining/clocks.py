"""How far a clock is ahead of another, from the times of frames that travel between them.

A frame that left at p by the first clock and arrived at q by the second took ``q - theta(q) - p``,
where theta is how far the second clock is ahead. It took no less than nothing, so that
``theta(q) <= q - p``. Frames that travel back bound theta from below in the same way. The clocks
are assumed to drift at a constant rate of at most `FASTEST_DRIFT`: theta is a line below all points
of the first kind and above all of the second, and the set of all such lines shows how well it is
known. Only the points of two convex hulls matter (Zhang, Liu, Xia, "Clock synchronization
algorithms for network measurements", INFOCOM 2002). With one direction alone only one side is
bounded: the line is the edge of the lower envelope of delays below their mean time (Moon, Skelly,
Towsley, "Estimation and removal of clock skew from network delay measurements", INFOCOM 1999).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from latprof.arrays import Floats, Ints

__all__ = ["FASTEST_DRIFT", "FASTEST_ENVELOPE", "Clock", "Points", "one_way", "two_ways"]

FASTEST_DRIFT = 1e-3
"""The most that one clock may gain on another: crystals are good to 1e-4, NTP slews by 5e-4."""

FASTEST_ENVELOPE = 5e-4
"""The largest drift inferred from one direction; delays that grow faster are a queue."""

BINS = 1_024
"""Time bins of which only the tightest bound is kept, which still bounds the line."""


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """Points that theta is not above (or not below): `values` at `times` of its own clock, ns."""

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
        The time for which `offset` and its limits are given.
    offset
        ns.
    drift
        ns per ns.
    low, high
        Limits of the true offset at that time, None if that side is unknown.
    bound
        How far the line may be from the truth between the first and the last point, ns; None if
        frames travel in one direction only.
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
    contradiction: int = 0

    def ahead(self, times: Ints) -> Ints:
        """Return how far the clock is ahead at (n,) times of its own."""
        gained: Ints = np.rint(self.drift * (times - self.at)).astype(np.int64)
        return gained + self.offset


def two_ways(above: Points, below: Points) -> Clock:
    """Return the clock from points that it is not above, and points that it is not below.

    Examples
    --------
    >>> times = np.arange(0, 10**9, 10**7)
    >>> ahead = 7_000 + times // 10_000                   # 100 parts per million
    >>> clock = two_ways(Points(times, ahead + 400), Points(times, ahead - 600))
    >>> clock.offset, round(clock.drift * 1e6, 1), clock.bound   # the true offset there: 56,500
    (56400, 100.0, 502)
    """
    first = int(min(above.times.min(), below.times.min()))
    last = int(max(above.times.max(), below.times.max()))
    at, base = first + (last - first) // 2, int(above.values.min())
    half = max(1.0, (last - first) / 2)
    upper = _hull((above.times - at) / half, (above.values - base).astype(float))
    lower = _hull((below.times - at) / half, -(below.values - base).astype(float))
    lower = (lower[0], -lower[1])
    slopes, slack = _slopes(upper, lower, FASTEST_DRIFT * half)
    # the highest and the lowest that any line is at the ends and in the middle
    ends = np.array([-1.0, 0.0, 1.0])
    highest = (_ceiling(upper, slopes)[:, None] + slopes[:, None] * ends).max(axis=0) + slack
    lowest = (_floor(lower, slopes)[:, None] + slopes[:, None] * ends).min(axis=0) - slack
    middle = (highest + lowest) / 2
    drift = (middle[2] - middle[0]) / 2
    # a line between the middles of the ends: it is off the most at one of them
    bound = max((highest - lowest)[[0, 2]]) / 2 + slack
    offset = (middle[2] + middle[0]) / 2
    return Clock(
        at=at,
        offset=base + round(offset),
        drift=float(drift / half),
        low=base + int(np.floor(lowest[1] - slack)) - 1,
        high=base + int(np.ceil(highest[1] + slack)) + 1,
        bound=int(np.ceil(bound)) + 2,
        contradiction=int(np.ceil(2 * slack)),
    )


def one_way(points: Points, *, above: bool) -> Clock:
    """Return the clock from points that it is not above (or, `above` False, not below).

    The fastest frames are assumed to have taken no time, so that the offset is a bound. A drift
    cannot be distinguished from a queue that grows slowly.
    """
    sign = 1 if above else -1
    values = sign * points.values
    first, base = int(points.times.min()), int(values.min())
    span = max(1.0, float(points.times.max() - first))
    x, y = _hull((points.times - first) / span, (values - base).astype(float))
    mean = float(np.mean((points.times - first) / span))
    edge = int(np.clip(np.searchsorted(x, mean), 1, max(1, len(x) - 1)))
    drift, at, offset = 0.0, float(x[np.argmin(y)]), float(y.min())
    if len(x) > 1:
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


# -- lines and hulls ------------------------------------------------------------------------------


def _hull(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Return the lower convex hull of the lowest point of every time bin."""
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
    """Return, for each slope, the most that a line below all points may be at 0."""
    return np.asarray((upper[1] - slopes[:, None] * upper[0]).min(axis=1))


def _floor(lower: tuple[Floats, Floats], slopes: Floats) -> Floats:
    """Return, for each slope, the least that a line above all points may be at 0."""
    return np.asarray((lower[1] - slopes[:, None] * lower[0]).max(axis=1))


def _slopes(
    upper: tuple[Floats, Floats], lower: tuple[Floats, Floats], steepest: float
) -> tuple[Floats, float]:
    """Return the slopes among which the extreme lines are, and how far points must be moved.

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
