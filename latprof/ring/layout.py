"""The layout of a ring file: how its header and log are encoded and checked. Opens no file.

===========  =====================================================================================
part         bytes
===========  =====================================================================================
header       magic, format, CRC-32 of the header, length of the JSON text, width of a row,
             capacity, offset and size of the log, offset of the rows; then the JSON text with the
             pipeline and the metadata of the recording. Written once, before the ring is used
log          append-only entries: CRC-32, kind, code, length, payload, padded to 8 bytes. They
             hold the names of sources and outcomes by code, each stored before its code is used,
             and the times at which recording started and stopped
rows         `capacity` rows of `Pipeline.row_dtype`. `begin` and `seq` hold the stream position
             of the row (see `latprof.ring.ring`)
===========  =====================================================================================

All numbers are little endian on every machine. The checksum of a log entry covers the offset of
the entry, so an entry that was moved or written in part is not valid.
"""

import json
import struct
import zlib
from dataclasses import dataclass
from typing import Any

from latprof.errors import TraceError
from latprof.io.metadata import check_meta
from latprof.pipeline import Pipeline
from latprof.text import clip
from latprof.units import STAMP_LIMIT

__all__ = [
    "FORMAT",
    "LARGEST_CAPACITY",
    "LONGEST_HEADER",
    "LONGEST_PAYLOAD",
    "MAGIC",
    "OLD_MAGIC",
    "OUTCOME",
    "SOURCE",
    "STARTED",
    "STOPPED",
    "Header",
    "encode_entry",
    "encode_header",
    "find_entries",
    "parse_header",
]

MAGIC = b"LATPROFR"

OLD_MAGIC = b"LATPRING"
"""First bytes of a ring file from before the format numbers were restarted at 1."""

FORMAT = 1
"""The format that is written and read."""

LARGEST_CAPACITY = 2**31  # rows

LONGEST_HEADER = 2**20  # bytes

LONGEST_LOG = 2**20  # bytes

LONGEST_PAYLOAD = 1_024  # bytes of one log entry

SOURCE, OUTCOME, STARTED, STOPPED = 1, 2, 3, 4
"""Kinds of log entries: a name of a source or an outcome; a time as 2 x i8, the profiler's clock
and the wall clock in ns."""

_PREFIX = struct.Struct("<8sIIIIQQQQ")
_CRC_AT = 12
_ENTRY = struct.Struct("<IHHI")
_OFFSET_LIMIT = 2**40  # bytes


@dataclass(frozen=True, slots=True)
class Header:
    """The header of a ring file.

    Parameters
    ----------
    pipeline, capacity
        Of the ring.
    metadata
        Metadata of the recording, see `latprof.io.metadata`.
    log_at, log_size, rows_at
        Offset and size of the log, and offset of the rows, in bytes.
    """

    pipeline: Pipeline
    capacity: int
    metadata: dict[str, Any]
    log_at: int
    log_size: int
    rows_at: int

    @property
    def width(self) -> int:
        """Bytes of a row."""
        return self.pipeline.row_dtype.itemsize

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return self.rows_at + self.capacity * self.width


def encode_header(
    pipeline: Pipeline, capacity: int, metadata: dict[str, Any], log_size: int, page: int
) -> tuple[bytes, Header]:
    """Return the bytes of a new header and the header; rows begin at a multiple of `page`."""
    content = {"pipeline": pipeline.to_dict(), "metadata": check_meta(metadata, pipeline)}
    text = json.dumps(content, allow_nan=False, separators=(",", ":")).encode()
    log_at = _round_up(_PREFIX.size + len(text), 8)
    rows_at = _round_up(log_at + log_size, page)
    header = Header(pipeline, capacity, content["metadata"], log_at, log_size, rows_at)
    numbers = (len(text), header.width, capacity, log_at, log_size, rows_at)
    raw = _PREFIX.pack(MAGIC, FORMAT, 0, *numbers) + text
    return _PREFIX.pack(MAGIC, FORMAT, _header_crc(raw), *numbers) + text, header


def _round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def _header_crc(raw: bytes) -> int:
    """Return the checksum of a header: of everything except the checksum itself."""
    return zlib.crc32(raw[_CRC_AT + 4 :], zlib.crc32(raw[:_CRC_AT]))


