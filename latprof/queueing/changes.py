"""What can be changed in a replay: times of stages, servers of stations, how long frames wait."""

import re
from collections.abc import Mapping

import numpy as np

from latprof.arrays import Ints
from latprof.errors import TraceError
from latprof.frames import STAMP_LIMIT
from latprof.pipeline import Pipeline
from latprof.queueing.model import Picture
from latprof.queueing.replay import Change
from latprof.text import escape
from latprof.units import parse_duration

__all__ = ["Scale", "change_of", "limits_of", "servers_of", "subtracted", "written"]


Scale = float | int | str
"""A factor, or a fixed change with its sign: ``"-2ms"``."""


def change_of(pipeline: Pipeline, name: str, value: object) -> Change:
    """Return what a change makes of the times of a stage.

    Raises
    ------
    TraceError
        No such stage, or no change.
    """
    names = [stage.name for stage in pipeline.stages]
    if name not in names:
        raise TraceError(
            f"{escape(str(name))!r} is no stage of {pipeline.name!r}: use one of {', '.join(names)}"
        )
    if isinstance(value, str):
        if not re.match(r"\s*[+-]", value):
            raise TraceError(
                f"{name}: {escape(value)!r} has no sign: write '-2ms' for 2 ms less, or a factor"
            )
        try:
            fixed = parse_duration(value, name=name, signed=True)
        except ValueError as error:
            raise TraceError(str(error)) from None
        return lambda lengths: np.maximum(lengths + fixed, 0)
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise TraceError(f"{name}: {value!r} is no change: give a factor, 0.9, or '-2ms'")
    factor = float(value)
    if not 0 <= factor < 1e6:
        raise TraceError(f"{name}: factor {value!r}: give one from 0 to 1,000,000")
    if factor == 1:
        return lambda lengths: lengths
    return lambda lengths: _scaled(name, lengths, factor)


def _scaled(name: str, lengths: Ints, factor: float) -> Ints:
    scaled = np.rint(lengths * factor)
    if len(scaled) and scaled.max() >= STAMP_LIMIT:
        raise TraceError(f"{name} x {factor:g} is 2**62 ns (146 years) or more: change less")
    return np.asarray(scaled, np.int64)


def servers_of(whole: Picture, servers: Mapping[str, int]) -> dict[str, int]:
    """Return how many frames stations serve at once; TraceError: no such station or number."""
    for name, count in servers.items():
        if name not in whole.visits:
            there = ", ".join(whole.visits) or "none: no stage has one"
            raise TraceError(f"{escape(str(name))!r} is no station: use one of {there}")
        if isinstance(count, bool) or not hasattr(count, "__index__") or not 1 <= count <= 10_000:
            raise TraceError(f"servers of {name}: {count!r}: give a number from 1 to 10,000")
    return {name: int(count) for name, count in servers.items()}


def limits_of(whole: Picture, drop: Mapping[str, str | int]) -> dict[str, int]:
    """Return how long frames wait at most, ns, by hand-off; TraceError: no such one, no time."""
    there = [block.handoff for block in whole.places.blocks if block.handoff]
    limits = {}
    for name, value in drop.items():
        if name not in there:
            raise TraceError(
                f"drop: {escape(str(name))!r} is no hand-off in front of a station: use one of "
                f"{', '.join(there) or 'none: there is no such'}"
            )
        try:
            limits[name] = parse_duration(value, name=f"drop at {name}")
        except ValueError as error:
            raise TraceError(str(error)) from None
    return limits


def subtracted(whole: Picture, scales: Mapping[str, Change]) -> Ints:
    """Return (n,) ns: how much less the changed stages take by themselves."""
    less = np.zeros(len(whole.columns), np.int64)
    for stage in whole.places.pipeline.stages:
        if stage.name in scales:
            rows, lengths = whole.lengths(stage)
            less[rows] += lengths - scales[stage.name](lengths)
    return less


def written(value: Scale) -> str:
    """Return a change as people read it."""
    return value.strip() if isinstance(value, str) else f"x {value:g}"
