"""Stamps of several hosts on one clock: offset and drift follow from what travels between them."""

import numpy as np
import pytest
from hosts import CALL, LINK, Host, recording, traffic

from latprof import Pipeline, Trace, join
from latprof.frames import MISSING


def entry(joined):
    (only,) = joined.meta["join"]["clocks"]
    return only


def random_host(rng, boot):
    """A clock that is up to an hour off and drifts by up to 200 parts per million."""
    return Host(
        boot, int(rng.integers(-(36 * 10**11), 36 * 10**11)), float(rng.uniform(-2e-4, 2e-4))
    )


def test_traffic_both_ways_gives_a_clock_within_its_bound():
    for seed in range(40):
        rng, true = traffic(seed, CALL)
        a, b = Host("a"), random_host(rng, "b")
        frames = true.shape[1]
        joined = join(
            [
                recording(a, CALL, true, ("start", "end"), rng.random(frames) < 0.9),
                recording(b, CALL, true, ("arrived", "sent"), rng.random(frames) < 0.8),
            ]
        )
        found = entry(joined)
        assert joined.meta["join"]["clock"] == found["method"] == "two ways"
        assert found["parts"] == ["recording 2"]
        assert found["contradiction_ns"] == 0
        ahead = b.ahead(np.array([found["at_ns"]]))[0]
        assert found["low_ns"] <= ahead <= found["high_ns"]
        assert abs(found["offset_ns"] - ahead) <= found["bound_ns"]
        # delays are exponential with a mean of 2 ms over 20 us, and there are thousands of them
        assert found["bound_ns"] < 100_000
        assert abs(found["drift_ppb"] * 1e-9 - b.drift) < 1e-5
        # and no stamp is further from the truth than the bound
        for mark, k in (("arrived", 1), ("sent", 2)):
            stamps = joined.marks[mark]
            there = stamps != MISSING
            off = np.abs(stamps[there] - true[k][joined.frame_id[there].astype(int)])
            assert off.max() <= found["bound_ns"] + 1
        assert joined.meta["join"]["clock_errors"] == {"frames": 0, "worst_ns": 0, "between": {}}


def test_traffic_one_way_gives_an_upper_bound_of_the_offset():
    for seed in range(40):
        rng, true = traffic(seed, LINK)
        a, b = Host("a"), random_host(rng, "b")
        frames = true.shape[1]
        joined = join(
            [
                recording(a, LINK, true, ("start", "sent"), rng.random(frames) < 0.9),
                recording(b, LINK, true, ("arrived", "end"), rng.random(frames) < 0.8),
            ]
        )
        found = entry(joined)
        assert joined.meta["join"]["clock"] == found["method"] == "one way, a bound"
        assert (found["low_ns"], found["bound_ns"]) == (None, None)
        ahead = b.ahead(np.array([found["at_ns"]]))[0]
        assert ahead <= found["high_ns"] <= found["offset_ns"] + 4
        # the quickest of thousands took 20 us and a little
        assert found["offset_ns"] - ahead < 100_000
        assert abs(found["drift_ppb"] * 1e-9 - b.drift) < 1e-5
        matched = (joined.marks["sent"] != MISSING) & (joined.marks["arrived"] != MISSING)
        took = (joined.marks["arrived"] - joined.marks["sent"])[matched]
        assert 0 <= took.min() < 1_000
        truth = (true[2] - true[1])[joined.frame_id[matched].astype(int)]
        assert np.abs(took - truth).max() < 100_000
        assert joined.meta["join"]["clock_errors"]["frames"] == 0


def test_traffic_back_alone_gives_a_lower_bound_of_the_offset():
    for seed in range(5):
        # the first recording along the pipeline is the reference, here the one that receives: none
        # of its marks comes first, but `due` of the third host does
        late = Pipeline("late", ("due", "start", "arrived", "end"))
        rng, true = traffic(seed, late)
        a, b = Host("a"), random_host(rng, "b")
        everything = np.ones(true.shape[1], bool)
        first = recording(a, late, true, ("due", "end"), everything)
        # nothing travels to b that is known: b's frames lack `due` in a's recording
        first.marks["due"][:] = MISSING
        joined = join([first, recording(b, late, true, ("start", "arrived"), everything)])
        found = entry(joined)
        assert found["method"] == "one way, a bound"
        ahead = b.ahead(np.array([found["at_ns"]]))[0]
        assert found["offset_ns"] - 4 <= found["low_ns"] <= ahead
        assert found["high_ns"] is None
        assert ahead - found["offset_ns"] < 100_000


def test_three_hosts_are_aligned_within_their_bounds():
    for seed in range(10):
        path = Pipeline("path", ("start", "b_in", "c_in", "c_out", "b_out", "end"))
        rng, true = traffic(seed, path)
        a, b, c = Host("a"), random_host(rng, "b"), random_host(rng, "c")
        everything = np.ones(true.shape[1], bool)
        joined = join(
            [
                recording(a, path, true, ("start", "end"), everything),
                recording(c, path, true, ("c_in", "c_out"), everything),
                recording(b, path, true, ("b_in", "b_out"), everything),
            ]
        )
        found = {entry["parts"][0]: entry for entry in joined.meta["join"]["clocks"]}
        for name, marks in (("recording 2", ("c_in", "c_out")), ("recording 3", ("b_in", "b_out"))):
            for mark in marks:
                off = np.abs(joined.marks[mark] - true[path.marks.index(mark)])
                assert off.max() <= found[name]["bound_ns"] + 2
        assert joined.meta["join"]["clock"] == "two ways"


