"""Many small files into few: a report of the new folder is that of the old files."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import memory, put, s3, upload
from test_parts import check_equal

import latprof
from latprof import Pipeline, Span, Trace, TraceError
from latprof.cli.main import main
from latprof.io import compact as module
from latprof.io import reader, writer  # before a test changes ROW_GROUP
from latprof.io.compact import compact
from latprof.io.dataset import Dataset
from latprof.io.find import UNFINISHED, sizes_in
from latprof.report.report import Report

WEB = Pipeline(
    "web",
    ("start", "sent", "end"),
    (Span("queue", "start", "sent"), Span("serve", "sent", "end", station="server")),
    period=1_000_000,
)
SETTINGS = {"order": True, "causes": True, "every": "100ms", "by": "source"}


def recording(frames, seed, begin, *, tag=False, **meta):
    """Return frames of a queue with one server; its recorder lost some of them."""
    rng = np.random.default_rng(seed)
    starts = begin + np.arange(frames) * 1_000_000
    service = rng.integers(100_000, 1_200_000, frames)
    done = np.cumsum(service)
    leave = done + np.maximum.accumulate(np.arange(frames) * 1_000_000 - (done - service))
    marks = {"start": starts, "sent": begin + leave - service, "end": begin + leave}
    return Trace(
        WEB,
        frame_id=np.arange(frames) + rng.integers(0, 2, frames).cumsum(),
        marks=marks,
        size=seed,
        source=np.where(rng.random(frames) < 0.5, f"in {seed % 2}", "out"),
        outcome=np.where(rng.random(frames) < 0.1, f"late {seed % 3}", None),
        tags={"room": np.arange(frames)} if tag else {},
        meta=meta,
    )


def fleet(folder, lengths, *, tags=()):
    """Save recordings of three hosts, each in files that follow each other."""
    clock = dict.fromkeys(range(3), 1_700_000_000_000_000_000)
    for i, frames in enumerate(lengths):
        host = i % 3
        begin = clock[host]
        clock[host] = end = begin + (frames + 5) * 1_000_000
        meta = {
            "host": f"host-{host}",
            "created": f"2026-11-28T10:{i:02}:00Z",
            "recording": f"r{host}",
            "part": i // 3 + 1,
            "lost": i % 2,
            "stamp_ns": 30 + i,
            "segments": [[begin, end]],
            "accounts": {"sampled_out": i, "notes": {"marks set twice": i}},
            "labels": {"commit": "abc"},
        }
        trace = recording(frames, i, begin, tag=i in tags, **meta)
        path = folder / f"host-{host}" / f"{i}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        trace.save(path)
    return folder


def report_of(where, **options):
    return Report(latprof.analyze(where, **(SETTINGS | options)), worst=20)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@settings(max_examples=4, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 250), min_size=1, max_size=7),
    tags=st.sets(st.integers(0, 8)),
    row_group=st.integers(40, 400),
    most=st.integers(1, 5),
)
def test_a_report_of_the_new_folder_is_that_of_the_old_files(
    tmp_path_factory, lengths, tags, row_group, most
):
    top = tmp_path_factory.mktemp("compact")
    old = fleet(top / "old", [*lengths, 50], tags=tags)
    with pytest.MonkeyPatch.context() as patch:
        assert reader.ROW_GROUP == writer.ROW_GROUP
        patch.setattr(writer, "ROW_GROUP", row_group)
        patch.setattr(module, "MOST_RECORDINGS", most)
        made = compact(old, top / "new")
    files = sorted((top / "new").glob("*.parquet"))
    assert (made.before, made.after, made.rows) == (len(lengths) + 1, len(files), sum(lengths) + 50)
    for options in ({}, {"by": None, "causes": False, "skip": "100ms"}):
        mine, whole = report_of(top / "new", **options), report_of(old, **options)
        check_equal(mine.profile, whole.profile)
        assert mine.profile.files == whole.profile.files
        assert mine.profile.recordings == whole.profile.recordings
        assert mine.profile.labels == whole.profile.labels


def test_few_files_with_large_row_groups_hold_all_rows_in_order(tmp_path):
    old = fleet(tmp_path / "old", [300] * 12)
    made = compact(str(old), tmp_path / "new")
    assert (made.before, made.after, made.rows) == (12, 1, 3_600)
    assert made.after_bytes < made.before_bytes
    (path,) = (tmp_path / "new").glob("*.parquet")
    assert pq.ParquetFile(path).metadata.num_row_groups == 1
    members = Dataset(tmp_path / "new").members
    assert len(members) == 12
    assert [member.lowest_start() for member in members] == sorted(
        member.lowest_start() for member in Dataset(old).members
    )
    by_name = {(m.meta["host"], m.meta["part"]): m for m in members}
    for before in Dataset(old).members:
        after = by_name[before.meta["host"], before.meta["part"]]
        assert after.meta == before.meta
        for mine, theirs in ((after.read(), before.read()), (after.read(["end"]), before.read())):
            assert mine.frame_id.tolist() == theirs.frame_id.tolist()
            assert mine.marks["end"].tolist() == theirs.marks["end"].tolist()
        assert after.read().source.to_numpy().tolist() == before.read().source.to_numpy().tolist()


def test_large_recordings_are_kept_apart(tmp_path):
    for i in range(2):
        begin = 1_700_000_000_000_000_000 + i * 10**15
        path = tmp_path / "old" / f"{i}.parquet"
        path.parent.mkdir(exist_ok=True)
        recording(writer.ROW_GROUP + 10, i, begin, host="a").save(path)
    made = compact(tmp_path / "old", tmp_path / "new")
    assert made.after == 2
    for path in (tmp_path / "new").glob("*.parquet"):
        groups = pq.ParquetFile(path).metadata
        assert [groups.row_group(i).num_rows for i in range(2)] == [writer.ROW_GROUP, 10]
    mine, whole = latprof.analyze(tmp_path / "new"), latprof.analyze(tmp_path / "old")
    assert mine.frames == whole.frames
    assert mine.table().equals(whole.table())


def test_workers_causes_and_joined_reading_of_a_new_folder(tmp_path, monkeypatch):
    from concurrent.futures import ThreadPoolExecutor

    from latprof import parts

    old = fleet(tmp_path / "old", [80] * 9)
    compact(old, tmp_path / "new")
    monkeypatch.setattr(parts, "PART_ROWS", 200)
    whole = latprof.analyze(old, **SETTINGS)
    with ThreadPoolExecutor(2) as threads:
        check_equal(latprof.analyze(tmp_path / "new", executor=threads, **SETTINGS), whole)
    lossless = fleet_without_losses(tmp_path / "lossless")
    compact(lossless, tmp_path / "new lossless")
    assert latprof.causes(tmp_path / "new lossless").to_dict() == latprof.causes(lossless).to_dict()
    (path,) = (tmp_path / "new").glob("*.parquet")
    trace = latprof.read(path)
    assert (len(trace), trace.meta["lost"]) == (720, 4)
    assert trace.meta["reading"] == [
        "9 recordings read as one trace: what each recorder counted is left out"
    ]


def fleet_without_losses(folder):
    folder.mkdir()
    for i in range(4):
        begin = 1_700_000_000_000_000_000 + i * 10**9
        recording(400, 3, begin, host="a", lost=0).save(folder / f"{i}.parquet")
    return folder


def test_a_folder_behind_a_url_is_compacted(tmp_path):
    old = fleet(tmp_path / "old", [100, 200, 0, 7])
    url = memory("compact")
    put(old, url)
    compact(url, tmp_path / "new")
    check_equal(report_of(tmp_path / "new").profile, report_of(old).profile)
    put(tmp_path / "new", memory("compacted"))
    check_equal(report_of("memory://compacted").profile, report_of(old).profile)
    # into a store, and from one store to another
    for source, new in ((old, memory("into")), (url, memory("over"))):
        made = compact(source, new)
        assert (made.before, made.after, made.rows, made.repeated) == (4, 1, 307, False)
        check_equal(report_of(new).profile, report_of(old).profile)
        assert compact(source, new + "/").repeated


@pytest.fixture(scope="module")
def store():
    import pyarrow.fs as fs

    with s3() as address:
        # a bucket of its own: the server's are those of all tests of the process
        system = fs.S3FileSystem(
            endpoint_override=address, scheme="http", allow_bucket_creation=True
        )
        system.create_dir("compact")
        yield f"s3://compact/{{}}?endpoint_override={address}&scheme=http"


def test_a_folder_of_s3_is_compacted_into_another(tmp_path, store, capsys):
    old = fleet(tmp_path / "old", [100, 200, 50])
    before, after = store.format("old"), store.format("new")
    upload(old, before)
    command = ["compact", before, "-o", after]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert said.startswith("s3://compact/new has the 350 frames of 3 files: 1 file, ")
    check_equal(report_of(after).profile, report_of(old).profile)
    assert sorted(sizes_in(after)) == ["compacted.json", "web-00001.parquet"]
    assert main(command) == 0
    assert "is already made of 350 frames of 3 files: 1 file, " in capsys.readouterr().out
    for other in (["compact", str(old), "-o", after], ["compact", before, "-o", before]):
        assert main(other) == 2
    said = capsys.readouterr().err
    assert "s3://compact/new: the new folder must be new or empty, or hold these same" in said
    assert "s3://compact/old: the new folder must not contain the old files" in said
    assert sorted(sizes_in(after)) == ["compacted.json", "web-00001.parquet"]
    assert len(sizes_in(before)) == 3
    with pytest.raises(TraceError, match="must not contain the old files"):
        compact(before, store.format("old/new"))
    with pytest.raises(TraceError, match="must not contain the old files"):
        compact([store.format("old/host-0/0.parquet")], before)


def test_a_store_of_a_killed_compaction_is_refused_until_the_next_one(tmp_path, store):
    old, url = fleet(tmp_path / "old", [300] * 9), store.format("killed")
    code = (
        "import sys, time\nfrom latprof.io import compact as m\n"
        "m.MOST_RECORDINGS = 2\n"
        "m.compact(sys.argv[1], sys.argv[2], progress=lambda *_: (print(flush=True), "
        "time.sleep(0.2)))"
    )
    call = [sys.executable, "-c", code, str(old), url]
    process = subprocess.Popen(call, stdout=subprocess.PIPE)
    for _ in range(7):
        process.stdout.readline()
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    left = sizes_in(url)
    assert UNFINISHED in left
    assert 2 <= sum(name.endswith(".parquet") for name in left) <= 4
    for where in (url, url.replace("killed", "killed/*.parquet")):
        with pytest.raises(TraceError, match=r"killed.*: the folder must be complete, got one wi"):
            latprof.analyze(where)
    with pytest.raises(TraceError, match="hold these same files"):
        compact(fleet(tmp_path / "others", [5]), url)
    assert sizes_in(url) == left
    assert not compact(old, url).repeated  # fewer and larger files
    assert sorted(sizes_in(url)) == ["compacted.json", "web-00001.parquet"]
    check_equal(report_of(url).profile, report_of(old).profile)


def test_a_compaction_into_a_store_that_fails_leaves_nothing(tmp_path):
    old, url = fleet(tmp_path / "old", [100, 200]), memory("failing")
    (path,) = (old / "host-1").glob("*.parquet")
    content = path.read_bytes()
    path.write_bytes(content[:300] + bytes(100) + content[400:])
    with pytest.raises(TraceError, match=r"1\.parquet: the file is corrupt"):
        compact(old, url)
    assert sizes_in(url) == {}
    path.write_bytes(content)

    def interrupt(done, rows):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compact(old, url, progress=interrupt)
    assert sizes_in(url) == {}
    compact(old, url)
    check_equal(report_of(url).profile, report_of(old).profile)
    with pytest.raises(TraceError, match=r"nowhere://.*use a scheme that pyarrow or fsspec knows"):
        compact(old, "nowhere://bucket/new")


def test_the_same_command_again_changes_nothing(tmp_path, capsys):
    old = fleet(tmp_path / "old", [100, 200])
    command = ["compact", str(old), "-o", str(tmp_path / "new")]
    assert main(command) == 0
    assert "has the 300 frames of 2 files: 1 file, " in capsys.readouterr().out
    before = contents(tmp_path / "new")
    assert main(command) == 0
    assert "is already made of 300 frames of 2 files: 1 file, " in capsys.readouterr().out
    assert contents(tmp_path / "new") == before
    fleet(tmp_path / "old", [100, 200, 300])
    assert main(command) == 2
    assert "must be new or empty, or hold these same files" in capsys.readouterr().err
    assert contents(tmp_path / "new") == before


def test_new_folders_among_the_old_files_and_damaged_files_are_refused(tmp_path):
    old = fleet(tmp_path / "old", [100, 200])
    for output in (old, old / "new", tmp_path):
        with pytest.raises(TraceError, match=r"the new folder must not contain the old files"):
            compact(old, output)
    with pytest.raises(TraceError, match="recordings must be files, got a trace"):
        compact(recording(3, 1, 0), tmp_path / "new")
    path = old / "host-1" / "1.parquet"
    content = path.read_bytes()
    path.write_bytes(content[:300] + bytes(100) + content[400:])
    with pytest.raises(TraceError, match=r"1\.parquet: the file is corrupt"):
        compact(old, tmp_path / "new")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["old"]


def test_a_killed_compaction_leaves_no_folder_and_the_next_one_is_complete(tmp_path):
    old = fleet(tmp_path / "old", [300] * 9)
    code = (
        "import sys, time\nfrom latprof.io import compact as m\n"
        "m.MOST_RECORDINGS = 3\n"
        "m.compact(sys.argv[1], sys.argv[2], progress=lambda *_: (print(flush=True), "
        "time.sleep(0.3)))"
    )
    for lines in (1, 7):
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(old), str(tmp_path / "new")], stdout=subprocess.PIPE
        )
        for _ in range(lines):
            process.stdout.readline()
        if lines == 7:
            with pytest.raises(TraceError, match="another process is writing this folder"):
                compact(old, tmp_path / "new")
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        assert not (tmp_path / "new").exists()
    compact(old, tmp_path / "new")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["new", "old"]
    check_equal(report_of(tmp_path / "new").profile, report_of(old).profile)


def test_a_file_that_another_tool_has_rewritten_says_so(tmp_path):
    old = fleet(tmp_path / "old", [100, 200, 50])
    compact(old, tmp_path / "new")
    (path,) = (tmp_path / "new").glob("*.parquet")
    table = pq.read_table(path)
    pq.write_table(table, path, row_group_size=40)
    profile = latprof.analyze(path)
    assert profile.frames == latprof.analyze(old).frames
    assert profile.files == 1
    assert any("another program has rewritten a file with several" in s for s in profile.reading)
    pq.write_table(table.slice(0, 120), path)
    assert any("rows were taken out" in s for s in latprof.analyze(path).reading)


def test_metadata_that_does_not_fit_the_rows_is_refused(tmp_path):
    from latprof.io.writer import Writer

    trace = recording(10, 1, 0)
    own = {"rows": 5, "start": 0, "meta": {}}
    for members, words in (
        ({"row_group": 100, "each": [own]}, "must have the 10 rows of the file, got 5"),
        ({"row_group": 100, "each": []}, "must have the 10 rows of the file, got 0"),
        (
            {"row_group": 100, "each": [own, own | {"meta": {"lost": -1}}]},
            "metadata 'lost' must be an integer",
        ),
    ):
        with Writer(tmp_path / "t.parquet", WEB, {"members": members}) as writer:
            writer.write(trace.columns)
        with pytest.raises(TraceError, match=rf"t\.parquet: .*{words}"):
            latprof.analyze(tmp_path / "t.parquet")
    for members in (
        {"row_group": 0, "each": []},
        {"each": [own]},
        7,
        {"row_group": 1, "each": [1]},
    ):
        with pytest.raises(TraceError, match="metadata 'members' must be an object"):
            Writer(tmp_path / "t.parquet", WEB, {"members": members})


def test_the_list_of_old_files_is_json(tmp_path):
    old = fleet(tmp_path / "old", [10, 20])
    compact(old, tmp_path / "new")
    content = json.loads((tmp_path / "new" / "compacted.json").read_bytes())
    sizes = [[str(path), path.stat().st_size] for path in sorted(old.rglob("*.parquet"))]
    assert content == {"files": sizes}


def test_hosts_in_one_file_are_kept_apart(tmp_path, capsys):
    old = fleet(tmp_path / "old", [400] * 6)
    compact(old, tmp_path / "new")
    found = []
    for folder in (old, tmp_path / "new"):
        result = latprof.fleet(folder)
        found.append({each.host: (each.recordings, each.frames) for each in result.hosts})
        assert main(["report", str(folder), "--by", "host", "--format", "json"]) == 0
        found.append(json.loads(capsys.readouterr().out)["hosts"])
    assert found[:2] == found[2:]
    assert found[0].keys() == {"host-0", "host-1", "host-2"}
