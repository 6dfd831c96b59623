"""``latprof export``, ``recover``, ``compact``, ``merge``: files out of traces, rings, profiles."""

import argparse
import os
from collections.abc import Iterator, Sequence
from typing import Any

from latprof.accounts import REPEATED
from latprof.analysis import analyze
from latprof.cli.common import (
    NewCommand,
    add_pipeline,
    add_traces,
    pipeline_of,
    progress,
    recordings_of,
)
from latprof.cli.output import check_ending, print_sections
from latprof.errors import LatprofError, TraceError
from latprof.export import chrome, perfetto
from latprof.frames import Columns
from latprof.io.compact import compact
from latprof.io.dataset import Dataset
from latprof.io.formats.foreign import ForeignFile
from latprof.io.member import Member, lowest_start
from latprof.io.paths import identity, is_file
from latprof.pipeline import Pipeline
from latprof.profile.file import is_profile, saved_profiles
from latprof.profile.load import load_profile
from latprof.profile.merging import merge_named
from latprof.profile.notes import RecordingNotes
from latprof.profile.profile import Profile
from latprof.recovery import last_moments, recover
from latprof.text import counted, shown_path
from latprof.trace import Trace
from latprof.units import format_bytes

__all__ = ["add"]

_TABLES = (".parquet", ".csv")
_OF_ONE_FILE = ("accounts", "created", "in_flight", "join", "part", "recovery")
_ADDED_UP = ("in_flight", "rejected", "sampled_out", "torn", "notes")


def add(command: NewCommand) -> None:
    """Declare the commands."""
    export = command(
        "export", "write traces as one Parquet or CSV file", "export mic.parquet -o mic.csv"
    )
    add_traces(export)
    export.add_argument(
        "-o",
        "--output",
        required=True,
        help="trace file: .parquet or .csv; or for viewers: .pftrace or .perfetto-trace, .json "
        "(Chrome trace events)",
    )
    export.add_argument(
        "--worst",
        type=int,
        default=50,
        metavar="N",
        help="how many of the slowest frames a file for viewers has (default: 50)",
    )
    export.set_defaults(run=_export)

    rescue = command(
        "recover",
        "show or save the frames of a ring file; its process may be alive or dead",
        "recover /dev/shm/mic.ring -o crash.parquet",
    )
    rescue.add_argument("ring", help="the file that Profiler(ring=...) was given")
    rescue.description = (
        f"{rescue.description} Without -o, print the frames in flight, the last ten frames and the "
        "last ten above a threshold of the profiler."
    )
    rescue.add_argument("-o", "--output", help="new trace file: .parquet or .csv")
    rescue.set_defaults(run=_recover)

    small = command(
        "compact",
        "write many trace files as few, with the same report",
        "compact traces/ -o compacted/",
    )
    small.add_argument("trace", nargs="+", help="trace files, folders, globs or URLs")
    small.add_argument("-o", "--output", required=True, help="new folder, or its URL")
    small.set_defaults(run=_compact)

    merge = command(
        "merge",
        "combine traces and saved profiles into one saved profile",
        "merge a.latprof b.latprof -o c.latprof",
    )
    merge.add_argument("part", nargs="+", help="saved profiles, trace files, folders or globs")
    add_pipeline(merge)
    merge.add_argument("-o", "--output", required=True, help="profile file, for example .latprof")
    merge.set_defaults(run=_merge)


def _save(trace: Trace, output: str) -> None:
    if output.endswith(".csv"):
        trace.to_csv(output)
    else:
        trace.save(output)


def _recover(options: argparse.Namespace) -> None:
    """Show the last moments, or save the frames and print how many rows there were."""
    output = options.output
    if output is None:
        print_sections(last_moments(options.ring))
        return
    check_ending(output, _TABLES)
    if os.path.lexists(output):
        # perhaps of an earlier crash
        raise LatprofError(
            f"output must be a new file, got {shown_path(output)}, which exists; choose another "
            "name or remove the file"
        )
    trace = recover(options.ring)
    _save(trace, output)
    lost = trace.meta["lost"]
    text = f"; {counted(lost, 'frame')} overwritten, or claimed and never begun" if lost else ""
    text += f"; {counted(len(trace.in_flight), 'frame')} in flight" if trace.in_flight else ""
    print(f"{shown_path(options.ring)}: {trace.recovery}{text}")


def _merge(options: argparse.Namespace) -> None:
    """Analyze the traces, merge all profiles, and print how many frames were merged."""
    output, name = options.output, shown_path(options.output)
    if output.endswith(_TABLES):
        raise LatprofError(f"{name} would be a profile, not a table; end it in .latprof")
    if is_file(output) and not is_profile(output):  # a profile may grow in place
        raise LatprofError(f"{name} exists and is not a saved profile; choose another output")
    pipeline = pipeline_of(options.pipeline)
    paths = [path for part in options.part for path in saved_profiles(part) or [part]]
    merged = merge_named(_profiles(options, paths, pipeline))
    assert merged is not None  # a path without frames is an error
    merged.save(output)
    repeated = merged.accounts.notes.get(REPEATED, 0)
    again = f"; {counted(repeated, 'part')} given more than once, which count again"
    found = f"{counted(merged.frames, 'frame')} of {counted(len(paths), 'part')}"
    print(f"{name}: {found}{again if repeated else ''}")


