"""Reading ring files: while a process writes, cut short, damaged, forged, and other files."""

import fcntl
import json
import random
import struct
import subprocess
import sys
import threading
import time
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rings import begin, claim
from rings import write as write_row
from strategies import examples

import latprof
from latprof import Pipeline, TraceError
from latprof.frames import NO_SIZE
from latprof.ring import reader as ring_reader
from latprof.ring.file import is_locked
from latprof.ring.layout import (
    LONGEST_PAYLOAD,
    SOURCE,
    STARTED,
    encode_entry,
    find_entries,
    row_dtype,
)
from latprof.ring.reader import POLL_CHUNK, RingReader
from latprof.ring.ring import Ring

MIC = Pipeline.chain("mic", "decode")
ROW = row_dtype(MIC)
PREFIX = struct.Struct("<8sIIIIQQQQQQ")
METADATA = {"owns": ["start", "end"], "clock_offset_ns": 0, "pid": 1}
SOURCES = [None, "input", "output"]
OUTCOMES = ["finished", "late"]


def write(ring, n):
    """Write frame n: what it holds follows from n alone."""
    write_row(
        ring,
        claim(ring),
        n,
        (100 * n, 0, 100 * n + 70),
        size=n % 7,
        source=ring.sources.code(SOURCES[n % 3]),
        outcome=ring.outcomes.code(OUTCOMES[n % 2]),
        rss=n,
        cpu=n,
    )


def frames(trace):
    """Return what was recovered, a tuple a frame."""
    marks = [trace.marks[mark].tolist() for mark in MIC.marks]
    outcomes = trace.outcome.to_numpy().tolist()
    sources = trace.source.to_numpy().tolist()
    ids, sizes = trace.frame_id.tolist(), trace.size.tolist()
    cpu, rss = trace.cpu.tolist(), trace.rss.tolist()
    return list(zip(ids, *marks, sizes, sources, outcomes, rss, cpu, strict=True))


def expected(n):
    missing = -(2**63)
    stamps = (100 * n, missing, 100 * n + 70)
    return (n, *stamps, n % 7, SOURCES[n % 3], OUTCOMES[n % 2], n, float(n))


@pytest.fixture(scope="module")
def ring_bytes(tmp_path_factory):
    """Return the bytes of a ring of 16 that 21 frames were written to."""
    path = tmp_path_factory.mktemp("rings") / "mic.ring"
    ring = Ring(MIC, 16, path=path, metadata=METADATA, slots=4)
    ring.note(True, 5, 5)
    for n in range(1, 22):
        write(ring, n)
    return path.read_bytes()


def places(raw):
    """Return where the header ends, and where log and rows begin and end."""
    _, _, _, length, _, capacity, log_at, log_size, _, _, rows_at = PREFIX.unpack_from(raw)
    return PREFIX.size + length, log_at, log_at + log_size, rows_at, rows_at + capacity * 72


def recovered(tmp_path, raw):
    path = tmp_path / "damaged.ring"
    path.write_bytes(raw)
    return latprof.recover(path)


def test_an_intact_ring_gives_its_newest_frames(tmp_path, ring_bytes):
    assert places(ring_bytes)[-1] == len(ring_bytes)
    trace = recovered(tmp_path, ring_bytes)
    assert frames(trace) == [expected(n) for n in range(6, 22)]


# -- a ring that is being written to --------------------------------------------------------------


def test_the_next_scan_gives_the_new_rows(tmp_path):
    ring = Ring(MIC, 10, path=tmp_path / "mic.ring", metadata=METADATA)
    with RingReader(tmp_path / "mic.ring") as reader:
        assert (reader.pipeline, reader.capacity, reader.metadata) == (MIC, 10, METADATA)
        newest = 0
        seen = reader.scan()
        assert (len(seen.rows), seen.newest, seen.lost, seen.never_written) == (0, 0, 0, 10)
        written = 0
        for count in (1, 0, 3, 10, 9, 0, 11, 25, 1):
            for n in range(written + 1, written + count + 1):
                write(ring, n)
            written += count
            seen = reader.scan(after=newest)
            kept = min(count, 10)
            assert seen.rows["frame_id"].tolist() == list(range(written - kept + 1, written + 1))
            assert (seen.newest, seen.lost) == (written, count - kept)
            newest = seen.newest
        assert reader.sources.table == [None, "input", "output"]
        assert reader.outcomes.table == ["finished", "late"]


