"""The settings of a profiler: invalid ones are refused, never replaced."""

import logging
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from latprof.errors import ProfilerError, TraceError
from latprof.io.paths import is_url
from latprof.io.remote import check_url
from latprof.pipeline import Pipeline
from latprof.recorder.alerts import Violation
from latprof.text import escape, quoted
from latprof.thresholds import LEVELS, Duration, Thresholds, parse_thresholds
from latprof.units import parse_duration

__all__ = ["OnCritical", "PathLike", "Rotation", "Settings", "check_settings", "ends_in_separator"]

OnCritical = str | Callable[[Violation], object]
PathLike = str | os.PathLike[str]

OVERFLOWS = ("overwrite", "drop", "block")

_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(k|M|G)i?B\s*")
_EXPONENTS = {"k": 1, "M": 2, "G": 3}

MOST_SOURCES = 1_000  # each takes up to some 100 kB, and a saved profile has at most 1,000 groups

MOST_META = 32  # values
LONGEST_META = 4_096  # characters of all names and values together

SMALLEST_FILE = 65_536  # bytes, of `rotate`
SHORTEST_FILE_NS = 1_000_000  # of `rotate`


@dataclass(frozen=True, slots=True)
class Rotation:
    """When a new file begins: after `ns`, after `bytes`, or never."""

    ns: int | None = None
    bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """The checked settings of a `Profiler`, under the names of its arguments.

    Durations are in ns, and thresholds in ns by span, so that two ways to write a setting are
    equal. `owns` is None if all marks are owned; `keep` is ``"slow"``, a limit in ns, or None.
    `capacity`, `ring`, `keep_previous` and `tags` are not checked here, but by the ring.
    """

    pipeline: Pipeline
    capacity: int
    sampling_rate: float
    warning: dict[str, int]
    critical: dict[str, int]
    owns: tuple[str, ...] | None
    clock: Callable[[], int]
    report_interval: int | None
    overflow: str
    path: str | None
    rotate: Rotation
    upload_to: str | None
    on_critical: OnCritical | None
    freeze_to: Path
    keep: str | int | None
    max_sources: int
    logger: logging.Logger
    ring: PathLike | None
    keep_previous: int
    tags: tuple[str, ...]
    track_current: bool
    meta: dict[str, str | int | float]

    @property
    def owned(self) -> tuple[str, ...]:
        """The marks that this process stamps, in the pipeline's order."""
        return self.owns or self.pipeline.marks


def check_settings(pipeline: Pipeline, **given: Any) -> Settings:
    """Check the arguments of `Profiler`, and return them in the form of `Settings`.

    Raises
    ------
    ProfilerError
        A setting is invalid.
    PipelineError
        `owns` contains a name that is not a mark of the pipeline.
    """
    if not isinstance(pipeline, Pipeline):
        raise ProfilerError(
            f"pipeline must be a Pipeline (for example latprof.AUDIO), got {quoted(pipeline)}"
        )
    logger, rate, overflow = given["logger"], given["sampling_rate"], given["overflow"]
    if logger is not None and not hasattr(logger, "log"):
        raise ProfilerError(f"logger must be a logging.Logger, got {quoted(logger)}")
    is_number = isinstance(rate, int | float) and not isinstance(rate, bool)
    if not is_number or not 0 <= rate <= 1:
        raise ProfilerError(f"sampling_rate must be a number between 0 and 1, got {quoted(rate)}")
    owned = pipeline.check_owned(given["owns"])
    thresholds = _checked_thresholds(given["warning"], given["critical"], pipeline, owned)
    _check_on_critical(given["on_critical"], thresholds)
    path, rotate, keep = given["path"], given["rotate"], given["keep"]
    if path is not None:
        path = _checked_path(path)
    ring = given["ring"]
    if isinstance(ring, str | os.PathLike):
        ring = _with_pid(os.fspath(ring))
    if keep is not None and keep != "slow":
        keep = parse_duration(keep, name='keep, unless "slow",', error=ProfilerError)
    interval = given["report_interval"]
    if interval is not None:
        interval = parse_duration(interval, name="report_interval", error=ProfilerError)
        if interval == 0:
            got = quoted(given["report_interval"])
            raise ProfilerError(
                f"report_interval must be above 0, got {got}; leave it out for none"
            )
    most = given["max_sources"]
    if type(most) is not int or not 1 <= most <= MOST_SOURCES:
        raise ProfilerError(
            f"max_sources must be an integer from 1 to {MOST_SOURCES:,}, got {quoted(most)}; "
            "further sources are counted together"
        )
    if not isinstance(overflow, str) or overflow not in OVERFLOWS:
        raise ProfilerError(
            f"overflow must be one of {', '.join(OVERFLOWS)}, got {quoted(overflow)}"
        )
    return Settings(
        pipeline,
        **given
        | {level: thresholds.by_span(level) for level in LEVELS}
        | {
            "owns": None if owned == pipeline.marks else owned,
            "report_interval": interval,
            "path": path,
            "rotate": Rotation() if rotate is None else _checked_rotation(rotate, path),
            "upload_to": _checked_upload(given["upload_to"], path),
            "freeze_to": Path(_path_text(given["freeze_to"], "freeze_to")),
            "keep": keep,
            "logger": logging.getLogger("latprof") if logger is None else logger,
            "ring": ring,
            "meta": _checked_meta(given["meta"]),
            "tags": tuple(given["tags"]) if isinstance(given["tags"], list) else given["tags"],
        },
    )


