"""What all pictures share: axes and their units, text that fits, empty pictures."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from latprof.units import escape

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

__all__ = [
    "axes_of",
    "explain",
    "ink",
    "label",
    "legend",
    "linear_time",
    "log_time",
    "on",
    "paper",
    "tick",
    "unit_of",
]

_UNITS = (("d", 86_400e9), ("h", 3_600e9), ("min", 60e9), ("s", 1e9), ("ms", 1e6), ("us", 1e3))
_LONGEST_LABEL = 24


def axes_of(ax: "Axes | None", height: float = 4.5) -> "Axes":
    """Return `ax`, or axes of a figure of their own, 9 inches wide."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    _, made = plt.subplots(figsize=(9, height), layout="constrained")
    return made


def explain(ax: "Axes", text: str) -> "Axes":
    """Leave axes empty but for a sentence that says why."""
    ax.text(
        0.5,
        0.5,
        text,
        ha="center",
        va="center",
        transform=ax.transAxes,
        wrap=True,
        parse_math=False,
    )
    ax.set_xticks([])
    ax.set_yticks([])
    ax.set_xlabel("")
    ax.set_ylabel("")
    return ax


def ink(alpha: float = 1.0) -> tuple[float, float, float, float]:
    """Return the colour of text in the style that is in force: dark on light, or light on dark."""
    import matplotlib as mpl
    from matplotlib.colors import to_rgba

    return to_rgba(mpl.rcParams["text.color"], alpha)


def on(color: str) -> str:
    """Return black or white, whichever is read better on a colour.

    Examples
    --------
    >>> on("#FAB01B"), on("#6B2CAE")
    ('black', 'white')
    """
    from matplotlib.colors import to_rgb

    linear = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color))
    bright = sum(part * weight for part, weight in zip(linear, (0.2126, 0.7152, 0.0722)))  # noqa: B905
    return "black" if bright > 0.179 else "white"


def paper(ax: "Axes") -> Any:
    """Return the colour behind the data."""
    return ax.get_facecolor()


def label(name: str) -> str:
    r"""Return a name as it is written in a picture: harmless, no formula, not too long.

    Examples
    --------
    >>> print(label("a$b$"), label("x" * 40), label("_hidden"), sep=";")
    a\$b\$;xxxxxxxxxxxxxxxxxxxxx...; _hidden
    """
    shown = escape(name)
    if len(shown) > _LONGEST_LABEL:
        shown = f"{shown[: _LONGEST_LABEL - 3]}..."
    # a legend leaves out what begins with _
    shown = f" {shown}" if shown.startswith("_") else shown
    return shown.replace("$", r"\$")


def tick(ns: float) -> str:
    """Write a round time of an axis.

    Examples
    --------
    >>> [tick(ns) for ns in (1, 250, 1e3, 2.5e6, 1e9, 6e10)]
    ['1 ns', '250 ns', '1 us', '2.5 ms', '1 s', '60 s']
    """
    for unit, scale in _UNITS[3:]:
        if ns >= scale * 0.999:
            return f"{ns / scale:g} {unit}"
    return f"{ns:g} ns"


def unit_of(ns: float, *, longest: str = "s") -> tuple[str, float]:
    """Return the unit to write times up to `ns` in, and its size in ns.

    Examples
    --------
    >>> unit_of(2_500_000), unit_of(3_000), unit_of(86_400e9 * 2, longest="d")
    (('ms', 1000000.0), ('us', 1000.0), ('h', 3600000000000.0))
    """
    names = [unit for unit, _ in _UNITS]
    for unit, scale in _UNITS[names.index(longest) :]:
        # from 2 of the next unit on: 90 s, not 1.5 min; but 1.5 s, as people say
        if ns >= scale * (3 if scale > 1e9 else 1):
            return unit, scale
    return "ns", 1.0


def log_time(axis: "Axis", low_ns: float, high_ns: float) -> None:
    """Make an axis one of times, logarithmic, from `low_ns` to `high_ns`, each tick with its unit.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> ax = Figure().add_subplot()
    >>> log_time(ax.xaxis, 1e3, 1e6)
    >>> ax.get_xscale(), ax.get_xlim()
    ('log', (np.float64(1000.0), np.float64(1000000.0)))
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    vertical = axis is axis.axes.yaxis
    scale = axis.axes.set_yscale if vertical else axis.axes.set_xscale
    limits: Any = axis.axes.set_ylim if vertical else axis.axes.set_xlim
    scale("log")
    limits(low_ns, high_ns)
    decades = np.log10(high_ns / low_ns)
    if decades < 0.7:
        axis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        axis.set_minor_locator(MaxNLocator(20))
    else:
        subs = (1.0, 2.0, 5.0) if decades < 2 else (1.0, 3.0) if decades < 2.6 else (1.0,)
        axis.set_major_locator(LogLocator(subs=subs, numticks=9))
    axis.set_major_formatter(FuncFormatter(lambda ns, _: tick(ns)))
    axis.set_minor_formatter(NullFormatter())


def linear_time(axis: "Axis", ns: float, *, longest: str = "s", what: str = "") -> float:
    """Label an axis of times with the unit that suits times up to `ns`; return its size in ns.

    What is drawn on the axis is to be divided by it.
    """
    unit, scale = unit_of(ns, longest=longest)
    axis.set_label_text(f"{what} ({unit})" if what else unit)
    return scale


def legend(ax: "Axes", handles: Sequence[Any] | None = None) -> None:
    """Put a legend above the axes, below their title, in as many columns as have room."""
    if handles is None:
        handles = ax.get_legend_handles_labels()[0]
    if not handles:
        return
    figure = ax.get_figure(root=True)
    assert figure is not None
    room = figure.get_figwidth() * 72 * 0.8 * ax.get_position().width / 0.775
    columns = _columns([len(str(handle.get_label())) for handle in handles], room)
    rows = -(-len(handles) // columns)
    ax.legend(
        handles=list(handles),
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        ncols=columns,
        frameon=False,
        fontsize="small",
        borderaxespad=0.2,
        handlelength=2.2,
        columnspacing=1.2,
    )
    ax.set_title(ax.get_title(), pad=9 + 14.5 * rows)


def _columns(lengths: Sequence[int], room: float) -> int:
    """Return how many columns of a legend fit into `room` points, filled one after the other.

    Examples
    --------
    >>> _columns([3, 3, 3, 3], 130), _columns([3, 3, 3, 30], 270)
    (2, 2)
    """
    for columns in range(min(len(lengths), 6), 1, -1):
        widest = [part.max() for part in np.array_split(lengths, columns)]
        # letters of small text are some 5.5 points wide, a handle and its gap some 38
        if sum(width * 5.5 + 38 for width in widest) <= room:
            return columns
    return 1
