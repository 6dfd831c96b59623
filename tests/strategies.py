"""Pipelines and columns to test with: hypothesis strategies, and generators from a seed."""

import os
from itertools import pairwise

import numpy as np
from hypothesis import strategies as st

from latprof.frames import FINISHED, MISSING, NO_SIZE, Columns, Labels
from latprof.marks import Span
from latprof.pipeline import AUDIO, Pipeline


def examples(n):
    """Return how many examples hypothesis makes: n as CI asks for, and half of them otherwise."""
    return n if os.environ.get("LATPROF_REQUIRE_ALL") else n // 2


CHAIN = Pipeline.chain("mic", "decode", "resample", "play", period="20ms")
DUE = Pipeline(
    "late",
    ("due", "start", "a", "b", "c", "end"),
    (
        Span("wait", "start", "a"),
        Span("work", "b", "c", station="server"),
        Span("all", "a", "end", kind="side"),
        Span("lag", "due", "a", kind="side"),
    ),
)
GAPS = Pipeline(
    "gaps",
    ("start", *"abcdef", "end"),
    (Span("x", "a", "b"), Span("y", "c", "d"), Span("z", "e", "f")),
)
BARE = Pipeline("bare", ("start", "end"))
SMALL = (AUDIO, CHAIN, DUE, GAPS, BARE)

# the first and the last stamp that there may be
LOWEST, HIGHEST = 1 - 2**62, 2**62 - 1


@st.composite
def pipelines(draw):
    """Draw a pipeline: any marks, stages that touch or leave gaps, any sides, a due, a period."""
    inner = draw(st.lists(st.sampled_from("abcdefgh"), max_size=5, unique=True))
    due = draw(st.booleans())
    marks = (*(["due"] if due else []), "start", *inner, "end")
    places = st.integers(int(due), len(marks) - 1)
    cuts = sorted(draw(st.lists(places, max_size=6, unique=True)))
    stations = st.sampled_from([None, "server", "relay"])
    spans = []
    for i, (begin, end) in enumerate(pairwise(cuts)):
        if draw(st.booleans()):
            spans.append(Span(f"stage_{i}", marks[begin], marks[end], station=draw(stations)))
    for i in range(draw(st.integers(0, 2))):
        begin = draw(st.integers(0, len(marks) - 2))
        end = draw(st.integers(begin + 1, len(marks) - 1))
        side = Span(f"side_{i}", marks[begin], marks[end], kind="side", station=draw(stations))
        spans.insert(draw(st.integers(0, len(spans))), side)
    period = draw(st.none() | st.integers(1, 2**62 - 1))
    return Pipeline("drawn", marks, spans, period=period)


def stamps():
    """Draw stamps: close together, ties, zero, far apart, absent."""
    near = st.integers(0, 40)
    far = st.sampled_from([0, 10**6, 10**6 + 1, 10**9, -5, LOWEST, LOWEST + 1, HIGHEST])
    return near | near | far | st.integers(LOWEST, HIGHEST) | st.none()


@st.composite
def columns(draw, pipeline, max_size=10):
    """Draw columns of a pipeline: in any order, missing, negative, dropped, tied, weighted."""
    n = draw(st.integers(0, max_size))

    def each(values):
        return draw(st.lists(values, min_size=n, max_size=n))

    ordered = each(st.booleans())
    rows = [draw(st.lists(stamps(), min_size=m, max_size=m)) for m in [len(pipeline.marks)] * n]
    for row, in_order in zip(rows, ordered, strict=True):
        if in_order:
            present = sorted(t for t in row if t is not None)
            row[:] = [None if t is None else present.pop(0) for t in row]
    optional = {}
    if draw(st.booleans()):
        optional["outcome"] = Labels.encode(each(st.sampled_from([FINISHED, None, "late", "full"])))
    if draw(st.booleans()):
        sizes = each(st.sampled_from([0, 1, 960, 2**32 - 2, NO_SIZE]))
        optional["size"] = np.array(sizes, np.uint32)
    if draw(st.booleans()):
        optional["source"] = Labels.encode(each(st.sampled_from(["input", "output", None])))
    if draw(st.booleans()):
        optional["weight"] = np.array(each(st.integers(1, 4)), np.uint32)
    ids = each(st.integers(0, 5) | st.sampled_from([2**53 + 1, 2**63, 2**64 - 1]))
    filled = [[MISSING if t is None else t for t in row] for row in rows]
    table = np.array(filled, np.int64).reshape(n, len(pipeline.marks))
    marks = {mark: table[:, i].copy() for i, mark in enumerate(pipeline.marks)}
    return Columns(np.array(ids, np.uint64), marks, **optional)


def seeded(
    pipeline,
    n,
    seed,
    *,
    missing=0.02,
    negative=0.02,
    dropped=0.05,
    weights=False,
    scale=1e6,
    base=1_700_000_000_000_000_000,
):
    """Return n frames, 20 ms apart, of lognormal steps of about `scale` ns, with all troubles."""
    rng = np.random.default_rng(seed)
    due = pipeline.marks[0] == "due"
    steps = rng.lognormal(np.log(scale), 1.2, (n, len(pipeline.marks))).astype(np.int64)
    steps[rng.random(steps.shape) < 0.05] = 0
    steps[:, 0] = base + np.arange(n) * 20_000_000 + rng.integers(-5, 6, n)
    table = np.cumsum(steps, axis=1)
    swapped = rng.random(n) < negative
    table[swapped] = table[swapped][:, rng.permutation(table.shape[1])]
    absent = rng.random(table.shape) < missing
    absent[:, int(due)] = False
    table[absent] = MISSING
    order = rng.permutation(n)
    outcome = np.where(rng.random(n) < dropped, rng.choice(["late", "full"], n), FINISHED)
    return Columns(
        np.arange(n, dtype=np.uint64)[order],
        {mark: table[order, i] for i, mark in enumerate(pipeline.marks)},
        size=np.where(rng.random(n) < 0.1, NO_SIZE, rng.integers(0, 1500, n)).astype(np.uint32),
        source=Labels.encode(rng.choice(["input", "output"], n).tolist()),
        outcome=Labels.encode(outcome.tolist()),
        weight=rng.integers(1, 6, n).astype(np.uint32) if weights else None,
        tags={"room": rng.integers(0, 3, n)},
    )


def simple(pipeline, rows, **optional):
    """Return columns of rows of stamps, written by hand: ids from 0, None is missing."""
    table = [[MISSING if t is None else t for t in row] for row in rows]
    array = np.array(table, np.int64).reshape(len(rows), len(pipeline.marks))
    marks = {mark: array[:, i].copy() for i, mark in enumerate(pipeline.marks)}
    return Columns(np.arange(len(rows), dtype=np.uint64), marks, **optional)
