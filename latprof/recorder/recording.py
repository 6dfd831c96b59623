"""A recording: when and on which clocks frames were recorded, and its trace files.

Frames may be written to trace files while they are recorded: to one file, or to several in turn.
A file appears under its name when it is complete. All files of a recording have its id
(``recording``) and a number (``part``). The accounts and segments of a file cover the time since
the file before it, so that the sum over all files gives those of the recording.
"""

import contextlib
import os
import platform
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from latprof.accounts import Accounts
from latprof.errors import ProfilerError
from latprof.frames import MISSING, Columns
from latprof.pipeline import Pipeline
from latprof.recorder.alerts import Alerts
from latprof.recorder.implementation import IMPL
from latprof.recorder.settings import Rotation, Settings
from latprof.text import escape, quoted
from latprof.units import STAMP_LIMIT, format_utc

__all__ = ["FILE_ERRORS", "NOT_WRITTEN", "Recording", "TraceFiles", "file_stem"]

FILE_ERRORS = "errors of the trace file"
NOT_WRITTEN = "frames not written to the trace file"

MAX_ANCHORS = 1_000  # pairs of clock readings in the metadata
ROW_GROUP = 1 << 16  # most rows in a row group
PREVIOUS = ".previous"  # end of the name that a file of an earlier run gets
RETRY_S = 1.0  # shortest time between an error and the next attempt to begin a file


class Recording:
    """The times at which a profiler recorded, and the metadata of its traces.

    Parameters
    ----------
    settings
        Those of the profiler. Its clock is read once here and once at each `begin` and `end`.

    Attributes
    ----------
    id
        The same for all traces of this recording, and for no others.
    offset_ns
        Wall clock minus the profiler's clock.
    since
        When the running segment began, UTC ns, or None if the profiler is stopped.
    note
        Called at each `begin` with True and at each `end` with False, the profiler's clock and the
        wall clock, ns; or None.
    """

    def __init__(self, settings: Settings) -> None:
        self.id = uuid.uuid4().hex
        self.pid = os.getpid()
        self.since: int | None = None
        self.note: Callable[[bool, int, int], None] | None = None
        self._settings, self._clock = settings, settings.clock
        self._anchors = [_checked_anchor(self._clock)]
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
        since = self.since
        if since is not None:
            # a segment must not end before it begins, even if the clock jumps back
            ended = [*self._segments, (since, max(since, self._anchor(False)))]
            self._segments, self.since = ended, None  # at once: this may be interrupted

    def segments(self, after: int | None = None, now: int | None = None) -> list[tuple[int, int]]:
        """Return the segments in UTC ns, restricted to the time from `after` to `now`."""
        segments = list(self._segments)
        since = self.since
        if since is not None:
            segments.append((since, max(since, self.now() if now is None else now)))
        if after is None:
            return segments
        return [(max(begin, after), end) for begin, end in segments if end > after]

    def now(self) -> int:
        """Return the time of the profiler's clock in UTC ns."""
        return self._read() + self.offset_ns

    def _read(self) -> int:
        """Read the profiler's clock; derive it from the wall clock if that fails."""
        try:
            now = self._clock()
        except Exception:
            now = 0
        fits = type(now) is int and 0 < now < STAMP_LIMIT
        return now if fits else time.time_ns() - self.offset_ns

    def meta(self, segments: list[tuple[int, int]] | None = None) -> dict[str, Any]:
        """Return the metadata of a trace of these segments; without them, of a ring."""
        meta: dict[str, Any] = {
            "owns": list(self._settings.owned),
            "sampling_rate": self._settings.sampling_rate or None,
            "core": IMPL,
            "clock_offset_ns": self.offset_ns,
            "anchors": [list(anchor) for anchor in self._anchors],
            "host": socket.gethostname(),
            "pid": self.pid,
            "cores": _cores(),
            "python": platform.python_version(),
            "created": format_utc(time.time_ns()),
            "recording": self.id,
            "stamp_ns": _stamp_ns(),
        }
        if self._settings.meta:
            meta["labels"] = self._settings.meta
        if segments is not None:
            meta["segments"] = [list(segment) for segment in segments]
        with contextlib.suppress(OSError, UnicodeError):  # Linux only
            boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
            meta |= {"boot_id": boot_id} if boot_id else {}
        return meta

    def _anchor(self, begins: bool) -> int:
        """Note both clocks at the same time; return the profiler's clock in UTC ns."""
        now, wall = self._read(), time.time_ns()
        if len(self._anchors) < MAX_ANCHORS:
            self._anchors.append((now, wall))
        if self.note is not None:
            self.note(begins, now, wall)
        return now + self.offset_ns


