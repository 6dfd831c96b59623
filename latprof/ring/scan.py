"""The result of a scan of a ring file: rows, and the state of slots and numbers without a row.

A scan reads the slots one after the other. While a process records, a slot may be read in the
middle of a write, and a row may be written after its slot was read. Such rows are neither torn nor
lost: their slots are read again, and the last read counts. In the end each sequence number up to
the newest number that was found has a row, is unfinished (its row is still being written), or is
lost; and each slot has given a row, is being written, is torn, or was never written.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from latprof.arrays import Ints, Mask

__all__ = ["NEWEST", "NO_NUMBERS", "Scan", "SlotTable"]

NO_NUMBERS: Ints = np.empty(0, np.int64)

NEWEST = 64
"""How many numbers on either side of the newest one may be in the middle of a write: more than the
threads that are interrupted at once between claiming a number and the end of its row."""


_SLOT = np.dtype([("slot", "i8"), ("number", "i8"), ("whole", "?"), ("empty", "?"), ("moved", "?")])


@dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """The result of one scan of a ring file.

    Parameters
    ----------
    rows
        (n,) of the ring's `dtype`: rows that are whole and valid, in commit order.
    newest
        The largest sequence number that was found up to now.
    unfinished
        Sequence numbers up to `newest` that are still being written: to be passed to the next
        scan.
    in_flight
        Number of frames in flight: those of `flights`, and frames with a row that is being written:
        the numbers in `unfinished`, and numbers above `newest` that were begun in their slots. The
        row of an unfinished number may not have reached its slot yet, so `in_flight` can be more
        than `being_written`.
    lost
        Requested numbers up to `newest` without a row, of frames that are not in flight:
        overwritten, torn or refused.
    torn
        Slots that hold part of a row that no process is writing any more.
    torn_lost
        How many of the torn slots have a number up to `newest`, which is counted in `lost`, too.
    torn_in_flight
        How many of the torn slots have the number of a frame in flight, which was being finished
        when its process died.
    refused
        Rows that are whole but invalid: with a name that the file does not have, a mark that the
        process does not own, or a stamp out of range.
    never_written
        Slots that are as they were when the file was created.
    flights
        (n,) of the ring's `dtype`: the slots of frames in flight, see `latprof.ring.layout`.
    being_written
        Slots near the newest number with a row that a living process has begun or is about to
        begin, slots with a row that was written during the scan and is left for the next one, and
        slots that changed whenever they were read.
    cut_off
        Slots beyond the end of the file.
    rejected
        Rows of frames that were rejected, by reason. They are not in `rows`.
    refused_flights
        Slots of frames in flight with invalid values. They are not in `flights`.
    """

    rows: npt.NDArray[np.void]
    newest: int
    unfinished: Ints
    in_flight: int
    lost: int
    torn: int
    torn_lost: int
    never_written: int
    being_written: int
    flights: npt.NDArray[np.void]
    torn_in_flight: int = 0
    refused: int = 0
    cut_off: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    refused_flights: int = 0


class _Gaps(NamedTuple):
    """The slots of a `SlotTable` that do not hold their latest row.

    The *latest* number of a slot is the largest one up to the newest number that belongs to it::

        capacity 4, newest 6      slot 0    slot 1    slot 2    slot 3
        holds the row of               5         6         3         -
        latest number                  5         6         3         4    -> number 4 is missing
    """

    place: Ints  # in the table
    state: npt.NDArray[np.void]
    latest: Ints
    number: Ints  # of the row or part of a row in the slot; a guess if that is unknown
    missing: Mask  # the latest number is requested, has no row, and may get one
    unfinished: Mask  # as `missing`, and the row may still be being written


class SlotTable:
    """The slots that a scan has read, each as it was read last.

    Parameters
    ----------
    dtype, capacity
        The type of a row, and the number of slots of the ring.
    after
        Rows with numbers above `after` are requested; 0 requests all rows.
    unfinished
        (n,) numbers up to `after` that are requested, too.

    Attributes
    ----------
    newest
        The largest requested number that was found, or `after`.
    frozen
        If true, `newest` does not grow any more, and newer rows are left for the next scan.
        Otherwise a fast writer could keep the scan from terminating.
    """

    def __init__(
        self, dtype: np.dtype[np.void], capacity: int, after: int, unfinished: Ints
    ) -> None:
        self.capacity, self.after, self._unfinished = capacity, after, unfinished
        self.newest = after
        self.frozen = False
        self._empty = np.empty(0, dtype), np.empty(0, _SLOT)
        self._chunks: list[tuple[npt.NDArray[np.void], npt.NDArray[np.void]]] = []
        self._overwritten: list[npt.NDArray[np.void]] = []  # rows of slots that were read again

    def _table(self) -> tuple[npt.NDArray[np.void], npt.NDArray[np.void]]:
        """Return the rows and the states of all slots."""
        if len(self._chunks) != 1:
            rows, states = zip(*(self._chunks or [self._empty]), strict=True)
            self._chunks = [(np.concatenate(rows), np.concatenate(states))]
        return self._chunks[0]

    @property
    def slots(self) -> Ints:
        """(n,) slots, in the order in which they were added."""
        return np.asarray(self._table()[1]["slot"])

    def add(self, slots: Ints, rows: npt.NDArray[np.void], moved: Mask) -> int:
        """Add (n,) slots with their content; return how many of the rows are requested.

        `moved` says which of the rows changed while they were read.
        """
        self._chunks.append(self._parsed(slots, rows, moved))
        return self._advance(self._chunks[-1][1])

    def update(self, places: Ints, rows: npt.NDArray[np.void], moved: Mask) -> None:
        """Replace the content of slots, given by their (n,) places in the table."""
        table, states = self._table()
        if self.after:  # a scan for new rows keeps each row that it has seen
            self._overwritten.append(table[places[self._is_found(states[places])]])
        table[places], states[places] = self._parsed(states["slot"][places], rows, moved)
        self._advance(states[places])

    def _parsed(
        self, slots: Ints, rows: npt.NDArray[np.void], moved: Mask
    ) -> tuple[npt.NDArray[np.void], npt.NDArray[np.void]]:
        """Return a copy of (n,) rows, and the states of their slots."""
        begin, seq = rows["begin"], rows["seq"]
        numbers = begin.astype(np.int64)  # below 0 if it is too large
        begun = ~moved & (numbers > 0) & ((numbers - 1) % self.capacity == slots)
        state = np.empty(len(rows), _SLOT)
        state["slot"] = slots
        state["number"] = np.where(begun, numbers, 0)
        state["whole"] = begun & (begin == seq)
        state["empty"] = ~moved & (begin == 0) & (seq == 0)
        state["moved"] = moved
        return rows.copy(), state

    def _advance(self, state: npt.NDArray[np.void]) -> int:
        found = state["number"][state["whole"] & self._is_requested(state["number"])]
        if not self.frozen:
            self.newest = max(self.newest, int(found.max(initial=0)))
        return len(found)

    def _is_requested(self, numbers: Ints) -> Mask:
        return (numbers > self.after) | np.isin(numbers, self._unfinished)

    def _is_found(self, state: npt.NDArray[np.void]) -> Mask:
        """Return which of (n,) slots hold a row of the result."""
        numbers = state["number"]
        return np.asarray(state["whole"] & self._is_requested(numbers) & (numbers <= self.newest))

    def _found(self) -> npt.NDArray[np.void]:
        """Return the requested rows in commit order, none twice."""
        rows, states = self._table()
        found = np.flatnonzero(self._is_found(states))
        rows = rows[found[np.argsort(states["number"][found], kind="stable")]]
        if self._overwritten:
            rows = np.concatenate((*self._overwritten, rows))
            rows = rows[np.unique(rows["seq"], return_index=True)[1]]
        return rows

    def _gaps(self, *, alive: bool = True, held: Ints = NO_NUMBERS) -> _Gaps:
        newest, capacity, state = self.newest, self.capacity, self._table()[1]
        behind = (newest - 1 - state["slot"]) % capacity
        latest = np.maximum(newest - behind, 0)
        place = np.flatnonzero(~state["whole"] | (state["number"] != latest))
        behind, latest, state = behind[place], latest[place], state[place]
        begun = state["number"]
        missing = self._is_requested(latest) & (begun <= newest)
        # in a scan for new rows each number gets the time until the next scan
        oldest = min(newest - NEWEST, self.after or newest)
        unfinished = missing & ((latest > oldest) | np.isin(latest, held)) & alive
        # if a slot's number is unknown and the next lap will soon reach the slot, guess that lap's
        next_lap = (begun == 0) & ~_untouched(state, latest, capacity) & ~unfinished & alive
        next_lap &= capacity - behind <= NEWEST
        guess = np.where(next_lap, newest - behind + capacity, latest)
        number = np.where(begun > 0, begun, guess)
        return _Gaps(place, state, latest, number, missing, unfinished)

    def unsettled(self, *, near: bool) -> Ints:
        """Return the places of slots in which another read may find another row.

        Parameters
        ----------
        near
            Only slots near the newest number that may be in the middle of a write: those that
            are worth waiting for.
        """
        place, state, latest, number, missing, unfinished = self._gaps()
        if near:
            # do not wait again for a row that was unfinished in the scan before
            again = unfinished & (latest > max(self.after, self.newest - NEWEST))
            again |= ~state["whole"] & (number > self.newest)
        else:
            # rows begun up to `after` were settled by the scan before
            begun = state["number"]
            again = ~state["whole"] & ~state["empty"] & ((begun == 0) | (begun > self.after))
            again |= missing
        return np.asarray(place[again])

    @property
    def overtaken(self) -> int:
        """Number of slots that a writer has changed while they or other slots were read."""
        gaps = self._gaps()
        stale = gaps.state["whole"] & (gaps.latest > gaps.state["number"])
        return int(np.count_nonzero(gaps.state["moved"] | stale))

    def result(self, *, alive: bool, flights: npt.NDArray[np.void] | None = None) -> Scan:
        """Return the rows, and the counts of slots and numbers without a row.

        Parameters
        ----------
        alive
            Whether the process is alive and records; otherwise no row is being written.
        flights
            The slots of frames in flight. Some of them hold the number of a row that was not
            committed when they were read.
        """
        rows = self._found()
        flights = self._empty[0] if flights is None else flights
        # a row may have been overwritten between the reads of the rows and of the flights
        numbers = flights["seq"].astype(np.int64)
        settled = (numbers > 0) & ~self._is_requested(numbers)
        flights = flights[~settled & ~np.isin(flights["seq"], rows["seq"])]
        held = flights["seq"][flights["seq"] > 0].astype(np.int64)
        _, state, latest, number, _, unfinished = self._gaps(alive=alive, held=held)
        newest, whole, gap = self.newest, state["whole"], ~state["whole"] | (number > self.newest)
        # if all rows since the newest one were rejected, only the last ones may still come
        last = int(number[gap].max(initial=0))
        above = (number > newest) & (whole | (number > last - NEWEST)) & alive
        being_written = above | (gap & unfinished & (number == latest)) | (state["moved"] & alive)
        never = gap & ~being_written & _untouched(state, latest, self.capacity)
        torn = number[gap & ~being_written & ~never]
        still = np.sort(latest[unfinished])
        # a number that a frame in flight holds is not lost, and its frame counts once
        kept = held[(held <= newest) & ~np.isin(held, still)]
        requested = newest - self.after + len(self._unfinished)
        torn_held = np.isin(torn, held)
        writing = np.concatenate((still, number[above & ~whole]))
        return Scan(
            rows=rows,
            newest=newest,
            unfinished=still,
            in_flight=len(flights) + int(np.count_nonzero(~np.isin(writing, held))),
            lost=requested - len(rows) - len(still) - len(kept),
            torn=len(torn),
            torn_lost=int(
                np.count_nonzero(self._is_requested(torn) & (torn <= newest) & ~torn_held)
            ),
            torn_in_flight=int(np.count_nonzero(torn_held)),
            never_written=int(np.count_nonzero(never)),
            being_written=int(np.count_nonzero(being_written)),
            flights=flights,
        )


def _untouched(state: npt.NDArray[np.void], latest: Ints, capacity: int) -> Mask:
    """Return which of (n,) slots are as they were when the file was created.

    From the second lap on, an empty slot is not untouched: a writer may write zeros before the row.
    """
    return np.asarray(state["empty"] & (latest <= capacity))
