"""Reads damaged files of every text format: only a LatprofError may come of it, and soon.

    python -m tests.fuzz_formats --mutations 100000

Each file is a valid one with some bytes changed, removed, repeated or exchanged for hostile ones.
"""

import argparse
import random
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

import latprof
from latprof import ForeignFile, LatprofError

FILES = Path(__file__).parent / "files"
SLOWEST_S = 5

SPAN = (
    '{"traceId":"1","id":"2","parentId":"1","name":"get","timestamp":1700000000000000,"duration":7}'
)
SEEDS: dict[str, bytes] = {
    "csv": b"id;t0;t1\n1;1700000000.5;1700000000.75\n2;1700000001.5;NA\n3;1700000002,5;x\n",
    "iso.csv": b'a,b\n2024-01-01T00:00:00.5Z,2024-01-01T00:00:01Z\n"2024-01-01 00:00:02Z",\n',
    "jsonl": b'{"a_ns":1,"b_ns":2.5,"k":{"x":[1]}}\n{"a_ns":5,"b_ns":null}\n',
    "json": b'[{"a_ns":1,"b_ns":2},{"a_ns":"3","b_ns":4}]',
    "otlp": b"".join((FILES / "otlp.jsonl").read_bytes().splitlines(keepends=True)[:4]),
    "chrome": (FILES / "viztracer.json").read_bytes(),
    "zipkin": f"[{SPAN},{SPAN}]".encode(),
    "jaeger": b'{"data":[{"traceID":"1","spans":[{"traceID":"1","spanID":"2","operationName":"x",'
    b'"references":[{"refType":"CHILD_OF","spanID":"1"}],"startTime":1700000000000000,'
    b'"duration":7,"processID":"p1"}],"processes":{"p1":{"serviceName":"s"}}}]}',
    "presentmon": b"Application,ProcessID,SwapChainAddress,Dropped,TimeInSeconds,msInPresentAPI,"
    b"msUntilDisplayed\na.exe,7,0x1,0,0.60639850000000,0.25,16.25\na.exe,7,0x1,1,0.7,0.5,0\n",
    "capframex": b'{"Info":{"ProcessName":"a"},"Runs":[{"CaptureData":{"TimeInSeconds":[1.5,2.5],'
    b'"MsInPresentAPI":[0.5,0.5],"MsUntilDisplayed":[8.5,9],"Dropped":[false,true]}}]}',
    "mangohud": b"os,cpu\nx,y\nfps,frametime,cpu_load,elapsed\n60,16.6,1,100000000\n"
    b"60,16,1,2000000\n",
    "k6.csv": b"metric_name,timestamp,metric_value,status\nhttp_req_blocked,1700000000,0.5,200\n"
    b"http_req_duration,1700000000,1.5,200\n",
    "k6.json": b'{"type":"Point","data":{"time":"2024-05-09T14:34:45.6+02:00","value":5,"tags":{}},'
    b'"metric":"http_req_duration"}\n' * 2,
    "jtl": b"timeStamp,elapsed,label,success,Latency,Connect\n1700000000000,12,a,true,10,3\n",
    "vllm": b'{"ttfts":[0.25,0.5],"itls":[[0.01,0.02],[]],"start_times":[1.5,2.5]}',
    "llmperf": b'[{"ttft_s":0.5,"end_to_end_latency_s":2.25}]',
    "gst": b"0:0:1 6 0x TRACE GST_TRACER :0:: latency, src-element=(string)a, sink-element="
    b"(string)b, time=(guint64)5, ts=(guint64)99;\nGST_TRACER element-latency, element=(string)c, "
    b"time=(guint64)5, ts=(guint64)9;\n",
    "hlog": b'"StartTimestamp","x"\n0.127,1.007,2.769,HISTFAAAAEV42pNpmSzMwMCgyAABTBDKT4GBgdnNYMcC'
    b"BvsPEBEJISEuATEZMQ4uASkhIR4nrxg9v2lMaxhvMekILGZkKmcCAEf2CsI=\n",
    "hgrm": b"       Value     Percentile TotalCount 1/(1-Percentile)\n 1.0 0.5 10 2.0\n"
    b" 9.0 1.000000 20 inf\n#[Mean    =   3.0, StdDeviation = 1]\n",
    "prometheus": b'a_seconds_bucket{le="0.1"} 5\na_seconds_bucket{le="+Inf"} 7\na_seconds_sum 3\n',
    "cyclictest": b"# Histogram\n000002 000010\t000000\n000003 000080\t000005\n# Total: 90 5\n"
    b"# Histogram Overflows: 00001 00000\n",
    "rtla": b"# RTLA timerlat histogram\nIndex IRQ-000 Thr-000\n0 1999 0\n2 1 1990\nover: 0 2\n",
    "locust": b"Type,Name,Request Count,Failure Count,Median Response Time,Average Response Time,"
    b"Min Response Time,Max Response Time,Average Content Size,Requests/s,Failures/s,50%,99%,100%\n"
    b"GET,/,10,0,3,3.5,1.25,9.5,0,1.5,0.0,3,9,10\n,Aggregated,10,0,3,3.5,1.25,9.5,0,1,0,3,9,10\n",
    "edges": b"le_ms,count\n5,50\n10,30\n+Inf,20\n",
}

