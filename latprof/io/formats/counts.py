"""Reads histograms in text: Prometheus, cyclictest, rtla, and tables of edges and counts."""

import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from latprof.errors import TraceError
from latprof.io.formats.bins import EDGES, Binned, BinnedFile
from latprof.io.formats.columns import UNIT_OF, UNITS
from latprof.io.formats.files import head_of, lines_of
from latprof.io.paths import StrPath
from latprof.text import clip, quoted
from latprof.units import STAMP_LIMIT

__all__ = ["read_cyclictest", "read_edges", "read_prometheus", "read_rtla"]

_LARGEST_JSON = 1 << 24  # bytes
_MOST_PARTS = 1_000  # histograms of a file

_LABELS = r'\{((?:[^"}]|"(?:[^"\\]|\\.)*")*)\}'  # an exemplar behind the value has braces, too
_SAMPLE = re.compile(
    rf"([a-zA-Z_:][\w:]*)_(bucket|sum|count)\s*(?:{_LABELS})?\s*([^\s{{]+)(?:\s.*)?"
)
_LABEL = re.compile(r'\s*(\w+)\s*=\s*"((?:[^"\\]|\\.)*)"\s*,?')


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
    counts: dict[tuple[str, str], float] = {}
    for line in lines_of(path):
        sample = _SAMPLE.fullmatch(line.strip()) if not line.startswith("#") else None
        if sample is None:
            continue
        name, what, text, value = sample.groups()
        labels = dict(_LABEL.findall(text or ""))
        edge = labels.pop("le", None)
        group = ", ".join(f"{key}={label}" for key, label in labels.items())
        number = _number(value)
        if number is None:
            raise TraceError(f"values of buckets must be numbers, got {quoted(line, 60)}")
        if len(buckets.get(name, ())) > _MOST_PARTS:
            raise TraceError(
                f"a metric must have at most {_MOST_PARTS:,} sets of labels, got more of "
                f"{clip(name, 80)}; select some of its lines"
            )
        if what != "bucket":
            (sums if what == "sum" else counts)[name, group] = number
        elif edge is not None:
            upper = _number(edge)
            if upper is None or number < 0 or number != int(number):
                raise TraceError(f"buckets must have an edge and a count, got {quoted(line, 60)}")
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
    known = unit or (UNIT_OF[found[1]] if found else "s")
    how = "as given" if unit else "from its name" if found else "as Prometheus advises"
    file = BinnedFile("histogram", "labels" if len(buckets[name]) > 1 else None)
    file.reading = [f"buckets of {clip(name, 80)}, taken as {known}, {how}"]
    for group, edges in buckets[name].items():
        total, every = sums.get((name, group)), counts.get((name, group), 0.0)
        if math.inf not in edges and max(edges.values()) < every < 2**63:
            edges[math.inf] = int(every)
        scale = UNITS[known]
        part = Binned.up_to((edge * scale, count) for edge, count in sorted(edges.items()))
        if total is not None and 0 <= total * scale < 2**100:
            part.total = round(total * scale)
        file.parts[group or "(no labels)"] = part
    return file


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return None if value != value else value


# -- cyclictest and rtla ------------------------------------------------------------------------

_EXTREMES = {
    "# Min Latencies:": "min",
    "# Avg Latencies:": "avg",
    "# Max Latencies:": "max",
    "min:": "min",
    "avg:": "avg",
    "max:": "max",
}
"""Begins of lines with a number for each column, and the kind of number."""


