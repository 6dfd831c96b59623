"""Opens files of other tools (plain, gzip, zstd, bzip2): blocks and lines of bounded size."""

import contextlib
import os
from collections.abc import Iterator
from typing import Protocol

import pyarrow as pa

from latprof.errors import TraceError
from latprof.io.remote import open_binary

__all__ = ["HEAD", "ByteStream", "head_of", "lines_of", "opened"]

HEAD = 1 << 18
"""Bytes that are enough to recognize a format."""

_LONGEST = 1 << 24  # bytes of a line

_COMPRESSED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bz2"}


class ByteStream(Protocol):
    """What a file is read through."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, and none at the end of the file."""

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill a part of a buffer; return its size, which is 0 at the end of the file."""


@contextlib.contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[ByteStream]:
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
        with pa.CompressedInputStream(pa.PythonFile(file, "r"), known) as stream:
            yield stream


def head_of(path: str | os.PathLike[str], size: int = HEAD) -> bytes:
    """Return the first bytes of a file, decompressed."""
    with opened(path) as stream:
        return stream.read(size)


def lines_of(stream: ByteStream) -> Iterator[str]:
    """Yield the lines of a file without their ends; bytes that are not UTF-8 are replaced.

    Raises
    ------
    TraceError
        A line is longer than 16 MB.
    """
    left = b""
    while True:
        data = stream.read(1 << 20)
        lines = (left + data).split(b"\n")
        left = lines.pop() if data else b""
        if len(left) > _LONGEST:
            raise TraceError(f"a line must have at most {_LONGEST:,} bytes, got more")
        for line in lines:
            yield line.decode("utf-8", "replace").rstrip("\r")
        if not data:
            return
