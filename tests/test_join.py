import time

import numpy as np
import pytest
from hosts import LINK
from hypothesis import given, settings
from hypothesis import strategies as st
from traces import contents, mic

from latprof import AUDIO, Profiler, recover
from latprof.errors import TraceError
from latprof.frames import CAME_TWICE, FINISHED, LOST_IN_TRANSIT, MISSING, NO_SIZE
from latprof.joining.join import join
from latprof.trace import Trace


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
    found = trace.meta["join"]
    return {name: found[name] for name in found if isinstance(found[name], int) and found[name]}


def test_matched_and_unmatched_frames_are_counted():
    joined = join([sender([1, 2, 3]), player([2, 4])])
    assert rows(joined) == [
        (1, 100, 101, None, None, LOST_IN_TRANSIT),
        (2, 200, 201, 205, 206, FINISHED),
        (3, 300, 301, None, None, LOST_IN_TRANSIT),
        (4, None, None, 405, 406, FINISHED),
    ]
    assert counts(joined) == {"matched": 1, "lost_in_transit": 2, "without_origin": 1}
    assert joined.meta["owns"] == list(LINK.marks)
    assert joined.meta["lost"] == 0


def test_order_of_recordings_does_not_matter():
    a, b = sender([3, 1, 2], size=[30, 10, 20]), player([2, 4], size=7)
    there, back = join([a, b]), join([b, a])
    assert contents(there) == contents(back)
    # the sender comes first along the pipeline: its sizes are taken
    assert there.size.tolist() == [10, 20, 30, 7]
    assert [part["name"] for part in back.meta["join"]["parts"]] == ["recording 2", "recording 1"]


def test_joined_rows_are_sorted_by_start():
    # frame 5 has no start: its arrival counts
    joined = join([sender([9, 1, 7], start=[50, 10, 30]), player([5, 9, 1], arrived=[20, 60, 70])])
    assert joined.frame_id.tolist() == [1, 5, 7, 9]


def test_frames_are_matched_by_id_and_source():
    a = sender([1, 1, 2], source=["in", "out", "in"])
    b = player([1, 1, 2], arrived=[7, 8, 9], source=["out", "in", "out"])
    joined = join([a, b])
    named = zip(joined.source.to_numpy().tolist(), rows(joined), strict=True)
    assert sorted(named) == [
        ("in", (1, 100, 101, 8, 9, FINISHED)),
        ("in", (2, 200, 201, None, None, LOST_IN_TRANSIT)),
        ("out", (1, 100, 101, 7, 8, FINISHED)),
        ("out", (2, None, None, 9, 10, FINISHED)),
    ]


def test_frames_are_matched_by_id_if_a_recording_has_no_sources():
    joined = join([sender([1, 2], source=["in", "out"]), player([1, 2])])
    assert counts(joined) == {"matched": 2}
    assert joined.source.to_numpy().tolist() == ["in", "out"]
    silent = player([1, 2], source=[None, None])
    assert counts(join([sender([1, 2], source=["in", "out"]), silent])) == {"matched": 2}
    # a recording without frames says nothing about sources
    assert counts(join([sender([1, 1], source=["in", "out"]), player([])])) == {
        "lost_in_transit": 2
    }


def test_missing_sources_that_are_needed_are_refused():
    with pytest.raises(TraceError) as caught:
        join([player([7]), sender([7, 7], source=["in", "out"])])
    assert str(caught.value) == (
        "frame 7 must have one source as recording 1 has no sources, got two in recording 2; "
        "record source= in both"
    )


def test_a_frame_without_a_source_matches_none_with_a_source():
    joined = join([sender([1, 1], source=["in", None]), player([1, 2], source=[None, "in"])])
    assert counts(joined) == {"matched": 1, "lost_in_transit": 1, "without_origin": 1}


def test_a_repeated_frame_keeps_a_row_of_its_own():
    # the player got frame 2 twice; the earlier row is joined, though it stands later
    joined = join([sender([1, 2]), player([2, 1, 2], arrived=[250, 105, 205], outcome=FINISHED)])
    assert rows(joined) == [
        (1, 100, 101, 105, 106, FINISHED),
        (2, 200, 201, 205, 206, FINISHED),
        (2, None, None, 250, 251, CAME_TWICE),
    ]
    assert counts(joined) == {"matched": 2, "came_twice": 1}


def test_a_repeated_frame_that_was_dropped_keeps_its_reason():
    b = player([2, 2, 2], arrived=[1, 2, 3], outcome=["finished", "duplicate", None])
    joined = join([sender([2, 2], start=[0, 9]), b])
    assert sorted(rows(joined), key=str) == [
        (2, 0, 1, 1, 2, FINISHED),
        (2, 9, 10, None, None, CAME_TWICE),
        (2, None, None, 2, 3, "duplicate"),
        (2, None, None, 3, 4, CAME_TWICE),
    ]


