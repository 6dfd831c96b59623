"""Outputs of folded frames: sampled and kept, written to files, or saved around an alert."""

import contextlib
import os
import re
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from latprof.accounts import Accounts
from latprof.errors import ProfilerError
from latprof.frames import Columns
from latprof.recorder.alerts import BACKGROUND_ERRORS, Alerts, Violation
from latprof.recorder.live_fold import LiveFold
from latprof.recorder.recording import TraceFiles, file_stem
from latprof.recorder.sampling import TailSampler
from latprof.recorder.settings import ends_in_separator
from latprof.recorder.shared import Shared
from latprof.recorder.uploads import Uploads
from latprof.ring.ring import Ring, to_columns
from latprof.text import escape
from latprof.trace import Trace
from latprof.units import format_utc

__all__ = ["Freezer", "Outputs"]

FOLD_EVERY_S = 0.5  # longest time that a frame waits for a file that is closed by time
FREEZE_AFTER_S = 1.0  # time recorded after a critical frame, unless half a ring comes earlier
FREEZE_PAUSE_S = 1.0  # time after a saved trace in which no other is begun
MAX_FREEZES = 8  # saved traces of a pipeline in a folder; older ones are removed


class Outputs:
    """Passes folded frames to the outputs that the settings ask for.

    Parameters
    ----------
    shared, fold
        The parts of the profiler, and what folds its ring.
    """

    def __init__(self, shared: Shared, fold: LiveFold) -> None:
        settings, ring, alerts = shared.settings, shared.ring, shared.alerts
        self._ring, self._core, self._alerts = ring, shared.core, alerts
        self._recording, self._fold = shared.recording, fold
        self._sampler: TailSampler | None = None
        if settings.keep is not None:
            limit_ns = settings.keep if isinstance(settings.keep, int) else None
            self._sampler = TailSampler(ring.dtype, ring.capacity, limit_ns)
        self._files: TraceFiles | None = None
        if settings.path is not None:
            path = Path(settings.path)
            if ends_in_separator(settings.path):
                _make(path)
            self._files = TraceFiles(
                path, settings.rotate, ring.pipeline, shared.recording, fold.accounts, alerts
            )
        self._uploads: Uploads | None = None
        if self._files is not None and settings.upload_to is not None:
            self._uploads = Uploads(settings.upload_to, alerts)
            self._files.on_closed = self._uploads.add
        # the background folds when many rows wait; rotation by time needs the rows earlier
        self._every_s: float | None = None
        if settings.rotate.ns is not None:
            self._every_s = min(settings.rotate.ns / 4e9, FOLD_EVERY_S)
        self._folded = 0.0
        if self._sampler is not None or self._files is not None:
            fold.sinks.append(self._write)
        self._freezer: Freezer | None = None
        if settings.on_critical == "freeze":
            self._freezer = Freezer(settings.freeze_to, ring, alerts)
            alerts.on_critical = self._freezer
        elif callable(settings.on_critical):
            alerts.on_critical = settings.on_critical
        if self._files is not None or self._freezer is not None:
            # Saving a trace imports all modules that the files need. Later would be too late: if a
            # process forks during an import in another thread, the import never ends in the child,
            # and pandas cannot be imported at exit.
            self.ring_trace().save(os.devnull)

    def _write(self, rows: npt.NDArray[np.void], columns: Columns) -> None:
        try:
            if self._sampler is not None:
                columns = self._sampler.keep(rows, columns)
            if self._files is not None:
                self._files.write(columns, len(rows))
        except Exception as error:  # the rows are folded nevertheless
            self._alerts.error(BACKGROUND_ERRORS, error)

    def begin(self) -> None:
        """Accept frames."""
        if self._files is not None:
            self._files.begin()

    def tick(self, *, final: bool = False) -> None:
        """Do what is due now, or everything that is left if recording has stopped (`final`)."""
        if self._freezer is not None:
            self._freezer.tick(self.ring_trace, final=final)
        if self._every_s is not None and not final:
            now = time.monotonic()
            if now - self._folded >= self._every_s:
                self._folded = now
                self._fold.step()
        if self._files is not None:
            with self._fold.lock:
                if final:
                    self._files.close()
                else:
                    self._files.tick()
        if final and self._uploads is not None:
            self._uploads.close()

    def abandon(self) -> None:
        """Leave the open file to the parent, in the child of a fork."""
        if self._files is not None:
            self._files.abandon()
            self._files = None
            self._uploads = None

    def trace(self) -> Trace:
        """Return the result of `Profiler.trace`."""
        if self._sampler is None:
            return self.ring_trace()
        sampler = self._sampler

        def look() -> tuple[npt.NDArray[np.void], int, Accounts]:
            """Return the rows, how many are missing, and the accounts of that moment."""
            self._fold.catch_up()
            return sampler.rows, sampler.forgotten, self._fold.accounts()

        rows, forgotten, accounts = self._fold.run(look)
        columns = to_columns(rows, self._ring, self._recording.offset_ns)
        columns.weight = rows["weight"].copy()
        return self._trace(columns, accounts.lost + forgotten, accounts)

    def ring_trace(self) -> Trace:
        """Return a trace of what the ring holds."""

        def look() -> tuple[npt.NDArray[np.void], int, Accounts]:
            """Return the rows, how many are gone, and the accounts of that moment."""
            found = self._ring.read(0)
            rows = found.rows[found.rows["weight"] != 0]
            accounts = self._fold.accounts()
            expected = found.last - self._core.tombstones + self._core.refused
            return rows, expected - len(rows) - accounts.torn, accounts

        rows, gone, accounts = self._fold.run(look)
        columns = to_columns(rows, self._ring, self._recording.offset_ns)
        return self._trace(columns, max(0, gone), accounts)

    def _trace(self, columns: Columns, lost: int, accounts: Accounts) -> Trace:
        meta: dict[str, Any] = self._recording.meta(self._recording.segments())
        meta |= {"lost": lost, "accounts": accounts.to_dict()}
        return Trace.of(self._ring.pipeline, columns, meta)


