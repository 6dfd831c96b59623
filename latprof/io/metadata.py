"""What a trace says about itself: checked before it is written and after it is read.

`meta` is a plain dict of values that JSON has. The keys that latprof gives a meaning are checked;
others are kept as they are.

======================  ==========================================================
key                     value
======================  ==========================================================
``owns``                the marks that this recording stamps, a list of names
``clock_offset_ns``     wall clock minus monotonic clock: one for the file
``anchors``             further pairs [monotonic ns, wall clock ns]
``boot_id``, ``host``   text: recordings of one boot share a monotonic clock
``pid``                 of the process that recorded
``python``, ``created``  text
``sampling_rate``       above 0, at most 1
``lost``                frames that were recorded but are not in the file
``accounts``            counts by name, or by name and reason
``stamp_ns``            what a clock read takes where it was recorded
``recording``, ``part`` text, the same in all files of a recording; the number of the file
``segments``            list of [begin, end], UTC ns: when was recorded
``join``, ``run``       objects: how recordings were joined, what was run
``thresholds``          what the recorder calls slow: ns by "warning" or "critical" and span
``recovery``            counts by name: `accounts.Recovery` of the ring it was recovered from
======================  ==========================================================
"""

import json
from collections.abc import Callable
from dataclasses import fields
from typing import Any, cast

import numpy as np

from latprof.accounts import Recovery
from latprof.errors import PipelineError, TraceError
from latprof.io import checksum
from latprof.pipeline import Pipeline
from latprof.text import escape

__all__ = ["FORMAT", "KEY", "check_meta", "decode", "encode"]

KEY = b"latprof"
"""The key of the Parquet file's metadata."""

FORMAT = 1
"""The format that is written, and the newest that is read."""

_OWN_KEYS = ("format", "seal", "pipeline")


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_count(value: object) -> bool:
    return _is_int(value) and value >= 0  # type: ignore[operator]


def _is_ns(value: object) -> bool:
    return _is_int(value) and abs(value) < 2**63  # type: ignore[arg-type]


