"""Metrics and spans for OpenTelemetry, against the SDK's own aggregation and its protocol."""

import logging
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
from needs import require

import latprof
from latprof import Pipeline, Profiler, Span, Trace
from latprof.errors import ProfileError, ProfilerError
from latprof.export.opentelemetry import export, metrics_data, spans

require("opentelemetry.sdk.metrics")
require("opentelemetry.exporter.otlp.proto.http.metric_exporter")
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics  # noqa: E402
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans  # noqa: E402
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter  # noqa: E402
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: E402
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (  # noqa: E402
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (  # noqa: E402
    ExportTraceServiceRequest,
)
from opentelemetry.sdk.metrics import Histogram, MeterProvider  # noqa: E402
from opentelemetry.sdk.metrics.export import (  # noqa: E402
    InMemoryMetricReader,
    MetricExportResult,
)
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation  # noqa: E402

AT = 1_700_000_000_000_000_000
FIRST = 2**62  # id
MIC = Pipeline(
    "mic",
    ("start", "decode", "play", "end"),
    (
        Span("decode", "decode", "play", station="cpu"),
        Span("play", "play", "end", station="card"),
        Span("early", "start", "play", kind="side"),
    ),
)


def profile_of(decode_ns, *, by="source"):
    """Return the profile of frames, a second apart, of which decode takes these times (n,)."""
    decode_ns = np.asarray(decode_ns)
    n = np.arange(len(decode_ns))
    begin = AT + n * 1_000_000_000
    marks = {"start": begin, "decode": begin + 1_000, "play": begin + 1_000 + decode_ns}
    marks["end"] = marks["play"] + 2_000_000
    source = np.where(n % 3, "in", "out")
    trace = Trace(MIC, frame_id=n + FIRST, marks=marks, source=source)
    return trace, latprof.analyze(trace, by=by)


def by_sdk(values_ns, size):
    """Return the point that the SDK's own aggregation makes of the same values."""
    kind = ExponentialBucketHistogramAggregation(max_size=size, max_scale=9)
    reader = InMemoryMetricReader(preferred_aggregation={Histogram: kind})
    provider = MeterProvider([reader], shutdown_on_exit=False)
    instrument = provider.get_meter("test").create_histogram("latency")
    for ns in np.asarray(values_ns).tolist():
        instrument.record(ns / 1e9)
    data = reader.get_metrics_data()
    provider.shutdown()
    return data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points[0]


def named(data):
    return {m.name: m.data for m in data.resource_metrics[0].scope_metrics[0].metrics}


def point_of(data, name="latprof.latency", **attributes):
    points = named(data)[name].data_points
    return next(p for p in points if attributes.items() <= dict(p.attributes).items())


def test_histograms_are_those_of_the_sdk_within_the_stated_error():
    rng = np.random.default_rng(7)
    many = {
        "wide": rng.lognormal(14, 3, 4_000).astype(np.int64),
        "narrow": rng.integers(1_000_000, 1_010_000, 3_000),
        "short": rng.integers(0, 2_048, 2_000),
        "edges": np.array([2**k for k in range(40)] + [10**9 * 2**k for k in range(9)]),
        "one": np.array([5_000_000]),
        "zeros": np.array([0, 0, 0]),
        "some zeros": np.array([0, 0, 1, 10**12]),
    }
    for name, values in many.items():
        for size in (2, 20, 160, 4_000):
            _, profile = profile_of(values, by=None)
            mine = point_of(metrics_data(profile, buckets=size), span="decode")
            theirs = by_sdk(values, size)
            for field in ("count", "zero_count", "min", "max"):
                assert getattr(mine, field) == getattr(theirs, field), (name, size, field)
            assert mine.sum == pytest.approx(theirs.sum, rel=1e-12)
            assert mine.sum == int(values.sum()) / 10**9
            if not (values > 0).any():
                assert mine.positive.bucket_counts == []
                continue
            assert mine.scale == theirs.scale, (name, size)
            counts = np.zeros((2, 1 << 17), np.int64)
            for row, point in zip(counts, (mine, theirs), strict=True):
                first = point.positive.offset + (1 << 16)
                row[first : first + len(point.positive.bucket_counts)] = (
                    point.positive.bucket_counts
                )
            assert counts[0].sum() == counts[1].sum() == (values > 0).sum()
            assert np.count_nonzero(counts[0]) <= size
            # an edge has as many values below it as the SDK counts, but for those within 0.05 %
            moved = np.flatnonzero(counts.cumsum(1)[0] != counts.cumsum(1)[1])
            for place in moved.tolist():
                edge = 2.0 ** ((place + 1 - (1 << 16)) / 2.0**mine.scale) * 1e9
                near = (np.abs(values / edge - 1) <= 0.0005) & (values >= 2_048)
                below = counts.cumsum(1)[:, place]
                assert abs(int(below[0] - below[1])) <= near.sum(), (name, size, edge)
            assert name != "short" or not len(moved)


def test_metrics_survive_the_protocol():
    trace, profile = profile_of(np.arange(1, 31) * 1_000_000)
    profile.accounts.started, profile.accounts.in_flight = 34, 4
    sent = encode_metrics(metrics_data(profile, worst=4)).SerializeToString()
    request = ExportMetricsServiceRequest.FromString(sent)
    metrics = {m.name: m for m in request.resource_metrics[0].scope_metrics[0].metrics}
    assert {name: metric.unit for name, metric in metrics.items()} == {
        "latprof.latency": "s",
        "latprof.latency.missing": "{frame}",
        "latprof.latency.negative": "{frame}",
        "latprof.frames": "{frame}",
        "latprof.frames.in_flight": "{frame}",
    }
    histogram = metrics["latprof.latency"].exponential_histogram
    assert histogram.aggregation_temporality == 2  # cumulative
    points = {
        tuple(a.value.string_value for a in point.attributes): point
        for point in histogram.data_points
    }
    names = [a.key for a in histogram.data_points[0].attributes]
    assert names == ["pipeline", "span", "source"]
    assert len(points) == 2 * 5
    for source in ("in", "out"):
        mine = trace.select(source=source)
        for span in ("decode", "play", "early", "other", "end_to_end"):
            point, values = points["mic", span, source], mine.span(span)
            assert point.count == sum(point.positive.bucket_counts) == len(values)
            assert point.sum == int(values.sum()) / 10**9
            assert (point.min, point.max) == (values.min() / 1e9, values.max() / 1e9)
            assert point.start_time_unix_nano == AT
            assert point.time_unix_nano == int(trace.marks["end"].max())
            slow = sorted(values.tolist(), reverse=True)[:4]
            shown = [] if span == "other" else [ns / 1e9 for ns in slow]
            assert sorted((e.as_double for e in point.exemplars), reverse=True) == shown
    states = {
        p.attributes[1].value.string_value: p.as_int
        for p in metrics["latprof.frames"].sum.data_points
    }
    assert (states["started"], states["finished"], states["dropped"]) == (34, 30, 0)
    assert metrics["latprof.frames.in_flight"].gauge.data_points[0].as_int == 4


def test_spans_survive_the_protocol_and_are_the_ones_of_the_exemplars():
    trace, profile = profile_of(np.arange(1, 31) * 1_000_000)
    made = spans(profile, worst=3)
    request = ExportTraceServiceRequest.FromString(encode_spans(made).SerializeToString())
    found = request.resource_spans[0].scope_spans[0].spans
    rows = [29, 28, 26, 27, 24, 21]  # every third frame is of the other source
    frames = {
        a.value.string_value: span for span in found for a in span.attributes if a.key == "frame"
    }
    assert sorted(frames) == sorted(str(FIRST + row) for row in rows)
    for row in rows:
        whole = frames[str(FIRST + row)]
        marks = {mark: int(ns[row]) for mark, ns in trace.marks.items()}
        assert (whole.name, whole.parent_span_id) == ("mic", b"")
        assert (whole.start_time_unix_nano, whole.end_time_unix_nano) == (
            marks["start"],
            marks["end"],
        )
        children = {
            span.name: span
            for span in found
            if span.parent_span_id == whole.span_id and span.trace_id == whole.trace_id
        }
        assert {
            name: (s.start_time_unix_nano, s.end_time_unix_nano) for name, s in children.items()
        } == {
            "decode": (marks["decode"], marks["play"]),
            "play": (marks["play"], marks["end"]),
            "early": (marks["start"], marks["play"]),
        }
    lengths = {
        (s.trace_id, s.span_id): (s.end_time_unix_nano - s.start_time_unix_nano) / 1e9
        for s in found
    }
    assert len(lengths) == len(found) == 4 * 6
    request = encode_metrics(metrics_data(profile, worst=3))
    metric = request.resource_metrics[0].scope_metrics[0].metrics[0]
    seen = [e for point in metric.exponential_histogram.data_points for e in point.exemplars]
    assert len(seen) == 6 * 4
    for exemplar in seen:
        assert lengths[exemplar.trace_id, exemplar.span_id] == exemplar.as_double


def test_stages_without_a_mark_or_a_time_have_no_span():
    marks = {"start": [AT, 0, -5], "decode": [AT + 1, 1, 0], "end": [AT + 9, 9, 9]}
    trace = Trace(MIC, frame_id=[1, 2, 3], marks=marks)
    assert [span.name for span in spans(latprof.analyze(trace))] == ["mic"]
    untimed = Trace.from_durations({"decode": [5, 6]}, unit="ms")
    profile = latprof.analyze(untimed)
    assert spans(profile) == []
    assert point_of(metrics_data(profile), span="decode").count == 2


@pytest.fixture
def collector():
    """Serve OTLP over HTTP on loopback; give its address, and what came by path."""
    came = {"/v1/metrics": [], "/v1/traces": []}

    class Receive(BaseHTTPRequestHandler):
        def do_POST(self):
            came[self.path].append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Receive)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", came
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_running_profiler_is_sent_to_a_collector(collector):
    address, came = collector
    exporters = (
        OTLPMetricExporter(f"{address}/v1/metrics", compression=None),
        OTLPSpanExporter(f"{address}/v1/traces", compression=None),
    )
    with Profiler(MIC) as profiler, export(profiler, *exporters, every="1h", worst=2) as sending:
        for i in range(10):
            begin = 10**9 + i * 10_000_000
            profiler.record(i, [begin, begin + 5, begin + 1_000 + i, begin + 9_000], source="in")
        assert sending.now()
        assert sending.now()
        profiler.record(99, [begin, begin + 5, begin + 1_000, begin + 90_000], source="in")
    sending.stop()
    assert (sending.sent, sending.failed) == (3, 0)
    counts, starts = [], set()
    for body in came["/v1/metrics"]:
        metrics = ExportMetricsServiceRequest.FromString(body).resource_metrics[0].scope_metrics[0]
        points = metrics.metrics[0].exponential_histogram.data_points
        counts.append([p.count for p in points if p.attributes[1].value.string_value == "play"])
        starts |= {p.start_time_unix_nano for p in points}
    assert counts == [[10], [10], [11]]
    assert len(starts) == 1
    assert 0 < time.time_ns() - starts.pop() < 60 * 10**9
    frames = [
        [
            a.value.string_value
            for span in ExportTraceServiceRequest.FromString(body)
            .resource_spans[0]
            .scope_spans[0]
            .spans
            for a in span.attributes
            if a.key == "frame"
        ]
        for body in came["/v1/traces"]
    ]
    assert frames == [["0", "1"], ["99"]]
    for exporter in exporters:
        exporter.shutdown()


