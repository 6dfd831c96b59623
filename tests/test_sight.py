"""What reads of slots amount to: by hand, slot by slot with dicts, and against what was written."""

import random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from latprof import Pipeline
from latprof.frames import FINISHED
from latprof.ring import reader as ring_reader
from latprof.ring.numbers import NO_NUMBER
from latprof.ring.reader import FoundNames, RingReader
from latprof.ring.scan import NEWEST, Sight

ROW = np.dtype([("begin", "<u8"), ("seq", "<u8")])
NONE = np.empty(0, np.uint64)
MOVED = (0, NO_NUMBER)


def numbers_array(values):
    return np.array(sorted(values), np.uint64)


def sight_of(slots, capacity=200, after=0, awaited=()):
    """Return a Sight that was told of {slot: (begin, seq)}."""
    sight = Sight(ROW, capacity, after, numbers_array(awaited))
    tell(sight, slots)
    return sight


def tell(sight, slots):
    return sight.add(np.array([*slots.values()], ROW), np.array([*slots], np.uint64))


def written(*numbers, capacity=200):
    """Return the slots that whole rows of these numbers lie in, later ones over earlier ones."""
    return {(n - 1) % capacity: (n, n) for n in numbers}


def found(sight):
    return sight.rows()["seq"].tolist()


def told(sight, live=True):
    """Return torn, torn_before, never_written, being_written and in_flight."""
    account = sight.account(live=live)
    assert account.open.tolist() == (sight.open().tolist() if live else [])
    return tuple(n for name, n in account._asdict().items() if name != "open")


# -- case by case ---------------------------------------------------------------------------------


def test_a_row_is_whole_where_both_numbers_fit_its_slot():
    slots = {0: (1, 1), 1: (3, 3), 2: (3, 0), 3: (0, 4), 4: (205, 5), 5: MOVED, 6: (0, 0)}
    sight = sight_of({**slots, 7: (208, 208)})
    assert (found(sight), sight.newest) == ([1, 208], 208)
    # 203 and 205 are to come; of 3 the row was begun; 6 and 7 are overwritten: all those are known
    assert told(sight, live=False) == (6, 6, 0, 0, 0)


def test_where_the_latest_number_of_a_slot_is():
    sight = sight_of(written(*range(150, 351)))
    assert sight.behind_newest(np.array([149, 148, 0, 199, 150], np.uint64)).tolist() == [
        *(0, 1, 149, 150),  # 350, 349, 201, 200
        199,  # 151
    ]


def test_forged_numbers_are_as_good_as_others():
    last = 2**64 - 1
    for newest in (last, last - 1_000):
        rows = written(*range(newest - 199, newest + 1))
        del rows[(newest - 5 - 1) % 200]
        for torn in ((newest - 5, 0), MOVED, (newest - 205, 0)):
            sight = sight_of(rows | {(newest - 5 - 1) % 200: torn})
            assert (sight.newest, len(found(sight))) == (newest, 199)
            assert sight.missing().tolist() == [newest - 5]
            assert told(sight, live=False) == (1, 1, 0, 0, 0)
    # a capacity that is forged takes no memory
    sight = sight_of({0: (2**40 + 1, 2**40 + 1), 1: (2, 2)}, 2**31)
    assert len(sight.missing()) <= 2


def test_numbers_near_the_newest_are_open_older_ones_are_lost():
    rows = written(*range(1, 351))
    for n in (286, 287, 300):  # 350 - NEWEST, and later ones
        rows[(n - 1) % 200] = (n - 200, n - 200)
    sight = sight_of(rows)
    assert sight.missing().tolist() == [286, 287, 300]
    assert sight.open().tolist() == [287, 300]
    assert sight.unsettled().tolist() == [85, 86, 99]
    assert sight.pending().tolist() == [86, 99]
    # each of these slots still gives an older row
    assert told(sight) == (0, 0, 0, 0, 2)
    assert told(sight, live=False) == (0, 0, 0, 0, 0)


def test_after_a_look_each_number_gets_the_time_until_the_next_one():
    rows = written(*range(101, 271))
    rows.update({(n - 1) % 200: (n, 0) for n in (110, 250)})
    sight = sight_of(rows, after=100)
    assert sight.open().tolist() == [110, 250]
    # an open number is not torn, wherever it is
    assert told(sight) == (0, 0, 0, 2, 2)
    assert told(sight, live=False) == (2, 2, 0, 0, 0)
    assert sight.pending().tolist() == [49]
    # where all slots are looked at, nobody looks again
    assert sight_of(rows).open().tolist() == [250]


