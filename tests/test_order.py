import json
import math
from dataclasses import asdict
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import examples

from latprof.errors import ProfileError
from latprof.frames import FINISHED, MISSING, Columns, Labels
from latprof.profile.codec import Decoder, encode
from latprof.sequence.ids import IdSet
from latprof.sequence.order import Order, OrderBySource, OrderSettings, StartRun, rows_by_source
from latprof.sequence.segments import EDGE_ROWS, MOST_SEGMENTS, SETTLED_ROWS, Edges, Segments
from latprof.sequence.timing import Jitter, Streak

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


def arrivals_of(rows, bits=64):
    """Gaps, late, lost and repeated ids in order of start; equal starts are in order of id."""
    came = sorted((m["start"], f) for f, m, _ in rows if m["start"] is not None)
    ids, half = [], 2**bits // 2
    for _, frame in came:
        raw = frame % 2**bits
        if ids and bits < 64:
            raw = ids[-1] + (raw - ids[-1] + half) % 2**bits - half
        ids.append(raw)
    found = {"frames": len(ids), "gaps": 0, "reordered": 0}
    top = None
    for number in ids:
        found["gaps"] += top is not None and number > top + 1
        found["reordered"] += top is not None and number < top
        top = number if top is None else max(top, number)
    there = set(ids)
    found["duplicates"] = len(ids) - len(there)
    found["lost"] = found["longest_loss"] = 0
    if there:
        known = sorted(there)
        absent = [b - a - 1 for a, b in pairwise(known)]
        found["lost"], found["longest_loss"] = sum(absent), max(absent, default=0)
    return found


def jitter_of(rows):
    """RFC 3550's jitter in order of end; equal ends are in order of id."""
    latencies = sorted(
        (m["end"], f, m["end"] - m["start"])
        for f, m, dropped in rows
        if not dropped and None not in (m["start"], m["end"]) and m["end"] >= m["start"]
    )
    jitter, peak, total, n = 0.0, 0.0, 0, 0
    for (*_, before), (*_, now) in pairwise(latencies):
        jitter += (abs(now - before) - jitter) / 16
        peak, total, n = max(peak, jitter), total + abs(now - before), n + 1
    return {"last": jitter, "peak": peak, "mean": total / n} if n else None


def period_of(rows):
    starts = sorted(m["start"] for _, m, _ in rows if m["start"] is not None)
    apart = [b - a for a, b in pairwise(starts)]
    found = {"count": len(apart), "mean": None, "std": None, "min": None, "max": None}
    if apart:
        mean = sum(apart) / len(apart)
        found |= {"mean": mean, "min": min(apart), "max": max(apart)}
        if len(apart) > 1:
            total = sum(apart)
            squares = sum((a * len(apart) - total) ** 2 for a in apart)
            found["std"] = math.sqrt(squares / len(apart) ** 2 / (len(apart) - 1))
    return found


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
            missed = dropped or m["end"] - m[begin] > deadline
            end = m["end"] if m["end"] is not None and m["end"] >= m["start"] else MISSING
            counted.append((m["start"], frame, end, missed))
    counted.sort()
    missed = [frame for _, frame, _, miss in counted if miss]
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


def expectations(columns, deadline, span="end_to_end", bits=64):
    """Return the results of plain loops over the frames."""
    rows = rows_of(columns)
    results = {
        "arrivals": arrivals_of(rows, bits),
        "jitter": jitter_of(rows) or dict.fromkeys(("last", "peak", "mean")),
        "period": period_of(rows),
        "in_flight": flight_of(rows),
    }
    if deadline is not None:
        results["deadline"] = deadline_of(rows, deadline, span)
    return results


def compare(order, expected):
    """Assert that an order has the expected results."""
    results = asdict(order.results())
    for name, values in expected.items():
        assert results[name]["note"] == ""
        for key, value in values.items():
            close = pytest.approx(value, rel=1e-9, abs=1e-9) if isinstance(value, float) else value
            assert results[name][key] == close, (name, key)


def check(order, columns):
    """Assert that an order has the results of plain loops over the frames."""
    assert order.frames == len(columns)
    chosen = order.settings
    compare(order, expectations(columns, chosen.deadline_ns, chosen.deadline_span, chosen.id_bits))


def order_of(columns, **settings):
    order = Order(OrderSettings(**settings))
    order.add(columns)
    return order


def saved(order):
    return json.dumps(encode(order))


def loaded(text):
    return Decoder(None).decode(Order, json.loads(text))


def merged(parts, **settings):
    order = Order(OrderSettings(**settings))
    for part in parts:
        order.merge(order_of(part, **settings))
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
    marks = {"start": starts, "end": end}
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


