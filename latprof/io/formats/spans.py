"""Spans of distributed traces as frames: one trace is one frame, by its critical path.

The path is followed back from the end of the root. The child that finished last is on it, from its
end to its begin; within this child the same rule holds. Before its begin follows the sibling that
finished last before that time. Time that no child covers belongs to the parent (Kaldor et al.,
"Canopy", SOSP 2017; Zhang et al., "CRISP", USENIX ATC 2022). A stage is an operation, its length
the time of the operation on the path. The time of the root itself is `other`, so that stages +
other = the root's length.

Each span is visited in Python: the path depends on the span that was taken before.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from latprof.errors import TraceError
from latprof.frames import MISSING, Columns, Labels
from latprof.io.formats.columns import NUMBERED
from latprof.io.formats.stages import Frames, marks_of_stages, stages_pipeline, unique_names
from latprof.text import clip, counted, quoted
from latprof.units import STAMP_LIMIT, format_ns

__all__ = ["SpanRecord", "SpanTable", "frames_of_spans"]

_PLACE = re.compile(r" \([^()]*[/\\]([^()/\\]*)\)$")  # file and line after a function's name
_MOST_STAGES = 24  # operations with the most time; the time of others is part of `other`


@dataclass(slots=True)
class SpanRecord:
    """A span; `parent` is "" for a root, times are ns.

    `cut_begin` and `cut_end` are its begin and end, moved into those of its parent.
    """

    trace: str
    id: str
    parent: str
    name: str
    service: str
    begin: int
    end: int
    failed: bool = False
    children: "list[SpanRecord]" = field(default_factory=list)
    cut_begin: int = 0
    cut_end: int = 0

    @property
    def operation(self) -> tuple[str, str]:
        """Service and name: spans with equal ones are the same stage in all traces."""
        return self.service, self.name


@dataclass(slots=True)
class SpanTable:
    """The spans of a file.

    Attributes
    ----------
    resolution
        Smallest step of the times of the source, ns.
    frame
        What a frame is, for the report.
    services
        Whether operations of the same name in two services are two stages.
    zero_is_missing
        Whether a span that begins at 0 has no time; otherwise times may count from anything.
    notes
        What was odd, counted.
    after
        The longest time from the end of a root to the end of another span of its trace, ns.
    """

    resolution: int
    frame: str = "one trace"
    services: bool = True
    zero_is_missing: bool = True
    after: int = 0
    spans: list[SpanRecord] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)

    def add(self, span: SpanRecord) -> None:
        """Add a span, or count it if its times cannot be used."""
        if not (abs(span.begin) < STAMP_LIMIT and abs(span.end) < STAMP_LIMIT):
            self.notes["spans with a time that is out of range"] += 1
        elif span.end < span.begin:
            self.notes["spans that end before they begin"] += 1
        elif span.begin == 0 and self.zero_is_missing:
            self.notes["spans without a time"] += 1
        else:
            self.notes["spans of length 0"] += span.end == span.begin
            self.spans.append(span)


@dataclass(frozen=True, slots=True)
class _Frame:
    """The root of a trace, and (operation, begin, end) of the parts of its critical path."""

    root: SpanRecord
    parts: list[tuple[tuple[str, str], int, int]]


def frames_of_spans(table: SpanTable, chosen: Sequence[str] = ()) -> Frames:
    """Return pipeline, frames and metadata of the traces of a file.

    Parameters
    ----------
    table
        The spans in any order.
    chosen
        Operations that become stages, each with all that is below it; by default all operations
        on the critical path.

    Raises
    ------
    TraceError
        No trace has a root with a time, or a chosen operation does not occur.
    """
    if not table.spans:
        raise TraceError("the file must have spans with a begin and an end, got none")
    names = {span.name for span in table.spans}
    for name in chosen:
        if name not in names:
            known = ", ".join(clip(each, 40) for each in sorted(names)[:20])
            raise TraceError(f"spans must be operations of the file ({known}), got {quoted(name)}")
    frames = [frame for spans in _traces(table) for frame in _frame(spans, table, chosen)]
    frames.sort(key=lambda frame: (frame.root.begin, frame.root.trace))
    operations, others = _operations(frames, chosen)
    shown = _names(operations)
    pipeline = stages_pipeline("trace", shown)
    lengths = {operation: np.full(len(frames), MISSING) for operation in operations}
    for row, frame in enumerate(frames):
        times: Counter[tuple[str, str]] = Counter()
        for operation, begin, end in frame.parts:
            times[operation] += end - begin
        for operation, ns in times.items():
            if operation in lengths:
                lengths[operation][row] = ns
    start = np.array([frame.root.begin for frame in frames], np.int64)
    last = np.array([frame.root.end for frame in frames], np.int64)
    columns = Columns(
        np.arange(len(frames), dtype=np.uint64),
        marks_of_stages(pipeline, start, [lengths[operation] for operation in operations], last),
        source=Labels.encode(frame.root.service or None for frame in frames),
        tags={
            "trace_id": Labels.encode(frame.root.trace for frame in frames),
            "operation": Labels.encode(frame.root.name for frame in frames),
            "status": Labels.encode("error" if frame.root.failed else "ok" for frame in frames),
        },
        complete=frozenset(("start", "end")),
    )
    said = [
        f"{counted(len(table.spans), 'span')}; {table.frame} is one frame, and stages are "
        + ("the operations that were chosen" if chosen else "the operations on its critical path")
    ]
    if others:
        said.append(f"{counted(others, 'further operation')} with less time are part of other")
    if table.resolution > 1:
        said.append(f"times of the source are in steps of {format_ns(table.resolution)}")
    if table.after > table.resolution:
        said.append(
            f"spans go on for up to {format_ns(table.after)} after their root, which ends the frame"
        )
    said.append(NUMBERED)
    odd = {what: n for what, n in sorted(table.notes.items()) if n}
    return pipeline, columns, {"reading": said, "accounts": {"notes": odd}}


# -- traces -------------------------------------------------------------------------------------


def _traces(table: SpanTable) -> Iterator[list[SpanRecord]]:
    """Yield the spans of each trace, of spans with the same id only the first."""
    found: dict[str, list[SpanRecord]] = {}
    for span in table.spans:
        found.setdefault(span.trace, []).append(span)
    for spans in found.values():
        by_id: dict[str, SpanRecord] = {}
        for span in spans:
            if span.id and span.id in by_id:
                table.notes["spans with an id that another span has"] += 1
            else:
                by_id[span.id or f"(no id {len(by_id)})"] = span
        yield list(by_id.values())


def _frame(spans: list[SpanRecord], table: SpanTable, chosen: Sequence[str]) -> Iterator[_Frame]:
    """Yield the frame of a trace, unless its spans have no root."""
    notes = table.notes
    by_id = {span.id: span for span in spans}
    roots, orphans = [], []
    for span in spans:
        parent = by_id.get(span.parent) if span.parent else None
        if parent is not None and parent is not span:
            parent.children.append(span)
        elif span.parent and parent is None:
            notes["spans with a parent that is missing"] += 1
            orphans.append(span)
        else:
            roots.append(span)
    if not roots and orphans:
        notes["traces without their root: the longest span takes its place"] += 1
    root = max(roots or orphans, key=lambda span: span.end - span.begin, default=None)
    if root is None:
        notes["traces in which each span is below another"] += 1
        return
    root.cut_begin, root.cut_end = root.begin, root.end
    table.after = max(table.after, max(span.end for span in spans) - root.end)
    below = _cut_children(root, table)
    notes["spans that are not below the root of their trace"] += len(spans) - below
    parts = _critical_path(root, table.resolution, chosen)
    if not table.services:
        parts = [(("", name), begin, end) for (_, name), begin, end in parts]
    yield _Frame(root, parts)


def _cut_children(root: SpanRecord, table: SpanTable) -> int:
    """Set the cut times of all spans below `root`, and count those that exceed their parent.

    Return the number of spans, `root` included.
    """
    count, waiting = 0, [root]
    while waiting:
        parent = waiting.pop()
        count += 1
        for child in parent.children:
            begin = min(max(child.begin, parent.cut_begin), parent.cut_end)
            end = max(min(child.end, parent.cut_end), parent.cut_begin)
            child.cut_begin, child.cut_end = begin, max(begin, end)
            over = max(parent.begin - child.begin, child.end - parent.end, 0)
            if over > 0:
                table.notes["spans that are partly or fully outside of their parent"] += 1
                if child.service != parent.service and over > table.resolution:
                    table.notes[
                        "spans of another service that are outside of their parent: do its clocks "
                        "differ?"
                    ] += 1
        waiting += parent.children
    return count


def _critical_path(
    root: SpanRecord, resolution: int, chosen: Sequence[str]
) -> list[tuple[tuple[str, str], int, int]]:
    """Return (operation, begin, end) of the parts of the path, last first, without the root's.

    ::

        root   |-----------------------------|   children a, d, b; c is a child of b
        a      |--------|                        path: a, b, c, b, root
        d          |---|
        b               |-----------------|      d finished before a, which b waited for
        c                    |-----|
    """
    parts = []
    # a span, the time up to which its path is known, its children by their end, and its label
    Level = tuple[SpanRecord, int, list[SpanRecord], Any]
    root_label = ("", root.name) if root.name in chosen else None
    stack: list[Level] = [(root, root.cut_end, _by_end(root), root_label)]
    while stack:
        span, until, children, label = stack.pop()
        child = None
        while children:
            candidate = children.pop()
            # as times are rounded, it may end up to one step after the span that waited for it
            if candidate.cut_end <= until + resolution - 1 and candidate.cut_begin < until:
                child = candidate
                break
        if child is None:
            if label is not None and until > span.cut_begin:
                parts.append((label, span.cut_begin, until))
            continue
        end = min(child.cut_end, until)
        if label is not None and until > end:
            parts.append((label, end, until))
        stack.append((span, child.cut_begin, children, label))
        own = label
        if not chosen:
            own = child.operation
        elif child.name in chosen:
            own = ("", child.name)
        stack.append((child, end, _by_end(child), own))
    return parts


def _by_end(span: SpanRecord) -> list[SpanRecord]:
    """Return the children that take time, the last-finishing one last."""
    longer = [child for child in span.children if child.cut_end > child.cut_begin]
    return sorted(longer, key=lambda child: (child.cut_end, child.cut_begin, child.name))


# -- stages -------------------------------------------------------------------------------------


def _operations(
    frames: Sequence[_Frame], chosen: Sequence[str]
) -> tuple[list[tuple[str, str]], int]:
    """Return the operations that become stages, in order, and the number of others."""
    if chosen:
        return [("", name) for name in dict.fromkeys(chosen)], 0
    times: Counter[tuple[str, str]] = Counter()
    places: dict[tuple[str, str], list[float]] = {}
    for frame in frames:
        length = max(frame.root.end - frame.root.begin, 1)
        for operation, begin, end in frame.parts:
            times[operation] += end - begin
            places.setdefault(operation, []).append((begin - frame.root.begin) / length)
    kept = [operation for operation, _ in times.most_common(_MOST_STAGES)]
    kept.sort(key=lambda operation: (float(np.mean(places[operation])), operation))
    return kept, len(times) - len(kept)


def _names(operations: Sequence[tuple[str, str]]) -> list[str]:
    """Return a name for each stage: the operation, with its service if several have it.

    VizTracer names functions "run (/usr/lib/python3/threading.py:999)": the place is left out,
    unless several places have the name; then it is "run threading.py:999".

    Examples
    --------
    >>> _names([("", "run (/a/b.py:9)"), ("", "wait (/a/b.py:7)"), ("", "run (/a/c.py:1)")])
    ['run_b_py_9', 'wait', 'run_c_py_1']
    >>> _names([("cart", "get"), ("shop", "get")])
    ['cart_get', 'shop_get']
    """
    short = [(service, _PLACE.sub("", name) or name) for service, name in operations]
    same = Counter(short)
    named = [
        known if same[known] == 1 else (known[0], _PLACE.sub(r" \1", name))
        for known, (_, name) in zip(short, operations, strict=True)
    ]
    seen = Counter(name for _, name in named)
    return unique_names(
        [
            name if seen[name] == 1 or not service else f"{service}_{name}"
            for service, name in named
        ],
        (),
    )
