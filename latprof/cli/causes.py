"""``latprof causes``: what frames waited for, and which stage is the cause."""

import argparse

from latprof.cli.common import NewCommand, add_queues, print_json, queues_of
from latprof.queueing.blame import blame_rows
from latprof.queueing.causes import causes
from latprof.queueing.utilization import suggest_stations, utilization
from latprof.table import Column, Section, Table, text

__all__ = ["add", "run"]


def add(command: NewCommand) -> None:
    """Declare the command."""
    parser = command("causes", "show which stage the others wait for", "causes mic.parquet")
    add_queues(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Look for the cause and print."""
    given = queues_of(options)
    shares = blame_rows(options.trace, **given)
    found = causes(options.trace, hand_over=options.hand_over, **given)
    load = utilization(options.trace, hand_over=options.hand_over, **given)
    suggestions = suggest_stations(options.trace, **given)
    if options.format == "json":
        content = found.to_dict()
        content["blame"] = {row.pop("handoff"): row for row in shares}
        content["stations"] = load.rows()
        content["suggestions"] = [
            {"sentence": each.sentence, "stations": each.stations} for each in suggestions
        ]
        print_json(content)
        return
    tried = tuple(
        f"{each.sentence}; to try it: "
        + " ".join(f"--station {stage}={name}" for stage, name in each.stations.items())
        for each in suggestions
    )
    head, *stages = found.sections()
    print(text([head, *_blame(shares), *stages, *load.sections(), Section("", tried)]).rstrip())


def _blame(rows: list[dict[str, float | str | None]]) -> list[Section]:
    """Return a table of what frames waited for in each hand-off, if there are hand-offs."""
    if not rows:
        return []
    columns = [Column(name.replace("_", " "), "share") for name in list(rows[0])[1:]]
    table = Table((Column("waiting in", "span"), *columns), [list(row.values()) for row in rows])
    return [
        Section("Time in each hand-off that overlaps with service of earlier frames", (), table)
    ]
