"""Hosts against each other: what is found, by chance or not, what is not judged, what is shown."""

import gc
import json
import math
import re
import weakref

import numpy as np
import pytest
from figures import clipped, figure_of, overlapping, shown_texts
from scipy import integrate, stats

import latprof
from latprof import Pipeline, ProfileError, Trace, TraceError, analyze
from latprof.cli.main import main
from latprof.comparing.outliers import FEWEST_VALUES, Population, benjamini_hochberg
from latprof.profile.file import read_origin

WEB = Pipeline.chain("web", "handle", "send")
RATE = 0.05


def recorded(host, seed=0, scale=1.0, frames=3_000, begin=0, **optional):
    """Return the trace of a host, 1,000 frames a second."""
    random = np.random.default_rng(seed)
    start = begin + np.arange(frames) * 1_000_000
    handle = start + 20_000
    send = handle + (random.gamma(9, 30_000 * scale, frames)).astype(np.int64)
    marks = {"start": start, "handle": handle, "send": send, "end": send + 40_000}
    meta = {} if host is None else {"host": host}
    return Trace(WEB, frame_id=np.arange(frames), marks=marks, meta=meta, **optional)


@pytest.fixture(scope="module")
def hundred():
    """Return the profiles of 100 hosts that differ by 3 %; host 42 is 30 % slower besides."""
    usual = np.exp(np.random.default_rng(6).normal(0, 0.03, 100))
    return [
        analyze(recorded(f"web-{i}", i, float(usual[i]) * (1.3 if i == 42 else 1.0)))
        for i in range(100)
    ]


# -- the statistics ------------------------------------------------------------------------------


def test_p_values_are_adjusted_as_in_the_example_of_the_paper():
    # Benjamini and Hochberg (1995), section 3.2: of 15 hypotheses, 4 are rejected at 0.05
    p = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459]
    p += [0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0]
    adjusted = benjamini_hochberg(np.array(p))
    assert (adjusted <= 0.05).tolist() == [True] * 4 + [False] * 11
    for seed in range(5):
        values = np.random.default_rng(seed).random(40) ** 3
        judge = stats.false_discovery_control(values, method="bh")
        np.testing.assert_allclose(benjamini_hochberg(values), judge, rtol=1e-12)


def test_centre_and_spread_of_normal_values_are_those_of_the_normal_distribution():
    random = np.random.default_rng(1)
    errors = random.uniform(0.5, 3, 4_000)
    values = 7 + random.normal(0, 2, 4_000) + random.normal(0, errors)
    found = Population.of(values, errors)
    assert found.center == pytest.approx(7, abs=0.15)
    assert found.spread == pytest.approx(2, abs=0.15)
    # the equation that defines it, with the integral for the normal distribution
    expected, _ = integrate.quad(lambda z: min(z * z, 2.25) * stats.norm.pdf(z), -12, 12)
    distances = found.distances(values, errors)
    assert np.minimum(distances**2, 2.25).mean() == pytest.approx(expected, rel=1e-3)
    assert found.p_values(values[:3], errors[:3]) == pytest.approx(
        2 * stats.t.sf(np.abs(distances[:3]), found.df)
    )


def test_a_spread_that_the_errors_explain_is_zero():
    random = np.random.default_rng(2)
    values = random.normal(0, 0.5, 200)
    assert Population.of(values, np.ones(200)).spread == 0
    assert Population.of(np.full(9, 3.0), np.zeros(9)).center == 3


def test_a_tenth_of_odd_values_does_not_hide_itself():
    random = np.random.default_rng(3)
    errors = np.full(100, 0.1)
    for distance in (10, 40):
        values = random.normal(0, 1, 100)
        values[:10] += distance
        found = Population.of(values, errors)
        assert abs(found.center) < 0.5
        assert 0.8 < found.spread < 1.5
        adjusted = benjamini_hochberg(found.p_values(values, errors))
        assert set(np.flatnonzero(adjusted <= RATE)) >= set(range(10))
        assert (adjusted[10:] > RATE).all()


def false_parts(hosts, spread, odd, fleets, seed):
    """Return the false part of what was found in each of many simulated fleets, and what was."""
    random = np.random.default_rng(seed)
    false, found = [], []
    for _ in range(fleets):
        errors = random.uniform(0.01, 0.06, hosts)
        values = random.normal(0, 1, hosts) * np.hypot(spread, errors)
        values[:odd] += 0.5
        population = Population.of(values, errors)
        named = benjamini_hochberg(population.p_values(values, errors)) <= RATE
        false.append(named[odd:].sum() / max(named.sum(), 1))
        found.append(named[:odd].sum())
    return np.array(false), np.array(found)


