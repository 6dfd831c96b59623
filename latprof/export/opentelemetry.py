"""OpenTelemetry: latencies as exponential histograms, and the slowest frames as spans.

The packages must be installed (``pip install 'latprof[opentelemetry]'``)::

    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from latprof.export.opentelemetry import export

    with export(profiler, OTLPMetricExporter(), OTLPSpanExporter(), every="60s"):
        ...

`metrics_data` and `spans` make the data that exporters of the SDK take, also from a saved profile.
No time is measured twice. Sending takes some milliseconds for each source.

============================  =====================================================================
``latprof.latency``           exponential histogram in s by pipeline, span and source
``latprof.latency.missing``   finished frames without the span
``latprof.latency.negative``  frames of which the span ends before it begins
``latprof.frames``            frames by pipeline and state: started, finished, dropped, rejected,
                              lost, sampled_out
``latprof.frames.in_flight``  frames that were started and have not ended
============================  =====================================================================

Counts, sums, minima, maxima and the count of zeros are exact. A value is counted in a bucket by its
bin: values within 0.05 % of the edge of a bucket, from 2,048 ns on, may be counted in the bucket
beside it. The scale is the largest, up to 9, at which at most `buckets` hold all values, as in the
SDK. Numbers are cumulative, since the start of the recording. Frames that have no times, or times
before 1970, are counted, but have neither exemplars nor spans.
"""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from latprof.errors import ProfilerError
from latprof.export.sending import Sending
from latprof.export.series import (
    ABOUT,
    SECOND,
    check_profiler,
    exponential_buckets,
    groups_of,
    label_of,
    report_label,
    states_of,
)
from latprof.export.slices import known_times, stable_id
from latprof.export.slow_frames import (
    check_exportable,
    check_installed,
    resource_of,
    scope,
    slowest,
    spans,
    spans_of,
)
from latprof.fold.worst import WorstFrame
from latprof.pipeline import Pipeline
from latprof.profile.profile import Profile
from latprof.profile.span import SpanProfile, check_integer
from latprof.recorder.profiler import Profiler
from latprof.text import quoted
from latprof.units import parse_duration

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics import Exemplar
    from opentelemetry.sdk.metrics.export import (
        ExponentialHistogramDataPoint,
        MetricExporter,
        MetricsData,
    )
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace.export import SpanExporter

__all__ = ["export", "metrics_data", "spans"]

_SHORTEST_NS = 1_000_000  # interval


# -- metrics --------------------------------------------------------------------------------------


def metrics_data(
    profile: Profile,
    *,
    buckets: int = 160,
    worst: int = 10,
    resource: "Resource | None" = None,
    time_ns: int | None = None,
) -> "MetricsData":
    """Return the numbers of a profile, for any exporter of metrics of the SDK.

    Parameters
    ----------
    profile
        If it has groups, their names are the values of the attribute ``source``, or of the tag by
        which the profile was folded.
    buckets
        Most buckets of a histogram.
    worst
        How many of the slowest frames of each group become exemplars, at most 100. They refer to
        the spans that `spans` returns for the same `worst`.
    resource
        The program that made the frames; by default as the environment names it.
    time_ns
        Time of the numbers, UTC ns; by default the end of the recording.

    Raises
    ------
    ProfileError
        The profile is of histograms of another tool, or an argument is invalid.
    ProfilerError
        The SDK is not installed.

    Examples
    --------
    >>> from latprof import Pipeline, Trace, analyze
    >>> mic = Pipeline.chain("mic", "decode", "play")
    >>> marks = {"start": [0, 20], "decode": [1, 21], "play": [9, 29], "end": [25, 40]}
    >>> data = metrics_data(analyze(Trace(mic, frame_id=[7, 8], marks=marks)))
    >>> latency = data.resource_metrics[0].scope_metrics[0].metrics[0]
    >>> point = latency.data.data_points[0]
    >>> dict(point.attributes), point.count, point.sum
    ({'pipeline': 'mic', 'span': 'decode'}, 2, 1.6e-08)
    """
    check_exportable(profile, worst)
    check_integer("buckets", buckets, 2, 1 << 16)
    return _numbers(profile, buckets, worst, resource_of(resource), time_ns)[0]


