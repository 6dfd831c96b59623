"""Scans of a ring: slot by slot by hand, against a plain loop over dicts, and against what threads
wrote while it was scanned."""

import random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strategies import examples

from latprof import Pipeline
from latprof.frames import FINISHED
from latprof.ring import reader as ring_reader
from latprof.ring.layout import row_dtype
from latprof.ring.names import NameTable
from latprof.ring.reader import RingReader
from latprof.ring.scan import NEWEST, SlotTable

ROW = np.dtype([("begin", "<u8"), ("seq", "<u8")])
NONE = np.empty(0, np.int64)
MOVED = (-1, -1)  # the content of a slot that changed while it was read


def numbers_array(values):
    return np.array(sorted(values), np.int64)


def table_of(slots, capacity=200, after=0, unfinished=()):
    """Return the table of a scan that has read {slot: (number in begin, number in seq)}."""
    table = SlotTable(ROW, capacity, after, numbers_array(unfinished))
    table.add(*content(slots))
    return table


def content(slots):
    """Return slots, rows and which of them moved."""
    moved = np.array([pair == MOVED for pair in slots.values()], bool)
    rows = np.zeros(len(slots), ROW)
    for i, pair in enumerate(slots.values()):
        rows[i] = tuple(max(n, 0) for n in pair)
    return np.array([*slots], np.int64), rows, moved


def read_again(table, slots):
    """Let the scan read these slots once more."""
    order = {slot: i for i, slot in enumerate(table.slots.tolist())}
    _, rows, moved = content(slots)
    table.update(np.array([order[slot] for slot in slots], np.intp), rows, moved)


def written(*numbers, capacity=200):
    """Return the slots of whole rows with these numbers, later ones over earlier ones."""
    return {(n - 1) % capacity: (n, n) for n in numbers}


def found(table):
    return table.result(alive=True).rows["seq"].tolist()


def unsettled(table, near=False):
    return sorted(table.slots[table.unsettled(near=near)].tolist())


def unfinished(table):
    return table.result(alive=True).unfinished.tolist()


def counts(table, alive=True):
    """Return torn, torn_lost, never_written, being_written and in_flight."""
    scan = table.result(alive=alive)
    assert alive or len(scan.unfinished) == scan.in_flight == 0
    return scan.torn, scan.torn_lost, scan.never_written, scan.being_written, scan.in_flight


# -- case by case ---------------------------------------------------------------------------------


def test_a_row_is_whole_if_both_numbers_belong_to_its_slot():
    slots = {0: (1, 1), 1: (3, 3), 2: (3, 0), 3: (0, 4), 4: (205, 5), 5: MOVED, 6: (0, 0)}
    table = table_of({**slots, 7: (208, 208)})
    assert (found(table), table.newest) == ([1, 208], 208)
    # 203 and 205 are still to come; the row of 3 was begun; 6 and 7 are overwritten
    assert counts(table, alive=False) == (6, 6, 0, 0, 0)


def test_numbers_that_do_not_belong_to_their_slot_are_torn():
    capacity = 3
    for begin, seq, number in [
        (0, 0, None),
        (1, 1, 1),
        (4, 4, 4),
        (10, 1, None),  # 10 is being written over 1
        (1, 0, None),
        (2, 2, None),  # of another slot
        (0, 1, None),
        (2**64 - 1, 2**64 - 1, None),
        (2**63, 2**63, None),
    ]:
        table = SlotTable(ROW, capacity, 0, NONE)
        rows = np.array([(begin, seq), (2, 2)], ROW)
        table.add(np.arange(2), rows, np.zeros(2, bool))
        assert found(table) == sorted(n for n in (number, 2) if n)
        torn = 0 if number or (begin, seq) == (0, 0) else 1
        assert table.result(alive=False).torn == torn
    # the largest number that there is
    table = SlotTable(ROW, 1, 0, NONE)
    table.add(np.arange(1), np.array([(2**63 - 1,) * 2], ROW), np.zeros(1, bool))
    assert found(table) == [2**63 - 1]


