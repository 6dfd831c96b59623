"""``latprof formats``: the files of other tools that latprof reads."""

import argparse

from latprof.cli.common import NewCommand
from latprof.io.formats.known import FORMATS, UNTRIED
from latprof.table import Column, Section, Table, text

__all__ = ["add"]

_TABLES = (
    ("CSV, JSON, JSON lines", "report requests.csv --marks received_at,handled_at,sent_at"),
    ("Parquet, Arrow, Feather of others", "report spans.parquet --marks start_ts,end_ts --id id"),
    ("durations without times", "report times.csv --durations queue_ms,work_ms"),
    ("a start and durations", "report times.csv --marks start --durations queue_ms,work_ms"),
)


def add(command: NewCommand) -> None:
    """Declare the command."""
    parser = command("formats", "list the formats of files that latprof reads", "formats")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    """Print each format with a command that reads it."""
    columns = Column("format"), Column("command")
    tables = [(name, f"latprof {example}") for name, example in _TABLES]
    known = [(each.name, f"latprof {each.example}") for each in FORMATS]
    names = ", ".join(each.name for each in FORMATS if each.key in UNTRIED)
    untried = f"untried on real files, only on files written after the documentation: {names}"
    notes = tuple(f"{each.name}: {each.note}" for each in FORMATS)
    print(
        text(
            [
                Section(
                    "Tables of timestamps: name the columns",
                    ("also as .gz, .zst or .bz2; all commands that take a trace take them",),
                    Table(columns, tables),
                ),
                Section("Formats that are recognized by their content", (), Table(columns, known)),
                Section("What a frame is", notes),
                Section("", (untried,)),
            ]
        ).rstrip()
    )
