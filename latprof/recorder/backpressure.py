"""Free slots of a ring, for rows that must not be overwritten before they are folded.

There is one token for each free slot, in a deque: `pop` and `extend` are atomic in CPython, so that
writers take and the background thread returns tokens without a lock. A ring that may be
overwritten does not need this.
"""

import contextlib
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable
from itertools import islice, repeat

from latprof.ring.ring import count_of

__all__ = ["FreeSlots"]

WAIT_LIMIT_S = 5.0  # longest time that a writer waits for a free slot
POLL_S = 0.000_2  # time between two looks for a free slot


class FreeSlots:
    """The free slots of a ring: a semaphore that a signal handler may acquire as well.

    Parameters
    ----------
    capacity
        Slots of the ring; all are free at first.
    waits
        Whether a writer waits for a free slot (``overflow="block"``); otherwise its frame is lost
        (``overflow="drop"``).

    Attributes
    ----------
    background
        The thread that frees slots; it does not wait.
    wake
        Called by a writer that waits.

    Examples
    --------
    >>> slots = FreeSlots(2, waits=False)
    >>> slots.acquire(), slots.acquire(), slots.acquire(), slots.refused
    (True, True, False, 1)
    >>> slots.release(1)
    >>> slots.acquire_many(3)
    1
    """

    def __init__(self, capacity: int, *, waits: bool) -> None:
        self.background: threading.Thread | None = None
        self.wake: Callable[[], None] = lambda: None
        self._capacity = capacity
        self._leaked = 0  # slots that were missing at the last call of `reclaim`
        self._waits = waits
        self._free = deque(repeat(True, capacity))
        self._refused = itertools.count()
        self._waiting: deque[bool] = deque()  # one for each writer that waits
        self._timed_out = False  # after a time-out no writer waits until a slot is freed

    @property
    def refused(self) -> int:
        """Number of frames that found no free slot."""
        return count_of(self._refused)

    def acquire(self) -> bool:
        """Acquire one slot; if none is free, wait, or count the frame as refused."""
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

    def acquire_many(self, count: int) -> int:
        """Acquire at most `count` slots without waiting; return their number."""
        acquired: list[bool] = []
        with contextlib.suppress(IndexError):  # the list keeps what was acquired before
            acquired.extend(islice(iter(self._free.pop, None), count))
        return len(acquired)

    def release(self, count: int) -> None:
        """Free `count` slots."""
        if count > 0:
            self._free.extend(repeat(True, count))
            self._timed_out = False

    def reclaim(self, used: Callable[[], int]) -> None:
        """Free the slots of writers that were interrupted before they claimed a number.

        Called twice a second. `used` returns the number of rows that are claimed and not yet
        folded. Slots that are missing in two calls in a row do not come back by themselves.
        """
        # read before `used()`, so that a writer arriving in between is not counted as leaked
        free = len(self._free)
        missing = self._capacity - free - used()
        lost = min(missing, self._leaked)
        self.release(lost)
        self._leaked = missing - max(0, lost)

    def has_writers(self, used: int) -> bool:
        """Return whether a writer waits for a slot, or has one and has claimed no number yet.

        `used` is the number of rows that are claimed and not yet folded.
        """
        return bool(self._waiting) or self._capacity - len(self._free) > used

    def refuse(self, count: int) -> None:
        """Count frames that found no free slot."""
        deque(islice(self._refused, count), maxlen=0)

    def _wait(self) -> bool:
        if self._timed_out or threading.current_thread() is self.background:
            return False
        deadline = time.monotonic() + WAIT_LIMIT_S
        self._waiting.append(True)
        try:
            while time.monotonic() < deadline:
                self.wake()
                time.sleep(POLL_S)
                if self.acquire_many(1):
                    return True
        finally:
            self._waiting.pop()
        self._timed_out = True
        return False
