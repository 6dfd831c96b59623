"""The hot path: what runs in the profiled program, once a mark and once a frame.

A frame in flight is a list that holds the arguments of one `struct.pack_into`, in the order of the
row; a mark is one assignment into it, and finishing is that one call. The functions are closures
over what they need: in CPython a free variable costs less than an attribute, and at eight marks a
frame each of them counts. Nothing here takes a lock, unless something is wrong or slow.
"""

import itertools
import operator
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

from latprof.columns import NO_SIZE, STAMP_LIMIT
from latprof.errors import PipelineError
from latprof.recorder.alerts import END_TO_END, Alerts, Tally
from latprof.recorder.following import let_follow
from latprof.recorder.frame import NO_FRAME, Frame
from latprof.recorder.room import Room
from latprof.recorder.sampling import RUN_BITS, fnv1a, run_hash
from latprof.ring import Ring
from latprof.units import escape

__all__ = [
    "BAD_FRAME_ID",
    "BAD_ROW",
    "BAD_SIZE",
    "BAD_STAMP",
    "LATE",
    "HotPath",
    "outcome_name",
    "shown",
]

BAD_FRAME_ID = "frame id is no integer from 0 to 2**64 - 1"
BAD_SIZE = "size is no integer from 0 to 2**32 - 1"
BAD_STAMP = "stamp is no integer from 0 to 2**62 - 1"
BAD_ROW = "clock gave no stamp"
LATE = "finished after stop"

KNOWN_RUNS = 4_096
"""How many sampling decisions are remembered."""


class HotPath:
    """The functions that stamp into one ring, and what they count.

    Parameters
    ----------
    ring
        Where frames are committed.
    clock
        Returns ns.
    owned
        The marks that this process stamps.
    alerts
        Thresholds and notes.
    sampled_below
        Runs are taken whose hash is below; 2**64 takes all.
    room
        What must be asked before a row is written; None: older rows are overwritten.

    Attributes
    ----------
    frame, record, switch
        The functions; `switch` starts and stops recording.
    blank
        The row that new frames begin with: holds the last sample of CPU and memory.
    started, skipped
        Counters; `ring.count_of` reads them.
    rejected
        Frames that never got a commit number, by reason.
    void
        Frames rejected though they had one, by reason.
    voids
        Their numbers, until the fold has passed them.
    dropped
        Frames by the reason of their drop.
    live, index, clock, alerts
        The class of the frames, where owned marks are in their rows, what stamps them; `alerts`.
    """

    def __init__(
        self,
        ring: Ring,
        clock: Callable[[], int],
        owned: tuple[str, ...],
        alerts: Alerts,
        sampled_below: int,
        room: Room | None = None,
    ) -> None:
        marks = len(ring.pipeline.marks)
        self.rss_at = 4 + marks
        self.cpu_at = 7 + marks
        self.blank: list[Any] = [ring.buffer, 0, 0, 0, *[0] * marks]
        self.blank += [0, NO_SIZE, 0, float("nan"), 1, 0]
        self.started = itertools.count()
        self.skipped = itertools.count()
        self.rejected = Tally()
        self.void = Tally()
        self.voids: set[int] = set()
        self.dropped = Tally()
        self.room = room
        self.owned = set(owned)
        self.frame: Callable[..., Frame]
        self.record: Callable[..., None]
        self.switch: Callable[[bool], None]
        self.takes: Callable[[int, str | None], bool]
        self.live: type[Frame]
        self.index: dict[str, int]
        self.clock = clock
        self.alerts = alerts
        _build(self, ring, clock, owned, alerts, sampled_below)


