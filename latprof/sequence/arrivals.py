"""Ids in order of arrival: what is skipped, comes late, comes twice, or never.

`Arrivals` is a `segments.Run`. Which ids came, and so what was lost or came twice, is a
set, whatever the order; sets of parts join where they overlap at their ends only.
"""

from typing import Any

import numpy as np

from latprof.arrays import Ints
from latprof.sequence.segments import Rows, pack, unpack

__all__ = ["KEPT", "Arrivals", "IdSet", "distinct"]

KEPT = 1_024
"""Numbers kept at each end of a set: what comes later may lie between them."""


class Arrivals:
    """Gaps, reordered ids and the set of ids; rows are (stamps, ids).

    With `bits` below 64 ids count modulo 2**bits and are unwrapped: each is taken for the nearest
    one to that before it.
    """

    def __init__(self, bits: int) -> None:
        self.bits = bits
        self.last: tuple[int, int] | None = None  # id as it came, and unwrapped
        self.top: int | None = None
        self.entry: tuple[int, int] = (0, 0)  # unwrapped last id, and top, before a body
        self.count = 0
        self.gaps = 0
        self.reordered = 0
        self.seen = IdSet()
        self.reason = ""

    def feed(self, rows: Rows) -> None:
        """Add rows that come after all others."""
        ids = rows[1]
        if not len(ids):
            return
        numbers = ids if self.bits == 64 else self._unwrapped(ids)
        self.last = int(ids[-1]), int(numbers[-1])
        first, top = int(numbers[0]), int(numbers[-1])
        if (self.top is None or first > self.top) and (numbers[1:] > numbers[:-1]).all():
            if top - first >= len(numbers):
                # two ids may be up to 2**64 - 1 apart: as unsigned ones the distance is right
                steps = (numbers[1:] - numbers[:-1]).view(np.uint64)
                self.gaps += int(np.count_nonzero(steps > 1))
            self.gaps += self.top is not None and first > self.top + 1
            self.top, found = top, numbers
        else:
            found = self._feed_mixed(numbers)
        self.count += len(ids)
        if not self.seen.add(IdSet.of(found)):
            self.reason = "an id came after many larger ones, as if they had started again"

    def _feed_mixed(self, numbers: Ints) -> Ints:
        top = int(numbers[0]) if self.top is None else self.top
        before = np.maximum.accumulate(np.concatenate((np.array([top]), numbers)))
        self.top = int(before[-1])
        before = before[:-1]
        self.reordered += int(np.count_nonzero(numbers < before))
        ahead = (numbers - before).view(np.uint64) > 1
        self.gaps += int(np.count_nonzero(ahead & (numbers > before)))
        return distinct(numbers)

    def _unwrapped(self, ids: Ints) -> Ints:
        raw, number = self.last or (int(ids[0]), int(ids[0]))
        half = 1 << (self.bits - 1)
        steps = np.diff(ids, prepend=np.int64(raw))
        steps = ((steps + half) & (2 * half - 1)) - half
        return np.cumsum(steps) + number

    def fresh(self) -> "Arrivals":
        """Return a run that depends on the same past and has counted nothing."""
        same = Arrivals(self.bits)
        same.last, same.top = self.last, self.top
        if self.last is not None and self.top is not None:
            same.entry = self.last[1], self.top
        return same

    def follow(self, body: "Arrivals") -> None:
        """Add what a fresh run has counted of the rows that come now."""
        assert self.last is not None
        assert body.last is not None
        assert body.top is not None
        shift = self.last[1] - body.entry[0]
        self.reason = self.reason or body.reason
        if self.top != body.entry[1] + shift or not self.seen.add(body.seen.shifted(shift)):
            self.reason = "an id came after many larger ones, as if they had started again"
        self.last, self.top = (body.last[0], body.last[1] + shift), body.top + shift
        self.count += body.count
        self.gaps += body.gaps
        self.reordered += body.reordered

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as values that JSON has."""
        names = ("last", "top", "entry", "count", "gaps", "reordered", "reason")
        return {name: getattr(self, name) for name in names} | {"seen": self.seen.to_dict()}

    def read(self, saved: Any) -> None:
        """Take what `to_dict` has written."""
        self.last = int(saved["last"][0]), int(saved["last"][1])
        self.entry = int(saved["entry"][0]), int(saved["entry"][1])
        self.top = int(saved["top"])
        self.count, self.gaps = int(saved["count"]), int(saved["gaps"])
        self.reordered, self.reason = int(saved["reordered"]), str(saved["reason"])
        self.seen = IdSet.from_dict(saved["seen"])


class IdSet:
    """Distinct numbers, of which the smallest and the largest are kept.

    Two sets can be joined if each number that could be in both is kept by both.

    Attributes
    ----------
    count
        How many numbers.

    Examples
    --------
    >>> seen = IdSet.of(np.array([3, 4, 8]))
    >>> seen.add(IdSet.of(np.array([5, 8, 9])))
    True
    >>> seen.count, seen.lost, seen.longest_gap
    (5, 2, 2)
    """

    __slots__ = ("_gap", "_high", "_low", "count")

    def __init__(self) -> None:
        self.count = 0
        self._low = np.empty(0, np.int64)  # all numbers, where there is no _high
        self._high = np.empty(0, np.int64)
        self._gap = 0  # longest run of absent numbers between the two

    @classmethod
    def of(cls, numbers: Ints) -> "IdSet":
        """Return the set of sorted distinct numbers (n,)."""
        same = cls()
        same.count = len(numbers)
        if len(numbers) <= 2 * KEPT:
            same._low = numbers.copy()
        else:
            same._low, same._high = numbers[:KEPT].copy(), numbers[-KEPT:].copy()
            same._gap = _longest(numbers[KEPT - 1 : 1 - KEPT])
        return same

    @property
    def lowest(self) -> int:
        """The smallest number; there is one."""
        return int(self._low[0])

    @property
    def highest(self) -> int:
        """The largest number; there is one."""
        return int((self._high if len(self._high) else self._low)[-1])

    @property
    def lost(self) -> int:
        """How many numbers between the smallest and the largest are absent."""
        return self.highest - self.lowest + 1 - self.count if self.count else 0

    @property
    def longest_gap(self) -> int:
        """The longest run of them."""
        return max(self._gap, _longest(self._low), _longest(self._high))

    def shifted(self, by: int) -> "IdSet":
        """Return the set with `by` added to each number."""
        same = IdSet()
        same.count, same._gap = self.count, self._gap
        same._low, same._high = self._low + by, self._high + by
        return same

    def add(self, other: "IdSet") -> bool:
        """Add another set; return False if that cannot be done, and leave it."""
        if not (self.count and other.count):
            if other.count:
                self._take(other)
            return True
        left, right = (self, other) if self.lowest <= other.lowest else (other, self)
        ends = left._high if len(left._high) else left._low
        if left.highest < right.lowest:
            middle = np.concatenate((ends, right._low))
            count = left.count + right.count
        else:
            beyond = len(left._high) and right.lowest < left._high[0]
            if beyond or (len(right._high) and left.highest > right._low[-1]):
                return False
            middle = distinct(np.concatenate((ends, right._low)))
            count = left.count + right.count - (len(ends) + len(right._low) - len(middle))
        joined = IdSet()
        joined.count = count
        gap = max(left._gap, right._gap)
        if not (len(left._high) or len(right._high)):
            joined = IdSet.of(middle)
        else:
            start = 0 if len(left._high) else KEPT
            stop = len(middle) if len(right._high) else len(middle) - KEPT
            joined._low = left._low if len(left._high) else middle[:KEPT].copy()
            joined._high = right._high if len(right._high) else middle[-KEPT:].copy()
            joined._gap = max(gap, _longest(middle[max(start - 1, 0) : stop + 1]))
        self._take(joined)
        return True

    def _take(self, other: "IdSet") -> None:
        self.count, self._gap = other.count, other._gap
        self._low, self._high = other._low, other._high

    def to_dict(self) -> dict[str, Any]:
        """Return the set as values that JSON has."""
        low, high = pack(self._low), pack(self._high)
        return {"count": self.count, "low": low, "high": high, "gap": self._gap}

    @classmethod
    def from_dict(cls, saved: Any) -> "IdSet":
        """Return the set that `to_dict` has written; whatever is damaged raises something."""
        same = cls()
        same.count, same._gap = int(saved["count"]), int(saved["gap"])
        same._low, same._high = unpack(saved["low"], 2 * KEPT), unpack(saved["high"], KEPT)
        if (np.diff(same._low) < 1).any() or (np.diff(same._high) < 1).any():
            raise ValueError("numbers are not in order")
        kept = len(same._low) + len(same._high)
        if same.count < kept or (same.count > kept and not len(same._high)):
            raise ValueError("numbers do not fit their count")
        return same


def distinct(numbers: Ints) -> Ints:
    """Return the numbers (n,) sorted, each once: on numbers nearly in order quicker than a set.

    Examples
    --------
    >>> distinct(np.array([3, 5, 4, 3]))
    array([3, 4, 5])
    """
    numbers = np.sort(numbers, kind="stable")
    first = np.ones(len(numbers), bool)
    np.not_equal(numbers[1:], numbers[:-1], out=first[1:])
    return numbers[first]


def _longest(numbers: Ints) -> int:
    """Return the longest run of numbers absent between neighbours."""
    if len(numbers) < 2:
        return 0
    # two numbers may be up to 2**64 - 1 apart: as unsigned ones the distance is right
    return int((numbers[1:] - numbers[:-1]).view(np.uint64).max()) - 1
