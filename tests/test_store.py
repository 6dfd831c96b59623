import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from traces import MIC, any_columns, check_complete, contents, mic, rich

import latprof
from latprof import AUDIO, Pipeline, Trace
from latprof.errors import TraceError
from latprof.frames import MISSING, Columns, Labels
from latprof.io import atomic as files
from latprof.io import checksum
from latprof.io.reader import Reader
from latprof.io.writer import ROW_GROUP, Writer, write
from latprof.trace import read

quick = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60
)


def refused(path, pipeline=None):
    """Return what reading the file is refused with: one line that begins with its name."""
    with pytest.raises(TraceError) as caught:
        read(path, pipeline)
    text = str(caught.value)
    assert text.startswith(str(path))
    assert text.isprintable()
    assert caught.value.__cause__ is None
    return text.removeprefix(str(path))


def with_metadata(path, text, table=None):
    """Write a small trace whose metadata is `text`."""
    mic(3).save(path)
    table = pq.read_table(path) if table is None else table
    raw = text if isinstance(text, bytes) else json.dumps(text).encode()
    pq.write_table(table.replace_schema_metadata({b"latprof": raw}), path)
    return path


def metadata(**changed):
    return {"format": 1, "pipeline": MIC.to_dict()} | changed


# -- round trips ----------------------------------------------------------------------------------


@quick
@given(any_columns(), st.integers(1, 5))
def test_what_is_written_is_read(tmp_path, columns, row_group):
    path = tmp_path / "mic.parquet"
    with Writer(path, MIC, row_group=row_group) as writer:
        writer.write(columns)
    with Reader(path) as reader:
        found = reader.read()
        assert reader.rows == len(columns)
    check_complete(found)
    wanted = contents(columns)
    if len(columns) > row_group and columns.tags:
        # over several row groups the order of names may differ, the names do not
        assert found.tags.keys() == columns.tags.keys()
    assert contents(found) == wanted


@quick
@given(any_columns(max_size=20), st.lists(st.integers(0, 20)), st.integers(1, 7))
def test_the_cut_of_what_is_written_does_not_matter(tmp_path, columns, cuts, row_group):
    path = tmp_path / "mic.parquet"
    with Writer(path, MIC, row_group=row_group) as writer:
        cuts = sorted(min(cut, len(columns)) for cut in cuts)
        for start, stop in zip([0, *cuts], [*cuts, len(columns)], strict=True):
            writer.write(columns.take(slice(start, stop)))
        assert writer.rows == len(columns)
    with Reader(path) as reader:
        sizes = [len(reader.batch(i)) for i in range(reader.num_batches)]
        assert contents(reader.read()) == contents(columns)
    # whole row groups, and what is left
    full, rest = divmod(len(columns), row_group)
    assert sizes == [row_group] * full + [rest] * bool(rest) or sizes == [0]


def test_a_rich_trace_comes_back(tmp_path):
    trace = rich()
    write(tmp_path / "t.parquet", trace.pipeline, trace.columns, trace.meta)
    with Reader(tmp_path / "t.parquet") as reader:
        assert reader.pipeline == MIC
        assert reader.meta == trace.meta
        assert contents(reader.read()) == contents(trace)
        assert reader.read().complete == {"start", "play"}


def test_stamps_come_back_to_the_nanosecond(tmp_path):
    stamps = np.array([0, -1, 2**62 - 1, 1 - 2**62, MISSING, 1_700_000_000_123_456_789])
    trace = mic(6, marks=dict.fromkeys(MIC.marks, stamps))
    trace.save(tmp_path / "t.parquet")
    assert read(tmp_path / "t.parquet").marks["play"].tolist() == stamps.tolist()


