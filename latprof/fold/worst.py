"""The slowest frames, kept whole: their marks and their source."""

from dataclasses import dataclass
from operator import itemgetter

import numpy as np

from latprof.arrays import Ints
from latprof.frames import Columns

__all__ = ["MOST_WORST", "Key", "Worst", "WorstFrame"]

MOST_WORST = 100
"""How many of the slowest frames a profile keeps."""


Key = tuple[int, int, str, tuple[tuple[str, int], ...]]


@dataclass(frozen=True, slots=True)
class WorstFrame:
    """A slow frame: `marks` holds UTC ns by mark, those that are missing left out."""

    frame_id: int
    end_to_end_ns: int
    source: str | None
    marks: dict[str, int]

    def sort_key(self) -> Key:
        """Order by slowness; of equally slow frames the smallest id comes first."""
        return -self.end_to_end_ns, self.frame_id, self.source or "", tuple(self.marks.items())


class Worst:
    """The `MOST_WORST` slowest frames of those that were added, in whatever order they came."""

    def __init__(self) -> None:
        self._keyed: list[tuple[Key, WorstFrame]] = []

    @property
    def frames(self) -> list[WorstFrame]:
        """The slowest frames, the slowest first."""
        return [frame for _, frame in self._keyed]

    @property
    def limit_ns(self) -> int:
        """Frames that are quicker than this need not be added."""
        return 0 if len(self._keyed) < MOST_WORST else -self._keyed[-1][0][0]

    def add(self, columns: Columns, end_to_end: Ints, high: int, missing: int) -> None:
        """Offer frames (n,) with their latencies (n,) ns >= 0, the largest of which is `high`.

        `missing` is what no stamp is.
        """
        if high < self.limit_ns:
            return
        slow = np.flatnonzero(end_to_end >= self.limit_ns)
        if len(slow) > MOST_WORST:
            # the slowest of these, and all that are as slow as the last of them
            least = np.partition(end_to_end[slow], -MOST_WORST)[-MOST_WORST]
            slow = slow[end_to_end[slow] >= least]
            if len(slow) > MOST_WORST:
                ids = columns.frame_id[slow]
                slow = slow[np.lexsort((ids, -end_to_end[slow]))]
                # of one id and as slow as the last: the source decides, when they are kept
                last = slow[MOST_WORST - 1]
                same = columns.frame_id[slow] == columns.frame_id[last]
                same &= end_to_end[slow] == end_to_end[last]
                same[:MOST_WORST] = True
                slow = slow[same]
        if len(slow) == 0:
            return
        rows = columns.take(slow)
        sources = [None] * len(rows) if rows.source is None else rows.source.to_numpy().tolist()
        stamps = {mark: column.tolist() for mark, column in rows.marks.items()}
        found = [
            WorstFrame(
                frame_id,
                total,
                sources[i],
                {mark: times[i] for mark, times in stamps.items() if times[i] != missing},
            )
            for i, (frame_id, total) in enumerate(
                zip(rows.frame_id.tolist(), end_to_end[slow].tolist(), strict=True)
            )
        ]
        self.keep(found)

    def merge(self, other: "Worst") -> None:
        """Add the slowest of other frames."""
        self.keep(other.frames)

    def keep(self, found: list[WorstFrame]) -> None:
        """Add frames, and forget those that are no longer among the slowest."""
        self._keyed += [(frame.sort_key(), frame) for frame in found]
        self._keyed.sort(key=itemgetter(0))
        del self._keyed[MOST_WORST:]
