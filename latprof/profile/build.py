"""How frames get into a profile: folded into the sums of the whole or of groups, and merged."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from latprof.accounts import Accounts
from latprof.arrays import Count
from latprof.errors import ProfileError
from latprof.fold.fold import Fold
from latprof.fold.packed import PackedSums
from latprof.fold.sums import RANGE_EDGES_NS, Sums
from latprof.frames import Columns, Labels
from latprof.pipeline import Pipeline, check_pipeline
from latprof.profile.groups import PackedGroup, PackedGroups, labels_by, split
from latprof.profile.notes import RecordingNotes
from latprof.sequence.order import OrderBySource, OrderSettings
from latprof.text import quoted
from latprof.units import parse_duration

if TYPE_CHECKING:
    from latprof.queueing.accumulator import CausesAccumulator

__all__ = [
    "PACKED_FROM",
    "Bins",
    "FoldedFrames",
    "checked_edges",
    "duration",
    "if_all_known",
]

MOST_GROUPS = 1_000
MOST_WINDOWS_OF_GROUPS = 1 << 20  # of all spans of all groups, if windows are kept
PACKED_FROM = 32  # groups from which on groups are packed while no frames are added to them

_REMEDY = "analyze both with the same arguments, as analyze(trace, **profile.settings) does"


# -- bins of other tools ------------------------------------------------------------------------


@dataclass(slots=True)
class Bins:
    """The bins of a profile from a histogram of another tool, in which no value is exact.

    Attributes
    ----------
    lower_ns, upper_ns
        Smallest and largest time of each bin, ascending.
    above
        How many values are in the open bucket above the last bin.
    total_ns
        The sum of the values, or None if it is not known.
    min_ns, max_ns
        The extreme values, or None if only their bins are known.
    """

    lower_ns: list[int]
    upper_ns: list[int]
    above: Count
    total_ns: Count | None
    min_ns: Count | None
    max_ns: Count | None


# -- frames -------------------------------------------------------------------------------------


class FoldedFrames(RecordingNotes):
    """The sums of the frames of a pipeline, as a whole or by group; the base of `Profile`.

    The parameters are those of `latprof.Profile`.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        by: str | None = None,
        edges_ns: Iterable[int] = RANGE_EDGES_NS,
        every: str | int | None = None,
        deadline: str | int | None = None,
        order: bool = False,
        id_bits: int = 64,
    ) -> None:
        super().__init__()
        if by is not None and not isinstance(by, str):
            raise ProfileError(f"by must be the name of a column, got {quoted(by)}")
        self.pipeline = check_pipeline(pipeline, ProfileError)
        self.by = by
        every_ns, deadline_ns = duration(every, "every"), duration(deadline, "deadline")
        self._own: Sums | PackedSums = Sums(
            pipeline, checked_edges(edges_ns), every_ns, deadline_ns
        )
        self._merged: Sums | None = None  # sums of all groups, until frames are added
        self._fold: Fold | None = None  # made with its work arrays when it is needed
        self.order: OrderBySource | None = None
        if order:
            settings = OrderSettings(id_bits, deadline_ns, self.ungrouped.deadline_span)
            self.order = OrderBySource(settings)
        self._groups: dict[str, Self] = {}
        self.most_groups, self.packed_from = MOST_GROUPS, PACKED_FROM
        self.between: Callable[[], object] = lambda: None  # called after each span; see `Fold`
        self._packed: PackedGroups | None = None  # the groups while frames are added to many
        self.rates: Counter[float] = Counter()  # finished frames by sampling rate
        self.by_weight = 0  # rows with a weight above 1: numbers of frames are estimates then
        self.cause_sums: CausesAccumulator | None = None  # if causes were asked for
        self.bins: Bins | None = None  # of histograms of another tool

    # -- adding frames --------------------------------------------------------------------------

    def add(self: Self, columns: Columns, sampling_rate: float = 1.0) -> None:
        """Fold n frames in, and into their groups if there is a column `by`.

        Raises
        ------
        ProfileError
            The column `by` does not exist, or has more than 1,000 values (less, if there are very
            many spans or windows of time).
        TraceError
            A stamp is 2**62 ns or more.
        """
        if self.order is not None:
            self.order.add(columns, sampling_rate)
        if columns.weight is not None:
            self.by_weight += int(np.count_nonzero(columns.weight > 1))
        if self._fold is None:
            self._fold = Fold(self.pipeline, self.between)
        if self.by is None or len(columns) == 0:
            before = self._own.finished
            if isinstance(self._own, PackedSums):
                self._own = self._own.plus(columns, self._fold)
            else:
                self._fold.add(self._own, columns)
            self.rates[sampling_rate] += self._own.finished - before
            return
        labels = labels_by(columns, self.by)
        found = {labels.names[code] for code in np.flatnonzero(np.bincount(labels.codes)).tolist()}
        if self._packed is not None or len(found.union(self._groups)) > self.packed_from:
            self._add_to_packed(columns, labels, found, sampling_rate)
            return
        self._merged = None
        for name, rows in split(columns, labels):
            if name not in self._groups:
                self._check_most(len(self._groups))
                self._groups[name] = self._new_group()
            group = self._groups[name]
            before = group._own.finished
            group.add(rows, sampling_rate)
            self.rates[sampling_rate] += group._own.finished - before

    def _add_to_packed(
        self: Self, columns: Columns, labels: Labels, found: set[str], rate: float
    ) -> None:
        """Fold frames into the sums of the whole, and gather them for their groups."""
        assert self._fold is not None
        if self._packed is None:
            self._fold.flush()
            if self._merged is None:
                self._merged = self._merge_groups()
            empty = PackedGroup(PackedSums(self.ungrouped.empty_like()), Counter(), 0)
            self._packed = PackedGroups(
                {name: group.pack() for name, group in self._groups.items()}, empty
            )
        assert self._merged is not None
        for name in found.difference(self._packed.by_name):
            self._check_most(len(self._packed.by_name))
            self._packed.new(name)
        before = self._merged.finished
        self._fold.add(self._merged, columns)
        self.rates[rate] += self._merged.finished - before
        self._packed.add(columns, labels, rate, self._fold)

    @property
    def groups(self) -> dict[str, Self]:
        """The profiles of the groups by name, which have no groups themselves."""
        if self._packed is not None:
            packed, self._packed = self._packed, None
            self._fold = self._fold or Fold(self.pipeline)
            packed.fold_all(self._fold)
            for name, known in packed.by_name.items():
                group = self._groups.get(name) or self._new_group()
                group._own, group.rates, group.by_weight = known
                self._groups[name] = group
        return self._groups

    @groups.setter
    def groups(self, groups: dict[str, Self]) -> None:
        self._groups, self._packed, self._merged = groups, None, None

    @property
    def ungrouped(self) -> Sums:
        """The sums of the frames that are in no group; they must not be changed."""
        return self._own.read() if isinstance(self._own, PackedSums) else self._own

    @ungrouped.setter
    def ungrouped(self, sums: Sums) -> None:
        self._own = sums

    def _check_most(self, known: int) -> None:
        most, why = self.most_groups, ""
        if self.ungrouped.every_ns is not None:
            windows = max(MOST_WINDOWS_OF_GROUPS // self.ungrouped.most_windows, 1)
            if windows < most:
                most = windows
                why = f", the most for {len(self.ungrouped.spans)} spans and windows (every=)"
        if known >= most:
            raise ProfileError(
                f"the column by={quoted(self.by)} must have at most {most:,} values{why}; group by "
                "a column of fewer values, or select some of them first"
            )

    def _new_group(self) -> Self:
        group = type(self)(self.pipeline)
        group._own, group._fold = self.ungrouped.empty_like(), self._fold
        return group

    @contextmanager
    def adding(self: Self) -> Iterator[None]:
        """Make `add` faster within the context; nothing else may be called before it ends."""
        if self._fold is None:
            self._fold = Fold(self.pipeline)
        with self._fold.deferred():
            yield
        for each in (self, *self.groups.values()):
            each._fold = None  # the work arrays are larger than the profile

    def note(self, meta: dict[str, Any]) -> None:
        """Add the metadata of a recording, all frames of which were added."""
        super().note(meta)
        if self.order is not None:
            self.order.end_recording(meta.get("lost") or 0)

    def balance(self) -> None:
        """Complete the accounts of traces that were read: all of their frames are folded.

        If rows represent several frames, the exact accounts of the recorders are used instead.
        """
        accounts, finished = self.accounts, self.sums.finished
        if self.by_weight and self.files and len(self._recorded) == self.files:
            self.accounts = sum(self._recorded, Accounts())
            self.accounts.notes = accounts.notes
        else:
            accounts.dropped = self.sums.dropped_by_reason
            dropped, rejected = sum(accounts.dropped.values()), sum(accounts.rejected.values())
            accounts.folded = finished + dropped
            accounts.finished = finished + accounts.lost + accounts.torn
            accounts.started = accounts.in_flight + accounts.finished + dropped + rejected
        for group in self.groups.values():
            # groups were recorded at the same time as the whole
            group.segments, group.undeclared = set(self.segments), self.undeclared
            group.untimed = self.untimed
            group.balance()

    # -- merging --------------------------------------------------------------------------------

    def merge(self, other: Self) -> Self:
        """Return the profile of the frames of both.

        Raises
        ------
        ProfileError
            `other` is not a profile, or has another pipeline, other groups or other settings.
        """
        merged = self.copy()
        merged.add_profile(other)
        return merged

    __add__ = merge

    def copy(self) -> Self:
        """Return an independent profile with the same content."""
        same = type(self)(self.pipeline, by=self.by)
        same.order = None if self.order is None else OrderBySource(self.order.settings)
        if self.cause_sums is not None:
            same.cause_sums = type(self.cause_sums).of(self.pipeline)
        same._own = self._own  # shared, if nothing changes it
        if not isinstance(self._own, PackedSums):
            same._own = self._own.empty_like()
            same._own.merge(self._own)
        if self._packed is not None and self._merged is not None:
            same._packed = self._packed.copy()
            same._merged = self._merged.empty_like()
            same._merged.merge(self._merged)
        same._groups = {name: group.copy() for name, group in self._groups.items()}
        same._merge_cause_sums(self)
        same._add_notes(self)
        return same

    def add_profile(self, other: Self) -> None:
        """Add the frames of another profile to this one.

        Raises
        ------
        ProfileError
            As for `merge`.
        """
        self.check_fits(other)
        self._merge_cause_sums(other)  # before frames are added: it asks whether there are any
        if isinstance(self._own, PackedSums):
            sums = self._own.unpacked()
            sums.merge(other.ungrouped)
            self._own = PackedSums(sums)
        else:
            self._own.merge(other.ungrouped)
        mine, theirs = self.groups, other.groups
        for name, group in theirs.items():
            if name in mine:
                mine[name].add_profile(group)
            else:
                mine[name] = group.copy()
        self._merged = None
        if len(mine) > PACKED_FROM:
            for group in mine.values():
                group.pack()
        self._add_notes(other)

    def pack(self) -> PackedGroup:
        """Keep the sums of a group in little memory; return them with its rates."""
        if not isinstance(self._own, PackedSums):
            self._own = PackedSums(self._own)
        return PackedGroup(self._own, self.rates.copy(), self.by_weight)

    def _add_notes(self, other: Self) -> None:
        """Add another profile's metadata, order, rates and bins."""
        if self.order is not None and other.order is not None:
            self.order.merge(other.order)
        self.merge_notes(other, first=not (self.files or self.rates))
        self.rates += other.rates
        self.by_weight += other.by_weight
        self.bins = _added(self.bins, other.bins)

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments with which `latprof.analyze` makes profiles that merge with this one."""
        sums = self.ungrouped
        return {
            "by": self.by,
            "edges_ns": sums.edges_ns,
            "every": sums.every_ns,
            "deadline": sums.deadline_ns,
            "order": self.order is not None,
            "id_bits": 64 if self.order is None else self.order.settings.id_bits,
            "causes": self.cause_sums is not None,
        }

    def check_fits(self, other: Self) -> None:
        """Check that another profile can be merged with this one.

        Raises
        ------
        ProfileError
            As for `merge`.
        """
        if not isinstance(other, FoldedFrames):
            raise ProfileError(
                f"profiles merge with profiles only, got {quoted(other)}; analyze makes one of a "
                "trace"
            )
        if other.pipeline != self.pipeline:
            raise ProfileError(
                f"profiles must have equal pipelines to merge, got {self.pipeline.name!r} and "
                f"{other.pipeline.name!r}, which differ in name, marks, spans, stations or period"
            )
        settings = [("by", self.by, other.by)]
        for what in ("edges_ns", "every_ns", "deadline_ns"):
            settings.append((what, getattr(self.ungrouped, what), getattr(other.ungrouped, what)))
        for what, mine, theirs in settings:
            if mine != theirs:
                raise ProfileError(
                    f"profiles must have the same {what} to merge, got {mine!r} and {theirs!r}; "
                    f"{_REMEDY}"
                )
        edges = [None if each.bins is None else each.bins.upper_ns for each in (self, other)]
        if self.files and other.files and edges[0] != edges[1]:
            raise ProfileError(
                "profiles of histograms must have the same bins to merge, got different ones; "
                "report them separately"
            )
        if self.untimed != other.untimed and self.files and other.files:
            raise ProfileError(
                "profiles must all be of frames with times, or all without, to merge, got both; "
                "report them separately"
            )
        if (self.order is None) != (other.order is None):
            raise ProfileError(
                f"profiles must both have an order to merge, got one without; {_REMEDY}"
            )

    def _merge_cause_sums(self, other: Self) -> None:
        known = self.cause_sums or other.cause_sums
        if known is None:
            return
        lacking = [each for each in (self, other) if each.cause_sums is None]
        if self.cause_sums is None:
            self.cause_sums = type(known).of(self.pipeline)
        if any(each.frames or each.sums.dropped for each in lacking):
            self.cause_sums.lose("some profiles were folded without causes")
        if other.cause_sums is not None:
            self.cause_sums.merge(other.cause_sums)

    # -- reading --------------------------------------------------------------------------------

    @property
    def sums(self) -> Sums:
        """The sums of all frames; sums of groups are merged when this is read."""
        if self._merged is not None:
            return self._merged
        if not self._groups:
            return self.ungrouped
        self._merged = self._merge_groups()
        return self._merged

    def _merge_groups(self) -> Sums:
        merged = self.ungrouped.empty_like()
        for _, group in sorted(self._groups.items()):
            if isinstance(group._own, PackedSums):
                group._own.add_to(merged)
            else:
                merged.merge(group._own)
        return merged

    @property
    def frames(self) -> int:
        """Number of finished frames; the statistics are over them."""
        return self.sums.finished if self._groups or self._packed else self._own.finished


def _added(mine: Bins | None, theirs: Bins | None) -> Bins | None:
    if mine is None or theirs is None:
        return mine or theirs
    return Bins(
        list(map(min, mine.lower_ns, theirs.lower_ns)),
        mine.upper_ns,
        mine.above + theirs.above,
        if_all_known(sum, [mine.total_ns, theirs.total_ns]),
        if_all_known(min, [mine.min_ns, theirs.min_ns]),
        if_all_known(max, [mine.max_ns, theirs.max_ns]),
    )


def if_all_known(combine: Callable[[list[int]], int], values: Iterable[int | None]) -> int | None:
    """Return `combine` of the values, or None if one of them is None or there are none."""
    found = list(values)
    known = [value for value in found if value is not None]
    return combine(known) if known and len(known) == len(found) else None


# -- arguments ----------------------------------------------------------------------------------


def duration(value: str | int | None, name: str) -> int | None:
    """Return the duration of a setting in ns, or None if it is None.

    Raises
    ------
    ProfileError
        The value is not a duration above 0.
    """
    if value is None:
        return None
    ns = parse_duration(value, name=name, error=ProfileError)
    if ns == 0:
        raise ProfileError(f"{name} must be above 0, got {quoted(value)}; leave it out for none")
    return ns


def checked_edges(edges_ns: Iterable[int]) -> tuple[int, ...]:
    """Return the upper edges of latency ranges in ns; each is given in ns or as ``"5ms"``.

    Raises
    ------
    ProfileError
        `edges_ns` is not a list of durations.
    """
    try:
        return tuple(parse_duration(edge, name="edge", error=ProfileError) for edge in edges_ns)
    except TypeError:
        rule = "edges_ns must be a list of durations (ns, or text such as '5ms')"
        raise ProfileError(f"{rule}, got {quoted(edges_ns)}") from None
