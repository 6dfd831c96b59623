"""Files that other tools wrote: what latprof answers, and what an independent count gives.

    python -m tests.real_files

prints a table. A count uses the text of the file and pandas, and nothing of latprof. Formats that
are not in the table were tried only on files that were written after the tool's documentation:
`latprof formats` lists them.
"""

import contextlib
import io
import json
import math
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import pandas as pd
from hdrh.histogram import HdrHistogram

from latprof.cli.main import main as latprof

FILES = Path(__file__).parent / "files"

Answer = dict[str, float | None]  # frames, and times of end_to_end in ns; None if unknown


@dataclass(frozen=True, slots=True)
class RealFile:
    """A file of `FILES`, the format it is of, the options to read it, and its own count."""

    key: str
    name: str
    options: tuple[str, ...]
    count: Callable[[Path], Answer]

    @property
    def command(self) -> str:
        return " ".join(("latprof report", self.name, *self.options))

    def answer(self) -> Answer:
        """Return what the command gives."""
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            status = latprof(["report", str(FILES / self.name), *self.options, "--format", "json"])
        assert status == 0, self.command
        content = json.loads(output.getvalue())
        total = next(span for span in content["spans"] if span["span"] == "end_to_end")
        return {"frames": content["frames"]} | {
            what: total[what] for what in ("mean", "p50", "p99", "max")
        }

    def expected(self) -> Answer:
        """Return the independent count."""
        return self.count(FILES / self.name)


def of_lengths(ns: list[int]) -> Answer:
    """Return the answer for frames of these lengths."""
    ns = sorted(ns)
    rank = {q: math.ceil(q * len(ns) / 100) for q in (50, 99)}
    return {
        "frames": len(ns),
        "mean": sum(ns) / len(ns),
        **{f"p{q}": ns[place - 1] for q, place in rank.items()},
        "max": ns[-1],
    }