@settings(max_examples=examples(50))
@given(
    capacity=st.integers(1, 9),
    steps=st.lists(st.tuples(st.integers(0, 12), st.booleans()), max_size=6),
)
def test_scans_equal_a_plain_loop(tmp_path_factory, capacity, steps):
    path = tmp_path_factory.mktemp("rings") / "mic.ring"
    ring = Ring(MIC, capacity, path=path, metadata=METADATA)
    slots, number, newest = {}, 0, 0
    with RingReader(path) as reader:
        for count, tear in steps:
            for _ in range(count):
                number += 1
                write(ring, number)
                slots[number % capacity] = number
            if tear:  # a row that is begun and not written
                number = begin(ring)
                slots.pop(number % capacity, None)
            new = sorted(n for n in slots.values() if n > newest)
            seen = reader.scan(after=newest)
            assert seen.rows["frame_id"].tolist() == seen.rows["seq"].tolist() == new
            assert seen.lost == (new[-1] - newest - len(new) if new else 0)
            newest = new[-1] if new else newest
        whole = reader.scan()
        assert whole.rows["seq"].tolist() == sorted(slots.values())
        assert len(whole.rows) + whole.torn + whole.never_written == capacity


def test_a_row_that_changes_while_it_is_read_is_torn(tmp_path):
    ring = Ring(MIC, 4, path=tmp_path / "mic.ring", metadata=METADATA)
    for n in range(1, 5):
        write(ring, n)
    reader = RingReader(tmp_path / "mic.ring")
    read, reads = reader._bytes, []

    def meanwhile(at, count):
        raw = read(at, count)
        reads.extend([at] * (at >= reader._header.rows_at))
        if len(reads) == 2:  # the rows are copied: now one of them is overwritten
            write(ring, 5)
        return raw

    reader._bytes = meanwhile
    seen = reader.scan()
    assert seen.rows["frame_id"].tolist() == [2, 3, 4]
    assert seen.torn == 1
    assert reader.scan().rows["frame_id"].tolist() == [2, 3, 4, 5]
    reader.close()


def test_a_scan_reads_more_rows_than_one_chunk(tmp_path):
    # more rows than are read at a time, and a reader that is almost a lap behind
    ring = Ring(MIC, 10_000, path=tmp_path / "mic.ring", metadata=METADATA)
    rows = np.ones(9_990, ROW)
    rows[["decode", "source", "outcome"]] = 0
    with RingReader(tmp_path / "mic.ring") as reader:
        ring.write_rows(rows[:9_000])
        newest = reader.scan().newest
        ring.write_rows(rows)
        seen = reader.scan(after=newest)
        assert seen.rows["seq"].tolist() == list(range(9_001, 9_001 + 9_990))
        assert seen.lost == 0


# -- files that are cut or damaged ----------------------------------------------------------------


def test_a_file_that_is_cut_short_gives_the_rows_it_holds(tmp_path, ring_bytes):
    _, log_at, log_end, rows_at, end = places(ring_bytes)
    cuts = {0, 1, 7, 8, 55, 56, 100, log_at, log_at + 40, log_end, rows_at, rows_at + 71, end - 1}
    for cut in sorted(cuts | {rows_at + 72 * k for k in range(17)}):
        path = tmp_path / "cut.ring"
        path.write_bytes(ring_bytes[:cut])
        try:
            trace = latprof.recover(path)
        except TraceError as error:
            assert cut < log_at
            reason = str(error).removeprefix(str(path))
            assert reason.startswith((" is cut short", " was not finished")), reason
            continue
        assert cut >= log_at
        slots = max(0, cut - rows_at) // 72
        # slot s holds 17 + s for the first five, then 1 + s
        numbers = sorted(17 + s if s < 5 else 1 + s for s in range(slots))
        assert frames(trace) == [expected(n) for n in numbers]
        assert trace.recovery.cut_off == 16 - slots
        assert trace.recovery.whole == slots


def test_damage_in_the_header_is_detected(tmp_path, ring_bytes):
    end = places(ring_bytes)[0]
    chance = random.Random(1)
    for at in [*range(PREFIX.size), *chance.sample(range(PREFIX.size, end), 60)]:
        raw = bytearray(ring_bytes)
        raw[at] ^= 1 << chance.randrange(8)
        with pytest.raises(TraceError, match=r"damaged\.ring .*; \w+"):
            recovered(tmp_path, raw)


def sealed(ring_bytes, **changes):
    """Return the ring with a forged header: its checksum is right."""
    fields = list(PREFIX.unpack_from(ring_bytes))
    names = ["magic", "format", "crc", "length", "width", "capacity", "log_at", "log_size"]
    names += ["slots_at", "slots", "rows"]
    text = changes.pop("text", ring_bytes[PREFIX.size : PREFIX.size + fields[3]])
    for name, value in changes.items():
        fields[names.index(name)] = value
    if "length" not in changes:
        fields[3] = len(text)
    raw = bytearray(PREFIX.pack(*fields) + text)
    raw += ring_bytes[len(raw) :]
    covered = bytes(raw[:12] + raw[16 : PREFIX.size + fields[3]])
    raw[12:16] = struct.pack("<I", zlib.crc32(covered))
    return bytes(raw)


