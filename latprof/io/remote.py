"""Files behind URLs: S3, Google and Azure storage, and other file systems of pyarrow and fsspec.

A URL names a file, a folder or a glob as a path does: ``s3://bucket/day/``,
``s3://bucket/day/*.parquet``. Credentials come from the environment, as the tools of each store
expect them. No message shows what a URL has before an ``@`` or after a ``?``. Everything is read in
ranges, and each request is counted.
"""

import contextlib
import io
import mmap
import os
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from importlib import import_module
from typing import Any, BinaryIO
from urllib.parse import quote, unquote

from latprof.errors import LatprofError, TraceError
from latprof.text import clip, shown_path, without_secrets

__all__ = [
    "REQUESTS",
    "RemoteFile",
    "Requests",
    "StrPath",
    "check_url",
    "find",
    "identity",
    "is_file",
    "is_folder",
    "is_glob",
    "is_url",
    "local_path",
    "may_be_one_file",
    "open_binary",
    "open_url",
    "remote_errors",
    "send",
    "size_of",
]

StrPath = str | os.PathLike[str]
"""A local path, or a URL as text."""

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_MAGIC = re.compile(r"[*\[]")  # of a glob in a URL, where a ? begins the query
_SAFE = "/=:,+@!$&'()~"  # characters of a name that a URL may contain
_TAIL = 1 << 16  # bytes at the end of a file that are read at once: the footer of most files
_BLOCK = 1 << 22  # bytes of a request, if a file is read from begin to end

_WITH_BUCKETS = ("s3", "gs", "gcs")
_SECRETS = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AZURE_STORAGE_KEY")

# what the text of an error contains, and what to do then
_REMEDIES = (
    (r"^install |unable to load", "install what is missing"),
    (r"unrecognized filesystem|protocol not known", "use a scheme that pyarrow or fsspec knows"),
    (r"no_?such_?bucket|bucket does not exist|bucket .*not found", "check the name of the bucket"),
    (
        r"access_?denied|forbidden|signature|access_?key|unauthorized|credential|\b40[13]\b",
        "check the credentials in the environment",
    ),
    (
        r"network|connect|refused|resolve|timed? ?out|unreachable|service_unavailable",
        "check the address of the store (AWS_ENDPOINT_URL, for example) and the network",
    ),
    (r"not exist|not found|no_?such_?key|no response body", "check the URL"),
)


def is_url(path: object) -> bool:
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
    return path if isinstance(path, str) and is_url(path) else os.path.realpath(path)


# -- requests -----------------------------------------------------------------------------------


@dataclass(slots=True)
class _Made:
    requests: int = 0
    bytes: int = 0


class Requests:
    """Counts the requests of this process by file: openings, listings and ranges that were read."""

    def __init__(self) -> None:
        self._made: dict[str, _Made] = {}
        self._lock = threading.Lock()

    def add(self, name: str, requests: int = 1, size: int = 0) -> None:
        """Count requests that returned `size` bytes."""
        with self._lock:
            made = self._made.setdefault(name, _Made())
            made.requests += requests
            made.bytes += size

    def take(self) -> dict[str, tuple[int, int]]:
        """Return (requests, bytes) by file since the last call, and begin again."""
        with self._lock:
            made, self._made = self._made, {}
        return {name: (each.requests, each.bytes) for name, each in made.items()}

    def update(self, found: dict[str, tuple[int, int]]) -> None:
        """Add what `take` has returned, also in another process."""
        for name, (requests, size) in found.items():
            self.add(name, requests, size)


REQUESTS = Requests()
"""Those of this process."""


# -- errors -------------------------------------------------------------------------------------


@contextlib.contextmanager
def remote_errors(url: str) -> Iterator[None]:
    """Turn the errors of stores, which have many types, into one line without credentials.

    Raises
    ------
    TraceError
        The store cannot be reached, refuses, or does not have the file.
    """
    try:
        yield
    except (LatprofError, MemoryError):
        raise
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        remedy = "pip install 'latprof[remote]'" if package == "fsspec" else "install it"
        raise TraceError(f"{shown_path(url)}: needs the package {package}; {remedy}") from None
    except Exception as error:
        text = _reason(error, url)
        remedy = next(
            (advice for words, advice in _REMEDIES if re.search(words, text, re.IGNORECASE)),
            "check the URL and the credentials in the environment",
        )
        raise TraceError(f"{shown_path(url)}: {text}; {remedy}") from None


def _reason(error: BaseException, url: str) -> str:
    """Return the first line of an error's text without secrets."""
    if isinstance(error, FileNotFoundError):
        return "file not found"
    text = without_secrets(str(error).partition("\n")[0].strip()) or type(error).__name__
    for secret in _secrets(url):
        text = text.replace(secret, "...")
    text = re.sub(r"[;.]? ?Details?: .*| \(Request ID.*|\. If this is happening.*", "", text)
    return clip(text, 240)


