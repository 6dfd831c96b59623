"""Folding frames into a profile: in this process, or in parts by the workers of an executor.

A part is some files, or some row groups of a large one. A worker folds it and returns its profile
as the bytes of a saved one. Profiles merge in any order to that of the whole, so that it does not
matter which part ends first. Only ``submit`` of the executor is used, and ``wait`` on what it
returns: any `concurrent.futures.Executor` will do, also those of Dask and mpi4py.

With mpi4py, a program that is started by ``mpiexec -n 3 python -m mpi4py.futures PROGRAM`` has two
workers (``python -m tests.mpi`` tries it)::

    with MPIPoolExecutor() as executor:
        profile = latprof.analyze("traces/", executor=executor)
"""

import io
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Self

from latprof.arrays import Mask
from latprof.errors import LatprofError, ProfileError, TraceError
from latprof.frames import Columns
from latprof.io.dataset import stream_of
from latprof.io.member import Member
from latprof.io.remote import REQUESTS
from latprof.pipeline import Pipeline
from latprof.profile.file import profile_bytes, profile_from
from latprof.profile.merging import MergeTree
from latprof.profile.profile import Profile
from latprof.queueing.accumulator import CausesAccumulator
from latprof.sequence.intended import Intended
from latprof.text import clip, counted
from latprof.units import STAMP_LIMIT

__all__ = [
    "PAYS_FROM",
    "FoldPlan",
    "FoldedPart",
    "PartsResult",
    "Progress",
    "TimeRange",
    "Workers",
    "fold_part",
    "fold_parts",
]

PAYS_FROM = 20_000_000
"""Frames from which on workers take less time than one process."""

PART_ROWS = 1 << 22
"""Rows of a part, more or less: half a second of work."""

# A part begins and ends with one core idle, for about a tenth of a second. Eight parts a worker are
# enough for all to end at about the same time; there are more if the number of workers is unknown.
_PARTS_OF_WORKER = 8
_PARTS = 32
_MOST_PART_ROWS = 4 * PART_ROWS
_MOST_ROWS_OF_WORKERS = 16 * PART_ROWS

ATTEMPTS = 2
"""How often a part is tried."""

Progress = Callable[[int, int], None]
"""Called with (rows folded, rows in all)."""

Part = tuple[Member, ...]


# -- folding ------------------------------------------------------------------------------------


@dataclass(slots=True)
class TimeRange:
    """Selects frames that start at `first` or later and before `last` (UTC ns), and counts others.

    Attributes
    ----------
    left_out
        Frames outside of the range.
    """

    first: int = -STAMP_LIMIT
    last: int = STAMP_LIMIT
    left_out: int = 0

    @property
    def is_all(self) -> bool:
        """Whether all times are in the range."""
        return self.first <= -STAMP_LIMIT and self.last >= STAMP_LIMIT

    def mask_of(self, columns: Columns) -> Mask | None:
        """Return the mask of frames that start in the range, or None if all times are in it."""
        if self.is_all:
            return None
        starts = columns.marks["start"]
        return (starts >= self.first) & (starts < self.last)

    def select(self, columns: Columns) -> Columns:
        """Return the frames that start in the range, and count the others."""
        mask = self.mask_of(columns)
        if mask is None:
            return columns
        outside = ~mask if columns.weight is None else columns.weight[~mask]
        self.left_out += int(outside.sum())
        return columns.take(mask)

    def clip(self, segments: set[tuple[int, int]]) -> set[tuple[int, int]]:
        """Return the parts of recording times (begin, end) that are in the range."""
        if self.is_all:
            return segments
        cut = {(max(begin, self.first), min(end, self.last)) for begin, end in segments}
        return {(begin, end) for begin, end in cut if begin < end}


