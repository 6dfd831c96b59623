"""Rows in order of time, from batches that come in any order: what stays of each is bounded.

What is known of rows in a row is kept by a `Run`, which is fed rows in order. Rows are recorded
as frames are committed, so that those near the border of a batch or a file may belong a little
further on. A segment therefore keeps its first and its last `HELD` rows as they are, and only
what lies between them in a run: its body. Where two segments meet, the loose rows between their
bodies are put in order and fed, and the body that comes then is taken on as a whole.

The body was fed after the rows before it, the head, had gone into a run of their own. Where the
last `KNOWN` of them come right before the body in the joined order as well, what a body may know
of the past (the last row, the largest id, a filter's state) is the same, or differs by what the
runs can put right. Otherwise the segments overlap, and no order can be told.
"""

import base64
import copy
import zlib
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from latprof.arrays import Ints

__all__ = ["HELD", "KNOWN", "MOST_SEGMENTS", "Rows", "Run", "Segments", "pack", "unpack"]

HELD = 1_024
"""Rows kept as they are on each side of a body."""

KNOWN = 512
"""Rows right before a body that must be the same ones wherever it is joined."""

MOST_SEGMENTS = 128
"""With more segments, those that are closest to each other in time are joined for good."""

CHUNK = 32_768
"""Rows that a run is fed at a time: they stay in a second-level cache."""

_NEAR = 4  # times the mean distance of rows: segments this close are taken for neighbours

Rows = tuple[npt.NDArray[Any], ...]
"""Columns of n rows: stamps, then ids, then what else belongs to them."""

Key = tuple[int, int]


class Run(Protocol):
    """What is known of rows fed in order: what they add up to, and what later rows depend on."""

    def feed(self, rows: Rows) -> None:
        """Add rows that come after all others."""

    def fresh(self) -> Any:
        """Return a run that depends on the same past and has counted nothing."""

    def follow(self, body: Any) -> None:
        """Add what a fresh run has counted of the rows that come now."""

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as values that JSON has."""

    def read(self, saved: Any) -> None:
        """Take what `to_dict` has written; whatever is damaged raises something."""


class Segments:
    """Rows that came in batches, as segments that do not grow with them.

    Parameters
    ----------
    make
        Makes an empty run.

    Attributes
    ----------
    reason
        Why no order can be told; empty if it can.
    """

    def __init__(self, make: Callable[[], Run]) -> None:
        self._make = make
        self._segments: list[_Segment] = []
        self._open: _Segment | None = None  # what the next batch is expected to go on with
        self.reason = ""

    def __len__(self) -> int:
        return len(self._segments)

    def add(self, rows: Rows) -> None:
        """Add n rows in any order; those that are in order are not sorted again."""
        if not len(rows[0]) or self.reason:
            return
        rows = _in_order(rows)
        if self._open is None or not self._open.takes(rows):
            self._open = _Segment(self._make)
            self._segments.append(self._open)
            self._open.extend(rows)
            self._settle()
        else:
            self._open.extend(rows)

    def merge(self, other: "Segments") -> None:
        """Add the rows of others, whichever of them come first."""
        self._segments += [copy.deepcopy(segment) for segment in other._segments]
        self._open = None
        self.reason = self.reason or other.reason
        self._settle()

    def total(self) -> Any:
        """Return the run of all rows; `reason` says whether they were in order."""
        whole = self._make()
        joined: _Segment | None = None
        for segment in sorted(self._segments, key=lambda segment: segment.first):
            joined = segment if joined is None else _joined(joined, segment)
            if joined is None:
                self._give_up()
                return self._make()
        if joined is not None:
            whole.feed(joined.head)
            if joined.body is not None:
                whole.follow(joined.body)
                whole.feed(joined.tail)
        return whole

    def _settle(self) -> None:
        """Join neighbours, so that there are few segments."""
        self._segments.sort(key=lambda segment: segment.first)
        i = 0
        while i + 1 < len(self._segments):
            left, right = self._segments[i : i + 2]
            small = left.body is None and right.body is None
            near = right.first[0] - left.last[0] <= _NEAR * max(left.spacing, right.spacing)
            if small and left.count + right.count > 2 * HELD:
                # a body is begun only between parts that are not small: of small ones others
                # may be on their way
                near = near and min(left.count, right.count) >= HELD
            if not (near and self._join(i)):
                i += 1
        while len(self._segments) > MOST_SEGMENTS and not self.reason:
            pairs = zip(self._segments, self._segments[1:], strict=False)
            gaps = [right.first[0] - left.last[0] for left, right in pairs]
            if not self._join(gaps.index(min(gaps))):
                self._give_up()

    def _join(self, i: int) -> bool:
        left, right = self._segments[i : i + 2]
        joined = _joined(left, right)
        if joined is None:
            return False
        if self._open is left or self._open is right:
            self._open = joined
        self._segments[i : i + 2] = [joined]
        return True

    def _give_up(self) -> None:
        self.reason = f"frames came more than {KNOWN} places out of order, or recordings overlap"
        self._segments, self._open = [], None

    # -- saved form -----------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Return the segments as values that JSON has; runs are asked for theirs."""
        return {
            "reason": self.reason,
            "segments": [
                {
                    "count": segment.count,
                    "head": [pack(column) for column in segment.head],
                    "tail": [pack(column) for column in segment.tail],
                    "end": segment.end,
                    "body": None if segment.body is None else segment.body.to_dict(),
                }
                for segment in self._segments
            ],
        }

    def read(self, saved: Any) -> None:
        """Take the segments that `to_dict` has written; whatever is damaged raises something."""
        self.reason = str(saved["reason"])
        for entry in saved["segments"]:
            segment = _Segment(self._make)
            segment.count = int(entry["count"])
            segment.head = tuple(unpack(column, 2 * HELD) for column in entry["head"])
            segment.tail = tuple(unpack(column, HELD) for column in entry["tail"])
            ends = segment.head if entry["body"] is None else segment.tail
            for column in (*segment.head, *ends):
                if not 1 <= len(column) <= segment.count:
                    raise ValueError("rows are missing")
            if len({len(c) for c in segment.head}) + len({len(c) for c in ends}) != 2:
                raise ValueError("columns of different lengths")
            if entry["body"] is not None:
                segment.end = int(entry["end"][0]), int(entry["end"][1])
                segment.body = self._make()
                segment.body.read(entry["body"])
            self._segments.append(segment)


