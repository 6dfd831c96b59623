"""Frames as Perfetto's own traces (protobuf), for ui.perfetto.dev and its trace processor.

The package ``perfetto`` must be installed (``pip install 'latprof[perfetto]'``)::

    from latprof.export import perfetto

    perfetto.save(trace, "mic.pftrace")     # or: latprof export mic.parquet -o mic.pftrace

Times are in ns, exact. Whole frames, stations and hand-offs have a track each. Slices that overlap
on it are in lanes, tracks of the same name, which the viewer shows as one. A flow follows each
frame through its stages, and a counter shows how many frames are in flight.
"""

import heapq
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from latprof.errors import TraceError
from latprof.export.slices import Drawing, DrawnFrame, InFlight, Slice, draw, stable_id
from latprof.io.atomic import write_file
from latprof.trace import Trace

__all__ = ["ENDINGS", "save"]

ENDINGS = (".pftrace", ".perfetto-trace")
"""How the names of Perfetto's traces end."""

_SEQUENCE = 1  # packets of one writer have one number
_REALTIME, _BOOTTIME = 1, 6  # numbers of clocks; packets are in that of the boot time


@dataclass(frozen=True, slots=True)
class _Placed:
    """A slice to be written, with its frame and the flow that passes it."""

    slice: Slice
    frame: DrawnFrame
    flow: int = 0
    flow_ends: bool = False


def save(trace: Trace, path: str | os.PathLike[str], *, worst: int = 50) -> Drawing:
    """Write the slowest frames of a trace, and return what was drawn.

    Parameters
    ----------
    trace
        Its frames.
    path
        A new or an old file, ``.pftrace`` or ``.perfetto-trace``.
    worst
        How many frames are drawn; frames in flight are counted over all.

    Raises
    ------
    TraceError
        No frame has a start and a later end, a frame has a time before 1970, the package perfetto
        is not installed, or the file cannot be written.
    ProfileError
        `worst` is not an integer from 1 on.

    Examples
    --------
    >>> import tempfile
    >>> from latprof import Pipeline
    >>> mic = Pipeline.chain("mic", "decode", "play", stations={"play": "card"})
    >>> marks = {"start": [0, 20], "decode": [1, 21], "play": [9, 29], "end": [25, 40]}
    >>> drawn = save(Trace(mic, frame_id=[7, 8], marks=marks), tempfile.mkdtemp() + "/a.pftrace")
    >>> drawn.tracks, len(drawn.frames), drawn.in_flight.counts.tolist()
    (('frames', 'decode', 'card'), 2, [1, 2, 1, 0])
    """
    protos = _protos()
    drawing = draw(trace, worst)
    first = min(frame.whole.begin for frame in drawing.frames)
    if drawing.in_flight is not None:
        first = min(first, int(drawing.in_flight.at_ns[0]))
    if first < 0:
        raise TraceError(
            "stamps of a Perfetto file must be from 1970 or later, got a frame before; end the "
            "output in .json"
        )
    writer = _Writer(protos, trace.pipeline.name, first)
    slices = _placed(drawing, stable_id(trace.pipeline.name, first))
    for number, name in enumerate(drawing.tracks):
        for lane, inside in enumerate(_lanes(slices[number])):
            writer.slices(f"{number} {lane}", name, number, inside)
    if drawing.in_flight is not None:
        writer.counter(len(drawing.tracks), drawing.in_flight)
    with write_file(path) as file:
        file.write(writer.packets.SerializeToString())
    return drawing


def _protos() -> ModuleType:
    try:
        from perfetto.protos.perfetto.trace import perfetto_trace_pb2
    except Exception:  # perfetto is missing, or protobuf is too old for it, which is another error
        raise TraceError(
            "a Perfetto file needs the packages perfetto and protobuf; pip install -U "
            "'latprof[perfetto]', or end the output in .json"
        ) from None
    module: ModuleType = perfetto_trace_pb2
    return module


def _placed(drawing: Drawing, first_flow: int) -> dict[int, list[_Placed]]:
    """Return the slices by track; the slices of a frame's stages have the number of its flow."""
    found: dict[int, list[_Placed]] = defaultdict(list)
    for number, frame in enumerate(drawing.frames):
        found[0].append(_Placed(frame.whole, frame))
        flow = (first_flow + number) % 2**64 or 1 if len(frame.stages) > 1 else 0
        for each in frame.stages:
            found[each.track].append(_Placed(each, frame, flow, each is frame.stages[-1]))
    return found


def _lanes(slices: Sequence[_Placed]) -> list[list[_Placed]]:
    """Return slices in as few lanes as possible without overlaps, each lane in order of time."""
    found: list[list[_Placed]] = []
    ends: list[tuple[int, int]] = []  # when a lane is free again, and its number
    for placed in sorted(slices, key=lambda each: (each.slice.begin, each.slice.end)):
        if ends and ends[0][0] <= placed.slice.begin:
            _, lane = heapq.heappop(ends)
        else:
            lane = len(found)
            found.append([])
        found[lane].append(placed)
        heapq.heappush(ends, (placed.slice.end, lane))
    return found


class _Writer:
    """Packets of one file; the track of the pipeline contains all other tracks."""

    def __init__(self, protos: ModuleType, pipeline: str, first_ns: int) -> None:
        self.packets: Any = protos.Trace()
        self._kinds: Any = protos.TrackEvent
        self._of = (pipeline, first_ns)
        clocks = self._packet().clock_snapshot.clocks
        for clock in (_BOOTTIME, _REALTIME):  # both show the same time: times of packets are UTC
            clocks.add(clock_id=clock, timestamp=first_ns)
        self._root = stable_id(*self._of)
        root = self._packet().track_descriptor
        root.uuid, root.name = self._root, pipeline
        root.child_ordering = protos.TrackDescriptor.EXPLICIT

    def _packet(self) -> Any:
        packet = self.packets.packet.add()
        packet.trusted_packet_sequence_id = _SEQUENCE
        return packet

    def _track(self, key: str, name: str, rank: int) -> Any:
        """Describe a track, and return its description."""
        track = self._packet().track_descriptor
        track.uuid, track.parent_uuid = stable_id(*self._of, key), self._root
        track.name, track.sibling_order_rank = name, rank
        return track

    def _event(self, track: Any, kind: int, at: int) -> Any:
        packet = self._packet()
        packet.timestamp = at
        packet.track_event.type, packet.track_event.track_uuid = kind, track.uuid
        return packet.track_event

    def slices(self, key: str, name: str, rank: int, inside: Sequence[_Placed]) -> None:
        """Write a lane: slices in order of time, of which none overlaps another."""
        track = self._track(key, name, rank)
        for placed in inside:
            event = self._event(track, self._kinds.TYPE_SLICE_BEGIN, placed.slice.begin)
            event.name = placed.slice.name
            for detail, value in placed.frame.details.items():
                event.debug_annotations.add(name=detail, string_value=value)
            if placed.flow:
                flows = event.terminating_flow_ids if placed.flow_ends else event.flow_ids
                flows.append(placed.flow)
            self._event(track, self._kinds.TYPE_SLICE_END, placed.slice.end)

    def counter(self, rank: int, flight: InFlight) -> None:
        """Write the numbers of frames in flight."""
        track = self._track("in flight", flight.name, rank)
        track.counter.unit_name = "frames"
        for at, count in zip(flight.at_ns.tolist(), flight.counts.tolist(), strict=True):
            self._event(track, self._kinds.TYPE_COUNTER, at).counter_value = count
