"""Profiles of parts against one of the whole: who the first frames of a part waited for."""

import numpy as np
import pytest
from test_blaming import LINE, line, overlaps, served
from test_walk import audio, rows_of

import latprof
from latprof import analyze, causes
from latprof.errors import ProfileError


def stalling(n, seed=0, *, stall=400):
    """Return rows of frames that queue for a worker, by dozens now and then."""
    rng = np.random.default_rng(seed)
    gets = np.where(rng.random(n) < 0.01, stall, rng.integers(0, 9, n))
    return served(np.sort(rng.integers(0, 12 * n, n)).tolist(), gets.tolist(), [2] * n)


ROWS = stalling(1_200)
EXPECTED = overlaps(ROWS)


def merged(parts, order):
    whole = parts[order[0]].copy() if hasattr(parts[0], "copy") else parts[order[0]]
    for i in order[1:]:
        whole = whole + parts[i]
    return whole


@pytest.mark.parametrize("saved", [False, True])
@pytest.mark.parametrize("cuts", [2, 7, 100])
def test_any_cut_in_any_order_is_the_whole(cuts, saved, tmp_path):
    rows, expected = ROWS, EXPECTED
    rng = np.random.default_rng(cuts)
    at = np.sort(rng.choice(np.arange(1, 1_200), cuts - 1, replace=False))
    parts = [
        analyze(line([rows[i] for i in some]), causes=True)
        for some in np.split(np.arange(1_200), at)
    ]
    if saved:
        for i, part in enumerate(parts):
            part.save(tmp_path / f"{i}.latprof")
        parts = [latprof.load_profile(tmp_path / f"{i}.latprof") for i in range(cuts)]
    whole = causes(line(rows))
    for order in (np.arange(cuts), np.arange(cuts)[::-1], rng.permutation(cuts)):
        found = merged(parts, order).causes
        assert found.blamed["get"] == expected["get"] == whole.blamed["get"]
        assert found.blamed["put"] == expected["put"] == whole.blamed["put"]
        assert found.own["queue"] == expected["own"] == whole.own["queue"]
        assert (found.total, found.counts, found.frames) == (
            whole.total,
            whole.counts,
            whole.frames,
        )
        assert found.cause == whole.cause == "get"
        assert not found.notes


def test_of_very_many_parts_some_are_joined_for_good():
    # before who came first is known: delays of the frames in front are then not quite the same
    cuts = np.array_split(np.arange(1_200), 300)
    parts = [analyze(line([ROWS[i] for i in some]), causes=True) for some in cuts]
    for order in (np.arange(300), np.random.default_rng(0).permutation(300)):
        profile = merged(parts, order)
        assert len(profile.parts.pieces) <= 128
        assert profile.causes.blamed["get"] == pytest.approx(EXPECTED["get"], rel=1e-3)
        assert profile.causes.total == causes(line(ROWS)).total


def test_parts_of_parts():
    parts = [analyze(line(ROWS[i : i + 120]), causes=True) for i in range(0, 1_200, 120)]
    left = parts[3] + parts[1] + parts[5]
    right = (parts[0] + parts[9]) + (parts[2] + parts[4] + parts[8])
    assert left.causes.frames == 360  # asked for in between: that changes nothing
    found = (right + parts[7] + (left + parts[6])).causes
    assert (found.blamed["get"], found.own["queue"]) == (EXPECTED["get"], EXPECTED["own"])


def test_a_recording_that_is_asked_in_between():
    profile = analyze(line(ROWS[:900]), causes=True)
    profile.parts.causes()
    profile.parts.add(line(ROWS[900:]).columns)
    found = profile.parts.causes()
    assert (found.blamed["get"], found.own["queue"]) == (EXPECTED["get"], EXPECTED["own"])


def test_a_queue_longer_than_what_is_kept_is_told():
    # 3,000 frames wait for a stall of the first part: of those the second part has, 1,024 are kept
    rows = served(range(0, 40_000, 10), [1] * 500 + [35_000] + [1] * 3_499, [1] * 4_000)
    one, two = (analyze(line(part), causes=True) for part in (rows[:2_000], rows[2_000:]))
    found, whole = (one + two).causes, causes(line(rows))
    (note,) = (note for note in found.notes if "looked at by themselves" in note)
    assert "2 recordings were looked at by themselves" in note
    assert (two + one).causes == found
    assert found.total == whole.total
    assert found.own["queue"] > whole.own["queue"] == overlaps_own(rows)
    assert sum(found.own.values()) + sum(found.blamed.values()) == sum(whole.total.values())


