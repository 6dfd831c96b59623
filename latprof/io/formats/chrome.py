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

_Half = tuple[int, str, str]  # time in ns, phase and name of an event that begins or ends a slice


def read_chrome(path: StrPath) -> SpanTable:
    """Return the slices of a file of Chrome trace events; an array without its end is read.

    Raises
    ------
    TraceError
        The file is not JSON, or damaged before its end.
    """
    table = SpanTable(1, "a slice at the top of a thread", services=False, zero_is_missing=False)
    slices: dict[tuple[str, str], list[SpanRecord]] = {}
    halves: dict[tuple[str, str], list[_Half]] = {}
    grouped: dict[tuple[str, str, str], list[_Half]] = {}
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
            elif kind in ("B", "E"):
                halves.setdefault(track, []).append((begin, kind, text_of(event.get("name"))))
            elif end is None:
                table.notes["events without a duration"] += 1
            else:
                span = SpanRecord("", "", "", text_of(event.get("name")), "", begin, end)
                slices.setdefault(track, []).append(span)
    if values.cut:
        table.notes["the file ends before its closing bracket"] += 1
    for track, events in halves.items():
        slices.setdefault(track, []).extend(_paired(events, table, by_name=False))
    for group, events in grouped.items():
        slices[group[0], " ".join(group[1:])] = _paired(events, table, by_name=True)
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
    # the end is rounded, not the duration: nested slices stay nested
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


def _paired(events: Iterable[_Half], table: SpanTable, *, by_name: bool) -> list[SpanRecord]:
    """Return the slices of events that begin or end one, in any order.

    An end is that of the slice that began last, `by_name` of those of its name.
    """
    found = []
    waiting: dict[str, list[SpanRecord]] = {}
    for at, kind, name in sorted(events, key=lambda each: each[0]):
        begun = waiting.setdefault(name if by_name else "", [])
        if kind in ("b", "B"):
            found.append(SpanRecord("", "", "", name, "", at, at))
            begun.append(found[-1])
        elif begun:
            begun.pop().end = at
        else:
            table.notes[_ENDS_BEFORE] += 1
    unfinished = {id(span) for begun in waiting.values() for span in begun}
    table.notes[_NO_END] += len(unfinished)
    return [span for span in found if id(span) not in unfinished]


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
