"""``latprof top``: watch a recorder while it records."""

import argparse
import contextlib
import os
import select
import sys
import time
from typing import TYPE_CHECKING, Any

from latprof.cli.common import NewCommand, add_pipeline, pipeline_of, recordings_of
from latprof.errors import LatprofError
from latprof.io.formats.foreign import ForeignFile
from latprof.thresholds import Thresholds, parse_thresholds
from latprof.top.feeds import FolderFeed, RingFeed, Update, feed_of
from latprof.top.live import Live
from latprof.units import parse_duration

if TYPE_CHECKING:
    from rich.console import Group

__all__ = ["add", "run"]

_LEAST_INTERVAL = 50_000_000  # ns


def add(command: NewCommand) -> None:
    """Declare the command."""
    top = command(
        "top", "watch a recorder while it records", "top /dev/shm/mic.ring --critical 50ms"
    )
    top.description = (
        f"{top.description} Reads the ring file of a running process, or the trace files that it "
        "writes to a folder. Press q to quit. If the output is not a terminal, the screen is "
        "printed once."
    )
    top.add_argument(
        "source", metavar="RING|FOLDER", help="a ring file, or a folder of trace files"
    )
    add_pipeline(top)
    top.add_argument(
        "--interval", default="1s", metavar="1s", help="how often to refresh (default: 1s)"
    )
    top.add_argument("--warning", metavar="50ms", help="count and list frames above this")
    top.add_argument(
        "--critical",
        metavar="100ms",
        help="count and list frames above this, in red (default: the recorder's thresholds, or the "
        "pipeline's period)",
    )
    top.add_argument(
        "--by", metavar="COLUMN", help="also show each value of a column: source, outcome, a tag"
    )
    top.add_argument("--once", action="store_true", help="print the screen once and exit")
    top.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Show the view until q is pressed, or print it once."""
    interval = parse_duration(options.interval, name="--interval", error=LatprofError)
    if interval < _LEAST_INTERVAL:
        raise LatprofError(f"--interval must be at least 50ms, got {options.interval!r}")
    view = _View(options)
    pipeline, (given,) = pipeline_of(options.pipeline), recordings_of(options, [options.source])
    columns = given if isinstance(given, ForeignFile) and not given.only_pipeline else None
    feed = feed_of(options.source, pipeline, by=options.by, columns=columns)
    try:
        if options.once or not sys.stdout.isatty():
            view.print(feed)
        else:
            view.watch(feed, interval / 1e9)
    finally:
        feed.close()


class _View:
    """The numbers so far, and the console that shows them."""

    def __init__(self, options: argparse.Namespace) -> None:
        from rich.console import Console

        self.path, self.by = options.source, options.by
        self.limits = parse_thresholds(options.warning, options.critical)
        self.console = Console(highlight=False)
        self.live: Live | None = None
        self.lost = 0

    def print(self, feed: RingFeed | FolderFeed) -> None:
        """Print the screen once."""
        self.console.print(self._screen(feed.read(), height=1_000))

    def watch(self, feed: RingFeed | FolderFeed, interval: float) -> None:
        """Show the screen, and refresh it every `interval` seconds until q is pressed."""
        from rich.console import ConsoleDimensions
        from rich.live import Live as Display

        with _Keys() as keys, Display(console=self.console, screen=True, auto_refresh=False) as on:
            while True:
                # the current size of the terminal; COLUMNS, if it is set, does not change
                with contextlib.suppress(OSError):
                    size = os.get_terminal_size(sys.stdout.fileno())
                    self.console.size = ConsoleDimensions(size.columns, size.lines)
                on.update(self._screen(feed.read(), height=self.console.height), refresh=True)
                if "q" in keys.pressed(interval).lower():
                    return

    def _screen(self, update: Update, *, height: int) -> "Group":
        """Return the screen after new frames; the view begins anew if the ring was replaced."""
        from latprof.top.screen import screen

        if update.pipeline is not None:
            limits = self.limits
            if limits == Thresholds():
                limits = update.thresholds or Thresholds()
            if limits == Thresholds():
                limits = Thresholds(critical_ns=update.pipeline.period)
            # another recorder may have replaced the ring
            key = (update.pipeline, limits)
            if self.live is None or (self.live.pipeline, self.live.limits) != key:
                self.live, self.lost = Live(*key, by=self.by), 0
            for columns in update.batches:
                self.live.add(columns)
        self.lost += update.lost
        return screen(
            self.live,
            update,
            self.lost,
            path=self.path,
            now_ns=time.time_ns(),
            width=self.console.width,
            height=height,
        )


class _Keys:
    """Keys pressed on the standard input, if it is a terminal, without waiting for a line end.

    On exit the terminal gets its old settings back.
    """

    def __init__(self) -> None:
        self._input = -1
        self._before: list[Any] | None = None

    def __enter__(self) -> "_Keys":
        try:
            import termios
            import tty
        except ImportError:  # Windows
            return self
        try:
            self._input = sys.stdin.fileno()
            self._before = termios.tcgetattr(self._input)
            tty.setcbreak(self._input)
        except (OSError, ValueError, AttributeError, termios.error):
            self._before = None  # not a terminal
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._before is not None:
            import termios

            termios.tcsetattr(self._input, termios.TCSADRAIN, self._before)

    def pressed(self, seconds: float) -> str:
        """Wait at most `seconds` for a key.

        Return the key, "" if none was pressed, or "q" if the terminal is gone.
        """
        if self._before is None:
            time.sleep(seconds)
            return ""
        ready, _, _ = select.select([self._input], [], [], seconds)
        if not ready:
            return ""
        typed = os.read(self._input, 64)
        return typed.decode("utf-8", "replace") if typed else "q"
