import io
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from needs import require

import latprof
from latprof.demo import packets, processes
from latprof.demo.packets import load_packets, packet_samples
from latprof.demo.processes import Processes, alsa_environment, run
from latprof.demo.relay import Relay
from latprof.errors import DemoError

MARKS = ("start", "webrtc", "validation", "serialization", "ipc", "cgo", "alsa", "end")


def roles(parent=None):
    """The demo's processes by role, below `parent` (default: this process)."""
    found = {}
    for process in (parent or psutil.Process()).children(recursive=True):
        for argument in process.cmdline():
            if argument.startswith("latprof.demo."):
                found[argument.removeprefix("latprof.demo.")] = process
    return found


@pytest.fixture(autouse=True)
def leaves_nothing(tmp_path, monkeypatch):
    """Every test must leave no process, no thread and no temporary folder."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    threads = threading.active_count()
    yield
    assert not roles()
    assert threading.active_count() == threads
    assert list(tmp_path.glob("latprof-demo-*")) == []


# -- wire ------------------------------------------------------------------------------------------

# magic "LATP", type 0, length 3, timestamp 960 = 0x3C0
MESSAGE = b"LATP\x00\x03\x00\x00\x00\xc0\x03\x00\x00\x00\x00\x00\x00abc"
END = b"LATP\x03" + bytes(12)


def test_header_is_17_bytes_little_endian():
    assert packets.pack(packets.PACKET, 960, b"abc") == MESSAGE
    assert packets.unpack(MESSAGE[:17]) == (packets.PACKET, 3, 960)
    assert packets.pack(packets.END, 0) == END
    assert packets.pack(packets.PACKET, -2)[9:] == b"\xfe" + b"\xff" * 7


def test_an_invalid_header_is_an_error():
    for header, rule in (
        (b"", "header must have 17 bytes, got 0"),
        (MESSAGE[:16], "header must have 17 bytes, got 16"),
        (b"PTAL" + MESSAGE[4:17], "header must begin with 0x5054414c, got 0x4c415450"),
        (b"LATP\x01" + MESSAGE[5:17], "type in header must be 0 or 3, got 1"),
        (b"LATP\x00\x01\x10\x00\x00" + bytes(8), "must be at most 4096, got 4097"),
        (b"LATP\x00\xff\xff\xff\xff" + bytes(8), "must be at most 4096, got 4294967295"),
    ):
        with pytest.raises(ValueError, match=rule):
            packets.unpack(header)


def test_packets_are_read_up_to_the_end_message():
    stream = io.BytesIO(MESSAGE + packets.pack(packets.PACKET, 1920) + END + b"not read")
    assert list(packets.read_packets(stream)) == [(960, b"abc"), (1920, b"")]


def test_a_stream_without_end_message_is_an_error():
    for cut in (0, 5, 17, 19):
        read = packets.read_packets(io.BytesIO(MESSAGE + MESSAGE[:cut]))
        assert next(read) == (960, b"abc")
        with pytest.raises(EOFError, match="the stream ended"):
            next(read)


# -- Opus ------------------------------------------------------------------------------------------

# TOC: configuration << 3 | stereo << 2 | code. 31 (0xF8): CELT, 20 ms. 3 (0x18): SILK, 60 ms.


def test_samples_of_valid_packets():
    for packet, samples in (
        (b"\xf8", 960),  # code 0, a frame of no bytes: nothing was sent
        (b"\xfc" + bytes(1275), 960),  # stereo makes no difference; the longest frame
        (b"\x18" + bytes(9), 2880),
        (b"\xe0" + bytes(9), 120),  # configuration 28: CELT, 2.5 ms
        (b"\x68" + bytes(9), 960),  # configuration 13: hybrid, 20 ms
        (b"\xf9" + bytes(10), 1920),  # code 1: 5 + 5
        (b"\xfa\x03" + bytes(3 + 4), 1920),  # code 2: 3 + 4
        (b"\xfa\x00", 1920),  # 0 + 0
        (b"\xfa\xfc\x01" + bytes(256 + 4), 1920),  # 252 + 4 * 1 = 256 bytes, then 4
        (b"\xfb\x03" + bytes(6), 2880),  # code 3, constant rate: 3 frames of 2
        (b"\xfb\x06" + bytes(6), 5760),  # 6 x 20 ms = 120 ms, the longest packet
        (b"\xfb\x83\x01\x02" + bytes(1 + 2 + 5), 2880),  # variable rate: 1, 2, then 5
        (b"\xfb\x42\x03" + bytes(4 + 3), 1920),  # 2 frames of 2, padding 3
        (b"\xfb\x41\xff\x01" + bytes(2 + 255), 960),  # padding 254 + 1; 1 frame of 2
        (b"\xfb\xc2\x02\x01" + bytes(1 + 4 + 2), 1920),  # variable rate and padding: 1 + 4, 2
    ):
        assert packet_samples(packet) == samples


def test_an_invalid_packet_is_an_error_that_names_the_rule():
    for packet, rule in (
        (b"", "R1"),
        (b"\xfc" + bytes(1276), "R2"),
        (b"\xf9" + bytes(2552), "R2"),  # 2 x 1276
        (b"\xfa\x00" + bytes(1276), "R2"),
        (b"\xf9" + bytes(9), "R3"),  # 9 bytes are not two equal frames
        (b"\xfa", "R4"),  # no length
        (b"\xfa\xfc", "R4"),  # half a length
        (b"\xfa\x05" + bytes(4), "R4"),  # 5 announced, 4 there
        (b"\xfb\x00", "R5"),  # no frames
        (b"\xfb\x07" + bytes(7), "R5"),  # 140 ms
        (b"\x1b\x03" + bytes(3), "R5"),  # 3 x 60 ms
        (b"\xfb", "R6"),  # no frame count
        (b"\xfb\x03" + bytes(7), "R6"),  # 7 / 3
        (b"\xfb\x41\x05" + bytes(4), "R6"),  # more padding than there is
        (b"\xfb\x41\xff", "R6"),  # the length of the padding continues past the end
        (b"\xfb\x83\x01", "R7"),  # the second length is missing
        (b"\xfb\x82\x05" + bytes(4), "R7"),  # 5 announced, 4 there
        (b"\xfb\xc2\x04\x02" + bytes(5), "R7"),  # 2 + 4 of padding, 5 there
    ):
        with pytest.raises(ValueError, match=rf"{rule}.*\)$"):
            packet_samples(packet)


def test_recording_is_58_seconds_of_packets_of_20_ms():
    recording = load_packets()
    assert len(recording) == 2908
    assert {packet_samples(packet) for packet in recording} == {960}
    assert len(set(recording)) > 2500


# -- relay -----------------------------------------------------------------------------------------


class Connection:
    """Collects what a relay writes."""

    def __init__(self):
        self.written = b""

    def write(self, data):
        self.written += data


def test_relay_finds_frames_by_sequence_number_and_drops_invalid_packets():
    clock = iter(range(100, 10_000, 100))
    owns = MARKS[:5]
    profiler = latprof.Profiler(latprof.AUDIO, owns=owns, clock=lambda: next(clock))
    connection = Connection()
    good, bad = b"\xfc" + bytes(9), b"\xf9" + bytes(9)
    with profiler:
        relay = Relay(profiler, connection)
        for frame_id, (number, payload) in enumerate([(65535, good), (0, bad), (1, good)]):
            relay.begin(frame_id, payload)
            relay.sending(number)
        for number in (65535, 0, 1):
            relay.datagram(number)
        for number, payload in [(1, good), (65535, good), (0, bad)]:  # the network may reorder
            relay.packet(number, payload)
    assert connection.written == packets.pack(0, 1920, good) + packets.pack(0, 0, good)
    trace = profiler.trace()
    assert trace.frame_id.tolist() == [2, 0, 1]
    assert trace.outcome.to_numpy().tolist() == ["finished", "finished", "invalid"]


# -- runs of the demo ------------------------------------------------------------------------------


def test_libraries_have_the_private_methods_that_are_replaced():
    require("aiortc")
    import aioice.ice
    from aiortc import RTCDtlsTransport, RTCRtpReceiver

    assert hasattr(RTCDtlsTransport, "_send_rtp")
    assert hasattr(RTCRtpReceiver, "_handle_rtp_packet")
    assert hasattr(aioice.ice, "get_host_addresses")
    assert hasattr(aioice.ice.StunProtocol, "datagram_received")


def check_trace(trace, frames):
    assert trace.frame_id.tolist() == list(range(frames))
    stamps = np.array([trace.marks[mark] for mark in MARKS])
    assert (np.diff(stamps, axis=0) >= 0).all()
    # the sizes in the recording, in order: every packet arrived as it was sent
    recording = load_packets()
    assert trace.size.tolist() == [len(recording[i % 2908]) for i in range(frames)]


@pytest.mark.slow
def test_a_run_in_real_time_takes_as_long_as_its_sound():
    require("aiortc")
    news = []
    began = time.time()
    trace = run(seconds=2, on_progress=lambda *done: news.append(done))
    took = time.time() - began
    check_trace(trace, 100)
    assert trace.meta["join"]["matched"] == 100
    assert [part["name"] for part in trace.meta["join"]["parts"]] == [
        "relay.parquet",
        "server.parquet",
    ]
    assert trace.meta["run"]["device"] == "null"
    assert trace.meta["run"]["slow_card_ppm"] is None
    assert news == sorted(news)
    assert len(news) > 4
    assert news[-1] == (100, 100)
    # 99 steps of 20 ms, on a schedule: late at times, but not slower
    start = trace.marks["start"]
    assert 1.9 < (start[-1] - start[0]) / 1e9 < 2.3
    assert began < start[0] / 1e9 < began + took


def test_a_fast_run_records_all_frames():
    require("aiortc")
    trace = run(seconds=1, fast=True)
    check_trace(trace, 50)
    assert trace.meta["run"]["mode"] == "fast"
    start = trace.marks["start"]
    assert (start[-1] - start[0]) / 1e9 < 0.5


@pytest.mark.slow
def test_a_slow_card_blocks_the_server_and_then_packets_queue_up():
    require("aiortc")
    trace = run(seconds=4.5, slow_card_ppm=200_000)
    check_trace(trace, 225)
    assert trace.meta["run"]["slow_card_ppm"] == 200_000
    marks = trace.marks
    seconds = (marks["start"] - marks["start"][0]) / 1e9
    write_ms = (marks["end"] - marks["alsa"]) / 1e6
    waiting_ms = (marks["cgo"] - marks["ipc"]) / 1e6
    # at first ALSA's buffer takes all: 131,072 samples, 2.7 s
    assert np.median(write_ms[seconds < 2]) < 5
    # then a write lasts as long as the card needs for a packet, 20 ms x 1.2
    assert 20 < np.median(write_ms[seconds > 3.5]) < 28
    # and each packet waits 4 ms more than the one before: 200 ms more in a second
    last = seconds > 3.5
    slope = np.polyfit(seconds[last], waiting_ms[last], 1)[0]
    assert 150 < slope < 250


def test_invalid_settings_are_errors():
    for settings, message in (
        ({"seconds": 0}, "seconds must be more than 0, at most 86,400, got 0"),
        ({"seconds": float("nan")}, "seconds must be .*, got nan"),
        ({"slow_card_ppm": -1}, "slow_card_ppm must be from 0 to 1,000,000, got -1"),
        ({"slow_card_ppm": 5000, "device": "hw:0"}, "device must not be given with slow_card_ppm"),
        ({"slow_card_ppm": 5000, "fast": True}, "fast must not be given with slow_card_ppm"),
    ):
        with pytest.raises(DemoError, match=message):
            run(**settings)


def test_an_unknown_device_is_an_error(tmp_path, monkeypatch):
    require("aiortc")
    monkeypatch.setenv("ALSA_CONFIG_DIR", str(tmp_path))
    (tmp_path / "alsa.conf").write_text("pcm.other { type null }\n")
    with pytest.raises(DemoError, match=r"no_such_card .*; choose a device") as caught:
        run(seconds=1, device="no_such_card")
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_device_of_the_system_is_used(tmp_path, monkeypatch):
    require("aiortc")
    monkeypatch.setenv("ALSA_CONFIG_DIR", str(tmp_path))
    (tmp_path / "alsa.conf").write_text("pcm.other { type null }\n")
    check_trace(run(seconds=0.2, device="other"), 10)


def test_a_system_without_alsa_configuration_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("ALSA_CONFIG_DIR", str(tmp_path))
    with pytest.raises(DemoError, match="install libasound2-data"):
        alsa_environment("hw:0", tmp_path)


@pytest.mark.parametrize("package", ["aiortc", "av"])
def test_a_missing_package_is_an_error(monkeypatch, package):
    require("aiortc")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(DemoError, match=rf'needs {package}; pip install "latprof\[audio\]"'):
        run(seconds=1)


# -- failures --------------------------------------------------------------------


def once(action):
    """Return a progress callback that calls `action` the first time."""
    actions = [action]
    return lambda done, total: actions.pop()() if actions else None


@pytest.mark.parametrize(
    ("victim", "settings"),
    [("server", {}), ("relay", {}), ("card", {"slow_card_ppm": 5000})],
)
@pytest.mark.slow
def test_a_killed_process_is_an_error(victim, settings):
    require("aiortc")
    began = time.monotonic()
    with pytest.raises(
        DemoError, match=rf"{victim} process of the demo was killed by signal 9.*again"
    ):
        run(seconds=60, on_progress=once(lambda: roles()[victim].kill()), **settings)
    assert time.monotonic() - began < 8


@pytest.mark.slow
def test_a_process_without_progress_is_an_error(monkeypatch):
    require("aiortc")

    def stop():
        monkeypatch.setattr(processes, "TIMEOUT", 1.0)
        roles()["server"].suspend()

    began = time.monotonic()
    with pytest.raises(DemoError, match=r"server process must send .* within 1 s, got no event"):
        run(seconds=60, on_progress=once(stop))
    assert time.monotonic() - began < 8


def test_a_process_that_raises_is_an_error():
    with Processes() as started:
        started.start("card", ppm=0, pipe="no.fifo")
        with pytest.raises(DemoError, match=r"demo ended with exit code 1 \(.*no.fifo"):
            started.wait_for("card", "ready", lambda event: None)


@pytest.mark.slow
def test_an_interrupt_from_the_keyboard_ends_all_processes():
    require("aiortc")
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        run(seconds=60, on_progress=once(timer.start))
    timer.join()


@pytest.mark.slow
def test_processes_end_if_their_parent_is_killed(tmp_path):
    require("aiortc")
    code = (
        "from latprof.demo.processes import run\n"
        "run(seconds=60, on_progress=lambda *done: print('going', flush=True))"
    )
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(latprof.__file__).parents[1]),
        "TMPDIR": str(tmp_path),
    }
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout.readline() == b"going\n"
        children = roles(psutil.Process(parent.pid))
        assert set(children) == {"server", "relay"}
        parent.kill()
    _, alive = psutil.wait_procs(children.values(), timeout=5)
    assert alive == []
    for folder in tmp_path.glob("latprof-demo-*"):  # the killed process could not remove it
        shutil.rmtree(folder)
