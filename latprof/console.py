"""The report on a terminal: the same sections, laid out with rich."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from latprof.layout import Section
from latprof.report import Report

__all__ = ["print_report"]

_BAR_WIDTH = 24
_EIGHTHS = " ▏▎▍▌▋▊▉"


def print_report(report: Report, console: Console | None = None) -> None:
    """Print a report with the terminal's colours (NO_COLOR is respected)."""
    console = console or Console(highlight=False)
    for i, section in enumerate(report.sections()):
        if i:
            console.print()
        _print_section(section, console, headline=i == 0)


def _print_section(section: Section, console: Console, *, headline: bool) -> None:
    if section.title:
        console.print(Text(section.title, style="bold"))
    if section.header:
        table = Table(box=None, pad_edge=False, header_style="dim")
        for i, head in enumerate(section.header):
            left = i == 0 or head == ""
            table.add_column(head, justify="left" if left else "right", no_wrap=True)
        for row in section.rows:
            table.add_row(*map(_cell, row, section.header))
        console.print(table)
    for i, line in enumerate(section.lines):
        # Text, not markup: a name may have brackets in it
        console.print(Text(line, style="bold" if headline and i == 0 else "dim"), soft_wrap=True)


def _cell(text: str, head: str) -> Text:
    if head == "":
        return Text(_bar(float(text)), style="cyan")
    style = {"span": "cyan", "max": "magenta"}.get(head, "")
    return Text(text, style="dim" if text in ("-", "0", "0.0%", "0 ns") else style)


def _bar(share: float) -> str:
    whole, part = divmod(round(share * _BAR_WIDTH * 8), 8)
    return "█" * whole + (_EIGHTHS[part] if part else "")
