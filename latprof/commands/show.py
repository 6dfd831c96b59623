"""What a command shows: reports on the standard output, pictures in files."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from latprof.errors import LatprofError

if TYPE_CHECKING:
    from latprof.profile import Profile
    from latprof.report import Report

__all__ = ["draw", "print_report"]


def print_report(report: "Report") -> None:
    """Print a report, laid out for a terminal where there is one."""
    if sys.stdout.isatty():
        from latprof import console

        console.print_report(report)
    else:
        print(report)


def draw(
    profile: "Profile", spans: Sequence[str] | None, thresholds: Sequence[str], path: str
) -> None:
    """Draw the histogram of a profile into a file; its ending says the format."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from latprof import plot

    # a figure of its own, without pyplot: no display is looked for
    figure = Figure(figsize=(9, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    try:
        plot.histogram(profile, spans, ax=axes, thresholds=thresholds)
    except ValueError as error:
        raise LatprofError(str(error)) from None
    figure.savefig(path, dpi=150)
