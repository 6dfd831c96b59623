"""The file of a saved profile: compressed JSON, written completely or not, checked on reading."""

import glob
import gzip
import json
import os
import re
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, BinaryIO, TypeVar

from latprof.accounts import Accounts, Recorders
from latprof.arrays import Bounds, Count
from latprof.errors import ProfileError
from latprof.fold.consistency import inconsistency
from latprof.fold.sums import Sums
from latprof.hosts import METHODS, HostClock
from latprof.io.atomic import file_errors, write_file
from latprof.io.find import find_files
from latprof.io.paths import (
    StrPath,
    is_file,
    is_folder,
    is_glob,
    is_url,
    local_path,
    may_be_one_file,
    open_binary,
)
from latprof.pipeline import Pipeline
from latprof.profile.bins import is_histogram_file, read_histograms
from latprof.profile.build import PACKED_FROM, Bins, FoldedFrames
from latprof.profile.codec import CORRUPT, Decoder, encode
from latprof.queueing.accumulator import CausesAccumulator
from latprof.sequence.order import OrderBySource
from latprof.text import quoted, shown_path

__all__ = [
    "ENDING",
    "FORMAT",
    "Origin",
    "is_profile",
    "profile_bytes",
    "profile_from",
    "read_origin",
    "read_profile",
    "saved_profiles",
    "write_profile",
]

FORMAT = 1
"""Version of the file. Only files of this version are read."""

MOST_BYTES = 1 << 28  # bytes of JSON: more than a profile of 1,000 groups with windows has
MOST_VALUES = 6_000_000  # values in JSON, each of which takes up to 100 bytes of memory

ENDING = ".latprof"
"""Of the names of saved profiles, if nothing else is said."""

_NAME = "latprof profile"
_STARTS = re.compile(rb'\{"(?:format":"latprof profile"|latprof_profile"|version")')
_AS_GZIP = 16 + 15  # zlib writes the head and the end of gzip
_CHUNK = 1 << 20  # bytes unpacked at a time

ProfileT = TypeVar("ProfileT", bound=FoldedFrames)


@dataclass(slots=True)
class _Content:
    """The attributes of a `Profile`, and of each of its groups, that are saved."""

    by: str | None
    files: Count
    recorders: Recorders
    clocks: dict[str, HostClock]
    stamp_ns: Count
    by_weight: Count
    undeclared: bool
    segments: set[tuple[int, int]]
    recordings: set[str]
    labels: dict[str, str]
    rates: Counter[Annotated[float, Bounds(2**-64, 1)]]
    accounts: Accounts
    reading: set[str]
    untimed: bool
    bins: Bins | None
    ungrouped: Sums
    order: OrderBySource | None
    cause_sums: CausesAccumulator | None
    groups: dict[str, bool | None]  # names only: the groups are read one by one

    def broken_rule(self, finished: int) -> str | None:
        """Return a rule that the values break, or None if a profile may have these values.

        `finished` is the number of finished frames in the groups.
        """
        sums = self.ungrouped
        if any(begin > end for begin, end in self.segments):
            return "segments must not end before they begin"
        if any(clock.method not in METHODS for clock in self.clocks.values()):
            return f"the method of a clock must be one of {', '.join(METHODS)}"
        if self.by is None and self.groups:
            return "groups must have a column `by`"
        if self.by is not None and (sums.finished or sums.dropped):
            return "with a column `by`, all frames must be in groups"
        if self.rates.total() != sums.finished + finished:
            return "rates must be those of the finished frames"
        return inconsistency(sums)

    def broken_rule_of(self, group: "_Content") -> str | None:
        """Return a rule that a group breaks, or None if this profile may have such a group."""
        if group.groups or group.by is not None:
            return "groups must not have groups"
        for what in ("edges_ns", "every_ns", "deadline_ns"):
            if getattr(group.ungrouped, what) != getattr(self.ungrouped, what):
                return f"groups must have the {what} of the whole"
        return group.broken_rule(0)


_SAVED = tuple(each.name for each in fields(_Content) if each.name != "groups")


def _encoded(profile: FoldedFrames) -> dict[str, Any]:
    """Return a profile as JSON values.

    The groups follow one after the other, as a group takes much memory while it is encoded.
    """
    if profile.order is not None:
        profile.order.end_recording()
    if profile.cause_sums is not None:
        profile.cause_sums.settle()
    groups = {name: _encoded(group) for name, group in sorted(profile.groups.items())}
    values = {name: getattr(profile, name) for name in _SAVED}
    encoded: dict[str, Any] = encode(_Content(**values, groups={}))
    return encoded | {"groups": groups}


