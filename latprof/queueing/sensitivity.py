"""Finds by how much less time in each stage would shorten end_to_end: where effort pays."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from latprof.errors import TraceError
from latprof.histogram import Histogram
from latprof.io.dataset import DatasetLike
from latprof.pipeline import Pipeline
from latprof.queueing.gains import Gains, GainsSoFar
from latprof.queueing.model import QueueModel
from latprof.queueing.options import MOST_STAGES, Options
from latprof.queueing.windows import Recordings
from latprof.table import data_frame
from latprof.text import quoted

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["sensitivity", "sensitivity_rows"]

_GAINS = ("mean", "mean_share", "p99", "p99_share")


def sensitivity(
    trace: DatasetLike,
    *,
    less: float = 0.1,
    hand_over: str | int | None = None,
    servers: Mapping[str, int] | None = None,
    queues: Mapping[str, int | None] | None = None,
    stations: Mapping[str, str | None] | None = None,
    pipeline: Pipeline | None = None,
) -> "pd.DataFrame":
    """Return by how much less time in a stage shortens end_to_end, the largest gain first.

    Parameters
    ----------
    trace
        A trace, a path, a folder, a glob, or several of them. All their frames are taken together,
        of all sources, dropped ones included.
    less
        The part by which the times of a stage are shortened, from 0 to 1.
    hand_over, servers, queues, stations, pipeline
        What is known of the queues: see `latprof.queueing.options.Options`.

    Returns
    -------
    DataFrame
        By stage: by how much the ``mean`` and the ``p99`` of end_to_end would be less, in ns, and
        as ``mean_share`` and ``p99_share`` of the measured values. NaN without frames.

    Raises
    ------
    TraceError
        `less` is not a number from 0 to 1; sampled or lossy recordings; more than 1 % of the
        frames contradict first in, first out; a station that frames come to more than once.
    PipelineError
        A name in `stations` that is not a stage, or a `pipeline` with other marks or spans.

    Examples
    --------
    >>> import numpy as np
    >>> from latprof import Pipeline, Span, Trace, sensitivity
    >>> line = Pipeline("line", ("start", "in", "end"), (Span("queue", "start", "in"),
    ...     Span("work", "in", "end", station="worker")))
    >>> at = {"start": np.arange(4) * 10, "in": np.arange(4) * 20, "end": np.arange(4) * 20 + 20}
    >>> sensitivity(Trace(line, frame_id=np.arange(4), marks=at), less=0.5)["mean"].to_dict()
    {'work': 25.0, 'queue': 0.0}
    """
    options = Options(hand_over, MOST_STAGES, servers, queues, stations, pipeline)
    rows = sensitivity_rows(trace, options, less=less)
    return data_frame(rows, "stage", dict.fromkeys(_GAINS, "float64"))


def sensitivity_rows(
    trace: DatasetLike, options: Options, *, less: float = 0.1
) -> list[dict[str, Any]]:
    """Return the table of `sensitivity` as plain values: a dict for each stage.

    Raises
    ------
    TraceError
        See `sensitivity`.
    """
    number = isinstance(less, int | float | np.number) and not isinstance(less, bool)
    if not number or not 0 <= less <= 1:
        raise TraceError(f"less must be a number from 0 to 1, got {quoted(less)}")
    recordings = Recordings(trace, "sensitivity", options)

    def replayed(models: Iterator[QueueModel]) -> tuple[Gains | None, str, GainsSoFar]:
        """Return the gains of all windows, or None and why there are none."""
        so_far, gains, why = GainsSoFar(less, spread=True), Gains(), ""
        for model in models:
            found, reason = so_far.of(model)
            if found is None:
                return None, reason, so_far
            gains = gains + found
        return gains, why, so_far

    gains, why, so_far = recordings.in_windows(replayed)
    if gains is None:
        raise TraceError(why)
    ends = so_far.ends or {}
    before = ends.get(None, Histogram())
    table: list[dict[str, Any]] = []
    for stage in recordings.pipeline.stages:
        row: dict[str, Any] = {"stage": stage.name, **dict.fromkeys(_GAINS)}
        if gains.frames:
            whole, after = gains.end_to_end / gains.frames, ends.get(stage.name, before)
            mean = gains.gain.get(stage.name, 0.0) / gains.frames
            p99, then = before.value_at(99) or 0, after.value_at(99) or 0
            row |= {"mean": mean, "p99": float(p99 - then)}
            row["mean_share"] = mean / whole if whole else 0.0
            row["p99_share"] = (p99 - then) / p99 if p99 else 0.0
        table.append(row)
    return sorted(table, key=lambda row: (-(row["mean"] or 0), -(row["p99"] or 0)))