@pytest.mark.parametrize("after", [0, 100])
def test_where_the_next_lap_has_begun_a_number_is_gone(after):
    rows = written(*range(101, 301))
    rows[95] = (296, 0)  # of this lap
    rows[98] = (499, 0)  # the next one
    sight = sight_of(rows, after=after)
    assert sight.missing().tolist() == sight.open().tolist() == [296]
    assert sight.unsettled().tolist() == sight.pending().tolist() == [95, 98]
    assert told(sight) == (0, 0, 0, 2, 2)
    # of 499 nothing is lost yet: only 296 is torn and before the newest
    assert told(sight, live=False) == (2, 1, 0, 0, 0)


def test_rows_that_are_begun_above_the_newest_are_being_written():
    # a block of rows is begun as one, and worth a wait; what stays begun is torn, but for the last
    rows = {slot: (0, 0) for slot in range(200)} | written(*range(1, 31))
    rows |= {n - 1: (n, 0) for n in range(31, 131)}
    sight = sight_of(rows)
    assert sight.pending().tolist() == list(range(30, 130))
    assert told(sight) == (36, 0, 70, 64, 64)
    assert told(sight, live=False) == (100, 0, 70, 0, 0)
    # a quick writer is laps ahead
    sight = sight_of(written(*range(1, 200)) | {199: (1_000, 0)})
    assert told(sight) == (0, 0, 0, 1, 1)
    # rows that are left for the next look are never torn
    sight.frozen = True
    sight.forget(np.array([50, 60], np.uint64))
    tell(sight, {50: (251, 251), 60: (261, 0)})
    assert told(sight) == (1, 0, 0, 2, 2)


def test_what_moved_may_be_a_row_on_either_side_of_the_newest():
    rows = written(*range(101, 301))
    assert told(sight_of(rows | {90: MOVED})) == (0, 0, 0, 1, 1)  # 291
    # it may be 301 + 20 that is being written, far below the newest it is torn
    for slot, torn in [(120, 0), (163, 0), (164, 1), (35, 1), (36, 0)]:
        sight = sight_of(rows | {slot: MOVED})
        assert told(sight) == (torn, torn, 0, 1 - torn, 1 - torn), slot
        assert len(sight.pending()) == 1 - torn
        assert sight.unsettled().tolist() == [slot]
        assert told(sight, live=False) == (1, 1, 0, 0, 0)
    # so are zeros, where the ring has come round twice
    late = written(*range(301, 501))
    for zeros in ((0, 0), MOVED):
        assert told(sight_of(late | {120: zeros})) == (0, 0, 0, 1, 1)
        assert told(sight_of(late | {35: zeros})) == (1, 1, 0, 0, 0)


def test_zeros_are_torn_where_the_ring_has_come_round():
    rows = {slot: (0, 0) for slot in range(200)}
    first = sight_of(rows | written(1, 2, 4))
    assert told(first, live=False) == (0, 0, 197, 0, 0)
    assert told(first) == (0, 0, 196, 1, 1)  # 3 is claimed
    # 210 numbers: in slots 0 to 9 the second lap has been
    second = written(*range(11, 211))
    for slot, torn in [(4, 1), (8, 1), (10, 0), (150, 0)]:
        sight = sight_of(second | {slot: (0, 0)})
        assert told(sight, live=False) == (torn, torn, 1 - torn, 0, 0), slot


def test_torn_rows_of_an_earlier_lap_are_torn_however_near():
    # 2 and 5 were rejected a lap ago, where the next rows will come
    rows = written(*range(1, 201)) | {1: (2, 0), 4: (5, 0)}
    sight = sight_of(rows)
    assert told(sight) == told(sight, live=False) == (2, 2, 0, 0, 0)
    assert sight.pending().tolist() == []
    assert sight.unsettled().tolist() == [1, 4]


def test_what_was_torn_before_is_not_read_again():
    rows = written(*range(201, 251)) | {100: (101, 0), 110: MOVED, 20: (221, 0)}
    sight = sight_of(rows, after=200)
    assert sight.unsettled().tolist() == [20, 110]
    # 101 was accounted for by an earlier look
    assert told(sight, live=False) == (3, 1, 0, 0, 0)


