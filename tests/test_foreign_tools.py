"""Logs of frame tools and load tools. The files here follow the tools' documentation."""

import json
import re
import shlex
from pathlib import Path

import fuzz_formats
import pytest
import real_files

import latprof
from latprof import TraceError, read
from latprof.cli.main import main
from latprof.frames import MISSING
from latprof.io.formats.known import FORMATS, UNTRIED

MS = 1_000_000


def save(where: Path, content: str | object) -> Path:
    where.write_text(content if isinstance(content, str) else json.dumps(content))
    return where


def lengths(trace) -> dict[str, list[float | None]]:
    """Return each span's time in ms by name."""
    names = [*(stage.name for stage in trace.pipeline.stages), "end_to_end"]
    found = {name: trace.span(name).tolist() for name in names}
    return {n: [None if ns == MISSING else ns / MS for ns in each] for n, each in found.items()}


def test_presentmon_1_counts_frames_that_were_not_displayed(tmp_path):
    where = save(
        tmp_path / "a.csv",
        "\ufeffApplication,ProcessID,SwapChainAddress,Dropped,TimeInSeconds,msInPresentAPI,"
        "msBetweenPresents,msUntilDisplayed\n"
        "game.exe,7,0x1,0,0.60639850000000,0.25,16.6,16.25000000000000\n"
        "game.exe,7,0x1,1,0.62300000000000,0.5,16.6,0.00000000000000\n",
    )
    trace = read(where)
    assert lengths(trace) == {
        "present": [0.25, 0.5],
        "display": [16.0, None],
        "end_to_end": [16.25, None],
    }
    assert trace.marks["start"].tolist() == [606_398_500, 623_000_000]
    assert trace.outcome.to_numpy().tolist() == [None, "not displayed"]
    assert trace.source.to_numpy().tolist() == ["game.exe", "game.exe"]


def test_presentmon_2_starts_at_the_cpu(tmp_path):
    where = save(
        tmp_path / "a.csv",
        "Application,ProcessID,SwapChainAddress,TimeInQPC,MsBetweenPresents,MsInPresentAPI,"
        "MsUntilDisplayed,CPUStartQPC,MsCPUBusy,MsCPUWait\n"
        "game.exe,7,0x1,1000000,NA,0.5,16,800000,20,0.5\n"
        "game.exe,7,0x1,1160000,16,0.5,NA,1005000,15.5,0.5\n",
    )
    trace = read(where)
    assert lengths(trace) == {
        "cpu_busy": [20, 15.5],
        "present": [0.5, 0.5],
        "display": [15.5, None],
        "end_to_end": [36, None],
    }
    assert trace.marks["start"].tolist() == [80_000_000, 100_500_000]
    assert "times are ticks of 10,000,000 Hz" in trace.meta["reading"]


def test_capframex_runs_are_tags(tmp_path):
    run = {
        "CaptureData": {
            "TimeInSeconds": [1.5, 1.516],
            "MsInPresentAPI": [0.5, 0.25],
            "MsUntilDisplayed": [8.5, 0],
            "Dropped": [False, True],
        }
    }
    content = {"Info": {"ProcessName": "game.exe"}, "Runs": [run, run]}
    trace = read(save(tmp_path / "a.json", content))
    assert trace.frame_id.tolist() == [0, 1, 2, 3]
    assert lengths(trace)["end_to_end"] == [8.5, None, 8.5, None]
    assert trace.tags["run"].to_numpy().tolist() == ["1", "1", "2", "2"]
    assert trace.source.to_numpy().tolist() == ["game.exe"] * 4


@pytest.mark.parametrize(("step", "unit"), [(16_000_000, "ms"), (100_000_000, "us")])
def test_mangohud_rows_are_frames_or_samples(tmp_path, step, unit):
    time = 16 if unit == "ms" else 16_000
    rows = "".join(f"62.5,{time},10,20,{100_000_000 + i * step}\n" for i in range(5))
    text = f"os,cpu\nLinux,x\nfps,frametime,cpu_load,gpu_load,elapsed\n{rows}"
    trace = read(save(tmp_path / "a.csv", text))
    assert lengths(trace) == {"end_to_end": [16] * 5}
    assert trace.marks["end"].tolist() == [100_000_000 + i * step for i in range(5)]
    said = " ".join(trace.meta["reading"])
    assert ("rows are samples" in said) == (unit == "us")
    assert f"taken as {unit}" in said


def test_mangohud_without_the_time_of_rows_has_lengths_only(tmp_path):
    text = "v1\n0.8.2\n---FRAME METRICS---\nfps,frametime,cpu_load\n50,20,3\n100,10,4\n"
    trace = read(save(tmp_path / "a.csv", text))
    assert lengths(trace) == {"end_to_end": [20, 10]}
    assert trace.meta["untimed"] is True


