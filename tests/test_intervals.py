"""Intervals of percentiles against printed tables, the binomial, and known queues."""

import math

import numpy as np
import pytest
from strategies import BARE, simple

from latprof.errors import ProfileError
from latprof.fold.intervals import Percentile, frames_needed, t_quantile
from latprof.frames import Columns
from latprof.profile.profile import Profile

# upper 2.5 % points of Student's t, as printed in every table of it
T_TABLE = {31: 2.0395, 40: 2.0211, 50: 2.0086, 60: 2.0003, 63: 1.9983, 100: 1.9840, 1000: 1.9623}


def profiled(values, weight=None):
    """Return the profile of frames 1 ms apart."""
    n = len(values)
    start = np.arange(n) * 1_000_000
    marks = {"start": start, "end": start + np.asarray(values, np.int64)}
    profile = Profile(BARE)
    profile.add(Columns(np.arange(n, dtype=np.uint64), marks, weight=weight))
    return profile["end_to_end"]


def draws(n, seed):
    return (np.random.default_rng(seed).standard_exponential(n) * 1e6).astype(np.int64)


def queue(n, load, seed):
    """Return how long each of n frames is in a queue with one server (M/M/1), ns."""
    rng = np.random.default_rng(seed)
    between = rng.standard_exponential(n) / load
    service = rng.standard_exponential(n)
    # Lindley's recursion, solved: waiting is how far the sum is above its lowest so far
    walk = np.concatenate([[0], np.cumsum(service[:-1] - between[1:])])
    waiting = walk - np.minimum.accumulate(walk)
    return ((waiting + service) * 1e6).astype(np.int64)


# -- the parts ----------------------------------------------------------------------------------


def test_t_quantile_agrees_with_printed_tables():
    for df, printed in T_TABLE.items():
        assert t_quantile(df) == pytest.approx(printed, abs=1e-4)


def test_t_quantile_approaches_the_normal_quantile_from_above():
    found = [t_quantile(df) for df in range(31, 500)]
    assert found == sorted(found, reverse=True)
    assert t_quantile(10**9) == pytest.approx(1.959964, abs=1e-6)


@pytest.mark.parametrize("q", [0.1, 1, 10, 25, 50, 75, 90, 95, 99, 99.9, 99.99])
def test_frames_needed_is_the_smallest_sufficient_number(q):
    n = frames_needed(q)
    p = max(q, 100 - q) / 100
    # all n frames lie on one side of the percentile in at most 2.5 % of cases
    assert p**n <= 0.025 < p ** (n - 1)
    assert n == frames_needed(100 - q)


# -- too few ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("q", "n", "needed"),
    [(99.9, 500, "3,688"), (99, 367, "368"), (50, 5, "6"), (1, 367, "368"), (99.99, 9, "36,887")],
)
def test_with_too_few_frames_the_note_says_how_many_are_needed(q, n, needed):
    for independent in (False, True):
        known = profiled(draws(n, 1)).percentile(q, independent=independent)
        assert (known.low, known.high, known.effective) == (None, None, None)
        assert known.note == f"too few frames for p{q:g}: {n:,}, at least {needed} needed"
        assert known.value is not None


def test_the_note_names_the_percentile_as_it_was_asked_for():
    assert "for p99.99999: 5," in profiled(draws(5, 1)).percentile(99.99999).note


def test_frames_in_too_few_time_batches_have_no_interval():
    # 1,000 frames at one moment: it is not known how they depend on each other
    rows = [(0, 1_000 + i) for i in range(1_000)]
    profile = Profile(BARE)
    profile.add(simple(BARE, rows))
    known = profile["end_to_end"].percentile(50)
    assert known.value == 1_499
    assert (known.low, known.high) == (None, None)
    assert known.note == "1 time batch, at least 32 needed; record longer"
    known = profile["end_to_end"].percentile(50, independent=True)
    assert known.low <= 1_499 <= known.high


def test_slow_frames_in_a_row_reduce_the_effective_sample_size():
    # 1.2 % of the frames are slow, all of them in a row
    values = np.full(10_000, 1_000)
    values[5_000:5_120] = 50_000
    known = profiled(values).percentile(99)
    assert known.effective < 1_000
    assert (known.low, known.high) == (1_000, 50_000)
    # the same frames in random order
    values = values[np.random.default_rng(1).permutation(10_000)]
    assert profiled(values).percentile(99).effective > 5_000


def test_the_note_gives_the_effective_sample_size_of_dependent_frames():
    values = queue(5_000, 0.95, 2)
    known = profiled(values).percentile(99.9)
    assert (known.low, known.high) == (None, None)
    assert known.note.startswith("too few frames for p99.9: 5,000, at least ")
    said = f"because frames depend on each other (effective sample size {known.effective:,.0f})"
    assert known.note.endswith(said)
    assert known.effective < 2_000
    needed = int(known.note.partition("at least ")[2].partition(" ")[0].replace(",", ""))
    assert needed > 5_000
    assert profiled(values).percentile(99.9, independent=True).low is not None