def test_forged_headers_are_refused(tmp_path, ring_bytes):
    good = {"pipeline": MIC.to_dict(), "tags": [], "metadata": {}}
    for changes, reason in [
        ({"format": 3}, "has ring format 3, and this latprof reads format 2; upgrade"),
        ({"format": 1}, "has ring format 1, and this latprof reads format 2; use the latprof that"),
        ({"magic": b"LATPROFR"[::-1]}, "is not a ring file"),
        ({"magic": bytes(8)}, "was not finished"),
        ({"width": 80}, "inconsistent numbers"),
        ({"capacity": 0}, "inconsistent numbers"),
        ({"capacity": 2**64 - 1}, "inconsistent numbers"),
        ({"log_at": 8}, "inconsistent numbers"),
        ({"log_size": 2**64 - 1}, "inconsistent numbers"),
        ({"log_size": 2**26, "slots_at": 2**27, "rows": 2**28}, "inconsistent numbers"),
        ({"rows": 2**63}, "inconsistent numbers"),
        ({"length": 2**32 - 1}, "wrong checksum"),
        ({"text": b"{}"}, "an invalid header"),
        ({"text": b"[" * 50_000}, "an invalid header"),
        ({"text": b"\xff"}, "an invalid header"),
        *(
            ({"text": json.dumps(good | changed).encode()}, reason)
            for changed, reason in [
                ({"pipeline": {"name": "a", "marks": ["start"]}}, "must begin with"),
                ({"metadata": {"pid": -1}}, "metadata 'pid' must be"),
                ({"tags": ["start"]}, "must not be a mark"),
                ({"tags": "ab"}, "must be a list of names"),
                ({"tags": ["a"]}, "inconsistent numbers"),  # the rows are too narrow
            ]
        ),
    ]:
        with pytest.raises(TraceError, match=reason):
            recovered(tmp_path, sealed(ring_bytes, **changes))


def test_a_ring_that_claims_more_rows_than_it_holds_is_read_to_the_end_of_the_file(
    tmp_path, ring_bytes, monkeypatch
):
    reads = []
    read_rows = RingReader._read_rows

    def counting(reader, slot, count):
        reads.append(count)
        return read_rows(reader, slot, count)

    monkeypatch.setattr(RingReader, "_read_rows", counting)
    trace = recovered(tmp_path, sealed(ring_bytes, capacity=2**31))
    # in a ring of that size, the rows of 17 to 21 are not in the slots of their numbers
    assert frames(trace) == [expected(n) for n in range(6, 17)]
    assert (trace.recovery.torn, trace.recovery.cut_off) == (5, 2**31 - 16)
    assert reads == [16]


