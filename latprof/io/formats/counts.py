"""Reads histograms in text: Prometheus, cyclictest, rtla, and tables of edges and counts."""

import json
import os
import re
from collections.abc import Iterable, Iterator

from latprof.errors import TraceError
from latprof.io.atomic import reading
from latprof.io.formats.bins import Binned, BinnedFile
from latprof.io.formats.columns import UNITS
from latprof.io.formats.files import opened
from latprof.io.formats.lines import lines_of
from latprof.text import clip, quoted
from latprof.units import STAMP_LIMIT

__all__ = [
    "is_cyclictest",
    "is_edges",
    "is_prometheus",
    "is_rtla",
    "read_cyclictest",
    "read_edges",
    "read_prometheus",
    "read_rtla",
]

StrPath = str | os.PathLike[str]

_US = 1_000  # ns
_LARGEST_JSON = 1 << 24  # bytes
_MOST_PARTS = 1_000

_SAMPLE = re.compile(r"([a-zA-Z_:][\w:]*)_(bucket|sum|count)\s*(?:\{(.*)\})?\s+(\S+)(?:\s+\S+)*")
_LABEL = re.compile(r'\s*(\w+)\s*=\s*"((?:[^"\\]|\\.)*)"\s*,?')
_EDGES = re.compile(
    rb"\s*(?:le|upper|upper_edge|edge|bucket)(?:_?(s|ms|us|ns))?\s*[,;\t]\s*(?:count|frames|n)\s*\r?\n"
)


def is_prometheus(head: bytes) -> bool:
    """Recognize a scrape with the buckets of a histogram."""
    return re.search(rb"^[a-zA-Z_:][\w:]*_bucket\s*\{[^}\n]*le=", head, re.MULTILINE) is not None


def is_cyclictest(head: bytes) -> bool:
    """Recognize the histogram of cyclictest, as text or JSON."""
    text = b"# Histogram" in head and b"# Total:" in head + b"# Total:"
    return text or (b'"cyclictest' in head and b'"histogram"' in head)


def is_rtla(head: bytes) -> bool:
    """Recognize the histograms of rtla timerlat and osnoise."""
    return b"# RTLA " in head and b"histogram" in head


def is_edges(head: bytes) -> bool:
    """Recognize a table with upper edges, named le or edge, and counts."""
    return _EDGES.match(head.removeprefix(b"\xef\xbb\xbf")) is not None


def read_prometheus(
    path: StrPath, unit: str | None = None, metric: str | None = None
) -> BinnedFile:
    """Return the histogram of a metric for each set of its labels.

    Raises
    ------
    TraceError
        There are several metrics and none was chosen, or the buckets are damaged.
    """
    buckets: dict[str, dict[str, dict[float, int]]] = {}
    sums: dict[tuple[str, str], float] = {}
    with reading(path), opened(path) as stream:
        for line in lines_of(stream):
            sample = _SAMPLE.fullmatch(line.strip()) if not line.startswith("#") else None
            if sample is None:
                continue
            name, what, text, value = sample.groups()
            labels = dict(_LABEL.findall(text or ""))
            edge = labels.pop("le", None)
            group = ", ".join(f"{key}={label}" for key, label in labels.items())
            number = _number(value)
            if number is None or len(buckets.get(name, ())) > _MOST_PARTS:
                raise TraceError(f"values of buckets must be numbers, got {quoted(line, 60)}")
            if what == "sum":
                sums[name, group] = number
            elif what == "bucket" and edge is not None:
                upper = _number(edge)
                if upper is None or number < 0 or number != int(number):
                    raise TraceError(
                        f"buckets must have an edge and a count, got {quoted(line, 60)}"
                    )
                buckets.setdefault(name, {}).setdefault(group, {})[upper] = int(number)
    if metric is None and len(buckets) > 1:
        shown = ", ".join(clip(name, 80) for name in list(buckets)[:20])
        raise TraceError(
            f"one of the {len(buckets)} histograms must be chosen ({shown}); for example --spans "
            f"{clip(next(iter(buckets)), 80)}"
        )
    name = metric if metric is not None else next(iter(buckets), "")
    if name not in buckets:
        raise TraceError(f"the histogram must be one of {', '.join(buckets)}, got {quoted(name)}")
    found = re.search(r"_(seconds|milliseconds|microseconds|nanoseconds|ms|us|ns)$", name)
    words = {"seconds": "s", "milliseconds": "ms", "microseconds": "us", "nanoseconds": "ns"}
    known = unit or (words.get(found[1], found[1]) if found else "s")
    how = "as given" if unit else "from its name" if found else "as Prometheus advises"
    file = BinnedFile("histogram", "labels" if len(buckets[name]) > 1 else None)
    file.reading = [f"buckets of {clip(name, 80)}, taken as {known}, {how}"]
    for group, edges in buckets[name].items():
        total = sums.get((name, group))
        file.parts[group or "(no labels)"] = _part(
            ((edge, count) for edge, count in sorted(edges.items())), UNITS[known], total
        )
    return file


def _part(cumulative: Iterable[tuple[float, int]], scale: int, total: float | None) -> Binned:
    """Return a histogram of counts up to each edge; the last edge may be infinite."""
    part, before = Binned(), 0
    for edge, upto in cumulative:
        if upto < before:
            raise TraceError("counts of buckets must grow with their edges; take an intact copy")
        if upto >= 2**63 or (edge != float("inf") and not 0 <= edge * scale < STAMP_LIMIT):
            raise TraceError("edges and counts must fit 2**62 ns and 63 bits")
        if edge == float("inf"):
            part.above = upto - before
        else:
            part.upper.append(round(edge * scale))
            part.counts.append(upto - before)
        before = upto
    if total is not None and 0 <= total * scale < 2**100:
        part.total = round(total * scale)
    return part


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return None if value != value else value


