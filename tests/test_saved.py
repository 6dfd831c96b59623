"""Profiles as files: the same after a round trip, refused in one line when they cannot be true."""

import copy
import gzip
import json
import math
import os
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import AUDIO, BARE, CHAIN, DUE, SMALL, columns, seeded, simple
from traces import mic

from latprof.errors import ProfileError
from latprof.frames import Columns, Labels
from latprof.pipeline import Pipeline
from latprof.profile.file import FORMAT, is_profile, load_profile, save_profile
from latprof.profile.profile import Profile, merge

QS = (0, 50, 90, 99, 100)


def profiled(pipeline, *parts, **options):
    profile = Profile(pipeline, **options)
    for part in parts:
        profile.add(part)
        profile.note({})
    profile.balance()
    return profile


def content_of(path):
    return json.loads(gzip.decompress(path.read_bytes()))


def write(path, content):
    path.write_bytes(gzip.compress(json.dumps(content).encode()))


def facts(profile):
    """Return all that a profile answers."""
    sums = profile.sums
    missed = profile.deadline
    return {
        "rows": profile.rows(),
        "ranges": profile.ranges,
        "shares": sums.shares,
        "variance": profile.variance_shares,
        "unclaimed": profile.unclaimed,
        "tail": profile.tail(90).to_dict(),
        "dropped": sums.dropped,
        "excluded": sums.excluded,
        "pace": (profile.time_range_ns, profile.active_ns, profile.throughput, profile.sampled),
        "sizes": (sums.size_bytes, sums.sized),
        "worst": [(f.frame_id, f.end_to_end_ns, f.source, f.marks) for f in sums.worst.frames],
        "exemplars": profile.exemplars(),
        "deadline": missed,
        "windows": None if sums.timeline is None else profile.timeline().to_dict(),
        "accounts": profile.accounts.to_dict(),
        "files": profile.files,
        "groups": {name: facts(group) for name, group in profile.groups.items()},
    }


def same(a, b):
    """Compare plain values; NaN is NaN."""
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, float) and isinstance(b, float):
        return a == b or (math.isnan(a) and math.isnan(b))
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


traces = st.sampled_from(SMALL).flatmap(lambda p: st.tuples(st.just(p), columns(p)))
every = st.sampled_from([None, "1ns", "7ns", "1s"])
deadlines = st.sampled_from([None, 1, 20, 10**6])


# -- round trip ---------------------------------------------------------------------------------


@given(traces, every, deadlines, st.sampled_from([None, "source", "outcome"]))
@settings(max_examples=20)
def test_any_profile_comes_back_as_it_was(tmp_path_factory, trace, every, deadline, by):
    pipeline, frames = trace
    profile = profiled(pipeline, frames, every=every, deadline=deadline, by=by)
    path = tmp_path_factory.mktemp("p") / "p"
    profile.save(path)
    again = load_profile(path)
    assert again.pipeline == pipeline
    assert same(facts(again), facts(profile))
    text = path.read_bytes()
    again.save(path)
    assert path.read_bytes() == text


@given(traces, st.lists(st.integers(0, 2), max_size=10), every)
@settings(max_examples=8)
def test_what_was_loaded_merges_like_what_was_saved(tmp_path_factory, trace, places, every):
    pipeline, frames = trace
    folder = tmp_path_factory.mktemp("p")
    parts = []
    for i in range(3):
        where = [places[k % len(places)] == i if places else i == 0 for k in range(len(frames))]
        rows = frames.take(np.array(where, bool))
        parts.append(profiled(pipeline, rows, every=every, deadline=9, by="source"))
        parts[i].save(folder / str(i))
    loaded = [load_profile(folder / str(i)) for i in (2, 0, 1)]
    assert same(facts(merge(loaded)), facts(merge([parts[2], parts[0], parts[1]])))
    # and a loaded profile goes on
    loaded[0].add(frames)
    parts[2].add(frames)
    assert same(facts(loaded[0]), facts(parts[2]))


