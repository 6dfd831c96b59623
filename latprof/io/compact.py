"""Writes many small trace files into few, with the same contents: ``latprof compact``."""

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from latprof.errors import TraceError
from latprof.frames import Columns, Labels
from latprof.io.atomic import file_errors, open_folder, write_file
from latprof.io.dataset import Dataset, DatasetLike
from latprof.io.find import UNFINISHED, sizes_in
from latprof.io.member import Member
from latprof.io.paths import StrPath, is_url, local_path, open_binary, size_of
from latprof.io.remote import remove
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
    """The result of `compact`.

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
    changes nothing. Behind a URL, a file is sent when it is complete, and latprof refuses to read
    the folder until all of them are there; only one process may write it.

    Parameters
    ----------
    recordings
        Files, folders or globs, also URLs. A file that is given twice is read once.
    folder
        Of the new files, or its URL; it must not exist, or be empty.
    progress
        Called with (rows written, rows in all).

    Raises
    ------
    TraceError
        The folder has other files, is within the old ones or cannot be written; a file is damaged,
        or of another pipeline.
    """
    given = _listed(recordings)
    dataset = Dataset(given, unique=True)
    files = dataset.paths
    if not all(member.path for member in dataset.members):
        raise TraceError("recordings must be files, got a trace; save it first")
    names: list[list[Any]] = [[shown_path(path), size_of(path)] for path in files]
    output = _InStore(folder) if is_url(folder) else _Local(Path(local_path(folder)))
    output.check_apart(given, files)
    with file_errors(folder, "cannot be written"):
        repeated = output.is_done(names)
        if not repeated:
            dataset.sort()
            with output.new(names) as path_of:
                _write(dataset, path_of, progress)
                with write_file(path_of(CONTENTS)) as file:
                    file.write(_contents(names))
        sizes = output.sizes()
    before = sum(size for _, size in names)
    return Compaction(dataset.rows, len(files), len(sizes), before, sum(sizes), repeated)


def _listed(recordings: Any) -> list[Any]:
    one = isinstance(recordings, str | os.PathLike) or not isinstance(recordings, Iterable)
    return [recordings] if one else list(recordings)


def _contents(names: list[list[Any]]) -> bytes:
    return json.dumps({"files": names}, indent=1).encode()


def _is_of(contents: bytes, names: list[list[Any]]) -> bool:
    """Return whether a folder with these `CONTENTS` is made of these files."""
    with contextlib.suppress(ValueError):
        found = json.loads(contents)
        return isinstance(found, dict) and found.get("files") == names
    return False


# -- the folder -----------------------------------------------------------------------------------

PathOf = Callable[[str], StrPath]
"""Returns the path of a new file by its name."""


def _apart(name: str, apart: bool) -> None:
    """Refuse a new folder among the old files, or around them: frames would count twice."""
    if not apart:
        raise TraceError(
            f"{name}: the new folder must not contain the old files, nor be among them; choose "
            "another"
        )


def _other_files(name: str) -> TraceError:
    return TraceError(
        f"{name}: the new folder must be new or empty, or hold these same files compacted, got one "
        "with other files; choose another name, or remove it"
    )


class _Local:
    """A folder of this machine, which takes its name when it is complete."""

    def __init__(self, path: Path) -> None:
        self._path = Path(os.path.realpath(path))

    def check_apart(self, given: Sequence[Any], files: Sequence[Path | str]) -> None:
        """Refuse a folder among the old files, or around them."""
        old = [
            each for each in given if isinstance(each, str | os.PathLike) and os.path.isdir(each)
        ]
        inside = any(self._path.is_relative_to(os.path.realpath(each)) for each in old)
        here = [Path(os.path.realpath(path)) for path in files if isinstance(path, Path)]
        around = any(path.is_relative_to(self._path) for path in here)
        _apart(shown_path(self._path), not inside and not around)

    def is_done(self, names: list[list[Any]]) -> bool:
        """Return whether the folder was made from these files; refuse one with other files."""
        if not self._path.is_dir() or not any(self._path.iterdir()):
            return False
        with contextlib.suppress(OSError):
            if _is_of((self._path / CONTENTS).read_bytes(), names):
                return True
        raise _other_files(shown_path(self._path))

    @contextlib.contextmanager
    def new(self, names: list[list[Any]]) -> Iterator[PathOf]:
        """Give the paths of the new files, in a hidden folder.

        A lock, which ends with the process, keeps other processes out; files that a killed process
        has left are removed.
        """
        import fcntl  # not on Windows

        new = self._path.parent / f".{self._path.name}.compacting"
        new.mkdir(parents=True, exist_ok=True)
        with open_folder(new) as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise TraceError("another process is writing this folder; wait for it") from None
            for old in new.iterdir():
                old.unlink()
            try:
                yield lambda name: new / name
                os.rename(new, self._path)  # fails if a folder with files has appeared meanwhile
            except BaseException:
                shutil.rmtree(new, ignore_errors=True)
                raise
            with open_folder(self._path.parent) as parent:
                os.fsync(parent)

    def sizes(self) -> list[int]:
        """Return the sizes of the new files."""
        return [path.stat().st_size for path in self._path.glob("*.parquet")]