@dataclass(frozen=True, slots=True)
class FoldPlan:
    """What is folded of each frame; the fields are arguments of `latprof.analyze`, checked.

    Attributes
    ----------
    order, causes, intended
        Whether to compute what depends on the order of frames, which frames waited for which, and
        when frames should have started.
    first, last
        Frames that start earlier, or at `last` or later, are left out (UTC ns).
    """

    pipeline: Pipeline
    by: str | None
    edges_ns: tuple[int, ...]
    every: str | int | None
    deadline: str | int | None
    order: bool
    id_bits: int
    causes: bool
    intended: bool
    first: int
    last: int

    def profile(self) -> Profile:
        """Return the profile of no frames."""
        pipeline = Intended(self.pipeline).pipeline if self.intended else self.pipeline
        profile = Profile(
            pipeline,
            by=self.by,
            edges_ns=self.edges_ns,
            every=self.every,
            deadline=pipeline.period if self.deadline is None else self.deadline,
            order=self.order,
            id_bits=self.id_bits,
        )
        if self.causes:
            profile.cause_sums = CausesAccumulator.of(pipeline)
        return profile

    def fold(
        self, profile: Profile, members: Sequence[Member], progress: Progress | None = None
    ) -> int:
        """Add the frames of traces and files; return how many were outside of the time range."""
        wanted = ["frame_id", *self.pipeline.marks, "size", "source", "outcome", "weight"]
        wanted += [self.by] if self.by is not None and self.by not in wanted else []
        intended = Intended(self.pipeline) if self.intended else None
        time_range = TimeRange(self.first, self.last)
        with profile.adding():
            for member, batches in stream_of(members, wanted, progress=progress):
                meta = member.meta
                for columns in batches:
                    columns = columns if intended is None else intended.add(columns)
                    if profile.cause_sums is not None:
                        # frames in the range may wait for frames outside of it
                        profile.cause_sums.add(columns, meta, time_range.mask_of(columns))
                    profile.add(time_range.select(columns), float(meta.get("sampling_rate") or 1))
                if profile.cause_sums is not None:
                    profile.cause_sums.end()
                if profile.order is not None:
                    profile.order.end_recording(meta.get("lost") or 0)
        return time_range.left_out


# -- parts --------------------------------------------------------------------------------------


@dataclass(slots=True)
class PartsResult:
    """What the workers made.

    Attributes
    ----------
    left_out
        Frames outside of the time range.
    missing
        Rows that could not be read, by the name of their part.
    unread
        Files of which no part was read.
    """

    left_out: int = 0
    missing: dict[str, int] = field(default_factory=dict)
    unread: set[str] = field(default_factory=set)


@dataclass(slots=True)
class _Task:
    part: Part
    attempts: int = 0

    @property
    def rows(self) -> int:
        """Number of rows, by estimate if a part is of some row groups."""
        return sum(map(_rows, self.part))

    @property
    def name(self) -> str:
        """The part as messages name it."""
        first, others = self.part[0], len(self.part) - 1
        name = first.name
        if first.groups is not None:
            name = f"row groups {first.groups[0]} to {first.groups[-1]} of {name}"
        return f"{name} and {counted(others, 'more file')}" if others else name


def _rows(member: Member) -> int:
    if member.groups is None:
        return member.rows
    return member.rows * len(member.groups) // max(member.row_groups, 1)


