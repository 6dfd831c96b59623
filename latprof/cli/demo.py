"""``latprof demo``: record the real audio pipeline."""

import argparse
from pathlib import Path

from latprof.analysis import analyze
from latprof.cli.common import NewCommand
from latprof.cli.output import draw, print_report
from latprof.errors import DemoError
from latprof.io.atomic import write_file
from latprof.report.report import Report
from latprof.text import shown_path

__all__ = ["add", "run"]

_DEMO_TRUTH = (
    "The two WebRTC peers, Opus packets, Unix socket, libopus and alsa-lib are real. The network "
    "is loopback. The default device, null, discards the sound; with --slow-card a simulated card, "
    "a pipe, is read at the rate of a slow clock."
)


def add(command: NewCommand) -> None:
    """Declare the command."""
    demo = command(
        "demo",
        "record the real audio pipeline, report it, save it, draw it",
        "demo --seconds 20 --slow-card 5000 --out /tmp",
    )
    demo.description = f"{demo.description} {_DEMO_TRUTH}"
    demo.add_argument(
        "--seconds", type=float, default=10.0, help="length of the recording (default: 10)"
    )
    demo.add_argument(
        "--device", default="null", help="ALSA device (default: null, which needs no sound card)"
    )
    demo.add_argument(
        "--slow-card",
        type=float,
        metavar="PPM",
        help="play to a simulated card with a clock that is slow by PPM parts per million",
    )
    demo.add_argument("--fast", action="store_true", help="run as fast as possible")
    demo.add_argument("--out", type=Path, default=Path(), help="folder (default: the current one)")
    demo.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Record, report, save and draw."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from latprof.demo.processes import run as run_demo  # loads subprocess and more

    folder: Path = options.out
    if not folder.is_dir():
        raise DemoError(f"--out must be a folder, got {shown_path(folder)}; create it first")
    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("recording", total=None)
        trace = run_demo(
            seconds=options.seconds,
            device=options.device,
            slow_card_ppm=options.slow_card,
            fast=options.fast,
            on_progress=lambda done, whole: progress.update(task, completed=done, total=whole),
        )
    report = Report(analyze(trace, by="source"), origin="this run")
    print_report(report)
    files = [folder / name for name in ("mic.parquet", "report.json", "histogram.png")]
    trace.save(files[0])
    with write_file(str(files[1])) as file:
        file.write(f"{report.to_json()}\n".encode())
    draw(lambda plot: plot.histogram(report.profile), str(files[2]))
    print("\nWritten: " + ", ".join(str(path) for path in files))
