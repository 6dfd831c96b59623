"""Rows written into a ring one step at a time, as threads do that are interrupted."""

import struct

from latprof.ring.ring import Ring, row_struct


def claim(ring: Ring) -> int:
    """Claim the next sequence number."""
    ring.numbers.drawn += 1
    return ring.numbers.drawn


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
    weight: int = 1,
    tags: tuple[int, ...] = (),
) -> None:
    """Write the row of a claimed number; 0 is a missing stamp."""
    at = (number - 1) % ring.capacity * ring.width
    rest = (rss, size, source, outcome, cpu, weight, *tags)
    fields = row_struct(len(stamps), len(tags))
    fields.pack_into(ring.buffer, at, number, frame_id, *stamps, *rest, number)


def begin(ring: Ring) -> int:
    """Claim a number and begin its row without ending it."""
    number = claim(ring)
    at = (number - 1) % ring.capacity * ring.width
    row = struct.pack("<Q", number)
    ring.buffer[at : at + ring.width] = row.ljust(ring.width, b"\0")
    return number
