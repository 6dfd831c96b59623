"""What depends on the order of frames: skipped and late ids, jitter, pace, frames in flight, runs.

All of it needs consecutive frames of one source. Parts of a recording merge in any order into
what the whole gives; where parts overlap so far that the order of frames is not known, and where
frames are missing by sampling or loss, there is no number, but the reason why.
"""

import math
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from latprof.arrays import Ints, Mask
from latprof.errors import ProfileError
from latprof.frames import MISSING, Columns
from latprof.sequence.answers import (
    ArrivalFacts,
    DeadlineFacts,
    FlightFacts,
    JitterFacts,
    PeriodFacts,
)
from latprof.sequence.arrivals import Arrivals
from latprof.sequence.segments import Segments
from latprof.sequence.timing import MISSED, Jitter, Pace

__all__ = ["Order", "split_by_source"]


_SMALLEST = np.int64(-(2**63))
_FORM = 1
_DAMAGED = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, AssertionError)


class Order:
    """What depends on the order of the frames of one source, mergeable.

    Its size does not grow with the frames: it keeps 1,024 rows at each end of what it has seen in
    a row, and at most 128 such segments. Frames near the ends of batches may be up to 512 places
    out of order.

    Parameters
    ----------
    mark
        Where ids are looked at.
    id_bits
        From 8 to 32: ids start again after 2**id_bits, as RTP's do after 2**16. 64: never.
    jitter_mark
        Where jitter is measured.
    deadline_ns
        Time that a frame has; None: no deadline.
    deadline_span
        ``"end_to_end"`` or ``"response"``.
    reason
        Why some frames are absent, such as ``"sampling rate 0.1"``: nothing is available then.

    Raises
    ------
    ProfileError
        Another number of bits or span, or a deadline below 0.

    Examples
    --------
    >>> start = np.array([0, 20, 40, 60])
    >>> order = Order(deadline_ns=9)
    >>> ids = np.array([1, 2, 5, 4], np.uint64)
    >>> order.add(Columns(ids, {"start": start, "end": start + [3, 25, 9, 10]}))
    >>> order.arrivals
    ArrivalFacts(mark='start', frames=4, gaps=1, reordered=1, lost=1, longest_loss=1, \
duplicates=0, note='')
    >>> order.deadline.misses, order.deadline.last_missed, order.in_flight().peak
    (2, 4, 2)
    """

    def __init__(
        self,
        *,
        mark: str = "start",
        id_bits: int = 64,
        jitter_mark: str = "end",
        deadline_ns: int | None = None,
        deadline_span: str = "end_to_end",
        reason: str = "",
    ) -> None:
        if id_bits != 64 and not 8 <= id_bits <= 32:
            raise ProfileError(f"id_bits={id_bits}: give 8 to 32, or 64 for ids that do not wrap")
        if deadline_span not in ("end_to_end", "response"):
            raise ProfileError(
                f"deadline of {deadline_span!r}: give one for 'end_to_end' or 'response'"
            )
        if deadline_ns is not None and deadline_ns < 0:
            raise ProfileError(f"deadline {deadline_ns} ns is negative: give 0 or more")
        self.mark = mark
        self.id_bits = id_bits
        self.jitter_mark = jitter_mark
        self.deadline_ns = deadline_ns
        self.deadline_span = deadline_span
        self.reason = reason
        self.frames = 0
        self._arrivals = Segments(lambda: Arrivals(id_bits))
        self._jitter = Segments(Jitter)
        self._pace = Segments(Pace)

    @property
    def settings(self) -> dict[str, Any]:
        """The constructor's arguments but for `reason`: those that merge have the same."""
        return {
            "mark": self.mark,
            "id_bits": self.id_bits,
            "jitter_mark": self.jitter_mark,
            "deadline_ns": self.deadline_ns,
            "deadline_span": self.deadline_span,
        }

    @property
    def marks(self) -> tuple[str, ...]:
        """The marks that columns need to have."""
        due = ("due",) if self.deadline_span == "response" and self.deadline_ns is not None else ()
        return tuple(dict.fromkeys((*due, "start", self.mark, self.jitter_mark, "end")))

    def lose(self, reason: str) -> None:
        """Say why some frames are absent: nothing is available then."""
        self.reason = self.reason or reason

    # -- filling --------------------------------------------------------------------------------

    def add(self, columns: Columns) -> None:
        """Add n frames, in any order; batches come in order of time.

        Recordings that do not follow each other get an `Order` each, to be merged.
        """
        self.frames += len(columns)
        if columns.weight is not None and (columns.weight != 1).any():
            self.lose("rows stand for several frames")
        if self.reason or not len(columns):
            return
        ids = columns.frame_id
        if self.id_bits == 64:
            # the same order as signed numbers: 0 becomes the smallest
            numbers = ids.view(np.int64) ^ _SMALLEST
        else:
            numbers = (ids & np.uint64(2**self.id_bits - 1)).astype(np.int64)
        self._add_arrivals(columns, numbers)
        done = columns.finished()
        self._add_jitter(columns, numbers, done)
        self._add_pace(columns, ids.view(np.int64), done)

    def _add_arrivals(self, columns: Columns, numbers: Ints) -> None:
        there = _stamped(columns, self.mark)
        self._arrivals.add(_chosen((columns.marks[self.mark], numbers), there))

    def _add_jitter(self, columns: Columns, numbers: Ints, done: Mask | None) -> None:
        keep = _both(done, _both(*(_stamped(columns, m) for m in ("start", self.jitter_mark))))
        arrivals = columns.marks[self.jitter_mark]
        rows = _chosen((arrivals, numbers, arrivals - columns.marks["start"]), keep)
        if len(rows[2]) and int(rows[2].min()) < 0:
            rows = _chosen(rows, rows[2] >= 0)
        self._jitter.add(rows)

    def _add_pace(self, columns: Columns, ids: Ints, done: Mask | None) -> None:
        starts, ends = columns.marks["start"], columns.marks["end"]
        latencies = ends - starts
        begun, ended = _stamped(columns, "start"), _stamped(columns, "end")
        if ended is not None or int(latencies.min()) < 0:
            flown = latencies >= 0
            flown = flown if ended is None else flown & ended
            ends = np.where(flown, ends, MISSING)
        states = np.zeros(len(columns), np.int8)
        if self.deadline_ns is not None:
            if self.deadline_span == "response":
                latencies = columns.marks["end"] - columns.marks["due"]
                ended = _both(ended, _stamped(columns, "due"))
            known = latencies >= 0
            known = known if ended is None else known & ended
            np.add(known, known & (latencies > self.deadline_ns), out=states, dtype=np.int8)
            if done is not None:
                states[~done] = MISSED
        self._pace.add(_chosen((starts, ids, ends, states), begun))

    def merge(self, other: "Order") -> None:
        """Add the frames of another part of the source, earlier or later.

        Raises
        ------
        ProfileError
            It has other settings.
        """
        if other.settings != self.settings:
            raise ProfileError(
                f"order with {other.settings} does not merge with {self.settings}: "
                "use the same settings for both"
            )
        self.lose(other.reason)
        self.frames += other.frames
        self._arrivals.merge(other._arrivals)
        self._jitter.merge(other._jitter)
        self._pace.merge(other._pace)

    # -- reading --------------------------------------------------------------------------------

    @property
    def arrivals(self) -> ArrivalFacts:
        """Gaps, lost, late and repeated ids."""
        run: Arrivals = self._arrivals.total()
        note = self._note(self._arrivals.reason or run.reason)
        if note:
            return ArrivalFacts(self.mark, run.count, note=note)
        lost, longest = run.seen.lost, run.seen.longest_gap
        duplicates = run.count - run.seen.count
        return ArrivalFacts(
            self.mark, run.count, run.gaps, run.reordered, lost, longest, duplicates
        )

    @property
    def jitter(self) -> JitterFacts:
        """Inter-arrival jitter; all None with fewer than two frames."""
        run: Jitter = self._jitter.total()
        note = self._note(self._jitter.reason)
        if note or not run.count:
            return JitterFacts(self.jitter_mark, note=note)
        return JitterFacts(self.jitter_mark, run.value, run.peak, run.total / run.count)

    @property
    def period(self) -> PeriodFacts:
        """Time between starts; None with fewer than two frames, `std` with fewer than three."""
        run, note = self._paced()
        if note or not run.count:
            return PeriodFacts(run.count, note=note)
        std = math.sqrt(max(run.m2, 0.0) / (run.count - 1)) if run.count > 1 else None
        return PeriodFacts(run.count, run.total / run.count, std, run.shortest, run.longest)

    def in_flight(self, active_ns: int | None = None) -> FlightFacts:
        """Return how many frames are in flight, over `active_ns`, else first start to last end."""
        run, note = self._paced()
        if note or not run.flown:
            return FlightFacts(note=note)
        if active_ns is None and run.first is not None and run.last_end is not None:
            active_ns = run.last_end - run.first
        mean = run.flight / active_ns if active_ns and active_ns > 0 else None
        lost = self._note(run.reason)
        return FlightFacts(mean, None if lost else len(run.rises), lost)

    @property
    def deadline(self) -> DeadlineFacts | None:
        """Misses of the deadline; None if there is none."""
        if self.deadline_ns is None:
            return None
        run, note = self._paced()
        if note:
            return DeadlineFacts(self.deadline_ns, self.deadline_span, note=note)
        frames, misses = run.streak.count, run.misses
        return DeadlineFacts(
            self.deadline_ns,
            self.deadline_span,
            frames,
            misses,
            misses / frames if frames else None,
            run.streak.best,
            None if run.first_missed is None else run.first_missed % 2**64,
            None if run.last_missed is None else run.last_missed % 2**64,
        )

    def results(self, active_ns: int | None = None) -> dict[str, Any]:
        """Return all facts as values that JSON has."""
        deadline = self.deadline
        return {
            "arrivals": asdict(self.arrivals),
            "jitter": asdict(self.jitter),
            "period": asdict(self.period),
            "in_flight": asdict(self.in_flight(active_ns)),
            "deadline": None if deadline is None else asdict(deadline),
        }

    def _paced(self) -> tuple[Pace, str]:
        run = self._pace.total()
        return run, self._note(self._pace.reason)

    def _note(self, why: str) -> str:
        why = self.reason or why
        return f"not available: {why}" if why else ""

    # -- saved form -----------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as values that JSON has, some 40 kB for one recording."""
        return {
            "form": _FORM,
            "settings": self.settings,
            "reason": self.reason,
            "frames": self.frames,
            "arrivals": self._arrivals.to_dict(),
            "jitter": self._jitter.to_dict(),
            "pace": self._pace.to_dict(),
        }

    @classmethod
    def from_dict(cls, content: object) -> "Order":
        """Return what `to_dict` has written.

        Raises
        ------
        ProfileError
            Another form, or a damaged one.
        """
        saved: Any = content
        if not isinstance(content, dict) or content.get("form") != _FORM:
            raise ProfileError(
                f"the saved order of frames is not of form {_FORM}: fold the trace again"
            )
        try:
            same = cls(**saved["settings"], reason=str(saved["reason"]))
            same.frames = int(saved["frames"])
            same._arrivals.read(saved["arrivals"])
            same._jitter.read(saved["jitter"])
            same._pace.read(saved["pace"])
            same.results()  # numbers that do not fit each other are found now
        except _DAMAGED as error:
            raise ProfileError(
                f"the saved order of frames is damaged ({error}): fold the trace again"
            ) from None
        return same