def test_results_equal_a_plain_loop():
    for n in (0, 1, 2, 3, 50, EDGE_ROWS, 2 * EDGE_ROWS + 1, 40_000):
        for seed in range(4 if n <= 5_000 else 1):
            columns = recorded(n, seed)
            check(order_of(columns, deadline_ns=2_000), columns)


def test_wrapping_ids_equal_a_plain_loop():
    for bits in (8, 16):
        columns = recorded(9_000, 5, bits=bits, late=20)
        columns.frame_id = columns.frame_id + np.uint64(2**40)  # more bits than are compared
        check(order_of(columns, id_bits=bits), columns)


@given(st.data())
@settings(max_examples=examples(60), deadline=None)
def test_any_frames_cut_and_merged_equal_a_plain_loop(data):
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
    chosen = {"deadline_ns": data.draw(st.integers(0, 6)), "deadline_span": span}
    check(order_of(columns, **chosen), columns)
    check(merged(data.draw(st.permutations(parts_of(columns, 4))), **chosen), columns)


def test_results_of_five_frames_by_hand():
    start = np.array([0, 100, 200, 300, 400])
    end = start + np.array([16, 48, 48, 400, 0])
    ids = np.array([7, 8, 11, 9, 11], np.uint64)
    order = order_of(Columns(ids, {"start": start, "end": end}), deadline_ns=47)
    found = order.results()
    # 7 8 .. 11: one gap; 9 is late, the second 11 is not below the largest; 10 never came
    expected = {"frames": 5, "gaps": 1, "reordered": 1, "lost": 1, "longest_loss": 1}
    assert asdict(found.arrivals) == expected | {"mark": "start", "duplicates": 1, "note": ""}
    # in order of end the latencies are 16, 48, 48, 0, 400: D is 32, 0, 48, 400
    expected = 32 / 16
    expected -= expected / 16
    expected += (48 - expected) / 16
    expected += (400 - expected) / 16
    assert found.jitter.last == found.jitter.peak == pytest.approx(expected, rel=1e-12)
    assert found.jitter.mean == (32 + 0 + 48 + 400) / 4
    assert (found.period.mean, found.period.std, found.period.count) == (100, 0, 4)
    # 0-16, 100-148, 200-248, 300-700; the last one takes no time
    assert (found.in_flight.peak, found.in_flight.mean) == (1, (16 + 48 + 48 + 400) / 700)
    assert order.results(active_ns=512).in_flight.mean == 1
    assert (found.deadline.misses, found.deadline.longest_run) == (3, 3)
    assert (found.deadline.first_missed, found.deadline.last_missed) == (8, 9)
    assert order.results(active_ns=512).sentence() == (
        "1 frame lost (at most 1 in a row); 1 gap; 1 frame late; 1 duplicate; "
        "a frame each 100 ns (std 0 ns, p50 100 ns, p99 100 ns); "
        f"jitter {expected:.1f} ns (at most {expected:.1f} ns); "
        "1.00 frames in flight (at most 1); 3 missed deadlines in a row at most"
    )


def test_ids_are_described_in_a_sentence():
    one, two = "no frame lost; 1 gap", "2 gaps; 1 frame late"
    for ids, bits, counts, sentence in (
        # 65534 comes after 65535 and 0, which follow each other
        ([65533, 65535, 0, 65534, 1], 16, (1, 1, 0, 0), f"{one} closed by a late frame"),
        ([5, 10, 6, 7, 8, 9], 64, (1, 4, 0, 0), f"{one} closed by late frames (4 in all)"),
        ([1, 2, 3], 64, (0, 0, 0, 0), "no frame lost, late or duplicated"),
        ([1, 2, 2], 64, (0, 0, 0, 1), "no frame lost; 1 duplicate"),
        ([2, 1, 3], 64, (0, 1, 0, 0), "no frame lost; 1 frame late"),
        ([5, 3], 64, (0, 1, 1, 0), "1 frame lost (at most 1 in a row); 1 frame late"),
        ([1, 4, 7, 6], 64, (2, 1, 3, 0), f"3 frames lost (at most 2 in a row); {two}"),
    ):
        start = np.arange(len(ids)) * 20
        columns = Columns(np.array(ids, np.uint64), {"start": start, "end": start + 5})
        result = order_of(columns, id_bits=bits).results().arrivals
        assert (result.gaps, result.reordered, result.lost, result.duplicates) == counts
        assert result.sentence() == sentence