def with_content(ring_bytes, content):
    """Return the ring with other JSON in its header, and everything else where it belongs."""
    text = json.dumps(content).encode()
    _, log_at, log_end, rows_at, _ = places(ring_bytes)
    head = bytes(PREFIX.size) + text + bytes(-len(text) % 8)
    log = ring_bytes[log_at:log_end]
    slots_at = -(-(len(head) + len(log) + 8) // 8) * 8
    raw = ring_bytes[: PREFIX.size] + head[PREFIX.size :] + log
    raw = raw.ljust(slots_at + 4 * ROW.itemsize, b"\0") + ring_bytes[rows_at:]
    new_rows_at = slots_at + 4 * ROW.itemsize
    return sealed(raw, text=text, log_at=len(head), slots_at=slots_at, rows=new_rows_at)


def test_forged_metadata_is_accepted_or_refused_with_a_trace_error(tmp_path, ring_bytes):
    text = json.loads(ring_bytes[PREFIX.size : places(ring_bytes)[0]])
    odd = [None, True, -1, 10**400, 5e-324, 1e308, "", "x\x1b" * 40_000, [], [[None, 1]], [[1, 2]]]
    odd += [{}, {"warning": None}, {"warning": {"decode": 10**400}}, {"whole": 1}, ["end", "end"]]
    keys = ["owns", "clock_offset_ns", "anchors", "boot_id", "pid", "sampling_rate", "lost"]
    keys += ["accounts", "stamp_ns", "segments", "join", "thresholds", "recovery", "other"]
    forged = [{**text, part: value} for part in text for value in odd]
    forged += [
        {**text, part: {**text[part], key: value}}
        for part, names in {"metadata": keys, "pipeline": ["name", "marks", "spans"]}.items()
        for key in names
        for value in odd
    ]
    accepted, messages = 0, []
    for content in forged:
        try:
            trace = recovered(tmp_path, with_content(ring_bytes, content))
        except TraceError as error:
            messages.append(str(error))
            continue
        accepted += 1
        assert len(trace) == 16 or trace.recovery.refused
        assert all(isinstance(moment, int) for pair in trace.meta["anchors"] for moment in pair)
    assert accepted > 20
    assert all(message.isprintable() and len(message) < 1_000 for message in messages)


def test_null_anchors_are_none(tmp_path, ring_bytes):
    text = json.loads(ring_bytes[PREFIX.size : places(ring_bytes)[0]])
    text["metadata"]["anchors"] = None
    trace = recovered(tmp_path, with_content(ring_bytes, text))
    assert trace.meta["anchors"] == [[5, 5]]  # of the start in the log


def test_rings_of_other_formats_are_refused_with_what_reads_them(tmp_path, ring_bytes):
    for magic, version, reason in [
        (b"LATPROFR", 3, "has ring format 3, and this latprof reads format 2; upgrade latprof"),
        (b"LATPRING", 1, "has ring format 1 from before format numbers restarted at 1; recover it"),
        (b"LATPRING", 2, "has ring format 2 from before format numbers restarted at 1; recover it"),
    ]:
        with pytest.raises(TraceError, match=reason):
            recovered(tmp_path, sealed(ring_bytes, magic=magic, format=version))


def test_times_in_the_log_that_no_clock_has_are_ignored(tmp_path, ring_bytes):
    log_at = places(ring_bytes)[1]
    for now, wall in [(2**62, 5), (-(2**63), 5), (5, 2**63 - 1)]:
        entry = encode_entry(0, STARTED, 0, struct.pack("<qq", now, wall))
        raw = ring_bytes[:log_at] + entry + ring_bytes[log_at + len(entry) :]
        trace = recovered(tmp_path, raw)
        assert "segments" not in trace.meta
        assert trace.meta["anchors"] == []


@settings(max_examples=examples(150))
@given(st.data())
def test_damage_anywhere_invents_no_rows(tmp_path_factory, ring_bytes, data):
    """A damaged row is changed or missing, but no other row appears, and nothing crashes."""
    _, log_at, log_end, rows_at, end = places(ring_bytes)
    raw = bytearray(ring_bytes)
    regions = [(log_at, log_at + 200), (log_at, log_end), (rows_at, end), (0, end)]
    touched = set()
    for _ in range(data.draw(st.integers(1, 4))):
        low, high = data.draw(st.sampled_from(regions))
        at = data.draw(st.integers(low, high - 1))
        new = data.draw(st.binary(min_size=1, max_size=200))[: end - at]
        raw[at : at + len(new)] = new
        touched |= {(at + k - rows_at) // 72 for k in range(len(new)) if at + k >= rows_at}
    try:
        trace = recovered(tmp_path_factory.mktemp("rings"), raw)
    except TraceError:
        return
    right = {expected(n): (n - 1) % 16 for n in range(6, 22)}
    found = frames(trace)
    # a frame that differs comes from a damaged slot
    assert len([frame for frame in found if frame not in right]) <= len(touched)
    missing = right.keys() - set(found)
    unscathed = [frame for frame in missing if right[frame] not in touched]
    assert len(unscathed) <= trace.recovery.refused
    found = trace.recovery
    assert found.whole + found.torn + found.never_written + found.refused + found.cut_off == 16


@settings(max_examples=examples(100))
@given(st.binary(max_size=2_000), st.booleans())
def test_random_bytes_are_not_rows(tmp_path_factory, ring_bytes, noise, whole):
    rows_at = places(ring_bytes)[3]
    raw = ring_bytes[:rows_at] + noise if whole else noise
    try:
        trace = recovered(tmp_path_factory.mktemp("rings"), raw)
    except TraceError:
        assert not whole
        return
    assert whole
    assert len(trace) == 0


def test_noise_in_log_and_rows_is_torn(tmp_path, ring_bytes):
    log_at = places(ring_bytes)[1]
    for seed in range(4):
        noise = np.random.default_rng(seed).bytes(len(ring_bytes) - log_at)
        trace = recovered(tmp_path, ring_bytes[:log_at] + noise)
        assert len(trace) == 0
        assert trace.recovery.torn == 16


def test_invalid_rows_are_refused(tmp_path, ring_bytes):
    for field, value in [
        ("decode", 5),  # of another process
        ("start", 2**62),
        ("end", -1),
        ("source", 3),
        ("outcome", 2),
        ("weight", 0),
        ("cpu", np.inf),
        ("cpu", -1),
    ]:
        rows_at = places(ring_bytes)[3]
        rows = np.frombuffer(ring_bytes, ROW, offset=rows_at).copy()
        rows[field][3] = value  # number 20
        trace = recovered(tmp_path, ring_bytes[:rows_at] + rows.tobytes())
        assert frames(trace) == [expected(n) for n in range(6, 22) if n != 20]
        assert str(trace.recovery) == "15 rows whole, 0 torn, 0 never written, 1 refused"


def test_rows_with_a_damaged_name_are_refused(tmp_path, ring_bytes):
    raw = bytearray(ring_bytes)
    at = ring_bytes.index(b"input")
    raw[at] ^= 1
    trace = recovered(tmp_path, raw)
    # this entry is lost, and the entries after it are found
    assert frames(trace) == [expected(n) for n in range(6, 22) if SOURCES[n % 3] != "input"]
    assert trace.recovery.refused == sum(SOURCES[n % 3] == "input" for n in range(6, 22))


def test_a_row_in_another_slot_is_torn(tmp_path, ring_bytes):
    rows_at = places(ring_bytes)[3]
    rows = np.frombuffer(ring_bytes, ROW, offset=rows_at).copy()
    rows[7] = rows[8]
    trace = recovered(tmp_path, ring_bytes[:rows_at] + rows.tobytes())
    assert frames(trace) == [expected(n) for n in range(6, 22) if n != 8]
    assert trace.recovery.torn == 1


def test_files_that_are_not_rings_are_refused(tmp_path):
    for content, reason in [
        (None, "cannot be read: No such file"),
        (b"", "was not finished when it was created"),
        (bytes(5_000), "was not finished when it was created"),
        (b"PAR1" + bytes(100), "is not a ring file"),
        (b"LATP", "is cut short: 4 bytes hold no header"),
    ]:
        path = tmp_path / "bad\x1b.ring"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(TraceError, match=reason) as caught:
            latprof.recover(path)
        assert "\x1b" not in str(caught.value)


def test_recover_refuses_what_is_not_a_path_and_shortens_long_ones():
    for path in (None, 7, 0.5, [], {}, object()):
        with pytest.raises(TraceError, match="ring must be a path, got "):
            latprof.recover(path)
    for path in ("x" * 70_000, "\x1b" * 1_000, "a\0b"):
        with pytest.raises(TraceError, match="cannot be read: ") as info:
            latprof.recover(path)
        assert len(str(info.value)) < 400
        assert str(info.value).isprintable()


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(TraceError, match="cannot be read: Is a directory"):
        latprof.recover(tmp_path)


# -- the log --------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(0, 65_535), st.binary(max_size=40))),
    st.data(),
)
def test_log_entries_are_found_again_beside_damaged_ones(entries, data):
    log, starts = b"", []
    for entry in entries:
        starts.append(len(log))
        log += encode_entry(len(log), *entry)
    assert find_entries(log + bytes(24)) == (entries, len(log))
    # in two parts, as it is polled
    cut = data.draw(st.sampled_from([*starts, len(log)]))
    first, end = find_entries(log[:cut] + bytes(64))
    assert first + find_entries(log[cut:], end)[0] == entries
    if entries:  # with one of them damaged the others are found
        hurt = data.draw(st.integers(0, len(entries) - 1))
        raw = bytearray(log)
        raw[starts[hurt] + data.draw(st.integers(0, 11 + len(entries[hurt][2])))] ^= 0x10
        assert find_entries(bytes(raw))[0] == entries[:hurt] + entries[hurt + 1 :]


def test_a_log_entry_is_valid_only_at_its_offset():
    log = encode_entry(0, SOURCE, 1, b"input")
    assert find_entries(bytes(8) + log)[0] == []
    assert find_entries(encode_entry(0, SOURCE, 1, b"x" * (LONGEST_PAYLOAD + 1)))[0] == []


def test_unknown_size_and_cpu_stay_unknown(tmp_path):
    ring = Ring(MIC, 2, path=tmp_path / "mic.ring", metadata=METADATA)
    write_row(ring, claim(ring), 1, (1, 0, 2))
    trace = latprof.recover(tmp_path / "mic.ring")
    assert trace.size.tolist() == [NO_SIZE]
    assert np.isnan(trace.cpu).tolist() == [True]


WRITER = """
import sys, threading
from latprof import AUDIO, Profiler
sys.setswitchinterval(1e-6)
profiler = Profiler(AUDIO, capacity=64, ring=sys.argv[1])
profiler.start()
def record(thread):
    n = 0
    while True:
        n += 1
        at = n << 3
        stamps = [at + k for k in range(8)]
        profiler.record(n << 2 | thread, stamps, n & 0xFFFF, "abcd"[n & 3])
for i in range(1, 4):
    threading.Thread(target=record, args=(i,), daemon=True).start()
print("ready", flush=True)
record(0)
"""


@pytest.mark.slow
def test_rows_read_beside_writing_threads_are_never_mixed(tmp_path):
    path = tmp_path / "mic.ring"
    writer = subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE)
    try:
        assert writer.stdout.readline() == b"ready\n"
        offset = latprof.recover(path).meta["clock_offset_ns"]
        rows = 0
        with RingReader(path) as reader:
            newest = 0
            begin = time.monotonic()
            # on a busy machine the writer needs longer
            while (seconds := time.monotonic() - begin) < 1.5 or (rows <= 1_000 and seconds < 30):
                seen = reader.scan(after=newest)
                assert seen.newest >= newest
                assert seen.refused == 0
                newest = seen.newest
                ids = seen.rows["frame_id"].astype(np.int64)
                numbers = ids >> 2
                for k, mark in enumerate(reader.pipeline.marks):
                    assert (seen.rows[mark] == (numbers << 3) + k).all()
                assert (seen.rows["size"] == numbers & 0xFFFF).all()
                sources = reader.sources.labels(seen.rows["source"]).to_numpy().tolist()
                assert sources == ["abcd"[n & 3] for n in numbers.tolist()]
                rows += len(ids)
        assert rows > 1_000
        trace = latprof.recover(path)
        assert (
            trace.marks["end"] - offset == (trace.frame_id.astype(np.int64) >> 2 << 3) + 7
        ).all()
    finally:
        writer.kill()
        writer.wait()
        writer.stdout.close()


