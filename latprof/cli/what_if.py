"""``latprof what-if``: what a change would give, or where effort pays."""

import argparse
import json
from typing import Any

from latprof.cli.changes import add_changes, changes_of, pairs
from latprof.cli.common import NewCommand, add_pipeline, add_stations, pipeline_of, stations_of
from latprof.errors import TraceError
from latprof.queueing.what_if import sensitivity_rows, what_if
from latprof.table import Column, Section, Table, text
from latprof.text import escape, quoted

__all__ = ["add", "run"]


def add(command: NewCommand) -> None:
    """Declare the command."""
    parser = command(
        "what-if",
        "show what a change would give, queues included; without a change, where effort pays",
        "what-if mic.parquet --faster alsa=10% --servers server=2",
    )
    parser.add_argument("trace", nargs="+", help="trace files, folders or globs, taken as one")
    add_pipeline(parser)
    add_stations(parser)
    add_changes(parser)
    for flag, value, meaning in (
        ("--servers", "STATION=2", "how many frames a station serves at once"),
        ("--drop", "HANDOFF=40ms", "drop frames that wait longer in a hand-off"),
    ):
        parser.add_argument(flag, action="append", default=[], metavar=value, help=meaning)
    parser.add_argument("--format", choices=("text", "json"), default="text")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Replay and print."""
    given: dict[str, Any] = {
        "hand_over": options.hand_over,
        "stations": stations_of(options) or None,
        "pipeline": pipeline_of(options.pipeline),
    }
    changes, drop = changes_of(options), dict(pairs(options.drop, "drop"))
    servers = {name: _count(name, value) for name, value in pairs(options.servers, "servers")}
    if changes or servers or drop:
        result = what_if(options.trace, changes, servers=servers, drop=drop, **given)
        content, shown = result.to_dict(), str(result)
    else:
        rows = sensitivity_rows(options.trace, **given)
        content, shown = {"format": 1, "less": 0.1, "sensitivity": rows}, text([_sensitivity(rows)])
    as_json = options.format == "json"
    print(json.dumps(content, indent=2, allow_nan=False) if as_json else shown)


def _sensitivity(rows: list[dict[str, Any]]) -> Section:
    columns = (
        Column("stage", "span"),
        Column("mean", "time"),
        Column("share", "share"),
        Column("p99", "time"),
        Column("share", "share"),
    )
    keys = ("stage", "mean", "mean_share", "p99", "p99_share")
    table = Table(columns, [[row[key] for key in keys] for row in rows])
    return Section("How much less end to end takes if a stage takes 10 % less", table=table)


def _count(name: str, value: str) -> int:
    if not value.isdecimal():
        raise TraceError(f"--servers {escape(name)} must be a number, got {quoted(value)}")
    return int(value)
