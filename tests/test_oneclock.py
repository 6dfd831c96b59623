"""Joining over hosts: clocks that are off and drift, known from what travels between them.

The hosts are simulated: the true time of every stamp is known, and so is what each clock shows.
"""

import time

import numpy as np
import pytest

from latprof import Pipeline, Profiler, Trace, join, recover
from latprof.frames import MISSING

CALL = Pipeline("call", ("start", "arrived", "sent", "end"))  # there and back
LINK = Pipeline("link", ("start", "sent", "arrived", "end"))  # one way


class Host:
    """A clock that is `offset` ahead at time 0 and gains `drift`; what it shows is rounded."""

    def __init__(self, boot, offset=0, drift=0.0):
        self.boot, self.offset, self.drift = boot, offset, drift

    def shows(self, true):
        return np.rint(true * (1 + self.drift)).astype(np.int64) + self.offset

    def meta(self, owns):
        return {"owns": list(owns), "boot_id": self.boot, "clock_offset_ns": 10**18}

    def ahead(self, shown):
        """What it is ahead when it shows a time."""
        return shown - (shown - self.offset) / (1 + self.drift)


def traffic(seed, pipeline, frames=3_000):
    """Return the true stamps (marks, frames) of frames with a queue's delays, and their ids."""
    rng = np.random.default_rng(seed)
    true = np.empty((len(pipeline.marks), frames), np.int64)
    true[0] = np.arange(frames) * 20_000_000 + rng.integers(0, 10**6, frames)
    for k in range(1, len(true)):
        true[k] = true[k - 1] + 20_000 + rng.exponential(2e6, frames).astype(np.int64)
    return rng, true


def recording(host, pipeline, true, owns, kept, ids=None):
    """Return what a host records of the frames that `kept` says."""
    ids = np.arange(true.shape[1]) if ids is None else ids
    marks = {m: host.shows(true[pipeline.marks.index(m)][kept]) for m in owns}
    return Trace(pipeline, frame_id=ids[kept], marks=marks, meta=host.meta(owns))


def entry(whole):
    (only,) = whole.meta["join"]["clocks"]
    return only


def random_host(rng, boot):
    """A clock that is up to an hour off and drifts by up to 200 parts per million."""
    return Host(
        boot, int(rng.integers(-(36 * 10**11), 36 * 10**11)), float(rng.uniform(-2e-4, 2e-4))
    )


@pytest.mark.parametrize("seed", range(40))
def test_both_ways_the_truth_is_within_the_bound(seed):
    rng, true = traffic(seed, CALL)
    a, b = Host("a"), random_host(rng, "b")
    frames = true.shape[1]
    whole = join(
        [
            recording(a, CALL, true, ("start", "end"), rng.random(frames) < 0.9),
            recording(b, CALL, true, ("arrived", "sent"), rng.random(frames) < 0.8),
        ]
    )
    told = entry(whole)
    assert whole.meta["join"]["clock"] == told["method"] == "two ways"
    assert told["parts"] == ["recording 2"]
    assert told["contradiction_ns"] == 0
    ahead = b.ahead(np.array([told["at_ns"]]))[0]
    assert told["low_ns"] <= ahead <= told["high_ns"]
    assert abs(told["offset_ns"] - ahead) <= told["bound_ns"]
    # delays are exponential with a mean of 2 ms over 20 us: thousands of them leave little doubt
    assert told["bound_ns"] < 100_000
    assert abs(told["drift_ppb"] * 1e-9 - b.drift) < 1e-5
    # and every stamp is as far from the truth as is said, at most
    for mark, k in (("arrived", 1), ("sent", 2)):
        stamps = whole.marks[mark]
        there = stamps != MISSING
        off = np.abs(stamps[there] - true[k][whole.frame_id[there].astype(int)])
        assert off.max() <= told["bound_ns"] + 1
    assert whole.meta["join"]["clock_errors"] == {"frames": 0, "worst_ns": 0, "between": {}}


@pytest.mark.parametrize("seed", range(40))
def test_one_way_the_offset_is_a_bound(seed):
    rng, true = traffic(seed, LINK)
    a, b = Host("a"), random_host(rng, "b")
    frames = true.shape[1]
    whole = join(
        [
            recording(a, LINK, true, ("start", "sent"), rng.random(frames) < 0.9),
            recording(b, LINK, true, ("arrived", "end"), rng.random(frames) < 0.8),
        ]
    )
    told = entry(whole)
    assert whole.meta["join"]["clock"] == told["method"] == "one way, a bound"
    assert (told["low_ns"], told["bound_ns"]) == (None, None)
    ahead = b.ahead(np.array([told["at_ns"]]))[0]
    assert ahead <= told["high_ns"] <= told["offset_ns"] + 4
    # the quickest of thousands took 20 us and a little
    assert told["offset_ns"] - ahead < 100_000
    assert abs(told["drift_ppb"] * 1e-9 - b.drift) < 1e-5
    matched = (whole.marks["sent"] != MISSING) & (whole.marks["arrived"] != MISSING)
    took = (whole.marks["arrived"] - whole.marks["sent"])[matched]
    assert 0 <= took.min() < 1_000
    truth = (true[2] - true[1])[whole.frame_id[matched].astype(int)]
    assert np.abs(took - truth).max() < 100_000
    assert whole.meta["join"]["clock_errors"]["frames"] == 0


