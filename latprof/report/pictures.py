"""The pictures of a page: drawn by latprof.plot, each with a sentence on what it shows."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from latprof.errors import ProfileError
from latprof.profile.profile import Profile
from latprof.queueing.blame import SELF_TIME
from latprof.report.svg import INK, PAPER, inline, svg_of
from latprof.thresholds import Thresholds

if TYPE_CHECKING:
    import pandas as pd
    from markupsafe import Markup
    from matplotlib.axes import Axes

__all__ = ["Picture", "pictures"]

WORST = 12  # frames of the waterfall

_WIDTH = 8.4  # inches; with letters of 9.5 points it is readable if the page is 600 pixels wide

# independent of the style that the process has set
_STYLE: Any = {
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.titlecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.facecolor": PAPER,
    "figure.facecolor": PAPER,
    "font.family": ["sans-serif"],
    "font.size": 9.5,
    "axes.titlesize": "medium",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "hatch.linewidth": 0.5,
}


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture: its name in the page, its title, what it shows in a sentence, and the SVG."""

    name: str
    title: str
    caption: str
    svg: "Markup"


def pictures(profile: Profile, thresholds: Thresholds) -> list[Picture]:
    """Return the pictures of a profile, or none if it has no frame with a start and an end."""
    import matplotlib as mpl
    from matplotlib import style

    if not profile["end_to_end"].count:
        return []
    shapes: dict[str, str] = {}
    with style.context("default"), mpl.rc_context(_STYLE):
        return [
            Picture(name, title, caption, _drawn(name, height, paint, shapes))
            for name, title, caption, height, paint in _plans(profile, thresholds)
        ]


def _plans(
    profile: Profile, thresholds: Thresholds
) -> list[tuple[str, str, str, float, "Callable[[Axes], object]"]]:
    """Return name, title, caption, height in inches and painter of each picture."""
    from latprof import plot

    given = (thresholds.warning_ns, thresholds.critical_ns)
    limits = [limit for limit in given if limit is not None]
    count = len(profile.pipeline.stages) + 1
    blame = _blame(profile)
    worst = min(len(profile.sums.worst.frames), WORST)
    return [
        (
            "stages",
            "Where the time goes",
            "Each stage's share of end to end: in all frames, in the middle fifth and in the "
            "slowest 1 %. A stage that grows from the middle to the slowest makes frames slow.",
            3.6,
            lambda ax: plot.stages(profile, ax=ax),
        ),
        (
            "histogram",
            "How long frames take",
            "A row for each stage, time on a logarithmic axis, p50 and p99 marked. Two peaks in a "
            "row point to two kinds of frames.",
            max(3.2, 0.62 * count + 0.8),
            lambda ax: plot.histogram(profile, ax=ax, thresholds=limits),
        ),
        (
            "percentiles",
            "How slow the slowest frames are",
            "End to end by percentile: each step to the right leaves a tenth of the frames. The "
            "band is the 95 % confidence interval; where the line is thin there is none.",
            3.8,
            lambda ax: plot.percentiles(profile, ax=ax, thresholds=limits),
        ),
        (
            "timeline",
            "When frames were slow",
            "Median, p99 and maximum of end to end by window of time; times without frames are "
            "shaded.",
            3.6,
            lambda ax: plot.timeline(profile, ax=ax, threshold=limits[-1] if limits else None),
        ),
        (
            "waterfall",
            "What the slowest frames waited for",
            "The slowest frames from mark to mark, each from its own start. Waiting is hatched.",
            1.6 + 0.24 * max(worst, 4),
            lambda ax: plot.waterfall(profile, ax=ax, n=WORST, blame=blame),
        ),
    ]


def _blame(profile: Profile) -> "pd.DataFrame | None":
    """Return what each hand-off waits for, as shares of its time, or None if it is not known."""
    import pandas as pd

    # a stage of that name would share the column of the time that hand-offs take by themselves
    if profile.cause_sums is None or any(
        stage.name == SELF_TIME for stage in profile.pipeline.stages
    ):
        return None
    try:
        found = profile.causes
    except ProfileError:
        return None
    shares: dict[str, dict[str, float]] = {}
    for handoff, paths in found.waits.items():
        total = found.total.get(handoff)
        if not total:
            continue
        row = shares.setdefault(handoff, {})
        for path, ns in paths.items():
            row[path[0]] = row.get(path[0], 0.0) + ns / total
        row[SELF_TIME] = 1 - sum(row.values())
    return pd.DataFrame.from_dict(shares, orient="index").fillna(0.0) if shares else None


def _drawn(
    name: str, height: float, paint: "Callable[[Axes], object]", shapes: dict[str, str]
) -> "Markup":
    from markupsafe import Markup
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # a figure without pyplot, which would look for a display
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        # a name in characters that the font lacks: the browser has them
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        axes = figure.add_subplot()
        paint(axes)
        axes.set_title("")  # the page has one above the picture
        svg = inline(svg_of(figure), name, shapes)
    # parsed and written again from what matplotlib wrote, which escapes names
    return Markup(svg)
