"""Programs that no one here wrote open a trace as it is, and what they write is read again."""

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from needs import require
from traces import MIC, contents, rich

from latprof.frames import MISSING
from latprof.trace import Trace, read


@pytest.fixture
def trace():
    return rich(100)


@pytest.fixture
def path(tmp_path, trace):
    trace.save(tmp_path / "mic.parquet")
    return tmp_path / "mic.parquet"


def nanoseconds(values):
    return [MISSING if value is None else value for value in values]


def check_same(found, trace):
    assert contents(found) == contents(trace)


# -- pandas ---------------------------------------------------------------------------------------


def test_pandas_reads_the_same_nanoseconds(path, trace):
    table = pd.read_parquet(path)
    for mark in MIC.marks:
        assert table[mark].dtype == "datetime64[ns]"
        assert table[mark].to_numpy().view(np.int64).tolist() == trace.marks[mark].tolist()
    took = (table["end"] - table["start"]).to_numpy().view(np.int64)
    assert took.tolist() == trace.span("end_to_end").tolist()
    assert table["source"].tolist() == trace.source.to_numpy().tolist()
    assert table["frame_id"].tolist() == trace.frame_id.tolist()


@pytest.mark.parametrize("backend", ["numpy", "numpy_nullable", "pyarrow"])
def test_what_pandas_has_rewritten(path, tmp_path, trace, backend):
    table = pd.read_parquet(path, **({} if backend == "numpy" else {"dtype_backend": backend}))
    table.to_parquet(tmp_path / "again.parquet")
    check_same(read(tmp_path / "again.parquet", MIC), trace)
    check_same(Trace.from_pandas(table, MIC), trace)
    shuffled = table[table.columns[::-1]].sample(frac=1, random_state=1)
    shuffled.to_parquet(tmp_path / "again.parquet", index=True, compression="zstd")
    found = read(tmp_path / "again.parquet", MIC)
    found = Trace.of(MIC, found.columns.take(np.argsort(found.frame_id)))
    check_same(found, trace)


def test_what_pandas_has_put_into_another_zone(path, tmp_path, trace):
    table = pd.read_parquet(path)
    for mark in MIC.marks:
        table[mark] = table[mark].dt.tz_localize("UTC").dt.tz_convert("Asia/Kolkata")
    table.to_parquet(tmp_path / "again.parquet")
    check_same(read(tmp_path / "again.parquet", MIC), trace)
    check_same(Trace.from_pandas(table, MIC), trace)


# -- DuckDB ---------------------------------------------------------------------------------------


def test_duckdb_reads_the_same_nanoseconds(path, trace):
    duckdb = require("duckdb")
    with duckdb.connect() as connection:
        types = dict(row[:2] for row in connection.sql(f"describe from '{path}'").fetchall())
        rows = connection.sql(
            f"""select epoch_ns("start"), epoch_ns(decode), epoch_ns("end") - epoch_ns("start"),
                       frame_id, source, size
                from '{path}' order by frame_id"""
        ).fetchall()
    assert {types[mark] for mark in MIC.marks} == {"TIMESTAMP_NS"}
    start, decode, took, ids, source, size = zip(*rows, strict=True)
    assert list(start) == trace.marks["start"].tolist()
    assert nanoseconds(decode) == trace.marks["decode"].tolist()
    assert nanoseconds(took) == trace.span("end_to_end").tolist()
    assert list(ids) == trace.frame_id.tolist()
    assert list(source) == trace.source.to_numpy().tolist()
    assert [2**32 - 1 if n is None else n for n in size] == trace.size.tolist()


@pytest.mark.parametrize(
    "options", ["", ", compression zstd, row_group_size 10", ", parquet_version v2"]
)
def test_what_duckdb_has_rewritten(path, tmp_path, trace, options):
    duckdb = require("duckdb")
    with duckdb.connect() as connection:
        again = tmp_path / "again.parquet"
        connection.sql(f"copy (from '{path}') to '{again}' (format parquet{options})")
        check_same(read(again, MIC), trace)
        connection.sql(
            f"""copy (select * replace (epoch_ns("start") as "start") from '{path}')
                to '{again}' (format parquet)"""
        )
        check_same(read(again, MIC), trace)


# -- Polars ---------------------------------------------------------------------------------------


def test_polars_reads_the_same_nanoseconds(path, trace):
    polars = require("polars")
    table = polars.read_parquet(path)
    for mark in MIC.marks:
        assert table.schema[mark] == polars.Datetime("ns")
        assert nanoseconds(table[mark].to_physical().to_list()) == trace.marks[mark].tolist()
    took = (table["end"] - table["start"]).dt.total_nanoseconds().to_list()
    assert nanoseconds(took) == trace.span("end_to_end").tolist()
    assert table["source"].cast(polars.String).to_list() == trace.source.to_numpy().tolist()


@pytest.mark.parametrize("options", [{}, {"compression": "zstd", "row_group_size": 10}])
def test_what_polars_has_rewritten(path, tmp_path, trace, options):
    polars = require("polars")
    again = tmp_path / "again.parquet"
    table = polars.read_parquet(path)
    table.select(reversed(table.columns)).write_parquet(again, **options)
    # the order of tags is the table's
    check_same(read(again, MIC), trace)
    table.with_columns(polars.col("source", "room").cast(polars.String)).write_parquet(again)
    check_same(read(again, MIC), trace)


def test_what_arrow_has_rewritten(path, tmp_path, trace):
    pq.write_table(pq.read_table(path), tmp_path / "again.parquet", row_group_size=7)
    check_same(read(tmp_path / "again.parquet", MIC), trace)
