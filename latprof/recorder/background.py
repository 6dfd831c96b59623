"""The background thread: folds, samples CPU and memory, logs; never in the program's way."""

import contextlib
import threading
import time
from collections.abc import Callable

from latprof.recorder.alerts import Alerts
from latprof.recorder.hotpath import HotPath
from latprof.recorder.live_fold import PIECE, LiveFold

__all__ = ["SHORTEST_CPU_S", "Background", "sampler"]

SHORTEST_CPU_S = 0.1
"""CPU is sampled over no shorter time: the kernel counts it in ticks."""

SAMPLE_EVERY = 0.5
"""Seconds between two looks at CPU and memory."""

LONGEST_PAUSE = 0.05
"""Seconds between two looks at the ring."""


class Background(threading.Thread):
    """One daemon thread that works until `end` is called; whatever fails in it stays in it.

    Parameters
    ----------
    fold, capacity
        What is to be folded before a ring of that size comes round.
    hot
        Whose frames carry the last sample of CPU and memory.
    alerts
        What logs, and counts errors.
    interval_ns, report
        How often `report` is called; None: never.
    tick
        Called now and then.
    """

    def __init__(
        self,
        fold: LiveFold,
        capacity: int,
        hot: HotPath,
        alerts: Alerts,
        interval_ns: int | None,
        report: Callable[[], None],
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(name="latprof", daemon=True)
        self._fold = fold
        self._capacity = capacity
        self._alerts = alerts
        self._interval = None if interval_ns is None else interval_ns / 1e9
        self._report = report
        self._tick = tick
        # a plain lock for a bell: held until it rings. An Event has a lock of its own, in Python,
        # that a thread which is interrupted in it never frees
        self._bell = threading.Lock()
        self._bell.acquire()
        self._over = False
        # here and not in the thread: a fork while a thread imports leaves the child an import
        # that never ends
        self._sample: Callable[[], None] | None = None
        try:
            self._sample = sampler(hot)
        except Exception as error:
            self._failed(error)

    def end(self) -> None:
        """End the thread and wait for it, unless it is the one that calls."""
        self._over = True
        self.wake()
        if threading.current_thread() is not self:
            self.join()

    def wake(self) -> None:
        """Let it look at the ring now."""
        with contextlib.suppress(RuntimeError):  # it rings already
            self._bell.release()

    def run(self) -> None:
        """Work until the end."""
        next_sample = time.monotonic()
        next_report = next_sample + (self._interval or 0)
        # several times while a ring fills at a million frames a second
        longest = min(LONGEST_PAUSE, max(0.001, self._capacity * 0.25e-6))
        pause = 0.0
        while not self._over:
            self._bell.acquire(timeout=pause)
            if self._over:
                return
            try:
                pause = longest if self._keep_up() else 0.0
                self._tick()
                now = time.monotonic()
                if now >= next_sample:
                    next_sample = now + SAMPLE_EVERY
                    self._alerts.flush()
                    self._fold.mend()
                    if self._sample is not None:
                        self._sample()
                if self._interval is not None and now >= next_report:
                    next_report = now + self._interval
                    self._report()
            except Exception as error:
                pause = longest
                self._failed(error)

    def _keep_up(self) -> bool:
        """Fold a piece when there is enough to be worth it; return whether all is well ahead."""
        backlog = self._fold.backlog
        if backlog < max(1, min(PIECE, self._capacity // 4)):
            return True
        self._fold.step(PIECE)
        return backlog < 2 * PIECE and backlog < self._capacity // 4

    def _failed(self, error: Exception) -> None:
        self._alerts.misuse("errors in the background", f"{type(error).__name__}: {error}")


def sampler(hot: HotPath) -> Callable[[], None]:
    """Return a function that puts CPU (percent of a core) and memory into new frames' rows."""
    import psutil

    process = psutil.Process()
    process.cpu_percent(None)  # the first call only sets the point to count from
    since = time.monotonic()

    def sample() -> None:
        nonlocal since
        hot.sample(process.memory_info().rss, hot.cpu)
        now = time.monotonic()
        if now - since < SHORTEST_CPU_S:
            return  # over less, a tick of the kernel's clock is hundreds of percent
        since = now
        hot.sample(hot.rss, process.cpu_percent(None))

    return sample
