"""Differences between sets of runs by percentile; a statistic over many runs, or of many hosts."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from latprof.colors import PALETTE
from latprof.comparing.fleet import FASTER, NOT_JUDGED, SLOWER, USUAL
from latprof.errors import ProfileError
from latprof.fold.intervals import Z_95
from latprof.plot.axes import (
    THRESHOLD,
    explain,
    label,
    legend,
    log_time,
    new_axes,
    note,
    row_labels,
    span_styles,
    text_color,
    unit_of,
)
from latprof.plot.cumulative import percentile_axis
from latprof.plot.results import check_result
from latprof.text import counted, quoted
from latprof.units import format_change, format_ns

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from latprof.comparing.comparison import Comparison
    from latprof.comparing.fleet import Fleet, HostResult
    from latprof.comparing.trend import Trend

__all__ = ["MOST_HOSTS", "compare", "fleet", "fleet_height", "trend"]

VALUES = ("ratio", "contributions")

MOST_HOSTS = 60
"""Most hosts that have a row in a picture: those that deviate most."""

# marker, colour and size of a host
_HOSTS = {
    SLOWER: (">", THRESHOLD, 7),
    FASTER: ("<", THRESHOLD, 7),
    USUAL: ("o", PALETTE[0], 4.5),
    NOT_JUDGED: ("o", "#757575", 4.5),
}


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
        Names of one or several spans, or None for the stages and end_to_end. Used by ``"ratio"``
        only.
    ax
        Where to draw; by default a new figure.
    value
        ``"ratio"``: the change in percent by percentile, with its interval as a band.
        ``"contributions"``: the mean time of each stage before and after, and what it adds.

    Raises
    ------
    ProfileError
        `result` is something else, or a span or `value` is unknown.
    """
    check_result(result, ["contributions"], "latprof.compare")
    if value not in VALUES:
        raise ProfileError(f"value must be one of {', '.join(VALUES)}, got {quoted(value)}")
    ax = new_axes(ax)
    return _ratios(result, spans, ax) if value == "ratio" else _contributions(result, ax)


def _ratios(result: "Comparison", spans: str | Sequence[str] | None, ax: "Axes") -> "Axes":
    """Draw the change by percentile."""
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
    """Draw what each stage adds to the mean."""
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
    """Draw a statistic over runs, with the interval of each run, and the changes.

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
    check_result(result, ["points"], "latprof.trend")
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


def fleet(result: "Fleet", *, ax: "Axes | None" = None) -> "Axes":
    """Draw a statistic by host, with intervals, and mark the hosts that differ.

    The slowest host is at the top. Of more than 60 hosts, those that deviate most have a row, and
    the last row is the range of the others.

    Parameters
    ----------
    result
        From `latprof.fleet`.
    ax
        Where to draw; by default a new figure.

    Raises
    ------
    ProfileError
        `result` is something else.
    """
    check_result(result, ["differing"], "latprof.fleet")
    ax = new_axes(ax, fleet_height(result))
    known = [each for each in result.hosts if each.value]
    if not known:
        return explain(ax, "no host has a value above 0")
    # hosts that are not judged are below the others
    drawn = sorted(
        known[:MOST_HOSTS], key=lambda each: (each.verdict == NOT_JUDGED, -(each.value or 0))
    )
    others = known[MOST_HOSTS:]
    low, high = _reach(known)
    log_time(ax.xaxis, low, high)
    if result.typical is not None and result.spread is not None:
        usual = math.exp(Z_95 * result.spread)
        ax.axvspan(
            result.typical / usual, result.typical * usual, color=text_color(), alpha=0.07, lw=0
        )
        ax.axvline(result.typical, color=text_color(0.6), lw=0.8)
    for row, each in enumerate(drawn):
        _host(ax, row, each)
    names = [label(each.host) for each in drawn]
    if others:
        judged = [each for each in others if each.verdict != NOT_JUDGED]
        values = [each.value or 0 for each in judged or others]
        ax.plot([min(values), max(values)], [len(drawn)] * 2, color=text_color(0.6), lw=4)
        names.append(counted(len(others), "other host"))
    size, step = row_labels(ax, len(names))
    rows = [
        row
        for row in range(len(names))
        if row % step == 0 or row == len(drawn) or drawn[row].verdict in (SLOWER, FASTER)
    ]
    ax.set_yticks(rows, [names[row] for row in rows], fontsize=size)
    for row, text in zip(rows, ax.get_yticklabels(), strict=True):
        if row < len(drawn) and drawn[row].verdict in (SLOWER, FASTER):
            text.set_fontweight("bold")
    ax.set_ylim(len(names) - 0.4, -0.6)
    span, statistic = result.key
    ax.set_xlabel(statistic)
    count = f"{counted(len(result.hosts), 'host')}, none judged"
    if result.typical is not None:
        differing = len(result.differing)
        count = f"{counted(len(result.hosts), 'host')}, {differing:,} "
        count += f"{'differs' if differing == 1 else 'differ'}; typical {format_ns(result.typical)}"
    ax.set_title(f"{label(span)} {statistic}: {count}", loc="left")
    legend(ax, _legend_of_hosts({each.verdict for each in drawn}))
    return ax


def fleet_height(result: "Fleet") -> float:
    """Return the height in inches that the picture of a fleet needs."""
    return 1.5 + 0.2 * max(min(len(result.hosts), MOST_HOSTS + 1), 8)


def _reach(hosts: "Sequence[HostResult]") -> tuple[float, float]:
    """Return the limits of the axis: those of all values and intervals, and a little more."""
    lows = [each.low or each.value or 1.0 for each in hosts]
    highs = [each.high or each.value or 1.0 for each in hosts]
    low, high = min(lows), max(highs)
    more = max((high / low) ** 0.04, 1.01)
    return low / more, high * more**2  # on the right are the numbers of hosts that differ


def _host(ax: "Axes", row: int, each: "HostResult") -> None:
    """Draw the value of a host and its interval."""
    marker, color, size = _HOSTS[each.verdict]
    value, judged = each.value or 0.0, each.verdict != NOT_JUDGED
    if each.low and each.high:
        ax.plot([each.low, each.high], [row, row], color=color, lw=1.4, alpha=0.7)
    ax.plot([value], [row], marker, ms=size, color=color, mfc=color if judged else "none")
    if each.verdict in (SLOWER, FASTER) and each.ratio is not None:
        note(
            ax,
            format_change(each.ratio),
            (each.high or value, row),
            (6, 0),
            color=THRESHOLD,
            va="center",
        )


def _legend_of_hosts(verdicts: set[str]) -> list[Any]:
    """Return a handle for each verdict that is drawn."""
    from matplotlib.lines import Line2D

    return [
        Line2D(
            [],
            [],
            marker=marker,
            color=color,
            ms=size,
            mfc="none" if verdict == NOT_JUDGED else color,
            lw=1.4,
            label=verdict,
        )
        for verdict, (marker, color, size) in _HOSTS.items()
        if verdict in verdicts
    ]
