"""Rotated trace files that are moved to an object store while a profiler records."""

import threading
import time

import pytest
from profiling import MIC, Log
from stores import memory

import latprof
from latprof import ProfilerError
from latprof.recorder import uploads
from latprof.recorder.profiler import Profiler
from latprof.recorder.uploads import NOT_SENT, SENT


def record(profiler, first, frames):
    for i in range(first, first + frames):
        with profiler.frame(i):
            pass


def test_rotated_files_are_moved_to_the_store_when_they_are_closed(tmp_path):
    url = memory("moved")
    with Profiler(MIC, path=tmp_path / "t.parquet", rotate="50ms", upload_to=f"{url}/") as profiler:
        for part in range(4):
            record(profiler, part * 100, 100)
            time.sleep(0.1)
    assert list(tmp_path.iterdir()) == []
    profile = latprof.analyze(url)
    assert profile.frames == 400
    assert profile.files >= 3
    assert profiler.accounts.notes == {SENT: profile.files}
    parts = [member.meta["part"] for member in latprof.io.dataset.Dataset(url).members]
    assert parts == list(range(1, profile.files + 1))


def test_files_that_cannot_be_sent_stay_and_are_counted(tmp_path, monkeypatch):
    def refuse(file, url):
        raise OSError("the store is full")

    monkeypatch.setattr(uploads, "send", refuse)
    log, url = Log(), memory("full")
    with Profiler(
        MIC, path=f"{tmp_path}/", rotate="50ms", upload_to=f"{url}/", logger=log.logger
    ) as profiler:
        for part in range(3):
            record(profiler, part * 100, 100)
            time.sleep(0.1)
    files = sorted(tmp_path.iterdir())
    assert latprof.analyze(tmp_path).frames == 300
    assert profiler.accounts.notes == {NOT_SENT: len(files)}
    (line,) = [line for line in log.lines if "not sent" in line]
    assert line == (
        "WARNING trace files not sent: to memory://full/: the store is full; the files stay in "
        "their folder, and recording goes on"
    )


def test_a_store_that_hangs_holds_nothing_up_and_few_files_wait(tmp_path, monkeypatch):
    going = threading.Event()
    real = uploads.send

    def wait(file, url):
        going.wait(30)
        real(file, url)

    monkeypatch.setattr(uploads, "send", wait)
    monkeypatch.setattr(uploads, "MOST_WAITING", 2)
    monkeypatch.setattr(uploads, "LAST_S", 0.2)
    url = memory("hangs")
    profiler = Profiler(MIC, path=f"{tmp_path}/", rotate="30ms", upload_to=f"{url}/")
    profiler.start()
    for part in range(6):
        record(profiler, part * 100, 100)
        time.sleep(0.1)
    before = time.monotonic()
    profiler.stop()
    assert time.monotonic() - before < 5
    files = list(tmp_path.iterdir())
    assert latprof.analyze(tmp_path).frames == 600
    assert profiler.accounts.notes == {NOT_SENT: len(files)}
    going.set()  # the file that was being sent arrives after all
    deadline = time.monotonic() + 20
    while profiler.accounts.notes.get(SENT) != 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert profiler.accounts.notes == {NOT_SENT: len(files) - 1, SENT: 1}
    assert latprof.analyze([tmp_path, url]).frames == 600


def test_wrong_urls_are_refused(tmp_path):
    for url, words in (
        ("s3://bucket/traces", r"upload_to must be the URL of a folder, such as 's3://bucket/"),
        ("traces/", r"upload_to must be the URL of a folder, .*, got 'traces/'"),
        ("foo://x/", "upload_to foo://x/: Protocol not known: foo"),
        (7, "upload_to must be a non-empty path"),
    ):
        with pytest.raises(ProfilerError, match=words):
            Profiler(MIC, path=tmp_path / "t.parquet", upload_to=url)
    with pytest.raises(ProfilerError, match=r"upload_to must come with a path, got 's3://b/'"):
        Profiler(MIC, upload_to="s3://b/")
