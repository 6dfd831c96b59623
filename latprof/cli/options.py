"""What several commands have in common: arguments, and what they mean."""

import argparse
from pathlib import Path
from typing import Protocol

from latprof.errors import LatprofError, PipelineError
from latprof.pipeline import AUDIO, Pipeline
from latprof.text import escape

__all__ = [
    "NewCommand",
    "add_input",
    "add_pipeline",
    "add_stations",
    "check_ending",
    "pipeline_of",
    "stations_of",
]


class NewCommand(Protocol):
    """Adds a command: its name, what it does, an example of a call."""

    def __call__(self, name: str, text: str, example: str) -> argparse.ArgumentParser:
        """Return the parser of the new command."""


def add_input(parser: argparse.ArgumentParser) -> None:
    """Add traces, and which part of them to read."""
    parser.add_argument(
        "trace", nargs="+", help="trace files, folders (and those in them) or globs"
    )
    add_pipeline(parser)
    parser.add_argument("--skip", metavar="5s", help="leave out what starts within the first 5 s")
    parser.add_argument(
        "--from", dest="since", metavar="TIME", help="leave out what starts earlier"
    )
    parser.add_argument("--to", dest="until", metavar="TIME", help="leave out starts from then on")


def add_pipeline(parser: argparse.ArgumentParser) -> None:
    """Add what the marks of foreign tables mean."""
    parser.add_argument(
        "--pipeline",
        metavar="audio|FILE.json",
        help="what the marks mean, for files that do not say so themselves",
    )


def add_stations(parser: argparse.ArgumentParser) -> None:
    """Add what attribution needs to know of stations."""
    parser.add_argument(
        "--station",
        action="append",
        default=[],
        metavar="STAGE=NAME",
        help="what serves a stage, if the pipeline does not say it; may be given several times",
    )
    parser.add_argument(
        "--hand-over",
        metavar="1us",
        help="who enters a station this soon after another left was queued (default: found)",
    )


def stations_of(options: argparse.Namespace) -> dict[str, str | None]:
    """Return the stations that ``--station`` names, by stage.

    Raises
    ------
    PipelineError
        No STAGE=NAME.
    """
    found: dict[str, str | None] = {}
    for value in options.station:
        stage, equals, name = value.partition("=")
        if not equals or not name:
            raise PipelineError(f"--station {escape(value)!r}: write STAGE=NAME")
        found[stage] = name
    return found


def pipeline_of(name: str | None) -> Pipeline | None:
    """Return the pipeline that ``--pipeline`` names; None without it.

    Raises
    ------
    PipelineError
        No such file, or no pipeline in it.
    """
    if name is None:
        return None
    if name == AUDIO.name:
        return AUDIO
    path = Path(name)
    if not path.is_file():
        raise PipelineError(
            f"--pipeline {escape(name)!r} is neither 'audio' nor a file: give a file that "
            "Pipeline.to_json() wrote"
        )
    try:
        return Pipeline.from_json(path.read_text(encoding="utf-8"))
    except (PipelineError, UnicodeDecodeError) as error:
        raise PipelineError(f"{escape(name)}: {error}") from None


def check_ending(path: str, endings: tuple[str, ...]) -> None:
    """Refuse a file whose ending says no format that there is."""
    if not path.endswith(endings):
        raise LatprofError(f"{escape(path)}: the ending says the format: use {', '.join(endings)}")
