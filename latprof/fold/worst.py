"""Keeps frames to look at: the slowest ones, and an example from each coarse bin of latency."""

from dataclasses import dataclass, field
from operator import itemgetter
from typing import Annotated

import numpy as np

from latprof.arrays import Bounds, FrameId, Ids, Ints, Latency, Stamp
from latprof.frames import MISSING, Columns, Labels
from latprof.histogram import COARSE, bin_edges, bin_of, coarse_bin
from latprof.units import STAMP_LIMIT

__all__ = ["MOST_WORST", "NO_FRAME_ID", "PackedWorst", "Worst", "WorstFrame", "offer_exemplars"]

MOST_WORST = 100
"""Number of slowest frames that a profile keeps."""

NO_FRAME_ID = 2**64 - 1
"""Stored for a coarse bin without an exemplar: the largest id, which a frame may have as well."""

_Key = tuple[int | bool | str, ...]


@dataclass(frozen=True, slots=True)
class WorstFrame:
    """A slow frame. `marks` holds UTC ns by mark, without the missing ones."""

    frame_id: FrameId
    end_to_end_ns: Latency
    source: str | None
    marks: dict[str, Stamp]

    @property
    def response_ns(self) -> int | None:
        """Time from when the frame was due to its end, or None if that is not known."""
        due = self.marks.get("due")
        return None if due is None else self.marks["end"] - due


@dataclass(slots=True, eq=False)
class PackedWorst:
    """The slowest frames as columns: in little memory, and as they are saved.

    Attributes
    ----------
    frame_id, end_to_end_ns, source
        (n,) as in `WorstFrame`.
    stamps
        (marks, n) UTC ns, `MISSING` if a frame lacks the mark.
    """

    marks: tuple[str, ...]
    frame_id: Ids
    end_to_end_ns: Annotated[Ints, Bounds(0, 2 * STAMP_LIMIT - 2)]
    source: tuple[str | None, ...]
    stamps: Annotated[Ints, Bounds(MISSING, STAMP_LIMIT - 1)]

    def __post_init__(self) -> None:
        """Check the shapes and the stamps.

        Raises
        ------
        ValueError
            The columns have different lengths, or a stamp is out of range.
        """
        n = len(self.source)
        if self.frame_id.shape != (n,) or self.end_to_end_ns.shape != (n,):
            raise ValueError(
                "frame_id, end_to_end_ns and source must have one length, got shapes "
                f"{self.frame_id.shape}, {self.end_to_end_ns.shape} and {(n,)}"
            )
        if self.stamps.shape != (len(self.marks), n):
            raise ValueError(
                f"stamps must have the shape {(len(self.marks), n)}, got {self.stamps.shape}"
            )
        if ((self.stamps != MISSING) & (self.stamps <= -STAMP_LIMIT)).any():
            raise ValueError("stamps must be above -2**62")

    def unpacked(self) -> "Worst":
        """Return the frames, to which others may be added."""
        frames = []
        columns = self.frame_id, self.end_to_end_ns, self.stamps.T
        for frame_id, total, stamps, source in zip(
            *(column.tolist() for column in columns), self.source, strict=True
        ):
            known = zip(self.marks, stamps, strict=True)
            marks = {mark: ns for mark, ns in known if ns != MISSING}
            frames.append(WorstFrame(frame_id, total, source, marks))
        return Worst(self.marks, frames)


