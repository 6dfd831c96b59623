"""Groups the recordings of a folder or a glob by the run that they are parts of.

Files of one recording, such as those of a recorder that rotates its files, have the id of the
recording in their metadata. Recordings of a folder that overlap in time are taken for processes of
one run; a recording that begins after they ended is another run.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from latprof.analysis import analyze
from latprof.io.dataset import Dataset
from latprof.io.find import find_files
from latprof.io.formats.foreign import ForeignFile
from latprof.io.member import Member
from latprof.io.paths import StrPath, is_folder, is_glob, is_url
from latprof.profile.file import is_profile, read_origin, saved_profiles
from latprof.profile.load import load_profile
from latprof.profile.merging import merge_named
from latprof.profile.profile import Profile
from latprof.text import counted, shown_path

__all__ = ["PartsOfRun", "parts_by_run"]


@dataclass(slots=True, eq=False)
class PartsOfRun:
    """The saved profiles, or the traces, of one run.

    Attributes
    ----------
    names
        Names of the files, as messages show them.
    recordings
        Ids of the recordings; empty if the files have none.
    segments
        Times (begin, end) of recording, UTC ns.
    note
        Why these files may be several runs, or an empty text.
    """

    names: list[str]
    profiles: list[Path | str] = field(default_factory=list)
    members: list[Member] = field(default_factory=list)
    recordings: set[str] = field(default_factory=set)
    segments: set[tuple[int, int]] = field(default_factory=set)
    note: str = ""

    @property
    def name(self) -> str:
        """The first file, and how many more there are."""
        first, more = self.names[0], len(self.names) - 1
        return f"{first} and {counted(more, 'more file')}" if more else first

    @property
    def times(self) -> tuple[int, int]:
        """When the first recording began and the last one ended, UTC ns."""
        return min(begin for begin, _ in self.segments), max(end for _, end in self.segments)

    def profile(self, by: str | None) -> Profile:
        """Return the profile of all files; traces are analyzed, also by a column `by`."""
        named = [(shown_path(each), load_profile(each)) for each in self.profiles]
        if self.members:
            named.append((self.name, analyze(self.members, by=by)))
        merged = named[0][1] if len(named) == 1 else merge_named(named)
        assert merged is not None
        return merged

    def add(self, other: "PartsOfRun") -> None:
        """Add other parts of the run."""
        self.names += other.names
        self.profiles += other.profiles
        self.members += other.members
        self.recordings |= other.recordings
        self.segments |= other.segments


def parts_by_run(item: StrPath | ForeignFile) -> list[PartsOfRun]:
    """Return the runs of a folder, in order of time, or of a glob, in order of name.

    The files of a glob are parts of one run only if they are of one recording. If a file of a
    folder lacks the id of its recording, all files of the folder are one run, with a note.

    Raises
    ------
    TraceError
        There are no files, or one of them is not a trace.
    ProfileError
        A saved profile cannot be read.
    """
    path = item.path if isinstance(item, ForeignFile) else item
    foreign = item if isinstance(item, ForeignFile) else None
    found, traces = [], []
    for each in saved_profiles(path) or find_files(path, every=foreign is not None):
        if is_profile(each):
            found.append(_of_profile(each))
        else:
            columns = None if foreign is None else (foreign.columns, foreign.spans)
            traces.append(each if columns is None else ForeignFile.of(each, *columns))
    found += map(_of_trace, Dataset(traces).members if traces else ())
    found.sort(key=lambda part: part.names)
    if not _is_folder(path):
        return _joined(found)
    unknown = [part for part in found if not part.recordings or not part.segments]
    if unknown:
        whole, *others = found
        for part in others:
            whole.add(part)
        if others:
            whole.note = (
                f"{shown_path(path)} is taken as one run of {counted(len(found), 'file')}, as "
                f"{unknown[0].name} does not name its recording; if each file is a run, give the "
                "files one by one"
            )
        return [whole]
    return _in_turn(_joined(found))


def _is_folder(path: StrPath) -> bool:
    if isinstance(path, str) and is_url(path):
        return not is_glob(path) and is_folder(path)
    return is_folder(path)


def _of_profile(path: Path | str) -> PartsOfRun:
    origin = read_origin(path)
    return PartsOfRun([shown_path(path)], [path], [], origin.recordings, origin.segments)


def _of_trace(member: Member) -> PartsOfRun:
    recording, segments = member.meta.get("recording"), member.meta.get("segments")
    return PartsOfRun(
        [member.name],
        [],
        [member],
        {recording} if isinstance(recording, str) else set(),
        {(int(begin), int(end)) for begin, end in segments or ()},
    )


def _joined(parts: Iterable[PartsOfRun]) -> list[PartsOfRun]:
    """Put the files of each recording together."""
    runs: list[PartsOfRun] = []
    for part in parts:
        same = [run for run in runs if run.recordings & part.recordings]
        if not same:
            runs.append(part)
            continue
        for other in [*same[1:], part]:
            same[0].add(other)
        runs = [run for run in runs if run not in same[1:]]
    return runs


def _in_turn(runs: list[PartsOfRun]) -> list[PartsOfRun]:
    """Put recordings together that overlap in time; the result is in order of time."""
    found: list[PartsOfRun] = []
    for run in sorted(runs, key=lambda run: run.times):
        if found and run.times[0] < found[-1].times[1]:
            found[-1].add(run)
        else:
            found.append(run)
    return found
