"""Names by small codes: what rows hold of sources and outcomes."""

import itertools
import threading
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from latprof.frames import Labels

__all__ = ["OTHER_NAME", "Names", "count_of"]

OTHER_NAME = "(other)"
"""The name under which names are counted that the table has no code for any more."""


def count_of(counter: "itertools.count[int]") -> int:
    """Return what `counter` hands out next, without taking it.

    Reading it off the repr is the one way that works on every CPython and takes no number.

    Examples
    --------
    >>> counter = itertools.count(1)
    >>> next(counter), count_of(counter), next(counter)
    (1, 2, 2)
    """
    return int(repr(counter)[len("count(") : -1].split(",")[0])  # its step may follow


class Names:
    """An append-only table of names with u2 codes; each is stored before its code is used.

    Parameters
    ----------
    first
        The name of code 0; None: code 0 says that there is no name.
    limit
        How many codes there are. The last one is kept for `OTHER_NAME`, which all names get that
        come when the table is full.
    store
        Called with a new name and its code before the code is used, and with whether it is
        `OTHER_NAME`; returns whether there was room: if not, the table is full.

    Examples
    --------
    >>> sources = Names(None)
    >>> sources.code("input"), sources.code("output"), sources.code("input"), sources.code(None)
    (1, 2, 1, 0)
    >>> sources.labels(np.array([2, 0, 1], np.uint16)).to_numpy()
    array(['output', None, 'input'], dtype=object)
    """

    def __init__(
        self,
        first: str | None,
        limit: int = 2**16,
        store: Callable[[int, str, bool], bool] | None = None,
    ) -> None:
        self.table: list[str | None] = [first]
        self.codes: dict[str | None, int] = {first: 0}
        self._overflowed = itertools.count()
        self._other: int | None = None  # the code of `OTHER_NAME`, when the table is full
        self._limit = limit
        self._store = store
        self._lock = threading.RLock()  # a signal handler may come here from within

    def code(self, name: str | None) -> int:
        """Return the code of a name, a new one where the name is new."""
        found = self.codes.get(name)
        if found is not None:
            return found
        assert name is not None or self.table[0] is not None
        with self._lock:
            return self._add(name)

    @property
    def overflowed(self) -> int:
        """How often a name was asked for that the table has no code for."""
        return count_of(self._overflowed)

    def _add(self, name: str | None) -> int:
        if name in self.codes:  # another thread came first
            return self.codes[name]
        if self._other is not None:
            next(self._overflowed)
            return self._other
        # a file of UTF-8 has no place for half a surrogate pair
        stored = str(name).encode("utf-8", "backslashreplace").decode()
        code = self._place_of(stored)
        if code < self._limit - 1 and self._stored(code, stored):
            known = self.codes.setdefault(name, code)
            if known != code:  # came from within, see `_place_of`: no row has this code
                self.table[code] = f"{stored} ({code})"
            return known
        next(self._overflowed)
        if self._other is None and code < self._limit:
            self._other = code
            self.table[code] = OTHER_NAME
            self._stored(code, OTHER_NAME, True)
        return self._limit - 1 if self._other is None else self._other

    def _place_of(self, stored: str) -> int:
        """Put a name at the end of the table and return where it is.

        In one step, and then looked for: a signal handler that interrupts may add names, too.
        """
        self.table.append(stored)
        place = len(self.table) - 1
        while self.table[place] is not stored:
            place -= 1
        return place

    def _stored(self, code: int, name: str, other: bool = False) -> bool:
        return self._store is None or self._store(code, name, other)

    def reset_lock(self) -> None:
        """Take a new lock, in the child of a fork, where nobody is left to free the old one."""
        self._lock = threading.RLock()

    def labels(self, codes: npt.NDArray[np.uint16]) -> Labels:
        """Return the names of (n,) codes."""
        table = self.table[: int(codes.max(initial=0)) + 1]
        if table[0] is None:
            return Labels(codes.astype(np.int32) - 1, tuple(str(name) for name in table[1:]))
        return Labels(codes.astype(np.int32), tuple(str(name) for name in table))
