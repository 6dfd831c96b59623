import contextlib
import json
import math
from dataclasses import asdict
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latprof.errors import ProfileError
from latprof.frames import FINISHED, MISSING, Columns, Labels
from latprof.sequence.arrivals import Arrivals, IdSet
from latprof.sequence.order import Order, split_by_source
from latprof.sequence.segments import HELD, KNOWN, MOST_SEGMENTS, Segments, pack, unpack
from latprof.sequence.timing import Jitter, Pace, Streak

BASE = 1_700_000_000_000_000_000


# -- the oracle: one frame at a time ------------------------------------------------------------


def rows_of(columns):
    """Return each frame as (id, marks by name or None, whether it was dropped)."""
    dropped = np.zeros(len(columns), bool)
    if columns.outcome is not None:
        dropped = ~columns.outcome.equals(FINISHED) & (columns.outcome.codes >= 0)
    rows = []
    for i in range(len(columns)):
        marks = {name: int(column[i]) for name, column in columns.marks.items()}
        marks = {name: None if ns == MISSING else ns for name, ns in marks.items()}
        rows.append((int(columns.frame_id[i]), marks, bool(dropped[i])))
    return rows


def arrivals_of(rows, mark, bits=64):
    came = sorted((m[mark], f % 2**bits) for f, m, _ in rows if m[mark] is not None)
    ids, half = [], 2**bits // 2
    for _, raw in came:
        if ids and bits < 64:
            raw = ids[-1] + (raw - ids[-1] + half) % 2**bits - half
        ids.append(raw)
    facts = {"frames": len(ids), "gaps": 0, "reordered": 0}
    top = None
    for number in ids:
        facts["gaps"] += top is not None and number > top + 1
        facts["reordered"] += top is not None and number < top
        top = number if top is None else max(top, number)
    there = set(ids)
    facts["duplicates"] = len(ids) - len(there)
    facts["lost"] = facts["longest_loss"] = 0
    if there:
        known = sorted(there)
        absent = [b - a - 1 for a, b in pairwise(known)]
        facts["lost"], facts["longest_loss"] = sum(absent), max(absent, default=0)
    return facts


def jitter_of(rows, mark):
    latencies = sorted(
        (m[mark], f, m[mark] - m["start"])
        for f, m, dropped in rows
        if not dropped and None not in (m["start"], m[mark]) and m[mark] >= m["start"]
    )
    jitter, peak, total, n = 0.0, 0.0, 0, 0
    for (*_, before), (*_, now) in pairwise(latencies):
        jitter += (abs(now - before) - jitter) / 16
        peak, total, n = max(peak, jitter), total + abs(now - before), n + 1
    return {"last": jitter, "peak": peak, "mean": total / n} if n else None


def period_of(rows):
    starts = sorted(m["start"] for _, m, _ in rows if m["start"] is not None)
    apart = [b - a for a, b in pairwise(starts)]
    facts = {"count": len(apart), "mean": None, "std": None, "min": None, "max": None}
    if apart:
        mean = sum(apart) / len(apart)
        facts |= {"mean": mean, "min": min(apart), "max": max(apart)}
        if len(apart) > 1:
            total = sum(apart)
            squares = sum((a * len(apart) - total) ** 2 for a in apart)
            facts["std"] = math.sqrt(squares / len(apart) ** 2 / (len(apart) - 1))
    return facts


def flight_of(rows):
    both = [(m["start"], m["end"]) for _, m, _ in rows if None not in (m["start"], m["end"])]
    both = [(start, end) for start, end in both if end >= start]
    if not both:
        return {"mean": None, "peak": None}
    flying = peak = 0
    for _, change in sorted([(s, 1) for s, _ in both] + [(e, -1) for _, e in both]):
        flying += change
        peak = max(peak, flying)
    starts = [m["start"] for _, m, _ in rows if m["start"] is not None]
    active = max(end for _, end in both) - min(starts)
    mean = sum(end - start for start, end in both) / active if active > 0 else None
    return {"mean": mean, "peak": peak}


def deadline_of(rows, deadline, span="end_to_end"):
    begin = "due" if span == "response" else "start"
    counted = []
    for frame, m, dropped in rows:
        known = None not in (m[begin], m["end"]) and m["end"] >= m[begin]
        if m["start"] is not None and (dropped or known):
            signed = frame - 2**64 if frame >= 2**63 else frame
            missed = dropped or m["end"] - m[begin] > deadline
            end = m["end"] if m["end"] is not None and m["end"] >= m["start"] else MISSING
            counted.append((m["start"], signed, end, 2 if missed else 1, frame, missed))
    counted.sort()
    missed = [frame for *_, frame, miss in counted if miss]
    longest = run = 0
    for *_, miss in counted:
        run = run + 1 if miss else 0
        longest = max(longest, run)
    return {
        "frames": len(counted),
        "misses": len(missed),
        "ratio": len(missed) / len(counted) if counted else None,
        "longest_run": longest,
        "first_missed": missed[0] if missed else None,
        "last_missed": missed[-1] if missed else None,
    }


