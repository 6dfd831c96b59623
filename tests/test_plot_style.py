"""Spans are told apart with colours, without them, and by readers who do not see all of them."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from latprof.pipeline import AUDIO, Pipeline, Span
from latprof.plot import colors
from latprof.plot.style import LIMIT, looks, result_dash
from latprof.table import PALETTE

# Machado, Oliveira and Fernandes (2009), "A Physiologically-based Model for Simulation of Color
# Vision Deficiency", IEEE TVCG 15(6), table of severity 1.0; on linear RGB
SIGHTS = {
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


def lab(color, sight="full"):
    """Return CIE L*a*b* of a colour as it is seen."""
    seen = np.clip(np.array(SIGHTS[sight]) @ linear(color), 0, 1)
    xyz = np.array(TO_XYZ) @ seen / np.sum(TO_XYZ, axis=1)
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def contrast(one, two):
    """WCAG 2.1: contrast ratio."""
    bright, dark = sorted((np.array(TO_XYZ)[1] @ linear(c) for c in (one, two)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def chain(stages):
    return Pipeline.chain("long", *(f"stage_{i}" for i in range(stages)))


def test_the_yardstick_is_right():
    assert lab("white") == pytest.approx([100, 0, 0], abs=0.05)
    assert lab("red") == pytest.approx([53.24, 80.09, 67.20], abs=0.1)
    assert contrast("white", "black") == pytest.approx(21)
    for sight in SIGHTS.values():
        assert np.sum(sight, axis=1) == pytest.approx([1, 1, 1], abs=1e-5)  # grey stays grey
    # red and green of a traffic light, which are not told apart
    apart = [np.linalg.norm(lab("#B2A200", s) - lab("#D98B00", s)) for s in SIGHTS]
    assert apart[2] < apart[0]


@pytest.mark.parametrize("sight", SIGHTS)
def test_any_two_colours_are_apart_for_every_reader(sight):
    seen = [lab(color, sight) for color in (*PALETTE, looks(AUDIO)["other"].color)]
    for i, one in enumerate(seen):
        for two in seen[:i]:
            assert np.linalg.norm(one - two) >= 20


def test_they_are_apart_in_grey():
    light = [lab(color)[0] for color in PALETTE]
    assert np.diff(sorted(light)).min() >= 5
    assert np.abs(np.diff(light)).min() >= 15  # neighbours in a bar


def test_a_round_of_the_palette_ends_as_far_from_its_beginning():
    assert abs(lab(PALETTE[-1])[0] - lab(PALETTE[0])[0]) >= 10


@pytest.mark.parametrize("paper", ["white", "black"])
def test_no_colour_drowns_in_the_paper(paper):
    for color in (*PALETTE, LIMIT, *(looks(AUDIO)[name].color for name in ("other", "end_to_end"))):
        assert np.linalg.norm(lab(color) - lab(paper)) >= 30
        assert contrast(color, paper) >= 1.4
    assert contrast(LIMIT, paper) >= 4
    assert contrast(looks(AUDIO)["end_to_end"].color, paper) >= 4


@pytest.mark.parametrize("stages", [1, 5, 8, 9, 14, 40, 120])
def test_no_two_spans_look_the_same(stages):
    shown = looks(chain(stages))
    assert len({(look.color, look.hatch) for look in shown.values()}) == len(shown)
    assert len({(look.color, look.dash) for look in shown.values()}) == len(shown)


def test_colours_go_by_the_pipelines_order_and_are_stable():
    names = [f"stage_{i}" for i in range(8)]
    assert [colors(chain(8))[name] for name in names] == list(PALETTE)
    # a stage more at the end changes none of those before, and what a stage is called nothing
    assert {name: colors(chain(9))[name] for name in names} == {
        name: colors(chain(8))[name] for name in names
    }
    assert colors(AUDIO) == colors(Pipeline.from_json(AUDIO.to_json()))


def test_every_span_has_a_look():
    spans = (Span("w", "start", "a"), Span("s", "a", "end", kind="side"))
    due = Pipeline("late", ("due", "start", "a", "end"), spans)
    assert list(looks(due)) == ["w", "s", "other", "end_to_end", "response"]


def test_each_of_many_results_has_a_line_of_its_own():
    assert len({result_dash(i) for i in range(20)}) == 20
