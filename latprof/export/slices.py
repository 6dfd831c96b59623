"""The slowest frames of a trace as slices on tracks, for the files of trace viewers.

A stage is a slice on the track of its station, a hand-off on a track of its own, and each frame is
a slice on the first track. Frames in flight are counted over the whole trace.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from latprof.arrays import Ints
from latprof.errors import TraceError
from latprof.frames import MISSING, Columns, latencies
from latprof.marks import Span
from latprof.pipeline import Pipeline
from latprof.profile.span import check_integer
from latprof.text import storable
from latprof.trace import Trace
from latprof.units import format_ns

__all__ = [
    "FRAMES",
    "Drawing",
    "DrawnFrame",
    "InFlight",
    "Slice",
    "details_of",
    "draw",
    "frames_in_flight",
    "known_times",
    "stable_id",
]

FRAMES = "frames"
"""The name of the first track, of whole frames."""

MOST_COUNTS = 10_000  # points of the curve of frames in flight in a file


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of a frame on a track.

    Attributes
    ----------
    begin, end
        UTC ns.
    track
        The place of the track in `Drawing.tracks`.
    overlaps
        Whether slices of several frames are expected to overlap on the track.
    """

    name: str
    track: int
    begin: int
    end: int
    overlaps: bool


@dataclass(frozen=True, slots=True)
class DrawnFrame:
    """A frame: the slice of the whole, and those of its stages in order.

    A stage without one of its marks, or that ends before it begins, has no slice.
    """

    frame_id: int
    source: str | None
    whole: Slice
    stages: tuple[Slice, ...]

    @property
    def details(self) -> dict[str, str]:
        """Names and values that a viewer shows beside each slice of the frame."""
        return details_of(self.frame_id, self.source)


@dataclass(frozen=True, slots=True)
class InFlight:
    """The numbers of frames in flight.

    Attributes
    ----------
    name
        The curve's name; it says so if a point has the largest number of a window of time.
    at_ns, counts
        (n,) each: times in UTC ns, and the number from each time to the next.
    """

    name: str
    at_ns: Ints
    counts: Ints


@dataclass(frozen=True, slots=True)
class Drawing:
    """The content of a file for a trace viewer.

    Attributes
    ----------
    tracks
        Names of the tracks: `FRAMES`, then stations and hand-offs in the pipeline's order.
    frames
        The slowest frames, in order of the trace.
    in_flight
        Numbers of frames in flight, or None if frames are missing in the trace.
    note
        Why `in_flight` is None, or "".
    """

    tracks: tuple[str, ...]
    frames: tuple[DrawnFrame, ...]
    in_flight: InFlight | None
    note: str = ""


def draw(trace: Trace, worst: int) -> Drawing:
    """Return the `worst` slowest frames of a trace, and the numbers of all frames in flight.

    Raises
    ------
    TraceError
        No frame has a start and an end.
    ProfileError
        `worst` is not an integer from 1 on.
    """
    worst = check_integer("worst", worst, 1, 2**31)
    pipeline, columns = trace.pipeline, trace.columns
    total = latencies(pipeline, columns, "end_to_end")
    known = np.flatnonzero(total >= 0)
    if not len(known):
        raise TraceError(
            "frames must have a start and a later end to be drawn, got none that has both"
        )
    rows = np.sort(known[np.argsort(-total[known], kind="stable")[:worst]])
    tracks = dict.fromkeys(stage.station or stage.name for stage in pipeline.stages)
    frames = _frames(pipeline, columns.take(rows), {name: i + 1 for i, name in enumerate(tracks)})
    why = _why_not_counted(trace)
    flight = None if why else frames_in_flight(columns)
    return Drawing((FRAMES, *tracks), frames, flight, why)