def test_jitter_of_a_million_frames_equals_a_plain_loop():
    rng = np.random.default_rng(3)
    latencies = (rng.lognormal(14, 1.5, 1_000_000)).astype(np.int64)
    latencies[500_000:] = 5_000_000  # and then nothing moves
    starts = np.arange(len(latencies)) * 100_000_000_000
    rows = (starts + latencies, np.arange(len(latencies)), latencies)
    segments = Segments(Jitter())
    segments.add(rows)
    jitter, peak = 0.0, 0.0
    for difference in np.abs(np.diff(latencies)).tolist():
        jitter += (difference - jitter) / 16
        peak = max(peak, jitter)
    run = segments.total()
    assert run.peak == pytest.approx(peak, rel=1e-12)
    assert run.value == pytest.approx(jitter, rel=1e-9, abs=1e-9)


# -- merging ------------------------------------------------------------------------------------


def test_parts_in_any_order_equal_the_whole():
    for n, counts in ((300, (2, 7, 100)), (5_000, (2, 7, 100)), (40_000, (7, 100))):
        for count in counts:
            columns = recorded(n, n + count)
            expected = expectations(columns, 2_000)
            parts = [order_of(part, deadline_ns=2_000) for part in parts_of(columns, count)]
            for _ in range(2):
                order = Order(OrderSettings(deadline_ns=2_000))
                for part in parts:
                    order.merge(part)
                compare(order, expected)
                np.random.default_rng(count).shuffle(parts)


def test_parts_merged_in_pairs_and_saved_in_between_equal_the_whole():
    columns = recorded(30_000, 9, bits=16)
    for count in (7, 100):
        parts = [order_of(part, id_bits=16) for part in parts_of(columns, count)]
        np.random.default_rng(count).shuffle(parts)
        while len(parts) > 1:
            left, right = parts.pop(), parts.pop()
            left.merge(right)
            parts.insert(0, loaded(saved(left)))
        check(parts[0], columns)


def test_batches_equal_the_whole_and_stay_one_segment():
    columns = recorded(60_000, 2)
    order = Order(OrderSettings(deadline_ns=2_000))
    for part in parts_of(columns, 9) + parts_of(columns.take(slice(0, 0)), 1):
        order.add(part)
    check(order, columns)
    assert len(order.by_start.segments) == len(order.by_end.segments) == 1


def test_merge_does_not_change_the_other_order():
    parts = [order_of(part) for part in parts_of(recorded(30_000, 3), 3)]
    before = [saved(part) for part in parts]
    order = Order()
    for part in parts:
        order.merge(part)
    order.add(recorded(10, 1))
    assert [saved(part) for part in parts] == before


def test_rows_may_be_in_any_order_within_a_batch():
    columns = recorded(40_000, 4, late=2)
    mixed = columns.take(np.random.default_rng(1).permutation(len(columns)))
    check(order_of(mixed, deadline_ns=3_000), columns)


def test_more_frames_in_flight_than_rows_kept_are_counted_across_parts():
    # 3,000 in flight, far more than the rows that are kept: they last longer than parts do
    n = 50_000
    start = BASE + np.arange(n) * 1_000
    latencies = np.random.default_rng(8).integers(2_000_000, 4_000_000, n)
    latencies[1_000] = 40_000_000
    columns = Columns(np.arange(n, dtype=np.uint64), {"start": start, "end": start + latencies})
    parts = parts_of(columns, 12)
    np.random.default_rng(8).shuffle(parts)
    flight = merged(parts).results().in_flight
    assert flight.note == ""
    assert flight.peak == flight_of(rows_of(columns))["peak"]


# -- limits, and results that are not available ---------------------------------------------------


def test_saved_size_does_not_grow_with_frames():
    small, large = (len(saved(order_of(recorded(n, 1)))) for n in (10_000, 200_000))
    assert large < 1.2 * small
    assert large < 100_000


def test_many_recordings_are_kept_as_a_bounded_number_of_segments():
    n = 2 * MOST_SEGMENTS
    order = Order()
    # a minute of silence between two: none is taken for the neighbour of another
    for i in range(n):
        start = BASE + i * 60_000_000_000 + np.arange(2 * EDGE_ROWS) * 1_000
        ids = np.arange(2 * EDGE_ROWS, dtype=np.uint64) + np.uint64(i * 5_000)
        order.merge(order_of(Columns(ids, {"start": start, "end": start + 500})))
    assert len(order.by_start.segments) <= MOST_SEGMENTS
    results = order.results()
    found = results.arrivals
    assert (found.frames, found.gaps, found.reordered) == (n * 2 * EDGE_ROWS, n - 1, 0)
    assert found.longest_loss == 5_000 - 2 * EDGE_ROWS
    assert results.period.max == 60_000_000_000 - (2 * EDGE_ROWS - 1) * 1_000


