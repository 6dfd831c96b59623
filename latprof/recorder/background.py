"""The background thread.

While a profiler runs, work that must not be interrupted is done in the background thread, even if
a caller waits for it: a signal handler may interrupt the main thread anywhere, and may raise.
"""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from latprof.recorder.alerts import BACKGROUND_ERRORS
from latprof.recorder.implementation import Core
from latprof.recorder.live_fold import STEP_ROWS, LiveFold
from latprof.recorder.shared import Shared

__all__ = ["SHORTEST_CPU_S", "Background", "cpu_and_memory_sampler"]

STILL_ALIVE_S = 0.05  # time between two checks whether the thread has ended

SHORTEST_CPU_S = 0.1  # shortest interval for a CPU sample: the kernel counts CPU time in ticks
SAMPLE_EVERY_S = 0.5  # interval between samples of CPU and memory
LONGEST_PAUSE_S = 0.05  # longest interval between two looks at the ring

_T = TypeVar("_T")


class Background(threading.Thread):
    """A daemon thread that folds, samples CPU and memory, and logs reports until `end` is called.

    Then it winds up: it folds what is left and closes the files. Errors in the thread are counted
    and logged the first time; the thread goes on.

    Parameters
    ----------
    shared, fold
        The parts of the profiler, and the fold of its ring.
    report
        Called as often as the setting `report_interval` says.
    tick
        Called several times a second, and with ``final=True`` at the end.
    """

    def __init__(
        self,
        shared: Shared,
        fold: LiveFold,
        report: Callable[[], object],
        tick: Callable[..., None],
    ) -> None:
        super().__init__(name="latprof", daemon=True)
        self._fold = fold
        self._alerts = shared.alerts
        interval_ns = shared.settings.report_interval
        self._interval = None if interval_ns is None else interval_ns / 1e9
        self._report = report
        self._tick = tick
        # released to wake the thread. An Event would not do: a thread that is interrupted inside
        # it never releases the lock that it has in Python
        self._wake = threading.Lock()
        self._wake.acquire()
        self._over = False
        self._work: deque[Callable[[], None]] = deque()  # work that callers wait for
        # not `join` and `is_alive`: in CPython 3.11 a join that is interrupted by an exception
        # marks the thread as ended
        self._has_ended = False
        self._end = threading.Lock()
        self._end.acquire()
        # made here, not in the thread: it imports psutil, and if the process forks during an import
        # in another thread, the import never ends in the child
        self._sample: Callable[[], None] | None = None
        try:
            self._sample = cpu_and_memory_sampler(shared.core)
        except Exception as error:
            self._alerts.error(BACKGROUND_ERRORS, error)

    def start(self) -> None:
        """Start the thread, which does the work of the fold from now on."""
        super().start()
        self._fold.worker = self

    def end(self) -> None:
        """Let the thread wind up, and wait for it, unless the thread itself calls this.

        The wait may be interrupted; then the thread goes on, and the next call waits again.
        """
        self._over = True
        self.wake()
        if self.ident is not None and threading.get_ident() != self.ident:
            while not self._has_ended:
                self._end.acquire(timeout=STILL_ALIVE_S)
            self.join(1.0)  # all is done; the system's thread is about to end

    def call(self, work: Callable[[], _T]) -> _T:
        """Do some work in the thread, and return its result, or raise its exception.

        If the wait for it is interrupted, the work is done nevertheless.
        """
        if threading.get_ident() == self.ident:
            with self._fold.lock:
                return work()
        done = threading.Lock()  # not an Event, as above
        done.acquire()
        results: list[_T] = []
        errors: list[BaseException] = []

        def job() -> None:
            try:
                with self._fold.lock:
                    results.append(work())
            except BaseException as error:
                errors.append(error)
            done.release()

        self._work.append(job)
        self.wake()
        while not done.acquire(timeout=STILL_ALIVE_S):
            if self._has_ended:
                with contextlib.suppress(ValueError):  # the thread has taken the job
                    self._work.remove(job)
                    job()
        if errors:
            raise errors[0]
        return results[0]

    def wake(self) -> None:
        """Make the thread look at the ring now."""
        with contextlib.suppress(RuntimeError):  # the lock is released already
            self._wake.release()

    def run(self) -> None:
        """Work until `end` is called, and wind up."""
        try:
            self._work_until_the_end()
            self.wind_up()
        finally:
            self._fold.worker = None
            self._do_work()  # jobs added before the line above; `call` does later ones itself
            self._has_ended = True
            self._end.release()

    def wind_up(self) -> None:
        """Fold all that is left, and close the files."""
        steps: list[Callable[..., None]] = [self._fold.catch_up, self._tick, self._alerts.flush]
        for step in steps:
            try:
                step(final=True)
            except Exception as error:  # the other steps must not be left out
                self._alerts.error(BACKGROUND_ERRORS, error)

    def _do_work(self) -> None:
        """Do the work that callers wait for."""
        while self._work:
            self._work.popleft()()

    def _work_until_the_end(self) -> None:
        next_sample = time.monotonic()
        next_report = next_sample + (self._interval or 0)
        # at a million frames a second, the thread looks several times while the ring fills once
        longest = min(LONGEST_PAUSE_S, max(0.001, self._fold.capacity * 0.25e-6))
        pause = 0.0
        while not self._over:
            self._wake.acquire(timeout=pause)
            if self._over:
                return
            try:
                self._do_work()
                pause = longest if self._keep_up() else 0.0
                self._tick()
                now = time.monotonic()
                if now >= next_sample:
                    next_sample = now + SAMPLE_EVERY_S
                    self._fold.beat()
                    self._alerts.flush()
                    if self._sample is not None:
                        self._sample()
                if self._interval is not None and now >= next_report:
                    next_report = now + self._interval
                    self._report()
            except Exception as error:
                pause = longest
                self._alerts.error(BACKGROUND_ERRORS, error)

    def _keep_up(self) -> bool:
        """Fold a step if enough rows wait; return whether the thread may pause."""
        backlog = self._fold.backlog
        if backlog < max(1, min(STEP_ROWS, self._fold.capacity // 4)):
            return True
        self._fold.step(STEP_ROWS)
        return backlog < 2 * STEP_ROWS and backlog < self._fold.capacity // 4


def cpu_and_memory_sampler(core: Core) -> Callable[[], None]:
    """Return a function that sets the CPU (percent of a processor) and memory of new rows."""
    import psutil

    process = psutil.Process()
    process.cpu_percent(None)  # the first call sets the begin of the interval
    since = time.monotonic()

    def sample() -> None:
        """Store CPU and memory in the core."""
        nonlocal since
        core.rss = process.memory_info().rss
        now = time.monotonic()
        if now - since < SHORTEST_CPU_S:
            return  # in a shorter interval, one tick of the kernel is hundreds of percent
        since = now
        core.cpu = process.cpu_percent(None)

    return sample