def otlp(path: Path) -> Answer:
    lines = map(json.loads, path.read_text().splitlines())
    spans = [
        span
        for line in lines
        for resource in line["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]
    roots = [span for span in spans if not span.get("parentSpanId")]
    return of_lengths([int(s["endTimeUnixNano"]) - int(s["startTimeUnixNano"]) for s in roots])


def zipkin(path: Path) -> Answer:
    roots = [span for span in json.loads(path.read_text()) if not span.get("parentId")]
    return of_lengths([span["duration"] * 1_000 for span in roots])


def viztracer(path: Path) -> Answer:
    events = json.loads(path.read_text(), parse_float=Fraction)["traceEvents"]
    slices = [event for event in events if event["ph"] == "X"]
    slices.sort(key=lambda event: (event["ts"], -event["dur"]))
    ends: dict[int, Fraction] = {}
    lengths = []
    for event in slices:
        end = event["ts"] + event["dur"]
        if end > ends.get(event["tid"], 0):  # it is not within the slice before
            ends[event["tid"]] = end
            lengths.append(round(end * 1_000) - round(event["ts"] * 1_000))
    return of_lengths(lengths)


def gstreamer(path: Path) -> Answer:
    records = re.findall(r"[^-]latency, .*?time=\(guint64\)(\d+)", path.read_text())
    return of_lengths([int(ns) for ns in records])


def cyclictest_text(path: Path) -> Answer:
    text = path.read_text()
    rows = [list(map(int, line.split())) for line in text.splitlines() if line[:1].isdigit()]
    ends = {
        what: [int(us) * 1_000 for us in re.search(f"# {what}: (.*)", text)[1].split()]
        for what in ("Avg Latencies", "Max Latencies")
    }
    above = [int(n) for n in re.search("# Histogram Overflows: (.*)", text)[1].split()]
    counts = {us: sum(row[:2]) for us, *row in rows}
    frames = sum(counts.values()) + sum(above[:2])
    each = [sum(row[1 + thread] for row in rows) + above[thread] for thread in (0, 1)]
    mean = sum(n * ns for n, ns in zip(each, ends["Avg Latencies"], strict=False)) / frames
    return in_whole_us(counts, frames) | {"mean": mean, "max": max(ends["Max Latencies"])}


def cyclictest_json(path: Path) -> Answer:
    threads = json.loads(path.read_text())["thread"].values()
    counts: dict[int, int] = {}
    for thread in threads:
        for us, n in thread["histogram"].items():
            counts[int(us)] = counts.get(int(us), 0) + n
    frames = sum(thread["cycles"] for thread in threads)
    mean = sum(thread["cycles"] * thread["avg"] * 1_000 for thread in threads) / frames
    most = max(thread["max"] for thread in threads) * 1_000
    return in_whole_us(counts, frames) | {"mean": mean, "max": most}


def in_whole_us(counts: dict[int, int], frames: int) -> Answer:
    """Return percentiles of counts by time; those above all times are the maximum."""
    times = [us * 1_000 for us in sorted(counts) for _ in range(counts[us])]
    found: Answer = {"frames": frames}
    for q in (50, 99):
        rank = math.ceil(q * frames / 100)
        if rank <= len(times):
            found[f"p{q}"] = times[rank - 1]
    return found


def prometheus(path: Path) -> Answer:
    name = "prometheus_http_request_duration_seconds"
    text = path.read_text()
    frames = sum(map(int, re.findall(rf"^{name}_count.* (\d+)$", text, re.MULTILINE)))
    total = sum(map(float, re.findall(rf"^{name}_sum.* (\S+)$", text, re.MULTILINE)))
    return {"frames": frames, "mean": total * 1e9 / frames}


def jmeter(path: Path) -> Answer:
    table = pd.read_csv(path)
    return of_lengths([ms * 1_000_000 for ms in table["elapsed"]])


def hdr_log(path: Path) -> Answer:
    whole = HdrHistogram(1, 10**9, 3)
    for line in path.read_text().splitlines():
        if line[:1].isdigit():
            whole.add(HdrHistogram.decode(line.split(",")[3]))
    found: Answer = {f"p{q}": whole.get_value_at_percentile(q) for q in (50, 99)}
    return {"frames": whole.total_count, **found, "max": whole.get_max_value()}


def hdr_table(path: Path) -> Answer:
    text = path.read_text()
    found = {
        name: float(re.search(rf"{name} *= *([\d.]+)", text)[1])
        for name in ("Mean", "Max", "TotalCount")
    }
    return {"frames": int(found["TotalCount"]), "mean": found["Mean"], "max": found["Max"]}


def locust(path: Path) -> Answer:
    row = pd.read_csv(path).query("Name == 'Aggregated'").iloc[0]
    return {
        "frames": int(row["Request Count"]),
        "mean": float(row["Average Response Time"]) * 1e6,
        "max": float(row["Max Response Time"]) * 1e6,
    }


REAL_FILES = (
    RealFile("otlp", "otlp.jsonl", (), otlp),
    RealFile("zipkin", "zipkin.json", (), zipkin),
    RealFile("chrome", "viztracer.json", (), viztracer),
    RealFile("gstreamer", "gstreamer.log", (), gstreamer),
    RealFile("jmeter", "jmeter.jtl", (), jmeter),
    RealFile("hdr", "intervals.hlog", ("--unit", "ns"), hdr_log),
    RealFile("hgrm", "percentiles.hgrm", ("--unit", "ns"), hdr_table),
    RealFile("cyclictest", "cyclictest.txt", (), cyclictest_text),
    RealFile("cyclictest", "cyclictest.json", (), cyclictest_json),
    RealFile("locust", "locust_stats.csv", (), locust),
    RealFile(
        "prometheus",
        "prometheus.txt",
        ("--spans", "prometheus_http_request_duration_seconds"),
        prometheus,
    ),
)


def shown(answer: Answer, keys: list[str]) -> str:
    """Return the numbers of an answer in a line, times in us."""
    parts = []
    for key in keys:
        value = answer.get(key)
        if key == "frames" or value is None:
            parts.append(f"{key} {value}")
        else:
            parts.append(f"{key} {value / 1_000:,.3f} us")
    return ", ".join(parts)


def main() -> int:
    """Print the table."""
    print("| format | command | answer | independent count |\n| --- | --- | --- | --- |")
    for each in REAL_FILES:
        expected, answer = each.expected(), each.answer()
        keys = list(expected)
        print(f"| {each.key} | {each.command} | {shown(answer, keys)} | {shown(expected, keys)} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
