"""Reading a ring file, whether its process is alive or dead; nothing is written or mapped.

The file may be outdated, short or corrupt, so it is read with plain reads: reading a mapping of a
file that shrinks would end the process with a signal.

A scan reads the slots one after the other. While a process records, a slot may be read in the
middle of a write, and a row may be written after its slot was read. Such rows are neither torn nor
lost: their slots are read again, and what was read last counts. In the end each sequence number up
to the newest one that was found has a row, or is unfinished (still being written), or is lost; and
each slot has given a row, or is being written, torn, or was never written.
"""

import contextlib
import os
import struct
import time
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from latprof.arrays import Ints, Mask
from latprof.errors import TraceError
from latprof.frames import FINISHED
from latprof.ring import layout
from latprof.ring.file import is_locked
from latprof.ring.names import NameTable
from latprof.ring.ring import storable
from latprof.text import quoted, shown_path
from latprof.units import STAMP_LIMIT

__all__ = ["RingReader", "Scan", "SlotTable"]

CHUNK = 65_536  # slots that are read at a time

POLL_CHUNK = 4_096  # the same, if only few new rows are expected

LOG_PIECE = 65_536  # bytes of the log that are read at a time

_TIMES = struct.Struct("<qq")

PAUSES_S = (0, 0, 0.001, 0.002, 0.004, 0.008, 0.015, 0.02)
"""Waiting times before each further read. The first two reads find rows that were written while
other slots were read. The others are for rows that are being written: a thread that waits for the
interpreter between claiming a number and writing the row gets it within about 5 ms."""

NEWEST = 64
"""How many numbers on either side of the newest one may be in the middle of a write: more than the
threads that are interrupted at once between claiming a number and the end of its row."""


_SLOT = np.dtype([("slot", "i8"), ("number", "i8"), ("whole", "?"), ("empty", "?")])


@dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """The result of one scan of a ring file.

    Parameters
    ----------
    rows
        (n,) of the ring's `dtype`: rows that are whole and valid, in commit order.
    newest
        The largest sequence number that was found up to now.
    unfinished
        Sequence numbers up to `newest` that are still being written: to be passed to the next
        scan.
    in_flight
        Number of rows being written: `unfinished`, and those above `newest` that are visible in
        their slots. An unfinished row may not have reached its slot yet, so this can be more than
        `being_written`.
    lost
        Requested numbers up to `newest` without a row: overwritten, torn or refused.
    torn
        Slots that hold part of a row that no process is writing any more.
    torn_lost
        How many of the torn slots are of numbers that are counted in `lost`, too: of those up to
        `newest`.
    refused
        Rows that are whole but invalid: with a name that the file does not have, a mark that the
        process does not own, or a stamp out of range.
    never_written
        Slots that are as they were when the file was created.
    being_written
        Slots near the newest number with a row that a living process has begun or is about to
        begin, and slots with a row that was written during the scan and is left for the next one.
    cut_off
        Slots beyond the end of the file.
    """

    rows: npt.NDArray[np.void]
    newest: int
    unfinished: Ints
    in_flight: int
    lost: int
    torn: int
    torn_lost: int
    never_written: int
    being_written: int
    refused: int = 0
    cut_off: int = 0


class _Gaps(NamedTuple):
    """The slots of a `SlotTable` that do not hold their latest row.

    The *latest* number of a slot is the largest one up to the newest number that belongs to it::

        capacity 4, newest 6      slot 0    slot 1    slot 2    slot 3
        holds the row of               5         6         3         -
        latest number                  5         6         3         4    -> number 4 is missing
    """

    place: Ints  # in the table
    state: npt.NDArray[np.void]
    latest: Ints
    number: Ints  # of the row that the slot holds at least part of; a guess if that is unknown
    missing: Mask  # the latest number is requested, has no row, and may get one
    unfinished: Mask  # the same, and it may still be being written