def test_a_time_of_presentmon_is_that_of_the_present_or_of_the_cpu(tmp_path):
    header = "Application,ProcessID,SwapChainAddress,{},MsCPUBusy,MsInPresentAPI,MsUntilDisplayed\n"
    row = "a.exe,7,0x1,{},10,0.5,5\n"
    at_present = read(save(tmp_path / "a.csv", (header + row).format("TimeInMs", 100)))
    at_start = read(save(tmp_path / "b.csv", (header + row).format("CPUStartTime", 90)))
    for trace in (at_present, at_start):
        assert trace.marks["start"].tolist() == [90 * MS]
        assert lengths(trace) == {
            "cpu_busy": [10],
            "present": [0.5],
            "display": [4.5],
            "end_to_end": [15],
        }
    dated = read(
        save(tmp_path / "c.csv", (header + row).format("TimeInDateTime", "2024-5-13 1:2:3"))
    )
    assert dated.meta["untimed"] is True
    assert lengths(dated) == lengths(at_start)


@pytest.mark.parametrize(
    ("at", "ns"),
    [
        ("1715258085123", 1_715_258_085_123_000_000),
        ("1715258085123456", 1_715_258_085_123_456_000),
        ("1715258085123456789", 1_715_258_085_123_456_789),
        ("2024-05-09T12:34:45.123456789Z", 1_715_258_085_123_456_789),
    ],
)
def test_every_time_format_of_k6_is_read(tmp_path, at, ns):
    header = "metric_name,timestamp,metric_value\n"
    trace = read(save(tmp_path / "a.csv", f"{header}http_req_duration,{at},8\n"))
    assert trace.marks["end"].tolist() == [ns]


K6 = {"blocked": 1, "connecting": 2, "tls_handshaking": 3, "sending": 0.5, "waiting": 7.25}


def test_k6_points_of_a_request_are_one_frame(tmp_path):
    times = {**K6, "receiving": 0.25, "duration": 8}
    expected = {
        **{name: [ms, ms] for name, ms in times.items() if name != "duration"},
        "end_to_end": [14, 14],
    }
    at = "2024-05-09T14:34:45.625742514+02:00"
    tags = {"url": "http://a", "status": "200"}
    lines = [
        json.dumps(
            {"type": "Point", "metric": metric, "data": {"time": at, "value": ms, "tags": tags}},
            separators=(",", ":"),
        )
        for _ in range(2)
        for metric, ms in [("http_reqs", 1), *((f"http_req_{n}", ms) for n, ms in times.items())]
    ]
    trace = read(save(tmp_path / "a.json", "\n".join(lines)))
    assert lengths(trace) == expected
    assert trace.marks["end"].tolist() == [1_715_258_085_625_742_514] * 2
    rows = "".join(
        f"http_req_{name},1715258085,{ms},200,http://a\n"
        for _ in range(2)
        for name, ms in times.items()
    )
    header = "metric_name,timestamp,metric_value,status,url\n"
    trace = read(save(tmp_path / "a.csv", header + rows))
    assert lengths(trace) == expected
    assert trace.marks["end"].tolist() == [1_715_258_085_000_000_000] * 2
    assert trace.tags["status"].to_numpy().tolist() == ["200", "200"]


def test_jmeter_latency_of_0_is_unknown(tmp_path):
    where = save(
        tmp_path / "a.jtl",
        "timeStamp,elapsed,label,responseCode,success,bytes,Latency,IdleTime,Connect\n"
        "1700000000000,120,home,200,true,99,100,0,30\n"
        "1700000000500,7,home,500,false,0,0,0,0\n",
    )
    trace = read(where)
    assert lengths(trace) == {
        "connect": [30, 0],
        "first_byte": [70, None],
        "receive": [20, None],
        "end_to_end": [120, 7],
    }
    assert trace.tags["success"].to_numpy().tolist() == ["true", "false"]


def test_jmeter_in_other_forms_is_read_or_refused_with_the_setting(tmp_path):
    text = "timeStamp;elapsed;label\n{};12;a\n"
    trace = read(save(tmp_path / "a.jtl", text.format(1_700_000_000_000)))
    assert lengths(trace)["end_to_end"] == [12]
    with pytest.raises(TraceError, match=r"got '2024/01/01 10:00:00'; set .*timestamp_format=ms"):
        read(save(tmp_path / "b.jtl", text.format("2024/01/01 10:00:00")))
    with pytest.raises(TraceError, match=r"must be CSV, got XML; set .*output_format=csv"):
        read(save(tmp_path / "c.jtl", '<?xml version="1.0"?>\n<testResults version="1.2">\n'))


def test_results_of_language_models(tmp_path):
    content = {"backend": "vllm", "ttfts": [0.25, 0.5], "itls": [[0.01, 0.02], []]}
    trace = read(save(tmp_path / "a.json", content))
    assert lengths(trace) == {
        "first_token": [250, 500],
        "decode": [30, 0],
        "end_to_end": [280, 500],
    }
    assert trace.meta["untimed"] is True
    with pytest.raises(TraceError, match="--save-detailed"):
        read(save(tmp_path / "b.json", {"mean_ttft_ms": 3}))
    responses = [{"ttft_s": 0.5, "end_to_end_latency_s": 2.25, "error_code": None}]
    trace = read(save(tmp_path / "c.json", responses))
    assert lengths(trace) == {"first_token": [500], "decode": [1_750], "end_to_end": [2_250]}


