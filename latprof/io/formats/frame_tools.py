"""Reads logs of tools that measure frames: PresentMon 1 and 2, CapFrameX, MangoHud."""

import csv
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa

from latprof.arrays import Ints
from latprof.errors import TraceError
from latprof.frames import MISSING, Columns, Labels
from latprof.io.formats.columns import SAMPLES
from latprof.io.formats.files import lines_of
from latprof.io.formats.json_values import JsonValues, inside
from latprof.io.formats.logs import Frames, Log, frames_of_lengths, times_of
from latprof.io.paths import StrPath
from latprof.text import counted
from latprof.units import STAMP_LIMIT

__all__ = ["read_capframex", "read_mangohud", "read_presentmon"]

_NOT_DISPLAYED = "not displayed"
_TIMES = {
    "cpustartqpc": "ticks",
    "cpustarttime": "ms",
    "cpustartqpctime": "ms",
    "timeinseconds": "s",
    "timeinqpc": "ticks",
    "timeinms": "ms",
}  # columns with the time of a frame, and their units
_QPC = 10_000_000  # ticks a second of Windows' counter, unless the file shows another rate


def read_presentmon(path: StrPath) -> Frames:
    """Return the frames of PresentMon: CPU, the call of present, and the way to the display.

    Raises
    ------
    TraceError
        The file lacks the columns of its version.
    """
    log = Log.of_csv(path)
    tags = {
        "process_id": log.names("processid"),
        "swap_chain": log.names("swapchainaddress"),
        "present_mode": log.names("presentmode"),
    }
    return _presents(log, log.names("application"), tags)


def _presents(log: Log, source: Labels, tags: dict[str, Labels]) -> Frames:
    """Return the frames (n,) of a table: `columns` has text by name in small letters."""
    busy = log.times("ms", "mscpubusy", "cpubusy")
    in_present = log.times("ms", "msinpresentapi", "mscpuwait", "cpuwait")
    displayed = log.times("ms", "msuntildisplayed")
    from_start = log.times("ms", "displaylatency", "msdisplaylatency")
    newer = bool((busy != MISSING).any())
    start, said = _starts(log, busy)
    dropped = log.names("dropped").equals("1")
    end = from_start
    if (from_start == MISSING).all():
        to_present = busy if newer else np.zeros(log.rows, np.int64)
        known = (displayed != MISSING) & (to_present != MISSING)
        end = np.where(known, to_present + displayed, MISSING)
    gone = dropped | (end == MISSING) | ((displayed == 0) & (from_start == MISSING))
    end = np.where(gone, MISSING, end)
    stages: dict[str, Ints] = {"cpu_busy": busy, "present": in_present} if newer else {}
    if not newer:
        stages = {"present": in_present}
    before = sum(np.where(each == MISSING, 0, each) for each in stages.values())
    stages["display"] = np.where(end == MISSING, MISSING, end - before)
    outcome = Labels(np.where(gone, 0, -1).astype(np.int32), (_NOT_DISPLAYED,))
    return frames_of_lengths(
        "presentmon",
        None if (start == MISSING).all() else start,
        stages,
        end,
        said=[*said, "a frame ends when it is displayed; others are dropped"],
        notes=log.notes,
        tags=tags,
        source=source,
        outcome=outcome if gone.any() else None,
    )


def _starts(log: Log, busy: Ints) -> tuple[Ints, list[str]]:
    """Return when each frame starts, and sentences on the times.

    Names differ between versions: a time is that of the CPU's start, or that of the present.
    """
    known = {name: times for name, times in _TIMES.items() if name in log.columns}
    newer = bool((busy != MISSING).any())
    name = next((n for n in known if n.startswith("cpustart") == newer), next(iter(known), ""))
    if not name:
        return np.full(log.rows, MISSING), ["frames have lengths only, without their times"]
    said = []
    if known[name] == "ticks":
        ticks, rate = log.times("ns", name), _rate(log)
        start = np.where(ticks == MISSING, MISSING, _scaled(ticks, rate))
        said = [f"times are ticks of {rate:,} Hz"]
    else:
        start = log.times(known[name], name)
    if newer and not name.startswith("cpustart"):
        both = (start != MISSING) & (busy != MISSING)
        start = np.where(both, start - np.where(both, busy, 0), MISSING)
    return start, said


