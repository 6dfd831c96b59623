"""The running profile, into which the rows of a ring are folded.

Rows are folded before newer rows overwrite them, so that totals stay exact. Large steps would hold
up the threads of the program, so the background thread folds a few thousand rows at a time.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from latprof.accounts import Accounts
from latprof.errors import ProfilerError
from latprof.frames import Columns, Labels
from latprof.profile.profile import Profile
from latprof.recorder.plausibility import Plausibility
from latprof.recorder.shared import Shared
from latprof.ring.names import OTHER_NAME
from latprof.ring.ring import Snapshot, to_columns
from latprof.text import quoted

if TYPE_CHECKING:
    from latprof.recorder.background import Background

__all__ = ["STEP_ROWS", "LiveFold", "Rest"]

STEP_ROWS = 8_192  # rows folded at a time in the background
CATCH_UP_ROWS = 65_536  # rows folded at a time while a caller waits for the result
PENDING_LIMIT_NS = 1_000_000_000  # time after which a claimed number without a row is given up
DRAIN_S = 0.02  # longest wait for a writer that is not done when recording stops
LARGE_SOURCES = 4  # first sources with arrays that are not packed, 4 to 12 MB each
UNLIMITED = 2**63 - 1  # the limit of a core that may overwrite rows that are not folded

LONGEST_HOLD_NS = 200_000  # time after which a step rests
REST_S = 0.000_05  # length of a rest, in which other threads of the program run
RELAXED_ROWS = 2 * STEP_ROWS  # largest backlog at which a step rests

_T = TypeVar("_T")


class Rest:
    """Lets other threads of the program run during a long step of the fold.

    Otherwise a thread that wakes up must wait up to 5 ms for the interpreter.

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
    """Folds committed rows of a ring and accounts for every number that was drawn.

    Each number ends in one state: folded, buried (its row is the tombstone of a rejected frame),
    lost (overwritten before it was folded) or torn (drawn and never completely written). Numbers
    that were drawn, but have no row in their slots, are pending: the fold looks for their rows
    again for a second or a lap of the ring. One thread folds at a time: the background thread,
    while there is one.

    Parameters
    ----------
    shared
        The parts of the profiler.

    Attributes
    ----------
    folded, torn
        Counts of numbers.
    beyond
        How many of the folded frames have a source that came after `max_sources` others.
    worker
        The running background thread, or None.
    plausibility
        Checks the folded frames, or None.
    sinks
        Functions that are called with the folded rows and their columns. They must not raise.
    """

    def __init__(self, shared: Shared) -> None:
        settings, ring = shared.settings, shared.ring
        self._rest = Rest()
        self.profile = Profile(ring.pipeline, by="source", deadline=ring.pipeline.period)
        self._by_tag = {
            tag: Profile(ring.pipeline, by=tag, deadline=ring.pipeline.period)
            for tag in ring.tag_names
        }
        for profile in (self.profile, *self._by_tag.values()):
            profile.most_groups = settings.max_sources + 2  # also "(none)" and "(others)"
            profile.packed_from = LARGE_SOURCES
            profile.between = self._rest
        self.beyond = 0
        self._max_sources = settings.max_sources
        self.plausibility = Plausibility(ring.pipeline, shared.alerts)
        self.worker: Background | None = None
        self.capacity = ring.capacity
        self.folded = self.torn = 0
        self._buried = 0
        self._overwritten = 0  # lost rows and tombstones
        self._ring, self._core = ring, shared.core
        self._incidents, self._alerts = shared.incidents, shared.alerts
        self._recording, self._meta = shared.recording, settings.meta
        self._offset_ns = shared.recording.offset_ns
        self._now: Callable[[], int] = time.monotonic_ns
        self._rate = settings.sampling_rate
        self.sinks: list[Callable[[npt.NDArray[np.void], Columns], None]] = []
        # the profiler's clock, computed as it must not be read more often than documented, and
        # another clock at the same time
        self._begun = time.time_ns() - self._offset_ns, time.monotonic_ns()
        self._seen = 0  # the rows of all numbers up to this one were looked for
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
        """How many numbers were drawn since the oldest one that is not accounted for, with it."""
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
        self._rest()
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
        accounts = self.run(self._accounts)  # a fold meanwhile would change some of the counts
        accounts.notes = self._alerts.notes.read()
        accounts.notes |= self.plausibility.notes
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
        # read in reverse order of writing: a frame is first started, then gets a number, and is
        # folded last. No call between the first four reads: a signal handler might fold there
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
        """Return a profile of all frames so far, with groups of sources or of a tag.

        The copy takes little time, also with many groups. An unknown tag raises ProfilerError.
        """
        known = ("source", *self._by_tag)
        if by not in known:
            raise ProfilerError(
                f"by must be one of {', '.join(known)}, got {quoted(by)}; give the tag to "
                "Profiler(tags=...)"
            )
        return self.run(lambda: self._copy(by))

    def _copy(self, by: str) -> Profile:
        self._catch_up(final=False)
        profile = (self.profile if by == "source" else self._by_tag[by]).copy()
        profile.segments = set(self._recording.segments())
        profile.labels = {name: str(value) for name, value in self._meta.items()}
        profile.accounts = self.accounts()
        return profile

    def reset_lock(self) -> None:
        """Replace the lock in the child of a fork, where the thread that held it is gone."""
        self.lock = threading.RLock()
        self._busy = False
        self.worker = None

    def _make_space(self) -> None:
        """Let the core draw numbers that overwrite rows which are accounted for."""
        if self._core.limit < UNLIMITED:
            settled = min(self._pending) - 1 if self._pending else self._seen
            self._core.limit = max(self._core.limit, settled + self.capacity)

    def beat(self) -> None:
        """Store a sign of life in the ring's file: frames in flight are in flight until then."""
        begun_clock, begun_ns = self._begun
        self._ring.beat(begun_clock + time.monotonic_ns() - begun_ns)

    # -- numbers ---------------------------------------------------------------------------------

    def _account(self, found: Snapshot) -> None:
        """Account for numbers that are seen for the first time, and fold their rows."""
        self._pending = self._pending | dict.fromkeys(found.pending, self._now())
        self._overwritten += found.overwritten
        if found.overwritten:
            self.plausibility.lost()
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
        self._rest()
        columns = to_columns(rows, self._ring, self._offset_ns)
        self._rest()
        self.plausibility.look(columns)
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


def _grouped(sources: Any, most: int) -> tuple[Labels, int]:
    """Return sources in which "(others)" replaces all but the first `most` names.

    The second value is the number of frames with replaced names. Names are in the order in which
    they occurred first.
    """
    beyond = int(np.count_nonzero(sources.codes >= most))
    if not beyond:
        return Labels(sources.codes, sources.names), 0
    names = (*sources.names[:most], OTHER_NAME)
    return Labels(np.minimum(sources.codes, np.int32(most)), names), beyond
