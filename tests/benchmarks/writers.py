"""Writes generated frames as other tools do with their defaults, each in its own process.

    python -m tests.benchmarks.writers WRITER SOURCE TARGET

SOURCE is a trace file of latprof. "groups" is pyarrow with row groups of 700,000 rows.
"""

import json
import sys
from collections.abc import Callable
from shutil import copyfile

from tests.benchmarks.generated import own_peak_kb


def by_latprof(source: str, target: str) -> None:
    copyfile(source, target)


def by_pandas(source: str, target: str) -> None:
    import pandas as pd

    frame = pd.read_parquet(source)
    frame.attrs.clear()  # as if it did not come from latprof
    frame.to_parquet(target)


def by_polars(source: str, target: str) -> None:
    import polars as pl

    pl.read_parquet(source).write_parquet(target)


def by_duckdb(source: str, target: str) -> None:
    import duckdb

    duckdb.sql(f"COPY (SELECT * FROM '{source}') TO '{target}'")


def by_groups(source: str, target: str) -> None:
    import pyarrow.parquet as pq

    table = pq.read_table(source).replace_schema_metadata(None)
    pq.write_table(table, target, row_group_size=700_000)


WRITERS: dict[str, Callable[[str, str], None]] = {
    "pandas": by_pandas,
    "polars": by_polars,
    "duckdb": by_duckdb,
    "groups": by_groups,
    "latprof": by_latprof,
}


def main(arguments: list[str]) -> int:
    writer, source, target = arguments
    WRITERS[writer](source, target)
    print(json.dumps({"peak_kb": own_peak_kb()}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
