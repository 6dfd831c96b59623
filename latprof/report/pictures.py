"""The pictures of a page: drawn by latprof.plot, as SVG elements that share one page.

Every id in a picture is unique in the page. Two placeholder colours become variables of the page,
so that pictures follow its light or dark scheme. Text stays text, and the page decides its font.
"""

import io
import re
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from latprof.profile.profile import Profile
from latprof.profile.tables import known_causes
from latprof.queueing.blame import SELF_TIME
from latprof.thresholds import Thresholds

if TYPE_CHECKING:
    import pandas as pd
    from markupsafe import Markup
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["INK", "PAPER", "drawn", "inline", "pictures", "svg_of"]

INK = "#010203"
PAPER = "#fcfdfe"
"""Placeholders for the colours of text and background of the page; no picture uses them."""

WORST = 12  # frames of the waterfall

_WIDTH = 8.4  # inches; with letters of 9.5 points it is readable if the page is 600 pixels wide

_INKED = ("text.color", "axes.labelcolor", "axes.edgecolor", "axes.titlecolor")

# independent of the style that the process has set
_STYLE: Any = {
    **dict.fromkeys((*_INKED, "xtick.color", "ytick.color"), INK),
    **dict.fromkeys(("axes.facecolor", "figure.facecolor"), PAPER),
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans"],  # only to measure text
    "font.size": 9.5,
    "axes.titlesize": "medium",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "hatch.linewidth": 0.5,
}

_NAMESPACE = ' xmlns="http://www.w3.org/2000/svg"'
_XLINK = "{http://www.w3.org/1999/xlink}href"
_REFERENCE = re.compile(r"(?:^|url\()#([^)]*)")
_LONG_NUMBER = re.compile(r"(\d\.\d\d)\d+")
_LONG_SHAPE = 2_000  # characters


def pictures(profile: Profile, thresholds: Thresholds) -> "dict[str, Markup]":
    """Return the pictures of a profile, SVG by name; {} if no frame has a start and an end."""
    from latprof import plot

    if not profile["end_to_end"].count:
        return {}
    limits = list(thresholds.limits.values())
    count = len(profile.pipeline.stages) + 1
    blame = _blame(profile)
    worst = len(profile.slowest(WORST))
    # height in inches, and the function that draws
    plans: dict[str, tuple[float, Callable[[Axes], object]]] = {
        "stages": (3.6, lambda ax: plot.stages(profile, ax=ax)),
        "histogram": (
            max(3.2, 0.62 * count + 0.8),
            lambda ax: plot.histogram(profile, ax=ax, thresholds=limits),
        ),
        "percentiles": (3.8, lambda ax: plot.percentiles(profile, ax=ax, thresholds=limits)),
        "timeline": (
            3.6,
            lambda ax: plot.timeline(profile, ax=ax, threshold=limits[-1] if limits else None),
        ),
        "waterfall": (
            1.6 + 0.24 * max(worst, 4),
            lambda ax: plot.waterfall(profile, ax=ax, n=WORST, blame=blame),
        ),
    }
    if profile.bins is not None:  # there are no frames, and no times
        plans = {name: plans[name] for name in ("histogram", "percentiles")}
    return drawn(plans)


def drawn(plans: "Mapping[str, tuple[float, Callable[[Axes], object]]]") -> "dict[str, Markup]":
    """Return pictures as SVG by name; a plan has a height in inches and a function of Axes."""
    import matplotlib as mpl
    from matplotlib import style

    shapes: dict[str, str] = {}
    with style.context("default"), mpl.rc_context(_STYLE):
        return {name: _drawn(name, *plan, shapes) for name, plan in plans.items()}


