"""Causes of parts that are merged, against causes of the whole."""

import numpy as np
import pytest
from lines import LINE, audio, line, overlaps, rows_of, served

import latprof
from latprof import Profile, analyze, causes
from latprof.errors import ProfileError
from latprof.profile.codec import Decoder, encode
from latprof.queueing.accumulator import CausesAccumulator
from latprof.queueing.causes import causes_of
from latprof.sequence.segments import EDGE_ROWS


def stalling(n, seed=0, *, stall=400):
    """Return rows of frames that queue for a worker, sometimes by dozens."""
    rng = np.random.default_rng(seed)
    gets = np.where(rng.random(n) < 0.01, stall, rng.integers(0, 9, n))
    return served(np.sort(rng.integers(0, 12 * n, n)).tolist(), gets.tolist(), [2] * n)


def idle_or_queued(rows):
    """Return the self time of the hand-off: what frames waited while the worker was idle."""
    free, self_time = 0, 0
    for start, begin, _, leave, _ in rows:
        self_time += begin - max(start, min(free, begin))
        free = leave
    return self_time


ROWS = stalling(1_200)
EXPECTED = overlaps(ROWS)


def merged(profiles, order):
    whole = profiles[order[0]]
    for i in order[1:]:
        whole = whole + profiles[i]
    return whole


def assert_waits_equal(found, whole):
    assert (found.total, found.counts, found.frames) == (whole.total, whole.counts, whole.frames)
    assert found.end_to_end == whole.end_to_end
    for name in ("self_time", "blocking_time"):
        assert getattr(found, name) == pytest.approx(getattr(whole, name), rel=1e-9), name
    for handoff, paths in whole.waits.items():
        assert found.waits[handoff] == pytest.approx(paths, rel=1e-9)


def test_parts_of_any_cut_merge_in_any_order_to_the_whole(tmp_path):
    whole = causes(line(ROWS))
    for cuts in (2, 7, 40):
        rng = np.random.default_rng(cuts)
        at = np.sort(rng.choice(np.arange(1, 1_200), cuts - 1, replace=False))
        parts = [
            analyze(line([ROWS[i] for i in some]), causes=True)
            for some in np.split(np.arange(1_200), at)
        ]
        saved = []
        for i, part in enumerate(parts):
            part.save(tmp_path / f"{i}.latprof")
            saved.append(latprof.load_profile(tmp_path / f"{i}.latprof"))
        for order, profiles in ((np.arange(cuts)[::-1], parts), (rng.permutation(cuts), saved)):
            found = merged(profiles, order).causes
            assert found == whole
            assert found.blocking_time["get"] == EXPECTED["get"]
            assert found.blocking_time["put"] == EXPECTED["put"]
            assert found.self_time["queue"] == EXPECTED["self_time"]


def test_parts_whose_frames_interleave_merge_to_the_whole():
    # all rows of short recordings are kept, so that delays are drawn from those of all frames
    for dropped in (0.0, 0.1):
        trace = audio(2_000, dropped=dropped, load=0.9)
        whole = analyze(trace, causes=True).causes
        at = trace.columns.marks["start"] + 20_000_000 * (np.arange(2_000) % 30)
        for parts in (
            np.array_split(np.argsort(at), 7),  # frames near a cut are mixed
            [np.arange(2_000)[i::3] for i in range(3)],  # recorded at the same time
        ):
            profiles = [analyze(rows_of(trace, np.sort(rows)), causes=True) for rows in parts]
            order = np.random.default_rng(0).permutation(len(parts))
            assert_waits_equal(merged(profiles, order).causes, whole)
            assert not merged(profiles, order).causes.notes


