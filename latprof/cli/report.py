"""``latprof report``: the numbers of traces, as text, JSON, Markdown or a page of HTML."""

import argparse
from pathlib import Path

from latprof.cli.inputs import profile_of
from latprof.cli.options import NewCommand, add_input
from latprof.cli.output import print_report, write_page
from latprof.errors import LatprofError
from latprof.text import escape

__all__ = ["add", "run"]


def add(command: NewCommand) -> None:
    """Declare the command."""
    report = command("report", "report traces", "report mic.parquet --by source")
    add_input(report)
    report.add_argument("--by", metavar="COLUMN", help="one profile for each value: source, a tag")
    report.add_argument("--format", choices=("text", "json", "markdown"), default="text")
    report.add_argument(
        "--html", metavar="FILE", help="also write one page with pictures, to be sent or printed"
    )
    report.add_argument(
        "--worst", type=_worst, default=0, metavar="N", help="show the slowest frames, up to 100"
    )
    report.add_argument("--every", metavar="1s", help="numbers by window of time")
    report.add_argument(
        "--deadline", metavar="20ms", help="count what is later (default: the pipeline's period)"
    )
    report.add_argument(
        "--warning", metavar="50ms", help="show in yellow, and count, what is above"
    )
    report.add_argument(
        "--critical",
        metavar="100ms",
        help="show in red, and count, what is above (or the deadline)",
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
    from latprof.report.report import Report
    from latprof.thresholds import parse_thresholds

    limits = parse_thresholds(options.warning, options.critical)
    if options.html is not None:
        _check_page(options.html)
    profile = profile_of(options)
    origin = ", ".join(options.trace)
    report = Report(profile, origin=origin, worst=options.worst, thresholds=limits)
    if options.html is not None:
        write_page(report, options.html)
    if options.format == "json":
        print(report.to_json())
    elif options.format == "markdown":
        print(report.to_markdown(), end="")
    else:
        print_report(report)


def _check_page(path: str) -> None:
    """Refuse to write a page over a trace."""
    if not path.endswith((".html", ".htm")) and Path(path).is_file():
        raise LatprofError(
            f"{escape(path)}: is there, and its name is no page's: end it in .html, or write to "
            "another file"
        )


def _worst(text: str) -> int:
    from latprof.fold.sums import MOST_WORST

    if not text.isdecimal() or int(text) > MOST_WORST:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 to {MOST_WORST}")
    return int(text)
