"""Many sources: each has exact counts, sums and percentiles, in little memory."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from latprof import Pipeline, Profile, Profiler, ProfilerError, Trace, analyze, load_profile
from latprof.frames import MISSING, Columns, Labels
from latprof.profile.load import merge

CHAIN = Pipeline.chain("mic", "decode", "play", period="20ms")
SOURCES = 70  # more than a profile keeps in large arrays


def frames(n, seed, *, widest=2.0):
    """Return columns of n frames of many sources: late, dropped, with missing marks, weighted."""
    rng = np.random.default_rng(seed)
    start = 1_700_000_000 * 10**9 + np.sort(rng.integers(0, 100 * 10**9, n))
    steps = rng.lognormal(np.log(2e6), widest, (3, n)).astype(np.int64).cumsum(axis=0)
    marks = dict(zip(CHAIN.marks, (start, *(start + steps)), strict=True))
    marks["play"] = np.where(rng.random(n) < 0.02, MISSING, marks["play"])
    outcome = rng.choice(3, n, p=(0.95, 0.04, 0.01)).astype(np.int32)
    return Columns(
        rng.permutation(n).astype(np.uint64),
        marks,
        size=rng.integers(0, 1500, n).astype(np.uint32),
        source=Labels(
            np.where(rng.random(n) < 0.1, -1, rng.integers(0, SOURCES, n) ** 2 // SOURCES).astype(
                np.int32
            ),
            tuple(f"s{i}" for i in range(SOURCES)),
        ),
        outcome=Labels(outcome, ("finished", "late", "ValueError")),
        weight=rng.choice((1, 1, 1, 32), n).astype(np.uint32),
    )


def batches(columns, rows):
    return [columns.take(slice(i, i + rows)) for i in range(0, len(columns), rows)]


def of_source(columns, name):
    return columns.take(columns.source.equals(None if name == "(none)" else name))


def assert_same(found, truth):
    """Assert that two profiles without groups say the same; moments up to rounding."""
    pd.testing.assert_frame_equal(found.table(), truth.table(), rtol=1e-9)
    pd.testing.assert_frame_equal(found.tail(99), truth.tail(99), rtol=1e-9)
    pd.testing.assert_frame_equal(found.worst(100), truth.worst(100))
    assert found.exemplars() == truth.exemplars()
    assert found.deadline == truth.deadline
    assert found.ranges == truth.ranges
    assert found.sums.dropped == truth.sums.dropped
    assert found.sums.excluded == truth.sums.excluded
    assert found.rates == truth.rates
    assert found.sums.grids == truth.sums.grids
    assert found.sums.dropped_times.keys() == truth.sums.dropped_times.keys()
    for reason, times in truth.sums.dropped_times.items():
        mine = found.sums.dropped_times[reason]
        assert (mine.count, mine.total, mine.peak) == (times.count, times.total, times.peak)
        assert mine.histogram == times.histogram
    for span in truth.spans:
        mine, theirs = found.windows(span), truth.windows(span)
        assert mine.counts.tolist() == theirs.counts.tolist()
        assert mine.max_ns.tolist() == theirs.max_ns.tolist()
        assert found[span].histogram == truth[span].histogram


def grouped(columns, rows, **settings):
    profile = Profile(CHAIN, by="source", deadline="20ms", **settings)
    for batch in batches(columns, rows):
        profile.add(batch)
    return profile


def alone(columns, **settings):
    profile = Profile(CHAIN, deadline="20ms", **settings)
    profile.add(columns)
    return profile


def test_each_of_many_groups_equals_the_profile_of_its_frames_alone():
    columns = frames(6_000, 1)
    profile = grouped(columns, 500)
    codes = np.unique(columns.source.codes).tolist()
    assert set(profile.groups) == {"(none)", *(f"s{i}" for i in codes if i >= 0)}
    assert_same(profile, alone(columns))
    for name in list(profile.groups)[::7]:
        assert_same(profile.groups[name], alone(of_source(columns, name)))


def test_frames_added_after_a_look_at_the_groups_are_counted():
    columns = frames(3_000, 2)
    first, second = batches(columns, 1_500)
    profile = grouped(first, 300)
    before = profile.groups["s0"].frames
    copy = profile.copy()
    profile.add(second)
    assert copy.groups["s0"].frames == before
    assert_same(profile.groups["s0"], alone(of_source(columns, "s0")))
    assert_same(profile, alone(columns))


def test_profiles_of_many_groups_merge_exactly():
    columns = frames(4_000, 3)
    parts = [grouped(part, 400) for part in batches(columns, 1_000)]
    merged = merge(parts)
    assert_same(merged, alone(columns))
    for name in list(merged.groups)[::9]:
        assert_same(merged.groups[name], alone(of_source(columns, name)))
    assert parts[0].frames < merged.frames  # the parts did not change


def test_a_saved_profile_of_many_groups_is_read_back_exactly(tmp_path):
    columns = frames(3_000, 4)
    profile = grouped(columns, 400, every="1s")
    profile.save(tmp_path / "many.latprof")
    loaded = load_profile(tmp_path / "many.latprof")
    assert_same(loaded, alone(columns, every="1s"))
    for name in list(loaded.groups)[::9]:
        group = alone(of_source(columns, name), every="1s")
        assert_same(loaded.groups[name], group)
        pd.testing.assert_frame_equal(loaded.groups[name].timeline(), group.timeline())
    loaded.save(tmp_path / "again.latprof")
    assert (tmp_path / "again.latprof").read_bytes() == (tmp_path / "many.latprof").read_bytes()


def test_sums_of_any_size_stay_exact_in_many_groups():
    n, longest = 200, 2**62 - 2
    start = np.full(n, 1 - 2**61)
    end = start + longest // 2 * 2
    source = Labels(np.arange(n, dtype=np.int32) % 40, tuple(f"s{i}" for i in range(40)))
    columns = Columns(
        np.arange(n, dtype=np.uint64),
        {"start": start, "decode": start, "play": start + 1, "end": end},
        source=source,
        weight=np.full(n, 2**31, np.uint32),
    )
    profile = grouped(columns, 60)
    group = profile.groups["s7"]
    assert group["end_to_end"].total == 5 * 2**31 * int(end[0] - start[0])
    assert sum(group.sums.tails.sums["play"].tolist()) == 5 * 2**31 * int(end[0] - start[0] - 1)
    assert profile["end_to_end"].total == n * 2**31 * int(end[0] - start[0])


def test_a_trace_of_many_sources_is_analyzed_as_each_source_alone():
    columns = frames(4_000, 5)
    trace = Trace.of(CHAIN, columns, {})
    profile = analyze(trace, by="source", deadline="20ms")
    assert_same(profile.groups["s1"], alone(of_source(columns, "s1")))
    assert_same(profile, alone(columns))


# -- the profiler ---------------------------------------------------------------------------------


def stamps_of(n, gap=1_000_000):
    return np.arange(1, n + 1)[:, None] * gap + np.arange(4) * 1_000


def test_sources_beyond_the_most_are_counted_together_and_the_report_says_so():
    with Profiler(CHAIN, max_sources=3) as profiler:
        for i in range(10):
            profiler.record(i, stamps_of(1)[0].tolist(), source=f"s{i % 5}")
    report = profiler.report()
    counts = {name: group.frames for name, group in report.profile.groups.items()}
    assert counts == {"s0": 2, "s1": 2, "s2": 2, "(others)": 4}
    assert report.profile.accounts.notes["frames of sources beyond max_sources"] == 4
    assert "frames of sources beyond max_sources: 4" in " ".join(str(report).split())
    assert set(profiler.trace().source.to_numpy()) == {f"s{i}" for i in range(5)}


def test_the_most_sources_must_be_a_possible_number():
    for wrong in (0, -1, 1_001, True, 2.5, "10"):
        with pytest.raises(ProfilerError, match="max_sources must be an integer from 1 to 1,000"):
            Profiler(CHAIN, max_sources=wrong)


PROGRAM = """
import sys, time
import numpy as np
from latprof import AUDIO, Profiler

