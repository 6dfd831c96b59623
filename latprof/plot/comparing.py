"""Differences between sets of runs by percentile, and a statistic over many runs."""

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from latprof.errors import ProfileError
from latprof.plot.axes import (
    THRESHOLD,
    explain,
    label,
    legend,
    new_axes,
    note,
    span_styles,
    text_color,
    unit_of,
)
from latprof.plot.cumulative import percentile_axis
from latprof.table import PALETTE
from latprof.text import counted, quoted

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from latprof.comparing.comparison import Comparison
    from latprof.comparing.trend import Trend

__all__ = ["compare", "trend"]

VALUES = ("ratio", "contributions")


def compare(
    result: "Comparison",
    spans: str | Sequence[str] | None = "end_to_end",
    *,
    ax: "Axes | None" = None,
    value: str = "ratio",
) -> "Axes":
    """Draw how much slower or faster head is than base.

    Parameters
    ----------
    result
        From `latprof.compare`.
    spans
        Names of one or several spans, or None for the stages and end_to_end; with ``"ratio"``.
    ax
        Where to draw; by default a new figure.
    value
        ``"ratio"``: the change in percent by percentile, with its interval as a band.
        ``"contributions"``: the mean time of each stage before and after, and what it adds.

    Raises
    ------
    ProfileError
        `result` is something else, a span is unknown, or `value` is.
    """
    if not hasattr(result, "contributions"):
        raise ProfileError(f"result must be of latprof.compare, got {type(result).__name__}")
    if value not in VALUES:
        raise ProfileError(f"value must be one of {', '.join(VALUES)}, got {quoted(value)}")
    ax = new_axes(ax)
    return _ratios(result, spans, ax) if value == "ratio" else _contributions(result, ax)


def _ratios(result: "Comparison", spans: str | Sequence[str] | None, ax: "Axes") -> "Axes":
    pipeline = result.base[0].profile.pipeline
    if spans is None:
        names = [*(stage.name for stage in pipeline.stages), "end_to_end"]
    else:
        names = [spans] if isinstance(spans, str) else list(spans)
    styles, fewest, handles, reach = span_styles(pipeline), 0.1, [], 2 * result.margin * 100
    for name in names:
        curve = result.curve(name)
        if not len(curve.q):
            continue
        rest = 1 - curve.q / 100
        fewest = min(fewest, rest[-1])
        style = styles[name]
        handles += ax.plot(
            rest,
            (curve.ratio - 1) * 100,
            color=style.color,
            ls=style.dash,
            lw=1.8,
            label=label(name),
        )
        low, high = ((each - 1) * 100 for each in (curve.low, curve.high))
        reach = max(reach, 2.5 * float(np.abs(curve.ratio - 1).max()) * 100)
        ax.fill_between(rest, low, high, color=style.color, alpha=0.22, lw=0)
    if not handles:
        return explain(ax, "no span has a value above 0 in all runs")
    margin = result.margin * 100
    ax.axhspan(-margin, margin, color=text_color(), alpha=0.07, lw=0)
    ax.axhline(0, color=text_color(0.6), lw=0.8)
    percentile_axis(ax, fewest)
    # a wide band of few runs must not flatten the lines
    bottom, top = ax.get_ylim()
    ax.set_ylim(max(bottom, -reach), min(top, reach))
    ax.set_ylabel("change in %")
    unit = counted(len(result.base), "pair" if result.paired else "run")
    ax.set_title(f"{label(pipeline.name).strip()}: head against base, {unit}", loc="left")
    if len(handles) > 1:
        legend(ax, handles)
    along = ax.get_yaxis_transform()
    note(ax, f"within {margin:g} %: the same", (0, margin), (4, 3), xycoords=along)
    return ax


def _contributions(result: "Comparison", ax: "Axes") -> "Axes":
    parts = result.contributions()
    pipeline = result.base[0].profile.pipeline
    styles = span_styles(pipeline)
    names = list(parts)
    values = np.array([parts[name] for name in names]) / 1e6
    rows = np.arange(len(names))
    bars = ax.barh(rows, values, height=0.62, color=[styles[name].color for name in names])
    for bar, name in zip(bars, names, strict=True):
        bar.set_hatch(styles[name].hatch)
    ax.axvline(0, color=text_color(0.6), lw=0.8)
    ax.set_yticks(rows, [label(name) for name in names])
    ax.invert_yaxis()
    ax.set_xlabel("change of the mean in ms")
    ax.set_title(f"{label(pipeline.name).strip()}: where end to end changed", loc="left")
    for row, each in zip(rows, values, strict=True):
        ax.annotate(
            f" {each:+.3g} ",
            (each, row),
            va="center",
            ha="left" if each >= 0 else "right",
            fontsize="small",
        )
    ax.margins(x=0.18)
    return ax


def trend(result: "Trend", *, ax: "Axes | None" = None) -> "Axes":
    """Draw a statistic over runs, with the runs' own intervals and the changes.

    Parameters
    ----------
    result
        From `latprof.trend`.
    ax
        Where to draw; by default a new figure.

    Raises
    ------
    ProfileError
        `result` is something else.
    """
    if not hasattr(result, "points"):
        raise ProfileError(f"result must be of latprof.trend, got {type(result).__name__}")
    ax = new_axes(ax)
    points, color = result.points, PALETTE[0]
    values = np.array([point.value for point in points])
    unit, scale = unit_of(float(values.max())) if result.is_time else ("", 1.0)
    for i, point in enumerate(points):
        if point.low is not None and point.high is not None:
            ends = [point.low / scale, point.high / scale]
            ax.plot([i, i], ends, color=color, lw=1.2, alpha=0.5)
    ax.plot(np.arange(len(points)), values / scale, "o", ms=4, color=color)
    edges = [0, *(change.index for change in result.changes), len(points)]
    for (begin, end), mean in zip(pairwise(edges), result.levels, strict=True):
        ax.plot([begin - 0.4, end - 0.6], [mean / scale] * 2, color=text_color(0.7), lw=1.5)
    across = ax.get_xaxis_transform()
    for change in result.changes:
        at = change.index - 0.5
        ax.axvline(at, color=THRESHOLD, lw=1.2, ls="--")
        text = f"{change.ratio - 1:+.1%}"
        note(ax, text, (at, 1), (4, -4), xycoords=across, color=THRESHOLD, va="top")
    ax.margins(y=0.25)
    ax.locator_params(axis="x", integer=True)
    ax.set_xlabel("run, in order of time")
    span, statistic = result.key
    ax.set_ylabel(f"{statistic} in {unit}" if unit else statistic)
    changes = counted(len(result.changes), "change")
    ax.set_title(f"{label(span)} {statistic}: {counted(len(points), 'run')}, {changes}", loc="left")
    return ax
