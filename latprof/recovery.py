"""The frames of a ring file as a trace: what a process recorded, whether it is alive or dead.

The file is only read, and only whole rows become frames.
"""

import os
import time
from bisect import bisect_left
from typing import Any

import numpy as np
import numpy.typing as npt

from latprof.accounts import InFlight
from latprof.frames import NO_SIZE
from latprof.ring.reader import RingReader
from latprof.ring.ring import to_columns
from latprof.ring.scan import Scan
from latprof.trace import Trace

__all__ = ["frames_in_flight", "recover", "recovered"]


def recover(path: str | os.PathLike[str]) -> Trace:
    """Return the frames in a ring file, in the order in which they were committed.

    Parameters
    ----------
    path
        The path that ``Profiler(ring=...)`` was given, in this process or another one, alive or
        dead.

    Returns
    -------
    Trace
        The trace that `Profiler.trace` would return. Its ``in_flight`` has the frames that had
        begun and were not finished; ``recovery`` says how many rows were whole, torn and never
        written; ``meta["lost"]`` how many frames were overwritten; and ``meta["accounts"]`` how
        many are torn, rejected or in flight. If a living process is in the middle of writing a
        row, the row is waited for up to 50 ms, and then counted as being written.

    Raises
    ------
    TraceError
        The file cannot be read, is not a ring file, has another format, or has an invalid header.

    Examples
    --------
    >>> import tempfile
    >>> from latprof import Pipeline, Profiler, recover
    >>> path = tempfile.mkdtemp() + "/mic.ring"
    >>> with Profiler(Pipeline.chain("mic", "decode"), capacity=4, ring=path) as profiler:
    ...     profiler.frame(7).finish()
    >>> trace = recover(path)
    >>> trace.frame_id, trace.in_flight, str(trace.recovery)
    (array([7], dtype=uint64), (), '1 row whole, 0 torn, 3 never written')
    """
    with RingReader(path) as reader:
        return recovered(reader)


def recovered(reader: RingReader) -> Trace:
    """Return the frames in an open ring file, see `recover`."""
    scan = reader.scan()
    columns = to_columns(scan.rows, reader, reader.offset_ns)
    return Trace.of(reader.pipeline, columns, _metadata(reader, scan))


def _metadata(reader: RingReader, scan: Scan) -> dict[str, Any]:
    # thresholds are for a program that watches the ring: `Profiler.trace` does not have them
    meta = {key: value for key, value in reader.metadata.items() if key != "thresholds"}
    clocks = sorted(reader.starts + reader.stops)
    meta["anchors"] = [*(meta.get("anchors") or []), *map(list, clocks)]
    if reader.starts:
        meta["segments"] = _segments(reader, scan)
    # torn frames are counted once, in the accounts, as `Profiler.trace` does
    meta["lost"] = scan.lost - scan.torn_lost
    accounts = {
        "torn": scan.torn - scan.torn_in_flight,
        "in_flight": scan.in_flight,
        "rejected": scan.rejected,
        "notes": {"invalid slots of frames in flight": scan.refused_flights}
        if scan.refused_flights
        else {},
    }
    if any(accounts.values()):
        meta["accounts"] = {name: n for name, n in accounts.items() if n}
    counts = ["torn", "never_written", "refused", "cut_off"]
    counts += ["being_written"] if scan.being_written else []
    meta["recovery"] = {"whole": len(scan.rows)} | {name: getattr(scan, name) for name in counts}
    if scan.rejected:
        meta["recovery"]["rejected"] = sum(scan.rejected.values())
    if len(scan.flights):
        meta["in_flight"] = [frame.to_dict() for frame in frames_in_flight(reader, scan)]
    return meta


def frames_in_flight(reader: RingReader, scan: Scan) -> list[InFlight]:
    """Return the frames in flight that a scan has found, the oldest first."""
    rows = scan.flights
    if not len(rows):
        return []
    until = reader.last_sign_ns((scan.rows, rows))
    if reader.recording():
        until = max(until, time.time_ns() - reader.offset_ns)
    marks = reader.pipeline.marks
    stamps = np.stack([rows[mark] for mark in marks], axis=1)
    stages = _stages_of(reader, stamps)
    first = np.where(stamps > 0, stamps, np.iinfo(np.int64).max).min(axis=1)
    names = reader.sources.labels(rows["source"]).to_numpy().tolist()
    tags = {
        tag: table.labels_used(rows[f"tag {k}"]).to_numpy().tolist()
        for k, (tag, table) in enumerate(zip(reader.tag_names, reader.tags, strict=True))
    }
    return [
        InFlight(
            frame_id=int(rows["frame_id"][i]),
            source=names[i],
            size=None if rows["size"][i] == NO_SIZE else int(rows["size"][i]),
            tags={tag: values[i] for tag, values in tags.items() if values[i] is not None},
            marks={
                mark: at + reader.offset_ns
                for mark, at in zip(marks, stamps[i].tolist(), strict=True)
                if at
            },
            stage=stages[i],
            thread=int(rows["rss"][i]),
            until_ns=until + reader.offset_ns,
        )
        for i in np.argsort(first, kind="stable").tolist()
    ]


def _stages_of(reader: RingReader, stamps: npt.NDArray[np.int64]) -> list[str | None]:
    """Return the stage that each of n frames is in, from their (n, marks) stamps.

    It is the last stage that has begun and ends after the last mark that was set::

        marks   start  a  b  end        stages  x: start..a, y: a..end, z: b..end
        set       *    *                in stage y
        set       *       *             in stage z; a was left out, but x is over
    """
    place = {mark: k for k, mark in enumerate(reader.pipeline.marks)}
    count = stamps.shape[1]
    last = count - 1 - np.argmax(stamps[:, ::-1], axis=1)  # of equal stamps the later mark
    found = np.full(len(stamps), -1)
    latest = np.full(len(stamps), -1)
    for k, stage in enumerate(reader.pipeline.stages):
        begin, end = place[stage.begin], place[stage.end]
        inside = (stamps[:, begin] > 0) & (begin <= last) & (last < end) & (begin > latest)
        found[inside], latest[inside] = k, begin
    names = [stage.name for stage in reader.pipeline.stages]
    return [names[k] if k >= 0 else None for k in found.tolist()]


def _segments(reader: RingReader, scan: Scan) -> list[list[int]]:
    """Return when the process recorded, UTC ns; a dead process did so until its last sign."""
    last = reader.last_sign_ns((scan.rows, scan.flights))
    starts = sorted(now for now, _ in reader.starts)
    stops = sorted(now for now, _ in reader.stops)
    segments = []
    for i, begin in enumerate(starts):
        is_last = i + 1 == len(starts)
        # up to the first stop, but not beyond the next start
        limit = max(begin, last) if is_last else starts[i + 1]
        stop = bisect_left(stops, begin)
        end = stops[stop] if stop < len(stops) else limit
        end = end if is_last else min(end, limit)
        segments.append([begin + reader.offset_ns, end + reader.offset_ns])
    return segments
