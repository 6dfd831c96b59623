"""A table's columns -> a trace's: which is which, and which cannot be kept."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from latprof.arrays import Ints
from latprof.errors import PipelineError, TraceError
from latprof.frames import MISSING, Columns, Labels
from latprof.io import arrow, coerce
from latprof.names import check_name
from latprof.pipeline import Pipeline
from latprof.text import escape

__all__ = ["Plan", "plan", "to_columns"]

# columns that to_pandas adds and other tools leave behind: derived, so not worth a word
_DERIVED = re.compile(r".*_latency|__index_level_\d+__")


@dataclass(frozen=True, slots=True)
class Plan:
    """Which column of a table becomes what.

    `marks` are those that the table has; `text` are columns of plain strings, which are best
    read as dictionaries; `dropped` are the columns that a trace cannot keep, with the reason.
    """

    marks: tuple[str, ...]
    optional: tuple[str, ...]
    tags: tuple[str, ...]
    text: tuple[str, ...] = ()
    dropped: dict[str, str] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """All columns that are read."""
        return ("frame_id", *self.marks, *self.optional, *self.tags)


def plan(schema: pa.Schema, pipeline: Pipeline) -> Plan:
    """Return what the columns of a table are for `pipeline`.

    Tags that cannot be kept (nested or binary columns, names that are no identifiers or
    reserved) are left out and listed; `<span>_latency` columns are derived, so left out.

    Raises
    ------
    TraceError
        No frame_id, no mark at all, a name that stands twice, a name that differs from a mark
        or a column by case alone.
    """
    names = list(schema.names)
    for name in set(names):
        if names.count(name) > 1:
            raise TraceError(f"column {_name(name)} stands there twice: rename one")
    if "frame_id" not in names:
        raise TraceError(
            f"has no column 'frame_id' (there are {_listed(names)}): rename the one that has "
            "the frames' ids"
        )
    marks = tuple(mark for mark in pipeline.marks if mark in names)
    if not marks:
        raise TraceError(
            f"has none of the marks {', '.join(pipeline.marks)} of pipeline {pipeline.name!r} "
            f"(there are {_listed(names)}): rename its columns or give another pipeline"
        )
    known = {name.casefold(): name for name in ("frame_id", *pipeline.marks, *Columns.OPTIONAL)}
    tags, text, dropped = [], [], {}
    for name in names:
        own = known.setdefault(name.casefold(), name)
        if own != name:
            raise TraceError(
                f"column {_name(name)} differs from {_name(own)} by case alone: rename one"
            )
        kind = schema.field(name).type
        if arrow.is_text(kind):
            text.append(name)
        if name in marks or name in Columns.OPTIONAL or name == "frame_id":
            continue
        if _DERIVED.fullmatch(name):
            continue
        try:
            check_name(name, "column")
            if not _is_kept(kind):
                raise arrow.UnkeptType(f"column {name!r} is {arrow.type_name(kind)}")
        except (PipelineError, arrow.UnkeptType) as error:
            dropped[escape(name)] = str(error)
        else:
            tags.append(name)
    optional = tuple(name for name in Columns.OPTIONAL if name in names)
    return Plan(marks, optional, tuple(tags), tuple(text), dropped)


def _is_kept(kind: pa.DataType) -> bool:
    types = pa.types
    if types.is_dictionary(kind):
        kind = kind.value_type
    return any(
        holds(kind)
        for holds in (
            *(arrow.is_text, types.is_null, types.is_integer, types.is_floating, types.is_boolean),
            *(types.is_timestamp, types.is_date, types.is_duration),
        )
    )


def _name(name: str) -> str:
    return repr(escape(name) if len(name) <= 64 else escape(name[:61]) + "...")


def _listed(names: list[str]) -> str:
    shown = [_name(name) for name in names[:12]]
    return ", ".join([*shown, "..."] if len(names) > 12 else shown) or "no columns"


def to_columns(
    table: pa.Table | pa.RecordBatch,
    names: Iterable[str],
    plan: Plan,
    pipeline: Pipeline,
) -> Columns:
    """Return the columns of a table that `names` asks for; marks that it lacks are missing.

    Parameters
    ----------
    names
        What to take of the pipeline's marks, `Columns.OPTIONAL` and the plan's tags.

    Raises
    ------
    TraceError
        A column of a wrong type, or with values that cannot be kept.
    """
    wanted = frozenset(names)
    columns = Columns(coerce.frame_ids(*arrow.numbers(table.column("frame_id"), "frame_id")), {})
    complete = []
    for mark in pipeline.marks:
        if mark not in wanted:
            continue
        if mark not in plan.marks:
            columns.marks[mark] = np.full(table.num_rows, MISSING)
            continue
        columns.marks[mark], whole = _stamps(table.column(mark), mark)
        if whole:
            complete.append(mark)
    columns.complete = frozenset(complete)
    for name in plan.optional:
        if name in wanted:
            setattr(columns, name, _optional(table.column(name), name))
    columns.tags = {
        name: arrow.tag(table.column(name), name) for name in plan.tags if name in wanted
    }
    return columns


def _stamps(column: pa.ChunkedArray, mark: str) -> tuple[Ints, bool]:
    try:
        values, missing = arrow.numbers(column, f"mark {mark!r}")
    except arrow.UnkeptType as error:
        raise TraceError(f"{str(error).removesuffix(': give numbers')}: give ns or times") from None
    return coerce.stamps(values, missing, f"mark {mark!r}")


def _optional(column: pa.ChunkedArray, name: str) -> npt.NDArray[Any] | Labels:
    if name in ("source", "outcome"):
        return arrow.to_labels(column, name)
    rules: dict[str, Callable[..., npt.NDArray[Any]]] = {
        "size": coerce.sizes,
        "cpu": coerce.percents,
        "rss": coerce.memory,
        "weight": coerce.weights,
    }
    return rules[name](*arrow.numbers(column, name))
