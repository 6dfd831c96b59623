"""How each span looks: the same colour in every picture, and told apart without colour too.

Eight colours, found by a search, that keep a distance of 20 and more in CIE Lab between any two
of them and from the grey of `other`, as seen with full, red-blind, green-blind and blue-blind
sight, and whose lightness differs by 5 and more between any two and by 15 and more between
neighbours, for print in grey. A pipeline of more spans has the same colours again with a hatch, or
as lines with another dash: no two spans ever look the same.
"""

from dataclasses import dataclass

from latprof.pipeline import Pipeline

__all__ = ["LIMIT", "PALETTE", "Dash", "Look", "colors", "looks", "result_dash", "result_marker"]

Dash = str | tuple[int, tuple[float, ...]]

PALETTE = (
    "#586FA1",
    "#6DBD6F",
    "#6B2CAE",
    "#FAB01B",
    "#CE6217",
    "#0FE7FA",
    "#84533C",
    "#C874F9",
)

LIMIT = "#DB3A3A"
"""Of thresholds, and of what is beyond them; always with a dash or a mark of its own."""

_HATCHES = ("", "///", "...", "xxx", "---", "|||", "ooo")
_MARKERS = "osD^vPX*"


@dataclass(frozen=True, slots=True)
class Look:
    """How a span is drawn: `hatch` on areas, `dash` of lines, `marker` of points."""

    color: str
    hatch: str = ""
    dash: Dash = "-"
    marker: str = "o"


def looks(pipeline: Pipeline) -> dict[str, Look]:
    """Return how each span of a pipeline looks, in the pipeline's order; no two look the same.

    Examples
    --------
    >>> mic = Pipeline.chain("mic", "decode", "play")
    >>> [(name, look.color) for name, look in looks(mic).items()][:2] == [
    ...     ("decode", PALETTE[0]), ("play", PALETTE[1])]
    True
    """
    given = {}
    for i, span in enumerate((*pipeline.stages, *pipeline.sides)):
        again, place = divmod(i, len(PALETTE))
        # from the second round on hatched, from the eighth on more densely
        hatch = _HATCHES[again % len(_HATCHES)] + "/" * (again // len(_HATCHES))
        dash: Dash = "-" if again == 0 else (0, (4.0 + again, 1.5))
        given[span.name] = Look(PALETTE[place], hatch, dash, _MARKERS[place])
    return given | {
        "other": Look("#A3A3A3", "\\\\\\\\", (0, (1, 1)), "x"),
        "end_to_end": Look("#757575", "", "-", "h"),
        "response": Look("#757575", "++", (0, (3, 1, 1, 1)), "p"),
    }


def colors(pipeline: Pipeline) -> dict[str, str]:
    """Return the colour of each span: the same in every picture of the pipeline.

    Spans past the eighth have a colour again, with a hatch: see `looks`.
    """
    return {name: look.color for name, look in looks(pipeline).items()}


def result_dash(i: int) -> Dash:
    """Return the line of the i-th of several results in one picture: each has its own.

    Examples
    --------
    >>> result_dash(0), result_dash(1), result_dash(3)
    ('-', (0, (5, 1.5)), (0, (6, 1.5, 1, 1.5)))
    """
    first: tuple[Dash, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)))
    return first[i] if i < len(first) else (0, (6, 1.5, *(1, 1.5) * (i - 2)))


def result_marker(i: int) -> str:
    """Return the mark on the line of the i-th of several results, where one span is drawn.

    Examples
    --------
    >>> result_marker(0), result_marker(1)
    ('o', 's')
    """
    return _MARKERS[i % len(_MARKERS)]
