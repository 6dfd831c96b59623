"""The file of a ring: how its bytes are laid out, written and checked; no file is opened here.

===========  =====================================================================================
part         bytes
===========  =====================================================================================
header       magic, format, CRC-32 of the header, length of the JSON, width of a row, capacity,
             where log and rows are; then the JSON: the pipeline, and what is known of the
             recording. Written once, before the ring is used
log          entries that are only ever appended: CRC-32, kind, code, length, payload, each
             padded to 8 bytes. Names of sources and outcomes by their codes, each before its code
             is used; when recording started and stopped
rows         `capacity` rows of `Pipeline.row_dtype`, with tickets (`latprof.ring.numbers`) as
             `begin` and `seq`
===========  =====================================================================================

All numbers are little endian, on every machine. An entry's checksum begins with its place in the
log, so that one which is moved or half written is none.
"""

import json
import struct
import zlib
from dataclasses import dataclass
from typing import Any

from latprof.errors import PipelineError, TraceError
from latprof.io.metadata import check_meta
from latprof.pipeline import Pipeline

__all__ = [
    "FORMAT",
    "LARGEST_CAPACITY",
    "LONGEST_HEADER",
    "LONGEST_PAYLOAD",
    "MAGIC",
    "OUTCOME",
    "PREFIX",
    "SOURCE",
    "STARTED",
    "STOPPED",
    "Entry",
    "Header",
    "entry_bytes",
    "find_entries",
    "header_bytes",
    "parse_header",
]

MAGIC = b"LATPRING"

FORMAT = 2
"""The format that is written, and the newest that is read. In 1 rows have numbers, no tickets."""

LARGEST_CAPACITY = 2**31

LONGEST_HEADER = 2**20
"""The most bytes a header may have: what a damaged length cannot exceed."""

LONGEST_PAYLOAD = 1_024
"""The most bytes an entry of the log may hold."""

PREFIX = struct.Struct("<8sIIIIQQQQ")
"""What the header begins with; the CRC is over all but itself."""

_CRC_AT = 12
_ENTRY = struct.Struct("<IHHI")
_LATEST = 2**62

SOURCE, OUTCOME, STARTED, STOPPED = 1, 2, 3, 4
"""Kinds of entries: a name of either table; the profiler's clock and the wall clock, 2 x i8."""


