"""Histograms: how many frames took how long."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from latprof.arrays import Floats
from latprof.errors import ProfileError
from latprof.histogram import Histogram, rank_of
from latprof.plot.axes import (
    THRESHOLD,
    SpanStyle,
    draw_threshold,
    explain,
    label,
    legend,
    log_time,
    new_axes,
    note,
    note_at_top,
    result_colors,
    result_dash,
    span_styles,
    text_color,
)
from latprof.plot.results import (
    Results,
    as_profiles,
    durations,
    heading,
    legend_lines,
    no_values,
    spans_of,
)
from latprof.profile.span import SpanProfile
from latprof.text import counted, quoted
from latprof.units import format_ns

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.transforms import Transform

__all__ = ["histogram"]

_LANE = 0.6  # part of a lane's height that its histogram takes; the rest is for names
_VISIBLE = 0.03  # least height of a bin with frames, as a part of its histogram's height
_CROWDED = 10  # with this many lanes or more, percentiles have no names
_OVERLAID = 3  # most results of one span that are drawn over each other
LARGEST_RATIO = 1_000
"""Counts of bins are drawn on a logarithmic scale if they differ by this factor or more."""

_NEAR = 0.08  # part of the width; names of percentiles that are nearer would overlap


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
        A profile or trace, or the path of one. Several, in a sequence or by name
        (``profile.groups``), are drawn over each other with different dashes; more than three
        results of one span have a lane each.
    spans
        One name, for a histogram with its counts; or several names, for a lane each. A lane is
        scaled to its fullest bin. By default the stages and end_to_end.
    ax
        Where to draw; by default a new figure.
    bins
        Number of bins; or the edges of the bins, ascending, as ``"1ms"`` or integer ns. The numbers
        of values outside the edges are written at the sides of the picture.
    percentiles
        Percentiles to mark.
    thresholds
        Durations that are drawn as lines, as ``"50ms"`` or integer ns.
    overlaid
        Draw several spans, or many results, over each other instead of in lanes.

    Raises
    ------
    ProfileError
        A span is unknown, `bins` is below 1, edges do not ascend, or a percentile or threshold is
        invalid.
    """
    limits = durations(thresholds)
    edges = _edges_given(bins)
    for q in percentiles:
        rank_of(q, 1)
    named = as_profiles(result)
    names = spans_of(named, spans)
    drawn = {
        name: values
        for name in names
        if (values := [(key, p[name]) for key, p in named if p[name].count])
    }
    by_result = len(drawn) == 1 and not overlaid and len(next(iter(drawn.values()))) > _OVERLAID
    count = max(len(drawn), len(named) if by_result else 1)
    ax = new_axes(ax, 4.5 if count < 8 or overlaid else 1.5 + 0.5 * count)
    if not drawn:
        return explain(ax, no_values(named, names))
    lanes = {name: [span for _, span in values] for name, values in drawn.items()}
    if edges is None:
        given = [limit for limit in limits if limit > 0]
        edges = _log_edges([span for lane in lanes.values() for span in lane], given, int(bins))  # type: ignore[arg-type]
    log_time(ax.xaxis, max(edges[0], 0.5), edges[-1])
    ax.set_xlabel("latency")
    ax.set_title(heading(named, next(iter(drawn)) if len(drawn) == 1 else ""))
    all_styles = span_styles(named[0][1].pipeline)
    styles = {name: all_styles[name] for name in drawn}
    if by_result:
        ((name, values),) = drawn.items()
        lanes = {key: [span] for key, span in values}
        colors = result_colors(len(lanes))
        styles = {
            key: replace(styles[name], color=color)
            for key, color in zip(lanes, colors, strict=True)
        }
    in_lanes = by_result or (len(drawn) > 1 and not overlaid)
    if in_lanes:
        _draw_lanes(ax, lanes, edges, styles, percentiles)
        # a line of text for each threshold, above the lanes
        low, high = ax.get_ylim()
        ax.set_ylim(low, high + 0.05 * len(limits) * (high - low))
    else:
        _draw_overlaid(ax, lanes, edges, styles, percentiles)
    for i, limit in enumerate(limits):
        draw_threshold(ax, limit, "top", line=i if in_lanes else i + len(percentiles))
    if not by_result:
        legend(ax, legend_lines(named, styles if overlaid else {}))
    return ax