def _frames(
    pipeline: Pipeline, chosen: Columns, track_of: Mapping[str, int]
) -> tuple[DrawnFrame, ...]:
    sources = [None] * len(chosen) if chosen.source is None else chosen.source.to_numpy().tolist()
    rows = np.array(list(chosen.marks.values())).T.tolist()
    stamps = [dict(zip(chosen.marks, row, strict=True)) for row in rows]
    frames = []
    for frame, source, marks in zip(chosen.frame_id.tolist(), sources, stamps, strict=True):
        whole = Slice(f"frame {frame}", 0, marks["start"], marks["end"], True)
        stages = tuple(
            Slice(stage.name, track_of[stage.station or stage.name], begin, end, not stage.station)
            for stage, begin, end in known_times(pipeline.stages, marks)
        )
        frames.append(DrawnFrame(frame, source, whole, stages))
    return tuple(frames)


def details_of(frame_id: int, source: str | None) -> dict[str, str]:
    """Return what is shown beside the times of a frame."""
    return {"frame": str(frame_id)} | ({} if source is None else {"source": storable(source)})


def known_times(spans: Iterable[Span], marks: Mapping[str, int]) -> list[tuple[Span, int, int]]:
    """Return span, begin and end (ns) of the spans that have both marks and do not end earlier."""
    found = [(span, marks.get(span.begin), marks.get(span.end)) for span in spans]
    return [
        (span, begin, end)
        for span, begin, end in found
        if begin is not None and end is not None and MISSING < begin <= end
    ]


def _why_not_counted(trace: Trace) -> str:
    """Return why the frames in flight cannot be counted, or ""."""
    weight = trace.weight
    if float(trace.meta.get("sampling_rate") or 1) < 1:
        return "frames are sampled"
    if weight is not None and bool((weight > 1).any()):
        return "some frames represent several"
    return "frames are lost" if trace.meta.get("lost") else ""


def frames_in_flight(columns: Columns, most: int = MOST_COUNTS) -> InFlight:
    """Return how many frames were started and had not ended, dropped ones included.

    At the time at which one frame ends and another starts, only the other counts. If the number
    changes more than `most` times, the largest in each of `most` windows of the same length is
    given.

    Examples
    --------
    >>> ends = np.array([30, 20, 45])
    >>> marks = {"start": np.array([0, 10, 30]), "end": ends}
    >>> found = frames_in_flight(Columns(np.arange(3, dtype=np.uint64), marks))
    >>> found.name, found.at_ns.tolist(), found.counts.tolist()
    ('frames in flight', [0, 10, 20, 45], [1, 2, 1, 0])
    """
    start, end = columns.marks["start"], columns.marks["end"]
    both = (start != MISSING) & (end >= start)
    stamps = np.concatenate([start[both], end[both]])
    order = np.argsort(stamps, kind="stable")
    change = np.where(order < both.sum(), 1, -1)
    stamps = stamps[order]
    first = np.flatnonzero(np.append(True, stamps[1:] != stamps[:-1]))
    at = stamps[first]
    counts = np.add.reduceat(change, first).cumsum()  # all changes of one time at once
    name = "frames in flight"
    if len(at) > most:
        width = -(-int(at[-1] - at[0] + 1) // most)
        begins = np.arange(at[0], at[-1], width)
        # a window also contains the number that holds at its begin
        every = np.sort(np.concatenate([at[:-1], begins]))
        counts = counts[np.searchsorted(at, every, "right") - 1]
        peaks = np.maximum.reduceat(counts, np.searchsorted(every, begins))
        name = f"{name}, most in each {format_ns(width)}"
        at, counts = np.append(begins, at[-1]), np.append(peaks, 0)
    changed = np.append(True, np.diff(counts) != 0)
    return InFlight(name, at[changed], counts[changed])


def stable_id(*parts: object, size: int = 8) -> int:
    """Return a number of `size` bytes, not 0, that is the same for the same parts.

    Examples
    --------
    >>> stable_id("mic", 7) == stable_id("mic", 7) != stable_id("mic", 8)
    True
    """
    text = "\0".join(str(part) for part in parts)
    found = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=size).digest()
    return int.from_bytes(found) or 1
