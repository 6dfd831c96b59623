"""Spans differ by colour for readers with any colour vision, and without colour."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from latprof.colors import PALETTE
from latprof.marks import Span
from latprof.pipeline import AUDIO, Pipeline
from latprof.plot import colors
from latprof.plot.axes import THRESHOLD, result_dash, span_styles

# Machado, Oliveira and Fernandes (2009), "A Physiologically-based Model for Simulation of Color
# Vision Deficiency", IEEE TVCG 15(6), table of severity 1.0; on linear RGB
VISIONS = {
    "full": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
# IEC 61966-2-1: sRGB to XYZ, white D65
TO_XYZ = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]


def linear(color):
    rgb = np.array(to_rgb(color))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def lab(color, vision="full"):
    """Return CIE L*a*b* of a colour as seen with a kind of colour vision."""
    seen = np.clip(np.array(VISIONS[vision]) @ linear(color), 0, 1)
    xyz = np.array(TO_XYZ) @ seen / np.sum(TO_XYZ, axis=1)
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def contrast(one, two):
    """WCAG 2.1: contrast ratio."""
    bright, dark = sorted((np.array(TO_XYZ)[1] @ linear(c) for c in (one, two)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def chain(stages):
    return Pipeline.chain("long", *(f"stage_{i}" for i in range(stages)))


def test_colour_formulas_give_known_values():
    assert lab("white") == pytest.approx([100, 0, 0], abs=0.05)
    assert lab("red") == pytest.approx([53.24, 80.09, 67.20], abs=0.1)
    assert contrast("white", "black") == pytest.approx(21)
    for matrix in VISIONS.values():
        assert np.sum(matrix, axis=1) == pytest.approx([1, 1, 1], abs=1e-5)  # grey stays grey
    # two colours that look alike without red or green cones
    apart = [np.linalg.norm(lab("#B2A200", s) - lab("#D98B00", s)) for s in VISIONS]
    assert apart[2] < apart[0]


def test_any_two_colours_differ_for_every_kind_of_colour_vision():
    for vision in VISIONS:
        seen = [lab(color, vision) for color in (*PALETTE, span_styles(AUDIO)["other"].color)]
        for i, one in enumerate(seen):
            for two in seen[:i]:
                assert np.linalg.norm(one - two) >= 20


def test_colours_differ_in_grey():
    light = [lab(color)[0] for color in PALETTE]
    assert np.diff(sorted(light)).min() >= 5
    assert np.abs(np.diff(light)).min() >= 15  # neighbours in a bar


def test_the_last_colour_differs_from_the_first_in_grey():
    assert abs(lab(PALETTE[-1])[0] - lab(PALETTE[0])[0]) >= 10


@pytest.mark.parametrize("paper", ["white", "black"])
def test_every_colour_has_contrast_with_the_background(paper):
    for color in (
        *PALETTE,
        THRESHOLD,
        *(span_styles(AUDIO)[name].color for name in ("other", "end_to_end")),
    ):
        assert np.linalg.norm(lab(color) - lab(paper)) >= 30
        assert contrast(color, paper) >= 1.4
    assert contrast(THRESHOLD, paper) >= 4
    assert contrast(span_styles(AUDIO)["end_to_end"].color, paper) >= 4


@pytest.mark.parametrize("stages", [1, 5, 8, 9, 14, 40, 120])
def test_no_two_spans_look_the_same(stages):
    shown = span_styles(chain(stages))
    assert len({(look.color, look.hatch) for look in shown.values()}) == len(shown)
    assert len({(look.color, look.dash) for look in shown.values()}) == len(shown)


def test_colours_follow_the_order_of_the_pipeline():
    names = [f"stage_{i}" for i in range(8)]
    assert [colors(chain(8))[name] for name in names] == list(PALETTE)
    # another stage at the end changes no colour, and names do not matter
    assert {name: colors(chain(9))[name] for name in names} == {
        name: colors(chain(8))[name] for name in names
    }
    assert colors(AUDIO) == colors(Pipeline.from_json(AUDIO.to_json()))


def test_every_span_has_a_style():
    spans = (Span("w", "start", "a"), Span("s", "a", "end", kind="side"))
    due = Pipeline("late", ("due", "start", "a", "end"), spans)
    assert list(span_styles(due)) == ["w", "s", "other", "end_to_end", "response"]


def test_many_results_have_different_dashes():
    assert len({result_dash(i) for i in range(20)}) == 20
