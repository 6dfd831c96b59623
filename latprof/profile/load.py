"""Profiles from files, and one profile of several."""

import os
from collections.abc import Iterable, Iterator

from latprof.errors import ProfileError
from latprof.io.formats.foreign import ForeignFile
from latprof.profile.file import read_profile
from latprof.profile.merging import merge_named
from latprof.profile.profile import Profile
from latprof.text import quoted

__all__ = ["load_profile", "merge"]


def load_profile(
    path: "str | os.PathLike[str] | ForeignFile",
    *,
    unit: str | None = None,
    metric: str | None = None,
) -> Profile:
    """Return the profile that was saved in a file.

    Parameters
    ----------
    path
        A saved profile, or a file of histograms of another tool (see ``latprof formats``). The
        latter may be a `ForeignFile` with its unit, and with the metric as its only span.
    unit
        Unit of the values of such a file, if it does not say it: ``"s"``, ``"ms"``, ``"us"``,
        ``"ns"``.
    metric
        Name of one of the histograms of a Prometheus scrape.

    Raises
    ------
    ProfileError
        The file cannot be read, is not a saved profile, is corrupt, or has another format.

    Examples
    --------
    >>> import tempfile
    >>> from latprof import AUDIO, Profile, load_profile
    >>> path = tempfile.mkdtemp() + "/audio.latprof"
    >>> Profile(AUDIO).save(path)
    >>> load_profile(path)
    <Profile of audio: 0 frames>
    """
    if isinstance(path, ForeignFile):
        if len(path.spans) > 1:
            raise ProfileError(
                f"spans must name one histogram, got {quoted(list(path.spans))}; leave out others"
            )
        unit, metric = unit or path.columns.unit, metric or next(iter(path.spans), None)
        path = path.path
    return read_profile(path, Profile, unit, metric)


def merge(profiles: Iterable[Profile]) -> Profile:
    """Return the profile of all frames of several profiles, in any order.

    They are merged in a tree: of an iterator of n profiles, such as ``map(load_profile, paths)``,
    at most log2(n) + 1 are in memory. A profile that is given twice counts twice, and the report
    of the result says so.

    Raises
    ------
    ProfileError
        No profile is given, an item is not a profile, or two profiles do not fit.
    """
    if not isinstance(profiles, Iterable) or isinstance(profiles, str | bytes):
        raise ProfileError(
            f"profiles must be a list of profiles, got {type(profiles).__name__}; write "
            "merge([a, b])"
        )

    def numbered() -> Iterator[tuple[str, Profile]]:
        """Yield each profile with its number."""
        for number, profile in enumerate(profiles, 1):
            if not isinstance(profile, Profile):
                raise ProfileError(
                    f"profiles must contain only profiles, got {type(profile).__name__}; analyze "
                    "makes one of a trace, with analyze(trace, **profile.settings) one that fits"
                )
            yield f"profile {number}", profile

    merged = merge_named(numbered())
    if merged is None:
        raise ProfileError("profiles must contain at least one profile, got none")
    return merged
