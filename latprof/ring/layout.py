"""The layout of a ring file: how its header, log and rows are encoded and checked. Opens no file.

===========  =====================================================================================
part         bytes
===========  =====================================================================================
header       magic, format, CRC-32 of the header, length of the JSON text, width of a row,
             capacity, offset and size of the log, offset and number of the slots for frames in
             flight, offset of the rows; then the JSON text with the pipeline, the names of the
             tags and the metadata of the recording. Written once, before the ring is used
log          append-only entries: CRC-32, kind, code, length, payload, padded to 8 bytes. They
             hold the names of sources, outcomes and values of tags by code, each stored before
             its code is used, and the times at which recording started and stopped
beat         u8: the profiler's clock in ns at the last sign of life of the process
slots        rows of `row_dtype`, one for each frame in flight: its stamps so far
rows         `capacity` rows of `row_dtype`: finished and dropped frames. `begin` and `seq` hold
             the sequence number of the row (see `latprof.ring.ring`)
===========  =====================================================================================

All numbers are little endian on every machine. The checksum of a log entry covers the offset of
the entry, so an entry that was moved or written in part is not valid.

A slot has the fields of a row, with another meaning of three of them:

- ``begin`` is 0 if the slot is free; otherwise it is the serial number of the frame, which is
  unique in the recording. It is stored last when a frame takes the slot, and set to 0 before
  anything else when the frame gives the slot back.
- ``rss`` is the native id of the thread that began the frame.
- ``seq`` is 0 until the frame is finished or dropped. It is then set to the sequence number of the
  frame's row, before the row is written. If that row is committed, the frame is no longer in
  flight and the slot does not count; otherwise the frame is still in flight.

A row with ``weight`` 0 is that of a frame that was rejected after it got a sequence number. Its
outcome is the reason, after the prefix `REJECTED`.
"""

import json
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from latprof.errors import TraceError
from latprof.io.checks import check_tag_name
from latprof.io.metadata import check_meta
from latprof.pipeline import Pipeline
from latprof.text import clip, quoted
from latprof.units import STAMP_LIMIT

__all__ = [
    "FORMAT",
    "LARGEST_CAPACITY",
    "LONGEST_HEADER",
    "LONGEST_PAYLOAD",
    "MAGIC",
    "MOST_SLOTS",
    "MOST_TAGS",
    "NAME_BYTES",
    "OLD_MAGIC",
    "OUTCOME",
    "OUTCOME_BYTES",
    "REJECTED",
    "SLOTS",
    "SOURCE",
    "STARTED",
    "STOPPED",
    "TAG",
    "Header",
    "check_tags",
    "encode_entry",
    "encode_header",
    "entry_size",
    "find_entries",
    "log_size",
    "parse_header",
    "row_dtype",
]

MAGIC = b"LATPROFR"
"""First bytes of a ring file."""

OLD_MAGIC = b"LATPRING"
"""First bytes of a ring file from before the format numbers were restarted at 1."""

FORMAT = 2
"""The format that is written and read."""

LARGEST_CAPACITY = 2**31  # rows

SLOTS = 1_024  # frames in flight that a ring file holds, unless another number is requested

MOST_SLOTS = 2**20  # the largest number that may be requested

MOST_TAGS = 16  # tags of a ring

LONGEST_HEADER = 2**20  # bytes

NAME_BYTES = 2**21  # bytes of the log for the sources, and for the values of each tag

OUTCOME_BYTES = 2**17  # bytes of the log for the outcomes

TIMES_BYTES = 2**14  # bytes of the log for the times of starts and stops

LONGEST_LOG = OUTCOME_BYTES + TIMES_BYTES + (1 + MOST_TAGS) * NAME_BYTES

LONGEST_PAYLOAD = 1_024  # bytes of one log entry

SOURCE, OUTCOME, STARTED, STOPPED = 1, 2, 3, 4
TAG = 16
"""Kinds of log entries: the name of a source or an outcome; the time of a start or a stop as 2 x
i8, the profiler's clock and the wall clock in ns; `TAG` + k is a value of tag number k."""

REJECTED = "rejected: "
"""Prefix of the outcome of a rejected frame; the reason follows."""

_PREFIX = struct.Struct("<8sIIIIQQQQQQ")
_CRC_AT = 12
_ENTRY = struct.Struct("<IHHI")
_OFFSET_LIMIT = 2**40  # bytes


def row_dtype(pipeline: Pipeline, tags: Sequence[str] = ()) -> np.dtype[np.void]:
    """Return the row of a ring: 8-byte aligned, little endian; only there a mark of 0 is missing.

    Each tag has a code, in the field ``tag 0``, ``tag 1`` and so on.
    """
    codes = [(f"tag {k}", "<u4") for k in range(len(tags))]
    padding = [("padding", "<u4")] if len(tags) % 2 else []
    return np.dtype(
        [("begin", "<u8"), ("frame_id", "<u8")]
        + [(mark, "<i8") for mark in pipeline.marks]
        + [("rss", "<u8"), ("size", "<u4"), ("source", "<u2"), ("outcome", "<u2")]
        + [("cpu", "<f4"), ("weight", "<u4"), *codes, *padding, ("seq", "<u8")]
    )


def check_tags(tags: object, pipeline: Pipeline) -> tuple[str, ...]:
    """Return the names of tags as a tuple.

    Raises
    ------
    TraceError
        `tags` is not a list or tuple of at most `MOST_TAGS` different names, or a column has one
        of the names already.
    """
    # a single text would be a sequence of letters
    if not isinstance(tags, tuple | list) or not all(isinstance(tag, str) for tag in tags):
        raise TraceError(f"tags must be a list of names, got {quoted(tags)}")
    if len(tags) > MOST_TAGS or len(set(tags)) < len(tags):
        raise TraceError(
            f"tags must be at most {MOST_TAGS} different names, got {quoted(list(tags))}"
        )
    for tag in tags:
        check_tag_name(tag, pipeline, tags)
    return tuple(tags)