def _rows_of_part(rows: int, executor: "Executor | Workers") -> int:
    """Return about how many of all `rows` each part has."""
    parts, most = _PARTS, _MOST_PART_ROWS
    if isinstance(executor, Workers):
        parts, most = _PARTS_OF_WORKER * executor.count, _MOST_ROWS_OF_WORKERS
    return min(max(rows // parts, PART_ROWS), most)


def _cut(members: Sequence[Member], part_rows: int) -> Iterator[Part]:
    """Yield parts of about as many rows: several small files, or some row groups of a large one."""
    gathered: list[Member] = []
    for member in members:
        pieces = min(max(round(member.rows / part_rows), 1), max(member.row_groups, 1))
        if pieces > 1:
            cuts = [member.row_groups * i // pieces for i in range(pieces + 1)]
            yield from ((replace(member, groups=range(*cut)),) for cut in pairwise(cuts))
            continue
        if gathered and sum(map(_rows, gathered)) + member.rows // 2 > part_rows:
            yield tuple(gathered)
            gathered = []
        gathered.append(member)
    if gathered:
        yield tuple(gathered)


@dataclass(frozen=True, slots=True)
class FoldedPart:
    """What a worker returns.

    Attributes
    ----------
    profile
        The bytes of its file.
    left_out
        Frames outside of the time range.
    requests
        By file of an object store, (requests, bytes read).
    """

    profile: bytes
    left_out: int
    requests: dict[str, tuple[int, int]]


def fold_part(plan: FoldPlan, part: Part) -> FoldedPart:
    """Fold a part.

    Raises
    ------
    TraceError
        A file is missing or corrupt.
    """
    profile = plan.profile()
    left_out = plan.fold(profile, part)
    return FoldedPart(profile_bytes(profile, level=1), left_out, REQUESTS.take())


def fold_parts(
    plan: FoldPlan,
    profile: Profile,
    members: Sequence[Member],
    executor: "Executor | Workers",
    *,
    progress: Progress | None = None,
    partial: bool = False,
) -> PartsResult:
    """Fold files by the workers of an executor.

    Traces in memory, and tables of other tools, have no row groups and are folded in this process.

    Parameters
    ----------
    plan
        What is folded.
    profile
        The frames are added to it.
    members
        The traces and files.
    executor
        Its workers fold the parts. If workers of `Workers` die, they are started again.
    progress
        Called after each part.
    partial
        Whether parts that fail are left out and named in the result.

    Raises
    ------
    TraceError
        A part failed `ATTEMPTS` times, and `partial` is not set; or the executor takes no calls.
    """
    files = [each for each in members if each.row_groups]
    here = [each for each in members if not each.row_groups]
    result, rows, done = PartsResult(), sum(each.rows for each in members), 0
    if here:
        result.left_out += plan.fold(profile, here)
        done += sum(each.rows for each in here)
    merged: MergeTree[Profile] = MergeTree()
    failed: list[tuple[_Task, BaseException]] = []
    tasks = [_Task(part) for part in _cut(files, _rows_of_part(rows, executor))]
    for task, value in _completed(executor, plan, tasks):
        done += task.rows
        if isinstance(value, BaseException):
            failed.append((task, value))
            if not partial:
                break
        else:
            merged.add(profile_from(io.BytesIO(value.profile), Profile))
            result.left_out += value.left_out
            REQUESTS.update(value.requests)
        if progress is not None:
            progress(done, rows)
    if failed and not partial:
        task, error = failed[0]
        said = str(error) if isinstance(error, LatprofError) else f"{type(error).__name__}: {error}"
        where = "" if isinstance(error, LatprofError) else f"{task.name}: "
        advice = (
            f"this part was tried {counted(task.attempts, 'time')}: give partial=True (--partial) "
            "to report the others"
        )
        if not task.attempts:
            advice = "the executor takes no calls: give one that is open"
        raise TraceError(f"{where}{clip(said, 400)}; {advice}") from None
    whole = merged.take()
    if whole is not None:
        profile.add_profile(whole)
    result.missing = {task.name: task.rows for task, _ in failed}
    lacking = {id(task) for task, _ in failed}
    read = {each.name for task in tasks if id(task) not in lacking for each in task.part}
    result.unread = {each.name for task, _ in failed for each in task.part} - read
    return result


def _completed(
    executor: "Executor | Workers", plan: FoldPlan, tasks: Sequence[_Task]
) -> Iterator[tuple[_Task, FoldedPart | BaseException]]:
    """Yield each task with its result, or with why it failed `ATTEMPTS` times."""
    running: dict[Future[FoldedPart], _Task] = {}
    # if a worker dies, all parts that run fail: they are tried one by one, to find the guilty one
    suspects: deque[_Task] = deque()
    failed: list[tuple[_Task, BaseException]] = []

    def submit(task: _Task) -> None:
        """Give a task to the executor, or note why it is not taken."""
        try:
            running[executor.submit(fold_part, plan, task.part)] = task
        except (RuntimeError, OSError) as error:  # it is shut down, broken, or starts no process
            failed.append((task, error))

    try:
        for task in tasks:
            submit(task)
        while running or suspects:
            alone = not running
            if alone:
                submit(suspects.popleft())
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                task, error = running.pop(future), future.exception()
                if error is None:
                    yield task, future.result()
                    continue
                died = isinstance(error, BrokenExecutor)
                if alone or not died:
                    task.attempts += 1
                if task.attempts >= ATTEMPTS:
                    yield task, error
                elif died:
                    suspects.append(task)
                else:
                    submit(task)
            yield from failed
            failed.clear()
        yield from failed
    finally:
        for future in running:
            future.cancel()


class Workers:
    """Some worker processes on this machine, which are started again if one of them dies."""

    def __init__(self, count: int) -> None:
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise ProfileError(f"workers must be an integer from 1 on, got {count!r}")
        self.count = count
        self._pool = self._new_pool()

    def _new_pool(self) -> Executor:
        from concurrent.futures import ProcessPoolExecutor  # loads multiprocessing
        from multiprocessing import get_context

        # not forked: a fork of a program with threads may wait forever for a lock
        pool = ProcessPoolExecutor(self.count, mp_context=get_context("spawn"))
        # All processes start now: the pool may wait forever for one if it breaks while a later
        # `submit` starts that process (so in CPython 3.11).
        for _ in range(self.count):
            pool.submit(int)
        return pool

    def submit(self, function: Callable[..., Any], *arguments: Any) -> "Future[Any]":
        """Give a call to a worker, as an executor does."""
        try:
            return self._submit(function, *arguments)
        except (OSError, ValueError):
            # A pool that breaks while `submit` starts a process may close the descriptors that the
            # process is to inherit. The next call knows that the pool is broken.
            return self._submit(function, *arguments)

    def _submit(self, function: Callable[..., Any], *arguments: Any) -> "Future[Any]":
        try:
            return self._pool.submit(function, *arguments)
        except BrokenExecutor:
            self._pool.shutdown(cancel_futures=True)
            self._pool = self._new_pool()
            return self._pool.submit(function, *arguments)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._pool.shutdown(cancel_futures=True)
