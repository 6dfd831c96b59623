"""Ids in order of start: ids that are skipped, come late, come twice, or never come.

`IdRun` is part of a `segments.Run`. The ids that came are kept as a set: the lost ones and those
that came twice follow from it, whatever the order. The sets of two parts can be joined if they
overlap at their ends only.
"""

from dataclasses import dataclass, field
from typing import Annotated, Self

import numpy as np

from latprof.arrays import Bounds, Ints
from latprof.text import counted

__all__ = ["NOT_AVAILABLE", "SIGN_BIT", "IdResult", "IdRun", "IdSet", "Number"]

SIGN_BIT = np.int64(-(2**63))
"""In rows, ids have this bit inverted: unsigned ids then have the same order as signed integers."""

EDGE_IDS = 1_024
"""Ids kept at each end of a set: ids that come later may be equal to them or in gaps among them."""

NOT_AVAILABLE = "not available: "
RESTARTED = "an id came after many larger ones, as if ids had started again"

Number = Annotated[int, Bounds(-(2**63), 2**63 - 1)]


@dataclass(frozen=True, slots=True)
class IdResult:
    """Ids of frames in order of start; frames with the same start are in order of id.

    All counts but `frames` are None if they are not available, and `note` says why.

    Attributes
    ----------
    gaps
        Places where ids are skipped, even if the skipped ids come later.
    reordered
        Frames that come late: their id is below the largest one before them.
    lost, longest_loss
        Ids between the smallest and the largest that never came, and the longest run of these.
    duplicates
        Frames with an id that came before.

    Examples
    --------
    >>> IdResult(frames=5, gaps=1, reordered=1, lost=0, longest_loss=0, duplicates=0).sentence()
    'no frame lost; 1 gap closed by a late frame'
    """

    mark: str = "start"
    frames: int = 0
    gaps: int | None = None
    reordered: int | None = None
    lost: int | None = None
    longest_loss: int | None = None
    duplicates: int | None = None
    note: str = ""

    def sentence(self) -> str:
        """Return what happened to the ids, for a report."""
        if self.note or (not self.gaps and not self.reordered and not self.duplicates):
            return f"ids {self.note}" if self.note else "no frame lost, late or duplicated"
        gaps, late = self.gaps or 0, self.reordered or 0
        parts = ["no frame lost"]
        if self.lost:
            parts = [f"{counted(self.lost, 'frame')} lost (at most {self.longest_loss:,} in a row)"]
            parts += [counted(gaps, "gap")] if gaps else []
        elif gaps:
            closed = "a late frame" if late == 1 else f"late frames ({late:,} in all)"
            parts.append(f"{counted(gaps, 'gap')} closed by {closed}")
        if late and (self.lost or not gaps):
            parts.append(f"{counted(late, 'frame')} late")
        if self.duplicates:
            parts.append(counted(self.duplicates, "duplicate"))
        return "; ".join(parts)


@dataclass(frozen=True, slots=True, eq=False)
class IdSet:
    """Distinct numbers, of which only `EDGE_IDS` at each end are kept.

    Two sets can be joined if every number that may be in both is kept by both.

    Attributes
    ----------
    count
        How many numbers are in the set.
    low, high
        The smallest and the largest ones, ascending; if `high` is empty, `low` has all of them.
    gap
        The longest run of absent numbers between the last of `low` and the first of `high`.

    Examples
    --------
    >>> seen = IdSet.of(np.array([3, 4, 8])).union(IdSet.of(np.array([5, 8, 9])))
    >>> seen.count, seen.lost, seen.longest_gap
    (5, 2, 2)
    """

    count: int = 0
    low: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    high: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    gap: int = 0

    def __post_init__(self) -> None:
        kept = len(self.low) + len(self.high)
        if self.count < kept or (self.count > kept and not len(self.high)):
            raise ValueError(f"low and high must match count, got {kept:,} of {self.count:,} ids")
        if (self.low[1:] <= self.low[:-1]).any() or (self.high[1:] <= self.high[:-1]).any():
            raise ValueError("low and high must ascend, got an id that is not above the one before")

    @classmethod
    def of(cls, numbers: Ints) -> Self:
        """Return the set of sorted distinct numbers (n,)."""
        if len(numbers) <= 2 * EDGE_IDS:
            return cls(len(numbers), numbers.copy())
        low, high = numbers[:EDGE_IDS].copy(), numbers[-EDGE_IDS:].copy()
        return cls(len(numbers), low, high, _longest_gap(numbers[EDGE_IDS - 1 : 1 - EDGE_IDS]))

    @property
    def lowest(self) -> int:
        """The smallest number of a set that is not empty."""
        return int(self.low[0])

    @property
    def highest(self) -> int:
        """The largest number of a set that is not empty."""
        return int(self.upper[-1])

    @property
    def upper(self) -> Ints:
        """The kept numbers next to the largest one: `high`, or `low` if that has all of them."""
        return self.high if len(self.high) else self.low

    @property
    def lost(self) -> int:
        """How many numbers between the smallest and the largest are absent."""
        return self.highest - self.lowest + 1 - self.count if self.count else 0

    @property
    def longest_gap(self) -> int:
        """The longest run of absent numbers."""
        return max(self.gap, _longest_gap(self.low), _longest_gap(self.high))

    def shifted(self, by: int) -> "IdSet":
        """Return the set with `by` added to each number."""
        return IdSet(self.count, self.low + by, self.high + by, self.gap)

    def union(self, other: "IdSet") -> "IdSet | None":
        """Return both sets as one, or None if they overlap where numbers are not kept."""
        if not (self.count and other.count):
            return self if self.count else other
        left, right = (self, other) if self.lowest <= other.lowest else (other, self)
        both = np.concatenate((left.upper, right.low))
        middle = both
        if left.highest >= right.lowest:
            beyond = len(left.high) and right.lowest < left.high[0]
            if beyond or (len(right.high) and left.highest > right.low[-1]):
                return None
            middle = _distinct(both)
        count = left.count + right.count - (len(both) - len(middle))
        if not (len(left.high) or len(right.high)):
            return IdSet.of(middle)
        start = 0 if len(left.high) else EDGE_IDS
        stop = len(middle) if len(right.high) else len(middle) - EDGE_IDS
        return IdSet(
            count,
            left.low if len(left.high) else middle[:EDGE_IDS].copy(),
            right.high if len(right.high) else middle[-EDGE_IDS:].copy(),
            max(left.gap, right.gap, _longest_gap(middle[max(start - 1, 0) : stop + 1])),
        )