@dataclass(frozen=True, slots=True)
class Header:
    """The header of a ring file.

    Parameters
    ----------
    pipeline, capacity, tags
        The pipeline, the number of rows, and the names of the tags.
    metadata
        Metadata of the recording, see `latprof.io.metadata`.
    log_at, log_size, slots_at, rows_at
        Offset and size of the log, and offsets of the slots and the rows, in bytes.
    slots
        Number of slots for frames in flight.
    """

    pipeline: Pipeline
    capacity: int
    tags: tuple[str, ...]
    metadata: dict[str, Any]
    log_at: int
    log_size: int
    slots_at: int
    slots: int
    rows_at: int

    @property
    def beat_at(self) -> int:
        """Offset of the last sign of life."""
        return self.log_at + self.log_size

    @property
    def dtype(self) -> np.dtype[np.void]:
        """The type of a row."""
        return row_dtype(self.pipeline, self.tags)

    @property
    def width(self) -> int:
        """Bytes of a row."""
        return self.dtype.itemsize

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return self.rows_at + self.capacity * self.width


def log_size(tags: Sequence[str]) -> int:
    """Return how many bytes the log of a ring with these tags needs at most."""
    return OUTCOME_BYTES + TIMES_BYTES + (1 + len(tags)) * NAME_BYTES


def encode_header(
    pipeline: Pipeline,
    capacity: int,
    metadata: dict[str, Any],
    page: int,
    *,
    tags: Sequence[str] = (),
    slots: int = SLOTS,
) -> tuple[bytes, Header]:
    """Return the bytes of a new header and the header.

    Slots and rows begin at multiples of `page`.
    """
    tags = check_tags(tags, pipeline)
    content: dict[str, Any] = {
        "pipeline": pipeline.to_dict(),
        "tags": list(tags),
        "metadata": check_meta(metadata, pipeline),
    }
    text = json.dumps(content, allow_nan=False, separators=(",", ":")).encode()
    log_at = _round_up(_PREFIX.size + len(text), 8)
    size, width = log_size(tags), row_dtype(pipeline, tags).itemsize
    slots_at = _round_up(log_at + size + 8, page)
    rows_at = _round_up(slots_at + slots * width, page)
    meta = content["metadata"]
    header = Header(pipeline, capacity, tags, meta, log_at, size, slots_at, slots, rows_at)
    numbers = (len(text), width, capacity, log_at, size, slots_at, slots, rows_at)
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
        Name of the file, for messages.

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
    _, version, crc, length, width, *numbers = _PREFIX.unpack_from(raw)
    capacity, log_at, size, slots_at, slots, rows_at = numbers
    if version != FORMAT:
        remedy = "upgrade latprof" if version > FORMAT else "use the latprof that wrote it"
        raise refusal(f"has ring format {version}, and this latprof reads format {FORMAT}", remedy)
    end = _PREFIX.size + length
    if len(raw) < end <= LONGEST_HEADER:
        raise refusal("is cut short within its header")
    if end > LONGEST_HEADER or _header_crc(raw[:end]) != crc:
        raise refusal("has a header with a wrong checksum")
    try:
        content = json.loads(raw[_PREFIX.size : end])
        pipeline = Pipeline.from_dict(content["pipeline"])
        tags = check_tags(content["tags"], pipeline)
        metadata = check_meta(content["metadata"], pipeline)
    except (ValueError, LookupError, TypeError, ArithmeticError, RecursionError) as error:
        reason = clip(f"{type(error).__name__}: {error}", limit=300)
        raise refusal(f"has an invalid header ({reason})") from None
    header = Header(pipeline, capacity, tags, metadata, log_at, size, slots_at, slots, rows_at)
    valid = (
        width == header.width
        and 1 <= capacity <= LARGEST_CAPACITY
        and 0 <= slots <= MOST_SLOTS
        and end <= log_at
        and size <= LONGEST_LOG
        and log_at + size + 8 <= slots_at
        and (log_at + size) % 8 == 0
        and slots_at + slots * width <= rows_at < _OFFSET_LIMIT
        and abs(metadata.get("clock_offset_ns") or 0) < STAMP_LIMIT
    )
    if not valid:
        raise refusal("has a header with inconsistent numbers")
    return header


def entry_size(length: int) -> int:
    """Return how many bytes an entry with a payload of `length` bytes takes in the log."""
    return _round_up(_ENTRY.size + length, 8)


def encode_entry(offset: int, kind: int, code: int, payload: bytes) -> bytes:
    """Return the bytes of an entry at `offset` of the log, padded to 8 bytes."""
    rest = _ENTRY.pack(0, kind, code, len(payload))[4:] + payload
    raw = struct.pack("<I", zlib.crc32(rest, offset)) + rest
    return raw.ljust(entry_size(len(payload)), b"\0")


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
        known = SOURCE <= kind <= STOPPED or TAG <= kind < TAG + MOST_TAGS
        valid = known and length <= LONGEST_PAYLOAD and stop <= len(log)
        if valid and zlib.crc32(log[at + 4 : stop], offset + at) == crc:
            found.append((kind, code, log[at + _ENTRY.size : stop]))
            at = end = _round_up(stop, 8)
        else:
            at += 8
    return found, offset + end
