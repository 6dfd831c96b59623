"""Consecutive rows as a mergeable segment: the first rows, a summary of the middle, the last rows.

What depends on the order of frames, or on frames that waited for earlier ones, cannot be summed
part by part: the first rows of a part depend on the last rows of the part before it. `Edges`
therefore keeps up to `EDGE_ROWS` rows at each end of a part, so that two parts can be joined later.

`Segments` does so for anything that is computed row by row (a `Run`). Rows arrive in the order in
which frames were committed, so that rows near the end of a batch or a file may belong a little
further on: only rows that are at neither end are fed to the run of a segment::

    head        body                      tail
    | 2,048 |   | run of all rows between |   | 2,048 |

The body was fed after a run had seen the head. Where two segments are joined, the rows between
their bodies are sorted and fed, and the second body is added as a whole. That is exact if the last
`SETTLED_ROWS` rows before the second body are the same rows as before; otherwise the segments
overlap, and the order of their rows is unknown.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Generic, Protocol, Self, TypeVar

import numpy as np

from latprof.arrays import Ints
from latprof.frames import MISSING
from latprof.units import STAMP_LIMIT

__all__ = [
    "EDGE_ROWS",
    "MOST_SEGMENTS",
    "SETTLED_ROWS",
    "Edges",
    "Rows",
    "Run",
    "Segment",
    "Segments",
    "concatenated",
    "cut",
    "join_closest",
]

EDGE_ROWS = 2_048
"""Rows kept at each end of a segment, so that it can be joined to its neighbours."""

SETTLED_ROWS = 512
"""Rows before a body that a join must leave as they are; rows may be that far out of order."""

MOST_SEGMENTS = 128
"""If there are more segments, those closest to each other in time are joined for good."""

FEED_ROWS = 32_768  # rows that a run is fed at a time: they stay in a second-level cache
NEAR_SPACINGS = 4  # segments up to this many mean row distances apart are taken for neighbours

Rows = tuple[Ints, ...]
"""Columns (n,), stamps first. In `Segments` frame ids follow, and rows are sorted by both."""

Key = tuple[int, int]


class Run(Protocol):
    """A computation over rows in order: its results so far, and the state that later rows need."""

    def feed(self, rows: Rows) -> None:
        """Add rows that come after all others."""

    def fresh(self) -> Self:
        """Return a run that starts where this one stands, with all counters at 0."""

    def follow(self, body: Self) -> None:
        """Add the counts of a run that began as `fresh` and was fed the rows that come next."""


RunT = TypeVar("RunT", bound=Run)


@dataclass(slots=True, eq=False)
class Edges:
    """The first and the last rows of a part; together they are all of it if it is short.

    Attributes
    ----------
    count
        Number of rows of the part.
    head
        Its first rows, at most `EDGE_ROWS`.
    tail
        Its last rows without those of the head, at most `EDGE_ROWS`.

    Examples
    --------
    >>> edges = Edges()
    >>> [middle] = edges.extend((np.arange(5_000),))
    >>> len(middle[0]), edges.first, edges.last, edges.complete
    (904, 0, 4999, False)
    """

    count: int = 0
    head: Rows = ()
    tail: Rows = ()

    def __post_init__(self) -> None:
        for rows in (self.head, self.tail):
            if len({len(column) for column in rows}) > 1 or (rows and len(rows[0]) > EDGE_ROWS):
                lengths = sorted({len(column) for column in rows})
                raise ValueError(
                    f"columns must have the same length of at most {EDGE_ROWS:,} rows, "
                    f"got {lengths}"
                )
        kept = sum(len(rows[0]) for rows in (self.head, self.tail) if rows)
        if len(self.head) != len(self.tail):
            raise ValueError(
                f"head and tail must have the same columns, got {len(self.head)} and "
                f"{len(self.tail)}"
            )
        if kept != min(self.count, 2 * EDGE_ROWS):
            raise ValueError(
                f"head and tail of {self.count:,} rows must have "
                f"{min(self.count, 2 * EDGE_ROWS):,} rows, got {kept:,}"
            )

    @property
    def complete(self) -> bool:
        """Whether head and tail are all rows of the part."""
        return self.count <= 2 * EDGE_ROWS

    @property
    def ends(self) -> Rows:
        """The rows of head and tail."""
        return concatenated(self.head, self.tail)

    @property
    def last_rows(self) -> Rows:
        """The last rows of the part, at most `EDGE_ROWS`."""
        return cut(self.ends, -EDGE_ROWS, None)

    @property
    def first(self) -> int:
        """The smallest stamp of the head."""
        stamps = self.head[0]
        return int(stamps[stamps != MISSING].min(initial=STAMP_LIMIT))

    @property
    def last(self) -> int:
        """The largest stamp of head and tail."""
        return max(int(rows[0].max(initial=MISSING)) for rows in (self.head, self.tail))

    def extend(self, rows: Rows, *, ordered: bool = False) -> list[Rows]:
        """Add rows after the others; return those that are at neither end, in order.

        Parameters
        ----------
        rows
            Columns (n,); the rows that are kept are copied.
        ordered
            Whether the rows of the ends are sorted; then these are sorted into them.
        """
        put = _merged if ordered else concatenated
        if self.complete:
            self.count += len(rows[0])
            rows = put(self.ends, rows)
            self.head, rows = _copied(cut(rows, None, EDGE_ROWS)), cut(rows, EDGE_ROWS, None)
            self.tail = _copied(cut(rows, -EDGE_ROWS, None))
            return [cut(rows, None, -EDGE_ROWS)]
        self.count += len(rows[0])
        # rows that come after the whole tail need not be copied together with it
        start = int(np.searchsorted(rows[0], self.tail[0][-1], side="right")) if ordered else 0
        if len(rows[0]) - start < EDGE_ROWS:
            rows = put(self.tail, rows)
            self.tail = _copied(cut(rows, -EDGE_ROWS, None))
            return [cut(rows, None, -EDGE_ROWS)]
        between = [put(self.tail, cut(rows, None, start)), cut(rows, start, -EDGE_ROWS)]
        self.tail = _copied(cut(rows, -EDGE_ROWS, None))
        return between

    def followed_by(self, later: "Edges") -> "Edges":
        """Return the edges of this part and a later one together."""
        joined = Edges(self.count, self.head, self.tail)
        if later.complete:
            joined.extend(later.ends)
            return joined
        if self.complete:
            joined.head = cut(concatenated(self.ends, later.head), None, EDGE_ROWS)
        joined.count, joined.tail = self.count + later.count, later.tail
        return joined


EdgesT = TypeVar("EdgesT", bound=Edges)


def join_closest(parts: list[EdgesT], join: Callable[[EdgesT, EdgesT], EdgesT | None]) -> bool:
    """Join neighbours of a list in order of time, in place, until few enough are left.

    Parameters
    ----------
    parts
        In order of time.
    join
        Returns two neighbours as one, or None if that is impossible.

    Returns
    -------
    bool
        Whether at most `MOST_SEGMENTS` are left; False if two could not be joined.
    """
    while len(parts) > MOST_SEGMENTS:
        gaps = [right.first - left.last for left, right in pairwise(parts)]
        i = gaps.index(min(gaps))
        joined = join(*parts[i : i + 2])
        if joined is None:
            return False
        parts[i : i + 2] = [joined]
    return True


@dataclass(slots=True, eq=False)
class Segment(Edges, Generic[RunT]):
    """Rows sorted by stamp and id: their edges, and the run of the rows between them.

    Attributes
    ----------
    body
        The run of the rows between head and tail, None if there are none.
    end
        Stamp and id of the last row that the body was fed.
    """

    body: RunT | None = None
    end: Key = (0, 0)

    def __post_init__(self) -> None:
        Edges.__post_init__(self)
        if not self.count:
            raise ValueError("a segment must have at least 1 row, got 0")
        if (self.body is None) != self.complete:
            raise ValueError(
                f"a segment must have a body if it has more than {2 * EDGE_ROWS:,} rows and none "
                f"otherwise, got {self.count:,} rows {'without' if self.body is None else 'with'} "
                "a body"
            )

    @property
    def key(self) -> Key:
        """Stamp and id of the first row."""
        return _key(self.head, 0)

    @property
    def first(self) -> int:
        """The first stamp."""
        return int(self.head[0][0])

    @property
    def last(self) -> int:
        """The last stamp."""
        return int((self.tail if len(self.tail[0]) else self.head)[0][-1])

    @property
    def spacing(self) -> float:
        """Mean distance of the stamps."""
        return (self.last - self.first) / max(self.count - 1, 1)

    def takes(self, rows: Rows) -> bool:
        """Return whether no row belongs before the end of the body."""
        return self.body is None or _key(rows, 0) >= self.end

    def add(self, rows: Rows, empty: RunT) -> None:
        """Add rows that this segment `takes`; `empty` is a run that was fed no rows."""
        for between in self.extend(rows, ordered=True):
            self.feed(between, empty)

    def feed(self, rows: Rows, empty: RunT) -> None:
        """Feed rows that come after the head to the body."""
        n = len(rows[0])
        if not n:
            return
        body = self.started(empty)
        for start in range(0, n, FEED_ROWS):
            body.feed(cut(rows, start, start + FEED_ROWS))
        self.end = _key(rows, -1)

    def started(self, empty: RunT) -> RunT:
        """Return the body; a new one starts after the head, with all counters at 0."""
        if self.body is None:
            run = copy.deepcopy(empty)
            run.feed(self.head)
            self.body = run.fresh()
        return self.body

    def copy(self) -> Self:
        """Return a segment that can be changed without changing this one."""
        return replace(self, body=copy.deepcopy(self.body))

    def joined(self, later: Self, empty: RunT) -> Self | None:
        """Return this segment and `later`, which begins later, as one; None if they overlap."""
        if later.body is None and self.takes(later.head):
            joined = self.copy()
            joined.add(later.ends, empty)
            return joined
        left, right = self, later
        if right.body is None:  # its rows may all belong before the body of this one
            left, right = right, left
        loose = left.ends if left.body is None else left.tail
        assert right.body is not None
        if _key(loose, -1) > _key(right.head, EDGE_ROWS - SETTLED_ROWS):
            return None
        rows = _merged(loose, right.head)
        joined = left.copy()
        if left.body is None:
            joined.head, rows = _copied(cut(rows, None, EDGE_ROWS)), cut(rows, EDGE_ROWS, None)
        elif not left.takes(rows):
            return None
        joined.feed(rows, empty)
        joined.started(empty).follow(right.body)
        joined.count, joined.end, joined.tail = left.count + right.count, right.end, right.tail
        return joined


@dataclass(slots=True, eq=False)
class Segments(Generic[RunT]):
    """Rows that came in batches, in any order, as at most `MOST_SEGMENTS` segments.

    Parameters
    ----------
    empty
        A run that was fed no rows.

    Attributes
    ----------
    segments
        In order of time.
    reason
        Why the order of the rows is unknown, or "".
    """

    empty: RunT
    segments: list[Segment[RunT]] = field(default_factory=list)
    reason: str = ""
    _open: Segment[RunT] | None = field(default=None, init=False)  # the next batch may continue it

    def add(self, rows: Rows) -> None:
        """Add n rows in any order; rows that are in order are not sorted again."""
        if not len(rows[0]) or self.reason:
            return
        rows = _sorted(rows)
        if self._open is not None and self._open.takes(rows):
            self._open.add(rows, self.empty)
            return
        first, rest = cut(rows, None, EDGE_ROWS), cut(rows, EDGE_ROWS, None)
        self._open = Segment(len(first[0]), _copied(first), cut(rest, 0, 0))
        self.segments.append(self._open)
        self._open.add(rest, self.empty)
        self._join_neighbours()

    def merge(self, other: "Segments[RunT]") -> None:
        """Add the rows of `other`, which may be earlier, later, or both."""
        self.segments += [segment.copy() for segment in other.segments]
        self._open = None
        self.reason = self.reason or other.reason
        self._join_neighbours()

    def total(self) -> RunT:
        """Return the run of all rows, an empty one if `reason` is not empty."""
        joined: Segment[RunT] | None = None
        for segment in self.segments:
            joined = segment if joined is None else joined.joined(segment, self.empty)
            if joined is None:
                self._give_up()
                break
        whole = copy.deepcopy(self.empty)
        if joined is not None and joined.body is not None:
            whole.feed(joined.head)
            whole.follow(joined.body)
            whole.feed(joined.tail)
        elif joined is not None:
            whole.feed(joined.ends)
        return whole

    def _join_neighbours(self) -> None:
        self.segments.sort(key=lambda segment: segment.key)
        i = 0
        while i + 1 < len(self.segments):
            left, right = self.segments[i : i + 2]
            small = left.body is None and right.body is None
            near = right.first - left.last <= NEAR_SPACINGS * max(left.spacing, right.spacing)
            if small and left.count + right.count > 2 * EDGE_ROWS:
                # two small segments do not begin a body: rows between them may still come
                near = near and min(left.count, right.count) >= EDGE_ROWS
            joined = self._joined(left, right) if near else None
            if joined is None:
                i += 1
            else:
                self.segments[i : i + 2] = [joined]
        if not join_closest(self.segments, self._joined):
            self._give_up()

    def _joined(self, left: Segment[RunT], right: Segment[RunT]) -> Segment[RunT] | None:
        joined = left.joined(right, self.empty)
        if joined is not None and (self._open is left or self._open is right):
            self._open = joined
        return joined

    def _give_up(self) -> None:
        self.reason = (
            f"frames came more than {SETTLED_ROWS} places out of order, or recordings overlap"
        )
        self.segments, self._open = [], None


# -- rows -------------------------------------------------------------------------------------


def cut(rows: Rows, start: int | None, stop: int | None) -> Rows:
    """Return some of the rows, as views."""
    return tuple(column[start:stop] for column in rows)


def concatenated(first: Rows, later: Rows) -> Rows:
    """Return rows of `first`, then those of `later`; nothing is copied if either is empty."""
    if not first or not len(first[0]):
        return later
    if not later or not len(later[0]):
        return first
    return tuple(np.concatenate(columns) for columns in zip(first, later, strict=True))


def _merged(left: Rows, right: Rows) -> Rows:
    return _sorted(concatenated(left, right))


def _sorted(rows: Rows) -> Rows:
    """Return rows sorted by stamp, then id, then the other columns, so that the order is unique."""
    stamps, ids = rows[0], rows[1]
    if (stamps[1:] > stamps[:-1]).all():
        return rows
    if (stamps[1:] >= stamps[:-1]).all():
        tied = np.flatnonzero(stamps[1:] == stamps[:-1])
        if (ids[tied] < ids[tied + 1]).all():
            return rows
    order = np.lexsort(rows[::-1])
    return tuple(column[order] for column in rows)


def _copied(rows: Rows) -> Rows:
    return tuple(column.copy() for column in rows)


def _key(rows: Rows, i: int) -> Key:
    return int(rows[0][i]), int(rows[1][i])