def _check_on_critical(on_critical: object, thresholds: Thresholds) -> None:
    if on_critical is None:
        return
    if on_critical != "freeze" and not callable(on_critical):
        raise ProfilerError(
            f'on_critical must be "freeze" or a function of a Violation, got {quoted(on_critical)}'
        )
    if not thresholds.by_span("critical"):
        raise ProfilerError("on_critical must come with a critical threshold; give critical=")


def ends_in_separator(path: str) -> bool:
    """Return whether a path is that of a folder, which is made if it does not exist."""
    return path.endswith(tuple(filter(None, (os.sep, os.altsep))))


def _checked_thresholds(
    warning: Duration | Mapping[str, Duration] | None,
    critical: Duration | Mapping[str, Duration] | None,
    pipeline: Pipeline,
    owns: tuple[str, ...],
) -> Thresholds:
    """Return the thresholds; they must be of spans between marks that this process owns."""
    spans = {span.name: span for span in pipeline.all_spans}
    for level, given in zip(LEVELS, (warning, critical), strict=True):
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


def _path_text(path: PathLike, name: str) -> str:
    text = os.fspath(path) if isinstance(path, str | os.PathLike) else None
    if not isinstance(text, str) or not text or "\0" in text:
        raise ProfilerError(
            f"{name} must be a non-empty path without null bytes, got {quoted(path)}"
        )
    return text


def _with_pid(path: str) -> str:
    """Return a path in which ``{pid}`` is replaced by the id of this process."""
    return path.replace("{pid}", str(os.getpid())) if isinstance(path, str) else path


def _checked_path(path: PathLike) -> str:
    """Return the path of trace files: a file in an existing folder, or a folder."""
    text = _with_pid(_path_text(path, "path"))
    checked = Path(text)
    if ends_in_separator(text):
        if checked.exists() and not checked.is_dir():
            raise ProfilerError(
                f"path must not end in {text[-1]} if it is a file, got {escape(text)}; remove the "
                f"{text[-1]}"
            )
    elif not checked.is_dir() and not checked.parent.is_dir():
        raise ProfilerError(
            f"path must be in an existing folder, got {escape(text)}; create the folder "
            f"{quoted(str(checked.parent))}, or choose another"
        )
    return text


def _checked_rotation(rotate: Duration, path: str | None) -> Rotation:
    """Return when a new file begins: ``"1h"`` or ``"64MB"``."""
    if path is None:
        raise ProfilerError(f"rotate must come with a path, got {quoted(rotate)}; give path=")
    size = _SIZE.fullmatch(rotate) if isinstance(rotate, str) else None
    if size is not None:
        base = 1_024 if "i" in size[0] else 1_000
        count = int(Fraction(size[1]) * base ** _EXPONENTS[size[2]])
        if count < SMALLEST_FILE:
            raise ProfilerError(
                f"rotate must be 64KiB (65,536 bytes) or more, got {quoted(rotate)}; use a larger "
                "size"
            )
        return Rotation(bytes=count)
    ns = parse_duration(rotate, name="rotate, unless a size like 64MB,", error=ProfilerError)
    if ns < SHORTEST_FILE_NS:
        raise ProfilerError(f"rotate must be 1ms or more, got {quoted(rotate)}")
    return Rotation(ns=ns)


def _checked_upload(url: PathLike | None, path: str | None) -> str | None:
    """Return the URL of the folder to which closed files are sent."""
    if url is None:
        return None
    text = _with_pid(_path_text(url, "upload_to"))
    if not is_url(text) or not text.partition("?")[0].endswith("/"):
        raise ProfilerError(
            "upload_to must be the URL of a folder, such as 's3://bucket/traces/', got "
            f"{quoted(text)}"
        )
    if path is None:
        raise ProfilerError(
            f"upload_to must come with a path, got {quoted(text)}; give path=, where files wait"
        )
    try:
        check_url(text)
    except TraceError as error:
        raise ProfilerError(f"upload_to {error}") from None
    return text


def _checked_meta(meta: Any) -> dict[str, str | int | float]:
    """Return the texts and numbers by name that describe the run."""
    rule = "meta must be a dict of texts and numbers, such as {'run': 17, 'commit': 'abc'}"
    if meta is None:
        return {}
    if not isinstance(meta, Mapping):
        raise ProfilerError(f"{rule}, got {quoted(meta)}")
    for name, value in meta.items():
        number = isinstance(value, int | float) and math.isfinite(value)
        if not isinstance(name, str) or not (isinstance(value, str) or number):
            raise ProfilerError(f"{rule}, got {quoted(value)} for {quoted(name)}")
    if len(meta) > MOST_META or len(str(dict(meta))) > LONGEST_META:
        raise ProfilerError(
            f"meta must have at most {MOST_META} values of {LONGEST_META:,} characters in all, got "
            f"{len(meta):,} values; leave some out"
        )
    return dict(meta)
