"""Reads Chrome trace events, as Perfetto, VizTracer, Kineto and DevTools save them.

Each slice at the top of a thread is a frame, and so is each group of asynchronous events. Times
are in us, often with decimals; they are taken from their text, so that they are exact to the ns.
"""

from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from typing import Any

from latprof.io.formats.json_values import JsonValues, inside, text_of
from latprof.io.formats.spans import SpanRecord, SpanTable
from latprof.io.paths import StrPath
from latprof.units import STAMP_LIMIT

__all__ = ["read_chrome"]

_ENDS_BEFORE = "events that end without a begin"
_NO_END = "events that begin without an end"


def read_chrome(path: StrPath) -> SpanTable:
    """Return the slices of a file of Chrome trace events; an array without its end is read.

    Raises
    ------
    TraceError
        The file is not JSON, or damaged before its end.
    """
    table = SpanTable(1, "a slice at the top of a thread", services=False)
    slices: dict[tuple[str, str], list[SpanRecord]] = {}
    open_slices: dict[tuple[str, str], list[SpanRecord]] = {}
    grouped: dict[tuple[str, str, str], list[tuple[int, str, str]]] = {}
    names: dict[tuple[str, str], str] = {}
    base = 0
    values = JsonValues(path, ("traceEvents",), may_be_cut=True)
    for key, event in values:
        if key == "baseTimeNanoseconds" and isinstance(event, int):
            base = event if abs(event) < STAMP_LIMIT else 0
        if key not in ("", "traceEvents"):
            continue
        if not isinstance(event, dict):
            table.notes["events that are not objects"] += 1
            continue
        kind, track = event.get("ph"), (text_of(event.get("pid")), text_of(event.get("tid")))
        if kind == "M" and event.get("name") == "thread_name":
            if isinstance(event.get("args"), dict):
                names[track] = text_of(inside(event, "args", "name"))
        elif kind in ("X", "B", "E", "b", "e"):
            begin, end = _times(event)
            if begin is None:
                table.notes["events without a time"] += 1
            elif kind in ("b", "e"):
                group = (track[0], text_of(event.get("cat")), _id(event))
                grouped.setdefault(group, []).append((begin, kind, text_of(event.get("name"))))
            elif kind == "E":
                waiting = open_slices.get(track)
                if waiting:
                    waiting.pop().end = begin
                else:
                    table.notes[_ENDS_BEFORE] += 1
            elif kind == "X" and end is None:
                table.notes["events without a duration"] += 1
            else:
                name = text_of(event.get("name"))
                span = SpanRecord("", "", "", name, "", begin, begin if end is None else end)
                slices.setdefault(track, []).append(span)
                if kind == "B":
                    open_slices.setdefault(track, []).append(span)
    if values.cut:
        table.notes["the file ends before its closing bracket"] += 1
    for track, waiting in open_slices.items():
        table.notes[_NO_END] += len(waiting)
        unfinished = {id(span) for span in waiting}
        slices[track] = [span for span in slices[track] if id(span) not in unfinished]
    for group, events in grouped.items():
        slices[group[0], " ".join(group[1:])] = _paired(events, table)
    for track, found in slices.items():
        for span in found:
            span.begin, span.end = span.begin + base, span.end + base
        _nest(found, names.get(track) or track[1] or track[0], " ".join(track), table)
    return table


def _times(event: dict[str, Any]) -> tuple[int | None, int | None]:
    """Return begin and end of an event in ns, or None for what it does not have."""
    begin, length = event.get("ts"), event.get("dur")
    if type(begin) is int and (length is None or type(length) is int):
        if abs(begin) >= STAMP_LIMIT or abs(length or 0) >= STAMP_LIMIT:
            return None, None
        return begin * 1_000, None if length is None else (begin + length) * 1_000
    start = _decimal(begin)
    if start is None:
        return None, None
    duration = _decimal(length)
    # the end is rounded, not the duration: what is nested stays nested
    return _rounded(start), None if duration is None else _rounded(start + duration)


def _decimal(value: Any) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    try:
        found = Decimal(value)
    except (InvalidOperation, ValueError):
        return None
    return found if found.is_finite() and abs(found) < STAMP_LIMIT else None


def _rounded(us: Decimal) -> int:
    return int((us * 1_000).to_integral_value())


def _paired(events: Iterable[tuple[int, str, str]], table: SpanTable) -> list[SpanRecord]:
    """Return the slices of asynchronous events, each ended by the next end of its name."""
    found = []
    waiting: dict[str, list[SpanRecord]] = {}
    for at, kind, name in sorted(events, key=lambda each: each[0]):
        if kind == "b":
            waiting.setdefault(name, []).append(SpanRecord("", "", "", name, "", at, at))
        elif waiting.get(name):
            span = waiting[name].pop()
            span.end = at
            found.append(span)
        else:
            table.notes[_ENDS_BEFORE] += 1
    table.notes[_NO_END] += sum(map(len, waiting.values()))
    return found


def _nest(spans: list[SpanRecord], service: str, track: str, table: SpanTable) -> None:
    """Add the slices of a track; one that begins within another is its child."""
    spans.sort(key=lambda span: (span.begin, -span.end))
    above: list[SpanRecord] = []
    for number, span in enumerate(spans):
        while above and above[-1].end <= span.begin and above[-1].end < span.end:
            above.pop()
        span.id, span.service = f"{track} {number}", service
        if above:
            span.parent, span.trace = above[-1].id, above[0].trace
        else:
            span.trace = span.id
        above.append(span)
        table.add(span)


def _id(event: dict[str, Any]) -> str:
    own = event.get("id2")
    if isinstance(own, dict):
        return text_of(own.get("local") or own.get("global"))
    return text_of(event.get("id"))
