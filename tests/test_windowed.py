"""Numbers by window, heat and stretches without frames: by hand, and against plain loops."""

import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import BARE, CHAIN, columns, examples, seeded, simple

from latprof.accounts import Accounts
from latprof.errors import ProfileError
from latprof.profile.answers import Stretch
from latprof.profile.profile import Profile

SECOND = 10**9


def profiled(pipeline, frames, **options):
    profile = Profile(pipeline, **options)
    profile.add(frames)
    return profile


def started(*pairs):
    """Return frames that start at the given seconds and last the given ns."""
    return simple(BARE, [(int(s * SECOND), int(s * SECOND) + ns) for s, ns in pairs])


def by_window(frames, width):
    """Return the latencies of finished frames by the window that they start in."""
    windows = {}
    for row in oracle.finished(oracle.frames(frames)):
        begin, end = row["marks"]["start"], row["marks"]["end"]
        if begin is not None and end is not None and end >= begin:
            windows.setdefault(begin // width, []).append(end - begin)
    return windows


@settings(max_examples=examples(40))
@given(columns(CHAIN, max_size=20), st.sampled_from([3, 64, 10**9]))
def test_windows_are_those_of_a_plain_loop(frames, every):
    profile = profiled(CHAIN, frames, every=every)
    numbers = profile.windows("end_to_end", (0, 50, 99, 100))
    truth = by_window(frames, numbers.width_ns)
    places = (numbers.begins_ns // numbers.width_ns).tolist()
    found = {place: i for i, place in enumerate(places) if numbers.counts[i]}
    assert found.keys() == truth.keys()
    assert numbers.exact_max
    for place, values in truth.items():
        i = found[place]
        assert numbers.counts[i] == len(values)
        assert numbers.max_ns[i] == max(values)
        for q, known in numbers.percentiles.items():
            exact = oracle.percentile(values, q)
            assert abs(int(known[i]) - exact) <= exact * 0.016 + 1


def test_without_windows_the_time_batches_are_used():
    frames = seeded(CHAIN, 2_000, 5, missing=0, negative=0, dropped=0)
    numbers = profiled(CHAIN, frames).windows()
    assert 33 <= len(numbers.counts) <= 64
    assert not numbers.exact_max
    truth = by_window(frames, numbers.width_ns)
    for begin, count, largest in zip(
        numbers.begins_ns.tolist(), numbers.counts.tolist(), numbers.max_ns.tolist(), strict=True
    ):
        values = truth.get(begin // numbers.width_ns, [])
        assert count == len(values)
        if values:
            assert largest == pytest.approx(max(values), rel=0.016)


def test_windows_of_no_frames():
    numbers = Profile(CHAIN).windows()
    assert len(numbers.counts) == len(numbers.max_ns) == len(numbers.percentiles[50]) == 0
    assert Profile(CHAIN).heat().counts.size == 0
    assert Profile(CHAIN).stretches() == []
    with pytest.raises(ProfileError, match="got 'nope'"):
        Profile(CHAIN).windows("nope")
    with pytest.raises(ProfileError, match="got 'nope'"):
        Profile(CHAIN).heat("nope")


@pytest.mark.slow
@settings(max_examples=examples(40))
@given(columns(CHAIN, max_size=20), st.sampled_from([3, 10**9]), st.sampled_from([4, 100]))
def test_heat_counts_each_frame_where_it_is(frames, every, most):
    heat = profiled(CHAIN, frames, every=every).heat("end_to_end", most=most)
    width = int(np.diff(heat.times_ns)[0]) if len(heat.times_ns) > 1 else every
    truth = by_window(frames, width)
    assert heat.counts.sum() == sum(map(len, truth.values()))
    assert heat.counts.shape[1] <= most
    for place, values in truth.items():
        row = int(np.searchsorted(heat.times_ns, place * width))
        assert heat.times_ns[row] == place * width
        expected = np.zeros(heat.counts.shape[1], int)
        for value in values:
            expected[np.searchsorted(heat.latencies_ns, value, side="right") - 1] += 1
        assert heat.counts[row].tolist() == expected.tolist()


def test_heat_of_a_wide_range_stays_small():
    heat = profiled(BARE, started((1, 1), (2, 2**61)), every="1s").heat()
    assert heat.counts.shape == (2, heat.counts.shape[1])
    assert heat.counts.shape[1] <= 100
    assert (np.diff(heat.latencies_ns) > 0).all()
    assert heat.counts.sum() == 2


def test_a_window_without_frames_is_a_stretch():
    frames = started((0, 5), (1, 5), (5, 5), (6, 5))
    assert profiled(BARE, frames, every="1s").stretches() == [
        Stretch(2 * SECOND, 5 * SECOND, "no frames")
    ]


def test_a_stretch_without_frames_is_lost_if_frames_are_lost():
    profile = profiled(BARE, started((0, 5), (3, 5)), every="1s")
    profile.accounts = Accounts(lost=7)
    assert [stretch.what for stretch in profile.stretches()] == ["lost"]


def test_stretches_that_were_not_recorded_are_reported_as_such():
    profile = profiled(BARE, started((0, 5), (1, 5), (8, 5), (9, 5)), every="1s")
    profile.segments = {(0, 2 * SECOND), (5 * SECOND, 10 * SECOND)}
    assert profile.stretches() == [
        Stretch(2 * SECOND, 5 * SECOND, "not recorded"),
        Stretch(5 * SECOND, 8 * SECOND, "no frames"),
    ]


def test_a_ring_that_kept_only_the_end_has_lost_the_beginning():
    profile = profiled(BARE, started((20, 5), (21, 5)), every="1s")
    profile.segments = {(0, 22 * SECOND)}
    profile.accounts = Accounts(lost=1_000)
    assert profile.stretches() == [Stretch(0, 20 * SECOND, "lost")]


def test_segments_that_overlap_leave_no_gap():
    profile = profiled(BARE, started((0, 5), (1, 5)), every="1s")
    profile.segments = {(0, 2 * SECOND), (SECOND, 2 * SECOND)}
    assert profile.stretches() == []


def test_slices_are_all_middle_and_slow_frames():
    # ten frames, of which play takes 1 to 10: the slowest tenth is the one of 10
    frames = simple(CHAIN, [(0, 0, 0, 90, 90 + i) for i in range(1, 11)])
    parts = profiled(CHAIN, frames).slices(90)
    assert [part.frames for part in parts.values()] == [10, 2, 1]
    assert parts["all"].sums["play"] == 55
    assert parts["middle"].sums["play"] == 5 + 6
    assert parts["slow"].sums == {"decode": 0, "resample": 90, "play": 10, "other": 0}
    with pytest.raises(ProfileError, match="must be a number from 0 to 100, got 101"):
        Profile(CHAIN).slices(101)
