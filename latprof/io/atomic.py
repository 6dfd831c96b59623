"""Files that appear complete or not at all, and errors that name the file."""

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from typing import BinaryIO

from latprof.errors import LatprofError, TraceError
from latprof.io.paths import StrPath, is_url, local_path
from latprof.io.remote import check_url, send
from latprof.text import clip, escape, quoted, shown_path, without_secrets

__all__ = [
    "AtomicFile",
    "file_errors",
    "first_line",
    "new_file",
    "open_folder",
    "reading",
    "write_file",
]

_ADVICE = {
    errno.ENOSPC: "free disk space or choose another disk",
    errno.EDQUOT: "free disk space or choose another disk",
    errno.EFBIG: "raise the limit on file sizes (ulimit -f) or write smaller files",
    errno.EMFILE: "close files or raise the limit on open files (ulimit -n)",
    errno.ENFILE: "close files or raise the limit of the system on open files",
    errno.EAGAIN: "stop other threads and processes or raise the limit (ulimit -u)",
}


@contextlib.contextmanager
def write_file(path: StrPath, *, error: type[LatprofError] = TraceError) -> Iterator[BinaryIO]:
    """Give a file to write to, which replaces an old one only once it is complete.

    Raises
    ------
    LatprofError
        The file cannot be written: an `error` that names it.

    Examples
    --------
    >>> import tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "greeting")
    >>> with write_file(path) as file:
    ...     written = file.write(b"hello")
    ...     os.path.exists(path)
    False
    >>> os.listdir(os.path.dirname(path))
    ['greeting']
    """
    with file_errors(path, "cannot be written", error=error), new_file(path) as new:
        yield new.file


@contextlib.contextmanager
def file_errors(
    path: StrPath, what: str, *, error: type[LatprofError] = TraceError
) -> Iterator[None]:
    """Turn errors of the system, and errors without the file's name, into one line that names it.

    A lack of memory remains a `MemoryError`.
    """
    if not isinstance(path, str | os.PathLike):
        raise error(f"a path must be text or a Path, got {quoted(path)}")
    name = shown_path(path)
    try:
        yield
    except LatprofError as inner:
        text = str(inner)
        raise error(text if text.startswith(f"{name}: ") else f"{name}: {text}") from None
    except OSError as inner:
        reason = escape(inner.strerror or first_line(inner))
        if inner.errno == errno.ENOMEM:
            raise MemoryError(f"{name}: {what}: {reason}") from None
        advice = _ADVICE.get(inner.errno or 0, "check the path and its permissions")
        raise error(f"{name}: {what}: {reason}; {advice}") from None
    except ValueError as inner:  # for example a path with a null byte
        raise error(f"{name}: {what}: {first_line(inner)}; check the path") from None


@contextlib.contextmanager
def reading(path: StrPath, fault: str = "damaged or incomplete") -> Iterator[None]:
    """Turn errors of reading a file into one line that names the file, its `fault` and the remedy.

    Raises
    ------
    TraceError
        The file cannot be read, or its content is damaged.
    MemoryError
        There is not enough memory.
    """
    with file_errors(path, "cannot be read"):
        try:
            yield
        except (LatprofError, MemoryError):
            raise
        except Exception as error:
            # damaged content makes Arrow raise errors of many types, OSError among them
            if isinstance(error, OSError) and error.errno is not None:
                raise
            reason = first_line(error)
            if "worker thread" in reason:
                raise OSError(errno.EAGAIN, "no thread can be started") from None
            raise TraceError(f"the file is {fault} ({reason}); take an intact copy") from None


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, escaped and shortened."""
    return clip(without_secrets(str(error).partition("\n")[0].strip()), 160) or type(error).__name__


@contextlib.contextmanager
def open_folder(path: StrPath) -> Iterator[int]:
    """Give the descriptor of a folder, by which its entries are linked, locked or synchronized.

    Raises
    ------
    OSError
        The folder cannot be opened.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


