"""The ring: a preallocated structured array that frames are committed into, oldest overwritten.

Commit numbers run from 1; number n goes to slot ``(n - 1) % capacity``. A writer claims a number
and then writes the row in one call, in the order of its fields: ``begin`` first, ``seq`` last,
both the number's ticket (`latprof.ring.numbers`). A row is committed when they are equal and fit
the slot. No lock is taken: `itertools.count` hands out each number once, and a reader drops rows
that moved under it.

Claiming and writing are two steps. A number that is claimed but not yet in its slot is `pending`;
a writer that is a whole lap late even overwrites a newer row. Only time tells these cases apart:
who reads on looks again later, and counts what stays away as lost or torn.
"""

import itertools
import os
import struct
import sys
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from latprof.arrays import Ints, Mask
from latprof.errors import ProfilerError
from latprof.frames import FINISHED, MISSING, STAMP_LIMIT, Columns, Labels
from latprof.pipeline import Pipeline
from latprof.ring.file import RingFile
from latprof.ring.format import LARGEST_CAPACITY, OUTCOME, SOURCE
from latprof.ring.numbers import Tickets
from latprof.ring.strings import OTHER_NAME, Names, count_of

__all__ = [
    "OTHER_NAME",
    "Holder",
    "LabelTable",
    "Names",
    "Ring",
    "Rows",
    "count_of",
    "cpu_word",
    "row_struct",
    "storable",
    "to_columns",
]


@dataclass(slots=True)
class Rows:
    """What a ring holds of the commit numbers `first` to `last`.

    Parameters
    ----------
    rows
        (n,) of the pipeline's `row_dtype`, whole rows in commit order.
    first, last
        The numbers that were asked for; `last` < `first` where there are none.
    overwritten
        How many of them are gone: newer rows lie in their slots.
    pending
        Numbers that have been claimed and are not in their slots: being written, or never to be.
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
        Its marks make the row.
    capacity
        How many frames a full ring holds: any number from 1 up.
    path
        A file that holds the rows; None: they are in memory alone.
    facts
        What the file says of the recording, as `latprof.io.metadata` names it.

    Attributes
    ----------
    file
        The `RingFile`, or None.
    tickets
        What numbers are handed out as.
    array
        (capacity,) of the pipeline's `row_dtype`, with tickets in place of numbers.

    Raises
    ------
    ProfilerError
        A capacity that is no integer or out of range, or a file that cannot be made.

    Examples
    --------
    >>> ring = Ring(Pipeline.chain("mic", "decode"), capacity=2)
    >>> for frame_id in (7, 8, 9):
    ...     ring.write(ring.claim(), frame_id, (100, 150, 180))
    >>> ring.read(after=0).rows["frame_id"], ring.read(after=0).overwritten
    (array([8, 9], dtype=uint64), 1)
    """

    def __init__(
        self,
        pipeline: Pipeline,
        capacity: int,
        path: str | os.PathLike[str] | None = None,
        facts: dict[str, Any] | None = None,
    ) -> None:
        if not isinstance(capacity, int) or isinstance(capacity, bool):
            raise ProfilerError(f"capacity {capacity!r} is no integer: give a number of frames")
        if not 1 <= capacity <= LARGEST_CAPACITY:
            raise ProfilerError(
                f"capacity {capacity} is out of range: give 1 to {LARGEST_CAPACITY:,} frames"
            )
        self.pipeline = pipeline
        self.capacity = capacity
        self.width = pipeline.row_dtype.itemsize
        self.file: RingFile | None = None
        if path is None:
            self.buffer: Any = self._in_memory()
            self.sources, self.outcomes = Names(None), Names(FINISHED)
        else:
            file = self.file = RingFile(path, pipeline, capacity, facts or {})
            self.buffer = file.rows
            self.sources = Names(None, store=partial(file.store_name, SOURCE))
            self.outcomes = Names(FINISHED, store=partial(file.store_name, OUTCOME))
        self.array = np.frombuffer(self.buffer, pipeline.row_dtype)
        self.tickets = Tickets(capacity, self.width)
        self.pack = row_struct(len(pipeline.marks)).pack_into

    def _in_memory(self) -> bytearray:
        try:
            return bytearray(self.capacity * self.width)
        except MemoryError:
            raise ProfilerError(
                f"capacity {self.capacity:,} needs {self.capacity * self.width:,} bytes, more than "
                "there are: give fewer frames"
            ) from None

    @property
    def claimed(self) -> int:
        """The newest commit number that a writer has claimed."""
        return self.tickets.drawn

    def claim(self) -> int:
        """Claim the next commit number."""
        return self.tickets.number(next(self.tickets.supply))

    def acquire(self) -> None:
        """Keep others from the file, if there is one; ProfilerError: another profiler has it."""
        if self.file is not None:
            self.file.acquire()

    def release(self) -> None:
        """Let others have the file."""
        if self.file is not None:
            self.file.release()

    def note(self, begins: bool, now: int, wall: int) -> None:
        """Note in the file that recording begins or ends, and when on both clocks."""
        if self.file is not None:
            self.file.note(begins, now, wall)

    def write(
        self,
        number: int,
        frame_id: int,
        stamps: tuple[int, ...],
        *,
        size: int = 2**32 - 1,
        source: int = 0,
        outcome: int = 0,
        rss: int = 0,
        cpu: float = float("nan"),
    ) -> None:
        """Write the row of a claimed number; stamps are all marks in order, 0 is missing."""
        ticket = self.tickets.of(number)
        labels = source | outcome << 16
        row = (ticket, frame_id, *stamps, rss, size, labels, cpu_word(cpu), ticket)
        self.pack(self.buffer, ticket % (self.capacity * self.width), *row)

    def write_block(self, rows: npt.NDArray[np.void]) -> None:
        """Claim numbers for (n,) rows and write them, in pieces that fit the ring."""
        for start in range(0, len(rows), self.capacity):
            block = rows[start : start + self.capacity].copy()
            drawn = itertools.islice(self.tickets.supply, len(block))
            tickets = np.fromiter(drawn, np.uint64, len(block))
            slots = tickets // np.uint64(self.width) % np.uint64(self.capacity)
            index: Any = slots.astype(np.intp)
            if len(index) and index[-1] - index[0] == len(index) - 1:
                index = slice(int(index[0]), int(index[-1]) + 1)
            block["begin"] = tickets
            block["seq"] = 0
            # a row is not whole from the first of these three until the last
            self.array["seq"][index] = 0
            self.array[index] = block
            self.array["seq"][index] = tickets

    def read(self, after: int, limit: int | None = None) -> Rows:
        """Return a copy of the rows with numbers above `after`, the oldest `limit` of them."""
        claimed = self.claimed
        first = after + 1
        oldest = max(first, claimed - self.capacity + 1)
        last = claimed if limit is None else min(claimed, oldest + limit - 1)
        return self._collect(np.arange(oldest, last + 1, dtype=np.uint64), first, last)

    def read_numbers(self, numbers: list[int]) -> Rows:
        """Return a copy of the rows of these numbers, in ascending order."""
        wanted = np.array(sorted(numbers), np.uint64)
        if not len(wanted):
            return self._collect(wanted, 1, 0)
        # `overwritten` is for those that are asked for, not for the range between them
        found = self._collect(wanted, int(wanted[0]), int(wanted[-1]))
        found.overwritten = len(wanted) - len(found.rows) - len(found.pending)
        return found

    def is_hole(self, number: int) -> bool:
        """Return whether the slot of a number holds no whole row: nothing, or half of one."""
        row = self.array[(number - 1) % self.capacity]
        return bool(row["begin"] != row["seq"] or row["seq"] == 0)

    def _collect(self, wanted: npt.NDArray[np.uint64], first: int, last: int) -> Rows:
        slots: Any = ((wanted - np.uint64(1)) % np.uint64(self.capacity)).astype(np.intp)
        if len(slots) and slots[-1] - slots[0] == len(slots) - 1:
            slots = slice(int(slots[0]), int(slots[-1]) + 1)  # a plain copy, no gathering
        tickets = self.tickets.of_all(wanted)
        # in this order: a writer that comes meanwhile changes begin before anything else
        seq = self.array["seq"][slots].copy()
        rows = self.array[slots].copy()
        begin = self.array["begin"][slots].copy()
        whole = (seq == tickets) & (rows["begin"] == tickets)
        whole &= (rows["seq"] == tickets) & (begin == tickets)
        rows["begin"] = rows["seq"] = wanted
        if whole.all():
            return Rows(rows, first, last, max(0, last - first + 1 - len(rows)), [])
        newer = ~whole & ((begin > tickets) | (seq > tickets))
        pending = wanted[~whole & ~newer].tolist()
        kept = rows[whole]
        return Rows(kept, first, last, last - first + 1 - len(kept) - len(pending), pending)


