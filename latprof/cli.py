"""The command ``latprof``: record a demonstration, report, plot and export traces.

Exit status: 0 fine, 2 the input or the call is wrong (one line says what and how to mend it).
"""

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from latprof.errors import LatprofError, PipelineError, ProfileError
from latprof.pipeline import AUDIO, Pipeline
from latprof.units import escape

if TYPE_CHECKING:
    from latprof.profile import Profile
    from latprof.report import Report

__all__ = ["main"]


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, like all others of the command."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
        sys.stdout.flush()
    except LatprofError as error:
        return _fail(str(error))
    except BrokenPipeError:
        # the reader has seen enough (`latprof report x | head`); nothing more is to be written
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        where = f"{escape(str(error.filename))}: " if error.filename else ""
        return _fail(f"{where}{error.strerror or error}: check the path and its permissions")
    except KeyboardInterrupt:
        print("latprof: interrupted", file=sys.stderr)
        return 130
    return 0


def _fail(message: str) -> int:
    print(f"latprof: {message}", file=sys.stderr)
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="latprof", description="Tells where the time of a pipeline goes.")
    parser.add_argument("--version", action=_Version)
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)

    def command(name: str, text: str, example: str) -> argparse.ArgumentParser:
        return commands.add_parser(
            name,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            epilog=f"Example: latprof {example}",
        )

    demo = command(
        "demo",
        "record the real audio pipeline, report it, save it, draw it",
        "demo --seconds 20 --slow-card 5000 --out /tmp",
    )
    demo.description = f"{demo.description} {_DEMO_TRUTH}"
    demo.add_argument("--seconds", type=float, default=10.0, help="how long (default: 10)")
    demo.add_argument("--device", default="null", help="ALSA device (default: null, no card)")
    demo.add_argument(
        "--slow-card",
        type=float,
        metavar="PPM",
        help="play to a sink whose write blocks and whose clock is that much slower",
    )
    demo.add_argument("--fast", action="store_true", help="as quick as it goes, not in real time")
    demo.add_argument("--out", type=Path, default=Path(), help="folder (default: the current one)")
    demo.set_defaults(run=_demo)

    report = command("report", "report traces", "report mic.parquet --by source")
    _add_input(report)
    report.add_argument("--by", metavar="COLUMN", help="one profile for each value: source, a tag")
    report.add_argument("--format", choices=("text", "json", "markdown"), default="text")
    report.add_argument(
        "--worst", type=_worst, default=0, metavar="N", help="show the slowest frames, up to 100"
    )
    report.add_argument("--every", metavar="1s", help="numbers by window of time")
    report.add_argument(
        "--deadline", metavar="20ms", help="count what is later (default: the pipeline's period)"
    )
    report.add_argument(
        "--intended",
        action="store_true",
        help="also measure from when frames should have started, by the pipeline's period",
    )
    report.add_argument("--id-bits", type=int, default=64, help="16 for RTP sequence numbers")
    report.set_defaults(run=_report)

    plot = command("plot", "draw traces", "plot mic.parquet --kind histogram -o mic.png")
    _add_input(plot)
    plot.add_argument("--kind", choices=("histogram",), default="histogram")
    plot.add_argument("--span", action="append", help="a span; may be given several times")
    plot.add_argument("--threshold", action="append", default=[], help="a line, as 50ms")
    plot.add_argument("-o", "--output", required=True, help="picture: .png, .svg or .pdf")
    plot.set_defaults(run=_plot)

    merge = command(
        "merge", "fold traces and saved profiles into one profile", "merge a.latprof b.latprof -o c"
    )
    merge.add_argument("part", nargs="+", help="saved profiles, traces, folders or globs")
    _add_pipeline(merge)
    merge.add_argument("-o", "--output", required=True, help="the file to write")
    merge.set_defaults(run=_merge)

    export = command("export", "write a trace as Parquet or CSV", "export mic.parquet -o mic.csv")
    export.add_argument("trace", help="a trace file")
    _add_pipeline(export)
    export.add_argument("-o", "--output", required=True, help="file: .parquet or .csv")
    export.set_defaults(run=_export)
    return parser


_DEMO_TRUTH = (
    "Two WebRTC peers, Opus packets, a Unix socket, libopus and alsa-lib are real; not real are "
    "the network (loopback) and, with the default device, the sound card (null takes samples "
    "and discards them; with --slow-card a pipe that is drained at the pace of a card stands in)."
)


class _Version(argparse.Action):
    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help="print the version")

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from importlib.metadata import version  # slow to import, and rarely asked for

        parser.exit(0, f"latprof {version('latprof')}\n")


def _add_input(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "trace", nargs="+", help="trace files, folders (and those in them) or globs"
    )
    _add_pipeline(parser)
    parser.add_argument("--skip", metavar="5s", help="leave out what starts within the first 5 s")
    parser.add_argument(
        "--from", dest="since", metavar="TIME", help="leave out what starts earlier"
    )
    parser.add_argument("--to", dest="until", metavar="TIME", help="leave out starts from then on")


def _add_pipeline(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--pipeline",
        metavar="audio|FILE.json",
        help="what the marks mean, for files that do not say so themselves",
    )


# -- the commands -------------------------------------------------------------------------------