@pytest.mark.parametrize("pipeline", SMALL, ids=lambda p: p.name)
def test_a_long_profile_with_everything_comes_back(tmp_path, pipeline):
    frames = seeded(pipeline, 3_000, 3, weights=True)
    profile = profiled(pipeline, frames, by="room", every="500ms", deadline="4ms")
    profile.note({"segments": [[5, 9], [7, 12]], "lost": 3, "accounts": {"in_flight": 2}})
    profile.save(tmp_path / "p")
    again = load_profile(tmp_path / "p")
    assert same(facts(again), facts(profile))
    assert len(again.groups) == 3
    assert again.accounts.lost == 3


def test_names_of_any_kind_come_back(tmp_path):
    names = ["\x1b[31m", "(none)", "", "\ud800", "ä\0\n", None]
    frames = simple(BARE, [(0, 5 + i) for i in range(6)], source=Labels.encode(names))
    profile = profiled(BARE, frames, by="source")
    profile.save(tmp_path / "p")
    assert same(facts(load_profile(tmp_path / "p")), facts(profile))
    assert [f.source for f in profile.sums.worst.frames] == names[::-1]


def test_edges_may_be_numpys(tmp_path):
    profile = profiled(BARE, simple(BARE, [(0, 5), (0, 9)]), edges_ns=np.array([5, 7]))
    profile.save(tmp_path / "p")
    assert load_profile(tmp_path / "p").ranges == [(0, 5, 1), (5, 7, 0), (7, None, 1)]


def test_the_same_profile_gives_the_same_bytes(tmp_path):
    frames = seeded(CHAIN, 500, 2)
    for name in "ab":
        profiled(CHAIN, frames, by="source").save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_latencies_of_centuries_in_all(tmp_path):
    # the sums of one bin, and of one window, pass 64 bits
    frames = simple(BARE, [(-(2**61), 2**61 - 1)] * 40)
    profile = profiled(BARE, frames, every="1h")
    profile.save(tmp_path / "p")
    again = load_profile(tmp_path / "p")
    assert again["end_to_end"].total == 40 * (2**62 - 1)
    assert again["end_to_end"].mean == profile["end_to_end"].mean


# -- size ---------------------------------------------------------------------------------------


def test_a_day_of_frames_is_a_small_file(tmp_path):
    n = 24 * 3600 * 50
    rng = np.random.default_rng(0)
    start = np.arange(n) * 20_000_000 + 1_700_000_000_000_000_000
    profile = Profile(AUDIO)
    for begin in range(0, n, 1 << 19):
        rows = slice(begin, begin + (1 << 19))
        marks = {"start": start[rows]}
        for i, (mark, before) in enumerate(zip(AUDIO.marks[1:], AUDIO.marks, strict=False)):
            wait = rng.standard_gamma(2, len(marks["start"])) * 3 ** (i + 8)
            marks[mark] = marks[before] + wait.astype(np.int64)
        profile.add(Columns(np.arange(n, dtype=np.uint64)[rows], marks))
    profile.save(tmp_path / "day")
    assert profile.frames == n
    assert os.path.getsize(tmp_path / "day") < 500_000
    assert load_profile(tmp_path / "day").frames == n


# -- what is refused ----------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path):
    where = tmp_path / "p.latprof"
    frames = seeded(DUE, 30, 1, weights=True)
    profiled(DUE, frames, every="1s", deadline="5ms").save(where)
    return where


@pytest.fixture
def grouped(tmp_path):
    where = tmp_path / "g.latprof"
    profiled(CHAIN, seeded(CHAIN, 30, 1), by="source", deadline="5ms").save(where)
    return where


def one_line(path):
    """Load, which must fail; return the message."""
    with pytest.raises(ProfileError) as caught:
        load_profile(path)
    text = str(caught.value)
    assert "\n" not in text
    assert path.name in text
    return text


