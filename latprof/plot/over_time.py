"""Pictures over time: percentiles by window, and a heat map of latencies."""

from typing import TYPE_CHECKING

import numpy as np

from latprof.arrays import Floats, Ints
from latprof.plot.axes import (
    THRESHOLD,
    background,
    draw_threshold,
    explain,
    legend,
    log_time,
    new_axes,
    result_colors,
    result_dash,
    span_styles,
    text_color,
    unit_of,
)
from latprof.plot.results import (
    Results,
    as_profile,
    as_profiles,
    durations,
    heading,
    legend_lines,
    no_values,
)
from latprof.profile.answers import Stretch, WindowNumbers
from latprof.units import format_exact, format_ns, format_utc

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

__all__ = ["heatmap", "timeline"]

_HATCHES = {"not recorded": "", "lost": "xxx", "no frames": "///"}


def timeline(
    result: Results,
    span: str = "end_to_end",
    *,
    ax: "Axes | None" = None,
    every: str | int | None = None,
    threshold: str | int | None = None,
) -> "Axes":
    """Draw p50, p99 and the maximum of a span by window of time.

    Times without frames are shaded: not recorded, frames lost, or no frames. Windows in which a
    frame exceeded `threshold` are marked.

    Parameters
    ----------
    result
        A trace, or a profile, or the path of one. A profile is drawn by its windows
        (``analyze(..., every="1s")``), or without them by its 33 to 64 time batches. The maxima of
        batches have an error of up to 1.6 %. Several results are drawn over each other, each from
        its own start, without maxima.
    span
        Name of the span.
    ax
        Where to draw; by default a new figure.
    every
        Width of the windows of a trace; it doubles if there would be more than 512.
    threshold
        A duration; by default the deadline of the profile, if it applies to this span.

    Raises
    ------
    ProfileError
        The span is unknown, `threshold` is not a duration, or `every` is given for a profile.
    """
    limits = durations(() if threshold is None else (threshold,))
    named = as_profiles(result, every=every)
    color = span_styles(named[0][1].pipeline)[named[0][1][span].name].color
    ax = new_axes(ax)
    drawn = [(name, profile) for name, profile in named if profile[span].count]
    if not drawn:
        return explain(ax, no_values(named, [span]))
    first, alone = drawn[0][1], len(drawn) == 1
    if threshold is None and first.sums.deadline_ns and span == first.sums.deadline_span:
        limits = [first.sums.deadline_ns]
    windows = [profile.windows(span) for _, profile in drawn]
    # a single result also shows times before its first frame and after its last one
    silent = first.stretches() if alone else []
    ranges = [_range(w.begins_ns[0], w.begins_ns[-1] + w.width_ns, silent) for w in windows]
    length = max(end - begin for begin, end in ranges)
    unit, scale = unit_of(length, longest="d")
    values = [*limits, *(int(w.max_ns.max()) for w in windows)]
    values += [int(w.percentiles[50][w.counts > 0].min()) for w in windows]
    shades = [color] if alone else result_colors(len(drawn))
    for i, (shown, (origin, _)) in enumerate(zip(windows, ranges, strict=True)):
        _draw_percentiles(ax, shown, origin, scale, shades[i], None if alone else i)
    low, high = max(min(values), 1), max(*values, 1)
    top = high * (1.6 if high < 30 * low else 2.2)
    log_time(ax.yaxis, low / 1.3, top, zeros=min(values) == 0)
    ax.set_xlim(0, length / scale)
    ax.set_ylabel("latency")
    ax.set_title(heading(named, span))
    for limit in limits:
        draw_threshold(ax, limit, "right")
    if alone:
        origin = ranges[0][0]
        for limit in limits:
            _mark_above(ax, windows[0], origin, scale, limit)
        _shade(ax, silent, origin, scale)
        ax.set_xlabel(_since(ax, origin, unit, windows[0].width_ns, length))
        legend(ax)
    else:
        ax.set_xlabel(f"time since each start ({unit})")
        ink = text_color()
        lines = [ax.plot([], [], color=ink, lw=lw, label=p)[0] for p, lw in _WIDTHS.items()]
        legend(ax, [*lines, *legend_lines(drawn, {})])
    return ax


