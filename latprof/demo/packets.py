"""The packets of the demo: Opus from a recording, their check, and their messages.

The recording is 58 s of synthetic speech: 2,908 packets of 20 ms, 48 kHz stereo, variable rate
around 96 kbit/s. As the packets are encoded already, the latencies do not contain an encoder.

Packets come from outside and the decoder is native code, so each packet is checked against the
rules of RFC 6716, section 3.4 (R1 to R7), including the lengths inside the packet.

From the relay to the audio server a packet has a header of 17 bytes, little endian, unpadded:

======  =========  ==========================================================================
bytes   field      meaning
======  =========  ==========================================================================
0-3     magic      0x5054414C, "LATP" in the stream
4       type       0 a packet, 3 the end of the stream (with no packet)
5-8     length     bytes that follow
9-16    timestamp  media time of the packet's first sample, 48,000 a second from 0, signed
======  =========  ==========================================================================

Both processes derive the frame's id from the timestamp: `timestamp` / 960, the packet's position in
the stream. (RTP sequence numbers start at random and wrap around.)
"""

import struct
from collections.abc import Iterator
from importlib import resources
from itertools import pairwise
from typing import BinaryIO

import numpy as np

__all__ = [
    "END",
    "FRAME_NS",
    "FRAME_SAMPLES",
    "PACKET",
    "SAMPLE_RATE",
    "load_packets",
    "pack",
    "packet_samples",
    "read_packets",
    "unpack",
]

SAMPLE_RATE = 48_000
FRAME_SAMPLES = 960
FRAME_NS = 20_000_000

_LONGEST_FRAME = 1275
_LONGEST_PACKET = 5760  # samples in 120 ms (R5)

# Samples in a frame of TOC configuration 0..31 (RFC 6716, table 2): SILK, hybrid, CELT.
_FRAME_SAMPLES = (480, 960, 1920, 2880) * 3 + (480, 960) * 2 + (120, 240, 480, 960) * 4


def load_packets() -> list[bytes]:
    """Return the packets of the recording, in order.

    Examples
    --------
    >>> packets = load_packets()
    >>> len(packets), packet_samples(packets[0])
    (2908, 960)
    """
    with resources.files(__package__).joinpath("opus_frames.npz").open("rb") as file:
        arrays = np.load(file, allow_pickle=False)
        # each access to the archive reads it again
        data, offsets = arrays["data"].tobytes(), arrays["off"].tolist()
    return [data[begin:end] for begin, end in pairwise(offsets)]