def parse_header(raw: bytes, name: str) -> Header:
    """Return the header of a ring file.

    Parameters
    ----------
    raw
        The first `LONGEST_HEADER` bytes of the file, or the whole file if it is shorter.
    name
        Of the file, for messages.

    Raises
    ------
    TraceError
        The file is not a ring file, has another format, is cut short or is corrupt.
    """

    def refusal(reason: str, remedy: str = "use an intact copy of the file") -> TraceError:
        return TraceError(f"{name} {reason}; {remedy}")

    magic = raw[: len(MAGIC)]
    if not magic.strip(b"\0"):
        raise refusal("was not finished when it was created", "it holds no frames")
    if magic == OLD_MAGIC and len(raw) >= _CRC_AT:
        (version,) = struct.unpack_from("<I", raw, len(MAGIC))
        reason = f"has ring format {version} from before format numbers restarted at 1"
        raise refusal(reason, "recover it with the latprof that wrote it")
    if not MAGIC.startswith(magic):
        raise refusal("is not a ring file", "name a file that Profiler(ring=...) wrote")
    if len(raw) < _PREFIX.size:
        raise refusal(f"is cut short: {len(raw)} bytes hold no header")
    _, version, crc, length, width, capacity, log_at, log_size, rows_at = _PREFIX.unpack_from(raw)
    if version > FORMAT:
        reason = f"has ring format {version}, and this latprof reads format {FORMAT}"
        raise refusal(reason, "upgrade latprof")
    end = _PREFIX.size + length
    if len(raw) < end <= LONGEST_HEADER:
        raise refusal("is cut short within its header")
    if version != FORMAT or end > LONGEST_HEADER or _header_crc(raw[:end]) != crc:
        raise refusal("has a header with a wrong checksum")
    try:
        content = json.loads(raw[_PREFIX.size : end])
        pipeline = Pipeline.from_dict(content["pipeline"])
        metadata = check_meta(content["metadata"], pipeline)
    except (ValueError, LookupError, TypeError, ArithmeticError, RecursionError) as error:
        reason = clip(f"{type(error).__name__}: {error}", limit=300)
        raise refusal(f"has an invalid header ({reason})") from None
    header = Header(pipeline, capacity, metadata, log_at, log_size, rows_at)
    valid = (
        width == header.width
        and 1 <= capacity <= LARGEST_CAPACITY
        and end <= log_at
        and log_size <= LONGEST_LOG
        and log_at + log_size <= rows_at < _OFFSET_LIMIT
        and abs(metadata.get("clock_offset_ns") or 0) < STAMP_LIMIT
    )
    if not valid:
        raise refusal("has a header with inconsistent numbers")
    return header


def encode_entry(offset: int, kind: int, code: int, payload: bytes) -> bytes:
    """Return the bytes of an entry at `offset` of the log, padded to 8 bytes."""
    rest = _ENTRY.pack(0, kind, code, len(payload))[4:] + payload
    raw = struct.pack("<I", zlib.crc32(rest, offset)) + rest
    return raw.ljust(_round_up(len(raw), 8), b"\0")


def find_entries(log: bytes, offset: int = 0) -> tuple[list[tuple[int, int, bytes]], int]:
    """Return the valid entries of a log, and the offset at which the last of them ends.

    Damaged bytes are skipped: the search goes on at the next multiple of 8 bytes.

    Parameters
    ----------
    log
        The log, or its rest from `offset` on.
    offset
        Where `log` begins.

    Returns
    -------
    entries : list of (kind, code, payload)
    end : int

    Examples
    --------
    >>> log = encode_entry(0, SOURCE, 1, b"input")
    >>> log += encode_entry(len(log), SOURCE, 2, b"output") + bytes(16)
    >>> find_entries(log)[0], find_entries(b"?" * 8 + log[8:])[0]
    ([(1, 1, b'input'), (1, 2, b'output')], [(1, 2, b'output')])
    """
    found = []
    at = end = 0
    used = len(log.rstrip(b"\0"))
    while at < used and at + _ENTRY.size <= len(log):
        crc, kind, code, length = _ENTRY.unpack_from(log, at)
        stop = at + _ENTRY.size + length
        valid = SOURCE <= kind <= STOPPED and length <= LONGEST_PAYLOAD and stop <= len(log)
        if valid and zlib.crc32(log[at + 4 : stop], offset + at) == crc:
            found.append((kind, code, log[at + _ENTRY.size : stop]))
            at = end = _round_up(stop, 8)
        else:
            at += 8
    return found, offset + end
