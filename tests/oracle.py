"""The results of the fold, computed one frame at a time with Python integers and fractions.

Slow and obvious on purpose, and written from the definition of each number. Of latprof only the
constants for missing values and the declaration of the pipeline are used.
"""

import math
from collections import Counter
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise

from latprof.frames import MISSING, NO_SIZE

EDGES_NS = [ms * 10**6 for ms in (1, 5, 10, 25, 50, 100, 250, 500, 1000, 2000)]


def frames(columns):
    """Return a dict for each row, repeated by its weight; missing values are None."""
    rows = []
    for i in range(len(columns.frame_id)):
        row = {"id": int(columns.frame_id[i]), "size": None, "source": None, "outcome": None}
        row["marks"] = {}
        for mark, stamps in columns.marks.items():
            row["marks"][mark] = None if stamps[i] == MISSING else int(stamps[i])
        if columns.size is not None and columns.size[i] != NO_SIZE:
            row["size"] = int(columns.size[i])
        for name in ("source", "outcome"):
            labels = getattr(columns, name)
            if labels is not None and labels.codes[i] >= 0:
                row[name] = labels.names[labels.codes[i]]
        row["tags"] = {name: tag[i] for name, tag in columns.tags.items()}
        rows += [row] * (1 if columns.weight is None else int(columns.weight[i]))
    return rows


def finished(rows):
    return [row for row in rows if row["outcome"] in (None, "finished")]


def latency(row, span):
    """Return end minus begin, or None if a mark is missing."""
    begin, end = row["marks"][span.begin], row["marks"][span.end]
    return None if begin is None or end is None else end - begin


# -- one list of values -------------------------------------------------------------------------


def percentile(values, q):
    """Return the smallest value such that at least q % of the values are at or below it."""
    rank = math.ceil(Fraction(Decimal(str(q))) / 100 * len(values))
    return sorted(values)[max(rank, 1) - 1]


def bin_number(value):
    """Return the histogram's bin: 1,024 an octave, and one for 0."""
    if value == 0:
        return 0
    mantissa, exponent = math.frexp(value)
    return 1 + 1024 * (exponent - 1) + math.floor((2 * mantissa - 1) * 1024)


def mean(values):
    return Fraction(sum(values), len(values))


def std(values):
    """Return the standard deviation (n - 1): only the square root is rounded."""
    n = len(values)
    # n times the sum of squared distances from the mean
    scaled = n * sum(v * v for v in values) - sum(values) ** 2
    return math.sqrt(Fraction(scaled, n * (n - 1)))


def comoment(xs, ys):
    """Return the sum of the products of distances from the means."""
    if not xs:
        return Fraction(0)
    return sum(x * y for x, y in zip(xs, ys, strict=True)) - Fraction(sum(xs) * sum(ys), len(xs))


def peak_frame(pairs):
    """Return the id of the frame with the largest value; of several the smallest id."""
    highest = max(value for value, _ in pairs)
    return min(frame for value, frame in pairs if value == highest)


# -- a whole trace ------------------------------------------------------------------------------


def reason_left_out(row, pipeline):
    """Return why a finished frame is not in the attribution set, or None if it is."""
    end_to_end = latency(row, pipeline.span("end_to_end"))
    if end_to_end is None:
        return "end_to_end missing"
    if end_to_end < 0:
        return "end_to_end negative"
    for stage in pipeline.stages:
        if (latency(row, stage) or 0) < 0:
            return f"{stage.name} negative"
    if other(row, pipeline) < 0:
        return "stages longer than end_to_end"
    return None


def other(row, pipeline):
    """Return end_to_end minus the stages of the same frame; a missing stage counts 0."""
    claimed = sum(latency(row, stage) or 0 for stage in pipeline.stages)
    return latency(row, pipeline.span("end_to_end")) - claimed


def parts(row, pipeline):
    """Return the stages, other and end_to_end of a frame of the attribution set."""
    times = {stage.name: latency(row, stage) or 0 for stage in pipeline.stages}
    whole = latency(row, pipeline.span("end_to_end"))
    return {**times, "other": other(row, pipeline), "end_to_end": whole}


