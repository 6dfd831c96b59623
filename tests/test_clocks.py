"""Offset and drift of a clock, compared with all lines through two points, one by one."""

import itertools
import random
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from latprof.joining.clocks import FASTEST_DRIFT, FASTEST_ENVELOPE, Points, one_way, two_ways


def bounds(points):
    times, values = zip(*points, strict=True)
    return Points(np.array(times), np.array(values))


def lines(above, below):
    """Yield (slope, value at 0) of every extreme line below `above` and above `below`, exactly."""
    steepest = Fraction(FASTEST_DRIFT)
    candidates = []
    for (t, v), (u, w) in itertools.combinations(above + below, 2):
        if t != u:
            slope = Fraction(w - v, u - t)
            candidates.append((slope, v - slope * t))
    for t, v in above + below:
        candidates += [(slope, v - slope * t) for slope in (steepest, -steepest)]
    for slope, start in candidates:
        fits = all(slope * t + start <= v for t, v in above)
        fits &= all(slope * t + start >= v for t, v in below)
        if fits and abs(slope) <= steepest:
            yield slope, start


def test_limits_are_those_of_all_possible_lines():
    for seed in range(60):
        chance = random.Random(seed)
        offset, drift = chance.randrange(-(10**9), 10**9), chance.uniform(-9e-4, 9e-4)
        points = {1: [], -1: []}  # above and below the line
        for sign, side in points.items():
            for _ in range(chance.randrange(1, 12)):
                t = chance.randrange(10**9)
                side.append((t, offset + round(drift * t) + sign * chance.randrange(100, 10**6)))
        above, below = points[1], points[-1]
        clock = two_ways(bounds(above), bounds(below))
        found = list(lines(above, below))
        at = [slope * clock.at + start for slope, start in found]
        assert clock.low == pytest.approx(float(min(at)), abs=3)
        assert clock.high == pytest.approx(float(max(at)), abs=3)
        assert clock.contradiction == 0
        ends = [min(t for t, _ in above + below), max(t for t, _ in above + below)]
        furthest = 0
        for t in ends:
            ahead = int(clock.ahead(np.array([t]))[0])
            furthest = max([furthest, *(abs(slope * t + start - ahead) for slope, start in found)])
        assert clock.bound == pytest.approx(float(furthest), abs=4)
        assert furthest <= clock.bound


@given(
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(-(10**6), 10**6)), min_size=1),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(-(10**6), 10**6)), min_size=1),
)
@example(above=[(359_999, -357)], below=[(0, 0), (3_000, 0)])
def test_any_points_give_a_clock_within_its_contradiction(above, below):
    clock = two_ways(bounds(above), bounds(below))
    assert abs(clock.drift) <= FASTEST_DRIFT * (1 + 1e-9)
    assert clock.low <= clock.offset <= clock.high
    # no point is beyond the line by more than half of the contradiction and the bound
    for points, sign in ((above, 1), (below, -1)):
        for t, v in points:
            ahead = int(clock.ahead(np.array([t]))[0])
            assert sign * (ahead - v) <= clock.contradiction / 2 + clock.bound


@given(
    st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 10**7)), min_size=1, max_size=60),
    st.booleans(),
)
def test_the_envelope_is_on_one_side_of_all_points(points, above):
    clock = one_way(bounds(points), above=above)
    sign = 1 if above else -1
    for t, v in points:
        assert sign * (v - int(clock.ahead(np.array([t]))[0])) >= 0
    assert abs(clock.drift) <= FASTEST_ENVELOPE
    assert (clock.low is None) == above == (clock.high is not None)


def test_envelope_by_hand():
    # all 16 points are on the hull; their mean time is between those of k = 7 and k = 8
    clock = one_way(bounds([(k * 100_000, 100 + k * k) for k in range(16)]), above=True)
    assert clock.at == 750_000
    assert clock.drift == pytest.approx(15 / 100_000)
    assert clock.high == pytest.approx(156.5, abs=2)  # between 149 and 164
    assert clock.high - 3 <= clock.offset <= clock.high


def test_delays_that_do_not_always_rise_are_no_drift():
    # the fastest are 100 ns, 40 ns more, and 10 ns less than that at last
    values = [100, 102, 110, 120, 125, 128, 140, 130]
    points = [(k * 100_000 + i, v + 7 * i) for k, v in enumerate(values) for i in range(4)]
    clock = one_way(bounds(points), above=True)
    assert (clock.drift, clock.offset) == (0.0, pytest.approx(100, abs=2))


def test_a_drift_of_none_is_taken_if_it_is_possible_or_frames_are_few():
    times = np.arange(40) * 1_000_000
    for gained, n, drift in ((0, 40, 0.0), (20, 40, 0.0), (400, 40, 4e-4), (400, 10, 0.0)):
        true = 5_000 + times[:n] * gained // 1_000_000
        clock = two_ways(Points(times[:n], true + 600), Points(times[:n], true - 600))
        assert clock.drift == pytest.approx(drift, rel=0.02)
        assert clock.slowest < gained / 1e6 < clock.fastest
        for t, ahead in zip(times[:n], true, strict=True):
            assert abs(int(clock.ahead(np.array([t]))[0]) - ahead) <= clock.bound


def test_clock_fitted_to_300_000_points_stays_within_its_error_bound():
    rng = np.random.default_rng(5)
    times = rng.integers(0, 3_600 * 10**9, 300_000)
    true = 5 * 10**12 - times // 20_000
    above = Points(times, true + 10_000 + rng.exponential(10**6, len(times)).astype(int))
    below = Points(times, true - 10_000 - rng.exponential(10**6, len(times)).astype(int))
    clock = two_ways(above, below)
    assert clock.bound < 12_000
    for t in (0, clock.at, 3_600 * 10**9):
        assert abs(int(clock.ahead(np.array([t]))[0]) - (5 * 10**12 - t / 20_000)) <= clock.bound
