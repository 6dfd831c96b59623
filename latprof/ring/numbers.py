"""What a writer draws for each row: the number of its commit, as the row keeps it.

The ticket of number n is ``(n - 1 + capacity) * width``: the row's offset is the ticket modulo the
bytes of all rows. One operation instead of three, in a place where each counts; to tell the number
is left to who reads. No ticket is 0, which is what a slot holds that was never written.
"""

import itertools
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from latprof.ring.strings import count_of

__all__ = ["NO_NUMBER", "Tickets"]

NO_NUMBER = 2**64 - 1
"""Stands for what is no ticket, where a number should be."""


@dataclass(slots=True)
class Tickets:
    """The tickets of a ring's rows.

    Parameters
    ----------
    capacity
        How many slots there are.
    width
        Bytes of a row.

    Attributes
    ----------
    supply
        Hands each out once.

    Examples
    --------
    >>> tickets = Tickets(capacity=3, width=64)
    >>> drawn = [next(tickets.supply) for _ in range(4)]
    >>> [tickets.number(ticket) for ticket in drawn], [ticket % (3 * 64) for ticket in drawn]
    ([1, 2, 3, 4], [0, 64, 128, 0])
    """

    capacity: int
    width: int
    supply: "itertools.count[int]" = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.supply = itertools.count(self.of(1), self.width)

    @property
    def drawn(self) -> int:
        """The number of the newest ticket that was drawn."""
        return self.number(count_of(self.supply)) - 1

    def of(self, number: int) -> int:
        """Return the ticket of a number."""
        return (number - 1 + self.capacity) * self.width

    def number(self, ticket: int) -> int:
        """Return the number of a ticket."""
        return ticket // self.width - self.capacity + 1

    def of_all(self, numbers: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        """Return the tickets of (n,) numbers."""
        return (numbers + np.uint64(self.capacity - 1)) * np.uint64(self.width)

    def to_numbers(self, rows: npt.NDArray[np.void]) -> None:
        """Replace the tickets of (n,) rows by numbers, in place.

        0 stays 0; a row with anything else that is no ticket gets `begin` 0 and `seq` `NO_NUMBER`,
        so that it is not taken for a whole one.
        """
        bad = np.zeros(len(rows), bool)
        first, width = np.uint64(self.of(1)), np.uint64(self.width)
        for name in ("begin", "seq"):
            tickets = rows[name]
            numbers, rest = np.divmod(tickets, width)
            some = tickets != 0
            bad |= some & ((rest != 0) | (tickets < first))
            rows[name] = np.where(some, numbers - np.uint64(self.capacity - 1), np.uint64(0))
        rows["begin"][bad] = 0
        rows["seq"][bad] = NO_NUMBER