class _Segment:
    """The first rows, the run of those between, the last rows. Without a body all are in head."""

    def __init__(self, make: Callable[[], Run]) -> None:
        self.make = make
        self.count = 0
        self.head: Rows = ()
        self.tail: Rows = ()
        self.body: Run | None = None
        self.end: Key | None = None  # stamp and id of the body's last row

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Segment":
        same = _Segment(self.make)
        same.count, same.head, same.tail = self.count, self.head, self.tail
        same.end, same.body = self.end, copy.deepcopy(self.body, memo)
        return same

    @property
    def first(self) -> Key:
        """Stamp and id of the first row."""
        return _key(self.head, 0)

    @property
    def last(self) -> Key:
        """Stamp and id of the last row."""
        return _key(self.tail if self.body is not None else self.head, -1)

    @property
    def spacing(self) -> float:
        """Mean distance of the stamps."""
        return (self.last[0] - self.first[0]) / max(self.count - 1, 1)

    def takes(self, rows: Rows) -> bool:
        """Return whether rows come after the body."""
        return self.end is None or _key(rows, 0) >= self.end

    def extend(self, rows: Rows) -> None:
        """Add rows that this segment `takes`."""
        self.count += len(rows[0])
        if self.body is None:
            rows = _mixed(self.head, rows)
            self.head = _copy(_cut(rows, 0, HELD))
            if len(rows[0]) <= 2 * HELD:
                self.head = _copy(rows)
                return
            rows = _cut(rows, HELD, len(rows[0]))
        else:
            rows, rest = self._after_tail(rows)
            if rest is not None:
                self._feed(rows)
                rows = rest
        self._feed(_cut(rows, 0, len(rows[0]) - HELD))
        self.tail = _copy(_cut(rows, len(rows[0]) - HELD, len(rows[0])))

    def _after_tail(self, rows: Rows) -> tuple[Rows, Rows | None]:
        """Put the tail and rows in order: all in one, or in two parts to save copying them."""
        here = int(np.searchsorted(rows[0], self.tail[0][-1], side="right"))
        if len(rows[0]) - here < HELD:
            return _mixed(self.tail, rows), None
        return _mixed(self.tail, _cut(rows, 0, here)), _cut(rows, here, len(rows[0]))

    def warm_body(self) -> Run:
        """Return the body; a new one knows of the head, and has counted nothing of it."""
        if self.body is None:
            warm = self.make()
            warm.feed(self.head)
            self.body = warm.fresh()
        return self.body

    def _feed(self, rows: Rows) -> None:
        body, n = self.warm_body(), len(rows[0])
        for start in range(0, n, CHUNK):
            body.feed(_cut(rows, start, min(start + CHUNK, n)))
        if n:
            self.end = _key(rows, -1)


