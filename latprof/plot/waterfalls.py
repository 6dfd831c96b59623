"""The slowest frames, each as a bar from mark to mark."""

from typing import TYPE_CHECKING, Any

import numpy as np

from latprof.errors import ProfileError
from latprof.fold.sums import WorstFrame
from latprof.pipeline import Pipeline
from latprof.plot.axes import axes_of, explain, ink, label, legend, linear_time, paper, row_room
from latprof.plot.results import Results, nothing, one
from latprof.plot.style import looks
from latprof.profile.answers import worst_frames
from latprof.queueing.blame import SELF_TIME
from latprof.units import format_ns

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = ["waterfall"]

Bars = list[tuple[int, int, int]]  # row, begin and length in ns

_WAITING = "////"


def waterfall(
    result: Results,
    *,
    ax: "Axes | None" = None,
    n: int = 10,
    blame: "pd.DataFrame | None" = None,
) -> "Axes":
    """Draw the slowest frames from mark to mark, time running from the start of each.

    Waiting is hatched: stages that no station serves, in pipelines that name stations; and so is
    `other`, time that no stage claims.

    Parameters
    ----------
    result
        One profile or trace.
    ax
        Where to draw; by default on a figure of its own.
    n
        How many frames, from 1 to 100.
    blame
        What `latprof.blame` found (shares): the legend then says what each hand-off waits for
        most.

    Raises
    ------
    ProfileError
        Several results, or another `n`.
    """
    if n < 1:
        raise ProfileError(f"the {n} worst frames: ask for one at least")
    profile = one(result, "waterfall")
    frames = worst_frames(profile.sums, n)
    ax = axes_of(ax, 2.2 + 0.26 * max(len(frames), 6))
    if not frames:
        return explain(ax, nothing([("", profile)], ["end_to_end"]))
    pipeline = profile.pipeline
    shades = looks(pipeline)
    longest = max(frame.end_to_end_ns for frame in frames)
    scale = linear_time(ax.xaxis, longest, longest="d", what="time since start")
    waits = {stage.name for stage in pipeline.stages if stage.station is None}
    if len(waits) == len(pipeline.stages):
        waits = set()
    for name, bars in _bars(pipeline, frames).items():
        if not bars:
            continue
        look = shades[name]
        rows, begins, lengths = (np.array(column, np.float64) for column in zip(*bars, strict=True))
        hatch = look.hatch + (_WAITING if name in waits else "")
        told = f"{label(name)}{_waiting(name, blame, waits)}"
        ax.barh(
            rows,
            lengths / scale,
            left=begins / scale,
            height=0.7,
            facecolor=look.color,
            edgecolor=paper(ax),
            hatch=hatch or None,
            lw=0.4,
            label=told,
        )
    size, each = row_room(ax, len(frames))
    for row, frame in enumerate(frames):
        if row % each:
            continue
        ax.annotate(
            format_ns(frame.end_to_end_ns),
            (frame.end_to_end_ns / scale, row),
            (3, 0),
            textcoords="offset points",
            va="center",
            fontsize=size,
            color=ink(0.9),
        )
    several = len({frame.source for frame in frames}) > 1
    names = [
        f"{frame.frame_id}" + (f" {label(frame.source or '-')}" if several else "")
        for frame in frames
    ]
    ax.set_yticks(range(0, len(frames), each), names[::each], fontsize=size)
    ax.tick_params(axis="y", length=0)
    ax.set_ylabel("frame")
    ax.set_ylim(len(frames) - 0.4, -0.6)
    ax.set_xlim(0, max(longest, 1) / scale * 1.14)
    shown = f"the {len(frames)} slowest frames" if len(frames) > 1 else "the slowest frame"
    ax.set_title(f"{label(pipeline.name)}: {shown} of {profile.frames:,}")
    legend(ax)
    return ax


def _waiting(name: str, blame: Any, waits: set[str]) -> str:
    """Say what a hand-off waits for most; nothing of a stage that is none."""
    if blame is None or name not in blame.index:
        return " (waiting)" if name in waits else ""
    row = blame.loc[name].astype(float)
    if not np.isfinite(row.to_numpy()).any():
        return " (waiting)"
    most = row.idxmax()
    return f" ({row[most]:.0%} {'self time' if most == SELF_TIME else f'waiting for {most}'})"


def _bars(pipeline: Pipeline, frames: list[WorstFrame]) -> dict[str, Bars]:
    """Return the stretches of each stage in each frame, and of other: what they leave."""
    found: dict[str, Bars] = {name: [] for name in (*(s.name for s in pipeline.stages), "other")}
    for row, frame in enumerate(frames):
        start, reached = frame.marks["start"], 0
        for stage in pipeline.stages:
            if stage.begin not in frame.marks or stage.end not in frame.marks:
                continue
            # a clock that went back gives no length, and nothing outside of the frame is drawn
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
