"""Profiles as files: equal after a round trip, refused in one line if they are corrupt."""

import contextlib
import copy
import gzip
import json
import math
import os
import random
import tracemalloc
from pathlib import Path
from typing import Annotated

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import AUDIO, BARE, CHAIN, DUE, SMALL, columns, examples, seeded, simple
from traces import mic

from latprof.analysis import analyze
from latprof.arrays import Ints, Length
from latprof.errors import LatprofError, ProfileError
from latprof.frames import Columns, Labels
from latprof.pipeline import Pipeline
from latprof.profile.codec import CORRUPT, Decoder, encode
from latprof.profile.file import FORMAT, is_profile
from latprof.profile.load import load_profile, merge
from latprof.profile.profile import Profile

QS = (0, 50, 90, 99, 100)
DATA = Path(__file__).parents[1] / "data"


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


def answers(profile):
    """Return the answers of a profile to all questions."""
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
        "groups": {name: answers(group) for name, group in profile.groups.items()},
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


@pytest.mark.slow
@given(traces, every, deadlines, st.sampled_from([None, "source", "outcome"]))
@settings(max_examples=examples(20))
def test_any_profile_comes_back_equal(tmp_path_factory, trace, every, deadline, by):
    pipeline, frames = trace
    profile = profiled(pipeline, frames, every=every, deadline=deadline, by=by)
    path = tmp_path_factory.mktemp("p") / "p"
    profile.save(path)
    again = load_profile(path)
    assert again.pipeline == pipeline
    assert same(answers(again), answers(profile))
    text = path.read_bytes()
    again.save(path)
    assert path.read_bytes() == text


@pytest.mark.slow
@given(traces, st.lists(st.integers(0, 2), max_size=10), every)
@settings(max_examples=examples(8))
def test_loaded_profiles_merge_like_those_that_were_saved(tmp_path_factory, trace, places, every):
    pipeline, frames = trace
    folder = tmp_path_factory.mktemp("p")
    parts = []
    for i in range(3):
        where = [places[k % len(places)] == i if places else i == 0 for k in range(len(frames))]
        rows = frames.take(np.array(where, bool))
        parts.append(profiled(pipeline, rows, every=every, deadline=9, by="source"))
        parts[i].save(folder / str(i))
    loaded = [load_profile(folder / str(i)) for i in (2, 0, 1)]
    assert same(answers(merge(loaded)), answers(merge([parts[2], parts[0], parts[1]])))
    # and a loaded profile goes on
    loaded[0].add(frames)
    parts[2].add(frames)
    assert same(answers(loaded[0]), answers(parts[2]))


def test_a_long_profile_with_everything_comes_back(tmp_path):
    for pipeline in SMALL:
        frames = seeded(pipeline, 1_500, 3, weights=True)
        profile = profiled(pipeline, frames, by="room", every="500ms", deadline="4ms")
        profile.note({"segments": [[5, 9], [7, 12]], "lost": 3, "accounts": {"in_flight": 2}})
        profile.save(tmp_path / "p")
        again = load_profile(tmp_path / "p")
        assert same(answers(again), answers(profile))
        assert len(again.groups) == 3
        assert again.accounts.lost == 3


def test_names_of_any_kind_come_back(tmp_path):
    names = ["\x1b[31m", "(none)", "", "\ud800", "ä\0\n", None]
    frames = simple(BARE, [(0, 5 + i) for i in range(6)], source=Labels.encode(names))
    profile = profiled(BARE, frames, by="source")
    profile.save(tmp_path / "p")
    assert same(answers(load_profile(tmp_path / "p")), answers(profile))
    assert [f.source for f in profile.sums.worst.frames] == names[::-1]


def test_edges_may_be_a_numpy_array(tmp_path):
    profile = profiled(BARE, simple(BARE, [(0, 5), (0, 9)]), edges_ns=np.array([5, 7]))
    profile.save(tmp_path / "p")
    assert load_profile(tmp_path / "p").ranges == [(0, 5, 1), (5, 7, 0), (7, None, 1)]