@pytest.mark.parametrize("hosts", [FEWEST_VALUES, 15, 40, 100])
def test_without_an_odd_host_few_fleets_have_a_finding(hosts):
    for spread in (0.0, 0.03, 0.2):
        false, _ = false_parts(hosts, spread, 0, 300, hosts)
        # the stated rate, and three standard errors of 300 fleets
        assert false.mean() <= RATE + 3 * math.sqrt(RATE * (1 - RATE) / 300)


def test_of_the_hosts_that_are_found_few_are_there_by_chance():
    for odd in (1, 5, 10):
        false, found = false_parts(60, 0.05, odd, 300, odd)
        assert false.mean() <= RATE + 3 * false.std() / math.sqrt(300)
        assert found.mean() > 0.95 * odd


def test_intervals_alone_would_find_hosts_in_every_fleet():
    # what the spread between hosts is for
    random = np.random.default_rng(9)
    errors = np.full(100, 0.02)
    values = random.normal(0, np.hypot(0.06, errors))
    alone = 2 * stats.norm.sf(np.abs(values - np.median(values)) / errors)
    assert (benjamini_hochberg(alone) <= RATE).sum() > 20
    known = Population.of(values, errors)
    assert (benjamini_hochberg(known.p_values(values, errors)) <= RATE).sum() == 0


def queue(host, seed, scale):
    """Return the trace of a host of which frames wait for each other, at a load of 0.5."""
    random = np.random.default_rng(seed)
    service = random.gamma(4, 125_000 * scale, 6_000)
    arrival = np.cumsum(random.exponential(1e6, 6_000))
    done = np.cumsum(service)
    leave = done + np.maximum.accumulate(arrival - (done - service))
    marks = {"start": arrival, "handle": leave - service, "send": leave, "end": leave}
    marks = {name: at.astype(np.int64) for name, at in marks.items()}
    return Trace(WEB, frame_id=np.arange(6_000), marks=marks, meta={"host": host})


@pytest.mark.slow
def test_fleets_of_queues_have_findings_at_the_stated_rate():
    fleets, hosts, wrong, right = 60, 40, 0, 0
    for seed in range(fleets):
        usual = np.exp(np.random.default_rng(seed).normal(0, 0.03, hosts))
        seeds = range(seed * hosts, (seed + 1) * hosts)
        profiles = [analyze(queue(f"{i}", i, float(usual[i % hosts]))) for i in seeds]
        wrong += bool(latprof.fleet(profiles).differing)
        odd = queue("odd", seed, 1.5)
        right += "odd" in [each.host for each in latprof.fleet([*profiles, odd]).differing]
    # 5 % of 60 fleets, and three standard errors
    assert wrong <= RATE * fleets + 3 * math.sqrt(fleets * RATE * (1 - RATE))
    assert right > 0.9 * fleets


# -- the answer ----------------------------------------------------------------------------------


def test_a_host_that_is_a_third_slower_is_found_among_a_hundred(hundred):
    found = latprof.fleet(hundred)
    (odd,) = found.differing
    assert (odd.host, odd.verdict, odd.p_value < 1e-3) == ("web-42", "slower", True)
    profile = hundred[42]
    known = profile["end_to_end"].percentile(99)
    assert (odd.value, odd.low, odd.high) == (known.value, known.low, known.high)
    assert (odd.frames, odd.recordings) == (profile.frames, 1)
    assert odd.ratio == pytest.approx(odd.value / found.typical)
    assert found.sentence.startswith("1 of 100 hosts differs in end_to_end.p99: web-42 (+2")
    assert found.spread == pytest.approx(0.03, abs=0.015)
    assert {each.verdict for each in found.hosts[1:]} == {"as others"}
    sizes = [abs(each.deviation) for each in found.hosts]
    assert sizes == sorted(sizes, reverse=True)
    assert odd.ratio > found.found_from > 1.05


def test_hosts_that_are_alike_are_not_named(hundred):
    found = latprof.fleet(hundred[:42], statistic="handle.mean")
    assert found.differing == ()
    assert found.sentence == "no host of 42 differs in handle.mean by more than chance explains"


def test_a_faster_host_is_named_as_such(hundred):
    slow = [*hundred[:30], analyze(recorded("quick", 7, 0.5))]
    (odd,) = latprof.fleet(slow, statistic=("end_to_end", "p90")).differing
    assert (odd.host, odd.verdict) == ("quick", "faster")


