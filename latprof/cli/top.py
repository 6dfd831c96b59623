"""``latprof top``: watch a recorder while it records."""

import argparse
import contextlib
import os
import sys
import time
from typing import TYPE_CHECKING

from latprof.cli.common import NewCommand, add_pipeline, pipeline_of

if TYPE_CHECKING:
    from rich.console import Group

    from latprof.top.feeds import FolderFeed, News, RingFeed
    from latprof.top.live import Live

__all__ = ["add", "run"]


def add(command: NewCommand) -> None:
    """Declare the command."""
    top = command(
        "top", "watch a recorder while it records", "top /dev/shm/mic.ring --critical 50ms"
    )
    top.description = (
        f"{top.description} Reads the ring file of a running process, or the trace files that it "
        "writes to a folder; q quits. Where the output is no terminal, one look is printed."
    )
    top.add_argument(
        "source", metavar="RING|FOLDER", help="a ring file, or a folder of trace files"
    )
    add_pipeline(top)
    top.add_argument(
        "--interval", default="1s", metavar="1s", help="how often to look (default: 1s)"
    )
    top.add_argument("--warning", metavar="50ms", help="frames above are counted and listed")
    top.add_argument(
        "--critical",
        metavar="100ms",
        help="the same, in red (default: the recorder's thresholds, else the pipeline's period)",
    )
    top.add_argument("--once", action="store_true", help="print one look and end")
    top.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Look, and show, until q is pressed."""
    from latprof.errors import LatprofError
    from latprof.top.feeds import feed_of
    from latprof.units import parse_duration

    try:
        interval = parse_duration(options.interval, name="interval") / 1e9
    except ValueError as error:
        raise LatprofError(str(error)) from None
    if interval < 0.05:
        raise LatprofError(f"interval {options.interval!r} is too short: give at least 50ms")
    view = _View(options)
    feed = feed_of(options.source, pipeline_of(options.pipeline))
    try:
        if options.once or not sys.stdout.isatty():
            view.print(feed)
        else:
            view.watch(feed, interval)
    finally:
        feed.close()


class _View:
    """What was seen so far, and where it is shown."""

    def __init__(self, options: argparse.Namespace) -> None:
        from rich.console import Console

        from latprof.thresholds import parse_thresholds

        self.path = options.source
        self.limits = parse_thresholds(options.warning, options.critical)
        self.console = Console(highlight=False)
        self.live: Live | None = None
        self.lost = 0

    def print(self, feed: "RingFeed | FolderFeed") -> None:
        """Print one look."""
        self.console.print(self._shown(feed.look(), height=1_000))

    def watch(self, feed: "RingFeed | FolderFeed", interval: float) -> None:
        """Show what is new, again and again."""
        from rich.console import ConsoleDimensions
        from rich.live import Live as Display

        from latprof.top.keys import Keys

        with Keys() as keys, Display(console=self.console, screen=True, auto_refresh=False) as on:
            while True:
                # of the terminal as it is now: COLUMNS, where it is set, knows of no change
                with contextlib.suppress(OSError):
                    size = os.get_terminal_size(sys.stdout.fileno())
                    self.console.size = ConsoleDimensions(size.columns, size.lines)
                on.update(self._shown(feed.look(), height=self.console.height), refresh=True)
                if "q" in keys.pressed(interval).lower():
                    return

    def _shown(self, news: "News", *, height: int) -> "Group":
        from latprof.thresholds import Thresholds
        from latprof.top.live import Live
        from latprof.top.screen import screen

        pipeline = news.pipeline
        if pipeline is not None:
            limits = self.limits
            if limits == Thresholds():
                limits = news.thresholds or Thresholds()
            if limits == Thresholds():
                limits = Thresholds(critical_ns=pipeline.period)
            # another recorder may have taken its place
            if self.live is None or (self.live.pipeline, self.live.limits) != (pipeline, limits):
                self.live, self.lost = Live(pipeline, limits), 0
        if self.live is not None:
            for columns in news.batches:
                self.live.add(columns)
        self.lost += news.lost
        return screen(
            self.live,
            news,
            self.lost,
            path=self.path,
            now_ns=time.time_ns(),
            width=self.console.width,
            height=height,
        )
