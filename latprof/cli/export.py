"""``latprof export``: traces as one table that other tools read."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latprof.cli.options import NewCommand, add_pipeline, check_ending, pipeline_of
from latprof.errors import TraceError
from latprof.text import counted, escape

if TYPE_CHECKING:
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
    from latprof.analysis import trace_paths
    from latprof.trace import read

    check_ending(options.output, (".parquet", ".csv"))
    # a file that is in a folder which is given, too, counts once
    paths = {path.resolve(): path for where in options.trace for path in trace_paths(where)}
    if len(paths) > 1 and Path(options.output).resolve() in paths:
        raise TraceError(
            f"{escape(options.output)} is one of the {len(paths):,} files to be read: write to "
            "another file, or its frames would be twice in the next one"
        )
    pipeline = pipeline_of(options.pipeline)
    trace = _together([read(path, pipeline=pipeline) for path in paths.values()], [*paths.values()])
    if options.output.endswith(".csv"):
        trace.to_csv(options.output)
    else:
        trace.save(options.output)
    of = f" of {len(paths):,} files" if len(paths) > 1 else ""
    print(f"{escape(options.output)}: {counted(len(trace), 'frame')}{of}")


def _together(traces: Sequence["Trace"], paths: Sequence[Path]) -> "Trace":
    """Return the frames of all, the recordings in order of their first start.

    What the new trace says of frames that are not in it is what `latprof.analyze` says of the
    files.
    """
    from latprof.analysis import lowest_start
    from latprof.frames import Columns
    from latprof.trace import Trace, check_alike

    first = traces[0]
    if len(traces) == 1:
        return first
    for trace, path in zip(traces, paths, strict=True):
        names = escape(str(path)), escape(str(paths[0]))
        own, other = (names[0], trace.pipeline), (names[1], first.pipeline)
        check_alike(other, own, "export them apart")
        rates = [float(t.meta.get("sampling_rate") or 1.0) for t in (first, trace)]
        if rates[0] != rates[1]:
            raise TraceError(
                f"{names[0]} was recorded at sampling rate {rates[1]:g} and {names[1]} at "
                f"{rates[0]:g}: export them apart"
            )

    columns = Columns.concat(sorted((trace.columns for trace in traces), key=lowest_start))
    return Trace.of(first.pipeline, columns, _meta(traces))


def _meta(traces: Sequence["Trace"]) -> dict[str, Any]:
    """Return what is true of all recordings, and what they say of other frames, added up."""
    from latprof.profile.profile import Profile

    pipeline, metas = traces[0].pipeline, [trace.meta for trace in traces]
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
