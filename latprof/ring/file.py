"""A ring in a mapped file: what a process has recorded stays readable after the process died.

The file is allocated in full when it is created, so a full disk is an error at that time and never
a signal later. One process at a time writes to the file: it holds a lock while it records, which
the system releases when the process dies. /dev/shm is the fastest place: on a disk, a store may
have to wait until the page is written back.
"""

import contextlib
import itertools
import mmap
import os
import stat
import struct
import threading
import time
import weakref
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np

from latprof.errors import ProfilerError, TraceError
from latprof.pipeline import Pipeline
from latprof.ring import layout
from latprof.text import quoted, shown_path
from latprof.units import format_bytes

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["KEEP_PREVIOUS", "PREVIOUS", "RingFile", "is_locked"]

PREVIOUS = ".previous"
"""Suffix of the name that a ring with frames gets when a new ring takes its place; older ones get
``.previous.2``, ``.previous.3`` and so on."""

KEEP_PREVIOUS = 5  # older rings that are kept, unless another number is requested
MOST_PREVIOUS = 1_000  # the largest number that may be requested

_open_files: "weakref.WeakSet[RingFile]" = weakref.WeakSet()


class RingFile:
    """A new ring file, locked and mapped.

    Parameters
    ----------
    path
        Where to create the file. A ring with frames that a dead or stopped process has left there
        is renamed to ``<path>.previous``, and older ones to ``<path>.previous.2`` and so on.
    pipeline, capacity
        The pipeline, and the number of rows.
    metadata
        Metadata of the recording, see `latprof.io.metadata`.
    tags
        Names of the tags of the frames.
    slots
        Number of frames in flight that the file holds.
    keep_previous
        Number of older rings that are kept, from 1 to 1,000; the oldest is removed if there would
        be more.

    Attributes
    ----------
    rows, slots
        The mapped rows, and the mapped slots of frames in flight.

    Raises
    ------
    ProfilerError
        Another profiler writes to the file, the disk is full, the file at the path is not a ring,
        or the file cannot be created.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        pipeline: Pipeline,
        capacity: int,
        metadata: dict[str, Any],
        *,
        tags: Sequence[str] = (),
        slots: int = layout.SLOTS,
        keep_previous: int = KEEP_PREVIOUS,
    ) -> None:
        if not isinstance(path, str | bytes | os.PathLike) or "\0" in os.fsdecode(path):
            raise ProfilerError(f"ring must be a path, got {quoted(path)}")
        self.path = os.path.abspath(os.fsdecode(path))
        self._shown = f"ring {shown_path(self.path)}"
        if fcntl is None or not hasattr(os, "posix_fallocate"):
            raise ProfilerError(f"{self._shown} needs file locks and posix_fallocate; omit ring=")
        for name, value, low, high in (
            ("keep_previous", keep_previous, 1, MOST_PREVIOUS),
            ("slots", slots, 1, layout.MOST_SLOTS),
        ):
            if type(value) is not int or not low <= value <= high:
                raise ProfilerError(
                    f"{name} must be an integer between {low} and {high:,}, got {quoted(value)}"
                )
        self._keep_previous = keep_previous
        try:
            raw, self._header = layout.encode_header(
                pipeline, capacity, metadata, mmap.ALLOCATIONGRANULARITY, tags=tags, slots=slots
            )
        except TraceError as error:
            raise ProfilerError(f"{self._shown}: {error}") from None
        self._lock = threading.RLock()  # reentrant: a signal handler may interrupt its holder
        self._units = itertools.count()  # hands out the log's units of 8 bytes, each once
        try:
            self._create(raw)
        except OSError as error:
            remedy = "choose another folder or a smaller capacity"
            if isinstance(error, FileNotFoundError):
                remedy = f"create the folder {quoted(os.path.dirname(self.path))}"
            raise ProfilerError(
                f"cannot create {self._shown} of {format_bytes(self._header.size)}: "
                f"{error.strerror}; {remedy}"
            ) from None
        _open_files.add(self)

    def _create(self, header: bytes) -> None:
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
        while (file := self._new_file(flags)) is None:
            pass
        self._file = file
        self._unlock = _closing(self, file)
        try:
            # opened a second time: the mappings keep their descriptor, and the child of a fork must
            # close the locked one, or the lock would outlive the parent
            self._mapped = os.open(self.path, flags)
            _closing(self, self._mapped)
            os.posix_fallocate(file, 0, self._header.size)
            slots_at, rows_at = self._header.slots_at, self._header.rows_at
            self._head = mmap.mmap(self._mapped, slots_at)
            at = self._header.beat_at
            self._beat = memoryview(self._head)[at : at + 8].cast("Q")  # stored in one step
            # load all pages now, none while a frame is stamped
            loaded = mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0)
            self.slots = mmap.mmap(self._mapped, rows_at - slots_at, loaded, offset=slots_at)
            size = self._header.size - rows_at
            self.rows = mmap.mmap(self._mapped, size, loaded, offset=rows_at)
            # the magic is last: until it is there, the file is not finished
            magic = len(layout.MAGIC)
            self._head[magic : len(header)] = header[magic:]
            self._head[:magic] = layout.MAGIC
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(self.path)
            self._unlock()
            raise

    def _new_file(self, flags: int) -> int | None:
        """Return the descriptor of a new, locked file; None if another process interfered."""
        try:
            file = os.open(self.path, flags | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            self._move_old(flags)
            return None
        try:
            os.fchmod(file, 0o600)
            if _lock(file) and _is_at(file, self.path):
                return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)  # another process took it for a file that was never finished
        return None

    def _move_old(self, flags: int) -> None:
        """Rename or remove an old ring, unless it is in use or is not a ring."""
        try:
            old = os.open(self.path, flags | os.O_NONBLOCK)
        except FileNotFoundError:
            return
        try:
            is_file = stat.S_ISREG(os.fstat(old).st_mode)
            start = os.pread(old, mmap.PAGESIZE, 0) if is_file else b"?"
            has_frames = bool(start.strip(b"\0"))
            if has_frames and not start.startswith((layout.MAGIC, layout.OLD_MAGIC)):
                raise ProfilerError(
                    f"{self._shown} already exists and is not a ring; choose another name or "
                    "remove the file"
                )
            header = _header_of(old)
            pid = header.metadata.get("pid") if header else None
            if not _lock(old):
                raise ProfilerError(
                    f"{self._shown} is in use by process {pid or '(unknown)'}; choose another "
                    'name, such as "name-{pid}.ring", as only one profiler can write to a ring'
                )
            if not _is_at(old, self.path):
                return  # another process has moved the old ring
            if header:
                has_frames = _has_frames(old, header)
            if has_frames:
                self._keep_old()
            else:
                os.unlink(self.path)
        finally:
            os.close(old)

    def _keep_old(self) -> None:
        """Rename the ring at the path, after the older ones; the oldest of all is replaced."""
        names = [
            self.path,
            self.path + PREVIOUS,
            *(f"{self.path}{PREVIOUS}.{k}" for k in range(2, self._keep_previous + 1)),
        ]
        # up to the first name that is free
        free = next((k for k, name in enumerate(names) if not os.path.lexists(name)), len(names))
        for k in range(min(free, len(names) - 1), 0, -1):
            os.replace(names[k - 1], names[k])

    # -- the log --------------------------------------------------------------------------------

    def store_name(self, kind: int, code: int, name: str) -> bool:
        """Store a name of `layout.LONGEST_PAYLOAD` bytes at most before its code is used.

        Parameters
        ----------
        kind
            `layout.SOURCE`, `layout.OUTCOME`, or `layout.TAG` plus the number of the tag.
        code, name
            As in `latprof.ring.names.NameTable`.

        Returns
        -------
        bool
            Whether there was space.
        """
        return self._append(kind, code, name.encode())

    def note(self, started: bool, now: int, wall: int) -> None:
        """Store that recording starts or stops: the profiler's clock and the wall clock, ns."""
        kind = layout.STARTED if started else layout.STOPPED
        self._append(kind, 0, struct.pack("<qq", now, wall))

    def beat(self, now: int) -> None:
        """Store a sign of life: the profiler's clock, ns from 1 to 2**62 - 1."""
        if self._unlock.alive:  # not in the child of a fork
            self._beat[0] = now

    def _append(self, kind: int, code: int, payload: bytes) -> bool:
        length = layout.entry_size(len(payload))
        with self._lock:
            if not self._unlock.alive:  # in the child of a fork
                return False
            # one call takes all units: a signal handler that interrupts here gets other ones
            offset = 8 * deque(itertools.islice(self._units, length // 8))[0]
            if offset + length > self._header.log_size:
                return False
            at = self._header.log_at + offset
            self._head[at : at + length] = layout.encode_entry(offset, kind, code, payload)
            return True

    # -- the lock -------------------------------------------------------------------------------

    def release(self) -> None:
        """Unlock the file; it stays mapped."""
        if self._unlock.alive:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def acquire(self) -> None:
        """Lock the file again.

        Raises
        ------
        ProfilerError
            Another profiler has locked the file, or the file was removed.
        """
        if not self._unlock.alive or not _lock(self._file) or not _is_at(self._file, self.path):
            raise ProfilerError(
                f"{self._shown} was removed or is now used by another profiler; create a new "
                "Profiler"
            )

    def abandon(self) -> None:
        """Close the file in the child of a fork: it belongs to the parent.

        Nothing is stored in the log any more. The mappings stay, as arrays refer to them; the
        recorder must therefore not write rows or slots after a fork.
        """
        self._lock = threading.RLock()
        self._unlock()  # closes the descriptor; LOCK_UN would release the lock of the parent


def _abandon_all() -> None:
    for file in list(_open_files):
        file.abandon()
    _open_files.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_all)


def _closing(owner: object, descriptor: int) -> "weakref.finalize[[int], object]":
    """Close a descriptor when its owner is gone, but not before profilers are stopped at exit."""
    closing = weakref.finalize(owner, os.close, descriptor)
    closing.atexit = False
    return closing


def _lock(file: int) -> bool:
    """Lock a ring file; return False if another writer has locked it."""
    for _ in range(100):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if is_locked(file):
                return False
        time.sleep(0.001)  # a reader has just asked, see `is_locked`
    return False


def is_locked(file: int) -> bool:
    """Return whether a writer has locked a ring file.

    A reader asks by taking a shared lock for a moment; a writer that wants to lock the file in
    that moment tries again. A system without locks has no writers.
    """
    if fcntl is None:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    fcntl.flock(file, fcntl.LOCK_UN)
    return False


def _is_at(file: int, path: str) -> bool:
    """Return whether a path names the file of a descriptor."""
    with contextlib.suppress(OSError):
        return os.path.samestat(os.fstat(file), os.stat(path, follow_symlinks=False))
    return False


def _has_frames(file: int, header: layout.Header) -> bool:
    """Return whether a ring file has a row, or a frame in flight."""
    if os.pread(file, 8, header.rows_at).strip(b"\0"):
        return True
    raw = os.pread(file, header.slots * header.width, header.slots_at)
    slots = np.frombuffer(raw, header.dtype, len(raw) // header.width)
    return bool(slots["begin"].any())


def _header_of(file: int) -> layout.Header | None:
    """Return the header of a ring file, or None if it is not valid."""
    with contextlib.suppress(TraceError, OSError):
        return layout.parse_header(os.pread(file, layout.LONGEST_HEADER, 0), "")
    return None
