"""Reads OTLP, Jaeger and Zipkin JSON: the spans of distributed traces."""

from typing import Any

from latprof.io.formats.json_values import JsonValues, inside, integer_of, list_of, text_of
from latprof.io.formats.spans import SpanRecord, SpanTable
from latprof.io.paths import StrPath

__all__ = ["read_jaeger", "read_otlp", "read_zipkin"]

_US = 1_000  # ns
_WITHOUT_TIME = "spans without a time"


def read_otlp(path: StrPath) -> SpanTable:
    """Return the spans of OTLP JSON; ids in hex or base64 are compared as they are written.

    Raises
    ------
    TraceError
        The file is damaged, or not OTLP JSON.
    """
    table = SpanTable(1)
    for key, group in JsonValues(path, ("resourceSpans",)):
        if key != "resourceSpans":
            continue
        service = ""
        for attribute in list_of(inside(group, "resource", "attributes")):
            if inside(attribute, "key") == "service.name":
                service = text_of(inside(attribute, "value", "stringValue"))
                break
        for scopes in ("scopeSpans", "instrumentationLibrarySpans"):
            for scope in list_of(inside(group, scopes)):
                for span in list_of(inside(scope, "spans")):
                    _add_otlp(table, span, service)
    return table


def _add_otlp(table: SpanTable, span: Any, service: str) -> None:
    if not isinstance(span, dict):
        table.notes["spans that are not objects"] += 1
        return
    begin, end = integer_of(span.get("startTimeUnixNano")), integer_of(span.get("endTimeUnixNano"))
    if begin is None or end is None:
        table.notes[_WITHOUT_TIME] += 1
        return
    parent = text_of(span.get("parentSpanId"))
    table.add(
        SpanRecord(
            text_of(span.get("traceId")),
            text_of(span.get("spanId")),
            "" if not parent.strip("0") else parent,  # a root may have a parent of zeros
            text_of(span.get("name")),
            service,
            begin,
            end,
            inside(span, "status", "code") in (2, "STATUS_CODE_ERROR"),
        )
    )


def read_jaeger(path: StrPath) -> SpanTable:
    """Return the spans of Jaeger JSON; times are in us.

    Raises
    ------
    TraceError
        The file is damaged, or not JSON.
    """
    table = SpanTable(_US)
    kept: dict[str, Any] = {}
    for key, value in JsonValues(path, ("data",)):
        if key == "data" and isinstance(value, dict):
            _add_jaeger(table, value)
        elif key:
            kept[key] = value
    _add_jaeger(table, kept)  # a single trace without the key "data"
    return table


def _add_jaeger(table: SpanTable, trace: dict[str, Any]) -> None:
    processes = trace.get("processes")
    for span in list_of(trace.get("spans")):
        begin, length = integer_of(inside(span, "startTime")), integer_of(inside(span, "duration"))
        if begin is None or length is None:
            table.notes[_WITHOUT_TIME] += 1
            continue
        process = inside(processes, text_of(span.get("processID")))
        service = inside(process, "serviceName") or inside(span, "process", "serviceName")
        failed = any(
            inside(tag, "key") == "error" and inside(tag, "value") in (True, "true")
            for tag in list_of(span.get("tags"))
        )
        table.add(
            SpanRecord(
                text_of(span.get("traceID")),
                text_of(span.get("spanID")),
                _jaeger_parent(span),
                text_of(span.get("operationName")),
                text_of(service),
                begin * _US,
                (begin + length) * _US,
                failed,
            )
        )


def _jaeger_parent(span: dict[str, Any]) -> str:
    known = {
        reference.get("refType"): text_of(reference.get("spanID"))
        for reference in reversed(list_of(span.get("references")))
        if isinstance(inside(reference, "refType"), str)
        and reference.get("traceID") in (None, span.get("traceID"))
    }
    return (
        known.get("CHILD_OF") or known.get("FOLLOWS_FROM") or text_of(span.get("parentSpanID"))
    ).removeprefix("0" * 16)


def read_zipkin(path: StrPath) -> SpanTable:
    """Return the spans of Zipkin JSON; times are in us.

    The server's half of a span that client and server share becomes a child of the client's.

    Raises
    ------
    TraceError
        The file is damaged, or not JSON.
    """
    table = SpanTable(_US)
    found: list[tuple[SpanRecord, bool]] = []
    for _, value in JsonValues(path):
        for span in value if isinstance(value, list) else [value]:  # traces may be grouped
            begin = integer_of(inside(span, "timestamp"))
            length = integer_of(inside(span, "duration"))
            if begin is None or length is None:
                table.notes[_WITHOUT_TIME] += 1
                continue
            tags = span.get("tags")
            record = SpanRecord(
                text_of(span.get("traceId")),
                text_of(span.get("id")),
                text_of(span.get("parentId")),
                text_of(span.get("name")),
                text_of(inside(span, "localEndpoint", "serviceName")),
                begin * _US,
                (begin + length) * _US,
                isinstance(tags, dict) and "error" in tags,
            )
            found.append((record, span.get("shared") is True))
    halves = {(span.trace, span.id) for span, shared in found if not shared}
    joined = {(s.trace, s.id) for s, shared in found if shared and (s.trace, s.id) in halves}
    for span, shared in found:
        if shared and (span.trace, span.id) in joined:
            span.id, span.parent = f"{span.id} (server)", span.id
        elif (span.trace, span.parent) in joined:
            span.parent = f"{span.parent} (server)"
        table.add(span)
    return table