def test_a_trace_of_no_frames_is_one(tmp_path):
    empty = Columns(np.empty(0, np.uint64), {m: np.empty(0, np.int64) for m in AUDIO.marks})
    write(tmp_path / "t.parquet", AUDIO, empty)
    with Reader(tmp_path / "t.parquet") as reader:
        assert reader.rows == 0
        assert list(reader.read().marks) == list(AUDIO.marks)
    with Writer(tmp_path / "u.parquet", MIC):
        pass
    assert len(read(tmp_path / "u.parquet")) == 0


def test_columns_of_the_file_are_those_of_format_1(tmp_path):
    rich().save(tmp_path / "t.parquet")
    schema = pq.read_schema(tmp_path / "t.parquet")
    assert schema.names[:11] == ["frame_id", *MIC.marks, *Columns.OPTIONAL]
    assert schema.field("frame_id").type == pa.uint64()
    assert {schema.field(mark).type for mark in MIC.marks} == {pa.timestamp("ns")}
    assert schema.field("size").type == pa.uint32()
    assert schema.field("source").type == pa.dictionary(pa.int32(), pa.string())
    assert schema.field("cpu").type == pa.float32()
    assert schema.field("rss").type == pa.uint64()
    assert schema.field("weight").type == pa.uint32()
    group = pq.read_metadata(tmp_path / "t.parquet").row_group(0)
    for i in range(5):  # frame_id and the marks
        assert "DELTA_BINARY_PACKED" in group.column(i).encodings
    # null is missing: frames 0, 7, ... 56 of 60
    assert pq.read_table(tmp_path / "t.parquet")["decode"].null_count == 9


def test_a_frame_takes_few_bytes(tmp_path):
    n = 100_000
    rng = np.random.default_rng(1)
    t = 1_700_000_000_000_000_000 + np.arange(n) * 20_000_000
    marks = {"start": t}
    for mark, mean in zip(AUDIO.marks[1:], (1e3, 2e4, 1.5e3, 3e3, 1.2e5, 3e5, 2e6), strict=True):
        t = t + rng.lognormal(np.log(mean), 0.5, n).astype(np.int64)
        marks[mark] = t
    columns = Columns(
        np.arange(n, dtype=np.uint64),
        marks,
        size=rng.integers(80, 1200, n).astype(np.uint32),
        source=Labels(rng.integers(0, 2, n).astype(np.int32), ("input", "output")),
    )
    write(tmp_path / "t.parquet", AUDIO, columns)
    assert os.path.getsize(tmp_path / "t.parquet") / n < 19


def test_batches_give_the_columns_that_are_asked_for(tmp_path):
    trace = rich(10)
    with Writer(tmp_path / "t.parquet", MIC, row_group=4) as writer:
        writer.write(trace.columns)
    with Reader(tmp_path / "t.parquet", threads=False) as reader:
        assert reader.num_batches == 3
        batch = reader.batch(1, ["end", "start", "source", "room"])
        assert batch.frame_id.tolist() == trace.frame_id[4:8].tolist()
        assert list(batch.marks) == ["start", "end"]
        assert batch.source.to_numpy().tolist() == ["a", "b", "a", "b"]
        assert batch.size is None
        assert list(batch.tags) == ["room"]
        assert sum(len(part) for part in reader.batches(["start"])) == 10
        with pytest.raises(TraceError, match=r"t.parquet: there is no column 'romm': use one of "):
            reader.batch(0, ["romm"])
    mic(3).save(tmp_path / "t.parquet")
    with Reader(tmp_path / "t.parquet") as reader:
        assert reader.batch(0, ["start", "source"]).source is None


def test_arrays_are_views_where_nothing_is_missing(tmp_path):
    mic(10).save(tmp_path / "t.parquet")
    with Reader(tmp_path / "t.parquet") as reader:
        batch = reader.batch(0)
    assert not any(column.flags.owndata for column in (batch.frame_id, *batch.marks.values()))
    assert batch.marks["end"].tolist() == mic(10).marks["end"].tolist()  # after closing, too


