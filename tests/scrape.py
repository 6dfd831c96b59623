"""A real Prometheus server scrapes a running profiler on loopback, and is asked for its p99.

    python -m tests.scrape [--seconds 20] [--prometheus /usr/bin/prometheus]

The server must be installed (Debian: ``apt-get install prometheus``). Shown is the answer of
``histogram_quantile`` beside latprof's own p99, with the bucket that it is in: the server
interpolates in the bucket, so both must be in it.
"""

import argparse
import json
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from pathlib import Path

import numpy as np
from prometheus_client import CollectorRegistry, start_http_server

from latprof import Pipeline, Profiler
from latprof.export.prometheus import BUCKETS, export
from latprof.units import format_ns, parse_duration

WEB = Pipeline.chain("web", "handle", "send")


def free_port() -> int:
    """Return a free port of loopback."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def asked(port: int, query: str) -> list:
    """Return the series that the server answers with."""
    where = f"http://127.0.0.1:{port}/api/v1/query?" + urllib.parse.urlencode({"query": query})
    with urllib.request.urlopen(where, timeout=10) as answer:
        return json.load(answer)["data"]["result"]


def main(arguments: list[str] | None = None) -> int:
    """Record, let the server scrape, ask it, and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--prometheus", default="prometheus")
    options = parser.parse_args(arguments)
    registry, random = CollectorRegistry(), np.random.default_rng(1)
    own, theirs = free_port(), free_port()
    with tempfile.TemporaryDirectory() as folder, Profiler(WEB, capacity=1 << 18) as profiler:
        export(profiler, registry)
        server, _ = start_http_server(own, addr="127.0.0.1", registry=registry)
        config = Path(folder) / "prometheus.yml"
        config.write_text(
            "global: {scrape_interval: 1s}\n"
            "scrape_configs: [{job_name: web, static_configs: "
            f"[{{targets: ['127.0.0.1:{own}']}}]}}]\n"
        )
        child = subprocess.Popen(
            [
                options.prometheus,
                f"--config.file={config}",
                f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address=127.0.0.1:{theirs}",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            until, number = time.monotonic() + options.seconds, 0
            while time.monotonic() < until:
                # between two scrapes; the first one has no frame yet
                time.sleep(0.05)
                if until - time.monotonic() > options.seconds - 3:
                    continue
                for handle, send in random.lognormal(16, 1, (50, 2)).astype(np.int64).tolist():
                    begin = time.perf_counter_ns()
                    stamps = [begin, begin, begin + handle, begin + handle + send]
                    profiler.record(number, stamps, source="web")
                    number += 1
            time.sleep(3)  # two more scrapes
            counted = asked(theirs, 'latprof_latency_seconds_count{span="end_to_end"}')
            spans = asked(
                theirs,
                "histogram_quantile(0.99, sum by (le, span) "
                f"(increase(latprof_latency_seconds_bucket[{int(options.seconds) + 5}s])))",
            )
        finally:
            child.kill()
            child.wait()
            server.shutdown()
        profile = profiler.report().profile
    print(f"{number:,} frames recorded, {counted[0]['value'][1]} seen by the server")
    wrong = int(counted[0]["value"][1]) != number
    edges = [parse_duration(edge, name="edge", error=ValueError) for edge in BUCKETS]
    found = {each["metric"]["span"]: float(each["value"][1]) * 1e9 for each in spans}
    for name in ("handle", "send", "end_to_end"):
        p99 = profile[name].percentile(99).value
        above = next(edge for edge in edges if edge >= p99)
        below = max([0, *(edge for edge in edges if edge < p99)])
        inside = below <= found[name] <= above
        wrong |= not inside
        print(
            f"{name}: p99 {format_ns(p99)}, by the server {format_ns(found[name])}; bucket "
            f"{format_ns(below)} to {format_ns(above)}: {'inside' if inside else 'NOT INSIDE'}"
        )
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