def test_numbers_of_any_size_are_treated_alike():
    for newest in (2**59, 2**59 - 1_000):
        rows = written(*range(newest - 199, newest + 1))
        del rows[(newest - 5 - 1) % 200]
        for torn in ((newest - 5, 0), MOVED, (newest - 205, 0)):
            table = table_of(rows | {(newest - 5 - 1) % 200: torn})
            assert (table.newest, len(found(table))) == (newest, 199)
            assert unfinished(table) == [newest - 5]
            assert counts(table, alive=False) == (1, 1, 0, 0, 0)
    # the memory depends on the slots that were read, not on the capacity
    table = table_of({0: (2**40 + 1, 2**40 + 1), 1: (2, 2)}, 2**31)
    assert len(table.unsettled(near=False)) <= 2


def test_numbers_near_the_newest_are_unfinished_and_older_ones_are_lost():
    rows = written(*range(1, 351))
    for n in (286, 287, 300):  # 350 - NEWEST, and later ones
        rows[(n - 1) % 200] = (n - 200, n - 200)
    table = table_of(rows)
    assert unfinished(table) == [287, 300]
    assert unsettled(table) == [85, 86, 99]
    assert unsettled(table, near=True) == [86, 99]
    # each of these slots still gives an older row
    assert counts(table) == (0, 0, 0, 0, 2)
    assert counts(table, alive=False) == (0, 0, 0, 0, 0)


def test_in_a_scan_for_new_rows_each_number_gets_the_time_until_the_next_scan():
    rows = written(*range(101, 271))
    rows.update({(n - 1) % 200: (n, 0) for n in (110, 250)})
    table = table_of(rows, after=100)
    assert unfinished(table) == [110, 250]
    # an unfinished number is not torn, however far from the newest
    assert counts(table) == (0, 0, 0, 2, 2)
    assert counts(table, alive=False) == (2, 2, 0, 0, 0)
    assert unsettled(table, near=True) == [49]
    # a scan of all slots has no next one
    assert unfinished(table_of(rows)) == [250]


def test_a_number_is_overwritten_once_the_next_lap_has_begun_in_its_slot():
    rows = written(*range(101, 301))
    rows[95] = (296, 0)  # of this lap
    rows[98] = (499, 0)  # the next one
    for after in (0, 100):
        table = table_of(rows, after=after)
        assert unfinished(table) == [296]
        assert unsettled(table) == unsettled(table, near=True) == [95, 98]
        assert counts(table) == (0, 0, 0, 2, 2)
        # 499 is not lost yet: only 296 is torn and not above the newest
        assert counts(table, alive=False) == (2, 1, 0, 0, 0)


def test_rows_begun_above_the_newest_number_are_being_written():
    # a block of rows is begun as one, and worth waiting for; if it is not finished, all but the
    # last rows are torn
    rows = {slot: (0, 0) for slot in range(200)} | written(*range(1, 31))
    rows |= {n - 1: (n, 0) for n in range(31, 131)}
    table = table_of(rows)
    assert unsettled(table, near=True) == list(range(30, 130))
    assert counts(table) == (36, 0, 70, 64, 64)
    assert counts(table, alive=False) == (100, 0, 70, 0, 0)
    # a fast writer is laps ahead
    table = table_of(written(*range(1, 200)) | {199: (1_000, 0)})
    assert counts(table) == (0, 0, 0, 1, 1)
    # rows that are left for the next scan are never torn
    table.frozen = True
    read_again(table, {50: (251, 251), 60: (261, 0)})
    assert counts(table) == (1, 0, 0, 2, 1)


