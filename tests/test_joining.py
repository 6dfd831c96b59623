import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from traces import contents, mic

from latprof import AUDIO, Pipeline
from latprof.errors import TraceError
from latprof.frames import CAME_TWICE, FINISHED, LOST_IN_TRANSIT, MISSING, NO_SIZE
from latprof.joining.join import join
from latprof.trace import Trace

LINK = Pipeline("link", ("start", "sent", "arrived", "end"))


def sender(ids, start=None, **optional):
    """Return what a sender records: start as given (default: 100 times the id), sent 1 later."""
    start = np.array([100 * i for i in ids] if start is None else start, np.int64)
    meta = {"owns": ["start", "sent"], **optional.pop("meta", {})}
    marks = {"start": start, "sent": start + 1}
    return Trace(LINK, frame_id=ids, marks=marks, meta=meta, **optional)


def player(ids, arrived=None, **optional):
    """Return what a player records: arrived as given (default: 100 x id + 5), end 1 later."""
    arrived = np.array([100 * i + 5 for i in ids] if arrived is None else arrived, np.int64)
    meta = {"owns": ["arrived", "end"], **optional.pop("meta", {})}
    marks = {"arrived": arrived, "end": arrived + 1}
    return Trace(LINK, frame_id=ids, marks=marks, meta=meta, **optional)


def rows(trace):
    """Return (id, the marks or None, outcome) by row."""
    marks = [[None if t == MISSING else t for t in ns.tolist()] for ns in trace.marks.values()]
    outcomes = trace.outcome.to_numpy().tolist()
    return list(zip(trace.frame_id.tolist(), *marks, outcomes, strict=True))


def counts(trace):
    told = trace.meta["join"]
    return {name: told[name] for name in told if isinstance(told[name], int) and told[name]}


def test_what_matches_and_what_does_not():
    whole = join([sender([1, 2, 3]), player([2, 4])])
    assert rows(whole) == [
        (1, 100, 101, None, None, LOST_IN_TRANSIT),
        (2, 200, 201, 205, 206, FINISHED),
        (3, 300, 301, None, None, LOST_IN_TRANSIT),
        (4, None, None, 405, 406, FINISHED),
    ]
    assert counts(whole) == {"matched": 1, "lost_in_transit": 2, "without_origin": 1}
    assert whole.meta["owns"] == list(LINK.marks)
    assert whole.meta["lost"] == 0


def test_the_order_of_recordings_does_not_matter():
    a, b = sender([3, 1, 2], size=[30, 10, 20]), player([2, 4], size=7)
    there, back = join([a, b]), join([b, a])
    assert contents(there) == contents(back)
    # the sender comes first along the pipeline: its sizes are taken
    assert there.size.tolist() == [10, 20, 30, 7]
    assert [part["name"] for part in back.meta["join"]["parts"]] == ["recording 2", "recording 1"]


def test_rows_are_by_start():
    # frame 5 has no start: its arrival counts
    whole = join([sender([9, 1, 7], start=[50, 10, 30]), player([5, 9, 1], arrived=[20, 60, 70])])
    assert whole.frame_id.tolist() == [1, 5, 7, 9]


def test_a_frame_is_known_by_id_and_source():
    a = sender([1, 1, 2], source=["in", "out", "in"])
    b = player([1, 1, 2], arrived=[7, 8, 9], source=["out", "in", "out"])
    whole = join([a, b])
    named = zip(whole.source.to_numpy().tolist(), rows(whole), strict=True)
    assert sorted(named) == [
        ("in", (1, 100, 101, 8, 9, FINISHED)),
        ("in", (2, 200, 201, None, None, LOST_IN_TRANSIT)),
        ("out", (1, 100, 101, 7, 8, FINISHED)),
        ("out", (2, None, None, 9, 10, FINISHED)),
    ]


def test_without_sources_the_id_alone_counts():
    whole = join([sender([1, 2], source=["in", "out"]), player([1, 2])])
    assert counts(whole) == {"matched": 2}
    assert whole.source.to_numpy().tolist() == ["in", "out"]
    silent = player([1, 2], source=[None, None])
    assert counts(join([sender([1, 2], source=["in", "out"]), silent])) == {"matched": 2}
    # a recording without frames says nothing about sources
    assert counts(join([sender([1, 1], source=["in", "out"]), player([])])) == {
        "lost_in_transit": 2
    }