def row_struct(marks: int) -> struct.Struct:
    """Return what packs a row of so many marks: the fields of `Pipeline.row_dtype`, in order.

    source and outcome are packed as one u4, ``source | outcome << 16``, cpu and weight as a
    `cpu_word`: the fewer values, the quicker.
    """
    # "N" is size_t: CPython converts integers to it three times as quickly as to "Q"
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
    """Return which rows have no stamp of 2**62 and more; None: all, without an array."""
    stamps = _stamps(rows, pipeline).view(np.uint64)
    if not stamps.size or int(stamps.max()) < STAMP_LIMIT:
        return None
    return np.asarray((stamps < np.uint64(STAMP_LIMIT)).all(axis=1))


def _stamps(rows: npt.NDArray[np.void], pipeline: Pipeline) -> Ints:
    """Return the marks of (n,) contiguous rows as a view (n, marks)."""
    words = rows.view(np.int64).reshape(len(rows), rows.itemsize // 8)
    return words[:, 2 : 2 + len(pipeline.marks)]


class Holder(Protocol):
    """What rows are explained by: a `Ring`, or the reader of a ring's file."""

    @property
    def pipeline(self) -> Pipeline:
        """What the marks are."""

    @property
    def sources(self) -> "LabelTable":
        """What source codes stand for."""

    @property
    def outcomes(self) -> "LabelTable":
        """What outcome codes stand for."""


class LabelTable(Protocol):
    """Names by their codes."""

    def labels(self, codes: npt.NDArray[np.uint16]) -> Labels:
        """Return the names of (n,) codes."""


def to_columns(rows: npt.NDArray[np.void], ring: Holder, offset_ns: int) -> Columns:
    """Return (n,) rows as columns: stamps on the wall clock, 0 as `MISSING`."""
    # all marks at once, (marks, n): beside a busy thread each call of numpy may have to wait for
    # the interpreter
    table = _stamps(rows, ring.pipeline).T.copy()  # one row would be a view
    absent = table == 0
    missing = absent.any(axis=1).tolist()
    table += np.int64(offset_ns)
    if any(missing):
        table[absent] = MISSING
    marks = dict(zip(ring.pipeline.marks, table, strict=True))
    complete = [mark for mark, some in zip(marks, missing, strict=True) if not some]
    return Columns(
        rows["frame_id"].copy(),
        marks,
        size=rows["size"].copy(),
        source=ring.sources.labels(rows["source"]),
        outcome=ring.outcomes.labels(rows["outcome"]),
        cpu=rows["cpu"].copy(),
        rss=rows["rss"].copy(),
        complete=frozenset(complete),
    )