class TraceFiles:
    """Writes frames to trace files while they are recorded.

    No method raises: errors are counted, and logged the first time.

    Parameters
    ----------
    path
        The file, or a folder for files that are named after the pipeline.
    rotation
        When a new file begins.
    pipeline, recording, accounts
        The metadata of the files.
    alerts
        Counts and logs errors.

    Attributes
    ----------
    on_closed
        Called with the path of each file that is complete; it must not raise.
    """

    def __init__(
        self,
        path: Path,
        rotation: Rotation,
        pipeline: Pipeline,
        recording: Recording,
        accounts: Callable[[], Accounts],
        alerts: Alerts,
    ) -> None:
        from latprof.io.writer import Writer

        self._open: Callable[..., Writer] = Writer
        self._rotation = rotation
        self._pipeline = pipeline
        self._recording = recording
        self._accounts = accounts
        self._alerts = alerts
        in_folder = path.is_dir()
        # absolute, as the program may change the working directory
        self._folder = (path if in_folder else path.parent).absolute()
        self._stem, self._suffix = path.stem, ".parquet" if in_folder else path.suffix
        self._is_single = rotation == Rotation() and not in_folder
        if not self._is_single:  # names that sort by time and differ from those of other processes
            stem = file_stem(pipeline.name if in_folder else path.stem)
            begun = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
            self._stem = f"{stem}-{begun}-{recording.id[:6]}"
        self._part = 0
        self._row_group = ROW_GROUP
        if rotation.bytes is not None:
            # a row takes 25 to 100 bytes: files get little larger than requested
            self._row_group = max(1_000, min(ROW_GROUP, rotation.bytes // 100))
        self._writer: Writer | None = None
        self._path = self._folder
        self._frames = 0  # frames in the open file
        self._begun = 0.0
        self._first_end: int | None = None
        self._retry_at = 0.0
        self._reported = Accounts()
        self._reported_until: int | None = None
        self._unreported = 0  # frames that are in no file and not yet counted as lost in one
        self._shape: Columns | None = None  # the columns of the files, without rows
        self._is_open = False
        self.on_closed: Callable[[Path], object] | None = None

    def begin(self) -> None:
        """Accept frames."""
        self._is_open = True

    def write(self, columns: Columns, frames: int) -> None:
        """Add the rows of `frames` frames: all rows, or those that were kept."""
        if not frames:
            return
        # a thread may be late when recording has stopped
        if not self._is_open or (self._writer is None and time.monotonic() < self._retry_at):
            self._lose(frames)
            return
        self._frames += frames
        with self._errors_counted():
            writer = self._begin() if self._writer is None else self._writer
            writer.write(columns)
            if self._shape is None:
                self._shape = columns.take(slice(0))
            if self._is_full(columns):
                self._finish(final=False)

    def tick(self) -> None:
        """Close the open file if its time is over, even if it has no frames."""
        if self._writer is not None and self._is_over:
            with self._errors_counted():
                self._finish(final=False)

    def close(self) -> None:
        """Close the file; frames that come later go into another one."""
        with self._errors_counted():
            if self._writer is None and time.monotonic() >= self._retry_at:
                writer = self._begin()  # accounts are written even if there are no frames
                if self._shape is not None:
                    writer.write(self._shape)  # the file gets the same columns
            if self._writer is not None:
                self._finish(final=True)
        self._is_open = False

    def abandon(self) -> None:
        """Leave the open file to the parent, in the child of a fork."""
        if self._writer is not None:
            self._writer.detach()
            self._writer = None

    # -- one file --------------------------------------------------------------------------------

    def _begin(self) -> Any:
        """Open the next file and return its writer."""
        self._part += 1
        number = "" if self._is_single and self._part == 1 else f"-{self._part:05d}"
        path = self._path = self._folder / f"{self._stem}{number}{self._suffix}"
        self._first_end = None
        self._begun = time.monotonic()
        meta = self._recording.meta()
        writer = self._writer = self._open(path, self._pipeline, meta, row_group=self._row_group)
        return writer

    @property
    def _is_over(self) -> bool:
        """Whether the time of the open file is over."""
        limit_ns = self._rotation.ns
        return limit_ns is not None and time.monotonic() - self._begun >= limit_ns / 1e9

    def _is_full(self, columns: Columns) -> bool:
        rotation = self._rotation
        if rotation.bytes is not None:
            return self._writer is not None and self._writer.size >= rotation.bytes
        if rotation.ns is None or self._is_over:
            return self._is_over
        # stamps that were taken elsewhere may run ahead of the clock
        ends = columns.marks["end"]
        ends = ends[ends != MISSING]
        if not len(ends):
            return False
        if self._first_end is None:
            self._first_end = int(ends[0])
        return int(ends[-1]) - self._first_end >= rotation.ns

    def _finish(self, *, final: bool) -> None:
        """Add the accounts since the file before, and close."""
        writer = self._writer
        assert writer is not None
        now = self._accounts()
        since = _since(self._reported, now, final=final)
        until = self._recording.now() if self._recording.since is not None else None
        segments = self._recording.segments(
            -(2**63) if self._reported_until is None else self._reported_until, until
        )
        writer.meta |= self._recording.meta(segments) | {
            "part": self._part,
            "lost": since.lost + self._unreported,
            "accounts": since.to_dict(),
        }
        self._keep_old()
        writer.close()
        self._writer = None
        self._frames = 0
        # only now: if closing fails, the next file gets these accounts
        since.in_flight = since.not_folded = 0
        self._reported += since
        self._reported_until = max((end for _, end in segments), default=self._reported_until)
        self._unreported = 0
        if self.on_closed is not None:
            self.on_closed(self._path)

    def _keep_old(self) -> None:
        """Rename a file of an earlier run that has the name of the open one."""
        real = os.path.realpath(self._path)
        if os.path.isfile(real):
            os.replace(real, real + PREVIOUS)
            self._alerts.info(f"the file of an earlier run is kept as {escape(real + PREVIOUS)}")

    def _lose(self, count: int) -> None:
        self._unreported += count
        if count:
            self._alerts.notes.add(NOT_WRITTEN, count)

    @contextlib.contextmanager
    def _errors_counted(self) -> Iterator[None]:
        """Discard the open file if there is an error, and count its frames as not written."""
        try:
            yield
        except Exception as error:
            writer, self._writer = self._writer, None
            if writer is not None:
                writer.discard()
            self._lose(self._frames)
            self._frames = 0
            self._retry_at = time.monotonic() + RETRY_S
            self._alerts.error(FILE_ERRORS, error, "; recording goes on without the file")


def file_stem(name: str) -> str:
    """Return a name with all characters replaced that are unsafe in a file name."""
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in name)


def _checked_anchor(clock: Callable[[], int]) -> tuple[int, int]:
    """Return the time of the profiler's clock and of the wall clock, both in ns."""
    rule = "clock must be a function without arguments that returns integer ns from 1 to 2**62 - 1"
    before = time.time_ns()
    try:
        now = clock()
    except Exception as error:
        reason = f"{type(error).__name__}: {quoted(str(error))}"
        raise ProfilerError(f"{rule}, got {reason}; use time.perf_counter_ns") from None
    if type(now) is not int or not 0 < now < STAMP_LIMIT:
        raise ProfilerError(f"{rule}, got {quoted(now)}; use time.perf_counter_ns")
    return now, (before + time.time_ns()) // 2


def _cores() -> int | None:
    """Return how many cores the process may use, or None if that is not known."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _stamp_ns() -> int:
    """Return the time of a clock read in ns, which limits the accuracy of spans."""
    reads = 100
    times = []
    for _ in range(5):
        begin = time.perf_counter_ns()
        for _ in range(reads):
            time.perf_counter_ns()
        times.append(time.perf_counter_ns() - begin)
    return min(times) // reads


def _since(reported: Accounts, now: Accounts, *, final: bool) -> Accounts:
    """Return the accounts since `reported`; frames in flight count at the end only."""
    since = Accounts()
    for name in Accounts.__slots__:
        before, after = getattr(reported, name), getattr(now, name)
        if name in ("in_flight", "not_folded"):
            value = after if final else 0
        elif isinstance(after, dict):
            grown = {key: count - before.get(key, 0) for key, count in after.items()}
            value = {key: count for key, count in grown.items() if count > 0}
        else:
            value = max(0, after - before)
        setattr(since, name, value)
    return since
