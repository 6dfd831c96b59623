"""``latprof recover``: the frames that a process left in a ring file, as a trace."""

import argparse

from latprof.cli.options import NewCommand, check_ending
from latprof.text import counted, escape

__all__ = ["add", "run"]


def add(command: NewCommand) -> None:
    """Declare the command."""
    recover = command(
        "recover",
        "save the frames of a ring file that a process left, or still writes to",
        "recover /dev/shm/mic.ring -o crash.parquet",
    )
    recover.add_argument("ring", help="the file that Profiler(ring=...) was given")
    recover.add_argument("-o", "--output", required=True, help="trace file: .parquet or .csv")
    recover.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Recover and write; say what was found."""
    from latprof.recovery import recover

    check_ending(options.output, (".parquet", ".csv"))
    trace = recover(options.ring)
    if options.output.endswith(".csv"):
        trace.to_csv(options.output)
    else:
        trace.save(options.output)
    lost = trace.meta["lost"]
    gone = f"; {counted(lost, 'frame')} overwritten, or claimed and not begun" if lost else ""
    print(f"{escape(options.ring)}: {trace.recovery}{gone}")
