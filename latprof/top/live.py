"""The numbers of the last minute, by second, from frames as they arrive.

Frames are assigned to windows of time by their end. The histograms of the most recent windows are
kept, for percentiles over all of them; of older windows only p99 is kept, for the sparkline.
"""

from collections import Counter, deque
from dataclasses import dataclass

import numpy as np

from latprof.arrays import Ints, Mask
from latprof.frames import MISSING, Columns, Labels, latencies
from latprof.histogram import Histogram
from latprof.pipeline import Pipeline
from latprof.profile.groups import values_by
from latprof.thresholds import LEVELS, Thresholds

__all__ = ["Group", "Live", "Numbers", "SlowFrame"]


@dataclass(frozen=True, slots=True)
class Numbers:
    """Number of frames with a span in the recent windows; percentiles and maximum in ns."""

    count: int
    p50: int | None
    p99: int | None
    max: int | None


@dataclass(frozen=True, slots=True)
class Group:
    """Frames with one value of a column: the value, or None; frames per second; end_to_end."""

    name: str | None
    rate: float | None
    numbers: Numbers


@dataclass(frozen=True, slots=True)
class SlowFrame:
    """A frame above a threshold: its end in UTC ns, and its spans with their lengths in ns.

    The spans above their own thresholds come first, then the longest ones.
    """

    end_ns: int
    frame_id: int
    source: str | None
    end_to_end_ns: int
    level: str
    spans: tuple[tuple[str, int], ...]


