"""Size of trace files, and time to write and read them, compared with other Parquet files.

    python -m tests.benchmarks.storage [--frames 10000000] [--runs 5]

The same frames, 8 stamps each, as latprof writes them, and as plain and zstd-compressed Parquet
written by pyarrow from the same arrays. Frames are in memory before writing starts, and after
reading: with latprof as checked columns, with pyarrow as a table. Files are in the temporary
folder and are read from the page cache. The formats take turns in several rounds; the output is a
Markdown table of medians.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from latprof import AUDIO
from latprof.frames import Columns
from tests.benchmarks import generated


def save_latprof(path: Path, columns: Columns) -> None:
    from latprof.trace import Trace

    Trace.of(AUDIO, columns, dict(generated.META)).save(path)


def read_latprof(path: Path) -> int:
    from latprof.trace import read

    return len(read(path))


def saver(compression: str) -> Callable[[Path, Columns], None]:
    def save(path: Path, columns: Columns) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        stamps = {
            mark: pa.array(column).view(pa.timestamp("ns"))
            for mark, column in columns.marks.items()
        }
        source = columns.source
        assert source is not None
        table = pa.table(
            {
                "frame_id": columns.frame_id,
                **stamps,
                "size": columns.size,
                "source": pa.DictionaryArray.from_arrays(source.codes, list(source.names)),
            }
        )
        pq.write_table(
            table, path, compression=compression, use_dictionary=["source"], row_group_size=1 << 20
        )

    return save


def read_arrow(path: Path) -> int:
    import pyarrow.parquet as pq

    return pq.read_table(path).num_rows


WAYS = {
    "latprof": (save_latprof, read_latprof),
    "plain Parquet": (saver("none"), read_arrow),
    "zstd Parquet": (saver("zstd"), read_arrow),
}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=10_000_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--folder", help="where the files are written; default: a temporary one")
    options = parser.parse_args(arguments)
    columns = Columns.concat(list(generated.frames(options.frames)))
    written: dict[str, list[float]] = {name: [] for name in WAYS}
    taken: dict[str, list[float]] = {name: [] for name in WAYS}
    sizes = {}
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for _ in range(options.runs):
            for name, (save, read) in WAYS.items():
                path = Path(folder) / "frames.parquet"
                before = time.perf_counter()
                save(path, columns)
                between = time.perf_counter()
                assert read(path) == options.frames
                taken[name].append(time.perf_counter() - between)
                written[name].append(between - before)
                sizes[name] = path.stat().st_size / options.frames
                path.unlink()
    print(generated.machine("latprof", "numpy", "pyarrow"))
    print(f"\n{options.frames:,} frames of 8 stamps; {options.runs} rounds, medians:\n")
    rows = []
    for name in WAYS:
        speeds = [
            f"{options.frames / statistics.median(times[name]) / 1e6:.1f}"
            for times in (written, taken)
        ]
        rows.append([name, f"{sizes[name]:.1f}", *speeds])
    print(generated.table(["", "bytes a frame", "M frames/s written", "read"], rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
