"""The hot path: what runs in the profiled program, once a mark and once a frame.

A frame in flight is a list that holds the arguments of one `struct.pack_into`, in the order of the
row; a mark is one assignment into it, and finishing is that one call. Nothing here takes a lock,
unless something is wrong or slow.

Nobody calls these functions, `shown` aside: each profiler has copies of them (`HotPath`), in which
the names below are its own. A name of the module is the quickest that CPython has for what a
function does not get as an argument: free variables are copied at every call, attributes are
looked up.
"""

import operator
from collections.abc import Callable, Sequence
from typing import Any

from latprof.errors import PipelineError
from latprof.frames import NO_SIZE, STAMP_LIMIT
from latprof.recorder.alerts import Alerts, Tally
from latprof.recorder.backpressure import Room
from latprof.recorder.frame import NO_FRAME, Frame
from latprof.recorder.sampling import RUN_BITS, fnv1a, run_hash
from latprof.ring.ring import Ring
from latprof.text import escape

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

BAD_FRAME_ID = "frame id is no integer from 0 to 2**64 - 1"
BAD_SIZE = "size is no integer from 0 to 2**32 - 1"
BAD_STAMP = "stamp is no integer from 0 to 2**62 - 1"
BAD_ROW = "clock gave no stamp"
LATE = "finished after stop"

KNOWN_RUNS = 4_096
"""How many sampling decisions are remembered."""

ID_AT = 3
MARKS_AT = 4
"""Where a row's marks begin: [buffer, offset, begin, frame_id, marks ..., rss, size, ...]."""

# -- what differs from profiler to profiler -------------------------------------------------------

is_open: bool
"""Whether frames are recorded."""
detour: bool
"""Whether finishing needs more than the short way."""
ring: Ring
clock: Callable[[], int]
alerts: Alerts
room: Room | None
owned: tuple[str, ...]
marks: tuple[str, ...]
mark_count: int
foreign: tuple[int, ...] | None
"""Which of the marks are another process's, if any."""
index: dict[str, int]
"""Where the owned marks are in a row."""
owns_start: bool
owns_end: bool
start_at: int
end_at: int
size_at: int
labels_at: int
seq_at: int
watched: list[tuple[str, int, int, int]]
"""Spans with a threshold: where they begin and end in a row, and what they may take, ns."""
stages_watched: bool
limit: int | None
"""What end_to_end may take, ns."""
rss: int
cpu_word: int
"""The last sample, as a row has it."""
copy_blank: Callable[[], list[Any]]
"""Makes the row of a new frame, in which no mark is set: each is False, which is told from what is
true more quickly than 0 is, and stored as 0."""
spent: list[Any]
"""The row of all frames that are done: every mark is set."""
count_started: Callable[[], int]
count_skipped: Callable[[], int]
draw: Callable[[], int]
"""Draws the ticket of the next row."""
pack: Callable[..., None]
buffer: Any
ring_bytes: int
"""Bytes of all rows."""
source_codes: dict[str | None, int]
samples: bool
"""Whether frames are left out."""
sampled_below: int
runs: dict[tuple[str | None, int], bool]
latest: dict[str | None, tuple[int, bool]]
"""Of each source the decision that was needed last: half the look-up's time."""
rejected: Tally
voided: Tally
voids: set[int]
dropped: Tally

# -- the short way --------------------------------------------------------------------------------


class LiveFrame(Frame):
    """A frame that is recorded."""

    __slots__ = ()

    def mark(self, name: str, at: int | None = None) -> None:
        """Stamp a mark with now, or with a stamp taken elsewhere, ns: `Frame.mark`."""
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
        # before anything is called: whoever finishes it, too, then finds it done
        self._row = spent
        row[end_at] = clock()
        # the same as _commit(row), without the call
        row[2] = row[seq_at] = ticket = draw()
        row[1] = ticket % ring_bytes
        try:
            pack(*row)
        except Exception:
            _void(ticket, row)
            return
        if limit is not None and row[end_at] - row[start_at] > limit:
            _check_limits(row)

    def drop(self, reason: str, at: int | None = None) -> None:
        """Commit the frame as given up, with a reason: `Frame.drop`."""
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
    """Begin a frame, if its run is sampled."""
    if not is_open:
        return NO_FRAME
    try:
        run, taken = latest[source]
        if run != frame_id >> RUN_BITS:
            taken = _takes(frame_id, source)
    except (KeyError, TypeError):
        taken = _takes(frame_id, source)
    if not taken:
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
    """Record a frame whose stamps are known: `Profiler.record`."""
    if len(stamps) != mark_count:
        raise _wrong_length(stamps)
    if not is_open:
        return
    if type(stamps) is not tuple:
        stamps = _as_tuple(stamps)
    if samples and not _takes(frame_id, source):
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
    if room is not None and not room.take():
        return
    ticket = draw()
    try:
        # one call: begin first, seq last; tuples are joined quicker than unpacked
        head: Any = (buffer, ticket % ring_bytes, ticket, frame_id)
        pack(*(head + stamps + (rss, size, label, cpu_word, ticket)))
    except Exception:
        _void(ticket, [0, 0, 0, frame_id, *stamps, 0, size])
        return
    if stages_watched or (limit is not None and stamps[-1] - stamps[start_at - MARKS_AT] > limit):
        _check_limits([0, 0, 0, frame_id, *stamps, 0, 0, label])