def test_sources_that_are_needed():
    with pytest.raises(TraceError) as caught:
        join([player([7]), sender([7, 7], source=["in", "out"])])
    assert str(caught.value) == (
        "recording 2 has frame 7 of two sources and recording 1 does not say which it has: "
        "record source= in both"
    )


def test_a_frame_without_a_source_is_one_of_its_own():
    whole = join([sender([1, 1], source=["in", None]), player([1, 2], source=[None, "in"])])
    assert counts(whole) == {"matched": 1, "lost_in_transit": 1, "without_origin": 1}


def test_what_came_twice_is_kept():
    # the player got frame 2 twice; the earlier row is joined, though it stands later
    whole = join([sender([1, 2]), player([2, 1, 2], arrived=[250, 105, 205], outcome=FINISHED)])
    assert rows(whole) == [
        (1, 100, 101, 105, 106, FINISHED),
        (2, 200, 201, 205, 206, FINISHED),
        (2, None, None, 250, 251, CAME_TWICE),
    ]
    assert counts(whole) == {"matched": 2, "came_twice": 1}


def test_what_came_twice_and_was_dropped_keeps_its_reason():
    b = player([2, 2, 2], arrived=[1, 2, 3], outcome=["finished", "duplicate", None])
    whole = join([sender([2, 2], start=[0, 9]), b])
    assert sorted(rows(whole), key=str) == [
        (2, 0, 1, 1, 2, FINISHED),
        (2, 9, 10, None, None, CAME_TWICE),
        (2, None, None, 2, 3, "duplicate"),
        (2, None, None, 3, 4, CAME_TWICE),
    ]


def test_outcomes_come_from_the_owner_of_end():
    a = sender([1, 2, 3, 4], outcome=["late", "late", None, FINISHED])
    b = player([1, 3], outcome=["underrun", None])
    whole = join([a, b])
    assert whole.outcome.to_numpy().tolist() == ["underrun", "late", FINISHED, LOST_IN_TRANSIT]
    # frame 2 was dropped before it was sent: nothing was lost in transit
    assert counts(whole) == {"matched": 2, "dropped": 1, "lost_in_transit": 1}


def test_three_recordings():
    def part(mark, ids):
        return Trace(LINK, frame_id=ids, marks={mark: [10 * i for i in ids]})

    whole = join(
        [
            part("end", [1, 3, 4]),
            part("start", [1, 2, 3, 5]),
            Trace(
                LINK,
                frame_id=[1, 2, 4, 6],
                marks={"sent": [11, 21, 41, 61], "arrived": [12, 22, 42, 62]},
            ),
        ]
    )
    assert rows(whole) == [
        (1, 10, 11, 12, 10, FINISHED),
        (2, 20, 21, 22, None, LOST_IN_TRANSIT),
        (3, 30, None, None, 30, FINISHED),
        (4, None, 41, 42, 40, FINISHED),
        (5, 50, None, None, None, LOST_IN_TRANSIT),
        (6, None, 61, 62, None, LOST_IN_TRANSIT),
    ]
    assert counts(whole) == {
        "matched": 1,
        "skipped": 1,
        "lost_in_transit": 3,
        "without_origin": 1,
    }


def test_one_recording_is_itself():
    trace = mic(3)
    whole = join([trace])
    assert whole.marks["end"].tolist() == trace.marks["end"].tolist()
    assert counts(whole) == {"matched": 3}


def test_recordings_without_frames():
    whole = join([sender([]), player([])])
    assert len(whole) == 0
    assert counts(whole) == {}


# -- clocks ---------------------------------------------------------------------------------------


def test_same_boot_compares_monotonic_stamps():
    # monotonic 100 and 105; the player read a wall clock that was 3 ns ahead of the sender's
    a = sender([1], start=[1100], meta={"clock_offset_ns": 1000, "boot_id": "x"})
    b = player([1], arrived=[1108], meta={"clock_offset_ns": 1003, "boot_id": "x"})
    for whole in (join([a, b]), join([b, a])):
        assert rows(whole) == [(1, 1100, 1101, 1105, 1106, FINISHED)]
        assert whole.meta["join"]["clock"] == "same boot"
        assert whole.meta["clock_offset_ns"] == 1000
        assert whole.meta["boot_id"] == "x"
    assert b.marks["arrived"].tolist() == [1108]  # what was given stays


