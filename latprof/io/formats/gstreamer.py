"""Reads what GStreamer's latency tracer logs."""

import re
from collections import Counter

import numpy as np

from latprof.arrays import Ints
from latprof.errors import TraceError
from latprof.frames import Labels
from latprof.io.formats.files import lines_of
from latprof.io.formats.logs import Frames, frames_of_lengths
from latprof.io.paths import StrPath
from latprof.text import clip, counted
from latprof.units import STAMP_LIMIT

__all__ = ["read_gstreamer"]

_RECORD = re.compile(r"(?<![\w-])(latency|element-latency), (.*)")
_FIELD = re.compile(r"([\w-]+)=\((\w+)\)([^,;]*)")


def read_gstreamer(path: StrPath) -> Frames:
    """Return buffers that went from a source to a sink, with the time in each element if it fits.

    The tracer gives no id to a buffer. The records of an element are those of the buffers in
    order, if there are as many; those of other elements are left out, and reported.

    Raises
    ------
    TraceError
        The log has no record of the tracer.
    """
    ends: list[int] = []
    lengths: list[int] = []
    routes: list[str] = []
    elements: dict[str, list[int]] = {}
    notes: Counter[str] = Counter()
    for line in lines_of(path):
        record = _RECORD.search(line)
        if record is None or "=(" not in record[2] or "(structure)" in record[2]:
            continue
        fields = {name: value for name, _, value in _FIELD.findall(record[2])}
        time, at = fields.get("time", ""), fields.get("ts", "")
        if not (time.isdecimal() and at.isdecimal() and max(len(time), len(at)) < 19):
            notes["records that cannot be read"] += 1
        elif record[1] == "latency":
            ends.append(int(at))
            lengths.append(int(time))
            routes.append(f"{fields.get('src-element', '')} to {fields.get('sink-element', '')}")
        else:
            elements.setdefault(fields.get("element", "?")[:60], []).append(int(time))
    if any(value >= STAMP_LIMIT for value in (*ends, *lengths)):
        raise TraceError(
            f"times must be below 2**62 ns, got {max(*ends, *lengths)}; take an intact log"
        )
    if not ends:
        return _only_elements(elements, dict(notes))
    joined, left = {}, []
    for name, times in elements.items():
        if len(times) == len(ends) and len(set(routes)) == 1:
            joined[name] = np.array(times, np.int64)
        else:
            left.append(f"{clip(name, 30)} {len(times):,}")
    said = ["element-latency is joined by order, as buffers have no ids"] if joined else []
    if left:
        shown = ", ".join(left[:8])
        said.append(f"not joined with {counted(len(ends), 'buffer')}: records of {shown}")
    end, length = np.array(ends, np.int64), np.array(lengths, np.int64)
    return frames_of_lengths(
        "gstreamer",
        end - length,
        joined,
        length,
        said=said,
        notes=notes,
        source=Labels.encode(routes),
    )


def _only_elements(elements: dict[str, list[int]], notes: dict[str, int]) -> Frames:
    """Return the times in elements as frames: nothing says which of them belong together."""
    if not elements:
        raise TraceError("the log must have records of the latency tracer, got none")
    lengths: list[Ints] = [np.array(times, np.int64) for times in elements.values()]
    names = [np.full(len(times), i) for i, times in enumerate(lengths)]
    codes = np.concatenate(names).astype(np.int32)
    return frames_of_lengths(
        "gstreamer",
        None,
        {},
        np.concatenate(lengths),
        said=["no record goes from source to sink: a frame is a buffer in one element"],
        notes=notes,
        source=Labels(codes, tuple(elements)),
    )
