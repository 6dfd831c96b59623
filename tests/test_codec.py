"""Dataclasses as JSON and back: every kind of field, and what a changed file is refused for."""

import base64
import json
import zlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Annotated, Generic, TypeVar

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import BARE

from latprof.arrays import Bounds, Count, Counts, FrameId, Ids, Ints, Length, Mask, Stamp
from latprof.errors import ProfileError
from latprof.pipeline import Pipeline
from latprof.profile.codec import CORRUPT, Decoder, encode

T = TypeVar("T")


@dataclass(eq=False)
class Inner:
    values: Ints
    ids: Ids = field(default_factory=lambda: np.zeros(0, np.uint64))
    flags: Mask = field(default_factory=lambda: np.zeros(0, np.bool_))


@dataclass
class Box(Generic[T]):
    content: T | None
    several: list[T]


@dataclass(frozen=True, order=True)
class Name:
    first: str
    last: str = ""


@dataclass
class Outer:
    pipeline: Pipeline
    count: Count = 0
    level: float = 0.0
    name: str | None = None
    on: bool = False
    pair: tuple[int, str] = (0, "")
    edges: tuple[Stamp, ...] = ()
    segments: set[tuple[int, int]] = field(default_factory=set)
    by_name: dict[Name, Count] = field(default_factory=dict)
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)
    rates: Counter[Annotated[float, Bounds(1e-9, 1)]] = field(default_factory=Counter)
    nested: "dict[str, Outer]" = field(default_factory=dict)
    box: Box[Name] = field(default_factory=lambda: Box(None, []))
    derived: int = field(default=0, init=False)

    def __post_init__(self):
        self.derived = 2 * self.count


def through_json(value):
    return json.loads(json.dumps(encode(value), allow_nan=False))


def back(value, hint=None):
    return Decoder(BARE).decode(hint or type(value), through_json(value))


def test_every_kind_of_field_comes_back():
    value = Outer(
        BARE,
        2**127,
        1.5,
        "\ud800\x1b",
        True,
        (-(2**100), "x"),
        (5, -7),
        {(3, 4), (1, 2)},
        {Name("a", "b"): 3, Name("a"): 4},
        Counter({("late", "end"): 7}),
        Counter({0.25: 5}),
        {"inner": Outer(BARE, name=None)},
        Box(Name("c"), [Name("d"), Name("e")]),
    )
    again = back(value)
    assert again == value
    assert again.derived == 2**128
    assert type(again.reasons) is Counter
    assert list(again.by_name) == list(value.by_name)
    assert "derived" not in through_json(value)
    assert "pipeline" not in through_json(value)


arrays = st.lists(st.integers(-(2**63), 2**63 - 1) | st.just(0), max_size=40)


@given(arrays, st.integers(0, 200))
def test_arrays_come_back(values, zeros):
    integers = np.array(values + [0] * zeros, np.int64)
    value = Inner(integers, integers.view(np.uint64), integers > 5)
    again = back(value)
    for name in ("values", "ids", "flags"):
        mine, theirs = getattr(value, name), getattr(again, name)
        assert mine.dtype == theirs.dtype
        assert np.array_equal(mine, theirs)


def test_arrays_of_two_dimensions_come_back():
    for shape in [(0, 5), (3, 0), (3, 50)]:
        value = np.zeros(shape, np.int64)
        value[1:2, 3:4] = 7
        again = back(value, npt.NDArray[np.int64])
        assert again.shape == shape
        assert np.array_equal(again, value)


def test_arrays_of_integers_of_any_size_come_back():
    exact = npt.NDArray[np.int64] | npt.NDArray[np.object_]
    for value in (np.array([3, 4]), np.array([2**100, 0, 5], object)):
        again = back(value, exact)
        assert again.dtype == value.dtype
        assert again.tolist() == value.tolist()
    for integers in ([1.5], [2**200], ["1"], [1, 2], None):
        with pytest.raises(ProfileError, match="field 'x' must"):
            Decoder(None).decode(exact, {"shape": [1], "integers": integers}, "x")


def test_arrays_that_are_mostly_0_or_grow_steadily_are_small():
    sparse = np.zeros(60_000, np.int64)
    sparse[[5, 40_000]] = 10**15
    assert len(json.dumps(encode(sparse))) < 200
    assert len(json.dumps(encode(np.arange(0, 10**12, 20_000_000)))) < 1_000


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"count": -1}, "field 'count' must be from 0 to 3.4e+38, got -1; the file is corrupt"),
        ({"count": 10**400}, "field 'count' must be from 0 to"),
        ({"count": True}, "field 'count' must be an integer, got True"),
        ({"count": 1.0}, "field 'count' must be an integer, got 1.0"),
        ({"level": "1"}, "field 'level' must be a number, got '1'"),
        ({"level": float("inf")}, "field 'level' must be from"),
        ({"level": 10**400}, "field 'level' must be from"),
        ({"name": 7}, "field 'name' must be text, got 7"),
        ({"on": 1}, "field 'on' must be true or false, got 1"),
        ({"pair": [1]}, "field 'pair' must be a list of 2 values, got a list of 1"),
        ({"edges": [2**62]}, "field 'edges' must be from"),
        ({"segments": {}}, "field 'segments' must be a list, got a mapping of 0"),
        ({"by_name": [[1]]}, "field 'by_name' must be a mapping, got a list of 1"),
        ({"by_name": [["a", 1]]}, "field 'by_name' must have the entries first, last, got 'a'"),
        ({"reasons": [[["a", "b"], -1]]}, "must be from 0 to"),
        ({"rates": [[5e-324, 1]]}, "field 'rates' must be from 1e-09 to 1, got 5e-324"),
        ({"nested": {"a\x1b": {}}}, r"field 'nested.a\x1b' must have the entries count, level"),
        ({"box": {"content": None, "several": [{}]}}, "field 'box.several' must have the entries"),
        ({"other": 1}, "must have the entries count, level"),
    ],
)
def test_values_of_another_kind_or_out_of_bounds_name_the_field(change, said):
    content = through_json(Outer(BARE)) | change
    with pytest.raises(ProfileError) as caught:
        Decoder(BARE).decode(Outer, content)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(f"; {CORRUPT}")


