"""Reads logs of tools that measure frames: PresentMon 1 and 2, CapFrameX, MangoHud."""

import csv
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from latprof.arrays import Ints
from latprof.errors import TraceError
from latprof.frames import MISSING, Columns, Labels
from latprof.io.formats.columns import SAMPLES, UNREADABLE
from latprof.io.formats.files import lines_of
from latprof.io.formats.json_values import JsonValues, inside
from latprof.io.formats.made import (
    UNREADABLE_VALUES,
    Frames,
    frames_of_lengths,
    names_of,
    text_columns,
    times_of,
)
from latprof.io.paths import StrPath
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
    columns, skipped = text_columns(path)
    rows = len(next(iter(columns.values())))
    labels = {
        tag: names_of(columns.get(column), rows)
        for tag, column in (
            ("process_id", "processid"),
            ("swap_chain", "swapchainaddress"),
            ("present_mode", "presentmode"),
        )
    }
    frames = _presents(columns, rows, names_of(columns.get("application"), rows), labels)
    if skipped:
        frames[2]["accounts"]["notes"][UNREADABLE] = skipped
    return frames


def _presents(
    columns: Mapping[str, pa.Array], rows: int, source: Labels, tags: dict[str, Labels]
) -> Frames:
    """Return frames of columns in ms, and of their start."""
    bad = 0

    def ms(*names: str) -> Ints:
        """Return the first of these columns that is there, in ns, and count bad values."""
        nonlocal bad
        column = next((columns[name] for name in names if name in columns), None)
        found, wrong = times_of(column, "ms", rows)
        bad += wrong
        return found

    busy, in_present = ms("mscpubusy", "cpubusy"), ms("msinpresentapi", "mscpuwait", "cpuwait")
    displayed, from_start = ms("msuntildisplayed"), ms("displaylatency", "msdisplaylatency")
    newer = bool((busy != MISSING).any())
    start, said, wrong = _starts(columns, rows, busy)
    bad += wrong
    dropped = names_of(columns.get("dropped"), rows).equals("1")
    end = from_start
    if (from_start == MISSING).all():
        to_present = busy if newer else np.zeros(rows, np.int64)
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
        notes={UNREADABLE_VALUES: bad},
        tags=tags,
        source=source,
        outcome=outcome if gone.any() else None,
    )


def _starts(columns: Mapping[str, pa.Array], rows: int, busy: Ints) -> tuple[Ints, list[str], int]:
    """Return when each frame starts, sentences on the times, and how many are unreadable.

    Names differ between versions: a time is that of the CPU's start, or that of the present.
    """
    known = {name: times for name, times in _TIMES.items() if name in columns}
    newer = bool((busy != MISSING).any())
    name = next((n for n in known if n.startswith("cpustart") == newer), next(iter(known), ""))
    if not name:
        return np.full(rows, MISSING), ["frames have lengths only, without their times"], 0
    if known[name] == "ticks":
        ticks, wrong = times_of(columns[name], "ns", rows)
        rate = _rate(columns, rows)
        start = np.where(ticks == MISSING, MISSING, _scaled(ticks, rate))
        said = [f"times are ticks of {rate:,} Hz"]
    else:
        start, wrong = times_of(columns[name], known[name], rows)
        said = []
    if newer and not name.startswith("cpustart"):
        both = (start != MISSING) & (busy != MISSING)
        start = np.where(both, start - np.where(both, busy, 0), MISSING)
    return start, said, wrong


def _rate(columns: Mapping[str, pa.Array], rows: int) -> int:
    """Return ticks a second: their number between two presents of a swap chain, in ms."""
    if "timeinqpc" not in columns or "msbetweenpresents" not in columns:
        return _QPC
    ticks, _ = times_of(columns["timeinqpc"], "ns", rows)
    between, _ = times_of(columns["msbetweenpresents"], "ms", rows)
    chains = names_of(columns.get("swapchainaddress"), rows).codes
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
    parts: list[Columns] = []
    first: Frames | None = None
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
        whole = {name: array for name, array in arrays.items() if len(array) == rows}
        if not rows:
            raise TraceError("each run must have the times of its frames (TimeInSeconds)")
        run = {"run": Labels.constant(str(len(parts) + 1), rows)}
        first = _presents(whole, rows, Labels.constant(source, rows), run)
        parts.append(first[1])
    if first is None:
        raise TraceError("the capture must have a run with frames, got none")
    columns = Columns.concat(parts)
    columns.frame_id = np.arange(len(columns), dtype=np.uint64)
    return first[0], columns, first[2]


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
    fps, _ = times_of(pa.array([row[0] for row in good]), "s", len(good))
    raw = pa.array([row[1] for row in good])
    ms, bad = times_of(raw, "ms", len(good))
    elapsed, wrong = np.full(len(good), MISSING), 0
    if "elapsed" in names:  # older versions do not have it
        place = names.index("elapsed")
        elapsed, wrong = times_of(pa.array([row[place] for row in good]), "ns", len(good))
    # frames a second times the frame time is 1 s; older versions wrote us in place of ms
    known = (fps > 0) & (ms > 0)
    product = float(np.median(fps[known] / 1e9 * (ms[known] / 1e9))) if known.any() else 1.0
    unit = "us" if product > 30 else "ms"
    length = ms if unit == "ms" else times_of(raw, "us", len(good))[0]
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
        notes={UNREADABLE_VALUES: bad + wrong, UNREADABLE: len(rows) - len(good)},
    )
    if len(steps) and float(np.median(steps)) > 1.5 * typical:
        frames[2]["samples"] = True
        frames[2]["reading"].append(SAMPLES)
    return frames