def _secrets(url: str) -> set[str]:
    head, _, query = url.partition("?")
    found = {os.environ.get(name, "") for name in _SECRETS}
    if without_secrets(head) != head:
        found.update(re.split("[:@/]", head.partition("://")[2].rpartition("@")[0]))
    for pair in query.split("&"):
        name, _, value = pair.partition("=")
        if name.lower() not in ("endpoint_override", "scheme", "region"):
            found.add(value)
    found.update([unquote(secret) for secret in found])
    return {secret for secret in found if len(secret) > 3}


# -- file systems -------------------------------------------------------------------------------


def _located(url: str) -> tuple[Any, str]:
    """Return the file system of a URL, and the path in it."""
    head, _, query = url.partition("?")
    scheme, _, rest = head.partition("://")
    host, _, path = rest.partition("/")
    if not host and scheme.lower() in _WITH_BUCKETS:
        raise TraceError(f"{shown_path(url)}: the URL must have a bucket: {scheme}://bucket/file")
    found = _file_system(f"{scheme.lower()}://{host}" + (f"?{query}" if query else ""))
    if found is None:
        return _of_fsspec(url)
    system, root = found
    return system, f"{root}/{unquote(path)}".rstrip("/") if path else root


@lru_cache(maxsize=64)
def _file_system(base: str) -> tuple[Any, str] | None:
    """Return pyarrow's file system of a URL without a path, or None if pyarrow has none."""
    fs: Any = import_module("pyarrow.fs")
    lib: Any = import_module("pyarrow")
    try:
        system, root = fs.FileSystem.from_uri(base)
    except lib.ArrowInvalid as error:
        if "nrecognized filesystem" in str(error):
            return None
        raise
    return system, root.rstrip("/")


def _of_fsspec(url: str) -> tuple[Any, str]:
    fs: Any = import_module("pyarrow.fs")
    core: Any = import_module("fsspec.core")
    head, mark, query = url.partition("?")
    if not head.startswith(("http:", "https:")):  # which take a URL as it is
        head = unquote(head)
    system, path = core.url_to_fs(head + mark + query)
    return fs.PyFileSystem(fs.FSSpecHandler(system)), path


def check_url(url: str) -> None:
    """Refuse a URL of which the file system is unknown, or lacks a package.

    Raises
    ------
    TraceError
        It is.
    """
    with remote_errors(url):
        _located(url)


# -- files --------------------------------------------------------------------------------------


class RemoteFile(io.RawIOBase):
    """A file of which ranges are read, each with one request that is counted.

    The bytes at the end, which readers ask for in pieces, are read once and kept.

    Parameters
    ----------
    url
        Of the file.
    file
        The opened file.
    """

    def __init__(self, url: str, file: Any) -> None:
        self.url = url
        self.size: int = file.size()
        self._file = file
        self._position = 0
        self._kept = b""  # the last bytes of the file

    def again(self) -> "RemoteFile":
        """Return another position in the file, for another thread."""
        other = RemoteFile(self.url, self._file)
        other._kept = self._kept
        return other

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the position; no request is made."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        self._position = max(base + offset, 0)
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        """Return the next bytes."""
        left = max(self.size - self._position, 0)
        size = left if size is None or size < 0 else min(size, left)
        data = self._range(self._position, size) if size else b""
        self._position += len(data)
        return data

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer with the next bytes; return how many."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _range(self, start: int, size: int) -> bytes:
        kept_from = self.size - len(self._kept)
        if start + size == self.size and start < kept_from:
            kept_from = min(start, max(self.size - _TAIL, 0))
            self._kept = self._request(kept_from, self.size - kept_from)
        if start >= kept_from:
            return self._kept[start - kept_from : start - kept_from + size]
        return self._request(start, size)

    def _request(self, start: int, size: int) -> bytes:
        with remote_errors(self.url):
            data: bytes = self._file.read_at(size, start)
        REQUESTS.add(shown_path(self.url), size=len(data))
        return data


def open_url(url: str) -> RemoteFile:
    """Open a file behind a URL.

    Raises
    ------
    TraceError
        It does not exist, or the store refuses.
    """
    with remote_errors(url):
        system, path = _located(url)
        inner = getattr(getattr(system, "handler", None), "fs", None)
        if inner is None:
            file = system.open_input_file(path)
        else:  # without a cache that reads further than asked
            lib: Any = import_module("pyarrow")
            file = lib.PythonFile(inner.open(path, "rb", cache_type="none"), mode="r")
        REQUESTS.add(shown_path(url))
        return RemoteFile(url, file)


