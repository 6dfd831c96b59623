"""Calls with odd arguments succeed or raise a LatprofError in one line."""

import datetime as dt
import inspect
import math
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from traces import MIC, mic

import latprof
from latprof import AUDIO, LatprofError, Pipeline, Span, Trace
from latprof.io.dataset import Dataset

TABLE = mic(2).to_pandas()
ODD = [
    *(None, True, 0, -1, 7, 10**400, 1.5, math.nan, 1j, object(), int, len, Ellipsis),
    *("", "a", "start", "\x1b[31m", "x" * 70_000, "a\0b", "a\udc80", b"start", bytearray(b"a")),
    *([], (), {}, set(), [1], ["a"], [["a"]], [None], {"a": 1}, {"start": [1]}, {1: 2}, range(3)),
    *(np.array(1), np.array([1, 2]), np.array(["a"]), np.zeros((2, 2)), np.array([object()])),
    *(np.float64("nan"), np.datetime64("NaT"), dt.date(2024, 1, 1), dt.timedelta(-1), pd.NaT),
    *(TABLE, TABLE["start"], AUDIO, MIC, mic(2), Span("x", "start", "end"), Path("no/such")),
    *(iter([1]), (n for n in [1]), lambda: 1, {"x" * 70_000: [1]}, {"frame_id": {}}),
]

MARKS = {"start": [1, 2], "end": [3, 4]}
SPAN = {"name": "x", "begin": "start", "end": "end"}
CALLS = {
    "Pipeline": (Pipeline, {"name": "p", "marks": ("start", "end"), "spans": (), "period": None}),
    "Span": (Span, {"name": "x", "begin": "start", "end": "end", "kind": "stage", "station": None}),
    "chain": (lambda name, stage, **rest: Pipeline.chain(name, stage, **rest),
              {"name": "p", "stage": "a", "period": None, "stations": None}),
    "from_dict": (Pipeline.from_dict, {"content": MIC.to_dict()}),
    "from_dict of a span": (
        lambda **span: Pipeline.from_dict(MIC.to_dict() | {"spans": [span]}),
        SPAN,
    ),
    "from_json": (Pipeline.from_json, {"text": MIC.to_json()}),
    "span": (MIC.span, {"name": "play"}),
    "difference": (MIC.difference, {"other": AUDIO}),
    "check_owned": (MIC.check_owned, {"owns": ("start",)}),
    "with_stations": (MIC.with_stations, {"stations": {"play": "card"}}),
    "Trace": (Trace, {
        **{"pipeline": MIC, "frame_id": [1, 2], "marks": MARKS, "size": None, "source": None},
        **{"outcome": None, "cpu": None, "rss": None, "weight": None, "tags": {}, "meta": {}},
    }),
    "a mark": (lambda ns: Trace(MIC, frame_id=[1, 2], marks={"start": ns}), {"ns": [1, 2]}),
    "a tag": (lambda tag: Trace(MIC, frame_id=[1, 2], marks={}, tags={"x": tag}), {"tag": [1, 2]}),
    "Trace.span": (mic(2).span, {"name": "play"}),
    "select": (mic(2).select, {
        **{"mask": None, "source": None, "outcome": None, "since": None, "until": None},
    }),
    "from_pandas": (Trace.from_pandas, {"table": TABLE, "pipeline": MIC}),
    "read": (latprof.read, {"path": "no/such", "pipeline": MIC}),
    "Dataset": (Dataset, {"recordings": mic(2), "pipeline": MIC, "stations": None}),
    "Dataset of several": (lambda one: Dataset([mic(2), one]), {"one": mic(2)}),
    "save": (mic(2).save, {"path": "no/such"}),
    "to_csv": (mic(2).to_csv, {"path": "no/such"}),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_odd_arguments_are_accepted_or_refused_in_one_line(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call, usual = CALLS[name]
    positional = [
        key
        for key, parameter in inspect.signature(call).parameters.items()
        if parameter.kind is parameter.POSITIONAL_ONLY
    ]
    assert not positional
    for argument in usual:
        for odd in ODD:
            if argument == "path" and isinstance(odd, str | Path) and str(odd) in ("a", "start"):
                continue  # files that can be written
            error = error_of(call, {**usual, argument: odd})
            assert error is None or isinstance(error, LatprofError), (argument, odd, error)
            if error is not None:
                assert str(error).isprintable(), (argument, odd)
                assert len(str(error)) < 1_000, (argument, odd)
                assert error.__cause__ is None, (argument, odd)


def error_of(call, arguments):
    """Return what a call raises, or None."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            call(**arguments)
        except Exception as error:
            return error
    return None


def test_arguments_in_the_wrong_order_are_refused_in_one_line():
    for call in (
        lambda: Trace.from_pandas(MIC, TABLE),
        lambda: Pipeline.chain("p", ["a"]),
        lambda: Pipeline(("start", "end"), "p"),
        lambda: Trace(TABLE, frame_id=MIC, marks=[1]),
        lambda: latprof.read(MIC, "trace.parquet"),
        lambda: latprof.analyze(MIC),
        lambda: latprof.analyze(7, pipeline="mic"),
        lambda: latprof.join(MIC),
    ):
        with pytest.raises(LatprofError, match=" must be ") as caught:
            call()
        assert str(caught.value).isprintable()
