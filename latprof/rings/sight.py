"""What reads of a ring's slots amount to: rows, gaps, and what is only being written.

While a process records, a slot may be read in the middle of its row, and a row may be written
after its slot was read: neither is torn or lost. Such slots are read again; see `RingReader.look`.
"""

import numpy as np
import numpy.typing as npt

__all__ = ["NEWEST", "Sight"]

NEWEST = 64
"""So many numbers on either side of the newest one may be being written: more than there are
threads that are held up at once between the claim of a number and the end of its row."""

LATEST = 65_536
"""So many numbers back a gap may be a row that came while other slots were read."""

_Slots = npt.NDArray[np.uint64]


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
    >>> sight.newest, sight.missing(), sight.unsettled(), sight.torn
    (3, array([2], dtype=uint64), array([1], dtype=uint64), array([1], dtype=uint64))
    """

    def __init__(
        self, dtype: np.dtype[np.void], capacity: int, after: int, awaited: _Slots
    ) -> None:
        self.capacity, self.after, self.awaited = capacity, after, awaited
        self.beyond = 0
        self.newest = after
        self.frozen = False
        self._rows = [np.empty(0, dtype)]
        self._empty = [np.empty(0, np.uint64)]
        self._torn = [np.empty(0, np.uint64)]
        self._begins = [np.empty(0, np.uint64)]
        self._ahead = [np.empty(0, np.uint64)]

    def add(self, rows: npt.NDArray[np.void], slots: _Slots) -> int:
        """Take in the rows of slots, which `forget` was told of if they were read before.

        Returns
        -------
        int
            How many rows are among them that are looked for.
        """
        numbers = rows["seq"]
        untouched = (numbers == 0) & (rows["begin"] == 0)
        fits = (numbers - np.uint64(1)) % np.uint64(self.capacity) == slots
        whole = (rows["begin"] == numbers) & (numbers != 0) & fits
        torn = ~(whole | untouched)
        new = numbers > np.uint64(self.after)
        if len(self.awaited):
            new |= np.isin(numbers, self.awaited)
        if self.frozen:
            ahead = whole & (numbers > np.uint64(self.newest))
            self._ahead.append(slots[ahead])
            new &= ~ahead
        found = rows[whole & new]
        self._rows.append(found)
        self._empty.append(slots[untouched])
        self._torn.append(slots[torn])
        self._begins.append(rows["begin"][torn])
        self.newest = max(self.newest, int(found["seq"].max(initial=0)))
        return len(found)

    def forget(self, slots: _Slots) -> None:
        """Forget what is not whole in slots that are about to be read again."""
        empty, torn = self.empty, self.torn
        kept = ~np.isin(torn, slots)
        self._begins = [np.concatenate(self._begins)[kept]]
        self._torn = [torn[kept]]
        self._empty = [empty[~np.isin(empty, slots)]]

    @property
    def ahead(self) -> int:
        """How many slots have only a row that is left for the next look."""
        return len(np.setdiff1d(np.concatenate(self._ahead), self.slots_of(self.rows["seq"])))

    @property
    def rows(self) -> npt.NDArray[np.void]:
        """The rows that are looked for, in commit order; where all slots are, one of each."""
        rows = np.concatenate(self._rows)
        _, first = np.unique(rows["seq"], return_index=True)
        rows = rows[first]
        if self.after == 0 and len(rows) and self.newest - int(rows["seq"][0]) >= self.capacity:
            # a slot that was read again may have had an older row: that one is overwritten
            _, last = np.unique(self.slots_of(rows["seq"])[::-1], return_index=True)
            rows = rows[np.sort(len(rows) - 1 - last)]
        return rows

    @property
    def empty(self) -> _Slots:
        """Slots that are all zeros."""
        return np.concatenate(self._empty)

    @property
    def torn(self) -> _Slots:
        """Slots that hold part of a row, or that moved while they were read."""
        return np.concatenate(self._torn)

    def slots_of(self, numbers: _Slots) -> _Slots:
        """Return where (n,) numbers belong."""
        return np.asarray((numbers - np.uint64(1)) % np.uint64(self.capacity))

    def number_of(self, slots: _Slots) -> npt.NDArray[np.int64]:
        """Return the latest number up to the newest of (n,) slots, relative to the newest.

        0 to 1 - capacity: so that no number is too large.
        """
        last = (self.newest - 1) % self.capacity
        return np.asarray(-((last - slots.astype(np.int64)) % self.capacity))

    def missing(self) -> _Slots:
        """Return the latest numbers that have no row, though they or later ones were claimed."""
        low = max(self.after, self.newest - min(self.capacity, LATEST))
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
        ahead = np.concatenate(self._ahead)
        return missing[~np.isin(self.slots_of(missing), ahead)] if len(ahead) else missing

    def unsettled(self, *, awaited: bool = True) -> _Slots:
        """Return the slots that another read may show another row of.

        Parameters
        ----------
        awaited
            Whether those of `awaited` are among them.
        """
        missing = self.missing()
        if not awaited:
            missing = missing[missing > np.uint64(self.after)]
        begins = np.concatenate(self._begins)
        young = (begins == 0) | (begins > np.uint64(self.after))
        return np.union1d(self.torn[young], self.slots_of(missing))

    def open(self) -> _Slots:
        """Return the numbers that are still being written, if the process lives."""
        missing = self.missing()
        young = missing > np.uint64(max(0, self.newest - NEWEST))
        if self.after:  # each gets the time until the next look
            young |= missing > np.uint64(self.after)
        torn, begins = self.torn, np.concatenate(self._begins)
        over = torn[begins > np.uint64(self.newest)]  # the next lap is at them
        return missing[young & ~np.isin(self.slots_of(missing), over)]

    def torn_now(self) -> tuple[_Slots, int, npt.NDArray[np.bool_]]:
        """Tell the torn slots from those that were never written.

        Returns
        -------
        torn
            Slots with part of a row. struct writes zeros before the row: where the ring has come
            round they are a torn one.
        never
            How many slots are as they were when the file was made.
        counted
            Which of the torn are gaps among the numbers up to the newest.
        """
        empty = self.empty
        passed = empty + np.uint64(self.capacity) < np.uint64(self.newest)
        torn = np.concatenate((self.torn, empty[passed]))
        begins = np.concatenate((*self._begins, np.zeros(np.count_nonzero(passed), np.uint64)))
        there = self.number_of(torn) + min(self.newest, 2**62) >= 1
        counted = there & ~(begins > np.uint64(self.newest))
        return torn, len(empty) - int(np.count_nonzero(passed)), counted

    def writing(self, torn: _Slots) -> npt.NDArray[np.bool_]:
        """Return which of (n,) torn slots are near the newest number, on either side."""
        behind = self.number_of(torn)
        return np.asarray((behind > -NEWEST) | (behind + self.capacity <= NEWEST))
