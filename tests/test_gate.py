"""The gate on commands, and the pytest plugin: both decide by runs, never by one of them."""

import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

import latprof
from latprof import Pipeline, ProfileError, Profiler, Trace
from latprof.cli.main import main
from latprof.comparing.gate import gate_commands

MIC = Pipeline.chain("mic", "decode")
FRAMES = 40


def gate(base, head, *, pairs, max_pairs, **given):
    """Judge p99 on a machine that may be busy with other tests."""
    return gate_commands(
        base,
        head,
        ["p99<+5%"],
        pairs=pairs,
        max_pairs=max_pairs,
        max_lateness="1min",
        **given,
    )


def recording(path, latency_ns):
    """Write a run of frames that take about the same time."""
    start = np.arange(FRAMES) * 10**6
    end = start + latency_ns + np.arange(FRAMES) % 3
    Trace(
        MIC, frame_id=np.arange(FRAMES), marks={"start": start, "decode": start, "end": end}
    ).save(path)


@pytest.fixture
def shop(tmp_path):
    """Return a maker of commands that hand out prepared recordings, one after the other."""

    def command(name, latencies):
        folder = tmp_path / name
        folder.mkdir()
        for i, latency_ns in enumerate(latencies):
            recording(folder / f"{i}.parquet", latency_ns)
        # the next recording of this command, from the start again after the last one
        script = f"""
            n=$(cat {folder}/count 2>/dev/null || echo 0)
            echo $((n + 1)) > {folder}/count
            echo {name} >> {tmp_path}/order
            cp {folder}/$((n % {len(latencies)})).parquet "$LATPROF_RECORDING"
        """
        (folder / "run.sh").write_text(textwrap.dedent(script))
        return f"sh {folder}/run.sh"

    return command


STEADY = (100_000, 100_400, 99_700, 100_100)


