"""What the functions that analyze frames accept, and how its frames are streamed."""

import os
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from traces import MIC, mic

import latprof
from latprof import AUDIO, LatprofError, Pipeline, PipelineError, Trace, TraceError
from latprof.frames import MISSING, Columns
from latprof.io.dataset import Dataset
from latprof.io.find import find_files
from latprof.io.reader import Reader

LINK = Pipeline("link", ("start", "end"))


def link(starts, first_id=0):
    """Return frames that start at `starts`, numbered from `first_id`, with a tag."""
    starts = np.array(starts, np.int64)
    ids = np.arange(first_id, first_id + len(starts))
    return Trace(
        LINK,
        frame_id=ids,
        marks={"start": starts, "end": np.where(starts == MISSING, MISSING, starts + 1)},
        source="input",
        tags={"room": ids},
    )


def save(folder, **traces):
    folder.mkdir(exist_ok=True)
    for name, trace in traces.items():
        trace.save(folder / f"{name}.parquet")
    return folder


def ids_of(batches):
    return [columns.frame_id.tolist() for columns in batches]


def streamed(dataset, *names, **options):
    """Return for each recording its name and the ids of its batches."""
    return [
        (os.path.basename(recording.name), ids_of(batches))
        for recording, batches in dataset.stream(names or None, **options)
    ]


# -- what is accepted -----------------------------------------------------------------------------


def test_a_trace_a_path_a_folder_a_glob_and_several(tmp_path):
    folder = save(tmp_path / "all", a=link([1, 2]), b=link([3], 2))
    trace = link([9], 7)
    for given, expected in (
        (trace, [("recording 1", [[7]])]),
        (folder / "a.parquet", [("a.parquet", [[0, 1]])]),
        (str(folder / "a.parquet"), [("a.parquet", [[0, 1]])]),
        (folder, [("a.parquet", [[0, 1]]), ("b.parquet", [[2]])]),
        (str(folder / "*.parquet"), [("a.parquet", [[0, 1]]), ("b.parquet", [[2]])]),
        ([folder / "b.parquet", trace], [("b.parquet", [[2]]), ("recording 2", [[7]])]),
        ((where for where in [trace, trace]), [("recording 1", [[7]]), ("recording 2", [[7]])]),
    ):
        dataset = Dataset(given)
        assert dataset.pipeline == LINK
        assert streamed(dataset) == expected
        assert dataset.rows == sum(len(ids) for _, batches in expected for ids in batches)


def test_a_file_given_twice_is_counted_or_read_once(tmp_path):
    folder = save(tmp_path / "all", a=link([1]))
    both = [folder, folder / "a.parquet"]
    assert (Dataset(both).rows, Dataset(both).repeated) == (2, 1)
    once = Dataset(both, unique=True)
    assert (once.rows, once.paths) == (1, [folder / "a.parquet"])


def test_what_is_not_a_dataset_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    trace = link([1])
    for given, message in (
        ([], "no recordings were given; pass at least one trace or file"),
        (7, "a recording must be a Trace or a path, got int; pass one of these, or a list of them"),
        (latprof.Profile(MIC), "a recording must be a Trace or a path, got Profile"),
        (trace.to_pandas(), r"got DataFrame; latprof.Trace.from_pandas\(table, pipeline\) makes"),
        ("no.parquet", "^no.parquet: file not found; pass a trace, a path, a folder or a glob"),
        ("no*.parquet", r"^no\*.parquet: file not found"),
        ("a" * 70_000, r"^aaa.*\.\.\..*aaa: cannot be opened: File name too long; check the path"),
        ("\x1b[31m", r"^\\x1b\[31m: file not found"),
        (tmp_path / "empty", "empty: the folder contains no .*parquet file"),
        ([trace, mic(2)], "one pipeline: recording 2 is of 'mic' and recording 1 of 'link'"),
    ):
        with pytest.raises(TraceError, match=message) as caught:
            Dataset(given)
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 400


