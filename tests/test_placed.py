"""Stretches of a chunk against a plain loop, and their counts against counting one by one."""

from itertools import groupby

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import SMALL, seeded

from latprof.fold import stretches
from latprof.fold.exemplars import NO_FRAME_ID, offer
from latprof.fold.stretches import Placed
from latprof.fold.windows import COARSE_BINS, Windows, coarse_bin
from latprof.profile.profile import Profile


def expected_stretches(windows, times, long):
    """Return (begin, end, begins of the windows or None), short runs joined."""
    keys = [tuple(time // some.width_ns * some.width_ns for some in windows) for time in times]
    found, begin = [], 0
    for key, run in groupby(keys):
        end = begin + len(list(run))
        whole = key if end - begin >= long else None
        if whole is None and found and found[-1][2] is None:
            found[-1] = (found[-1][0], end, None)
        else:
            found.append((begin, end, whole))
        begin = end
    return found


@given(
    st.lists(st.integers(-100, 100), min_size=1, max_size=30),
    st.lists(st.sampled_from([1, 7, 16, 1000]), min_size=1, max_size=2),
    st.integers(1, 5),
    st.booleans(),
)
def test_stretches(times, widths, long, in_order):
    times = sorted(times) if in_order else times
    windows = [Windows(("a",), width, 8) for width in widths]
    placements = [some.place(np.array(times), min(times), max(times)) for some in windows]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stretches, "LONG", long)
        found = Placed(placements, len(times)).stretches
    plain = [
        (s.begin, s.end, None if s.where is None else tuple(begin for _, begin in s.where))
        for s in found
    ]
    assert plain == expected_stretches(windows, times, long)
    for stretch in found:
        for some, begin in stretch.where or ():
            assert any(some is one for one in windows)
            assert begin % some.width_ns == 0


def test_frames_without_a_time_are_one_stretch_of_no_window():
    (stretch,) = Placed([], 10_000).stretches
    assert (stretch.begin, stretch.end, stretch.where) == (0, 10_000, ())


def counted(pipeline, parts, long):
    """Return all that windows and histograms count of parts."""
    profile = Profile(pipeline, every="1s")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stretches, "LONG", long)
        for part in parts:
            profile.add(part)
    sums = profile.sums
    found = {"exemplars": sums.exemplars.tolist(), "tails": sums.tails.counts.tolist()}
    for name, span in sums.spans.items():
        found[name] = list(span.histogram)
        for some in (sums.batches, sums.timeline):
            found[name, some.most] = some.begins_ns.tolist(), some.counts(name).tolist()
        found[name, "moments"] = (
            sums.timeline.sums[name].tolist(),
            sums.timeline.peaks[name].tolist(),
        )
    return found


@pytest.mark.parametrize("pipeline", SMALL, ids=lambda p: p.name)
@pytest.mark.parametrize("weights", [False, True])
def test_windows_are_the_same_however_frames_are_counted(pipeline, weights):
    frames = seeded(pipeline, 3_000, 5, weights=weights, missing=0.001, negative=0.001)
    order = np.argsort(frames.marks["end"], kind="stable")
    ordered = frames.take(order)
    parts = [ordered.take(slice(i, i + 700)) for i in (1400, 0, 2100, 700, 2800)]
    one_by_one = counted(pipeline, parts, 10**9)
    for long in (1, 5, 100):
        assert counted(pipeline, parts, long) == one_by_one


@given(
    st.lists(
        st.lists(
            st.tuples(
                st.integers(0, 80) | st.integers(0, 2**62 - 1),
                st.integers(0, 50) | st.just(NO_FRAME_ID),
            ),
            min_size=1,
            max_size=20,
        ),
        max_size=6,
    )
)
def test_exemplars_are_the_smallest_ids(chunks):
    kept = np.full(COARSE_BINS, NO_FRAME_ID, np.uint64)
    smallest: dict[int, int] = {}
    for chunk in chunks:
        latency = np.array([value for value, _ in chunk], np.int64)
        ids = np.array([frame for _, frame in chunk], np.uint64)
        offer(kept, latency, int(latency.min()), int(latency.max()), ids)
        for value, frame in chunk:
            place = coarse_bin(value)
            smallest[place] = min(frame, smallest.get(place, NO_FRAME_ID))
    assert {i: int(kept[i]) for i in smallest} == smallest
    assert int((kept != NO_FRAME_ID).sum()) == sum(v != NO_FRAME_ID for v in smallest.values())
