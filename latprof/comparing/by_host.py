"""Groups recordings by the host on which they were made."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from latprof.analysis import analyze
from latprof.comparing.runs import RunLike
from latprof.errors import ProfileError
from latprof.io.dataset import Dataset
from latprof.io.formats.foreign import ForeignFile
from latprof.io.member import Member
from latprof.io.paths import identity
from latprof.profile.file import is_profile, read_origin, saved_profiles
from latprof.profile.load import load_profile
from latprof.profile.merging import merge_named
from latprof.profile.profile import Profile
from latprof.text import counted, listed, quoted, shown_path
from latprof.trace import Trace

__all__ = ["ByHost", "Recordings", "recordings_by_host"]

Saved = str | os.PathLike[str] | ForeignFile

_LONGEST = 80  # characters of a name, as in `latprof.accounts`
_NAMED = 3  # profiles in a sentence


@dataclass(slots=True)
class Recordings:
    """The profiles, in memory or saved, and the traces of one host."""

    profiles: list[Profile | Saved] = field(default_factory=list)
    traces: list[Trace | Saved | Member] = field(default_factory=list)

    def profile(self) -> Profile:
        """Return the profile of all frames; only few saved profiles are in memory at once."""
        merged = merge_named(self._each())
        assert merged is not None  # a host has recordings
        return merged

    def _each(self) -> Iterator[tuple[str, Profile]]:
        for number, each in enumerate(self.profiles, 1):
            if isinstance(each, Profile):
                yield f"profile {number}", each
            else:
                path = each.path if isinstance(each, ForeignFile) else each
                yield shown_path(path), load_profile(each)
        if self.traces:
            yield f"the profile of {counted(len(self.traces), 'trace')}", analyze(self.traces)

    def __len__(self) -> int:
        return len(self.profiles) + len(self.traces)


@dataclass(slots=True)
class ByHost:
    """Recordings by host, "" for those that name none.

    Attributes
    ----------
    several
        Names of profiles that were made on several hosts, which are left out.
    repeated
        How many files were given more than once; they are read once.
    """

    hosts: dict[str, Recordings] = field(default_factory=dict)
    several: list[str] = field(default_factory=list)
    repeated: int = 0
    _seen: set[str] = field(default_factory=set)

    def add(self, item: Any) -> None:
        """Add a profile or a trace, or all of those at a path, in a folder or of a glob.

        Raises
        ------
        ProfileError
            `item` is something else, or a saved profile that cannot be read.
        TraceError
            `item` is a path without files, or a file is not a trace.
        """
        if isinstance(item, Profile):
            self._add_profile(item, repr(item), {each.host for each in item.recorders.written})
        elif isinstance(item, Trace):
            self._of(item.meta.get("host")).traces.append(item)
        elif isinstance(item, str | os.PathLike | ForeignFile):
            self._add_path(item)
        else:
            raise ProfileError(
                f"recordings must be profiles, traces or paths, got {quoted(item)}; give those of "
                "each host"
            )

    def _add_path(self, item: Saved) -> None:
        """Add the profiles and traces that a path means, each file once."""
        foreign = item if isinstance(item, ForeignFile) else None
        path = item.path if isinstance(item, ForeignFile) else item

        def source(path: str | os.PathLike[str]) -> Saved:
            """Return a file of `item`, with the columns and spans that were given for it."""
            return path if foreign is None else ForeignFile.of(path, foreign.columns, foreign.spans)

        saved = [path] if is_profile(path) else saved_profiles(path)
        for each in saved:
            if self._is_new(identity(each)):
                hosts = {recorder.host for recorder in read_origin(each).recorders.written}
                self._add_profile(source(each), shown_path(each), hosts)
        for member in () if saved else Dataset(item).members:
            assert member.path is not None
            if self._is_new(member.key):
                # a file may have recordings of several hosts
                trace = source(member.path) if member.within is None else member
                self._of(member.meta.get("host")).traces.append(trace)

    def _add_profile(self, profile: Profile | Saved, name: str, hosts: set[str]) -> None:
        if len(hosts) > 1:
            self.several.append(name)
        else:
            self._of(next(iter(hosts), "")).profiles.append(profile)

    def _of(self, host: Any) -> Recordings:
        return self.hosts.setdefault(str(host or "")[:_LONGEST], Recordings())

    def _is_new(self, key: str) -> bool:
        known = len(self._seen)
        self._seen.add(key)
        self.repeated += len(self._seen) == known
        return len(self._seen) > known

    def doubts(self) -> list[str]:
        """Return a sentence on profiles that are left out, and on files that were repeated."""
        found = []
        if self.several:
            left_out = f"{counted(len(self.several), 'profile')} of several hosts left out"
            found.append(
                f"{left_out}: {listed(self.several, _NAMED)}; give a profile of each host, as a "
                "merged one cannot be divided"
            )
        if self.repeated:
            found.append(f"{counted(self.repeated, 'file')} given more than once, and read once")
        return found


def recordings_by_host(recordings: "RunLike | Iterable[RunLike]") -> ByHost:
    """Return recordings by host; of a saved profile only the part with its host is decoded.

    Raises
    ------
    ProfileError
        No recording, or as for `ByHost.add`.
    TraceError
        As for `ByHost.add`.
    """
    given: Any = recordings
    one = isinstance(given, Trace | Profile | ForeignFile | str | os.PathLike)
    found = ByHost()
    for item in [given] if one or not isinstance(given, Iterable) else given:
        found.add(item)
    if not found.hosts and not found.several:
        raise ProfileError("recordings must be at least one, got none; give traces or profiles")
    return found
