"""Writes many small trace files into few, with the same contents: ``latprof compact``."""

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from latprof.errors import TraceError
from latprof.frames import Columns, Labels
from latprof.io.atomic import file_errors, open_folder, write_file
from latprof.io.dataset import Dataset, DatasetLike
from latprof.io.member import Member
from latprof.io.paths import is_url, local_path, size_of
from latprof.io.several import meta_of
from latprof.text import shown_path

__all__ = ["CONTENTS", "MOST_RECORDINGS", "Compaction", "compact"]

CONTENTS = "compacted.json"
"""The file of the new folder that lists the files it was made of."""

MOST_RECORDINGS = 256
"""Recordings in a file: each takes about a kilobyte of metadata, which is read as a whole."""

_MOST_ROWS = 1 << 24  # rows of a file after which another one begins


@dataclass(frozen=True, slots=True)
class Compaction:
    """What `compact` made.

    Attributes
    ----------
    rows
        Frames in all files.
    before, after
        How many files there were and are.
    before_bytes, after_bytes
        Their sizes together.
    repeated
        Whether the folder was already made from the same files, and nothing was written.
    """

    rows: int
    before: int
    after: int
    before_bytes: int
    after_bytes: int
    repeated: bool = False


def compact(
    recordings: DatasetLike,
    folder: str | os.PathLike[str],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Compaction:
    """Write the frames of many trace files into few, with row groups of 2**18 rows.

    The new files have the metadata and the accounts of each recording, and `Dataset` gives each of
    them by itself: a report of the new folder is that of the old files. Recordings are in order of
    their first frame. The folder appears complete or not at all; a second call with the same files
    changes nothing.

    Parameters
    ----------
    recordings
        Files, folders or globs, also URLs. A file that is given twice is read once.
    folder
        Of the new files; it must not exist, or be empty.
    progress
        Called with (rows written, rows in all).

    Raises
    ------
    TraceError
        The folder has other files, is within the old ones or cannot be written; a file is damaged,
        or of another pipeline.
    """
    if is_url(folder):
        raise TraceError(
            f"{shown_path(folder)}: the new folder must be local, as a store cannot rename it when "
            "it is complete; copy it there afterwards"
        )
    output = Path(os.path.realpath(local_path(folder)))
    given = _listed(recordings)
    dataset = Dataset(given, unique=True)
    files = dataset.paths
    if not all(member.path for member in dataset.members):
        raise TraceError("recordings must be files, got a trace; save it first")
    _check_apart(output, given, files)
    names: list[list[Any]] = [[shown_path(path), size_of(path)] for path in files]
    with file_errors(folder, "cannot be written"):
        repeated = _is_done(output, names)
        if not repeated:
            dataset.sort()
            with _new_folder(output) as new:
                _write(dataset, new, progress)
                with write_file(new / CONTENTS) as file:
                    file.write(json.dumps({"files": names}, indent=1).encode())
        sizes = [path.stat().st_size for path in output.glob("*.parquet")]
    before = sum(size for _, size in names)
    return Compaction(dataset.rows, len(files), len(sizes), before, sum(sizes), repeated)


# -- the folder -----------------------------------------------------------------------------------


def _listed(recordings: Any) -> list[Any]:
    one = isinstance(recordings, str | os.PathLike) or not isinstance(recordings, Iterable)
    return [recordings] if one else list(recordings)


def _check_apart(output: Path, given: Sequence[Any], files: Sequence[Path | str]) -> None:
    """Refuse a new folder among the old files, or around them: frames would count twice."""
    old = [each for each in given if isinstance(each, str | os.PathLike) and os.path.isdir(each)]
    inside = [each for each in old if output.is_relative_to(os.path.realpath(each))]
    here = [Path(os.path.realpath(path)) for path in files if isinstance(path, Path)]
    if inside or any(path.is_relative_to(output) for path in here):
        raise TraceError(
            f"{shown_path(output)}: the new folder must not contain the old files, nor be among "
            "them; choose another"
        )


def _is_done(output: Path, names: list[list[Any]]) -> bool:
    """Return whether the folder was made from these files; refuse one with other files."""
    if not output.is_dir() or not any(output.iterdir()):
        return False
    with contextlib.suppress(OSError, ValueError):
        content = json.loads((output / CONTENTS).read_bytes())
        if isinstance(content, dict) and content.get("files") == names:
            return True
    raise TraceError(
        f"{shown_path(output)}: the new folder must be new or empty, or hold these same files "
        "compacted, got one with other files; choose another name, or remove it"
    )


@contextlib.contextmanager
def _new_folder(output: Path) -> Iterator[Path]:
    """Give a hidden folder that takes its name when it is complete.

    A lock, which ends with the process, keeps other processes out; files that a killed process has
    left are removed.
    """
    import fcntl  # not on Windows

    new = output.parent / f".{output.name}.compacting"
    new.mkdir(parents=True, exist_ok=True)
    with open_folder(new) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TraceError("another process is writing this folder; wait for it") from None
        for old in new.iterdir():
            old.unlink()
        try:
            yield new
            os.rename(new, output)  # which fails if a folder with files has appeared meanwhile
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise
        with open_folder(output.parent) as parent:
            os.fsync(parent)


# -- the files ------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Open:
    """A file that is being written, and the recordings in it."""

    writer: Any
    recordings: list[tuple[int, int, dict[str, Any]]] = field(default_factory=list)

    def close(self, row_group: int) -> None:
        self.writer.meta = meta_of(self.recordings, row_group)
        self.writer.close()


def _write(dataset: Dataset, folder: Path, progress: Callable[[int, int], None] | None) -> None:
    """Write all recordings; those with the same columns share files."""
    from latprof.io import writer  # loads pyarrow

    written: dict[tuple[str, ...], _Open] = {}
    numbers = iter(range(1, 10**6))
    done = 0

    def opened(member: Member) -> _Open:
        path = folder / f"{dataset.pipeline.name}-{next(numbers):05d}.parquet"
        return _Open(writer.Writer(path, dataset.pipeline, member.meta, row_group=writer.ROW_GROUP))

    try:
        for member in dataset.members:
            start = member.lowest_start(first_batch=True)
            large = member.rows > writer.ROW_GROUP
            batches: Iterable[Columns] = member.batches() if large else [member.read()]
            file: _Open | None = None
            for columns in batches:
                if file is None:
                    kind = ("alone", str(next(numbers))) if large else _kind(columns)
                    file = written.get(kind) or written.setdefault(kind, opened(member))
                file.writer.write(columns)
                done += len(columns)
            if file is None:  # a large file always has a batch
                continue
            file.recordings.append((member.rows, start, member.meta))
            if progress is not None:
                progress(done, dataset.rows)
            full = len(file.recordings) >= MOST_RECORDINGS or file.writer.rows >= _MOST_ROWS
            if large or full:
                written.pop(kind).close(writer.ROW_GROUP)
        for file in written.values():
            file.close(writer.ROW_GROUP)
        written.clear()
    finally:
        for file in written.values():
            file.writer.discard()


def _kind(columns: Columns) -> tuple[str, ...]:
    """Return the names and types of the columns: those of a file must not change."""
    return tuple(
        f"{name} {'text' if isinstance(column, Labels) else column.dtype}"
        for name, column in (columns.optional | columns.tags).items()
    )
