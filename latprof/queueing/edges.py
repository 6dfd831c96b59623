"""Recordings that were looked at by themselves, put together: their first and last rows are kept.

Who the first frames of a recording waited for stands at the end of the one before. What that adds
is the sums of these frames looked at with the rows before them, less what they are alone.
"""

import base64
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from latprof.arrays import Ints, Mask
from latprof.errors import ProfileError
from latprof.frames import FINISHED, MISSING, STAMP_LIMIT, Columns, Labels
from latprof.pipeline import Pipeline
from latprof.queueing.causes import Causes, sums_of
from latprof.queueing.model import Picture, picture
from latprof.queueing.stations import places
from latprof.queueing.visits import Visits

__all__ = ["HELD", "MOST_PIECES", "Piece", "Rows", "corrected", "early", "joined", "order"]

HELD = 1_024
"""Rows kept at each end of a recording: a queue between two is seen so far."""

MOST_PIECES = 128
"""Of more recordings those that are closest to each other in time are joined for good: then what is
inferred of the delay of queued frames may differ a little from that of the whole (some 0.01 %)."""

_MOST_LATER = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """The marks of n frames, which of them were finished, and which are counted."""

    marks: dict[str, Ints]
    done: Mask
    counted: Mask

    def __len__(self) -> int:
        return len(self.done)

    @classmethod
    def of(cls, columns: Columns, counted: Mask | None) -> "Rows":
        """Return copies of the rows."""
        done, every = columns.finished(), np.ones(len(columns), bool)
        return cls(
            {mark: column.copy() for mark, column in columns.marks.items()},
            every if done is None else done,
            every if counted is None else counted.copy(),
        )

    def cut(self, start: int | None, stop: int | None) -> "Rows":
        """Return copies of some."""
        at = slice(start, stop)
        marks = {mark: column[at].copy() for mark, column in self.marks.items()}
        return Rows(marks, self.done[at].copy(), self.counted[at].copy())

    def then(self, other: "Rows") -> "Rows":
        """Return these rows and others after them."""
        return Rows(
            {mark: np.concatenate([self.marks[mark], other.marks[mark]]) for mark in self.marks},
            np.concatenate([self.done, other.done]),
            np.concatenate([self.counted, other.counted]),
        )

    def columns(self) -> Columns:
        """Return them as columns."""
        outcome = Labels((~self.done).astype(np.int32), (FINISHED, "dropped"))
        return Columns(
            np.zeros(len(self), np.uint64), self.marks, outcome=None if self.done.all() else outcome
        )


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """A recording: its first and its last rows; with `whole` they are the same, and all of it.

    `early` frames of the head, and `unseen` ones after it, may have waited for frames that came
    before the recording.
    """

    whole: bool
    head: Rows
    tail: Rows
    early: int
    unseen: int

    @property
    def first(self) -> int:
        """The first start."""
        return _lowest(self.head.marks["start"])

    @property
    def last(self) -> int:
        """The last start."""
        return int(self.tail.marks["start"].max())

    def to_dict(self) -> dict[str, Any]:
        """Return it as values that JSON has."""
        ends = (self.head,) if self.whole else (self.head, self.tail)
        return {
            "early": self.early,
            "unseen": self.unseen,
            "ends": [
                {
                    "marks": {mark: _pack(column) for mark, column in rows.marks.items()},
                    "done": _pack(rows.done.astype(np.int64)),
                    "counted": _pack(rows.counted.astype(np.int64)),
                }
                for rows in ends
            ],
        }

    @classmethod
    def from_dict(cls, marks: tuple[str, ...], saved: Mapping[str, Any]) -> "Piece":
        """Return what `to_dict` has written.

        Raises
        ------
        ProfileError
            What stands there cannot be.
        """
        counts = saved["early"], saved["unseen"]
        if any(type(n) is not int or n < 0 for n in counts) or len(saved["ends"]) not in (1, 2):
            raise ProfileError("rows of causes that cannot be: the file is damaged")
        ends = [_rows(marks, end) for end in saved["ends"]]
        return cls(len(ends) == 1, ends[0], ends[-1], *counts)


def _rows(marks: tuple[str, ...], saved: Mapping[str, Any]) -> Rows:
    try:
        columns = {mark: _unpack(saved["marks"][mark], HELD) for mark in marks}
        done, counted = (_unpack(saved[name], HELD).astype(bool) for name in ("done", "counted"))
    except ValueError as error:
        raise ProfileError(f"rows of causes ({error}): the file is damaged") from None
    if {len(column) for column in (*columns.values(), counted)} != {len(done)} or not len(done):
        raise ProfileError("rows of causes are missing: the file is damaged")
    for column in columns.values():
        if (((column <= -STAMP_LIMIT) & (column != MISSING)) | (column >= STAMP_LIMIT)).any():
            raise ProfileError("stamps of causes that cannot be: the file is damaged")
    return Rows(columns, done, counted)


