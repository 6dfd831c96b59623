"""Pictures over time: a timeline of percentiles, a heat map."""

from typing import TYPE_CHECKING

import numpy as np

from latprof.arrays import Floats, Ints
from latprof.plot.axes import axes_of, explain, ink, label, legend, log_time, paper, unit_of
from latprof.plot.results import Results, durations, heading, nothing, one, several
from latprof.plot.style import LIMIT, looks, result_dash
from latprof.profile.answers import Stretch, WindowNumbers
from latprof.profile.profile import Profile
from latprof.units import format_ns, format_utc

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.lines import Line2D

__all__ = ["heatmap", "timeline"]

_SHADES = {"not recorded": "", "lost": "xxx", "no frames": "///"}


def timeline(
    result: Results,
    span: str = "end_to_end",
    *,
    ax: "Axes | None" = None,
    every: str | int | None = None,
    threshold: str | int | None = None,
) -> "Axes":
    """Draw p50, p99 and the maximum of a span by window of time.

    Stretches without frames are shaded: where nothing was recorded, where frames were lost, and
    where there were none. Windows in which a frame took longer than `threshold` are marked.

    Parameters
    ----------
    result
        A profile, with the windows that it was folded with (``analyze(..., every="1s")``) or
        else its 33 to 64 time batches, whose maxima are within 1.6 %; or a trace. Several are
        drawn over each other, each from its own start, without their maxima.
    span
        What is drawn.
    ax
        Where to draw; by default on a figure of its own.
    every
        Width of the windows of a trace; they double when there are more than 512.
    threshold
        By default the deadline that the profile was folded with, where the span has it.

    Raises
    ------
    ProfileError
        No such span, no threshold, `every` for a profile.
    """
    limits = durations(() if threshold is None else (threshold,))
    named = several(result, every=every)
    look = looks(named[0][1].pipeline)[named[0][1][span].name]
    ax = axes_of(ax)
    shown = [(name, profile) for name, profile in named if profile[span].count]
    if not shown:
        return explain(ax, nothing(named, [span]))
    first = shown[0][1]
    if threshold is None and first.sums.deadline_ns and span == first.sums.deadline_span:
        limits = [first.sums.deadline_ns]
    known = [(name, profile, profile.windows(span)) for name, profile in shown]
    # of one result also what was recorded before its first frame, and after its last
    silent = first.stretches() if len(known) == 1 else []
    whole = [_reach(w.begins_ns[0], w.begins_ns[-1] + w.width_ns, silent) for _, _, w in known]
    reach = max(end - begin for begin, end in whole)
    unit, scale = unit_of(reach, longest="d")
    values = list(limits)
    for i, (name, _, windows) in enumerate(known):
        some = windows.counts > 0
        lowest = windows.percentiles[50][some].min()
        values += [int(lowest), int(windows.max_ns.max())]
        origin = whole[i][0]
        _band(ax, windows, look.color, origin, scale, i, name, alone=len(known) == 1)
    ax.set_title(f"{heading(named)}, {label(span)}")
    if limits:
        ax.axhline(max(limits[0], 1), color=LIMIT, lw=1.3, ls=(0, (6, 2)))
    if len(known) == 1:
        windows, origin = known[0][2], whole[0][0]
        _late(ax, windows, origin, scale, limits)
        _shade(ax, silent, origin, scale)
        ax.set_xlabel(_since(origin, unit, windows.width_ns))
    else:
        ax.set_xlabel(f"time since each start ({unit})")
    low, high = max(min(values), 1), max(*values, 1)
    log_time(ax.yaxis, low / 1.3, high * (1.6 if high < 30 * low else 2.2))
    ax.set_xlim(0, reach / scale)
    ax.set_ylabel("latency")
    legend(ax, None if len(known) == 1 else _handles([name for name, _, _ in known], look.color))
    if limits:
        _name_limit(ax, limits[0])
    return ax


