"""``latprof merge``: parts into one small profile."""

import argparse
from pathlib import Path

from latprof.cli.common import NewCommand, add_pipeline, pipeline_of, progress
from latprof.errors import LatprofError
from latprof.text import counted, escape

__all__ = ["add", "run"]


def add(command: NewCommand) -> None:
    """Declare the command."""
    merge = command(
        "merge", "fold traces and saved profiles into one profile", "merge a.latprof b.latprof -o c"
    )
    merge.add_argument("part", nargs="+", help="saved profiles, traces, folders or globs")
    add_pipeline(merge)
    merge.add_argument("-o", "--output", required=True, help="the file to write")
    merge.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Fold what is no profile yet, merge and save; say what was written."""
    from latprof.analysis import analyze
    from latprof.profile.file import is_profile, load_profile
    from latprof.profile.profile import merge

    _check_merged(options.output)
    pipeline = pipeline_of(options.pipeline)
    profiles = []
    for part in options.part:
        if is_profile(part):
            profiles.append(load_profile(part))
            continue
        with progress() as told:
            profiles.append(analyze(part, pipeline=pipeline, causes=None, progress=told))
    whole = merge(profiles)
    whole.save(options.output)
    parts = counted(len(profiles), "part")
    print(f"{escape(options.output)}: {counted(whole.frames, 'frame')} of {parts}")


def _check_merged(output: str) -> None:
    """Refuse to write a profile over a trace; a profile may grow in place."""
    from latprof.profile.file import is_profile

    if output.endswith((".parquet", ".csv")):
        raise LatprofError(f"{escape(output)}: a profile is no table: end it in .latprof, say")
    if Path(output).is_file() and not is_profile(output):
        raise LatprofError(f"{escape(output)}: is there, and no profile: write to another file")
