"""The stamping functions, which run in the profiled program for each mark and each frame.

A frame in flight is a list that holds the arguments of one `struct.pack_into`, in the order of the
row. A mark is one assignment to this list, and finishing a frame is that one call. No lock is
taken unless a call is wrong or a frame is slow.

Except for `shown`, the functions of this module are templates: each profiler runs copies of them
(`HotPath`) with its own values of the names declared below. Global names are the fastest way in
CPython to reach a value that is not an argument: free variables are copied at every call, and
attributes are looked up.
"""

import operator
from collections.abc import Callable, Sequence
from typing import Any

from latprof.errors import PipelineError
from latprof.frames import NO_SIZE
from latprof.recorder.alerts import Alerts, Tally
from latprof.recorder.backpressure import FreeSlots
from latprof.recorder.frame import NO_FRAME, Frame
from latprof.recorder.sampling import RUN_BITS, fnv1a, run_hash
from latprof.ring.ring import Ring
from latprof.text import quoted
from latprof.units import STAMP_LIMIT

__all__ = [
    "BAD_FRAME_ID",
    "BAD_ROW",
    "BAD_SIZE",
    "BAD_STAMP",
    "ID_AT",
    "LATE",
    "MARKS_AT",
    "LiveFrame",
    "frame",
    "record",
    "sampled_frame",
    "shown",
]

# why a frame is rejected, as the accounts and the log say it
BAD_FRAME_ID = "frame id must be an integer from 0 to 2**64 - 1"
BAD_SIZE = "size must be an integer from 0 to 2**32 - 1"
BAD_STAMP = "stamp must be an integer from 0 to 2**62 - 1"
BAD_ROW = "the clock must return a stamp"
LATE = "finished after stop"

KNOWN_RUNS = 4_096
"""Number of sampling decisions that are kept."""

ID_AT = 3
MARKS_AT = 4
"""Index of the first mark in a row: [buffer, offset, begin, frame_id, marks ..., rss, ...]."""

# -- values that each profiler has of its own ------------------------------------------------------

is_open: bool
"""Whether frames are recorded."""
detour: bool
"""Whether finishing a frame takes more than the fast path."""
ring: Ring
clock: Callable[[], int]
alerts: Alerts
free_slots: FreeSlots | None
owned: tuple[str, ...]
marks: tuple[str, ...]
mark_count: int
foreign: tuple[int, ...] | None
"""Positions of the marks that other processes own, or None if there are none."""
index: dict[str, int]
"""Positions of the owned marks in a row."""
owns_start: bool
owns_end: bool
start_at: int
end_at: int
size_at: int
labels_at: int
seq_at: int
watched: list[tuple[str, int, int, int]]
"""Spans with a threshold: name, positions of begin and end in a row, threshold in ns."""
stages_watched: bool
limit: int | None
"""The threshold of end_to_end in ns."""
rss: int
cpu_word: int
"""The last CPU sample as it is stored in a row."""
copy_blank: Callable[[], list[Any]]
"""Returns the row of a new frame. Marks that are not set are False, which CPython tests faster than
0 and stores as 0."""
spent: list[Any]
"""The row of all finished frames; every mark in it is set."""
count_started: Callable[[], int]
count_skipped: Callable[[], int]
draw: Callable[[], int]
"""Returns the sequence number of the next row."""
pack: Callable[..., None]
buffer: Any
capacity: int
width: int
"""Bytes of a row."""
source_codes: dict[str | None, int]
samples: bool
"""Whether only a part of the frames is recorded."""
sampled_below: int
runs: dict[tuple[str | None, int], bool]
latest: dict[str | None, tuple[int, bool]]
"""The last decision for each source; a look-up here takes half the time of one in `runs`."""
rejected: Tally
voided: Tally
voids: set[int]
dropped: Tally

# -- the fast path --------------------------------------------------------------------------------


class LiveFrame(Frame):
    """A frame that is recorded."""

    __slots__ = ()

    def mark(self, name: str, at: int | None = None) -> None:
        """Stamp a mark with the current time, or with a stamp taken elsewhere: `Frame.mark`."""
        row = self._row
        try:
            i = index[name]
        except (KeyError, TypeError):
            raise _no_such_mark(name) from None
        if at is not None or row[i]:
            _mark_again(row, i, name, at)
        else:
            row[i] = clock()

    def finish(self, at: int | None = None) -> None:
        """Stamp ``end`` and commit the frame: `Frame.finish`."""
        row = self._row
        if at is not None or row[end_at] or detour:
            _close(self, at, None)
            return
        # first of all: another caller of finish then finds the frame finished
        self._row = spent
        row[end_at] = clock()
        # the same as _commit(row), without a call
        row[2] = row[seq_at] = ticket = draw()
        row[1] = (ticket - 1) % capacity * width
        try:
            pack(*row)
        except Exception:
            _void(ticket, row)
            return
        if limit is not None and row[end_at] - row[start_at] > limit:
            _check_limits(row)

    def drop(self, reason: str, at: int | None = None) -> None:
        """Commit a frame that was given up, with a reason: `Frame.drop`."""
        _close(self, at, _outcome_name(reason))

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._row is spent:  # finished or dropped inside the block
            return
        if kind is None:
            self.finish()
        else:
            _close(self, None, _outcome_name(kind.__name__))