def test_files_of_a_folder_are_sorted_and_a_name_with_a_star_is_a_name(tmp_path):
    for name in ("b.parquet", "a.parquet", "[x].parquet"):
        (tmp_path / name).touch()
    assert [p.name for p in find_files(tmp_path)] == ["[x].parquet", "a.parquet", "b.parquet"]
    assert find_files(tmp_path / "[x].parquet") == [tmp_path / "[x].parquet"]


def test_pipeline_and_stations_may_be_given(tmp_path):
    mic(3).save(tmp_path / "t.parquet")
    served = MIC.with_stations({"play": "card"})
    for given in (mic(3), tmp_path / "t.parquet"):
        assert Dataset(given, pipeline=served).pipeline == served
        assert Dataset(given, stations={"play": "card"}).pipeline == served
        with pytest.raises(LatprofError, match=r"must have the names of .* 'mic'"):
            Dataset(given, pipeline=AUDIO)
        with pytest.raises(PipelineError, match=r"\(decode, play\), got 'nope'"):
            Dataset(given, stations={"nope": "card"})


# -- streams --------------------------------------------------------------------------------------


def test_only_the_columns_asked_for_are_read(tmp_path):
    save(tmp_path, a=link([1, 2]))
    for given in (tmp_path, link([1, 2])):
        for _, batches in Dataset(given).stream(["end", "room"]):
            (columns,) = batches
            assert list(columns.marks) == ["end"]
            assert columns.source is None
            assert columns.tags["room"].tolist() == [0, 1]


def test_progress_counts_rows_after_each_batch_was_used(tmp_path, monkeypatch):
    monkeypatch.setattr("latprof.io.reader.ROW_GROUP", 2)
    save(tmp_path, a=link(range(5)), b=link(range(3)))
    seen, events = [], []
    for _, batches in Dataset([tmp_path, link([1])]).stream(progress=lambda *a: seen.append(a)):
        for columns in batches:
            events.append((len(columns), len(seen)))
    assert seen[-1] == (9, 9)
    assert [done for done, _ in seen] == np.cumsum([rows for rows, _ in events]).tolist()
    assert [known for _, known in events] == list(range(len(events)))


def test_a_file_is_open_only_while_it_is_read(tmp_path, monkeypatch):
    save(tmp_path, a=link([1]), b=link([2]), c=link([3]))
    opened, closed = [], []
    start, end = Reader.__init__, Reader.close
    monkeypatch.setattr(Reader, "__init__", lambda *a, **b: (opened.append(1), start(*a, **b))[1])
    monkeypatch.setattr(Reader, "close", lambda self: (closed.append(1), end(self))[1])
    dataset = Dataset(tmp_path)
    for batches in (dataset.merged(), (c for _, part in dataset.stream() for c in part)):
        for _ in batches:
            assert len(opened) - len(closed) <= 2  # the one that is read, and the next one
    assert len(opened) == len(closed)


def test_without_a_thread_the_frames_are_read_in_this_one(tmp_path, monkeypatch):
    save(tmp_path, a=link([1, 2]), b=link([3]))
    before = latprof.analyze(tmp_path).rows()

    def fail(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fail)
    assert streamed(Dataset(tmp_path)) == [("a.parquet", [[0, 1]]), ("b.parquet", [[0]])]
    assert latprof.analyze(tmp_path).rows() == before


# -- order of time --------------------------------------------------------------------------------


def test_recordings_sort_by_their_first_start(tmp_path):
    folder = save(tmp_path / "all", file10=link([20, 30]), file2=link([10]))
    dataset = Dataset([folder, link([5])])
    assert dataset.first_start() == 5
    dataset.sort()
    assert [os.path.basename(each.name) for each in dataset.members] == [
        *("recording 3", "file2.parquet", "file10.parquet"),
    ]
    assert Dataset(link([])).first_start() is None