def test_a_collector_that_fails_is_logged_once_and_numbers_are_sent_again(caplog):
    results = [ValueError("no\nroute"), MetricExportResult.FAILURE, MetricExportResult.SUCCESS]
    counts = []

    class Fails:
        def export(self, data):
            counts.append(point_of(data, "latprof.frames", state="finished").value)
            result = results.pop(0)
            if isinstance(result, Exception):
                raise result
            return result

    with caplog.at_level(logging.INFO), Profiler(MIC) as profiler:
        sending = export(profiler, Fails(), every="1h")
        profiler.frame(1).finish()
        assert not sending.now()
        assert not sending.now()
        profiler.frame(2).finish()
        sending.stop()
        sending.stop()
    assert counts == [1, 1, 2]
    assert (sending.sent, sending.failed) == (1, 2)
    texts = [record.getMessage() for record in caplog.records if "OpenTel" in record.getMessage()]
    assert texts == [
        "OpenTelemetry: sending failed, and is tried again later: ValueError: no",
        "OpenTelemetry: sending works again; it failed 2 times so far",
    ]


def test_numbers_are_sent_at_the_interval():
    enough = threading.Event()

    class Counts:
        calls = 0

        def export(self, data):
            self.calls += 1
            if self.calls == 3:
                enough.set()
            return MetricExportResult.SUCCESS

    with Profiler(MIC) as profiler, export(profiler, Counts(), every="5ms"):
        assert enough.wait(10)


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")  # from CPython 3.12 on
def test_the_child_of_a_fork_sends_nothing():
    class Counts:
        calls = 0

        def export(self, data):
            self.calls += 1
            return MetricExportResult.SUCCESS

    counts = Counts()
    with Profiler(MIC) as profiler, export(profiler, counts, every="1h") as sending:
        child = os.fork()
        if not child:
            status = 1
            try:
                sending.stop()
                status = sending.now() or counts.calls
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        assert sending.now()
    assert counts.calls == 2


