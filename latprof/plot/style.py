"""How each span looks in pictures: colour, hatch, dash and marker.

The colours are those of `latprof.table`. Spans also differ without colour. A pipeline of more than
eight spans has the same colours again with another hatch and another dash, so no two spans look the
same.
"""

from dataclasses import dataclass

from latprof.pipeline import Pipeline
from latprof.table import PALETTE, colors

__all__ = ["THRESHOLD", "Dash", "SpanStyle", "result_dash", "result_marker", "span_styles"]

Dash = str | tuple[int, tuple[float, ...]]

THRESHOLD = "#DB3A3A"
"""Colour of thresholds and of values above them, which also have a dash or a marker."""

_HATCHES = ("", "///", "...", "xxx", "---", "|||", "ooo")
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
    (True, '///')
    """
    given, shades = {}, colors(pipeline)
    for i, span in enumerate((*pipeline.stages, *pipeline.sides)):
        again, place = divmod(i, len(PALETTE))
        # from the second round on hatched, from the eighth on more densely
        hatch = _HATCHES[again % len(_HATCHES)] + "/" * (again // len(_HATCHES))
        dash: Dash = "-" if again == 0 else (0, (4.0 + again, 1.5))
        given[span.name] = SpanStyle(shades[span.name], hatch, dash, _MARKERS[place])
    return given | {
        "other": SpanStyle(shades["other"], "\\\\\\\\", (0, (1, 1)), "x"),
        "end_to_end": SpanStyle(shades["end_to_end"], "", "-", "h"),
        "response": SpanStyle(shades["response"], "++", (0, (3, 1, 1, 1)), "p"),
    }


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
    """Return the marker of the i-th of several results, in a picture of one span.

    Examples
    --------
    >>> result_marker(0), result_marker(1)
    ('o', 's')
    """
    return _MARKERS[i % len(_MARKERS)]
