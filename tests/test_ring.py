"""The ring: commit numbers, slots, what a reader sees, names, and rows as columns."""

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rings import claim, write
from strategies import examples, pipelines

from latprof.errors import ProfilerError
from latprof.frames import MISSING, NO_SIZE
from latprof.pipeline import AUDIO, Pipeline
from latprof.ring.layout import row_dtype
from latprof.ring.names import OTHER_NAME, NameTable
from latprof.ring.ring import Ring, row_struct, storable, to_columns

MIC = Pipeline.chain("mic", "decode")  # marks start, decode, end


def filled(capacity: int, frames: int) -> Ring:
    """Return a ring that frames 1, 2, ... were written to; frame n starts at 100 n."""
    ring = Ring(MIC, capacity)
    for n in range(1, frames + 1):
        write(ring, claim(ring), n, (100 * n, 100 * n + 30, 100 * n + 70), size=n, source=0)
    return ring


def test_rows_are_packed_like_the_dtype() -> None:
    for pipeline, tags in itertools.product((MIC, AUDIO), ((), ("a",), ("a", "b"))):
        size = row_dtype(pipeline, tags).itemsize
        assert row_struct(len(pipeline.marks), len(tags)).size == size
    assert row_dtype(AUDIO).itemsize == row_dtype(AUDIO, ("a", "b")).itemsize - 8 == 112
    ring = Ring(MIC, 1)
    source, outcome = ring.sources.code("input"), ring.outcomes.code("late")
    write(
        ring,
        claim(ring),
        2**64 - 1,
        (1, 0, 2**62 - 1),
        size=5,
        source=source,
        outcome=outcome,
        rss=9,
    )
    (row,) = ring.read(0).rows
    assert row["frame_id"] == 2**64 - 1
    assert [int(row[mark]) for mark in MIC.marks] == [1, 0, 2**62 - 1]
    assert (row["size"], row["source"], row["outcome"], row["rss"]) == (5, source, outcome, 9)
    assert (row["begin"], row["seq"], row["weight"]) == (1, 1, 1)
    assert np.isnan(row["cpu"])


def test_a_full_ring_holds_the_newest_capacity_frames() -> None:
    for capacity, frames in itertools.product((1, 2, 3, 7, 64), (0, 1, 2, 3, 6, 7, 8, 64, 100)):
        found = filled(capacity, frames).read(0)
        kept = min(capacity, frames)
        assert found.rows["frame_id"].tolist() == list(range(frames - kept + 1, frames + 1))
        assert found.overwritten == frames - kept
        assert found.pending == []
        assert (found.first, found.last) == (1, frames)


@settings(max_examples=examples(60), deadline=None)
@given(
    capacity=st.integers(1, 9),
    frames=st.integers(0, 30),
    after=st.integers(0, 32),
    limit=st.none() | st.integers(1, 12),
)
def test_read_gives_rows_above_a_number(
    capacity: int, frames: int, after: int, limit: int | None
) -> None:
    found = filled(capacity, frames).read(after, limit)
    there = [n for n in range(frames - min(capacity, frames) + 1, frames + 1) if n > after]
    expected = there[:limit]
    assert found.rows["seq"].tolist() == expected
    last = expected[-1] if expected else frames
    assert found.last == last
    assert found.overwritten == max(0, last - after - len(expected))


@settings(max_examples=examples(60), deadline=None)
@given(capacity=st.integers(1, 6), order=st.permutations(range(1, 9)))
def test_rows_may_be_written_in_any_order(capacity: int, order: list[int]) -> None:
    # each slot keeps what was written to it last, whatever its number
    ring = Ring(MIC, capacity)
    for _ in order:
        claim(ring)
    slots: dict[int, int] = {}
    for number in order:
        write(ring, number, number, (1, 1, 1))
        slots[(number - 1) % capacity] = number
    newest = range(8 - capacity + 1, 9)
    found = ring.read(0)
    assert found.rows["seq"].tolist() == [n for n in newest if slots[(n - 1) % capacity] == n]
    assert sorted([*found.rows["seq"].tolist(), *found.pending]) == sorted(
        n for n in newest if slots[(n - 1) % capacity] <= n
    )
    assert found.overwritten + len(found.pending) + len(found.rows) == 8


def test_a_claimed_number_is_pending_until_it_is_written() -> None:
    ring = filled(4, 2)
    late = claim(ring)
    write(ring, claim(ring), 4, (1, 2, 3))
    found = ring.read(0)
    assert found.rows["frame_id"].tolist() == [1, 2, 4]
    assert (found.pending, found.overwritten, found.last) == ([late], 0, 4)
    assert ring.is_torn(late)
    write(ring, late, 3, (1, 2, 3))
    again = ring.read_numbers(found.pending)
    assert again.rows["frame_id"].tolist() == [3]
    assert again.pending == []
    assert not ring.is_torn(late)


