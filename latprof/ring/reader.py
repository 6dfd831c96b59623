"""Reading a ring file, whether its process is alive or dead; nothing is written or mapped.

The file may be outdated, short or corrupt, so it is read with plain reads: reading a mapping of a
file that shrinks would end the process with a signal.

A scan first reads the rows (`latprof.ring.scan`) and then the slots of frames in flight. A frame
that finishes in between is in neither, and its row is found by the next scan; so no frame is in
both.
"""

import contextlib
import os
import struct
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from latprof.arrays import Ints, Mask
from latprof.errors import TraceError
from latprof.frames import FINISHED
from latprof.ring import layout
from latprof.ring.file import is_locked
from latprof.ring.names import NameTable
from latprof.ring.ring import storable
from latprof.ring.scan import NEWEST, NO_NUMBERS, Scan, SlotTable
from latprof.text import quoted, shown_path
from latprof.units import STAMP_LIMIT

__all__ = ["RingReader"]

CHUNK = 65_536  # slots that are read at a time in a full scan

POLL_CHUNK = 4_096  # slots that are read at a time in a scan for new rows

LOG_PIECE = 65_536  # bytes of the log that are read at a time

_TIMES = struct.Struct("<qq")

FLIGHT_READS = 8
"""How often a slot of a frame in flight is read at most, if its frame changes during each read.
Then the frame is left out."""

REREADS = 4  # how often all slots are read again if most of them changed meanwhile

PAUSES_S = (0, 0, 0.001, 0.002, 0.004, 0.008, 0.015, 0.02)
"""Waiting times before each further read. The first two reads find rows that were written while
other slots were read. The others are for rows that are being written: a thread that waits for the
interpreter between claiming a number and writing the row gets it within about 5 ms."""


