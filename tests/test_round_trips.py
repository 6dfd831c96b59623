"""Trace files that other tools have read and written again still say what they are."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import latprof
from latprof import Pipeline, Report, Trace

MIC = Pipeline.chain("mic", "decode", "play", stations={"play": "card"}, period="20ms")
FRAMES = 400


@pytest.fixture
def saved(tmp_path):
    rng = np.random.default_rng(5)
    start = 1_700_000_000_000_000_000 + np.arange(FRAMES) * 20_000_003
    steps = rng.integers(1, 10**6, (3, FRAMES))
    marks = dict(zip(MIC.marks, start + np.vstack([0 * start, steps.cumsum(axis=0)]), strict=True))
    meta = {"host": "kvm-1", "lost": 3, "accounts": {"torn": 2}, "recording": "a"}
    trace = Trace(
        MIC,
        frame_id=2**63 + np.arange(FRAMES, dtype=np.uint64),
        marks=marks,
        source=["input", "output"] * (FRAMES // 2),
        tags={"room": ["a", "b", None, "d"] * (FRAMES // 4)},
        meta=meta,
    )
    trace.save(tmp_path / "mic.parquet")
    return trace, tmp_path / "mic.parquet"


def by_pyarrow(path, to, **settings):
    pq.write_table(pq.read_table(path), to, **settings)


def by_pandas(path, to, **settings):
    frame = pd.read_parquet(path)
    assert frame.attrs["latprof"]["pipeline"]["name"] == "mic"
    frame.to_parquet(to, **settings)


def test_a_rewritten_file_names_its_pipeline_and_has_the_same_frames(saved, tmp_path):
    trace, path = saved
    to = tmp_path / "again.parquet"
    whole = (
        (by_pyarrow, {}),
        (by_pyarrow, {"row_group_size": 100, "compression": "zstd"}),
        (by_pyarrow, {"use_deprecated_int96_timestamps": True}),
        (by_pandas, {}),
        (by_pandas, {"index": False}),
    )
    for write, settings in whole:
        write(path, to, **settings)
        again = latprof.read(to)
        assert again.pipeline == MIC
        assert again.frame_id.tolist() == trace.frame_id.tolist()
        for mark in MIC.marks:
            assert again.marks[mark].tolist() == trace.marks[mark].tolist()
        assert again.source.to_numpy().tolist() == trace.source.to_numpy().tolist()
        assert again.tags["room"].to_numpy().tolist() == trace.tags["room"].to_numpy().tolist()
        assert {key: again.meta[key] for key in trace.meta} == trace.meta
        # and once more, from a trace that latprof has saved itself
        again.save(to)
        assert latprof.read(to).meta["accounts"] == {"torn": 2}


def test_a_file_rewritten_in_us_has_the_times_floored(saved, tmp_path):
    trace, path = saved
    to = tmp_path / "us.parquet"
    by_pyarrow(path, to, version="1.0", coerce_timestamps="us", allow_truncated_timestamps=True)
    again = latprof.read(to)
    assert again.frame_id.tolist() == trace.frame_id.tolist()
    for mark in MIC.marks:
        floored = trace.marks[mark] // 1_000 * 1_000
        assert again.marks[mark].tolist() == floored.tolist()


def test_accounts_do_not_survive_a_filter(saved, tmp_path):
    _, path = saved
    table, frame = pq.read_table(path), pd.read_parquet(path)
    to = tmp_path / "some.parquet"
    writers = (
        lambda: pq.write_table(table.filter(pc.equal(table["source"], "input")), to),
        lambda: frame[frame["source"] == "input"].to_parquet(to),
        lambda: pq.write_table(pa.concat_tables([table, table]), to),
    )
    for write, rows in zip(writers, (FRAMES // 2, FRAMES // 2, 2 * FRAMES), strict=True):
        write()
        again = latprof.read(to)
        assert (len(again), again.pipeline) == (rows, MIC)
        assert "accounts" not in again.meta
        assert "lost" not in again.meta
        assert again.meta["host"] == "kvm-1"
        report = Report(to)
        assert report.to_dict()["accounts"]["started"] == rows  # neither lost nor torn ones
        assert "what it says of all its frames is left out" in " ".join(str(report).split())


def test_bounds_of_clocks_survive_a_filter(saved, tmp_path):
    trace, _ = saved
    clocks = [{"method": "two ways", "host": "b", "spans": ["play"], "offset_ns": 7, "bound_ns": 1}]
    trace.meta["join"] = {"parts": [{"name": "a"}], "matched": FRAMES, "clocks": clocks}
    path = tmp_path / "joined.parquet"
    trace.save(path)
    pq.write_table(pq.read_table(path).slice(7), path)
    assert latprof.read(path).meta["join"] == {"clocks": clocks}


def test_attributes_of_other_programs_are_no_metadata(saved, tmp_path):
    _, path = saved
    to = tmp_path / "other.parquet"
    for text in (b"{", b"[]", b'{"latprof": 7}', b'{"latprof": {"format": 1}}', b'{"a": 1}'):
        table = pq.read_table(path).replace_schema_metadata({"PANDAS_ATTRS": text})
        pq.write_table(table, to)
        with pytest.raises(latprof.TraceError):
            latprof.read(to)


def test_the_tail_is_the_same_if_frames_are_shuffled_repeated_or_merged(tmp_path):
    # 96 frames below 7 ms and 6 of 1,502 ms and more: p95 is the value of rank 97
    rng = np.random.default_rng(1)
    took = np.concatenate([rng.integers(0, 7 * 10**6, 96), 1_502 * 10**6 + np.arange(6) * 10**5])
    bare = Pipeline("bare", ("start", "end"))
    for each in (took, rng.permutation(took), np.tile(took, 10), np.repeat(took, 10)):
        start = np.arange(len(each)) * 10**7
        trace = Trace(bare, frame_id=range(len(each)), marks={"start": start, "end": start + each})
        path = tmp_path / "t.parquet"
        trace.save(path)
        halves = (trace.columns.take(rows) for rows in (slice(50), slice(50, None)))
        parts = latprof.merge([latprof.analyze(Trace.of(bare, half)) for half in halves])
        for profile in (latprof.analyze(path), parts):
            found = profile["end_to_end"].percentile(95).value
            assert found == pytest.approx(1_502 * 10**6, rel=0.0005)
