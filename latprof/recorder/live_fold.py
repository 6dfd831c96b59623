"""Folding a ring into a running profile before it comes round, so that totals stay exact."""

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from latprof.frames import Columns, Labels
from latprof.profile.profile import Accounts, Profile
from latprof.recorder.hotpath import HotPath
from latprof.recorder.stamping import BAD_STAMP, shown
from latprof.ring.ring import OTHER_NAME, Ring, Rows, count_of, storable, to_columns

__all__ = ["LARGE_PIECE", "PIECE", "LiveFold", "columns_of"]

PIECE = 4_096
"""Rows folded at a time in the background: more in one go would hold up the program's threads."""

LARGE_PIECE = 65_536
"""Rows folded at a time where somebody waits for the result."""

PATIENCE_NS = 1_000_000_000
"""How long a claimed number may stay away from its slot before it is given up."""

RESERVED = 10
"""Groups of a profile that are left for frames without a source and for those of all others."""

GRACE_S = 0.02
"""How long writers that are not done are waited for when recording stops."""


class LiveFold:
    """Folds what `hot` commits to `ring`, and accounts for every number that was claimed.

    Each number ends up in one place: folded, void (the frame was rejected), lost (overwritten
    before being folded) or torn (claimed and never written whole). Those claimed and not seen yet
    are looked for again, for a second or a lap of the ring. One thread at a time folds.

    Parameters
    ----------
    ring, hot
        Where the rows are, and who writes them.
    offset_ns
        Wall clock minus the profiler's clock.
    sampling_rate
        What the profile is to be told.
    now
        A clock in ns, for patience alone.

    Attributes
    ----------
    sinks
        Called with the rows that are folded, and with their columns. They do not raise.
    """

    def __init__(
        self,
        ring: Ring,
        hot: HotPath,
        offset_ns: int,
        sampling_rate: float,
        now: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.profile = Profile(ring.pipeline, by="source", deadline=ring.pipeline.period)
        self.folded = 0
        self.lost = 0
        self.torn = 0
        self._ring = ring
        self._hot = hot
        self._offset_ns = offset_ns
        self._rate = sampling_rate
        self._now = now
        self.sinks: list[Callable[[npt.NDArray[np.void], Columns], None]] = []
        self._given = 0  # numbers up to here have made room
        self._seen = 0  # all numbers up to here have been looked for
        self._pending: dict[int, int] = {}  # number -> when it was missed first
        self.lock = threading.RLock()
        self._busy = False  # a signal handler that comes from within a fold must not fold, too

    @property
    def is_ours(self) -> bool:
        """Whether the thread that asks has the lock already: a signal handler from within."""
        return bool(self.lock._is_owned())  # type: ignore[attr-defined]  # as Condition asks it

    @property
    def backlog(self) -> int:
        """How many numbers from the oldest one that is not accounted for up to the newest."""
        pending = self._pending  # replaced, never changed: may be read without the lock
        seen = min(pending) - 1 if pending else self._seen
        return self._ring.claimed - seen

    @property
    def void(self) -> int:
        """How many numbers are those of frames that were rejected."""
        return sum(self._hot.void.read().values())

    @property
    def refused(self) -> int:
        """How many frames found no room in the ring."""
        return 0 if self._hot.room is None else self._hot.room.refused

    def step(self, piece: int = PIECE) -> None:
        """Fold at most `piece` new rows."""
        with self.lock:
            if self._busy:
                return
            try:
                self._busy = True
                self._step(piece)
            finally:
                self._busy = False

    def _step(self, piece: int) -> None:
        if self._pending:
            self._look_again()
        found = self._ring.read(self._seen, piece)
        if found.first <= found.last:
            self._seen = found.last
            self._take(found)
        self._make_room()

    def catch_up(self, *, final: bool = False) -> None:
        """Fold all that is there by now; `final`: what is pending then is given up.

        A writer that is between claiming and writing gets a moment to get there first.
        """
        with self.lock:
            if self._busy:
                return
            try:
                self._busy = True
                self._look_again()
                target = self._ring.claimed  # not a moving one: the program goes on
                while self._seen < target:
                    self._step(LARGE_PIECE)
                if final:
                    self._wait_for_writers()
                self._make_room()
            finally:
                self._busy = False

    def _wait_for_writers(self) -> None:
        self._make_room()
        deadline = time.monotonic() + GRACE_S
        while (self._pending or self._expects_more) and time.monotonic() < deadline:
            time.sleep(0.001)
            if self._ring.claimed > self._seen:
                deadline = time.monotonic() + GRACE_S
            self._step(LARGE_PIECE)
        self._look_again(patience_ns=-1)

    @property
    def _expects_more(self) -> bool:
        """Whether writers wait for room, or have it: they began before recording stopped."""
        room = self._hot.room
        return room is not None and room.expects(self._ring.claimed - self._given)

    def accounts(self) -> Accounts:
        """Return where every frame is now."""
        with self.lock:
            busy = self._busy
            try:
                self._busy = True  # what is folded while this is read would be read by half
                if not busy:
                    self._settle_voids()
                return self._accounts()
            finally:
                self._busy = busy

    def _accounts(self) -> Accounts:
        hot = self._hot
        # a frame is started before it is claimed: read in the other order, none is missed
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

    def unseen(self, numbers: npt.NDArray[np.uint64]) -> int:
        """Return how many of (n,) numbers are not accounted for yet."""
        waiting = np.array(list(self._pending), np.uint64)
        return int(np.count_nonzero((numbers > self._seen) | np.isin(numbers, waiting)))

    def copy(self) -> Profile:
        """Return a copy of the running profile."""
        with self.lock:
            return self.profile.copy()

    def reset_lock(self) -> None:
        """Take a new lock, in the child of a fork, where nobody is left to free the old one."""
        self.lock = threading.RLock()
        self._busy = False

    def _make_room(self) -> None:
        """Let writers use the slots of all that is accounted for, in order."""
        room = self._hot.room
        if room is not None:
            settled = min(self._pending) - 1 if self._pending else self._seen
            given, self._given = self._given, max(self._given, settled)
            room.give(self._given - given)

    def mend(self) -> None:
        """Find room that nobody uses and nobody gives back."""
        if self._hot.room is not None:
            with self.lock:
                self._hot.room.mend(lambda: self._ring.claimed - self._given)

    # -- numbers ---------------------------------------------------------------------------------

    def _take(self, found: Rows) -> None:
        """Account for the numbers of `found`, each for the first time, and fold its rows."""
        missing = set(found.pending)
        void = {n for n in tuple(self._hot.voids) if found.first <= n <= found.last}
        self._hot.voids -= void
        now = self._now()
        self._pending = self._pending | dict.fromkeys(missing - void, now)
        self.lost += found.overwritten - len(void - missing)
        self._fold(found.rows)

    def _look_again(self, patience_ns: int = PATIENCE_NS) -> None:
        self._settle_voids()
        if not self._pending:
            return
        found = self._ring.read_numbers(list(self._pending))
        now = self._now()
        lapped = self._ring.claimed - self._ring.capacity
        away = {
            number: since
            for number in found.pending
            if now - (since := self._pending[number]) <= patience_ns and number > lapped
        }
        given_up = [number for number in found.pending if number not in away]
        torn = sum(map(self._ring.is_hole, given_up))
        self.torn += torn
        self.lost += found.overwritten + len(given_up) - torn
        self._pending = away
        self._fold(found.rows)

    def _settle_voids(self) -> None:
        """Take back what was accounted for before its writer said that it is rejected."""
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
        columns.source = _grouped(columns.source, self.profile.most_groups - RESERVED)
        self.profile.add(columns, self._rate)
        self.folded += len(rows)

    def _reject(self, rows: npt.NDArray[np.void]) -> None:
        """Count rows with stamps that cannot be: rejected, neither finished nor dropped."""
        for name, count in self._ring.outcomes.labels(rows["outcome"]).counts().items():
            if name != self._ring.outcomes.table[0]:
                self._hot.dropped.add(str(name), -count)
        self._hot.void.add(BAD_STAMP, len(rows))
        self._hot.alerts.rejected(BAD_STAMP, shown(int(rows["frame_id"][0])))


def _grouped(sources: Any, most: int) -> Labels:
    """Return the sources, all but the `most` first ones under one name: a profile has bounds."""
    if len(sources.names) <= most:
        return Labels(sources.codes, sources.names)
    names = (*sources.names[:most], OTHER_NAME)
    return Labels(np.minimum(sources.codes, np.int32(most)), names)


def columns_of(ring: Ring, offset_ns: int) -> tuple[Columns, int, npt.NDArray[np.uint64]]:
    """Return a copy of what the ring holds, how many numbers were claimed, and those unfit."""
    found = ring.read(0)
    rows = found.rows
    fit = storable(rows, ring.pipeline)
    unfit = np.empty(0, np.uint64) if fit is None else rows["seq"][~fit]
    return to_columns(rows if fit is None else rows[fit], ring, offset_ns), found.last, unfit
