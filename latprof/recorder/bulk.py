"""Recording many frames at once: arrays in, rows of the ring out, without a loop over frames."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from latprof.arrays import Mask
from latprof.errors import PipelineError, ProfilerError
from latprof.frames import NO_SIZE, Labels
from latprof.marks import Span
from latprof.recorder.incidents import REASONS, text_of
from latprof.recorder.live_fold import LiveFold
from latprof.recorder.sampling import RUN_BITS, fnv1a, run_hashes, threshold
from latprof.recorder.shared import Shared
from latprof.text import quoted

__all__ = ["Batch", "BulkWriter"]


@dataclass(frozen=True, slots=True)
class Batch:
    """n checked frames that are not in a ring yet.

    Parameters
    ----------
    rows
        (n,) of the ring's `dtype`, without codes of sources and tags.
    names, name_index
        The names of the sources, and the index of each frame's name: (n,) or one for all.
    tags
        Names and indices as for sources, of each given tag, by field of the rows.
    rejected
        Masks of the frames that cannot be stored, by reason.
    """

    rows: npt.NDArray[np.void]
    names: tuple[str | None, ...]
    name_index: Any
    tags: dict[str, "Named"]
    rejected: dict[str, Mask]


Named = tuple[tuple[str | None, ...], Any]
"""Names, and the index of each frame's name."""


