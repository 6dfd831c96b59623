"""What all pictures share: axes and their units, text that fits, empty pictures."""

import contextlib
import math
import textwrap
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import numpy as np

from latprof.text import escape

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
    "row_room",
    "shorten",
    "tick",
    "unit_of",
    "without_windows",
]

_UNITS = (("d", 86_400e9), ("h", 3_600e9), ("min", 60e9), ("s", 1e9), ("ms", 1e6), ("us", 1e3))
_LONGEST_LABEL = 24

# of a legend, in points: its letters of small text, a handle and its gap, the height of a line;
# and the part of the height that it may have
_LETTER, _HANDLE, _LINE = 5.5, 38, 14.5
_LEGEND = 0.4

# times that people call round, beyond the seconds: all of them, and few for a long axis
_ROUND = [t * 1e9 for t in (1, 2, 5, 10, 20, 30)]
_ROUND += [t * 60e9 for t in (1, 2, 5, 10, 20, 30)] + [t * 3600e9 for t in (1, 2, 6, 12)]
_ROUND += [t * 86_400e9 for t in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 1e4, 1e5)]
_FEW = [*(10.0**k for k in range(11)), 60e9, 600e9, 3600e9]
_FEW += [t * 86_400e9 for t in (1, 10, 100, 1e3, 1e4, 1e5)]
_MOST_TICKS = 9
_FILE = 5.0  # inches, how high the picture of a file is at least

_windows: ContextVar[bool] = ContextVar("windows", default=True)


def axes_of(ax: "Axes | None", height: float = 4.5) -> "Axes":
    """Return `ax`, or axes of a figure of their own, 9 inches wide."""
    if ax is not None:
        return ax
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    # some air around it: a picture stands next to text
    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.08)
    if _windows.get():
        import matplotlib.pyplot as plt

        return plt.subplots(figsize=(9, height), layout=layout)[1]
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, max(height, _FILE)), layout=layout)
    FigureCanvasAgg(figure)
    return figure.add_subplot()


@contextlib.contextmanager
def without_windows() -> Iterator[None]:
    """Make figures for files within the block: none that pyplot keeps, or looks for a display."""
    token = _windows.set(False)
    try:
        yield
    finally:
        _windows.reset(token)


def explain(ax: "Axes", text: str) -> "Axes":
    """Leave axes empty but for a sentence that says why, within their frame."""
    import matplotlib as mpl

    letters = int(_width(ax) / (0.52 * mpl.rcParams["font.size"]))
    said = ax.text(
        0.5,
        0.5,
        _wrapped(text, max(letters, 12)),
        ha="center",
        va="center",
        transform=ax.transAxes,
        wrap=True,
        parse_math=False,
    )
    # a sentence does not push the frame around it together
    said.set_in_layout(False)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.set_xlabel("")
    ax.set_ylabel("")
    return ax


