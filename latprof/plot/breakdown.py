"""Where the time of frames goes: shares of stages, and the slowest frames from mark to mark."""

from typing import TYPE_CHECKING

import numpy as np

from latprof.fold.worst import MOST_WORST, WorstFrame
from latprof.histogram import rank_of
from latprof.pipeline import Pipeline
from latprof.plot.axes import (
    background,
    explain,
    label,
    legend,
    new_axes,
    readable_on,
    row_labels,
    span_styles,
    text_color,
    unit_of,
)
from latprof.plot.results import Results, as_profile, as_profiles, heading, no_values
from latprof.profile.answers import Slice
from latprof.profile.span import check_integer
from latprof.queueing.blame import SELF_TIME
from latprof.text import counted
from latprof.units import format_ns

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = ["stages", "waterfall"]

Bars = list[tuple[int, int, int]]  # row, begin and length in ns

_LEAST_NUMBERED = 0.05  # smaller shares have no number in their bar
_WAITING = "////"  # hatch of waiting

LARGEST_FRAME = 30
"""A frame that is longer than this many times the median one is cut in a waterfall."""


def stages(result: Results, *, ax: "Axes | None" = None, slow: float = 99) -> "Axes":
    """Draw the share of each stage, and of `other`, in end_to_end, as bars of 100 %.

    Parameters
    ----------
    result
        A profile or trace, or the path of one; or several, as a sequence or a dict by name. Each
        has a bar for all frames, for the middle ones (40th to 60th percentile) and for the slow
        ones.
    ax
        Where to draw; by default a new figure.
    slow
        Frames above this percentile of end_to_end are slow.

    Raises
    ------
    ProfileError
        `slow` is not a percentile.
    """
    rank_of(slow, 1)
    named = as_profiles(result)
    words = {"all": "all", "middle": "middle fifth", "slow": f"slowest {100 - slow:g} %"}
    bars: list[tuple[str, str, Slice]] = []
    for key, profile in named:
        for what, part in profile.slices(slow).items():
            if (total := sum(part.sums.values())) > 0:
                frames = f"{counted(part.frames, 'frame')}, {format_ns(total / part.frames)} each"
                bars.append((f"{label(key)}, {words[what]}" if key else words[what], frames, part))
    ax = new_axes(ax, 2.5 + 0.5 * max(len(bars), 3))
    if not bars:
        return explain(ax, no_values(named, ["end_to_end"]))
    styles = span_styles(named[0][1].pipeline)
    size, each = row_labels(ax, len(bars))
    # labels have two lines if there is space, otherwise only every n-th bar has its name
    two_lines = row_labels(ax, 2 * len(bars))[1] == 1
    lefts = np.zeros(len(bars))
    for name in bars[0][2].sums:
        style = styles[name]
        widths = np.array([part.share(name) or 0.0 for _, _, part in bars])
        boxes = ax.barh(
            range(len(bars)),
            widths,
            left=lefts,
            height=0.62,
            color=style.color,
            edgecolor=background(ax),
            hatch=style.hatch or None,
            lw=0.8,
            label=label(name),
        )
        if each == 1:
            ax.bar_label(
                boxes,
                [f"{share:.0%}" if share >= _LEAST_NUMBERED else "" for share in widths],
                label_type="center",
                fontsize="small" if two_lines else size,
                color=readable_on(style.color),
                bbox={"facecolor": style.color, "edgecolor": "none", "pad": 0.8}
                if style.hatch
                else None,
            )
        lefts += widths
    labels = [f"{what}\n{frames}" if two_lines else what for what, frames, _ in bars]
    label_size = "small" if two_lines else min(size, 8.3)
    ax.set_yticks(range(0, len(bars), each), labels[::each], fontsize=label_size)
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(len(bars) - 0.5, -0.5)
    # no share is negative, so the sum is 1
    ax.set_xlim(0, 1)
    ax.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    ax.set_xlabel("share of end to end")
    ax.set_title(heading(named))
    legend(ax)
    return ax


