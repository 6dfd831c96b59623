"""Windows of time against a plain loop: whatever the order, the cut, the width, the range."""

import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latprof.fold.windows import COARSE_BINS, Windows

FAR = 2**62 - 1

times = st.integers(-50, 50) | st.integers(-(10**6), 10**6) | st.integers(-FAR, FAR)
latencies = st.integers(0, 100) | st.integers(0, 2**50)
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
    placement = windows.place(when.copy(), int(when.min()), int(when.max()))
    placement.add("a", coarse, latency, weights, np.empty(len(rows), np.int64))
    return windows


def made(rows, width, most):
    return fill(Windows(("a",), width, most, moments=True), rows)


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
    """Assert that rows beyond the last window are 0: the next ones start from there."""
    n = windows.length
    arrays = (windows._room["a"], windows.sums["a"], windows.peaks["a"])
    return all(not array[n:].any() for array in arrays)


@given(st.lists(frames, min_size=1, max_size=30), widths, st.sampled_from([2, 3, 8, 64]))
def test_windows_are_those_of_a_plain_loop(rows, width, most):
    windows = made(rows, width, most)
    assert seen(windows) == expected(rows, width, most)
    assert nothing_left(windows)


@given(st.lists(frames, min_size=1, max_size=20), widths, st.sampled_from([2, 3, 64]))
def test_frame_by_frame_is_the_same(rows, width, most):
    windows = Windows(("a",), width, most, moments=True)
    for row in rows:
        fill(windows, [row])
        assert windows.length <= most
    assert seen(windows) == expected(rows, width, most)
    assert nothing_left(windows)


@given(st.data(), st.lists(frames, min_size=1, max_size=30), widths, st.sampled_from([2, 5, 64]))
@settings(max_examples=150)
def test_any_cut_in_any_order_merges_to_the_whole(data, rows, width, most):
    places = [data.draw(st.integers(0, 3)) for _ in rows]
    parts = [
        made([row for row, place in zip(rows, places, strict=True) if place == i], width, most)
        for i in range(4)
    ]
    merged = Windows(("a",), width, most, moments=True)
    for part in data.draw(st.permutations(parts)):
        merged.merge(part)
    assert seen(merged) == expected(rows, width, most)
    assert nothing_left(merged)
    parts[0].merge(parts[1])
    parts[2].merge(parts[3])
    parts[2].merge(parts[0])
    assert seen(parts[2]) == expected(rows, width, most)


@given(st.lists(frames, min_size=1, max_size=10), widths)
def test_merging_with_itself_and_with_nothing(rows, width):
    windows = made(rows, width, 8)
    windows.merge(Windows(("a",), width, 8, moments=True))
    windows.merge(made(rows, width, 8))
    assert seen(windows) == expected(rows + rows, width, 8)


def test_the_most_windows_are_not_widened_and_one_more_is():
    for n, width in ((512, 1000), (513, 2000)):
        windows = made([(i * 1000, 5, 1) for i in range(n)], 1000, 512)
        assert windows.width_ns == width
        assert windows.length == (512 if n == 512 else 257)
        assert windows.base_ns == 1000


def test_windows_lie_on_the_grid_from_1970():
    assert seen(made([(1999, 3, 1), (2000, 4, 2), (-1, 5, 1)], 1000, 8))[3] == {
        -1000: ({coarse_of(5): 1}, 5, 5),
        1000: ({coarse_of(3): 1}, 3, 3),
        2000: ({coarse_of(4): 2}, 8, 4),
    }


def test_the_longest_range_that_stamps_have():
    windows = made([(-FAR, 1, 1), (0, 2, 1), (FAR, 3, 1)], 1, 64)
    assert windows.width_ns == 2**57
    assert windows.begins_ns[0] == -(2**62)
    assert int(windows.counts("a").sum()) == 3


def test_a_placement_of_some_frames():
    windows = Windows(("a", "b"), 10, 8, moments=True)
    when = np.array([5, 15, 25])
    placement = windows.place(when.copy(), 5, 25)
    some = placement.where(np.array([True, False, True]))
    latency, ones = np.array([7, 9]), np.ones(2, np.int64)
    some.add("b", np.array([coarse_of(7), coarse_of(9)]), latency, ones, np.empty(2, np.int64))
    assert windows.counts("b").sum(axis=1).tolist() == [1, 0, 1]
    assert windows.sums["b"][:3].tolist() == [7, 0, 9]
    assert windows.counts("a").sum() == 0
    # frames of one window need no rows
    placement = windows.place(np.array([11, 12, 13]), 11, 13)
    some = placement.where(np.array([False, True, True]))
    some.add("b", np.array([coarse_of(7), coarse_of(9)]), latency, ones, np.empty(2, np.int64))
    assert windows.counts("b").sum(axis=1).tolist() == [1, 2, 1]
    assert windows.peaks["b"][:3].tolist() == [7, 9, 9]


def test_placing_leaves_the_times_as_they_were():
    for width in (8, 10):
        when = np.array([5, 15, 95])
        Windows(("a",), width, 8).place(when, 5, 95)
        assert when.tolist() == [5, 15, 95]


def test_without_moments_only_counts_are_kept():
    windows = fill(Windows(("a",), 10, 8), [(5, 7, 2), (99, 1, 1)])
    assert windows.sums == windows.peaks == {}
    windows.merge(fill(Windows(("a",), 10, 8), [(-100, 7, 1)]))
    assert windows.counts("a").sum() == 4
    assert windows.counts("a").shape == (windows.length, COARSE_BINS)


@pytest.mark.parametrize("latency", [0, 1, 63, 64, 2**53 + 1, 2**62 - 1])
def test_the_coarse_bins_reach_all_latencies(latency):
    windows = made([(0, latency, 1)], 10, 8)
    assert np.flatnonzero(windows.counts("a")[0]).tolist() == [coarse_of(latency)]