class SlotTable:
    """The slots that a scan has read, each as it was read last.

    Parameters
    ----------
    dtype, capacity
        Of the ring.
    after
        Rows with numbers above are requested; if 0, all rows are.
    unfinished
        Numbers up to `after` that are requested, too.

    Attributes
    ----------
    newest
        The largest requested number that was found, or `after`.
    frozen
        If true, `newest` does not grow any more, and newer rows are left for the next scan.
        Otherwise a fast writer could keep the scan from terminating.
    """

    def __init__(
        self, dtype: np.dtype[np.void], capacity: int, after: int, unfinished: Ints
    ) -> None:
        self.capacity, self.after, self._unfinished = capacity, after, unfinished
        self.newest = after
        self.frozen = False
        self._empty = np.empty(0, dtype), np.empty(0, _SLOT)
        self._chunks: list[tuple[npt.NDArray[np.void], npt.NDArray[np.void]]] = []
        self._overwritten: list[npt.NDArray[np.void]] = []  # rows of slots that were read again

    def _table(self) -> tuple[npt.NDArray[np.void], npt.NDArray[np.void]]:
        """Return the rows and the states of all slots."""
        if len(self._chunks) != 1:
            rows, states = zip(*(self._chunks or [self._empty]), strict=True)
            self._chunks = [(np.concatenate(rows), np.concatenate(states))]
        return self._chunks[0]

    @property
    def slots(self) -> Ints:
        """(n,) slots, in the order in which they were added."""
        return np.asarray(self._table()[1]["slot"])

    def add(self, slots: Ints, rows: npt.NDArray[np.void], moved: Mask) -> int:
        """Add (n,) slots with their content; return how many of the rows are requested.

        `moved` says which of the rows changed while they were read.
        """
        self._chunks.append(self._parsed(slots, rows, moved))
        return self._advance(self._chunks[-1][1])

    def update(self, places: Ints, rows: npt.NDArray[np.void], moved: Mask) -> None:
        """Replace the content of slots, given by their (n,) places in the table."""
        table, states = self._table()
        if self.after:  # a scan for new rows keeps each row that it has seen
            self._overwritten.append(table[places[self._is_found(states[places])]])
        table[places], states[places] = self._parsed(states["slot"][places], rows, moved)
        self._advance(states[places])

    def _parsed(
        self, slots: Ints, rows: npt.NDArray[np.void], moved: Mask
    ) -> tuple[npt.NDArray[np.void], npt.NDArray[np.void]]:
        """Return a copy of (n,) rows, and the slots' state."""
        begin, seq = rows["begin"], rows["seq"]
        numbers = begin.astype(np.int64)  # below 0 if it is too large
        begun = ~moved & (numbers > 0) & ((numbers - 1) % self.capacity == slots)
        state = np.empty(len(rows), _SLOT)
        state["slot"] = slots
        state["number"] = np.where(begun, numbers, 0)
        state["whole"] = begun & (begin == seq)
        state["empty"] = ~moved & (begin == 0) & (seq == 0)
        return rows.copy(), state

    def _advance(self, state: npt.NDArray[np.void]) -> int:
        found = state["number"][state["whole"] & self._is_requested(state["number"])]
        if not self.frozen:
            self.newest = max(self.newest, int(found.max(initial=0)))
        return len(found)

    def _is_requested(self, numbers: Ints) -> Mask:
        return (numbers > self.after) | np.isin(numbers, self._unfinished)

    def _is_found(self, state: npt.NDArray[np.void]) -> Mask:
        """Return which of (n,) slots hold a row of the result."""
        numbers = state["number"]
        return np.asarray(state["whole"] & self._is_requested(numbers) & (numbers <= self.newest))

    def _found(self) -> npt.NDArray[np.void]:
        """Return the requested rows in commit order, none twice."""
        rows, states = self._table()
        found = np.flatnonzero(self._is_found(states))
        rows = rows[found[np.argsort(states["number"][found], kind="stable")]]
        if self._overwritten:
            rows = np.concatenate((*self._overwritten, rows))
            rows = rows[np.unique(rows["seq"], return_index=True)[1]]
        return rows

    def _gaps(self, *, alive: bool = True) -> _Gaps:
        newest, capacity, state = self.newest, self.capacity, self._table()[1]
        behind = (newest - 1 - state["slot"]) % capacity
        latest = np.maximum(newest - behind, 0)
        place = np.flatnonzero(~state["whole"] | (state["number"] != latest))
        behind, latest, state = behind[place], latest[place], state[place]
        begun = state["number"]
        missing = self._is_requested(latest) & (begun <= newest)
        # in a scan for new rows each number gets the time until the next scan
        oldest = min(newest - NEWEST, self.after or newest)
        unfinished = missing & (latest > oldest) & alive
        # where the number is unknown: near the newest one it may be that of the next lap
        next_lap = (begun == 0) & ~_untouched(state, latest, capacity) & ~unfinished & alive
        next_lap &= capacity - behind <= NEWEST
        guess = np.where(next_lap, newest - behind + capacity, latest)
        number = np.where(begun > 0, begun, guess)
        return _Gaps(place, state, latest, number, missing, unfinished)

    def unsettled(self, *, near: bool) -> Ints:
        """Return the places of slots that another read may find another row in.

        Parameters
        ----------
        near
            Only slots near the newest number that may be in the middle of a write: those that
            are worth waiting for.
        """
        place, state, latest, number, missing, unfinished = self._gaps()
        if near:
            # a row that was unfinished in the scan before has had its time
            again = unfinished & (latest > max(self.after, self.newest - NEWEST))
            again |= ~state["whole"] & (number > self.newest)
        else:
            # rows begun up to `after` were settled by the scan before
            begun = state["number"]
            again = ~state["whole"] & ~state["empty"] & ((begun == 0) | (begun > self.after))
            again |= missing
        return np.asarray(place[again])

    def result(self, *, alive: bool) -> Scan:
        """Return the rows, and what became of slots and numbers without one.

        Parameters
        ----------
        alive
            Whether the process is alive and records; otherwise no row is being written.
        """
        rows = self._found()
        _, state, latest, number, _, unfinished = self._gaps(alive=alive)
        newest, whole, gap = self.newest, state["whole"], ~state["whole"] | (number > self.newest)
        # if all rows since the newest one were rejected, only the last ones may still come
        last = int(number[gap].max(initial=0))
        above = (number > newest) & (whole | (number > last - NEWEST)) & alive
        being_written = above | (gap & unfinished & (number == latest))
        never = gap & ~being_written & _untouched(state, latest, self.capacity)
        torn = number[gap & ~being_written & ~never]
        still = np.sort(latest[unfinished])
        requested = newest - self.after + len(self._unfinished)
        return Scan(
            rows=rows,
            newest=newest,
            unfinished=still,
            in_flight=len(still) + int(np.count_nonzero(above)),
            lost=requested - len(rows) - len(still),
            torn=len(torn),
            torn_lost=int(np.count_nonzero(self._is_requested(torn) & (torn <= newest))),
            never_written=int(np.count_nonzero(never)),
            being_written=int(np.count_nonzero(being_written)),
        )


