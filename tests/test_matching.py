"""Ids that start again: which rows of two recordings are the same frame."""

import numpy as np
from hosts import LINK, Host, recording

from latprof import Trace, join
from latprof.frames import MISSING


def linked(ids, rng, kept_a, kept_b, hosts, shuffle=0):
    frames = len(ids)
    start = np.arange(frames) * 1_000_000
    true = np.array([start, start + 10_000, start + 60_000, start + 70_000])
    true[2:] += rng.integers(0, 300_000, frames)
    a = recording(hosts[0], LINK, true, ("start", "sent"), kept_a, ids)
    b = recording(hosts[1], LINK, true, ("arrived", "end"), kept_b, ids)
    if shuffle:
        order = np.argsort(np.arange(len(b)) + rng.uniform(0, shuffle, len(b)))
        b = b.select(np.ones(len(b), bool))
        b.columns = b.columns.take(order)
    return true, a, b


def check_matches(joined, true, kept_a, kept_b):
    """Every frame's stamps are those of one true frame."""
    first = {int(t): i for i, t in enumerate(true[0])}
    last = {int(t): i for i, t in enumerate(true[3])}
    found = set()
    for start, end in zip(
        joined.marks["start"].tolist(), joined.marks["end"].tolist(), strict=True
    ):
        i = first[start] if start != MISSING else last[end]
        assert (start != MISSING) == bool(kept_a[i])
        assert (end != MISSING) == bool(kept_b[i]), (start, end, i)
        if end != MISSING:
            assert last[end] == i
        assert i not in found
        found.add(i)
    assert len(joined) == np.count_nonzero(kept_a | kept_b)
    assert joined.meta["join"]["matched"] == np.count_nonzero(kept_a & kept_b)
    assert joined.meta["join"]["came_twice"] == 0


def test_wrapped_ids_are_matched_in_spite_of_drops_and_disorder():
    for modulus, seeds in ((64, 10), (1_000, 10), (65_536, 3)):
        for seed in range(seeds):
            rng = np.random.default_rng(seed)
            frames = 3 * modulus + int(rng.integers(0, modulus)) if modulus < 65_536 else 150_000
            ids = (np.arange(frames) + int(rng.integers(0, modulus))) % modulus
            kept_a, kept_b = rng.random(frames) < 0.95, rng.random(frames) < 0.9
            host = Host("a")
            true, a, b = linked(ids, rng, kept_a, kept_b, (host, host), shuffle=3)
            check_matches(join([a, b]), true, kept_a, kept_b)


def test_ids_of_a_counter_that_was_restarted_at_any_time_are_matched():
    for seed in range(10):
        rng = np.random.default_rng(seed)
        runs = rng.integers(100, 2_000, 4)
        ids = np.concatenate([np.arange(n) + 10_000 for n in runs])
        frames = len(ids)
        kept_a, kept_b = rng.random(frames) < 0.95, rng.random(frames) < 0.9
        # the second one began to record later, in the middle of the second run
        kept_b[: runs[0] + runs[1] // 2] = False
        host = Host("a")
        true, a, b = linked(ids, rng, kept_a, kept_b, (host, host))
        check_matches(join([a, b]), true, kept_a, kept_b)


def test_wrapped_ids_of_two_hosts_are_matched():
    for seed in range(5):
        rng = np.random.default_rng(seed)
        ids = np.arange(10_000) % 1_024
        kept_a, kept_b = rng.random(10_000) < 0.95, rng.random(10_000) < 0.9
        # 1,024 frames take a second; the clocks are 3 ms apart
        _, a, b = linked(ids, rng, kept_a, kept_b, (Host("a"), Host("b", 3_000_000)))
        joined = join([a, b])
        assert joined.meta["join"]["matched"] == np.count_nonzero(kept_a & kept_b)
        assert joined.meta["join"]["clock"] == "one way, a bound"
        took = (joined.marks["arrived"] - joined.marks["sent"])[
            (joined.marks["sent"] != MISSING) & (joined.marks["arrived"] != MISSING)
        ]
        assert took.min() >= 0
        assert took.max() < 310_000


def test_first_and_last_laps_of_a_few_rows_are_matched():
    # a lap of one row at the beginning or the end cannot be distinguished from a late frame
    for first in range(60, 64):
        for frames in (130, 131, 132, 134, 190, 200):
            ids = (np.arange(frames) + first) % 64
            everything = np.ones(frames, bool)
            _, a, b = linked(ids, np.random.default_rng(1), everything, everything, [Host("a")] * 2)
            counts = join([a, b]).meta["join"]
            unclear = [64 - first, (first + frames) % 64].count(1)
            assert counts["matched"] >= frames - unclear
            assert counts["came_twice"] <= 2 * unclear


def test_late_frames_are_not_taken_for_a_restart():
    # two packets come very late, one of them last of all
    ids = np.arange(200)
    arrived = ids * 1_000 + 300
    arrived[[20, 150]] = [90_250, 10**6]
    a = Trace(LINK, frame_id=ids, marks={"start": ids * 1_000, "sent": ids * 1_000 + 1})
    b = Trace(LINK, frame_id=ids, marks={"arrived": arrived, "end": arrived + 1})
    joined = join([a, b])
    assert joined.meta["join"]["matched"] == 200
    again = Trace(
        LINK,
        frame_id=[*ids, 7],
        marks={"arrived": [*arrived, 10**7], "end": [*arrived, 10**7]},
    )
    counts = join([a, again]).meta["join"]
    assert (counts["matched"], counts["came_twice"]) == (200, 1)
