"""Checks of a profiler's settings: invalid ones are refused, never replaced."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from latprof.errors import ProfilerError
from latprof.pipeline import Pipeline
from latprof.recorder.alerts import Violation
from latprof.text import escape, quoted
from latprof.thresholds import Duration, Thresholds, parse_thresholds
from latprof.units import parse_duration

__all__ = [
    "OnCritical",
    "OutputSettings",
    "Rotation",
    "checked_duration",
    "checked_outputs",
    "checked_overflow",
    "checked_rate",
    "checked_thresholds",
]

OnCritical = str | Callable[[Violation], object]

OVERFLOWS = ("overwrite", "drop", "block")

_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(k|M|G)i?B\s*")
_EXPONENTS = {"k": 1, "M": 2, "G": 3}

SMALLEST_FILE = 65_536  # bytes
SHORTEST_FILE_NS = 1_000_000


@dataclass(frozen=True, slots=True)
class Rotation:
    """When a new file begins: after `ns`, after `bytes`, or never."""

    ns: int | None = None
    bytes: int | None = None


@dataclass(frozen=True, slots=True)
class OutputSettings:
    """The settings of `Profiler` about frames that leave the ring.

    `keeps` is whether a trace keeps only slow frames and a sample of the others, and `keep_ns` the
    limit in ns, or None for a running p99.
    """

    path: Path | None
    makes_folder: bool
    rotation: Rotation
    keeps: bool
    keep_ns: int | None
    on_critical: OnCritical | None
    freeze_to: Path


def checked_rate(rate: float) -> float:
    """Return a sampling rate."""
    is_number = isinstance(rate, int | float) and not isinstance(rate, bool)
    if not is_number or not 0 <= rate <= 1:
        raise ProfilerError(f"sampling_rate must be a number between 0 and 1, got {quoted(rate)}")
    return float(rate)


def checked_duration(value: Duration | None, name: str) -> int | None:
    """Return a duration above 0 in ns, or None if there is none."""
    ns = None if value is None else parse_duration(value, name=name, error=ProfilerError)
    if ns == 0:
        raise ProfilerError(f"{name} must be above 0, got {quoted(value)}; leave it out for none")
    return ns


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


def checked_outputs(
    path: "str | os.PathLike[str] | None",
    rotate: Duration | None,
    keep: Duration | None,
    on_critical: OnCritical | None,
    freeze_to: "str | os.PathLike[str]",
    thresholds: Thresholds,
) -> OutputSettings:
    """Return the settings about frames that leave the ring."""
    if on_critical is not None:
        if on_critical != "freeze" and not callable(on_critical):
            raise ProfilerError(
                f'on_critical must be "freeze" or a function of a Violation, got '
                f"{quoted(on_critical)}"
            )
        if not thresholds.by_span("critical"):
            raise ProfilerError("on_critical must come with a critical threshold; give critical=")
    where = None if path is None else _checked_path(path)
    return OutputSettings(
        where,
        where is not None and _names_folder(os.fspath(path or "")),
        Rotation() if rotate is None else _checked_rotation(rotate, where),
        keep is not None,
        None
        if keep is None or keep == "slow"
        else parse_duration(keep, name='keep, unless "slow",', error=ProfilerError),
        on_critical,
        Path(_path_text(freeze_to, "freeze_to")),
    )


def checked_overflow(overflow: object) -> str:
    """Return what happens to frames that find the ring full."""
    if not isinstance(overflow, str) or overflow not in OVERFLOWS:
        raise ProfilerError(
            f"overflow must be one of {', '.join(OVERFLOWS)}, got {quoted(overflow)}"
        )
    return overflow


def _path_text(path: "str | os.PathLike[str]", name: str) -> str:
    text = os.fspath(path) if isinstance(path, str | os.PathLike) else None
    if not isinstance(text, str) or not text or "\0" in text:
        raise ProfilerError(f"{name} must be the path of a file or folder, got {quoted(path)}")
    return text


def _names_folder(text: str) -> bool:
    """Return whether a path ends in a separator: the folder is then made if it does not exist."""
    return text.endswith(tuple(filter(None, (os.sep, os.altsep))))


def _checked_path(path: "str | os.PathLike[str]") -> Path:
    """Return the path of trace files: a file in an existing folder, or a folder."""
    text = _path_text(path, "path")
    checked = Path(text)
    if _names_folder(text):
        if checked.exists() and not checked.is_dir():
            raise ProfilerError(
                f"path must not end in {text[-1]} if it is a file, got {escape(text)}"
            )
    elif not checked.is_dir() and not checked.parent.is_dir():
        raise ProfilerError(
            f"path must be in an existing folder, got {escape(text)}; make "
            f"{escape(str(checked.parent))}, or choose another"
        )
    return checked


def _checked_rotation(rotate: Duration, path: Path | None) -> Rotation:
    """Return when a new file begins: ``"1h"`` or ``"64MB"``."""
    if path is None:
        raise ProfilerError(f"rotate must come with a path, got {quoted(rotate)}; give path=")
    size = _SIZE.fullmatch(rotate) if isinstance(rotate, str) else None
    if size is not None:
        base = 1_024 if "i" in size[0] else 1_000
        count = int(Fraction(size[1]) * base ** _EXPONENTS[size[2]])
        if count < SMALLEST_FILE:
            raise ProfilerError(f"rotate must be 66kB or more, got {quoted(rotate)}")
        return Rotation(bytes=count)
    ns = parse_duration(rotate, name="rotate, unless a size like 64MB,", error=ProfilerError)
    if ns < SHORTEST_FILE_NS:
        raise ProfilerError(f"rotate must be 1ms or more, got {quoted(rotate)}")
    return Rotation(ns=ns)
