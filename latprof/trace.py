"""A trace: the frames of a pipeline as columns, to be selected, saved, read and handed on."""

import os
import socket
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from latprof import spans
from latprof.accounts import Recovery
from latprof.arrays import Ints
from latprof.errors import TraceError
from latprof.frames import FINISHED, MISSING, Columns, Labels
from latprof.io import arguments, metadata, tables
from latprof.io.arguments import Moment
from latprof.pipeline import Pipeline
from latprof.table import Column, Section, Table, html
from latprof.text import clip, counted, escape
from latprof.units import format_ns, format_utc

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Trace", "check_alike", "check_recording", "each_recording", "read"]

StrPath = str | os.PathLike[str]

_FIRST_FRAMES = 5  # shown in a notebook
_MOST_NAMES = 10  # of sources and outcomes, shown in a notebook


class Trace:
    """The frames that passed a pipeline: a row a frame, a column a mark.

    Parameters
    ----------
    pipeline
        What the marks mean.
    frame_id
        (n,) integers from 0 to 2**64 - 1.
    marks
        (n,) by mark: int64 ns, or datetime64 of any unit, taken as UTC as given. A mark that
        is not given is missing in all frames. Missing stamps are NaT, None or the smallest
        int64; 0 is a time.
    size
        (n,) bytes, or one for all frames; None or NaN where not known.
    source, outcome
        (n,) names, or one for all frames. A frame without an outcome is finished.
    cpu, rss
        (n,) percent of a core; bytes of memory (0: not known).
    weight
        (n,) how many frames the row stands for; not given: 1.
    tags
        Any other columns by name: numbers, bools, times, text.
    meta
        What is known about the recording; see `latprof.io.metadata`.

    Raises
    ------
    TraceError
        Arrays of different lengths or dimensions, values that cannot be kept exactly, a mark
        that the pipeline does not have, a tag's name that it cannot have.

    Examples
    --------
    >>> mic = Pipeline.chain("mic", "decode", "play")
    >>> start = np.arange(3) * 20_000_000
    >>> marks = {"start": start, "decode": start, "play": start + 900, "end": start + 1500}
    >>> trace = Trace(mic, frame_id=[7, 8, 9], marks=marks, source="input")
    >>> trace
    <Trace of 'mic': 3 frames in 40.0 ms, sources input>
    >>> trace.span("play")
    array([600, 600, 600])
    >>> trace.select(since=20_000_000).frame_id
    array([8, 9], dtype=uint64)
    """

    __slots__ = ("columns", "meta", "pipeline")

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        frame_id: Any,
        marks: Mapping[str, Any],
        size: Any = None,
        source: Any = None,
        outcome: Any = None,
        cpu: Any = None,
        rss: Any = None,
        weight: Any = None,
        tags: Mapping[str, Any] | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(pipeline, Pipeline):
            raise TraceError(f"pipeline is {type(pipeline).__name__}: give a Pipeline")
        self.pipeline = pipeline
        self.columns = arguments.columns(
            pipeline,
            frame_id=frame_id,
            marks=marks,
            size=size,
            source=source,
            outcome=outcome,
            cpu=cpu,
            rss=rss,
            weight=weight,
            tags=tags,
        )
        self.meta = metadata.check_meta(None if meta is None else dict(meta), pipeline)

    @classmethod
    def of(
        cls, pipeline: Pipeline, columns: Columns, meta: dict[str, Any] | None = None
    ) -> "Trace":
        """Return a trace of columns that are known to be right; nothing is checked or copied."""
        trace = cls.__new__(cls)
        trace.pipeline, trace.columns, trace.meta = pipeline, columns, meta or {}
        return trace

    # -- columns --------------------------------------------------------------------------------

    @property
    def frame_id(self) -> npt.NDArray[np.uint64]:
        """(n,) ids."""
        return self.columns.frame_id

    @property
    def marks(self) -> dict[str, Ints]:
        """(n,) ns UTC by mark; `columns.MISSING` where not stamped."""
        return self.columns.marks

    @property
    def size(self) -> npt.NDArray[np.uint32] | None:
        """(n,) bytes; `columns.NO_SIZE` where not known."""
        return self.columns.size

    @property
    def source(self) -> Labels | None:
        """(n,) where the frames came from."""
        return self.columns.source

    @property
    def outcome(self) -> Labels | None:
        """(n,) how the frames ended; None: all finished."""
        return self.columns.outcome

    @property
    def cpu(self) -> npt.NDArray[np.float32] | None:
        """(n,) percent of a core; NaN where not known."""
        return self.columns.cpu

    @property
    def rss(self) -> npt.NDArray[np.uint64] | None:
        """(n,) bytes of memory; 0 where not known."""
        return self.columns.rss

    @property
    def weight(self) -> npt.NDArray[np.uint32] | None:
        """(n,) how many frames each row stands for; None: one."""
        return self.columns.weight

    @property
    def tags(self) -> dict[str, npt.NDArray[Any] | Labels]:
        """(n,) by name: all other columns."""
        return self.columns.tags

    @property
    def recovery(self) -> Recovery | None:
        """What the ring file held that the trace was recovered from; None: from none."""
        told = self.meta.get("recovery")
        return None if told is None else Recovery(**told)

    def __len__(self) -> int:
        return len(self.columns)

    def __repr__(self) -> str:
        count = counted(len(self), "frame")
        start = self.marks.get("start", np.empty(0, np.int64))
        stamped = start[start != MISSING]
        if len(stamped):
            count += f" in {format_ns(int(stamped.max()) - int(stamped.min()))}"
        if self.source is not None:
            there = [n for n in self.source.counts() if n is not None]
            shown = ", ".join(escape(n) for n in there[:3]) + (", ..." if len(there) > 3 else "")
            count += f", sources {shown or 'none'}"
        return f"<Trace of {self.pipeline.name!r}: {count}>"

    def _repr_html_(self) -> str:
        return html(self.sections())

    def sections(self) -> list[Section]:
        """Return what a notebook shows of it: what it holds, the latencies of its first frames."""
        lines = []
        for name in ("source", "outcome"):
            labels = getattr(self, name)
            if labels is not None:
                counts = sorted(labels.counts().items(), key=lambda item: -item[1])
                shown = [f"{clip(known or '(none)')} {n:,}" for known, n in counts[:_MOST_NAMES]]
                more = ", ..." if len(counts) > _MOST_NAMES else ""
                lines.append(f"{name}: {', '.join(shown)}{more}")
        if self.tags:
            lines.append(f"tags: {', '.join(self.tags)}")
        first = self.columns.take(slice(0, _FIRST_FRAMES))
        columns, values = [Column("frame_id", "name")], [first.frame_id.tolist()]
        for name in ("source", "outcome"):
            labels = getattr(first, name)
            if isinstance(labels, Labels):
                columns.append(Column(name))
                values.append([label or "" for label in labels.to_numpy().tolist()])
        for name in spans.names(self.pipeline):
            columns.append(Column(name, "time"))
            lengths = spans.latencies(self.pipeline, first, name).tolist()
            values.append([None if ns == MISSING else ns for ns in lengths])
        rows = list(zip(*values, strict=True))
        left = len(self) - len(rows)
        rest = (f"and {counted(left, 'more frame')}",) if left else ()
        title = repr(self).strip("<>")
        return [Section(title, tuple(lines)), Section("", rest, Table(tuple(columns), rows))]

    # -- questions ------------------------------------------------------------------------------

    def span(self, name: str) -> Ints:
        """Return how long a stage, side, total or ``"other"`` took in every frame.

        Returns
        -------
        ndarray
            (n,) ns; `columns.MISSING` where the frame lacks one of the marks; negative where
            the clock went back. ``other`` is end_to_end minus the stages of the same frame,
            one that is missing counting 0.

        Raises
        ------
        PipelineError
            The pipeline has no such span.
        """
        return spans.latencies(self.pipeline, self.columns, name)

    def select(
        self,
        mask: Any = None,
        *,
        source: str | None = None,
        outcome: str | None = None,
        since: Moment | None = None,
        until: Moment | None = None,
    ) -> "Trace":
        """Return the frames for which everything that is given holds.

        Parameters
        ----------
        mask
            (n,) bools.
        source, outcome
            A name. ``"finished"`` also takes the frames without an outcome.
        since, until
            From the one, up to but without the other, by `start`: integer ns UTC, datetime64,
            datetime (without a zone: UTC) or ISO 8601 text. A frame without a start is in no
            range.

        Raises
        ------
        TraceError
            A mask of another length or type, or a time that is none.
        """
        keep = np.ones(len(self), bool)
        if mask is not None:
            mask = np.asarray(mask)
            if mask.dtype != bool or mask.shape != keep.shape:
                raise TraceError(
                    f"mask is {mask.dtype} of shape {mask.shape}: give bools of shape {keep.shape}"
                )
            keep &= mask
        if source is not None:
            keep &= False if self.source is None else self.source.equals(source)
        if outcome is not None:
            if self.outcome is None:
                keep &= outcome == FINISHED
            elif outcome == FINISHED:
                done = self.columns.finished()
                keep &= True if done is None else done
            else:
                keep &= self.outcome.equals(outcome)
        start = self.marks["start"]
        if since is not None or until is not None:
            keep &= start != MISSING
        if since is not None:
            keep &= start >= arguments.moment(since, "since")
        if until is not None:
            keep &= start < arguments.moment(until, "until")
        return Trace.of(self.pipeline, self.columns.take(keep), dict(self.meta))

    # -- in and out -----------------------------------------------------------------------------

    def save(self, path: StrPath) -> None:
        """Write a trace file, whole or not at all; an old one is replaced.

        Raises
        ------
        TraceError
            The file cannot be written.
        """
        from latprof.io.writer import write

        write(path, self.pipeline, self.columns, _described(self.meta))

    def to_pandas(self) -> "pd.DataFrame":
        """Return a DataFrame with a row a frame.

        Its columns: `frame_id`; the marks as datetime64[ns] UTC without a zone; `size`
        (nullable), `source` and `outcome` (categories), `cpu`, `rss`, `weight` and tags where
        there are any; ``<span>_latency`` as timedelta64[ns] for stages, sides, other, totals.
        """
        return tables.to_pandas(self.pipeline, self.columns)

    @classmethod
    def from_pandas(cls, table: "pd.DataFrame", pipeline: Pipeline) -> "Trace":
        """Return the trace that a DataFrame holds.

        Its columns are named as `to_pandas` names them, in any order; marks are datetimes of
        any unit or integer ns. Times with a zone are converted to UTC, those without are taken
        as UTC. `<span>_latency` columns are derived and ignored; all others are tags; those
        that cannot be kept are listed in ``meta["dropped_columns"]``.

        Raises
        ------
        TraceError
            No frame_id, no mark, or values that cannot be kept exactly.
        """
        columns, meta = tables.from_pandas(table, pipeline)
        return cls.of(pipeline, columns, meta)

    def to_csv(self, path: StrPath) -> None:
        """Write a CSV file with a line a frame, whole or not at all.

        Its columns are those of `to_pandas`; times are integer ns, what is missing is empty.
        Names that a spreadsheet would take for a formula are written after an apostrophe.

        Raises
        ------
        TraceError
            The file cannot be written.
        """
        tables.write_csv(path, self.pipeline, self.columns)