def test_the_same_profile_gives_the_same_bytes(tmp_path):
    frames = seeded(CHAIN, 500, 2)
    for name in "ab":
        profiled(CHAIN, frames, by="source").save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_sums_of_more_than_64_bits_come_back(tmp_path):
    # the sums of one bin, and of one window, pass 64 bits
    frames = simple(BARE, [(-(2**61), 2**61 - 1)] * 40)
    profile = profiled(BARE, frames, every="1h")
    profile.save(tmp_path / "p")
    again = load_profile(tmp_path / "p")
    assert again["end_to_end"].total == 40 * (2**62 - 1)
    assert again["end_to_end"].mean == profile["end_to_end"].mean


# -- size ---------------------------------------------------------------------------------------


@pytest.mark.slow
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
    """Return the profile, or None if it is refused in one line."""
    try:
        return load_profile(path)
    except ProfileError:
        one_line(path)
        return None


def test_a_file_that_is_cut_short_is_refused(path):
    whole = path.read_bytes()
    for length in range(0, len(whole), 10):
        path.write_bytes(whole[:length])
        assert "not a saved profile" in one_line(path)


def test_a_flipped_bit_is_found(path):
    whole = path.read_bytes()
    profile = answers(load_profile(path))
    generator = random.Random(1)
    refused = 0
    for _ in range(300):
        place = generator.randrange(len(whole))
        damaged = bytearray(whole)
        damaged[place] ^= 1 << generator.randrange(8)
        path.write_bytes(damaged)
        found = loaded_or_refused(path)
        refused += found is None
        # a file that can be read has a bit changed in gzip's header, which holds no data
        assert found is None or same(answers(found), profile)
    assert refused > 285


def test_files_that_are_not_profiles_are_refused(tmp_path):
    path = tmp_path / "x.latprof"
    format_1 = b'{"format": "latprof profile", "version": 1}'
    texts = [b"", b"\xff\xfe", b"[" * 100_000, b"1" * 5_000, b"NaN", b"[1, 2]", b"{}", b"7", b'"a"']
    texts += [b'{"version": 1}', b'{"format": "latprof profile"}', b" " * 10_000_000]
    texts += [
        b'{"format": "latprof profile", "version": %s}' % v for v in (b"true", b'"1"', b"1.0")
    ]
    for content in (b"", b"hello", *map(gzip.compress, texts)):
        path.write_bytes(content)
        assert "not a saved profile" in one_line(path)
    path.write_bytes(gzip.compress(format_1))
    assert "pipeline" in one_line(path)


def test_what_is_parsed_is_bounded(tmp_path):
    path = tmp_path / "x.latprof"
    # 96 MB of empty lists in 100 kB: parsed, they would take 2.5 GB
    path.write_bytes(gzip.compress(b"[" + b"[]," * (1 << 25) + b"0]"))
    tracemalloc.start()
    assert "values of JSON, got more; use an intact copy" in one_line(path)
    assert tracemalloc.get_traced_memory()[1] < 100_000_000
    tracemalloc.stop()


def test_text_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr("latprof.profile.file.MOST_BYTES", 1 << 21)
    path = tmp_path / "x.latprof"
    path.write_bytes(gzip.compress(b'{"x": "' + b" " * (1 << 22) + b'"}'))
    assert "values of JSON, got more; use an intact copy" in one_line(path)


def test_a_profile_that_could_not_be_read_again_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr("latprof.profile.file.MOST_BYTES", 1_000)
    with pytest.raises(ProfileError, match=r"must have at most .*, got [\d,]+ bytes .*; group by"):
        profiled(CHAIN, seeded(CHAIN, 30, 1)).save(tmp_path / "p")
    assert list(tmp_path.iterdir()) == []