def _blame(profile: Profile) -> "pd.DataFrame | None":
    """Return the stages that each hand-off waits for, as shares of its time; None if unknown."""
    import pandas as pd

    found, _ = known_causes(profile)
    # a stage named like the column of self time would share that column
    if found is None or any(stage.name == SELF_TIME for stage in profile.pipeline.stages):
        return None
    shares: dict[str, dict[str, float]] = {}
    for handoff, paths in found.waits.items():
        total = found.total.get(handoff)
        if not total:
            continue
        row = shares.setdefault(handoff, {})
        for path, ns in paths.items():
            row[path[-1]] = row.get(path[-1], 0.0) + ns / total
        row[SELF_TIME] = 1 - sum(row.values())
    return pd.DataFrame.from_dict(shares, orient="index").fillna(0.0) if shares else None


def _drawn(
    name: str, height: float, paint: "Callable[[Axes], object]", shapes: dict[str, str]
) -> "Markup":
    """Return a picture as SVG; `shapes` are those of the pictures before it."""
    from markupsafe import Markup
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # a figure without pyplot, which would look for a display
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        # a name in characters that the font lacks: the browser has them
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        axes = figure.add_subplot()
        paint(axes)
        for place in ("center", "left"):
            axes.set_title("", loc=place)  # the page has one above the picture
        svg = inline(svg_of(figure, name), shapes)
    # parsed and written again from what matplotlib wrote, which escapes names
    return Markup(svg)


def svg_of(figure: "Figure", name: str) -> str:
    """Return a figure as SVG text; equal figures of the same name give equal text.

    The ids of shapes depend on the name, so that figures of other names have other ids.
    """
    import matplotlib as mpl

    out = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(out, format="svg", facecolor=PAPER, metadata={"Date": None})
    return out.getvalue()


def inline(svg: str, shapes: dict[str, str] | None = None) -> str:
    """Return an SVG that matplotlib wrote as an element for a page.

    Parameters
    ----------
    svg
        The result of `svg_of`.
    shapes
        Ids of long hatch shapes in the page, by shape; new ones are added. Sharing them matters,
        because a hatch of dots takes 100 kB.

    Examples
    --------
    >>> text = '<svg xmlns="http://www.w3.org/2000/svg"><g id="a"><path id="b" '
    >>> text += 'style="fill: #010203; clip-path: url(#c)"/></g><clipPath id="c"/></svg>'
    >>> print(inline(text))
    <svg><g><path style="fill: var(--ink); clip-path: url(#c)" /></g><clipPath id="c" /></svg>
    """
    root = ET.fromstring(svg.replace(_NAMESPACE, "", 1))  # elements of a page need no namespace
    _share(root, {} if shapes is None else shapes)
    values = [value for element in root.iter() for value in element.attrib.values()]
    used = {id for value in values for id in _REFERENCE.findall(value)}
    for element in list(root.iter()):
        for child in list(element):
            if child.tag in ("metadata", "style"):
                element.remove(child)
        element.tail = None
        if element.tag != "text":
            element.text = None
        given = dict(element.attrib)
        element.attrib.clear()
        for key, value in given.items():
            if key == "d":
                # two decimals of a point suffice
                element.set(key, _LONG_NUMBER.sub(r"\1", " ".join(value.split())))
            elif key != "id" or value in used:
                shown = value.replace(INK, "var(--ink)").replace(PAPER, "var(--paper)")
                element.set("href" if key == _XLINK else key, shown)
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    return ET.tostring(root, encoding="unicode")


def _share(root: ET.Element, shapes: dict[str, str]) -> None:
    """Define long hatch shapes once, and refer to them from hatches in other colours."""
    for path in root.findall(".//pattern/path"):
        shape = path.get("d", "")
        if len(shape) < _LONG_SHAPE:
            continue
        style = path.get("style", "")
        if shape not in shapes:
            shapes[shape] = f"latprof-shape-{len(shapes)}"
            shared = ET.SubElement(root, "defs")
            ET.SubElement(shared, "path", {"id": shapes[shape], "d": shape})
        path.tag = "use"
        path.attrib = {"href": f"#{shapes[shape]}", "style": style}