def loaded_or_refused(path):
    """Return the profile, or None where it is refused as it should be."""
    try:
        return load_profile(path)
    except ProfileError:
        one_line(path)
        return None


def test_a_file_that_is_cut_short(path):
    whole = path.read_bytes()
    for length in range(0, len(whole), 10):
        path.write_bytes(whole[:length])
        assert "is no saved profile" in one_line(path)


def test_a_byte_that_flipped(path):
    whole = path.read_bytes()
    profile = facts(load_profile(path))
    generator = random.Random(1)
    refused = 0
    for _ in range(300):
        place = generator.randrange(len(whole))
        damaged = bytearray(whole)
        damaged[place] ^= 1 << generator.randrange(8)
        path.write_bytes(damaged)
        found = loaded_or_refused(path)
        refused += found is None
        # what is read has a bit changed in gzip's header, which says nothing
        assert found is None or same(facts(found), profile)
    assert refused > 285


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: b"", "is no saved profile"),
        (lambda: b"hello", "is no saved profile"),
        (lambda: gzip.compress(b""), "is no saved profile"),
        (lambda: gzip.compress(b"\xff\xfe"), "is no saved profile"),
        (lambda: gzip.compress(b"[" * 100_000), "is no saved profile"),
        (lambda: gzip.compress(b"1" * 5_000), "is no saved profile"),
        (lambda: gzip.compress(b"NaN"), "is no saved profile"),
        (lambda: gzip.compress(b"[1, 2]"), "is no saved profile"),
        (lambda: gzip.compress(b"{}"), "is no saved profile"),
        (lambda: gzip.compress(b'{"latprof_profile": true}'), "is no saved profile"),
        (lambda: gzip.compress(b'{"latprof_profile": "1"}'), "is no saved profile"),
        (lambda: gzip.compress(b'{"latprof_profile": 0}'), "is no saved profile"),
        (lambda: gzip.compress(b'{"latprof_profile": 1}'), "pipeline"),
        (lambda: gzip.compress(b" " * 10_000_000), "is no saved profile"),
    ],
)
def test_what_is_no_profile(tmp_path, make, said):
    path = tmp_path / "x.latprof"
    path.write_bytes(make())
    assert said in one_line(path)


def test_a_bomb_is_not_unpacked(tmp_path, monkeypatch):
    from latprof.profile import file

    monkeypatch.setattr(file, "_MOST_BYTES", 1 << 20)
    path = tmp_path / "x.latprof"
    profile = b'{"latprof_profile": 1, "x": "' + b" " * (1 << 22) + b'"}'
    path.write_bytes(gzip.compress(profile))
    assert "is no saved profile" in one_line(path)


def test_a_trace_a_folder_and_nothing(tmp_path):
    mic().save(tmp_path / "t.parquet")
    assert "is no saved profile" in one_line(tmp_path / "t.parquet")
    with pytest.raises(OSError, match="directory"):
        load_profile(tmp_path)
    with pytest.raises(OSError, match="No such file"):
        load_profile(tmp_path / "nothing")
    assert not is_profile(tmp_path)
    assert not is_profile(tmp_path / "nothing")
    assert not is_profile(tmp_path / "t.parquet")
    with pytest.raises(ProfileError, match="p: cannot be written: No such file"):
        save_profile(Profile(BARE), tmp_path / "no" / "p")


def test_a_later_format_says_what_to_do(path):
    content = content_of(path)
    content["latprof_profile"] = FORMAT + 1
    write(path, content)
    assert one_line(path).endswith(f"reads up to {FORMAT}: upgrade latprof")


def leaves(content, where=()):
    """Yield the places of all values, containers included."""
    items = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in items:
        yield (*where, key)
        if isinstance(value, dict | list):
            yield from leaves(value, (*where, key))


def replaced(content, where, value):
    changed = copy.deepcopy(content)
    inner = changed
    for key in where[:-1]:
        inner = inner[key]
    inner[where[-1]] = value(inner[where[-1]]) if callable(value) else value
    return changed