def test_errors_of_the_system_name_the_file_and_a_remedy(tmp_path):
    mic().save(tmp_path / "t.parquet")
    assert "not a saved profile" in one_line(tmp_path / "t.parquet")
    for load, what, why in [
        (lambda: load_profile(tmp_path), "cannot be read", "directory"),
        (lambda: load_profile(tmp_path / "nothing"), "cannot be read", "No such file"),
        (lambda: Profile(BARE).save(tmp_path / "no" / "p"), "cannot be written", "No such file"),
        (lambda: Profile(BARE).save(tmp_path), "cannot be written", "is a folder"),
        (lambda: Profile(BARE).save("/dev/full"), "/dev/full: cannot be written", "No space left"),
    ]:
        with pytest.raises(ProfileError, match=f"{what}: .*{why}.*; ") as caught:
            load()
        assert "\n" not in str(caught.value)
    assert not is_profile(tmp_path)
    assert not is_profile(tmp_path / "nothing")
    assert not is_profile(tmp_path / "t.parquet")


def test_other_formats_are_refused_with_what_reads_them(path):
    content = content_of(path)
    write(path, content | {"version": FORMAT + 1})
    text = one_line(path)
    assert f"must have profile format {FORMAT} for this latprof, got {FORMAT + 1}; upgrade" in text
    write(path, {"latprof_profile": 3, "pipeline": content["pipeline"]})
    assert "must have profile format 1, got the older 3, which only" in one_line(path)


# -- values that were changed -------------------------------------------------------------------


def leaves(content, where=()):
    """Yield the places of all values, containers and arrays included."""
    items = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in items:
        yield (*where, key)
        if isinstance(value, dict | list) and not is_array(value):
            yield from leaves(value, (*where, key))


def is_array(value):
    return isinstance(value, dict) and "shape" in value


def array_of(content):
    return Decoder(None).decode(Annotated[Ints, Length(2_000_000)], content)


def replaced(content, where, value):
    changed = copy.deepcopy(content)
    inner = value_at(changed, where[:-1])
    inner[where[-1]] = value(inner[where[-1]]) if callable(value) else value
    return changed


def without(content, where):
    changed = copy.deepcopy(content)
    del value_at(changed, where[:-1])[where[-1]]
    return changed


def value_at(content, where):
    for key in where:
        content = content[key]
    return content


# a name may be any text; of these numbers no other one in the file depends
FREE = {"size_bytes", "first_ns", "last_ns", "files", "m2", "segments", "undeclared", "accounts"}
FREE |= {"covariances", "exemplars", "worst", "gaps", "rates", "pipeline", "period", "deadline_ns"}
FREE |= {"by_weight", "stamp_ns", "recorders"}


WRONG = [None, -1, 1.5, "x", [], {}, True, 2**63, 2**70, math.inf, [[0], [0]], [1, 2, 3], {"a": 1}]


@pytest.mark.slow
@pytest.mark.parametrize("which", ["path", "grouped"])
def test_values_of_a_wrong_kind_are_refused_or_mean_no_harm(request, which):
    path = request.getfixturevalue(which)
    content = content_of(path)
    places = [where for where in leaves(content) if "pipeline" not in where]
    for value in WRONG:
        generator = random.Random(repr(value))
        refused = 0
        for where in generator.sample(places, 20):
            write(path, replaced(content, where, value))
            profile = loaded_or_refused(path)
            if profile is None:
                refused += 1
            else:
                contradicts_nothing(profile)
        assert refused >= 12


@pytest.mark.slow
def test_changed_orders_and_causes_are_refused_or_mean_no_harm(tmp_path):
    path = tmp_path / "p.latprof"
    profile = analyze(DATA / "mic-healthy.parquet", order=True, causes=True)
    profile.save(path)
    content = content_of(path)
    places = [where for where in leaves(content) if {"order", "cause_sums"}.intersection(where)]
    generator = random.Random(7)
    for _ in range(60):
        value = generator.choice([*WRONG, 2**127, 10**400, 1e79, 5e-324])
        write(path, replaced(content, generator.choice(places), value))
        changed = loaded_or_refused(path)
        if changed is not None:
            with contextlib.suppress(LatprofError):
                str(changed.causes)
            changed.order.results()
            assert merge([changed, profile]).frames == 2 * profile.frames