def test_names_are_mapped_by_rule_and_reported(caplog):
    with caplog.at_level(logging.WARNING), Profiler(MIC, tags=("span",)) as profiler:
        seen = []

        class Keeps:
            def export(self, data):
                seen.append(encode_metrics(data))
                return MetricExportResult.SUCCESS

        with export(profiler, Keeps(), by="span"):
            profiler.frame(1, tags={"span": 'a"b\n'}).finish()
    assert "the tag 'span' is exported as the label tag_span" in caplog.text
    points = seen[0].resource_metrics[0].scope_metrics[0].metrics[0].exponential_histogram
    keys = {a.key: a.value.string_value for a in points.data_points[0].attributes}
    assert keys["tag_span"] == 'a"b\n'


def test_a_source_that_utf_8_lacks_is_written_out():
    marks = {"start": [AT], "decode": [AT], "play": [AT], "end": [AT + 5]}
    trace = Trace(MIC, frame_id=[1], marks=marks, source="a\udcff")
    profile = latprof.analyze(trace, by="source")
    assert point_of(metrics_data(profile), span="play").attributes["source"] == "a\\udcff"
    whole = encode_spans(spans(profile)).resource_spans[0].scope_spans[0].spans[0]
    assert [a.value.string_value for a in whole.attributes] == ["1", "a\\udcff"]