def test_overlapping_recordings_have_no_order():
    columns = recorded(20_000, 6)
    order = order_of(columns.take(slice(0, None, 2)))
    order.merge(order_of(columns.take(slice(1, None, 2))))
    note = f"frames came more than {SETTLED_ROWS} places out of order, or recordings overlap"
    results = order.results()
    for found in (results.arrivals, results.jitter, results.period, results.in_flight):
        assert found.note == f"not available: {note}"
    assert results.period.mean is results.in_flight.peak is results.arrivals.gaps is None
    assert results.sentence() == f"ids not available: {note}"


def test_ids_that_start_again_are_not_available():
    start = np.arange(100_000) * 1_000
    ids = (np.arange(100_000) % 50_000).astype(np.uint64)
    columns = Columns(ids, {"start": start, "end": start + 1})
    note = "not available: an id came after many larger ones, as if ids had started again"
    for order in (order_of(columns), merged(parts_of(columns, 2))):
        results = order.results()
        assert results.arrivals.note == note
        assert results.period.mean == 1_000
        assert results.period.note == ""


def test_nothing_is_available_if_frames_are_missing():
    columns = recorded(100, 1)
    for reason in ("sampling rate 0.1", "1,204 frames lost here"):
        early, late, both = (order_of(columns, deadline_ns=1) for _ in range(3))
        early.mark_incomplete(reason)
        early.add(columns)
        late.mark_incomplete(reason)
        both.merge(late)
        for order in (early, late, both):
            for found in asdict(order.results()).values():
                assert found["note"] == f"not available: {reason}"
                names = ("gaps", "lost", "last", "mean", "peak", "misses", "longest_run")
                assert all(found.get(name) is None for name in names)


def test_weighted_rows_have_no_order():
    columns = recorded(10, 1)
    columns.weight = np.full(10, 2, np.uint32)
    assert order_of(columns).results().period.note == "not available: rows represent several frames"


def test_settings_are_checked():
    for chosen, message in (
        ({"id_bits": 7}, "id_bits must be from 8 to 32, or 64 .* got 7"),
        ({"deadline_ns": -1}, "deadline must be 0 ns or more, got -1 ns"),
        ({"deadline_span": "decode"}, "deadline_span must be .* got 'decode'"),
    ):
        with pytest.raises(ProfileError, match=message):
            OrderSettings(**chosen)


def test_orders_with_other_settings_do_not_merge():
    for kind in (Order, OrderBySource):
        with pytest.raises(ProfileError, match="the same id_bits and deadline"):
            kind().merge(kind(OrderSettings(id_bits=16)))


def test_only_the_marks_that_are_needed_are_read():
    assert OrderSettings().marks == ("start", "end")
    assert OrderSettings(deadline_ns=1).marks == ("start", "end")
    late = OrderSettings(deadline_ns=1, deadline_span="response")
    assert late.marks == ("due", "start", "end")


# -- saved form ---------------------------------------------------------------------------------


def test_a_saved_order_equals_the_original():
    for n in (0, 1, 1_000, 3_000, 50_000):
        columns = recorded(n, 1)
        text = saved(order_of(columns, deadline_ns=1_000))
        same = loaded(text)
        assert saved(same) == text
        check(same, columns)


def damaged(value, i):
    """Return a value that is not what it was."""
    return [None, "?", -1, [], {}, 2**70][i % 6] if value != [] else {}


def places(content, path=()):
    yield path
    if isinstance(content, dict | list):
        for key in content if isinstance(content, dict) else range(len(content)):
            yield from places(content[key], (*path, key))


def test_a_damaged_saved_order_is_refused_or_can_be_used():
    text = saved(order_of(recorded(5_000, 1), deadline_ns=1_000))
    refused = 0
    for i, path in enumerate(places(json.loads(text))):
        if not path:
            continue
        for kind in (0, 2, 4):  # neighbouring places get the other kinds
            content = json.loads(text)
            inner = content
            for key in path[:-1]:
                inner = inner[key]
            inner[path[-1]] = damaged(inner[path[-1]], i + kind)
            try:
                same = Decoder(None).decode(Order, content)
            except ProfileError:
                refused += 1
            else:
                same.merge(same)
                same.results()
    assert refused > 150


# -- pieces -------------------------------------------------------------------------------------


