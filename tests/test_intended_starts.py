import numpy as np
import pytest

import latprof
from latprof import Pipeline, Trace
from latprof.errors import TraceError
from latprof.frames import MISSING, Columns, Labels
from latprof.sequence.intended import Intended

MIC = Pipeline.chain("mic", "work", period=20)


def columns(ids, starts, sources=None):
    start = np.array(starts)
    marks = {"start": start, "work": start, "end": start + 5}
    labels = None if sources is None else Labels.encode(sources)
    return Columns(np.array(ids, np.uint64), marks, source=labels)


def test_due_continues_from_the_first_batch():
    intended = Intended(MIC)
    # the smallest id is the first, wherever its row is
    assert intended.add(columns([5, 3, 4], [150, 100, 130])).marks["due"].tolist() == [
        140,
        100,
        120,
    ]
    # later batches, and ids before the first one
    assert intended.add(columns([103, 1], [9999, 77])).marks["due"].tolist() == [2100, 60]


def test_each_source_has_its_own_first_frame():
    found = Intended(MIC).add(columns([0, 10, 1, 11], [100, 505, 130, 540], ["a", "b", "a", "b"]))
    assert found.marks["due"].tolist() == [100, 505, 120, 525]


def test_due_is_missing_if_it_is_unknown():
    intended = Intended(MIC)
    assert intended.add(columns([1, 2], [MISSING, MISSING])).marks["due"].tolist() == [MISSING] * 2
    found = intended.add(columns([7, 2**64 - 1, 2**62], [100, 100, 100]))
    # an id before the first by 8 (ids wrap around), and one that is years away
    assert found.marks["due"].tolist() == [100, 100 - 8 * 20, MISSING]


def test_response_shows_the_delay_of_late_starts():
    # frame 1 takes 70: 2 and 3 start late, and are fast from then on
    start, end = np.array([0, 20, 90, 95, 100]), np.array([5, 90, 95, 100, 105])
    trace = Trace(MIC, frame_id=range(5), marks={"start": start, "work": start, "end": end})
    profile = latprof.analyze(trace, intended=True)
    assert profile["end_to_end"].total == 5 + 70 + 5 + 5 + 5
    # due: 0 20 40 60 80
    assert profile["response"].total == 5 + 70 + 55 + 40 + 25
    report = str(latprof.Report(profile))
    assert "response (from when a frame was due): 39 ns mean, 70 ns at most" in report
    assert "response" not in latprof.analyze(trace).spans


@pytest.mark.parametrize(
    ("pipeline", "said"),
    [
        (Pipeline("mic", ("start", "end")), "must have a period"),
        (Pipeline("mic", ("due", "start", "end"), period=20), "must not have a mark 'due'"),
    ],
)
def test_pipelines_without_a_period_or_with_due_are_refused(pipeline, said):
    with pytest.raises(TraceError, match=said):
        Intended(pipeline)