_NARROW = 4  # inches of an axis of time below which its label does not fit one line
_WIDTHS = {"p50": 2.0, "p99": 1.0}  # of the lines


def _range(begin_ns: int, end_ns: int, silent: list[Stretch]) -> tuple[int, int]:
    """Return begin and end (ns) of windows and of the times without frames around them.

    The begin is rounded down to the digits that the label of the axis shows.
    """
    begin = min([int(begin_ns), *(stretch.begin_ns for stretch in silent)])
    end = max([int(end_ns), *(stretch.end_ns for stretch in silent)])
    return begin // 10 ** (9 - _digits(end - begin)) * 10 ** (9 - _digits(end - begin)), end


def _digits(length_ns: int) -> int:
    """Return the number of decimals of a second in the origin of an axis: 0, 3, 6 or 9."""
    # rounding down moves the origin by less than a hundredth of the length
    steps = (10**9, 10**6, 10**3)
    return next((3 * i for i, step in enumerate(steps) if length_ns >= 100 * step), 9)


def _since(ax: "Axes", begin_ns: int, unit: str, width_ns: int, length_ns: int) -> str:
    """Return the label of the axis of time, on two lines if the picture is small."""
    digits = _digits(length_ns)
    moment = format_utc(begin_ns).replace("T", " ").split(".")[0]
    if digits:
        moment += f".{begin_ns % 10**9:09d}"[: digits + 1]
    # widths of time batches are powers of two, and are rounded
    width = format_exact(width_ns) if width_ns & (width_ns - 1) else format_ns(width_ns)
    inches = ax.get_window_extent().width / ax.figure.dpi
    gap = "\n" if inches < _NARROW else " "
    return f"time since {moment} UTC ({unit}),{gap}in windows of {width}"


def _draw_percentiles(
    ax: "Axes", windows: WindowNumbers, origin: int, scale: float, color: str, i: int | None
) -> None:
    """Draw the lines of result `i`, or of the only result if it is None; empty windows are gaps."""
    edges = np.append(windows.begins_ns, windows.begins_ns[-1] + windows.width_ns)
    x = (edges - origin) / scale
    empty = windows.counts == 0

    def steps(values: Ints) -> Floats:
        """Return the heights of steps, NaN in empty windows."""
        heights = np.where(empty, np.nan, np.maximum(values, 1))
        return np.append(heights, heights[-1])

    p50, p99 = steps(windows.percentiles[50]), steps(windows.percentiles[99])
    alpha = 0.25 if i is None else 0.1
    ax.fill_between(x, p50, p99, step="post", color=color, lw=0, alpha=alpha)
    for name, heights in (("p50", p50), ("p99", p99)):
        ax.plot(
            x,
            heights,
            drawstyle="steps-post",
            color=color,
            lw=_WIDTHS[name],
            ls=result_dash(i or 0),
            label=name,
        )
    if i is None:
        middle, highest = x[:-1] + np.diff(x) / 2, np.maximum(windows.max_ns, 1)
        ax.plot(
            middle[~empty],
            highest[~empty],
            ls="none",
            marker="_",
            ms=5,
            mew=1.2,
            color=text_color(0.7),
            label="max",
        )


def _mark_above(ax: "Axes", windows: WindowNumbers, origin: int, scale: float, limit: int) -> None:
    """Mark the windows in which a frame took longer than the threshold."""
    above = windows.max_ns > limit
    if above.any():
        number = f"{above.sum():,} of {(windows.counts > 0).sum():,} windows"
        ax.plot(
            ((windows.begins_ns - origin + windows.width_ns / 2) / scale)[above],
            windows.max_ns[above],
            ls="none",
            marker="v",
            ms=4.5,
            color=THRESHOLD,
            label=f"above {format_exact(limit)} in {number}",
        )


