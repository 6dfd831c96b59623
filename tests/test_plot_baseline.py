"""Two pictures as they were looked at and found good; small differences of fonts are let pass.

After a change that is meant to be seen: ``python tests/test_plot_baseline.py`` draws them anew.
"""

from pathlib import Path

import numpy as np
import pytest
from figures import figure_of
from matplotlib import style
from PIL import Image

import latprof
from latprof import plot

DATA = Path(__file__).parents[1] / "data"
BASELINE = Path(__file__).with_name("baseline")
PICTURES = {
    "histogram-light": ("default", plot.histogram),
    "waterfall-dark": ("dark_background", plot.waterfall),
}


def drawn(name):
    """Return the pixels of a picture of the recording with the slow card."""
    look, draw = PICTURES[name]
    with style.context(look):
        figure = figure_of(600, 380)
        draw(latprof.analyze(DATA / "mic-slow-card.parquet"), ax=figure.add_subplot())
        figure.canvas.draw()
        return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()


def difference(one, two):
    """Return how far pictures differ, from 0 to 255, in squares of 5 x 5 pixels: the worst 1 %."""
    apart = np.abs(one.astype(float) - two.astype(float)).mean(axis=2)
    squares = apart.reshape(76, 5, 120, 5).mean(axis=(1, 3))
    return np.quantile(squares, 0.99)


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_as_it_was(name):
    with Image.open(BASELINE / f"{name}.png") as image:
        known = np.asarray(image.convert("RGB"))
    found = drawn(name)
    assert difference(found, known) < 30
    # another picture would be noticed, and so would this one a little further to the right
    assert difference(255 - found, known) > 60
    assert difference(np.roll(found, 40, axis=1), known) > 60


if __name__ == "__main__":
    for each in PICTURES:
        Image.fromarray(drawn(each)).quantize(64).save(BASELINE / f"{each}.png", optimize=True)
