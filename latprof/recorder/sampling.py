"""Which frames are recorded (head sampling), and which of those a trace keeps (tail sampling).

Head sampling selects whole runs of 64 ids of a source, the same runs in every process. Numbers
that need consecutive frames stay meaningful inside a run, and the processes of one pipeline select
the same frames without communicating. Other programs can follow the same rule: the hash of a run is
``splitmix64(run ^ fnv1a(source))``, 64 bits, with run = id // 64, the name of the source in UTF-8,
and no source as the empty name. A run is sampled if its hash < rate * 2**64.

Tail sampling keeps every frame that is slower than a limit, with weight 1. Of each run of
`KEEP_EVERY` other frames it keeps one, drawn at random, with weight `KEEP_EVERY`. The limit that a
frame is compared with comes from earlier frames only, so that weighted counts and sums of the kept
frames are unbiased, however the limit moves.
"""

import operator
from typing import Any

import numpy as np
import numpy.typing as npt

from latprof.arrays import Ints, Mask
from latprof.frames import MISSING, Columns
from latprof.histogram import Histogram
from latprof.recorder.incidents import text_of

__all__ = [
    "KEEP_EVERY",
    "RUN_BITS",
    "WARM_UP_FRAMES",
    "HeadSampler",
    "TailSampler",
    "fnv1a",
    "run_hash",
    "run_hashes",
    "threshold",
]

RUN_BITS = 6  # a run has 2**6 = 64 ids
KNOWN_SOURCES = 4_096  # sources with a decision that is kept
KEEP_EVERY = 32  # one in KEEP_EVERY frames below the limit is kept
WARM_UP_FRAMES = 1_024  # first frames, which are all kept until a p99 is known
P99_FRAMES = 65_536  # frames from which the running p99 is estimated

_MASK = 2**64 - 1


# -- head sampling --------------------------------------------------------------------------------


def threshold(rate: float) -> int:
    """Return rate * 2**64: runs are sampled if their hash is below."""
    return int(rate * 2.0**64)


def fnv1a(name: str | bytes | None) -> int:
    """Return the 64-bit FNV-1a hash of a source's name, text or UTF-8.

    Examples
    --------
    >>> hex(fnv1a("a")), fnv1a(None) == fnv1a("")
    ('0xaf63dc4c8601ec8c', True)
    """
    value = 0xCBF29CE484222325
    text = name or b""
    for byte in text.encode("utf-8", "backslashreplace") if isinstance(text, str) else text:
        value = (value ^ byte) * 0x100000001B3 & _MASK
    return value


def run_hash(run: int, source_hash: int) -> int:
    """Return the hash of one run of a source, 0 to 2**64 - 1."""
    z = ((run ^ source_hash) + 0x9E3779B97F4A7C15) & _MASK
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    z = (z ^ z >> 27) * 0x94D049BB133111EB & _MASK
    return z ^ z >> 31


def run_hashes(
    runs: npt.NDArray[np.uint64], source_hashes: npt.NDArray[np.uint64] | np.uint64
) -> npt.NDArray[np.uint64]:
    """Return the hashes of (n,) runs: `run_hash`, vectorized."""
    z = (runs ^ source_hashes) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ z >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ z >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return np.asarray(z ^ z >> np.uint64(31))


class HeadSampler:
    """Decides for one frame after the other; the decision on the latest run of a source is kept.

    Parameters
    ----------
    below
        A run is sampled if its hash is below.
    """

    def __init__(self, below: int) -> None:
        self._below = below
        self._latest: dict[Any, tuple[int, bool]] = {}

    def is_sampled(self, frame_id: int, source: str | None) -> bool:
        """Return whether the frame is in a run that is sampled."""
        try:
            run, sampled = self._latest[source]
            return sampled if run == frame_id >> RUN_BITS else self._decide(frame_id, source)
        except (KeyError, TypeError):
            return self._decide(frame_id, source)

    def _decide(self, frame_id: Any, source: object) -> bool:
        try:
            run = operator.index(frame_id) >> RUN_BITS
        except Exception:
            return True  # the frame is rejected later
        if not 0 <= run < 2 ** (64 - RUN_BITS):
            return True
        name = None if source is None else text_of(source)
        sampled = run_hash(run, fnv1a(name)) < self._below
        if len(self._latest) >= KNOWN_SOURCES:
            self._latest.clear()
        if source is None or type(source) is str:
            self._latest[source] = run, sampled
        return sampled