# `start` is positional: CPython does not specialize calls with keyword-only arguments
def frame(
    profiler: object,
    frame_id: int,
    size: int | None = None,
    source: str | None = None,
    start: int | None = None,
) -> Frame:
    """Begin a frame: `Profiler.frame`."""
    if not is_open:
        return NO_FRAME
    if start is not None or not owns_start:
        return _frame_started_elsewhere(frame_id, size, source, start)
    row = copy_blank()
    row[3] = frame_id
    if size is not None:
        row[size_at] = size
    try:
        row[labels_at] = source_codes[source]
    except (KeyError, TypeError):
        row[labels_at] = _source_code(source)
    count_started()
    new = LiveFrame()
    new._row = row
    row[start_at] = clock()
    return new


def sampled_frame(
    profiler: object,
    frame_id: int,
    size: int | None = None,
    source: str | None = None,
    start: int | None = None,
) -> Frame:
    """Begin a frame if its run of ids is sampled: `Profiler.frame`."""
    if not is_open:
        return NO_FRAME
    try:
        run, sampled = latest[source]
        if run != frame_id >> RUN_BITS:
            sampled = _is_sampled(frame_id, source)
    except (KeyError, TypeError):
        sampled = _is_sampled(frame_id, source)
    if not sampled:
        count_skipped()
        return NO_FRAME
    return frame(profiler, frame_id, size, source, start)


def record(
    profiler: object,
    frame_id: int,
    stamps: Sequence[int],
    size: int | None = None,
    source: str | None = None,
) -> None:
    """Record a frame from its stamps: `Profiler.record`."""
    try:
        if len(stamps) != mark_count:
            raise _wrong_length(len(stamps))
    except TypeError:
        raise _wrong_length(quoted(stamps)) from None
    if not is_open:
        return
    if type(stamps) is not tuple:
        stamps = _as_tuple(stamps)
    if samples and not _is_sampled(frame_id, source):
        count_skipped()
        return
    if foreign is not None:
        _check_foreign(foreign, stamps)
    if size is None:
        size = NO_SIZE
    try:
        label = source_codes[source]
    except (KeyError, TypeError):
        label = _source_code(source)
    count_started()
    if free_slots is not None and not free_slots.acquire():
        return
    ticket = draw()
    try:
        # one call: begin first, seq last; joining tuples is faster than unpacking them
        head: Any = (buffer, (ticket - 1) % capacity * width, ticket, frame_id)
        pack(*(head + stamps + (rss, size, label, cpu_word, ticket)))
    except Exception:
        _void(ticket, [0, 0, 0, frame_id, *stamps, 0, size])
        return
    if stages_watched or (limit is not None and stamps[-1] - stamps[start_at - MARKS_AT] > limit):
        _check_limits([0, 0, 0, frame_id, *stamps, 0, 0, label])


# -- beside the fast path -------------------------------------------------------------------------


def _frame_started_elsewhere(
    frame_id: int, size: int | None, source: str | None, start: int | None
) -> Frame:
    """Begin a frame with a given ``start``, or with one that another process owns."""
    if start is not None and not owns_start:
        raise _no_such_mark("start")
    row = copy_blank()
    row[ID_AT] = frame_id
    if size is not None:
        row[size_at] = size
    row[labels_at] = _source_code(source)
    if start is not None:
        row[start_at] = start if type(start) is int else _plain(start)
    count_started()
    new = LiveFrame()
    new._row = row
    return new


def _commit(row: list[Any]) -> bool:
    """Write a row to the ring; return False if it could not be stored."""
    if free_slots is not None and not free_slots.acquire():
        return True  # the frame is counted as lost
    row[2] = row[seq_at] = ticket = draw()
    row[1] = (ticket - 1) % capacity * width
    try:
        pack(*row)
    except Exception:
        _void(ticket, row)
        return False
    if watched:
        _check_limits(row)
    return True


def _close(frame: Frame, at: int | None, outcome: str | None) -> None:
    """Finish or drop a frame."""
    row = frame._row
    call = "finish" if outcome is None else "drop"
    if row is spent:
        alerts.problem(f"{call} after finish", "the frame is committed already")
        return
    if at is not None and not owns_end:
        raise _no_such_mark("end")
    frame._row = spent
    if at is not None:
        _mark_again(row, end_at, "end", at)
    elif owns_end and not row[end_at]:
        row[end_at] = clock()
    if not is_open:
        rejected.add(LATE)
        return
    if outcome is None:
        _commit(row)
        return
    code = ring.outcomes.code(outcome)
    row[labels_at] |= code << 16
    if _commit(row):
        dropped.add(str(ring.outcomes.table[code]))


