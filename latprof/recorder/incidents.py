"""Rare cases that both stamping cores report: new names, wrong calls, rejected and slow frames."""

import contextlib
import operator
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from latprof.accounts import UNSTARTED, WITHOUT_FRAME
from latprof.errors import PipelineError, ProfilerError
from latprof.pipeline import Pipeline
from latprof.recorder.alerts import Alerts, Tally
from latprof.ring.layout import REJECTED
from latprof.ring.names import NameTable
from latprof.text import escape, quoted
from latprof.units import format_ns

__all__ = [
    "BAD_ID",
    "BAD_SIZE",
    "BAD_STAMP",
    "LATE",
    "REASONS",
    "Incidents",
    "Space",
    "shown",
    "text_of",
]

BAD_ID, BAD_SIZE, BAD_STAMP = range(3)
"""Why a row cannot be stored, in the order in which it is checked: index in `REASONS`."""

REASONS = (
    "frame id must be an integer from 0 to 2**64 - 1",
    "size must be an integer from 0 to 2**32 - 1",
    "stamp must be an integer from 0 to 2**62 - 1",
)
LATE = "finished after stop"

WAIT_LIMIT_S = 5.0  # longest time that a writer waits for space in the ring
POLL_S = 0.000_2  # time between two looks for space


class Space(Protocol):
    """The space in a ring, as a core counts it: numbers from `drawn` + 1 to `limit` are free."""

    drawn: int
    limit: int


