"""Shared parts of all pictures: how spans look, axes of time, legends, thresholds, text that fits.

The colours of spans are those of `latprof.colors`. Lines also differ without colour. If a pipeline
has more than eight spans, the others have lighter and darker shades of the same colours and another
dash, so that no two spans look the same. A hatch means waiting.
"""

import contextlib
import math
import textwrap
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from latprof.colors import PALETTE, colors
from latprof.pipeline import Pipeline
from latprof.text import escape
from latprof.units import format_exact

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

__all__ = [
    "THRESHOLD",
    "Dash",
    "SpanStyle",
    "background",
    "draw_threshold",
    "explain",
    "format_tick",
    "label",
    "legend",
    "log_time",
    "new_axes",
    "note",
    "note_at_top",
    "readable_on",
    "result_colors",
    "result_dash",
    "result_marker",
    "row_labels",
    "shorten",
    "span_styles",
    "text_color",
    "unit_of",
    "width_in_points",
    "without_windows",
]

Dash = str | tuple[int, tuple[float, ...]]

THRESHOLD = "#DB3A3A"
"""Colour of thresholds and of values above them, which also have a dash or a marker."""

_MARKERS = "osD^vPX*"


@dataclass(frozen=True, slots=True)
class SpanStyle:
    """How a span is drawn: `hatch` of areas, `dash` of lines, `marker` of points."""

    color: str
    hatch: str = ""
    dash: Dash = "-"
    marker: str = "o"


def span_styles(pipeline: Pipeline) -> dict[str, SpanStyle]:
    """Return the style of each span of a pipeline, in the pipeline's order; no two are equal.

    Examples
    --------
    >>> styles = span_styles(Pipeline.chain("mic", *(f"stage_{i}" for i in range(9))))
    >>> styles["stage_0"].color == styles["stage_8"].color, styles["stage_8"].hatch
    (False, '')
    """
    given, shades = {}, colors(pipeline)
    for i, span in enumerate((*pipeline.stages, *pipeline.sides)):
        again, place = divmod(i, len(PALETTE))
        dash: Dash = "-" if again == 0 else (0, (4.0 + again, 1.5))
        given[span.name] = SpanStyle(shades[span.name], "", dash, _MARKERS[place])
    return given | {
        "other": SpanStyle(shades["other"], "\\\\\\\\", (0, (1, 1)), "x"),
        "end_to_end": SpanStyle(shades["end_to_end"], "", "-", "h"),
        "response": SpanStyle(shades["response"], "", (0, (3, 1, 1, 1)), "p"),
    }


def result_colors(count: int) -> list[str]:
    """Return a colour for each of several results in one picture; no two are equal.

    Examples
    --------
    >>> result_colors(2) == list(PALETTE[:2]), len(set(result_colors(40)))
    (True, 40)
    """
    if count <= len(PALETTE):
        return list(PALETTE[:count])
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return [to_hex(colormaps["turbo"]((i + 0.5) / count)) for i in range(count)]


def result_dash(i: int) -> Dash:
    """Return the dash of the i-th of several results in one picture; no two are equal.

    Examples
    --------
    >>> result_dash(0), result_dash(1), result_dash(3)
    ('-', (0, (5, 1.5)), (0, (6, 1.5, 1, 1.5)))
    """
    first: tuple[Dash, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)))
    return first[i] if i < len(first) else (0, (6, 1.5, *(1, 1.5) * (i - 2)))


def result_marker(i: int) -> str:
    """Return the marker of the i-th of several results; the ninth has that of the first again.

    Examples
    --------
    >>> result_marker(0), result_marker(1)
    ('o', 's')
    """
    return _MARKERS[i % len(_MARKERS)]


_UNITS = (("d", 86_400e9), ("h", 3_600e9), ("min", 60e9), ("s", 1e9), ("ms", 1e6), ("us", 1e3))
_LONGEST_LABEL = 24

# sizes in a legend, in points
_LETTER = 5.5  # width of a letter of small text
_HANDLE = 38  # width of a line or patch and its gap
_LINE = 14.5  # height of a line
_LEGEND = 0.4  # the largest part of the height of a picture that a legend takes

# round times for ticks beyond seconds: _FEW are for a long axis
_ROUND = [t * 1e9 for t in (1, 2, 5, 10, 20, 30)]
_ROUND += [t * 60e9 for t in (1, 2, 5, 10, 20, 30)] + [t * 3600e9 for t in (1, 2, 6, 12)]
_ROUND += [t * 86_400e9 for t in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 1e4, 1e5)]
_FEW = [*(10.0**k for k in range(11)), 60e9, 600e9, 3600e9]
_FEW += [t * 86_400e9 for t in (1, 10, 100, 1e3, 1e4, 1e5)]
_MOST_TICKS = 9  # of an axis beyond seconds
_FILE = 5.0  # inches, least height of a picture that is written to a file

