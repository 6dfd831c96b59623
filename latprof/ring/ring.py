"""The ring: a preallocated structured array that frames are committed into, oldest overwritten.

Rows have sequence numbers 1, 2, 3, ...; number n is stored in slot ``(n - 1) % capacity``. A writer
draws a number and then writes the row, in the order of its fields: ``begin`` first, ``seq`` last.
Both hold the number. A row is committed when both fields are equal and belong to its slot. No
lock is taken: each number is drawn once, and a reader drops rows that changed while it copied
them.

Drawing a number and writing its row are two steps. A number that is drawn is pending until its row
is in its slot; a writer that is a whole lap late even overwrites a newer row. Only time
distinguishes these cases: a reader looks again later, and counts what does not arrive as lost or
torn.
"""

import os
import struct
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from latprof.arrays import Ints, Mask
from latprof.errors import ProfilerError, TraceError
from latprof.frames import FINISHED, MISSING, Columns
from latprof.pipeline import Pipeline
from latprof.ring.file import KEEP_PREVIOUS, RingFile
from latprof.ring.layout import (
    LARGEST_CAPACITY,
    OUTCOME,
    OUTCOME_BYTES,
    SLOTS,
    SOURCE,
    TAG,
    check_tags,
    row_dtype,
)
from latprof.ring.names import NameTable
from latprof.text import quoted
from latprof.units import STAMP_LIMIT

__all__ = [
    "Drawing",
    "Numbers",
    "Ring",
    "RowSource",
    "Snapshot",
    "row_struct",
    "storable",
    "store_rows",
    "to_columns",
]


class Numbers:
    """Hands out sequence numbers 1, 2, 3, ..., each once.

    Examples
    --------
    >>> numbers = Numbers()
    >>> numbers.draw(), numbers.draw(3), numbers.draw(), numbers.drawn
    (1, 2, 5, 5)
    """

    def __init__(self) -> None:
        self.drawn = 0  # the newest number
        self._lock = threading.RLock()

    def draw(self, count: int = 1) -> int:
        """Draw `count` consecutive numbers and return the first."""
        with self._lock:
            first = self.drawn + 1
            self.drawn += count
        return first


class Drawing(Protocol):
    """An object that hands out sequence numbers: `Numbers`, or the core of a profiler."""

    @property
    def drawn(self) -> int:
        """The newest number that was drawn, or 0."""


@dataclass(slots=True)
class Snapshot:
    """A copy of the rows of a range of sequence numbers.

    Parameters
    ----------
    rows
        (n,) of the ring's `dtype`, committed rows in order of their numbers.
    first, last
        The range; `last` < `first` if it is empty.
    overwritten
        How many numbers of the range have newer rows in their slots.
    pending
        The numbers of the range that were drawn, but have no row in their slots (yet).
    """

    rows: npt.NDArray[np.void]
    first: int
    last: int
    overwritten: int
    pending: list[int]