def packet_samples(packet: bytes) -> int:
    """Return how many samples (of each channel, at 48 kHz) a valid Opus packet holds.

    Raises
    ------
    ValueError
        The packet is invalid; the message names the rule.

    Examples
    --------
    >>> packet_samples(bytes([0xFC, 1, 2, 3]))
    960
    """
    if not packet:
        raise ValueError("Opus packet must have at least one byte, got 0 (R1)")
    samples, shown = _FRAME_SAMPLES[packet[0] >> 3], f"{len(packet)} bytes"
    match packet[0] & 3:
        case 0:
            _check_frame(len(packet) - 1)
            return samples
        case 1:
            if len(packet) % 2 == 0:
                raise ValueError(f"Opus packet must have two equal frames, got {shown} (R3)")
            _check_frame((len(packet) - 1) // 2)
            return 2 * samples
        case 2:
            length, begin = _frame_length(packet, 1, "R4")
            if begin + length > len(packet):
                raise ValueError(f"Opus frame must fit its packet of {shown}, got {length} (R4)")
            _check_frame(len(packet) - begin - length)
            return 2 * samples
        case _:
            return _many_frames(packet) * samples


def _many_frames(packet: bytes) -> int:
    """Return the number of frames of a code 3 packet, after checking it."""
    if len(packet) < 2:
        raise ValueError("Opus packet must have a frame count, got 1 byte (R6, R7)")
    count = packet[1] & 0x3F
    if not 0 < count * _FRAME_SAMPLES[packet[0] >> 3] <= _LONGEST_PACKET:
        raise ValueError(f"Opus packet must have 1 frame to 120 ms, got {count} frames (R5)")
    begin, end = 2, len(packet)
    if packet[1] & 0x40:
        more = 255
        while more == 255:
            if begin >= len(packet):
                raise ValueError("Opus packet must contain the length of its padding (R6, R7)")
            more = packet[begin]
            begin += 1
            end -= min(more, 254)  # 255 means 254 and one more byte of length
    if packet[1] & 0x80:
        for _ in range(count - 1):
            length, begin = _frame_length(packet, begin, "R7")
            end -= length
        if end < begin:
            raise ValueError("Opus packet must contain its frames and padding (R7)")
        _check_frame(end - begin)
    elif end < begin or (end - begin) % count:
        raise ValueError(f"Opus packet must contain {count} equal frames (R6)")
    else:
        _check_frame((end - begin) // count)
    return count


def _frame_length(packet: bytes, at: int, rule: str) -> tuple[int, int]:
    """Return the length of a frame, of one or two bytes, and the position of the next byte."""
    header = packet[at : at + 2]
    if not header or (header[0] >= 252 and len(header) < 2):
        raise ValueError(f"Opus packet must contain the lengths of its frames ({rule})")
    if header[0] < 252:
        return header[0], at + 1
    return header[0] + 4 * header[1], at + 2


def _check_frame(length: int) -> None:
    """Refuse a frame that is longer than the format allows."""
    if length > _LONGEST_FRAME:
        raise ValueError(f"Opus frame must have at most {_LONGEST_FRAME} bytes, got {length} (R2)")


# -- messages -----------------------------------------------------------------------------------

_HEADER = struct.Struct("<IBIq")
_MAGIC = 0x5054414C
PACKET, END = 0, 3
_LONGEST = 4096  # bytes; a larger length means that the stream is corrupt


def pack(kind: int, timestamp: int, payload: bytes = b"") -> bytes:
    """Return a message as bytes.

    Examples
    --------
    >>> pack(PACKET, 960, b"abc").hex(" ")
    '4c 41 54 50 00 03 00 00 00 c0 03 00 00 00 00 00 00 61 62 63'
    """
    return _HEADER.pack(_MAGIC, kind, len(payload), timestamp) + payload


def unpack(header: bytes) -> tuple[int, int, int]:
    """Return type, length of what follows, and timestamp of a header.

    Raises
    ------
    ValueError
        Not 17 bytes, another magic number, an unknown type or a length above 4096.

    Examples
    --------
    >>> unpack(pack(PACKET, 960, b"abc")[:17])
    (0, 3, 960)
    """
    if len(header) != _HEADER.size:
        raise ValueError(f"header must have {_HEADER.size} bytes, got {len(header)}")
    magic, kind, length, timestamp = _HEADER.unpack(header)
    if magic != _MAGIC:
        raise ValueError(f"header must begin with {_MAGIC:#010x}, got {magic:#010x}")
    if kind not in (PACKET, END):
        raise ValueError(f"type in header must be {PACKET} or {END}, got {kind}")
    if length > _LONGEST:
        raise ValueError(f"length in header must be at most {_LONGEST}, got {length}")
    return kind, length, timestamp


def read_packets(stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yield timestamp and payload of each packet, up to the end message.

    Raises
    ------
    EOFError
        The stream ended before the end message, as the sender has ended.
    ValueError
        A header is invalid, see `unpack`.
    """
    while True:
        header = stream.read(_HEADER.size)
        if len(header) < _HEADER.size:
            raise EOFError("the stream ended before its end message")
        kind, length, timestamp = unpack(header)
        if kind == END:
            return
        payload = stream.read(length)
        if len(payload) < length:
            raise EOFError("the stream ended within a packet")
        yield timestamp, payload
