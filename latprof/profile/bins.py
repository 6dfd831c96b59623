"""Profiles of histograms that other tools have saved: there are counts of times, but no frames."""

import os
from bisect import bisect_right
from collections import Counter
from itertools import accumulate
from typing import TypeVar

import numpy as np

from latprof.errors import ProfileError, TraceError
from latprof.frames import Columns, Labels
from latprof.io.formats.bins import Binned, BinnedFile
from latprof.io.formats.known import recognized
from latprof.pipeline import Pipeline
from latprof.profile.build import Bins, FoldedFrames, if_all_known
from latprof.text import clip, shown_path

__all__ = ["is_histogram_file", "profile_of_bins", "read_histograms"]

ProfileT = TypeVar("ProfileT", bound=FoldedFrames)

_MOST_OF_A_ROW = 2**32 - 1  # values that one row represents
_MOST_OF_A_BIN = 2**42  # values of one bin


def is_histogram_file(path: str | os.PathLike[str]) -> bool:
    """Return whether a file has histograms of a tool that latprof knows."""
    try:
        found = recognized(path)
    except (TraceError, OSError):
        return False
    return found is not None and found.kind == "histograms"


def read_histograms(
    path: str | os.PathLike[str],
    kind: type[ProfileT],
    unit: str | None = None,
    metric: str | None = None,
) -> ProfileT:
    """Return the profile of a file of histograms; see `Format.histograms`.

    Raises
    ------
    ProfileError
        The file is damaged, or has no value.
    """
    try:
        found = recognized(path)
        if found is None or found.kind != "histograms":
            raise TraceError(
                f"{shown_path(path)} must have histograms of a known format, got none; see latprof "
                "formats"
            )
        return profile_of_bins(found.histograms(path, unit, metric), kind)
    except TraceError as error:
        raise ProfileError(str(error)) from None


def profile_of_bins(file: BinnedFile, kind: type[ProfileT]) -> ProfileT:
    """Return the profile of histograms.

    Each value counts as the largest time of its bin; `Profile.bins` has the exact numbers.
    """
    pipeline = Pipeline(file.name, ("start", "end"))
    wrong = [name for name, part in file.parts.items() if not part.check_extremes()]
    profile = kind(pipeline, by=None if file.by is None else "source")
    for name, part in file.parts.items():
        columns = _columns(part, name if file.by is not None else None)
        if len(columns):
            profile.add(columns)
    said = [f"the source of a value is its {file.by}"] if file.by is not None else []
    if wrong:
        names = ", ".join(clip(name or file.name, 40) for name in wrong[:8])
        said.append(f"minimum or maximum contradict the counts, and are left out: {names}")
    meta = {
        "untimed": True,
        "reading": [*file.reading, *said],
        "accounts": {"notes": file.notes},
    }
    profile.note(meta)
    profile.by_weight = 0  # the counts are exact
    profile.bins = _bins(list(file.parts.values()))
    for name, group in profile.groups.items():
        group.bins = _bins([file.parts[name]])
        group.by_weight = 0
    profile.balance()
    return profile


def _bins(parts: list[Binned]) -> Bins:
    """Return the bins of all parts together, which may have different edges.

    The value of a rank is at most that of its rank among the upper edges of all values, and at
    least that of its rank among the lower edges.
    """
    edges: dict[int, int] = {}
    at_lower: Counter[int] = Counter()
    at_upper: Counter[int] = Counter()
    for part in parts:
        lower = part.lower or [0, *part.upper[:-1]]
        for first, last, count in zip(lower, part.upper, part.counts, strict=False):
            edges.setdefault(last, first)
            at_lower[first] += count
            at_upper[last] += count
    upper, lowest, before = sorted(edges), sorted(at_lower), 0
    upto = list(accumulate(at_lower[first] for first in lowest))
    for last in upper:
        if at_upper[last]:
            edges[last] = lowest[bisect_right(upto, before)]
            before += at_upper[last]
    filled = [part for part in parts if part.values]
    return Bins(
        [edges[ns] for ns in upper],
        upper,
        sum(part.above for part in parts),
        if_all_known(sum, [part.total for part in filled]),
        if_all_known(min, [part.smallest for part in filled]),
        if_all_known(max, [part.largest for part in filled]),
    )


def _columns(part: Binned, source: str | None) -> Columns:
    """Return a row for each bin with values; its weight is their number."""
    values, weights = [], []
    rows = zip(part.upper, part.counts, strict=True)
    open_bucket = [(part.upper[-1] + 1 if part.upper else 1, part.above)]
    for value, count in (*rows, *open_bucket):
        if count > _MOST_OF_A_BIN:
            raise ProfileError(
                f"a bin must have at most {_MOST_OF_A_BIN:,} values, got {count:,}; take an intact "
                "copy of the file"
            )
        while count > 0:
            weights.append(min(count, _MOST_OF_A_ROW))
            values.append(value)
            count -= weights[-1]
    end = np.array(values, np.int64)
    return Columns(
        np.arange(len(end), dtype=np.uint64),
        {"start": np.zeros(len(end), np.int64), "end": end},
        source=None if source is None else Labels.constant(source, len(end)),
        weight=np.array(weights, np.uint32),
    )