@pytest.mark.slow
@pytest.mark.parametrize("which", ["path", "grouped"])
def test_a_number_that_is_off_by_one_contradicts_another(request, which):
    path = request.getfixturevalue(which)
    content = content_of(path)
    generator = random.Random(5)

    def one_more(value):
        if type(value) is int:
            return value + 1
        array = array_of(value)
        places = np.flatnonzero(array)
        array.reshape(-1)[generator.choice(places if len(places) else [0])] += 1
        return encode(array)

    places = [
        where
        for where in leaves(content)
        if not FREE.intersection(where)
        and (type(value_at(content, where)) is int or is_array(value_at(content, where)))
        and not (is_array(value_at(content, where)) and 0 in value_at(content, where)["shape"])
        and "version" not in where
    ]
    assert len(places) > 100
    for where in generator.sample(places, 80):
        write(path, replaced(content, where, one_more))
        profile = loaded_or_refused(path)
        if profile is not None:
            contradicts_nothing(profile)


@pytest.mark.parametrize("which", ["path", "grouped"])
def test_a_missing_entry_is_refused(request, which):
    path = request.getfixturevalue(which)
    content = content_of(path)
    named = [where for where in leaves(content) if isinstance(where[-1], str)]
    # mappings by name may hold fewer names
    optional = {"notes", "rejected", "dropped", "marks", "groups", "excluded"}
    kept = [where for where in named if where[-2:-1] == () or where[-2] not in optional]
    kept = [where for where in kept if not {"pipeline", "worst"}.intersection(where[:-1])]
    kept = [where for where in kept if where not in (("order",), ("causes",))]
    for where in random.Random(3).sample(kept, 100):
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


SUMS = ("profile", "ungrouped")
WORK = (*SUMS, "spans", "work")
INPUT = ("profile", "groups", "input")


