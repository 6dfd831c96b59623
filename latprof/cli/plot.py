"""``latprof plot``: a picture of traces."""

import argparse
import contextlib
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latprof.cli.common import NewCommand, add_input, pipeline_of, profile_of, recordings_of
from latprof.cli.output import PICTURES, check_ending, draw
from latprof.cli.queueing import add_changes, add_until, changes_of
from latprof.errors import LatprofError
from latprof.profile.file import is_profile
from latprof.profile.profile import Profile
from latprof.queueing.blame import blame
from latprof.queueing.headroom import headroom
from latprof.queueing.what_if import what_if
from latprof.text import clip, quoted, shown_path

__all__ = ["KINDS", "Kind", "add", "run"]

MOST_OVERLAID = 8  # results in one picture
_MANY = 1_000  # no limit in practice
_STYLES = {"light": "default", "dark": "dark_background"}


@dataclass(frozen=True, slots=True)
class Kind:
    """The most spans, thresholds and results that a kind of picture can draw.

    `windows`: it has windows of time (--every). `changes`: it replays changes (--faster). `limit`:
    it needs a limit (--until). `of_frames`: it is computed from traces, not from a profile.
    """

    spans: int = _MANY
    thresholds: int = _MANY
    results: int = MOST_OVERLAID
    windows: bool = False
    changes: bool = False
    limit: bool = False
    of_frames: bool = False


KINDS = {
    "histogram": Kind(),
    "percentiles": Kind(),
    "ecdf": Kind(),
    "timeline": Kind(spans=1, thresholds=1, windows=True),
    "heatmap": Kind(spans=1, thresholds=1, results=1, windows=True),
    "stages": Kind(spans=0, thresholds=0),
    "waterfall": Kind(spans=0, thresholds=0, results=1),
    "blame": Kind(spans=0, thresholds=0, results=1, of_frames=True),
    "what-if": Kind(spans=0, thresholds=0, results=1, changes=True, of_frames=True),
    "load-curve": Kind(spans=0, thresholds=0, results=1, limit=True, of_frames=True),
}
"""The pictures, each by the name of its function in `latprof.plot`."""


