"""Names by code: sources, outcomes and values of tags, which rows refer to by number.

A table is bounded in the number of its names and in their bytes, so that a program with ever new
names fills neither the memory nor the log of a ring file.
"""

import hashlib
import itertools
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from latprof.arrays import Mask
from latprof.frames import Labels
from latprof.ring.layout import NAME_BYTES, entry_size

__all__ = ["LONGEST_NAME", "OTHER_NAME", "NameTable"]

OTHER_NAME = "(others)"
"""The name that replaces all new names once a table is full."""

LONGEST_NAME = 1_000  # bytes; longer names are cut

Codes = npt.NDArray[np.unsignedinteger[Any]]


class NameTable:
    """An append-only table of names with codes 1, 2, ...; each is stored before its code is used.

    Parameters
    ----------
    first
        The name of code 0, or None if code 0 means that a row has none.
    limit
        Number of codes. The last one is reserved for `OTHER_NAME`.
    most_bytes
        Bytes that the names may take in the log of a ring file.
    store
        Called with a new code and its name before the code is used. If it returns False, there
        was no space, and the table is full.

    Attributes
    ----------
    table
        Names by code; None where the code has no name.
    codes
        Codes by name.
    overflowed
        How often the code of a name was requested that the full table does not have.
    clipped
        How often a name was requested that is longer than `LONGEST_NAME` bytes. It is cut, and the
        start of a hash of the whole name follows.

    Examples
    --------
    >>> sources = NameTable(None)
    >>> sources.code("input"), sources.code("output"), sources.code("input"), sources.code(None)
    (1, 2, 1, 0)
    >>> sources.labels(np.array([2, 0, 1], np.uint16)).to_numpy()
    array(['output', None, 'input'], dtype=object)
    """

    def __init__(
        self,
        first: str | None,
        *,
        limit: int = 2**16,
        most_bytes: int = NAME_BYTES,
        store: Callable[[int, str], bool] | None = None,
    ) -> None:
        self.table: list[str | None] = [first]
        self.codes: dict[str | None, int] = {first: 0}
        self.overflowed = self.clipped = 0
        self._limit = limit
        self._left = most_bytes - entry_size(len(OTHER_NAME))  # bytes of the log
        self._store = store or (lambda code, name: True)
        # a signal handler that interrupts `_add` gets codes of its own
        self._new_codes = itertools.count(1)
        self._is_full = False
        self._labels: tuple[int, Labels] | None = None
        self.reset_lock()

    def reset_lock(self) -> None:
        """Create a new lock: in the child of a fork the old one may never be released."""
        self._lock = threading.RLock()  # reentrant: a signal handler may interrupt its holder

    def code(self, name: str | None) -> int:
        """Return the code of a name; a new name gets a new code, or that of `OTHER_NAME`."""
        found = self.codes.get(name)
        if found is not None:
            return found
        with self._lock:
            return self._add(str(name))

    def _add(self, name: str) -> int:
        # UTF-8 cannot hold half of a surrogate pair
        stored = name.encode("utf-8", "backslashreplace")
        if len(stored) > LONGEST_NAME:
            self.clipped += 1
            name = _cut(stored)
            stored = name.encode()
        if name in self.codes:  # added by another thread, or the same name was cut before
            return self.codes[name]
        size = entry_size(len(stored))
        if not self._is_full and size <= self._left:
            code, text = next(self._new_codes), stored.decode()
            if code < self._limit - 1 and self._store(code, text):
                self._left -= size
                self.restore(code, text)
                return self.codes.setdefault(name, code)
        self.overflowed += 1
        last = self._limit - 1
        if not self._is_full:
            self._store(last, OTHER_NAME)
            self.restore(last, OTHER_NAME)
            self._is_full = True
        return last

    def restore(self, code: int, name: str) -> None:
        """Set the name of a code, for example from the log of a file; a name is never replaced."""
        self.table += [None] * (code + 1 - len(self.table))
        if code and self.table[code] is None:
            self.table[code] = name
            self._labels = None

    def known(self, codes: Codes) -> Mask:
        """Return which of (n,) codes have a name or are 0."""
        named = np.array([name is not None for name in self.table] + [False])
        named[0] = True
        return np.asarray(named[np.minimum(codes.astype(np.int64), len(named) - 1)])

    def labels(self, codes: Codes) -> Labels:
        """Return the names of (n,) codes; the result has all names, in the order of their codes."""
        size = len(self.table)
        if self._labels is None or self._labels[0] != size:
            self._labels = size, Labels.encode(self.table[:size])
        return self._labels[1][codes]

    def labels_used(self, codes: Codes) -> Labels:
        """Return the names of (n,) codes; the result has only the names that occur."""
        used = np.flatnonzero(np.bincount(codes))
        labels = Labels.encode(self.table[code] for code in used.tolist())
        place = np.zeros(int(codes.max(initial=0)) + 1, np.int32)
        place[used] = labels.codes
        return Labels(place[codes], labels.names)


def _cut(name: bytes) -> str:
    """Return the start of a long name and a part of its hash, which differs for other names."""
    end = f"... ({hashlib.sha256(name).hexdigest()[:8]})"
    return name[: LONGEST_NAME - len(end)].decode(errors="ignore") + end
