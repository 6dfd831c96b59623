"""Files of other tools as recordings: which format a file has, and what its columns mean."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from latprof.errors import LatprofError, PipelineError, TraceError
from latprof.io.formats.columns import ColumnMap
from latprof.io.metadata import check_meta
from latprof.io.paths import is_url, open_binary, size_of
from latprof.pipeline import Pipeline, check_pipeline
from latprof.text import quoted, shown_path

__all__ = ["ForeignFile", "beside", "read_pipeline_file"]

_LARGEST_PIPELINE = 1 << 24  # bytes


@dataclass(frozen=True, slots=True, init=False)
class ForeignFile:
    """A file that another tool has written, and how to read it.

    All functions that take a trace take it: ``latprof.analyze(ForeignFile("requests.csv",
    marks=["received_at", "sent_at"]))``.

    Parameters
    ----------
    path
        Of the file, or a folder or a glob of files that are read alike.
    pipeline
        What the marks mean; by default a pipeline is made of `marks` and `stages`.
    marks
        Columns with times in the order in which frames pass them: the first is ``start``, the
        last ``end``; or a dict of columns by mark of `pipeline`.
    stages
        Pairs of columns, ``"received_at:dequeued_at"``, by name of the stage between them. By
        default there is a stage from each mark to the next.
    durations
        Columns with how long each stage took, if there are no times, or one mark alone: the start.
    id, source, size, outcome
        Columns with these. Without an id the rows are numbered from 0.
    tags
        Columns that become tags; by default all that have no other use.
    unit
        Of times that are numbers: ``"s"``, ``"ms"``, ``"us"`` or ``"ns"``. By default it is found
        from the names of the columns, or from the size or the decimals of the times, and reported.
    tz
        Zone of times without one, for example ``"Europe/Vienna"``; UTC by default.
    zero_is_missing
        Whether 0 means that a mark was not reached.
    max_bad
        Most rows that may be unreadable: a number, or a part such as ``"5%"``. By default 1 %, or
        10 rows if that is more.
    samples
        Whether the rows are periodic samples rather than frames.
    spans
        Of a file of spans: the operations that become stages, in order. By default they are those
        on the critical path.

    Raises
    ------
    TraceError
        An argument is invalid. Errors of the file are raised when it is read.

    Examples
    --------
    >>> from latprof import ForeignFile
    >>> ForeignFile("requests.csv", marks=["received_at", "sent_at"]).columns.resolved()[1]
    {'start': 'received_at', 'end': 'sent_at'}
    """

    path: str
    columns: ColumnMap
    spans: tuple[str, ...]

    def __init__(
        self,
        path: str | os.PathLike[str],
        pipeline: Pipeline | None = None,
        *,
        marks: Sequence[str] | Mapping[str, str] | None = None,
        stages: Mapping[str, str] | None = None,
        durations: Sequence[str] | None = None,
        id: str | None = None,
        source: str | None = None,
        size: str | None = None,
        outcome: str | None = None,
        tags: Sequence[str] | None = None,
        unit: str | None = None,
        tz: str | None = None,
        zero_is_missing: bool | None = None,
        max_bad: int | str | None = None,
        samples: bool | None = None,
        spans: Sequence[str] | None = None,
    ) -> None:
        if not isinstance(path, str | os.PathLike):
            raise TraceError(f"path must be the path of a file, got {quoted(path)}")
        if pipeline is not None:
            check_pipeline(pipeline, TraceError)
        columns = ColumnMap().updated(
            pipeline=pipeline,
            marks=marks,
            stages=stages,
            durations=durations,
            id=id,
            source=source,
            size=size,
            outcome=outcome,
            tags=tags,
            unit=unit,
            tz=tz,
            zero_is_missing=zero_is_missing,
            max_bad=max_bad,
            samples=samples,
        )
        if isinstance(spans, str) or not all(isinstance(name, str) for name in spans or ()):
            raise TraceError(f"spans must be a list of names, got {quoted(spans)}")
        object.__setattr__(self, "path", os.fspath(path))
        object.__setattr__(self, "columns", columns)
        object.__setattr__(self, "spans", tuple(spans or ()))

    @classmethod
    def of(
        cls, path: str | os.PathLike[str], columns: ColumnMap, spans: Sequence[str] = ()
    ) -> "ForeignFile":
        """Return a file with columns that are already checked."""
        made = cls(path, spans=spans)
        object.__setattr__(made, "columns", columns)
        return made

    @property
    def only_pipeline(self) -> bool:
        """Whether only the pipeline is given: the file may then be a trace file as well."""
        return not self.spans and self.columns == ColumnMap(pipeline=self.columns.pipeline)


def read_pipeline_file(
    path: str | os.PathLike[str],
) -> tuple[Pipeline | None, ColumnMap | None, dict[str, Any]]:
    """Return the pipeline of a JSON file, the columns of tables, and further metadata.

    The pipeline is None if the file has only columns; the columns are None if it has none.

    Raises
    ------
    PipelineError
        The file is not JSON in UTF-8, or does not describe a pipeline or columns.
    """
    name = shown_path(path)
    try:
        size = size_of(path)
        if size <= _LARGEST_PIPELINE:
            with open_binary(path) as file:
                content = json.loads(file.read())
    except (ValueError, RecursionError):
        raise PipelineError(
            f"{name} must be JSON text in UTF-8; write it with Pipeline.to_json()"
        ) from None
    except OSError as error:
        raise PipelineError(
            f"{name}: cannot be read: {error.strerror}; check the path and its permissions"
        ) from None
    if size > _LARGEST_PIPELINE:
        raise PipelineError(
            f"{name} must have at most {_LARGEST_PIPELINE:,} bytes, got {size:,}; name a file "
            "that Pipeline.to_json() has written"
        )
    try:
        columns = content.pop("columns", None) if isinstance(content, dict) else None
        meta = content.pop("meta", None) if isinstance(content, dict) else None
        only_columns = columns is not None and not content
        pipeline = None if only_columns else Pipeline.from_dict(content)
        found = None if columns is None else ColumnMap.from_dict(columns, pipeline)
        return pipeline, found, {} if pipeline is None else check_meta(meta, pipeline)
    except LatprofError as error:
        raise PipelineError(f"{name}: {error}") from None


def beside(path: str | os.PathLike[str]) -> str:
    """Return the path of the JSON file that may say what the columns of a table mean."""
    name, query = os.fspath(path), ""
    if is_url(name):
        name, mark, query = name.partition("?")
        query = mark + query
    return f"{name}.pipeline.json{query}"
