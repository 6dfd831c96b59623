"""The frame of the stamping benchmark, recorded with other tools.

Each function returns one that records n frames, or None if the tool is not installed. All of them
take eight instants per frame. Histograms keep no frames; spans and events keep no totals. The table
names what each tool records.
"""

import importlib.util
import time
from collections.abc import Callable

__all__ = ["PEERS", "absent"]

CLOCK = time.perf_counter_ns
STAGES = ("webrtc", "validation", "serialization", "ipc", "cgo", "alsa")

Run = Callable[[int], None]


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _tracer():
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

    class NullExporter(SpanExporter):
        def export(self, spans):
            return SpanExportResult.SUCCESS

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(NullExporter()))
    return provider.get_tracer("benchmark")


def opentelemetry_spans() -> Run | None:
    if not _is_installed("opentelemetry.sdk"):
        return None
    tracer = _tracer()

    def run(frames: int) -> None:
        for frame_id in range(frames):
            with tracer.start_as_current_span("frame") as span:
                span.set_attribute("frame_id", frame_id)
                for stage in STAGES:
                    with tracer.start_as_current_span(stage):
                        pass

    return run


def opentelemetry_events() -> Run | None:
    if not _is_installed("opentelemetry.sdk"):
        return None
    tracer = _tracer()

    def run(frames: int) -> None:
        for frame_id in range(frames):
            with tracer.start_as_current_span("frame") as span:
                span.set_attribute("frame_id", frame_id)
                for stage in STAGES:
                    span.add_event(stage)

    return run


def viztracer_events() -> Run | None:
    if not _is_installed("viztracer"):
        return None
    from viztracer import VizTracer

    tracer = VizTracer(tracer_entries=1_000_000, verbose=0)

    def run(frames: int) -> None:
        tracer.start()
        try:
            for _ in range(frames):
                with tracer.log_event("frame"):
                    for stage in STAGES:
                        with tracer.log_event(stage):
                            pass
        finally:
            tracer.stop()
            tracer.clear()

    return run


def hdrhistogram() -> Run | None:
    if not _is_installed("hdrh"):
        return None
    from hdrh.histogram import HdrHistogram

    histograms = [HdrHistogram(1, 60_000_000_000, 3) for _ in range(7)]

    def run(frames: int) -> None:
        for _ in range(frames):
            stamps = [CLOCK() for _ in range(8)]
            for k in range(7):
                histograms[k].record_value(stamps[k + 1] - stamps[k] + 1)

    return run


def prometheus() -> Run | None:
    if not _is_installed("prometheus_client"):
        return None
    from prometheus_client import CollectorRegistry, Histogram

    registry = CollectorRegistry()
    histograms = [Histogram(f"h{i}", "a span", registry=registry) for i in range(7)]

    def run(frames: int) -> None:
        for _ in range(frames):
            stamps = [CLOCK() for _ in range(8)]
            for k in range(7):
                histograms[k].observe((stamps[k + 1] - stamps[k]) * 1e-9)

    return run


PEERS: list[tuple[str, Callable[[], Run | None], int]] = [
    ("OpenTelemetry, 7 spans", opentelemetry_spans, 1_000),
    ("OpenTelemetry, a span with 6 events", opentelemetry_events, 1_000),
    ("VizTracer, 7 x `log_event`", viztracer_events, 5_000),
    ("hdrhistogram, 7 x `record_value`", hdrhistogram, 10_000),
    ("prometheus_client, 7 x `observe`", prometheus, 10_000),
]
"""Name, function, and the number of frames that is enough for a measurement."""


def absent() -> list[str]:
    """Return the names of the tools that are not installed."""
    return [name for name, make, _ in PEERS if make() is None]
