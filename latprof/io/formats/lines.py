"""Lines of text files, of bounded length."""

from collections.abc import Iterator

from latprof.errors import TraceError
from latprof.io.formats.files import ByteStream

__all__ = ["lines_of"]

_LONGEST = 1 << 24  # bytes


def lines_of(stream: ByteStream) -> Iterator[str]:
    """Yield the lines of a file without their ends; bytes that are not UTF-8 are replaced.

    Raises
    ------
    TraceError
        A line is longer than 16 MB.
    """
    left = b""
    while True:
        data = stream.read(1 << 20)
        lines = (left + data).split(b"\n")
        left = lines.pop() if data else b""
        if len(left) > _LONGEST:
            raise TraceError(f"a line must have at most {_LONGEST:,} bytes, got more")
        for line in lines:
            yield line.decode("utf-8", "replace").rstrip("\r")
        if not data:
            return