def test_arrays_that_were_changed_are_refused():
    good = encode(np.array([0] * 20 + [3, 0, 5]))
    few = encode(np.array([1, 2]))
    bomb = encode(np.zeros(10**6, np.int64))
    limited = Annotated[Ints, Length(1_000), Bounds(0, 4, total=6)]
    for content, hint in [
        ([1, 2], Ints),
        ({}, Ints),
        ({"shape": [2]}, Ints),
        (few | {"shape": [3]}, Ints),
        (few | {"shape": [1]}, Ints),
        (few | {"shape": [10**4000, 10**4000]}, Ints),
        (few | {"shape": [-1, -2]}, Ints),
        (few | {"shape": [True, 2]}, Ints),
        (few | {"shape": 2}, Ints),
        (few | {"values": "?"}, Ints),
        (few | {"values": "AAAA"}, Ints),
        (few | {"values": few["values"] + few["values"]}, Ints),
        (few | {"values": 7}, Ints),
        (few | {"more": 7}, Ints),
        (good | {"at": good["values"]}, Annotated[Ints, Length(4)]),
        (good | {"shape": [21]}, Ints),
        (good | {"values": few["values"], "at": encode(np.array([4, 4]))["values"]}, Ints),
        (good | {"values": few["values"], "at": encode(np.array([4, 2]))["values"]}, Ints),
        (good | {"values": few["values"], "at": encode(np.array([-1, 2]))["values"]}, Ints),
        (bomb, Ints),
        (good, limited),
        (encode(np.array([3, 3])), limited),
        (encode(np.array([-1, 3])), limited),
        (encode(np.array([2**62, 2**62])), Counts),
        (few, Mask),
    ]:
        with pytest.raises(ProfileError, match=r"field 'x' must .*; the file is corrupt"):
            Decoder(None).decode(hint, content, "x")


def test_arrays_together_have_a_bound(monkeypatch):
    monkeypatch.setattr("latprof.profile.codec.MOST_ELEMENTS_OF_ALL", 100)
    content = [encode(np.zeros(60, np.int64))] * 2
    with pytest.raises(ProfileError, match="field 'x' must have at most"):
        Decoder(None).decode(list[Ints], content, "x")


def test_a_rule_of_the_dataclass_is_an_error_of_the_field():
    @dataclass
    class Even:
        n: FrameId

        def __post_init__(self):
            if self.n % 2:
                raise ValueError("n must be even")

    with pytest.raises(ProfileError, match="field 'a': n must be even; the file is corrupt"):
        Decoder(None).decode(Even, {"n": 3}, "a")


@dataclass
class Packed:
    numbers: tuple[int, ...]

    def unpacked(self):
        return Pairs([*zip(self.numbers[::2], self.numbers[1::2], strict=True)])


@dataclass
class Pairs:
    pairs: list[tuple[int, int]]

    def packed(self) -> Packed:
        return Packed(tuple(n for pair in self.pairs for n in pair))


def test_a_dataclass_may_be_saved_as_another_one_and_earlier_files_have_its_own_fields():
    pairs = Pairs([(1, 2), (3, 4)])
    assert encode({"a": pairs}) == {"a": {"numbers": [1, 2, 3, 4]}}
    assert back({"a": pairs}, dict[str, Pairs]) == {"a": pairs}
    assert Decoder(None).decode(Pairs, {"pairs": [[1, 2], [3, 4]]}) == pairs
    for wrong in ({"numbers": [1, "x"]}, {"numbers": 1}, {"pairs": 1}, {}, [], None):
        with pytest.raises(ProfileError, match="field 'x"):
            Decoder(None).decode(Pairs, wrong, "x")


def test_arrays_of_earlier_files_are_read():
    # differences of [3, 1, 1, 7], byte plane by byte plane, as files without ":" have them
    planes = np.array([3, -2, 0, 6], "<i8").view(np.uint8).reshape(-1, 8).T.tobytes()
    content = {"shape": [2, 2], "values": base64.b64encode(zlib.compress(planes)).decode()}
    found = Decoder(None).decode(npt.NDArray[np.int64], content)
    assert found.tolist() == [[3, 1], [1, 7]]


def test_counts_take_little_more_than_their_information():
    # Poisson counts of mean 400 have log2(sqrt(2 pi e 400)) = 6.4 bits, their differences 6.9
    counts = np.random.default_rng(0).poisson(400, (64, 300))
    assert len(encode(counts)["values"]) * 6 / counts.size < 9
    assert Decoder(None).decode(npt.NDArray[np.int64], encode(counts)).tolist() == counts.tolist()