@dataclass(frozen=True, slots=True)
class Header:
    """What the header of a ring file says.

    Parameters
    ----------
    pipeline, capacity
        Of the ring.
    facts
        What is known of the recording, as `latprof.io.metadata` names it.
    log_at, log_size, rows_at
        Where the log and the rows are in the file, bytes.
    version
        The format.
    """

    pipeline: Pipeline
    capacity: int
    facts: dict[str, Any]
    log_at: int
    log_size: int
    rows_at: int
    version: int = FORMAT

    @property
    def width(self) -> int:
        """Bytes of a row."""
        return self.pipeline.row_dtype.itemsize

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return self.rows_at + self.capacity * self.width


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of the log."""

    kind: int
    code: int
    payload: bytes


def header_bytes(
    pipeline: Pipeline, capacity: int, facts: dict[str, Any], log_size: int, page: int
) -> tuple[bytes, Header]:
    """Return a new header, and what it says; the rows begin at a multiple of `page`."""
    content = {"pipeline": pipeline.to_dict(), "facts": check_meta(facts, pipeline)}
    text = json.dumps(content, allow_nan=False, separators=(",", ":")).encode()
    log_at = -(-(PREFIX.size + len(text)) // 8) * 8
    rows_at = -(-(log_at + log_size) // page) * page
    header = Header(pipeline, capacity, content["facts"], log_at, log_size, rows_at)
    places = (len(text), header.width, capacity, log_at, log_size, rows_at)
    raw = PREFIX.pack(MAGIC, FORMAT, 0, *places) + text
    return raw[:_CRC_AT] + struct.pack("<I", _header_crc(raw)) + raw[_CRC_AT + 4 :], header


def _header_crc(raw: bytes) -> int:
    return zlib.crc32(raw[_CRC_AT + 4 :], zlib.crc32(raw[:_CRC_AT]))


def parse_header(raw: bytes) -> Header:
    """Return what a header says.

    Parameters
    ----------
    raw
        The file's first `LONGEST_HEADER` bytes, or all of them.

    Raises
    ------
    TraceError
        No ring, one of another format, cut short, damaged, or with a header that lies.
    """
    if not raw[: len(MAGIC)].strip(b"\0"):
        raise TraceError("was not finished when it was made: there was no frame yet to recover")
    if raw[: len(MAGIC)] != MAGIC[: len(raw)]:
        raise TraceError("is no ring file of latprof: give what Profiler(ring=...) has written")
    if len(raw) < PREFIX.size:
        raise TraceError(f"is cut short: {len(raw)} bytes hold no header, take a whole copy")
    _, version, crc, length, width, capacity, log_at, log_size, rows_at = PREFIX.unpack_from(raw)
    if version > FORMAT:
        raise TraceError(
            f"is of ring format {version}, this latprof reads up to {FORMAT}: upgrade latprof"
        )
    whole = raw[: PREFIX.size + length]
    if length <= LONGEST_HEADER - PREFIX.size and len(whole) < PREFIX.size + length:
        raise TraceError("is cut short within its header: take a whole copy of the file")
    if version < 1 or length > LONGEST_HEADER or _header_crc(whole) != crc:
        raise TraceError("has a damaged header (its checksum is wrong): take an undamaged copy")
    try:
        content = json.loads(whole[PREFIX.size :])
        pipeline = Pipeline.from_dict(content["pipeline"])
        facts = check_meta(content["facts"], pipeline)
    except (ValueError, KeyError, TypeError, RecursionError, PipelineError) as error:
        raise TraceError(f"has a header that cannot be ({error}): take an undamaged copy") from None
    header = Header(pipeline, capacity, facts, log_at, log_size, rows_at, version)
    fits = (
        width == header.width
        and 1 <= capacity <= LARGEST_CAPACITY
        and len(whole) <= log_at
        and log_at + log_size <= rows_at < 2**40
        and abs(facts.get("clock_offset_ns") or 0) < _LATEST
    )
    if not fits:
        raise TraceError("has a header whose numbers cannot be: take an undamaged copy")
    return header


def entry_bytes(place: int, entry: Entry) -> bytes:
    """Return an entry as it stands at `place` of the log, padded to 8 bytes."""
    rest = _ENTRY.pack(0, entry.kind, entry.code, len(entry.payload))[4:] + entry.payload
    raw = struct.pack("<I", zlib.crc32(rest, place)) + rest
    return raw + bytes(-len(raw) % 8)


def find_entries(log: bytes, place: int = 0) -> tuple[list[Entry], int]:
    """Return the entries of a log, or of its rest from `place` on, and where the last one ends.

    What is damaged is left out: behind it the search goes on at every eighth byte.

    Examples
    --------
    >>> log = entry_bytes(0, Entry(SOURCE, 1, b"input"))
    >>> log += entry_bytes(len(log), Entry(SOURCE, 2, b"output")) + bytes(16)
    >>> [entry.payload for entry in find_entries(log)[0]], find_entries(b"?" * 8 + log[8:])[0]
    ([b'input', b'output'], [Entry(kind=1, code=2, payload=b'output')])
    """
    found: list[Entry] = []
    at = end = 0
    last = len(log.rstrip(b"\0"))  # nothing but zeros behind it
    while at < last and at + _ENTRY.size <= len(log):
        crc, kind, code, length = _ENTRY.unpack_from(log, at)
        stop = at + _ENTRY.size + length
        good = 1 <= kind <= STOPPED and length <= LONGEST_PAYLOAD and stop <= len(log)
        if good and zlib.crc32(log[at + 4 : stop], place + at) == crc:
            found.append(Entry(kind, code, log[at + _ENTRY.size : stop]))
            at = end = -(-stop // 8) * 8
        else:
            at += 8
    return found, place + end
