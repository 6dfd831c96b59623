"""Starts of frames at another load, drawn from those of a recording so that bursts stay.

A recording is cut into blocks of equal length. A lower load leaves bursts out at random. A higher
load adds bursts of blocks nearby, moved to the time of the block: all of them for each whole
recording that is added, and a random part of them for the rest. A burst is a frame, or several
frames with gaps below a fifth of the mean gap. So frames that came together still do, and busy
stretches stay busy. A frame that is there at one load is there at every higher load.

::

    recording   |  a a  aaa |    b   bb  | c cc       |
    load 1      |  a a  aaa |    b   bb  | c cc       |
    load 0.6    |  a    aaa |        bb  | c          |
    load 1.3    |  a a Baaa |  A b   bb  | c ccB      |

Blocks are as short as they can be while the arrivals and the work in a block do not depend on the
block before. Then resampled blocks make busy stretches of all kinds, not only those that happened
to be recorded. If busy stretches come from the recorded program, blocks are long enough for them.

Periodic starts are not added to each other: their period is divided by the load. Of a long
recording some blocks are taken, at equal distances.
"""

from dataclasses import dataclass

import numpy as np

from latprof.arrays import Ints

__all__ = ["FEWEST_STARTS", "MOST_STARTS", "Arrivals", "arrivals_of"]

FEWEST_STARTS = 100
"""Frames that a recording needs to be replayed at another load."""

MOST_STARTS = 30_000
"""About how many frames are replayed at the recorded load; more would take long."""

_BLOCKS = 32  # smallest number of blocks
_MANY_BLOCKS = 128  # number of blocks that makes them short: see `Arrivals.are_short`
_LEAST_IN_BLOCK = 8  # frames, on average
_LONGER = 4  # a block that is too short is made this many times longer
_ALIKE = 0.2  # how far variances at two scales may differ, beside chance
_SEEN_WINDOWS = 16  # parts of the recording, for `Arrivals.most_seen`
_PERIODIC = 0.9  # share of the gaps that are near the median of all gaps
_NEAR = 0.25  # of the median gap
_BURST = 0.2  # of the mean gap: frames that follow each other sooner are a burst


