"""Causes of recordings that do not fit into memory, window by window, and of many: mergeable sums.

A recording begins with frames whose waits may have begun before it did: what they waited for is
found where the recording before it is known as well, see `latprof.queueing.edges`.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from latprof.arrays import Ints, Mask
from latprof.errors import ProfileError
from latprof.frames import Columns
from latprof.pipeline import Pipeline
from latprof.queueing.causes import Causes, causes_of, sums_of, with_facts
from latprof.queueing.edges import HELD, MOST_PIECES, Piece, Rows, corrected, early, joined
from latprof.queueing.edges import order as order_of
from latprof.queueing.evidence import Facts
from latprof.queueing.model import Picture, picture
from latprof.queueing.recordings import unavailable
from latprof.queueing.stations import places
from latprof.queueing.visits import MOST_ODD
from latprof.queueing.windows import Walk, needed

__all__ = ["Parts"]

_MOST_NOTES = 20


class Parts:
    """Causes summed over windows and recordings.

    Batches of one recording come in order; recordings that follow each other in time are taken
    as one. Parts merge in any order: sums add up, and when they are read the recordings are put in
    order of time, and the first frames of each are looked at with the last ones of the one before.
    That is what a look at all of them gives as long as the queue between two is no longer than the
    rows that are kept; frames beyond that are counted, and a note says so. Gains are those of each
    window, replayed by itself with its own medians.
    """

    def __init__(self, pipeline: Pipeline, walk: Walk | None = None) -> None:
        self.pipeline = pipeline
        self.reason = ""
        self.sums: Causes | None = None
        self.unseen = self.overlapping = 0  # beside those of the pieces
        self.parts = 0
        self.pieces: list[Piece] = []
        self._marks = places(pipeline).marks_read
        self._head: Rows | None = None  # of the recording that is being read
        self._tail: Rows | None = None
        self._early: Ints = np.zeros(0, np.int64)
        self._walk = Walk(pipeline) if walk is None else walk
        self._facts = Facts()  # of the windows that were looked at here
        self._begun = self._ended = False

    def lose(self, reason: str) -> None:
        """Say why some frames are absent: nothing is available then."""
        self.reason = self.reason or reason
        self._walk.drop()
        self.pieces, self._head, self._tail = [], None, None

    def add(
        self, columns: Columns, meta: Mapping[str, Any] | None = None, counted: Mask | None = None
    ) -> None:
        """Add n frames; those not `counted` only keep others waiting."""
        why = self.reason or unavailable(meta or {}, columns)
        if why or not len(columns):
            if why:
                self.lose(why)
            return
        if self._ended and not self._walk.goes_on(columns):
            self.close()
        self._ended = False
        self._keep(columns, counted)
        for seen in self._walk.add(columns, counted):
            self._count(seen)

    def end(self) -> None:
        """End a recording; the next one may go on with it."""
        self._ended = True

    def close(self) -> None:
        """End a recording: the next one does not go on with it."""
        self._ended = False
        for seen in self._walk.close():
            self._count(seen)
        if self._begun and self._head is not None and self._tail is not None:
            inside = int(np.count_nonzero(self._early < len(self._head)))
            whole = self._head is self._tail
            unseen = len(self._early) - inside
            self.pieces.append(Piece(whole, self._head, self._tail, inside, unseen))
            self._few()
        self._head = self._tail = None
        self._begun = False

    def _keep(self, columns: Columns, counted: Mask | None) -> None:
        """Keep the first and the last rows."""
        whole, before = self._head is self._tail, self._tail
        if whole:  # so far
            rows = self._rows(columns, counted, slice(0, HELD))
            rows = rows if before is None else before.then(rows)
            self._head = rows.cut(None, HELD)
            if len(columns) + (0 if before is None else len(before)) <= HELD:
                self._tail = self._head
                return
        rows = self._rows(columns, counted, slice(max(len(columns) - HELD, 0), len(columns)))
        if len(rows) < HELD and before is not None:
            rows = before.then(rows).cut(-HELD, None)
        self._tail = rows

    def _rows(self, columns: Columns, counted: Mask | None, cut: slice) -> Rows:
        return Rows.of(needed(columns, self._marks, cut), None if counted is None else counted[cut])

    def _count(self, seen: Picture) -> None:
        found = sums_of(seen)
        self._facts.add(seen)
        self.sums = found if self.sums is None else self.sums + found
        if not self._begun:
            self.parts += 1
            self._begun = True
            self._early = early(seen)

    def _few(self) -> None:
        """Join the closest recordings for good where there are many."""
        self.pieces.sort(key=order_of)
        while len(self.pieces) > MOST_PIECES and self.sums is not None:
            pairs = zip(self.pieces, self.pieces[1:], strict=False)
            gaps = [right.first - left.last for left, right in pairs]
            i = gaps.index(min(gaps))
            piece, seen, overlap = joined(self.pipeline, *self.pieces[i : i + 2])
            self.pieces[i : i + 2] = [piece]
            self.sums = corrected(self.sums, seen)
            self.overlapping += overlap

    def _settle(self) -> None:
        """Count all frames that came, and say in the sums what is to be said of them."""
        self.close()
        if self.sums is not None:
            self.sums, self._facts = with_facts(self.sums, self._facts), Facts()
            late = self._walk.late
            if late > MOST_ODD * self._walk.rows:
                note = (
                    f"{late:,} frames came after thousands that started later: whom they kept "
                    "waiting is not known; sort the recording by start"
                )
                self.sums = replace(self.sums, notes=(*self.sums.notes, note))
                self._walk.late = 0

    # -- merging and reading --------------------------------------------------------------------

    def copy(self) -> "Parts":
        """Return one of its own with the same sums."""
        self._settle()
        same = Parts(self.pipeline)
        same.reason, same.sums = self.reason, self.sums
        same.unseen, same.overlapping = self.unseen, self.overlapping
        same.parts, same.pieces = self.parts, list(self.pieces)
        return same

    def forget(self) -> None:
        """Drop all sums."""
        self.reason, self.sums, self.parts, self.pieces = "", None, 0, []
        self.unseen = self.overlapping = 0
        self._facts = Facts()

    def merge(self, other: "Parts") -> None:
        """Add the sums of other recordings."""
        self._settle()
        other._settle()
        if other.sums is not None:
            self.sums = other.sums if self.sums is None else self.sums + other.sums
        self.unseen += other.unseen
        self.overlapping += other.overlapping
        self.parts += other.parts
        self.pieces += other.pieces
        self._few()
        # of several reasons the same one is told in whichever order they come
        self.reason = min(filter(None, (self.reason, other.reason)), default="")

    def causes(self) -> Causes:
        """Return the causes of all frames.

        Raises
        ------
        ProfileError
            Some frames are not there.
        """
        self._settle()
        if self.reason:
            raise ProfileError(f"causes are not available: {self.reason}")
        if self.sums is None:
            return causes_of(picture(self.pipeline, _nothing(self._marks)))
        sums, unseen, overlapping = self.sums, self.unseen, self.overlapping
        whole: Piece | None = None
        for piece in sorted(self.pieces, key=order_of):
            if whole is None:
                whole = piece
                continue
            whole, seen, overlap = joined(self.pipeline, whole, piece)
            sums = corrected(sums, seen)
            overlapping += overlap
        unseen += 0 if whole is None else whole.unseen
        notes = sorted(sums.notes)[:_MOST_NOTES]
        if overlapping:
            notes.append(
                f"{overlapping + 1} recordings overlap in time: who waited for frames of another "
                "is not known"
            )
        elif self.parts > 1 and unseen:
            notes.append(
                f"{self.parts} recordings were looked at by themselves: {unseen:,} frames at "
                "their beginnings may have waited for frames of another"
            )
        return replace(sums, notes=tuple(notes))

    # -- saved form -----------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as values that JSON has."""
        self._settle()
        sums = self.sums
        return {
            "reason": self.reason,
            "unseen": self.unseen,
            "overlapping": self.overlapping,
            "parts": self.parts,
            "pieces": [piece.to_dict() for piece in self.pieces],
            "sums": None
            if sums is None
            else {
                "stages": [
                    [n, sums.own[n], sums.blamed[n], sums.total[n], sums.counts[n]]
                    for n in sums.own
                ],
                "gain": sums.gain,
                "waits": [
                    [handoff, list(path), ns]
                    for handoff, paths in sums.waits.items()
                    for path, ns in paths.items()
                ],
                "end_to_end": sums.end_to_end,
                "frames": sums.frames,
                "notes": sorted(sums.notes)[:_MOST_NOTES],
            },
        }

    @classmethod
    def from_dict(cls, pipeline: Pipeline, content: Mapping[str, Any]) -> "Parts":
        """Return what `to_dict` has written.

        Raises
        ------
        ProfileError
            What stands there cannot be.
        """
        same = cls(pipeline)
        same.reason = _text(content["reason"])
        same.unseen, same.parts = _count(content["unseen"]), _count(content["parts"])
        same.overlapping = _count(content.get("overlapping", 0))
        pieces = content.get("pieces", [])
        if len(pieces) > MOST_PIECES:
            raise ProfileError("rows of too many recordings: the file is damaged")
        same.pieces = [Piece.from_dict(same._marks, piece) for piece in pieces]
        saved = content["sums"]
        if saved is None:
            return same
        names = [stage.name for stage in pipeline.stages]
        if [row[0] for row in saved["stages"]] != names:
            raise ProfileError("causes of other stages: the file is damaged")
        waits: dict[str, dict[tuple[str, ...], float]] = {}
        for handoff, path, ns in saved["waits"]:
            if handoff not in names or not path or not set(path) <= set(names):
                raise ProfileError("waits of other stages: the file is damaged")
            waits.setdefault(handoff, {})[tuple(path)] = _number(ns)
        gain = saved["gain"]
        if gain is not None:
            if list(gain) != names:
                raise ProfileError("gains of other stages: the file is damaged")
            gain = {name: _number(ns) for name, ns in gain.items()}
        same.sums = Causes(
            {row[0]: _number(row[1]) for row in saved["stages"]},
            {row[0]: _number(row[2]) for row in saved["stages"]},
            gain,
            {row[0]: _count(row[3]) for row in saved["stages"]},
            waits,
            {row[0]: _count(row[4]) for row in saved["stages"]},
            _count(saved["end_to_end"]),
            _count(saved["frames"]),
            tuple(_text(note) for note in saved["notes"]),
        )
        return same


def _nothing(marks: tuple[str, ...]) -> Columns:
    empty = np.zeros(0, np.int64)
    return Columns(empty.view(np.uint64), dict.fromkeys(marks, empty))


def _count(value: object) -> int:
    if type(value) is not int or value < 0:
        raise ProfileError("a count in the causes that cannot be: the file is damaged")
    return value


def _number(value: object) -> float:
    if type(value) not in (int, float) or not np.isfinite(value):  # type: ignore[call-overload]
        raise ProfileError("a number in the causes that cannot be: the file is damaged")
    return value  # type: ignore[return-value]


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ProfileError("a text in the causes that cannot be: the file is damaged")
    return value
