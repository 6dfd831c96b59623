"""A checksum of a Parquet file's footer, kept in the footer itself.

Parquet has checksums for pages, which `latprof.store` writes and verifies, and none for the
footer, where one wrong bit may turn a tag into another or make a reader crash. So the metadata's
JSON begins with a place for the file's length and the CRC-32 of the footer (taken with zeros in
that place), filled in when the file is complete. A file that another tool has rewritten has
another length, and then nothing is checked.
"""

import os
import re
import zlib
from typing import BinaryIO

from latprof.errors import TraceError

__all__ = ["EMPTY", "check", "fill"]

EMPTY = "0" * 24
"""A place without a seal: 8 hexadecimal digits of checksum, 16 of the file's length."""

_PLACE = re.compile(rb'(?<=\{"format":1,"seal":").{24}(?=")', re.DOTALL)

# a footer ends in its own length (4 bytes, little endian) and PAR1
_TAIL = 8


def _footer(file: BinaryIO) -> tuple[int, int, bytes]:
    """Return the file's length, where its footer begins, and the footer."""
    length = file.seek(0, os.SEEK_END)
    file.seek(-_TAIL, os.SEEK_END)
    start = length - _TAIL - int.from_bytes(file.read(4), "little")
    if start < 4:
        return length, length, b""
    file.seek(start)
    return length, start, file.read()


def fill(file: BinaryIO) -> None:
    """Fill the place in a complete file that is open for reading and writing."""
    length, start, footer = _footer(file)
    place = _PLACE.search(footer)
    if place is not None and place[0] == EMPTY.encode():
        file.seek(start + place.start())
        file.write(b"%08x%016x" % (zlib.crc32(footer), length))


def check(file: BinaryIO) -> None:
    """Check the seal, where the file has one that is its own.

    Raises
    ------
    TraceError
        The footer is not what was written.
    """
    length, _, footer = _footer(file)
    place = _PLACE.search(footer)
    if place is None:
        return
    whole = False
    if re.fullmatch(rb"[0-9a-f]{24}", place[0]):
        if int(place[0][8:], 16) != length:
            return
        blank = footer[: place.start()] + EMPTY.encode() + footer[place.end() :]
        whole = zlib.crc32(blank) == int(place[0][:8], 16)
    if not whole:
        raise TraceError("is damaged (its footer is not what was written): copy it again, whole")