def read(path: StrPath, pipeline: Pipeline | None = None) -> Trace:
    """Return the trace that a file holds.

    Parameters
    ----------
    path
        A Parquet file: saved by latprof, or by another tool.
    pipeline
        What its columns mean, if another tool has written it.

    Raises
    ------
    TraceError
        The file is no trace, or damaged, or does not say which pipeline it is of.
    """
    from latprof.io.reader import Reader

    if not isinstance(path, str | os.PathLike):
        name = type(path).__name__
        if name == "DataFrame":
            check_recording(path)
        raise TraceError(f"read takes the path of one file, not {name}: analyze takes several")
    with Reader(path, pipeline) as reader:
        return Trace.of(reader.pipeline, reader.read(), reader.meta)


_RECORDING = (Trace, str, os.PathLike)


def each_recording(recordings: Any) -> "Iterator[Trace | StrPath]":
    """Yield the one recording, or each of several.

    Raises
    ------
    TraceError
        Something that is neither a trace nor a path: a DataFrame, say.
    """
    alone = isinstance(recordings, _RECORDING) or not isinstance(recordings, Iterable)
    # a DataFrame has its columns' names to go through
    alone = alone or type(recordings).__name__ == "DataFrame"
    for recording in [recordings] if alone else recordings:
        check_recording(recording)
        yield recording


