"""The arguments of pictures: profiles or traces and their spans; also titles and legends."""

import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Union

from latprof.analysis import analyze
from latprof.errors import ProfileError
from latprof.pipeline import Pipeline
from latprof.plot.axes import (
    SpanStyle,
    label,
    result_colors,
    result_dash,
    result_marker,
    text_color,
)
from latprof.profile.file import is_profile
from latprof.profile.load import load_profile
from latprof.profile.profile import Profile
from latprof.text import counted, quoted
from latprof.trace import Trace
from latprof.units import parse_duration

if TYPE_CHECKING:
    from matplotlib.lines import Line2D

    from latprof.report.report import Report

__all__ = [
    "Named",
    "Result",
    "Results",
    "as_profile",
    "as_profiles",
    "check_result",
    "durations",
    "heading",
    "legend_lines",
    "no_values",
    "spans_of",
]

Result = Union[Profile, Trace, str, os.PathLike[str], "Report"]
Results = Union[Result, Sequence[Result], Mapping[str, Result]]  # noqa: UP007

_NAMED = 5  # most spans that are named in one sentence
_COUNTED = 3  # most results in a legend that shows their numbers of frames

Named = list[tuple[str, Profile]]
"""Profiles with their names in a legend; the name of a single profile is empty."""


def as_profiles(results: Results, *, every: str | int | None = None) -> Named:
    """Return results as profiles with names; traces and files of traces are analyzed.

    Parameters
    ----------
    results
        One profile, trace or report, or the path of one; a sequence; or a mapping by name, such
        as ``profile.groups``.
    every
        Width of the windows of traces.

    Raises
    ------
    ProfileError
        No result is given, an item is something else, pipelines have different spans, or `every` is
        given for a profile, which has its windows already.
    """
    if isinstance(results, Mapping):
        given = list(results.items())
    elif isinstance(results, Sequence) and not isinstance(results, str):
        given = [(str(i), result) for i, result in enumerate(results, 1)]
    else:
        given = [("", results)]
    if not given:
        raise ProfileError("results must contain at least one profile or trace, got none")
    named = [(str(name), _profile(result, every)) for name, result in given]
    first = named[0][1].pipeline
    for _, profile in named[1:]:
        if _intervals(profile.pipeline) != _intervals(first):
            raise ProfileError(
                f"results must have the same spans, got pipelines {quoted(first.name)} and "
                f"{quoted(profile.pipeline.name)}; draw them in separate pictures"
            )
    return named if len(named) > 1 else [("", named[0][1])]


def _intervals(pipeline: Pipeline) -> list[tuple[str, str, str]]:
    return [(span.name, span.begin, span.end) for span in pipeline.all_spans]


def as_profile(results: Results, what: str, *, every: str | int | None = None) -> Profile:
    """Return a single result as a profile; a trace is analyzed.

    Raises
    ------
    ProfileError
        Several results, which the picture `what` cannot draw.
    """
    named = as_profiles(results, every=every)
    if len(named) > 1:
        raise ProfileError(
            f"{what} must be given one result, got {len(named)}; draw each in a picture of its own"
        )
    return named[0][1]


def _profile(result: object, every: str | int | None) -> Profile:
    """Return a result as a profile."""
    result = getattr(result, "profile", result)  # of a report
    if isinstance(result, str | os.PathLike) and is_profile(result):
        result = load_profile(result)
    if isinstance(result, Trace | str | os.PathLike):
        return analyze(result, every=every)
    if not isinstance(result, Profile):
        raise ProfileError(f"result must be a profile, a trace or a path, got {quoted(result)}")
    if every is not None:
        raise ProfileError(
            f"every= must be None for a profile, got {quoted(every)}; "
            "choose its windows with latprof.analyze(..., every=...)"
        )
    return result


def check_result(result: object, attributes: Sequence[str], source: str) -> None:
    """Refuse to draw what is not the result of the function `source`, which has some attributes.

    Raises
    ------
    ProfileError
        It lacks one of them.
    """
    if not all(hasattr(result, name) for name in attributes):
        raise ProfileError(f"result must be of {source}, got {type(result).__name__}")


def spans_of(named: Named, spans: str | Sequence[str] | None) -> list[str]:
    """Return the names of the spans to draw: by default the stages and end_to_end.

    Raises
    ------
    ProfileError
        `spans` has no name, or a name that is not a span.
    """
    profile = named[0][1]
    if spans is None:
        return [*(stage.name for stage in profile.pipeline.stages), "end_to_end"]
    names = [spans] if isinstance(spans, str) else list(spans)
    if not names:
        raise ProfileError(
            f"spans must name at least one span, got none; use {', '.join(profile.spans)}"
        )
    return [profile[name].name for name in names]


def durations(values: Sequence[str | int], name: str = "threshold") -> list[int]:
    """Return durations in ns; `name` is used in errors.

    Raises
    ------
    ProfileError
        A value is not a duration.
    """
    return [parse_duration(value, name=name, error=ProfileError) for value in values]


def heading(named: Named, span: str = "") -> str:
    """Return a title: the pipeline, the frames of one result or the number of results, the span."""
    profile = named[0][1]
    several = len(named) > 1
    number = f"{len(named)} results" if several else counted(profile.frames, "frame")
    end = f", {label(span)}" if span else ""
    return f"{label(profile.pipeline.name).strip()}: {number}{end}"


def legend_lines(
    named: Named, styles: Mapping[str, SpanStyle], *, marked: bool = False
) -> "list[Line2D]":
    """Return the lines of a legend: one for each of several spans, and of several results.

    If `marked`, the spans have markers, or the results if there is one span.
    """
    from matplotlib.lines import Line2D

    line = partial(Line2D, [], [], ms=5)
    lines = []
    if len(styles) > 1:
        for name, style in styles.items():
            dash, marker = style.dash if len(named) == 1 else "-", style.marker if marked else ""
            color = style.color if len(named) == 1 else text_color()
            lines.append(line(color=color, ls=dash, marker=marker, label=label(name)))
    if len(named) > 1:
        colors = result_colors(len(named))
        for i, (key, profile) in enumerate(named):
            marker = result_marker(i) if marked and len(styles) == 1 else ""
            frames = f" ({counted(profile.frames, 'frame')})" if len(named) <= _COUNTED else ""
            text = f"{label(key)}{frames}"
            lines.append(line(color=colors[i], ls=result_dash(i), marker=marker, label=text))
    return lines


def no_values(named: Named, names: Sequence[str]) -> str:
    """Return a sentence on why spans have no values, for an empty picture."""
    profile = named[0][1]
    spans = " or ".join(names) if len(names) <= _NAMED else f"any of {len(names)} spans"
    sentence = f"no frame of {profile.pipeline.name} has {spans}"
    dropped = sum(sum(p.sums.dropped_by_reason.values()) for _, p in named)
    frames = sum(p.frames for _, p in named)
    if not frames and dropped:
        return f"{sentence}: all {dropped:,} frames were dropped"
    if not frames:
        return f"{sentence}: no frame has finished"
    reasons = []
    for what in ("missing", "negative"):
        count = max(sum(getattr(p[name], what) for _, p in named) for name in names)
        if count:
            reasons.append(f"{what} in {count:,} of {frames:,} frames")
    return f"{sentence}: {', '.join(reasons)}" if reasons else sentence