def without(content, where):
    changed = copy.deepcopy(content)
    inner = changed
    for key in where[:-1]:
        inner = inner[key]
    del inner[where[-1]]
    return changed


# what a name may be is anything; these numbers nothing else in the file knows of
FREE = {"size_bytes", "first_ns", "last_ns", "files", "m2", "segments", "undeclared", "accounts"}
FREE |= {"covariances", "exemplars", "worst", "gaps", "rates", "pipeline", "period", "deadline_ns"}


@pytest.mark.parametrize("which", ["path", "grouped"])
@pytest.mark.parametrize(
    "value",
    [None, -1, 1.5, "x", [], {}, True, 2**63, 2**70, math.inf, [[0], [0]], [1, 2, 3], {"a": 1}],
    ids=repr,
)
def test_values_of_a_wrong_kind_are_refused_or_mean_no_harm(request, which, value):
    path = request.getfixturevalue(which)
    content = content_of(path)
    generator = random.Random(repr(value))
    places = [where for where in leaves(content) if "pipeline" not in where]
    refused = 0
    for where in generator.sample(places, 20):
        write(path, replaced(content, where, value))
        profile = loaded_or_refused(path)
        if profile is None:
            refused += 1
        else:
            contradicts_nothing(profile)
    assert refused >= 12


@pytest.mark.parametrize("which", ["path", "grouped"])
def test_a_number_that_is_off_by_one_contradicts_another(request, which):
    path = request.getfixturevalue(which)
    content = content_of(path)
    generator = random.Random(5)
    places = [
        where
        for where in leaves(content)
        if not FREE.intersection(where) and type(value_at(content, where)) is int
    ]
    assert len(places) > 200
    for where in generator.sample(places, 50):
        write(path, replaced(content, where, lambda n: n + 1))
        profile = loaded_or_refused(path)
        if profile is not None:
            contradicts_nothing(profile)


def value_at(content, where):
    for key in where:
        content = content[key]
    return content


@pytest.mark.parametrize("which", ["path", "grouped"])
def test_something_that_is_absent(request, which):
    path = request.getfixturevalue(which)
    content = content_of(path)
    named = [where for where in leaves(content) if isinstance(where[-1], str)]
    optional = {"notes", "rejected", "dropped", "marks", "groups", "excluded"}
    for where in named:
        if len(where) > 1 and where[-2] in optional:
            continue
        if where[-1] == "timeline" and value_at(content, where) is None:
            continue
        if where[-1] == "by_weight":  # files of before have none
            continue
        if {"pipeline", "batches", "worst"}.intersection(where[:-1]):
            continue
        write(path, without(content, where))
        one_line(path)


def contradicts_nothing(profile):
    """Assert what holds for every profile, whatever frames it was made of."""
    for part in (profile, *profile.groups.values()):
        sums = part.sums
        whole = part["end_to_end"]
        kept = sums.attributed
        assert 0 <= kept == part.frames - sum(sums.excluded.values())
        assert sum(part.rates.values()) == part.frames
        for name in part.spans:
            span = part[name]
            of = kept if name == "other" else part.frames
            assert span.count + span.missing + span.negative == of
            assert sum(n for _, _, n in span.histogram) == span.count
            if span.count:
                values = [span.min, *(span.histogram.value_at(q) for q in QS), span.max]
                assert values == sorted(values)
                # an integer number of ns a frame, within float64's rounding
                assert span.min * (1 - 1e-9) <= span.mean <= span.max * (1 + 1e-9)
                assert 0 <= span.peak_frame < 2**64
            for q in QS:
                known = span.percentile(q)
                assert known.low is None or known.low <= known.value <= known.high
            assert span.std is None or span.std <= span.max - span.min + 1e-6 * span.max
        stages = [stage.name for stage in part.pipeline.stages]
        together = sum(sums.shares[name] for name in (*stages, "other"))
        assert together == sums.shares["end_to_end"] <= whole.total
        assert sum(n for _, _, n in part.ranges) == whole.count
        assert all(n >= 0 for _, _, n in part.ranges)
        table = part.tail(0)
        assert (table["slow_frames"] == kept).all()
        if part.deadline is not None:
            assert sum(part.deadline.by_stage.values()) <= part.deadline.late <= part.frames
        for low, high, frame in part.exemplars():
            assert low <= high
            assert 0 <= frame < 2**64
        worst = part.worst(100)
        assert worst["end_to_end"].tolist() == sorted(worst["end_to_end"], reverse=True)
        if sums.timeline is not None:
            counts = part.timeline()["count"].groupby("span").sum()
            for name, n in counts.items():
                assert n == part[name].count
    names = set(profile.spans)
    assert merge([profile, profile]).frames == 2 * profile.frames
    assert names == set(merge([profile]).spans)