def test_meta_may_change_until_the_file_is_closed(tmp_path):
    with Writer(tmp_path / "t.parquet", MIC, {"lost": 0, "mine": 1}) as writer:
        writer.write(mic(3).columns)
        writer.meta["lost"] = 7
    assert read(tmp_path / "t.parquet").meta == {"lost": 7, "mine": 1}


def test_a_long_table_of_names_is_not_repeated(tmp_path):
    names = tuple(f"name {i}" for i in range(1000))
    tag = Labels(np.array([7, -1, 900], np.int32), names)
    mic(3, tags={"room": tag}).save(tmp_path / "t.parquet")
    room = read(tmp_path / "t.parquet").tags["room"]
    assert room.to_numpy().tolist() == ["name 7", None, "name 900"]
    assert room.names == ("name 7", "name 900")


def test_a_column_must_be_there_from_the_first_row_group_on(tmp_path):
    path = tmp_path / "t.parquet"
    with Writer(path, MIC, row_group=2) as writer:
        writer.write(mic(2, source="a").columns)
        writer.write(mic(2).columns)  # no source: missing
    assert read(path).source.to_numpy().tolist() == ["a", "a", None, None]
    writer = Writer(path, MIC, row_group=2)
    writer.write(mic(2).columns)
    with pytest.raises(TraceError, match="column 'source' appears after the first row group"):
        writer.write(mic(2, source="a").columns)
    writer.discard()
    writer = Writer(path, MIC, row_group=2)
    writer.write(mic(2, tags={"room": [1, 2]}).columns)
    with pytest.raises(TraceError, match="column 'room' is double after it was int64"):
        writer.write(mic(2, tags={"room": [1.5, 2]}).columns)
    writer.discard()


def test_all_marks_must_be_written(tmp_path):
    columns = mic(2).columns
    del columns.marks["play"]
    with pytest.raises(TraceError, match=r"t.parquet: mark 'play' is absent"):
        write(tmp_path / "t.parquet", MIC, columns)


# -- whole or not at all --------------------------------------------------------------------------


@pytest.fixture(params=["without a name", "beside it"])
def either_way(request, monkeypatch):
    """Write by both ways that there are: nameless files, and where there are none."""
    if request.param == "beside it":
        monkeypatch.delattr(files.os, "O_TMPFILE", raising=False)


