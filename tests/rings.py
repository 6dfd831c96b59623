"""Rows written into a ring one step at a time, as threads do that are interrupted."""

import struct

from latprof.ring.ring import Ring, cpu_word


def claim(ring: Ring) -> int:
    """Claim the next sequence number."""
    return ring.number_of(next(ring.positions))


def position(ring: Ring, number: int) -> int:
    """Return what the row of a number holds as `begin` and `seq`."""
    return (number - 1 + ring.capacity) * ring.width


def write(
    ring: Ring,
    number: int,
    frame_id: int,
    stamps: tuple[int, ...],
    *,
    size: int = 2**32 - 1,
    source: int = 0,
    outcome: int = 0,
    rss: int = 0,
    cpu: float = float("nan"),
) -> None:
    """Write the row of a claimed number; 0 is a missing stamp."""
    at = (number - 1) % ring.capacity * ring.width
    begin = position(ring, number)
    labels = source | outcome << 16
    ring.pack(ring.buffer, at, begin, frame_id, *stamps, rss, size, labels, cpu_word(cpu), begin)


def begin(ring: Ring) -> int:
    """Claim a number and begin its row without ending it."""
    number = claim(ring)
    at = (number - 1) % ring.capacity * ring.width
    row = struct.pack("<Q", position(ring, number))
    ring.buffer[at : at + ring.width] = row.ljust(ring.width, b"\0")
    return number
