"""What the profiler counts and what it logs: exact counts always, log records at a bounded rate."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable

from latprof.units import escape, format_ns

__all__ = ["Alerts", "Tally"]


class Tally:
    """Counts by name that many threads add to; for what is rare.

    Examples
    --------
    >>> tally = Tally()
    >>> tally.add("late"), tally.add("late", 2), tally.read()
    (1, 3, {'late': 3})
    """

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def add(self, name: str, count: int = 1) -> int:
        """Add to a count and return it."""
        with self._lock:
            self._counts[name] += count
            return self._counts[name]

    def read(self) -> dict[str, int]:
        """Return a copy of the counts that are not 0."""
        with self._lock:
            return {name: count for name, count in self._counts.items() if count}

    @property
    def total(self) -> int:
        """The sum of the counts."""
        with self._lock:
            return self._counts.total()

    def reset_lock(self) -> None:
        """Take a new lock, in the child of a fork, where nobody is left to free the old one."""
        self._lock = threading.Lock()


class Alerts:
    """Thresholds and misuse: counted in `notes`, and logged without flooding the log.

    A threshold's record is written for each of the first `BURST` frames of a second; the others
    of that second are counted, and one record says how many they were. Misuse is logged the first
    time it happens. Nothing here raises.

    Parameters
    ----------
    logger
        Where the records go.
    warning, critical
        Thresholds of end_to_end in ns, or None.
    now
        A clock in ns, for the rate of the log alone.
    """

    BURST = 10
    PERIOD_NS = 1_000_000_000

    def __init__(
        self,
        logger: logging.Logger,
        warning: int | None,
        critical: int | None,
        now: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.notes = Tally()
        self.warning = warning
        self.critical = critical
        limits = [limit for limit in (warning, critical) if limit is not None]
        self.limit = min(limits, default=None)
        self._logger = logger
        self._now = now
        self._second = now()
        self._in_second = 0
        self._suppressed = 0
        self._lock = threading.Lock()

    def slow(self, frame_id: int, source: str | None, latency_ns: int) -> None:
        """Count a frame over a threshold and log it, unless the log has had enough."""
        if self.critical is not None and latency_ns > self.critical:
            name, limit, level = "critical", self.critical, logging.ERROR
        elif self.warning is not None and latency_ns > self.warning:
            name, limit, level = "warning", self.warning, logging.WARNING
        else:
            return
        self.notes.add("criticals" if name == "critical" else "warnings")
        if self._may_log():
            where = "" if source is None else f" of {escape(source)}"
            self._log(
                level,
                f"{name} threshold {format_ns(limit)} exceeded: "
                f"frame {frame_id}{where} took {format_ns(latency_ns)}",
            )

    def spare(self, name: str, count: int) -> None:
        """Count frames over a threshold that the log has no room for in this second."""
        self.notes.add(name, count)
        self.notes.add("log records suppressed", count)
        with self._lock:
            self._suppressed += count

    def misuse(self, name: str, detail: str) -> None:
        """Count a wrong call and log it the first time."""
        if self.notes.add(name) == 1:
            self._log(logging.WARNING, f"{name}: {escape(detail)} (further ones are only counted)")

    def flush(self, *, final: bool = False) -> None:
        """Say how many records the log was spared, once their second is over."""
        with self._lock:
            if not final and self._now() - self._second < self.PERIOD_NS:
                return
            suppressed, self._suppressed = self._suppressed, 0
        if suppressed:
            self._log(logging.WARNING, f"{suppressed:,} more frames over a threshold, not logged")

    def reset_lock(self) -> None:
        """Take new locks, in the child of a fork, where nobody is left to free the old ones."""
        self._lock = threading.Lock()
        self.notes.reset_lock()

    def info(self, message: str) -> None:
        """Log what is no trouble."""
        self._log(logging.INFO, message)

    def _may_log(self) -> bool:
        self.flush()
        with self._lock:
            if self._now() - self._second >= self.PERIOD_NS:
                self._second = self._now()
                self._in_second = 0
            self._in_second += 1
            if self._in_second <= self.BURST:
                return True
            self._suppressed += 1
        self.notes.add("log records suppressed")
        return False

    def _log(self, level: int, message: str) -> None:
        try:
            self._logger.log(level, "%s", message)
        except Exception:  # a handler of the program's: recording goes on
            self.notes.add("errors in logging")