_windows: ContextVar[bool] = ContextVar("windows", default=True)


def new_axes(ax: "Axes | None", height: float = 4.5) -> "Axes":
    """Return `ax`, or the axes of a new figure, 9 inches wide, if it is None."""
    if ax is not None:
        return ax
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    # padding, as a picture is often next to text
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
    """Make new figures without pyplot within the block: it may need a display, files do not."""
    token = _windows.set(False)
    try:
        yield
    finally:
        _windows.reset(token)


def explain(ax: "Axes", reason: str) -> "Axes":
    """Write into empty axes why there is nothing to draw."""
    import matplotlib as mpl

    letters = int(width_in_points(ax) / (0.52 * mpl.rcParams["font.size"]))
    text = ax.text(
        0.5,
        0.5,
        _wrapped(reason, max(letters, 12)),
        ha="center",
        va="center",
        transform=ax.transAxes,
        wrap=True,
        parse_math=False,
    )
    # long text must not make the frame around it smaller
    text.set_in_layout(False)
    ax.set(xticks=[], yticks=[], xlabel="", ylabel="")
    return ax


def _wrapped(text: str, letters: int) -> str:
    r"""Return a sentence in lines of at most `letters`, with a new line after its colon.

    Examples
    --------
    >>> _wrapped("no frame has play: none has finished", 20)
    'no frame has play:\nnone has finished'
    """
    if len(text) <= letters:
        return text
    head, colon, reason = text.partition(": ")
    parts = (f"{head}{colon.strip()}", reason) if colon else (head,)
    return "\n".join(textwrap.fill(part, letters) for part in parts)


def text_color(alpha: float = 1.0) -> tuple[float, float, float, float]:
    """Return the colour of text in the current style: dark on light, or light on dark."""
    import matplotlib as mpl
    from matplotlib.colors import to_rgba

    return to_rgba(mpl.rcParams["text.color"], alpha)


def readable_on(color: str) -> str:
    """Return black or white, whichever has more contrast with a colour.

    Examples
    --------
    >>> readable_on("#FAB01B"), readable_on("#6B2CAE")
    ('black', 'white')
    """
    from matplotlib.colors import to_rgb

    linear = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color))
    bright = sum(part * weight for part, weight in zip(linear, (0.2126, 0.7152, 0.0722)))  # noqa: B905
    return "black" if bright > 0.179 else "white"


def background(ax: "Axes") -> Any:
    """Return the background colour of axes."""
    return ax.get_facecolor()


def note(
    ax: "Axes",
    text: str,
    at: tuple[float, float],
    offset: tuple[float, float] = (0, 0),
    size: str = "small",
    **options: Any,
) -> None:
    """Write small text beside a point, on a background that hides the lines below it.

    `offset` is in points; `options` are those of `Axes.annotate`.
    """
    ax.annotate(
        text,
        at,
        offset,
        textcoords="offset points",
        fontsize=size,
        annotation_clip=True,
        bbox={"facecolor": background(ax), "edgecolor": "none", "alpha": 0.8, "pad": 0.5},
        zorder=4,
        **options,
    )


def note_at_top(
    ax: "Axes", x: float, text: str, color: str | tuple[float, ...], *, line: int
) -> None:
    """Write text beside a vertical line, on the side with more space, on the given line of text."""
    low, high = ax.get_xlim()
    side, sign = ("right", -1) if x * x > low * high else ("left", 1)
    offset, across = (3 * sign, -4 - 11 * line), ax.get_xaxis_transform()
    note(ax, text, (x, 1), offset, xycoords=across, color=color, va="top", ha=side)


def draw_threshold(
    ax: "Axes", ns: int, where: Literal["top", "bottom", "left", "right"], *, line: int = 0
) -> None:
    """Draw a threshold, vertical or horizontal, and write its duration at one end.

    Durations at the top are written on different lines of text, so that they do not overlap.
    """
    at, text = max(ns, 1), format_exact(ns)
    draw = ax.axvline if where in ("top", "bottom") else ax.axhline
    draw(at, color=THRESHOLD, lw=1.3, ls=(0, (6, 2)))
    if where == "top":
        note_at_top(ax, at, text, THRESHOLD, line=line)
    elif where == "bottom":
        note(ax, text, (at, 0), (3, 5), xycoords=ax.get_xaxis_transform(), color=THRESHOLD)
    else:
        x, shift = (1, -4) if where == "right" else (0, 4)
        along = ax.get_yaxis_transform()
        note(ax, text, (x, at), (shift, 3), xycoords=along, color=THRESHOLD, ha=where)


def label(name: str) -> str:
    r"""Return a name for a picture: control characters and `$` escaped, shortened if too long.

    Examples
    --------
    >>> print(label("a$b$"), label("x" * 40), label("_hidden"), sep=";")
    a\$b\$;xxxxxxxxxxxx...xxxxxxxxx; _hidden
    """
    shown = shorten(escape(name))
    # legends leave out labels that begin with _
    shown = f" {shown}" if shown.startswith("_") else shown
    return shown.replace("$", r"\$")