def test_awaited_numbers_are_looked_for_until_they_are_overwritten():
    rows = written(*range(291, 301)) | {19: (220, 220), 20: (21, 21), 89: (90, 90)}
    sight = sight_of(rows, after=290, awaited=[95, 220, 221, 290])
    # 95 is a lap behind; of 220 the row has come; 290 is near; 221 had its time
    assert found(sight) == [220, *range(291, 301)]
    assert sight.missing().tolist() == [221, 290]
    assert sight.open().tolist() == [290]
    assert sight.unsettled().tolist() == [20, 89]
    assert sight.pending().tolist() == []
    torn = sight_of(rows | {20: (221, 0)}, after=290, awaited=[95, 220, 221, 290])
    assert told(torn) == (1, 1, 0, 0, 1)
    # in a ring that is short, a lap is not far
    short = sight_of(written(*range(13, 21), capacity=8), 8, after=12, awaited=[5, 12])
    assert (short.missing().tolist(), short.open().tolist()) == ([], [])


def test_rows_above_the_newest_are_left_once_it_is_frozen():
    rows = written(*range(1, 201)) | {99: MOVED, 149: MOVED, 189: (190, 0)}
    sight = sight_of(rows)
    assert sight.unsettled().tolist() == [99, 149, 189]
    sight.forget(sight.unsettled())
    sight.frozen = True
    # 300 and 350 are of the next lap, 190 is finished
    assert tell(sight, {99: (300, 300), 149: (350, 0), 189: (190, 190)}) == 1
    assert sight.newest == 200
    assert found(sight) == [n for n in range(1, 201) if n not in (100, 150)]
    # 100 and 150 are gone, not missing
    assert sight.missing().tolist() == []
    assert sight.unsettled().tolist() == sight.pending().tolist() == [149]
    assert told(sight) == (0, 0, 0, 2, 2)
    # without it the newest one goes on
    moving = sight_of(rows)
    moving.forget(moving.unsettled())
    tell(moving, {99: (300, 300), 149: (350, 0), 189: (190, 190)})
    assert (moving.newest, len(moving.missing())) == (300, 99)


def test_a_slot_counts_as_it_was_read_last():
    rows = written(*range(101, 301))
    rows[90] = (91, 91)
    for again, kept, account in [
        ((291, 291), 291, (0, 0, 0, 0, 0)),
        ((291, 0), None, (0, 0, 0, 1, 1)),
        ((91, 91), 91, (0, 0, 0, 0, 1)),
        ((491, 491), None, (0, 0, 0, 1, 1)),
    ]:
        for after in (0, 90):
            sight = sight_of(rows, after=after)
            assert sight.unsettled().tolist() == [90]
            sight.forget(sight.unsettled())
            sight.frozen = True
            tell(sight, {90: again})
            others = [n for n in range(101, 301) if n != 291]
            # who looks for what is new alone keeps both; neither comes twice
            mine = {kept} - {None} if after == 0 else {91, kept} - {None}
            assert found(sight) == sorted({*others, *mine})
            assert told(sight) == account


def test_nothing_was_written():
    sight = sight_of({slot: (0, 0) for slot in range(200)})
    assert (found(sight), sight.newest) == ([], 0)
    assert told(sight) == told(sight, live=False) == (0, 0, 200, 0, 0)
    assert len(sight.unsettled()) == len(sight.missing()) == 0


# -- slot by slot ---------------------------------------------------------------------------------


