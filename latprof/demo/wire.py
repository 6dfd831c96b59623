"""How a packet crosses from the relay to the audio server: a header of 17 bytes, then the packet.

======  =========  ==========================================================================
bytes   field      meaning
======  =========  ==========================================================================
0-3     magic      0x5054414C, "LATP" in the stream
4       type       0 a packet, 3 the end of the stream (with no packet)
5-8     length     bytes that follow
9-16    timestamp  media time of the packet's first sample, 48,000 a second from 0, signed
======  =========  ==========================================================================

All little endian, no padding. The timestamp is all that the two processes know of a frame in
common, so the frame's id is made of it on both sides: `timestamp` / 960, the packet's place in the
stream. (RTP has numbers of its own, but they start at random and wrap.)
"""

import struct
from collections.abc import Iterator
from typing import BinaryIO

__all__ = ["END", "HEADER", "LONGEST", "MAGIC", "PACKET", "pack", "read_packets", "unpack"]

HEADER = struct.Struct("<IBIq")
MAGIC = 0x5054414C
PACKET, END = 0, 3
LONGEST = 4096
"""Bytes: a length above it can only be a broken stream."""


def pack(kind: int, timestamp: int, payload: bytes = b"") -> bytes:
    """Return a message as bytes.

    Examples
    --------
    >>> pack(PACKET, 960, b"abc").hex(" ")
    '4c 41 54 50 00 03 00 00 00 c0 03 00 00 00 00 00 00 61 62 63'
    """
    return HEADER.pack(MAGIC, kind, len(payload), timestamp) + payload


def unpack(header: bytes) -> tuple[int, int, int]:
    """Return type, length of what follows, and timestamp of a header.

    Raises
    ------
    ValueError
        Not 17 bytes, another magic number, an unknown type or a length above `LONGEST`.

    Examples
    --------
    >>> unpack(pack(PACKET, 960, b"abc")[:17])
    (0, 3, 960)
    """
    if len(header) != HEADER.size:
        raise ValueError(f"header of {len(header)} bytes: it has {HEADER.size}")
    magic, kind, length, timestamp = HEADER.unpack(header)
    if magic != MAGIC:
        raise ValueError(f"header begins with {magic:#010x}, not {MAGIC:#010x}")
    if kind not in (PACKET, END):
        raise ValueError(f"header of type {kind}: known are {PACKET} and {END}")
    if length > LONGEST:
        raise ValueError(f"header announces {length} bytes: at most {LONGEST} may follow")
    return kind, length, timestamp


def read_packets(stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yield timestamp and payload of each packet, up to the end message.

    Raises
    ------
    EOFError
        The stream stops before the end message: the sender is gone.
    ValueError
        A header is wrong, see `unpack`.
    """
    while True:
        header = stream.read(HEADER.size)
        if len(header) < HEADER.size:
            raise EOFError("the stream stops before its end message")
        kind, length, timestamp = unpack(header)
        if kind == END:
            return
        payload = stream.read(length)
        if len(payload) < length:
            raise EOFError("the stream stops within a packet")
        yield timestamp, payload
