"""What a command shows: reports on the standard output, pictures in files."""

import sys
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

from latprof.errors import LatprofError
from latprof.io.atomic import write_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from latprof.report.report import Report

__all__ = ["draw", "print_report", "write_page"]


def print_report(report: "Report") -> None:
    """Print a report, laid out for a terminal where there is one."""
    if sys.stdout.isatty():
        from latprof.report import terminal

        terminal.print_report(report)
    else:
        print(report)


def draw(paint: "Callable[[None], Axes]", path: str) -> None:
    """Write a picture to a file, whose ending says the format.

    `paint` is called with None for axes: what it draws makes a figure as large as it needs.

    Raises
    ------
    LatprofError
        What is to be drawn is not there.
    """
    from latprof.plot.axes import without_windows

    try:
        with without_windows():
            figure = paint(None).get_figure(root=True)
    except LatprofError:
        raise
    except ValueError as error:
        raise LatprofError(str(error)) from None
    assert figure is not None
    with warnings.catch_warnings():
        # a name in letters that the font does not have is drawn as boxes: no reason to complain
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        figure.savefig(path, dpi=150)


def write_page(report: "Report", path: str) -> None:
    """Write a report as a page of HTML; an old file is replaced once the page is complete."""
    html = report.to_html()
    with write_file(path) as file:
        file.write(html.encode("utf-8", "xmlcharrefreplace"))
