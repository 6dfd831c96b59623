"""Sums as JSON and back: sparse, with differences where numbers grow, nothing to be unpickled.

What stands in a file is not trusted: places beyond an array, counts below 0 or of another kind
are refused, and how much memory a file can ask for is bounded by the bins that exist.
"""

from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt

from latprof.errors import ProfileError
from latprof.histogram import FIRST_PLACE, PLACES, Histogram
from latprof.pipeline import Pipeline
from latprof.sums import NO_FRAME_ID, SpanSums, Sums
from latprof.windows import COARSE_BINS, Windows
from latprof.worst import WorstFrame

__all__ = ["dump", "load"]

_BINS = PLACES - FIRST_PLACE

Ints = npt.NDArray[np.int64]


def dump(sums: Sums) -> dict[str, Any]:
    """Return sums as values that JSON has."""
    return {
        "edges_ns": list(sums.edges_ns),
        "every_ns": sums.every_ns,
        "deadline_ns": sums.deadline_ns,
        "spans": {name: _dump_span(span) for name, span in sums.spans.items()},
        "attributed": sums.attributed,
        "shares": sums.shares,
        "covariances": sums.covariances,
        "tails": {
            "counts": _sparse(sums.tails.counts),
            "sums": {name: _sparse(column) for name, column in sums.tails.sums.items()},
        },
        "gaps": [[begin, end, total] for (begin, end), total in sums.gaps.items()],
        "excluded": dict(sums.excluded),
        "late": sums.late,
        "finished": sums.finished,
        "dropped": [[reason, mark, n] for (reason, mark), n in sums.dropped.items()],
        "at_most": sums.at_most,
        "batches": _dump_windows(sums.batches),
        "timeline": None if sums.timeline is None else _dump_windows(sums.timeline),
        "worst": [
            [frame.frame_id, frame.end_to_end_ns, frame.source, frame.marks]
            for frame in sums.worst.frames
        ],
        "exemplars": [
            [place, int(sums.exemplars[place])]
            for place in np.flatnonzero(sums.exemplars != NO_FRAME_ID).tolist()
        ],
        "first_ns": sums.first_ns,
        "last_ns": sums.last_ns,
        "size_bytes": sums.size_bytes,
        "sized": sums.sized,
    }


def load(pipeline: Pipeline, content: dict[str, Any]) -> Sums:
    """Return the sums that `dump` has written.

    Raises
    ------
    ProfileError
        What stands there cannot be.
    """
    sums = Sums(pipeline, content["edges_ns"], content["every_ns"], content["deadline_ns"])
    for name in sums.spans:
        sums.spans[name] = _load_span(content["spans"][name])
    sums.attributed = _count(content["attributed"])
    for name in sums.shares:
        sums.shares[name] = _count(content["shares"][name])
    for name in sums.covariances:
        sums.covariances[name] = float(content["covariances"][name])
    tails = content["tails"]
    counts = _dense(tails["counts"], _BINS)
    columns = {name: _dense(tails["sums"][name], _BINS) for name in sums.tails.sums}
    sums.tails.add(0, counts, columns)
    for begin, end, total in content["gaps"]:
        sums.gaps[begin, end] = _count(total)
    sums.excluded = Counter({str(reason): _count(n) for reason, n in content["excluded"].items()})
    sums.late = _count(content["late"])
    sums.finished = _count(content["finished"])
    for reason, mark, n in content["dropped"]:
        sums.dropped[str(reason), str(mark)] = _count(n)
    sums.at_most = [_count(n) for n in content["at_most"]]
    if len(sums.at_most) != len(sums.edges_ns):
        raise ProfileError("edges and the counts at them do not fit: the file is damaged")
    _load_windows(sums.batches, content["batches"])
    if sums.timeline is not None:
        _load_windows(sums.timeline, content["timeline"])
    sums.worst.frames = sorted(
        (
            WorstFrame(
                _count(frame_id),
                _count(total),
                None if source is None else str(source),
                {mark: int(marks[mark]) for mark in pipeline.marks if mark in marks},
            )
            for frame_id, total, source, marks in content["worst"]
        ),
        key=WorstFrame.sort_key,
    )
    for place, frame_id in content["exemplars"]:
        sums.exemplars[_count(place)] = _count(frame_id)
    sums.first_ns, sums.last_ns = content["first_ns"], content["last_ns"]
    sums.size_bytes, sums.sized = _count(content["size_bytes"]), _count(content["sized"])
    return sums


def _dump_span(span: SpanSums) -> dict[str, Any]:
    histogram = span.histogram
    return {
        "count": span.count,
        "missing": span.missing,
        "negative": span.negative,
        "total": span.total,
        "m2": span.m2,
        "peak_frame": span.peak_frame,
        "min": histogram.min,
        "max": histogram.max,
        "bins": _sparse(histogram.bins),
    }


def _load_span(content: dict[str, Any]) -> SpanSums:
    histogram = Histogram()
    counts = _dense(content["bins"], _BINS)
    if content["min"] is not None:
        histogram.add_counts(0, np.trim_zeros(counts, "b"), content["min"], content["max"])
    span = SpanSums(
        count=_count(content["count"]),
        missing=_count(content["missing"]),
        negative=_count(content["negative"]),
        total=_count(content["total"]),
        m2=float(content["m2"]),
        peak=content["max"],
        peak_frame=content["peak_frame"],
        histogram=histogram,
    )
    if histogram.count != span.count or int(counts.sum()) != span.count:
        raise ProfileError("a span's count is not the sum of its bins: the file is damaged")
    return span


def _dump_windows(windows: Windows) -> dict[str, Any]:
    length = windows.length
    return {
        "width_ns": windows.width_ns,
        "first": windows.first,
        "length": length,
        "counts": {name: _sparse(windows.counts(name).reshape(-1)) for name in windows.names},
        "sums": {name: column[:length].tolist() for name, column in windows.sums.items()},
        "peaks": {name: column[:length].tolist() for name, column in windows.peaks.items()},
    }


def _load_windows(windows: Windows, content: dict[str, Any]) -> None:
    width, first, length = content["width_ns"], content["first"], _count(content["length"])
    if length > windows.most or width % windows.base_ns or width < windows.base_ns:
        raise ProfileError("windows that cannot be: the file is damaged")
    windows.width_ns, windows.first, windows.length = width, int(first), length
    for name in windows.names:
        flat = windows.counts(name).reshape(-1)
        flat += _dense(content["counts"][name], length * COARSE_BINS)
    for name in windows.sums:
        windows.sums[name][:length] = content["sums"][name]
        windows.peaks[name][:length] = content["peaks"][name]


def _sparse(array: Ints) -> list[list[int]]:
    """Return where the array is not 0, as differences, and what stands there."""
    filled = np.flatnonzero(array)
    return [np.diff(filled, prepend=0).tolist(), array[filled].tolist()]


def _dense(sparse: list[list[int]], length: int) -> Ints:
    steps, values = sparse
    places = np.cumsum(np.array(steps, np.int64))
    found = np.array(values, np.int64)
    if places.shape != found.shape or places.ndim != 1 or (found < 0).any():
        raise ProfileError("counts that cannot be: the file is damaged")
    if len(places) and (int(places.min()) < 0 or int(places.max()) >= length):
        raise ProfileError("a bin that does not exist: the file is damaged")
    array = np.zeros(length, np.int64)
    array[places] = found
    return array


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ProfileError("a count that is no integer of 0 or more: the file is damaged")
    return value
