"""``latprof compare``, ``gate``, ``plan`` and ``trend``: sets of runs against each other."""

import argparse
import sys

from latprof.cli.common import NewCommand, add_pipeline, part_of, recordings_of
from latprof.cli.output import PICTURES, add_format, check_ending, draw, print_result, write_page
from latprof.comparing.budgets import OPEN
from latprof.comparing.compare import compare
from latprof.comparing.gate import GateResult, gate_commands, gate_runs
from latprof.comparing.planning import plan
from latprof.comparing.trend import trend
from latprof.errors import LatprofError, ProfileError
from latprof.report.comparison import comparison_page
from latprof.text import escape
from latprof.units import parse_duration

__all__ = ["add"]


def add(command: NewCommand) -> None:
    """Declare the commands."""
    _add_compare(command)
    _add_gate(command)
    _add_plan(command)
    _add_trend(command)


# -- compare ------------------------------------------------------------------------------------


def _add_compare(command: NewCommand) -> None:
    """Declare ``compare``."""
    parser = command(
        "compare",
        "compare runs before a change with runs after it: worse, better, the same, or unclear",
        "compare old-*.parquet --to new-*.parquet",
    )
    parser.add_argument(
        "base",
        nargs="+",
        help="runs before the change: traces, saved profiles, or folders; each recording in a "
        "folder is a run",
    )
    parser.add_argument(
        "--to", nargs="+", required=True, metavar="HEAD", help="runs after the change"
    )
    add_pipeline(parser)
    _add_budgets(
        parser,
        "the first one is the headline (default: end_to_end.p99<+5%%); the exit status is 0 "
        "whether they are met or not, unlike that of gate",
    )
    parser.add_argument(
        "--unpaired",
        action="store_true",
        help="the runs of both sides were not taken in turn, pair by pair",
    )
    parser.add_argument(
        "--percentile",
        action="append",
        type=float,
        metavar="Q",
        help="a percentile to compare; may be given several times (default: 50, 90, 99)",
    )
    parser.add_argument(
        "--margin", default="5%", metavar="5%", help="the same within this part (default: 5%%)"
    )
    _add_confidence(parser)
    add_format(parser)
    parser.add_argument(
        "--by",
        metavar="COLUMN",
        help="also show how much of the change comes from another mix of its values: source, a tag",
    )
    parser.add_argument(
        "--why",
        action="store_true",
        help="also replay base with the service times of head: show what each station adds, "
        "waiting included",
    )
    parser.add_argument("--html", metavar="FILE", help="also write a page of HTML with pictures")
    parser.set_defaults(run=_compare)


def _compare(options: argparse.Namespace) -> None:
    """Compare and print."""
    base, head = recordings_of(options, options.base), recordings_of(options, options.to)
    result = compare(
        base,
        head,
        paired=not options.unpaired,
        budgets=options.budget or ("end_to_end.p99<+5%",),
        percentiles=options.percentile or (50, 90, 99),
        margin=part_of(options.margin, "--margin"),
        confidence=part_of(options.confidence, "--confidence"),
        by=options.by,
    )
    services = result.service_changes() if options.why else None
    if options.html is not None:
        write_page(options.html, comparison_page(result))
    if services is None:
        print_result(options.format, result.to_dict, result.sections)
        return
    print_result(
        options.format,
        lambda: result.to_dict() | {"services": services.to_dict()},
        lambda: [*result.sections(), *services.sections()],
    )


# -- gate ---------------------------------------------------------------------------------------


def _add_gate(command: NewCommand) -> None:
    """Declare ``gate``."""
    parser = command(
        "gate",
        "run two commands in turn, or take their recordings, and check budgets: exit status 0 if "
        "they are met, 1 if one is exceeded, 3 if the runs cannot decide",
        "gate --base 'python old.py' --head 'python new.py' --budget 'end_to_end.p99<+5%'",
    )
    where = "writes its recording to the path in $LATPROF_RECORDING"
    parser.add_argument("--base", metavar="CMD", help=f"command before the change; {where}")
    parser.add_argument("--head", metavar="CMD", help=f"command after the change; {where}")
    parser.add_argument(
        "--base-runs", nargs="+", metavar="FILE", help="existing runs of base, instead of --base"
    )
    parser.add_argument(
        "--head-runs", nargs="+", metavar="FILE", help="existing runs of head, instead of --head"
    )
    parser.add_argument(
        "--unpaired",
        action="store_true",
        help="the given runs of both sides were not taken in turn, pair by pair",
    )
    add_pipeline(parser)
    _add_budgets(parser, "all must be met")
    parser.add_argument(
        "--pairs", type=int, default=6, metavar="N", help="pairs before a decision (default: 6)"
    )
    parser.add_argument(
        "--max-pairs",
        type=int,
        metavar="N",
        help="most pairs; more than --pairs are run while a budget is open (default: 20)",
    )
    parser.add_argument(
        "--check-pairs",
        type=int,
        default=2,
        metavar="N",
        help="pairs in which base runs against itself, before all others (default: 2)",
    )
    parser.add_argument(
        "--warm-up", type=int, default=1, metavar="N", help="runs that do not count (default: 1)"
    )
    parser.add_argument("--timeout", metavar="60s", help="longest time of a run")
    parser.add_argument(
        "--max-lateness",
        default="10ms",
        metavar="10ms",
        help="no decision if 1 %% of sleeps of 1 ms, made beside the runs, end later than this "
        "(default: 10ms)",
    )
    parser.add_argument("--keep", metavar="FOLDER", help="keep the recordings in this folder")
    parser.add_argument(
        "--open",
        choices=("fail", "pass"),
        default="fail",
        help="if the runs cannot decide: fail with exit status 3, or pass with 0 and a warning "
        "(default: fail)",
    )
    _add_confidence(parser)
    add_format(parser)
    parser.set_defaults(run=_gate)


