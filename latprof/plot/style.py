"""How each span looks: the same colour in every picture, and told apart without colour too.

The colours are those of `latprof.table.PALETTE`. A pipeline of more than eight spans has the same
colours again with a hatch, or as lines with another dash: no two spans ever look the same.
"""

from dataclasses import dataclass

from latprof.pipeline import Pipeline
from latprof.table import PALETTE, colors

__all__ = ["LIMIT", "Dash", "Look", "looks", "result_dash", "result_marker"]

Dash = str | tuple[int, tuple[float, ...]]

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
    given, shades = {}, colors(pipeline)
    for i, span in enumerate((*pipeline.stages, *pipeline.sides)):
        again, place = divmod(i, len(PALETTE))
        # from the second round on hatched, from the eighth on more densely
        hatch = _HATCHES[again % len(_HATCHES)] + "/" * (again // len(_HATCHES))
        dash: Dash = "-" if again == 0 else (0, (4.0 + again, 1.5))
        given[span.name] = Look(shades[span.name], hatch, dash, _MARKERS[place])
    return given | {
        "other": Look(shades["other"], "\\\\\\\\", (0, (1, 1)), "x"),
        "end_to_end": Look(shades["end_to_end"], "", "-", "h"),
        "response": Look(shades["response"], "++", (0, (3, 1, 1, 1)), "p"),
    }


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