class _InStore:
    """A folder behind a URL, to which each file is sent when it is complete.

    A store cannot rename a folder: until all files are there a file `UNFINISHED`, which has the
    content of `CONTENTS`, makes latprof refuse it. A second call replaces what a killed one left.
    """

    def __init__(self, url: str) -> None:
        head, mark, query = url.partition("?")
        self._head, self._query = head.rstrip("/"), mark + query

    def _url(self, name: str) -> str:
        return f"{self._head}/{quote(name)}{self._query}"

    def check_apart(self, given: Sequence[Any], files: Sequence[Path | str]) -> None:
        """Refuse a folder among the old files, or around them."""
        new = f"{self._head}/"
        old = [f"{_without_query(each)}/" for each in given if is_url(each)]
        inside = any(new.startswith(each) for each in old)
        around = any(is_url(path) and _without_query(path).startswith(new) for path in files)
        _apart(shown_path(self._head), not inside and not around)

    def is_done(self, names: list[list[Any]]) -> bool:
        """Return whether the folder was made from these files; refuse one with other files."""
        found = sizes_in(self._head + self._query)
        known = next((name for name in (UNFINISHED, CONTENTS) if name in found), None)
        if known is not None and _is_of(self._read(known), names):
            return known == CONTENTS
        if found:
            raise _other_files(shown_path(self._head))
        return False

    def _read(self, name: str) -> bytes:
        with open_binary(self._url(name)) as file:
            return file.read()

    @contextlib.contextmanager
    def new(self, names: list[list[Any]]) -> Iterator[PathOf]:
        """Give the URLs of the new files."""
        for name in sizes_in(self._head + self._query):  # a killed process has left them
            if name == CONTENTS or ("/" not in name and name.endswith(".parquet")):
                remove(self._url(name))
        with write_file(self._url(UNFINISHED)) as file:
            file.write(_contents(names))
        new: list[str] = []

        def path_of(name: str) -> str:
            new.append(name)
            return self._url(name)

        try:
            yield path_of
        except BaseException:
            with contextlib.suppress(TraceError):  # the store may be out of reach
                there = sizes_in(self._head + self._query)
                for name in [*(each for each in new if each in there), UNFINISHED]:
                    remove(self._url(name))
            raise
        remove(self._url(UNFINISHED))

    def sizes(self) -> list[int]:
        """Return the sizes of the new files."""
        found = sizes_in(self._head + self._query)
        return [size for name, size in found.items() if name.endswith(".parquet")]


def _without_query(url: str) -> str:
    return url.partition("?")[0].rstrip("/")


# -- the files ------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Open:
    """A file that is being written, and the recordings in it."""

    writer: Any
    recordings: list[tuple[int, int, dict[str, Any]]] = field(default_factory=list)

    def close(self, row_group: int) -> None:
        self.writer.meta = meta_of(self.recordings, row_group)
        self.writer.close()


def _write(dataset: Dataset, path_of: PathOf, progress: Callable[[int, int], None] | None) -> None:
    """Write all recordings; those with the same columns share files."""
    from latprof.io import writer  # loads pyarrow

    written: dict[tuple[str, ...], _Open] = {}
    numbers = iter(range(1, 10**6))
    done = 0

    def opened(member: Member) -> _Open:
        path = path_of(f"{dataset.pipeline.name}-{next(numbers):05d}.parquet")
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
