"""Common parts of the exporters of metrics: labels, descriptions, the numbers of a profile."""

import logging
import re
from collections.abc import Iterator

import numpy as np

from latprof.accounts import Accounts
from latprof.arrays import Floats, Ints
from latprof.errors import ProfilerError
from latprof.histogram import Histogram, bin_edges
from latprof.profile.profile import Profile
from latprof.recorder.profiler import Profiler
from latprof.text import quoted, storable

__all__ = [
    "ABOUT",
    "SECOND",
    "check_profiler",
    "exponential_buckets",
    "groups_of",
    "label_of",
    "report_label",
    "states_of",
]

ABOUT = {
    "latency": "Time of each span of the finished frames.",
    "missing": "Finished frames without the span.",
    "negative": "Spans that end before they begin.",
    "frames": "Frames by what became of them.",
    "in_flight": "Frames that have not ended.",
}
"""Descriptions of the metrics."""

SECOND = 10**9
"""Nanoseconds in the unit of the metrics."""

FINEST = 9  # the largest scale at which a bucket is wider than a bin

_NOT_IN_LABELS = re.compile(r"[^a-zA-Z0-9_]")
_OTHER_LABELS = ("pipeline", "span", "state", "le", "quantile")
_log = logging.getLogger("latprof")


def check_profiler(profiler: object) -> None:
    """Refuse what is not a Profiler.

    Raises
    ------
    ProfilerError
        It is something else.
    """
    if not isinstance(profiler, Profiler):
        raise ProfilerError(f"profiler must be a Profiler, got {quoted(profiler)}")


def label_of(tag: str) -> str:
    """Return the name of the label for a tag.

    Examples
    --------
    >>> [label_of(tag) for tag in ("source", "größe", "__id", "span")]
    ['source', 'gr__e', 'tag___id', 'tag_span']
    """
    label = _NOT_IN_LABELS.sub("_", tag)
    taken = label.startswith("__") or label in _OTHER_LABELS
    return f"tag_{label}" if taken else label


def report_label(tag: str) -> str:
    """Return the name of the label for a tag; the log says if they differ."""
    label = label_of(tag)
    if label != tag:
        _log.warning("the tag %s is exported as the label %s", quoted(tag), label)
    return label


def groups_of(profile: Profile) -> Iterator[tuple[str, Profile]]:
    """Yield the name and the profile of each group, or "" and the profile if it has no groups."""
    for name, part in (profile.groups or {"": profile}).items():
        yield storable(name), part


def states_of(accounts: Accounts) -> dict[str, int]:
    """Return how many frames are in each state."""
    return {
        "started": accounts.started,
        "finished": accounts.finished,
        "dropped": sum(accounts.dropped.values()),
        "rejected": sum(accounts.rejected.values()),
        "lost": accounts.lost,
        "sampled_out": accounts.sampled_out,
    }


def exponential_buckets(histogram: Histogram, most: int = 160) -> tuple[int, int, list[int]]:
    """Return scale, offset and counts (n,) of base-2 exponential buckets of the values in seconds.

    Bucket ``offset + i`` holds the values above ``2 ** ((offset + i) / 2**scale)`` and up to
    ``2 ** ((offset + i + 1) / 2**scale)``; zeros are in none. The scale is the largest, up to 9,
    at which at most `most` buckets hold all values. A value is counted in the bucket of the middle
    of its bin: values within 0.05 % of an edge, from 2,048 ns on, may be in the bucket beside it.

    Examples
    --------
    >>> histogram = Histogram()
    >>> histogram.add(np.array([0, 1_500, 2_500, 3_500]) * 1_000_000)
    >>> exponential_buckets(histogram, most=2)
    (0, 0, [1, 2])
    """
    filled = np.flatnonzero(histogram.bins)
    filled = filled[filled > 0]
    if not len(filled) or histogram.min is None or histogram.max is None:
        return FINEST, 0, []
    low, high = bin_edges(filled)
    middle = np.clip(low + (high - low) // 2, histogram.min, histogram.max)
    places = _places(middle / SECOND)
    first, last = _places(np.array([histogram.min or middle[0], histogram.max]) / SECOND)
    scale, shift = FINEST, 0
    while (last >> shift) - (first >> shift) >= most:
        scale, shift = scale - 1, shift + 1
    places >>= shift
    counts = np.zeros(places[-1] - places[0] + 1, np.int64)
    np.add.at(counts, places - places[0], histogram.bins[filled])
    return scale, int(places[0]), counts.tolist()


def _places(seconds: Floats) -> Ints:
    """Return the buckets (n,) of values above 0 at the scale `FINEST`."""
    mantissa, exponent = np.frexp(seconds)  # from 0.5 to 1, so that powers of two are exact
    inside: Ints = np.ceil(np.log2(mantissa) * 2**FINEST).astype(np.int64)
    return inside + (exponent.astype(np.int64) << FINEST) - 1