class Ring:
    """The last `capacity` of all rows that were committed.

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
    tags
        Names of the tags of the frames.
    slots
        Number of frames in flight that the file holds.
    keep_previous
        Number of older ring files that are kept.

    Attributes
    ----------
    file
        The `RingFile`, or None.
    dtype, width
        The row, see `latprof.ring.layout.row_dtype`, and its bytes.
    buffer, array
        The rows as bytes and as (capacity,) of `dtype`.
    slots, slot_count
        The slots of frames in flight as bytes, and their number; None and 0 for rows in memory.
    numbers
        Hands out the sequence numbers of new rows.
    sources, outcomes, tags
        Names by code; `tags` has a table for each tag, in the order of `tag_names`.

    Raises
    ------
    ProfilerError
        The capacity is not an integer in range, a tag has an invalid name, or the file cannot be
        created.

    Examples
    --------
    >>> mic = Pipeline.chain("mic", "decode")
    >>> ring = Ring(mic, capacity=2)
    >>> rows = np.zeros(3, ring.dtype)
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
        tags: Sequence[str] = (),
        slots: int = SLOTS,
        keep_previous: int = KEEP_PREVIOUS,
    ) -> None:
        is_int = isinstance(capacity, int) and not isinstance(capacity, bool)
        if not is_int or not 1 <= capacity <= LARGEST_CAPACITY:
            raise ProfilerError(
                f"capacity must be an integer between 1 and {LARGEST_CAPACITY:,}, "
                f"got {quoted(capacity)}"
            )
        try:
            self.tag_names = check_tags(tags, pipeline)
        except TraceError as error:
            raise ProfilerError(str(error)) from None
        self.pipeline = pipeline
        self.capacity = capacity
        self.dtype = row_dtype(pipeline, self.tag_names)
        self.width = self.dtype.itemsize
        self.file: RingFile | None = None
        self.slots: Any = None
        self.slot_count = 0
        if path is None:
            try:
                self.buffer: Any = bytearray(capacity * self.width)
            except MemoryError:
                raise ProfilerError(
                    f"capacity {capacity:,} needs {capacity * self.width:,} bytes, which cannot be "
                    "allocated; choose a smaller capacity"
                ) from None
        else:
            file = self.file = RingFile(
                path,
                pipeline,
                capacity,
                metadata or {},
                tags=self.tag_names,
                slots=slots,
                keep_previous=keep_previous,
            )
            self.buffer, self.slots, self.slot_count = file.rows, file.slots, slots
        self.sources = NameTable(None, store=self._stored_as(SOURCE))
        self.outcomes = NameTable(
            FINISHED, most_bytes=OUTCOME_BYTES, store=self._stored_as(OUTCOME)
        )
        self.tags = tuple(
            NameTable(None, store=self._stored_as(TAG + k)) for k in range(len(self.tag_names))
        )
        self.array = np.frombuffer(self.buffer, self.dtype)
        self.numbers: Drawing = Numbers()

    def _stored_as(self, kind: int) -> Callable[[int, str], bool] | None:
        """Return a function that stores names of a kind in the file; None for rows in memory."""
        return None if self.file is None else partial(self.file.store_name, kind)

    @property
    def claimed(self) -> int:
        """The newest sequence number that a writer has drawn."""
        return self.numbers.drawn

    def acquire(self) -> None:
        """Lock the file, if there is one; raise ProfilerError if another profiler has locked it."""
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

    def beat(self, now: int) -> None:
        """Store in the file that the process is alive, with the profiler's clock in ns."""
        if self.file is not None:
            self.file.beat(now)

    def write_rows(self, rows: npt.NDArray[np.void]) -> None:
        """Draw numbers for (n,) rows and write the rows, in blocks that fit the ring."""
        assert isinstance(self.numbers, Numbers)  # no core of a profiler draws
        first = self.numbers.draw(len(rows))
        for start in range(0, len(rows), self.capacity):
            store_rows(self.array, rows[start : start + self.capacity], first + start)

    def read(self, after: int, limit: int | None = None) -> Snapshot:
        """Return a copy of the rows with numbers above `after`: the oldest `limit`, or all."""
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
        wanted = numbers.astype(np.uint64)
        # in this order: a writer that arrives meanwhile changes `begin` first and `seq` last
        seq = self.array["seq"][index].copy()
        rows = self.array[index].copy()
        begin = self.array["begin"][index].copy()
        whole = (seq == wanted) & (rows["begin"] == wanted)
        whole &= (rows["seq"] == wanted) & (begin == wanted)
        if whole.all():
            return rows, []
        newer = (begin > wanted) | (seq > wanted)
        return rows[whole], numbers[~whole & ~newer].tolist()

    def _index(self, numbers: Ints) -> Any:
        """Return the slots of (n,) ascending numbers, as a slice if they are consecutive."""
        slots = (numbers - 1) % self.capacity
        span = len(numbers) - 1
        # a slice copies faster than an array of indices
        if span >= 0 and numbers[-1] - numbers[0] == span == slots[-1] - slots[0]:
            return slice(int(slots[0]), int(slots[-1]) + 1)
        return slots


def row_struct(marks: int, tags: int = 0) -> struct.Struct:
    """Return a Struct of the bytes of `row_dtype`, for these numbers of marks and tags."""
    order, word = "<", "Q"
    if sys.byteorder == "little" and struct.calcsize("@N") == 8:
        order, word = "@", "N"  # the same bytes, which CPython packs in two thirds of the time
    return struct.Struct(f"{order}{marks + 3}{word}IHHfI{tags}I{4 * (tags % 2)}x{word}")


def store_rows(array: npt.NDArray[np.void], rows: npt.NDArray[np.void], first: int) -> None:
    """Write (n,) rows, n at most len(array), into the slots of the numbers from `first` on."""
    numbers = np.arange(first, first + len(rows))
    places = (numbers - 1) % len(array)
    block = rows.copy()
    block["begin"], block["seq"] = numbers, 0
    # the rows are not committed from the first of these three until the last
    array["seq"][places] = 0
    array[places] = block
    array["seq"][places] = numbers


def storable(rows: npt.NDArray[np.void], pipeline: Pipeline, offset_ns: int = 0) -> Mask | None:
    """Return which of (n,) rows have only stamps that a trace can hold, or None if all rows do.

    A stamp must be from 0 to below 2**62, also after `offset_ns` is added.
    """
    limit = STAMP_LIMIT - max(offset_ns, 0)
    stamps = _stamps(rows, pipeline).view(np.uint64)
    if not stamps.size or int(stamps.max()) < limit:
        return None
    return np.asarray((stamps < np.uint64(limit)).all(axis=1))


def _stamps(rows: npt.NDArray[np.void], pipeline: Pipeline) -> Ints:
    """Return the marks of (n,) contiguous rows as a view (n, marks)."""
    words = rows.view(np.int64).reshape(len(rows), rows.itemsize // 8)
    return words[:, 2 : 2 + len(pipeline.marks)]


class RowSource(Protocol):
    """An object with the names that rows refer to: a `Ring`, or the reader of a ring file."""

    pipeline: Pipeline
    sources: NameTable
    outcomes: NameTable
    tags: tuple[NameTable, ...]
    tag_names: tuple[str, ...]


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
        tags={
            name: table.labels_used(rows[f"tag {k}"])
            for k, (name, table) in enumerate(zip(source.tag_names, source.tags, strict=True))
        },
        complete=frozenset(complete),
    )
