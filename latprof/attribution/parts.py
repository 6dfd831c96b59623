"""Causes of recordings that do not fit into memory, window by window, and of many: mergeable sums.

A window of frames is looked at together with those of the window before that were still there when
its first frame started, so that whoever kept a frame waiting is known. A recording begins with
frames whose waits may have begun before it did: they are counted.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from latprof.attribution.cause import Causes, causes_of
from latprof.attribution.picture import picture
from latprof.attribution.places import places
from latprof.attribution.recordings import unavailable
from latprof.columns import MISSING, Columns
from latprof.errors import ProfileError
from latprof.pipeline import Pipeline

__all__ = ["HELD", "WINDOW", "Parts"]

WINDOW = 262_144
"""Frames that are looked at together."""

HELD = 4_096
"""Frames kept back at the end of a window: later rows may have entered a station before them."""

_MOST_NOTES = 20

Mask = npt.NDArray[np.bool_]


class Parts:
    """Causes summed over windows and recordings.

    Batches of one recording come in order; recordings that follow each other in time are taken
    as one. Sums of parts add up in any order: integers exactly, chains to float precision. What a
    merge cannot know is who the first frames of a part waited for in the part before: `unseen`
    counts these frames, their time stays their hand-off's own. The gains are those of each
    window, replayed by itself with its own medians.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.reason = ""
        self.sums: Causes | None = None
        self.unseen = 0
        self.parts = 0
        self._marks = places(pipeline).marks_read
        self._waiting: list[tuple[Columns, Mask]] = []  # frames that are not counted yet
        self._rows = 0
        self._context: Columns | None = None  # counted frames that others may have waited for
        self._delays: dict[str, npt.NDArray[np.int64]] = {}  # by station
        self._begun = self._ended = False

    def lose(self, reason: str) -> None:
        """Say why some frames are absent: nothing is available then."""
        self.reason = self.reason or reason
        self._waiting, self._context, self._rows = [], None, 0

    def add(
        self, columns: Columns, meta: Mapping[str, Any] | None = None, counted: Mask | None = None
    ) -> None:
        """Add n frames; those not `counted` only keep others waiting."""
        why = self.reason or unavailable(meta or {}, columns)
        if why or not len(columns):
            if why:
                self.lose(why)
            return
        if self._ended and not self._goes_on(columns):
            self.close()
        self._ended = False
        for start in range(0, len(columns), WINDOW):
            # a trace in memory comes as a whole: its windows are those of a file
            cut = slice(start, start + WINDOW)
            needed = Columns(
                columns.frame_id[cut],
                {mark: columns.marks[mark][cut] for mark in self._marks},
                outcome=None if columns.outcome is None else columns.outcome[cut],
                complete=columns.complete,
            )
            wanted = np.ones(len(needed), bool) if counted is None else counted[cut]
            self._waiting.append((needed, wanted))
            self._rows += len(needed)
            if self._rows >= WINDOW + HELD:
                self._look(HELD)

    def end(self) -> None:
        """End a recording; the next one may go on with it."""
        self._ended = True

    def close(self) -> None:
        """End a recording: the next one does not go on with it."""
        self._ended = False
        if self._rows:
            self._look(0)
        self._context, self._begun = None, False

    def _goes_on(self, columns: Columns) -> bool:
        """Return whether frames come after all of the recording that is being read."""
        known = self._waiting[-1][0] if self._waiting else self._context
        if known is None:
            return True
        starts, last = columns.marks["start"], known.marks["start"]
        there, before = starts[starts != MISSING], last[last != MISSING]
        return not len(there) or not len(before) or int(there.min()) >= int(before.max())

    def _look(self, held: int) -> None:
        rows = [part for part, _ in self._waiting]
        fresh = Columns.concat(rows) if len(rows) > 1 else rows[0]
        wanted = np.concatenate([mask for _, mask in self._waiting])
        counted = wanted.copy()
        counted[len(fresh) - held :] = False
        before = 0 if self._context is None else len(self._context)
        whole = fresh if self._context is None else Columns.concat([self._context, fresh])
        counted = np.concatenate([np.zeros(before, bool), counted])
        earlier = self._delays if self._begun else None
        seen = picture(self.pipeline, whole, counted=counted, earlier=earlier)
        self._delays = {name: apart.known for name, apart in seen.delays.items()}
        found = causes_of(seen)
        self.sums = found if self.sums is None else self.sums + found
        if not self._begun:
            self.parts += 1
            self._begun = True
            for mine in seen.visits.values():
                if len(mine):
                    early = (mine.arrive < mine.begin[0]) & (mine.arrive != MISSING)
                    early &= mine.begin > mine.begin[0]
                    # frames before the first that was seen to enter may have been in front
                    early &= seen.delays[mine.station].queued
                    self.unseen += int(np.count_nonzero(early & seen.counted[mine.frame]))
        cut = len(fresh) - held
        rest = fresh.take(slice(cut, None))
        self._waiting = [(rest, wanted[cut:])] if held else []
        self._rows = held
        self._context = self._still_there(whole.take(slice(0, before + cut)), rest)

    def _still_there(self, past: Columns, rest: Columns) -> Columns:
        """Return the frames of the past that were there when the others started, and some more."""
        starts = rest.marks["start"]
        there = starts[starts != MISSING]
        keep = np.zeros(len(past), bool)
        keep[-HELD:] = True
        if len(there):
            latest = np.max([past.marks[mark] for mark in self._marks], axis=0)
            keep |= latest >= int(there.min())
        return past.take(keep)

    # -- merging and reading --------------------------------------------------------------------

    def copy(self) -> "Parts":
        """Return one of its own with the same sums."""
        self.close()
        same = Parts(self.pipeline)
        same.reason, same.sums = self.reason, self.sums
        same.unseen, same.parts = self.unseen, self.parts
        return same

    def forget(self) -> None:
        """Drop all sums."""
        self.reason, self.sums, self.unseen, self.parts = "", None, 0, 0

    def merge(self, other: "Parts") -> None:
        """Add the sums of other recordings."""
        self.close()
        other.close()
        if other.sums is not None:
            self.sums = other.sums if self.sums is None else self.sums + other.sums
        self.unseen += other.unseen
        self.parts += other.parts
        # of several reasons the same one is told in whichever order they come
        self.reason = min(filter(None, (self.reason, other.reason)), default="")

    def causes(self) -> Causes:
        """Return the causes of all frames.

        Raises
        ------
        ProfileError
            Some frames are not there.
        """
        self.close()
        if self.reason:
            raise ProfileError(f"causes are not available: {self.reason}")
        if self.sums is None:
            return causes_of(picture(self.pipeline, _nothing(self._marks)))
        notes = sorted(self.sums.notes)[:_MOST_NOTES]
        if self.parts > 1 and self.unseen:
            notes.append(
                f"{self.parts} recordings were looked at by themselves: {self.unseen:,} frames at "
                "their beginnings may have waited for frames of another"
            )
        return Causes(
            self.sums.own,
            self.sums.blamed,
            self.sums.gain,
            self.sums.total,
            self.sums.waits,
            self.sums.counts,
            self.sums.end_to_end,
            self.sums.frames,
            tuple(notes),
        )

    # -- saved form -----------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as values that JSON has."""
        self.close()
        sums = self.sums
        return {
            "reason": self.reason,
            "unseen": self.unseen,
            "parts": self.parts,
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
