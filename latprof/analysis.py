"""Analysis: traces and files in, a profile out, a row group at a time."""

from collections.abc import Callable, Iterable
from concurrent.futures import Executor

from latprof.accounts import NOT_READ
from latprof.errors import ProfileError
from latprof.fold.sums import RANGE_EDGES_NS
from latprof.io.dataset import Dataset, DatasetLike
from latprof.parts import FoldPlan, TimeRange, Workers, fold_parts
from latprof.pipeline import Pipeline
from latprof.profile.build import checked_edges, duration
from latprof.profile.groups import check_by
from latprof.profile.profile import Profile
from latprof.profile.span import check_integer
from latprof.text import quoted
from latprof.units import STAMP_LIMIT, Time, parse_time

__all__ = ["MOST_FOR_CAUSES", "analyze"]

MOST_FOR_CAUSES = 5_000_000
"""Most frames for which a report computes causes by default."""


def analyze(
    recordings: DatasetLike,
    *,
    by: str | None = None,
    pipeline: Pipeline | None = None,
    edges_ns: Iterable[int] = RANGE_EDGES_NS,
    every: str | int | None = None,
    deadline: str | int | None = None,
    skip: str | int | None = None,
    since: Time | None = None,
    until: Time | None = None,
    intended: bool = False,
    order: bool = False,
    causes: bool | None = False,
    id_bits: int = 64,
    progress: Callable[[int, int], None] | None = None,
    executor: Executor | Workers | None = None,
    partial: bool = False,
) -> Profile:
    """Fold traces and return their profile.

    Parameters
    ----------
    recordings
        A trace, a path, a folder (all ``*.parquet`` in it and below), a glob, or several of them.
        Paths may be URLs, such as ``s3://bucket/day/``: see `latprof.io.remote`.
    by
        ``"source"``, ``"outcome"`` or a tag: also make a profile of each of its values.
    pipeline
        The pipeline of files that do not contain one.
    edges_ns
        Upper edges of ranges of end_to_end that are counted exactly.
    every
        Width of the windows of time of `Profile.timeline`, for example ``"1s"``.
    deadline
        Count the frames that take longer, for example ``"20ms"``; by default the pipeline's
        period.
    skip
        Leave out the frames that start within this time of the first start, for example ``"5s"``.
    since, until
        Leave out frames that start before `since`, or at `until` or later, as in `Trace.select`.
        The notes of the accounts contain the number of frames left out.
    intended
        Compute when frames should have started, from the pipeline's period; ``response`` is
        measured from then on, beside end_to_end (see `latprof.sequence.intended.Intended`).
    order
        Also compute the numbers that depend on the order of frames: lost and late ids, jitter,
        period, frames in flight, consecutive missed deadlines.
    causes
        Also compute which frames waited for which: `Profile.causes`, ``bottleneck("cause")``.
        With None, do so if the pipeline has stations and there are at most 5 million frames.
    id_bits
        Number of bits after which ids start again at 0: 16 for RTP, 64 if they never do.
    progress
        Called with (rows folded, rows in total) after each batch, or each part.
    executor
        Fold files in parts, by the workers of any `concurrent.futures.Executor`, also those of
        Dask (``client.get_executor()``) and mpi4py, see `latprof.parts`. It pays from some
        20 million frames on.
    partial
        With an executor: leave out parts that fail, and name them in the accounts and in the first
        line of the report.

    Returns
    -------
    Profile
        Sums, histograms and accounts of all frames; it can be merged with others.

    Raises
    ------
    TraceError
        A file does not exist or is not a trace, or traces are of different pipelines.
    ProfileError
        The column `by` does not exist or has too many values, or another argument is invalid.

    Examples
    --------
    >>> import numpy as np
    >>> from latprof import Pipeline, Trace, analyze
    >>> mic = Pipeline.chain("mic", "decode", "play")
    >>> start = np.arange(3) * 20_000_000
    >>> marks = {"start": start, "decode": start, "play": start + 700, "end": start + 1000}
    >>> profile = analyze(Trace(mic, frame_id=[0, 1, 2], marks=marks))
    >>> profile.frames, profile["play"].mean, profile.bottleneck()
    (3, 300.0, 'decode')
    """
    flags = {"intended": intended, "order": order, "causes": causes, "partial": partial}
    for name, flag in flags.items():
        if not isinstance(flag, bool) and not (flag is None and name == "causes"):
            raise ProfileError(f"{name} must be True or False, got {quoted(flag)}")
    check_integer("id_bits", id_bits, 8, 64)
    if progress is not None and not callable(progress):
        raise ProfileError(f"progress must be a function of two integers, got {quoted(progress)}")
    if executor is not None and not callable(getattr(executor, "submit", None)):
        raise ProfileError(f"executor must have a method submit, got {quoted(executor)}")
    if executor is not None and intended:
        raise ProfileError(
            "intended must be computed in one process, as each frame is due a period after the one "
            "before; leave out the executor"
        )
    dataset = Dataset(recordings, pipeline=pipeline)
    if by is not None:
        for recording in dataset.members:
            check_by(by, recording.tags, recording.name if recording.path else "")
    if dataset.untimed:
        for name, given in (("every", every), ("skip", skip), ("since", since), ("until", until)):
            if given is not None:
                dataset.check_timed(name)
        if intended or causes:
            dataset.check_timed("causes" if causes else "intended")
        order, causes = False, False
    kind = dataset.pipeline
    if causes is None:
        has_stations = any(stage.station is not None for stage in kind.stages)
        causes = has_stations and dataset.rows <= MOST_FOR_CAUSES
    if causes:
        dataset.sort()  # frames may wait for frames of the recording before
    time_range = _time_range(dataset, since, until, skip)
    plan = FoldPlan(
        kind,
        by,
        checked_edges(edges_ns),
        every,
        deadline,
        order,
        id_bits,
        causes,
        intended,
        time_range.first,
        time_range.last,
    )
    profile = plan.profile()
    members = dataset.members
    if executor is None:
        time_range.left_out = plan.fold(profile, members, progress)
    else:
        found = fold_parts(plan, profile, members, executor, progress=progress, partial=partial)
        time_range.left_out = found.left_out
        members = [each for each in members if each.name not in found.unread]
    for member in members:
        profile.note(member.meta)
    if executor is not None and found.missing:
        for name, rows in found.missing.items():
            profile.accounts.notes[f"{NOT_READ} {name}"] = rows
        profile.forget_recorded()
    profile.segments = time_range.clip(profile.segments)
    if dataset.repeated:
        # files may be repeated on purpose, but their frames count more than once
        profile.accounts.notes["files given more than once"] = dataset.repeated
    if time_range.left_out:
        profile.accounts.notes["outside the time range"] = time_range.left_out
        profile.forget_recorded()
    profile.balance()
    return profile


def _time_range(
    dataset: Dataset, since: Time | None, until: Time | None, skip: str | int | None
) -> TimeRange:
    """Return the range of start times of the frames that are folded."""
    first = -STAMP_LIMIT if since is None else parse_time(since, name="since")
    last = STAMP_LIMIT if until is None else parse_time(until, name="until")
    warm_up = duration(skip, "skip")
    begin = None if warm_up is None else dataset.first_start()
    if warm_up is not None and begin is not None:
        first = max(first, begin + warm_up)
    return TimeRange(first, last)
