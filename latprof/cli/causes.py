"""``latprof causes``: who waited for whom, and which stage is behind it."""

import argparse
import json
from typing import TYPE_CHECKING, Any

from latprof.cli.common import NewCommand, add_pipeline, add_stations, pipeline_of, stations_of
from latprof.table import Column, Section, Table, text

if TYPE_CHECKING:
    from latprof.queueing.causes import Causes
    from latprof.queueing.model import Picture

__all__ = ["add", "run"]


def add(command: NewCommand) -> None:
    """Declare the command."""
    causes = command("causes", "tell which stage the others wait for", "causes mic.parquet")
    causes.add_argument("trace", nargs="+", help="trace files, folders or globs, looked at as one")
    add_pipeline(causes)
    add_stations(causes)
    causes.add_argument("--format", choices=("text", "json"), default="text")
    causes.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Look for the cause and print."""
    from latprof.queueing.blame import hand_over_ns
    from latprof.queueing.causes import causes_of
    from latprof.queueing.model import picture
    from latprof.queueing.recordings import frames_of
    from latprof.queueing.saturation import utilization_of
    from latprof.queueing.shares import check_columns
    from latprof.queueing.suggestions import suggestions_of
    from latprof.queueing.waits import waits_of

    kind, columns = frames_of(
        options.trace,
        "causes",
        pipeline=pipeline_of(options.pipeline),
        stations=stations_of(options),
    )
    check_columns(kind)
    whole = picture(kind, columns, hand_over=hand_over_ns(options.hand_over))
    found, load = causes_of(whole), utilization_of(whole)
    suggested = suggestions_of(kind, columns)
    blamed = {
        wait.handoff: {name: float(x.sum()) for name, x in wait.by_stage().items()}
        for wait in waits_of(whole, queued=False)
    }
    if options.format == "json":
        content: dict[str, Any] = found.to_dict()
        content["blame"] = _shares(found, blamed)
        content["stations"] = load.rows()
        content["suggestions"] = [
            {"sentence": each.sentence, "stations": each.stations} for each in suggested
        ]
        print(json.dumps(content, indent=2, allow_nan=False))
        return
    summary, stages = found.sections()
    lines = list(load.sentences)
    lines += [
        f"{each.sentence}; to try it: "
        + " ".join(f"--station {stage}={name}" for stage, name in each.stations.items())
        for each in suggested
    ]
    blame = _blame(whole, _shares(found, blamed))
    print(text([summary, blame, stages, Section("Stations", tuple(lines))]))


def _shares(
    found: "Causes", blamed: dict[str, dict[str, float]]
) -> dict[str, dict[str, float | None]]:
    """Return the parts of each hand-off's time, with its own: they add up to 1."""
    table: dict[str, dict[str, float | None]] = {}
    for handoff, parts in blamed.items():
        total = found.total[handoff]
        row: dict[str, float | None] = {
            name: ns / total if total else 0.0 for name, ns in parts.items()
        }
        row["own"] = 1 - sum(value or 0.0 for value in row.values())
        table[handoff] = row
        if not found.counts[handoff]:
            table[handoff] = dict.fromkeys(row)
    return table


def _blame(whole: "Picture", shares: dict[str, dict[str, float | None]]) -> Section:
    used = {name for row in shares.values() for name in row}
    names = [s.name for s in whole.places.pipeline.stages if s.name in used]
    rows = [
        (handoff, *(row.get(name, 0.0) for name in (*names, "own")))
        for handoff, row in shares.items()
    ]
    columns = (
        Column("hand-off", "span"),
        *(Column(name, "share") for name in names),
        Column("self time", "share"),
    )
    title = "Share of the time in each hand-off that was spent waiting for a stage"
    return Section(title, table=Table(columns, rows))