# -- ends ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 5_000])
def test_smallest_and_largest_value_are_exact(n):
    values = draws(n, 4)
    for q, exact in ((0, values.min()), (100, values.max())):
        known = profiled(values).percentile(q)
        assert (known.value, known.low, known.high) == (exact, exact, exact)
        assert known.note == "exact"


def test_a_percentile_must_be_a_number_from_0_to_100():
    for q in (-1, 100.1, math.nan, math.inf, "x", "99", None, [99]):
        with pytest.raises(ProfileError, match="percentile must be a number from 0 to 100, got"):
            profiled(draws(5, 1)).percentile(q)


def test_a_span_without_values_has_no_percentile():
    known = Profile(BARE)["end_to_end"].percentile(99)
    assert (known.value, known.low, known.high, known.effective) == (None, None, None, None)
    assert known.note == "no frame has this span"


def test_the_interval_of_equal_values_is_that_value():
    known = profiled(np.full(5_000, 77)).percentile(99)
    assert (known.low, known.value, known.high) == (77, 77, 77)
    assert known.effective == 5_000


@pytest.mark.parametrize("q", [1, 5, 50, 95, 99.5])
@pytest.mark.parametrize("load", [None, 0.9])
def test_the_interval_contains_the_value_and_is_between_min_and_max(q, load):
    for seed in range(5):
        values = draws(20_000, seed) if load is None else queue(20_000, load, seed)
        known = profiled(values).percentile(q)
        if known.low is not None:
            assert values.min() <= known.low <= known.value <= known.high <= values.max()
            plain = profiled(values).percentile(q, independent=True)
            # the independent one is the narrower
            assert known.low <= plain.low <= plain.high <= known.high


# -- effective sample size -----------------------------------------------------------------------


@pytest.mark.parametrize("q", [50, 90, 99])
def test_the_effective_sample_size_of_independent_frames_is_their_number(q):
    worth = [profiled(draws(20_000, seed)).percentile(q).effective for seed in range(10)]
    # the mean of 33 to 64 squares, cut off at 1, is not far above it
    assert 15_000 < np.mean(worth) <= 20_000
    assert max(worth) == 20_000


@pytest.mark.parametrize(("load", "most"), [(0.5, 0.5), (0.8, 0.15), (0.9, 0.05)])
def test_the_effective_sample_size_of_frames_that_queue_is_smaller(load, most):
    worth = [profiled(queue(30_000, load, seed)).percentile(90).effective for seed in range(5)]
    assert np.mean(worth) < most * 30_000


def test_a_weighted_row_counts_as_one_independent_frame():
    values = draws(10_000, 3)
    known = profiled(values, np.full(10_000, 10, np.uint32)).percentile(90)
    assert known.value == profiled(values).percentile(90).value
    # ten copies of each frame: 100,000 values that are worth the 10,000
    assert 7_000 < known.effective < 13_000
    alone = profiled(values).percentile(90)
    assert known.low == pytest.approx(alone.low, rel=0.01)
    assert known.high == pytest.approx(alone.high, rel=0.01)


# -- coverage -----------------------------------------------------------------------------------


def covered(values_of, truth, q, seeds, *, independent=False):
    """Return the share of intervals that hold the true percentile."""
    found = 0
    for seed in range(seeds):
        known = profiled(values_of(seed)).percentile(q, independent=independent)
        found += known.low is not None and known.low <= truth <= known.high
    return found / seeds


@pytest.mark.parametrize("q", [50, 99])
def test_both_intervals_contain_the_true_percentile_of_independent_frames(q):
    truth = -math.log(1 - q / 100) * 1e6
    for independent in (False, True):
        share = covered(lambda seed: draws(5_000, seed), truth, q, 100, independent=independent)
        assert share >= 0.95 - 4 * math.sqrt(0.95 * 0.05 / 100)


@pytest.mark.parametrize(("load", "least"), [(0.5, 0.85), (0.8, 0.8)])
def test_only_the_interval_for_dependent_frames_contains_that_of_a_queue(load, least):
    # sojourn in M/M/1 is exponential with mean 1 / (1 - load) services
    truth = -math.log(0.01) / (1 - load) * 1e6
    share = covered(lambda seed: queue(30_000, load, seed), truth, 99, 40)
    plain = covered(lambda seed: queue(30_000, load, seed), truth, 99, 40, independent=True)
    assert share >= least
    assert plain < 0.6


def test_str_of_a_percentile_shows_its_interval_or_why_there_is_none():
    known = Percentile(99, 2_000_000, 1_900_000, 2_100_000)
    assert str(known) == "p99 2.00 ms (1.90 ms to 2.10 ms with 95 % confidence)"
    assert str(Percentile(99.9, 5, note="too few")) == "p99.9 5 ns (no interval: too few)"