def test_values_that_contradict_others_or_the_pipeline_are_refused(path):
    content = content_of(path)
    for where, value in [
        ((*SUMS, "finished"), 0),
        ((*SUMS, "late"), 10**6),
        ((*SUMS, "attributed"), 1),
        ((*SUMS, "every_ns"), 0),
        ((*SUMS, "every_ns"), -5),
        ((*SUMS, "every_ns"), 7),
        ((*SUMS, "deadline_ns"), "5ms"),
        ((*SUMS, "edges_ns"), [5, "x"]),
        ((*SUMS, "edges_ns"), [5]),
        ((*SUMS, "at_most"), []),
        ((*SUMS, "first_ns"), 2**62),
        ((*SUMS, "size_bytes"), 2**80),
        ((*SUMS, "batches", "width_ns"), 3 << 20),
        ((*SUMS, "batches", "width_ns"), 0),
        ((*SUMS, "batches", "first"), 10**30),
        ((*SUMS, "batches", "length"), 65),
        ((*SUMS, "batches", "length"), 1),
        ((*SUMS, "batches", "most"), 10**9),
        ((*SUMS, "batches", "most"), 65),
        ((*SUMS, "batches", "names"), []),
        ((*SUMS, "batches", "moments"), True),
        ((*SUMS, "batches", "first_bin", "work"), 10**9),
        ((*SUMS, "batches", "tables", "work"), encode(np.ones((64, 3000), np.int64))),
        ((*SUMS, "batches", "tables", "work"), encode(np.ones(64, np.int64))),
        ((*SUMS, "timeline"), None),
        ((*SUMS, "timeline", "sums", "work"), 7),
        ((*SUMS, "timeline", "sums", "work"), encode(np.ones(1, np.int64))),
        ((*SUMS, "timeline", "peaks", "work"), encode(np.full(512, -1))),
        ((*WORK, "m2"), 1e300),
        ((*WORK, "m2"), math.nan),
        ((*WORK, "total"), 10**4000),
        ((*WORK, "peak_frame"), 2**64),
        ((*WORK, "histogram", "min"), "0"),
        ((*WORK, "histogram", "count"), 1),
        ((*WORK, "histogram", "bins"), encode(np.ones(60, np.int64))),
        ((*WORK, "histogram", "bins"), encode(np.zeros(0, np.int64))),
        ((*WORK, "histogram", "bins"), encode(np.full(5, 2**61))),
        ((*WORK, "histogram", "bins"), [1, 2]),
        ((*SUMS, "covariances", "work"), math.inf),
        ((*SUMS, "covariances"), {"work": 0.0}),
        ((*SUMS, "exemplars"), encode(np.zeros(7, np.uint64))),
        ((*SUMS, "exemplars"), encode(np.zeros(1986, np.uint64))),
        ((*SUMS, "tails", "counts"), encode(np.ones(64_000, np.int64))),
        ((*SUMS, "tails", "sums", "work"), encode(np.ones(3, np.int64))),
        ((*SUMS, "worst"), {"frames": []}),
        ((*SUMS, "worst", "stamps"), lambda known: encode(array_of(known) + 2**62)),
        ((*SUMS, "worst", "stamps"), lambda known: encode(array_of(known) - 2**62)),
        ((*SUMS, "worst", "stamps"), lambda known: encode(np.full(known["shape"], -(2**63)))),
        ((*SUMS, "worst", "stamps"), lambda known: encode(array_of(known).T)),
        ((*SUMS, "worst", "frame_id"), encode(np.zeros(3, np.uint64))),
        ((*SUMS, "worst", "end_to_end_ns"), lambda known: encode(array_of(known) + 1)),
        ((*SUMS, "worst", "source"), ["input"]),
        ((*SUMS, "dropped"), [[["late", "nowhere"], 1]]),
        ((*SUMS, "gaps"), [[["start", "nowhere"], 1]]),
        (("profile", "accounts", "lost"), "3"),
        (("profile", "accounts", "dropped"), {"late": -1}),
        (("profile", "segments"), [[9, 5]]),
        (("profile", "rates"), [[0.0, 60]]),
        (("profile", "rates"), [[5e-324, 60]]),
        (("profile", "rates"), [[1.0, 1]]),
        (("profile", "by"), "source"),
        (("profile", "by"), 5),
        (("profile", "groups"), []),
        (("pipeline",), None),
        (("pipeline", "marks"), ["start", "end"]),
    ]:
        write(path, replaced(content, where, value))
        one_line(path)


def test_groups_that_contradict_the_whole_are_refused(grouped):
    content = content_of(grouped)
    for where, value in [
        ((*INPUT, "groups"), {"a": value_at(content, ("profile", "groups", "output"))}),
        ((*INPUT, "by"), "source"),
        ((*INPUT, "ungrouped", "deadline_ns"), None),
        (("profile", "by"), None),
        (SUMS, value_at(content, (*INPUT, "ungrouped"))),
    ]:
        write(grouped, replaced(content, where, value))
        one_line(grouped)


def test_messages_name_the_file_and_the_field(path):
    content = content_of(path)
    for where, value, said in [
        ((*WORK, "count"), "x", "'profile.ungrouped.spans.work.count' must be an integer, got 'x'"),
        (
            (*WORK, "histogram", "bins"),
            [],
            "'profile.ungrouped.spans.work.histogram.bins' must be a",
        ),
        (("profile", "recorders", "others"), -1, "'profile.recorders.others' must be from 0 to"),
    ]:
        write(path, replaced(content, where, value))
        text = one_line(path)
        assert text.startswith(f"{path}: field {said}")
        assert text.endswith(f"; {CORRUPT}")


def test_long_and_strange_names_in_messages_are_bounded(path):
    content = content_of(path)
    frames = replaced(content, (*SUMS, "spans"), {"\x1b[31m" * 10_000: 5})
    write(path, frames)
    text = one_line(path)
    assert len(text) < 500
    assert text.isprintable()