def last_mark(row, pipeline):
    """Return the last mark before `end` (which a drop stamps) that the frame reached."""
    reached = [mark for mark in pipeline.marks[:-1] if row["marks"][mark] is not None]
    return reached[-1] if reached else "(none)"


def gaps(pipeline):
    """Return the pairs of neighbouring stage borders between which no stage runs."""
    borders = ["start"]
    for stage in pipeline.stages:
        borders += [stage.begin, stage.end]
    borders.append("end")
    return [pair for pair in zip(borders[::2], borders[1::2], strict=True) if pair[0] != pair[1]]


def fold(columns, pipeline, edges_ns=EDGES_NS):
    """Return all results of folding as plain values."""
    rows = frames(columns)
    done = finished(rows)
    kept = [row for row in done if reason_left_out(row, pipeline) is None]
    left_out = Counter(reason_left_out(row, pipeline) for row in done) - Counter({None: len(kept)})
    result = {
        "finished": len(done),
        "dropped": Counter(
            (row["outcome"], last_mark(row, pipeline))
            for row in rows
            if row["outcome"] not in (None, "finished")
        ),
        "attributed": len(kept),
        "excluded": left_out,
        "shares": {
            stage.name: sum(latency(row, stage) or 0 for row in kept) for stage in pipeline.stages
        },
        "gaps": {},
        "size_bytes": sum(row["size"] for row in done if row["size"] is not None),
        "sized": sum(row["size"] is not None for row in done),
        "first_ns": min((t for t in _stamps(done, "start")), default=None),
        "last_ns": max((t for t in _stamps(done, "end")), default=None),
        "spans": {},
        "kept": [parts(row, pipeline) for row in kept],
    }
    result["shares"]["other"] = sum(other(row, pipeline) for row in kept)
    result["shares"]["end_to_end"] = sum(latency(row, pipeline.span("end_to_end")) for row in kept)
    for begin, end in gaps(pipeline):
        times = [(row["marks"][begin], row["marks"][end]) for row in kept]
        result["gaps"][begin, end] = sum(
            max(late - early, 0) for early, late in times if None not in (early, late)
        )
    for span in pipeline.all_spans:
        found = [(latency(row, span), row["id"]) for row in done]
        missing = sum(value is None for value, _ in found)
        negative = sum(value is not None and value < 0 for value, _ in found)
        good = [(value, frame) for value, frame in found if value is not None and value >= 0]
        result["spans"][span.name] = statistics(good, missing, negative)
    result["spans"]["other"] = statistics([(other(row, pipeline), row["id"]) for row in kept], 0, 0)
    totals = result["spans"]["end_to_end"]["values"]
    result["at_most"] = [sum(value <= edge for value in totals) for edge in edges_ns]
    return result


def statistics(pairs, missing, negative):
    """Return the statistics of a span from its (value, frame id) pairs."""
    values = [value for value, _ in pairs]
    return {
        "values": sorted(values),
        "count": len(values),
        "missing": missing,
        "negative": negative,
        "total": sum(values),
        "min": min(values, default=None),
        "max": max(values, default=None),
        "peak_frame": peak_frame(pairs) if pairs else None,
        "std": std(values) if len(values) > 1 else None,
    }


def ranges(values, edges_ns=EDGES_NS):
    """Return (above, up to and including, count); the first range includes 0."""
    rows = []
    for low, high in zip([-1, *edges_ns], [*edges_ns, math.inf], strict=True):
        rows.append((max(low, 0), high, sum(low < value <= high for value in values)))
    return [(low, None if high == math.inf else high, n) for low, high, n in rows]


def active_ns(segments):
    """Return the length of the union of (begin, end)."""
    borders = sorted({t for segment in segments for t in segment})
    return sum(
        right - left
        for left, right in pairwise(borders)
        if any(begin <= left and right <= end for begin, end in segments)
    )


def _stamps(rows, mark):
    return [row["marks"][mark] for row in rows if row["marks"][mark] is not None]
