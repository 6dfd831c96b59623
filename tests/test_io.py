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
from strategies import examples
from traces import MIC, any_columns, check_complete, contents, mic, rich

import latprof
from latprof import AUDIO, Pipeline, Trace
from latprof.errors import TraceError
from latprof.frames import MISSING, Columns, Labels
from latprof.io import atomic as files
from latprof.io import metadata as metadata_module
from latprof.io.reader import Reader
from latprof.io.writer import ROW_GROUP, Writer
from latprof.trace import read

quick = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    max_examples=examples(60),
)


def refused(path, pipeline=None):
    """Return what reading the file is refused with: one line that begins with its name."""
    with pytest.raises(TraceError) as caught:
        read(path, pipeline)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert text.isprintable()
    assert caught.value.__cause__ is None
    return text.removeprefix(f"{path}: ")


def with_metadata(path, text, table=None):
    """Write a small trace with `text` as its metadata."""
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


def test_a_trace_with_all_columns_is_read_as_it_was_written(tmp_path):
    trace = rich()
    with Writer(tmp_path / "t.parquet", trace.pipeline, trace.meta) as writer:
        writer.write(trace.columns)
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


def test_a_trace_without_frames(tmp_path):
    empty = Columns(np.empty(0, np.uint64), {m: np.empty(0, np.int64) for m in AUDIO.marks})
    with Writer(tmp_path / "t.parquet", AUDIO) as writer:
        writer.write(empty)
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
    with Writer(tmp_path / "t.parquet", AUDIO) as writer:
        writer.write(columns)
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
        with pytest.raises(TraceError, match=r"t.parquet: a column must be one of .*, got 'romm'"):
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


def test_only_names_that_are_used_are_written(tmp_path):
    names = tuple(f"name {i}" for i in range(1000))
    tag = Labels(np.array([7, -1, 900], np.int32), names)
    mic(3, tags={"room": tag}).save(tmp_path / "t.parquet")
    room = read(tmp_path / "t.parquet").tags["room"]
    assert room.to_numpy().tolist() == ["name 7", None, "name 900"]
    assert room.names == ("name 7", "name 900")


def test_a_column_must_exist_from_the_first_row_group_on(tmp_path):
    path = tmp_path / "t.parquet"
    with Writer(path, MIC, row_group=2) as writer:
        writer.write(mic(2, source="a").columns)
        writer.write(mic(2).columns)  # no source: missing
    assert read(path).source.to_numpy().tolist() == ["a", "a", None, None]
    writer = Writer(path, MIC, row_group=2)
    writer.write(mic(2).columns)
    with pytest.raises(TraceError, match="same in all row groups, got 'source' after the first"):
        writer.write(mic(2, source="a").columns)
    writer.discard()
    writer = Writer(path, MIC, row_group=2)
    writer.write(mic(2, tags={"room": [1, 2]}).columns)
    with pytest.raises(TraceError, match="column 'room' must stay int64, got double"):
        writer.write(mic(2, tags={"room": [1.5, 2]}).columns)
    writer.discard()


def test_all_marks_must_be_written(tmp_path):
    columns = mic(2).columns
    del columns.marks["play"]
    refused = pytest.raises(TraceError, match=r"t.parquet: frames must have .*, got no 'play'")
    with refused, Writer(tmp_path / "t.parquet", MIC) as writer:
        writer.write(columns)


# -- complete or not there ------------------------------------------------------------------------


@pytest.fixture(params=["without a name", "beside it"])
def both_ways(request, monkeypatch):
    """Write files without a name first, and hidden files as on systems without those."""
    if request.param == "beside it":
        monkeypatch.delattr(files.os, "O_TMPFILE", raising=False)


