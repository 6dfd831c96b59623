"""``latprof report``: the numbers of traces, as text, JSON or Markdown."""

import argparse

from latprof.commands.inputs import profile_of
from latprof.commands.options import NewCommand, add_input
from latprof.commands.show import print_report

__all__ = ["add", "run"]


def add(command: NewCommand) -> None:
    """Declare the command."""
    report = command("report", "report traces", "report mic.parquet --by source")
    add_input(report)
    report.add_argument("--by", metavar="COLUMN", help="one profile for each value: source, a tag")
    report.add_argument("--format", choices=("text", "json", "markdown"), default="text")
    report.add_argument(
        "--worst", type=_worst, default=0, metavar="N", help="show the slowest frames, up to 100"
    )
    report.add_argument("--every", metavar="1s", help="numbers by window of time")
    report.add_argument(
        "--deadline", metavar="20ms", help="count what is later (default: the pipeline's period)"
    )
    report.add_argument(
        "--intended",
        action="store_true",
        help="also measure from when frames should have started, by the pipeline's period",
    )
    report.add_argument("--id-bits", type=int, default=64, help="16 for RTP sequence numbers")
    report.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Analyze and print."""
    from latprof.report import Report

    profile = profile_of(options)
    report = Report(profile, origin=", ".join(options.trace), worst=options.worst)
    if options.format == "json":
        print(report.to_json())
    elif options.format == "markdown":
        print(report.to_markdown(), end="")
    else:
        print_report(report)


def _worst(text: str) -> int:
    from latprof.folding.worst import MOST_WORST

    if not text.isdecimal() or int(text) > MOST_WORST:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 to {MOST_WORST}")
    return int(text)
