"""Reads JSON value by value, so that a file may be larger than the memory.

JSON lines, arrays, objects with a long array, and values one after the other are all read the
same way. Numbers with decimals are returned as text, so that no digit is lost. A value may be of
any shape: `inside`, `list_of`, `text_of` and `integer_of` take what is there.
"""

import codecs
import contextlib
import json
import re
from collections.abc import Callable, Collection, Iterator
from typing import Any

from latprof.errors import TraceError
from latprof.io.formats.files import ByteStream, lines_of, opened
from latprof.io.paths import StrPath
from latprof.text import counted

__all__ = [
    "LARGEST_VALUE",
    "JsonValues",
    "inside",
    "integer_of",
    "json_lines_of",
    "list_of",
    "text_of",
]

LARGEST_VALUE = 1 << 25
"""Characters of one value that is held in memory."""

_CHUNK = 1 << 18  # bytes read at a time
_LONGEST_TEXT = 200  # characters of a name, and of a line that is not JSON

# numbers with decimals are text; those that JSON does not have (NaN) are missing
_NUMBERS: dict[str, Any] = {"parse_float": str, "parse_constant": lambda name: None}
_SPACE = re.compile(r"[\s,\x00]*")  # values of a list may be separated by commas or lines


def inside(value: Any, *keys: str) -> Any:
    """Return the value below keys of nested objects, or None if one of them is not there.

    Examples
    --------
    >>> inside({"a": {"b": 7}}, "a", "b"), inside({"a": [7]}, "a", "b"), inside(None, "a")
    (7, None, None)
    """
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def list_of(value: Any) -> list[Any]:
    """Return a list, or an empty one for another value."""
    return value if isinstance(value, list) else []


def text_of(value: Any) -> str:
    """Return a value as text, shortened; None is ""."""
    if value is None:
        return ""
    return (value if isinstance(value, str) else str(value))[:_LONGEST_TEXT]