def check_recording(recording: object) -> None:
    """Refuse what is neither a trace nor a path.

    Raises
    ------
    TraceError
        Says what makes a trace of a DataFrame.
    """
    if not isinstance(recording, _RECORDING):
        name = type(recording).__name__
        made = ": latprof.Trace.from_pandas(table, pipeline) makes one of it"
        raise TraceError(
            f"a recording is a Trace or a path, not {name}"
            + (made if name == "DataFrame" else ": give one of these, or a list of them")
        )


def check_alike(one: tuple[str, Pipeline], other: tuple[str, Pipeline], remedy: str) -> None:
    """Refuse two recordings of different pipelines, each given with how it is called.

    Raises
    ------
    TraceError
        The pipelines differ.
    """
    if one[1] != other[1]:
        raise TraceError(
            f"{other[0]} is of pipeline {other[1].name!r} and {one[0]} of {one[1].name!r}, and "
            f"their marks, spans, stations or periods differ: {remedy}"
        )


def _described(meta: dict[str, Any]) -> dict[str, Any]:
    """Return `meta` with what every file says about where it is from."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        own = version("latprof")
    except PackageNotFoundError:  # run from a checkout without being installed
        own = "unknown"
    defaults = {
        "created": format_utc(time.time_ns()),
        "host": socket.gethostname(),
        "python": sys.version.split()[0],
        "latprof": own,
    }
    return defaults | meta