# -- cyclictest and rtla ------------------------------------------------------------------------


def read_cyclictest(path: StrPath, unit: str | None = None) -> BinnedFile:
    """Return the histogram of each thread of cyclictest; a bin is 1 us wide.

    Raises
    ------
    TraceError
        The file is damaged.
    """
    file = BinnedFile("cyclictest", "thread")
    with reading(path), opened(path) as stream:
        start = stream.read(1 << 16)
        if start.lstrip().startswith(b"{"):
            text = start + stream.read(_LARGEST_JSON)
            _cyclictest_json(text, file)
        else:
            rows = _lines_after(start, lines_of(stream))
            overflows = _counted_rows(rows, file, "thread ")
            for part, above in zip(file.parts.values(), overflows, strict=False):
                part.above = above
    return _checked(file)


def _lines_after(start: bytes, rest: Iterator[str]) -> Iterator[str]:
    *whole, last = start.decode("utf-8", "replace").split("\n")
    yield from whole
    yield last + next(rest, "")
    yield from rest


def _cyclictest_json(text: bytes, file: BinnedFile) -> None:
    try:
        content = json.loads(text)
        threads = content["thread"]
        in_ns = content.get("resolution_in_ns") == 1
        for name, thread in threads.items():
            bins = sorted((int(us), int(n)) for us, n in thread["histogram"].items())
            step = 1 if in_ns else _US
            part = Binned([_upper(us, step) for us, _ in bins], [us * step for us, _ in bins])
            part.counts = [n for _, n in bins]
            part.above = max(int(thread.get("cycles", 0)) - sum(part.counts), 0)
            file.parts[f"thread {name}"] = part
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise TraceError("the histogram of cyclictest is damaged; take an intact copy") from None


def read_rtla(path: StrPath, unit: str | None = None) -> BinnedFile:
    """Return the histogram of each column of rtla: IRQ, thread and user space of each CPU.

    Raises
    ------
    TraceError
        The file is damaged.
    """
    file = BinnedFile("rtla", "column")
    with reading(path), opened(path) as stream:
        overflows = _counted_rows(lines_of(stream), file, "")
        for part, above in zip(file.parts.values(), overflows, strict=False):
            part.above = above
    return _checked(file)


def _counted_rows(lines: Iterable[str], file: BinnedFile, prefix: str) -> list[int]:
    """Add rows of a time in us and a count for each column; return counts of the open bucket."""
    names: list[str] = []
    above: list[int] = []
    for line in lines:
        words = line.split()
        if words[:1] == ["Index"]:
            names = words[1:]
            file.parts = {}
        elif words[:1] == ["over:"]:
            above = [int(word) for word in words[1:] if word.isdecimal()]
        elif line.startswith("# Histogram Overflows:"):
            above = [int(word) for word in words[3:] if word.isdecimal()]
        elif len(words) > 1 and all(word.isdecimal() and len(word) < 19 for word in words):
            counts = [int(word) for word in words[1:]]
            names = names or [f"{number}" for number in range(len(counts))]
            if len(counts) != len(names) or len(names) > _MOST_PARTS:
                raise TraceError(f"each row must have {len(names)} counts, got {quoted(line, 60)}")
            for name, count in zip(names, counts, strict=True):
                part = file.parts.setdefault(f"{prefix}{name}", Binned())
                upper = _upper(int(words[0]), _US)
                if part.upper and upper <= part.upper[-1]:
                    raise TraceError(f"times of rows must grow, got {quoted(line, 60)}")
                part.upper.append(upper)
                part.lower.append(int(words[0]) * _US)
                part.counts.append(count)
    return above


def _upper(time: int, step: int) -> int:
    if not 0 <= (time + 1) * step < STAMP_LIMIT:
        raise TraceError(f"times must be below 2**62 ns, got {time}")
    return (time + 1) * step - 1


def _checked(file: BinnedFile) -> BinnedFile:
    file.parts = {name: part for name, part in file.parts.items() if sum(part.counts) + part.above}
    if not file.parts:
        raise TraceError("the histogram must have values, got none")
    file.reading = ["times are in bins of 1 us; of a bin, the largest time is shown"]
    return file


def read_edges(path: StrPath, unit: str | None = None) -> BinnedFile:
    """Return the histogram of a table of upper edges and counts; the last edge may be +Inf.

    Raises
    ------
    TraceError
        The unit is not known, or a row is not an edge and a count.
    """
    with reading(path), opened(path) as stream:
        lines = lines_of(stream)
        header = next(lines).removeprefix("\ufeff")
        named = _EDGES.match(f"{header}\n".encode())
        known = unit or (named[1].decode() if named and named[1] else None)
        if known is None:
            raise TraceError(
                "the unit of edges must be known; name the column le_ms, or give --unit ms"
            )
        cumulative: list[tuple[float, int]] = []
        total = 0
        for line in lines:
            if not line.strip():
                continue
            edge, _, count = re.sub(r"[;\t]", ",", line).partition(",")
            upper, number = _number(edge), _number(count)
            if upper is None or number is None or number < 0 or number != int(number):
                raise TraceError(f"rows must have an edge and a count, got {quoted(line, 60)}")
            if cumulative and upper <= cumulative[-1][0]:
                raise TraceError(f"edges must grow, got {quoted(line, 60)}")
            total += int(number)
            cumulative.append((upper, total))
        file = BinnedFile("histogram", reading=[f"edges are taken as {known}"])
        file.parts[""] = _part(cumulative, UNITS[known], None)
        return file
