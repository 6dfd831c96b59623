"""Sections on a terminal: in colour, laid out for its width."""

from collections.abc import Callable

from rich.console import Console
from rich.text import Text

from latprof.report.report import Report
from latprof.table import Section, Table, doubtful, hashes, lay_out
from latprof.text import wrapped
from latprof.thresholds import Thresholds
from latprof.units import format_exact

__all__ = ["LEVEL_STYLES", "bar", "print_report", "print_sections", "styled_table"]

LEVEL_STYLES = {"": "", "warning": "yellow", "critical": "bold red"}

_STYLES = LEVEL_STYLES | {"head": "dim", "faint": "dim", "name": "cyan", "bar": "cyan"}
_EIGHTHS = " ▏▎▍▌▋▊▉"


def print_report(report: Report, console: Console | None = None) -> None:
    """Print a report in the terminal's colours, or without any if NO_COLOR is set."""
    console = console or Console(highlight=False)
    print_sections(report.sections(), console)
    if report.marked != Thresholds() and console.color_system and not console.no_color:
        console.print()
        console.print(_legend(report.marked))


def print_sections(sections: list[Section], console: Console | None = None) -> None:
    """Print sections: titles are bold, lines below tables dim."""
    console = console or Console(highlight=False)
    for i, section in enumerate(sections):
        if i:
            console.print()
        for part in wrapped(section.title, console.width) if section.title else []:
            console.print(Text(part, style="bold"))
        for line in doubtful(section):
            for part in wrapped(line, console.width):
                console.print(Text(part, style="bold yellow"))
        if section.table is not None:
            draw = bar if console.encoding.startswith("utf") else hashes
            table, left_out = styled_table(section.table, console.width, draw, stack=True)
            console.print(table)
            if left_out:
                hidden = f"too narrow for {', '.join(left_out)}: widen the terminal"
                console.print(Text(hidden, style="dim"))
        for line in section.lines:
            for part in wrapped(line, console.width):
                # Text, not markup: a name may have brackets in it
                console.print(Text(part, style="dim" if i else ""))


def styled_table(
    table: Table,
    width: int,
    draw: Callable[[float, int], str] | None = None,
    *,
    stack: bool = False,
) -> tuple[Text, list[str]]:
    """Return a table of at most `width` columns, and the names of columns that do not fit.

    With `stack` columns that do not fit are continued below; otherwise lines are cut.
    """
    laid = lay_out(table, width, spare=True, draw=draw or bar, stack=stack)
    lines = (
        Text.assemble(*((part, _STYLES[style]) for part, style in line)) for line in laid.lines
    )
    text = Text("\n", no_wrap=True, overflow="crop").join(lines)
    text.no_wrap = True
    return text, laid.left_out


def bar(share: float, width: int) -> str:
    """Return a bar drawn in eighths of a character, for a share from 0 to 1.

    Examples
    --------
    >>> bar(0.25, 10), bar(0, 10), bar(1, 4)
    ('██▌', '', '████')
    """
    full, part = divmod(round(min(max(share, 0.0), 1.0) * width * 8), 8)
    return "█" * full + (_EIGHTHS[part] if part else "")


def _legend(thresholds: Thresholds) -> Text:
    color = {"warning": "yellow", "critical": "red"}
    return Text(", ").join(
        Text(f"{color[level]}: above {format_exact(limit)}", style=LEVEL_STYLES[level])
        for level, limit in thresholds.limits.items()
    )