def _handles(names: list[str], color: str) -> "list[Line2D]":
    """Return what a legend of several results has: each by its dash, p50 and p99 by width."""
    from matplotlib.lines import Line2D

    made = [
        Line2D([], [], color=color, lw=lw, label=told) for told, lw in (("p50", 2), ("p99", 0.9))
    ]
    return made + [
        Line2D([], [], color=ink(), ls=result_dash(i), label=label(name))
        for i, name in enumerate(names)
    ]


def _reach(begin_ns: int, end_ns: int, silent: list[Stretch]) -> tuple[int, int]:
    """Return begin and end of windows and of the stretches around them."""
    begins = [int(begin_ns), *(stretch.begin_ns for stretch in silent)]
    return min(begins), max([int(end_ns), *(stretch.end_ns for stretch in silent)])


def _name_limit(ax: "Axes", limit: int) -> None:
    ax.annotate(
        format_ns(limit),
        (1, max(limit, 1)),
        (-4, 3),
        xycoords=ax.get_yaxis_transform(),
        textcoords="offset points",
        ha="right",
        fontsize="small",
        color=LIMIT,
        bbox={"facecolor": paper(ax), "edgecolor": "none", "alpha": 0.7, "pad": 0.5},
    )


def _since(begin_ns: int, unit: str, width_ns: int) -> str:
    moment = format_utc(begin_ns).replace("T", " ").removesuffix("Z").split(".")[0]
    return f"time since {moment} UTC ({unit}), by {format_ns(width_ns)}"


def _band(
    ax: "Axes",
    windows: WindowNumbers,
    color: str,
    origin: int,
    scale: float,
    i: int,
    name: str,
    *,
    alone: bool,
) -> None:
    """Draw the lines of one result as steps that are cut where there are no frames."""
    edges = np.append(windows.begins_ns, windows.begins_ns[-1] + windows.width_ns)
    x = (edges - origin) / scale
    empty = windows.counts == 0

    def steps(values: Ints) -> Floats:
        shown = np.where(empty, np.nan, np.maximum(values, 1))
        return np.append(shown, shown[-1])

    p50, p99 = steps(windows.percentiles[50]), steps(windows.percentiles[99])
    dash = "-" if alone else result_dash(i)
    ax.fill_between(x, p50, p99, step="post", color=color, lw=0, alpha=0.25 if alone else 0.1)
    told = "" if alone else f" {label(name)}"
    ax.plot(x, p50, drawstyle="steps-post", color=color, lw=2, ls=dash, label=f"p50{told}")
    if alone:
        ax.plot(x, p99, drawstyle="steps-post", color=color, lw=1.1, label="p99")
        middle = x[:-1] + np.diff(x) / 2
        peak = np.maximum(windows.max_ns, 1)[~empty]
        ax.plot(
            middle[~empty], peak, ls="none", marker="_", ms=5, mew=1.2, color=ink(0.7), label="max"
        )
    else:
        ax.plot(x, p99, drawstyle="steps-post", color=color, lw=0.9, ls=dash, label=f"p99{told}")


def _late(ax: "Axes", windows: WindowNumbers, origin: int, scale: float, limits: list[int]) -> None:
    """Mark the windows in which a frame took longer than the limit."""
    over = windows.max_ns > limits[0] if limits else np.zeros(len(windows.counts), bool)
    if not over.any():
        return
    middle = (windows.begins_ns - origin + windows.width_ns / 2) / scale
    told = (
        f"beyond {format_ns(limits[0])} in {over.sum():,} of {(windows.counts > 0).sum():,} windows"
    )
    ax.plot(
        middle[over],
        windows.max_ns[over],
        ls="none",
        marker="v",
        ms=4.5,
        color=LIMIT,
        label=told,
    )


def _shade(ax: "Axes", stretches: list[Stretch], begin_ns: int, scale: float) -> None:
    told = set()
    for stretch in stretches:
        ax.axvspan(
            (stretch.begin_ns - begin_ns) / scale,
            (stretch.end_ns - begin_ns) / scale,
            facecolor=ink(0.1),
            edgecolor=ink(0.35),
            hatch=_SHADES[stretch.what] or None,
            lw=0,
            label="_" if stretch.what in told else stretch.what,
        )
        told.add(stretch.what)


