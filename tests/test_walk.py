"""Windows against the whole: what is summed window by window is what all frames at once give."""

import re

import numpy as np
import pytest
from culprits import KINDS, pipeline
from test_blaming import LINE, line, overlaps, served

import latprof
from latprof import AUDIO, Trace, blame, causes
from latprof.frames import MISSING, Columns, Labels
from latprof.queueing.busy import Amounts
from latprof.queueing.model import picture
from latprof.queueing.shares import Highest
from latprof.queueing.streams import Stream, in_time
from latprof.queueing.waits import waits_of
from tests.benchmarks.causes import queueing

VALUES = ("share", "mean", "total", "p99")


@pytest.fixture
def small(monkeypatch):
    """Windows of 500 frames, of which 100 are kept back."""
    for module in ("windows", "recordings"):
        monkeypatch.setattr(f"latprof.queueing.{module}.WINDOW", 500)
        monkeypatch.setattr(f"latprof.queueing.{module}.HELD", 100)


def at_once(trace, *, queued=False):
    """Return total, mean and p99 by hand-off and stage, of one picture of all frames."""
    whole = picture(trace.pipeline, trace.columns)
    found = {}
    for wait in waits_of(whole, queued=queued):
        parts: dict[str, Amounts] = {**wait.by_stage(), "own": wait.own()}
        for name, ns in parts.items():
            p99 = np.sort(ns)[-(-99 * len(ns) // 100) - 1]
            found[wait.handoff, name] = int(ns.sum()), ns.mean(), p99
    return found


def audio(n, seed=1, *, load=0.8, dropped=0.0, sources=("a", "b"), transport=60_000, stall=0):
    """Return frames that queue for the server: for thousands of frames behind a stall."""
    rng = np.random.default_rng(seed)
    period = 20_000_000
    marks = {"start": np.sort(rng.integers(0, n * period, n))}
    for mark, median in zip(AUDIO.marks[1:5], (1_000, 20_000, 1_500, 3_000), strict=True):
        before = list(marks.values())[-1]
        marks[mark] = before + rng.lognormal(np.log(median), 0.5, n).astype(np.int64)
    cgo = rng.lognormal(np.log(300_000), 0.5, n).astype(np.int64)
    alsa = rng.gamma(4, load * period / 4, n).astype(np.int64)
    alsa[n // 10] += stall * period
    order = np.argsort(marks["ipc"] + transport, kind="stable")
    ready = (marks["ipc"] + transport)[order]
    ends = np.zeros(n, np.int64)
    free = 0
    for i, row in enumerate(order):
        free = max(free, int(ready[i])) + int(cgo[row] + alsa[row])
        ends[row] = free
    marks |= {"cgo": ends - alsa - cgo, "alsa": ends - alsa, "end": ends}
    gone = rng.random(n) < dropped
    marks["alsa"][gone] = MISSING  # dropped in cgo, at the end of their visit
    outcome = np.where(gone, "late", "finished")
    codes = rng.integers(0, len(sources), n).astype(np.int32)
    return Trace(
        AUDIO,
        frame_id=np.arange(n),
        marks=marks,
        source=Labels(codes, tuple(sources)),
        outcome=Labels.encode(outcome.tolist()) if dropped else None,
    )


def shuffled(trace, reach, seed=2):
    """Return the rows, each up to `reach` places from where it was."""
    rng = np.random.default_rng(seed)
    return rows_of(trace, np.argsort(np.arange(len(trace)) + rng.integers(0, reach, len(trace))))


def rows_of(trace, rows):
    columns = trace.columns.take(rows)
    return Trace(
        trace.pipeline,
        frame_id=columns.frame_id,
        marks=columns.marks,
        source=columns.source,
        outcome=columns.outcome,
    )


TRACES = {
    "queues": audio(4_000),
    "a queue longer than a window": audio(6_000, load=0.9, stall=2_000),
    "saturated": audio(4_000, load=1.6),
    "dropped frames": audio(4_000, dropped=0.2, load=1.0),
    "out of order": shuffled(audio(4_000, dropped=0.1), 90),
    "in no order": shuffled(audio(4_000, dropped=0.1), 4_000),
    "one window": audio(450),
}


@pytest.mark.parametrize("name", TRACES)
@pytest.mark.parametrize("form", ["trace", "file", "files", "file by file"])
def test_windows_give_what_all_frames_at_once_give(name, form, small, tmp_path):
    trace = TRACES[name]
    expected = at_once(trace)
    given = trace
    if form == "file":
        given = tmp_path / "a.parquet"
        trace.save(given)
    elif form == "files":  # recorded at the same time, a file a source
        halves = [trace.columns.source.equals(source) for source in "ab"]
        given = [tmp_path / "b.parquet", tmp_path / "a.parquet"]
        for half, path in zip(halves, given, strict=True):
            rows_of(trace, half).save(path)
    elif form == "file by file":  # one after the other, given in another order
        order = np.argsort(trace.columns.marks["start"], kind="stable")
        parts = [rows_of(trace, part) for part in np.array_split(order, 5)]
        given = [parts[i] for i in (3, 0, 4, 1, 2)]
    tables = {value: blame(given, value=value) for value in VALUES}
    for (handoff, stage), (total, mean, p99) in expected.items():
        assert tables["total"].loc[handoff, stage] == total
        assert tables["mean"].loc[handoff, stage] == pytest.approx(mean, rel=1e-12)
        assert tables["p99"].loc[handoff, stage] == p99
        whole = sum(ns for (other, _), (ns, *_) in expected.items() if other == handoff)
        assert tables["share"].loc[handoff, stage] == pytest.approx(total / whole, rel=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_windows_give_what_a_loop_over_pairs_finds(seed, monkeypatch):
    rng = np.random.default_rng(seed)
    n = 300
    gets = np.where(rng.random(n) < 0.02, 400, rng.integers(0, 9, n))  # queues of 50 frames
    rows = served(np.sort(rng.integers(0, 10 * n, n)).tolist(), gets.tolist(), [2] * n)
    for module in ("windows", "recordings"):
        monkeypatch.setattr(f"latprof.queueing.{module}.WINDOW", 20)
        monkeypatch.setattr(f"latprof.queueing.{module}.HELD", 7)
    order = np.argsort(np.arange(n) + rng.integers(0, 6, n))
    found = blame(line([rows[i] for i in order]), value="total")
    assert found.loc["queue"].to_dict() == overlaps(rows)


def test_windows_agree_on_the_number_of_servers(small):
    # two at once are seen late only, and three once: the whole of it is looked at as of three
    starts = np.arange(3_000) * 10
    begin = starts + 3
    end = begin + 8
    end[1_500:] += 8
    end[2_000] += 10
    rows = list(zip(starts, begin, begin + 4, end, end, strict=True))
    trace = line([tuple(int(x) for x in row) for row in rows])
    assert picture(LINE, trace.columns).visits["worker"].servers == 3
    assert picture(LINE, trace.columns.take(slice(0, 500))).visits["worker"].servers == 1
    expected = at_once(trace)
    found = blame(trace, value="total")
    for name in ("get", "put", "own"):
        assert found.loc["queue", name] == pytest.approx(expected["queue", name][0], rel=1e-12)
    assert "station worker serves up to 3 frames at once" in causes(trace).notes


@pytest.mark.parametrize("name", ["queues", "a queue longer than a window", "dropped frames"])
def test_causes_in_windows_are_nearly_those_of_the_whole(name, monkeypatch):
    # what is told of delays of queued frames is drawn, in each window from those known there
    whole = causes(TRACES[name])
    for module in ("windows", "recordings"):
        monkeypatch.setattr(f"latprof.queueing.{module}.WINDOW", 500)
        monkeypatch.setattr(f"latprof.queueing.{module}.HELD", 100)
    found = causes(TRACES[name])
    assert found.cause == whole.cause == "alsa"
    assert (found.total, found.counts, found.end_to_end) == (
        whole.total,
        whole.counts,
        whole.end_to_end,
    )
    for stage in whole.own:
        for mine, other in ((found.own, whole.own), (found.blamed, whole.blamed)):
            assert mine[stage] == pytest.approx(other[stage], rel=1e-3, abs=1e-4 * whole.end_to_end)


def test_memory_does_not_grow_with_the_file(small, monkeypatch, tmp_path):
    sizes = []

    def spied(kind, columns, **options):
        sizes.append(len(columns))
        return picture(kind, columns, **options)

    monkeypatch.setattr("latprof.queueing.windows.picture", spied)
    most = []
    for n in (2_000, 20_000):  # batches of a file are longer than these windows: they are cut
        sizes.clear()
        queueing(n).save(tmp_path / "x.parquet")
        blame(tmp_path / "x.parquet")
        assert len(sizes) == n / 500
        most.append(max(sizes))
    assert most == [1_000, 1_000]


def test_the_highest_values_hold_the_percentile():
    rng = np.random.default_rng(0)
    for n in (1, 2, 99, 100, 101, 1_000, 12_345):
        values = rng.integers(0, 1_000, n)
        highest = Highest(n)
        for part in np.array_split(values, 7):
            highest.add(part)
        assert highest.p99(n) == np.sort(values)[-(-99 * n // 100) - 1]
        assert len(highest.kept) <= n // 100 + 1


def test_recordings_in_order_of_time():
    def recording(starts, size):
        parts = [starts[i : i + size] for i in range(0, len(starts), size)]
        batches = [
            Columns(np.zeros(len(part), np.uint64), {"start": np.array(part)}) for part in parts
        ]
        return Stream(min(starts, default=0), lambda: iter(batches))

    def read(*recordings):
        return [
            start
            for columns in in_time([recording(*each) for each in recordings])
            for start in columns.marks["start"].tolist()
        ]

    assert read(([5, 6, 7], 2), ([1, 2, 3], 2)) == [1, 2, 3, 5, 6, 7]
    assert read(([1, 4, 5, 8], 2), ([2, 3, 6, 7, 9], 2)) == list(range(1, 10))
    assert read(([1, 9], 1), ([2, 3], 1), ([4, 8], 1)) == [1, 2, 3, 4, 8, 9]
    # rows of one recording keep their order
    assert read(([3, 1, 2], 3)) == [3, 1, 2]
    assert read(([MISSING, MISSING], 1), ([1], 1)) == [MISSING, MISSING, 1]
    assert read(([], 1), ([1], 1)) == [1]
    assert read() == []


def test_a_profile_is_of_the_same_windows(small):
    trace = TRACES["queues"]
    assert latprof.analyze(trace, causes=True).causes == causes(trace)


def test_rows_in_no_order_are_told_of_in_a_profile(small):
    # `causes` reads the recording as a whole then; a profile is folded in one pass
    trace = TRACES["in no order"]
    assert not any("started later" in note for note in causes(trace).notes)
    assert any("started later" in n for n in latprof.analyze(trace, causes=True).causes.notes)
    tidy = latprof.analyze(TRACES["out of order"], causes=True).causes
    assert not any("started later" in note for note in tidy.notes)


def test_windows_say_once_what_is_to_be_said(small):
    trace = pipeline("full queue", 3, 4_000)[0]
    found = [note for note in causes(trace).notes if "held up" in note]
    assert len(found) == 1
    # each blocked visit is counted once: as many as in one look, but for what is near a limit
    visits = int(re.search(r"from ([\d,]+) visits", found[0])[1].replace(",", ""))
    blocked = picture(trace.pipeline, trace.columns).blocked
    (held,) = (each for some in blocked.values() for each in some)
    assert visits == pytest.approx(np.count_nonzero(held.lengths), rel=0.02)


def test_disorder_in_one_window_is_measured_by_all_frames(small):
    # twenty frames in a row enter a busy station: 4 % of a window, 0.7 % of all
    rows = served(range(0, 30_000, 10), [3] * 3_000, [4] * 3_000)
    for i in range(1_000, 1_020):
        rows[i] = (*rows[i][:2], rows[i][1] + 5, rows[i][1] + 11, rows[i][4])
    found = causes(line(rows))
    assert found.gain is not None
    assert "a replay is not available" not in " ".join(found.notes)
    for i in range(1_000, 1_100):
        rows[i] = (*rows[i][:2], rows[i][1] + 5, rows[i][1] + 11, rows[i][4])
    # as many as that say that it has two servers
    assert "station worker serves up to 2 frames at once" in causes(line(rows)).notes


@pytest.mark.parametrize("kind", KINDS)
def test_windows_name_the_injected_cause(kind, small):
    for seed in range(4):
        trace, culprit, _ = pipeline(kind, seed, 3_000)
        found = causes(trace)
        assert found.cause == culprit
        assert len(found.notes) <= 12
