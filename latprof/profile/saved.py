"""Sums as JSON and back: sparse, with differences where numbers grow, nothing to be unpickled.

What stands in a file is not trusted: places beyond an array, counts below 0 or of another kind
are refused, and how much memory a file can ask for is bounded by the bins that exist.
"""

from collections import Counter
from typing import Any

import numpy as np

from latprof.arrays import Ints
from latprof.errors import ProfileError
from latprof.fold.consistency import inconsistency
from latprof.fold.moments import Exact, widen
from latprof.fold.sums import NO_FRAME_ID, NO_MARK, SpanSums, Sums, WorstFrame
from latprof.fold.windows import COARSE_BINS, Windows
from latprof.frames import STAMP_LIMIT
from latprof.histogram import FIRST_PLACE, PLACES, Histogram
from latprof.pipeline import Pipeline

__all__ = ["count", "dump", "load", "number", "text"]

_BINS = PLACES - FIRST_PLACE


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
        "dropped": [[*key, n] for key, n in sorted(sums.dropped.items())],
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
    sums = Sums(
        pipeline,
        [count(edge) for edge in content["edges_ns"]],
        _duration(content["every_ns"]),
        _duration(content["deadline_ns"]),
    )
    for name in sums.spans:
        sums.spans[name] = _load_span(content["spans"][name])
    sums.attributed = count(content["attributed"])
    for name in sums.shares:
        sums.shares[name] = count(content["shares"][name])
    for name in sums.covariances:
        sums.covariances[name] = number(content["covariances"][name])
    tails = content["tails"]
    counts = np.trim_zeros(_dense(tails["counts"], _BINS), "b")
    sums.tails.add(0, counts, {})
    for name in sums.tails.sums:
        steps, times = tails["sums"][name]
        places, _ = _filled([steps, [1] * len(times)], len(counts))
        exact = [count(time) for time in times]
        column = widen(np.zeros(len(counts), np.int64), max(exact, default=0))
        column[places] = exact
        sums.tails.sums[name] = column
    for begin, end, total in content["gaps"]:
        if (begin, end) not in sums.gaps:
            raise ProfileError("a gap that the pipeline does not have: the file is damaged")
        sums.gaps[begin, end] = count(total)
    sums.excluded = Counter({reason: count(n) for reason, n in content["excluded"].items()})
    sums.late = count(content["late"])
    sums.finished = count(content["finished"])
    for reason, mark, n in content["dropped"]:
        if mark not in (NO_MARK, *pipeline.marks[:-1]):
            raise ProfileError("a mark that the pipeline does not have: the file is damaged")
        sums.dropped[text(reason), mark] = count(n)
    sums.at_most = [count(n) for n in content["at_most"]]
    _load_windows(sums.batches, content["batches"])
    if sums.timeline is not None:
        _load_windows(sums.timeline, content["timeline"])
    sums.worst.keep([_load_frame(pipeline, *frame) for frame in content["worst"]])
    for place, frame_id in content["exemplars"]:
        sums.exemplars[count(place)] = _frame_id(frame_id)
    sums.first_ns, sums.last_ns = _stamp(content["first_ns"]), _stamp(content["last_ns"])
    sums.size_bytes, sums.sized = count(content["size_bytes"]), count(content["sized"])
    wrong = inconsistency(sums)
    if wrong is not None:
        raise ProfileError(f"{wrong}: the file is damaged")
    return sums


