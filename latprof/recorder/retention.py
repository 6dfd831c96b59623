"""Which frames a trace keeps, where it does not keep all: the slow ones, and a sample of the rest.

Frames slower than a limit stand for themselves. Of each run of `EVERY` others one is kept, drawn
at random, and stands for all of them: its weight. The limit that a frame is held against comes
from earlier frames only, so counts and sums of the kept rows are right on average, whatever the
limit does.
"""

import numpy as np
import numpy.typing as npt

from latprof.arrays import Ints, Mask
from latprof.frames import MISSING, Columns
from latprof.histogram import Histogram
from latprof.pipeline import Pipeline

__all__ = ["EVERY", "Keeper"]

EVERY = 32
"""Of so many frames that are not slow one is kept."""

FEW = 1_024
"""So many first frames are all kept: before them nobody knows what is slow."""

MANY = 65_536
"""The running p99 is of so many frames."""


class Keeper:
    """The kept rows, the newest `capacity` of them.

    Parameters
    ----------
    pipeline, capacity
        Of the rows.
    limit_ns
        Slower frames are all kept; None: those slower than a running p99.
    rng
        Draws the sample.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        capacity: int,
        limit_ns: int | None,
        rng: np.random.Generator | None = None,
    ) -> None:
        self.limit_ns = limit_ns
        self._fixed = limit_ns is not None
        self._rows = np.zeros(capacity, pipeline.row_dtype)
        self._kept = 0
        self.forgotten = 0
        self._rng = np.random.default_rng() if rng is None else rng
        self._others = 0  # frames of which one in EVERY is kept
        self._drawn = int(self._rng.integers(EVERY))  # which one of the run that has begun
        self._recent = Histogram()
        self._next_look = FEW

    @property
    def rows(self) -> npt.NDArray[np.void]:
        """A copy of the kept rows in the order they came, each with its weight."""
        capacity = len(self._rows)
        if self._kept <= capacity:
            return self._rows[: self._kept].copy()
        return np.roll(self._rows, -(self._kept % capacity))

    def pick(self, columns: Columns) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.uint32]]:
        """Return which of (n,) frames are kept, ascending, and their weights."""
        parts: list[tuple[npt.NDArray[np.intp], npt.NDArray[np.uint32]]] = []
        begin = 0
        while begin < len(columns) or not parts:
            # in small pieces until it is known what is slow
            step = FEW if self.limit_ns is None else max(len(columns), 1)
            index, weights = self._pick(columns.take(slice(begin, begin + step)))
            parts.append((index + begin, weights))
            begin += step
        return np.concatenate([i for i, _ in parts]), np.concatenate([w for _, w in parts])

    def _pick(self, columns: Columns) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.uint32]]:
        start, end = columns.marks["start"], columns.marks["end"]
        known = (start != MISSING) & (end != MISSING)
        latencies = np.where(known, end - start, 0)
        weights = np.ones(len(columns), np.uint32)
        done = columns.finished()
        finished = np.ones(len(columns), bool) if done is None else done
        if self.limit_ns is not None:
            others = np.flatnonzero(finished & (latencies <= self.limit_ns))
            weights[others] = 0
            weights[others[self._draw(len(others))]] = EVERY
        if not self._fixed:
            self._learn(latencies[finished & known & (latencies >= 0)])
        kept = np.flatnonzero(weights)
        return kept, weights[kept]

    def keep(self, rows: npt.NDArray[np.void], columns: Columns) -> Columns:
        """Keep some of the rows; return their columns."""
        index, weights = self.pick(columns)
        chosen = rows[index]
        chosen["weight"] = weights
        capacity = len(self._rows)
        for first in range(0, len(chosen), capacity):
            piece = chosen[first : first + capacity]
            slots = (self._kept + np.arange(len(piece))) % capacity
            self.forgotten += int(self._rows["weight"][slots].sum(dtype=np.uint64))
            self._rows[slots] = piece
            self._kept += len(piece)
        picked = columns.take(index)
        picked.weight = weights
        return picked

    def _draw(self, count: int) -> Mask:
        """Return which of the next `count` others are kept: one of each run of `EVERY`."""
        places = self._others % EVERY + np.arange(count)
        runs = places // EVERY
        drawn = self._rng.integers(EVERY, size=int(runs[-1]) + 2 if count else 1)
        drawn[0] = self._drawn
        self._others += count
        last = (int(places[-1]) + 1) // EVERY if count else 0
        self._drawn = int(drawn[last])
        return np.asarray(places % EVERY == drawn[runs])

    def _learn(self, latencies: Ints) -> None:
        if len(latencies):
            self._recent.add(latencies)
        if self._recent.count >= self._next_look:
            self.limit_ns = self._recent.value_at(99)
            self._next_look *= 2
            if self._recent.count >= MANY:
                self._recent, self._next_look = Histogram(), MANY
