"""The traces of a fleet, folded in one process, by workers, on a Dask cluster, and from S3.

    python -m tests.benchmarks.fleet [--hosts 4] [--files 3] [--frames 400000] [--seed 1]
    python -m tests.benchmarks.fleet --hosts 10 --files 10 --frames 10000000 --only one,workers

Each host has `--files` trace files of `--frames` frames each. The files are made from the seed and
written by latprof; then each way of analyzing them runs in a process of its own: one process
("one"), 1 and 2 workers ("workers"), a Dask cluster of two processes on loopback ("dask"), moto's
S3 server on loopback ("s3": one process; "s3 workers": two), and the folder that `latprof compact`
makes ("compact", "compact s3"). Time is from the call of `analyze` to its end, without imports;
peak memory is that of the process, and of each worker. Whether a result equals that of one process
is seen from every count, sum, minimum, maximum and bin of the saved profile; moments within 1e-9.
"Requests" are those that latprof made, beside the most that are allowed: 1.05 for each column of
each row group, and 3 a file. The output is Markdown.
"""

import argparse
import contextlib
import gzip
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from latprof import AUDIO
from latprof.frames import Columns
from latprof.io.writer import Writer
from tests.benchmarks import generated

MODULE = "tests.benchmarks.fleet"
WAYS = ("one", "workers 1", "workers 2", "dask", "s3", "s3 workers", "compact", "compact s3")
COLUMNS = 11  # that are read: id, 8 marks, size, source
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


# -- traces ---------------------------------------------------------------------------------------


def write_fleet(folder: Path, hosts: int, files: int, frames: int, seed: int) -> None:
    """Write the files of each host, which follow each other; hosts differ in speed."""
    for host in range(hosts):
        scale = np.exp(np.random.default_rng([seed, host]).normal(0, 0.1))
        ends = generated.FIRST_NS
        for part in range(files):
            begin = ends
            ends = begin + frames * generated.PERIOD_NS
            path = folder / f"host-{host:04}" / f"{part:05}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            meta = generated.META | {
                "host": f"host-{host:04}",
                "recording": f"{seed}-{host}",
                "part": part + 1,
                "segments": [[begin, ends]],
            }
            with Writer(path, AUDIO, meta) as writer:
                for columns in generated.frames(frames, seed=hash((seed, host, part)) & 0xFFFF):
                    writer.write(_moved(columns, begin - generated.FIRST_NS, float(scale)))


def _moved(columns: Columns, later_ns: int, scale: float) -> Columns:
    start = columns.marks["start"]
    columns.marks = {
        mark: start + later_ns + ((ns - start) * scale).astype(np.int64)
        for mark, ns in columns.marks.items()
    }
    return columns


# -- one way, in a process of its own -------------------------------------------------------------


def run(way: str, where: str, out: str) -> dict[str, object]:
    """Analyze in one way, and save the profile; return time, memory and requests."""
    import pyarrow.parquet  # noqa: F401  # imports do not count

    import latprof
    from latprof.io.remote import REQUESTS

    with _executor(way) as (executor, peaks):
        begin = time.perf_counter()
        profile = latprof.analyze(where, executor=executor)
        seconds = time.perf_counter() - begin
        workers = peaks()
    profile.save(out)
    made = REQUESTS.take().values()
    return {
        "seconds": seconds,
        "peak_kb": _peak_kb(),
        "workers_kb": workers,
        "requests": sum(requests for requests, _ in made),
        "bytes": sum(size for _, size in made),
        "frames": profile.frames,
    }


@contextlib.contextmanager
def _executor(way: str) -> Iterator[tuple[object, object]]:
    """Give the executor of a way, and a function that returns the peak memory of its workers."""
    if "workers" in way:
        from latprof.parts import Workers

        with Workers(1 if way.endswith("1") else 2) as workers:
            # while all are alive, a call for each; one that answers twice counts once
            yield workers, lambda: _peaks(workers, 8)
    elif way == "dask":
        from distributed import Client, LocalCluster

        with (
            LocalCluster(
                n_workers=2,
                threads_per_worker=1,
                host="127.0.0.1",
                dashboard_address=None,
                memory_limit=0,
            ) as cluster,
            Client(cluster) as client,
        ):
            yield client.get_executor(), lambda: sorted(client.run(_peak_kb).values())
    else:
        yield None, list


def _peaks(workers: object, calls: int) -> list[int]:
    found = dict(
        future.result() for future in [workers.submit(_pid_and_peak) for _ in range(calls)]
    )
    return sorted(found.values())


def _pid_and_peak() -> tuple[int, int]:
    time.sleep(0.05)  # so that the other worker takes a call as well
    return os.getpid(), _peak_kb()


def _peak_kb() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1])
    raise SystemExit("needs /proc")


# -- the same profile? ----------------------------------------------------------------------------


def same(mine: Path, whole: Path) -> bool:
    """Return whether two saved profiles are equal, floats within 1e-9."""
    return _equal(*(json.loads(gzip.decompress(path.read_bytes())) for path in (mine, whole)))