def test_waits_of_many_frames_that_interleave_at_a_cut_merge_to_those_of_the_whole():
    # all frames in the queue have waited for the worker since they arrived: no delay is drawn
    rows = stalling(30_000)
    whole = causes(line(rows))
    at = np.argsort(np.arange(30_000) + 40 * (np.arange(30_000) % 7))
    for parts in (np.array_split(at, 3), np.array_split(np.arange(30_000), 5)):
        profiles = [analyze(line([rows[i] for i in np.sort(x)]), causes=True) for x in parts]
        for order in (range(len(parts)), range(len(parts))[::-1]):
            assert_waits_equal(merged(profiles, list(order)).causes, whole)
    assert whole.self_time["queue"] == idle_or_queued(rows)


def test_many_parts_are_joined_before_their_neighbours_are_known():
    cuts = np.array_split(np.arange(1_200), 300)
    for order in (np.arange(300), np.random.default_rng(0).permutation(300)):
        whole = CausesAccumulator.of(LINE)
        for i in order:
            part = CausesAccumulator.of(LINE)
            part.add(line([ROWS[k] for k in cuts[i]]).columns)
            whole.merge(part)
        assert len(whole.parts) <= 128
        assert_waits_equal(causes_of(whole), causes(line(ROWS)))


def test_merged_parts_merge_with_others():
    parts = [analyze(line(ROWS[i : i + 120]), causes=True) for i in range(0, 1_200, 120)]
    left = parts[3] + parts[1] + parts[5]
    right = (parts[0] + parts[9]) + (parts[2] + parts[4] + parts[8])
    assert left.causes.frames == 360  # reading in between changes nothing
    assert (right + parts[7] + (left + parts[6])).causes == causes(line(ROWS))


def test_causes_can_be_read_while_a_recording_goes_on():
    accumulator = CausesAccumulator.of(LINE)
    for i in range(0, 1_200, 400):
        accumulator.add(line(ROWS[i : i + 400]).columns)
        assert causes_of(accumulator) == causes(line(ROWS[: i + 400]))


def test_a_note_counts_frames_that_waited_for_more_frames_than_are_kept():
    # 7,000 frames wait for a stall of the first part: of those in the second part, 2,048 are kept
    rows = served(range(0, 120_000, 10), [1] * 4_500 + [65_000] + [1] * 7_499, [1] * 12_000)
    one, two = (analyze(line(part), causes=True) for part in (rows[:5_000], rows[5_000:]))
    found, whole = (one + two).causes, causes(line(rows))
    (note,) = (note for note in found.notes if "may have waited for frames of another" in note)
    assert "frames near the beginning of one of 2 recordings" in note
    assert (two + one).causes == found
    assert found.total == whole.total
    assert found.self_time["queue"] > whole.self_time["queue"] == idle_or_queued(rows)
    both = sum(found.self_time.values()) + sum(found.blocking_time.values())
    assert both == sum(whole.total.values())


def test_a_note_counts_long_recordings_that_overlap():
    rows = stalling(12_000)
    one, two = (analyze(line(part), causes=True) for part in (rows[::2], rows[1::2]))
    found = (one + two).causes
    assert found == (two + one).causes
    assert "2 recordings overlap in time" in found.notes[-1]
    assert found.frames == 12_000


def test_files_whose_names_are_not_in_order_of_time(tmp_path):
    rows = stalling(2_000)
    for i in range(20):
        line(rows[100 * i : 100 * i + 100]).save(tmp_path / f"{i}.parquet")  # 0, 1, 10, 11, 2, ...
    found = analyze(tmp_path, causes=True).causes
    assert found.self_time["queue"] == idle_or_queued(rows)
    assert not found.notes