def split_by_source(
    columns: Columns, marks: tuple[str, ...] | None = None
) -> Iterator[tuple[str | None, Columns]]:
    """Yield each source with its frames; nothing is copied where there is only one.

    Parameters
    ----------
    columns
        n frames.
    marks
        The marks to hand on, `Order.marks`; None: all. Sizes, tags and the like are not.

    Examples
    --------
    >>> from latprof.frames import Labels
    >>> columns = Columns(np.arange(3), {}, source=Labels.encode(["in", "out", "in"]))
    >>> [(name, rows.frame_id.tolist()) for name, rows in split_by_source(columns)]
    [('in', [0, 2]), ('out', [1])]
    """
    names = columns.marks if marks is None else marks
    needed = Columns(
        columns.frame_id,
        {mark: columns.marks[mark] for mark in names},
        outcome=columns.outcome,
        weight=columns.weight,
        complete=columns.complete,
    )
    if columns.source is None or not len(columns):
        yield None, needed
        return
    codes = columns.source.codes
    table: tuple[str | None, ...] = (*columns.source.names, None)  # the last is what -1 finds
    found = np.flatnonzero(np.bincount(codes + 1)) - 1
    for code in found.tolist():
        rows = needed if len(found) == 1 else needed.take(np.flatnonzero(codes == code))
        yield table[code], rows


def _stamped(columns: Columns, mark: str) -> Mask | None:
    """Return which frames have the mark; None: all."""
    stamps = columns.marks[mark]
    if mark in columns.complete or int(stamps.min()) != MISSING:
        return None
    return np.not_equal(stamps, MISSING)


def _both(left: Mask | None, right: Mask | None) -> Mask | None:
    if left is None or right is None:
        return right if left is None else left
    return left & right


def _chosen(
    columns: tuple[npt.NDArray[Any], ...], mask: Mask | None
) -> tuple[npt.NDArray[Any], ...]:
    if mask is None or mask.all():
        return columns
    return tuple(column[mask] for column in columns)
