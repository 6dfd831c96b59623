"""Reads results of load tools, a request for each frame: k6, JMeter, vLLM, llmperf."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from latprof.arrays import Ints
from latprof.errors import TraceError
from latprof.frames import MISSING, Labels
from latprof.io.formats.columns import UNREADABLE, check_columns
from latprof.io.formats.files import head_of
from latprof.io.formats.json_values import JsonValues, json_lines_of, list_of
from latprof.io.formats.logs import (
    UNREADABLE_VALUES,
    Frames,
    Log,
    frames_of_lengths,
    times_of,
)
from latprof.io.formats.times import TimeForm, to_ns
from latprof.io.paths import StrPath
from latprof.text import quoted

__all__ = [
    "read_jmeter",
    "read_k6_csv",
    "read_k6_json",
    "read_llmperf",
    "read_vllm",
]

_STAGES = ("blocked", "connecting", "tls_handshaking", "sending", "waiting", "receiving")
_INCOMPLETE = "requests without all of their times"


# -- k6 -----------------------------------------------------------------------------------------


def read_k6_csv(path: StrPath) -> Frames:
    """Return the requests of k6's CSV, with times in whole seconds.

    Raises
    ------
    TraceError
        The file has no request.
    """
    log, needed = Log.of_csv(path), ("metric_name", "timestamp", "metric_value")
    check_columns(needed, list(log.columns))
    metrics, at, values = (log.columns[name].to_pylist() for name in needed)
    same = [log.columns[n].to_pylist() for n in ("url", "name", "scenario") if n in log.columns]
    status = log.columns["status"].to_pylist() if "status" in log.columns else [None] * log.rows
    keys = zip(at, *same, strict=True)
    points = zip(metrics, at, keys, values, status, strict=True)
    return _requests(points, _form_of(at), log.notes)


def _form_of(at: list[str | None]) -> TimeForm:
    """Return the form of the times: seconds by default, or another K6_CSV_TIME_FORMAT."""
    whole = next((text for text in at if text), "").partition(".")[0]
    if not whole.isdecimal():
        return TimeForm("zoned")
    unit = next((u for u, most in (("s", 11), ("ms", 14), ("us", 17)) if len(whole) <= most), "ns")
    return TimeForm("decimal", unit, 6)


def read_k6_json(path: StrPath) -> Frames:
    """Return the requests of k6's JSON lines.

    Raises
    ------
    TraceError
        The file has no request.
    """
    notes: Counter[str] = Counter()

    def points() -> Iterator[tuple[Any, ...]]:
        """Yield the metric, the time, what is the same for a request, the value and the status."""
        for _, content in json_lines_of(path):
            try:
                if content["type"] == "Point":
                    data = content["data"]
                    tags = data.get("tags") or {}
                    key = (data["time"], *(str(tags.get(n)) for n in ("url", "name", "scenario")))
                    value = str(data["value"])
                    yield content["metric"], str(data["time"]), key, value, tags.get("status")
            except (TypeError, KeyError, AttributeError):
                notes[UNREADABLE] += 1

    return _requests(points(), TimeForm("zoned"), notes)


def _requests(points: Any, form: TimeForm, notes: Counter[str]) -> Frames:
    """Return requests of points in the order of the file.

    The points of a request follow each other and have the same time and labels. Each point is
    looked at in Python: which request it belongs to depends on those before it.
    """
    ends: list[str | None] = []
    status: list[str | None] = []
    lengths: dict[str, list[str | None]] = {name: [] for name in (*_STAGES, "duration")}
    key: Any = None
    have: set[str] = set()
    for metric, at, own, value, code in points:
        name = metric.removeprefix("http_req_") if isinstance(metric, str) else ""
        if name not in lengths or not str(metric).startswith("http_req_"):
            continue
        if own != key or name in have:
            key, have = own, set()
            ends.append(at)
            status.append(None if code is None else str(code))
            for each in lengths.values():
                each.append(None)
        have.add(name)
        lengths[name][-1] = value
    if not ends:
        raise TraceError("the file must have the metrics http_req_... of requests, got none")
    times = {
        name: times_of(pa.array(each, pa.string()), "ms", notes) for name, each in lengths.items()
    }
    stages = {name: times[name] for name in _STAGES}
    duration = times["duration"]
    before = _sum([stages[name] for name in ("blocked", "connecting", "tls_handshaking")])
    ended = duration != MISSING
    whole = np.where(ended, before + np.where(ended, duration, 0), MISSING)
    end, wrong = to_ns(pa.array(ends, pa.string()), form)
    start = np.where((end == MISSING) | (whole == MISSING), MISSING, end - whole)
    notes[UNREADABLE_VALUES] += 0 if wrong is None else int(wrong.sum())
    notes[_INCOMPLETE] += int((whole == MISSING).sum())
    return frames_of_lengths(
        "k6",
        start,
        stages,
        whole,
        said=["the time of a point is when its request ended"],
        notes=notes,
        tags={"status": Labels.encode(status)},
    )


def _sum(arrays: list[Ints]) -> Ints:
    known = [np.where(each == MISSING, 0, each) for each in arrays]
    total: Ints = np.sum(known, axis=0, dtype=np.int64)
    return total


# -- JMeter -------------------------------------------------------------------------------------


def read_jmeter(path: StrPath) -> Frames:
    """Return the samples of a JTL file: connecting, waiting for the first byte, receiving.

    Raises
    ------
    TraceError
        The file is not a table.
    """
    if b"<testResults" in head_of(path, 1_000):
        raise TraceError(
            "results of JMeter must be CSV, got XML; set the property "
            "jmeter.save.saveservice.output_format=csv"
        )
    log = Log.of_csv(path)
    check_columns(("timestamp", "elapsed"), list(log.columns))
    start = log.times("ms", "timestamp")
    if log.notes[UNREADABLE_VALUES] == log.rows:
        raise TraceError(
            "column 'timeStamp' must have ms since 1970, got "
            f"{quoted(log.columns['timestamp'][0].as_py(), 40)}; set the property "
            "jmeter.save.saveservice.timestamp_format=ms"
        )
    elapsed, connect = log.times("ms", "elapsed"), log.times("ms", "connect")
    latency = log.times("ms", "latency")
    latency = np.where(latency == 0, MISSING, latency)  # JMeter's way to say unknown
    known = (latency != MISSING) & (elapsed != MISSING)
    connected = np.where(connect == MISSING, 0, connect)
    stages = {
        "connect": connect,
        "first_byte": np.where(known, latency - connected, MISSING),
        "receive": np.where(known, elapsed - latency, MISSING),
    }
    return frames_of_lengths(
        "jmeter",
        start,
        stages,
        elapsed,
        said=["times are in ms; a latency of 0 is unknown"],
        notes=log.notes,
        tags={"code": log.names("responsecode"), "success": log.names("success")},
        source=log.names("label"),
    )


# -- language models ----------------------------------------------------------------------------


def read_vllm(path: StrPath) -> Frames:
    """Return the requests of a result of vLLM: the first token, and all others.

    Raises
    ------
    TraceError
        The result has no details of requests, or is damaged.
    """
    found: dict[str, list[Any]] = {name: [] for name in ("ttfts", "itls", "start_times", "errors")}
    notes: Counter[str] = Counter()
    for key, value in JsonValues(path, (*found, "generated_texts")):
        if key == "itls":
            gaps = _seconds(list_of(value), notes)
            found[key].append(int(np.where(gaps == MISSING, 0, gaps).sum()))
        elif key in found:
            found[key].append(value)
    rows = len(found["ttfts"])
    if not rows or len(found["itls"]) != rows:
        raise TraceError(
            "the result must have the times of each request (ttfts and itls); run the benchmark "
            "with --save-detailed"
        )
    starts = found["start_times"]
    start = _seconds(starts, Counter()) if len(starts) == rows else None
    errors = found["errors"] if len(found["errors"]) == rows else [""] * rows
    first, rest = _seconds(found["ttfts"], notes), np.array(found["itls"], np.int64)
    return _responses("vllm", start, first, rest, errors, notes)


def read_llmperf(path: StrPath) -> Frames:
    """Return the responses of llmperf: the first token, and all others.

    Raises
    ------
    TraceError
        The file is damaged.
    """
    first, whole, errors = [], [], []
    for _, value in JsonValues(path):
        if isinstance(value, dict):
            first.append(value.get("ttft_s"))
            whole.append(value.get("end_to_end_latency_s"))
            errors.append(value.get("error_code"))
    notes: Counter[str] = Counter()
    ttft, end = _seconds(first, notes), _seconds(whole, notes)
    known = (ttft != MISSING) & (end != MISSING)
    rest = np.where(known, end - np.where(known, ttft, 0), MISSING)
    return _responses("llmperf", None, ttft, rest, errors, notes)


def _responses(
    name: str,
    start: Ints | None,
    first: Ints,
    rest: Ints,
    errors: list[Any],
    notes: Counter[str],
) -> Frames:
    """Return responses of the first token and the rest; those with an error are dropped."""
    failed = np.array([error not in (None, "", 0) for error in errors], bool)
    known = ~failed & (first != MISSING) & (rest != MISSING)
    outcome = Labels(np.where(failed, 0, -1).astype(np.int32), ("error",))
    return frames_of_lengths(
        name,
        start,
        {"first_token": np.where(failed, MISSING, first), "decode": np.where(known, rest, MISSING)},
        np.where(known, np.where(known, first, 0) + np.where(known, rest, 0), MISSING),
        said=["requests with an error are dropped"] if failed.any() else [],
        notes=notes,
        outcome=outcome if failed.any() else None,
    )


def _seconds(values: list[Any], notes: Counter[str]) -> Ints:
    """Return numbers of seconds in ns; see `times_of`."""
    return times_of(pa.array(map(_number, values), pa.string()), "s", notes)


def _number(value: Any) -> str | None:
    return str(value)[:60] if isinstance(value, int | str) and not isinstance(value, bool) else None
