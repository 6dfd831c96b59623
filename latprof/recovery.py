"""The frames of a ring file as a trace: what a process recorded, whether it is alive or dead.

The file is only read, and only whole rows become frames.
"""

import os
from bisect import bisect_left
from typing import Any

from latprof.ring.reader import RingReader, Scan
from latprof.ring.ring import to_columns
from latprof.trace import Trace

__all__ = ["recover"]


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
        The trace that `Profiler.trace` would return. Its ``recovery`` says how many rows were
        whole, torn and never written; ``meta["lost"]`` how many frames were overwritten; and
        ``meta["accounts"]`` how many are torn or in flight. If a living process is in the
        middle of writing a row, the row is waited for up to 50 ms, and then counted as being
        written.

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
    >>> trace.frame_id, str(trace.recovery)
    (array([7], dtype=uint64), '1 row whole, 0 torn, 3 never written')
    """
    with RingReader(path) as reader:
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
    accounts = {"torn": scan.torn, "in_flight": scan.in_flight}
    if any(accounts.values()):
        meta["accounts"] = {name: n for name, n in accounts.items() if n}
    counts = ["torn", "never_written", "refused", "cut_off"]
    counts += ["being_written"] if scan.being_written else []
    meta["recovery"] = {"whole": len(scan.rows)} | {name: getattr(scan, name) for name in counts}
    return meta


def _segments(reader: RingReader, scan: Scan) -> list[list[int]]:
    """Return when the process recorded, UTC ns; a dead process did so until its last stamp."""
    stamps = [scan.rows[mark] for mark in reader.pipeline.marks]
    last = max((int(column.max(initial=0)) for column in stamps), default=0)
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