class Plain:
    """A Sight once more: a dict of slots, and a loop for each question."""

    def __init__(self, capacity, after, awaited):
        self.capacity, self.after, self.awaited = capacity, after, set(awaited)
        self.newest, self.frozen, self.reads = after, False, 0
        self.last, self.seen = {}, set()

    def read(self, slots):
        newest = self.newest
        for slot, (begin, seq) in slots.items():
            self.reads += 1
            if begin == seq == 0:
                self.last[slot] = ("empty", 0)
            elif begin == seq and self.slot(seq) == slot:
                if self.frozen and seq > newest:
                    self.last[slot] = ("ahead", seq)
                elif seq > self.after or seq in self.awaited:
                    self.last[slot] = ("row", seq)
                    self.seen.add(seq)
                    self.newest = max(self.newest, seq)
                else:
                    self.last[slot] = ("old", seq)
            else:
                self.last[slot] = ("torn", begin if begin and self.slot(begin) == slot else 0)

    def slot(self, n):
        return (n - 1) % self.capacity

    def part(self, slot):
        """Return the number whose row the slot holds part of; None: nobody knows of one."""
        begin = self.last[slot][1]
        if begin:
            return begin
        for n in range(self.newest, max(0, self.newest - self.capacity), -1):
            if self.slot(n) == slot:
                return n
        return None

    def gaps(self):
        return [slot for slot, (kind, _) in self.last.items() if kind not in ("row", "old")]

    def missing(self):
        low = self.newest - min(self.capacity, self.reads)
        over = {slot for slot in self.gaps() if (self.part(slot) or 0) > self.newest}
        wanted = {n for n in range(max(0, low) + 1, self.newest + 1) if n > self.after}
        wanted |= {n for n in self.awaited if n > self.newest - self.capacity}
        return {n for n in wanted - self.seen if self.slot(n) not in over}

    def unsettled(self):
        torn = [slot for slot in self.gaps() if self.last[slot][0] == "torn"]
        young = [slot for slot in torn if not 0 < self.last[slot][1] <= self.after]
        return {self.slot(n) for n in self.missing()} | set(young)

    def ahead(self, slot):
        kind, begin = self.last[slot]
        if (self.part(slot) or 0) > self.newest:
            return True
        if begin or (kind == "empty" and (self.part(slot) or 0) <= self.capacity):
            return False
        soon = range(self.newest + 1, self.newest + min(NEWEST, self.capacity) + 1)
        return slot in {self.slot(n) for n in soon}

    def old(self, slot):
        kind, begin = self.last[slot]
        last = max(self.part(slot) or 0 for slot in self.gaps())
        return kind == "torn" and begin and begin <= last - NEWEST

    def pending(self):
        near = {n for n in self.missing() if n > max(self.after, self.newest - NEWEST)}
        begun = {s for s in self.gaps() if self.last[s][0] != "ahead" and self.ahead(s)}
        return {self.slot(n) for n in near} | begun

    def rows(self):
        if self.after:
            return self.seen
        return {n for kind, n in self.last.values() if kind == "row"}

    def open(self):
        return {
            n for n in self.missing() if n > self.newest - NEWEST or (self.after and n > self.after)
        }

    def account(self, live):
        still = self.open() if live else set()
        torn = before = never = being = 0
        flying = len(still)
        for slot in self.gaps():
            part = self.part(slot)
            if part in still:
                being += 1
            elif live and self.ahead(slot) and not self.old(slot):
                being += 1
                flying += 1
            elif self.last[slot][0] == "empty" and (part or 0) <= self.capacity:
                never += 1
            else:
                torn += 1
                before += part is not None and (
                    self.after < part <= self.newest or part in self.awaited
                )
        return torn, before, never, being, flying


