"""Opens files of other tools (plain, gzip, zstd, bzip2): blocks and lines of bounded size."""

import contextlib
import os
from collections.abc import Iterator
from typing import Protocol

from latprof.errors import TraceError
from latprof.io.paths import StrPath, open_binary

__all__ = [
    "BOM",
    "HEAD",
    "LONGEST_LINE",
    "ByteStream",
    "head_of",
    "lines_of",
    "opened",
]

BOM = b"\xef\xbb\xbf"
"""The byte order mark of UTF-8, with which a text may begin."""

HEAD = 1 << 18
"""Bytes that are enough to recognize a format."""

LONGEST_LINE = 1 << 24
"""Bytes of a line that is held in memory."""

_CHUNK = 1 << 20  # bytes read at a time

_COMPRESSED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bz2"}


class ByteStream(Protocol):
    """An open file of bytes."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, and none at the end of the file."""

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill a part of a buffer; return its size, which is 0 at the end of the file."""


@contextlib.contextmanager
def opened(path: StrPath) -> Iterator[ByteStream]:
    """Give the bytes of a file, decompressed.

    Raises
    ------
    TraceError
        The path is a folder, or the file is empty.
    OSError
        The file does not exist, or cannot be read.
    """
    name = os.fspath(path)
    if os.path.isdir(name):
        raise TraceError("the path must be of a file, got a folder; name a file in it")
    with open_binary(name) as file:
        start = file.read(4)
        file.seek(0)
        if not start:
            raise TraceError("the file is empty (0 bytes); record again, or name another file")
        known = next((k for magic, k in _COMPRESSED.items() if start.startswith(magic)), None)
        if known is None:
            yield file
            return
        import pyarrow as pa

        with pa.CompressedInputStream(pa.PythonFile(file, "r"), known) as stream:
            yield stream


def head_of(path: StrPath, size: int = HEAD) -> bytes:
    """Return the first bytes of a file, decompressed."""
    with opened(path) as stream:
        return stream.read(size)


def lines_of(path: StrPath) -> Iterator[str]:
    """Yield the lines of a file without their ends; bytes that are not UTF-8 are replaced.

    Raises
    ------
    TraceError
        A line is longer than 16 MB.
    """
    with opened(path) as stream:
        left, data = b"", stream.read(_CHUNK).removeprefix(BOM)
        while data:
            *lines, left = (left + data).split(b"\n")
            if len(left) > LONGEST_LINE:
                raise TraceError(
                    f"a line must have at most {LONGEST_LINE:,} bytes, got more; write a line for "
                    "each record"
                )
            for line in lines:
                yield line.decode("utf-8", "replace").rstrip("\r")
            data = stream.read(_CHUNK)
        yield left.decode("utf-8", "replace").rstrip("\r")
