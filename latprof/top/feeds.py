"""Where new frames come from: a ring file that a process writes to, or a folder of trace files."""

import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from latprof.accounts import InFlight
from latprof.arrays import Ints
from latprof.errors import ProfileError, TraceError
from latprof.frames import Columns
from latprof.io.dataset import Dataset
from latprof.io.formats.foreign import ForeignFile
from latprof.pipeline import Pipeline
from latprof.profile.groups import check_by
from latprof.recovery import frames_in_flight, thresholds_of
from latprof.ring.reader import RingReader
from latprof.ring.ring import to_columns
from latprof.text import counted, shown_path
from latprof.thresholds import Thresholds

__all__ = ["FIRST_ROWS", "FolderFeed", "RingFeed", "Update", "feed_of"]

FIRST_ROWS = 1_000_000
"""How many of the newest rows that are already in a folder are read at first."""

_NEEDED = ("source", "outcome", "weight")


@dataclass(frozen=True, slots=True)
class Update:
    """The news of a ring file or folder since the read before.

    Attributes
    ----------
    batches
        New frames, in order of arrival.
    lost
        How many frames were lost or torn since the read before.
    status
        State of the recorder, in a few words.
    pipeline
        What the marks mean, or None if no file has been read yet.
    remedy
        The command to recover the ring if its process has ended; otherwise "".
    thresholds
        The thresholds of the recorder, or None if they are not known.
    in_flight
        The frames in flight, the oldest first; of a folder an empty list.
    each_frame
        Whether frames are seen as soon as they are recorded, and not only when a file is finished.
    """

    batches: list[Columns]
    lost: int
    status: str
    pipeline: Pipeline | None
    remedy: str = ""
    thresholds: Thresholds | None = None
    in_flight: list[InFlight] = field(default_factory=list)
    each_frame: bool = True


class RingFeed:
    """New rows of a ring file, also after another process has replaced the file.

    Parameters
    ----------
    path
        The ring file.
    by
        A column that the frames must have.

    Raises
    ------
    TraceError
        The file cannot be read, or is not a ring.
    ProfileError
        The frames have no such column.
    """

    def __init__(self, path: str | os.PathLike[str], *, by: str | None = None) -> None:
        self.path, self._by = Path(path), by
        reader = RingReader(path)
        try:
            self._check(reader)
        except ProfileError:
            reader.close()
            raise
        self._open(reader, self._identity())

    def _check(self, reader: RingReader) -> None:
        if self._by is not None:
            check_by(self._by, reader.tag_names, os.fspath(self.path))

    def _open(self, reader: RingReader, inode: int | None) -> None:
        self._reader, self._inode, self._newest = reader, inode, 0
        self._unfinished: Ints | None = None

    def read(self) -> Update:
        """Return the news since the last call; the first call returns all rows of the ring."""
        inode = self._identity()
        if inode is not None and inode != self._inode:
            self._reopen(inode)
        reader = self._reader
        seen = reader.scan(after=self._newest, unfinished=self._unfinished)
        # frames that were overwritten before the first call do not count as lost
        lost = seen.lost if self._newest else seen.torn + seen.refused
        self._newest, self._unfinished = seen.newest, seen.unfinished
        status, remedy = "stopped" if reader.stopped else "recording", ""
        if inode is None:
            status = "the ring file is gone"
        elif reader.ended():
            status = "the process has ended"
            remedy = f"latprof recover {shlex.quote(str(self.path))} -o crash.parquet"
        found = to_columns(seen.rows, reader, reader.offset_ns)
        return Update(
            [found] * bool(len(found)),
            lost,
            status,
            reader.pipeline,
            remedy,
            thresholds_of(reader.metadata),
            frames_in_flight(reader, seen),
        )

    def close(self) -> None:
        """Close the file."""
        self._reader.close()

    def _identity(self) -> int | None:
        try:
            return self.path.stat().st_ino
        except OSError:
            return None

    def _reopen(self, inode: int) -> None:
        """Switch to the ring that replaced the current one.

        Do nothing while it cannot be read yet.
        """
        try:
            reader = RingReader(self.path)
        except TraceError:
            return  # not complete yet (or corrupt): try again at the next look
        self._check(reader)
        self._reader.close()
        self._open(reader, inode)


