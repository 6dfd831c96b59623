"""The background thread, and the running profile into which it folds the ring.

Rows are folded before the ring comes round, so that totals stay exact. Folding in large steps would
hold up the threads of the program, so that the background folds a few thousand rows at a time.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from latprof.accounts import Accounts
from latprof.frames import Columns, Labels
from latprof.profile.profile import Profile
from latprof.recorder.alerts import BACKGROUND_ERRORS
from latprof.recorder.hotpath import HotPath
from latprof.recorder.stamping import BAD_STAMP, shown
from latprof.ring.names import OTHER_NAME
from latprof.ring.ring import Ring, Snapshot, count_of, storable, to_columns

__all__ = ["SHORTEST_CPU_S", "Background", "LiveFold", "cpu_and_memory_sampler"]

STEP_ROWS = 4_096  # rows folded at a time in the background
CATCH_UP_ROWS = 65_536  # rows folded at a time while a caller waits for the result
PENDING_LIMIT_NS = 1_000_000_000  # time after which a claimed number without a row is given up
DRAIN_S = 0.02  # longest wait for a writer that is not done when recording stops

SHORTEST_CPU_S = 0.1  # shortest interval for a CPU sample: the kernel counts CPU time in ticks
SAMPLE_EVERY_S = 0.5  # interval between samples of CPU and memory
LONGEST_PAUSE_S = 0.05  # longest interval between two looks at the ring


class LiveFold:
    """Folds committed rows of a ring and accounts for every number that was claimed.

    Each number ends up in one place: folded, void (the frame was rejected), lost (overwritten
    before it was folded) or torn (claimed and never completely written). Numbers that are claimed
    but not in their slots are pending: the fold looks for them again for a second or a lap of the
    ring. One thread folds at a time.

    Parameters
    ----------
    ring, hot
        The rows, and the functions and counters that write them.
    offset_ns
        Wall clock minus the profiler's clock.
    sampling_rate
        The sampling rate that the profile states.
    now
        A clock in ns that measures how long numbers are pending.
    max_sources
        How many sources get a profile of their own; the frames of others share one.

    Attributes
    ----------
    folded, lost, torn
        Counts of numbers.
    beyond
        How many of the folded frames have a source that came after `max_sources` others.
    sinks
        Functions that are called with the folded rows and their columns. They must not raise.
    """

    def __init__(
        self,
        ring: Ring,
        hot: HotPath,
        offset_ns: int,
        sampling_rate: float,
        now: Callable[[], int] = time.monotonic_ns,
        max_sources: int = 1_000,
    ) -> None:
        self.profile = Profile(ring.pipeline, by="source", deadline=ring.pipeline.period)
        self.profile.most_groups = max_sources + 2  # also "(none)" and "(others)"
        self.beyond = 0
        self._max_sources = max_sources
        self.capacity = ring.capacity
        self.folded = self.lost = self.torn = 0
        self._ring = ring
        self._hot = hot
        self._offset_ns = offset_ns
        self._rate = sampling_rate
        self._now = now
        self.sinks: list[Callable[[npt.NDArray[np.void], Columns], None]] = []
        self._freed = 0  # slots of the numbers up to here are free again
        self._seen = 0  # the numbers up to here were looked for
        self._pending: dict[int, int] = {}  # number -> time of the first look
        self.lock = threading.RLock()
        self._busy = False  # a signal handler inside a fold must not fold

    @property
    def is_held_by_caller(self) -> bool:
        """Whether the calling thread holds the lock already, as a signal handler may."""
        return bool(self.lock._is_owned())  # type: ignore[attr-defined]  # as in Condition

    @property
    def backlog(self) -> int:
        """How many numbers there are from the oldest unaccounted one to the newest."""
        pending = self._pending  # replaced, never changed: it may be read without the lock
        seen = min(pending) - 1 if pending else self._seen
        return self._ring.claimed - seen

    @property
    def refused(self) -> int:
        """How many frames found no free slot in the ring."""
        return 0 if self._hot.free_slots is None else self._hot.free_slots.refused

    def step(self, limit: int = STEP_ROWS) -> None:
        """Fold at most `limit` new rows."""
        with self._only_fold() as may_fold:
            if may_fold:
                self._step(limit)

    @contextlib.contextmanager
    def _only_fold(self) -> Iterator[bool]:
        """Exclude other folds; yield False if a signal handler calls this inside a fold."""
        with self.lock:
            busy = self._busy
            try:
                self._busy = True
                yield not busy
            finally:
                self._busy = busy

    def _step(self, limit: int) -> None:
        if self._pending:
            self._look_again()
        found = self._ring.read(self._seen, limit)
        if found.first <= found.last:
            self._seen = found.last
            self._account(found)
        self._free_slots()

    def catch_up(self, *, final: bool = False) -> None:
        """Fold all rows that are committed by now.

        With `final`, pending numbers are given up after a short wait for their writers.
        """
        with self._only_fold() as may_fold:
            if not may_fold:
                return
            self._look_again()
            target = self._ring.claimed  # a fixed target: the program goes on writing
            while self._seen < target:
                self._step(CATCH_UP_ROWS)
            if final:
                self._wait_for_writers()
            self._free_slots()

    def _wait_for_writers(self) -> None:
        self._free_slots()
        deadline = time.monotonic() + DRAIN_S
        while (self._pending or self._has_writers) and time.monotonic() < deadline:
            time.sleep(0.001)
            if self._ring.claimed > self._seen:
                deadline = time.monotonic() + DRAIN_S
            self._step(CATCH_UP_ROWS)
        self._look_again(limit_ns=-1)

    @property
    def _has_writers(self) -> bool:
        """Whether writers that began before recording stopped wait for a slot or have one."""
        slots = self._hot.free_slots
        return slots is not None and slots.has_writers(self._ring.claimed - self._freed)

    def accounts(self) -> Accounts:
        """Return where every frame is now."""
        with self._only_fold() as may_fold:  # a fold in between would change some of the counts
            if may_fold:
                self._settle_voids()
            return self._accounts()

    def _accounts(self) -> Accounts:
        hot = self._hot
        # read in reverse order of writing: a frame is started before its number is claimed
        rejected = hot.rejected.read()
        void = hot.void.read()
        dropped = hot.dropped.read()
        refused = self.refused
        claimed = self._ring.claimed - sum(void.values()) + refused
        started = count_of(hot.started)
        for reason, count in void.items():
            rejected[reason] = rejected.get(reason, 0) + count
        return Accounts(
            started=started,
            in_flight=started - claimed - sum(rejected.values()),
            finished=claimed - sum(dropped.values()),
            dropped=dropped,
            rejected=rejected,
            sampled_out=count_of(hot.skipped),
            folded=self.folded,
            not_folded=claimed - refused - self.folded - self.lost - self.torn,
            lost=self.lost + refused,
            torn=self.torn,
        )

    def rejected(self, numbers: npt.NDArray[np.uint64]) -> int:
        """Return how many numbers belong to rejected frames.

        `numbers` are those of invalid rows; they are added if they are not accounted for yet.
        """
        pending = np.array(list(self._pending), np.uint64)
        unseen = np.count_nonzero((numbers > self._seen) | np.isin(numbers, pending))
        return self._hot.void.total + int(unseen)

    def copy(self) -> Profile:
        """Return a copy of the running profile."""
        with self.lock:
            return self.profile.copy()

    def reset_lock(self) -> None:
        """Replace the lock in the child of a fork, where the thread that held it is gone."""
        self.lock = threading.RLock()
        self._busy = False

    def _free_slots(self) -> None:
        """Free the slots of all numbers up to the first pending one."""
        slots = self._hot.free_slots
        if slots is not None:
            settled = min(self._pending) - 1 if self._pending else self._seen
            freed, self._freed = self._freed, max(self._freed, settled)
            slots.release(self._freed - freed)

    def reclaim_slots(self) -> None:
        """Free the slots of writers that were interrupted before they claimed a number."""
        if self._hot.free_slots is not None:
            with self.lock:
                self._hot.free_slots.reclaim(lambda: self._ring.claimed - self._freed)

    # -- numbers ---------------------------------------------------------------------------------

    def _account(self, found: Snapshot) -> None:
        """Account for numbers that are seen for the first time, and fold their rows."""
        missing = set(found.pending)
        void = {n for n in tuple(self._hot.voids) if found.first <= n <= found.last}
        self._hot.voids -= void
        now = self._now()
        self._pending = self._pending | dict.fromkeys(missing - void, now)
        self.lost += found.overwritten - len(void - missing)
        self._fold(found.rows)

    def _look_again(self, limit_ns: int = PENDING_LIMIT_NS) -> None:
        self._settle_voids()
        if not self._pending:
            return
        found = self._ring.read_numbers(list(self._pending))
        now = self._now()
        lapped = self._ring.claimed - self._ring.capacity
        waiting = {
            number: since
            for number in found.pending
            if now - (since := self._pending[number]) <= limit_ns and number > lapped
        }
        given_up = [number for number in found.pending if number not in waiting]
        torn = sum(map(self._ring.is_torn, given_up))
        self.torn += torn
        self.lost += found.overwritten + len(given_up) - torn
        self._pending = waiting
        self._fold(found.rows)

    def _settle_voids(self) -> None:
        """Correct the counts of numbers that were rejected after they were accounted for."""
        for number in [n for n in tuple(self._hot.voids) if n <= self._seen]:
            self._hot.voids.discard(number)
            if number in self._pending:
                self._pending = {n: t for n, t in self._pending.items() if n != number}
            elif self.lost:
                self.lost -= 1
            else:
                self.torn -= 1

    # -- rows ------------------------------------------------------------------------------------

    def _fold(self, rows: npt.NDArray[np.void]) -> None:
        if not len(rows):
            return
        fit = storable(rows, self._ring.pipeline)
        if fit is not None:
            self._reject(rows[~fit])
            rows = rows[fit]
        columns = to_columns(rows, self._ring, self._offset_ns)
        for sink in self.sinks:
            sink(rows, columns)
        columns.source, beyond = _grouped(columns.source, self._max_sources)
        self.profile.add(columns, self._rate)
        self.beyond += beyond
        self.folded += len(rows)

    def _reject(self, rows: npt.NDArray[np.void]) -> None:
        """Count rows with stamps out of range: rejected, neither finished nor dropped."""
        for name, count in self._ring.outcomes.labels(rows["outcome"]).counts().items():
            if name != self._ring.outcomes.table[0]:
                self._hot.dropped.add(str(name), -count)
        self._hot.void.add(BAD_STAMP, len(rows))
        self._hot.alerts.rejected(BAD_STAMP, shown(int(rows["frame_id"][0])))


class Background(threading.Thread):
    """A daemon thread that folds, samples CPU and memory, and logs reports until `end` is called.

    Errors in the thread are counted and logged the first time; the thread goes on.

    Parameters
    ----------
    fold
        What folds the ring.
    hot
        Its new rows get the samples of CPU and memory.
    interval_ns, report
        How often `report` is called; never if None.
    tick
        Called several times a second.
    """

    def __init__(
        self,
        fold: LiveFold,
        hot: HotPath,
        interval_ns: int | None,
        report: Callable[[], None],
        tick: Callable[[], None],
    ) -> None:
        super().__init__(name="latprof", daemon=True)
        self._fold = fold
        self._alerts = hot.alerts
        self._interval = None if interval_ns is None else interval_ns / 1e9
        self._report = report
        self._tick = tick
        # released to wake the thread. An Event would not do: a thread that is interrupted inside
        # it never releases the lock that it has in Python
        self._wake = threading.Lock()
        self._wake.acquire()
        self._over = False
        # not in the thread: if the process forks during an import, the import never ends in the
        # child
        self._sample: Callable[[], None] | None = None
        try:
            self._sample = cpu_and_memory_sampler(hot)
        except Exception as error:
            self._alerts.error(BACKGROUND_ERRORS, error)

    def end(self) -> None:
        """End the thread and wait for it, unless the thread itself calls this."""
        self._over = True
        self.wake()
        if threading.current_thread() is not self:
            self.join()

    def wake(self) -> None:
        """Make the thread look at the ring now."""
        with contextlib.suppress(RuntimeError):  # it is released already
            self._wake.release()

    def run(self) -> None:
        """Work until `end` is called."""
        next_sample = time.monotonic()
        next_report = next_sample + (self._interval or 0)
        # several looks in the time in which a million frames a second fill the ring
        longest = min(LONGEST_PAUSE_S, max(0.001, self._fold.capacity * 0.25e-6))
        pause = 0.0
        while not self._over:
            self._wake.acquire(timeout=pause)
            if self._over:
                return
            try:
                pause = longest if self._keep_up() else 0.0
                self._tick()
                now = time.monotonic()
                if now >= next_sample:
                    next_sample = now + SAMPLE_EVERY_S
                    self._alerts.flush()
                    self._fold.reclaim_slots()
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


def cpu_and_memory_sampler(hot: HotPath) -> Callable[[], None]:
    """Return a function that gives new rows the CPU (percent of a core) and memory in use."""
    import psutil

    process = psutil.Process()
    process.cpu_percent(None)  # the first call sets the begin of the interval
    since = time.monotonic()

    def sample() -> None:
        nonlocal since
        hot.sample(process.memory_info().rss, hot.cpu)
        now = time.monotonic()
        if now - since < SHORTEST_CPU_S:
            return  # in a shorter interval, one tick of the kernel is hundreds of percent
        since = now
        hot.sample(hot.rss, process.cpu_percent(None))

    return sample


def _grouped(sources: Any, most: int) -> tuple[Labels, int]:
    """Return the sources with all but the first `most` names replaced by "(others)", and how many.

    The names are in the order in which they came first.
    """
    beyond = int(np.count_nonzero(sources.codes >= most))
    if not beyond:
        return Labels(sources.codes, sources.names), 0
    names = (*sources.names[:most], OTHER_NAME)
    return Labels(np.minimum(sources.codes, np.int32(most)), names), beyond
