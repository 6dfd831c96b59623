"""The slowest frames of a profile as spans of OpenTelemetry, each a trace of its own.

Ids are computed from the contents of a frame. Exemplars, which are made elsewhere, thus name the
same spans, and a frame that is exported twice is one trace.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from latprof.errors import ProfileError, ProfilerError
from latprof.export.series import groups_of
from latprof.export.slices import details_of, known_times, stable_id
from latprof.fold.worst import MOST_WORST, WorstFrame
from latprof.pipeline import Pipeline
from latprof.profile.answers import worst_frames
from latprof.profile.profile import Profile
from latprof.profile.span import check_integer
from latprof.text import quoted

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

__all__ = [
    "check_exportable",
    "check_installed",
    "resource_of",
    "scope",
    "slowest",
    "spans",
    "spans_of",
]


def spans(
    profile: Profile, *, worst: int = 10, resource: "Resource | None" = None
) -> "list[ReadableSpan]":
    """Return the slowest frames as spans, with their stages and sides as children.

    Parameters
    ----------
    profile
        Of a trace: ``latprof.analyze(trace)``.
    worst
        How many frames of each group of the profile, at most 100.
    resource
        The program that made the frames; by default as the environment names it.

    Returns
    -------
    list
        Each frame is a trace of its own; its ids are the same whenever it is exported. A stage
        that lacks a mark, or ends before it begins, has no span.

    Raises
    ------
    ProfileError
        The profile is of histograms of another tool, or `worst` is not an integer from 0 to 100.
    ProfilerError
        The SDK is not installed.

    Examples
    --------
    >>> from latprof import Pipeline, Trace, analyze
    >>> mic = Pipeline.chain("mic", "decode", "play")
    >>> marks = {"start": [10, 20], "decode": [11, 21], "play": [19, 29], "end": [25, 40]}
    >>> made = spans(analyze(Trace(mic, frame_id=[7, 8], marks=marks)), worst=1)
    >>> [(span.name, span.start_time, span.end_time) for span in made]
    [('mic', 20, 40), ('decode', 21, 29), ('play', 29, 40)]
    """
    check_exportable(profile, worst)
    slow: dict[int, WorstFrame] = {}
    for _, part in groups_of(profile):
        slow |= slowest(part, worst)
    return spans_of(profile.pipeline, slow, resource_of(resource))


def spans_of(
    pipeline: Pipeline, frames: Mapping[int, WorstFrame], resource: "Resource"
) -> "list[ReadableSpan]":
    """Return the spans of frames, which are given by trace id."""
    return [
        span
        for trace_id, frame in frames.items()
        for span in _of_frame(pipeline, trace_id, frame, resource)
    ]


def _of_frame(
    pipeline: Pipeline, trace_id: int, frame: WorstFrame, resource: "Resource"
) -> "list[ReadableSpan]":
    # made directly, as a tracer would choose ids that exemplars do not know
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import SpanContext, TraceFlags

    def context(name: str) -> SpanContext:
        """Return the ids of a span of the frame."""
        flags = TraceFlags(TraceFlags.SAMPLED)
        return SpanContext(trace_id, stable_id(trace_id, name), is_remote=False, trace_flags=flags)

    common: dict[str, Any] = {"resource": resource, "instrumentation_scope": scope()}
    whole = ReadableSpan(
        pipeline.name,
        context(""),
        None,
        attributes=details_of(frame.frame_id, frame.source),
        start_time=frame.marks["start"],
        end_time=frame.marks["end"],
        **common,
    )
    inside = known_times((*pipeline.stages, *pipeline.sides), frame.marks)
    return [
        whole,
        *(
            ReadableSpan(
                span.name, context(span.name), whole.context, start_time=a, end_time=b, **common
            )
            for span, a, b in inside
        ),
    ]


def slowest(profile: Profile, worst: int) -> dict[int, WorstFrame]:
    """Return the slowest frames by trace id.

    Frames with no times, or with times before 1970, are left out: OpenTelemetry has none.
    """
    pipeline, found = profile.pipeline, {}
    for frame in worst_frames(profile.sums, worst):
        if not profile.untimed and min(frame.marks.values()) > 0:
            marks = (frame.marks.get(mark) for mark in pipeline.marks)
            trace = stable_id(pipeline.name, frame.frame_id, frame.source, *marks, size=16)
            found[trace] = frame
    return found


# -- what metrics need as well -------------------------------------------------------------------


def check_installed() -> None:
    """Check that the SDK of OpenTelemetry is installed.

    Raises
    ------
    ProfilerError
        The SDK is not installed.
    """
    try:
        import opentelemetry.sdk.metrics  # noqa: F401
    except ImportError:
        raise ProfilerError(
            "export to OpenTelemetry needs the package opentelemetry-sdk; "
            "pip install 'latprof[opentelemetry]'"
        ) from None


def check_exportable(profile: object, worst: int) -> None:
    """Check the arguments of `spans` and `metrics_data`.

    Raises
    ------
    ProfileError
        `profile` is not a profile of frames, or `worst` is not an integer from 0 to 100.
    ProfilerError
        The SDK is not installed.
    """
    check_installed()
    if not isinstance(profile, Profile):
        raise ProfileError(
            f"profile must be a Profile, got {quoted(profile)}; analyze makes one of a trace"
        )
    if profile.bins is not None:
        raise ProfileError(
            "profile must be of frames, got one of histograms of another tool; export these from "
            "that tool"
        )
    check_integer("worst", worst, 0, MOST_WORST)


def resource_of(given: "Resource | None") -> "Resource":
    """Return the given resource, or that of the environment if it is None."""
    from opentelemetry.sdk.resources import Resource

    return Resource.create() if given is None else given


def scope() -> "InstrumentationScope":
    """Return the name of this library, which all metrics and spans carry."""
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    return InstrumentationScope("latprof")
