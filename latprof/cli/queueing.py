"""``latprof causes`` and ``latprof what-if``: which stage frames wait for, and replayed changes."""

import argparse
import re
from typing import Any

from latprof.cli.common import NewCommand, add_traces, pairs, pipeline_of, recordings_of
from latprof.cli.output import add_format, print_result
from latprof.errors import TraceError
from latprof.queueing.blame import blame_rows
from latprof.queueing.causes import causes
from latprof.queueing.headroom import headroom
from latprof.queueing.options import Options
from latprof.queueing.sensitivity import sensitivity_rows
from latprof.queueing.suggestions import suggest_stations
from latprof.queueing.utilization import utilization
from latprof.queueing.what_if import what_if
from latprof.table import Column, Section, Table
from latprof.text import escape, quoted
from latprof.units import parse_duration

__all__ = ["add", "add_changes", "add_until", "changes_of"]


def add(command: NewCommand) -> None:
    """Declare the two commands."""
    parser = command("causes", "show which stage frames wait for", "causes mic.parquet")
    _add_queues(parser)
    _add_pairs(parser, "--servers", "STATION=4", "how many frames a station served at once")
    parser.set_defaults(run=_run_causes)

    parser = command(
        "what-if",
        "show latencies after a change, queues included; without a change, where effort pays",
        "what-if mic.parquet --faster alsa=10% --servers server=2",
    )
    _add_queues(parser)
    add_changes(parser)
    _add_pairs(parser, "--servers", "STATION=2", "how many frames a station serves at once")
    _add_pairs(parser, "--drop", "HANDOFF=40ms", "drop frames that wait longer in a hand-off")
    parser.add_argument("--load", metavar="120%", help="another load than the recorded one")
    add_until(parser)
    parser.set_defaults(run=_run_what_if)


def _add_queues(parser: argparse.ArgumentParser) -> None:
    """Add the options that both commands have; `_queues_of` reads them."""
    add_traces(parser, ", taken as one")
    station = "the station that serves a stage, if the pipeline does not name it; may be repeated"
    room = (
        "how many frames the queue of a hand-off has room for, 0 if it is unbounded (default: "
        "found in the data)"
    )
    _add_pairs(parser, "--station", "STAGE=NAME", station)
    _add_pairs(parser, "--queue", "HANDOFF=8", room)
    parser.add_argument(
        "--hand-over",
        metavar="1us",
        help="a frame that enters a station at most this long after another left it had waited for "
        "it (default: found in the data)",
    )
    add_format(parser)


