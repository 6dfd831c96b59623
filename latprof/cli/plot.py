"""``latprof plot``: a picture of traces."""

import argparse
import contextlib
import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latprof.cli.changes import add_changes, changes_of
from latprof.cli.common import NewCommand, add_input, check_ending, draw, pipeline_of, profile_of
from latprof.errors import LatprofError
from latprof.text import escape

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from latprof.profile.profile import Profile

__all__ = ["KINDS", "add", "run"]

_OF_PROFILES = ("histogram", "percentiles", "ecdf", "timeline", "heatmap", "stages", "waterfall")
_OF_FRAMES = ("blame", "what-if")

KINDS = (*_OF_PROFILES, *_OF_FRAMES)
"""The pictures, each by the name of its function in `latprof.plot`."""

MOST_OVERLAID = 8
"""Most results in one picture."""

_ONE_RESULT = ("heatmap", "waterfall", "blame", "what-if")
_ONE_SPAN = ("timeline", "heatmap")
_NO_SPAN = ("stages", "waterfall", "blame", "what-if")
_STYLES = {"light": "default", "dark": "dark_background"}

Results = Any


def add(command: NewCommand) -> None:
    """Declare the command."""
    plot = command("plot", "draw traces", "plot mic.parquet --kind timeline --every 1s -o mic.png")
    add_input(plot)
    plot.description = (
        f"{plot.description} Several are drawn over each other; what a folder or a glob in quotes "
        "names is one."
    )
    plot.add_argument(
        "--kind", choices=KINDS, default="histogram", help="which picture (default: histogram)"
    )
    plot.add_argument(
        "--span",
        action="append",
        metavar="NAME",
        help="what is drawn: a stage, end_to_end; may be given several times",
    )
    plot.add_argument("--by", metavar="COLUMN", help="one line for each value: source, a tag")
    plot.add_argument("--every", metavar="1s", help="width of the windows of time")
    plot.add_argument(
        "--threshold", action="append", default=[], metavar="50ms", help="draw a line there"
    )
    plot.add_argument("--worst", type=int, default=10, metavar="N", help="frames of a waterfall")
    add_changes(plot)
    plot.add_argument(
        "--style", default="light", help="light, dark or a style of matplotlib (default: light)"
    )
    plot.add_argument("-o", "--output", required=True, help="picture: .png, .svg or .pdf")
    plot.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Analyze and draw."""
    check_ending(options.output, (".png", ".svg", ".pdf"))
    _check(options)
    paint = _painter(options)
    with _style(options.style):
        results = _attributed(options) if options.kind in _OF_FRAMES else _results(options)
        draw(lambda ax: paint(results, ax), options.output)


def _check(options: argparse.Namespace) -> None:
    """Refuse options that the kind of picture would leave unused."""
    kind, spans = options.kind, options.span or []
    if kind in _NO_SPAN and spans:
        raise LatprofError(f"--kind {kind} draws all stages: leave out --span")
    if kind in _ONE_SPAN and len(spans) > 1:
        raise LatprofError(f"--kind {kind} draws one span: give --span once")
    if kind in _ONE_SPAN and len(options.threshold) > 1:
        raise LatprofError(f"--kind {kind} draws one threshold: give --threshold once")
    if kind in _NO_SPAN and options.threshold:
        raise LatprofError(f"--kind {kind} has no line of a threshold: leave out --threshold")
    if kind != "what-if" and (options.faster or options.slower):
        raise LatprofError(f"--kind {kind} changes nothing: leave out --faster and --slower")
    if options.every is not None and kind not in _ONE_SPAN:
        raise LatprofError(f"--kind {kind} has no windows of time: leave out --every")
    if kind in _ONE_RESULT and (len(options.trace) > 1 or options.by):
        raise LatprofError(
            f"--kind {kind} draws one result: give one trace, a folder or a glob in quotes, and "
            "leave out --by"
        )


def _results(options: argparse.Namespace) -> "Profile | dict[str, Profile]":
    """Return the result of each argument by its name, or of each group."""
    if len(options.trace) == 1:
        profile = profile_of(options)
        if options.by is None:
            return profile
        return _not_too_many(dict(profile.groups), f"--by {escape(options.by)} has") or profile
    if options.by is not None:
        raise LatprofError("--by is for one trace: leave it out, or give a folder or a glob")
    names = _names(options.trace)
    _not_too_many(dict.fromkeys(names), "these are")
    found: dict[str, Profile] = {}
    for name, trace in zip(names, options.trace, strict=True):
        each = copy.copy(options)
        each.trace = [trace]
        found[name] = profile_of(each)
    return found


def _names(traces: list[str]) -> list[str]:
    """Return a short name of each file, with its folder and ending where that is needed."""
    names = [Path(trace).stem or trace for trace in traces]
    if len(set(names)) < len(names):
        names = ["/".join(Path(trace).parts[-2:]) for trace in traces]
    if len(set(names)) < len(names):
        names = [f"{i}: {name}" for i, name in enumerate(names, 1)]
    return names


def _attributed(options: argparse.Namespace) -> Any:
    """Return who waited for whom, or what a change would give: read from frames."""
    from latprof.profile.file import is_profile
    from latprof.queueing.blame import blame
    from latprof.queueing.what_if import what_if

    trace, pipeline = options.trace[0], pipeline_of(options.pipeline)
    if is_profile(trace):
        raise LatprofError(
            f"{escape(trace)} is a saved profile: --kind {options.kind} needs the traces it was "
            "made of"
        )
    if options.skip or options.since or options.until:
        raise LatprofError(
            f"--kind {options.kind} looks at all frames: leave out --skip, --from and --to"
        )
    if options.kind == "blame":
        return blame(trace, pipeline=pipeline)
    changes = changes_of(options)
    if not changes:
        raise LatprofError("--kind what-if needs a change: --faster STAGE=10%, say")
    return what_if(trace, changes, pipeline=pipeline)


def _not_too_many(found: dict[str, Any], what: str) -> dict[str, Any]:
    if len(found) > MOST_OVERLAID:
        raise LatprofError(
            f"{what} {len(found)} results: one picture has {MOST_OVERLAID} at most; a folder or a "
            "glob in quotes is one result"
        )
    return found


def _painter(options: argparse.Namespace) -> "Callable[[Results, Axes | None], Axes]":
    """Return what draws the results."""
    from latprof import plot

    spans, limits = options.span, options.threshold
    one, limit = (spans or ["end_to_end"])[0], next(iter(limits), None)
    return {
        "histogram": lambda r, ax: plot.histogram(r, spans, ax=ax, thresholds=limits),
        "percentiles": lambda r, ax: plot.percentiles(
            r, spans or "end_to_end", ax=ax, thresholds=limits
        ),
        "ecdf": lambda r, ax: plot.ecdf(r, spans, ax=ax, thresholds=limits),
        "timeline": lambda r, ax: plot.timeline(r, one, ax=ax, threshold=limit),
        "heatmap": lambda r, ax: plot.heatmap(r, one, ax=ax, threshold=limit),
        "stages": lambda r, ax: plot.stages(r, ax=ax),
        "waterfall": lambda r, ax: plot.waterfall(r, ax=ax, n=options.worst),
        "blame": lambda r, ax: plot.blame(r, ax=ax),
        "what-if": lambda r, ax: plot.what_if(r, ax=ax),
    }[options.kind]


@contextlib.contextmanager
def _style(name: str) -> Iterator[None]:
    """Draw in a style of matplotlib; of its own names only, as it would load any URL."""
    from matplotlib import style

    known = _STYLES.get(name, name)
    if known != "default" and known not in style.available:
        raise LatprofError(
            f"--style {escape(name)!r} is unknown: use light, dark or one of "
            f"{', '.join(name for name in style.available if not name.startswith('_'))}"
        )
    with style.context(known):
        yield
