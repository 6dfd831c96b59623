"""Problems and slow frames: the counts are exact, log records have a bounded rate."""

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from latprof.text import counted, escape
from latprof.thresholds import END_TO_END
from latprof.units import format_exact, format_ns

__all__ = ["BACKGROUND_ERRORS", "Alerts", "Tally", "Violation"]

SUPPRESSED = "log records suppressed"
BACKGROUND_ERRORS = "errors in the background"


class Tally:
    """Counts by name that many threads add to, for rare events.

    The lock is reentrant, as a signal handler may add while the thread that it interrupts adds.

    Examples
    --------
    >>> tally = Tally()
    >>> tally.add("late"), tally.add("late", 2), tally.read()
    (1, 3, {'late': 3})
    """

    def __init__(self) -> None:
        self._counts: defaultdict[str, int] = defaultdict(int)
        self.reset_lock()

    def add(self, name: str, count: int = 1) -> int:
        """Add to a count and return it."""
        with self._lock:
            self._counts[name] += count
            return self._counts[name]

    def read(self) -> dict[str, int]:
        """Return a copy of the counts that are not 0."""
        return {name: count for name, count in self._counts.copy().items() if count}

    def reset_lock(self) -> None:
        """Replace the lock in the child of a fork, where the thread that held it is gone."""
        self._lock = threading.RLock()

    @property
    def total(self) -> int:
        """The sum of the counts."""
        return sum(self.read().values())


@dataclass(frozen=True, slots=True)
class Violation:
    """A span of a frame that took longer than its critical threshold.

    `Profiler` passes it to the function given as ``on_critical``.

    Parameters
    ----------
    span
        The name of the span.
    frame_id, source
        The frame; `source` is None if it has none.
    latency_ns, limit_ns
        How long the span took, and its threshold, in ns.

    Examples
    --------
    >>> from latprof import Violation
    >>> print(Violation("alsa", 7, "input", 21_000_000, 20_000_000))
    frame 7 of input, alsa 21.0 ms above 20 ms
    """

    span: str
    frame_id: int
    source: str | None
    latency_ns: int
    limit_ns: int

    def __str__(self) -> str:
        return (
            f"{_named(self.frame_id, self.source)}, {escape(self.span)} "
            f"{format_ns(self.latency_ns)} above {format_exact(self.limit_ns)}"
        )


class Alerts:
    """Counts slow frames and problems in `notes`, and logs them without flooding the log.

    Frames above a threshold are logged one by one up to `BURST` a second; the others of that second
    are counted, and one record gives their number. A problem is logged the first time it occurs,
    and so is a rejected frame, for each reason. No method raises.

    Parameters
    ----------
    logger
        The logger of all records.
    warning, critical
        Thresholds in ns, by span. Frames above them are counted and logged.
    now
        A clock in ns that is used for the rate of the log only.
    on_critical
        Called with the `Violation` of each critical frame, in the thread that finishes the frame.

    Attributes
    ----------
    warning, critical, lowest
        The thresholds; `lowest` has the lower one of each span.
    """

    BURST = 10
    PERIOD_NS = 1_000_000_000

    def __init__(
        self,
        logger: logging.Logger,
        warning: Mapping[str, int],
        critical: Mapping[str, int],
        now: Callable[[], int] = time.monotonic_ns,
        on_critical: Callable[[Violation], object] | None = None,
    ) -> None:
        self.notes = Tally()
        self._rejected = Tally()
        self.warning, self.critical = warning, critical
        self.lowest = {**critical, **warning}  # a warning is never above a critical one
        self.on_critical = on_critical
        self._logger = logger
        self._now = now
        self._second = now()
        self._in_second = 0
        self._reported = 0  # suppressed records of which the log gives the number
        self._lock = threading.RLock()  # a signal handler may interrupt the thread that holds it

    def slow(
        self, frame_id: int, source: str | None, latency_ns: int, span: str = END_TO_END
    ) -> None:
        """Count a frame above a threshold, and log it if the rate of the log allows it."""
        limit, critical = self.critical.get(span), True
        if limit is None or latency_ns <= limit:
            limit, critical = self.warning.get(span), False
            if limit is None or latency_ns <= limit:
                return
        name, level = ("critical", logging.ERROR) if critical else ("warning", logging.WARNING)
        self.notes.add("criticals" if critical else "warnings")
        if self._may_log():
            what = "took" if span == END_TO_END else f"took in {escape(span)}"
            self._log(
                level,
                f"{name} threshold {format_exact(limit)} exceeded: "
                f"{_named(frame_id, source)} {what} {format_ns(latency_ns)}",
            )
        if critical and self.on_critical is not None:
            try:
                self.on_critical(Violation(span, frame_id, source, latency_ns, limit))
            except Exception as error:
                self.error("errors of on_critical", error)

    def suppress(self, name: str, count: int) -> None:
        """Count frames above a threshold that are not logged one by one."""
        if count:
            self.notes.add(name, count)
            self.notes.add(SUPPRESSED, count)

    def problem(self, name: str, detail: str) -> None:
        """Count a wrong call or an error, and log it the first time."""
        if self.notes.add(name) == 1:
            self._log(logging.WARNING, f"{name}: {escape(detail)} (further ones are only counted)")

    def warn(self, name: str, detail: str) -> None:
        """Log a problem that is counted elsewhere."""
        self._log(logging.WARNING, f"{name}: {escape(detail)}")

    def error(self, name: str, error: Exception, remark: str = "") -> None:
        """Count an error, and log it the first time."""
        self.problem(name, f"{type(error).__name__}: {error}{remark}")

    def rejected(self, reason: str, what: str) -> None:
        """Log the first frame that is rejected for a reason; the accounts count all of them."""
        if self._rejected.add(reason) == 1:
            self._log(
                logging.WARNING,
                f"frame rejected: {reason}: {escape(what)} (further ones are only counted)",
            )

    def flush(self, *, final: bool = False) -> None:
        """Log how many records were suppressed, once their second is over."""
        with self._lock:
            if not final and self._now() - self._second < self.PERIOD_NS:
                return
            before, self._reported = self._reported, self.notes.read().get(SUPPRESSED, 0)
            suppressed = self._reported - before
        if suppressed:
            self._log(
                logging.WARNING, f"{counted(suppressed, 'more frame')} over a threshold, not logged"
            )

    def reset_lock(self) -> None:
        """Replace the locks in the child of a fork, where the thread that held them is gone."""
        self._lock = threading.RLock()
        self.notes.reset_lock()
        self._rejected.reset_lock()

    def info(self, message: str) -> None:
        """Log a message that is not a problem."""
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
        self.notes.add(SUPPRESSED)
        return False

    def _log(self, level: int, message: str) -> None:
        try:
            self._logger.log(level, "%s", message)
        except Exception:  # from a handler of the program: recording goes on
            self.notes.add("errors in logging")


def _named(frame_id: int, source: str | None) -> str:
    return f"frame {frame_id}" + ("" if source is None else f" of {escape(source)}")
