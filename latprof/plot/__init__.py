"""Pictures: results in, matplotlib Axes out. Nothing is computed here but where ink goes.

Each function takes a profile or a trace, some of them several, and draws on `ax` or on a figure
of its own. Colours, line widths and fonts that have no meaning are those of the matplotlib style
in force, light or dark.
"""

from latprof.plot.blame import blame
from latprof.plot.cumulative import ecdf, percentiles
from latprof.plot.histograms import histogram
from latprof.plot.over_time import heatmap, timeline
from latprof.plot.shares import stages
from latprof.plot.waterfalls import waterfall
from latprof.plot.what_if import what_if
from latprof.table import colors

__all__ = [
    "blame",
    "colors",
    "ecdf",
    "heatmap",
    "histogram",
    "percentiles",
    "stages",
    "timeline",
    "waterfall",
    "what_if",
]