class RingReader:
    r"""Reads a ring file that may be in use.

    Parameters
    ----------
    path
        The path that ``Profiler(ring=...)`` was given.

    Attributes
    ----------
    pipeline, capacity, slots, tag_names, dtype
        As in `latprof.ring.layout.Header`, and the type of a row; `slots` is the number of frames
        in flight that the file can hold.
    metadata
        Metadata of the recording, see `latprof.io.metadata`.
    offset_ns
        Wall clock minus the profiler's clock, ns.
    sources, outcomes, tags
        Names by code, as far as the last scan found them; `tags` has a table for each tag.
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
        self.slots = self._header.slots
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

        It holds a lock while it records, which the system releases when it ends. A copy of a file
        is never locked, so its process seems to have ended.
        """
        if self.stopped or is_locked(self._file):
            return False
        self._read_log()  # the process may have stopped in order meanwhile
        return not self.stopped

    def scan(self, *, after: int = 0, unfinished: Ints | None = None) -> Scan:
        """Return the rows with sequence numbers above `after`, and the frames in flight.

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
        requested = NO_NUMBERS if unfinished is None else unfinished
        was_alive, alive = self.recording(), False
        table = self._read_slots(after, requested)
        # a process that was alive before may have written meanwhile
        if was_alive or self.recording():
            if not after:
                table = self._read_again(table)
            self._settle(table)
            alive = True
        flights = self._read_flights()
        if alive and not self.recording():  # nothing changes any more
            alive = False
            table, flights = self._read_slots(after, requested), self._read_flights()
        self._read_log()  # after the rows: a name is stored before its code is used
        fine = self._valid(flights, in_flight=True)
        found = table.result(alive=alive, flights=flights[fine])
        is_rejected = self._is_rejected(found.rows)
        valid = self._valid(found.rows)
        refused = len(valid) - int(np.count_nonzero(valid))
        reasons = self.outcomes.labels(found.rows["outcome"][is_rejected & valid]).counts()
        return replace(
            found,
            rows=found.rows[valid & ~is_rejected] if refused or reasons else found.rows,
            refused=refused,
            lost=found.lost + refused,
            cut_off=0 if after else self.capacity - len(table.slots),
            rejected={
                str(name).removeprefix(layout.REJECTED): count for name, count in reasons.items()
            },
            refused_flights=len(fine) - int(np.count_nonzero(fine)),
        )

    def recording(self) -> bool:
        """Return whether a living process records into the file."""
        self._read_log()
        return not self.stopped and is_locked(self._file)

    def _read_slots(self, after: int, unfinished: Ints) -> SlotTable:
        """Return a first read of the slots, from the oldest requested number on."""
        table = SlotTable(self.dtype, self.capacity, after, unfinished)
        old = unfinished[unfinished > after - self.capacity]  # those that may be in the ring
        first = int(old.min(initial=after + 1)) - 1
        begin, stored = first % self.capacity, self._stored()
        # a ring of few rows is overwritten while it is read: small pieces are read at once
        size = POLL_CHUNK if after else min(CHUNK, max(self.capacity // 16, 64))
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

    def _read_again(self, table: SlotTable) -> SlotTable:
        """Read all slots again if many were overwritten meanwhile; return the best of the reads.

        That happens if the ring is small, or if this process had to wait for the processor.
        """
        for _ in range(REREADS):
            if table.overtaken <= NEWEST:
                break
            again = self._read_slots(0, NO_NUMBERS)
            table = min(table, again, key=lambda each: each.overtaken)
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

    def last_sign_ns(self, rows: Sequence[npt.NDArray[np.void]]) -> int:
        """Return when the process was alive for certain, on the profiler's clock; 0 if unknown.

        That is the newest of the stamps in `rows`, the starts and stops, and the time that the
        process stores now and then.
        """
        raw = self._bytes(self._header.beat_at, 8)
        times = [int.from_bytes(raw, "little"), *(now for now, _ in (*self.starts, *self.stops))]
        times += [int(part[mark].max(initial=0)) for part in rows for mark in self.pipeline.marks]
        return max((now for now in times if now < STAMP_LIMIT), default=0)

    # -- frames in flight -----------------------------------------------------------------------

    def _read_flights(self) -> npt.NDArray[np.void]:
        """Return the slots of frames in flight: those in use, without a committed row."""
        header = self._header
        places = np.arange(header.slots)
        found = []
        for _ in range(FLIGHT_READS):
            if not len(places):
                break
            first, end = int(places[0]), int(places[-1]) + 1
            before, rows, later = self._read_three(
                header.slots_at + first * header.width, end - first
            )
            places = places[places < first + len(rows)]
            before, rows, later = (each[places - first] for each in (before, rows, later))
            # the frame in the slot finished meanwhile, and perhaps another one began
            changed = (before["begin"] != rows["begin"]) | (later["begin"] != rows["begin"])
            found.append(rows[~changed & (rows["begin"] != 0)])
            places = places[changed]
        flights = np.concatenate(found) if found else np.empty(0, self.dtype)
        done = [self._is_committed(int(number)) for number in flights["seq"]]
        return np.asarray(flights[~np.array(done, bool)])

    def _is_committed(self, number: int) -> bool:
        """Return whether the ring has the row of a number, which may be 0 or any other number."""
        if not 0 < number < 2**63:
            return False
        rows, moved = self._read_rows((number - 1) % self.capacity, 1)
        return bool(len(rows) and not moved[0] and rows["begin"][0] == rows["seq"][0] == number)

    # -- bytes ----------------------------------------------------------------------------------

    def _read_rows(self, slot: int, count: int) -> tuple[npt.NDArray[np.void], Mask]:
        """Return the rows of adjacent slots, and which of them changed meanwhile."""
        at = self._header.rows_at + slot * self.dtype.itemsize
        before, rows, later = self._read_three(at, count)
        # a writer changes `begin` first and `seq` last
        return rows, (before["seq"] != rows["seq"]) | (later["begin"] != rows["begin"])

    def _read_three(self, at: int, count: int) -> list[npt.NDArray[np.void]]:
        """Return `count` rows at an offset, read three times: as many as the file has."""
        width = self.dtype.itemsize
        raw = [self._bytes(at, count * width) for _ in range(3)]
        there = min(map(len, raw)) // width
        return [np.frombuffer(part, self.dtype, there) for part in raw]

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

    def _valid(self, rows: npt.NDArray[np.void], *, in_flight: bool = False) -> Mask:
        """Return which of (n,) rows or slots of frames in flight a profiler can have written."""
        fit = storable(rows, self.pipeline, self.offset_ns)
        valid = np.ones(len(rows), bool) if fit is None else fit.copy()
        for mark in self._foreign:
            valid &= rows[mark] == 0
        valid &= self.sources.known(rows["source"])
        for k, table in enumerate(self.tags):
            valid &= table.known(rows[f"tag {k}"])
        if in_flight:
            return valid
        valid &= self.outcomes.known(rows["outcome"])
        valid &= (rows["weight"] > 0) | self._is_rejected(rows)
        cpu = rows["cpu"]
        return np.asarray(valid & ~(cpu < 0) & ~np.isinf(cpu))

    def _is_rejected(self, rows: npt.NDArray[np.void]) -> Mask:
        """Return which of (n,) rows are those of frames that were rejected."""
        table = self.outcomes.table
        codes = [k for k, name in enumerate(table) if name and name.startswith(layout.REJECTED)]
        return np.asarray((rows["weight"] == 0) & np.isin(rows["outcome"], codes))
