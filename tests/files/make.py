"""Makes the files of this folder that other tools write; run it in this folder.

It needs viztracer, opentelemetry-sdk, opentelemetry-exporter-otlp-json-file,
opentelemetry-exporter-zipkin-json and hdrhistogram. For the other files see README.md.
"""

import http.server
import random
import threading
import time
from pathlib import Path

PROGRAM = """
def decode(): time.sleep(0.001)
def play(): time.sleep(0.002)
def frame():
    decode(); play()
def worker():
    for _ in range(6): frame()
"""


def viztracer() -> None:
    """Write slices of two threads."""
    from viztracer import VizTracer

    names = {"time": time}
    exec(compile(PROGRAM, "pipeline.py", "exec"), names)
    with VizTracer(
        output_file="viztracer.json",
        verbose=0,
        ignore_c_function=True,
        exclude_files=[threading.__file__],
        file_info=False,
    ):
        thread = threading.Thread(target=names["worker"])
        thread.start()
        names["worker"]()
        thread.join()


def otlp() -> None:
    """Write three traces as lines."""
    from opentelemetry.exporter.otlp.json.file.trace_exporter import FileSpanExporter

    Path("otlp.jsonl").unlink(missing_ok=True)
    traces(FileSpanExporter("otlp.jsonl"), simple=True)


def zipkin() -> None:
    """Write the same traces as the exporter sends them to a server of Zipkin."""
    from opentelemetry.exporter.zipkin.json import ZipkinExporter

    class Saving(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            Path("zipkin.json").write_bytes(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(202)
            self.end_headers()

    with http.server.HTTPServer(("127.0.0.1", 0), Saving) as server:
        threading.Thread(target=server.serve_forever).start()
        traces(ZipkinExporter(endpoint=f"http://127.0.0.1:{server.server_port}/"), simple=False)
        server.shutdown()


def traces(exporter: object, *, simple: bool) -> None:
    """Record three traces: children a, d and b of the root, c below b; times are chosen."""
    from opentelemetry import trace
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": "shop"}))
    provider.add_span_processor((SimpleSpanProcessor if simple else BatchSpanProcessor)(exporter))
    tracer = provider.get_tracer("tests")
    for number in range(3):
        at = 1_700_000_000_000_000_000 + number * 1_000_000_000
        root = tracer.start_span("checkout", start_time=at)
        ends, spans = [(root, 100)], {"root": root}
        for name, parent, begin, end in (
            ("a", "root", 0, 30),
            ("d", "root", 10, 25),
            ("b", "root", 30, 90),
            ("c", "b", 50, 70),
        ):
            above = trace.set_span_in_context(spans[parent])
            spans[name] = tracer.start_span(name, above, start_time=at + begin * 1_000_000)
            ends.append((spans[name], end))
        for span, end in ends:
            span.end(at + end * 1_000_000)
    provider.shutdown()


def hdrhistogram() -> None:
    """Write a log of three intervals, and the table of percentiles of all values."""
    from hdrh.histogram import HdrHistogram
    from hdrh.log import HistogramLogWriter

    values = random.Random(5)
    whole = HdrHistogram(1, 10**9, 3)
    with open("intervals.hlog", "w") as file:
        writer = HistogramLogWriter(file)
        writer.output_log_format_version()
        writer.output_legend()
        for second in range(3):
            part = HdrHistogram(1, 10**9, 3)
            for _ in range(200):
                part.record_value(int(values.lognormvariate(12, 1)))
            part.set_start_time_stamp(second * 1_000)
            part.set_end_time_stamp(second * 1_000 + 1_000)
            writer.output_interval_histogram(part)
            whole.add(part)
    with open("percentiles.hgrm", "wb") as file:
        whole.output_percentile_distribution(file, 1.0)


if __name__ == "__main__":
    viztracer()
    otlp()
    zipkin()
    hdrhistogram()
