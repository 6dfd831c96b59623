"""The parts of a report, and how each is laid out as text and as Markdown."""

import textwrap
from dataclasses import dataclass

from latprof.text import escape

__all__ = ["Section", "filled_ranges", "markdown", "percent", "range_name", "short", "text"]

_WIDTH = 100
_NAME_WIDTH = 18
_BAR_WIDTH = 30


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a report: `lines` of text, or a table if it has a `header`.

    The first column of a table holds names, the others numbers; a column headed ``""`` holds a
    bar, written as a share from 0 to 1. `times` has the ns of each cell, where it is a time that
    may be above a threshold: a row for each of `rows`, or nothing. `names` are those of the first
    column in full, where they were shortened. `key` is the section's name for programs.
    """

    title: str
    lines: tuple[str, ...] = ()
    header: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    times: tuple[tuple[float | None, ...], ...] = ()
    key: str = ""
    names: tuple[str, ...] = ()


def filled_ranges(ranges: list[tuple[int, int | None, int]]) -> list[tuple[int, int | None, int]]:
    """Leave out the empty ranges before the first filled one and after the last."""
    filled = [i for i, (_, _, n) in enumerate(ranges) if n]
    return ranges[filled[0] : filled[-1] + 1] if filled else []


def range_name(low: int, high: int | None) -> str:
    """Name a range: above `low` ns, up to and with `high` ns.

    Examples
    --------
    >>> range_name(0, 1_000_000), range_name(1_000_000, 5_000_000), range_name(2 * 10**9, None)
    ('up to 1 ms', '1 to 5 ms', 'more than 2 s')
    """
    if high is None:
        return f"more than {_edge(low)}"
    if low == 0:
        return f"up to {_edge(high)}"
    left, right = _edge(low), _edge(high)
    number, unit = left.split()
    return f"{number if right.endswith(f' {unit}') else left} to {right}"


def _edge(ns: int) -> str:
    for unit, scale in (("s", 10**9), ("ms", 10**6), ("us", 10**3)):
        if ns % scale == 0:
            return f"{ns // scale:,} {unit}"
    return f"{ns:,} ns"


def short(name: str) -> str:
    """Return a name as it fits a table, made harmless."""
    shown = escape(name)
    return shown if len(shown) <= _NAME_WIDTH else shown[: _NAME_WIDTH - 3] + "..."


def percent(share: float | None) -> str:
    """Write a share; "-" where there is none."""
    return "-" if share is None else f"{share:.1%}"


def text(section: Section) -> str:
    """Lay a section out as plain text of at most 100 columns, where names allow it."""
    lines = [section.title] if section.title else []
    if section.header:
        table = (section.header, *section.rows)
        widths = [max(len(row[i]) for row in table) for i in range(len(section.header))]
        gap = "  " if sum(widths) + 2 * len(widths) - 2 <= _WIDTH else " "
        for row in table:
            cells = []
            for i, (cell, width) in enumerate(zip(row, widths, strict=True)):
                if section.header[i] == "":
                    cells.append("#" * round(float(cell or 0) * _BAR_WIDTH))
                else:
                    cells.append(cell.ljust(width) if i == 0 else cell.rjust(width))
            lines.append(gap.join(cells).rstrip())
    for line in section.lines:
        lines += textwrap.wrap(line, _WIDTH, subsequent_indent="  ") or [""]
    return "\n".join(lines)


def markdown(section: Section) -> str:
    """Lay a section out as Markdown; what is special to it is escaped."""
    blocks = [f"### {section.title}"] if section.title else []
    keep = [i for i, head in enumerate(section.header) if head != ""]
    if keep:
        rows = [section.header, *section.rows]
        cells = [[_cell(row[i]) for i in keep] for row in rows]
        cells.insert(1, ["---" if i == 0 else "---:" for i in range(len(keep))])
        blocks.append("\n".join(f"| {' | '.join(row)} |" for row in cells))
    if section.lines:
        blocks.append("\n".join(f"{_cell(line)}  " for line in section.lines))
    return "\n\n".join(blocks)


def _cell(text: str) -> str:
    for mark in ("\\", "|", "`", "*", "_", "<", "[", "]", "#"):
        text = text.replace(mark, f"\\{mark}")
    return text.replace("&", "&amp;").replace("\\<", "&lt;")
