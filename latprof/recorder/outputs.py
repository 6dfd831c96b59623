"""What becomes of frames beside the running profile: kept by weight, written to files, frozen."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from latprof.accounts import Accounts
from latprof.errors import ProfilerError
from latprof.frames import Columns
from latprof.recorder.alerts import Alerts
from latprof.recorder.freeze import Freezer
from latprof.recorder.live_fold import LiveFold, columns_of
from latprof.recorder.recording import Recording
from latprof.recorder.retention import Keeper
from latprof.recorder.settings import OnCritical, Rotation
from latprof.recorder.stream import Stream
from latprof.ring.ring import Ring, to_columns
from latprof.text import escape

if TYPE_CHECKING:
    from latprof.trace import Trace

__all__ = ["Outputs", "Wanted"]

FOLD_EVERY_S = 0.5
"""Frames wait no longer for a file that is closed by time."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a profiler was asked to do with its frames; see there."""

    path: Path | None
    makes_folder: bool
    rotation: Rotation | None
    keep: tuple[bool, int | None]
    on_critical: OnCritical | None
    freeze_to: Path


class Outputs:
    """Where the frames of a profiler go once they are folded.

    Parameters
    ----------
    wanted
        What was asked for.
    ring, fold, alerts, recording
        The profiler's.
    accounts
        Returns where every frame is now.
    """

    def __init__(
        self,
        wanted: Wanted,
        ring: Ring,
        fold: LiveFold,
        alerts: Alerts,
        recording: Recording,
        accounts: Callable[[], Accounts],
    ) -> None:
        self._ring = ring
        self._fold = fold
        self._recording = recording
        self._accounts = accounts
        self._alerts = alerts
        self._keeper: Keeper | None = None
        keeps, limit_ns = wanted.keep
        if keeps:
            self._keeper = Keeper(ring.pipeline, ring.capacity, limit_ns)
        self._stream: Stream | None = None
        if wanted.path is not None:
            if wanted.makes_folder:
                _make(wanted.path)
            self._stream = Stream(
                wanted.path, wanted.rotation, ring.pipeline, recording, accounts, alerts
            )
        # the background waits for a piece of frames, a file whose time is over does not
        self._every_s: float | None = None
        if wanted.rotation is not None and wanted.rotation.ns is not None:
            self._every_s = min(wanted.rotation.ns / 4e9, FOLD_EVERY_S)
        self._folded = 0.0
        if self._keeper is not None or self._stream is not None:
            fold.sinks.append(self._write)
        self._freezer: Freezer | None = None
        if wanted.on_critical == "freeze":
            self._freezer = alerts.on_critical = Freezer(
                wanted.freeze_to,
                ring.pipeline.name,
                lambda: ring.claimed,
                ring.capacity // 2,
                self.ring_trace,
                alerts,
            )
        elif callable(wanted.on_critical):
            alerts.on_critical = wanted.on_critical

    def _write(self, rows: npt.NDArray[np.void], columns: Columns) -> None:
        try:
            if self._keeper is not None:
                columns = self._keeper.keep(rows, columns)
            if self._stream is not None:
                self._stream.write(columns, len(rows))
        except Exception as error:  # the rows are folded all the same
            self._alerts.misuse("errors in the background", f"{type(error).__name__}: {error}")

    def begin(self) -> None:
        """Take frames, for the first time or again."""
        if self._stream is not None:
            self._stream.begin()

    def tick(self, *, final: bool = False) -> None:
        """Do what is due; `final`: recording has stopped."""
        if self._freezer is not None:
            self._freezer.tick(final=final)
        if self._every_s is not None and not final:
            now = time.monotonic()
            if now - self._folded >= self._every_s:
                self._folded = now
                self._fold.step()
        if self._stream is not None:
            with self._fold.lock:
                if final:
                    self._stream.close()
                else:
                    self._stream.tick()

    def forsake(self) -> None:
        """Leave the files to the parent, in the child of a fork."""
        if self._stream is not None:
            self._stream.forsake()
            self._stream = None

    def trace(self) -> "Trace":
        """Return what `Profiler.trace` does."""
        if self._keeper is None:
            return self.ring_trace()
        with self._fold.lock:
            self._fold.catch_up()
            rows, forgotten = self._keeper.rows, self._keeper.forgotten
            accounts = self._accounts()
        columns = to_columns(rows, self._ring, self._recording.offset_ns)
        columns.weight = rows["weight"].copy()
        return self._trace(columns, accounts.lost + forgotten, accounts)

    def ring_trace(self) -> "Trace":
        """Return a trace of what the ring holds."""
        with self._fold.lock:
            columns, claimed, unfit = columns_of(self._ring, self._recording.offset_ns)
            accounts = self._accounts()
            rejected = self._fold.void + self._fold.unseen(unfit)
        gone = claimed - len(columns) - rejected - accounts.torn + self._fold.refused
        return self._trace(columns, max(0, gone), accounts)

    def _trace(self, columns: Columns, lost: int, accounts: Accounts) -> "Trace":
        from latprof.trace import Trace

        meta: dict[str, Any] = self._recording.meta(self._recording.segments())
        meta |= {"lost": lost, "accounts": accounts.to_dict()}
        return Trace.of(self._ring.pipeline, columns, meta)


def _make(folder: Path) -> None:
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise ProfilerError(
            f"path {escape(str(folder))}: the folder cannot be made: {error.strerror}: give another"
        ) from None