@pytest.mark.parametrize(
    "meta",
    [
        {"clock_offset_ns": 1003, "boot_id": "y"},
        {"clock_offset_ns": 1003},
        {"boot_id": "x"},
        {},
    ],
)
def test_other_boots_are_joined_on_wall_clocks(meta):
    a = sender([1], start=[1100], meta={"clock_offset_ns": 1000, "boot_id": "x"})
    whole = join([a, player([1], arrived=[1108], meta=meta)])
    assert rows(whole) == [(1, 1100, 1101, 1108, 1109, FINISHED)]
    assert whole.meta["join"]["clock"] == "wall clock"
    assert "clock_offset_ns" not in whole.meta


def test_nothing_known_about_clocks():
    assert join([sender([1]), player([1])]).meta["join"]["clock"] == "as given"


# -- the rest -------------------------------------------------------------------------------------


def test_values_come_from_the_first_that_has_them():
    a = sender([1, 2], size=[10, None], cpu=[np.nan, 2.0], rss=[0, 7], tags={"room": ["x", None]})
    b = player([1, 2, 3], size=[11, 21, 31], cpu=[5, 6, 7], rss=[8, 9, 0], weight=[1, 1, 4])
    b.columns.tags = {"room": a.tags["room"][[1, 0, 1]], "count": np.array([5, 6, 7])}
    whole = join([a, b])
    assert whole.size.tolist() == [10, 21, 31]
    assert whole.cpu.tolist() == [5, 2, 7]
    assert whole.rss.tolist() == [8, 7, 0]
    assert whole.weight.tolist() == [1, 1, 4]
    assert whole.tags["room"].to_numpy().tolist() == ["x", "x", None]
    assert whole.tags["count"].tolist() == [5, 6, 7]
    whole = join([sender([1, 2]), player([2], size=[5], weight=[3])])
    assert whole.size.tolist() == [NO_SIZE, 5]
    assert whole.weight.tolist() == [1, 3]


@pytest.mark.parametrize(
    ("first", "second", "joined"),
    [
        ([1, 2], [7, 9], [1, 2, 9]),
        ([1.5, None], [7, 9], [1.5, 7.0, 9.0]),
        ([1, 2], [7.5, None], [1.0, 2.0, None]),
        ([2**53 + 1, 2], [7.5, 9.5], ["9007199254740993", "2", "9.5"]),
        ([True, False], [True, True], [True, False, True]),
        (["a", None], [7, 9], ["a", "7", "9"]),
        ([True, False], [7, 9], ["true", "false", "9"]),
    ],
)
def test_tags_of_different_types(first, second, joined):
    whole = join([sender([1, 2], tags={"room": first}), player([2, 3], tags={"room": second})])
    assert contents(whole)["room"] == joined


def test_tags_that_only_some_frames_have():
    stamps = np.array([5], "M8[ns]")
    a = sender([1, 2])
    b = player([2], tags={"n": [7], "big": [2**60 + 1], "ok": [True], "at": stamps, "s": ["x"]})
    found = contents(join([a, b]))
    assert found["n"] == [None, 7.0]
    assert found["big"] == [None, str(2**60 + 1)]
    assert found["ok"] == [None, "true"]
    assert found["at"] == [MISSING, 5]
    assert found["s"] == [None, "x"]


def test_meta_of_the_whole():
    a = sender([1], meta={"pid": 1, "host": "h", "lost": 2, "run": {"ppm": 5}, "odd": [1]})
    b = player([1], meta={"pid": 2, "host": "h", "lost": 3, "run": {"fast": True}, "odd": [2]})
    meta = join([a, b]).meta
    told = meta.pop("join")
    assert meta == {
        "host": "h",
        "lost": 5,
        "owns": list(LINK.marks),
        "run": {"ppm": 5, "fast": True},
    }
    assert told["parts"] == [
        {
            "name": "recording 1",
            "rows": 1,
            "owns": ["start", "sent"],
            "pid": 1,
            "host": "h",
            "lost": 2,
        },
        {
            "name": "recording 2",
            "rows": 1,
            "owns": ["arrived", "end"],
            "pid": 2,
            "host": "h",
            "lost": 3,
        },
    ]


