"""``latprof what-if``: what a change would give, or where effort pays."""

import argparse
import re
from typing import Any

from latprof.cli.common import NewCommand, add_queues, pairs, print_json, queues_of
from latprof.errors import TraceError
from latprof.queueing.what_if import sensitivity_rows, what_if
from latprof.table import Column, Section, Table, text
from latprof.text import escape, quoted
from latprof.units import parse_duration

__all__ = ["add", "add_changes", "changes_of", "run"]


def add(command: NewCommand) -> None:
    """Declare the command."""
    parser = command(
        "what-if",
        "show what a change would give, queues included; without a change, where effort pays",
        "what-if mic.parquet --faster alsa=10% --servers server=2",
    )
    add_queues(parser)
    add_changes(parser)
    _add_pairs(parser, "--servers", "STATION=2", "how many frames a station serves at once")
    _add_pairs(parser, "--drop", "HANDOFF=40ms", "drop frames that wait longer in a hand-off")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Replay and print."""
    given = queues_of(options) | {"hand_over": options.hand_over}
    changes, drop = changes_of(options), pairs(options.drop, "drop", "40ms")
    servers = {
        name: _count(name, value) for name, value in pairs(options.servers, "servers", "2").items()
    }
    if changes or servers or drop:
        result = what_if(options.trace, changes, servers=servers, drop=drop, **given)
        content, sections = result.to_dict(), result.sections()
    else:
        rows = sensitivity_rows(options.trace, **given)
        content, sections = {"format": 1, "less": 0.1, "sensitivity": rows}, [_sensitivity(rows)]
    if options.format == "json":
        print_json(content)
    else:
        print(text(sections))


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


# -- changes to stages, which `latprof plot` has as well ------------------------------------------


def add_changes(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what is changed."""
    for flag, word in (("--faster", "less"), ("--slower", "more")):
        meaning = f"how much {word} time a stage takes; may be given several times"
        _add_pairs(parser, flag, "STAGE=10%|2ms", meaning)


def _add_pairs(parser: argparse.ArgumentParser, flag: str, value: str, meaning: str) -> None:
    parser.add_argument(flag, action="append", default=[], metavar=value, help=meaning)


def changes_of(options: argparse.Namespace) -> dict[str, float | str]:
    """Return a factor, or a duration with its sign, by stage.

    Raises
    ------
    TraceError
        Not STAGE=10% or STAGE=2ms, a stage that is given twice, or more than 100 % less.

    Examples
    --------
    >>> changes_of(argparse.Namespace(faster=["alsa=10%"], slower=["cgo=2ms"]))
    {'alsa': 0.9, 'cgo': '+2ms'}
    """
    changes: dict[str, float | str] = {}
    for flag, sign in (("faster", -1), ("slower", 1)):
        for name, value in pairs(getattr(options, flag), flag, "10%").items():
            if name in changes:
                raise TraceError(f"--{flag} must not change {quoted(name)} again; give one change")
            changes[name] = _change(value, sign, f"--{flag} {escape(name)}")
    return changes


def _change(value: str, sign: int, what: str) -> float | str:
    """Return a factor or a fixed change."""
    percent = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*%\s*", value)
    if percent is not None:
        part = float(percent[1]) / 100
        if sign < 0 and part > 1:
            raise TraceError(f"{what} must be at most 100%, got {quoted(value)}")
        return 1 + sign * part
    try:
        # a number without a unit could be either
        known = re.match(r"\s*\d", value) and not re.fullmatch(r"\s*[\d.]+\s*", value)
        if known and parse_duration(value) is not None:
            return f"{'-' if sign < 0 else '+'}{value.strip()}"
    except ValueError:
        pass
    raise TraceError(f"{what} must be a part (10%) or a duration (2ms), got {quoted(value)}")
