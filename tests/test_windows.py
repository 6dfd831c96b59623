"""Windows of time against a plain loop, in any order, cut, width and range."""

from itertools import groupby

import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import SMALL, examples, seeded

from latprof.fold import windows as windows_module
from latprof.fold.windows import ChunkWindows, TimeWindows
from latprof.histogram import COARSE_BINS
from latprof.profile.profile import Profile

FAR = 2**62 - 1

times = st.integers(-50, 50) | st.integers(-(10**6), 10**6) | st.integers(-FAR, FAR)
latencies = st.integers(0, 100) | st.integers(0, 2**50) | st.integers(0, 2**63 - 2)
frames = st.tuples(times, latencies, st.integers(1, 5))
widths = st.sampled_from([1, 2, 3, 7, 10, 64, 1000, 10**9, 3 * 2**40])


def coarse_of(latency):
    """Return which of 32 ranges an octave."""
    fine = oracle.bin_number(latency)
    return 0 if fine == 0 else 1 + (fine - 1) // 32


def fill(windows, rows):
    if not rows:
        return windows
    when, latency, weights = (np.array(column, np.int64) for column in zip(*rows, strict=True))
    coarse = np.array([coarse_of(value) for value in latency.tolist()])
    index = windows.locate(when.copy(), int(when.min()), int(when.max()))
    extremes = int(latency.min()), int(latency.max())
    bound = sum(latency * weights for _, latency, weights in rows)
    index.add("a", coarse, latency, weights, np.empty(len(rows), np.int64), extremes, bound)
    return windows


def made(rows, width, most):
    return fill(TimeWindows(("a",), width, most, moments=True), rows)