@dataclass(slots=True, eq=False)
class IdRun:
    """Gaps in ids, ids that come late, and the set of all ids.

    Attributes
    ----------
    bits
        If below 64, ids count modulo 2**bits and are unwrapped to numbers: each to the possible
        number that is nearest to the one before it.
    last, last_number
        The last id as it came, and unwrapped.
    top
        The largest number.
    entry_number, entry_top
        `last_number` and `top` when this run began as `fresh`.
    count
        How many ids came.
    gaps
        Places where numbers are skipped.
    reordered
        Numbers below the largest one before them.
    seen
        The set of all numbers.
    reason
        Why nothing can be said of the ids, or "".
    """

    bits: Annotated[int, Bounds(8, 64)] = 64
    last: Number | None = None
    last_number: Number = 0
    top: Number = 0
    entry_number: Number = 0
    entry_top: Number = 0
    count: int = 0
    gaps: int = 0
    reordered: int = 0
    seen: IdSet = field(default_factory=IdSet)
    reason: str = ""

    def feed(self, ids: Ints) -> None:
        """Add (n,) ids with their sign bit inverted, n > 0."""
        if self.bits < 64:
            ids = ids & ((1 << self.bits) - 1)
        numbers = ids if self.bits == 64 else self._unwrapped(ids)
        first = int(numbers[0])
        if self.last is None:
            self.top = first
        started, self.last, self.last_number = self.last is not None, int(ids[-1]), int(numbers[-1])
        self.count += len(ids)
        if (first > self.top or not started) and (numbers[1:] > numbers[:-1]).all():
            if self.last_number - first >= len(numbers):
                self.gaps += int(np.count_nonzero(_distances(numbers) > 1))
            self.gaps += first > self.top + 1
            self.top = self.last_number
        else:
            before = np.maximum.accumulate(np.concatenate((np.array([self.top]), numbers)))
            self.top = int(before[-1])
            before = before[:-1]
            self.reordered += int(np.count_nonzero(numbers < before))
            ahead = (numbers - before).view(np.uint64) > 1
            self.gaps += int(np.count_nonzero(ahead & (numbers > before)))
            numbers = _distinct(numbers)
        self._see(IdSet.of(numbers))

    def _see(self, ids: IdSet) -> None:
        seen = self.seen.union(ids)
        if seen is None:
            self.reason = RESTARTED
        else:
            self.seen = seen

    def _unwrapped(self, ids: Ints) -> Ints:
        raw, number = (int(ids[0]),) * 2 if self.last is None else (self.last, self.last_number)
        half = 1 << (self.bits - 1)
        steps = np.diff(ids, prepend=np.int64(raw))
        steps = ((steps + half) & (2 * half - 1)) - half
        return np.cumsum(steps) + number

    def fresh(self) -> Self:
        """Return a run that starts where this one stands, with all counters at 0."""
        number, top = self.last_number, self.top
        return type(self)(self.bits, self.last, number, top, entry_number=number, entry_top=top)

    def follow(self, body: Self) -> None:
        """Add the counts of a run that began as `fresh` and was fed the ids that come next."""
        shift = self.last_number - body.entry_number
        self.reason = self.reason or body.reason
        if self.top != body.entry_top + shift:
            self.reason = RESTARTED
        self._see(body.seen.shifted(shift))
        self.last, self.last_number = body.last, body.last_number + shift
        self.top = body.top + shift
        self.count += body.count
        self.gaps += body.gaps
        self.reordered += body.reordered

    def result(self, note: str) -> IdResult:
        """Return the result; if `note` says why counts are not available, one without counts."""
        note = note or (NOT_AVAILABLE + self.reason if self.reason else "")
        if note:
            return IdResult(frames=self.count, note=note)
        return IdResult(
            frames=self.count,
            gaps=self.gaps,
            reordered=self.reordered,
            lost=self.seen.lost,
            longest_loss=self.seen.longest_gap,
            duplicates=self.count - self.seen.count,
        )


def _distinct(numbers: Ints) -> Ints:
    """Return the numbers (n,) sorted, each once; quick for numbers that are nearly in order.

    Examples
    --------
    >>> _distinct(np.array([3, 5, 4, 3]))
    array([3, 4, 5])
    """
    numbers = np.sort(numbers, kind="stable")
    first = np.ones(len(numbers), bool)
    np.not_equal(numbers[1:], numbers[:-1], out=first[1:])
    return numbers[first]


def _longest_gap(numbers: Ints) -> int:
    """Return the longest run of numbers absent between neighbours."""
    return int(_distances(numbers).max()) - 1 if len(numbers) > 1 else 0


def _distances(numbers: Ints) -> "np.ndarray[tuple[int], np.dtype[np.uint64]]":
    # two numbers may be up to 2**64 - 1 apart: unsigned, their distance is right
    return (numbers[1:] - numbers[:-1]).view(np.uint64)