def _joined(left: _Segment, right: _Segment) -> _Segment | None:
    """Return the segment of two, of which `left` begins first; None if their bodies are not so."""
    if right.body is None and left.takes(right.head):
        joined = copy.deepcopy(left)
        joined.extend(right.head)
        return joined
    if right.body is None:  # loose rows that may all come before the body
        left, right = right, left
    loose = left.head if left.body is None else left.tail
    if _key(loose, -1) > _key(right.head, HELD - KNOWN):
        return None
    rows = _mixed(loose, right.head)
    joined = copy.deepcopy(left)
    if left.body is None:
        joined.head = _copy(_cut(rows, 0, HELD))
        rows = _cut(rows, HELD, len(rows[0]))
    elif not left.takes(rows):
        return None
    joined.count += right.count
    joined._feed(rows)
    joined.warm_body().follow(right.body)
    joined.end, joined.tail = right.end, right.tail
    return joined


def _in_order(rows: Rows) -> Rows:
    """Return rows by stamp, then id, then all else: one order, whichever way they came."""
    stamps, ids = rows[0], rows[1]
    if (stamps[1:] > stamps[:-1]).all():
        return rows
    if (stamps[1:] >= stamps[:-1]).all():
        tied = np.flatnonzero(stamps[1:] == stamps[:-1])
        if (ids[tied] < ids[tied + 1]).all():
            return rows
    order = np.lexsort(rows[::-1])
    return tuple(column[order] for column in rows)


def _mixed(left: Rows, right: Rows) -> Rows:
    if not left or not len(right[0]):
        return left or right
    both = zip(left, right, strict=True)
    return _in_order(tuple(np.concatenate(columns) for columns in both))


def _cut(rows: Rows, start: int, stop: int) -> Rows:
    return tuple(column[start:stop] for column in rows)


def _copy(rows: Rows) -> Rows:
    return tuple(column.copy() for column in rows)


def _key(rows: Rows, i: int) -> Key:
    return int(rows[0][i]), int(rows[1][i])


def pack(column: npt.NDArray[Any]) -> str:
    """Return integers (n,) as short text: their differences, compressed.

    Examples
    --------
    >>> unpack(pack(np.array([5, 7, -2**63])), most=3)
    array([                   5,                    7, -9223372036854775808])
    """
    differences = np.diff(column.astype("<i8"), prepend=np.int64(0))
    # bytes of one weight next to each other: the upper ones are nearly all 0
    planes = differences.view(np.uint8).reshape(-1, 8).T.tobytes()
    return base64.b64encode(zlib.compress(planes)).decode("ascii")


def unpack(text: str, most: int) -> Ints:
    """Return what `pack` was given, at most `most` integers.

    Raises
    ------
    ValueError
        Text that `pack` has not written.
    """
    try:
        planes = zlib.decompressobj().decompress(
            base64.b64decode(text, validate=True), 8 * most + 1
        )
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if len(planes) % 8 or len(planes) > 8 * most:
        raise ValueError(f"{len(planes)} bytes are not up to {most} integers")
    table = np.frombuffer(planes, np.uint8).reshape(8, -1)
    return np.cumsum(np.ascontiguousarray(table.T).view("<i8").reshape(-1), dtype=np.int64)
