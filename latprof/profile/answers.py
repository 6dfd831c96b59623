"""Answers that are read off the sums as tables: tails, windows, worst frames, missed deadlines."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from latprof.errors import ProfileError
from latprof.fold.sums import Sums
from latprof.fold.worst import MOST_WORST, WorstFrame
from latprof.histogram import bin_edges, rank_of
from latprof.profile.span import Slice, slice_of
from latprof.profile.windows import coarse_edges, window_numbers

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "COARSE_ERROR",
    "Deadline",
    "deadline",
    "exemplars",
    "middle_of",
    "stages_of",
    "tail_table",
    "timeline_rows",
    "timeline_table",
    "worst_frames",
    "worst_table",
]

COARSE_ERROR = 0.016
"""Largest relative error of a percentile by window: they come from 32 bins an octave."""

_MIDDLE = (40, 60)
_WINDOW_PERCENTILES = (50, 90, 99)


@dataclass(frozen=True, slots=True)
class Deadline:
    """How many frames missed a deadline.

    A dropped frame is a miss. `by_stage` says for the late ones which stage took most more than
    in the middle frames (40th to 60th percentile), or, where those are late themselves, than in
    the frames in time: read by bin of end_to_end, where a bin's frames count for the stage that
    took most more in them together.
    """

    deadline_ns: int
    frames: int
    late: int
    dropped: int
    by_stage: dict[str, int]

    @property
    def misses(self) -> int:
        """Late and dropped frames."""
        return self.late + self.dropped

    @property
    def ratio(self) -> float | None:
        """Misses among all frames that finished or were dropped."""
        return self.misses / self.frames if self.frames else None


def deadline(sums: Sums) -> Deadline | None:
    """Return what became of the deadline that was declared; None: none was."""
    if sums.deadline_ns is None:
        return None
    dropped = sum(sums.dropped_by_reason.values())
    by_stage: dict[str, int] = {}
    tails = sums.tails
    filled = np.flatnonzero(tails.counts)
    late = filled[bin_edges(filled)[1] > sums.deadline_ns]
    if sums.promised == "end_to_end" and len(late) and tails.sums:
        names = list(tails.sums)
        counts = tails.counts[late]
        usual = np.array([_usual(sums).mean(name) or 0.0 for name in names])
        excess = np.array([tails.sums[name][late] for name in names]) / counts - usual[:, None]
        if bin_edges(late)[0][0] <= sums.deadline_ns:
            # of the bin that the deadline cuts, only what is above: that is known exactly
            beyond = sums.spans[sums.promised].histogram.bins[late[0] + 1 :]
            counts[0] = min(int(counts[0]), sums.late - int(beyond.sum()))
        blamed = np.argmax(excess, axis=0)
        found = np.bincount(blamed, counts, minlength=len(names)).astype(int).tolist()
        by_stage = {name: n for name, n in zip(names, found, strict=True) if n}
    return Deadline(sums.deadline_ns, sums.finished + dropped, sums.late, dropped, by_stage)


def _usual(sums: Sums) -> Slice:
    """Return the frames that late ones are compared with: the middle ones, if they are in time.

    Where most frames are late the middle ones are no example: then all that are in time are.
    """
    tails = sums.tails
    filled = np.flatnonzero(tails.counts)
    in_time = filled[bin_edges(filled)[1] <= (sums.deadline_ns or 0)]
    frames = int(tails.counts[in_time].sum())
    if frames >= rank_of(_MIDDLE[1], int(tails.counts.sum())):
        return slice_of(tails, *_MIDDLE)
    return Slice(
        frames, {name: float(column[in_time].sum()) for name, column in tails.sums.items()}
    )


def tail_table(sums: Sums, q: float) -> "pd.DataFrame":
    """Return share and mean (ns) of each stage in frames slower than `q`, and in middle ones."""
    import pandas as pd

    columns: dict[str, Any] = {}
    for what, part in (("slow", slice_of(sums.tails, q, 100)), ("middle", middle_of(sums))):
        columns[f"{what}_share"] = [part.share(name) for name in part.sums]
        columns[f"{what}_mean"] = [part.mean(name) for name in part.sums]
        columns[f"{what}_frames"] = [part.frames for _ in part.sums]
    index = pd.Index(list(sums.tails.sums), name="span")
    frame = pd.DataFrame(columns, index=index, dtype="float64")
    return frame.astype({"slow_frames": "int64", "middle_frames": "int64"})


def middle_of(sums: Sums) -> Slice:
    """Return the middle frames: from the 40th to the 60th percentile of end_to_end."""
    return slice_of(sums.tails, *_MIDDLE)


# -- windows of time ----------------------------------------------------------------------------


def timeline_rows(sums: Sums) -> list[dict[str, Any]]:
    """Return the numbers of each window and span that has frames, in order of time."""
    windows = sums.timeline
    if windows is None:
        return []
    numbers = {name: window_numbers(sums, name, _WINDOW_PERCENTILES) for name in windows.names}
    rows = []
    for i, begin in enumerate(windows.begins_ns.tolist()):
        for name, known in numbers.items():
            n, peak = int(known.counts[i]), int(known.max_ns[i])
            if n == 0:
                continue
            row: dict[str, Any] = {"window_ns": begin, "span": name, "count": n}
            # beyond 64 bits the sum is not known
            row["mean"] = int(windows.sums[name][i]) / n if n * peak < 2**63 else None
            row |= {f"p{q:g}": int(values[i]) for q, values in known.percentiles.items()}
            row["max"] = peak
            rows.append(row)
    return rows


def timeline_table(sums: Sums) -> "pd.DataFrame":
    """Return the numbers of each window and span, times in ns, by begin of window (UTC)."""
    import pandas as pd

    names = ["window_ns", "span", "count", "mean", *(f"p{q}" for q in _WINDOW_PERCENTILES), "max"]
    frame = pd.DataFrame(timeline_rows(sums), columns=names)
    begins = pd.to_datetime(frame.pop("window_ns").astype("int64"), unit="ns")
    frame.insert(0, "window", begins)
    return frame.set_index(["window", "span"])


# -- frames -------------------------------------------------------------------------------------


def stages_of(sums: Sums, frame: WorstFrame) -> dict[str, int]:
    """Return how long each stage and other of a slow frame took, ns; missing stages left out."""
    spans = {}
    for stage in sums.pipeline.stages:
        if stage.begin in frame.marks and stage.end in frame.marks:
            spans[stage.name] = frame.marks[stage.end] - frame.marks[stage.begin]
    return {**spans, "other": frame.end_to_end_ns - sum(spans.values())}


def worst_frames(sums: Sums, n: int) -> list[WorstFrame]:
    """Return the n slowest frames.

    Raises
    ------
    ProfileError
        `n` is not from 0 to `MOST_WORST`.
    """
    if not 0 <= n <= MOST_WORST:
        raise ProfileError(f"the {n} worst frames: a profile keeps {MOST_WORST}, ask for up to all")
    return sums.worst.frames[:n]


def worst_table(sums: Sums, n: int) -> "pd.DataFrame":
    """Return the n slowest frames by id: source, start (UTC), end_to_end, stages and other (ns)."""
    import pandas as pd

    rows = []
    for frame in worst_frames(sums, n):
        start = pd.Timestamp(frame.marks["start"], unit="ns")
        row = {"frame_id": frame.frame_id, "source": frame.source, "start": start}
        rows.append({**row, "end_to_end": frame.end_to_end_ns, **stages_of(sums, frame)})
    names = ["end_to_end", *(stage.name for stage in sums.pipeline.stages), "other"]
    types: dict[str, Any] = {"source": "object", "start": "datetime64[ns]"}
    types |= dict.fromkeys(names, "Int64")
    columns = {
        name: pd.array([row.get(name) for row in rows], dtype=kind) for name, kind in types.items()
    }
    ids = np.array([row["frame_id"] for row in rows], np.uint64)
    return pd.DataFrame(columns, index=pd.Index(ids, name="frame_id"))


def exemplars(sums: Sums) -> list[tuple[int, int, int]]:
    """Return smallest value, largest value (ns) and a frame's id of each filled coarse bin."""
    filled = sums.filled
    low, high = coarse_edges()
    ids = sums.exemplars[filled].tolist()
    return list(zip(low[filled].tolist(), high[filled].tolist(), ids, strict=True))
