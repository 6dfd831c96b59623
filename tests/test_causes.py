import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from culprits import KINDS, rankings
from lines import line, served

import latprof
from latprof import AUDIO, Pipeline, Report, Trace, analyze, causes, utilization, what_if
from latprof.cli.main import main
from latprof.errors import LatprofError, ProfileError, TraceError
from latprof.queueing.blame import waited_for
from latprof.queueing.model import queue_model
from latprof.queueing.suggestions import suggest_stations
from tests.benchmarks.causes import queueing

DATA = Path(__file__).parents[1] / "data"
SLOW = DATA / "mic-slow-card.parquet"
ROWS = served(range(0, 400, 10), [7] * 40, [9] * 40)
SENTENCE = "ipc looks slowest (109 ms mean); 99 % of it is waiting for alsa: the cause is alsa"


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [range(8), pytest.param(range(50), marks=pytest.mark.slow)])
def test_the_injected_cause_is_named(seeds):
    for kind in KINDS:
        named, mean, stations = rankings(kind, seeds)
        assert named >= 0.98 * len(seeds), kind
        assert max(mean, stations) <= 0.1 * len(seeds), kind


def test_self_and_blocking_time_by_hand():
    found = causes(line([(0, 0, 30, 40, 40), (10, 40, 55, 70, 71), (50, 70, 71, 72, 80)]))
    table = found.table
    assert table["self_time"].tolist() == pytest.approx([0, 46 / 3, 26 / 3, 9 / 3])
    assert table["blocking_time"].tolist() == pytest.approx([0, 25 / 3, 25 / 3, 0])
    assert list(table.columns[:3]) == ["self_time", "blocking_time", "gain"]
    assert found.end_to_end == 40 + 61 + 30
    # a tenth less of get is 27, 14 and 1 (rounded): the ends are 37, 67 and 76
    assert found.gain["get"] == (40 - 37) + (71 - 67) + (80 - 76)
    # of put 9, 14 and 1: 39, 69 and 78
    assert found.gain["put"] == 1 + 2 + 2
    assert found.gain["gone"] == 1
    # medians: get 15, put 10, gone 1; with get at most 15 the ends are 25, 56 and 65
    assert found.held["get"] == (40 - 25) + (71 - 56) + (80 - 65)
    # with put at most 10: 40, 66, 75
    assert found.held["put"] == 5 + 5
    assert found.held["gone"] == 7
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
def test_traces_with_few_or_odd_frames(rows):
    found = causes(line(rows))
    assert found.sentence
    assert json.dumps(found.to_dict(), allow_nan=False)
    if rows != [(0, 0, 0, 0, 0)]:
        assert found.cause is None


def test_without_stations_it_is_unknown_what_frames_wait_for():
    chain = Pipeline.chain("mic", "queue", "play")
    marks = {"start": [0, 0], "queue": [0, 1], "play": [0, 9], "end": [9, 12]}
    found = causes(Trace(chain, frame_id=[0, 1], marks={m: np.array(x) for m, x in marks.items()}))
    # a tenth less of 1 and 8 (rounded) is 0 and 1, of 9 and 3 it is 1 and 0
    assert (found.slowest, found.cause) == ("play", "queue")
    assert found.notes == ("no stage has a station: which stages frames wait for is not known",)
    assert found.sentence.startswith("play is slowest (6 ns mean); whether it is the cause is unk")


def test_frames_with_equal_hand_overs_were_queued():
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


def test_causes_are_refused_for_sampled_recordings():
    trace = line([(0, 1, 2, 3, 4)], meta={"sampling_rate": 0.1})
    with pytest.raises(TraceError, match=r"causes is not available: sampling rate 0\.1"):
        causes(trace)
    profile = analyze(trace, causes=True)
    with pytest.raises(ProfileError, match=r"causes are not available: sampling rate 0\.1"):
        profile.bottleneck("cause")
    assert "causes are not available: sampling rate 0.1" in str(latprof.Report(profile))
    content = latprof.Report(profile).to_dict()["causes"]
    assert content == {"not_available": "causes are not available: sampling rate 0.1"}


def test_causes_are_refused_for_lossy_recordings():
    why = "not available: 1,204 frames lost here"
    trace = line([(0, 1, 2, 3, 4)], meta={"lost": 1204})
    with pytest.raises(TraceError, match=f"causes is {why}"):
        causes(trace)
    with pytest.raises(ProfileError, match=f"causes are {why}"):
        analyze(trace, causes=True).bottleneck("cause")


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


def test_windows_include_earlier_frames_that_are_still_present(monkeypatch):
    # waits are longer than the rows that are held back
    rng = np.random.default_rng(3)
    rows = served(np.arange(3_000) * 10, rng.integers(2, 9, 3_000), rng.integers(2, 9, 3_000))
    whole = analyze(line(rows), causes=True).causes
    sizes = []

    def recorded(pipeline, columns, **options):
        sizes.append(len(columns))
        return queue_model(pipeline, columns, **options)

    monkeypatch.setattr("latprof.queueing.windows.WINDOW_ROWS", 100)
    monkeypatch.setattr("latprof.queueing.windows.HELD_BACK_ROWS", 40)
    monkeypatch.setattr("latprof.queueing.windows.EDGE_ROWS", 20)
    monkeypatch.setattr("latprof.sequence.segments.EDGE_ROWS", 20)
    monkeypatch.setattr("latprof.queueing.windows.queue_model", recorded)
    for given in ([line(rows[i : i + 50]) for i in range(0, 3_000, 50)], line(rows)):
        sizes.clear()
        profile = analyze(given, causes=True)
        found = profile.causes
        assert found.blocking_time == whole.blocking_time
        assert found.self_time == whole.self_time
        assert profile.cause_sums.recordings == 1
        assert len(sizes) >= 10
        assert max(sizes) < 1_200  # the queue, twice


