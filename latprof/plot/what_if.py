"""What a change would give: end to end before and after, by percentile."""

from typing import TYPE_CHECKING, Any

import numpy as np

from latprof.arrays import Floats
from latprof.errors import ProfileError
from latprof.plot.axes import axes_of, explain, ink, label, legend, log_time
from latprof.plot.cumulative import left_over
from latprof.table import PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["what_if"]

Lines = dict[str, tuple[Floats, Floats]]  # by name: the share of slower frames, ns

_CHANGED = PALETTE[4]
_DASHES: dict[str, Any] = {
    "measured": "-",
    "replayed": (0, (5, 1.5)),
    "subtraction": (0, (1.5, 1.5)),
    "other": (0, (1, 2)),
}
_MARKERS = {"measured": "o", "replayed": "s", "subtraction": "x"}
_WORDS = {"subtraction": "by subtraction, queues as they were"}
_POINTS = 24  # a decade


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
    whole = all(hasattr(result, f"{name}_ns") for name in ("measured", "replayed"))
    lines = _of_frames(result) if whole else _of_table(table)
    ax = axes_of(ax)
    if not lines:
        return explain(ax, "nothing to replay: no frame has what the replay needs")
    colors = {"measured": ink(0.75), "replayed": _CHANGED}
    for place, (name, (rest, values)) in enumerate(lines.items()):
        ax.plot(
            rest,
            values,
            color=colors.get(name, ink(0.5) if name == "subtraction" else _CHANGED),
            ls=_DASHES[name],
            lw={"replayed": 2.2, "measured": 1.8}.get(name, 1.1),
            marker=_MARKERS.get(name),
            # at other places for each, so that lines that lie on each other are all seen
            markevery=(place * _POINTS // 4, _POINTS) if whole else 1,
            ms=5,
            label="_" if name == "other" else _WORDS.get(name, name),
        )
    if "other" in lines:
        (rest, low), (_, high) = lines["replayed"], lines["other"]
        ax.fill_between(rest, low, high, color=_CHANGED, alpha=0.25, lw=0, label="either reading")
    left_over(ax, min(float(rest[-1]) for rest, _ in lines.values()))
    every = np.concatenate([values for _, values in lines.values()])
    log_time(ax.yaxis, every.min() / 1.3, every.max() * 1.6)
    ax.set_ylabel("end to end")
    changes = getattr(result, "changes", None)
    told = ", ".join(f"{label(name).strip()} {change}" for name, change in (changes or {}).items())
    ax.set_title(f"what if {told}" if told and len(told) < 70 else "what if")
    legend(ax)
    return ax


def _of_frames(result: Any) -> Lines:
    """Return as many points of the sorted latencies as there is ink for, and the last."""
    lines = {}
    for name in _DASHES:
        values = np.asarray(getattr(result, f"{name}_ns", ()), np.float64)
        if name == "other" and np.array_equal(values, np.asarray(result.replayed_ns)):
            continue
        if not len(values):
            continue
        n = len(values)
        rest = 10 ** -(np.arange(int(np.log10(n) * _POINTS) + 1) / _POINTS)
        places = np.clip(np.ceil((1 - rest) * n - 1e-6).astype(np.int64) - 1, 0, n - 1)
        shown = np.append(values[places], values[-1])
        lines[name] = (np.append(rest, 0.5 / n), np.maximum(shown, 1))
    if len({len(rest) for rest, _ in lines.values()}) > 1:
        lines.pop("other", None)  # of another number of frames: no band
    return lines if {"measured", "replayed"} <= lines.keys() else {}


def _of_table(table: Any) -> Lines:
    """Return the rows that are percentiles."""
    rows = sorted((q, i) for i, name in enumerate(table.index) if (q := _percentile(name)) >= 0)
    if not rows:
        return {}
    rest = 1 - np.array([q for q, _ in rows]) / 100
    rest = np.maximum(rest, rest[rest > 0].min(initial=1.0) / 3)  # 100 stands right of all others
    lines = {}
    for name in ("measured", "replayed", "subtraction"):
        if name in table.columns:
            values = table[name].iloc[[i for _, i in rows]].to_numpy(np.float64, na_value=np.nan)
            known = np.isfinite(values)
            if known.any():
                lines[name] = (rest[known], np.maximum(values[known], 1))
    return lines


def _percentile(name: object) -> float:
    """Return the percentile that a row is of: 99, ``"p99"``, ``"p99_9"``, ``"max"``; else -1."""
    text = str(name).removeprefix("p").replace("_", ".")
    try:
        q = float({"max": "100", "min": "0"}.get(text, text))
    except ValueError:
        return -1.0
    return q if 0 <= q <= 100 else -1.0
