"""The metadata of a trace, checked before it is written and after it is read.

`meta` is a plain dict of JSON values. The keys in this table are checked; others are kept as they
are.

=======================  =========================================================
key                      value
=======================  =========================================================
``owns``                 the marks that this recording stamps, a list of names
``clock_offset_ns``      wall clock minus monotonic clock: one value for the file
``anchors``              further pairs [monotonic ns, wall clock ns]
``boot_id``, ``host``    text: recordings of one boot share a monotonic clock
``pid``                  of the process that recorded
``cores``                how many processors that process might use
``python``, ``created``  text
``core``                 the stamping core that recorded, "c" or "python"
``sampling_rate``        above 0, at most 1
``lost``                 frames that were recorded but are not in the file
``accounts``             counts by name, or by name and reason
``stamp_ns``             how long a clock read takes on the machine that recorded
``recording``, ``part``  text, the same in all files of a recording; the number of the file
``segments``             list of [begin, end], UTC ns: when the recorder was running
``labels``               texts and numbers by name: what the program says of the run
``join``, ``run``        objects: how recordings were joined, what was run
``thresholds``           warning and critical thresholds of the recorder: ns by level and span
``recovery``             counts by name: `accounts.Recovery` of the ring it was recovered from
``in_flight``            list of objects: `accounts.InFlight` of that ring
``members``              object: the recordings of a file that has several
``reading``              sentences on how the file was read, and what was assumed
``untimed``              whether frames have durations, but no times
``samples``              whether rows are periodic samples rather than frames
=======================  =========================================================

The JSON also has the number of rows. If the file has another number, another tool has filtered it:
the keys in `COUNTS`, which count all frames of the recording, are dropped then. The JSON is written
three times: in the footer; in the Arrow schema, which pyarrow keeps; and in the attributes of a
DataFrame, which pandas keeps.

Parquet has checksums of its pages but not of its footer, where one wrong bit may turn a tag into
another or make a reader crash. The JSON therefore begins with a field ``seal``: the CRC-32 of the
footer (taken with zeros in the field) and the length of the file. A file that another tool has
rewritten has another length, and its footer is not checked.
"""

import json
import math
import os
import re
import socket
import sys
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, BinaryIO

import numpy as np

from latprof.accounts import InFlight, Recovery
from latprof.errors import PipelineError, TraceError
from latprof.io.remote import RemoteFile
from latprof.pipeline import Pipeline
from latprof.text import clip, quoted
from latprof.units import format_utc

__all__ = [
    "COUNTS",
    "FORMAT",
    "KEY",
    "MEMBERS",
    "REWRITTEN",
    "add_checksum",
    "check_meta",
    "decode",
    "described",
    "drop_counts",
    "encode",
    "entries",
    "find",
    "verify_checksum",
]

KEY = b"latprof"
"""The key in the metadata of the Parquet file."""

FORMAT = 1
"""The format of trace files that is written and read."""

MEMBERS = "members"
"""The key with the recordings of a file that has several: see `latprof.io.several`."""

COUNTS = ("accounts", "lost", "recovery", "in_flight", "join", MEMBERS)
"""Keys that count all frames of a recording, and do not hold for a part of its rows."""

_ATTRIBUTES = b"PANDAS_ATTRS"  # the key of the attributes of a DataFrame, JSON
_FILTERED = "rows were taken out after the recording: what it says of all its frames is left out"
REWRITTEN = (
    "another program has rewritten a file with several recordings, which are taken for one: what "
    "they say of all their frames is left out"
)

_REMEDY = "correct it, or take an intact copy of the file"
_OWN_KEYS = ("format", "seal", "pipeline", "rows")
_LEAST_RATE = 1e-18  # sampling rate; a row must not represent more frames than 64 bits count

_NO_CHECKSUM = "0" * 24  # 8 hexadecimal digits of the checksum, 16 of the file's length
_CHECKSUM = re.compile(rb'(?<=\{"format":1,"seal":").{24}(?=")', re.DOTALL)
_TAIL_BYTES = 8  # a Parquet file ends in the length of its footer (4 bytes) and PAR1