def shorten(text: str, longest: int = _LONGEST_LABEL) -> str:
    """Return text without its middle if it is too long, as names often differ at the end.

    Examples
    --------
    >>> shorten("recording_of_monday_evening", 16), shorten("monday", 16)
    ('recordin...ening', 'monday')
    """
    if len(text) <= longest:
        return text
    end = max(longest - 3, 2) * 3 // 7
    return f"{text[: max(longest - 3 - end, 1)]}...{text[-end:]}"


def format_tick(ns: float) -> str:
    """Return the text of an axis tick.

    Examples
    --------
    >>> [format_tick(ns) for ns in (1, 250, 1e3, 2.5e6, 1e9, 3e10, 6e11, 864e11)]
    ['1 ns', '250 ns', '1 us', '2.5 ms', '1 s', '30 s', '10 min', '1 d']
    """
    for unit, scale in _UNITS:
        if ns >= scale * 0.999:
            return f"{ns / scale:g} {unit}"
    return f"{ns:g} ns"


def unit_of(ns: float, *, longest: str = "s") -> tuple[str, float]:
    """Return the unit for times up to `ns`, at most `longest`, and its size in ns.

    Examples
    --------
    >>> unit_of(2_500_000), unit_of(3_000), unit_of(86_400e9 * 2, longest="d")
    (('ms', 1000000.0), ('us', 1000.0), ('h', 3600000000000.0))
    """
    names = [unit for unit, _ in _UNITS]
    for unit, scale in _UNITS[names.index(longest) :]:
        # beyond seconds from 3 of the unit on: 90 s rather than 1.5 min
        if ns >= scale * (3 if scale > 1e9 else 1):
            return unit, scale
    return "ns", 1.0


def log_time(axis: "Axis", low_ns: float, high_ns: float, *, zeros: bool = False) -> None:
    """Make an axis logarithmic, from `low_ns` to `high_ns`, with a unit at each tick.

    With `zeros` some values are 0, which has no logarithm: they are drawn at 1 ns, labelled as 0.

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
    axis.set_major_formatter(
        FuncFormatter(lambda ns, _: "0 ns" if zeros and ns <= 1 else format_tick(ns))
    )
    axis.set_minor_formatter(NullFormatter())


def _rounds(low_ns: float, high_ns: float) -> list[float]:
    """Return round times for the ticks of an axis that reaches beyond minutes.

    Examples
    --------
    >>> [format_tick(ns) for ns in _rounds(3e10, 4e12)]
    ['30 s', '1 min', '2 min', '5 min', '10 min', '20 min', '30 min', '1 h']
    >>> [format_tick(ns) for ns in _rounds(1, 6e13)]
    ['10 ns', '1 us', '100 us', '10 ms', '1 s', '1 min', '1 h']
    """
    found: list[float] = []
    for known in (_ROUND if low_ns > 1e9 else _FEW, _FEW):
        found = sorted(ns for ns in known if low_ns <= ns <= high_ns)
        if len(found) <= _MOST_TICKS:
            return found
    each = -(-len(found) // _MOST_TICKS)
    return found[::-1][::each][::-1]


def legend(ax: "Axes", handles: Sequence[Any] | None = None) -> None:
    """Put a legend above the axes, below their title, in as many columns as fit.

    If it would take most of a small picture, the middle of its texts is left out.
    """
    if handles is None:
        handles = ax.get_legend_handles_labels()[0]
    if not handles:
        return
    names = [str(handle.get_label()) for handle in handles]
    room = width_in_points(ax)
    columns = _columns([len(name) for name in names], room)
    most = max(2, int(_height(ax) * _LEGEND / _LINE))
    if -(-len(names) // columns) > most:
        columns = -(-len(names) // most)
        letters = max(int((room / columns - _HANDLE) / _LETTER), 7)
        # "$" and its escape count as one letter
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


def row_labels(ax: "Axes", rows: int) -> tuple[float, int]:
    """Return the font size of row labels, and n: every n-th row has space for a label."""
    points = 0.62 * _height(ax) / rows
    each = max(1, math.ceil(7.5 / points))
    return min(8.5, max(6.0, 0.85 * points * each)), each


def width_in_points(ax: "Axes") -> float:
    """Return the approximate width of axes in points, without their labels and ticks."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    return figure.get_figwidth() * 72 * 0.8 * ax.get_position().width / 0.775


def _height(ax: "Axes") -> float:
    """Return the height of axes in points, with title, legend and ticks."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    return figure.get_figheight() * 72 * ax.get_position().height / 0.77


def _columns(lengths: Sequence[int], room: float) -> int:
    """Return how many columns of a legend fit into `room` points, filled column by column.

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
