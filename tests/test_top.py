"""``latprof top``: what it reads, what it shows, and how it behaves in a real terminal."""

import itertools
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from needs import require_program
from rich.console import Console
from rings import claim, write
from strategies import CHAIN, simple

from latprof import Pipeline, Profiler, Trace, recover
from latprof.accounts import InFlight
from latprof.cli.main import main
from latprof.errors import ProfilerError, TraceError
from latprof.frames import Labels
from latprof.ring.ring import Ring
from latprof.thresholds import Thresholds
from latprof.top import feeds
from latprof.top.feeds import FolderFeed, RingFeed, Update, feed_of
from latprof.top.live import Live
from latprof.top.screen import screen, sparkline

MS = 1_000_000
MIC = Pipeline.chain("mic", "decode", "play")


def record(path, frames, *, first=0, capacity=16, ms=1):
    with Profiler(MIC, capacity=capacity, ring=path) as profiler:
        for i in range(first, first + frames):
            begin = (i + 1) * 10 * MS
            marks = [begin, begin, begin + MS // 2, begin + ms * MS]
            profiler.record(i, marks, size=1, source="input")
    return profiler


# -- feeds --------------------------------------------------------------------------------------


def ids(update):
    return [frame_id for batch in update.batches for frame_id in batch.frame_id.tolist()]


def test_a_ring_feed_returns_new_frames_and_counts_lost_ones(tmp_path):
    path = tmp_path / "mic.ring"
    with Profiler(MIC, capacity=4, ring=path) as profiler:
        feed = feed_of(str(path))
        assert (ids(feed.read()), feed.read().pipeline) == ([], MIC)
        for i in range(3):
            profiler.record(i, [MS, MS, 2 * MS, 3 * MS])
        update = feed.read()
        assert (ids(update), update.lost, update.status) == ([0, 1, 2], 0, "recording")
        assert ids(feed.read()) == []
        for i in range(3, 10):
            profiler.record(i, [MS, MS, 2 * MS, 3 * MS])
        update = feed.read()
        assert (ids(update), update.lost) == ([6, 7, 8, 9], 3)
    assert feed.read().status == "stopped"
    path.unlink()
    assert feed.read().status == "the ring file is gone"
    feed.close()


def test_frames_overwritten_before_the_first_read_do_not_count_as_lost(tmp_path):
    record(tmp_path / "mic.ring", 50)
    feed = RingFeed(tmp_path / "mic.ring")
    update = feed.read()
    assert (ids(update), update.lost) == (list(range(34, 50)), 0)
    feed.close()


def test_a_frame_written_during_the_first_read_is_not_lost(tmp_path):
    with Profiler(MIC, capacity=16, ring=tmp_path / "mic.ring") as profiler:
        for i in range(3):
            profiler.record(i, [MS, MS, 2 * MS, 3 * MS])
        feed = RingFeed(tmp_path / "mic.ring")
        read, reads = feed._reader._bytes, []

        def meanwhile(at, count):
            raw = read(at, count)
            reads.append(at)
            if len(reads) == 3:  # after the names and rows were read
                profiler.record(3, [MS, MS, 2 * MS, 3 * MS])
            return raw

        feed._reader._bytes = meanwhile
        reads_of_feed = [feed.read(), feed.read()]
        assert len(reads) > 2
    # the last frame is found once, by either call
    assert [i for update in reads_of_feed for i in ids(update)] == [0, 1, 2, 3]
    assert [update.lost for update in reads_of_feed] == [0, 0]
    feed.close()


KILLED = """
import os, sys, time
from latprof import Pipeline, Profiler
profiler = Profiler(Pipeline.chain("mic", "decode", "play"), ring=sys.argv[1], critical="140ms")
profiler.start()
now = time.perf_counter_ns()
profiler.record(7, [now - 200_000_000, now - 3, now - 2, now])
print("ready", flush=True)
sys.stdin.read()
"""


def test_a_silent_process_is_recording_and_a_killed_one_has_ended(tmp_path, capsys):
    path = tmp_path / "my docs.ring"
    call = [sys.executable, "-c", KILLED, path]
    with subprocess.Popen(call, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        try:
            assert writer.stdout.readline() == b"ready\n"
            feed = RingFeed(path)
            update = feed.read()
            assert (ids(update), update.status, update.remedy) == ([7], "recording", "")
            assert update.thresholds == Thresholds(critical_ns=140 * MS)
            assert feed.read().status == "recording"
        finally:
            writer.kill()
    update = feed.read()
    assert (update.status, update.lost) == ("the process has ended", 0)
    assert update.remedy == f"latprof recover '{path}' -o crash.parquet"
    feed.close()
    assert main(["top", str(path), "--once"]) == 0
    text = capsys.readouterr().out
    one_line = " ".join(text.split())
    assert f"the process has ended: latprof recover '{path}' -o crash.parquet" in one_line
    assert "recording" not in text
    assert "1 above 140 ms" in text
    assert "threshold" not in text
    # a trace has no thresholds, recovered or not
    assert "thresholds" not in recover(path).meta


def test_a_ring_without_thresholds_in_its_metadata(tmp_path, capsys):
    ring = Ring(MIC, 4, path=tmp_path / "old.ring", metadata={"pid": 1})
    write(ring, claim(ring), 1, (MS, MS, 2 * MS, 3 * MS))
    record(tmp_path / "new.ring", 1)
    assert main(["top", str(tmp_path / "old.ring")]) == 0
    assert "thresholds unknown; --critical 50ms" in capsys.readouterr().out
    assert main(["top", str(tmp_path / "new.ring")]) == 0
    assert "no threshold; --critical 50ms" in capsys.readouterr().out


def test_options_override_the_thresholds_of_the_recorder(tmp_path, capsys):
    with Profiler(MIC, ring=tmp_path / "mic.ring", warning="1ms", critical="9ms") as profiler:
        profiler.record(1, [MS, MS, 2 * MS, 6 * MS])
    assert main(["top", str(tmp_path / "mic.ring")]) == 0
    assert "1 above 1 ms" in capsys.readouterr().out
    assert main(["top", str(tmp_path / "mic.ring"), "--critical", "4ms"]) == 0
    assert "1 above 4 ms" in capsys.readouterr().out


def test_thresholds_of_single_spans(tmp_path, capsys):
    limits = {"decode": "2ms", "end_to_end": "50ms"}
    path = tmp_path / "mic.ring"
    with Profiler(MIC, ring=path, warning={"play": "1ms"}, critical=limits) as profiler:
        # start, decode, play, end: 1 exceeds none, 2 and 3 one stage, 4 both and end_to_end
        profiler.record(1, [MS, 11 * MS, 13 * MS, 14 * MS])
        profiler.record(2, [MS, 11 * MS, 13 * MS + 1, 14 * MS])
        profiler.record(3, [MS, 3 * MS, 4 * MS, 6 * MS])
        profiler.record(4, [MS, MS, 5 * MS, 60 * MS])
    update = RingFeed(path).read()
    spans = {"decode": Thresholds(critical_ns=2 * MS), "play": Thresholds(warning_ns=MS)}
    assert update.thresholds == Thresholds(critical_ns=50 * MS, spans=spans)
    live = Live(MIC, update.thresholds)
    for columns in update.batches:
        live.add(columns)
    assert live.above == {"warning": 1, "critical": 2}
    assert [(v.frame_id, v.level, v.spans[0][0]) for v in live.slow_frames] == [
        (2, "critical", "decode"),
        (3, "warning", "play"),
        (4, "critical", "play"),
    ]
    assert live.slow_frames[2].spans == (("play", 55 * MS), ("decode", 4 * MS))
    assert main(["top", str(path)]) == 0
    text = capsys.readouterr().out
    assert "2 critical, 1 warning" in text
    assert "Last frames above a threshold" in text
    assert re.search(r"frame 3  5\.00 ms  play 2\.00 ms, ", text)


@pytest.mark.parametrize("thresholds", [3, {"critical": 3}, {"critical": {"end_to_end": -1}}])
def test_invalid_thresholds_in_metadata_are_errors(tmp_path, thresholds):
    with pytest.raises(ProfilerError, match="metadata 'thresholds' must be"):
        Ring(MIC, 4, path=tmp_path / "mic.ring", metadata={"thresholds": thresholds})


def test_a_ring_that_is_replaced_is_read_again(tmp_path):
    path = tmp_path / "mic.ring"
    record(path, 3)
    feed = RingFeed(path)
    assert ids(feed.read()) == [0, 1, 2]
    record(path, 2, first=100)
    assert ids(feed.read()) == [100, 101]
    assert ids(feed.read()) == []
    feed.close()


def save(path, first, count, *, pipeline=MIC):
    start = np.arange(first, first + count) * 10 * MS
    marks = {mark: start + i * MS for i, mark in enumerate(pipeline.marks)}
    trace = Trace(pipeline, frame_id=np.arange(first, first + count), marks=marks, source="in")
    trace.meta["lost"] = 2
    trace.save(path)


def test_a_folder_feed_reads_each_file_once(tmp_path):
    feed = feed_of(str(tmp_path))
    update = feed.read()
    assert (update.batches, update.pipeline, update.status) == ([], None, "no trace file yet")
    save(tmp_path / "a.parquet", 0, 3)
    update = feed.read()
    assert (ids(update), update.lost, update.pipeline, update.status) == (
        [0, 1, 2],
        2,
        MIC,
        "1 file",
    )
    assert ids(feed.read()) == []
    (tmp_path / "deeper").mkdir()
    save(tmp_path / "deeper" / "b.parquet", 3, 2)
    assert ids(feed.read()) == [3, 4]


def test_only_the_newest_of_many_old_files_are_read(tmp_path, monkeypatch):
    for i in range(10):
        save(tmp_path / f"{i}.parquet", 10 * i, 10)
        os.utime(tmp_path / f"{i}.parquet", (i, i))
    monkeypatch.setattr(feeds, "FIRST_ROWS", 25)
    feed = FolderFeed(tmp_path)
    update = feed.read()
    assert (ids(update), update.lost, update.status) == (list(range(70, 100)), 0, "10 files")
    save(tmp_path / "new.parquet", 100, 40)
    update = feed.read()
    assert (ids(update), update.lost) == (list(range(100, 140)), 2)


def test_unreadable_files_are_reported_and_the_others_are_read(tmp_path):
    save(tmp_path / "a.parquet", 0, 2)
    feed = FolderFeed(tmp_path)
    feed.read()
    (tmp_path / "b.parquet").write_bytes(b"no parquet")
    save(tmp_path / "c.parquet", 0, 2, pipeline=Pipeline.chain("another", "x"))
    save(tmp_path / "d.parquet", 2, 2)
    update = feed.read()
    assert ids(update) == [2, 3]
    assert "c.parquet has another pipeline and is left out" in update.status


def test_a_trace_file_or_a_missing_ring_is_an_error(tmp_path):
    save(tmp_path / "a.parquet", 0, 1)
    with pytest.raises(
        TraceError,
        match=r"must be a ring file or a folder, got the trace file .*a.parquet; use",
    ):
        feed_of(str(tmp_path / "a.parquet"))
    with pytest.raises(TraceError, match=r"none\.ring cannot be read"):
        feed_of(str(tmp_path / "none.ring"))
    (tmp_path / "text").write_text("hello")
    with pytest.raises(TraceError, match="text"):
        feed_of(str(tmp_path / "text"))


# -- the screen ---------------------------------------------------------------------------------


def shown(live, *, lost=0, status="recording", path="mic.ring", now=0, width=100, height=40):
    update = Update([], 0, status, None if live is None else live.pipeline)
    return shown_update(live, update, lost=lost, path=path, now=now, width=width, height=height)


def shown_update(live, update, *, lost=0, path="mic.ring", now=0, width=100, height=40):
    console = Console(width=width, highlight=False, color_system=None, _environ={})
    with console.capture() as capture:
        console.print(screen(live, update, lost, path=path, now_ns=now, width=width, height=height))
    return capture.get()


def lively(**settings):
    live = Live(CHAIN, Thresholds(20 * MS, 50 * MS), **settings)
    rows = [(i * 10 * MS,) * 4 + (i * 10 * MS + (90 if i == 7 else 1) * MS,) for i in range(100)]
    live.add(simple(CHAIN, rows, source=Labels.constant("mic \x1b[31m", 100)))
    return live


def test_screen_shows_rate_percentiles_lost_and_slow_frames():
    text = shown(lively(), lost=3, now=10_000 * MS)
    assert text.startswith("mic  recording, no frame for 9.01 s  mic.ring\n")
    assert "101 frames/s, 100 frames, 3 lost, 1 above 50 ms" in text
    row = re.search(r"^end_to_end +(.*)$", text, re.M)[1]
    assert row.split()[:6] == ["1.00", "ms", "1.00", "ms", "90.0", "ms"]
    assert "█" in row
    assert re.search(r"00:00:00\.160  frame 7 mic \\x1b\[31m  90\.0 ms", text)
    assert "\x1b" not in text
    assert text.rstrip().endswith("q quits")


def test_time_since_the_last_frame_is_shown():
    assert "recording, no frame for 41.0 s" in shown(lively(), now=42 * 1_000 * MS - 9 * MS)


def test_folder_of_old_files_is_not_reported_as_a_silent_recorder(tmp_path):
    save(tmp_path / "a.parquet", 0, 3)
    update = FolderFeed(tmp_path).read()
    live = Live(MIC, Thresholds())
    live.add(update.batches[0])
    text = shown_update(live, update, now=live.last_end_ns + 3 * 3_600_000_000_000)
    assert text.startswith("mic  1 file, newest frame 3.00 h ago  mic.ring\n")


@pytest.mark.parametrize(("width", "height"), [(80, 24), (60, 20), (200, 60), (100, 20)])
@pytest.mark.parametrize("folders", [12, 13, 9])  # lines are wrapped between words
def test_the_command_to_recover_is_never_cut(width, height, folders):
    remedy = "latprof recover /dev/shm/" + "long/" * folders + "mic.ring -o crash.parquet"
    update = Update([], 0, "the process has ended", CHAIN, remedy, Thresholds())
    text = shown_update(lively(), update, now=40_000 * MS, width=width, height=height)
    assert remedy.replace(" ", "") in re.sub(r"\s", "", text)
    assert "last frame 39.0 s ago" in " ".join(text.split())
    assert len(text.split("\n")) - 1 <= height


def in_flight(frame_id, age_ms, **fields):
    marks = {"start": 0, "decode": MS}
    given = {"source": "input", "size": None, "tags": {}, "stage": "decode", "thread": 4711}
    return InFlight(frame_id, marks=marks, until_ns=age_ms * MS, **(given | fields))


def test_frames_that_are_in_work_for_long_are_shown():
    frames = [
        in_flight(3_000, 5_800, tags={"endpoint": "/cart\x1b"}),
        in_flight(3_001, 101, source=None, thread=0, stage=None),
        in_flight(3_002, 21),  # above a threshold
        in_flight(3_003, 20),  # neither long nor above a threshold
    ]
    update = Update([], 0, "recording", CHAIN, in_flight=frames)
    text = shown_update(lively(), update)
    assert "0 lost, 4 in flight" in text
    assert [line for line in text.split("\n") if "in work" in line] == [
        "frame 3000 in work for 5.80 s  (decode 5.80 s, input, /cart\\x1b, thread 4711)",
        "frame 3001 in work for 101 ms  (after decode 100 ms)",
        "frame 3002 in work for 21.0 ms  (decode 20.0 ms, input, thread 4711)",
    ]
    # without a finished frame, too
    assert "frame 3000 in work for 5.80 s" in shown_update(None, update)


def test_all_frames_in_flight_of_a_process_that_ended_are_shown_up_to_a_limit():
    frames = [in_flight(n, 1) for n in range(8)]
    update = Update([], 0, "the process has ended", CHAIN, "latprof recover x", in_flight=frames)
    text = shown_update(lively(), update)
    lines = [line for line in text.split("\n") if "was in work for 1.00 ms" in line]
    assert [line.split()[1] for line in lines] == ["0", "1", "2", "3", "4"]
    assert "and 3 more frames" in text
    for height in (6, 10, 14, 20, 24):
        lines = shown_update(lively(), update, height=height, width=40).split("\n")
        assert max(map(len, lines)) <= 40
        if height >= 14:
            assert len(lines) - 1 <= height, height


def test_numbers_by_the_values_of_a_tag():
    live = Live(CHAIN, Thresholds(20 * MS, 50 * MS), by="endpoint")
    rows = [(i * MS,) * 4 + (i * MS + (30 if i % 4 == 3 else 1) * MS,) for i in range(1_000)]
    columns = simple(CHAIN, rows)
    names = ["/cart", "/home", None, "/slow"]
    columns.tags["endpoint"] = Labels.encode(names[i % 4] for i in range(1_000))
    columns.weight = np.array([3 if i % 4 == 1 else 1 for i in range(1_000)], np.uint32)
    for part in (slice(400), slice(400, None)):
        live.add(columns.take(part))
    groups, count = live.groups(3)
    assert count == 4
    # by time in all: 250 frames of 30 ms, 750 of 1 ms, 250 of 1 ms
    assert [(group.name, group.numbers.count) for group in groups[:2]] == [
        ("/slow", 250),
        ("/home", 750),
    ]
    assert groups[0].numbers.p50 == 30 * MS
    assert groups[0].rate == pytest.approx(250 / 1.029, rel=0.01)
    update = Update([], 0, "recording", CHAIN)
    text = shown_update(live, update)
    found = re.findall(r"^(/\w+|\(none\)|endpoint) +(\S+)", text, re.M)
    assert [name for name, _ in found] == ["endpoint", "/slow", "/home", "(none)", "/cart"]
    text = shown_update(live, update, height=len(live.names) + 13)
    assert "and 2 more" in text
    for height in (10, 16, 20, 24, 30):
        assert len(shown_update(live, update, height=height).split("\n")) - 1 <= max(height, 14)


def test_a_column_that_the_frames_do_not_have_is_an_error(tmp_path, capsys):
    record(tmp_path / "mic.ring", 3)
    assert main(["top", str(tmp_path / "mic.ring"), "--once", "--by", "endpoint"]) == 2
    error = capsys.readouterr().err
    assert "by must be one of source, outcome, got 'endpoint'" in error
    assert main(["top", str(tmp_path / "mic.ring"), "--once", "--by", "source"]) == 0
    assert re.search(r"^input +\d", capsys.readouterr().out, re.M)


def test_a_folder_is_watched_by_a_tag(tmp_path, capsys):
    marks = {mark: np.arange(1, 4) * MS for mark in MIC.marks}
    trace = Trace(MIC, frame_id=[1, 2, 3], marks=marks, tags={"room": ["a", "b", "a"]})
    trace.save(tmp_path / "a.parquet")
    assert main(["top", str(tmp_path), "--once", "--by", "room"]) == 0
    assert re.search(r"^a +\S+ .*\nb +\S+ ", capsys.readouterr().out, re.M)


def test_the_screen_before_the_first_frame():
    text = shown(None, status="no trace file yet", path="a\x1bfolder")
    assert "waiting for frames" in text
    assert r"a\x1bfolder" in text


def test_without_thresholds_the_screen_names_the_option():
    assert "--critical 50ms" in shown(Live(CHAIN, Thresholds()))
    assert "none" in shown(Live(CHAIN, Thresholds(critical_ns=1)))


@pytest.mark.parametrize(("width", "height"), [(80, 24), (60, 14), (40, 10), (200, 60)])
def test_the_screen_fits_the_terminal(width, height):
    wide = Pipeline.chain("w" * 60, *(f"stage{i}" for i in range(3)))
    live = Live(wide, Thresholds(1, 2))
    live.add(simple(wide, [(0, 1, 2, 3, 50 * MS)] * 30))
    lines = shown(live, width=width, height=height, path="/long" * 40).split("\n")
    assert max(map(len, lines)) <= width
    if height >= 14:
        assert len(lines) - 1 <= height


def test_a_sparkline_is_proportional_to_its_values():
    assert sparkline([]) == ""
    assert sparkline([None, None]) == "  "
    assert sparkline([0, 0]) == "▁▁"
    assert sparkline([7, None, 14, 0]) == "▅ █▁"


# -- the command --------------------------------------------------------------------------------


def test_without_a_terminal_the_screen_is_printed_once(tmp_path, capsys):
    record(tmp_path / "mic.ring", 10, ms=30)
    assert main(["top", str(tmp_path / "mic.ring"), "--critical", "20ms"]) == 0
    text = capsys.readouterr().out
    assert "mic  " in text
    assert "stopped, no frame for" in text
    assert "10 above 20 ms" in text
    assert "\x1b" not in text


def test_a_mistake_is_one_line(tmp_path, capsys):
    ring = str(tmp_path / "mic.ring")
    record(ring, 1)
    for arguments, message in (
        (["none.ring"], "none.ring cannot be read"),
        ([ring, "--interval", "soon"], "--interval must be a duration"),
        ([ring, "--interval", "1ms"], "--interval must be at least 50ms, got '1ms'"),
        ([ring, "--warning", "2s", "--critical", "1s"], "must not exceed critical (1 s)"),
    ):
        assert main(["top", *arguments]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.count("\n") == 1
        assert message in captured.err


class Terminal:
    """A terminal of tmux, with its own server."""

    def __init__(self, tmux, folder: Path, width: int, height: int) -> None:
        self._tmux = [tmux, "-f", "/dev/null", "-S", str(folder / "tmux.socket")]
        # sizes in the environment, which some shells set, must be ignored
        shell = ["env", "PS1=ready>", "COLUMNS=100", "LINES=30", "bash", "--norc"]
        self.run("new-session", "-d", "-x", str(width), "-y", str(height), *shell)
        self.wait("ready>")

    def run(self, *arguments: str) -> str:
        done = subprocess.run(
            [*self._tmux, *arguments], capture_output=True, text=True, check=True, timeout=20
        )
        return done.stdout

    def type(self, *keys: str) -> None:
        self.run("send-keys", *keys)

    def screen(self, *flags: str) -> str:
        return self.run("capture-pane", "-p", *flags)

    def wait(self, *words: str, seconds: float = 20) -> str:
        """Wait until all words are on the screen, and return it."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            seen = self.screen()
            if all(re.search(word, seen) for word in words):
                return seen
            time.sleep(0.05)
        pytest.fail(f"never seen: {words} in\n{self.screen()}")

    def close(self) -> None:
        self.run("kill-server")


@pytest.fixture
def terminal(tmp_path):
    opened = Terminal(require_program("tmux"), tmp_path, 100, 30)
    yield opened
    opened.close()


def test_top_watches_a_recorder_in_a_real_terminal_and_q_quits(tmp_path, terminal):
    path = tmp_path / "mic.ring"
    with Profiler(MIC, capacity=64, ring=path) as profiler:
        count = itertools.count()

        def frames(n, ms):
            for _ in range(n):
                now = time.perf_counter_ns()
                marks = [now - ms * MS, now - ms * MS, now - MS // 2, now]
                profiler.record(next(count), marks, source="in\x1b[31mput")

        frames(20, 1)
        call = f"{sys.executable} -m latprof top {path} --interval 100ms --critical 50ms"
        # one line, as keys that are typed when the program ends may be discarded
        terminal.type(f"{call}; echo left=$?; stty -a | grep -c ' icanon'", "Enter")
        seen = terminal.wait("q quits", "recording", "20 frames", "0 lost")
        assert re.search(r"decode .* 500 us|decode .* \d", seen)
        assert "none" in seen
        frames(5, 80)
        seen = terminal.wait("25 frames", "5 above 50 ms", r"frame 24 in\\x1b\[31mput  80.0 ms")
        assert "▁" in seen or "█" in seen
        # a threshold is a colour
        assert re.search(r"\x1b\[[0-9;]*31m80\.0 ms", terminal.screen("-e"))
        frames(200, 1)
        terminal.wait(r"[1-9]\d* lost")
        terminal.run("resize-window", "-x", "60", "-y", "20")
        seen = terminal.wait("q quits", "end_to_end")
        assert max(map(len, seen.split("\n"))) <= 60
    terminal.wait("stopped")
    terminal.type("q")
    seen = terminal.wait("left=0", r"\n1\n")
    assert "frames/s" not in seen  # the old screen is restored


def test_top_reads_files_that_appear_in_a_folder(tmp_path, terminal):
    folder = tmp_path / "traces"
    folder.mkdir()
    terminal.type(f"{sys.executable} -m latprof top {folder} --interval 100ms", "Enter")
    terminal.wait("no trace file yet", "waiting for frames")
    save(folder / "a.parquet", 0, 30)
    seen = terminal.wait("1 file, newest frame [0-9.]+ d ago", "30 frames", "2 lost")
    assert re.search(r"decode +1\.00 ms +1\.00 ms +1\.00 ms", seen)
    assert "thresholds unknown" in seen
    with Profiler(MIC, path=folder) as profiler:
        profiler.record(1, [time.perf_counter_ns() - i for i in (4, 3, 2, 1)])
    terminal.wait("2 files", "31 frames")
    terminal.type("q")
    terminal.wait("ready>")


def test_control_c_restores_the_terminal(tmp_path, terminal):
    record(tmp_path / "mic.ring", 3)
    terminal.type(f"{sys.executable} -m latprof top {tmp_path}/mic.ring", "Enter")
    terminal.wait("q quits")
    terminal.type("C-c")
    terminal.type("stty -a | grep -c ' icanon'", "Enter")
    seen = terminal.wait(r"\n1\n")
    assert "Traceback" not in seen


@pytest.mark.parametrize("width", [80, 140])
def test_report_in_a_real_terminal(terminal, width):
    data = Path(__file__).parents[1] / "data" / "mic-slow-card.parquet"
    terminal.run("resize-window", "-x", str(width), "-y", "60")
    terminal.type(f"clear; {sys.executable} -m latprof report {data}", "Enter")
    seen = terminal.wait("the bottleneck is ipc", "finished \\+ dropped = folded 3,000")
    assert "…" not in seen
    assert re.search(r"^ipc +85\.7% +█+", seen, re.M)
    assert "\x1b[36m" in terminal.screen("-e")