# -- rules ----------------------------------------------------------------------------------------

Rule = Callable[[Any], bool]


def _integer(low: float, high: float = math.inf) -> Rule:
    return lambda value: type(value) is int and low <= value <= high


def _list_of(rule: Rule) -> Rule:
    return lambda value: isinstance(value, list) and all(map(rule, value))


def _object_of(rule: Rule) -> Rule:
    return lambda value: isinstance(value, dict) and all(map(rule, value.values()))


_is_count = _integer(0)
_is_ns = _integer(1 - 2**63, 2**63 - 1)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_rate(value: Any) -> bool:
    return type(value) in (int, float) and _LEAST_RATE <= value <= 1


def _is_pair(value: Any) -> bool:
    return _list_of(_is_ns)(value) and len(value) == 2


def _is_segment(value: Any) -> bool:
    return _is_pair(value) and bool(value[0] <= value[1])


def _is_accounts(value: Any) -> bool:
    by_reason = _object_of(_is_count)
    return isinstance(value, dict) and all(
        (by_reason if name in ("dropped", "rejected", "notes") else _is_count)(count)
        for name, count in value.items()
    )


def _is_join(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and _list_of(_is_part)(value.get("parts") or [])
        and _list_of(_is_clock)(value.get("clocks") or [])
    )


def _is_clock(value: Any) -> bool:
    texts = _list_of(_is_text)
    kinds = {"parts": texts, "spans": texts, "host": _is_text, "method": _is_text}
    kinds["frames"] = _list_of(_is_count)
    return isinstance(value, dict) and all(
        kinds.get(name, _is_ns)(known) for name, known in value.items() if known is not None
    )


def _is_part(value: Any) -> bool:
    known = ("pid", "host", "sampling_rate", "lost", "accounts", "stamp_ns")
    return isinstance(value, dict) and all(
        value.get(key) is None or _RULES[key][0](value[key]) for key in known
    )


def _is_recovery(value: Any) -> bool:
    names = {field.name for field in fields(Recovery)}
    required = {"whole", "torn", "never_written", "refused", "cut_off"}
    return _object_of(_is_count)(value) and required <= value.keys() <= names


def _is_members(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and _integer(1, 2**31)(value.get("row_group"))
        and _list_of(_is_member)(value.get("each"))
    )


def _is_member(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"rows", "start", "meta"}
        and _is_count(value["rows"])
        and _is_ns(value["start"])
        and isinstance(value["meta"], dict)
        and MEMBERS not in value["meta"]
    )


def _is_label(value: Any) -> bool:
    return isinstance(value, str | int | float)


_TEXT = (_is_text, "text")
_COUNT = (_is_count, "an integer of 0 or more")
_RULES: dict[str, tuple[Rule, str]] = {
    "clock_offset_ns": (_is_ns, "an integer number of ns below 2**63"),
    "anchors": (_list_of(_is_pair), "a list of pairs [monotonic ns, wall clock ns]"),
    "boot_id": _TEXT,
    "host": _TEXT,
    "pid": _COUNT,
    "cores": _COUNT,
    "python": _TEXT,
    "created": _TEXT,
    "core": _TEXT,
    "sampling_rate": (_is_rate, f"a number from {_LEAST_RATE:g} to 1"),
    "lost": _COUNT,
    "accounts": (_is_accounts, "an object of counts; dropped, rejected, notes: counts by reason"),
    "segments": (_list_of(_is_segment), "a list of pairs [begin, end] of UTC ns"),
    "stamp_ns": _COUNT,
    "recording": _TEXT,
    "part": _COUNT,
    "join": (_is_join, "an object with a list of such metadata as parts"),
    "recovery": (
        _is_recovery,
        "an object of counts, with whole, torn, never_written, refused and cut_off",
    ),
    "in_flight": (_list_of(InFlight.is_valid), "a list of frames in flight"),
    "labels": (_object_of(_is_label), "an object of texts and numbers"),
    "reading": (_list_of(_is_text), "a list of sentences"),
    "untimed": (_is_flag, "true or false"),
    "samples": (_is_flag, "true or false"),
    "run": (lambda value: isinstance(value, dict), "an object"),
    "thresholds": (_object_of(_object_of(_is_count)), "an object of objects of ns"),
    MEMBERS: (_is_members, "an object of the rows in a row group, and of each recording"),
}