def open_binary(path: StrPath) -> io.BufferedReader:
    """Open a local file, or one behind a URL, to read it from begin to end.

    Raises
    ------
    OSError
        The local file cannot be opened.
    TraceError
        That behind the URL cannot.
    """
    if isinstance(path, str) and is_url(path):
        opened = open_url(path)
        return io.BufferedReader(opened, min(max(opened.size, 1), _BLOCK))
    return open(local_path(path), "rb")


def size_of(path: StrPath) -> int:
    """Return the number of bytes of a local file, or of one behind a URL."""
    if isinstance(path, str) and is_url(path):
        return open_url(path).size
    return os.path.getsize(local_path(path))


def is_file(path: StrPath) -> bool:
    """Return whether there is a file of this name: local, or behind a URL."""
    if isinstance(path, str) and is_url(path):
        return bool(_about(path).is_file)
    return os.path.isfile(local_path(path))


def is_folder(path: StrPath) -> bool:
    """Return whether there is a folder of this name: local, or behind a URL."""
    if isinstance(path, str) and is_url(path):
        return path.partition("?")[0].endswith("/") or _about(path).type.name == "Directory"
    return os.path.isdir(local_path(path))


def may_be_one_file(url: StrPath) -> bool:
    """Return whether a URL may be that of a file other than Parquet, as far as its name says."""
    name = os.fspath(url).partition("?")[0].lower()
    return not (name.endswith(("/", ".parquet")) or is_glob(name))


def is_glob(url: str) -> bool:
    """Return whether a URL has ``*`` or ``[`` in its path; a ? begins its query."""
    path = url.partition("?")[0].partition("://")[2].partition("/")[2]
    return _MAGIC.search(path) is not None


def _about(url: str) -> Any:
    with remote_errors(url):
        system, path = _located(url)
        REQUESTS.add(shown_path(url))
        return system.get_file_info(path)


def find(url: str, *, every: bool = False) -> list[str]:
    """Return the URLs of the files that a URL, a folder or a glob means, sorted by name.

    Parameters
    ----------
    url
        In its path ``*``, ``[...]`` and, for any number of folders, ``**`` are those of a glob.
    every
        Of a folder, return all files other than hidden ones and those named ``*.pipeline.json``.

    Raises
    ------
    TraceError
        There is none, or the store cannot be reached.
    """
    head, mark, query = url.partition("?")
    scheme, _, rest = head.partition("://")
    host, *names = rest.split("/")
    patterns = ["**", "*" if every else "*.parquet"]
    matching = is_glob(url)
    if matching:
        first = next(i for i, name in enumerate(names) if _MAGIC.search(name))
        names, patterns = names[:first], names[first:]
    folder = f"{scheme}://" + "/".join([host, *names]).rstrip("/")
    if not matching and not head.endswith("/"):
        about = _about(url)
        if about.is_file:
            return [url]
        if about.type.name == "NotFound":
            if scheme.lower() in _WITH_BUCKETS:
                _check_bucket(f"{scheme}://{host}{mark}{query}")
            raise TraceError(
                f"{shown_path(url)}: file not found; pass the URL of a file, a folder or a glob"
            )
    with remote_errors(url):
        system, root = _located(folder + mark + query)
        fs: Any = import_module("pyarrow.fs")
        deep = len(patterns) > 1
        listed = system.get_file_info(
            fs.FileSelector(root, recursive=deep, allow_not_found=matching)
        )
    REQUESTS.add(shown_path(url))
    found = []
    for info in listed:
        parts = info.path[len(root) :].strip("/").split("/")
        if info.is_file and _matches(parts, patterns) and not (every and _is_beside(parts[-1])):
            found.append(parts)
    if not found:
        what = "no file matches" if matching else f"the folder contains no {patterns[-1]} file"
        raise TraceError(f"{shown_path(url)}: {what}; pass another one")
    # as paths are sorted, folder by folder
    return [f"{folder}/{quote('/'.join(parts), _SAFE)}{mark}{query}" for parts in sorted(found)]


def _check_bucket(url: str) -> None:
    with remote_errors(url):
        system, path = _located(url)
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


def _is_beside(name: str) -> bool:
    return name.startswith(".") or name.endswith(".pipeline.json")


def send(file: BinaryIO, url: str) -> None:
    """Write all bytes of a local file behind a URL, where they appear together or not at all.

    Raises
    ------
    TraceError
        The store cannot be reached, or refuses.
    """
    size = file.seek(0, os.SEEK_END)
    with remote_errors(url):
        system, path = _located(url)
        # One call: a stream that is closed half-way, as by an interrupt, makes a shorter file.
        stream = system.open_output_stream(path)
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else io.BytesIO() as view:
            stream.write(view if size else b"")
            stream.close()
        REQUESTS.add(shown_path(url))
