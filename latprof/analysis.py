"""Analysis: traces and files in, a profile out, a row group at a time."""

import glob
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Union

from latprof.errors import TraceError
from latprof.pipeline import Pipeline
from latprof.profile import Profile
from latprof.store import Reader
from latprof.sums import PEOPLE_EDGES_NS
from latprof.trace import Trace
from latprof.units import escape

__all__ = ["analyze", "trace_paths"]

Recording = Union[Trace, str, "os.PathLike[str]"]


def analyze(
    recordings: Recording | Iterable[Recording],
    *,
    by: str | None = None,
    pipeline: Pipeline | None = None,
    edges_ns: Iterable[int] = PEOPLE_EDGES_NS,
    progress: Callable[[int, int], None] | None = None,
) -> Profile:
    """Fold traces and return their profile.

    Parameters
    ----------
    recordings
        A trace, a path, a folder (all ``*.parquet`` in it and below), a glob, or several of them.
    by
        ``"source"``, ``"outcome"`` or a tag: a profile for each of its values as well.
    pipeline
        What the marks mean, for files that do not say so themselves.
    edges_ns
        Upper edges of ranges of end_to_end to be counted exactly.
    progress
        Called with (rows folded, rows in all) after each row group.

    Raises
    ------
    TraceError
        No file there, a file that is no trace, or traces of different pipelines.
    ProfileError
        No column `by`, or too many values in it.

    Examples
    --------
    >>> import numpy as np
    >>> mic = Pipeline.chain("mic", "decode", "play")
    >>> start = np.arange(3) * 20_000_000
    >>> marks = {"start": start, "decode": start, "play": start + 700, "end": start + 1000}
    >>> profile = analyze(Trace(mic, frame_id=[0, 1, 2], marks=marks))
    >>> profile.frames, profile["play"].mean, profile.bottleneck()
    (3, 300.0, 'decode')
    """
    parts: list[Trace | Reader] = []
    for recording in _each(recordings):
        if isinstance(recording, Trace):
            parts.append(recording)
        else:
            parts += [Reader(path, pipeline) for path in trace_paths(recording)]
    if not parts:
        raise TraceError("no recordings to analyze: give at least one trace or file")
    first = parts[0]
    for part in parts:
        if part.pipeline != first.pipeline:
            raise TraceError(
                f"{_name(part)} is of pipeline {part.pipeline.name!r} and {_name(first)} of "
                f"{first.pipeline.name!r}, and their marks or spans differ: analyze them apart"
            )
    profile = Profile(first.pipeline, by=by, edges_ns=tuple(edges_ns))
    rows = sum(len(part) if isinstance(part, Trace) else part.rows for part in parts)
    done = 0
    for part in parts:
        rate = float(part.meta.get("sampling_rate", 1.0))
        for columns in _batches(part, by):
            profile.add(columns, rate)
            done += len(columns)
            if progress is not None:
                progress(done, rows)
        profile.note(part.meta)
    profile.balance()
    return profile


def trace_paths(where: str | os.PathLike[str]) -> list[Path]:
    """Return the files that a path, a folder or a glob means, sorted.

    Raises
    ------
    TraceError
        There is none.
    """
    path = Path(where)
    if path.is_dir():
        found = sorted(p for p in path.rglob("*.parquet") if p.is_file())
        if not found:
            raise TraceError(f"{escape(str(path))}: the folder has no *.parquet file in it")
        return found
    if path.exists():
        return [path]
    text = os.fspath(where)
    found = sorted(Path(p) for p in glob.glob(text, recursive=True)) if glob.has_magic(text) else []
    if not found:
        raise TraceError(f"{escape(text)}: no such file: give a trace, a folder or a glob")
    return found


def _each(recordings: Recording | Iterable[Recording]) -> Iterator[Recording]:
    if isinstance(recordings, Trace | str | os.PathLike):
        yield recordings
    else:
        yield from recordings


def _batches(part: Trace | Reader, by: str | None) -> Iterator[Any]:
    if isinstance(part, Trace):
        yield part.columns
        return
    with part:
        wanted = ["frame_id", *part.pipeline.marks, "size", "source", "outcome", "weight"]
        yield from part.batches([*wanted, by] if by is not None else wanted)


def _name(part: Trace | Reader) -> str:
    return "the trace given" if isinstance(part, Trace) else escape(str(part.path))
