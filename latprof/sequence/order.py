"""Lost and late ids, jitter, time between starts, frames in flight and runs of missed deadlines.

All of it needs consecutive frames of one source. Parts of a recording merge in any order to the
same results as the whole. If parts overlap so far that the order of frames is unknown, or if frames
are missing because of sampling or loss, a result has a reason in place of numbers.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from latprof.arrays import Ints, Mask
from latprof.errors import ProfileError
from latprof.fold.grids import Grid
from latprof.frames import MISSING, Columns
from latprof.sequence.ids import NOT_AVAILABLE, SIGN_BIT, IdResult, IdRun
from latprof.sequence.segments import Rows, Segments
from latprof.sequence.timing import (
    IN_TIME,
    MISSED,
    DeadlineResult,
    InFlightResult,
    Jitter,
    JitterResult,
    PeriodResult,
    TimingRun,
)
from latprof.text import counted, quoted
from latprof.units import format_exact, format_ns, format_quantity

__all__ = [
    "Order",
    "OrderBySource",
    "OrderResults",
    "OrderSettings",
    "StartRun",
    "rows_by_source",
]

FEWEST_STAMPS = 30  # times between starts needed to tell a coarse clock from a coincidence
STEPS_BETWEEN = 8  # steps of the clock that the mean time between starts must have at least

CHUNK = 65_536  # rows folded together: larger work arrays come from fresh pages, which are slow


@dataclass(frozen=True, slots=True)
class OrderResults:
    """All results of one source; `deadline` is None without a deadline."""

    arrivals: IdResult
    jitter: JitterResult
    period: PeriodResult
    in_flight: InFlightResult
    deadline: DeadlineResult | None

    def sentence(self) -> str:
        """Return the results that are available in one line, for a report."""
        parts = [self.arrivals.sentence()]
        period, jitter, flight = self.period, self.jitter, self.in_flight
        if period.mean is not None:
            usual = ", ".join(f"{p} {format_ns(getattr(period, p))}" for p in ("p50", "p99"))
            each = f"a frame each {format_ns(period.mean)}"
            parts.append(f"{each} (std {format_ns(period.std)}, {usual})")
        if jitter.last is not None:
            parts.append(f"jitter {format_ns(jitter.last)} (at most {format_ns(jitter.peak)})")
        if flight.mean is not None:
            most = "" if flight.peak is None else f" (at most {flight.peak:,})"
            parts.append(f"{format_quantity(flight.mean)} frames in flight{most}")
        if self.deadline is not None and self.deadline.longest_run:
            missed = counted(self.deadline.longest_run, "missed deadline")
            parts.append(f"{missed} in a row at most")
        return "; ".join(parts)


@dataclass(slots=True, eq=False)
class StartRun:
    """Ids and timing in order of start; rows are (starts, ids, ends, states), see `TimingRun`.

    Ids have their sign bit inverted.
    """

    ids: IdRun = field(default_factory=IdRun)
    timing: TimingRun = field(default_factory=TimingRun)

    def feed(self, rows: Rows) -> None:
        """Add rows that come after all others."""
        if len(rows[0]):
            self.ids.feed(rows[1])
            self.timing.feed(rows)

    def fresh(self) -> Self:
        """Return a run that starts where this one stands, with all counters at 0."""
        return type(self)(self.ids.fresh(), self.timing.fresh())

    def follow(self, body: Self) -> None:
        """Add the counts of a run that began as `fresh` and was fed the rows that come next."""
        self.ids.follow(body.ids)
        self.timing.follow(body.timing)


@dataclass(frozen=True, slots=True)
class OrderSettings:
    """Settings that two orders must have in common to merge.

    Parameters
    ----------
    id_bits
        From 8 to 32 if ids start again after 2**id_bits, as RTP's do after 2**16; 64 if they do
        not.
    deadline_ns
        The longest time that a frame may take, or None without a deadline.
    deadline_span
        ``"end_to_end"`` or ``"response"``.

    Raises
    ------
    ProfileError
        Another number of bits or span, or a deadline below 0.
    """

    id_bits: int = 64
    deadline_ns: int | None = None
    deadline_span: str = "end_to_end"

    def __post_init__(self) -> None:
        if self.id_bits != 64 and not 8 <= self.id_bits <= 32:
            raise ProfileError(
                "id_bits must be from 8 to 32, or 64 for ids that do not wrap, got "
                f"{self.id_bits}; RTP sequence numbers have 16"
            )
        if self.deadline_span not in ("end_to_end", "response"):
            got = quoted(self.deadline_span)
            raise ProfileError(f"deadline_span must be 'end_to_end' or 'response', got {got}")
        if self.deadline_ns is not None and self.deadline_ns < 0:
            raise ProfileError(f"deadline must be 0 ns or more, got {self.deadline_ns} ns")

    @property
    def marks(self) -> tuple[str, ...]:
        """The marks that frames need to have."""
        due = ("due",) if self.deadline_span == "response" and self.deadline_ns is not None else ()
        return (*due, "start", "end")

    def check_equal(self, other: "OrderSettings") -> None:
        """Raise a ProfileError if the settings differ."""
        if other != self:
            raise ProfileError(
                "orders of frames must have the same id_bits and deadline to merge, got "
                f"{self} and {other}; analyze both with the same settings"
            )


@dataclass(slots=True, eq=False)
class Order:
    """Results that depend on the order of the frames of one source; orders of parts can be merged.

    Its size does not grow with the frames: it keeps up to 2,048 rows at each end of consecutive
    frames, and at most 128 such segments. Frames near the ends of batches may be up to 512 places
    out of order.

    Attributes
    ----------
    reason
        Why frames are missing, such as ``"sampling rate 0.1"``, or ""; then nothing is available.
    grids
        The steps of the clock in starts and ends: coarse stamps do not show order, pace and jitter.

    Examples
    --------
    >>> start = np.array([0, 20, 40, 60])
    >>> order = Order(OrderSettings(deadline_ns=9))
    >>> ids = np.array([1, 2, 5, 4], np.uint64)
    >>> order.add(Columns(ids, {"start": start, "end": start + [3, 25, 9, 10]}))
    >>> results = order.results()
    >>> results.arrivals.sentence()
    '1 frame lost (at most 1 in a row); 1 gap; 1 frame late'
    >>> results.deadline.misses, results.deadline.last_missed, results.in_flight.peak
    (2, 4, 2)
    """

    settings: OrderSettings = OrderSettings()
    reason: str = ""
    frames: int = 0
    grids: dict[str, Grid] = field(default_factory=lambda: {"start": Grid(), "end": Grid()})
    by_start: Segments[StartRun] = field(default_factory=lambda: Segments(StartRun()))
    by_end: Segments[Jitter] = field(default_factory=lambda: Segments(Jitter()))

    def __post_init__(self) -> None:
        self.by_start.empty.ids.bits = self.settings.id_bits
        try:
            if self.by_start.segments or self.by_end.segments:
                self.results()  # segments that were read from a file may not fit each other
        except (LookupError, TypeError, AttributeError, ArithmeticError, AssertionError) as error:
            raise ValueError(f"by_start and by_end must fit each other, got {error!r}") from None

    def mark_incomplete(self, reason: str) -> None:
        """Note why frames are missing; then nothing is available."""
        self.reason = self.reason or reason

    def add(self, columns: Columns) -> None:
        """Add n frames, in any order; batches come in order of time.

        Recordings that do not follow each other get an `Order` each, to be merged.
        """
        self.frames += len(columns)
        if columns.weight is not None and (columns.weight != 1).any():
            self.mark_incomplete("rows represent several frames")
        if self.reason or not len(columns):
            return
        ids = columns.frame_id.view(np.int64) ^ SIGN_BIT
        starts, ends = columns.marks["start"], columns.marks["end"]
        done = columns.finished()
        begun, ended = _stamped(columns, "start"), _stamped(columns, "end")
        latencies = ends - starts
        flown = _both(begun, ended)
        self.grids["start"].add(starts if begun is None else starts[begun])
        self.grids["end"].add(ends if ended is None else ends[ended])
        if int(latencies.min()) < 0:
            flown = _both(flown, latencies >= 0)
        self.by_end.add(_chosen((ends, ids, latencies), _both(done, flown)))
        states = self._states(columns, done, ended)
        ends = ends if flown is None else np.where(flown, ends, MISSING)
        self.by_start.add(_chosen((starts, ids, ends, states), begun))

    def _states(self, columns: Columns, done: Mask | None, ended: Mask | None) -> Ints:
        """Return whether each frame was in time, missed its deadline or does not count."""
        states: Any = np.zeros(len(columns), np.int8)  # smaller than `Ints`, there is one per row
        if self.settings.deadline_ns is None:
            return states  # type: ignore[no-any-return]
        begin = "due" if self.settings.deadline_span == "response" else "start"
        latencies = columns.marks["end"] - columns.marks[begin]
        known = latencies >= 0
        stamped = _both(ended, _stamped(columns, begin))
        if stamped is not None:
            known &= stamped
        states[known] = IN_TIME
        states[known & (latencies > self.settings.deadline_ns)] = MISSED
        if done is not None:
            states[~done] = MISSED
        return states  # type: ignore[no-any-return]

    def merge(self, other: "Order") -> None:
        """Add the frames of another part of the source, earlier or later.

        Raises
        ------
        ProfileError
            `other` has other settings.
        """
        self.settings.check_equal(other.settings)
        self.mark_incomplete(other.reason)
        self.frames += other.frames
        for mark, grid in other.grids.items():
            self.grids[mark].merge(grid)
        self.by_start.merge(other.by_start)
        self.by_end.merge(other.by_end)

    def results(self, active_ns: int | None = None) -> OrderResults:
        """Return the results of all frames so far.

        Parameters
        ----------
        active_ns
            The time over which the mean number of frames in flight is taken; by default from the
            first start to the last end.
        """
        run, jitter = self.by_start.total(), self.by_end.total()
        coarse, settings = self._coarse(run.timing), self.settings
        note = self._note(self.by_start.reason or coarse)
        return OrderResults(
            run.ids.result(note),
            jitter.result(self._note(self.by_end.reason or coarse)),
            run.timing.period(note),
            run.timing.in_flight(note, active_ns),
            run.timing.deadline(note, settings.deadline_ns, settings.deadline_span),
        )

    def _coarse(self, timing: TimingRun) -> str:
        """Return which stamps are too coarse for the times between starts, or ""."""
        if timing.count < FEWEST_STAMPS or timing.shortest == timing.longest:
            return ""
        for mark, grid in self.grids.items():
            step = grid.resolution
            if step is not None and step * STEPS_BETWEEN > timing.total / timing.count:
                return f"{mark} has a resolution of {format_exact(step)}"
        return ""

    def _note(self, why: str) -> str:
        why = self.reason or why
        return NOT_AVAILABLE + why if why else ""


# -- all sources --------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class OrderBySource:
    """One `Order` per source. Batches of one recording must be added in order of time.

    Attributes
    ----------
    ended
        The orders of recordings that have ended, by source; None for frames without a source.
    """

    settings: OrderSettings = OrderSettings()
    ended: dict[str | None, Order] = field(default_factory=dict)
    _running: dict[str | None, Order] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        for order in self.ended.values():
            self.settings.check_equal(order.settings)

    def add(self, columns: Columns, sampling_rate: float) -> None:
        """Add a batch of the recording that is being read."""
        columns = columns.only([*self.settings.marks, "source", "outcome", "weight"])
        for begin in range(0, len(columns), CHUNK):
            chunk = columns.take(slice(begin, begin + CHUNK))
            for source, rows in rows_by_source(chunk):
                if source not in self._running:
                    self._running[source] = Order(self.settings)
                if sampling_rate < 1:
                    self._running[source].mark_incomplete(f"sampling rate {sampling_rate:g}")
                self._running[source].add(chunk.take(rows))

    def end_recording(self, lost: int = 0) -> None:
        """End a recording, of which `lost` frames are missing."""
        for source, order in self._running.items():
            if lost:
                order.mark_incomplete(f"{counted(lost, 'frame')} lost here")
            if source in self.ended:
                self.ended[source].merge(order)
            else:
                self.ended[source] = order
        self._running = {}

    def merge(self, other: "OrderBySource") -> None:
        """Add the recordings of `other`.

        Raises
        ------
        ProfileError
            `other` has other settings.
        """
        self.settings.check_equal(other.settings)
        self.end_recording()
        for orders in (other.ended, other._running):
            for source, order in orders.items():
                self.ended.setdefault(source, Order(self.settings)).merge(order)

    @property
    def by_source(self) -> dict[str | None, Order]:
        """The order of each source; None for frames without a source."""
        self.end_recording()
        return dict(self.ended)

    def results(
        self, active_ns: int | None = None, without_ids: str = ""
    ) -> dict[str, OrderResults]:
        """Return the results by source, ``""`` for frames without a source.

        `without_ids` is why the ids of the frames show nothing, if that is so.
        """
        found = {source or "": order.results(active_ns) for source, order in self.by_source.items()}
        why = without_ids or self._shared(found)
        if not why:
            return found
        note = NOT_AVAILABLE + why
        return {
            source: replace(each, arrivals=IdResult(frames=each.arrivals.frames, note=note))
            for source, each in found.items()
        }

    def _shared(self, found: dict[str, OrderResults]) -> str:
        """Return a note if sources share one counter of ids and most lost ids are due to that.

        They share one if no two sources have the same id, and if the ids of all sources together
        are nearly complete; of each source only the ids at the ends are compared one by one.
        """
        lost = sum(each.arrivals.lost or 0 for each in found.values())
        if len(found) < 2 or not lost or self.settings.id_bits < 64:
            return ""
        seen = [order.by_start.total().ids.seen for order in self.by_source.values()]
        seen = [ids for ids in seen if ids.count]
        whole = max(ids.highest for ids in seen) - min(ids.lowest for ids in seen) + 1
        absent = whole - sum(ids.count for ids in seen)
        known = np.concatenate([part for ids in seen for part in (ids.low, ids.high)])
        if not 0 <= absent * 2 < lost or len(np.unique(known)) < len(known):
            return ""
        return (
            f"sources share one counter, of which {counted(absent, 'id')} of {whole:,} never came"
        )


def rows_by_source(columns: Columns) -> Iterator[tuple[str | None, slice | Ints]]:
    """Yield each source (None for frames without one) and its rows; a slice if it has all rows.

    Examples
    --------
    >>> from latprof.frames import Labels
    >>> columns = Columns(np.arange(3), {}, source=Labels.encode(["in", "out", "in"]))
    >>> [(name, columns.frame_id[rows].tolist()) for name, rows in rows_by_source(columns)]
    [('in', [0, 2]), ('out', [1])]
    """
    if columns.source is None or not len(columns):
        yield None, slice(None)
        return
    codes = columns.source.codes
    names: tuple[str | None, ...] = (*columns.source.names, None)  # the last is found by code -1
    found = np.flatnonzero(np.bincount(codes + 1)) - 1
    for code in found.tolist():
        yield names[code], slice(None) if len(found) == 1 else np.flatnonzero(codes == code)


# -- masks, None for all rows -------------------------------------------------------------------


def _stamped(columns: Columns, mark: str) -> Mask | None:
    """Return which frames have the mark, or None if all have."""
    stamps = columns.marks[mark]
    if mark in columns.complete or int(stamps.min()) != MISSING:
        return None
    return np.not_equal(stamps, MISSING)


def _both(left: Mask | None, right: Mask | None) -> Mask | None:
    if left is None or right is None:
        return right if left is None else left
    return left & right


def _chosen(rows: Rows, mask: Mask | None) -> Rows:
    if mask is None or mask.all():
        return rows
    return tuple(column[mask] for column in rows)