def _queues_of(options: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments `pipeline`, `stations` and `queues` of the functions on queues."""
    stations, queues = pairs(options.station, "station", "cpu"), pairs(options.queue, "queue", "8")
    return {
        "pipeline": pipeline_of(options.pipeline),
        "stations": stations or None,
        "queues": {name: _count("queue", name, n) for name, n in queues.items()} or None,
    }


def _servers_of(options: argparse.Namespace) -> dict[str, int]:
    """Return how many frames stations serve at once."""
    given = pairs(options.servers, "servers", "2").items()
    return {name: _count("servers", name, value) for name, value in given}


# -- causes -----------------------------------------------------------------------------------


def _run_causes(options: argparse.Namespace) -> None:
    """Look for the cause and print."""
    given, recordings = _queues_of(options), recordings_of(options)
    suggestions = suggest_stations(recordings, **given)
    given["servers"] = _servers_of(options) or None
    shares = blame_rows(recordings, Options(**given))
    found = causes(recordings, hand_over=options.hand_over, **given)
    load = utilization(recordings, hand_over=options.hand_over, **given)

    def content() -> dict[str, Any]:
        """Return all answers as values."""
        return found.to_dict() | {
            "blame": {row.pop("handoff"): row for row in shares},
            "stations": load.rows(),
            "suggestions": [
                {"sentence": each.sentence, "stations": each.stations} for each in suggestions
            ],
        }

    def sections() -> list[Section]:
        """Return all answers as they are shown."""
        tried = tuple(
            f"{each.sentence}; to try it: "
            + " ".join(f"--station {stage}={name}" for stage, name in each.stations.items())
            for each in suggestions
        )
        head, *stages = found.sections()
        loads = load.sections() if load.loads else []
        last = [Section("", tried)] if tried else []
        return [head, *_blame(shares), *stages, *loads, *last]

    print_result(options.format, content, sections)


def _blame(rows: list[dict[str, float | str | None]]) -> list[Section]:
    """Return a table of the stages that frames waited for in each hand-off, or no section."""
    if all(row["self_time"] is None for row in rows):
        return []
    columns = [Column(name.replace("_", " "), "share") for name in list(rows[0])[1:]]
    table = Table((Column("waiting in", "span"), *columns), [list(row.values()) for row in rows])
    return [
        Section("Time in each hand-off that overlaps with service of earlier frames", (), table)
    ]


# -- what-if ----------------------------------------------------------------------------------


def _run_what_if(options: argparse.Namespace) -> None:
    """Replay and print."""
    given = _queues_of(options) | {"hand_over": options.hand_over}
    changes, drop = changes_of(options), pairs(options.drop, "drop", "40ms")
    servers = _servers_of(options)
    if options.limit is not None:
        if changes or servers or drop or options.load is not None:
            raise TraceError("--until must be given without changes; leave one of them out")
        found = headroom(recordings_of(options), options.limit, **given)
        print_result(options.format, found.to_dict, found.sections)
    elif changes or servers or drop or options.load is not None:
        given |= {"servers": servers, "drop": drop, "load": options.load}
        result = what_if(recordings_of(options), changes, **given)
        print_result(options.format, result.to_dict, result.sections)
    else:
        rows = sensitivity_rows(recordings_of(options), Options(**given))
        print_result(
            options.format,
            lambda: {"format": 1, "less": 0.1, "sensitivity": rows},
            lambda: [_sensitivity(rows)],
        )


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


def _count(flag: str, name: str, value: str) -> int:
    if not value.isdecimal():
        raise TraceError(f"--{flag} {escape(name)} must be a number, got {quoted(value)}")
    return int(value)


# -- changes to stages, which `latprof plot` has as well ------------------------------------------


def add_changes(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what is changed."""
    for flag, word in (("--faster", "less"), ("--slower", "more")):
        meaning = f"how much {word} time a stage takes; may be given several times"
        _add_pairs(parser, flag, "STAGE=10%|2ms", meaning)


def add_until(parser: argparse.ArgumentParser) -> None:
    """Add the option of a limit."""
    parser.add_argument(
        "--until",
        dest="limit",
        metavar="p99<50ms",
        help="the highest load at which the mean or a percentile of end to end keeps a limit",
    )


def _add_pairs(parser: argparse.ArgumentParser, flag: str, value: str, meaning: str) -> None:
    parser.add_argument(flag, action="append", default=[], metavar=value, help=meaning)


def changes_of(options: argparse.Namespace) -> dict[str, float | str]:
    """Return a factor, or a duration with its sign, by stage.

    Raises
    ------
    TraceError
        A value is not STAGE=10% or STAGE=2ms, a stage is given twice, or it takes more than 100 %
        less.

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
    """Return a factor, or a duration with its sign."""
    percent = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*%\s*", value)
    if percent is not None:
        part = float(percent[1]) / 100
        if sign < 0 and part > 1:
            raise TraceError(f"{what} must be at most 100%, got {quoted(value)}")
        return 1 + sign * part
    try:
        # a number without a unit could be a part or a duration
        known = re.match(r"\s*\d", value) and not re.fullmatch(r"\s*[\d.]+\s*", value)
        if known and parse_duration(value) is not None:
            return f"{'-' if sign < 0 else '+'}{value.strip()}"
    except ValueError:
        pass
    raise TraceError(f"{what} must be a part (10%) or a duration (2ms), got {quoted(value)}")
