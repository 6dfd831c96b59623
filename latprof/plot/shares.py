"""The share of each stage in all, in middle and in slow frames."""

from typing import TYPE_CHECKING

from latprof.histogram import rank_of
from latprof.plot.axes import axes_of, explain, label, legend, on, paper, row_room
from latprof.plot.results import Results, heading, nothing, several
from latprof.plot.style import looks
from latprof.profile.answers import Slice
from latprof.text import counted
from latprof.units import format_ns

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["stages"]

_LEAST = 0.05  # shares from which on there is room for a number


def stages(result: Results, *, ax: "Axes | None" = None, slow: float = 99) -> "Axes":
    """Draw which share of the time each stage, and `other`, has: stacked, adding up to 100 %.

    Parameters
    ----------
    result
        A profile or trace, or several, also by name. Each has a bar for all its frames, for the
        middle ones (40th to 60th percentile) and for the slow ones.
    ax
        Where to draw; by default on a figure of its own.
    slow
        Frames slower than this percentile of end_to_end are the slow ones.

    Raises
    ------
    ProfileError
        No percentile.
    """
    rank_of(slow, 1)
    named = several(result)
    bars: list[tuple[str, str, Slice]] = []
    for key, profile in named:
        words = {"all": "all", "middle": "middle fifth", "slow": f"slowest {100 - slow:g} %"}
        for what, part in profile.slices(slow).items():
            if sum(part.sums.values()) > 0:
                who = f"{label(key)}, " if key else ""
                mean = format_ns(sum(part.sums.values()) / part.frames)
                frames = counted(part.frames, "frame")
                bars.append((f"{who}{words[what]}", f"{frames}, {mean} each", part))
    ax = axes_of(ax, 2.5 + 0.5 * max(len(bars), 3))
    if not bars:
        return explain(ax, nothing(named, ["end_to_end"]))
    shades = looks(named[0][1].pipeline)
    size, each = row_room(ax, len(bars))
    # two lines where they have room, else what the bar is, then of each so many-th bar
    roomy = row_room(ax, 2 * len(bars))[1] == 1
    lefts = [0.0] * len(bars)
    for name in bars[0][2].sums:
        look = shades[name]
        widths = [part.share(name) or 0.0 for _, _, part in bars]
        boxes = ax.barh(
            range(len(bars)),
            widths,
            left=lefts,
            height=0.62,
            color=look.color,
            edgecolor=paper(ax),
            hatch=look.hatch or None,
            lw=0.8,
            label=label(name),
        )
        for row, (box, share) in enumerate(zip(boxes, widths, strict=True)):
            if share >= _LEAST and each == 1:
                ax.text(
                    lefts[row] + share / 2,
                    row,
                    f"{share:.0%}",
                    ha="center",
                    va="center",
                    fontsize="small" if roomy else size,
                    color=on(look.color),
                    bbox={"facecolor": box.get_facecolor(), "edgecolor": "none", "pad": 0.8}
                    if look.hatch
                    else None,
                )
            lefts[row] += share
    told = [f"{what}\n{frames}" if roomy else what for what, frames, _ in bars]
    ax.set_yticks(
        range(0, len(bars), each), told[::each], fontsize="small" if roomy else min(size, 8.3)
    )
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(len(bars) - 0.5, -0.5)
    # a negative other cannot be, so that the whole is 1
    ax.set_xlim(0, 1)
    ax.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    ax.set_xlabel("share of end to end")
    ax.set_title(heading(named))
    legend(ax)
    return ax
