"""Frames as Chrome trace events (JSON), for Perfetto, VizTracer and other viewers of such files.

A stage of a station is a slice; a hand-off, in which frames wait side by side, has asynchronous
slices, and so have whole frames. Arrows follow each frame from station to station. Times are in us
with three decimals, so that they are exact to the ns.
"""

import json
import os
import re
import secrets
from typing import Any

from latprof.export.slices import Drawing, DrawnFrame, Slice, draw
from latprof.io.atomic import write_file
from latprof.trace import Trace

__all__ = ["save"]

_PROCESS = 1
_MARK = f"us {secrets.token_hex(8)} "  # begins text that becomes a number; random, so in no name


def save(trace: Trace, path: str | os.PathLike[str], *, worst: int = 50) -> Drawing:
    """Write the slowest frames of a trace, and return what was drawn.

    Raises
    ------
    TraceError
        No frame has a start and an end, or the file cannot be written.
    ProfileError
        `worst` is not an integer from 1 on.
    """
    drawing = draw(trace, worst)
    events = [_named("process_name", 0, trace.pipeline.name)]
    events += [_named("thread_name", _thread(i), name) for i, name in enumerate(drawing.tracks)]
    for number, frame in enumerate(drawing.frames):
        events += _of_frame(number, frame)
    if drawing.in_flight is not None:
        name = drawing.in_flight.name
        for at, count in zip(
            drawing.in_flight.at_ns.tolist(), drawing.in_flight.counts.tolist(), strict=True
        ):
            events.append(_event("C", name, 0, at, args={"frames": count}))
    # numbers with three decimals are written as text first: a float would round them
    lines = re.sub(rf'"{_MARK}(-?\d+\.\d{{3}})"', r"\1", ",\n".join(map(json.dumps, events)))
    text = f'{{"displayTimeUnit":"ns","traceEvents":[\n{lines}\n]}}\n'
    with write_file(path) as file:
        file.write(text.encode())
    return drawing


def _of_frame(number: int, frame: DrawnFrame) -> list[dict[str, Any]]:
    """Return the events of a frame: its slices, and arrows between its slices of stations."""
    events = _side_by_side(frame.whole, frame, "frame")
    steps = [each for each in frame.stages if not each.overlaps]
    for each in frame.stages:
        if each.overlaps:
            events += _side_by_side(each, frame, each.name)
            continue
        event = _event("X", each.name, _thread(each.track), each.begin, args=frame.details)
        events.append(event | {"dur": _us(each.end - each.begin)})
    for i, each in enumerate(steps if len(steps) > 1 else ()):
        kind = "s" if i == 0 else "f" if i == len(steps) - 1 else "t"
        flow = _event(kind, "frame", _thread(each.track), each.begin)
        events.append(flow | {"cat": "flow", "id": number} | ({"bp": "e"} if kind == "f" else {}))
    return events


def _us(ns: int) -> str:
    sign, whole = ("-", -ns) if ns < 0 else ("", ns)
    return f"{_MARK}{sign}{whole // 1_000}.{whole % 1_000:03d}"


def _thread(track: int) -> int:
    """Return the number of a track in the file; 0 is the process."""
    return track + 1


def _event(kind: str, name: str, thread: int, at: int, **more: Any) -> dict[str, Any]:
    return {"ph": kind, "name": name, "pid": _PROCESS, "tid": thread, "ts": _us(at), **more}


def _named(what: str, thread: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": what, "pid": _PROCESS, "tid": thread, "args": {"name": name}}


def _side_by_side(each: Slice, frame: DrawnFrame, category: str) -> list[dict[str, Any]]:
    """Return an asynchronous slice: slices of several frames may overlap on its track."""
    thread = _thread(each.track)
    common = {"cat": category, "id": f"{thread}:{frame.frame_id}"}
    return [
        _event("b", each.name, thread, each.begin, args=frame.details) | common,
        _event("e", each.name, thread, each.end) | common,
    ]
