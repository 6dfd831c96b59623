"""``latprof merge``: traces and saved profiles into one saved profile."""

import argparse
from pathlib import Path

from latprof.analysis import analyze
from latprof.cli.common import NewCommand, add_pipeline, pipeline_of, progress
from latprof.errors import LatprofError
from latprof.profile.file import is_profile
from latprof.profile.profile import load_profile, merge
from latprof.text import counted, shown_path

__all__ = ["add", "run"]


def add(command: NewCommand) -> None:
    """Declare the command."""
    parser = command(
        "merge", "fold traces and saved profiles into one profile", "merge a.latprof b.latprof -o c"
    )
    parser.add_argument("part", nargs="+", help="saved profiles, traces, folders or globs")
    add_pipeline(parser)
    parser.add_argument("-o", "--output", required=True, help="the file to write")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Fold the traces, merge them with the profiles, save the result and print what it holds."""
    output = options.output
    if output.endswith((".parquet", ".csv")):
        raise LatprofError(f"{shown_path(output)}: a profile must not end in .parquet or .csv")
    if Path(output).is_file() and not is_profile(output):
        raise LatprofError(
            f"{shown_path(output)}: already exists and is not a saved profile; "
            "choose another output"
        )
    pipeline = pipeline_of(options.pipeline)
    profiles = []
    for part in options.part:
        if is_profile(part):
            profiles.append(load_profile(part))
            continue
        with progress() as report:
            profiles.append(analyze(part, pipeline=pipeline, causes=None, progress=report))
    whole = merge(profiles)
    whole.save(output)
    parts = counted(len(profiles), "part")
    print(f"{shown_path(output)}: {counted(whole.frames, 'frame')} of {parts}")