def _gate(options: argparse.Namespace) -> int:
    """Judge and print; return the exit status."""
    result = _judge(options)
    print_result(options.format, result.to_dict, result.sections)
    if result.state == OPEN and options.open == "pass":
        print(f"latprof: warning: passed, but {escape(result.sentence)}", file=sys.stderr)
        return 0
    return result.status


def _judge(options: argparse.Namespace) -> GateResult:
    """Run the two commands, or take the runs that exist, and check the budgets."""
    commands, runs = (options.base, options.head), (options.base_runs, options.head_runs)
    budgets = options.budget or ()
    confidence = part_of(options.confidence, "--confidence")
    if all(commands) and not any(runs):
        timeout = options.timeout
        return gate_commands(
            options.base,
            options.head,
            budgets,
            pairs=options.pairs,
            max_pairs=max(20, options.pairs) if options.max_pairs is None else options.max_pairs,
            check_pairs=options.check_pairs,
            warm_up=options.warm_up,
            timeout_s=None if timeout is None else _seconds(timeout),
            max_lateness=options.max_lateness,
            confidence=confidence,
            keep=options.keep,
            progress=_show,
            run_of=lambda path: recordings_of(options, [str(path)])[0],
        )
    if all(runs) and not any(commands):
        return gate_runs(
            recordings_of(options, options.base_runs),
            recordings_of(options, options.head_runs),
            budgets,
            paired=not options.unpaired,
            confidence=confidence,
        )
    raise ProfileError("gate needs --base and --head, or --base-runs and --head-runs; give both")


def _show(line: str) -> None:
    print(f"latprof: {line}", file=sys.stderr)


def _seconds(text: str) -> float:
    return parse_duration(text, name="--timeout", error=LatprofError) / 1e9


# -- plan and trend -----------------------------------------------------------------------------


def _add_plan(command: NewCommand) -> None:
    """Declare ``plan``."""
    parser = command(
        "plan",
        "show how many pairs of runs, and of which length, find a change",
        "plan runs/*.parquet --detect 5%",
    )
    parser.add_argument("runs", nargs="+", help="runs of the same code, traces or saved profiles")
    add_pipeline(parser)
    parser.add_argument(
        "--detect", default="5%", metavar="5%", help="the change to be found (default: 5%%)"
    )
    parser.add_argument(
        "--power",
        default="80%",
        metavar="80%",
        help="probability with which the change is to be found (default: 80%%)",
    )
    _add_statistic(parser)
    _add_confidence(parser)
    add_format(parser)
    parser.set_defaults(run=_plan)


def _plan(options: argparse.Namespace) -> None:
    """Plan and print."""
    result = plan(
        recordings_of(options, options.runs),
        detect=part_of(options.detect, "--detect"),
        statistic=options.statistic,
        power=part_of(options.power, "--power"),
        confidence=part_of(options.confidence, "--confidence"),
    )
    print_result(options.format, result.to_dict, result.sections)


def _add_trend(command: NewCommand) -> None:
    """Declare ``trend``."""
    parser = command(
        "trend",
        "show a statistic over many runs, and the runs at which it changed",
        "trend runs/*.parquet --statistic decode.p99",
    )
    parser.add_argument("runs", nargs="+", help="runs, traces or saved profiles, in any order")
    add_pipeline(parser)
    _add_statistic(parser)
    add_format(parser, "csv", about="csv is a file for Apache Otava (default: text)")
    parser.add_argument("-o", "--output", metavar="FILE", help="also draw a picture, FILE.png")
    parser.set_defaults(run=_trend)


def _trend(options: argparse.Namespace) -> None:
    """Look for changes, draw and print."""
    result = trend(recordings_of(options, options.runs), statistic=options.statistic)
    if options.output is not None:
        check_ending(options.output, PICTURES)
        draw(lambda plot: plot.trend(result), options.output)
    if options.format == "csv":
        print(result.to_csv(), end="")
    else:
        print_result(options.format, result.to_dict, result.sections)


# -- options ------------------------------------------------------------------------------------


def _add_budgets(parser: argparse.ArgumentParser, meaning: str) -> None:
    parser.add_argument(
        "--budget",
        action="append",
        metavar="LIMIT",
        help="a limit such as 'end_to_end.p99<+5%%' or 'decode.p50<20ms'; may be given several "
        f"times; {meaning}",
    )


def _add_confidence(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--confidence",
        default="95%",
        metavar="95%",
        help="confidence level of the intervals (default: 95%%)",
    )


def _add_statistic(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--statistic",
        default="end_to_end.p99",
        metavar="SPAN.STATISTIC",
        help="the mean or a percentile of a span (default: end_to_end.p99)",
    )