def _rate(log: Log) -> int:
    """Return ticks a second, from the ticks and the ms between presents of a swap chain."""
    if "timeinqpc" not in log.columns or "msbetweenpresents" not in log.columns:
        return _QPC
    ticks = times_of(log.columns["timeinqpc"], "ns", Counter())
    between = times_of(log.columns["msbetweenpresents"], "ms", Counter())
    chains = log.names("swapchainaddress").codes
    order = np.argsort(chains, kind="stable")
    ticks, between, chains = ticks[order], between[order], chains[order]
    good = (chains[1:] == chains[:-1]) & (between[1:] > 0) & (np.diff(ticks) > 0)
    if not good.any():
        return _QPC
    rate = float(np.median(np.diff(ticks)[good] / between[1:][good])) * 1e9
    return _QPC if abs(rate / _QPC - 1) < 0.01 else min(max(round(rate / 1_000) * 1_000, 1), 10**9)


def _scaled(ticks: Ints, rate: int) -> Ints:
    """Return ticks in ns; those that would be 2**62 ns or more are missing."""
    whole, rest = np.divmod(ticks, rate)
    fits = np.abs(whole) < STAMP_LIMIT // 10**9
    return np.where(fits, np.where(fits, whole, 0) * 10**9 + rest * 10**9 // rate, MISSING)


def read_capframex(path: StrPath) -> Frames:
    """Return the frames of all runs of a capture of CapFrameX; the run is a tag.

    Raises
    ------
    TraceError
        The file is damaged, or a run lacks the times of its frames.
    """
    runs: list[Frames] = []
    notes: Counter[str] = Counter()
    source = "game"
    for key, value in JsonValues(path, ("Runs",)):
        if key == "Info" and isinstance(value, dict):
            source = str(value.get("ProcessName") or value.get("GameName") or source)[:200]
        data = inside(value, "CaptureData") if key == "Runs" else None
        if not isinstance(data, dict):
            continue
        arrays = {
            name.lower(): pa.array([_text(each) for each in values], pa.string())
            for name, values in data.items()
            if isinstance(values, list)
        }
        rows = len(arrays.get("timeinseconds", ()))
        if not rows:
            raise TraceError(
                "each run must have the times of its frames (TimeInSeconds), got a run without; "
                "capture again"
            )
        log = Log({name: array for name, array in arrays.items() if len(array) == rows})
        run = {"run": Labels.constant(str(len(runs) + 1), rows)}
        runs.append(_presents(log, Labels.constant(source, rows), run))
        notes += log.notes
    if not runs:
        raise TraceError("the capture must have a run with frames, got none")
    columns = Columns.concat([each for _, each, _ in runs])
    columns.frame_id = np.arange(len(columns), dtype=np.uint64)
    pipeline, _, meta = runs[-1]
    meta["reading"][0] = f"{counted(len(columns), 'frame')} of {pipeline.name}"
    meta["accounts"]["notes"] = dict(notes)
    return pipeline, columns, meta


def _text(value: Any) -> str | None:
    if isinstance(value, bool):
        return "1" if value else "0"
    return None if value is None else str(value)[:60]


def read_mangohud(path: StrPath) -> Frames:
    """Return the rows of a log of MangoHud, which are frames or periodic samples of frames.

    Raises
    ------
    TraceError
        The log has no row with a frame time.
    """
    lines = lines_of(path)
    header = next((line for line in lines if line.startswith("fps,frametime,")), "")
    names = [name.strip() for name in header.split(",")]
    rows = [row for row in csv.reader(lines) if row]
    good = [row for row in rows if len(row) == len(names)]
    if not good:
        raise TraceError("the log must have rows of frames, got none")
    columns = zip(*good, strict=True)
    log = Log(
        {name: pa.array(column) for name, column in zip(names, columns, strict=True)},
        len(rows) - len(good),
    )
    fps, ms = times_of(log.columns["fps"], "s", Counter()), log.times("ms", "frametime")
    elapsed = log.times("ns", "elapsed")  # older versions do not have it
    # frames a second times the frame time is 1 s; older versions wrote us in place of ms
    known = (fps > 0) & (ms > 0)
    product = float(np.median(fps[known] / 1e9 * (ms[known] / 1e9))) if known.any() else 1.0
    unit = "us" if product > 30 else "ms"
    length = ms if unit == "ms" else times_of(log.columns["frametime"], "us", Counter())
    start = np.where((elapsed == MISSING) | (length == MISSING), MISSING, elapsed - length)
    said = [f"frame times are taken as {unit}, from the frames a second"]
    steps, timed = np.diff(elapsed), length[length != MISSING]
    typical = float(np.median(timed)) if len(timed) else 0.0
    frames = frames_of_lengths(
        "mangohud",
        start if "elapsed" in names else None,
        {},
        length,
        said=said,
        notes=log.notes,
    )
    if len(steps) and float(np.median(steps)) > 1.5 * typical:
        frames[2]["samples"] = True
        frames[2]["reading"].append(SAMPLES)
    return frames
