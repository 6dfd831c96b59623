"""The background thread, and the running profile into which it folds the ring.

Rows are folded before the ring comes round, so that totals stay exact. Folding in large steps would
hold up the threads of the program, so that the background folds a few thousand rows at a time.

While a profiler runs, all that must not be done by halves is done in the background thread, also
what a caller waits for: a signal handler interrupts the main thread at any place, and may raise.
"""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from latprof.accounts import Accounts
from latprof.frames import Columns, Labels
from latprof.profile.profile import Profile
from latprof.recorder.alerts import BACKGROUND_ERRORS, Alerts
from latprof.recorder.implementation import Core
from latprof.recorder.incidents import Incidents
from latprof.recorder.plausibility import Plausibility
from latprof.ring.names import OTHER_NAME
from latprof.ring.ring import Ring, Snapshot, to_columns

__all__ = ["SHORTEST_CPU_S", "Background", "LiveFold", "Rest", "cpu_and_memory_sampler"]

STEP_ROWS = 4_096  # rows folded at a time in the background
CATCH_UP_ROWS = 65_536  # rows folded at a time while a caller waits for the result
PENDING_LIMIT_NS = 1_000_000_000  # time after which a claimed number without a row is given up
DRAIN_S = 0.02  # longest wait for a writer that is not done when recording stops
LARGE_SOURCES = 4  # sources up to which the arrays of each are kept whole, some 4 to 12 MB
UNLIMITED = 2**63 - 1  # the limit of a core that may overwrite rows that are not folded

STILL_ALIVE_S = 0.05  # time between two checks whether the thread has ended

LONGEST_HOLD_NS = 200_000  # time after which a step rests
REST_S = 0.000_05  # length of a rest, in which other threads of the program run
RELAXED_ROWS = 4 * STEP_ROWS  # largest backlog at which a step rests

SHORTEST_CPU_S = 0.1  # shortest interval for a CPU sample: the kernel counts CPU time in ticks
SAMPLE_EVERY_S = 0.5  # interval between samples of CPU and memory
LONGEST_PAUSE_S = 0.05  # longest interval between two looks at the ring


_T = TypeVar("_T")


class Rest:
    """Lets other threads of the program run in a long step of the fold.

    A thread that wakes up must wait for the interpreter for up to 5 ms otherwise.

    Attributes
    ----------
    since
        When the step began or rested, or None if it must not rest.
    """

    def __init__(self) -> None:
        self.since: int | None = None

    def __call__(self) -> None:
        """Sleep, if the step has been running for long."""
        if self.since is not None and time.monotonic_ns() - self.since > LONGEST_HOLD_NS:
            time.sleep(REST_S)
            self.since = time.monotonic_ns()