def test_recordings_of_one_host_are_merged_first(tmp_path, hundred):
    first, second = recorded("web-7", 1), recorded("web-7", 2, begin=4 * 10**9)
    analyze(first).save(tmp_path / "a.latprof")
    analyze(second).save(tmp_path / "b.latprof")
    recordings = [*hundred[:7], *hundred[8:20], tmp_path / "a.latprof", tmp_path / "b.latprof"]
    found = latprof.fleet(recordings)
    (both,) = [each for each in found.hosts if each.host == "web-7"]
    assert (both.recordings, both.frames) == (2, 6_000)
    whole = latprof.merge([analyze(first), analyze(second)])["end_to_end"].percentile(99)
    assert (both.value, both.low, both.high) == (whole.value, whole.low, whole.high)
    mixed = latprof.fleet([*recordings[:-1], second])  # a profile and a trace
    assert mixed.to_dict() == found.to_dict()


def test_what_cannot_be_judged_is_listed_with_the_reason(hundred):
    few = analyze(recorded("short", frames=50))
    none = analyze(recorded("idle", frames=0))
    unknown = [analyze(recorded(None, i)) for i in range(2)]
    several = latprof.merge(hundred[90:92])
    found = latprof.fleet([*hundred[:20], few, none, *unknown, several])
    last = {each.host: each for each in found.hosts if each.verdict == "not judged"}
    assert set(last) == {"short", "idle", "(unknown)"}
    assert last["short"].note.startswith("no interval: too few frames for p99: 50")
    assert last["idle"].note == "its value is not known"
    assert (last["(unknown)"].recordings, last["(unknown)"].frames) == (2, 6_000)
    assert all(each.deviation is None and each.p_value is None for each in last.values())
    text = " ".join(str(found).split())
    assert "1 host not judged: short; no interval: too few frames for p99" in text
    assert "1 host not judged: (unknown); their host is unknown" in text
    assert "doubtful: 1 profile of several hosts left out: <Profile of web: 6,000 frames>" in text
    assert len(found.judged) == 20


def test_hosts_of_other_pipelines_and_other_times_are_doubtful(hundred):
    other = Pipeline.chain("web", "handle", "send", "log")
    trace = recorded("late", begin=10**12)
    marks = {**trace.marks, "log": trace.marks["end"]}
    late = Trace(other, frame_id=trace.frame_id, marks=marks, meta={"host": "late"})
    found = latprof.fleet([*hundred[:10], late])
    assert found.doubts == (
        "the pipelines of the hosts differ; only end_to_end.p99 is compared",
        "not all hosts were recorded at the same time, and their load may have differed",
    )
    assert "late" in [each.host for each in found.judged]


def test_few_hosts_are_said_to_be_too_few(hundred):
    found = latprof.fleet(hundred[: FEWEST_VALUES - 1])
    assert (found.differing, found.judged, found.typical) == ((), (), None)
    assert (
        found.sentence == "comparing hosts by end_to_end.p99 needs 8 hosts with an interval, got 7"
    )
    assert "7 hosts not judged: web-0, web-1, web-2 and 4 more; fewer than 8 hosts" in str(found)
    assert "web-6" in str(found)  # with its value


def test_invalid_arguments_are_refused_in_one_line(hundred, tmp_path):
    (tmp_path / "bad.latprof").write_bytes(b"\x1f\x8b and more")
    other = Pipeline.chain("web", "handle", "send", "log")
    marks = {mark: np.arange(3) + i for i, mark in enumerate(other.marks)}
    strange = Trace(other, frame_id=range(3), marks=marks, meta={"host": "web-1"})
    for call, message in (
        (lambda: latprof.fleet([]), "recordings must be at least one"),
        (lambda: latprof.fleet([7]), "recordings must be profiles, traces or paths, got 7"),
        (lambda: latprof.fleet(7), "recordings must be profiles, traces or paths, got 7"),
        (lambda: latprof.fleet(tmp_path / "no.latprof"), "file not found"),
        (lambda: latprof.fleet(tmp_path / "bad.latprof"), r"bad\.latprof: not a saved profile"),
        (lambda: latprof.fleet(hundred, statistic="throughput"), "mean or a percentile"),
        (lambda: latprof.fleet(hundred, statistic="p99.9.9"), "statistic must be SPAN"),
        (lambda: latprof.fleet(hundred, statistic="nap.p99"), "which web-0 lacks"),
        (lambda: latprof.fleet(hundred, false_discovery_rate=1), "between 0 and 1, got 1"),
        (lambda: latprof.fleet(hundred, false_discovery_rate="5"), "between 0 and 1, got '5'"),
        (
            lambda: latprof.fleet([hundred[1], strange]),
            "host web-1: the profile of 1 trace: profiles",
        ),
    ):
        with pytest.raises((ProfileError, TraceError), match=message) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_names_of_hosts_are_bounded_and_escaped(hundred):
    names = ["web\x1b[31m\n7", "<script>alert(1)</script>", "h" * 5_000]
    found = latprof.fleet([*hundred[:10], *(analyze(recorded(name, 1, 3.0)) for name in names)])
    assert {each.host for each in found.differing} >= {names[0], names[1], "h" * 80}
    for shown in (str(found), found._repr_html_(), found.sentence):
        assert "\x1b" not in shown
        assert (
            "<script>" not in shown.replace(found.sentence, "") or shown is not found._repr_html_()
        )
        assert "h" * 31 not in shown
    assert "<script>" not in found._repr_html_()