class Freezer:
    """Saves the frames around a critical one as a trace; called with each `Violation`.

    Parameters
    ----------
    folder
        Where the files go; it is made when it is needed.
    ring
        The ring that holds the frames.
    alerts
        Logs, and counts errors.
    """

    def __init__(self, folder: Path, ring: Ring, alerts: Alerts) -> None:
        self._folder = folder.absolute()
        self._stem = file_stem(ring.pipeline.name)
        self._ring = ring
        self._alerts = alerts
        self._first: tuple[Violation, int, float] | None = None
        self._more = 0
        self._quiet_until = 0.0

    def __call__(self, violation: Violation) -> None:
        """Plan a trace around this frame; violations until it is saved are counted in it."""
        if self._first is None:
            if time.monotonic() < self._quiet_until:
                self._alerts.notes.add("criticals not frozen")
                return
            self._more = 0
            self._first = violation, self._ring.claimed, time.monotonic()
        else:
            self._more += 1

    def tick(self, trace: Callable[[], Trace], *, final: bool = False) -> None:
        """Save a trace of the ring once enough frames came after the critical one."""
        first = self._first
        if first is None:
            return
        violation, number, since = first
        enough = (
            self._ring.claimed - number >= self._ring.capacity // 2
            or time.monotonic() - since >= FREEZE_AFTER_S
        )
        if not (enough or final):
            return
        try:
            self._save(violation, trace())
        except Exception as error:
            self._alerts.error("errors of freezing", error)
        finally:
            self._quiet_until = time.monotonic() + FREEZE_PAUSE_S
            self._first = None

    def _save(self, violation: Violation, trace: Trace) -> None:
        trace.meta["freeze"] = {
            "reason": str(violation),
            **asdict(violation),
            "further_violations": self._more,
            "saved": format_utc(time.time_ns()),
        }
        os.makedirs(self._folder, exist_ok=True)
        now = time.time_ns()
        moment = time.strftime("%Y%m%dT%H%M%S", time.gmtime(now // 10**9))
        name = f"{self._stem}-critical-{moment}.{now // 10**3 % 10**6:06d}Z-{os.getpid()}.parquet"
        trace.save(self._folder / name)
        self._alerts.notes.add("traces frozen")
        self._alerts.info(f"the frames around {violation} are in {self._folder / name}")
        self._remove_old()

    def _remove_old(self) -> None:
        pattern = re.compile(re.escape(self._stem) + r"-critical-\d{8}T\d{6}\.\d{6}Z-\d+\.parquet")
        mine = [p for p in self._folder.iterdir() if pattern.fullmatch(p.name)]
        for path in sorted(mine)[:-MAX_FREEZES]:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()


def _make(folder: Path) -> None:
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise ProfilerError(
            f"path {escape(str(folder))}: cannot make the folder: {error.strerror}; choose another"
        ) from None
