"""Tables of timestamps as frames.

A `TableReader` has the methods of `latprof.io.reader.Reader`: it is the reader of files that
latprof has not written, with the columns that a `ColumnMap` names.
"""

import contextlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from latprof.arrays import Ints, Mask
from latprof.errors import TraceError
from latprof.frames import FINISHED, MISSING, NO_SIZE, Columns, Labels
from latprof.io import arrow
from latprof.io.ahead import DECODERS, ahead
from latprof.io.atomic import reading
from latprof.io.checks import check_known
from latprof.io.csv_writer import without_apostrophe
from latprof.io.formats.columns import (
    NUMBERED,
    SAMPLES,
    UNREADABLE,
    ColumnMap,
    check_columns,
)
from latprof.io.formats.sources import ArrowSource, Batch, source_of
from latprof.io.formats.stages import Frames, lengths_to_marks, unique_names
from latprof.io.formats.times import TimeForm, forms_of, to_ns
from latprof.io.formats.unknown import advice
from latprof.pipeline import Pipeline
from latprof.text import clip, counted, quoted

__all__ = ["TableReader", "read_table"]

_LARGEST_ID = pa.scalar(str(2**64 - 1))
_SHOWN = 3  # rows that cannot be read, in a message
_AHEAD = 3  # batches that are made before they are needed


_DONE = frozenset(
    {"ok", "success", "successful", "succeeded", "true", "pass", "passed", "done", "completed"}
    | {FINISHED}
)


