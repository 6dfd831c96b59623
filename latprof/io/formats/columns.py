"""The meaning of the columns of a table of timestamps: marks, the id, tags, and units.

A `ColumnMap` comes from the options of a command, from the arguments of `latprof.read`, or from
the key ``columns`` of a pipeline's JSON file.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from latprof.errors import PipelineError, TraceError
from latprof.io.formats.stages import stages_pipeline, unique_names
from latprof.marks import Span
from latprof.pipeline import Pipeline
from latprof.text import clip, quoted

__all__ = [
    "MISSING_TEXTS",
    "NUMBERED",
    "SAMPLES",
    "UNITS",
    "UNIT_OF",
    "UNREADABLE",
    "ColumnMap",
    "check_columns",
]

UNITS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
"""Units of times and durations that are numbers, in ns."""

_UNIT_WORDS = {
    "ns": "ns nano nanos nanosecond nanoseconds nsec",
    "us": "us µs micro micros microsecond microseconds usec",
    "ms": "ms milli millis millisecond milliseconds msec",
    "s": "s sec secs second seconds",
}
UNIT_OF = {word: unit for unit, words in _UNIT_WORDS.items() for word in words.split()}
"""The unit that a word in small letters means."""

MISSING_TEXTS = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None")
"""Texts that mean that a value is missing, unless others are given."""

NUMBERED = "frames are numbered in the order of the file, which has no ids"
"""A sentence of the report on a file without ids, in which lost and late ids cannot be counted."""

SAMPLES = "rows are samples, not frames: rate and order are those of the samples"
"""A sentence of the report on a file of periodic samples."""

UNREADABLE = "rows that cannot be read"
"""The name of their number among the notes of the accounts."""

_DEFAULT_NAME = "table"


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnMap:
    """Which columns of a table have the times of frames, and what the other columns are.

    Parameters
    ----------
    marks
        Columns in the order in which frames pass them: the first is ``start``, the last ``end``;
        or a dict of columns by mark of `pipeline`.
    stages
        Pairs of columns, ``"received_at:dequeued_at"``, by name of the stage between them; by
        default there is a stage from each mark to the next.
    durations
        Columns with how long each stage took, in place of all `marks` but the first.
    id, source, size, outcome
        Columns. Without an id the rows are numbered from 0.
    tags
        Columns that become tags; by default all that have no other use.
    unit
        Of times and durations that are numbers: s, ms, us or ns. By default it is found from the
        names of the columns, or from the size or the decimals of the numbers.
    tz
        Time zone of times without one, for example ``"Europe/Vienna"``.
    zero_is_missing
        Whether 0 means that a mark was not reached.
    max_bad
        Most rows that may be unreadable: a number, or a part such as ``"5%"``. By default 1 %, or
        10 rows if that is more.
    samples
        Whether the rows are periodic samples rather than frames.
    missing
        Texts that mean that a value is missing.
    apostrophes
        Whether names that are like formulas have an apostrophe before them, as in CSV files of
        latprof.
    pipeline
        What the marks mean; by default a pipeline of the marks and stages here.

    Raises
    ------
    TraceError
        An argument is invalid, or arguments contradict each other.
    """

    marks: Sequence[str] | Mapping[str, str] = ()
    stages: Mapping[str, str] | None = None
    durations: Sequence[str] = ()
    id: str | None = None
    source: str | None = None
    size: str | None = None
    outcome: str | None = None
    tags: Sequence[str] | None = None
    unit: str | None = None
    tz: str | None = None
    zero_is_missing: bool = False
    max_bad: int | str | None = None
    samples: bool = False
    missing: Sequence[str] = MISSING_TEXTS
    apostrophes: bool = False
    pipeline: Pipeline | None = None

    def __post_init__(self) -> None:
        """Check each argument."""
        if isinstance(self.marks, Mapping):
            _check_names("marks", [*self.marks, *self.marks.values()])
        else:
            _check_names("marks", self.marks)
        _check_names("durations", self.durations)
        _check_names("tags", () if self.tags is None else self.tags)
        _check_names("missing", self.missing)
        for what in ("id", "source", "size", "outcome"):
            value = getattr(self, what)
            if value is not None and not (isinstance(value, str) and value):
                raise TraceError(f"{what} must be the name of a column, got {quoted(value)}")
        if self.unit is not None and self.unit not in UNITS:
            raise TraceError(f"unit must be one of {', '.join(UNITS)}, got {quoted(self.unit)}")
        for what in ("zero_is_missing", "samples", "apostrophes"):
            if not isinstance(getattr(self, what), bool):
                raise TraceError(f"{what} must be True or False, got {quoted(getattr(self, what))}")
        if self.tz is not None:
            _check_zone(self.tz)
        self.most_bad(0)
        if self.durations and len(self.marks) > 1:
            raise TraceError(
                "marks and durations must not both be given, except for one mark, the start; leave "
                "out the others"
            )
        if self.durations and self.pipeline is not None:
            raise TraceError("durations must be given without a pipeline; leave out one of them")
        if self.stages is not None and (self.durations or not self.marks):
            raise TraceError("stages must be given with marks; give the columns of the times")

    def most_bad(self, rows: int) -> int:
        """Return how many of `rows` rows may be unreadable.

        Raises
        ------
        TraceError
            `max_bad` is neither a number of rows nor a part of them.
        """
        given = self.max_bad
        if given is None:
            return max(10, rows // 100)
        text = str(given)
        if re.fullmatch(r"\d{1,18}", text) and not isinstance(given, bool):
            return int(text)
        part = re.fullmatch(r"(\d{1,3}(?:\.\d{1,9})?)\s*%", text)
        if part is None or float(part[1]) > 100:
            raise TraceError(
                f"max_bad must be a number of rows (20) or a part (5%), got {quoted(given)}"
            )
        return int(rows * float(part[1]) / 100)

    # -- the pipeline ---------------------------------------------------------------------------

    def resolved(self) -> "tuple[Pipeline, dict[str, str]]":
        """Return the pipeline, and the column of each of its marks that has one.

        Raises
        ------
        TraceError
            The marks do not fit the pipeline, or are too few.
        """
        if self.pipeline is not None:
            return self.pipeline, self._columns_of_pipeline(self.pipeline)
        if isinstance(self.marks, Mapping) and not self.durations:
            raise TraceError(
                "marks as a dict need the pipeline that they are of; give pipeline=, or the "
                "columns in order"
            )
        if self.durations:
            starts = self.marks.values() if isinstance(self.marks, Mapping) else self.marks
            names = unique_names(self.durations, ())
            pipeline = stages_pipeline(_DEFAULT_NAME, names, from_start=True)
            return pipeline, dict(zip(("start",), starts, strict=False))
        columns = list(self.marks)
        if len(columns) < 2:
            raise TraceError(
                f"marks must name at least 2 columns, the start and the end, got {len(columns)}"
            )
        if len(set(columns)) < len(columns):
            raise TraceError(f"marks must name different columns, got {quoted(columns)}")
        between = unique_names(columns[1:-1], ("start", "end", "due"))
        marks = dict(zip(("start", *between, "end"), columns, strict=True))
        return Pipeline(_DEFAULT_NAME, tuple(marks), self._spans(marks)), marks

    def _columns_of_pipeline(self, pipeline: Pipeline) -> dict[str, str]:
        if isinstance(self.marks, Mapping):
            for mark in self.marks:
                if mark not in pipeline.marks:
                    raise TraceError(
                        f"marks must be those of pipeline {pipeline.name!r} "
                        f"({', '.join(pipeline.marks)}), got {quoted(mark)}"
                    )
            return dict(self.marks)
        if not self.marks:
            return {mark: mark for mark in pipeline.marks}
        if len(self.marks) != len(pipeline.marks):
            raise TraceError(
                f"marks must name {len(pipeline.marks)} columns, one for each mark of pipeline "
                f"{pipeline.name!r} ({', '.join(pipeline.marks)}), got {len(self.marks)}"
            )
        return dict(zip(pipeline.marks, self.marks, strict=True))

    def _spans(self, marks: dict[str, str]) -> tuple[Span, ...]:
        mark_of = {column: mark for mark, column in marks.items()}
        if self.stages is None:
            names = _stage_names(list(marks.values()))
            return tuple(map(Span, names, list(marks), list(marks)[1:]))
        spans = []
        for name, text in self.stages.items():
            found = [
                (begin, end)
                for begin in mark_of
                for end in mark_of
                if isinstance(text, str) and text == f"{begin}:{end}"
            ]
            if not found:
                first, second = list(mark_of)[:2]
                raise TraceError(
                    f"stage {quoted(name)} must be from one mark to another, for example "
                    f"{first}:{second}, got {quoted(text)}"
                )
            spans.append((mark_of[found[0][0]], mark_of[found[0][1]], name))
        order = list(marks)
        spans.sort(key=lambda each: (order.index(each[0]), order.index(each[1])))
        try:
            return tuple(Span(name, begin, end) for begin, end, name in spans)
        except PipelineError as error:
            raise TraceError(str(error)) from None

    @property
    def named(self) -> dict[str, str]:
        """The columns of ids, sources, sizes and outcomes, by their name in a trace."""
        uses = {"frame_id": self.id, "source": self.source, "size": self.size}
        uses["outcome"] = self.outcome
        return {use: column for use, column in uses.items() if column is not None}

    # -- JSON -----------------------------------------------------------------------------------

    @classmethod
    def from_dict(cls, content: object, pipeline: Pipeline | None) -> "ColumnMap":
        """Return the columns that the key ``columns`` of a pipeline's JSON file contains.

        Raises
        ------
        TraceError
            Unknown keys, or values that the constructor refuses.
        """
        names = [each.name for each in fields(cls) if each.name != "pipeline"]
        if not isinstance(content, dict):
            raise TraceError(f"the key 'columns' must be a JSON object, got {quoted(content)}")
        for key in content:
            if key not in names:
                raise TraceError(
                    f"keys of 'columns' must be among {', '.join(names)}, got {quoted(key)}"
                )
        return cls(**content, pipeline=pipeline)

    def to_dict(self) -> dict[str, Any]:
        """Return what differs from the defaults as JSON values, without the pipeline."""
        content = {}
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name != "pipeline" and value != each.default:
                content[each.name] = dict(value) if isinstance(value, Mapping) else value
        return content

    def updated(self, **given: Any) -> "ColumnMap":
        """Return a copy in which the arguments that are not None replace the fields."""
        return replace(self, **{name: value for name, value in given.items() if value is not None})


def _stage_names(columns: list[str]) -> list[str]:
    """Return a name for the stage from each column to the next: by the column where it ends.

    Examples
    --------
    >>> _stage_names(["received_at", "dequeued_at", "sent_at"])
    ['to_dequeued', 'to_sent']
    """
    ending = re.search(r"_[^\W_]+$", columns[0])
    if ending is not None and all(
        each.endswith(ending[0]) and each != ending[0] for each in columns
    ):
        columns = [each.removesuffix(ending[0]) for each in columns]
    return unique_names([f"to_{column}" for column in columns[1:]], ())


def _check_names(what: str, names: object) -> None:
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise TraceError(f"{what} must be a list of names, got {quoted(names)}")
    for name in names:
        if not isinstance(name, str):
            raise TraceError(f"{what} must be names, got {quoted(name)}")


def _check_zone(name: object) -> None:
    from zoneinfo import ZoneInfo

    try:
        ZoneInfo(name)  # type: ignore[arg-type]  # other types are refused below
    except Exception:  # the name is not a file, is a folder, or has other characters
        raise TraceError(
            f"tz must be a time zone such as Europe/Vienna or UTC, got {quoted(name)}"
        ) from None


def check_columns(needed: Iterable[str], names: Sequence[str]) -> None:
    """Refuse columns that a table does not have.

    Raises
    ------
    TraceError
        One of `needed` is not in `names`.
    """
    for column in needed:
        if column not in names:
            shown = ", ".join(quoted(name) for name in names[:20])
            more = ", ..." if len(names) > 20 else ""
            raise TraceError(
                f"the table must have the column {quoted(column)}, got {clip(shown, 600)}{more}; "
                "name one of these"
            )
