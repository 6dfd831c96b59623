"""``latprof export``: a trace as a table that other tools read."""

import argparse

from latprof.commands.options import NewCommand, add_pipeline, check_ending, pipeline_of

__all__ = ["add", "run"]


def add(command: NewCommand) -> None:
    """Declare the command."""
    export = command("export", "write a trace as Parquet or CSV", "export mic.parquet -o mic.csv")
    export.add_argument("trace", help="a trace file")
    add_pipeline(export)
    export.add_argument("-o", "--output", required=True, help="file: .parquet or .csv")
    export.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Read and write."""
    from latprof.trace import read

    check_ending(options.output, (".parquet", ".csv"))
    trace = read(options.trace, pipeline=pipeline_of(options.pipeline))
    if options.output.endswith(".csv"):
        trace.to_csv(options.output)
    else:
        trace.save(options.output)
