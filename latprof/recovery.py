"""The frames of a ring file -> a trace: what a process has recorded before it died.

Reads without writing, also while the process lives. Only rows that are whole become frames.
"""

import os
from dataclasses import asdict
from typing import Any

from latprof.accounts import Recovery
from latprof.ring.reader import RingReader, Seen
from latprof.ring.ring import to_columns
from latprof.trace import Trace

__all__ = ["recover"]


def recover(path: str | os.PathLike[str]) -> Trace:
    """Return the frames that a ring file holds, in the order they were committed.

    Parameters
    ----------
    path
        What ``Profiler(ring=...)`` was given, in this process or another, dead or alive.

    Returns
    -------
    Trace
        As `Profiler.trace` gives it; ``.recovery`` tells how many rows were whole, torn and
        never written, ``meta["lost"]`` how many frames were overwritten, and
        ``meta["accounts"]`` how many are torn. Rows that a living process is writing just now
        are neither: they are awaited for a moment, then counted as being written.

    Raises
    ------
    TraceError
        The file cannot be read, is no ring, is of a newer format, or its header is damaged.

    Examples
    --------
    >>> import tempfile
    >>> from latprof.pipeline import Pipeline
    >>> from latprof.ring.ring import Ring
    >>> path = os.path.join(tempfile.mkdtemp(), "mic.ring")
    >>> ring = Ring(Pipeline.chain("mic", "decode"), 4, path)
    >>> ring.write(ring.claim(), 7, (100, 150, 180))
    >>> trace = recover(path)
    >>> trace.frame_id, str(trace.recovery)
    (array([7], dtype=uint64), '1 row whole, 0 torn, 3 never written')
    """
    with RingReader(path) as reader:
        seen = reader.look()
        columns = to_columns(seen.rows, reader, reader.offset_ns)
        return Trace.of(reader.pipeline, columns, _meta(reader, seen))


def _meta(reader: RingReader, seen: Seen) -> dict[str, Any]:
    # thresholds are for who watches the ring: `Profiler.trace` does not have them
    meta = {key: value for key, value in reader.facts.items() if key != "thresholds"}
    meta["anchors"] = [
        *meta.get("anchors", []),
        *([*pair] for pair in sorted(reader.starts + reader.stops)),
    ]
    segments = _segments(reader, seen)
    if segments:
        meta["segments"] = segments
    # torn frames are told once, by the accounts, as `Profiler.trace` does
    meta["lost"] = seen.lost - seen.torn_before
    accounts = {"torn": seen.torn, "in_flight": seen.in_flight}
    if any(accounts.values()):
        meta["accounts"] = {name: n for name, n in accounts.items() if n}
    recovery = asdict(
        Recovery(
            len(seen.rows),
            seen.torn,
            seen.never_written,
            seen.refused,
            seen.cut_off,
            seen.being_written,
        )
    )
    if not seen.being_written:
        del recovery["being_written"]
    meta["recovery"] = recovery
    return meta


def _segments(reader: RingReader, seen: Seen) -> list[list[int]]:
    """Return when was recorded, UTC ns; who died recorded until the last stamp there is."""
    stamps = [seen.rows[mark] for mark in reader.pipeline.marks]
    last = max((int(column.max(initial=0)) for column in stamps), default=0)
    starts = sorted(now for now, _ in reader.starts)
    stops = sorted(now for now, _ in reader.stops)
    segments = []
    for i, begin in enumerate(starts):
        # the stop before the next start, or what else is known: that there was a next start
        limit = starts[i + 1] if i + 1 < len(starts) else max(begin, last)
        stop = min((stop for stop in stops if stop >= begin), default=limit)
        end = stop if i + 1 == len(starts) else min(stop, limit)
        segments.append([begin + reader.offset_ns, end + reader.offset_ns])
    return segments