class Live:
    """Counts, percentiles and slow frames of a stream of frames.

    Parameters
    ----------
    pipeline
        What the marks mean.
    limits
        Thresholds; frames above them are counted, and the last ones kept.
    width_ns
        Width of a window.
    recent
        Number of windows that percentiles are computed over.
    kept
        Number of windows in the history.
    last
        Number of slow frames that are kept.
    by
        A column or tag; `groups` has numbers for each of its values.

    Examples
    --------
    >>> live = Live(Pipeline.chain("mic", "decode"), Thresholds(critical_ns=500))
    >>> start = np.array([0, 1000])
    >>> marks = {"start": start, "decode": start, "end": start + np.array([400, 600])}
    >>> live.add(Columns(np.array([7, 8], np.uint64), marks))
    >>> live.finished, live.numbers("decode"), [v.frame_id for v in live.slow_frames]
    (2, Numbers(count=2, p50=400, p99=600, max=600), [8])
    """

    def __init__(
        self,
        pipeline: Pipeline,
        limits: Thresholds,
        *,
        width_ns: int = 1_000_000_000,
        recent: int = 10,
        kept: int = 60,
        last: int = 5,
        by: str | None = None,
    ) -> None:
        self.pipeline, self.limits, self.by = pipeline, limits, by
        self.width_ns, self.recent, self.kept = width_ns, recent, kept
        self.names = pipeline.span_names
        self._watched = [name for name in limits.spans if name in self.names]
        if limits.warning_ns is not None or limits.critical_ns is not None:
            self._watched.append("end_to_end")
        self.finished = 0
        self.dropped = 0
        self.above: Counter[str] = Counter()
        self.slow_frames: deque[SlowFrame] = deque(maxlen=last)
        self.newest: int | None = None  # number of the last window that has frames
        self.first: int | None = None  # number of the first window
        self.last_end_ns: int | None = None
        self._counts: dict[int, int] = {}  # finished frames by window
        self._histograms: dict[int, dict[str, Histogram]] = {}
        self._p99: dict[int, dict[str, int | None]] = {}
        # value of `by`, end_to_end and weight of each frame, by window
        self._grouped: dict[int, list[tuple[Labels, Ints, Ints]]] = {}

    def add(self, columns: Columns) -> None:
        """Add n frames, in any order."""
        finished = columns.finished()
        if finished is not None:
            self.dropped += _weighed(columns, ~finished)
            columns = columns.take(finished)
        if not len(columns):
            return
        self.finished += _weighed(columns)
        self._find_slow_frames(columns)
        ends = columns.marks["end"]
        known = ends != MISSING
        windows = np.where(known, ends // self.width_ns, -1)
        if not known.any():
            return
        newest = int(windows[known].max())
        self.newest = newest if self.newest is None else max(self.newest, newest)
        self.last_end_ns = max(self.last_end_ns or 0, int(ends[known].max()))
        oldest = max(self.newest - self.kept + 1, int(windows[known].min()))
        if self.first is None:
            self.first = oldest
        for window in np.unique(windows[known & (windows >= oldest)]).tolist():
            self._add_window(window, columns.take(windows == window))
        self._forget()

    def _add_window(self, window: int, columns: Columns) -> None:
        """Add the frames of one window."""
        self._counts[window] = self._counts.get(window, 0) + _weighed(columns)
        assert self.newest is not None
        if window <= self.newest - self.recent and window in self._p99:
            return  # its histograms were already dropped
        if self.by is not None:
            lengths = latencies(self.pipeline, columns, "end_to_end")
            frames = np.ones(len(columns), np.int64)
            if columns.weight is not None:
                frames = columns.weight.astype(np.int64)
            kept = self._grouped.setdefault(window, [])
            kept.append((values_by(columns, self.by), lengths, frames))
        found = self._histograms.setdefault(window, {name: Histogram() for name in self.names})
        for name in self.names:
            lengths = latencies(self.pipeline, columns, name)
            valid = lengths >= 0  # neither missing nor negative
            weights = None if columns.weight is None else columns.weight[valid]
            if valid.any():
                found[name].add(lengths[valid], weights)

    def _forget(self) -> None:
        """Reduce windows that are no longer recent to their p99, and drop old ones."""
        assert self.newest is not None
        for window in [w for w in self._histograms if w <= self.newest - self.recent]:
            found = self._histograms.pop(window)
            self._p99[window] = {name: h.value_at(99) for name, h in found.items()}
        for window in [w for w in self._grouped if w <= self.newest - self.recent]:
            del self._grouped[window]
        for numbers in (self._p99, self._counts):
            for window in [w for w in numbers if w <= self.newest - self.kept]:
                del numbers[window]

    def _find_slow_frames(self, columns: Columns) -> None:
        """Count the frames above a threshold, and keep the last ones."""
        if not self._watched:
            return
        found = np.zeros(len(columns), np.intp)  # 0: none, then as LEVELS
        for name in self._watched:
            limits = self.limits.of(name)
            lengths = latencies(self.pipeline, columns, name)
            for k, limit in enumerate((limits.warning_ns, limits.critical_ns), start=1):
                if limit is not None:
                    found = np.maximum(found, np.where(lengths > limit, k, 0))
        for k, level in enumerate(LEVELS, start=1):
            self.above[level] += _weighed(columns, found == k)
        for row in np.flatnonzero(found)[-(self.slow_frames.maxlen or 0) :].tolist():
            frame = columns.take(slice(row, row + 1))
            self.slow_frames.append(self._slow_frame(frame, LEVELS[found[row] - 1]))

    def _slow_frame(self, frame: Columns, level: str) -> SlowFrame:
        """Return a frame above a threshold with its longest spans."""
        stages = [*(stage.name for stage in self.pipeline.stages), "other"]
        lengths = {
            name: int(latencies(self.pipeline, frame, name)[0])
            for name in dict.fromkeys([*self.limits.spans, *stages])
            if name in self.names
        }
        above = [name for name, ns in lengths.items() if self._own_level(name, ns)]
        shown = [name for name, ns in lengths.items() if name in stages and ns > 0]
        shown = sorted({*above, *shown}, key=lambda name: (name not in above, -lengths[name]))
        return SlowFrame(
            int(frame.marks["end"][0]),
            int(frame.frame_id[0]),
            None if frame.source is None else frame.source.to_numpy()[0],
            int(latencies(self.pipeline, frame, "end_to_end")[0]),
            level,
            tuple((name, lengths[name]) for name in shown[: max(3, len(above))]),
        )

    def _own_level(self, name: str, ns: int) -> str:
        return self.limits.of(name).level(ns) if name in self.limits.spans else ""

    # -- reading --------------------------------------------------------------------------------

    def numbers(self, name: str) -> Numbers:
        """Return the numbers of a span over the recent windows."""
        merged = Histogram()
        for found in self._histograms.values():
            merged.merge(found[name])
        p50, p99 = merged.percentiles((50, 99))
        return Numbers(merged.count, p50, p99, merged.max)

    def groups(self, most: int) -> tuple[list[Group], int]:
        """Return groups of the recent windows, and the number of all groups.

        These are the `most` groups with the largest sums of end_to_end, in this order.
        """
        parts = [part for window in self._grouped.values() for part in window]
        if not parts:
            return [], 0
        names = Labels.concat([names for names, _, _ in parts])
        lengths = np.concatenate([lengths for _, lengths, _ in parts])
        weights = np.concatenate([weights for _, _, weights in parts])
        valid = lengths >= 0  # neither missing nor negative
        codes = names.codes + 1  # 0 is none
        size = len(names.names) + 1
        counts = np.bincount(codes, weights, size)
        times = np.bincount(codes[valid], (lengths * weights)[valid], size)
        seconds = self._seconds
        found = []
        order = [k for k in np.argsort(-times, kind="stable").tolist() if counts[k]]
        for k in order[:most]:
            histogram, rows = Histogram(), valid & (codes == k)
            if rows.any():
                histogram.add(lengths[rows], weights[rows])
            p50, p99 = histogram.percentiles((50, 99))
            name = names.names[k - 1] if k else None
            numbers = Numbers(histogram.count, p50, p99, histogram.max)
            found.append(Group(name, counts[k] / seconds if seconds else None, numbers))
        return found, len(order)

    def history(self, name: str) -> list[int | None]:
        """Return p99 by window, the newest last, and None for windows without frames."""
        if self.newest is None:
            return [None] * self.kept
        known = {window: found[name] for window, found in self._p99.items()}
        known |= {window: found[name].value_at(99) for window, found in self._histograms.items()}
        windows = range(self.newest - self.kept + 1, self.newest + 1)
        return [known.get(window) for window in windows]

    @property
    def rate(self) -> float | None:
        """Finished frames per second over the recent windows, or None before the first frame."""
        seconds = self._seconds
        if self.newest is None or not seconds:
            return None
        return sum(n for window, n in self._counts.items() if window >= self._begin) / seconds

    @property
    def _begin(self) -> int:
        """The first of the recent windows."""
        assert self.newest is not None
        assert self.first is not None
        return max(self.newest - self.recent + 1, self.first)

    @property
    def _seconds(self) -> float:
        """The time from the first of the recent windows to the last end."""
        if self.newest is None or self.first is None or self.last_end_ns is None:
            return 0.0
        # the last window has not ended
        return max((self.last_end_ns - self._begin * self.width_ns) / 1e9, 0.0)


def _weighed(columns: Columns, rows: Mask | None = None) -> int:
    """Return how many frames the rows in `rows` represent, or all rows if it is None."""
    if columns.weight is None:
        return len(columns) if rows is None else int(np.count_nonzero(rows))
    return int(columns.weight.sum() if rows is None else columns.weight[rows].sum())