def test_the_number_of_servers_is_that_of_each_recording():
    # one frame at a time, then two, far later
    one = served([5 * i for i in range(3_000)], [30] * 3_000, [0] * 3_000)
    two = [
        (10**9 + i, *[10**9 + 3_000 + 30 * (i // 2)] * 2, *[10**9 + 3_030 + 30 * (i // 2)] * 2)
        for i in range(2_999)
    ]
    together, apart = CausesAccumulator.of(LINE), CausesAccumulator.of(LINE)
    for rows in (two, one):
        alone = CausesAccumulator.of(LINE)
        for accumulator in (together, alone):
            accumulator.add(line(rows).columns)
            accumulator.end()
        apart.merge(alone)
    found = causes_of(together)
    assert found.blocking_time == causes_of(apart).blocking_time
    assert min(found.blocking_time.values()) >= 0


def test_frames_of_recordings_far_apart_do_not_wait_for_each_other():
    for n in (500, 3_000):
        rows = stalling(n)
        later = [tuple(x + 10**12 for x in row) for row in rows]
        found = (analyze(line(later), causes=True) + analyze(line(rows), causes=True)).causes
        assert found.self_time["queue"] == 2 * idle_or_queued(rows)
        assert not found.notes


def test_frames_that_are_dropped_or_not_counted_keep_others_waiting():
    trace = audio(2_000, dropped=0.1, load=1.0)
    start = int(trace.columns.marks["start"][700])
    whole = analyze(trace, causes=True, since=start).causes
    parts = [
        analyze(rows_of(trace, slice(i, i + 500)), causes=True, since=start)
        for i in range(0, 2_000, 500)
    ]
    assert_waits_equal(merged(parts, [2, 0, 1, 3]).causes, whole)


def test_damaged_sums_are_refused():
    profile = analyze(line(stalling(50)), causes=True)
    saved = encode(profile.cause_sums.settle())

    def decoded(content):
        return Decoder(LINE).decode(CausesAccumulator, content, "causes")

    assert causes_of(decoded(saved)) == profile.causes
    sums, (part,) = saved["sums"], saved["parts"]
    for damage in (
        {"parts": [part | {"early": -1}]},
        {"parts": [part | {"unseen": "1"}]},
        {"parts": [part | {"head": []}]},
        {"parts": [part | {"head": part["head"][1:], "tail": part["tail"][1:]}]},
        {"sums": sums | {"total": {}}},
        {"sums": sums | {"gain": {"x": 1}}},
        {"sums": sums | {"waits": {"queue": [[["nope"], 1]]}}},
        {"sums": sums | {"waits": {"queue": [[[], 1]]}}},
        {"sums": sums | {"frames": -1}},
        {"sums": sums | {"notes": [1]}},
        {"sums": sums | {"end_to_end": "1"}},
        {"sums": sums | {"end_to_end": 10**400}},
    ):
        with pytest.raises(ProfileError, match="the file is corrupt"):
            decoded(saved | damage)


def test_what_is_kept_of_a_recording_does_not_grow():
    sizes = []
    for n in (10_000, 40_000):
        profile = analyze(audio(n, seed=n), causes=True)
        assert profile.causes.frames == n
        (part,) = profile.cause_sums.parts
        sizes.append((len(part.head[0]), len(part.tail[0])))
    assert sizes == [(EDGE_ROWS, EDGE_ROWS)] * 2


def test_merging_with_a_profile_without_causes_leaves_none():
    with_causes = analyze(line(ROWS[:100]), causes=True)
    without = analyze(line(ROWS[100:]))
    for profile in (with_causes + without, without + with_causes):
        with pytest.raises(ProfileError, match="some profiles were folded without causes"):
            _ = profile.causes
    for same in (Profile(LINE) + with_causes, with_causes + Profile(LINE)):
        assert same.causes == with_causes.causes


def test_dropped_frames_without_causes_leave_none_whether_there_are_groups_or_not():
    dropped = line(ROWS[:2], outcome=["full", "full"])
    for by in (None, "outcome"):
        with_causes = analyze(line(ROWS[2:100]), by=by, causes=True)
        without = analyze(dropped, by=by)
        assert without.frames == 0
        for profile in (with_causes + without, without + with_causes):
            with pytest.raises(ProfileError, match="some profiles were folded without causes"):
                _ = profile.causes