def test_merged_yields_overlapping_recordings_in_order_of_start(tmp_path, monkeypatch):
    rng = np.random.default_rng(7)
    for rows in (3, 1 << 16):
        monkeypatch.setattr("latprof.io.reader.ROW_GROUP", rows)
        monkeypatch.setattr("latprof.io.batches._BATCH_ROWS", rows)
        for case in range(30):
            traces, first_id = [], 0
            for _ in range(rng.integers(1, 5)):
                begin = int(rng.integers(0, 60))
                starts = begin + np.sort(rng.integers(0, 40, rng.integers(0, 12)))
                traces.append(link(starts, first_id))
                first_id += len(starts)
            folder = tmp_path / f"{rows}-{case}"
            given = [folder, *traces[1:]]
            save(folder, a=traces[0])
            merged = list(Dataset(given).merged(["start", "end"]))
            found = [start for columns in merged for start in columns.marks["start"].tolist()]
            assert found == sorted(int(start) for t in traces for start in t.marks["start"])
            ids = [i for columns in merged for i in columns.frame_id.tolist()]
            assert sorted(ids) == list(range(first_id))


def test_merged_keeps_rows_of_one_recording_and_reads_recordings_without_a_start_last():
    for given, expected in (
        ([[5, 6, 7], [1, 2, 3]], [1, 2, 3, 5, 6, 7]),
        ([[1, 9], [2, 3], [4, 8]], [1, 2, 3, 4, 8, 9]),
        ([[3, 1, 2]], [3, 1, 2]),
        ([[MISSING, MISSING], [1]], [1, MISSING, MISSING]),
        ([[1, 4], [MISSING, 2]], [MISSING, 1, 2, 4]),  # they overlap
        ([[], [1]], [1]),
        ([[]], []),
    ):
        merged = Dataset([link(starts) for starts in given]).merged(["start"])
        found = [start for columns in merged for start in columns.marks["start"].tolist()]
        assert found == expected


def test_merged_sorts_recordings_that_are_out_of_order_by_more_than_the_slack(tmp_path):
    starts = [*range(100), 3]  # the last row is 97 rows late
    save(tmp_path, a=link(starts))
    for given, options, is_sorted in (
        (link(starts), {}, False),
        (link(starts), {"slack": 200}, False),
        (link(starts), {"slack": 20}, True),
        (tmp_path, {"slack": 20}, False),
        (tmp_path, {"slack": 20, "sort_files": True}, True),
    ):
        (columns,) = Dataset(given).merged(["start"], **options)
        assert (columns.marks["start"].tolist() == sorted(starts)) is is_sorted


def test_read_returns_all_frames_one_recording_after_the_other(tmp_path):
    save(tmp_path, a=link([9]))
    columns = Dataset([tmp_path, link([1, 2], 5)]).read(["start"])
    assert isinstance(columns, Columns)
    assert columns.frame_id.tolist() == [0, 5, 6]
    assert columns.marks["start"].tolist() == [9, 1, 2]


# -- what is not there ----------------------------------------------------------------------------


def run(program, folder):
    code = textwrap.dedent(program)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.splitlines()


def test_a_trace_in_memory_is_analyzed_without_pyarrow(tmp_path):
    program = """
        import sys
        import numpy as np
        import latprof
        start = np.arange(300) * 20_000_000
        marks = {mark: start + 1000 * i for i, mark in enumerate(latprof.AUDIO.marks)}
        sources = ["input", None] * 150
        trace = latprof.Trace(latprof.AUDIO, frame_id=np.arange(300), marks=marks, source=sources)
        latprof.analyze(trace, by="source", causes=True, order=True)
        latprof.causes(trace)
        latprof.what_if(trace, {"alsa": 0.9})
        latprof.utilization(trace)
        print("pyarrow" in sys.modules)
        sys.modules["pandas"] = None  # which imports pyarrow by itself
        try:
            latprof.blame(trace)
        except ImportError:
            pass
        print("pyarrow" in sys.modules)
    """
    assert run(program, tmp_path) == ["False", "False"]