# -- tail sampling --------------------------------------------------------------------------------


class TailSampler:
    """Selects the rows that a trace keeps, and holds the newest `capacity` of them.

    Parameters
    ----------
    dtype, capacity
        The type of a row, and the number of rows that are held.
    limit_ns
        All frames that take longer than this are kept. If it is None, the limit is a running p99.
    rng
        Draws the sample.

    Attributes
    ----------
    rows
        A copy of the held rows in the order they came, with their weights.
    forgotten
        The weight of the kept rows that newer ones have replaced.
    """

    def __init__(
        self,
        dtype: np.dtype[np.void],
        capacity: int,
        limit_ns: int | None,
        rng: np.random.Generator | None = None,
    ) -> None:
        self.limit_ns = limit_ns
        self._fixed = limit_ns is not None
        self._rows = np.zeros(capacity, dtype)
        self._kept = 0
        self.forgotten = 0
        self._rng = np.random.default_rng() if rng is None else rng
        self._others = 0  # frames of which one in KEEP_EVERY is kept
        self._drawn = int(self._rng.integers(KEEP_EVERY))  # the one of the current run
        self._recent = Histogram()
        self._next_update = WARM_UP_FRAMES

    @property
    def rows(self) -> npt.NDArray[np.void]:
        """A copy of the held rows in the order they came, with their weights."""
        capacity = len(self._rows)
        if self._kept <= capacity:
            return self._rows[: self._kept].copy()
        return np.roll(self._rows, -(self._kept % capacity))

    def select(self, columns: Columns) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.uint32]]:
        """Return which of (n,) frames are kept, ascending, and their weights."""
        selected: list[tuple[npt.NDArray[np.intp], npt.NDArray[np.uint32]]] = []
        begin = 0
        while begin < len(columns) or not selected:
            # in small steps until a limit is known
            step = WARM_UP_FRAMES if self.limit_ns is None else max(len(columns), 1)
            index, weights = self._select(columns.take(slice(begin, begin + step)))
            selected.append((index + begin, weights))
            begin += step
        return np.concatenate([i for i, _ in selected]), np.concatenate([w for _, w in selected])

    def _select(self, columns: Columns) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.uint32]]:
        start, end = columns.marks["start"], columns.marks["end"]
        known = (start != MISSING) & (end != MISSING)
        latencies = np.where(known, end - start, 0)
        weights = np.ones(len(columns), np.uint32)
        done = columns.finished()
        finished = np.ones(len(columns), bool) if done is None else done
        if self.limit_ns is not None:
            others = np.flatnonzero(finished & (latencies <= self.limit_ns))
            weights[others] = 0
            weights[others[self._draw(len(others))]] = KEEP_EVERY
        if not self._fixed:
            self._learn(latencies[finished & known & (latencies >= 0)])
        kept = np.flatnonzero(weights)
        return kept, weights[kept]

    def keep(self, rows: npt.NDArray[np.void], columns: Columns) -> Columns:
        """Keep some of the rows; return their columns."""
        index, weights = self.select(columns)
        chosen = rows[index]
        chosen["weight"] = weights
        capacity = len(self._rows)
        for first in range(0, len(chosen), capacity):
            piece = chosen[first : first + capacity]
            slots = (self._kept + np.arange(len(piece))) % capacity
            self.forgotten += int(self._rows["weight"][slots].sum(dtype=np.uint64))
            self._rows[slots] = piece
            self._kept += len(piece)
        kept_columns = columns.take(index)
        kept_columns.weight = weights
        return kept_columns

    def _draw(self, count: int) -> Mask:
        """Return which of the next `count` frames below the limit are kept."""
        places = self._others % KEEP_EVERY + np.arange(count)
        runs = places // KEEP_EVERY
        drawn = self._rng.integers(KEEP_EVERY, size=int(runs[-1]) + 2 if count else 1)
        drawn[0] = self._drawn
        self._others += count
        last = (int(places[-1]) + 1) // KEEP_EVERY if count else 0
        self._drawn = int(drawn[last])
        return np.asarray(places % KEEP_EVERY == drawn[runs])

    def _learn(self, latencies: Ints) -> None:
        if len(latencies):
            self._recent.add(latencies)
        if self._recent.count >= self._next_update:
            self.limit_ns = self._recent.value_at(99)
            self._next_update *= 2
            if self._recent.count >= P99_FRAMES:
                self._recent, self._next_update = Histogram(), P99_FRAMES
