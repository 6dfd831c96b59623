"""The colours of spans, which are the same in every picture and table."""

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
"""The colours of spans, found by a search.

Any two of them, and each of them and the grey of `other`, are at least 20 apart in CIE Lab with
full, red-blind, green-blind and blue-blind sight. Their lightness differs by at least 5, and by at
least 15 between neighbours, for print in grey.
"""

_OTHER = "#A3A3A3"
_TOTAL = "#757575"


def colors(pipeline: "Pipeline") -> dict[str, str]:
    """Return the colour of each span of a pipeline: stages, sides, ``other`` and totals.

    The ninth span has a lighter shade of the colour of the first, the 17th a darker one, and so on.

    Examples
    --------
    >>> from latprof.pipeline import Pipeline
    >>> mic = Pipeline.chain("mic", "decode", "play")
    >>> list(colors(mic).items())[:2] == [("decode", PALETTE[0]), ("play", PALETTE[1])]
    True
    """
    spans = (*pipeline.stages, *pipeline.sides)
    given = {
        span.name: _shade(PALETTE[i % len(PALETTE)], i // len(PALETTE))
        for i, span in enumerate(spans)
    }
    return given | {"other": _OTHER, "end_to_end": _TOTAL, "response": _shade(_TOTAL, 1)}


def _shade(color: str, again: int) -> str:
    """Return the shade for use number `again` of a colour: 1 lighter, 2 darker, 3 lighter still."""
    if not again:
        return color
    light, step = again % 2, 0.03 * ((again - 1) // 2)
    goal, part = (255, 0.5 + step) if light else (0, 0.35 + step)
    parts = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(part * goal + (1 - part) * x):02X}" for x in parts)
