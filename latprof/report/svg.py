"""Figures of matplotlib as SVG elements of one page.

The ids of each picture are unique in the page. Two placeholder colours become variables of the
page, so that pictures follow its light or dark scheme. Text stays text, in the font of the page.
"""

import io
import re
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["INK", "PAPER", "inline", "svg_of"]

INK = "#010203"
PAPER = "#fcfdfe"
"""Placeholders for the colours of text and background of the page; no picture uses them."""

_SVG = "http://www.w3.org/2000/svg"
_SHAPE = "latprof-shape-"
_LONG_SHAPE = 2_000
_XLINK = "http://www.w3.org/1999/xlink"
_REFERENCE = re.compile(r"url\(#([^)]*)\)")
_FONT = {
    "style": re.compile(r"\b(italic|oblique)\b"),
    "weight": re.compile(r"(?:^|\s)(\d{3}|bold)\s"),
    "size": re.compile(r"([\d.]+px)"),
}
_LONG_NUMBER = re.compile(r"(\d\.\d\d)\d+")


def svg_of(figure: "Figure") -> str:
    """Return a figure as SVG text; equal figures give equal text."""
    import matplotlib as mpl

    out = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "latprof"}):
        figure.savefig(out, format="svg", facecolor=PAPER, metadata={"Date": None})
    return out.getvalue()


def inline(svg: str, name: str, shapes: dict[str, str] | None = None) -> str:
    """Return an SVG that matplotlib wrote as an element for a page.

    Parameters
    ----------
    svg
        The result of `svg_of`.
    name
        Prefix of the ids; each picture of a page needs its own.
    shapes
        Ids of long hatch shapes in the page, by shape; new ones are added. Sharing them matters,
        because a hatch of dots takes 100 kB.

    Examples
    --------
    >>> text = '<svg xmlns="http://www.w3.org/2000/svg"><g id="a"><path id="b" '
    >>> text += 'style="fill: #010203; clip-path: url(#c)"/></g><clipPath id="c"/></svg>'
    >>> print(inline(text, "p"))
    <svg><g><path style="fill:var(--ink);clip-path:url(#p-c)" /></g><clipPath id="p-c" /></svg>
    """
    root = ET.fromstring(svg)
    used = set(_REFERENCE.findall(svg))
    used |= {
        value[1:] for element in root.iter() for key, value in element.items() if _is_link(key)
    }
    _strip(root)
    _share(root, {} if shapes is None else shapes)
    for element in root.iter():
        element.tag = element.tag.removeprefix(f"{{{_SVG}}}")
        given = dict(element.attrib)
        element.attrib.clear()
        for key, value in given.items():
            if key == "id":
                if value.startswith(_SHAPE):
                    element.set("id", value)
                elif value in used:
                    element.set("id", f"{name}-{value}")
            elif _is_link(key):
                place = value[1:] if value[1:].startswith(_SHAPE) else f"{name}-{value[1:]}"
                element.set("href", f"#{place}")
            else:
                element.set(key, _restyled(key, value, name))
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    return ET.tostring(root, encoding="unicode")


def _is_link(key: str) -> bool:
    return key in ("href", f"{{{_XLINK}}}href")


def _strip(element: ET.Element) -> None:
    """Remove metadata, styles of the whole document and empty space."""
    for child in list(element):
        if child.tag in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}style"):
            element.remove(child)
            continue
        _strip(child)
        child.tail = None
        if child.tag == f"{{{_SVG}}}defs" and not len(child):
            element.remove(child)
    if element.tag != f"{{{_SVG}}}text":
        element.text = None


def _share(root: ET.Element, shapes: dict[str, str]) -> None:
    """Define long hatch shapes once, and refer to them from hatches in other colours."""
    for pattern in root.iter(f"{{{_SVG}}}pattern"):
        for path in pattern.findall(f"{{{_SVG}}}path"):
            shape = path.get("d", "")
            if len(shape) < _LONG_SHAPE:
                continue
            style = path.attrib.pop("style", "")
            if shape not in shapes:
                shapes[shape] = f"{_SHAPE}{len(shapes)}"
                shared = ET.SubElement(root, f"{{{_SVG}}}defs")
                ET.SubElement(shared, f"{{{_SVG}}}path", {"id": shapes[shape], "d": shape})
            path.tag = f"{{{_SVG}}}use"
            path.attrib.clear()
            path.set("href", f"#{shapes[shape]}")
            path.set("style", style)


def _restyled(key: str, value: str, name: str) -> str:
    value = _REFERENCE.sub(lambda found: f"url(#{name}-{found[1]})", value)
    if key == "d":
        # two decimals of a point suffice
        return _LONG_NUMBER.sub(r"\1", " ".join(value.split()))
    if key == "style":
        value = _style(value)
    return value.replace(INK, "var(--ink)").replace(PAPER, "var(--paper)")


def _style(text: str) -> str:
    """Return style declarations without font families, which are inherited from the page."""
    kept = []
    for declaration in text.split(";"):
        name, _, value = (part.strip() for part in declaration.partition(":"))
        if name == "font":  # style, weight, size and families, as matplotlib before 3.11 writes it
            kept += [
                f"font-{what}:{found[0]}"
                for what, found in ((what, rule.findall(value)) for what, rule in _FONT.items())
                if found
            ]
        elif name and name != "font-family":
            kept.append(f"{name}:{value}")
    return ";".join(kept)
