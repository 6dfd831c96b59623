"""Parts of several commands: arguments, the profile of the given files, and output."""

import argparse
import contextlib
import csv
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from latprof.analysis import analyze
from latprof.errors import LatprofError, PipelineError, ProfileError, TraceError
from latprof.io.formats.columns import ColumnMap
from latprof.io.formats.foreign import ForeignFile, read_pipeline_file
from latprof.parts import PAYS_FROM, Workers
from latprof.pipeline import AUDIO, Pipeline
from latprof.profile.file import is_profile
from latprof.profile.load import load_profile
from latprof.profile.profile import Profile
from latprof.text import clip, quoted, shown_path
from latprof.units import parse_time

if TYPE_CHECKING:
    from concurrent.futures import Executor


__all__ = [
    "LONG_WORK",
    "NewCommand",
    "add_input",
    "add_pipeline",
    "add_traces",
    "add_workers",
    "pairs",
    "part_of",
    "pipeline_of",
    "profile_of",
    "progress",
    "recordings_of",
]

LONG_WORK = 2_000_000  # frames; from this many on, progress is shown

# what `analyze` is called with if an option is not given, or if a command does not have it
_DEFAULTS = {
    **dict.fromkeys(("by", "pipeline", "skip", "since", "until", "every", "deadline")),
    "intended": False,
    "id_bits": 64,
}


class NewCommand(Protocol):
    """Adds a command, from its name, a description, and the arguments of an example call."""

    def __call__(self, name: str, text: str, example: str) -> argparse.ArgumentParser:
        """Return the parser of the new command."""


# -- arguments ----------------------------------------------------------------------------------


def add_traces(parser: argparse.ArgumentParser, note: str = "") -> None:
    """Add the trace files to read and the options of `add_pipeline`; see `recordings_of`."""
    text = f"trace files, folders (with all folders inside), globs, URLs of them{note}"
    parser.add_argument("trace", nargs="+", help=text)
    add_pipeline(parser)


