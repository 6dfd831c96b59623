"""Prometheus: the latencies of a running profiler, as histograms with chosen buckets.

The package ``prometheus_client`` must be installed (``pip install 'latprof[prometheus]'``)::

    from prometheus_client import start_http_server
    from latprof.export.prometheus import export

    export(profiler, buckets=("1ms", "5ms", "20ms", "50ms", "200ms"))
    start_http_server(9464)

Each scrape reads the profiler's report, as ``profiler.report()`` does; no time is measured twice.
Counts and sums are exact. A value is counted in a bucket by its bin: values within 0.1 % above an
edge, from 2,048 ns on, may be counted as at most the edge. Native histograms are not offered, as
the text formats of this client have none. A server that receives OTLP makes native histograms from
what `latprof.export.opentelemetry` sends.

============================================  =====================================================
``latprof_latency_seconds``                   histogram by pipeline, span and source
``latprof_latency_missing_total``             finished frames without the span
``latprof_latency_negative_total``            frames of which the span ends before it begins
``latprof_frames_total``                      frames by pipeline and state: started, finished,
                                              dropped, rejected, lost, sampled_out
``latprof_frames_in_flight``                  frames that were started and have not ended
============================================  =====================================================
"""

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from latprof.errors import ProfilerError
from latprof.export.series import (
    ABOUT,
    SECOND,
    check_profiler,
    groups_of,
    report_label,
    states_of,
)
from latprof.histogram import Histogram
from latprof.recorder.profiler import Profiler
from latprof.text import quoted
from latprof.units import parse_duration

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric

__all__ = ["BUCKETS", "ProfilerCollector", "export"]

BUCKETS = (
    *("100us", "250us", "500us", "1ms", "2500us", "5ms", "10ms", "25ms", "50ms", "100ms"),
    *("250ms", "500ms", "1s", "2500ms", "5s", "10s"),
)
"""Upper edges of the buckets by default."""

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")


class ProfilerCollector:
    """Reads a profiler at each scrape; `export` registers one.

    Parameters
    ----------
    profiler
        The profiler, running or stopped.
    buckets
        Ascending upper edges: durations such as ``"5ms"``, or integers in ns.
    by
        The label that splits the histograms: ``"source"`` or a tag of the profiler. In the name of
        a tag all but ASCII letters, digits and underscores become underscores, and names that
        cannot be labels begin with ``tag_``; the log says so.
    name
        The first part of the names of all metrics.

    Raises
    ------
    ProfilerError
        `profiler` is not a Profiler, the edges do not ascend or are not durations, or `name` is
        not a valid name of a metric.

    Attributes
    ----------
    label
        The name of the label that splits the histograms.
    """

    def __init__(
        self,
        profiler: Profiler,
        *,
        buckets: Iterable[str | int] = BUCKETS,
        by: str = "source",
        name: str = "latprof",
    ) -> None:
        check_profiler(profiler)
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ProfilerError(
                "name must be letters, digits, underscores and colons, and not start with a "
                f"digit, got {quoted(name)}"
            )
        given = [buckets] if isinstance(buckets, str) else list(buckets)
        edges = [parse_duration(edge, name="bucket", error=ProfilerError) for edge in given]
        if not edges or sorted(set(edges)) != edges:
            raise ProfilerError(f"buckets must be ascending durations, got {quoted(given)}")
        profiler.report(by=by)  # refuses a column that does not exist
        self._profiler, self._edges, self._by, self._name = profiler, edges, by, name
        self.label = report_label(by)

    def describe(self) -> "Iterable[Metric]":
        """Return no metric, so that the registry does not read the profiler to learn the names."""
        return []

    def collect(self) -> "Iterator[Metric]":
        """Yield all metrics, of one report."""
        from prometheus_client.core import (
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
        )

        profile, name = self._profiler.report(by=self._by).profile, self._name
        labels = ["pipeline", "span", self.label]
        latency = HistogramMetricFamily(f"{name}_latency_seconds", ABOUT["latency"], labels=labels)
        missing = CounterMetricFamily(f"{name}_latency_missing", ABOUT["missing"], labels=labels)
        negative = CounterMetricFamily(f"{name}_latency_negative", ABOUT["negative"], labels=labels)
        for group, part in groups_of(profile):
            for span in (part[each] for each in part.spans):
                here = [profile.pipeline.name, span.name, group]
                latency.add_metric(here, self._counts(span.histogram), span.total / SECOND)
                missing.add_metric(here, span.missing)
                negative.add_metric(here, span.negative)
        yield from (latency, missing, negative)
        frames = CounterMetricFamily(
            f"{name}_frames", ABOUT["frames"], labels=["pipeline", "state"]
        )
        for state, count in states_of(profile.accounts).items():
            frames.add_metric([profile.pipeline.name, state], count)
        yield frames
        flight = GaugeMetricFamily(
            f"{name}_frames_in_flight", ABOUT["in_flight"], labels=["pipeline"]
        )
        flight.add_metric([profile.pipeline.name], profile.accounts.in_flight)
        yield flight

    def _counts(self, histogram: Histogram) -> list[tuple[str, float]]:
        """Return how many values are at or below each edge in seconds, and all of them."""
        below = [histogram.at_most(edge)[1] for edge in self._edges]
        edges = [*(str(edge / SECOND) for edge in self._edges), "+Inf"]
        return list(zip(edges, [*below, histogram.count], strict=True))


def export(
    profiler: Profiler,
    registry: "CollectorRegistry | None" = None,
    *,
    buckets: Iterable[str | int] = BUCKETS,
    by: str = "source",
    name: str = "latprof",
) -> ProfilerCollector:
    """Register a profiler with a registry, by default the one of the process.

    Parameters
    ----------
    profiler, buckets, by, name
        See `ProfilerCollector`.
    registry
        A registry of prometheus_client.

    Returns
    -------
    ProfilerCollector
        The registered collector; pass it to ``registry.unregister`` to end the export.

    Raises
    ------
    ProfilerError
        As for `ProfilerCollector`, or prometheus_client is not installed.
    """
    try:
        from prometheus_client import REGISTRY
    except ImportError:
        raise ProfilerError(
            "export to Prometheus needs the package prometheus_client; "
            "pip install 'latprof[prometheus]'"
        ) from None
    collector = ProfilerCollector(profiler, buckets=buckets, by=by, name=name)
    (REGISTRY if registry is None else registry).register(collector)
    return collector