def test_table_has_all_hosts_and_text_those_that_deviate_most(hundred):
    found = latprof.fleet(hundred)
    table = found.table()
    assert len(table) == 100
    assert table.index[0] == "web-42"
    assert table.loc["web-42", "verdict"] == "slower"
    assert table["value"].dtype == "float64"
    lines = str(found).splitlines()
    assert sum(line.startswith("web-") for line in lines) == 20
    others = [each.ratio - 1 for each in found.hosts[20:]]
    assert f"80 more hosts, from {min(others):+.1%} to {max(others):+.1%}" in str(found)
    assert max(map(len, lines)) <= 100
    content = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert (len(content["hosts"]), content["differing"]) == (100, ["web-42"])


# -- the command -----------------------------------------------------------------------------------


@pytest.fixture
def folder(hundred, tmp_path):
    """Return a folder of the saved profiles of 9 hosts."""
    for i, profile in enumerate(hundred[36:45]):
        profile.save(tmp_path / f"{i:02}.latprof")
    return tmp_path


def test_report_by_host_prints_what_the_function_returns(folder, capsys, tmp_path):
    paths = [str(path) for path in sorted(folder.glob("*.latprof"))]
    found = latprof.fleet(paths)
    for given in (paths, [str(folder)], [f"{folder}/*.latprof"]):
        assert main(["report", *given, "--by", "host", "--format", "json"]) == 0
        assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(found.to_dict()))
    page, picture = tmp_path / "page.html", tmp_path / "hosts.png"
    given = ["report", *paths, "--by", "host", "--html", str(page), "-o", str(picture)]
    assert main(given) == 0
    assert capsys.readouterr().out.strip() == str(found).strip()
    assert picture.read_bytes().startswith(b"\x89PNG")
    html = page.read_text()
    assert found.sentence in html
    assert html.count("<svg") == 1
    assert all(each.host in html for each in found.hosts)
    given = ["report", *paths, "--by", "host", "--statistic", "send.p50"]
    assert main([*given, "--false-discovery-rate", "1%", "--format", "markdown"]) == 0
    other = latprof.fleet(paths, statistic="send.p50", false_discovery_rate=0.01)
    assert other.sentence.replace("_", r"\_") in capsys.readouterr().out


def test_a_file_that_is_given_twice_is_read_once(folder, capsys):
    once, twice = latprof.fleet(folder), latprof.fleet([folder, folder / "00.latprof"])
    assert twice.doubts == ("1 file given more than once, and read once",)
    assert twice.hosts == once.hosts