@dataclass(frozen=True, eq=False)
class Arrivals:
    """The starts of a recording, and where its blocks begin.

    Attributes
    ----------
    starts
        (n,) ns, in order.
    period_ns
        The usual gap if starts are periodic, otherwise None.
    bounds
        (blocks + 1,) the first row of each block, and n.
    length_ns
        The length of a block, 0 if starts are periodic.
    slots
        Number of blocks that are replayed.
    """

    starts: Ints
    period_ns: int | None
    bounds: Ints
    length_ns: int
    slots: int

    @property
    def blocks(self) -> int:
        """Number of blocks of the recording."""
        return len(self.bounds) - 1

    @property
    def are_short(self) -> bool:
        """Whether blocks are short, so that recordings of resampled ones are as good as this one.

        They have busy stretches that this one lacks by chance.
        """
        return self.blocks >= _MANY_BLOCKS

    @property
    def per_second(self) -> float:
        """Frames a second of the recording."""
        span = int(self.starts[-1] - self.starts[0])
        return (len(self.starts) - 1) / span * 1e9 if span else 0.0

    @property
    def most_seen(self) -> float:
        """The highest load of a sixteenth of the recording, as a multiple of the mean load."""
        windows = max(min(_SEEN_WINDOWS, len(self.starts) // 50), 1)
        edges = np.linspace(self.starts[0], self.starts[-1], windows + 1)
        counts = np.diff(np.searchsorted(self.starts, edges[1:-1], side="right"), prepend=0)
        counts = np.append(counts, len(self.starts) - counts.sum())
        return float(counts.max() / counts.mean())

    def at_load(self, load: float, draw: int = 0, *, resampled: bool = False) -> tuple[Ints, Ints]:
        """Return frames and when they start at a multiple of the recorded load.

        Parameters
        ----------
        load
            Above 0.
        draw
            Number of the random draw. The same draw at a higher load has the same frames and more.
        resampled
            Whether blocks are drawn at random, with replacement, in place of the recorded order.

        Returns
        -------
        rows, starts
            (k,) rows of frames, which may repeat, and starts in ns, in order.
        """
        rng = np.random.default_rng([draw, int(resampled)])
        base = np.linspace(0, self.blocks - 1, self.slots).astype(np.int64)
        if resampled:
            base = rng.integers(0, self.blocks, self.slots)
        if self.period_ns is not None:
            return self._faster(base, load)
        found, side = [], rng.choice([-1, 1], self.slots)
        for copy in range(int(np.ceil(load))):
            # 0, 1, -1, 2, -2, ... blocks away, so that no two copies are of the same block
            away = (copy + 1) // 2 * (1 if copy % 2 else -1)
            chosen = (base + side * away) % self.blocks
            rows, starts = self._blocks(chosen)
            kept = rng.random(len(rows))[self._bursts(rows)] < load - copy
            found.append((rows[kept], starts[kept]))
        rows, starts = (np.concatenate(parts) for parts in zip(*found, strict=True))
        order = np.argsort(starts, kind="stable")
        return rows[order], starts[order]

    def _blocks(self, chosen: Ints) -> tuple[Ints, Ints]:
        """Return the rows of chosen blocks one after the other, and when they start there."""
        rows, counts = self._rows(chosen)
        moved = np.repeat((np.arange(self.slots) - chosen) * self.length_ns, counts)
        return rows, self.starts[rows] + moved

    def _bursts(self, rows: Ints) -> Ints:
        """Return the number of the burst of each row of chosen blocks."""
        gaps = np.diff(self.starts, prepend=0)
        begins = gaps > _BURST * gaps[1:].mean()
        begins[self.bounds[:-1][self.bounds[:-1] < len(begins)]] = True
        bursts: Ints = np.cumsum(begins[rows])
        return bursts - 1

    def _rows(self, chosen: Ints) -> tuple[Ints, Ints]:
        counts = self.bounds[chosen + 1] - self.bounds[chosen]
        before = np.cumsum(counts) - counts
        rows = np.arange(counts.sum()) + np.repeat(self.bounds[chosen] - before, counts)
        return rows, counts

    def _faster(self, chosen: Ints, load: float) -> tuple[Ints, Ints]:
        """Return the rows of chosen blocks, with their gaps divided by the load."""
        rows, _ = self._rows(chosen)
        gaps = np.append(np.diff(self.starts), self.period_ns or 0)[rows]
        passed = np.cumsum(gaps) - gaps
        starts = self.starts[0] + np.rint(passed / load).astype(np.int64)
        return rows, starts


def arrivals_of(starts: Ints, work: Ints | None = None) -> Arrivals:
    """Return the arrivals of a recording; `starts` (n,) are in order, n is `FEWEST_STARTS` or more.

    `work` (n,) is how long the busiest station needs for each frame, in ns, or None if unknown.

    Examples
    --------
    >>> periodic = arrivals_of(np.arange(1_000) * 20)
    >>> periodic.period_ns, [x[:3].tolist() for x in periodic.at_load(2)]
    (20, [[0, 1, 2], [0, 10, 20]])
    """
    gaps = np.diff(starts)
    usual = int(np.median(gaps))
    near = np.abs(gaps - usual) <= _NEAR * usual
    blocks = len(starts) // _block_frames(gaps, work)
    slots = min(blocks, max(MOST_STARTS * blocks // len(starts), _BLOCKS))
    steady = near.mean() >= _PERIODIC and abs(gaps.mean() - usual) <= _NEAR * usual
    if usual > 0 and steady:
        bounds = np.linspace(0, len(starts), blocks + 1).astype(np.int64)
        return Arrivals(starts, usual, bounds, 0, slots)
    span = int(starts[-1] - starts[0]) + max(int(gaps.mean()), 1)
    length = -(-span // blocks)
    edges = starts[0] + np.arange(blocks + 1) * length
    return Arrivals(starts, None, np.searchsorted(starts, edges), length, slots)


def _block_frames(gaps: Ints, work: Ints | None) -> int:
    """Return how many frames a block has: no fewer than those that depend on each other.

    Without dependence, the variance of sums over frames grows with the number of frames. The sums
    are of work minus the time between starts, each as a part of its mean: that makes queues.
    """
    n = len(gaps)
    most = max(n // _BLOCKS, 1)
    load = 1 - gaps / max(float(gaps.mean()), 1.0)
    if work is not None and work.any():
        load += work[:n] / work[:n].mean() - 1
    sizes = [_LEAST_IN_BLOCK]
    while sizes[-1] * _LONGER <= most:
        sizes.append(sizes[-1] * _LONGER)
    counts = np.array([n // size for size in sizes])
    # for each frame, from sums over `size` frames
    variances = [
        float(load[: count * size].reshape(count, size).sum(axis=1).var()) / size
        for count, size in zip(counts, sizes, strict=True)
    ]
    for i, size in enumerate(sizes):
        off = [max(x, 1e-12) / max(variances[i], 1e-12) for x in variances[i + 1 :]]
        most_off = 1 + _ALIKE + 2 * np.sqrt(2 / np.maximum(counts[i + 1 :], 1))
        if all(max(x, 1 / x) <= limit for x, limit in zip(off, most_off, strict=True)):
            return min(size, most)
    return most
