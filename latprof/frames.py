"""Frames as columns: plain numpy arrays of one length, dictionary-coded names, lengths of spans.

Rings, files, traces and the fold exchange frames in this form. `Columns` checks nothing: what
comes from outside is checked before, in `latprof.io.checks`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from latprof.arrays import Ints, Mask
from latprof.errors import TraceError
from latprof.pipeline import OTHER, Pipeline
from latprof.units import STAMP_LIMIT

__all__ = [
    "ABSENT",
    "CAME_TWICE",
    "FINISHED",
    "LOST_IN_TRANSIT",
    "MISSING",
    "NO_SIZE",
    "Columns",
    "Labels",
    "as_text",
    "check_stamps",
    "common_dtype",
    "latencies",
]

MISSING = -(2**63)
"""The stamp of a mark that was not stamped: the integer of NaT. 0 is a time."""

NO_SIZE = 2**32 - 1
"""The size of a frame if it is not known. 0 is a size."""

FINISHED = "finished"
"""The outcome of a frame that was not dropped."""

LOST_IN_TRANSIT = "lost in transit"
"""The outcome, set by a join, of a frame that is in no downstream recording."""

CAME_TWICE = "came twice"
"""The outcome, set by a join, of the second row of a frame in one recording."""

_YEARS = "between -2**62 and 2**62 ns (the years 1824 to 2116)"

Index = Mask | npt.NDArray[np.integer[Any]] | slice


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """A column of names, each stored once: `codes` (n,) index `names`, -1 is missing.

    Examples
    --------
    >>> sources = Labels.encode(["input", None, "output", "input"])
    >>> sources.codes, sources.names
    (array([ 0, -1,  1,  0], dtype=int32), ('input', 'output'))
    >>> sources.equals("input")
    array([ True, False, False,  True])
    >>> sources.to_numpy()
    array(['input', None, 'output', 'input'], dtype=object)
    """

    codes: npt.NDArray[np.int32]
    names: tuple[str, ...]

    @classmethod
    def encode(cls, values: Iterable[str | None]) -> "Labels":
        """Return the labels of an iterable of names and None."""
        known: dict[str, int] = {}
        codes = [-1 if v is None else known.setdefault(str(v), len(known)) for v in values]
        return cls(np.array(codes, dtype=np.int32), tuple(known))

    @classmethod
    def constant(cls, name: str | None, length: int) -> "Labels":
        """Return `length` times one name."""
        if name is None:
            return cls(np.full(length, -1, np.int32), ())
        return cls(np.zeros(length, np.int32), (name,))

    @classmethod
    def concat(cls, parts: Sequence["Labels"]) -> "Labels":
        """Return the parts one after the other, with one table of names."""
        known: dict[str, int] = {}
        codes = []
        for part in parts:
            # code -1 finds the last entry
            table = [known.setdefault(name, len(known)) for name in part.names]
            codes.append(np.array([*table, -1], np.int32)[part.codes])
        return cls(np.concatenate(codes) if codes else np.empty(0, np.int32), tuple(known))

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, index: Index) -> "Labels":
        return Labels(self.codes[index], self.names)

    def equals(self, name: str | None) -> Mask:
        """Return where the column has this name, or where it is missing if `name` is None."""
        if name is None:
            return np.less(self.codes, 0)
        if name not in self.names:
            return np.zeros(len(self.codes), bool)
        return np.equal(self.codes, self.names.index(name))

    def counts(self) -> dict[str | None, int]:
        """Return how often each name occurs, in the order of the table; None is missing."""
        found = np.bincount(self.codes + 1, minlength=len(self.names) + 1).tolist()
        named = dict(zip((None, *self.names), found, strict=True))
        return {name: count for name, count in named.items() if count}

    def to_numpy(self) -> npt.NDArray[np.object_]:
        """Return an object array of names and None."""
        return np.array([*self.names, None], dtype=object)[self.codes]


@dataclass(slots=True)
class Columns:
    """The columns of n frames.

    Parameters
    ----------
    frame_id
        (n,) uint64.
    marks
        (n,) int64 each, ns; `MISSING` where not stamped.
    size
        (n,) uint32 bytes; `NO_SIZE` where not known.
    source, outcome
        `Labels`; an outcome that is missing counts as `FINISHED`.
    cpu
        (n,) float32 percent of one core; NaN where not known.
    rss
        (n,) uint64 bytes of memory; 0 where not known.
    weight
        (n,) uint32: how many frames the row represents; 1 without the column.
    tags
        Any other column, by name: an array (n,) or `Labels`.
    complete
        Marks that are known to be stamped in every row: code need not look for `MISSING` in them.
        Other marks may be complete as well.
    """

    frame_id: npt.NDArray[np.uint64]
    marks: dict[str, Ints]
    size: npt.NDArray[np.uint32] | None = None
    source: Labels | None = None
    outcome: Labels | None = None
    cpu: npt.NDArray[np.float32] | None = None
    rss: npt.NDArray[np.uint64] | None = None
    weight: npt.NDArray[np.uint32] | None = None
    tags: dict[str, npt.NDArray[Any] | Labels] = field(default_factory=dict)
    complete: frozenset[str] = frozenset()

    OPTIONAL = ("size", "source", "outcome", "cpu", "rss", "weight")

    def __len__(self) -> int:
        return len(self.frame_id)

    @property
    def optional(self) -> dict[str, Any]:
        """The columns of `OPTIONAL` that are not None, by name."""
        names = self.OPTIONAL
        return {name: column for name in names if (column := getattr(self, name)) is not None}

    def apply(self, change: Callable[[Any], Any]) -> "Columns":
        """Return the columns with `change` applied to each of them."""
        return Columns(
            change(self.frame_id),
            {name: change(column) for name, column in self.marks.items()},
            tags={name: change(column) for name, column in self.tags.items()},
            complete=self.complete,
            **{name: change(column) for name, column in self.optional.items()},
        )

    def take(self, index: Index) -> "Columns":
        """Return the rows of a slice, a mask or an array of positions."""
        return self.apply(lambda column: column[index])

    def only(self, names: Iterable[str]) -> "Columns":
        """Return `frame_id` and those marks, optional columns and tags that `names` contains."""
        wanted = frozenset(names)
        return Columns(
            self.frame_id,
            {name: column for name, column in self.marks.items() if name in wanted},
            tags={name: column for name, column in self.tags.items() if name in wanted},
            complete=self.complete,
            **{name: column for name, column in self.optional.items() if name in wanted},
        )

    def finished(self) -> Mask | None:
        """Return which frames were not dropped, or None if none was dropped."""
        if self.outcome is None:
            return None
        done = np.array([name == FINISHED for name in self.outcome.names] + [True])
        return None if done.all() else done[self.outcome.codes]

    @classmethod
    def concat(cls, parts: Sequence["Columns"]) -> "Columns":
        """Return the rows of several columns of one pipeline, one after the other.

        A column that only some parts have is missing in the others. `parts` must not be empty.
        """
        lengths = [len(part) for part in parts]
        others = [part.optional | part.tags for part in parts]
        joined: dict[str, Any] = {
            name: _join([columns.get(name) for columns in others], lengths, ABSENT.get(name))
            for name in dict.fromkeys(name for columns in others for name in columns)
        }
        optional = {name: joined.pop(name) for name in cls.OPTIONAL if name in joined}
        return cls(
            np.concatenate([part.frame_id for part in parts]),
            {mark: np.concatenate([p.marks[mark] for p in parts]) for mark in parts[0].marks},
            tags=joined,
            complete=frozenset.intersection(*(part.complete for part in parts)),
            **optional,
        )


ABSENT: dict[str, Any] = {
    "size": np.uint32(NO_SIZE),
    "cpu": np.float32(np.nan),
    "rss": np.uint64(0),
    "weight": np.uint32(1),
}
"""The missing value by column, in the type of the column."""


def _join(
    columns: list[npt.NDArray[Any] | Labels | None], lengths: list[int], absent: object
) -> npt.NDArray[Any] | Labels:
    arrays = [column for column in columns if isinstance(column, np.ndarray)]
    gaps = absent is None and any(
        column is None and n for column, n in zip(columns, lengths, strict=True)
    )
    dtype = common_dtype(arrays, gaps=gaps) if arrays else None
    if dtype is None or any(isinstance(column, Labels) for column in columns):
        return Labels.concat(
            [
                Labels.constant(None, n) if column is None else as_text(column)
                for column, n in zip(columns, lengths, strict=True)
            ]
        )
    if absent is None:
        absent = np.array("NaT" if dtype.kind in "Mm" else np.nan, dtype) if gaps else 0
    return np.concatenate(
        [
            np.full(n, absent, dtype) if column is None else cast(npt.NDArray[Any], column)
            for column, n in zip(columns, lengths, strict=True)
        ],
        dtype=dtype,
    )


def common_dtype(arrays: Sequence[npt.NDArray[Any]], *, gaps: bool) -> np.dtype[Any] | None:
    """Return a dtype that keeps every value of the arrays exactly, or None if only text does.

    With `gaps` the dtype has a value for missing ones (NaN, NaT): numpy has no missing integers
    or bools. Integers beyond 2**53 are not exact as float64, so they become text.

    Examples
    --------
    >>> common_dtype([np.array([1]), np.array([0.5])], gaps=True)
    dtype('float64')
    >>> common_dtype([np.array([2**53 + 1])], gaps=True) is None
    True
    """
    kinds = {"number" if array.dtype.kind in "iuf" else array.dtype.kind for array in arrays}
    if len(kinds) > 1 or (gaps and kinds == {"b"}):
        return None
    dtype: np.dtype[Any] = np.result_type(*(array.dtype for array in arrays))
    if gaps and dtype.kind in "iu":
        dtype = np.dtype(np.float64)
    if dtype.kind == "f":
        integers = [array for array in arrays if array.dtype.kind in "iu" and len(array)]
        if any(max(-int(array.min()), int(array.max())) > 2**53 for array in integers):
            return None
    return dtype


def as_text(column: npt.NDArray[Any] | Labels) -> Labels:
    """Return a column as names: numbers and bools as JSON writes them, times as ISO 8601."""
    if isinstance(column, Labels):
        return column
    if column.dtype.kind == "b":
        return Labels(column.astype(np.int32), ("false", "true"))
    missing = np.isnat(column) if column.dtype.kind in "Mm" else column != column
    texts = column.astype(str).tolist()
    return Labels.encode(
        None if gone else text for text, gone in zip(texts, missing.tolist(), strict=True)
    )


# -- lengths of spans ------------------------------------------------------------------------------


def latencies(pipeline: Pipeline, columns: Columns, name: str) -> Ints:
    """Return the length of a span in ns, (n,); `MISSING` if the frame lacks one of its marks.

    ``other`` is ``end_to_end`` minus the stages of the same frame; a missing stage counts as 0,
    so that its time is part of ``other``.

    Raises
    ------
    PipelineError
        The pipeline has no such span.

    Examples
    --------
    >>> pipeline = Pipeline.chain("mic", "decode", "play")
    >>> at = {"start": [0, 0], "decode": [2, 2], "play": [5, MISSING], "end": [9, 9]}
    >>> marks = {mark: np.array(ns) for mark, ns in at.items()}
    >>> columns = Columns(np.arange(2, dtype=np.uint64), marks)
    >>> latencies(pipeline, columns, "play").tolist() == [4, MISSING]
    True
    >>> latencies(pipeline, columns, "other").tolist()
    [2, 9]
    """
    if isinstance(name, str) and name == OTHER:
        rest = latencies(pipeline, columns, "end_to_end")
        gaps = rest == MISSING
        for stage in pipeline.stages:
            lengths = latencies(pipeline, columns, stage.name)
            if not columns.complete.issuperset((stage.begin, stage.end)):
                lengths[lengths == MISSING] = 0
            rest -= lengths
        rest[gaps] = MISSING
        return rest
    span = pipeline.span(name)
    # does not overflow: stamps are below 2**62; gaps are set below
    lengths = columns.marks[span.end] - columns.marks[span.begin]
    for mark in (span.begin, span.end):
        if mark not in columns.complete:
            lengths[columns.marks[mark] == MISSING] = MISSING
    return lengths


def check_stamps(values: npt.NDArray[Any], missing: Mask | None, what: str) -> tuple[Ints, bool]:
    """Return a mark in ns, `MISSING` if it was not stamped, and whether every row has a stamp.

    Raises
    ------
    TraceError
        The values are neither integers nor datetime64, or one has a fraction of a nanosecond, or is
        2**62 ns or more from 1970.
    """
    kind = values.dtype.kind
    if missing is not None and missing.all():
        ns = np.full(len(values), MISSING)
    elif kind == "M":
        ns = _nanoseconds(values, what)
    elif kind in "iu":
        if values.dtype == np.uint64 and len(values) and int(values.max()) >= STAMP_LIMIT:
            raise TraceError(f"{what} must be {_YEARS}, got {int(values.max())}")
        ns = values.astype(np.int64, copy=False)
    else:
        remedy = ""
        if kind == "f":
            remedy = (
                "; floats do not hold today's time to the nanosecond, convert seconds with "
                'pd.to_datetime(column, unit="s")'
            )
        raise TraceError(f"{what} must be int64 ns or datetime64, got {values.dtype}{remedy}")
    if missing is not None and missing.any():
        ns = np.where(missing, MISSING, ns)
    # usually one pass suffices: if no stamp has a bit from 2**62 up, all are valid, none missing
    if not len(ns) or 0 <= int(np.bitwise_or.reduce(ns)) < STAMP_LIMIT:
        return ns, True
    wrong = ns[(ns >= STAMP_LIMIT) | ((ns <= -STAMP_LIMIT) & (ns != MISSING))]
    if len(wrong):
        raise TraceError(f"{what} must be {_YEARS}, got {int(wrong[0])}")
    return ns, int(ns.min()) != MISSING


def _nanoseconds(values: npt.NDArray[Any], what: str) -> Ints:
    unit, step = np.datetime_data(values.dtype)
    if unit == "generic":
        raise TraceError(f"{what} must be a datetime64 with a unit, got none; use datetime64[ns]")
    values = np.ascontiguousarray(values)
    if unit == "ns" and step == 1:
        return values.view(np.int64)
    try:
        ns = values.astype("M8[ns]")
        wrong = (ns.astype(values.dtype) != values) & ~np.isnat(values)  # cut, or wrapped around
    except OverflowError:
        ns, wrong = values, np.ones(len(values), bool)
    if wrong.any():
        got = f"got {values[wrong][0]}"
        if unit in ("ps", "fs", "as"):
            raise TraceError(f"{what} must be whole nanoseconds, {got}; round to ns")
        raise TraceError(f"{what} must be {_YEARS}, {got}")
    return ns.view(np.int64)