def test_a_row_that_moved_may_be_on_either_side_of_the_newest_number():
    rows = written(*range(101, 301))
    assert counts(table_of(rows | {90: MOVED})) == (0, 0, 0, 1, 1)  # 291
    # it may be 301 + 20 that is being written; a number far below the newest is not in flight
    for slot, far in [(120, 0), (163, 0), (164, 1), (35, 1), (36, 0)]:
        table = table_of(rows | {slot: MOVED})
        assert counts(table) == (0, 0, 0, 1, 1 - far), slot
        assert len(unsettled(table, near=True)) == 1 - far
        assert unsettled(table) == [slot]
        assert counts(table, alive=False) == (1, 1, 0, 0, 0)
    # zeros from the second lap on do not change, and are torn far below the newest
    late = written(*range(301, 501))
    assert counts(table_of(late | {120: (0, 0)})) == (0, 0, 0, 1, 1)
    assert counts(table_of(late | {35: (0, 0)})) == (1, 1, 0, 0, 0)


def test_zeros_are_part_of_a_row_from_the_second_lap_on():
    rows = {slot: (0, 0) for slot in range(200)}
    first = table_of(rows | written(1, 2, 4))
    assert counts(first, alive=False) == (0, 0, 197, 0, 0)
    assert counts(first) == (0, 0, 196, 1, 1)  # 3 is claimed
    # 210 numbers: slots 0 to 9 are in their second lap
    second = written(*range(11, 211))
    for slot, torn in [(4, 1), (8, 1), (10, 0), (150, 0)]:
        table = table_of(second | {slot: (0, 0)})
        assert counts(table, alive=False) == (torn, torn, 1 - torn, 0, 0), slot


def test_torn_rows_of_an_earlier_lap_are_torn_however_near():
    # 2 and 5 were rejected a lap ago, in the slots of the next rows
    table = table_of(written(*range(1, 201)) | {1: (2, 0), 4: (5, 0)})
    assert counts(table) == counts(table, alive=False) == (2, 2, 0, 0, 0)
    assert unsettled(table, near=True) == []
    assert unsettled(table) == [1, 4]


def test_rows_that_were_torn_in_the_scan_before_are_not_read_again():
    rows = written(*range(201, 251)) | {100: (101, 0), 110: MOVED, 20: (221, 0)}
    table = table_of(rows, after=200)
    assert unsettled(table) == [20, 110]
    # 101 was counted by an earlier scan
    assert counts(table, alive=False) == (3, 1, 0, 0, 0)


def test_unfinished_numbers_are_requested_again_until_they_are_overwritten():
    rows = written(*range(291, 301)) | {19: (220, 220), 20: (21, 21), 89: (90, 90)}
    requested = [95, 220, 221, 290]
    table = table_of(rows, after=290, unfinished=requested)
    # 95 is a lap behind; the row of 220 has come; 290 is near; 221 had its time
    assert found(table) == [220, *range(291, 301)]
    assert unfinished(table) == [290]
    assert unsettled(table) == [20, 89]
    assert unsettled(table, near=True) == []
    torn = table_of(rows | {20: (221, 0)}, after=290, unfinished=requested)
    assert counts(torn) == (1, 1, 0, 0, 1)
    # in a short ring, a lap is not far
    short = table_of(written(*range(13, 21), capacity=8), 8, after=12, unfinished=[5, 12])
    assert (unsettled(short), unfinished(short)) == ([], [])


def test_rows_above_the_newest_number_are_left_for_the_next_scan_once_it_is_frozen():
    rows = written(*range(1, 201)) | {99: MOVED, 149: MOVED, 189: (190, 0)}
    table = table_of(rows)
    assert unsettled(table) == [99, 149, 189]
    table.frozen = True
    # 300 and 350 are of the next lap, 190 is finished
    read_again(table, {99: (300, 300), 149: (350, 0), 189: (190, 190)})
    assert table.newest == 200
    assert found(table) == [n for n in range(1, 201) if n not in (100, 150)]
    # 100 and 150 are overwritten, not unfinished
    assert unfinished(table) == []
    assert unsettled(table) == unsettled(table, near=True) == [149]
    # 300 is left for the next scan, and 350 is in flight
    assert counts(table) == (0, 0, 0, 2, 1)
    # otherwise the newest number grows
    moving = table_of(rows)
    read_again(moving, {99: (300, 300), 149: (350, 0), 189: (190, 190)})
    # 201 to 299 are missing, and the slot of 350 is torn
    assert (moving.newest, len(unsettled(moving))) == (300, 99 + 1)