def test_frames_outside_of_the_time_range_keep_others_waiting():
    rows = served(range(0, 4_000, 10), [7] * 400, [9] * 400)
    whole = latprof.blame(line(rows), value="total", queued=True)
    profile = analyze(line(rows), causes=True, since=2_000)
    assert profile.causes.frames == 200
    expected = sum(begin - start for start, begin, *_ in rows[200:])
    assert sum(profile.causes.blocking_time.values()) == expected
    assert whole.loc["queue", "self_time"] == 0


# -- one function for the command, the API and reports ------------------------------------------


def test_the_command_the_api_and_profiles_give_the_same_causes(tmp_path, capsys):
    # more frames than a window has
    path = tmp_path / "x.parquet"
    queueing(140_000).save(path)
    found = causes(path)
    assert main(["causes", str(path), "--format", "json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    expected = json.loads(json.dumps(found.to_dict()))
    assert {name: printed[name] for name in expected} == expected
    assert [row["busy"] for row in printed["stations"]] == utilization(path).table["busy"].tolist()
    shares = latprof.blame(path)
    assert printed["blame"] == {name: row.to_dict() for name, row in shares.iterrows()}
    assert analyze(path, causes=True).causes == found
    assert latprof.Report(analyze(path, causes=True)).to_dict()["causes"] == found.to_dict()


def test_causes_of_a_trace_in_memory_load_neither_pyarrow_nor_pandas():
    code = """
import sys, numpy, latprof
at = {mark: numpy.arange(9) * 20 + i for i, mark in enumerate(latprof.AUDIO.marks)}
trace = latprof.Trace(latprof.AUDIO, frame_id=numpy.arange(9), marks=at)
str(latprof.causes(trace)), str(latprof.what_if(trace, {"alsa": 0.5})), latprof.utilization(trace)
print([name for name in ("pandas", "pyarrow", "matplotlib", "rich") if name in sys.modules])
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.stdout == "[]\n", found.stderr


def test_results_print_as_text_and_have_a_short_repr():
    found = causes(SLOW)
    assert str(found).startswith(f"{SENTENCE}\n")
    assert "self time  blocking time   gain  throughput" in str(found)
    assert repr(found) == "<Causes of 3,000 frames: cause alsa>"
    assert "<table" in found._repr_html_()
    result = what_if(SLOW, {"alsa": 0.9})
    assert str(result).startswith("What if alsa x 0.9\n3,000 frames, 0 dropped by the change")
    assert repr(result) == "<WhatIf of 3,000 frames: alsa x 0.9>"
    assert "server: busy 88%" in str(utilization(SLOW))


def test_wrong_arguments_are_refused_in_one_line():
    trace = line(ROWS)
    odd = (7, "x", None, True, 1.5, [3], {3: 4}, object(), np.zeros(3), float("nan"), "\x1b[31m")
    calls = [
        *(
            (function, (value, *rest), {})
            for function, rest in (
                (causes, ()),
                (latprof.blame, ()),
                (utilization, ()),
                (latprof.sensitivity, ()),
                (what_if, ({"get": 0.9},)),
                (suggest_stations, ()),
            )
            for value in odd
        ),
        *(
            (function, (trace,), {name: value})
            for function, names in (
                (causes, ("hand_over", "depth", "stations", "pipeline")),
                (latprof.blame, ("value", "hand_over", "depth", "stations", "pipeline")),
                (utilization, ("hand_over", "stations", "pipeline")),
                (latprof.sensitivity, ("less", "hand_over", "stations", "pipeline")),
                (suggest_stations, ("stations", "pipeline")),
                (what_if, ("changes", "servers", "drop", "hand_over", "stations", "pipeline")),
            )
            for name in names
            for value in odd
        ),
        *(
            (what_if, (trace,), {argument: {name: value}})
            for argument, name in (("changes", "get"), ("servers", "worker"), ("drop", "queue"))
            for value in (*odd, "much", "-2parsecs", -1, 10**400, float("inf"))
        ),
        *((causes, (trace,), {"stations": {"get": value}}) for value in odd),
        *((waited_for, (trace, value), {}) for value in odd),
    ]
    for function, arguments, named in calls:
        message = ""
        try:
            function(*arguments, **named)
        except LatprofError as error:
            message = str(error)
        assert message.isprintable(), (function, arguments, named)
        assert len(message) < 400, (function, arguments, named)


def test_an_empty_trace_has_a_sentence_and_no_table():
    none = np.zeros(0, np.int64)
    empty = Trace(AUDIO, frame_id=none, marks=dict.fromkeys(AUDIO.marks, none))
    assert str(causes(empty)).strip() == "no frame has a whole stage: nothing is slow"
    assert "<html" in Report(analyze(empty, causes=True)).to_html()
