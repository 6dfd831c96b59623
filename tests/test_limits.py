import pytest
from strategies import BARE, seeded, simple

from latprof.errors import ProfileError
from latprof.profile.profile import Profile
from latprof.report.report import Report
from latprof.thresholds import Limits, limits_of

MS = 1_000_000


def profile_of(rows, **settings):
    profile = Profile(BARE, **settings)
    profile.add(simple(BARE, rows))
    return profile


def test_a_time_at_the_threshold_is_not_above_it():
    limits = limits_of("50ms", 100 * MS)
    assert limits == Limits(50 * MS, 100 * MS)
    assert [limits.level(ns) for ns in (0, 50 * MS, 50 * MS + 1, 100 * MS, 100 * MS + 0.5)] == [
        *("", "", "warning", "warning", "critical")
    ]
    assert limits_of("50ms", None).level(10**12) == "warning"
    assert limits_of(None, "50ms").level(10**12) == "critical"
    assert Limits().level(10**12) == ""


@pytest.mark.parametrize(
    ("warning", "critical", "said"),
    [
        ("soon", None, "warning 'soon' is no duration"),
        (None, "-1ms", "critical '-1ms' is negative"),
        ("2s", "1s", "warning 2.00 s is above critical 1.00 s"),
    ],
)
def test_thresholds_that_make_no_sense(warning, critical, said):
    with pytest.raises(ProfileError, match=said):
        limits_of(warning, critical)


def test_frames_above_are_counted_exactly_at_declared_edges():
    profile = profile_of([(0, 50 * MS), (0, 50 * MS + 1), (0, 100 * MS), (0, 100 * MS + 1)])
    assert Limits(50 * MS, 100 * MS).lines(profile) == [
        "above 50.0 ms (warning): 3 of 4 frames (75.0%); "
        "above 100 ms (critical): 1 of 4 frames (25.0%)"
    ]
    assert Limits().lines(profile) == []
    assert Limits(1).lines(profile_of([])) == []


def test_frames_above_any_other_threshold_come_with_bounds_that_hold():
    values = [70 * MS + i * 1_000 for i in range(200)]
    profile = profile_of([(0, value) for value in values])
    limit = 70 * MS + 90_500
    above = sum(value > limit for value in values)
    (line,) = Limits(limit).lines(profile)
    least, most = (int(x) for x in line.split(": ")[1].split(" of ")[0].split(" to "))
    assert least <= above <= most
    assert most - least < 100


def test_without_thresholds_the_deadline_stands_out():
    profile = profile_of([(0, 7)], deadline="5ns")
    assert Report(profile).limits == Limits(critical_ns=5)
    assert Report(profile, limits=Limits(3)).limits == Limits(3)
    assert Report(profile_of([(0, 7)])).limits == Limits()


def test_times_of_a_section_lie_beside_its_cells():
    profile = Profile(BARE, by="source", every="1s")
    profile.add(seeded(BARE, 200, 3))
    found = 0
    for section in Report(profile, worst=3).sections():
        if section.times:
            assert [len(row) for row in section.times] == [len(row) for row in section.rows]
            found += 1
    assert found == 5