class LiveFold:
    """Folds committed rows of a ring and accounts for every number that was claimed.

    Each number ends up in one place: folded, buried (the row is the tombstone of a rejected frame),
    lost (overwritten before it was folded) or torn (drawn and never completely written). Numbers
    that are drawn but not in their slots are pending: the fold looks for them again for a second or
    a lap of the ring. One thread folds at a time: the background thread, while there is one.

    Parameters
    ----------
    ring, core, incidents, alerts
        The rows, the core that writes them, and what is counted beside them.
    offset_ns
        Wall clock minus the profiler's clock.
    sampling_rate
        The sampling rate that the profile states.
    now
        A clock in ns that measures how long numbers are pending.
    max_sources
        How many sources get a profile of their own; the frames of others share one.
    plausibility
        Looks at the folded frames.

    Attributes
    ----------
    folded, torn
        Counts of numbers.
    beyond
        How many of the folded frames have a source that came after `max_sources` others.
    worker
        The running background thread, or None.
    sinks
        Functions that are called with the folded rows and their columns. They must not raise.
    """

    def __init__(
        self,
        ring: Ring,
        core: Core,
        incidents: Incidents,
        alerts: Alerts,
        offset_ns: int,
        sampling_rate: float,
        now: Callable[[], int] = time.monotonic_ns,
        max_sources: int = 1_000,
        plausibility: Plausibility | None = None,
    ) -> None:
        self._rest = Rest()
        self.profile = Profile(ring.pipeline, by="source", deadline=ring.pipeline.period)
        self._by_tag = {
            tag: Profile(ring.pipeline, by=tag, deadline=ring.pipeline.period)
            for tag in ring.tag_names
        }
        for profile in (self.profile, *self._by_tag.values()):
            profile.most_groups = max_sources + 2  # also "(none)" and "(others)"
            profile.packed_from = LARGE_SOURCES
            profile.between = self._rest
        self.beyond = 0
        self._max_sources = max_sources
        self._plausibility = plausibility
        self.worker: Background | None = None
        self.capacity = ring.capacity
        self.folded = self.torn = 0
        self._buried = 0
        self._overwritten = 0  # lost rows and tombstones
        self._ring, self._core = ring, core
        self._incidents, self._alerts = incidents, alerts
        self._offset_ns = offset_ns
        self._rate = sampling_rate
        self._now = now
        self.sinks: list[Callable[[npt.NDArray[np.void], Columns], None]] = []
        # the profiler's clock, which must not be read more often than documented, and one beside it
        self._begun = time.time_ns() - offset_ns, time.monotonic_ns()
        self._seen = 0  # the numbers up to here were looked for
        self._pending: dict[int, int] = {}  # number -> time of the first look
        self.lock = threading.RLock()
        self._busy = False  # a log handler that is called inside a fold must not fold

    def run(self, work: Callable[[], _T]) -> _T:
        """Do some work on the fold, and return its result; the background thread does it.

        Without that thread, or if the caller has the lock, the caller does it.
        """
        worker = self.worker
        if worker is None or self.lock._is_owned():  # type: ignore[attr-defined]  # as in Condition
            with self.lock:
                return work()
        return worker.call(work)

    @property
    def backlog(self) -> int:
        """How many numbers there are from the oldest unaccounted one to the newest."""
        pending = self._pending  # replaced, never changed: it may be read without the lock
        seen = min(pending) - 1 if pending else self._seen
        return self._ring.claimed - seen

    def step(self, limit: int = STEP_ROWS) -> None:
        """Fold at most `limit` new rows, with rests unless many rows wait."""
        with self._only_fold() as may_fold:
            if may_fold:
                self._rest.since = time.monotonic_ns() if self.backlog < RELAXED_ROWS else None
                self._step(limit)
                self._rest.since = None

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
        self._make_space()

    def catch_up(self, *, final: bool = False) -> None:
        """Fold all rows that are committed by now.

        With `final`, pending numbers are given up after a short wait for their writers.
        """
        self.run(lambda: self._catch_up(final=final))

    def _catch_up(self, *, final: bool) -> None:
        with self._only_fold() as may_fold:
            if not may_fold:
                return
            self._look_again()
            target = self._ring.claimed  # a fixed target: the program goes on writing
            while self._seen < target:
                self._step(CATCH_UP_ROWS)
            if final:
                self._wait_for_writers()
            self._make_space()

    def _wait_for_writers(self) -> None:
        self._make_space()
        deadline = time.monotonic() + DRAIN_S
        while (self._pending or self._incidents.waiting) and time.monotonic() < deadline:
            time.sleep(0.001)
            if self._ring.claimed > self._seen:
                deadline = time.monotonic() + DRAIN_S
            self._step(CATCH_UP_ROWS)
        self._look_again(limit_ns=-1)

    def accounts(self) -> Accounts:
        """Return where every frame is now, and the notes."""
        accounts = self.run(self._accounts)  # a fold in between would change some of the counts
        accounts.notes = self._alerts.notes.read()
        if self._plausibility is not None:
            accounts.notes |= self._plausibility.notes
        tables = (self._ring.sources, self._ring.outcomes, *self._ring.tags)
        for what, count in (
            ("names beyond the table", sum(table.overflowed for table in tables)),
            ("frames of sources beyond max_sources", self.beyond),
            ("names that were cut", sum(table.clipped for table in tables)),
            ("frames in flight beyond the slots", self._core.unprotected),
        ):
            if count:
                accounts.notes[what] = count
        return accounts

    def _accounts(self) -> Accounts:
        core, names = self._core, self._ring.outcomes.table
        # read in reverse order of writing: a frame is started before its number is drawn, and
        # folded after that. No call between the first four: a signal handler might fold there
        folded, buried = self.folded, self._buried
        overwritten, torn = self._overwritten, self.torn
        rejected = self._incidents.rejections.read()
        tombstones, refused = core.tombstones, core.refused
        dropped: dict[str, int] = {}
        for code, count in dict(core.dropped).items():  # several codes may have the same name
            dropped[str(names[code])] = dropped.get(str(names[code]), 0) + count
        drawn = core.drawn - tombstones
        started = core.started
        # tombstones that were not seen are among the overwritten rows, or among the torn ones if
        # their writer was interrupted; their frames are counted as rejected
        unseen = max(0, tombstones - buried)
        lost = max(0, overwritten - unseen)
        torn = max(0, torn - (unseen - (overwritten - lost)))
        return Accounts(
            started=started,
            in_flight=started - drawn - refused - sum(rejected.values()),
            finished=drawn + refused - sum(dropped.values()),
            dropped=dropped,
            rejected=rejected,
            sampled_out=core.skipped,
            folded=folded,
            not_folded=drawn - folded - lost - torn,
            lost=lost + refused,
            torn=torn,
        )

    def copy(self, by: str = "source") -> Profile:
        """Return a copy of the running profile with groups of sources or of a tag.

        It takes little time, also with many groups.
        """
        return self.run((self.profile if by == "source" else self._by_tag[by]).copy)

    def reset_lock(self) -> None:
        """Replace the lock in the child of a fork, where the thread that held it is gone."""
        self.lock = threading.RLock()
        self._busy = False
        self.worker = None

    def _make_space(self) -> None:
        """Let the core draw the numbers that replace settled rows."""
        if self._core.limit < UNLIMITED:
            settled = min(self._pending) - 1 if self._pending else self._seen
            self._core.limit = max(self._core.limit, settled + self.capacity)

    def beat(self) -> None:
        """Store a sign of life in the ring's file: until when frames in flight are known to be."""
        begun_clock, begun_ns = self._begun
        self._ring.beat(begun_clock + time.monotonic_ns() - begun_ns)

    # -- numbers ---------------------------------------------------------------------------------

    def _account(self, found: Snapshot) -> None:
        """Account for numbers that are seen for the first time, and fold their rows."""
        self._pending = self._pending | dict.fromkeys(found.pending, self._now())
        self._overwritten += found.overwritten
        if found.overwritten and self._plausibility is not None:
            self._plausibility.lost()
        self._fold(found.rows)

    def _look_again(self, limit_ns: int = PENDING_LIMIT_NS) -> None:
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
        self._overwritten += found.overwritten + len(given_up) - torn
        self._pending = waiting
        self._fold(found.rows)

    # -- rows ------------------------------------------------------------------------------------

    def _fold(self, rows: npt.NDArray[np.void]) -> None:
        live = rows["weight"] != 0
        if not live.all():
            self._buried += len(rows) - int(live.sum())
            rows = rows[live]
        if not len(rows):
            return
        columns = to_columns(rows, self._ring, self._offset_ns)
        self._rest()
        if self._plausibility is not None:
            self._plausibility.look(columns)
        self._rest()
        for sink in self.sinks:
            sink(rows, columns)
        columns.source, beyond = _grouped(columns.source, self._max_sources)
        self.profile.add(columns, self._rate)
        for k, (tag, profile) in enumerate(self._by_tag.items()):
            values = self._ring.tags[k].labels(rows[f"tag {k}"])
            columns.tags = {tag: _grouped(values, self._max_sources)[0]}
            profile.add(columns, self._rate)
        self.beyond += beyond
        self.folded += len(rows)