def _mark_again(row: list[Any], i: int, name: str, at: int | None) -> None:
    """Set a mark from a given stamp; note a mark that was set before or comes after finish."""
    if row is spent:
        alerts.problem("mark after finish", f"mark {name!r} of a committed frame is ignored")
    elif row[i]:
        alerts.problem("mark set twice", f"mark {name!r} keeps its first stamp")
    else:
        row[i] = at if type(at) is int else _plain(at)


def _plain(stamp: Any) -> Any:
    """Return a stamp as an int; subtracting narrower integers in `finish` could overflow."""
    try:
        return operator.index(stamp)
    except Exception:
        return stamp  # packing rejects it


def _no_such_mark(name: object) -> PipelineError:
    """Return the error for a mark that does not exist or is owned by another process."""
    if isinstance(name, str) and name in marks:
        alerts.notes.add("mark not owned")
        return PipelineError(
            f"mark {name!r} is not owned by this process (owns={owned!r}); record it in the "
            "process that owns it"
        )
    alerts.notes.add("unknown mark")
    return PipelineError(
        f"mark must be a mark of pipeline {ring.pipeline.name!r}, got {quoted(name)}; use "
        f"{', '.join(owned)}"
    )


def _wrong_length(given: object) -> PipelineError:
    """Return the error for too few or too many stamps."""
    return PipelineError(
        f"stamps must have one value for each of the {mark_count} marks of pipeline "
        f"{ring.pipeline.name!r}, got {given}; give {', '.join(marks)}, 0 if missing"
    )


def _as_tuple(stamps: Any) -> tuple[Any, ...]:
    """Return stamps as a tuple of Python integers."""
    return tuple(stamps.tolist() if hasattr(stamps, "tolist") else stamps)


def _check_foreign(foreign: Sequence[int], stamps: Sequence[int]) -> None:
    """Refuse stamps of marks that other processes own."""
    for i in foreign:
        if stamps[i]:
            raise _no_such_mark(marks[i])


def _source_code(source: object) -> int:
    """Return the code of a source that is new or is not a string."""
    return ring.sources.code(None if source is None else _text(source))


def _is_sampled(frame_id: int, source: str | None) -> bool:
    """Return whether the frame is in a run of ids that is sampled."""
    try:
        run = operator.index(frame_id) >> RUN_BITS
    except Exception:
        return True  # the frame is rejected later
    if not 0 <= run < 2 ** (64 - RUN_BITS):
        return True
    name = None if source is None else _text(source)
    sampled = runs.get((name, run))
    if sampled is None:
        sampled = run_hash(run, fnv1a(name)) < sampled_below
        if len(runs) >= KNOWN_RUNS:
            runs.clear()
        runs[name, run] = sampled
    if len(latest) >= KNOWN_RUNS:
        latest.clear()
    latest[name] = run, sampled
    return sampled


def _void(ticket: int, row: list[Any]) -> None:
    """Count a frame that could not be stored, by the value that is the reason."""
    voids.add(ticket)
    frame_id, stamps, size = row[ID_AT], row[MARKS_AT : MARKS_AT + mark_count], row[size_at]
    if not _fits(frame_id, 2**64):
        reason = BAD_FRAME_ID
    elif not _fits(size, NO_SIZE + 1):
        reason = BAD_SIZE
    elif not all(_fits(stamp, STAMP_LIMIT) for stamp in stamps):
        reason = BAD_STAMP
    else:
        reason = BAD_ROW
    voided.add(reason)
    alerts.rejected(reason, shown(frame_id))


def _check_limits(row: list[Any]) -> None:
    """Count and log each span of a frame that took longer than its threshold."""
    for name, begin_at, last_at, at_most in watched:
        start, end = row[begin_at], row[last_at]
        if not (_fits(start, STAMP_LIMIT) and _fits(end, STAMP_LIMIT) and start and end):
            continue  # missing, or rejected when the row is folded
        latency_ns = operator.index(end) - operator.index(start)
        if latency_ns > at_most:
            label = operator.index(row[labels_at]) & 0xFFFF
            source = ring.sources.table[label]
            alerts.slow(operator.index(row[ID_AT]), source, latency_ns, name)


def _outcome_name(reason: object) -> str:
    """Return the outcome of a drop: its reason, changed if it reads "finished" or is empty."""
    name = _text(reason)
    return f"dropped: {name}" if name in ("", "finished") else name


def shown(frame_id: object) -> str:
    """Return the id of a rejected frame as text of at most 60 characters."""
    text = f"frame {_text(frame_id)}" if _fits(frame_id, 2**64) else f"frame {_text(frame_id)!r}"
    return text if len(text) <= 60 else f"{text[:57]}..."


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    try:
        return str(value)
    except Exception:
        return f"<{type(value).__name__}>"


def _fits(value: Any, limit: int) -> bool:
    try:
        return 0 <= operator.index(value) < limit
    except Exception:
        return False
