import json
import sys
from pathlib import Path

import numpy as np
import pytest
from culprits import KINDS, rankings
from simulator import line, served

import latprof
from latprof import Pipeline, Trace, analyze, causes
from latprof.errors import ProfileError, TraceError
from latprof.queueing.model import queue_model

DATA = Path(__file__).parents[1] / "data"
SLOW = DATA / "mic-slow-card.parquet"
SENTENCE = "ipc looks slowest (109 ms mean); 99 % of it is waiting for alsa: the cause is alsa"


@pytest.mark.parametrize("kind", KINDS)
def test_the_injected_cause_is_named(kind, capsys):
    seeds = range(50)
    named, mean, stations = rankings(kind, seeds)
    with capsys.disabled():
        counts = f"causes {named}, by mean {mean}, by mean of stations {stations}"
        sys.stdout.write(f"\n{kind}, right of 50: {counts} ")
    assert named >= 0.98 * len(seeds)
    assert max(mean, stations) <= 0.1 * len(seeds)


def test_own_and_blamed_by_hand():
    found = causes(line([(0, 0, 30, 40, 40), (10, 40, 55, 70, 71), (50, 70, 71, 72, 80)]))
    table = found.table
    assert table["self_time"].tolist() == pytest.approx([0, 46 / 3, 26 / 3, 9 / 3])
    assert table["blocking_time"].tolist() == pytest.approx([0, 25 / 3, 25 / 3, 0])
    assert list(table.columns[:3]) == ["self_time", "blocking_time", "gain"]
    assert found.end_to_end == 40 + 61 + 30
    # medians: get 15, put 10, gone 1; with get at most 15 the ends are 25, 56 and 65
    assert found.gain["get"] == (40 - 25) + (71 - 56) + (80 - 65)
    # with put at most 10: 40, 66, 75
    assert found.gain["put"] == 5 + 5
    assert found.gain["gone"] == 7
    assert found.cause == "get"
    assert "-0.0" not in str(causes(line([(0, 0, 5, 9, 9), (0, 9, 14, 18, 18)])).rows())
    expected = "queue looks slowest (16.7 ns mean); 50 % of it is waiting for get: the cause is get"
    assert found.sentence == expected


def test_the_recordings():
    found = causes(SLOW)
    assert (found.cause, found.slowest, found.sentence) == ("alsa", "ipc", SENTENCE)
    assert found.table.loc["alsa", "blocking_time"] > 0.95 * latprof.read(SLOW).span("ipc").mean()
    healthy = causes(DATA / "mic-healthy.parquet")
    assert healthy.cause == healthy.slowest
    assert (healthy.table["blocking_time"] < 0.05 * healthy.table["self_time"].sum()).all()


@pytest.mark.parametrize("rows", [[], [(None,) * 5], [(0, 0, 0, 0, 0)], [(5, 4, 3, 2, 1)]])
def test_odd_traces(rows):
    found = causes(line(rows))
    assert found.sentence
    assert json.dumps(found.to_dict(), allow_nan=False)
    if rows != [(0, 0, 0, 0, 0)]:
        assert found.cause is None


def test_without_stations_who_waits_is_not_known():
    chain = Pipeline.chain("mic", "queue", "play")
    marks = {"start": [0, 0], "queue": [0, 1], "play": [0, 9], "end": [9, 12]}
    found = causes(Trace(chain, frame_id=[0, 1], marks={m: np.array(x) for m, x in marks.items()}))
    # held to their medians, 4 and 6, they give 4 and 3 of 21
    assert (found.slowest, found.cause) == ("play", "queue")
    assert found.notes == ("no stage has a station: who waits for whom is not known",)
    assert found.sentence.startswith("play is slowest (6 ns mean); whether it is the cause is not ")


def test_a_hand_over_that_is_alike_for_all_was_queued_for():
    # a worker that takes 22 us a frame, and 2.0 to 2.4 us to fetch the next: more than a twentieth
    worker = Pipeline.chain("docs", "queued", "parse", stations={"parse": "worker"})
    arrive, begin, free = np.arange(2_000) * 1_000, [], 0
    for i, at in enumerate(arrive.tolist()):
        begin.append(max(at, free + 2_000 + 100 * (i % 5)))
        free = begin[-1] + 22_000
    begin = np.array(begin)
    marks = {"start": arrive, "queued": arrive, "parse": begin, "end": begin + 22_000}
    found = causes(Trace(worker, frame_id=np.arange(2_000), marks=marks))
    assert found.cause == "parse"
    # all of a wait but the fetching, 2.2 of 24.2 us
    assert found.blocking_time["parse"] / found.total["queued"] == pytest.approx(
        22 / 24.2, abs=1e-3
    )


