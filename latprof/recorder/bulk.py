"""Recording many frames at once: arrays in, rows of the ring out, without a loop over frames."""

from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from latprof.arrays import Mask
from latprof.errors import PipelineError, ProfilerError
from latprof.frames import NO_SIZE, STAMP_LIMIT, Labels
from latprof.pipeline import Pipeline, Span
from latprof.recorder.alerts import Alerts
from latprof.recorder.backpressure import Room
from latprof.recorder.hotpath import HotPath
from latprof.recorder.live_fold import LiveFold
from latprof.recorder.sampling import RUN_BITS, fnv1a, run_hashes
from latprof.recorder.stamping import BAD_FRAME_ID, BAD_SIZE, BAD_STAMP
from latprof.ring.ring import Ring

__all__ = ["Block", "block", "write"]


class Block:
    """n frames on their way into a ring: `rows`, and why some of them cannot be stored."""

    def __init__(self, rows: npt.NDArray[np.void], rejected: dict[str, Mask]) -> None:
        self.rows = rows
        self.rejected = rejected


def block(
    pipeline: Pipeline,
    ring: Ring,
    owns: tuple[str, ...],
    frame_ids: npt.ArrayLike,
    stamps: npt.ArrayLike,
    size: npt.ArrayLike | None,
    source: str | Sequence[str | None] | Labels | None,
) -> Block:
    """Check the arguments of `Profiler.record_many` and lay them out as rows."""
    ids = _integers(frame_ids, "frame_ids", 1)
    table = _integers(stamps, "stamps", 2)
    marks = pipeline.marks
    if table.shape[1] != len(marks) and table.size:
        raise PipelineError(
            f"stamps have {table.shape[1]} columns for the {len(marks)} marks of pipeline "
            f"{pipeline.name!r}: give one for each of {', '.join(marks)}, 0 where missing"
        )
    if len(table) != len(ids):
        raise ProfilerError(
            f"stamps have {len(table)} rows and frame_ids {len(ids)}: give arrays of one length"
        )
    rows = np.zeros(len(ids), pipeline.row_dtype)
    if not len(ids):
        return Block(rows, {})
    bad_id = ids < 0 if ids.dtype.kind == "i" else np.zeros(len(ids), bool)
    rows["frame_id"] = ids.astype(np.uint64)

    unfit = (table >= STAMP_LIMIT) | (table < 0)
    bad_stamp = unfit.any(axis=1)
    for i, mark in enumerate(marks):
        column = table[:, i]
        if mark not in owns and column.any():
            raise PipelineError(
                f"mark {mark!r} of pipeline {pipeline.name!r} is another process's: its stamps "
                "must be 0, or own it (owns=)"
            )
        rows[mark] = np.where(unfit[:, i], 0, column) if bad_stamp.any() else column

    bad_size = np.zeros(len(ids), bool)
    rows["size"] = NO_SIZE
    if size is not None:
        sizes = _integers(size, "size", np.ndim(size))
        if sizes.ndim and len(sizes) != len(ids):
            raise ProfilerError(
                f"size has {len(sizes)} entries and frame_ids {len(ids)}: give one length"
            )
        bad_size |= (sizes < 0) | (sizes > NO_SIZE)
        rows["size"] = np.where(bad_size, 0, sizes)
    rows["source"] = _codes(source, ring, len(ids))
    rows["cpu"] = np.nan
    rows["weight"] = 1
    bad_stamp &= ~(bad_id | bad_size)
    bad_size &= ~bad_id
    return Block(rows, {BAD_FRAME_ID: bad_id, BAD_SIZE: bad_size, BAD_STAMP: bad_stamp})


