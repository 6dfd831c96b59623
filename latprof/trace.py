"""Traces: the frames of a pipeline as columns, in memory, files and DataFrames."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from latprof.accounts import InFlight, Recovery
from latprof.arrays import Ints
from latprof.errors import TraceError
from latprof.frames import FINISHED, MISSING, NO_SIZE, Columns, Labels, latencies
from latprof.io import metadata
from latprof.io.atomic import file_errors
from latprof.io.checks import columns_of_arguments, columns_of_table
from latprof.io.dataset import Dataset
from latprof.io.formats.foreign import ForeignFile
from latprof.io.paths import StrPath, is_folder
from latprof.io.several import meta_of_all
from latprof.pipeline import Pipeline, check_pipeline
from latprof.table import Column, Section, Shown, Table
from latprof.text import clip, counted, quoted, shown_path
from latprof.units import Time, format_ns, parse_time

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Trace", "read"]

_FIRST_FRAMES = 5  # frames that print and a notebook show
_MOST_NAMES = 10  # sources, and outcomes, that they show


class Trace(Shown):
    """The frames that passed a pipeline: a row per frame, a column per mark.

    Parameters
    ----------
    pipeline
        What the marks mean.
    frame_id
        (n,) integers from 0 to 2**64 - 1.
    marks
        (n,) by mark: int64 ns, or datetime64 of any unit, in UTC. A mark that is not given is
        missing in all frames. Missing stamps are NaT, None or the smallest int64; 0 is a time.
    size
        (n,) bytes, or one number for all frames; None or NaN if unknown.
    source, outcome
        (n,) names, or one name for all frames. A frame without an outcome is finished.
    cpu, rss
        (n,) percent of a core; bytes of memory, 0 if unknown.
    weight
        (n,) how many frames the row represents; 1 by default.
    tags
        Any other columns by name: numbers, bools, times, text.
    meta
        Metadata of the recording: see `latprof.io.metadata`.

    Raises
    ------
    TraceError
        Arrays have different lengths or dimensions, a value cannot be kept exactly, a mark is not
        one of the pipeline, or the name of a tag is invalid.

    Examples
    --------
    >>> import numpy as np
    >>> from latprof import Pipeline, Trace
    >>> mic = Pipeline.chain("mic", "decode", "play")
    >>> start = np.arange(3) * 20_000_000
    >>> marks = {"start": start, "decode": start, "play": start + 900, "end": start + 1500}
    >>> trace = Trace(mic, frame_id=[7, 8, 9], marks=marks, source="input")
    >>> trace
    <Trace of mic: 3 frames in 40.0 ms, sources input>
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
        self.pipeline = check_pipeline(pipeline, TraceError)
        optional = {"size": size, "source": source, "outcome": outcome}
        optional |= {"cpu": cpu, "rss": rss, "weight": weight}
        tags = {} if tags is None else tags
        self.columns = columns_of_arguments(pipeline, frame_id, marks, optional, tags)
        self.meta = metadata.check_meta(dict(meta) if isinstance(meta, Mapping) else meta, pipeline)

    @classmethod
    def of(
        cls, pipeline: Pipeline, columns: Columns, meta: dict[str, Any] | None = None
    ) -> "Trace":
        """Return a trace of columns that are already checked; nothing is checked or copied."""
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
        """(n,) ns UTC by mark; `latprof.frames.MISSING` if not stamped."""
        return self.columns.marks

    @property
    def size(self) -> npt.NDArray[np.uint32] | None:
        """(n,) bytes, `latprof.frames.NO_SIZE` if unknown; None if all are."""
        return self.columns.size

    @property
    def source(self) -> Labels | None:
        """(n,) names of where the frames came from, or None if unknown."""
        return self.columns.source

    @property
    def outcome(self) -> Labels | None:
        """(n,) how the frames ended, or None if all finished."""
        return self.columns.outcome

    @property
    def cpu(self) -> npt.NDArray[np.float32] | None:
        """(n,) percent of a core, NaN if unknown; None if all are."""
        return self.columns.cpu

    @property
    def rss(self) -> npt.NDArray[np.uint64] | None:
        """(n,) bytes of memory, 0 if unknown; None if all are."""
        return self.columns.rss

    @property
    def weight(self) -> npt.NDArray[np.uint32] | None:
        """(n,) how many frames each row represents, or None if each represents one."""
        return self.columns.weight

    @property
    def tags(self) -> dict[str, npt.NDArray[Any] | Labels]:
        """(n,) by name: all other columns."""
        return self.columns.tags

    @property
    def recovery(self) -> Recovery | None:
        """Contents of the ring file that the trace was recovered from, or None."""
        counts = self.meta.get("recovery")
        return None if counts is None else Recovery(**counts)

    @property
    def in_flight(self) -> tuple[InFlight, ...]:
        """The frames that were in flight in the ring file that the trace was recovered from."""
        return tuple(InFlight(**frame) for frame in self.meta.get("in_flight") or ())

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
            shown = ", ".join(clip(n, 40) for n in there[:3]) + (", ..." if len(there) > 3 else "")
            count += f", sources {shown or 'none'}"
        return f"<Trace of {self.pipeline.name}: {count}>"

    def sections(self) -> list[Section]:
        """Return what `print` and notebooks show: a summary, and the first frames' latencies."""
        first = self.columns.take(slice(0, _FIRST_FRAMES))
        lines, columns, values = [], [Column("frame_id", "name")], [first.frame_id.tolist()]
        for name in ("source", "outcome"):
            labels = getattr(self, name)
            if labels is not None:
                counts = sorted(labels.counts().items(), key=lambda item: -item[1])
                shown = [f"{clip(known or '(none)')} {n:,}" for known, n in counts[:_MOST_NAMES]]
                more = ", ..." if len(counts) > _MOST_NAMES else ""
                lines.append(f"{name}: {', '.join(shown)}{more}")
                columns.append(Column(name))
                names = getattr(first, name).to_numpy().tolist()
                values.append([label or "" for label in names])
        if self.tags:
            lines.append(f"tags: {', '.join(self.tags)}")
        for name in self.pipeline.span_names:
            columns.append(Column(name, "time"))
            lengths = latencies(self.pipeline, first, name).tolist()
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
            (n,) ns; `latprof.frames.MISSING` if the frame lacks one of the marks; negative if
            the clock went back. ``other`` is end_to_end minus the stages of the same frame; a
            missing stage counts as 0.

        Raises
        ------
        PipelineError
            The pipeline has no such span.
        """
        return latencies(self.pipeline, self.columns, name)

    def select(
        self,
        mask: Any = None,
        *,
        source: str | None = None,
        outcome: str | None = None,
        since: Time | None = None,
        until: Time | None = None,
    ) -> "Trace":
        """Return the frames that fulfil all given conditions.

        Parameters
        ----------
        mask
            (n,) bools.
        source, outcome
            A name. ``"finished"`` also takes the frames without an outcome.
        since, until
            Frames that start at `since` or later and before `until`: integer ns UTC, datetime64,
            a datetime (UTC if it has no zone) or ISO 8601 text. Frames without a start are left
            out.

        Raises
        ------
        TraceError
            The mask has another length or type, a time is invalid, or a name is not text.
        """
        keep = np.ones(len(self), bool)
        if mask is not None:
            mask = np.asarray(mask)
            if mask.dtype != bool or mask.shape != keep.shape:
                raise TraceError(
                    f"mask must be bools of shape {keep.shape}, got {mask.dtype} of shape "
                    f"{mask.shape}"
                )
            keep &= mask
        for name, text in (("source", source), ("outcome", outcome)):
            labels = getattr(self, name)
            if text is None:
                continue
            if not isinstance(text, str):
                raise TraceError(f"{name} must be text, got {quoted(text)}")
            if name == "outcome" and text == FINISHED:
                done = self.columns.finished()
                keep &= True if done is None else done
            else:
                keep &= False if labels is None else labels.equals(text)
        start = self.marks["start"]
        if since is not None or until is not None:
            keep &= start != MISSING
        if since is not None:
            keep &= start >= parse_time(since, name="since")
        if until is not None:
            keep &= start < parse_time(until, name="until")
        meta = dict(self.meta)
        if self.columns.weight is not None and (self.columns.weight > 1).any():
            meta.pop("accounts", None)  # they count all frames, not the selected ones
        return Trace.of(self.pipeline, self.columns.take(keep), meta)

    # -- in and out -----------------------------------------------------------------------------

    def save(self, path: StrPath) -> None:
        """Write a trace file; an old file is replaced once the new one is complete.

        Raises
        ------
        TraceError
            The file cannot be written, or its name ends in ``.csv``.
        """
        if str(path).lower().endswith(".csv"):
            raise TraceError(f"path must not end in .csv, got {shown_path(path)}; use to_csv")
        with file_errors(path, "cannot be written"):  # loading pyarrow may fail as well
            from latprof.io.writer import Writer

            with Writer(path, self.pipeline, metadata.described(self.meta)) as writer:
                writer.write(self.columns)

    def to_pandas(self) -> "pd.DataFrame":
        """Return a DataFrame with a row per frame.

        Its columns: `frame_id`; the marks as datetime64[ns] UTC without a zone; `size`
        (nullable), `source` and `outcome` (categories), `cpu`, `rss`, `weight` and tags if there
        are any; ``<span>_latency`` as timedelta64[ns] for stages, sides, other, totals.
        """
        import pandas as pd

        columns = self.columns
        data: dict[str, Any] = {"frame_id": columns.frame_id}
        data |= {mark: ns.view("M8[ns]") for mark, ns in columns.marks.items()}  # MISSING is NaT
        for name, column in (columns.optional | columns.tags).items():
            if name == "size":
                data[name] = pd.arrays.IntegerArray(column, column == NO_SIZE)
            elif isinstance(column, Labels):
                categories = pd.Index(column.names, dtype=object)
                data[name] = pd.Categorical.from_codes(column.codes, categories=categories)
            else:
                data[name] = column
        for name in self.pipeline.span_names:
            data[f"{name}_latency"] = self.span(name).view("m8[ns]")
        return pd.DataFrame(data, copy=False)

    @classmethod
    def from_pandas(
        cls, table: "pd.DataFrame", pipeline: Pipeline | None = None, **columns: Any
    ) -> "Trace":
        """Return the trace that a DataFrame holds.

        With a pipeline alone, the columns must have the names that `to_pandas` gives them, in any
        order; marks are datetimes of any unit or integer ns. Times with a zone are converted to
        UTC, times without a zone are UTC. A mark without a column is missing in all frames.
        `<span>_latency` columns are ignored; all others are tags. Columns that cannot be kept are
        listed in ``meta["dropped_columns"]``.

        Parameters
        ----------
        table
            A row per frame.
        pipeline
            What the marks mean; it is not needed if `marks` are given.
        columns
            What columns with other names mean: ``marks=["received_at", "sent_at"]``, ``id``,
            ``unit`` and further arguments of `ForeignFile`.

        Raises
        ------
        TraceError
            The table lacks the frame_id or all marks, or a value cannot be kept exactly.

        Examples
        --------
        >>> import pandas as pd
        >>> from latprof import Trace
        >>> table = pd.DataFrame({"got_ms": [0, 10], "done_ms": [3, 17]})
        >>> Trace.from_pandas(table, marks=["got_ms", "done_ms"]).span("end_to_end")
        array([3000000, 7000000])
        """
        if hasattr(pipeline, "iloc"):
            raise TraceError(
                f"pipeline must be a Pipeline (for example latprof.AUDIO), got "
                f"{type(pipeline).__name__}; the DataFrame comes first"
            )
        if not (hasattr(table, "columns") and hasattr(table, "iloc")):
            remedy = "; pass table.to_pandas()" if hasattr(table, "to_pandas") else ""
            raise TraceError(f"table must be a DataFrame of pandas, got {quoted(table)}{remedy}")
        if pipeline is not None or not columns:
            check_pipeline(pipeline, TraceError)
        if columns:
            return cls._of_table(ForeignFile("table", pipeline, **columns), table)
        assert pipeline is not None
        from latprof.io import arrow

        if "frame_id" not in table.columns and table.index.name == "frame_id":
            table = table.reset_index()
        whole = arrow.table_of(table)
        plan = arrow.plan(whole.schema, pipeline)
        found = columns_of_table(whole, {*plan.names, *pipeline.marks}, plan, pipeline)
        return cls.of(pipeline, found, {"dropped_columns": plan.dropped} if plan.dropped else None)

    @classmethod
    def from_durations(
        cls, durations: Mapping[str, Any], *, unit: str = "ns", **columns: Any
    ) -> "Trace":
        """Return a trace of frames of which only the durations of stages are known.

        Nothing that needs times is computed from it: rate, order, windows, causes.

        Parameters
        ----------
        durations
            (n,) by stage, in order: integers, floats, or timedelta64. None and NaN are missing;
            a frame that lacks a stage has no end_to_end.
        unit
            Unit of numbers: s, ms, us or ns.
        columns
            (n,) other columns: ``id``, ``source``, ``size``, ``outcome``, and tags by name.

        Raises
        ------
        TraceError
            Arrays have different lengths, or a value is not a duration.

        Examples
        --------
        >>> from latprof import Trace
        >>> trace = Trace.from_durations({"queue": [1.5, 2.0], "work": [4, 5]}, unit="ms")
        >>> trace.span("end_to_end")
        array([5500000, 7000000])
        """
        if not isinstance(durations, Mapping) or not durations:
            raise TraceError(f"durations must be a dict of arrays, got {quoted(durations)}")
        own: dict[str, Any] = {
            use: use for use in ("id", "source", "size", "outcome") if use in columns
        }
        given = ForeignFile("durations", durations=list(durations), unit=unit, **own)
        return cls._of_table(given, {**durations, **columns})

    @classmethod
    def _of_table(cls, given: ForeignFile, table: Any) -> "Trace":
        """Return the trace of a DataFrame, or of a dict of columns."""
        from latprof.io.formats.rows import read_table

        return cls.of(*read_table(given.columns, table))

    def to_csv(self, path: StrPath) -> None:
        """Write a CSV file with a line per frame; an old file is replaced once it is complete.

        Its columns are those of `to_pandas`; times are integer ns, missing values are empty.
        Names that a spreadsheet would take for a formula are written after an apostrophe. A file
        ``<path>.pipeline.json`` beside it says what the columns mean, so that `latprof.read`
        reads the same frames.

        Raises
        ------
        TraceError
            The file cannot be written.
        """
        from latprof.io.csv_writer import write_csv

        write_csv(path, self.pipeline, self.columns, self.meta)


def read(
    path: "StrPath | ForeignFile",
    pipeline: Pipeline | None = None,
    **columns: Any,
) -> Trace:
    """Return the trace in a file.

    Parameters
    ----------
    path
        A Parquet file, saved by latprof or by another tool, or a file of another format: see
        ``latprof formats``.
    pipeline
        What the columns mean, if another tool has written the file.
    columns
        Arguments of `ForeignFile` for a file of another tool: ``marks``, ``stages``,
        ``durations``, ``id``, ``source``, ``size``, ``outcome``, ``tags``, ``unit``, ``tz``,
        ``zero_is_missing``, ``max_bad``, ``samples`` and ``spans``.

    Raises
    ------
    TraceError
        The file is missing, corrupt or not a trace, or does not say which pipeline it is of.
    """
    if isinstance(path, ForeignFile):
        given = path
    elif not isinstance(path, str | os.PathLike):
        raise TraceError(
            f"path must be the path of one file, got {quoted(path)}; "
            + (
                "latprof.Trace.from_pandas(table, pipeline) makes a trace of a DataFrame"
                if type(path).__name__ == "DataFrame"
                else "latprof.analyze takes several"
            )
        )
    else:
        given = ForeignFile(path, pipeline, **columns)
    if is_folder(given.path):
        raise TraceError(
            f"{shown_path(given.path)}: the path must be of a file, got a folder; name a file in it"
        )
    dataset = Dataset(given if columns or given is path else given.path, pipeline=pipeline)
    return Trace.of(dataset.pipeline, dataset.read(), meta_of_all(dataset.members))
