"""Which stamping core runs: `_core`, written in C, or its twin `_core_python`.

The environment variable ``LATPROF_IMPL`` chooses: ``c``, ``python``, or ``auto``. The default is
``auto``, which takes the C core if it was built.
"""

import os
import sys
import time
from collections.abc import Callable, Hashable
from contextvars import ContextVar
from importlib import import_module
from types import ModuleType

from latprof.errors import ProfilerError
from latprof.recorder import _core_python
from latprof.recorder._core_python import NO_FRAME, Core, Frame
from latprof.recorder.alerts import Alerts
from latprof.recorder.incidents import Incidents
from latprof.ring.ring import Ring
from latprof.units import STAMP_LIMIT

__all__ = ["CURRENT", "IMPL", "NO_FRAME", "Core", "Frame", "make_core"]


def _chosen(wanted: str) -> tuple[str, ModuleType]:
    """Return the name of the implementation and its module."""
    if wanted not in ("c", "python", "auto"):
        raise ImportError(f"LATPROF_IMPL must be c, python or auto, got {wanted!r}; unset it")
    if wanted != "python":
        try:
            if sys.byteorder != "little":
                raise ImportError("the processor is not little-endian")
            return "c", import_module("latprof.recorder._core")
        except ImportError as error:
            if wanted == "c":
                raise ImportError(
                    f"LATPROF_IMPL=c needs latprof's C extension, which cannot be loaded: {error}; "
                    "install a C compiler and Python's headers and then latprof again, or set "
                    "LATPROF_IMPL=python"
                ) from None
    return "python", _core_python


IMPL, _module = _chosen(os.environ.get("LATPROF_IMPL") or "auto")
"""The implementation that runs: "c" or "python"."""

if IMPL == "c":
    NO_FRAME, Core, Frame = _module.NO_FRAME, _module.Core, _module.Frame  # type: ignore[misc]

CURRENT: ContextVar[Frame | None] = ContextVar("latprof.current_frame", default=None)
"""The frame with the block that was entered last in this context; it may be finished."""


# the core in C reads these clocks itself, instead of calling the functions of `time`
_CLOCK_IDS: dict[Callable[[], int], int] = {}
if sys.platform == "linux":
    _CLOCK_IDS = {
        time.perf_counter_ns: time.CLOCK_MONOTONIC,
        time.monotonic_ns: time.CLOCK_MONOTONIC,
        time.time_ns: time.CLOCK_REALTIME,
    }


def make_core(
    ring: Ring,
    clock: Callable[[], int],
    owned: tuple[str, ...],
    alerts: Alerts,
    *,
    offset_ns: int = 0,
    sampled_below: int = 2**64,
    overflow: str = "overwrite",
    track_current: bool = True,
) -> tuple[Core, Incidents]:
    """Return the core that writes to a ring, and the `Incidents` that it calls in rare cases.

    Parameters
    ----------
    ring, clock, owned, alerts
        The ring, the clock in ns, the marks that this process stamps, and the thresholds.
    offset_ns
        Wall clock minus the profiler's clock: a stamp must be in range on both.
    sampled_below
        A run of ids is sampled if its hash is below; 2**64 samples all.
    overflow, track_current
        Settings of `Profiler`.
    """
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        raise ProfilerError(
            "a profiler must run with the interpreter lock, got an interpreter without it; set "
            "PYTHON_GIL=1"
        )
    pipeline = ring.pipeline
    marks, names = (tuple(map(sys.intern, each)) for each in (pipeline.marks, ring.tag_names))
    place = {mark: i for i, mark in enumerate(pipeline.marks)}
    watched = [
        span
        for span in pipeline.all_spans
        if span.name in alerts.lowest and {span.begin, span.end} <= set(owned)
    ]
    tags = dict(zip(names, ring.tags, strict=True))
    spans = [span.name for span in watched]
    incidents = Incidents(pipeline, owned, alerts, ring.sources, ring.outcomes, tags, spans)
    core = Core(
        ring.buffer,
        ring.slots,
        capacity=ring.capacity,
        marks=marks,
        owned=owned,
        start_at=place["start"],
        end_at=place["end"],
        tags=names,
        clock=clock,
        clock_id=_CLOCK_IDS.get(clock, -1) if isinstance(clock, Hashable) else -1,
        stamp_limit=STAMP_LIMIT - max(offset_ns, 0),
        sampled_below=sampled_below,
        limits=tuple((place[s.begin], place[s.end], alerts.lowest[s.name]) for s in watched),
        waits=overflow == "block",
        current=CURRENT if track_current else None,
        incidents=incidents,
        codes=tuple(table.codes for table in (ring.sources, *ring.tags)),
    )
    if overflow != "overwrite":
        core.limit = ring.capacity
    ring.numbers = core
    return core, incidents