@pytest.mark.parametrize("seed", range(5))
def test_one_way_back_bounds_the_other_side(seed):
    # the first recording along the pipeline is the reference, here the one that receives: none
    # of its marks comes first, but `due` of the third host does
    late = Pipeline("late", ("due", "start", "arrived", "end"))
    rng, true = traffic(seed, late)
    a, b = Host("a"), random_host(rng, "b")
    everything = np.ones(true.shape[1], bool)
    first = recording(a, late, true, ("due", "end"), everything)
    # nothing travels to b that is known: b's frames lack `due` in a's recording
    first.marks["due"][:] = MISSING
    whole = join([first, recording(b, late, true, ("start", "arrived"), everything)])
    told = entry(whole)
    assert told["method"] == "one way, a bound"
    ahead = b.ahead(np.array([told["at_ns"]]))[0]
    assert told["offset_ns"] - 4 <= told["low_ns"] <= ahead
    assert told["high_ns"] is None
    assert ahead - told["offset_ns"] < 100_000


@pytest.mark.parametrize("seed", range(10))
def test_three_hosts_in_a_row(seed):
    path = Pipeline("path", ("start", "b_in", "c_in", "c_out", "b_out", "end"))
    rng, true = traffic(seed, path)
    a, b, c = Host("a"), random_host(rng, "b"), random_host(rng, "c")
    everything = np.ones(true.shape[1], bool)
    whole = join(
        [
            recording(a, path, true, ("start", "end"), everything),
            recording(c, path, true, ("c_in", "c_out"), everything),
            recording(b, path, true, ("b_in", "b_out"), everything),
        ]
    )
    told = {entry["parts"][0]: entry for entry in whole.meta["join"]["clocks"]}
    for name, marks in (("recording 2", ("c_in", "c_out")), ("recording 3", ("b_in", "b_out"))):
        for mark in marks:
            off = np.abs(whole.marks[mark] - true[path.marks.index(mark)])
            assert off.max() <= told[name]["bound_ns"] + 2
    assert whole.meta["join"]["clock"] == "two ways"


def test_two_processes_of_a_host_share_its_clock():
    rng, true = traffic(3, LINK)
    everything = np.ones(true.shape[1], bool)
    a, b = Host("a"), Host("b", 10**9, 1e-5)
    end = recording(b, LINK, true, ("end",), everything)
    # read its wall clock 5 ns later: monotonic stamps are compared as they are
    end.meta["clock_offset_ns"] += 5
    end.marks["end"][:] += 5
    whole = join(
        [
            recording(a, LINK, true, ("start", "sent"), everything),
            recording(b, LINK, true, ("arrived",), everything),
            end,
        ]
    )
    assert entry(whole)["parts"] == ["recording 2", "recording 3"]
    took = whole.marks["end"] - whole.marks["arrived"]
    assert np.abs(took - (true[3] - true[2])).max() <= 5_000  # 10 ppm of it, not 5 ns more
    assert rng is not None


def test_few_frames_one_way_leave_wall_clocks_as_they_are():
    _, true = traffic(1, LINK, frames=15)
    everything = np.ones(15, bool)
    a, b = Host("a"), Host("b", 10**6)
    whole = join(
        [
            recording(a, LINK, true, ("start", "sent"), everything),
            recording(b, LINK, true, ("arrived", "end"), everything),
        ]
    )
    assert whole.meta["join"]["clock"] == "wall clock"
    assert entry(whole) == {"parts": ["recording 2"], "method": "wall clock", "frames": [15, 0]}
    assert whole.marks["arrived"].tolist() == (true[2] + 10**6).tolist()


def test_one_frame_both_ways_is_a_bound_by_hand():
    # leaves at 1,000, comes when b shows 5,300, leaves at 5,350, is back at 1,450: b is ahead by
    # at most 4,300 (no time there) and at least 3,900 (no time back)
    a, b = Host("a"), Host("b")
    first = Trace(CALL, frame_id=[1], marks={"start": [1_000], "end": [1_450]})
    second = Trace(CALL, frame_id=[1], marks={"arrived": [5_300], "sent": [5_350]})
    first.meta |= a.meta(("start", "end"))
    second.meta |= b.meta(("arrived", "sent"))
    whole = join([first, second])
    told = entry(whole)
    assert told["offset_ns"] == pytest.approx(4_100, abs=2)
    assert told["bound_ns"] == pytest.approx(200, abs=4)
    assert whole.marks["arrived"][0] == pytest.approx(1_200, abs=2)
    assert whole.marks["sent"][0] == pytest.approx(1_250, abs=2)


