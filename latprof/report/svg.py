"""Pictures of matplotlib as SVG that many of them can stand in one page, in its colours.

Ids are made different for each picture, colours that stand for ink and paper become those of the
page, light or dark, and text stays text in the page's own letters.
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
"""Colours that no picture has: they stand for the page's own."""

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
    """Return a figure as SVG text, always the same for the same figure."""
    import matplotlib as mpl

    out = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "latprof"}):
        figure.savefig(out, format="svg", facecolor=PAPER, metadata={"Date": None})
    return out.getvalue()


def inline(svg: str, name: str, shapes: dict[str, str] | None = None) -> str:
    """Return an SVG that matplotlib wrote as an element to be put into a page.

    Parameters
    ----------
    svg
        What `svg_of` gives.
    name
        Of the picture: what its ids begin with, and those of no other picture in the page.
    shapes
        Ids of the long shapes of hatches that the page's pictures have so far, by shape; those
        that this one is the first to have are added. A hatch of dots alone takes 100 kB.

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
    """Take out what says nothing here: metadata, styles for a whole document, empty space."""
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
    """Draw the shapes of hatches once, and use them where they come again in another colour."""
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
        # a hundredth of a point is seen by nobody
        return _LONG_NUMBER.sub(r"\1", " ".join(value.split()))
    if key == "style":
        value = _style(value)
    return value.replace(INK, "var(--ink)").replace(PAPER, "var(--paper)")


def _style(text: str) -> str:
    """Return declarations without families of letters: those of the page are inherited."""
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