sources, total = map(int, sys.argv[1:])
rng = np.random.default_rng(1)
names = np.array([f"s{i}" for i in range(sources)])

def resident():
    status = open("/proc/self/status").read()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024

def record(profiler, n, start):
    gaps = rng.lognormal(np.log(300_000), 0.5, (n, 7)).astype(np.int64).cumsum(axis=1)
    begins = start + np.arange(n)[:, None] * 10_000
    stamps = np.concatenate((begins, begins + gaps), axis=1)
    profiler.record_many(np.arange(n), stamps, source=names[rng.integers(0, sources, n)].tolist())
    return int(begins[-1, 0])

with Profiler(AUDIO, capacity=65_536) as profiler:
    at = record(profiler, 20_000, time.perf_counter_ns())
    str(profiler.report())
    with Profiler(AUDIO, capacity=65_536) as measured:
        before = resident()
        for _ in range(total // 20_000):
            at = record(measured, 20_000, at)
        accounts = measured.accounts
        print(resident() - before, accounts.folded + accounts.not_folded, accounts.lost)
"""


def memory_of(sources, total):
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(sources), str(total)],
        capture_output=True,
        text=True,
        check=True,
    )
    grown, frames, lost = map(int, found.stdout.split())
    assert (frames, lost) == (total, 0)
    return grown


def test_a_source_takes_little_memory():
    assert memory_of(300, 60_000) < 70e6  # with work arrays and frames that wait, which are shared


@pytest.mark.slow
def test_a_thousand_sources_take_some_100_kb_each():
    assert memory_of(990, 400_000) < 120e6  # with the ring, work arrays and frames that wait