def add(command: NewCommand) -> None:
    """Declare the command."""
    plot = command("plot", "draw traces", "plot mic.parquet --kind timeline --every 1s -o mic.png")
    add_input(plot)
    plot.description = (
        f"{plot.description} Several traces are drawn over each other; a folder, or a glob in "
        "quotes, is one result."
    )
    plot.add_argument(
        "--kind", choices=KINDS, default="histogram", help="which picture (default: histogram)"
    )
    plot.add_argument(
        "--span",
        action="append",
        default=[],
        metavar="NAME",
        help="what to draw: a stage or end_to_end; may be repeated",
    )
    plot.add_argument("--by", metavar="COLUMN", help="one line for each value: source, a tag")
    plot.add_argument("--every", metavar="1s", help="width of the windows of time")
    plot.add_argument(
        "--threshold",
        action="append",
        default=[],
        metavar="50ms",
        help="draw a line at this time; may be repeated",
    )
    plot.add_argument(
        "--worst",
        type=int,
        default=10,
        metavar="N",
        help="how many of the slowest frames a waterfall shows (default: 10)",
    )
    add_changes(plot)
    add_until(plot)
    plot.add_argument(
        "--style", default="light", help="light, dark or a style of matplotlib (default: light)"
    )
    plot.add_argument("-o", "--output", required=True, help="picture: .png, .svg or .pdf")
    plot.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Analyze and draw."""
    check_ending(options.output, PICTURES)
    kind = KINDS[options.kind]
    _check(options, kind)
    with _style(options.style):
        results = _of_frames(options) if kind.of_frames else _profiles(options)
        function, given = options.kind.replace("-", "_"), _arguments(options)
        draw(lambda plot: getattr(plot, function)(results, **given), options.output)


def _check(options: argparse.Namespace, kind: Kind) -> None:
    """Refuse options that the kind of picture would not use."""
    one_range = 0 if kind.of_frames else 1
    for flag, given, most in (
        ("--span", options.span, kind.spans),
        ("--threshold", options.threshold, kind.thresholds),
        ("--every", [options.every], int(kind.windows)),
        ("--faster", options.faster, _MANY * kind.changes),
        ("--slower", options.slower, _MANY * kind.changes),
        ("--until", [options.limit], int(kind.limit)),
        ("--by", [options.by], int(kind.results > 1)),
        ("--skip", [options.skip], one_range),
        ("--from", [options.since], one_range),
        ("--to", [options.until], one_range),
    ):
        count = len(given) - given.count(None)
        if count > most:
            rule = "be given once, not more often" if most else "not be given; leave it out"
            raise LatprofError(f"{flag} with --kind {options.kind} must {rule}")
    if len(options.trace) > kind.results:
        raise LatprofError(
            f"--kind {options.kind} draws at most {kind.results} result{'s' * (kind.results > 1)}, "
            f"got {len(options.trace)}; a folder, or a glob in quotes, is one result"
        )


def _profiles(options: argparse.Namespace) -> Profile | dict[str, Profile]:
    """Return the profile of each trace by a short name; of one trace, its groups if it has some."""
    if len(options.trace) == 1:
        profile = profile_of(options)
        if len(profile.groups) > MOST_OVERLAID:
            raise LatprofError(
                f"--by {clip(options.by)} has {len(profile.groups)} groups, and a picture has at "
                f"most {MOST_OVERLAID}; choose another column or fewer traces"
            )
        return dict(profile.groups) or profile
    if options.by is not None:
        raise LatprofError("--by needs one trace; leave it out, or give a folder or a glob")
    found: dict[str, Profile] = {}
    for name, trace in zip(_names(options.trace), options.trace, strict=True):
        each = copy.copy(options)
        each.trace = [trace]
        found[name] = profile_of(each)
    return found


def _names(traces: list[str]) -> list[str]:
    """Return a short name of each file: without folder and ending if the names still differ."""
    names = [Path(trace).stem or trace for trace in traces]
    if len(set(names)) < len(names):
        names = ["/".join(Path(trace).parts[-2:]) for trace in traces]
    if len(set(names)) < len(names):
        names = [f"{i}: {name}" for i, name in enumerate(names, 1)]
    return names


def _of_frames(options: argparse.Namespace) -> Any:
    """Return the result of `blame`, `what_if` or `headroom`, which the kind of picture draws."""
    trace, pipeline = recordings_of(options)[0], pipeline_of(options.pipeline)
    if isinstance(trace, str) and is_profile(trace):
        raise LatprofError(
            f"--kind {options.kind} needs the traces, but {shown_path(trace)} is a saved profile; "
            "give its traces"
        )
    if KINDS[options.kind].limit:
        if options.limit is None:
            raise LatprofError("--kind load-curve needs a limit, got none; add --until 'p99<50ms'")
        return headroom(trace, options.limit, pipeline=pipeline)
    if not KINDS[options.kind].changes:
        return blame(trace, pipeline=pipeline)
    changes = changes_of(options)
    if not changes:
        raise LatprofError("--kind what-if needs a change, got none; add --faster STAGE=10%")
    return what_if(trace, changes, pipeline=pipeline)


def _arguments(options: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of the function that draws the kind of picture."""
    spans, limits = options.span or None, options.threshold
    one, limit = (options.span or ["end_to_end"])[0], next(iter(limits), None)
    given: dict[str, dict[str, Any]] = {
        "histogram": {"spans": spans, "thresholds": limits},
        "percentiles": {"spans": spans or "end_to_end", "thresholds": limits},
        "ecdf": {"spans": spans, "thresholds": limits},
        "timeline": {"span": one, "threshold": limit},
        "heatmap": {"span": one, "threshold": limit},
        "waterfall": {"n": options.worst},
    }
    return given.get(options.kind, {})


@contextlib.contextmanager
def _style(name: str) -> Iterator[None]:
    """Draw in a style of matplotlib; other names, which it would load as URLs, are refused."""
    from matplotlib import style

    known = _STYLES.get(name, name)
    if known != "default" and known not in style.available:
        names = ", ".join(name for name in style.available if not name.startswith("_"))
        raise LatprofError(f"--style must be light, dark or one of {names}, got {quoted(name)}")
    with style.context(known):
        yield
