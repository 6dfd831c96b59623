"""Mistakes of a program that show in its frames: logged once, and counted in the notes."""

import time

import numpy as np

from latprof.accounts import (
    DISORDERED,
    DISTANT,
    TINY_THRESHOLD,
    UNFINISHED,
    Accounts,
    is_unfinished,
)
from latprof.frames import MISSING, Columns
from latprof.pipeline import Pipeline
from latprof.recorder.alerts import Alerts
from latprof.text import counted
from latprof.units import format_utc

__all__ = ["Plausibility"]

LOST = "frames lost"
SHORTEST_THRESHOLD_NS = 1_000
FARTHEST_NS = 86_400 * 10**9  # plausible distance of a stamp from the clock: a day
ENOUGH_FRAMES = 100  # frames after which most of them are known to have marks out of order


class Plausibility:
    """Looks at thresholds and folded frames for signs of mistakes; the recording is not changed.

    Parameters
    ----------
    pipeline
        The order of the marks. Marks that only sides have may come at any time.
    alerts
        Logs and counts; has the thresholds.
    """

    def __init__(self, pipeline: Pipeline, alerts: Alerts) -> None:
        borders = {"start", "end"}.union(*((span.begin, span.end) for span in pipeline.stages))
        self._marks = [mark for mark in pipeline.marks if mark in borders]
        self._alerts = alerts
        self._frames = self._disordered = self._distant = 0
        self._logged: set[str] = set()
        for span, ns in (*alerts.warning.items(), *alerts.critical.items()):
            if ns < SHORTEST_THRESHOLD_NS:
                alerts.problem(
                    TINY_THRESHOLD, f"{span}: {ns} ns; 50 means 50 ns, write '50ms' for 50 ms"
                )

    def look(self, columns: Columns) -> None:
        """Look at folded frames."""
        self._frames += len(columns)
        latest = columns.marks["start"]
        disordered = np.zeros(len(columns), bool)
        for mark in self._marks[1:]:
            stamps = columns.marks[mark]
            disordered |= (stamps < latest) & (stamps != MISSING)
            latest = np.maximum(latest, stamps)  # a mark that is missing is before all others
        self._disordered += int(np.count_nonzero(disordered))
        if self._frames >= ENOUGH_FRAMES:
            self._log_disordered()
        distant = (np.abs(latest - time.time_ns()) > FARTHEST_NS) & (latest != MISSING)
        count = int(np.count_nonzero(distant))
        self._distant += count
        if count:
            when = format_utc(int(latest[distant][0]))
            self._log(
                DISTANT,
                f"a frame of {when}; stamps must be ns on the profiler's clock, are they ms or us, "
                "or of another clock?",
            )

    def lost(self) -> None:
        """Note that frames were overwritten before they were folded; the accounts count them."""
        self._log(
            LOST,
            "frames come faster than the background folds them; record fewer (sampling_rate), or "
            "make the program wait (overflow='block')",
        )

    def settle(self, accounts: Accounts) -> None:
        """Look at all counts when recording has stopped."""
        if self._frames:
            self._log_disordered()
        if is_unfinished(accounts):
            self._log(
                UNFINISHED,
                f"{accounts.in_flight:,} of {counted(accounts.started, 'frame')} are in flight at "
                "the stop: is finish() called?",
            )

    @property
    def notes(self) -> dict[str, int]:
        """Counts of frames for the notes of the accounts."""
        counts = {DISTANT: self._distant}
        if self._are_most_disordered:
            counts[DISORDERED] = self._disordered
        return {name: count for name, count in counts.items() if count}

    @property
    def _are_most_disordered(self) -> bool:
        return 2 * self._disordered > self._frames

    def _log_disordered(self) -> None:
        if self._are_most_disordered:
            self._log(
                DISORDERED,
                f"{self._disordered:,} of {counted(self._frames, 'frame')}; stamp marks in the "
                f"order {', '.join(self._marks)}",
            )

    def _log(self, name: str, detail: str) -> None:
        if name not in self._logged:
            self._logged.add(name)
            self._alerts.warn(name, detail)