def expected(rows, width, most):
    """Return the width that is needed, and for each filled window its counts, sum and peak."""
    first, last = min(t for t, _, _ in rows), max(t for t, _, _ in rows)
    while last // width - first // width >= most:
        width *= 2
    found = {}
    for when, latency, weight in rows:
        counts, total, peak = found.get(when // width * width, ({}, 0, 0))
        coarse = coarse_of(latency)
        counts[coarse] = counts.get(coarse, 0) + weight
        found[when // width * width] = counts, total + latency * weight, max(peak, latency)
    return width, first // width * width, last // width * width, found


def seen(windows):
    """Return the same of windows."""
    found = {}
    for i, begin in enumerate(windows.begins_ns.tolist()):
        row = windows.counts("a")[i]
        counts = {place: int(row[place]) for place in np.flatnonzero(row).tolist()}
        sums, peak = int(windows.sums["a"][i]), int(windows.peaks["a"][i])
        if counts:
            found[begin] = counts, sums, peak
        else:
            assert (sums, peak) == (0, 0)
    begins = windows.begins_ns.tolist()
    return windows.width_ns, begins[0], begins[-1], found


def nothing_left(windows):
    """Return whether rows beyond the last window are 0: later windows use them."""
    n = windows.length
    arrays = (windows.tables["a"], windows.sums["a"], windows.peaks["a"])
    return all(not array[n:].any() for array in arrays)


@given(st.lists(frames, min_size=1, max_size=30), widths, st.sampled_from([2, 3, 8, 64]))
def test_windows_are_those_of_a_plain_loop(rows, width, most):
    windows = made(rows, width, most)
    assert seen(windows) == expected(rows, width, most)
    assert nothing_left(windows)


@given(st.lists(frames, min_size=1, max_size=20), widths, st.sampled_from([2, 3, 64]))
def test_adding_frames_one_by_one_gives_the_same_windows(rows, width, most):
    windows = TimeWindows(("a",), width, most, moments=True)
    for row in rows:
        fill(windows, [row])
        assert windows.length <= most
    assert seen(windows) == expected(rows, width, most)
    assert nothing_left(windows)


@given(st.data(), st.lists(frames, min_size=1, max_size=30), widths, st.sampled_from([2, 5, 64]))
@settings(max_examples=examples(150))
def test_any_cut_in_any_order_merges_to_the_whole(data, rows, width, most):
    places = [data.draw(st.integers(0, 3)) for _ in rows]
    parts = [
        made([row for row, place in zip(rows, places, strict=True) if place == i], width, most)
        for i in range(4)
    ]
    merged = TimeWindows(("a",), width, most, moments=True)
    for part in data.draw(st.permutations(parts)):
        merged.merge(part)
    assert seen(merged) == expected(rows, width, most)
    assert nothing_left(merged)
    parts[0].merge(parts[1])
    parts[2].merge(parts[3])
    parts[2].merge(parts[0])
    assert seen(parts[2]) == expected(rows, width, most)


@given(st.lists(frames, min_size=1, max_size=10), widths)
def test_merging_equal_windows_doubles_and_merging_empty_ones_changes_nothing(rows, width):
    windows = made(rows, width, 8)
    windows.merge(TimeWindows(("a",), width, 8, moments=True))
    windows.merge(made(rows, width, 8))
    assert seen(windows) == expected(rows + rows, width, 8)


def test_windows_double_in_width_if_one_more_than_the_most_is_needed():
    for n, width in ((512, 1000), (513, 2000)):
        windows = made([(i * 1000, 5, 1) for i in range(n)], 1000, 512)
        assert windows.width_ns == width
        assert windows.length == (512 if n == 512 else 257)
        assert windows.base_ns == 1000


def test_windows_begin_at_multiples_of_their_width_from_1970():
    assert seen(made([(1999, 3, 1), (2000, 4, 2), (-1, 5, 1)], 1000, 8))[3] == {
        -1000: ({coarse_of(5): 1}, 5, 5),
        1000: ({coarse_of(3): 1}, 3, 3),
        2000: ({coarse_of(4): 2}, 8, 4),
    }


def test_sums_of_windows_are_exact_beyond_64_bits():
    long = 2**63 - 2
    windows = made([(0, long, 5), (15, long, 2)], 10, 8)
    assert windows.sums["a"][:2].tolist() == [5 * long, 2 * long]
    one_by_one = TimeWindows(("a",), 10, 8, moments=True)
    for row in ((0, long, 1), (15, long, 2), (0, long, 4)):
        fill(one_by_one, [row])
    as_a_run = TimeWindows(("a",), 10, 8, moments=True)
    as_a_run.cover(0, 19)
    peaks = np.array([long, long])
    as_a_run.add_moments("a", np.array([0, 1]), [5 * long, 2 * long], peaks, 7 * long)
    for same in (one_by_one, as_a_run):
        assert same.sums["a"].tolist() == windows.sums["a"].tolist()
    windows.merge(one_by_one)
    assert windows.sums["a"][:2].tolist() == [10 * long, 4 * long]
    windows.cover(0, 100)  # widened to 20 ns
    assert windows.sums["a"][0] == 14 * long
    halves = made([(0, 2**62, 1), (10, 2**62, 1)], 10, 8)  # the sum of both has 64 bits
    halves.cover(0, 100)
    assert halves.sums["a"][0] == 2**63


def test_the_longest_range_that_stamps_have():
    windows = made([(-FAR, 1, 1), (0, 2, 1), (FAR, 3, 1)], 1, 64)
    assert windows.width_ns == 2**57
    assert windows.begins_ns[0] == -(2**62)
    assert int(windows.counts("a").sum()) == 3


def test_some_of_the_frames_of_a_chunk_are_counted():
    windows = TimeWindows(("a", "b"), 10, 8, moments=True)
    coarse, latency = np.array([coarse_of(7), coarse_of(9)]), np.array([7, 9])
    ones, work = np.ones(2, np.int64), np.empty(2, np.int64)
    some = windows.locate(np.array([5, 15, 25]), 5, 25).take(np.array([True, False, True]))
    some.add("b", coarse, latency, ones, work, (7, 9), 16)
    assert windows.counts("b").sum(axis=1).tolist() == [1, 0, 1]
    assert windows.sums["b"][:3].tolist() == [7, 0, 9]
    assert windows.counts("a").sum() == 0
    # frames of one window share a row
    some = windows.locate(np.array([11, 12, 13]), 11, 13).take(np.array([False, True, True]))
    some.add("b", coarse, latency, ones, work, (7, 9), 16)
    assert windows.counts("b").sum(axis=1).tolist() == [1, 2, 1]
    assert windows.peaks["b"][:3].tolist() == [7, 9, 9]


def test_locating_frames_does_not_change_their_times():
    for width in (8, 10):
        when = np.array([5, 15, 95])
        TimeWindows(("a",), width, 8).locate(when, 5, 95)
        assert when.tolist() == [5, 15, 95]


def test_without_moments_only_counts_are_kept():
    windows = fill(TimeWindows(("a",), 10, 8), [(5, 7, 2), (99, 1, 1)])
    assert windows.sums == windows.peaks == {}
    windows.merge(fill(TimeWindows(("a",), 10, 8), [(-100, 7, 1)]))
    assert windows.counts("a").sum() == 4
    assert windows.counts("a").shape == (windows.length, COARSE_BINS)


@pytest.mark.parametrize("latency", [0, 1, 63, 64, 2**53 + 1, 2**62 - 1, 2**63 - 2])
def test_the_coarse_bins_reach_all_latencies(latency):
    windows = made([(0, latency, 1)], 10, 8)
    assert np.flatnonzero(windows.counts("a")[0]).tolist() == [coarse_of(latency)]


# -- runs of frames in one window -----------------------------------------------------------------


def expected_runs(windows, times, long):
    """Return (begin, end, begins of the windows or None), short runs joined."""
    keys = [tuple(time // some.width_ns * some.width_ns for some in windows) for time in times]
    found, begin = [], 0
    for key, run in groupby(keys):
        end = begin + len(list(run))
        whole = key if end - begin >= long else None
        if whole is None and found and found[-1][2] is None:
            found[-1] = (found[-1][0], end, None)
        else:
            found.append((begin, end, whole))
        begin = end
    return found


@given(
    st.lists(st.integers(-100, 100), min_size=1, max_size=30),
    st.lists(st.sampled_from([1, 7, 16, 1000]), min_size=1, max_size=2),
    st.integers(1, 5),
    st.booleans(),
)
def test_runs_are_those_of_a_plain_loop(times, widths, long, in_order):
    times = sorted(times) if in_order else times
    windows = [TimeWindows(("a",), width, 8) for width in widths]
    indexes = [some.locate(np.array(times), min(times), max(times)) for some in windows]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windows_module, "LONG_RUN", long)
        found = ChunkWindows(indexes, len(times)).runs
    plain = [
        (r.rows.start, r.rows.stop, r.where and tuple(begin for _, begin in r.where)) for r in found
    ]
    assert plain == expected_runs(windows, times, long)
    for run in found:
        for some, begin in run.where or ():
            assert any(some is one for one in windows)
            assert begin % some.width_ns == 0


def test_frames_without_a_time_are_one_run_without_a_window():
    (run,) = ChunkWindows([], 10_000).runs
    assert (run.rows, run.where) == (slice(0, 10_000), ())


def counted(pipeline, parts, long):
    """Return all that windows and histograms count of parts."""
    profile = Profile(pipeline, every="1s")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windows_module, "LONG_RUN", long)
        for part in parts:
            profile.add(part)
    sums = profile.sums
    found = {"exemplars": sums.exemplars.tolist(), "tails": sums.tails.counts.tolist()}
    for name, span in sums.spans.items():
        found[name] = list(span.histogram)
        for some in (sums.batches, sums.timeline):
            found[name, some.most] = some.begins_ns.tolist(), some.counts(name).tolist()
        found[name, "moments"] = (
            sums.timeline.sums[name].tolist(),
            sums.timeline.peaks[name].tolist(),
        )
    return found


@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("pipeline", SMALL, ids=lambda p: p.name)
def test_long_runs_and_single_frames_are_counted_alike(pipeline, weights):
    frames = seeded(pipeline, 2_000, 5, weights=weights, missing=0.001, negative=0.001)
    order = np.argsort(frames.marks["end"], kind="stable")
    ordered = frames.take(order)
    parts = [ordered.take(slice(i, i + 600)) for i in (1200, 0, 1800, 600)]
    one_by_one = counted(pipeline, parts, 10**9)
    for long in (1, 5, 100):
        assert counted(pipeline, parts, long) == one_by_one
