import itertools

import pytest
from strategies import BARE, simple

import latprof
from latprof.accounts import MOST_RECORDERS, Recorder, Recorders, Written
from latprof.errors import ProfileError
from latprof.profile.codec import Decoder
from latprof.profile.profile import Profile
from latprof.report.report import Report


def of(*hosts, created="2026-01-01T00:00:00Z"):
    found = Recorders()
    for host in hosts:
        found.add({"host": host, "python": "3.11.7", "created": created})
    return found


def test_files_are_counted_by_recorder():
    found = of("b", "a", "b")
    moment = "2026-01-01T00:00:00Z"
    assert found.written == {
        Recorder("b", "3.11.7", ""): Written(2, moment, moment),
        Recorder("a", "3.11.7", ""): Written(1, moment, moment),
    }
    found.add({})
    found.add({})
    assert found.written[Recorder("", "", "")] == Written(2)


def test_merging_in_any_order_gives_equal_recorders():
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
    assert merged[0]["files"][0][4:] == [3, "2026-01-01T00:00:00Z", "2026-01-03T00:00:00Z"]
    assert merged[0]["others"] == 21


def test_recorders_are_saved_with_the_profile_and_reported(tmp_path):
    profile = Profile(BARE)
    profile.add(simple(BARE, [(0, 1)]))
    profile.note({"host": "kvm\x1b[31m", "python": "3.12.1", "latprof": "0.1.0", "core": "c"})
    profile.balance()
    profile.save(tmp_path / "p")
    loaded = latprof.load_profile(tmp_path / "p")
    assert loaded.recorders == profile.recorders
    content = Report(loaded).to_dict()["recorders"]
    row = ["kvm\x1b[31m", "3.12.1", "0.1.0", "c", 1, "", ""]
    assert content == {"files": [row], "others": 0}
    both = loaded + profile
    assert both.recorders.to_dict()["files"][0][4] == 2


def test_recorders_that_were_changed_are_refused():
    def row(**change):
        name = {"host": "a", "python": "b", "latprof": "c"} | change
        return [name, {"files": 1, "first": "", "last": ""} | change]

    for wrong in [
        {"written": [row(files=-1)]},
        {"written": [row(python=1)]},
        {"written": [row(last=None)]},
        {"others": True},
        {"others": -1},
        {"written": [row(host=str(i)) for i in range(MOST_RECORDERS + 1)]},
    ]:
        content = {"written": [], "others": 0} | wrong
        with pytest.raises(ProfileError, match="the file is corrupt"):
            Decoder(None).decode(Recorders, content)
