"""Cumulative curves against plain counting of the values themselves."""

import numpy as np
import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import BARE, CHAIN, seeded, simple

from latprof.histogram import ERROR_BOUND, Histogram
from latprof.profile.profile import Profile
from latprof.profile.span import POINTS, ecdf, percentile_curve

VALUES = st.lists(st.integers(0, 2000) | st.integers(0, 2**62 - 1), min_size=1, max_size=60)


def counted(values):
    histogram = Histogram()
    histogram.add(np.array(values, np.int64))
    return histogram


@given(VALUES)
def test_ecdf_is_exact_at_each_of_its_values(values):
    curve = ecdf(counted(values))
    for value, share in zip(curve.value_ns.tolist(), curve.share.tolist(), strict=True):
        assert share == sum(v <= value for v in values) / len(values)
    assert (np.diff(curve.value_ns) > 0).all()
    assert (np.diff(curve.share) > 0).all()
    assert curve.share[-1] == 1
    assert curve.value_ns[-1] == max(values)


@given(VALUES)
def test_every_value_has_a_step_within_the_bins_error(values):
    steps = ecdf(counted(values)).value_ns
    for value in values:
        near = steps[np.searchsorted(steps, value)]
        assert value <= near <= value * (1 + 2 * ERROR_BOUND) + 1


def test_ecdf_of_very_many_bins_has_a_bounded_number_of_steps():
    rng = np.random.default_rng(3)
    values = np.sort(rng.lognormal(14, 3, 200_000).astype(np.int64))
    curve = ecdf(counted(values))
    assert 500 < len(curve.share) <= 2 * POINTS + 1
    exact = np.searchsorted(values, curve.value_ns, side="right") / len(values)
    assert curve.share == pytest.approx(exact, abs=1e-12)
    # nothing is left out that a reader would see: steps are near in height, or in width
    height = np.diff(curve.share)
    width = np.diff(np.log(curve.value_ns)) / np.log(values[-1] / values[0])
    assert (np.minimum(height, width) < 2.5 / POINTS).all()


def test_curves_of_no_values_are_empty():
    assert len(ecdf(Histogram()).share) == 0
    curve = percentile_curve(Histogram(), np.zeros((0, 1), np.int64))
    assert len(curve.q) == len(curve.value_ns) == len(curve.low) == len(curve.high) == 0


@given(VALUES)
def test_the_percentile_curve_is_that_of_sorted_values(values):
    curve = percentile_curve(counted(values), np.zeros((0, 1), np.int64))
    assert curve.q[0] == 0
    assert curve.q[-1] == 100
    assert (np.diff(curve.q) > 0).all()
    for q, found in zip(curve.q.tolist(), curve.value_ns.tolist(), strict=True):
        exact = oracle.percentile(values, q)
        assert abs(found - exact) <= exact * ERROR_BOUND + 1
    assert curve.value_ns[-1] == max(values)


def test_the_curve_reaches_as_far_as_there_are_frames():
    frames = simple(BARE, [(0, t) for t in range(1, 1001)])
    profile = Profile(BARE)
    profile.add(frames)
    q = profile["end_to_end"].curve().q[:-1]
    assert 50 in q  # a tick of pictures, between two of the others
    left = 100 - q[q != 50]
    assert left.min() == pytest.approx(0.1)  # one frame of a thousand
    assert np.diff(np.log10(left)) == pytest.approx(-1 / 12)


def test_its_intervals_are_those_of_the_percentiles():
    profile = Profile(CHAIN)
    profile.add(seeded(CHAIN, 3_000, 2))
    span = profile["end_to_end"]
    curve = span.curve(per_decade=3)
    assert 0 < np.isnan(curve.low).sum() < len(curve.q)
    for q, low, high in zip(curve.q, curve.low, curve.high, strict=True):
        known = span.percentile(float(q))
        if known.low is None:
            assert np.isnan(low)
            assert np.isnan(high)
        else:
            assert (low, high) == (known.low, known.high)
