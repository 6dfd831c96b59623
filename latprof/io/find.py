"""The files that a path, a folder or a glob means, on this machine or in a store."""

import glob
import os
from collections.abc import Sequence
from fnmatch import fnmatchcase
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import quote

from latprof.errors import TraceError
from latprof.io.atomic import file_errors
from latprof.io.paths import MAGIC, StrPath, is_glob, is_url, local_path
from latprof.io.remote import REQUESTS, WITH_BUCKETS, about, located, remote_errors, request
from latprof.text import shown_path

__all__ = ["UNFINISHED", "find_files", "sizes_in"]

UNFINISHED = ".compacting"
"""A file of this name is in a folder of a store until all other files are there."""

_SAFE = "/=:,+@!$&'()~"  # characters of a name that a URL may contain


def find_files(where: StrPath, *, every: bool = False) -> Sequence[Path | str]:
    """Return the files that a path, a folder or a glob means, sorted by name; URLs are text.

    Parameters
    ----------
    where
        A path, a folder (all ``*.parquet`` files in it and below), or a glob. In a URL ``*``,
        ``[...]`` and, for any number of folders, ``**`` are those of a glob.
    every
        Of a folder, return all files other than hidden ones and those named ``*.pipeline.json``.

    Raises
    ------
    TraceError
        There is none, or the store cannot be reached.
    """
    if is_url(where):
        return _find_remote(where, every)
    where = local_path(where)
    path, text = Path(where), os.fspath(where)
    with file_errors(where, "cannot be opened"):
        if path.is_dir():
            pattern = "*" if every else "*.parquet"
            found = sorted(
                each
                for each in path.rglob(pattern)
                if each.is_file() and not (every and _is_not_data(each.name))
            )
            if not found:
                raise TraceError(f"the folder contains no {pattern} file; pass another one")
            return found
        if path.is_file():
            return [path]
        if path.exists():  # it can be read only once, and opening it may wait forever
            raise TraceError(
                "the path must be of a file, got a pipe or a device; save its data to a file first"
            )
        found = []
        if glob.has_magic(text):
            # glob treats a folder that it cannot open as empty: raise an error here if the process
            # has reached its limit on open files
            os.close(os.open(os.devnull, os.O_RDONLY))
            found = [Path(each) for each in glob.glob(text, recursive=True)]
        if not found:
            raise TraceError("file not found; pass a trace, a path, a folder or a glob")
        return sorted(found)


def _is_not_data(name: str) -> bool:
    """Return whether a file is hidden, or describes the columns of another file."""
    return name.startswith(".") or name.endswith(".pipeline.json")


def _find_remote(url: str, every: bool) -> list[str]:
    """Return the URLs of the files that a URL means: see `find_files`."""
    head, mark, query = url.partition("?")
    scheme, _, rest = head.partition("://")
    host, *names = rest.split("/")
    patterns = ["**", "*" if every else "*.parquet"]
    matching = is_glob(url)
    if matching:
        first = next(i for i, name in enumerate(names) if MAGIC.search(name))
        names, patterns = names[:first], names[first:]
    folder = f"{scheme}://" + "/".join([host, *names]).rstrip("/")
    if not matching and not head.endswith("/"):
        found_there = about(url)
        if found_there.is_file:
            return [url]
        if found_there.type.name == "NotFound":
            if scheme.lower() in WITH_BUCKETS:
                _check_bucket(f"{scheme}://{host}{mark}{query}")
            raise TraceError(
                f"{shown_path(url)}: file not found; pass the URL of a file, a folder or a glob"
            )
    with remote_errors(url):
        system, root = located(folder + mark + query)
        fs: Any = import_module("pyarrow.fs")
        deep = len(patterns) > 1
        listed = system.get_file_info(
            fs.FileSelector(root, recursive=deep, allow_not_found=matching)
        )
    REQUESTS.add(shown_path(url))
    if any(info.path.rpartition("/")[2] == UNFINISHED for info in listed):
        raise TraceError(
            f"{shown_path(url)}: the folder must be complete, got one with a file {UNFINISHED}: "
            "latprof compact is writing it, or was interrupted; wait, or run it again"
        )
    found = []
    for info in listed:
        parts = info.path[len(root) :].strip("/").split("/")
        if info.is_file and _matches(parts, patterns) and not (every and _is_not_data(parts[-1])):
            found.append(parts)
    if not found:
        what = "no file matches" if matching else f"the folder contains no {patterns[-1]} file"
        raise TraceError(f"{shown_path(url)}: {what}; pass another one")
    # as paths are sorted, folder by folder
    return [f"{folder}/{quote('/'.join(parts), _SAFE)}{mark}{query}" for parts in sorted(found)]


def sizes_in(url: str) -> dict[str, int]:
    """Return the size of each file in a folder of a store by name; none if it does not exist.

    Raises
    ------
    TraceError
        The store cannot be reached, or refuses.
    """
    with request(url) as (system, root):
        fs: Any = import_module("pyarrow.fs")
        listed = system.get_file_info(fs.FileSelector(root, recursive=True, allow_not_found=True))
    return {info.path[len(root) :].strip("/"): info.size for info in listed if info.is_file}


def _check_bucket(url: str) -> None:
    with request(url) as (system, path):
        if system.get_file_info(path).type.name == "NotFound":
            raise TraceError(
                f"{shown_path(url)}: the bucket does not exist; check its name and the address"
            )


def _matches(names: list[str], patterns: list[str]) -> bool:
    if patterns == ["**"]:
        return True
    if not patterns or not names:
        return not patterns and not names
    if patterns[0] == "**":
        return _matches(names, patterns[1:]) or _matches(names[1:], patterns)
    return fnmatchcase(names[0], patterns[0]) and _matches(names[1:], patterns[1:])
