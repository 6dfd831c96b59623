"""Where new frames come from: a ring file that a process writes to, or a folder of trace files."""

import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latprof.arrays import Ints
from latprof.errors import TraceError
from latprof.frames import Columns
from latprof.pipeline import Pipeline
from latprof.ring.reader import RingReader
from latprof.ring.ring import to_columns
from latprof.text import counted, escape
from latprof.thresholds import LEVELS, Thresholds

__all__ = ["FIRST_ROWS", "FolderFeed", "News", "RingFeed", "feed_of"]

FIRST_ROWS = 1_000_000
"""Of what is in a folder already, the newest rows are read until there are so many."""

_NEEDED = ("source", "outcome", "weight")


@dataclass(frozen=True, slots=True)
class News:
    """What one look has found: frames in the order they came, and how many were lost or torn.

    `status` says what the recorder does, in a word or two; `pipeline` is None until it is known.
    `remedy` is the command that helps where its process has ended; `thresholds` are those of the
    recorder, None: not known. `arriving` says whether each frame is seen as it comes, and not
    only when a file is finished.
    """

    batches: list[Columns]
    lost: int
    status: str
    pipeline: Pipeline | None
    remedy: str = ""
    thresholds: Thresholds | None = None
    arriving: bool = True


class RingFeed:
    """New rows of a ring file, also when another process takes its place.

    Raises
    ------
    TraceError
        The file cannot be read, or is no ring.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._reader = RingReader(path)
        self._inode = self._identity()
        self._newest = 0
        self._unfinished: Ints | None = None

    def look(self) -> News:
        """Return what is new since the last look; the first one finds all that is there."""
        inode = self._identity()
        if inode is not None and inode != self._inode:
            self._reopen(inode)
        seen = self._reader.scan(after=self._newest, unfinished=self._unfinished)
        # of frames that were overwritten before the first look nobody has missed anything
        lost = seen.lost if self._newest else seen.torn + seen.refused
        self._newest, self._unfinished = seen.newest, seen.unfinished
        status, remedy = "recording", ""
        if inode is None:
            status = "the ring file is gone"
        elif self._reader.ended():
            status = "the process has ended"
            remedy = f"latprof recover {shlex.quote(str(self.path))} -o crash.parquet"
        elif self._reader.stopped:
            status = "stopped"
        found = to_columns(seen.rows, self._reader, self._reader.offset_ns)
        batches, limits = [found] if len(found) else [], _thresholds(self._reader.metadata)
        return News(batches, lost, status, self._reader.pipeline, remedy, limits)

    def close(self) -> None:
        """Close the file."""
        self._reader.close()

    def _identity(self) -> int | None:
        try:
            return self.path.stat().st_ino
        except OSError:
            return None

    def _reopen(self, inode: int) -> None:
        """Read the ring that has taken the place of the last one, as soon as it can be read."""
        try:
            reader = RingReader(self.path)
        except TraceError:
            return  # it is just being made
        self._reader.close()
        self._reader, self._inode, self._newest, self._unfinished = reader, inode, 0, None


def _thresholds(metadata: dict[str, Any]) -> Thresholds | None:
    """Return the thresholds that the recorder wrote into the ring's file, or None."""
    given = metadata.get("thresholds")
    if given is None:
        return None
    return Thresholds.from_spans(*(given.get(level) or {} for level in LEVELS))


class FolderFeed:
    """Frames of the trace files that appear in a folder and those in it.

    Parameters
    ----------
    path
        The folder; it may be empty still.
    pipeline
        What the marks mean, for files that do not say so.
    """

    def __init__(self, path: str | os.PathLike[str], pipeline: Pipeline | None = None) -> None:
        self.path = Path(path)
        self._given = pipeline
        self._pipeline: Pipeline | None = None
        self._read: set[tuple[str, int, int]] = set()
        self._trouble = ""
        self._looked = False

    def look(self) -> News:
        """Return the frames of files that are new since the last look."""
        batches: list[Columns] = []
        lost, room = 0, None if self._looked else FIRST_ROWS
        # at first the newest file is read first, for as long as there is room
        for _, path in sorted(self._fresh(), reverse=not self._looked):
            try:
                lost += self._take(path, batches, room)
            except TraceError as error:
                self._trouble = str(error)
            if room is not None:
                room = FIRST_ROWS - sum(map(len, batches))
        if not self._looked:
            batches.reverse()
            lost = 0  # nobody has missed what was lost before
        self._looked = True
        n = len(self._read)
        files = counted(n, "file") if n else "no trace file yet"
        status = f"{files}; {self._trouble}" if self._trouble else files
        return News(batches, lost, status, self._pipeline, arriving=False)

    def close(self) -> None:
        """Nothing is open between looks."""

    def _fresh(self) -> Iterator[tuple[int, str]]:
        """Yield when it was written, and the path, of each file that was not read yet."""
        for path in self.path.rglob("*.parquet"):
            try:
                about = path.stat()
            except OSError:
                continue  # it is gone again
            key = (str(path), about.st_mtime_ns, about.st_size)
            if key not in self._read:
                self._read.add(key)
                yield about.st_mtime_ns, str(path)

    def _take(self, path: str, batches: list[Columns], room: int | None) -> int:
        """Add the row groups of a file, or from the last one on those that there is room for."""
        from latprof.io.reader import Reader

        with Reader(path, self._given) as reader:
            if self._pipeline is None:
                self._pipeline = reader.pipeline
            elif reader.pipeline != self._pipeline:
                raise TraceError(f"{escape(path)} is of another pipeline: left out")
            wanted = (*reader.pipeline.marks, *_NEEDED)
            indices = range(reader.num_batches)
            for index in indices if room is None else reversed(indices):
                if room is not None and room <= 0:
                    break
                batches.append(reader.batch(index, wanted))
                room = None if room is None else room - len(batches[-1])
            return int(reader.meta.get("lost") or 0)


def feed_of(path: str, pipeline: Pipeline | None = None) -> RingFeed | FolderFeed:
    """Return the feed of a ring file or of a folder.

    Raises
    ------
    TraceError
        It is neither.
    """
    if Path(path).is_dir():
        return FolderFeed(path, pipeline)
    if path.endswith(".parquet") and Path(path).is_file():
        raise TraceError(
            f"{escape(path)} is a trace file, and finished: use latprof report, or give the folder"
        )
    return RingFeed(path)
