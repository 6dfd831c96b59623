"""Pictures of profiles and traces, drawn with matplotlib.

Each function draws a profile or a trace, and most draw several in one picture. It draws on `ax`,
or on a new figure if `ax` is None, and returns the Axes. Colours, line widths and fonts without a
meaning of their own are those of the current matplotlib style, light or dark.

`Results` is the type of what can be drawn. `colors` and `span_styles` are for pictures of your own,
and `without_windows` is for pictures that are written to files on a computer without a display.
"""

from latprof.colors import colors
from latprof.plot.axes import span_styles, without_windows
from latprof.plot.breakdown import stages, waterfall
from latprof.plot.comparing import compare, fleet, trend
from latprof.plot.cumulative import ecdf, percentiles
from latprof.plot.histograms import histogram
from latprof.plot.over_time import heatmap, timeline
from latprof.plot.queueing import blame, load_curve, what_if
from latprof.plot.results import Results

__all__ = [
    "Results",
    "blame",
    "colors",
    "compare",
    "ecdf",
    "fleet",
    "heatmap",
    "histogram",
    "load_curve",
    "percentiles",
    "span_styles",
    "stages",
    "timeline",
    "trend",
    "waterfall",
    "what_if",
    "without_windows",
]