def order(piece: Piece) -> tuple[int, int, int]:
    """Return what recordings are sorted by."""
    return piece.first, piece.last, len(piece.head)


def corrected(sums: Causes, seen: tuple[Causes, Causes] | None) -> Causes:
    """Return sums with some frames as they are seen first, and no longer as seen second."""
    return sums if seen is None else replace(sums + seen[0] - seen[1], notes=sums.notes)


def early(seen: Picture) -> Ints:
    """Return the rows of counted frames that may have waited for others than these."""
    found = [np.zeros(0, np.int64)]
    for mine in seen.visits.values():
        if len(mine):
            before = (mine.arrive < mine.begin[0]) & (mine.arrive != MISSING)
            before &= mine.begin > mine.begin[0]
            # frames before the first that was seen to enter may have been in front
            before &= seen.delays[mine.station].queued & seen.counted[mine.frame]
            found.append(mine.frame[before])
    return np.concatenate(found)


def joined(
    pipeline: Pipeline, left: Piece, right: Piece
) -> tuple[Piece, tuple[Causes, Causes] | None, bool]:
    """Return two recordings as one, of which `left` begins first.

    Returns
    -------
    Piece
        Of both.
    tuple of Causes or None
        The sums of frames with what is known of the other recording, and without: of those of the
        right one; of all where both are short.
    bool
        Whether they overlap in time: then nothing is known of who waited for whom.
    """
    # rows near the cut may be a little out of order
    overlap = float(np.mean(left.tail.marks["start"] > right.first)) > _MOST_LATER
    unseen = left.unseen + right.unseen
    if overlap:
        tail = max(left, right, key=lambda piece: piece.last).tail
        return Piece(False, left.head, tail, left.early, unseen + right.early), None, True
    head, tail = left.head, right.tail
    if left.whole:
        head = head.then(right.head).cut(None, HELD)
    if right.whole:
        tail = left.tail.then(tail).cut(-HELD, None)
    whole = left.whole and right.whole and len(left.head) + len(right.head) <= HELD
    latest = max(int(column.max()) for column in left.tail.marks.values())
    if right.first > latest:  # nobody was there any more
        return Piece(whole, head, tail, left.early, unseen), None, False
    both = left.tail.then(right.head)
    counted, fresh = both.counted.copy(), np.ones(len(both), bool)
    if not whole:  # else all of it is looked at once more: nothing of it is known in part only
        counted[: len(left.tail)] = fresh[: len(left.tail)] = False
    # what the first of the rows that were kept waited for is not known
    past = None if left.whole else dict.fromkeys(places(pipeline).stations, np.zeros(0, np.int64))
    seen = picture(pipeline, both.columns(), counted=counted, fresh=fresh, earlier=past)
    alone = _alone(pipeline, right, seen)
    if whole:
        alone += _alone(pipeline, left, seen)
    # the first of all frames waited for some that no recording has
    unseen += 0 if left.whole else len(early(seen))
    return Piece(whole, head, tail, left.early, unseen), (sums_of(seen), alone), False


def _alone(pipeline: Pipeline, piece: Piece, seen: Picture) -> Causes:
    """Return the sums of the first rows of a recording by themselves."""

    def served(mine: Visits) -> Visits:
        # of a part of a recording less is known than of the whole
        return mine if piece.whole else mine.served_by(seen.visits[mine.station].servers)

    rows = piece.head
    return sums_of(picture(pipeline, rows.columns(), counted=rows.counted, settle=served))


def _lowest(starts: Ints) -> int:
    return int(starts[starts != MISSING].min(initial=STAMP_LIMIT))


def _pack(column: npt.NDArray[Any]) -> str:
    """Return integers (n,) as short text: their differences, compressed.

    Examples
    --------
    >>> _unpack(_pack(np.array([5, 7, -2**63])), most=3)
    array([                   5,                    7, -9223372036854775808])
    """
    differences = np.diff(column.astype("<i8"), prepend=np.int64(0))
    # bytes of one weight next to each other: the upper ones are nearly all 0
    planes = differences.view(np.uint8).reshape(-1, 8).T.tobytes()
    return base64.b64encode(zlib.compress(planes)).decode("ascii")


def _unpack(text: str, most: int) -> npt.NDArray[np.int64]:
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
