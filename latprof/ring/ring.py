"""The ring: a preallocated structured array that frames are committed into, oldest overwritten.

Rows have sequence numbers 1, 2, 3, ...; number n is stored in slot ``(n - 1) % capacity``. A writer
claims a number and then writes the row in one call, in the order of its fields: ``begin`` first,
``seq`` last. Both hold the *stream position* of the row::

    position = (n - 1 + capacity) * width        width: bytes of a row
    offset of the row in the buffer = position % (capacity * width)

So a writer needs a single operation to find the place of a row, and no position is 0, which is
what a slot holds before it is first written. A row is committed when both fields are equal and
belong to its slot. No lock is taken: `itertools.count` hands out each position once, and a reader
drops rows that changed while it copied them.

Claiming a number and writing its row are two steps. A number that is claimed is pending until its
row is in its slot; a writer that is a whole lap late even overwrites a newer row. Only time
distinguishes these cases: a reader looks again later, and counts what does not arrive as lost or
torn.
"""

import itertools
import os
import struct
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from latprof.arrays import Ints, Mask
from latprof.errors import ProfilerError
from latprof.frames import FINISHED, MISSING, Columns, Labels
from latprof.pipeline import Pipeline
from latprof.ring.file import RingFile
from latprof.ring.layout import LARGEST_CAPACITY, OUTCOME, SOURCE
from latprof.text import quoted
from latprof.units import STAMP_LIMIT

__all__ = [
    "OTHER_NAME",
    "NameTable",
    "Ring",
    "RowSource",
    "Snapshot",
    "count_of",
    "cpu_word",
    "row_struct",
    "storable",
    "to_columns",
]

OTHER_NAME = "(other)"
"""The name of all sources or outcomes that came after the table of names was full."""


def count_of(counter: "itertools.count[int]") -> int:
    """Return the number that `counter` hands out next, without taking it.

    Reading the repr is the one way that works on every CPython and takes no number.

    Examples
    --------
    >>> counter = itertools.count(1)
    >>> next(counter), count_of(counter), next(counter)
    (1, 2, 2)
    """
    return int(repr(counter)[len("count(") : -1].split(",")[0])  # a step may follow