def test_a_queue_that_grows_is_no_drift():
    # one way, and every frame waits 5 us longer than the one before: 250 parts per million of
    # 20 ms would be a drift, 5,000 is none
    _, true = traffic(2, LINK)
    true[2:] += np.arange(true.shape[1]) * 100_000
    everything = np.ones(true.shape[1], bool)
    whole = join(
        [
            recording(Host("a"), LINK, true, ("start", "sent"), everything),
            recording(Host("b"), LINK, true, ("arrived", "end"), everything),
        ]
    )
    assert entry(whole)["drift_ppb"] == 0
    took = whole.marks["arrived"] - whole.marks["sent"]
    assert np.diff(took).mean() == pytest.approx(100_000, rel=0.01)


# -- order that cannot be -------------------------------------------------------------------------


def test_impossible_order_is_reported_on_one_boot():
    start = np.arange(20) * 1_000
    arrived = start + 300
    arrived[[3, 7]] = start[[3, 7]] - 50
    marks = {"start": start, "sent": start + 100}
    first = Trace(LINK, frame_id=range(20), marks=marks, meta=Host("a").meta(("start", "sent")))
    marks = {"arrived": arrived, "end": start + 400}
    second = Trace(LINK, frame_id=range(20), marks=marks, meta=Host("a").meta(("arrived", "end")))
    whole = join([first, second])
    assert whole.meta["join"]["clock"] == "same boot"
    assert whole.meta["join"]["clock_errors"] == {
        "frames": 2,
        "worst_ns": 150,
        "between": {"arrived": 2},
    }
    assert whole.marks["arrived"].tolist() == arrived.tolist()  # nothing is hidden


def test_directions_that_contradict_each_other_are_told():
    # a clock that jumps by 1 s in the middle: no line lies between all points
    _, true = traffic(4, CALL)
    everything = np.ones(true.shape[1], bool)
    second = recording(Host("b"), CALL, true, ("arrived", "sent"), everything)
    for mark in ("arrived", "sent"):
        second.marks[mark][1_500:] += 10**9
    whole = join([recording(Host("a"), CALL, true, ("start", "end"), everything), second])
    told = entry(whole)
    assert told["contradiction_ns"] > 10**8
    assert told["bound_ns"] > told["contradiction_ns"] / 2
    errors = whole.meta["join"]["clock_errors"]
    # as it was made: what came before it left, by the stamps that the result has
    early = (whole.marks["arrived"] < whole.marks["start"]) | (
        whole.marks["end"] < whole.marks["sent"]
    )
    assert errors["frames"] == np.count_nonzero(early) > 100


# -- ids that start again -------------------------------------------------------------------------


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


def check_matches(whole, true, kept_a, kept_b):
    """Every frame's stamps are those of one true frame."""
    first = {int(t): i for i, t in enumerate(true[0])}
    last = {int(t): i for i, t in enumerate(true[3])}
    found = set()
    for start, end in zip(whole.marks["start"].tolist(), whole.marks["end"].tolist(), strict=True):
        i = first[start] if start != MISSING else last[end]
        assert (start != MISSING) == bool(kept_a[i])
        assert (end != MISSING) == bool(kept_b[i]), (start, end, i)
        if end != MISSING:
            assert last[end] == i
        assert i not in found
        found.add(i)
    assert len(whole) == np.count_nonzero(kept_a | kept_b)
    assert whole.meta["join"]["matched"] == np.count_nonzero(kept_a & kept_b)
    assert whole.meta["join"]["came_twice"] == 0


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("modulus", [64, 1_000, 65_536])
def test_wrapped_ids_with_drops_are_told_apart(seed, modulus):
    rng = np.random.default_rng(seed)
    frames = 3 * modulus + int(rng.integers(0, modulus)) if modulus < 65_536 else 150_000
    ids = (np.arange(frames) + int(rng.integers(0, modulus))) % modulus
    kept_a, kept_b = rng.random(frames) < 0.95, rng.random(frames) < 0.9
    host = Host("a")
    true, a, b = linked(ids, rng, kept_a, kept_b, (host, host), shuffle=3)
    check_matches(join([a, b]), true, kept_a, kept_b)


