"""Frames, child processes and the machine, for the benchmarks of analysis and storage."""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from latprof import AUDIO
from latprof.frames import Columns, Labels

CHUNK = 1 << 20
PERIOD_NS = 20_000_000
FIRST_NS = 1_700_000_000_000_000_000
MEDIANS_NS = (1_000, 20_000, 1_500, 3_000, 120_000, 300_000, 2_000_000)
META = {"created": "generated", "sampling_rate": 1.0, "lost": 0}


def frames(count: int, seed: int = 1) -> Iterator[Columns]:
    """Yield chunks of frames of an audio path: one every 20 ms, with lognormal stages."""
    rng = np.random.default_rng(seed)
    for first in range(0, count, CHUNK):
        n = min(CHUNK, count - first)
        stamps = np.arange(first, first + n, dtype=np.int64) * PERIOD_NS + FIRST_NS
        marks = {"start": stamps}
        for mark, median in zip(AUDIO.marks[1:], MEDIANS_NS, strict=True):
            stamps = stamps + rng.lognormal(np.log(median), 0.5, n).astype(np.int64)
            marks[mark] = stamps
        yield Columns(
            np.arange(first, first + n, dtype=np.uint64),
            marks,
            size=rng.integers(80, 1200, n).astype(np.uint32),
            source=Labels(rng.integers(0, 2, n).astype(np.int32), ("input", "output")),
        )


def write(path: Path, count: int) -> None:
    """Write a trace file of generated frames in constant memory."""
    from latprof.io.writer import Writer

    with Writer(path, AUDIO, META) as writer:
        for part in frames(count):
            writer.write(part)


@dataclass(frozen=True)
class Outcome:
    """The result that a child process printed, its time, and the peak memory of its tree."""

    result: dict
    whole_s: float
    peak_mb: float


def child(module: str, arguments: list[str]) -> Outcome:
    """Run a module in its own process; the last line that it prints is JSON.

    The process reports its peak memory, `peak_kb`, itself: a process that samples it would take
    time from engines that use all cores.
    """
    before = time.perf_counter()
    ended = subprocess.run(
        [sys.executable, "-m", module, *arguments], stdout=subprocess.PIPE, text=True, check=False
    )
    whole = time.perf_counter() - before
    if ended.returncode:
        raise SystemExit(f"{module} {' '.join(arguments)} ended with {ended.returncode}")
    result = json.loads(ended.stdout.splitlines()[-1])
    return Outcome(result, whole, result["peak_kb"] * 1024 / 1e6)


def own_peak_kb() -> int:
    """Return the peak memory of this process plus that of its largest child, in kB."""
    import resource

    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss may be that of the parent
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) + children
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss + children


def machine(*packages: str) -> str:
    """Return the machine and the versions of packages in one line."""
    from importlib.metadata import version

    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return (
        f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB RAM, {platform.system()}, "
        f"CPython {platform.python_version()}, {versions}"
    )


def table(header: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table; all columns but the first are numbers."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
