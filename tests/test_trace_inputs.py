"""Values of other libraries as columns of a trace, exactly; zones of times."""

import datetime as dt

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import latprof
from latprof import Pipeline, Trace, TraceError

MIC = Pipeline("mic", ("start", "sent", "end"))
LARGE = [4873214862074861312, 4873214862074860545, 2**64 - 1]


def test_ids_of_any_library_are_exact():
    for ids in (
        np.array(LARGE, np.uint64),
        np.array(LARGE, object),
        pd.array(LARGE, "UInt64"),
        pd.Series(LARGE, dtype=object),
        pa.array(LARGE, pa.uint64()),
        pl.Series(LARGE, dtype=pl.UInt64),
        LARGE,
    ):
        trace = Trace(MIC, frame_id=ids, marks={"start": [1, 2, 3], "end": pl.Series([4, 5, 6])})
        assert trace.frame_id.tolist() == LARGE
        assert trace.span("end_to_end").tolist() == [3, 3, 3]
    with pytest.raises(TraceError, match="frame_id must be integers"):
        Trace(MIC, frame_id=[1.0, 2.0, 3.0], marks={"start": [1, 2, 3], "end": [4, 5, 6]})


def test_tables_of_other_libraries_are_refused_with_what_to_do():
    frame = pd.DataFrame({"frame_id": [1], "start": [1], "end": [2]})
    for table in (pa.table(frame), pl.from_pandas(frame)):
        with pytest.raises(TraceError, match=r"; pass table\.to_pandas\(\)"):
            Trace.from_pandas(table, MIC)


def test_a_mark_without_a_column_is_missing_everywhere(tmp_path):
    trace = Trace.from_pandas(pd.DataFrame({"frame_id": [1], "start": [1], "end": [2]}), MIC)
    trace.save(tmp_path / "a.parquet")
    for each in (trace, latprof.read(tmp_path / "a.parquet")):
        assert latprof.analyze(each)["end_to_end"].count == 1
        assert each.to_pandas()["sent"].isna().all()


def test_zones_are_converted_and_must_not_be_mixed():
    early, late = (dt.timezone(dt.timedelta(hours=hours)) for hours in (2, 1))
    start = dt.datetime(2026, 10, 25, 2, 59, 59, 900_000, tzinfo=early)
    end = dt.datetime(2026, 10, 25, 2, 0, 0, 100_000, tzinfo=late)
    makes = (
        lambda a, b: Trace(MIC, frame_id=[1], marks={"start": [a], "end": [b]}),
        lambda a, b: Trace(
            MIC, frame_id=[1], marks={"start": pd.Series([a]), "end": pd.Series([b])}
        ),
        lambda a, b: Trace.from_pandas(
            pd.DataFrame({"frame_id": 1, "start": [a], "end": [b]}), MIC
        ),
    )
    for make in makes:
        assert make(start, end).span("end_to_end").tolist() == [200_000_000]
        without = make(start.replace(tzinfo=None), end.replace(tzinfo=None))
        assert without.span("end_to_end").tolist() == [-3_599_800_000_000]
        for a, b in ((start, end.replace(tzinfo=None)), (start.replace(tzinfo=None), end)):
            with pytest.raises(TraceError, match="marks must all have a time zone, or all none"):
                make(a, b)
    with pytest.raises(TraceError, match="mark 'start' must have times that all have a zone"):
        Trace(
            MIC, frame_id=[1, 2], marks={"start": [start, end.replace(tzinfo=None)], "end": [2, 3]}
        )


def test_times_as_text_name_the_function_that_converts_them():
    with pytest.raises(TraceError, match=r"convert times with pd\.to_datetime\(column\)"):
        Trace(MIC, frame_id=[1], marks={"start": ["2026-01-01T00:00:00"], "end": [2]})
