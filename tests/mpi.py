"""Workers of MPI fold a recording in parts, and give the profile of one process.

    mpiexec -n 2 python -m mpi4py.futures -m tests.mpi [--frames 3000000]

Needs mpi4py and an MPI: ``pip install mpi4py mpich``, or Debian's ``openmpi-bin``. The first
process runs this program, the others are its workers. MPI is imported where it is used, since
pytest imports all modules to find examples in them.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import latprof
from latprof import Pipeline, Span, Trace, parts
from latprof.report.report import Report

WEB = Pipeline(
    "web",
    ("start", "sent", "end"),
    (Span("queue", "start", "sent"), Span("serve", "sent", "end", station="server")),
    period=1_000_000,
)
FILES = 12


def where(_: int) -> int:
    """Return the number of the process that runs this."""
    from mpi4py import MPI

    return MPI.COMM_WORLD.Get_rank()


def write(folder: Path, frames: int) -> list[Path]:
    """Write a recording of a queue with one server at load 0.8, as files of similar size."""
    random = np.random.default_rng(1)
    service = random.gamma(4, 200_000, frames).astype(np.int64)
    start = np.arange(frames) * 1_000_000
    done = np.cumsum(service)
    end = done + np.maximum.accumulate(start - (done - service))
    paths = []
    for number, rows in enumerate(np.array_split(np.arange(frames), FILES)):
        marks = {"start": start[rows], "sent": (end - service)[rows], "end": end[rows]}
        source = np.where(rows % 3, "in", "out")
        trace = Trace(WEB, frame_id=rows, marks=marks, source=source)
        paths.append(folder / f"{number:02}.parquet")
        trace.save(paths[-1])
    return paths


def same(mine: object, whole: object) -> bool:
    """Return whether two reports have equal numbers, but for the rounding of floats."""
    if isinstance(whole, dict) and isinstance(mine, dict):
        return mine.keys() == whole.keys() and all(same(mine[key], whole[key]) for key in whole)
    if isinstance(whole, list) and isinstance(mine, list):
        return len(mine) == len(whole) and all(map(same, mine, whole))
    if isinstance(whole, float) and isinstance(mine, float):
        return abs(mine - whole) <= 1e-9 * abs(whole)
    return mine == whole


def main(arguments: list[str] | None = None) -> int:
    """Fold with and without workers, and compare."""
    from mpi4py import MPI
    from mpi4py.futures import MPIPoolExecutor

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=3_000_000)
    options = parser.parse_args(arguments)
    settings = {"by": "source", "order": True, "every": "10s", "deadline": "3ms"}
    with tempfile.TemporaryDirectory() as folder:
        paths = write(Path(folder), options.frames)
        whole = latprof.analyze(paths, **settings)
        with MPIPoolExecutor() as executor:
            ranks = sorted(set(executor.map(where, range(20))))
            parts.PART_ROWS = options.frames // 8
            begin = time.perf_counter()
            mine = latprof.analyze(paths[::-1], executor=executor, **settings)
            took = time.perf_counter() - begin
    equal = same(Report(mine).to_dict(), Report(whole).to_dict())
    print(
        f"{mine.frames:,} frames by processes {ranks} of {MPI.COMM_WORLD.Get_size()} of "
        f"{MPI.Get_library_version().splitlines()[0]} in {took:.2f} s: "
        f"{'equal to' if equal else 'DIFFERENT FROM'} one process"
    )
    return int(not equal)


if __name__ == "__main__":
    sys.exit(main())