def _is_rate(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 1


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_object(value: object) -> bool:
    return isinstance(value, dict)


def _is_anchors(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(pair, list) and len(pair) == 2 and all(map(_is_ns, pair)) for pair in value
    )


def _is_accounts(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(v, dict) and all(map(_is_count, v.values()))
        if name in ("dropped", "rejected", "notes")
        else _is_count(v)
        for name, v in value.items()
    )


def _is_join(value: object) -> bool:
    parts = value.get("parts") if isinstance(value, dict) else None
    if parts is None:
        return isinstance(value, dict)
    return isinstance(parts, list) and all(map(_is_part, parts))


def _is_part(value: object) -> bool:
    known = ("pid", "host", "sampling_rate", "lost", "accounts", "stamp_ns")
    return isinstance(value, dict) and all(
        value.get(key) is None or _RULES[key][0](value[key]) for key in known
    )


def _is_thresholds(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(spans, dict) and all(map(_is_count, spans.values())) for spans in value.values()
    )


def _is_recovery(value: object) -> bool:
    names = {field.name for field in fields(Recovery)}
    return (
        isinstance(value, dict)
        and names - {"being_written"} <= value.keys() <= names  # of a ring whose process lived
        and all(map(_is_count, value.values()))
    )


def _is_segments(value: object) -> bool:
    return _is_anchors(value) and all(a <= b for a, b in cast(list[list[int]], value))


_RULES: dict[str, tuple[Callable[[object], bool], str]] = {
    "clock_offset_ns": (_is_ns, "an integer number of ns below 2**63"),
    "anchors": (_is_anchors, "a list of pairs [monotonic ns, wall clock ns]"),
    "boot_id": (_is_text, "text"),
    "host": (_is_text, "text"),
    "pid": (_is_count, "an integer of 0 or more"),
    "python": (_is_text, "text"),
    "created": (_is_text, "text"),
    "sampling_rate": (_is_rate, "a number above 0 and at most 1"),
    "lost": (_is_count, "an integer of 0 or more"),
    "accounts": (
        _is_accounts,
        "an object of counts of 0 or more; dropped, rejected and notes: of such objects",
    ),
    "segments": (_is_segments, "a list of pairs [begin, end] of UTC ns"),
    "stamp_ns": (_is_count, "an integer of 0 or more"),
    "recording": (_is_text, "text"),
    "part": (_is_count, "an integer of 0 or more"),
    "join": (_is_join, "an object, whose parts are a list of objects of such metadata"),
    "recovery": (_is_recovery, "an object of counts whole, torn, never_written ..."),
    "run": (_is_object, "an object"),
    "thresholds": (_is_thresholds, "an object of objects of ns, 0 or more"),
}


def check_meta(meta: object, pipeline: Pipeline) -> dict[str, Any]:
    """Return `meta` as a new dict of JSON's own types; None is an empty one.

    Raises
    ------
    TraceError
        No dict, a key that is not text, a value that JSON does not have, or one that a known
        key cannot have. A known key may be None.
    """
    if meta is None:
        return {}
    if not isinstance(meta, dict):
        raise TraceError(f"meta is {type(meta).__name__}: give a dict")
    for key in meta:
        if not isinstance(key, str) or key in _OWN_KEYS:
            raise TraceError(f"meta key {key!r} cannot be used: choose another name")
    try:
        text = json.dumps(meta, default=_plain, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise TraceError(f"meta cannot be written as JSON ({error}): use plain values") from None
    content: dict[str, Any] = json.loads(text)
    _check_values(content, pipeline)
    return content


def _plain(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} is no JSON value")


def _check_values(meta: dict[str, Any], pipeline: Pipeline) -> None:
    for key, (holds, rule) in _RULES.items():
        value = meta.get(key)
        if value is not None and not holds(value):
            raise TraceError(f"metadata {key} is {_shown(value)}, it must be {rule}: correct it")
    owns = meta.get("owns")
    if owns is None:
        return
    if not isinstance(owns, list) or not owns or len(owns) != len(set(map(str, owns))):
        raise TraceError(
            f"metadata owns is {_shown(owns)}, it must be a list of different marks: correct it"
        )
    for mark in owns:
        if mark not in pipeline.marks:
            raise TraceError(
                f"metadata owns {_shown(mark)}, which is no mark of pipeline {pipeline.name!r}: "
                f"use {', '.join(pipeline.marks)}"
            )


def encode(pipeline: Pipeline, meta: dict[str, Any]) -> bytes:
    """Return the JSON text that stands in a file; `seal` finds its place by the order."""
    content = {"format": FORMAT, "seal": checksum.EMPTY, "pipeline": pipeline.to_dict()}
    content |= check_meta(meta, pipeline)
    return json.dumps(content, allow_nan=False, separators=(",", ":")).encode()


def decode(raw: bytes) -> tuple[Pipeline, dict[str, Any]]:
    """Return the pipeline and the rest of what `encode` has written.

    Raises
    ------
    TraceError
        No JSON object, another format, a pipeline that cannot be, a value that lies.
    """
    try:
        content = json.loads(raw, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise TraceError(
            f"its metadata 'latprof' is no JSON ({error}): take an undamaged copy of the file"
        ) from None
    if not isinstance(content, dict):
        raise TraceError("its metadata 'latprof' is no JSON object: take an undamaged copy")
    version = content.pop("format", None)
    if not _is_int(version) or version < 1:
        raise TraceError(
            f"its metadata has format {_shown(version)}, an integer of 1 or more is needed"
        )
    if version > FORMAT:
        raise TraceError(
            f"is of format {_shown(version)}, this latprof reads up to {FORMAT}: upgrade latprof"
        )
    try:
        pipeline = Pipeline.from_dict(content.pop("pipeline", None))
    except PipelineError as error:
        raise TraceError(f"its metadata has a pipeline that cannot be: {error}") from None
    content.pop("seal", None)
    _check_values(content, pipeline)
    return pipeline, content


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON value")


def _shown(value: object) -> str:
    """Write a value of a file shortly and without control characters."""
    try:
        text = escape(json.dumps(value, ensure_ascii=False, default=str))
    except (ValueError, RecursionError):  # an integer of thousands of digits
        return type(value).__name__
    return text if len(text) <= 40 else text[:37] + "..."
