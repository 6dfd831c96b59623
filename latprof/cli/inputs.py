"""Traces and saved profiles that a command is given -> a profile, with progress on long work."""

import argparse
import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from latprof.cli.options import pipeline_of
from latprof.errors import ProfileError
from latprof.text import escape
from latprof.units import parse_time

if TYPE_CHECKING:
    from latprof.profile.profile import Profile

__all__ = ["LONG_WORK", "profile_of", "progress"]

LONG_WORK = 2_000_000
"""Frames from which on it is shown how far they are read."""


def profile_of(options: argparse.Namespace) -> "Profile":
    """Return the profile of the traces, or of the saved profile, that `options` names.

    Raises
    ------
    ProfileError
        A saved profile beside others, or with options that need its traces.
    """
    from latprof.profile.file import is_profile, load_profile

    saved = next((path for path in options.trace if is_profile(path)), None)
    if saved is not None:
        _check_alone(saved, options)
        return load_profile(saved)
    with progress() as told:
        return _analyze_with(options, told)


@contextlib.contextmanager
def progress() -> Iterator[Callable[[int, int], None] | None]:
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
        pipeline=pipeline_of(options.pipeline),
        every=getattr(options, "every", None),
        deadline=getattr(options, "deadline", None),
        skip=options.skip,
        since=_time(options.since, "--from"),
        until=_time(options.until, "--to"),
        intended=getattr(options, "intended", False),
        order="id_bits" in options,
        causes=None if "id_bits" in options else False,
        id_bits=getattr(options, "id_bits", 64),
    )


def _time(text: str | None, flag: str) -> int | None:
    return None if text is None else parse_time(text, name=flag)


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