def check(order, columns):
    """Assert that an order tells what the plain loops do."""
    rows = rows_of(columns)
    assert order.frames == len(columns)
    found = order.results()
    expected = {
        "arrivals": arrivals_of(rows, order.mark, order.id_bits),
        "jitter": jitter_of(rows, order.jitter_mark) or dict.fromkeys(("last", "peak", "mean")),
        "period": period_of(rows),
        "in_flight": flight_of(rows),
    }
    if order.deadline_ns is not None:
        expected["deadline"] = deadline_of(rows, order.deadline_ns, order.deadline_span)
    for name, facts in expected.items():
        assert found[name]["note"] == ""
        for fact, value in facts.items():
            close = pytest.approx(value, rel=1e-9, abs=1e-9) if isinstance(value, float) else value
            assert found[name][fact] == close, (name, fact)


def whole(columns, **settings):
    order = Order(**settings)
    order.add(columns)
    return order


def parts_of(columns, count):
    bounds = np.linspace(0, len(columns), count + 1).astype(int)
    return [columns.take(slice(a, b)) for a, b in pairwise(bounds)]


def recorded(n, seed, *, late=40, bits=64):
    """Return n frames in order of commit: lost, doubled and late ids, dropped, missing marks."""
    rng = np.random.default_rng(seed)
    ids = np.sort(rng.choice(n + n // 50, n, replace=False)).astype(np.int64)
    starts = BASE + np.cumsum(rng.integers(1, 2_000, n))
    latencies = rng.lognormal(7, 1, n).astype(np.int64)
    latencies[rng.random(n) < 0.01] = -5
    end = starts + latencies
    # a few ids change places with those before them, a few come twice
    for i in np.flatnonzero(rng.random(n) < 0.01):
        j = max(0, i - rng.integers(1, late))
        ids[i], ids[j] = ids[j], ids[i]
    for i in np.flatnonzero(rng.random(n) < 0.005):
        ids[i] = ids[max(0, i - rng.integers(1, late))]
    committed = np.argsort(starts + np.abs(latencies), kind="stable")
    marks = {"start": starts, "mid": starts + latencies // 2, "end": end}
    for column in marks.values():
        column[rng.random(n) < 0.01] = MISSING
    outcome = np.where(rng.random(n) < 0.03, "late", FINISHED).tolist()
    columns = Columns(
        ids.astype(np.uint64) % np.uint64(2**bits - 1 if bits == 64 else 2**bits),
        marks,
        outcome=Labels.encode(outcome),
        size=None,
    )
    return columns.take(committed)


# -- against the oracle -------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("n", [0, 1, 2, 3, 50, HELD, 2 * HELD + 1, 20_000, 70_000])
def test_order_is_that_of_the_oracle(n, seed):
    columns = recorded(n, seed)
    check(whole(columns, deadline_ns=2_000), columns)


@pytest.mark.parametrize("mark", ["mid", "end"])
def test_order_at_another_mark(mark):
    columns = recorded(9_000, 7)
    check(whole(columns, mark=mark, jitter_mark="mid", deadline_ns=1_000), columns)


@pytest.mark.parametrize("bits", [8, 16])
def test_ids_that_wrap(bits):
    columns = recorded(9_000, 5, bits=bits, late=20)
    columns.frame_id = columns.frame_id + np.uint64(2**40)  # more bits than count
    check(whole(columns, id_bits=bits), columns)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_any_frames(data):
    n = data.draw(st.integers(0, 12))
    near = st.integers(0, 12) | st.none()
    table = data.draw(st.lists(st.lists(near, min_size=3, max_size=3), min_size=n, max_size=n))
    ids = data.draw(
        st.lists(
            st.integers(0, 5) | st.sampled_from([2**63 - 1, 2**63, 2**64 - 1]),
            min_size=n,
            max_size=n,
        )
    )
    names = st.sampled_from([FINISHED, None, "late"])
    outcome = Labels.encode(data.draw(st.lists(names, min_size=n, max_size=n)))
    filled = [[MISSING if t is None else t for t in row] for row in table]
    stamps = np.array(filled, np.int64).reshape(n, 3)
    marks = {name: stamps[:, i].copy() for i, name in enumerate(("due", "start", "end"))}
    columns = Columns(np.array(ids, np.uint64), marks, outcome=outcome)
    span = data.draw(st.sampled_from(["end_to_end", "response"]))
    made = {"deadline_ns": data.draw(st.integers(0, 6)), "deadline_span": span}
    check(whole(columns, **made), columns)
    cut = Order(**made)
    for part in data.draw(st.permutations(parts_of(columns, 4))):
        cut.merge(whole(part, **made))
    check(cut, columns)


def test_by_hand():
    start = np.array([0, 100, 200, 300, 400])
    end = start + np.array([16, 48, 48, 400, 0])
    ids = np.array([7, 8, 11, 9, 11], np.uint64)
    order = whole(Columns(ids, {"start": start, "end": end}), deadline_ns=47)
    # 7 8 .. 11: one gap; 9 is late, the second 11 is not below the largest; 10 never came
    assert asdict(order.arrivals) == {
        "mark": "start",
        "frames": 5,
        "gaps": 1,
        "reordered": 1,
        "lost": 1,
        "longest_loss": 1,
        "duplicates": 1,
        "note": "",
    }
    # in order of arrival the latencies are 16, 48, 48, 0, 400: D is 32, 0, 48, 400
    expected = 32 / 16
    expected -= expected / 16
    expected += (48 - expected) / 16
    expected += (400 - expected) / 16
    assert order.jitter.last == order.jitter.peak == pytest.approx(expected, rel=1e-12)
    assert order.jitter.mean == (32 + 0 + 48 + 400) / 4
    assert (order.period.mean, order.period.std, order.period.count) == (100, 0, 4)
    # 0-16, 100-148, 200-248, 300-700; the last one takes no time
    flight = order.in_flight()
    assert (flight.peak, flight.mean) == (1, (16 + 48 + 48 + 400) / 700)
    assert order.in_flight(active_ns=512).mean == 1
    assert (order.deadline.misses, order.deadline.longest_run) == (3, 3)
    assert (order.deadline.first_missed, order.deadline.last_missed) == (8, 9)


def test_jitter_is_the_plain_loop_on_a_million():
    rng = np.random.default_rng(3)
    latencies = (rng.lognormal(14, 1.5, 1_000_000)).astype(np.int64)
    latencies[500_000:] = 5_000_000  # and then nothing moves
    starts = np.arange(len(latencies)) * 100_000_000_000
    rows = (starts + latencies, np.arange(len(latencies)), latencies)
    segments = Segments(Jitter)
    segments.add(rows)
    jitter, peak = 0.0, 0.0
    for difference in np.abs(np.diff(latencies)).tolist():
        jitter += (difference - jitter) / 16
        peak = max(peak, jitter)
    run = segments.total()
    assert run.peak == pytest.approx(peak, rel=1e-12)
    assert run.value == pytest.approx(jitter, rel=1e-9, abs=1e-9)


# -- parts --------------------------------------------------------------------------------------


@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("count", [2, 7, 100])
@pytest.mark.parametrize("n", [300, 5_000, 120_000])
def test_parts_in_any_order_are_the_whole(n, count, shuffled):
    columns = recorded(n, n + count)
    made = {"deadline_ns": 2_000, "mark": "mid"}
    parts = [whole(part, **made) for part in parts_of(columns, count)]
    if shuffled:
        np.random.default_rng(count).shuffle(parts)
    cut = Order(**made)
    for part in parts:
        cut.merge(part)
    check(cut, columns)


@pytest.mark.parametrize("count", [7, 100])
def test_parts_are_merged_in_pairs_and_saved_between(count):
    columns = recorded(60_000, 9, bits=16)
    parts = [whole(part, id_bits=16) for part in parts_of(columns, count)]
    np.random.default_rng(count).shuffle(parts)
    while len(parts) > 1:
        left, right = parts.pop(), parts.pop()
        left.merge(right)
        parts.insert(0, Order.from_dict(json.loads(json.dumps(left.to_dict()))))
    check(parts[0], columns)


def test_batches_are_the_whole():
    columns = recorded(60_000, 2)
    order = Order(deadline_ns=2_000)
    for part in parts_of(columns, 9) + parts_of(columns.take(slice(0, 0)), 1):
        order.add(part)
    check(order, columns)
    for segments in (order._arrivals, order._jitter, order._pace):
        assert len(segments) == 1


def test_a_merge_leaves_the_other_as_it_is():
    parts = [whole(part) for part in parts_of(recorded(30_000, 3), 3)]
    before = [json.dumps(part.to_dict()) for part in parts]
    order = Order()
    for part in parts:
        order.merge(part)
    order.add(recorded(10, 1))
    assert [json.dumps(part.to_dict()) for part in parts] == before


def test_rows_in_any_order_within_a_batch():
    columns = recorded(40_000, 4, late=2)
    mixed = columns.take(np.random.default_rng(1).permutation(len(columns)))
    check(whole(mixed, deadline_ns=3_000), columns)


def test_many_frames_in_flight_across_parts():
    # 3,000 in flight, far more than the rows that are kept: they last longer than parts do
    n = 50_000
    start = BASE + np.arange(n) * 1_000
    latencies = np.random.default_rng(8).integers(2_000_000, 4_000_000, n)
    latencies[1_000] = 40_000_000
    columns = Columns(np.arange(n, dtype=np.uint64), {"start": start, "end": start + latencies})
    parts = [whole(part, jitter_mark="start") for part in parts_of(columns, 12)]
    np.random.default_rng(8).shuffle(parts)
    order = Order(jitter_mark="start")
    for part in parts:
        order.merge(part)
    assert order.in_flight().note == ""
    assert order.in_flight().peak == flight_of(rows_of(columns))["peak"]


# -- bounds, and what is not known --------------------------------------------------------------


def saved_size(order):
    return len(json.dumps(order.to_dict()))


def test_size_does_not_grow_with_frames():
    small, large = (whole(recorded(n, 1)) for n in (10_000, 200_000))
    assert saved_size(large) < 1.2 * saved_size(small)
    assert saved_size(large) < 100_000


def test_many_recordings_stay_bounded():
    n = 4 * MOST_SEGMENTS
    order = Order()
    # a minute of silence between two: none is taken for the neighbour of another
    for i in range(n):
        start = BASE + i * 60_000_000_000 + np.arange(2 * HELD) * 1_000
        ids = np.arange(2 * HELD, dtype=np.uint64) + np.uint64(i * 5_000)
        order.merge(whole(Columns(ids, {"start": start, "end": start + 500})))
    assert len(order._pace) <= MOST_SEGMENTS
    facts = order.arrivals
    assert (facts.frames, facts.gaps, facts.reordered) == (n * 2 * HELD, n - 1, 0)
    assert facts.longest_loss == 5_000 - 2 * HELD
    assert order.period.max == 60_000_000_000 - (2 * HELD - 1) * 1_000


def test_overlapping_recordings_have_no_order():
    columns = recorded(20_000, 6)
    left, right = columns.take(slice(0, None, 2)), columns.take(slice(1, None, 2))
    order = whole(left)
    order.merge(whole(right))
    note = f"frames came more than {KNOWN} places out of order, or recordings overlap"
    for facts in (order.arrivals, order.jitter, order.period, order.in_flight()):
        assert facts.note == f"not available: {note}"
    assert order.period.mean is order.in_flight().peak is order.arrivals.gaps is None


def test_ids_that_start_again():
    start = np.arange(100_000) * 1_000
    ids = (np.arange(100_000) % 50_000).astype(np.uint64)
    columns = Columns(ids, {"start": start, "end": start + 1})
    order = whole(columns)
    again = "not available: an id came after many larger ones, as if they had started again"
    assert order.arrivals.note == again
    assert order.period.mean == 1_000
    parts = Order()
    for part in parts_of(columns, 2):
        parts.merge(whole(part))
    assert parts.arrivals.note == again
    assert parts.period.note == ""


@pytest.mark.parametrize("reason", ["sampling rate 0.1", "1,204 frames lost here"])
def test_a_reason_is_all_there_is(reason):
    columns = recorded(100, 1)
    order = whole(columns, deadline_ns=1, reason=reason)
    later = whole(columns, deadline_ns=1)
    later.lose(reason)
    merged = whole(columns, deadline_ns=1)
    merged.merge(order)
    for one in (order, later, merged):
        for facts in one.results().values():
            assert facts["note"] == f"not available: {reason}"
            names = ("gaps", "lost", "last", "mean", "peak", "misses", "longest_run")
            assert all(facts.get(name) is None for name in names)


def test_weights_have_no_order():
    columns = recorded(10, 1)
    columns.weight = np.full(10, 2, np.uint32)
    assert whole(columns).period.note == "not available: rows stand for several frames"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"id_bits": 7}, "id_bits=7: give 8 to 32, or 64"),
        ({"deadline_ns": -1}, "deadline -1 ns is negative"),
        ({"deadline_span": "decode"}, "deadline of 'decode'"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ProfileError, match=message):
        Order(**settings)


def test_other_settings_do_not_merge():
    with pytest.raises(ProfileError, match="does not merge"):
        Order().merge(Order(id_bits=16))


def test_marks_that_are_needed():
    assert Order().marks == ("start", "end")
    late = Order(deadline_ns=1, deadline_span="response", mark="mid")
    assert late.marks == ("due", "start", "mid", "end")


# -- saved form ---------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, 1, 1_000, 3_000, 50_000])
def test_saved_and_read(n):
    columns = recorded(n, 1)
    order = whole(columns, deadline_ns=1_000)
    text = json.dumps(order.to_dict())
    same = Order.from_dict(json.loads(text))
    assert json.dumps(same.to_dict()) == text
    check(same, columns)


def damaged(value, i):
    """Return a value that is not what it was."""
    return [None, "?", -1, [], {}, 2**70][i % 6] if value != [] else {}


def places(content, path=()):
    yield path
    if isinstance(content, dict | list):
        for key in content if isinstance(content, dict) else range(len(content)):
            yield from places(content[key], (*path, key))


def test_what_is_damaged_is_refused_or_read():
    text = json.dumps(whole(recorded(5_000, 1), deadline_ns=1_000).to_dict())
    for i, path in enumerate(places(json.loads(text))):
        if not path:
            continue
        for kind in range(6):
            content = json.loads(text)
            inner = content
            for key in path[:-1]:
                inner = inner[key]
            inner[path[-1]] = damaged(inner[path[-1]], i + kind)
            with contextlib.suppress(ProfileError):
                same = Order.from_dict(content)
                same.merge(same)
                same.results()


@pytest.mark.parametrize("content", [None, [], {}, {"form": 2}])
def test_another_form(content):
    with pytest.raises(ProfileError, match="not of form 1"):
        Order.from_dict(content)


@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=20))
def test_pack(numbers):
    assert unpack(pack(np.array(numbers, np.int64)), 20).tolist() == numbers