# -- a process that lives -------------------------------------------------------------------------


def recording(tmp_path, capacity=8):
    """Return a ring of a living process that records."""
    ring = Ring(MIC, capacity, path=tmp_path / "mic.ring", metadata=METADATA)
    ring.note(True, 5, 5)
    return ring


def meanwhile(reader, happens):
    """Call a function after each read of rows, with the number of the read."""
    read, reads = reader._bytes, [0]

    def reading(at, count):
        raw = read(at, count)
        if at >= reader._header.rows_at:
            reads[0] += 1
            happens(reads[0])
        return raw

    reader._bytes = reading


def account(seen, capacity):
    slots = len(seen.rows) + seen.torn + seen.refused + seen.never_written + seen.being_written
    assert slots + seen.cut_off == capacity


@pytest.mark.parametrize("written", [3, 8, 20])
@pytest.mark.parametrize("at", [1, 2, 3])
def test_rows_written_during_a_scan_are_neither_torn_nor_lost(tmp_path, written, at):
    ring = recording(tmp_path)
    for n in range(1, written + 1):
        write(ring, n)
    with RingReader(tmp_path / "mic.ring") as reader:

        def happens(read):
            if read == at:
                for n in range(written + 1, written + 4):
                    write(ring, n)

        meanwhile(reader, happens)
        seen = reader.scan()
        assert (seen.torn, seen.being_written, len(seen.unfinished)) == (0, 0, 0)
        account(seen, 8)
        found = seen.rows["frame_id"].tolist()
        again = reader.scan(after=seen.newest, unfinished=seen.unfinished)
        assert again.lost == 0
        # each row is found once
        newest = found + again.rows["frame_id"].tolist()
        assert newest == list(range(newest[0], written + 4))
        assert newest[0] <= max(1, written + 4 - 8)


