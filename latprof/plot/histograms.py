"""Histograms: how many frames took how long."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from latprof.arrays import Floats
from latprof.errors import ProfileError
from latprof.histogram import Histogram, rank_of
from latprof.plot.axes import axes_of, explain, ink, label, legend, log_time, paper
from latprof.plot.results import (
    Named,
    Results,
    durations,
    heading,
    legend_name,
    nothing,
    several,
    spans_of,
)
from latprof.plot.style import LIMIT, Look, looks, result_dash
from latprof.profile.span import SpanProfile
from latprof.text import counted
from latprof.units import format_ns

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

__all__ = ["histogram"]

Edges = Floats
Drawn = list[tuple[str, SpanProfile]]

_TALL = 0.6  # of a lane's height, the rest is for names
_CROWD = 10  # lanes from which on there is no room for names in them
_OVER = 3  # results of one span that can be told apart when they lie over each other
_NEAR = 0.08  # of the width: names of percentiles that are closer than this would meet


def histogram(
    result: Results,
    spans: str | Sequence[str] | None = None,
    *,
    ax: "Axes | None" = None,
    bins: int | Sequence[str | int] = 120,
    percentiles: Sequence[float] = (50, 99),
    thresholds: Sequence[str | int] = (),
    overlaid: bool = False,
) -> "Axes":
    """Draw how many frames took how long, on a logarithmic axis of time.

    Parameters
    ----------
    result
        A profile or trace; several of them, or several by name (``profile.groups``), are drawn
        over each other, told apart by their lines; more than three of one span in a lane each.
    spans
        A span's name, for a histogram with its counts; or several, for a lane each, as high as
        its fullest bin. By default the stages and end_to_end.
    ax
        Where to draw; by default on a figure of its own.
    bins
        Number of bins over the whole width; all values fall into one of them. Or the edges of
        the bins, ascending, as ``"1ms"`` or integer ns: what is beyond them is counted at the
        edge of the picture.
    percentiles
        Percentiles to be marked.
    thresholds
        Durations to be drawn as lines, as ``"50ms"`` or integer ns.
    overlaid
        Draw several spans, or many results, over each other, not in lanes.

    Raises
    ------
    ProfileError
        No such span, fewer than one bin, edges that do not ascend, no percentile, no threshold.
    """
    limits = durations(thresholds)
    given = _edges_given(bins)
    for q in percentiles:
        rank_of(q, 1)
    named = several(result)
    names = spans_of(named, spans)
    drawn = {
        name: filled
        for name in names
        if (filled := [(key, p[name]) for key, p in named if p[name].count])
    }
    each_result = len(drawn) == 1 and not overlaid and len(next(iter(drawn.values()))) > _OVER
    lanes = max(len(drawn), len(named) if each_result else 1)
    ax = axes_of(ax, 4.5 if lanes < 8 or overlaid else 1.5 + 0.5 * lanes)
    if not drawn:
        return explain(ax, nothing(named, names))
    edges = given
    if edges is None:
        each = [span for filled in drawn.values() for _, span in filled]
        edges = _log_edges(each, [limit for limit in limits if limit > 0], bins)
    log_time(ax.xaxis, max(edges[0], 0.5), edges[-1])
    ax.set_xlabel("latency")
    ax.set_title(heading(named))
    shades = looks(named[0][1].pipeline)
    if each_result:
        name, filled = next(iter(drawn.items()))
        ax.set_title(f"{heading(named)}, {label(name)}")
        by_result = {key: [(key, span)] for key, span in filled}
        _lanes(ax, by_result, edges, dict.fromkeys(by_result, shades[name]), percentiles)
    elif len(drawn) == 1 or overlaid:
        _overlay(ax, drawn, edges, shades, percentiles)
    else:
        _lanes(ax, drawn, edges, shades, percentiles)
    in_lanes = each_result or (len(drawn) > 1 and not overlaid)
    if in_lanes and limits:
        # a line for each above the lanes
        low, high = ax.get_ylim()
        ax.set_ylim(low, high + 0.05 * len(limits) * (high - low))
    for i, limit in enumerate(limits):
        ax.axvline(max(limit, 1), color=LIMIT, lw=1.3, ls=(0, (6, 2)))
        line = i if in_lanes else i + len(percentiles)
        _note(ax, max(limit, 1), format_ns(limit), LIMIT, line=line)
    if (len(named) > 1 and not each_result) or (overlaid and len(drawn) > 1):
        legend(ax, _handles(named, drawn, shades, overlaid=overlaid))
    return ax


def _handles(
    named: Named, drawn: dict[str, Drawn], shades: dict[str, Look], *, overlaid: bool
) -> "list[Line2D]":
    from matplotlib.lines import Line2D

    made = []
    if overlaid and len(drawn) > 1:
        made += [
            Line2D([], [], color=shades[name].color, ls=shades[name].dash, label=label(name), lw=2)
            for name in drawn
        ]
    if len(named) > 1:
        made += [
            Line2D([], [], color=ink(), ls=result_dash(i), label=legend_name(key, p, len(named)))
            for i, (key, p) in enumerate(named)
        ]
    return made


def _overlay(
    ax: "Axes",
    drawn: dict[str, Drawn],
    edges: Edges,
    shades: dict[str, Look],
    percentiles: Sequence[float],
) -> None:
    from matplotlib.ticker import MaxNLocator

    ax.set_ylabel("frames per bin")
    if len(drawn) == 1:
        ax.set_title(f"{ax.get_title()}, {label(next(iter(drawn)))}")
    highest, beyond = 0.0, []
    alone = sum(map(len, drawn.values())) == 1
    for name, filled in drawn.items():
        for i, (_, span) in enumerate(filled):
            counts, over = _rebin(span.histogram, edges)
            highest = max(highest, counts.max())
            beyond.append(over)
            look = shades[name]
            if i == 0:
                area = ax.stairs(counts, edges, fill=True, color=look.color, alpha=0.35, lw=0)
                area.set_hatch(look.hatch)
            dash = look.dash if len(filled) == 1 else result_dash(i)
            ax.stairs(counts, edges, color=look.color, lw=1.5, ls=dash, label=label(name))
    ax.set_ylim(0, max(highest, 1) * 1.35)
    # frames are whole
    ax.yaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 2.5, 5, 10]))
    ax.yaxis.set_major_formatter(lambda count, _: f"{count:,.0f}")
    _tell_beyond(ax, [sum(part) for part in zip(*beyond, strict=True)], edges)
    if not alone:
        return
    _, span = next(iter(drawn.values()))[0]
    for i, q in enumerate(percentiles):
        value = span.percentile(q).value
        if value is not None:
            ax.axvline(max(value, 1), color=ink(0.6), lw=1, ls=":")
            _note(ax, max(value, 1), f"p{q:g} {format_ns(value)}", ink(0.85), line=i)


def _lanes(
    ax: "Axes",
    drawn: dict[str, Drawn],
    edges: Edges,
    shades: dict[str, Look],
    percentiles: Sequence[float],
) -> None:
    """Draw a lane for each span, each as high as its fullest bin, the first one on top."""
    roomy = len(drawn) < _CROWD
    size = "small" if roomy else "x-small"
    lines, beyond = [], []
    for place, (name, filled) in enumerate(drawn.items()):
        base, look = len(drawn) - 1 - place, shades[name]
        ax.axhline(base, color=ink(0.35), lw=0.6)
        for i, (_, span) in enumerate(filled):
            counts, over = _rebin(span.histogram, edges)
            beyond.append(over)
            heights = base + _TALL * counts / max(counts.max(), 1)
            if i == 0:
                area = ax.stairs(
                    heights, edges, baseline=base, fill=True, color=look.color, alpha=0.5, lw=0
                )
                area.set_hatch(look.hatch)
            dash = "-" if len(filled) == 1 else result_dash(i)
            ax.stairs(heights, edges, baseline=base, color=look.color, lw=1.3, ls=dash, label=name)
        if len(filled) == 1:
            values = [filled[0][1].percentile(q).value for q in percentiles]
            marks = [(q, v) for q, v in zip(percentiles, values, strict=True) if v is not None]
            _mark(ax, sorted(marks), base, named=roomy)
        mean = " / ".join(format_ns(span.mean) for _, span in filled[:2])
        more = " ..." if len(filled) > 2 else ""
        lines.append(f"{label(name)}\nmean {mean}{more}" if roomy else label(name))
    ax.set_yticks([i + 0.3 for i in range(len(drawn))], lines[::-1], fontsize=size)
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(-0.1, len(drawn) + 0.05)
    if percentiles and not roomy:
        ax.set_xlabel(f"latency, with marks at {', '.join(f'p{q:g}' for q in percentiles)}")
    _tell_beyond(ax, [max(part) for part in zip(*beyond, strict=True)], edges)


def _mark(ax: "Axes", marks: list[tuple[float, int]], base: int, *, named: bool) -> None:
    """Mark percentiles by ticks on a lane, named above its shape, where no ink is."""
    low, high = np.log(ax.get_xlim())
    places = [(np.log(max(value, 1)) - low) / (high - low) for _, value in marks]
    for i, (q, value) in enumerate(marks):
        x = max(value, 1)
        ax.plot([x, x], [base, base + _TALL + 0.03], color=ink(0.75), lw=1)
        # names that would meet are written away from each other, of more only the outer ones
        left = i > 0 and places[i] - places[i - 1] < _NEAR
        right = i + 1 < len(places) and places[i + 1] - places[i] < _NEAR
        if not named or (left and right):
            continue
        side = "right" if right or places[i] > 0.97 else "left" if left else "center"
        ax.annotate(
            f"p{q:g}",
            (x, base + _TALL + 0.04),
            ({"left": 2, "right": -2, "center": 0}[side], 0),
            textcoords="offset points",
            fontsize="x-small",
            color=ink(0.85),
            va="bottom",
            ha=side,
            annotation_clip=True,
        )


def _tell_beyond(ax: "Axes", beyond: list[int], edges: Edges) -> None:
    """Say how many frames are outside of edges that were given."""
    under, over = beyond
    for count, x, side, arrow in ((under, 0.005, "left", "< "), (over, 0.995, "right", "> ")):
        if count:
            edge = format_ns(edges[0] if side == "left" else edges[-1])
            ax.text(
                x,
                0.02,
                f"{counted(count, 'frame')} {arrow}{edge}",
                transform=ax.transAxes,
                ha=side,
                fontsize="small",
                color=LIMIT,
                bbox={"facecolor": paper(ax), "edgecolor": "none", "alpha": 0.8, "pad": 1},
            )


def _note(ax: "Axes", x: float, text: str, color: str | tuple[float, ...], *, line: int) -> None:
    # written towards the side on which there is room, each on a line of its own
    low, high = ax.get_xlim()
    right = x * x > low * high
    ax.annotate(
        text,
        (x, 1),
        (-3 if right else 3, -4 - 11 * line),
        xycoords=ax.get_xaxis_transform(),
        textcoords="offset points",
        fontsize="small",
        color=color,
        va="top",
        ha="right" if right else "left",
        annotation_clip=True,
        # the line of another one does not run through it
        bbox={"facecolor": paper(ax), "edgecolor": "none", "alpha": 0.8, "pad": 0.5},
        zorder=4,
    )


def _edges_given(bins: int | Sequence[str | int]) -> Edges | None:
    """Return the edges that a caller gives; None for a number of bins."""
    if isinstance(bins, int | np.integer):
        if bins < 1:
            raise ProfileError(f"bins={bins}: a histogram has at least one bin")
        return None
    if isinstance(bins, str) or not isinstance(bins, Sequence | np.ndarray):
        raise ProfileError(f"bins={bins!r}: give a number of bins, or their edges")
    edges = np.array(durations(bins, "edge of a bin"), np.float64)
    if len(edges) < 2 or not (np.diff(edges) > 0).all():
        raise ProfileError(f"bins={list(bins)}: give at least two edges, each above the one before")
    if edges[0] == 0:
        edges[0] = 0.5  # 0 has no logarithm: as the bin of 1 ns
    return edges


def _log_edges(spans: list[SpanProfile], limits: list[int], bins: object) -> Edges:
    # 0 has no logarithm: it is drawn in the bin of 1 ns
    assert isinstance(bins, int | np.integer)
    low = min([max(span.min or 1, 1) for span in spans] + limits)
    high = max([max(span.max or 1, 1) for span in spans] + limits)
    # room for the name of a percentile beside the slowest
    room = max(1.4, (high / low) ** 0.08)
    return np.geomspace(low / 1.15, high * room, int(bins) + 1)


def _rebin(histogram: Histogram, edges: Edges) -> tuple[Edges, tuple[int, int]]:
    """Return the counts (bins,) between edges, and how many values lie below and above them."""
    axis, counts = histogram.axes[0], histogram.values()
    # a bin counts where its middle is; the first and the last one where the extremes are
    middles = (axis.edges[:-1] + axis.edges[1:]) / 2
    if histogram.min is not None and histogram.max is not None:
        middles = np.clip(middles, max(histogram.min, 1), max(histogram.max, 1))
    inside = np.histogram(middles, edges, weights=counts)[0]
    below = int(counts[middles < edges[0]].sum())
    return inside, (below, int(counts[middles > edges[-1]].sum()))