def test_a_log_that_gstreamer_wrote():
    where = Path(__file__).parent / "files" / "gstreamer.log"
    text = re.sub(r"\x1b\[[\d;]*m", "", where.read_text())
    record = r" {}, .*?time=\(guint64\)(\d+), ts=\(guint64\)(\d+)"
    whole = re.findall(record.format("latency"), text)
    trace = read(where)
    assert trace.span("end_to_end").tolist() == [int(time) for time, _ in whole]
    assert trace.marks["end"].tolist() == [int(at) for _, at in whole]
    for name in ("audioconvert0", "audioresample0"):
        element = rf" element-latency, .*?element=\(string\){name}, .*?time=\(guint64\)(\d+)"
        assert trace.span(name).tolist() == list(map(int, re.findall(element, text)))
    assert len(trace) == 10


def test_requests_with_an_error_are_dropped_not_counted_as_0(tmp_path):
    content = {
        "start_times": [1.5, 2.5],
        "ttfts": [0.25, 0.0],
        "itls": [[0.01], []],
        "generated_texts": ["x", ""],
        "errors": ["", "Traceback ..."],
    }
    responses = [
        {"error_code": None, "ttft_s": 0.25, "end_to_end_latency_s": 0.26},
        {"error_code": 429, "ttft_s": 0, "end_to_end_latency_s": 0},
    ]
    for number, each in enumerate((content, responses)):
        trace = read(save(tmp_path / f"{number}.json", each))
        assert lengths(trace) == {
            "first_token": [250, None],
            "decode": [10, None],
            "end_to_end": [260, None],
        }
        assert trace.outcome.to_numpy().tolist() == [None, "error"]
        profile = latprof.analyze(trace)
        assert (profile.frames, profile.accounts.dropped) == (1, {"error": 1})


def test_gstreamer_joins_elements_by_order_if_there_are_as_many(tmp_path):
    def line(text: str) -> str:
        return f"0:00:01.0 60 0x7f TRACE GST_TRACER :0:: {text};\n"

    def element(name: str, time: int) -> str:
        return line(
            f"element-latency, element-id=(string)0x1, element=(string){name}, src=(string)src, "
            f"time=(guint64){time}, ts=(guint64)99"
        )

    buffers = [
        line(
            "latency, src-element-id=(string)0x1, src-element=(string)cam, src=(string)src, "
            f"sink-element=(string)out, sink=(string)sink, time=(guint64){time}, ts=(guint64){at}"
        )
        for time, at in ((500, 10_500), (700, 20_700))
    ]
    decode = [element("decode", 200), element("decode", 300), element("queue", 7)]
    trace = read(save(tmp_path / "gst.log", "".join([*decode, *buffers])))
    assert trace.marks["start"].tolist() == [10_000, 20_000]
    assert trace.span("decode").tolist() == [200, 300]
    assert trace.source.to_numpy().tolist() == ["cam to out"] * 2
    assert "not joined with 2 buffers: records of queue 1" in trace.meta["reading"]


def test_formats_are_listed_with_a_command_for_each(capsys):
    assert main(["formats"]) == 0
    text = capsys.readouterr().out
    assert all(known.name in text for known in FORMATS)
    assert text.count("latprof report") >= len(FORMATS)


def test_an_unknown_file_says_how_to_name_columns(tmp_path, capsys):
    where = save(tmp_path / "a.txt", "hello\n")
    assert main(["report", str(where)]) == 2
    message = capsys.readouterr().err
    assert "--marks" in message
    assert "none of the formats that latprof formats lists (OTLP JSON, Jaeger JSON, " in message
    for known in FORMATS:
        assert known.name.partition(" (")[0].partition(",")[0] in message
    where = save(tmp_path / "b.csv", "op,wait (ms),work (ms)\nget,12,5\n")
    assert main(["report", str(where)]) == 2
    command = "--durations 'wait (ms),work (ms)'"
    assert command in capsys.readouterr().err
    assert main(["report", str(where), *shlex.split(command)]) == 0
    where = save(tmp_path / "a.png", "\x89PNG\r\n\x1a\n\0")
    assert main(["report", str(where)]) == 2
    assert "bytes that are not text" in capsys.readouterr().err


def test_damaged_files_of_every_format_are_refused_or_read(capsys):
    assert fuzz_formats.main(["--mutations", "8"]) == 0
    assert capsys.readouterr().out.count("8 mutations") == len(fuzz_formats.SEEDS)


def test_answers_on_files_that_tools_wrote_are_those_of_an_independent_count():
    for file in real_files.REAL_FILES:
        answer = file.answer()
        for what, expected in file.expected().items():
            tolerance = 0.0005 if what.startswith("p") else 1e-9
            assert answer[what] == pytest.approx(expected, rel=tolerance), (file.name, what)


def test_a_format_is_said_to_be_untried_unless_a_tool_wrote_a_file_of_it():
    tried = {file.key for file in real_files.REAL_FILES}
    assert not tried & UNTRIED
    assert {known.key for known in FORMATS} >= tried | UNTRIED
