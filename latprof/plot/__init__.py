"""Pictures of profiles and traces, drawn with matplotlib.

Each function draws a profile or a trace, and most draw several in one picture. It draws on `ax`,
or on a new figure if `ax` is None, and returns the Axes. Colours, line widths and fonts without a
meaning of their own are those of the current matplotlib style, light or dark.
"""

from latprof.plot.breakdown import stages, waterfall
from latprof.plot.cumulative import ecdf, percentiles
from latprof.plot.histograms import histogram
from latprof.plot.over_time import heatmap, timeline
from latprof.plot.queueing import blame, what_if
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