def test_runs_alternate_and_a_slower_head_exceeds_the_budget(shop, tmp_path):
    slower = [ns * 12 // 10 for ns in STEADY]
    result = gate(shop("base", STEADY), shop("head", slower), pairs=3, max_pairs=4)
    assert (result.state, result.status) == ("exceeded", 1)
    assert result.sentence == "exceeded: p99<+5%"
    order = (tmp_path / "order").read_text().split()
    # a warm-up of each, two pairs of base against itself, then A B B A A B
    assert order[:2] == ["base", "head"]
    assert order[2:6] == ["base"] * 4
    assert order[6:] == ["base", "head", "head", "base", "base", "head"]
    assert len(result.comparison.base) == 3


def test_equal_commands_meet_the_budget_and_further_pairs_run_only_while_it_is_open(shop):
    same = gate(shop("a", STEADY), shop("b", STEADY), pairs=2, max_pairs=9)
    assert (same.state, len(same.comparison.base)) == ("met", 2)
    # head is 5 % slower give or take: the budget stays open to the last pair
    near = [ns * factor // 100 for ns, factor in zip(STEADY, (101, 109, 103, 107), strict=True)]
    open_ = gate(shop("c", STEADY), shop("d", near), pairs=2, max_pairs=4, check_pairs=0)
    assert (open_.state, open_.status, len(open_.comparison.base)) == ("open", 3, 4)
    assert "judged after each pair from 2 to at most 4" in str(open_)


def test_a_summary_names_the_commands_and_the_runs(shop):
    base, head = shop("a", STEADY), shop("b", STEADY)
    result = gate(base, head, pairs=2, max_pairs=2)
    assert result.to_dict()["commands"] == [base, head]
    said = result.to_markdown().replace("\\", "")
    assert f"base: {base}; head: {head}" in said
    assert "base: pair-001-base.parquet and 1 more run; head: pair-001-head.parquet" in said


def test_given_runs_are_pairs_unless_said_otherwise(tmp_path, capsys):
    # the machine slows down from pair to pair, the same for both sides: only pairs show it
    sides = {"base": [], "head": []}
    for i in range(4):
        for name in sides:
            sides[name].append(str(tmp_path / f"{name}-{i}.parquet"))
            recording(sides[name][-1], 100_000 * (i + 1) + 10 * i * (name == "head"))
    given = ["gate", "--base-runs", *sides["base"], "--head-runs", *sides["head"]]
    given += ["--budget", "mean<+5%"]
    assert main(given) == 0
    assert main([*given, "--unpaired"]) == 3
    capsys.readouterr()


def test_looks_make_the_interval_of_a_budget_wider(shop):
    once = gate(shop("a", STEADY), shop("b", STEADY), pairs=3, max_pairs=3)
    often = gate(shop("c", STEADY), shop("d", STEADY), pairs=3, max_pairs=20)
    assert once.comparison.budget_confidence == pytest.approx(0.95)
    assert often.comparison.budget_confidence > 0.97


def test_base_that_differs_from_itself_gives_no_decision(shop):
    # every second run of base is slower: pairs of base against itself are never equal
    drifting = [100_000, 150_000, 150_400, 100_300]
    result = gate(
        shop("base", drifting),
        shop("head", STEADY),
        pairs=2,
        max_pairs=2,
        check_pairs=2,
        warm_up=0,
    )
    assert (result.state, result.status) == ("open", 3)
    assert result.sentence.startswith("no decision: base differs from itself")


def test_failing_commands_are_errors_with_their_last_lines(tmp_path, shop):
    good = shop("good", STEADY)
    empty = tmp_path / "empty.parquet"
    Trace(MIC, frame_id=[], marks={}).save(empty)
    for command, message in (
        ("echo first; echo why it failed >&2; exit 7", "status 7.*last lines: first | why it fail"),
        ("true", "wrote none.*it printed nothing"),
        ("kill -9 $$", "was ended by signal 9"),
        ("echo x > $LATPROF_RECORDING", "cannot be used"),
        (f"cp {empty} $LATPROF_RECORDING", "must have finished frames"),
    ):
        with pytest.raises(ProfileError, match=message) as caught:
            gate_commands(good, command, ["p99<+5%"], pairs=2)
        assert "\n" not in str(caught.value)
    with pytest.raises(ProfileError, match=r"took longer than 0.3 s"):
        gate_commands("sleep 60", good, ["p99<+5%"], timeout_s=0.3)


def test_a_machine_that_is_too_busy_gives_no_decision(shop):
    result = gate_commands(
        shop("a", STEADY), shop("b", STEADY), ["p99<+5%"], pairs=2, max_pairs=2, max_lateness=0
    )
    assert result.status == 3
    assert result.sentence.startswith("no decision: the machine is busy")


def test_wrong_numbers_of_pairs_are_refused():
    for given in (
        {"pairs": 1},
        {"pairs": 4, "max_pairs": 3},
        {"warm_up": -1},
        {"check_pairs": "2"},
    ):
        with pytest.raises(ProfileError, match="must be an integer, at least"):
            gate_commands("true", "true", ["p99<1ms"], **given)
    for given, rule in (
        ({"confidence": 1}, "confidence must be a number between 0 and 1, got 1"),
        ({"confidence": "high"}, "confidence must be a number between 0 and 1, got 'high'"),
        ({"timeout_s": 0}, "timeout_s must be a number above 0, got 0"),
    ):
        with pytest.raises(ProfileError, match=rule):
            gate_commands("true", "true", ["p99<1ms"], **given)


def test_command_keeps_recordings_and_reports_the_sleeps(shop, tmp_path, capsys):
    keep = tmp_path / "kept"
    given = ["gate", "--base", shop("base", STEADY), "--head", shop("head", STEADY)]
    given += ["--budget", "p99<+5%", "--pairs", "2", "--keep", str(keep), "--format", "json"]
    given += ["--max-lateness", "1min"]
    assert main(given) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["state"] == "met"
    assert {*content["lateness_ns"]} == {"p50", "p99", "max"}
    # two warm-ups, four of base against itself, two pairs
    warm_ups = ["warm-up-001-base", "warm-up-002-head"]
    checks = [f"check-{number:03}-base" for number in range(3, 7)]
    pairs = [f"pair-{number:03}-{name}" for number in (1, 2) for name in ("base", "head")]
    assert sorted(each.stem for each in keep.iterdir()) == sorted(warm_ups + checks + pairs)
    assert main(given) == 2  # their recordings would be mixed
    assert "must be an empty or new folder" in capsys.readouterr().err


def test_progress_names_each_run_and_its_pair(shop):
    shown = []
    gate(
        shop("a", STEADY), shop("b", STEADY), pairs=3, max_pairs=3, check_pairs=0,
        warm_up=0, progress=shown.append,
    )  # fmt: skip
    order = ["1: base", "1: head", "2: head", "2: base", "3: base", "3: head"]
    assert shown == [f"run {i}: pair {which}" for i, which in enumerate(order, 1)]


def test_a_command_that_leaves_an_old_recording_is_an_error(tmp_path, shop):
    with Profiler(MIC) as profiler:
        profiler.record(1, [1_000, 2_000, 3_000])
    profiler.trace().save(tmp_path / "old.parquet")
    stale = f"cp {tmp_path}/old.parquet $LATPROF_RECORDING"
    with pytest.raises(ProfileError, match="head must record anew in each run"):
        gate(shop("a", STEADY), stale, pairs=2, max_pairs=2, warm_up=0)
    old = latprof.analyze(tmp_path / "old.parquet")
    assert "are of one recording" in str(latprof.compare([old, old], [old, old]))


def run_pytest(folder: Path, test: str) -> "subprocess.CompletedProcess[str]":
    header = """
        import time
        import pytest
        from latprof import Pipeline

        MIC = Pipeline.chain("mic", "decode")

        def record(runs, sleep_s, count=4):
            for profiler in runs(MIC, count):
                for i in range(6):
                    with profiler.frame(i) as frame:
                        frame.mark("decode")
                        time.sleep(sleep_s)
    """
    (folder / "test_it.py").write_text(textwrap.dedent(header) + textwrap.dedent(test))
    command = [sys.executable, "-m", "pytest", "-q", "-rP", "-p", "no:cacheprovider"]
    if "latprof" not in {entry.name for entry in _plugins()}:
        command += ["-p", "latprof.pytest_plugin"]
    return subprocess.run(
        [*command, "test_it.py"], cwd=folder, capture_output=True, text=True, check=False
    )


def _plugins():
    from importlib.metadata import entry_points

    return entry_points(group="pytest11")


def test_plugin_fails_tests_that_exceed_their_budget(tmp_path):
    done = run_pytest(
        tmp_path,
        """
        @pytest.mark.latency("p50<1min", "decode.mean<1min")
        def test_met(latency_runs):
            record(latency_runs, 0.001)

        @pytest.mark.latency("p50<1us")
        def test_exceeded(latency_runs):
            record(latency_runs, 0.001)

        @pytest.mark.latency("p50<1min")
        def test_one_run(latency_runs):
            record(latency_runs, 0.001, count=1)

        @pytest.mark.latency("p50<1min", open="pass")
        def test_one_run_passes(latency_runs):
            record(latency_runs, 0.001, count=1)

        @pytest.mark.latency("p50<1min")
        def test_nothing_recorded(latency_runs):
            pass

        @pytest.mark.latency
        def test_no_budget(latency_runs):
            record(latency_runs, 0.001)

        @pytest.mark.latency("p50<1min")
        def test_no_number_of_runs(latency_runs):
            record(latency_runs, 0.001, count="3")

        @pytest.mark.latency("prise.mean<1min")
        def test_wrong_span(latency_runs):
            record(latency_runs, 0.001)

        @pytest.mark.latency("nonsense")
        def test_wrong_budget(latency_runs):
            record(latency_runs, 0.001)
        """,
    )
    assert done.returncode == 1, done.stdout
    assert "2 passed" in done.stdout
    # the values of a test that passed
    assert re.search(r"p50<1min is met, [\d.]+ .*decode.mean<1min is met, [\d.]+ ", done.stdout), (
        done.stdout
    )
    for line in (
        "latency: p50<1us is exceeded",
        "latency: p50<1min is open",
        "latency: the test must record runs: loop over latency_runs(pipeline, 5)",
        'latency: the marker must have at least one budget such as "p99<50ms"',
        "latency_runs: the number of runs must be an integer from 1 on, got '3'",
        "latency: budget 'prise.mean<1min' must name a span of all runs; use decode, other, end",
        "latency: a budget must be SPAN.STATISTIC<LIMIT",
    ):
        assert line in done.stdout, done.stdout