class BulkWriter:
    """Records many frames at once: `Profiler.record_many`.

    Parameters
    ----------
    shared, fold
        The parts of the profiler, and what folds its ring.
    """

    def __init__(self, shared: Shared, fold: LiveFold) -> None:
        self._ring, self._core, self._incidents = shared.ring, shared.core, shared.incidents
        self._alerts, self._fold, self._owned = shared.alerts, fold, shared.settings.owned
        self._sampled_below = threshold(shared.settings.sampling_rate)

    def batch_of(
        self,
        frame_ids: npt.ArrayLike,
        stamps: npt.ArrayLike,
        size: npt.ArrayLike | None,
        source: str | Sequence[str | None] | Labels | None,
        tags: Mapping[str, Any] | None,
    ) -> Batch:
        """Check the arguments of `Profiler.record_many` and return them as rows.

        Raises
        ------
        PipelineError
            `stamps` does not have one column for each mark, or has stamps of a mark that this
            process does not own.
        ProfilerError
            An array is not of integers, lengths differ, or a tag is unknown.
        """
        tags = {} if tags is None else tags
        if not isinstance(tags, Mapping):
            raise self._incidents.wrong_tags(tags)
        for tag in tags:
            if tag not in self._ring.tag_names:
                raise self._incidents.unknown_tag(tag)
        ids = _integers(frame_ids, "frame_ids", 1)
        table = _integers(stamps, "stamps", 2)
        pipeline, marks = self._ring.pipeline, self._ring.pipeline.marks
        if table.shape[1] != len(marks) and table.size:
            raise PipelineError(
                f"stamps must have a column for each of the {len(marks)} marks of pipeline "
                f"{pipeline.name!r}, got {table.shape[1]}; give {', '.join(marks)}, 0 if missing"
            )
        _check_length(table, "stamps", len(ids))
        names, name_index = _names_of(source, len(ids), "source")
        named_tags = {
            f"tag {self._ring.tag_names.index(tag)}": _names_of(values, len(ids), f"tag {tag!r}")
            for tag, values in tags.items()
        }
        rows = np.zeros(len(ids), self._ring.dtype)
        if not len(ids):
            return Batch(rows, names, name_index, {}, {})
        bad_id = ids < 0 if ids.dtype.kind == "i" else np.zeros(len(ids), bool)
        rows["frame_id"] = ids.astype(np.uint64)

        out_of_range = (table >= self._core.stamp_limit) | (table < 0)
        bad_stamp = out_of_range.any(axis=1)
        for i, mark in enumerate(marks):
            column = table[:, i]
            if mark not in self._owned and column.any():
                raise PipelineError(
                    f"mark {mark!r} is not owned by this process (owns={self._owned!r}); its "
                    "stamps must be 0, record them in the process that owns it"
                )
            rows[mark] = np.where(out_of_range[:, i], 0, column) if bad_stamp.any() else column

        bad_size = np.zeros(len(ids), bool)
        rows["size"] = NO_SIZE
        if size is not None:
            sizes = _integers(size, "size", min(np.ndim(size), 1))
            if sizes.ndim:
                _check_length(sizes, "size", len(ids))
            bad_size |= (sizes < 0) | (sizes > NO_SIZE)
            rows["size"] = np.where(bad_size, 0, sizes)
        rows["cpu"] = np.nan
        rows["weight"] = 1
        bad_stamp &= ~(bad_id | bad_size)
        bad_size &= ~bad_id
        rejected = dict(zip(REASONS, (bad_id, bad_size, bad_stamp), strict=True))
        return Batch(rows, names, name_index, named_tags, rejected)

    def write(self, batch: Batch) -> None:
        """Commit the rows that are sampled and can be stored; count the others."""
        rows, ring, core = batch.rows, self._ring, self._core
        sampled = np.ones(len(rows), bool)
        if self._sampled_below < 2**64:
            hashes = np.array([fnv1a(name) for name in batch.names], np.uint64)[batch.name_index]
            runs = rows["frame_id"] >> np.uint64(RUN_BITS)
            sampled = run_hashes(runs, hashes) < np.uint64(self._sampled_below)
            for bad in batch.rejected.values():
                sampled |= bad  # rejected frames are counted as such, sampled or not
        begun = int(sampled.sum())
        unsampled = len(rows) - begun
        core.started += begun
        core.skipped += unsampled
        for reason, bad in batch.rejected.items():
            if bad.any():
                self._incidents.rejections.add(reason, int(bad.sum()))
                self._alerts.rejected(reason, f"row {int(np.argmax(bad))} of those given")
                sampled &= ~bad
        named = {"source": (batch.names, batch.name_index), **batch.tags}
        tables = {
            "source": ring.sources,
            **{f"tag {k}": table for k, table in enumerate(ring.tags)},
        }
        for field, (names, index) in named.items():
            rows[field] = np.array([tables[field].code(name) for name in names])[index]
        if not sampled.all():
            rows = rows[sampled]
        rows["rss"], rows["cpu"] = core.rss, core.cpu
        written = 0
        while written < len(rows):
            count = min(len(rows) - written, max(1, ring.capacity // 2))
            # rows in the ring that are not folded yet must not be overwritten by these
            if self._fold.backlog + count > ring.capacity or core.drawn + count > core.limit:
                self._fold.catch_up()
            count = core.write_rows(rows[written : written + count])
            written += count
            # other writers were faster, or a row is pending: wait if that is allowed
            if not count and (not core.waits or not self._incidents.wait(core)):
                rest = len(rows) - written
                core.refused += rest
                break
        for span in ring.pipeline.all_spans:
            limit = self._alerts.lowest.get(span.name)
            if limit is not None and {span.begin, span.end} <= set(self._owned):
                self._check_limit(rows, span, limit)

    def _check_limit(self, rows: npt.NDArray[np.void], span: Span, limit: int) -> None:
        begin, end = rows[span.begin], rows[span.end]
        latencies = np.where((begin != 0) & (end != 0), end - begin, 0)
        over = np.flatnonzero(latencies > limit)
        critical = latencies[over] > self._alerts.critical.get(span.name, 2**63 - 1)
        # report one by one as many frames as are logged, and all for which `on_critical` is called
        single = np.arange(len(over)) <= self._alerts.BURST
        if self._alerts.on_critical is not None:
            single |= critical
        for i in over[single].tolist():
            source = self._ring.sources.table[int(rows["source"][i])]
            self._alerts.slow(int(rows["frame_id"][i]), source, int(latencies[i]), span.name)
        rest = critical[~single]
        self._alerts.suppress("criticals", int(rest.sum()))
        self._alerts.suppress("warnings", int((~rest).sum()))


def _names_of(given: Any, length: int, what: str) -> Named:
    """Return the names of sources or of values of a tag, and the index of each frame's name."""
    if given is None or isinstance(given, str):
        return (given,), 0
    if not isinstance(given, Labels | Iterable):
        return (text_of(given),), 0  # as in `record`
    try:
        labels = given if isinstance(given, Labels) else Labels.encode(given)
    except (TypeError, ValueError):
        raise ProfilerError(
            f"{what} must be a name or a sequence of names, got {quoted(given)}"
        ) from None
    _check_length(labels, what, length)
    return (*labels.names, None), labels.codes  # code -1 means no source: the last name


def _check_length(values: Any, name: str, length: int) -> None:
    if len(values) != length:
        raise ProfilerError(
            f"{name} must have as many entries as frame_ids ({length:,}), got {len(values):,}"
        )


def _integers(values: npt.ArrayLike, name: str, dimensions: int) -> npt.NDArray[Any]:
    try:
        array = np.asarray(values)
    except ValueError:
        raise ProfilerError(
            f"{name} must be an array of integers, got rows of different lengths"
        ) from None
    if not array.size and array.ndim <= dimensions:
        return np.zeros((0,) * dimensions, np.int64)
    if array.dtype.kind not in "iu":
        raise ProfilerError(f"{name} must be an array of integers, got {array.dtype}")
    if array.ndim != dimensions:
        raise ProfilerError(f"{name} must have {dimensions} dimension(s), got {array.ndim}")
    return array
