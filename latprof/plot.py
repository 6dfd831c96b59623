"""Pictures: results in, matplotlib Axes out. Nothing is computed here but where ink goes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from latprof.errors import ProfileError
from latprof.histogram import rank_of
from latprof.pipeline import Pipeline
from latprof.profile import Profile
from latprof.spanprofile import SpanProfile
from latprof.units import format_ns, parse_duration

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["colors", "histogram"]

Edges = npt.NDArray[np.float64]

# Okabe and Ito's colours for readers who do not tell red from green, darkest first where it matters
_PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A5195", "#8C6D31")
_LIMIT = "#C00000"


def colors(pipeline: Pipeline) -> dict[str, str]:
    """Return a colour for each span: the same in every picture of the pipeline."""
    names = [span.name for span in (*pipeline.stages, *pipeline.sides)]
    given = {name: _PALETTE[i % len(_PALETTE)] for i, name in enumerate(names)}
    return given | {"other": "#999999", "end_to_end": "#555555", "response": "#222222"}


def histogram(
    profile: Profile,
    spans: str | Sequence[str] | None = None,
    *,
    ax: "Axes | None" = None,
    bins: int = 120,
    percentiles: Sequence[float] = (50, 99),
    thresholds: Sequence[str | int] = (),
) -> "Axes":
    """Draw how many frames took how long, on a logarithmic axis of time.

    Parameters
    ----------
    profile
        The result to draw.
    spans
        A span's name, for a histogram with its counts; or several, for a lane each, as high as
        its fullest bin. By default the stages and end_to_end.
    ax
        Where to draw; by default on a figure of its own.
    bins
        Number of bins over the whole width; all values fall into one of them.
    percentiles
        Percentiles to be marked.
    thresholds
        Durations to be drawn as lines, as ``"50ms"`` or integer ns.

    Raises
    ------
    ProfileError
        No such span, fewer than one bin, no percentile or no threshold.
    """
    if bins < 1:
        raise ProfileError(f"bins={bins}: a histogram has at least one bin")
    for q in percentiles:
        rank_of(q, 1)
    try:
        limits = [parse_duration(t, name="threshold") for t in thresholds]
    except ValueError as error:
        raise ProfileError(str(error)) from None
    if spans is None:
        names = [*(stage.name for stage in profile.pipeline.stages), "end_to_end"]
    else:
        names = [spans] if isinstance(spans, str) else list(spans)
    chosen = [profile[name] for name in names]
    if not chosen:
        raise ProfileError(f"no span is named: use one of {', '.join(profile.spans)}")
    ax = _axes(ax)
    ax.set_xlabel("latency")
    filled = [span for span in chosen if span.count]
    if not filled:
        return _explain(ax, f"no frame of {profile.pipeline.name} has {' or '.join(names)}")
    edges = _log_edges(filled, [t for t in limits if t > 0], bins)
    ax.set_xscale("log")
    ax.set_xlim(edges[0], edges[-1])
    ax.xaxis.set_major_formatter(lambda x, _: _tick(x))
    ax.xaxis.set_minor_formatter(lambda x, _: "")
    ax.set_title(f"{profile.pipeline.name}: {profile.frames:,} frames")
    shades = colors(profile.pipeline)
    if len(filled) == 1:
        _bars(ax, filled[0], edges, shades[filled[0].name], percentiles)
    else:
        _lanes(ax, filled, edges, shades, percentiles)
    for i, limit in enumerate(limits):
        ax.axvline(max(limit, 1), color=_LIMIT, lw=1.2)
        _note(ax, max(limit, 1), format_ns(limit), _LIMIT, line=i)
    return ax


def _bars(
    ax: "Axes", span: SpanProfile, edges: Edges, color: str, percentiles: Sequence[float]
) -> None:
    ax.set_ylabel("frames per bin")
    ax.set_title(f"{ax.get_title()}, {span.name}")
    counts = _rebin(span, edges)
    ax.stairs(counts, edges, fill=True, color=color, alpha=0.35, lw=0)
    ax.stairs(counts, edges, color=color, lw=1.5)
    ax.set_ylim(0, counts.max() * 1.35)
    for i, q in enumerate(percentiles):
        value = span.percentile(q).value
        if value is not None:
            ax.axvline(max(value, 1), color="0.4", lw=1, ls=":")
            _note(ax, max(value, 1), f"p{q:g} {format_ns(value)}", "0.4", line=i + 1)


def _lanes(
    ax: "Axes",
    spans: list[SpanProfile],
    edges: Edges,
    shades: dict[str, str],
    percentiles: Sequence[float],
) -> None:
    """Draw a lane for each span, each as high as its fullest bin, the first one on top."""
    for place, span in enumerate(spans):
        base = len(spans) - 1 - place
        counts = _rebin(span, edges)
        heights = base + 0.85 * counts / counts.max()
        ax.axhline(base, color="0.4", lw=0.6, alpha=0.5)
        ax.stairs(
            heights, edges, baseline=base, fill=True, color=shades[span.name], alpha=0.45, lw=0
        )
        ax.stairs(heights, edges, baseline=base, color=shades[span.name], lw=1.2, label=span.name)
        for q in percentiles:
            value = span.percentile(q).value
            if value is not None:
                ax.plot([max(value, 1)] * 2, [base, base + 0.5], color="0.4", lw=1.2)
                left = q < max(percentiles)
                ax.annotate(
                    f"p{q:g}",
                    (max(value, 1), base + 0.5),
                    (-2 if left else 2, 0),
                    textcoords="offset points",
                    fontsize="x-small",
                    color="0.2",
                    va="top",
                    ha="right" if left else "left",
                )
    named = [f"{span.name}\nmean {format_ns(span.mean)}" for span in reversed(spans)]
    ax.set_yticks([i + 0.25 for i in range(len(spans))], named)
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(-0.1, len(spans) + 0.05)


def _note(ax: "Axes", x: float, text: str, color: str, *, line: int) -> None:
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
    )


def _axes(ax: "Axes | None") -> "Axes":
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    _, made = plt.subplots(figsize=(9, 4.5), layout="constrained")
    return made


def _explain(ax: "Axes", text: str) -> "Axes":
    ax.text(0.5, 0.5, text, ha="center", va="center", transform=ax.transAxes, wrap=True)
    ax.set_xticks([])
    ax.set_yticks([])
    return ax


def _log_edges(spans: list[SpanProfile], limits: list[int], bins: int) -> Edges:
    # 0 has no logarithm: it is drawn in the bin of 1 ns
    low = min([max(span.min or 1, 1) for span in spans] + limits)
    high = max([max(span.max or 1, 1) for span in spans] + limits)
    return np.geomspace(low / 1.15, high * 1.4, bins + 1)


def _rebin(span: SpanProfile, edges: Edges) -> Edges:
    filled = np.array(list(span.histogram), dtype=np.float64)
    middles = np.clip((filled[:, 0] + filled[:, 1]) / 2, edges[0], edges[-1])
    return np.histogram(middles, edges, weights=filled[:, 2])[0]


def _tick(ns: float) -> str:
    for unit, scale in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if ns >= scale * 0.999:
            return f"{ns / scale:g} {unit}"
    return f"{ns:g} ns"
