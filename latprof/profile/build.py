"""What a profile is made of: frames folded into the sums of the whole or of groups, and merged."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from latprof.accounts import Accounts
from latprof.errors import ProfileError
from latprof.fold.fold import Fold
from latprof.fold.sums import PEOPLE_EDGES_NS, Sums
from latprof.frames import FINISHED, Columns, Labels, as_text
from latprof.pipeline import Pipeline
from latprof.profile.origins import Recorders
from latprof.sequence.order import OrderBySource, OrderSettings
from latprof.text import escape
from latprof.units import parse_duration

if TYPE_CHECKING:
    from latprof.queueing.windowed import Parts

__all__ = ["NO_GROUP", "Gathered", "check_by", "duration"]

MOST_GROUPS = 1_000
MOST_WINDOWS_OF_GROUPS = 1 << 20
"""Windows of all spans of all groups; each takes some kB."""

NO_GROUP = "(none)"


class Gathered:
    """Sums of frames of a pipeline, as a whole or by group; `latprof.Profile` answers from them.

    The parameters are those of `latprof.Profile`.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        by: str | None = None,
        edges_ns: Sequence[int] = PEOPLE_EDGES_NS,
        every: str | int | None = None,
        deadline: str | int | None = None,
        order: bool = False,
        id_bits: int = 64,
    ) -> None:
        self.pipeline = pipeline
        self.by = by
        every_ns = duration(every, "every")
        self._own = Sums(pipeline, _edges(edges_ns), every_ns, duration(deadline, "deadline"))
        self._merged: Sums | None = None  # of the groups, until the next frames come
        self._fold: Fold | None = None  # its work arrays are made when they are needed
        self.order: OrderBySource | None = None
        if order:
            settings = OrderSettings(id_bits, self._own.deadline_ns, self._own.promised)
            self.order = OrderBySource(settings)
        self.groups: dict[str, Self] = {}
        self.accounts = Accounts()
        self.segments: set[tuple[int, int]] = set()
        self.undeclared = False  # some recording did not say when it was recording
        self.rates: Counter[float] = Counter()  # finished frames by sampling rate
        self.files = 0
        self.by_weight = 0  # rows that stand for several frames: numbers of frames are estimates
        self.recorders = Recorders()
        self.stamp_ns = 0  # the dearest clock read of the recordings, 0: not known
        self.parts: Parts | None = None  # who waited for whom, where that is asked for

    # -- filling --------------------------------------------------------------------------------

    def add(self: Self, columns: Columns, sampling_rate: float = 1.0) -> None:
        """Fold n frames in; with `by`, into their groups as well.

        Raises
        ------
        ProfileError
            There is no column `by`, or it has more than 1,000 values; fewer, if there are very
            many spans, or windows of time for each of them.
        TraceError
            A stamp of 2**62 ns and more.
        """
        if self.order is not None:
            self.order.add(columns, sampling_rate)
        if columns.weight is not None:
            self.by_weight += int(np.count_nonzero(columns.weight > 1))
        if self._fold is None:
            self._fold = Fold(self.pipeline)
        if self.by is None or len(columns) == 0:
            before = self._own.finished
            self._fold.add(self._own, columns)
            self.rates[sampling_rate] += self._own.finished - before
            return
        self._merged = None
        for name, rows in self._split(columns):
            group = self.groups.get(name)
            if group is None:
                group = self.groups[name] = self._new_group()
            before = group._own.finished
            group.add(rows, sampling_rate)
            self.rates[sampling_rate] += group._own.finished - before

    @property
    def most_groups(self) -> int:
        """How many groups there may be: each has windows of time for each span."""
        return min(MOST_GROUPS, max(MOST_WINDOWS_OF_GROUPS // self._own.most_windows, 1))

    def _new_group(self) -> Self:
        most = self.most_groups
        if len(self.groups) == most:
            why = ""
            if most < MOST_GROUPS:
                beside = " and windows (every=)" if self._own.every_ns is not None else ""
                why = f", the most for {len(self._own.spans)} spans{beside}"
            raise ProfileError(
                f"by={self.by!r} has more than {most:,} values{why}: group by a column of fewer, "
                "or select some of them first"
            )
        group = type(self)(self.pipeline)
        group._own = self._own.alike()
        group._fold = self._fold
        return group

    @contextmanager
    def adding(self: Self) -> Iterator[None]:
        """Within, only `add` may be called: it is quicker, the answers are there when this ends."""
        if self._fold is None:
            self._fold = Fold(self.pipeline)
        with self._fold.together():
            yield
        self._fold = None  # the work arrays are larger than the profile
        for group in self.groups.values():
            group._fold = None

    def _split(self, columns: Columns) -> Iterator[tuple[str, Columns]]:
        assert self.by is not None
        labels = _labels_by(columns, self.by)
        names, codes = (NO_GROUP, *labels.names), labels.codes.astype(np.int64) + 1
        found = np.flatnonzero(np.bincount(codes, minlength=len(names)))
        for code in found.tolist():
            yield names[code], columns if len(found) == 1 else columns.take(codes == code)

    def note(self, meta: dict[str, Any]) -> None:
        """Take into the accounts what a recording's metadata says of frames that are not in it."""
        self.files += 1
        self.recorders.add(meta)
        if self.order is not None:
            self.order.end_recording(meta.get("lost") or 0)
        accounts = Accounts(lost=meta.get("lost") or 0)
        for part in (meta.get("join") or {}).get("parts") or [meta]:
            self.stamp_ns = max(self.stamp_ns, part.get("stamp_ns") or 0)
            recorded = part.get("accounts") or {}
            accounts += Accounts(
                in_flight=recorded.get("in_flight", 0),
                rejected=dict(recorded.get("rejected", {})),
                torn=recorded.get("torn", 0),
                notes=dict(recorded.get("notes", {})),
            )
            # the processes of one pipeline leave out the same frames
            sampled_out = recorded.get("sampled_out", 0)
            accounts.sampled_out = max(accounts.sampled_out, sampled_out)
        self.accounts += accounts
        segments = meta.get("segments")
        if segments:
            self.segments.update((int(a), int(b)) for a, b in segments)
        else:
            self.undeclared = True

    def balance(self) -> None:
        """Fill the accounts of a trace that was read: what is folded is what there is."""
        accounts = self.accounts
        dropped = self.sums.dropped_by_reason
        accounts.dropped = dropped
        accounts.folded = self.sums.finished + sum(dropped.values())
        accounts.finished = self.sums.finished + accounts.lost + accounts.torn
        accounts.started = (
            accounts.in_flight
            + accounts.finished
            + sum(dropped.values())
            + sum(accounts.rejected.values())
        )
        for group in self.groups.values():
            # a group was recorded when the whole was
            group.segments, group.undeclared = set(self.segments), self.undeclared
            group.balance()

    # -- merging --------------------------------------------------------------------------------

    def merge(self, other: Self) -> Self:
        """Return the profile of the frames of both.

        Raises
        ------
        ProfileError
            Another pipeline, other groups, or other edges.
        """
        merged = self.copy()
        merged.take(other)
        return merged

    __add__ = merge

    def copy(self) -> Self:
        """Return a profile of its own with the same content."""
        same = type(self)(self.pipeline, by=self.by)
        same._own = self._own.alike()
        same.order = None if self.order is None else OrderBySource(self.order.settings)
        if self.parts is not None:
            same.parts = self.parts.copy()
            same.parts.forget()
        same.take(self)
        return same

    def take(self, other: Self) -> None:
        """Add the frames of another profile to this one; `merge` leaves both as they are."""
        if other.pipeline != self.pipeline:
            raise ProfileError(
                f"profiles of pipelines {self.pipeline.name!r} and {other.pipeline.name!r} do not "
                "merge: their marks, spans, stations or periods differ"
            )
        if other.by != self.by:
            raise ProfileError(
                f"profiles by {self.by!r} and by {other.by!r} do not merge: fold both the same way"
            )
        for what in ("edges_ns", "every_ns", "deadline_ns"):
            mine, theirs = getattr(self._own, what), getattr(other._own, what)
            if mine != theirs:
                raise ProfileError(
                    f"profiles with {what} {mine} and {theirs} do not merge: fold both the same way"
                )
        if (self.order is None) != (other.order is None):
            raise ProfileError("profiles with and without order do not merge: fold both with it")
        if self.order is not None and other.order is not None:
            self.order.merge(other.order)
        self._merge_parts(other)
        self._own.merge(other._own)
        self._merged = None
        for name, group in other.groups.items():
            mine = self.groups.get(name)
            if mine is None:
                self.groups[name] = group.copy()
            else:
                mine.take(group)
        self.accounts += other.accounts
        self.segments |= other.segments
        self.undeclared |= other.undeclared
        self.rates += other.rates
        self.files += other.files
        self.recorders.merge(other.recorders)
        self.by_weight += other.by_weight
        self.stamp_ns = max(self.stamp_ns, other.stamp_ns)

    def _merge_parts(self, other: Self) -> None:
        if self.parts is None and other.parts is None:
            return
        from latprof.queueing.windowed import Parts

        mine, theirs = self.parts, other.parts
        self.parts = Parts(self.pipeline) if mine is None else mine
        for one, profile in ((mine, self), (theirs, other)):
            if one is None and (profile.frames or profile._own.dropped):
                self.parts.lose("some profiles were folded without causes")
        if theirs is not None:
            self.parts.merge(theirs)

    # -- what there is -----------------------------------------------------------------------------

    @property
    def sums(self) -> Sums:
        """All that is folded; with groups, what they have together: no frame is folded twice."""
        if not self.groups:
            return self._own
        if self._merged is None:
            self._merged = self._own.alike()
            for _, group in sorted(self.groups.items()):
                self._merged.merge(group._own)
        return self._merged

    @property
    def frames(self) -> int:
        """How many frames finished: the statistics are over them."""
        return self.sums.finished


def _labels_by(columns: Columns, by: str) -> Labels:
    """Return the names of the frames' groups, written alike in every batch of a trace."""
    if by == "source":
        missing = Labels.constant(None, len(columns))
        return missing if columns.source is None else columns.source
    if by == "outcome":
        done = Labels.constant(FINISHED, len(columns))
        if columns.outcome is None:
            return done
        known = Labels.concat([done[:1], columns.outcome])
        # where there is none the frame is finished, which has code 0
        return Labels(np.maximum(known.codes[1:], 0), known.names)
    check_by(by, columns.tags)
    column = columns.tags[by]
    if isinstance(column, Labels):
        return column
    values, codes = np.unique(column, return_inverse=True)
    texts = as_text(values)
    # integers are floats in a batch in which some are missing
    names = tuple(name.removesuffix(".0") for name in texts.names)
    return Labels(texts.codes[codes], names)


def check_by(by: str, tags: Iterable[str], where: str = "") -> None:
    """Refuse a column that frames with these tags, of a file `where`, cannot be grouped by.

    Raises
    ------
    ProfileError
        It is neither source nor outcome nor one of the tags.
    """
    there = ("source", "outcome", *tags)
    if by not in there:
        raise ProfileError(
            f"{escape(where)}{': ' if where else ''}by={escape(by)!r}: the frames have no such "
            f"column: use one of {', '.join(map(escape, there))}"
        )


def duration(value: str | int | None, name: str) -> int | None:
    """Return a setting's duration in ns; None of None.

    Raises
    ------
    ProfileError
        No duration above 0.
    """
    if value is None:
        return None
    try:
        ns = parse_duration(value, name=name)
    except ValueError as error:
        raise ProfileError(str(error)) from None
    if ns == 0:
        raise ProfileError(f"{name} is 0: give a duration above 0, or leave it out")
    return ns


def _edges(edges_ns: Sequence[int]) -> list[int]:
    """Return upper edges of ranges.

    Raises
    ------
    ProfileError
        One that is no duration.
    """
    try:
        return [parse_duration(edge, name="edge") for edge in edges_ns]
    except ValueError as error:
        raise ProfileError(str(error)) from None