def waterfall(
    result: Results,
    *,
    ax: "Axes | None" = None,
    n: int = 10,
    blame: "pd.DataFrame | None" = None,
) -> "Axes":
    """Draw the slowest frames from mark to mark, each from its start.

    Waiting is hatched: `other`, and in pipelines that name stations the stages without one.

    Parameters
    ----------
    result
        One profile or trace, or its path.
    ax
        Where to draw; by default a new figure.
    n
        Number of frames, from 1 to 100.
    blame
        A table of shares from `latprof.blame`: the legend then names the stage that each hand-off
        waits for most.

    Raises
    ------
    ProfileError
        Several results, or `n` is out of range.
    """
    check_integer("n", n, 1, MOST_WORST)
    profile = as_profile(result, "waterfall")
    frames = profile.slowest(n)
    ax = new_axes(ax, 2.2 + 0.26 * max(len(frames), 6))
    if not frames:
        return explain(ax, no_values([("", profile)], ["end_to_end"]))
    pipeline = profile.pipeline
    styles = span_styles(pipeline)
    longest = _longest_shown([frame.end_to_end_ns for frame in frames])
    unit, scale = unit_of(longest, longest="d")
    ax.set_xlabel(f"time since start ({unit})")
    waits = {stage.name for stage in pipeline.stages if stage.station is None}
    if len(waits) == len(pipeline.stages):
        waits = set()
    for name, bars in _bars(pipeline, frames).items():
        if not bars:
            continue
        rows, begins, lengths = np.array(bars, np.float64).T
        ax.barh(
            rows,
            lengths / scale,
            left=begins / scale,
            height=0.7,
            facecolor=styles[name].color,
            edgecolor=background(ax),
            hatch=styles[name].hatch + _WAITING * (name in waits) or None,
            lw=0.4,
            label=f"{label(name)}{_waiting(name, blame, waits)}",
        )
    size, each = row_labels(ax, len(frames))
    several = len({frame.source for frame in frames}) > 1
    names = []
    for row in range(0, len(frames), each):
        frame = frames[row]
        source = f" {label(frame.source or '-')}" if several else ""
        names.append(f"{frame.frame_id}{source}")
        ax.annotate(
            f"{format_ns(frame.end_to_end_ns)}{'' if frame.end_to_end_ns <= longest else ' →'}",
            (min(frame.end_to_end_ns, longest) / scale, row),
            (3, 0),
            textcoords="offset points",
            va="center",
            fontsize=size,
            color=text_color(0.9),
        )
    ax.set_yticks(range(0, len(frames), each), names, fontsize=size)
    ax.tick_params(axis="y", length=0)
    ax.set_ylabel("frame")
    ax.set_ylim(len(frames) - 0.4, -0.6)
    ax.set_xlim(0, max(longest, 1) / scale * 1.14)
    slowest = f"the {len(frames)} slowest frames" if len(frames) > 1 else "the slowest frame"
    ax.set_title(f"{label(pipeline.name)}: {slowest} of {profile.frames:,}")
    legend(ax)
    return ax


def _longest_shown(lengths: list[int]) -> int:
    """Return the length (ns) of the longest frame that is drawn whole; longer ones are cut."""
    usual = sorted(lengths)[len(lengths) // 2]
    return max(ns for ns in lengths if ns <= max(LARGEST_FRAME * usual, min(lengths)))


def _waiting(name: str, blame: "pd.DataFrame | None", waits: set[str]) -> str:
    """Return the stage that a hand-off waits for most, in brackets, or "" for other stages."""
    if blame is None or name not in blame.index:
        return " (waiting)" if name in waits else ""
    row = blame.loc[name].astype(float)
    if not np.isfinite(row.to_numpy()).any():
        return " (waiting)"
    most = str(row.idxmax())
    what = "self time" if most == SELF_TIME else f"waiting for {label(most)}"
    return f" ({row[most]:.0%} {what})"


def _bars(pipeline: Pipeline, frames: list[WorstFrame]) -> dict[str, Bars]:
    """Return the bars of each stage in each frame, and those of `other` between them."""
    found: dict[str, Bars] = {name: [] for name in (*(s.name for s in pipeline.stages), "other")}
    for row, frame in enumerate(frames):
        start, reached = frame.marks["start"], 0
        for stage in pipeline.stages:
            if stage.begin not in frame.marks or stage.end not in frame.marks:
                continue
            # marks of a clock that went back are moved, so no bar leaves the frame
            begin = min(max(frame.marks[stage.begin] - start, reached), frame.end_to_end_ns)
            end = min(max(frame.marks[stage.end] - start, begin), frame.end_to_end_ns)
            if begin > reached:
                found["other"].append((row, reached, begin - reached))
            if end > begin:
                found[stage.name].append((row, begin, end - begin))
            reached = end
        if frame.end_to_end_ns > reached:
            found["other"].append((row, reached, frame.end_to_end_ns - reached))
    return found
