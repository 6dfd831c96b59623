"""Reads tables of percentiles: those of HdrHistogram (.hgrm), and the statistics of Locust."""

import csv
import math
import re
from fractions import Fraction

from latprof.errors import TraceError
from latprof.io.formats.bins import Binned, BinnedFile
from latprof.io.formats.columns import UNIT_OF, UNITS
from latprof.io.formats.files import lines_of
from latprof.io.paths import StrPath
from latprof.text import clip, quoted
from latprof.units import STAMP_LIMIT

__all__ = ["read_hgrm", "read_locust"]

_HEADER = re.compile(r'\s*"?Value[\s,"]+Percentile[\s,"]+TotalCount\b')
_ROW = re.compile(r"\s*([\d.]+)\s+([01](?:\.\d+)?)\s+(\d+)(?:\s+(?:[\d.]+|inf|Infinity))?\s*")
_MEAN = re.compile(r"#\[Mean\s*=\s*([\d.]+)")
_TITLE_UNIT = re.compile(r"(?:\bin |\()((?:nano|micro|milli|)seconds|[num]s)\b")


def read_hgrm(path: StrPath, unit: str | None = None) -> BinnedFile:
    """Return the histograms of tables of percentiles: values, percentiles, numbers of values.

    Parameters
    ----------
    path
        Of the file, which may have several tables, and lines of other text.
    unit
        Of the values; by default that of the title above the table, or else ms.

    Raises
    ------
    TraceError
        The file has no rows, or values or their numbers fall from one row to the next.
    """
    file, part, before, scale = BinnedFile("histogram", "table"), Binned(), 0, 1
    title = ""
    for line in lines_of(path):
        row, mean = _ROW.fullmatch(re.sub('[",]', " ", line)), _MEAN.match(line)
        if _HEADER.match(line):
            known, why = _unit_of_title(title, unit)
            part, before, scale = Binned(), 0, UNITS[known]
            name = clip(title.strip(" #:"), 60) or "table"
            number = len(file.parts) + 1
            file.parts[f"{name} ({number})" if name in file.parts else name] = part
            file.reading.append(f"values are taken as {known}{why}")
        elif row is not None and file.parts:
            value, upto = round(float(row[1]) * scale), int(row[3])
            if upto < before or (part.upper and value < part.upper[-1]):
                raise TraceError(
                    "values and TotalCount must not fall from one row to the next, got "
                    f"{quoted(line, 60)}; take an intact copy"
                )
            if value >= STAMP_LIMIT or upto >= 2**63:
                raise TraceError(f"values must be below 2**62 ns, got {quoted(line)}")
            if part.upper and value == part.upper[-1]:
                part.counts[-1] += upto - before
            elif upto > before or not part.upper:
                part.upper.append(value)
                part.counts.append(upto - before)
            before = upto
        elif mean is not None and before:
            part.total = round(float(mean[1]) * scale * before)
        title = line if line.strip() else title
    file.parts = {name: part for name, part in file.parts.items() if sum(part.counts)}
    if not file.parts:
        raise TraceError("the table must have rows of values and percentiles, got none")
    file.reading = list(dict.fromkeys(file.reading))
    if len(file.parts) == 1:
        file.by = None
    return file


def _unit_of_title(title: str, unit: str | None) -> tuple[str, str]:
    """Return the unit of a table, and why, for a sentence."""
    if unit is not None:
        return unit, ""
    found = _TITLE_UNIT.search(title)
    if found is None:
        return "ms", " (--unit for others)"
    return UNIT_OF[found[1]], ", as the line above the table says"


# -- Locust -------------------------------------------------------------------------------------

_NUMBER = re.compile(r"\d{1,9}(?:\.\d{1,30})?")
_PERCENT = re.compile(r"\d{1,3}(?:\.\d{1,9})?%")


def read_locust(path: StrPath, unit: str | None = None) -> BinnedFile:
    """Return the response times of each request of Locust's file ``..._stats.csv``.

    Locust's percentile q of n values is the largest value with at most q * n values below it.
    Locust rounds times to whole ms, and those of 100 ms and more to two digits, before it counts
    them, but keeps the exact sum and the exact extremes.

    Raises
    ------
    TraceError
        It is the history of Locust, or a row is damaged.
    """
    known = unit or "ms"
    file = BinnedFile("locust", "request")
    rows = csv.reader(lines_of(path))
    header = next(rows, [])
    if header[:1] == ["Timestamp"]:
        raise TraceError(
            "the file must be the statistics of Locust (..._stats.csv), got their history "
            "(..._stats_history.csv)"
        )
    for row in rows:
        if not row or (len(row) > 1 and row[1] == "Aggregated"):
            continue  # the sum of the other rows
        if len(row) != len(header):
            raise TraceError(
                f"each row must have {len(header)} values, got {quoted(','.join(row), 60)}"
            )
        cells = dict(zip(header, row, strict=True))
        name = f"{cells['Type']} {cells['Name']}".strip()
        try:
            part = _locust_part(cells, UNITS[known])
        except (ValueError, KeyError, OverflowError):
            raise TraceError(
                f"the row of {quoted(name, 60)} must have numbers; take an intact copy"
            ) from None
        if part.values:
            file.parts[name[:200]] = part
    if not file.parts:
        raise TraceError("the statistics must have a request, got none")
    file.reading = [
        f"response times are taken as {known}{'' if unit else ', as Locust writes them'}; failed "
        "requests are among them",
        "percentiles are as rounded as Locust rounds them; the mean and the extremes are exact",
    ]
    return file


def _locust_part(cells: dict[str, str], scale: int) -> Binned:
    """Return the histogram of a row: its values up to each percentile."""
    count = int(cells["Request Count"])
    if not 0 <= count < 2**62:
        raise ValueError("the number of requests is out of range")
    if not count:
        return Binned()
    part = Binned.up_to(
        (
            round(_time(text) * scale),
            min(math.floor(Fraction(column[:-1]) / 100 * count) + 1, count),
        )
        for column, text in cells.items()
        if _PERCENT.fullmatch(column)
    )
    least, mean, most = (_time(cells[f"{w} Response Time"]) for w in ("Min", "Average", "Max"))
    part.total, part.largest = round(mean * scale * count), round(most * scale)
    if part.upper:
        part.smallest = min(round(least * scale), part.upper[0])  # the latter is rounded
        part.lower = [part.smallest, *part.upper[:-1]]
    return part


def _time(text: str) -> Fraction:
    """Return a number as it is written.

    Raises
    ------
    ValueError
        It is not a number, or too large for a time in seconds.
    """
    if _NUMBER.fullmatch(text) is None:
        raise ValueError("a time must be a number")
    return Fraction(text)