@given(st.lists(st.booleans(), max_size=12), st.integers(0, 12))
def test_streaks_of_two_parts_add_up_to_the_whole(missed, cut):
    both = Streak.of(np.array(missed[:cut], bool)) + Streak.of(np.array(missed[cut:], bool))
    assert both == Streak.of(np.array(missed, bool))
    runs = "".join("x" if miss else " " for miss in missed).split(" ")
    longest = max(map(len, runs))
    assert (both.longest, both.misses_at_first, both.misses_at_last) == (
        longest,
        len(runs[0]),
        len(runs[-1]),
    )


def test_id_sets_of_parts_join_to_the_whole():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        numbers = np.flatnonzero(rng.random(20_000) < 0.9)
        cuts = np.sort(rng.integers(0, len(numbers), rng.integers(1, 12)))
        parts = [set(part.tolist()) for part in np.split(numbers, cuts) if len(part)]
        for left, right in pairwise(parts):  # they overlap a little
            last = max(left)
            right |= {n for n in left if n > last - 50 and rng.random() < 0.5}
        joined, complete = IdSet(), True
        for i in rng.permutation(len(parts)) if seed % 2 else range(len(parts)):
            both = joined.union(IdSet.of(np.array(sorted(parts[i]))))
            if both is None:
                complete = False
                assert seed % 2  # a part may belong between ids that were not kept
            else:
                joined = both
        if complete:
            known = sorted(set().union(*parts))
            assert joined.count == len(known)
            assert joined.lost == known[-1] - known[0] + 1 - len(known)
            assert joined.longest_gap == max(np.diff(known)) - 1
            assert joined.shifted(5).lowest == known[0] + 5


def test_edges_of_parts_equal_those_of_the_whole():
    rng = np.random.default_rng(2)
    for _ in range(50):
        sizes = rng.choice([0, 1, 700, EDGE_ROWS, 1_500, 2 * EDGE_ROWS, 9_000], 4)
        rows = np.arange(sizes.sum()), rng.integers(0, 9, sizes.sum())
        pieces = np.split(np.arange(sizes.sum()), np.cumsum(sizes)[:-1])
        extended, followed, between = Edges(), Edges(), []
        for piece in pieces:
            part = tuple(column[piece] for column in rows)
            between += extended.extend(part)
            alone = Edges()
            alone.extend(part)
            followed = followed.followed_by(alone)
        stop = max(len(rows[0]) - EDGE_ROWS, min(EDGE_ROWS, len(rows[0])))
        for edges in (extended, followed):
            assert edges.count == len(rows[0])
            for k in range(2):
                assert edges.head[k].tolist() == rows[k][:EDGE_ROWS].tolist()
                assert edges.tail[k].tolist() == rows[k][stop:].tolist()
                assert edges.last_rows[k].tolist() == rows[k][-EDGE_ROWS:].tolist()
        middle = np.concatenate([part[0] for part in between])
        assert middle.tolist() == rows[0][EDGE_ROWS:stop].tolist()


def test_fresh_runs_have_counted_nothing():
    for run in (StartRun().ids, StartRun().timing, Jitter()):
        assert run.fresh().count == 0


def test_orders_of_sources_equal_those_of_their_frames():
    columns = recorded(3_000, 1)
    columns.source = Labels.encode([("a", None, "b")[i % 3] for i in range(3_000)])
    orders = OrderBySource(OrderSettings(deadline_ns=2_000))
    for part in parts_of(columns, 4):
        orders.add(part, 1.0)
    assert sorted(orders.results(None)) == ["", "a", "b"]
    for i, source in enumerate(("a", None, "b")):
        check(orders.by_source[source], columns.take(slice(i, None, 3)))


def test_recordings_that_are_sampled_or_lossy_have_no_order():
    columns = recorded(100, 1)
    sampled, lossy = OrderBySource(), OrderBySource()
    sampled.add(columns, 0.1)
    lossy.add(columns, 1.0)
    lossy.end_recording(lost=1_204)
    assert sampled.results()[""].period.note == "not available: sampling rate 0.1"
    assert lossy.results()[""].period.note == "not available: 1,204 frames lost here"


def test_rows_of_a_single_source_are_not_copied():
    columns = recorded(100, 1)
    assert list(rows_by_source(columns)) == [(None, slice(None))]
    columns.source = Labels.constant("input", 100)
    assert list(rows_by_source(columns)) == [("input", slice(None))]
    columns.source = Labels.encode([("a", None, "b")[i % 3] for i in range(100)])
    rows = dict(rows_by_source(columns))
    assert {name: len(found) for name, found in rows.items()} == {None: 33, "a": 34, "b": 33}
    assert rows["b"].tolist() == list(range(2, 100, 3))