def check_meta(meta: object, pipeline: Pipeline) -> dict[str, Any]:
    """Return `meta` as a new dict of JSON values, or an empty dict if it is None.

    Raises
    ------
    TraceError
        `meta` is not a dict, a key is not text or is reserved, or a value cannot be written as
        JSON or breaks the rule of its key. Any key may be None.
    """
    if meta is None:
        return {}
    if not isinstance(meta, dict):
        raise TraceError(f"meta must be a dict, got {quoted(meta)}")
    for key in meta:
        if not isinstance(key, str) or key in _OWN_KEYS:
            raise TraceError(
                f"keys of meta must be text other than {', '.join(_OWN_KEYS)}, got {quoted(key)}; "
                "choose another key"
            )
    try:
        text = json.dumps(meta, default=_plain, allow_nan=False)
        content: dict[str, Any] = json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise TraceError(
            f"meta must contain JSON values only: {quoted(str(error))}; convert or remove the value"
        ) from None
    _check_values(content, pipeline)
    return content


def _plain(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"got {type(value).__name__}")


def _check_values(meta: dict[str, Any], pipeline: Pipeline) -> None:
    for key, (holds, rule) in _RULES.items():
        value = meta.get(key)
        if value is not None and not holds(value):
            raise TraceError(f"metadata {key!r} must be {rule}, got {_shown(value)}; {_REMEDY}")
    owns = meta.get("owns")
    if owns is not None and not (
        _list_of(lambda mark: mark in pipeline.marks)(owns) and 0 < len(owns) == len(set(owns))
    ):
        raise TraceError(
            f"metadata 'owns' must be a list of different marks of pipeline {pipeline.name!r} "
            f"({', '.join(pipeline.marks)}), got {_shown(owns)}; {_REMEDY}"
        )


# -- the text in a file ---------------------------------------------------------------------------


def encode(pipeline: Pipeline, meta: dict[str, Any], rows: int = 0) -> bytes:
    """Return the JSON text of a file; `add_checksum` relies on the order of its first keys."""
    content = {"format": FORMAT, "seal": _NO_CHECKSUM, "pipeline": pipeline.to_dict()}
    content |= check_meta(meta, pipeline) | {"rows": rows}
    return json.dumps(content, allow_nan=False, separators=(",", ":")).encode()


def entries(text: bytes) -> dict[bytes, bytes]:
    """Return the keys and values of a footer for the text that `encode` has returned."""
    attributes = json.dumps({KEY.decode(): json.loads(text)}).encode()
    return {KEY: text, _ATTRIBUTES: attributes}


def find(found: Mapping[bytes, bytes] | None) -> bytes | None:
    """Return the JSON text among the keys and values of a footer, or None if it is not there."""
    known = found or {}
    if KEY in known or _ATTRIBUTES not in known:
        return known.get(KEY)
    try:
        content = json.loads(known[_ATTRIBUTES])[KEY.decode()]
    except (ValueError, RecursionError, LookupError, TypeError):  # attributes of another program
        return None
    return json.dumps(content).encode()


