"""Answers what a change would give: by a replay of the recording, and by plain subtraction."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from latprof.arrays import Ints
from latprof.errors import TraceError
from latprof.io.dataset import DatasetLike
from latprof.pipeline import Pipeline
from latprof.queueing.arrivals import MOST_STARTS
from latprof.queueing.forecast import WhatIf
from latprof.queueing.gains import (
    MOST_REPLAYED,
    NEAR,
    line_times,
    replays_as_line,
)
from latprof.queueing.line import Line
from latprof.queueing.load import LoadedFrames, parse_load, places_in_flight
from latprof.queueing.model import QueueModel
from latprof.queueing.options import Options, server_counts
from latprof.queueing.replay import (
    Change,
    Replayed,
    Scale,
    breaks_of,
    change_of,
    check_order,
    drop_limits,
    replay,
    subtracted,
)
from latprof.queueing.rooms import Source
from latprof.queueing.sending import Times
from latprof.queueing.stations import frames_at_once
from latprof.queueing.utilization import saturated_processor
from latprof.queueing.windows import Recordings
from latprof.text import quoted
from latprof.units import format_ns

__all__ = ["what_if"]

_EXAMPLES = {"changes": '{"alsa": 0.9}', "servers": '{"server": 2}', "drop": '{"ipc": "40ms"}'}

_LOAD_DRAWS = 8  # random draws of frames at another load, and as many resampled recordings


def what_if(
    trace: DatasetLike,
    changes: Mapping[str, Scale] | None = None,
    *,
    servers: Mapping[str, int] | None = None,
    drop: Mapping[str, str | int] | None = None,
    load: float | str | None = None,
    hand_over: str | int | None = None,
    queues: Mapping[str, int | None] | None = None,
    stations: Mapping[str, str | None] | None = None,
    pipeline: Pipeline | None = None,
) -> WhatIf:
    """Return what end_to_end would have been with something changed.

    The frames are sent through the stations once more, in the recorded order, so that what a
    quicker stage takes from the queue in front of it counts as well.

    Parameters
    ----------
    trace
        A trace, a path, a folder, a glob, or several of them. All their frames are taken together,
        of all sources, dropped ones included. All frames are in memory at once, some 250
        bytes each, because they are replayed together.
    changes
        By stage a factor, ``0.9``, or a fixed change with its sign, ``"-2ms"``. No time becomes
        negative. For a hand-off in front of a station its transport delay is changed, and waiting
        follows from the replay.
    servers
        By station how many frames it serves at once here, ``{"server": 2}``.
    drop
        By hand-off in front of a station how long frames wait at most, ``{"ipc": "40ms"}``: those
        that would wait longer are dropped there, and the station does not serve them.
    load
        Another load, as a multiple of the recorded one: ``1.2`` or ``"120%"``. Frames are left out
        or added in whole bursts, of blocks of the recording; periodic starts come at a shorter
        period. It cannot be combined with other changes.
    hand_over, queues, stations, pipeline
        What is known of the queues: see `latprof.queueing.options.Options`.

    Returns
    -------
    WhatIf
        ``table`` is a DataFrame by percentile of end_to_end, in ns: ``measured`` is the recording,
        ``replayed`` the recording with the changes, queues included, ``subtraction`` the result of
        subtracting the change from each frame, ``low`` and ``high`` the range of the replay.
        `latprof.WhatIf` describes all fields.

    Raises
    ------
    TraceError
        No stage, station or hand-off of that name, or not a change; sampled or lossy recordings;
        more than 1 % of the frames contradict first in, first out; a station that frames come to
        more than once.
    PipelineError
        A name in `stations` that is not a stage, or a `pipeline` with other marks or spans.

    Examples
    --------
    >>> import numpy as np
    >>> from latprof import Pipeline, Span, Trace, what_if
    >>> line = Pipeline("line", ("start", "in", "end"), (Span("queue", "start", "in"),
    ...     Span("work", "in", "end", station="worker")))
    >>> at = {"start": np.arange(4) * 10, "in": np.arange(4) * 20, "end": np.arange(4) * 20 + 20}
    >>> result = what_if(Trace(line, frame_id=np.arange(4), marks=at), {"work": 0.5})
    >>> result.measured_ns.tolist(), result.replayed_ns.tolist(), result.subtraction_ns.tolist()
    ([20, 30, 40, 50], [10, 10, 10, 10], [10, 20, 30, 40])
    """
    for name, given in (("changes", changes), ("servers", servers), ("drop", drop)):
        if given is not None and not isinstance(given, Mapping):
            raise TraceError(
                f"{name} must be a dict (for example {_EXAMPLES[name]}), got {quoted(given)}"
            )
    options = Options(hand_over=hand_over, queues=queues, stations=stations, pipeline=pipeline)
    recordings = Recordings(trace, "what_if", options)
    given_changes = changes or {}
    scales = {
        name: change_of(recordings.pipeline, name, value) for name, value in given_changes.items()
    }
    model, processor = recordings.model(), saturated_processor(*recordings.processor())
    if load is not None:
        if changes or servers or drop:
            raise TraceError(
                "load must be given without other changes, got changes, servers or drop with it; "
                "leave one of them out"
            )
        return _doubted(_at_load(model, parse_load(load)), processor)
    counts, limits = server_counts(model.visits, servers or {}), drop_limits(model, drop or {})
    shown = [
        (name, value.strip() if isinstance(value, str) else f"x {value:g}")
        for name, value in given_changes.items()
    ]
    shown += [(name, f"{n} server{'s' if n != 1 else ''}") for name, n in counts.items()]
    shown += [(name, f"dropped after {format_ns(ns)}") for name, ns in limits.items()]
    # a station may have the name of its stage
    texts = {name: ", ".join(change for same, change in shown if same == name) for name, _ in shown}
    if replays_as_line(model.line):
        if limits:
            raise TraceError(
                "drop must be left out for queues with limited room, got "
                f"{quoted(dict(drop or {}))}; give queues={{name: 0}} for each unbounded one"
            )
        return _doubted(_of_line(model, given_changes, counts, texts), processor)
    if model.unordered_batches:
        raise TraceError(model.unordered_batches)
    breaks = check_order(model)
    first = replay(model, scales, servers=counts, limits=limits)
    rows, lengths = model.end_to_end
    replayed, dropped = _after(lengths, first, rows)
    waits = first.waits
    del first  # only one reading of many frames in memory
    others: tuple[Ints, ...] = ()
    if any(delays.is_ambiguous for delays in model.delays.values()):
        readings = {
            name: delays.with_all_queued(model.visits[name].begin)
            for name, delays in model.delays.items()
        }
        second = replay(model, scales, servers=counts, limits=limits, delays=readings)
        others = (_after(lengths, second, rows)[0],)
        del second, readings
    result = WhatIf(
        np.sort(lengths),
        replayed,
        np.sort(np.maximum(lengths - subtracted(model, scales)[rows], 0)),
        others,
        waits,
        texts,
        {"frames": len(rows), "dropped": dropped, "breaks": breaks, "left_out": 0},
        {name: delays.limit_ns for name, delays in model.delays.items()},
        model.queues,
        Source(),
        _assumptions(model, counts),
        _warning(model),
    )
    return _doubted(result, processor)


def _doubted(result: WhatIf, reason: str) -> WhatIf:
    """Return the result with one more warning, if there is a reason."""
    return replace(result, warning=". ".join(filter(None, (reason, result.warning))))


def _of_line(
    model: QueueModel,
    given: Mapping[str, Scale],
    counts: Mapping[str, int],
    texts: dict[str, str],
) -> WhatIf:
    """Replay a line of stations with limited room, in all readings of the recording."""
    whole = model.line
    assert whole is not None
    line = whole.of_rows(model.counted).first(MOST_REPLAYED)
    pipeline = model.stations.pipeline

    def scales(more: float) -> dict[str, Change]:
        """Return the changes, with factors that are larger by `more`."""
        factors = {
            name: value if isinstance(value, str) else max(value + more * (value != 1), 0.0)
            for name, value in given.items()
        }
        return {name: change_of(pipeline, name, value) for name, value in factors.items()}

    servers = [counts.get(name or "", c) for name, c in zip(line.names, line.servers, strict=True)]
    if line.has_batches and servers != line.servers:
        raise TraceError(
            f"servers must be left out if a station serves batches, got {quoted(dict(counts))}; "
            "how more or fewer servers would form batches is not known"
        )
    near = [scales(0.0), scales(-NEAR), scales(NEAR)]
    replays: list[Ints] = []
    waits: dict[str, tuple[float, float]] = {}
    filling: dict[str, tuple[float, float]] = {}
    for i, reading in enumerate(line.readings()):
        scenarios = near if i == 0 and max(servers) == 1 else near[:1]
        times = line_times(model, reading, scenarios)
        begins, leave = reading.replay(len(scenarios), *times, servers)
        if i == 0:
            waits, filling = _waits_of(line, begins, times)
        replays += list(np.sort(leave - begins[0], axis=1))
    lengths = line.leave - line.begin[0]
    less = subtracted(model, near[0])[line.rows]
    left_out = int(np.count_nonzero(model.counted)) - len(line)
    lines = _line_assumptions(model, line, servers)
    if any(not isinstance(value, str) for value in given.values()):
        lines.append("the range includes factors that are 0.02 smaller and larger")
    if len(whole) > len(line) and left_out > whole.left_out:
        lines.append(f"replayed are the first {len(line):,} of {len(whole):,} frames")
    unknown = not any(queue.room for queue in line.with_common_room().queues)
    warning = ""
    if unknown and line.source.kind in ("closed", "paused"):
        warning = "the room of no queue is known: give queues= (--queue HANDOFF=8); this is not a "
        warning += "forecast"
    return WhatIf(
        np.sort(lengths),
        replays[0],
        np.sort(np.maximum(lengths - less, 0)),
        tuple(replays[1:]),
        waits,
        texts,
        {"frames": len(line), "dropped": 0, "breaks": 0, "left_out": left_out},
        {},
        model.queues,
        line.source,
        tuple(lines),
        warning,
        filling,
    )


def _line_assumptions(model: QueueModel, line: Line, servers: Sequence[int]) -> list[str]:
    """Return what the replay of a line assumes, with its evidence; `servers` are those by node."""
    lines = [f"{name}: {queue.text}" for name, queue in model.queues.items()]
    common = line.with_common_room()
    for handoff, before, after in zip(line.handoffs[1:], line.queues, common.queues, strict=True):
        if before.room is None and after.room:
            lines.append(f"{handoff}: taken as room {after.room}, which other queues have")
        elif before.room is None and handoff is not None:
            lines.append(f"{handoff}: taken as unbounded; the range includes room {before.most}")
    lines.append(f"source: {line.source.text}")
    if line.source.kind == "irregular":
        lines.append(
            "the range is between frames that were due when they started and a source that always "
            "has another frame"
        )
    for k, (name, count, was) in enumerate(zip(line.names, servers, line.servers, strict=True)):
        if line.batches[k] is not None:
            lines.append(
                f"{name} serves one batch at once, of {line.batch_size(k):.3g} frames on average: "
                "the same frames as in the recording"
            )
        elif name is not None:
            here = f", {count} here" if count != was else ""
            frames = frames_at_once(was, unbounded=model.is_unbounded(name))
            lines.append(f"{name} serves {frames} at once{here}, first in, first out")
    return lines


def _waits_of(
    line: Line, begins: list[Ints], times: tuple[list[Times], list[Times], list[Times]]
) -> tuple[dict[str, tuple[float, float]], dict[str, tuple[float, float]]]:
    """Return the mean time in each hand-off, and until batches are full.

    Each is as recorded, and as replayed in the first scenario.
    """
    waits, filling = {}, {}
    work, travel, _ = times

    def mean(later: Ints, sooner: Ints) -> float:
        """Return the mean of a difference, 0 without frames."""
        return float((later - sooner).mean()) if len(line) else 0.0

    for k, handoff in enumerate(line.handoffs):
        if handoff is None or not k:
            continue
        served, taken = line.served(k, begins[k][0]), begins[k][0]
        sent = line.served(k - 1, begins[k - 1][0]) + work[k - 1].of(0) + travel[k - 1].of(0)
        waits[handoff] = mean(line.served(k), line.arrive[k]), mean(served, sent)
        if line.batches[k] is not None:
            filling[handoff] = mean(line.served(k), line.begin[k]), mean(served, taken)
    return waits, filling


def _at_load(model: QueueModel, load: float) -> WhatIf:
    """Return the answer for another load: the mean of random draws, and resampled recordings."""
    frames = LoadedFrames(model, "what_if with load=")
    overload = frames.overload(load)
    if overload:  # how long frames take depends on how many came before
        frames = LoadedFrames(model, "what_if with load=", most=MOST_STARTS)
        overload = frames.overload(load)
    measured = np.sort(frames.measured_ns)
    n = len(measured)

    def quantiles(draw: int, resampled: bool) -> Ints:
        """Return n latencies, as another load has another number of frames."""
        found = np.sort(frames.latencies(load, draw, resampled=resampled))
        return found[-(-np.arange(1, n + 1) * len(found) // n) - 1]

    drawn = [quantiles(draw, False) for draw in range(_LOAD_DRAWS)]
    middle = np.mean(drawn, axis=0)
    resampled = np.array([quantiles(draw, True) for draw in range(_LOAD_DRAWS)])
    # the recording may be busier or calmer than resampled ones: only their spread is used,
    # scaled so that their mean is that of the draws
    scaled = resampled * (middle / np.maximum(resampled.mean(axis=0), 1))
    others = drawn + list(np.sort(np.rint(scaled).astype(np.int64), axis=1))
    return WhatIf(
        measured,
        np.rint(middle).astype(np.int64),
        measured,
        tuple(others) if load != 1 else (),
        {},
        {"load": f"x {load:g}"},
        {"frames": len(measured), "dropped": 0, "breaks": sum(breaks_of(model).values())}
        | {"left_out": frames.left_out},
        {name: delays.limit_ns for name, delays in model.delays.items()},
        model.queues,
        Source() if model.line is None else model.line.source,
        frames.assumptions(),
        "; ".join(filter(None, (overload, frames.warning(load)))),
    )


def _after(lengths: Ints, replayed: Replayed, rows: Ints) -> tuple[Ints, int]:
    """Return sorted end_to_end of the frames that are not dropped, and how many are."""
    after = replayed.shift[rows]
    after += lengths
    np.maximum(after, 0, out=after)  # marks that were too early may put an end before its start
    kept = replayed.dropped_at[rows] < 0
    dropped = len(rows) - int(np.count_nonzero(kept))
    after = after[kept] if dropped else after
    after.sort()
    return after, dropped


def _assumptions(model: QueueModel, servers: Mapping[str, int]) -> tuple[str, ...]:
    """Return what the replay of unbounded queues assumes, with its evidence."""
    lines = [
        "frames start when they did; the first to arrive at a station is served first",
        "a station takes the next frame as soon as it is free; its times do not depend on its load",
        "queues have room for all frames",
    ]
    for name, delays in model.delays.items():
        queued = int(np.count_nonzero(delays.queued))
        usual = "unknown" if delays.usual_ns is None else format_ns(delays.usual_ns)
        serves = f"it serves {model.visits[name].servers} at once"
        if model.is_unbounded(name):
            serves = f"up to {model.visits[name].servers} frames overlap, without a bound"
        if name in servers:
            serves = f"{serves} in the recording, {servers[name]} here"
        lines.append(
            f"{name}: a frame that enters within {format_ns(delays.limit_ns)} of a departure "
            f"counts as queued: {queued:,} of {len(delays.queued):,}; delay in front of it "
            f"{usual}; {serves}"
        )
    for name, found in model.blocked.items():
        lines += [
            f"{name}: its stage {b.stage} was held up by {b.by} (inferred); that time shrinks as "
            f"the time of {b.by} does"
            for b in found
        ]
    return tuple(lines)


def _warning(model: QueueModel) -> str:
    places = places_in_flight(model)
    if places is None:
        return ""
    return (
        f"frames start as others leave, with {places} in flight: their source waits for room, and "
        "would start others instead. The replay shows the most that can be gained, not a forecast"
    )
