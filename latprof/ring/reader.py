"""Reading a ring file, whether its process lives or not: nothing is written, nothing is mapped.

The file may grow stale, short or wrong under the reader: it is read with plain reads, which a
mapping of a file that shrinks would answer with a signal. A row is whole when it was not touched
between three reads of it: the first gives its `seq`, the last its `begin`. See `latprof.ring`.
"""

import os
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from latprof.arrays import Mask
from latprof.errors import TraceError
from latprof.frames import FINISHED, Labels
from latprof.ring.file import is_held
from latprof.ring.format import (
    LONGEST_HEADER,
    OUTCOME,
    SOURCE,
    STARTED,
    Entry,
    find_entries,
    parse_header,
)
from latprof.ring.numbers import NO_NUMBER, Tickets
from latprof.ring.ring import storable
from latprof.ring.scan import Sight
from latprof.text import escape

__all__ = ["FoundNames", "RingReader", "Seen"]

CHUNK = 65_536
"""Rows that are read at a time."""

POLL_CHUNK = 4_096
"""Rows that are read at a time where only a few new ones are to be expected."""

PAUSES = (0, 0, 0.001, 0.002, 0.004, 0.008, 0.015, 0.02)
"""Seconds before each further read. The first ones find the rows that came while other slots were
read. The others are for what may be being written: a thread that waits for the interpreter between
the claim of a number and its row gets it within some 5 ms."""


