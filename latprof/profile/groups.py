"""The groups of a profile: their names, and packed sums if there are many groups.

Folding the frames of a group takes a few milliseconds, for one frame as for a thousand. So the
frames of many batches are gathered first, sorted by group, and then folded group by group.
"""

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from latprof.errors import ProfileError
from latprof.fold.fold import Fold
from latprof.fold.packed import PackedSums
from latprof.frames import FINISHED, Columns, Labels, as_text
from latprof.text import clip, quoted, shown_path

__all__ = [
    "NO_GROUP",
    "PackedGroup",
    "PackedGroups",
    "check_by",
    "labels_by",
    "split",
    "values_by",
]

NO_GROUP = "(none)"
"""The name of the group of frames without a value."""

GATHERED_ROWS = 1 << 16  # rows that wait for their groups, some 6 MB

PIECE_ROWS = 1 << 13  # rows folded at a time, so that no call takes long


class PackedGroup(NamedTuple):
    """The sums, rates and estimated rows of one group; see the attributes of `Profile`."""

    sums: PackedSums
    rates: Counter[float]
    by_weight: int


class PackedGroups:
    """The groups of a profile by name, and the frames that wait to be folded into them.

    Parameters
    ----------
    by_name
        The groups so far.
    empty
        The content of a new group.
    """

    def __init__(self, by_name: dict[str, PackedGroup], empty: PackedGroup) -> None:
        self.by_name = by_name
        self._empty = empty
        self._gathered: list[tuple[Columns, Labels, float]] = []
        self._rows = 0
        self._sorted: deque[tuple[str, Columns, slice, float]] = deque()

    def copy(self) -> "PackedGroups":
        """Return other groups with the same content, which is shared, as it never changes."""
        same = PackedGroups(self.by_name.copy(), self._empty)
        same._gathered, same._rows = self._gathered.copy(), self._rows
        same._sorted = self._sorted.copy()
        return same

    def new(self, name: str) -> None:
        """Begin a group."""
        self.by_name[name] = self._empty

    def add(self, columns: Columns, labels: Labels, rate: float, fold: Fold) -> None:
        """Gather n frames with the names (n,) of their groups, recorded at a sampling rate.

        About twice as many of the frames gathered before are folded, so that no call takes long.
        """
        marks = columns.marks
        kept = columns.only((*marks, "size", "source", "outcome", "weight"))
        self._gathered.append((kept, labels, rate))
        self._rows += len(columns)
        handed = 0
        while self._sorted and handed < 2 * len(columns):
            handed += self._fold_next(fold)
        if self._rows >= GATHERED_ROWS:
            while self._sorted:
                self._fold_next(fold)
            self._sort()

    def fold_all(self, fold: Fold) -> None:
        """Fold all frames that wait."""
        self._sort()
        while self._sorted:
            self._fold_next(fold)

    def _fold_next(self, fold: Fold) -> int:
        """Fold the waiting frames of one group; return their number."""
        name, columns, place, rate = self._sorted[0]
        rows = columns.take(place)
        group = self.by_name[name]
        sums = group.sums.plus(rows, fold)
        rates = group.rates.copy()
        rates[rate] += sums.finished - group.sums.finished
        weighted = 0 if rows.weight is None else int(np.count_nonzero(rows.weight > 1))
        self.by_name[name] = PackedGroup(sums, rates, group.by_weight + weighted)
        self._sorted.popleft()
        return len(rows)

    def _sort(self) -> None:
        """Sort the gathered frames by group."""
        gathered, self._gathered, self._rows = self._gathered, [], 0
        for rate in dict.fromkeys(rate for _, _, rate in gathered):
            parts = [(columns, labels) for columns, labels, each in gathered if each == rate]
            columns = Columns.concat([columns for columns, _ in parts])
            labels = Labels.concat([labels for _, labels in parts])
            columns, places = _by_group(columns, labels)
            for name, place in places:
                for begin in range(place.start, place.stop, PIECE_ROWS):
                    piece = slice(begin, min(begin + PIECE_ROWS, place.stop))
                    self._sorted.append((name, columns, piece, rate))


def split(columns: Columns, labels: Labels) -> Iterator[tuple[str, Columns]]:
    """Yield the name of each group and its frames; `labels` has a name for each frame."""
    columns, places = _by_group(columns, labels)
    for name, place in places:
        yield name, columns if len(places) == 1 else columns.take(place)


def _by_group(columns: Columns, labels: Labels) -> tuple[Columns, list[tuple[str, slice]]]:
    """Return the frames in order of their groups, and where those of each group are."""
    codes = labels.codes.astype(np.min_scalar_type(len(labels.names)))  # small types sort faster
    order = np.argsort(codes, kind="stable")
    ordered = codes[order]
    begins = np.flatnonzero(np.diff(ordered, prepend=np.int64(-1))).tolist()
    names = [labels.names[code] for code in ordered[begins].tolist()]
    places = map(slice, begins, [*begins[1:], len(order)])
    return columns if len(begins) == 1 else columns.take(order), [*zip(names, places, strict=True)]


# -- the names of groups --------------------------------------------------------------------------


def labels_by(columns: Columns, by: str) -> Labels:
    """Return the name of the group of each frame."""
    values = values_by(columns, by)
    return Labels(values.codes + np.int32(1), (NO_GROUP, *values.names))


def values_by(columns: Columns, by: str) -> Labels:
    """Return a column as names; a value has the same name in all batches of a trace.

    Raises
    ------
    ProfileError
        The column is not source, outcome or one of the tags.
    """
    if by == "source":
        missing = Labels.constant(None, len(columns))
        return missing if columns.source is None else columns.source
    if by == "outcome":
        done = Labels.constant(FINISHED, len(columns))
        if columns.outcome is None:
            return done
        known = Labels.concat([done[:1], columns.outcome])
        # a frame without an outcome is finished, which has code 0
        return Labels(np.maximum(known.codes[1:], 0), known.names)
    check_by(by, columns.tags)
    column = columns.tags[by]
    if isinstance(column, Labels):
        return column
    values, codes = np.unique(column, return_inverse=True)
    texts = as_text(values)
    # integers are floats in a batch in which some are missing: "7.0" must be named "7"
    names = tuple(name.removesuffix(".0") for name in texts.names)
    return Labels(texts.codes[codes], names)


def check_by(by: str, tags: Iterable[str], where: str = "") -> None:
    """Check that frames with these tags, of the file `where`, can be grouped by the column `by`.

    Raises
    ------
    ProfileError
        The column is not source, outcome or one of the tags.
    """
    known = ("source", "outcome", *tags)
    if not isinstance(by, str) or by not in known:
        raise ProfileError(
            f"{shown_path(where)}{': ' if where else ''}by must be one of "
            f"{', '.join(map(clip, known))}, got {quoted(by)}"
        )