# -- off the short way ----------------------------------------------------------------------------


def _frame_started_elsewhere(
    frame_id: int, size: int | None, source: str | None, start: int | None
) -> Frame:
    """Begin a frame that has its stamp already, or whose stamp is another process's."""
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
    """Write a row into the ring; return whether it could be stored."""
    if room is not None and not room.take():
        return True  # counted as lost, whatever became of it
    row[2] = row[seq_at] = ticket = draw()
    row[1] = ticket % ring_bytes
    try:
        pack(*row)
    except Exception:
        _void(ticket, row)
        return False
    if watched:
        _check_limits(row)
    return True


def _close(frame: Frame, at: int | None, outcome: str | None) -> None:
    """Finish a frame in whatever way it is finished."""
    row = frame._row
    call = "finish" if outcome is None else "drop"
    if row is spent:
        alerts.misuse(f"{call} after finish", "the frame was already committed")
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
    """Set a mark that was given a stamp, was set before, or belongs to a frame that is done."""
    if row is spent:
        alerts.misuse("mark after finish", f"mark {name!r} of a frame that was committed")
    elif row[i]:
        alerts.misuse("mark set twice", f"mark {name!r} keeps its first stamp")
    else:
        row[i] = at if type(at) is int else _plain(at)


def _plain(stamp: Any) -> Any:
    """Return a stamp as an int, if it is one: of a narrower one `finish` cannot tell how long."""
    try:
        return operator.index(stamp)
    except Exception:
        return stamp  # is rejected when it is packed


def _no_such_mark(name: object) -> PipelineError:
    """Return the error of a mark that there is not, or that another process owns."""
    what = f"pipeline {ring.pipeline.name!r}"
    shown = escape(name) if isinstance(name, str) else name
    if isinstance(name, str) and name in marks:
        alerts.notes.add("mark not owned")
        return PipelineError(
            f"mark {shown!r} of {what} is another process's: stamp {', '.join(owned)}, or own "
            "it (owns=)"
        )
    alerts.notes.add("unknown mark")
    return PipelineError(f"{what} has no mark {shown!r}: use one of {', '.join(owned)}")


def _wrong_length(stamps: Sequence[int]) -> PipelineError:
    """Return the error of too few or too many stamps."""
    return PipelineError(
        f"{len(stamps)} stamps for the {mark_count} marks of pipeline {ring.pipeline.name!r}: give "
        f"one for each of {', '.join(marks)}, 0 where missing"
    )


def _as_tuple(stamps: Any) -> tuple[Any, ...]:
    """Return stamps as a tuple; those of an array as ints, which can be compared with a limit."""
    return tuple(stamps.tolist() if hasattr(stamps, "tolist") else stamps)


def _check_foreign(foreign: Sequence[int], stamps: Sequence[int]) -> None:
    """Refuse stamps of marks that other processes own."""
    for i in foreign:
        if stamps[i]:
            raise _no_such_mark(marks[i])


def _source_code(source: object) -> int:
    """Return the code of a source that is met for the first time, or is no string."""
    return ring.sources.code(None if source is None else _text(source))


def _takes(frame_id: int, source: str | None) -> bool:
    """Return whether the frame is in a run that is sampled."""
    try:
        run = operator.index(frame_id) >> RUN_BITS
    except Exception:
        return True  # goes on, and is counted as rejected
    if not 0 <= run < 2 ** (64 - RUN_BITS):
        return True
    name = None if source is None else _text(source)
    taken = runs.get((name, run))
    if taken is None:
        taken = run_hash(run, fnv1a(name)) < sampled_below
        if len(runs) >= KNOWN_RUNS:
            runs.clear()
        runs[name, run] = taken
    if len(latest) >= KNOWN_RUNS:
        latest.clear()
    latest[name] = run, taken
    return taken


def _void(ticket: int, row: list[Any]) -> None:
    """Count a frame that could not be stored, and by which of its values."""
    voids.add(ring.tickets.number(ticket))
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
    """Count and tell each span of a frame that took longer than its threshold."""
    for name, begin_at, last_at, at_most in watched:
        start, end = row[begin_at], row[last_at]
        if not (_fits(start, STAMP_LIMIT) and _fits(end, STAMP_LIMIT) and start and end):
            continue  # missing, or found unfit when it is folded
        latency_ns = operator.index(end) - operator.index(start)
        if latency_ns > at_most:
            label = operator.index(row[labels_at]) & 0xFFFF
            source = ring.sources.table[label]
            alerts.slow(operator.index(row[ID_AT]), source, latency_ns, name)


def _outcome_name(reason: object) -> str:
    """Return the outcome of a drop: its reason, which never reads as finished."""
    name = _text(reason)
    return f"dropped: {name}" if name in ("", "finished") else name


def shown(frame_id: object) -> str:
    """Return the id of a frame that is rejected, whatever it is."""
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