def test_traces_are_compared_by_host_unless_they_have_a_tag_of_that_name(tmp_path, capsys):
    for i in range(9):
        recorded(f"web-{i % 8}", i, begin=i // 8 * 3 * 10**9).save(tmp_path / f"{i}.parquet")
    given = ["report", str(tmp_path), "--by", "host"]
    assert main(given) == 0
    assert "no host of 8 differs in end_to_end.p99" in capsys.readouterr().out
    assert [each.recordings for each in latprof.fleet(tmp_path).hosts].count(2) == 1
    tags = {"host": ["a", "b"] * 500}
    recorded("web-1", frames=1_000, tags=tags).save(tmp_path / "tag.parquet")
    assert main(["report", str(tmp_path / "tag.parquet"), "--by", "host"]) == 0
    assert "By host" in capsys.readouterr().out


def test_options_that_do_not_go_together_are_refused(folder, capsys):
    profiles = str(folder / "00.latprof")
    for given, said in (
        ([profiles, "--by", "host", "--worst", "3"], "--worst must not be given with --by host"),
        ([profiles, "--by", "host", "--from", "2020-01-01"], "--from must not be given"),
        ([profiles, "--by", "host", "--statistic", "p9x"], "statistic must be SPAN.STATISTIC"),
        ([profiles, "--by", "host", "--false-discovery-rate", "0"], "must be a percentage"),
        ([profiles, "--by", "host", "-o", "x.gif"], "output must end in .png"),
        ([profiles, "--statistic", "p99"], "--statistic must be given with --by host"),
        ([profiles, "-o", "x.png"], "--output must be given with --by host"),
    ):
        assert main(["report", *given]) == 2
        captured = capsys.readouterr()
        assert captured.err.count("\n") == 1
        assert said in captured.err


# -- merging many ----------------------------------------------------------------------------------


def test_profiles_merge_in_a_tree_as_one_after_the_other():
    parts = [analyze(recorded(f"web-{i}", i, frames=40, begin=i * 10**9)) for i in range(37)]
    before = [part.frames for part in parts]
    one_by_one = parts[0].copy()
    for part in parts[1:]:
        one_by_one.add_profile(part)
    for order in (parts, parts[::-1], iter(parts)):
        tree = latprof.merge(order)
        assert tree.accounts == one_by_one.accounts
        assert tree.recorders == one_by_one.recorders
        for name in tree.spans:
            mine, theirs = tree[name], one_by_one[name]
            assert (mine.count, mine.total, mine.min, mine.max, mine.peak_frame) == (
                *(theirs.count, theirs.total, theirs.min, theirs.max, theirs.peak_frame),
            )
            assert mine.histogram == theirs.histogram
            assert mine.percentile(99) == theirs.percentile(99)
            assert mine.std == pytest.approx(theirs.std, rel=1e-9)
    assert [part.frames for part in parts] == before
    assert latprof.merge(parts[:1]).rows() == parts[0].rows()


def test_few_profiles_are_in_memory_while_many_are_merged():
    alive, most = weakref.WeakSet(), 0

    def each():
        nonlocal most
        for i in range(128):
            profile = analyze(recorded(f"web-{i}", i, frames=3))
            alive.add(profile)
            gc.collect(0)
            most = max(most, len(alive))
            yield profile

    assert latprof.merge(each()).frames == 384
    assert most <= 9  # log2(128) + 2, of which the copies are not counted


def test_merge_takes_a_folder_and_a_glob_of_saved_profiles(folder, capsys, tmp_path):
    for given in (
        [str(folder)],
        [f"{folder}/*.latprof"],
        sorted(map(str, folder.glob("*.latprof"))),
    ):
        output = tmp_path / "all" / "m.latprof"
        output.parent.mkdir(exist_ok=True)
        output.unlink(missing_ok=True)
        assert main(["merge", *given, "-o", str(output)]) == 0
        assert "27,000 frames of 9 parts" in capsys.readouterr().out
        assert len({each.host for each in read_origin(output).recorders.written}) == 9
        output.unlink()


# -- what fleets have ------------------------------------------------------------------------------


def said_by(capsys, *arguments):
    """Run the command; return its status and what it prints."""
    status = main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return status, printed.out + printed.err


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[: len(content) // 2],
        lambda content: content[:500] + bytes([content[500] ^ 1]) + content[501:],
        lambda content: b"not a profile",
    ],
)
def test_one_damaged_profile_among_many_is_named(folder, tmp_path, capsys, damage):
    path = folder / "5\x1b[31m.latprof"
    path.write_bytes(damage(next(folder.glob("*.latprof")).read_bytes()))
    named = f"latprof: {folder}/5\\x1b[31m.latprof: "
    for given in ([folder], [f"{folder}/*.latprof"], sorted(folder.glob("*.latprof"))):
        for call in (
            ["merge", *given, "-o", tmp_path / "m.latprof"],
            ["report", *given, "--by", "host"],
            ["compare", *given, "--to", folder],
        ):
            status, said = said_by(capsys, *call)
            assert status == 2
            assert said.startswith(named)
            assert said.count("\n") == 1
    assert not (tmp_path / "m.latprof").exists()