def test_a_slot_counts_as_it_was_read_last():
    rows = written(*range(101, 301))
    rows[90] = (91, 91)
    for again, kept, account in [
        ((291, 291), 291, (0, 0, 0, 0, 0)),
        ((291, 0), None, (0, 0, 0, 1, 1)),
        ((91, 91), 91, (0, 0, 0, 0, 1)),
        ((491, 491), None, (0, 0, 0, 1, 0)),
    ]:
        for after in (0, 90):
            table = table_of(rows, after=after)
            assert unsettled(table) == [90]
            table.frozen = True
            read_again(table, {90: again})
            others = [n for n in range(101, 301) if n != 291]
            # a scan for new rows keeps both; none comes twice
            mine = {kept} - {None} if after == 0 else {91, kept} - {None}
            assert found(table) == sorted({*others, *mine})
            assert counts(table) == account


def test_a_ring_without_rows_was_never_written():
    table = table_of({slot: (0, 0) for slot in range(200)})
    assert (found(table), table.newest) == ([], 0)
    assert counts(table) == counts(table, alive=False) == (0, 0, 200, 0, 0)
    assert unsettled(table) == []


# -- against a plain loop -------------------------------------------------------------------------


HALF = ("torn", "moved")


class PlainTable:
    """A SlotTable once more: a dict of slots, and a loop for each question."""

    def __init__(self, capacity, after, requested):
        self.capacity, self.after, self.requested = capacity, after, set(requested)
        self.newest, self.frozen = after, False
        self.last, self.seen = {}, set()

    def read(self, slots):
        newest = self.newest
        for slot, (begin, seq) in slots.items():
            if (begin, seq) == MOVED:
                self.last[slot] = ("moved", 0)
            elif begin == seq == 0:
                self.last[slot] = ("empty", 0)
            elif begin == seq != -1 and self.slot(seq) == slot:
                if self.frozen and seq > newest:
                    self.last[slot] = ("ahead", seq)
                elif seq > self.after or seq in self.requested:
                    self.last[slot] = ("row", seq)
                    self.seen.add(seq)
                    self.newest = max(self.newest, seq)
                else:
                    self.last[slot] = ("old", seq)
            else:
                self.last[slot] = ("torn", begin if begin > 0 and self.slot(begin) == slot else 0)

    def slot(self, n):
        return (n - 1) % self.capacity

    def gaps(self):
        return [slot for slot, (kind, _) in self.last.items() if kind not in ("row", "old")]

    def latest(self, slot):
        """Return the largest number up to the newest that belongs to a slot, or 0."""
        return max((n for n in self.last_lap() if self.slot(n) == slot), default=0)

    def last_lap(self):
        return range(max(1, self.newest - self.capacity + 1), self.newest + 1)

    def missing(self):
        over = {slot for slot in self.last if self.last[slot][1] > self.newest}
        wanted = {n for n in self.last_lap() if n > self.after or n in self.requested}
        return {n for n in wanted - self.seen if self.slot(n) not in over}

    def unfinished(self):
        return {
            n for n in self.missing() if n > self.newest - NEWEST or (self.after and n > self.after)
        }

    def untouched(self, slot):
        return self.last[slot][0] == "empty" and self.latest(slot) <= self.capacity

    def number(self, slot, alive=True):
        """Return the number of the row that the slot holds part of, as far as it is known."""
        begun = self.last[slot][1]
        if begun or self.untouched(slot):
            return begun or self.latest(slot)
        if alive and self.latest(slot) not in self.unfinished():
            for n in range(self.newest + 1, self.newest + min(NEWEST, self.capacity) + 1):
                if self.slot(n) == slot:
                    return n
        return self.latest(slot)

    def unsettled(self, near):
        begun = {slot: self.last[slot][1] for slot in self.gaps() if self.last[slot][0] in HALF}
        if not near:
            young = {slot for slot, n in begun.items() if not 0 < n <= self.after}
            return {self.slot(n) for n in self.missing()} | young
        near = {n for n in self.missing() if n > max(self.after, self.newest - NEWEST)}
        gaps = [slot for slot in self.gaps() if self.last[slot][0] != "ahead"]
        above = {slot for slot in gaps if self.number(slot) > self.newest}
        return {self.slot(n) for n in near} | above

    def rows(self):
        if self.after:
            return self.seen
        return {n for kind, n in self.last.values() if kind == "row"}

    def counts(self, alive):
        still = self.unfinished() if alive else set()
        numbers = {slot: self.number(slot, alive) for slot in self.gaps()}
        last = max(numbers.values(), default=0)
        torn = torn_lost = never = being = 0
        flying = len(still)
        for slot, n in numbers.items():
            is_row = self.last[slot][0] == "ahead"
            if n in still:
                being += 1
            elif alive and n > self.newest and (is_row or n > last - NEWEST):
                being += 1
                flying += not is_row
            elif self.untouched(slot):
                never += 1
            elif alive and self.last[slot][0] == "moved":
                being += 1
            else:
                torn += 1
                torn_lost += self.after < n <= self.newest or n in self.requested
        return torn, torn_lost, never, being, flying


