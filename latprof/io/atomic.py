"""Files that appear whole or not at all."""

import contextlib
import os
import secrets
import stat
from typing import BinaryIO

__all__ = ["WholeFile"]


class WholeFile:
    """A new file that takes its name only when everything is written.

    Until `commit` an old file of that name stays as it is. Where the system can, the new file
    has no name until then, so that even a killed process leaves nothing behind; else it is
    hidden beside the old one and removed when the writing fails. A device or a pipe
    (``/dev/stdout``) is written to as it is.

    Parameters
    ----------
    path
        Where the file shall be. A symbolic link is followed, the mode of an old file is kept.

    Raises
    ------
    OSError
        The folder is missing or cannot be written to, the path is a folder, the disk is full.

    Examples
    --------
    >>> import tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "greeting")
    >>> with WholeFile(path) as new:
    ...     written = new.file.write(b"hello")
    ...     os.path.exists(path)
    False
    >>> os.listdir(os.path.dirname(path))
    ['greeting']
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.path.realpath(os.fspath(path))
        self._folder = os.path.dirname(self.path)
        self._temporary: str | None = None
        mode: int | None = None
        self._direct = False
        with contextlib.suppress(FileNotFoundError):
            old = os.stat(self.path)
            if stat.S_ISDIR(old.st_mode):
                raise IsADirectoryError(21, "is a folder", self.path)
            # replacing /dev/null by a file would be a bad surprise
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
                pass  # not on every file system; a folder that is missing fails below again
            else:
                if os.path.exists(f"/proc/self/fd/{descriptor}"):  # needed to name it later
                    return descriptor
                os.close(descriptor)
        self._temporary = self._hidden_name()
        return os.open(self._temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)

    def _hidden_name(self) -> str:
        return os.path.join(self._folder, f".latprof-{secrets.token_hex(8)}.tmp")

    def commit(self) -> None:
        """Put the file in its place; on the disk when this returns."""
        try:
            self.file.flush()
            if self._direct:
                self.file.close()
                return
            descriptor = self.file.fileno()
            os.fsync(descriptor)
            if self._temporary is None:
                name = self._hidden_name()
                folder = os.open(self._folder, os.O_RDONLY)
                try:
                    # only with a folder's descriptor does os.link follow the link in /proc
                    os.link(f"/proc/self/fd/{descriptor}", name, dst_dir_fd=folder)
                finally:
                    os.close(folder)
                self._temporary = name
            self.file.close()
            os.replace(self._temporary, self.path)
            self._temporary = None
        except BaseException:
            self.discard()
            raise
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)  # the name, too
        finally:
            os.close(folder)

    def discard(self) -> None:
        """Forget what was written; an old file stays."""
        with contextlib.suppress(OSError):
            self.file.close()
        if self._temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._temporary)
            self._temporary = None

    def forsake(self) -> None:
        """Let go of the file in the child of a fork: whatever the child does, it stays as it is."""
        self._temporary = None
        with contextlib.suppress(OSError):
            # what is buffered must not be written once more: the offset is the parent's
            nowhere = os.open(os.devnull, os.O_RDWR)
            os.dup2(nowhere, self.file.fileno())
            os.close(nowhere)
            self.file.close()

    def __enter__(self) -> "WholeFile":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.commit()
        else:
            self.discard()