class Incidents:
    """Counts and reports the rare cases in the calls of one profiler.

    Parameters
    ----------
    pipeline, owned
        The pipeline, and the marks that this process stamps.
    alerts
        Counts problems and slow frames, and logs them.
    sources, outcomes, tags
        The names by code; `tags` has a table by name of the tag, in order.
    spans
        The names of the spans with thresholds, in the order of the core's limits.

    Attributes
    ----------
    rejections
        Rejected frames by reason.
    waiting
        Number of writers that wait for space in the ring.
    background
        Ident of the thread that makes space, or None; this thread does not wait.
    wake
        Called by a writer that waits for space.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        owned: tuple[str, ...],
        alerts: Alerts,
        sources: NameTable,
        outcomes: NameTable,
        tags: Mapping[str, NameTable],
        spans: Iterable[str],
    ) -> None:
        self.rejections = Tally()
        self.waiting = 0
        self.background: int | None = None
        self.wake: Callable[[], object] = lambda: None
        self._pipeline, self._owned, self._alerts = pipeline, owned, alerts
        self._sources, self._outcomes = sources, outcomes
        self._tags, self._tag_names = tuple(tags.values()), tuple(tags)
        self._spans = tuple(spans)
        self._lock = threading.RLock()
        self._timed_out_at = -1  # limit at the last wait in vain; at this limit no writer waits

    # -- names ----------------------------------------------------------------------------------

    def source(self, name: object) -> int:
        """Return the code of a source that is new or not a string."""
        return self._sources.code(None if name is None else text_of(name))

    def outcome(self, reason: object) -> int:
        """Return the code of a drop's reason; one with another meaning gets "dropped: " first."""
        name = text_of(reason)
        if name in ("", "finished") or name.startswith(REJECTED):
            name = f"dropped: {name}"
        return self._outcomes.code(name)

    def tag(self, index: int, value: object) -> int:
        """Return the code of a tag's value that is new or not a string."""
        return self._tags[index].code(None if value is None else text_of(value))

    def encoded(self, source: object) -> bytes:
        """Return the bytes of a source's name, which are hashed for sampling."""
        return text_of(source).encode("utf-8", "backslashreplace")

    def as_tuple(self, stamps: Any) -> tuple[Any, ...]:
        """Return stamps as a tuple; those of an array become Python integers."""
        try:
            len(stamps)  # not of a generator
            return tuple(stamps.tolist() if hasattr(stamps, "tolist") else stamps)
        except TypeError:
            raise self.wrong_length(stamps) from None

    def described(self, frame_id: object, source: int, finished: bool, stamps: bytes) -> str:
        """Return the repr of a frame; its stamps are integers of 8 bytes."""
        of = self._sources.table[source]
        set_marks = {
            mark: stamp
            for mark, stamp in zip(self._pipeline.marks, memoryview(stamps).cast("q"), strict=True)
            if stamp > 0
        }
        first = min(set_marks.values(), default=0)
        shifts = (f"{mark} +{format_ns(stamp - first)}" for mark, stamp in set_marks.items())
        state = "finished" if finished else "in flight"
        name = shown(frame_id) + ("" if of is None else f" of {escape(of)}")
        return f"<{name}, {state}: {', '.join(shifts) or 'no marks'}>"

    # -- wrong calls ----------------------------------------------------------------------------

    def unknown_mark(self, name: object) -> PipelineError:
        """Return the error for a mark that does not exist or is owned by another process."""
        if isinstance(name, str) and name in self._pipeline.marks:
            self._alerts.notes.add("mark not owned")
            return PipelineError(
                f"mark {name!r} is not owned by this process (owns={self._owned!r}); record it in "
                "the process that owns it"
            )
        self._alerts.notes.add("unknown mark")
        return PipelineError(
            f"mark must be a mark of pipeline {self._pipeline.name!r}, got {quoted(name)}; use "
            f"{', '.join(self._owned)}"
        )

    def unknown_tag(self, name: object) -> ProfilerError:
        """Return the error for a tag that the profiler does not have."""
        self._alerts.notes.add("unknown tag")
        known = ", ".join(self._tag_names) or "tags=(...) of Profiler to declare it"
        return ProfilerError(
            f"tag must be one of the profiler's tags, got {quoted(name)}; use {known}"
        )

    def wrong_tags(self, tags: object) -> ProfilerError:
        """Return the error for an argument `tags` of another type."""
        return ProfilerError(f'tags must be a dict, got {quoted(tags)}; write {{"name": value}}')

    def wrong_length(self, stamps: Any) -> PipelineError:
        """Return the error for too few or too many stamps."""
        try:
            given: object = len(stamps)
        except TypeError:
            given = quoted(stamps)
        marks = self._pipeline.marks
        return PipelineError(
            f"stamps must have one value for each of the {len(marks)} marks of pipeline "
            f"{self._pipeline.name!r}, got {given}; give {', '.join(marks)}, 0 if missing"
        )

    def problem(self, name: str, what: object) -> None:
        """Count a call that is ignored, and log it the first time."""
        detail = "the frame is committed already"
        if name == "mark set twice":
            detail = f"mark {what!r} keeps its first stamp"
        elif what is not None:
            detail = f"{name.partition(' ')[0]} {what!r} of a committed frame is ignored"
        self._alerts.problem(name, detail)

    def unstarted(self) -> None:
        """Count a call of a profiler that was never started."""
        self._alerts.problem(
            UNSTARTED,
            "nothing is recorded; call start() in each process, or use the profiler in `with`",
        )

    def without_frame(self, stage: str) -> None:
        """Count a call of a stage's function without a current frame."""
        self._alerts.problem(
            WITHOUT_FRAME,
            f"stage {stage!r} is not stamped; call it within `with profiler.frame(...)`, and in an "
            "executor with contextvars.copy_context().run",
        )

    # -- frames ---------------------------------------------------------------------------------

    def late(self) -> None:
        """Count a frame that finished after the stop."""
        self.rejections.add(LATE)

    def rejected(self, reason: int, frame_id: object) -> int:
        """Count a frame that cannot be stored; return the outcome of its row."""
        text = REASONS[reason]
        self.rejections.add(text)
        self._alerts.rejected(text, shown(frame_id))
        return self._outcomes.code(REJECTED + text)

    def slow(self, frame_id: int, source: int, latency_ns: int, span: int) -> None:
        """Report a frame with a span, given by its number, above its threshold."""
        self._alerts.slow(frame_id, self._sources.table[source], latency_ns, self._spans[span])

    def wait(self, space: Space) -> bool:
        """Wait until there is space in the ring; return False if the wait was in vain."""
        if space.limit == self._timed_out_at or threading.get_ident() == self.background:
            return False
        deadline = time.monotonic() + WAIT_LIMIT_S
        with self._lock:
            self.waiting += 1
        try:
            while time.monotonic() < deadline:
                if space.drawn < space.limit:
                    return True
                self.wake()
                time.sleep(POLL_S)
        finally:
            with self._lock:
                self.waiting -= 1
        self._timed_out_at = space.limit
        return False

    def forked(self) -> None:
        """Replace the locks in the child of a fork, where the thread that held them is gone."""
        self._lock = threading.RLock()
        self.rejections.reset_lock()


def text_of(value: object) -> str:
    """Return any value as text."""
    if isinstance(value, str):
        return value
    try:
        return str(value)
    except Exception:
        return f"<{type(value).__name__}>"


def shown(frame_id: object) -> str:
    """Return the id of a rejected frame as text of at most 60 characters."""
    with contextlib.suppress(Exception):  # integers of other types, as they would be stored
        frame_id = operator.index(frame_id)  # type: ignore[arg-type]
    is_valid = type(frame_id) is int and 0 <= frame_id < 2**64
    text = f"frame {text_of(frame_id)}" if is_valid else f"frame {text_of(frame_id)!r}"
    return text if len(text) <= 60 else f"{text[:57]}..."