def test_without_file_descriptors_the_error_names_the_file_and_the_limit(tmp_path):
    mic(3).save(tmp_path / "t.parquet")
    program = """
        import os, resource
        import latprof
        trace = latprof.read("t.parquet")
        trace.to_csv("t.csv")
        latprof.analyze("t.parquet")
        resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
        try:
            while True:
                os.open(os.devnull, os.O_RDONLY)
        except OSError:
            pass
        for call in (
            lambda: trace.save("new.parquet"),
            lambda: trace.to_csv("new.csv"),
            lambda: latprof.read("t.parquet"),
            lambda: latprof.analyze("t.parquet"),
            lambda: latprof.analyze("."),
            lambda: latprof.analyze("*.parquet"),
        ):
            try:
                call()
            except latprof.TraceError as error:
                print(error)
    """
    lines = run(program, tmp_path)
    reason = "Too many open files; close files or raise the limit on open files (ulimit -n)"
    assert lines == [
        f"new.parquet: cannot be written: {reason}",
        f"new.csv: cannot be written: {reason}",
        f"t.parquet: cannot be read: {reason}",
        f"t.parquet: cannot be read: {reason}",
        f".: cannot be opened: {reason}",
        f"*.parquet: cannot be opened: {reason}",
    ]


def test_lack_of_memory_is_a_memory_error(tmp_path, monkeypatch):
    mic(3).save(tmp_path / "t.parquet")

    def fail(*arguments, **options):
        raise MemoryError("malloc of size 7 failed")

    monkeypatch.setattr("latprof.io.reader.columns_of_table", fail)
    for call in (latprof.read, latprof.analyze):
        with pytest.raises(MemoryError, match="malloc of size 7 failed"):
            call(tmp_path / "t.parquet")


@pytest.mark.parametrize("claimed", [5_000, 2**42, 2**60])
def test_a_footer_with_too_many_rows_is_a_corrupt_file(tmp_path, claimed):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"frame_id": range(4321), "start": range(4321)}), path)
    data = path.read_bytes()
    begin = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    # field 3 of the footer, as thrift writes it; a list, 0x19, follows
    rows, more = (b"\x16" + varint(2 * n) + b"\x19" for n in (4321, claimed))
    assert data[begin:].count(rows) == 1
    footer = data[begin:-8].replace(rows, more)
    path.write_bytes(data[:begin] + footer + len(footer).to_bytes(4, "little") + b"PAR1")
    for call in (latprof.read, latprof.analyze):
        with pytest.raises(TraceError, match=f"must have the {claimed} rows of its footer, got"):
            call(path, pipeline=Pipeline("mic", ("start", "end")))


def varint(number):
    digits = []
    while number >= 128:
        digits.append(number % 128 + 128)
        number //= 128
    return bytes([*digits, number])


def test_lack_of_threads_is_not_a_corrupt_file(tmp_path, monkeypatch):
    mic(3).save(tmp_path / "t.parquet")

    def fail(*arguments, **options):
        raise OSError("Failed to launch worker thread: Resource temporarily unavailable")

    monkeypatch.setattr("latprof.io.reader.columns_of_table", fail)
    with pytest.raises(TraceError, match="cannot be read: no thread can be started; "):
        latprof.read(tmp_path / "t.parquet")


def test_a_full_disk_is_reported_with_the_name_of_the_file():
    if not os.path.exists("/dev/full"):
        pytest.skip("the system has no /dev/full")
    for write in (mic(3).save, mic(3).to_csv):
        with pytest.raises(TraceError, match=r"^/dev/full: cannot be written: No space left on"):
            write("/dev/full")


def test_files_are_closed_after_their_last_row_group_is_decoded(tmp_path, monkeypatch):
    for i in range(6):
        start = np.arange(5_000) * 1_000 + i * 10**9
        marks = {"start": start, "decode": start, "play": start, "end": start + 5}
        Trace(MIC, frame_id=np.arange(5_000), marks=marks).save(tmp_path / f"{i}.parquet")
    decoded = Reader._decoded_group

    def late(self, *arguments):
        time.sleep(0.02)  # the file would be closed meanwhile
        return decoded(self, *arguments)

    monkeypatch.setattr(Reader, "_decoded_group", late)
    found = []
    thread = threading.Thread(
        target=lambda: found.append(latprof.analyze(tmp_path).frames), daemon=True
    )
    thread.start()
    thread.join(30)
    assert found == [30_000]