@dataclass(slots=True, eq=False)
class Worst:
    """The `MOST_WORST` slowest of the frames that were added, in any order.

    Of equally slow frames the smallest id comes first, then the source, then the marks.
    """

    marks: tuple[str, ...]
    frames: list[WorstFrame] = field(default_factory=list)
    _sort_keys: list[_Key] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        """Sort the frames."""
        found, self.frames = self.frames, []
        self.keep(found)

    @property
    def limit_ns(self) -> int:
        """The latency (ns) below which a frame is not among the slowest, 0 if there is room."""
        return 0 if len(self.frames) < MOST_WORST else self.frames[-1].end_to_end_ns

    def add(self, columns: Columns, end_to_end: Ints, high: int) -> None:
        """Add frames (n,) with their end_to_end (n,) >= 0 ns, the largest of which is `high`."""
        if high < self.limit_ns:
            return
        slow = self._slowest(columns, end_to_end)
        rows = columns.take(slow)
        sources = [None] * len(rows) if rows.source is None else rows.source.to_numpy().tolist()
        stamps = np.array([rows.marks[mark] for mark in self.marks]).T.tolist()
        found = []
        ids, totals = rows.frame_id.tolist(), end_to_end[slow].tolist()
        for frame_id, total, source, times in zip(ids, totals, sources, stamps, strict=True):
            known = {m: ns for m, ns in zip(self.marks, times, strict=True) if ns != MISSING}
            found.append(WorstFrame(frame_id, total, source, known))
        self.keep(found)

    def _slowest(self, columns: Columns, end_to_end: Ints) -> Ints:
        """Return the places of at most `MOST_WORST` frames: no other frame needs to be kept."""
        rows = np.flatnonzero(end_to_end >= self.limit_ns)
        if len(self.frames) == MOST_WORST:
            last = self.frames[-1]
            slower = end_to_end[rows] > last.end_to_end_ns
            rows = rows[slower | (columns.frame_id[rows] <= last.frame_id)]
        if len(rows) > MOST_WORST:
            slow = end_to_end[rows]
            rows = rows[slow >= np.partition(slow, -MOST_WORST)[-MOST_WORST]]
        if len(rows) > MOST_WORST:  # many are equally slow
            sources = columns.source or Labels.constant(None, len(columns))
            ranks = {name: rank for rank, name in enumerate(sorted(sources.names))}
            by_code = np.array([*map(ranks.__getitem__, sources.names), -1])  # code -1: no source
            marks = (columns.marks[mark] for mark in reversed(self.marks))
            keys = (*marks, by_code[sources.codes], columns.frame_id, -end_to_end)
            rows = rows[np.lexsort([key[rows] for key in keys])[:MOST_WORST]]
        return rows

    def packed(self) -> PackedWorst:
        """Return the frames as columns."""
        stamps = [[frame.marks.get(mark, MISSING) for frame in self.frames] for mark in self.marks]
        return PackedWorst(
            self.marks,
            np.array([frame.frame_id for frame in self.frames], np.uint64),
            np.array([frame.end_to_end_ns for frame in self.frames], np.int64),
            tuple(frame.source for frame in self.frames),
            np.array(stamps, np.int64).reshape(len(self.marks), len(self.frames)),
        )

    def merge(self, other: "Worst") -> None:
        """Add the slowest of other frames."""
        self.keep(other.frames)

    def keep(self, found: list[WorstFrame]) -> None:
        """Add frames, and remove those that are no longer among the slowest."""
        if len(self._sort_keys) != len(self.frames):
            self._sort_keys = [self._key(frame) for frame in self.frames]
        keyed = list(zip(self._sort_keys, self.frames, strict=True))
        keyed += [(self._key(frame), frame) for frame in found]
        keyed.sort(key=itemgetter(0))
        self._sort_keys = [key for key, _ in keyed[:MOST_WORST]]
        self.frames = [frame for _, frame in keyed[:MOST_WORST]]

    def _key(self, frame: WorstFrame) -> _Key:
        source = (frame.source is not None, frame.source or "")
        marks = (frame.marks.get(mark, MISSING) for mark in self.marks)
        return -frame.end_to_end_ns, frame.frame_id, *source, *marks


def offer_exemplars(exemplars: Ids, latency: Ints, low: int, high: int, frame_id: Ids) -> None:
    """Keep the smallest of the ids (n,) in each coarse bin of latencies (n,) >= 0 ns.

    `low` and `high` are the smallest and the largest latency. Ids mostly grow, so most bins have a
    smaller id already: the frames in the widest range of such bins are skipped.

    Examples
    --------
    >>> kept = np.full(100, NO_FRAME_ID, np.uint64)
    >>> offer_exemplars(kept, np.array([2, 1, 2]), 1, 2, np.array([9, 8, 7], np.uint64))
    >>> kept[coarse_bin(1)], kept[coarse_bin(2)]
    (np.uint64(8), np.uint64(7))
    """
    first, last = coarse_bin(low), coarse_bin(high)
    open_bins = np.flatnonzero(exemplars[first : last + 1] > frame_id.min())
    if not len(open_bins):
        return
    # open bins may get a smaller id: this is the widest range from `first` to `last` without one
    around = np.concatenate(([-1], open_bins, [last + 1 - first])) + first
    widest = int(np.diff(around).argmax())
    begin, end = int(around[widest]) + 1, int(around[widest + 1])
    if end > begin:
        # the smallest integer of a bin, or of the bins above it if it contains none
        from_ns, to_ns = bin_edges(np.maximum(((np.array([begin, end]) - 1) << COARSE) + 1, 0))[0]
        some = np.flatnonzero((latency < from_ns) | (latency >= to_ns))
        latency, frame_id = latency[some], frame_id[some]
    fine = bin_of(latency.astype(np.float64))
    np.minimum.at(exemplars, ((fine - 1) >> COARSE) + 1, frame_id)