def _numbers(
    profile: Profile, buckets: int, worst: int, resource: "Resource", time_ns: int | None
) -> "tuple[MetricsData, dict[int, WorstFrame]]":
    """Return the metrics, and the slowest frames of all groups by trace id."""
    from opentelemetry.sdk.metrics.export import (
        AggregationTemporality,
        ExponentialHistogram,
        Gauge,
        Metric,
        MetricsData,
        NumberDataPoint,
        ResourceMetrics,
        ScopeMetrics,
        Sum,
    )

    begin, end = _times(profile)
    end = end if time_ns is None else time_ns
    pipeline = {"pipeline": profile.pipeline.name}
    label = None if profile.by is None else label_of(profile.by)
    points, missing, negative = [], [], []
    slow: dict[int, WorstFrame] = {}
    for group, part in groups_of(profile):
        frames = slowest(part, worst)
        slow |= frames
        exemplars = _exemplars(profile.pipeline, frames)
        for span in (part[name] for name in part.spans):
            attributes = pipeline | {"span": span.name} | ({} if label is None else {label: group})
            if span.count:
                examples = exemplars.get(span.name, [])
                points.append(_point(span, attributes, (begin, end), buckets, examples))
            missing.append(NumberDataPoint(attributes, begin, end, span.missing))
            negative.append(NumberDataPoint(attributes, begin, end, span.negative))
    states = [
        NumberDataPoint(pipeline | {"state": state}, begin, end, count)
        for state, count in states_of(profile.accounts).items()
    ]
    flight = [NumberDataPoint(pipeline, begin, end, profile.accounts.in_flight)]
    since = AggregationTemporality.CUMULATIVE
    metrics = [
        Metric("latprof.latency", ABOUT["latency"], "s", ExponentialHistogram(points, since)),
        *(
            Metric(f"latprof.{name}", about, "{frame}", Sum(counts, since, is_monotonic=True))
            for name, about, counts in (
                ("latency.missing", ABOUT["missing"], missing),
                ("latency.negative", ABOUT["negative"], negative),
                ("frames", ABOUT["frames"], states),
            )
        ),
        Metric("latprof.frames.in_flight", ABOUT["in_flight"], "{frame}", Gauge(flight)),
    ]
    scoped = ScopeMetrics(scope(), [each for each in metrics if each.data.data_points], "")
    return MetricsData([ResourceMetrics(resource, [scoped], "")]), slow


def _point(
    span: SpanProfile,
    attributes: dict[str, str],
    times: tuple[int, int],
    buckets: int,
    exemplars: "list[Exemplar]",
) -> "ExponentialHistogramDataPoint":
    from opentelemetry.sdk.metrics.export import Buckets, ExponentialHistogramDataPoint

    histogram = span.histogram
    scale, offset, counts = exponential_buckets(histogram, buckets)
    return ExponentialHistogramDataPoint(
        attributes=attributes,
        start_time_unix_nano=times[0],
        time_unix_nano=times[1],
        count=histogram.count,
        sum=span.total / SECOND,
        scale=scale,
        zero_count=int(histogram.bins[0]),
        positive=Buckets(offset, counts),
        negative=Buckets(0, []),
        flags=0,
        min=(histogram.min or 0) / SECOND,
        max=(histogram.max or 0) / SECOND,
        exemplars=exemplars,
    )


def _exemplars(pipeline: Pipeline, frames: Mapping[int, WorstFrame]) -> "dict[str, list[Exemplar]]":
    """Return exemplars by span, with the ids of the spans that `spans` makes of these frames."""
    from opentelemetry.sdk.metrics import Exemplar

    found: dict[str, list[Exemplar]] = {}
    for trace_id, frame in frames.items():
        at = frame.marks["end"]
        details = {"frame": str(frame.frame_id)}
        for span, begin, end in known_times(pipeline.all_spans, frame.marks):
            own = stable_id(trace_id, "" if span.kind == "total" else span.name)
            exemplar = Exemplar(details, (end - begin) / SECOND, at, own, trace_id)
            found.setdefault(span.name, []).append(exemplar)
    return found