def test_outcomes_are_those_of_the_owner_of_end():
    a = sender([1, 2, 3, 4], outcome=["late", "late", None, FINISHED])
    b = player([1, 3], outcome=["underrun", None])
    joined = join([a, b])
    assert joined.outcome.to_numpy().tolist() == ["underrun", "late", FINISHED, LOST_IN_TRANSIT]
    # frame 2 was dropped before it was sent: nothing was lost in transit
    assert counts(joined) == {"matched": 2, "dropped": 1, "lost_in_transit": 1}


def test_three_recordings_are_joined():
    def part(mark, ids):
        return Trace(LINK, frame_id=ids, marks={mark: [10 * i for i in ids]})

    joined = join(
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
    assert rows(joined) == [
        (1, 10, 11, 12, 10, FINISHED),
        (2, 20, 21, 22, None, LOST_IN_TRANSIT),
        (3, 30, None, None, 30, FINISHED),
        (4, None, 41, 42, 40, FINISHED),
        (5, 50, None, None, None, LOST_IN_TRANSIT),
        (6, None, 61, 62, None, LOST_IN_TRANSIT),
    ]
    assert counts(joined) == {
        "matched": 1,
        "skipped": 1,
        "lost_in_transit": 3,
        "without_origin": 1,
    }


def test_a_single_recording_stays_as_it_is():
    trace = mic(3)
    joined = join([trace])
    assert joined.marks["end"].tolist() == trace.marks["end"].tolist()
    assert counts(joined) == {"matched": 3}


def test_recordings_without_frames_are_joined():
    joined = join([sender([]), player([])])
    assert len(joined) == 0
    assert counts(joined) == {}


# -- clocks ---------------------------------------------------------------------------------------


def test_recordings_of_one_boot_compare_monotonic_stamps():
    # monotonic 100 and 105; the player read a wall clock that was 3 ns ahead of the sender's
    a = sender([1], start=[1100], meta={"clock_offset_ns": 1000, "boot_id": "x"})
    b = player([1], arrived=[1108], meta={"clock_offset_ns": 1003, "boot_id": "x"})
    for joined in (join([a, b]), join([b, a])):
        assert rows(joined) == [(1, 1100, 1101, 1105, 1106, FINISHED)]
        assert joined.meta["join"]["clock"] == "same boot"
        assert joined.meta["clock_offset_ns"] == 1000
        assert joined.meta["boot_id"] == "x"
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
def test_recordings_of_other_boots_are_joined_on_wall_clocks(meta):
    a = sender([1], start=[1100], meta={"clock_offset_ns": 1000, "boot_id": "x"})
    joined = join([a, player([1], arrived=[1108], meta=meta)])
    assert rows(joined) == [(1, 1100, 1101, 1108, 1109, FINISHED)]
    assert joined.meta["join"]["clock"] == "wall clock"
    assert "clock_offset_ns" not in joined.meta


def test_recordings_without_a_clock_are_joined_as_given():
    assert join([sender([1]), player([1])]).meta["join"]["clock"] == "as given"


# -- the rest -------------------------------------------------------------------------------------


def test_values_come_from_the_first_recording_that_has_them():
    a = sender([1, 2], size=[10, None], cpu=[np.nan, 2.0], rss=[0, 7], tags={"room": ["x", None]})
    b = player([1, 2, 3], size=[11, 21, 31], cpu=[5, 6, 7], rss=[8, 9, 0], weight=[1, 1, 4])
    b.columns.tags = {"room": a.tags["room"][[1, 0, 1]], "count": np.array([5, 6, 7])}
    joined = join([a, b])
    assert joined.size.tolist() == [10, 21, 31]
    assert joined.cpu.tolist() == [5, 2, 7]
    assert joined.rss.tolist() == [8, 7, 0]
    assert joined.weight.tolist() == [1, 1, 4]
    assert joined.tags["room"].to_numpy().tolist() == ["x", "x", None]
    assert joined.tags["count"].tolist() == [5, 6, 7]
    joined = join([sender([1, 2]), player([2], size=[5], weight=[3])])
    assert joined.size.tolist() == [NO_SIZE, 5]
    assert joined.weight.tolist() == [1, 3]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
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
def test_tags_of_different_types_are_joined(first, second, expected):
    joined = join([sender([1, 2], tags={"room": first}), player([2, 3], tags={"room": second})])
    assert contents(joined)["room"] == expected


def test_tags_of_only_some_frames_are_joined():
    stamps = np.array([5], "M8[ns]")
    a = sender([1, 2])
    b = player([2], tags={"n": [7], "big": [2**60 + 1], "ok": [True], "at": stamps, "s": ["x"]})
    found = contents(join([a, b]))
    assert found["n"] == [None, 7.0]
    assert found["big"] == [None, str(2**60 + 1)]
    assert found["ok"] == [None, "true"]
    assert found["at"] == [MISSING, 5]
    assert found["s"] == [None, "x"]


def test_metadata_is_joined():
    a = sender([1], meta={"pid": 1, "host": "h", "lost": 2, "run": {"ppm": 5}, "odd": [1]})
    b = player([1], meta={"pid": 2, "host": "h", "lost": 3, "run": {"fast": True}, "odd": [2]})
    meta = join([a, b]).meta
    found = meta.pop("join")
    assert meta == {
        "host": "h",
        "lost": 5,
        "owns": list(LINK.marks),
        "run": {"ppm": 5, "fast": True},
    }
    assert found["parts"] == [
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


def test_files_are_joined_and_the_result_can_be_saved(tmp_path):
    sender([1, 2]).save(tmp_path / "a.parquet")
    joined = join([tmp_path / "a.parquet", player([1])])
    joined.save(tmp_path / "joined.parquet")
    assert joined.meta["join"]["parts"][0]["name"] == str(tmp_path / "a.parquet")
    again = join([str(tmp_path / "joined.parquet")])
    assert contents(again)["start"] == [100, 200]


# -- errors ------------------------------------------------------------------------------


def refusal(recordings):
    """Return the message of the error that `join` raises, which has one line."""
    with pytest.raises(TraceError) as caught:
        join(recordings)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 600
    return message


def test_recordings_that_do_not_fit_each_other_are_refused():
    slow = {"sampling_rate": 0.1}
    for recordings, message in (
        ([sender([1]), mic(1)], "recording 2 is of 'mic' and recording 1 of 'link'"),
        (
            [sender([1]), sender([2])],
            "'start' must have one owner, got recording 1 and recording 2",
        ),
        (
            [sender([1], meta=slow), player([1], meta={"sampling_rate": 1.0})],
            "the same sampling rate, got 0.1 in recording 1 and 1.0 in recording 2",
        ),
        ([sender([1], meta=slow), player([1])], "got 0.1 in recording 1 and 1.0 in recording 2"),
        ([Trace(LINK, frame_id=[1], marks={})], "must have a mark of pipeline 'link', got none"),
        (["missing.parquet"], "missing.parquet: file not found"),
    ):
        assert message in refusal(recordings)


def test_arguments_of_a_wrong_type_are_refused_in_one_line(tmp_path):
    trace = sender([1])
    table = trace.to_pandas()
    for recordings in (trace, "a.parquet", tmp_path / "a.parquet"):
        assert "must be a list of traces and paths" in refusal(recordings)
    for recordings in ([], (), iter([]), {}, np.array([]), tmp_path.glob("*.parquet")):
        assert "no recordings were given" in refusal(recordings)
    for recordings in (table, [table], [trace, table]):
        assert "Trace.from_pandas" in refusal(recordings)
    odd = (None, 7, 1.5, True, b"a.parquet", object(), LINK, join, Trace, np.zeros(3), {1: trace})
    for value in odd:
        assert "must be a Trace or a path, got" in refusal([trace, value])
        assert "must be a Trace or a path, got" in refusal(value)
    for path in ("", "\0", "x" * 70_000, "no\x1b[31m such\nfile", "*.nothing", tmp_path):
        refusal([trace, path])


def test_one_sampling_rate_is_kept():
    meta = {"sampling_rate": 0.25}
    assert join([sender([1], meta=meta), player([1], meta=meta)]).meta["sampling_rate"] == 0.25


# -- the files of one recording -------------------------------------------------------------------


def test_rotated_files_are_joined_as_one_recording(tmp_path):
    ids = np.arange(300)
    meta = {"owns": ["start", "sent"], "recording": "r"}
    for part in (1, 2, 3):
        mine = ids[100 * (part - 1) : 100 * part]
        Trace(
            LINK,
            frame_id=mine,
            marks={"start": mine * 10, "sent": mine * 10 + 1},
            meta=meta | {"part": part, "lost": part, "segments": [[part * 10, part * 10 + 5]]},
        ).save(tmp_path / f"{part}.parquet")
    b = Trace(
        LINK,
        frame_id=ids,
        marks={"arrived": ids * 10 + 2, "end": ids * 10 + 3},
        meta={"owns": ["arrived", "end"], "segments": [[0, 1]]},
    )
    files = [tmp_path / f"{part}.parquet" for part in (3, 1, 2)]
    joined = join([*files, b])
    assert joined.frame_id.tolist() == ids.tolist()
    assert joined.meta["join"]["matched"] == 300
    assert joined.meta["lost"] == 6
    assert [list(pair) for pair in joined.meta["segments"]] == [
        [0, 1],
        [10, 15],
        [20, 25],
        [30, 35],
    ]
    assert joined.meta["join"]["parts"][0]["rows"] == 300
    assert "recording" not in joined.meta
    assert "part" not in joined.meta
    with pytest.raises(ValueError, match="one owner"):
        join([files[0], Trace(LINK, frame_id=[1], marks={"start": [1]}), b])


def test_rows_in_several_traces_of_one_profiler_are_counted_once():
    def trace(ids, lost):
        ids = np.asarray(ids, int)
        marks = {"start": ids * 10, "sent": ids * 10 + 1}
        meta = {"owns": ["start", "sent"], "recording": "r", "lost": lost}
        return Trace(LINK, frame_id=ids, marks=marks, meta=meta, source="s")

    # 5 was recorded twice in the first: the first trace has both rows
    joined = join([trace([1, 2, 5, 5], 0), trace([2, 5, 6], 3), trace([], 0), trace([6, 7], 4)])
    assert joined.frame_id.tolist() == [1, 2, 5, 5, 6, 7]
    assert joined.meta["lost"] == 4


def test_rotated_files_and_a_recovered_ring_of_a_profiler_are_joined(tmp_path):
    sent = Profiler(LINK, owns=("start", "sent"), ring=tmp_path / "sent.ring", capacity=20_000)
    came = Profiler(LINK, owns=("arrived", "end"), path=tmp_path / "came.parquet", rotate="2s")
    with sent, came:
        now = time.perf_counter_ns()
        for i in range(12_000):  # 12 seconds of stamps
            at = now + i * 1_000_000
            a, b = sent.frame(i, start=at), came.frame(i)
            a.mark("sent", at=at + 10)
            a.finish()
            b.mark("arrived", at=at + 20)
            b.finish(at=at + 30)
            if i % 1_000 == 0:
                came.report()  # folds, and writes what was folded
    files = sorted(tmp_path.glob("came*.parquet"))
    assert len(files) > 1
    recovered = recover(tmp_path / "sent.ring")
    # the trace of the ring holds frames that the files have, too
    joined = join([*files, recovered, sent.trace()])
    assert joined.frame_id.tolist() == list(range(12_000))
    found = joined.meta["join"]
    assert (found["matched"], found["came_twice"], found["clock"]) == (12_000, 0, "same boot")
    assert found["clock_errors"]["frames"] == 0
    assert "recovery" not in joined.meta
    joined.save(tmp_path / "joined.parquet")


# -- against a plain loop -------------------------------------------------------------------------

IDS = st.lists(st.tuples(st.integers(0, 4), st.sampled_from(["a", "b", None])), max_size=8)


@settings(deadline=None)
@given(IDS, IDS, st.randoms(use_true_random=False))
def test_join_equals_a_plain_loop(first, second, random):
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
    joined = join([a, b])
    expected = []
    keys = {key for key, _ in sent} | {key for key, _ in played}
    for key in keys:
        starts = sorted(t for k, t in sent if k == key)
        ends = sorted(t for k, t in played if k == key)
        stamps = (starts[0] if starts else None, ends[0] if ends else None)
        expected.append((*key, *stamps, FINISHED if ends else LOST_IN_TRANSIT))
        expected += [(*key, t, None, CAME_TWICE) for t in starts[1:]]
        expected += [(*key, None, t, CAME_TWICE) for t in ends[1:]]
    sources = [None] * len(joined) if joined.source is None else joined.source.to_numpy().tolist()
    found = [
        (i, source, start, arrived, outcome)
        for source, (i, start, _, arrived, _, outcome) in zip(sources, rows(joined), strict=True)
    ]
    assert sorted(found, key=str) == sorted(expected, key=str)
    found = joined.meta["join"]
    assert sum(counts(joined).values()) == len(joined) == len(expected)
    assert found["came_twice"] == len(expected) - len(keys)


def test_many_frames_are_joined_quickly():
    # without a limit of time: a loop over frames would be noticed
    n = 200_000
    ids = np.arange(n, dtype=np.uint64)
    start = np.arange(n) * 20_000_000
    a = Trace(AUDIO, frame_id=ids, marks={"start": start}, source="input")
    b = Trace(AUDIO, frame_id=ids[::-1], marks={"end": start[::-1] + 7}, source="input")
    joined = join([a, b])
    assert np.all(joined.span("end_to_end") == 7)
