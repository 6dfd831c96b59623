"""Reads OTLP, Jaeger and Zipkin JSON: the spans of distributed traces."""

import os
from collections.abc import Iterator
from typing import Any

from latprof.io.atomic import reading
from latprof.io.formats.files import opened
from latprof.io.formats.json_values import JsonValues
from latprof.io.formats.spans import SpanRecord, SpanTable

__all__ = ["is_jaeger", "is_otlp", "is_zipkin", "read_jaeger", "read_otlp", "read_zipkin"]

StrPath = str | os.PathLike[str]

_US = 1_000  # ns


def is_otlp(head: bytes) -> bool:
    """Recognize the OTLP JSON of OpenTelemetry, also as lines."""
    return b'"resourceSpans"' in head


def is_jaeger(head: bytes) -> bool:
    """Recognize what Jaeger's API and user interface save."""
    return b'"traceID"' in head and b'"spanID"' in head


def is_zipkin(head: bytes) -> bool:
    """Recognize Zipkin's JSON, version 2."""
    return b'"traceId"' in head and b'"id"' in head and b'"timestamp"' in head


def read_otlp(path: StrPath) -> SpanTable:
    """Return the spans of OTLP JSON; ids in hex or base64 are compared as they are written.

    Raises
    ------
    TraceError
        The file is damaged, or not OTLP JSON.
    """
    table = SpanTable(1)
    with reading(path), opened(path) as stream:
        for key, group in JsonValues(stream, ("resourceSpans",)):
            if key == "resourceSpans" and isinstance(group, dict):
                service = _service(group.get("resource"))
                for span in _otlp_spans(group):
                    _add_otlp(table, span, service)
    return table


def _otlp_spans(group: dict[str, Any]) -> Iterator[Any]:
    for key in ("scopeSpans", "instrumentationLibrarySpans"):
        for scope in _list(group.get(key)):
            if isinstance(scope, dict):
                yield from _list(scope.get("spans"))


def _service(resource: Any) -> str:
    for attribute in _list(resource.get("attributes")) if isinstance(resource, dict) else ():
        if isinstance(attribute, dict) and attribute.get("key") == "service.name":
            value = attribute.get("value")
            return _text(value.get("stringValue")) if isinstance(value, dict) else ""
    return ""


def _add_otlp(table: SpanTable, span: Any, service: str) -> None:
    if not isinstance(span, dict):
        table.notes["spans that are not objects"] += 1
        return
    status = span.get("status")
    code = status.get("code") if isinstance(status, dict) else None
    begin, end = _integer(span.get("startTimeUnixNano")), _integer(span.get("endTimeUnixNano"))
    if begin is None or end is None:
        table.notes["spans without a time"] += 1
        return
    parent = _text(span.get("parentSpanId"))
    table.add(
        SpanRecord(
            _text(span.get("traceId")),
            _text(span.get("spanId")),
            "" if not parent.strip("0") else parent,  # a root may have a parent of zeros
            _text(span.get("name")),
            service,
            begin,
            end,
            code in (2, "STATUS_CODE_ERROR"),
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
    with reading(path), opened(path) as stream:
        kept: dict[str, Any] = {}
        for key, value in JsonValues(stream, ("data",)):
            if key == "data" and isinstance(value, dict):
                _add_jaeger(table, value)
            elif key:
                kept[key] = value
        _add_jaeger(table, kept)  # a single trace without the key "data"
    return table


def _add_jaeger(table: SpanTable, trace: dict[str, Any]) -> None:
    processes = trace.get("processes")
    services = {
        key: _text(process.get("serviceName"))
        for key, process in (processes.items() if isinstance(processes, dict) else ())
        if isinstance(process, dict)
    }
    for span in _list(trace.get("spans")):
        begin = _integer(span.get("startTime")) if isinstance(span, dict) else None
        length = _integer(span.get("duration")) if isinstance(span, dict) else None
        if begin is None or length is None:
            table.notes["spans without a time"] += 1
            continue
        own = span.get("process")
        service = services.get(_text(span.get("processID")), "")
        if not service and isinstance(own, dict):
            service = _text(own.get("serviceName"))
        failed = any(
            isinstance(tag, dict)
            and tag.get("key") == "error"
            and tag.get("value") in (True, "true")
            for tag in _list(span.get("tags"))
        )
        table.add(
            SpanRecord(
                _text(span.get("traceID")),
                _text(span.get("spanID")),
                _jaeger_parent(span),
                _text(span.get("operationName")),
                service,
                begin * _US,
                (begin + length) * _US,
                failed,
            )
        )


def _jaeger_parent(span: dict[str, Any]) -> str:
    known = {
        reference.get("refType"): _text(reference.get("spanID"))
        for reference in reversed(_list(span.get("references")))
        if isinstance(reference, dict)
        and isinstance(reference.get("refType"), str)
        and reference.get("traceID") in (None, span.get("traceID"))
    }
    return (
        known.get("CHILD_OF") or known.get("FOLLOWS_FROM") or _text(span.get("parentSpanID"))
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
    with reading(path), opened(path) as stream:
        for _, value in JsonValues(stream):
            for span in value if isinstance(value, list) else [value]:  # traces may be grouped
                begin = _integer(span.get("timestamp")) if isinstance(span, dict) else None
                length = _integer(span.get("duration")) if isinstance(span, dict) else None
                if begin is None or length is None:
                    table.notes["spans without a time"] += 1
                    continue
                endpoint, tags = span.get("localEndpoint"), span.get("tags")
                record = SpanRecord(
                    _text(span.get("traceId")),
                    _text(span.get("id")),
                    _text(span.get("parentId")),
                    _text(span.get("name")),
                    _text(endpoint.get("serviceName")) if isinstance(endpoint, dict) else "",
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


def _integer(value: Any) -> int | None:
    """Return an integer that is written as a number or as text."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, str) and len(value) < 30:
        try:
            return int(value)
        except ValueError:
            return None
    return None


def _text(value: Any) -> str:
    return value[:200] if isinstance(value, str) else "" if value is None else str(value)[:200]


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