def test_files_are_joined_and_the_whole_can_be_saved(tmp_path):
    sender([1, 2]).save(tmp_path / "a.parquet")
    whole = join([tmp_path / "a.parquet", player([1])])
    whole.save(tmp_path / "whole.parquet")
    assert whole.meta["join"]["parts"][0]["name"] == str(tmp_path / "a.parquet")
    again = join([str(tmp_path / "whole.parquet")])
    assert contents(again)["start"] == [100, 200]


# -- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recordings", "reason"),
    [
        ([], "no recordings were given; pass at least one trace or file"),
        ([sender([1]), mic(1)], "recording 2 is of 'mic' and recording 1 of 'link'"),
        ([sender([1]), sender([2])], "mark 'start' has two owners, recording 1 and recording 2"),
        ([sender([1]), 7], "a recording must be a Trace or a path, got int"),
        (
            [sender([1], meta={"sampling_rate": 0.1}), player([1], meta={"sampling_rate": 1.0})],
            "recording 1 was recorded at sampling rate 0.1, recording 2 at 1.0",
        ),
        ([sender([1], meta={"sampling_rate": 0.1}), player([1])], "recording 2 at 1.0"),
        ([Trace(LINK, frame_id=[1], marks={})], "no recording has a mark of pipeline 'link'"),
        (sender([1]), "join takes a list"),
        ("a.parquet", "join takes a list"),
        (["missing.parquet"], "missing.parquet: file not found"),
    ],
)
def test_what_cannot_be_joined(recordings, reason):
    with pytest.raises(TraceError, match=reason):
        join(recordings)


def test_one_sampling_rate_is_kept():
    meta = {"sampling_rate": 0.25}
    assert join([sender([1], meta=meta), player([1], meta=meta)]).meta["sampling_rate"] == 0.25


# -- against a loop -------------------------------------------------------------------------------

IDS = st.lists(st.tuples(st.integers(0, 4), st.sampled_from(["a", "b", None])), max_size=8)


@settings(deadline=None)
@given(IDS, IDS, st.randoms(use_true_random=False))
def test_join_is_that_of_a_loop(first, second, random):
    def recording(make, keys):
        times = random.sample(range(100), len(keys))
        trace = make([key[0] for key in keys], times, source=[key[1] for key in keys])
        return trace, list(zip(keys, times, strict=True))

    a, sent = recording(sender, first)
    b, played = recording(player, second)
    if all(name is None for _, name in first) and first and any(name for _, name in second):
        return  # then sources do not count: tested above
    if all(name is None for _, name in second) and second and any(name for _, name in first):
        return
    whole = join([a, b])
    expected = []
    keys = {key for key, _ in sent} | {key for key, _ in played}
    for key in keys:
        starts = sorted(t for k, t in sent if k == key)
        ends = sorted(t for k, t in played if k == key)
        joined = (starts[0] if starts else None, ends[0] if ends else None)
        expected.append((*key, *joined, FINISHED if ends else LOST_IN_TRANSIT))
        expected += [(*key, t, None, CAME_TWICE) for t in starts[1:]]
        expected += [(*key, None, t, CAME_TWICE) for t in ends[1:]]
    sources = [None] * len(whole) if whole.source is None else whole.source.to_numpy().tolist()
    found = [
        (i, source, start, arrived, outcome)
        for source, (i, start, _, arrived, _, outcome) in zip(sources, rows(whole), strict=True)
    ]
    assert sorted(found, key=str) == sorted(expected, key=str)
    told = whole.meta["join"]
    assert sum(counts(whole).values()) == len(whole) == len(expected)
    assert told["came_twice"] == len(expected) - len(keys)


def test_many_frames_are_joined_quickly():
    # no time is asserted; a loop over frames would be noticed
    n = 200_000
    ids = np.arange(n, dtype=np.uint64)
    start = np.arange(n) * 20_000_000
    a = Trace(AUDIO, frame_id=ids, marks={"start": start}, source="input")
    b = Trace(AUDIO, frame_id=ids[::-1], marks={"end": start[::-1] + 7}, source="input")
    whole = join([a, b])
    assert np.all(whole.span("end_to_end") == 7)