def _draw_overlaid(
    ax: "Axes",
    lanes: Mapping[str, list[SpanProfile]],
    edges: Floats,
    styles: Mapping[str, SpanStyle],
    percentiles: Sequence[float],
) -> None:
    """Draw all histograms from the same base line, with their counts."""
    from matplotlib.ticker import MaxNLocator

    ax.set_ylabel("frames per bin")
    highest, least, zeros, outside = 0.0, np.inf, 0, []
    for name, values in lanes.items():
        for i, span in enumerate(values):
            counts, below_and_above = _rebin(span.histogram, edges)
            zeros += _zeros(span)
            highest = max(highest, counts.max())
            least = min(least, counts[counts > 0].min(initial=np.inf))
            outside.append(below_and_above)
            style = _style(styles[name], i, len(values))
            _draw(ax, counts, edges, style, fill=0.35 if i == 0 else 0.12)
    if highest >= LARGEST_RATIO * least:
        # otherwise single frames would be invisible
        ax.set_yscale("log")
        ax.set_ylim(0.5, highest**1.35)
    else:
        ax.set_ylim(0, max(highest, 1) * 1.35)
        # numbers of frames are integers
        ax.yaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 2.5, 5, 10]))
    ax.yaxis.set_major_formatter(lambda count, _: f"{count:,.0f}")
    _write_outside(ax, [sum(part) for part in zip(*outside, strict=True)], edges)
    _write_zeros(ax, zeros, 0.12, ax.transAxes)
    if len(outside) == 1:
        (span,) = next(iter(lanes.values()))
        for i, q in enumerate(percentiles):
            value = span.percentile(q).value
            if value is not None:
                at = max(value, 1)
                ax.axvline(at, color=text_color(0.6), lw=1, ls=":")
                note_at_top(ax, at, f"p{q:g} {format_ns(value)}", text_color(0.85), line=i)


def _draw_lanes(
    ax: "Axes",
    lanes: Mapping[str, list[SpanProfile]],
    edges: Floats,
    styles: Mapping[str, SpanStyle],
    percentiles: Sequence[float],
) -> None:
    """Draw a lane for each name, scaled to its fullest bin, the first one on top.

    Lanes with logarithmic counts have "(log)" behind their names.
    """
    roomy = len(lanes) < _CROWDED
    labels, outside = [], []
    for place, (name, values) in enumerate(lanes.items()):
        base = len(lanes) - 1 - place
        ax.axhline(base, color=text_color(0.35), lw=0.6)
        counted_bins = []
        _write_zeros(ax, max(map(_zeros, values)), base + _LANE / 4, ax.get_yaxis_transform())
        for i, span in enumerate(values):
            counts, below_and_above = _rebin(span.histogram, edges)
            counted_bins.append(counts)
            outside.append(below_and_above)
            heights = base + _LANE * _lane_heights(counts)
            style = _style(styles[name], i, len(values))
            _draw(ax, heights, edges, style, fill=0.5 if i == 0 else 0.12, base=base)
        if len(values) == 1:
            found = [(q, values[0].percentile(q).value) for q in percentiles]
            marks = [(q, value) for q, value in found if value is not None]
            _mark(ax, sorted(marks), base, named=roomy)
        title = f"{label(name)} (log)" if any(map(_is_uneven, counted_bins)) else label(name)
        mean = " / ".join(format_ns(span.mean) for span in values[:2])
        more = " ..." if len(values) > 2 else ""
        labels.append(f"{title}\nmean {mean}{more}" if roomy else title)
    size = "small" if roomy else "x-small"
    ax.set_yticks([i + 0.3 for i in range(len(lanes))], labels[::-1], fontsize=size)
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(-0.1, len(lanes) + 0.05)
    if percentiles and not roomy:
        ax.set_xlabel(f"latency, with marks at {', '.join(f'p{q:g}' for q in percentiles)}")
    _write_outside(ax, [max(part) for part in zip(*outside, strict=True)], edges)


def _style(style: SpanStyle, i: int, count: int) -> SpanStyle:
    """Return the style of a span of result `i` of `count`: another colour, the same hatch."""
    if count == 1:
        return style
    return replace(style, color=result_colors(count)[i], dash=result_dash(i))


def _is_uneven(counts: Floats) -> bool:
    """Return whether counts differ so much that single frames would be invisible."""
    return bool(counts.max() >= LARGEST_RATIO * counts[counts > 0].min(initial=np.inf))


def _lane_heights(counts: Floats) -> Floats:
    """Return heights (k,) from 0 to 1: logarithmic if single frames would be invisible.

    A bin with frames is at least `_VISIBLE` high.
    """
    if _is_uneven(counts):
        least = counts[counts > 0].min()
        counts = np.where(counts > 0, np.log10(np.maximum(counts / least, 1)) + 0.3, 0)
    heights = counts / max(counts.max(), 1e-9)
    return np.where(counts > 0, np.maximum(heights, _VISIBLE), 0)


def _zeros(span: SpanProfile) -> int:
    """Return how many values are 0."""
    return int(span.histogram.bins[0]) if len(span.histogram.bins) and span.min == 0 else 0


