"""The report on a terminal: the same sections, laid out with rich for the width there is."""

import textwrap

from rich.console import Console
from rich.table import Table
from rich.text import Text

from latprof.report.layout import Section
from latprof.report.report import Report
from latprof.thresholds import LEVELS, Thresholds
from latprof.units import format_ns

__all__ = ["LEVEL_STYLES", "bar", "fitted_table", "print_report"]

LEVEL_STYLES = {"": "", "warning": "yellow", "critical": "bold red"}

_BAR_WIDTH = 24
_SHARE_BAR_WIDTH = 8
_EIGHTHS = " ▏▎▍▌▋▊▉"

# what a narrow terminal does without, the dearest last; "" is a bar
_LEAST_NEEDED = ("min", "std", "", "p90", "p99.9", "source", "p50")
_FOLDED = ("longest parts",)
_LEFT = ("", "p99, last minute", *_FOLDED)


def print_report(report: Report, console: Console | None = None) -> None:
    """Print a report with the terminal's colours (NO_COLOR is respected)."""
    console = console or Console(highlight=False)
    limits = report.limits
    for i, section in enumerate(report.sections()):
        if i:
            console.print()
        _print_section(section, console, limits, headline=i == 0)
    if limits != Thresholds() and console.color_system and not console.no_color:
        console.print()
        console.print(_legend(limits))


def _print_section(
    section: Section, console: Console, limits: Thresholds, *, headline: bool
) -> None:
    if section.title:
        console.print(Text(section.title, style="bold"))
    if section.header:
        _print_table(section, console, limits)
    for i, line in enumerate(section.lines):
        # Text, not markup: a name may have brackets in it
        style = "bold" if headline and i == 0 else "" if headline else "dim"
        for part in textwrap.wrap(line, console.width, subsequent_indent="  ") or [""]:
            console.print(Text(part, style=style))


def _print_table(section: Section, console: Console, limits: Thresholds) -> None:
    header = list(section.header)
    cells = [
        [
            _cell(text, head, limits.level(section.times[i][k] if section.times else None))
            for k, (text, head) in enumerate(zip(row, header, strict=True))
        ]
        for i, row in enumerate(section.rows)
    ]
    if "share" in header and "" not in header:
        place = header.index("share") + 1
        header.insert(place, "")
        for row in cells:
            row.insert(place, _share_bar(row[place - 1].plain))
    table, left_out = fitted_table(header, cells, console.width)
    console.print(table)
    if left_out:
        console.print(Text(f"no room for {', '.join(left_out)}: widen the terminal", style="dim"))


def fitted_table(header: list[str], cells: list[list[Text]], room: int) -> tuple[Table, list[str]]:
    """Return a table of at most `room` letters, and the names of columns that are left out."""
    columns, gap, left_out = _fitting(header, cells, room)
    table = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0), header_style="dim")
    for k in columns:
        head = header[k]
        left = k == 0 or head in _LEFT
        fold = head in _FOLDED
        table.add_column(head, justify="left" if left else "right", no_wrap=not fold)
    for row in cells:
        table.add_row(*(row[k] for k in columns))
    return table, left_out


def _fitting(
    header: list[str], cells: list[list[Text]], room: int
) -> tuple[list[int], int, list[str]]:
    """Return the columns that fit, the gap between them, and the names of those left out."""
    widths = [
        max(len(head), *(row[k].cell_len for row in cells), 0) for k, head in enumerate(header)
    ]
    for k, head in enumerate(header):
        if head in _FOLDED:
            widths[k] = min(widths[k], 24)  # it goes on in further lines
    columns, left_out = list(range(len(header))), []
    for name in (None, *_LEAST_NEEDED):
        if name is not None and name in header:
            columns.remove(header.index(name))
            if name:
                left_out.append(name)
        for gap in (2, 1):
            if sum(widths[k] + gap for k in columns) - gap <= room:
                return columns, gap, left_out
    return columns, 1, left_out


def _cell(text: str, head: str, level: str) -> Text:
    if head == "":
        return Text(bar(float(text), _BAR_WIDTH), style=LEVEL_STYLES[level] or "cyan")
    if level:
        return Text(text, style=LEVEL_STYLES[level])
    style = {"span": "cyan", "max": "magenta"}.get(head, "")
    return Text(text, style="dim" if text in ("-", "0", "0.0%", "0 ns") else style)


def _share_bar(share: str) -> Text:
    return Text(
        bar(float(share[:-1]) / 100, _SHARE_BAR_WIDTH) if share != "-" else "", style="cyan"
    )


def bar(share: float, width: int) -> str:
    """Return a bar of eighths of a letter, for a share from 0 to 1.

    Examples
    --------
    >>> bar(0.25, 10), bar(0, 10), bar(1, 4)
    ('██▌', '', '████')
    """
    whole, part = divmod(round(min(max(share, 0.0), 1.0) * width * 8), 8)
    return "█" * whole + (_EIGHTHS[part] if part else "")


def _legend(limits: Thresholds) -> Text:
    parts = []
    for level, color in zip(LEVELS, ("yellow", "red"), strict=True):
        limit = getattr(limits, f"{level}_ns")
        if limit is not None:
            parts.append(Text(f"{color}: above {format_ns(limit)}", style=LEVEL_STYLES[level]))
    return Text(", ").join(parts)