def test_a_writer_a_lap_late_overwrites_a_newer_row() -> None:
    ring = Ring(MIC, 2)
    late = claim(ring)
    for n in (2, 3):
        write(ring, claim(ring), n, (1, 2, 3))
    assert ring.read(0).rows["frame_id"].tolist() == [2, 3]
    write(ring, late, 1, (1, 2, 3))  # slot of 1 and 3
    found = ring.read(0)
    # 3 may be on its way still, as far as the reader can tell; 1 is out of range
    assert found.rows["frame_id"].tolist() == [2]
    assert (found.pending, found.overwritten) == ([3], 1)
    assert not ring.is_torn(3)  # a whole row, an older one


def test_numbers_far_apart_are_read_from_their_own_slots() -> None:
    # slots 0, 4 and 2: the first and the last are as far apart as three consecutive ones
    ring = filled(10, 25)
    found = ring.read_numbers([1, 15, 23])
    assert found.rows["seq"].tolist() == [23]
    assert found.overwritten == 2
    ring = filled(10, 23)
    assert ring.read_numbers([15, 23]).rows["seq"].tolist() == [15, 23]
    assert ring.read_numbers([14, 20, 16]).rows["seq"].tolist() == [14, 16, 20]
    assert ring.read_numbers([11, 15, 23]).rows["seq"].tolist() == [15, 23]


def test_a_torn_row_is_not_read() -> None:
    ring = filled(2, 2)
    ring.array["seq"][1] = 0
    found = ring.read(0)
    assert found.rows["frame_id"].tolist() == [1]
    assert found.pending == [2]
    assert ring.is_torn(2)
    ring.array["begin"][0] = 3  # a newer writer has begun
    assert ring.read(0).overwritten == 1


def test_many_rows_are_written_at_once() -> None:
    ring = filled(5, 3)
    block = np.zeros(4, ring.dtype)
    block["frame_id"] = [4, 5, 6, 7]
    ring.write_rows(block)
    assert ring.read(0).rows["frame_id"].tolist() == [3, 4, 5, 6, 7]
    assert ring.read(0).rows["seq"].tolist() == [3, 4, 5, 6, 7]
    assert block["seq"].tolist() == [0, 0, 0, 0]  # the caller's array is left alone
    ring.write_rows(np.zeros(12, ring.dtype))  # longer than the ring
    assert ring.read(0).rows["seq"].tolist() == [15, 16, 17, 18, 19]
    assert ring.claimed == 19


def test_invalid_capacities_are_refused() -> None:
    odd: list[Any] = [0, -1, 2**31 + 1, 1.5, "9", None, True, "9" * 70_000]
    for capacity in odd:
        with pytest.raises(
            ProfilerError, match="capacity must be an integer between 1 and"
        ) as info:
            Ring(MIC, capacity)
        assert len(str(info.value)) < 200


# -- names ----------------------------------------------------------------------------------------


def test_names_after_the_table_is_full_share_one_code() -> None:
    names = NameTable(None, limit=5)  # none, three names, and the last code for all the others
    assert [names.code(name) for name in ("a", "b", "c", "d", "e", "a")] == [1, 2, 3, 4, 4, 1]
    assert names.table == [None, "a", "b", "c", OTHER_NAME]
    assert names.overflowed == 2
    codes = np.array([0, 4, 2], np.uint16)
    assert names.labels(codes).to_numpy().tolist() == [None, OTHER_NAME, "b"]


def test_a_full_table_has_65534_names() -> None:
    names = NameTable(None, most_bytes=2**23)
    codes = [names.code(str(n)) for n in range(65_534)]
    assert codes[-1] == 65_534
    assert names.overflowed == 0
    assert names.code("one more") == names.code("another") == 65_535
    assert names.overflowed == 2


def test_names_that_look_alike_in_the_table_are_one_label() -> None:
    names = NameTable(None)
    codes = [names.code(name) for name in ("\ud800", "\\ud800", "a")]
    labels = names.labels(np.array([*codes, codes[0]], np.uint16))
    assert labels.counts() == {"\\ud800": 3, "a": 1}


def test_names_are_bounded_in_bytes() -> None:
    # an entry of the log has 12 bytes more than the name, up to the next multiple of 8
    names = NameTable(None, most_bytes=24 + 3 * 32)  # "(others)" takes 24 bytes
    texts = [f"a source named {n}" for n in range(5)]
    assert [names.code(text) for text in texts] == [1, 2, 3, 65_535, 65_535]
    assert names.code(texts[1]) == 2
    assert (names.overflowed, names.table[65_535]) == (2, OTHER_NAME)


def test_names_that_are_too_long_are_cut_and_stay_apart() -> None:
    names = NameTable(None)
    codes = [names.code(text) for text in ("x" * 10**6, "x" * 10**6 + "y", "x" * 10**6)]
    assert codes == [1, 2, 1]
    assert names.clipped == 3
    cut = [str(name) for name in names.table[1:]]
    assert all(len(name) == 1_000 and name.startswith("x" * 980) for name in cut)
    assert cut[0] != cut[1]
    assert max(len(str(name)) for name in names.codes) == 1_000