@st.composite
def readings(draw):
    """Draw a ring's capacity, what is looked for, and what is read: some of it more than once."""
    capacity = draw(st.sampled_from([1, 2, 5, 8, 70, 130, 200]))
    laps = draw(st.integers(0, 3))
    newest = draw(st.integers(1, capacity)) + laps * capacity
    after = draw(st.just(0) | st.integers(max(0, newest - 2 * capacity), newest))
    back = st.integers(max(1, after - capacity), max(1, after))
    awaited = draw(st.sets(back, max_size=6)) if after else set()
    chance = random.Random(draw(st.integers(0, 2**32)))
    odd = draw(st.sampled_from([0.02, 0.2, 0.8]))

    def content(slot, high):
        latest = high - (high - 1 - slot) % capacity
        if chance.random() > odd:
            return (latest, latest) if latest > 0 else (0, 0)
        at = max(0, latest + chance.choice([-2, -1, -1, 0, 0, 1, 1, 2]) * capacity)
        if latest <= 0:
            at = max(0, at)
        kinds = [(at, 0), (at, at), (0, at), MOVED, (0, 0), (at + 1, at + 1), (at, at + capacity)]
        return chance.choice(kinds)

    rounds = [{slot: content(slot, newest) for slot in range(capacity)}]
    for _ in range(draw(st.integers(0, 3))):
        some = chance.sample(range(capacity), chance.randint(0, min(capacity, 30)))
        high = newest + chance.choice([0, 1, capacity // 2, capacity + 1])
        rounds.append({slot: content(slot, high) for slot in some})
    return capacity, after, awaited, rounds, draw(st.integers(1, 4))


@settings(max_examples=400)
@given(readings())
def test_a_sight_is_that_of_a_dict(reading):
    capacity, after, awaited, rounds, frozen_from = reading
    sight, plain = Sight(ROW, capacity, after, numbers_array(awaited)), Plain(*reading[:3])
    for i, slots in enumerate(rounds):
        sight.frozen = plain.frozen = i >= frozen_from
        sight.forget(np.array([*slots], np.uint64))
        tell(sight, slots)
        plain.read(slots)
        assert sight.newest == plain.newest
        for name in ("missing", "unsettled", "pending", "open"):
            assert getattr(sight, name)().tolist() == sorted(getattr(plain, name)()), name
        assert found(sight) == sorted(plain.rows())
        for live in (False, True):
            assert told(sight, live) == plain.account(live)


# -- against what was written ---------------------------------------------------------------------

BARE = Pipeline("bare", ("start", "end"))


class World:
    """Threads that claim numbers, begin rows and end them; a step is what one of them does."""

    def __init__(self, seed, capacity, threads, stalls, rejects, bursts):
        self.chance = random.Random(seed)
        self.capacity, self.rejects, self.stalls, self.bursts = capacity, rejects, stalls, bursts
        self.slots = [(0, 0)] * capacity
        self.claimed, self.now, self.lives = 0, 0, True
        self.ended, self.rejected = {}, set()  # when, by number
        self.threads = [None] * threads  # (number, how far)
        self.stuck = {}

    def claim(self):
        self.claimed += 1
        return self.claimed

    def put(self, n, begin, seq):
        self.slots[(n - 1) % self.capacity] = (begin, seq)

    def step(self):
        if not self.lives:
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
        self.pipeline, self.capacity = BARE, world.capacity
        self.sources, self.outcomes = FoundNames(None), FoundNames(FINISHED)
        self._foreign = []
        self.world, self.pace = world, pace
        self.dies_in = None
        self._file = -1

    def _recording(self):
        if self.dies_in is not None:
            self.dies_in -= 1
            self.world.lives = self.dies_in > 0
        return self.world.lives

    def _read_log(self):
        pass

    def _stable(self, first, count):
        rows = np.zeros(count, BARE.row_dtype)
        rows["weight"], rows["start"], rows["end"] = 1, 1, 2
        for i in range(count):
            reads = []
            for _ in range(3):
                reads.append(self.world.slots[first + i])
                if self.world.chance.random() < self.pace:
                    self.world.step()
            (_, before), (begin, seq), (later, _) = reads
            rows[i]["begin"], rows[i]["seq"] = (
                (begin, seq) if (before, later) == (seq, begin) else MOVED
            )
        rows["frame_id"] = rows["seq"]
        return rows, np.arange(first, first + count, dtype=np.uint64)


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
    monkeypatch.setattr(ring_reader, "PAUSES", (0, 0, *[1e-9] * 6))


def look(reader, after=0, awaited=NONE):
    """Look, and check what is told against what was there before and after."""
    world = reader.world
    before, started = [*world.slots], world.now
    seen = reader.look(after, awaited)
    rows, still = seen.rows["seq"].tolist(), seen.open.tolist()
    wanted = {*range(after + 1, seen.newest + 1), *awaited.tolist()}
    assert len(set(rows)) == len(rows)
    assert {*rows} <= wanted & world.ended.keys()
    assert {*still} <= wanted - {*rows}
    assert seen.lost == len(wanted) - len(rows) - len(still)
    assert (seen.refused, seen.cut_off) == (0, 0)
    assert 0 <= seen.torn_before <= min(seen.torn, seen.lost)
    # what lay there all the time is found
    lay = {seq for (_, seq), now in zip(before, world.slots, strict=True) if now == (seq, seq)}
    lay = {n for n in lay if n and world.ended[n] <= started}
    assert lay & wanted <= {*rows}
    if after == 0:
        slots = len(rows) + seen.torn + seen.never_written + seen.being_written
        assert slots == world.capacity
    # what is overwritten is not awaited
    assert not [n for n in still if any(m > n and (m - n) % world.capacity == 0 for m in lay)]
    if not world.lives:
        assert (still, seen.being_written, seen.in_flight) == ([], 0, 0)
    return seen


WAITS = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


@WAITS
@given(worlds(), st.lists(st.integers(0, 120), max_size=8), st.sampled_from([None, 1, 2, 3, 9]))
def test_each_number_is_told_of_once(drawn, pauses, dies_in):
    world, reader = drawn
    newest, still, rows, lost = 0, NONE, [], 0
    for i, pause in enumerate([*pauses, 0]):
        world.steps(pause * 3)
        if i == len(pauses):  # in the last look, or before it
            reader.dies_in = dies_in
            world.lives = dies_in is not None
        seen = look(reader, newest, still)
        rows += seen.rows["seq"].tolist()
        lost += seen.lost
        newest, still = seen.newest, seen.open
    assert len(set(rows)) == len(rows)
    assert len(rows) + lost + len(still) == newest
    reader.dies_in, world.lives = None, False
    seen = look(reader, newest, still)
    rows += seen.rows["seq"].tolist()
    assert len(set(rows)) == len(rows)
    assert len(rows) + lost + seen.lost == seen.newest


@WAITS
@given(worlds(), st.integers(0, 900))
def test_who_writes_in_order_loses_what_is_overwritten_alone(drawn, steps):
    world, reader = drawn
    world.go_on = lambda thread: world.write(world.claim())
    world.steps(steps)
    seen = look(reader)
    there = {seq for begin, seq in world.slots if begin == seq != 0 and seq <= seen.newest}
    assert there <= {*seen.rows["seq"].tolist()}


@WAITS
@given(worlds(capacities=(130, 200)), st.integers(0, 900))
def test_what_threads_have_in_hand_is_in_flight(drawn, steps):
    world, reader = drawn
    world.steps(steps)
    reader.pace, world.step = 0, lambda: None
    seen = look(reader)
    newest, slots = seen.newest, world.slots
    assert newest == max((seq for begin, seq in slots if begin == seq), default=0)
    # claimed, and not there: who was rejected does not say so in the ring
    still = set(range(max(1, newest - NEWEST + 1), newest + 1))
    still -= {n for n in still if slots[(n - 1) % world.capacity] == (n, n)}
    beyond = {begin for begin, seq in slots if begin != seq and newest < begin}
    # of zeros it is known after the second lap
    zeros = set(range(max(newest, 2 * world.capacity) + 1, newest + NEWEST + 1))
    zeros = {n for n in zeros if slots[(n - 1) % world.capacity] == (0, 0)}
    assert seen.open.tolist() == sorted(still)
    assert seen.in_flight == len(still | beyond | zeros)
    older = {n for n in still if slots[(n - 1) % world.capacity][0] not in (0, n)}
    assert seen.being_written == seen.in_flight - len(older)


@WAITS
@given(worlds(), st.integers(0, 900))
def test_a_dead_ring_is_told_of_slot_by_slot(drawn, steps):
    world, reader = drawn
    world.steps(steps)
    world.lives = False
    seen = look(reader)
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
    assert (seen.torn, seen.torn_before, seen.never_written) == (torn, len(before), never)
    assert seen.lost == len(set(range(1, newest + 1)) - rows)


def at_rest(capacity, *numbers):
    """Return a reader of a ring with these rows, and what slots it reads."""
    world = World(0, capacity, 1, 0, 0, 0)
    for n in numbers:
        world.write(n)
    world.claimed = max(numbers)
    reader, slots = Watched(world, 0), []
    stable = reader._stable

    def noted(first, count):
        slots.extend(range(first, first + count))
        return stable(first, count)

    reader._stable = noted
    return world, reader, slots


def test_a_look_for_what_is_new_reads_as_much_as_there_is():
    _, reader, slots = at_rest(200, *range(1, 41))
    assert look(reader, 30).rows["seq"].tolist() == list(range(31, 41))
    assert slots == list(range(30, 62))  # until 16 have nothing new
    # of what is awaited only what is not overwritten
    world, reader, slots = at_rest(100, *range(41, 141))
    world.put(95, 95, 0)
    look(reader, 139, numbers_array([35, 95]))
    # 95 is looked for with the others, and read again twice, without a wait
    assert (slots.count(34), slots.count(94)) == (0, 3)


def test_who_begins_or_ends_recording_during_a_look():
    world, reader, _ = at_rest(200, 1, 2, 3)
    world.put(4, 4, 0)
    answers = [False, True, True]  # before the slots are read, after, and in the end
    reader._recording = lambda: answers.pop(0)
    assert reader.look().being_written == 1

    def ends():
        world.write(4)
        return False

    begins = [lambda: True, ends]
    reader._recording = lambda: begins.pop(0)()
    reader._settle = lambda sight: None
    seen = reader.look()
    assert (seen.rows["seq"].tolist(), seen.torn) == ([1, 2, 3, 4], 0)