@dataclass(slots=True)
class _Rows:
    """Histograms in text: each row has a time, and a count for each column.

    Attributes
    ----------
    names
        Of the columns.
    times, counts
        Of the rows; `counts` has a list for each row.
    above
        Counts of times that are longer than all rows, by column.
    said
        Least, mean and largest time of each column, as the file gives them, or None.
    unit
        Of the times, if the file says it.
    """

    names: list[str] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    counts: list[list[int]] = field(default_factory=list)
    above: list[int | None] = field(default_factory=list)
    said: dict[str, list[int | None]] = field(default_factory=dict)
    unit: str | None = None

    def add(self, line: str) -> None:
        """Add what a line has.

        Raises
        ------
        TraceError
            A row does not fit those before it.
        """
        words = line.split()
        of_columns = next((what for start, what in _EXTREMES.items() if line.startswith(start)), "")
        if line.startswith("# Time unit is "):
            self.unit = UNIT_OF.get(words[4])
        elif words[:1] == ["Index"]:
            self.names, self.times, self.counts = words[1:], [], []
        elif of_columns:
            self.said.setdefault(of_columns, _integers(line))  # later ones are of all columns
        elif words[:1] == ["over:"] or line.startswith("# Histogram Overflows:"):
            self.above = self.above or _integers(line)
        elif len(words) > 1 and all(word.isdecimal() and len(word) < 19 for word in words):
            time, *counts = map(int, words)
            self.names = self.names or [f"{number}" for number in range(len(counts))]
            if len(self.names) > _MOST_PARTS:
                raise TraceError(
                    f"rows must have at most {_MOST_PARTS:,} counts, got {len(self.names):,}; "
                    "record fewer threads or processors"
                )
            if len(counts) != len(self.names):
                raise TraceError(
                    f"each row must have {len(self.names)} counts, got {quoted(line, 60)}"
                )
            if self.times and time <= self.times[-1]:
                raise TraceError(f"times of rows must grow, got {quoted(line, 60)}")
            self.times.append(time)
            self.counts.append(counts)

    def without_sum(self) -> bool:
        """Remove a last column that is the sum of the others; return whether there was one."""
        if len(self.names) < 3 or any(sum(row[:-1]) != row[-1] for row in self.counts):
            return False
        self.names, self.above = self.names[:-1], self.above[: len(self.names) - 1]
        self.counts = [row[:-1] for row in self.counts]
        return True

    def width(self) -> int:
        """Return the width of the bins: the largest step that all times are multiples of."""
        return math.gcd(*self.times) or 1 if len(self.times) > 2 else 1

    def file(self, name: str, by: str, prefix: str, width: int, unit: str) -> BinnedFile:
        """Return the histograms, of bins of `width` in `unit` that begin at the times."""
        file = BinnedFile(name, by)
        for column, label in enumerate(self.names):
            part = _whole_units(self.times, [row[column] for row in self.counts], width, unit)
            part.above = _at(self.above, column) or 0
            least, mean, most = (_at(self.said.get(w, ()), column) for w in ("min", "avg", "max"))
            _add_extremes(part, least, mean, most, unit)
            file.parts[f"{prefix}{label}"] = part
        return _checked(file, width, unit)


def _integers(line: str) -> list[int | None]:
    """Return the numbers after the colon of a line, and None for what is not a number."""
    words = line.partition(":")[2].split()
    return [int(word) if word.isdecimal() and len(word) < 19 else None for word in words]


def _at(values: Sequence[int | None], place: int) -> int | None:
    return values[place] if place < len(values) else None


def _whole_units(times: Iterable[int], counts: list[int], width: int, unit: str) -> Binned:
    """Return bins of `width` units; the tool has cut times to whole units before counting them."""
    part, scale = Binned(), UNITS[unit]
    for time in times:
        if not 0 <= (time + width) * scale < STAMP_LIMIT:
            raise TraceError(f"times must be below 2**62 ns, got {time}")
        part.lower.append(time * scale)
        part.upper.append((time + width - 1) * scale)
    part.counts = counts
    return part


def _add_extremes(
    part: Binned, least: float | None, mean: float | None, most: float | None, unit: str
) -> None:
    """Add the least, the mean and the largest time of a file to its histogram."""
    scale = UNITS[unit]
    if part.values and least is not None and 0 <= least * scale < STAMP_LIMIT:
        part.smallest = int(least) * scale
    if part.values and most is not None and 0 <= most * scale < STAMP_LIMIT:
        part.largest = int(most) * scale
    if part.values and mean is not None and 0 <= mean * scale < STAMP_LIMIT:
        part.total = round(mean * scale * part.values)


