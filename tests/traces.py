"""Traces to test with, and how two of them are compared."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from latprof import Pipeline
from latprof.frames import MISSING, NO_SIZE, Columns, Labels
from latprof.trace import Trace
from latprof.units import STAMP_LIMIT

MIC = Pipeline.chain("mic", "decode", "play")


def mic(frames=5, **optional):
    """Return frames 20 ms apart: decode after 1 ns, play after 5, end after 9."""
    start = np.arange(frames, dtype=np.int64) * 20_000_000
    marks = {"start": start, "decode": start + 1, "play": start + 5, "end": start + 9}
    return Trace(MIC, **({"frame_id": np.arange(frames), "marks": marks} | optional))


def rich(frames=60):
    """Return frames with a column of every kind, and gaps in each that may have them."""
    every = np.arange(frames)
    start = 1_700_000_000_123_456_789 + every * 20_000_001
    return Trace(
        MIC,
        frame_id=every.astype(np.uint64) + np.uint64(2**63),
        marks={
            "start": start,
            "decode": np.where(every % 7 == 0, MISSING, start + 1),
            "play": start + 5,
            "end": np.where(every % 11 == 0, MISSING, start + 900 + every),
        },
        size=[None if i % 5 == 0 else i for i in range(frames)],
        source=["ab"[i % 2] for i in range(frames)],
        outcome=[None if i % 3 else "late" for i in range(frames)],
        cpu=np.where(every % 4, 1.5, np.nan),
        rss=every * 4096,
        weight=every + 1,
        tags={
            "room": [("x", "y", None)[i % 3] for i in range(frames)],
            "level": every / 8,
            "number": every - 3,
            "quiet": every % 2 == 0,
            "heard": start.view("M8[ns]"),
        },
        meta={"lost": 3, "owns": list(MIC.marks), "sampling_rate": 0.5, "mine": ["kept", 1]},
    )


def plain(column):
    """Return a column as a list that compares: NaN and NaT as None, labels as their names."""
    if column is None:
        return None
    if isinstance(column, Labels):
        return column.to_numpy().tolist()
    if column.dtype.kind in "Mm":
        column = column.view(np.int64)
    return [None if value != value else value for value in column.tolist()]


def contents(columns):
    """Return everything that columns hold as plain values by name."""
    if isinstance(columns, Trace):
        columns = columns.columns
    named = {"frame_id": columns.frame_id, **columns.marks, **columns.tags}
    named |= {name: getattr(columns, name) for name in Columns.OPTIONAL}
    return {name: plain(column) for name, column in named.items()}


def check_complete(columns):
    """Assert that no mark that is called complete has a gap."""
    for mark in columns.complete:
        assert not np.any(columns.marks[mark] == MISSING)


STAMPS = st.one_of(
    st.sampled_from([MISSING, 0, 1, -1, STAMP_LIMIT - 1, 1 - STAMP_LIMIT]),
    st.integers(1 - STAMP_LIMIT, STAMP_LIMIT - 1),
    st.integers(-5, 5),
)
NAMES = st.one_of(st.none(), st.sampled_from(["input", "output"]), st.text(max_size=4))


@st.composite
def any_columns(draw, pipeline=MIC, max_size=12):
    """Draw columns with any values that may be kept, at the limits of their types."""
    n = draw(st.integers(0, max_size))

    def array(dtype, elements):
        return draw(hnp.arrays(dtype, n, elements=elements))

    def names():
        return Labels.encode(draw(st.lists(NAMES, min_size=n, max_size=n)))

    columns = Columns(
        array(np.uint64, st.integers(0, 2**64 - 1)),
        {mark: array(np.int64, STAMPS) for mark in pipeline.marks},
    )
    if draw(st.booleans()):
        columns.size = array(np.uint32, st.integers(0, 9) | st.integers(0, NO_SIZE))
    if draw(st.booleans()):
        columns.source, columns.outcome = names(), names()
    if draw(st.booleans()):
        columns.cpu = array(np.float32, st.floats(width=32, allow_nan=True))
        columns.rss = array(np.uint64, st.integers(0, 2**64 - 1))
    if draw(st.booleans()):
        columns.weight = array(np.uint32, st.integers(1, 2**32 - 1))
    if draw(st.booleans()):
        columns.tags = {
            "room": names(),
            "number": array(np.int64, st.integers(-(2**63), 2**63 - 1)),
            "level": array(np.float64, st.floats()),
            "quiet": array(bool, st.booleans()),
        }
    return columns