def test_unpack_takes_no_more_than_asked_for():
    with pytest.raises(ValueError, match="not up to 10 integers"):
        unpack(pack(np.zeros(10**6, np.int64)), 10)
    with pytest.raises(ValueError, match="decompressing"):
        unpack("AAAA", 10)


# -- pieces -------------------------------------------------------------------------------------


@given(st.lists(st.booleans(), max_size=12), st.integers(0, 12))
def test_streak(missed, cut):
    both = Streak.of(np.array(missed[:cut], bool)) + Streak.of(np.array(missed[cut:], bool))
    assert both == Streak.of(np.array(missed, bool))
    runs = "".join("x" if miss else " " for miss in missed).split(" ")
    assert (both.best, both.prefix, both.suffix) == (
        max(map(len, runs)),
        len(runs[0]),
        len(runs[-1]),
    )


@pytest.mark.parametrize("seed", range(20))
def test_id_sets_join(seed):
    rng = np.random.default_rng(seed)
    numbers = np.flatnonzero(rng.random(20_000) < 0.9)
    cuts = np.sort(rng.integers(0, len(numbers), rng.integers(1, 12)))
    parts = [set(part.tolist()) for part in np.split(numbers, cuts) if len(part)]
    for left, right in pairwise(parts):  # they overlap a little
        last = max(left)
        move = {n for n in left if n > last - 50 and rng.random() < 0.5}
        right |= move
    joined = IdSet()
    for i in rng.permutation(len(parts)) if seed % 2 else range(len(parts)):
        found = IdSet.of(np.array(sorted(parts[i])))
        joined_before = joined.count
        if not joined.add(found):
            assert seed % 2  # a part that comes late may lie between what is not kept
            assert joined.count == joined_before
            return
    known = sorted(set().union(*parts))
    assert joined.count == len(known)
    assert joined.lost == known[-1] - known[0] + 1 - len(known)
    assert joined.longest_gap == max(np.diff(known)) - 1
    assert joined.shifted(5).lowest == known[0] + 5


def test_runs_are_fresh_without_what_they_have_counted():
    for run in (Arrivals(64), Jitter(), Pace()):
        assert run.fresh().count == 0


def test_split_by_source():
    columns = recorded(100, 1)
    assert [name for name, _ in split_by_source(columns)] == [None]
    columns.source = Labels.constant("input", 100)
    ((name, rows),) = split_by_source(columns, ("start", "end"))
    assert name == "input"
    assert rows.frame_id is columns.frame_id
    assert list(rows.marks) == ["start", "end"]
    columns.source = Labels.encode([("a", None, "b")[i % 3] for i in range(100)])
    parts = dict(split_by_source(columns))
    assert {name: len(part) for name, part in parts.items()} == {None: 33, "a": 34, "b": 33}
    assert parts["b"].frame_id.tolist() == columns.frame_id[2::3].tolist()
