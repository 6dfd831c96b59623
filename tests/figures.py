"""Texts of a figure and their places, as a renderer draws them."""

from itertools import combinations

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text


def figure_of(width_px=600, height_px=380, dpi=100):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_px / dpi, height_px / dpi), dpi=dpi, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def shown_texts(figure):
    """Return (text, its box in px) of every text that can be seen, tick labels included."""
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    found = []
    axes = figure.axes
    hidden = set()
    for ax in axes:
        for axis in (ax.xaxis, ax.yaxis):
            # matplotlib keeps labels of ticks outside of the view: they are not drawn
            drawn = {id(tick) for tick in axis._update_ticks()}
            every = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
            for tick in every:
                if id(tick) not in drawn:
                    hidden |= {id(tick.label1), id(tick.label2)}
    for text in figure.findobj(Text):
        if text.get_visible() and text.get_text().strip() and id(text) not in hidden:
            found.append((text, text.get_window_extent(renderer)))
    return found


def clipped(figure, shown):
    """Return those of the `shown_texts` that extend beyond the figure."""
    whole = figure.bbox
    return [
        text.get_text()
        for text, box in shown
        if box.x0 < whole.x0 - 1
        or box.y0 < whole.y0 - 1
        or box.x1 > whole.x1 + 1
        or box.y1 > whole.y1 + 1
    ]


def overlapping(shown, slack=1.5):
    """Return the pairs of `shown_texts` that overlap by more than `slack` px in both directions."""
    pairs = []
    for (a, one), (b, two) in combinations(shown, 2):
        wide = min(one.x1, two.x1) - max(one.x0, two.x0)
        high = min(one.y1, two.y1) - max(one.y0, two.y0)
        if wide > slack and high > slack:
            pairs.append((a.get_text(), b.get_text()))
    return pairs