def test_a_row_of_a_late_thread_is_unfinished_until_it_is_written(tmp_path):
    ring = recording(tmp_path)
    write(ring, 1)
    with RingReader(tmp_path / "mic.ring") as reader:
        newest = reader.scan().newest
        late = begin(ring)
        claimed = claim(ring)
        for n in (4, 5):
            write(ring, n)
        seen = reader.scan(after=newest)
        assert seen.rows["frame_id"].tolist() == [4, 5]
        assert (seen.newest, seen.lost, seen.unfinished.tolist()) == (5, 0, [2, 3])
        whole = reader.scan()
        assert (whole.torn, whole.being_written, whole.never_written) == (0, 2, 3)
        account(whole, 8)
        trace = latprof.recover(tmp_path / "mic.ring")
        assert str(trace.recovery) == "3 rows whole, 0 torn, 3 never written, 2 being written"
        assert trace.meta["lost"] == 0
        trace.save(tmp_path / "alive.parquet")
        assert latprof.read(tmp_path / "alive.parquet").recovery == trace.recovery
        for number in (late, claimed):
            write_row(ring, number, number, (100, 0, 170))
        write(ring, 6)
        seen = reader.scan(after=seen.newest, unfinished=seen.unfinished)
        assert seen.rows["seq"].tolist() == [2, 3, 6]
        assert (seen.lost, seen.unfinished.tolist()) == (0, [])
        account(reader.scan(), 8)


