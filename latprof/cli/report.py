"""``latprof report``: the numbers of traces, as text, JSON, Markdown or a page of HTML."""

import argparse
from pathlib import Path

from latprof.cli.common import NewCommand, add_input, add_workers, print_report, profile_of
from latprof.errors import LatprofError
from latprof.fold.worst import MOST_WORST
from latprof.io.atomic import write_file
from latprof.report.report import Report
from latprof.text import quoted, shown_path
from latprof.thresholds import parse_thresholds

__all__ = ["add", "run"]


def add(command: NewCommand) -> None:
    """Declare the command."""
    report = command(
        "report", "show where the time of traces goes", "report mic.parquet --by source"
    )
    add_input(report)
    report.add_argument(
        "--by", metavar="COLUMN", help="also report each value of a column: source, outcome, a tag"
    )
    report.add_argument(
        "--format", choices=("text", "json", "markdown"), default="text", help="default: text"
    )
    report.add_argument("--html", metavar="FILE", help="also write a page of HTML with pictures")
    report.add_argument(
        "--worst", type=_worst, default=0, metavar="N", help="list the N slowest frames, up to 100"
    )
    report.add_argument("--every", metavar="1s", help="also report each window of time, 1 s wide")
    report.add_argument(
        "--deadline",
        metavar="20ms",
        help="count frames that take longer (default: the pipeline's period)",
    )
    report.add_argument(
        "--warning",
        metavar="50ms",
        help="count frames that take longer; show times above in yellow",
    )
    report.add_argument(
        "--critical",
        metavar="100ms",
        help="count frames that take longer; show them in red (default: the deadline)",
    )
    report.add_argument(
        "--intended",
        action="store_true",
        help="also measure from when each frame was due, according to the pipeline's period",
    )
    report.add_argument(
        "--id-bits",
        type=int,
        metavar="N",
        help="frame ids start again after 2**N: 16 for RTP (default: 64, never)",
    )
    add_workers(report)
    report.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Analyze and print."""
    thresholds = parse_thresholds(options.warning, options.critical)
    if options.html is not None:
        _check_page(options.html)
    report = Report(
        profile_of(options, order=True),
        origin=", ".join(map(shown_path, options.trace)),
        worst=options.worst,
        thresholds=thresholds,
    )
    if options.html is not None:
        page = report.to_html()  # an old file is replaced once the page is complete
        with write_file(options.html) as file:
            file.write(page.encode("utf-8", "xmlcharrefreplace"))
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
            f"{shown_path(path)} exists and does not end in .html; choose another output"
        )


def _worst(text: str) -> int:
    if not text.isdecimal() or int(text) > MOST_WORST:
        raise argparse.ArgumentTypeError(
            f"must be an integer from 0 to {MOST_WORST}, got {quoted(text)}"
        )
    return int(text)
