"""The metrics for Prometheus, read back by the client's own parser."""

import logging
import math

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from latprof import Pipeline, Profiler
from latprof.errors import ProfilerError
from latprof.export.prometheus import BUCKETS, ProfilerCollector, export
from latprof.units import parse_duration

MIC = Pipeline.chain("mic", "decode", "play")
HOSTILE = 'a"b\\c\nd{le="0"} 5'


def scraped(registry):
    """Return the value by (name, labels without the pipeline) of all samples."""
    found = {}
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        for sample in family.samples:
            labels = {k: v for k, v in sample.labels.items() if k != "pipeline"}
            assert sample.labels["pipeline"] == "mic"
            found[sample.name, frozenset(labels.items())] = sample.value
    return found


def key(name, **labels):
    return name, frozenset(labels.items())


def recorded(profiler, lengths_ns, source=None):
    """Record frames of which decode takes these times (n,), after 1 ms, and play 2 ms."""
    for i, length in enumerate(lengths_ns):
        begin = 1_000_000_000 + i * 10_000_000
        stamps = np.cumsum([begin, 1_000_000, length, 2_000_000])
        profiler.record(i, stamps.tolist(), source=source)


def test_counts_and_sums_are_exact_by_span_and_source():
    registry = CollectorRegistry()
    with Profiler(MIC) as profiler:
        export(profiler, registry, buckets=("1us", "2us", 5_000_000))
        recorded(profiler, [500, 1_000, 1_001, 2_000, 4_000_000, 6_000_000], HOSTILE)
        recorded(profiler, [700], "other")
        profiler.frame(9).drop("late")
        profiler.frame(10)
        found = scraped(registry)
    here = {"span": "decode", "source": HOSTILE}
    for edge, count in (("1e-06", 2), ("2e-06", 4), ("0.005", 5), ("+Inf", 6)):
        assert found[key("latprof_latency_seconds_bucket", le=edge, **here)] == count
    assert found[key("latprof_latency_seconds_count", **here)] == 6
    assert found[key("latprof_latency_seconds_sum", **here)] == 10_004_501 / 1e9
    assert found[key("latprof_latency_seconds_count", span="play", source="other")] == 1
    assert found[key("latprof_latency_seconds_sum", span="end_to_end", source="other")] == 0.0030007
    states = {"started": 9, "finished": 7, "dropped": 1, "rejected": 0, "lost": 0, "sampled_out": 0}
    for state, count in states.items():
        assert found[key("latprof_frames_total", state=state)] == count
    assert found[key("latprof_frames_in_flight")] == 1


def test_a_frame_without_a_mark_is_counted_as_missing():
    registry = CollectorRegistry()
    with Profiler(MIC) as profiler:
        export(profiler, registry)
        with profiler.frame(1, source="in") as frame:
            frame.mark("decode")
        found = scraped(registry)
    here = {"span": "play", "source": "in"}
    assert found[key("latprof_latency_missing_total", **here)] == 1
    assert found[key("latprof_latency_seconds_count", **here)] == 0


def test_values_are_at_most_a_bin_away_from_their_bucket():
    random = np.random.default_rng(1)
    lengths = np.sort(random.lognormal(15, 2, 3_000).astype(np.int64))
    registry = CollectorRegistry()
    with Profiler(MIC) as profiler:
        export(profiler, registry)
        recorded(profiler, lengths, "in")
        found = scraped(registry)
    for edge in BUCKETS:
        ns = parse_duration(edge, name="edge", error=ValueError)
        count = found[
            key("latprof_latency_seconds_bucket", le=str(ns / 1e9), span="decode", source="in")
        ]
        low, high = (int((lengths <= bound).sum()) for bound in (ns, ns * 1.001))
        assert low <= count <= high


def test_a_value_at_an_edge_is_counted_there_and_one_0_1_percent_above_is_not():
    registry, edge = CollectorRegistry(), 2**30
    with Profiler(MIC) as profiler:
        export(profiler, registry, buckets=(edge,))
        recorded(profiler, [edge - 1, edge, int(edge * 1.0009), int(edge * 1.001)], "in")
        found = scraped(registry)
    at_edge = key("latprof_latency_seconds_bucket", le=str(edge / 1e9), span="decode", source="in")
    assert found[at_edge] == 3


def test_a_tag_splits_the_histograms_under_a_name_that_prometheus_accepts(caplog):
    registry = CollectorRegistry()
    with caplog.at_level(logging.WARNING), Profiler(MIC, tags=("quantile",)) as profiler:
        collector = export(profiler, registry, by="quantile", name="web")
        profiler.frame(1, tags={"quantile": "/cart"}).finish()
        found = scraped(registry)
    assert collector.label == "tag_quantile"
    assert "the tag 'quantile' is exported as the label tag_quantile" in caplog.text
    assert found[key("web_latency_seconds_count", span="end_to_end", tag_quantile="/cart")] == 1


def test_a_scrape_of_a_profiler_without_frames_has_no_series_of_latencies():
    registry = CollectorRegistry()
    profiler = Profiler(MIC)
    collector = export(profiler, registry)
    found = scraped(registry)
    assert found[key("latprof_frames_total", state="started")] == 0
    assert all(value == 0 or math.isnan(value) for value in found.values())
    registry.unregister(collector)
    assert scraped(registry) == {}


def test_wrong_arguments_are_refused_in_one_line():
    profiler = Profiler(MIC)
    for arguments, words in (
        ({"profiler": MIC}, "profiler must be a Profiler"),
        ({"buckets": ()}, "buckets must be ascending durations"),
        ({"buckets": ("5ms", "1ms")}, "buckets must be ascending durations"),
        ({"buckets": "5ms", "name": "9lives"}, "name must be letters"),
        ({"buckets": ("soon",)}, "bucket must be"),
        ({"by": "endpoint"}, "by must be one of source"),
    ):
        with pytest.raises(ProfilerError, match=words) as error:
            ProfilerCollector(**{"profiler": profiler} | arguments)
        assert "\n" not in str(error.value)