def test_sampled_or_lossy_recordings():
    trace = line([(0, 1, 2, 3, 4)], meta={"sampling_rate": 0.1})
    with pytest.raises(TraceError, match=r"causes is not available: sampling rate 0\.1"):
        causes(trace)
    profile = analyze(trace, causes=True)
    with pytest.raises(ProfileError, match=r"causes are not available: sampling rate 0\.1"):
        profile.bottleneck("cause")
    assert "causes are not available: sampling rate 0.1" in str(latprof.Report(profile))
    told = latprof.Report(profile).to_dict()["causes"]
    assert told == {"not_available": "causes are not available: sampling rate 0.1"}


# -- in profiles --------------------------------------------------------------------------------


def test_a_profile_keeps_the_causes(tmp_path):
    profile = analyze(SLOW, causes=True)
    assert profile.bottleneck() == "ipc"
    assert profile.bottleneck(why="cause") == "alsa"
    assert profile.causes.rows() == causes(SLOW).rows()
    profile.save(tmp_path / "x.latprof")
    again = latprof.load_profile(tmp_path / "x.latprof")
    assert again.causes == profile.causes
    assert SENTENCE in str(latprof.Report(again))
    assert latprof.Report(again).to_dict()["causes"]["cause"] == "alsa"
    healthy = latprof.Report(analyze(DATA / "mic-healthy.parquet", causes=True))
    assert "cause" not in str(healthy)
    assert healthy.to_dict()["causes"]["cause"] == "transit"


def test_a_profile_without_causes_says_so():
    profile = analyze(SLOW, by="source")
    with pytest.raises(ProfileError, match=r"use analyze\(\.\.\., causes=True\)"):
        profile.bottleneck(why="cause")
    assert latprof.Report(profile).to_dict()["causes"] is None
    with_causes = analyze(SLOW, by="source", causes=True)
    assert with_causes.bottleneck("cause") == "alsa"
    with pytest.raises(ProfileError, match="not a group of it"):
        with_causes.groups["input"].bottleneck("cause")
    for merged in (profile + with_causes, with_causes + profile):
        with pytest.raises(ProfileError, match="some profiles were folded without causes"):
            merged.bottleneck("cause")


def test_causes_are_looked_for_by_default_where_that_is_cheap(monkeypatch):
    assert analyze(SLOW, causes=None).bottleneck("cause") == "alsa"
    monkeypatch.setattr("latprof.analysis.MOST_FOR_CAUSES", 2_999)
    assert analyze(SLOW, causes=None).cause_sums is None
    chain = Trace(Pipeline.chain("mic", "a"), frame_id=[1], marks={})
    assert analyze(chain, causes=None).cause_sums is None


def waited(profile):
    found = profile.causes
    return {name: found.blocking_time[name] for name in ("get", "put")}, found.self_time["queue"]


def test_windows_know_who_was_there_before(monkeypatch):
    # waits are longer than the frames that are kept anyhow
    rng = np.random.default_rng(3)
    rows = served(np.arange(3_000) * 10, rng.integers(2, 9, 3_000), rng.integers(2, 9, 3_000))
    whole = waited(analyze(line(rows), causes=True))
    monkeypatch.setattr("latprof.queueing.windows.WINDOW", 100)
    monkeypatch.setattr("latprof.queueing.windows.HELD", 40)
    traces = [line(rows[i : i + 50]) for i in range(0, 3_000, 50)]
    profile = analyze(traces, causes=True)
    assert waited(profile) == whole
    assert profile.cause_sums.parts == 1
    # a trace in memory comes at once, and is not looked at as a whole either
    sizes = []
    monkeypatch.setattr(
        "latprof.queueing.windows.picture",
        lambda kind, columns, **options: (
            sizes.append(len(columns)) or queue_model(kind, columns, **options)
        ),
    )
    assert waited(analyze(line(rows), causes=True)) == whole
    assert len(sizes) >= 20
    assert max(sizes) < 600


def test_frames_outside_of_the_time_range_keep_others_waiting():
    rows = served(range(0, 4_000, 10), [7] * 400, [9] * 400)
    whole = latprof.blame(line(rows), value="total", queued=True)
    profile = analyze(line(rows), causes=True, since=2_000)
    assert profile.causes.frames == 200
    expected = sum(begin - start for start, begin, *_ in rows[200:])
    assert sum(profile.causes.blocking_time.values()) == expected
    assert whole.loc["queue", "self_time"] == 0


@pytest.mark.parametrize(
    "damage",
    [
        {"stages": []},
        {"gain": {"x": 1}},
        {"waits": [["queue", ["nope"], 1]]},
        {"waits": [["queue", [], 1]]},
        {"frames": -1},
        {"notes": [1]},
        {"end_to_end": "1"},
    ],
)
def test_damaged_causes_are_refused(damage):
    from latprof.queueing.windowed import Parts

    profile = analyze(line(served([0, 5], [3, 3], [4, 4])), causes=True)
    saved = profile.cause_sums.to_dict()
    saved["sums"] |= damage
    with pytest.raises(ProfileError, match="the file is damaged"):
        Parts.from_dict(profile.pipeline, saved)
