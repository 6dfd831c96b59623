"""``latprof recover``: save the frames of a ring file as a trace."""

import argparse

from latprof.cli.common import NewCommand, check_ending
from latprof.recovery import recover
from latprof.text import counted, escape

__all__ = ["add", "run"]


def add(command: NewCommand) -> None:
    """Declare the command."""
    parser = command(
        "recover",
        "save the frames of a ring file, whose process may be alive or dead",
        "recover /dev/shm/mic.ring -o crash.parquet",
    )
    parser.add_argument("ring", help="the file that Profiler(ring=...) was given")
    parser.add_argument("-o", "--output", required=True, help="trace file: .parquet or .csv")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Save the frames, and print how many rows were whole, torn and never written."""
    check_ending(options.output, (".parquet", ".csv"))
    trace = recover(options.ring)
    if options.output.endswith(".csv"):
        trace.to_csv(options.output)
    else:
        trace.save(options.output)
    lost = trace.meta["lost"]
    text = f"; {counted(lost, 'frame')} overwritten, or claimed and never begun" if lost else ""
    print(f"{escape(options.ring)}: {trace.recovery}{text}")
