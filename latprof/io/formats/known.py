"""The formats of other tools that latprof reads, each recognized by its content."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from latprof.errors import TraceError
from latprof.frames import Columns
from latprof.io.atomic import file_errors, reading
from latprof.io.formats.bins import BinnedFile
from latprof.pipeline import Pipeline

__all__ = ["FORMATS", "UNTRIED", "Format", "recognized"]

StrPath = str | os.PathLike[str]
Frames = tuple[Pipeline, Columns, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Format:
    """A format of files.

    Attributes
    ----------
    name
        As users know it.
    module
        The module of this package that has the functions ``is_<key>`` and ``read_<key>``.
    key
        Of the functions.
    kind
        spans, frames or histograms: what ``read_<key>`` returns.
    example
        A command that reads such a file.
    note
        What a frame and its stages are.
    """

    name: str
    module: str
    key: str
    kind: str
    example: str
    note: str

    def recognizes(self, head: bytes) -> bool:
        """Return whether a file that begins with `head` has this format."""
        return bool(self._function("is")(head))

    def read(self, path: StrPath) -> Any:
        """Return what the module reads from a file."""
        return self._function("read")(path)

    def histograms(self, path: StrPath, unit: str | None, metric: str | None = None) -> BinnedFile:
        """Return the histograms of a file.

        Parameters
        ----------
        path
            Of the file.
        unit
            Of its values, if it is known.
        metric
            Which of several histograms of a scrape is meant.

        Raises
        ------
        TraceError
            The file is damaged, or does not have the metric.
        """
        with file_errors(path, "cannot be read"):
            more = (metric,) if self.key == "prometheus" else ()
            if metric is not None and not more:
                raise TraceError(f"a histogram must be chosen from a scrape, got {self.name}")
            found: BinnedFile = self._function("read")(path, unit, *more)
            return found

    def frames(self, path: StrPath, spans: Sequence[str] = ()) -> Frames:
        """Return pipeline, frames and metadata of a file.

        Raises
        ------
        TraceError
            The file is damaged, has histograms, or lacks one of `spans`.
        """
        with file_errors(path, "cannot be read"):
            if self.kind == "histograms":
                raise TraceError(
                    "the file has histograms, not frames; latprof report and latprof.load_profile "
                    "read it as a profile"
                )
            found = self.read(path)
            if self.kind == "spans":
                module = import_module("latprof.io.formats.spans")
                found = module.frames_of_spans(found, spans)
            elif spans:
                raise TraceError(f"spans must be chosen from a file of spans, got {self.name}")
            frames: Frames = found
            return frames

    def _function(self, verb: str) -> Callable[..., Any]:
        function: Callable[..., Any] = getattr(
            import_module(f"latprof.io.formats.{self.module}"), f"{verb}_{self.key}"
        )
        return function


_SPANS = "a trace is a frame; stages are the operations on its critical path, or --spans"

FORMATS = (
    Format("OTLP JSON (OpenTelemetry)", "span_files", "otlp", "spans", "report otlp.json", _SPANS),
    Format("Jaeger JSON", "span_files", "jaeger", "spans", "report jaeger.json", _SPANS),
    Format("Zipkin JSON, version 2", "span_files", "zipkin", "spans", "report zipkin.json", _SPANS),
    Format(
        "Chrome trace events (Perfetto, VizTracer, Kineto, DevTools)",
        "chrome",
        "chrome",
        "spans",
        "report viztracer.json --by operation",
        "a slice at the top of a thread is a frame; stages as for spans",
    ),
    Format(
        "PresentMon CSV, version 1 and 2",
        "frame_tools",
        "presentmon",
        "frames",
        "report game.csv --by source",
        "a present is a frame, its end the display; stages cpu_busy, present, display",
    ),
    Format(
        "CapFrameX JSON",
        "frame_tools",
        "capframex",
        "frames",
        "report capture.json --by run",
        "as PresentMon; the run is a tag",
    ),
    Format(
        "MangoHud CSV",
        "frame_tools",
        "mangohud",
        "frames",
        "report mangohud.csv",
        "a row is a frame, or a sample if rows are further apart than frames",
    ),
    Format(
        "k6 CSV",
        "load_tools",
        "k6_csv",
        "frames",
        "report k6.csv --by status",
        "a request is a frame; stages blocked, connecting, ..., receiving",
    ),
    Format(
        "k6 JSON lines",
        "load_tools",
        "k6_json",
        "frames",
        "report k6.json --by status",
        "as k6 CSV",
    ),
    Format(
        "JMeter JTL (CSV)",
        "load_tools",
        "jmeter",
        "frames",
        "report results.jtl --by success",
        "a sample is a frame; stages connect, first_byte, receive",
    ),
    Format(
        "vLLM benchmark result with details",
        "load_tools",
        "vllm",
        "frames",
        "report vllm.json",
        "a request is a frame; stages first_token, decode",
    ),
    Format(
        "llmperf individual responses",
        "load_tools",
        "llmperf",
        "frames",
        "report llmperf.json",
        "a response is a frame; stages first_token, decode",
    ),
    Format(
        "GStreamer latency tracer log",
        "gstreamer",
        "gstreamer",
        "frames",
        "report gst.log --by source",
        "a buffer from source to sink is a frame; stages are elements, if they can be joined",
    ),
    Format(
        "HdrHistogram log, V0 to V2",
        "hdr",
        "hdr",
        "histograms",
        "report jitter.hlog --unit ns",
        "percentiles of all values, and by tag",
    ),
    Format(
        "HdrHistogram percentiles (.hgrm)",
        "percentile_tables",
        "hgrm",
        "histograms",
        "report wrk2.hgrm --unit ms",
        "percentiles between the rows of the table",
    ),
    Format(
        "Locust statistics CSV",
        "percentile_tables",
        "locust",
        "histograms",
        "report run_stats.csv",
        "percentiles of the requests of each name between those that Locust computed",
    ),
    Format(
        "Prometheus buckets (a scrape)",
        "counts",
        "prometheus",
        "histograms",
        "report metrics.txt --spans http_request_duration_seconds",
        "percentiles between the edges of buckets, for each set of labels",
    ),
    Format(
        "cyclictest histogram, text or JSON",
        "counts",
        "cyclictest",
        "histograms",
        "report cyclictest.txt",
        "percentiles in whole us (or --unit), for each thread",
    ),
    Format(
        "rtla timerlat or osnoise histogram",
        "counts",
        "rtla",
        "histograms",
        "report timerlat.txt",
        "percentiles in its bins: IRQ, thread and user space of each CPU",
    ),
    Format(
        "table of edges and counts",
        "counts",
        "edges",
        "histograms",
        "report buckets.csv",
        "columns le_ms and count, say; percentiles between the edges",
    ),
)
"""All formats, in the order in which they are tried."""


UNTRIED = frozenset(("capframex", "mangohud", "k6_csv", "k6_json", "vllm", "llmperf", "rtla"))
"""Formats that were tried only on files written after the tool's documentation."""


def recognized(path: StrPath) -> Format | None:
    """Return the format of a file, or None if it is not one of `FORMATS`.

    Raises
    ------
    TraceError
        The file cannot be opened or decompressed.
    """
    files = import_module("latprof.io.formats.files")
    with reading(path):
        head: bytes = files.head_of(path)
    if head.startswith(b'{"format":"latprof '):  # it may contain any name
        return None
    return next((known for known in FORMATS if known.recognizes(head)), None)
