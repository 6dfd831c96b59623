"""Freezing: the frames around a critical one, saved as a trace of their own."""

import contextlib
import os
import re
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latprof.recorder.alerts import Alerts, Violation
from latprof.units import format_utc

if TYPE_CHECKING:
    from latprof.trace import Trace

__all__ = ["Freezer"]

AFTER_S = 1.0
"""A trace is saved so long after the critical frame, or earlier when half a ring has come."""

QUIET_S = 1.0
"""After a trace was saved nothing is frozen for so long: a storm must not fill the disk."""

MOST_FILES = 8
"""How many frozen traces of a pipeline a folder holds; the oldest make room."""


class Freezer:
    """Saves what the ring holds around a critical frame; call it with each `Violation`.

    Parameters
    ----------
    folder
        Where the files go; made when it is needed.
    name
        Of the pipeline.
    claimed
        Returns how many frames have come by now.
    half
        Half of what the ring holds.
    trace
        Returns a trace of what the ring holds.
    alerts
        What logs, and counts what could not be saved.
    most
        How many files are kept.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        claimed: Callable[[], int],
        half: int,
        trace: Callable[[], "Trace"],
        alerts: Alerts,
        most: int = MOST_FILES,
    ) -> None:
        import latprof.trace  # now: an import in a thread does not survive a fork

        self._folder = folder.absolute()
        self._stem = "".join(c if c.isalnum() or c in "-_." else "_" for c in name)
        self._claimed = claimed
        self._half = half
        self._trace = trace
        self._alerts = alerts
        self._most = most
        self._first: tuple[Violation, int, float] | None = None
        self._more = 0
        self._quiet_until = 0.0
        del latprof

    def __call__(self, violation: Violation) -> None:
        """Have the frames around this one saved; those that come before that is done are told."""
        if self._first is None:
            if time.monotonic() < self._quiet_until:
                self._alerts.notes.add("criticals not frozen")
                return
            self._more = 0
            self._first = violation, self._claimed(), time.monotonic()
        else:
            self._more += 1

    def tick(self, *, final: bool = False) -> None:
        """Save, once enough frames came after the critical one."""
        first = self._first
        if first is None:
            return
        violation, number, since = first
        enough = self._claimed() - number >= self._half or time.monotonic() - since >= AFTER_S
        if not (enough or final):
            return
        try:
            self._save(violation)
        except Exception as error:
            self._alerts.misuse("errors of freezing", f"{type(error).__name__}: {error}")
        finally:
            self._quiet_until = time.monotonic() + QUIET_S
            self._first = None

    def _save(self, violation: Violation) -> None:
        trace = self._trace()
        trace.meta["freeze"] = _reason(violation, self._more)
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
        for path in sorted(mine)[: -self._most]:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()


def _reason(violation: Violation, more: int) -> dict[str, Any]:
    """Return why a trace was frozen, as values that JSON has."""
    return {
        "reason": str(violation),
        **asdict(violation),
        "further_violations": more,
        "saved": format_utc(time.time_ns()),
    }
