"""``latprof export``: traces as one table that other tools read."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from latprof.cli.common import NewCommand, add_pipeline, check_ending, pipeline_of
from latprof.errors import TraceError
from latprof.frames import Columns
from latprof.io.dataset import Dataset, Recording, lowest_start
from latprof.profile.profile import Profile
from latprof.text import counted, shown_path
from latprof.trace import Trace

__all__ = ["add", "run"]

_OF_ONE_FILE = ("accounts", "created", "join", "part", "recovery")


def add(command: NewCommand) -> None:
    """Declare the command."""
    export = command("export", "write traces as Parquet or CSV", "export mic.parquet -o mic.csv")
    export.add_argument("trace", nargs="+", help="trace files, folders or globs, written as one")
    add_pipeline(export)
    export.add_argument("-o", "--output", required=True, help="file: .parquet or .csv")
    export.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Read and write; say what was written."""
    check_ending(options.output, (".parquet", ".csv"))
    # a file that is given twice, for example in a folder and by name, is read once
    dataset = Dataset(options.trace, pipeline=pipeline_of(options.pipeline), unique=True)
    paths = dataset.paths
    if len(paths) > 1 and Path(options.output).resolve() in [path.resolve() for path in paths]:
        raise TraceError(
            f"{shown_path(options.output)} must not be one of the {len(paths):,} files to be read, "
            "or the next export would contain its frames twice; choose another output"
        )
    _check_rates(dataset.recordings)
    read = sorted((recording.read() for recording in dataset.recordings), key=lowest_start)
    columns = read[0] if len(read) == 1 else Columns.concat(read)
    meta = dataset.recordings[0].meta if len(read) == 1 else _meta(dataset)
    trace = Trace.of(dataset.pipeline, columns, meta)
    if options.output.endswith(".csv"):
        trace.to_csv(options.output)
    else:
        trace.save(options.output)
    of = f" of {len(paths):,} files" if len(paths) > 1 else ""
    print(f"{shown_path(options.output)}: {counted(len(trace), 'frame')}{of}")


def _check_rates(recordings: Sequence[Recording]) -> None:
    """Refuse files whose rows represent different numbers of frames."""
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
    """Return the metadata that all files share; what they count is added up as `analyze` does."""
    pipeline, metas = dataset.pipeline, [recording.meta for recording in dataset.recordings]
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
    whole = Profile(pipeline)
    for other in metas:
        whole.note(other)
    if not whole.undeclared:
        meta["segments"] = sorted([a, b] for a, b in whole.segments)
    if whole.stamp_ns:
        meta["stamp_ns"] = whole.stamp_ns
    meta["lost"] = whole.accounts.lost
    told = ("in_flight", "rejected", "sampled_out", "torn", "notes")
    accounts = {name: n for name, n in whole.accounts.to_dict().items() if n and name in told}
    return meta | ({"accounts": accounts} if accounts else {})
