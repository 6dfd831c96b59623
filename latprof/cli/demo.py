"""``latprof demo``: record the real audio pipeline."""

import argparse
from pathlib import Path

from latprof.cli.common import NewCommand, draw, print_report
from latprof.io.atomic import write_file

__all__ = ["add", "run"]

_DEMO_TRUTH = (
    "Two WebRTC peers, Opus packets, a Unix socket, libopus and alsa-lib are real; not real are "
    "the network (loopback) and, with the default device, the sound card (null takes samples "
    "and discards them; with --slow-card a pipe that is drained at the pace of a card stands in)."
)


def add(command: NewCommand) -> None:
    """Declare the command."""
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
    demo.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Record, report, save and draw."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from latprof import demo, plot
    from latprof.report.report import Report

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
    print_report(report)
    files = [folder / name for name in ("mic.parquet", "report.json", "histogram.png")]
    trace.save(files[0])
    with write_file(str(files[1])) as file:
        file.write(f"{report.to_json()}\n".encode())
    draw(lambda ax: plot.histogram(report.profile, ax=ax), str(files[2]))
    print("\nwritten: " + ", ".join(str(path) for path in files))
