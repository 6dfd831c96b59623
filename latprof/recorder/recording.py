"""When a profiler recorded and on which clocks: what its traces say about themselves."""

import os
import platform
import socket
import time
import uuid
from collections.abc import Callable
from typing import Any

from latprof.frames import STAMP_LIMIT
from latprof.recorder.settings import checked_anchor
from latprof.units import format_utc

__all__ = ["Recording"]

MOST_ANCHORS = 1_000


class Recording:
    """The times at which a profiler recorded, and the metadata of its traces.

    Parameters
    ----------
    clock
        The profiler's; read once here, and once at each `begin` and `end`.
    about
        What is the same in the metadata of all traces: owned marks, sampling rate.

    Attributes
    ----------
    id
        The same in all traces of this recording, and in no others.
    offset_ns
        Wall clock minus the profiler's clock.
    since
        When the running segment began, UTC ns; None when nothing is recorded.
    note
        Called at each `begin` and `end`: whether it begins, the profiler's clock, the wall clock.
    """

    def __init__(self, clock: Callable[[], int], about: dict[str, Any]) -> None:
        self.id = uuid.uuid4().hex
        self.pid = os.getpid()
        self.since: int | None = None
        self.note: Callable[[bool, int, int], None] | None = None
        self._clock = clock
        self._about = about
        self._anchors = [checked_anchor(clock)]
        self.offset_ns = self._anchors[0][1] - self._anchors[0][0]
        self._segments: list[tuple[int, int]] = []

    @property
    def begun(self) -> bool:
        """Whether a segment was ever begun."""
        return len(self._anchors) > 1

    def begin(self) -> None:
        """Begin a segment."""
        self.since = self._anchor(True)

    def end(self) -> None:
        """End the segment."""
        if self.since is not None:
            # a clock that jumped back makes no segment that ends before it begins
            self._segments.append((self.since, max(self.since, self._anchor(False))))
            self.since = None

    def segments(self, after: int | None = None, now: int | None = None) -> list[tuple[int, int]]:
        """Return when was recorded, UTC ns: the part of it from `after` on, up to `now`."""
        segments = list(self._segments)
        since = self.since
        if since is not None:
            segments.append((since, max(since, self.now() if now is None else now)))
        if after is None:
            return segments
        return [(max(begin, after), end) for begin, end in segments if end > after]

    def now(self) -> int:
        """Return the time on the profiler's clock, UTC ns."""
        return self._read() + self.offset_ns

    def _read(self) -> int:
        """Return the profiler's clock; what it must be by the wall clock where it is broken."""
        try:
            now = self._clock()
        except Exception:
            now = 0
        fits = type(now) is int and 0 < now < STAMP_LIMIT
        return now if fits else time.time_ns() - self.offset_ns

    def facts(self) -> dict[str, Any]:
        """Return the metadata that holds before anything is recorded: what a ring's file says."""
        return {key: value for key, value in self.meta([]).items() if key != "segments"}

    def meta(self, segments: list[tuple[int, int]]) -> dict[str, Any]:
        """Return the metadata of a trace of these segments."""
        meta: dict[str, Any] = {
            **self._about,
            "clock_offset_ns": self.offset_ns,
            "anchors": [list(anchor) for anchor in self._anchors],
            "host": socket.gethostname(),
            "pid": self.pid,
            "python": platform.python_version(),
            "created": format_utc(time.time_ns()),
            "recording": self.id,
            "segments": [list(segment) for segment in segments],
            "stamp_ns": _stamp_ns(),
        }
        boot_id = _boot_id()
        if boot_id is not None:
            meta["boot_id"] = boot_id
        return meta

    def _anchor(self, begins: bool) -> int:
        """Note the clock beside the wall clock; return it as UTC ns."""
        now, wall = self._read(), time.time_ns()
        if len(self._anchors) < MOST_ANCHORS:
            self._anchors.append((now, wall))
        if self.note is not None:
            self.note(begins, now, wall)
        return now + self.offset_ns


def _stamp_ns() -> int:
    """Return what a clock read takes here, at its quickest: no span is measured better."""
    reads = 100
    took = []
    for _ in range(5):
        begin = time.perf_counter_ns()
        for _ in range(reads):
            time.perf_counter_ns()
        took.append(time.perf_counter_ns() - begin)
    return min(took) // reads


def _boot_id() -> str | None:
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip() or None
    except (OSError, UnicodeError):
        return None
