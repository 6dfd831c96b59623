"""The colour of each span of a pipeline, the same in every picture and table.

The eight colours were found by a search. Any two of them, and each of them and the grey of `other`,
are at least 20 apart in CIE Lab with full, red-blind, green-blind and blue-blind sight. Their
lightness differs by at least 5, and by at least 15 between neighbours, for print in grey.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from latprof.pipeline import Pipeline

__all__ = ["PALETTE", "colors"]

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

_OTHER = "#A3A3A3"
_TOTAL = "#757575"


def colors(pipeline: "Pipeline") -> dict[str, str]:
    """Return the colour of each span of a pipeline: stages, sides, ``other`` and totals.

    The ninth span has the colour of the first again; pictures add a hatch to it.

    Examples
    --------
    >>> from latprof.pipeline import Pipeline
    >>> mic = Pipeline.chain("mic", "decode", "play")
    >>> list(colors(mic).items())[:2] == [("decode", PALETTE[0]), ("play", PALETTE[1])]
    True
    """
    spans = (*pipeline.stages, *pipeline.sides)
    given = {span.name: PALETTE[i % len(PALETTE)] for i, span in enumerate(spans)}
    totals = dict.fromkeys(("end_to_end", "response"), _TOTAL)
    return given | {"other": _OTHER} | totals