@pytest.mark.usefixtures("either_way")
class TestWhole:
    def test_an_old_file_is_replaced_and_keeps_its_mode(self, tmp_path):
        path = tmp_path / "t.parquet"
        mic(3).save(path)
        path.chmod(0o640)
        mic(5).save(path)
        assert len(read(path)) == 5
        assert path.stat().st_mode & 0o777 == 0o640
        assert os.listdir(tmp_path) == ["t.parquet"]

    def test_a_link_is_followed(self, tmp_path):
        mic(3).save(tmp_path / "t.parquet")
        os.symlink("t.parquet", tmp_path / "link")
        mic(5).save(tmp_path / "link")
        assert (tmp_path / "link").is_symlink()
        assert len(read(tmp_path / "t.parquet")) == 5

    @pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, MemoryError])
    def test_an_error_in_the_middle_leaves_the_old_file(self, tmp_path, monkeypatch, error):
        path = tmp_path / "t.parquet"
        mic(3).save(path)
        old = path.read_bytes()

        def fail(_):
            raise error

        def interrupted():
            with Writer(path, MIC, row_group=2) as writer:
                writer.write(mic(5).columns)
                raise error

        with pytest.raises(error):
            interrupted()
        monkeypatch.setattr(checksum, "fill", fail)
        with pytest.raises(error):
            mic(5).save(path)
        assert path.read_bytes() == old
        assert os.listdir(tmp_path) == ["t.parquet"]

    def test_nothing_is_there_before_it_is_whole(self, tmp_path):
        writer = Writer(tmp_path / "t.parquet", MIC, row_group=2)
        writer.write(mic(5).columns)
        assert not (tmp_path / "t.parquet").exists()
        writer.close()
        assert len(read(tmp_path / "t.parquet")) == 5

    def test_a_full_disk_is_one_line(self, tmp_path, monkeypatch):
        path = tmp_path / "t.parquet"
        mic(3).save(path)
        old = path.read_bytes()

        def full(_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(files.os, "fsync", full)
        with pytest.raises(
            TraceError, match=r"t.parquet cannot be written: No space left on .*: make room"
        ):
            mic(5).save(path)
        assert path.read_bytes() == old
        assert os.listdir(tmp_path) == ["t.parquet"]


def test_a_killed_process_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "t.parquet"
    mic(3).save(path)
    old = path.read_bytes()
    program = f"""
        import os, signal
        from latprof.files import whole as files
        from latprof.trace import read
        trace = read({str(path)!r})
        real = os.fsync
        def fsync(descriptor):
            real(descriptor)
            os.kill(os.getpid(), signal.SIGKILL)
        files.os.fsync = fsync
        trace.select([True, False, True]).save({str(path)!r})
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == old
    if hasattr(os, "O_TMPFILE"):
        assert os.listdir(tmp_path) == ["t.parquet"]


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("missing/t.parquet", "No such file or directory"),
        ("", "is a folder"),
        ("file/t.parquet", "Not a directory"),
    ],
)
def test_where_it_cannot_be_written(tmp_path, path, reason):
    (tmp_path / "file").write_text("a file")
    with pytest.raises(TraceError) as caught:
        mic(3).save(tmp_path / path)
    assert str(caught.value) == (
        f"{tmp_path / path} cannot be written: {reason}: check the path and its permissions"
    )


def test_a_file_that_is_not_there_is_said_with_what_to_do(tmp_path):
    with pytest.raises(TraceError) as caught:
        read(tmp_path / "none.parquet")
    assert str(caught.value) == (
        f"{tmp_path / 'none.parquet'} cannot be read: No such file or directory: check the path "
        "and its permissions"
    )


def test_devices_and_pipes_are_written_to_as_they_are():
    mic(3).save("/dev/null")
    assert not os.path.isfile("/dev/null")


# -- what is refused ------------------------------------------------------------------------------


def test_files_that_are_none(tmp_path):
    path = tmp_path / "t.parquet"
    assert "No such file" in refused(path)
    assert refused(tmp_path) == " is a folder: name a file in it"
    path.write_bytes(b"")
    assert refused(path).startswith(" is empty (0 bytes)")
    path.write_bytes(b"frame_id,start,end\n")
    assert refused(path).startswith(" is no Parquet file")
    path.write_bytes(b"PAR1")
    assert refused(path).startswith(" is cut short")
    path.write_bytes(b"PAR1\xff\xff\xff\xffPAR1")
    refused(path)
    path.write_bytes(b"PAREPARE")
    assert refused(path).startswith(" is encrypted")


def test_the_name_of_a_file_is_escaped(tmp_path):
    path = tmp_path / "a\x1b[31m\n.parquet"
    with pytest.raises(TraceError) as caught:
        read(path)
    assert str(caught.value).isprintable()


def test_every_cut_is_seen(tmp_path):
    path = tmp_path / "t.parquet"
    rich(20).save(path)
    whole = path.read_bytes()
    for length in {*range(0, len(whole), 97), *range(len(whole) - 12, len(whole))}:
        path.write_bytes(whole[:length])
        refused(path)


def test_every_flip_in_the_footer_is_seen(tmp_path):
    path = tmp_path / "t.parquet"
    rich(20).save(path)
    whole = path.read_bytes()
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    # with the seal's own name or the length in it damaged, the file is taken for a rewritten one
    seal = whole.index(b'"seal":"')
    unsealed = {*range(checksum, seal + 8), *range(checksum + 16, seal + 33)}
    rng = np.random.default_rng(5)
    for place in {*range(footer, len(whole), 5), *range(len(whole) - 8, len(whole))} - unsealed:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        refused(path)
    for place in unsealed:
        damaged = bytearray(whole)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        try:
            found = read(path)
        except TraceError:
            continue
        assert contents(found) == contents(rich(20))


def test_flips_among_the_rows_are_seen_or_harmless(tmp_path):
    path = tmp_path / "t.parquet"
    rich(20).save(path)
    whole, wanted = path.read_bytes(), contents(read(path))
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    seen = 0
    for place in range(4, footer, 7):
        damaged = bytearray(whole)
        damaged[place] ^= 0x41
        path.write_bytes(damaged)
        try:
            found = read(path)
        except TraceError:
            seen += 1
        else:  # in the statistics of a page's header, which nobody needs
            assert contents(found) == wanted
    assert seen > 100


def test_random_bytes_never_end_in_another_error(tmp_path):
    path = tmp_path / "t.parquet"
    rich(20).save(path)
    whole = path.read_bytes()
    rng = np.random.default_rng(6)
    for _ in range(200):
        damaged = bytearray(whole)
        for place in rng.integers(0, len(whole), rng.integers(1, 5)).tolist():
            damaged[place] = int(rng.integers(256))
        path.write_bytes(damaged)
        with contextlib.suppress(TraceError):
            read(path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"{", "its metadata 'latprof' is no JSON"),
        (b"\xff", "its metadata 'latprof' is no JSON"),
        (b"[" * 100_000, "its metadata 'latprof' is no JSON"),
        (b"1" * 5000, "its metadata 'latprof' is no JSON"),
        (b"[]", "its metadata 'latprof' is no JSON object"),
        (b'{"format": NaN}', "its metadata 'latprof' is no JSON (NaN is no JSON value)"),
        ({}, "its metadata has format null, an integer"),
        (metadata(format="1"), 'its metadata has format "1", an integer'),
        (metadata(format=True), "its metadata has format true, an integer"),
        (metadata(format=0), "its metadata has format 0, an integer"),
        (metadata(format=2), "is of format 2, this latprof reads up to 1: upgrade latprof"),
        (metadata(pipeline=None), "its metadata has a pipeline that cannot be: "),
        (metadata(pipeline={"name": "a", "marks": []}), "its metadata has a pipeline that cannot"),
        (metadata(owns="start"), 'metadata owns is "start", it must be a list'),
        (metadata(owns=[]), "metadata owns is [], it must be a list"),
        (metadata(owns=["start", "start"]), "metadata owns is "),
        (metadata(owns=["x\x1b"]), r'metadata owns "x\u001b", which is no mark of pipeline'),
        (metadata(owns=[1]), "metadata owns 1, which is no mark"),
        (metadata(lost=-1), "metadata lost is -1, it must be an integer of 0 or more"),
        (metadata(lost=1.5), "metadata lost is 1.5"),
        (metadata(lost=True), "metadata lost is true"),
        (metadata(sampling_rate=0), "metadata sampling_rate is 0, it must be a number above 0"),
        (metadata(sampling_rate=1.5), "metadata sampling_rate is 1.5"),
        (metadata(sampling_rate="1"), "metadata sampling_rate is "),
        (metadata(clock_offset_ns=2**63), "metadata clock_offset_ns is "),
        (metadata(anchors=[[1]]), "metadata anchors is [[1]], it must be a list of pairs"),
        (metadata(boot_id=1), "metadata boot_id is 1, it must be text"),
        (metadata(pid=-1), "metadata pid is -1"),
        (metadata(accounts={"started": -1}), "metadata accounts is "),
        (metadata(accounts={"rejected": 1}), "metadata accounts is "),
        (metadata(accounts={"torn": {"x": 1}}), "metadata accounts is "),
        (metadata(join=[]), "metadata join is [], it must be an object"),
        (metadata(join={"parts": "abc"}), "metadata join is "),
        (metadata(join={"parts": [1]}), "metadata join is "),
        (metadata(join={"parts": [{"lost": "many"}]}), "metadata join is "),
        (metadata(run=1), "metadata run is 1"),
    ],
)
def test_metadata_that_lies(tmp_path, text, reason):
    found = refused(with_metadata(tmp_path / "t.parquet", text)).lstrip(": ")
    assert found.startswith(reason)
    assert len(found) < 250


def test_metadata_that_does_not_fit_the_columns(tmp_path):
    path = tmp_path / "t.parquet"
    mic(3).save(path)
    table = pq.read_table(path)
    with_metadata(path, metadata(), table.drop_columns(["play"]))
    assert refused(path).startswith(" lacks the column 'play' that its metadata says it has")
    # a mark that another process owns may be absent
    with_metadata(path, metadata(owns=["start", "end"]), table.drop_columns(["play"]))
    assert read(path).marks["play"].tolist() == [MISSING] * 3
    coarse = table.set_column(1, "start", table["start"].cast(pa.timestamp("us"), safe=False))
    with_metadata(path, metadata(), coarse)
    assert refused(path).startswith(" has column 'start' as timestamp[us], format 1 has timesta")
    with_metadata(path, metadata(), table.drop_columns(["frame_id"]))
    assert refused(path).startswith(" has no column 'frame_id'")


def test_metadata_of_later_times_is_kept(tmp_path):
    path = with_metadata(tmp_path / "t.parquet", metadata(weather={"wind": [1, 2]}, host=None))
    assert read(path).meta == {"weather": {"wind": [1, 2]}, "host": None}


def test_another_pipeline_is_refused(tmp_path):
    path = tmp_path / "t.parquet"
    mic(3).save(path)
    assert len(read(path, MIC)) == 3
    assert refused(path, AUDIO).startswith(" is of pipeline 'mic' with marks start, decode, ")


@pytest.mark.parametrize(
    ("meta", "reason"),
    [
        ({"lost": -1}, "metadata lost is -1"),
        ({"x": object()}, "meta cannot be written as JSON"),
        ({"x": float("nan")}, "meta cannot be written as JSON"),
        ({"format": 1}, "meta key 'format' cannot be used"),
        ({1: 2}, "meta key 1 cannot be used"),
        ({"owns": ["nope"]}, 'metadata owns "nope"'),
    ],
)
def test_meta_that_cannot_be_kept_is_refused_before_anything_is_written(tmp_path, meta, reason):
    with pytest.raises(TraceError) as caught:
        Writer(tmp_path / "t.parquet", MIC, meta)
    assert str(caught.value).startswith(f"{tmp_path / 't.parquet'}: {reason}")
    assert os.listdir(tmp_path) == []


# -- tables of others -----------------------------------------------------------------------------


def table(**columns):
    given = {"frame_id": [1, 2], "start": [10, 20], "end": [15, 27]} | columns
    return pa.table({name: column for name, column in given.items() if column is not None})


LINK = Pipeline("link", ("start", "arrived", "end"))
STAMPS = pa.array([1_700_000_000_123, 1_700_000_000_456])
IN_NS = [1_700_000_000_123_000_000, 1_700_000_000_456_000_000]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Asia/Kolkata"])
def test_marks_of_any_unit_and_zone(tmp_path, unit, zone):
    marks = pa.array([0, 1_700_000_000], pa.timestamp("s")).cast(pa.timestamp(unit, zone))
    pq.write_table(table(start=marks), tmp_path / "t.parquet")
    found = read(tmp_path / "t.parquet", LINK)
    assert found.marks["start"].tolist() == [0, 1_700_000_000_000_000_000]
    assert found.marks["end"].tolist() == [15, 27]
    assert found.marks["arrived"].tolist() == [MISSING, MISSING]


@pytest.mark.parametrize(
    "kind",
    [pa.string(), pa.large_string(), pa.string_view()]
    + [pa.dictionary(index, pa.string()) for index in (pa.int8(), pa.uint16(), pa.int64())]
    + [pa.dictionary(pa.int32(), pa.large_string())],
)
def test_names_of_any_kind(tmp_path, kind):
    names = pa.array(["b", None], pa.string()).cast(kind)
    pq.write_table(table(source=names, room=names), tmp_path / "t.parquet")
    found = read(tmp_path / "t.parquet", LINK)
    assert found.source.to_numpy().tolist() == ["b", None]
    assert found.tags["room"].to_numpy().tolist() == ["b", None]


@pytest.mark.parametrize("kind", [pa.int8(), pa.uint16(), pa.int32(), pa.int64(), pa.uint64()])
def test_integers_of_any_width(tmp_path, kind):
    numbers = pa.array([7, 0], kind)
    pq.write_table(table(frame_id=numbers, size=numbers, rss=numbers), tmp_path / "t.parquet")
    found = read(tmp_path / "t.parquet", LINK)
    assert found.frame_id.tolist() == found.size.tolist() == found.rss.tolist() == [7, 0]


def test_columns_that_cannot_be_kept_are_listed(tmp_path):
    odd = table(
        nested=[[1], [2]],
        binary=[b"a", b"b"],
        seq=[1, 2],
        work_latency=[1, 2],
        room=["a", None],
        none=pa.nulls(2),
    )
    odd = odd.append_column("two words", pa.array([1, 2]))
    pq.write_table(odd, tmp_path / "t.parquet")
    found = read(tmp_path / "t.parquet", LINK)
    assert list(found.tags) == ["room", "none"]
    assert list(found.meta["dropped_columns"]) == ["nested", "binary", "seq", "two words"]
    found.save(tmp_path / "u.parquet")
    assert read(tmp_path / "u.parquet").meta["dropped_columns"] == found.meta["dropped_columns"]


def test_tags_keep_their_values(tmp_path):
    pq.write_table(
        table(
            gaps=pa.array([2**53, None]),
            large=pa.array([2**53 + 1, None]),
            quiet=pa.array([True, None]),
            day=pa.array([0, 1], pa.date32()),
            took=pa.array([1, None], pa.duration("ms")),
            small=pa.array([1.5, None], pa.float32()),
        ),
        tmp_path / "t.parquet",
    )
    found = contents(read(tmp_path / "t.parquet", LINK))
    assert found["gaps"] == [2.0**53, None]
    assert found["large"] == ["9007199254740993", None]
    assert found["quiet"] == ["true", None]
    assert found["day"] == [0, 86_400_000_000_000]
    assert found["took"] == [1_000_000, MISSING]
    assert found["small"] == [1.5, None]


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"frame_id": None}, " has no column 'frame_id' (there are 'start', 'end')"),
        ({"start": None, "end": None}, " has none of the marks start, arrived, end of pipeline"),
        ({"frame_id": [1, None]}, ": frame_id is missing in 1 of 2 rows"),
        ({"frame_id": [1, -1]}, ": frame_id -1 cannot be kept"),
        ({"frame_id": [1.0, 2.0]}, ": frame_id is float64: give integers"),
        ({"frame_id": ["a", "b"]}, ": frame_id is string: give numbers"),
        ({"start": [1.0, 2.0]}, ": mark 'start' is float64: a float cannot hold today's time"),
        ({"start": ["a", "b"]}, ": mark 'start' is string: give ns or times"),
        ({"start": [True, False]}, ": mark 'start' is bool: give int64 ns or datetime64"),
        ({"start": [2**62, 0]}, ": mark 'start' 4611686018427387904 cannot be kept"),
        ({"start": [1 - 2**63, 0]}, ": mark 'start' -9223372036854775807 cannot be kept"),
        ({"start": pa.array([2**62, 0], pa.uint64())}, ": mark 'start' 4611686018427387904 cann"),
        ({"start": pa.array([2**40, 0], pa.timestamp("s"))}, ": mark 'start' is not between the"),
        ({"size": [-1, 0]}, ": size -1 cannot be kept: give integers from 0 to 4294967295"),
        ({"size": [1.5, 0]}, ": size is float64: give integers"),
        ({"size": ["1", "2"]}, ": size is string: give numbers"),
        ({"source": [1.5, 2]}, ": source is double: give text"),
        ({"source": [[1], [2]]}, ": source is list<element: int64>: give text"),
        ({"cpu": ["a", "b"]}, ": cpu is string: give numbers"),
        ({"weight": [0, 1]}, ": weight 0 cannot be kept: give integers from 1"),
        ({"Start": [1, 2]}, ": column 'Start' differs from 'start' by case alone: rename one"),
        ({"a": [1, 2], "A": [1, 2]}, ": column 'A' differs from 'a' by case alone: rename one"),
    ],
)
def test_tables_that_cannot_be_traces(tmp_path, columns, reason):
    pq.write_table(table(**columns), tmp_path / "t.parquet")
    assert refused(tmp_path / "t.parquet", LINK).startswith(reason)


def test_a_column_that_stands_there_twice(tmp_path):
    double = pa.table([pa.array([1]), pa.array([2]), pa.array([3])], ["frame_id", "end", "end"])
    pq.write_table(double, tmp_path / "t.parquet")
    assert refused(tmp_path / "t.parquet", LINK) == ": column 'end' stands there twice: rename one"


def test_stations_may_be_given_afterwards(tmp_path):
    docs = Pipeline.chain("docs", "queued", "parse")
    marks = {"start": [0, 5], "queued": [0, 5], "parse": [1, 9], "end": [9, 17]}
    trace = Trace(docs, frame_id=[1, 2], marks={m: np.array(x) for m, x in marks.items()})
    trace.save(tmp_path / "docs.parquet")
    served = Pipeline.chain("docs", "queued", "parse", stations={"parse": "worker"})
    assert read(tmp_path / "docs.parquet", pipeline=served).pipeline == served
    # frame 2 waits from 5 to 9 for frame 1, which is parsed until then
    trace = read(tmp_path / "docs.parquet", pipeline=served)
    assert latprof.blame(trace).loc["queued", "parse"] == 4 / 5
    assert latprof.analyze(tmp_path / "docs.parquet", pipeline=served).pipeline == served
    other = Pipeline("docs", docs.marks, docs.stages[1:])
    with pytest.raises(TraceError, match=r"not of the pipeline 'docs' .* as their spans differ"):
        read(tmp_path / "docs.parquet", pipeline=other)


def test_a_table_of_others_needs_the_pipeline(tmp_path):
    pq.write_table(table(), tmp_path / "t.parquet")
    assert "give pipeline=, or --pipeline" in refused(tmp_path / "t.parquet")


def test_text_that_is_no_utf8(tmp_path):
    broken = pa.array([b"\xff", b"a"]).view(pa.string())
    pq.write_table(table(source=broken), tmp_path / "t.parquet")
    assert "source has text that is no UTF-8" in refused(tmp_path / "t.parquet", LINK)


def test_names_of_a_hostile_table_are_escaped(tmp_path):
    pq.write_table(
        pa.table({"\x1b[31m\n": [1], "end": [1], "start": ["x"]}), tmp_path / "t.parquet"
    )
    assert r"'\\x1b[31m\\n'" in refused(tmp_path / "t.parquet", LINK)


def test_batches_are_small_however_large_the_row_groups_are(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    n = 3 * ROW_GROUP + 5
    stamps = pa.array(np.arange(n)).cast(pa.timestamp("ns"))
    table = pa.table({"frame_id": np.arange(n), "start": stamps, "end": stamps})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=n)
    with Reader(tmp_path / "t.parquet", Pipeline("two", ("start", "end"))) as reader:
        assert reader.num_batches == 1
        parts = list(reader.batches())
    assert max(map(len, parts)) <= ROW_GROUP
    assert np.concatenate([part.frame_id for part in parts]).tolist() == list(range(n))
