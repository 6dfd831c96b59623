"""Paths and URLs of files: what they name, and files opened by them.

A URL names a file, a folder or a glob as a path does: ``s3://bucket/day/``,
``s3://bucket/day/*.parquet``. See `latprof.io.remote`.
"""

import io
import os
import re
from typing import TypeGuard
from urllib.parse import unquote

from latprof.io.remote import about, open_url

__all__ = [
    "MAGIC",
    "StrPath",
    "identity",
    "is_file",
    "is_folder",
    "is_glob",
    "is_url",
    "local_path",
    "may_be_one_file",
    "open_binary",
    "size_of",
]

StrPath = str | os.PathLike[str]
"""A local path, or a URL as text."""

MAGIC = re.compile(r"[*\[]")
"""Matches the characters that make a URL a glob; a ? begins its query."""

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_BLOCK = 1 << 22  # bytes of a request, if a file is read from begin to end


def is_url(path: object) -> TypeGuard[str]:
    """Return whether a path is a URL of a file that is not local.

    Examples
    --------
    >>> is_url("s3://bucket/mic.parquet"), is_url("file:///tmp/mic.parquet"), is_url("mic.parquet")
    (True, False, False)
    """
    if not isinstance(path, str) or _SCHEME.match(path) is None:
        return False
    return path[:7].lower() != "file://"


def local_path(path: StrPath) -> StrPath:
    """Return a path, or that of a URL with the scheme ``file``.

    Examples
    --------
    >>> local_path("file:///tmp/a%20b.parquet"), local_path("mic.parquet")
    ('/tmp/a b.parquet', 'mic.parquet')
    """
    if isinstance(path, str) and path[:7].lower() == "file://":
        return unquote(path[7:].removeprefix("localhost"))
    return path


def identity(path: StrPath) -> str:
    """Return text that is equal for two names of one file."""
    return path if is_url(path) else os.path.realpath(path)


def open_binary(path: StrPath) -> io.BufferedReader:
    """Open a local file, or one behind a URL, to read it from begin to end.

    Raises
    ------
    OSError
        A local file cannot be opened.
    TraceError
        A file behind a URL cannot be opened.
    """
    if is_url(path):
        opened = open_url(path)
        return io.BufferedReader(opened, min(max(opened.size, 1), _BLOCK))
    return open(local_path(path), "rb")


def size_of(path: StrPath) -> int:
    """Return the number of bytes of a local file, or of one behind a URL."""
    if is_url(path):
        return open_url(path).size
    return os.path.getsize(local_path(path))


def is_file(path: StrPath) -> bool:
    """Return whether there is a file of this name: local, or behind a URL."""
    if is_url(path):
        return bool(about(path).is_file)
    return os.path.isfile(local_path(path))


def is_folder(path: StrPath) -> bool:
    """Return whether there is a folder of this name: local, or behind a URL."""
    if is_url(path):
        return path.partition("?")[0].endswith("/") or about(path).type.name == "Directory"
    return os.path.isdir(local_path(path))


def may_be_one_file(url: StrPath) -> bool:
    """Return whether a URL may be that of a file other than Parquet, as far as its name says."""
    name = os.fspath(url).partition("?")[0].lower()
    return not (name.endswith(("/", ".parquet")) or is_glob(name))


def is_glob(url: str) -> bool:
    """Return whether a URL has ``*`` or ``[`` in its path; a ? begins its query."""
    path = url.partition("?")[0].partition("://")[2].partition("/")[2]
    return MAGIC.search(path) is not None
