"""CSV of frames: latprof and pandas read the same file and compute the same percentiles.

    python -m tests.benchmarks.tables --rows 10000000

Each run is a process of its own, in turns; the time is that after the imports.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

MARKS = ["t0", "t1", "t2", "t3", "t4"]
FORMS = ("ns", "iso", "decimal")

LATPROF = """
import json, sys, time
import latprof, pyarrow.csv, latprof.analysis, latprof.io.formats.rows
start, cpu = time.perf_counter(), time.process_time()
marks = ["t0", "t1", "t2", "t3", "t4"]
unit = {"ns": "ns", "iso": None, "decimal": "s"}[sys.argv[2]]
profile = latprof.analyze(latprof.ForeignFile(sys.argv[1], marks=marks, unit=unit))
found = {name: [profile[name].percentile(q).value for q in (50, 90, 99)] for name in profile.spans}
took = time.perf_counter() - start
"""

PANDAS = """
import json, sys, time
import numpy as np, pandas as pd
start, cpu = time.perf_counter(), time.process_time()
marks = ["t0", "t1", "t2", "t3", "t4"]
dates = marks if sys.argv[2] == "iso" else None
table = pd.read_csv(sys.argv[1], parse_dates=dates)
scale = 1e9 if sys.argv[2] == "decimal" else 1
spans = {f"{b}": table[b] - table[a] for a, b in zip(marks, marks[1:])}
spans["end_to_end"] = table["t4"] - table["t0"]
found = {}
for name, lengths in spans.items():
    known = lengths.quantile([0.5, 0.9, 0.99], interpolation="lower")
    if sys.argv[2] == "iso":
        known = known.dt.total_seconds() * 1e9
    found[name] = [float(value) * scale for value in known]
    lengths.mean(), lengths.std(), lengths.min(), lengths.max()
took = time.perf_counter() - start
"""


# ru_maxrss would include what the process that starts this one had before
MEASURED = """
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
used = time.process_time() - cpu
print(json.dumps([took, int(peak.split()[1]) // 1024, found["end_to_end"], used]))
"""


def write(path: Path, form: str, rows: int) -> None:
    """Write `rows` frames of 5 marks in parts."""
    import pyarrow as pa
    from pyarrow import csv

    rng = np.random.default_rng(5)
    with path.open("wb") as file:
        file.write(b",".join(mark.encode() for mark in MARKS) + b"\n")
        for first in range(0, rows, 500_000):
            n = min(500_000, rows - first)
            ns = [1_700_000_000_000_000_000 + np.arange(first, first + n) * 100_000]
            for _ in MARKS[1:]:
                ns.append(ns[-1] + rng.lognormal(13, 1, n).astype(np.int64))
            arrays = [pa.array(each) for each in ns]
            if form == "iso":
                arrays = [each.cast(pa.timestamp("ns", "UTC")) for each in arrays]
            elif form == "decimal":
                arrays = [
                    pa.array(
                        np.char.add(
                            np.char.add((each // 10**9).astype(str), "."),
                            np.char.zfill((each % 10**9).astype(str), 9),
                        )
                    )
                    for each in ns
                ]
            options = csv.WriteOptions(include_header=False, quoting_style="none")
            csv.write_csv(pa.table(arrays, names=MARKS), file, options)


def main() -> None:
    """Print medians and ratios for each form of times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "frames.csv"
        for form in FORMS:
            write(path, form, options.rows)
            taken: dict[str, list[list[float]]] = {"latprof": [], "pandas": []}
            for _ in range(options.runs):
                for name, program in (("latprof", LATPROF), ("pandas", PANDAS)):
                    command = [sys.executable, "-c", program + MEASURED, str(path), form]
                    text = subprocess.run(command, check=True, capture_output=True, text=True)
                    taken[name].append(json.loads(text.stdout.splitlines()[-1]))
                    time.sleep(0.1)
            seconds = {
                name: statistics.median(run[0] for run in runs) for name, runs in taken.items()
            }
            memory = {name: max(run[1] for run in runs) for name, runs in taken.items()}
            cpu = {name: statistics.median(run[3] for run in runs) for name, runs in taken.items()}
            mine, theirs = taken["latprof"][0][2], taken["pandas"][0][2]
            assert np.allclose(mine, theirs, rtol=0.001), (mine, theirs)
            size = path.stat().st_size / 1e6
            print(
                f"{form}: {options.rows:,} rows, {size:,.0f} MB: "
                + ", ".join(
                    f"{name} {seconds[name]:.2f} s, {cpu[name]:.2f} s of processors, "
                    f"{memory[name]:,} MB"
                    for name in taken
                )
                + f", ratio {seconds['latprof'] / seconds['pandas']:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
