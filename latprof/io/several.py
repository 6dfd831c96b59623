"""Trace files with several recordings, one after the other, each with metadata of its own.

`latprof compact` writes them. The metadata of such a file has what all recordings share, and under
``members`` the rows and the rest of each. A `Dataset` has a member for each recording, so that an
analysis gives the same result as for one file per recording.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any

from latprof.errors import TraceError
from latprof.io import metadata
from latprof.io.member import Member, Within
from latprof.pipeline import Pipeline
from latprof.text import counted, shown_path

__all__ = ["meta_of", "meta_of_all", "recordings_in"]

Recording = tuple[int, int, dict[str, Any]]
"""Rows, the first start in its first batch (ns UTC), and metadata."""


def meta_of(recordings: Sequence[Recording], row_group: int) -> dict[str, Any]:
    """Return the metadata of a file with these recordings in row groups of `row_group` rows."""
    metas = [meta for _, _, meta in recordings]
    if len(metas) == 1:
        return metas[0]
    shared = _shared(metas)
    each = [
        {
            "rows": rows,
            "start": start,
            "meta": {key: value for key, value in meta.items() if key not in shared},
        }
        for rows, start, meta in recordings
    ]
    return shared | {metadata.MEMBERS: {"row_group": row_group, "each": each}}


def recordings_in(member: Member) -> list[Member]:
    """Return the recordings of a file: the file itself, unless it has several.

    Raises
    ------
    TraceError
        The metadata does not fit the rows of the file.
    """
    found = member.meta.get(metadata.MEMBERS)
    if found is None:
        return [member]
    shared = {key: value for key, value in member.meta.items() if key != metadata.MEMBERS}
    stops = list(accumulate(each["rows"] for each in found["each"]))
    if not stops or stops[-1] != member.rows:
        raise TraceError(
            f"{member.name}: the recordings must have the {member.rows:,} rows of the file, got "
            f"{stops[-1] if stops else 0:,}; take an intact copy"
        )
    return [
        replace(
            member,
            name=f"{member.name}, recording {i + 1} of {len(stops)}",
            meta=_checked(shared | each["meta"], member.name, member.pipeline),
            rows=each["rows"],
            row_groups=1,
            within=_within(each, stop, member.rows, found["row_group"]),
        )
        for i, (each, stop) in enumerate(zip(found["each"], stops, strict=True))
    ]


def _within(each: dict[str, Any], stop: int, rows: int, row_group: int) -> Within:
    first = stop - each["rows"]
    if first == stop:  # without rows: moved to a row that exists, as no row group may follow
        first = stop = min(first, max(rows - 1, 0))
    return Within(first, stop, row_group, each["start"])


def _checked(meta: dict[str, Any], name: str, pipeline: Pipeline) -> dict[str, Any]:
    try:
        return metadata.check_meta(meta, pipeline)
    except TraceError as error:
        raise TraceError(f"{name}: {error}") from None


def meta_of_all(members: Sequence[Member]) -> dict[str, Any]:
    """Return the metadata of all recordings of a file, read as one trace.

    Raises
    ------
    TraceError
        The recordings have different sampling rates.
    """
    metas = [member.meta for member in members]
    if len(metas) == 1:
        return dict(metas[0])
    rates = {float(meta.get("sampling_rate") or 1) for meta in metas}
    if len(rates) > 1:
        raise TraceError(
            f"{shown_path(members[0].path or '')}: recordings that are read as one trace must have "
            f"one sampling rate, got {min(rates):g} and {max(rates):g}; analyze keeps them apart"
        )
    meta = _shared(metas)
    segments = [meta.get("segments") for meta in metas]
    if all(segments):
        meta["segments"] = sorted({(a, b) for each in segments for a, b in each or ()})
    meta["lost"] = sum(meta.get("lost") or 0 for meta in metas)
    said = f"{counted(len(metas), 'recording')} read as one trace"
    said += ": what each recorder counted is left out"
    meta["reading"] = [*(meta.get("reading") or []), said]
    return metadata.check_meta(meta, members[0].pipeline)


def _shared(metas: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the keys, other than `COUNTS`, that have the same value in all."""
    return {
        key: value
        for key, value in metas[0].items()
        if key not in metadata.COUNTS and all(key in m and m[key] == value for m in metas[1:])
    }
