"""Traces and files -> the frames that attribution looks at, or the reason why it cannot."""

import os
from collections.abc import Iterable, Mapping
from typing import Any, Union

from latprof.attribution.places import places, with_stations
from latprof.columns import Columns
from latprof.errors import TraceError
from latprof.pipeline import Pipeline
from latprof.trace import Trace

__all__ = ["Recordings", "frames_of", "unavailable"]

Recordings = Union[Trace, str, "os.PathLike[str]", Iterable[Union[Trace, str, "os.PathLike[str]"]]]


def unavailable(meta: Mapping[str, Any], columns: Columns | None = None) -> str:
    """Return why who waited for whom cannot be told of a recording; empty: it can."""
    rate = float(meta.get("sampling_rate") or 1.0)
    if rate < 1:
        return f"sampling rate {rate:g}"
    lost = meta.get("lost") or 0
    for part in (meta.get("join") or {}).get("parts") or [meta]:
        lost = max(lost, part.get("lost") or 0)
        rate = float(part.get("sampling_rate") or 1.0)
        if rate < 1:
            return f"sampling rate {rate:g}"
        torn = (part.get("accounts") or {}).get("torn") or 0
        if torn:
            return f"{torn:,} frames torn here"
    if lost:
        return f"{lost:,} frames lost here"
    if columns is not None and columns.weight is not None and (columns.weight != 1).any():
        return "rows stand for several frames"
    return ""


def frames_of(
    recordings: Recordings,
    what: str,
    *,
    pipeline: Pipeline | None = None,
    stations: Mapping[str, str | None] | None = None,
) -> tuple[Pipeline, Columns]:
    """Return the pipeline and all frames of recordings: the marks that attribution needs.

    Raises
    ------
    TraceError
        No recording there, traces of different pipelines, or sampled or lossy ones.
    """
    parts: list[Columns] = []
    kind: Pipeline | None = None
    for own, meta, columns in _each(recordings, pipeline):
        if kind is not None and own != kind:
            raise TraceError(
                f"recordings of pipelines {kind.name!r} and {own.name!r}, whose marks or spans "
                f"differ: ask for {what} of each alone"
            )
        kind = own
        why = unavailable(meta, columns)
        if why:
            raise TraceError(
                f"{what} is not available: {why}; it needs every frame: record without sampling "
                "and with room for all"
            )
        parts.append(columns)
    if kind is None:
        raise TraceError(f"no recordings for {what}: give at least one trace or file")
    if stations:
        kind = with_stations(kind, stations)
    whole = parts[0] if len(parts) == 1 else Columns.concat(parts)
    return kind, whole


def _each(
    recordings: Recordings, pipeline: Pipeline | None
) -> Iterable[tuple[Pipeline, dict[str, Any], Columns]]:
    # on use: these stand in later rows, or load pyarrow
    from latprof.analysis import trace_paths

    some = [recordings] if isinstance(recordings, Trace | str | os.PathLike) else recordings
    for recording in some:
        if isinstance(recording, Trace):
            yield recording.pipeline, recording.meta, _needed(recording.pipeline, recording.columns)
            continue
        from latprof.store import Reader

        for path in trace_paths(recording):
            with Reader(path, pipeline) as reader:
                wanted = ["frame_id", *places(reader.pipeline).marks_read, "outcome", "weight"]
                columns = reader.read(wanted)
                yield reader.pipeline, reader.meta, _needed(reader.pipeline, columns)


def _needed(pipeline: Pipeline, columns: Columns) -> Columns:
    return Columns(
        columns.frame_id,
        {mark: columns.marks[mark] for mark in places(pipeline).marks_read},
        source=columns.source,
        outcome=columns.outcome,
        weight=columns.weight,
        complete=columns.complete,
    )
