"""``latprof report``: the numbers of traces, as text, JSON, Markdown or a page of HTML."""

import argparse
from pathlib import Path

from latprof.cli.common import (
    NewCommand,
    add_input,
    add_workers,
    part_of,
    profile_of,
    recordings_of,
)
from latprof.cli.output import (
    PICTURES,
    add_format,
    check_ending,
    draw,
    print_report,
    print_requests,
    print_result,
    write_page,
)
from latprof.comparing.fleet import fleet
from latprof.errors import LatprofError
from latprof.fold.worst import MOST_WORST
from latprof.io.dataset import Dataset
from latprof.profile.file import is_profile, saved_profiles
from latprof.report.comparison import fleet_page
from latprof.report.report import Report
from latprof.text import quoted, shown_path
from latprof.thresholds import parse_thresholds

__all__ = ["add", "run"]

_HOST = "host"  # the value of --by that compares hosts, unless frames have a tag `host`
_STATISTIC = "end_to_end.p99"
_OF_HOSTS = ("statistic", "false_discovery_rate", "output")

# options about single frames and windows, and their defaults
_OF_FRAMES = {
    **dict.fromkeys(("skip", "since", "until", "every", "deadline", "warning", "critical")),
    **dict.fromkeys(("workers", "dask")),
    **{"worst": 0, "intended": False, "id_bits": 64, "partial": False},
}


def add(command: NewCommand) -> None:
    """Declare the command."""
    report = command(
        "report", "show where the time of traces goes", "report mic.parquet --by source"
    )
    add_input(report)
    report.add_argument(
        "--by",
        metavar="COLUMN",
        help="also report each value of a column: source, outcome, a tag; host: report which hosts "
        "differ, also from thousands of saved profiles",
    )
    add_format(report)
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
        help="count frames that take longer; show times above it in yellow",
    )
    report.add_argument(
        "--critical",
        metavar="100ms",
        help="count frames that take longer; show times above it in red (default: the deadline)",
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
    hosts = report.add_argument_group("hosts", "with --by host")
    hosts.add_argument(
        "--statistic",
        metavar="SPAN.STATISTIC",
        help=f"the mean or a percentile of a span (default: {_STATISTIC})",
    )
    hosts.add_argument(
        "--false-discovery-rate",
        metavar="5%",
        help="expected part of the named hosts that differ by chance alone (default: 5%%)",
    )
    hosts.add_argument("-o", "--output", metavar="FILE", help="also draw a picture, FILE.png")
    add_workers(report)
    report.add_argument(
        "--verbose", action="store_true", help="also list the requests to object stores, on stderr"
    )
    report.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Analyze and print."""
    if options.html is not None:
        _check_page(options.html)
    if options.by == _HOST and not _is_tag(options):
        _fleet(options)
        return
    for name in _OF_HOSTS:
        if getattr(options, name) is not None:
            raise LatprofError(
                f"{_flag(name)} must be given with --by host; add it or leave it out"
            )
    thresholds = parse_thresholds(options.warning, options.critical)
    report = Report(
        profile_of(options, order=True),
        origin=", ".join(map(shown_path, options.trace)),
        worst=options.worst,
        thresholds=thresholds,
    )
    if options.verbose:
        print_requests()
    if options.html is not None:
        write_page(options.html, report.to_html())
    if options.format == "text":
        print_report(report)
    else:
        print_result(options.format, report.to_dict, report.sections)


def _fleet(options: argparse.Namespace) -> None:
    """Compare the hosts and print."""
    for name, default in _OF_FRAMES.items():
        if getattr(options, name) != default:
            raise LatprofError(
                f"{_flag(name)} must not be given with --by host, which takes whole recordings; "
                "leave it out"
            )
    if options.output is not None:
        check_ending(options.output, PICTURES)
    rate = options.false_discovery_rate or "5%"
    result = fleet(
        recordings_of(options),
        statistic=options.statistic or _STATISTIC,
        false_discovery_rate=part_of(rate, "--false-discovery-rate"),
    )
    if options.html is not None:
        write_page(options.html, fleet_page(result))
    if options.output is not None:
        draw(lambda plot: plot.fleet(result), options.output)
    print_result(options.format, result.to_dict, result.sections)


def _is_tag(options: argparse.Namespace) -> bool:
    """Return whether the frames of the first file have a tag `host`."""
    first = options.trace[0]
    if is_profile(first) or saved_profiles(first):
        return False
    return _HOST in Dataset(recordings_of(options)[0]).members[0].tags


def _flag(name: str) -> str:
    return {"since": "--from", "until": "--to"}.get(name, f"--{name.replace('_', '-')}")


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