def _shade(ax: "Axes", stretches: list[Stretch], origin: int, scale: float) -> None:
    """Shade times without frames."""
    for k, stretch in enumerate(stretches):
        first = stretch.what not in {other.what for other in stretches[:k]}
        ax.axvspan(
            (stretch.begin_ns - origin) / scale,
            (stretch.end_ns - origin) / scale,
            facecolor=text_color(0.1),
            edgecolor=text_color(0.35),
            hatch=_HATCHES[stretch.what] or None,
            lw=0,
            label=stretch.what if first else "_",
        )


def heatmap(
    result: Results,
    span: str = "end_to_end",
    *,
    ax: "Axes | None" = None,
    every: str | int | None = None,
    threshold: str | int | None = None,
    cmap: "str | Colormap | None" = None,
) -> "Axes":
    """Draw how many frames took how long at which time, by colour on a logarithmic scale.

    Parameters
    ----------
    result
        One profile or trace, or its path; see `timeline` for its windows.
    span
        Name of the span.
    ax
        Where to draw; by default a new figure.
    every
        Width of the windows of a trace.
    threshold
        A duration that is drawn as a line.
    cmap
        A colour map of matplotlib; by default the part of ``viridis`` in which a single frame is
        visible on the background.

    Raises
    ------
    ProfileError
        Several results, the span is unknown, `threshold` is not a duration, or `every` is given
        for a profile.
    """
    from matplotlib.colors import LogNorm
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    limits = durations(() if threshold is None else (threshold,))
    profile = as_profile(result, "heatmap", every=every)
    found = profile.heat(span)
    ax = new_axes(ax)
    if not found.counts.size:
        return explain(ax, no_values([("", profile)], [span]))
    silent = profile.stretches()
    origin, end = _range(found.times_ns[0], found.times_ns[-1], silent)
    unit, scale = unit_of(end - origin, longest="d")
    edges = np.maximum(found.latencies_ns, 0.5)
    counts = np.ma.masked_equal(found.counts.T, 0)
    most = max(int(counts.max()), 2)
    mesh = ax.pcolormesh(
        (found.times_ns - origin) / scale,
        edges,
        counts,
        norm=LogNorm(1, most),
        cmap=_shades(ax) if cmap is None else cmap,
        rasterized=True,
    )
    _shade(ax, silent, origin, scale)
    ax.set_xlim(0, (end - origin) / scale)
    ends = [max(limit, 1) for limit in limits]
    log_time(
        ax.yaxis,
        min([edges[0], *(limit / 1.2 for limit in ends)]),
        max([edges[-1], edges[0] * 1.02, *(limit * 1.5 for limit in ends)]),
    )
    bar = ax.figure.colorbar(mesh, ax=ax, pad=0.02)
    bar.set_label("frames")
    # counts as integers: 1, 2, 5 instead of 6 x 10**0
    subs = (1.0, 2.0, 5.0) if most < 200 else (1.0,)
    bar.ax.yaxis.set_major_locator(LogLocator(subs=subs, numticks=9))
    bar.ax.yaxis.set_minor_locator(NullLocator())
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda n, _: f"{n:,.0f}"))
    width = int(found.times_ns[1] - found.times_ns[0])
    ax.set_xlabel(_since(ax, origin, unit, width, end - origin))
    ax.set_ylabel("latency")
    ax.set_title(heading([("", profile)], span))
    for limit in limits:
        draw_threshold(ax, limit, "right")
    if silent:
        legend(ax)
    return ax


def _shades(ax: "Axes") -> "Colormap":
    """Return a colour map of counts; its first colour is visible on the background."""
    import matplotlib as mpl
    from matplotlib.colors import LinearSegmentedColormap, to_rgb

    # the ends of viridis are close to white and to black
    dark = sum(to_rgb(background(ax))) < 1.5
    part = np.linspace(0.25, 1, 256) if dark else np.linspace(0.8, 0, 256)
    return LinearSegmentedColormap.from_list("latprof-counts", mpl.colormaps["viridis"](part))