def read_cyclictest(path: StrPath, unit: str | None = None) -> BinnedFile:
    """Return the histogram of each thread of cyclictest; a bin is 1 us wide, or 1 of `unit`.

    Raises
    ------
    TraceError
        The file is damaged.
    """
    if head_of(path).lstrip().startswith(b"{"):
        return _cyclictest_json(head_of(path, _LARGEST_JSON), unit)
    rows = _Rows()
    for line in lines_of(path):
        rows.add(line)
    summed = rows.without_sum()
    file = rows.file("cyclictest", "thread", "thread ", 1, unit or "us")
    file.reading += ["the last column is the sum of the threads: left out"] if summed else []
    return file


def _cyclictest_json(text: bytes, unit: str | None) -> BinnedFile:
    file = BinnedFile("cyclictest", "thread")
    try:
        content = json.loads(text)
        unit = unit or ("ns" if content.get("resolution_in_ns") == 1 else "us")
        for name, thread in content["thread"].items():
            bins = sorted((int(time), int(n)) for time, n in thread["histogram"].items())
            part = _whole_units([time for time, _ in bins], [n for _, n in bins], 1, unit)
            part.above = max(int(thread.get("cycles", 0)) - sum(part.counts), 0)
            if min(part.counts, default=0) < 0:
                raise ValueError
            said = [thread.get(what) for what in ("min", "avg", "max")]
            least, mean, most = (None if value is None else float(value) for value in said)
            _add_extremes(part, least, mean, most, unit)
            file.parts[f"thread {name}"] = part
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        raise TraceError("the histogram of cyclictest is damaged; take an intact copy") from None
    return _checked(file, 1, unit)


def read_rtla(path: StrPath, unit: str | None = None) -> BinnedFile:
    """Return the histogram of each column of rtla: IRQ, thread and user space of each CPU.

    Raises
    ------
    TraceError
        The file is damaged.
    """
    rows = _Rows()
    for line in lines_of(path):
        rows.add(line)
    return rows.file("rtla", "column", "", rows.width(), unit or rows.unit or "us")


def _checked(file: BinnedFile, width: int, unit: str) -> BinnedFile:
    file.parts = {name: part for name, part in file.parts.items() if part.values}
    if not file.parts:
        raise TraceError("the histogram must have counts above 0, got none; record for longer")
    file.reading = [
        f"times are whole {unit}, without what is below 1 {unit}"
        if width == 1
        else f"times are in bins of {width} {unit}; of a bin, the largest whole {unit} is shown"
    ]
    if any(part.total is not None for part in file.parts.values()):
        file.reading.append("minimum, mean and maximum are those that the tool computed")
    return file


def read_edges(path: StrPath, unit: str | None = None) -> BinnedFile:
    """Return the histogram of a table of upper edges and counts; the last edge may be +Inf.

    Raises
    ------
    TraceError
        The unit is not known, or a row is not an edge and a count.
    """
    lines = lines_of(path)
    named = EDGES.match(f"{next(lines)}\n".encode())
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
        if cumulative and upper * UNITS[known] <= cumulative[-1][0]:
            raise TraceError(f"edges must grow, got {quoted(line, 60)}")
        total += int(number)
        cumulative.append((upper * UNITS[known], total))
    said = f"edges are taken as {known}, counts as those of each bin"
    counts = [upto for _, upto in cumulative]
    counts = [upto - before for upto, before in zip(counts, [0, *counts[:-1]], strict=True)]
    if len(counts) > 2 and counts[0] < counts[-1] and counts == sorted(counts):
        said += ", though each is at least the one before: are they cumulative?"
    file = BinnedFile("histogram", reading=[said])
    file.parts[""] = Binned.up_to(cumulative)
    return file
