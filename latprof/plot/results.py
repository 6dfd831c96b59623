"""What is drawn: profiles or traces, one or several, and which spans of them."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Union

from latprof.errors import ProfileError
from latprof.pipeline import Pipeline
from latprof.plot.axes import label
from latprof.profile.profile import Profile
from latprof.text import counted
from latprof.units import parse_duration

if TYPE_CHECKING:
    from latprof.report.report import Report
    from latprof.trace import Trace

__all__ = [
    "Named",
    "Result",
    "Results",
    "durations",
    "heading",
    "legend_name",
    "nothing",
    "one",
    "several",
    "spans_of",
]

Result = Union[Profile, "Trace", "Report"]
Results = Union[Result, Sequence[Result], Mapping[str, Result]]  # noqa: UP007

_NAMED = 5  # spans that one sentence can name
_COUNTED = 3  # results that a legend has room to tell the frames of

Named = list[tuple[str, Profile]]
"""Profiles by the name that a legend has for them; that of one alone is empty."""


def several(results: Results, *, every: str | int | None = None) -> Named:
    """Return what is given as profiles by name, traces folded.

    Parameters
    ----------
    results
        One profile, trace or report, several, or several by name, such as ``profile.groups``.
    every
        Width of the windows that traces are folded in.

    Raises
    ------
    ProfileError
        Nothing is given, something else, or results of pipelines with other spans; `every` for
        a profile, which is folded already.
    """
    if isinstance(results, Mapping):
        given = list(results.items())
    elif isinstance(results, Sequence):
        given = [(str(i), result) for i, result in enumerate(results, 1)]
    else:
        given = [("", results)]
    if not given:
        raise ProfileError("nothing to draw: give at least one profile or trace")
    named = [(name, _profile(result, every)) for name, result in given]
    first = named[0][1].pipeline
    for _, profile in named[1:]:
        if _intervals(profile.pipeline) != _intervals(first):
            raise ProfileError(
                f"results of pipelines {first.name!r} and {profile.pipeline.name!r} have other "
                "spans: draw them apart"
            )
    return named if len(named) > 1 else [("", named[0][1])]


def _intervals(pipeline: Pipeline) -> list[tuple[str, str, str]]:
    return [(span.name, span.begin, span.end) for span in pipeline.all_spans]


def one(results: Results, what: str, *, every: str | int | None = None) -> Profile:
    """Return the one profile that is given, a trace folded.

    Raises
    ------
    ProfileError
        There are several: `what` draws one.
    """
    named = several(results, every=every)
    if len(named) > 1:
        raise ProfileError(f"{what} draws one result, {len(named)} are given: draw each on its own")
    return named[0][1]


def _profile(result: object, every: str | int | None) -> Profile:
    # a report is a profile as a person reads it
    result = getattr(result, "profile", result)
    if isinstance(result, Profile):
        if every is not None:
            raise ProfileError(
                "every= is for traces: a profile has the windows that it was folded with"
            )
        return result
    from latprof.analysis import analyze
    from latprof.trace import Trace

    if isinstance(result, Trace):
        return analyze(result, every=every)
    raise ProfileError(f"{type(result).__name__} is no result: give a profile or a trace")


def spans_of(named: Named, spans: str | Sequence[str] | None) -> list[str]:
    """Return the names of the spans to draw: by default the stages and end_to_end.

    Raises
    ------
    ProfileError
        No span, or one that there is not.
    """
    profile = named[0][1]
    if spans is None:
        return [*(stage.name for stage in profile.pipeline.stages), "end_to_end"]
    names = [spans] if isinstance(spans, str) else list(spans)
    if not names:
        raise ProfileError(f"no span is named: use one of {', '.join(profile.spans)}")
    return [profile[name].name for name in names]


def durations(limits: Sequence[str | int], name: str = "threshold") -> list[int]:
    """Return thresholds in ns, or what else `name` says.

    Raises
    ------
    ProfileError
        One is no duration.
    """
    try:
        return [parse_duration(limit, name=name) for limit in limits]
    except ValueError as error:
        raise ProfileError(str(error)) from None


def heading(named: Named) -> str:
    """Return what is drawn in a few words: the pipeline, and how many frames of one result."""
    profile = named[0][1]
    name = label(profile.pipeline.name).strip()
    if len(named) > 1:
        return f"{name}: {len(named)} results"
    return f"{name}: {counted(profile.frames, 'frame')}"


def legend_name(key: str, profile: Profile, results: int) -> str:
    """Return what a legend says of one of several results: of a few also how many frames."""
    return (
        f"{label(key)} ({counted(profile.frames, 'frame')})" if results <= _COUNTED else label(key)
    )


def nothing(named: Named, names: Sequence[str]) -> str:
    """Return the sentence that stands in a picture of no values, and why there are none."""
    profile = named[0][1]
    spans = " or ".join(names) if len(names) <= _NAMED else f"any of {len(names)} spans"
    said = f"no frame of {profile.pipeline.name} has {spans}"
    dropped = sum(sum(p.sums.dropped_by_reason.values()) for _, p in named)
    frames = sum(p.frames for _, p in named)
    if not frames and dropped:
        return f"{said}: all {dropped:,} frames were dropped"
    if not frames:
        return f"{said}: no frame has finished"
    parts = []
    for what in ("missing", "negative"):
        count = max(sum(getattr(p[name], what) for _, p in named) for name in names)
        if count:
            parts.append(f"{what} in {count:,} of {frames:,} frames")
    return f"{said}: {', '.join(parts)}" if parts else said