class NameTable:
    """An append-only table of names with u2 codes; each is stored before its code is used.

    Parameters
    ----------
    first
        The name of code 0, or None if code 0 means that a row has none.
    limit
        Number of codes. The last one is reserved for `OTHER_NAME`, the name of all names
        that come when the table is full.
    store
        Called with a new code, its name, and whether the name is `OTHER_NAME`, before the code is
        used; returns False if there was no space, and then the table is full.

    Attributes
    ----------
    table
        Names by code; None where the code has no name.
    codes
        Codes by name.

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
        store: Callable[[int, str, bool], bool] | None = None,
    ) -> None:
        self.table: list[str | None] = [first]
        self.codes: dict[str | None, int] = {first: 0}
        self._overflowed = itertools.count()
        self._other: int | None = None  # the code of `OTHER_NAME`, once the table is full
        self._limit = limit
        self._store = store or (lambda code, name, other: True)
        self.reset_lock()

    def reset_lock(self) -> None:
        """Create a new lock: in the child of a fork the old one may never be released."""
        self._lock = threading.RLock()  # reentrant: a signal handler may interrupt its holder

    def code(self, name: str | None) -> int:
        """Return the code of a name; a name that is new gets a new one."""
        found = self.codes.get(name)
        if found is not None:
            return found
        with self._lock:
            return self._add(str(name))

    @property
    def overflowed(self) -> int:
        """How often a name was requested that came after the table was full."""
        return count_of(self._overflowed)

    def _add(self, name: str) -> int:
        if name in self.codes:  # another thread has added it
            return self.codes[name]
        if self._other is not None:
            next(self._overflowed)
            return self._other
        # UTF-8 cannot hold half of a surrogate pair
        stored = name.encode("utf-8", "backslashreplace").decode()
        code = self._append(stored)
        if code < self._limit - 1 and self._store(code, stored, False):
            known = self.codes.setdefault(name, code)
            if known != code:  # a signal handler added it meanwhile: no row has this code
                self.table[code] = f"{stored} ({code})"
            return known
        next(self._overflowed)
        if self._other is None and code < self._limit:
            self._other = code
            self.table[code] = OTHER_NAME
            self._store(code, OTHER_NAME, True)
        return self._limit - 1 if self._other is None else self._other

    def _append(self, stored: str) -> int:
        """Append a name to the table and return its index.

        Appending is one step, and then the entry is looked for: a signal handler that interrupts
        may append names, too.
        """
        self.table.append(stored)
        index = len(self.table) - 1
        while self.table[index] is not stored:
            index -= 1
        return index

    def restore(self, code: int, name: str) -> None:
        """Set the name of a code that was read from a file, unless the code has one."""
        self.table += [None] * (code + 1 - len(self.table))
        if code and self.table[code] is None:
            self.table[code] = name

    def known(self, codes: npt.NDArray[np.uint16]) -> Mask:
        """Return which of (n,) codes have a name or are 0."""
        named = np.zeros(2**16, bool)
        named[: len(self.table)] = [name is not None for name in self.table]
        named[0] = True
        return np.asarray(named[codes])

    def labels(self, codes: npt.NDArray[np.uint16]) -> Labels:
        """Return the names of (n,) codes."""
        return Labels.encode(self.table[: int(codes.max(initial=0)) + 1])[codes]


@dataclass(slots=True)
class Snapshot:
    """A copy of the rows of a range of sequence numbers.

    Parameters
    ----------
    rows
        (n,) of the pipeline's `row_dtype`, committed rows in order of their numbers.
    first, last
        The range; `last` < `first` if it is empty.
    overwritten
        Numbers with newer rows in their slots.
    pending
        Numbers that are claimed, without rows in their slots (yet).
    """

    rows: npt.NDArray[np.void]
    first: int
    last: int
    overwritten: int
    pending: list[int]


class Ring:
    """Rows of `pipeline`, the last `capacity` of those that were committed.

    Parameters
    ----------
    pipeline
        Its marks define the row.
    capacity
        Number of frames that a full ring holds, from 1 on.
    path
        A file that holds the rows, or None for rows in memory.
    metadata
        Metadata of the recording for the file, see `latprof.io.metadata`.

    Attributes
    ----------
    file
        The `RingFile`, or None.
    buffer, array
        The rows as bytes and as (capacity,) of the pipeline's `row_dtype`.
    positions
        Hands out the stream positions of new rows.
    sources, outcomes
        Names by code.
    width, pack
        Bytes of a row; packs a row into a buffer, see `row_struct`.

    Raises
    ------
    ProfilerError
        The capacity is not an integer in range, or the file cannot be created.

    Examples
    --------
    >>> mic = Pipeline.chain("mic", "decode")
    >>> ring = Ring(mic, capacity=2)
    >>> rows = np.zeros(3, mic.row_dtype)
    >>> rows["frame_id"] = 7, 8, 9
    >>> ring.write_rows(rows)
    >>> ring.read(after=0).rows["frame_id"], ring.read(after=0).overwritten
    (array([8, 9], dtype=uint64), 1)
    """

    def __init__(
        self,
        pipeline: Pipeline,
        capacity: int,
        *,
        path: str | os.PathLike[str] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        is_int = isinstance(capacity, int) and not isinstance(capacity, bool)
        if not is_int or not 1 <= capacity <= LARGEST_CAPACITY:
            raise ProfilerError(
                f"capacity must be an integer between 1 and {LARGEST_CAPACITY:,}, "
                f"got {quoted(capacity)}"
            )
        self.pipeline = pipeline
        self.capacity = capacity
        self.width = pipeline.row_dtype.itemsize
        self.file: RingFile | None = None
        if path is None:
            try:
                self.buffer: Any = bytearray(capacity * self.width)
            except MemoryError:
                raise ProfilerError(
                    f"capacity {capacity:,} needs {capacity * self.width:,} bytes, which cannot be "
                    "allocated; choose a smaller capacity"
                ) from None
            self.sources, self.outcomes = NameTable(None), NameTable(FINISHED)
        else:
            file = self.file = RingFile(path, pipeline, capacity, metadata or {})
            self.buffer = file.rows
            self.sources = NameTable(None, store=partial(file.store_name, SOURCE))
            self.outcomes = NameTable(FINISHED, store=partial(file.store_name, OUTCOME))
        self.array = np.frombuffer(self.buffer, pipeline.row_dtype)
        self.positions = itertools.count(capacity * self.width, self.width)
        self.pack = row_struct(len(pipeline.marks)).pack_into

    @property
    def claimed(self) -> int:
        """The newest sequence number that a writer has claimed."""
        return self.number_of(count_of(self.positions)) - 1

    def number_of(self, position: int) -> int:
        """Return the sequence number of a stream position."""
        return position // self.width - self.capacity + 1

    def acquire(self) -> None:
        """Lock the file, if there is one; ProfilerError if another profiler has locked it."""
        if self.file is not None:
            self.file.acquire()

    def release(self) -> None:
        """Unlock the file."""
        if self.file is not None:
            self.file.release()

    def note(self, begins: bool, now: int, wall: int) -> None:
        """Store in the file that recording begins or ends, with the time of both clocks in ns."""
        if self.file is not None:
            self.file.note(begins, now, wall)

    def write_rows(self, rows: npt.NDArray[np.void]) -> None:
        """Claim numbers for (n,) rows and write the rows, in blocks that fit the ring."""
        for start in range(0, len(rows), self.capacity):
            block = rows[start : start + self.capacity].copy()
            claimed = itertools.islice(self.positions, len(block))
            positions = np.fromiter(claimed, np.uint64, len(block))
            index = self._index(positions.astype(np.int64) // self.width - self.capacity + 1)
            block["begin"] = positions
            block["seq"] = 0
            # a row is not committed from the first of these three until the last
            self.array["seq"][index] = 0
            self.array[index] = block
            self.array["seq"][index] = positions

    def read(self, after: int, limit: int | None = None) -> Snapshot:
        """Return a copy of the rows with numbers above `after`, the oldest `limit` of them."""
        claimed = self.claimed
        first = after + 1
        oldest = max(first, claimed - self.capacity + 1)
        last = claimed if limit is None else min(claimed, oldest + limit - 1)
        rows, pending = self._copy(np.arange(oldest, last + 1))
        overwritten = max(0, last - first + 1 - len(rows) - len(pending))
        return Snapshot(rows, first, last, overwritten, pending)

    def read_numbers(self, numbers: list[int]) -> Snapshot:
        """Return a copy of the rows with these numbers, in ascending order."""
        wanted = sorted(numbers)
        rows, pending = self._copy(np.array(wanted, np.int64))
        overwritten = len(wanted) - len(rows) - len(pending)
        first, last = (wanted[0], wanted[-1]) if wanted else (1, 0)
        return Snapshot(rows, first, last, overwritten, pending)

    def is_torn(self, number: int) -> bool:
        """Return whether the slot of a number holds no committed row."""
        row = self.array[(number - 1) % self.capacity]
        return bool(row["begin"] != row["seq"] or row["seq"] == 0)

    def _copy(self, numbers: Ints) -> tuple[npt.NDArray[np.void], list[int]]:
        """Return the committed rows of (n,) ascending numbers, and the numbers that are pending."""
        index = self._index(numbers)
        positions = (numbers + (self.capacity - 1)).astype(np.uint64) * np.uint64(self.width)
        # in this order: a writer that comes meanwhile changes `begin` before anything else
        seq = self.array["seq"][index].copy()
        rows = self.array[index].copy()
        begin = self.array["begin"][index].copy()
        whole = (seq == positions) & (rows["begin"] == positions)
        whole &= (rows["seq"] == positions) & (begin == positions)
        rows["begin"] = rows["seq"] = numbers
        if whole.all():
            return rows, []
        newer = (begin > positions) | (seq > positions)
        return rows[whole], numbers[~whole & ~newer].tolist()

    def _index(self, numbers: Ints) -> Any:
        """Return the slots of (n,) ascending numbers, as a slice where they are consecutive."""
        slots = (numbers - 1) % self.capacity
        span = len(numbers) - 1
        # a slice copies faster than an array of indices
        if span >= 0 and numbers[-1] - numbers[0] == span == slots[-1] - slots[0]:
            return slice(int(slots[0]), int(slots[-1]) + 1)
        return slots


def row_struct(marks: int) -> struct.Struct:
    """Return what packs a row with this number of marks: the fields of `Pipeline.row_dtype`.

    source and outcome are packed as one u4, ``source | outcome << 16``, cpu and weight as a
    `cpu_word`: packing fewer values is faster.
    """
    # "N" is size_t: CPython converts integers to it three times as fast as to "Q"
    if sys.byteorder == "little" and struct.calcsize("@N") == 8:
        return struct.Struct(f"@{marks + 3}N2I2N")
    return struct.Struct(f"<{marks + 3}Q2I2Q")


def cpu_word(cpu: float, weight: int = 1) -> int:
    """Return the fields cpu and weight of a row as one u8.

    Examples
    --------
    >>> hex(cpu_word(1.0, 3))
    '0x33f800000'
    """
    return int.from_bytes(struct.pack("<fI", cpu, weight), "little")


def storable(rows: npt.NDArray[np.void], pipeline: Pipeline) -> Mask | None:
    """Return which rows have all stamps below 2**62, or None if all rows do."""
    stamps = _stamps(rows, pipeline).view(np.uint64)
    if not stamps.size or int(stamps.max()) < STAMP_LIMIT:
        return None
    return np.asarray((stamps < np.uint64(STAMP_LIMIT)).all(axis=1))


def _stamps(rows: npt.NDArray[np.void], pipeline: Pipeline) -> Ints:
    """Return the marks of (n,) contiguous rows as a view (n, marks)."""
    words = rows.view(np.int64).reshape(len(rows), rows.itemsize // 8)
    return words[:, 2 : 2 + len(pipeline.marks)]


class RowSource(Protocol):
    """What explains the fields of rows: a `Ring`, or the reader of a ring file."""

    pipeline: Pipeline
    sources: NameTable
    outcomes: NameTable


def to_columns(rows: npt.NDArray[np.void], source: RowSource, offset_ns: int) -> Columns:
    """Return (n,) rows as columns, with stamps on the wall clock and `MISSING` in place of 0."""
    # all marks at once, as (marks, n): beside a busy thread each call of numpy may have to wait
    # for the interpreter
    table = _stamps(rows, source.pipeline).T.copy()  # copied, as the transpose of one row is a view
    absent = table == 0
    missing = absent.any(axis=1).tolist()
    table += np.int64(offset_ns)
    if any(missing):
        table[absent] = MISSING
    marks = dict(zip(source.pipeline.marks, table, strict=True))
    complete = [mark for mark, some in zip(marks, missing, strict=True) if not some]
    return Columns(
        rows["frame_id"].copy(),
        marks,
        size=rows["size"].copy(),
        source=source.sources.labels(rows["source"]),
        outcome=source.outcomes.labels(rows["outcome"]),
        cpu=rows["cpu"].copy(),
        rss=rows["rss"].copy(),
        complete=frozenset(complete),
    )