def test_profiles_that_are_right_contradict_nothing(path, grouped):
    contradicts_nothing(load_profile(path))
    contradicts_nothing(load_profile(grouped))
    contradicts_nothing(Profile(Pipeline.chain("mic", "decode")))


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("sums", "finished"), 0),
        (("sums", "late"), 10**6),
        (("sums", "attributed"), 1),
        (("sums", "every_ns"), 0),
        (("sums", "every_ns"), -5),
        (("sums", "deadline_ns"), "5ms"),
        (("sums", "edges_ns"), [5, "x"]),
        (("sums", "at_most"), []),
        (("sums", "first_ns"), 2**62),
        (("sums", "size_bytes"), 2**80),
        (("sums", "batches", "width_ns"), 3 << 20),
        (("sums", "batches", "first"), 10**30),
        (("sums", "batches", "length"), 65),
        (("sums", "batches", "length"), 1),
        (("sums", "timeline"), None),
        (("sums", "timeline", "sums", "work"), 7),
        (("sums", "timeline", "sums", "work"), [1]),
        (("sums", "spans", "work", "m2"), 1e300),
        (("sums", "spans", "work", "m2"), math.nan),
        (("sums", "spans", "work", "total"), 10**4000),
        (("sums", "spans", "work", "peak_frame"), 2**64),
        (("sums", "spans", "work", "min"), "0"),
        (("sums", "spans", "work", "bins"), [[0, 0], [30, 30]]),
        (("sums", "spans", "work", "bins"), [[2**62, 2**62], [1, 1]]),
        (("sums", "spans", "work", "bins"), [["1"], ["1"]]),
        (("sums", "covariances", "work"), math.inf),
        (("sums", "exemplars"), [[10**9, 1]]),
        (("sums", "exemplars"), [[-1, 1]]),
        (("sums", "worst"), []),
        (("sums", "worst"), [[0, 0, None, {}]]),
        (("sums", "dropped"), [["late", "nowhere", 1]]),
        (("sums", "gaps"), [["start", "nowhere", 1]]),
        (("accounts", "lost"), "3"),
        (("accounts", "dropped"), {"late": -1}),
        (("segments",), [[9, 5]]),
        (("rates",), [[0.0, 60]]),
        (("rates",), [[1.0, 1]]),
        (("by",), "source"),
        (("by",), 5),
        (("groups",), []),
        (("pipeline",), None),
        (("pipeline", "marks"), ["start", "end"]),
    ],
)
def test_what_cannot_be_is_refused(path, where, value):
    write(path, replaced(content_of(path), where, value))
    one_line(path)


def test_groups_that_cannot_be(grouped):
    content = content_of(grouped)
    for where, value in [
        (("groups", "input", "groups"), {"a": content["groups"]["output"]}),
        (("groups", "input", "by"), "source"),
        (("groups", "input", "sums", "deadline_ns"), None),
        (("by",), None),
        (("sums",), content["groups"]["input"]["sums"]),
    ]:
        write(grouped, replaced(content, where, value))
        one_line(grouped)