class TableReader:
    """A table of timestamps that is read batch by batch.

    Parameters
    ----------
    path
        Of the file, or a name for messages if there is a `table`.
    columns
        Which columns are marks, ids and so on.
    meta
        Dict to which each reading of the rows writes its counts and sentences.
    table
        Rows that are in memory already.

    Attributes
    ----------
    pipeline, meta, rows, tags
        As those of `latprof.io.reader.Reader`, but `rows` is an estimate if the file is text.

    Raises
    ------
    TraceError
        The file cannot be read, lacks a column, or has times in a form that is not known; here or
        when rows are read.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        columns: ColumnMap,
        *,
        meta: dict[str, Any] | None = None,
        table: pa.Table | None = None,
    ) -> None:
        self.path = os.fspath(path)
        self._in_memory = table is not None
        self.meta = {} if meta is None else meta
        self._map = columns
        with self._errors():
            self._source = source_of(self.path, columns, table)
            self._plan()
        self.rows = self._source.rows

    def _plan(self) -> None:
        columns, names = self._map, list(self._source.names)
        if not columns.marks and not columns.durations and columns.pipeline is None:
            raise TraceError(advice(self._source))
        self.pipeline, self._marks = columns.resolved()
        if columns.pipeline is not None and not columns.marks:
            self._marks = {m: c for m, c in self._marks.items() if c in names}
            if not self._marks:
                check_columns(columns.pipeline.marks, names)
        times = [*columns.durations, *self._marks.values()]
        self._named = columns.named
        check_columns((*times, *self._named.values(), *(columns.tags or ())), names)
        for use in ("frame_id", *Columns.OPTIONAL[:3]):
            if columns.pipeline is not None and use not in self._named and use in names:
                self._named[use] = use
        sample = self._source.sample()
        self._forms, said = self._forms_of(sample)
        self._times = tuple(dict.fromkeys(times))
        used = {*times, *self._named.values()}
        others = [n for n in names if n not in used] if columns.tags is None else columns.tags
        others = [name for name in others if not _is_derived(name, self.pipeline)]
        said += self._plan_ids(sample, list(others))
        if columns.durations and not self._marks:
            self.meta["untimed"] = True
        elif "frame_id" not in self._named:
            said.append(NUMBERED)
        if columns.samples:
            self.meta["samples"] = True
            said.append(SAMPLES)
        said += self._source.said
        self._said, self.meta["reading"] = said, list(said)

    def _forms_of(self, sample: pa.Table) -> tuple[dict[str, TimeForm], list[str]]:
        """Return the form of each column of times, and sentences on it.

        The unit that was given is that of durations, if there are any. The start beside them has
        its own, unless it cannot be found.
        """
        columns, unit = self._map, self._map.unit
        lengths, marks = (
            {name: sample.column(name) for name in names}
            for names in (columns.durations, self._marks.values())
        )
        if not lengths:
            return forms_of(marks, unit=unit, tz=columns.tz)
        forms, said = forms_of(lengths, unit=unit, tz=None, durations=True)
        if not marks:
            return forms, said
        try:
            own, more = forms_of(marks, unit=None, tz=columns.tz)
        except TraceError:
            own, more = forms_of(marks, unit=unit, tz=columns.tz)
        return forms | own, [*said, *more]

    def _plan_ids(self, sample: pa.Table, others: list[str]) -> list[str]:
        """Find out whether the ids are integers, and which columns become tags.

        Return sentences on what was found.
        """
        said = []
        column = self._named.get("frame_id")
        if column is not None and not _are_ids(sample.column(column)):
            said.append(f"the ids in {clip(column)} are not integers: they are a tag")
            del self._named["frame_id"]
            others.insert(0, column)
        kept = [name for name in others if _is_kept(sample.schema.field(name).type)]
        if len(kept) < len(others):
            lost = [name for name in others if name not in kept]
            self.meta["dropped_columns"] = {clip(n): "nested or binary values" for n in lost}
        taken = (*self.pipeline.marks, *self.pipeline.span_names)
        self._tag_columns = dict(zip(unique_names(kept, taken), kept, strict=True))
        self.tags = tuple(self._tag_columns)
        text = {name for name in kept if arrow.is_text(sample.schema.field(name).type)}
        self._kinds: dict[str, pa.DataType] = {}
        if not isinstance(self._source, ArrowSource):  # which has types
            self._kinds = {name: _tag_kind(sample.column(name)) for name in text}
            self._kinds |= {name: form.arrow_type for name, form in self._forms.items()}
            for use, kind in (("frame_id", pa.uint64()), ("size", pa.int64())):
                if use in self._named:
                    self._kinds[self._named[use]] = kind
        return said

    # -- reading --------------------------------------------------------------------------------

    def batches(self, columns: Iterable[str] | None = None) -> Iterator[Columns]:
        """Yield the frames in batches; threads make the next ones meanwhile."""
        wanted = self._wanted(columns)
        tags = {tag: column for tag, column in self._tag_columns.items() if tag in wanted}
        needed = dict.fromkeys((*self._times, *self._named.values(), *tags.values()))
        counts = _Unreadable()
        first = 0

        def converted(make: Callable[[], Batch]) -> _Converted:
            """Return the frames of a batch, which is parsed here."""
            return self._converted(make(), tags)

        with self._errors():
            kinds = {name: self._kinds.get(name, pa.string()) for name in needed}
            found = self._source.batches(kinds)
            tasks = ((partial(converted, make), _AHEAD) for make in found)
            for done in ahead(tasks, DECODERS):
                counts.add(done)
                if "frame_id" not in self._named:  # the rows are numbered
                    done.columns.frame_id += np.uint64(first)
                yield done.columns
                first += done.batch.rows
            self._check(counts, first)

    def read(self, columns: Iterable[str] | None = None) -> Columns:
        """Return all frames at once."""
        parts = list(self.batches(columns))
        if parts:
            return Columns.concat(parts)
        empty = dict.fromkeys(self.pipeline.marks, np.empty(0, np.int64))
        return Columns(np.empty(0, np.uint64), empty)

    def _wanted(self, columns: Iterable[str] | None) -> frozenset[str]:
        known = ("frame_id", *self.pipeline.marks, *Columns.OPTIONAL, *self.tags)
        if columns is None:
            return frozenset(known)
        return frozenset(check_known(columns, known, self.path))

    def _converted(self, batch: Batch, tags: dict[str, str]) -> "_Converted":
        """Return the frames of a batch, without the rows that cannot be read."""
        table = batch.table
        wrong: list[tuple[str, Mask | None]] = []
        times: dict[str, Ints] = {}
        for name in self._times:
            times[name], rows = to_ns(table.column(name), self._forms[name])
            wrong.append((name, rows))
            if self._map.zero_is_missing:
                times[name] = np.where(times[name] == 0, MISSING, times[name])
        optional: dict[str, Any] = {}
        ids = batch.numbers.astype(np.uint64)
        for use, name in self._named.items():
            column = table.column(name)
            if use == "frame_id":
                ids, rows = _integers(column, None)
                wrong.append((name, rows))
            elif use == "size":
                sizes, rows = _integers(column, NO_SIZE)
                wrong.append((name, rows))
                optional[use] = sizes.astype(np.uint32)
            else:
                labels = self._unquoted(arrow.to_labels(_as_text(column), use))
                optional[use] = _outcomes(labels) if use == "outcome" else labels
        marks = self._mark_times(times, len(ids))
        complete = frozenset(
            mark for mark, ns in marks.items() if not len(ns) or int(ns.min()) != MISSING
        )
        found = {
            tag: self._unquoted(arrow.tag(table.column(name), tag)) for tag, name in tags.items()
        }
        columns = Columns(ids, marks, tags=found, complete=complete, **optional)
        bad = np.zeros(len(ids), bool)
        unreadable = []
        for name, rows in wrong:
            if rows is not None:
                unreadable.append((name, rows & ~bad))
                bad |= rows
        return _Converted(columns.take(~bad) if unreadable else columns, batch, unreadable)

    def _unquoted(self, column: Any) -> Any:
        """Return names without the apostrophe that keeps spreadsheets from running them."""
        if not self._map.apostrophes or not isinstance(column, Labels):
            return column
        return _renamed(column, [without_apostrophe(name) for name in column.names])

    def _mark_times(self, times: dict[str, Ints], rows: int) -> dict[str, Ints]:
        if not self._map.durations:
            empty = None
            marks = {}
            for mark in self.pipeline.marks:
                if mark in self._marks:
                    marks[mark] = times[self._marks[mark]]
                else:
                    empty = np.full(rows, MISSING) if empty is None else empty
                    marks[mark] = empty
            return marks
        start = times[self._marks["start"]] if self._marks else None
        lengths = [times[name] for name in self._map.durations]
        return lengths_to_marks(self.pipeline, lengths, start)

    def _check(self, counts: "_Unreadable", rows: int) -> None:
        """Note the rows that cannot be read, or refuse the file if there are many."""
        notes = self.meta.setdefault("accounts", {}).setdefault("notes", {})
        notes.pop(UNREADABLE, None)
        self.meta["reading"] = list(self._said)
        if not counts.rows:
            return
        examples = "; ".join(counts.shown)
        if counts.rows > self._map.most_bad(rows):
            raise TraceError(
                f"{counted(counts.rows, 'row')} of {rows:,} cannot be read ({examples}); correct "
                f"them, or allow them with max_bad= (--max-bad {counts.rows})"
            )
        notes[UNREADABLE] = counts.rows
        self.meta["reading"].append(f"{UNREADABLE}: {examples}")

    def _errors(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext() if self._in_memory else reading(self.path)


def read_table(columns: ColumnMap, table: Any) -> Frames:
    """Return pipeline, frames and metadata of a DataFrame, or of a dict of columns."""
    reader = TableReader("the table", columns, table=arrow.table_of(table))
    return reader.pipeline, reader.read(), reader.meta


@dataclass(frozen=True, slots=True)
class _Converted:
    """The frames of a batch, and the rows in which a column has a value that cannot be read."""

    columns: Columns
    batch: Batch
    unreadable: list[tuple[str, Mask]]


class _Unreadable:
    """Counts rows that cannot be read, and describes the first ones."""

    def __init__(self) -> None:
        self.rows = 0
        self.shown: list[str] = []

    def add(self, done: _Converted) -> None:
        """Count the rows of a batch that were skipped, and those with wrong values by column."""
        batch = done.batch
        self.rows += len(batch.skipped)
        found = [(number, quoted(text, 60)) for number, text in batch.skipped[:_SHOWN]]
        for column, rows in done.unreadable:
            places = np.flatnonzero(rows)
            self.rows += len(places)
            for place in places[:_SHOWN].tolist():
                value = quoted(batch.table.column(column)[place].as_py(), 40)
                found.append((int(batch.numbers[place]), f"{clip(column, 30)} is {value}"))
        found.sort(key=lambda each: each[0])
        for number, text in found[: _SHOWN - len(self.shown)]:
            self.shown.append(f"{batch.where(number)}: {text}")


def _as_text(column: pa.ChunkedArray) -> pa.Array:
    array = arrow.one_array(column)
    kind = array.type.value_type if types.is_dictionary(array.type) else array.type
    is_number = types.is_boolean(kind) or types.is_floating(kind)
    return array.cast(pa.string()) if is_number else array


def _integers(column: pa.ChunkedArray, absent: int | None) -> tuple[Any, Mask | None]:
    """Return integers as uint64 (n,), and a mask of values that are not integers of 0 or more.

    A missing value becomes `absent`, which is also the largest allowed integer; if `absent` is
    None, it is in the mask. The mask is None if all values can be used.
    """
    array = arrow.plain_array(column)
    wrong = np.zeros(len(array), bool)
    if types.is_decimal(array.type):
        array = array.cast(pa.string())
    if arrow.is_text(array.type):
        known = pc.replace_substring_regex(pc.utf8_trim_whitespace(array), r"^\+|\.0*$", "")
        fits = pc.match_substring_regex(known, r"^\d{1,20}$")
        small = pc.or_(
            pc.less(pc.utf8_length(known), 20), pc.less_equal(known, _LARGEST_ID.cast(known.type))
        )
        fits = pc.fill_null(pc.and_(fits, small), True)
        wrong, _ = arrow.numbers(pc.invert(fits), "integers")
        array = pc.if_else(fits, known, None).cast(pa.uint64())
    values, missing = arrow.numbers(array, "integers")
    if values.dtype.kind == "f":
        rounded = np.nan_to_num(np.floor(values), nan=0.0, posinf=0.0, neginf=0.0)
        gone = np.isnan(values)
        wrong = ((rounded != values) & ~gone) | (rounded < 0) | (rounded >= 2.0**53)
        missing = gone if missing is None else missing | gone
        values = np.where(wrong, 0, rounded)
    elif values.dtype.kind == "i":
        wrong = values < 0
        values = np.where(wrong, 0, values)
    values = values.astype(np.uint64)
    if absent is None:
        wrong = wrong if missing is None else wrong | missing
    else:
        wrong = wrong | (values > absent)
        values = values if missing is None else np.where(missing, np.uint64(absent), values)
    return values, wrong if wrong.any() else None


def _are_ids(column: pa.ChunkedArray) -> bool:
    """Return whether the values are integers of 0 and more."""
    kind = column.type
    numeric = types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)
    if not (numeric or arrow.is_text(kind)):
        return False
    return _integers(pc.drop_null(column), None)[1] is None


def _outcomes(labels: Labels) -> Labels:
    """Return outcomes with the usual words and codes of success as finished."""
    names = [
        FINISHED if name.casefold() in _DONE or _is_http_success(name) else name
        for name in labels.names
    ]
    if tuple(names) == labels.names:
        return labels
    return _renamed(labels, names)


def _renamed(labels: Labels, names: Sequence[str]) -> Labels:
    known: dict[str, int] = {}
    moved = [known.setdefault(name, len(known)) for name in names]
    return Labels(np.array([*moved, -1], np.int32)[labels.codes], tuple(known))


def _is_http_success(name: str) -> bool:
    return re.fullmatch(r"[23][0-9]{2}(?: .*)?", name) is not None


def _is_derived(name: str, pipeline: Pipeline) -> bool:
    return name.removesuffix("_latency") in pipeline.span_names and name.endswith("_latency")


def _is_kept(kind: pa.DataType) -> bool:
    try:
        arrow.tag(pa.nulls(0, kind), "column")
    except (TraceError, pa.ArrowException):
        return False
    return True


def _tag_kind(sample: pa.ChunkedArray) -> pa.DataType:
    """Return the type of a tag: integers or floats if all values of the sample are, or text."""
    known = sample.drop_null()
    for kind in (pa.int64(), pa.float64()):
        try:
            if len(known) and pc.all(pc.match_substring_regex(known, r"^\d|^-")).as_py():
                known.cast(kind)
                return kind
        except pa.ArrowInvalid:
            continue
    return pa.string()