def test_two_processes_of_a_host_share_its_clock():
    rng, true = traffic(3, LINK)
    everything = np.ones(true.shape[1], bool)
    a, b = Host("a"), Host("b", 10**9, 1e-5)
    end = recording(b, LINK, true, ("end",), everything)
    # read its wall clock 5 ns later: monotonic stamps are compared as they are
    end.meta["clock_offset_ns"] += 5
    end.marks["end"][:] += 5
    joined = join(
        [
            recording(a, LINK, true, ("start", "sent"), everything),
            recording(b, LINK, true, ("arrived",), everything),
            end,
        ]
    )
    assert entry(joined)["parts"] == ["recording 2", "recording 3"]
    took = joined.marks["end"] - joined.marks["arrived"]
    assert np.abs(took - (true[3] - true[2])).max() <= 5_000  # 10 ppm of it, not 5 ns more
    assert rng is not None


def test_few_frames_one_way_leave_wall_clocks_as_they_are():
    _, true = traffic(1, LINK, frames=15)
    everything = np.ones(15, bool)
    a, b = Host("a"), Host("b", 10**6)
    joined = join(
        [
            recording(a, LINK, true, ("start", "sent"), everything),
            recording(b, LINK, true, ("arrived", "end"), everything),
        ]
    )
    assert joined.meta["join"]["clock"] == "wall clock"
    found = entry(joined)
    assert found.pop("spans") == ["end_to_end", "other"]
    assert found == {"parts": ["recording 2"], "method": "wall clock", "frames": [15, 0]}
    assert joined.marks["arrived"].tolist() == (true[2] + 10**6).tolist()


def test_one_frame_both_ways_gives_a_bound_by_hand():
    # leaves at 1,000, comes when b shows 5,300, leaves at 5,350, is back at 1,450: b is ahead by
    # at most 4,300 (no time there) and at least 3,900 (no time back)
    a, b = Host("a"), Host("b")
    first = Trace(CALL, frame_id=[1], marks={"start": [1_000], "end": [1_450]})
    second = Trace(CALL, frame_id=[1], marks={"arrived": [5_300], "sent": [5_350]})
    first.meta |= a.meta(("start", "end"))
    second.meta |= b.meta(("arrived", "sent"))
    joined = join([first, second])
    found = entry(joined)
    assert found["offset_ns"] == pytest.approx(4_100, abs=2)
    assert found["bound_ns"] == pytest.approx(200, abs=4)
    assert joined.marks["arrived"][0] == pytest.approx(1_200, abs=2)
    assert joined.marks["sent"][0] == pytest.approx(1_250, abs=2)


def test_a_growing_queue_is_not_taken_for_drift():
    # one way, and every frame waits 5 us longer than the one before: 250 parts per million of
    # 20 ms would be a drift, 5,000 are not
    _, true = traffic(2, LINK)
    true[2:] += np.arange(true.shape[1]) * 100_000
    everything = np.ones(true.shape[1], bool)
    joined = join(
        [
            recording(Host("a"), LINK, true, ("start", "sent"), everything),
            recording(Host("b"), LINK, true, ("arrived", "end"), everything),
        ]
    )
    assert entry(joined)["drift_ppb"] == 0
    took = joined.marks["arrived"] - joined.marks["sent"]
    assert np.diff(took).mean() == pytest.approx(100_000, rel=0.01)


# -- impossible order -------------------------------------------------------------------------


def test_impossible_order_is_reported_on_one_boot():
    start = np.arange(20) * 1_000
    arrived = start + 300
    arrived[[3, 7]] = start[[3, 7]] - 50
    marks = {"start": start, "sent": start + 100}
    first = Trace(LINK, frame_id=range(20), marks=marks, meta=Host("a").meta(("start", "sent")))
    marks = {"arrived": arrived, "end": start + 400}
    second = Trace(LINK, frame_id=range(20), marks=marks, meta=Host("a").meta(("arrived", "end")))
    joined = join([first, second])
    assert joined.meta["join"]["clock"] == "same boot"
    assert joined.meta["join"]["clock_errors"] == {
        "frames": 2,
        "worst_ns": 150,
        "between": {"arrived": 2},
    }
    assert joined.marks["arrived"].tolist() == arrived.tolist()  # nothing is hidden


def test_a_clock_that_jumps_is_reported_as_a_contradiction():
    # a clock that jumps by 1 s in the middle: no line lies between all points
    _, true = traffic(4, CALL)
    everything = np.ones(true.shape[1], bool)
    second = recording(Host("b"), CALL, true, ("arrived", "sent"), everything)
    for mark in ("arrived", "sent"):
        second.marks[mark][1_500:] += 10**9
    joined = join([recording(Host("a"), CALL, true, ("start", "end"), everything), second])
    found = entry(joined)
    assert found["contradiction_ns"] > 10**8
    assert found["bound_ns"] > found["contradiction_ns"] / 2
    errors = joined.meta["join"]["clock_errors"]
    # as it was made: what came before it left, by the stamps that the result has
    early = (joined.marks["arrived"] < joined.marks["start"]) | (
        joined.marks["end"] < joined.marks["sent"]
    )
    assert errors["frames"] == np.count_nonzero(early) > 100
