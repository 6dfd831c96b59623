"""A ring in a mapped file: what a process has recorded is there when it has died.

The file is allocated in full when it is made, so that a full disk is an error then and never a
signal later. One process at a time writes to it: it holds a lock for as long as it records, which
the system takes back when it dies. /dev/shm is the quick place: on a disk a store may have to wait
for the page to be written back.
"""

import contextlib
import gc
import itertools
import mmap
import os
import stat
import struct
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

from latprof.errors import ProfilerError, TraceError
from latprof.pipeline import Pipeline
from latprof.ring.format import (
    LONGEST_HEADER,
    LONGEST_PAYLOAD,
    MAGIC,
    PREFIX,
    SOURCE,
    STARTED,
    STOPPED,
    Entry,
    entry_bytes,
    header_bytes,
    parse_header,
)
from latprof.text import escape
from latprof.units import format_bytes

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["LOG_SIZE", "PREVIOUS", "RingFile", "is_held"]

LOG_SIZE = 2**18
"""Bytes for names: some ten thousand short ones."""

RESERVE = 4_096
"""Bytes of the log that are kept for other entries than names."""

PREVIOUS = ".previous"
"""What is put behind the name of a ring with frames when another takes its place."""


class RingFile:
    """A new ring file, locked and mapped.

    Parameters
    ----------
    path
        Where it shall be. A ring that a dead or stopped process has left there is renamed to
        ``<path>.previous`` if it has frames; an older one of that name is replaced.
    pipeline, capacity
        Of the ring.
    facts
        What is known of the recording, as `latprof.io.metadata` names it.
    log_size
        Bytes for the names.

    Attributes
    ----------
    rows
        The mapping of the rows: a buffer that begins with the first slot.

    Raises
    ------
    ProfilerError
        Another profiler writes to it, the disk is full, what is there is no ring, or the file
        cannot be made.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        pipeline: Pipeline,
        capacity: int,
        facts: dict[str, Any],
        log_size: int = LOG_SIZE,
    ) -> None:
        try:
            self.path = os.path.abspath(os.fsdecode(path))
        except TypeError:
            raise ProfilerError(f"ring {path!r} is no path: name a file, /dev/shm/mic.ring") from (
                None
            )
        self._shown = f"ring {escape(self.path)}"
        if fcntl is None or not hasattr(os, "posix_fallocate"):
            raise ProfilerError(f"{self._shown}: not on this system, leave it out")
        try:
            raw, header = header_bytes(
                pipeline, capacity, facts, log_size, mmap.ALLOCATIONGRANULARITY
            )
        except TraceError as error:
            raise ProfilerError(f"{self._shown}: {error}") from None
        self._lock = threading.RLock()  # a signal handler may come here from within
        self._log_at, self._log_size, self._used = header.log_at, header.log_size, 0
        self._units = itertools.count()  # of 8 bytes, of the log
        try:
            self._file = self._create()
            self._unlock = _closing(self, self._file)
            try:
                # opened once more: a mapping keeps what it is made from, and the child of a fork
                # is to let go of the lock, which else would outlive the parent in it
                self._mapped = os.open(self.path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
                self._close = _closing(self, self._mapped)
                self._fill(raw, header.size, header.rows_at)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(self.path)
                self._unlock()
                raise
        except ProfilerError:
            raise
        except (OSError, ValueError, OverflowError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise ProfilerError(
                f"{self._shown} of {format_bytes(header.size)} cannot be made: {reason}: choose "
                "another folder or a smaller capacity"
            ) from None
        self._to_private = _private_twin(self._mapped, self._head, 0)
        self._rows_to_private = _private_twin(self._mapped, self.rows, header.rows_at)
        _open.add(self)

    def _create(self) -> int:
        """Return the descriptor of a new file at `path`, locked."""
        while True:
            flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
            try:
                file = os.open(self.path, flags | os.O_CREAT | os.O_EXCL, 0o600)
            except FileExistsError:
                self._make_room(flags)
                continue
            try:
                os.fchmod(file, 0o600)
                if _locked(file) and _is_at(file, self.path):
                    return file
            except BaseException:
                os.close(file)
                raise
            os.close(file)  # another process took it for one that was never finished

    def _make_room(self, flags: int) -> None:
        """Rename or remove an old ring, unless it is written to or is no ring."""
        try:
            old = os.open(self.path, flags | os.O_NONBLOCK)
        except FileNotFoundError:
            return
        try:
            found = os.fstat(old)
            start = os.pread(old, mmap.PAGESIZE, 0) if stat.S_ISREG(found.st_mode) else b"?"
            if start.strip(b"\0") and not start.startswith(MAGIC):
                raise ProfilerError(
                    f"{self._shown} is there and is no ring: choose another name or remove it"
                )
            if not _locked(old) and not _freed(old):
                writer = f"process {_pid_of(old) or '?'}"
                raise ProfilerError(
                    f"{self._shown} is written to by {writer}: choose another name, one profiler "
                    "writes to a ring"
                )
            if not _is_at(old, self.path):
                return  # meanwhile another process has done so
            if _has_frames(old):
                os.replace(self.path, self.path + PREVIOUS)
            else:
                os.unlink(self.path)
        finally:
            os.close(old)

    def _fill(self, raw: bytes, size: int, rows_at: int) -> None:
        os.posix_fallocate(self._file, 0, size)
        flags = mmap.MAP_SHARED
        self._head = mmap.mmap(self._mapped, rows_at, flags=flags)
        # all pages now, none while a frame is stamped
        flags |= getattr(mmap, "MAP_POPULATE", 0)
        self.rows = mmap.mmap(self._mapped, size - rows_at, flags=flags, offset=rows_at)
        # the magic last: until it is there the file is not finished
        self._head[len(MAGIC) : len(raw)] = raw[len(MAGIC) :]
        self._head[: len(MAGIC)] = MAGIC

    # -- the log --------------------------------------------------------------------------------

    def store_name(self, kind: int, code: int, name: str, last: bool = False) -> bool:
        """Store a name before its code is used; return whether there was room.

        Parameters
        ----------
        kind
            `ringformat.SOURCE` or `OUTCOME`.
        code, name
            A name longer than an entry is stored cut, with its code behind it.
        last
            It is what all further names are called: for this one there is room.
        """
        text = name.encode()
        if len(text) > LONGEST_PAYLOAD:
            tail = f"... ({code})".encode()
            text = text[: LONGEST_PAYLOAD - len(tail)].decode(errors="ignore").encode() + tail
        # sources may be without number: they leave room for outcomes
        reserve = self._log_size // 8 if kind == SOURCE else RESERVE
        return self._append(Entry(kind, code, text), 0 if last else reserve)

    def note(self, started: bool, now: int, wall: int) -> None:
        """Note that recording starts or stops: the profiler's clock and the wall clock, ns."""
        kind = STARTED if started else STOPPED
        self._append(Entry(kind, 0, struct.pack("<qq", now, wall)), LONGEST_PAYLOAD)

    def _append(self, entry: Entry, reserve: int) -> bool:
        with self._lock:
            length = len(entry_bytes(0, entry))
            if self._used + length > self._log_size - min(reserve, self._log_size // 2):
                return False
            # taken in one step: a handler that interrupts here has a place of its own
            place = 8 * deque(itertools.islice(self._units, length // 8))[0]
            self._used = max(self._used, place + length)
            if self._used > self._log_size:
                return False
            at = self._log_at + place
            self._head[at : at + length] = entry_bytes(place, entry)
            return True

    # -- whose it is ----------------------------------------------------------------------------

    def release(self) -> None:
        """Let others have the file; it stays mapped."""
        if self._unlock.alive:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def acquire(self) -> None:
        """Take the file again.

        Raises
        ------
        ProfilerError
            Another profiler has it, or it is no longer there.
        """
        if not self._unlock.alive or not _locked(self._file) or not _is_at(self._file, self.path):
            raise ProfilerError(
                f"{self._shown} is another profiler's by now, or was removed: make a new Profiler"
            )

    def abandon(self) -> None:
        """Keep away from the file, in the child of a fork: it is the parent's.

        Both mappings become private ones: what is written to them from now on stays here.
        """
        self._to_private()
        self._rows_to_private()
        self._lock = threading.RLock()
        self._unlock()  # the lock is the parent's alone; to unlock it would be to take it from it


def _closing(owner: object, descriptor: int) -> "weakref.finalize[[int], object]":
    """Close a descriptor when its owner is gone, but not before profilers are stopped at exit."""
    closing = weakref.finalize(owner, os.close, descriptor)
    closing.atexit = False
    return closing


_open: "weakref.WeakSet[RingFile]" = weakref.WeakSet()


def _abandon_all() -> None:
    for file in list(_open):
        file.abandon()
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_all)


def _locked(file: int) -> bool:
    """Take the lock of a descriptor; return whether no other writer has it."""
    for _ in range(100):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if is_held(file):
                return False
        time.sleep(0.001)  # a reader has asked just now, see `is_held`
    return False


def is_held(file: int) -> bool:
    """Return whether a writer has the lock of a ring file.

    A reader asks by taking it for a moment together with all others that ask; a writer that comes
    in that moment tries again. Where there are no locks there is no writer.
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


def _freed(file: int) -> bool:
    """Take a lock that a profiler of this process has, if nobody can reach that one any more."""
    if _pid_of(file) != os.getpid():
        return False
    gc.collect()  # profilers refer to themselves
    return _locked(file)


def _is_at(file: int, path: str) -> bool:
    """Return whether a path names the file of a descriptor."""
    with contextlib.suppress(OSError):
        return os.path.samestat(os.fstat(file), os.stat(path, follow_symlinks=False))
    return False


def _pid_of(file: int) -> int | None:
    """Return which process writes to a ring file, as its header says."""
    with contextlib.suppress(TraceError, OSError):
        return parse_header(os.pread(file, LONGEST_HEADER, 0)).facts.get("pid")
    return None


def _has_frames(file: int) -> bool:
    """Return whether the first slot of a ring was ever written to; one that is damaged has."""
    prefix = os.pread(file, PREFIX.size, 0)
    if len(prefix) < PREFIX.size or not prefix.strip(b"\0"):
        return False
    rows_at = PREFIX.unpack(prefix)[-1]
    return rows_at >= 2**40 or bool(os.pread(file, 8, rows_at).strip(b"\0"))


def _private_twin(file: int, mapping: mmap.mmap, offset: int) -> Callable[[], None]:
    """Return what replaces a shared mapping by a private one of the same file, in its place.

    The buffer stays where it is for all who hold it. Prepared before the fork: the child of one
    beside threads should not import, nor look up what it needs.
    """
    import ctypes

    system = ctypes.CDLL(None, use_errno=True)
    remap = system.mmap
    remap.restype = ctypes.c_void_p
    remap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    first = ctypes.c_char.from_buffer(mapping)
    address = ctypes.addressof(first)
    del first
    length = len(mapping)
    fixed = 0x10  # MAP_FIXED: Linux, the BSDs and macOS agree
    flags, access = mmap.MAP_PRIVATE | fixed, mmap.PROT_READ | mmap.PROT_WRITE

    def replace() -> None:
        # it can fail only for want of memory; the profiler does not record here in any case
        remap(address, length, access, flags, file, offset)

    return replace
