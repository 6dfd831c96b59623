"""Opus packets: the recording that the demo sends, and the check of what arrives.

The recording is 58 s of synthetic speech: 2,908 packets of 20 ms, 48 kHz stereo, variable rate
around 96 kbit/s. Sending packets that an encoder made beforehand leaves the encoder out of the
latencies.

A packet comes from outside, and a decoder is native code: so what arrives is checked against the
rules of RFC 6716, section 3.4 (named R1 to R7 there), the lengths inside the packet included.
"""

from importlib import resources
from itertools import pairwise

import numpy as np

__all__ = ["FRAME_NS", "FRAME_SAMPLES", "SAMPLE_RATE", "load_frames", "packet_samples"]

SAMPLE_RATE = 48_000
FRAME_SAMPLES = 960
FRAME_NS = 20_000_000

_LONGEST_FRAME = 1275
_LONGEST_PACKET = 5760
"""Samples in 120 ms, the longest packet of R5."""

# Samples in a frame of TOC configuration 0..31 (RFC 6716, table 2): SILK, hybrid, CELT.
_FRAME_SAMPLES = (480, 960, 1920, 2880) * 3 + (480, 960) * 2 + (120, 240, 480, 960) * 4


def load_frames() -> list[bytes]:
    """Return the packets of the recording, in order.

    Examples
    --------
    >>> packets = load_frames()
    >>> len(packets), packet_samples(packets[0])
    (2908, 960)
    """
    with resources.files(__package__).joinpath("opus_frames.npz").open("rb") as file:
        arrays = np.load(file, allow_pickle=False)
        # Indexing the archive reads it again each time: once is enough.
        data, offsets = arrays["data"].tobytes(), arrays["off"].tolist()
    return [data[begin:end] for begin, end in pairwise(offsets)]


def packet_samples(packet: bytes) -> int:
    """Return how many samples (of each channel, at 48 kHz) a valid Opus packet holds.

    Raises
    ------
    ValueError
        The packet breaks a rule; the message names it.

    Examples
    --------
    >>> packet_samples(bytes([0xFC, 1, 2, 3]))
    960
    """
    if not packet:
        raise ValueError("Opus packet of 0 bytes: R1 asks for at least one, the TOC")
    samples = _FRAME_SAMPLES[packet[0] >> 3]
    match packet[0] & 3:
        case 0:
            _check_frame(len(packet) - 1)
            return samples
        case 1:
            if len(packet) % 2 == 0:
                raise ValueError(
                    f"Opus packet of {len(packet)} bytes: R3 asks for two equal frames (code 1)"
                )
            _check_frame((len(packet) - 1) // 2)
            return 2 * samples
        case 2:
            length, begin = _frame_length(packet, 1, "R4")
            if begin + length > len(packet):
                raise ValueError(f"Opus frame of {length} bytes is longer than its packet (R4)")
            _check_frame(len(packet) - begin - length)
            return 2 * samples
        case _:
            return _many_frames(packet) * samples


def _many_frames(packet: bytes) -> int:
    """Check a code 3 packet, of any number of frames, and return the number."""
    if len(packet) < 2:
        raise ValueError("Opus packet of 1 byte: R6 and R7 ask for a frame count (code 3)")
    count = packet[1] & 0x3F
    if not 0 < count * _FRAME_SAMPLES[packet[0] >> 3] <= _LONGEST_PACKET:
        raise ValueError(f"Opus packet of {count} frames: R5 asks for 1 or more, up to 120 ms")
    begin, end = 2, len(packet)
    if packet[1] & 0x40:
        more = 255
        while more == 255:
            if begin >= len(packet):
                raise ValueError("Opus packet ends within its padding's length (R6, R7)")
            more = packet[begin]
            begin += 1
            end -= min(more, 254)  # 255 stands for 254 and one more byte of length
    if packet[1] & 0x80:
        for _ in range(count - 1):
            length, begin = _frame_length(packet, begin, "R7")
            end -= length
        if end < begin:
            raise ValueError("Opus packet is shorter than its frames and padding (R7)")
        _check_frame(end - begin)
    elif end < begin or (end - begin) % count:
        raise ValueError(f"Opus packet does not divide into {count} equal frames (R6)")
    else:
        _check_frame((end - begin) // count)
    return count


def _frame_length(packet: bytes, at: int, rule: str) -> tuple[int, int]:
    """Read a frame's length of one or two bytes; return it and where the next byte is."""
    header = packet[at : at + 2]
    if not header or (header[0] >= 252 and len(header) < 2):
        raise ValueError(f"Opus packet ends within the length of a frame ({rule})")
    if header[0] < 252:
        return header[0], at + 1
    return header[0] + 4 * header[1], at + 2


def _check_frame(length: int) -> None:
    """Refuse a frame longer than any encoder may make it."""
    if length > _LONGEST_FRAME:
        raise ValueError(f"Opus frame of {length} bytes: R2 allows at most {_LONGEST_FRAME}")