HOSTILE = (
    *(b"", b"0", b"-1", b"9" * 40, b"1e999", b"-1e-999", b"nan", b"Infinity", b"null", b"true"),
    *(b"[" * 3_000, b'{"a":' * 3_000, b'"', b"\\ud800", b"\xff\xfe", b"\x00", b"\n\n", b"," * 50),
    *(b"18446744073709551616", b"4611686018427387904", b"-9223372036854775808", b"{}", b"[]"),
    *(b"2024-02-31T00:00:00Z", b"9999-12-31T23:59:59Z", b"0.0000000000000000000001"),
)


def mutated(data: bytes, random_: random.Random) -> bytes:
    """Return the bytes with one to four changes."""
    for _ in range(random_.randint(1, 4)):
        at = random_.randrange(len(data) + 1)
        kind = random_.randrange(6)
        if kind == 0:
            data = data[:at]
        elif kind == 1:
            data = data[:at] + bytes([random_.randrange(256)]) + data[at + 1 :]
        elif kind == 2:
            data = data[:at] + data[at + random_.randint(1, 20) :]
        elif kind == 3:
            data = data[:at] + random_.choice(HOSTILE) + data[at + random_.randrange(12) :]
        elif kind == 4:
            end = min(at + random_.randint(1, 200), len(data))
            data = data[:end] + data[at:end] * random_.randint(1, 3) + data[end:]
        else:
            other = random_.randrange(len(data) + 1)
            first, last = sorted((at, other))
            data = data[:first] + data[last:] + data[first:last]
    return data


def read(name: str, path: Path, *, whole: bool) -> None:
    """Read a file as the commands do, and if `whole` make a report of it."""
    given: dict[str, list[str]] = {}
    if name in ("csv", "iso.csv", "jsonl", "json"):
        given = {
            "csv": {"marks": ["t0", "t1"]},
            "iso.csv": {"marks": ["a", "b"]},
        }.get(name, {"marks": ["a_ns", "b_ns"]})
    try:
        trace = latprof.read(ForeignFile(path, **given))
    except LatprofError as error:
        if "histograms, not frames" not in str(error):
            raise
        profile = latprof.load_profile(path)
    else:
        profile = latprof.analyze(trace, order=True) if whole else None
    if whole and profile is not None:
        str(latprof.Report(profile))


class _TooSlowError(BaseException):
    pass


def _stop(*_: object) -> None:
    raise _TooSlowError


def main(arguments: list[str] | None = None) -> int:
    """Read mutations of each format; return 1 if one was not refused properly, or took long."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutations", type=int, default=1_000, help="of each format")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=SEEDS)
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGALRM, _stop)
    failures = 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        for name, seed in SEEDS.items():
            if options.only not in (None, name):
                continue
            path.write_bytes(seed)
            read(name, path, whole=True)  # the seed is valid, and what is slow to load is loaded
            begin, slowest, refused = time.monotonic(), 0.0, 0
            for number in range(options.mutations):
                data = mutated(seed, random.Random(f"{options.seed} {name} {number}"))
                path.write_bytes(data)
                start = time.monotonic()
                try:
                    signal.alarm(SLOWEST_S)
                    read(name, path, whole=number % 20 == 0)
                except LatprofError as error:
                    refused += 1
                    if "\n" in str(error):
                        failures += 1
                        print(f"{name} {number}: the message has several lines: {error}")
                except BaseException:
                    failures += 1
                    print(f"{name} {number}: {data[:300]!r}")
                    traceback.print_exc()
                finally:
                    signal.alarm(0)
                slowest = max(slowest, time.monotonic() - start)
                if failures >= 10:
                    return 1
            took = time.monotonic() - begin
            print(
                f"{name}: {options.mutations:,} mutations, {refused:,} refused, slowest "
                f"{slowest:.2f} s, {took:.0f} s in all",
                flush=True,
            )
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
