"""Percentile curves and cumulative distributions."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from latprof.plot.axes import (
    Dash,
    draw_threshold,
    explain,
    legend,
    log_time,
    new_axes,
    result_colors,
    result_dash,
    result_marker,
    span_styles,
    width_in_points,
)
from latprof.plot.results import (
    Named,
    Results,
    as_profiles,
    durations,
    heading,
    legend_lines,
    no_values,
    spans_of,
)
from latprof.profile.span import SpanProfile

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["ecdf", "percentile_axis", "percentiles"]

_LEAST_TO_HALF = 24  # points between the ticks 0% and 50%, for both to be labelled


def percentiles(
    result: Results,
    spans: str | Sequence[str] | None = "end_to_end",
    *,
    ax: "Axes | None" = None,
    thresholds: Sequence[str | int] = (),
    interval: bool = True,
) -> "Axes":
    """Draw latency by percentile, on an axis on which 90, 99 and 99.9 % are equally far apart.

    Parameters
    ----------
    result
        A profile or trace, or the path of one, or several, also by name.
    spans
        Names of one or several spans, or None for the stages and end_to_end.
    ax
        Where to draw; by default a new figure.
    thresholds
        Durations that are drawn as lines.
    interval
        Draw the 95 % interval as a band. Without enough frames for an interval the line is thin.

    Raises
    ------
    ProfileError
        A span is unknown, or a threshold is not a duration.
    """
    drawing = _Drawing(result, spans, thresholds)
    ax = new_axes(ax)
    if not drawing.lines:
        return explain(ax, no_values(drawing.named, drawing.spans))
    values, fewest = [max(limit, 1) for limit in drawing.thresholds], 0.1
    for name, i, span in drawing.lines:
        curve, color = span.curve(), drawing.color(name, i)
        # the last percentile, 100, is drawn where half of the last frame remains
        rest = np.maximum(1 - curve.q / 100, 1 / max(span.count, 2) / 2)
        fewest = min(fewest, rest[-1])
        latency = np.maximum(curve.value_ns, 1)
        values += [int(latency[0]), int(latency[-1])]
        known = ~np.isnan(curve.low)
        known[-1] = False
        dash, marker = drawing.dash(name, i), drawing.marker(name, i)
        ax.plot(rest, latency, color=color, lw=0.9, ls=dash)
        ax.plot(
            rest[known],
            latency[known],
            color=color,
            lw=2,
            ls=dash,
            marker=marker,
            markevery=(i * 2, 12),
            ms=4.5,
        )
        ax.plot(rest[-1:], latency[-1:], color=color, marker="_", ms=9, mew=2)
        if interval and known.sum() > 1:
            low, high = np.maximum(curve.low, 1), np.maximum(curve.high, 1)
            ax.fill_between(rest, low, high, where=known.tolist(), color=color, alpha=0.25, lw=0)
    percentile_axis(ax, fewest)
    drawing.name(ax)
    ratio = max(values) / max(min(values), 1)
    zeros = any(span.min == 0 for _, _, span in drawing.lines)
    log_time(ax.yaxis, min(values) / 1.15, max(values) * (1.25 if ratio < 50 else 2), zeros=zeros)
    ax.set_ylabel("latency")
    for limit in drawing.thresholds:
        draw_threshold(ax, limit, "left")
    return ax


def ecdf(
    result: Results,
    spans: str | Sequence[str] | None = None,
    *,
    ax: "Axes | None" = None,
    thresholds: Sequence[str | int] = (),
) -> "Axes":
    """Draw the share of frames up to each latency.

    Parameters
    ----------
    result
        A profile or trace, or the path of one, or several, also by name.
    spans
        Names of one or several spans; by default the stages and end_to_end.
    ax
        Where to draw; by default a new figure.
    thresholds
        Durations that are drawn as lines.

    Raises
    ------
    ProfileError
        A span is unknown, or a threshold is not a duration.
    """
    drawing = _Drawing(result, spans, thresholds)
    ax = new_axes(ax)
    if not drawing.lines:
        return explain(ax, no_values(drawing.named, drawing.spans))
    ends = [max(limit, 1) for limit in drawing.thresholds]
    for place, (name, i, span) in enumerate(drawing.lines):
        known = span.ecdf()
        latency = np.maximum(known.value_ns, 1)
        first = max(span.min or 1, 1)
        ends += [first, int(latency[-1])]
        ax.plot(
            np.concatenate(([first], latency)),
            np.concatenate(([0], known.share)),
            drawstyle="steps-post",
            color=drawing.color(name, i),
            lw=1.8,
            ls=drawing.dash(name, i),
            marker=drawing.marker(name, i),
            # at different heights, so that the markers of equal lines are all visible
            markevery=(0.02 + 0.11 * place / len(drawing.lines), 0.22),
            ms=4.5,
        )
    zeros = any(span.min == 0 for _, _, span in drawing.lines)
    log_time(ax.xaxis, min(ends) / 1.15, max(ends) * 1.4, zeros=zeros)
    ax.set_xlabel("latency")
    ax.set_ylim(-0.02, 1.02)
    ax.set_ylabel("share of frames")
    ax.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    ax.grid(visible=True, alpha=0.25)
    drawing.name(ax)
    for limit in drawing.thresholds:
        draw_threshold(ax, limit, "bottom")
    return ax


class _Drawing:
    """The lines of both pictures, as (span, number of the result, values), and their styles.

    Spans of one result differ by colour and dash. Several results differ by colour and dash, and
    their spans by marker. If there is one span, its results differ by marker too.
    """

    def __init__(
        self, result: Results, spans: str | Sequence[str] | None, thresholds: Sequence[str | int]
    ) -> None:
        self.thresholds = durations(thresholds)
        self.named: Named = as_profiles(result)
        self.spans = spans_of(self.named, spans)
        self.lines: list[tuple[str, int, SpanProfile]] = [
            (name, i, profile[name])
            for name in self.spans
            for i, (_, profile) in enumerate(self.named)
            if profile[name].count
        ]
        styles = span_styles(self.named[0][1].pipeline)
        self.styles = {name: styles[name] for name, _, _ in self.lines}
        self._colors = result_colors(len(self.named))

    def color(self, name: str, i: int) -> str:
        """Return the colour of a span of the i-th result."""
        return self._colors[i] if len(self.named) > 1 else self.styles[name].color

    def dash(self, name: str, i: int) -> Dash:
        """Return the dash of a span of the i-th result."""
        return result_dash(i) if len(self.named) > 1 else self.styles[name].dash

    def marker(self, name: str, i: int) -> str:
        """Return the marker: one per span; if there is only one span, one per result."""
        if len(self.styles) > 1:
            return self.styles[name].marker
        return result_marker(i) if len(self.named) > 1 else ""

    def name(self, ax: "Axes") -> None:
        """Add a title and a legend."""
        ax.set_title(heading(self.named, next(iter(self.styles)) if len(self.styles) == 1 else ""))
        legend(ax, legend_lines(self.named, self.styles, marked=True))


def percentile_axis(ax: "Axes", fewest: float) -> None:
    """Make x the share of slower frames, from 1 to `fewest`, labelled by percentile."""
    ax.set_xscale("log")
    ax.set_xlim(1, fewest / 1.3)
    ticks = [1.0, 0.5, *(10.0**-k for k in range(1, 12) if 10.0**-k >= fewest / 1.3)]
    points = width_in_points(ax) * math.log(2) / -math.log(fewest / 1.3)
    if points < _LEAST_TO_HALF:
        ticks.remove(0.5)
    ax.set_xticks(ticks, [f"{100 - 100 * rest:.10g}%" for rest in ticks])
    ax.set_xticks([], minor=True)
    ax.set_xlabel("percentile")
    ax.grid(visible=True, alpha=0.25)
