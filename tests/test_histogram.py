import math
import re
from fractions import Fraction

import numpy as np
import oracle
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from needs import require

from latprof.errors import ProfileError
from latprof.histogram import ERROR_BOUND, Histogram, bin_edges, bin_of, rank_of

LAST = 2**63 - 2
EXACT_BELOW = 1_024

# any size of number equally often, and many beside powers of two, where bins and floats change
sizes = st.integers(0, 63).flatmap(lambda e: st.integers(2**e // 2, min(2**e - 1, LAST)))
near_powers = st.builds(
    lambda e, d: min(max(2**e + d, 0), LAST), st.integers(0, 63), st.integers(-1100, 1100)
)
values_ns = st.integers(0, 3) | sizes | near_powers | st.integers(0, LAST)
arrays = st.lists(values_ns, min_size=1, max_size=40)
percents = st.sampled_from([0, 0.1, 1, 5, 25, 50, 75, 90, 95, 99, 99.9, 99.99, 100]) | st.floats(
    0, 100
)


def filled(values, weights=None):
    histogram = Histogram()
    histogram.add(np.array(values, np.int64), weights)
    return histogram


def one_bin(value):
    return int(bin_of(np.array([value], np.float64))[0])


# -- bins ---------------------------------------------------------------------------------------


def test_each_small_integer_has_a_bin_of_its_own():
    bins = bin_of(np.arange(2 * EXACT_BELOW, dtype=np.float64))
    assert len(set(bins.tolist())) == 2 * EXACT_BELOW
    assert bins[0] == 0
    assert bins[1] == 1
    assert (np.diff(bins) > 0).all()


@given(values_ns)
@example(0)
@example(2**53 - 1)
@example(2**60 - 100)
@example(2**60 - 64)
@example(2**60 - 65)
@example(2**53)
@example(2**53 + 1)
@example(2**62 - 257)
@example(2**62 - 256)
@example(2**63 - 513)
@example(2**63 - 512)
@example(LAST)
def test_bin_edges_are_the_smallest_and_largest_integer_of_the_bin(value):
    place = one_bin(value)
    low, high = (int(edge) for edge in bin_edges(place))
    assert low <= value <= high
    assert one_bin(low) == place
    assert one_bin(high) == place
    assert low == 0 or one_bin(low - 1) < place
    assert high == LAST or one_bin(high + 1) > place


@given(values_ns, values_ns)
def test_bins_are_in_the_order_of_the_values(a, b):
    if a <= b:
        assert one_bin(a) <= one_bin(b)


def test_each_octave_has_1024_bins():
    for e in range(10, 63):
        assert one_bin(2 ** (e + 1)) - one_bin(2**e) == 1024


def test_one_percentile_and_several():
    counted = filled(range(1, 1_001))
    assert counted.percentile(99.9) == 999
    assert counted.percentiles([50, 99.9]) == [500, 999]


# -- ranks --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("q", "count", "rank"),
    [
        (99.9, 1_000, 999),  # 0.999 * 1000 is 999.0000000000001 or so in some forms
        (99.9, 1_001, 1_000),
        (55, 100, 55),  # 0.55 * 100 = 55.00000000000001
        (7, 100, 7),  # 0.07 * 100 = 7.000000000000001
        (28, 25, 7),
        (0.1, 1_000, 1),
        (0, 7, 1),
        (50, 7, 4),
        (50, 8, 4),
        (100, 8, 8),
        (99.99, 10**18, 9_999 * 10**14),
        (np.float64(99.9), 1_000, 999),
        (np.float32(99.9), 1_000, 999),
        (np.int64(50), 7, 4),
        (5e-324, 10**6, 1),
    ],
)
def test_rank(q, count, rank):
    assert rank_of(q, count) == rank


@given(st.integers(0, 100_000), st.integers(1, 10**7))
def test_rank_of_every_thousandth(thousandths, count):
    assert rank_of(thousandths / 1000, count) == max(
        1, math.ceil(Fraction(thousandths * count, 100_000))
    )


def test_a_percentile_must_be_a_number_from_0_to_100():
    numbers = (-0.1, 100.1, -1, 101, math.nan, math.inf, -math.inf)
    for q in (*numbers, "x", "", "99", b"99", None, True, [50], 1j):
        said = re.escape(f"percentile must be a number from 0 to 100, got {q!r}; for example 99.9")
        with pytest.raises(ProfileError, match=said):
            rank_of(q, 10)
        with pytest.raises(ProfileError, match=said):
            filled([1, 2]).percentiles([50, q])
        with pytest.raises(ProfileError, match=said):
            Histogram().value_at(q)


# -- percentiles --------------------------------------------------------------------------------


def test_the_stated_error_is_at_most_a_twentieth_of_a_percent():
    assert ERROR_BOUND == 0.0005


@given(arrays, percents)
def test_percentile_is_within_its_error_of_the_order_statistic(values, q):
    exact = oracle.percentile(values, q)
    histogram = filled(values)
    got = histogram.value_at(q)
    assert type(got) is int
    assert abs(got - exact) <= Fraction(5, 10_000) * exact
    if exact < EXACT_BELOW:
        assert got == exact
    assert histogram.min <= got <= histogram.max
    low, high = histogram.bounds_at(rank_of(q, len(values)))
    assert low <= exact <= high


@given(arrays)
def test_every_rank_is_inside_its_bounds(values):
    histogram = filled(values)
    for rank, exact in enumerate(sorted(values), 1):
        low, high = histogram.bounds_at(rank)
        assert low <= exact <= high
        assert min(values) <= low
        assert high <= max(values)
        assert high - low <= Fraction(1, 1000) * exact
    for rank in (0, -1, len(values) + 1):
        said = rf"number of values \({len(values)}\), got {rank}$"
        with pytest.raises(ProfileError, match=said):
            histogram.bounds_at(rank)


@given(arrays)
def test_count_min_and_max_are_exact(values):
    histogram = filled(values)
    assert (histogram.count, histogram.min, histogram.max) == (
        len(values),
        min(values),
        max(values),
    )
    assert histogram.value_at(0) == min(values)
    assert histogram.value_at(100) == max(values)


@given(arrays, st.lists(percents, min_size=2, max_size=5))
def test_percentiles_are_monotone(values, qs):
    got = filled(values).percentiles(sorted(qs))
    assert got == sorted(got)


def test_zero_and_one_have_different_bins():
    histogram = filled([0, 0, 1, 1, 1])
    assert [histogram.value_at(q) for q in (20, 40, 41, 100)] == [0, 0, 1, 1]
    assert list(histogram) == [(0, 0, 2), (1, 1, 3)]
    assert histogram.rank(0) == (0.4, 0.4)


def test_small_values_are_exact_beside_large_ones():
    histogram = filled([*range(EXACT_BELOW), LAST])
    for i in range(EXACT_BELOW):
        assert histogram.bounds_at(i + 1) == (i, i)


# -- rank ---------------------------------------------------------------------------------------


@given(arrays, values_ns | st.sampled_from([-1, -(2**70), LAST + 1, 2**70]))
def test_rank_bounds_hold_the_share_at_or_below(values, value):
    histogram = filled(values)
    low, high = histogram.rank(value)
    truth = sum(v <= value for v in values) / len(values)
    assert low <= truth <= high
    in_its_bin = sum(one_bin(v) == one_bin(value) for v in values) if 0 <= value <= LAST else 0
    assert high - low <= in_its_bin / len(values) + 1e-12
    if value < EXACT_BELOW:
        assert low == high


def test_rank_of_values_between_those_that_were_counted():
    histogram = filled([4096, 4097, 4098, 5000])
    assert histogram.rank(4095) == (0, 0)
    low, high = histogram.rank(4098)
    assert low <= 0.75 <= high
    assert histogram.rank(4099) == (0.75, 0.75)  # the last integer of the bin
    assert histogram.rank(5000) == (1, 1)


def test_rank_of_no_values():
    with pytest.raises(ProfileError, match="the histogram must contain values, got none"):
        Histogram().rank(5)


# -- iteration ----------------------------------------------------------------------------------


@given(arrays)
def test_iteration_gives_each_filled_bin_once_and_in_order(values):
    rows = list(filled(values))
    assert sum(n for _, _, n in rows) == len(values)
    for low, high, n in rows:
        assert n == sum(low <= v <= high for v in values) > 0
    for (_, high, _), (low, _, _) in zip(rows, rows[1:], strict=False):  # noqa: RUF007
        assert high < low
    assert list(Histogram()) == []


# -- laws of merging ----------------------------------------------------------------------------


@given(arrays, st.lists(st.integers(0, 2), min_size=40, max_size=40))
def test_merging_parts_in_any_order_gives_the_whole(values, places):
    parts = [Histogram(), Histogram(), Histogram()]
    for value, place in zip(values, places, strict=False):
        parts[place].add([value])
    a, b, c = parts
    whole = filled(values)
    for order in ((a, b, c), (c, a, b), (b, c, a), (c, b, a)):
        merged = Histogram()
        for part in order:
            merged.merge(part)
        assert merged == whole
        assert list(merged) == list(whole)
    right = b.copy()
    right.merge(c)
    left = a.copy()
    left.merge(right)
    assert left == whole
    assert sum(part.count for part in parts) == whole.count  # the parts are as they were


@given(arrays)
def test_an_empty_histogram_is_neutral(values):
    whole, empty = filled(values), Histogram()
    merged = whole.copy()
    merged.merge(empty)
    empty.merge(whole)
    assert merged == empty == whole
    assert Histogram() == Histogram()
    assert Histogram() != whole
    assert (Histogram() == 5) is False


def test_merging_with_itself_counts_twice():
    histogram = filled([1, 5, 5])
    histogram.merge(histogram)
    assert histogram == filled([1, 5, 5, 1, 5, 5])


def test_a_copy_is_independent():
    histogram = filled([1])
    same = histogram.copy()
    same.add([2, 3])
    assert histogram == filled([1])
    with pytest.raises(TypeError, match="unhashable"):
        hash(histogram)


def test_histograms_with_equal_count_min_and_max_may_differ():
    assert filled([1, 5, 9]) != filled([1, 6, 9])


# -- weights ------------------------------------------------------------------------------------


@given(st.lists(st.tuples(values_ns, st.integers(1, 50)), min_size=1, max_size=20))
def test_weights_repeat_values(pairs):
    values, weights = zip(*pairs, strict=True)
    repeated = [value for value, weight in pairs for _ in range(weight)]
    weighted = filled(values, np.array(weights, np.uint32))
    assert weighted == filled(repeated)
    assert weighted.count == len(repeated)


def test_heavy_weights_are_exact():
    heavy = filled([7] * 1_000 + [9], [2**32 - 1] * 1_000 + [1])
    assert heavy.count == 1_000 * (2**32 - 1) + 1
    assert list(heavy) == [(7, 7, 1_000 * (2**32 - 1)), (9, 9, 1)]


def test_weights_must_be_integers_of_1_or_more():
    histogram = filled([4])
    short, negative, texts = [[1], [1, 2, 3], [[1, 2]]], [[1, -1], [0, 1]], [["a", "b"]]
    for weights in (*short, *negative, *texts, [0.5, 1.5], [True, True]):
        with pytest.raises(ProfileError, match="weights must be 2 integers of 1 or more, got"):
            histogram.add([5, 6], weights)
        assert histogram == filled([4])


# -- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ([0.5], "float64 and shape"),
        ([1.0, 2.0], "values must be a 1-D array of integer"),
        (["5"], "values must be a 1-D array"),
        ([True], "bool"),
        (5, r"shape \(\)"),
        ([[5, 6]], r"shape \(1, 2\)"),
        (np.array([5], "m8[ns]"), "timedelta64"),
        ([10**30], "object"),
        ([3, -1], r"values must be from 0 to 2\*\*63 - 2 ns, got -1; leave"),
        ([3, 2**63 - 1], f"got {2**63 - 1};"),
        (np.array([2**64 - 1], np.uint64), f"got {2**64 - 1};"),
        (np.array([-(2**63)]), f"got -{2**63};"),
    ],
)
def test_wrong_values_are_refused_and_nothing_is_counted(wrong, said):
    histogram = filled([4])
    with pytest.raises(ProfileError, match=said):
        histogram.add(wrong)
    assert histogram == filled([4])


