"""What a change would give: end to end before and after, by percentile."""

from typing import TYPE_CHECKING, Any

import numpy as np

from latprof.errors import ProfileError
from latprof.plot.axes import axes_of, explain, ink, legend, log_time
from latprof.plot.cumulative import left_over
from latprof.plot.style import PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["what_if"]

# measured, replayed, and what is left when the time is merely taken away
_LINES: dict[str, dict[str, Any]] = {
    "measured": {"marker": "o", "ls": "-", "lw": 1.8},
    "replayed": {"marker": "s", "ls": (0, (5, 1.5)), "lw": 2.2},
    "subtraction": {"marker": "x", "ls": (0, (1.5, 1.5)), "lw": 1.2},
}


def what_if(result: Any, *, ax: "Axes | None" = None) -> "Axes":
    """Draw end to end as it was measured and as it would be, by percentile.

    Parameters
    ----------
    result
        What `latprof.what_if` has returned, or its ``table``: a row a percentile, columns
        ``measured``, ``replayed`` and ``subtraction``, in ns.
    ax
        Where to draw; by default on a figure of its own.

    Raises
    ------
    ProfileError
        Something else.
    """
    table = getattr(result, "table", result)
    if not hasattr(table, "columns") or not {"measured", "replayed"} <= set(table.columns):
        raise ProfileError(
            f"{type(result).__name__} is no what-if: give what latprof.what_if returns"
        )
    ax = axes_of(ax)
    rows = [(q, i) for i, name in enumerate(table.index) if (q := _percentile(name)) is not None]
    known = table.iloc[[i for _, i in rows]]
    numbers = known[[name for name in _LINES if name in known.columns]].astype("float64")
    if not len(rows) or not np.isfinite(numbers.to_numpy()).any():
        return explain(ax, "nothing to replay: no frame has what the replay needs")
    order = np.argsort([q for q, _ in rows], kind="stable")
    qs = np.array([q for q, _ in rows])[order]
    rest = 1 - qs / 100
    below = rest[rest > 0].min(initial=1.0)
    rest = np.maximum(rest, below / 3)  # 100 stands to the right of all others
    colors = {"measured": ink(0.75), "replayed": PALETTE[4], "subtraction": ink(0.5)}
    words = {"subtraction": "time taken away, queues as they were"}
    for name in numbers.columns:
        ax.plot(
            rest,
            np.maximum(numbers[name].to_numpy()[order], 1),
            color=colors[name],
            ms=5,
            label=words.get(name, name),
            **_LINES[name],
        )
    if {"measured", "replayed"} <= set(numbers.columns):
        both = (np.maximum(numbers[name].to_numpy()[order], 1) for name in ("measured", "replayed"))
        ax.fill_between(rest, *both, color=PALETTE[4], alpha=0.12, lw=0)
    left_over(ax, rest.min())
    values = np.maximum(numbers.to_numpy()[np.isfinite(numbers.to_numpy())], 1)
    log_time(ax.yaxis, values.min() / 1.3, values.max() * 1.6)
    ax.set_ylabel("end to end")
    change = getattr(result, "title", None)
    ax.set_title(change if isinstance(change, str) else "what if")
    legend(ax)
    return ax


def _percentile(name: object) -> float | None:
    """Return the percentile that a row is of: 99, ``"p99"``, ``"p99_9"``, ``"max"``; else None."""
    text = str(name).removeprefix("p").replace("_", ".")
    text = {"max": "100", "min": "0"}.get(text, text)
    try:
        q = float(text)
    except ValueError:
        return None
    return q if 0 <= q <= 100 else None
