"""Files behind URLs: read, written, listed and refused as local ones are."""

import contextlib
import json
import socket
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import QUOTED, SECRET, memory, put, s3, upload
from test_parts import SETTINGS, check_equal, saved
from traces import MIC, mic

import latprof
from latprof import Trace, TraceError
from latprof.cli.main import main
from latprof.io.dataset import Dataset
from latprof.io.find import find_files
from latprof.io.reader import Reader
from latprof.io.remote import REQUESTS
from latprof.parts import Workers
from latprof.report.report import Report


def long_trace(frames, begin=0):
    """Return frames with a source and a tag, a tenth of a second apart."""
    starts = (np.arange(frames) + begin) * 100_000_000
    rng = np.random.default_rng(frames)
    marks = {mark: starts + i * 1_000 for i, mark in enumerate(MIC.marks)}
    marks["end"] = marks["end"] + rng.integers(0, 90_000, frames)
    source = np.where(np.arange(frames) % 3, "in", "out")
    return Trace(MIC, frame_id=np.arange(frames) + begin, marks=marks, size=7, source=source)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Make files of several row groups in two folders; a name has characters to be quoted."""
    top = tmp_path_factory.mktemp("traces")
    begin = 0
    for name, frames in (("a/10.parquet", 20_000), ("a/2.parquet", 50), ("b/x y%.parquet", 9_000)):
        (top / name).parent.mkdir(exist_ok=True)
        from latprof.io.writer import Writer

        trace = long_trace(frames, begin)
        with Writer(top / name, MIC, {"host": name[0]}, row_group=6_000) as writer:
            writer.write(trace.columns)
        begin += frames
    return top


@pytest.fixture(scope="module")
def store():
    """Run an S3 server on loopback."""
    with s3() as address:
        yield address


def as_json(where, **options):
    return Report(latprof.analyze(where, order=True, by="source", **options)).to_dict()


def message_of(call, *arguments):
    """Return the message of an error, which is one line."""
    with pytest.raises(latprof.LatprofError) as caught:
        call(*arguments)
    text = str(caught.value)
    assert text.isprintable()
    assert caught.value.__cause__ is None
    return text


# -- any file system -------------------------------------------------------------------------------


def test_files_folders_and_globs_behind_urls_are_those_of_a_local_folder(folder):
    url = memory("day")
    put(folder, url)
    local = [str(path.relative_to(folder)) for path in find_files(folder)]
    assert local == ["a/10.parquet", "a/2.parquet", "b/x y%.parquet"]
    shown = ["a/10.parquet", "a/2.parquet", "b/x%20y%25.parquet"]
    for pattern, expected in (
        ("", shown),
        ("/", shown),
        ("/a", shown[:2]),
        ("/a/2.parquet", shown[1:2]),
        ("/*/*.parquet", shown),
        ("/**/[0-9]*.parquet", shown[:2]),
        ("/**/2.parquet", shown[1:2]),
        ("/?/2.parquet", None),  # a query, not a glob
        ("/c", None),
        ("/*.csv", None),
    ):
        if expected is None:
            assert message_of(find_files, url + pattern).startswith("memory://day")
        else:
            assert find_files(url + pattern) == [f"{url}/{name}" for name in expected]
    assert as_json(url) == as_json(folder)
    assert as_json([folder / "a", f"{url}/b"]) == as_json(folder)


def test_a_file_url_is_a_local_path(folder, tmp_path):
    assert find_files(f"file://{folder}/b/x%20y%25.parquet") == [folder / "b" / "x y%.parquet"]
    assert as_json(f"file://{folder}") == as_json(folder)
    mic(3).save(f"file://{tmp_path}/m%20c.parquet")
    assert len(latprof.read(tmp_path / "m c.parquet")) == 3
    profile = latprof.analyze(folder)
    profile.save(f"file://{tmp_path}/p.latprof")
    assert latprof.load_profile(f"file://{tmp_path}/p.latprof").frames == 29_050


def test_traces_profiles_and_tables_are_written_behind_urls(tmp_path, capsys):
    url = memory("out")
    trace = long_trace(500)
    trace.save(f"{url}/t.parquet")
    assert latprof.read(f"{url}/t.parquet").marks["end"].tolist() == trace.marks["end"].tolist()
    trace.to_csv(f"{url}/t.csv")
    assert latprof.read(f"{url}/t.csv").pipeline == MIC  # of the file beside it
    latprof.analyze(trace).save(f"{url}/p.latprof")
    assert latprof.load_profile(f"{url}/p.latprof").frames == 500
    assert main(["merge", f"{url}/p.latprof", f"{url}/p.latprof", "-o", f"{url}/m.latprof"]) == 0
    assert main(["export", f"{url}/t.parquet", "-o", f"{url}/again.csv"]) == 0
    capsys.readouterr()
    assert main(["report", f"{url}/m.latprof", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["frames"] == 1_000
    assert main(["compare", f"{url}/t.parquet", "--to", f"{url}/t.parquet"]) == 0


def test_folders_and_globs_of_saved_profiles_behind_urls_are_merged(tmp_path, capsys):
    url = memory("profiles")
    for i in range(3):
        latprof.analyze(long_trace(100 + i)).save(f"{url}/day/{i}.latprof")
    for where in (f"{url}/day", f"{url}/day/", f"{url}/*/*.latprof"):
        assert main(["merge", where, "-o", str(tmp_path / "m.latprof")]) == 0
        assert "303 frames of 3 parts" in capsys.readouterr().out
        assert [each.frames for each in latprof.fleet(where).hosts] == [303]


def test_a_damaged_file_behind_a_url_is_named(folder):
    url = memory("damaged")
    put(folder / "a", url)
    import fsspec

    system = fsspec.filesystem("memory")
    whole = system.cat("/damaged/10.parquet")
    for content, words in (
        (whole[:-9], "the end of the file is missing"),
        (b"", r"the file is empty \(0 bytes\)"),
        (b"name,time\n" * 9, "the file must be Parquet"),
        (whole[:5_000] + bytes(300) + whole[5_300:], "the file is corrupt"),
        (whole[:-200] + b"\1" + whole[-199:], "the file is corrupt"),
    ):
        system.pipe("/damaged/10.parquet", content)
        with pytest.raises(TraceError, match=rf"^{url}/10\.parquet: {words}"):
            latprof.analyze(url)


def test_many_small_row_groups_are_fetched_together(tmp_path):
    from latprof.io.writer import Writer

    with Writer(tmp_path / "t.parquet", MIC, row_group=100) as writer:
        writer.write(long_trace(5_000).columns)
    url = memory("small")
    put(tmp_path, url)
    REQUESTS.take()
    assert as_json(url) == as_json(tmp_path)
    assert sum(requests for requests, _ in REQUESTS.take().values()) < 60


# -- errors ----------------------------------------------------------------------------------------


def test_unknown_schemes_and_missing_packages_are_one_line():
    for url, words in (
        ("foo://x/y", r"^foo://x/y: Protocol not known: foo; use a scheme that pyarrow or fsspec"),
        ("s3://", "^s3://: the URL must have a bucket, got none; use s3://bucket/file"),
        ("s3:///x", "^s3:///x: the URL must have a bucket"),
        ("az://container/x", "^az://container/x: Install adlfs"),
        ("memory://none/x", "^memory://none/x: file not found"),
    ):
        for call in (latprof.analyze, latprof.load_profile):
            with pytest.raises(latprof.LatprofError, match=words):
                call(url)
        if not url.startswith("memory"):
            with pytest.raises(TraceError, match=words):
                mic(1).save(url)


def test_a_missing_fsspec_is_named_with_its_extra(monkeypatch):
    from latprof.io import remote

    def missing(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    real = remote.import_module
    monkeypatch.setattr(
        remote, "import_module", lambda name: missing(name) if "fsspec" in name else real(name)
    )
    text = message_of(latprof.analyze, "memory://x/y")
    assert text == ("memory://x/y: needs the package fsspec; pip install 'latprof[remote]'")


def test_secrets_of_a_url_are_in_no_message(store, capsys):
    for url in (
        f"s3://AKIATESTID:{QUOTED}@none/a.parquet?scheme=http&endpoint_override={store}",
        f"foo://AKIATESTID:{SECRET}@bucket/a.parquet",
        f"foo://bucket/a b.parquet?secret_key={SECRET}&region=x",
        f"memory://bucket/a.parquet?session_token={SECRET}",
    ):
        texts = [message_of(latprof.read, url), message_of(latprof.load_profile, url)]
        for command in (["report", url], ["causes", url, "--no-such", url], ["merge", url]):
            with contextlib.suppress(SystemExit):
                assert main(command) == 2
            texts.append(capsys.readouterr().err)
        for text in texts:
            for secret in (SECRET, QUOTED, "secret", "AKIATESTID"):
                assert secret not in text


# -- S3 --------------------------------------------------------------------------------------------


def test_s3_gives_what_local_files_give_with_few_requests(folder, store, capsys):
    upload(folder, "s3://traces")
    local = as_json(folder)
    for url in ("s3://traces", "s3://traces/", "s3://traces/*/*.parquet"):
        assert as_json(url) == local
    explicit = f"s3://testing:{QUOTED}@traces/?scheme=http&endpoint_override={store}"
    assert as_json(explicit) == local
    with Workers(2) as workers:
        assert as_json("s3://traces", executor=workers) == local
    REQUESTS.take()
    latprof.analyze("s3://traces/a/10.parquet", by="source")
    ((requests, size),) = REQUESTS.take().values()
    with Reader(folder / "a" / "10.parquet") as reader:
        columns = 1 + len(MIC.marks) + 2
        assert reader.num_batches == 4
    assert requests <= 1.05 * 4 * columns + 3
    assert size < 1.2 * (folder / "a" / "10.parquet").stat().st_size + 65_536
    assert main(["report", "s3://traces/a/", "--verbose"]) == 0
    err = capsys.readouterr().err
    assert "latprof: s3://traces/a/10.parquet: " in err
    assert SECRET not in err


@settings(max_examples=5, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 900), min_size=1, max_size=4),
    row_group=st.integers(50, 800),
)
def test_frames_cut_at_random_give_the_same_profile_from_s3(
    store, tmp_path_factory, lengths, row_group
):
    top = tmp_path_factory.mktemp("cut")
    paths = saved(top, lengths, row_group)
    upload(top, f"s3://traces/{top.name}")
    urls = [f"s3://traces/{top.name}/{path.name}" for path in paths]
    whole = latprof.analyze(paths, by="source", **SETTINGS)
    check_equal(latprof.analyze(urls[::-1], by="source", **SETTINGS), whole)


def test_only_the_columns_that_are_needed_are_read(store, tmp_path):
    big = long_trace(60_000)
    rng = np.random.default_rng(1)
    noise = Trace(
        MIC,
        frame_id=big.frame_id,
        marks=big.marks,
        tags={f"tag{i}": rng.integers(0, 2**62, 60_000) for i in range(4)},
    )
    noise.save("s3://traces/n/n.parquet")
    noise.save(tmp_path / "n.parquet")
    REQUESTS.take()
    assert latprof.analyze("s3://traces/n").frames == 60_000
    assert (
        sum(size for _, size in REQUESTS.take().values())
        < 0.5 * (tmp_path / "n.parquet").stat().st_size
    )


def test_what_s3_refuses_is_one_line(store):
    for url, words in (
        ("s3://none/", "The specified bucket does not exist; check the name of the bucket"),
        ("s3://none/a.parquet", "^s3://none: the bucket does not exist; check its name"),
        ("s3://traces/none.parquet", "^s3://traces/none.parquet: file not found"),
        ("s3://traces/none*.parquet", "no file matches"),
    ):
        with pytest.raises(TraceError, match=words):
            latprof.analyze(url)
    with pytest.raises(TraceError, match=r"^s3://none/a.parquet: .*bucket does not exist; check"):
        mic(2).save("s3://none/a.parquet")


@pytest.mark.slow  # pyarrow tries for six seconds
def test_a_refused_connection_is_one_line(store):
    refused = "s3://traces/x.parquet?scheme=http&region=us-east-1&endpoint_override=127.0.0.1:1"
    with pytest.raises(TraceError, match=r"NETWORK_CONNECTION.*; check the address of the store"):
        latprof.analyze(refused)


@pytest.mark.slow  # as above, several times
def test_a_connection_that_breaks_is_an_error_and_never_other_numbers(folder, store):
    """A proxy in front of the store ends each connection after some bytes."""
    upload(folder, "s3://traces/cut")
    with breaking_proxy(store, after=30_000) as address:
        url = f"s3://traces/cut/?scheme=http&region=us-east-1&endpoint_override={address}"
        with pytest.raises(TraceError, match=r"^s3://traces/cut/.*; "):
            latprof.analyze(url)
    assert as_json("s3://traces/cut") == as_json(folder)


@contextlib.contextmanager
def breaking_proxy(target, after):
    """Run a proxy that closes a connection once `after` bytes of answers have passed."""
    host, _, port = target.rpartition(":")
    listening = socket.create_server(("127.0.0.1", 0))
    opened = [listening]

    def pump(source, sink, most):
        passed = 0
        with contextlib.suppress(OSError):
            while (data := source.recv(4_096)) and passed + len(data) <= most:
                sink.sendall(data)
                passed += len(data)
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def serve():
        with contextlib.suppress(OSError):
            while True:
                client, _ = listening.accept()
                server = socket.create_connection((host, int(port)))
                opened.extend((client, server))
                for pair in ((client, server, 2**60), (server, client, after)):
                    threading.Thread(target=pump, args=pair, daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield "{}:{}".format(*listening.getsockname())
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()
        for each in opened:
            each.close()


def test_a_dataset_names_files_without_secrets(store):
    mic(3).save("s3://traces/one/m.parquet")
    url = f"s3://testing:{QUOTED}@traces/one/?scheme=http&endpoint_override={store}"
    (member,) = Dataset(url).members
    assert member.name == "s3://traces/one/m.parquet"
    report = str(Report(latprof.analyze(url), origin="")) + str(Report(url))
    assert "read from s3://traces/one/" in report
    assert "secret" not in report
    saved = latprof.analyze(url)
    saved.save("s3://traces/p.latprof")
    assert "secret" not in repr(latprof.load_profile("s3://traces/p.latprof"))