class FolderFeed:
    """The frames of all trace files in a folder, including files that appear later.

    Parameters
    ----------
    path
        The folder, with all folders inside; it may be empty at first.
    pipeline
        What the marks mean, for files that were not written by latprof.
    by
        A column or tag that is read as well.
    columns
        What the columns of the files mean, if another tool writes them; all files are read then.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        pipeline: Pipeline | None = None,
        *,
        by: str | None = None,
        columns: ForeignFile | None = None,
    ) -> None:
        self.path = Path(path)
        self._needed = _NEEDED if by is None else (*_NEEDED, by)
        self._given, self._columns = pipeline, columns
        self._pipeline: Pipeline | None = None
        self._known: set[tuple[str, int, int]] = set()
        self._rows: dict[str, int] = {}  # how many rows of each table were read
        self._error = ""
        self._first = True

    def read(self) -> Update:
        """Return the frames of the files that are new since the last call."""
        batches: list[Columns] = []
        lost, rows = 0, FIRST_ROWS if self._first else None
        # at first the newest file is read first, until there are enough rows
        for _, path in sorted(self._new_files(), reverse=self._first):
            try:
                lost += self._read(path, batches, rows)
            except TraceError as error:
                self._error = f"; {error}"
        if self._first:
            batches.reverse()
            lost = 0  # frames that were lost before the view began do not count
        self._first = False
        files = counted(len(self._known), "file") if self._known else "no trace file yet"
        return Update(batches, lost, f"{files}{self._error}", self._pipeline, each_frame=False)

    def close(self) -> None:
        """Do nothing, as no file is open between calls."""

    def _new_files(self) -> Iterator[tuple[int, str]]:
        """Yield the time of the last change, and the path, of each new or changed file."""
        for path in self.path.rglob("*.parquet" if self._columns is None else "*"):
            try:
                about = path.stat()
            except OSError:
                continue  # it was removed meanwhile
            if path.name.startswith(".") or not path.is_file():
                continue
            key = (str(path), about.st_mtime_ns, about.st_size)
            if key not in self._known:
                self._known.add(key)
                yield about.st_mtime_ns, str(path)

    def _read(self, path: str, batches: list[Columns], rows: int | None) -> int:
        """Add the row groups of a file, or only the last `rows`; return how many frames it lost."""
        from latprof.io.reader import Reader

        if self._columns is not None:
            self._read_table(path, self._columns, batches)
            return 0
        with Reader(path, self._given) as reader:
            self._check(path, reader.pipeline)
            wanted = (*reader.pipeline.marks, *self._needed)
            indices = range(reader.num_batches)
            for index in indices if rows is None else reversed(indices):
                if rows is not None and sum(map(len, batches)) >= rows:
                    break
                batches.append(reader.batch(index, wanted))
            return int(reader.meta.get("lost") or 0)

    def _read_table(self, path: str, given: ForeignFile, batches: list[Columns]) -> None:
        """Add the rows that a table has gained since it was read before."""
        (member,) = Dataset(ForeignFile.of(path, given.columns, given.spans)).members
        self._check(path, member.pipeline)
        columns = member.read([*member.pipeline.marks, *self._needed])
        batches.append(columns.take(slice(self._rows.get(path, 0), None)))
        self._rows[path] = len(columns)

    def _check(self, path: str, pipeline: Pipeline) -> None:
        self._pipeline = self._pipeline or pipeline
        if pipeline != self._pipeline:
            raise TraceError(
                f"{shown_path(path)} has another pipeline and is left out; watch it separately"
            )


def feed_of(
    path: str,
    pipeline: Pipeline | None = None,
    *,
    by: str | None = None,
    columns: ForeignFile | None = None,
) -> RingFeed | FolderFeed:
    """Return the feed of a ring file or of a folder.

    `by` is a column that the frames must have; `columns` says what the columns of the tables in a
    folder mean.

    Raises
    ------
    TraceError
        The path is neither a ring file nor a folder, or `columns` is given for a ring.
    ProfileError
        The frames of a ring have no such column.
    """
    if Path(path).is_dir():
        return FolderFeed(path, pipeline, by=by, columns=columns)
    if path.endswith(".parquet") and Path(path).is_file():
        raise TraceError(
            f"source must be a ring file or a folder, got the trace file {shown_path(path)}; "
            "use latprof report, or give its folder"
        )
    if columns is not None:
        raise TraceError(
            "source must be a folder of tables if columns of tables are given, got "
            f"{shown_path(path)}; leave the options of tables out, or use latprof report"
        )
    return RingFeed(path, by=by)
