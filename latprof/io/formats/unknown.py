"""The message on a file that has none of the known formats: how to name a table's columns."""

import contextlib
import csv
import io
import shlex
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from latprof.arrays import Ints
from latprof.errors import TraceError
from latprof.frames import MISSING
from latprof.io.formats.known import FORMATS
from latprof.io.formats.sources import Source
from latprof.io.formats.times import forms_of, to_ns
from latprof.text import clip

__all__ = ["advice"]

_LATER = 631_152_000 * 10**9  # ns, the year 1990: larger numbers are taken as times since 1970
_MOST_COLUMNS = 20  # columns that the message names
_MOST_TRIED = 200  # columns that may be recognized as times or durations


def advice(source: Source) -> str:
    """Return which columns a table has, how to name those with times, and the known formats.

    The example has the columns with times of the day in order of time. If there is none, or one, it
    has the columns of numbers with a unit at the end of their names, as durations.
    """
    times = _columns_of_times(source)
    lengths = [] if len(times) > 1 else _columns_of_lengths(source)
    lengths = [name for name in lengths if name not in times]
    example, why = "--marks received_at,handled_at,sent_at (marks=[...] in Python)", ""
    if len(times) > 1:
        example, why = f"--marks {_listed(times)} (marks=[...] in Python)", " (in order of time)"
    elif lengths and times:
        example = f"--marks {_listed(times)} --durations {_listed(lengths)}"
        why = " (the start, and how long each stage took)"
    elif lengths:
        example = f"--durations {_listed(lengths)} (durations=[...] in Python)"
    shown = ", ".join(clip(name, 40) for name in source.names[:_MOST_COLUMNS])
    considered = ", ".join(each.name.partition(" (")[0].partition(",")[0] for each in FORMATS)
    return (
        f"columns with times (or durations) must be named, for example{why} {example}: the file is "
        f"taken for a table with the columns {shown}, as it is none of the formats that latprof "
        f"formats lists ({considered})"
    )


def _columns_of_times(source: Source) -> list[str]:
    """Return the columns with times of the day, in order of time."""
    sample = source.sample()
    times: dict[str, Ints] = {}
    for name in source.names[:_MOST_TRIED]:
        with contextlib.suppress(TraceError, pa.ArrowException):
            column = sample.column(name)
            forms, _ = forms_of({name: column}, unit=None, tz=None)
            ns, _ = to_ns(column, forms[name])
            if (ns > _LATER).any():  # other numbers may be anything
                times[name] = ns
    found = list(times)
    if len(found) > 1:
        whole = np.logical_and.reduce([ns != MISSING for ns in times.values()])
        rows = whole if whole.any() else slice(None)
        first = times[found[0]][rows]
        after = {name: float(np.median(ns[rows] - first)) for name, ns in times.items()}
        found.sort(key=after.__getitem__)
    return found


def _columns_of_lengths(source: Source) -> list[str]:
    """Return the columns of numbers with a unit that is known from their names."""
    sample = source.sample()
    found = []
    for name in source.names[:_MOST_TRIED]:
        with contextlib.suppress(TraceError, pa.ArrowException):
            column = sample.column(name)
            _, said = forms_of({name: column}, unit=None, tz=None, durations=True)
            found += [name] if said else []
    return found


def _listed(names: Sequence[str]) -> str:
    """Return names as a list that a shell and the options take."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(names)
    return clip(shlex.quote(text.getvalue()), 200)