def add_pipeline(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what the marks and columns of files of other tools mean."""
    parser.add_argument(
        "--pipeline",
        metavar="audio|FILE.json",
        help="what the marks mean, for files that were not written by latprof",
    )
    tables = parser.add_argument_group(
        "files of other tools", "tables and other formats: see latprof formats"
    )
    for flag, value, about in (
        ("--marks", "A,B,C", "columns with times, in the order in which frames pass them"),
        ("--stages", "NAME=A:B,...", "stages between two of these columns (default: each to next)"),
        (
            "--durations",
            "A,B",
            "how long each stage took, without times or with --marks START alone",
        ),
        ("--id", "COLUMN", "column with the id of each frame (default: rows are numbered)"),
        ("--source", "COLUMN", "column with the source"),
        ("--size", "COLUMN", "column with the bytes of each frame"),
        ("--outcome", "COLUMN", "column that says which frames failed"),
        ("--tag", "A,B", "columns that become tags (default: all others)"),
        ("--unit", "s|ms|us|ns", "unit of times that are numbers (default: found, and reported)"),
        ("--tz", "ZONE", "zone of times without one, for example Europe/Vienna (default: UTC)"),
        ("--max-bad", "N|5%", "most rows that may be unreadable (default: 1%%, or 10 if more)"),
        ("--spans", "A,B", "operations that become stages (default: those on the critical path)"),
    ):
        name = flag[2:].replace("-", "_")
        dest = f"column_{name}" if value == "COLUMN" else name
        tables.add_argument(flag, metavar=value, dest=dest, help=about.replace("5%,", "5%%,"))
    tables.add_argument(
        "--zero-is-missing", action="store_true", help="a time of 0 means: not reached"
    )
    tables.add_argument(
        "--samples", action="store_true", help="rows are periodic samples, not frames"
    )


def add_input(parser: argparse.ArgumentParser) -> None:
    """Add the trace files to read, and options that select frames; see `profile_of`."""
    parser.set_defaults(**_DEFAULTS)
    add_traces(parser)
    parser.add_argument(
        "--skip", metavar="5s", help="leave out frames that start within the first 5 s"
    )
    parser.add_argument(
        "--from", dest="since", metavar="TIME", help="leave out frames that start before TIME (UTC)"
    )
    parser.add_argument(
        "--to", dest="until", metavar="TIME", help="leave out frames that start at TIME or later"
    )


def add_workers(parser: argparse.ArgumentParser) -> None:
    """Add the options on processes that fold the frames; see `profile_of`."""
    workers = parser.add_argument_group("large recordings")
    workers.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="fold in N processes, which pays from some 20 million frames on (default: in one)",
    )
    workers.add_argument(
        "--dask", metavar="ADDRESS", help="fold on a Dask cluster, such as tcp://10.0.0.7:8786"
    )
    workers.add_argument(
        "--partial", action="store_true", help="report the rest if a part cannot be read"
    )


@contextlib.contextmanager
def _executor(options: argparse.Namespace) -> "Iterator[Executor | Workers | None]":
    """Give the executor that folds the frames, or None if this process alone does.

    Raises
    ------
    LatprofError
        The options contradict each other, or Dask is not installed.
    """
    count, address = getattr(options, "workers", None), getattr(options, "dask", None)
    if count is not None and address is not None:
        raise LatprofError("--workers and --dask must not be given together; choose one")
    if count is not None:
        with Workers(count) as workers:
            yield workers
    elif address is not None:
        try:
            distributed: Any = import_module("distributed")
        except ImportError:
            raise LatprofError(
                "--dask needs the package distributed; pip install 'latprof[dask]'"
            ) from None
        try:
            client = distributed.Client(address, timeout=10)
        except (OSError, ValueError) as error:
            raise LatprofError(
                f"--dask {quoted(address)} must be the address of a scheduler: {clip(str(error))}"
            ) from None
        with client:
            yield client.get_executor()
    else:
        yield None


def pairs(values: Sequence[str], flag: str, example: str) -> dict[str, str]:
    """Return the values given as ``--flag NAME=VALUE`` (repeatable) as a dict by name.

    `example` is a value for the message of the error.

    Raises
    ------
    TraceError
        A value has another form, or a name is given twice.
    """
    found: dict[str, str] = {}
    for value in values:
        name, _, rest = value.partition("=")
        if not name or not rest:
            shown = f"--{flag} {clip(name, 40) or 'decode'}={example}"
            raise TraceError(
                f"--{flag} must be NAME=VALUE, got {quoted(value)}; for example {shown}"
            )
        if name in found:
            raise TraceError(f"--{flag} must not name {quoted(name)} twice; give one value")
        found[name] = rest
    return found


def part_of(text: str, flag: str) -> float:
    """Return a percentage such as "5%", the value of `flag`, as a number: 0.05.

    Raises
    ------
    ProfileError
        The text is not a percentage above 0 % and below 100 %.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*%\s*", text)
    if found is None or not 0 < float(found[1]) < 100:
        raise ProfileError(
            f"{flag} must be a percentage above 0% and below 100%, got {quoted(text)}"
        )
    return float(found[1]) / 100


def pipeline_of(name: str | None) -> Pipeline | None:
    """Return the pipeline that ``--pipeline`` names, or None without it.

    Raises
    ------
    PipelineError
        The file does not exist, or does not contain a pipeline.
    """
    return _described(name)[0]


def _described(name: str | None) -> tuple[Pipeline | None, ColumnMap | None]:
    """Return the pipeline that ``--pipeline`` names, and the columns that its file describes."""
    if name is None:
        return None, None
    if name == AUDIO.name:
        return AUDIO, None
    if not Path(name).is_file():
        raise PipelineError(
            f"--pipeline must be 'audio' or a file of Pipeline.to_json(), got {quoted(name)}"
        )
    pipeline, columns, _ = read_pipeline_file(name)
    return pipeline, columns


def recordings_of(
    options: argparse.Namespace, paths: Sequence[str] | None = None
) -> list[str | ForeignFile]:
    """Return the files to read; a file of another tool has the columns that the options name.

    Parameters
    ----------
    options
        Options of a command that `add_traces` or `add_pipeline` was called for.
    paths
        The files; by default those of `add_traces`.

    Raises
    ------
    LatprofError
        An option is invalid.
    """
    found = options.trace if paths is None else paths
    pipeline, described = _described(options.pipeline)
    given: dict[str, Any] = {name: getattr(options, name) for name in ("unit", "tz", "max_bad")}
    for name in ("id", "source", "size", "outcome"):
        given[name] = getattr(options, f"column_{name}")
    for name, value in (
        ("marks", options.marks),
        ("durations", options.durations),
        ("tags", options.tag),
    ):
        given[name] = None if value is None else _listed(value)
    if options.stages is not None:
        given["stages"] = pairs(_listed(options.stages), "stages", "received_at:sent_at")
    for name in ("zero_is_missing", "samples"):
        given[name] = getattr(options, name) or None
    spans = () if options.spans is None else _listed(options.spans)
    nothing = described is None and not spans and all(value is None for value in given.values())
    if nothing and pipeline is None:
        return list(found)
    columns = described
    if columns is None:
        columns = ColumnMap(**{k: v for k, v in given.items() if v is not None}, pipeline=pipeline)
    else:
        columns = columns.updated(**given)
    return [ForeignFile.of(path, columns, spans) for path in found]


def _listed(text: str) -> list[str]:
    """Return names separated by commas; a name that has a comma must be in double quotes."""
    return [name.strip() for name in next(csv.reader([text]), [])]


# -- profiles -----------------------------------------------------------------------------------


def profile_of(options: argparse.Namespace, *, order: bool = False) -> Profile:
    """Return the profile of the traces, or of the saved profile, that `options` names.

    Parameters
    ----------
    options
        Options of a command that `add_input` was called for.
    order
        Also fold the numbers that depend on the order of frames, and causes if available.

    Raises
    ------
    ProfileError
        A saved profile is given with other files, or with options that need its traces.
    """
    saved = next((path for path in options.trace if is_profile(path)), None)
    if saved is not None:
        _check_alone(saved, options)
        return load_profile(recordings_of(options, [saved])[0])
    given = {name: getattr(options, name) for name in _DEFAULTS}
    given["pipeline"] = pipeline_of(options.pipeline)
    for name, flag in (("since", "--from"), ("until", "--to")):
        if given[name] is not None:
            given[name] = parse_time(given[name], name=flag)
    given |= {"order": order, "causes": None if order else False}
    with progress() as report, _executor(options) as executor:
        profile = analyze(
            recordings_of(options),
            progress=report,
            executor=executor,
            partial=getattr(options, "partial", False),
            **given,
        )
    if isinstance(executor, Workers) and profile.frames < PAYS_FROM:
        print(
            f"latprof: --workers pays from some {PAYS_FROM:,} frames on, got {profile.frames:,}; "
            "leave it out",
            file=sys.stderr,
        )
    return profile


def _check_alone(saved: str, options: argparse.Namespace) -> None:
    """Refuse options and files that a saved profile excludes: its frames are folded already."""
    name = shown_path(saved)
    if len(options.trace) > 1:
        raise ProfileError(
            f"{name} is a saved profile and must be given alone; combine files with latprof merge"
        )
    for option, value in _DEFAULTS.items():
        if getattr(options, option) != value:
            flag = {"since": "from", "until": "to", "id_bits": "id-bits"}.get(option, option)
            raise ProfileError(
                f"--{flag} needs the traces, but {name} is a saved profile or has counts in bins; "
                "give its traces"
            )


@contextlib.contextmanager
def progress() -> Iterator[Callable[[int, int], None] | None]:
    """Give a function that shows progress of long work, or None if stderr is not a terminal."""
    with contextlib.ExitStack() as stack:
        show: Callable[[int, int], None] | None = None

        def report(done: int, rows: int) -> None:
            """Show the bar once the work is long."""
            nonlocal show
            if rows >= LONG_WORK:
                show = show or stack.enter_context(_bar())
                show(done, rows)

        yield report if sys.stderr.isatty() else None


@contextlib.contextmanager
def _bar() -> Iterator[Callable[[int, int], None]]:
    """Show a bar on stderr; give a function that moves it."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    rate = TextColumn("{task.fields[rate]}")
    columns = TextColumn("{task.description}"), BarColumn(), rate, TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("reading", total=None, rate="")
        begin = time.monotonic()

        def report(done: int, rows: int) -> None:
            """Move the bar."""
            rate = done / max(time.monotonic() - begin, 1e-9)
            bar.update(task, completed=done, total=rows, rate=f"{rate:,.0f} frames/s")

        yield report
