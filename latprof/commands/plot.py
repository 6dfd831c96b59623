"""``latprof plot``: a picture of traces."""

import argparse

from latprof.commands.inputs import profile_of
from latprof.commands.options import NewCommand, add_input, check_ending
from latprof.commands.show import draw

__all__ = ["add", "run"]


def add(command: NewCommand) -> None:
    """Declare the command."""
    plot = command("plot", "draw traces", "plot mic.parquet --kind histogram -o mic.png")
    add_input(plot)
    plot.add_argument("--kind", choices=("histogram",), default="histogram")
    plot.add_argument("--span", action="append", help="a span; may be given several times")
    plot.add_argument("--threshold", action="append", default=[], help="a line, as 50ms")
    plot.add_argument("-o", "--output", required=True, help="picture: .png, .svg or .pdf")
    plot.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Analyze and draw."""
    check_ending(options.output, (".png", ".svg", ".pdf"))
    draw(profile_of(options), options.span, options.threshold, options.output)
