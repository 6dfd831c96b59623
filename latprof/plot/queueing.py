"""The stages that frames wait for, as a matrix; latencies after a change; latency against load."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Union

import numpy as np

from latprof.arrays import Floats
from latprof.colors import PALETTE
from latprof.errors import ProfileError
from latprof.plot.axes import (
    Dash,
    background,
    draw_threshold,
    explain,
    label,
    legend,
    log_time,
    new_axes,
    readable_on,
    text_color,
)
from latprof.plot.cumulative import percentile_axis
from latprof.plot.results import check_result
from latprof.queueing.blame import SELF_TIME
from latprof.queueing.blame import blame as blame_of
from latprof.text import quoted
from latprof.trace import Trace
from latprof.units import format_ns

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

    from latprof.queueing.forecast import WhatIf
    from latprof.queueing.headroom import Headroom

__all__ = ["blame", "load_curve", "what_if"]

_VALUES = {"share": "share of the time", "mean": "mean", "total": "total", "p99": "p99"}


def blame(
    result: Union["pd.DataFrame", Trace],
    *,
    ax: "Axes | None" = None,
    value: str = "share",
    cmap: "str | Colormap | None" = None,
) -> "Axes":
    """Draw which stages the frames in each hand-off were waiting for.

    Parameters
    ----------
    result
        A table from `latprof.blame`: a row for each hand-off, a column for each stage, and
        ``self_time``. Or a trace.
    ax
        Where to draw; by default a new figure.
    value
        Kind of the numbers: ``"share"`` (0 to 1), or ``"mean"``, ``"total"``, ``"p99"`` in ns.
    cmap
        A colour map of matplotlib; by default shades of one colour.

    Raises
    ------
    ProfileError
        `result` is not such a table, or `value` is unknown.
    TraceError
        The trace is sampled or lacks frames.

    Examples
    --------
    >>> import pandas as pd
    >>> from matplotlib.figure import Figure
    >>> shares = pd.DataFrame({"alsa": [0.98], "self_time": [0.02]}, index=["ipc"])
    >>> ax = blame(shares, ax=Figure().add_subplot())
    >>> [text.get_text() for text in ax.texts]
    ['98%', '2%']
    """
    if value not in _VALUES:
        raise ProfileError(f"value must be one of {', '.join(_VALUES)}, got {quoted(value)}")
    if isinstance(result, Trace):
        result = blame_of(result, value=value)
    if not (hasattr(result, "columns") and hasattr(result, "index")):
        raise ProfileError(
            f"result must be a trace or a table from latprof.blame, got {type(result).__name__}"
        )
    ax = new_axes(ax, 1.8 + 0.5 * max(len(result.index), 2))
    table = result.to_numpy(np.float64, na_value=np.nan)
    if table.size == 0:
        return explain(ax, "no waiting: the pipeline has no hand-off before a station")
    if not np.isfinite(table).any():
        return explain(ax, "no waiting: no frame has passed a hand-off")
    numbers = np.ma.masked_invalid(table)
    top = 1.0 if value == "share" else max(float(numbers.max()), 1.0)
    mesh = ax.pcolormesh(
        numbers,
        cmap=_shades(ax) if cmap is None else cmap,
        vmin=0,
        vmax=top,
        edgecolors=background(ax),
        lw=1.5,
    )
    size = "small" if max(table.shape) <= 9 else "x-small" if max(table.shape) <= 14 else 5
    for (row, column), number in np.ndenumerate(table):
        if np.isfinite(number):
            ax.text(
                column + 0.5,
                row + 0.5,
                f"{number:.0%}" if value == "share" else format_ns(number),
                ha="center",
                va="center",
                fontsize=size,
                color=readable_on(mesh.get_cmap()(number / top)),
            )
    slanted = len(result.columns) > 5
    names = ["self" if name == SELF_TIME else label(str(name)) for name in result.columns]
    ax.set_xticks(
        np.arange(len(names)) + 0.5,
        names,
        rotation=30 if slanted else 0,
        ha="right" if slanted else "center",
        rotation_mode="anchor",
    )
    ax.set_yticks(np.arange(len(result.index)) + 0.5, [label(str(name)) for name in result.index])
    ax.tick_params(length=0)
    ax.set_ylim(len(result.index), 0)
    ax.set_xlabel("for earlier frames in")
    ax.set_ylabel("waiting in")
    ax.set_title(f"what frames wait for, {_VALUES[value]}")
    return ax


def _shades(ax: "Axes") -> "Colormap":
    """Return shades from the background to a strong colour."""
    from matplotlib.colors import LinearSegmentedColormap, to_rgb

    back = to_rgb(background(ax))
    strong = to_rgb(PALETTE[2] if sum(back) > 1.5 else PALETTE[7])
    return LinearSegmentedColormap.from_list("latprof", [back, strong])


# -- what-if ------------------------------------------------------------------------------------

Lines = dict[str, tuple[Floats, Floats]]  # by name: the share of slower frames, ns

_CHANGED = PALETTE[4]
_LINES: dict[str, tuple[Dash, float, str]] = {  # dash, width and marker of each line
    "measured": ("-", 1.8, "o"),
    "replayed": ((0, (5, 1.5)), 2.2, "s"),
    "subtraction": ((0, (1.5, 1.5)), 1.1, "x"),
    "other": ((0, (1, 2)), 1.1, ""),
}
_LABELS = {"subtraction": "by subtraction, queues unchanged", "other": "_"}  # "_" is not shown
_POINTS = 24  # points of a line in each decade


def what_if(result: "WhatIf | pd.DataFrame", *, ax: "Axes | None" = None) -> "Axes":
    """Draw end to end as it was measured and as it would be with a change, by percentile.

    Parameters
    ----------
    result
        A result of `latprof.what_if`, or its ``table``: a row for each percentile, columns
        ``measured``, ``replayed`` and ``subtraction``, in ns.
    ax
        Where to draw; by default a new figure.

    Raises
    ------
    ProfileError
        `result` is something else.
    """
    table: Any = getattr(result, "table", result)
    columns = getattr(table, "columns", None)
    if not isinstance(columns, Iterable) or not {"measured", "replayed"} <= set(columns):
        raise ProfileError(
            f"result must be of latprof.what_if, or its table, got {type(result).__name__}"
        )
    of_frames = all(hasattr(result, f"{name}_ns") for name in ("measured", "replayed"))
    lines = _lines_of_frames(result) if of_frames else _lines_of_table(table)
    ax = new_axes(ax)
    if not lines:
        return explain(ax, "nothing to replay: no frame has the marks that the replay needs")
    colors = {"measured": text_color(0.75), "subtraction": text_color(0.5)}
    for place, (name, (rest, values)) in enumerate(lines.items()):
        dash, width, marker = _LINES[name]
        ax.plot(
            rest,
            values,
            color=colors.get(name, _CHANGED),
            ls=dash,
            lw=width,
            marker=marker,
            # at different places, so that the markers of equal lines are all visible
            markevery=(place * _POINTS // 4, _POINTS) if of_frames else 1,
            ms=5,
            label=_LABELS.get(name, name),
        )
    if "other" in lines:
        (rest, low), (_, high) = lines["replayed"], lines["other"]
        ax.fill_between(
            rest, low, high, color=_CHANGED, alpha=0.25, lw=0, label="between both readings"
        )
    percentile_axis(ax, min(float(rest[-1]) for rest, _ in lines.values()))
    every = np.concatenate([values for _, values in lines.values()])
    log_time(ax.yaxis, every.min() / 1.3, every.max() * 1.6)
    ax.set_ylabel("end to end")
    changes = getattr(result, "changes", {})
    text = ", ".join(f"{label(name).strip()} {change}" for name, change in changes.items())
    ax.set_title(f"what if {text}" if text and len(text) < 70 else "what if")
    legend(ax)
    return ax


def _lines_of_frames(result: Any) -> Lines:
    """Return some percentiles of the sorted latencies in `result`, and the largest ones."""
    lines = {}
    for name in _LINES:
        values = np.asarray(getattr(result, f"{name}_ns", ()), np.float64)
        if name == "other" and np.array_equal(values, np.asarray(result.replayed_ns)):
            continue
        if not len(values):
            continue
        n = len(values)
        rest = 10 ** -(np.arange(int(np.log10(n) * _POINTS) + 1) / _POINTS)
        places = np.clip(np.ceil((1 - rest) * n - 1e-6).astype(np.int64) - 1, 0, n - 1)
        drawn = np.append(values[places], values[-1])
        lines[name] = (np.append(rest, 0.5 / n), np.maximum(drawn, 1))
    if len({len(rest) for rest, _ in lines.values()}) > 1:
        lines.pop("other", None)  # a band needs equal numbers of frames
    return lines if {"measured", "replayed"} <= lines.keys() else {}


def _lines_of_table(table: "pd.DataFrame") -> Lines:
    """Return the columns of a table with a row for each percentile."""
    rest = 1 - table.index.to_numpy(np.float64) / 100
    rest = np.maximum(rest, rest[rest > 0].min(initial=1.0) / 3)  # 100 is to the right of all
    lines = {}
    for name in [name for name in _LINES if name in table.columns]:
        values = table[name].to_numpy(np.float64, na_value=np.nan)
        known = np.isfinite(values)
        if known.any():
            lines[name] = (rest[known], np.maximum(values[known], 1))
    return lines


# -- load ---------------------------------------------------------------------------------------

_MEDIAN, _LIMITED = PALETTE[0], PALETTE[4]


def load_curve(result: "Headroom", *, ax: "Axes | None" = None) -> "Axes":
    """Draw latency against load, the recorded point, and the highest load that keeps the limit.

    The band is the range of the limited value over resampled blocks of the recording. Loads to the
    right of the dotted line do not occur in the recording.

    Parameters
    ----------
    result
        A result of `latprof.headroom`.
    ax
        Where to draw; by default a new figure.

    Raises
    ------
    ProfileError
        `result` is something else.
    """
    check_result(result, ["curve", "limit"], "latprof.headroom")
    ax = new_axes(ax)
    load, median, limited, low, high = (
        np.array([row[name] for row in result.curve], np.float64)
        for name in ("load", "p50", "limited", "low", "high")
    )
    limit = result.limit
    ax.fill_between(load, np.maximum(low, 1), np.maximum(high, 1), color=_LIMITED, alpha=0.2, lw=0)
    ax.plot(load, np.maximum(limited, 1), color=_LIMITED, lw=2, label=limit.name)
    if limit.name != "p50":
        ax.plot(load, np.maximum(median, 1), color=_MEDIAN, lw=1.5, ls=(0, (5, 1.5)), label="p50")
    recorded = max(result.measured_ns, 1)
    ax.plot([1], [recorded], "o", color=text_color(), ms=7, label="recorded", zorder=5)
    if result.load:
        ax.axvline(result.load, color=text_color(0.6), lw=1.2)
        ax.axvspan(result.low, result.high, color=text_color(0.6), alpha=0.12, lw=0)
    if result.most_seen < load[-1]:
        ax.axvline(
            max(result.most_seen, 1), color=text_color(0.5), lw=1, ls=":", label="highest load seen"
        )
    values = np.concatenate([low, high, median, [recorded, limit.ns]])
    log_time(ax.yaxis, max(values.min(), 1) / 1.3, values.max() * 1.6)
    draw_threshold(ax, limit.ns, "left")
    ax.set_xlim(0, load[-1] * 1.03)
    ax.xaxis.set_major_formatter(lambda x, _: f"{x:.0%}")
    ax.set_xlabel("load, of the recorded one")
    ax.set_ylabel("end to end")
    title = f"{limit} up to {result.load:.0%} of the recorded load"
    ax.set_title(title if result.load else f"{limit} at no load")
    legend(ax)
    return ax