def heatmap(
    result: Results,
    span: str = "end_to_end",
    *,
    ax: "Axes | None" = None,
    every: str | int | None = None,
    threshold: str | int | None = None,
    cmap: "str | Colormap | None" = None,
) -> "Axes":
    """Draw how many frames took how long at which time, counts by colour on a logarithmic scale.

    Parameters
    ----------
    result
        One profile or trace: see `timeline` for its windows.
    span
        What is drawn.
    ax
        Where to draw; by default on a figure of its own.
    every
        Width of the windows of a trace.
    threshold
        A duration to be drawn as a line.
    cmap
        A colour map of matplotlib; by default the part of ``viridis`` in which one frame alone
        is seen well on the paper, and many best.

    Raises
    ------
    ProfileError
        Several results, no such span, no threshold, `every` for a profile.
    """
    limits = durations(() if threshold is None else (threshold,))
    profile = one(result, "heatmap", every=every)
    found = profile.heat(span)
    ax = axes_of(ax)
    if not found.counts.size:
        return explain(ax, nothing([("", profile)], [span]))
    _mesh(ax, profile, span, cmap)
    for limit in limits:
        low, high = ax.get_ylim()
        log_time(ax.yaxis, min(low, max(limit, 1) / 1.2), max(high, max(limit, 1) * 1.5))
        ax.axhline(max(limit, 1), color=LIMIT, lw=1.3, ls=(0, (6, 2)))
        _name_limit(ax, limit)
    return ax


def _mesh(ax: "Axes", profile: Profile, span: str, cmap: "str | Colormap | None") -> None:
    from matplotlib.colors import LogNorm
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    found, silent = profile.heat(span), profile.stretches()
    origin, end = _reach(found.times_ns[0], found.times_ns[-1], silent)
    unit, scale = unit_of(end - origin, longest="d")
    if cmap is None:
        cmap = _shades(ax)
    edges = np.maximum(found.latencies_ns, 0.5)
    counts = np.ma.masked_equal(found.counts.T, 0)
    most = max(int(counts.max()), 2)
    mesh = ax.pcolormesh(
        (found.times_ns - origin) / scale,
        edges,
        counts,
        norm=LogNorm(1, most),
        cmap=cmap,
        rasterized=True,
    )
    _shade(ax, silent, origin, scale)
    ax.set_xlim(0, (end - origin) / scale)
    log_time(ax.yaxis, edges[0], max(edges[-1], edges[0] * 1.02))
    bar = ax.figure.colorbar(mesh, ax=ax, pad=0.02)
    bar.set_label("frames")
    # frames are counted: 1, 2, 5, not 6 x 10**0
    bar.ax.yaxis.set_major_locator(
        LogLocator(subs=(1.0, 2.0, 5.0) if most < 200 else (1.0,), numticks=9)
    )
    bar.ax.yaxis.set_minor_locator(NullLocator())
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda n, _: f"{n:,.0f}"))
    width = int(found.times_ns[1] - found.times_ns[0])
    ax.set_xlabel(_since(origin, unit, width))
    ax.set_ylabel("latency")
    ax.set_title(f"{heading([('', profile)])}, {label(span)}")
    if ax.get_legend_handles_labels()[0]:
        legend(ax)


def _shades(ax: "Axes") -> "Colormap":
    """Return colours of counts: one frame alone is seen, whatever the paper, many stand out."""
    import matplotlib as mpl
    from matplotlib.colors import LinearSegmentedColormap, to_rgb

    # the ends of viridis are close to white and to black
    dark = sum(to_rgb(paper(ax))) < 1.5
    part = np.linspace(0.25, 1, 256) if dark else np.linspace(0.8, 0, 256)
    return LinearSegmentedColormap.from_list("latprof-counts", mpl.colormaps["viridis"](part))