def _equal(mine: object, whole: object) -> bool:
    if isinstance(whole, dict):
        return (
            isinstance(mine, dict)
            and mine.keys() == whole.keys()
            and all(_equal(mine[key], whole[key]) for key in whole)
        )
    if isinstance(whole, list):
        if not isinstance(mine, list) or len(mine) != len(whole):
            return False
        return all(map(_equal, mine, whole))
    if isinstance(whole, float) and isinstance(mine, float):
        return abs(mine - whole) <= 1e-9 * max(abs(whole), 1e-300)
    return mine == whole


# -- S3 -------------------------------------------------------------------------------------------


@contextlib.contextmanager
def s3(folders: dict[str, Path]) -> Iterator[None]:
    """Run moto's server in this process, with the files of folders in buckets."""
    import logging

    import pyarrow.fs as fs
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    address = "{}:{}".format(*server.get_host_and_port())
    os.environ |= {**ENVIRONMENT, "AWS_ENDPOINT_URL": f"http://{address}"}
    system = fs.S3FileSystem(endpoint_override=address, scheme="http", allow_bucket_creation=True)
    for bucket, folder in folders.items():
        system.create_dir(bucket)
        fs.copy_files(str(folder), bucket, destination_filesystem=system)
    try:
        yield
    finally:
        server.stop()


def most_requests(folder: Path) -> int:
    """Return how many requests are allowed for the files of a folder."""
    import pyarrow.parquet as pq

    paths = list(folder.rglob("*.parquet"))
    groups = sum(pq.read_metadata(path).num_row_groups for path in paths)
    return int(1.05 * groups * COLUMNS) + 3 * len(paths)


def main() -> None:
    """Make the traces, run all ways, and print the table; exit with 1 if a result differs."""
    if sys.argv[1:2] == ["--way"]:
        print(json.dumps(run(*sys.argv[2:5])))
        return
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--hosts", type=int, default=4)
    parser.add_argument("--files", type=int, default=3, help="of each host")
    parser.add_argument("--frames", type=int, default=400_000, help="in each file")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", metavar="one,workers 2", help=", ".join(WAYS))
    options = parser.parse_args()
    only = [name.strip() for name in options.only.split(",") if name.strip()]
    ways = [way for way in WAYS if not only or way == "one" or any(way.startswith(o) for o in only)]
    with tempfile.TemporaryDirectory(prefix="latprof-fleet-") as name, contextlib.ExitStack() as up:
        top = Path(name)
        folders = {"fleet": top / "fleet", "compact": top / "compact"}
        begin = time.perf_counter()
        write_fleet(folders["fleet"], options.hosts, options.files, options.frames, options.seed)
        wrote = time.perf_counter() - begin
        frames = options.hosts * options.files * options.frames
        size = sum(path.stat().st_size for path in folders["fleet"].rglob("*.parquet"))
        print(
            f"{options.hosts:,} hosts, {options.files:,} files of {options.frames:,} frames each, "
            f"seed {options.seed}: {frames:,} frames, {size / frames:.1f} bytes each, written in "
            f"{wrote:.1f} s"
        )
        if any("compact" in way for way in ways):
            from latprof.io.compact import compact

            begin = time.perf_counter()
            made = compact(folders["fleet"], folders["compact"])
            took = time.perf_counter() - begin
            print(
                f"latprof compact: {made.before:,} files into {made.after:,} in {took:.1f} s, "
                f"{made.after_bytes / made.before_bytes:.2f} x the bytes"
            )
        if any("s3" in way for way in ways):
            up.enter_context(s3({b: folder for b, folder in folders.items() if folder.is_dir()}))
        rows, wrong = _rows(ways, top, folders)
    packages = [name for name in ("numpy", "pyarrow", "distributed", "moto") if _has(name)]
    print(f"\n{generated.machine(*packages)}\n")
    header = [
        "",
        "seconds",
        "x one",
        "peak MB",
        "of each worker",
        "requests",
        "most",
        "MB",
        "equal",
    ]
    print(generated.table(header, rows))
    if wrong:
        raise SystemExit(f"not equal to one process: {', '.join(wrong)}")


def _rows(
    ways: list[str], top: Path, folders: dict[str, Path]
) -> tuple[list[list[str]], list[str]]:
    """Run all ways; return the rows of the table, and the ways with a wrong result."""
    rows, wrong, first = [], [], None
    for way in ways:
        bucket = "compact" if "compact" in way else "fleet"
        remote = "s3" in way
        where = f"s3://{bucket}" if remote else str(folders[bucket])
        out = top / f"{way.replace(' ', '-')}.latprof"
        found = generated.child(MODULE, ["--way", way, where, str(out)]).result
        first = first or found
        equal = same(out, top / "one.latprof")
        wrong += [] if equal else [way]
        rows.append(
            [
                way,
                f"{found['seconds']:.2f}",
                f"{found['seconds'] / first['seconds']:.2f}",
                f"{found['peak_kb'] / 1_000:,.0f}",
                ", ".join(f"{kb / 1_000:,.0f}" for kb in found["workers_kb"]) or "-",
                f"{found['requests']:,}" if remote else "-",
                f"{most_requests(folders[bucket]):,}" if remote else "-",
                f"{found['bytes'] / 1e6:,.0f}" if remote else "-",
                "yes" if equal else "NO",
            ]
        )
    return rows, wrong


def _has(name: str) -> bool:
    from importlib.util import find_spec

    return find_spec(name) is not None


if __name__ == "__main__":
    main()
