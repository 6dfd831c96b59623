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
from latprof.frames import FINISHED, MISSING, NO_SIZE, as_text, latencies
from latprof.ring.reader import RingReader
from latprof.ring.ring import to_columns
from latprof.ring.scan import Scan
from latprof.table import Cell, Column, Section, Table
from latprof.text import counted
from latprof.thresholds import LEVELS, Thresholds
from latprof.trace import Trace
from latprof.units import format_exact, format_utc

__all__ = ["frames_in_flight", "last_moments", "recover", "recovered", "thresholds_of"]

LAST = 10  # frames and violations that `last_moments` shows


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
    """Return the metadata of the trace that a scan of the ring gives."""
    # only programs that watch the ring need the thresholds; `Profiler.trace` leaves them out, too
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


def thresholds_of(metadata: dict[str, Any]) -> Thresholds | None:
    """Return the thresholds in the metadata of a ring, or None if there are none."""
    given = metadata.get("thresholds")
    if given is None:
        return None
    return Thresholds.from_spans(*(given.get(level) or {} for level in LEVELS))


def last_moments(path: str | os.PathLike[str]) -> list[Section]:
    """Return how a recording ended: frames in flight, the last frames, the last violations.

    Parameters
    ----------
    path
        A ring file; its process may be alive or dead.

    Returns
    -------
    list of Section
        The state of the process, the frames in flight, the last ten frames of the ring, and the
        last ten frames that took longer than a threshold of the profiler.

    Raises
    ------
    TraceError
        As `recover`.
    """
    with RingReader(path) as reader:
        trace = recovered(reader)
        return [
            _state(reader, trace),
            _flights_section(reader, trace),
            _frames_section(trace),
            _violations_section(trace, thresholds_of(reader.metadata) or Thresholds()),
        ]


def _state(reader: RingReader, trace: Trace) -> Section:
    """Return the state of the process, and the counts of the ring's rows."""
    pid, host = reader.metadata.get("pid"), reader.metadata.get("host")
    who = f"process {pid}" if pid else "the process"
    who += f" on {host}" if host else ""
    last = reader.last_sign_ns(()) + reader.offset_ns
    if not reader.starts:
        what = f"{who} has not started to record"
    elif reader.stopped:
        what = f"{who} stopped recording at {format_utc(last)}"
    elif reader.recording():
        what = f"{who} is recording"
    else:
        last = max(last, *(end for _, end in trace.meta["segments"]))
        what = f"{who} ended without stopping; its last sign of life was at {format_utc(last)}"
    lost = trace.meta["lost"]
    more = f"; {counted(lost, 'frame')} overwritten, or claimed and never begun" if lost else ""
    return Section(f"{trace.pipeline.name}: {what}", (f"{trace.recovery}{more}",), key="state")


def _flights_section(reader: RingReader, trace: Trace) -> Section:
    """Return the frames in flight, and whether there may be more."""
    frames = trace.in_flight
    title = f"In flight: {counted(len(frames), 'frame')}"
    lines: list[str] = []
    if len(frames) == reader.slots:
        lines.append(f"all {reader.slots:,} slots are in use: other frames in flight are not known")
    if not frames:
        return Section(title, tuple(lines), key="in_flight")
    tags = [tag for tag in reader.tag_names if any(tag in frame.tags for frame in frames)]
    columns = (
        *(Column("frame_id", "name"), Column("in flight", "time")),
        *(Column("stage", "span"), Column("in stage", "time"), Column("source", "name")),
        *(Column(tag, "name") for tag in tags),
        *(Column("size", "count", spare=2), Column("thread", "name", spare=1)),
    )
    rows = [
        (
            *(str(frame.frame_id), frame.age_ns, frame.where, frame.stage_ns, frame.source),
            *(frame.tags.get(tag) for tag in tags),
            *(frame.size, str(frame.thread) if frame.thread else None),
        )
        for frame in frames
    ]
    return Section(title, tuple(lines), Table(columns, rows), key="in_flight")


def _frames_section(trace: Trace) -> Section:
    """Return the frames that were committed last."""
    if not len(trace):
        return Section("Last frames: none", key="frames")
    last = trace.columns.take(slice(-LAST, None))
    columns: list[Column] = [Column("end", "moment"), Column("frame_id", "name")]
    ends = [None if ns == MISSING else ns for ns in last.marks["end"].tolist()]
    values: list[list[Any]] = [ends, [str(n) for n in last.frame_id.tolist()]]
    for name, labels in (("source", last.source), ("outcome", last.outcome), *last.tags.items()):
        names = [] if labels is None else as_text(labels).to_numpy().tolist()
        if any(each not in (None, FINISHED) for each in names):
            columns.append(Column(name, "name"))
            values.append(names)
    spans = [stage.name for stage in trace.pipeline.stages]
    for name in ("end_to_end", *spans, "other"):
        if name in trace.pipeline.span_names:
            columns.append(Column(name, "time", spare=0 if name == "end_to_end" else 2))
            lengths = latencies(trace.pipeline, last, name).tolist()
            values.append([None if ns == MISSING else ns for ns in lengths])
    rows = list(zip(*values, strict=True))
    title = f"Last {counted(len(rows), 'frame')} of {len(trace):,}"
    return Section(title, (), Table(tuple(columns), rows), key="frames")


def _violations_section(trace: Trace, limits: Thresholds) -> Section:
    """Return the last frames that took longer than a threshold."""
    found: list[tuple[int, str, int, int, str]] = []  # row, span, length, limit, level
    by_level = {level: limits.by_span(level) for level in LEVELS}
    for span in dict.fromkeys(span for spans in by_level.values() for span in spans):
        if span not in trace.pipeline.span_names:
            continue
        lengths = latencies(trace.pipeline, trace.columns, span)
        least = min(spans[span] for spans in by_level.values() if span in spans)
        for row in np.flatnonzero(lengths > least)[-LAST:].tolist():
            took = int(lengths[row])
            level = max(
                (level for level in LEVELS if took > by_level[level].get(span, took)),
                key=LEVELS.index,
            )
            found.append((row, span, took, by_level[level][span], level))
    if not found:
        known = "none" if any(by_level.values()) else "the profiler had no thresholds"
        return Section(f"Last violations: {known}", key="violations")
    found = sorted(found, key=lambda each: each[0])[-LAST:]
    last = trace.columns.take(np.array([row for row, *_ in found]))
    sources = [None] * len(last) if last.source is None else last.source.to_numpy().tolist()
    rows = [
        (
            None if end == MISSING else end,
            str(frame_id),
            source,
            span,
            Cell(took, level),
            f"{level} above {format_exact(limit)}",
        )
        for (_, span, took, limit, level), end, frame_id, source in zip(
            found, last.marks["end"].tolist(), last.frame_id.tolist(), sources, strict=True
        )
    ]
    columns = (
        *(Column("end", "moment"), Column("frame_id", "name"), Column("source", "name")),
        *(Column("span", "span"), Column("took", "time"), Column("threshold")),
    )
    return Section(
        f"Last {counted(len(rows), 'violation')}", (), Table(columns, rows), "violations"
    )


def _segments(reader: RingReader, scan: Scan) -> list[list[int]]:
    """Return when the process recorded, UTC ns; a dead process until its last sign of life."""
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