def _decoded(values: Any, pipeline: Pipeline, kind: type[ProfileT]) -> ProfileT:
    """Return a profile from its JSON values.

    Raises
    ------
    ProfileError
        The values are not those of a profile.
    """
    found = values.get("groups") if isinstance(values, dict) else None
    groups = found if isinstance(found, dict) else {}
    whole = values | {"groups": dict.fromkeys(groups)} if groups else values
    content = Decoder(pipeline).decode(_Content, whole, "profile")
    profile = _profile_of(content, pipeline, kind)
    parts = {}
    for name, part in groups.items():
        group = Decoder(pipeline).decode(_Content, part, f"profile.groups.{name}")
        _check(content.broken_rule_of(group))
        parts[name] = _profile_of(group, pipeline, kind)
        if len(groups) > PACKED_FROM:
            parts[name].pack()
    _check(content.broken_rule(sum(group.frames for group in parts.values())))
    profile.groups = parts
    return profile


def _profile_of(content: _Content, pipeline: Pipeline, kind: type[ProfileT]) -> ProfileT:
    profile = kind(pipeline)
    for name in _SAVED:
        setattr(profile, name, getattr(content, name))
    return profile


def _check(rule: str | None) -> None:
    if rule is not None:
        raise ProfileError(f"{rule}; {CORRUPT}")


def profile_bytes(profile: FoldedFrames, *, level: int = 6) -> bytes:
    """Return a profile as the bytes of its file, compressed with a `level` of gzip.

    Raises
    ------
    ProfileError
        The profile is too large to be read again.
    """
    values = {
        "format": _NAME,
        "version": FORMAT,
        "pipeline": profile.pipeline.to_dict(),
        "profile": _encoded(profile),
    }
    text = json.dumps(values, separators=(",", ":"), allow_nan=False).encode()
    found = _values_in(text)
    if len(text) > MOST_BYTES or found > MOST_VALUES:
        raise ProfileError(
            f"the profile must have at most {_limit()}, got {len(text):,} bytes and {found:,} "
            "values; group by a column of fewer values, or use wider windows"
        )
    # Z_FILTERED: short matches in packed arrays are accidental, and cost more bits than they save.
    # No time is written, so that the same profile gives the same bytes.
    stream = zlib.compressobj(level, zlib.DEFLATED, _AS_GZIP, 9, zlib.Z_FILTERED)
    return stream.compress(text) + stream.flush()


def write_profile(path: StrPath, profile: FoldedFrames) -> None:
    """Write a profile to a file, which gets its name when it is complete.

    Raises
    ------
    ProfileError
        The file cannot be written, or would be too large to be read again.
    """
    content = profile_bytes(profile)
    with write_file(path, error=ProfileError) as file:
        file.write(content)


def read_profile(
    path: StrPath, kind: type[ProfileT], unit: str | None = None, metric: str | None = None
) -> ProfileT:
    """Return a saved profile, as an object of type `kind`.

    For a file of histograms of another tool, `unit` is the unit of the values, or None if the file
    says it, and `metric` is the name of one of several histograms, or None.

    Raises
    ------
    ProfileError
        The file cannot be read, is not a saved profile, is corrupt, or has another format.
    """
    with file_errors(path, "cannot be read", error=ProfileError), open_binary(path) as file:
        if _begins_as_saved(file) or not is_histogram_file(path):
            return profile_from(file, kind)
    return read_histograms(path, kind, unit, metric)


def _begins_as_saved(file: BinaryIO) -> bool:
    """Return whether an open file begins as a saved profile; its position is 0 afterwards."""
    try:
        with gzip.open(file) as unpacked:
            return bool(_STARTS.match(unpacked.read(64)))
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return False
    finally:
        file.seek(0)


def profile_from(file: BinaryIO, kind: type[ProfileT]) -> ProfileT:
    """Return a saved profile that is read from an open file, as an object of type `kind`.

    Raises
    ------
    ProfileError
        The file is not a saved profile, is corrupt, or has another format.
    """
    values = _parse(file)
    _check_version(values)
    pipeline = Pipeline.from_dict(values.get("pipeline"))
    return _decoded(values.get("profile"), pipeline, kind)


@dataclass(frozen=True, slots=True)
class Origin:
    """The attributes of a saved `Profile` that describe its recordings."""

    recorders: Recorders = field(default_factory=Recorders)
    recordings: set[str] = field(default_factory=set)
    segments: set[tuple[int, int]] = field(default_factory=set)


