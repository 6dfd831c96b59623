"""Frames on their way into trace files while they are recorded: one file, or one after the other.

Each file is whole and has its name when it is closed, not before. All files of a recording carry
its id (``recording``) and a number (``part``); what a file says of frames that are not in it, and
of when was recorded, is what came since the file before: the sum over the files is the whole.
"""

import itertools
import time
from collections.abc import Callable
from pathlib import Path

from latprof.accounts import Accounts
from latprof.frames import MISSING, Columns
from latprof.pipeline import Pipeline
from latprof.recorder.alerts import Alerts
from latprof.recorder.recording import Recording
from latprof.recorder.settings import Rotation
from latprof.ring.ring import count_of

__all__ = ["TROUBLE", "UNWRITTEN", "Stream"]

TROUBLE = "errors of the trace file"
UNWRITTEN = "frames not written to the trace file"

ROW_GROUP = 1 << 16
RETRY_S = 1.0
"""After an error no new file is begun for so long."""


class Stream:
    """The trace files of a profiler. No method raises: what fails is logged once, and counted.

    Parameters
    ----------
    path
        Of the file; or a folder, for files that are named after the pipeline.
    rotation
        When a new file is begun; None: when recording is stopped.
    pipeline, recording, accounts
        What the files say about themselves.
    alerts
        What logs, and counts what could not be written.
    """

    def __init__(
        self,
        path: Path,
        rotation: Rotation | None,
        pipeline: Pipeline,
        recording: Recording,
        accounts: Callable[[], Accounts],
        alerts: Alerts,
    ) -> None:
        from latprof.io.writer import Writer  # now: an import in a thread does not survive a fork

        self._open: Callable[..., Writer] = Writer
        self._rotation = rotation
        self._pipeline = pipeline
        self._recording = recording
        self._accounts = accounts
        self._alerts = alerts
        in_folder = path.is_dir()
        folder, stem = (path, pipeline.name) if in_folder else (path.parent, path.stem)
        ending = ".parquet" if in_folder else path.suffix
        # names that no other process takes, and that sort by time
        safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in stem)
        begun = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        self._named = f"{safe}-{begun}-{recording.id[:6]}-{{:05d}}{ending}"
        self._single = None if rotation is not None or in_folder else path
        self._folder = folder.absolute()  # the program may change its folder
        self._part = 0
        self._row_group = ROW_GROUP
        if rotation is not None and rotation.bytes is not None:
            # some 25 to 100 bytes a row: a file gets little more than it was asked for
            self._row_group = max(1_000, min(ROW_GROUP, rotation.bytes // 100))
        self._writer: Writer | None = None
        self._frames = 0  # in the file that is being written
        self._begun = 0.0
        self._first_end: int | None = None
        self._retry_at = 0.0
        self._told = Accounts()
        self._told_until: int | None = None
        self._missed = 0  # frames that no file has and no file has told of
        self._shape: Columns | None = None  # no rows of the columns that files have
        # a thread may begin again before another is done with the end: what counts is how often
        self._begins, self._ends = itertools.count(), itertools.count()

    def begin(self) -> None:
        """Take frames, for the first time or again."""
        next(self._begins)

    def write(self, columns: Columns, frames: int | None = None) -> None:
        """Add rows; `frames` is how many frames they are of, where some were not kept."""
        frames = len(columns) if frames is None else frames
        if not frames:
            return
        if count_of(self._ends) >= count_of(self._begins):
            self._lose(frames)  # of threads that were late when recording stopped
            return
        try:
            if self._writer is None:
                if time.monotonic() < self._retry_at:
                    self._lose(frames)
                    return
                self._frames = frames
                self._begin()
            else:
                self._frames += frames
            assert self._writer is not None
            self._writer.write(columns)
            if self._shape is None:
                self._shape = columns.take(slice(0))
            if self._is_full(columns):
                self._finish(final=False)
        except Exception as error:
            self._failed(error)

    def tick(self) -> None:
        """Close a file whose time is over, frames or none."""
        rotation = self._rotation
        if self._writer is None or rotation is None or rotation.ns is None:
            return
        if time.monotonic() - self._begun >= rotation.ns / 1e9:
            self._end(final=False)

    def close(self) -> None:
        """Close the file: what is recorded from now on goes into another."""
        if self._writer is None and time.monotonic() >= self._retry_at:
            try:
                self._begin()  # accounts without frames are worth a file, too
                if self._shape is not None and self._writer is not None:
                    self._writer.write(self._shape)  # one that reads as its neighbours do
            except Exception as error:
                self._failed(error)
        self._end(final=True)
        next(self._ends)

    def forsake(self) -> None:
        """Let go of a file that is the parent's, in the child of a fork."""
        if self._writer is not None:
            self._writer.forsake()
            self._writer = None

    # -- one file --------------------------------------------------------------------------------

    def _begin(self) -> None:
        self._part += 1
        path = self._folder / self._named.format(self._part)
        if self._single is not None:
            single = self._folder / self._single.name
            ending = "" if self._part == 1 else f"-{self._part:05d}"
            path = single.with_name(f"{single.stem}{ending}{single.suffix}")
        self._first_end = None
        self._begun = time.monotonic()
        meta = self._recording.meta([])
        self._writer = self._open(path, self._pipeline, meta, row_group=self._row_group)

    def _is_full(self, columns: Columns) -> bool:
        rotation = self._rotation
        if rotation is None or self._writer is None:
            return False
        if rotation.bytes is not None:
            return self._writer.size >= rotation.bytes
        assert rotation.ns is not None
        if time.monotonic() - self._begun >= rotation.ns / 1e9:
            return True
        # frames whose stamps were taken elsewhere may be quicker than the clock on the wall
        ends = columns.marks["end"]
        ends = ends[ends != MISSING]
        if not len(ends):
            return False
        if self._first_end is None:
            self._first_end = int(ends[0])
        return int(ends[-1]) - self._first_end >= rotation.ns

    def _end(self, *, final: bool) -> None:
        if self._writer is None:
            return
        try:
            self._finish(final=final)
        except Exception as error:
            self._failed(error)

    def _finish(self, *, final: bool) -> None:
        """Say what came since the file before, and close."""
        writer = self._writer
        assert writer is not None
        now = self._accounts()
        since = _since(self._told, now, final=final)
        until = self._recording.now() if self._recording.since is not None else None
        segments = self._recording.segments(
            -(2**63) if self._told_until is None else self._told_until, until
        )
        writer.meta |= self._recording.meta(segments) | {
            "part": self._part,
            "lost": since.lost + self._missed,
            "accounts": since.to_dict(),
        }
        writer.close()
        self._writer = None
        self._frames = 0
        # only now: what a file that failed would have told the next one tells
        since.in_flight = since.not_folded = 0
        self._told += since
        self._told_until = max((end for _, end in segments), default=self._told_until)
        self._missed = 0

    def _lose(self, count: int) -> None:
        self._missed += count
        if count:
            self._alerts.notes.add(UNWRITTEN, count)

    def _failed(self, error: Exception) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.discard()
        self._lose(self._frames)
        self._frames = 0
        self._retry_at = time.monotonic() + RETRY_S
        reason = f"{type(error).__name__}: {error}"
        self._alerts.misuse(TROUBLE, f"{reason}; recording goes on without it")


def _since(told: Accounts, now: Accounts, *, final: bool) -> Accounts:
    """Return what came since `told`; what is only so at a moment counts at the end alone."""
    since = Accounts()
    for name in Accounts.__slots__:
        before, after = getattr(told, name), getattr(now, name)
        if name in ("in_flight", "not_folded"):
            value = after if final else 0
        elif isinstance(after, dict):
            grown = {key: count - before.get(key, 0) for key, count in after.items()}
            value = {key: count for key, count in grown.items() if count > 0}
        else:
            value = max(0, after - before)
        setattr(since, name, value)
    return since