@pytest.mark.parametrize("seed", range(10))
def test_a_counter_that_starts_again_at_any_time(seed):
    rng = np.random.default_rng(seed)
    runs = rng.integers(100, 2_000, 4)
    ids = np.concatenate([np.arange(n) + 10_000 for n in runs])
    frames = len(ids)
    kept_a, kept_b = rng.random(frames) < 0.95, rng.random(frames) < 0.9
    # the second one began to record later: it never saw the first run, nor half of the second
    kept_b[: runs[0] + runs[1] // 2] = False
    host = Host("a")
    true, a, b = linked(ids, rng, kept_a, kept_b, (host, host))
    check_matches(join([a, b]), true, kept_a, kept_b)


@pytest.mark.parametrize("seed", range(5))
def test_wrapped_ids_of_two_hosts(seed):
    rng = np.random.default_rng(seed)
    ids = np.arange(10_000) % 1_024
    kept_a, kept_b = rng.random(10_000) < 0.95, rng.random(10_000) < 0.9
    # 1,024 frames take a second; the clocks are 3 ms apart
    _, a, b = linked(ids, rng, kept_a, kept_b, (Host("a"), Host("b", 3_000_000)))
    whole = join([a, b])
    assert whole.meta["join"]["matched"] == np.count_nonzero(kept_a & kept_b)
    assert whole.meta["join"]["clock"] == "one way, a bound"
    took = (whole.marks["arrived"] - whole.marks["sent"])[
        (whole.marks["sent"] != MISSING) & (whole.marks["arrived"] != MISSING)
    ]
    assert took.min() >= 0
    assert took.max() < 310_000


@pytest.mark.parametrize("first", range(60, 64))
@pytest.mark.parametrize("frames", [130, 131, 132, 134, 190, 200])
def test_laps_of_a_few_rows(first, frames):
    # a first lap of 1 to 4 rows: the one of a single row cannot be told from a late frame
    ids = (np.arange(frames) + first) % 64
    everything = np.ones(frames, bool)
    true, a, b = linked(ids, np.random.default_rng(1), everything, everything, [Host("a")] * 2)
    told = join([a, b]).meta["join"]
    ends = [64 - first, (first + frames) % 64]  # rows of the first and of the last lap
    unclear = ends.count(1)
    assert told["matched"] >= len(true[0]) - unclear
    assert told["came_twice"] <= 2 * unclear


def test_late_frames_are_no_restart():
    # two packets come very late, one of them last of all
    ids = np.arange(200)
    arrived = ids * 1_000 + 300
    arrived[[20, 150]] = [90_250, 10**6]
    a = Trace(LINK, frame_id=ids, marks={"start": ids * 1_000, "sent": ids * 1_000 + 1})
    b = Trace(LINK, frame_id=ids, marks={"arrived": arrived, "end": arrived + 1})
    whole = join([a, b])
    assert whole.meta["join"]["matched"] == 200
    again = Trace(
        LINK,
        frame_id=[*ids, 7],
        marks={"arrived": [*arrived, 10**7], "end": [*arrived, 10**7]},
    )
    told = join([a, again]).meta["join"]
    assert (told["matched"], told["came_twice"]) == (200, 1)


# -- the files of one recording -------------------------------------------------------------------


def test_rotated_files_are_one_recording(tmp_path):
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
    whole = join([*files, b])
    assert whole.frame_id.tolist() == ids.tolist()
    assert whole.meta["join"]["matched"] == 300
    assert whole.meta["lost"] == 6
    assert [list(pair) for pair in whole.meta["segments"]] == [[0, 1], [10, 15], [20, 25], [30, 35]]
    assert whole.meta["join"]["parts"][0]["rows"] == 300
    assert "recording" not in whole.meta
    assert "part" not in whole.meta
    with pytest.raises(ValueError, match="two owners"):
        join([files[0], Trace(LINK, frame_id=[1], marks={"start": [1]}), b])


def test_traces_of_one_profiler_that_overlap_are_taken_once():
    def trace(ids, lost):
        ids = np.asarray(ids, int)
        marks = {"start": ids * 10, "sent": ids * 10 + 1}
        meta = {"owns": ["start", "sent"], "recording": "r", "lost": lost}
        return Trace(LINK, frame_id=ids, marks=marks, meta=meta, source="s")

    # 5 was recorded twice in the first: that is what the first says
    whole = join([trace([1, 2, 5, 5], 0), trace([2, 5, 6], 3), trace([], 0), trace([6, 7], 4)])
    assert whole.frame_id.tolist() == [1, 2, 5, 5, 6, 7]
    assert whole.meta["lost"] == 4


def test_files_that_a_profiler_rotated_are_joined(tmp_path):
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
    whole = join([*files, recovered, sent.trace()])
    assert whole.frame_id.tolist() == list(range(12_000))
    told = whole.meta["join"]
    assert (told["matched"], told["came_twice"], told["clock"]) == (12_000, 0, "same boot")
    assert told["clock_errors"]["frames"] == 0
    assert "recovery" not in whole.meta
    whole.save(tmp_path / "whole.parquet")
