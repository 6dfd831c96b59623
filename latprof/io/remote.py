"""Files behind URLs: S3, Google and Azure storage, and other file systems of pyarrow and fsspec.

Credentials come from the environment, as the tools of each store expect them. Messages leave out
the parts of a URL before an ``@`` and after a ``?``. Files are read in ranges, and each request is
counted.
"""

import contextlib
import io
import mmap
import os
import re
import threading
from collections.abc import Iterator
from functools import lru_cache
from importlib import import_module
from typing import Any, BinaryIO
from urllib.parse import unquote

from latprof.errors import LatprofError, TraceError
from latprof.text import clip, shown_path, without_secrets

__all__ = [
    "REQUESTS",
    "WITH_BUCKETS",
    "RemoteFile",
    "Requests",
    "about",
    "check_url",
    "located",
    "open_url",
    "remote_errors",
    "remove",
    "request",
    "send",
]

_TAIL = 1 << 16  # bytes at the end of a file that are read at once: the footer of most files

WITH_BUCKETS = ("s3", "gs", "gcs")
"""Schemes of URLs that begin with a bucket."""

_SECRETS = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AZURE_STORAGE_KEY")

# patterns of the text of an error, and the remedy
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


# -- requests -----------------------------------------------------------------------------------


class Requests:
    """Counts the requests of this process by file: openings, listings and ranges that were read."""

    def __init__(self) -> None:
        self._made: dict[str, tuple[int, int]] = {}
        self._lock = threading.Lock()

    def add(self, name: str, requests: int = 1, size: int = 0) -> None:
        """Count requests that returned `size` bytes."""
        with self._lock:
            before = self._made.get(name, (0, 0))
            self._made[name] = (before[0] + requests, before[1] + size)

    def take(self) -> dict[str, tuple[int, int]]:
        """Return (requests, bytes) by file since the last call, and begin again."""
        with self._lock:
            made, self._made = self._made, {}
        return made

    def update(self, found: dict[str, tuple[int, int]]) -> None:
        """Add what `take` has returned, also in another process."""
        for name, (requests, size) in found.items():
            self.add(name, requests, size)


REQUESTS = Requests()
"""The requests of this process."""


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


def located(url: str) -> tuple[Any, str]:
    """Return the file system of a URL, and the path in it."""
    head, _, query = url.partition("?")
    scheme, _, rest = head.partition("://")
    host, _, path = rest.partition("/")
    if not host and scheme.lower() in WITH_BUCKETS:
        raise TraceError(
            f"{shown_path(url)}: the URL must have a bucket, got none; use {scheme}://bucket/file"
        )
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
    """Refuse a URL that neither pyarrow nor fsspec can open.

    Raises
    ------
    TraceError
        The scheme is unknown, or its package is not installed.
    """
    with remote_errors(url):
        located(url)


# -- files --------------------------------------------------------------------------------------


class RemoteFile(io.RawIOBase):
    """A file behind a URL that is read in ranges, each with one request that is counted.

    The bytes at the end, which readers ask for in pieces, are read once and kept.

    Parameters
    ----------
    url
        Of the file.
    file
        The opened file of pyarrow.
    """

    def __init__(self, url: str, file: Any) -> None:
        self.url = url
        self.size: int = file.size()
        self._file = file
        self._position = 0
        self._kept = b""  # the last bytes of the file

    def again(self) -> "RemoteFile":
        """Return the same file with a position of its own, for another thread."""
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


@contextlib.contextmanager
def request(url: str) -> Iterator[tuple[Any, str]]:
    """Count a request, and give the store and the path in it; see `remote_errors`."""
    with remote_errors(url):
        system, path = located(url)
        REQUESTS.add(shown_path(url))
        yield system, path


def open_url(url: str) -> RemoteFile:
    """Open a file behind a URL.

    Raises
    ------
    TraceError
        It does not exist, or the store refuses.
    """
    with request(url) as (system, path):
        inner = getattr(getattr(system, "handler", None), "fs", None)
        if inner is None:
            file = system.open_input_file(path)
        else:  # without a cache that reads further than asked
            lib: Any = import_module("pyarrow")
            file = lib.PythonFile(inner.open(path, "rb", cache_type="none"), mode="r")
        return RemoteFile(url, file)


def about(url: str) -> Any:
    """Return what the store says of a URL, as pyarrow's FileInfo.

    Raises
    ------
    TraceError
        The store cannot be reached, or refuses.
    """
    with request(url) as (system, path):
        return system.get_file_info(path)


def send(file: BinaryIO, url: str) -> None:
    """Write all bytes of a local file behind a URL, where they appear together or not at all.

    Raises
    ------
    TraceError
        The store cannot be reached, or refuses.
    """
    size = file.seek(0, os.SEEK_END)
    with request(url) as (system, path):
        # One call: a stream that is closed half-way, as by an interrupt, makes a shorter file.
        stream = system.open_output_stream(path)
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else io.BytesIO() as view:
            stream.write(view if size else b"")
            stream.close()


def remove(url: str) -> None:
    """Remove a file behind a URL.

    Raises
    ------
    TraceError
        It does not exist, or the store refuses.
    """
    with request(url) as (system, path):
        system.delete_file(path)