class FoundNames:
    """The names that a ring file has for codes; of some codes it may have none.

    Parameters
    ----------
    first
        The name of code 0, as `ring.Names` has it.
    """

    def __init__(self, first: str | None) -> None:
        self.table: dict[int, str | None] = {0: first}

    def known(self, codes: npt.NDArray[np.uint16]) -> Mask:
        """Return which of (n,) codes have a name, or are the code for none."""
        there = np.zeros(2**16, bool)
        there[list(self.table)] = True
        return np.asarray(there[codes])

    def labels(self, codes: npt.NDArray[np.uint16]) -> Labels:
        """Return the names of (n,) codes, all of them known."""
        places = np.zeros(2**16, np.int32)
        table = Labels.encode(self.table.values())
        places[list(self.table)] = table.codes
        return Labels(places[codes], table.names)


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What one look at a ring file has found.

    Parameters
    ----------
    rows
        (n,) of the pipeline's `row_dtype`: those that are whole, in commit order.
    newest
        The largest commit number that was met, up to now.
    lost
        How many numbers after the one that was asked for, up to `newest`, and of those that were
        awaited, have no row: newer rows lie in their slots, or they are torn or refused.
    torn
        Slots that hold part of a row, which nobody is writing any more.
    refused
        Rows that are whole by their numbers but say what cannot be: a name that the file does
        not have, a mark that its process does not own, a stamp that cannot be stored.
    never_written
        Slots that are as they were when the file was made.
    cut_off
        Slots that lie beyond the end of the file.
    being_written
        Slots near the newest number whose row a living process has begun, or is about to, and
        slots whose row came during the look and is left for the next one.
    torn_before
        How many of the torn have numbers that are counted in `lost`, too: not those above
        `newest`.
    open
        (n,) numbers up to `newest` that are not lost, but are still being written: to be
        awaited in the next look.
    in_flight
        How many numbers are open, or above `newest` and being written as far as slots show it.
        The slot of an open number may hold an older row: then it is not among `being_written`.
    """

    rows: npt.NDArray[np.void]
    newest: int
    lost: int
    torn: int
    refused: int
    never_written: int
    cut_off: int
    being_written: int
    torn_before: int
    open: npt.NDArray[np.uint64]
    in_flight: int


class RingReader:
    """Reads a ring file that may be in use.

    Parameters
    ----------
    path
        What ``Profiler(ring=...)`` was given.

    Attributes
    ----------
    pipeline, capacity
        Of the ring.
    facts
        What is known of the recording, as `latprof.io.metadata` names it.
    sources, outcomes
        Names by code, as far as the last look found them.
    starts, stops
        When recording started and stopped, as far as the last look found them: pairs of the
        profiler's clock and the wall clock, ns.

    Raises
    ------
    TraceError
        The file cannot be read, is no ring, or its header is damaged.

    Examples
    --------
    >>> import tempfile
    >>> from latprof.pipeline import Pipeline
    >>> from latprof.ring.ring import Ring
    >>> path = os.path.join(tempfile.mkdtemp(), "mic.ring")
    >>> ring = Ring(Pipeline.chain("mic", "decode"), 4, path)
    >>> for frame_id in (7, 8):
    ...     ring.write(ring.claim(), frame_id, (100, 150, 180))
    >>> with RingReader(path) as reader:
    ...     seen = reader.look()
    ...     ring.write(ring.claim(), 9, (100, 150, 180))
    ...     seen.rows["frame_id"], reader.look(after=seen.newest).rows["frame_id"]
    (array([7, 8], dtype=uint64), array([9], dtype=uint64))
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fsdecode(path)
        self._shown = escape(self.path)
        try:
            self._file = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise TraceError(f"{self._shown} cannot be read: {reason}: check the path") from None
        try:
            self._header = parse_header(self._bytes(0, LONGEST_HEADER))
            self._tickets = Tickets(self._header.capacity, self._header.width)
        except TraceError as error:
            self.close()
            raise TraceError(f"{self._shown} {error}") from None
        self.pipeline, self.capacity = self._header.pipeline, self._header.capacity
        self.facts = self._header.facts
        self.sources, self.outcomes = FoundNames(None), FoundNames(FINISHED)
        self.starts: list[tuple[int, int]] = []
        self.stops: list[tuple[int, int]] = []
        self._log_read = 0
        owned = self.pipeline.check_owned(self.facts.get("owns"))
        self._foreign = [mark for mark in self.pipeline.marks if mark not in owned]

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
        self._file = -1

    def __enter__(self) -> "RingReader":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def offset_ns(self) -> int:
        """Wall clock minus the profiler's clock."""
        return int(self.facts.get("clock_offset_ns") or 0)

    @property
    def stopped(self) -> bool:
        """Whether recording was stopped in order, as far as the last look found it."""
        return len(self.stops) >= len(self.starts)

    def look(self, after: int = 0, awaited: npt.NDArray[np.uint64] | None = None) -> Seen:
        """Return the whole rows with commit numbers above `after`, and what else is there.

        Parameters
        ----------
        after
            `Seen.newest` of the last look: then only as much is read as there may be new rows,
            and what is counted by slots is of those that were read. 0: everything.
        awaited
            `Seen.open` of the last look: numbers up to `after` that are looked for once more.

        Notes
        -----
        While a process records, slots that look torn and numbers without a row are read again:
        all of them twice, at once; then those alone that may be being written, near the newest
        number, while 50 ms are waited in all. So a look takes up to three times as long as one
        read of the slots, and 50 ms; where each row is there it takes that one read. When the
        process is dead or has stopped, slots are read once, and nothing waits.

        Raises
        ------
        TraceError
            The file cannot be read any more.
        """
        awaited = np.empty(0, np.uint64) if awaited is None else awaited
        sight, live = self._read(after, awaited)
        self._read_log()  # after the rows: a name is stored before its code is used
        rows, account = sight.rows(), sight.account(live=live)
        kept = rows[self._plausible(rows)]
        return Seen(
            rows=kept,
            newest=sight.newest,
            lost=sight.newest - after + len(awaited) - len(kept) - len(account.open),
            refused=len(rows) - len(kept),
            cut_off=sight.beyond,
            **account._asdict(),
        )

    def ended(self) -> bool:
        """Return whether the process ended while it recorded, without stopping in order.

        It is told by the lock, which the system takes back: of a copy it is always so.
        """
        if self.stopped or is_held(self._file):
            return False
        self._read_log()  # it may have stopped in order just now
        return not self.stopped

    def _recording(self) -> bool:
        """Return whether a process lives that records into the file."""
        self._read_log()
        return not self.stopped and is_held(self._file)

    def _read(self, after: int, awaited: npt.NDArray[np.uint64]) -> tuple[Sight, bool]:
        """Return what the slots show when all is settled, and whether the process lives."""
        lived = self._recording()
        sight = self._pass(after, awaited)
        # who was alive before may have written meanwhile
        if lived or self._recording():
            self._settle(sight)
            if self._recording():
                return sight, True
            sight = self._pass(after, awaited)  # nothing changes any more
        return sight, False

    def _pass(self, after: int, awaited: npt.NDArray[np.uint64]) -> Sight:
        """Return what a first read of the slots shows."""
        sight, without = Sight(self.pipeline.row_dtype, self.capacity, after, awaited), 0
        for first, count in self._chunks(after):
            rows, slots = self._stable(first, count)
            sight.beyond += count - len(rows)
            without = 0 if sight.add(rows, slots) else without + count
            if after and without >= POLL_CHUNK:
                break
        if len(awaited):  # they lie before the first that was read
            missing = sight.missing()
            self._again(sight, np.unique(sight.slots_of(missing[missing <= np.uint64(after)])))
        return sight

    def _settle(self, sight: Sight) -> None:
        """Read again what came while other slots were read, then what may be being written."""
        for pause in PAUSES:
            slots = sight.pending() if pause else sight.unsettled()
            if not len(slots):
                break
            time.sleep(pause)
            self._again(sight, slots)
            sight.frozen = True

    def _again(self, sight: Sight, slots: npt.NDArray[np.uint64]) -> None:
        """Read (n,) slots again: a call for those that are near each other, not one for each."""
        sight.forget(slots)
        if not len(slots):
            return
        for near in np.split(slots, np.flatnonzero(np.diff(slots // POLL_CHUNK)) + 1):
            first = int(near[0])
            rows, _ = self._stable(first, int(near[-1]) - first + 1)
            near = near[near < first + len(rows)]
            sight.add(rows[(near - first).astype(np.intp)], near)

    # -- bytes ----------------------------------------------------------------------------------

    def _chunks(self, after: int) -> Iterator[tuple[int, int]]:
        """Yield (first slot, slots) of all there is to read, from the oldest new row on."""
        size = POLL_CHUNK if after else CHUNK
        begin = after % self.capacity
        for low, high in ((begin, self.capacity), (0, begin)):
            for first in range(low, high, size):
                yield first, min(size, high - first)

    def _stable(self, first: int, count: int) -> tuple[npt.NDArray[np.void], Any]:
        """Return the rows of slots, those that moved with `begin` 0 and another `seq`."""
        dtype = self.pipeline.row_dtype
        at = self._header.rows_at + first * dtype.itemsize
        raw = [self._bytes(at, count * dtype.itemsize) for _ in range(3)]
        there = min(map(len, raw)) // dtype.itemsize
        before, rows, later = (np.frombuffer(part, dtype, there) for part in raw)
        moved = (before["seq"] != rows["seq"]) | (later["begin"] != rows["begin"])
        rows = rows.copy()
        if self._header.version > 1:
            self._tickets.to_numbers(rows)
        rows["begin"][moved] = 0
        rows["seq"][moved] = NO_NUMBER
        return rows, np.arange(first, first + there, dtype=np.uint64)

    def _bytes(self, at: int, count: int) -> bytes:
        parts = []
        try:
            while count > 0 and (part := os.pread(self._file, min(count, 2**26), at)):
                parts.append(part)
                at, count = at + len(part), count - len(part)
        except OSError as error:
            raise TraceError(
                f"{self._shown} cannot be read: {error.strerror}: check the path"
            ) from None
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _read_log(self) -> None:
        header = self._header
        raw = self._bytes(header.log_at + self._log_read, header.log_size - self._log_read)
        entries, self._log_read = find_entries(raw, self._log_read)
        for entry in entries:
            if entry.kind in (SOURCE, OUTCOME):
                self._learn(entry)
            elif len(entry.payload) == 16:
                moments = self.starts if entry.kind == STARTED else self.stops
                moments.append(struct.unpack("<qq", entry.payload))

    def _learn(self, entry: Entry) -> None:
        names = self.sources if entry.kind == SOURCE else self.outcomes
        try:
            names.table.setdefault(entry.code, entry.payload.decode())
        except UnicodeDecodeError:
            return  # its checksum is right, so nobody but a forger has written it

    def _plausible(self, rows: npt.NDArray[np.void]) -> Mask:
        """Return which of (n,) whole rows can be what a profiler has written."""
        fit = storable(rows, self.pipeline)
        good = np.ones(len(rows), bool) if fit is None else fit.copy()
        for mark in self._foreign:
            good &= rows[mark] == 0
        good &= self.sources.known(rows["source"]) & self.outcomes.known(rows["outcome"])
        cpu = rows["cpu"]
        good &= (rows["weight"] > 0) & ~(cpu < 0) & ~np.isinf(cpu)
        return good