def test_wrong_arguments_are_refused_in_one_line(monkeypatch):
    profiler, profile = Profiler(MIC), profile_of([5])[1]

    class Exporter:
        def export(self, data):
            raise AssertionError

    good = {"profiler": profiler, "metric_exporter": Exporter()}
    for arguments, words in (
        ({"profiler": MIC}, "profiler must be a Profiler"),
        ({"metric_exporter": None}, "metric_exporter must have a method export"),
        ({"span_exporter": 7}, "span_exporter must have a method export"),
        ({"every": "soon"}, "every must be"),
        ({"every": 10}, "every must be 1ms or longer"),
        ({"by": "endpoint"}, "by must be one of source"),
        ({"buckets": 1}, "buckets must be an integer from 2"),
        ({"worst": 101}, "worst must be an integer from 0 to 100"),
    ):
        with pytest.raises((ProfilerError, ProfileError), match=words) as error:
            export(**good | arguments)
        assert "\n" not in str(error.value)
    for call in (metrics_data, spans):
        with pytest.raises(ProfileError, match="profile must be a Profile"):
            call(7)
        with pytest.raises(ProfileError, match="worst must be an integer from 0 to 100"):
            call(profile, worst=True)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.metrics", None)
    for call in (metrics_data, spans):
        with pytest.raises(ProfilerError, match=r"pip install 'latprof\[opentelemetry\]'"):
            call(profile)


def test_profiles_of_other_tools_histograms_are_refused():
    scrape = Path(__file__).parent / "files" / "prometheus.txt"
    profile = latprof.load_profile(scrape, metric="prometheus_http_request_duration_seconds")
    with pytest.raises(ProfileError, match="histograms of another tool"):
        metrics_data(profile)
