"""Writes frames as Chrome trace events, for Perfetto and other viewers of such files."""

import json
import os
import re
import secrets
from typing import Any

import numpy as np

from latprof.errors import TraceError
from latprof.frames import MISSING, Columns, latencies
from latprof.io.atomic import write_file
from latprof.pipeline import Pipeline

__all__ = ["write_chrome"]

_PROCESS = 1
_MARK = f"us {secrets.token_hex(8)} "  # begins text that becomes a number; no name has it
_FRAMES_TRACK = 1  # of whole frames; stages have the tracks after it


def write_chrome(
    path: str | os.PathLike[str], pipeline: Pipeline, columns: Columns, *, worst: int = 50
) -> int:
    """Write the slowest frames, and return how many they are.

    A stage is a slice on the track of its station; a hand-off, in which frames wait side by side,
    has asynchronous slices. Arrows follow each frame from stage to stage. Times are in us with
    three decimals, so that they are exact to the ns.

    Raises
    ------
    TraceError
        No frame has a start and an end, or the file cannot be written.
    """
    total = latencies(pipeline, columns, "end_to_end")
    known = np.flatnonzero(total != MISSING)
    if not len(known):
        raise TraceError("frames must have a start and an end to be drawn, got none that has both")
    rows = np.sort(known[np.argsort(-total[known], kind="stable")[:worst]])
    tracks = dict.fromkeys(stage.station or stage.name for stage in pipeline.stages)
    track_of = {name: _FRAMES_TRACK + 1 + i for i, name in enumerate(tracks)}
    events = [_named("process_name", 0, pipeline.name), _named("thread_name", 1, "frames")]
    events += [_named("thread_name", track, name) for name, track in track_of.items()]
    chosen = columns.take(rows)
    sources = None if chosen.source is None else chosen.source.to_numpy().tolist()
    marks = {mark: ns.tolist() for mark, ns in chosen.marks.items()}
    for row, frame in enumerate(chosen.frame_id.tolist()):
        args = {"frame": str(frame)} | ({} if sources is None else {"source": sources[row]})
        name = f"frame {frame}"
        events += _side_by_side(name, 1, frame, marks["start"][row], marks["end"][row], args)
        steps = []
        for stage in pipeline.stages:
            begin, end = marks[stage.begin][row], marks[stage.end][row]
            if MISSING in (begin, end) or end < begin:
                continue
            track = track_of[stage.station or stage.name]
            if stage.station is None:
                events += _side_by_side(stage.name, track, frame, begin, end, args)
            else:
                events.append(
                    _event("X", stage.name, track, begin, args=args) | {"dur": _us(end - begin)}
                )
                steps.append((track, begin))
        for i, (track, begin) in enumerate(steps if len(steps) > 1 else ()):
            kind = "s" if i == 0 else "f" if i == len(steps) - 1 else "t"
            flow = _event(kind, "frame", track, begin) | {"cat": "flow", "id": row}
            events.append(flow | ({"bp": "e"} if kind == "f" else {}))
    # numbers with three decimals are written as text first: a float would round them
    lines = re.sub(rf'"{_MARK}(-?\d+\.\d{{3}})"', r"\1", ",\n".join(map(json.dumps, events)))
    text = f'{{"displayTimeUnit":"ns","traceEvents":[\n{lines}\n]}}\n'
    with write_file(path) as file:
        file.write(text.encode())
    return len(rows)


def _us(ns: int) -> str:
    sign, whole = ("-", -ns) if ns < 0 else ("", ns)
    return f"{_MARK}{sign}{whole // 1_000}.{whole % 1_000:03d}"


def _event(kind: str, name: str, track: int, at: int, **more: Any) -> dict[str, Any]:
    return {"ph": kind, "name": name, "pid": _PROCESS, "tid": track, "ts": _us(at), **more}


def _named(what: str, track: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": what, "pid": _PROCESS, "tid": track, "args": {"name": name}}


def _side_by_side(
    name: str, track: int, frame: int, begin: int, end: int, args: dict[str, Any]
) -> list[dict[str, Any]]:
    """Return an asynchronous slice: slices of several frames may overlap on its track."""
    common = {"cat": name if track > 1 else "frame", "id": f"{track}:{frame}"}
    return [
        _event("b", name, track, begin, args=args) | common,
        _event("e", name, track, end) | common,
    ]