def write(
    frames: Block, ring: Ring, hot: HotPath, fold: LiveFold, alerts: Alerts, sampled_below: int
) -> None:
    """Commit the rows that are sampled and can be stored; count the others."""
    rows = frames.rows
    taken = np.ones(len(rows), bool)
    if sampled_below < 2**64:
        hashes = [fnv1a(name) for name in ring.sources.table]
        sources = np.array(hashes, np.uint64)[rows["source"]]
        runs = rows["frame_id"] >> np.uint64(RUN_BITS)
        taken = run_hashes(runs, sources) < np.uint64(sampled_below)
        for bad in frames.rejected.values():
            taken |= bad  # rejected, whatever the sampling says
        _count(hot.skipped, len(rows) - int(taken.sum()))
    _count(hot.started, int(taken.sum()))
    for reason, bad in frames.rejected.items():
        if bad.any():
            hot.rejected.add(reason, int(bad.sum()))
            alerts.rejected(reason, f"row {int(np.argmax(bad))} of those given")
            taken &= ~bad
    if not taken.all():
        rows = rows[taken]
    rows["rss"], rows["cpu"] = hot.rss, hot.cpu
    step = max(1, ring.capacity // 2)
    for start in range(0, len(rows), step):
        piece = rows[start : start + step]
        # what the ring still holds unfolded must not be overwritten by this piece
        if fold.backlog + len(piece) > ring.capacity:
            fold.catch_up()
        if hot.room is not None:
            piece = piece[: _admitted(len(piece), hot.room, fold)]
        ring.write_block(piece)
    if alerts.lowest:
        _check_limits(rows, ring, alerts, hot.owned)


def _admitted(count: int, room: Room, fold: LiveFold) -> int:
    """Return for how many rows there is room; the rest is counted as refused."""
    taken = room.take_many(count)
    while taken < count:
        fold.catch_up()
        found = room.take_many(count - taken)
        # none, as others were quicker or something is stuck: wait for one, where one waits
        if not found and not room.take():
            room.refuse(count - taken - 1)
            break
        taken += found or 1
    return taken


def _check_limits(rows: npt.NDArray[np.void], ring: Ring, alerts: Alerts, owns: set[str]) -> None:
    for span in ring.pipeline.all_spans:
        limit = alerts.lowest.get(span.name)
        if limit is not None and {span.begin, span.end} <= owns:
            _check_limit(rows, ring, alerts, span, limit)


def _check_limit(
    rows: npt.NDArray[np.void], ring: Ring, alerts: Alerts, span: Span, limit: int
) -> None:
    begin, end = rows[span.begin], rows[span.end]
    latencies = np.where((begin != 0) & (end != 0), end - begin, 0)
    over = np.flatnonzero(latencies > limit)
    critical = latencies[over] > alerts.critical.get(span.name, 2**63 - 1)
    # one by one only as many as the log has room for, and those that somebody asked to see
    told = np.arange(len(over)) <= alerts.BURST
    if alerts.on_critical is not None:
        told |= critical
    for i in over[told].tolist():
        source = ring.sources.table[int(rows["source"][i])]
        alerts.slow(int(rows["frame_id"][i]), source, int(latencies[i]), span.name)
    rest = critical[~told]
    if len(rest):
        alerts.spare("criticals", int(rest.sum()))
        alerts.spare("warnings", int((~rest).sum()))


def _count(counter: Any, count: int) -> None:
    """Take `count` numbers from a counter, in C."""
    deque(islice(counter, count), maxlen=0)


def _codes(source: Any, ring: Ring, length: int) -> Any:
    if source is None or isinstance(source, str):
        return ring.sources.code(source)
    if not isinstance(source, Labels | Iterable):
        return ring.sources.code(str(source))  # as `record` takes it
    labels = source if isinstance(source, Labels) else Labels.encode(source)
    if len(labels) != length:
        raise ProfilerError(
            f"source has {len(labels)} entries and frame_ids {length}: give one length"
        )
    codes = [ring.sources.code(name) for name in labels.names]
    return np.array([*codes, 0], np.uint16)[labels.codes]


def _integers(values: npt.ArrayLike, what: str, dimensions: int) -> npt.NDArray[Any]:
    try:
        array = np.asarray(values)
    except ValueError:
        raise ProfilerError(f"{what} are no array: give integers, rows of one length") from None
    if not array.size and array.ndim <= dimensions:
        return np.zeros((0,) * dimensions, np.int64)
    if array.dtype.kind not in "iu":
        raise ProfilerError(f"{what} are {array.dtype}: give an array of integers")
    if array.ndim != dimensions:
        raise ProfilerError(f"{what} have {array.ndim} dimensions: give {dimensions}")
    return array