@pytest.mark.usefixtures("both_ways")
class TestAtomicFiles:
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
        monkeypatch.setattr(metadata_module, "add_checksum", fail)
        with pytest.raises(error):
            mic(5).save(path)
        assert path.read_bytes() == old
        assert os.listdir(tmp_path) == ["t.parquet"]

    def test_the_file_does_not_exist_before_it_is_complete(self, tmp_path):
        writer = Writer(tmp_path / "t.parquet", MIC, row_group=2)
        writer.write(mic(5).columns)
        assert not (tmp_path / "t.parquet").exists()
        writer.close()
        assert len(read(tmp_path / "t.parquet")) == 5

    def test_a_full_disk_leaves_the_old_file_and_is_reported_in_one_line(
        self, tmp_path, monkeypatch
    ):
        path = tmp_path / "t.parquet"
        mic(3).save(path)
        old = path.read_bytes()

        def full(_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(files.os, "fsync", full)
        with pytest.raises(
            TraceError, match=r"t.parquet: cannot be written: No space left on .*; free disk space"
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
        from latprof.io import atomic as files
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
def test_paths_that_cannot_be_written_are_named(tmp_path, path, reason):
    (tmp_path / "file").write_text("a file")
    with pytest.raises(TraceError) as caught:
        mic(3).save(tmp_path / path)
    assert str(caught.value) == (
        f"{tmp_path / path}: cannot be written: {reason}; check the path and its permissions"
    )


def test_a_missing_file_is_reported_with_what_to_do(tmp_path):
    with pytest.raises(TraceError) as caught:
        read(tmp_path / "none.parquet")
    assert str(caught.value) == (
        f"{tmp_path / 'none.parquet'}: file not found; pass a trace, a path, a folder or a glob"
    )


def test_devices_are_written_to_directly():
    mic(3).save("/dev/null")
    assert not os.path.isfile("/dev/null")


# -- what is refused ------------------------------------------------------------------------------


def test_files_that_are_not_traces(tmp_path):
    path = tmp_path / "t.parquet"
    assert "file not found" in refused(path)
    assert refused(tmp_path) == "the path must be of a file, got a folder; name a file in it"
    for content, reason in [
        (b"", "the file is empty (0 bytes)"),
        (b"frame_id,start,end\n", "columns with times (or durations) must be named"),
        (b"PAR1", "the end of the file is missing"),
        (b"PAR1\xff\xff\xff\xffPAR1", "the file is corrupt or not a trace"),
        (b"PAREPARE", "the file is encrypted Parquet"),
        (b"LATPROF" + bytes(100), "the file is a ring; latprof recover"),
    ]:
        path.write_bytes(content)
        assert refused(path).startswith(reason)


def test_the_name_of_a_file_is_escaped_in_messages(tmp_path):
    path = tmp_path / "a\x1b[31m\n.parquet"
    with pytest.raises(TraceError) as caught:
        read(path)
    assert str(caught.value).isprintable()


def test_truncated_files_are_refused(tmp_path):
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
    # with the key 'seal' or the length in it damaged, the file counts as rewritten
    seal = whole.index(b'"seal":"')
    unsealed = {*range(seal, seal + 8), *range(seal + 16, seal + 33)}
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


def test_flipped_bits_among_the_rows_are_refused_or_harmless(tmp_path):
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
        else:  # in the statistics of a page header, which are not used
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


def test_metadata_that_is_not_json_is_refused(tmp_path):
    for text, reason in [
        (b"{", "Expecting property name"),
        (b"\xff", "codec can't decode byte 0xff"),
        (b"[" * 100_000, "maximum recursion depth"),
        (b"1" * 5000, "4300 digits"),
        (b"[]", "got []"),
        (b'{"format": NaN}', "NaN is not a JSON value"),
    ]:
        found = refused(with_metadata(tmp_path / "t.parquet", text))
        assert found.startswith("the metadata 'latprof' must be a JSON object: ")
        assert reason in found.replace("\\", "")
        assert len(found) < 250


def test_other_formats_are_refused_with_what_reads_them(tmp_path):
    for version in (None, "1", True, 0, 0.5, [1] * 99):
        found = refused(with_metadata(tmp_path / "t.parquet", metadata(format=version)))
        assert found.startswith("the file must have format 1 to be read by this version of latprof")
        assert json.dumps(version)[:30] in found
        assert found.endswith("; take an intact copy of the file")
    for meta, writer in ((metadata(), ""), (metadata(latprof="9.1"), ", written by latprof '9.1'")):
        found = refused(with_metadata(tmp_path / "t.parquet", meta | {"format": 2}))
        assert found == (
            "the file must have format 1 to be read by this version of latprof, got 2"
            f"{writer}; a newer latprof reads it"
        )


def test_metadata_with_wrong_values_is_refused(tmp_path):
    owns = "metadata 'owns' must be a list of different marks of pipeline 'mic' (start, "
    for changed, reason in [
        ({"pipeline": None}, "the pipeline in the metadata is invalid: "),
        ({"pipeline": {"name": "a", "marks": []}}, "the pipeline in the metadata is invalid: "),
        ({"owns": "start"}, owns),
        ({"owns": []}, owns),
        ({"owns": ["start", "start"]}, owns),
        ({"owns": ["x\x1b"]}, owns),
        ({"owns": [1]}, owns),
        ({"lost": -1}, "metadata 'lost' must be an integer of 0 or more, got -1"),
        ({"lost": 1.5}, "metadata 'lost' must be an integer of 0 or more, got 1.5"),
        ({"lost": True}, "metadata 'lost' must be an integer of 0 or more, got true"),
        ({"sampling_rate": 0}, "metadata 'sampling_rate' must be a number from 1e-18 to 1, got 0"),
        ({"sampling_rate": 5e-324}, "metadata 'sampling_rate' must be a number from 1e-18 to 1"),
        ({"sampling_rate": 1.5}, "metadata 'sampling_rate' must be "),
        ({"sampling_rate": "1"}, "metadata 'sampling_rate' must be "),
        ({"clock_offset_ns": 2**63}, "metadata 'clock_offset_ns' must be an integer number of ns"),
        ({"anchors": [[1]]}, "metadata 'anchors' must be a list of pairs [monotonic ns, wall"),
        ({"segments": [[2, 1]]}, "metadata 'segments' must be a list of pairs [begin, end]"),
        ({"boot_id": 1}, "metadata 'boot_id' must be text, got 1"),
        ({"pid": -1}, "metadata 'pid' must be an integer of 0 or more, got -1"),
        ({"cores": 1.5}, "metadata 'cores' must be an integer of 0 or more, got 1.5"),
        ({"accounts": {"started": -1}}, "metadata 'accounts' must be an object of counts"),
        ({"accounts": {"rejected": 1}}, "metadata 'accounts' must be "),
        ({"accounts": {"torn": {"x": 1}}}, "metadata 'accounts' must be "),
        ({"join": []}, "metadata 'join' must be an object with a list"),
        ({"join": {"parts": "abc"}}, "metadata 'join' must be "),
        ({"join": {"parts": [1]}}, "metadata 'join' must be "),
        ({"join": {"parts": [{"lost": "many"}]}}, "metadata 'join' must be "),
        ({"thresholds": {"warning": {"mic": -1}}}, "metadata 'thresholds' must be "),
        ({"recovery": {"whole": 1}}, "metadata 'recovery' must be an object of counts"),
        ({"run": 1}, "metadata 'run' must be an object, got 1"),
    ]:
        found = refused(with_metadata(tmp_path / "t.parquet", metadata(**changed)))
        assert found.startswith(reason)
        assert len(found) < 250


def test_metadata_that_does_not_fit_the_columns(tmp_path):
    path = tmp_path / "t.parquet"
    mic(3).save(path)
    table = pq.read_table(path)
    with_metadata(path, metadata(), table.drop_columns(["play"]))
    assert refused(path).startswith("the file must have the mark 'play' of its metadata as")
    # a mark that another process owns may be absent
    with_metadata(path, metadata(owns=["start", "end"]), table.drop_columns(["play"]))
    assert read(path).marks["play"].tolist() == [MISSING] * 3
    numbers = table.set_column(1, "start", table["start"].cast(pa.int64()))
    with_metadata(path, metadata(), numbers)
    assert refused(path).startswith("column 'start' must be timestamp[ns] in a file of format 1")
    with_metadata(path, metadata(), table.drop_columns(["frame_id"]))
    assert refused(path).startswith("the table must have a column 'frame_id'")


def test_unknown_metadata_is_kept(tmp_path):
    path = with_metadata(tmp_path / "t.parquet", metadata(weather={"wind": [1, 2]}, host=None))
    assert read(path).meta == {"weather": {"wind": [1, 2]}, "host": None}


def test_another_pipeline_is_refused(tmp_path):
    path = tmp_path / "t.parquet"
    mic(3).save(path)
    assert len(read(path, MIC)) == 3
    assert refused(path, AUDIO).startswith("pipeline must have the names of pipeline 'mic'")


def test_wrong_meta_is_refused_before_anything_is_written(tmp_path):
    for meta, reason in [
        ({"lost": -1}, "metadata 'lost' must be an integer of 0 or more, got -1"),
        ({"x": object()}, "meta must contain JSON values only: 'got object'"),
        ({"x": float("nan")}, "meta must contain JSON values only"),
        (
            {"format": 1},
            "keys of meta must be text other than format, seal, pipeline, rows",
        ),
        ({1: 2}, "keys of meta must be text other than format, seal, pipeline, rows, got 1"),
        ({"owns": ["nope"]}, "metadata 'owns' must be a list of different marks"),
    ]:
        with pytest.raises(TraceError) as caught:
            Writer(tmp_path / "t.parquet", MIC, meta)
        assert str(caught.value).startswith(f"{tmp_path / 't.parquet'}: {reason}")
        assert os.listdir(tmp_path) == []


# -- tables of other tools ------------------------------------------------------------------------


def table(**columns):
    given = {"frame_id": [1, 2], "start": [10, 20], "end": [15, 27]} | columns
    return pa.table({name: column for name, column in given.items() if column is not None})


LINK = Pipeline("link", ("start", "arrived", "end"))
STAMPS = pa.array([1_700_000_000_123, 1_700_000_000_456])
IN_NS = [1_700_000_000_123_000_000, 1_700_000_000_456_000_000]


def test_marks_of_any_unit_and_zone(tmp_path):
    for unit in ("s", "ms", "us", "ns"):
        for zone in (None, "UTC", "Asia/Kolkata"):
            marks = pa.array([0, 1_700_000_000], pa.timestamp("s")).cast(pa.timestamp(unit, zone))
            pq.write_table(table(start=marks), tmp_path / "t.parquet")
            found = read(tmp_path / "t.parquet", LINK)
            assert found.marks["start"].tolist() == [0, 1_700_000_000_000_000_000]
            assert found.marks["end"].tolist() == [15, 27]
            assert found.marks["arrived"].tolist() == [MISSING, MISSING]


def test_names_of_any_arrow_type(tmp_path):
    kinds = [pa.string(), pa.large_string(), pa.string_view()]
    kinds += [pa.dictionary(index, pa.string()) for index in (pa.int8(), pa.uint16(), pa.int64())]
    for kind in [*kinds, pa.dictionary(pa.int32(), pa.large_string())]:
        names = pa.array(["b", None], pa.string()).cast(kind)
        pq.write_table(table(source=names, room=names), tmp_path / "t.parquet")
        found = read(tmp_path / "t.parquet", LINK)
        assert found.source.to_numpy().tolist() == ["b", None]
        assert found.tags["room"].to_numpy().tolist() == ["b", None]


def test_integers_of_any_width(tmp_path):
    for kind in (pa.int8(), pa.uint16(), pa.int32(), pa.int64(), pa.uint64()):
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


def test_tables_that_are_not_traces(tmp_path):
    start = "mark 'start' must be"
    years = f"{start} between -2**62 and 2**62 ns (the years 1824 to 2116), got"
    for columns, reason in [
        ({"frame_id": None}, "the table must have a column 'frame_id', got 'start', 'end'; rename"),
        ({"start": None, "end": None}, "the table must have a mark of pipeline 'link' (start, arr"),
        ({"frame_id": [1, None]}, "frame_id must not be missing, got 1 of 2 rows without an id"),
        ({"frame_id": [1, -1]}, "frame_id must be from 0 to 18446744073709551615, got -1"),
        ({"frame_id": [1.0, 2.0]}, "frame_id must be integers, got float64"),
        ({"frame_id": ["a", "b"]}, "frame_id must be numbers or times, got string"),
        ({"start": [1.0, 2.0]}, f"{start} int64 ns or datetime64, got float64; floats do not hold"),
        ({"start": ["a", "b"]}, f"{start} numbers or times, got string"),
        ({"start": [True, False]}, f"{start} int64 ns or datetime64, got bool"),
        ({"start": [2**62, 0]}, f"{years} 4611686018427387904"),
        ({"start": [1 - 2**63, 0]}, f"{years} -9223372036854775807"),
        ({"start": pa.array([2**62, 0], pa.uint64())}, f"{years} 4611686018427387904"),
        ({"start": pa.array([2**40, 0], pa.timestamp("s"))}, f"{years} 36812-02-20T00:36:16"),
        ({"size": [-1, 0]}, "size must be from 0 to 4294967295, got -1"),
        ({"size": [1.5, 0]}, "size must be integers, got float64"),
        ({"size": ["1", "2"]}, "size must be numbers or times, got string"),
        ({"source": [1.5, 2]}, "source must be text, got double"),
        ({"source": [[1], [2]]}, "source must be text, got list<element: int64>"),
        ({"cpu": ["a", "b"]}, "cpu must be numbers or times, got string"),
        ({"weight": [0, 1]}, "weight must be from 1 to 4294967295, got 0"),
        ({"Start": [1, 2]}, "column names must differ by more than case, got 'start' and 'Start'"),
        ({"a": [1, 2], "A": [1, 2]}, "column names must differ by more than case, got 'a' and 'A'"),
    ]:
        pq.write_table(table(**columns), tmp_path / "t.parquet")
        assert refused(tmp_path / "t.parquet", LINK).startswith(reason)


def test_a_column_name_that_occurs_twice_is_refused(tmp_path):
    double = pa.table([pa.array([1]), pa.array([2]), pa.array([3])], ["frame_id", "end", "end"])
    pq.write_table(double, tmp_path / "t.parquet")
    found = refused(tmp_path / "t.parquet", LINK)
    assert found == "column names must be unique, got 'end' twice; rename one"


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
    with pytest.raises(TraceError, match=r"must have the spans of pipeline 'docs'"):
        read(tmp_path / "docs.parquet", pipeline=other)


def test_a_table_of_another_tool_needs_the_pipeline(tmp_path):
    pq.write_table(table(), tmp_path / "t.parquet")
    assert "give pipeline=, or --pipeline" in refused(tmp_path / "t.parquet")


def test_text_that_is_not_utf8_is_refused(tmp_path):
    broken = pa.array([b"\xff", b"a"]).view(pa.string())
    pq.write_table(table(source=broken), tmp_path / "t.parquet")
    assert "source must be UTF-8 text, got " in refused(tmp_path / "t.parquet", LINK)


def test_column_names_are_escaped_in_messages(tmp_path):
    pq.write_table(
        pa.table({"\x1b[31m\n": [1], "end": [1], "start": ["x"]}), tmp_path / "t.parquet"
    )
    assert r"'\x1b[31m\n'" in refused(tmp_path / "t.parquet", LINK)


def test_many_small_row_groups_are_read_in_few_batches(tmp_path):
    n = 500
    rows = table(
        frame_id=range(n), start=range(n), end=range(n), source=[f"s{i % 3}" for i in range(n)]
    )
    pq.write_table(rows, tmp_path / "t.parquet", row_group_size=1)
    with Reader(tmp_path / "t.parquet", LINK) as reader:
        assert reader.num_batches == n
        (columns,) = reader.batches()
    assert columns.frame_id.tolist() == list(range(n))
    assert columns.source.to_numpy().tolist() == [f"s{i % 3}" for i in range(n)]


def test_batches_are_small_however_large_the_row_groups_are(tmp_path):
    n = 3 * ROW_GROUP + 5
    stamps = pa.array(np.arange(n)).cast(pa.timestamp("ns"))
    rows = pa.table({"frame_id": np.arange(n), "start": stamps, "end": stamps})
    pq.write_table(rows, tmp_path / "t.parquet", row_group_size=n)
    with Reader(tmp_path / "t.parquet", Pipeline("two", ("start", "end"))) as reader:
        assert reader.num_batches == 1
        parts = list(reader.batches())
    assert max(map(len, parts)) <= ROW_GROUP
    assert np.concatenate([part.frame_id for part in parts]).tolist() == list(range(n))