def decode(raw: bytes, rows: int) -> tuple[Pipeline, dict[str, Any]]:
    """Return the pipeline and the metadata of a text of `encode`, for a table of `rows` rows.

    Raises
    ------
    TraceError
        Not a JSON object, another format, or values that break the rules above.
    """
    try:
        content = json.loads(raw, parse_constant=_refuse_constant)
        if not isinstance(content, dict):
            raise ValueError(f"got {_shown(content)}")
    except (ValueError, RecursionError) as error:
        raise TraceError(
            f"the metadata 'latprof' must be a JSON object: {quoted(str(error))}; take an intact "
            "copy of the file"
        ) from None
    version = content.pop("format", None)
    if type(version) is not int or version != FORMAT:
        newer = type(version) is int and version > FORMAT
        writer = content.get("latprof")
        by = f", written by latprof {quoted(writer)}" if isinstance(writer, str) else ""
        remedy = "a newer latprof reads it" if newer else "take an intact copy of the file"
        raise TraceError(
            f"the file must have format {FORMAT} to be read by this version of latprof, got "
            f"{_shown(version)}{by}; {remedy}"
        )
    try:
        pipeline = Pipeline.from_dict(content.pop("pipeline", None))
    except PipelineError as error:
        raise TraceError(
            f"the pipeline in the metadata is invalid: {error}; take an intact copy of the file"
        ) from None
    content.pop("seal", None)
    recorded = content.pop("rows", rows)
    _check_values(content, pipeline)
    if recorded != rows:
        drop_counts(content)
    return pipeline, content


def drop_counts(content: dict[str, Any], why: str = _FILTERED) -> None:
    """Delete the keys in `COUNTS`, and add the sentence `why` to ``reading`` if there were any."""
    dropped = [name for name in COUNTS if content.get(name) is not None]
    clocks = (content.get("join") or {}).get("clocks")
    for name in dropped:
        del content[name]
    if clocks:
        content["join"] = {"clocks": clocks}
    if dropped:
        before = content.get("reading")
        content["reading"] = [*(before if isinstance(before, list) else []), why]


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON value")


def _shown(value: object) -> str:
    """Return a value of a file as JSON, shortened and without control characters."""
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except (ValueError, RecursionError):  # an integer of thousands of digits
        return type(value).__name__
    return clip(text, 40)


# -- checksum of the footer -----------------------------------------------------------------------


def _footer(file: BinaryIO | RemoteFile) -> tuple[int, int, bytes]:
    """Return the length of the file, where its footer begins, and the footer."""
    length = file.seek(0, os.SEEK_END)
    file.seek(-_TAIL_BYTES, os.SEEK_END)
    start = length - _TAIL_BYTES - int.from_bytes(file.read(4), "little")
    if start < 4:
        return length, length, b""
    file.seek(start)
    return length, start, file.read()


def add_checksum(file: BinaryIO) -> None:
    """Write the checksum into a complete file that is open for reading and writing."""
    length, start, footer = _footer(file)
    found = _CHECKSUM.search(footer)
    if found is not None and found[0] == _NO_CHECKSUM.encode():
        file.seek(start + found.start())
        file.write(b"%08x%016x" % (zlib.crc32(footer), length))


def verify_checksum(file: BinaryIO | RemoteFile) -> bool:
    """Compare the footer with its checksum; return False if another tool has rewritten the file.

    Raises
    ------
    TraceError
        The footer is not what was written.
    """
    length, _, footer = _footer(file)
    found = _CHECKSUM.search(footer)
    if found is None:
        return False
    right = False
    if re.fullmatch(rb"[0-9a-f]{24}", found[0]):
        if int(found[0][8:], 16) != length:
            return False
        blank = footer[: found.start()] + _NO_CHECKSUM.encode() + footer[found.end() :]
        right = zlib.crc32(blank) == int(found[0][:8], 16)
    if not right:
        raise TraceError("the file is corrupt (wrong checksum of its footer); take an intact copy")
    return True


def described(meta: dict[str, Any]) -> dict[str, Any]:
    """Return `meta` with created, host, python and latprof, unless it has them already."""
    from importlib.metadata import PackageNotFoundError, version  # slow to load

    try:
        own = version("latprof")
    except PackageNotFoundError:  # run from a checkout without being installed
        own = "unknown"
    defaults = {
        "created": format_utc(time.time_ns()),
        "host": socket.gethostname(),
        "python": sys.version.split()[0],
        "latprof": own,
    }
    return defaults | meta