class AtomicFile:
    """A new file that takes its name only when it is complete.

    Until `commit` an old file of that name stays as it is. If the system supports it, the new
    file has no name until then, so that even a killed process leaves nothing behind; otherwise
    it is hidden beside the old one and removed if writing fails. A device or a pipe
    (``/dev/stdout``) is written to directly.

    Parameters
    ----------
    path
        Name of the file. A symbolic link is followed; the mode of an old file is kept.

    Raises
    ------
    OSError
        The folder is missing or read-only, the path is a folder, or the disk is full.
    """

    def __init__(self, path: StrPath) -> None:
        self.path = os.path.realpath(os.fspath(path))
        self._folder = os.path.dirname(self.path)
        self._temporary: str | None = None
        mode: int | None = None
        self._direct = False
        with contextlib.suppress(FileNotFoundError):
            old = os.stat(self.path)
            if stat.S_ISDIR(old.st_mode):
                raise IsADirectoryError(21, "is a folder", self.path)
            # /dev/null must not be replaced by a file
            self._direct = not stat.S_ISREG(old.st_mode)
            mode = stat.S_IMODE(old.st_mode)
        descriptor = os.open(self.path, os.O_WRONLY) if self._direct else self._create()
        if mode is not None and not self._direct:
            os.fchmod(descriptor, mode)
        # a new file may be read again before it is committed, a device may not
        self.file: BinaryIO = os.fdopen(descriptor, "wb" if self._direct else "w+b")

    def _create(self) -> int:
        if hasattr(os, "O_TMPFILE"):
            try:
                descriptor = os.open(self._folder, os.O_TMPFILE | os.O_RDWR, 0o666)
            except OSError:
                pass  # not every file system can; a missing folder fails again below
            else:
                if os.path.exists(f"/proc/self/fd/{descriptor}"):  # by which it gets its name
                    return descriptor
                os.close(descriptor)
        self._temporary = self._hidden_name()
        return os.open(self._temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)

    def _hidden_name(self) -> str:
        return os.path.join(self._folder, f".latprof-{secrets.token_hex(8)}.tmp")

    def commit(self) -> None:
        """Give the file its name; it is on the disk when this returns."""
        try:
            self.file.flush()
            if self._direct:
                self.file.close()
                return
            descriptor = self.file.fileno()
            os.fsync(descriptor)
            if self._temporary is None:
                name = self._hidden_name()
                with open_folder(self._folder) as folder:
                    # only with a folder's descriptor does os.link follow the link in /proc
                    os.link(f"/proc/self/fd/{descriptor}", name, dst_dir_fd=folder)
                self._temporary = name
            self.file.close()
            os.replace(self._temporary, self.path)
            self._temporary = None
        except BaseException:
            self.discard()
            raise
        with open_folder(self._folder) as folder:
            os.fsync(folder)  # the name, too

    def discard(self) -> None:
        """Remove what was written; an old file stays."""
        with contextlib.suppress(OSError):
            self.file.close()
        if self._temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._temporary)
            self._temporary = None

    def detach(self) -> None:
        """Close the file in the child of a fork, without a change to it."""
        self._temporary = None
        with contextlib.suppress(OSError):
            # buffered bytes must not be written again: the parent has the same offset
            nowhere = os.open(os.devnull, os.O_RDWR)
            os.dup2(nowhere, self.file.fileno())
            os.close(nowhere)
            self.file.close()

    def __enter__(self) -> "AtomicFile":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.commit()
        else:
            self.discard()


class _UploadedFile(AtomicFile):
    """A new file behind a URL: it is written here, without a name, and sent when it is complete."""

    def __init__(self, url: str) -> None:
        import tempfile  # slow to import, and rarely needed

        check_url(url)  # now rather than after hours
        self.path = url
        self._temporary = None
        self.file = tempfile.TemporaryFile()  # noqa: SIM115

    def commit(self) -> None:
        """Send the file; it is in the store when this returns."""
        try:
            self.file.flush()
            send(self.file, self.path)
        finally:
            self.discard()


def new_file(path: StrPath) -> AtomicFile:
    """Return a new file, local or behind a URL, that takes its name when it is complete.

    Raises
    ------
    OSError
        As `AtomicFile`.
    TraceError
        The URL is of an unknown file system.
    """
    if is_url(path):
        return _UploadedFile(path)
    return AtomicFile(local_path(path))