def _demo(options: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from latprof import demo
    from latprof.report import Report

    folder: Path = options.out
    if not folder.is_dir():
        raise NotADirectoryError(20, "no such folder to write to", str(folder))
    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("recording", total=None)
        trace = demo.run(
            seconds=options.seconds,
            device=options.device,
            slow_card_ppm=options.slow_card,
            fast=options.fast,
            on_progress=lambda done, whole: progress.update(task, completed=done, total=whole),
        )
    from latprof.analysis import analyze

    report = Report(analyze(trace, by="source"), origin="this run")
    _print(report)
    files = [folder / name for name in ("mic.parquet", "report.json", "histogram.png")]
    trace.save(files[0])
    files[1].write_text(report.to_json() + "\n", encoding="utf-8")
    _draw(report.profile, None, (), str(files[2]))
    print("\nwritten: " + ", ".join(str(path) for path in files))


def _report(options: argparse.Namespace) -> None:
    from latprof.report import Report

    profile = _analyze(options)
    report = Report(profile, origin=", ".join(options.trace), worst=options.worst)
    if options.format == "json":
        print(report.to_json())
    elif options.format == "markdown":
        print(report.to_markdown(), end="")
    else:
        _print(report)


def _plot(options: argparse.Namespace) -> None:
    _check_ending(options.output, (".png", ".svg", ".pdf"))
    _draw(_analyze(options), options.span, options.threshold, options.output)


def _merge(options: argparse.Namespace) -> None:
    from latprof.analysis import analyze
    from latprof.profile import merge
    from latprof.profilefile import is_profile, load_profile

    _check_merged(options.output)
    pipeline = _pipeline(options.pipeline)
    profiles = [
        load_profile(part) if is_profile(part) else analyze(part, pipeline=pipeline)
        for part in options.part
    ]
    merge(profiles).save(options.output)


def _export(options: argparse.Namespace) -> None:
    from latprof.trace import read

    _check_ending(options.output, (".parquet", ".csv"))
    trace = read(options.trace, pipeline=_pipeline(options.pipeline))
    if options.output.endswith(".csv"):
        trace.to_csv(options.output)
    else:
        trace.save(options.output)


# -- their parts --------------------------------------------------------------------------------


def _analyze(options: argparse.Namespace) -> "Profile":
    from latprof.profilefile import is_profile, load_profile

    saved = next((path for path in options.trace if is_profile(path)), None)
    if saved is not None:
        _check_alone(saved, options)
        return load_profile(saved)
    with _progress() as told:
        return _analyze_with(options, told)


LONG_WORK = 2_000_000
"""Frames from which on it is shown how far they are read."""


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[int, int], None] | None]:
    """Show how far long work has come, where somebody looks."""
    with contextlib.ExitStack() as stack:
        shown: list[Callable[[int, int], None]] = []

        def told(done: int, rows: int) -> None:
            if rows >= LONG_WORK:
                if not shown:
                    shown.append(stack.enter_context(_bar()))
                shown[0](done, rows)

        yield told if sys.stderr.isatty() else None


@contextlib.contextmanager
def _bar() -> Iterator[Callable[[int, int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    pace = TextColumn("{task.fields[pace]}")
    columns = TextColumn("{task.description}"), BarColumn(), pace, TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("reading", total=None, pace="")
        begin = time.monotonic()

        def told(done: int, rows: int) -> None:
            rate = done / max(time.monotonic() - begin, 1e-9)
            progress.update(task, completed=done, total=rows, pace=f"{rate:,.0f} frames/s")

        yield told


def _analyze_with(
    options: argparse.Namespace, told: Callable[[int, int], None] | None
) -> "Profile":
    from latprof.analysis import analyze

    return analyze(
        options.trace,
        progress=told,
        by=getattr(options, "by", None),
        pipeline=_pipeline(options.pipeline),
        every=getattr(options, "every", None),
        deadline=getattr(options, "deadline", None),
        skip=options.skip,
        since=options.since,
        until=options.until,
        intended=getattr(options, "intended", False),
        order="id_bits" in options,
        id_bits=getattr(options, "id_bits", 64),
    )


def _check_alone(saved: str, options: argparse.Namespace) -> None:
    """Refuse to look past what was folded when the profile was saved."""
    if len(options.trace) > 1:
        raise ProfileError(
            f"{escape(saved)} is a saved profile: make one of all with latprof merge first"
        )
    needing = ("by", "pipeline", "skip", "since", "until", "every", "deadline")
    usual = dict.fromkeys(needing) | {"intended": False, "id_bits": 64}
    for name, value in usual.items():
        if getattr(options, name, value) != value:
            flag = {"since": "from", "until": "to", "id_bits": "id-bits"}.get(name, name)
            raise ProfileError(
                f"{escape(saved)} is a saved profile: --{flag} needs the traces it was made of"
            )


def _worst(text: str) -> int:
    from latprof.worst import MOST_WORST

    if not text.isdecimal() or int(text) > MOST_WORST:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 to {MOST_WORST}")
    return int(text)


def _print(report: "Report") -> None:
    if sys.stdout.isatty():
        from latprof.console import print_report

        print_report(report)
    else:
        print(report)


def _pipeline(name: str | None) -> Pipeline | None:
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


def _check_merged(output: str) -> None:
    """Refuse to write a profile over a trace; a profile may grow in place."""
    from latprof.profilefile import is_profile

    if output.endswith((".parquet", ".csv")):
        raise LatprofError(f"{escape(output)}: a profile is no table: end it in .latprof, say")
    if Path(output).is_file() and not is_profile(output):
        raise LatprofError(f"{escape(output)}: is there, and no profile: write to another file")


def _check_ending(path: str, endings: tuple[str, ...]) -> None:
    if not path.endswith(endings):
        raise LatprofError(f"{escape(path)}: the ending says the format: use {', '.join(endings)}")


def _draw(
    profile: "Profile", spans: Sequence[str] | None, thresholds: Sequence[str], path: str
) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from latprof import plot

    # a figure of its own, without pyplot: no display is looked for
    figure = Figure(figsize=(9, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    try:
        plot.histogram(profile, spans, ax=axes, thresholds=thresholds)
    except ValueError as error:
        raise LatprofError(str(error)) from None
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    sys.exit(main())