def test_a_copy_of_a_profile_under_another_name_is_reported(folder, tmp_path, capsys):
    first = min(folder.glob("*.latprof"))
    (folder / "copy.latprof").write_bytes(first.read_bytes())
    sentence = "profiles of the same frames merged: 1; their frames count again"
    status, said = said_by(capsys, "report", folder, "--by", "host")
    assert (status, sentence in said) == (0, True)
    output = tmp_path / "m.latprof"
    status, said = said_by(capsys, "merge", folder, "-o", output)
    assert status == 0
    assert said.endswith("; 1 part given more than once, which count again\n")
    assert sentence in said_by(capsys, "report", output)[1]


def test_a_profile_of_another_pipeline_and_a_host_with_one_frame_are_reported(
    folder, tmp_path, capsys
):
    analyze(recorded("single", frames=1)).save(folder / "single.latprof")
    status, said = said_by(capsys, "report", folder, "--by", "host")
    assert (status, "not judged: single; no interval" in " ".join(said.split())) == (0, True)
    assert said_by(capsys, "merge", folder, "-o", tmp_path / "m.latprof")[0] == 0
    other = Pipeline.chain("web", "handle", "send", "log")
    marks = {mark: np.arange(9) + i for i, mark in enumerate(other.marks)}
    where = folder / "z-other.latprof"
    analyze(Trace(other, frame_id=range(9), marks=marks, meta={"host": "other"})).save(where)
    status, said = said_by(capsys, "report", folder, "--by", "host")
    assert (status, "the pipelines of the hosts differ" in said) == (0, True)
    status, said = said_by(capsys, "merge", folder, "-o", tmp_path / "m.latprof")
    assert status == 2
    assert said.startswith(f"latprof: {where}: profiles must have equal pipelines to merge, got")
    assert said.count("\n") == 1


# -- the picture -----------------------------------------------------------------------------------


@pytest.fixture
def ax():
    return figure_of(900, 1_000).add_subplot()


def lines_of(ax, marker):
    return [line for line in ax.lines if line.get_marker() == marker]


def test_the_picture_has_a_row_for_each_host_and_marks_those_that_differ(hundred, ax):
    found = latprof.fleet([*hundred[30:50], analyze(recorded("short", frames=50))])
    latprof.plot.fleet(found, ax=ax)
    names = [text.get_text() for text in ax.get_yticklabels()]
    assert len(names) == 21
    assert (names[0], names[-1]) == ("web-42", "short")
    (odd,) = lines_of(ax, ">")
    assert odd.get_xdata()[0] == found.hosts[0].value
    assert ax.get_yticklabels()[0].get_fontweight() == "bold"
    dots = lines_of(ax, "o")
    assert len(dots) == 20
    assert sum(dot.get_markerfacecolor() == "none" for dot in dots) == 1  # not judged
    values = [dot.get_xdata()[0] for dot in dots[:19]]
    assert values == sorted(values, reverse=True)
    texts = [text.get_text() for text in ax.texts]
    assert re.fullmatch(r"\+\d\d %", texts[0])
    assert "21 hosts, 1 differs; typical" in ax.get_title(loc="left")


def test_of_many_hosts_the_picture_has_those_that_deviate_most(hundred, ax):
    found = latprof.fleet(hundred)
    latprof.plot.fleet(found, ax=ax)
    names = [text.get_text() for text in ax.get_yticklabels()]
    assert names[-1] == "40 other hosts"
    assert "web-42" in names
    (others,) = [line for line in ax.lines if line.get_linewidth() == 4]
    values = [each.value for each in found.hosts[60:]]
    assert list(others.get_xdata()) == [min(values), max(values)]


def test_a_fleet_without_values_is_explained_and_other_things_are_refused(ax):
    found = latprof.fleet([analyze(recorded("idle", frames=0))])
    latprof.plot.fleet(found, ax=ax)
    assert "no host has a value" in ax.texts[0].get_text()
    for wrong in (None, analyze(recorded("a", frames=2))):
        with pytest.raises(ProfileError, match=r"result must be of latprof\.fleet"):
            latprof.plot.fleet(wrong)


def test_no_text_of_the_picture_is_cut_off_or_overlaps(hundred):
    names = ["$x_1$", "<script>", "_hidden", "a\x1b[31m", "x" * 80, "\u05e9\u05dc"]
    hosts = [*hundred[30:60], *(analyze(recorded(name, 1, 2.0)) for name in names)]
    for found, height in ((latprof.fleet(hosts), 900), (latprof.fleet(hundred), 1_350)):
        figure = figure_of(900, height)
        latprof.plot.fleet(found, ax=figure.add_subplot())
        shown = shown_texts(figure)
        assert clipped(figure, shown) == []
        assert overlapping(shown) == []
