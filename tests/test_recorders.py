import itertools

import pytest
from strategies import BARE, simple

import latprof
from latprof.errors import ProfileError
from latprof.profile.origins import MOST_RECORDERS, Recorder, Recorders, Written
from latprof.profile.profile import Profile
from latprof.report.report import Report


def of(*hosts, created="2026-01-01T00:00:00Z"):
    found = Recorders()
    for host in hosts:
        found.add({"host": host, "python": "3.11.7", "created": created})
    return found


def test_files_are_counted_by_who_wrote_them():
    found = of("b", "a", "b")
    moment = "2026-01-01T00:00:00Z"
    assert found.written == {
        Recorder("b", "3.11.7", ""): Written(2, moment, moment),
        Recorder("a", "3.11.7", ""): Written(1, moment, moment),
    }
    found.add({})
    found.add({})
    assert found.written[Recorder("", "", "")] == Written(2)


def test_merged_in_any_order_they_are_the_same():
    names = [f"host-{i:03}" for i in range(MOST_RECORDERS + 20)]
    parts = [of("a", *names[i::3], created=f"2026-01-0{i + 1}T00:00:00Z") for i in range(3)]
    merged = []
    for order in itertools.permutations(parts):
        whole = Recorders()
        for part in order:
            whole.merge(part)
        merged.append(whole.to_dict())
    assert all(each == merged[0] for each in merged)
    assert [row[0] for row in merged[0]["files"]] == ["a", *names[: MOST_RECORDERS - 1]]
    assert merged[0]["files"][0][3:] == [3, "2026-01-01T00:00:00Z", "2026-01-03T00:00:00Z"]
    assert merged[0]["others"] == 21


def test_they_are_saved_with_the_profile_and_in_the_report(tmp_path):
    profile = Profile(BARE)
    profile.add(simple(BARE, [(0, 1)]))
    profile.note({"host": "kvm\x1b[31m", "python": "3.12.1", "latprof": "0.1.0"})
    profile.balance()
    profile.save(tmp_path / "p")
    loaded = latprof.load_profile(tmp_path / "p")
    assert loaded.recorders == profile.recorders
    content = Report(loaded).to_dict()["recorders"]
    row = ["kvm\x1b[31m", "3.12.1", "0.1.0", 1, "", ""]
    assert content == {"files": [row], "others": 0}
    both = loaded + profile
    assert both.recorders.to_dict()["files"][0][3] == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"files": [["a", "b", "c", -1, "", ""]]},
        {"files": [["a", 1, "c", 1, "", ""]]},
        {"files": [["a", "b", "c", 1, "", None]]},
        {"others": True},
        {"others": -1},
        {"files": [["a", "b", str(i), 1, "", ""] for i in range(MOST_RECORDERS + 1)]},
    ],
)
def test_what_cannot_be_is_refused(wrong):
    content = {"files": [], "others": 0} | wrong
    with pytest.raises(ProfileError, match="damaged"):
        Recorders.from_dict(content)