def integer_of(value: Any) -> int | None:
    """Return an integer that is written as a number or as text, or None for another value."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, str) and len(value) < 30:
        with contextlib.suppress(ValueError):
            return int(value)
    return None


def json_lines_of(path: StrPath) -> Iterator[tuple[int, Any]]:
    """Yield number and value of each line that is not empty, or the text if it is not JSON."""
    for number, line in enumerate(lines_of(path), 1):
        if line.strip():
            try:
                yield number, json.loads(line, **_NUMBERS)
            except (ValueError, RecursionError):
                yield number, line[:_LONGEST_TEXT]


class JsonValues:
    """The values of a JSON text.

    Parameters
    ----------
    path
        Of the file, in UTF-8; it is open while the values are read.
    keys
        Keys of an outermost object. Elements of the arrays under them are returned one by one.
    may_be_cut
        Whether the text may end within an array, as files of programs that were killed do.

    Attributes
    ----------
    cut
        Whether the text ended within an array or a value, once all values were read.
    values
        How many values were returned.
    """

    def __init__(
        self, path: StrPath, keys: Collection[str] = (), *, may_be_cut: bool = False
    ) -> None:
        self._path, self._keys, self._may_be_cut = path, frozenset(keys), may_be_cut
        self._decoder = json.JSONDecoder(**_NUMBERS, strict=False)
        self._text = codecs.getincrementaldecoder("utf-8-sig")(errors="replace")
        self._buffer, self._place, self._ended = "", 0, False
        self._stream: ByteStream
        self.cut = False
        self.values = 0

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        """Yield a key and a value: "" for values outside of an object that has one of the keys.

        Raises
        ------
        TraceError
            The text is not JSON, is cut, or contains a value that is too large or too deep.
        """
        with opened(self._path) as self._stream:
            while self._peek():
                first = self._next()
                if first == "[":
                    self._place += 1
                    yield from self._elements("")
                elif first == "{" and self._keys:
                    self._place += 1
                    yield from self._members()
                else:
                    yield self._counted("", self._value())

    def _counted(self, key: str, value: Any) -> tuple[str, Any]:
        self.values += 1
        return key, value

    def _elements(self, key: str) -> Iterator[tuple[str, Any]]:
        """Yield the elements of an array up to its end."""
        return self._up_to("]", lambda: iter([self._counted(key, self._value())]))

    def _members(self) -> Iterator[tuple[str, Any]]:
        """Yield the values of an object up to its end; of known keys, element by element."""
        return self._up_to("}", self._member)

    def _member(self) -> Iterator[tuple[str, Any]]:
        key = self._value()
        if not isinstance(key, str) or not self._peek() or self._next() != ":":
            raise TraceError(self._invalid())
        self._place += 1
        if not self._peek():
            raise _CutError
        if key in self._keys and self._next() == "[":
            self._place += 1
            yield from self._elements(key)
        else:
            yield self._counted(key, self._value())

    def _up_to(
        self, end: str, inside: Callable[[], Iterator[tuple[str, Any]]]
    ) -> Iterator[tuple[str, Any]]:
        """Yield what is inside an array or an object up to its end, or the end of the file."""
        while self._peek():
            if self._next() == end:
                self._place += 1
                return
            try:
                yield from inside()
            except _CutError:
                break
        self._end_early()

    def _end_early(self) -> None:
        self.cut = self._ended = True
        self._buffer, self._place = "", 0  # drops the part of the last value
        if not self._may_be_cut:
            raise TraceError(
                f"the file ends in the middle, after {counted(self.values, 'whole value')}; copy "
                "or record it again"
            )

    def _next(self) -> str:
        return self._buffer[self._place]

    def _peek(self) -> bool:
        """Go to the next character that is not a space or a comma; return whether there is one."""
        skipped = 0
        while True:
            begin = self._place
            self._place = _SPACE.match(self._buffer, begin).end()  # type: ignore[union-attr]
            skipped += self._place - begin
            if self._place < len(self._buffer):
                return True
            if skipped > LARGEST_VALUE:
                raise TraceError(self._invalid())
            if not self._more(_CHUNK):
                return False

    def _more(self, size: int) -> bool:
        """Read at least `size` more bytes if there are; return whether there were any."""
        if self._ended:
            return False
        parts = [self._buffer[self._place :]]
        self._place = 0
        while size > 0 and not self._ended:
            data = self._stream.read(_CHUNK)
            self._ended = not data
            parts.append(self._text.decode(data, final=self._ended))
            size -= len(data)
        self._buffer = "".join(parts)
        return len(self._buffer) > len(parts[0])

    def _value(self) -> Any:
        """Return the value that begins at the current place."""
        while True:
            try:
                value, end = self._decoder.raw_decode(self._buffer, self._place)
            except json.JSONDecodeError as error:
                at_end = error.pos >= len(self._buffer) - 16 or error.msg.startswith("Unterm")
                if not at_end:
                    raise TraceError(self._invalid()) from None
                if self._ended:
                    # text that is not JSON from the first character on is not merely cut
                    if error.pos == self._place and not error.msg.startswith("Unterm"):
                        raise TraceError(self._invalid()) from None
                    raise _CutError from None
            except RecursionError:
                raise TraceError(
                    "values of JSON must be nested less deeply to be read, got a value after "
                    f"{counted(self.values, 'whole value')} that is not; write flatter objects"
                ) from None
            except ValueError:  # an integer of thousands of digits
                raise TraceError(self._invalid()) from None
            else:
                if end < len(self._buffer) or self._ended:  # a number may go on in the next part
                    self._place = end
                    return value
            held = len(self._buffer) - self._place
            if held > LARGEST_VALUE:
                raise TraceError(
                    f"one value of the file has more than {LARGEST_VALUE:,} characters; write one "
                    "value for each frame or span"
                )
            self._more(max(held, _CHUNK))

    def _invalid(self) -> str:
        return (
            f"the text must be JSON, which it is not after {counted(self.values, 'whole value')}; "
            "write it again, or take an intact copy"
        )


class _CutError(TraceError):
    """The text ends within a value."""

    def __init__(self) -> None:
        super().__init__("the file ends in the middle of a value; copy or record it again")