def test_labels_of_used_names_have_no_others() -> None:
    names = NameTable(None)
    for n in range(100):
        names.code(str(n))
    codes = np.array([5, 0, 99, 5], np.uint32)
    labels = names.labels_used(codes)
    assert labels.to_numpy().tolist() == names.labels(codes).to_numpy().tolist()
    assert labels.to_numpy().tolist() == ["4", None, "98", "4"]
    assert sorted(labels.names) == ["4", "98"]
    assert len(names.labels_used(codes[:0])) == 0


def test_lone_surrogates_are_escaped() -> None:
    names = NameTable("finished")
    names.code("\ud800")
    assert names.table == ["finished", "\\ud800"]


# -- columns --------------------------------------------------------------------------------------


def test_columns_hold_utc_stamps_and_missing_values() -> None:
    ring = Ring(MIC, 3)
    late = ring.outcomes.code("late")
    write(ring, claim(ring), 7, (100, 0, 170), size=9, source=ring.sources.code("input"))
    write(ring, claim(ring), 8, (200, 0, 270), outcome=late)
    columns = to_columns(ring.read(0).rows, ring, 10**18)
    assert columns.frame_id.tolist() == [7, 8]
    assert columns.marks["start"].tolist() == [10**18 + 100, 10**18 + 200]
    assert columns.marks["decode"].tolist() == [MISSING, MISSING]
    assert columns.complete == {"start", "end"}
    assert columns.size is not None
    assert columns.size.tolist() == [9, NO_SIZE]
    assert columns.source is not None
    assert columns.source.to_numpy().tolist() == ["input", None]
    assert columns.outcome is not None
    assert columns.outcome.to_numpy().tolist() == ["finished", "late"]
    assert columns.rss is not None
    assert columns.rss.tolist() == [0, 0]


def test_tags_are_columns() -> None:
    ring = Ring(MIC, 3, tags=("endpoint", "status"))
    cart = ring.tags[0].code("/cart")
    ok = ring.tags[1].code("200")
    write(ring, claim(ring), 7, (100, 0, 170), tags=(cart, ok))
    write(ring, claim(ring), 8, (200, 0, 270), tags=(0, ok))
    columns = to_columns(ring.read(0).rows, ring, 0)
    assert {name: tag.to_numpy().tolist() for name, tag in columns.tags.items()} == {
        "endpoint": ["/cart", None],
        "status": ["200", "200"],
    }


def test_invalid_tags_are_refused() -> None:
    for tags, reason in [
        ("endpoint", "tags must be a list of names, got 'endpoint'"),
        (7, "tags must be a list of names, got 7"),
        (("a", 7), "tags must be a list of names"),
        (("a", "a"), "at most 16 different names"),
        ([f"t{n}" for n in range(17)], "at most 16 different names"),
        (("source",), "must not be a reserved name"),
        (("decode",), "must not be a mark"),
        (("a b",), "must be an identifier"),
        (("a", "A"), "must differ from"),
    ]:
        with pytest.raises(ProfilerError, match=reason):
            Ring(MIC, 3, tags=tags)  # type: ignore[arg-type]


def test_columns_are_copies() -> None:
    ring = filled(2, 2)
    columns = to_columns(ring.read(0).rows, ring, 0)
    write(ring, claim(ring), 3, (1, 2, 3))
    assert columns.frame_id.tolist() == [1, 2]


def test_rows_are_not_changed_by_their_columns() -> None:
    for frames in (1, 2):
        ring = filled(4, frames)
        rows = ring.read(0).rows
        before = rows.tobytes()
        to_columns(rows, ring, 10**18)
        assert rows.tobytes() == before


def test_stamps_of_2_to_the_62_and_more_are_not_storable() -> None:
    ring = Ring(MIC, 4)
    for stamp in (2**62 - 1, 2**62, 2**63 - 1, 2**64 - 1):
        write(ring, claim(ring), 1, (1, stamp, 3))
    found = storable(ring.read(0).rows, MIC)
    assert found is not None
    assert found.tolist() == [True, False, False, False]
    assert storable(ring.read(0).rows[:1], MIC) is None


def test_row_is_112_bytes_for_8_marks():
    dtype = row_dtype(AUDIO)
    assert dtype.itemsize == 112
    assert dtype.names == (
        *("begin", "frame_id", *AUDIO.marks),
        *("rss", "size", "source", "outcome", "cpu", "weight", "seq"),
    )
    kinds = [dtype[name].str for name in ("begin", "frame_id", "start", "end", "rss", "size")]
    assert kinds == ["<u8", "<u8", "<i8", "<i8", "<u8", "<u4"]
    kinds = [dtype[name].str for name in ("source", "outcome", "cpu", "weight", "seq")]
    assert kinds == ["<u2", "<u2", "<f4", "<u4", "<u8"]
    assert dtype.fields["seq"][1] == 104


@given(pipelines())
def test_rows_are_aligned(pipeline):
    dtype = row_dtype(pipeline)
    for name in dtype.names:
        kind, offset = dtype.fields[name][:2]
        assert offset % kind.itemsize == 0
    assert dtype.itemsize % 8 == 0
