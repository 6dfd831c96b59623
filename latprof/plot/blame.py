"""Who waits for whom: the matrix that `latprof.blame` returns."""

from typing import TYPE_CHECKING, Union

import numpy as np

from latprof.errors import ProfileError
from latprof.plot.axes import axes_of, explain, label, on, paper
from latprof.queueing.blame import SELF_TIME
from latprof.queueing.blame import blame as blame_of
from latprof.trace import Trace
from latprof.units import format_ns

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

__all__ = ["blame"]


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
        What `latprof.blame` has returned: a row for each hand-off, a column for each
        stage, and ``self_time``; or a trace.
    ax
        Where to draw; by default on a figure of its own.
    value
        What its numbers are: ``"share"`` (0 to 1), or ``"mean"``, ``"total"``, ``"p99"`` in ns.
    cmap
        A colour map of matplotlib; by default shades of one colour, the more the stronger.

    Raises
    ------
    ProfileError
        No such table, or another `value`.
    TraceError
        A trace that is sampled or lacks frames.

    Examples
    --------
    >>> import pandas as pd
    >>> from matplotlib.figure import Figure
    >>> shares = pd.DataFrame({"alsa": [0.98], "self_time": [0.02]}, index=["ipc"])
    >>> ax = blame(shares, ax=Figure().add_subplot())
    >>> [text.get_text() for text in ax.texts]
    ['98%', '2%']
    """
    values = ("share", "mean", "total", "p99")
    if value not in values:
        raise ProfileError(f"value={value!r} is unknown: use one of {', '.join(values)}")
    if isinstance(result, Trace):
        result = blame_of(result, value=value)
    if not (hasattr(result, "columns") and hasattr(result, "index")):
        raise ProfileError(
            f"{type(result).__name__} is no blame: give what latprof.blame returns, or a trace"
        )
    ax = axes_of(ax, 1.8 + 0.5 * max(len(result.index), 2))
    table = result.to_numpy(np.float64, na_value=np.nan)
    if table.size == 0:
        return explain(ax, "nobody waits: the pipeline has no hand-off before a station")
    if not np.isfinite(table).any():
        return explain(ax, "nobody waits: no frame has passed a hand-off")
    shown = np.ma.masked_invalid(table)
    colors = _shades(ax) if cmap is None else cmap
    top = 1.0 if value == "share" else max(float(shown.max()), 1.0)
    mesh = ax.pcolormesh(shown, cmap=colors, vmin=0, vmax=top, edgecolors=paper(ax), lw=1.5)
    size = "small" if max(table.shape) <= 9 else "x-small" if max(table.shape) <= 14 else 5
    for (row, column), number in np.ndenumerate(table):
        if np.isfinite(number):
            back = mesh.get_cmap()(number / top)
            ax.text(
                column + 0.5,
                row + 0.5,
                f"{number:.0%}" if value == "share" else format_ns(number),
                ha="center",
                va="center",
                fontsize=size,
                color=on(back),
            )
    slanted = len(result.columns) > 5
    ax.set_xticks(
        np.arange(len(result.columns)) + 0.5,
        ["self" if name == SELF_TIME else label(str(name)) for name in result.columns],
        rotation=30 if slanted else 0,
        ha="right" if slanted else "center",
        rotation_mode="anchor",
    )
    ax.set_yticks(np.arange(len(result.index)) + 0.5, [label(str(name)) for name in result.index])
    ax.tick_params(length=0)
    ax.set_ylim(len(result.index), 0)
    ax.set_xlabel("for earlier frames in")
    ax.set_ylabel("waiting in")
    told = {"share": "share of the time", "mean": "mean", "total": "in all", "p99": "p99"}
    ax.set_title(f"who waits for whom, {told[value]}")
    return ax


def _shades(ax: "Axes") -> "Colormap":
    """Return shades from the paper to a strong colour, on whatever paper."""
    from matplotlib.colors import LinearSegmentedColormap, to_rgb

    back = to_rgb(paper(ax))
    return LinearSegmentedColormap.from_list(
        "latprof", [back, "#6B2CAE" if sum(back) > 1.5 else "#C874F9"]
    )
