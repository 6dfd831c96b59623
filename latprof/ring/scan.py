"""What reads of a ring's slots amount to: rows, gaps, and what is only being written.

A look at a ring reads its slots one after the other. While a process records, a slot may be read
in the middle of its row, and a row may come after its slot was read: neither is torn or lost. Such
slots are read again, and what was read last is what counts. `RingReader.look` does the reading; a
`Sight` is told what was read, says what is worth another read, and in the end what became of each
number.

A number above `after`, up to `newest`, ends up as one of these: it has a row, it is `open` (still
being written), or it is lost; some of the lost are torn: part of the row is there. A slot ends up
as one of these: it gave a row, it is being written, torn, or was never written.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from latprof.arrays import Mask

__all__ = ["NEWEST", "Account", "Sight"]

NEWEST = 64
"""So many numbers on either side of the newest one may be being written: more than there are
threads that are held up at once between the claim of a number and the end of its row."""

_Slots = npt.NDArray[np.uint64]
_Numbers = npt.NDArray[np.uint64]
_Which = Mask

_GAP = np.dtype([("slot", np.uint64), ("begin", np.uint64), ("kind", np.uint8)])
"""A slot without a row to report. `begin` is the number of the row that was begun there; 0: not
known, or none."""

_EMPTY, _TORN, _AHEAD = range(3)
"""All zeros; part of a row; a row that is left for the next look."""


class Account(NamedTuple):
    """What became of the slots without a row, and of the numbers that have none.

    Parameters
    ----------
    torn
        Slots with part of a row, which nobody is writing any more.
    torn_before
        How many of them have numbers that are looked for, up to the newest one.
    never_written
        Slots that are as they were when the file was made.
    being_written
        Slots whose row is being written, or is left for the next look.
    open
        (n,) numbers up to the newest that are still being written.
    in_flight
        The same in numbers, and those above the newest one, as far as their slots show them. Not
        the same as `being_written`: the slot of a number may still hold an older row.
    """

    torn: int
    torn_before: int
    never_written: int
    being_written: int
    open: _Numbers
    in_flight: int


class Sight:
    """The slots of a ring, as reads of them come in.

    Parameters
    ----------
    dtype, capacity
        Of the ring.
    after
        Rows with numbers above are looked for; 0: all slots are.
    awaited
        Numbers up to `after` that are looked for, too.

    Attributes
    ----------
    beyond
        How many slots could not be read.
    newest
        The largest number that was met.
    frozen
        Rows newer than `newest` are left for the next look: else a reader would run after a quick
        writer without an end.

    Examples
    --------
    >>> row = np.dtype([("begin", "<u8"), ("seq", "<u8")])
    >>> sight = Sight(row, 4, 0, np.empty(0, np.uint64))
    >>> sight.add(np.array([(1, 1), (2, 0), (3, 3), (0, 0)], row), np.arange(4, dtype=np.uint64))
    2
    >>> sight.newest, sight.missing(), sight.unsettled()
    (3, array([2], dtype=uint64), array([1], dtype=uint64))
    >>> sight.account(live=False)[:4], sight.account(live=True).open
    ((1, 1, 1, 0), array([2], dtype=uint64))
    """

    def __init__(
        self, dtype: np.dtype[np.void], capacity: int, after: int, awaited: _Numbers
    ) -> None:
        self.capacity, self.after, self.awaited = capacity, after, awaited
        self.beyond = 0
        self.newest = after
        self.frozen = False
        self._read = 0
        self._rows = [np.empty(0, dtype)]
        self._gaps = [np.empty(0, _GAP)]

    def add(self, rows: npt.NDArray[np.void], slots: _Slots) -> int:
        """Take in the rows of slots, which `forget` was told of if they were read before.

        A row that moved while it was read, and one with what is no ticket, has `begin` 0 and
        `seq` `tickets.NO_NUMBER`: it is torn, and nobody knows what was begun there.

        Returns
        -------
        int
            How many rows are among them that are looked for.
        """
        begins, numbers = rows["begin"], rows["seq"]
        fits = self.slots_of(begins) == slots
        whole = (begins == numbers) & (numbers != 0) & fits
        found = whole & (numbers > np.uint64(self.after))
        if len(self.awaited):
            found |= whole & np.isin(numbers, self.awaited)
        ahead = np.zeros(len(rows), bool)
        if self.frozen:
            ahead = whole & (numbers > np.uint64(self.newest))
            found &= ~ahead
        gap = ~whole | ahead
        gaps = np.empty(np.count_nonzero(gap), _GAP)
        gaps["slot"] = slots[gap]
        gaps["begin"] = np.where(fits, begins, 0)[gap]
        gaps["kind"] = _TORN
        gaps["kind"][(begins[gap] == 0) & (numbers[gap] == 0)] = _EMPTY
        gaps["kind"][ahead[gap]] = _AHEAD
        self._gaps.append(gaps)
        self._rows.append(rows[found])
        self._read += len(rows)
        self.newest = max(self.newest, int(numbers[found].max(initial=0)))
        return int(np.count_nonzero(found))

    def forget(self, slots: _Slots) -> None:
        """Forget the gaps in slots that are about to be read again."""
        gaps = self._all_gaps()
        self._gaps = [gaps[~np.isin(gaps["slot"], slots)]]

    # -- where numbers belong -------------------------------------------------------------------

    def slots_of(self, numbers: _Numbers) -> _Slots:
        """Return where (n,) numbers belong."""
        return np.asarray((numbers - np.uint64(1)) % np.uint64(self.capacity))

    def behind_newest(self, slots: _Slots) -> npt.NDArray[np.uint64]:
        """Return by how much the latest number of (n,) slots is below the newest: 0 and more."""
        last = (self.newest - 1) % self.capacity
        return np.asarray((np.uint64(last + self.capacity) - slots) % np.uint64(self.capacity))

    def _all_gaps(self) -> npt.NDArray[np.void]:
        self._gaps = [np.concatenate(self._gaps)]
        return self._gaps[0]

    def _numbers_of(self, gaps: npt.NDArray[np.void]) -> _Numbers:
        """Return what number's row (n,) gaps hold part of; 0: none.

        It is the one that was begun there; where that is not known, the latest up to the newest.
        """
        newest, behind = np.uint64(self.newest), self.behind_newest(gaps["slot"])
        latest = np.where(behind < newest, newest - behind, 0)
        return np.asarray(np.where(gaps["begin"] != 0, gaps["begin"], latest))

    def _untouched(self, gaps: npt.NDArray[np.void]) -> _Which:
        """Return which of (n,) gaps are as they were when the file was made.

        struct writes zeros before the row: where the ring has come round, they are a torn one.
        """
        passed = self._numbers_of(gaps) > np.uint64(self.capacity)
        return np.asarray((gaps["kind"] == _EMPTY) & ~passed)

    def _is_above(self, gaps: npt.NDArray[np.void]) -> _Which:
        """Return which of (n,) gaps hold part of a row above the newest, or may do so."""
        soon = self.capacity - self.behind_newest(gaps["slot"]) <= np.uint64(NEWEST)
        unknown = (gaps["begin"] == 0) & ~self._untouched(gaps)
        return np.asarray((self._numbers_of(gaps) > np.uint64(self.newest)) | (unknown & soon))

    # -- what is not settled --------------------------------------------------------------------

    def missing(self) -> _Numbers:
        """Return the numbers that are looked for, that have no row, and that may get one."""
        # no more of them than slots that were read: of a file that is cut, capacity says nothing
        low = max(self.after, self.newest - min(self.capacity, self._read))
        latest = np.arange(1, self.newest - low + 1, dtype=np.uint64) + np.uint64(low)
        # an awaited one that was overwritten is gone
        awaited = self.awaited[self.awaited > max(0, self.newest - self.capacity)]
        there = np.zeros(len(latest), bool)
        for rows in self._rows:
            numbers = rows["seq"]
            there[(numbers[numbers > np.uint64(low)] - np.uint64(low + 1)).astype(np.intp)] = True
            awaited = awaited[~np.isin(awaited, numbers)] if len(awaited) else awaited
        missing = np.concatenate((awaited, latest[~there]))
        # where the next lap is: gone
        gaps = self._all_gaps()
        over = gaps["slot"][self._numbers_of(gaps) > np.uint64(self.newest)]
        return missing[~np.isin(self.slots_of(missing), over)]

    def unsettled(self) -> _Slots:
        """Return the slots that another read may show another row of."""
        gaps = self._all_gaps()
        torn = gaps[gaps["kind"] == _TORN]
        # what was begun up to `after` was settled by the look before
        young = (torn["begin"] == 0) | (torn["begin"] > np.uint64(self.after))
        return np.union1d(torn["slot"][young], self.slots_of(self.missing()))

    def pending(self) -> _Slots:
        """Return the slots of rows that are worth a wait: those that may be being written.

        An awaited row is not among them: it has had its time.
        """
        missing, gaps = self.missing(), self._all_gaps()
        near = missing[missing > np.uint64(max(self.after, self.newest - NEWEST))]
        above = self._is_above(gaps) & (gaps["kind"] != _AHEAD)
        return np.union1d(gaps["slot"][above], self.slots_of(near))

    # -- what became of it ----------------------------------------------------------------------

    def rows(self) -> npt.NDArray[np.void]:
        """Return the rows that are looked for, in commit order, none twice.

        Where all slots are looked at, a slot has what was read there last: one row, or none.
        """
        rows = np.concatenate(self._rows)
        if self.after == 0:
            slots = self.slots_of(rows["seq"])
            _, last = np.unique(slots[::-1], return_index=True)
            rows = rows[len(rows) - 1 - last]
            rows = rows[~np.isin(self.slots_of(rows["seq"]), self._all_gaps()["slot"])]
        _, first = np.unique(rows["seq"], return_index=True)
        return rows[first]

    def open(self) -> _Numbers:
        """Return the numbers that are still being written, if the process lives."""
        missing = self.missing()
        young = missing > np.uint64(max(0, self.newest - NEWEST))
        if self.after:  # each gets the time until the next look
            young |= missing > np.uint64(self.after)
        return missing[young]

    def account(self, *, live: bool) -> Account:
        """Return what became of the slots without a row.

        Parameters
        ----------
        live
            Whether the process lives and records: else nothing is being written.
        """
        gaps = self._all_gaps()
        numbers = self._numbers_of(gaps)
        still = self.open() if live else np.empty(0, np.uint64)
        claimed = np.isin(numbers, still)
        # where all were rejected since the newest row, only the last ones may be still to come
        last = int(numbers.max(initial=0))
        old = (gaps["begin"] != 0) & (numbers <= np.uint64(max(0, last - NEWEST)))
        above = self._is_above(gaps) & (~old | (gaps["kind"] == _AHEAD)) & ~claimed & live
        never = self._untouched(gaps) & ~claimed
        torn = numbers[~(claimed | above | never)]
        before = (torn > np.uint64(self.after)) & (torn <= np.uint64(self.newest))
        before |= np.isin(torn, self.awaited)
        beyond = int(np.count_nonzero(above))
        return Account(
            torn=len(torn),
            torn_before=int(np.count_nonzero(before)),
            never_written=int(np.count_nonzero(never)),
            being_written=int(np.count_nonzero(claimed)) + beyond,
            open=still,
            in_flight=len(still) + beyond,
        )
