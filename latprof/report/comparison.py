"""Comparisons of runs and of hosts as one page of HTML each, with pictures of the differences."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from latprof.colors import colors
from latprof.comparing.comparison import Comparison
from latprof.comparing.fleet import Fleet
from latprof.errors import ProfileError
from latprof.plot.comparing import compare, fleet, fleet_height
from latprof.report.page import render
from latprof.report.pictures import drawn
from latprof.table import Column, Section, Table, doubtful

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["comparison_page", "fleet_page"]

MOST_HOSTS = 200  # in the table of a page

# name, title and caption of each picture
_RATIOS = (
    "ratios",
    "How much slower or faster",
    "The change of end to end by percentile, with its interval. Within the grey band both sides "
    "are the same.",
)
_CONTRIBUTIONS = (
    "contributions",
    "Where the change is",
    "What each stage adds to the mean of end to end. The bars add up to the whole change.",
)
_HOSTS = (
    "hosts",
    "Each host against the others",
    "The statistic of each host and the 95 % interval from its own frames. The grey "
    "band has 95 % of usual hosts, without that error; hosts that differ are triangles.",
)


def comparison_page(result: Comparison) -> str:
    """Return a comparison as a page of HTML that needs neither network nor script."""
    plans: dict[str, tuple[float, Callable[[Axes], object]]] = {
        "ratios": (3.6, lambda ax: compare(result, ax=ax)),
    }
    try:
        height = 1.2 + 0.34 * len(result.contributions())
        plans["contributions"] = (
            height,
            lambda ax: compare(result, ax=ax, value="contributions"),
        )
    except ProfileError:  # runs of different pipelines
        pass
    summary, table = result.sections()
    rows = [("base", run.name, run.profile.frames) for run in result.base]
    rows += [("head", run.name, run.profile.frames) for run in result.head]
    columns = Column("side"), Column("run", "name"), Column("frames", "count")
    return render(
        "result.html.jinja",
        colors(result.base[0].profile.pipeline),
        headline=summary.title,
        doubts=doubtful(summary),
        summary=summary.lines,
        captions=(_RATIOS, _CONTRIBUTIONS),
        pictures=drawn(plans),
        sections=[
            Section("All statistics", table.lines, table.table, "comparison"),
            Section("Runs", table=Table(columns, rows), key="runs"),
        ],
    )


def fleet_page(result: Fleet) -> str:
    """Return the hosts of a fleet as a page of HTML that needs neither network nor script."""
    summary, hosts = result.sections(most=MOST_HOSTS)
    plan = (fleet_height(result), lambda ax: fleet(result, ax=ax))
    return render(
        "result.html.jinja",
        {},
        headline=summary.title,
        doubts=doubtful(summary),
        summary=summary.lines,
        captions=(_HOSTS,),
        pictures=drawn({"hosts": plan}),
        sections=[hosts],
    )
