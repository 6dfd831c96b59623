"""The recordings that an analysis reads: traces in memory, files, folders, globs, or several.

A `Dataset` resolves and checks what a public function was given, and streams its frames in
batches. A file is open only while it is read, and pyarrow is loaded only if there is a file.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from latprof.errors import TraceError
from latprof.frames import Columns
from latprof.io.ahead import DECODERS, REMOTE_DECODERS, ahead
from latprof.io.batches import cut, in_order
from latprof.io.find import find_files
from latprof.io.formats.foreign import ForeignFile
from latprof.io.member import (
    Member,
    Task,
    TraceLike,
    cut_out,
    foreign,
    in_memory,
    inspected,
    runs_of,
)
from latprof.io.paths import identity, is_url
from latprof.io.several import recordings_in
from latprof.pipeline import Pipeline, check_pipeline
from latprof.units import STAMP_LIMIT

__all__ = [
    "Dataset",
    "DatasetLike",
    "RecordingLike",
    "stream_of",
]


_INSPECTED_AT_ONCE = 16  # files behind URLs

RecordingLike = TraceLike | ForeignFile | Member | str | os.PathLike[str]

DatasetLike = RecordingLike | Iterable[RecordingLike]
"""The argument of functions that analyze frames: a recording, or several."""


class Dataset:
    """Traces and files of one pipeline, checked without reading their frames.

    Parameters
    ----------
    recordings
        A trace, a path, a folder (all ``*.parquet`` files in it and below), a glob, or several;
        paths may be URLs, as ``s3://bucket/day/``: see `latprof.io.remote`.
    pipeline
        What the marks mean, for files that do not say it; it may differ from the pipeline of
        other files in stations and the period.
    stations
        Stations by stage, instead of those of the pipeline: see `Pipeline.with_stations`.
    queues
        Rooms of queues by hand-off, instead of those of the pipeline: see `Pipeline.with_queues`.
    unique
        Read a file that is given more than once only once.

    Attributes
    ----------
    pipeline
        That of all members, with `stations` and `queues`.
    members
        The traces and files in the order given; the files of a folder or a glob by name.
    rows
        Number of rows of all members together; an estimate if a member is a table in text.
    repeated
        How many of the given files had been given before.

    Raises
    ------
    TraceError
        No recording is given, a file is missing or corrupt, recordings have different pipelines,
        or an argument is neither a trace nor a path.
    PipelineError
        `stations` or `queues` has a stage that the pipeline lacks, or `pipeline` has other marks
        or spans than a trace.

    Examples
    --------
    >>> from latprof import Trace
    >>> mic = Pipeline("mic", ("start", "end"))
    >>> first = Trace(mic, frame_id=[0, 1], marks={"start": [0, 10], "end": [5, 15]})
    >>> second = Trace(mic, frame_id=[2], marks={"start": [7], "end": [9]})
    >>> dataset = Dataset([first, second])
    >>> dataset.rows, dataset.first_start()
    (3, 0)
    >>> [columns.frame_id.tolist() for columns in dataset.merged(["start"])]
    [[0, 2], [1]]
    """

    def __init__(
        self,
        recordings: DatasetLike,
        *,
        pipeline: Pipeline | None = None,
        stations: Mapping[str, str | None] | None = None,
        queues: Mapping[str, int | None] | None = None,
        unique: bool = False,
    ) -> None:
        if pipeline is not None:
            check_pipeline(pipeline, TraceError)
        self.members: list[Member] = []
        self.repeated = 0
        seen: set[str] = set()
        tasks = []
        for key, task in _found(recordings, pipeline):
            if key in seen:
                self.repeated += 1
                if unique:
                    continue
            elif key:
                seen.add(key)
            tasks.append((task, _INSPECTED_AT_ONCE))
        threads = _INSPECTED_AT_ONCE if any(map(is_url, seen)) else 0
        for member in ahead(iter(tasks), threads):
            self._add(member)
        if not self.members:
            raise TraceError("no recordings were given; pass at least one trace or file")
        self.pipeline = self.members[0].pipeline
        if stations is not None:
            self.pipeline = self.pipeline.with_stations(stations)
        if queues is not None:
            self.pipeline = self.pipeline.with_queues(queues)
        self.rows = sum(member.rows for member in self.members)

    def _add(self, recording: Member) -> None:
        if not recording.name:
            recording = replace(recording, name=f"recording {len(self.members) + 1}")
        first = self.members[0] if self.members else recording
        if recording.pipeline != first.pipeline:
            raise TraceError(
                f"recordings must be of one pipeline: {recording.name} is of "
                f"{recording.pipeline.name!r} and {first.name} of {first.pipeline.name!r}, and "
                "their marks, spans, stations or periods differ; use them separately"
            )
        self.members += recordings_in(recording)

    @property
    def untimed(self) -> bool:
        """Whether frames have durations, but no times."""
        return any(member.meta.get("untimed") for member in self.members)

    def check_timed(self, what: str) -> None:
        """Refuse frames without times; a message names the result that needs them as `what`.

        Raises
        ------
        TraceError
            Only durations of some frames are known.
        """
        if self.untimed:
            raise TraceError(
                f"{what} must be computed from frames with times, got durations without times; "
                "give the columns of the times (marks=, --marks)"
            )

    @property
    def paths(self) -> list[Path | str]:
        """The files, without the traces in memory; URLs are text."""
        return list(dict.fromkeys(each.path for each in self.members if each.path is not None))

    def first_start(self) -> int | None:
        """Return the first start of all frames in ns UTC, or None if no frame has one.

        The column `start` of each file is read for it.
        """
        lowest = min(member.lowest_start() for member in self.members)
        return None if lowest == STAMP_LIMIT else lowest

    def sort(self) -> None:
        """Sort the members by the first start in their first batch.

        The files of a folder are in order of name, in which "10" comes before "2".
        """
        if len(self.members) > 1:
            self.members.sort(key=lambda each: each.lowest_start(first_batch=True))

    def read(self, names: Iterable[str] | None = None) -> Columns:
        """Return all frames at once, one member after the other."""
        columns = [member.read(names) for member in self.members]
        return columns[0] if len(columns) == 1 else Columns.concat(columns)

    def stream(
        self,
        names: Iterable[str] | None = None,
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> Iterator[tuple[Member, Iterator[Columns]]]:
        """Yield each member and its batches: see `stream_of`."""
        return stream_of(self.members, names, progress=progress)

    def merged(
        self,
        names: Iterable[str] | None = None,
        *,
        slack: int | None = None,
        sort_files: bool = False,
    ) -> Iterator[Columns]:
        """Yield batches of all frames in order of time.

        Members that follow each other keep their order of rows. If members overlap in time, their
        rows are merged in order of start, and one batch of each is in memory.

        Parameters
        ----------
        names
            Marks, optional columns and tags to read, ``start`` among them; None reads all.
        slack
            Sort a member that is in memory by start if one of its rows is more than this many rows
            out of order; None never sorts.
        sort_files
            Load each file completely, so that `slack` applies to it as well.
        """
        wanted = None if names is None else tuple(names)

        def batches(member: Member) -> Iterator[Columns]:
            if member.columns is None and not sort_files:
                yield from member.batches(wanted)
            else:
                yield from cut(member.read(wanted), slack)

        starts = [0]
        if len(self.members) > 1:
            starts = [member.lowest_start(first_batch=not sort_files) for member in self.members]
        yield from in_order(starts, map(batches, self.members))


def stream_of(
    members: Sequence[Member],
    names: Iterable[str] | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[Member, Iterator[Columns]]]:
    """Yield each member and its batches, which must be used up before the next member.

    Threads decode the next batches of a file while the caller works on the last one; the caller's
    thread does the rest. (Two threads that both make many short calls of numpy would hand the
    interpreter to each other at each call, which costs more than it saves.)

    Parameters
    ----------
    members
        Traces and files.
    names
        Marks, optional columns and tags to read; None reads all.
    progress
        Called with (rows read, rows in all) after the caller has worked on a batch.
    """
    wanted = None if names is None else tuple(names)
    rows = sum(member.rows for member in members)

    def tasks() -> Iterator[tuple[Task, int]]:
        """Yield the tasks of all members, those of a file with several together."""
        for run in runs_of(members):
            yield from run[0].tasks(wanted, run[-1])

    threads = DECODERS if any(member.path is not None for member in members) else 0
    if any(isinstance(member.path, str) for member in members):
        threads = REMOTE_DECODERS
    coming = ahead(tasks(), threads)
    done = 0

    def batches() -> Iterator[Columns]:
        nonlocal done
        while (make := next(coming)) is not None:
            columns = make()
            del make  # holds the decoded table, which may be large
            done += len(columns)
            yield columns
            if progress is not None:
                progress(min(done, rows), rows)  # a row group may have rows of other members

    for run in runs_of(members):
        if run[0].within is None:
            yield run[0], batches()
        else:
            yield from cut_out(run, batches())


def _found(
    recordings: DatasetLike, pipeline: Pipeline | None
) -> Iterator[tuple[str, Callable[[], Member]]]:
    """Yield each trace and each file: text that is equal for the same file, and its inspection.

    The text is empty for a trace in memory.

    Raises
    ------
    TraceError
        A path without files, or something that is neither a trace nor a path.
    """
    given: Any = recordings
    # iterating over a DataFrame would yield the names of its columns
    one = (
        isinstance(given, str | os.PathLike | ForeignFile | Member)
        or _is_trace(given)
        or _is_table(given)
    )
    try:
        several = iter([given] if one or not isinstance(given, Iterable) else given)
    except TypeError:  # an array without dimensions
        several = iter([given])
    for recording in several:
        if isinstance(recording, Member):
            yield recording.key, partial(_same, recording)
        elif _is_trace(recording):
            yield "", partial(in_memory, recording, pipeline)
        elif isinstance(recording, str | os.PathLike):
            for path in find_files(recording):
                yield identity(path), partial(inspected, path, pipeline)
        elif isinstance(recording, ForeignFile):
            for path in find_files(recording.path, every=True):
                yield identity(path), partial(foreign, path, recording, pipeline)
        else:
            remedy = (
                "latprof.Trace.from_pandas(table, pipeline) makes a trace of it"
                if _is_table(recording)
                else "pass one of these, or a list of them"
            )
            raise TraceError(
                f"a recording must be a Trace or a path, got {type(recording).__name__}; {remedy}"
            )


def _same(member: Member) -> Member:
    return member


def _is_trace(value: object) -> bool:
    return isinstance(getattr(value, "columns", None), Columns) and isinstance(
        getattr(value, "pipeline", None), Pipeline
    )


def _is_table(value: object) -> bool:
    return type(value).__name__ == "DataFrame"
