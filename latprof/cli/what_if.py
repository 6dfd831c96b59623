"""``latprof what-if``: what a change would give, or where effort pays."""

import argparse
import json
from typing import Any

from latprof.cli.changes import add_changes, changes_of, pairs
from latprof.cli.common import NewCommand, add_pipeline, add_stations, pipeline_of, stations_of
from latprof.errors import TraceError
from latprof.table import Column, Section, Table, text
from latprof.text import escape

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
    print(result)


def _print_sensitivity(rows: list[dict[Any, Any]], form: str) -> None:
    known = [{name: None if x != x else x for name, x in row.items()} for row in rows]
    if form == "json":
        content = {"format": 1, "less": 0.1, "sensitivity": known}
        print(json.dumps(content, indent=2, allow_nan=False))
        return
    columns = (
        Column("stage", "span"),
        Column("mean", "time"),
        Column("share", "share"),
        Column("p99", "time"),
        Column("share", "share"),
    )
    keys = ("stage", "mean", "mean_share", "p99", "p99_share")
    title = "How much less end to end takes if a stage takes 10 % less"
    print(
        text([Section(title, table=Table(columns, [[row[key] for key in keys] for row in known]))])
    )


def _count(value: str, name: str) -> int:
    if not value.isdecimal():
        raise TraceError(f"--servers {escape(name)}={escape(value)}: give a number, 2 say")
    return int(value)
