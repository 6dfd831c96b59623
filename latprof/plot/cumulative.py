"""Percentile curves and cumulative distributions."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

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
from latprof.plot.style import LIMIT, Dash, Look, looks, result_dash, result_marker
from latprof.profile.span import SpanProfile
from latprof.units import format_ns

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["ecdf", "left_over", "percentiles"]

Line = tuple[str, int, SpanProfile]  # span, number of the result, what is drawn


def percentiles(
    result: Results,
    spans: str | Sequence[str] | None = "end_to_end",
    *,
    ax: "Axes | None" = None,
    thresholds: Sequence[str | int] = (),
    interval: bool = True,
) -> "Axes":
    """Draw latency by percentile, each tenth of the slowest frames as wide as all before it.

    Parameters
    ----------
    result
        A profile or trace, or several, also by name.
    spans
        One or several names; None: the stages and end_to_end.
    ax
        Where to draw; by default on a figure of its own.
    thresholds
        Durations to be drawn as lines.
    interval
        Draw the 95 % interval as a band. Where the frames do not suffice for one the line is
        thin.

    Raises
    ------
    ProfileError
        No such span, no threshold.
    """
    limits = durations(thresholds)
    named = several(result)
    names = spans_of(named, spans)
    lines = _lines(named, names)
    ax = axes_of(ax)
    if not lines:
        return explain(ax, nothing(named, names))
    shades = looks(named[0][1].pipeline)
    values, fewest = [max(limit, 1) for limit in limits], 0.1
    for name, i, span in lines:
        curve, look = span.curve(), shades[name]
        # the last one, 100, stands where the last frame alone is left
        rest = np.maximum(1 - curve.q / 100, 1 / max(span.count, 2) / 2)
        fewest = min(fewest, rest[-1])
        shown = np.maximum(curve.value_ns, 1)
        values += [int(shown[0]), int(shown[-1])]
        known = ~np.isnan(curve.low)
        known[-1] = False
        dash = _dash(look, i, alone=len(named) == 1)
        ax.plot(rest, shown, color=look.color, lw=0.9, ls=dash)
        ax.plot(
            rest[known],
            shown[known],
            color=look.color,
            lw=2,
            ls=dash,
            marker=_marker(look, i, spans=len(names), results=len(named)),
            markevery=(i * 2, 12),
            ms=4.5,
        )
        ax.plot(rest[-1:], shown[-1:], color=look.color, marker="_", ms=9, mew=2)
        if interval and known.sum() > 1:
            low, high = np.maximum(curve.low, 1), np.maximum(curve.high, 1)
            ax.fill_between(
                rest, low, high, where=known.tolist(), color=look.color, alpha=0.25, lw=0
            )
    left_over(ax, fewest)
    _finish(ax, named, lines, shades)
    span_of = max(values) / max(min(values), 1)
    log_time(ax.yaxis, min(values) / 1.15, max(values) * (1.25 if span_of < 50 else 2))
    ax.set_ylabel("latency")
    _limits(ax, limits, vertical=False)
    return ax


def ecdf(
    result: Results,
    spans: str | Sequence[str] | None = None,
    *,
    ax: "Axes | None" = None,
    thresholds: Sequence[str | int] = (),
) -> "Axes":
    """Draw what share of the frames took at most how long.

    Parameters
    ----------
    result
        A profile or trace, or several, also by name.
    spans
        One or several names; by default the stages and end_to_end.
    ax
        Where to draw; by default on a figure of its own.
    thresholds
        Durations to be drawn as lines.

    Raises
    ------
    ProfileError
        No such span, no threshold.
    """
    limits = durations(thresholds)
    named = several(result)
    names = spans_of(named, spans)
    lines = _lines(named, names)
    ax = axes_of(ax)
    if not lines:
        return explain(ax, nothing(named, names))
    shades = looks(named[0][1].pipeline)
    ends = [max(limit, 1) for limit in limits]
    for place, (name, i, span) in enumerate(lines):
        known, look = span.ecdf(), shades[name]
        shown = np.maximum(known.value_ns, 1)
        first = max(span.min or 1, 1)
        ends += [first, int(shown[-1])]
        ax.plot(
            np.concatenate(([first], shown)),
            np.concatenate(([0], known.share)),
            drawstyle="steps-post",
            color=look.color,
            lw=1.8,
            ls=_dash(look, i, alone=len(named) == 1),
            marker=_marker(look, i, spans=len(names), results=len(named)),
            # marks at other heights for each, so that they do not hide each other
            markevery=(0.02 + 0.11 * place / len(lines), 0.22),
            ms=4.5,
        )
    log_time(ax.xaxis, min(ends) / 1.15, max(ends) * 1.4)
    ax.set_xlabel("latency")
    ax.set_ylim(-0.02, 1.02)
    ax.set_ylabel("share of frames")
    ax.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    ax.grid(visible=True, alpha=0.25)
    _finish(ax, named, lines, shades)
    _limits(ax, limits, vertical=True)
    return ax


def _lines(named: Named, names: list[str]) -> list[Line]:
    return [(name, i, p[name]) for name in names for i, (_, p) in enumerate(named) if p[name].count]


def _dash(look: Look, i: int, *, alone: bool) -> Dash:
    return look.dash if alone else result_dash(i)


def _marker(look: Look, i: int, *, spans: int, results: int) -> str | None:
    """Return what tells spans apart; of one span, what tells results apart."""
    return look.marker if spans > 1 else result_marker(i) if results > 1 else None


def left_over(ax: "Axes", fewest: float) -> None:
    """Make x the share of frames that is slower, from all down to `fewest`, on a logarithmic axis.

    It is labelled with percentiles.
    """
    ax.set_xscale("log")
    ax.set_xlim(1, fewest / 1.3)
    shown = [1.0, 0.5, *(10.0**-k for k in range(1, 12) if 10.0**-k >= fewest / 1.3)]
    if len(shown) > 7:
        shown.remove(0.5)
    ax.set_xticks(shown, [f"{100 - 100 * rest:.10g}%" for rest in shown])
    ax.set_xticks([], minor=True)
    ax.set_xlabel("percentile")
    ax.grid(visible=True, alpha=0.25)


def _finish(ax: "Axes", named: Named, lines: list[Line], shades: dict[str, Look]) -> None:
    """Add title and legend: of spans where there are several, of results where there are."""
    from matplotlib.lines import Line2D

    names = list(dict.fromkeys(name for name, _, _ in lines))
    title = heading(named)
    ax.set_title(f"{title}, {label(names[0])}" if len(names) == 1 else title)
    handles = []
    if len(names) > 1:
        for name in names:
            look = shades[name]
            dash = _dash(look, 0, alone=len(named) == 1)
            handles.append(
                Line2D(
                    [], [], color=look.color, marker=look.marker, ms=5, ls=dash, label=label(name)
                )
            )
    if len(named) > 1:
        for i, (key, profile) in enumerate(named):
            dash = result_dash(i)
            told = legend_name(key, profile, len(named))
            mark = None if len(names) > 1 else result_marker(i)
            handles.append(
                Line2D([], [], color=ink(), ls=dash, marker=mark or "", ms=5, label=told)
            )
    legend(ax, handles)


def _limits(ax: "Axes", limits: list[int], *, vertical: bool) -> None:
    for limit in limits:
        line = ax.axvline if vertical else ax.axhline
        line(max(limit, 1), color=LIMIT, lw=1.3, ls=(0, (6, 2)))
        ax.annotate(
            format_ns(limit),
            (max(limit, 1), 0.0) if vertical else (0.0, max(limit, 1)),
            (3, 5) if vertical else (4, 3),
            xycoords=ax.get_xaxis_transform() if vertical else ax.get_yaxis_transform(),
            textcoords="offset points",
            fontsize="small",
            color=LIMIT,
            bbox={"facecolor": paper(ax), "edgecolor": "none", "alpha": 0.8, "pad": 0.5},
            zorder=4,
        )