def test_a_row_that_is_finished_during_the_wait_is_found(tmp_path):
    ring = recording(tmp_path)
    late = begin(ring)
    write(ring, 2)
    with RingReader(tmp_path / "mic.ring") as reader:
        meanwhile(reader, lambda read: read == 7 and write_row(ring, late, 1, (100, 0, 170)))
        seen = reader.scan()
        assert seen.rows["frame_id"].tolist() == [1, 2]
        assert (seen.torn, seen.being_written, seen.lost) == (0, 0, 0)


def test_unfinished_rows_are_lost_once_they_are_old_or_overwritten(tmp_path):
    ring = recording(tmp_path, 1_000)
    write(ring, 1)
    begin(ring)
    write(ring, 3)
    with RingReader(tmp_path / "mic.ring") as reader:
        seen = reader.scan()
        assert (seen.newest, seen.unfinished.tolist(), seen.torn) == (3, [2], 0)
        for n in range(4, 100):
            write(ring, n)
        seen = reader.scan(after=3, unfinished=seen.unfinished)
        assert (len(seen.rows), seen.newest, seen.lost, seen.unfinished.tolist()) == (96, 99, 1, [])
        whole = reader.scan()
        assert (whole.torn, whole.torn_lost, whole.being_written, whole.lost) == (1, 1, 0, 1)
        # a row that is overwritten before it is read is lost at once
        for n in range(100, 1_104):
            write(ring, n)
        seen = reader.scan(after=99)
        assert (len(seen.rows), seen.lost, seen.unfinished.tolist()) == (1_000, 4, [])


def test_an_unfinished_row_that_is_finished_during_the_next_scan_is_found(tmp_path):
    ring = recording(tmp_path, 2 * POLL_CHUNK)
    late = begin(ring)
    for n in range(2, 101):  # more than NEWEST: it is lost if it does not come
        write(ring, n)
    with RingReader(tmp_path / "mic.ring") as reader:
        # each read of slots is three reads of the file
        meanwhile(reader, lambda read: read == 6 and write_row(ring, late, late, (100, 0, 170)))
        seen = reader.scan(after=100, unfinished=np.array([late]))
        assert (seen.rows["seq"].tolist(), seen.lost) == ([late], 0)


@pytest.mark.parametrize("stops", [True, False])
def test_an_unfinished_row_that_is_finished_before_the_process_ends_is_found(tmp_path, stops):
    # the ring is larger than what a scan for new rows reads
    ring = recording(tmp_path, 2 * POLL_CHUNK)
    for n in range(1, 1_001):
        write(ring, n)
    with RingReader(tmp_path / "mic.ring") as reader:
        newest = reader.scan().newest
        late = claim(ring)
        for n in range(1_002, 2_001):
            write(ring, n)
        seen = reader.scan(after=newest)
        assert (len(seen.rows), seen.lost, seen.unfinished.tolist()) == (999, 0, [late])
        write_row(ring, late, late, (100, 0, 170))
        if stops:
            ring.note(False, 9, 9)
        ring.release()  # as the system does with a dead one
        again = reader.scan(after=seen.newest, unfinished=seen.unfinished)
        assert (again.rows["seq"].tolist(), again.lost, again.unfinished.tolist()) == (
            [late],
            0,
            [],
        )
        assert (again.newest, reader.ended()) == (2_000, not stops)


def test_a_claimed_number_is_in_flight_whatever_its_slot_holds(tmp_path):
    ring = recording(tmp_path)
    for n in range(1, 11):
        write(ring, n)
    claim(ring)  # 11: its slot holds 3
    write(ring, 12)
    begin(ring)  # 13, in place of 5
    trace = latprof.recover(tmp_path / "mic.ring")
    assert trace.frame_id.tolist() == [3, 6, 7, 8, 9, 10, 12]
    assert trace.recovery.being_written == 1
    assert trace.meta["accounts"] == {"in_flight": 2}
    assert trace.meta["lost"] == 4  # 1, 2, 4 and 5
    ring.release()
    trace = latprof.recover(tmp_path / "mic.ring")
    assert (trace.meta["accounts"], trace.meta["lost"]) == ({"torn": 1}, 5)