@pytest.mark.parametrize("kind", ["i1", "u1", "i2", "u4", "i8", "u8", ">i8"])
def test_any_integer_type_is_taken(kind):
    histogram = Histogram()
    histogram.add(np.array([3, 100, 7], kind)[::-1])
    assert list(histogram) == [(3, 3, 1), (7, 7, 1), (100, 100, 1)]


def test_an_empty_histogram_has_no_percentiles():
    histogram = Histogram()
    histogram.add([])
    histogram.add(np.array([], np.int64))
    assert (histogram.count, histogram.min, histogram.max) == (0, None, None)
    assert histogram.value_at(50) is None
    assert histogram.percentiles([0, 99]) == [None, None]
    assert histogram == Histogram()


def test_repr_shows_count_min_and_max():
    assert repr(filled([3, 4_000])) == "<Histogram of 2 values, 3 to 4000 ns>"


# -- other libraries ---------------------------------------------------------------------------


def test_a_histogram_follows_the_protocol_of_python_histogram_libraries():
    histogram = Histogram()
    histogram.add(np.array([0, 1, 3, 3, 5000]))
    assert isinstance(histogram, require("uhi.typing.plottable").PlottableHistogram)
    (axis,) = histogram.axes
    edges = list(axis)
    assert len(axis) == len(edges) == len(histogram.values())
    assert edges[0] == (0.0, 1.0)
    assert all(low < high for low, high in edges)
    assert [high for _, high in edges[:-1]] == [low for low, _ in edges[1:]]
    filled = {axis[int(i)]: n for i, n in enumerate(histogram.values()) if n}
    assert list(filled.values()) == [1, 1, 2, 1]
    assert all(low <= v < high for (low, high), v in zip(filled, (0, 1, 3, 5000), strict=True))
    assert histogram.counts().tolist() == histogram.variances().tolist()
    assert (histogram.kind, axis.traits.circular, axis.traits.discrete) == ("COUNT", False, False)
