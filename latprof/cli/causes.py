"""``latprof causes``: who waited for whom, and which stage is behind it."""

import argparse
import json
from typing import TYPE_CHECKING, Any

from latprof.cli.options import NewCommand, add_pipeline, add_stations, pipeline_of, stations_of

if TYPE_CHECKING:
    from latprof.queueing.causes import Causes
    from latprof.queueing.model import Picture
    from latprof.report.layout import Section

__all__ = ["add", "run"]

_MOST_CHAINS = 10


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
    from latprof.report.layout import text

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
    parts = [_head(found), _blame(whole, _shares(found, blamed)), _stages(found)]
    lines = [*load.sentences, *(f"note: {note}" for note in found.notes)]
    lines += [
        f"{each.sentence}; to try it: "
        + " ".join(f"--station {stage}={name}" for stage, name in each.stations.items())
        for each in suggested
    ]
    parts.append(_section("Stations", lines))
    print("\n\n".join(text(part) for part in parts))


def _section(title: str, lines: list[str]) -> "Section":
    from latprof.report.layout import Section

    return Section(title, tuple(lines))


def _head(found: "Causes") -> "Section":
    from latprof.units import format_ns

    lines = [found.sentence]
    for path, ns in found.chains[:_MOST_CHAINS]:
        lines.append(f"{' waits for '.join(path)}: {format_ns(ns / max(found.frames, 1))} a frame")
    return _section("", lines)


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


def _blame(whole: "Picture", shares: dict[str, dict[str, float | None]]) -> "Section":
    from latprof.report.layout import Section, percent, short

    used = {name for row in shares.values() for name in row}
    names = [s.name for s in whole.places.pipeline.stages if s.name in used]
    rows = tuple(
        (short(handoff), *(percent(row.get(name, 0.0)) for name in (*names, "own")))
        for handoff, row in shares.items()
    )
    header = ("waiting in", *(short(name) for name in names), "own")
    return Section("Time in each hand-off that overlaps with earlier frames'", (), header, rows)


def _stages(found: "Causes") -> "Section":
    from latprof.report.layout import Section, percent, short
    from latprof.units import format_ns

    rows = tuple(
        (
            short(row["stage"]),
            format_ns(row["own"]),
            format_ns(row["blamed"]),
            percent(row["gain"]),
        )
        for row in found.rows()
    )
    lines = (
        "a frame's mean; gain: what end to end loses when the stage never takes more than its "
        "median",
    )
    return Section("Stages", lines, ("stage", "own", "waited for", "gain"), rows)
