"""The same answers by latprof, DuckDB, Polars and pandas, each in its own process.

    python -m tests.benchmarks.engines ENGINE FORM FILE

The answers, for each span of the audio pipeline: count, sum, mean, min, max, standard deviation,
and the percentiles 50, 90, 99, 99.9. Every form of an engine gives all of them; the
benchmark finds the fastest form. Time runs from before the first call to after the last
result; imports are not in it. "cpu" is the time of all cores. The last line printed is JSON.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

from latprof import AUDIO
from tests.benchmarks.generated import own_peak_kb

SPANS = [(span.name, span.begin, span.end) for span in AUDIO.all_spans]
QS = (50, 90, 99, 99.9)
SHARES = (0.5, 0.9, 0.99, 0.999)  # 99.9 / 100 is a little more: the rank would be one too high
FACTS = ("count", "sum", "mean", "min", "max", "std", *(f"p{q:g}" for q in QS))

Answers = dict[str, dict[str, float]]


def _answers(values: dict[str, tuple[Any, ...]]) -> Answers:
    """Return numbers by span and name; `values` are in the order of `FACTS`."""
    return {
        name: {
            fact: int(value) if fact in ("count", "sum", "min", "max") else float(value)
            for fact, value in zip(FACTS, row, strict=True)
        }
        for name, row in values.items()
    }


# -- latprof ------------------------------------------------------------------------------------


def run_latprof(path: str, **asked: Any) -> Answers:
    import latprof

    # a file that another tool has written does not say which pipeline it is of
    profile = latprof.analyze(path, pipeline=AUDIO, **asked)
    values = {}
    for row in profile.rows():
        if row["span"] != "other":
            sums = profile.sums.spans[row["span"]]
            qs = [row[f"p{q:g}".replace(".", "_")] for q in QS]
            facts = (row["count"], sums.total, row["mean"], row["min"], row["max"], row["std"])
            values[row["span"]] = (*facts, *qs)
    return _answers(values)


def latprof_all(path: str) -> Answers:
    """With order, windows of time and a deadline."""
    return run_latprof(path, every="1s", deadline="20ms", order=True)


# -- DuckDB -------------------------------------------------------------------------------------


def _sql_facts(value: str) -> str:
    qs = ", ".join(map(str, SHARES))
    return (
        f"count({value}), sum({value}), avg({value}), min({value}), max({value}), "
        f"stddev({value}), approx_quantile({value}, [{qs}])"
    )


def _duckdb(query: str) -> Answers:
    import duckdb

    (row,) = duckdb.sql(query).fetchall()
    values = {}
    for i, (name, _, _) in enumerate(SPANS):
        *facts, qs = row[i * 7 : i * 7 + 7]
        values[name] = (*facts, *qs)
    return _answers(values)


def duckdb_scan(path: str) -> Answers:
    """One scan in which every difference is written out."""
    facts = [_sql_facts(f'epoch_ns("{end}") - epoch_ns("{begin}")') for _, begin, end in SPANS]
    return _duckdb(f"SELECT {', '.join(facts)} FROM '{path}'")


def duckdb_subquery(path: str) -> Answers:
    """Differences in a subquery."""
    inner = [f'epoch_ns("{end}") - epoch_ns("{begin}") AS "{name}"' for name, begin, end in SPANS]
    facts = [_sql_facts(f'"{name}"') for name, _, _ in SPANS]
    return _duckdb(f"SELECT {', '.join(facts)} FROM (SELECT {', '.join(inner)} FROM '{path}')")


def duckdb_integers(path: str) -> Answers:
    """Marks as integers in a subquery, differences in another."""
    marks = ", ".join(f'epoch_ns("{mark}") AS "{mark}"' for mark in AUDIO.marks)
    inner = [f'"{end}" - "{begin}" AS "{name}_ns"' for name, begin, end in SPANS]
    facts = [_sql_facts(f'"{name}_ns"') for name, _, _ in SPANS]
    return _duckdb(
        f"SELECT {', '.join(facts)} FROM (SELECT {', '.join(inner)} "
        f"FROM (SELECT {marks} FROM '{path}'))"
    )


# -- Polars -------------------------------------------------------------------------------------


def _polars(path: str, engine: str, *, at_once: bool) -> Answers:
    import polars as pl

    lazy = pl.scan_parquet(path).select(
        (pl.col(end).to_physical() - pl.col(begin).to_physical()).alias(name)
        for name, begin, end in SPANS
    )
    asked = []
    for name, _, _ in SPANS:
        value = pl.col(name)
        facts = [value.count(), value.sum(), value.mean(), value.min(), value.max(), value.std()]
        if at_once:
            shares = list(SHARES)
            facts.append(value.quantile(shares, interpolation="equiprobable").implode())
        else:
            facts += [value.quantile(q, interpolation="equiprobable") for q in SHARES]
        asked += [fact.alias(f"{name} {i}") for i, fact in enumerate(facts)]
    (row,) = lazy.select(asked).collect(engine=engine).rows()
    each = len(row) // len(SPANS)
    values = {}
    for i, (name, _, _) in enumerate(SPANS):
        facts = list(row[i * each : (i + 1) * each])
        if at_once:
            last = facts.pop()
            facts += last[0] if isinstance(last[0], list) else last
        values[name] = tuple(facts)
    return _answers(values)


def polars_memory(path: str) -> Answers:
    """The in-memory engine."""
    return _polars(path, "in-memory", at_once=False)


def polars_streaming(path: str) -> Answers:
    """The streaming engine."""
    return _polars(path, "streaming", at_once=False)


def polars_at_once(path: str) -> Answers:
    """The in-memory engine, the four percentiles of a span in one call."""
    return _polars(path, "in-memory", at_once=True)


# -- pandas -------------------------------------------------------------------------------------


def pandas_frame(path: str) -> Answers:
    """read_parquet, then a column a span."""
    import pandas as pd

    table = pd.read_parquet(path, columns=list(AUDIO.marks)).astype("int64")
    values = {}
    for name, begin, end in SPANS:
        value = table[end] - table[begin]
        # pandas does not know the rank rule; of a round number of frames this is the same value
        qs = value.quantile(list(SHARES), interpolation="lower")
        facts = (value.count(), value.sum(), value.mean(), value.min(), value.max(), value.std())
        values[name] = (*facts, *qs)
    return _answers(values)


FORMS: dict[str, dict[str, Callable[[str], Answers]]] = {
    "latprof": {"analyze": run_latprof},
    "latprof, all": {"analyze": latprof_all},
    "DuckDB": {
        "one scan": duckdb_scan,
        "subquery": duckdb_subquery,
        "integers, then subquery": duckdb_integers,
    },
    "Polars": {"in memory": polars_memory, "streaming": polars_streaming},
    "Polars, percentiles in one call": {"in memory": polars_at_once},
    "pandas": {"columns": pandas_frame},
}
PACKAGES = {
    "DuckDB": "duckdb",
    "Polars": "polars",
    "Polars, percentiles in one call": "polars",
    "pandas": "pandas",
}


def main(arguments: list[str]) -> int:
    engine, form, path = arguments
    __import__(PACKAGES.get(engine, "latprof"))
    if engine.startswith("latprof"):
        # these load on first use, but the time of the other engines is without imports as well
        import latprof.analysis
        import latprof.io.reader  # noqa: F401
    elif engine == "pandas":
        import pyarrow.parquet  # noqa: F401
    before, cpu = time.perf_counter(), time.process_time()
    answers = FORMS[engine][form](path)
    seconds, cpu = time.perf_counter() - before, time.process_time() - cpu
    found = {"seconds": seconds, "cpu": cpu, "answers": answers, "peak_kb": own_peak_kb()}
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
