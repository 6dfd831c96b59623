"""The settings of a profiler, checked: what cannot be is refused, never replaced in silence."""

import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from latprof.errors import ProfilerError
from latprof.frames import STAMP_LIMIT
from latprof.pipeline import Pipeline
from latprof.recorder.alerts import Violation
from latprof.text import escape, quoted
from latprof.thresholds import Duration, Thresholds, parse_thresholds
from latprof.units import parse_duration

__all__ = [
    "OnCritical",
    "Rotation",
    "checked_anchor",
    "checked_duration",
    "checked_keep",
    "checked_on_critical",
    "checked_overflow",
    "checked_path",
    "checked_rate",
    "checked_rotation",
    "checked_thresholds",
    "names_folder",
]

OVERFLOWS = ("overwrite", "drop", "block")

_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(k|M|G)i?B\s*")
_BYTES = {"k": 1, "M": 2, "G": 3}

SMALLEST_FILE = 65_536
SHORTEST_FILE_NS = 1_000_000


@dataclass(frozen=True, slots=True)
class Rotation:
    """When a new file is begun: after `ns` or after `bytes`."""

    ns: int | None = None
    bytes: int | None = None


def checked_rate(rate: float) -> float:
    """Return a sampling rate."""
    if isinstance(rate, bool) or not isinstance(rate, int | float):
        raise ProfilerError(f"sampling_rate {rate!r} is no number: give 0 to 1")
    if not 0 <= rate <= 1:
        raise ProfilerError(f"sampling_rate {rate!r} is out of range: give 0 to 1")
    return float(rate)


def checked_duration(value: Duration | None, name: str) -> int | None:
    """Return a duration in ns; None stays None."""
    if value is None:
        return None
    try:
        return parse_duration(value, name=name)
    except ValueError as error:
        raise ProfilerError(str(error)) from None


def checked_thresholds(
    warning: Duration | Mapping[str, Duration] | None,
    critical: Duration | Mapping[str, Duration] | None,
    pipeline: Pipeline,
    owns: tuple[str, ...],
) -> Thresholds:
    """Return the thresholds, of spans between marks that this process owns."""
    spans = {span.name: span for span in pipeline.all_spans}
    for level, given in (("warning", warning), ("critical", critical)):
        for name in given if isinstance(given, Mapping) else ():
            span = spans.get(name) if isinstance(name, str) else None
            if span is None:
                raise ProfilerError(
                    f"{level} must name spans of pipeline {pipeline.name!r}, got {quoted(name)}; "
                    f"use {', '.join(spans)}"
                )
            foreign = [mark for mark in (span.begin, span.end) if mark not in owns]
            if foreign:
                raise ProfilerError(
                    f"{level} of {name!r}: mark {foreign[0]!r} is not owned by this process; give "
                    "thresholds of spans between owned marks"
                )
    return parse_thresholds(warning, critical, error=ProfilerError)


OnCritical = str | Callable[[Violation], object]


def checked_on_critical(action: OnCritical | None, critical: dict[str, int]) -> OnCritical | None:
    """Return what is done about a critical frame: ``"freeze"`` or a callable."""
    if action is None:
        return None
    if action != "freeze" and not callable(action):
        raise ProfilerError(f'on_critical {action!r} is unknown: give "freeze" or a callable')
    if not critical:
        raise ProfilerError("on_critical without a threshold: give critical=, too")
    return action


def checked_keep(keep: Duration | None) -> tuple[bool, int | None]:
    """Return whether a trace keeps only some frames, and the limit of the slow ones in ns."""
    if keep is None:
        return False, None
    if keep == "slow":
        return True, None
    try:
        return True, parse_duration(keep, name="keep")
    except ValueError as error:
        raise ProfilerError(f'{error}; or give "slow"') from None


def checked_overflow(overflow: object) -> str:
    """Return what happens to frames for which the ring has no room."""
    if not isinstance(overflow, str) or overflow not in OVERFLOWS:
        raise ProfilerError(f"overflow {overflow!r} is unknown: give one of {', '.join(OVERFLOWS)}")
    return overflow


def checked_path(path: "str | os.PathLike[str] | None") -> Path | None:
    """Return where trace files go: a path in a folder that is there, or a folder to be made."""
    if path is None:
        return None
    try:
        text = os.fspath(path)
    except TypeError:
        text = None
    if not isinstance(text, str) or not text or "\0" in text:
        raise ProfilerError(f"path {path!r} is no path: give a file, or a folder")
    checked = Path(text)
    if names_folder(text):
        if checked.exists() and not checked.is_dir():
            raise ProfilerError(
                f"path {escape(text)} is a file: leave out the {text[-1]} at its end"
            )
        return checked
    if not checked.is_dir() and not checked.parent.is_dir():
        raise ProfilerError(
            f"path {escape(text)}: there is no folder {escape(str(checked.parent))}: make it, or "
            "give another"
        )
    return checked


def names_folder(path: "str | os.PathLike[str] | None") -> bool:
    """Return whether a path says by its ending that it is a folder: it is made where needed."""
    separators = tuple(filter(None, (os.sep, os.altsep)))
    return path is not None and os.fspath(path).endswith(separators)


def checked_rotation(rotate: Duration | None, path: Path | None) -> Rotation | None:
    """Return when a new file is begun: ``"1h"`` or ``"64MB"``."""
    if rotate is None:
        return None
    if path is None:
        raise ProfilerError(f"rotate {rotate!r} without a path: say where with path=")
    size = _SIZE.fullmatch(rotate) if isinstance(rotate, str) else None
    if size is not None:
        assert isinstance(rotate, str)
        base = 1_024 if "i" in rotate else 1_000
        count = int(Fraction(size[1]) * base ** _BYTES[size[2]])
        if count < SMALLEST_FILE:
            raise ProfilerError(f"rotate {rotate!r} is too small: give 66kB or more")
        return Rotation(bytes=count)
    try:
        ns = parse_duration(rotate, name="rotate")
    except ValueError as error:
        raise ProfilerError(f'{error}; or give a size, "64MB"') from None
    if ns < SHORTEST_FILE_NS:
        raise ProfilerError(f"rotate {rotate!r} is too short: give 1ms or more")
    return Rotation(ns=ns)


def checked_anchor(clock: Callable[[], int]) -> tuple[int, int]:
    """Return a stamp of the clock and the wall clock's time for it, both ns."""
    before = time.time_ns()
    try:
        now = clock()
    except Exception as error:
        raise ProfilerError(
            f"the clock cannot be read ({escape(str(error))}): give a function without arguments, "
            "time.perf_counter_ns say"
        ) from None
    if type(now) is not int or not 0 < now < STAMP_LIMIT:
        raise ProfilerError(
            f"the clock returned {now!r}: give one that returns integer ns above 0 and below "
            "2**62, time.perf_counter_ns say"
        )
    return now, (before + time.time_ns()) // 2
