"""A comparison of runs as one page of HTML, with the pictures of what changed."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from latprof.comparing.comparison import Comparison
from latprof.errors import ProfileError
from latprof.report.page import render
from latprof.report.pictures import drawn
from latprof.table import Column, Section, Table, colors

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["comparison_page"]


def comparison_page(result: Comparison) -> str:
    """Return a comparison as a page of HTML that needs neither network nor script."""
    from latprof import plot

    plans: dict[str, tuple[float, Callable[[Axes], object]]] = {
        "ratios": (3.6, lambda ax: plot.compare(result, ax=ax)),
    }
    try:
        height = 1.2 + 0.34 * len(result.contributions())
        plans["contributions"] = (
            height,
            lambda ax: plot.compare(result, ax=ax, value="contributions"),
        )
    except ProfileError:  # runs of different pipelines
        pass
    summary, table = result.sections()
    rows = [("base", run.name, run.profile.frames) for run in result.base]
    rows += [("head", run.name, run.profile.frames) for run in result.head]
    columns = Column("side"), Column("run", "name"), Column("frames", "count")
    return render(
        "comparison.html.jinja",
        colors(result.base[0].profile.pipeline),
        headline=summary.title,
        summary=summary.lines,
        pictures=drawn(plans),
        sections=[
            Section("All statistics", table.lines, table.table, "comparison"),
            Section("Runs", table=Table(columns, rows), key="runs"),
        ],
    )
