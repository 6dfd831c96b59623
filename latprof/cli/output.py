"""Output of commands: results in the requested format, pages and pictures."""

import argparse
import json
import sys
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from latprof.errors import LatprofError
from latprof.io.atomic import write_file
from latprof.io.remote import REQUESTS
from latprof.report.report import Report
from latprof.table import Section, markdown, text
from latprof.text import counted, shown_path
from latprof.units import format_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "PICTURES",
    "add_format",
    "check_ending",
    "draw",
    "print_report",
    "print_requests",
    "print_result",
    "print_sections",
    "write_page",
]

PICTURES = (".png", ".svg", ".pdf")
"""Endings of the files that a picture is written to."""

_MOST_LISTED = 100  # files for which requests are listed


def add_format(parser: argparse.ArgumentParser, *more: str, about: str = "default: text") -> None:
    """Add the option of the format that is printed, with `more` formats; see `print_result`."""
    formats = ("text", "json", "markdown", *more)
    parser.add_argument("--format", choices=formats, default="text", help=about)


def check_ending(path: str, endings: tuple[str, ...]) -> None:
    """Refuse an output that does not end in one of `endings`."""
    if not path.endswith(endings):
        raise LatprofError(f"output must end in {', '.join(endings)}, got {shown_path(path)}")


def print_result(
    form: str, content: Callable[[], dict[str, Any]], sections: Callable[[], list[Section]]
) -> None:
    """Print a result in a format of `add_format`.

    `content` returns the result as values that JSON can hold, `sections` as people read it.
    """
    if form == "json":
        print(json.dumps(content(), indent=2, allow_nan=False))
    elif form == "markdown":
        print(markdown(sections()))
    else:
        print_sections(sections())


def print_report(report: Report) -> None:
    """Print a report, in colour and fitted to the width if stdout is a terminal."""
    if sys.stdout.isatty():
        from latprof.report import terminal

        terminal.print_report(report)
    else:
        print(report)


def print_requests() -> None:
    """Print to stderr how many requests were made to object stores, by file."""
    made = sorted(REQUESTS.take().items())
    if not made:
        print("latprof: no requests, as no file is behind a URL", file=sys.stderr)
        return
    for name, (requests, size) in made[:_MOST_LISTED]:
        what = counted(requests, "request")
        print(f"latprof: {name}: {what}, {format_bytes(size)}", file=sys.stderr)
    total, size = (sum(each[i] for _, each in made) for i in (0, 1))
    what = f"{counted(total, 'request')} for {counted(len(made), 'URL')}"
    print(f"latprof: {what}, {format_bytes(size)}", file=sys.stderr)


def print_sections(sections: list[Section]) -> None:
    """Print sections, in colour and fitted to the width if stdout is a terminal."""
    if sys.stdout.isatty():
        from latprof.report import terminal

        terminal.print_sections(sections)
    else:
        print(text(sections))


def write_page(path: str, page: str) -> None:
    """Write a page of HTML; an old file is replaced once the new one is complete."""
    with write_file(path) as file:
        file.write(page.encode("utf-8", "xmlcharrefreplace"))


def draw(paint: "Callable[[Any], Axes]", path: str) -> None:
    """Write a picture to a file, in the format of its ending.

    `paint` gets the module `latprof.plot` and returns Axes. It should draw without `ax=`: then the
    new figure is as large as the picture needs.

    Raises
    ------
    LatprofError
        There is nothing to draw, or the file cannot be written.
    """
    from latprof import plot

    try:
        with plot.without_windows():
            figure = paint(plot).get_figure(root=True)
    except LatprofError:
        raise
    except ValueError as error:
        raise LatprofError(str(error)) from None
    assert figure is not None
    with warnings.catch_warnings(), write_file(path) as file:
        # characters that the font lacks are drawn as boxes; a warning would not help
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        figure.savefig(file, dpi=150, format=path.rpartition(".")[2])