def overlaps_own(rows):
    """Return the hand-off's own time where the worker was busy whenever a frame waited."""
    free, own = 0, 0
    for start, begin, _, leave, _ in rows:
        own += begin - max(start, min(free, begin))
        free = leave
    return own


def test_recordings_that_overlap():
    rows = stalling(1_000)
    one, two = (analyze(line(part), causes=True) for part in (rows[::2], rows[1::2]))
    found = (one + two).causes
    assert found == (two + one).causes
    assert "2 recordings overlap in time" in found.notes[-1]
    assert found.frames == 1_000


def test_files_whose_names_are_not_in_order_of_time(tmp_path):
    rows = stalling(2_000)
    for i in range(20):
        line(rows[100 * i : 100 * i + 100]).save(tmp_path / f"{i}.parquet")  # 0, 1, 10, 11, 2, ...
    found = analyze(tmp_path, causes=True).causes
    assert found.own["queue"] == overlaps_own(rows)
    assert not found.notes


def test_what_a_recording_shows_of_servers_is_not_known_of_another():
    from latprof.queueing.windowed import Parts

    # one at a time, then two
    one = served([5 * i for i in range(100)], [30] * 100, [0] * 100)
    two = [(500 + i, *[3_000 + 30 * (i // 2)] * 2, *[3_030 + 30 * (i // 2)] * 2) for i in range(99)]
    together, apart = Parts(LINE), Parts(LINE)
    for rows in (two, one):
        alone = Parts(LINE)
        for parts in (together, alone):
            parts.add(line(rows).columns)
            parts.end()
        apart.merge(alone)
    found = together.causes()
    assert found.blamed == apart.causes().blamed
    assert min(found.blamed.values()) >= 0


def test_far_apart_nobody_waits():
    rows = stalling(500)
    later = [tuple(x + 10**12 for x in row) for row in rows]
    found = (analyze(line(later), causes=True) + analyze(line(rows), causes=True)).causes
    assert found.own["queue"] == 2 * overlaps(rows)["own"]
    assert not found.notes


def test_frames_that_are_not_counted_or_dropped():
    trace = audio(3_000, dropped=0.1, load=1.0)
    start = int(trace.columns.marks["start"][700])
    whole = analyze(trace, causes=True, since=start)
    parts = [
        analyze(rows_of(trace, slice(i, i + 500)), causes=True, since=start)
        for i in range(0, 3_000, 500)
    ]
    found = merged(parts, [4, 2, 0, 1, 5, 3]).causes
    assert (found.total, found.counts) == (whole.causes.total, whole.causes.counts)
    for stage in found.own:
        # delays of queued frames are drawn, in each look from those known there
        for mine, other in ((found.own, whole.causes.own), (found.blamed, whole.causes.blamed)):
            assert mine[stage] == pytest.approx(
                other[stage], rel=5e-3, abs=1e-3 * whole.causes.end_to_end
            )


@pytest.mark.parametrize(
    "damage",
    [
        {"early": -1},
        {"unseen": "1"},
        {"ends": []},
        {"ends": [{"marks": {}, "done": "", "counted": ""}]},
    ],
)
def test_damaged_rows_are_refused(damage):
    from latprof.queueing.windowed import Parts

    profile = analyze(line(stalling(50)), causes=True)
    saved = profile.parts.to_dict()
    assert Parts.from_dict(profile.pipeline, saved).causes().rows() == profile.causes.rows()
    saved["pieces"][0] |= damage
    with pytest.raises((ProfileError, KeyError)):
        Parts.from_dict(profile.pipeline, saved)


def test_what_is_kept_of_a_recording_does_not_grow():
    sizes = []
    for n in (10_000, 40_000):
        profile = analyze(audio(n, seed=n), causes=True)
        assert profile.causes.frames == n
        (piece,) = profile.parts.pieces
        sizes.append((len(piece.head), len(piece.tail)))
    assert sizes == [(1_024, 1_024)] * 2