def test_a_fast_writer_does_not_keep_a_scan_from_terminating(tmp_path):
    ring = recording(tmp_path, 400)
    for n in range(1, 401):
        write(ring, n)
    with RingReader(tmp_path / "mic.ring") as reader:
        late = begin(ring)

        def laps(read):
            # the slots are read in 7 pieces; the reader waits for 401; a lap later its slot has 801
            if read == 27:
                for n in range(402, 802):
                    write(ring, n)

        meanwhile(reader, laps)
        seen = reader.scan()
        # 801 is left for the next scan, with all rows before it
        assert (seen.newest, len(seen.rows), seen.being_written) == (400, 399, 1)
        assert (seen.lost, seen.unfinished.tolist()) == (1, [])
        again = reader.scan(after=400)
        assert again.rows["seq"].tolist() == list(range(402, 802))
        assert again.lost == 1
        assert late == 401


def test_torn_rows_all_over_the_ring_are_read_again_twice_at_most(tmp_path, monkeypatch):
    capacity, waited = 65_536, []
    monkeypatch.setattr(ring_reader.time, "sleep", waited.append)
    ring = recording(tmp_path, capacity)
    rows = np.ones(capacity, ROW)
    rows[["decode", "source", "outcome"]] = 0
    ring.write_rows(rows)
    gone = np.random.default_rng(1).random(capacity) < 0.25
    ring.array["seq"][gone] = 0
    with RingReader(tmp_path / "mic.ring") as reader:
        read, amounts = reader._bytes, []

        def counting(at, count):
            raw = read(at, count)
            amounts.append(len(raw) if at >= reader._header.rows_at else 0)
            return raw

        reader._bytes = counting
        seen = reader.scan()
        torn = int(np.count_nonzero(gone))
        near = int(np.count_nonzero(gone[-64:]))
        assert (len(seen.rows), seen.torn) == (capacity - torn, torn - near)
        assert (len(seen.unfinished), seen.in_flight) == (near, near)
        once = 3 * capacity * ring.width
        assert sum(amounts) <= 3.01 * once
        assert sum(waited) <= 0.05
        # if no row is missing, the slots are read once
        ring.array["seq"][gone] = ring.array["begin"][gone]
        amounts.clear()
        reader.scan()
        assert sum(amounts) == once


def test_unfinished_rows_of_a_dead_process_are_torn(tmp_path):
    ring = recording(tmp_path)
    for n in (1, 2):
        write(ring, n)
    begin(ring)  # 3, with a later row
    write(ring, 4)
    begin(ring)  # 5, the newest
    alive = latprof.recover(tmp_path / "mic.ring")
    assert str(alive.recovery) == "3 rows whole, 0 torn, 3 never written, 2 being written"
    with RingReader(tmp_path / "mic.ring") as reader:
        seen = reader.scan()
        assert not reader.ended()
        ring.release()  # as the system does
        assert reader.ended()
        dead = reader.scan(after=seen.newest, unfinished=seen.unfinished)
        assert (len(dead.rows), dead.lost, dead.unfinished.tolist()) == (0, 1, [])
    trace = latprof.recover(tmp_path / "mic.ring")
    assert str(trace.recovery) == "3 rows whole, 2 torn, 3 never written"
    assert (trace.meta["lost"], trace.meta["accounts"]) == (0, {"torn": 2})
    assert "+ lost 0 + torn 2" in str(latprof.Report(latprof.analyze(trace)))


def test_a_process_that_dies_during_a_scan_is_treated_as_dead(tmp_path):
    ring = recording(tmp_path)
    for n in (1, 2):
        write(ring, n)
    with RingReader(tmp_path / "mic.ring") as reader:

        def happens(read):
            if read == 2:
                write(ring, 3)
                begin(ring)
                ring.release()

        meanwhile(reader, happens)
        seen = reader.scan()
        assert seen.rows["frame_id"].tolist() == [1, 2, 3]
        assert (seen.torn, seen.being_written) == (1, 0)


def test_a_stopped_recording_has_not_ended_unexpectedly(tmp_path):
    ring = recording(tmp_path)
    with RingReader(tmp_path / "mic.ring") as reader:
        reader.scan()
        ring.note(False, 9, 9)
        ring.release()
        assert not reader.ended()
        assert reader.stopped


def test_a_reader_that_checks_the_lock_does_not_keep_a_writer_out(tmp_path):
    ring = recording(tmp_path)
    ring.release()
    with open(tmp_path / "mic.ring", "rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        timer = threading.Timer(0.01, fcntl.flock, (file, fcntl.LOCK_UN))
        timer.start()
        ring.acquire()
        timer.join()
        assert is_locked(file.fileno())