def _untouched(state: npt.NDArray[np.void], latest: Ints, capacity: int) -> Mask:
    """Return which of (n,) slots are as they were when the file was created.

    A writer may write zeros before the row: from the second lap on, zeros are part of a row.
    """
    return np.asarray(state["empty"] & (latest <= capacity))


class RingReader:
    r"""Reads a ring file that may be in use.

    Parameters
    ----------
    path
        The path that ``Profiler(ring=...)`` was given.

    Attributes
    ----------
    pipeline, capacity, tag_names, dtype
        Of the ring.
    metadata
        Metadata of the recording, see `latprof.io.metadata`.
    offset_ns
        Wall clock minus the profiler's clock.
    sources, outcomes, tags
        Names by code, as far as the last scan found them; of the tags a table each.
    starts, stops
        When recording started and stopped, as far as the last scan found it: pairs of the
        profiler's clock and the wall clock, ns.

    Raises
    ------
    TraceError
        The file cannot be read, is not a ring file, or has an invalid header.

    Examples
    --------
    >>> import tempfile
    >>> from latprof import Pipeline, Profiler
    >>> path = os.path.join(tempfile.mkdtemp(), "mic.ring")
    >>> with Profiler(Pipeline.chain("mic", "decode"), ring=path) as profiler, \
    ...         RingReader(path) as reader:
    ...     profiler.frame(7).finish()
    ...     first = reader.scan()
    ...     profiler.frame(8).finish()
    ...     first.rows["frame_id"], reader.scan(after=first.newest).rows["frame_id"]
    (array([7], dtype=uint64), array([8], dtype=uint64))
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        if not isinstance(path, str | bytes | os.PathLike):
            raise TraceError(f"ring must be a path, got {quoted(path)}")
        self._shown = shown_path(path)
        try:
            self._file = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise TraceError(f"{self._shown} cannot be read: {reason}; check the path") from None
        try:
            self._header = layout.parse_header(self._bytes(0, layout.LONGEST_HEADER), self._shown)
        except TraceError:
            self.close()
            raise
        self.pipeline, self.capacity = self._header.pipeline, self._header.capacity
        self.tag_names, self.dtype = self._header.tags, self._header.dtype
        self.metadata = self._header.metadata
        self.offset_ns = int(self.metadata.get("clock_offset_ns") or 0)
        self.sources, self.outcomes = NameTable(None), NameTable(FINISHED)
        self.tags = tuple(NameTable(None) for _ in self.tag_names)
        self.starts: list[tuple[int, int]] = []
        self.stops: list[tuple[int, int]] = []
        self._log_read = 0
        owned = self.pipeline.check_owned(self.metadata.get("owns"))
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
    def stopped(self) -> bool:
        """Whether recording was stopped in order, as far as the last scan found it."""
        return len(self.stops) >= len(self.starts)

    def ended(self) -> bool:
        """Return whether the process ended while it recorded, without stopping in order.

        The lock shows it, which the system releases then. For a copy of a file that is always so.
        """
        if self.stopped or is_locked(self._file):
            return False
        self._read_log()  # it may have stopped in order meanwhile
        return not self.stopped

    def scan(self, *, after: int = 0, unfinished: Ints | None = None) -> Scan:
        """Return the rows with sequence numbers above `after`, and what became of the others.

        Parameters
        ----------
        after
            `Scan.newest` of the previous scan: only slots that may hold new rows are read, and
            slots are counted only among those. With 0 all slots are read.
        unfinished
            `Scan.unfinished` of the previous scan: numbers up to `after` that are requested again.

        Notes
        -----
        While a process records, slots that look torn and slots of missing rows are read again:
        all of them twice, at once; then those near the newest number that may be in the middle of
        a write, during 50 ms in all. So a scan takes up to three times as long as a single read of
        the slots, and 50 ms; if no row is missing, it takes a single read. If the process is dead
        or has stopped, slots are read once, without waiting.

        Raises
        ------
        TraceError
            The file cannot be read any more.
        """
        requested = np.empty(0, np.int64) if unfinished is None else unfinished
        was_alive, alive = self._recording(), False
        table = self._read_slots(after, requested)
        # a process that was alive before may have written meanwhile
        if was_alive or self._recording():
            self._settle(table)
            alive = self._recording()
            if not alive:  # nothing changes any more
                table = self._read_slots(after, requested)
        self._read_log()  # after the rows: a name is stored before its code is used
        found = table.result(alive=alive)
        valid = self._valid(found.rows)
        rows = found.rows if valid.all() else found.rows[valid]
        refused = len(found.rows) - len(rows)
        cut_off = 0 if after else self.capacity - len(table.slots)
        return replace(
            found, rows=rows, refused=refused, lost=found.lost + refused, cut_off=cut_off
        )

    def _recording(self) -> bool:
        """Return whether a living process records into the file."""
        self._read_log()
        return not self.stopped and is_locked(self._file)

    def _read_slots(self, after: int, unfinished: Ints) -> SlotTable:
        """Return a first read of the slots, from the oldest requested number on."""
        table = SlotTable(self.dtype, self.capacity, after, unfinished)
        old = unfinished[unfinished > after - self.capacity]  # those that may be in the ring
        first = int(old.min(initial=after + 1)) - 1
        begin, stored = first % self.capacity, self._stored()
        size = POLL_CHUNK if after else CHUNK
        chunks = [*range(begin, stored, size), *range(0, min(begin, stored), size)]
        read = without = 0
        for slot in chunks:
            high = begin if slot < begin else stored
            rows, moved = self._read_rows(slot, min(size, high - slot))
            found = table.add(np.arange(slot, slot + len(rows)), rows, moved)
            read, without = read + len(rows), 0 if found else without + len(rows)
            # rows up to `after` are read for unfinished numbers: new rows come after them
            enough = first + read >= max(table.newest, after + POLL_CHUNK)
            if after and without >= POLL_CHUNK and enough:
                break
        return table

    def _settle(self, table: SlotTable) -> None:
        """Read again what was written while other slots were read, then what is being written."""
        for pause in PAUSES_S:
            places = table.unsettled(near=pause > 0)
            if not len(places):
                break
            time.sleep(pause)
            places = places[np.argsort(table.slots[places])]
            # slots that are near each other are read in one call
            cuts = np.flatnonzero(np.diff(table.slots[places] // POLL_CHUNK)) + 1
            for near in np.split(places, cuts):
                slots = table.slots[near]
                rows, moved = self._read_rows(int(slots[0]), int(slots[-1] - slots[0]) + 1)
                at = slots - slots[0]
                near, at = near[at < len(rows)], at[at < len(rows)]
                table.update(near, rows[at], moved[at])
            table.frozen = True

    def _stored(self) -> int:
        """Return how many slots the file holds: all of them, unless it was cut short."""
        rows = os.fstat(self._file).st_size - self._header.rows_at
        return max(0, min(self.capacity, rows // self._header.width))

    # -- bytes ----------------------------------------------------------------------------------

    def _read_rows(self, slot: int, count: int) -> tuple[npt.NDArray[np.void], Mask]:
        """Return the rows of adjacent slots, and which of them changed meanwhile.

        Three reads: a row did not change if the first gives its `seq` and the last its `begin`.
        """
        dtype = self.dtype
        at = self._header.rows_at + slot * dtype.itemsize
        raw = [self._bytes(at, count * dtype.itemsize) for _ in range(3)]
        there = min(map(len, raw)) // dtype.itemsize
        before, rows, later = (np.frombuffer(part, dtype, there) for part in raw)
        return rows, (before["seq"] != rows["seq"]) | (later["begin"] != rows["begin"])

    def _bytes(self, at: int, count: int) -> bytes:
        try:
            return os.pread(self._file, count, at)
        except OSError as error:
            raise TraceError(
                f"{self._shown} cannot be read: {error.strerror}; check the path"
            ) from None

    def _read_log(self) -> None:
        """Read the entries that are new; the log is read in pieces, as most of it may be empty."""
        header, piece = self._header, LOG_PIECE
        while left := header.log_size - self._log_read:
            raw = self._bytes(header.log_at + self._log_read, min(piece, left))
            entries, end = layout.find_entries(raw, self._log_read)
            self._log_read = end
            for entry in entries:
                self._restore(*entry)
            if not entries:
                # damaged bytes are skipped, unless they may be the start of an entry
                if piece >= left or not raw.strip(b"\0"):
                    return
                piece *= 2

    def _restore(self, kind: int, code: int, payload: bytes) -> None:
        """Add what an entry of the log says."""
        if kind in (layout.STARTED, layout.STOPPED):
            if len(payload) == 16 and max(map(abs, times := _TIMES.unpack(payload))) < STAMP_LIMIT:
                (self.starts if kind == layout.STARTED else self.stops).append(times)
            return
        tables = {layout.SOURCE: self.sources, layout.OUTCOME: self.outcomes}
        tables |= {layout.TAG + k: table for k, table in enumerate(self.tags)}
        with contextlib.suppress(UnicodeDecodeError, KeyError):  # of a forged entry
            tables[kind].restore(code, payload.decode())

    def _valid(self, rows: npt.NDArray[np.void]) -> Mask:
        """Return which of (n,) whole rows a profiler can have written."""
        fit = storable(rows, self.pipeline)
        valid = np.ones(len(rows), bool) if fit is None else fit.copy()
        for mark in self._foreign:
            valid &= rows[mark] == 0
        valid &= self.sources.known(rows["source"]) & self.outcomes.known(rows["outcome"])
        for k, table in enumerate(self.tags):
            valid &= table.known(rows[f"tag {k}"])
        cpu = rows["cpu"]
        return np.asarray(valid & (rows["weight"] > 0) & ~(cpu < 0) & ~np.isinf(cpu))
