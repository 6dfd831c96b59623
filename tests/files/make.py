"""Makes the files of this folder that other tools write; run it in this folder.

It needs viztracer, opentelemetry-sdk and opentelemetry-exporter-otlp-json-file, which the tests
do not. The other files were written by hand after the tools' documentation: see README.md.
"""

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
    """Write three traces: children a, d and b of the root, c below b, as lines."""
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.json.file.trace_exporter import FileSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor

    Path("otlp.jsonl").unlink(missing_ok=True)
    provider = TracerProvider(resource=Resource.create({"service.name": "shop"}))
    provider.add_span_processor(SimpleSpanProcessor(FileSpanExporter("otlp.jsonl")))
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


if __name__ == "__main__":
    viztracer()
    otlp()
