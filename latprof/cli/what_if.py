"""``latprof what-if``: what a change would give, or where effort pays."""

import argparse
import json
from typing import Any

from latprof.cli.changes import add_changes, changes_of, pairs
from latprof.cli.options import NewCommand, add_pipeline, add_stations, pipeline_of, stations_of
from latprof.errors import TraceError
from latprof.text import counted, escape

__all__ = ["add", "run"]


def add(command: NewCommand) -> None:
    """Declare the command."""
    what_if = command(
        "what-if",
        "tell what a change would give, queues included; without one, where effort pays",
        "what-if mic.parquet --faster alsa=10% --servers server=2",
    )
    what_if.add_argument("trace", nargs="+", help="trace files, folders or globs, looked at as one")
    add_pipeline(what_if)
    add_stations(what_if)
    add_changes(what_if)
    what_if.add_argument(
        "--servers", action="append", default=[], metavar="STATION=2", help="frames served at once"
    )
    what_if.add_argument(
        "--drop",
        action="append",
        default=[],
        metavar="HANDOFF=40ms",
        help="frames that wait longer are dropped there",
    )
    what_if.add_argument("--format", choices=("text", "json"), default="text")
    what_if.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Replay and print."""
    from latprof.queueing.what_if import sensitivity, what_if

    pipeline, stations = pipeline_of(options.pipeline), stations_of(options)
    changes = changes_of(options)
    servers = {name: _count(n, name) for name, n in pairs(options.servers, "servers")}
    drop = dict(pairs(options.drop, "drop"))
    if not changes and not servers and not drop:
        table = sensitivity(
            options.trace, hand_over=options.hand_over, stations=stations, pipeline=pipeline
        )
        _print_sensitivity(
            [{"stage": name, **row} for name, row in table.to_dict("index").items()], options.format
        )
        return
    result = what_if(
        options.trace,
        changes,
        servers=servers,
        drop=drop,
        hand_over=options.hand_over,
        stations=stations,
        pipeline=pipeline,
    )
    if options.format == "json":
        print(json.dumps(result.to_dict(), indent=2, allow_nan=False))
        return
    from latprof.report.layout import Section, text
    from latprof.units import format_ns

    counts = result.counts
    lines = [", ".join(f"{name} {change}" for name, change in result.changes.items())]
    lines.append(
        f"{counted(counts['frames'], 'frame')}, of which {counts['dropped']:,} are dropped then; "
        f"{counts['breaks']:,} contradict first in, first out"
    )
    lines += [result.warning] if result.warning else []
    names = ("measured", "replayed", "subtraction")
    mean = result.mean
    rows = [("mean", *(format_ns(mean[name]) for name in names), "-", "-")]
    for row in result.rows():
        cells = (format_ns(row[name]) for name in (*names, "low", "high"))
        rows.append((f"p{row['percentile']:g}", *cells))
    header = ("end to end", "measured", "then", "subtracted", "low", "high")
    parts = [Section("", tuple(lines)), Section("What it would give", (), header, tuple(rows))]
    parts.append(Section("Taken for granted", result.assumptions))
    print("\n\n".join(text(part) for part in parts))


def _print_sensitivity(rows: list[dict[Any, Any]], form: str) -> None:
    known = [{name: None if x != x else x for name, x in row.items()} for row in rows]
    if form == "json":
        content = {"format": 1, "less": 0.1, "sensitivity": known}
        print(json.dumps(content, indent=2, allow_nan=False))
        return
    from latprof.report.layout import Section, percent, short, text
    from latprof.units import format_ns

    cells = tuple(
        (
            short(str(row["stage"])),
            format_ns(row["mean"]),
            percent(row["mean_share"]),
            format_ns(row["p99"]),
            percent(row["p99_share"]),
        )
        for row in known
    )
    header = ("stage", "mean", "of it", "p99", "of it")
    print(text(Section("End to end with 10 % less of a stage is less by", (), header, cells)))


def _count(value: str, name: str) -> int:
    if not value.isdecimal():
        raise TraceError(f"--servers {escape(name)}={escape(value)}: give a number, 2 say")
    return int(value)
