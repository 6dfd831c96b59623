"""Tags of frames while they are recorded: in the trace, the ring, the file and the report."""

import numpy as np
import pytest

import latprof
from latprof import Pipeline, Profiler, ProfilerError

WEB = Pipeline.chain("web", "route", "db")
ENDPOINTS = ["/cart", "/home", None, "/search"]


def record(profiler, frames):
    """Record frames of four endpoints; frame n takes 10 (n % 4 + 1) us."""
    for n in range(frames):
        endpoint = ENDPOINTS[n % 4]
        tags = {} if endpoint is None else {"endpoint": endpoint}
        frame = profiler.frame(n, start=1_000, tags=tags)
        frame.mark("route", at=2_000)
        frame.mark("db", at=3_000)
        frame.tag("status", 500 if n % 8 == 0 else 200)
        frame.finish(at=1_000 + 10_000 * (n % 4 + 1))


def test_tags_are_columns_of_the_trace_of_the_ring_and_of_the_file(tmp_path):
    ring, path = tmp_path / "web.ring", tmp_path / "web.parquet"
    with Profiler(WEB, tags=("endpoint", "status"), ring=ring, path=path) as profiler:
        record(profiler, 80)
    wanted = {
        "endpoint": [ENDPOINTS[n % 4] for n in range(80)],
        "status": ["500" if n % 8 == 0 else "200" for n in range(80)],
    }
    for trace in (profiler.trace(), latprof.recover(ring), latprof.read(path)):
        assert {name: tag.to_numpy().tolist() for name, tag in trace.tags.items()} == wanted
        groups = latprof.analyze(trace, by="endpoint").groups
        assert {name: group.frames for name, group in groups.items()} == {
            "/cart": 20,
            "/home": 20,
            "(none)": 20,
            "/search": 20,
        }


def test_a_report_by_a_tag_is_over_all_frames_and_not_only_those_in_the_ring():
    with Profiler(WEB, tags=("endpoint", "status"), capacity=64, overflow="block") as profiler:
        record(profiler, 400)
        by_endpoint = profiler.report(by="endpoint").profile
    assert {name: group.frames for name, group in by_endpoint.groups.items()} == {
        "/cart": 100,
        "/home": 100,
        "(none)": 100,
        "/search": 100,
    }
    assert by_endpoint.groups["/search"]["end_to_end"].mean == 40_000
    assert "By endpoint" in str(profiler.report(by="endpoint"))
    statuses = profiler.report(by="status").profile.groups
    assert {name: group.frames for name, group in statuses.items()} == {"500": 50, "200": 350}
    # the rest is the same report
    plain = profiler.report().profile
    assert list(plain.groups) == ["(none)"]
    for span in plain.pipeline.span_names:
        assert str(plain[span]) == str(by_endpoint[span])
    assert plain.accounts == by_endpoint.accounts
    for wrong in ("room", None, 7, ["endpoint"]):
        with pytest.raises(ProfilerError, match="by must be one of source, endpoint, status, got"):
            profiler.report(by=wrong)


def test_frames_that_are_kept_and_frozen_have_their_tags(tmp_path):
    settings = {"keep": "1us", "critical": "35us", "on_critical": "freeze"}
    with Profiler(WEB, tags=("endpoint", "status"), freeze_to=tmp_path, **settings) as profiler:
        record(profiler, 40)
    kept = profiler.trace().tags["endpoint"].to_numpy().tolist()
    assert kept == [ENDPOINTS[n % 4] for n in range(40)]
    frozen = latprof.read(next(tmp_path.glob("*.parquet")))
    assert "/search" in frozen.tags["endpoint"].to_numpy().tolist()


def test_values_beyond_the_limits_are_counted_together():
    with Profiler(WEB, tags=("user",), max_sources=10) as profiler:
        for n in range(50):
            profiler.frame(n, tags={"user": str(n)}).finish()
        profiler.frame(50, tags={"user": "x" * 10**6}).finish()
    groups = profiler.report(by="user").profile.groups
    assert groups["(others)"].frames == 41
    assert sum(group.frames for group in groups.values()) == 51
    values = profiler.trace().tags["user"].to_numpy().tolist()
    assert values[:50] == [str(n) for n in range(50)]
    assert len(values[50]) == 1_000
    assert profiler.accounts.notes["names that were cut"] == 1


def test_record_and_record_many_take_tags_or_have_none():
    with Profiler(WEB, tags=("endpoint",)) as profiler:
        profiler.record(1, [1_000, 2_000, 3_000, 4_000], tags={"endpoint": "/cart"})
        profiler.record_many([2, 3], np.tile([1_000, 2_000, 3_000, 4_000], (2, 1)))
    assert profiler.trace().tags["endpoint"].to_numpy().tolist() == ["/cart", None, None]


def test_record_many_takes_a_value_or_a_sequence_for_each_tag(tmp_path):
    stamps = np.tile([1_000, 2_000, 3_000, 4_000], (3, 1))
    ring = tmp_path / "web.ring"
    with Profiler(WEB, tags=("endpoint", "status", "user"), ring=ring) as profiler:
        tags = {"status": np.array([200, 404, 200]), "endpoint": "/cart"}
        profiler.record_many([1, 2, 3], stamps, tags=tags)
        profiler.record_many([4, -1, 5], stamps, tags={"user": ["eve", "bob", None]})
        with pytest.raises(ProfilerError, match="tag must be one of the profiler's tags"):
            profiler.record_many([6], stamps[:1], tags={"shop": "x"})
        with pytest.raises(ProfilerError, match="tag 'user' must have as many entries"):
            profiler.record_many([6], stamps[:1], tags={"user": ["a", "b"]})
        with pytest.raises(ProfilerError, match="tags must be a dict"):
            profiler.record_many([6], stamps[:1], tags="user")
    for trace in (profiler.trace(), latprof.recover(ring)):
        assert trace.frame_id.tolist() == [1, 2, 3, 4, 5]
        found = {tag: labels.to_numpy().tolist() for tag, labels in trace.tags.items()}
        assert found == {
            "endpoint": ["/cart", "/cart", "/cart", None, None],
            "status": ["200", "404", "200", None, None],
            "user": [None, None, None, "eve", None],
        }
    assert profiler.report(by="status").profile.groups["200"].frames == 2