def _draw(
    ax: "Axes",
    heights: Floats,
    edges: Floats,
    style: SpanStyle,
    *,
    fill: float,
    base: float = 0,
) -> None:
    """Draw the outline of a histogram, and its area if `fill`, the opacity, is not 0."""
    if fill:
        area = ax.stairs(
            heights, edges, baseline=base, fill=True, color=style.color, alpha=fill, lw=0
        )
        area.set_hatch(style.hatch)
    ax.stairs(heights, edges, baseline=base, color=style.color, lw=1.4, ls=style.dash)


def _mark(ax: "Axes", marks: list[tuple[float, int]], base: int, *, named: bool) -> None:
    """Mark percentiles on a lane, with their names above the histogram."""
    low, high = np.log(ax.get_xlim())
    places = [(np.log(max(value, 1)) - low) / (high - low) for _, value in marks]
    for i, (q, value) in enumerate(marks):
        x = max(value, 1)
        ax.plot([x, x], [base, base + _LANE + 0.03], color=text_color(0.75), lw=1)
        # two names that would overlap are moved apart; of more, only the outer ones are written
        left = i > 0 and places[i] - places[i - 1] < _NEAR
        right = i + 1 < len(places) and places[i + 1] - places[i] < _NEAR
        if not named or (left and right):
            continue
        side = "right" if right or places[i] > 0.97 else "left" if left else "center"
        shift = {"left": 2, "right": -2, "center": 0}[side]
        at = (x, base + _LANE + 0.04)
        note(ax, f"p{q:g}", at, (shift, 0), "x-small", color=text_color(0.85), va="bottom", ha=side)


def _write_zeros(ax: "Axes", zeros: int, y: float, coordinates: "Transform") -> None:
    """Write how many frames took 0 ns, which a logarithmic axis does not have."""
    if zeros:
        text = f"{counted(zeros, 'frame')} of 0 ns"
        note(ax, text, (0.005, y), xycoords=coordinates, ha="left", color=text_color(0.85))


def _write_outside(ax: "Axes", outside: list[int], edges: Floats) -> None:
    """Write how many frames are below the first edge, and above the last one."""
    for count, edge, x, side, sign in zip(
        outside, edges[[0, -1]], (0.005, 0.995), ("left", "right"), "<>", strict=True
    ):
        if count:
            text = f"{counted(count, 'frame')} {sign} {format_ns(edge)}"
            note(ax, text, (x, 0.02), xycoords=ax.transAxes, ha=side, color=THRESHOLD)


def _edges_given(bins: int | Sequence[str | int]) -> Floats | None:
    """Return the given edges in ns, or None if a number of bins is given."""
    if isinstance(bins, int | np.integer) and bins >= 1:
        return None
    if isinstance(bins, str) or not isinstance(bins, Sequence | np.ndarray):
        raise ProfileError(
            f"bins must be a positive integer or a sequence of edges, got {quoted(bins)}"
        )
    edges = np.array(durations(bins, "edge of a bin"), np.float64)
    if len(edges) < 2 or not (np.diff(edges) > 0).all():
        raise ProfileError(f"bins must be at least two ascending edges, got {quoted(list(bins))}")
    if edges[0] == 0:
        edges[0] = 0.5  # 0 has no logarithm; it is in the bin of 1 ns
    return edges


def _log_edges(spans: list[SpanProfile], limits: list[int], bins: int) -> Floats:
    """Return edges of bins of equal width on a logarithmic axis, for all values and thresholds."""
    # 0 has no logarithm: the number of zeros is written beside the others
    low = min([_least_above_0(span) for span in spans] + limits)
    # the largest value is not known if it is in a bucket without an upper edge
    high = max([max(span.histogram.max or 1, 1) for span in spans] + limits)
    # space for the name of a percentile beside the slowest frame
    return np.geomspace(low / 1.15, high * max(1.4, (high / low) ** 0.08), bins + 1)


def _least_above_0(span: SpanProfile) -> int:
    """Return the smallest value that is not 0, or 1 if all are."""
    if span.min:
        return span.min
    return next((low for low, _, _ in span.histogram if low > 0), 1)


def _rebin(histogram: Histogram, edges: Floats) -> tuple[Floats, tuple[int, int]]:
    """Return the counts (bins,) between edges, and how many values are below and above them."""
    axis, counts = histogram.axes[0], histogram.values()
    # each bin is counted at its middle, the first and the last one at the extremes
    middles = (axis.edges[:-1] + axis.edges[1:]) / 2
    if histogram.min is not None and histogram.max is not None:
        middles = np.clip(middles, max(histogram.min, 1), max(histogram.max, 1))
    if histogram.min == 0:
        counts = np.where(axis.edges[:-1] == 0, 0, counts)  # zeros are counted by themselves
    inside = np.histogram(middles, edges, weights=counts)[0]
    below = int(counts[middles < edges[0]].sum())
    return inside, (below, int(counts[middles > edges[-1]].sum()))
