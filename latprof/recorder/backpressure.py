"""Room in a ring whose rows must not be overwritten before they are taken out.

One token a row, in a deque: `pop` and `extend` are atomic in CPython, so that writers take and
the background gives without a lock. A ring that may be overwritten needs none of this.
"""

import contextlib
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable
from itertools import islice, repeat

from latprof.ring.ring import count_of

__all__ = ["Room"]

PATIENCE_S = 5.0
"""How long a writer waits for room when nobody makes any."""

PAUSE_S = 0.000_2
"""Between two looks for room."""


class Room:
    """Room for `capacity` rows.

    Parameters
    ----------
    capacity
        Of the ring.
    waits
        Whether a writer waits for room (``overflow="block"``), or its frame is lost (``"drop"``).

    Attributes
    ----------
    background
        The thread that makes room: it must not wait for itself.
    wake
        Called by a writer that waits.

    Examples
    --------
    >>> room = Room(2, waits=False)
    >>> room.take(), room.take(), room.take(), room.refused
    (True, True, False, 1)
    >>> room.give(1)
    >>> room.take_many(3)
    1
    """

    def __init__(self, capacity: int, *, waits: bool) -> None:
        self.background: threading.Thread | None = None
        self.wake: Callable[[], None] = lambda: None
        self._capacity = capacity
        self._astray = 0  # room for so many rows was missing at the last look
        self._waits = waits
        self._free = deque(repeat(True, capacity))
        self._refused = itertools.count()
        self._waiting: deque[bool] = deque()  # one for each writer that waits
        self._in_vain = False  # somebody has waited to the end: nobody does before there is room

    @property
    def refused(self) -> int:
        """How many frames found no room."""
        return count_of(self._refused)

    def take(self) -> bool:
        """Take room for one row; where there is none wait, or count the frame as refused."""
        try:
            return self._free.pop()
        except IndexError:
            pass
        try:
            found = self._waits and self._wait()
        except BaseException:  # interrupted
            self.refuse(1)
            raise
        if not found:
            self.refuse(1)
        return found

    def take_many(self, count: int) -> int:
        """Take room for at most `count` rows without waiting; return for how many."""
        taken: list[bool] = []
        with contextlib.suppress(IndexError):  # what was taken before stays in the list
            taken.extend(islice(iter(self._free.pop, None), count))
        return len(taken)

    def give(self, count: int) -> None:
        """Make room for `count` rows."""
        if count > 0:
            self._free.extend(repeat(True, count))
            self._in_vain = False

    def mend(self, taken: Callable[[], int]) -> None:
        """Give back the room of writers that were interrupted before they claimed a row.

        Called twice a second; `taken` returns how many rows are claimed and not taken out. What
        is missing at two looks one after the other does not come back by itself.
        """
        free = len(self._free)  # before `taken`: who comes between is not taken for astray
        astray = self._capacity - free - taken()
        gone = min(astray, self._astray)
        self.give(gone)
        self._astray = astray - max(0, gone)

    def expects(self, taken: int) -> bool:
        """Return whether somebody waits for room, or has it and has claimed no row yet.

        `taken` rows are claimed and not taken out.
        """
        return bool(self._waiting) or self._capacity - len(self._free) > taken

    def refuse(self, count: int) -> None:
        """Count frames that found no room."""
        deque(islice(self._refused, count), maxlen=0)

    def _wait(self) -> bool:
        if self._in_vain or threading.current_thread() is self.background:
            return False
        deadline = time.monotonic() + PATIENCE_S
        self._waiting.append(True)
        try:
            while time.monotonic() < deadline:
                self.wake()
                time.sleep(PAUSE_S)
                if self.take_many(1):
                    return True
        finally:
            self._waiting.pop()
        self._in_vain = True
        return False