@st.composite
def readings(draw):
    """Draw a ring's capacity, what is requested, and what is read: some of it more than once."""
    capacity = draw(st.sampled_from([1, 2, 5, 8, 70, 130, 200]))
    laps = draw(st.integers(0, 3))
    newest = draw(st.integers(1, capacity)) + laps * capacity
    after = draw(st.just(0) | st.integers(max(0, newest - 2 * capacity), newest))
    back = st.integers(max(1, after - capacity), max(1, after))
    requested = draw(st.sets(back, max_size=6)) if after else set()
    chance = random.Random(draw(st.integers(0, 2**32)))
    odd = draw(st.sampled_from([0.02, 0.2, 0.8]))

    def content(slot, high):
        latest = high - (high - 1 - slot) % capacity
        if chance.random() > odd:
            return (latest, latest) if latest > 0 else (0, 0)
        at = max(0, latest + chance.choice([-2, -1, -1, 0, 0, 1, 1, 2]) * capacity)
        kinds = [(at, 0), (at, at), (0, at), MOVED, (0, 0), (at + 1, at + 1), (at, at + capacity)]
        return chance.choice(kinds)

    rounds = [{slot: content(slot, newest) for slot in range(capacity)}]
    for _ in range(draw(st.integers(0, 3))):
        high = newest + chance.choice([0, 1, capacity // 2, capacity + 1])
        rounds.append({slot: content(slot, high) for slot in range(capacity)})
    return capacity, after, requested, rounds, draw(st.integers(1, 4))


@settings(max_examples=examples(250))
@given(readings())
def test_the_table_of_a_scan_equals_a_plain_loop(reading):
    capacity, after, requested, rounds, frozen_from = reading
    table = SlotTable(ROW, capacity, after, numbers_array(requested))
    plain = PlainTable(capacity, after, requested)
    for i, slots in enumerate(rounds):
        table.frozen = plain.frozen = i >= frozen_from
        if i:  # only unsettled slots are read again
            slots = {slot: slots[slot] for slot in plain.unsettled(near=i % 2 == 0)}
            read_again(table, slots)
        else:
            table.add(*content(slots))
        plain.read(slots)
        assert table.newest == plain.newest
        assert unfinished(table) == sorted(plain.unfinished())
        for near in (False, True):
            assert unsettled(table, near) == sorted(plain.unsettled(near))
        assert found(table) == sorted(plain.rows())
        for alive in (False, True):
            assert counts(table, alive) == plain.counts(alive)


# -- against what was written ---------------------------------------------------------------------

BARE = Pipeline("bare", ("start", "end"))


class World:
    """Threads that claim numbers, begin rows and end them; a step is what one of them does."""

    def __init__(self, seed, capacity, threads, stalls, rejects, bursts):
        self.chance = random.Random(seed)
        self.capacity, self.rejects, self.stalls, self.bursts = capacity, rejects, stalls, bursts
        self.slots = [(0, 0)] * capacity
        self.claimed, self.now, self.alive = 0, 0, True
        self.ended, self.rejected = {}, set()  # when, by number
        self.threads = [None] * threads  # (number, how far)
        self.stuck = {}

    def claim(self):
        self.claimed += 1
        return self.claimed

    def put(self, n, begin, seq):
        self.slots[(n - 1) % self.capacity] = (begin, seq)

    def step(self):
        if not self.alive:
            return
        self.now += 1
        if self.chance.random() < self.bursts:
            for _ in range(self.chance.randint(1, 2 * self.capacity)):
                self.write(self.claim())
        i = self.chance.randrange(len(self.threads))
        if self.stuck.get(i, 0) > self.now:
            return
        if self.chance.random() < self.stalls:
            self.stuck[i] = self.now + self.chance.choice([5, 50, 500, 10**9])
        self.go_on(i)

    def go_on(self, i):
        """Let a thread do the next of: claim, zeros, begin, end."""
        if self.threads[i] is None:
            self.threads[i] = (self.claim(), 0)
            return
        n, done = self.threads[i]
        if done == 2:
            self.write(n)
        elif done == 1:
            self.put(n, n, 0)
            if self.chance.random() < self.rejects:
                self.rejected.add(n)
                done = 2
        else:
            self.put(n, 0, 0)
        self.threads[i] = None if done == 2 else (n, done + 1)

    def write(self, n):
        self.put(n, n, n)
        self.ended[n] = self.now

    def steps(self, n):
        for _ in range(n):
            self.step()


class Watched(RingReader):
    """The reader, of slots that are written to while it reads them."""

    def __init__(self, world, pace):
        self.pipeline, self.capacity, self.dtype = BARE, world.capacity, row_dtype(BARE)
        self.sources, self.outcomes, self.tags = NameTable(None), NameTable(FINISHED), ()
        self._foreign, self.offset_ns = [], 0
        self.world, self.pace = world, pace
        self.dies_in = None
        self._file = -1

    def recording(self):
        if self.dies_in is not None:
            self.dies_in -= 1
            self.world.alive = self.dies_in > 0
        return self.world.alive

    def _read_log(self):
        pass

    def _stored(self):
        return self.capacity

    def _read_flights(self):
        return np.zeros(0, self.dtype)

    def _read_rows(self, first, count):
        rows = np.zeros(count, self.dtype)
        rows["weight"], rows["start"], rows["end"] = 1, 1, 2
        moved = np.zeros(count, bool)
        for i in range(count):
            reads = []
            for _ in range(3):
                reads.append(self.world.slots[first + i])
                if self.world.chance.random() < self.pace:
                    self.world.step()
            (_, before), (begin, seq), (later, _) = reads
            moved[i] = (before, later) != (seq, begin)
            rows[i]["begin"], rows[i]["seq"] = begin, seq
        return rows, moved


@st.composite
def worlds(draw, capacities=(1, 3, 8, 40, 100, 200)):
    """Draw a world and its reader."""
    world = World(
        draw(st.integers(0, 2**32)),
        draw(st.sampled_from(capacities)),
        draw(st.integers(1, 6)),
        draw(st.sampled_from([0, 0, 0.02, 0.1])),
        draw(st.sampled_from([0, 0, 0.25])),
        draw(st.sampled_from([0, 0, 0.002, 0.02])),
    )
    return world, Watched(world, draw(st.sampled_from([0, 0.05, 0.3, 1])))


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """Read in pieces as a large ring is read, and let the world go on instead of sleeping."""
    monkeypatch.setattr(ring_reader, "CHUNK", 32)
    monkeypatch.setattr(ring_reader, "POLL_CHUNK", 16)
    monkeypatch.setattr(ring_reader, "PAUSES_S", (0, 0, *[1e-9] * 6))


def scan(reader, after=0, requested=NONE):
    """Scan, and check the result against what was there before and after."""
    world = reader.world
    before, started = [*world.slots], world.now
    seen = reader.scan(after=after, unfinished=requested)
    rows, still = seen.rows["seq"].tolist(), seen.unfinished.tolist()
    wanted = {*range(after + 1, seen.newest + 1), *requested.tolist()}
    assert len(set(rows)) == len(rows)
    assert {*rows} <= wanted & world.ended.keys()
    assert {*still} <= wanted - {*rows}
    assert seen.lost == len(wanted) - len(rows) - len(still)
    assert (seen.refused, seen.cut_off) == (0, 0)
    assert 0 <= seen.torn_lost <= min(seen.torn, seen.lost)
    # a row that was in its slot all the time is found
    stayed = {seq for (_, seq), now in zip(before, world.slots, strict=True) if now == (seq, seq)}
    stayed = {n for n in stayed if n and world.ended[n] <= started}
    assert stayed & wanted <= {*rows}
    if after == 0:
        slots = len(rows) + seen.torn + seen.never_written + seen.being_written
        assert slots == world.capacity
    # an overwritten number is not unfinished
    assert not [n for n in still if any(m > n and (m - n) % world.capacity == 0 for m in stayed)]
    if not world.alive:
        assert (still, seen.being_written, seen.in_flight) == ([], 0, 0)
    return seen


WAITS = settings(
    max_examples=examples(150), suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@WAITS
@given(worlds(), st.lists(st.integers(0, 120), max_size=8), st.sampled_from([None, 1, 2, 3, 9]))
def test_each_number_is_counted_once(drawn, pauses, dies_in):
    world, reader = drawn
    newest, still, rows, lost = 0, NONE, [], 0
    for i, pause in enumerate([*pauses, 0]):
        world.steps(pause * 3)
        if i == len(pauses):  # in the last scan, or before it
            reader.dies_in = dies_in
            world.alive = dies_in is not None
        seen = scan(reader, newest, still)
        rows += seen.rows["seq"].tolist()
        lost += seen.lost
        newest, still = seen.newest, seen.unfinished
    assert len(set(rows)) == len(rows)
    assert len(rows) + lost + len(still) == newest
    reader.dies_in, world.alive = None, False
    seen = scan(reader, newest, still)
    rows += seen.rows["seq"].tolist()
    assert len(set(rows)) == len(rows)
    assert len(rows) + lost + seen.lost == seen.newest


def test_new_rows_after_a_long_stretch_of_old_ones_are_found():
    world = World(0, 40, 1, 0, 0, 0)
    for number in range(1, 97):
        if number != 61:
            world.write(number)
    seen = Watched(world, 0).scan(after=80, unfinished=np.array([61]))
    assert seen.rows["seq"].tolist() == list(range(81, 97))
    assert (seen.newest, seen.lost + len(seen.unfinished)) == (96, 1)


@WAITS
@given(worlds(), st.integers(0, 900))
def test_a_writer_in_order_loses_only_overwritten_rows(drawn, steps):
    world, reader = drawn
    world.go_on = lambda thread: world.write(world.claim())
    world.steps(steps)
    seen = scan(reader)
    there = {seq for begin, seq in world.slots if begin == seq != 0 and seq <= seen.newest}
    assert there <= {*seen.rows["seq"].tolist()}


@WAITS
@given(worlds(capacities=(130, 200)), st.integers(0, 900))
def test_rows_that_threads_are_writing_are_in_flight(drawn, steps):
    world, reader = drawn
    world.steps(steps)
    reader.pace, world.step = 0, lambda: None
    seen = scan(reader)
    newest, slots = seen.newest, world.slots
    assert newest == max((seq for begin, seq in slots if begin == seq), default=0)
    # claimed and not in the ring: a rejected frame leaves no sign of it there
    still = set(range(max(1, newest - NEWEST + 1), newest + 1))
    still -= {n for n in still if slots[(n - 1) % world.capacity] == (n, n)}
    beyond = {begin for begin, seq in slots if begin != seq and newest < begin}
    # zeros are known to be part of a row after the second lap
    zeros = set(range(max(newest, 2 * world.capacity) + 1, newest + NEWEST + 1))
    zeros = {n for n in zeros if slots[(n - 1) % world.capacity] == (0, 0)}
    assert seen.unfinished.tolist() == sorted(still)
    assert seen.in_flight == len(still | beyond | zeros)
    older = {n for n in still if slots[(n - 1) % world.capacity][0] not in (0, n)}
    assert seen.being_written == seen.in_flight - len(older)


@WAITS
@given(worlds(), st.integers(0, 900))
def test_the_ring_of_a_dead_process_is_counted_slot_by_slot(drawn, steps):
    world, reader = drawn
    world.steps(steps)
    world.alive = False
    seen = scan(reader)
    capacity, newest = world.capacity, seen.newest
    rows, torn, never, before = set(), 0, 0, set()
    for slot, (begin, seq) in enumerate(world.slots):
        latest = max(n for n in (*range(slot + 1, newest + 1, capacity), 0))
        if begin == seq != 0:
            rows.add(seq)
        elif begin == 0 and latest <= capacity:
            never += 1
        else:
            torn += 1
            before.add(begin or latest)
    before = {n for n in before if 0 < n <= newest}
    assert seen.rows["seq"].tolist() == sorted(rows)
    assert (seen.torn, seen.torn_lost, seen.never_written) == (torn, len(before), never)
    assert seen.lost == len(set(range(1, newest + 1)) - rows)


def at_rest(capacity, *numbers):
    """Return a reader of a ring with these rows, and what slots it reads."""
    world = World(0, capacity, 1, 0, 0, 0)
    for n in numbers:
        world.write(n)
    world.claimed = max(numbers)
    reader, slots = Watched(world, 0), []
    read = reader._read_rows

    def noted(first, count):
        slots.extend(range(first, first + count))
        return read(first, count)

    reader._read_rows = noted
    return world, reader, slots


def test_a_scan_for_new_rows_reads_only_as_far_as_there_are_some():
    _, reader, slots = at_rest(200, *range(1, 41))
    assert scan(reader, 30).rows["seq"].tolist() == list(range(31, 41))
    assert slots == list(range(30, 62))  # until 16 have nothing new
    # of unfinished rows only those that are not overwritten
    world, reader, slots = at_rest(100, *range(41, 141))
    world.put(135, 135, 0)
    scan(reader, 139, numbers_array([33, 135]))
    # 135 is read with the others, and twice more, without waiting
    assert (slots.count(32), slots.count(34)) == (0, 3)


def test_recording_that_begins_or_ends_during_a_scan():
    world, reader, _ = at_rest(200, 1, 2, 3)
    world.put(4, 4, 0)
    answers = [False, True, True]  # before the slots are read, after, and in the end
    reader.recording = lambda: answers.pop(0)
    assert reader.scan().being_written == 1

    def ends():
        world.write(4)
        return False

    begins = [lambda: True, ends]
    reader.recording = lambda: begins.pop(0)()
    reader._settle = lambda table: None
    seen = reader.scan()
    assert (seen.rows["seq"].tolist(), seen.torn) == ([1, 2, 3, 4], 0)