def _times(profile: Profile) -> tuple[int, int]:
    """Return begin and end of the recording, UTC ns, or now if its times are not known."""
    now, known = time.time_ns(), profile.segments
    if profile.untimed:
        return now, now
    if not known and profile.time_range_ns is not None:
        known = {(profile.sums.first_ns or 0, profile.sums.last_ns or 0)}
    begin = min((begin for begin, _ in known), default=now)
    return max(begin, 0), max(max((end for _, end in known), default=now), 0)


# -- sending --------------------------------------------------------------------------------------


class _Sender:
    """Sends the numbers of a profiler, and each of its slowest frames once."""

    def __init__(
        self,
        profiler: Profiler,
        by: str,
        exporters: "tuple[MetricExporter, SpanExporter | None]",
        options: dict[str, Any],
    ) -> None:
        self._profiler, self._by, self._options = profiler, by, options
        self._metrics, self._spans = exporters
        self._known: set[int] = set()

    def __call__(self) -> str:
        """Send all; return why it failed, or ""."""
        from opentelemetry.sdk.metrics.export import MetricExportResult
        from opentelemetry.sdk.trace.export import SpanExportResult

        profile = self._profiler.report(by=self._by).profile
        data, slow = _numbers(profile, **self._options, time_ns=time.time_ns())
        if self._metrics.export(data) is not MetricExportResult.SUCCESS:
            return "the exporter of metrics returned a failure"
        new = {trace: frame for trace, frame in slow.items() if trace not in self._known}
        if self._spans is not None and new:
            made = spans_of(profile.pipeline, new, self._options["resource"])
            if self._spans.export(made) is not SpanExportResult.SUCCESS:
                return "the exporter of spans returned a failure"
        self._known = set(slow)
        return ""


def export(
    profiler: Profiler,
    metric_exporter: "MetricExporter",
    span_exporter: "SpanExporter | None" = None,
    *,
    every: str | int = "60s",
    by: str = "source",
    buckets: int = 160,
    worst: int = 10,
    resource: "Resource | None" = None,
) -> Sending:
    """Send the numbers of a profiler at an interval, and its slowest frames as spans.

    Parameters
    ----------
    profiler
        The profiler, running or stopped.
    metric_exporter, span_exporter
        Exporters of the SDK, for example those of OTLP. Without the second one no spans are sent.
    every
        The interval, a duration from ``"1ms"`` on.
    by
        The attribute that splits the histograms: ``"source"`` or a tag of the profiler. In the name
        of a tag all but ASCII letters, digits and underscores become underscores, and names that
        have another meaning begin with ``tag_``; the log says so.
    buckets, worst, resource
        As for `metrics_data`.

    Returns
    -------
    Sending
        Its ``stop()`` sends once more and ends, and so do the end of its ``with`` block and the end
        of the program. Failures are logged. Numbers are cumulative: the next ones that are sent
        include the frames of a failed attempt.

    Raises
    ------
    ProfilerError
        An argument is invalid, or the SDK is not installed.
    ProfileError
        `buckets` or `worst` is out of range.
    """
    check_installed()
    check_profiler(profiler)
    for name, exporter in (("metric_exporter", metric_exporter), ("span_exporter", span_exporter)):
        optional = exporter is None and name == "span_exporter"
        if not optional and not callable(getattr(exporter, "export", None)):
            raise ProfilerError(f"{name} must have a method export, got {quoted(exporter)}")
    every_ns = parse_duration(every, name="every", error=ProfilerError)
    if every_ns < _SHORTEST_NS:
        raise ProfilerError(f"every must be 1ms or longer, got {quoted(every)}")
    options: dict[str, Any] = {
        "buckets": buckets,
        "worst": worst,
        "resource": resource_of(resource),
    }
    metrics_data(profiler.report(by=by).profile, **options)  # refuses wrong arguments
    report_label(by)
    sender = _Sender(profiler, by, (metric_exporter, span_exporter), options)
    return Sending("OpenTelemetry", sender, every_ns / SECOND)
