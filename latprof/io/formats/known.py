"""The formats of other tools that latprof reads, each recognized by its content."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from latprof.errors import TraceError
from latprof.io.atomic import file_errors, reading
from latprof.io.formats.bins import EDGES, BinnedFile
from latprof.io.formats.files import BOM, head_of
from latprof.io.formats.spans import frames_of_spans
from latprof.io.formats.stages import Frames
from latprof.io.paths import StrPath

__all__ = ["FORMATS", "UNTRIED", "Format", "recognized"]


@dataclass(frozen=True, slots=True)
class Format:
    """A format of files.

    Attributes
    ----------
    name
        As users know it.
    reader
        The module of this package, a dot, and the key: the module's function ``read_<key>`` reads
        such a file.
    kind
        spans, frames or histograms: what that function returns.
    example
        A command that reads such a file.
    note
        What a frame and its stages are.
    recognizes
        Returns whether a file that begins with these bytes (without a byte order mark) has this
        format.
    """

    name: str
    reader: str
    kind: str
    example: str
    note: str
    recognizes: Callable[[bytes], bool]

    @property
    def key(self) -> str:
        """The short name."""
        return self.reader.partition(".")[2]

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
            if metric is not None and self.key != "prometheus":
                raise TraceError(
                    f"a metric must be chosen from a scrape of Prometheus, got {self.name}; leave "
                    "it out (--spans)"
                )
            found: BinnedFile = self._read(path, unit, *(() if metric is None else (metric,)))
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
            found = self._read(path)
            if self.kind == "spans":
                return frames_of_spans(found, spans)
            if spans:
                raise TraceError(
                    f"spans must be chosen from a file of spans, got {self.name}; leave them out "
                    "(--spans)"
                )
            frames: Frames = found
            return frames

    def _read(self, path: StrPath, *more: str | None) -> Any:
        """Return what the module reads from a file."""
        module, _, key = self.reader.partition(".")
        found = import_module(f"latprof.io.formats.{module}")  # most of them load pyarrow
        with reading(path):
            return getattr(found, f"read_{key}")(path, *more)


def _has_all(*words: bytes) -> Callable[[bytes], bool]:
    """Return a function that finds all of these words in the first bytes of a file."""
    return lambda head: all(word in head for word in words)


def _has_one(*words: bytes) -> Callable[[bytes], bool]:
    """Return a function that finds one of these words in the first bytes of a file."""
    return lambda head: any(word in head for word in words)


def _begins_with(*words: bytes) -> Callable[[bytes], bool]:
    """Return a function that finds one of these words at the begin of a file."""
    return lambda head: head.startswith(words)


def _has_line(pattern: bytes) -> Callable[[bytes], bool]:
    """Return a function that finds a line that begins with a pattern."""
    return lambda head: re.search(pattern, head, re.MULTILINE) is not None


def _is_chrome(head: bytes) -> bool:
    return b'"traceEvents"' in head or (
        head.lstrip(b" \t\r\n").startswith(b"[") and b'"ph"' in head
    )


def _is_presentmon(head: bytes) -> bool:
    first = head.partition(b"\n")[0].lower()
    return first.startswith(b"application,processid") and b"swapchainaddress" in first


def _is_jmeter(head: bytes) -> bool:
    """Recognize CSV, and XML, which is refused with a remedy."""
    table = re.match(rb"timeStamp([,;\t|])elapsed\1", head)
    return table is not None or b"<testResults" in head[:1_000]


def _is_vllm(head: bytes) -> bool:
    return b'"ttfts"' in head or (b'"mean_ttft_ms"' in head and head.lstrip().startswith(b"{"))


def _is_cyclictest(head: bytes) -> bool:
    return b"# Histogram" in head or (b'"cyclictest' in head and b'"histogram"' in head)


_SPANS = "a trace is a frame; stages are the operations on its critical path, or --spans"

FORMATS = (
    Format(
        "OTLP JSON (OpenTelemetry)",
        "span_files.otlp",
        "spans",
        "report otlp.json",
        _SPANS,
        _has_all(b'"resourceSpans"'),
    ),
    Format(
        "Jaeger JSON",
        "span_files.jaeger",
        "spans",
        "report jaeger.json",
        _SPANS,
        _has_all(b'"traceID"', b'"spanID"'),
    ),
    Format(
        "Zipkin JSON, version 2",
        "span_files.zipkin",
        "spans",
        "report zipkin.json",
        _SPANS,
        _has_all(b'"traceId"', b'"id"', b'"timestamp"'),
    ),
    Format(
        "Chrome trace events (Perfetto, VizTracer, Kineto, DevTools)",
        "chrome.chrome",
        "spans",
        "report viztracer.json --by operation",
        "a slice at the top of a thread is a frame; stages as for spans",
        _is_chrome,
    ),
    Format(
        "PresentMon CSV, version 1 and 2",
        "frame_tools.presentmon",
        "frames",
        "report game.csv --by source",
        "a present is a frame, its end the display; stages cpu_busy, present, display",
        _is_presentmon,
    ),
    Format(
        "CapFrameX JSON",
        "frame_tools.capframex",
        "frames",
        "report capture.json --by run",
        "as PresentMon; the run is a tag",
        _has_all(b'"Runs"', b'"CaptureData"'),
    ),
    Format(
        "MangoHud CSV",
        "frame_tools.mangohud",
        "frames",
        "report mangohud.csv",
        "a row is a frame, or a sample if rows are further apart than frames",
        _has_line(rb"^fps,frametime,"),
    ),
    Format(
        "k6 CSV",
        "load_tools.k6_csv",
        "frames",
        "report k6.csv --by status",
        "a request is a frame; stages blocked, connecting, ..., receiving",
        _begins_with(b"metric_name,timestamp,metric_value"),
    ),
    Format(
        "k6 JSON lines",
        "load_tools.k6_json",
        "frames",
        "report k6.json --by status",
        "as k6 CSV",
        _has_one(b'"type":"Point"', b'"type":"Metric"'),
    ),
    Format(
        "JMeter JTL (CSV)",
        "load_tools.jmeter",
        "frames",
        "report results.jtl --by success",
        "a sample is a frame; stages connect, first_byte, receive",
        _is_jmeter,
    ),
    Format(
        "vLLM benchmark result with details",
        "load_tools.vllm",
        "frames",
        "report vllm.json",
        "a request is a frame; stages first_token, decode",
        _is_vllm,
    ),
    Format(
        "llmperf individual responses",
        "load_tools.llmperf",
        "frames",
        "report llmperf.json",
        "a response is a frame; stages first_token, decode",
        _has_all(b'"ttft_s"', b'"end_to_end_latency_s"'),
    ),
    Format(
        "GStreamer latency tracer log",
        "gstreamer.gstreamer",
        "frames",
        "report gst.log --by source",
        "a buffer from source to sink is a frame; stages are elements, if they can be joined",
        _has_all(b"GST_TRACER", b"latency"),
    ),
    Format(
        "HdrHistogram log, V0 to V2",
        "hdr.hdr",
        "histograms",
        "report jitter.hlog --unit ns",
        "percentiles of all values, and by tag",
        _has_one(b"#[Histogram log format", b'"StartTimestamp"', b",HISTF"),
    ),
    Format(
        "HdrHistogram percentiles (.hgrm)",
        "percentile_tables.hgrm",
        "histograms",
        "report wrk2.hgrm --unit ms",
        "percentiles between the rows of the table",
        _has_line(rb'Value[\s,"]+Percentile[\s,"]+TotalCount'),
    ),
    Format(
        "Locust statistics CSV",
        "percentile_tables.locust",
        "histograms",
        "report run_stats.csv",
        "percentiles of the requests of each name between those that Locust computed",
        _begins_with(
            b"Type,Name,Request Count,Failure Count,Median Response Time,",
            b"Timestamp,User Count,Type,Name,",
        ),
    ),
    Format(
        "Prometheus buckets (a scrape)",
        "counts.prometheus",
        "histograms",
        "report metrics.txt --spans http_request_duration_seconds",
        "percentiles between the edges of buckets, for each set of labels",
        _has_line(rb'^[a-zA-Z_:][\w:]*_bucket\s*\{[^\n]*le="'),
    ),
    Format(
        "cyclictest histogram, text or JSON",
        "counts.cyclictest",
        "histograms",
        "report cyclictest.txt",
        "percentiles in whole us (or --unit), for each thread",
        _is_cyclictest,
    ),
    Format(
        "rtla timerlat or osnoise histogram",
        "counts.rtla",
        "histograms",
        "report timerlat.txt",
        "percentiles in its bins: IRQ, thread and user space of each CPU",
        _has_all(b"# RTLA ", b"histogram"),
    ),
    Format(
        "table of edges and counts",
        "counts.edges",
        "histograms",
        "report buckets.csv",
        "columns le_ms and count, say; percentiles between the edges",
        lambda head: EDGES.match(head) is not None,
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
    with reading(path):
        head = head_of(path).removeprefix(BOM)
    if head.startswith(b'{"format":"latprof '):  # it may contain any name
        return None
    return next((known for known in FORMATS if known.recognizes(head)), None)