def _profiles(
    options: argparse.Namespace, paths: Sequence[str | os.PathLike[str]], pipeline: Pipeline | None
) -> Iterator[tuple[str, Profile]]:
    """Yield the name and the profile of each part; traces are analyzed as saved profiles were."""
    saved = [is_profile(path) for path in paths]
    like = None
    if any(saved) and not all(saved):
        like = load_profile(recordings_of(options, [os.fspath(paths[saved.index(True)])])[0])
    for path, is_saved in zip(paths, saved, strict=True):
        recordings, name = recordings_of(options, [os.fspath(path)]), shown_path(path)
        if is_saved:
            yield name, load_profile(recordings[0])
            continue
        settings = {"causes": None} if like is None else _settings(like, recordings, pipeline)
        with progress() as report:
            yield name, analyze(recordings, pipeline=pipeline, progress=report, **settings)


def _settings(
    like: Profile, recordings: Sequence[str | ForeignFile], pipeline: Pipeline | None
) -> dict[str, Any]:
    """Return the arguments of `analyze` that give a profile which merges with `like`."""
    settings = like.settings
    if "due" in like.pipeline.marks:
        settings["intended"] = "due" not in Dataset(recordings, pipeline=pipeline).pipeline.marks
    return settings


def _compact(options: argparse.Namespace) -> None:
    """Write the folder, and print how many files it has."""
    with progress() as report:
        made = compact(options.trace, options.output, progress=report)
    done = "is already made of" if made.repeated else "has the"
    print(
        f"{shown_path(options.output)} {done} {counted(made.rows, 'frame')} of "
        f"{counted(made.before, 'file')}: {counted(made.after, 'file')}, "
        f"{format_bytes(made.before_bytes)} before, {format_bytes(made.after_bytes)} now"
    )


def _export(options: argparse.Namespace) -> None:
    """Write all traces as one, and print how many frames it has."""
    check_ending(options.output, (*_TABLES, ".json", *perfetto.ENDINGS))
    if options.worst < 1:
        raise LatprofError(f"--worst must be 1 or more, got {options.worst}")
    # a file that is given twice, for example in a folder and by name, is read once
    pipeline = pipeline_of(options.pipeline)
    dataset = Dataset(recordings_of(options), pipeline=pipeline, unique=True)
    paths, name = dataset.paths, shown_path(options.output)
    if len(paths) > 1 and identity(options.output) in map(identity, paths):
        raise TraceError(
            f"{name} must not be one of the {len(paths):,} files to be read, "
            "or the next export would contain its frames twice; choose another output"
        )
    _check_rates(dataset.members)
    read = sorted((recording.read() for recording in dataset.members), key=lowest_start)
    columns = read[0] if len(read) == 1 else Columns.concat(read)
    meta = dataset.members[0].meta if len(read) == 1 else _meta(dataset)
    trace = Trace.of(dataset.pipeline, columns, meta)
    if not options.output.endswith(_TABLES):
        save = chrome.save if options.output.endswith(".json") else perfetto.save
        drawing = save(trace, options.output, worst=options.worst)
        drawn = counted(len(drawing.frames), "slowest frame")
        why = f"; frames in flight are not counted, as {drawing.note}" if drawing.note else ""
        print(f"{name}: the {drawn} of {len(trace):,}{why}")
        return
    _save(trace, options.output)
    files = f" of {len(paths):,} files" if len(paths) > 1 else ""
    print(f"{name}: {counted(len(trace), 'frame')}{files}")


def _check_rates(recordings: Sequence[Member]) -> None:
    """Refuse files with different sampling rates."""
    first, *others = recordings
    expected = float(first.meta.get("sampling_rate") or 1.0)
    for other in others:
        rate = float(other.meta.get("sampling_rate") or 1.0)
        if rate != expected:
            raise TraceError(
                f"files must have one sampling rate: {other.name} was recorded at {rate:g} and "
                f"{first.name} at {expected:g}; export them separately"
            )


def _meta(dataset: Dataset) -> dict[str, Any]:
    """Return the metadata that all files share, and the sums of their counts, as in `analyze`."""
    pipeline, metas = dataset.pipeline, [recording.meta for recording in dataset.members]
    meta = {
        key: value
        for key, value in metas[0].items()
        if key not in _OF_ONE_FILE and all(other.get(key) == value for other in metas)
    }
    if all(other.get("owns") for other in metas):
        owned = {mark for other in metas for mark in other["owns"]}
        meta["owns"] = [mark for mark in pipeline.marks if mark in owned]
    if meta.get("clock_offset_ns") is not None:
        anchors = {(a, b) for other in metas for a, b in other.get("anchors") or ()}
        meta["anchors"] = sorted([a, b] for a, b in anchors)
    dropped = [other.get("dropped_columns") or {} for other in metas]
    if any(dropped):
        meta["dropped_columns"] = {key: why for each in dropped for key, why in each.items()}
    combined = RecordingNotes()
    for other in metas:
        combined.note(other)
    if not combined.undeclared:
        meta["segments"] = sorted([a, b] for a, b in combined.segments)
    if combined.stamp_ns:
        meta["stamp_ns"] = combined.stamp_ns
    meta["lost"] = combined.accounts.lost
    counts = combined.accounts.to_dict()
    accounts = {name: counts[name] for name in _ADDED_UP if counts[name]}
    return meta | ({"accounts": accounts} if accounts else {})