def _wrapped(text: str, letters: int) -> str:
    r"""Return a sentence in lines of so many letters, the reason after its colon on its own.

    Examples
    --------
    >>> _wrapped("no frame has play: none has finished", 20)
    'no frame has play:\nnone has finished'
    """
    if len(text) <= letters:
        return text
    said, colon, reason = text.partition(": ")
    parts = (f"{said}{colon.strip()}", reason) if colon else (said,)
    return "\n".join(textwrap.fill(part, letters) for part in parts)


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
    a\$b\$;xxxxxxxxxxxx...xxxxxxxxx; _hidden
    """
    shown = shorten(escape(name))
    # a legend leaves out what begins with _
    shown = f" {shown}" if shown.startswith("_") else shown
    return shown.replace("$", r"\$")


def shorten(text: str, longest: int = _LONGEST_LABEL) -> str:
    """Return text with its middle left out where it is too long: names often differ at the end.

    Examples
    --------
    >>> shorten("recording_of_monday_evening", 16), shorten("monday", 16)
    ('recordin...ening', 'monday')
    """
    if len(text) <= longest:
        return text
    end = max(longest - 3, 2) * 3 // 7
    return f"{text[: max(longest - 3 - end, 1)]}...{text[-end:]}"


def tick(ns: float) -> str:
    """Write a round time of an axis.

    Examples
    --------
    >>> [tick(ns) for ns in (1, 250, 1e3, 2.5e6, 1e9, 3e10, 6e11, 864e11)]
    ['1 ns', '250 ns', '1 us', '2.5 ms', '1 s', '30 s', '10 min', '1 d']
    """
    for unit, scale in _UNITS:
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
    from matplotlib.ticker import (
        FixedLocator,
        FuncFormatter,
        LogLocator,
        MaxNLocator,
        NullFormatter,
    )

    vertical = axis is axis.axes.yaxis
    scale = axis.axes.set_yscale if vertical else axis.axes.set_xscale
    limits: Any = axis.axes.set_ylim if vertical else axis.axes.set_xlim
    scale("log")
    limits(low_ns, high_ns)
    decades = np.log10(high_ns / low_ns)
    if high_ns > 120e9 and len(rounds := _rounds(low_ns, high_ns)) > 1:
        axis.set_major_locator(FixedLocator(rounds))
        axis.set_minor_locator(FixedLocator([]))
    elif decades < 0.7:
        axis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        axis.set_minor_locator(MaxNLocator(20))
    else:
        subs = (1.0, 2.0, 5.0) if decades < 2 else (1.0, 3.0) if decades < 2.6 else (1.0,)
        axis.set_major_locator(LogLocator(subs=subs, numticks=9))
    axis.set_major_formatter(FuncFormatter(lambda ns, _: tick(ns)))
    axis.set_minor_formatter(NullFormatter())


def _rounds(low_ns: float, high_ns: float) -> list[float]:
    """Return the round times on an axis that reaches beyond minutes: powers of ten no more.

    Examples
    --------
    >>> [tick(ns) for ns in _rounds(3e10, 4e12)]
    ['30 s', '1 min', '2 min', '5 min', '10 min', '20 min', '30 min', '1 h']
    >>> [tick(ns) for ns in _rounds(1, 6e13)]
    ['10 ns', '1 us', '100 us', '10 ms', '1 s', '1 min', '1 h']
    """
    found: list[float] = []
    for known in (_ROUND if low_ns > 1e9 else _FEW, _FEW):
        found = sorted(ns for ns in known if low_ns <= ns <= high_ns)
        if len(found) <= _MOST_TICKS:
            return found
    each = -(-len(found) // _MOST_TICKS)
    return found[::-1][::each][::-1]


def linear_time(axis: "Axis", ns: float, *, longest: str = "s", what: str = "") -> float:
    """Label an axis of times with the unit that suits times up to `ns`; return its size in ns.

    What is drawn on the axis is to be divided by it.
    """
    unit, scale = unit_of(ns, longest=longest)
    axis.set_label_text(f"{what} ({unit})" if what else unit)
    return scale


def legend(ax: "Axes", handles: Sequence[Any] | None = None) -> None:
    """Put a legend above the axes, below their title, in as many columns as have room.

    Where it would take most of a small picture, its texts are cut in their middle.
    """
    if handles is None:
        handles = ax.get_legend_handles_labels()[0]
    if not handles:
        return
    names = [str(handle.get_label()) for handle in handles]
    room = _width(ax)
    columns = _columns([len(name) for name in names], room)
    most = max(2, int(_height(ax) * _LEGEND / _LINE))
    if -(-len(names) // columns) > most:
        columns = -(-len(names) // most)
        letters = max(int((room / columns - _HANDLE) / _LETTER), 7)
        # a $ and what keeps it from being a formula are one letter
        cut = (shorten(name.replace(r"\$", "$"), letters) for name in names)
        names = [name.replace("$", r"\$") for name in cut]
    ax.legend(
        list(handles),
        names,
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        ncols=columns,
        frameon=False,
        fontsize="small",
        borderaxespad=0.2,
        handlelength=2.2,
        columnspacing=1.2,
    )
    ax.set_title(ax.get_title(), pad=9 + _LINE * -(-len(names) // columns))


def row_room(ax: "Axes", rows: int) -> tuple[float, int]:
    """Return the size of text that a row has room for, and each how many-th row has any."""
    points = 0.62 * _height(ax) / rows
    each = max(1, math.ceil(7.5 / points))
    return min(8.5, max(6.0, 0.85 * points * each)), each


def _width(ax: "Axes") -> float:
    """Return how many points wide axes will be, about: their labels and ticks stand beside."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    return figure.get_figwidth() * 72 * 0.8 * ax.get_position().width / 0.775


def _height(ax: "Axes") -> float:
    """Return how many points high the place of axes is, title, legend and ticks included."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    return figure.get_figheight() * 72 * ax.get_position().height / 0.77


def _columns(lengths: Sequence[int], room: float) -> int:
    """Return how many columns of a legend fit into `room` points, filled one after the other.

    Examples
    --------
    >>> _columns([3, 3, 3, 3], 130), _columns([3, 3, 3, 30], 270)
    (2, 2)
    """
    for columns in range(min(len(lengths), 6), 1, -1):
        widest = [part.max() for part in np.array_split(lengths, columns)]
        if sum(width * _LETTER + _HANDLE for width in widest) <= room:
            return columns
    return 1