def _build(
    hot: HotPath,
    ring: Ring,
    clock: Callable[[], int],
    owned: tuple[str, ...],
    alerts: Alerts,
    sampled_below: int,
) -> None:
    """Define the closures of a `HotPath`."""
    buffer, pack, claim = ring.buffer, ring.pack, ring.claim
    capacity, width = ring.capacity, ring.width
    marks = ring.pipeline.marks
    # where things stand in a row: [buffer, offset, begin, frame_id, marks ..., rss, size, ...]
    position = {mark: 4 + i for i, mark in enumerate(marks)}
    index = {mark: position[mark] for mark in owned}
    start_at, end_at = position["start"], position["end"]
    rss_at, cpu_at = hot.rss_at, hot.cpu_at
    size_at, labels_at, seq_at = rss_at + 1, rss_at + 2, len(hot.blank) - 1
    owns_start, owns_end = "start" in index, "end" in index
    foreign = [i for i, mark in enumerate(marks) if mark not in index]
    start_of, end_of, count = start_at - 4, end_at - 4, len(marks)
    # spans with a threshold: where they begin and end in a row, and what they may take
    watched = [
        (span.name, position[span.begin], position[span.end], alerts.limits[span.name])
        for span in ring.pipeline.all_spans
        if span.name in alerts.limits and span.begin in index and span.end in index
    ]
    limit = alerts.limits.get(END_TO_END) if owns_start and owns_end else None
    stages_watched = any(name != END_TO_END for name, *_ in watched)
    room = hot.room

    blank = hot.blank
    copy_blank = blank.copy
    spent: list[Any] = [1] * len(blank)  # the row of a frame that is done: every mark is set
    begin, skip = hot.started.__next__, hot.skipped.__next__
    source_codes = ring.sources.codes
    all_sampled = sampled_below >= 2**64
    runs: dict[tuple[str | None, int], bool] = {}
    latest: dict[str | None, tuple[int, bool]] = {}  # of each source: half the look-up's time
    is_open = False
    detour = True  # finishing needs more than the short way

    def switch(on: bool) -> None:
        nonlocal is_open, detour
        is_open = on
        detour = not (on and owns_end) or room is not None or stages_watched

    class LiveFrame(Frame):
        __slots__ = ()

        def mark(self, name: str, at: int | None = None) -> None:
            row = self._row
            try:
                i = index[name]
            except (KeyError, TypeError):
                raise no_such_mark(name) from None
            if at is not None or row[i]:
                mark_again(row, i, name, at)
            else:
                row[i] = clock()

        def finish(self, at: int | None = None) -> None:
            row = self._row
            if at is not None or row[end_at] or detour:
                close(self, at, None)
                return
            # before anything is called: whoever finishes it, too, then finds it done
            self._row = spent
            row[end_at] = clock()
            # the same as commit(row), without the call
            number = claim()
            row[1] = (number - 1) % capacity * width
            row[2] = row[seq_at] = number
            try:
                pack(*row)
            except Exception:
                void(number, row)
                return
            if limit is not None and row[end_at] - row[start_at] > limit:
                check_limits(row)

        def drop(self, reason: str, at: int | None = None) -> None:
            close(self, at, outcome_name(reason))

        def __exit__(
            self,
            kind: type[BaseException] | None,
            error: BaseException | None,
            traceback: TracebackType | None,
        ) -> None:
            if self._row is spent:  # finished or dropped inside the block
                return
            if kind is None:
                self.finish()
            else:
                close(self, None, outcome_name(kind.__name__))

    # `start` is positional: CPython does not specialize calls with keyword-only arguments
    def frame(
        frame_id: int, size: int | None = None, source: str | None = None, start: int | None = None
    ) -> Frame:
        if not is_open:
            return NO_FRAME
        if start is not None or not owns_start:
            return frame_started_elsewhere(frame_id, size, source, start)
        row = copy_blank()
        row[3] = frame_id
        if size is not None:
            row[size_at] = size
        try:
            row[labels_at] = source_codes[source]
        except (KeyError, TypeError):
            row[labels_at] = source_code(source)
        begin()
        new = LiveFrame()
        new._row = row
        row[start_at] = clock()
        return new

    def sampled_frame(
        frame_id: int, size: int | None = None, source: str | None = None, start: int | None = None
    ) -> Frame:
        if not is_open:
            return NO_FRAME
        try:
            run, taken = latest[source]
            if run != frame_id >> RUN_BITS:
                taken = takes(frame_id, source)
        except (KeyError, TypeError):
            taken = takes(frame_id, source)
        if not taken:
            skip()
            return NO_FRAME
        return frame(frame_id, size, source, start)

    def record(
        frame_id: int, stamps: Sequence[int], size: int | None = None, source: str | None = None
    ) -> None:
        if len(stamps) != count:
            raise wrong_length(stamps)
        if not is_open:
            return
        if type(stamps) is not tuple:
            stamps = tuple(stamps)
        if not all_sampled and not takes(frame_id, source):
            skip()
            return
        if foreign:
            check_foreign(stamps)
        if size is None:
            size = NO_SIZE
        try:
            label = source_codes[source]
        except (KeyError, TypeError):
            label = source_code(source)
        begin()
        if room is not None and not room.take():
            return
        number = claim()
        offset = (number - 1) % capacity * width
        try:
            # one call: begin first, seq last; tuples are joined quicker than unpacked
            head: Any = (buffer, offset, number, frame_id)
            pack(*(head + stamps + (blank[rss_at], size, label, blank[cpu_at], 1, number)))
        except Exception:
            void(number, [0, 0, 0, frame_id, *stamps, 0, size])
            return
        if stages_watched or (limit is not None and stamps[end_of] - stamps[start_of] > limit):
            check_limits([0, 0, 0, frame_id, *stamps, 0, 0, label])

    # -- off the short way ------------------------------------------------------------------------

    def frame_started_elsewhere(
        frame_id: int, size: int | None, source: str | None, start: int | None
    ) -> Frame:
        if start is not None and not owns_start:
            raise no_such_mark("start")
        row = copy_blank()
        row[3] = frame_id
        if size is not None:
            row[size_at] = size
        row[labels_at] = source_code(source)
        if start is not None:
            row[start_at] = start
        begin()
        new = LiveFrame()
        new._row = row
        return new

    def commit(row: list[Any]) -> bool:
        if room is not None and not room.take():
            return True  # counted as lost, whatever became of it
        number = claim()
        row[1] = (number - 1) % capacity * width
        row[2] = row[seq_at] = number
        try:
            pack(*row)
        except Exception:
            void(number, row)
            return False
        if watched:
            check_limits(row)
        return True

    def close(frame: Frame, at: int | None, outcome: str | None) -> None:
        row = frame._row
        call = "finish" if outcome is None else "drop"
        if row is spent:
            alerts.misuse(f"{call} after finish", "the frame was already committed")
            return
        if at is not None and not owns_end:
            raise no_such_mark("end")
        frame._row = spent
        if at is not None:
            mark_again(row, end_at, "end", at)
        elif owns_end and not row[end_at]:
            row[end_at] = clock()
        if not is_open:
            hot.rejected.add(LATE)
            return
        if outcome is None:
            commit(row)
            return
        code = ring.outcomes.code(outcome)
        row[labels_at] |= code << 16
        if commit(row):
            hot.dropped.add(str(ring.outcomes.table[code]))

    def mark_again(row: list[Any], i: int, name: str, at: int | None) -> None:
        if row is spent:
            alerts.misuse("mark after finish", f"mark {name!r} of a frame that was committed")
        elif row[i]:
            alerts.misuse("mark set twice", f"mark {name!r} keeps its first stamp")
        else:
            row[i] = at

    def no_such_mark(name: object) -> PipelineError:
        what = f"pipeline {ring.pipeline.name!r}"
        shown = escape(name) if isinstance(name, str) else name
        if isinstance(name, str) and name in position:
            alerts.notes.add("mark not owned")
            return PipelineError(
                f"mark {shown!r} of {what} is another process's: stamp {', '.join(owned)}, or own "
                "it (owns=)"
            )
        alerts.notes.add("unknown mark")
        return PipelineError(f"{what} has no mark {shown!r}: use one of {', '.join(owned)}")

    def wrong_length(stamps: Sequence[int]) -> PipelineError:
        return PipelineError(
            f"{len(stamps)} stamps for the {count} marks of pipeline {ring.pipeline.name!r}: give "
            f"one for each of {', '.join(marks)}, 0 where missing"
        )

    def check_foreign(stamps: Sequence[int]) -> None:
        for i in foreign:
            if stamps[i]:
                raise no_such_mark(marks[i])

    def source_code(source: object) -> int:
        return ring.sources.code(None if source is None else _text(source))

    def takes(frame_id: int, source: str | None) -> bool:
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

    def void(number: int, row: list[Any]) -> None:
        hot.voids.add(number)
        frame_id, stamps, size = row[3], row[4:rss_at], row[size_at]
        if not _fits(frame_id, 2**64):
            reason = BAD_FRAME_ID
        elif not _fits(size, NO_SIZE + 1):
            reason = BAD_SIZE
        elif not all(_fits(stamp, STAMP_LIMIT) for stamp in stamps):
            reason = BAD_STAMP
        else:
            reason = BAD_ROW
        hot.void.add(reason)
        alerts.rejected(reason, shown(frame_id))

    def check_limits(row: list[Any]) -> None:
        for name, begin_at, end_at, at_most in watched:
            start, end = row[begin_at], row[end_at]
            if not (_fits(start, STAMP_LIMIT) and _fits(end, STAMP_LIMIT) and start and end):
                continue  # missing, or found unfit when it is folded
            latency_ns = operator.index(end) - operator.index(start)
            if latency_ns > at_most:
                label = operator.index(row[labels_at]) & 0xFFFF
                source = ring.sources.table[label]
                alerts.slow(operator.index(row[3]), source, latency_ns, name)

    let_follow(LiveFrame)
    hot.live, hot.index = LiveFrame, index
    hot.frame = frame if all_sampled else sampled_frame
    hot.record, hot.switch, hot.takes = record, switch, takes


def outcome_name(reason: object) -> str:
    """Return the outcome of a drop: its reason, which never reads as finished."""
    name = _text(reason)
    return f"dropped: {name}" if name in ("", "finished") else name


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    try:
        return str(value)
    except Exception:
        return f"<{type(value).__name__}>"


def shown(frame_id: object) -> str:
    """Return the id of a frame that is rejected, whatever it is."""
    text = f"frame {_text(frame_id)}" if _fits(frame_id, 2**64) else f"frame {_text(frame_id)!r}"
    return text if len(text) <= 60 else f"{text[:57]}..."


def _fits(value: Any, limit: int) -> bool:
    try:
        return 0 <= operator.index(value) < limit
    except Exception:
        return False