def _load_frame(
    pipeline: Pipeline, frame_id: object, total: object, source: object, marks: dict[str, object]
) -> WorstFrame:
    stamps = {mark: _stamp(marks[mark]) for mark in pipeline.marks if mark in marks}
    return WorstFrame(
        _frame_id(frame_id),
        count(total),
        None if source is None else text(source),
        {mark: stamp for mark, stamp in stamps.items() if stamp is not None},
    )


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
    counts = np.trim_zeros(_dense(content["bins"], _BINS), "b")
    low, high, frame = content["min"], content["max"], content["peak_frame"]
    histogram = Histogram()
    if low is not None:
        histogram.add_counts(0, counts, count(low), count(high))
    elif len(counts):
        raise ProfileError("bins of no values: the file is damaged")
    return SpanSums(
        count=count(content["count"]),
        missing=count(content["missing"]),
        negative=count(content["negative"]),
        total=count(content["total"]),
        m2=number(content["m2"]),
        peak=histogram.max,
        peak_frame=None if frame is None else _frame_id(frame),
        histogram=histogram,
    )


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
    width, first, length = content["width_ns"], content["first"], count(content["length"])
    doublings = count(width) // windows.base_ns
    if (
        type(first) is not int
        or length > windows.most
        or width != doublings * windows.base_ns
        or doublings.bit_count() != 1
        or (first + 1) * width <= -STAMP_LIMIT
        or (first + length - 1) * width >= STAMP_LIMIT
    ):
        raise ProfileError("windows that cannot be: the file is damaged")
    windows.width_ns, windows.first, windows.length = width, first, length
    for name in windows.names:
        places, values = _filled(content["counts"][name], length * COARSE_BINS)
        windows.add_counts(name, places // COARSE_BINS, places % COARSE_BINS, values)
    for name in windows.sums:
        sums, peaks = content["sums"][name], content["peaks"][name]
        if len(sums) != length or len(peaks) != length:
            raise ProfileError("windows and their sums are not as many: the file is damaged")
        exact = [count(time) for time in sums]
        windows.sums[name] = widen(windows.sums[name], max(exact, default=0))
        windows.sums[name][:length] = exact
        windows.peaks[name][:length] = [count(peak) for peak in peaks]


def _sparse(array: Exact) -> list[list[int]]:
    """Return where the array is not 0, as differences, and what stands there."""
    filled = np.flatnonzero(array)
    return [np.diff(filled, prepend=0).tolist(), array[filled].tolist()]


def _dense(sparse: list[list[int]], length: int) -> Ints:
    places, values = _filled(sparse, length)
    array = np.zeros(length, np.int64)
    array[places] = values
    return array


def _filled(sparse: Any, length: int) -> tuple[Ints, Ints]:
    """Return places, each above the one before, and what stands there: never 0."""
    steps, values = map(_integers, sparse)
    if len(steps) != len(values) or (steps[1:] < 1).any() or (steps >= length).any():
        raise ProfileError("bins that do not exist: the file is damaged")
    places = np.cumsum(steps)
    if len(places) and (places[0] < 0 or places[-1] >= length):
        raise ProfileError("bins that do not exist: the file is damaged")
    if not _is_small(values):
        raise ProfileError("counts that cannot be: the file is damaged")
    return places, values


def _is_small(values: Ints) -> bool:
    """Return whether these are counts above 0 whose sum has 64 bits."""
    return bool((values > 0).all()) and float(values.sum(dtype=np.float64)) < 2.0**63


def _integers(values: Any) -> Ints:
    if not isinstance(values, list) or not all(type(value) is int for value in values):
        raise ProfileError("a list of integers that is none: the file is damaged")
    return np.array(values, np.int64)


def count(value: object) -> int:
    """Return an integer of 0 or more; refuse anything else."""
    if type(value) is not int or value < 0:
        raise ProfileError("a count that is no integer of 0 or more: the file is damaged")
    return value


def _frame_id(value: object) -> int:
    if count(value) > NO_FRAME_ID:
        raise ProfileError("a frame's id of more than 64 bits: the file is damaged")
    return count(value)


def _stamp(value: object) -> int | None:
    if value is not None and (type(value) is not int or not -STAMP_LIMIT < value < STAMP_LIMIT):
        raise ProfileError("a stamp that is none: the file is damaged")
    return value


def _duration(value: object) -> int | None:
    if value is not None and not 0 < count(value) < STAMP_LIMIT:
        raise ProfileError("a duration that is none: the file is damaged")
    return None if value is None else count(value)


def number(value: object) -> float:
    """Return a number; refuse anything else."""
    if type(value) not in (int, float):
        raise ProfileError("a number that is none: the file is damaged")
    return float(value)  # type: ignore[arg-type]


def text(value: object) -> str:
    """Return a name; refuse anything else."""
    if not isinstance(value, str):
        raise ProfileError("a name that is none: the file is damaged")
    return value
