"""Profiles as small files: gzipped JSON, whole or not at all, checked when it is read."""

import gzip
import json
import os
import zlib
from collections import Counter
from dataclasses import fields
from typing import Any

from latprof.accounts import Accounts
from latprof.errors import LatprofError, ProfileError
from latprof.io.atomic import write_file
from latprof.pipeline import Pipeline
from latprof.profile import saved
from latprof.profile.build import Recorders
from latprof.profile.codec import Decoder, encode
from latprof.profile.profile import Profile
from latprof.profile.saved import count, number, text
from latprof.queueing.windowed import Parts
from latprof.sequence.order import OrderBySource
from latprof.text import escape

__all__ = ["FORMAT", "is_profile", "load_profile", "save_profile"]

FORMAT = 3
"""Version of the file, 2 with causes, 3 with who recorded; files of later ones are refused."""

_MOST_BYTES = 1 << 28  # of JSON: more than a profile of many groups, far less than a bomb

StrPath = str | os.PathLike[str]


def save_profile(profile: Profile, path: StrPath) -> None:
    """Write a profile to a file, which has its name only once it is whole.

    Raises
    ------
    ProfileError
        The file cannot be written.
    """
    content = {"latprof_profile": FORMAT, "pipeline": profile.pipeline.to_dict()}
    content |= _dump(profile)
    text = json.dumps(content, separators=(",", ":"), allow_nan=False).encode()
    with write_file(path, error=ProfileError) as file:
        # without a time in it: the same profile gives the same bytes
        file.write(gzip.compress(text, 6, mtime=0))


def load_profile(path: StrPath) -> Profile:
    """Return the profile that was saved in a file.

    Raises
    ------
    ProfileError
        The file is no profile, of a later format, damaged or cut short.
    OSError
        The file cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> path = tempfile.mkdtemp() + "/mic.latprof"
    >>> save_profile(Profile(Pipeline.chain("mic", "decode")), path)
    >>> load_profile(path)
    <Profile of mic: 0 frames>
    """
    shown = escape(os.fspath(path))
    try:
        with gzip.open(path) as file:
            text = file.read(_MOST_BYTES)
        content = json.loads(text)
    except (gzip.BadGzipFile, EOFError, zlib.error, ValueError, RecursionError):
        raise ProfileError(
            f"{shown} is no saved profile, or damaged: give a file that Profile.save wrote"
        ) from None
    version = content.get("latprof_profile") if isinstance(content, dict) else None
    if type(version) is not int or version < 1:
        raise ProfileError(f"{shown} is no saved profile: give a file that Profile.save wrote")
    if version > FORMAT:
        raise ProfileError(
            f"{shown} has format {version}, this latprof reads up to {FORMAT}: upgrade latprof"
        )
    try:
        pipeline = Pipeline.from_dict(content.get("pipeline"))
        _upgrade(content, version)
        return _load(pipeline, content)
    except LatprofError as error:
        raise ProfileError(f"{shown}: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError) as error:
        raise ProfileError(
            f"{shown} is damaged ({type(error).__name__}: {escape(str(error))[:80]}): "
            "fold its traces again"
        ) from None


def _upgrade(content: dict[str, Any], version: int) -> None:
    """Add what earlier formats did not have."""
    for part in (content, *content["groups"].values()):
        if version < 2:
            part["causes"] = None
        if version < 3:
            part["recorders"] = Recorders().to_dict()


def is_profile(path: StrPath) -> bool:
    """Return whether a file may be a saved profile: it is gzipped, as no trace is."""
    try:
        with open(path, "rb") as file:
            return file.read(2) == b"\x1f\x8b"
    except OSError:
        return False


def _dump(profile: Profile) -> dict[str, Any]:
    weighted = {"by_weight": profile.by_weight} if profile.by_weight else {}
    return weighted | {
        "by": profile.by,
        "files": profile.files,
        "recorders": profile.recorders.to_dict(),
        "stamp_ns": profile.stamp_ns,
        "undeclared": profile.undeclared,
        "segments": sorted(profile.segments),
        "rates": sorted(profile.rates.items()),
        "accounts": profile.accounts.to_dict(),
        "sums": saved.dump(profile.ungrouped),
        "order": encode(profile.order),
        "causes": None if profile.parts is None else profile.parts.to_dict(),
        "groups": {name: _dump(group) for name, group in sorted(profile.groups.items())},
    }


def _load(pipeline: Pipeline, content: dict[str, Any]) -> Profile:
    profile = Profile(pipeline, by=None if content["by"] is None else text(content["by"]))
    profile.files = count(content["files"])
    rows = [
        [
            dict(zip(("host", "python", "latprof"), row[:3], strict=True)),
            dict(zip(("files", "first", "last"), row[3:], strict=True)),
        ]
        for row in content["recorders"]["files"]
    ]
    recorders = {"written": rows, "others": content["recorders"]["others"]}
    profile.recorders = Decoder(pipeline).decode(Recorders, recorders, "recorders")
    profile.stamp_ns = count(content["stamp_ns"])
    profile.by_weight = count(content.get("by_weight", 0))
    profile.undeclared = bool(content["undeclared"])
    for begin, end in content["segments"]:
        if type(begin) is not int or type(end) is not int or begin > end:
            raise ProfileError("a time of recording that cannot be: the file is damaged")
        profile.segments.add((begin, end))
    profile.rates = Counter({number(rate): count(n) for rate, n in content["rates"]})
    profile.accounts = _load_accounts(content["accounts"])
    profile.ungrouped = saved.load(pipeline, content["sums"])
    if content["order"] is not None:
        profile.order = Decoder(pipeline).decode(OrderBySource, content["order"], "order")
    if content["causes"] is not None:
        profile.parts = Parts.from_dict(pipeline, content["causes"])
    for name, group in content["groups"].items():
        profile.groups[name] = _load(pipeline, group)
    _check(profile)
    return profile


def _load_accounts(content: dict[str, Any]) -> Accounts:
    accounts = Accounts()
    for name in (field.name for field in fields(Accounts)):
        if isinstance(getattr(accounts, name), dict):
            counts = {reason: count(n) for reason, n in content[name].items()}
            setattr(accounts, name, counts)
        else:
            setattr(accounts, name, count(content[name]))
    return accounts


def _check(profile: Profile) -> None:
    """Refuse what `add` cannot give: the whole is what the groups have, or has none."""
    for group in profile.groups.values():
        if group.groups or group.by is not None:
            raise ProfileError("groups of a group: the file is damaged")
        for what in ("edges_ns", "every_ns", "deadline_ns"):
            if getattr(group.ungrouped, what) != getattr(profile.ungrouped, what):
                raise ProfileError(f"groups of another {what}: the file is damaged")
    own = profile.ungrouped.finished + profile.ungrouped.dropped.total()
    if (profile.by is None and profile.groups) or (profile.by is not None and own):
        raise ProfileError("frames that are in no group: the file is damaged")
    frames = profile.ungrouped.finished + sum(group.frames for group in profile.groups.values())
    rates_fit = all(0 < rate <= 1 for rate in profile.rates)
    if not rates_fit or profile.rates.total() != frames:
        raise ProfileError("sampling rates are not those of its frames: the file is damaged")