class Background(threading.Thread):
    """A daemon thread that folds, samples CPU and memory, and logs reports until `end` is called.

    Then it winds up: it folds what is left and closes the files. Errors in the thread are counted
    and logged the first time; the thread goes on.

    Parameters
    ----------
    fold
        What folds the ring.
    core, alerts
        Its new rows get the samples of CPU and memory; errors are counted and logged.
    interval_ns, report
        How often `report` is called; never if None.
    tick
        Called several times a second, and with ``final=True`` at the end.
    """

    def __init__(
        self,
        fold: LiveFold,
        core: Core,
        alerts: Alerts,
        interval_ns: int | None,
        report: Callable[[], None],
        tick: Callable[..., None],
    ) -> None:
        super().__init__(name="latprof", daemon=True)
        self._fold = fold
        self._alerts = alerts
        self._interval = None if interval_ns is None else interval_ns / 1e9
        self._report = report
        self._tick = tick
        # released to wake the thread. An Event would not do: a thread that is interrupted inside
        # it never releases the lock that it has in Python
        self._wake = threading.Lock()
        self._wake.acquire()
        self._over = False
        self._work: deque[Callable[[], None]] = deque()  # that callers wait for
        # not `join` and `is_alive`: in CPython 3.11 a join that is interrupted by an exception
        # marks the thread as ended
        self._has_ended = False
        self._end = threading.Lock()
        self._end.acquire()
        # not in the thread: if the process forks during an import, the import never ends in the
        # child
        self._sample: Callable[[], None] | None = None
        try:
            self._sample = cpu_and_memory_sampler(core)
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
                with contextlib.suppress(ValueError):  # it is done, or being done
                    self._work.remove(job)
                    job()
        if errors:
            raise errors[0]
        return results[0]

    def wake(self) -> None:
        """Make the thread look at the ring now."""
        with contextlib.suppress(RuntimeError):  # it is released already
            self._wake.release()

    def run(self) -> None:
        """Work until `end` is called, and wind up."""
        try:
            self._work_until_the_end()
            self.wind_up()
        finally:
            self._fold.worker = None
            self._do_work()  # what was asked for before this line; see `call`
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
        # several looks in the time in which a million frames a second fill the ring
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
    """Return a function that gives new rows the CPU (percent of a core) and memory in use."""
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


def _grouped(sources: Any, most: int) -> tuple[Labels, int]:
    """Return the sources with all but the first `most` names replaced by "(others)", and how many.

    The names are in the order in which they came first.
    """
    beyond = int(np.count_nonzero(sources.codes >= most))
    if not beyond:
        return Labels(sources.codes, sources.names), 0
    names = (*sources.names[:most], OTHER_NAME)
    return Labels(np.minimum(sources.codes, np.int32(most)), names), beyond
