import re

import pytest
from strategies import BARE, CHAIN, seeded, simple

from latprof.errors import ProfileError, ProfilerError
from latprof.profile.profile import Profile
from latprof.recorder.profiler import Profiler
from latprof.report.report import Report
from latprof.thresholds import Thresholds, parse_thresholds

MS = 1_000_000


def profile_of(rows, **settings):
    profile = Profile(BARE, **settings)
    profile.add(simple(BARE, rows))
    return profile


def threshold_line(profile, thresholds):
    """Return the lines of the report that say how many frames are above the thresholds."""
    text = str(Report(profile, thresholds=thresholds))
    return [line for line in text.splitlines() if line.startswith("above ")]


def test_a_time_at_the_threshold_is_not_above_it():
    thresholds = parse_thresholds("50ms", 100 * MS)
    assert thresholds == Thresholds(50 * MS, 100 * MS)
    levels = [thresholds.level(ns) for ns in (0, 50 * MS, 50 * MS + 1, 100 * MS, 100 * MS + 0.5)]
    assert levels == ["", "", "warning", "warning", "critical"]
    assert parse_thresholds("50ms", None).level(10**12) == "warning"
    assert parse_thresholds(None, "50ms").level(10**12) == "critical"
    assert Thresholds().level(10**12) == ""


def test_a_span_has_its_own_thresholds_or_those_of_end_to_end():
    thresholds = parse_thresholds({"alsa": "5ms", "end_to_end": "50ms"}, {"alsa": 9 * MS, "ipc": 7})
    alsa, ipc = Thresholds(5 * MS, 9 * MS), Thresholds(None, 7)
    assert thresholds == Thresholds(50 * MS, None, {"alsa": alsa, "ipc": ipc})
    assert thresholds.of("alsa") == alsa
    assert thresholds.of("cgo") is thresholds
    assert thresholds.by_span("warning") == {"end_to_end": 50 * MS, "alsa": 5 * MS}
    assert thresholds.by_span("critical") == {"alsa": 9 * MS, "ipc": 7}
    by_level = map(thresholds.by_span, ("warning", "critical"))
    assert Thresholds.from_spans(*by_level) == thresholds


INVALID = [  # warning, critical, what the error says
    ("soon", None, "warning must be a duration"),
    (None, "-1ms", "critical must be 0 or more, got '-1ms'"),
    (0.5, None, "warning must be a duration"),
    ({"play": None}, None, "warning of 'play' must be a duration"),
    (None, {"play": "x" * 1_000}, "critical of 'play' must be a duration"),
    ("60ms", "50ms", "warning (60 ms) must not exceed critical (50 ms); swap them or "),
    ("2s", "1s", "warning (2 s) must not exceed critical (1 s)"),
    ("50.01ms", "50ms", "warning (50.01 ms) must not exceed critical (50 ms)"),
    (5, 0, "warning (5 ns) must not exceed critical (0 ns)"),
    ({"end_to_end": 5}, 4, "warning (5 ns) must not exceed critical (4 ns)"),
    (
        {"play": 5},
        {"play": 4, "decode": 1},
        "warning of 'play' (5 ns) must not exceed critical of 'play' (4 ns)",
    ),
]


def test_invalid_thresholds_are_refused_with_one_message():
    """The command, the API and the profiler share the rule and its words."""
    for warning, critical, said in INVALID:
        with pytest.raises(ProfileError, match=re.escape(said)) as refused:
            parse_thresholds(warning, critical)
        assert len(str(refused.value)) < 300
        with pytest.raises(ProfilerError, match=re.escape(said)):
            Profiler(CHAIN, warning=warning, critical=critical)


def test_frames_above_are_counted_exactly_at_declared_edges():
    profile = profile_of([(0, 50 * MS), (0, 50 * MS + 1), (0, 100 * MS), (0, 100 * MS + 1)])
    assert threshold_line(profile, Thresholds(50 * MS, 100 * MS)) == [
        "above 50 ms (warning): 3 of 4 frames (75.0%); "
        "above 100 ms (critical): 1 of 4 frames (25.0%)"
    ]
    assert threshold_line(profile, Thresholds()) == []
    assert threshold_line(profile_of([]), Thresholds(1)) == []


def test_frames_above_any_other_threshold_come_with_bounds_that_hold():
    values = [70 * MS + i * 1_000 for i in range(200)]
    profile = profile_of([(0, value) for value in values])
    limit = 70 * MS + 90_500
    above = sum(value > limit for value in values)
    (line,) = threshold_line(profile, Thresholds(limit))
    least, most = (int(x) for x in line.split(": ")[1].split(" of ")[0].split(" to "))
    assert least <= above <= most
    assert most - least < 100


def test_without_thresholds_the_deadline_stands_out():
    profile = profile_of([(0, 7)], deadline="5ns")
    assert Report(profile).marked == Thresholds(critical_ns=5)
    assert Report(profile, thresholds=Thresholds(3)).marked == Thresholds(3)
    assert Report(profile_of([(0, 7)])).marked == Thresholds()


def test_times_of_end_to_end_above_a_threshold_are_marked_in_every_table():
    profile = Profile(BARE, by="source", every="1s")
    profile.add(seeded(BARE, 200, 3, missing=0, negative=0))
    report = Report(profile, worst=3, thresholds=Thresholds(critical_ns=0))
    tables = {s.key: s.table for s in report.sections() if s.table is not None}
    assert list(tables) == ["spans", "ranges", "groups", "windows", "worst"]
    for key, table in tables.items():
        for row in table.cells():
            assert len(row) == len(table.columns), key
            for cell, column in zip(row, table.columns, strict=True):
                if column.kind == "time" and column.name != "std" and cell.value:
                    assert cell.level == "critical", (key, column.name)