def read_origin(path: StrPath) -> Origin:
    """Return the programs, hosts, ids and times of the recordings of a saved profile.

    Nothing else is decoded, so that many profiles can be put in order quickly. For histograms of
    other tools the result is empty.

    Raises
    ------
    ProfileError
        As for `read_profile`.
    """
    with file_errors(path, "cannot be read", error=ProfileError), open_binary(path) as file:
        if not _begins_as_saved(file) and is_histogram_file(path):
            return Origin()
        values = _parse(file)
        _check_version(values)
        content = values.get("profile")
        known = content if isinstance(content, dict) else {}
        wanted = {each.name: known.get(each.name) for each in fields(Origin)}
        found: Origin = Decoder(None).decode(Origin, wanted, "profile")
        return found


def is_profile(path: StrPath) -> bool:
    """Return whether a file may be a saved profile, or has histograms of another tool.

    A saved profile is gzipped JSON. A file ``*.latprof``, and a gzip file that cannot be unpacked,
    count as one, as they may be damaged. For a URL that ends in ``.parquet``, or is a folder or a
    glob, the answer is False without a request.
    """
    if is_url(path) and not may_be_one_file(path):
        return False
    if not is_file(path):  # to open a pipe may take forever
        return False
    name = path.partition("?")[0] if is_url(path) else os.fspath(path)
    if name.endswith(ENDING):  # an empty one is damaged
        return True
    try:
        with open_binary(path) as file:
            if file.read(2) != b"\x1f\x8b":
                return is_histogram_file(path)
            file.seek(0)
            with gzip.open(file) as unpacked:
                start = unpacked.read(64)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return True
    except OSError:
        return False
    return bool(_STARTS.match(start)) or is_histogram_file(path)


def saved_profiles(where: StrPath) -> Sequence[Path | str]:
    """Return the saved profiles that a glob or a folder means, sorted by name.

    For a glob these are its files, if all of them are saved profiles; for a folder the files
    ``*.latprof`` in it and below, if it has no traces (``*.parquet``). Otherwise the list is empty.
    """
    if isinstance(where, str) and is_url(where):
        return _remote_profiles(where)
    folder = Path(local_path(where))
    if folder.is_dir():
        if next(folder.rglob("*.parquet"), None) is not None:
            return []
        found = [path for path in folder.rglob(f"*{ENDING}") if path.is_file()]
    elif folder.exists() or not glob.has_magic(os.fspath(where)):
        return []
    else:
        found = [Path(each) for each in glob.glob(os.fspath(where), recursive=True)]
    return sorted(found) if all(map(is_profile, found)) else []


def _remote_profiles(url: str) -> Sequence[Path | str]:
    """Return the URLs of the saved profiles that a folder or a glob behind a URL means."""
    if is_glob(url):
        found = find_files(url)
    elif is_folder(url):
        found = find_files(url, every=True)
        names = [shown_path(each) for each in found]
        if any(name.endswith(".parquet") for name in names):
            return []
        found = [each for each, name in zip(found, names, strict=True) if name.endswith(ENDING)]
    else:
        return []
    return found if all(map(is_profile, found)) else []


def _parse(file: BinaryIO) -> Any:
    """Return the content of a file of JSON; bytes and values are counted before it is parsed."""
    chunks, size, values = [], 0, 0
    try:
        with gzip.open(file) as unpacked:
            while chunk := unpacked.read(_CHUNK):
                chunks.append(chunk)
                size, values = size + len(chunk), values + _values_in(chunk)
                if size > MOST_BYTES or values > MOST_VALUES:
                    break
            else:
                return json.loads(b"".join(chunks))
    except (gzip.BadGzipFile, EOFError, zlib.error, ValueError, RecursionError):
        raise ProfileError(
            "not a saved profile, or a corrupt one; use a file that Profile.save wrote"
        ) from None
    raise ProfileError(
        f"the profile must have at most {_limit()}, got more; use an intact copy or make it again "
        "from its traces"
    )


def _limit() -> str:
    return f"{MOST_BYTES:,} bytes and {MOST_VALUES:,} values of JSON"


def _values_in(text: bytes) -> int:
    """Return an upper bound on the number of values in JSON text, from its separators."""
    return sum(map(text.count, (b",", b"[", b"{")))


def _check_version(values: Any) -> None:
    known = values if isinstance(values, dict) else {}
    old, version = known.get("latprof_profile"), known.get("version")
    if type(old) is int:
        raise ProfileError(
            f"the file must have profile format {FORMAT}, got the older {quoted(old)}, which "
            "only the latprof that wrote it reads; make the profile again from its traces"
        )
    if known.get("format") != _NAME or type(version) is not int:
        raise ProfileError("not a saved profile; use a file that Profile.save wrote")
    if version != FORMAT:
        raise ProfileError(
            f"the file must have profile format {FORMAT} for this latprof, got {quoted(version)}; "
            "upgrade latprof"
        )
